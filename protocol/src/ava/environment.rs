//! AVA's environment variables, which its `.env` file gives to `local_ai_server`: what each means here.

use std::fmt;

use super::PORT;
use super::selection::{Selection, find_setting};
use super::slot::{Slot, flag_in};
use super::texts::{FILLERS, VOICE_PREAMBLE};
use super::words::RuntimeMode;
use crate::native::Private;

/// Tokens of context where there is a GPU.
const CONTEXT_WITH_GPU: u32 = 2_048;

/// Threads of the language model, at most, where nobody says.
const MOST_THREADS: u32 = 16;

/// What the machine is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Processors.
    pub processors: u32,
}

/// What the environment says: what is chosen, and how the server behaves.
#[derive(Clone, Debug, PartialEq)]
pub struct Environment {
    /// Backends and models.
    pub selection: Selection,
    /// Everything else.
    pub server: Server,
}

/// How the server behaves.
#[derive(Clone, Debug, PartialEq)]
pub struct Server {
    /// Whether there is a language model.
    pub mode: RuntimeMode,
    /// What the host has found: a GPU, none, or nobody has looked.
    pub gpu_available: Option<bool>,
    /// The address to listen at.
    pub host: String,
    /// The port to listen at.
    pub port: u16,
    /// The shared secret; empty: none.
    pub token: Private,
    /// Load nothing, and say that all is loaded.
    pub mock_models: bool,
    /// Don't start where a model can't be loaded.
    pub fail_fast: bool,
    /// `DEBUG`, `INFO`, `WARNING` or `ERROR`.
    pub log_level: String,
    /// Log the audio's way.
    pub debug: bool,
    /// Without audio for so long (ms), what was heard becomes final.
    pub stt_idle_ms: u32,
    /// When speech begins and ends.
    pub segmenter: Segmenter,
    /// Somebody has said how large the context is to be.
    pub context_is_given: bool,
    /// A reply that takes longer (s) is given up.
    pub llm_timeout_s: f64,
    /// What stands before every system prompt.
    pub voice_preamble: Private,
    /// Texts at which a reply ends.
    pub stop_tokens: Vec<String>,
    /// The language model may be asked once more about tools.
    pub tool_gateway: bool,
    /// What is said while the caller waits.
    pub filler_phrases: Vec<String>,
    /// Keep what was spoken, to speak it again.
    pub phrase_cache: bool,
    /// Characters of a text that is kept, at most.
    pub phrase_cache_max_length: u32,
    /// Where the status is pushed to; empty: the Admin UI on this machine.
    pub live_status_url: String,
    /// The secret for that; empty: nothing is pushed.
    pub live_status_token: Private,
    /// How often it is pushed (s).
    pub live_status_interval_s: f64,
    /// How long a push may take (s).
    pub live_status_timeout_s: f64,
}

/// When speech begins and ends. `None`: as the engine has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Segmenter {
    /// Audio before the start of speech that belongs to it (ms).
    pub pre_roll_ms: Option<u32>,
    /// Speech that is shorter (ms) is none.
    pub min_ms: Option<u32>,
    /// Silence that ends speech (ms).
    pub silence_ms: Option<u32>,
    /// Speech ends after so long (ms) anyway.
    pub max_ms: Option<u32>,
}

impl Server {
    fn new(has_gpu: Option<bool>) -> Self {
        Self {
            mode: if has_gpu == Some(true) {
                RuntimeMode::Full
            } else {
                RuntimeMode::Minimal
            },
            gpu_available: has_gpu,
            host: "127.0.0.1".to_owned(),
            port: PORT,
            token: Private::default(),
            mock_models: false,
            fail_fast: false,
            log_level: "INFO".to_owned(),
            debug: false,
            stt_idle_ms: 5_000,
            segmenter: Segmenter::default(),
            context_is_given: false,
            llm_timeout_s: 20.0,
            voice_preamble: VOICE_PREAMBLE.into(),
            stop_tokens: ["<|user|>", "<|assistant|>", "<|end|>"].map(str::to_owned).to_vec(),
            tool_gateway: true,
            filler_phrases: FILLERS.map(str::to_owned).to_vec(),
            phrase_cache: false,
            phrase_cache_max_length: 200,
            live_status_url: String::new(),
            live_status_token: Private::default(),
            live_status_interval_s: 10.0,
            live_status_timeout_s: 10.0,
        }
    }
}

