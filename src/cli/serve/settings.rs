//! What a session is told where its client says nothing else, out of the configuration.

use crate::call::{BargeIn, Endpointing, Limits, Settings, SpeechDetection, Stages};
use crate::config::{Config, LlmBackend, SttBackend, TtsBackend};
use crate::pii::Pii;

/// The settings that `config` means.
pub(super) fn of(config: &Config) -> Settings {
    let default = Settings::default();
    let turn = &config.turn;
    Settings {
        instructions: Pii::new(config.llm.instructions.clone()),
        voice: config.tts.voice.clone(),
        language: config.stt.language.clone(),
        hints: config.stt.hints.clone(),
        stages: Stages {
            stt: config.stt.backend != SttBackend::None,
            llm: config.llm.backend != LlmBackend::None,
            tts: config.tts.backend != TtsBackend::None,
        },
        speech: SpeechDetection {
            start_per_mille: config.vad.start_per_mille,
            stop_per_mille: config.vad.stop_per_mille,
            min_speech_ms: turn.start_ms,
            pre_roll_ms: turn.pre_roll_ms,
        },
        endpointing: Endpointing {
            silence_ms: turn.endpointing_ms,
            max_silence_ms: turn.endpointing_max_ms,
            hard_limit_ms: turn.hard_limit_s * 1_000,
            eager_ms: turn.eager_ms,
        },
        barge_in: BargeIn {
            enabled: turn.barge_in,
            confirm_ms: turn.barge_in_min_ms,
            duck_per_mille: turn.duck_per_mille,
        },
        temperature_milli: config.llm.temperature_milli,
        limits: Limits {
            max_response_tokens: config.llm.max_tokens,
            max_history_items: config.llm.max_history_items,
            stt_final_timeout_ms: config.stt.final_timeout_ms,
            llm_first_token_timeout_ms: config.llm.first_token_timeout_ms,
            tts_first_audio_timeout_ms: config.tts.first_audio_timeout_ms,
            idle_timeout_ms: config.server.idle_timeout_s.saturating_mul(1_000),
            ..default.limits
        },
        ..default
    }
}
