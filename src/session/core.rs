//! The session: its state, its calling rule, its timers, its end.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::call::{Call, CallEffect, CallEvent};
use super::clock::SampleClock;
use super::history::History;
use super::keys::Keys;
use super::leases::Leases;
use super::playout::{Playout, PlayoutInput};
use super::random::Random;
use super::recognition::Recognition;
use super::reply::Reply;
use super::speech::SpeechDetector;
use super::switching::Switches;
use super::turn::{Turn, TurnEffect, TurnEvent};
use super::{Action, Input, Item, Output};
use crate::call::{
    CallError, CloseReason, ErrorCode, Event, Origin, ResponseStatus, Say, Settings, Status, TurnReport,
};
use crate::id::{GenerationId, PredictionId, ResponseId, SwitchId, SynthesisId, TranscriptionId, TurnId};
use crate::time::Time;

/// Turns whose final words are waited for; where the recogniser is that far behind, the oldest is given up.
pub(crate) const MAX_ENDINGS: usize = 8;

/// Replies of the client that wait for the one before them.
pub(crate) const MAX_SAYS: usize = 32;

/// Actions that one input may cause before they are polled. Reached by nothing we know; it is checked, not enforced,
/// because an action must never be lost.
pub(crate) const MAX_ACTIONS: usize = 512;

/// How long a session waits for a backend that is being started again before it gives up what was asked of it: small
/// models are back within a second or two, and nobody holds the line for longer than this.
pub(crate) const LOST_WAIT: Duration = Duration::from_secs(10);

/// Requests that are repeated are spread over this long, so that the sessions of a worker that died don't all come at once.
const RETRY_SPREAD_MS: u64 = 300;

/// Rounds of consequences after one input. Each round changes something for good, so a handful is much; the bound is there
/// so that a mistake is slow and not endless.
const ROUNDS: usize = 64;

/// A turn that has ended and waits for its final words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ending {
    /// Its words; none when nothing is to be recognised.
    pub(crate) recognition: Option<Recognition>,
    /// Where its time went so far.
    pub(crate) report: TurnReport,
    /// The reply that could be heard when it ended.
    pub(crate) during: Option<ResponseId>,
    /// Whether its words, when they mean something, interrupt a reply.
    pub(crate) interrupts: bool,
}

/// A reply that the user is waiting for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Owed {
    /// To which turn.
    pub(crate) turn: Option<TurnId>,
    /// The report of that turn, unless the client was told.
    pub(crate) report: Option<TurnReport>,
    /// Whether the client asked for it in so many words: then an open turn doesn't hold it up.
    pub(crate) now: bool,
}

/// The numbers that the next things get.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ids {
    pub(crate) turn: TurnId,
    pub(crate) response: ResponseId,
    pub(crate) transcription: TranscriptionId,
    pub(crate) generation: GenerationId,
    pub(crate) synthesis: SynthesisId,
    pub(crate) prediction: PredictionId,
    pub(crate) switch: SwitchId,
}

/// What is counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counts {
    pub(crate) turns: u64,
    pub(crate) responses: u64,
    pub(crate) stale: u64,
}

/// One conversation over one connection. See [`crate::session`] for how it is called.
///
/// It can be serialised and restored at any moment, and the restored one does exactly what this one would have done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Session {
    pub(super) settings: Settings,
    pub(super) now: Time,
    random: Random,
    pub(super) call: Call,
    pub(super) turn: Turn,
    pub(super) playout: Playout,
    pub(super) clock: SampleClock,
    pub(super) speech: SpeechDetector,
    pub(super) endings: VecDeque<Ending>,
    pub(super) reply: Option<Box<Reply>>,
    pub(super) says: VecDeque<Say>,
    /// Telephone keys that are no turn yet.
    #[serde(default)]
    pub(super) keys: Keys,
    pub(super) owed: Option<Owed>,
    pub(super) history: History,
    /// Tool calls whose results are still to come, oldest first.
    pub(super) open_calls: VecDeque<String>,
    /// Whether a result asked for an answer.
    pub(super) answer_calls: bool,
    pub(super) leases: Leases,
    pub(super) switches: Switches,
    /// Whether a lease that the settings don't need any more is kept until what uses it is over.
    pub(super) leases_due: bool,
    /// The reply whose volume is lowered.
    pub(super) ducked: Option<ResponseId>,
    /// Whether this recogniser gives words before its final ones.
    pub(super) gives_partials: bool,
    pub(super) ids: Ids,
    pub(super) counts: Counts,
    pub(super) last_activity: Time,
    pub(super) actions: VecDeque<Action>,
}

