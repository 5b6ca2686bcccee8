//! Errors that a client is told, with codes that stay.

use serde::{Deserialize, Serialize};

/// Who caused an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// The client: asking the same again gets the same answer.
    Client,
    /// A backend or its worker.
    Backend,
    /// The engine itself.
    Engine,
}

/// Stable codes of errors in a call. A wire may map them to its own, never rename these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// A value is outside its range.
    InvalidValue,
    /// The command makes no sense in this state: `commit` with nothing to commit.
    InvalidState,
    /// A text, a history or a queue is over its bound.
    TooLarge,
    /// The recogniser failed; the turn has no transcript.
    SttFailed,
    /// The language model failed; the response has no (further) text.
    LlmFailed,
    /// The synthesiser failed; the response goes on as text.
    TtsFailed,
    /// A backend is gone and is being started again.
    BackendLost,
    /// No backend does this job here.
    BackendMissing,
    /// A stage did not answer in its time.
    Timeout,
    /// More came than could be taken; something was dropped and counted.
    Overloaded,
}

/// An error told to a client. The session goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct CallError {
    /// Stable code.
    pub code: ErrorCode,
    /// Who caused it.
    pub origin: Origin,
    /// Whether asking again may help.
    pub retry: bool,
    /// For people; names the field, the backend or the remedy, never what somebody said.
    pub message: String,
}
