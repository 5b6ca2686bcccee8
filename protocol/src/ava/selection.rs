//! Which backends and models are chosen, in AVA's terms: what its environment variables set, `switch_model` changes, and `status`
//! reports.

use super::slot::Slot;
use super::texts::SYSTEM_PROMPT;
use super::words::{KokoroMode, SherpaKind, SttBackend, ToneDecoder, TtsBackend};
use crate::native::Private;

/// Everything that can be chosen. Its default is AVA's, on a machine without a GPU.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Selection {
    /// Speech to text.
    pub stt: Stt,
    /// Text to speech.
    pub tts: Tts,
    /// The language model.
    pub llm: Llm,
    /// What takes effect without a load.
    pub runtime: Runtime,
}

/// Speech to text: the backend, and what each would load.
#[derive(Clone, Debug, PartialEq)]
pub struct Stt {
    /// The backend in use.
    pub backend: SttBackend,
    /// Vosk: folder of the model.
    pub vosk_path: String,
    /// sherpa-onnx.
    pub sherpa: Sherpa,
    /// Kroko.
    pub kroko: Kroko,
    /// Faster-Whisper.
    pub faster_whisper: FasterWhisper,
    /// whisper.cpp.
    pub whisper_cpp: WhisperCpp,
    /// T-one.
    pub tone: Tone,
}

/// sherpa-onnx as a recogniser.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sherpa {
    /// Folder of the model.
    pub path: String,
    /// Streaming or not.
    pub kind: SherpaKind,
    /// A Silero VAD of its own, for models that don't stream; may be empty.
    pub vad_path: String,
}

/// Kroko.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kroko {
    /// Address of the hosted service.
    pub url: String,
    /// Key of the hosted service.
    pub api_key: Private,
    /// Language, such as `en-US`.
    pub language: String,
    /// A process on this machine, in place of the service.
    pub embedded: bool,
    /// That process's model.
    pub path: String,
    /// That process's port.
    pub port: u16,
}

/// Faster-Whisper.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FasterWhisper {
    /// Name of the model, such as `base`.
    pub model: String,
    /// `cpu`, `cuda` or `auto`.
    pub device: String,
    /// `int8`, `float16` or `float32`.
    pub compute_type: String,
    /// Language, such as `en`; empty or `auto`: as it sounds.
    pub language: String,
}

/// whisper.cpp.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WhisperCpp {
    /// The model's file.
    pub path: String,
    /// Language, such as `en`.
    pub language: String,
}

/// T-one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tone {
    /// Folder of the model.
    pub path: String,
    /// How it searches.
    pub decoder: ToneDecoder,
    /// The language model of words; empty: the one in the folder.
    pub kenlm_path: String,
}

/// Text to speech: the backend, and what each would load.
#[derive(Clone, Debug, PartialEq)]
pub struct Tts {
    /// The backend in use.
    pub backend: TtsBackend,
    /// Piper: the voice's file.
    pub piper_path: String,
    /// Kokoro.
    pub kokoro: Kokoro,
    /// MeloTTS.
    pub melotts: MeloTts,
    /// Silero.
    pub silero: Silero,
    /// Matcha.
    pub matcha: Matcha,
}

/// Kokoro.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kokoro {
    /// The voice, such as `af_heart`.
    pub voice: String,
    /// The language's letter, such as `a`.
    pub language: String,
    /// Where it runs.
    pub mode: KokoroMode,
    /// Folder of the model.
    pub path: String,
    /// Address of an HTTP interface; may be empty.
    pub api_base_url: String,
    /// Its key.
    pub api_key: Private,
    /// Its model.
    pub api_model: String,
}

/// MeloTTS.
#[derive(Clone, Debug, PartialEq)]
pub struct MeloTts {
    /// The voice, such as `EN-US`.
    pub voice: String,
    /// `cpu` or `cuda`.
    pub device: String,
    /// How fast, 1 is normal.
    pub speed: f64,
}

