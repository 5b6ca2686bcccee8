//! What a caller says, and what becomes of it: transcripts go out, replies are asked for, looked through for calls of tools, told and
//! spoken. The latest wins.

use std::time::Duration;

use repartee_protocol::ava::{
    AudioMode, Capability, Cause, Gateway, GatewayInput, LlmResponse, LlmToolResponse, Mode, Policy, RequestId,
    SttResult, ToolChoice, ToolContext, ToolResult, Verdict, farewell, looks_like_tool_output, strip_markup, texts,
};
use serde_json::json;

use super::answers::{message, thousandths};
use super::connection::{Connection, End};
use super::jobs::Done;
use super::live::Then;
use super::speaker::Stretch;
use crate::call::{
    BackendKind, CallError, CloseReason, Command, ErrorCode, Event, HistoryEdit, ResponseStatus, Role, Say,
    SettingsUpdate, ToolCall,
};
use crate::engine::OutFrame;
use crate::id::ResponseId;
use crate::pii::Pii;
use crate::time::Time;

/// The tool that ends a call.
const HANGUP: &str = "hangup_call";

/// What the language model was asked.
pub(super) struct Asked {
    user_text: String,
    at: Time,
    /// When it is given up; none: its words have come.
    pub(super) until: Option<Time>,
    /// It is spoken while it is thought.
    pub(super) overlaps: bool,
    /// What went wrong, as what is said instead.
    failure: Option<&'static str>,
    /// It looked like a call while it was spoken: it must be looked through as a whole.
    is_serial: bool,
    /// This one is being looked through for calls of tools.
    gating: Option<(ResponseId, String)>,
}

impl Connection {
    /// Takes a frame; answers what leaves now.
    fn take_frame(&mut self, frame: &OutFrame) -> Vec<Stretch> {
        let output = self.output;
        match &mut self.live {
            Some(live)
                if !live.is_deaf()
                    && frame
                        .response
                        .is_some_and(|response| live.told.get(&response).is_some_and(|told| !told.dead)) =>
            {
                let now = live.clock.now();
                live.speaker.frame(now, frame, output)
            }
            _ => Vec::new(),
        }
    }

    pub(super) async fn frame(&mut self, frame: &OutFrame) -> Result<(), End> {
        // This wire is silent where nobody speaks.
        let Some(response) = frame.response else { return Ok(()) };
        // What was told of a response before its first frame is heard before that.
        while let Some(live) = &mut self.live
            && live.told.get(&response).is_none_or(|told| told.is_reply.is_none())
        {
            let Some(event) = live.next_event() else { break };
            self.event(event).await?;
        }
        let leaving = self.take_frame(frame);
        self.speak(leaving).await
    }

    /// A response has no more frames: those that have come leave.
    async fn finish_audio(&mut self) -> Result<(), End> {
        let mut leaving = Vec::new();
        while let Some(frame) = self.live.as_mut().and_then(|live| live.next_frame()) {
            leaving.extend(self.take_frame(&frame));
        }
        leaving.extend(self.live.as_mut().and_then(|live| {
            let now = live.clock.now();
            live.speaker.finish(now)
        }));
        self.speak(leaving).await
    }

    pub(super) async fn event(&mut self, event: Event) -> Result<(), End> {
        let Some(live) = &mut self.live else { return Ok(()) };
        match event {
            Event::SpeechStarted { .. } => {
                live.turn_is_open = true;
                live.idle = false;
                live.last_partial.clear();
            }
            Event::SpeechStopped { .. } => live.turn_is_open = false,
            Event::Transcript {
                text, is_final: false, ..
            } if live.last_partial != *text.expose() => {
                live.last_partial.clone_from(text.expose());
                let backend = self.ava.control().with(|selection| selection.stt.backend);
                let partial = SttResult::partial(&self.call_id, self.mode, backend, text.expose())
                    .with_request(self.audio_request.clone());
                return self.send(partial).await;
            }
            Event::Transcript { is_final: false, .. } => {}
            Event::Transcript { text, .. } => {
                let idle = live.idle;
                return self.final_text(text.expose(), idle).await;
            }
            Event::ResponsePrepared {
                response, text, calls, ..
            } => return self.prepared(response, text.expose(), &calls).await,
            Event::ResponseStarted { response, .. } => live.started(response),
            Event::ResponseText { response, delta } if live.text(response, delta.expose()) => {
                return self.more_text(response).await;
            }
            Event::AudioDone { .. } => return self.finish_audio().await,
            Event::ResponseDone {
                response,
                status,
                text,
                heard,
                ..
            } => {
                return self
                    .response_done(response, status, text.expose(), heard.expose())
                    .await;
            }
            Event::Status(status) => {
                live.state_told(status.response);
                self.do_then();
            }
            Event::Error(error) => self.failed(&error),
            Event::Closed { reason } => {
                self.live = None;
                if reason == CloseReason::Drained {
                    return Err(End::Told(1001, "the server is going away"));
                }
            }
            _ => {}
        }
        Ok(())
    }

