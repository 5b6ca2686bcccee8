//! `status_response`: what is chosen, and what of it is loaded. Clients compare its paths byte for byte with what they asked for.

use serde::Serialize;
use std::collections::BTreeMap;

use super::selection::{Selection, Stt, Tts};
use super::slot::base_name;
use super::words::{Capability, KokoroMode, RuntimeMode, SherpaKind, SttBackend, ToneDecoder, TtsBackend};

/// What the server knows about itself beside what is chosen.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    /// The recogniser serves.
    pub stt_loaded: bool,
    /// The language model serves.
    pub llm_loaded: bool,
    /// The synthesiser serves.
    pub tts_loaded: bool,
    /// Layers of the language model that are on the GPU; `None`: nobody has looked.
    pub gpu_layers: Option<i32>,
    /// Whether there is to be a language model; minimal says it isn't loaded, whatever is.
    pub minimal: bool,
    /// Everything counts as loaded though nothing is.
    pub mock_models: bool,
    /// The prompt in the language model's context.
    pub prompt_fit: Option<PromptFit>,
    /// Where the size of the context comes from.
    pub auto_context: Option<AutoContext>,
    /// How well the language model calls tools.
    pub tool_capability: Option<ToolCapability>,
    /// The GPU.
    pub gpu: Gpu,
    /// `INFO`.
    pub log_level: String,
    /// The audio's way is logged.
    pub debug_audio: bool,
    /// The language model may be asked once more about tools.
    pub tool_gateway_enabled: bool,
    /// What couldn't be loaded, by job, and why.
    pub startup_errors: BTreeMap<&'static str, String>,
    /// What runs elsewhere than it was told to, by job.
    pub fallbacks: BTreeMap<&'static str, Fallback>,
}

/// A system prompt, measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct PromptFit {
    /// Characters.
    pub system_prompt_chars: usize,
    /// Tokens.
    pub system_prompt_tokens: usize,
    /// Tokens that are left for a reply.
    pub safe_max_tokens: usize,
}

/// Where the size of the context comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AutoContext {
    /// The server has chosen it.
    pub enabled: bool,
    /// `auto`, `cache`, `env` or `config`.
    pub source: &'static str,
    /// Tokens.
    pub selected_context: u32,
    /// What there was to choose from.
    pub candidates: Vec<u32>,
    /// Where the choice is remembered; empty: nowhere.
    pub cache_path: String,
}

/// How well the language model calls tools.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ToolCapability {
    /// How well. The engine picks its policy by it.
    pub level: Capability,
    /// Where this comes from: `startup_probe`, `runtime_mode`, `unloaded`, `load_failed`, `probe_failed` or `init`.
    pub source: &'static str,
    /// The model's file.
    pub model: String,
    /// More about it.
    pub notes: String,
    /// `json_schema`, `parser_fallback` or `none`.
    pub structured_mode: &'static str,
    /// When it was found out (ms since 1970).
    pub validated_at: Option<u64>,
    /// Changes when the model does.
    pub model_fingerprint: String,
}

/// The GPU.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Gpu {
    /// What the host has found, as `GPU_AVAILABLE` tells.
    pub host_preflight_detected: Option<bool>,
    /// `GPU_AVAILABLE` as it is written.
    pub host_preflight_raw: Option<String>,
    /// There is one.
    pub runtime_detected: bool,
    /// It can be used.
    pub runtime_usable: bool,
    /// How it was found: `nvidia-smi` or `none`.
    pub source: &'static str,
    /// Its name.
    pub name: Option<String>,
    /// Its memory in GiB.
    pub memory_gb: Option<f64>,
    /// Why it can't be used.
    pub error: Option<String>,
    /// When somebody looked (ms since 1970).
    pub checked_at_epoch_ms: u64,
}

impl Default for Gpu {
    /// None, and nobody has looked.
    fn default() -> Self {
        Self {
            host_preflight_detected: None,
            host_preflight_raw: None,
            runtime_detected: false,
            runtime_usable: false,
            source: "none",
            name: None,
            memory_gb: None,
            error: None,
            checked_at_epoch_ms: 0,
        }
    }
}

/// A backend that runs elsewhere than it was told to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fallback {
    /// The backend.
    pub backend: String,
    /// Where it should run.
    pub from_device: String,
    /// Where it runs.
    pub to_device: String,
    /// Why.
    pub reason: String,
    /// Since when (ms since 1970).
    pub at_epoch_ms: u64,
}

