//! From a reply to calls of tools: what the text says, what the caller's words say, and, where that isn't enough, what the
//! language model answers when it is asked once more.

use std::fmt::{self, Write as _};

use serde::Serialize;
use serde_json::{Map, Value};

use super::super::VERSION;
use super::super::intent::ends_call;
use super::super::read::RequestId;
use super::super::reply::ToolPath;
use super::super::texts::FAREWELL;
use super::super::words::Capability;
use super::{Call, HANGUP, Policy, ToolChoice, ToolContext, looks_like_tool_output, strip_markup, tool_calls};

/// Characters of a farewell out of a reply, at most.
const MAX_FAREWELL: usize = 160;

/// Characters of a farewell that a client sends, at most.
const MAX_GIVEN_FAREWELL: usize = 500;

/// Characters of the tools in a prompt, at most.
const MAX_DESCRIBED: usize = 8_000;

/// What a gateway begins with.
#[derive(Clone, Copy)]
pub struct GatewayInput<'a> {
    /// The reply.
    pub text: &'a str,
    /// What the caller said before it.
    pub user_text: &'a str,
    /// The tools.
    pub context: &'a ToolContext,
    /// Whether the reply may call them.
    pub choice: ToolChoice,
    /// Whether the language model may be asked once more.
    pub may_ask: bool,
    /// How well the language model calls tools.
    pub capability: Capability,
}

/// A further question for the language model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// Which tool the reply should have called.
    Structured,
    /// What the reply meant that looks like a call and can't be read.
    Repair,
}

/// How to ask the language model: without history, at temperature 0.
#[derive(Clone, PartialEq, Eq)]
pub struct PassPrompt {
    /// The system message.
    pub system: String,
    /// The user message. What people said is in it: never for a log.
    pub user: String,
    /// Tokens of the answer, at most.
    pub max_tokens: u32,
}

impl fmt::Debug for PassPrompt {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("PassPrompt")
            .field("max_tokens", &self.max_tokens)
            .finish_non_exhaustive()
    }
}

/// The search for the calls of one reply. Ask [`Gateway::needs`] until there is nothing, then [`Gateway::finish`].
#[derive(Clone)]
pub struct Gateway {
    text: String,
    clean: String,
    user_text: String,
    context: ToolContext,
    choice: ToolChoice,
    may_ask: bool,
    wants_to_end: bool,
    calls: Vec<Call>,
    path: ToolPath,
    failures: u32,
    structured_attempts: u32,
    repair_attempts: u32,
}

impl fmt::Debug for Gateway {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Gateway")
            .field("calls", &self.calls)
            .field("path", &self.path)
            .field("needs", &self.needs())
            .finish_non_exhaustive()
    }
}

impl Gateway {
    /// Looks through the reply.
    #[must_use]
    pub fn new(input: GatewayInput<'_>) -> Self {
        let mut context = input.context.clone();
        context.policy = context.policy.resolved(input.capability);
        let mut gateway = Self {
            text: input.text.to_owned(),
            clean: strip_markup(input.text, &context.allowed),
            user_text: input.user_text.to_owned(),
            choice: input.choice,
            may_ask: input.may_ask,
            wants_to_end: ends_call(input.user_text),
            calls: Vec::new(),
            path: ToolPath::None,
            failures: 0,
            structured_attempts: 0,
            repair_attempts: 0,
            context,
        };
        if gateway.is_open() {
            let (calls, failures) = tool_calls(&gateway.text, &gateway.context.allowed);
            gateway.failures = failures;
            gateway.take(calls, ToolPath::Parser);
            if gateway.calls.is_empty() && gateway.wants_to_end && gateway.context.allows(HANGUP) {
                let farewell = first_sentence(&gateway.clean).unwrap_or_else(|| FAREWELL.to_owned());
                let mut parameters = Map::new();
                parameters.insert("farewell_message".to_owned(), Value::from(farewell));
                let call = Call {
                    name: HANGUP.to_owned(),
                    parameters,
                };
                gateway.take(vec![call], ToolPath::Heuristic);
            }
        }
        gateway
    }

    /// Whether anything may be called at all.
    fn is_open(&self) -> bool {
        !self.text.trim().is_empty()
            && self.choice != ToolChoice::None
            && self.context.policy != Policy::Off
            && !self.context.allowed.is_empty()
    }

