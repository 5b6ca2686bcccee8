//! What a stream is opened with, for each job.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::load::Job;
use super::message::StreamId;

/// Opens a stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Open {
    /// The new stream.
    pub stream: StreamId,
    /// How many bytes of data frames the worker may send on it before it is given more credit.
    pub credit: u64,
    /// What is wanted; it has to fit the job of the loaded model.
    pub params: Params,
}

/// What is wanted of a stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "job", rename_all = "snake_case")]
pub enum Params {
    /// `audio` in, until `finish`; `partial`s and a `final` out.
    Stt(SttParams),
    /// `text`s in, until `finish`; `marks` and `audio` out.
    Tts(TtsParams),
    /// The [`Chat`] is the payload of the `open`, as JSON. `token`s and `tool_call`s out.
    Llm(LlmParams),
    /// `audio` in, until `cancel` or `finish`; `score`s out, one for each of the model's frames.
    Vad(VadParams),
    /// `audio` in: the turn so far. A `score` after `finish`.
    Turn(TurnParams),
}

impl Params {
    /// The job that they are for.
    pub fn job(&self) -> Job {
        match self {
            Self::Stt(_) => Job::Stt,
            Self::Tts(_) => Job::Tts,
            Self::Llm(_) => Job::Llm,
            Self::Vad(_) => Job::Vad,
            Self::Turn(_) => Job::Turn,
        }
    }
}

/// How an utterance is to be written down.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SttParams {
    /// The rate of the audio in Hz; mono, 16 bit, little endian.
    pub rate: u32,
    /// A BCP 47 tag; absent: the model's own, or found out by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
    /// Words and phrases that are likely.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hints: Vec<String>,
    /// Text that came before, for models that take a prompt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    /// Whether partial transcripts are wanted.
    #[serde(default = "yes")]
    pub partials: bool,
    /// Whether the final transcript should have the times of its words.
    #[serde(default)]
    pub words: bool,
}

fn yes() -> bool {
    true
}

/// How a response is to be spoken.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TtsParams {
    /// An id out of [`ModelInfo::voices`](super::ModelInfo::voices); absent: the default one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub voice: Option<String>,
    /// A BCP 47 tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
    /// Speaking speed, 1.0 is the voice's own; workers clamp it to what they can do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub speed: Option<f32>,
    /// Whether [`Marks`](super::Marks) are wanted.
    #[serde(default = "yes")]
    pub marks: bool,
}

/// How a completion is to be sampled.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LlmParams {
    /// The most tokens to make; 0: the model's own limit.
    #[serde(default)]
    pub max_tokens: u32,
    /// Sampling temperature; absent: the model's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f32>,
    /// Nucleus sampling.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f32>,
    /// Sampling from the likeliest tokens only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_k: Option<u32>,
    /// For repeatable sampling.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// Texts at which generation stops; they aren't part of the answer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stop: Vec<String>,
    /// What the answer has to look like.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grammar: Option<Grammar>,
    /// Streams with the same key share a prefix that is worth keeping (one conversation).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_key: Option<String>,
}

/// The form that an answer is held to while it is sampled.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Grammar {
    /// Any JSON object.
    Json,
    /// JSON that fits a JSON Schema.
    JsonSchema {
        /// The schema.
        schema: Value,
    },
    /// A grammar in llama.cpp's notation.
    Gbnf {
        /// The grammar.
        text: String,
    },
}

/// What the language model answers to: the payload of an `open` for an LLM, as JSON.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Chat {
    /// The conversation, oldest first.
    pub messages: Vec<ChatMessage>,
    /// What the model may call.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<Tool>,
    /// `auto`, `none`, `required`, or the name of a tool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_choice: Option<String>,
}

impl fmt::Debug for Chat {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A conversation is what people said: it never reaches a log.
        write!(
            formatter,
            "Chat {{ {} messages, {} tools }}",
            self.messages.len(),
            self.tools.len()
        )
    }
}

/// Who speaks in a [`Chat`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Instructions.
    System,
    /// The person.
    User,
    /// The model.
    Assistant,
    /// The result of a call.
    Tool,
}

/// One message of a [`Chat`].
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct ChatMessage {
    /// Who says it.
    pub role: Role,
    /// What is said; empty where the message is only a call.
    #[serde(default)]
    pub content: String,
    /// The calls that the assistant made in it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<Function>,
    /// Which call this is the result of ([`Role::Tool`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<String>,
    /// Pictures that go with it, before its text. For models with a projector; others fail with
    /// [`code::UNSUPPORTED`](super::code::UNSUPPORTED).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<Image>,
}

/// A picture in a [`ChatMessage`].
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// `image/png` or `image/jpeg`.
    pub media_type: String,
    /// The file, in base64 (RFC 4648 §4, with padding). All of a chat has to fit [`MAX_PAYLOAD`](super::MAX_PAYLOAD).
    pub data: String,
}

impl fmt::Debug for Image {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Image {{ {}, {} bytes }}", self.media_type, self.data.len())
    }
}

impl fmt::Debug for ChatMessage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "ChatMessage {{ {:?}, {} bytes }}",
            self.role,
            self.content.len()
        )
    }
}

/// A tool that the model may call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tool {
    /// Its name.
    pub name: String,
    /// When to use it.
    #[serde(default)]
    pub description: String,
    /// Its arguments, as JSON Schema.
    #[serde(default)]
    pub parameters: Value,
}

/// A call of a tool.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Function {
    /// Names this call, so that its result can be told.
    pub id: String,
    /// Which tool.
    pub name: String,
    /// Its arguments, as JSON text.
    pub arguments: String,
}

impl fmt::Debug for Function {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Function {{ {} }}", self.name)
    }
}

/// What a VAD is given.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct VadParams {
    /// The rate of the audio in Hz; mono, 16 bit, little endian.
    pub rate: u32,
}

/// What a turn model is given.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TurnParams {
    /// The rate of the audio in Hz; mono, 16 bit, little endian.
    pub rate: u32,
    /// The transcript so far, for models that read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}
