//! Our own voice, coming back over the line: recognised, so that it is not taken for the caller.
//!
//! What we play returns 40 to 400 ms later, quieter, filtered by a room and a codec. [`EchoGuard`] knows what was
//! played and learns, while it is played, how it returns: a partitioned-block frequency-domain Kalman filter (Enzner and
//! Vary, "Frequency-domain adaptive Kalman filter for acoustic echo control in hands-free telephones", Signal
//! Processing 86, 2006; partitioned by Kuech, Mabande and Enzner, ICASSP 2014). The filter says what of a frame it can
//! explain, and how uncertain it is of that. A frame that exceeds both is the caller's.
//!
//! 20 ms cost 14 µs while something may return, 2 of them for what is played; otherwise next to nothing.
//!
//! It compares and does not cancel: what recognisers hear stays untouched, and a caller who speaks over us is not
//! damaged by suppression. It listens to 100 to 1800 Hz, where every telephone has its speech, at 4 kHz.
//!
//! WebRTC's canceller (AEC3, by way of the crate sonora 0.2) was tried first on the scenes of the tests: it cost 560 µs
//! for 10 ms and let nothing of the echo through, but it swallowed half of the caller's words in double talk and
//! their first second in two of five interruptions.

use std::sync::Arc;

use realfft::num_complex::Complex32;
use realfft::{ComplexToReal, RealFftPlanner, RealToComplex};

use crate::time::{SESSION_RATE, Samples};

/// Samples of the session's rate for one of ours.
const DECIMATION: usize = 4;
/// Samples of a block at our rate: 20 ms.
const BLOCK: usize = SESSION_RATE as usize / 50 / DECIMATION;
const WINDOW: usize = 2 * BLOCK;
const BINS: usize = BLOCK + 1;
/// How many blocks of the past may still be heard: 520 ms, which is 400 ms of delay and a room's tail.
const PARTITIONS: usize = 26;
/// Taps of the low-pass before the rate is lowered: 1.7 kHz, down by 50 dB at 2.3 kHz.
const TAPS: usize = 64;
/// How much of what was played is kept: 4 s, for wires that are sent to ahead of time.
const KEPT: usize = 4 * SESSION_RATE as usize / DECIMATION;

/// The bins that are judged: from 100 to 1800 Hz.
const JUDGED: std::ops::Range<usize> = 4..73;
/// The uncertainty in each partition before anything is known: an echo as loud as what was played is possible.
const UNKNOWN: f32 = 0.12;
/// The uncertainty that always remains, so that an echo which begins late is still learnt.
const REMAINING: f32 = 4e-4;
/// How far the path of the echo stays as it is from one block to the next.
const STEADY: f32 = 0.98;
/// What of an explained echo is left over by codecs, clipping and loudspeakers, as power.
const LEFT_OVER: f32 = 0.02;
/// How quickly the power of the residual and the likeness of the explained follow, in each block.
const SMOOTHING: f32 = 0.5;
const LIKENESS: f32 = 0.3;
/// Less of the expected echo than this is found: the path has changed.
const FOUND: f32 = 0.3;
/// More than so much of the expected is left: the caller is so loud that nothing can be said of the echo below.
const LOUDER: f32 = 4.0;
/// How many partitions away the echo may be after a jump.
const NEAR: usize = 2;
/// What is played louder than this, in steps of 16 bits, can return: -64 dBov.
const AUDIBLE: u16 = 20;
/// Power of a sample (of 1) that is quiet whatever it is: -62 dBov.
const QUIET: f32 = 6e-7;
/// By how much a frame exceeds what is explained, in power, to be the caller's: 6 dB.
const EXCESS: f32 = 4.0;
/// A caller who has begun is believed for so many blocks more: words have soft moments.
const BELIEVED: u8 = 4;

/// What a frame was taken for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Verdict {
    /// It holds our own voice and nothing that exceeds it.
    pub is_echo: bool,
    /// The part of its power that is our own voice or cannot be told from it, 0 to 1.
    pub echo_share: f32,
}

impl Verdict {
    const CALLER: Self = Self {
        is_echo: false,
        echo_share: 0.0,
    };
}

