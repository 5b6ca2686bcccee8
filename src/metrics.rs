//! What the engine counts and measures, under the names that `/metrics` shows.
//!
//! All durations are in seconds, as Prometheus wants them. Nothing here names a person or holds what somebody said.

use std::fmt;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::call::{BackendKind, BackendState, Event};

/// Bounds (s) for the stages of a turn: from what an instant fake takes to what nobody waits for.
const STAGE_BUCKETS: [f64; 16] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 2.0, 5.0, 15.0,
];
/// Bounds (s) for the lateness of frames; paced wires are held to 5 ms.
const LATENESS_BUCKETS: [f64; 9] = [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5];

/// Bounds (s) for the length of calls.
const CALL_BUCKETS: [f64; 8] = [1.0, 5.0, 15.0, 30.0, 60.0, 180.0, 600.0, 3_600.0];

/// One label and its value.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Stage {
    stage: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    kind: String,
}

/// A family of histograms over [`STAGE_BUCKETS`].
type StageHistograms = Family<Stage, Histogram, fn() -> Histogram>;

/// The engine's metrics. Shared by all sessions.
pub struct Metrics {
    registry: Registry,
    sessions_live: Gauge,
    sessions: Counter,
    refused: Family<Kind, Counter>,
    turns: Counter,
    responses: Family<Kind, Counter>,
    errors: Family<Kind, Counter>,
    backends_lost: Family<Kind, Counter>,
    backends_ready: Family<Kind, Gauge>,
    turn_predictions: Family<Kind, Counter>,
    stages: StageHistograms,
    first_audio: Histogram,
    lateness: Histogram,
    frames: Counter,
    media: Family<Kind, Counter>,
    tokens: Family<Kind, Counter>,
    calls: Family<Kind, Counter>,
    call_seconds: Histogram,
    call_media: Family<Kind, Counter>,
    call_jitter: Histogram,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("repartee");
        let stage_histogram: fn() -> Histogram = || Histogram::new(STAGE_BUCKETS);
        let metrics = Self {
            sessions_live: Gauge::default(),
            sessions: Counter::default(),
            refused: Family::default(),
            turns: Counter::default(),
            responses: Family::default(),
            errors: Family::default(),
            backends_lost: Family::default(),
            backends_ready: Family::default(),
            turn_predictions: Family::default(),
            stages: Family::new_with_constructor(stage_histogram),
            first_audio: Histogram::new(STAGE_BUCKETS),
            lateness: Histogram::new(LATENESS_BUCKETS),
            frames: Counter::default(),
            media: Family::default(),
            tokens: Family::default(),
            calls: Family::default(),
            call_seconds: Histogram::new(CALL_BUCKETS),
            call_media: Family::default(),
            call_jitter: Histogram::new(LATENESS_BUCKETS),
            registry: Registry::default(),
        };
        registry.register(
            "sessions_live",
            "Sessions that are open now",
            metrics.sessions_live.clone(),
        );
        registry.register("sessions", "Sessions that were opened", metrics.sessions.clone());
        registry.register(
            "sessions_refused",
            "Sessions that were not opened, by reason",
            metrics.refused.clone(),
        );
        registry.register("turns", "Turns of users that have ended", metrics.turns.clone());
        registry.register(
            "responses",
            "Responses that are over, by how they ended",
            metrics.responses.clone(),
        );
        registry.register("errors", "Errors told to clients, by code", metrics.errors.clone());
        registry.register(
            "backends_lost",
            "Sessions that lost a backend, by its job",
            metrics.backends_lost.clone(),
        );
        registry.register(
            "backend_ready",
            "Whether a backend serves now (1) or not (0), by its job",
            metrics.backends_ready.clone(),
        );
        registry.register(
            "turn_predictions",
            "Questions to the turn model, by what became of them",
            metrics.turn_predictions.clone(),
        );
        registry.register("stage_seconds", "Time of each stage of a turn", metrics.stages.clone());
        registry.register(
            "first_audio_seconds",
            "From the end of speech to the first reply audio sent",
            metrics.first_audio.clone(),
        );
        registry.register(
            "frame_lateness_seconds",
            "How late frames were sent",
            metrics.lateness.clone(),
        );
        registry.register("frames", "Frames of replies that were sent", metrics.frames.clone());
        registry.register(
            "media_dropped",
            "Media from clients that was dropped, by reason",
            metrics.media.clone(),
        );
        registry.register(
            "llm_tokens",
            "Tokens of language models that count them: of prompts, of those the cached ones, and made",
            metrics.tokens.clone(),
        );
        registry.register(
            "calls",
            "Telephone calls that are over, by their wire",
            metrics.calls.clone(),
        );
        registry.register("call_seconds", "How long they lasted", metrics.call_seconds.clone());
        registry.register(
            "call_media",
            "Packets and milliseconds of their sound, by what became of them",
            metrics.call_media.clone(),
        );
        registry.register(
            "call_jitter_seconds",
            "Jitter of their arrivals (RFC 3550) at their end",
            metrics.call_jitter.clone(),
        );
        Self { registry, ..metrics }
    }
}

impl Metrics {
    /// Notes whether something does this job now.
    pub fn backend_ready(&self, kind: BackendKind, ready: bool) {
        self.backends_ready
            .get_or_create(&Kind { kind: kind.to_string() })
            .set(i64::from(ready));
    }

