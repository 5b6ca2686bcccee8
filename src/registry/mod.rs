//! Which backend serves each job now, and what could serve it.
//!
//! A session subscribes to the jobs that it uses, and holds what it was given for as long as it needs it: a backend that was
//! replaced goes on living until the last session has let go of it ([`Keep`]). [`switchboard`] replaces them, as [`switch`] says.

pub mod catalogue;
mod loader;
mod seat;
mod switch;
mod switchboard;
mod verify;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

pub use self::loader::{Capability, Later, Loader, ModelCapability, Plan};
pub use self::seat::{Keep, Released, Seat};
pub use self::switchboard::{Switchboard, Switching, Update};
use crate::backend::Backend;
use crate::call::{BackendKind, When};
use crate::id::Generation;

/// A backend that serves, and how.
#[derive(Clone, Debug)]
pub struct Serving {
    /// The backend.
    pub backend: Backend,
    /// When sessions take it over from another model.
    pub when: When,
    /// The voice of sessions that name none; absent: its own default.
    pub voice: Option<String>,
    /// The language of sessions that name none; absent: its own default.
    pub language: Option<String>,
    /// What keeps it loaded, if it needs that.
    keep: Option<Keep>,
}

impl Serving {
    /// A backend that lives as long as somebody holds it.
    #[must_use]
    pub const fn of(backend: Backend) -> Self {
        Self {
            backend,
            when: When::Now,
            voice: None,
            language: None,
            keep: None,
        }
    }

    /// What it is.
    #[must_use]
    pub fn capabilities(&self) -> &crate::backend::Capabilities {
        self.backend.capabilities()
    }

    /// The same, kept loaded by this.
    #[must_use]
    pub fn kept(mut self, keep: Keep) -> Self {
        self.keep = Some(keep);
        self
    }
}

/// The state of one job.
#[derive(Clone, Debug)]
pub enum Slot {
    /// Something is being loaded for the first time.
    Loading,
    /// This serves.
    Ready(Serving),
    /// What served is gone and is being started again.
    Lost {
        /// Which load it was.
        generation: Generation,
        /// Why it is gone.
        reason: String,
        /// It was stopped to make room for another, which is being loaded.
        replacing: bool,
    },
    /// Nothing does this job here.
    Missing {
        /// Why, with the remedy.
        reason: String,
        /// The configuration wants it so, which is no fault.
        by_choice: bool,
    },
}

/// Numbers loads, from 1 on. Clones count on together.
#[derive(Clone, Debug, Default)]
pub struct GenerationCounter(Arc<AtomicU64>);

impl GenerationCounter {
    /// The number of the next load.
    #[must_use]
    pub fn next(&self) -> Generation {
        Generation::new(self.0.fetch_add(1, Ordering::Relaxed) + 1)
    }
}

/// How a server's sessions are to take a seat.
#[derive(Clone, Debug, Default)]
pub struct Manner {
    /// When, if another model serves them.
    pub when: When,
    /// The voice of those that name none.
    pub voice: Option<String>,
    /// The language of those that name none.
    pub language: Option<String>,
}

fn index(kind: BackendKind) -> usize {
    let index = BackendKind::ALL.iter().position(|candidate| *candidate == kind);
    index.expect("ALL holds every kind")
}

/// The backends of a server, one slot a job.
#[derive(Debug)]
pub struct Registry {
    slots: [watch::Sender<Slot>; BackendKind::ALL.len()],
    seats: Mutex<[Option<(Seat, Manner)>; BackendKind::ALL.len()]>,
    generations: GenerationCounter,
}

impl Default for Registry {
    fn default() -> Self {
        Self {
            slots: std::array::from_fn(|_| watch::channel(Slot::Loading).0),
            seats: Mutex::default(),
            generations: GenerationCounter::default(),
        }
    }
}

impl Registry {
    fn slot(&self, kind: BackendKind) -> &watch::Sender<Slot> {
        &self.slots[index(kind)]
    }

    fn seats(&self) -> MutexGuard<'_, [Option<(Seat, Manner)>; BackendKind::ALL.len()]> {
        // A list of seats can't be half right.
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The seat that serves a job, or is to.
    #[must_use]
    pub fn seat(&self, kind: BackendKind) -> Option<Seat> {
        self.seats()[index(kind)].as_ref().map(|(seat, _)| seat.clone())
    }

