//! What a client is told.

use serde::{Deserialize, Serialize};

use super::{BackendKind, CallError, Comparison, Digit, Progress, Scope, Served, SwitchFailure, ToolCall, TurnReport};
use crate::id::{Generation, ItemId, ResponseId, SwitchId, TurnId};
use crate::pii::Pii;
use crate::time::Samples;

/// How a response ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResponseStatus {
    /// All of it was said.
    Completed,
    /// The user spoke, and it was stopped.
    Interrupted,
    /// The client cancelled it, or replaced it.
    Cancelled,
    /// A stage failed.
    Failed,
}

/// Why a call is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CloseReason {
    /// The client said `bye`.
    Bye,
    /// The client's connection is gone.
    Disconnected,
    /// The engine is going away.
    Drained,
    /// Nothing came for too long.
    Idle,
    /// The client takes nothing any more.
    TooSlow,
}

/// A backend's state, as a session sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum BackendState {
    /// It serves.
    Ready {
        /// Its name: "pocketsphinx".
        name: String,
        /// Its model: "pocketsphinx-en-us".
        model: String,
        /// Which load.
        generation: Generation,
        /// Where it computes: "cpu", "cuda:0".
        #[serde(default, skip_serializing_if = "Option::is_none")]
        device: Option<String>,
        /// Its model was made for tests, with weights that nobody trained.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        synthetic: bool,
    },
    /// It died or vanished, and is being started again.
    Lost {
        /// Which load.
        generation: Generation,
        /// The cause, the worker's last words included.
        reason: String,
    },
    /// There is none.
    Missing {
        /// Why, with the remedy.
        reason: String,
    },
}

/// The state of a call, on request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Backends by job, in the order of [`BackendKind::ALL`]; those that the session uses.
    pub backends: Vec<(BackendKind, BackendState)>,
    /// The open turn.
    pub turn: Option<TurnId>,
    /// The live response.
    pub response: Option<ResponseId>,
    /// Samples received.
    pub received: Samples,
    /// Samples dropped, of those received.
    pub dropped: Samples,
    /// Turns and responses so far.
    pub turns: u64,
    /// See `turns`.
    pub responses: u64,
    /// Items in the history.
    pub history_items: u64,
    /// Late answers that were thrown away because what they answered was over.
    pub stale_answers: u64,
}

/// What a client is told. `turn` and `response` name what it is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A turn is open.
    SpeechStarted {
        /// Its id.
        turn: TurnId,
        /// Where its speech starts on the sample clock (pre-roll not included).
        at: Samples,
    },
    /// The turn has ended; its final transcript follows.
    SpeechStopped {
        /// Its id.
        turn: TurnId,
        /// Where its speech ends on the sample clock.
        at: Samples,
    },
    /// What was understood.
    Transcript {
        /// Of which turn.
        turn: TurnId,
        /// Grows with each event of the turn.
        revision: u32,
        /// The turn's whole text so far.
        text: Pii<String>,
        /// Leading characters that stay as they are.
        stable_chars: u32,
        /// No further revision follows.
        is_final: bool,
    },
    /// A response is live.
    ResponseStarted {
        /// Its id.
        response: ResponseId,
        /// Which turn it answers; none for `say` and `respond`.
        turn: Option<TurnId>,
    },
    /// More text of a response.
    ResponseText {
        /// Which.
        response: ResponseId,
        /// To be appended.
        delta: Pii<String>,
    },
    /// The language model wants a tool called.
    ToolCall {
        /// In which response.
        response: ResponseId,
        /// What it wants.
        call: ToolCall,
    },
    /// The first frame of a response's audio is sent.
    AudioStarted {
        /// Which.
        response: ResponseId,
    },
    /// The reply's volume is lowered, because speech was heard, or raised again, because it was none.
    Ducked {
        /// Which.
        response: ResponseId,
        /// Lowered (true) or raised (false).
        ducked: bool,
    },
    /// The last frame of a response's audio was sent, or its audio was stopped.
    AudioDone {
        /// Which.
        response: ResponseId,
        /// Audio sent.
        sent: Samples,
    },
    /// A response is over. Exactly one for each `response_started`.
    ResponseDone {
        /// Which.
        response: ResponseId,
        /// How.
        status: ResponseStatus,
        /// All its text.
        text: Pii<String>,
        /// The part that was heard; this is what the history holds.
        heard: Pii<String>,
        /// Audio that was heard.
        heard_audio: Samples,
        /// Its place in the history, if it has one.
        item: Option<ItemId>,
    },
    /// Where the time of a turn went.
    TurnReport(TurnReport),
    /// A telephone key was pressed (from the media, or told by the client).
    Dtmf {
        /// Which.
        digit: Digit,
    },
    /// Something was recognised in the sound of a telephone call besides speech.
    Progress(Progress),
    /// The history was changed by the client.
    HistoryEdited {
        /// Items now in it.
        items: u64,
    },
    /// Settings have changed.
    Updated,
    /// A backend's state has changed.
    Backend {
        /// Its job.
        kind: BackendKind,
        /// The state.
        state: BackendState,
    },
    /// A reply's whole text is there, and waits to be approved or cancelled; nothing of it has been spoken or told.
    ResponsePrepared {
        /// Which.
        response: ResponseId,
        /// The turn it answers.
        turn: Option<TurnId>,
        /// All its words.
        text: Pii<String>,
        /// The tools that it wants called.
        calls: Vec<ToolCall>,
    },
    /// A switch is under way: its request makes sense, and this is being loaded.
    SwitchStarted {
        /// Which.
        switch: SwitchId,
        /// The job.
        kind: BackendKind,
        /// To what.
        to: Served,
        /// For whom.
        scope: Scope,
        /// It only runs beside what serves.
        shadow: bool,
    },
    /// A switch was made: new work goes to the new backend. Of a shadow: it runs.
    Switched {
        /// Which.
        switch: SwitchId,
        /// The job.
        kind: BackendKind,
        /// What served before.
        old: Option<Served>,
        /// What serves now.
        new: Served,
        /// For whom.
        scope: Scope,
        /// It only runs beside what serves.
        shadow: bool,
        /// Milliseconds from the request until it was loaded and verified.
        load_ms: u32,
        /// Milliseconds for which this session had no backend for the job.
        gap_ms: u32,
    },
    /// A switch was not made; what served before serves on.
    SwitchFailed {
        /// Which.
        switch: SwitchId,
        /// The job.
        kind: BackendKind,
        /// Why.
        failure: SwitchFailure,
        /// What still serves.
        serving: Option<Served>,
    },
    /// How what runs beside the live backend did on one piece of work.
    Shadowed {
        /// Which switch started it.
        switch: SwitchId,
        /// The job.
        kind: BackendKind,
        /// How it did.
        comparison: Comparison,
    },
    /// The answer to `status`.
    Status(Box<Status>),
    /// Something went wrong; the session goes on.
    Error(CallError),
    /// The engine will end the call after the open turn, at the latest after `within_ms`.
    GoingAway {
        /// Milliseconds left.
        within_ms: u32,
    },
    /// The call is over; nothing follows.
    Closed {
        /// Why.
        reason: CloseReason,
    },
}
