//! What a model says, on its way to the engine: characters, stop strings, calls of tools, and no thoughts.

use repartee_worker_shell::protocol::{Function, StreamId, code};
use repartee_worker_shell::{Failure, Outlet};
use serde_json::Value;

use crate::common::{Parser, Said};
use crate::text::{Characters, Stops};

/// Where an answer goes.
pub(crate) trait Listener {
    /// A piece of its text.
    fn token(&self, text: &str);
    /// A call of a tool.
    fn call(&self, call: Function);
}

impl Listener for Outlet {
    fn token(&self, text: &str) {
        Outlet::token(self, text);
    }

    fn call(&self, call: Function) {
        self.tool_call(call);
    }
}

/// One answer.
pub(crate) struct Answer {
    characters: Characters,
    stops: Stops,
    reader: Option<Reader>,
}

/// Reads an answer that isn't only text.
struct Reader {
    parser: Parser,
    /// All that was said.
    raw: String,
    /// The part of its text that was sent.
    sent: String,
}

impl Answer {
    /// `parser`: for an answer that may hold more than text.
    pub(crate) fn new(stops: Vec<String>, parser: Option<Parser>) -> Self {
        let reader = parser.map(|parser| Reader {
            parser,
            raw: String::new(),
            sent: String::new(),
        });
        Self {
            characters: Characters::default(),
            stops: Stops::new(stops),
            reader,
        }
    }

    /// Takes a token's bytes. True where a stop string has come.
    pub(crate) fn push(&mut self, bytes: &[u8], out: &impl Listener) -> bool {
        let text = self.characters.push(bytes);
        let (text, stopped) = self.stops.push(&text);
        self.send(&text, out);
        stopped
    }

    fn send(&mut self, text: &str, out: &impl Listener) {
        if text.is_empty() {
            return;
        }
        match &mut self.reader {
            None => out.token(text),
            Some(reader) => {
                reader.raw.push_str(text);
                if let Some(said) = reader.parser.parse(&reader.raw, true) {
                    reader.send(&said, out);
                }
            }
        }
    }

    /// The answer is over. `stopped`: at a stop string, so that nothing that was held back belongs to it; `whole`: the model
    /// itself ended it. Gives how many calls it holds.
    ///
    /// # Errors
    /// When a whole answer isn't of the form that its template demands.
    pub(crate) fn finish(
        &mut self,
        stream: StreamId,
        stopped: bool,
        whole: bool,
        out: &impl Listener,
    ) -> Result<usize, Failure> {
        if !stopped {
            let rest = self.characters.finish();
            let (mut text, _) = self.stops.push(rest);
            text.push_str(&self.stops.finish());
            self.send(&text, out);
        }
        let Some(reader) = &mut self.reader else {
            return Ok(0);
        };
        let Some(said) = reader.parser.parse(&reader.raw, false) else {
            // One that was cut off needn't be of any form: what could be read of it was sent.
            return if whole && reader.sent.is_empty() && !reader.raw.trim().is_empty() {
                let message = "the answer isn't of the form that the model's chat template demands";
                Err(Failure::new(code::INTERNAL, message))
            } else {
                Ok(0)
            };
        };
        reader.send(&said, out);
        let mut calls = 0;
        for call in said.calls {
            let arguments = if call.arguments.trim().is_empty() {
                "{}".into()
            } else {
                call.arguments
            };
            if serde_json::from_str::<Value>(&arguments).is_err() {
                // The library completes what was cut off; where it can't, there's no call.
                if whole {
                    return Err(Failure::new(
                        code::INTERNAL,
                        "the model's call has arguments that are no JSON",
                    ));
                }
                continue;
            }
            calls += 1;
            let id = if call.id.is_empty() {
                format!("call_{stream}_{calls}")
            } else {
                call.id
            };
            out.call(Function {
                id,
                name: call.name,
                arguments,
            });
        }
        Ok(calls)
    }
}

impl Reader {
    /// Sends what is new of the text. What was sent can't be taken back, so a text that reads differently now is left.
    fn send(&mut self, said: &Said, out: &impl Listener) {
        if let Some(new) = said.content.strip_prefix(self.sent.as_str())
            && !new.is_empty()
        {
            out.token(new);
            self.sent.push_str(new);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::{HERMES, Request, Template, silence};
    use serde_json::json;
    use std::cell::RefCell;

    #[derive(Default)]
    struct Heard {
        text: RefCell<Vec<String>>,
        calls: RefCell<Vec<Function>>,
    }

    impl Listener for Heard {
        fn token(&self, text: &str) {
            self.text.borrow_mut().push(text.into());
        }

        fn call(&self, call: Function) {
            self.calls.borrow_mut().push(call);
        }
    }

    fn parser() -> Parser {
        silence();
        let template = Template::new(HERMES, "", "<|im_end|>", true).expect("a template");
        let request = Request {
            jinja: true,
            messages: vec![json!({"role": "user", "content": "hello"})],
            tools: vec![
                json!({"type": "function", "function": {"name": "weather", "description": "",
                "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}}),
            ],
            tool_choice: "auto",
            json_schema: String::new(),
            thinking: false,
        };
        Parser::new(&template.apply(&request).expect("a prompt")).expect("a parser")
    }

    #[test]
    fn text_is_sent_as_it_comes() {
        let heard = Heard::default();
        let mut answer = Answer::new(vec!["###".into()], None);
        assert!(!answer.push(b"caf\xc3", &heard));
        assert!(!answer.push(b"\xa9 #", &heard));
        assert!(answer.push(b"## more", &heard));
        assert_eq!(answer.finish(StreamId(1), true, true, &heard), Ok(0));
        assert_eq!(heard.text.take().concat(), "café ");
    }

    #[test]
    fn what_was_held_back_is_sent_at_the_end() {
        let heard = Heard::default();
        let mut answer = Answer::new(vec!["###".into()], None);
        answer.push(b"a ##\xf0\x9f", &heard);
        answer.finish(StreamId(1), false, true, &heard).expect("text");
        assert_eq!(heard.text.take().concat(), "a ##\u{fffd}");
    }

    #[test]
    fn calls_are_told_from_text() {
        let heard = Heard::default();
        let mut answer = Answer::new(Vec::new(), Some(parser()));
        let said =
            "Let me see.\n<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"Dublin\"}}\n</tool_call>";
        for byte in said.bytes() {
            assert!(!answer.push(&[byte], &heard));
            assert!(
                !heard.text.borrow().concat().contains('<'),
                "no part of a call is sent as text"
            );
        }
        assert_eq!(answer.finish(StreamId(7), false, true, &heard), Ok(1));
        assert_eq!(heard.text.take().concat().trim(), "Let me see.");
        let calls = heard.calls.take();
        assert_eq!((calls[0].name.as_str(), calls[0].id.is_empty()), ("weather", false));
        let arguments: Value = serde_json::from_str(&calls[0].arguments).expect("JSON");
        assert_eq!(arguments, json!({"city": "Dublin"}));
    }

    #[test]
    fn a_call_that_was_cut_off_is_none() {
        let heard = Heard::default();
        let mut answer = Answer::new(Vec::new(), Some(parser()));
        answer.push(b"<tool_call>\n{\"name\": \"weather\", \"argu", &heard);
        assert_eq!(answer.finish(StreamId(7), false, false, &heard), Ok(0));
        assert!(heard.calls.take().is_empty() && heard.text.take().is_empty());
    }
}
