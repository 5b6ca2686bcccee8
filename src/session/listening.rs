//! The session listens: audio, VAD, the turn model, the recogniser; turns open, pause and end.

use std::time::Duration;

use super::Action;
use super::barge_in::{self, same_words};
use super::call::Call;
use super::core::{Ending, MAX_ENDINGS, Owed, Session};
use super::endpoint::{self, Evidence, Verdict};
use super::recognition::{Recognition, SegmentState};
use super::response::Response;
use super::speech::{Frame, Onset, OnsetChange, Sound};
use super::turn::{OpenTurn, Opinion, Turn, TurnEffect, TurnEvent};
use crate::call::{BackendKind, Event, Probability, ResponseStatus, TurnDetection, TurnReport};
use crate::id::{PredictionId, TurnId};
use crate::pii::Pii;
use crate::time::{Samples, Time};

/// Audio is given up in steps of this length, so that it isn't an action for each frame.
const KEEP_STEP: Samples = Samples::from_millis(100);

/// While nobody speaks, so much more than the pre-roll is kept: an onset is only known to be one after it has lasted, and
/// VAD lags behind.
const KEEP_MARGIN: Samples = Samples::from_millis(300);

/// Audio that VAD has not judged is kept for so long.
const UNJUDGED: Samples = Samples::from_millis(2_000);

/// Something that the user said, in full.
pub(super) struct Said {
    /// In which turn.
    pub(super) turn: TurnId,
    /// The words.
    pub(super) text: Pii<String>,
    /// Where the time of the turn went so far.
    pub(super) report: TurnReport,
    /// Whether it was spoken, and not typed.
    pub(super) spoken: bool,
    /// Whether it interrupts a reply.
    pub(super) interrupts: bool,
}

impl Session {
    /// Who ends turns now: without a VAD it can only be the client.
    fn detection(&self) -> TurnDetection {
        if self.leases.is_missing(BackendKind::Vad) {
            TurnDetection::Client
        } else {
            self.settings.turn_detection
        }
    }

    pub(super) fn handle_audio(&mut self, end: Samples, dropped: Samples) {
        let before = self.clock.received;
        if !self.clock.advance(end, dropped, self.now) {
            self.count_stale();
            return;
        }
        self.last_activity = self.now;
        if !self.call.is_open() {
            self.clock.taken = end;
            return;
        }
        if self.detection() == TurnDetection::Client && self.turn == Turn::Idle && self.call == Call::Live {
            let from = before.max(self.clock.taken).max(self.clock.kept_from);
            self.open_turn(TurnDetection::Client, from, from, end);
        }
        self.cut_segment(end, false);
    }

    pub(super) fn handle_vad(&mut self, end: Samples, speech: Probability) {
        if end > self.clock.received || !self.call.is_open() {
            self.count_stale();
            return;
        }
        let settings = self.settings.speech;
        let Some(frame) = self.speech.frame(end, speech, &settings) else {
            self.count_stale();
            return;
        };
        match self.turn.open().map(|open| open.detection) {
            None => self.follow_onset(frame),
            Some(TurnDetection::Server) => self.follow_turn(frame),
            Some(TurnDetection::Client) => {}
        }
    }

    fn follow_onset(&mut self, frame: Frame) {
        // What begins while the call is going away is not finished any more, so it isn't begun.
        if self.detection() == TurnDetection::Client || self.call != Call::Live {
            self.speech.reset();
            return;
        }
        match self.speech.follow(frame, &self.settings.speech) {
            OnsetChange::None => {}
            OnsetChange::Rising(Onset { weight, .. }) => {
                if weight.duration() >= barge_in::DUCK_AFTER {
                    self.duck();
                }
            }
            OnsetChange::Faded => self.raise(true),
            OnsetChange::Confirmed(onset) => {
                let pre_roll = Samples::from_millis(self.settings.speech.pre_roll_ms.into());
                let from = onset
                    .start
                    .saturating_sub(pre_roll)
                    .max(self.clock.taken)
                    .max(self.clock.kept_from);
                let start = onset.start.max(from);
                self.open_turn(TurnDetection::Server, from, start, onset.last.max(start));
                self.consider_interruption();
            }
        }
    }

    fn follow_turn(&mut self, frame: Frame) {
        let speaking = matches!(self.turn, Turn::Speaking { .. });
        let is_speech = match frame.sound {
            Sound::Speech => true,
            Sound::Between => speaking,
            Sound::Silence => false,
        };
        if is_speech {
            self.withdraw_question();
            let arrival = self.clock.arrival(frame.end);
            let effect = self.turn.handle(TurnEvent::Speech(frame.end, arrival));
            if effect == TurnEffect::Resumed {
                self.discard_unheard(true);
            }
            self.consider_interruption();
        } else {
            self.turn.handle(TurnEvent::Silence);
            self.cut_segment(frame.end, true);
            self.ask_turn_model(frame.end);
        }
    }

