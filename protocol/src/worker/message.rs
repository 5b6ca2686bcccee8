//! The messages of the worker link, both ways.

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::frame::Frame;
use super::load::{Hello, Load, LoadFailed, Ready};
use super::open::{Function, Open};

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
    /// Open a stream. The payload belongs to the job (a [`Chat`](super::Chat) for an LLM).
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
    /// Steps that the model made from its beginning to its end, for it alone or for all streams at once; 0 where they aren't counted.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub steps: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
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
