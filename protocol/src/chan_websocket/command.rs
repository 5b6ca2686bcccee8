//! What Asterisk is told.

use thiserror::Error;

use super::{CorrelationId, MAX_COMMAND_BYTES, Style};

/// A command to the channel. Asterisk answers none that it doesn't know; in passthrough, and for media in the
/// direction that is off, those about media are answered by [`Event::Error`](super::Event::Error).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command<'a> {
    /// Answers the call, where the dial string says not to do so by itself (`n`).
    Answer,
    /// Ends the call.
    Hangup,
    /// From here on, messages of media may have any length.
    StartMediaBuffering,
    /// The end of such a stretch. When all of it has been played,
    /// [`Event::BufferingCompleted`](super::Event::BufferingCompleted) comes with this id.
    StopMediaBuffering(Option<&'a CorrelationId>),
    /// When all media before it has been played, [`Event::MarkProcessed`](super::Event::MarkProcessed) comes with this
    /// id (22.8 and its sisters, and later).
    MarkMedia(Option<&'a CorrelationId>),
    /// Drops what is queued; see the [module](super#stopping-what-is-being-played).
    FlushMedia,
    /// Plays nothing until [`Command::ContinueMedia`].
    PauseMedia,
    /// Plays on.
    ContinueMedia,
    /// [`Event::QueueDrained`](super::Event::QueueDrained) comes once, when the queue is next empty.
    ReportQueueDrained,
    /// [`Event::Status`](super::Event::Status) comes at once.
    GetStatus,
    /// Which media flows (22.9 and its sisters, and later; JSON alone).
    SetMediaDirection(Direction),
}

/// Which media flows, as the application sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// To us and from us.
    Both,
    /// To us alone: Asterisk drops what we send.
    In,
    /// From us alone: we get none.
    Out,
}

/// Why a command isn't written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum CommandError {
    /// More than [`MAX_COMMAND_BYTES`]: Asterisk would ignore it.
    #[error("a command of {0} bytes, where Asterisk reads {MAX_COMMAND_BYTES} at most")]
    TooLong(usize),
    /// Plain text has no words for it.
    #[error("this command exists in JSON alone")]
    NeedsJson,
}

impl Command<'_> {
    /// Asterisk's word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Answer => "ANSWER",
            Self::Hangup => "HANGUP",
            Self::StartMediaBuffering => "START_MEDIA_BUFFERING",
            Self::StopMediaBuffering(_) => "STOP_MEDIA_BUFFERING",
            Self::MarkMedia(_) => "MARK_MEDIA",
            Self::FlushMedia => "FLUSH_MEDIA",
            Self::PauseMedia => "PAUSE_MEDIA",
            Self::ContinueMedia => "CONTINUE_MEDIA",
            Self::ReportQueueDrained => "REPORT_QUEUE_DRAINED",
            Self::GetStatus => "GET_STATUS",
            Self::SetMediaDirection(_) => "SET_MEDIA_DIRECTION",
        }
    }

    /// The text of the message.
    ///
    /// # Errors
    /// [`CommandError`].
    pub fn to_text(self, style: Style) -> Result<String, CommandError> {
        let argument = match self {
            Self::StopMediaBuffering(id) | Self::MarkMedia(id) => id.map(|id| ("correlation_id", id.as_str())),
            Self::SetMediaDirection(direction) => Some((
                "direction",
                match direction {
                    Direction::Both => "both",
                    Direction::In => "in",
                    Direction::Out => "out",
                },
            )),
            _ => None,
        };
        let name = self.name();
        // Nothing here needs an escape: names and directions are our own words, and ids have none of those characters.
        let text = match (style, argument) {
            (Style::Json, None) => format!(r#"{{"command":"{name}"}}"#),
            (Style::Json, Some((key, value))) => format!(r#"{{"command":"{name}","{key}":"{value}"}}"#),
            (Style::Plain, _) if matches!(self, Self::SetMediaDirection(_)) => return Err(CommandError::NeedsJson),
            (Style::Plain, None) => name.to_owned(),
            (Style::Plain, Some((_, value))) => format!("{name} {value}"),
        };
        if text.len() > MAX_COMMAND_BYTES {
            return Err(CommandError::TooLong(text.len()));
        }
        Ok(text)
    }
}
