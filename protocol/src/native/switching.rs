//! Switching backends: what a client asks, and what it is told.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{BackendKind, Private, ResponseId, Thousandths, TurnId};

/// Switch a backend. What is absent stays as it is. Answered by `switch_started` and then `switched`, or by `switch_failed`; at most one switch
/// of each kind is under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Switch {
    /// The job.
    pub kind: BackendKind,
    /// The backend, as `capabilities` names it. Absent: the one that the model belongs to, else the one that serves.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub backend: Option<String>,
    /// The model: a catalogue id, or a path below a models root of the server.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub model: Option<String>,
    /// The voice (`tts`).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub voice: Option<String>,
    /// BCP 47 language.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 62))]
    pub language: Option<String>,
    /// Further files of the model by role.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(with = "Option<BTreeMap<String, String>>")]
    pub files: BTreeMap<String, String>,
    /// Options of the model, as its worker documents them.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(with = "Option<BTreeMap<String, Value>>")]
    pub options: BTreeMap<String, Value>,
    /// For whom; this session where absent.
    #[schemars(with = "Option<SwitchScope>")]
    pub scope: SwitchScope,
    /// When; now where absent. A response keeps the voice and the model that it began with.
    #[schemars(with = "Option<SwitchWhen>")]
    pub when: SwitchWhen,
    /// Where memory can't hold both, the one that serves may be stopped first; false where absent. For the server only.
    #[schemars(with = "Option<bool>")]
    pub replace: bool,
    /// It only runs beside what serves and is compared with it, until `promote` or `cancel_switch`; false where absent.
    #[schemars(with = "Option<bool>")]
    pub shadow: bool,
}

impl Switch {
    /// A switch that names nothing yet.
    #[must_use]
    pub fn new(kind: BackendKind) -> Self {
        Self {
            kind,
            backend: None,
            model: None,
            voice: None,
            language: None,
            files: BTreeMap::new(),
            options: BTreeMap::new(),
            scope: SwitchScope::Session,
            when: SwitchWhen::Now,
            replace: false,
            shadow: false,
        }
    }
}

/// For whom a switch is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SwitchScope {
    /// For the session that asks.
    #[default]
    Session,
    /// For every session that has no backend of its own for this job.
    Server,
}

impl SwitchScope {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Session, Self::Server];

    /// Its name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Server => "server",
        }
    }
}

/// When a session takes what was switched to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SwitchWhen {
    /// At once: a recogniser is given the open turn from its first sample.
    #[default]
    Now,
    /// When no turn is open.
    NextTurn,
}

impl SwitchWhen {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Now, Self::NextTurn];

    /// Its name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Now => "now",
            Self::NextTurn => "next_turn",
        }
    }
}

/// A control about the switch of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct SwitchOf {
    /// The job.
    pub kind: BackendKind,
}

/// Let a reply be spoken that waits for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Approve {
    /// Which, as `response_prepared` named it.
    pub response: ResponseId,
}

/// A reply's whole text is there, and waits for `approve` or `cancel`: nothing of it has been spoken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ResponsePrepared {
    /// Which.
    pub response: ResponseId,
    /// Which turn it answers; absent for `respond`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turn: Option<TurnId>,
    /// All its words.
    pub text: Private,
    /// The tools that it wants called.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub calls: Vec<PreparedCall>,
}

/// A tool call of a reply that waits to be approved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PreparedCall {
    /// Names the call.
    pub call_id: String,
    /// The tool's name.
    pub name: String,
    /// Its arguments: JSON text, as the model wrote it (not validated).
    pub arguments: Private,
}

/// A backend with a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Served {
    /// The backend.
    pub backend: String,
    /// The model.
    pub model: String,
}

/// A switch makes sense, and is being loaded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SwitchStarted {
    /// Which: `switch_` and a number.
    pub switch: String,
    /// The job.
    pub kind: BackendKind,
    /// What is being loaded.
    pub to: Served,
    /// For whom.
    pub scope: SwitchScope,
    /// Whether it only runs beside what serves.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub shadow: bool,
}

/// A switch was made: new work goes to the new backend. Of a shadow: it runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Switched {
    /// Which.
    pub switch: String,
    /// The job.
    pub kind: BackendKind,
    /// What served before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old: Option<Served>,
    /// What serves now.
    pub new: Served,
    /// For whom.
    pub scope: SwitchScope,
    /// Whether it only runs beside what serves.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub shadow: bool,
    /// Milliseconds from the request until it was loaded and verified.
    pub load_ms: u32,
    /// Milliseconds for which this session had no backend for the job.
    pub gap_ms: u32,
}

/// A switch was not made; what served before serves on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SwitchFailed {
    /// Which.
    pub switch: String,
    /// The job.
    pub kind: BackendKind,
    /// Where it failed.
    pub stage: SwitchStage,
    /// Why, the worker's own last words included, with the remedy.
    pub reason: String,
    /// The same with `replace` may work: there isn't memory for both.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub replace_may_help: bool,
    /// What serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serving: Option<Served>,
}

/// Where a switch failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SwitchStage {
    /// It makes no sense, or another one of this job is under way.
    Request,
    /// There is no such backend, or no such model.
    Resolve,
    /// This machine can't run it.
    Check,
    /// It could not be loaded.
    Load,
    /// It was loaded, and does not do its job.
    Verify,
    /// It was gone, or overtaken, before it could take over.
    Swap,
    /// It was called off.
    Cancelled,
}

/// How what runs beside the live backend did on one piece of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Shadowed {
    /// The job.
    pub kind: BackendKind,
    /// How far both agree: words in common for `stt` and `llm`, lengths for `tts`; absent where one of them failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agreement: Option<Thousandths>,
    /// Milliseconds until the live one's result: final words, first token, first audio.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub live_ms: Option<u32>,
    /// And the candidate's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidate_ms: Option<u32>,
}

/// What can serve here, and what can't.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Capabilities {
    /// Every backend that is known.
    pub backends: Vec<Capability>,
    /// The `id` of the `capabilities`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<String>,
}

/// A backend that could do a job here, or why it can't.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Capability {
    /// The job.
    pub kind: BackendKind,
    /// Its name: what a switch calls `backend`.
    pub backend: String,
    /// Whether it can run with at least one model.
    pub available: bool,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What helps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// Where it can compute, the best first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<String>,
    /// Its models, those that can't be loaded included.
    pub models: Vec<ModelCapability>,
}

/// A model of a backend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ModelCapability {
    /// What a switch calls `model`.
    pub model: String,
    /// One line for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Whether it can be loaded.
    pub available: bool,
    /// Whether the server's sessions are served with it now.
    pub serving: bool,
    /// Why it can't be loaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What helps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// Its file or folder on the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Memory that it takes, in bytes, as far as its files tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub need_bytes: Option<u64>,
    /// Its voices, the default first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub voices: Vec<String>,
    /// It was made for tests, with weights that nobody trained.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub synthetic: bool,
}