    fn take(&mut self, calls: Vec<Call>, path: ToolPath) {
        if !calls.is_empty() {
            self.calls = calls;
            self.path = path;
        }
    }

    /// What the language model must still be asked.
    #[must_use]
    pub fn needs(&self) -> Option<Pass> {
        if !self.is_open() || !self.may_ask || !self.calls.is_empty() {
            return None;
        }
        // Only the end of the call may be called, and it would be dropped again.
        let in_vain = !self.wants_to_end
            && self
                .context
                .allowed
                .iter()
                .all(|name| name.eq_ignore_ascii_case(HANGUP));
        if in_vain {
            None
        } else if self.structured_attempts == 0 {
            Some(Pass::Structured)
        } else if self.repair_attempts == 0 && looks_like_tool_output(&self.text, &self.context.allowed) {
            Some(Pass::Repair)
        } else {
            None
        }
    }

    /// How to ask.
    #[must_use]
    pub fn prompt(&self, pass: Pass) -> PassPrompt {
        let mut described = String::new();
        for name in &self.context.allowed {
            let tool = self
                .context
                .tools
                .iter()
                .find(|tool| tool.name.eq_ignore_ascii_case(name));
            let _ = match tool {
                Some(tool) => writeln!(
                    described,
                    "- {name}: {} Parameters: {}",
                    tool.description, tool.parameters
                ),
                None => writeln!(described, "- {name}"),
            };
        }
        let described: String = described.chars().take(MAX_DESCRIBED).collect();
        let form = "<tool_call>{\"name\":\"…\",\"arguments\":{…}}</tool_call>";
        let (task, max_tokens) = match pass {
            Pass::Structured => (
                "Decide whether the assistant's reply to the caller needs one of these tools. If it does, write exactly one line",
                128,
            ),
            Pass::Repair => (
                "The assistant's reply was meant to call one of these tools, but is malformed. Write the call as exactly one line",
                96,
            ),
        };
        PassPrompt {
            system: format!(
                "{task} of the form {form}. Otherwise write NONE. Write nothing else.\n\nTools:\n{described}"
            ),
            user: format!("Caller: {}\nAssistant: {}", self.user_text, self.text),
            max_tokens,
        }
    }

    /// Takes the language model's answer; none: there was none in time.
    pub fn answer(&mut self, pass: Pass, answer: Option<&str>) {
        let path = match pass {
            Pass::Structured => {
                self.structured_attempts += 1;
                ToolPath::Structured
            }
            Pass::Repair => {
                self.repair_attempts += 1;
                ToolPath::Repair
            }
        };
        if let Some(answer) = answer
            && self.calls.is_empty()
        {
            let (calls, failures) = tool_calls(answer, &self.context.allowed);
            self.failures = self.failures.saturating_add(failures);
            // One was asked for.
            self.take(calls.into_iter().take(1).collect(), path);
        }
    }

    /// The answer to the client. The end of the call is dropped where the caller doesn't want it.
    #[must_use]
    pub fn finish(mut self, call_id: &str, request_id: Option<RequestId>) -> LlmToolResponse {
        let wants_to_end = self.wants_to_end;
        self.calls
            .retain(|call| wants_to_end || !call.name.eq_ignore_ascii_case(HANGUP));
        let has_calls = !self.calls.is_empty();
        LlmToolResponse {
            kind: "llm_tool_response",
            call_id: call_id.to_owned(),
            request_id,
            text: self.clean,
            tool_calls: self.calls,
            finish_reason: if has_calls { "tool_calls" } else { "stop" },
            tool_path: if has_calls { self.path } else { ToolPath::None },
            tool_parse_failures: self.failures,
            repair_attempts: self.repair_attempts,
            structured_attempts: (!self.text.trim().is_empty()).then_some(self.structured_attempts),
            protocol_version: VERSION,
            server_gated: None,
        }
    }
}

/// `llm_tool_response`.
#[derive(Clone, PartialEq, Serialize)]
pub struct LlmToolResponse {
    #[serde(rename = "type")]
    kind: &'static str,
    /// The call.
    pub call_id: String,
    /// The request's id; none where nobody asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<RequestId>,
    /// The reply without markup. Somebody's words: never for a log.
    pub text: String,
    /// What is to be called, in this order.
    pub tool_calls: Vec<Call>,
    finish_reason: &'static str,
    /// How the calls were found.
    pub tool_path: ToolPath,
    /// Pieces of markup that couldn't be read.
    pub tool_parse_failures: u32,
    /// How often the model was asked what it meant.
    pub repair_attempts: u32,
    /// How often the model was asked which tool it wants.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub structured_attempts: Option<u32>,
    protocol_version: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    server_gated: Option<bool>,
}

