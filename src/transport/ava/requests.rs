//! Requests that are answered by a job, and what the jobs have ready.

use repartee_protocol::ava::{
    AudioMode, Backends, LlmRequest, LlmResponse, LlmToken, LlmToolRequest, Reply, Request, RequestId, Speaker,
    SwitchResponse, TtsAudio, TtsRequest, TtsResponse, backend_schema, texts,
};

use super::answers::message;
use super::connection::{Connection, End};
use super::jobs::Done;
use crate::call::Role;

impl Connection {
    pub(super) async fn done(&mut self, done: Done) -> Result<(), End> {
        match done {
            Done::Reply(reply) => self.send(reply).await,
            Done::Gated(response, found) => self.found(response, *found).await,
            Done::AboutResult(number, request_id, text) if number == self.replies => {
                self.about_result(request_id, &text).await
            }
            Done::Filler(number, output, audio) if number == self.replies && self.asked.is_some() => {
                // Once the reply is heard nothing has to be bridged.
                let is_heard = self
                    .live
                    .as_ref()
                    .is_some_and(|live| live.told.values().any(|told| !told.dead));
                match TtsAudio::new(&self.call_id, AudioMode::Filler, output, audio) {
                    Some(audio) if !is_heard => self.send_audio(audio).await,
                    _ => Ok(()),
                }
            }
            Done::AboutResult(..) | Done::Filler(..) => Ok(()),
        }
    }

    pub(super) async fn tts_request(&mut self, request: &TtsRequest, id: Option<RequestId>) -> Result<(), End> {
        self.output = self.output.after(request.output);
        let (ava, call_id, output) = (self.ava.clone(), self.call_id.clone(), self.output);
        let (text, request_id) = (request.text.clone(), id.clone());
        let begun = self.jobs.begin(|outbox| async move {
            let audio = ava.spoken(&call_id, text.expose(), output).await;
            let response = TtsResponse::new(&call_id, text.expose(), output, &audio, request_id);
            outbox.put(Done::Reply(response.into())).await;
        });
        if begun.is_none() {
            tracing::warn!(
                "too many texts wait to be spoken; one is answered with silence call_id={}",
                self.call_id
            );
            let silence = TtsResponse::new(&self.call_id, request.text.expose(), output, &[], id);
            return self.send(silence).await;
        }
        Ok(())
    }

    /// Who asks once more doesn't want the answer before: some clients take the first that comes.
    pub(super) async fn llm_request(&mut self, request: LlmRequest, id: Option<RequestId>) -> Result<(), End> {
        if let Some(before) = self.llm_job.take() {
            before.abort();
        }
        let history = request.history();
        let given = history.iter().find(|message| message.speaker == Speaker::System);
        let own = given.map(|message| &message.text).or(self.prompt.as_ref());
        let mut messages = vec![message(Role::System, self.ava.system_prompt(own, false, false))];
        for past in history {
            let role = match past.speaker {
                Speaker::System => continue,
                Speaker::User => Role::User,
                Speaker::Assistant => Role::Assistant,
            };
            messages.push(message(role, past.text.expose()));
        }
        messages.push(message(Role::User, request.text.expose()));
        let prompt = self.ava.prompt(messages);
        let (ava, call_id, mode, stream) = (self.ava.clone(), self.call_id.clone(), self.mode, request.stream);
        let request_id = id.clone();
        let begun = self.jobs.begin(|outbox| async move {
            // What found no room goes with what comes next.
            let (mut waiting, mut told) = (String::new(), false);
            let token = |text: &str| Done::Reply(LlmToken::new(&call_id, text, request_id.clone()).into());
            let answer = ava
                .answered(&call_id, &prompt, None, |piece| {
                    if stream {
                        waiting.push_str(piece);
                        if outbox.try_put(token(&waiting)) {
                            waiting.clear();
                            told = true;
                        }
                    }
                })
                .await;
            if stream && !waiting.is_empty() {
                outbox.put(token(&waiting)).await;
                told = true;
            }
            let text = match &answer {
                _ if told => "",
                Ok(text) => text,
                Err(instead) => instead,
            };
            let response = LlmResponse::answer(&call_id, mode, text).with_request(request_id.clone());
            outbox.put(Done::Reply(response.into())).await;
        });
        if begun.is_none() {
            let late = LlmResponse::answer(&self.call_id, self.mode, texts::TOO_SLOW).with_request(id);
            return self.send(late).await;
        }
        self.llm_job = begun;
        Ok(())
    }

    pub(super) async fn tool_request(&mut self, request: LlmToolRequest, id: Option<RequestId>) -> Result<(), End> {
        let LlmToolRequest {
            text,
            user_text,
            tools,
            choice,
        } = request;
        let context = self.tools.for_request(&self.call_id, tools);
        let gateway = self.gateway(text.expose(), user_text.expose(), &context, choice);
        let (unasked, request_id) = (gateway.clone(), id.clone());
        let (ava, call_id) = (self.ava.clone(), self.call_id.clone());
        let begun = self.jobs.begin(|outbox| async move {
            let found = ava.gated(gateway, &call_id, request_id).await;
            outbox.put(Done::Reply(found.into())).await;
        });
        if begun.is_none() {
            let found = unasked.finish(&self.call_id, id);
            return self.send(found).await;
        }
        Ok(())
    }

    /// Requests about the server itself. They go on whatever becomes of the call.
    pub(super) async fn long_request(&mut self, request: Request, id: Option<RequestId>) -> Result<(), End> {
        let ava = self.ava.clone();
        let request_id = id.clone();
        let is_switch = matches!(request, Request::SwitchModel(_));
        let begun = self.jobs.begin_lasting(|outbox| async move {
            let reply: Reply = match request {
                Request::SwitchModel(switch) => ava.switch(&switch, request_id).await.into(),
                Request::ReloadModels => ava.reload().await.into(),
                Request::ReloadLlm(reload) => ava.reload_llm(&reload).await.into(),
                Request::Capabilities => ava.capabilities().await.into(),
                Request::Backends => Backends::new(ava.capabilities().await).into(),
                Request::BackendSchema { job, name } => {
                    Reply::BackendSchema(backend_schema(&job, &name, ava.capabilities().await))
                }
                // The others are answered at once.
                _ => return,
            };
            outbox.put(Done::Reply(reply)).await;
        });
        if !begun {
            tracing::warn!("too many requests about the server wait already on one connection");
            if is_switch {
                return self
                    .send(SwitchResponse::failed(id, "too many switches wait already"))
                    .await;
            }
        }
        Ok(())
    }
}
