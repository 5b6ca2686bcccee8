//! The native WebSocket at `/v1/session`: `repartee_protocol::native` on the wire, [`crate::call`] inside.

mod connection;
mod media;
mod translate;

pub use self::media::media_format;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use repartee_protocol::native::{ErrorCode, ErrorEvent, Event, MAX_MESSAGE_BYTES, PATH};

use crate::access;
use crate::call::Settings;
use crate::engine::Engine;

/// What the wire is told at its start.
#[derive(Clone)]
pub struct NativeOptions {
    /// The token that `hello` must carry, if one is wanted.
    pub token: Option<Arc<str>>,
    /// Bytes of the largest message that is taken.
    pub max_message_bytes: usize,
    /// How long a client may take to say `hello`.
    pub hello_timeout: Duration,
    /// The settings of a session where its client says nothing else.
    pub settings: Settings,
    /// The server listens on loopback only, so that only names of this machine may stand in `Host`.
    pub loopback: bool,
}

impl Default for NativeOptions {
    fn default() -> Self {
        Self {
            token: None,
            max_message_bytes: MAX_MESSAGE_BYTES,
            hello_timeout: Duration::from_secs(10),
            settings: Settings::default(),
            loopback: true,
        }
    }
}

#[derive(Clone)]
struct Wire {
    engine: Engine,
    options: Arc<NativeOptions>,
}

/// The wire's route.
pub fn routes(engine: Engine, options: NativeOptions) -> Router {
    Router::new().route(PATH, get(upgrade)).with_state(Wire {
        engine,
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
            let message = format!("{PATH} is a WebSocket: {rejection}");
            let mut response = refusal(StatusCode::UPGRADE_REQUIRED, ErrorCode::NotWebsocket, &message);
            response
                .headers_mut()
                .insert(header::UPGRADE, header::HeaderValue::from_static("websocket"));
            return response;
        }
    };
    let value = |name| {
        headers
            .get(name)
            .map(|value: &header::HeaderValue| value.to_str().unwrap_or_default())
    };
    if let Err(message) = access::same_origin(value(header::ORIGIN), value(header::HOST), wire.options.loopback) {
        return refusal(StatusCode::FORBIDDEN, ErrorCode::Unauthorized, message);
    }
    let limit = wire.options.max_message_bytes;
    upgrade
        // 20 ms of audio is small: a session must not cost 128 KiB of buffers (measured: a tenth of the memory).
        .read_buffer_size(4_096)
        .write_buffer_size(0)
        .max_message_size(limit)
        .max_frame_size(limit)
        .on_upgrade(async move |socket| connection::serve(socket, wire.engine, wire.options).await)
}

/// An error before there is a WebSocket.
fn refusal(status: StatusCode, code: ErrorCode, message: &str) -> Response {
    let body = Event::Error(ErrorEvent {
        close_code: None,
        ..ErrorEvent::new(code, message)
    })
    .to_json();
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}
