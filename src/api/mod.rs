//! HTTP: is it alive, is it ready, what does it count, and the talk page.

mod calls;
mod listener;
mod page;
mod switching;

use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::Serialize;

pub use self::listener::serve;
use crate::call::BackendKind;
use crate::engine::Engine;
use crate::phone::Phones;
use crate::registry::Slot;

/// Who may operate the server over HTTP.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// The token that operators must know, if there is one.
    pub token: Option<Arc<str>>,
    /// Only this machine can reach the server.
    pub loopback: bool,
}

#[derive(Clone)]
struct Api {
    engine: Engine,
    access: Access,
}

/// What the engine's HTTP side answers to.
pub fn routes(engine: Engine, access: Access) -> Router {
    let operating = Router::new()
        .route("/api/capabilities", get(switching::capabilities))
        .route("/api/switch", post(switching::switch))
        .with_state(Api {
            engine: engine.clone(),
            access,
        });
    Router::new()
        .route("/health", get(health))
        .route("/ready", get(ready))
        .route("/metrics", get(metrics))
        .with_state(engine)
        .merge(operating)
        .merge(page::routes())
}

/// What operators ask of the telephone.
pub fn call_routes(phones: Phones, access: Access) -> Router {
    Router::new()
        .route("/api/calls", get(calls::calls))
        .with_state(calls::Calls { phones, access })
}

/// Alive, at once, whatever the backends do.
async fn health(State(engine): State<Engine>) -> Json<Health> {
    Json(Health {
        status: "alive",
        version: env!("CARGO_PKG_VERSION"),
        sessions: engine.live(),
        max_sessions: engine.max_sessions(),
    })
}

#[derive(Serialize)]
struct Health {
    status: &'static str,
    version: &'static str,
    sessions: usize,
    max_sessions: usize,
}

/// One backend, as an operator wants to see it.
#[derive(Serialize)]
struct BackendReadiness {
    kind: BackendKind,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<String>,
    /// Where it computes.
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<String>,
    /// Why it computes there and not where it was meant to.
    #[serde(skip_serializing_if = "Option::is_none")]
    fallback: Option<String>,
    /// Whether its model was made for tests.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    synthetic: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

#[derive(Serialize)]
struct Readiness {
    ready: bool,
    backends: Vec<BackendReadiness>,
}

/// 200 when recogniser, synthesiser and VAD serve or are switched off; 503 with the reason until then. A missing language or
/// turn model is a mode, not a fault, and one that is still being loaded, which may take minutes, is waited for by the calls.
async fn ready(State(engine): State<Engine>) -> Response {
    let mut ready = true;
    let backends = BackendKind::ALL
        .into_iter()
        .map(|kind| {
            let slot = engine.registry().subscribe(kind).borrow().clone();
            let needed = matches!(kind, BackendKind::Vad | BackendKind::Stt | BackendKind::Tts);
            let row = readiness(kind, slot);
            ready &= match row.state {
                "ready" | "off" => true,
                "missing" | "loading" => !needed,
                _ => false,
            };
            row
        })
        .collect();
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(Readiness { ready, backends })).into_response()
}

fn readiness(kind: BackendKind, slot: Slot) -> BackendReadiness {
    let row = BackendReadiness {
        kind,
        state: "loading",
        name: None,
        model: None,
        device: None,
        fallback: None,
        synthetic: false,
        reason: None,
    };
    match slot {
        Slot::Loading => row,
        Slot::Ready(serving) => {
            let capabilities = serving.capabilities();
            BackendReadiness {
                state: "ready",
                name: Some(capabilities.name.clone()),
                model: Some(capabilities.model.clone()),
                device: capabilities.device.clone(),
                fallback: capabilities.fallback.clone(),
                synthetic: capabilities.synthetic,
                ..row
            }
        }
        Slot::Lost { reason, .. } => BackendReadiness {
            state: "lost",
            reason: Some(reason),
            ..row
        },
        Slot::Missing { reason, by_choice } => BackendReadiness {
            state: if by_choice { "off" } else { "missing" },
            reason: Some(reason),
            ..row
        },
    }
}

async fn metrics(State(engine): State<Engine>) -> impl IntoResponse {
    for kind in BackendKind::ALL {
        let serves = engine.registry().serves(&[kind]);
        engine.metrics().backend_ready(kind, serves);
    }
    (
        [(
            header::CONTENT_TYPE,
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
        )],
        engine.metrics().text(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_off_by_choice_is_told_apart_from_what_is_missing() {
        let slot = |by_choice| Slot::Missing {
            reason: "why".to_owned(),
            by_choice,
        };
        let row = |slot| serde_json::to_value(readiness(BackendKind::Stt, slot)).expect("a row is plain data");
        assert_eq!(
            row(slot(true)),
            serde_json::json!({ "kind": "stt", "state": "off", "reason": "why" })
        );
        assert_eq!(row(slot(false))["state"], "missing");
        assert_eq!(
            row(Slot::Loading),
            serde_json::json!({ "kind": "stt", "state": "loading" })
        );
    }
}
