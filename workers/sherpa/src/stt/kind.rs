//! The kinds of recognisers, and what each of them needs.

use std::ops::RangeInclusive;

use repartee_worker_shell::protocol::{LoadFailed, code};

use super::files::{Files, Role};
use crate::onnx::Onnx;

/// A kind of recogniser.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Icefall's streaming transducers (zipformer, conformer, LSTM), Kroko's among them.
    StreamingTransducer,
    StreamingNemoTransducer,
    /// Icefall's streaming zipformer with CTC.
    StreamingCtc,
    StreamingNemoCtc,
    StreamingParaformer,
    /// T-one: telephone Russian.
    TOne,
    SenseVoice,
    Moonshine,
    /// NeMo's transducers, Parakeet among them, with durations (TDT) or without.
    NemoTransducer,
    NemoCtc,
    /// Icefall's transducers.
    Transducer,
    /// Icefall's zipformer with CTC.
    Ctc,
    Paraformer,
    Whisper,
}

/// All that follows from a kind.
pub(super) struct Traits {
    kind: Kind,
    /// What the option `kind` calls it.
    pub(super) name: &'static str,
    pub(super) roles: &'static [Role],
    /// What the metadata of which file has to say: the library ends the process where it doesn't.
    pub(super) needs: &'static [(Role, &'static [&'static str])],
    /// How many inputs the graphs have, and how many outputs at least.
    pub(super) shapes: &'static [Shape],
}

/// How many inputs, and how many outputs at least.
pub(super) type Shape = (Role, RangeInclusive<usize>, usize);

/// Inputs of which there may be any number: the states of layers.
pub(super) const ANY: usize = usize::MAX;

const TRANSDUCER: &[Role] = &[Role::Encoder, Role::Decoder, Role::Joiner];
const PAIR: &[Role] = &[Role::Encoder, Role::Decoder];
const SINGLE: &[Role] = &[Role::Model];
const FOUR: &[Role] = &[
    Role::Preprocessor,
    Role::Encoder,
    Role::UncachedDecoder,
    Role::CachedDecoder,
];

const NEMO_CACHES: [&str; 10] = [
    "vocab_size",
    "window_size",
    "chunk_shift",
    "subsampling_factor",
    "cache_last_channel_dim1",
    "cache_last_channel_dim2",
    "cache_last_channel_dim3",
    "cache_last_time_dim1",
    "cache_last_time_dim2",
    "cache_last_time_dim3",
];
/// The two parts of icefall's transducers beside the encoder.
const ICEFALL_DECODER: (Role, &[&str]) = (Role::Decoder, &["vocab_size", "context_size"]);
const ICEFALL_JOINER: (Role, &[&str]) = (Role::Joiner, &["joiner_dim"]);
const STREAMING_SHAPES: &[Shape] = &[
    (Role::Encoder, 3..=ANY, 2),
    (Role::Decoder, 1..=1, 1),
    (Role::Joiner, 2..=2, 1),
];
const TRANSDUCER_SHAPES: &[Shape] = &[
    (Role::Encoder, 2..=2, 2),
    (Role::Decoder, 1..=1, 1),
    (Role::Joiner, 2..=2, 1),
];
/// Some of NeMo's encoders are told a language beside the audio.
const NEMO_SHAPES: &[Shape] = &[
    (Role::Encoder, 2..=3, 2),
    (Role::Decoder, 4..=4, 4),
    (Role::Joiner, 2..=2, 1),
];

static TRAITS: [Traits; 14] = [
    Traits {
        kind: Kind::StreamingTransducer,
        name: "streaming_transducer",
        roles: TRANSDUCER,
        needs: &[
            (Role::Encoder, &["model_type", "T", "decode_chunk_len"]),
            ICEFALL_DECODER,
            ICEFALL_JOINER,
        ],
        shapes: STREAMING_SHAPES,
    },
    Traits {
        kind: Kind::StreamingNemoTransducer,
        name: "streaming_nemo_transducer",
        roles: TRANSDUCER,
        needs: &[
            (Role::Encoder, &NEMO_CACHES),
            (Role::Encoder, &["pred_rnn_layers", "pred_hidden"]),
        ],
        shapes: &[
            (Role::Encoder, 5..=6, 5),
            (Role::Decoder, 4..=4, 4),
            (Role::Joiner, 2..=2, 1),
        ],
    },
    Traits {
        kind: Kind::StreamingCtc,
        name: "streaming_ctc",
        roles: SINGLE,
        needs: &[(Role::Model, &["T", "decode_chunk_len"])],
        shapes: &[(Role::Model, 3..=ANY, 2)],
    },
    Traits {
        kind: Kind::StreamingNemoCtc,
        name: "streaming_nemo_ctc",
        roles: SINGLE,
        needs: &[(Role::Model, &NEMO_CACHES)],
        shapes: &[(Role::Model, 5..=6, 5)],
    },
    Traits {
        kind: Kind::StreamingParaformer,
        name: "streaming_paraformer",
        roles: PAIR,
        needs: &[(
            Role::Encoder,
            &[
                "vocab_size",
                "lfr_window_size",
                "lfr_window_shift",
                "encoder_output_size",
                "decoder_num_blocks",
                "decoder_kernel_size",
                "neg_mean",
                "inv_stddev",
            ],
        )],
        shapes: &[(Role::Encoder, 2..=2, 3), (Role::Decoder, 5..=ANY, 3)],
    },
    Traits {
        kind: Kind::TOne,
        name: "t_one",
        roles: SINGLE,
        needs: &[(Role::Model, &["frame_length_ms", "state_dim", "sample_rate"])],
        shapes: &[(Role::Model, 2..=2, 2)],
    },
    Traits {
        kind: Kind::SenseVoice,
        name: "sense_voice",
        roles: SINGLE,
        needs: &[(
            Role::Model,
            &[
                "vocab_size",
                "lfr_window_size",
                "lfr_window_shift",
                "normalize_samples",
                "with_itn",
                "without_itn",
                "lang_auto",
                "lang_zh",
                "lang_en",
                "lang_ja",
                "lang_ko",
                "lang_yue",
                "neg_mean",
                "inv_stddev",
            ],
        )],
        shapes: &[(Role::Model, 4..=4, 1)],
    },
    Traits {
        kind: Kind::Moonshine,
        name: "moonshine",
        roles: FOUR,
        needs: &[],
        shapes: &[
            (Role::Preprocessor, 1..=1, 1),
            (Role::Encoder, 2..=2, 1),
            (Role::UncachedDecoder, 3..=3, 2),
            (Role::CachedDecoder, 4..=ANY, 2),
        ],
    },
    Traits {
        kind: Kind::NemoTransducer,
        name: "nemo_transducer",
        roles: TRANSDUCER,
        needs: &[(
            Role::Encoder,
            &["vocab_size", "subsampling_factor", "pred_rnn_layers", "pred_hidden"],
        )],
        shapes: NEMO_SHAPES,
    },
    Traits {
        kind: Kind::NemoCtc,
        name: "nemo_ctc",
        roles: SINGLE,
        needs: &[(Role::Model, &["vocab_size", "subsampling_factor"])],
        shapes: &[(Role::Model, 2..=2, 1)],
    },
    Traits {
        kind: Kind::Transducer,
        name: "transducer",
        roles: TRANSDUCER,
        needs: &[ICEFALL_DECODER, ICEFALL_JOINER],
        shapes: TRANSDUCER_SHAPES,
    },
    Traits {
        kind: Kind::Ctc,
        name: "ctc",
        roles: SINGLE,
        needs: &[],
        shapes: &[(Role::Model, 2..=2, 1)],
    },
    Traits {
        kind: Kind::Paraformer,
        name: "paraformer",
        roles: SINGLE,
        needs: &[(
            Role::Model,
            &[
                "vocab_size",
                "lfr_window_size",
                "lfr_window_shift",
                "neg_mean",
                "inv_stddev",
            ],
        )],
        shapes: &[(Role::Model, 2..=2, 2)],
    },
    Traits {
        kind: Kind::Whisper,
        name: "whisper",
        roles: PAIR,
        needs: &[(
            Role::Encoder,
            &[
                "model_type",
                "n_mels",
                "n_text_layer",
                "n_text_ctx",
                "n_text_state",
                "n_vocab",
                "sot",
                "eot",
            ],
        )],
        shapes: &[(Role::Encoder, 1..=1, 2), (Role::Decoder, 6..=6, 3)],
    },
];

impl Kind {
    pub(super) fn traits(self) -> &'static Traits {
        let found = TRAITS.iter().find(|traits| traits.kind == self);
        found.expect("every kind has a row in the table, which a test looks through")
    }

