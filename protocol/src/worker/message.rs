//! The messages of the worker link, both ways.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;

use super::frame::Frame;

/// The version of the link that this crate speaks; a worker with another one isn't used.
pub const VERSION: u32 = 1;

/// Stable codes of [`Failed`], [`LoadFailed`] and [`ToEngine::Error`].
pub mod code {
    /// All places of the worker are taken and its queue is full. May be tried again, better elsewhere.
    pub const BUSY: &str = "busy";
    /// The request can't be served by this worker: wrong job, rate, voice, language or parameter.
    pub const UNSUPPORTED: &str = "unsupported";
    /// A message that is no message of this link, or comes where it can't.
    pub const INVALID: &str = "invalid";
    /// A `type` that this worker doesn't know.
    pub const UNKNOWN_TYPE: &str = "unknown_type";
    /// More data than the stream had credit for.
    pub const CREDIT: &str = "credit_exceeded";
    /// The input is longer than the worker takes for one stream.
    pub const TOO_LONG: &str = "too_long";
    /// The library failed. The text says how.
    pub const INTERNAL: &str = "internal";
    /// A file or a package is missing. The text names it.
    pub const MISSING: &str = "missing";
    /// There's not enough memory for the model.
    pub const MEMORY: &str = "memory";
}

/// Names a stream on one link. The engine counts upwards and never uses an id twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StreamId(pub u64);

impl From<u64> for StreamId {
    fn from(id: u64) -> Self {
        Self(id)
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// What a model is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Job {
    /// Speech to text.
    Stt,
    /// Text to speech.
    Tts,
    /// A language model.
    Llm,
    /// Voice activity.
    Vad,
    /// Whether a turn has ended.
    Turn,
}

/// A device that a worker can compute on, as its library sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Device {
    /// `cpu`, `cuda:0`, `vulkan:1`: what a [`Load`] may ask for.
    pub id: String,
    /// What the device calls itself.
    #[serde(default)]
    pub name: String,
    /// Its memory in bytes, 0 where it isn't known.
    #[serde(default)]
    pub memory_bytes: u64,
    /// How much of it is free, in bytes.
    #[serde(default)]
    pub free_bytes: u64,
}

/// The first message of a worker: what this build on this machine can do, found out by asking the library.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    /// [`VERSION`] of the worker's side.
    pub protocol: u32,
    /// Which worker this is, such as `pocketsphinx`.
    pub name: String,
    /// Its own version.
    pub version: String,
    /// The native library and its version, for people.
    #[serde(default)]
    pub library: String,
    /// What it can be asked to load models for.
    pub jobs: Vec<Job>,
    /// What the library was built with: `cpu`, `cuda`, `vulkan`…
    #[serde(default)]
    pub features: Vec<String>,
    /// Which kinds of model files it takes: `gguf`, `ggml`, `onnx`, `kroko`, `builtin`…
    #[serde(default)]
    pub formats: Vec<String>,
    /// What it measured of its devices.
    #[serde(default)]
    pub devices: Vec<Device>,
    /// How many cores this process may run on.
    #[serde(default)]
    pub threads: u32,
    /// The machine's memory in bytes, 0 where it isn't known.
    #[serde(default)]
    pub memory_bytes: u64,
    /// The worker's process id, for people and logs.
    #[serde(default)]
    pub pid: u32,
}

/// Asks for the one model of this process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Load {
    /// What the model is to be used for.
    pub job: Job,
    /// A catalogue id (such as `pocketsphinx-en-us`), or a path relative to the models root.
    pub model: String,
    /// Further files of the model by role (`tokens`, `projector`…), as paths relative to the models root.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub files: BTreeMap<String, String>,
    /// Options of this model; the catalogue says which there are.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, Value>,
    /// The most threads that inference may use; 0 leaves it to the worker.
    #[serde(default)]
    pub threads: u32,
    /// Where to compute, an id out of [`Hello::devices`]; absent leaves it to the worker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
}

/// A voice of a speech synthesiser.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Voice {
    /// What [`TtsParams::voice`] asks for.
    pub id: String,
    /// What it speaks, as BCP 47 tags.
    #[serde(default)]
    pub languages: Vec<String>,
    /// The rate of its audio in Hz.
    pub rate: u32,
    /// One line for people.
    #[serde(default)]
    pub description: String,
}

