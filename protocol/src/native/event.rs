//! What a client is sent as text messages.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::switching::{Capabilities, ResponsePrepared, Shadowed, SwitchFailed, SwitchStarted, Switched};
use super::{
    ControlError, Digit, EffectiveFormat, ErrorCode, ItemId, Millis, Origin, Private, ResponseId, Settings, TurnId,
};

/// One text message to a client. The `type` of the message is the name in snake case.
///
/// Clients ignore fields and types that they don't know: both may come with later versions of the server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Event {
    /// The session is open; audio may flow. The answer to `hello`.
    Ready(Box<Ready>),
    /// A turn is open.
    SpeechStarted(SpeechStarted),
    /// A turn has ended; its final transcript follows.
    SpeechStopped(SpeechStopped),
    /// What was understood.
    Transcript(Transcript),
    /// A response is live.
    ResponseStarted(ResponseStarted),
    /// More text of a response.
    ResponseText(ResponseText),
    /// The language model wants a tool called.
    ToolCall(ToolCall),
    /// The first frame of a response's audio is sent.
    AudioStarted(AudioStarted),
    /// The reply's volume is lowered, because speech was heard, or raised again, because it was none.
    Ducked(Ducked),
    /// The last frame of a response's audio was sent, or its audio was stopped.
    AudioDone(AudioDone),
    /// A response is over. Exactly one for each `response_started`.
    ResponseDone(ResponseDone),
    /// Where the time of a turn went.
    TurnReport(TurnReport),
    /// A telephone key was pressed: found in the media, or told with `dtmf`.
    Dtmf(DtmfPressed),
    /// The history was changed.
    HistoryEdited(HistoryEdited),
    /// Settings have changed. The answer to `update`.
    Updated(Box<Updated>),
    /// A backend's state has changed.
    Backend(Backend),
    /// A reply waits for `approve` or `cancel`.
    ResponsePrepared(ResponsePrepared),
    /// A switch is under way.
    SwitchStarted(SwitchStarted),
    /// A switch was made.
    Switched(Switched),
    /// A switch was not made.
    SwitchFailed(SwitchFailed),
    /// How what runs beside the live backend did.
    Shadowed(Shadowed),
    /// What can serve here. The answer to `capabilities`.
    Capabilities(Capabilities),
    /// The state of the session. The answer to `status`.
    Status(Box<Status>),
    /// Something went wrong.
    Error(ErrorEvent),
    /// The server will end the session after the open turn.
    GoingAway(GoingAway),
    /// The session is over; the connection closes after this.
    Closed(Closed),
    /// The answer to `ping`.
    Pong(Pong),
}

impl Event {
    /// The `type` of every event, in the order of the enum.
    pub const TYPES: [&str; 27] = [
        "ready",
        "speech_started",
        "speech_stopped",
        "transcript",
        "response_started",
        "response_text",
        "tool_call",
        "audio_started",
        "ducked",
        "audio_done",
        "response_done",
        "turn_report",
        "dtmf",
        "history_edited",
        "updated",
        "backend",
        "response_prepared",
        "switch_started",
        "switched",
        "switch_failed",
        "shadowed",
        "capabilities",
        "status",
        "error",
        "going_away",
        "closed",
        "pong",
    ];

    /// The message as JSON text.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("an event has no map keys but strings, and nothing in it refuses")
    }
}

/// Reads one text message of a server, for clients.
///
/// # Errors
/// When it isn't an event at all, or one of a known type without the fields that the type has. An unknown type is no error but none.
pub fn parse_event(text: &str) -> Result<Option<Event>, EventError> {
    let value: Value = serde_json::from_str(text)?;
    let kind = value.get("type").and_then(Value::as_str).ok_or(EventError::NoType)?;
    if Event::TYPES.contains(&kind) {
        Ok(Some(serde_json::from_value(value)?))
    } else {
        Ok(None)
    }
}

/// A message of a server can't be read.
#[derive(Debug, thiserror::Error)]
pub enum EventError {
    /// It isn't JSON, or not an event of its type.
    #[error("not an event: {0}")]
    Json(#[from] serde_json::Error),
    /// It has no `type`.
    #[error("not an event: it has no type")]
    NoType,
}

/// The session is open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Ready {
    /// The session's id: `sess_` and sixteen hexadecimal digits.
    #[schemars(regex(pattern = "^sess_[0-9a-f]{16}$"))]
    pub session: String,
    /// The protocol's version that is spoken.
    pub version: u32,
    /// The server's name and version: `repartee/0.1.0`.
    pub server: String,
    /// What the client sends.
    pub input: EffectiveFormat,
    /// What the server sends.
    pub output: EffectiveFormat,
    /// The settings in effect.
    pub settings: Settings,
    /// The backends that the session uses, as far as they are known by now.
    pub backends: Vec<Backend>,
    /// Bounds of this session.
    pub limits: Limits,
    /// The `id` of the `hello`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<String>,
}

