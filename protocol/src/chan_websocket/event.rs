//! What Asterisk tells.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use thiserror::Error;

use super::{CorrelationId, Format, MAX_MESSAGE_BYTES, Style, Variables};
use crate::native::{Digit, Private};

/// `key:value` pairs of one plain event that are looked at.
const MAX_PAIRS: usize = 64;
/// Characters of an unknown event's name or an unknown format's name that are kept.
const MAX_NAME: usize = 64;

/// A TEXT message from Asterisk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The channel that it is about, as ARI names it. Plain text of old versions leaves it out.
    pub channel_id: Option<String>,
    /// What it says.
    pub event: Event,
}

/// What a message says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// `MEDIA_START`: the call begins. It comes first, except that up to 22.7 media may come before it.
    MediaStart(Box<MediaStart>),
    /// `DTMF_END`: the caller has pressed this key, and let it go.
    Dtmf(Digit),
    /// `MEDIA_XOFF`: the queue is nearly full.
    Xoff,
    /// `MEDIA_XON`: there is room again.
    Xon,
    /// `STATUS`, as asked for.
    Status(Status),
    /// `MEDIA_BUFFERING_COMPLETED`: everything up to the end of this stretch has been played.
    BufferingCompleted(Option<CorrelationId>),
    /// `MEDIA_MARK_PROCESSED`: everything before this mark has left Asterisk's queue. The caller's own buffer, 40 to
    /// 100 ms, comes after it.
    MarkProcessed(Option<CorrelationId>),
    /// `QUEUE_DRAINED`, as asked for.
    QueueDrained,
    /// `ERROR`: a command was refused. Asterisk's own words.
    Error(Private),
    /// Another event, by the beginning of its name.
    Unknown(String),
}

/// `MEDIA_START`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaStart {
    /// Where Asterisk calls us, the section of its configuration, which is no name of a call; where we call Asterisk,
    /// the id that we called.
    pub connection_id: String,
    /// The channel's name: `WebSocket/…`.
    pub channel: String,
    /// The format of media, both ways.
    pub format: Format,
    /// `optimal_frame_size`: bytes of one frame. 0 for Opus, and where it wasn't said and doesn't follow from the
    /// format.
    pub frame_bytes: usize,
    /// Milliseconds of one frame; 20 where it wasn't said.
    pub ptime_ms: u32,
    /// Variables of the channel. Only those that were set to be inherited are there (`__CALLER_NUM`), beside the
    /// driver's own. Empty in plain text, which has none.
    pub variables: Variables,
    /// Media is the caller's own, and commands about it are refused.
    pub passthrough: bool,
    /// There is no queue.
    pub unbuffered: bool,
}

/// `STATUS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct Status {
    /// Frames in the queue.
    pub queue_length: u32,
    /// Below so many frames, [`Event::Xon`] comes.
    #[serde(default = "default_xon")]
    pub xon_level: u32,
    /// From so many frames on, [`Event::Xoff`] has come.
    #[serde(default = "default_xoff")]
    pub xoff_level: u32,
    /// [`Event::Xoff`] has come, and [`Event::Xon`] has not.
    #[serde(default)]
    pub queue_full: bool,
    /// Between the start and the stop of buffering.
    #[serde(default)]
    pub bulk_media: bool,
    /// Paused.
    #[serde(default)]
    pub media_paused: bool,
}

fn default_xon() -> u32 {
    super::XON_FRAMES
}

fn default_xoff() -> u32 {
    super::XOFF_FRAMES
}

/// Why a TEXT message can't be read. Names the field, never what was in it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum EventError {
    /// More than [`MAX_MESSAGE_BYTES`].
    #[error("an event of {0} bytes, where {MAX_MESSAGE_BYTES} are read at most")]
    TooLong(usize),
    /// JSON that is broken, nested too deep, or has no text `event`.
    #[error("an event without a name, or no JSON")]
    Malformed,
    /// A known event with a field that is missing or makes no sense.
    #[error("{event} without what it needs: {field} is missing or wrong")]
    Field {
        /// The event.
        event: &'static str,
        /// One of its fields, where that is known; else `a field`.
        field: &'static str,
    },
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    event: Cow<'a, str>,
    #[serde(default)]
    channel_id: Option<String>,
}

#[derive(Deserialize)]
struct StartFields {
    #[serde(default)]
    connection_id: String,
    #[serde(default)]
    channel: String,
    format: String,
    #[serde(default)]
    optimal_frame_size: Option<u16>,
    #[serde(default = "default_ptime")]
    ptime: u32,
    #[serde(default)]
    channel_variables: Variables,
    #[serde(default)]
    passthrough: bool,
    #[serde(default)]
    unbuffered: bool,
}

fn default_ptime() -> u32 {
    20
}

#[derive(Deserialize)]
struct DigitField {
    digit: Digit,
}

#[derive(Deserialize)]
struct CorrelationField {
    #[serde(default)]
    correlation_id: Option<String>,
}

#[derive(Deserialize)]
struct ErrorField {
    #[serde(default)]
    error_text: Private,
}

