//! G.711, both laws: 8 bits a sample (ITU-T G.711 (11/88), tables 1 and 2; the 16-bit scaling is that of the
//! reference code in ITU-T G.191).
//!
//! G.711 defines A-law on 13 bits and µ-law on 14 bits. Samples here are 16 bits wide with the same full scale, so
//! the values of the tables appear multiplied by 8 and by 4. Negative samples are encoded by their one's
//! complement, as in G.191, which makes both halves of the range symmetrical.

/// What µ-law adds to a magnitude before its logarithm is taken: 33 on the 14-bit scale (G.711 table 2).
const MU_LAW_BIAS: i32 = 33;
/// The largest biased magnitude: 13 bits.
const MU_LAW_CLIP: i32 = 0x1FFF;
/// A-law goes over the wire with its even bits inverted (G.711 table 1, note 2).
const A_LAW_INVERSION: u8 = 0x55;

/// A µ-law byte of silence: positive zero, which is sent as all ones.
pub const MU_LAW_SILENCE: u8 = 0xFF;
/// An A-law byte of silence: the smallest positive value, with the even bits inverted.
pub const A_LAW_SILENCE: u8 = 0xD5;

static MU_LAW_DECODED: [i16; 256] = mu_law_table();
static A_LAW_DECODED: [i16; 256] = a_law_table();

const fn mu_law_table() -> [i16; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let code = !(byte as u8);
        let segment = (code >> 4) & 7;
        let step = (code & 15) as i32;
        let magnitude = (((2 * step + MU_LAW_BIAS) << segment) - MU_LAW_BIAS) * 4;
        table[byte] = (if code & 0x80 != 0 { -magnitude } else { magnitude }) as i16;
        byte += 1;
    }
    table
}

const fn a_law_table() -> [i16; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let code = (byte as u8) ^ A_LAW_INVERSION;
        let segment = (code >> 4) & 7;
        let step = (code & 15) as i32;
        // The first segment is linear and has no implied leading one.
        let magnitude = if segment == 0 {
            16 * step + 8
        } else {
            (16 * step + 8 + 256) << (segment - 1)
        };
        table[byte] = (if code & 0x80 != 0 { magnitude } else { -magnitude }) as i16;
        byte += 1;
    }
    table
}

/// The 16-bit value of one µ-law byte: -32124 to 32124.
#[must_use]
pub fn mu_law_decode(byte: u8) -> i16 {
    MU_LAW_DECODED[usize::from(byte)]
}

/// The 16-bit value of one A-law byte: -32256 to 32256.
#[must_use]
pub fn a_law_decode(byte: u8) -> i16 {
    A_LAW_DECODED[usize::from(byte)]
}

/// The µ-law byte of the interval that `sample` lies in.
#[must_use]
pub fn mu_law_encode(sample: i16) -> u8 {
    let negative = sample < 0;
    let magnitude = i32::from(if negative { !sample } else { sample }) >> 2;
    let biased = (magnitude + MU_LAW_BIAS).min(MU_LAW_CLIP);
    // The bias makes it at least 33, so the highest bit is bit 5 (segment 0) to bit 12 (segment 7).
    let segment = 26 - biased.leading_zeros();
    let step = (biased >> (segment + 1)) & 15;
    let code = (segment << 4) as u8 | step as u8;
    !(if negative { code | 0x80 } else { code })
}

/// The A-law byte of the interval that `sample` lies in.
#[must_use]
pub fn a_law_encode(sample: i16) -> u8 {
    let negative = sample < 0;
    let magnitude = i32::from(if negative { !sample } else { sample }) >> 4;
    let code = if magnitude < 32 {
        // Segments 0 and 1 have the same step, so that one number counts through both.
        magnitude as u8
    } else {
        let segment = 28 - magnitude.leading_zeros();
        (segment << 4) as u8 | ((magnitude >> (segment - 1)) & 15) as u8
    };
    (if negative { code } else { code | 0x80 }) ^ A_LAW_INVERSION
}