    async fn final_text(&mut self, text: &str, idle: bool) -> Result<(), End> {
        let cause = if idle { Cause::Idle } else { Cause::Speech };
        let now = self.now().since(Time::ZERO);
        let verdict = self.finals.judge(now, self.mode, cause, text);
        if verdict == Verdict::Drop {
            return Ok(());
        }
        let text = if verdict == Verdict::SendEmpty { "" } else { text };
        tracing::info!(
            "STT FINAL call_id={} mode={} preview={}",
            self.call_id,
            self.mode,
            self.ava.preview(text)
        );
        let backend = self.ava.control().with(|selection| selection.stt.backend);
        let result = SttResult::last(&self.call_id, self.mode, backend, text).with_request(self.audio_request.clone());
        self.send(result).await?;
        if verdict == Verdict::Answer {
            self.conversation.push(Role::User, text);
            self.answer(text).await?;
        }
        Ok(())
    }

    /// What is under way for an earlier reply is called off.
    fn begin_reply(&mut self) {
        self.replies += 1;
        self.asked = None;
        for job in self.reply_jobs.drain(..) {
            job.abort();
        }
        if let Some(live) = &mut self.live {
            live.hush();
        }
    }

    async fn answer(&mut self, user_text: &str) -> Result<(), End> {
        self.begin_reply();
        if self.ava.is_minimal() || self.ava.lacks(BackendKind::Llm) {
            return self.say_instead(texts::NO_MODEL).await;
        }
        let at = self.now();
        self.asked = Some(Asked {
            user_text: user_text.to_owned(),
            at,
            until: Some(at + self.ava.llm_limit() + Duration::from_millis(250)),
            overlaps: false,
            failure: None,
            is_serial: false,
            gating: None,
        });
        if let Some(live) = &mut self.live {
            live.then(Then::Respond);
        }
        self.do_then();
        self.begin_filler();
        Ok(())
    }

    /// Speaks something to bridge the wait, where that is wanted. It goes past the session, which has one reply at a time.
    fn begin_filler(&mut self) {
        let wanted = self
            .ava
            .control()
            .with(|selection| selection.runtime.enable_filler_audio);
        let phrases = &self.ava.server().filler_phrases;
        if !wanted || self.mode != Mode::Full || phrases.is_empty() {
            return;
        }
        let number = self.replies;
        let index = usize::try_from(number).unwrap_or(0) % phrases.len();
        let (ava, call_id, output, phrase) = (
            self.ava.clone(),
            self.call_id.clone(),
            self.output,
            phrases[index].clone(),
        );
        let job = self.jobs.begin(|outbox| async move {
            let audio = ava.spoken(&call_id, &phrase, output).await;
            outbox.put(Done::Filler(number, output, audio)).await;
        });
        self.reply_jobs.extend(job);
    }

    /// Does what waited for a quiet point.
    pub(super) fn do_then(&mut self) {
        while let Some(then) = self.live.as_mut().and_then(|live| live.next_then()) {
            match then {
                Then::RollBack => {
                    self.conversation.roll_back();
                    if let Some(live) = &self.live {
                        live.command(Command::Edit(HistoryEdit::Rollback));
                    }
                }
                Then::Respond => self.respond(),
                Then::Say { text, mode } => {
                    let Some(live) = &mut self.live else { return };
                    live.saying(text.clone(), mode);
                    live.command(Command::Say(Say {
                        text,
                        interrupt: false,
                        interruptible: false,
                        remember: true,
                    }));
                }
            }
        }
    }

