//! `switch_model` for the whole server: which settings it names, and what they make of a selection.

use std::fmt;

use serde_json::{Map, Value};

use super::selection::{Difference, Selection, find_setting};
use super::slot::flag_of;
use super::texts::NOTHING_TO_APPLY;
use super::words::{SttBackend, TtsBackend};

/// The nested objects, in the order in which they count; what stands at the top counts last.
const STT: &str = "stt_config";
const TTS: &str = "tts_config";
const LLM: &str = "llm_config";
const RUNTIME: &str = "runtime_config";
const TOP: &str = "";

/// A key of the message: where it stands, its name there, the setting that it means.
struct Key(&'static str, &'static str, Meaning);

/// What a key means.
#[derive(Clone, Copy)]
enum Meaning {
    /// The setting of this name.
    Setting(&'static str),
    /// The model of the recogniser in use.
    SttPath,
    /// The model of the synthesiser in use, as far as Piper and Kokoro have one.
    TtsPath,
    /// The voice of the synthesiser in use.
    Voice,
}
use Meaning::Setting as To;

/// Every key, in the order in which they count: within an object, the backend comes first, as paths and voices go by it.
#[rustfmt::skip]
const KEYS: &[Key] = &[
    Key(STT, "model", To("faster_whisper_model")),
    Key(STT, "device", To("faster_whisper_device")),
    Key(STT, "compute_type", To("faster_whisper_compute_type")),
    Key(STT, "faster_whisper_language", To("faster_whisper_language")),
    Key(STT, "model_path", To("vosk_model_path")),
    Key(STT, "sherpa_model_path", To("sherpa_model_path")),
    Key(STT, "sherpa_model_type", To("sherpa_model_type")),
    Key(STT, "sherpa_vad_model_path", To("sherpa_vad_model_path")),
    Key(STT, "url", To("kroko_url")),
    Key(STT, "kroko_url", To("kroko_url")),
    Key(STT, "language", To("kroko_language")),
    Key(STT, "kroko_language", To("kroko_language")),
    Key(STT, "port", To("kroko_port")),
    Key(STT, "kroko_port", To("kroko_port")),
    Key(STT, "embedded", To("kroko_embedded")),
    Key(STT, "kroko_embedded", To("kroko_embedded")),
    Key(STT, "kroko_model_path", To("kroko_model_path")),
    Key(STT, "whisper_cpp_model_path", To("whisper_cpp_model_path")),
    Key(STT, "whisper_cpp_language", To("whisper_cpp_language")),
    Key(STT, "tone_model_path", To("tone_model_path")),
    Key(STT, "tone_decoder_type", To("tone_decoder_type")),
    Key(STT, "tone_kenlm_path", To("tone_kenlm_path")),
    Key(TTS, "model_path", To("tts_model_path")),
    Key(TTS, "voice", Meaning::Voice),
    Key(TTS, "lang", To("kokoro_lang")),
    Key(TTS, "mode", To("kokoro_mode")),
    Key(TTS, "api_base_url", To("kokoro_api_base_url")),
    Key(TTS, "api_key", To("kokoro_api_key")),
    Key(TTS, "api_model", To("kokoro_api_model")),
    Key(TTS, "speed", To("melotts_speed")),
    Key(TTS, "device", To("melotts_device")),
    Key(TTS, "silero_speaker", To("silero_speaker")),
    Key(TTS, "silero_language", To("silero_language")),
    Key(TTS, "silero_model_id", To("silero_model_id")),
    Key(TTS, "silero_model_path", To("silero_model_path")),
    Key(TTS, "sample_rate", To("silero_sample_rate")),
    Key(LLM, "model_path", To("llm_model_path")),
    Key(LLM, "threads", To("llm_threads")),
    Key(LLM, "context", To("llm_context")),
    Key(LLM, "batch", To("llm_batch")),
    Key(LLM, "max_tokens", To("llm_max_tokens")),
    Key(LLM, "temperature", To("llm_temperature")),
    Key(LLM, "top_p", To("llm_top_p")),
    Key(LLM, "repeat_penalty", To("llm_repeat_penalty")),
    Key(LLM, "gpu_layers", To("llm_gpu_layers")),
    Key(LLM, "system_prompt", To("llm_system_prompt")),
    Key(LLM, "use_mlock", To("llm_use_mlock")),
    Key(LLM, "chat_format", To("llm_chat_format")),
    Key(RUNTIME, "enable_filler_audio", To("enable_filler_audio")),
    Key(RUNTIME, "llm_streaming_tts_overlap", To("llm_streaming_tts_overlap")),
    Key(TOP, "stt_model_path", Meaning::SttPath),
    Key(TOP, "sherpa_model_path", To("sherpa_model_path")),
    Key(TOP, "sherpa_model_type", To("sherpa_model_type")),
    Key(TOP, "sherpa_vad_model_path", To("sherpa_vad_model_path")),
    Key(TOP, "kroko_model_path", To("kroko_model_path")),
    Key(TOP, "kroko_language", To("kroko_language")),
    Key(TOP, "kroko_url", To("kroko_url")),
    Key(TOP, "kroko_port", To("kroko_port")),
    Key(TOP, "kroko_embedded", To("kroko_embedded")),
    Key(TOP, "whisper_cpp_model_path", To("whisper_cpp_model_path")),
    Key(TOP, "whisper_cpp_language", To("whisper_cpp_language")),
    Key(TOP, "faster_whisper_language", To("faster_whisper_language")),
    Key(TOP, "tone_model_path", To("tone_model_path")),
    Key(TOP, "tone_decoder_type", To("tone_decoder_type")),
    Key(TOP, "tone_kenlm_path", To("tone_kenlm_path")),
    Key(TOP, "tts_model_path", Meaning::TtsPath),
    Key(TOP, "kokoro_voice", To("kokoro_voice")),
    Key(TOP, "kokoro_mode", To("kokoro_mode")),
    Key(TOP, "kokoro_model_path", To("kokoro_model_path")),
    Key(TOP, "kokoro_api_base_url", To("kokoro_api_base_url")),
    Key(TOP, "kokoro_api_key", To("kokoro_api_key")),
    Key(TOP, "kokoro_api_model", To("kokoro_api_model")),
    Key(TOP, "silero_speaker", To("silero_speaker")),
    Key(TOP, "silero_language", To("silero_language")),
    Key(TOP, "silero_model_id", To("silero_model_id")),
    Key(TOP, "silero_model_path", To("silero_model_path")),
    Key(TOP, "matcha_model_path", To("matcha_model_path")),
    Key(TOP, "matcha_vocoder_path", To("matcha_vocoder_path")),
    Key(TOP, "llm_model_path", To("llm_model_path")),
    Key(TOP, "enable_filler_audio", To("enable_filler_audio")),
    Key(TOP, "llm_streaming_tts_overlap", To("llm_streaming_tts_overlap")),
];

/// `switch_model` for the whole server.
#[derive(Clone, PartialEq)]
pub struct SwitchModel {
    /// Nothing is loaded; the settings change, and `status` shows them.
    pub dry_run: bool,
    stt_backend: Option<SttBackend>,
    tts_backend: Option<TtsBackend>,
    /// Places in [`KEYS`] with what stands there, in their order.
    assignments: Vec<(usize, Value)>,
}

impl fmt::Debug for SwitchModel {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("SwitchModel")
            .field("dry_run", &self.dry_run)
            .field("stt_backend", &self.stt_backend)
            .field("tts_backend", &self.tts_backend)
            .field("keys", &self.keys())
            .finish()
    }
}

