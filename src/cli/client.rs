//! A client of the native wire: what `repartee talk`, the examples and the load bench speak with.

use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use repartee_protocol::native::{Control, Event, EventError, Hello, Ready, Request, parse_event};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error as WebSocketError, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async_with_config};

/// How long a server may take to answer, for each step of the opening.
const OPENING_TIMEOUT: Duration = Duration::from_secs(5);

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Why a session could not be opened, or broke off.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody answers there.
    #[error(
        "can't reach {url}: {reason}; is the server running? Start it with `make run` or `repartee serve` (`talk --embedded` needs none)"
    )]
    Unreachable {
        /// Where.
        url: String,
        /// The system's word.
        reason: String,
    },
    /// What was given is no address.
    #[error("{url:?} is no address of a server: {reason}; it looks like 127.0.0.1:8080 or https://voice.example")]
    Address {
        /// What was given.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The server refused.
    #[error("the server refused: {message} ({code})")]
    Refused {
        /// Its stable code.
        code: String,
        /// Its words.
        message: String,
    },
    /// What answers there doesn't speak this protocol.
    #[error("what answers at {url} is no Repartee: {reason}")]
    Foreign {
        /// Where.
        url: String,
        /// How it shows.
        reason: String,
    },
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Broken(String),
}

/// What a server sends.
#[derive(Debug)]
pub enum Incoming {
    /// A text message.
    Event(Event),
    /// A binary message: audio in the format of `ready.output`.
    Audio(Bytes),
}

/// The sending half of a session.
#[derive(Debug)]
pub struct ClientSender(SplitSink<Socket, Message>);

/// The receiving half of a session.
#[derive(Debug)]
pub struct ClientReceiver(SplitStream<Socket>);

/// Opens a session at `url` (`ws://host:port/v1/session`).
///
/// # Errors
/// See [`ClientError`].
pub async fn open(url: &str, hello: Hello) -> Result<(Ready, ClientSender, ClientReceiver), ClientError> {
    let unreachable = |reason: String| ClientError::Unreachable {
        url: url.to_owned(),
        reason,
    };
    let foreign = |reason: String| ClientError::Foreign {
        url: url.to_owned(),
        reason,
    };
    let config = WebSocketConfig::default().read_buffer_size(4_096).write_buffer_size(0);
    let connecting = timeout(OPENING_TIMEOUT, connect_async_with_config(url, Some(config), true));
    let (socket, _) = match connecting.await {
        Ok(Ok(connected)) => connected,
        Ok(Err(WebSocketError::Io(error))) => return Err(unreachable(error.to_string())),
        Ok(Err(WebSocketError::Http(response))) => {
            return Err(foreign(format!("it answers with HTTP status {}", response.status())));
        }
        Ok(Err(error @ (WebSocketError::Url(_) | WebSocketError::HttpFormat(_)))) => {
            return Err(ClientError::Address {
                url: url.to_owned(),
                reason: error.to_string(),
            });
        }
        Ok(Err(error)) => return Err(foreign(error.to_string())),
        Err(_) => return Err(unreachable("no answer within 5 s".to_owned())),
    };
    let (sink, stream) = socket.split();
    let (mut sender, mut receiver) = (ClientSender(sink), ClientReceiver(stream));
    sender.control(Request::Hello(Box::new(hello)).into()).await?;
    loop {
        match timeout(OPENING_TIMEOUT, receiver.next()).await {
            Ok(Some(Ok(Incoming::Event(Event::Ready(ready))))) => return Ok((*ready, sender, receiver)),
            Ok(Some(Ok(Incoming::Event(Event::Error(error))))) => {
                return Err(ClientError::Refused {
                    code: error.code.to_string(),
                    message: error.message,
                });
            }
            Ok(Some(Ok(_))) => {}
            Ok(Some(Err(error))) => return Err(error),
            Ok(None) => return Err(foreign("it hung up before `ready`".to_owned())),
            Err(_) => return Err(foreign("no `ready` within 5 s".to_owned())),
        }
    }
}

impl ClientSender {
    /// Sends a control.
    ///
    /// # Errors
    /// [`ClientError::Broken`].
    pub async fn control(&mut self, control: Control) -> Result<(), ClientError> {
        self.send(Message::text(control.to_json())).await
    }

    /// Sends audio in the format that `hello` promised.
    ///
    /// # Errors
    /// [`ClientError::Broken`].
    pub async fn audio(&mut self, payload: Bytes) -> Result<(), ClientError> {
        self.send(Message::Binary(payload)).await
    }

    /// Sends text as it is, whether or not it is a control.
    ///
    /// # Errors
    /// [`ClientError::Broken`].
    pub async fn text(&mut self, text: impl Into<String>) -> Result<(), ClientError> {
        self.send(Message::text(text.into())).await
    }

    async fn send(&mut self, message: Message) -> Result<(), ClientError> {
        self.0
            .send(message)
            .await
            .map_err(|error| ClientError::Broken(error.to_string()))
    }
}

impl ClientReceiver {
    /// The next message; `None` when the server has closed the connection. Events of types that this client doesn't
    /// know are left out.
    pub async fn next(&mut self) -> Option<Result<Incoming, ClientError>> {
        loop {
            let text = match self.0.next().await? {
                Ok(Message::Binary(payload)) => return Some(Ok(Incoming::Audio(payload))),
                Ok(Message::Text(text)) => text,
                Ok(Message::Close(_)) | Err(WebSocketError::ConnectionClosed | WebSocketError::AlreadyClosed) => {
                    return None;
                }
                Ok(_) => continue,
                Err(error) => return Some(Err(ClientError::Broken(error.to_string()))),
            };
            match parse_event(&text) {
                Ok(Some(event)) => return Some(Ok(Incoming::Event(event))),
                Ok(None) => {}
                Err(EventError::Json(error)) => {
                    return Some(Err(ClientError::Broken(format!("not an event: {error}"))));
                }
                Err(EventError::NoType) => return Some(Err(ClientError::Broken("an event without a type".to_owned()))),
            }
        }
    }
}

/// The WebSocket's address on the server at `url`, which may be written as people write it: `127.0.0.1:8080`,
/// `http://host:port/`, `wss://host/v1/session`.
#[must_use]
pub fn session_url(url: &str) -> String {
    let with_scheme = match url.split_once("://") {
        Some(("http", rest)) => format!("ws://{rest}"),
        Some(("https", rest)) => format!("wss://{rest}"),
        Some(_) => url.to_owned(),
        None => format!("ws://{url}"),
    };
    let (scheme, rest) = with_scheme.split_once("://").unwrap_or(("ws", &with_scheme));
    match rest.split_once('/') {
        Some((host, path)) if !path.is_empty() => format!("{scheme}://{host}/{path}"),
        Some((host, _)) => format!("{scheme}://{host}{}", repartee_protocol::native::PATH),
        None => format!("{scheme}://{rest}{}", repartee_protocol::native::PATH),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_as_people_write_them() {
        for (written, meant) in [
            ("127.0.0.1:8080", "ws://127.0.0.1:8080/v1/session"),
            ("http://localhost:9/", "ws://localhost:9/v1/session"),
            ("https://voice.example", "wss://voice.example/v1/session"),
            ("ws://[::1]:8080/v1/session", "ws://[::1]:8080/v1/session"),
            (
                "wss://voice.example/proxied/session",
                "wss://voice.example/proxied/session",
            ),
        ] {
            assert_eq!(session_url(written), meant);
        }
    }
}
