//! The session replies: the language model writes, clauses are synthesised and played, and all of it can be stopped.

use std::time::Duration;

use super::core::{Owed, Session};
use super::endpoint;
use super::playout::{Playout, PlayoutInput};
use super::recognition::{count_chars, truncated};
use super::reply::{Approval, Generating, MAX_TOOL_CALLS, Origin, Reply, Synthesizing};
use super::response::{Response, ResponseEffect, ResponseEvent};
use super::turn::Turn;
use super::{Action, TtsProgress};
use crate::call::{
    BackendKind, CallError, ErrorCode, Event, LlmEvent, Role, Say, StageFailure, ToolCall, TurnDetection, TurnReport,
};
use crate::call::{Origin as Culprit, ResponseStatus};
use crate::id::{GenerationId, SynthesisId, TurnId};
use crate::pii::Pii;
use crate::time::{Samples, Time};

/// The next clause is synthesised while less than this lies ready unplayed: enough to bridge a slow synthesis, little
/// enough that an interruption wastes next to nothing, and a synthesiser never has to be held back.
const LOOKAHEAD: Duration = Duration::from_secs(4);

/// The audio of one clause of at most 120 characters; more than this is a mistake of the synthesiser.
const LONGEST_CLAUSE: Samples = Samples::from_millis(120_000);

/// How long we wait to be told how much of a stopped reply was heard.
const STOP_WAIT: Duration = Duration::from_secs(1);

impl Session {
    /// Begins the reply that is next, if there is one and it may begin; whether it has.
    pub(super) fn begin_reply(&mut self) -> bool {
        if self.reply.is_some() || self.playout != Playout::Silent || !self.call.is_open() {
            return false;
        }
        let user_speaks = self
            .turn
            .open()
            .is_some_and(|open| open.detection == TurnDetection::Server);
        if let Some(say) = self.says.pop_front_if(|say| !user_speaks || say.interrupt) {
            self.begin_say(say);
            return true;
        }
        let due = self
            .owed
            .as_ref()
            .is_some_and(|owed| owed.now || (!user_speaks && self.endings.is_empty()));
        if !due {
            return false;
        }
        let Some(owed) = self.owed.take() else { return false };
        self.begin_generation(owed);
        true
    }

    fn new_reply(&mut self, origin: Origin, state: Response, generating: Generating) -> Box<Reply> {
        let id = self.ids.response;
        self.ids.response = id.next();
        let mut reply = Reply::new(id, origin, state, generating);
        reply.spoken = self.settings.stages.tts && !self.tell_missing(BackendKind::Tts);
        reply.voice = self.voice();
        Box::new(reply)
    }

    /// The voice of what begins to be spoken now.
    fn voice(&self) -> Option<String> {
        let own = self.settings.voice.as_ref();
        own.or(self.leases.of(BackendKind::Tts).voice.as_ref()).cloned()
    }

    fn begin_say(&mut self, say: Say) {
        let mut reply = self.new_reply(Origin::Say, Response::Prepared, Generating::Done);
        reply.interruptible = say.interruptible;
        reply.remember = say.remember;
        reply.chunker.push(say.text.expose());
        reply.chunker.end();
        reply.chars = count_chars(say.text.expose());
        reply.text = say.text;
        let effect = reply.state.handle(ResponseEvent::Content);
        debug_assert_eq!(
            effect,
            ResponseEffect::Announce,
            "what was prepared is announced by its first words"
        );
        self.announce(&mut reply);
        self.reply = Some(reply);
    }

    fn begin_generation(&mut self, owed: Owed) {
        if self.tell_missing(BackendKind::Llm) {
            self.emit_report(owed.report);
            return;
        }
        let (state, approval) = if self.settings.approval {
            (Response::Held, Approval::Needed)
        } else {
            (Response::Prepared, Approval::NotNeeded)
        };
        let mut reply = self.new_reply(Origin::Model, state, Generating::Done);
        reply.approval = approval;
        reply.turn = owed.turn;
        reply.report = owed.report.map(|report| TurnReport {
            response: Some(reply.id),
            ..report
        });
        self.ask_model(&mut reply, self.now);
        self.reply = Some(reply);
    }

