//! A session's backends on the side of the world: which are leased, what is offered, what is being switched, and what runs beside.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::Stream as _;
use tokio_stream::wrappers::WatchStream;

use super::driver::Driver;
use crate::backend::{Backend, Capabilities, Vad};
use crate::call::{BackendKind, Scope, SwitchFailure, SwitchRequest, SwitchStage};
use crate::id::{Generation, SwitchId};
use crate::registry::{Keep, Seat, Serving, Slot, Switching, Update};
use crate::session::{Arrival, BackendChange, Input, SwitchProgress};
use crate::time::Time;

/// A lease of one kind of backend.
pub(super) struct Lease {
    pub(super) kind: BackendKind,
    changes: WatchStream<Slot>,
    /// Keeps a backend that this session alone is switched to.
    own: Option<Keep>,
    /// What new work goes to.
    serving: Option<Serving>,
    /// What may take over.
    offered: Option<Serving>,
    /// A detector of its own for the session, where that is what is offered.
    offered_vad: Option<Box<dyn Vad>>,
}

/// A switch that this session asked for.
pub(super) struct SwitchJob {
    id: SwitchId,
    request: SwitchRequest,
    asked: Time,
    switching: Switching,
}

/// What runs beside a live backend.
pub(super) struct Beside {
    pub(super) id: SwitchId,
    pub(super) kind: BackendKind,
    pub(super) request: SwitchRequest,
    pub(super) seat: Seat,
    asked: Time,
}

impl Beside {
    /// The candidate, if it is there.
    pub(super) fn backend(&self) -> Option<Backend> {
        match self.seat.state() {
            Slot::Ready(serving) => Some(serving.backend),
            Slot::Loading | Slot::Lost { .. } | Slot::Missing { .. } => None,
        }
    }
}

impl Driver {
    /// What new work of this kind goes to, and what keeps it loaded until that work is over.
    pub(super) fn serving(&self, kind: BackendKind) -> Option<&Serving> {
        self.leases.iter().find(|lease| lease.kind == kind)?.serving.as_ref()
    }

    /// What new work of this kind goes to.
    pub(super) fn backend(&self, kind: BackendKind) -> Option<&Backend> {
        self.serving(kind).map(|serving| &serving.backend)
    }

    pub(super) fn acquire(&mut self, kind: BackendKind) {
        // What this session was switched to while it did without stays.
        let own = self.own_seats.iter().find(|seat| seat.kind() == kind);
        let changes = match own {
            Some(seat) => seat.changes(),
            None => self.surroundings.registry.subscribe(kind),
        };
        self.leases.push(Lease {
            kind,
            changes: WatchStream::new(changes),
            own: own.map(Seat::keep),
            serving: None,
            offered: None,
            offered_vad: None,
        });
    }

    pub(super) fn release(&mut self, kind: BackendKind) {
        self.leases.retain(|lease| lease.kind != kind);
        if kind == BackendKind::Vad {
            self.vad = None;
        }
    }

    pub(super) fn adopt(&mut self, kind: BackendKind, generation: Generation) {
        let Some(lease) = self.leases.iter_mut().find(|lease| lease.kind == kind) else {
            return;
        };
        let is_it = |serving: &Serving| serving.capabilities().generation == generation;
        if let Some(offered) = lease.offered.take_if(|offered| is_it(offered)) {
            lease.serving = Some(offered);
            if kind == BackendKind::Vad {
                self.vad = lease.offered_vad.take();
                self.vad_next = self.ring.end();
            }
        }
    }

    pub(super) fn poll_leases(&mut self, context: &mut Context<'_>) -> bool {
        for index in 0..self.leases.len() {
            let lease = &mut self.leases[index];
            let kind = lease.kind;
            let Poll::Ready(Some(slot)) = Pin::new(&mut lease.changes).poll_next(context) else {
                continue;
            };
            if let Some(change) = lease.take(slot) {
                if matches!(change, BackendChange::Lost { .. } | BackendChange::Missing { .. })
                    && kind == BackendKind::Vad
                    && self.leases[index].serving.is_none()
                {
                    self.vad = None;
                }
                self.input(Input::Backend { kind, change });
            }
            return true;
        }
        false
    }

    pub(super) fn begin_switch(&mut self, id: SwitchId, request: SwitchRequest) {
        let kind = request.kind;
        let serving = self.serving(kind).map(|serving| serving.capabilities().clone());
        let serving = serving.or_else(|| self.served_elsewhere(kind));
        let Some(board) = &self.surroundings.switchboard else {
            self.answers.push_back(Input::Switch {
                id,
                progress: SwitchProgress::Failed(SwitchFailure::new(
                    SwitchStage::Request,
                    "this server's backends can't be switched",
                )),
            });
            return;
        };
        let asked = self.clock.now();
        let switching = board.begin(request.clone(), serving);
        self.switches.push(SwitchJob {
            id,
            request,
            asked,
            switching,
        });
    }

    /// What would serve this session if it had a lease.
    fn served_elsewhere(&self, kind: BackendKind) -> Option<Capabilities> {
        let serving = self.surroundings.registry.lease(kind)?;
        Some(serving.capabilities().clone())
    }

    pub(super) fn cancel_switch(&mut self, id: SwitchId) {
        if let Some(index) = self.switches.iter().position(|job| job.id == id) {
            self.switches.swap_remove(index).switching.cancel();
        }
        self.beside.retain(|beside| beside.id != id);
        self.shadows.retain(|shadow| shadow.switch() != id);
    }

