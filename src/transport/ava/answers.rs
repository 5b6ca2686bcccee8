//! The work of jobs: texts are spoken, questions are answered, replies are looked through for calls of tools.

use std::time::Duration;

use bytes::Bytes;
use repartee_protocol::ava::{Gateway, LlmToolResponse, Output, RequestId, texts};
use repartee_protocol::native::Private;

use super::Ava;
use super::control::lock;
use super::speaker::{encode_whole, rate_of};
use crate::call::{BackendKind, Message, Prompt, Role};
use crate::engine::Unanswered;
use crate::id::SessionId;
use crate::pii::Pii;

/// How long a text may take to be spoken; clients wait 5 to 30 s.
const SPEAKING: Duration = Duration::from_secs(30);
/// How long one more question about tools may take; the engine's own patience with `llm_tool_request` is 3 s.
const PASS: Duration = Duration::from_millis(2_500);

/// A message of a prompt.
pub(super) fn message(role: Role, text: impl Into<String>) -> Message {
    Message {
        role,
        text: Pii::new(text.into()),
        tool_calls: Vec::new(),
        call_id: None,
    }
}

/// Thousandths, within what a session takes.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to 0..=2000 before the cast"
)]
pub(super) fn thousandths(number: f64) -> u16 {
    (number * 1000.0).round().clamp(0.0, 2_000.0) as u16
}

impl Ava {
    /// How long a reply of the language model may take.
    pub(super) fn llm_limit(&self) -> Duration {
        Duration::try_from_secs_f64(self.server().llm_timeout_s).unwrap_or(Duration::from_secs(20))
    }

    /// The system prompt of a call: its own, else the server's.
    pub(super) fn system_prompt(&self, own: Option<&Private>, interrupted: bool, acknowledge: bool) -> String {
        let preamble = self.server().voice_preamble.expose();
        match own {
            Some(own) => texts::system_prompt(preamble, own.expose(), interrupted, acknowledge),
            None => self.control().with(|selection| {
                texts::system_prompt(preamble, selection.llm.system_prompt.expose(), interrupted, acknowledge)
            }),
        }
    }

    /// A prompt of these messages, with the server's sampling.
    pub(super) fn prompt(&self, messages: Vec<Message>) -> Prompt {
        self.control().with(|selection| Prompt {
            messages,
            tools: Vec::new(),
            max_tokens: selection.llm.max_tokens,
            temperature_milli: Some(thousandths(selection.llm.temperature)),
        })
    }

    /// Speaks `text`; empty where that failed.
    pub(super) async fn spoken(&self, call_id: &str, text: &str, output: Output) -> Bytes {
        let server = self.server();
        let fits = server.phrase_cache && text.chars().count() <= server.phrase_cache_max_length as usize;
        let generation = self.engine().registry().lease(BackendKind::Tts);
        let generation = generation.map(|serving| serving.capabilities().generation);
        if fits
            && let Some(generation) = generation
            && let Some(audio) = lock(&self.control().phrases).find(generation, output, text)
        {
            return audio;
        }
        let speaking = self
            .engine()
            .speak(&Pii::from(text), None, rate_of(output), SPEAKING)
            .await;
        match speaking {
            Ok(spoken) => {
                let audio = Bytes::from(encode_whole(&spoken.pcm, output));
                tracing::info!("TTS RESULT call_id={call_id} {} bytes", audio.len());
                if fits && let Some(generation) = generation {
                    lock(&self.control().phrases).keep(generation, output, text, audio.clone());
                }
                audio
            }
            Err(error) => {
                tracing::warn!("TTS RESULT call_id={call_id} 0 bytes: {error}");
                Bytes::new()
            }
        }
    }

    /// Has the language model answer.
    ///
    /// # Errors
    /// What is said instead.
    pub(super) async fn answered(
        &self,
        call_id: &str,
        prompt: &Prompt,
        conversation: Option<SessionId>,
        heard: impl FnMut(&str),
    ) -> Result<String, &'static str> {
        if self.is_minimal() || self.lacks(BackendKind::Llm) {
            return Err(texts::NO_MODEL);
        }
        let began = self.control().clock.now();
        let limit = self.llm_limit();
        let answer = self.engine().complete(prompt, conversation, limit, heard).await;
        let took = self.control().clock.now().since(began).as_millis();
        match answer {
            Ok(answer) => {
                tracing::info!("LLM RESULT call_id={call_id} Completed in {took} ms");
                let answer = answer.into_exposed();
                let end = self
                    .server()
                    .stop_tokens
                    .iter()
                    .filter_map(|stop| answer.find(stop))
                    .min();
                let answer = answer[..end.unwrap_or(answer.len())].trim();
                if answer.is_empty() {
                    Err(texts::NOTHING_SAID)
                } else {
                    Ok(answer.to_owned())
                }
            }
            Err(error) => {
                tracing::warn!("LLM RESULT call_id={call_id} failed after {took} ms: {error}");
                Err(match error {
                    Unanswered::Late(_) => texts::TOO_SLOW,
                    Unanswered::Missing { .. } | Unanswered::Failed { .. } => texts::NO_MODEL,
                })
            }
        }
    }

    /// Asks the language model whatever `gateway` still needs.
    pub(super) async fn gated(
        &self,
        mut gateway: Gateway,
        call_id: &str,
        request_id: Option<RequestId>,
    ) -> LlmToolResponse {
        while let Some(pass) = gateway.needs() {
            let asked = gateway.prompt(pass);
            let prompt = Prompt {
                messages: vec![message(Role::System, asked.system), message(Role::User, asked.user)],
                tools: Vec::new(),
                max_tokens: asked.max_tokens,
                temperature_milli: Some(0),
            };
            let answer = if self.is_minimal() || self.lacks(BackendKind::Llm) {
                None
            } else {
                self.engine().complete(&prompt, None, PASS, |_| {}).await.ok()
            };
            gateway.answer(pass, answer.as_ref().map(|answer| answer.expose().as_str()));
        }
        gateway.finish(call_id, request_id)
    }
}
