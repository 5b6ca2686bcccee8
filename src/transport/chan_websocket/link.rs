//! The WebSocket, whichever side has opened it.
//!
//! A message is given to the socket only when the one before has left, so each is one write, and behind TLS a record of its own, which
//! is what Asterisk takes: of several in one record it reads one each time that the socket wakes it. Nothing is pinged: 22.6 and
//! 22.7 hang up on it, and media every 20 ms tells enough.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::extract::ws::{self, WebSocket};
use bytes::Bytes;
use futures_util::{Sink, Stream};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, frame::coding::CloseCode};
use tokio_tungstenite::tungstenite::{self, Message};

/// Bytes of the largest message that is taken: Asterisk's own have 65,535 at most, and longer ones are for whoever reads them to ignore.
pub(super) const LARGEST_MESSAGE: usize = 256 * 1_024;
/// The buffer for what comes. A call must not cost 128 KiB of it.
pub(super) const READ_BUFFER: usize = 4_096;

/// See the [module](self).
pub(super) enum Link {
    /// Asterisk has called.
    Theirs(Box<WebSocket>),
    /// Asterisk was called.
    Ours(Box<WebSocketStream<TcpStream>>),
}

/// What has come.
pub(super) enum Came {
    /// An event, unless it is rubbish.
    Text(Bytes),
    /// Media.
    Media(Bytes),
    /// Nothing that counts.
    Nothing,
}

/// The connection is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Gone;

impl Link {
    /// What comes next; `None` when the connection is closed or broken.
    pub(super) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Came>> {
        let came = match self {
            Self::Theirs(socket) => match std::task::ready!(Pin::new(&mut **socket).poll_next(context)) {
                Some(Ok(ws::Message::Text(text))) => Came::Text(text.into()),
                Some(Ok(ws::Message::Binary(media))) => Came::Media(media),
                Some(Ok(ws::Message::Ping(_) | ws::Message::Pong(_))) => Came::Nothing,
                Some(Ok(ws::Message::Close(_)) | Err(_)) | None => return Poll::Ready(None),
            },
            Self::Ours(socket) => match std::task::ready!(Pin::new(&mut **socket).poll_next(context)) {
                Some(Ok(Message::Text(text))) => Came::Text(text.into()),
                Some(Ok(Message::Binary(media))) => Came::Media(media),
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => Came::Nothing,
                Some(Ok(Message::Close(_)) | Err(_)) | None => return Poll::Ready(None),
            },
        };
        Poll::Ready(Some(came))
    }

    /// Ready when everything that was sent has left, and a message may be sent.
    pub(super) fn poll_sent(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Gone>> {
        match self {
            Self::Theirs(socket) => Pin::new(&mut **socket).poll_flush(context).map_err(|_| Gone),
            Self::Ours(socket) => Pin::new(&mut **socket).poll_flush(context).map_err(|_| Gone),
        }
    }

    /// Sends media in one message. [`Link::poll_sent`] was ready before.
    pub(super) fn send_media(&mut self, media: Bytes) -> Result<(), Gone> {
        match self {
            Self::Theirs(socket) => start(socket.as_mut(), ws::Message::Binary(media)),
            Self::Ours(socket) => start(socket.as_mut(), Message::Binary(media)),
        }
    }

    /// Sends a command. [`Link::poll_sent`] was ready before.
    pub(super) fn send_text(&mut self, text: String) -> Result<(), Gone> {
        match self {
            Self::Theirs(socket) => start(socket.as_mut(), ws::Message::text(text)),
            Self::Ours(socket) => start(socket.as_mut(), Message::text(text)),
        }
    }

    /// Says goodbye: code 1000. [`Link::poll_sent`] was ready before.
    pub(super) fn send_close(&mut self) -> Result<(), Gone> {
        match self {
            Self::Theirs(socket) => {
                let frame = ws::CloseFrame {
                    code: ws::close_code::NORMAL,
                    reason: "".into(),
                };
                start(socket.as_mut(), ws::Message::Close(Some(frame)))
            }
            Self::Ours(socket) => {
                let frame = CloseFrame {
                    code: CloseCode::Normal,
                    reason: "".into(),
                };
                start(socket.as_mut(), Message::Close(Some(frame)))
            }
        }
    }
}

fn start<S: Sink<M> + Unpin, M>(socket: &mut S, message: M) -> Result<(), Gone> {
    // Both write at once what they are given, as they are set up without a buffer for it.
    Pin::new(socket).start_send(message).map_err(|_| Gone)
}

/// How a connection that we open is set up.
pub(super) fn config() -> tungstenite::protocol::WebSocketConfig {
    tungstenite::protocol::WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(0)
        .max_message_size(Some(LARGEST_MESSAGE))
        .max_frame_size(Some(LARGEST_MESSAGE))
}