/// Tells our own voice from the caller's. Times are positions on the session's sample clock (16 kHz).
pub struct EchoGuard {
    forward: Arc<dyn RealToComplex<f32>>,
    backward: Arc<dyn ComplexToReal<f32>>,
    scratch: Vec<Complex32>,
    wave: Vec<f32>,
    bins: Vec<Complex32>,
    taps: [f32; TAPS],
    played: Played,
    heard: Lowering,
    /// Where the next heard sample is expected.
    next: Samples,
    /// Lowered samples whose block is not full yet, and where the first of them is at our rate.
    block: Vec<f32>,
    block_at: u64,
    /// The spectra of what was played, a ring with the newest at `newest`.
    inputs: Vec<Spectrum>,
    newest: usize,
    /// The filter: what of a spectrum so many blocks ago is heard now.
    paths: Vec<Path>,
    /// Which partition is constrained next.
    constrained: usize,
    /// The spectrum of the residual, its power, smoothed, and how uncertain the filter is, all for one block.
    residual: Spectrum,
    residual_power: [f32; BINS],
    uncertain: [f32; BINS],
    explained: Spectrum,
    /// How much of the echo the filter finds again in what is heard, smoothed: products with the explained, and its
    /// own power.
    found: f32,
    expected: f32,
    remaining: f32,
    exceeding: u8,
    believed: u8,
    verdict: Verdict,
}

#[derive(Debug, Clone)]
struct Spectrum {
    re: [f32; BINS],
    im: [f32; BINS],
}

impl Spectrum {
    const ZERO: Self = Self {
        re: [0.0; BINS],
        im: [0.0; BINS],
    };

    fn take(&mut self, bins: &[Complex32]) {
        for ((bin, re), im) in bins.iter().zip(&mut self.re).zip(&mut self.im) {
            (*re, *im) = (bin.re, bin.im);
        }
    }

    fn give(&self, bins: &mut [Complex32]) {
        for ((bin, &re), &im) in bins.iter_mut().zip(&self.re).zip(&self.im) {
            *bin = Complex32::new(re, im);
        }
        // Both are real, whatever rounding made of them.
        bins[0].im = 0.0;
        bins[BINS - 1].im = 0.0;
    }
}

#[derive(Debug, Clone)]
struct Path {
    weight: Spectrum,
    uncertainty: [f32; BINS],
}

impl Path {
    const UNKNOWN: Self = Self {
        weight: Spectrum::ZERO,
        uncertainty: [UNKNOWN; BINS],
    };

    /// Adds what this partition expects of its `input`, and the power that it is uncertain of.
    #[expect(
        clippy::needless_range_loop,
        reason = "six arrays go side by side, which the compiler makes vectors of"
    )]
    fn explain(&self, input: &Spectrum, explained: &mut Spectrum, uncertain: &mut [f32; BINS]) {
        for k in 0..BINS {
            let (wr, wi, xr, xi) = (self.weight.re[k], self.weight.im[k], input.re[k], input.im[k]);
            explained.re[k] += wr * xr - wi * xi;
            explained.im[k] += wr * xi + wi * xr;
            uncertain[k] += self.uncertainty[k] * (xr * xr + xi * xi);
        }
    }

    /// The Kalman filter's step for this partition; `demand` is one over the power that all of them have to share.
    #[expect(
        clippy::needless_range_loop,
        reason = "six arrays go side by side, which the compiler makes vectors of"
    )]
    fn learn(&mut self, input: &Spectrum, residual: &Spectrum, demand: &[f32; BINS]) {
        for k in 0..BINS {
            let (xr, xi, er, ei) = (input.re[k], input.im[k], residual.re[k], residual.im[k]);
            let gain = self.uncertainty[k] * demand[k];
            let wr = self.weight.re[k] + gain * (xr * er + xi * ei);
            let wi = self.weight.im[k] + gain * (xr * ei - xi * er);
            let known = 1.0 - 0.5 * gain * (xr * xr + xi * xi);
            let uncertainty = STEADY * known * self.uncertainty[k] + (1.0 - STEADY) * (wr * wr + wi * wi);
            self.uncertainty[k] = uncertainty.clamp(REMAINING, 1.0);
            self.weight.re[k] = wr;
            self.weight.im[k] = wi;
        }
    }
}

/// A stream on its way to the lower rate.
#[derive(Debug)]
struct Lowering {
    past: Vec<f32>,
}

impl Lowering {
    fn new() -> Self {
        let mut past = Vec::with_capacity(TAPS);
        past.resize(TAPS - DECIMATION, 0.0);
        Self { past }
    }

    /// Forgets the past.
    fn restart(&mut self) {
        self.past.clear();
        self.past.resize(TAPS - DECIMATION, 0.0);
    }

