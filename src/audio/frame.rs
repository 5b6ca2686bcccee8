//! Sample rates, 16-bit PCM on the wire, frames of a fixed length, and levels.

use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;
use thiserror::Error;

/// A rate that is none of 8, 16, 24 and 48 kHz.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{0} Hz is no supported sample rate: 8000, 16000, 24000 and 48000 are")]
pub struct UnsupportedRate(pub u32);

/// The sample rates that the engine speaks. All of them divide 48 kHz, and are those that Opus takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub enum SampleRate {
    /// 8 kHz, the telephone network.
    Hz8000,
    /// 16 kHz, what most recognisers listen to.
    Hz16000,
    /// 24 kHz, what many synthesisers speak.
    Hz24000,
    /// 48 kHz, browsers and sound cards.
    Hz48000,
}

impl SampleRate {
    /// Every rate, in rising order.
    pub const ALL: [Self; 4] = [Self::Hz8000, Self::Hz16000, Self::Hz24000, Self::Hz48000];

    /// The rate of so many samples a second.
    ///
    /// # Errors
    /// [`UnsupportedRate`] for anything but 8000, 16000, 24000 and 48000.
    pub const fn from_hz(hz: u32) -> Result<Self, UnsupportedRate> {
        match hz {
            8000 => Ok(Self::Hz8000),
            16000 => Ok(Self::Hz16000),
            24000 => Ok(Self::Hz24000),
            48000 => Ok(Self::Hz48000),
            other => Err(UnsupportedRate(other)),
        }
    }

    /// Samples in a second.
    #[must_use]
    pub const fn hz(self) -> u32 {
        match self {
            Self::Hz8000 => 8000,
            Self::Hz16000 => 16000,
            Self::Hz24000 => 24000,
            Self::Hz48000 => 48000,
        }
    }

    /// Samples in `duration_ms` milliseconds. It is exact: each of the rates is a multiple of 1000.
    #[must_use]
    pub const fn samples(self, duration_ms: u32) -> usize {
        (self.hz() / 1000) as usize * duration_ms as usize
    }

    /// How long `samples` last, rounded down to nanoseconds.
    #[must_use]
    pub const fn duration(self, samples: u64) -> Duration {
        let hz = self.hz() as u64;
        // Seconds and the rest apart, so that no product overflows.
        Duration::new(samples / hz, ((samples % hz) * 1_000_000_000 / hz) as u32)
    }
}

impl TryFrom<u32> for SampleRate {
    type Error = UnsupportedRate;

    fn try_from(hz: u32) -> Result<Self, UnsupportedRate> {
        Self::from_hz(hz)
    }
}

impl From<SampleRate> for u32 {
    fn from(rate: SampleRate) -> Self {
        rate.hz()
    }
}

impl fmt::Display for SampleRate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} Hz", self.hz())
    }
}

/// 16-bit samples came in an odd number of bytes, so the last sample is cut in half.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{0} bytes are no whole number of 16-bit samples")]
pub struct OddByteCount(pub usize);

/// Appends the samples of little-endian `bytes` to `out`.
///
/// # Errors
/// [`OddByteCount`]; `out` is left as it was.
pub fn pcm16_from_le(bytes: &[u8], out: &mut Vec<i16>) -> Result<(), OddByteCount> {
    let (pairs, rest) = bytes.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(OddByteCount(bytes.len()));
    }
    out.extend(pairs.iter().map(|pair| i16::from_le_bytes(*pair)));
    Ok(())
}

/// Appends the samples of big-endian `bytes` (network order, RTP's L16 of RFC 3551 §4.5.11) to `out`.
///
/// # Errors
/// [`OddByteCount`]; `out` is left as it was.
pub fn pcm16_from_be(bytes: &[u8], out: &mut Vec<i16>) -> Result<(), OddByteCount> {
    let (pairs, rest) = bytes.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(OddByteCount(bytes.len()));
    }
    out.extend(pairs.iter().map(|pair| i16::from_be_bytes(*pair)));
    Ok(())
}

/// Appends `samples` to `out`, little-endian.
pub fn pcm16_to_le(samples: &[i16], out: &mut Vec<u8>) {
    out.extend(samples.iter().flat_map(|sample| sample.to_le_bytes()));
}

/// Appends `samples` to `out`, big-endian (RTP's L16).
pub fn pcm16_to_be(samples: &[i16], out: &mut Vec<u8>) {
    out.extend(samples.iter().flat_map(|sample| sample.to_be_bytes()));
}

/// Reads little-endian samples from a stream of bytes that is cut at arbitrary places, such as an HTTP body or a
/// pipe: half a sample at the end of one piece waits for the next.
#[derive(Debug, Default, Clone)]
pub struct Pcm16Carry {
    half: Option<u8>,
}

