//! Where a wire and its session meet: samples in, frames out, commands in, events out. All of it bounded.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use rtrb::{Consumer, Producer, RingBuffer};
use tokio::sync::mpsc;

use super::Place;
use super::clock::Clock;
use crate::audio::SampleRate;
use crate::call::{Command, Event};
use crate::id::{ResponseId, SessionId};
use crate::time::{Samples, Span, Time};

/// Milliseconds of audio in a frame of the playout.
pub const FRAME_MS: u32 = 20;
/// Samples of such a frame at 48 kHz, the highest rate.
const LARGEST_FRAME: usize = 960;
/// Samples that may wait between a wire and its session: half a second at the session's rate. The wire waits for room, so
/// nothing is lost where more comes at once; each second of it would cost every session 32 kB.
pub(super) const INPUT_CAPACITY: usize = 8_000;
/// Frames that may wait between a session and its wire beyond those that it gives ahead of their time: a tenth of a second and some.
const OUTPUT_CAPACITY: usize = 8;
/// Frames that may be given ahead of their time: two seconds.
const MOST_AHEAD: usize = 100;
/// Stretches of echo that may wait with it. Where one finds no room, it is judged like all else.
const ECHO_CAPACITY: usize = 64;
/// Commands that may wait.
const COMMAND_CAPACITY: usize = 64;
/// Events that may wait. A client that lets more pile up takes nothing any more.
const EVENT_CAPACITY: usize = 512;

/// How a wire plays what it is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WireProfile {
    /// The rate of the frames that it wants.
    pub output_rate: SampleRate,
    /// How far ahead of its time a frame is given to the wire: nothing for a wire that is played as it comes, something for a peer that queues.
    pub lead: Duration,
    /// Whether frames of silence are sent, too, each when it is due: a telephone line is never without a signal.
    pub continuous: bool,
}

impl WireProfile {
    /// A wire that is played as it comes.
    #[must_use]
    pub const fn paced(output_rate: SampleRate) -> Self {
        Self {
            output_rate,
            lead: Duration::ZERO,
            continuous: false,
        }
    }

    /// A telephone line: it is never silent, and a reply's frames go `lead` ahead of their time.
    #[must_use]
    pub const fn telephone(output_rate: SampleRate, lead: Duration) -> Self {
        Self {
            output_rate,
            lead,
            continuous: true,
        }
    }
}

/// One frame of a reply: 20 ms of 16-bit PCM, mono, at the wire's rate. The last of a response is padded with silence.
#[derive(Clone, Debug)]
pub struct OutFrame {
    /// Whose audio it is; nobody's on a wire that is never silent.
    pub response: Option<ResponseId>,
    /// When it was due.
    pub due: Time,
    /// Nothing was sent in the 20 ms before it.
    pub starts_talkspurt: bool,
    epoch: u32,
    length: u16,
    pcm: [i16; LARGEST_FRAME],
}

impl OutFrame {
    pub(super) fn new(
        response: Option<ResponseId>,
        due: Time,
        starts_talkspurt: bool,
        epoch: u32,
        samples: usize,
    ) -> Self {
        let length = samples.min(LARGEST_FRAME);
        Self {
            response,
            due,
            starts_talkspurt,
            epoch,
            length: u16::try_from(length).unwrap_or(u16::MAX),
            pcm: [0; LARGEST_FRAME],
        }
    }

    /// Its samples, to be changed by a wire: comfort noise in place of silence.
    pub fn pcm_mut(&mut self) -> &mut [i16] {
        &mut self.pcm[..usize::from(self.length)]
    }

    /// Its samples.
    #[must_use]
    pub fn pcm(&self) -> &[i16] {
        &self.pcm[..usize::from(self.length)]
    }
}