/// Silero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Silero {
    /// The voice, such as `xenia`.
    pub speaker: String,
    /// Language, such as `ru`.
    pub language: String,
    /// Name of the model.
    pub model_id: String,
    /// Its own samples per second.
    pub sample_rate: u32,
    /// Folder of the model.
    pub path: String,
}

/// Matcha.
#[derive(Clone, Debug, PartialEq)]
pub struct Matcha {
    /// The acoustic model's file.
    pub path: String,
    /// The vocoder's file.
    pub vocoder_path: String,
    /// How fast, 1 is normal.
    pub speed: f64,
    /// The speaker's number.
    pub speaker: u32,
}

/// The language model.
#[derive(Clone, Debug, PartialEq)]
pub struct Llm {
    /// The GGUF file.
    pub path: String,
    /// Threads.
    pub threads: u32,
    /// Tokens of context.
    pub context: u32,
    /// Tokens of one batch.
    pub batch: u32,
    /// Tokens of one reply, at most.
    pub max_tokens: u32,
    /// Temperature.
    pub temperature: f64,
    /// Nucleus sampling.
    pub top_p: f64,
    /// Penalty on repetition; 1: none.
    pub repeat_penalty: f64,
    /// Layers on the GPU; 0: none, -1: as many as fit.
    pub gpu_layers: i32,
    /// The prompt where a session brings none.
    pub system_prompt: Private,
    /// Keep the model in memory.
    pub use_mlock: bool,
    /// llama-cpp-python's name of a chat format; empty: Phi's, `auto`: the model's own.
    pub chat_format: String,
}

/// What takes effect without a load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Runtime {
    /// Say something while the caller waits.
    pub enable_filler_audio: bool,
    /// Speak a reply sentence by sentence.
    pub llm_streaming_tts_overlap: bool,
}

impl Default for Stt {
    fn default() -> Self {
        Self {
            backend: SttBackend::Vosk,
            vosk_path: "/app/models/stt/vosk-model-en-us-0.22".to_owned(),
            sherpa: Sherpa {
                path: "/app/models/stt/sherpa".to_owned(),
                kind: SherpaKind::Online,
                vad_path: String::new(),
            },
            kroko: Kroko {
                url: "wss://app.kroko.ai/api/v1/transcripts/streaming".to_owned(),
                api_key: Private::default(),
                language: "en-US".to_owned(),
                embedded: false,
                path: "/app/models/kroko/kroko-en-v1.0.onnx".to_owned(),
                port: 6006,
            },
            faster_whisper: FasterWhisper {
                model: "base".to_owned(),
                device: "cpu".to_owned(),
                compute_type: "int8".to_owned(),
                language: "en".to_owned(),
            },
            whisper_cpp: WhisperCpp {
                path: "/app/models/stt/ggml-base.en.bin".to_owned(),
                language: "en".to_owned(),
            },
            tone: Tone {
                path: "/app/models/stt/t-one".to_owned(),
                decoder: ToneDecoder::BeamSearch,
                kenlm_path: String::new(),
            },
        }
    }
}

impl Default for Tts {
    fn default() -> Self {
        Self {
            backend: TtsBackend::Piper,
            piper_path: "/app/models/tts/en_US-lessac-medium.onnx".to_owned(),
            kokoro: Kokoro {
                voice: "af_heart".to_owned(),
                language: "a".to_owned(),
                mode: KokoroMode::Local,
                path: "/app/models/tts/kokoro".to_owned(),
                api_base_url: String::new(),
                api_key: Private::default(),
                api_model: "model".to_owned(),
            },
            melotts: MeloTts {
                voice: "EN-US".to_owned(),
                device: "cpu".to_owned(),
                speed: 1.0,
            },
            silero: Silero {
                speaker: "xenia".to_owned(),
                language: "ru".to_owned(),
                model_id: "v3_1_ru".to_owned(),
                sample_rate: 8_000,
                path: "/app/models/tts/silero".to_owned(),
            },
            matcha: Matcha {
                path: "/app/models/tts/matcha/model.onnx".to_owned(),
                vocoder_path: "/app/models/tts/matcha/vocos.onnx".to_owned(),
                speed: 1.0,
                speaker: 0,
            },
        }
    }
}

