//! Switches backends: does what [`Switch`] wants, and tells whoever asked what becomes of it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::time::timeout;

use super::seat::WeakSeat;
use super::switch::{Switch, SwitchEffect, SwitchEvent};
use super::verify::verify;
use super::{Capability, Loader, Manner, Plan, Registry, Seat, Slot};
use crate::backend::Capabilities;
use crate::call::{BackendKind, Scope, Served, SwitchFailure, SwitchRequest, SwitchStage};
use crate::id::Generation;

/// Models that are loaded at the same time; more wait for their turn, so that a machine isn't asked for everything at once.
const LOADS_AT_ONCE: usize = 2;
/// Loads that may wait; more are refused.
const LOADS_WAITING: usize = 32;
/// How long what was told to make room may take to end.
const EVICTION: Duration = Duration::from_secs(15);
/// Updates of one switch that wait to be read: no switch has more.
const UPDATES: usize = 4;

/// What has become of a switch.
#[derive(Debug)]
pub enum Update {
    /// It makes sense, and is being loaded.
    Started {
        /// What.
        to: Served,
    },
    /// It is loaded and verified. For the server: its sessions are served with it from now on.
    Loaded {
        /// What.
        new: Served,
        /// Which load.
        generation: Generation,
        /// What a session takes it from; absent where its own backend stays, and for the server.
        seat: Option<Seat>,
    },
    /// It wasn't made; what served before serves.
    Failed(SwitchFailure),
}

/// A switch that is under way. One of a session is called off when this is dropped; one of the server goes on.
#[derive(Debug)]
pub struct Switching {
    updates: mpsc::Receiver<Update>,
    cancel: Option<oneshot::Sender<()>>,
}

impl Switching {
    /// The next news of it; `None` after the last.
    pub fn poll_update(&mut self, context: &mut Context<'_>) -> Poll<Option<Update>> {
        self.updates.poll_recv(context)
    }

    /// The same, to be awaited.
    pub async fn update(&mut self) -> Option<Update> {
        self.updates.recv().await
    }

    /// Calls it off. Whatever it has done already is taken back, unless it serves already.
    pub fn cancel(&mut self) {
        if let Some(cancel) = self.cancel.take() {
            // A switch that is over needs no telling.
            let _ = cancel.send(());
        }
    }
}

/// Switches the backends of a [`Registry`], with what a [`Loader`] can load.
pub struct Switchboard {
    registry: Arc<Registry>,
    loader: Arc<dyn Loader>,
    /// Jobs whose backend is being switched for the server, and to what.
    under_way: Mutex<Vec<(BackendKind, String)>>,
    /// What was loaded by the key of its plan, to be shared.
    loaded: Mutex<Vec<(String, WeakSeat)>>,
    loads: Semaphore,
    waiting: Semaphore,
    /// Where switches are made: never on a thread of sessions.
    runtime: Handle,
}

impl std::fmt::Debug for Switchboard {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Switchboard")
    }
}

/// A job of the server whose backend is being switched.
struct UnderWay(Arc<Switchboard>, BackendKind);

