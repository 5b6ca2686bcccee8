//! G.722 at 64 kbit/s: wideband speech, one byte for two samples of 16 kHz (ITU-T G.722 (09/2012), mode 1).
//!
//! A quadrature mirror filter splits the sound at 4 kHz. Each half is coded by its own adaptive differential coder:
//! the lower with 6 bits, the upper with 2. Decoder and encoder start from the state of the recommendation's reset
//! and carry on alike, so a stream has no header and a lost packet mends itself within milliseconds.
//!
//! In RTP its clock runs at 8000 Hz although its samples come at 16 kHz (RFC 3551 §4.5.2, an old mistake that became
//! the standard); its static payload type is 9.

use std::array;

/// Samples a second that go in and come out.
pub const HZ: u32 = 16_000;
/// How much later a sound comes out of the decoder than it went into the encoder, in samples: the two filters.
pub const DELAY: usize = 22;

/// One half of the filter that splits and joins the bands, symmetrical with the other (G.722 table 4, times 8192).
const FILTER: [i32; 12] = [3, -11, 12, 32, -210, 951, 3876, -805, 362, -156, 53, -11];
/// The limits of a band's samples: 15 bits (blocks LIMIT).
const LIMIT: (i32, i32) = (-16_384, 16_383);

/// Decision levels of the lower band's quantiser (table 5, `Q6`): a difference below `LEVELS[n]`, scaled, has
/// magnitude `n`.
const LEVELS: [i32; 29] = [
    35, 72, 110, 150, 190, 233, 276, 323, 370, 422, 473, 530, 587, 650, 714, 786, 858, 940, 1023, 1121, 1219, 1339,
    1458, 1612, 1765, 1980, 2195, 2557, 2919,
];
/// The decision level of the upper band's (table 6).
const UPPER_LEVEL: i32 = 564;
/// Differences of the lower band by all 6 bits (table 9, `QM6`).
const QUANTISED_64: [i32; 64] = [
    -136, -136, -136, -136, -24808, -21904, -19008, -16704, -14984, -13512, -12280, -11192, -10232, -9360, -8576,
    -7856, -7192, -6576, -6000, -5456, -4944, -4464, -4008, -3576, -3168, -2776, -2400, -2032, -1688, -1360, -1040,
    -728, 24808, 21904, 19008, 16704, 14984, 13512, 12280, 11192, 10232, 9360, 8576, 7856, 7192, 6576, 6000, 5456,
    4944, 4464, 4008, 3576, 3168, 2776, 2400, 2032, 1688, 1360, 1040, 728, 432, 136, -432, -136,
];
/// The same by the first 4 bits, by which both sides adapt (table 8, `QM4`).
const QUANTISED_16: [i32; 16] = [
    0, -20456, -12896, -8968, -6288, -4240, -2584, -1200, 20456, 12896, 8968, 6288, 4240, 2584, 1200, 0,
];
/// Differences of the upper band (table 10, `QM2`).
const UPPER_QUANTISED: [i32; 4] = [-7408, -1616, 7408, 1616];
/// How the logarithmic step of the lower band changes, by the first 4 bits (table 11, `WL` and `RL42`).
const STEPS: [i32; 16] = [
    -60, 3042, 1198, 538, 334, 172, 58, -30, 3042, 1198, 538, 334, 172, 58, -30, -60,
];
/// The same for the upper band (table 12, `WH` and `RH2`).
const UPPER_STEPS: [i32; 4] = [798, -214, 798, -214];
/// Two to the power of n/32, times 2048 (table 13, `ILB`).
const POWERS: [i32; 32] = [
    2048, 2093, 2139, 2186, 2233, 2282, 2332, 2383, 2435, 2489, 2543, 2599, 2656, 2714, 2774, 2834, 2896, 2960, 3025,
    3091, 3158, 3228, 3298, 3371, 3444, 3520, 3597, 3676, 3756, 3838, 3922, 4008,
];

const fn saturate(value: i32) -> i32 {
    if value > i16::MAX as i32 {
        i16::MAX as i32
    } else if value < i16::MIN as i32 {
        i16::MIN as i32
    } else {
        value
    }
}

