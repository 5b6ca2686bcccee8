//! Twilio Media Streams: JSON text over a WebSocket that Twilio opens to us, with G.711 µ-law (8 kHz, mono) in base64.
//!
//! Messages: <https://www.twilio.com/docs/voice/media-streams/websocket-messages>. Numbers come as texts; numbers are
//! taken too. Only a bidirectional stream (`<Connect><Stream>`) plays what is sent back. To go on in TwiML, the socket
//! is closed.

use std::borrow::Cow;
use std::fmt;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::de::{Error as _, Visitor};
use serde::{Deserialize, Deserializer};
use thiserror::Error;

use crate::native::{Digit, Private};

pub use crate::variables::Variables;

/// Bytes of one message that are read, at most. An ordinary one has 160 bytes of audio; none has more than a few
/// thousand.
pub const MAX_MESSAGE_BYTES: usize = 64 * 1024;
/// Bytes of decoded audio in one message, at most: a second of µ-law.
pub const MAX_AUDIO_BYTES: usize = 8_000;
/// Characters of a mark's name and of an id, at most.
pub const MAX_NAME: usize = 256;
/// Samples per second of the audio, both ways.
pub const SAMPLE_RATE_HZ: u32 = 8_000;

/// Base64, with or without padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A message from Twilio. Fields that aren't known are ignored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// `connected`, the first.
    Connected {
        /// `Call`.
        protocol: Option<Cow<'a, str>>,
        /// `1.0.0`.
        version: Option<Cow<'a, str>>,
    },
    /// `start`, the second.
    Start(Box<Start>),
    /// `media`, 20 ms each.
    Media(Media<'a>),
    /// `dtmf`: the caller has pressed this key.
    Dtmf(Digit),
    /// `mark`: what was sent before this mark has been played, or was cleared.
    Mark {
        /// The mark's name, as it was given.
        name: Cow<'a, str>,
    },
    /// `stop`: the stream is over.
    Stop,
    /// Another event, by the beginning of its name.
    Unknown(String),
}

/// `start`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// The stream, which every message to Twilio names.
    pub stream_sid: StreamSid,
    /// The call.
    pub call_sid: String,
    /// The account.
    pub account_sid: String,
    /// `audio/x-mulaw`.
    pub encoding: String,
    /// Samples per second.
    pub sample_rate_hz: u32,
    /// 1.
    pub channels: u32,
    /// What the TwiML's `<Parameter>`s say.
    pub parameters: Variables,
}

/// `media`.
#[derive(Clone, PartialEq, Eq)]
pub struct Media<'a> {
    /// Whether the caller said it. A stream of both tracks has what the caller hears, too.
    pub is_inbound: bool,
    /// Counts the messages of media from 1, where it is said.
    pub chunk: Option<u64>,
    /// Milliseconds since the stream began, where it is said.
    pub timestamp_ms: Option<u64>,
    /// The audio, in base64.
    payload: Cow<'a, str>,
}

/// What was said isn't printed.
impl fmt::Debug for Media<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Media")
            .field("is_inbound", &self.is_inbound)
            .field("chunk", &self.chunk)
            .field("timestamp_ms", &self.timestamp_ms)
            .finish_non_exhaustive()
    }
}

impl Media<'_> {
    /// Replaces what is in `out` by the audio: µ-law, 8 kHz, mono, one byte a sample, at most [`MAX_AUDIO_BYTES`]. A
    /// vector that has this capacity is not allocated again.
    ///
    /// # Errors
    /// [`EventError::Field`] if it is no base64, [`EventError::TooLong`] if it is too long. `out` is empty then.
    pub fn decode(&self, out: &mut Vec<u8>) -> Result<(), EventError> {
        out.clear();
        // Four characters for three bytes, and padding.
        let longest = MAX_AUDIO_BYTES.div_ceil(3) * 4;
        if self.payload.len() > longest {
            return Err(EventError::TooLong(self.payload.len()));
        }
        out.reserve(longest / 4 * 3);
        if BASE64.decode_vec(self.payload.as_bytes(), out).is_err() {
            out.clear();
            return Err(EventError::Field("media.payload"));
        }
        if out.len() > MAX_AUDIO_BYTES {
            out.clear();
            return Err(EventError::TooLong(self.payload.len()));
        }
        Ok(())
    }
}