impl Default for Llm {
    fn default() -> Self {
        Self {
            path: "/app/models/llm/phi-3-mini-4k-instruct.Q4_K_M.gguf".to_owned(),
            threads: 16,
            context: 768,
            batch: 128,
            max_tokens: 64,
            temperature: 0.4,
            top_p: 0.85,
            repeat_penalty: 1.05,
            gpu_layers: 0,
            system_prompt: SYSTEM_PROMPT.into(),
            use_mlock: false,
            chat_format: String::new(),
        }
    }
}

impl Default for Runtime {
    fn default() -> Self {
        Self {
            enable_filler_audio: false,
            llm_streaming_tts_overlap: true,
        }
    }
}

/// What must be done so that a selection takes effect in place of another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// The recogniser in use is another, or is loaded otherwise.
    pub stt: bool,
    /// The synthesiser in use is another, or is loaded otherwise.
    pub tts: bool,
    /// The language model is another, or is loaded otherwise.
    pub llm: bool,
    /// The language model is asked otherwise: prompt, sampling, length.
    pub llm_requests: bool,
    /// Fillers or overlap.
    pub runtime: bool,
}

impl Difference {
    /// Whether anything must be loaded.
    #[must_use]
    pub const fn loads(self) -> bool {
        self.stt || self.tts || self.llm
    }
}

impl Stt {
    /// Whether the backend in use hears the same way.
    fn serves_like(&self, other: &Self) -> bool {
        self.backend == other.backend
            && match self.backend {
                SttBackend::Vosk => self.vosk_path == other.vosk_path,
                SttBackend::Sherpa => self.sherpa == other.sherpa,
                SttBackend::Kroko => self.kroko == other.kroko,
                SttBackend::FasterWhisper => self.faster_whisper == other.faster_whisper,
                SttBackend::WhisperCpp => self.whisper_cpp == other.whisper_cpp,
                SttBackend::Tone => self.tone == other.tone,
            }
    }

    /// `path` of `status`: byte for byte what was asked for.
    #[must_use]
    pub fn path(&self) -> &str {
        match self.backend {
            SttBackend::Vosk => &self.vosk_path,
            SttBackend::Sherpa => &self.sherpa.path,
            SttBackend::Kroko if self.kroko.embedded => &self.kroko.path,
            SttBackend::Kroko => &self.kroko.url,
            SttBackend::FasterWhisper => &self.faster_whisper.model,
            SttBackend::WhisperCpp => &self.whisper_cpp.path,
            SttBackend::Tone => &self.tone.path,
        }
    }

    /// The language of the backend in use, where it has one; `None` also where it listens to any.
    #[must_use]
    pub fn language(&self) -> Option<&str> {
        match self.backend {
            SttBackend::Vosk | SttBackend::Sherpa => None,
            SttBackend::Kroko => Some(self.kroko.language.as_str()),
            SttBackend::FasterWhisper => Some(self.faster_whisper.language.as_str()),
            SttBackend::WhisperCpp => Some(self.whisper_cpp.language.as_str()),
            SttBackend::Tone => Some("ru"),
        }
        .filter(|language| !language.is_empty())
    }
}

impl Tts {
    /// Whether the backend in use speaks the same way.
    fn serves_like(&self, other: &Self) -> bool {
        self.backend == other.backend
            && match self.backend {
                TtsBackend::Piper => self.piper_path == other.piper_path,
                TtsBackend::Kokoro => self.kokoro == other.kokoro,
                TtsBackend::MeloTts => self.melotts == other.melotts,
                TtsBackend::Silero => self.silero == other.silero,
                TtsBackend::Matcha => self.matcha == other.matcha,
            }
    }

