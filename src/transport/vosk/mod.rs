//! A Vosk server's wire: a WebSocket at any path of a listener of its own (`repartee_protocol::vosk`), for recognition alone. Asterisk's
//! `res_speech_vosk`, FreeSWITCH's `mod_vosk` and jigasi speak it.
//!
//! Each binary message is answered by exactly one text. Recognition goes on beside that: the reply tells the newest state that is known,
//! an utterance that has ended since the last reply is told by the next, and none is lost. A client that sends faster than time goes by
//! (a file) waits for its replies where the recogniser would fall behind, so that what it hears belongs to what it has sent.
//!
//! What isn't known isn't told: the recognisers here give no times and no certainties of words, so that a result has no `result`,
//! whether `words` are wanted or not, and an alternative no `confidence`; there is one alternative at most. `phrase_list` are words that
//! are likely, not the only ones. `model` is ignored: what serves is chosen by the server.

mod connection;
mod utterances;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};

use crate::access;
use crate::call::Settings;
use crate::engine::Engine;
use crate::phone::Admission;

/// Bytes of one message, at most: a minute at 8 kHz.
pub const MAX_MESSAGE_BYTES: usize = 1 << 20;

/// What the wire is told at its start.
#[derive(Clone, Debug)]
pub struct VoskOptions {
    /// Who may connect: the protocol has no secret.
    pub admission: Admission,
    /// The settings of its sessions, as far as they are about recognition: language, hints, start of speech, end of turn. The other
    /// stages are off, whatever they say.
    pub settings: Settings,
    /// A connection of which nothing has come for so long is closed. Asterisk connects when a call may be listened to, and may begin
    /// minutes later.
    pub idle: Duration,
    /// The server listens on loopback only, so that only names of this machine may stand in `Host` where a browser asks.
    pub loopback: bool,
}

impl Default for VoskOptions {
    /// This machine alone.
    fn default() -> Self {
        Self {
            admission: Admission::new(|peer| peer.is_loopback()),
            settings: Settings::default(),
            idle: Duration::from_secs(300),
            loopback: true,
        }
    }
}

#[derive(Clone)]
struct Wire {
    engine: Engine,
    options: Arc<VoskOptions>,
}

/// The wire's routes: a WebSocket at every path. They are served by something that tells the address of a peer
/// (`ConnectInfo<SocketAddr>`), as [`api::serve`](crate::api::serve) does.
pub fn routes(engine: Engine, options: VoskOptions) -> Router {
    Router::new().fallback(upgrade).with_state(Wire {
        engine,
        options: Arc::new(options),
    })
}

async fn upgrade(
    State(wire): State<Wire>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    if !wire.options.admission.admits(peer.ip()) {
        tracing::debug!(%peer, "a connection from a network that isn't allowed");
        return (StatusCode::FORBIDDEN, "this network isn't allowed\n").into_response();
    }
    let upgrade = match upgrade {
        Ok(upgrade) => upgrade,
        Err(rejection) => {
            let message = format!("this port speaks Vosk's protocol, over a WebSocket: {rejection}\n");
            let upgrade = [(header::UPGRADE, "websocket")];
            return (StatusCode::UPGRADE_REQUIRED, upgrade, message).into_response();
        }
    };
    let value = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    if let Err(message) = access::same_origin(value("origin"), value("host"), wire.options.loopback) {
        return (StatusCode::FORBIDDEN, message).into_response();
    }
    upgrade
        .read_buffer_size(4_096)
        .write_buffer_size(0)
        .max_message_size(MAX_MESSAGE_BYTES)
        .max_frame_size(MAX_MESSAGE_BYTES)
        .on_upgrade(async move |socket| connection::serve(socket, wire.engine, wire.options).await)
}
