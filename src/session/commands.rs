//! The session is asked: commands of the client, and what becomes of backends.

use super::Action;
use super::call::{Call, CallEvent};
use super::core::{MAX_SAYS, Owed, Session};
use super::listening::Said;
use super::recognition::count_chars;
use super::reply::Generating;
use crate::call::{
    BackendKind, Command, ErrorCode, Event, HistoryEdit, ResponseStatus, Role, Say, Settings, SettingsUpdate,
    ToolOutput, TurnDetection, TurnReport,
};
use crate::pii::Pii;

impl Session {
    pub(super) fn handle_command(&mut self, command: Command) {
        if command == Command::Bye {
            self.handle_call(CallEvent::Bye);
            return;
        }
        if !self.call.is_open() {
            self.refuse(ErrorCode::InvalidState, "the call is not connected yet".to_owned());
            return;
        }
        match command {
            Command::Update(update) => self.update(*update),
            Command::Say(say) => self.say(say),
            Command::Text { text } => self.text(text),
            Command::Commit => {
                if self.turn.open().is_some() {
                    self.end_turn(true);
                } else {
                    self.refuse(ErrorCode::InvalidState, "nothing to commit: no turn is open".to_owned());
                }
            }
            Command::Respond => self.respond(),
            Command::Cancel { response } => {
                // Of one that was prepared on a guess nobody knows, so nobody can mean it.
                let meant = self
                    .reply
                    .as_ref()
                    .is_some_and(|reply| !reply.is_guess() && response.is_none_or(|response| response == reply.id));
                if meant {
                    self.stop_reply(ResponseStatus::Cancelled);
                } else if response.is_none() {
                    let owed = self.owed.take();
                    self.emit_report(owed.and_then(|owed| owed.report));
                }
            }
            Command::Clear => self.clear_turn(),
            Command::Dtmf { digit } => self.press(digit),
            Command::Progress(progress) => self.emit(Event::Progress(progress)),
            Command::ToolOutput(output) => self.tool_output(output),
            Command::Edit(edit) => self.edit(edit),
            Command::Switch(request) => self.switch(*request),
            Command::CancelSwitch { kind } => self.cancel_switch(kind),
            Command::Promote { kind } => self.promote_shadow(kind),
            Command::Approve { response } => self.approve(response),
            Command::Status => {
                let status = self.status();
                self.emit(Event::Status(Box::new(status)));
            }
            Command::Bye => {}
        }
    }

    /// Refuses what would begin something new while the call is going away; whether it did.
    fn refuse_when_draining(&mut self) -> bool {
        let draining = self.call != Call::Live;
        if draining {
            self.refuse(
                ErrorCode::InvalidState,
                "the call is going away: nothing new is begun".to_owned(),
            );
        }
        draining
    }

    /// Refuses a text that is too long, or without a word; whether it did.
    fn refuse_text(&mut self, field: &str, text: &Pii<String>) -> bool {
        let most = self.settings.limits.max_text_chars;
        if count_chars(text.expose()) > most {
            self.refuse(
                ErrorCode::TooLarge,
                format!("{field} is longer than limits.max_text_chars, {most} characters"),
            );
            return true;
        }
        if text.expose().trim().is_empty() {
            self.refuse(ErrorCode::InvalidValue, format!("{field} is empty"));
            return true;
        }
        false
    }

    fn say(&mut self, say: Say) {
        if self.refuse_when_draining() || self.refuse_text("say.text", &say.text) {
            return;
        }
        if self.says.len() == MAX_SAYS {
            self.refuse(
                ErrorCode::TooLarge,
                format!("{MAX_SAYS} replies are waiting to be said already"),
            );
            return;
        }
        if say.interrupt {
            self.stop_reply(ResponseStatus::Cancelled);
            self.says.push_front(say);
        } else {
            self.discard_held();
            self.says.push_back(say);
        }
    }

    pub(super) fn text(&mut self, text: Pii<String>) {
        if self.refuse_when_draining() || self.refuse_text("text", &text) {
            return;
        }
        let turn = self.ids.turn;
        self.ids.turn = turn.next();
        self.counts.turns += 1;
        let report = TurnReport {
            turn,
            response: None,
            speech_end: self.now,
            endpoint: self.now,
            final_transcript: Some(self.now),
            first_token: None,
            first_sentence: None,
            first_audio: None,
            first_sent: None,
        };
        self.answer(Said {
            turn,
            text,
            report,
            spoken: false,
            interrupts: true,
        });
    }

    fn respond(&mut self) {
        if self.refuse_when_draining() {
            return;
        }
        if self.reply.as_ref().is_some_and(|reply| !reply.is_guess()) {
            self.refuse(ErrorCode::InvalidState, "a response is live already".to_owned());
            return;
        }
        self.discard_held();
        if !self.leases.of(BackendKind::Llm).held {
            self.acquire(BackendKind::Llm);
        }
        match &mut self.owed {
            Some(owed) => owed.now = true,
            None => {
                self.owed = Some(Owed {
                    turn: None,
                    report: None,
                    now: true,
                });
            }
        }
    }