    fn ask_model(&mut self, reply: &mut Reply, not_before: Time) {
        if self.leases.is_away(BackendKind::Llm) {
            reply.generating = Generating::Waiting {
                until: self.now + self.patience(BackendKind::Llm),
            };
            return;
        }
        let id = self.ids.generation;
        self.ids.generation = id.next();
        let timeout = Duration::from_millis(self.settings.limits.llm_first_token_timeout_ms.into());
        reply.generating = Generating::Running {
            id,
            deadline: not_before + timeout,
        };
        let prompt = self.history.prompt(&self.settings, reply.prepared_for.as_ref());
        self.act(Action::Generate {
            id,
            prompt: Box::new(prompt),
            not_before,
        });
    }

    /// When a reply is to be prepared on the guess that the turn has ended.
    pub(super) fn eager_at(&self) -> Option<Time> {
        let Turn::Deciding { open, pause } = &self.turn else {
            return None;
        };
        let eager = open.endpointing.eager_ms;
        let free = self.reply.is_none() && self.owed.is_none() && self.endings.is_empty() && self.says.is_empty();
        let able = self.settings.stages.llm && self.leases.is_ready(BackendKind::Llm);
        let text = open.text();
        let likely = !text.trim().is_empty() && !endpoint::looks_unfinished(text);
        (eager > 0 && !pause.eager && free && able && likely)
            .then(|| open.spoke_until + Duration::from_millis(eager.into()))
    }

    /// Prepares a reply to the words so far. Nothing of it leaves unless the turn ends with just these.
    pub(super) fn prepare_eagerly(&mut self) {
        let Turn::Deciding { open, pause } = &mut self.turn else {
            return;
        };
        pause.eager = true;
        let words = Pii::from(open.text().trim());
        let mut reply = self.new_reply(Origin::Model, Response::Held, Generating::Done);
        reply.prepared_for = Some(words);
        if self.settings.approval {
            reply.approval = Approval::Needed;
        }
        self.ask_model(&mut reply, self.now);
        self.reply = Some(reply);
    }

    /// The guess was right.
    pub(super) fn promote(&mut self, turn: TurnId, report: TurnReport) {
        let Some(mut reply) = self.reply.take() else { return };
        reply.turn = Some(turn);
        reply.prepared_for = None;
        reply.report = Some(TurnReport {
            response: Some(reply.id),
            ..report
        });
        let content = reply.has_content();
        if reply.approval == Approval::NotNeeded
            && reply.state.handle(ResponseEvent::Promote { content }) == ResponseEffect::Announce
        {
            self.announce(&mut reply);
        }
        self.reply = Some(reply);
    }

    /// Throws away a reply that was prepared on a guess.
    pub(super) fn discard_held(&mut self) {
        if self.reply.as_ref().is_some_and(|reply| reply.is_guess()) {
            self.stop_reply(ResponseStatus::Interrupted);
        }
    }

    /// The user goes on speaking before anything of the answer could be heard: it is thrown away, and still owed, to all
    /// that the user will have said.
    pub(super) fn discard_unheard(&mut self, resumed: bool) {
        self.discard_held();
        let unheard = self.reply.as_ref().is_some_and(|reply| {
            let silent = match reply.state {
                Response::Held | Response::Prepared => true,
                Response::Live => reply.spoken && self.audible_reply() != Some(reply.id) && !reply.played,
                Response::Stopping { .. } | Response::Over { .. } => false,
            };
            silent && reply.origin == Origin::Model
        });
        if resumed || !unheard {
            return;
        }
        let turn = self.reply.as_ref().and_then(|reply| reply.turn);
        self.stop_reply(ResponseStatus::Interrupted);
        self.owe(Owed {
            turn,
            report: None,
            now: false,
        });
    }