/// What an instant that was waited for is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Timer {
    Drain,
    Idle,
    Endpoint,
    Stalled,
    Eager,
    Raise,
    Segment(TranscriptionId),
    Generation,
    Synthesis,
    StartPlayout,
    StopPlayout,
    FinishPlayout,
    Lookahead,
    Approval,
    Keys,
}

impl Session {
    /// A session that waits for its wire. `seed` decides everything that is left to chance.
    #[must_use]
    pub fn new(settings: Settings, seed: u64) -> Self {
        Self {
            settings,
            now: Time::ZERO,
            random: Random::new(seed),
            call: Call::Connecting,
            turn: Turn::Idle,
            playout: Playout::Silent,
            clock: SampleClock::default(),
            speech: SpeechDetector::default(),
            endings: VecDeque::new(),
            reply: None,
            says: VecDeque::new(),
            keys: Keys::default(),
            owed: None,
            history: History::default(),
            open_calls: VecDeque::new(),
            answer_calls: false,
            leases: Leases::default(),
            switches: Switches::default(),
            leases_due: false,
            ducked: None,
            gives_partials: false,
            ids: Ids {
                turn: TurnId::new(1),
                response: ResponseId::new(1),
                transcription: TranscriptionId::new(1),
                generation: GenerationId::new(1),
                synthesis: SynthesisId::new(1),
                prediction: PredictionId::new(1),
                switch: SwitchId::new(1),
            },
            counts: Counts::default(),
            last_activity: Time::ZERO,
            actions: VecDeque::new(),
        }
    }

    /// Takes one input. `now` is the present; where it lies before that of an earlier input, time stands still.
    pub fn handle(&mut self, now: Time, input: Input) {
        self.now = self.now.max(now);
        if matches!(self.call, Call::Closed { .. }) {
            return;
        }
        match input {
            Input::Connected => self.handle_call(CallEvent::Connected),
            Input::Drain { within_ms } => {
                self.handle_call(CallEvent::Drain(self.now + Duration::from_millis(within_ms.into())));
            }
            Input::Disconnected { reason } => self.handle_call(CallEvent::Gone(reason)),
            Input::Command(command) => {
                self.last_activity = self.now;
                self.handle_command(command);
            }
            Input::Audio { end, dropped } => self.handle_audio(end, dropped),
            Input::Vad { end, speech } => self.handle_vad(end, speech),
            Input::Prediction { id, complete } => self.handle_prediction(id, complete),
            Input::Backend { kind, change } => self.handle_backend(kind, change),
            Input::Switch { id, progress } => self.handle_switch(id, progress),
            Input::Stt { id, event } => self.handle_stt(id, event),
            Input::Llm { id, event } => self.handle_llm(id, event),
            Input::Tts { id, event } => self.handle_tts(id, event),
            Input::Playout { response, event } => {
                self.handle_playout(PlayoutInput::Told(response, event, self.now));
            }
            Input::Tick => {}
        }
        self.settle();
        #[cfg(debug_assertions)]
        if let Err(violation) = self.verify() {
            panic!("{violation}");
        }
    }

    /// The next action; or, when there is none, the instant at which [`Input::Tick`] is wanted.
    pub fn poll(&mut self) -> Output {
        match self.actions.pop_front() {
            Some(action) => Output::Action(action),
            None => Output::Timeout(self.deadline()),
        }
    }

    /// The settings as they are now.
    #[must_use]
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The conversation so far, oldest first.
    pub fn history(&self) -> impl ExactSizeIterator<Item = &Item> {
        self.history.items()
    }

