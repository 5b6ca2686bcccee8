//! What a switch may call `backend`: the backends of this engine, what people call models that a worker runs under another name, and what
//! others have and this engine hasn't.

use crate::call::BackendKind;
use crate::supervisor::KNOWN_WORKERS;

/// How alike two names must be (0 to 1) for one to be proposed for the other, as with the keys of the configuration.
const ALIKE: f64 = 0.8;

/// A family of models that a worker runs. A switch may name it for its worker; it then takes its models only.
#[derive(Clone, Copy, Debug)]
pub(super) struct Family {
    /// What people call it.
    pub(super) name: &'static str,
    /// What it does.
    pub(super) kind: BackendKind,
    /// Who runs it.
    pub(super) worker: &'static str,
}

const fn family(name: &'static str, kind: BackendKind, worker: &'static str) -> Family {
    Family { name, kind, worker }
}

/// The families that have a name of their own, and a row among the capabilities.
pub(super) const FAMILIES: &[Family] = &[
    family("tone", BackendKind::Stt, "sherpa"),
    family("kroko", BackendKind::Stt, "sherpa"),
    family("piper", BackendKind::Tts, "sherpa"),
    family("kokoro", BackendKind::Tts, "sherpa"),
    family("melotts", BackendKind::Tts, "sherpa"),
    family("matcha", BackendKind::Tts, "sherpa"),
];

/// Other names of workers: these have no rows of their own.
const SYNONYMS: &[(&str, &str)] = &[
    ("whisper_cpp", "whisper"),
    ("llama_cpp", "llama"),
    ("webrtc_vad", "webrtc"),
];

/// A backend that other engines have.
#[derive(Clone, Copy, Debug)]
pub(super) struct Absent {
    /// What it is called.
    pub(super) name: &'static str,
    /// What it would do.
    pub(super) kind: BackendKind,
    /// Why it isn't here.
    pub(super) reason: &'static str,
    /// What is here instead.
    pub(super) remedy: &'static str,
}

/// What clients may ask for, and is told with what to take instead.
pub(super) const ABSENT: &[Absent] = &[
    Absent {
        name: "vosk",
        kind: BackendKind::Stt,
        reason: "this engine has no worker for Vosk",
        remedy: "take sherpa with a streaming zipformer, or pocketsphinx",
    },
    Absent {
        name: "faster_whisper",
        kind: BackendKind::Stt,
        reason: "this engine has no worker for faster-whisper (CTranslate2)",
        remedy: "take whisper with the ggml file of the same model",
    },
    Absent {
        name: "silero",
        kind: BackendKind::Tts,
        reason: "this engine has no worker for Silero's voices (PyTorch)",
        remedy: "take sherpa with a voice of Piper or Kokoro",
    },
];

/// What `backend` names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Named {
    /// A worker, or something in this process, by its own name; with the family that was meant.
    Backend(String, Option<&'static str>),
    /// Something that is known and isn't here.
    Absent(String),
    /// Nothing that is known.
    Unknown(String),
}

/// The backends of this process for a job.
pub(super) const fn in_process(kind: BackendKind) -> &'static [&'static str] {
    match kind {
        BackendKind::Vad => &["auto", "silero", "webrtc"],
        BackendKind::Turn => &["smart-turn"],
        BackendKind::Llm => &["openai", "parrot"],
        BackendKind::Stt | BackendKind::Tts => &[],
    }
}