/// What both sides see.
#[derive(Debug, Default)]
struct Shared {
    driver: AtomicWaker,
    input_space: AtomicWaker,
    output_ready: AtomicWaker,
    /// Frames of an older epoch are not played any more.
    epoch: AtomicU32,
    /// Microseconds from when a frame is due until it is heard.
    delay: AtomicU32,
    frames_dropped: AtomicU64,
    driver_gone: AtomicBool,
}

/// The call is over: its session has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the call is over")]
pub struct CallOver;

/// Why a command was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandRefused {
    /// Too many wait already.
    #[error("too many commands are waiting")]
    Full,
    /// See [`CallOver`].
    #[error("the call is over")]
    Over,
}

/// A wire's side of a call. Its parts can be taken by different tasks. When [`Commands`] and its clones are dropped, the
/// session knows that the client is gone.
#[derive(Debug)]
pub struct Call {
    /// The session's id.
    pub id: SessionId,
    /// Audio of the client.
    pub audio: AudioSender,
    /// Its commands.
    pub commands: Commands,
    /// What it is told, in order. Ends after [`Event::Closed`].
    pub events: mpsc::Receiver<Event>,
    /// What it hears.
    pub frames: FrameReceiver,
    /// The session's clock.
    pub clock: Clock,
}

/// Hands a client's audio to its session.
#[derive(Debug)]
pub struct AudioSender {
    ring: Producer<i16>,
    echoes: Producer<Span>,
    /// Samples handed in so far.
    position: Samples,
    shared: Arc<Shared>,
}

impl AudioSender {
    /// Hands in as much of `pcm` (16 kHz, mono) as there is room for, and answers how many samples that was.
    pub fn push(&mut self, pcm: &[i16]) -> usize {
        let (taken, _) = self.ring.push_partial_slice(pcm);
        let count = taken.len();
        if count > 0 {
            self.position += Samples::new(count as u64);
            self.shared.driver.wake();
        }
        count
    }

    /// The next so many samples that are handed in hold our own voice and nobody else's: they are no speech of the client.
    pub fn mark_echo(&mut self, samples: usize) {
        let end = self.position + Samples::new(samples as u64);
        // Without room they are judged by how they sound.
        let _ = self.echoes.push(Span {
            start: self.position,
            end,
        });
    }

    /// Hands in as much of `pcm` as there is room for; where there is none, the task is woken when there is.
    ///
    /// # Errors
    /// [`CallOver`] when the session has ended.
    pub fn poll_push(&mut self, context: &mut Context<'_>, pcm: &[i16]) -> Poll<Result<usize, CallOver>> {
        self.shared.input_space.register(context.waker());
        if self.ring.is_abandoned() || self.shared.driver_gone.load(Ordering::Acquire) {
            return Poll::Ready(Err(CallOver));
        }
        match self.push(pcm) {
            0 if !pcm.is_empty() => Poll::Pending,
            taken => Poll::Ready(Ok(taken)),
        }
    }

    /// Hands in all of `pcm`, waiting for room where there is none.
    ///
    /// # Errors
    /// [`CallOver`] when the session has ended.
    pub async fn send(&mut self, pcm: &[i16]) -> Result<(), CallOver> {
        let mut rest = pcm;
        poll_fn(|context| {
            while !rest.is_empty() {
                let taken = std::task::ready!(self.poll_push(context, rest))?;
                rest = &rest[taken..];
            }
            Poll::Ready(Ok(()))
        })
        .await
    }
}

/// Hands a client's commands to its session.
#[derive(Clone, Debug)]
pub struct Commands(mpsc::Sender<Command>);

impl Commands {
    /// Hands in `command`, if there is room.
    ///
    /// # Errors
    /// See [`CommandRefused`].
    pub fn try_send(&self, command: Command) -> Result<(), CommandRefused> {
        self.0.try_send(command).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => CommandRefused::Full,
            mpsc::error::TrySendError::Closed(_) => CommandRefused::Over,
        })
    }

    /// The same, for somebody who doesn't keep the session: it ends when the wire lets go, whoever holds this.
    #[must_use]
    pub fn downgrade(&self) -> WeakCommands {
        WeakCommands(self.0.downgrade())
    }

    /// Hands in `command`, waiting for room.
    ///
    /// # Errors
    /// [`CallOver`] when the session has ended.
    pub async fn send(&self, command: Command) -> Result<(), CallOver> {
        self.0.send(command).await.map_err(|_| CallOver)
    }
}