    /// Lets a seat serve from now on, whatever becomes of it. Call it on a runtime: a task follows the seat.
    pub fn seat_in(self: &Arc<Self>, seat: Seat, manner: Manner) {
        let kind = seat.kind();
        let mut changes = seat.changes();
        let now = changes.borrow_and_update().clone();
        let before = self.seats()[index(kind)].replace((seat, manner));
        self.follow(kind, &changes, now);
        // Outside the lock, and last: it may be all that kept something large.
        let followed = before.is_some_and(|(before, _)| before.is_fed_by(&changes));
        if followed {
            return;
        }
        let registry = Arc::downgrade(self);
        tokio::spawn(async move {
            while changes.changed().await.is_ok() {
                let slot = changes.borrow_and_update().clone();
                let follows = registry
                    .upgrade()
                    .is_some_and(|registry| registry.follow(kind, &changes, slot));
                if !follows {
                    return;
                }
            }
        });
    }

    /// Passes on what became of a seat, if it still serves; whether it does.
    fn follow(&self, kind: BackendKind, changes: &watch::Receiver<Slot>, slot: Slot) -> bool {
        let seats = self.seats();
        let Some((seat, manner)) = seats[index(kind)].as_ref().filter(|(seat, _)| seat.is_fed_by(changes)) else {
            return false;
        };
        let slot = match slot {
            Slot::Ready(serving) => {
                let capabilities = serving.backend.capabilities();
                tracing::info!(
                    %kind,
                    name = capabilities.name,
                    model = capabilities.model,
                    generation = %capabilities.generation,
                    "it serves from now on"
                );
                Slot::Ready(Serving {
                    when: manner.when,
                    voice: manner.voice.clone(),
                    language: manner.language.clone(),
                    ..serving.kept(seat.keep())
                })
            }
            other => other,
        };
        self.slot(kind).send_replace(slot);
        true
    }

    /// The number of the next load.
    #[must_use]
    pub fn next_generation(&self) -> Generation {
        self.generations.next()
    }

    /// The counter itself, for a supervisor that loads again on its own.
    #[must_use]
    pub fn generations(&self) -> GenerationCounter {
        self.generations.clone()
    }

    /// The state of a job, now and whenever it changes. A receiver that is slow sees the newest state, not each one.
    #[must_use]
    pub fn subscribe(&self, kind: BackendKind) -> watch::Receiver<Slot> {
        self.slot(kind).subscribe()
    }

    /// The state of a job now.
    #[must_use]
    pub fn state(&self, kind: BackendKind) -> Slot {
        self.slot(kind).borrow().clone()
    }

    /// What serves a job now, to be held for as long as it is needed.
    #[must_use]
    pub fn lease(&self, kind: BackendKind) -> Option<Serving> {
        match &*self.slot(kind).borrow() {
            Slot::Ready(serving) => Some(serving.clone()),
            Slot::Loading | Slot::Lost { .. } | Slot::Missing { .. } => None,
        }
    }

    /// Whether each of these jobs is done by something.
    #[must_use]
    pub fn serves(&self, kinds: &[BackendKind]) -> bool {
        kinds.iter().all(|kind| self.lease(*kind).is_some())
    }

    /// Lets a backend of this process do its job from now on.
    pub fn install(&self, backend: Backend) {
        let capabilities = backend.capabilities();
        let kind = capabilities.kind;
        tracing::info!(
            %kind,
            name = capabilities.name,
            model = capabilities.model,
            generation = %capabilities.generation,
            "it serves from now on"
        );
        let before = self.seats()[index(kind)].take();
        self.slot(kind).send_replace(Slot::Ready(Serving::of(backend)));
        drop(before);
    }

    /// What serves a job makes room for another one, which is being loaded: those that it serves are told to wait. Answers the seat that was left.
    pub(crate) fn vacate(&self, kind: BackendKind, reason: String) -> Option<(Seat, Manner)> {
        let before = self.seats()[index(kind)].take();
        self.slot(kind).send_if_modified(|slot| {
            let Slot::Ready(serving) = slot else { return false };
            let generation = serving.backend.capabilities().generation;
            *slot = Slot::Lost {
                generation,
                reason,
                replacing: true,
            };
            true
        });
        before
    }

    /// What served is gone. Ignored when something newer serves already.
    pub fn mark_lost(&self, kind: BackendKind, generation: Generation, reason: String) {
        self.slot(kind).send_if_modified(|slot| {
            let serves =
                matches!(slot, Slot::Ready(serving) if serving.backend.capabilities().generation == generation);
            if serves {
                tracing::warn!(%kind, %generation, reason, "it is lost");
                *slot = Slot::Lost {
                    generation,
                    reason,
                    replacing: false,
                };
            }
            serves
        });
    }