    /// Tells the client of the reply, and of everything that it said so far.
    pub(super) fn announce(&mut self, reply: &mut Reply) {
        self.counts.responses += 1;
        self.emit(Event::ResponseStarted {
            response: reply.id,
            turn: reply.turn,
        });
        if let Some(report) = &mut reply.report {
            report.first_token.get_or_insert(self.now);
        }
        if !reply.text.expose().is_empty() {
            self.tell_text(reply, reply.text.clone());
        }
        for call in reply.tool_calls.clone() {
            self.tell_call(reply, call);
        }
    }

    fn tell_text(&mut self, reply: &mut Reply, delta: Pii<String>) {
        self.emit(Event::ResponseText {
            response: reply.id,
            delta,
        });
        if !reply.spoken {
            self.remember_heard(reply, self.playout.heard());
        }
    }

    fn tell_call(&mut self, reply: &mut Reply, call: ToolCall) {
        let max_items = self.settings.limits.max_history_items;
        let history = &mut self.history;
        let item = *reply
            .item
            .get_or_insert_with(|| history.push(Role::Assistant, Pii::default(), None, max_items));
        self.history.add_call(item, call.clone());
        if self.open_calls.len() == max_items as usize {
            self.open_calls.pop_front();
        }
        self.open_calls.push_back(call.call_id.clone());
        self.emit(Event::ToolCall {
            response: reply.id,
            call,
        });
    }

    /// Puts into the history what has been heard.
    pub(super) fn remember_heard(&mut self, reply: &mut Reply, heard: Samples) {
        if !reply.remember {
            return;
        }
        let text = reply.heard_text(heard);
        match reply.item {
            Some(item) => self.history.set_text(item, Pii::new(text)),
            None if text.is_empty() => {}
            None => {
                let max_items = self.settings.limits.max_history_items;
                reply.item = Some(self.history.push(Role::Assistant, Pii::new(text), None, max_items));
            }
        }
    }

    pub(super) fn handle_llm(&mut self, id: GenerationId, event: LlmEvent) {
        let asked = self
            .reply
            .as_ref()
            .is_some_and(|reply| matches!(reply.generating, Generating::Running { id: running, .. } if running == id));
        let Some(mut reply) = self.reply.take_if(|_| asked) else {
            self.count_stale();
            return;
        };
        let timeout = Duration::from_millis(self.settings.limits.llm_first_token_timeout_ms.into());
        reply.generating = Generating::Running {
            id,
            deadline: self.now + timeout,
        };
        match event {
            LlmEvent::Delta { text } => self.take_words(&mut reply, id, text.expose()),
            LlmEvent::ToolCall(call) => {
                if reply.tool_calls.len() < MAX_TOOL_CALLS {
                    reply.tool_calls.push(call.clone());
                    match reply.state.handle(ResponseEvent::Content) {
                        ResponseEffect::Announce => self.announce(&mut reply),
                        _ if reply.state == Response::Live => self.tell_call(&mut reply, call),
                        _ => {}
                    }
                }
            }
            LlmEvent::Done { .. } => {
                reply.generating = Generating::Done;
                reply.chunker.end();
            }
            LlmEvent::Failed(failure) => {
                self.reply = Some(reply);
                self.generation_failed(&failure, ErrorCode::LlmFailed);
                return;
            }
        }
        self.reply = Some(reply);
    }

    fn take_words(&mut self, reply: &mut Reply, id: GenerationId, text: &str) {
        let room = self.settings.limits.max_text_chars.saturating_sub(reply.chars);
        let delta = truncated(text, room as usize);
        if !delta.is_empty() {
            reply.text.expose_mut().push_str(delta);
            reply.chars += count_chars(delta);
            reply.chunker.push(delta);
            match reply.state.handle(ResponseEvent::Content) {
                ResponseEffect::Announce => self.announce(reply),
                _ if reply.state == Response::Live => self.tell_text(reply, Pii::from(delta)),
                _ => {}
            }
        }
        if delta.len() < text.len() {
            self.act(Action::CancelGeneration { id });
            reply.generating = Generating::Done;
            reply.chunker.end();
        }
    }