/// See [`Commands::downgrade`].
#[derive(Clone, Debug)]
pub struct WeakCommands(mpsc::WeakSender<Command>);

impl WeakCommands {
    /// See [`Commands::try_send`].
    ///
    /// # Errors
    /// See [`CommandRefused`].
    pub fn try_send(&self, command: Command) -> Result<(), CommandRefused> {
        let sender = self.0.upgrade().ok_or(CommandRefused::Over)?;
        Commands(sender).try_send(command)
    }
}

/// See [`FrameReceiver::poll_played`].
#[derive(Clone, Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "it is handed on at once, and a box would be an allocation for each frame"
)]
pub enum Played {
    /// Send this frame.
    Frame(OutFrame),
    /// A reply was stopped: the peer is to play nothing more of it.
    Flush,
}

/// Takes a session's frames, each at the moment it is due. It holds the session's place as well: until the wire lets go
/// of this, a session that is over still counts, so that an engine that goes away doesn't cut its last words off.
#[derive(Debug)]
pub struct FrameReceiver {
    ring: Consumer<OutFrame>,
    shared: Arc<Shared>,
    /// Up to here the wire knows that frames are not to be played any more.
    flushed: u32,
    /// A frame that is played after the flush.
    held: Option<Box<OutFrame>>,
    _place: Arc<Place>,
}

impl FrameReceiver {
    /// The next frame; `None` when the session has ended.
    pub async fn recv(&mut self) -> Option<OutFrame> {
        poll_fn(|context| self.poll_recv(context)).await
    }

    /// See [`FrameReceiver::recv`].
    pub fn poll_recv(&mut self, context: &mut Context<'_>) -> Poll<Option<OutFrame>> {
        self.shared.output_ready.register(context.waker());
        let over = self.shared.driver_gone.load(Ordering::Acquire);
        while let Ok(frame) = self.ring.pop() {
            if frame.epoch == self.shared.epoch.load(Ordering::Acquire) {
                return Poll::Ready(Some(frame));
            }
        }
        if over { Poll::Ready(None) } else { Poll::Pending }
    }

    /// The next thing to do for a wire whose peer queues: a frame, or the word that what the peer has of a reply is to be flushed, which
    /// comes before the frames of what follows. `None` when the session has ended.
    pub fn poll_played(&mut self, context: &mut Context<'_>) -> Poll<Option<Played>> {
        let next = match self.held.take() {
            Some(frame) => Poll::Ready(Some(*frame)),
            None => self.poll_recv(context),
        };
        let epoch = self.shared.epoch.load(Ordering::Acquire);
        if std::mem::replace(&mut self.flushed, epoch) != epoch {
            if let Poll::Ready(Some(frame)) = next {
                self.held = Some(frame).filter(|frame| frame.epoch == epoch).map(Box::new);
            }
            return Poll::Ready(Some(Played::Flush));
        }
        next.map(|frame| frame.map(Played::Frame))
    }

    /// The peer was heard to play what it was sent so much later than it was due; what was heard of a reply is reckoned with that.
    pub fn note_delay(&self, delay: Duration) {
        let micros = u32::try_from(delay.as_micros()).unwrap_or(u32::MAX);
        self.shared.delay.store(micros, Ordering::Relaxed);
    }

    /// Frames that found no room, because the wire did not take them in time.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.shared.frames_dropped.load(Ordering::Relaxed)
    }
}