/// `status_response`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StatusResponse {
    #[serde(rename = "type")]
    kind: &'static str,
    status: &'static str,
    stt_backend: SttBackend,
    tts_backend: TtsBackend,
    models: Models,
    kroko: KrokoStatus,
    kokoro: KokoroStatus,
    silero: SileroStatus,
    gpu: Gpu,
    config: Config,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct Models {
    stt: SttStatus,
    llm: LlmStatus,
    tts: TtsStatus,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct SttStatus {
    backend: SttBackend,
    loaded: bool,
    path: String,
    display: String,
    language: Option<String>,
    device: Option<String>,
    compute_type: Option<String>,
    sherpa_model_type: Option<SherpaKind>,
    tone_decoder_type: Option<ToneDecoder>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct LlmStatus {
    loaded: bool,
    path: String,
    display: String,
    config: LlmConfig,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt_fit: Option<PromptFit>,
    #[serde(skip_serializing_if = "Option::is_none")]
    auto_context: Option<AutoContext>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_capability: Option<ToolCapability>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct LlmConfig {
    context: u32,
    threads: u32,
    batch: u32,
    max_tokens: u32,
    temperature: f64,
    top_p: f64,
    repeat_penalty: f64,
    gpu_layers: i32,
    gpu_layers_configured: i32,
    gpu_layers_effective: i32,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct TtsStatus {
    backend: TtsBackend,
    loaded: bool,
    path: String,
    display: String,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct KrokoStatus {
    embedded: bool,
    port: u16,
    language: String,
    url: String,
    model_path: String,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct KokoroStatus {
    mode: KokoroMode,
    voice: String,
    model_path: String,
    api_base_url: String,
    api_key_set: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct SileroStatus {
    language: String,
    speaker: String,
    model_id: String,
    model_path: String,
    sample_rate: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct Config {
    log_level: String,
    debug_audio: bool,
    enable_filler_audio: bool,
    llm_streaming_tts_overlap: bool,
    mock_models: bool,
    runtime_mode: RuntimeMode,
    tool_gateway_enabled: bool,
    degraded: bool,
    startup_errors: BTreeMap<&'static str, String>,
    runtime_fallbacks: BTreeMap<&'static str, Fallback>,
}

impl StatusResponse {
    /// What holds now.
    #[must_use]
    pub fn new(selection: &Selection, facts: &Facts) -> Self {
        let Selection { stt, tts, llm, runtime } = selection;
        let stt_loaded = facts.stt_loaded || facts.mock_models;
        let tts_loaded = facts.tts_loaded || facts.mock_models;
        let llm_loaded = (facts.llm_loaded || facts.mock_models) && !facts.minimal;
        let gpu_layers = facts.gpu_layers.unwrap_or(llm.gpu_layers.max(0));
        let of = |backend, text: &String| (stt.backend == backend).then(|| text.clone());
        Self {
            kind: "status_response",
            status: "ok",
            stt_backend: stt.backend,
            tts_backend: tts.backend,
            models: Models {
                stt: SttStatus {
                    backend: stt.backend,
                    loaded: stt_loaded,
                    path: stt.path().to_owned(),
                    display: stt.display(stt_loaded),
                    language: stt.language().map(str::to_owned),
                    device: of(SttBackend::FasterWhisper, &stt.faster_whisper.device),
                    compute_type: of(SttBackend::FasterWhisper, &stt.faster_whisper.compute_type),
                    sherpa_model_type: (stt.backend == SttBackend::Sherpa).then_some(stt.sherpa.kind),
                    tone_decoder_type: (stt.backend == SttBackend::Tone).then_some(stt.tone.decoder),
                },
                llm: LlmStatus {
                    loaded: llm_loaded,
                    path: llm.path.clone(),
                    display: base_name(&llm.path).to_owned(),
                    config: LlmConfig {
                        context: llm.context,
                        threads: llm.threads,
                        batch: llm.batch,
                        max_tokens: llm.max_tokens,
                        temperature: llm.temperature,
                        top_p: llm.top_p,
                        repeat_penalty: llm.repeat_penalty,
                        gpu_layers,
                        gpu_layers_configured: llm.gpu_layers,
                        gpu_layers_effective: gpu_layers,
                    },
                    prompt_fit: facts.prompt_fit,
                    auto_context: facts.auto_context.clone(),
                    tool_capability: facts.tool_capability.clone(),
                },
                tts: TtsStatus {
                    backend: tts.backend,
                    loaded: tts_loaded,
                    path: tts.path(),
                    display: tts.display(),
                },
            },
            kroko: KrokoStatus {
                embedded: stt.kroko.embedded,
                port: stt.kroko.port,
                language: stt.kroko.language.clone(),
                url: stt.kroko.url.clone(),
                model_path: stt.kroko.path.clone(),
            },
            kokoro: KokoroStatus {
                mode: tts.kokoro.mode,
                voice: tts.kokoro.voice.clone(),
                model_path: tts.kokoro.path.clone(),
                api_base_url: tts.kokoro.api_base_url.clone(),
                api_key_set: !tts.kokoro.api_key.expose().is_empty(),
            },
            silero: SileroStatus {
                language: tts.silero.language.clone(),
                speaker: tts.silero.speaker.clone(),
                model_id: tts.silero.model_id.clone(),
                model_path: tts.silero.path.clone(),
                sample_rate: tts.silero.sample_rate,
            },
            gpu: facts.gpu.clone(),
            config: Config {
                log_level: facts.log_level.clone(),
                debug_audio: facts.debug_audio,
                enable_filler_audio: runtime.enable_filler_audio,
                llm_streaming_tts_overlap: runtime.llm_streaming_tts_overlap,
                mock_models: facts.mock_models,
                runtime_mode: if facts.minimal {
                    RuntimeMode::Minimal
                } else {
                    RuntimeMode::Full
                },
                tool_gateway_enabled: facts.tool_gateway_enabled,
                degraded: !(facts.startup_errors.is_empty()
                    && stt_loaded
                    && tts_loaded
                    && (llm_loaded || facts.minimal)),
                startup_errors: facts.startup_errors.clone(),
                runtime_fallbacks: facts.fallbacks.clone(),
            },
        }
    }
}

impl Stt {
    /// `display` of `status`.
    fn display(&self, loaded: bool) -> String {
        match self.backend {
            SttBackend::Vosk => base_name(&self.vosk_path).to_owned(),
            SttBackend::Sherpa => format!("Sherpa ({}, {})", base_name(&self.sherpa.path), self.sherpa.kind),
            SttBackend::Kroko if self.kroko.embedded => format!("Kroko (embedded, port {})", self.kroko.port),
            SttBackend::Kroko => format!("Kroko ({})", self.kroko.language),
            SttBackend::FasterWhisper => {
                format!(
                    "Faster-Whisper ({}, {})",
                    self.faster_whisper.model, self.faster_whisper.language
                )
            }
            SttBackend::WhisperCpp if loaded => format!("Whisper.cpp ({})", self.whisper_cpp.language),
            SttBackend::WhisperCpp => "Whisper.cpp (not loaded)".to_owned(),
            SttBackend::Tone => format!("T-one ({}, {})", base_name(&self.tone.path), self.tone.decoder),
        }
    }
}

impl Tts {
    /// `display` of `status`.
    fn display(&self) -> String {
        match self.backend {
            TtsBackend::Piper => base_name(&self.piper_path).to_owned(),
            TtsBackend::Kokoro if self.kokoro.mode == KokoroMode::Api => {
                format!("Kokoro Web API ({})", self.kokoro.voice)
            }
            TtsBackend::Kokoro => format!("Kokoro ({}, mode={})", self.kokoro.voice, self.kokoro.mode),
            TtsBackend::MeloTts => format!("MeloTTS ({})", self.melotts.voice),
            TtsBackend::Silero => format!("Silero ({}/{})", self.silero.language, self.silero.speaker),
            TtsBackend::Matcha => {
                let folder = self.matcha.path.rsplit_once('/').map_or("", |(folder, _)| folder);
                format!("Matcha ({})", base_name(folder))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn status(selection: &Selection, facts: &Facts) -> Value {
        serde_json::to_value(StatusResponse::new(selection, facts)).expect("it has names for keys")
    }

    #[test]
    fn each_recogniser_shows_what_it_is() {
        let mut selection = Selection::default();
        for (backend, embedded, path, display, language) in [
            (
                SttBackend::Vosk,
                false,
                "/app/models/stt/vosk-model-en-us-0.22",
                "vosk-model-en-us-0.22",
                Value::Null,
            ),
            (
                SttBackend::Sherpa,
                false,
                "/app/models/stt/sherpa",
                "Sherpa (sherpa, online)",
                Value::Null,
            ),
            (
                SttBackend::Kroko,
                false,
                "wss://app.kroko.ai/api/v1/transcripts/streaming",
                "Kroko (en-US)",
                json!("en-US"),
            ),
            (
                SttBackend::Kroko,
                true,
                "/app/models/kroko/kroko-en-v1.0.onnx",
                "Kroko (embedded, port 6006)",
                json!("en-US"),
            ),
            (
                SttBackend::FasterWhisper,
                false,
                "base",
                "Faster-Whisper (base, en)",
                json!("en"),
            ),
            (
                SttBackend::WhisperCpp,
                false,
                "/app/models/stt/ggml-base.en.bin",
                "Whisper.cpp (en)",
                json!("en"),
            ),
            (
                SttBackend::Tone,
                false,
                "/app/models/stt/t-one",
                "T-one (t-one, beam_search)",
                json!("ru"),
            ),
        ] {
            selection.stt.backend = backend;
            selection.stt.kroko.embedded = embedded;
            let facts = Facts {
                stt_loaded: true,
                ..Facts::default()
            };
            let shown = status(&selection, &facts)["models"]["stt"].clone();
            assert_eq!(
                (&shown["path"], &shown["display"], &shown["language"]),
                (&json!(path), &json!(display), &language),
                "{backend}"
            );
            assert_eq!(shown["device"].is_null(), backend != SttBackend::FasterWhisper);
            assert_eq!(shown["sherpa_model_type"].is_null(), backend != SttBackend::Sherpa);
            assert_eq!(shown["tone_decoder_type"].is_null(), backend != SttBackend::Tone);
        }
        selection.stt.backend = SttBackend::WhisperCpp;
        let shown = status(&selection, &Facts::default());
        assert_eq!(shown["models"]["stt"]["display"], "Whisper.cpp (not loaded)");
    }

    #[test]
    fn each_synthesiser_shows_what_it_is() {
        let mut selection = Selection::default();
        for (backend, mode, path, display) in [
            (
                TtsBackend::Piper,
                KokoroMode::Local,
                "/app/models/tts/en_US-lessac-medium.onnx",
                "en_US-lessac-medium.onnx",
            ),
            (
                TtsBackend::Kokoro,
                KokoroMode::Hf,
                "/app/models/tts/kokoro",
                "Kokoro (af_heart, mode=hf)",
            ),
            (
                TtsBackend::Kokoro,
                KokoroMode::Api,
                "/app/models/tts/kokoro",
                "Kokoro Web API (af_heart)",
            ),
            (TtsBackend::MeloTts, KokoroMode::Local, "EN-US", "MeloTTS (EN-US)"),
            (
                TtsBackend::Silero,
                KokoroMode::Local,
                "xenia:v3_1_ru",
                "Silero (ru/xenia)",
            ),
            (
                TtsBackend::Matcha,
                KokoroMode::Local,
                "/app/models/tts/matcha/model.onnx",
                "Matcha (matcha)",
            ),
        ] {
            selection.tts.backend = backend;
            selection.tts.kokoro.mode = mode;
            let shown = status(&selection, &Facts::default())["models"]["tts"].clone();
            assert_eq!(
                (&shown["path"], &shown["display"]),
                (&json!(path), &json!(display)),
                "{backend}"
            );
        }
    }

    #[test]
    fn loaded_and_degraded() {
        let loaded = |facts: &Facts| {
            let shown = status(&Selection::default(), facts);
            let of = |job: &str| shown["models"][job]["loaded"].as_bool().expect("a flag");
            let degraded = shown["config"]["degraded"].as_bool().expect("a flag");
            (of("stt"), of("llm"), of("tts"), degraded)
        };
        let all = Facts {
            stt_loaded: true,
            llm_loaded: true,
            tts_loaded: true,
            ..Facts::default()
        };
        assert_eq!(loaded(&Facts::default()), (false, false, false, true));
        assert_eq!(loaded(&all), (true, true, true, false));
        assert_eq!(
            loaded(&Facts {
                minimal: true,
                ..all.clone()
            }),
            (true, false, true, false)
        );
        assert_eq!(
            loaded(&Facts {
                mock_models: true,
                ..Facts::default()
            }),
            (true, true, true, false)
        );
        let errors = BTreeMap::from([("stt", "no such file".to_owned())]);
        assert_eq!(
            loaded(&Facts {
                startup_errors: errors,
                ..all
            }),
            (true, true, true, true)
        );
    }

    #[test]
    fn a_key_is_not_told() {
        let mut selection = Selection::default();
        selection.tts.kokoro.api_key = "hush".into();
        selection.stt.kroko.api_key = "hush".into();
        let shown = status(&selection, &Facts::default());
        assert_eq!(shown["kokoro"]["api_key_set"], true);
        assert!(!shown.to_string().contains("hush"));
    }
}
