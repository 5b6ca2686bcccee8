//! The backends of a session: which are leased, and what state they are in.

use serde::{Deserialize, Serialize};

use super::input::Arrival;
use crate::call::{BackendKind, BackendState, Served};
use crate::id::Generation;
use crate::time::Time;

/// One backend.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Lease {
    /// Whether it was asked for.
    pub(crate) held: bool,
    /// Its state, once it is known.
    pub(crate) state: Option<BackendState>,
    /// Another model that is loaded, and takes over when what is under way allows it.
    pub(crate) offered: Option<Arrival>,
    /// The voice of a session that names none.
    pub(crate) voice: Option<String>,
    /// The language of a session that names none.
    pub(crate) language: Option<String>,
    /// It was stopped to make room for another.
    pub(crate) replacing: bool,
    /// Since when nothing serves.
    pub(crate) away_since: Option<Time>,
    /// For how many milliseconds nothing served before what serves now did.
    pub(crate) gap_ms: u32,
    /// What was adopted last.
    pub(crate) identity: Option<Served>,
    /// Whether the client was told that there is none.
    pub(crate) missing_told: bool,
}

/// All five, in the order of [`BackendKind::ALL`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Leases([Lease; 5]);

const fn index(kind: BackendKind) -> usize {
    match kind {
        BackendKind::Vad => 0,
        BackendKind::Turn => 1,
        BackendKind::Stt => 2,
        BackendKind::Llm => 3,
        BackendKind::Tts => 4,
    }
}

impl Leases {
    /// The lease for a job.
    pub(crate) const fn of(&self, kind: BackendKind) -> &Lease {
        &self.0[index(kind)]
    }

    /// The lease for a job.
    pub(crate) const fn of_mut(&mut self, kind: BackendKind) -> &mut Lease {
        &mut self.0[index(kind)]
    }

    /// Whether it serves.
    pub(crate) const fn is_ready(&self, kind: BackendKind) -> bool {
        matches!(self.of(kind).state, Some(BackendState::Ready { .. }))
    }

    /// Whether it isn't there, but may be: it is gone and coming back, or nothing was heard of it yet.
    pub(crate) const fn is_away(&self, kind: BackendKind) -> bool {
        matches!(self.of(kind).state, Some(BackendState::Lost { .. }) | None)
    }

    /// Whether it is gone, and coming back.
    pub(crate) const fn is_lost(&self, kind: BackendKind) -> bool {
        matches!(self.of(kind).state, Some(BackendState::Lost { .. }))
    }

    /// Whether there is none, and none is coming.
    pub(crate) const fn is_missing(&self, kind: BackendKind) -> bool {
        matches!(self.of(kind).state, Some(BackendState::Missing { .. }))
    }

    /// Which load serves, or served last.
    pub(crate) const fn generation(&self, kind: BackendKind) -> Option<Generation> {
        match &self.of(kind).state {
            Some(BackendState::Ready { generation, .. } | BackendState::Lost { generation, .. }) => Some(*generation),
            Some(BackendState::Missing { .. }) | None => None,
        }
    }

    /// What serves.
    pub(crate) fn served(&self, kind: BackendKind) -> Option<Served> {
        match &self.of(kind).state {
            Some(BackendState::Ready { name, model, .. }) => Some(Served {
                backend: name.clone(),
                model: model.clone(),
            }),
            _ => None,
        }
    }

    /// Those that were asked for and whose state is known.
    pub(crate) fn states(&self) -> Vec<(BackendKind, BackendState)> {
        BackendKind::ALL
            .into_iter()
            .filter(|kind| self.of(*kind).held)
            .filter_map(|kind| Some((kind, self.of(kind).state.clone()?)))
            .collect()
    }
}