    fn tool_output(&mut self, output: ToolOutput) {
        let most = self.settings.limits.max_text_chars;
        if count_chars(output.output.expose()) > most {
            self.refuse(
                ErrorCode::TooLarge,
                format!("tool_output.output is longer than limits.max_text_chars, {most} characters"),
            );
            return;
        }
        let Some(index) = self.open_calls.iter().position(|call| *call == output.call_id) else {
            self.refuse(
                ErrorCode::InvalidValue,
                "tool_output.call_id names no call that is waiting for its result".to_owned(),
            );
            return;
        };
        self.open_calls.remove(index);
        self.history.push(
            Role::Tool,
            output.output,
            Some(output.call_id),
            self.settings.limits.max_history_items,
        );
        self.answer_calls |= output.respond;
        if self.open_calls.is_empty() && std::mem::take(&mut self.answer_calls) && self.owed.is_none() {
            self.owed = Some(Owed::default());
        }
    }

    fn edit(&mut self, edit: HistoryEdit) {
        match edit {
            HistoryEdit::Delete { item } => {
                if !self.history.delete(item) {
                    self.refuse(ErrorCode::InvalidValue, format!("{item} is not in the history"));
                    return;
                }
            }
            HistoryEdit::Clear => {
                self.history.clear();
                self.open_calls.clear();
                self.answer_calls = false;
            }
            HistoryEdit::Rollback => self.history.rollback(),
            HistoryEdit::Append { role, text } => {
                if self.refuse_text("edit.text", &text) {
                    return;
                }
                if role == Role::Tool {
                    self.refuse(
                        ErrorCode::InvalidValue,
                        "edit.role is tool: a tool's result is given with tool_output".to_owned(),
                    );
                    return;
                }
                self.history
                    .push(role, text, None, self.settings.limits.max_history_items);
            }
        }
        let items = self.history.items().len() as u64;
        self.emit(Event::HistoryEdited { items });
    }

    /// Changes settings. The open turn and the live response go on with what they began with.
    fn update(&mut self, update: SettingsUpdate) {
        let mut settings = self.settings.clone();
        let SettingsUpdate {
            instructions,
            voice,
            language,
            stages,
            turn_detection,
            speech,
            endpointing,
            barge_in,
            tools,
            temperature_milli,
            approval,
        } = update;
        fn replace<T>(target: &mut T, value: Option<T>) {
            if let Some(value) = value {
                *target = value;
            }
        }
        replace(&mut settings.instructions, instructions);
        replace(&mut settings.stages, stages);
        replace(&mut settings.turn_detection, turn_detection);
        replace(&mut settings.speech, speech);
        replace(&mut settings.endpointing, endpointing);
        replace(&mut settings.barge_in, barge_in);
        replace(&mut settings.tools, tools);
        replace(&mut settings.approval, approval);
        settings.voice = voice.or(settings.voice);
        settings.language = language.or(settings.language);
        settings.temperature_milli = temperature_milli.or(settings.temperature_milli);
        if count_chars(settings.instructions.expose()) > settings.limits.max_text_chars {
            self.refuse(
                ErrorCode::TooLarge,
                format!(
                    "instructions are longer than limits.max_text_chars, {} characters",
                    settings.limits.max_text_chars
                ),
            );
            return;
        }
        if let Err(error) = settings.validate() {
            self.refuse(ErrorCode::InvalidValue, error.to_string());
            return;
        }
        self.settings = settings;
        self.update_leases();
        self.emit(Event::Updated);
    }

    /// Which backends these settings need.
    fn needs(settings: &Settings, kind: BackendKind) -> bool {
        let (stages, server) = (settings.stages, settings.turn_detection == TurnDetection::Server);
        match kind {
            BackendKind::Vad => server && (stages.stt || stages.tts),
            BackendKind::Turn => server && stages.stt,
            BackendKind::Stt => stages.stt,
            BackendKind::Llm => stages.llm,
            BackendKind::Tts => stages.tts,
        }
    }

    /// Leases what is needed, and gives back what isn't and nothing open uses.
    pub(super) fn update_leases(&mut self) {
        self.leases_due = false;
        for kind in BackendKind::ALL {
            let (held, needed) = (self.leases.of(kind).held, Self::needs(&self.settings, kind));
            if needed && !held {
                self.acquire(kind);
            } else if held && !needed {
                if self.uses(kind) {
                    self.leases_due = true;
                } else {
                    self.release(kind);
                }
            }
        }
    }

    /// Whether something that is open needs this backend still. Its lease is then kept until that is over.
    fn uses(&self, kind: BackendKind) -> bool {
        match kind {
            BackendKind::Vad | BackendKind::Turn => self
                .turn
                .open()
                .is_some_and(|open| open.detection == TurnDetection::Server),
            BackendKind::Stt => self.turn.open().is_some() || !self.endings.is_empty(),
            BackendKind::Llm => {
                self.owed.is_some()
                    || self
                        .reply
                        .as_ref()
                        .is_some_and(|reply| reply.generating != Generating::Done)
            }
            BackendKind::Tts => self.reply.as_ref().is_some_and(|reply| reply.spoken),
        }
    }

    fn acquire(&mut self, kind: BackendKind) {
        let lease = self.leases.of_mut(kind);
        *lease = super::leases::Lease {
            held: true,
            ..Default::default()
        };
        self.act(Action::Acquire { kind });
    }

    fn release(&mut self, kind: BackendKind) {
        *self.leases.of_mut(kind) = super::leases::Lease::default();
        self.act(Action::Release { kind });
    }

    pub(super) fn release_all(&mut self) {
        for kind in BackendKind::ALL {
            if self.leases.of(kind).held {
                self.release(kind);
            }
        }
    }
}
