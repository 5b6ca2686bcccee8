//! What the model hears: eight seconds as a log-mel spectrogram, as Whisper's encoder was taught.
//!
//! Source: `transformers`, `WhisperFeatureExtractor` with `chunk_length=8` and `do_normalize=True`, which pipecat's
//! `LocalSmartTurnAnalyzerV3` follows. `golden.py` beside this file computes the same once more, for the tests.
//!
//! All eight seconds are done at once, when the model is asked: it takes 3 % of what the inference takes, so computing
//! frames ahead while the user speaks would gain a millisecond, and would have to be undone: the samples are normalised
//! by the mean and the variance of the very window that is judged.

use std::sync::Arc;

use realfft::num_complex::Complex;
use realfft::{RealFftPlanner, RealToComplex};

/// Samples that are judged: eight seconds.
pub(super) const WINDOW: usize = 128_000;

/// Bands of the spectrogram.
pub(super) const MELS: usize = 80;

/// Frames of the spectrogram: one for each 10 ms.
pub(super) const FRAMES: usize = WINDOW / HOP;

/// Samples of a transform: 25 ms.
const LENGTH: usize = 400;

/// Samples from one frame to the next.
const HOP: usize = 160;

/// Frames are centred on their instant, so half a transform lies before the first sample. It is the sound in a mirror.
const MARGIN: usize = LENGTH / 2;

/// Frequencies of a transform, 40 Hz apart.
const BINS: usize = LENGTH / 2 + 1;

/// Added to the variance, so that silence can be divided by it.
const VARIANCE_FLOOR: f64 = 1e-7;

/// Energy below this counts as this, so that it has a logarithm.
const MEL_FLOOR: f32 = 1e-10;

/// What is softer than the loudest by so many powers of ten counts as just so soft.
const DYNAMIC_RANGE: f32 = 8.0;

/// Makes spectrograms; all its memory is kept between them.
pub(super) struct LogMel {
    transform: Arc<dyn RealToComplex<f64>>,
    window: [f64; LENGTH],
    filters: Vec<Filter>,
    /// The window's samples, normalised, with a margin on both sides.
    sound: Vec<f64>,
    frame: Vec<f64>,
    spectrum: Vec<Complex<f64>>,
    scratch: Vec<Complex<f64>>,
    power: [f64; BINS],
}

/// A band: its weights, from its first frequency with one on. Most weights of a filter bank are zero.
struct Filter {
    first: usize,
    weights: Vec<f64>,
}

impl LogMel {
    pub(super) fn new() -> Self {
        let transform = RealFftPlanner::new().plan_fft_forward(LENGTH);
        Self {
            window: std::array::from_fn(|at| {
                let phase = std::f64::consts::TAU * at as f64 / LENGTH as f64;
                0.5 - 0.5 * phase.cos()
            }),
            filters: filters(),
            sound: vec![0.0; MARGIN + WINDOW + MARGIN],
            frame: transform.make_input_vec(),
            spectrum: transform.make_output_vec(),
            scratch: transform.make_scratch_vec(),
            power: [0.0; BINS],
            transform,
        }
    }

    /// Writes the spectrogram of the last eight seconds of `pcm` into `out`, band after band. What is missing of eight
    /// seconds is silence before it.
    pub(super) fn compute(&mut self, pcm: &[i16], out: &mut [f32]) {
        debug_assert_eq!(out.len(), MELS * FRAMES, "a spectrogram's length");
        let pcm = &pcm[pcm.len().saturating_sub(WINDOW)..];
        let absent = WINDOW - pcm.len();
        self.normalise(pcm);
        // Frames that see nothing but the silence before the sound are all the same.
        let same = if absent > MARGIN {
            (absent - MARGIN) / HOP + 1
        } else {
            0
        };
        let mut loudest = f32::NEG_INFINITY;
        for frame in 0..FRAMES {
            if (1..same).contains(&frame) {
                for band in out.chunks_exact_mut(FRAMES) {
                    band[frame] = band[0];
                }
                continue;
            }
            self.transform(frame * HOP);
            for (filter, band) in self.filters.iter().zip(out.chunks_exact_mut(FRAMES)) {
                let energy: f64 = filter
                    .weights
                    .iter()
                    .zip(&self.power[filter.first..])
                    .map(|(weight, power)| weight * power)
                    .sum();
                let level = (energy as f32).max(MEL_FLOOR).log10();
                loudest = loudest.max(level);
                band[frame] = level;
            }
        }
        for level in out {
            *level = (level.max(loudest - DYNAMIC_RANGE) + 4.0) / 4.0;
        }
    }

