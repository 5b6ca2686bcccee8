//! Switching backends over HTTP, for operators: what can serve, and to switch the server's sessions to it.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde::{Deserialize, Serialize};

use super::{Access, Api};
use crate::access;
use crate::backend::Capabilities;
use crate::call::{Scope, Served, SwitchFailure, SwitchRequest, SwitchStage};
use crate::engine::{Clock, Engine};
use crate::registry::{Capability, Switchboard, Update};
use crate::time::Time;

/// Lets in who may operate: no page of another site, and only who knows the token, where there is one.
#[expect(clippy::result_large_err, reason = "a response is what the caller returns")]
pub(super) fn admit(access: &Access, headers: &HeaderMap) -> Result<(), Response> {
    let value = |name| {
        headers
            .get(name)
            .map(|value: &header::HeaderValue| value.to_str().unwrap_or_default())
    };
    if let Err(message) = access::same_origin(value(header::ORIGIN), value(header::HOST), access.loopback) {
        return Err(problem(StatusCode::FORBIDDEN, message));
    }
    let given = value(header::AUTHORIZATION).and_then(|value| value.strip_prefix("Bearer "));
    if access::token_is_right(access.token.as_deref(), given) {
        Ok(())
    } else {
        let message = "the access token is missing or wrong: send it as `Authorization: Bearer TOKEN`";
        Err(problem(StatusCode::UNAUTHORIZED, message))
    }
}

#[derive(Serialize)]
struct Problem<'a> {
    error: &'a str,
}

pub(super) fn problem(status: StatusCode, message: &str) -> Response {
    (status, Json(Problem { error: message })).into_response()
}

#[expect(clippy::result_large_err, reason = "a response is what the caller returns")]
fn switchboard(engine: &Engine) -> Result<&Arc<Switchboard>, Response> {
    engine.switchboard().ok_or_else(|| {
        problem(
            StatusCode::SERVICE_UNAVAILABLE,
            "this server's backends can't be switched",
        )
    })
}

#[derive(Serialize)]
struct Answer {
    backends: Vec<Capability>,
}

/// `GET /api/capabilities`
pub(super) async fn capabilities(State(api): State<Api>, headers: HeaderMap) -> Response {
    if let Err(refused) = admit(&api.access, &headers) {
        return refused;
    }
    match switchboard(&api.engine) {
        Ok(board) => Json(Answer {
            backends: board.capabilities().await,
        })
        .into_response(),
        Err(refused) => refused,
    }
}

/// What is posted: a switch, and whether it is only looked at.
#[derive(Deserialize)]
pub(super) struct Posted {
    #[serde(flatten)]
    request: SwitchRequest,
    #[serde(default)]
    dry_run: bool,
}

/// What became of it.
#[derive(Serialize)]
struct Outcome {
    /// Whether the switch was made, or could be.
    ok: bool,
    dry_run: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    old: Option<Served>,
    #[serde(skip_serializing_if = "Option::is_none")]
    new: Option<Served>,
    /// Milliseconds until it was loaded, verified and serving.
    #[serde(skip_serializing_if = "Option::is_none")]
    load_ms: Option<u64>,
    #[serde(flatten)]
    failure: Option<SwitchFailure>,
    /// What serves now.
    #[serde(skip_serializing_if = "Option::is_none")]
    serving: Option<Served>,
}

/// `POST /api/switch`: answers when the switch has been made or has failed.
pub(super) async fn switch(
    State(api): State<Api>,
    headers: HeaderMap,
    posted: Result<Json<Posted>, JsonRejection>,
) -> Response {
    if let Err(refused) = admit(&api.access, &headers) {
        return refused;
    }
    let Json(Posted { mut request, dry_run }) = match posted {
        Ok(posted) => posted,
        Err(rejection) => return problem(rejection.status(), &rejection.body_text()),
    };
    let board = match switchboard(&api.engine) {
        Ok(board) => board,
        Err(refused) => return refused,
    };
    // No session asks here.
    request.scope = Scope::Server;
    let kind = request.kind;
    let registry = api.engine.registry();
    let serving = registry.lease(kind).map(|serving| serving.capabilities().clone());
    let old = serving.as_ref().map(served);
    let clock = Clock::start();
    let done = if request.shadow {
        let reason = "a candidate runs beside the backend of a session: ask for it on the session's own wire";
        Err(SwitchFailure::new(SwitchStage::Request, reason))
    } else if request.is_empty() {
        let reason = "it names nothing to switch to: a backend, a model, a voice, a language or options";
        Err(SwitchFailure::new(SwitchStage::Request, reason))
    } else if dry_run {
        board.check(&request, serving.as_ref()).await
    } else {
        made(board, request, serving).await
    };
    let took = clock.now().since(Time::ZERO).as_millis();
    let serving = registry.lease(kind).map(|serving| served(serving.capabilities()));
    let (status, new, failure) = match done {
        Ok(new) => (StatusCode::OK, Some(new), None),
        Err(failure) => (status_of(failure.stage), None, Some(failure)),
    };
    let outcome = Outcome {
        ok: failure.is_none(),
        dry_run,
        old,
        load_ms: (new.is_some() && !dry_run).then(|| u64::try_from(took).unwrap_or(u64::MAX)),
        new,
        failure,
        serving,
    };
    (status, Json(outcome)).into_response()
}

/// Waits for the end of a switch. It goes on when whoever asked goes away.
async fn made(
    board: &Arc<Switchboard>,
    request: SwitchRequest,
    serving: Option<Capabilities>,
) -> Result<Served, SwitchFailure> {
    let mut switching = board.begin(request, serving);
    loop {
        match switching.update().await {
            Some(Update::Started { .. }) => {}
            Some(Update::Loaded { new, .. }) => return Ok(new),
            Some(Update::Failed(failure)) => return Err(failure),
            None => return Err(SwitchFailure::new(SwitchStage::Swap, "the server's task for it ended")),
        }
    }
}

fn served(capabilities: &Capabilities) -> Served {
    Served {
        backend: capabilities.name.clone(),
        model: capabilities.model.clone(),
    }
}

const fn status_of(stage: SwitchStage) -> StatusCode {
    match stage {
        SwitchStage::Request => StatusCode::CONFLICT,
        SwitchStage::Resolve => StatusCode::NOT_FOUND,
        SwitchStage::Check => StatusCode::UNPROCESSABLE_ENTITY,
        SwitchStage::Load | SwitchStage::Verify | SwitchStage::Swap | SwitchStage::Cancelled => StatusCode::BAD_GATEWAY,
    }
}
