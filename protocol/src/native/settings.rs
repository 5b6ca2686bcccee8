//! The settings of a session: what `hello` and `update` may ask for, and what `ready` and `updated` answer.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Private, Thousandths};

/// Who decides that a turn begins and ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TurnDetection {
    /// The server, from what it hears.
    Server,
    /// The client, with `commit`: everything since the last commit is one turn.
    Client,
}

impl TurnDetection {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Server, Self::Client];

    /// Its name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Client => "client",
        }
    }
}

/// A tool that the language model may call; the client runs it and gives the result with `tool_output`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Tool {
    /// Its name: letters, digits, `_` and `-`.
    #[schemars(regex(pattern = r"^[A-Za-z0-9_-]{1,64}$"))]
    pub name: String,
    /// What it does, for the model.
    #[schemars(with = "Option<String>")]
    pub description: String,
    /// JSON Schema of its arguments; an object without properties where absent.
    #[schemars(with = "Option<serde_json::Map<String, serde_json::Value>>")]
    pub parameters: serde_json::Value,
}

/// The most tools that a session can have.
pub const MAX_TOOLS: usize = 128;

/// Which stages run; what is absent stays. Every subset is a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct StagesUpdate {
    /// Speech is recognised.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stt: Option<bool>,
    /// Replies are generated when a turn ends. Without it, the client supplies them with `say`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub llm: Option<bool>,
    /// Replies are spoken. Without it they are text only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tts: Option<bool>,
}

/// Start of speech; what is absent stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct SpeechUpdate {
    /// Probability of speech from which a frame counts as speech.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.001, max = 1))]
    pub start_threshold: Option<Thousandths>,
    /// Probability of speech below which a frame of an open turn counts as silence; at most `start_threshold`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1))]
    pub stop_threshold: Option<Thousandths>,
    /// Speech must last this long (ms) before a turn is opened.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 2_000))]
    pub min_speech_ms: Option<u32>,
    /// The turn's audio begins this long (ms) before the first speech.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 2_000))]
    pub pre_roll_ms: Option<u32>,
}

/// End of turn; what is absent stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct EndpointingUpdate {
    /// Silence (ms) after which a turn ends when nothing speaks against it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 50, max = 10_000))]
    pub silence_ms: Option<u32>,
    /// Silence (ms) after which it ends in any case; at least `silence_ms`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 50, max = 30_000))]
    pub max_silence_ms: Option<u32>,
    /// A turn is cut into a committed segment after this long (ms).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 2_000, max = 60_000))]
    pub hard_limit_ms: Option<u32>,
    /// Prepare a reply after this much silence (ms), and throw it away if the user goes on; at most `silence_ms`, 0: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 10_000))]
    pub eager_ms: Option<u32>,
}

/// Interruption of a reply by speech; what is absent stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct BargeInUpdate {
    /// Whether speech may interrupt a reply at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Speech of this length (ms) stops the reply.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 5_000))]
    pub confirm_ms: Option<u32>,
    /// Gain of the reply until that is decided: 0 is silent, 1 unchanged.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1))]
    pub duck_gain: Option<Thousandths>,
}

/// A change of settings; what is absent (or null) stays. It holds from the next turn or response on.
///
/// A bound that isn't named follows the value that is: `silence_ms` above `max_silence_ms` raises that, below `eager_ms`
/// lowers that, and `start_threshold` below `stop_threshold` lowers that. `updated` tells what came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct SettingsUpdate {
    /// The system prompt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instructions: Option<Private>,
    /// The voice, by its backend's name for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub voice: Option<String>,
    /// BCP 47 language of the speech: `en-US`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[A-Za-z0-9]{1,8}(-[A-Za-z0-9]{1,8}){0,6}$"))]
    pub language: Option<String>,
    /// Which stages run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stages: Option<StagesUpdate>,
    /// Who finds turns.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub turn_detection: Option<TurnDetection>,
    /// Start of speech.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub speech: Option<SpeechUpdate>,
    /// End of turn.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpointing: Option<EndpointingUpdate>,
    /// Interruption.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub barge_in: Option<BargeInUpdate>,
    /// Tools offered to the language model; replaces them all.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub tools: Option<Vec<Tool>>,
    /// Sampling temperature.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 2))]
    pub temperature: Option<Thousandths>,
    /// Whether replies wait for `approve`: the client hears the whole text of each, as `response_prepared`, before it is spoken or told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approval: Option<bool>,
}

/// Which stages run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Stages {
    /// Speech is recognised.
    pub stt: bool,
    /// Replies are generated when a turn ends.
    pub llm: bool,
    /// Replies are spoken.
    pub tts: bool,
}

/// Start of speech, as it is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Speech {
    /// Probability of speech from which a frame counts as speech.
    pub start_threshold: Thousandths,
    /// Probability of speech below which a frame of an open turn counts as silence.
    pub stop_threshold: Thousandths,
    /// Speech must last this long (ms) before a turn is opened.
    pub min_speech_ms: u32,
    /// The turn's audio begins this long (ms) before the first speech.
    pub pre_roll_ms: u32,
}

/// End of turn, as it is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Endpointing {
    /// Silence (ms) after which a turn ends when nothing speaks against it.
    pub silence_ms: u32,
    /// Silence (ms) after which it ends in any case.
    pub max_silence_ms: u32,
    /// A turn is cut into a committed segment after this long (ms).
    pub hard_limit_ms: u32,
    /// A reply is prepared after this much silence (ms); 0: never.
    pub eager_ms: u32,
}

/// Interruption, as it is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BargeIn {
    /// Whether speech may interrupt a reply at all.
    pub enabled: bool,
    /// Speech of this length (ms) stops the reply.
    pub confirm_ms: u32,
    /// Gain of the reply until that is decided.
    pub duck_gain: Thousandths,
}

/// The settings in effect. The instructions are not among them: a client knows its own, and those of the server are the
/// operator's business.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Settings {
    /// The voice; the backend's default when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub voice: Option<String>,
    /// BCP 47 language of the speech; the recogniser's default when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
    /// Which stages run.
    pub stages: Stages,
    /// Who finds turns.
    pub turn_detection: TurnDetection,
    /// Start of speech.
    pub speech: Speech,
    /// End of turn.
    pub endpointing: Endpointing,
    /// Interruption.
    pub barge_in: BargeIn,
    /// Names of the tools offered to the language model.
    pub tools: Vec<String>,
    /// Sampling temperature; the model's default when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<Thousandths>,
    /// Whether replies wait for `approve`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub approval: bool,
}
