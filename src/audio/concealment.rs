//! Packet loss concealment for codecs that have none of their own (PCM and G.711).
//!
//! After the manner of ITU-T G.711 Appendix I, but smaller: the last pitch period is repeated and faded out over
//! [`FADE_MS`], after which there is silence; the first samples after the loss are blended with the continuation, so
//! that there is no click.

use super::frame::SampleRate;

/// How long a loss is filled with sound, in milliseconds. G.711 Appendix I goes silent at the same point.
pub(super) const FADE_MS: u32 = 60;
/// The longest pitch period that is looked for, in tenths of milliseconds: 66 Hz, as in Appendix I.
const LONGEST_PERIOD: u32 = 150;
/// The shortest: 200 Hz. Higher voices are repeated by two or more of their periods.
const SHORTEST_PERIOD: u32 = 50;
/// How much of the past a candidate period is compared with, in tenths of milliseconds.
const COMPARED: u32 = 100;
/// Over how much the sound after a loss is blended with the continuation, in milliseconds.
const BLEND_MS: u32 = 4;

/// The recent past of a stream, and where in a loss it is.
#[derive(Debug)]
pub(super) struct Concealer {
    /// The newest samples, oldest first, never more than `capacity`.
    history: Vec<i16>,
    capacity: usize,
    rate: SampleRate,
    /// Samples concealed since the last good one; 0 outside a loss.
    concealed: usize,
    /// The period that is being repeated in this loss.
    period: usize,
}

fn tenths(rate: SampleRate, tenths_ms: u32) -> usize {
    rate.samples(tenths_ms) / 10
}

impl Concealer {
    pub(super) fn new(rate: SampleRate) -> Self {
        let capacity = tenths(rate, LONGEST_PERIOD + COMPARED);
        Self {
            history: Vec::with_capacity(capacity),
            capacity,
            rate,
            concealed: 0,
            period: 0,
        }
    }

    /// Takes note of `samples` that were decoded, and blends their start with the continuation if a loss just ended.
    pub(super) fn accept(&mut self, samples: &mut [i16]) {
        if samples.is_empty() {
            return;
        }
        if self.concealed > 0 {
            let blend = self.rate.samples(BLEND_MS).min(samples.len());
            for (n, sample) in samples[..blend].iter_mut().enumerate() {
                let old = self.next_concealed();
                let weight = (n + 1) as f32 / (blend + 1) as f32;
                *sample = (f32::from(*sample) * weight + f32::from(old) * (1.0 - weight)) as i16;
            }
            self.concealed = 0;
        }
        self.remember(samples);
    }

    /// Appends `samples` in place of lost ones.
    pub(super) fn conceal(&mut self, samples: usize, out: &mut Vec<i16>) {
        if self.concealed == 0 {
            self.period = self.find_period();
        }
        let audible = self.rate.samples(FADE_MS).saturating_sub(self.concealed).min(samples);
        for _ in 0..audible {
            let sample = self.next_concealed();
            out.push(sample);
        }
        self.concealed += samples - audible;
        out.extend(std::iter::repeat_n(0, samples - audible));
    }

    /// Forgets the past, for a new stream.
    pub(super) fn reset(&mut self) {
        self.history.clear();
        self.concealed = 0;
        self.period = 0;
    }

    fn remember(&mut self, samples: &[i16]) {
        let kept = &samples[samples.len().saturating_sub(self.capacity)..];
        let excess = (self.history.len() + kept.len()).saturating_sub(self.capacity);
        self.history.drain(..excess);
        self.history.extend_from_slice(kept);
    }

    /// The next sample of the repeated period, faded by how long the loss lasts already.
    fn next_concealed(&mut self) -> i16 {
        let position = self.concealed;
        self.concealed += 1;
        let fade = self.rate.samples(FADE_MS);
        if self.period == 0 || position >= fade {
            return 0;
        }
        let start = self.history.len() - self.period;
        let sample = i64::from(self.history[start + position % self.period]);
        (sample * (fade - position) as i64 / fade as i64) as i16
    }

