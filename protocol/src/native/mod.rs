//! The native wire: one WebSocket at `/v1/session`, one session a connection. Version 1.
//!
//! **Text messages** are JSON objects with a `type`: *controls* from the client ([`Request`]), *events* from the server
//! ([`Event`]). The first message of a client is `hello`; the answer is `ready`, and from then on both sides send as they like.
//!
//! ```text
//! → {"type":"hello","version":1,"input":{"codec":"pcm16","rate":16000}}
//! ← {"type":"ready","session":"sess_4be1c9d02f6a7785","version":1,"input":{…},"output":{…},"settings":{…},…}
//! → binary: 640 bytes, 640 bytes, …
//! ← {"type":"speech_started","turn":"turn_1","at_ms":812.5}
//! ← {"type":"transcript","turn":"turn_1","revision":1,"text":"what time","stable_chars":4,"final":false}
//! ```
//!
//! Any control may carry an `id`. `ready`, `updated`, `status`, `pong`, and the error for a control that can't be obeyed as it is
//! written, repeat it as `reply_to`. Errors that come later, out of the call, name what they are about in their message.
//!
//! Controls are read strictly: an unknown field is an error that names the nearest right one ([`parse_control`]). Events are
//! read leniently: clients ignore fields and types that they don't know ([`parse_event`]). A field that may be absent may be
//! null, too.
//!
//! **Binary messages** are audio, mono, in the formats that `hello` asked for:
//!
//! | framing | codec | from the client | from the server |
//! |---|---|---|---|
//! | `raw` | `pcm16` | any whole number of samples, little-endian | 20 ms |
//! | `raw` | `pcmu`, `pcma` | any number of bytes, one a sample | 20 ms |
//! | `raw` | `opus` | one packet (RFC 6716), 2.5 to 120 ms | one packet of 20 ms |
//! | `rtp` | any | one whole RTP packet (RFC 3550): header, then the payload | the same, of 20 ms |
//!
//! Payload types are those of [`payload_type`](crate::rtp::payload_type): `pcmu` 0, `pcma` 8, comfort noise 13, `pcm16` 96 (L16, big-endian), telephone keys
//! 101 (RFC 4733), `opus` 111 (timestamps at 48000). In RTP the client's packets may be reordered, doubled or lost, and its SSRC
//! may change; the server's own SSRC stands in `ready` and stays.
//!
//! The server paces its audio: a frame every 20 ms, so that what it has sent is what is heard. Silence between replies is not
//! sent. Nothing need be flushed when a reply is interrupted, beyond what the client itself holds back.
//!
//! **Bounds.** A message of more than `limits.max_message_bytes` of `ready` (normally [`MAX_MESSAGE_BYTES`]) ends the
//! connection. A client that doesn't take what it is sent for ten seconds is
//! let go; it can't be told, because nothing reaches it. An error before `ready` ends the connection (with
//! the code's own close code or [`CLOSE_NO_SESSION`]); afterwards the session goes on, unless the error carries
//! `close_code`.

mod control;
mod error;
mod event;
pub mod examples;
mod format;
mod read;
pub mod schema;
mod settings;
mod switching;
mod words;

pub use control::{Bare, Cancel, Control, Dtmf, Edit, Hello, Request, Role, Say, Text, ToolOutput};
pub use error::{CLOSE_NO_SESSION, ControlError, ErrorCode, MAX_QUOTED, Origin};
pub use event::{
    AudioDone, AudioStarted, Backend, BackendKind, BackendState, CloseReason, Closed, DtmfPressed, Ducked, ErrorEvent,
    Event, EventError, GoingAway, HistoryEdited, Limits, Pong, Ready, ReportStage, ResponseDone, ResponseStarted,
    ResponseStatus, ResponseText, SpeechStarted, SpeechStopped, StageTime, Status, ToolCall, Transcript, TurnReport,
    Updated, parse_event,
};
pub use format::{AudioFormat, Codec, EffectiveFormat, FRAME_MS, Framing, Rate, RtpFormat};
pub use read::{MAX_DEPTH, parse_control};
pub use settings::{
    BargeIn, BargeInUpdate, Endpointing, EndpointingUpdate, MAX_TOOLS, Settings, SettingsUpdate, Speech, SpeechUpdate,
    Stages, StagesUpdate, Tool, TurnDetection,
};
pub use switching::{
    Approve, Capabilities, Capability, ModelCapability, PreparedCall, ResponsePrepared, Served, Shadowed, Switch,
    SwitchFailed, SwitchOf, SwitchScope, SwitchStage, SwitchStarted, SwitchWhen, Switched,
};
pub use words::{Digit, ItemId, Millis, Private, ResponseId, Thousandths, TurnId};

/// The version of the protocol that is spoken here.
pub const VERSION: u32 = 1;

/// The path of the WebSocket.
pub const PATH: &str = "/v1/session";

/// Bytes of one message, text or binary, unless the server is configured otherwise (`ready` tells): 2.7 s of the fattest
/// audio, or instructions of some 60 pages.
pub const MAX_MESSAGE_BYTES: usize = 256 * 1024;

/// The most that a server can be configured to take.
pub const LARGEST_MESSAGE_BYTES: usize = 16 * 1024 * 1024;