    /// The language model failed: it is asked again if it had said nothing, otherwise the reply ends with what it said.
    pub(super) fn generation_failed(&mut self, failure: &StageFailure, code: ErrorCode) {
        if self.reply.as_ref().is_some_and(|reply| reply.is_guess()) {
            // It was a guess. When the turn ends, the model is asked again in earnest.
            if let Some(reply) = &mut self.reply {
                reply.generating = Generating::Done;
            }
            self.discard_held();
            return;
        }
        if failure.retry {
            // What was to take over does, if what failed is gone; else nothing waits.
            self.adopt(BackendKind::Llm);
        }
        let Some(mut reply) = self.reply.take() else { return };
        if failure.retry && !reply.has_content() && reply.retries < self.settings.limits.max_retries {
            reply.retries += 1;
            let not_before = self.not_before(failure.retry_after_ms);
            self.ask_model(&mut reply, not_before);
        } else {
            self.emit(Event::Error(CallError {
                code,
                origin: Culprit::Backend,
                retry: failure.retry,
                message: format!("no (further) reply: {}: {}", failure.backend, failure.reason),
            }));
            reply.generating = Generating::Done;
            reply.status = ResponseStatus::Failed;
            reply.chunker.end();
        }
        self.reply = Some(reply);
    }

    pub(super) fn generation_due(reply: &Reply) -> Option<Time> {
        match reply.generating {
            Generating::Running { deadline, .. } => Some(deadline),
            Generating::Waiting { until } => Some(until),
            Generating::Done => None,
        }
    }

    pub(super) fn generation_timed_out(&mut self) {
        let Some(generating) = self.reply.as_ref().map(|reply| reply.generating) else {
            return;
        };
        let (reason, retry) = match generating {
            Generating::Running { id, .. } => {
                self.act(Action::CancelGeneration { id });
                ("it did not answer in time", true)
            }
            Generating::Waiting { .. } => ("it did not come back in time", false),
            Generating::Done => return,
        };
        let failure = StageFailure {
            backend: "llm".to_owned(),
            reason: reason.to_owned(),
            retry,
            retry_after_ms: 0,
        };
        self.generation_failed(&failure, ErrorCode::Timeout);
    }

    /// A language model is there again: what waited for it is asked.
    pub(super) fn model_ready(&mut self) {
        if let Some(mut reply) = self
            .reply
            .take_if(|reply| matches!(reply.generating, Generating::Waiting { .. }))
        {
            let not_before = self.not_before(0);
            self.ask_model(&mut reply, not_before);
            self.reply = Some(reply);
        }
    }

    /// The language model is gone. What was to be asked again later waits until there is one: asking nobody would cost one
    /// more of its tries. What it is being asked fails by itself.
    pub(super) fn model_lost(&mut self) {
        let patience = self.patience(BackendKind::Llm);
        let timeout = Duration::from_millis(self.settings.limits.llm_first_token_timeout_ms.into());
        let now = self.now;
        let Some(reply) = &mut self.reply else { return };
        // An answer is waited for from when it is asked for: that is still to come.
        if let Generating::Running { id, deadline } = reply.generating
            && deadline > now + timeout
        {
            reply.generating = Generating::Waiting { until: now + patience };
            self.act(Action::CancelGeneration { id });
        }
    }

    /// Does what the live reply is ready for; whether anything was done.
    pub(super) fn advance_reply(&mut self) -> bool {
        let Some(reply) = &self.reply else { return false };
        match reply.state {
            Response::Held if !reply.is_guess() && reply.generating == Generating::Done => return self.ask_approval(),
            Response::Held | Response::Stopping { .. } | Response::Over { .. } => return false,
            // The model ended without a word, or failed before its first.
            Response::Prepared if reply.generating == Generating::Done => {
                let status = reply.status;
                self.finish_reply(status);
                return true;
            }
            Response::Prepared => return false,
            Response::Live => {}
        }
        let (actions, synthesizing) = (self.actions.len(), reply.synthesizing.clone());
        if !self.is_far_ahead(reply) {
            self.synthesize_next();
        }
        self.play();
        let Some(reply) = &self.reply else { return true };
        if reply.generating == Generating::Done && !reply.audio_is_open() {
            let status = reply.status;
            self.finish_reply(status);
            return true;
        }
        self.actions.len() > actions
            || self
                .reply
                .as_ref()
                .is_some_and(|reply| reply.synthesizing != synthesizing)
    }