    pub(super) fn promote(&mut self, id: SwitchId) {
        let Some(index) = self.beside.iter().position(|beside| beside.id == id) else {
            let failure = SwitchFailure::new(SwitchStage::Swap, "it doesn't run any more");
            self.answers.push_back(Input::Switch {
                id,
                progress: SwitchProgress::Failed(failure),
            });
            return;
        };
        let beside = self.beside.swap_remove(index);
        self.shadows.retain(|shadow| shadow.switch() != id);
        let Some(board) = &self.surroundings.switchboard else {
            return;
        };
        let switching = board.promote(&beside.request, beside.seat);
        self.switches.push(SwitchJob {
            id,
            request: SwitchRequest {
                shadow: false,
                ..beside.request
            },
            asked: beside.asked,
            switching,
        });
    }

    /// Answers that the driver itself owes the core: they are given between two inputs.
    pub(super) fn give_answers(&mut self) -> bool {
        match self.answers.pop_front() {
            Some(answer) => {
                self.input(answer);
                true
            }
            None => false,
        }
    }

    pub(super) fn poll_switches(&mut self, context: &mut Context<'_>) -> bool {
        for index in 0..self.switches.len() {
            let Poll::Ready(update) = self.switches[index].switching.poll_update(context) else {
                continue;
            };
            let (id, asked) = (self.switches[index].id, self.switches[index].asked);
            let update = match update {
                Some(Update::Started { to }) => {
                    let progress = SwitchProgress::Started { to };
                    self.input(Input::Switch { id, progress });
                    return true;
                }
                Some(update) => update,
                None => Update::Failed(SwitchFailure::new(SwitchStage::Swap, "the server's task for it ended")),
            };
            let request = self.switches.swap_remove(index).request;
            let progress = self.progress(id, &request, asked, update);
            self.input(Input::Switch { id, progress });
            return true;
        }
        false
    }

    /// Takes what a switch has led to.
    fn progress(&mut self, id: SwitchId, request: &SwitchRequest, asked: Time, update: Update) -> SwitchProgress {
        match update {
            Update::Started { to } => SwitchProgress::Started { to },
            Update::Failed(failure) => SwitchProgress::Failed(failure),
            Update::Loaded { new, generation, seat } => {
                let kind = request.kind;
                match seat {
                    Some(seat) if request.shadow => self.beside.push(Beside {
                        id,
                        kind,
                        request: request.clone(),
                        seat,
                        asked,
                    }),
                    Some(seat) => self.take_seat(seat),
                    // The session follows the server again.
                    None if request.scope == Scope::Server => self.leave_seat(kind),
                    None => {}
                }
                let took = self.clock.now().since(asked).as_millis();
                SwitchProgress::Loaded {
                    new,
                    generation,
                    load_ms: u32::try_from(took).unwrap_or(u32::MAX),
                }
            }
        }
    }

    /// From now on this session is served by a seat of its own.
    fn take_seat(&mut self, seat: Seat) {
        let kind = seat.kind();
        if let Some(lease) = self.leases.iter_mut().find(|lease| lease.kind == kind) {
            lease.changes = WatchStream::new(seat.changes());
            lease.own = Some(seat.keep());
        }
        self.own_seats.retain(|own| own.kind() != kind);
        self.own_seats.push(seat);
    }

    fn leave_seat(&mut self, kind: BackendKind) {
        let owned = self.own_seats.iter().any(|seat| seat.kind() == kind);
        self.own_seats.retain(|seat| seat.kind() != kind);
        if owned && let Some(lease) = self.leases.iter_mut().find(|lease| lease.kind == kind) {
            lease.changes = WatchStream::new(self.surroundings.registry.subscribe(kind));
            lease.own = None;
        }
    }
}

impl Lease {
    /// Takes a change of what serves or may serve, and puts it into the core's words.
    fn take(&mut self, slot: Slot) -> Option<BackendChange> {
        let is = |serving: &Option<Serving>, generation| {
            serving
                .as_ref()
                .is_some_and(|serving| serving.capabilities().generation == generation)
        };
        match slot {
            Slot::Loading => None,
            Slot::Ready(mut serving) => {
                if let Some(own) = &self.own {
                    serving = serving.kept(own.clone());
                }
                let capabilities = serving.capabilities();
                if let Backend::Vad(backend) = &serving.backend {
                    // A detector lives with its session.
                    match backend.open() {
                        Ok(vad) => self.offered_vad = Some(vad),
                        // The one that serves goes on.
                        Err(error) if self.serving.is_some() => {
                            tracing::warn!(%error, "a detector can't be opened");
                            return None;
                        }
                        Err(error) => {
                            let reason = error.to_string();
                            return Some(BackendChange::Missing { reason });
                        }
                    }
                }
                let arrival = Arrival {
                    device: capabilities.device.clone(),
                    synthetic: capabilities.synthetic,
                    when: serving.when,
                    voice: serving.voice.clone(),
                    language: serving.language.clone(),
                    ..Arrival::new(&capabilities.name, &capabilities.model, capabilities.generation)
                };
                if is(&self.serving, arrival.generation) {
                    self.serving = Some(serving);
                    self.offered = None;
                } else {
                    self.offered = Some(serving);
                }
                Some(BackendChange::Ready(arrival))
            }
            Slot::Lost {
                generation,
                reason,
                replacing,
            } => {
                self.offered
                    .take_if(|offered| offered.capabilities().generation == generation);
                if is(&self.serving, generation) {
                    self.serving = None;
                }
                Some(BackendChange::Lost {
                    generation,
                    reason,
                    replacing,
                })
            }
            Slot::Missing { reason, .. } => {
                // What waits to take over is what went away; if nothing does, it is what served.
                if self.offered.take().is_none() {
                    self.serving = None;
                }
                Some(BackendChange::Missing { reason })
            }
        }
    }
}
