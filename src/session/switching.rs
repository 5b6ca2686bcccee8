//! The session's backends: they come, go, and are switched. It is decided here when another model takes over: a response keeps the
//! voice and the model that it began with, and a turn changes its recogniser at once, or not before its end.

use serde::{Deserialize, Serialize};

use super::core::{LOST_WAIT, Session};
use super::input::{Arrival, SwitchProgress};
use super::reply::{Generating, Synthesizing};
use super::{Action, BackendChange};
use crate::call::{
    BackendKind, BackendState, CallError, ErrorCode, Event, Origin, Say, Scope, Served, StageFailure, SwitchFailure,
    SwitchRequest, SwitchStage, When,
};
use crate::id::{Generation, SwitchId};
use std::time::Duration;

/// How long a session waits for a backend whose predecessor was stopped to make room for it: large models take a minute to load.
const REPLACE_WAIT: Duration = Duration::from_secs(120);

/// A switch that is under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Pending {
    id: SwitchId,
    request: SwitchRequest,
    /// What served when it was asked for.
    old: Option<Served>,
    /// What was loaded for it, once it was: which load, and after how many milliseconds.
    loaded: Option<(Served, Generation, u32)>,
}

/// What is under way: at most one switch for each job, and one candidate that runs beside the live backend.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Switches {
    pending: Vec<Pending>,
    shadows: Vec<(BackendKind, SwitchId)>,
}

impl Session {
    /// How long what waits for this backend waits.
    pub(super) fn patience(&self, kind: BackendKind) -> Duration {
        if self.leases.of(kind).replacing {
            REPLACE_WAIT
        } else {
            LOST_WAIT
        }
    }

    /// Whether there is no backend for this job; the client is told so once.
    pub(super) fn tell_missing(&mut self, kind: BackendKind) -> bool {
        let lease = self.leases.of_mut(kind);
        let Some(BackendState::Missing { reason }) = &lease.state else {
            return false;
        };
        let message = format!("there is no {kind} backend: {reason}");
        if !std::mem::replace(&mut lease.missing_told, true) {
            self.emit(Event::Error(CallError {
                code: ErrorCode::BackendMissing,
                origin: Origin::Backend,
                retry: false,
                message,
            }));
        }
        true
    }

    pub(super) fn handle_backend(&mut self, kind: BackendKind, change: BackendChange) {
        if !self.leases.of(kind).held {
            self.count_stale();
            return;
        }
        let serving = self.leases.generation(kind).filter(|_| self.leases.is_ready(kind));
        match change {
            BackendChange::Ready(arrival) => self.arrived(kind, arrival, serving),
            BackendChange::Lost {
                generation,
                reason,
                replacing,
            } => {
                let lease = self.leases.of_mut(kind);
                lease.offered.take_if(|offered| offered.generation == generation);
                // What serves here goes on, whatever becomes of another.
                if serving.is_some_and(|serving| serving != generation) {
                    return;
                }
                self.gone(kind, BackendState::Lost { generation, reason }, replacing);
            }
            BackendChange::Missing { reason } => {
                // That is the one that was to take over: what serves here goes on.
                let offered = self.leases.of_mut(kind).offered.take();
                if serving.is_none() || offered.is_none() {
                    self.gone(kind, BackendState::Missing { reason }, false);
                } else {
                    self.abandon_switch(kind);
                }
            }
        }
    }

    fn arrived(&mut self, kind: BackendKind, arrival: Arrival, serving: Option<Generation>) {
        let lease = self.leases.of_mut(kind);
        if serving == Some(arrival.generation) {
            // The same load, with other words for those who name none. What was to take over isn't any more.
            lease.voice = arrival.voice;
            lease.language = arrival.language;
            lease.offered = None;
            self.conclude_switch(kind, false);
            return;
        }
        lease.offered = Some(arrival);
        if serving.is_none() {
            self.adopt(kind);
        }
        // What waits is adopted when nothing stands against it any more: see `adopt_due`.
    }

    /// Adopts what is loaded and may take over now; whether there was any.
    pub(super) fn adopt_due(&mut self) -> bool {
        let due = BackendKind::ALL
            .into_iter()
            .find(|kind| self.leases.of(*kind).offered.is_some() && !self.must_wait(*kind));
        due.is_some_and(|kind| self.adopt(kind))
    }