    /// `path` of `status`: byte for byte what was asked for.
    #[must_use]
    pub fn path(&self) -> String {
        match self.backend {
            TtsBackend::Piper => self.piper_path.clone(),
            TtsBackend::Kokoro => self.kokoro.path.clone(),
            TtsBackend::MeloTts => self.melotts.voice.clone(),
            TtsBackend::Silero => format!("{}:{}", self.silero.speaker, self.silero.model_id),
            TtsBackend::Matcha => self.matcha.path.clone(),
        }
    }
}

impl Llm {
    /// Whether the same model is loaded in the same way.
    fn loads_like(&self, other: &Self) -> bool {
        let loaded = |llm: &Self| {
            (
                llm.path.clone(),
                llm.threads,
                llm.context,
                llm.batch,
                llm.gpu_layers,
                llm.use_mlock,
                llm.chat_format.clone(),
            )
        };
        loaded(self) == loaded(other)
    }

    #[expect(
        clippy::float_cmp,
        reason = "the question is whether somebody has written another number"
    )]
    fn asks_like(&self, other: &Self) -> bool {
        self.max_tokens == other.max_tokens
            && self.temperature == other.temperature
            && self.top_p == other.top_p
            && self.repeat_penalty == other.repeat_penalty
            && self.system_prompt == other.system_prompt
    }
}

impl Selection {
    /// What must be done so that `next` takes effect in place of this one.
    #[must_use]
    pub fn difference(&self, next: &Self) -> Difference {
        Difference {
            stt: !self.stt.serves_like(&next.stt),
            tts: !self.tts.serves_like(&next.tts),
            llm: !self.llm.loads_like(&next.llm),
            llm_requests: !self.llm.asks_like(&next.llm),
            runtime: self.runtime != next.runtime,
        }
    }
}

/// A setting of a [`Selection`].
pub(super) struct Setting {
    /// Its name in `changed`.
    pub(super) name: &'static str,
    /// Its place.
    pub(super) place: for<'a> fn(&'a mut Selection) -> Slot<'a>,
}

