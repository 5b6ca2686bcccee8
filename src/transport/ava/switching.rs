//! `switch_model`, `reload_models`, `reload_llm`: AVA's names for models, as requests to the switchboard. A switch that fails leaves
//! everything as it was.

use std::collections::BTreeMap;

use repartee_protocol::ava::{
    KokoroMode, Llm, ReloadLlm, ReloadResponse, RequestId, Selection, Stt, SttBackend, SwitchModel, SwitchResponse,
    Tts, TtsBackend, texts,
};

use super::Ava;
use crate::call::{BackendKind, Scope, SwitchRequest};
use crate::registry::{Slot, Update};

/// The workers that stand in for AVA's backends.
pub(super) const SHERPA: &str = "sherpa";
pub(super) const WHISPER: &str = "whisper";
pub(super) const LLAMA: &str = "llama";

/// A request for the whole server.
fn request(kind: BackendKind, backend: &str, model: &str) -> SwitchRequest {
    SwitchRequest {
        backend: Some(backend.to_owned()),
        model: Some(model.to_owned()),
        scope: Scope::Server,
        ..SwitchRequest::new(kind)
    }
}

/// A language as a tag; `auto` and nothing mean any.
fn language(tag: &str) -> Option<String> {
    let tag = tag.trim();
    (!tag.is_empty() && !tag.eq_ignore_ascii_case("auto")).then(|| tag.to_owned())
}

/// What the chosen recogniser comes to here.
///
/// # Errors
/// It can't be had, with the remedy.
fn stt(stt: &Stt) -> Result<SwitchRequest, String> {
    let kind = BackendKind::Stt;
    Ok(match stt.backend {
        SttBackend::Vosk => request(kind, SHERPA, &stt.vosk_path),
        SttBackend::Sherpa => request(kind, SHERPA, &stt.sherpa.path),
        SttBackend::Tone => SwitchRequest {
            language: Some("ru".to_owned()),
            ..request(kind, SHERPA, &stt.tone.path)
        },
        SttBackend::Kroko if stt.kroko.embedded => request(kind, SHERPA, &stt.kroko.path),
        SttBackend::Kroko => {
            return Err(
                "Kroko's hosted service isn't used here: set kroko_embedded and name a model in plain ONNX".to_owned(),
            );
        }
        SttBackend::WhisperCpp => SwitchRequest {
            language: language(&stt.whisper_cpp.language),
            ..request(kind, WHISPER, &stt.whisper_cpp.path)
        },
        SttBackend::FasterWhisper => {
            return Err(format!(
                "faster_whisper's CTranslate2 models can't be run here: choose whisper_cpp with a ggml file, such as \
                 /app/models/stt/ggml-{}.bin",
                stt.faster_whisper.model.rsplit('/').next().unwrap_or_default()
            ));
        }
    })
}

/// What the chosen synthesiser comes to here.
///
/// # Errors
/// It can't be had, with the remedy.
fn tts(tts: &Tts) -> Result<SwitchRequest, String> {
    let kind = BackendKind::Tts;
    Ok(match tts.backend {
        TtsBackend::Piper => request(kind, SHERPA, &tts.piper_path),
        TtsBackend::Kokoro => match tts.kokoro.mode {
            KokoroMode::Local => SwitchRequest {
                voice: language(&tts.kokoro.voice),
                ..request(kind, SHERPA, &tts.kokoro.path)
            },
            KokoroMode::Hf | KokoroMode::Api => {
                return Err(
                    "Kokoro runs here from a folder only: set kokoro_mode to local, with the ONNX model".to_owned(),
                );
            }
        },
        TtsBackend::Matcha => {
            let mut files = BTreeMap::new();
            if !tts.matcha.vocoder_path.is_empty() {
                files.insert("vocoder".to_owned(), tts.matcha.vocoder_path.clone());
            }
            SwitchRequest {
                files,
                ..request(kind, SHERPA, &tts.matcha.path)
            }
        }
        TtsBackend::MeloTts => {
            return Err("MeloTTS names no model file: choose piper with the path of its ONNX model".to_owned());
        }
        TtsBackend::Silero => {
            return Err(
                "Silero's models are torch packages, which can't be run here: choose piper or kokoro".to_owned(),
            );
        }
    })
}