    /// Nothing does this job here, and nothing is to.
    pub fn switch_off(&self, kind: BackendKind, reason: String) {
        let by_choice = true;
        self.slot(kind).send_replace(Slot::Missing { reason, by_choice });
    }

    /// Nothing does this job here (any more).
    pub fn mark_missing(&self, kind: BackendKind, reason: String) {
        let missing = Slot::Missing {
            reason: reason.clone(),
            by_choice: false,
        };
        let before = self.slot(kind).send_replace(missing);
        // What never came is told by whoever waits for the start, once; what goes away later is news.
        if matches!(before, Slot::Loading) {
            tracing::debug!(%kind, reason, "nothing does this job");
        } else {
            tracing::warn!(%kind, reason, "nothing does this job any more");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::fake::ScriptedLlm;

    fn backend(registry: &Registry) -> Backend {
        Backend::Llm(Arc::new(
            ScriptedLlm::echo().with_generation(registry.next_generation()),
        ))
    }

    fn generation(serving: &Serving) -> u64 {
        serving.backend.capabilities().generation.number()
    }

    /// A seat as a loader makes it.
    fn seat(registry: &Registry) -> (Seat, watch::Sender<Slot>, Released) {
        let served = crate::call::Served {
            backend: "scripted".to_owned(),
            model: "echo".to_owned(),
        };
        let (seat, sender, released) = Seat::new(BackendKind::Llm, served);
        sender.send_replace(Slot::Ready(Serving::of(backend(registry))));
        (seat, sender, released)
    }

    #[tokio::test]
    async fn what_was_replaced_lives_while_it_is_leased() {
        let registry = Arc::new(Registry::default());
        assert!(registry.lease(BackendKind::Llm).is_none());
        let (first, _first_sender, mut released) = seat(&registry);
        registry.seat_in(first, Manner::default());
        let lease = registry.lease(BackendKind::Llm).expect("it serves");
        let (second, sender, _second_released) = seat(&registry);
        registry.seat_in(second, Manner::default());
        let newer = registry.lease(BackendKind::Llm).expect("it serves");
        assert_eq!((generation(&lease), generation(&newer)), (1, 2));
        let still_kept = tokio::time::timeout(std::time::Duration::from_millis(20), released.wait()).await;
        assert!(still_kept.is_err(), "somebody holds it");
        drop(lease);
        released.wait().await;
        // What becomes of the seat is passed on.
        let mut slots = registry.subscribe(BackendKind::Llm);
        slots.borrow_and_update();
        let (generation, reason) = (Generation::new(2), "it died".to_owned());
        let lost = Slot::Lost {
            generation,
            reason,
            replacing: false,
        };
        sender.send_replace(lost);
        slots.changed().await.expect("the registry is there");
        assert!(matches!(registry.state(BackendKind::Llm), Slot::Lost { .. }));
    }

    #[test]
    fn the_loss_of_what_was_replaced_is_no_loss() {
        let registry = Registry::default();
        registry.install(backend(&registry));
        registry.install(backend(&registry));
        registry.mark_lost(BackendKind::Llm, Generation::new(1), "it died".to_owned());
        assert!(registry.serves(&[BackendKind::Llm]));
        registry.mark_lost(BackendKind::Llm, Generation::new(2), "it died".to_owned());
        assert!(!registry.serves(&[BackendKind::Llm]));
        assert!(matches!(
            registry.state(BackendKind::Llm),
            Slot::Lost { generation, .. } if generation == Generation::new(2)
        ));
    }

    #[tokio::test]
    async fn a_subscriber_hears_each_change_of_its_job_only() {
        let registry = Registry::default();
        let mut llm = registry.subscribe(BackendKind::Llm);
        assert!(matches!(*llm.borrow_and_update(), Slot::Loading));
        registry.mark_missing(BackendKind::Stt, "no recogniser".to_owned());
        assert!(!llm.has_changed().expect("the registry is there"));
        registry.install(backend(&registry));
        llm.changed().await.expect("the registry is there");
        assert!(matches!(*llm.borrow_and_update(), Slot::Ready(_)));
        registry.mark_missing(BackendKind::Llm, "switched off".to_owned());
        llm.changed().await.expect("the registry is there");
        assert!(matches!(*llm.borrow_and_update(), Slot::Missing { .. }));
    }

    #[test]
    fn generations_grow_wherever_they_are_taken() {
        let registry = Registry::default();
        let counter = registry.generations();
        assert_eq!(registry.next_generation(), Generation::new(1));
        assert_eq!(counter.next(), Generation::new(2));
        assert_eq!(registry.next_generation(), Generation::new(3));
    }
}
