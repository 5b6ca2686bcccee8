//! AVA's wire: a WebSocket at any path that speaks `repartee_protocol::ava`, in place of AVA's own `local_ai_server`.
//!
//! A connection is one actor ([`connection`]): it reads, it is told what its session says, it writes. Whatever takes longer than a
//! look at memory (a text to speak, a question to the language model, a model to load) is a job beside it ([`jobs`]), so that an
//! interruption and `status` are answered at once. Audio of the caller opens a session of the engine ([`live`]), whose replies come
//! back in stretches of a few hundred milliseconds ([`speaker`]). What is chosen and what is loaded is known server-wide
//! ([`control`]), as is what a call was told before its connection broke ([`kept`]).

pub mod admin;
mod answers;
mod connection;
mod control;
mod facts;
mod jobs;
mod kept;
mod live;
mod phrases;
mod push;
mod replying;
mod requests;
mod speaker;
mod switching;

use std::fmt;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use repartee_protocol::ava::{Environment, MAX_MESSAGE_BYTES, texts};

use self::control::Control;
pub use self::push::push_status;
use crate::access;
use crate::call::Settings;
use crate::engine::Engine;

/// What the wire is told at its start.
#[derive(Clone, Debug)]
pub struct AvaOptions {
    /// The shared secret; none: whoever can connect may speak.
    pub token: Option<Arc<str>>,
    /// Only this machine can connect.
    pub loopback: bool,
    /// The settings of a session, as far as the environment and the client say nothing else.
    pub settings: Settings,
    /// What AVA's environment variables say: the models that are chosen, and how the server behaves.
    pub environment: Environment,
}

/// The wire. Cheap to clone; clones share what is chosen and what is known of calls.
#[derive(Clone)]
pub struct Ava {
    inner: Arc<Inner>,
}

struct Inner {
    engine: Engine,
    options: AvaOptions,
    control: Control,
}

impl fmt::Debug for Ava {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Ava")
    }
}

impl Ava {
    /// The wire of this engine.
    #[must_use]
    pub fn new(engine: Engine, options: AvaOptions) -> Self {
        let control = Control::new(options.environment.selection.clone());
        Self {
            inner: Arc::new(Inner {
                engine,
                options,
                control,
            }),
        }
    }

    fn engine(&self) -> &Engine {
        &self.inner.engine
    }

    fn options(&self) -> &AvaOptions {
        &self.inner.options
    }

    fn server(&self) -> &repartee_protocol::ava::Server {
        &self.inner.options.environment.server
    }

    fn control(&self) -> &Control {
        &self.inner.control
    }

    /// A text for a log: how long it is; the text itself only where the operator has set `LOCAL_DEBUG`.
    fn preview(&self, text: &str) -> String {
        if self.server().debug {
            format!("{:?}", text.chars().take(80).collect::<String>())
        } else {
            format!("[{} characters withheld]", text.chars().count())
        }
    }
}

/// The wire's routes: a WebSocket at every path.
pub fn routes(ava: Ava) -> Router {
    Router::new().fallback(upgrade).with_state(ava)
}

async fn upgrade(
    State(ava): State<Ava>,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    let upgrade = match upgrade {
        Ok(upgrade) => upgrade,
        Err(rejection) => {
            let message = format!("this port speaks WebSocket only: {rejection}\n");
            let upgrade = [(header::UPGRADE, "websocket")];
            return (StatusCode::UPGRADE_REQUIRED, upgrade, message).into_response();
        }
    };
    let value = |name| {
        headers
            .get(name)
            .map(|value: &header::HeaderValue| value.to_str().unwrap_or_default())
    };
    let loopback = ava.options().loopback;
    if let Err(message) = access::same_origin(value(header::ORIGIN), value(header::HOST), loopback) {
        return (StatusCode::FORBIDDEN, message).into_response();
    }
    upgrade
        .read_buffer_size(4_096)
        .write_buffer_size(0)
        .max_message_size(MAX_MESSAGE_BYTES)
        .max_frame_size(MAX_MESSAGE_BYTES)
        .on_upgrade(async move |socket| {
            if loopback || ava.options().token.is_some() {
                connection::serve(socket, ava).await;
            } else {
                refuse(socket).await;
            }
        })
}

/// A server that others can reach and that has no secret serves nobody.
async fn refuse(mut socket: WebSocket) {
    let close = Message::Close(Some(CloseFrame {
        code: close_code::POLICY,
        reason: texts::NO_TOKEN_CONFIGURED.into(),
    }));
    // Whoever is gone needs no reason.
    let _ = socket.send(close).await;
}
