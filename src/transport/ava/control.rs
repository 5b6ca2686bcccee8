//! What all connections share: what is chosen, what of it is loaded, and what is kept of calls.

use std::sync::{Mutex, MutexGuard, PoisonError};

use repartee_protocol::ava::Selection;
use tokio::sync::Notify;

use super::kept::{Kept, Shelf};
use super::phrases::Phrases;
use crate::engine::Clock;

/// See the [module](self).
pub(super) struct Control {
    selections: Mutex<Selections>,
    shelf: Mutex<Shelf>,
    pub(super) phrases: Mutex<Phrases>,
    /// One switch after another.
    pub(super) switching: tokio::sync::Mutex<()>,
    pub(super) clock: Clock,
    /// What is chosen or loaded has changed.
    pub(super) changed: Notify,
}

/// What is chosen.
#[derive(Clone, Debug)]
pub(super) struct Selections {
    /// What `status` shows.
    pub(super) shown: Selection,
    /// What is loaded, as far as loading succeeded: a `dry_run` changes only what is shown.
    pub(super) loaded: Selection,
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Plain data, replaced as a whole: a panic elsewhere leaves it whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Control {
    pub(super) fn new(selection: Selection) -> Self {
        Self {
            selections: Mutex::new(Selections {
                shown: selection.clone(),
                loaded: selection,
            }),
            shelf: Mutex::default(),
            phrases: Mutex::default(),
            switching: tokio::sync::Mutex::default(),
            clock: Clock::start(),
            changed: Notify::new(),
        }
    }

    pub(super) fn selections(&self) -> Selections {
        lock(&self.selections).clone()
    }

    /// What `status` shows.
    pub(super) fn shown(&self) -> Selection {
        lock(&self.selections).shown.clone()
    }

    /// Reads of what is shown without copying it.
    pub(super) fn with<T>(&self, read: impl FnOnce(&Selection) -> T) -> T {
        read(&lock(&self.selections).shown)
    }

    /// Shows this; nothing was loaded.
    pub(super) fn show(&self, selection: Selection) {
        lock(&self.selections).shown = selection;
        self.changed.notify_one();
    }

    /// This is loaded.
    pub(super) fn load(&self, selection: Selection) {
        *lock(&self.selections) = Selections {
            shown: selection.clone(),
            loaded: selection,
        };
        self.changed.notify_one();
    }

    pub(super) fn keep(&self, call_id: &str, kept: Kept) {
        lock(&self.shelf).put(self.clock.now(), call_id, kept);
    }

    pub(super) fn take(&self, call_id: &str) -> Option<Kept> {
        lock(&self.shelf).take(self.clock.now(), call_id)
    }
}
