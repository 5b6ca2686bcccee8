//! Comfort noise: what a line sounds like while nobody speaks, so that it does not seem dead.

use super::frame::SampleRate;

/// The level that goes unnoticed on most lines, in dBov (0 is a square wave of full scale, as in RFC 3389 §3.1).
pub const DEFAULT_DBOV: f32 = -60.0;
/// Where the spectrum begins to fall, in Hz, by 6 dB an octave: about the slope of the noise in rooms with telephones (D. F.
/// Hoth, "Room noise spectra at subscribers' telephone locations", JASA 12, 1941).
const CORNER_HZ: f32 = 700.0;

/// Noise without end, the same again for the same seed. It never allocates.
#[derive(Debug, Clone)]
pub struct ComfortNoise {
    state: u64,
    /// What remains of the last sample in the next.
    keep: f32,
    /// From the generator's 32 bits to samples.
    gain: f32,
    last: f32,
}

impl ComfortNoise {
    /// Noise at `rate` of `level_dbov`, which is held between -90 (nothing) and -30 (loud).
    #[must_use]
    pub fn new(rate: SampleRate, level_dbov: f32, seed: u64) -> Self {
        let keep = (-std::f32::consts::TAU * CORNER_HZ / rate.hz() as f32).exp();
        // A level that is no number is the default.
        let level = if level_dbov.is_nan() {
            DEFAULT_DBOV
        } else {
            level_dbov.clamp(-90.0, -30.0)
        };
        let rms = 32_768.0 * 10_f32.powf(level / 20.0);
        // Even noise between -1 and 1 has a power of 1/3, of which the low-pass leaves (1 - keep) / (1 + keep).
        let left = (1.0 - keep) / (1.0 + keep);
        Self {
            // Of all states only zero stays as it is.
            state: seed ^ 0x9E37_79B9_7F4A_7C15 | 1,
            keep,
            gain: rms / (left / 3.0).sqrt() * (1.0 - keep) / -(i32::MIN as f32),
            last: 0.0,
        }
    }

    /// The next sample.
    fn next(&mut self) -> f32 {
        // xorshift64* (S. Vigna, "An experimental exploration of Marsaglia's xorshift generators, scrambled", 2016).
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        let bits = (self.state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32) as u32;
        self.last = self.last * self.keep + bits.cast_signed() as f32 * self.gain;
        self.last
    }

    /// Fills `frame` with noise.
    pub fn fill(&mut self, frame: &mut [i16]) {
        frame.iter_mut().for_each(|sample| *sample = self.next().round() as i16);
    }

    /// Adds noise to what is in `frame`.
    pub fn add(&mut self, frame: &mut [i16]) {
        frame
            .iter_mut()
            .for_each(|sample| *sample = (f32::from(*sample) + self.next()).round() as i16);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::frame::rms_dbfs;

    #[test]
    fn it_has_its_level_at_every_rate() {
        for rate in SampleRate::ALL {
            for level in [-70.0, DEFAULT_DBOV, -45.0] {
                let mut second = vec![0; rate.samples(1000)];
                ComfortNoise::new(rate, level, 7).fill(&mut second);
                assert!(
                    (rms_dbfs(&second) - level).abs() < 1.0,
                    "{rate} {level}: {}",
                    rms_dbfs(&second)
                );
                let offset = second.iter().map(|&s| i64::from(s)).sum::<i64>() / second.len() as i64;
                assert!(offset.abs() < 10, "{rate} {level}: {offset}");
            }
        }
    }

    #[test]
    fn it_is_dull_and_does_not_repeat() {
        let mut noise = vec![0; 16_000];
        ComfortNoise::new(SampleRate::Hz16000, -40.0, 7).fill(&mut noise);
        let steps: Vec<i16> = noise.windows(2).map(|pair| pair[1] - pair[0]).collect();
        // The steps of white noise are 3 dB louder than itself.
        assert!(rms_dbfs(&steps) < rms_dbfs(&noise) - 2.0);
        let (first, second) = noise.split_at(8_000);
        assert_ne!(first, second);
    }

    #[test]
    fn a_seed_gives_the_same_noise_and_another_does_not() {
        let noise = |seed| {
            let mut frame = [0; 320];
            ComfortNoise::new(SampleRate::Hz16000, -40.0, seed).fill(&mut frame);
            frame
        };
        assert_eq!(noise(0), noise(0));
        assert_ne!(noise(0), noise(2));
    }

    #[test]
    fn added_to_sound_it_does_not_wrap() {
        let mut loud = [i16::MAX, i16::MIN].repeat(500);
        ComfortNoise::new(SampleRate::Hz8000, 400.0, 1).add(&mut loud);
        assert!(loud.chunks(2).all(|pair| pair[0] > 16_000 && pair[1] < -16_000));
        let mut nothing = [0; 100];
        ComfortNoise::new(SampleRate::Hz8000, f32::NEG_INFINITY, 1).add(&mut nothing);
        ComfortNoise::new(SampleRate::Hz8000, f32::NAN, 1).add(&mut nothing);
        assert!(nothing.iter().all(|sample| sample.abs() < 400));
    }
}