/// The name of a stream: 1 to [`MAX_NAME`] visible ASCII characters, neither `"` nor `\`, so that it can be written as it
/// is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StreamSid(String);

impl StreamSid {
    /// The name with this text, if it can be one.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let fits = (1..=MAX_NAME).contains(&text.len())
            && text
                .bytes()
                .all(|byte| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\');
        fits.then(|| Self(text.to_owned()))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Why a message can't be read. Names the field, never what was in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum EventError {
    /// A message, or its audio, that is too long; bytes.
    #[error("{0} bytes are too long for one message")]
    TooLong(usize),
    /// Not a JSON object with a text `event`.
    #[error("no JSON, or no event")]
    Malformed,
    /// This field, or one within it, is missing or wrong.
    #[error("{0} is missing or wrong")]
    Field(&'static str),
}

/// A number, or a text that is one.
#[derive(Clone, Copy)]
struct Number(u64);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl Visitor<'_> for Reader {
            type Value = Number;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a whole number, also as a text")
            }

            fn visit_u64<E>(self, number: u64) -> Result<Number, E> {
                Ok(Number(number))
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Number, E> {
                text.parse().map(Number).map_err(|_| E::custom("no whole number"))
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    event: Cow<'a, str>,
}

#[derive(Deserialize)]
struct ConnectedFields<'a> {
    #[serde(borrow, default)]
    protocol: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    version: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct StartMessage {
    start: StartFields,
    #[serde(default, rename = "streamSid")]
    stream_sid: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct StartFields {
    #[serde(default)]
    stream_sid: Option<String>,
    #[serde(default)]
    call_sid: String,
    #[serde(default)]
    account_sid: String,
    #[serde(default)]
    media_format: FormatFields,
    #[serde(default)]
    custom_parameters: Variables,
}

#[derive(Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct FormatFields {
    encoding: String,
    #[serde(deserialize_with = "small_number")]
    sample_rate: u32,
    #[serde(deserialize_with = "small_number")]
    channels: u32,
}

impl Default for FormatFields {
    fn default() -> Self {
        Self {
            encoding: "audio/x-mulaw".to_owned(),
            sample_rate: SAMPLE_RATE_HZ,
            channels: 1,
        }
    }
}

fn small_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let Number(number) = Number::deserialize(deserializer)?;
    u32::try_from(number).map_err(|_| D::Error::custom("too large"))
}

#[derive(Deserialize)]
struct MediaMessage<'a> {
    #[serde(borrow)]
    media: MediaFields<'a>,
}

#[derive(Deserialize)]
struct MediaFields<'a> {
    #[serde(borrow, default)]
    track: Option<Cow<'a, str>>,
    #[serde(default)]
    chunk: Option<Number>,
    #[serde(default)]
    timestamp: Option<Number>,
    #[serde(borrow)]
    payload: Cow<'a, str>,
}

#[derive(Deserialize)]
struct DtmfMessage {
    dtmf: DtmfFields,
}

#[derive(Deserialize)]
struct DtmfFields {
    digit: Digit,
}

#[derive(Deserialize)]
struct MarkMessage<'a> {
    #[serde(borrow)]
    mark: MarkFields<'a>,
}

#[derive(Deserialize)]
struct MarkFields<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
}

/// Reads `text` as a message whose data are in `field`.
fn fields<'a, T: Deserialize<'a>>(text: &'a str, field: &'static str) -> Result<T, EventError> {
    serde_json::from_str(text).map_err(|_| EventError::Field(field))
}

