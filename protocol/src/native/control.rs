//! What a client sends as text messages.

use schemars::JsonSchema;
use serde::Serialize;

use super::{Approve, AudioFormat, Digit, ItemId, Private, ResponseId, SettingsUpdate, Switch, SwitchOf};

/// One text message of a client. [`parse_control`](super::parse_control) reads it, [`Control::to_json`] writes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Control {
    /// Chosen by the client; the answer or the error carries it as `reply_to`. At most 64 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// What is asked.
    #[serde(flatten)]
    pub request: Request,
}

impl Control {
    /// The message as JSON text.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("a control has no map keys but strings, and nothing in it refuses")
    }
}

impl From<Request> for Control {
    fn from(request: Request) -> Self {
        Self { id: None, request }
    }
}

/// What a client asks. The `type` of the message is the name in snake case.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Request {
    /// The first message: opens the session. Answered by `ready`.
    Hello(Box<Hello>),
    /// Change settings. Answered by `updated`.
    Update(Box<SettingsUpdate>),
    /// Speak this.
    Say(Say),
    /// A typed turn of the user; it interrupts a reply and is answered like a spoken one.
    Text(Text),
    /// End the user's turn now.
    Commit(Bare),
    /// Reply now to the history as it is, although no turn ended.
    Respond(Bare),
    /// Stop a response.
    Cancel(Cancel),
    /// Forget the speech of the open turn: it gets no transcript and no reply.
    Clear(Bare),
    /// A telephone key was pressed.
    Dtmf(Dtmf),
    /// The result of a tool call.
    ToolOutput(ToolOutput),
    /// Change the history. Answered by `history_edited`.
    Edit(Edit),
    /// Switch a backend. Answered by `switch_started`, `switched` or `switch_failed`.
    Switch(Box<Switch>),
    /// Call off the switch that is under way, or end what runs beside the live backend. Answered by `switch_failed`.
    CancelSwitch(SwitchOf),
    /// Let what runs beside the live backend take its place. Answered by `switched` or `switch_failed`.
    Promote(SwitchOf),
    /// Let a reply be spoken that waits for it.
    Approve(Approve),
    /// Tell what can serve here, and what can't. Answered by `capabilities`.
    Capabilities(Bare),
    /// Tell the state of the session. Answered by `status`.
    Status(Bare),
    /// Answered by `pong`, at once.
    Ping(Bare),
    /// End the session in order. Answered by `closed`.
    Bye(Bare),
}

impl Request {
    /// The `type` of every request, in the order of the enum.
    pub const TYPES: [&str; 19] = [
        "hello",
        "update",
        "say",
        "text",
        "commit",
        "respond",
        "cancel",
        "clear",
        "dtmf",
        "tool_output",
        "edit",
        "switch",
        "cancel_switch",
        "promote",
        "approve",
        "capabilities",
        "status",
        "ping",
        "bye",
    ];

    /// Its `type`.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Hello(_) => "hello",
            Self::Update(_) => "update",
            Self::Say(_) => "say",
            Self::Text(_) => "text",
            Self::Commit(_) => "commit",
            Self::Respond(_) => "respond",
            Self::Cancel(_) => "cancel",
            Self::Clear(_) => "clear",
            Self::Dtmf(_) => "dtmf",
            Self::ToolOutput(_) => "tool_output",
            Self::Edit(_) => "edit",
            Self::Switch(_) => "switch",
            Self::CancelSwitch(_) => "cancel_switch",
            Self::Promote(_) => "promote",
            Self::Approve(_) => "approve",
            Self::Capabilities(_) => "capabilities",
            Self::Status(_) => "status",
            Self::Ping(_) => "ping",
            Self::Bye(_) => "bye",
        }
    }
}

/// A request that says all with its type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Bare {}

/// Opens the session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Hello {
    /// The protocol's version: 1.
    #[schemars(range(min = 1, max = 1))]
    pub version: u32,
    /// The access token, where the server wants one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub token: Option<Private>,
    /// What the client sends; raw `pcm16` at 16000 Hz where absent.
    #[schemars(with = "Option<AudioFormat>")]
    pub input: AudioFormat,
    /// What the client wants to hear; the same as `input` where absent.
    #[schemars(with = "Option<AudioFormat>")]
    pub output: AudioFormat,
    /// Settings that differ from the server's defaults.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub settings: Option<SettingsUpdate>,
    /// The client's name and version, for the server's log: `talk/0.1`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub client: Option<String>,
}

impl Default for Hello {
    fn default() -> Self {
        Self {
            version: super::VERSION,
            token: None,
            input: AudioFormat::default(),
            output: AudioFormat::default(),
            settings: None,
            client: None,
        }
    }
}

/// A reply that the client supplies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Say {
    /// What is spoken.
    #[schemars(length(min = 1))]
    pub text: Private,
    /// Stop a reply that is being spoken (true), or follow it (false, where absent).
    #[schemars(with = "Option<bool>")]
    pub interrupt: bool,
    /// Whether the user's speech may interrupt it; true where absent.
    #[schemars(with = "Option<bool>")]
    pub interruptible: bool,
    /// Whether it becomes part of the history; true where absent.
    #[schemars(with = "Option<bool>")]
    pub remember: bool,
}

impl Say {
    /// `text`, with every switch as where it is absent.
    #[must_use]
    pub fn new(text: impl Into<Private>) -> Self {
        Self {
            text: text.into(),
            interrupt: false,
            interruptible: true,
            remember: true,
        }
    }
}

/// A typed turn of the user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Text {
    /// What the user wrote.
    #[schemars(length(min = 1))]
    pub text: Private,
}

/// Stop a response.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Cancel {
    /// Which; the live one where absent. One that is over already is left alone, without an error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response: Option<ResponseId>,
}

/// A telephone key was pressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Dtmf {
    /// Which.
    pub digit: Digit,
}

/// The result of a tool call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct ToolOutput {
    /// Which call, as `tool_call` named it.
    #[schemars(length(min = 1, max = 256))]
    pub call_id: String,
    /// Its result, as text for the model.
    pub output: Private,
    /// Whether the model shall answer now, when no other call is open; true where absent.
    #[schemars(with = "Option<bool>")]
    pub respond: bool,
}

/// A change of the history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(tag = "edit", rename_all = "snake_case")]
#[schemars(deny_unknown_fields)]
pub enum Edit {
    /// Remove one item.
    Delete {
        /// Which.
        item: ItemId,
    },
    /// Remove all.
    Clear {},
    /// Remove what the assistant said last, and what the user said before it.
    Rollback {},
    /// Put a message at the end.
    Append {
        /// Who said it.
        role: Role,
        /// What was said.
        #[schemars(length(min = 1))]
        text: Private,
    },
}

impl Edit {
    /// The values of `edit`.
    pub const KINDS: [&str; 4] = ["delete", "clear", "rollback", "append"];
}

/// Who said something that is put into the history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The operator.
    System,
    /// The user.
    User,
    /// The assistant.
    Assistant,
}

impl Role {
    /// All three.
    pub const ALL: [Self; 3] = [Self::System, Self::User, Self::Assistant];

    /// Its name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
        }
    }
}
