//! The calls that are going on, for operators: what each is, how long it lasts, and how well its sound comes and goes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;

use super::facts::Facts;
use super::quality::Quality;
use crate::call::Progress;
use crate::id::SessionId;

/// A call that is going on.
#[derive(Clone, Debug, Serialize)]
pub struct LiveCall {
    /// Its session.
    pub session: SessionId,
    /// The wire that it came by: "audiosocket".
    pub wire: &'static str,
    /// What is known of it.
    #[serde(flatten)]
    pub facts: Facts,
    /// How long it has lasted, in seconds.
    pub seconds: u64,
    /// What was recognised in its sound besides speech.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub progress: Vec<Progress>,
    /// How well its sound comes and goes.
    pub quality: Quality,
}

/// See the [module](self). Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Board(Arc<Mutex<BTreeMap<SessionId, LiveCall>>>);

impl Board {
    /// The calls as they were a second ago, at most, in the order of their sessions' ids.
    #[must_use]
    pub fn calls(&self) -> Vec<LiveCall> {
        let calls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        calls.values().cloned().collect()
    }

    pub(super) fn add(&self, call: LiveCall) {
        let mut calls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        calls.insert(call.session, call);
    }

    pub(super) fn update(&self, session: SessionId, seconds: u64, quality: Quality) {
        let mut calls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(call) = calls.get_mut(&session) {
            (call.seconds, call.quality) = (seconds, quality);
        }
    }

    pub(super) fn note(&self, session: SessionId, progress: Progress) {
        let mut calls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(call) = calls.get_mut(&session) {
            call.progress.push(progress);
        }
    }

    pub(super) fn remove(&self, session: SessionId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&session);
    }
}