    /// Lowers `pcm`, and gives every sample to `out`.
    fn push(&mut self, pcm: &[i16], taps: &[f32; TAPS], mut out: impl FnMut(f32)) {
        for &sample in pcm {
            self.past.push(f32::from(sample) / 32_768.0);
            if self.past.len() == TAPS {
                out(product(&self.past, taps));
                self.past.drain(..DECIMATION);
            }
        }
    }
}

/// What was played, at our rate, by position.
#[derive(Debug)]
struct Played {
    lowering: Lowering,
    ring: Vec<f32>,
    next: Samples,
    /// The position after the newest sample, and after the newest that was not silent.
    end: u64,
    audible: Option<u64>,
}

impl Played {
    fn sample(&self, at: u64) -> f32 {
        if at < self.end && at + KEPT as u64 >= self.end {
            self.ring[(at % KEPT as u64) as usize]
        } else {
            0.0
        }
    }

    fn push(&mut self, at: Samples, pcm: &[i16], taps: &[f32; TAPS]) {
        if at != self.next {
            self.lowering.restart();
            let start = at.count() / DECIMATION as u64;
            // What was not played was silence; what is played again is played anew.
            for silent in self.end.max(start.saturating_sub(KEPT as u64))..start {
                self.ring[(silent % KEPT as u64) as usize] = 0.0;
            }
            self.end = start;
        }
        self.next = at + Samples::new(pcm.len() as u64);
        let Self {
            lowering, ring, end, ..
        } = self;
        lowering.push(pcm, taps, |sample| {
            ring[(*end % KEPT as u64) as usize] = sample;
            *end += 1;
        });
        if pcm.iter().any(|sample| sample.unsigned_abs() > AUDIBLE) {
            self.audible = Some(self.end);
        }
    }
}

impl std::fmt::Debug for EchoGuard {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("EchoGuard")
            .field("verdict", &self.verdict)
            .finish_non_exhaustive()
    }
}

impl Default for EchoGuard {
    fn default() -> Self {
        Self::new()
    }
}

impl EchoGuard {
    /// A guard that knows nothing of the line yet. It allocates here, and never again.
    #[must_use]
    pub fn new() -> Self {
        let mut planner = RealFftPlanner::new();
        let forward = planner.plan_fft_forward(WINDOW);
        let backward = planner.plan_fft_inverse(WINDOW);
        let scratch = forward.get_scratch_len().max(backward.get_scratch_len());
        Self {
            scratch: vec![Complex32::default(); scratch],
            wave: forward.make_input_vec(),
            bins: forward.make_output_vec(),
            forward,
            backward,
            taps: low_pass(),
            played: Played {
                lowering: Lowering::new(),
                ring: vec![0.0; KEPT],
                next: Samples::ZERO,
                end: 0,
                audible: None,
            },
            heard: Lowering::new(),
            next: Samples::ZERO,
            block: Vec::with_capacity(BLOCK),
            block_at: 0,
            inputs: vec![Spectrum::ZERO; PARTITIONS],
            newest: 0,
            paths: vec![Path::UNKNOWN; PARTITIONS],
            constrained: 0,
            residual: Spectrum::ZERO,
            residual_power: [0.0; BINS],
            uncertain: [0.0; BINS],
            explained: Spectrum::ZERO,
            found: 0.0,
            expected: 0.0,
            remaining: 0.0,
            exceeding: 0,
            believed: 0,
            verdict: Verdict::CALLER,
        }
    }

    /// Tells what is played, as it is heard first at `at`. It may be told ahead, up to 4 s. A position before the end of
    /// what was told already replaces what follows it.
    pub fn played(&mut self, at: Samples, pcm: &[i16]) {
        self.played.push(at, pcm, &self.taps);
    }

    /// What was told from `at` on will not be played.
    pub fn stopped(&mut self, at: Samples) {
        let end = at.count() / DECIMATION as u64;
        self.played.end = self.played.end.min(end);
        self.played.audible = self.played.audible.map(|audible| audible.min(end));
    }

    /// Whether something that was played by `at` may still be heard.
    #[must_use]
    pub fn is_listening(&self, at: Samples) -> bool {
        let at = at.count() / DECIMATION as u64;
        self.played
            .audible
            .is_some_and(|audible| at < audible + (PARTITIONS * BLOCK) as u64)
    }

