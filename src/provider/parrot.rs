//! The parrot: a language model that repeats what it heard. The default where there is none, so that a conversation can
//! be held, and the whole pipeline proven, on any machine.

use std::collections::VecDeque;
use std::task::{Context, Poll};

use crate::backend::{Capabilities, LlmBackend, LlmRequest, LlmStream, OpenError};
use crate::call::{BackendKind, FinishReason, LlmEvent, Prompt, Role};
use crate::id::Generation;
use crate::pii::Pii;

/// Repeats what it heard. It speaks English.
#[derive(Debug)]
pub struct ParrotBackend {
    capabilities: Capabilities,
}

impl ParrotBackend {
    /// The parrot; it needs nothing and can't fail.
    #[must_use]
    pub fn new(generation: Generation) -> Self {
        Self {
            capabilities: Capabilities {
                languages: vec!["en".to_owned()],
                streaming: true,
                ..Capabilities::new(BackendKind::Llm, "parrot", "parrot", generation)
            },
        }
    }
}

/// What it says to somebody whom it didn't understand.
const NOT_UNDERSTOOD: &str = "Sorry, I did not catch that.";

/// What it says when it is asked to speak first.
const GREETING: &str = "Hello. Say something, and I will repeat it.";

/// What it says to the result of a tool: it never calls one, but a client may put one into the history.
const TOOL_RESULT: &str = "Thank you, I have the result.";

/// Words of a delta. Language models give about one word at a time, and nothing is gained by more deltas than that.
const DELTA_WORDS: usize = 3;

/// What the parrot answers.
fn reply(prompt: &Prompt) -> String {
    let newest = prompt
        .messages
        .iter()
        .rev()
        .find(|message| message.role != Role::System);
    match newest {
        Some(message) if message.role == Role::User => {
            let words: Vec<&str> = message.text.expose().split_whitespace().collect();
            let said = words.join(" ");
            if !said.chars().any(char::is_alphanumeric) {
                return NOT_UNDERSTOOD.to_owned();
            }
            // Recognisers of the embedded default give no punctuation; a voice needs some to sound finished.
            let end = if said.ends_with(['.', '!', '?', '…', '"']) {
                ""
            } else {
                "."
            };
            format!("You said: {said}{end}")
        }
        Some(message) if message.role == Role::Tool => TOOL_RESULT.to_owned(),
        _ => GREETING.to_owned(),
    }
}

impl LlmBackend for ParrotBackend {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn generate(&self, LlmRequest { prompt, .. }: LlmRequest) -> Result<Box<dyn LlmStream>, OpenError> {
        let reply = reply(&prompt);
        let words: Vec<&str> = reply.split(' ').collect();
        // A word is its token.
        let limit = usize::try_from(prompt.max_tokens)
            .unwrap_or(usize::MAX)
            .min(words.len());
        let deltas = words[..limit].chunks(DELTA_WORDS).enumerate();
        let mut events: VecDeque<LlmEvent> = deltas
            .map(|(number, words)| {
                let space = if number == 0 { "" } else { " " };
                LlmEvent::Delta {
                    text: Pii::new(format!("{space}{}", words.join(" "))),
                }
            })
            .collect();
        events.push_back(LlmEvent::Done {
            reason: if limit < words.len() {
                FinishReason::Length
            } else {
                FinishReason::Stop
            },
        });
        Ok(Box::new(Stream { events }))
    }
}

struct Stream {
    events: VecDeque<LlmEvent>,
}

impl LlmStream for Stream {
    fn poll_event(&mut self, _context: &mut Context<'_>) -> Poll<LlmEvent> {
        // After the end nothing comes, and nobody polls.
        self.events.pop_front().map_or(Poll::Pending, Poll::Ready)
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;
    use crate::call::Message;

    fn message(role: Role, text: &str) -> Message {
        Message {
            role,
            text: Pii::from(text),
            tool_calls: Vec::new(),
            call_id: None,
        }
    }

    fn answer(messages: Vec<Message>, max_tokens: u32) -> (Vec<String>, FinishReason) {
        let prompt = Prompt {
            messages,
            tools: Vec::new(),
            max_tokens,
            temperature_milli: None,
        };
        let mut stream = ParrotBackend::new(Generation::new(1))
            .generate(prompt.into())
            .expect("it can't fail");
        let context = &mut Context::from_waker(Waker::noop());
        let mut deltas = Vec::new();
        loop {
            match stream.poll_event(context) {
                Poll::Ready(LlmEvent::Delta { text }) => deltas.push(text.into_exposed()),
                Poll::Ready(LlmEvent::Done { reason }) => return (deltas, reason),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn it_repeats_the_newest_words_of_the_user() {
        let (deltas, reason) = answer(
            vec![
                message(Role::System, "Be brief."),
                message(Role::User, "one"),
                message(Role::Assistant, "You said: one."),
                message(Role::User, "  hello   there\nmy friend "),
            ],
            100,
        );
        assert_eq!(deltas, ["You said: hello", " there my friend."]);
        assert_eq!(reason, FinishReason::Stop);
        let (deltas, _) = answer(vec![message(Role::User, "Really?")], 100);
        assert_eq!(deltas.concat(), "You said: Really?");
    }

    #[test]
    fn it_has_an_answer_to_everything() {
        for nothing in ["", "  ", "…"] {
            assert_eq!(
                answer(vec![message(Role::User, nothing)], 100).0.concat(),
                NOT_UNDERSTOOD
            );
        }
        assert_eq!(
            answer(vec![message(Role::System, "Be brief.")], 100).0.concat(),
            GREETING
        );
        assert_eq!(answer(vec![message(Role::Tool, "12")], 100).0.concat(), TOOL_RESULT);
    }

    #[test]
    fn it_keeps_to_the_limit_of_tokens() {
        let (deltas, reason) = answer(vec![message(Role::User, &"word ".repeat(50))], 5);
        assert_eq!(deltas.concat(), "You said: word word word");
        assert_eq!(reason, FinishReason::Length);
    }
}
