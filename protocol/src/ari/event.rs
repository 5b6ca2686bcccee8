//! What Asterisk tells an application.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

use super::{Bridge, Channel};
use crate::native::{Digit, Private};

/// Bytes of one event that are read, at most. An ordinary one has 1 to 3 kB.
pub const MAX_EVENT_BYTES: usize = 1024 * 1024;

/// A text message from the WebSocket at [`Request::events`](super::Request::events).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The application that it is for.
    pub application: String,
    /// What has happened.
    pub event: Event,
}

/// What has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A channel is ours now.
    StasisStart {
        /// What the dialplan passes: `Stasis(app,…)`.
        args: Vec<Private>,
        /// The channel.
        channel: Box<Channel>,
        /// A channel of ours that it takes the place of, after a transfer.
        replaces: Option<Box<Channel>>,
    },
    /// A channel isn't ours any more: it hung up, or went on in the dialplan.
    StasisEnd {
        /// The channel.
        channel: Box<Channel>,
    },
    /// A key was pressed and let go.
    ChannelDtmfReceived {
        /// The key.
        digit: Digit,
        /// How long it was held, in ms.
        duration_ms: u32,
        /// The channel.
        channel: Box<Channel>,
    },
    /// Somebody wants a channel to hang up.
    ChannelHangupRequest {
        /// Why, as a number of Q.850, where it is said.
        cause: Option<i32>,
        /// It was asked of the channel, not forced on it.
        soft: bool,
        /// The channel.
        channel: Box<Channel>,
    },
    /// A channel is gone.
    ChannelDestroyed {
        /// Why, as a number of Q.850.
        cause: i32,
        /// The same in words.
        cause_text: String,
        /// The channel.
        channel: Box<Channel>,
    },
    /// A channel has another state.
    ChannelStateChange {
        /// The channel.
        channel: Box<Channel>,
    },
    /// A variable was set.
    ChannelVarset {
        /// Its name.
        variable: String,
        /// Its value.
        value: Private,
        /// The channel; none for a global variable.
        channel: Option<Box<Channel>>,
    },
    /// A call to somebody goes on.
    Dial {
        /// `RINGING`, `ANSWER`, `BUSY`, `NOANSWER`, `CANCEL`, `CHANUNAVAIL`, `CONGESTION`; empty at the beginning.
        status: String,
        /// Who calls, where that is a channel.
        caller: Option<Box<Channel>>,
        /// Who is called.
        peer: Box<Channel>,
    },
    /// A bridge is gone.
    BridgeDestroyed {
        /// The bridge.
        bridge: Bridge,
    },
    /// Another connection has taken over our application's name: this one gets nothing more.
    ApplicationReplaced,
    /// Another event, by the beginning of its name.
    Unknown(String),
}

/// Why a message can't be read. Names the event, never what was in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum EventError {
    /// More than [`MAX_EVENT_BYTES`].
    #[error("an event of {0} bytes, where {MAX_EVENT_BYTES} are read at most")]
    TooLong(usize),
    /// Not a JSON object with a text `type`.
    #[error("no JSON, or no type")]
    Malformed,
    /// A known event in which something is missing or wrong.
    #[error("{0} without what it needs")]
    Incomplete(&'static str),
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(default)]
    application: String,
}

#[derive(Deserialize)]
struct StartFields {
    #[serde(default)]
    args: Vec<Private>,
    channel: Box<Channel>,
    #[serde(default)]
    replace_channel: Option<Box<Channel>>,
}

#[derive(Deserialize)]
struct ChannelField {
    channel: Box<Channel>,
}

#[derive(Deserialize)]
struct DtmfFields {
    digit: Digit,
    #[serde(default)]
    duration_ms: u32,
    channel: Box<Channel>,
}

#[derive(Deserialize)]
struct HangupFields {
    #[serde(default)]
    cause: Option<i32>,
    #[serde(default)]
    soft: bool,
    channel: Box<Channel>,
}

#[derive(Deserialize)]
struct DestroyedFields {
    #[serde(default)]
    cause: i32,
    #[serde(default)]
    cause_txt: String,
    channel: Box<Channel>,
}

#[derive(Deserialize)]
struct VarsetFields {
    variable: String,
    #[serde(default)]
    value: Private,
    #[serde(default)]
    channel: Option<Box<Channel>>,
}

#[derive(Deserialize)]
struct DialFields {
    #[serde(default)]
    dialstatus: String,
    #[serde(default)]
    caller: Option<Box<Channel>>,
    peer: Box<Channel>,
}

#[derive(Deserialize)]
struct BridgeField {
    bridge: Bridge,
}

impl Message {
    /// Reads one text message. Fields that aren't known are ignored.
    ///
    /// # Errors
    /// [`EventError`]. The next message isn't affected.
    pub fn parse(text: &str) -> Result<Self, EventError> {
        if text.len() > MAX_EVENT_BYTES {
            return Err(EventError::TooLong(text.len()));
        }
        let envelope: Envelope<'_> = serde_json::from_str(text).map_err(|_| EventError::Malformed)?;
        let event = match &*envelope.kind {
            "StasisStart" => {
                let StartFields {
                    args,
                    channel,
                    replace_channel,
                } = fields(text, "StasisStart")?;
                Event::StasisStart {
                    args,
                    channel,
                    replaces: replace_channel,
                }
            }
            "StasisEnd" => Event::StasisEnd {
                channel: fields::<ChannelField>(text, "StasisEnd")?.channel,
            },
            "ChannelDtmfReceived" => {
                let fields: DtmfFields = fields(text, "ChannelDtmfReceived")?;
                Event::ChannelDtmfReceived {
                    digit: fields.digit,
                    duration_ms: fields.duration_ms,
                    channel: fields.channel,
                }
            }
            "ChannelHangupRequest" => {
                let HangupFields { cause, soft, channel } = fields(text, "ChannelHangupRequest")?;
                Event::ChannelHangupRequest { cause, soft, channel }
            }
            "ChannelDestroyed" => {
                let fields: DestroyedFields = fields(text, "ChannelDestroyed")?;
                Event::ChannelDestroyed {
                    cause: fields.cause,
                    cause_text: fields.cause_txt,
                    channel: fields.channel,
                }
            }
            "ChannelStateChange" => Event::ChannelStateChange {
                channel: fields::<ChannelField>(text, "ChannelStateChange")?.channel,
            },
            "ChannelVarset" => {
                let VarsetFields {
                    variable,
                    value,
                    channel,
                } = fields(text, "ChannelVarset")?;
                Event::ChannelVarset {
                    variable,
                    value,
                    channel,
                }
            }
            "Dial" => {
                let fields: DialFields = fields(text, "Dial")?;
                Event::Dial {
                    status: fields.dialstatus,
                    caller: fields.caller,
                    peer: fields.peer,
                }
            }
            "BridgeDestroyed" => Event::BridgeDestroyed {
                bridge: fields::<BridgeField>(text, "BridgeDestroyed")?.bridge,
            },
            "ApplicationReplaced" => Event::ApplicationReplaced,
            unknown => Event::Unknown(unknown.chars().take(64).collect()),
        };
        Ok(Self {
            application: envelope.application,
            event,
        })
    }
}

fn fields<T: DeserializeOwned>(text: &str, event: &'static str) -> Result<T, EventError> {
    serde_json::from_str(text).map_err(|_| EventError::Incomplete(event))
}