const fn setting(name: &'static str, place: for<'a> fn(&'a mut Selection) -> Slot<'a>) -> Setting {
    Setting { name, place }
}

/// Every setting, once.
#[rustfmt::skip]
pub(super) const SETTINGS: &[Setting] = &[
    setting("stt_backend", |all| Slot::Choice(&mut all.stt.backend)),
    setting("vosk_model_path", |all| Slot::Path(&mut all.stt.vosk_path)),
    setting("sherpa_model_path", |all| Slot::Path(&mut all.stt.sherpa.path)),
    setting("sherpa_model_type", |all| Slot::Choice(&mut all.stt.sherpa.kind)),
    setting("sherpa_vad_model_path", |all| Slot::Path(&mut all.stt.sherpa.vad_path)),
    setting("kroko_url", |all| Slot::Address(&mut all.stt.kroko.url)),
    setting("kroko_api_key", |all| Slot::Secret(&mut all.stt.kroko.api_key)),
    setting("kroko_language", |all| Slot::Text(&mut all.stt.kroko.language)),
    setting("kroko_embedded", |all| Slot::Flag(&mut all.stt.kroko.embedded)),
    setting("kroko_model_path", |all| Slot::Path(&mut all.stt.kroko.path)),
    setting("kroko_port", |all| Slot::Whole(&mut all.stt.kroko.port, 1..=65_535)),
    setting("faster_whisper_model", |all| Slot::Path(&mut all.stt.faster_whisper.model)),
    setting("faster_whisper_device", |all| Slot::Text(&mut all.stt.faster_whisper.device)),
    setting("faster_whisper_compute_type", |all| Slot::Text(&mut all.stt.faster_whisper.compute_type)),
    setting("faster_whisper_language", |all| Slot::Text(&mut all.stt.faster_whisper.language)),
    setting("whisper_cpp_model_path", |all| Slot::Path(&mut all.stt.whisper_cpp.path)),
    setting("whisper_cpp_language", |all| Slot::Text(&mut all.stt.whisper_cpp.language)),
    setting("tone_model_path", |all| Slot::Path(&mut all.stt.tone.path)),
    setting("tone_decoder_type", |all| Slot::Choice(&mut all.stt.tone.decoder)),
    setting("tone_kenlm_path", |all| Slot::Path(&mut all.stt.tone.kenlm_path)),
    setting("tts_backend", |all| Slot::Choice(&mut all.tts.backend)),
    setting("tts_model_path", |all| Slot::Path(&mut all.tts.piper_path)),
    setting("kokoro_voice", |all| Slot::Text(&mut all.tts.kokoro.voice)),
    setting("kokoro_lang", |all| Slot::Text(&mut all.tts.kokoro.language)),
    setting("kokoro_mode", |all| Slot::Choice(&mut all.tts.kokoro.mode)),
    setting("kokoro_model_path", |all| Slot::Path(&mut all.tts.kokoro.path)),
    setting("kokoro_api_base_url", |all| Slot::Address(&mut all.tts.kokoro.api_base_url)),
    setting("kokoro_api_key", |all| Slot::Secret(&mut all.tts.kokoro.api_key)),
    setting("kokoro_api_model", |all| Slot::Text(&mut all.tts.kokoro.api_model)),
    setting("melotts_voice", |all| Slot::Text(&mut all.tts.melotts.voice)),
    setting("melotts_device", |all| Slot::Text(&mut all.tts.melotts.device)),
    setting("melotts_speed", |all| Slot::Number(&mut all.tts.melotts.speed, 0.1..=10.0)),
    setting("silero_speaker", |all| Slot::Text(&mut all.tts.silero.speaker)),
    setting("silero_language", |all| Slot::Text(&mut all.tts.silero.language)),
    setting("silero_model_id", |all| Slot::Text(&mut all.tts.silero.model_id)),
    setting("silero_sample_rate", |all| Slot::Whole(&mut all.tts.silero.sample_rate, 8_000..=48_000)),
    setting("silero_model_path", |all| Slot::Path(&mut all.tts.silero.path)),
    setting("matcha_model_path", |all| Slot::Path(&mut all.tts.matcha.path)),
    setting("matcha_vocoder_path", |all| Slot::Path(&mut all.tts.matcha.vocoder_path)),
    setting("matcha_speed", |all| Slot::Number(&mut all.tts.matcha.speed, 0.1..=10.0)),
    setting("matcha_sid", |all| Slot::Whole(&mut all.tts.matcha.speaker, 0..=100_000)),
    setting("llm_model_path", |all| Slot::Path(&mut all.llm.path)),
    setting("llm_threads", |all| Slot::Whole(&mut all.llm.threads, 1..=1_024)),
    setting("llm_context", |all| Slot::Whole(&mut all.llm.context, 64..=10_000_000)),
    setting("llm_batch", |all| Slot::Whole(&mut all.llm.batch, 1..=65_536)),
    setting("llm_max_tokens", |all| Slot::Whole(&mut all.llm.max_tokens, 1..=1_000_000)),
    setting("llm_temperature", |all| Slot::Number(&mut all.llm.temperature, 0.0..=10.0)),
    setting("llm_top_p", |all| Slot::Number(&mut all.llm.top_p, 0.0..=1.0)),
    setting("llm_repeat_penalty", |all| Slot::Number(&mut all.llm.repeat_penalty, 0.1..=10.0)),
    setting("llm_gpu_layers", |all| Slot::Whole(&mut all.llm.gpu_layers, -1..=10_000)),
    setting("llm_system_prompt", |all| Slot::Secret(&mut all.llm.system_prompt)),
    setting("llm_use_mlock", |all| Slot::Flag(&mut all.llm.use_mlock)),
    setting("llm_chat_format", |all| Slot::Text(&mut all.llm.chat_format)),
    setting("enable_filler_audio", |all| Slot::Flag(&mut all.runtime.enable_filler_audio)),
    setting("llm_streaming_tts_overlap", |all| Slot::Flag(&mut all.runtime.llm_streaming_tts_overlap)),
];

/// The setting with this name.
pub(super) fn find_setting(name: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.name == name)
}