    /// Whether the call is over: every action has been decided, and inputs change nothing.
    #[must_use]
    pub const fn is_closed(&self) -> bool {
        matches!(self.call, Call::Closed { .. })
    }

    pub(super) fn act(&mut self, action: Action) {
        self.actions.push_back(action);
    }

    pub(super) fn emit(&mut self, event: Event) {
        self.actions.push_back(Action::Emit(event));
    }

    pub(super) fn refuse(&mut self, code: ErrorCode, message: String) {
        self.emit(Event::Error(CallError {
            code,
            origin: Origin::Client,
            retry: false,
            message,
        }));
    }

    pub(super) fn emit_report(&mut self, report: Option<TurnReport>) {
        if let Some(report) = report {
            self.emit(Event::TurnReport(report));
        }
    }

    /// An answer came to something that is over.
    pub(super) const fn count_stale(&mut self) {
        self.counts.stale += 1;
    }

    /// When a request that failed is repeated: not before the backend wants it (within reason), and not together with
    /// everybody else.
    pub(super) fn not_before(&mut self, retry_after_ms: u32) -> Time {
        let spread = self.random.below(RETRY_SPREAD_MS * 1_000);
        let wanted = Duration::from_millis(retry_after_ms.into()).min(LOST_WAIT);
        self.now + wanted + Duration::from_micros(spread)
    }

    pub(super) fn status(&self) -> Status {
        Status {
            backends: self.leases.states(),
            turn: self.turn.open().map(|open| open.id),
            response: self
                .reply
                .as_ref()
                .filter(|reply| reply.state == super::response::Response::Live)
                .map(|reply| reply.id),
            received: self.clock.received,
            dropped: self.clock.dropped,
            turns: self.counts.turns,
            responses: self.counts.responses,
            history_items: self.history.items().len() as u64,
            stale_answers: self.counts.stale,
        }
    }

    pub(super) fn handle_call(&mut self, event: CallEvent) {
        match self.call.handle(event) {
            CallEffect::None => {}
            CallEffect::Open => {
                self.last_activity = self.now;
                self.update_leases();
            }
            CallEffect::GoAway => {
                if let Call::Draining { deadline } = self.call {
                    let left = deadline.since(self.now).as_millis();
                    self.emit(Event::GoingAway {
                        within_ms: u32::try_from(left).unwrap_or(u32::MAX),
                    });
                }
            }
            CallEffect::Close(reason) => self.close(reason),
        }
    }

    /// Ends everything. Whatever was announced gets its terminal; nothing is waited for any more.
    fn close(&mut self, reason: CloseReason) {
        self.withdraw_question();
        if let TurnEffect::Cleared(open) = self.turn.handle(TurnEvent::Clear) {
            self.emit(Event::SpeechStopped {
                turn: open.id,
                at: open.speech_end,
            });
            self.cancel_recognition(open.recognition);
        }
        for ending in std::mem::take(&mut self.endings) {
            self.cancel_recognition(ending.recognition);
            self.emit_report(Some(ending.report));
        }
        self.says.clear();
        self.stop_reply(ResponseStatus::Cancelled);
        self.handle_playout(PlayoutInput::GiveUp);
        let owed = self.owed.take();
        self.emit_report(owed.and_then(|owed| owed.report));
        self.open_calls.clear();
        self.end_switches();
        self.release_all();
        self.emit(Event::Closed { reason });
        self.act(Action::End);
    }

    /// Whether nothing is open: the moment at which a draining call may end.
    fn is_quiet(&self) -> bool {
        // Where the client ends turns, one is open whenever audio comes; without words it keeps nobody.
        let turn_is_open = self
            .turn
            .open()
            .is_some_and(|open| open.detection == crate::call::TurnDetection::Server || !open.text().is_empty());
        !turn_is_open && self.endings.is_empty() && self.reply.is_none() && self.says.is_empty() && self.owed.is_none()
    }