    /// The lag at which the newest samples resemble older ones most, by normalised correlation; 0 without a past.
    fn find_period(&self) -> usize {
        let (shortest, longest) = (tenths(self.rate, SHORTEST_PERIOD), tenths(self.rate, LONGEST_PERIOD));
        let compared = tenths(self.rate, COMPARED);
        if self.history.len() < longest + compared {
            // Too little is known to look for a pitch; what there is of the longest period is repeated.
            return self.history.len().min(longest);
        }
        // At the telephone's resolution a pitch is found well enough, and at a 36th of the cost of 48 kHz.
        let stride = (self.rate.hz() / SampleRate::Hz8000.hz()) as usize;
        let newest = &self.history[self.history.len() - compared..];
        let mut best = (0.0_f32, longest);
        for lag in (shortest..=longest).step_by(stride) {
            let older = &self.history[self.history.len() - compared - lag..][..compared];
            let (mut product, mut energy) = (0.0_f32, 1.0_f32);
            for (&new, &old) in newest.iter().step_by(stride).zip(older.iter().step_by(stride)) {
                product += f32::from(new) * f32::from(old);
                energy += f32::from(old) * f32::from(old);
            }
            let likeness = product / energy.sqrt();
            if likeness > best.0 {
                best = (likeness, lag);
            }
        }
        best.1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::frame::rms_dbfs;

    fn tone(rate: SampleRate, hz: f64, samples: usize) -> Vec<i16> {
        (0..samples)
            .map(|n| (8000.0 * (n as f64 * hz / f64::from(rate.hz()) * std::f64::consts::TAU).sin()) as i16)
            .collect()
    }

    #[test]
    fn a_tone_goes_on_through_a_loss_and_fades_to_silence() {
        for rate in SampleRate::ALL {
            let frame = rate.samples(20);
            let mut sound = tone(rate, 125.0, frame * 6);
            let mut concealer = Concealer::new(rate);
            let (past, future) = sound.split_at_mut(frame * 3);
            concealer.accept(past);
            let mut out = Vec::new();
            concealer.conceal(frame, &mut out);
            let error: Vec<i16> = out.iter().zip(&*future).map(|(a, b)| a - b).collect();
            // The difference is the fading alone.
            assert!(rms_dbfs(&error) < rms_dbfs(past) - 12.0, "{rate}: {}", rms_dbfs(&error));
            let mut last = rms_dbfs(&out);
            for _ in 0..2 {
                out.clear();
                concealer.conceal(frame, &mut out);
                assert!(rms_dbfs(&out) < last);
                last = rms_dbfs(&out);
            }
            out.clear();
            concealer.conceal(frame, &mut out);
            assert!(out.iter().all(|&s| s == 0), "silent after 60 ms");
        }
    }

    #[test]
    fn the_end_of_a_loss_does_not_click() {
        let rate = SampleRate::Hz8000;
        let mut concealer = Concealer::new(rate);
        concealer.accept(&mut tone(rate, 200.0, 800));
        let mut out = Vec::new();
        concealer.conceal(160, &mut out);
        let mut next = vec![-8000; 160];
        concealer.accept(&mut next);
        out.extend(next);
        let steepest = out
            .windows(2)
            .map(|w| (i32::from(w[1]) - i32::from(w[0])).abs())
            .max()
            .unwrap();
        assert!(steepest < 2000, "{steepest}");
        assert_eq!(out[159 + 33], -8000, "nothing is blended after 4 ms");
    }

    #[test]
    fn a_loss_without_a_past_is_silence() {
        let mut concealer = Concealer::new(SampleRate::Hz16000);
        let mut out = Vec::new();
        concealer.conceal(500, &mut out);
        assert_eq!(out, vec![0; 500]);
        let mut few = [100, 200, 300];
        concealer.reset();
        concealer.accept(&mut few);
        out.clear();
        concealer.conceal(4, &mut out);
        assert_eq!(out.len(), 4);
        concealer.accept(&mut []);
        concealer.conceal(0, &mut out);
        assert_eq!(out.len(), 4);
    }
}
