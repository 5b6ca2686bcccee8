//! A language model in a worker.

use std::sync::Arc;
use std::task::{Context, Poll};

use repartee_protocol::worker::{self as wire, Chat, ChatMessage, Function, LlmParams, Params};

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
        let chat = serde_json::to_vec(&chat(prompt)).map_err(|error| OpenError::Unsupported {
            backend: backend.clone(),
            reason: format!("the prompt can't be written down: {error}"),
        })?;
        let stream = self
            .link
            .open(Params::Llm(params), &chat)
            .map_err(|no| refused(&backend, no))?;
        Ok(Box::new(Completion {
            stream,
            backend,
            usage: TokenUsage::default(),
        }))
    }
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
    usage: TokenUsage,
}

impl LlmStream for Completion {
    fn poll_event(&mut self, context: &mut Context<'_>) -> Poll<LlmEvent> {
        loop {
            let Poll::Ready(event) = self.stream.poll_event(context) else {
                return Poll::Pending;
            };
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