    /// Draws all conclusions from what has changed.
    fn settle(&mut self) {
        for _ in 0..ROUNDS {
            if self.is_closed() {
                return;
            }
            let changed = self.fire_timer()
                || self.adopt_due()
                || self.settle_ending()
                || self.advance_reply()
                || self.begin_reply();
            if !changed {
                break;
            }
        }
        if matches!(self.call, Call::Draining { .. }) && self.is_quiet() {
            self.handle_call(CallEvent::Quiet);
            return;
        }
        if self.leases_due {
            self.update_leases();
        }
        self.update_kept();
    }

    /// Shows every instant that is waited for.
    fn each_timer(&self, mut visit: impl FnMut(Time, Timer)) {
        if !self.call.is_open() {
            return;
        }
        if let Call::Draining { deadline } = self.call {
            visit(deadline, Timer::Drain);
        }
        let idle = self.settings.limits.idle_timeout_ms;
        if idle > 0 && self.reply.is_none() {
            visit(self.last_activity + Duration::from_millis(idle.into()), Timer::Idle);
        }
        if let Some(at) = self.endpoint_at() {
            visit(at, Timer::Endpoint);
        }
        if let Some(at) = self.stalled_at() {
            visit(at, Timer::Stalled);
        }
        if let Some(at) = self.eager_at() {
            visit(at, Timer::Eager);
        }
        if let Some(at) = self.raise_at() {
            visit(at, Timer::Raise);
        }
        let open = self.turn.open().and_then(|open| open.recognition.as_ref());
        let ended = self.endings.iter().filter_map(|ending| ending.recognition.as_ref());
        for segment in ended.chain(open).flat_map(|recognition| &recognition.segments) {
            if let Some(at) = segment.due() {
                visit(at, Timer::Segment(segment.id));
            }
        }
        if let Some(reply) = &self.reply {
            if let Some(at) = Self::generation_due(reply) {
                visit(at, Timer::Generation);
            }
            if let Some(at) = Self::synthesis_due(reply) {
                visit(at, Timer::Synthesis);
            }
            if let Some(at) = self.lookahead_at(reply) {
                visit(at, Timer::Lookahead);
            }
            if let Some(at) = self.finish_at(reply) {
                visit(at, Timer::FinishPlayout);
            }
            if let Some(at) = self.start_at(reply) {
                visit(at, Timer::StartPlayout);
            }
            if let Some(at) = reply.approval_due() {
                visit(at, Timer::Approval);
            }
        }
        if let Some(at) = self.entry_ends_at() {
            visit(at, Timer::Keys);
        }
        if let Playout::Stopping { deadline, .. } = self.playout {
            visit(deadline, Timer::StopPlayout);
        }
    }

    /// When [`Input::Tick`] is wanted. Never before now: what was due has been done.
    pub(super) fn deadline(&self) -> Option<Time> {
        let mut earliest: Option<Time> = None;
        self.each_timer(|at, _| earliest = Some(earliest.map_or(at, |known| known.min(at))));
        earliest.map(|at| at.max(self.now))
    }

    /// Does what the earliest instant that has come is about; whether there was one.
    fn fire_timer(&mut self) -> bool {
        let mut earliest: Option<(Time, Timer)> = None;
        self.each_timer(|at, timer| {
            if at <= self.now && earliest.is_none_or(|(known, _)| at < known) {
                earliest = Some((at, timer));
            }
        });
        let Some((_, timer)) = earliest else { return false };
        match timer {
            Timer::Drain => self.handle_call(CallEvent::Deadline),
            Timer::Idle => self.handle_call(CallEvent::Idle),
            Timer::Endpoint => self.end_turn(false),
            Timer::Stalled => self.pause_turn(),
            Timer::Eager => self.prepare_eagerly(),
            Timer::Raise => self.decide_interruption(),
            Timer::Segment(id) => self.segment_timed_out(id),
            Timer::Generation => self.generation_timed_out(),
            Timer::Synthesis => self.synthesis_timed_out(),
            Timer::StopPlayout | Timer::FinishPlayout => self.handle_playout(PlayoutInput::GiveUp),
            Timer::StartPlayout => self.stop_reply(ResponseStatus::Failed),
            Timer::Lookahead => self.synthesize_next(),
            Timer::Approval => self.approval_timed_out(),
            Timer::Keys => self.end_entry(),
        }
        true
    }
}