impl Pcm16Carry {
    /// Appends every sample that `bytes` completes to `out`.
    pub fn push(&mut self, mut bytes: &[u8], out: &mut Vec<i16>) {
        if let Some(low) = self.half {
            let Some((&high, rest)) = bytes.split_first() else {
                return;
            };
            out.push(i16::from_le_bytes([low, high]));
            self.half = None;
            bytes = rest;
        }
        let (pairs, rest) = bytes.as_chunks::<2>();
        out.extend(pairs.iter().map(|pair| i16::from_le_bytes(*pair)));
        self.half = rest.first().copied();
    }

    /// Ends the stream, and is ready for another.
    ///
    /// # Errors
    /// [`OddByteCount`] (of 1) when half a sample is left over.
    pub fn finish(&mut self) -> Result<(), OddByteCount> {
        self.half.take().map_or(Ok(()), |_| Err(OddByteCount(1)))
    }
}

/// Cuts a stream of samples into frames of one length, whatever the lengths it comes in.
///
/// Resamplers, synthesisers and packets all deliver pieces of their own sizes; encoders and paced wires want
/// exact frames. When full, the oldest samples are dropped and counted.
#[derive(Debug, Clone)]
pub struct FrameFifo {
    samples: VecDeque<i16>,
    frame: usize,
    capacity: usize,
}

impl FrameFifo {
    /// A queue that hands out `frame` samples at a time and holds at most `capacity` (never less than one frame).
    ///
    /// # Panics
    /// If `frame` is zero.
    #[must_use]
    pub fn new(frame: usize, capacity: usize) -> Self {
        assert!(frame > 0, "a frame has samples");
        let capacity = capacity.max(frame);
        Self {
            samples: VecDeque::with_capacity(capacity),
            frame,
            capacity,
        }
    }

    /// Appends `samples` and returns how many of the oldest were dropped to make room.
    pub fn push(&mut self, samples: &[i16]) -> usize {
        let kept = &samples[samples.len().saturating_sub(self.capacity)..];
        let excess = (self.samples.len() + kept.len()).saturating_sub(self.capacity);
        self.samples.drain(..excess);
        self.samples.extend(kept);
        samples.len() - kept.len() + excess
    }

    /// Appends the next whole frame to `out`, or returns `false` where there is none yet.
    pub fn pull(&mut self, out: &mut Vec<i16>) -> bool {
        if self.samples.len() < self.frame {
            return false;
        }
        out.extend(self.samples.drain(..self.frame));
        true
    }

    /// Appends what is left, filled up with silence to one frame, to `out`; `false` where nothing is left.
    /// For the end of a stream, after the whole frames have been pulled.
    pub fn pull_padded(&mut self, out: &mut Vec<i16>) -> bool {
        if self.samples.is_empty() {
            return false;
        }
        let count = self.samples.len().min(self.frame);
        out.extend(self.samples.drain(..count));
        out.extend(std::iter::repeat_n(0, self.frame - count));
        true
    }

    /// Samples waiting.
    #[must_use]
    pub fn len(&self) -> usize {
        self.samples.len()
    }

    /// Whether no sample is waiting.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.samples.is_empty()
    }

    /// Samples in a frame.
    #[must_use]
    pub const fn frame(&self) -> usize {
        self.frame
    }

    /// Forgets everything that is waiting.
    pub fn clear(&mut self) {
        self.samples.clear();
    }
}

/// What [`rms_dbfs`] answers for digital silence, and the least it answers at all.
pub const SILENCE_DBFS: f32 = -100.0;

/// The root mean square level of `samples` in decibels below full scale, where full scale is a constant 32768: a
/// sine of full amplitude measures -3.01, and nothing measures below [`SILENCE_DBFS`].
#[must_use]
pub fn rms_dbfs(samples: &[i16]) -> f32 {
    if samples.is_empty() {
        return SILENCE_DBFS;
    }
    let energy: u64 = samples
        .iter()
        .map(|&sample| u64::from(sample.unsigned_abs()).pow(2))
        .sum();
    if energy == 0 {
        return SILENCE_DBFS;
    }
    let mean = energy as f64 / samples.len() as f64;
    let decibels = 10.0 * (mean / (32768.0 * 32768.0)).log10();
    (decibels as f32).max(SILENCE_DBFS)
}