impl Message {
    /// Reads a TEXT message, JSON or plain. Fields that aren't known are ignored.
    ///
    /// # Errors
    /// [`EventError`]. The next message isn't affected.
    pub fn parse(text: &str) -> Result<Self, EventError> {
        if text.len() > MAX_MESSAGE_BYTES {
            return Err(EventError::TooLong(text.len()));
        }
        match Style::of(text) {
            Style::Json => {
                let envelope: Envelope<'_> = serde_json::from_str(text).map_err(|_| EventError::Malformed)?;
                let event = read(&envelope.event, &Fields::Json(text))?;
                Ok(Self {
                    channel_id: envelope.channel_id,
                    event,
                })
            }
            Style::Plain => {
                let (name, rest) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
                if name.is_empty() {
                    return Err(EventError::Malformed);
                }
                let mut fields = pairs(rest);
                let channel_id = match fields.remove("channel_id") {
                    Some(Value::String(id)) => Some(id),
                    _ => None,
                };
                let event = read(name, &Fields::Plain(fields))?;
                Ok(Self { channel_id, event })
            }
        }
    }
}

enum Fields<'a> {
    Json(&'a str),
    Plain(Map<String, Value>),
}

impl Fields<'_> {
    fn read<T: DeserializeOwned>(&self, event: &'static str, field: &'static str) -> Result<T, EventError> {
        match self {
            Self::Json(text) => serde_json::from_str(text),
            Self::Plain(fields) => T::deserialize(fields),
        }
        .map_err(|_| EventError::Field { event, field })
    }
}

fn read(name: &str, fields: &Fields<'_>) -> Result<Event, EventError> {
    Ok(match name {
        "MEDIA_START" => Event::MediaStart(Box::new(start(fields)?)),
        "DTMF_END" => Event::Dtmf(fields.read::<DigitField>("DTMF_END", "digit")?.digit),
        "MEDIA_XOFF" => Event::Xoff,
        "MEDIA_XON" => Event::Xon,
        "STATUS" => Event::Status(fields.read("STATUS", "queue_length")?),
        "MEDIA_BUFFERING_COMPLETED" => Event::BufferingCompleted(correlation("MEDIA_BUFFERING_COMPLETED", fields)?),
        "MEDIA_MARK_PROCESSED" => Event::MarkProcessed(correlation("MEDIA_MARK_PROCESSED", fields)?),
        "QUEUE_DRAINED" => Event::QueueDrained,
        "ERROR" => Event::Error(fields.read::<ErrorField>("ERROR", "error_text")?.error_text),
        unknown => Event::Unknown(beginning(unknown)),
    })
}

fn start(fields: &Fields<'_>) -> Result<MediaStart, EventError> {
    let event = "MEDIA_START";
    let start: StartFields = fields.read(event, "a field")?;
    let wrong = |field| EventError::Field { event, field };
    if start.format.is_empty() || start.format.len() > MAX_NAME {
        return Err(wrong("format"));
    }
    if !(1..=1000).contains(&start.ptime) {
        return Err(wrong("ptime"));
    }
    let format = Format::from_name(&start.format);
    let frame_bytes = start
        .optimal_frame_size
        .map_or_else(|| format.frame_bytes().unwrap_or(0), usize::from);
    Ok(MediaStart {
        connection_id: start.connection_id,
        channel: start.channel,
        format,
        frame_bytes,
        ptime_ms: start.ptime,
        variables: start.channel_variables,
        passthrough: start.passthrough,
        unbuffered: start.unbuffered,
    })
}

/// The id that comes back; an empty one was never given.
fn correlation(event: &'static str, fields: &Fields<'_>) -> Result<Option<CorrelationId>, EventError> {
    let field = "correlation_id";
    match fields.read::<CorrelationField>(event, field)?.correlation_id {
        Some(id) if !id.is_empty() => match CorrelationId::new(id) {
            Ok(id) => Ok(Some(id)),
            Err(_) => Err(EventError::Field { event, field }),
        },
        _ => Ok(None),
    }
}

/// The `key:value` pairs of a plain event, with the types that JSON gives them. A word without a colon is a correlation
/// id. The text of an error goes on to the end.
fn pairs(text: &str) -> Map<String, Value> {
    let mut fields = Map::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() && fields.len() < MAX_PAIRS {
        if let Some(error) = rest.strip_prefix("error_text:") {
            fields.insert("error_text".to_owned(), error.trim().into());
            break;
        }
        let (word, tail) = rest.split_once(' ').unwrap_or((rest, ""));
        rest = tail.trim_start();
        let (key, value) = word
            .split_once(':')
            .filter(|(key, _)| PLAIN_KEYS.contains(key))
            .unwrap_or(("correlation_id", word));
        let value = match key {
            "optimal_frame_size" | "ptime" | "queue_length" | "xon_level" | "xoff_level" => {
                value.parse::<u32>().map_or(Value::Null, Value::from)
            }
            "queue_full" | "bulk_media" | "media_paused" | "passthrough" | "unbuffered" => {
                value.parse::<bool>().map_or(Value::Null, Value::from)
            }
            _ => Value::from(value),
        };
        fields.entry(key).or_insert(value);
    }
    fields
}

/// The keys of plain events. Whatever else has a colon is a correlation id that has one.
const PLAIN_KEYS: &[&str] = &[
    "connection_id",
    "channel",
    "channel_id",
    "format",
    "optimal_frame_size",
    "ptime",
    "digit",
    "queue_length",
    "xon_level",
    "xoff_level",
    "queue_full",
    "bulk_media",
    "media_paused",
    "passthrough",
    "unbuffered",
    "correlation_id",
];

fn beginning(name: &str) -> String {
    name.chars().take(MAX_NAME).collect()
}