/// Finds the backend that is called `written`; `installed` are the workers that are here.
pub(super) fn find(kind: BackendKind, written: &str, installed: &[String]) -> Named {
    // Small letters, and one way to write what is between words.
    let plain = |name: &str| name.trim().to_lowercase().replace(['-', '.', ' '], "_");
    let name = plain(written);
    let synonym = SYNONYMS
        .iter()
        .find(|(synonym, _)| *synonym == name)
        .map(|(_, name)| *name);
    let known = names(kind, installed);
    if let Some(found) = known
        .iter()
        .find(|known| synonym == Some(known) || plain(known) == name)
    {
        return match FAMILIES
            .iter()
            .find(|family| family.kind == kind && family.name == found)
        {
            Some(family) => Named::Backend(family.worker.to_owned(), Some(family.name)),
            None => Named::Backend(found.clone(), None),
        };
    }
    if let Some(absent) = ABSENT.iter().find(|absent| absent.kind == kind && absent.name == name) {
        return Named::Absent(format!("{}: {}", absent.reason, absent.remedy));
    }
    let meant = match nearest(written, known.iter().map(String::as_str)) {
        Some(nearest) => format!("; did you mean {nearest}? There"),
        None => "; there".to_owned(),
    };
    Named::Unknown(format!(
        "there is no {kind} backend {written:?}{meant} are {}",
        known.join(", ")
    ))
}

/// Everything that can be named for a job.
fn names(kind: BackendKind, installed: &[String]) -> Vec<String> {
    let mut names: Vec<String> = in_process(kind).iter().map(|name| (*name).to_owned()).collect();
    let own = KNOWN_WORKERS
        .iter()
        .filter(|worker| worker.jobs.iter().any(|job| super::kind_of(*job) == kind));
    names.extend(own.map(|worker| worker.name.to_owned()));
    if !matches!(kind, BackendKind::Vad | BackendKind::Turn) {
        // What an operator's own worker does is known when it is asked.
        let foreign = installed
            .iter()
            .filter(|name| !KNOWN_WORKERS.iter().any(|worker| worker.name == **name));
        names.extend(foreign.cloned());
    }
    names.extend(
        FAMILIES
            .iter()
            .filter(|family| family.kind == kind)
            .map(|family| family.name.to_owned()),
    );
    names
}

/// The candidate that is most like `name`, if any is alike.
pub(super) fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let name = name.to_lowercase();
    candidates
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(&name, &candidate.to_lowercase()), candidate))
        .filter(|(likeness, _)| *likeness >= ALIKE)
        .max_by(|one, other| one.0.total_cmp(&other.0))
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_others_are_understood() {
        let find = |kind, name: &str| find(kind, name, &["mine".to_owned()]);
        let backend = |name: &str| Named::Backend(name.to_owned(), None);
        for name in ["whisper", "whisper_cpp", "Whisper.cpp", "whisper-cpp"] {
            assert_eq!(find(BackendKind::Stt, name), backend("whisper"), "{name}");
        }
        assert_eq!(find(BackendKind::Llm, "llama_cpp"), backend("llama"));
        assert_eq!(find(BackendKind::Turn, "smart_turn"), backend("smart-turn"));
        assert_eq!(find(BackendKind::Stt, "mine"), backend("mine"));
        assert_eq!(
            find(BackendKind::Tts, "piper"),
            Named::Backend("sherpa".to_owned(), Some("piper"))
        );
        // A detector of speech and a voice have the same name.
        assert_eq!(find(BackendKind::Vad, "silero"), backend("silero"));
        assert!(matches!(find(BackendKind::Tts, "silero"), Named::Absent(told) if told.contains("Piper")));
        assert!(matches!(find(BackendKind::Stt, "faster-whisper"), Named::Absent(told) if told.contains("ggml")));
    }

    #[test]
    fn what_is_unknown_is_told_with_what_there_is() {
        let told = |kind, name: &str| match find(kind, name, &[]) {
            Named::Unknown(told) => told,
            other => panic!("{other:?}"),
        };
        let one = told(BackendKind::Stt, "wisper");
        assert!(
            one.contains("did you mean whisper?") && one.contains("pocketsphinx"),
            "{one}"
        );
        let none = told(BackendKind::Tts, "zzz");
        assert_eq!(
            none,
            "there is no tts backend \"zzz\"; there are flite, sherpa, piper, kokoro, melotts, matcha"
        );
        // A recogniser is no voice.
        assert!(told(BackendKind::Tts, "pocketsphinx").contains("no tts backend"));
    }
}