impl Environment {
    /// What holds where nobody says anything else.
    #[must_use]
    pub fn new(machine: Machine, has_gpu: Option<bool>) -> Self {
        let mut selection = Selection::default();
        selection.llm.threads = machine.processors.clamp(1, MOST_THREADS);
        if has_gpu == Some(true) {
            selection.llm.context = CONTEXT_WITH_GPU;
        }
        Self {
            selection,
            server: Server::new(has_gpu),
        }
    }

    /// Reads the variables that `lookup` knows.
    pub fn read(
        machine: Machine,
        lookup: impl Fn(&str) -> Option<String>,
    ) -> (Self, Vec<IgnoredVariable>, Vec<Mistake>) {
        let has_gpu = lookup("GPU_AVAILABLE").as_deref().and_then(flag_in);
        let mut environment = Self::new(machine, has_gpu);
        let (mut ignored, mut mistakes) = (Vec::new(), Vec::new());
        for variable in VARIABLES {
            let names = std::iter::once(variable.name).chain(variable.aliases.iter().copied());
            let found = names
                .filter_map(|name| lookup(name).map(|value| (name, value)))
                .find(|(_, value)| variable.keeps_empty || !value.trim().is_empty());
            let Some((name, value)) = found else { continue };
            match variable.usage {
                Use::Used => {}
                Use::Shown(reason) | Use::Ignored(reason) => ignored.push(IgnoredVariable { name, reason }),
            }
            let Some(slot) = variable.slot(&mut environment) else {
                continue;
            };
            let is_secret = matches!(slot, Slot::Secret(_) | Slot::Address(_));
            // Secrets are taken as they are; around everything else, spaces are a slip of the pen.
            let text = if matches!(slot, Slot::Secret(_)) {
                value.as_str()
            } else {
                value.trim()
            };
            match slot.set(text) {
                Ok(()) => environment.server.context_is_given |= variable.name == "LOCAL_LLM_CONTEXT",
                Err(expected) => mistakes.push(Mistake {
                    name,
                    value: if is_secret { None } else { Some(cut(text)) },
                    expected,
                }),
            }
        }
        (environment, ignored, mistakes)
    }
}

/// At most 64 characters of `text`, none of them a control character.
fn cut(text: &str) -> String {
    text.chars()
        .take(64)
        .map(|character| if character.is_control() { '\u{fffd}' } else { character })
        .collect()
}

/// A variable that is set and has no effect here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IgnoredVariable {
    /// The variable, as it was set.
    pub name: &'static str,
    /// Why it has no effect.
    pub reason: &'static str,
}

/// A variable whose value doesn't fit. The default holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The variable, as it was set.
    pub name: &'static str,
    /// Its value, cut; none where it may be secret.
    pub value: Option<String>,
    /// What would fit.
    pub expected: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} must be {}", self.name, self.expected)?;
        match &self.value {
            Some(value) => write!(formatter, ", not {value:?}"),
            None => Ok(()),
        }
    }
}

/// What becomes of a variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// It has its effect.
    Used,
    /// `status` shows it and `switch_model` changes it, but nothing here goes by it, and why.
    Shown(&'static str),
    /// Nothing, and why.
    Ignored(&'static str),
}

/// Where a variable's value goes.
#[derive(Clone, Copy)]
enum Place {
    /// To the setting of this name.
    Setting(&'static str),
    /// To a field of [`Server`].
    Server(for<'a> fn(&'a mut Server) -> Slot<'a>),
    /// Nowhere.
    Nowhere,
}

/// A variable.
#[derive(Clone, Copy)]
pub struct Variable {
    /// Its name.
    pub name: &'static str,
    /// Further names, which count where it isn't set itself.
    pub aliases: &'static [&'static str],
    /// What becomes of it.
    pub usage: Use,
    place: Place,
    /// Empty is a value of its own; elsewhere it is the same as not set.
    keeps_empty: bool,
}

impl fmt::Debug for Variable {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Variable")
            .field("name", &self.name)
            .field("aliases", &self.aliases)
            .field("usage", &self.usage)
            .finish_non_exhaustive()
    }
}

