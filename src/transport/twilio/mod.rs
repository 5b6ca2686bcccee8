//! Twilio Media Streams at `/twilio`: a WebSocket that Twilio opens for a call (`<Connect><Stream>`), JSON with G.711 µ-law in it
//! (`repartee_protocol::twilio`).
//!
//! Twilio plays what it is sent in its order and keeps what came early: a reply's frames go 200 ms ahead of their time, and `clear`
//! takes them back where the caller interrupts. Marks, which come back when what was sent before them has been played, tell how much
//! later than it was due a reply is heard. When our side ends the call, the socket is closed, and the TwiML goes on: what becomes of the
//! caller then is written there.

mod connection;
mod marks;
mod outbox;
mod signature;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use repartee_protocol::twilio::MAX_MESSAGE_BYTES;

use crate::access;
use crate::phone::Phones;

/// Where the wire is.
pub const PATH: &str = "/twilio";

/// What the wire is told at its start.
#[derive(Clone)]
pub struct TwilioOptions {
    /// The access token, which the stream's parameter `token` (`<Parameter name="token" value="…"/>`) must carry; none: it isn't asked
    /// for. The parameter is compared and forgotten.
    pub token: Option<Arc<str>>,
    /// The account's auth token: with it, only requests that Twilio signed (`X-Twilio-Signature`) get in.
    pub auth_token: Option<Arc<str>>,
    /// The URL by which Twilio knows this wire, exactly as it stands in the TwiML: it is what Twilio signs. Without it, `wss://`, the
    /// `Host` of the request and its path are taken, which is wrong behind a proxy that changes either.
    pub public_url: Option<Arc<str>>,
    /// How long Twilio may take to say which call it is (`start`), after the connection stands.
    pub start_timeout: Duration,
    /// The server listens on loopback only, so that only names of this machine may stand in `Host` where a browser asks.
    pub loopback: bool,
}

impl Default for TwilioOptions {
    fn default() -> Self {
        Self {
            token: None,
            auth_token: None,
            public_url: None,
            start_timeout: Duration::from_secs(10),
            loopback: true,
        }
    }
}

/// Secrets aren't printed.
impl fmt::Debug for TwilioOptions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("TwilioOptions")
            .field("token", &self.token.is_some())
            .field("auth_token", &self.auth_token.is_some())
            .field("public_url", &self.public_url)
            .field("start_timeout", &self.start_timeout)
            .field("loopback", &self.loopback)
            .finish()
    }
}

#[derive(Clone)]
struct Wire {
    phones: Phones,
    options: Arc<TwilioOptions>,
}

/// The wire's route, [`PATH`].
pub fn routes(phones: Phones, options: TwilioOptions) -> Router {
    Router::new().route(PATH, get(upgrade)).with_state(Wire {
        phones,
        options: Arc::new(options),
    })
}

async fn upgrade(
    State(wire): State<Wire>,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    let upgrade = match upgrade {
        Ok(upgrade) => upgrade,
        Err(rejection) => {
            let message = format!("{PATH} is a WebSocket for Twilio's <Stream>: {rejection}\n");
            let upgrade = [(header::UPGRADE, "websocket")];
            return (StatusCode::UPGRADE_REQUIRED, upgrade, message).into_response();
        }
    };
    let value = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let (origin, host) = (value("origin"), value("host"));
    // Twilio sends no `Origin`: whoever has one is a page in a browser.
    if let Err(message) = access::same_origin(origin, host, wire.options.loopback) {
        return (StatusCode::FORBIDDEN, message).into_response();
    }
    if let Some(auth_token) = &wire.options.auth_token {
        let signed = match &wire.options.public_url {
            Some(url) => url.to_string(),
            None => format!("wss://{}{PATH}", host.unwrap_or_default()),
        };
        if !signature::is_right(auth_token, &signed, value("x-twilio-signature")) {
            tracing::warn!("a request to {PATH} isn't signed by Twilio for {signed}: is this the URL in the TwiML?");
            return (
                StatusCode::FORBIDDEN,
                "the signature is missing, or wrong for this URL\n",
            )
                .into_response();
        }
    }
    upgrade
        .read_buffer_size(4_096)
        .write_buffer_size(0)
        .max_message_size(MAX_MESSAGE_BYTES)
        .max_frame_size(MAX_MESSAGE_BYTES)
        .on_upgrade(async move |socket| connection::serve(socket, wire.phones, wire.options).await)
}