    fn respond(&mut self) {
        let context = self.tools.of_call(&self.call_id);
        let (Some(asked), Some(live)) = (&mut self.asked, &self.live) else {
            return;
        };
        let (wanted, temperature) = self
            .ava
            .control()
            .with(|selection| (selection.runtime.llm_streaming_tts_overlap, selection.llm.temperature));
        let may_overlap = wanted && !asked.is_serial && self.mode == Mode::Full;
        asked.overlaps = may_overlap && !context.blocks_streaming(&asked.user_text);
        let instructions = self
            .ava
            .system_prompt(self.prompt.as_ref(), self.interrupted, asked.overlaps);
        live.command(Command::Update(Box::new(SettingsUpdate {
            instructions: Some(Pii::new(instructions)),
            approval: Some(!asked.overlaps),
            temperature_milli: Some(thousandths(temperature)),
            ..SettingsUpdate::default()
        })));
        live.command(Command::Respond);
    }

    /// The language model has not answered in time.
    pub(super) async fn give_up_late(&mut self) -> Result<(), End> {
        let now = self.now();
        let late = self
            .asked
            .as_ref()
            .and_then(|asked| asked.until)
            .is_some_and(|until| now >= until);
        if late {
            self.begin_reply();
            self.say_instead(texts::TOO_SLOW).await?;
        }
        Ok(())
    }

    /// The reply where there is none.
    async fn say_instead(&mut self, text: &str) -> Result<(), End> {
        self.asked = None;
        let gated = self.has_tools();
        let reply = LlmResponse::spoken(&self.call_id, text);
        self.send(if gated { reply.gated() } else { reply }).await?;
        self.say(text, AudioMode::Full);
        Ok(())
    }

    fn has_tools(&mut self) -> bool {
        let context = self.tools.of_call(&self.call_id);
        !context.allowed.is_empty() && context.policy != Policy::Off
    }

    /// Lets the session say this, at the next quiet point.
    fn say(&mut self, text: &str, mode: AudioMode) {
        if !self.ensure_live() {
            return;
        }
        if let Some(live) = &mut self.live {
            live.then(Then::Say {
                text: Pii::from(text),
                mode,
            });
        }
        self.do_then();
    }

    fn failed(&mut self, error: &CallError) {
        tracing::warn!("{} call_id={}", error.message, self.call_id);
        let Some(asked) = self.asked.as_mut().filter(|asked| asked.until.is_some()) else {
            return;
        };
        match error.code {
            ErrorCode::Timeout => asked.failure = Some(texts::TOO_SLOW),
            ErrorCode::LlmFailed | ErrorCode::BackendMissing => asked.failure = Some(texts::NO_MODEL),
            _ => {}
        }
    }

    /// The language model has finished a reply that nobody has heard yet.
    async fn prepared(&mut self, response: ResponseId, text: &str, calls: &[ToolCall]) -> Result<(), End> {
        let Some(live) = self.live.as_ref().filter(|live| !live.is_deaf()) else {
            return Ok(());
        };
        let Some(asked) = &mut self.asked else {
            live.command(Command::Cancel {
                response: Some(response),
            });
            return Ok(());
        };
        asked.until = None;
        let took = self.ava.control().clock.now().since(asked.at).as_millis();
        tracing::info!("LLM RESULT call_id={} Completed in {took} ms", self.call_id);
        let written = with_calls(text, calls);
        let user_text = asked.user_text.clone();
        asked.gating = Some((response, written.clone()));
        let context = self.tools.of_call(&self.call_id).clone();
        if context.allowed.is_empty() || context.policy == Policy::Off {
            let clean = strip_markup(&written, &context.allowed);
            return self.tell_and_speak(response, &written, &clean).await;
        }
        let gateway = self.gateway(&written, &user_text, &context, ToolChoice::Auto);
        if gateway.needs().is_none() {
            let found = gateway.finish(&self.call_id, None);
            return self.found(response, found).await;
        }
        let (ava, call_id) = (self.ava.clone(), self.call_id.clone());
        let unasked = gateway.clone();
        let job = self.jobs.begin(|outbox| async move {
            let found = ava.gated(gateway, &call_id, None).await;
            outbox.put(Done::Gated(response, Box::new(found))).await;
        });
        if job.is_none() {
            let found = unasked.finish(&self.call_id, None);
            return self.found(response, found).await;
        }
        self.reply_jobs.extend(job);
        Ok(())
    }