impl Variable {
    const fn new(name: &'static str, place: Place, usage: Use) -> Self {
        Self {
            name,
            aliases: &[],
            usage,
            place,
            keeps_empty: false,
        }
    }

    const fn or(mut self, aliases: &'static [&'static str]) -> Self {
        self.aliases = aliases;
        self
    }

    const fn or_empty(mut self) -> Self {
        self.keeps_empty = true;
        self
    }

    fn slot<'a>(&self, environment: &'a mut Environment) -> Option<Slot<'a>> {
        match self.place {
            Place::Setting(name) => find_setting(name).map(|setting| (setting.place)(&mut environment.selection)),
            Place::Server(place) => Some(place(&mut environment.server)),
            Place::Nowhere => None,
        }
    }

    /// What holds where it isn't set; empty: nothing, or nothing of its own.
    #[must_use]
    pub fn default_in(&self, environment: &Environment) -> String {
        let mut environment = environment.clone();
        self.slot(&mut environment).map_or(String::new(), |slot| slot.written())
    }
}

/// A variable for a setting that can be switched.
const fn setting(name: &'static str, setting: &'static str) -> Variable {
    Variable::new(name, Place::Setting(setting), Use::Used)
}

/// A variable for a setting that is only shown.
const fn shown(name: &'static str, setting: &'static str, reason: &'static str) -> Variable {
    Variable::new(name, Place::Setting(setting), Use::Shown(reason))
}