    fn open_turn(&mut self, detection: TurnDetection, from: Samples, start: Samples, end: Samples) {
        let id = self.ids.turn;
        self.ids.turn = id.next();
        self.counts.turns += 1;
        let recognition = self.wants_recognition().then(|| {
            let own = self.settings.language.as_ref();
            let language = own.or(self.leases.of(BackendKind::Stt).language.as_ref());
            Recognition::new(language.cloned(), self.settings.limits.max_text_chars, self.now)
        });
        self.emit(Event::SpeechStarted { turn: id, at: start });
        let open = OpenTurn {
            id,
            detection,
            endpointing: self.settings.endpointing,
            speech_start: start,
            speech_end: end,
            spoke_until: self.clock.arrival(end),
            interrupts_from: start,
            recognition,
        };
        let effect = self.turn.handle(TurnEvent::Open(Box::new(open)));
        debug_assert_eq!(effect, TurnEffect::Opened, "a turn is opened only while none is");
        self.begin_segment(from);
        // Without a language model's stage the client decides what is answered, and takes back what it doesn't want any more.
        if detection == TurnDetection::Server && self.settings.stages.llm {
            self.discard_unheard(false);
        }
    }

    fn ask_turn_model(&mut self, end: Samples) {
        let id = self.ids.prediction;
        if !self.leases.is_ready(BackendKind::Turn) {
            return;
        }
        let Turn::Deciding { open, pause } = &mut self.turn else {
            return;
        };
        let silence = end.saturating_sub(open.speech_end).duration();
        if pause.opinion != Opinion::Unasked || silence < endpoint::ASK_TURN_MODEL_AFTER {
            return;
        }
        // The model judges one turn: what was said before it would only mislead it.
        let pre_roll = Samples::from_millis(self.settings.speech.pre_roll_ms.into());
        let from = open.speech_start.saturating_sub(pre_roll).max(self.clock.kept_from);
        if from >= end {
            // The detector is so far behind that the audio is gone already.
            return;
        }
        pause.opinion = Opinion::Asked(id);
        self.ids.prediction = id.next();
        self.act(Action::Predict { id, from, end });
    }

    /// The answer to what the turn model was asked isn't wanted any more.
    pub(super) fn withdraw_question(&mut self) {
        if let Some(id) = self.turn.unanswered() {
            self.act(Action::CancelPrediction { id });
        }
    }

    pub(super) fn handle_prediction(&mut self, id: PredictionId, complete: Option<Probability>) {
        match &mut self.turn {
            Turn::Deciding { pause, .. } if pause.opinion == Opinion::Asked(id) => {
                pause.opinion = Opinion::Given(complete);
            }
            Turn::Idle | Turn::Speaking { .. } | Turn::Deciding { .. } => self.count_stale(),
        }
    }

    /// When the open turn has ended; in the past or present if it has. None while there is nothing to be decided.
    pub(super) fn endpoint_at(&self) -> Option<Time> {
        let Turn::Deciding { open, pause } = &self.turn else {
            return None;
        };
        let evidence = Evidence {
            now: self.now,
            spoke_until: open.spoke_until,
            judged: self.speech.judged().saturating_sub(open.speech_end).duration(),
            speech: open.speech_end.saturating_sub(open.speech_start).duration(),
            text: self
                .gives_partials
                .then(|| open.recognition.as_ref().map(Recognition::text))
                .flatten(),
            changed_at: open
                .recognition
                .as_ref()
                .map_or(Time::ZERO, |recognition| recognition.changed_at),
            complete: match pause.opinion {
                Opinion::Given(complete) => complete,
                Opinion::Unasked | Opinion::Asked(_) => None,
            },
        };
        match endpoint::decide(&evidence, &open.endpointing) {
            Verdict::End => Some(self.now),
            Verdict::Wait(until) => Some(until),
        }
    }

    /// When speech has stopped in the middle, because nothing comes any more or nobody judges it: a microphone that was
    /// switched off, a phone that sends no silence, a detector that is gone. It is silence then, as in a pause.
    pub(super) fn stalled_at(&self) -> Option<Time> {
        let Turn::Speaking { open } = &self.turn else {
            return None;
        };
        (open.detection == TurnDetection::Server)
            .then(|| open.spoke_until + Duration::from_millis(open.endpointing.max_silence_ms.into()))
    }

    /// The user has fallen silent.
    pub(super) fn pause_turn(&mut self) {
        self.turn.handle(TurnEvent::Silence);
    }

