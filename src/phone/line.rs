//! One telephone call, as its wire sees it.

use std::future::{Future as _, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Sleep;

use super::board::LiveCall;
use super::control::{Control, HANG_UP, Notice, TRANSFER};
use super::facts::Facts;
use super::hearing::Hearing;
use super::quality::{self, Quality, Sent};
use super::{Carrier, Phones};
use crate::audio::{ComfortNoise, StreamQuality};
use crate::call::{CloseReason, Command, Digit, Event, ResponseStatus, Say, ToolCall, ToolOutput};
use crate::engine::{AudioSender, Call, Clock, CommandRefused, Commands, FrameReceiver, OutFrame, Played};
use crate::id::{ResponseId, SessionId};
use crate::pii::Pii;
use crate::time::Time;

/// Between two updates of what operators see.
const UPDATE: Duration = Duration::from_secs(1);
/// Between the last word and the end of a call: what a phone holds back for the jitter of its network is still to be heard.
const LAST_WORDS: Duration = Duration::from_millis(300);
/// The level of comfort noise: RFC 3389 §3 has it in dBov; this is a quiet office.
const COMFORT_DBOV: f32 = -60.0;
/// So many replies in a row may fail before the call is ended.
const MOST_FAILURES: u32 = 3;
/// How long a transfer waits for the end of the reply in which it is wanted.
const LAST_SENTENCE: Duration = Duration::from_secs(5);

/// What a wire is to do.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "it is handed on at once, and a box would be an allocation for each frame"
)]
pub enum Happening {
    /// Send this frame.
    Frame(OutFrame),
    /// What the peer holds of the reply is not to be heard any more.
    Flush,
    /// The call is over: hang up.
    Over(CloseReason),
}

/// Why the line is about to be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leaving {
    /// When the reply is over.
    AfterReply,
    /// At this instant.
    At(Time),
}

/// A tool that takes the caller away, until he has heard what is being said.
#[derive(Debug)]
struct Held {
    call: ToolCall,
    /// Then at the latest; without a time, when the reply is over.
    at: Option<Time>,
}

/// See the [module](self). Dropping it ends the call.
#[derive(Debug)]
pub struct Line {
    phones: Phones,
    wire: &'static str,
    session: SessionId,
    clock: Clock,
    audio: AudioSender,
    commands: Commands,
    events: mpsc::Receiver<Event>,
    frames: FrameReceiver,
    hearing: Box<Hearing>,
    comfort: Option<ComfortNoise>,
    /// What a wire with a clock of its own has counted.
    counted: Option<StreamQuality>,
    sent: Sent,
    control: Option<Control>,
    /// There is no language model: the caller is told so, and that is all.
    alone: bool,
    leaving: Option<Leaving>,
    held: Option<Held>,
    failures: u32,
    live: Option<ResponseId>,
    update_at: Time,
    timer: Pin<Box<Sleep>>,
    over: Option<CloseReason>,
}

impl Line {
    pub(super) fn begin(
        phones: Phones,
        carrier: Carrier,
        call: Call,
        facts: Facts,
        control: Option<Control>,
        alone: bool,
    ) -> Self {
        let Call {
            id,
            audio,
            commands,
            events,
            frames,
            clock,
        } = call;
        tracing::info!(session = %id, wire = carrier.wire, "call answered");
        phones.inner.board.add(LiveCall {
            session: id,
            wire: carrier.wire,
            facts,
            seconds: 0,
            progress: Vec::new(),
            quality: Quality::default(),
        });
        if let Some(control) = &control {
            // Whoever carries out wishes has just been there; a call without him goes on.
            let _ = control.try_send(Notice::Connected(id, commands.downgrade()));
        }
        let inner = Arc::clone(&phones.inner);
        let options = &inner.options;
        let line = Self {
            wire: carrier.wire,
            session: id,
            clock,
            audio,
            commands,
            events,
            frames,
            hearing: Box::new(Hearing::new(carrier.rate, options.echo_guard, options.patience)),
            comfort: options
                .comfort_noise
                .then(|| ComfortNoise::new(carrier.rate, COMFORT_DBOV, id.bits())),
            counted: None,
            sent: Sent::default(),
            control,
            alone,
            leaving: None,
            held: None,
            failures: 0,
            live: None,
            update_at: Time::ZERO + UPDATE,
            timer: Box::pin(tokio::time::sleep_until(clock.instant(Time::ZERO + UPDATE))),
            over: None,
            phones,
        };
        let words = if alone { &options.without_llm } else { &options.greeting };
        line.say(words, !alone);
        line
    }

    /// Its session.
    #[must_use]
    pub const fn session(&self) -> SessionId {
        self.session
    }

