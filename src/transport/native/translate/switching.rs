//! Switching backends in the words of the wire.

use repartee_protocol::native::{self, Thousandths};

use crate::call::{self, BackendKind, Event, SwitchRequest};
use crate::registry::{Capability, ModelCapability};

pub(super) const fn kind(kind: native::BackendKind) -> BackendKind {
    match kind {
        native::BackendKind::Vad => BackendKind::Vad,
        native::BackendKind::Turn => BackendKind::Turn,
        native::BackendKind::Stt => BackendKind::Stt,
        native::BackendKind::Llm => BackendKind::Llm,
        native::BackendKind::Tts => BackendKind::Tts,
    }
}

pub(super) const fn wire_kind(kind: BackendKind) -> native::BackendKind {
    match kind {
        BackendKind::Vad => native::BackendKind::Vad,
        BackendKind::Turn => native::BackendKind::Turn,
        BackendKind::Stt => native::BackendKind::Stt,
        BackendKind::Llm => native::BackendKind::Llm,
        BackendKind::Tts => native::BackendKind::Tts,
    }
}

pub(super) fn request(switch: native::Switch) -> SwitchRequest {
    SwitchRequest {
        kind: kind(switch.kind),
        backend: switch.backend,
        model: switch.model,
        voice: switch.voice,
        language: switch.language,
        files: switch.files,
        options: switch.options,
        scope: match switch.scope {
            native::SwitchScope::Session => call::Scope::Session,
            native::SwitchScope::Server => call::Scope::Server,
        },
        when: match switch.when {
            native::SwitchWhen::Now => call::When::Now,
            native::SwitchWhen::NextTurn => call::When::NextTurn,
        },
        replace: switch.replace,
        shadow: switch.shadow,
    }
}

const fn scope(scope: call::Scope) -> native::SwitchScope {
    match scope {
        call::Scope::Session => native::SwitchScope::Session,
        call::Scope::Server => native::SwitchScope::Server,
    }
}

fn served(served: call::Served) -> native::Served {
    native::Served {
        backend: served.backend,
        model: served.model,
    }
}

const fn stage(stage: call::SwitchStage) -> native::SwitchStage {
    match stage {
        call::SwitchStage::Request => native::SwitchStage::Request,
        call::SwitchStage::Resolve => native::SwitchStage::Resolve,
        call::SwitchStage::Check => native::SwitchStage::Check,
        call::SwitchStage::Load => native::SwitchStage::Load,
        call::SwitchStage::Verify => native::SwitchStage::Verify,
        call::SwitchStage::Swap => native::SwitchStage::Swap,
        call::SwitchStage::Cancelled => native::SwitchStage::Cancelled,
    }
}

/// What became of a switch; none for any other event.
pub(super) fn event(event: Event) -> Option<native::Event> {
    Some(match event {
        Event::SwitchStarted {
            switch,
            kind,
            to,
            scope: whom,
            shadow,
        } => native::Event::SwitchStarted(native::SwitchStarted {
            switch: switch.to_string(),
            kind: wire_kind(kind),
            to: served(to),
            scope: scope(whom),
            shadow,
        }),
        Event::Switched {
            switch,
            kind,
            old,
            new,
            scope: whom,
            shadow,
            load_ms,
            gap_ms,
        } => native::Event::Switched(native::Switched {
            switch: switch.to_string(),
            kind: wire_kind(kind),
            old: old.map(served),
            new: served(new),
            scope: scope(whom),
            shadow,
            load_ms,
            gap_ms,
        }),
        Event::SwitchFailed {
            switch,
            kind,
            failure,
            serving,
        } => native::Event::SwitchFailed(native::SwitchFailed {
            switch: switch.to_string(),
            kind: wire_kind(kind),
            stage: stage(failure.stage),
            reason: failure.reason,
            replace_may_help: failure.replace_may_help,
            serving: serving.map(served),
        }),
        Event::Shadowed { kind, comparison, .. } => native::Event::Shadowed(native::Shadowed {
            kind: wire_kind(kind),
            agreement: comparison.agreement_per_mille.map(Thousandths::new),
            live_ms: comparison.live_ms,
            candidate_ms: comparison.candidate_ms,
        }),
        _ => return None,
    })
}

/// The answer to `capabilities`.
pub(in super::super) fn capabilities(backends: Vec<Capability>, reply_to: Option<String>) -> native::Capabilities {
    native::Capabilities {
        backends: backends.into_iter().map(capability).collect(),
        reply_to,
    }
}

fn capability(capability: Capability) -> native::Capability {
    native::Capability {
        kind: wire_kind(capability.kind),
        backend: capability.backend,
        available: capability.available,
        reason: capability.reason,
        remedy: capability.remedy,
        devices: capability.devices,
        models: capability.models.into_iter().map(model).collect(),
    }
}

fn model(model: ModelCapability) -> native::ModelCapability {
    native::ModelCapability {
        model: model.model,
        description: model.description,
        available: model.available,
        serving: model.serving,
        reason: model.reason,
        remedy: model.remedy,
        path: model.path,
        need_bytes: model.need_bytes,
        voices: model.voices,
        synthetic: model.synthetic,
    }
}
