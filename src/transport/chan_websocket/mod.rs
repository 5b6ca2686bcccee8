//! Asterisk's chan_websocket: media of a channel in BINARY messages, events and commands in TEXT
//! (`repartee_protocol::chan_websocket`).
//!
//! Asterisk calls us ([`routes`]: `Dial(WebSocket/…)`, or ARI's externalMedia with a client), or we call Asterisk ([`dial`]: a channel
//! `WebSocket/INCOMING`). It queues what it is sent and plays it at its own pace, so frames go a little ahead of their time, and
//! a reply that is interrupted is taken back. Who calls is told by the channel's variables; what stands in the URL is left over from other
//! calls (`v()` is kept by the client that all share) and never looked at.

mod connection;
mod facts;
mod link;
mod media;
mod outbox;
mod queue;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use repartee_protocol::chan_websocket::SUBPROTOCOL;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::timeout;
use tokio_tungstenite::client_async_with_config;
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

use self::link::{LARGEST_MESSAGE, Link, READ_BUFFER};
use crate::access;
use crate::phone::Phones;

/// Where Asterisk calls.
pub const PATH: &str = "/media";
/// Connections that may be open before they have begun a call, of all peers together.
const MOST_UNKNOWN: usize = 256;
/// How long a connection to Asterisk may take.
const CONNECT_WAIT: Duration = Duration::from_secs(5);
/// A peer that acknowledges nothing for so long has vanished.
const VANISHED_MS: u32 = 20_000;

/// What the wire is told at its start.
#[derive(Clone)]
pub struct ChanWebsocketOptions {
    /// The password that Asterisk must show (`password` in its websocket_client.conf), if one is wanted; its `username` is of no meaning.
    pub password: Option<Arc<str>>,
    /// The server listens on loopback only, so that only names of this machine may stand in `Host`.
    pub loopback: bool,
}

impl Default for ChanWebsocketOptions {
    fn default() -> Self {
        Self {
            password: None,
            loopback: true,
        }
    }
}

impl fmt::Debug for ChanWebsocketOptions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ChanWebsocketOptions")
            .field("password", &self.password.as_ref().map(|_| "…"))
            .field("loopback", &self.loopback)
            .finish()
    }
}

#[derive(Clone)]
struct Wire {
    phones: Phones,
    options: Arc<ChanWebsocketOptions>,
    unknown: Arc<Semaphore>,
}

/// The wire's route: a WebSocket at [`PATH`]. The listener sets `TCP_NODELAY`, since frames must not wait for one another.
pub fn routes(phones: Phones, options: ChanWebsocketOptions) -> Router {
    Router::new().route(PATH, get(upgrade)).with_state(Wire {
        phones,
        options: Arc::new(options),
        unknown: Arc::new(Semaphore::new(MOST_UNKNOWN)),
    })
}

async fn upgrade(
    State(wire): State<Wire>,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    let value = |name| {
        headers
            .get(name)
            .map(|value: &HeaderValue| value.to_str().unwrap_or_default())
    };
    let upgrade = match upgrade {
        Ok(upgrade) => upgrade,
        Err(rejection) => {
            let message = format!("{PATH} is a WebSocket for Asterisk's chan_websocket: {rejection}\n");
            let upgrade = [(header::UPGRADE, "websocket")];
            return (StatusCode::UPGRADE_REQUIRED, upgrade, message).into_response();
        }
    };
    // Asterisk sends no `Origin`: whoever does is a page.
    if let Err(message) = access::same_origin(value(header::ORIGIN), value(header::HOST), wire.options.loopback) {
        return (StatusCode::FORBIDDEN, message).into_response();
    }
    let given = value(header::AUTHORIZATION).and_then(password);
    if !access::token_is_right(wire.options.password.as_deref(), given.as_deref()) {
        let message = "the password is missing or wrong: it stands in Asterisk's websocket_client.conf\n";
        let ask = [(header::WWW_AUTHENTICATE, "Basic realm=\"repartee\"")];
        return (StatusCode::UNAUTHORIZED, ask, message).into_response();
    }
    let Ok(permit) = Arc::clone(&wire.unknown).try_acquire_owned() else {
        tracing::warn!("{MOST_UNKNOWN} connections have not begun a call: one more is refused");
        return (
            StatusCode::SERVICE_UNAVAILABLE,
            "too many connections have not begun a call\n",
        )
            .into_response();
    };
    upgrade
        .protocols([SUBPROTOCOL])
        .read_buffer_size(READ_BUFFER)
        // Each message is written by itself, and at once.
        .write_buffer_size(0)
        .max_message_size(LARGEST_MESSAGE)
        .max_frame_size(LARGEST_MESSAGE)
        .on_upgrade(async move |socket| {
            connection::serve(Link::Theirs(Box::new(socket)), wire.phones, Some(permit), None).await;
        })
}