    /// Its clock: deadlines and arrivals count from the beginning of the session.
    #[must_use]
    pub const fn clock(&self) -> Clock {
        self.clock
    }

    /// A frame came just now: mono PCM at `hz`, of any length. For wires whose only clock is the arrival.
    pub fn hear(&mut self, pcm: &[i16], hz: u32) {
        self.hearing.frame(self.clock.now(), pcm, hz, &mut self.audio);
        self.note_progress();
    }

    /// Sound of a wire that has a clock of its own: 16 kHz, whole and in time; `counted` is what became of its packets.
    pub fn hear_timed(&mut self, pcm: &[i16], counted: StreamQuality) {
        self.counted = Some(counted);
        self.hearing.timed(self.clock.now(), pcm, &mut self.audio);
        self.note_progress();
    }

    fn note_progress(&mut self) {
        while let Some(progress) = self.hearing.progress() {
            self.command(Command::Progress(progress));
        }
    }

    /// A key was pressed, as the media tell. Where the exchange tells of keys itself, this one is known already.
    pub fn key(&mut self, key: char) {
        if self.control.is_none()
            && let Some(digit) = Digit::new(key)
        {
            self.command(Command::Dtmf { digit });
        }
    }

    /// A frame was not sent, because the far side has not taken the one before.
    pub fn note_unsent(&mut self) {
        self.sent.dropped += 1;
    }

    /// The peer was heard to play what it was sent so much later than it was due.
    pub fn note_delay(&self, delay: Duration) {
        self.frames.note_delay(delay);
    }

    /// What comes next for the wire to do. After [`Happening::Over`] nothing does.
    pub async fn next(&mut self) -> Happening {
        poll_fn(|context| self.poll(context)).await
    }

    /// See [`Line::next`].
    pub fn poll(&mut self, context: &mut Context<'_>) -> Poll<Happening> {
        loop {
            match self.frames.poll_played(context) {
                Poll::Ready(Some(Played::Flush)) => {
                    tracing::debug!(session = %self.session, "barge-in, or another reason: the reply is stopped");
                    self.hearing.stopped(self.clock.now());
                    return Poll::Ready(Happening::Flush);
                }
                Poll::Ready(Some(Played::Frame(mut frame))) => {
                    self.note_sent(&frame);
                    if frame.response.is_none()
                        && let Some(noise) = &mut self.comfort
                    {
                        noise.add(frame.pcm_mut());
                    }
                    return Poll::Ready(Happening::Frame(frame));
                }
                // The session's last events say why.
                Poll::Ready(None) | Poll::Pending => {}
            }
            if let Some(reason) = self.over {
                return Poll::Ready(Happening::Over(reason));
            }
            match self.events.poll_recv(context) {
                Poll::Ready(Some(event)) => {
                    self.event(event);
                    continue;
                }
                Poll::Ready(None) => {
                    self.over = Some(CloseReason::Disconnected);
                    continue;
                }
                Poll::Pending => {}
            }
            let next = self.next_deadline();
            let instant = self.clock.instant(next);
            if self.timer.deadline() != instant {
                self.timer.as_mut().reset(instant);
            }
            if self.timer.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            self.tick();
        }
    }

    fn next_deadline(&self) -> Time {
        let mut next = self.update_at;
        if let Some(Leaving::At(at)) = self.leaving {
            next = next.min(at);
        }
        if let Some(at) = self.held.as_ref().and_then(|held| held.at) {
            next = next.min(at);
        }
        self.hearing.next_deadline().map_or(next, |at| next.min(at))
    }

    fn tick(&mut self) {
        let now = self.clock.now();
        self.hearing.poll(now, &mut self.audio);
        if now >= self.update_at {
            self.update_at = now + UPDATE;
            let seconds = now.since(Time::ZERO).as_secs();
            self.phones.inner.board.update(self.session, seconds, self.quality());
        }
        if matches!(self.leaving, Some(Leaving::At(at)) if now >= at) {
            self.leaving = None;
            self.command(Command::Bye);
        }
        if self.held.as_ref().and_then(|held| held.at).is_some_and(|at| now >= at)
            && let Some(held) = self.held.take()
        {
            self.ask_control(held.call);
        }
    }

    fn note_sent(&mut self, frame: &OutFrame) {
        self.sent.note(self.clock.now().since(frame.due));
        if frame.response.is_some() {
            self.hearing.played(frame.due, frame.pcm());
        }
    }

    /// How well its sound comes and goes.
    #[must_use]
    pub fn quality(&self) -> Quality {
        let mut received = self
            .counted
            .unwrap_or_else(|| StreamQuality::from(self.hearing.stats()));
        received.left_out_ms += self.hearing.dropped_ms();
        received.malformed += self.hearing.unusable();
        Quality {
            received,
            sent: Sent {
                dropped: self.sent.dropped + self.frames.dropped(),
                ..self.sent
            },
        }
    }

