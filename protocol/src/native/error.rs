//! Errors that a client is told, with codes that stay.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Who caused an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// The client: the same again gets the same answer.
    Client,
    /// A backend or its worker.
    Backend,
    /// The engine itself.
    Engine,
}

macro_rules! error_codes {
    ($($(#[doc = $doc:literal])+ $name:ident $text:literal $origin:ident $retry:literal $close:expr;)+) => {
        /// Stable codes of errors. None is ever renamed; new ones may come.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        #[serde(rename_all = "snake_case")]
        pub enum ErrorCode {
            $($(#[doc = $doc])+ $name,)+
        }

        impl ErrorCode {
            /// All codes.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// The code as it stands on the wire.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }

            /// Who causes it, where the message doesn't say otherwise.
            #[must_use]
            pub const fn origin(self) -> Origin {
                match self { $(Self::$name => Origin::$origin,)+ }
            }

            /// Whether the same again may succeed, where the message doesn't say otherwise.
            #[must_use]
            pub const fn retry(self) -> bool {
                match self { $(Self::$name => $retry,)+ }
            }

            /// With which WebSocket close code the connection ends after it; none where the session goes on.
            #[must_use]
            pub const fn close_code(self) -> Option<u16> {
                match self { $(Self::$name => $close,)+ }
            }
        }
    };
}

// Close codes: those of RFC 6455 §7.4.1 where one says just this; else 4000 + the HTTP status that says the same.
error_codes! {
    /// The request is no WebSocket upgrade. Answered over HTTP with status 426, before there is a connection.
    NotWebsocket "not_websocket" Client false None;
    /// The first message must be `hello`.
    HelloExpected "hello_expected" Client false Some(4400);
    /// There was a `hello` already; a session has one.
    HelloRepeated "hello_repeated" Client false None;
    /// No `hello` came in time.
    HelloTimeout "hello_timeout" Client true Some(4408);
    /// The protocol's version is none that this server speaks; the message names those.
    UnsupportedVersion "unsupported_version" Client false Some(4426);
    /// The access token is missing or wrong.
    Unauthorized "unauthorized" Client false Some(4401);
    /// A text message is no JSON object; the message says where.
    NotJson "not_json" Client false None;
    /// The `type` of a control is unknown; the message names the nearest.
    UnknownControl "unknown_control" Client false None;
    /// A control has a field that it doesn't know; the message names the nearest.
    UnknownField "unknown_field" Client false None;
    /// A field that a control needs is missing.
    MissingField "missing_field" Client false None;
    /// A field's value is of the wrong kind or outside its range.
    InvalidValue "invalid_value" Client false None;
    /// The control makes no sense now: `commit` with nothing to commit.
    InvalidState "invalid_state" Client false None;
    /// Audio came before `hello`.
    AudioBeforeHello "audio_before_hello" Client false Some(4400);
    /// A message of 16-bit samples has an odd number of bytes. It is dropped and counted.
    OddByteCount "odd_byte_count" Client false None;
    /// Audio isn't what `hello` promised. It is dropped and counted.
    MediaFormat "media_format" Client false None;
    /// An RTP or Opus packet is cut short or malformed. It is dropped and counted.
    MalformedPacket "malformed_packet" Client false None;
    /// A message is over the limit that `ready` names.
    MessageTooLarge "message_too_large" Client false Some(1009);
    /// A text, the history or a queue is over its bound.
    TooLarge "too_large" Client false None;
    /// The server has as many sessions as it can serve.
    TooManySessions "too_many_sessions" Engine true Some(4429);
    /// The server is going away and takes no new session.
    Draining "draining" Engine true Some(4503);
    /// The client doesn't take what it is sent.
    TooSlow "too_slow" Client true Some(4413);
    /// Neither audio nor a control came for too long.
    Idle "idle" Client true Some(4408);
    /// The recogniser failed; the turn has no transcript.
    SttFailed "stt_failed" Backend true None;
    /// The language model failed; the response has no (further) text.
    LlmFailed "llm_failed" Backend true None;
    /// The synthesiser failed; the response goes on as text.
    TtsFailed "tts_failed" Backend true None;
    /// A backend is gone and is being started again.
    BackendLost "backend_lost" Backend true None;
    /// No backend does this job here.
    BackendMissing "backend_missing" Backend false None;
    /// A stage did not answer in its time.
    Timeout "timeout" Backend true None;
    /// More came than could be taken; something was dropped and counted.
    Overloaded "overloaded" Engine true None;
    /// The engine made a mistake; it was logged there.
    Internal "internal" Engine true Some(1011);
}

/// The close code after an error that came before `ready`, where the error itself names none: there is no session that could
/// go on.
pub const CLOSE_NO_SESSION: u16 = 4400;

impl fmt::Display for ErrorCode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// A control that can't be obeyed, and why. The session goes on, if there is one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ControlError {
    /// Stable code.
    pub code: ErrorCode,
    /// The field it is about, by its path: `input.rate`, `tools[2].name`.
    pub field: Option<String>,
    /// For people. Quotes names and numbers of the control, cut to [`MAX_QUOTED`] characters; never a text, a prompt or a token.
    pub message: String,
    /// The control's `id`, where it could be read.
    pub reply_to: Option<String>,
}

/// Characters of a message that an error quotes at most.
pub const MAX_QUOTED: usize = 40;

impl ControlError {
    /// An error about `field`.
    #[must_use]
    pub fn about(code: ErrorCode, field: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            code,
            field: Some(field.into()),
            message: message.into(),
            reply_to: None,
        }
    }

    /// An error about the message as a whole.
    #[must_use]
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            field: None,
            message: message.into(),
            reply_to: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_stand_on_the_wire_as_they_are_called() {
        for code in ErrorCode::ALL {
            assert_eq!(
                serde_json::to_value(code).expect("a string"),
                code.as_str(),
                "the derived name and the table differ"
            );
        }
    }

    #[test]
    fn close_codes_are_such_that_a_server_may_send_them() {
        for code in ErrorCode::ALL {
            if let Some(close) = code.close_code() {
                assert!(matches!(close, 1009 | 1011 | 4000..=4999), "{code}: {close}");
            }
        }
    }
}