    /// Whether something that is under way keeps what it began with.
    fn must_wait(&self, kind: BackendKind) -> bool {
        let lease = self.leases.of(kind);
        let Some(offered) = &lease.offered else { return false };
        if lease.identity.as_ref() == Some(&identity(offered)) {
            // The same model again: one voice, whichever process speaks.
            return false;
        }
        let between_turns = offered.when == When::NextTurn;
        match kind {
            BackendKind::Stt => between_turns && (self.turn.open().is_some() || !self.endings.is_empty()),
            BackendKind::Vad | BackendKind::Turn => between_turns && self.turn.open().is_some(),
            BackendKind::Llm => self
                .reply
                .as_ref()
                .is_some_and(|reply| matches!(reply.generating, Generating::Running { .. })),
            BackendKind::Tts => self.reply.as_ref().is_some_and(|reply| {
                let begun = reply.synthesizing != Synthesizing::Nothing || !reply.ledger.is_empty();
                let unfinished = reply.synthesizing != Synthesizing::Nothing || !reply.chunker.is_over();
                reply.spoken && begun && unfinished
            }),
        }
    }

    /// What was to take over does so now, since what it was to take over from is gone; whether there was any.
    pub(super) fn adopt(&mut self, kind: BackendKind) -> bool {
        let was_lost = self.leases.is_lost(kind);
        let now = self.now;
        let lease = self.leases.of_mut(kind);
        let Some(arrival) = lease.offered.take() else {
            return false;
        };
        let (state, generation, new) = (arrival.state(), arrival.generation, identity(&arrival));
        lease.state = Some(state.clone());
        lease.voice = arrival.voice;
        lease.language = arrival.language;
        lease.replacing = false;
        lease.missing_told = false;
        let gap = lease.away_since.take().map_or(0, |since| now.since(since).as_millis());
        lease.gap_ms = u32::try_from(gap).unwrap_or(u32::MAX);
        let another = lease.identity.replace(new.clone()).is_some_and(|was| was != new);
        self.act(Action::Adopt { kind, generation });
        self.emit(Event::Backend { kind, state });
        match kind {
            BackendKind::Stt => {
                if another {
                    self.gives_partials = false;
                }
                self.recogniser_ready(was_lost);
            }
            BackendKind::Llm => self.model_ready(),
            BackendKind::Tts => {
                if another {
                    // A voice's name means something to its own synthesiser only.
                    self.settings.voice = None;
                }
                self.conclude_switch(kind, true);
                self.synthesiser_ready(another);
            }
            BackendKind::Vad | BackendKind::Turn => {}
        }
        self.conclude_switch(kind, true);
        true
    }

    /// What served does so no more.
    fn gone(&mut self, kind: BackendKind, state: BackendState, replacing: bool) {
        if self.leases.of(kind).state.as_ref() == Some(&state) {
            return;
        }
        let now = self.now;
        let served = self.leases.is_ready(kind);
        let lease = self.leases.of_mut(kind);
        if served {
            lease.away_since.get_or_insert(now);
        }
        lease.state = Some(state.clone());
        lease.replacing = replacing;
        lease.missing_told &= matches!(state, BackendState::Missing { .. });
        self.emit(Event::Backend {
            kind,
            state: state.clone(),
        });
        match (kind, state) {
            (BackendKind::Stt, BackendState::Missing { .. }) => self.recogniser_missing(),
            (BackendKind::Llm, BackendState::Missing { reason }) => self.model_missing(reason),
            (BackendKind::Tts, BackendState::Missing { .. }) => self.synthesiser_missing(),
            (BackendKind::Vad, BackendState::Missing { .. }) => {
                self.tell_missing(BackendKind::Vad);
            }
            (BackendKind::Stt, BackendState::Lost { .. }) => self.recogniser_lost(),
            (BackendKind::Llm, BackendState::Lost { .. }) => self.model_lost(),
            (BackendKind::Tts, BackendState::Lost { .. }) => self.synthesiser_lost(),
            (_, BackendState::Ready { .. }) | (BackendKind::Vad | BackendKind::Turn, _) => {}
        }
        if replacing && served {
            self.fill(kind);
        }
        self.abandon_switch(kind);
    }

    /// What was loaded for a switch is gone for good before it served here.
    fn abandon_switch(&mut self, kind: BackendKind) {
        let concerns = |pending: &Pending| pending.request.kind == kind && pending.loaded.is_some();
        let offered = self.leases.of(kind).offered.is_some();
        let coming = offered || self.leases.is_lost(kind);
        if !coming && let Some(index) = self.switches.pending.iter().position(concerns) {
            let id = self.switches.pending.swap_remove(index).id;
            let failure = SwitchFailure::new(SwitchStage::Swap, "it was gone before it could take over");
            self.switch_failed(id, kind, failure);
        }
    }