/// What the loaded model is and takes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ModelInfo {
    /// The model's name, for people.
    pub name: String,
    /// The rate in Hz at which audio has to come (STT, VAD, turn) or at which it leaves with the default voice (TTS); 0 for LLM.
    #[serde(default)]
    pub rate: u32,
    /// Languages as BCP 47 tags; empty: not known, or any.
    #[serde(default)]
    pub languages: Vec<String>,
    /// Voices, the default one first.
    #[serde(default)]
    pub voices: Vec<Voice>,
    /// How many streams make progress at the same time.
    #[serde(default)]
    pub max_streams: u32,
    /// How many more may wait; a further one fails with [`code::BUSY`].
    #[serde(default)]
    pub max_waiting: u32,
    /// Whether results come while the input goes on: partial transcripts, audio before the last word is planned.
    #[serde(default)]
    pub streaming: bool,
    /// How many tokens fit in the context (LLM).
    #[serde(default)]
    pub context: u32,
    /// The longest input of one stream: ms of audio (STT, turn) or characters of one text (TTS); 0: no limit of its own.
    #[serde(default)]
    pub max_input: u32,
}

/// The model is loaded, has made a real inference, and can be used.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Ready {
    /// Time from the [`Load`] to the loaded model, in ms.
    pub load_ms: u32,
    /// Time of the first inference, in ms.
    pub warmup_ms: u32,
    /// Resident memory of the process now, in bytes.
    pub memory_bytes: u64,
    /// Memory taken on the device, in bytes, 0 on a CPU.
    #[serde(default)]
    pub device_bytes: u64,
    /// How many bytes of data frames the engine may send on a new stream before it is given more credit.
    pub stream_credit: u64,
    /// The model.
    pub model: ModelInfo,
}

/// The model can't be used, and why. The worker stays, and may be asked for another one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LoadFailed {
    /// One of [`code`].
    #[serde(default)]
    pub code: String,
    /// The cause and the remedy, for the operator.
    pub reason: String,
    /// The file or the package that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
}

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
    /// An id out of [`ModelInfo::voices`]; absent: the default one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub voice: Option<String>,
    /// A BCP 47 tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
    /// Speaking speed, 1.0 is the voice's own; workers clamp it to what they can do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub speed: Option<f32>,
    /// Whether [`Marks`] are wanted.
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

/// Text to speak: one clause or sentence.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Text {
    /// The stream.
    pub stream: StreamId,
    /// The engine's number of this clause within the stream; comes back in its [`Marks`].
    #[serde(default)]
    pub clause: u32,
    /// The clause.
    pub text: String,
}

impl fmt::Debug for Text {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "Text {{ stream: {}, clause: {}, {} bytes }}",
            self.stream,
            self.clause,
            self.text.len()
        )
    }
}

/// More data may be sent on a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credit {
    /// The stream.
    pub stream: StreamId,
    /// How many more bytes of data frames.
    pub n: u64,
}

/// What the engine says to a worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ToWorker {
    /// Load the one model.
    Load(Load),
    /// Open a stream. The payload belongs to the job (a [`Chat`] for an LLM).
    Open(Open),
    /// Data: the payload is mono PCM, 16 bit, little endian, at the rate that the stream was opened with.
    Audio {
        /// The stream.
        stream: StreamId,
    },
    /// Data: a clause to speak.
    Text(Text),
    /// No more input: give the final result, then `done`.
    Finish {
        /// The stream.
        stream: StreamId,
    },
    /// Stop at once: nothing of the stream is wanted any more.
    Cancel {
        /// The stream.
        stream: StreamId,
    },
    /// More data may be sent to the engine.
    Credit(Credit),
    /// Are you well?
    Ping {
        /// Comes back in the [`Pong`].
        nonce: u64,
    },
    /// End every stream and exit.
    Stop,
}

impl ToWorker {
    pub(super) const TYPES: &[&str] = &[
        "load", "open", "audio", "text", "finish", "cancel", "credit", "ping", "stop",
    ];
}