impl fmt::Debug for LlmToolResponse {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("LlmToolResponse")
            .field("calls", &self.tool_calls)
            .field("path", &self.tool_path)
            .finish_non_exhaustive()
    }
}

impl LlmToolResponse {
    /// The same, as it is sent in place of a reply that nobody has asked about.
    #[must_use]
    pub fn unasked(mut self) -> Self {
        self.request_id = None;
        self.server_gated = Some(true);
        self
    }
}

/// The first sentence, if there is any word in it.
fn first_sentence(text: &str) -> Option<String> {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let end = text
        .char_indices()
        .find(|(at, character)| {
            matches!(character, '.' | '!' | '?') && text[at + 1..].chars().next().is_none_or(char::is_whitespace)
        })
        .map_or(text.len(), |(at, _)| at + 1);
    let sentence: String = text[..end].chars().take(MAX_FAREWELL).collect();
    let sentence = sentence.trim().to_owned();
    sentence.chars().any(char::is_alphanumeric).then_some(sentence)
}

/// What is spoken when `hangup_call` has given `result`: its `farewell_message`, its `message`, or AVA's own farewell.
#[must_use]
pub fn farewell(result: &Value) -> String {
    ["farewell_message", "message"]
        .iter()
        .filter_map(|name| result.get(name)?.as_str())
        .map(|text| text.split_whitespace().collect::<Vec<_>>().join(" "))
        .map(|text| text.chars().take(MAX_GIVEN_FAREWELL).collect::<String>())
        .find(|text| !text.is_empty())
        .unwrap_or_else(|| FAREWELL.to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn context(names: &[&str], policy: Policy) -> ToolContext {
        ToolContext {
            allowed: names.iter().map(|name| (*name).to_owned()).collect(),
            tools: Vec::new(),
            policy,
        }
    }

    fn gateway(text: &str, user_text: &str, names: &[&str], choice: ToolChoice) -> Gateway {
        Gateway::new(GatewayInput {
            text,
            user_text,
            context: &context(names, Policy::Auto),
            choice,
            may_ask: true,
            capability: Capability::Unknown,
        })
    }

    fn finished(gateway: Gateway) -> Value {
        serde_json::to_value(gateway.finish("c1", Some("t1".into()))).expect("it has no keys but names")
    }

    #[test]
    fn a_call_in_the_text_needs_no_question() {
        let text = "Connecting you. <tool_call>{\"name\":\"transfer\",\"arguments\":{\"to\":\"1\"}}</tool_call>";
        let gateway = gateway(text, "connect me", &["transfer"], ToolChoice::Auto);
        assert_eq!(gateway.needs(), None);
        assert_eq!(
            finished(gateway),
            json!({
                "type": "llm_tool_response", "call_id": "c1", "request_id": "t1", "text": "Connecting you.",
                "tool_calls": [{ "name": "transfer", "parameters": { "to": "1" } }], "finish_reason": "tool_calls",
                "tool_path": "parser", "tool_parse_failures": 0, "repair_attempts": 0, "structured_attempts": 0,
                "protocol_version": 2,
            })
        );
    }

    #[test]
    fn who_says_goodbye_is_let_go() {
        let let_go = gateway(
            "Take care, now! And so on.",
            "okay goodbye",
            &["hangup_call"],
            ToolChoice::Auto,
        );
        assert_eq!(let_go.needs(), None);
        let answer = finished(let_go);
        assert_eq!(answer["tool_path"], "heuristic");
        assert_eq!(
            answer["tool_calls"][0]["parameters"]["farewell_message"],
            "Take care, now!"
        );

        let wordless = gateway("<|end|>", "goodbye", &["hangup_call"], ToolChoice::Auto);
        assert_eq!(
            finished(wordless)["tool_calls"][0]["parameters"]["farewell_message"],
            FAREWELL
        );
    }

    #[test]
    fn nobody_is_hung_up_on_who_does_not_want_it() {
        let text = "<tool_call>{\"name\":\"hangup_call\"}</tool_call> It is noon.";
        let kept = gateway(
            text,
            "what time is it",
            &["hangup_call", "transfer"],
            ToolChoice::Required,
        );
        let answer = finished(kept);
        assert_eq!(answer["tool_calls"], json!([]));
        assert_eq!(answer["finish_reason"], "stop");
        assert_eq!(answer["tool_path"], "none");
        assert_eq!(answer["text"], "It is noon.");
        // Nor is the model asked about it.
        let plain = gateway("It is noon.", "what time is it", &["hangup_call"], ToolChoice::Auto);
        assert_eq!(plain.needs(), None);
    }

    #[test]
    fn the_model_is_asked_once_and_asked_what_it_meant_once() {
        let mut asked = gateway("*transfer* {oops", "connect me", &["transfer"], ToolChoice::Auto);
        assert_eq!(asked.needs(), Some(Pass::Structured));
        assert_eq!(asked.prompt(Pass::Structured).max_tokens, 128);
        asked.answer(Pass::Structured, Some("NONE"));
        assert_eq!(asked.needs(), Some(Pass::Repair));
        let prompt = asked.prompt(Pass::Repair);
        assert!(prompt.max_tokens == 96 && prompt.user.contains("oops") && prompt.system.contains("transfer"));
        let mut in_vain = asked.clone();
        asked.answer(Pass::Repair, Some("<tool_call>{\"name\":\"transfer\"}</tool_call>"));
        assert_eq!(asked.needs(), None);
        let answer = finished(asked);
        assert_eq!(answer["tool_path"], "repair");
        assert_eq!(
            (
                &answer["repair_attempts"],
                &answer["structured_attempts"],
                &answer["tool_parse_failures"]
            ),
            (&json!(1), &json!(1), &json!(1))
        );

        in_vain.answer(Pass::Repair, None);
        assert_eq!(in_vain.needs(), None);
        assert_eq!(finished(in_vain)["tool_path"], "none");

        // What doesn't look like a call isn't repaired.
        let mut plain = gateway("It is noon.", "what time is it", &["transfer"], ToolChoice::Auto);
        plain.answer(Pass::Structured, None);
        assert_eq!(plain.needs(), None);
    }

    #[test]
    fn without_tools_nothing_is_called_but_the_text_is_cleaned() {
        let text = "Hello. <tool_call>{\"name\":\"transfer\"}</tool_call>";
        for (names, policy, choice, capability) in [
            (&["transfer"][..], Policy::Auto, ToolChoice::None, Capability::Strict),
            (&["transfer"], Policy::Off, ToolChoice::Auto, Capability::Strict),
            (&["transfer"], Policy::Auto, ToolChoice::Auto, Capability::None),
            (&[], Policy::Strict, ToolChoice::Auto, Capability::Strict),
        ] {
            let gateway = Gateway::new(GatewayInput {
                text,
                user_text: "goodbye",
                context: &context(names, policy),
                choice,
                may_ask: true,
                capability,
            });
            assert_eq!(gateway.needs(), None);
            let answer = finished(gateway);
            assert_eq!((&answer["tool_calls"], &answer["text"]), (&json!([]), &json!("Hello.")));
        }
    }

    #[test]
    fn an_empty_reply_has_an_empty_answer() {
        let empty = gateway(" ", "goodbye", &["hangup_call"], ToolChoice::Auto);
        assert_eq!(empty.needs(), None);
        let answer = finished(empty);
        assert_eq!(
            (&answer["tool_calls"], &answer["finish_reason"]),
            (&json!([]), &json!("stop"))
        );
        assert!(answer.get("structured_attempts").is_none());
    }

    #[test]
    fn what_nobody_asked_for_has_no_id() {
        let gated = gateway("transfer {}", "x", &["transfer"], ToolChoice::Auto).finish("c1", Some("t1".into()));
        let answer = serde_json::to_value(gated.unasked()).expect("it has no keys but names");
        assert!(answer.get("request_id").is_none() && answer["server_gated"] == true);
    }

    #[test]
    fn the_farewell_of_a_result() {
        assert_eq!(
            farewell(&json!({ "farewell_message": " See \n you. ", "message": "x" })),
            "See you."
        );
        assert_eq!(farewell(&json!({ "farewell_message": "", "message": "Bye." })), "Bye.");
        assert_eq!(farewell(&json!({ "message": 7 })), FAREWELL);
        assert_eq!(farewell(&json!(null)), FAREWELL);
        assert_eq!(farewell(&json!({ "message": "a".repeat(900) })).chars().count(), 500);
    }
}