/// The session's side.
#[derive(Debug)]
pub(super) struct Port {
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) events: mpsc::Sender<Event>,
    audio: Consumer<i16>,
    echoes: Consumer<Span>,
    frames: Producer<OutFrame>,
    shared: Arc<Shared>,
}

impl Port {
    /// Asks to be woken when the client's audio comes.
    pub(super) fn register(&self, context: &Context<'_>) {
        self.shared.driver.register(context.waker());
    }

    /// Takes up to `limit` samples of the client's audio into `out`, which is emptied first.
    pub(super) fn take_audio(&mut self, limit: usize, out: &mut Vec<i16>) {
        out.clear();
        let count = self.audio.slots().min(limit);
        if let Ok(chunk) = self.audio.read_chunk(count)
            && count > 0
        {
            let (front, back) = chunk.as_slices();
            out.extend_from_slice(front);
            out.extend_from_slice(back);
            chunk.commit_all();
            self.shared.input_space.wake();
        }
    }

    /// The next stretch that holds our own voice and nobody else's, if it begins before `end` on the clock of what was taken.
    pub(super) fn take_echo(&mut self, end: Samples) -> Option<Span> {
        let begins = |span: &Span| span.start < end;
        if self.echoes.peek().is_ok_and(begins) {
            self.echoes.pop().ok()
        } else {
            None
        }
    }

    /// The epoch that frames are stamped with.
    pub(super) fn epoch(&self) -> u32 {
        self.shared.epoch.load(Ordering::Relaxed)
    }

    /// Hands a frame to the wire. Where there is no room it is dropped and counted; the answer tells.
    pub(super) fn send_frame(&mut self, frame: OutFrame) -> bool {
        let sent = self.frames.push(frame).is_ok();
        if !sent {
            self.shared.frames_dropped.fetch_add(1, Ordering::Relaxed);
        }
        self.shared.output_ready.wake();
        sent
    }

    /// Frames that the wire has not taken yet are not to be played.
    pub(super) fn flush(&self) {
        self.shared.epoch.fetch_add(1, Ordering::AcqRel);
        self.shared.output_ready.wake();
    }

    /// How much later than it is due a frame is heard, as far as the wire knows.
    pub(super) fn delay(&self) -> Duration {
        Duration::from_micros(self.shared.delay.load(Ordering::Relaxed).into())
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.shared.driver_gone.store(true, Ordering::Release);
        self.shared.input_space.wake();
        self.shared.output_ready.wake();
    }
}

/// Both sides of a new call.
pub(super) fn connect(id: SessionId, clock: Clock, place: Arc<Place>, lead: Duration) -> (Call, Port) {
    let shared = Arc::new(Shared::default());
    let (audio_in, audio_out) = RingBuffer::new(INPUT_CAPACITY);
    let (echoes_in, echoes_out) = RingBuffer::new(ECHO_CAPACITY);
    // What goes ahead of its time leaves at once when a reply begins.
    let ahead =
        usize::try_from(lead.as_millis() / u128::from(FRAME_MS)).map_or(MOST_AHEAD, |ahead| ahead.min(MOST_AHEAD));
    let (frames_in, frames_out) = RingBuffer::new(OUTPUT_CAPACITY + ahead);
    let (commands_in, commands_out) = mpsc::channel(COMMAND_CAPACITY);
    let (events_in, events_out) = mpsc::channel(EVENT_CAPACITY);
    let call = Call {
        id,
        audio: AudioSender {
            ring: audio_in,
            echoes: echoes_in,
            position: Samples::ZERO,
            shared: Arc::clone(&shared),
        },
        commands: Commands(commands_in),
        events: events_out,
        frames: FrameReceiver {
            ring: frames_out,
            shared: Arc::clone(&shared),
            flushed: 0,
            held: None,
            _place: place,
        },
        clock,
    };
    let port = Port {
        commands: commands_out,
        events: events_in,
        audio: audio_out,
        echoes: echoes_out,
        frames: frames_in,
        shared,
    };
    (call, port)
}