/// A transcript while its utterance goes on.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Partial {
    /// The stream.
    pub stream: StreamId,
    /// Everything heard in this stream so far, as the recogniser sees it now.
    pub text: String,
    /// How many leading characters (Unicode scalar values) won't change any more, as far as the recogniser can tell.
    #[serde(default)]
    pub stable_chars: u32,
    /// How much audio it covers, in ms since the stream's first sample.
    #[serde(default)]
    pub audio_ms: u32,
}

impl fmt::Debug for Partial {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "Partial {{ stream: {}, {} bytes }}",
            self.stream,
            self.text.len()
        )
    }
}

/// The transcript of an utterance.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct FinalText {
    /// The stream.
    pub stream: StreamId,
    /// The whole utterance; empty where nothing was understood.
    pub text: String,
    /// 0 to 1, where the recogniser knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confidence: Option<f32>,
    /// The language that was heard, as a BCP 47 tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
    /// When its words were said, if asked for and known. The unit is a sample of the stream's audio.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub words: Vec<Mark>,
    /// How much audio it covers, in ms.
    #[serde(default)]
    pub audio_ms: u32,
}

impl fmt::Debug for FinalText {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "FinalText {{ stream: {}, {} bytes }}",
            self.stream,
            self.text.len()
        )
    }
}

/// When a word is (or was) said.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// The word as it is written in the text, without the spaces around it.
    pub text: String,
    /// Where it begins in its text, in characters (Unicode scalar values).
    #[serde(default)]
    pub char_start: u32,
    /// Where it ends in its text.
    #[serde(default)]
    pub char_end: u32,
    /// Its first sample, counted from the stream's first.
    pub start: u64,
    /// The sample after its last.
    pub end: u64,
}

impl fmt::Debug for Mark {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "Mark {{ {} bytes, {}..{} }}",
            self.text.len(),
            self.start,
            self.end
        )
    }
}

/// When the words of one clause are said. Comes before the clause's first audio where the synthesiser knows then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marks {
    /// The stream.
    pub stream: StreamId,
    /// The clause, as numbered in its [`Text`].
    pub clause: u32,
    /// Its words, in order.
    pub words: Vec<Mark>,
    /// Whether the times are guessed from the words' lengths rather than known from the synthesis.
    pub estimated: bool,
}

/// A piece of an LLM's answer.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// The stream.
    pub stream: StreamId,
    /// What is to be appended to the answer; whole characters.
    pub text: String,
}

impl fmt::Debug for Token {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "Token {{ stream: {}, {} bytes }}",
            self.stream,
            self.text.len()
        )
    }
}

/// The LLM calls a tool.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ToolCall {
    /// The stream.
    pub stream: StreamId,
    /// The call.
    pub call: Function,
}

/// What a VAD or a turn model thinks.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// The stream.
    pub stream: StreamId,
    /// The probability, 0 to 1, that somebody speaks (VAD) or that the turn has ended.
    pub probability: f32,
    /// Up to which sample of the stream it holds.
    #[serde(default)]
    pub at: u64,
}

/// What a stream used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens of the prompt (LLM).
    #[serde(default)]
    pub prompt_tokens: u32,
    /// How many of them were still in the cache.
    #[serde(default)]
    pub cached_tokens: u32,
    /// Tokens made.
    #[serde(default)]
    pub completion_tokens: u32,
    /// Samples taken (STT) or made (TTS).
    #[serde(default)]
    pub samples: u64,
    /// Time computed for it, in µs.
    #[serde(default)]
    pub compute_us: u64,
}

/// The stream has ended as it should.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// The stream.
    pub stream: StreamId,
    /// Whether it was cancelled.
    #[serde(default)]
    pub cancelled: bool,
    /// Why the LLM stopped: `stop`, `length`, `tool_calls`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What it used.
    #[serde(default)]
    pub usage: Usage,
}

/// The stream has ended with an error; other streams go on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    /// The stream.
    pub stream: StreamId,
    /// One of [`code`], or a worker's own.
    pub code: String,
    /// The cause, for the operator. It never holds what was said.
    pub message: String,
}

/// The answer to a ping. It comes from the thread that reads the link, also while the model computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pong {
    /// The ping's.
    pub nonce: u64,
    /// For how long the oldest computation that is under way has been running, in ms; 0 when idle. A model that hangs is seen here.
    #[serde(default)]
    pub busy_ms: u64,
    /// Streams that are open, waiting ones included.
    #[serde(default)]
    pub streams: u32,
    /// Resident memory of the process in bytes.
    #[serde(default)]
    pub memory_bytes: u64,
}

