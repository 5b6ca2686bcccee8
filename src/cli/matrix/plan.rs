//! What is tried: the rows of a walk, out of what the server says that it has.

use repartee_protocol::native::{BackendKind, Capability, ModelCapability};

/// One backend with one model and, for speech, one voice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) kind: BackendKind,
    pub(super) backend: String,
    /// Empty where the backend has none.
    pub(super) model: String,
    pub(super) voice: Option<String>,
    pub(super) synthetic: bool,
    /// Why it isn't tried.
    pub(super) absent: Option<Absent>,
}

/// Why something isn't tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Absent {
    pub(super) reason: String,
    pub(super) remedy: Option<String>,
}

impl Candidate {
    /// What it is called in a line.
    pub(super) fn name(&self) -> String {
        let mut name = format!("{} {}", self.kind.as_str(), self.backend);
        for part in [Some(&self.model), self.voice.as_ref()].into_iter().flatten() {
            if !part.is_empty() && *part != self.backend {
                name.push(' ');
                name.push_str(part);
            }
        }
        name
    }
}

/// The candidates of these jobs, job by job. Without `all`, one a backend: the first model that can be loaded, with its default voice.
pub(super) fn candidates(backends: &[Capability], kinds: &[BackendKind], all: bool) -> Vec<Candidate> {
    kinds
        .iter()
        .flat_map(|kind| backends.iter().filter(move |backend| backend.kind == *kind))
        .flat_map(|backend| of_backend(backend, all))
        .collect()
}

fn of_backend(backend: &Capability, all: bool) -> Vec<Candidate> {
    let can_serve = |model: &&ModelCapability| backend.available && model.available;
    let without_model = || Candidate {
        kind: backend.kind,
        backend: backend.backend.clone(),
        model: String::new(),
        voice: None,
        synthetic: false,
        absent: Some(absent(backend, None)).filter(|_| !backend.available),
    };
    if all {
        if backend.models.is_empty() {
            return vec![without_model()];
        }
        return backend
            .models
            .iter()
            .flat_map(|model| of_model(backend, model, true))
            .collect();
    }
    match backend.models.iter().find(can_serve) {
        Some(model) => of_model(backend, model, false),
        None if !backend.available || backend.models.is_empty() => vec![without_model()],
        None => backend
            .models
            .iter()
            .take(1)
            .flat_map(|model| of_model(backend, model, false))
            .collect(),
    }
}

fn of_model(backend: &Capability, model: &ModelCapability, all: bool) -> Vec<Candidate> {
    let absent = (!backend.available || !model.available).then(|| absent(backend, Some(model)));
    let candidate = |voice: Option<&String>| Candidate {
        kind: backend.kind,
        backend: backend.backend.clone(),
        model: model.model.clone(),
        voice: voice.cloned(),
        synthetic: model.synthetic,
        absent: absent.clone(),
    };
    let speaks = backend.kind == BackendKind::Tts && absent.is_none();
    match model.voices.as_slice() {
        voices @ [_, ..] if speaks && all => voices.iter().map(|voice| candidate(Some(voice))).collect(),
        [default, ..] if speaks => vec![candidate(Some(default))],
        _ => vec![candidate(None)],
    }
}

/// The model's own reason, else its backend's.
fn absent(backend: &Capability, model: Option<&ModelCapability>) -> Absent {
    let (reason, remedy) = match model {
        Some(model) if model.reason.is_some() => (model.reason.clone(), model.remedy.clone()),
        _ => (backend.reason.clone(), backend.remedy.clone()),
    };
    Absent {
        reason: reason.unwrap_or_else(|| "the server says that it isn't available".to_owned()),
        remedy,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(name: &str, available: bool, voices: &[&str]) -> ModelCapability {
        ModelCapability {
            model: name.to_owned(),
            description: String::new(),
            available,
            serving: false,
            reason: (!available).then(|| format!("{name} isn't here")),
            remedy: (!available).then(|| "fetch it".to_owned()),
            path: None,
            need_bytes: None,
            voices: voices.iter().map(|voice| (*voice).to_owned()).collect(),
            synthetic: false,
        }
    }

    fn backend(kind: BackendKind, name: &str, available: bool, models: Vec<ModelCapability>) -> Capability {
        Capability {
            kind,
            backend: name.to_owned(),
            available,
            reason: (!available).then(|| format!("{name} isn't built")),
            remedy: (!available).then(|| format!("make worker-{name}")),
            devices: Vec::new(),
            models,
        }
    }

    /// `backend/model/voice`, with `!` and the reason where it isn't tried.
    fn named(backends: &[Capability], all: bool) -> Vec<String> {
        candidates(backends, &[BackendKind::Stt, BackendKind::Tts], all)
            .into_iter()
            .map(|row| {
                let voice = row.voice.unwrap_or_default();
                let why = row
                    .absent
                    .map_or_else(String::new, |absent| format!("!{}", absent.reason));
                format!("{}/{}/{voice}{why}", row.backend, row.model)
            })
            .collect()
    }

    #[test]
    fn one_a_backend_or_all() {
        let backends = [
            backend(
                BackendKind::Tts,
                "flite",
                true,
                vec![model("flite", true, &["rms", "slt"])],
            ),
            backend(
                BackendKind::Stt,
                "whisper",
                true,
                vec![
                    model("big", false, &[]),
                    model("tiny", true, &[]),
                    model("base", true, &[]),
                ],
            ),
            backend(BackendKind::Stt, "vosk", false, Vec::new()),
            backend(
                BackendKind::Stt,
                "kroko",
                false,
                vec![model("a", false, &[]), model("b", true, &[])],
            ),
            backend(BackendKind::Stt, "empty", true, Vec::new()),
            backend(BackendKind::Llm, "parrot", true, vec![model("parrot", true, &[])]),
        ];
        assert_eq!(
            named(&backends, false),
            [
                "whisper/tiny/",
                "vosk//!vosk isn't built",
                "kroko//!kroko isn't built",
                "empty//",
                "flite/flite/rms"
            ]
        );
        assert_eq!(
            named(&backends, true),
            [
                "whisper/big/!big isn't here",
                "whisper/tiny/",
                "whisper/base/",
                "vosk//!vosk isn't built",
                "kroko/a/!a isn't here",
                "kroko/b/!kroko isn't built",
                "empty//",
                "flite/flite/rms",
                "flite/flite/slt"
            ]
        );
    }
}