    /// Lays the sound out with mean 0 and variance 1, the silence before it included.
    fn normalise(&mut self, pcm: &[i16]) {
        let (mut sum, mut squares) = (0_i64, 0_i64);
        for sample in pcm {
            let sample = i64::from(*sample);
            sum += sample;
            squares += sample * sample;
        }
        let full_scale = 32_768.0;
        let mean = sum as f64 / WINDOW as f64 / full_scale;
        let variance = squares as f64 / WINDOW as f64 / full_scale / full_scale - mean * mean;
        let gain = 1.0 / (variance.max(0.0) + VARIANCE_FLOOR).sqrt();
        let start = MARGIN + WINDOW - pcm.len();
        self.sound[..start].fill(-mean * gain);
        for (sound, sample) in self.sound[start..].iter_mut().zip(pcm) {
            *sound = (f64::from(*sample) / full_scale - mean) * gain;
        }
        for distance in 1..=MARGIN {
            self.sound[MARGIN - distance] = self.sound[MARGIN + distance];
            self.sound[MARGIN + WINDOW - 1 + distance] = self.sound[MARGIN + WINDOW - 1 - distance];
        }
    }

    /// The power at each frequency of the frame that begins at this place of the sound.
    fn transform(&mut self, from: usize) {
        for ((input, sound), weight) in self.frame.iter_mut().zip(&self.sound[from..]).zip(&self.window) {
            *input = sound * weight;
        }
        self.transform
            .process_with_scratch(&mut self.frame, &mut self.spectrum, &mut self.scratch)
            .expect("its buffers have the lengths that the plan made them with");
        for (power, value) in self.power.iter_mut().zip(&self.spectrum) {
            *power = value.norm_sqr();
        }
    }
}

/// Triangles on Slaney's mel scale from 0 to 8 kHz, each of area 1.
fn filters() -> Vec<Filter> {
    let highest = to_mel(8_000.0);
    let corner = |number: usize| from_mel(highest * number as f64 / (MELS + 1) as f64);
    (0..MELS)
        .map(|band| {
            let (low, centre, high) = (corner(band), corner(band + 1), corner(band + 2));
            let weight = |bin: usize| {
                let frequency = bin as f64 * 40.0;
                let rising = (frequency - low) / (centre - low);
                let falling = (high - frequency) / (high - centre);
                rising.min(falling).max(0.0) * 2.0 / (high - low)
            };
            let first = (0..BINS).find(|bin| weight(*bin) > 0.0).unwrap_or(0);
            let weights = (first..BINS).map(weight).take_while(|weight| *weight > 0.0).collect();
            Filter { first, weights }
        })
        .collect()
}

/// Slaney's scale is linear up to here, and logarithmic from here on.
const BREAK_HERTZ: f64 = 1_000.0;
const BREAK_MEL: f64 = 15.0;

/// Hertz of a mel below the break.
const HERTZ_PER_MEL: f64 = BREAK_HERTZ / BREAK_MEL;

/// Above it, 27 mels are a factor of 6.4.
fn mel_step() -> f64 {
    6.4_f64.ln() / 27.0
}

fn to_mel(hertz: f64) -> f64 {
    if hertz < BREAK_HERTZ {
        hertz / HERTZ_PER_MEL
    } else {
        BREAK_MEL + (hertz / BREAK_HERTZ).ln() / mel_step()
    }
}

fn from_mel(mel: f64) -> f64 {
    if mel < BREAK_MEL {
        mel * HERTZ_PER_MEL
    } else {
        BREAK_HERTZ * ((mel - BREAK_MEL) * mel_step()).exp()
    }
}
