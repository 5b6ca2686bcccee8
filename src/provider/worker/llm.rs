//! A language model in a worker.

use std::sync::Arc;
use std::task::{Context, Poll};

use repartee_protocol::worker::{self as wire, Chat, ChatMessage, Failed, Function, LlmParams, Params, code};

use super::{capabilities, failure, lost, out_of_place, refused};
use crate::backend::{Capabilities, LlmBackend, LlmRequest, LlmStream, OpenError, TokenUsage};
use crate::call::{BackendKind, FinishReason, LlmEvent, Prompt, Role, ToolCall};
use crate::supervisor::{Link, Stream, StreamEvent};

/// A language model in a worker: one load of it.
#[derive(Debug)]
pub struct WorkerLlm {
    link: Arc<Link>,
    capabilities: Capabilities,
}

impl WorkerLlm {
    /// The model of a ready worker; `None` if it isn't ready.
    #[must_use]
    pub fn new(link: Arc<Link>) -> Option<Self> {
        let capabilities = capabilities(BackendKind::Llm, &link)?;
        Some(Self { link, capabilities })
    }
}

impl LlmBackend for WorkerLlm {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn generate(&self, request: LlmRequest) -> Result<Box<dyn LlmStream>, OpenError> {
        let LlmRequest { prompt, conversation } = request;
        let backend = self.capabilities.name.clone();
        let params = LlmParams {
            max_tokens: prompt.max_tokens,
            temperature: prompt.temperature_milli.map(|milli| f32::from(milli) / 1000.0),
            // What the model has computed of this conversation is worth keeping until its next turn.
            cache_key: conversation.map(String::from),
            ..LlmParams::default()
        };
        let question = Question {
            link: Arc::clone(&self.link),
            params,
            chat: chat(prompt),
        };
        let stream = question.ask(&backend)?;
        Ok(Box::new(Completion {
            stream,
            backend,
            question: Some(question),
            usage: TokenUsage::default(),
        }))
    }
}

/// What is asked, kept until the answer begins: a conversation that has outgrown the model's context is asked about again
/// without its beginning. Only the worker can count its tokens.
struct Question {
    link: Arc<Link>,
    params: LlmParams,
    chat: Chat,
}

impl Question {
    fn ask(&self, backend: &str) -> Result<Stream, OpenError> {
        let chat = serde_json::to_vec(&self.chat).map_err(|error| OpenError::Unsupported {
            backend: backend.to_owned(),
            reason: format!("the prompt can't be written down: {error}"),
        })?;
        self.link
            .open(Params::Llm(self.params.clone()), &chat)
            .map_err(|no| refused(backend, no))
    }
}

/// Forgets the older half of a conversation, in whole turns; the instructions and the last turn stay. False: nothing else is left.
fn forget_oldest(messages: &mut Vec<ChatMessage>) -> bool {
    let is_system = |message: &ChatMessage| message.role == wire::Role::System;
    let first = messages
        .iter()
        .position(|message| !is_system(message))
        .unwrap_or(messages.len());
    let half = first + (messages.len() - first).div_ceil(2);
    let mut turns = messages
        .iter()
        .enumerate()
        .skip(first + 1)
        .filter(|(_, message)| message.role == wire::Role::User)
        .map(|(index, _)| index);
    let mut keep_from = None;
    for turn in turns.by_ref() {
        keep_from = Some(turn);
        if turn >= half {
            break;
        }
    }
    if let Some(keep_from) = keep_from {
        messages.drain(first..keep_from);
    }
    keep_from.is_some()
}

fn chat(prompt: Prompt) -> Chat {
    let messages = prompt.messages.into_iter().map(|message| ChatMessage {
        role: match message.role {
            Role::System => wire::Role::System,
            Role::User => wire::Role::User,
            Role::Assistant => wire::Role::Assistant,
            Role::Tool => wire::Role::Tool,
        },
        content: message.text.into_exposed(),
        tool_calls: message
            .tool_calls
            .into_iter()
            .map(|call| Function {
                id: call.call_id,
                name: call.name,
                arguments: call.arguments.into_exposed(),
            })
            .collect(),
        tool_call_id: message.call_id,
        images: Vec::new(),
    });
    let tools = prompt.tools.into_iter().map(|tool| wire::Tool {
        name: tool.name,
        description: tool.description,
        parameters: tool.parameters,
    });
    Chat {
        messages: messages.collect(),
        tools: tools.collect(),
        tool_choice: None,
    }
}

