//! What the stages of the pipeline say: results of recognisers, language models and synthesisers, without their audio.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::pii::Pii;
use crate::time::Samples;

/// The five jobs of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BackendKind {
    /// Voice activity detection.
    Vad,
    /// A model that predicts whether a turn has ended.
    Turn,
    /// Speech to text.
    Stt,
    /// The language model.
    Llm,
    /// Text to speech.
    Tts,
}

impl BackendKind {
    /// All five.
    pub const ALL: [Self; 5] = [Self::Vad, Self::Turn, Self::Stt, Self::Llm, Self::Tts];
}

impl fmt::Display for BackendKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Vad => "vad",
            Self::Turn => "turn",
            Self::Stt => "stt",
            Self::Llm => "llm",
            Self::Tts => "tts",
        })
    }
}

/// A probability in thousandths, so that traces hold integers: 0 is never, 1000 is certain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Probability(u16);

impl Probability {
    /// From thousandths; more than 1000 is 1000.
    #[must_use]
    pub const fn from_per_mille(per_mille: u16) -> Self {
        Self(if per_mille > 1000 { 1000 } else { per_mille })
    }

    /// From a fraction; what is outside 0..=1 (NaN too) is clamped.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped to 0..=1000 before the cast"
    )]
    pub fn from_fraction(fraction: f32) -> Self {
        Self((fraction.clamp(0.0, 1.0) * 1000.0).round() as u16)
    }

    /// Thousandths.
    #[must_use]
    pub const fn per_mille(self) -> u16 {
        self.0
    }
}

/// Why a stage failed, as far as the core must know to decide what follows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageFailure {
    /// Which backend it was, for the message: "pocketsphinx", "openai".
    pub backend: String,
    /// The cause, in words for an operator; never what somebody said.
    pub reason: String,
    /// Whether asking again may help: true when a worker died or was busy, false when the request itself is wrong.
    pub retry: bool,
    /// Wait this long before asking again. Where many sessions lost one worker, each is given another delay.
    pub retry_after_ms: u32,
}

/// What a recogniser says about one transcription.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum SttEvent {
    /// The words so far. Supersedes the previous partial.
    Partial {
        /// All words of this transcription until now.
        text: Pii<String>,
        /// The first so many characters (not bytes) will not change any more, the recogniser believes.
        stable_chars: u32,
    },
    /// The words of the whole transcription; it is over.
    Final {
        /// All its words; empty when nothing was recognised.
        text: Pii<String>,
    },
    /// It could not be done; it is over.
    Failed(StageFailure),
}

/// Why a language model stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// It had said all.
    Stop,
    /// The limit of tokens was reached.
    Length,
    /// It waits for the result of a tool.
    ToolCalls,
}

/// A language model's wish to have a tool called.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolCall {
    /// Names the call; the result is given back under it.
    pub call_id: String,
    /// The tool's name.
    pub name: String,
    /// Its arguments: JSON text, as the model wrote it (not validated).
    pub arguments: Pii<String>,
}

/// What a language model says about one generation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum LlmEvent {
    /// More text, to be appended.
    Delta {
        /// The new text, spaces included.
        text: Pii<String>,
    },
    /// A complete tool call.
    ToolCall(ToolCall),
    /// It is over.
    Done {
        /// Why.
        reason: FinishReason,
    },
    /// It could not be done (any more); it is over.
    Failed(StageFailure),
}

/// When a word of a synthesised clause is heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WordTiming {
    /// The word ends before this character (not byte) of the clause's text.
    pub end_char: u32,
    /// And at this sample of the clause's audio, counted at the session's rate.
    pub end: Samples,
    /// Whether the synthesiser said so (false) or it was worked out in proportion (true).
    pub estimated: bool,
}

/// Who speaks in a prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The operator's instructions.
    System,
    /// The person.
    User,
    /// We.
    Assistant,
    /// The result of a tool.
    Tool,
}

/// One message of a prompt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said; for [`Role::Tool`] the tool's output.
    pub text: Pii<String>,
    /// On [`Role::Assistant`]: the calls it made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCall>,
    /// On [`Role::Tool`]: which call this answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call_id: Option<String>,
}

/// What a language model is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prompt {
    /// Instructions first, then the history, the user's newest words last.
    pub messages: Vec<Message>,
    /// The tools it may call.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<super::Tool>,
    /// At most this many tokens in the answer.
    pub max_tokens: u32,
    /// Sampling temperature in thousandths, when not the model's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature_milli: Option<u16>,
}