    /// Judges what is heard from `at` on, of any length: the verdict of the last 20 ms that are complete. Where nothing was
    /// played that could return, it is the caller's, at no cost.
    pub fn heard(&mut self, at: Samples, pcm: &[i16]) -> Verdict {
        let continues = at == self.next;
        self.next = at + Samples::new(pcm.len() as u64);
        if !self.is_listening(at) {
            if self.verdict != Verdict::CALLER || !self.block.is_empty() {
                self.rest();
            }
            return Verdict::CALLER;
        }
        if !continues || self.block_at == 0 {
            self.rest();
            self.block_at = at.count() / DECIMATION as u64;
        }
        let mut rest = pcm;
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min((BLOCK - self.block.len()) * DECIMATION));
            let Self { heard, taps, block, .. } = self;
            heard.push(now, taps, |sample| block.push(sample));
            if self.block.len() >= BLOCK {
                self.judge();
                self.block.clear();
                self.block_at += BLOCK as u64;
            }
            rest = later;
        }
        self.verdict
    }

    /// Waits for the next time that something is played. What is known of the line stays.
    fn rest(&mut self) {
        self.block.clear();
        self.block_at = 0;
        self.heard.restart();
        self.inputs.fill(Spectrum::ZERO);
        self.residual_power = [0.0; BINS];
        self.exceeding = 0;
        self.believed = 0;
        self.verdict = Verdict::CALLER;
    }

    fn transform(&mut self) {
        self.forward
            .process_with_scratch(&mut self.wave, &mut self.bins, &mut self.scratch)
            .expect("the lengths are the plan's own");
    }

    fn transform_back(&mut self) {
        self.backward
            .process_with_scratch(&mut self.bins, &mut self.wave, &mut self.scratch)
            .expect("the lengths are the plan's own, and both ends are real");
    }

    /// One block: explains it, judges it, learns from it.
    fn judge(&mut self) {
        self.take_input();
        self.explain();
        self.transform_residual();
        self.notice_a_change();
        self.decide();
        self.learn();
        self.constrain();
    }

    fn take_input(&mut self) {
        for (index, sample) in self.wave.iter_mut().enumerate() {
            *sample = (self.block_at + index as u64)
                .checked_sub(BLOCK as u64)
                .map_or(0.0, |at| self.played.sample(at));
        }
        self.transform();
        self.newest = (self.newest + PARTITIONS - 1) % PARTITIONS;
        self.inputs[self.newest].take(&self.bins);
    }

    /// What the filter expects to hear, and how uncertain it is.
    fn explain(&mut self) {
        let (mut explained, mut uncertain) = (Spectrum::ZERO, [0.0; BINS]);
        for (partition, path) in self.paths.iter().enumerate() {
            let input = &self.inputs[(self.newest + partition) % PARTITIONS];
            path.explain(input, &mut explained, &mut uncertain);
        }
        // The residual is half a window long, so it has half the power of the inputs' spectra.
        self.uncertain = uncertain.map(|uncertain| uncertain * 0.5);
        explained.give(&mut self.bins);
        self.explained = explained;
        self.transform_back();
    }

    fn transform_residual(&mut self) {
        let (mut found, mut expected, mut remaining) = (0.0, 0.0, 0.0);
        let (first, second) = self.wave.split_at_mut(BLOCK);
        first.fill(0.0);
        for (explained, &heard) in second.iter_mut().zip(&self.block) {
            let sample = *explained / WINDOW as f32;
            found += sample * heard;
            expected += sample * sample;
            *explained = heard - sample;
            remaining += *explained * *explained;
        }
        self.found += (found - self.found) * LIKENESS;
        self.expected += (expected - self.expected) * LIKENESS;
        self.remaining += (remaining - self.remaining) * LIKENESS;
        self.transform();
        self.residual.take(&self.bins);
    }

    /// A jump of the delay leaves a filter that expects what is not heard. A caller does not: the echo is found below
    /// the words. After a jump the echo is somewhere near where it was, as strong as it was.
    fn notice_a_change(&mut self) {
        if self.expected < QUIET * BLOCK as f32 * 4.0
            || self.found > FOUND * self.expected
            || self.remaining > LOUDER * self.expected
        {
            return;
        }
        for k in 0..BINS {
            let mut powers = [0.0; PARTITIONS];
            for (power, path) in powers.iter_mut().zip(&self.paths) {
                *power = path.weight.re[k].powi(2) + path.weight.im[k].powi(2);
            }
            for (partition, path) in self.paths.iter_mut().enumerate() {
                let near = &powers[partition.saturating_sub(NEAR)..(partition + NEAR + 1).min(PARTITIONS)];
                let possible = near.iter().copied().fold(0.0, f32::max);
                path.uncertainty[k] = path.uncertainty[k].max(possible);
            }
        }
        self.explained_anew();
        self.found = self.expected;
    }

    /// How uncertain the filter is, after that was changed.
    fn explained_anew(&mut self) {
        self.uncertain = [0.0; BINS];
        for (partition, path) in self.paths.iter().enumerate() {
            let input = &self.inputs[(self.newest + partition) % PARTITIONS];
            for k in 0..BINS {
                self.uncertain[k] += 0.5 * path.uncertainty[k] * (input.re[k].powi(2) + input.im[k].powi(2));
            }
        }
    }

    fn decide(&mut self) {
        let (mut residual, mut bound, mut explained) = (0.0, 0.0, 0.0);
        for k in JUDGED {
            let echo = 0.5 * (self.explained.re[k].powi(2) + self.explained.im[k].powi(2));
            residual += self.residual.re[k].powi(2) + self.residual.im[k].powi(2);
            bound += self.uncertain[k] + LEFT_OVER * echo + QUIET * BLOCK as f32;
            explained += echo;
        }
        let exceeds = residual > EXCESS * bound;
        self.exceeding = if exceeds {
            (self.exceeding + 1).min(2)
        } else {
            self.exceeding.saturating_sub(1)
        };
        if self.exceeding == 2 {
            self.believed = BELIEVED;
        } else {
            self.believed = self.believed.saturating_sub(1);
        }
        let caller = (residual - bound).max(0.0);
        self.verdict = Verdict {
            is_echo: self.believed == 0,
            echo_share: 1.0 - caller / (caller + bound + explained),
        };
    }

    /// The Kalman filter's step.
    fn learn(&mut self) {
        let mut demand = [0.0; BINS];
        for (k, demand) in demand.iter_mut().enumerate() {
            let power = self.residual.re[k].powi(2) + self.residual.im[k].powi(2);
            self.residual_power[k] += (power - self.residual_power[k]) * SMOOTHING;
            *demand = 1.0 / (self.uncertain[k] + self.residual_power[k] + 1e-9);
        }
        for (partition, path) in self.paths.iter_mut().enumerate() {
            let input = &self.inputs[(self.newest + partition) % PARTITIONS];
            path.learn(input, &self.residual, &demand);
        }
    }

    /// Keeps two of the partitions no longer than a block, so that the products of spectra stay convolutions.
    fn constrain(&mut self) {
        for _ in 0..2 {
            self.constrained = (self.constrained + 1) % PARTITIONS;
            self.paths[self.constrained].weight.give(&mut self.bins);
            self.transform_back();
            for sample in &mut self.wave[..BLOCK] {
                *sample /= WINDOW as f32;
            }
            self.wave[BLOCK..].fill(0.0);
            self.transform();
            self.paths[self.constrained].weight.take(&self.bins);
        }
    }
}