    /// The open turn is over: by silence, or because the client says so.
    pub(super) fn end_turn(&mut self, by_client: bool) {
        let received = self.clock.received;
        self.withdraw_question();
        let TurnEffect::Ended(mut open) = self.turn.handle(TurnEvent::End) else {
            return;
        };
        if open.detection == TurnDetection::Client {
            open.speech_end = received;
            open.spoke_until = self.clock.arrival(received);
        }
        if by_client {
            self.clock.taken = received;
        }
        self.speech.reset();
        self.emit(Event::SpeechStopped {
            turn: open.id,
            at: open.speech_end,
        });
        let timeout = Duration::from_millis(self.settings.limits.stt_final_timeout_ms.into());
        let mut finish = None;
        if let Some(segment) = open
            .recognition
            .as_mut()
            .and_then(|recognition| recognition.segments.back_mut())
            .filter(|segment| segment.end.is_none())
        {
            let end = received.max(segment.from);
            segment.end = Some(end);
            segment.await_final(self.now, timeout);
            if segment.state == SegmentState::Running {
                finish = Some((segment.id, end));
            }
        }
        if let Some((id, end)) = finish {
            self.act(Action::FinishTranscription { id, end });
        }
        if self.endings.len() == MAX_ENDINGS {
            self.give_up_oldest_ending();
        }
        self.endings.push_back(Ending {
            report: TurnReport {
                turn: open.id,
                response: None,
                speech_end: open.spoke_until.min(self.now),
                endpoint: self.now,
                final_transcript: None,
                first_token: None,
                first_sentence: None,
                first_audio: None,
                first_sent: None,
            },
            recognition: open.recognition,
            during: self.audible_reply(),
            interrupts: by_client || open.detection == TurnDetection::Client || self.settings.barge_in.enabled,
        });
        self.raise(true);
    }

    /// Forgets the speech of the open turn.
    pub(super) fn clear_turn(&mut self) {
        self.clock.taken = self.clock.received;
        self.speech.reset();
        self.withdraw_question();
        if let TurnEffect::Cleared(open) = self.turn.handle(TurnEvent::Clear) {
            self.cancel_recognition(open.recognition);
            self.emit(Event::SpeechStopped {
                turn: open.id,
                at: open.speech_end,
            });
            self.discard_held();
        }
        self.raise(true);
    }

    fn give_up_oldest_ending(&mut self) {
        let now = self.now;
        let Some(recognition) = self.endings.front_mut().and_then(|ending| ending.recognition.as_mut()) else {
            self.settle_ending();
            return;
        };
        let segments: Vec<_> = recognition
            .segments
            .iter()
            .map(|segment| (segment.id, segment.state == SegmentState::Running))
            .collect();
        for (id, _) in &segments {
            recognition.settle(*id, None, now);
        }
        for (id, _) in segments.into_iter().filter(|(_, running)| *running) {
            self.act(Action::CancelTranscription { id });
        }
        self.settle_ending();
    }

    /// The oldest ended turn has all its words: it becomes history, and is answered. Whether there was one.
    pub(super) fn settle_ending(&mut self) -> bool {
        let ready = self
            .endings
            .front()
            .is_some_and(|ending| ending.recognition.as_ref().is_none_or(Recognition::is_over));
        if !ready {
            return false;
        }
        let Some(ending) = self.endings.pop_front() else {
            return false;
        };
        let mut report = ending.report;
        let turn = report.turn;
        let mut text: Pii<String> = Pii::default();
        if let Some(mut recognition) = ending.recognition {
            report.final_transcript = Some(self.now);
            text = Pii::from(recognition.text().trim());
            if let Some(event) = recognition.revise(turn, true) {
                self.emit(event);
            }
        }
        let still_audible = ending.during.is_some() && ending.during == self.audible_reply();
        if text.expose().is_empty() {
            self.discard_held();
            self.owe_again(report);
            return true;
        }
        let backchannel = still_audible && barge_in::is_backchannel(text.expose());
        if backchannel && self.settings.stages.llm {
            self.discard_held();
            self.emit_report(Some(report));
        } else {
            // Where the client decides what is answered, it hears of this too; it interrupts nothing.
            self.answer(Said {
                turn,
                text,
                report,
                spoken: true,
                interrupts: ending.interrupts && !backchannel,
            });
        }
        true
    }

    /// A turn without words: what was owed before it still is.
    fn owe_again(&mut self, report: TurnReport) {
        match &mut self.owed {
            Some(owed) if owed.report.is_none() && owed.turn.is_some() => {
                owed.turn = Some(report.turn);
                owed.report = Some(report);
            }
            Some(_) | None => self.emit_report(Some(report)),
        }
    }

