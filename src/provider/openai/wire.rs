//! The JSON of chat completions: what is asked, and what comes back piece by piece.
//!
//! Source: OpenAI API reference, "Create chat completion", with what Ollama, vLLM and llama-server make of it. All that
//! comes is optional here: servers differ in what they leave out.

use serde::{Deserialize, Serialize};

use crate::call::{FinishReason, LlmEvent, Prompt, Role, ToolCall};
use crate::pii::Pii;

#[derive(Serialize)]
pub(super) struct Request<'a> {
    model: &'a str,
    messages: Vec<RequestMessage<'a>>,
    stream: bool,
    max_tokens: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<RequestTool<'a>>,
}

#[derive(Serialize)]
struct RequestMessage<'a> {
    role: &'static str,
    content: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<RequestCall<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_call_id: Option<&'a str>,
}

#[derive(Serialize)]
struct RequestCall<'a> {
    id: &'a str,
    r#type: &'static str,
    function: RequestCallFunction<'a>,
}

#[derive(Serialize)]
struct RequestCallFunction<'a> {
    name: &'a str,
    arguments: &'a str,
}

#[derive(Serialize)]
struct RequestTool<'a> {
    r#type: &'static str,
    function: RequestToolFunction<'a>,
}

#[derive(Serialize)]
struct RequestToolFunction<'a> {
    name: &'a str,
    description: &'a str,
    parameters: &'a serde_json::Value,
}

impl<'a> Request<'a> {
    pub(super) fn new(model: &'a str, prompt: &'a Prompt) -> Self {
        let messages = prompt.messages.iter().map(|message| RequestMessage {
            role: match message.role {
                Role::System => "system",
                Role::User => "user",
                Role::Assistant => "assistant",
                Role::Tool => "tool",
            },
            content: message.text.expose(),
            tool_calls: message
                .tool_calls
                .iter()
                .map(|call| RequestCall {
                    id: &call.call_id,
                    r#type: "function",
                    function: RequestCallFunction {
                        name: &call.name,
                        arguments: call.arguments.expose(),
                    },
                })
                .collect(),
            tool_call_id: message.call_id.as_deref(),
        });
        let tools = prompt.tools.iter().map(|tool| RequestTool {
            r#type: "function",
            function: RequestToolFunction {
                name: &tool.name,
                description: &tool.description,
                parameters: &tool.parameters,
            },
        });
        Self {
            model,
            messages: messages.collect(),
            stream: true,
            max_tokens: prompt.max_tokens,
            temperature: prompt.temperature_milli.map(|milli| f64::from(milli) / 1000.0),
            tools: tools.collect(),
        }
    }
}

#[derive(Deserialize)]
struct Chunk {
    #[serde(default)]
    choices: Vec<Choice>,
    #[serde(default)]
    error: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(default)]
    delta: Option<Delta>,
    #[serde(default)]
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct Delta {
    #[serde(default)]
    content: Option<String>,
    #[serde(default)]
    tool_calls: Option<Vec<CallFragment>>,
}

#[derive(Deserialize)]
struct CallFragment {
    #[serde(default)]
    index: Option<usize>,
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    function: Option<FunctionFragment>,
}

#[derive(Deserialize)]
struct FunctionFragment {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    arguments: Option<String>,
}

/// Tool calls of one generation. More than this is a model gone astray.
const CALLS_MAX: usize = 64;

/// Bytes of one generation, text and arguments together. A long reply has some tens of kilobytes.
const GENERATION_BYTES_MAX: usize = 4 << 20;

/// Why a generation can't be read on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Broken {
    /// The server says so, in its own words.
    Server(String),
    /// It sent what this protocol doesn't know.
    Unreadable(&'static str),
}

/// One generation, put together from its chunks.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    calls: Vec<Call>,
    reason: Option<FinishReason>,
    bytes: usize,
}

#[derive(Debug)]
struct Call {
    index: usize,
    id: Option<String>,
    name: String,
    arguments: String,
}