/// Bounds of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Limits {
    /// Bytes of one message, text or binary.
    pub max_message_bytes: u32,
    /// Characters of one text: `say`, `text`, and one reply.
    pub max_text_chars: u32,
    /// Tokens of one reply.
    pub max_response_tokens: u32,
    /// Items kept in the history; the oldest are dropped first.
    pub max_history_items: u32,
    /// A session with neither audio nor controls for this long (ms) is closed; 0: never.
    pub idle_timeout_ms: u32,
}

/// A turn is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SpeechStarted {
    /// Which.
    pub turn: TurnId,
    /// Where its speech starts, counted in the audio received.
    pub at_ms: Millis,
}

/// A turn has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SpeechStopped {
    /// Which.
    pub turn: TurnId,
    /// Where its speech ends, counted in the audio received.
    pub at_ms: Millis,
}

/// What was understood.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Transcript {
    /// Of which turn.
    pub turn: TurnId,
    /// Grows with each transcript of the turn.
    pub revision: u32,
    /// The turn's whole text so far.
    pub text: Private,
    /// Leading characters (Unicode scalar values, not bytes) of `text` that stay as they are.
    pub stable_chars: u32,
    /// No further revision follows.
    #[serde(rename = "final")]
    pub is_final: bool,
}

/// A response is live.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ResponseStarted {
    /// Its id.
    pub response: ResponseId,
    /// Which turn it answers; absent for `say` and `respond`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turn: Option<TurnId>,
}

/// More text of a response.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ResponseText {
    /// Which.
    pub response: ResponseId,
    /// To be appended to what came before.
    pub delta: Private,
}

/// The language model wants a tool called.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ToolCall {
    /// In which response.
    pub response: ResponseId,
    /// Names the call; `tool_output` answers it under this.
    pub call_id: String,
    /// The tool's name.
    pub name: String,
    /// Its arguments: JSON text, as the model wrote it (not validated).
    pub arguments: Private,
}

/// The first frame of a response's audio is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AudioStarted {
    /// Which.
    pub response: ResponseId,
}

/// The reply's volume is lowered or raised again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Ducked {
    /// Which.
    pub response: ResponseId,
    /// Lowered (true) or raised again (false).
    pub ducked: bool,
}

/// The last frame of a response's audio was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AudioDone {
    /// Which.
    pub response: ResponseId,
    /// Audio sent.
    pub sent_ms: Millis,
}

/// How a response ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
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

/// A response is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ResponseDone {
    /// Which.
    pub response: ResponseId,
    /// How.
    pub status: ResponseStatus,
    /// All its text.
    pub text: Private,
    /// The part that was heard; this is what the history holds.
    pub heard: Private,
    /// Audio that was heard.
    pub heard_ms: Millis,
    /// Its place in the history, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub item: Option<ItemId>,
}

/// A stretch between two instants of a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReportStage {
    /// From the end of speech to the decision that the turn is over.
    Endpointing,
    /// To the final transcript.
    SttFinal,
    /// To the first text of the reply.
    LlmFirstToken,
    /// To the first clause that can be spoken.
    FirstSentence,
    /// To its first audio.
    TtsFirstAudio,
    /// To the moment when its first audio was given to the wire.
    Send,
}

impl ReportStage {
    /// All six, in their order.
    pub const ALL: [Self; 6] = [
        Self::Endpointing,
        Self::SttFinal,
        Self::LlmFirstToken,
        Self::FirstSentence,
        Self::TtsFirstAudio,
        Self::Send,
    ];

    /// Its name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Endpointing => "endpointing",
            Self::SttFinal => "stt_final",
            Self::LlmFirstToken => "llm_first_token",
            Self::FirstSentence => "first_sentence",
            Self::TtsFirstAudio => "tts_first_audio",
            Self::Send => "send",
        }
    }
}

/// The time that one stage took.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StageTime {
    /// Which stage.
    pub stage: ReportStage,
    /// How long.
    pub ms: Millis,
}

/// Where the time of a turn went, from the end of speech to the first audio sent. The same numbers stand in `stages`, in their
/// order, and under their names; those of stages that did not happen (no reply, no audio) are absent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TurnReport {
    /// Which turn.
    pub turn: TurnId,
    /// The reply to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response: Option<ResponseId>,
    /// When the user stopped speaking, since the session began.
    pub speech_end_ms: Millis,
    /// The stages in their order. Their sum is `total_ms`.
    pub stages: Vec<StageTime>,
    /// From the end of speech to the last instant that is there.
    pub total_ms: Millis,
    /// From the end of speech to the decision that the turn is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpointing_ms: Option<Millis>,
    /// From there to the final transcript.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stt_final_ms: Option<Millis>,
    /// From there to the first text of the reply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub llm_first_token_ms: Option<Millis>,
    /// From there to the first clause that can be spoken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_sentence_ms: Option<Millis>,
    /// From there to its first audio.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tts_first_audio_ms: Option<Millis>,
    /// From there to its first audio on the wire.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub send_ms: Option<Millis>,
}

