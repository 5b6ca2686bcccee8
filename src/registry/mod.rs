//! Which backend serves each job now, and what could serve it.
//!
//! A session subscribes to the jobs that it uses, and holds what it was given for as long as it needs it: a backend that
//! was replaced goes on living until the last session has let go of it. Whoever replaced it learns from [`Retired`] when
//! that is.

pub mod catalogue;

use std::sync::Arc;
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

/// A backend that was replaced. Dropping this lets go of it; its last user's letting go ends it.
#[derive(Debug)]
pub struct Retired(Backend);

impl Retired {
    /// How many others still hold it. A stream may outlive its session's hold, and then keeps what it needs itself.
    #[must_use]
    pub fn users(&self) -> usize {
        let holders = match &self.0 {
            Backend::Vad(backend) => Arc::strong_count(backend),
            Backend::Turn(backend) => Arc::strong_count(backend),
            Backend::Stt(backend) => Arc::strong_count(backend),
            Backend::Llm(backend) => Arc::strong_count(backend),
            Backend::Tts(backend) => Arc::strong_count(backend),
        };
        holders - 1
    }

    /// The backend, for a switch that is taken back.
    #[must_use]
    pub fn into_backend(self) -> Backend {
        self.0
    }
}

/// The backends of a server, one slot a job.
#[derive(Debug)]
pub struct Registry {
    slots: [watch::Sender<Slot>; BackendKind::ALL.len()],
    generations: GenerationCounter,
}

impl Default for Registry {
    fn default() -> Self {
        Self {
            slots: std::array::from_fn(|_| watch::channel(Slot::Loading).0),
            generations: GenerationCounter::default(),
        }
    }
}

impl Registry {
    fn slot(&self, kind: BackendKind) -> &watch::Sender<Slot> {
        let index = BackendKind::ALL.iter().position(|candidate| *candidate == kind);
        &self.slots[index.expect("ALL holds every kind")]
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
    pub fn lease(&self, kind: BackendKind) -> Option<Backend> {
        match &*self.slot(kind).borrow() {
            Slot::Ready(backend) => Some(backend.clone()),
            Slot::Loading | Slot::Lost { .. } | Slot::Missing { .. } => None,
        }
    }

    /// Whether each of these jobs is done by something.
    #[must_use]
    pub fn serves(&self, kinds: &[BackendKind]) -> bool {
        kinds.iter().all(|kind| self.lease(*kind).is_some())
    }

    /// Lets `backend` do its job from now on.
    pub fn install(&self, backend: Backend) {
        drop(self.replace(backend));
    }

    /// Lets `backend` do its job from now on, and returns what did it until now.
    #[must_use = "what was replaced is let go of at once; `install` says so"]
    pub fn replace(&self, backend: Backend) -> Option<Retired> {
        let capabilities = backend.capabilities();
        let kind = capabilities.kind;
        tracing::info!(
            %kind,
            name = capabilities.name,
            model = capabilities.model,
            generation = %capabilities.generation,
            "it serves from now on"
        );
        match self.slot(kind).send_replace(Slot::Ready(backend)) {
            Slot::Ready(before) => Some(Retired(before)),
            Slot::Loading | Slot::Lost { .. } | Slot::Missing { .. } => None,
        }
    }

    /// What served is gone. Ignored when something newer serves already.
    pub fn mark_lost(&self, kind: BackendKind, generation: Generation, reason: String) {
        self.slot(kind).send_if_modified(|slot| {
            let serves = matches!(slot, Slot::Ready(backend) if backend.capabilities().generation == generation);
            if serves {
                tracing::warn!(%kind, %generation, reason, "it is lost");
                *slot = Slot::Lost { generation, reason };
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

    fn generation(backend: &Backend) -> u64 {
        backend.capabilities().generation.number()
    }

    #[test]
    fn what_was_replaced_lives_while_it_is_leased() {
        let registry = Registry::default();
        assert!(registry.lease(BackendKind::Llm).is_none());
        assert!(registry.replace(backend(&registry)).is_none());
        let lease = registry.lease(BackendKind::Llm).expect("it serves");
        let retired = registry.replace(backend(&registry)).expect("one served before");
        assert_eq!((generation(&lease), retired.users()), (1, 1));
        let newer = registry.lease(BackendKind::Llm).expect("it serves");
        assert_eq!(generation(&newer), 2);
        drop(lease);
        assert_eq!(retired.users(), 0);
        // A switch that is taken back.
        let taken_back = registry.replace(retired.into_backend()).expect("one served before");
        assert_eq!(taken_back.users(), 1);
        assert_eq!(generation(&registry.lease(BackendKind::Llm).expect("it serves")), 1);
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