impl Assembly {
    /// Takes one chunk and gives its text, if it has any.
    pub(super) fn take(&mut self, data: &str) -> Result<Option<String>, Broken> {
        let chunk: Chunk =
            serde_json::from_str(data).map_err(|_| Broken::Unreadable("it sent a chunk that can't be read"))?;
        if let Some(error) = chunk.error {
            return Err(Broken::Server(error_words(&error).unwrap_or_default()));
        }
        let Some(choice) = chunk.choices.into_iter().next() else {
            return Ok(None);
        };
        let Delta { content, tool_calls } = choice.delta.unwrap_or(Delta {
            content: None,
            tool_calls: None,
        });
        self.bytes += content.as_ref().map_or(0, String::len);
        for fragment in tool_calls.unwrap_or_default() {
            self.take_call(fragment)?;
        }
        if self.bytes > GENERATION_BYTES_MAX {
            return Err(Broken::Unreadable("its answer doesn't end"));
        }
        if let Some(reason) = choice.finish_reason {
            self.reason = Some(match reason.as_str() {
                "length" => FinishReason::Length,
                "tool_calls" | "function_call" => FinishReason::ToolCalls,
                _ => FinishReason::Stop,
            });
        }
        Ok(content.filter(|text| !text.is_empty()))
    }

    fn take_call(&mut self, fragment: CallFragment) -> Result<(), Broken> {
        let last = self.calls.last().map(|call| call.index);
        let index = match (fragment.index, &fragment.id) {
            (Some(index), _) => index,
            // Without an index, an id that is new begins the next call.
            (None, Some(id)) if self.calls.last().is_none_or(|call| call.id.as_ref() != Some(id)) => {
                last.map_or(0, |last| last.saturating_add(1))
            }
            (None, _) => last.unwrap_or(0),
        };
        let position = match self.calls.iter().position(|call| call.index == index) {
            Some(position) => position,
            None if self.calls.len() == CALLS_MAX => {
                return Err(Broken::Unreadable("it wants too many tools at once"));
            }
            None => {
                self.calls.push(Call {
                    index,
                    id: None,
                    name: String::new(),
                    arguments: String::new(),
                });
                self.calls.len() - 1
            }
        };
        let call = &mut self.calls[position];
        if call.id.is_none() {
            call.id = fragment.id.filter(|id| !id.is_empty());
        }
        if let Some(FunctionFragment { name, arguments }) = fragment.function {
            let (name, arguments) = (name.unwrap_or_default(), arguments.unwrap_or_default());
            self.bytes += name.len() + arguments.len();
            call.name.push_str(&name);
            call.arguments.push_str(&arguments);
        }
        Ok(())
    }

    /// Whether the model has said why it stopped.
    pub(super) const fn is_finished(&self) -> bool {
        self.reason.is_some()
    }

    /// What is left to tell at the end: the tool calls, and why it stopped.
    pub(super) fn finish(self) -> Vec<LlmEvent> {
        let reason = if self.calls.is_empty() {
            self.reason.unwrap_or(FinishReason::Stop)
        } else {
            FinishReason::ToolCalls
        };
        let calls = self.calls.into_iter().enumerate().map(|(number, call)| {
            LlmEvent::ToolCall(ToolCall {
                call_id: call.id.unwrap_or_else(|| format!("call_{number}")),
                name: call.name,
                arguments: Pii::new(call.arguments),
            })
        });
        calls.chain([LlmEvent::Done { reason }]).collect()
    }
}

/// The words of an error: OpenAI's and vLLM's `{"error":{"message":…}}`, Ollama's `{"error":"…"}`, older vLLM's
/// `{"message":…}`, FastAPI's `{"detail":…}`.
fn error_words(value: &serde_json::Value) -> Option<String> {
    match value {
        serde_json::Value::String(text) => Some(text.clone()),
        serde_json::Value::Object(fields) => ["error", "message", "detail"]
            .into_iter()
            .find_map(|key| fields.get(key).and_then(error_words)),
        _ => None,
    }
}

/// The server's own words in the body of a refusal, be it JSON or not.
pub(super) fn refusal(body: &[u8]) -> String {
    serde_json::from_slice(body)
        .ok()
        .and_then(|value| error_words(&value))
        .unwrap_or_else(|| String::from_utf8_lossy(body).into_owned())
}

/// Characters of a server's words that are passed on.
const WORDS_CHARS_MAX: usize = 300;

/// `words` on one line, cut to what an operator reads, and without what people said: servers like to repeat the request
/// that they refuse.
pub(super) fn presentable(words: &str, prompt: &Prompt) -> String {
    let line: Vec<&str> = words
        .split(|letter: char| letter.is_whitespace() || letter.is_control())
        .collect();
    let line: Vec<&str> = line.into_iter().filter(|word| !word.is_empty()).collect();
    let line: String = line.join(" ").chars().take(WORDS_CHARS_MAX).collect();
    if line.is_empty() {
        return "it gave no reason".to_owned();
    }
    if repeats(&line, prompt) {
        return "its reason is withheld, because it repeats the conversation".to_owned();
    }
    line
}

