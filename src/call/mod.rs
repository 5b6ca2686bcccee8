//! The vocabulary of a call: what a client may ask ([`Command`]), what it is told ([`Event`]), and the words that the
//! stages of the pipeline share. Every wire is a translation of this; nothing here knows one.

mod command;
mod error;
mod event;
mod progress;
mod report;
mod settings;
mod stage;
mod switch;

pub use command::{Command, Digit, HistoryEdit, Say, SettingsUpdate, ToolOutput};
pub use error::{CallError, ErrorCode, Origin};
pub use event::{BackendState, CloseReason, Event, ResponseStatus, Status};
pub use progress::{FaxSide, Progress};
pub use report::TurnReport;
pub use settings::{
    BargeIn, Endpointing, KeyCollection, Limits, MAX_HINTS_BYTES, Settings, SettingsError, SpeechDetection, Stages,
    Tool, TurnDetection,
};
pub use stage::{
    BackendKind, FinishReason, LlmEvent, Message, Probability, Prompt, Role, StageFailure, SttEvent, ToolCall,
    WordTiming,
};
pub use switch::{Comparison, Scope, Served, SwitchFailure, SwitchRequest, SwitchStage, When};