/// One adaptive predictor and its step: the same in both bands but for the numbers.
#[derive(Debug, Clone)]
struct Band {
    /// The step of the quantiser (`DETL`, `DETH`).
    step: i32,
    /// Its logarithm (`NBL`, `NBH`).
    log_step: i32,
    /// What the next sample is expected to be (`SL`, `SH`), and the zero section's part in that.
    expected: i32,
    expected_zeros: i32,
    /// The last two reconstructed samples, newest first, and the coefficients of the pole section.
    reconstructed: [i32; 2],
    poles: [i32; 2],
    /// The signs of the last two partially reconstructed samples.
    partial_negative: [bool; 2],
    /// The last six differences, newest first, and the coefficients of the zero section.
    differences: [i32; 6],
    zeros: [i32; 6],
}

impl Band {
    /// The state after a reset; the first `step` is 32 in the lower band and 8 in the upper.
    const fn new(step: i32) -> Self {
        Self {
            step,
            log_step: 0,
            expected: 0,
            expected_zeros: 0,
            reconstructed: [0; 2],
            poles: [0; 2],
            partial_negative: [false; 2],
            differences: [0; 6],
            zeros: [0; 6],
        }
    }

    /// A quantised difference in the scale of the signal.
    const fn scaled(&self, quantised: i32) -> i32 {
        (self.step * quantised) >> 15
    }

    /// Changes the step for the next sample (blocks `LOGSCL` and `SCALEL`, or `LOGSCH` and `SCALEH`).
    fn adapt_step(&mut self, change: i32, longest: i32, shift: i32) {
        self.log_step = (((self.log_step * 127) >> 7) + change).clamp(0, longest);
        let power = POWERS[((self.log_step >> 6) & 31) as usize];
        let down = shift - (self.log_step >> 11);
        self.step = if down < 0 { power << -down } else { power >> down } << 2;
    }

    /// Learns from the `difference` between the sample and its expectation, and expects the next (block 4).
    fn adapt(&mut self, difference: i32) {
        let reconstructed = saturate(self.expected + difference);
        let negative = saturate(self.expected_zeros + difference) < 0;
        let [last_negative, before_negative] = self.partial_negative;

        // UPPOL2, with the old first coefficient.
        let quadrupled = saturate(self.poles[0] << 2);
        let turned = if negative == last_negative {
            (-quadrupled).min(i32::from(i16::MAX))
        } else {
            quadrupled
        };
        let nudge = if negative == before_negative { 128 } else { -128 };
        let second = ((turned >> 7) + nudge + ((self.poles[1] * 32_512) >> 15)).clamp(-12_288, 12_288);
        // UPPOL1: the pair stays stable.
        let nudge = if negative == last_negative { 192 } else { -192 };
        let widest = saturate(15_360 - second);
        let first = saturate(nudge + ((self.poles[0] * 32_640) >> 15)).clamp(-widest, widest);
        self.poles = [first, second];

        // UPZERO, with the differences before this one.
        let nudge = if difference == 0 { 0 } else { 128 };
        for (zero, &old) in self.zeros.iter_mut().zip(&self.differences) {
            let agrees = (old < 0) == (difference < 0);
            *zero = saturate(if agrees { nudge } else { -nudge } + ((*zero * 32_640) >> 15));
        }

        // DELAYA, then FILTEP, FILTEZ and PREDIC.
        self.differences.copy_within(0..5, 1);
        self.differences[0] = difference;
        self.reconstructed = [reconstructed, self.reconstructed[0]];
        self.partial_negative = [negative, last_negative];
        let weighted = |(&weight, &value): (&i32, &i32)| (weight * saturate(value << 1)) >> 15;
        let poles: i32 = self.poles.iter().zip(&self.reconstructed).map(weighted).sum();
        let zeros: i32 = self.zeros.iter().zip(&self.differences).map(weighted).sum();
        self.expected_zeros = saturate(zeros);
        self.expected = saturate(saturate(poles) + self.expected_zeros);
    }
}

/// The two coders and the past of the filter: the same on both sides.
#[derive(Debug, Clone)]
struct Halves {
    lower: Band,
    upper: Band,
    /// The last 24 samples on the filter's side, oldest first.
    past: [i32; 24],
}

impl Halves {
    const fn new() -> Self {
        Self {
            lower: Band::new(32),
            upper: Band::new(8),
            past: [0; 24],
        }
    }

    /// Takes two values into the filter and gives its two phases.
    fn filter(&mut self, newest: [i32; 2]) -> [i32; 2] {
        self.past.copy_within(2.., 0);
        self.past[22..].copy_from_slice(&newest);
        let (pairs, _) = self.past.as_chunks::<2>();
        let mut sums = [0; 2];
        for (index, [first, second]) in pairs.iter().enumerate() {
            sums[0] += first * FILTER[index];
            sums[1] += second * FILTER[FILTER.len() - 1 - index];
        }
        sums
    }

