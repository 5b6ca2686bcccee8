//! A backend's seat: one load of one model for as long as somebody needs it, restarts included.

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};

use super::{Plan, Serving, Slot};
use crate::backend::Backend;
use crate::call::{BackendKind, Served};

/// Keeps what is loaded loaded. When the last clone is dropped, whoever runs it hears of it and ends it.
#[derive(Clone, Debug)]
pub struct Keep(mpsc::Sender<Infallible>);

/// Tells whoever runs a seat when nobody needs it any more.
#[derive(Debug)]
pub struct Released {
    kept: mpsc::Receiver<Infallible>,
    evicted: watch::Receiver<bool>,
}

impl Released {
    /// Waits until every [`Keep`] of the seat is gone, or the seat is to make room at once.
    pub async fn wait(&mut self) {
        let evicted = async {
            if self.evicted.wait_for(|evicted| *evicted).await.is_err() {
                // No seat is left that could evict it; what keeps it may be.
                std::future::pending::<()>().await;
            }
        };
        // Nothing is ever sent to what is kept: the end of the channel is the message.
        tokio::select! {
            _ = self.kept.recv() => {}
            () = evicted => {}
        }
    }
}

/// One load of one model, and what becomes of it. Clones share it; when the last is dropped, and nobody keeps it, it ends.
#[derive(Clone)]
pub struct Seat {
    kind: BackendKind,
    served: Served,
    plan: Option<Arc<Plan>>,
    changes: watch::Receiver<Slot>,
    keep: Keep,
    evicted: Arc<watch::Sender<bool>>,
}

impl fmt::Debug for Seat {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Seat({}: {})", self.kind, self.served)
    }
}

impl Seat {
    /// A seat that is [`Slot::Loading`]; the sender and the other end of its keep are for whoever loads it. Dropping the sender says that
    /// all of it is gone, its memory too.
    #[must_use]
    pub fn new(kind: BackendKind, served: Served) -> (Self, watch::Sender<Slot>, Released) {
        let (sender, changes) = watch::channel(Slot::Loading);
        let (keep, kept) = mpsc::channel(1);
        let (evict, evicted) = watch::channel(false);
        let seat = Self {
            kind,
            served,
            plan: None,
            changes,
            keep: Keep(keep),
            evicted: Arc::new(evict),
        };
        (seat, sender, Released { kept, evicted })
    }

    /// A seat of something that runs in this process and ends when nobody holds it.
    #[must_use]
    pub fn of(backend: Backend) -> Self {
        let capabilities = backend.capabilities();
        let served = Served {
            backend: capabilities.name.clone(),
            model: capabilities.model.clone(),
        };
        let (seat, sender, _) = Self::new(capabilities.kind, served);
        sender.send_replace(Slot::Ready(Serving::of(backend)));
        seat
    }

    /// The same, loaded by this plan.
    #[must_use]
    pub fn planned(mut self, plan: Arc<Plan>) -> Self {
        self.plan = Some(plan);
        self
    }

    /// Its job.
    #[must_use]
    pub const fn kind(&self) -> BackendKind {
        self.kind
    }

    /// What it was loaded as.
    #[must_use]
    pub const fn served(&self) -> &Served {
        &self.served
    }

    /// What loaded it, and would load it again.
    #[must_use]
    pub const fn plan(&self) -> Option<&Arc<Plan>> {
        self.plan.as_ref()
    }

    /// Its state, now and whenever that changes. The receiver keeps nothing loaded: hold a [`Keep`] beside it.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<Slot> {
        self.changes.clone()
    }

    /// Its state now.
    #[must_use]
    pub fn state(&self) -> Slot {
        self.changes.borrow().clone()
    }

    /// What keeps it loaded.
    #[must_use]
    pub fn keep(&self) -> Keep {
        self.keep.clone()
    }

    /// Ends it although it is kept: its memory is needed.
    pub fn evict(&self) {
        self.evicted.send_replace(true);
    }

    /// Whether these changes are this seat's.
    #[must_use]
    pub fn is_fed_by(&self, changes: &watch::Receiver<Slot>) -> bool {
        self.changes.same_channel(changes)
    }

    /// The same without what keeps it loaded.
    pub(super) fn downgrade(&self) -> WeakSeat {
        WeakSeat {
            seat: (self.kind, self.served.clone(), self.plan.clone()),
            changes: self.changes.clone(),
            keep: self.keep.0.downgrade(),
            evicted: Arc::clone(&self.evicted),
        }
    }
}

/// A seat that may be gone.
pub(super) struct WeakSeat {
    seat: (BackendKind, Served, Option<Arc<Plan>>),
    changes: watch::Receiver<Slot>,
    keep: mpsc::WeakSender<Infallible>,
    evicted: Arc<watch::Sender<bool>>,
}

impl WeakSeat {
    /// The seat, if it is still kept by somebody, and is or will be of use.
    pub(super) fn upgrade(&self) -> Option<Seat> {
        let keep = Keep(self.keep.upgrade()?);
        let of_use = !*self.evicted.borrow() && !matches!(*self.changes.borrow(), Slot::Missing { .. });
        let (kind, served, plan) = self.seat.clone();
        of_use.then(|| Seat {
            kind,
            served,
            plan,
            changes: self.changes.clone(),
            keep,
            evicted: Arc::clone(&self.evicted),
        })
    }
}