/// What a worker says to the engine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ToEngine {
    /// Who this is.
    Hello(Hello),
    /// The model can be used.
    Ready(Ready),
    /// The model can't be used.
    LoadFailed(LoadFailed),
    /// A transcript so far.
    Partial(Partial),
    /// A transcript.
    Final(FinalText),
    /// Data: the payload is mono PCM, 16 bit, little endian, at the rate of the stream's voice.
    Audio {
        /// The stream.
        stream: StreamId,
    },
    /// When words are said.
    Marks(Marks),
    /// Data: a piece of an answer.
    Token(Token),
    /// The LLM calls a tool.
    ToolCall(ToolCall),
    /// What a VAD or turn model thinks.
    Score(Score),
    /// A stream's good end.
    Done(Done),
    /// A stream's bad end.
    Failed(Failed),
    /// More data may be sent to the worker.
    Credit(Credit),
    /// The answer to a ping.
    Pong(Pong),
    /// The answer to a message that belongs to no stream and can't be obeyed.
    Error {
        /// One of [`code`].
        code: String,
        /// The cause.
        message: String,
    },
}

impl ToEngine {
    pub(super) const TYPES: &[&str] = &[
        "hello",
        "ready",
        "load_failed",
        "partial",
        "final",
        "audio",
        "marks",
        "token",
        "tool_call",
        "score",
        "done",
        "failed",
        "credit",
        "pong",
        "error",
    ];

    /// The stream that it is about.
    pub fn stream(&self) -> Option<StreamId> {
        match self {
            Self::Hello(_) | Self::Ready(_) | Self::LoadFailed(_) | Self::Pong(_) | Self::Error { .. } => None,
            Self::Partial(Partial { stream, .. })
            | Self::Final(FinalText { stream, .. })
            | Self::Audio { stream }
            | Self::Marks(Marks { stream, .. })
            | Self::Token(Token { stream, .. })
            | Self::ToolCall(ToolCall { stream, .. })
            | Self::Score(Score { stream, .. })
            | Self::Done(Done { stream, .. })
            | Self::Failed(Failed { stream, .. })
            | Self::Credit(Credit { stream, .. }) => Some(*stream),
        }
    }
}

/// A frame whose header isn't a message of this link. It is answered, and the link goes on.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum MessageError {
    /// Nobody here knows this type.
    #[error("unknown message type {kind:?}")]
    UnknownType {
        /// The type, cut to 64 characters.
        kind: String,
        /// The stream that the message names.
        stream: Option<u64>,
    },
    /// The type is known, but a field is missing or wrong.
    #[error("a {kind:?} message that can't be read: {cause}")]
    Invalid {
        /// The type.
        kind: String,
        /// The stream that the message names.
        stream: Option<u64>,
        /// What is wrong with it, without its content.
        cause: String,
    },
}

impl MessageError {
    pub(super) fn new(frame: &Frame, error: &serde_json::Error, known: &[&str]) -> Self {
        // What the other side sent is quoted shortly and printably: this text ends in logs.
        let kind: String = frame
            .kind()
            .chars()
            .take(64)
            .map(|c| if c.is_control() { '?' } else { c })
            .collect();
        let stream = frame.stream();
        if known.contains(&frame.kind()) {
            // serde quotes wrong values; a message may hold what a caller said, so only the place is told.
            let what = match error.classify() {
                serde_json::error::Category::Data => "a field is missing or has a wrong type",
                _ => "it is no JSON",
            };
            Self::Invalid {
                kind,
                stream,
                cause: format!("{what}, at column {}", error.column()),
            }
        } else {
            Self::UnknownType { kind, stream }
        }
    }

    /// The stream that the message names, so that the answer can go to it.
    pub fn stream(&self) -> Option<u64> {
        match self {
            Self::UnknownType { stream, .. } | Self::Invalid { stream, .. } => *stream,
        }
    }

    /// One of [`code`].
    pub fn code(&self) -> &'static str {
        match self {
            Self::UnknownType { .. } => code::UNKNOWN_TYPE,
            Self::Invalid { .. } => code::INVALID,
        }
    }
}