    fn command(&self, command: Command) {
        if self.commands.try_send(command) == Err(CommandRefused::Full) {
            tracing::warn!(session = %self.session, "a call's session takes no commands");
        }
    }

    fn say(&self, text: &str, interruptible: bool) {
        if !text.trim().is_empty() {
            self.command(Command::Say(Say {
                text: Pii::from(text),
                interrupt: false,
                interruptible,
                remember: true,
            }));
        }
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::ToolCall { call, .. } => self.tool_call(call),
            Event::ResponseStarted { response, .. } => self.live = Some(response),
            Event::ResponseDone { status, heard, .. } => {
                self.live = None;
                self.response_done(status, heard.expose().is_empty());
            }
            // Which one is the caller's business: keys are account numbers and secrets.
            Event::Dtmf { .. } => tracing::debug!(session = %self.session, "a key was pressed"),
            Event::Progress(progress) => {
                tracing::info!(session = %self.session, "heard in a call: {progress:?}");
                self.phones.inner.board.note(self.session, progress);
            }
            Event::Closed { reason } => self.over = Some(reason),
            _ => {}
        }
    }

    fn response_done(&mut self, status: ResponseStatus, is_silent: bool) {
        if let Some(held) = &mut self.held {
            held.at = Some(self.clock.now() + LAST_WORDS);
        }
        if self.alone && self.leaving.is_none() {
            // What there was to say was said, or can't be.
            self.leaving = Some(Leaving::AfterReply);
        }
        if self.leaving == Some(Leaving::AfterReply) {
            self.leave();
            return;
        }
        if status != ResponseStatus::Failed {
            self.failures = 0;
        } else if is_silent {
            // Nobody is left in silence; but who hears this again and again is better served by whoever comes next.
            self.failures += 1;
            if self.failures >= MOST_FAILURES {
                self.leave();
            } else {
                self.say(&self.phones.inner.options.trouble, true);
            }
        }
    }

    fn leave(&mut self) {
        self.leaving = Some(Leaving::At(self.clock.now() + LAST_WORDS));
    }

    /// The language model wants something done with the call.
    fn tool_call(&mut self, call: ToolCall) {
        if self.control.is_some() {
            self.tell_control(call);
            return;
        }
        if call.name == HANG_UP {
            self.leaving = Some(Leaving::AfterReply);
            if self.live.is_none() {
                self.leave();
            }
        } else {
            self.answer_tool(call.call_id, "there is no such tool");
        }
    }

    /// A wish goes to whoever carries it out: at once, or, where it takes the caller away, when he has heard the rest of the reply.
    fn tell_control(&mut self, call: ToolCall) {
        let takes_away = [HANG_UP, TRANSFER].contains(&call.name.as_str());
        if !takes_away || self.live.is_none() {
            self.ask_control(call);
        } else if self.held.is_some() {
            self.answer_tool(call.call_id, "the call is about to end already");
        } else {
            // A goodbye is heard to its end, as where there is nobody to ask.
            let at = (call.name == TRANSFER).then(|| self.clock.now() + LAST_SENTENCE);
            self.held = Some(Held { call, at });
        }
    }

    fn ask_control(&self, call: ToolCall) {
        let call_id = call.call_id.clone();
        let asked = self
            .control
            .as_ref()
            .map(|control| control.try_send(Notice::Tool(call)));
        if !matches!(asked, Some(Ok(()))) {
            self.answer_tool(call_id, "the exchange can't be asked now");
        }
    }

    fn answer_tool(&self, call_id: String, output: &str) {
        self.command(Command::ToolOutput(ToolOutput {
            call_id,
            output: Pii::from(output),
            respond: true,
        }));
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.phones.inner.board.remove(self.session);
        if let Some(control) = &self.control {
            // Whoever is gone needs no notice.
            let _ = control.try_send(Notice::Over);
        }
        let quality = self.quality();
        let seconds = self.clock.now().since(Time::ZERO).as_secs_f64();
        let metrics = self.phones.inner.engine.metrics();
        let received = quality.received;
        let media = quality::counts(&received);
        metrics.call_over(self.wire, seconds, received.jitter_ms, &media);
        let reason = self.over.map_or("hung up by the far side", |reason| match reason {
            CloseReason::Bye => "hung up by us",
            CloseReason::Drained => "the server is going away",
            CloseReason::Idle => "nothing came for too long",
            CloseReason::TooSlow => "the far side takes nothing",
            CloseReason::Disconnected => "hung up by the far side",
        });
        tracing::info!(
            session = %self.session,
            wire = self.wire,
            "call over after {seconds:.1} s ({reason}): {quality}"
        );
    }
}
