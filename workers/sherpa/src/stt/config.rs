//! What the library is told about a model.

use repartee_worker_shell::protocol::{LoadFailed, code};
use sherpa_onnx::{
    OfflineMoonshineModelConfig, OfflineNemoEncDecCtcModelConfig, OfflineParaformerModelConfig, OfflineRecognizer,
    OfflineRecognizerConfig, OfflineSenseVoiceModelConfig, OfflineTransducerModelConfig, OfflineWhisperModelConfig,
    OfflineZipformerCtcModelConfig, OnlineNemoCtcModelConfig, OnlineParaformerModelConfig, OnlineRecognizer,
    OnlineRecognizerConfig, OnlineToneCtcModelConfig, OnlineTransducerModelConfig, OnlineZipformer2CtcModelConfig,
};

use super::files::Role;
use super::hints::Unit;
use super::kind::Kind;
use super::model::Model;
use crate::library;

/// How many hypotheses beam search follows: the library's own default.
const BEAM: i32 = 4;

/// What options say beside the model.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) threads: i32,
    /// Beam search instead of greedy search.
    pub(super) beam: bool,
    /// How hints are cut into tokens; `None`: there are none.
    pub(super) unit: Option<Unit>,
    pub(super) hotwords_score: f32,
    /// The language to expect, for models that are told one; empty: they find out.
    pub(super) language: String,
    /// Whether numbers are written as digits, with punctuation, where the model can do it.
    pub(super) itn: bool,
}

impl Settings {
    fn decoding(&self) -> Option<String> {
        Some(
            if self.beam {
                "modified_beam_search"
            } else {
                "greedy_search"
            }
            .into(),
        )
    }
}

/// A recogniser that hears while it's spoken to.
///
/// # Errors
/// When the library makes none.
pub(super) fn online(model: &Model, settings: &Settings) -> Result<OnlineRecognizer, LoadFailed> {
    let mut config = OnlineRecognizerConfig {
        decoding_method: settings.decoding(),
        max_active_paths: BEAM,
        // The engine decides when a turn ends.
        enable_endpoint: false,
        hotwords_score: settings.hotwords_score,
        ..OnlineRecognizerConfig::default()
    };
    let files = &mut config.model_config;
    files.tokens = Some(model.tokens_path.to_string_lossy().into_owned());
    files.num_threads = settings.threads;
    files.modeling_unit = settings.unit.map(|unit| unit.name().into());
    files.bpe_vocab = model
        .bpe_vocab
        .as_ref()
        .filter(|_| settings.unit.is_some_and(|unit| unit != Unit::Characters))
        .map(|path| path.to_string_lossy().into_owned());
    match model.kind {
        Kind::StreamingParaformer => {
            files.paraformer = OnlineParaformerModelConfig {
                encoder: model.path(Role::Encoder),
                decoder: model.path(Role::Decoder),
            };
        }
        Kind::StreamingCtc => {
            files.zipformer2_ctc = OnlineZipformer2CtcModelConfig {
                model: model.path(Role::Model),
            };
        }
        Kind::StreamingNemoCtc => {
            files.nemo_ctc = OnlineNemoCtcModelConfig {
                model: model.path(Role::Model),
            };
        }
        Kind::TOne => {
            files.t_one_ctc = OnlineToneCtcModelConfig {
                model: model.path(Role::Model),
            };
        }
        // The library tells NeMo's transducers from others by their decoder.
        _ => {
            files.transducer = OnlineTransducerModelConfig {
                encoder: model.path(Role::Encoder),
                decoder: model.path(Role::Decoder),
                joiner: model.path(Role::Joiner),
            };
        }
    }
    let create = || OnlineRecognizer::create(&config);
    create().ok_or_else(|| refused(model, &library::words_of(create)))
}

/// A recogniser that takes a whole utterance.
///
/// # Errors
/// When the library makes none.
pub(super) fn offline(model: &Model, settings: &Settings) -> Result<OfflineRecognizer, LoadFailed> {
    let mut config = OfflineRecognizerConfig {
        decoding_method: settings.decoding(),
        max_active_paths: BEAM,
        hotwords_score: settings.hotwords_score,
        ..OfflineRecognizerConfig::default()
    };
    let files = &mut config.model_config;
    files.tokens = Some(model.tokens_path.to_string_lossy().into_owned());
    files.num_threads = settings.threads;
    files.provider = Some("cpu".into());
    files.modeling_unit = settings.unit.map(|unit| unit.name().into());
    files.bpe_vocab = model
        .bpe_vocab
        .as_ref()
        .filter(|_| settings.unit.is_some_and(|unit| unit != Unit::Characters))
        .map(|path| path.to_string_lossy().into_owned());
    let single = model.path(Role::Model);
    match model.kind {
        Kind::SenseVoice => {
            files.sense_voice = OfflineSenseVoiceModelConfig {
                model: single,
                language: Some(if settings.language.is_empty() {
                    "auto".into()
                } else {
                    settings.language.clone()
                }),
                use_itn: settings.itn,
            };
        }
        Kind::Moonshine => {
            files.moonshine = OfflineMoonshineModelConfig {
                preprocessor: model.path(Role::Preprocessor),
                encoder: model.path(Role::Encoder),
                uncached_decoder: model.path(Role::UncachedDecoder),
                cached_decoder: model.path(Role::CachedDecoder),
                merged_decoder: None,
            };
        }
        Kind::NemoCtc => files.nemo_ctc = OfflineNemoEncDecCtcModelConfig { model: single },
        Kind::Ctc => files.zipformer_ctc = OfflineZipformerCtcModelConfig { model: single },
        Kind::Paraformer => files.paraformer = OfflineParaformerModelConfig { model: single },
        Kind::Whisper => {
            files.whisper = OfflineWhisperModelConfig {
                encoder: model.path(Role::Encoder),
                decoder: model.path(Role::Decoder),
                language: Some(settings.language.clone()),
                task: Some("transcribe".into()),
                ..OfflineWhisperModelConfig::default()
            };
        }
        _ => {
            files.transducer = OfflineTransducerModelConfig {
                encoder: model.path(Role::Encoder),
                decoder: model.path(Role::Decoder),
                joiner: model.path(Role::Joiner),
            };
            let is_nemo = model.kind == Kind::NemoTransducer;
            files.model_type = Some(if is_nemo { "nemo_transducer" } else { "transducer" }.into());
        }
    }
    let create = || OfflineRecognizer::create(&config);
    create().ok_or_else(|| refused(model, &library::words_of(create)))
}

fn refused(model: &Model, words: &str) -> LoadFailed {
    let kind = model.kind.name();
    let reason = format!("sherpa-onnx makes no recogniser of these files as a {kind}: {words}");
    LoadFailed::new(code::INVALID, reason)
}