    pub(super) fn name(self) -> &'static str {
        self.traits().name
    }

    /// Whether it hears while it's spoken to. The others take a whole utterance.
    pub(super) fn is_streaming(self) -> bool {
        self.name().starts_with("streaming") || self == Self::TOne
    }

    /// Whether the library can be given words that are likely.
    pub(super) fn takes_hints(self) -> bool {
        matches!(self, Self::StreamingTransducer | Self::Transducer)
    }

    pub(super) fn named(name: &str) -> Result<Self, LoadFailed> {
        let found = TRAITS.iter().find(|traits| traits.name == name);
        found.map(|traits| traits.kind).ok_or_else(|| {
            let names: Vec<&str> = TRAITS.iter().map(|traits| traits.name).collect();
            let reason = format!(
                "the option \"kind\" has to be one of {}, not {name:?}",
                names.join(", ")
            );
            LoadFailed::new(code::INVALID, reason)
        })
    }

    /// From which files there are, and from what the main one says of itself.
    pub(super) fn of(files: &Files, main: &Onnx) -> Option<Self> {
        let model_type = main.text("model_type");
        let is_nemo = model_type.starts_with("EncDec");
        let has_caches = main.number("window_size").is_some();
        let has_chunks = main.number("decode_chunk_len").is_some();
        let icefall = ["zipformer", "zipformer2", "conformer", "lstm", "ebranchformer"];
        let kind = if files.has(Role::Joiner) {
            match (is_nemo, has_caches, has_chunks) {
                (true, true, _) => Self::StreamingNemoTransducer,
                (true, false, _) => Self::NemoTransducer,
                (false, _, true) if icefall.contains(&model_type) => Self::StreamingTransducer,
                (false, _, false) if icefall.contains(&model_type) => Self::Transducer,
                _ => return None,
            }
        } else if files.has(Role::Encoder) {
            match model_type {
                "paraformer" => Self::StreamingParaformer,
                other if other.starts_with("whisper") => Self::Whisper,
                _ => return None,
            }
        } else {
            match model_type {
                other if other.starts_with("zipformer2") && has_chunks => Self::StreamingCtc,
                "zipformer2_ctc" => Self::Ctc,
                _ if is_nemo && has_caches => Self::StreamingNemoCtc,
                _ if is_nemo => Self::NemoCtc,
                "t-one" => Self::TOne,
                "sense_voice_ctc" => Self::SenseVoice,
                "paraformer" => Self::Paraformer,
                _ => return None,
            }
        };
        Some(kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_row() {
        for traits in &TRAITS {
            assert_eq!(traits.kind.name(), traits.name);
            assert_eq!(Kind::named(traits.name), Ok(traits.kind));
            assert!(traits.roles.contains(&Role::Model) || traits.roles.contains(&Role::Encoder));
        }
        assert!(
            Kind::named("vosk")
                .expect_err("unknown")
                .reason
                .contains("streaming_transducer")
        );
    }
}
