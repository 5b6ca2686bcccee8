//! The telephone calls that are going on, for operators.

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;

use super::Access;
use super::switching::admit;
use crate::phone::{LiveCall, Phones};

/// What the handler knows.
#[derive(Clone)]
pub(super) struct Calls {
    pub(super) phones: Phones,
    pub(super) access: Access,
}

#[derive(Serialize)]
struct Answer {
    calls: Vec<LiveCall>,
}

/// `GET /api/calls`: each call with its wire, what is known of it, and how well its sound comes and goes.
pub(super) async fn calls(State(state): State<Calls>, headers: HeaderMap) -> Response {
    match admit(&state.access, &headers) {
        Ok(()) => Json(Answer {
            calls: state.phones.board().calls(),
        })
        .into_response(),
        Err(refused) => refused,
    }
}