/// The largest magnitude in `samples`, 0 to 32768.
#[must_use]
pub fn peak(samples: &[i16]) -> u16 {
    samples.iter().map(|sample| sample.unsigned_abs()).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_know_their_samples() {
        for rate in SampleRate::ALL {
            assert_eq!(SampleRate::from_hz(rate.hz()), Ok(rate));
            assert_eq!(rate.samples(1000), rate.hz() as usize);
            assert_eq!(rate.duration(u64::from(rate.hz())), Duration::from_secs(1));
        }
        assert_eq!(SampleRate::Hz8000.samples(20), 160);
        assert_eq!(SampleRate::Hz48000.samples(20), 960);
        assert_eq!(SampleRate::Hz24000.duration(1), Duration::from_nanos(41_666));
        assert_eq!(SampleRate::from_hz(44100), Err(UnsupportedRate(44100)));
        assert_eq!(SampleRate::Hz48000.duration(u64::MAX).as_secs(), u64::MAX / 48_000);
    }

    #[test]
    fn rates_are_numbers_in_json() {
        assert_eq!(serde_json::to_string(&SampleRate::Hz16000).unwrap(), "16000");
        assert_eq!(
            serde_json::from_str::<SampleRate>("24000").unwrap(),
            SampleRate::Hz24000
        );
        let error = serde_json::from_str::<SampleRate>("44100").unwrap_err();
        assert!(error.to_string().contains("44100 Hz is no supported sample rate"));
    }

    #[test]
    fn pcm16_survives_both_byte_orders() {
        let samples = [0, 1, -1, i16::MAX, i16::MIN, 0x1234];
        let (mut bytes, mut back) = (Vec::new(), Vec::new());
        pcm16_to_le(&samples, &mut bytes);
        assert_eq!(&bytes[10..], &[0x34, 0x12]);
        pcm16_from_le(&bytes, &mut back).unwrap();
        assert_eq!(back, samples);
        bytes.clear();
        back.clear();
        pcm16_to_be(&samples, &mut bytes);
        assert_eq!(&bytes[10..], &[0x12, 0x34]);
        pcm16_from_be(&bytes, &mut back).unwrap();
        assert_eq!(back, samples);
    }

    #[test]
    fn an_odd_byte_count_is_refused_and_changes_nothing() {
        let mut out = vec![7];
        assert_eq!(pcm16_from_le(&[1, 2, 3], &mut out), Err(OddByteCount(3)));
        assert_eq!(pcm16_from_be(&[1], &mut out), Err(OddByteCount(1)));
        assert_eq!(out, [7]);
    }

    #[test]
    fn a_stream_cut_anywhere_gives_the_same_samples() {
        let samples: Vec<i16> = (0..50).map(|n| n * 611 - 9000).collect();
        let mut bytes = Vec::new();
        pcm16_to_le(&samples, &mut bytes);
        for piece in 1..=7 {
            let (mut carry, mut out) = (Pcm16Carry::default(), Vec::new());
            for chunk in bytes.chunks(piece) {
                carry.push(chunk, &mut out);
                carry.push(&[], &mut out);
            }
            assert_eq!(out, samples);
            assert_eq!(carry.finish(), Ok(()));
        }
        let mut carry = Pcm16Carry::default();
        carry.push(&[1, 2, 3], &mut Vec::new());
        assert_eq!(carry.finish(), Err(OddByteCount(1)));
        assert_eq!(carry.finish(), Ok(()));
    }

    #[test]
    fn a_fifo_cuts_frames_and_is_bounded() {
        let mut fifo = FrameFifo::new(4, 10);
        assert_eq!(fifo.push(&[1, 2, 3]), 0);
        let mut out = Vec::new();
        assert!(!fifo.pull(&mut out));
        assert_eq!(fifo.push(&[4, 5]), 0);
        assert!(fifo.pull(&mut out));
        assert_eq!(out, [1, 2, 3, 4]);
        assert_eq!(
            fifo.push(&[0; 12]),
            3,
            "one old sample and two of the new ones have no room"
        );
        assert_eq!(fifo.len(), 10);
        fifo.clear();
        fifo.push(&[9]);
        out.clear();
        assert!(fifo.pull_padded(&mut out));
        assert_eq!(out, [9, 0, 0, 0]);
        assert!(!fifo.pull_padded(&mut out));
    }

    #[test]
    fn levels_are_relative_to_full_scale() {
        assert_eq!(rms_dbfs(&[]), SILENCE_DBFS);
        assert_eq!(rms_dbfs(&[0; 100]), SILENCE_DBFS);
        assert_eq!(rms_dbfs(&[i16::MIN; 100]), 0.0);
        let sine: Vec<i16> = (0..8000)
            .map(|n| (32767.0 * (f64::from(n) * 0.5).sin()).round() as i16)
            .collect();
        assert!((rms_dbfs(&sine) + 3.01).abs() < 0.02, "{}", rms_dbfs(&sine));
        assert!((rms_dbfs(&[1; 10]) + 90.31).abs() < 0.01);
        assert_eq!(peak(&[3, -9, 8]), 9);
        assert_eq!(peak(&[i16::MIN]), 32768);
        assert_eq!(peak(&[]), 0);
    }
}
