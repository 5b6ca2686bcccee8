//! What a client may ask of a call.

use serde::{Deserialize, Serialize};

use super::{BackendKind, BargeIn, Endpointing, Progress, SpeechDetection, Stages, SwitchRequest, Tool, TurnDetection};
use crate::id::{ItemId, ResponseId};
use crate::pii::Pii;

/// A telephone key: `0`–`9`, `*`, `#`, `A`–`D`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "char", try_from = "char")]
pub struct Digit(char);

impl Digit {
    /// The key that `key` names, if it is one.
    #[must_use]
    pub const fn new(key: char) -> Option<Self> {
        match key {
            '0'..='9' | '*' | '#' | 'A'..='D' => Some(Self(key)),
            'a'..='d' => Some(Self(key.to_ascii_uppercase())),
            _ => None,
        }
    }

    /// The key.
    #[must_use]
    pub const fn key(self) -> char {
        self.0
    }
}

impl From<Digit> for char {
    fn from(digit: Digit) -> Self {
        digit.0
    }
}

impl TryFrom<char> for Digit {
    type Error = &'static str;

    fn try_from(key: char) -> Result<Self, Self::Error> {
        Self::new(key).ok_or("a telephone key is one of 0-9, *, #, A-D")
    }
}

/// A change of settings; what is absent stays. It holds from the next turn or response on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettingsUpdate {
    /// The system prompt.
    pub instructions: Option<Pii<String>>,
    /// The voice, for responses that start after this.
    pub voice: Option<String>,
    /// BCP 47 language of the speech.
    pub language: Option<String>,
    /// Which stages run.
    pub stages: Option<Stages>,
    /// Who finds turns.
    pub turn_detection: Option<TurnDetection>,
    /// Start of speech.
    pub speech: Option<SpeechDetection>,
    /// End of turn.
    pub endpointing: Option<Endpointing>,
    /// Interruption.
    pub barge_in: Option<BargeIn>,
    /// Tools; replaces them all.
    pub tools: Option<Vec<Tool>>,
    /// Sampling temperature in thousandths.
    pub temperature_milli: Option<u16>,
    /// Whether the client hears the whole text of a reply before it is spoken.
    #[serde(default)]
    pub approval: Option<bool>,
}

/// A reply that the client supplies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Say {
    /// What is spoken.
    pub text: Pii<String>,
    /// Stop a reply that is being spoken; otherwise this one follows it.
    pub interrupt: bool,
    /// Whether the user's speech may interrupt it.
    pub interruptible: bool,
    /// Whether it becomes part of the history.
    pub remember: bool,
}

/// The result of a tool call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolOutput {
    /// Which call.
    pub call_id: String,
    /// Its result, as text for the model.
    pub output: Pii<String>,
    /// Whether the model shall answer now (when no other call is open).
    pub respond: bool,
}

/// A change that a client makes to the history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "edit", rename_all = "snake_case")]
pub enum HistoryEdit {
    /// Remove one item.
    Delete {
        /// Which.
        item: ItemId,
    },
    /// Remove all.
    Clear,
    /// Remove what was said last by the assistant, and what the user said before it: an answer that is taken back with its question.
    Rollback,
    /// Put a message at the end.
    Append {
        /// Who said it.
        role: super::Role,
        /// What was said.
        text: Pii<String>,
    },
}

/// What a client may ask.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case")]
pub enum Command {
    /// Change settings.
    Update(Box<SettingsUpdate>),
    /// Speak this.
    Say(Say),
    /// A typed turn of the user; it interrupts a reply and is answered like a spoken one.
    Text {
        /// What the user wrote.
        text: Pii<String>,
    },
    /// End the user's turn now.
    Commit,
    /// Reply now to the history as it is, although no turn ended.
    Respond,
    /// Stop a response: this one, or the live one.
    Cancel {
        /// Which; a response that is over already is left alone, without an error.
        response: Option<ResponseId>,
    },
    /// Forget the speech of the open turn: it gets no transcript and no reply.
    Clear,
    /// A telephone key was pressed.
    Dtmf {
        /// Which.
        digit: Digit,
    },
    /// Something was recognised in the sound of a telephone call besides speech.
    Progress(Progress),
    /// The result of a tool call.
    ToolOutput(ToolOutput),
    /// Change the history.
    Edit(HistoryEdit),
    /// Switch a backend.
    Switch(Box<SwitchRequest>),
    /// Call off the switch of this job that is under way; what runs beside the live backend ends.
    CancelSwitch {
        /// The job.
        kind: BackendKind,
    },
    /// Let what runs beside the live backend take its place.
    Promote {
        /// The job.
        kind: BackendKind,
    },
    /// Let the whole text of a reply be spoken that waits for it; see [`Settings::approval`](super::Settings).
    Approve {
        /// Which.
        response: ResponseId,
    },
    /// Tell the state of the call.
    Status,
    /// End the call in order.
    Bye,
}