/// So many characters in common aren't chance.
const REPEATED_CHARS: usize = 20;

/// A whole message of so many characters isn't, either.
const MESSAGE_CHARS: usize = 8;

fn repeats(line: &str, prompt: &Prompt) -> bool {
    let starts: Vec<usize> = line.char_indices().map(|(at, _)| at).chain([line.len()]).collect();
    let arguments = |message: &crate::call::Message| -> Vec<String> {
        let calls = message.tool_calls.iter();
        calls.map(|call| call.arguments.expose().clone()).collect()
    };
    prompt.messages.iter().any(|message| {
        let mut said = arguments(message);
        said.push(message.text.expose().clone());
        said.iter().any(|said| {
            let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
            let whole = said.chars().count() >= MESSAGE_CHARS && line.contains(&said);
            whole || {
                let mut windows = starts.windows(REPEATED_CHARS + 1);
                windows.any(|window| said.contains(&line[window[0]..window[REPEATED_CHARS]]))
            }
        })
    })
}

#[derive(Deserialize)]
struct Models {
    #[serde(default)]
    data: Vec<Model>,
}

#[derive(Deserialize)]
struct Model {
    id: String,
    #[serde(default)]
    owned_by: Option<String>,
}

/// Who owns our own models on our own `/v1/models`: we are not our own language model.
const OURSELVES: &str = "repartee";