/// What the chosen language model comes to here. Threads are the workers' own business.
fn llm(llm: &Llm) -> SwitchRequest {
    let mut options = BTreeMap::new();
    options.insert("context".to_owned(), llm.context.into());
    options.insert("batch".to_owned(), llm.batch.into());
    if llm.gpu_layers >= 0 {
        options.insert("gpu_layers".to_owned(), llm.gpu_layers.into());
    }
    SwitchRequest {
        options,
        ..request(BackendKind::Llm, LLAMA, &llm.path)
    }
}

/// What `selection` comes to for this job.
///
/// # Errors
/// It can't be had, with the remedy.
fn wanted(selection: &Selection, kind: BackendKind) -> Result<SwitchRequest, String> {
    match kind {
        BackendKind::Stt => stt(&selection.stt),
        BackendKind::Tts => tts(&selection.tts),
        _ => Ok(llm(&selection.llm)),
    }
}

impl Ava {
    /// `switch_model` for the whole server. Answered when all that was asked for serves, or when it won't.
    pub(super) async fn switch(&self, switch: &SwitchModel, request_id: Option<RequestId>) -> SwitchResponse {
        let _turn = self.control().switching.lock().await;
        let before = self.control().selections();
        let outcome = switch.apply(&before.shown);
        if switch.dry_run || self.server().mock_models {
            self.control().show(outcome.selection.clone());
            return SwitchResponse::switched(request_id, &outcome);
        }
        let names = |key: &str| outcome.changed.iter().any(|change| change.starts_with(key));
        let difference = before.loaded.difference(&outcome.selection);
        // What is named once more and isn't there is tried once more.
        let again = |kind, key| names(key) && self.lacks(kind);
        let mut kinds = Vec::new();
        if difference.stt || again(BackendKind::Stt, "stt_backend=") {
            kinds.push(BackendKind::Stt);
        }
        if difference.tts || again(BackendKind::Tts, "tts_backend=") {
            kinds.push(BackendKind::Tts);
        }
        if (difference.llm || again(BackendKind::Llm, "llm_model_path=")) && !self.is_minimal() {
            kinds.push(BackendKind::Llm);
        }
        match self.load(&before.loaded, &outcome.selection, &kinds).await {
            Ok(()) => {
                self.control().load(outcome.selection.clone());
                SwitchResponse::switched(request_id, &outcome)
            }
            Err(reason) => {
                tracing::warn!("switch_model failed; what served before serves on: {reason}");
                SwitchResponse::failed(request_id, &reason)
            }
        }
    }

    /// Loads what `next` wants for these jobs; where one fails, those before it are taken back.
    async fn load(&self, before: &Selection, next: &Selection, kinds: &[BackendKind]) -> Result<(), String> {
        let wanted: Vec<SwitchRequest> = kinds.iter().map(|kind| wanted(next, *kind)).collect::<Result<_, _>>()?;
        for (done, request) in wanted.into_iter().enumerate() {
            let kind = request.kind;
            if let Err(reason) = self.switch_one(request).await {
                for kind in &kinds[..done] {
                    let back = match self::wanted(before, *kind) {
                        Ok(request) => self.switch_one(request).await,
                        Err(reason) => Err(reason),
                    };
                    if let Err(reason) = back {
                        tracing::error!("the {kind} before a failed switch is not back: {reason}");
                    }
                }
                return Err(format!("{kind}: {reason}"));
            }
        }
        Ok(())
    }

    async fn switch_one(&self, request: SwitchRequest) -> Result<(), String> {
        let Some(board) = self.engine().switchboard() else {
            return Err("this server's backends can't be switched".to_owned());
        };
        let kind = request.kind;
        let serving = self.engine().registry().lease(kind);
        let serving = serving.map(|serving| serving.capabilities().clone());
        let is_vosk = kind == BackendKind::Stt && request.model.as_ref().is_some_and(|model| model.contains("vosk"));
        let mut switching = board.begin(request, serving);
        loop {
            match switching.update().await {
                Some(Update::Started { to }) => tracing::info!("loading {kind} {to}"),
                Some(Update::Loaded { .. }) => return Ok(()),
                Some(Update::Failed(failure)) => {
                    let mut reason = failure.reason;
                    if is_vosk {
                        reason.push_str("; Kaldi models of Vosk can't be run here: choose sherpa or whisper_cpp");
                    }
                    return Err(reason);
                }
                None => return Err("the switch came to no end".to_owned()),
            }
        }
    }