/// What a `switch_model` makes of a selection.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The selection afterwards.
    pub selection: Selection,
    /// What counts as a change, for `changed`: `key=value`.
    pub changed: Vec<String>,
    /// What must be done so that it takes effect.
    pub difference: Difference,
    /// Whether models count as switched: not where all changes are of the kind that needs no load.
    switches: bool,
    dry_run: bool,
}

impl Outcome {
    /// `message` of the answer, once all has worked.
    #[must_use]
    pub fn message(&self) -> String {
        let changed = self.changed.join(", ");
        if self.changed.is_empty() {
            NOTHING_TO_APPLY.to_owned()
        } else if self.dry_run {
            format!("Models switched (dry_run): {changed}")
        } else if self.switches {
            format!("Models switched and reloaded: {changed}")
        } else {
            format!("Runtime config updated: {changed}")
        }
    }
}

impl SwitchModel {
    pub(super) fn read(object: &Map<String, Value>) -> Self {
        let backend = |name: &str| Some(object.get(name)?.as_str()?.trim().to_lowercase());
        let assignments = KEYS
            .iter()
            .enumerate()
            .filter_map(|(index, Key(place, name, _))| {
                let value = if place.is_empty() {
                    object.get(*name)
                } else {
                    object.get(*place)?.get(*name)
                };
                let value = value.filter(|value| value.is_string() || value.is_number() || value.is_boolean())?;
                Some((index, value.clone()))
            })
            .collect();
        Self {
            dry_run: object.get("dry_run").and_then(flag_of).unwrap_or(false),
            stt_backend: backend("stt_backend").and_then(|name| SttBackend::parse(&name)),
            tts_backend: backend("tts_backend").and_then(|name| TtsBackend::parse(&name)),
            assignments,
        }
    }