    pub(super) fn gateway(&self, text: &str, user_text: &str, context: &ToolContext, choice: ToolChoice) -> Gateway {
        Gateway::new(GatewayInput {
            text,
            user_text,
            context,
            choice,
            may_ask: self.ava.server().tool_gateway,
            capability: Capability::Unknown,
        })
    }

    /// It is known which tools a reply calls.
    pub(super) async fn found(&mut self, response: ResponseId, found: LlmToolResponse) -> Result<(), End> {
        let Some(asked) = self.asked.as_mut() else {
            return Ok(());
        };
        let Some((_, written)) = asked.gating.take_if(|(gating, _)| *gating == response) else {
            return Ok(());
        };
        if found.tool_calls.is_empty() {
            return self.tell_and_speak(response, &written, &found.text).await;
        }
        self.asked = None;
        self.interrupted = false;
        if let Some(live) = &self.live {
            live.command(Command::Cancel {
                response: Some(response),
            });
            if !found.text.trim().is_empty() {
                live.command(Command::Edit(HistoryEdit::Append {
                    role: Role::Assistant,
                    text: Pii::from(found.text.as_str()),
                }));
            }
        }
        self.conversation.push(Role::Assistant, &found.text);
        self.send(found.unasked()).await
    }

    /// A reply without calls: its words are told, then it is spoken.
    async fn tell_and_speak(&mut self, response: ResponseId, written: &str, clean: &str) -> Result<(), End> {
        let clean = clean.trim();
        let as_written = clean == written.trim();
        if !as_written || clean.is_empty() {
            if let Some(live) = &self.live {
                live.command(Command::Cancel {
                    response: Some(response),
                });
            }
            if clean.is_empty() {
                return self.say_instead(texts::NOTHING_SAID).await;
            }
        }
        let gated = self.has_tools();
        let reply = LlmResponse::spoken(&self.call_id, clean);
        self.send(if gated { reply.gated() } else { reply }).await?;
        self.interrupted = false;
        if as_written {
            if let Some(live) = &self.live {
                live.command(Command::Approve { response });
            }
        } else {
            self.asked = None;
            self.say(clean, AudioMode::Full);
        }
        Ok(())
    }

    /// More words of a reply that is spoken while it is thought. Calls of tools are never spoken.
    async fn more_text(&mut self, response: ResponseId) -> Result<(), End> {
        let allowed = self.tools.of_call(&self.call_id).allowed.clone();
        let (Some(live), Some(asked)) = (&mut self.live, &mut self.asked) else {
            return Ok(());
        };
        let Some(told) = live
            .told
            .get_mut(&response)
            .filter(|told| told.is_reply == Some(true) && asked.overlaps)
        else {
            return Ok(());
        };
        asked.until = None;
        if !told.text.contains(['<', '{']) && !looks_like_tool_output(&told.text, &allowed) {
            return Ok(());
        }
        if !told.voiced {
            // Nothing of it was heard: it is asked for once more, to be looked through as a whole.
            asked.is_serial = true;
            asked.until = Some(self.ava.control().clock.now() + self.ava.llm_limit());
            live.hush();
            live.then(Then::Respond);
            self.do_then();
            return Ok(());
        }
        told.dead = true;
        let clean = strip_markup(&told.text, &allowed);
        live.speaker.clear();
        live.command(Command::Cancel {
            response: Some(response),
        });
        self.asked = None;
        self.interrupted = false;
        let clean = match clean.trim() {
            "" => texts::NOTHING_SAID,
            clean => clean,
        };
        let gated = self.has_tools();
        let reply = LlmResponse::spoken(&self.call_id, clean);
        self.send(if gated { reply.gated() } else { reply }).await
    }

