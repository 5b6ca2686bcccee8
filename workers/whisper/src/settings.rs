//! The options of a load.

use std::time::Duration;

use repartee_worker_shell::Options;
use repartee_worker_shell::protocol::{Load, LoadFailed};

use crate::checks::Thresholds;
use crate::window::RATE;

/// The names of all options.
const KNOWN: [&str; 11] = [
    "streams",
    "waiting",
    "states",
    "partial_interval_ms",
    "window_ms",
    "beam_size",
    "translate",
    "full_context",
    "no_speech_threshold",
    "log_probability_threshold",
    "entropy_threshold",
];

/// How the model is used.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Settings {
    /// `streams`: utterances at once. A stream costs its audio, and a share of the time.
    pub(crate) streams: u32,
    /// `waiting`: utterances that may wait for one of those places.
    pub(crate) waiting: u32,
    /// `states`: decodes at the same time, each with its share of the threads. whisper.cpp doesn't batch over states, so more of them
    /// make nothing faster until one decode can't use the threads there are (beyond eight or so).
    pub(crate) states: u32,
    /// `partial_interval_ms`: the least new audio between two decodes of a growing window, in samples here.
    pub(crate) interval: usize,
    /// `window_ms`: the window that is decoded again and again until it's cut, in samples here. A shorter one costs less at each step, and gives
    /// the model less to go by.
    pub(crate) window: usize,
    /// `beam_size`: for final decodes; 1 is greedy. Partial ones are always greedy.
    pub(crate) beam: u32,
    /// `translate`: into English, where the model can.
    pub(crate) translate: bool,
    /// `full_context`: the encoder is always given 30 s, as it was trained; slower for short windows, and more accurate.
    pub(crate) full_context: bool,
    /// `no_speech_threshold`, `log_probability_threshold`, `entropy_threshold`.
    pub(crate) thresholds: Thresholds,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            streams: 4,
            waiting: 8,
            states: 1,
            interval: 500 * RATE / 1000,
            window: 28 * RATE,
            beam: 1,
            translate: false,
            full_context: false,
            thresholds: Thresholds::default(),
        }
    }
}

impl Settings {
    /// Reads the options of a load.
    ///
    /// # Errors
    /// The first that is unknown or out of bounds.
    pub(crate) fn of(load: &Load) -> Result<Self, LoadFailed> {
        let options = Options::of(load, &KNOWN)?;
        let default = Self::default();
        let whole = |name: &str, range, default: u64| options.whole(name, range).map(|set| set.unwrap_or(default));
        let samples = |milliseconds: u64| milliseconds as usize * RATE / 1000;
        let number = |name: &str, range, default: f32| {
            let set = options.number(name, range)?;
            Ok::<_, LoadFailed>(set.map_or(default, |number| number as f32))
        };
        let thresholds = Thresholds {
            no_speech: number("no_speech_threshold", 0.0..=1.0, default.thresholds.no_speech)?,
            log_probability: number(
                "log_probability_threshold",
                -100.0..=0.0,
                default.thresholds.log_probability,
            )?,
            entropy: number("entropy_threshold", 0.0..=3.5, default.thresholds.entropy)?,
        };
        Ok(Self {
            streams: whole("streams", 1..=64, default.streams.into())? as u32,
            waiting: whole("waiting", 0..=256, default.waiting.into())? as u32,
            states: whole("states", 1..=16, default.states.into())? as u32,
            interval: samples(whole("partial_interval_ms", 100..=10_000, 500)?),
            // Frames of 20 ms: a window is cut between two.
            window: samples(whole("window_ms", 8_000..=28_000, 28_000)? / 20 * 20),
            // WHISPER_MAX_DECODERS
            beam: whole("beam_size", 1..=8, default.beam.into())? as u32,
            translate: options.flag("translate")?.unwrap_or(default.translate),
            full_context: options.flag("full_context")?.unwrap_or(default.full_context),
            thresholds,
        })
    }
}

/// The longest utterance: what its words take is little, but somebody is waiting for an end.
pub(crate) const LONGEST: Duration = Duration::from_secs(300);

/// What the engine may send ahead on each stream: 10 s of audio, so that an utterance can be replayed at once.
pub(crate) const CREDIT: u64 = 10 * RATE as u64 * 2;