impl<'a> Event<'a> {
    /// Reads one text message. Audio allocates nothing: it stays where it is until [`Media::decode`].
    ///
    /// # Errors
    /// [`EventError`]. The next message isn't affected.
    pub fn parse(text: &'a str) -> Result<Self, EventError> {
        if text.len() > MAX_MESSAGE_BYTES {
            return Err(EventError::TooLong(text.len()));
        }
        let envelope: Envelope<'a> = serde_json::from_str(text).map_err(|_| EventError::Malformed)?;
        Ok(match &*envelope.event {
            "media" => {
                let MediaMessage { media } = fields(text, "media")?;
                Self::Media(Media {
                    is_inbound: media.track.is_none_or(|track| track == "inbound"),
                    chunk: media.chunk.map(|number| number.0),
                    timestamp_ms: media.timestamp.map(|number| number.0),
                    payload: media.payload,
                })
            }
            "connected" => {
                let ConnectedFields { protocol, version } = fields(text, "connected")?;
                Self::Connected { protocol, version }
            }
            "start" => {
                let StartMessage { start, stream_sid } = fields(text, "start")?;
                let sid = start.stream_sid.or(stream_sid);
                Self::Start(Box::new(Start {
                    stream_sid: sid
                        .as_deref()
                        .and_then(StreamSid::new)
                        .ok_or(EventError::Field("streamSid"))?,
                    call_sid: start.call_sid,
                    account_sid: start.account_sid,
                    encoding: start.media_format.encoding,
                    sample_rate_hz: start.media_format.sample_rate,
                    channels: start.media_format.channels,
                    parameters: start.custom_parameters,
                }))
            }
            "dtmf" => Self::Dtmf(fields::<DtmfMessage>(text, "dtmf")?.dtmf.digit),
            "mark" => {
                let name = fields::<MarkMessage<'a>>(text, "mark")?.mark.name;
                if name.chars().nth(MAX_NAME).is_some() {
                    return Err(EventError::Field("mark.name"));
                }
                Self::Mark { name }
            }
            "stop" => Self::Stop,
            unknown => Self::Unknown(unknown.chars().take(64).collect()),
        })
    }
}

impl Start {
    /// Whether the audio is what Twilio has ever sent: µ-law, 8 kHz, one channel.
    #[must_use]
    pub fn is_mulaw(&self) -> bool {
        self.encoding == "audio/x-mulaw" && self.sample_rate_hz == SAMPLE_RATE_HZ && self.channels == 1
    }

    /// A parameter of the TwiML, as something private: it is where a caller's number is passed.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<Private> {
        self.parameters.value(name).map(Private::from)
    }
}

/// Appends a message with audio to play to `out`: µ-law, 8 kHz, mono, of any length.
pub fn write_media(stream: &StreamSid, mulaw: &[u8], out: &mut String) {
    begin("media", stream, out);
    out.push_str(r#","media":{"payload":""#);
    BASE64.encode_string(mulaw, out);
    out.push_str("\"}}");
}

/// Appends a message with a mark to `out`. It comes back when what was sent before it has been played, or is cleared.
pub fn write_mark(stream: &StreamSid, name: &str, out: &mut String) {
    begin("mark", stream, out);
    out.push_str(r#","mark":{"name":"#);
    out.push_str(&serde_json::Value::from(name).to_string());
    out.push_str("}}");
}

/// Appends a message to `out` that makes Twilio drop what it hasn't played. The marks among it come back at once.
pub fn write_clear(stream: &StreamSid, out: &mut String) {
    begin("clear", stream, out);
    out.push('}');
}

fn begin(event: &str, stream: &StreamSid, out: &mut String) {
    for part in [r#"{"event":""#, event, r#"","streamSid":""#, stream.as_str(), "\""] {
        out.push_str(part);
    }
}

#[cfg(test)]
mod tests;
