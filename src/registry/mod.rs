//! Which backend serves each job now.
//!
//! A session subscribes to the jobs that it uses, and holds what it was given for as long as it needs it: a backend that
//! was replaced goes on living until the last session has let go of it.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::watch;

use crate::backend::Backend;
use crate::call::BackendKind;
use crate::id::Generation;

/// The state of one job.
#[derive(Clone, Debug)]
pub enum Slot {
    /// Something is being loaded for the first time.
    Loading,
    /// This serves.
    Ready(Backend),
    /// What served is gone and is being started again.
    Lost {
        /// Which load it was.
        generation: Generation,
        /// Why it is gone.
        reason: String,
    },
    /// Nothing does this job here.
    Missing {
        /// Why, with the remedy.
        reason: String,
    },
}

/// The backends of a server, one slot a job.
#[derive(Debug)]
pub struct Registry {
    slots: [watch::Sender<Slot>; BackendKind::ALL.len()],
    generations: AtomicU64,
}

impl Default for Registry {
    fn default() -> Self {
        Self { slots: std::array::from_fn(|_| watch::channel(Slot::Loading).0), generations: AtomicU64::new(0) }
    }
}

impl Registry {
    fn slot(&self, kind: BackendKind) -> &watch::Sender<Slot> {
        let index = BackendKind::ALL.iter().position(|candidate| *candidate == kind);
        &self.slots[index.expect("ALL holds every kind")]
    }

    /// The number of the next load.
    pub fn next_generation(&self) -> Generation {
        Generation::new(self.generations.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// The state of a job, now and whenever it changes.
    #[must_use]
    pub fn subscribe(&self, kind: BackendKind) -> watch::Receiver<Slot> {
        self.slot(kind).subscribe()
    }

    /// The state of a job now.
    #[must_use]
    pub fn state(&self, kind: BackendKind) -> Slot {
        self.slot(kind).borrow().clone()
    }

    /// Lets `backend` do its job from now on.
    pub fn install(&self, backend: Backend) {
        self.slot(backend.capabilities().kind).send_replace(Slot::Ready(backend));
    }

    /// What served is gone. Ignored when something newer serves already.
    pub fn mark_lost(&self, kind: BackendKind, generation: Generation, reason: String) {
        self.slot(kind).send_if_modified(|slot| {
            let serves = matches!(slot, Slot::Ready(backend) if backend.capabilities().generation == generation);
            if serves {
                *slot = Slot::Lost { generation, reason };
            }
            serves
        });
    }

    /// Nothing does this job here.
    pub fn mark_missing(&self, kind: BackendKind, reason: String) {
        self.slot(kind).send_replace(Slot::Missing { reason });
    }
}
