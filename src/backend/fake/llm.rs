//! A fake language model: it says the words of its script, or the user's own.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use super::{Memory, Pace, Shared, Ticket, common};
use crate::backend::{Capabilities, LlmBackend, LlmRequest, LlmStream, OpenError};
use crate::call::{BackendKind, FinishReason, LlmEvent, Prompt, Role};
use crate::pii::Pii;

/// A fake language model.
pub struct ScriptedLlm {
    shared: Arc<Shared>,
    /// Empty: say what the user said.
    replies: Vec<Vec<LlmEvent>>,
    next: AtomicUsize,
    pace: Pace,
    prompts: Memory<Prompt>,
}

impl ScriptedLlm {
    /// Generation after generation gives the next of these lists of events; after the last, the first again. A list
    /// that doesn't end in `Done` or `Failed` is ended with `Done`.
    #[must_use]
    pub fn new(replies: impl IntoIterator<Item = Vec<LlmEvent>>) -> Self {
        Self {
            shared: Shared::new(BackendKind::Llm, "scripted-llm"),
            replies: replies.into_iter().collect(),
            next: AtomicUsize::new(0),
            pace: Pace::instant(),
            prompts: Memory::default(),
        }
    }

    /// Says what the user said last.
    #[must_use]
    pub fn echo() -> Self {
        Self::new(Vec::new())
    }

    /// Always says this, a word at a time.
    #[must_use]
    pub fn fixed(text: &str) -> Self {
        Self::new([deltas(text).collect()])
    }

    /// Always says this, in exactly these deltas.
    #[must_use]
    pub fn tokens<Token: Into<String>>(tokens: impl IntoIterator<Item = Token>) -> Self {
        Self::new([tokens
            .into_iter()
            .map(|token| LlmEvent::Delta {
                text: Pii::new(token.into()),
            })
            .collect()])
    }

    /// When its events come.
    #[must_use]
    pub fn paced(mut self, pace: Pace) -> Self {
        self.pace = pace;
        self
    }

    /// What it was asked; the newest [`REMEMBERED`](super::REMEMBERED).
    #[must_use]
    pub fn prompts(&self) -> Vec<Prompt> {
        self.prompts.all()
    }

    common!();
}

/// `text` in deltas of one word each, the spaces kept in front of the words they precede.
fn deltas(text: &str) -> impl Iterator<Item = LlmEvent> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let word = rest.find(|letter: char| !letter.is_whitespace()).unwrap_or(rest.len());
        let end = rest[word..]
            .find(char::is_whitespace)
            .map_or(rest.len(), |space| word + space);
        let (delta, after) = rest.split_at(end);
        rest = after;
        Some(LlmEvent::Delta { text: Pii::from(delta) })
    })
}

impl LlmBackend for ScriptedLlm {
    fn capabilities(&self) -> &Capabilities {
        &self.shared.capabilities
    }

    fn generate(&self, LlmRequest { prompt, .. }: LlmRequest) -> Result<Box<dyn LlmStream>, OpenError> {
        let ticket = self.shared.open()?;
        let mut events: VecDeque<LlmEvent> = if self.replies.is_empty() {
            let said = prompt.messages.iter().rev().find(|message| message.role == Role::User);
            said.map(|message| deltas(message.text.expose()).collect())
                .unwrap_or_default()
        } else {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            self.replies[number % self.replies.len()].iter().cloned().collect()
        };
        if !matches!(events.back(), Some(LlmEvent::Done { .. } | LlmEvent::Failed(_))) {
            let reason = match events.back() {
                Some(LlmEvent::ToolCall(_)) => FinishReason::ToolCalls,
                _ => FinishReason::Stop,
            };
            events.push_back(LlmEvent::Done { reason });
        }
        self.prompts.push(prompt);
        Ok(Box::new(Stream {
            ticket,
            pace: self.pace.clone(),
            events,
        }))
    }
}

struct Stream {
    ticket: Ticket,
    pace: Pace,
    events: VecDeque<LlmEvent>,
}

impl LlmStream for Stream {
    fn poll_event(&mut self, context: &mut Context<'_>) -> Poll<LlmEvent> {
        match self.ticket.poll_pass(context, &self.pace) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(failure)) => Poll::Ready(LlmEvent::Failed(failure)),
            Poll::Ready(Ok(())) => {
                let Some(event) = self.events.pop_front() else {
                    // Polled after its end, which the contract forbids: nothing more comes.
                    return Poll::Pending;
                };
                match event {
                    LlmEvent::Done { .. } | LlmEvent::Failed(_) => self.ticket.finished(),
                    LlmEvent::Delta { .. } | LlmEvent::ToolCall(_) => self.ticket.gave(),
                }
                Poll::Ready(event)
            }
        }
    }
}