    fn model_missing(&mut self, reason: String) {
        let waits = self
            .reply
            .as_ref()
            .is_some_and(|reply| matches!(reply.generating, Generating::Waiting { .. }));
        if waits {
            self.generation_failed(
                &StageFailure {
                    backend: "llm".to_owned(),
                    reason,
                    retry: false,
                    retry_after_ms: 0,
                },
                ErrorCode::BackendMissing,
            );
        }
    }

    /// Says the configured sentence while something is being replaced that the user would wait for.
    fn fill(&mut self, kind: BackendKind) {
        let silent = self.reply.is_none() && self.says.is_empty() && self.call == super::call::Call::Live;
        let heard = matches!(kind, BackendKind::Stt | BackendKind::Llm) && self.leases.is_ready(BackendKind::Tts);
        if silent && heard && self.settings.stages.tts && !self.settings.filler.expose().trim().is_empty() {
            self.says.push_back(Say {
                text: self.settings.filler.clone(),
                interrupt: false,
                interruptible: true,
                remember: false,
            });
        }
    }

    /// The client asks for a switch.
    pub(super) fn switch(&mut self, request: SwitchRequest) {
        let id = self.ids.switch;
        self.ids.switch = id.next();
        let kind = request.kind;
        let under_way = self
            .switches
            .pending
            .iter()
            .find(|pending| pending.request.kind == kind);
        let beside = self.switches.shadows.iter().find(|(known, _)| *known == kind);
        let refusal = if request.is_empty() {
            Some("it names nothing to switch to: a backend, a model, a voice, a language or options".to_owned())
        } else if request.voice.is_some() && kind != BackendKind::Tts {
            Some(format!("a {kind} backend has no voice"))
        } else if request.shadow && request.keeps_model() {
            Some("only another backend or model can run beside the one that serves".to_owned())
        } else if request.shadow && !matches!(kind, BackendKind::Stt | BackendKind::Llm | BackendKind::Tts) {
            Some(format!("a {kind} backend can't run beside another"))
        } else if self.call != super::call::Call::Live {
            Some("the call is going away: nothing new is begun".to_owned())
        } else if let Some(pending) = under_way {
            Some(format!(
                "{} of {kind} is under way: wait for it, or cancel it",
                pending.id
            ))
        } else if let Some((_, shadow)) = beside.filter(|_| request.shadow) {
            Some(format!(
                "{shadow} runs a {kind} backend beside already: promote it, or cancel it"
            ))
        } else {
            None
        };
        if let Some(reason) = refusal {
            self.switch_failed(id, kind, SwitchFailure::new(SwitchStage::Request, reason));
            return;
        }
        self.switches.pending.push(Pending {
            id,
            old: self.leases.served(kind),
            request: request.clone(),
            loaded: None,
        });
        self.act(Action::Switch {
            id,
            request: Box::new(request),
        });
    }

    fn switch_failed(&mut self, switch: SwitchId, kind: BackendKind, failure: SwitchFailure) {
        let serving = self.leases.served(kind);
        self.emit(Event::SwitchFailed {
            switch,
            kind,
            failure,
            serving,
        });
    }

    /// The client calls off what is under way for this job: the switch, else what runs beside.
    pub(super) fn cancel_switch(&mut self, kind: BackendKind) {
        let pending = &mut self.switches.pending;
        let id = if let Some(index) = pending.iter().position(|pending| pending.request.kind == kind) {
            pending.swap_remove(index).id
        } else if let Some(index) = self.switches.shadows.iter().position(|(known, _)| *known == kind) {
            self.switches.shadows.swap_remove(index).1
        } else {
            self.refuse(ErrorCode::InvalidState, format!("no switch of {kind} is under way"));
            return;
        };
        self.act(Action::CancelSwitch { id });
        // What was loaded for this session alone and waits isn't wanted any more.
        self.leases.of_mut(kind).offered = None;
        self.switch_failed(
            id,
            kind,
            SwitchFailure::new(SwitchStage::Cancelled, "the client called it off"),
        );
    }

    /// What runs beside the live backend shall take its place.
    pub(super) fn promote_shadow(&mut self, kind: BackendKind) {
        let shadows = &mut self.switches.shadows;
        let Some(index) = shadows.iter().position(|(known, _)| *known == kind) else {
            self.refuse(
                ErrorCode::InvalidState,
                format!("nothing runs beside the {kind} backend: start it with a switch that has shadow = true"),
            );
            return;
        };
        if self.switches.pending.iter().any(|pending| pending.request.kind == kind) {
            self.refuse(
                ErrorCode::InvalidState,
                format!("another switch of {kind} is under way"),
            );
            return;
        }
        let (_, id) = shadows.swap_remove(index);
        self.switches.pending.push(Pending {
            id,
            request: SwitchRequest::new(kind),
            old: self.leases.served(kind),
            loaded: None,
        });
        self.act(Action::Promote { id });
    }

