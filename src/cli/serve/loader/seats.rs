//! The life of what is loaded: it begins, is ready, may be lost and come back, and ends when nobody needs it or the server ends. Each seat has
//! one task, and the server's end waits for all of them, so that no worker outlives it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use tokio::task::JoinSet;

use super::chosen::Chosen;
use super::{House, Load};
use crate::backend::Backend;
use crate::call::{BackendKind, Served};
use crate::id::Generation;
use crate::provider;
use crate::registry::{Released, Seat, Serving, Slot};
use crate::supervisor::{State, Worker};

/// Everything that was loaded and isn't gone yet.
#[derive(Debug)]
pub(super) struct Running {
    tasks: Mutex<JoinSet<()>>,
    ending: watch::Sender<bool>,
}

impl Default for Running {
    fn default() -> Self {
        Self {
            tasks: Mutex::default(),
            ending: watch::Sender::new(false),
        }
    }
}

impl Running {
    fn tasks(&self) -> MutexGuard<'_, JoinSet<()>> {
        // A set of tasks can't be half right.
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A seat whose life this is. Call it on a runtime.
    fn seat<F: Future<Output = ()> + Send + 'static>(
        &self,
        kind: BackendKind,
        served: Served,
        live: impl FnOnce(Life) -> F,
    ) -> Seat {
        let (seat, slot, released) = Seat::new(kind, served);
        let life = Life {
            slot,
            released,
            ending: self.ending.subscribe(),
            kind,
            was_ready: false,
        };
        let mut tasks = self.tasks();
        // Those that are over need no more room.
        while tasks.try_join_next().is_some() {}
        tasks.spawn(live(life));
        seat
    }

    /// Ends everything, and waits until it is gone. What is begun afterwards ends at once.
    pub(super) async fn stop(&self) {
        self.ending.send_replace(true);
        let mut tasks = std::mem::take(&mut *self.tasks());
        while tasks.join_next().await.is_some() {}
    }
}

/// The end of a seat that its loader holds.
struct Life {
    slot: watch::Sender<Slot>,
    released: Released,
    ending: watch::Receiver<bool>,
    kind: BackendKind,
    was_ready: bool,
}

impl Life {
    /// Waits until nobody needs it, or the server ends; tells which.
    async fn over(&mut self) -> &'static str {
        tokio::select! {
            // When the sender is gone, so is the server.
            _ = self.ending.wait_for(|ending| *ending) => "the server is ending",
            () = self.released.wait() => "it was stopped: nobody needs it, or its memory is needed",
        }
    }

    /// It serves.
    fn ready(&mut self, backend: Backend) {
        self.was_ready = true;
        self.slot.send_replace(Slot::Ready(Serving::of(backend)));
    }

    /// It is gone, and comes back.
    fn lost(&self, generation: Generation, reason: String) {
        // What has never come is still being loaded.
        if self.was_ready {
            tracing::warn!(kind = %self.kind, %generation, reason, "it is lost");
            let replacing = false;
            self.slot.send_replace(Slot::Lost {
                generation,
                reason,
                replacing,
            });
        }
    }

    /// It won't come (back).
    fn missing(self, reason: String) {
        // What never came is told by whoever waits for it, once; what goes away later is news.
        if self.was_ready {
            tracing::warn!(kind = %self.kind, reason, "it is gone for good");
        } else {
            tracing::debug!(kind = %self.kind, reason, "it can't be loaded");
        }
        self.end(reason);
    }

    /// It is gone, and its memory is free.
    fn end(self, reason: String) {
        let by_choice = false;
        self.slot.send_replace(Slot::Missing { reason, by_choice });
    }
}