    /// The user has said this: it becomes history, and a reply is owed.
    pub(super) fn answer(&mut self, said: Said) {
        let Said {
            turn,
            text,
            report,
            spoken,
            interrupts,
        } = said;
        let limits = self.settings.limits;
        let prepared = self.reply.as_ref().is_some_and(|reply| {
            reply.is_guess()
                && reply
                    .prepared_for
                    .as_ref()
                    .is_some_and(|words| same_words(words.expose(), text.expose()))
        });
        if prepared && self.turn == Turn::Idle {
            self.history
                .push_user(text, false, limits.max_history_items, limits.max_text_chars);
            self.promote(turn, report);
            return;
        }
        self.discard_held();
        if interrupts && self.reply.as_ref().is_some_and(|reply| reply.interruptible) {
            self.interrupt();
        }
        let merge = spoken && self.owed.as_ref().is_some_and(|owed| owed.turn.is_some());
        self.history
            .push_user(text, merge, limits.max_history_items, limits.max_text_chars);
        if self.settings.stages.llm {
            self.owe(Owed {
                turn: Some(turn),
                report: Some(report),
                now: false,
            });
        } else {
            self.emit_report(Some(report));
        }
    }

    /// A reply is owed; the report of an earlier turn that it answers too is told now.
    pub(super) fn owe(&mut self, owed: Owed) {
        let earlier = self.owed.replace(owed);
        self.emit_report(earlier.and_then(|earlier| earlier.report));
    }

    /// Interrupts the reply that there is, and what was to follow it.
    pub(super) fn interrupt(&mut self) {
        self.says.retain(|say| !say.interruptible);
        self.stop_reply(ResponseStatus::Interrupted);
    }

    /// Lowers, raises or stops the reply, as far as the speech of the open turn goes.
    pub(super) fn consider_interruption(&mut self) {
        let settings = self.settings.barge_in;
        let Some(open) = self.turn.open().filter(|open| open.detection == TurnDetection::Server) else {
            return;
        };
        let is_target = self
            .reply
            .as_ref()
            .is_some_and(|reply| reply.interruptible && (reply.state == Response::Live));
        if !settings.enabled || !is_target || open.speech_end <= open.interrupts_from {
            return;
        }
        let speech = open.speech_end.saturating_sub(open.interrupts_from).duration();
        // Words from before the reply could be heard say nothing about a wish to interrupt it.
        let text = if open.interrupts_from == open.speech_start {
            open.text()
        } else {
            ""
        };
        if barge_in::confirms(speech, text, &settings) {
            self.interrupt();
        } else if matches!(self.turn, Turn::Speaking { .. }) {
            self.duck();
        }
    }

    /// When an unconfirmed interruption has been silent for long enough.
    pub(super) fn raise_at(&self) -> Option<Time> {
        let Turn::Deciding { open, .. } = &self.turn else {
            return None;
        };
        self.ducked.filter(|ducked| Some(*ducked) == self.audible_reply())?;
        let judged = self.speech.judged().saturating_sub(open.speech_end).duration();
        if judged >= barge_in::RAISE_AFTER {
            Some(self.now)
        } else {
            Some(open.spoke_until + barge_in::RAISE_AFTER)
        }
    }

    /// Whoever spoke while the reply was heard has been silent for a while: with words that mean something it was an
    /// interruption, however short; otherwise it was none.
    pub(super) fn decide_interruption(&mut self) {
        let meant = self.turn.open().is_some_and(|open| {
            let text = open.text();
            open.interrupts_from == open.speech_start && !text.trim().is_empty() && !barge_in::is_backchannel(text)
        });
        if meant {
            self.interrupt();
        }
        self.raise(true);
    }

    /// Tells from where on audio is still needed, when that has moved.
    pub(super) fn update_kept(&mut self) {
        let needed = |recognition: &Option<Recognition>| recognition.as_ref().and_then(Recognition::needed_from);
        let pre_roll = Samples::from_millis(self.settings.speech.pre_roll_ms.into());
        // VAD is ever so little behind; where it doesn't run at all, a moment of audio is kept for when it will.
        let listened = self.speech.judged().max(self.clock.received.saturating_sub(UNJUDGED));
        let idle = if self.detection() == TurnDetection::Client {
            self.clock.received
        } else {
            listened.min(self.clock.received).saturating_sub(pre_roll + KEEP_MARGIN)
        };
        let onset = self
            .speech
            .onset()
            .map_or(idle, |onset| onset.start.saturating_sub(pre_roll));
        let next_turn = idle.min(onset).max(self.clock.taken);
        let open = self.turn.open().and_then(|open| needed(&open.recognition));
        let from = self
            .endings
            .iter()
            .filter_map(|ending| needed(&ending.recognition))
            .chain(open)
            .chain([next_turn])
            .min()
            .unwrap_or(self.clock.received);
        if from >= self.clock.kept_from + KEEP_STEP {
            self.clock.kept_from = from;
            self.act(Action::KeepFrom { from });
        }
    }
}
