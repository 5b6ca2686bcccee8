//! chan_websocket: Asterisk's media over a WebSocket (`chan_websocket.c`; 20.16, 21.11, 22.6, 23.0 and later; JSON from
//! 20.18, 22.8 and 23.2 on).
//!
//! A BINARY message is media in the channel's format, without a header; `slin` is signed 16 bits, little-endian. A
//! TEXT message is an [`Event`] from Asterisk or a [`Command`] to it, both in JSON or in plain text. Which of the two a
//! channel speaks is told by the first byte of its first event ([`Style::of`]).
//!
//! What a server must keep to, beside the types here: no message is fragmented, no extension is negotiated, each
//! message is a TLS record of its own, and versions 22.6 and 22.7 hang up when they are pinged. Media that isn't a
//! whole number of frames of [`MediaStart::frame_bytes`] loses its tail, unless it is sent between
//! [`Command::StartMediaBuffering`] and [`Command::StopMediaBuffering`].
//!
//! # Stopping what is being played
//! [`Command::FlushMedia`] empties Asterisk's queue at once. It also swallows the marks and the end of buffering that
//! were queued: their events never come. It ends buffering. A queue that was paused stays paused, whatever the
//! documentation says (22.10.1), so [`Command::ContinueMedia`] has to follow where [`Command::PauseMedia`] went before.
//! A request for [`Event::QueueDrained`] survives and is answered soon after.

mod command;
mod event;

pub use crate::variables::Variables;
pub use command::{Command, CommandError, Direction};
pub use event::{Event, EventError, MediaStart, Message, Status};

use std::fmt;

use thiserror::Error;

/// The WebSocket subprotocol. Asterisk asks for it, and refuses every other.
pub const SUBPROTOCOL: &str = "media";
/// Bytes of one message that Asterisk takes, at most, by its documentation; 65,600 end the call with code 1009.
pub const MAX_MESSAGE_BYTES: usize = 65_500;
/// Bytes of media that we put into one message, at most.
pub const MAX_MEDIA_BYTES: usize = 32_000;
/// Bytes of a command, at most. Asterisk ignores longer ones, and says so in its log alone.
pub const MAX_COMMAND_BYTES: usize = 128;
/// Characters of a correlation id, at most: the longest command that carries one stays below [`MAX_COMMAND_BYTES`].
pub const MAX_CORRELATION_ID: usize = 64;
/// Frames that Asterisk's queue holds. A message that comes when it is full is dropped without a word.
pub const QUEUE_FRAMES: u32 = 1000;
/// With so many frames in its queue Asterisk sends [`Event::Xoff`].
pub const XOFF_FRAMES: u32 = 900;
/// With fewer frames than this in its queue Asterisk sends [`Event::Xon`]; never while it is paused.
pub const XON_FRAMES: u32 = 800;

/// How events and commands are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// One JSON object a message.
    Json,
    /// Words and `key:value` pairs.
    Plain,
}

impl Style {
    /// How `text` is written: JSON if it begins with `{`.
    #[must_use]
    pub fn of(text: &str) -> Self {
        if text.starts_with('{') { Self::Json } else { Self::Plain }
    }
}

/// A format of media, by Asterisk's name for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Format {
    /// Signed 16 bits, little-endian, at one of nine rates.
    Slin(SlinRate),
    /// G.711 µ-law, 8 kHz.
    Ulaw,
    /// G.711 A-law, 8 kHz.
    Alaw,
    /// G.722: 16 kHz, one byte for two samples.
    G722,
    /// Opus, passed through: one packet a message.
    Opus,
    /// Another name.
    Unknown(String),
}

/// The rates of signed linear audio, those of AudioSocket.
pub type SlinRate = crate::audiosocket::Rate;

impl Format {
    /// The format that Asterisk calls `name`.
    #[must_use]
    pub fn from_name(name: &str) -> Self {
        match name {
            "ulaw" => Self::Ulaw,
            "alaw" => Self::Alaw,
            "g722" => Self::G722,
            "opus" => Self::Opus,
            name => SlinRate::ALL
                .into_iter()
                .find(|rate| slin_name(*rate) == name)
                .map_or_else(|| Self::Unknown(name.to_owned()), Self::Slin),
        }
    }

    /// Asterisk's name.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Slin(rate) => slin_name(*rate),
            Self::Ulaw => "ulaw",
            Self::Alaw => "alaw",
            Self::G722 => "g722",
            Self::Opus => "opus",
            Self::Unknown(name) => name,
        }
    }

    /// Samples per second of the sound; `None` where it isn't known.
    #[must_use]
    pub const fn sample_rate_hz(&self) -> Option<u32> {
        match self {
            Self::Slin(rate) => Some(rate.hz()),
            Self::Ulaw | Self::Alaw => Some(8_000),
            Self::G722 => Some(16_000),
            Self::Opus => Some(48_000),
            Self::Unknown(_) => None,
        }
    }

    /// Bytes of 20 ms; `None` where they differ from packet to packet or aren't known.
    #[must_use]
    pub const fn frame_bytes(&self) -> Option<usize> {
        match self {
            Self::Slin(rate) => Some(2 * rate.frame_samples()),
            Self::Ulaw | Self::Alaw | Self::G722 => Some(160),
            Self::Opus | Self::Unknown(_) => None,
        }
    }

    /// Bytes of the longest message of whole frames within [`MAX_MEDIA_BYTES`]; `None` as for
    /// [`frame_bytes`](Self::frame_bytes).
    #[must_use]
    pub fn message_bytes(&self) -> Option<usize> {
        self.frame_bytes().map(|frame| MAX_MEDIA_BYTES / frame * frame)
    }
}

/// Asterisk's name of signed linear audio at this rate (`codec_builtin.c`).
const fn slin_name(rate: SlinRate) -> &'static str {
    match rate {
        SlinRate::Hz8000 => "slin",
        SlinRate::Hz12000 => "slin12",
        SlinRate::Hz16000 => "slin16",
        SlinRate::Hz24000 => "slin24",
        SlinRate::Hz32000 => "slin32",
        SlinRate::Hz44100 => "slin44",
        SlinRate::Hz48000 => "slin48",
        SlinRate::Hz96000 => "slin96",
        SlinRate::Hz192000 => "slin192",
    }
}

/// What a mark or a stretch of buffered media is called, so that its event can be told from others: 1 to
/// [`MAX_CORRELATION_ID`] visible ASCII characters, neither `"` nor `\`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CorrelationId(String);

/// A text that can't be a [`CorrelationId`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a correlation id has 1 to {MAX_CORRELATION_ID} visible ASCII characters without quotes and backslashes")]
pub struct NotACorrelationId;

impl CorrelationId {
    /// The id with this text.
    ///
    /// # Errors
    /// [`NotACorrelationId`].
    pub fn new(text: impl Into<String>) -> Result<Self, NotACorrelationId> {
        let text = text.into();
        let fits = (1..=MAX_CORRELATION_ID).contains(&text.len())
            && text
                .bytes()
                .all(|byte| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\');
        if fits { Ok(Self(text)) } else { Err(NotACorrelationId) }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CorrelationId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests;