    /// Both coders go on by the bits of one byte, as they do on the other side.
    fn adapt(&mut self, byte: u8) {
        let coarse = usize::from(byte & 0x3F) >> 2;
        let difference = self.lower.scaled(QUANTISED_16[coarse]);
        self.lower.adapt_step(STEPS[coarse], 18_432, 8);
        self.lower.adapt(difference);
        let bits = usize::from(byte >> 6);
        let difference = self.upper.scaled(UPPER_QUANTISED[bits]);
        self.upper.adapt_step(UPPER_STEPS[bits], 22_528, 10);
        self.upper.adapt(difference);
    }
}

/// Samples at 16 kHz to bytes.
#[derive(Debug, Clone)]
pub struct G722Encoder {
    halves: Halves,
    /// The first of two samples, when an odd number came.
    half: Option<i16>,
}

impl Default for G722Encoder {
    fn default() -> Self {
        Self::new()
    }
}

impl G722Encoder {
    /// An encoder at the beginning of a stream.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            halves: Halves::new(),
            half: None,
        }
    }

    /// Appends one byte for every two of `samples` to `out`. An odd one waits for the next call.
    pub fn encode(&mut self, mut samples: &[i16], out: &mut Vec<u8>) {
        if let (Some(first), Some((&second, rest))) = (self.half, samples.split_first()) {
            out.push(self.pair([first, second]));
            self.half = None;
            samples = rest;
        }
        let (pairs, rest) = samples.as_chunks::<2>();
        out.extend(pairs.iter().map(|&pair| self.pair(pair)));
        self.half = rest.first().copied().or(self.half);
    }

    fn pair(&mut self, pair: [i16; 2]) -> u8 {
        let [odd, even] = self.halves.filter(pair.map(i32::from));
        let lower = ((even + odd) >> 14).clamp(LIMIT.0, LIMIT.1);
        let upper = ((even - odd) >> 14).clamp(LIMIT.0, LIMIT.1);
        let byte = (quantise_upper(upper, &self.halves.upper) << 6) | quantise_lower(lower, &self.halves.lower);
        self.halves.adapt(byte);
        byte
    }
}

/// Blocks `SUBTRA` and `QUANTL`: 6 bits.
fn quantise_lower(sample: i32, band: &Band) -> u8 {
    let difference = saturate(sample - band.expected);
    // The one's complement makes both halves of the range alike.
    let magnitude = if difference < 0 { !difference } else { difference };
    let level = LEVELS.partition_point(|level| magnitude >= (level * band.step) >> 12) as u8;
    match (difference < 0, level) {
        (true, 0..2) => 63 - level,
        (true, _) => 33 - level,
        (false, _) => 61 - level,
    }
}

/// Blocks `SUBTRA` and `QUANTH`: 2 bits.
fn quantise_upper(sample: i32, band: &Band) -> u8 {
    let difference = saturate(sample - band.expected);
    let magnitude = if difference < 0 { !difference } else { difference };
    let small = magnitude < (UPPER_LEVEL * band.step) >> 12;
    if difference < 0 {
        u8::from(small)
    } else {
        2 + u8::from(small)
    }
}

/// Bytes to samples at 16 kHz.
#[derive(Debug, Clone)]
pub struct G722Decoder {
    halves: Halves,
}

impl Default for G722Decoder {
    fn default() -> Self {
        Self::new()
    }
}

impl G722Decoder {
    /// A decoder at the beginning of a stream.
    #[must_use]
    pub const fn new() -> Self {
        Self { halves: Halves::new() }
    }

    /// Appends two samples for every byte to `out`. Every byte means something; none is refused.
    pub fn decode(&mut self, bytes: &[u8], out: &mut Vec<i16>) {
        out.extend(bytes.iter().flat_map(|&byte| self.byte(byte)));
    }