    pub(super) fn handle_switch(&mut self, id: SwitchId, progress: SwitchProgress) {
        if let SwitchProgress::Compared(comparison) = progress {
            match self.switches.shadows.iter().find(|(_, shadow)| *shadow == id) {
                Some((kind, _)) => self.emit(Event::Shadowed {
                    switch: id,
                    kind: *kind,
                    comparison,
                }),
                None => self.count_stale(),
            }
            return;
        }
        let Some(index) = self.switches.pending.iter().position(|pending| pending.id == id) else {
            // It may be a candidate that died.
            let shadows = &mut self.switches.shadows;
            if let (SwitchProgress::Failed(failure), Some(index)) =
                (progress, shadows.iter().position(|(_, shadow)| *shadow == id))
            {
                let (kind, _) = shadows.swap_remove(index);
                self.switch_failed(id, kind, failure);
            } else {
                self.count_stale();
            }
            return;
        };
        let pending = &mut self.switches.pending[index];
        let (kind, scope, shadow) = (pending.request.kind, pending.request.scope, pending.request.shadow);
        match progress {
            SwitchProgress::Started { to } => self.emit(Event::SwitchStarted {
                switch: id,
                kind,
                to,
                scope,
                shadow,
            }),
            SwitchProgress::Loaded {
                new,
                generation,
                load_ms,
            } => {
                pending.loaded = Some((new.clone(), generation, load_ms));
                if shadow {
                    let pending = self.switches.pending.swap_remove(index);
                    self.switches.shadows.push((kind, id));
                    self.emit(Event::Switched {
                        switch: id,
                        kind,
                        old: pending.old,
                        new,
                        scope,
                        shadow,
                        load_ms,
                        gap_ms: 0,
                    });
                } else {
                    self.conclude_switch(kind, false);
                }
            }
            SwitchProgress::Failed(failure) => {
                self.switches.pending.swap_remove(index);
                self.switch_failed(id, kind, failure);
            }
            SwitchProgress::Compared(_) => {}
        }
    }

    /// Tells the client that its switch was made, once what was loaded for it serves here; and of one that something else overtook, which was
    /// `adopted` just now. What was loaded may be older than what serves: loads are shared.
    fn conclude_switch(&mut self, kind: BackendKind, adopted: bool) {
        let concerns = |pending: &Pending| pending.request.kind == kind && pending.loaded.is_some();
        let Some(index) = self.switches.pending.iter().position(concerns) else {
            return;
        };
        let Some((new, generation, load_ms)) = self.switches.pending[index].loaded.clone() else {
            return;
        };
        let lease = self.leases.of(kind);
        let serves = self.leases.generation(kind).filter(|_| self.leases.is_ready(kind));
        let (here, overtaken) = match serves {
            _ if !lease.held => (true, false),
            Some(serves) => {
                // A later load of the same model is the same one, started again.
                let same = serves == generation || (serves > generation && lease.identity.as_ref() == Some(&new));
                (same, adopted && !same)
            }
            None => (false, false),
        };
        if !here && !overtaken {
            return;
        }
        let gap_ms = lease.gap_ms;
        let pending = self.switches.pending.swap_remove(index);
        let (switch, request) = (pending.id, pending.request);
        if overtaken {
            let failure = SwitchFailure::new(SwitchStage::Swap, "another switch overtook it");
            self.switch_failed(switch, kind, failure);
            return;
        }
        if request.scope == Scope::Session {
            if kind == BackendKind::Tts && request.voice.is_some() {
                self.settings.voice = request.voice;
            }
            if request.language.is_some() {
                self.settings.language = request.language;
            }
        }
        self.emit(Event::Switched {
            switch,
            kind,
            old: pending.old,
            new,
            scope: request.scope,
            shadow: false,
            load_ms,
            gap_ms,
        });
    }

    /// The call is over: nothing is switched any more.
    pub(super) fn end_switches(&mut self) {
        let Switches { pending, shadows } = std::mem::take(&mut self.switches);
        for id in pending
            .iter()
            .map(|pending| pending.id)
            .chain(shadows.iter().map(|(_, id)| *id))
        {
            self.act(Action::CancelSwitch { id });
        }
    }
}

fn identity(arrival: &Arrival) -> Served {
    Served {
        backend: arrival.name.clone(),
        model: arrival.model.clone(),
    }
}