impl TurnReport {
    /// The report of these stages; the sum and the named fields are worked out.
    #[must_use]
    pub fn new(turn: TurnId, response: Option<ResponseId>, speech_end_ms: Millis, stages: Vec<StageTime>) -> Self {
        let of = |wanted| stages.iter().find(|stage| stage.stage == wanted).map(|stage| stage.ms);
        Self {
            turn,
            response,
            speech_end_ms,
            total_ms: stages.iter().map(|stage| stage.ms).sum(),
            endpointing_ms: of(ReportStage::Endpointing),
            stt_final_ms: of(ReportStage::SttFinal),
            llm_first_token_ms: of(ReportStage::LlmFirstToken),
            first_sentence_ms: of(ReportStage::FirstSentence),
            tts_first_audio_ms: of(ReportStage::TtsFirstAudio),
            send_ms: of(ReportStage::Send),
            stages,
        }
    }
}

/// A telephone key was pressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DtmfPressed {
    /// Which.
    pub digit: Digit,
}

/// The history was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HistoryEdited {
    /// Items now in it.
    pub items: u64,
}

/// Settings have changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Updated {
    /// The settings in effect now.
    pub settings: Settings,
    /// The `id` of the `update`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<String>,
}

/// The five jobs of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
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

    /// Its name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Vad => "vad",
            Self::Turn => "turn",
            Self::Stt => "stt",
            Self::Llm => "llm",
            Self::Tts => "tts",
        }
    }
}

/// A backend and its state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Backend {
    /// Its job.
    pub kind: BackendKind,
    /// How it is.
    #[serde(flatten)]
    pub state: BackendState,
}

/// How a backend is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum BackendState {
    /// It serves.
    Ready {
        /// Its name: `pocketsphinx`.
        name: String,
        /// Its model.
        model: String,
        /// Which load: a number that grows with each in the server.
        generation: u64,
        /// Where it computes: `cpu`, `cuda:0`; absent where it doesn't tell.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        device: Option<String>,
        /// Whether its model was made for tests, with weights that nobody trained: it proves that things work, and no accuracy.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        synthetic: bool,
    },
    /// It died or vanished, and is being started again.
    Lost {
        /// Which load.
        generation: u64,
        /// The cause.
        reason: String,
    },
    /// There is none.
    Missing {
        /// Why, with the remedy.
        reason: String,
    },
}

/// The state of a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Status {
    /// The backends that the session uses.
    pub backends: Vec<Backend>,
    /// The open turn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turn: Option<TurnId>,
    /// The live response.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response: Option<ResponseId>,
    /// Audio received.
    pub received_ms: Millis,
    /// Audio dropped, of that received.
    pub dropped_ms: Millis,
    /// Turns so far.
    pub turns: u64,
    /// Responses so far.
    pub responses: u64,
    /// Items in the history.
    pub history_items: u64,
    /// Late answers of backends that were thrown away because what they answered was over.
    pub stale_answers: u64,
    /// The `id` of the `status` control.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<String>,
}

/// Something went wrong. The session goes on, unless `close_code` is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ErrorEvent {
    /// Stable code.
    pub code: ErrorCode,
    /// Who caused it.
    pub origin: Origin,
    /// Whether the same again may succeed.
    pub retry: bool,
    /// For people.
    pub message: String,
    /// The field it is about, by its path: `input.rate`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// The `id` of the control that it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<String>,
    /// The connection closes after this, with this WebSocket close code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub close_code: Option<u16>,
}

impl ErrorEvent {
    /// An error with all that its code implies.
    #[must_use]
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            origin: code.origin(),
            retry: code.retry(),
            message: message.into(),
            field: None,
            reply_to: None,
            close_code: code.close_code(),
        }
    }
}

impl From<ControlError> for ErrorEvent {
    fn from(error: ControlError) -> Self {
        Self {
            field: error.field,
            reply_to: error.reply_to,
            ..Self::new(error.code, error.message)
        }
    }
}

/// The server will end the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GoingAway {
    /// At the latest after so many milliseconds.
    pub within_ms: u32,
}

/// Why a session is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CloseReason {
    /// The client said `bye`.
    Bye,
    /// The client's connection is gone.
    Disconnected,
    /// The server is going away.
    Drained,
    /// Neither audio nor controls came for too long.
    Idle,
    /// The client takes nothing any more.
    TooSlow,
}

/// The session is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Closed {
    /// Why.
    pub reason: CloseReason,
}

impl CloseReason {
    /// The WebSocket close code that goes with it (RFC 6455 §7.4.1; 4000 + HTTP status where that has none).
    #[must_use]
    pub const fn close_code(self) -> u16 {
        match self {
            Self::Bye | Self::Disconnected => 1000,
            Self::Drained => 1001,
            Self::Idle => 4408,
            Self::TooSlow => 4413,
        }
    }
}

/// The answer to `ping`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Pong {
    /// The `id` of the `ping`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<String>,
}