/// The sum of products, in an order in which eight go at a time.
fn product(samples: &[f32], taps: &[f32; TAPS]) -> f32 {
    let mut sums = [0.0; 8];
    for (samples, taps) in samples.as_chunks::<8>().0.iter().zip(taps.as_chunks::<8>().0) {
        for ((sum, sample), tap) in sums.iter_mut().zip(samples).zip(taps) {
            *sum += sample * tap;
        }
    }
    sums.iter().sum()
}

/// A low-pass in a Hamming window, with a sum of 1.
fn low_pass() -> [f32; TAPS] {
    let cut = 1_700.0 / f64::from(SESSION_RATE);
    let mut taps: [f64; TAPS] = std::array::from_fn(|n| {
        let x = n as f64 - (TAPS as f64 - 1.0) / 2.0;
        let turn = std::f64::consts::TAU * (n as f64 + 0.5) / TAPS as f64;
        // No tap is in the middle of an even number, so this is never divided by zero.
        (std::f64::consts::TAU * cut * x).sin() / (std::f64::consts::PI * x) * (0.54 - 0.46 * turn.cos())
    });
    let sum: f64 = taps.iter().sum();
    taps.iter_mut().for_each(|tap| *tap /= sum);
    taps.map(|tap| tap as f32)
}

#[cfg(test)]
#[path = "echo/tests.rs"]
mod tests;