    /// Whether so much lies ready unplayed that the next clause can wait.
    fn is_far_ahead(&self, reply: &Reply) -> bool {
        let ready = reply.ledger.ready();
        match self.playout {
            Playout::Silent | Playout::Stopping { .. } => false,
            Playout::Asked { .. } => ready.duration() > LOOKAHEAD,
            // A wire that doesn't tell is taken to play.
            Playout::Playing { heard, told, .. } => {
                ready.saturating_sub(heard).duration() > LOOKAHEAD + self.now.since(told)
            }
        }
    }

    /// When enough will have been played that the next clause should be made; none when nothing is held back for that.
    pub(super) fn lookahead_at(&self, reply: &Reply) -> Option<Time> {
        let idle = reply.spoken && reply.state == Response::Live && reply.synthesizing == Synthesizing::Nothing;
        let Playout::Playing { heard, told, .. } = self.playout else {
            return None;
        };
        if !idle || reply.chunker.is_over() || !self.is_far_ahead(reply) {
            return None;
        }
        let unplayed = reply.ledger.ready().saturating_sub(heard).duration();
        Some(told + unplayed.saturating_sub(LOOKAHEAD))
    }

    /// Gives the next clause to the synthesiser, if there is one and the one before it is made.
    pub(super) fn synthesize_next(&mut self) {
        let Some(mut reply) = self.reply.take() else { return };
        if reply.spoken && reply.state == Response::Live && reply.synthesizing == Synthesizing::Nothing {
            if self.tell_missing(BackendKind::Tts) {
                self.mute(&mut reply);
            } else if let Some(clause) = reply.chunker.take() {
                if let Some(report) = &mut reply.report {
                    report.first_sentence.get_or_insert(self.now);
                }
                reply.ledger.begin(&clause);
                self.synthesize(&mut reply, Pii::new(clause), false, self.now);
            }
        }
        self.reply = Some(reply);
    }

    fn synthesize(&mut self, reply: &mut Reply, clause: Pii<String>, again: bool, not_before: Time) {
        if self.leases.is_away(BackendKind::Tts) {
            reply.synthesizing = Synthesizing::Waiting {
                clause,
                until: self.now + self.patience(BackendKind::Tts),
            };
            return;
        }
        let id = self.ids.synthesis;
        self.ids.synthesis = id.next();
        let timeout = Duration::from_millis(self.settings.limits.tts_first_audio_timeout_ms.into());
        reply.synthesizing = Synthesizing::Running {
            id,
            clause: clause.clone(),
            again,
            deadline: not_before + timeout,
        };
        self.act(Action::Synthesize {
            id,
            response: reply.id,
            text: clause,
            voice: reply.voice.clone(),
            not_before,
        });
    }

    pub(super) fn handle_tts(&mut self, id: SynthesisId, event: TtsProgress) {
        let timeout = Duration::from_millis(self.settings.limits.tts_first_audio_timeout_ms.into());
        let now = self.now;
        let running = self
            .reply
            .as_deref_mut()
            .and_then(|reply| match &mut reply.synthesizing {
                Synthesizing::Running {
                    id: running, deadline, ..
                } if *running == id => {
                    *deadline = now + timeout;
                    Some(())
                }
                _ => None,
            });
        let Some((reply, ())) = self.reply.as_deref_mut().zip(running) else {
            self.count_stale();
            return;
        };
        match event {
            TtsProgress::Audio { total } => {
                reply.ledger.audio(total.min(LONGEST_CLAUSE));
                if total > Samples::ZERO
                    && let Some(report) = &mut reply.report
                {
                    report.first_audio.get_or_insert(now);
                }
            }
            TtsProgress::Words { words } => reply.ledger.words(&words),
            TtsProgress::Done { total } => {
                reply.ledger.audio(total.min(LONGEST_CLAUSE));
                reply.ledger.complete();
                reply.synthesizing = Synthesizing::Nothing;
            }
            TtsProgress::Failed(failure) => self.clause_failed(&failure),
        }
        // What is known of the words may have changed what is known to have been heard of them.
        if let Playout::Playing { heard, .. } = self.playout
            && let Some(mut reply) = self.reply.take()
        {
            self.remember_heard(&mut reply, heard);
            self.reply = Some(reply);
        }
    }

