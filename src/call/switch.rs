//! Switching backends: what is asked for, and what has become of it.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::BackendKind;

/// For whom a switch is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// For the session that asks.
    #[default]
    Session,
    /// For every session that has no backend of its own for this job, now and later.
    Server,
}

/// When a session takes what was switched to. A response always keeps the voice and the model that it began with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum When {
    /// At once: a recogniser is given the open turn from its first sample.
    #[default]
    Now,
    /// When no turn is open.
    NextTurn,
}

/// A switch that is asked for. What is absent stays as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwitchRequest {
    /// The job.
    pub kind: BackendKind,
    /// The backend by name: "whisper". Absent: the one that the model belongs to, else the one that serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<String>,
    /// The model, by catalogue id or by path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The voice (`tts`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub voice: Option<String>,
    /// BCP 47 language.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
    /// Further files of the model by role, by path.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub files: BTreeMap<String, String>,
    /// Options of the model, as its worker documents them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, serde_json::Value>,
    /// For whom.
    #[serde(default)]
    pub scope: Scope,
    /// When.
    #[serde(default)]
    pub when: When,
    /// Where memory can't hold both, the old one may be stopped first.
    #[serde(default)]
    pub replace: bool,
    /// It only runs beside what serves, and is compared with it.
    #[serde(default)]
    pub shadow: bool,
}

impl SwitchRequest {
    /// A switch of this job that names nothing yet.
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
            scope: Scope::default(),
            when: When::default(),
            replace: false,
            shadow: false,
        }
    }

    /// Whether it names nothing to switch to.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.backend.is_none()
            && self.model.is_none()
            && self.voice.is_none()
            && self.language.is_none()
            && self.files.is_empty()
            && self.options.is_empty()
    }

    /// Whether it names only what a session says with each request: a voice, a language.
    #[must_use]
    pub fn keeps_model(&self) -> bool {
        self.backend.is_none() && self.model.is_none() && self.files.is_empty() && self.options.is_empty()
    }
}

/// A backend with a model, as people know it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Served {
    /// The backend: "whisper".
    pub backend: String,
    /// The model.
    pub model: String,
}

impl fmt::Display for Served {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.model.is_empty() || self.model == self.backend {
            formatter.write_str(&self.backend)
        } else {
            write!(formatter, "{} ({})", self.backend, self.model)
        }
    }
}

/// Where a switch failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
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
    /// It was gone before it could take over.
    Swap,
    /// It was called off.
    Cancelled,
}

impl SwitchStage {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Request,
        Self::Resolve,
        Self::Check,
        Self::Load,
        Self::Verify,
        Self::Swap,
        Self::Cancelled,
    ];
}

/// Why a switch was not made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwitchFailure {
    /// Where.
    pub stage: SwitchStage,
    /// Why, the worker's own last words included, with the remedy where there is one.
    pub reason: String,
    /// The same with `replace` may work: there isn't memory for both.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub replace_may_help: bool,
}

impl SwitchFailure {
    /// A failure at this stage.
    #[must_use]
    pub fn new(stage: SwitchStage, reason: impl Into<String>) -> Self {
        Self {
            stage,
            reason: reason.into(),
            replace_may_help: false,
        }
    }
}

/// How a candidate did beside the live backend on one piece of work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Comparison {
    /// How far both agree, in thousandths: of the words, for a recogniser or a language model; of the lengths, for a voice. Absent where one of
    /// them failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agreement_per_mille: Option<u16>,
    /// Milliseconds until the live one's result: final words, first token, first audio.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub live_ms: Option<u32>,
    /// And the candidate's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidate_ms: Option<u32>,
}