/// Appends the samples of µ-law `bytes` to `out`.
pub fn mu_law_decode_into(bytes: &[u8], out: &mut Vec<i16>) {
    out.extend(bytes.iter().map(|&byte| mu_law_decode(byte)));
}

/// Appends the samples of A-law `bytes` to `out`.
pub fn a_law_decode_into(bytes: &[u8], out: &mut Vec<i16>) {
    out.extend(bytes.iter().map(|&byte| a_law_decode(byte)));
}

/// Appends `samples` to `out` as µ-law.
pub fn mu_law_encode_into(samples: &[i16], out: &mut Vec<u8>) {
    out.extend(samples.iter().map(|&sample| mu_law_encode(sample)));
}

/// Appends `samples` to `out` as A-law.
pub fn a_law_encode_into(samples: &[i16], out: &mut Vec<u8>) {
    out.extend(samples.iter().map(|&sample| a_law_encode(sample)));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The decision values of one polarity, built as the tables of G.711 give them: runs of (number of intervals,
    /// size of an interval). `n` intervals have `n + 1` decision values.
    fn decision_values(runs: &[(usize, i32)]) -> Vec<i32> {
        let mut values = vec![0];
        for &(count, size) in runs {
            for _ in 0..count {
                values.push(values.last().unwrap() + size);
            }
        }
        values
    }

    /// G.711 table 2, on its 14-bit scale: one interval of 1, fifteen of 2, then 16 each of 4 to 256.
    fn mu_law_decisions() -> Vec<i32> {
        let values = decision_values(&[
            (1, 1),
            (15, 2),
            (16, 4),
            (16, 8),
            (16, 16),
            (16, 32),
            (16, 64),
            (16, 128),
            (16, 256),
        ]);
        // x17, x33, … x129 as they are printed in the table.
        assert_eq!([values[16], values[32], values[48], values[64]], [31, 95, 223, 479]);
        assert_eq!(
            [values[80], values[96], values[112], values[128]],
            [991, 2015, 4063, 8159]
        );
        values
    }

    /// G.711 table 1, on its 13-bit scale: 32 intervals of 2, then 16 each of 4 to 128.
    fn a_law_decisions() -> Vec<i32> {
        let values = decision_values(&[(32, 2), (16, 4), (16, 8), (16, 16), (16, 32), (16, 64), (16, 128)]);
        assert_eq!([values[32], values[48], values[64], values[80]], [64, 128, 256, 512]);
        assert_eq!([values[96], values[112], values[128]], [1024, 2048, 4096]);
        values
    }

    #[test]
    fn mu_law_decodes_as_table_2() {
        let decisions = mu_law_decisions();
        for n in 0..128_usize {
            // The decoder output is the middle of the interval, except for zero itself.
            let value = if n == 0 {
                0
            } else {
                (decisions[n] + decisions[n + 1]) / 2
            };
            let positive = 255 - n as u8;
            assert_eq!(i32::from(mu_law_decode(positive)), value * 4, "interval {n}");
            assert_eq!(i32::from(mu_law_decode(positive & 0x7F)), -value * 4, "interval -{n}");
        }
        // Decoder output values as printed: y1 = 2 and y128 = 8031.
        assert_eq!([mu_law_decode(0xFE), mu_law_decode(0x80)], [2 * 4, 8031 * 4]);
        assert_eq!(mu_law_decode(0x00), -32124);
        assert_eq!(mu_law_decode(MU_LAW_SILENCE), 0);
    }

    #[test]
    fn a_law_decodes_as_table_1() {
        let decisions = a_law_decisions();
        for n in 0..128_usize {
            let value = (decisions[n] + decisions[n + 1]) / 2;
            let positive = (0x80 | n as u8) ^ 0x55;
            assert_eq!(i32::from(a_law_decode(positive)), value * 8, "interval {n}");
            assert_eq!(i32::from(a_law_decode(positive ^ 0x80)), -value * 8, "interval -{n}");
        }
        // y1 = 1 and y128 = 4032, as printed.
        assert_eq!(
            [a_law_decode(0xD5), a_law_decode(0x55), a_law_decode(0xAA)],
            [8, -8, 4032 * 8]
        );
        assert_eq!(a_law_decode(A_LAW_SILENCE), 8);
    }

    /// The slow encoder: look for the interval between whose decision values the sample lies.
    fn interval(magnitude: i32, decisions: &[i32]) -> u8 {
        decisions.partition_point(|&value| value <= magnitude).min(128) as u8 - 1
    }

    #[test]
    fn every_sample_is_encoded_into_its_interval() {
        let (mu, a) = (mu_law_decisions(), a_law_decisions());
        for sample in i16::MIN..=i16::MAX {
            let magnitude = i32::from(if sample < 0 { !sample } else { sample });
            let sign = if sample < 0 { 0x00 } else { 0x80 };
            let expected = !interval(magnitude / 4, &mu) & 0x7F | sign;
            assert_eq!(mu_law_encode(sample), expected, "µ-law of {sample}");
            let expected = (interval(magnitude / 8, &a) | sign) ^ 0x55;
            assert_eq!(a_law_encode(sample), expected, "A-law of {sample}");
        }
    }

    #[test]
    fn codes_survive_decoding_and_encoding() {
        for byte in 0..=255 {
            assert_eq!(a_law_encode(a_law_decode(byte)), byte);
            // Negative zero is the one µ-law code that shares its value with another.
            let expected = if byte == 0x7F { 0xFF } else { byte };
            assert_eq!(mu_law_encode(mu_law_decode(byte)), expected);
        }
    }

    #[test]
    fn known_vectors() {
        // From the reference implementation in G.191 and many others: silence, full scale, and a few between.
        for (sample, mu, a) in [
            (0, 0xFF, 0xD5),
            (-1, 0x7F, 0x55),
            (1000, 0xCE, 0xFA),
            (-1000, 0x4E, 0x7A),
            (8159, 0x9F, 0x8A),
            (32767, 0x80, 0xAA),
            (-32768, 0x00, 0x2A),
        ] {
            assert_eq!(mu_law_encode(sample), mu, "µ-law of {sample}");
            assert_eq!(a_law_encode(sample), a, "A-law of {sample}");
        }
    }

    #[test]
    fn a_sine_keeps_its_signal_to_noise_ratio() {
        // G.711 gives some 38 dB over most of its range.
        for amplitude in [30000.0, 3000.0, 1000.0] {
            let sine: Vec<i16> = (0..8000)
                .map(|n| (amplitude * (f64::from(n) * 0.7).sin()) as i16)
                .collect();
            for (encode, decode) in [
                (mu_law_encode as fn(i16) -> u8, mu_law_decode as fn(u8) -> i16),
                (a_law_encode as fn(i16) -> u8, a_law_decode as fn(u8) -> i16),
            ] {
                let signal: f64 = sine.iter().map(|&s| f64::from(s).powi(2)).sum();
                let noise: f64 = sine
                    .iter()
                    .map(|&s| (f64::from(decode(encode(s))) - f64::from(s)).powi(2))
                    .sum();
                assert!(10.0 * (signal / noise).log10() > 33.0);
            }
        }
    }

    #[test]
    fn slices_append() {
        let samples: Vec<i16> = (-80..80).map(|n| n * 400).collect();
        let (mut mu, mut a, mut out) = (vec![], vec![], vec![1_i16]);
        mu_law_encode_into(&samples, &mut mu);
        a_law_encode_into(&samples, &mut a);
        mu_law_decode_into(&mu, &mut out);
        a_law_decode_into(&a, &mut out);
        assert_eq!(out.len(), 321);
        assert_eq!(out[1], mu_law_decode(mu_law_encode(samples[0])));
        assert_eq!(out[161], a_law_decode(a_law_encode(samples[0])));
    }
}
