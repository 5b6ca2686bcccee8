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
use crate::time::Time;

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
}

impl WireProfile {
    /// A wire that is played as it comes.
    #[must_use]
    pub const fn paced(output_rate: SampleRate) -> Self {
        Self {
            output_rate,
            lead: Duration::ZERO,
        }
    }
}

/// One frame of a reply: 20 ms of 16-bit PCM, mono, at the wire's rate. The last of a response is padded with silence.
#[derive(Clone, Debug)]
pub struct OutFrame {
    /// Whose audio it is.
    pub response: ResponseId,
    /// When it was due.
    pub due: Time,
    /// Nothing was sent in the 20 ms before it.
    pub starts_talkspurt: bool,
    epoch: u32,
    length: u16,
    pcm: [i16; LARGEST_FRAME],
}

impl OutFrame {
    pub(super) fn new(response: ResponseId, due: Time, starts_talkspurt: bool, epoch: u32, samples: usize) -> Self {
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

    /// Its samples.
    #[must_use]
    pub fn pcm(&self) -> &[i16] {
        &self.pcm[..usize::from(self.length)]
    }

    pub(super) fn pcm_mut(&mut self) -> &mut [i16] {
        &mut self.pcm[..usize::from(self.length)]
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
    shared: Arc<Shared>,
}

impl AudioSender {
    /// Hands in as much of `pcm` (16 kHz, mono) as there is room for, and answers how many samples that was.
    pub fn push(&mut self, pcm: &[i16]) -> usize {
        let (taken, _) = self.ring.push_partial_slice(pcm);
        if !taken.is_empty() {
            self.shared.driver.wake();
        }
        taken.len()
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

    /// Hands in `command`, waiting for room.
    ///
    /// # Errors
    /// [`CallOver`] when the session has ended.
    pub async fn send(&self, command: Command) -> Result<(), CallOver> {
        self.0.send(command).await.map_err(|_| CallOver)
    }
}

/// Takes a session's frames, each at the moment it is due. It holds the session's place as well: until the wire lets go
/// of this, a session that is over still counts, so that an engine that goes away doesn't cut its last words off.
#[derive(Debug)]
pub struct FrameReceiver {
    ring: Consumer<OutFrame>,
    shared: Arc<Shared>,
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
            shared: Arc::clone(&shared),
        },
        commands: Commands(commands_in),
        events: events_out,
        frames: FrameReceiver {
            ring: frames_out,
            shared: Arc::clone(&shared),
            _place: place,
        },
        clock,
    };
    let port = Port {
        commands: commands_out,
        events: events_in,
        audio: audio_out,
        frames: frames_in,
        shared,
    };
    (call, port)
}