/// A variable for the server's behaviour.
const fn server(name: &'static str, place: for<'a> fn(&'a mut Server) -> Slot<'a>) -> Variable {
    Variable::new(name, Place::Server(place), Use::Used)
}

/// A variable without an effect.
const fn nothing(name: &'static str, reason: &'static str) -> Variable {
    Variable::new(name, Place::Nowhere, Use::Ignored(reason))
}

const OWN_VAD: &str = "one VAD of the engine's own serves every recogniser";
const NO_KROKO: &str = "there is no Kroko here";
const NO_MELOTTS: &str = "there is no MeloTTS here";
const NO_SILERO: &str = "there are no Silero voices here";
const OWN_FILES: &str = "the model's files say whether it is streaming";
const GREEDY: &str = "T-one is decoded greedily here";
const NO_CTRANSLATE: &str = "CTranslate2 models can't be run here: choose whisper_cpp";
const OWN_THREADS: &str = "workers.threads says how many threads a worker has";
const OWN_SAMPLING: &str = "the worker's own sampling is used";
const OWN_TEMPLATE: &str = "the chat template in the model's file is used";
const NO_MLOCK: &str = "memory isn't locked here";
const OF_VOICE: &str = "a Kokoro voice has its language in its name";
const NO_KOKORO_API: &str = "Kokoro runs here from a folder only";
const OWN_SPEED: &str = "tts.speed and tts.voice say how every voice speaks";
const OWN_LAYERS: &str = "the llama worker finds out how many layers fit";
const OWN_FILLERS: &str = "fillers are spoken by the synthesiser in use";
const UNUSED: &str = "local_ai_server reads it and never uses it";

/// The longest time that can be asked for, in ms.
const MOST_MS: i64 = 600_000;

/// Every variable that `local_ai_server` reads.
#[rustfmt::skip]
pub const VARIABLES: &[Variable] = &[
    server("LOCAL_AI_MODE", |all| Slot::Choice(&mut all.mode)),
    server("GPU_AVAILABLE", |all| Slot::MaybeFlag(&mut all.gpu_available)),
    server("LOCAL_WS_HOST", |all| Slot::Text(&mut all.host)),
    server("LOCAL_WS_PORT", |all| Slot::Whole(&mut all.port, 0..=65_535)),
    server("LOCAL_WS_AUTH_TOKEN", |all| Slot::Secret(&mut all.token)),
    server("LOCAL_AI_MOCK_MODELS", |all| Slot::Flag(&mut all.mock_models)),
    server("LOCAL_AI_FAIL_FAST", |all| Slot::Flag(&mut all.fail_fast)),
    server("LOCAL_LOG_LEVEL", |all| Slot::Text(&mut all.log_level)),
    server("LOCAL_DEBUG", |all| Slot::Flag(&mut all.debug)),
    setting("LOCAL_STT_BACKEND", "stt_backend"),
    setting("LOCAL_STT_MODEL_PATH", "vosk_model_path"),
    server("LOCAL_STT_IDLE_MS", |all| Slot::Whole(&mut all.stt_idle_ms, 100..=MOST_MS)).or(&["LOCAL_STT_IDLE_TIMEOUT_MS"]),
    nothing("LOCAL_STT_SEGMENT_ENERGY_THRESHOLD", OWN_VAD),
    server("LOCAL_STT_SEGMENT_PREROLL_MS", |all| Slot::MaybeWhole(&mut all.segmenter.pre_roll_ms, 0..=MOST_MS)),
    server("LOCAL_STT_SEGMENT_MIN_MS", |all| Slot::MaybeWhole(&mut all.segmenter.min_ms, 0..=MOST_MS)),
    server("LOCAL_STT_SEGMENT_SILENCE_MS", |all| Slot::MaybeWhole(&mut all.segmenter.silence_ms, 0..=MOST_MS)),
    server("LOCAL_STT_SEGMENT_MAX_MS", |all| Slot::MaybeWhole(&mut all.segmenter.max_ms, 0..=MOST_MS)),
    setting("SHERPA_MODEL_PATH", "sherpa_model_path"),
    shown("SHERPA_MODEL_TYPE", "sherpa_model_type", OWN_FILES),
    shown("SHERPA_VAD_MODEL_PATH", "sherpa_vad_model_path", OWN_VAD),
    nothing("SHERPA_VAD_THRESHOLD", OWN_VAD),
    nothing("SHERPA_VAD_MIN_SILENCE_MS", OWN_VAD),
    nothing("SHERPA_VAD_MIN_SPEECH_MS", OWN_VAD),
    nothing("SHERPA_OFFLINE_PREROLL_MS", OWN_VAD),
    nothing("SHERPA_OFFLINE_DEBUG_SEGMENTS", OWN_VAD),
    setting("TONE_MODEL_PATH", "tone_model_path"),
    shown("TONE_DECODER_TYPE", "tone_decoder_type", GREEDY),
    shown("TONE_KENLM_PATH", "tone_kenlm_path", GREEDY),
    shown("FASTER_WHISPER_MODEL", "faster_whisper_model", NO_CTRANSLATE),
    shown("FASTER_WHISPER_DEVICE", "faster_whisper_device", NO_CTRANSLATE),
    shown("FASTER_WHISPER_COMPUTE_TYPE", "faster_whisper_compute_type", NO_CTRANSLATE),
    shown("FASTER_WHISPER_LANGUAGE", "faster_whisper_language", NO_CTRANSLATE).or_empty(),
    setting("WHISPER_CPP_MODEL_PATH", "whisper_cpp_model_path").or(&["LOCAL_WHISPER_CPP_MODEL_PATH"]),
    setting("WHISPER_CPP_LANGUAGE", "whisper_cpp_language"),
    shown("KROKO_URL", "kroko_url", NO_KROKO),
    shown("KROKO_API_KEY", "kroko_api_key", NO_KROKO),
    shown("KROKO_LANGUAGE", "kroko_language", NO_KROKO),
    shown("KROKO_EMBEDDED", "kroko_embedded", NO_KROKO),
    shown("KROKO_MODEL_PATH", "kroko_model_path", NO_KROKO),
    shown("KROKO_PORT", "kroko_port", NO_KROKO),
    setting("LOCAL_LLM_MODEL_PATH", "llm_model_path"),
    shown("LOCAL_LLM_THREADS", "llm_threads", OWN_THREADS),
    setting("LOCAL_LLM_CONTEXT", "llm_context"),
    setting("LOCAL_LLM_BATCH", "llm_batch"),
    setting("LOCAL_LLM_MAX_TOKENS", "llm_max_tokens"),
    setting("LOCAL_LLM_TEMPERATURE", "llm_temperature"),
    shown("LOCAL_LLM_TOP_P", "llm_top_p", OWN_SAMPLING),
    shown("LOCAL_LLM_REPEAT_PENALTY", "llm_repeat_penalty", OWN_SAMPLING),
    setting("LOCAL_LLM_GPU_LAYERS", "llm_gpu_layers"),
    nothing("LOCAL_LLM_GPU_LAYERS_AUTO_DEFAULT", OWN_LAYERS),
    setting("LOCAL_LLM_SYSTEM_PROMPT", "llm_system_prompt"),
    server("LOCAL_LLM_VOICE_PREAMBLE", |all| Slot::Secret(&mut all.voice_preamble)).or_empty(),
    server("LOCAL_LLM_STOP_TOKENS", |all| Slot::List(&mut all.stop_tokens)).or_empty(),
    shown("LOCAL_LLM_CHAT_FORMAT", "llm_chat_format", OWN_TEMPLATE),
    shown("LOCAL_LLM_USE_MLOCK", "llm_use_mlock", NO_MLOCK),
    server("LOCAL_LLM_INFER_TIMEOUT_SEC", |all| Slot::Number(&mut all.llm_timeout_s, 0.1..=600.0)),
    server("LOCAL_TOOL_GATEWAY_ENABLED", |all| Slot::Flag(&mut all.tool_gateway)),
    setting("LOCAL_TTS_BACKEND", "tts_backend"),
    setting("LOCAL_TTS_MODEL_PATH", "tts_model_path"),
    setting("KOKORO_MODE", "kokoro_mode"),
    setting("KOKORO_VOICE", "kokoro_voice").or(&["LOCAL_TTS_VOICE"]),
    shown("KOKORO_LANG", "kokoro_lang", OF_VOICE),
    setting("KOKORO_MODEL_PATH", "kokoro_model_path"),
    shown("KOKORO_API_BASE_URL", "kokoro_api_base_url", NO_KOKORO_API),
    shown("KOKORO_API_KEY", "kokoro_api_key", NO_KOKORO_API),
    shown("KOKORO_API_MODEL", "kokoro_api_model", NO_KOKORO_API),
    shown("MELOTTS_VOICE", "melotts_voice", NO_MELOTTS),
    shown("MELOTTS_DEVICE", "melotts_device", NO_MELOTTS),
    shown("MELOTTS_SPEED", "melotts_speed", NO_MELOTTS),
    shown("SILERO_SPEAKER", "silero_speaker", NO_SILERO),
    shown("SILERO_LANGUAGE", "silero_language", NO_SILERO),
    shown("SILERO_MODEL_ID", "silero_model_id", NO_SILERO),
    shown("SILERO_SAMPLE_RATE", "silero_sample_rate", NO_SILERO),
    shown("SILERO_MODEL_PATH", "silero_model_path", NO_SILERO),
    setting("MATCHA_MODEL_PATH", "matcha_model_path"),
    setting("MATCHA_VOCODER_PATH", "matcha_vocoder_path"),
    shown("MATCHA_SPEED", "matcha_speed", OWN_SPEED),
    shown("MATCHA_SID", "matcha_sid", OWN_SPEED),
    setting("LOCAL_ENABLE_FILLER_AUDIO", "enable_filler_audio"),
    server("LOCAL_FILLER_PHRASES", |all| Slot::List(&mut all.filler_phrases)),
    nothing("LOCAL_FILLER_VOICE", OWN_FILLERS),
    nothing("LOCAL_FILLER_SPEED", OWN_FILLERS),
    setting("LOCAL_LLM_STREAMING_TTS_OVERLAP", "llm_streaming_tts_overlap"),
    server("LOCAL_TTS_PHRASE_CACHE_ENABLED", |all| Slot::Flag(&mut all.phrase_cache)).or(&["LOCAL_TTS_PHRASE_CACHE"]),
    server("LOCAL_TTS_PHRASE_CACHE_MAX_LEN", |all| Slot::Whole(&mut all.phrase_cache_max_length, 0..=4_096)),
    nothing("SILERO_DIRECT_MULAW", UNUSED),
    nothing("LOCAL_SPECULATIVE_LLM", UNUSED),
    nothing("LOCAL_SPECULATIVE_LLM_MAX_TOKENS", UNUSED),
    nothing("LOCAL_SPECULATIVE_LLM_STABILITY_MS", UNUSED),
    nothing("LOCAL_COMFORT_NOISE", UNUSED),
    server("LIVE_STATUS_ADMIN_URL", |all| Slot::Address(&mut all.live_status_url)).or(&["ADMIN_UI_URL"]),
    server("LIVE_STATUS_PUSH_TOKEN", |all| Slot::Secret(&mut all.live_status_token)).or(&["HEALTH_API_TOKEN"]),
    server("LIVE_STATUS_PUSH_INTERVAL_SECONDS", |all| Slot::Number(&mut all.live_status_interval_s, 2.0..=86_400.0)),
    server("LIVE_STATUS_PUSH_TIMEOUT_SECONDS", |all| Slot::Number(&mut all.live_status_timeout_s, 0.2..=600.0)),
    nothing("INCLUDE_SILERO", "what can be run is what the workers say"),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::words::{KokoroMode, SttBackend};
    use super::*;

    const MACHINE: Machine = Machine { processors: 6 };

    fn read(variables: &[(&str, &str)]) -> (Environment, Vec<IgnoredVariable>, Vec<Mistake>) {
        Environment::read(MACHINE, |name| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn every_variable_has_one_row_and_a_place() {
        let names: BTreeSet<_> = VARIABLES
            .iter()
            .flat_map(|variable| std::iter::once(&variable.name).chain(variable.aliases))
            .collect();
        let aliases: usize = VARIABLES.iter().map(|variable| variable.aliases.len()).sum();
        assert_eq!(names.len(), VARIABLES.len() + aliases);
        let mut environment = Environment::new(MACHINE, None);
        for variable in VARIABLES {
            let is_ignored = matches!(variable.usage, Use::Ignored(_));
            assert_eq!(
                variable.slot(&mut environment).is_none(),
                is_ignored,
                "{}",
                variable.name
            );
        }
    }

    /// Under each of its names, each variable changes something, or says why it doesn't.
    #[test]
    fn every_variable_takes_effect_or_says_why_not() {
        let values = [
            "other", "kroko", "kokoro", "offline", "greedy", "api", "full", "1", "0", "7", "9000", "0.5", "3.5",
        ];
        let nothing = Environment::new(MACHINE, None);
        for variable in VARIABLES {
            for name in std::iter::once(variable.name).chain(variable.aliases.iter().copied()) {
                let took = values.iter().any(|value| {
                    let (environment, _, mistakes) = read(&[(name, value)]);
                    mistakes.is_empty() && environment != nothing
                });
                let (_, ignored, _) = read(&[(name, "1")]);
                let says_why = ignored.iter().any(|ignored| ignored.name == name);
                assert_eq!(took, !matches!(variable.usage, Use::Ignored(_)), "{name}");
                assert_eq!(says_why, variable.usage != Use::Used, "{name}");
            }
        }
    }

    #[test]
    fn defaults_go_by_the_machine() {
        let (without, ignored, mistakes) = read(&[]);
        assert_eq!(without, Environment::new(MACHINE, None));
        assert_eq!((ignored.len(), mistakes.len()), (0, 0));
        assert_eq!(without.server.mode, RuntimeMode::Minimal);
        assert_eq!((without.selection.llm.context, without.selection.llm.threads), (768, 6));

        let (with, _, _) = read(&[("GPU_AVAILABLE", "true")]);
        assert_eq!(with.server.mode, RuntimeMode::Full);
        assert_eq!(
            (with.selection.llm.context, with.server.gpu_available),
            (2_048, Some(true))
        );

        let (given, _, _) = read(&[
            ("GPU_AVAILABLE", "1"),
            ("LOCAL_AI_MODE", "minimal"),
            ("LOCAL_LLM_CONTEXT", "512"),
        ]);
        assert_eq!(given.server.mode, RuntimeMode::Minimal);
        assert_eq!(
            (given.selection.llm.context, given.server.context_is_given),
            (512, true)
        );

        let large = Environment::new(Machine { processors: 128 }, None);
        assert_eq!(large.selection.llm.threads, 16);
    }

    #[test]
    fn what_the_documentation_says_are_the_defaults() {
        let environment = Environment::new(MACHINE, None);
        for (name, default) in [
            ("LOCAL_WS_HOST", "127.0.0.1"),
            ("LOCAL_WS_PORT", "8765"),
            ("LOCAL_STT_BACKEND", "vosk"),
            ("LOCAL_STT_IDLE_MS", "5000"),
            ("KROKO_PORT", "6006"),
            ("LOCAL_LLM_MAX_TOKENS", "64"),
            ("LOCAL_LLM_REPEAT_PENALTY", "1.05"),
            ("LOCAL_LLM_STOP_TOKENS", "<|user|>,<|assistant|>,<|end|>"),
            ("LOCAL_LLM_INFER_TIMEOUT_SEC", "20"),
            ("LOCAL_TOOL_GATEWAY_ENABLED", "1"),
            ("KOKORO_VOICE", "af_heart"),
            (
                "LOCAL_FILLER_PHRASES",
                "One moment please.,Let me check on that.,Sure thing.,Just a moment.",
            ),
            ("LOCAL_TTS_PHRASE_CACHE_MAX_LEN", "200"),
            ("LIVE_STATUS_PUSH_INTERVAL_SECONDS", "10"),
            ("GPU_AVAILABLE", ""),
            ("LOCAL_COMFORT_NOISE", ""),
        ] {
            let variable = VARIABLES
                .iter()
                .find(|variable| variable.name == name)
                .expect("it is there");
            assert_eq!(variable.default_in(&environment), default, "{name}");
        }
    }

    #[test]
    fn names_before_aliases_and_empty_is_not_set() {
        let (environment, _, mistakes) = read(&[
            ("KOKORO_VOICE", " "),
            ("LOCAL_TTS_VOICE", "af_sky"),
            ("KOKORO_MODE", "API"),
            ("WHISPER_CPP_MODEL_PATH", " /m/a.bin "),
            ("LOCAL_WHISPER_CPP_MODEL_PATH", "/m/b.bin"),
            ("LOCAL_STT_BACKEND", ""),
            ("FASTER_WHISPER_LANGUAGE", ""),
            ("LOCAL_LLM_VOICE_PREAMBLE", ""),
            ("LOCAL_LLM_STOP_TOKENS", " , a ,b"),
        ]);
        assert_eq!(mistakes, []);
        assert_eq!(environment.selection.tts.kokoro.voice, "af_sky");
        assert_eq!(environment.selection.tts.kokoro.mode, KokoroMode::Api);
        assert_eq!(environment.selection.stt.whisper_cpp.path, "/m/a.bin");
        assert_eq!(environment.selection.stt.backend, SttBackend::Vosk);
        assert_eq!(environment.selection.stt.faster_whisper.language, "");
        assert_eq!(environment.server.voice_preamble.expose(), "");
        assert_eq!(environment.server.stop_tokens, ["a", "b"]);
    }

    #[test]
    fn mistakes_are_told_and_change_nothing() {
        let hidden = format!("hush{}", "x".repeat(300_000));
        let (environment, _, mistakes) = read(&[
            ("LOCAL_WS_PORT", "70000"),
            ("LOCAL_STT_BACKEND", "whisper"),
            ("LOCAL_DEBUG", "perhaps"),
            ("LOCAL_LLM_TEMPERATURE", "NaN"),
            ("LOCAL_LLM_GPU_LAYERS", "many"),
            ("LOCAL_WS_AUTH_TOKEN", &hidden),
        ]);
        assert_eq!(environment, Environment::new(MACHINE, None));
        let told: Vec<_> = mistakes.iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "LOCAL_WS_PORT must be a whole number from 0 to 65535, not \"70000\"",
                "LOCAL_WS_AUTH_TOKEN must be at most 262144 characters",
                "LOCAL_DEBUG must be 1 or 0, true or false, yes or no, on or off, not \"perhaps\"",
                "LOCAL_STT_BACKEND must be one of vosk, sherpa, kroko, faster_whisper, whisper_cpp, tone, not \"whisper\"",
                "LOCAL_LLM_TEMPERATURE must be a number from 0 to 10, not \"NaN\"",
                "LOCAL_LLM_GPU_LAYERS must be a whole number from -1 to 10000, not \"many\"",
            ]
        );
    }
}