struct Completion {
    stream: Stream,
    backend: String,
    question: Option<Question>,
    usage: TokenUsage,
}

impl Completion {
    /// Asks again with less of the conversation, if it was too long for the model. False: it wasn't that, or there is no less.
    fn ask_less(&mut self, failed: &Failed) -> bool {
        let Some(question) = self.question.as_mut().filter(|_| failed.code == code::TOO_LONG) else {
            return false;
        };
        let before = question.chat.messages.len();
        if !forget_oldest(&mut question.chat.messages) {
            return false;
        }
        let Ok(stream) = question.ask(&self.backend) else {
            return false;
        };
        tracing::debug!(
            backend = self.backend,
            before,
            after = question.chat.messages.len(),
            "the conversation is longer than the model's context: its beginning is left out"
        );
        self.stream = stream;
        true
    }
}

impl LlmStream for Completion {
    fn poll_event(&mut self, context: &mut Context<'_>) -> Poll<LlmEvent> {
        loop {
            let Poll::Ready(event) = self.stream.poll_event(context) else {
                return Poll::Pending;
            };
            if let StreamEvent::Failed(failed) = &event
                && self.ask_less(failed)
            {
                continue;
            }
            // From here on something has been said.
            self.question = None;
            return Poll::Ready(match event {
                StreamEvent::Token(token) => LlmEvent::Delta {
                    text: token.text.into(),
                },
                StreamEvent::ToolCall(call) => {
                    let Function { id, name, arguments } = call.call;
                    LlmEvent::ToolCall(ToolCall {
                        call_id: id,
                        name,
                        arguments: arguments.into(),
                    })
                }
                StreamEvent::Done(done) => {
                    self.usage = TokenUsage {
                        prompt: done.usage.prompt_tokens,
                        cached: done.usage.cached_tokens,
                        completion: done.usage.completion_tokens,
                    };
                    LlmEvent::Done {
                        reason: match done.reason.as_deref() {
                            Some("length") => FinishReason::Length,
                            Some("tool_calls") => FinishReason::ToolCalls,
                            _ => FinishReason::Stop,
                        },
                    }
                }
                StreamEvent::Failed(failed) => LlmEvent::Failed(failure(&self.backend, failed)),
                StreamEvent::Lost {
                    generation,
                    reason,
                    position,
                } => LlmEvent::Failed(lost(&self.backend, generation, reason, position)),
                StreamEvent::Score(_) | StreamEvent::Marks(_) => continue,
                StreamEvent::Partial(_) | StreamEvent::Final(_) | StreamEvent::Audio(_) => {
                    LlmEvent::Failed(failure(&self.backend, out_of_place(self.stream.id())))
                }
            });
        }
    }

    fn usage(&self) -> TokenUsage {
        self.usage
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conversation(roles: &str) -> Vec<ChatMessage> {
        let message = |(index, role): (usize, char)| ChatMessage {
            role: match role {
                's' => wire::Role::System,
                'u' => wire::Role::User,
                'a' => wire::Role::Assistant,
                _ => wire::Role::Tool,
            },
            content: index.to_string(),
            tool_calls: Vec::new(),
            tool_call_id: None,
            images: Vec::new(),
        };
        roles.chars().enumerate().map(message).collect()
    }

    #[test]
    fn the_older_half_is_forgotten_in_whole_turns() {
        for (before, after) in [
            ("suauauau", Some("s 5 6 7")),
            ("uaua", Some("2 3")),
            // The answer to a tool's result isn't kept without its question.
            ("suatauau", Some("s 5 6 7")),
            ("suauatatata", Some("s 3 4 5 6 7 8 9 10")),
            ("su", None),
            ("suatata", None),
            ("s", None),
            ("", None),
        ] {
            let mut messages = conversation(before);
            assert_eq!(forget_oldest(&mut messages), after.is_some(), "{before}");
            let Some(after) = after else {
                assert_eq!(messages.len(), before.len(), "{before}");
                continue;
            };
            let left: Vec<String> = messages
                .iter()
                .map(|message| match message.role {
                    wire::Role::System => "s".to_owned(),
                    _ => message.content.clone(),
                })
                .collect();
            assert_eq!(left.join(" "), after, "{before}");
        }
    }
}