    fn byte(&mut self, byte: u8) -> [i16; 2] {
        let Halves { lower, upper, .. } = &self.halves;
        let low = lower.expected + lower.scaled(QUANTISED_64[usize::from(byte & 0x3F)]);
        let high = upper.expected + upper.scaled(UPPER_QUANTISED[usize::from(byte >> 6)]);
        let (low, high) = (low.clamp(LIMIT.0, LIMIT.1), high.clamp(LIMIT.0, LIMIT.1));
        self.halves.adapt(byte);
        let [even, odd] = self.halves.filter([low + high, low - high]);
        array::from_fn(|index| saturate([odd, even][index] >> 11) as i16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(sound: &[i16]) -> Vec<i16> {
        let (mut encoder, mut decoder) = (G722Encoder::new(), G722Decoder::new());
        let (mut bytes, mut out) = (Vec::new(), Vec::new());
        for frame in sound.chunks(320) {
            bytes.clear();
            encoder.encode(frame, &mut bytes);
            assert_eq!(bytes.len(), frame.len() / 2);
            decoder.decode(&bytes, &mut out);
        }
        assert_eq!(out.len(), sound.len());
        out
    }

    /// Signal to noise in decibels, the delay taken out.
    fn snr(sound: &[i16], out: &[i16]) -> f64 {
        let (mut signal, mut noise) = (0.0, 1.0);
        for (&sent, &got) in sound.iter().zip(&out[DELAY..]) {
            signal += f64::from(sent).powi(2);
            noise += (f64::from(sent) - f64::from(got)).powi(2);
        }
        10.0 * f64::log10(signal / noise)
    }

    fn tone(hz: f64, level: f64, samples: usize) -> Vec<i16> {
        (0..samples)
            .map(|n| (level * (n as f64 * hz / f64::from(HZ) * std::f64::consts::TAU).sin()) as i16)
            .collect()
    }

    #[test]
    fn tones_of_both_bands_come_back() {
        for (hz, at_least) in [(300.0, 30.0), (1000.0, 30.0), (3000.0, 25.0), (6000.0, 15.0)] {
            for level in [300.0, 3000.0, 20_000.0] {
                let sound = tone(hz, level, 16_000);
                let snr = snr(&sound, &round_trip(&sound));
                assert!(snr > at_least, "{hz} Hz at {level}: {snr:.1} dB");
            }
        }
    }

    #[test]
    fn the_first_bytes_are_those_of_a_reset() {
        let mut decoder = G722Decoder::new();
        let mut out = Vec::new();
        decoder.decode(&[0x80, 0x04, 0xFF, 0xC0, 0x3F, 0x20, 0x9A, 0x61], &mut out);
        // The lower band's first step is 32, so its first difference cannot be more than 24.
        assert!(out.iter().all(|sample| sample.abs() < 200), "{out:?}");
        let mut encoder = G722Encoder::new();
        let mut bytes = Vec::new();
        encoder.encode(&[0; 8], &mut bytes);
        assert_eq!(
            bytes[0], 0xFA,
            "what silence is known by: 58 in the lower band, 3 in the upper"
        );
    }

    #[test]
    fn an_odd_sample_waits_for_the_next() {
        let sound = tone(700.0, 9000.0, 640);
        let (mut whole, mut pieces) = (Vec::new(), Vec::new());
        G722Encoder::new().encode(&sound, &mut whole);
        let mut encoder = G722Encoder::new();
        for piece in sound.chunks(7) {
            encoder.encode(&[], &mut pieces);
            encoder.encode(piece, &mut pieces);
        }
        assert_eq!(whole, pieces);
    }

    #[test]
    fn any_bytes_are_sound_and_a_decoder_finds_its_way_back() {
        let sound = tone(500.0, 9000.0, 32_000);
        let mut bytes = Vec::new();
        G722Encoder::new().encode(&sound, &mut bytes);
        let mut decoder = G722Decoder::new();
        let (mut rubbish, mut out) = (Vec::new(), Vec::new());
        let noise: Vec<u8> = (0..8000_u32)
            .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
            .collect();
        decoder.decode(&noise, &mut rubbish);
        decoder.decode(&bytes, &mut out);
        assert!(snr(&sound[16_000..], &out[16_000..]) > 25.0);
        let extremes = [i16::MAX, i16::MIN].repeat(4000);
        assert_eq!(round_trip(&extremes).len(), extremes.len());
        let steps: Vec<i16> = (0..8000)
            .map(|n| if n / 50 % 2 == 0 { i16::MAX } else { i16::MIN })
            .collect();
        assert_eq!(round_trip(&steps).len(), steps.len());
    }

    #[test]
    fn speech_comes_back() {
        let folder = std::env::var_os("REPARTEE_SPEECH").map_or_else(
            || std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/speech"),
            std::path::PathBuf::from,
        );
        let path = folder.join("librispeech/1089-134686-0000.flac");
        let Ok(sound) = crate::cli::talk::recording::read_recording(&path, HZ) else {
            println!("skipped: no recording at {}", path.display());
            return;
        };
        let snr = snr(&sound, &round_trip(&sound));
        assert!(snr > 15.0, "{snr:.1} dB");
    }
}