    async fn response_done(
        &mut self,
        response: ResponseId,
        status: ResponseStatus,
        text: &str,
        heard: &str,
    ) -> Result<(), End> {
        let is_speaking = self
            .live
            .as_ref()
            .is_some_and(|live| live.told.get(&response).is_some_and(|told| !told.dead));
        if is_speaking {
            self.finish_audio().await?;
        }
        let Some(told) = self.live.as_mut().and_then(|live| live.over(response)) else {
            self.do_then();
            return Ok(());
        };
        self.conversation.push(Role::Assistant, heard);
        let is_answer = !told.dead && told.is_reply != Some(false);
        if is_answer && let Some(asked) = self.asked.take() {
            if text.trim().is_empty() {
                self.say_instead(asked.failure.unwrap_or(texts::NOTHING_SAID)).await?;
            } else {
                self.interrupted = false;
                let is_whole = matches!(status, ResponseStatus::Completed | ResponseStatus::Failed);
                if asked.overlaps && is_whole {
                    self.utterances += 1;
                    let took = self.ava.control().clock.now().since(asked.at).as_millis();
                    tracing::info!("LLM RESULT call_id={} Completed in {took} ms", self.call_id);
                    let allowed = self.tools.of_call(&self.call_id).allowed.clone();
                    let clean = strip_markup(text, &allowed);
                    let clean = if clean.trim().is_empty() { text } else { clean.as_str() };
                    let reply = LlmResponse::spoken(&self.call_id, clean.trim());
                    let gated = self.has_tools();
                    self.send(if gated { reply.gated() } else { reply }).await?;
                }
            }
        }
        self.do_then();
        Ok(())
    }

    pub(super) async fn tool_result(&mut self, result: ToolResult, request_id: Option<RequestId>) -> Result<(), End> {
        self.output = self.output.after(result.output);
        self.begin_reply();
        if result.tool_name.eq_ignore_ascii_case(HANGUP) && !result.is_error {
            let text = farewell(&result.result);
            let reply = LlmResponse::farewell(&self.call_id, &text).with_request(request_id);
            self.send(reply).await?;
            self.say(&text, AudioMode::ToolResult);
            return Ok(());
        }
        let system = self.ava.system_prompt(self.prompt.as_ref(), self.interrupted, false);
        let mut messages = vec![message(Role::System, system)];
        let before = self.conversation.messages();
        messages.extend(before.map(|(role, text)| message(*role, text.expose().as_str())));
        let asking = texts::about_result(&result.tool_name, &result.result, result.is_error);
        messages.push(message(Role::User, asking));
        let prompt = self.ava.prompt(messages);
        let conversation = self.live.as_ref().map(|live| live.id);
        let (ava, call_id, number) = (self.ava.clone(), self.call_id.clone(), self.replies);
        let kept_id = request_id.clone();
        let job = self.jobs.begin(|outbox| async move {
            let text = match ava.answered(&call_id, &prompt, conversation, |_| {}).await {
                Ok(text) => text,
                Err(texts::TOO_SLOW) => texts::RESULT_TOO_SLOW.to_owned(),
                Err(_) => texts::RESULT_FAILED.to_owned(),
            };
            outbox.put(Done::AboutResult(number, kept_id, text)).await;
        });
        if job.is_none() {
            return self.about_result(request_id, texts::RESULT_TOO_SLOW).await;
        }
        self.reply_jobs.extend(job);
        Ok(())
    }

    /// The words about a tool's result are there.
    pub(super) async fn about_result(&mut self, request_id: Option<RequestId>, text: &str) -> Result<(), End> {
        let clean = strip_markup(text, &self.tools.of_call(&self.call_id).allowed);
        let clean = match clean.trim() {
            "" => texts::RESULT_FAILED,
            clean => clean,
        };
        self.interrupted = false;
        let reply = LlmResponse::about_result(&self.call_id, clean).with_request(request_id);
        self.send(reply).await?;
        self.say(clean, AudioMode::ToolResult);
        Ok(())
    }
}

/// A reply with the calls that the model made in its own form, in the form that the gateway reads.
fn with_calls(text: &str, calls: &[ToolCall]) -> String {
    let mut written = text.to_owned();
    for call in calls {
        let arguments = serde_json::from_str(call.arguments.expose()).unwrap_or_else(|_| json!({}));
        let call = json!({ "name": call.name, "arguments": arguments });
        written.push_str(&format!("\n<tool_call>{call}</tool_call>"));
    }
    written
}