/// The models in the answer to `GET /models` that can hold a conversation, in the server's order.
pub(super) fn models(body: &[u8]) -> Option<Vec<String>> {
    let models: Models = serde_json::from_slice(body).ok()?;
    let able = models.data.into_iter().filter(|model| {
        let embeds = model.id.to_ascii_lowercase().contains("embed");
        !embeds && model.owned_by.as_deref() != Some(OURSELVES)
    });
    Some(able.map(|model| model.id).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::{Message, Tool};

    fn prompt(said: &str) -> Prompt {
        Prompt {
            messages: vec![Message {
                role: Role::User,
                text: Pii::from(said),
                tool_calls: Vec::new(),
                call_id: None,
            }],
            tools: Vec::new(),
            max_tokens: 7,
            temperature_milli: None,
        }
    }

    #[test]
    fn a_request_is_what_the_reference_says() {
        let mut prompt = prompt("what time is it?");
        prompt.temperature_milli = Some(700);
        prompt.tools.push(Tool {
            name: "clock".to_owned(),
            description: "tells the time".to_owned(),
            parameters: serde_json::json!({"type": "object"}),
        });
        prompt.messages.push(Message {
            role: Role::Assistant,
            text: Pii::from(""),
            tool_calls: vec![ToolCall {
                call_id: "c1".to_owned(),
                name: "clock".to_owned(),
                arguments: Pii::from("{}"),
            }],
            call_id: None,
        });
        prompt.messages.push(Message {
            role: Role::Tool,
            text: Pii::from("noon"),
            tool_calls: Vec::new(),
            call_id: Some("c1".to_owned()),
        });
        let request = serde_json::to_value(Request::new("m", &prompt)).expect("plain data");
        assert_eq!(
            request,
            serde_json::json!({
                "model": "m",
                "messages": [
                    {"role": "user", "content": "what time is it?"},
                    {"role": "assistant", "content": "", "tool_calls": [
                        {"id": "c1", "type": "function", "function": {"name": "clock", "arguments": "{}"}}
                    ]},
                    {"role": "tool", "content": "noon", "tool_call_id": "c1"},
                ],
                "stream": true,
                "max_tokens": 7,
                "temperature": 0.7,
                "tools": [{"type": "function", "function": {
                    "name": "clock", "description": "tells the time", "parameters": {"type": "object"}
                }}],
            })
        );
    }

    #[test]
    fn tool_calls_are_put_together_by_index() {
        let mut assembly = Assembly::default();
        for chunk in [
            r#"{"choices":[{"delta":{"role":"assistant","content":null,"tool_calls":[
                {"index":0,"id":"a","function":{"name":"one","arguments":""}}]}}]}"#,
            r#"{"choices":[{"delta":{"tool_calls":[{"index":1,"id":"b","function":{"name":"two","arguments":"{\"x\""}}]}}]}"#,
            r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{}"}},
                {"index":1,"function":{"arguments":":1}"}}]}}]}"#,
            r#"{"choices":[{"delta":{},"finish_reason":"tool_calls"}]}"#,
            r#"{"choices":[],"usage":{"total_tokens":3}}"#,
        ] {
            assert_eq!(assembly.take(chunk), Ok(None));
        }
        let call = |id: &str, name: &str, arguments: &str| {
            LlmEvent::ToolCall(ToolCall {
                call_id: id.to_owned(),
                name: name.to_owned(),
                arguments: Pii::from(arguments),
            })
        };
        assert_eq!(
            assembly.finish(),
            [
                call("a", "one", "{}"),
                call("b", "two", "{\"x\":1}"),
                LlmEvent::Done {
                    reason: FinishReason::ToolCalls
                }
            ]
        );
    }

    #[test]
    fn calls_without_index_or_id_are_told_apart() {
        let mut assembly = Assembly::default();
        for chunk in [
            r#"{"choices":[{"delta":{"tool_calls":[{"id":"a","function":{"name":"one","arguments":"{"}}]}}]}"#,
            r#"{"choices":[{"delta":{"tool_calls":[{"function":{"arguments":"}"}}]}}]}"#,
            r#"{"choices":[{"delta":{"tool_calls":[{"id":"b","function":{"name":"two"}}]}}]}"#,
        ] {
            assert_eq!(assembly.take(chunk), Ok(None));
        }
        let names: Vec<_> = assembly
            .calls
            .iter()
            .map(|call| (&*call.name, &*call.arguments))
            .collect();
        assert_eq!(names, [("one", "{}"), ("two", "")]);
    }

    #[test]
    fn nonsense_is_an_error_and_has_an_end() {
        for nonsense in [
            "",
            "{",
            "7",
            r#"{"choices":7}"#,
            r#"{"choices":[{"delta":{"content":{}}}]}"#,
        ] {
            assert!(
                matches!(Assembly::default().take(nonsense), Err(Broken::Unreadable(_))),
                "{nonsense}"
            );
        }
        let mut assembly = Assembly::default();
        let chunk = |index: usize| {
            format!(r#"{{"choices":[{{"delta":{{"tool_calls":[{{"index":{index},"id":"x{index}"}}]}}}}]}}"#)
        };
        assert!((0..CALLS_MAX).all(|index| assembly.take(&chunk(index * 1000)).is_ok()));
        assert!(assembly.take(&chunk(usize::MAX)).is_err());
        let mut assembly = Assembly::default();
        let long = format!(r#"{{"choices":[{{"delta":{{"content":"{}"}}}}]}}"#, "x".repeat(1 << 19));
        assert!((0..9).any(|_| assembly.take(&long).is_err()));
    }

    #[test]
    fn a_server_speaks_for_itself_but_does_not_repeat_the_conversation() {
        for (body, words) in [
            (
                r#"{"error":{"message":"model 'x' not found","type":"api"}}"#,
                "model 'x' not found",
            ),
            (r#"{"error":"model is loading"}"#, "model is loading"),
            (r#"{"detail":"Not Found"}"#, "Not Found"),
            ("<html>\n Bad\r\n Gateway</html>", "<html> Bad Gateway</html>"),
            ("", "it gave no reason"),
            ("[1,2]", "[1,2]"),
        ] {
            assert_eq!(presentable(&refusal(body.as_bytes()), &prompt("hello")), words);
        }
        let said = prompt("my card number is 5555 4444 3333 1111");
        for echo in [
            "invalid input: 'my card number is 5555 4444 3333 1111'",
            "cannot parse \"number is 5555 4444 3333\"",
        ] {
            assert!(presentable(echo, &said).contains("withheld"), "{echo}");
        }
        assert_eq!(presentable(&"é".repeat(900), &said).chars().count(), WORDS_CHARS_MAX);
    }

    #[test]
    fn only_models_that_converse_are_offered() {
        let body = br#"{"object":"list","data":[{"id":"qwen3:4b","owned_by":"library"},{"id":"nomic-embed-text"},
            {"id":"parrot","owned_by":"repartee"}]}"#;
        assert_eq!(models(body).as_deref(), Some(["qwen3:4b".to_owned()].as_slice()));
        assert_eq!(models(b"<html>"), None);
        assert_eq!(models(b"{}").as_deref(), Some([].as_slice()));
    }
}
