//! Backends that a simulated call switches to.

use super::{Deed, World};
use crate::call::{Served, SwitchFailure, SwitchRequest, SwitchStage};
use crate::id::{Generation, SwitchId};
use crate::session::{Input, SwitchProgress};

impl World {
    /// A switch to the model that is named "broken" fails, any other comes to its end.
    pub(super) fn begin_switch(&mut self, id: SwitchId, request: &SwitchRequest) {
        let to = Self::served(request);
        let failure = SwitchFailure::new(SwitchStage::Load, "the file ends in the middle");
        let fails = to.model == "broken";
        let started = Input::Switch {
            id,
            progress: SwitchProgress::Started { to },
        };
        self.plan(self.now, Deed::Deliver(Box::new(started)));
        self.switching.insert(id, request.clone());
        let at = self.now + self.latency(self.latencies.load);
        if fails {
            let failed = Input::Switch {
                id,
                progress: SwitchProgress::Failed(failure),
            };
            self.plan(at, Deed::Answer(Box::new(failed)));
        } else {
            self.plan(at, Deed::Loaded(id, Box::new(request.clone())));
        }
    }

    fn served(request: &SwitchRequest) -> Served {
        let kind = request.kind;
        Served {
            backend: format!("scripted-{kind}"),
            model: request.model.clone().unwrap_or_else(|| format!("scripted-{kind}-1")),
        }
    }

    pub(super) fn loaded(&mut self, id: SwitchId, request: &SwitchRequest) {
        if !self.switching.contains_key(&id) {
            return;
        }
        let new = Self::served(request);
        let kind = request.kind;
        let generation = Generation::new(self.loads.get(&kind).copied().unwrap_or_default() + 1);
        if !request.shadow {
            self.switching.remove(&id);
            self.models.insert(kind, new.model.clone());
            self.lost.remove(&kind);
        }
        self.deliver(Input::Switch {
            id,
            progress: SwitchProgress::Loaded {
                new,
                generation,
                load_ms: 400,
            },
        });
        if !request.shadow {
            self.ready(kind, request.when);
        }
    }
}