    /// The recogniser that it names.
    #[must_use]
    pub const fn stt_backend(&self) -> Option<SttBackend> {
        self.stt_backend
    }

    /// The synthesiser that it names.
    #[must_use]
    pub const fn tts_backend(&self) -> Option<TtsBackend> {
        self.tts_backend
    }

    /// The names of what it sets beside backends: `stt_config.model`, `kokoro_voice`.
    #[must_use]
    pub fn keys(&self) -> Vec<String> {
        self.assignments
            .iter()
            .filter_map(|(index, _)| KEYS.get(*index))
            .map(|Key(place, name, _)| {
                if place.is_empty() {
                    (*name).to_owned()
                } else {
                    format!("{place}.{name}")
                }
            })
            .collect()
    }

    /// What it makes of `current`. Values that don't fit are overlooked.
    ///
    /// Nested objects count before what stands at the top, which so wins. A nested value counts as a change only where it is
    /// another; one at the top always does.
    #[must_use]
    pub fn apply(&self, current: &Selection) -> Outcome {
        let mut selection = current.clone();
        let mut changed: Vec<(&'static str, String)> = Vec::new();
        let mut note = |name, value| match changed.iter_mut().find(|(known, _)| *known == name) {
            Some(entry) => entry.1 = value,
            None => changed.push((name, value)),
        };
        if let Some(backend) = self.stt_backend {
            selection.stt.backend = backend;
            note("stt_backend", backend.as_str().to_owned());
        }
        if let Some(backend) = self.tts_backend {
            selection.tts.backend = backend;
            note("tts_backend", backend.as_str().to_owned());
        }
        for (index, value) in &self.assignments {
            let Some(Key(place, _, meaning)) = KEYS.get(*index) else {
                continue;
            };
            let Some(setting) = find_setting(name_of(*meaning, &selection)) else {
                continue;
            };
            let before = (setting.place)(&mut selection).written();
            if !(setting.place)(&mut selection).set_json(value) {
                continue;
            }
            let slot = (setting.place)(&mut selection);
            if place.is_empty() || slot.written() != before {
                note(setting.name, slot.shown());
            }
        }
        let difference = current.difference(&selection);
        Outcome {
            switches: changed
                .iter()
                .any(|(name, _)| !matches!(*name, "enable_filler_audio" | "llm_streaming_tts_overlap")),
            changed: changed
                .into_iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect(),
            selection,
            difference,
            dry_run: self.dry_run,
        }
    }
}

/// The setting's name, for the backends of `selection`.
fn name_of(meaning: Meaning, selection: &Selection) -> &'static str {
    match meaning {
        Meaning::Setting(name) => name,
        Meaning::SttPath => match selection.stt.backend {
            SttBackend::Sherpa => "sherpa_model_path",
            SttBackend::Kroko => "kroko_model_path",
            SttBackend::WhisperCpp => "whisper_cpp_model_path",
            SttBackend::Tone => "tone_model_path",
            SttBackend::Vosk | SttBackend::FasterWhisper => "vosk_model_path",
        },
        Meaning::TtsPath => match selection.tts.backend {
            TtsBackend::Piper => "tts_model_path",
            _ => "kokoro_model_path",
        },
        Meaning::Voice => match selection.tts.backend {
            TtsBackend::MeloTts => "melotts_voice",
            TtsBackend::Silero => "silero_speaker",
            TtsBackend::Piper | TtsBackend::Kokoro | TtsBackend::Matcha => "kokoro_voice",
        },
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::json;

    use super::super::selection::SETTINGS;
    use super::*;

    fn switch(value: Value) -> SwitchModel {
        SwitchModel::read(value.as_object().expect("an object"))
    }

    fn applied(value: Value) -> Outcome {
        switch(value).apply(&Selection::default())
    }

    #[test]
    fn every_key_has_a_setting_and_every_setting_a_name_of_its_own() {
        let names: BTreeSet<_> = SETTINGS.iter().map(|setting| setting.name).collect();
        assert_eq!(names.len(), SETTINGS.len());
        for Key(place, name, meaning) in KEYS {
            if let Meaning::Setting(setting) = meaning {
                assert!(names.contains(setting), "{place}.{name}");
            }
        }
    }

    /// Each key, alone, sets something: a value that is not the default's comes back changed.
    #[test]
    fn every_key_takes_effect() {
        for Key(place, name, meaning) in KEYS {
            let setting = find_setting(name_of(*meaning, &Selection::default())).expect("the test above");
            let mut selection = Selection::default();
            let value = [
                json!("other"),
                json!("greedy"),
                json!("offline"),
                json!("api"),
                json!(true),
                json!(false),
                json!(0.5),
                json!(1),
                json!(16_000),
            ]
            .into_iter()
            .find(|value| {
                let before = (setting.place)(&mut selection).written();
                let mut other = selection.clone();
                (setting.place)(&mut other).set_json(value) && (setting.place)(&mut other).written() != before
            })
            .unwrap_or_else(|| panic!("{place}.{name} takes none of these"));
            let message = if place.is_empty() {
                json!({ *name: value })
            } else {
                json!({ *place: { *name: value } })
            };
            let outcome = applied(message);
            assert_eq!(outcome.changed.len(), 1, "{place}.{name}");
            assert_ne!(outcome.selection, Selection::default(), "{place}.{name}");
        }
    }

    #[test]
    fn the_top_wins_over_what_is_nested() {
        let outcome = applied(json!({
            "stt_backend": "Faster_Whisper", "faster_whisper_language": "de",
            "stt_config": { "model": "small", "faster_whisper_language": "fr", "device": "cpu" },
        }));
        assert_eq!(outcome.selection.stt.backend, SttBackend::FasterWhisper);
        assert_eq!(outcome.selection.stt.path(), "small");
        assert_eq!(outcome.selection.stt.faster_whisper.language, "de");
        // The device is what it was.
        assert_eq!(
            outcome.changed,
            [
                "stt_backend=faster_whisper",
                "faster_whisper_model=small",
                "faster_whisper_language=de"
            ]
        );
        assert_eq!(
            outcome.message(),
            "Models switched and reloaded: stt_backend=faster_whisper, faster_whisper_model=small, faster_whisper_language=de"
        );
        assert_eq!(
            outcome.difference,
            Difference {
                stt: true,
                ..Difference::default()
            }
        );
    }

    #[test]
    fn paths_and_voices_go_by_the_backend() {
        for (backend, setting) in [
            ("vosk", "vosk_model_path"),
            ("sherpa", "sherpa_model_path"),
            ("kroko", "kroko_model_path"),
            ("faster_whisper", "vosk_model_path"),
            ("whisper_cpp", "whisper_cpp_model_path"),
            ("tone", "tone_model_path"),
        ] {
            let outcome = applied(json!({ "stt_backend": backend, "stt_model_path": "/app/models/stt/x/" }));
            assert_eq!(
                outcome.changed,
                [format!("stt_backend={backend}"), format!("{setting}=x")]
            );
        }
        for (backend, path, voice) in [
            ("piper", "tts_model_path", "kokoro_voice"),
            ("kokoro", "kokoro_model_path", "kokoro_voice"),
            ("melotts", "kokoro_model_path", "melotts_voice"),
            ("silero", "kokoro_model_path", "silero_speaker"),
            ("matcha", "kokoro_model_path", "kokoro_voice"),
        ] {
            let outcome =
                applied(json!({ "tts_backend": backend, "tts_model_path": "/m/y", "tts_config": { "voice": "v" } }));
            assert_eq!(
                outcome.changed,
                [
                    format!("tts_backend={backend}"),
                    format!("{voice}=v"),
                    format!("{path}=y")
                ]
            );
        }
    }

    #[test]
    fn what_changes_nothing_and_what_needs_no_load() {
        for value in [
            json!({}),
            json!({ "stt_backend": "parakeet", "tts_backend": 7, "unknown": true }),
            json!({ "stt_config": { "model": "base" }, "llm_config": { "context": 768, "temperature": 0.4 } }),
            json!({ "stt_config": [], "llm_config": "x", "kroko_port": -1, "kroko_embedded": "maybe", "llm_model_path": null }),
        ] {
            let outcome = applied(value.clone());
            assert_eq!(
                (outcome.changed.len(), outcome.message().as_str()),
                (0, NOTHING_TO_APPLY),
                "{value}"
            );
            assert_eq!(outcome.selection, Selection::default());
        }
        let runtime =
            applied(json!({ "runtime_config": { "enable_filler_audio": "yes" }, "llm_streaming_tts_overlap": 1 }));
        assert_eq!(
            runtime.message(),
            "Runtime config updated: enable_filler_audio=1, llm_streaming_tts_overlap=1"
        );
        assert_eq!(
            runtime.difference,
            Difference {
                runtime: true,
                ..Difference::default()
            }
        );
        // At the top even what is already so counts, but nothing needs to be done.
        let again = applied(json!({ "stt_backend": "vosk" }));
        assert_eq!((again.changed.len(), again.difference), (1, Difference::default()));
    }

    #[test]
    fn a_voice_of_a_backend_that_rests_is_kept_for_later() {
        let outcome = applied(json!({ "kokoro_voice": "af_sky", "dry_run": "1" }));
        assert_eq!(outcome.message(), "Models switched (dry_run): kokoro_voice=af_sky");
        assert_eq!(outcome.selection.tts.kokoro.voice, "af_sky");
        assert!(!outcome.difference.loads());
    }

    #[test]
    fn secrets_are_not_told() {
        let value = json!({
            "kokoro_api_key": "hush-1", "kokoro_api_base_url": "https://u:hush-2@x", "llm_config": { "system_prompt": "hush-3" },
        });
        let outcome = applied(value.clone());
        let told = format!("{:?} {:?} {}", switch(value), outcome, outcome.message());
        assert_eq!(
            outcome
                .changed
                .iter()
                .filter(|entry| entry.ends_with("=updated"))
                .count(),
            3
        );
        for secret in ["hush-1", "hush-3"] {
            assert!(!told.contains(secret), "{told}");
        }
        assert!(!outcome.message().contains("hush"));
        assert!(outcome.difference.llm_requests && !outcome.difference.loads());
    }
}