    /// Counts a question to the turn model: "answered", "failed", "refused" because too many wait, "withdrawn" because the
    /// answer wasn't wanted any more.
    pub fn turn_prediction(&self, outcome: &str) {
        self.turn_predictions
            .get_or_create(&Kind {
                kind: outcome.to_owned(),
            })
            .inc();
    }

    /// The text that Prometheus scrapes (OpenMetrics 1.0).
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("writing into a string cannot fail");
        text
    }

    /// A session was opened.
    pub fn session_opened(&self) {
        self.sessions.inc();
        self.sessions_live.inc();
    }

    /// A session is over.
    pub fn session_closed(&self) {
        self.sessions_live.dec();
    }

    /// A session was refused; `reason` is a word, not a sentence.
    pub fn session_refused(&self, reason: &'static str) {
        self.refused
            .get_or_create(&Kind {
                kind: reason.to_owned(),
            })
            .inc();
    }

    /// Media from a client was dropped; `reason` is a word, not a sentence.
    pub fn media_dropped(&self, reason: &'static str, count: u64) {
        if count > 0 {
            self.media
                .get_or_create(&Kind {
                    kind: reason.to_owned(),
                })
                .inc_by(count);
        }
    }

    /// A generation used so many tokens: of the prompt, of those the cached ones, and made.
    pub fn tokens(&self, [prompt, cached, completion]: [u32; 3]) {
        for (kind, count) in [("prompt", prompt), ("cached", cached), ("completion", completion)] {
            if count > 0 {
                self.tokens
                    .get_or_create(&Kind { kind: kind.to_owned() })
                    .inc_by(u64::from(count));
            }
        }
    }

    /// A telephone call is over that came by `wire` and lasted so long. `media` counts its packets and milliseconds by a word for what
    /// became of them.
    pub fn call_over(&self, wire: &str, seconds: f64, jitter_ms: u32, media: &[(&'static str, u64)]) {
        self.calls.get_or_create(&Kind { kind: wire.to_owned() }).inc();
        self.call_seconds.observe(seconds);
        self.call_jitter.observe(f64::from(jitter_ms) / 1_000.0);
        for (kind, count) in media {
            if *count > 0 {
                self.call_media
                    .get_or_create(&Kind {
                        kind: (*kind).to_owned(),
                    })
                    .inc_by(*count);
            }
        }
    }

    /// Frames were sent, each so late.
    pub fn frames(&self, lateness: impl Iterator<Item = Duration>) {
        for late in lateness {
            self.frames.inc();
            self.lateness.observe(late.as_secs_f64());
        }
    }

    /// Counts what a client is told.
    pub fn observe(&self, event: &Event) {
        match event {
            Event::TurnReport(report) => {
                self.turns.inc();
                for (stage, took) in report.stages() {
                    self.stages.get_or_create(&Stage { stage }).observe(took.as_secs_f64());
                }
                if report.first_sent.is_some() {
                    self.first_audio.observe(report.total().as_secs_f64());
                }
            }
            Event::ResponseDone { status, .. } => {
                self.responses.get_or_create(&Kind { kind: word(status) }).inc();
            }
            Event::Error(error) => {
                self.errors
                    .get_or_create(&Kind {
                        kind: word(&error.code),
                    })
                    .inc();
            }
            Event::Backend {
                kind,
                state: BackendState::Lost { .. },
            } => {
                self.backends_lost.get_or_create(&Kind { kind: kind.to_string() }).inc();
            }
            _ => {}
        }
    }
}

/// The name that an enum has on wires.
fn word(value: &impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        _ => "other".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::ResponseStatus;
    use crate::id::{ResponseId, TurnId};
    use crate::time::{Samples, Time};

    #[test]
    fn events_are_counted_under_their_names() {
        let metrics = Metrics::default();
        metrics.session_opened();
        metrics.media_dropped("late", 3);
        metrics.tokens([40, 30, 0]);
        metrics.backend_ready(BackendKind::Stt, true);
        metrics.backend_ready(BackendKind::Turn, false);
        metrics.observe(&Event::ResponseDone {
            response: ResponseId::new(1),
            status: ResponseStatus::Interrupted,
            text: "a secret".into(),
            heard: "a".into(),
            heard_audio: Samples::ZERO,
            item: None,
        });
        metrics.observe(&Event::TurnReport(crate::call::TurnReport {
            turn: TurnId::new(1),
            response: None,
            speech_end: Time::ZERO,
            endpoint: Time::from_millis(600),
            final_transcript: Some(Time::from_millis(640)),
            first_token: None,
            first_sentence: None,
            first_audio: None,
            first_sent: None,
        }));
        let text = metrics.text();
        for line in [
            "repartee_sessions_live 1",
            "repartee_responses_total{kind=\"interrupted\"} 1",
            "repartee_backend_ready{kind=\"stt\"} 1",
            "repartee_backend_ready{kind=\"turn\"} 0",
            "repartee_media_dropped_total{kind=\"late\"} 3",
            "repartee_llm_tokens_total{kind=\"prompt\"} 40",
            "repartee_llm_tokens_total{kind=\"cached\"} 30",
            "repartee_stage_seconds_sum{stage=\"endpointing\"} 0.6",
            "repartee_stage_seconds_count{stage=\"stt_final\"} 1",
        ] {
            assert!(text.contains(line), "no {line} in\n{text}");
        }
        assert!(!text.contains("secret"));
    }
}