impl Drop for UnderWay {
    fn drop(&mut self) {
        lock(&self.0.under_way).retain(|(kind, _)| *kind != self.1);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Lists, which can't be half right.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Switchboard {
    /// One for these; call it on the server's runtime.
    #[must_use]
    pub fn new(registry: Arc<Registry>, loader: Arc<dyn Loader>) -> Arc<Self> {
        Arc::new(Self {
            registry,
            loader,
            under_way: Mutex::default(),
            loaded: Mutex::default(),
            loads: Semaphore::new(LOADS_AT_ONCE),
            waiting: Semaphore::new(LOADS_WAITING),
            runtime: Handle::current(),
        })
    }

    /// Everything that could serve here, and what can't, with the reason.
    pub async fn capabilities(&self) -> Vec<Capability> {
        // On the server's runtime, whoever asks: a session's thread has no time for it.
        let asked = self.runtime.spawn(self.loader.capabilities());
        asked.await.unwrap_or_default()
    }

    /// Begins a switch. `serving` is what serves whoever asks now.
    #[must_use]
    pub fn begin(self: &Arc<Self>, request: SwitchRequest, serving: Option<Capabilities>) -> Switching {
        let (sender, updates) = mpsc::channel(UPDATES);
        let (cancel, cancelled) = oneshot::channel();
        let board = Arc::clone(self);
        self.runtime.spawn(async move {
            let scope = request.scope;
            let cancelled = async move {
                if cancelled.await.is_err() && scope == Scope::Server {
                    // Whoever asked is gone; the server goes on.
                    std::future::pending::<()>().await;
                }
            };
            let end = board.transact(request, serving, &sender, cancelled).await;
            // Whoever asked may be gone.
            let _ = sender.send(end).await;
        });
        Switching {
            updates,
            cancel: Some(cancel),
        }
    }

    /// Whether a switch could be made, without making it.
    ///
    /// # Errors
    /// Why it couldn't.
    pub async fn check(
        &self,
        request: &SwitchRequest,
        serving: Option<&Capabilities>,
    ) -> Result<Served, SwitchFailure> {
        if request.keeps_model() {
            return keeps(request, serving).map(|(served, _)| served);
        }
        let plan = self.loader.resolve(request, serving).await?;
        let mut switch = Switch::new(request.replace);
        if self.shared(&plan.key).is_none() {
            for effect in switch.handle(self.resolved(&plan, request.kind)) {
                if let SwitchEffect::Fail(failure) = effect {
                    return Err(failure);
                }
            }
        }
        Ok(plan.served)
    }

    fn resolved(&self, plan: &Plan, kind: BackendKind) -> SwitchEvent {
        let seat = self.registry.seat(kind);
        let held = seat.and_then(|seat| seat.plan().and_then(|plan| plan.need_bytes));
        SwitchEvent::Resolved {
            need: plan.need_bytes,
            free: self.loader.free_bytes(),
            held: held.unwrap_or(0),
        }
    }

    fn shared(&self, key: &str) -> Option<Seat> {
        let mut loaded = lock(&self.loaded);
        loaded.retain(|(_, seat)| seat.upgrade().is_some());
        loaded
            .iter()
            .find(|(known, _)| known == key)
            .and_then(|(_, seat)| seat.upgrade())
    }

    /// Loads what the server begins with, to be shared like everything that is loaded later.
    #[must_use]
    pub fn load(&self, plan: Arc<Plan>) -> Seat {
        let seat = (plan.load)().planned(Arc::clone(&plan));
        lock(&self.loaded).push((plan.key.clone(), seat.downgrade()));
        seat
    }

    async fn transact(
        self: &Arc<Self>,
        request: SwitchRequest,
        serving: Option<Capabilities>,
        updates: &mpsc::Sender<Update>,
        cancelled: impl Future<Output = ()>,
    ) -> Update {
        let kind = request.kind;
        let _under_way = if request.scope == Scope::Server {
            match self.enter(&request) {
                Ok(entered) => Some(entered),
                Err(failure) => return Update::Failed(failure),
            }
        } else {
            None
        };
        if request.keeps_model() {
            return self.speak_otherwise(&request, serving.as_ref());
        }
        let mut cancelled = std::pin::pin!(cancelled);
        let mut switch = Switch::new(request.replace && request.scope == Scope::Server && !request.shadow);
        let mut plan: Option<Arc<Plan>> = None;
        let mut seat: Option<Seat> = None;
        let mut old: Option<(Seat, Manner)> = None;
        let first = tokio::select! {
            resolved = self.loader.resolve(&request, serving.as_ref()) => match resolved {
                Ok(resolved) => {
                    let to = resolved.served.clone();
                    let _ = updates.send(Update::Started { to }).await;
                    seat = self.shared(&resolved.key);
                    let resolved = plan.insert(Arc::new(resolved));
                    match seat {
                        Some(_) => SwitchEvent::AlreadyLoaded,
                        None => self.resolved(resolved, kind),
                    }
                }
                Err(failure) => SwitchEvent::Failed(failure),
            },
            () = &mut cancelled => SwitchEvent::Cancelled,
        };
        let mut effects: VecDeque<SwitchEffect> = switch.handle(first).into();
        while let Some(effect) = effects.pop_front() {
            let event = match effect {
                SwitchEffect::Vacate => {
                    let reason = format!("it makes room for {}", named(plan.as_ref()));
                    old = self.registry.vacate(kind, reason);
                    if let Some((seat, _)) = &old {
                        evict(seat).await;
                    }
                    None
                }
                SwitchEffect::Load => Some(tokio::select! {
                    loaded = self.load_planned(plan.as_ref()) => match loaded {
                        Ok(loaded) => {
                            seat = Some(loaded);
                            SwitchEvent::Loaded
                        }
                        Err(failure) => SwitchEvent::Failed(failure),
                    },
                    () = &mut cancelled => SwitchEvent::Cancelled,
                }),
                SwitchEffect::Verify => Some(tokio::select! {
                    verified = verified(seat.as_ref(), plan.as_ref()) => match verified {
                        Ok(()) => SwitchEvent::Verified,
                        Err(failure) => SwitchEvent::Failed(failure),
                    },
                    () = &mut cancelled => SwitchEvent::Cancelled,
                }),
                SwitchEffect::Swap => return self.swap(&request, seat.take()),
                SwitchEffect::Drop => {
                    seat = None;
                    None
                }
                SwitchEffect::Restore => {
                    let problem = self.restore(kind, old.take()).await.err();
                    Some(SwitchEvent::Restored { problem })
                }
                SwitchEffect::Fail(failure) => return Update::Failed(failure),
            };
            if let Some(event) = event {
                effects.extend(switch.handle(event));
            }
        }
        Update::Failed(SwitchFailure::new(SwitchStage::Swap, "it came to no end"))
    }

    /// Notes that a job of the server is being switched.
    fn enter(self: &Arc<Self>, request: &SwitchRequest) -> Result<UnderWay, SwitchFailure> {
        let mut under_way = lock(&self.under_way);
        if let Some((kind, to)) = under_way.iter().find(|(kind, _)| *kind == request.kind) {
            return Err(SwitchFailure::new(
                SwitchStage::Request,
                format!("the server's {kind} is being switched to {to}: wait until that is done"),
            ));
        }
        let to = request.model.as_ref().or(request.backend.as_ref());
        under_way.push((request.kind, to.map_or_else(|| "another".to_owned(), Clone::clone)));
        Ok(UnderWay(Arc::clone(self), request.kind))
    }

    /// Only a voice or a language: nothing is loaded.
    fn speak_otherwise(self: &Arc<Self>, request: &SwitchRequest, serving: Option<&Capabilities>) -> Update {
        let (new, generation) = match keeps(request, serving) {
            Ok(kept) => kept,
            Err(failure) => return Update::Failed(failure),
        };
        if request.scope == Scope::Server {
            let serving = self.registry.lease(request.kind);
            let seat = self.registry.seat(request.kind);
            let Some(seat) = seat.or_else(|| serving.map(|serving| Seat::of(serving.backend))) else {
                return Update::Failed(SwitchFailure::new(SwitchStage::Resolve, "nothing serves any more"));
            };
            self.registry.seat_in(seat, manner(request));
        }
        Update::Loaded {
            new,
            generation,
            seat: None,
        }
    }

    async fn load_planned(&self, plan: Option<&Arc<Plan>>) -> Result<Seat, SwitchFailure> {
        let plan = plan.ok_or_else(|| SwitchFailure::new(SwitchStage::Resolve, "nothing was resolved"))?;
        let busy = |_| SwitchFailure::new(SwitchStage::Load, "too many models are being loaded; try again later");
        let waiting = self.waiting.try_acquire().map_err(busy)?;
        let _turn = self.loads.acquire().await;
        drop(waiting);
        let seat = self.load(Arc::clone(plan));
        match timeout(plan.limit, settled(&seat)).await {
            Ok(Ok(())) => Ok(seat),
            Ok(Err(reason)) => Err(SwitchFailure::new(SwitchStage::Load, reason)),
            Err(_) => {
                let limit = plan.limit.as_secs();
                let reason = format!("{} was not loaded within {limit} s", plan.served);
                Err(SwitchFailure::new(SwitchStage::Load, reason))
            }
        }
    }

    fn swap(self: &Arc<Self>, request: &SwitchRequest, seat: Option<Seat>) -> Update {
        let gone = || {
            Update::Failed(SwitchFailure::new(
                SwitchStage::Swap,
                "it was gone before it could take over",
            ))
        };
        let Some(seat) = seat else { return gone() };
        let Slot::Ready(serving) = seat.state() else {
            return gone();
        };
        let capabilities = serving.backend.capabilities();
        if let Err(failure) = has_voice(request, capabilities) {
            return Update::Failed(failure);
        }
        let generation = capabilities.generation;
        let new = Served {
            backend: capabilities.name.clone(),
            model: capabilities.model.clone(),
        };
        let seat = if request.scope == Scope::Server && !request.shadow {
            self.registry.seat_in(seat, manner(request));
            None
        } else {
            Some(seat)
        };
        Update::Loaded { new, generation, seat }
    }

    /// Lets a seat that a session has tried beside its own serve in its place, for the session or for the server.
    #[must_use]
    pub fn promote(self: &Arc<Self>, request: &SwitchRequest, seat: Seat) -> Switching {
        let request = SwitchRequest {
            shadow: false,
            ..request.clone()
        };
        let (sender, updates) = mpsc::channel(UPDATES);
        let board = Arc::clone(self);
        self.runtime.spawn(async move {
            let entered = match request.scope {
                Scope::Server => board.enter(&request).map(Some),
                Scope::Session => Ok(None),
            };
            let end = match entered {
                Ok(_under_way) => board.swap(&request, Some(seat)),
                Err(failure) => Update::Failed(failure),
            };
            let _ = sender.send(end).await;
        });
        Switching { updates, cancel: None }
    }

    /// Loads again what was stopped to make room.
    async fn restore(self: &Arc<Self>, kind: BackendKind, old: Option<(Seat, Manner)>) -> Result<(), String> {
        let (plan, manner) = match old {
            Some((seat, manner)) => (seat.plan().cloned(), manner),
            None => (None, Manner::default()),
        };
        let Some(plan) = plan else {
            self.registry
                .mark_missing(kind, "it was stopped to make room".to_owned());
            return Err("nobody knows how it was loaded".to_owned());
        };
        let seat = self.load(Arc::clone(&plan));
        self.registry.seat_in(seat.clone(), manner);
        match timeout(plan.limit, settled(&seat)).await {
            Ok(settled) => settled,
            Err(_) => Err(format!("it was not loaded within {} s", plan.limit.as_secs())),
        }
    }
}

fn manner(request: &SwitchRequest) -> Manner {
    Manner {
        when: request.when,
        voice: request.voice.clone(),
        language: request.language.clone(),
    }
}

fn named(plan: Option<&Arc<Plan>>) -> String {
    plan.map_or_else(|| "another".to_owned(), |plan| plan.served.to_string())
}

/// What serves, for a request that only wants another voice or language of it.
fn keeps(request: &SwitchRequest, serving: Option<&Capabilities>) -> Result<(Served, Generation), SwitchFailure> {
    let Some(serving) = serving else {
        let reason = format!("no {} backend serves: name one", request.kind);
        return Err(SwitchFailure::new(SwitchStage::Resolve, reason));
    };
    has_voice(request, serving)?;
    let served = Served {
        backend: serving.name.clone(),
        model: serving.model.clone(),
    };
    Ok((served, serving.generation))
}

fn has_voice(request: &SwitchRequest, capabilities: &Capabilities) -> Result<(), SwitchFailure> {
    match &request.voice {
        Some(voice) if !capabilities.voices.is_empty() && !capabilities.voices.contains(voice) => {
            let reason = format!(
                "{} has no voice {voice:?}; there are {}",
                capabilities.name,
                capabilities.voices.join(", ")
            );
            Err(SwitchFailure::new(SwitchStage::Verify, reason))
        }
        _ => Ok(()),
    }
}

/// Waits until a seat is ready, or won't be.
async fn settled(seat: &Seat) -> Result<(), String> {
    let mut changes = seat.changes();
    match changes
        .wait_for(|slot| matches!(slot, Slot::Ready(_) | Slot::Missing { .. }))
        .await
        .as_deref()
    {
        Ok(Slot::Missing { reason, .. }) => Err(reason.clone()),
        Ok(_) => Ok(()),
        Err(_) => Err("it ended while it was being loaded".to_owned()),
    }
}

async fn verified(seat: Option<&Seat>, plan: Option<&Arc<Plan>>) -> Result<(), SwitchFailure> {
    let fail = |stage, reason: String| Err(SwitchFailure::new(stage, reason));
    let Some(seat) = seat else {
        return fail(SwitchStage::Load, "nothing was loaded".to_owned());
    };
    // One that is shared may still be on its way.
    let limit = plan.map_or(Duration::from_secs(60), |plan| plan.limit);
    match timeout(limit, settled(seat)).await {
        Ok(Ok(())) => {}
        Ok(Err(reason)) => return fail(SwitchStage::Load, reason),
        Err(_) => {
            return fail(
                SwitchStage::Load,
                format!("it was not loaded within {} s", limit.as_secs()),
            );
        }
    }
    let Slot::Ready(serving) = seat.state() else {
        return fail(SwitchStage::Load, "it was gone as soon as it was loaded".to_owned());
    };
    match verify(&serving.backend).await {
        Ok(()) => Ok(()),
        Err(reason) => fail(SwitchStage::Verify, reason),
    }
}

/// Ends what serves at once, and waits until its memory is free.
async fn evict(seat: &Seat) {
    let mut changes: watch::Receiver<Slot> = seat.changes();
    seat.evict();
    let gone = async { while changes.changed().await.is_ok() {} };
    if timeout(EVICTION, gone).await.is_err() {
        tracing::warn!("{:?} did not end within {} s", seat, EVICTION.as_secs());
    }
}