    /// A clause failed: it is made again if none of it can have been heard; otherwise the reply goes on as text.
    fn clause_failed(&mut self, failure: &StageFailure) {
        // What was to take over does, if what failed is gone; but a reply has one voice.
        let another_voice = failure.retry && self.adopt(BackendKind::Tts);
        let voice = self.voice();
        let Some(mut reply) = self.reply.take() else { return };
        let voiced = reply.ledger.ready() > Samples::ZERO;
        if another_voice && !voiced {
            reply.voice = voice;
        }
        let reached = match self.playout {
            Playout::Playing { heard, told, .. } => heard + Samples::from_duration(self.now.since(told)),
            other => other.heard(),
        };
        let start = reply.ledger.last_start();
        let has_audio = reply.ledger.ready() > start;
        let unheard = !has_audio || reached <= start;
        match std::mem::replace(&mut reply.synthesizing, Synthesizing::Nothing) {
            Synthesizing::Running {
                id,
                clause,
                again: false,
                ..
            } if failure.retry && unheard && !(another_voice && voiced) => {
                if has_audio {
                    self.act(Action::CancelSynthesis { id });
                }
                reply.ledger.restart();
                let not_before = self.not_before(failure.retry_after_ms);
                self.synthesize(&mut reply, clause, true, not_before);
            }
            Synthesizing::Running { .. } | Synthesizing::Waiting { .. } | Synthesizing::Nothing => {
                self.emit(Event::Error(CallError {
                    code: ErrorCode::TtsFailed,
                    origin: Culprit::Backend,
                    retry: failure.retry,
                    message: format!("{} goes on as text: {}: {}", reply.id, failure.backend, failure.reason),
                }));
                self.mute(&mut reply);
            }
        }
        self.reply = Some(reply);
    }

    /// From here on the reply is text only.
    fn mute(&mut self, reply: &mut Reply) {
        reply.spoken = false;
        reply.synthesizing = Synthesizing::Nothing;
        self.remember_heard(reply, self.playout.heard());
    }

    pub(super) fn synthesis_due(reply: &Reply) -> Option<Time> {
        match &reply.synthesizing {
            Synthesizing::Running { deadline, .. } => Some(*deadline),
            Synthesizing::Waiting { until, .. } => Some(*until),
            Synthesizing::Nothing => None,
        }
    }

    pub(super) fn synthesis_timed_out(&mut self) {
        let (reason, running) = match self.reply.as_ref().map(|reply| &reply.synthesizing) {
            Some(Synthesizing::Running { id, .. }) => ("it gave no audio in time", Some(*id)),
            Some(Synthesizing::Waiting { .. }) => ("it did not come back in time", None),
            Some(Synthesizing::Nothing) | None => return,
        };
        if let Some(id) = running {
            self.act(Action::CancelSynthesis { id });
        }
        self.clause_failed(&StageFailure {
            backend: "tts".to_owned(),
            reason: reason.to_owned(),
            retry: running.is_some(),
            retry_after_ms: 0,
        });
    }

    /// A synthesiser is there again: the clause that waited for it is made.
    /// One with `another` voice doesn't go on with what the one before it began.
    pub(super) fn synthesiser_ready(&mut self, another: bool) {
        let voice = self.voice();
        let waits = |reply: &Reply| matches!(reply.synthesizing, Synthesizing::Waiting { .. });
        let Some(mut reply) = self.reply.take_if(|reply| waits(reply)) else {
            return;
        };
        if another && reply.ledger.ready() > Samples::ZERO {
            self.emit(Event::Error(CallError {
                code: ErrorCode::TtsFailed,
                origin: Culprit::Backend,
                retry: false,
                message: format!("{} goes on as text: the voice that it began with is gone", reply.id),
            }));
            self.mute(&mut reply);
        } else if let Synthesizing::Waiting { clause, .. } = &reply.synthesizing {
            if another {
                reply.voice = voice;
            }
            let clause = clause.clone();
            let not_before = self.not_before(0);
            self.synthesize(&mut reply, clause, true, not_before);
        }
        self.reply = Some(reply);
    }