    /// Loads what is chosen for these jobs at the start. What can't be had is missing from then on, with the reason; answers those reasons.
    pub async fn load_chosen(&self, kinds: &[BackendKind]) -> Vec<String> {
        let _turn = self.control().switching.lock().await;
        let selection = self.control().shown();
        let mut missing = Vec::new();
        for kind in kinds {
            let loaded = match wanted(&selection, *kind) {
                Ok(request) => self.switch_one(request).await,
                Err(reason) => Err(reason),
            };
            if let Err(reason) = loaded {
                missing.push(format!("{kind}: {reason}"));
                self.engine().registry().mark_missing(*kind, reason);
            }
        }
        self.control().changed.notify_one();
        missing
    }

    /// `reload_models`: what is chosen and doesn't serve is loaded. What serves already is what was chosen: it stays.
    pub(super) async fn reload(&self) -> ReloadResponse {
        let _turn = self.control().switching.lock().await;
        let selections = self.control().selections();
        let difference = selections.loaded.difference(&selections.shown);
        let serves = |kind| matches!(self.engine().registry().state(kind), Slot::Ready(_));
        let mut kinds = Vec::new();
        for (kind, differs) in [
            (BackendKind::Stt, difference.stt),
            (BackendKind::Tts, difference.tts),
            (BackendKind::Llm, difference.llm),
        ] {
            if (differs || !serves(kind)) && !(kind == BackendKind::Llm && self.is_minimal()) {
                kinds.push(kind);
            }
        }
        if self.server().mock_models {
            kinds.clear();
        }
        match self.load(&selections.loaded, &selections.shown, &kinds).await {
            Ok(()) => {
                self.control().load(selections.shown);
                ReloadResponse::success(texts::RELOADED)
            }
            Err(reason) => ReloadResponse::error(&reason),
        }
    }

    /// `reload_llm`, with another model where it names one.
    pub(super) async fn reload_llm(&self, reload: &ReloadLlm) -> ReloadResponse {
        let _turn = self.control().switching.lock().await;
        let selections = self.control().selections();
        let mut next = selections.shown.clone();
        if let Some(path) = &reload.model_path {
            next.llm.path.clone_from(path);
        }
        if self.is_minimal() {
            return ReloadResponse::error("LOCAL_AI_MODE is minimal: there is no language model");
        }
        let serves = !self.lacks(BackendKind::Llm);
        let kinds: &[BackendKind] = if serves && !selections.loaded.difference(&next).llm || self.server().mock_models {
            &[]
        } else {
            &[BackendKind::Llm]
        };
        match self.load(&selections.loaded, &next, kinds).await {
            Ok(()) => {
                let answer = ReloadResponse::llm(&next.llm);
                let loaded = Selection {
                    llm: next.llm,
                    ..selections.loaded
                };
                let shown = Selection {
                    llm: loaded.llm.clone(),
                    ..selections.shown
                };
                self.control().load(loaded);
                self.control().show(shown);
                answer
            }
            Err(reason) => ReloadResponse::error(&reason),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_avas_backends_come_to_here() {
        let mut selection = Selection::default();
        let told = |selection: &Selection, kind| {
            wanted(selection, kind)
                .map(|request| (request.backend.unwrap_or_default(), request.model.unwrap_or_default()))
        };
        for (backend, worker) in [
            (SttBackend::Vosk, Some(SHERPA)),
            (SttBackend::Sherpa, Some(SHERPA)),
            (SttBackend::Tone, Some(SHERPA)),
            (SttBackend::WhisperCpp, Some(WHISPER)),
            (SttBackend::Kroko, None),
            (SttBackend::FasterWhisper, None),
        ] {
            selection.stt.backend = backend;
            let told = told(&selection, BackendKind::Stt);
            assert_eq!(told.as_ref().ok().map(|(name, _)| name.as_str()), worker, "{backend}");
            if let Ok((_, model)) = told {
                assert_eq!(model, selection.stt.path(), "the path is handed on as it was written");
            }
        }
        for (backend, worker) in [
            (TtsBackend::Piper, Some(SHERPA)),
            (TtsBackend::Kokoro, Some(SHERPA)),
            (TtsBackend::Matcha, Some(SHERPA)),
            (TtsBackend::MeloTts, None),
            (TtsBackend::Silero, None),
        ] {
            selection.tts.backend = backend;
            let told = told(&selection, BackendKind::Tts);
            assert_eq!(told.as_ref().ok().map(|(name, _)| name.as_str()), worker, "{backend}");
        }
        let request = wanted(&selection, BackendKind::Llm).expect("llama.cpp runs every GGUF file");
        assert_eq!(request.options["context"], 768);
        assert_eq!(request.scope, Scope::Server);
    }
}