/// The password in the credentials of Basic authentication (RFC 7617 §2).
fn password(credentials: &str) -> Option<String> {
    let (scheme, encoded) = credentials.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (_, password) = decoded.split_once(':')?;
    Some(password.to_owned())
}

/// Why Asterisk could not be called.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// What was given isn't a `ws://` URL.
    #[error("a channel's media is reached at ws://HOST:PORT/media/ID")]
    Url,
    /// There is no connection to Asterisk.
    #[error("Asterisk can't be reached: {0}")]
    Connect(std::io::Error),
    /// It took longer than five seconds.
    #[error("Asterisk does not answer")]
    Timeout,
    /// Asterisk has no such channel (404), or somebody is connected to it already (409).
    #[error("Asterisk refuses the connection with HTTP {0}")]
    Refused(u16),
    /// It answers, but not with a WebSocket.
    #[error("Asterisk does not speak WebSocket there: {0}")]
    Handshake(Box<Error>),
    /// The engine takes no more.
    #[error("too many calls are waiting")]
    Busy,
}

/// Calls a channel that Asterisk has made as `WebSocket/INCOMING`: `url` is `ws://HOST:8088/media/ID`, where ID, which is all that
/// protects it, is the channel's variable `MEDIA_WEBSOCKET_CONNECTION_ID`. Returns when the connection stands; the call then goes on by itself
/// on a thread of the engine, until either side ends it. What was announced of the call is found by its channel's id, or by ID.
///
/// # Errors
/// [`DialError`]. Asterisk keeps a channel that nobody is connected to for ever: it is to be hung up then.
pub async fn dial(phones: Phones, url: String) -> Result<(), DialError> {
    let engine = phones.engine().clone();
    let (connected, outcome) = oneshot::channel();
    let thread = (0..engine.threads())
        .min_by_key(|thread| engine.sessions_on(*thread))
        .unwrap_or(0);
    let is_begun = engine.serve_on(thread, move || async move {
        let link = timeout(CONNECT_WAIT, connect(&url))
            .await
            .unwrap_or(Err(DialError::Timeout));
        match link {
            Ok(link) => {
                if connected.send(Ok(())).is_err() {
                    // Whoever wanted it has gone: the connection is dropped, which ends the channel.
                    return;
                }
                let id = url.rsplit('/').next().map(str::to_owned);
                connection::serve(link, phones, None, id).await;
            }
            Err(error) => {
                let _ = connected.send(Err(error));
            }
        }
    });
    if !is_begun {
        return Err(DialError::Busy);
    }
    outcome.await.unwrap_or(Err(DialError::Busy))
}

async fn connect(url: &str) -> Result<Link, DialError> {
    let uri: Uri = url.parse().map_err(|_| DialError::Url)?;
    let host = uri
        .host()
        .filter(|_| uri.scheme_str() == Some("ws"))
        .ok_or(DialError::Url)?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let mut request = url.into_client_request().map_err(|_| DialError::Url)?;
    let protocol = HeaderValue::from_static(SUBPROTOCOL);
    request.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, protocol);
    let stream = TcpStream::connect((host, uri.port_u16().unwrap_or(80)))
        .await
        .map_err(DialError::Connect)?;
    // Frames are small, and must not wait for one another.
    let _ = stream.set_nodelay(true);
    let _ = rustix::net::sockopt::set_tcp_user_timeout(&stream, VANISHED_MS);
    match client_async_with_config(request, stream, Some(link::config())).await {
        Ok((socket, _)) => Ok(Link::Ours(Box::new(socket))),
        Err(Error::Http(response)) => Err(DialError::Refused(response.status().as_u16())),
        Err(Error::Io(error)) => Err(DialError::Connect(error)),
        Err(error) => Err(DialError::Handshake(Box::new(error))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_is_what_stands_behind_the_name() {
        for (credentials, found) in [
            ("Basic dTpw", Some("p")),
            ("basic dTpw", Some("p")),
            ("Basic OnA6cQ==", Some("p:q")),
            ("Basic dTo=", Some("")),
            ("Basic dTpw=", None),
            ("Basic dQ==", None),
            ("Basic ", None),
            ("Basic !", None),
            ("Bearer dTpw", None),
            ("", None),
        ] {
            assert_eq!(password(credentials).as_deref(), found, "{credentials}");
        }
    }
}