    /// The synthesiser is gone. A clause that was to be made again later waits until there is one: asking nobody would cost
    /// its last try. One that is being made fails by itself.
    pub(super) fn synthesiser_lost(&mut self) {
        let patience = self.patience(BackendKind::Tts);
        let timeout = Duration::from_millis(self.settings.limits.tts_first_audio_timeout_ms.into());
        let now = self.now;
        let Some(reply) = &mut self.reply else { return };
        if let Synthesizing::Running {
            id, clause, deadline, ..
        } = &reply.synthesizing
            && *deadline > now + timeout
        {
            let (id, clause) = (*id, clause.clone());
            reply.synthesizing = Synthesizing::Waiting {
                clause,
                until: now + patience,
            };
            self.act(Action::CancelSynthesis { id });
        }
    }

    /// None is coming: what waited for it goes on as text.
    pub(super) fn synthesiser_missing(&mut self) {
        let Some(mut reply) = self.reply.take() else { return };
        if matches!(reply.synthesizing, Synthesizing::Waiting { .. }) {
            self.tell_missing(BackendKind::Tts);
            self.mute(&mut reply);
        }
        self.reply = Some(reply);
    }

    /// Ends the reply early.
    pub(super) fn stop_reply(&mut self, status: ResponseStatus) {
        let Some(mut reply) = self
            .reply
            .take_if(|reply| !matches!(reply.state, Response::Stopping { .. }))
        else {
            return;
        };
        if let Generating::Running { id, .. } = reply.generating {
            self.act(Action::CancelGeneration { id });
        }
        reply.generating = Generating::Done;
        if let Synthesizing::Running { id, .. } = reply.synthesizing {
            self.act(Action::CancelSynthesis { id });
        }
        reply.synthesizing = Synthesizing::Nothing;
        let playing = self.playout.response() == Some(reply.id);
        let effect = reply.state.handle(ResponseEvent::Stop { status, playing });
        self.follow_response(reply, effect);
    }

    /// Everything of the reply has been done.
    fn finish_reply(&mut self, status: ResponseStatus) {
        let Some(mut reply) = self.reply.take() else { return };
        let effect = reply.state.handle(ResponseEvent::Finish { status });
        self.follow_response(reply, effect);
    }

    fn follow_response(&mut self, mut reply: Box<Reply>, effect: ResponseEffect) {
        match effect {
            ResponseEffect::Forget => {
                let report = reply.report.take().map(|report| TurnReport {
                    response: None,
                    ..report
                });
                self.emit_report(report);
            }
            ResponseEffect::Silence => {
                self.reply = Some(reply);
                self.handle_playout(PlayoutInput::Stop(self.now + STOP_WAIT));
            }
            ResponseEffect::End(status) => self.conclude(reply, status),
            ResponseEffect::AnnounceAndEnd(status) => {
                self.counts.responses += 1;
                self.emit(Event::ResponseStarted {
                    response: reply.id,
                    turn: reply.turn,
                });
                self.conclude(reply, status);
            }
            ResponseEffect::None | ResponseEffect::Announce => self.reply = Some(reply),
        }
    }

    /// Tells how a reply has ended. It is the last thing that is told of it.
    pub(super) fn conclude(&mut self, mut reply: Box<Reply>, status: ResponseStatus) {
        let heard_audio = reply.heard;
        self.remember_heard(&mut reply, heard_audio);
        self.raise(false);
        self.emit_report(reply.report.take());
        let heard = reply.heard_text(heard_audio);
        self.emit(Event::ResponseDone {
            response: reply.id,
            status,
            heard: Pii::new(heard),
            heard_audio,
            item: reply.item,
            text: reply.text,
        });
        self.last_activity = self.now;
    }
}