/// How a worker's attempt ended.
enum End {
    /// It isn't needed any more.
    Over(&'static str),
    /// It can't be had.
    Failed(String),
}

/// Makes a backend of this process; may take its time.
pub(super) type Make = Arc<dyn Fn(&House, Generation) -> Result<Backend, String> + Send + Sync>;

impl House {
    /// Begins to load something into this process, on a thread that may block.
    pub(super) fn load_here(&self, kind: BackendKind, served: Served, make: Make, load: Load) -> Seat {
        let house = self.clone();
        self.running().seat(kind, served, async move |mut life: Life| {
            let generation = house.generations().next();
            let made = tokio::task::spawn_blocking({
                let house = house.clone();
                move || make(&house, generation)
            });
            // A thread that blocks can't be stopped: whoever doesn't want its result any more leaves it.
            let made = tokio::select! {
                made = made => made.unwrap_or_else(|error| Err(format!("it could not be loaded: {error}"))),
                over = life.over() => return life.end(over.to_owned()),
            };
            match made {
                Ok(backend) => {
                    house.remember(generation, load);
                    life.ready(backend);
                    let over = life.over().await;
                    house.forget(generation);
                    life.end(over.to_owned());
                }
                Err(reason) => life.missing(reason),
            }
        })
    }

    /// Starts a worker, and keeps it running until nobody needs it. Where it can't be loaded on the device that it was meant for, it is on the
    /// processor, if the configuration lets it.
    pub(super) fn load_worker(&self, chosen: &Chosen) -> Seat {
        let (house, mut chosen) = (self.clone(), chosen.clone());
        self.running()
            .seat(chosen.kind(), chosen.served(), async move |mut life: Life| {
                loop {
                    if *life.ending.borrow() {
                        return life.end("the server is ending".to_owned());
                    }
                    let generations = house.generations().clone();
                    let worker = Worker::start(chosen.specification(house.config()), move || generations.next());
                    let end = house.follow(&chosen, &worker, &mut life).await;
                    // Nothing of it may be left when the end is told.
                    worker.stop().await;
                    match end {
                        End::Over(reason) => return life.end(reason.to_owned()),
                        End::Failed(reason) => match house.on_processor(&chosen, &reason).await {
                            Some(other) => {
                                tracing::warn!(worker = chosen.worker, "it is loaded on the CPU instead: {reason}");
                                chosen = other;
                            }
                            None => return life.missing(reason),
                        },
                    }
                }
            })
    }

    /// Tells a seat what becomes of its worker.
    async fn follow(&self, chosen: &Chosen, worker: &Worker, life: &mut Life) -> End {
        let mut state = worker.state();
        let mut remembered: Option<Generation> = None;
        let end = loop {
            let now = state.borrow_and_update().clone();
            match now {
                State::Starting { .. } => {}
                State::Ready(link) => {
                    let speed = self.config().tts.speed_per_mille;
                    match provider::worker::backend(chosen.job, &link, speed) {
                        Ok(backend) => {
                            let generation = link.generation();
                            if let Some(before) = remembered.replace(generation) {
                                self.forget(before);
                            }
                            self.remember(generation, Load::Worker(chosen.clone()));
                            life.ready(backend);
                        }
                        Err(reason) => break End::Failed(reason),
                    }
                }
                State::Lost { generation, reason, .. } => {
                    // A device that a library can't cope with kills it each time.
                    if !life.was_ready && self.on_processor(chosen, &reason).await.is_some() {
                        break End::Failed(reason);
                    }
                    life.lost(generation, reason);
                }
                State::Failed { reason } => break End::Failed(reason),
                State::Stopped => break End::Over("the worker was stopped"),
            }
            tokio::select! {
                changed = state.changed() => if changed.is_err() {
                    break End::Failed(format!("the task that watched over the worker {} ended", chosen.worker));
                },
                over = life.over() => break End::Over(over),
            }
        };
        if let Some(generation) = remembered {
            self.forget(generation);
        }
        end
    }

    /// The same load on the processor, if that is another one and is allowed.
    async fn on_processor(&self, chosen: &Chosen, reason: &str) -> Option<Chosen> {
        let asked = chosen.device.as_deref();
        if asked == Some("cpu") || !self.config().workers.cpu_fallback {
            return None;
        }
        if asked.is_none() {
            // The worker chose: was there anything else to choose?
            let probe = self.probes().of(&chosen.worker, &chosen.program).await;
            if probe.devices().iter().all(|device| *device == "cpu") {
                return None;
            }
        }
        let meant = asked.unwrap_or("its own choice of device");
        Some(chosen.on_processor(format!("it could not be loaded on {meant}: {reason}")))
    }
}
