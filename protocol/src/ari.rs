//! ARI, Asterisk's REST interface: the parts that an application needs which answers calls, gives them media and passes
//! them on (Asterisk 16.6 and later; `rest-api/api-docs` of its source).
//!
//! Three things: [`Request`]s, which somebody else sends by HTTP; replies to them ([`parse_reply`]); and [`Message`]s
//! with an [`Event`], which come through a WebSocket at [`Request::events`]. Nothing here knows HTTP.
//!
//! Callers' names and numbers, the numbers they called and what variables hold print redacted.

mod event;
mod model;
mod request;

pub use crate::variables::Variables;
pub use event::{Event, EventError, MAX_EVENT_BYTES, Message};
pub use model::{
    Bridge, Channel, ChannelState, DialplanPlace, Failure, Info, MAX_REPLY_BYTES, Party, Reply, ReplyError,
    VariableValue, Version, parse_reply,
};
pub use request::{ExternalMedia, HangupReason, Media, Method, Origin, Originate, Request};

#[cfg(test)]
mod tests;
