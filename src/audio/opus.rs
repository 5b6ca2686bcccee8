//! Opus (RFC 6716) by libopus, mono, tuned for speech.
//!
//! An Opus decoder gives any of its rates whatever the packet was made from, and folds stereo into mono, so the rate
//! here is the rate of the *samples*, not of the stream. In RTP the clock of Opus is always 48 kHz (RFC 7587 §4.1).

use super::frame::SampleRate;
use opus::{Application, Bitrate, Channels, Signal};
use thiserror::Error;

/// The length of the frames that [`OpusEncoder`] takes, in milliseconds.
pub const FRAME_MS: u32 = 20;
/// The longest a packet may last, in milliseconds (RFC 6716 §2.1.4).
pub const MAX_PACKET_MS: u32 = 120;
/// The largest packet that [`OpusEncoder`] makes, in bytes: the bound that RFC 6716 §3.2.1 sets for one frame.
pub const MAX_FRAME_BYTES: usize = 1275;
/// The largest packet that [`OpusDecoder`] takes, in bytes: 120 ms are at most six frames of 20 ms at their bound,
/// and their lengths.
pub const MAX_PACKET_BYTES: usize = 6 * MAX_FRAME_BYTES + 16;

/// What libopus refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum OpusError {
    /// The packet breaks the format, is empty, or is larger than [`MAX_PACKET_BYTES`].
    #[error("the Opus packet of {bytes} bytes is corrupt")]
    CorruptPacket {
        /// The packet's size.
        bytes: usize,
    },
    /// The encoder takes exactly [`FRAME_MS`] at a time.
    #[error("an Opus frame has {expected} samples here, and {actual} were given")]
    FrameLength {
        /// Samples in a frame.
        expected: usize,
        /// Samples that were given.
        actual: usize,
    },
    /// A setting that libopus does not take, or a failure inside it.
    #[error("libopus: {0}")]
    Library(&'static str),
}

fn library(error: &opus::Error) -> OpusError {
    OpusError::Library(error.description())
}

/// How to encode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpusOptions {
    /// Bits a second, 6000 to 510000.
    pub bitrate: i32,
    /// Whether each packet carries a coarse copy of the one before, by which a single loss is mended.
    pub forward_error_correction: bool,
    /// The loss that the encoder prepares for when it corrects errors, in per cent, 0 to 100.
    pub expected_loss_percent: i32,
    /// 0 (fast) to 10 (best).
    pub complexity: i32,
}

impl Default for OpusOptions {
    /// 32 kbit/s, the sweet spot for wideband to fullband speech in RFC 7587 §3.1.1; complexity 5, half the cost of
    /// the best for a difference that speech does not show; no error correction, since the main wire is reliable.
    fn default() -> Self {
        Self {
            bitrate: 32_000,
            forward_error_correction: false,
            expected_loss_percent: 0,
            complexity: 5,
        }
    }
}

/// Samples to packets, 20 ms each.
#[derive(Debug)]
pub struct OpusEncoder {
    encoder: opus::Encoder,
    rate: SampleRate,
}

impl OpusEncoder {
    /// An encoder for mono samples at `rate`.
    ///
    /// # Errors
    /// [`OpusError::Library`] for options out of their range.
    pub fn new(rate: SampleRate, options: OpusOptions) -> Result<Self, OpusError> {
        let mut encoder = opus::Encoder::new(rate.hz(), Channels::Mono, Application::Voip).map_err(|e| library(&e))?;
        let configure = |encoder: &mut opus::Encoder| -> opus::Result<()> {
            encoder.set_signal(Signal::Voice)?;
            encoder.set_bitrate(Bitrate::Bits(options.bitrate))?;
            encoder.set_complexity(options.complexity)?;
            encoder.set_inband_fec(options.forward_error_correction)?;
            encoder.set_packet_loss_perc(options.expected_loss_percent)
        };
        configure(&mut encoder).map_err(|e| library(&e))?;
        Ok(Self { encoder, rate })
    }

    /// Samples in a frame.
    #[must_use]
    pub const fn frame(&self) -> usize {
        self.rate.samples(FRAME_MS)
    }

    /// Appends the packet of one frame to `out` and returns its size in bytes.
    ///
    /// # Errors
    /// [`OpusError::FrameLength`] for anything but one frame; `out` is left as it was.
    pub fn encode(&mut self, frame: &[i16], out: &mut Vec<u8>) -> Result<usize, OpusError> {
        if frame.len() != self.frame() {
            return Err(OpusError::FrameLength {
                expected: self.frame(),
                actual: frame.len(),
            });
        }
        let start = out.len();
        out.resize(start + MAX_FRAME_BYTES, 0);
        let encoded = self.encoder.encode(frame, &mut out[start..]);
        out.truncate(start + encoded.as_ref().copied().unwrap_or(0));
        encoded.map_err(|e| library(&e))
    }

    /// The samples by which the decoded sound comes later than what was encoded.
    ///
    /// # Errors
    /// [`OpusError::Library`], which libopus never gives for this question.
    pub fn delay(&mut self) -> Result<usize, OpusError> {
        self.encoder
            .get_lookahead()
            .map(|samples| samples.max(0) as usize)
            .map_err(|e| library(&e))
    }

    /// Forgets the past, for a new stream.
    ///
    /// # Errors
    /// [`OpusError::Library`], which libopus never gives for this request.
    pub fn reset(&mut self) -> Result<(), OpusError> {
        self.encoder.reset_state().map_err(|e| library(&e))
    }
}

/// Packets to samples.
#[derive(Debug)]
pub struct OpusDecoder {
    decoder: opus::Decoder,
    rate: SampleRate,
}

impl OpusDecoder {
    /// A decoder that gives mono samples at `rate`.
    ///
    /// # Errors
    /// [`OpusError::Library`] when memory is out.
    pub fn new(rate: SampleRate) -> Result<Self, OpusError> {
        let decoder = opus::Decoder::new(rate.hz(), Channels::Mono).map_err(|e| library(&e))?;
        Ok(Self { decoder, rate })
    }

    /// Appends the samples of `packet` to `out` and returns their number: up to [`MAX_PACKET_MS`].
    ///
    /// # Errors
    /// [`OpusError::CorruptPacket`]; `out` is left as it was and the decoder goes on with the next packet.
    pub fn decode(&mut self, packet: &[u8], out: &mut Vec<i16>) -> Result<usize, OpusError> {
        let samples = packet_samples(packet, self.rate)?;
        self.run(packet, samples, false, out)
            .map_err(|_| OpusError::CorruptPacket { bytes: packet.len() })
    }

    /// Appends `samples` that stand in for a lost packet, made out of the copy that `next`, the packet after it,
    /// carries. Where it carries none, this conceals as [`conceal`](Self::conceal) does. `next` itself is still to
    /// be decoded afterwards.
    ///
    /// # Errors
    /// [`OpusError::CorruptPacket`] when `next` is.
    pub fn recover(&mut self, next: &[u8], samples: usize, out: &mut Vec<i16>) -> Result<(), OpusError> {
        packet_samples(next, self.rate)?;
        let whole = self.whole_steps(samples);
        let start = out.len();
        self.run(next, whole, true, out)
            .map_err(|_| OpusError::CorruptPacket { bytes: next.len() })?;
        out.truncate(start + samples);
        Ok(())
    }

    /// Appends `samples` of concealment, libopus's continuation of what was heard last.
    ///
    /// # Errors
    /// [`OpusError::Library`] for a failure inside; `out` then has no more than it had.
    pub fn conceal(&mut self, samples: usize, out: &mut Vec<i16>) -> Result<(), OpusError> {
        let start = out.len();
        let most = self.rate.samples(MAX_PACKET_MS);
        let mut left = samples;
        while left > 0 {
            let piece = self.whole_steps(left.min(most));
            if let Err(error) = self.run(&[], piece, false, out) {
                out.truncate(start);
                return Err(library(&error));
            }
            left = left.saturating_sub(piece);
        }
        out.truncate(start + samples);
        Ok(())
    }

    /// Forgets the past, for a new stream.
    ///
    /// # Errors
    /// [`OpusError::Library`], which libopus never gives for this request.
    pub fn reset(&mut self) -> Result<(), OpusError> {
        self.decoder.reset_state().map_err(|e| library(&e))
    }

    /// libopus conceals in steps of 2.5 ms; this rounds up to whole ones, at most the longest packet.
    fn whole_steps(&self, samples: usize) -> usize {
        let step = self.rate.samples(5) / 2;
        samples.next_multiple_of(step).min(self.rate.samples(MAX_PACKET_MS))
    }

    fn run(&mut self, packet: &[u8], samples: usize, correct: bool, out: &mut Vec<i16>) -> opus::Result<usize> {
        let start = out.len();
        out.resize(start + samples, 0);
        let decoded = self.decoder.decode(packet, &mut out[start..], correct);
        out.truncate(start + decoded.as_ref().copied().unwrap_or(0));
        decoded
    }
}

/// How many samples `packet` lasts at `rate`, told from its first bytes.
///
/// # Errors
/// [`OpusError::CorruptPacket`].
pub fn packet_samples(packet: &[u8], rate: SampleRate) -> Result<usize, OpusError> {
    let corrupt = OpusError::CorruptPacket { bytes: packet.len() };
    if packet.is_empty() || packet.len() > MAX_PACKET_BYTES {
        return Err(corrupt);
    }
    opus::packet::get_nb_samples(packet, rate.hz())
        .ok()
        .filter(|&samples| samples > 0 && samples <= rate.samples(MAX_PACKET_MS))
        .ok_or(corrupt)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::frame::rms_dbfs;

    /// Something like a voice: a few harmonics of 150 Hz, coming and going four times a second.
    fn voice(rate: SampleRate, seconds: f64) -> Vec<i16> {
        let hz = f64::from(rate.hz());
        (0..(seconds * hz) as usize)
            .map(|n| {
                let t = n as f64 / hz * std::f64::consts::TAU;
                let tone: f64 = (1..12).map(|k| (t * 150.0 * f64::from(k)).sin() / f64::from(k)).sum();
                (tone * 6000.0 * (0.6 + 0.4 * (t * 4.0).sin())) as i16
            })
            .collect()
    }

    fn correlation(a: &[i16], b: &[i16]) -> f64 {
        let dot = |x: &[i16], y: &[i16]| x.iter().zip(y).map(|(&p, &q)| f64::from(p) * f64::from(q)).sum::<f64>();
        dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
    }

    #[test]
    fn speech_survives_at_every_rate() {
        for rate in SampleRate::ALL {
            let mut encoder = OpusEncoder::new(rate, OpusOptions::default()).unwrap();
            let mut decoder = OpusDecoder::new(rate).unwrap();
            let sound = voice(rate, 1.0);
            let (mut out, mut largest) = (Vec::new(), 0);
            for frame in sound.chunks(encoder.frame()) {
                let mut packet = Vec::new();
                let size = encoder.encode(frame, &mut packet).unwrap();
                assert_eq!(size, packet.len());
                largest = largest.max(size);
                assert_eq!(packet_samples(&packet, rate), Ok(frame.len()));
                assert_eq!(decoder.decode(&packet, &mut out), Ok(frame.len()));
            }
            assert_eq!(out.len(), sound.len());
            assert!(largest <= 250, "{largest} bytes for 20 ms at 32 kbit/s");
            let delay = encoder.delay().unwrap();
            let half = sound.len() / 2;
            let similarity = correlation(&sound[half..sound.len() - delay], &out[half + delay..]);
            assert!(similarity > 0.8, "{similarity} at {rate}");
        }
    }

    #[test]
    fn stereo_is_folded_into_mono() {
        let mut encoder = opus::Encoder::new(48000, Channels::Stereo, Application::Audio).unwrap();
        let mono = voice(SampleRate::Hz48000, 0.4);
        let mut decoder = OpusDecoder::new(SampleRate::Hz16000).unwrap();
        let mut out = Vec::new();
        for frame in mono.chunks(960) {
            let stereo: Vec<i16> = frame.iter().flat_map(|&s| [s, s]).collect();
            let packet = encoder.encode_vec(&stereo, 4000).unwrap();
            assert_eq!(opus::packet::get_nb_channels(&packet).unwrap(), Channels::Stereo);
            assert_eq!(decoder.decode(&packet, &mut out), Ok(320));
        }
        assert!((rms_dbfs(&out[3200..]) - rms_dbfs(&mono[9600..])).abs() < 2.0);
    }

    #[test]
    fn losses_are_concealed_and_grow_quieter() {
        let rate = SampleRate::Hz16000;
        let mut encoder = OpusEncoder::new(rate, OpusOptions::default()).unwrap();
        let mut decoder = OpusDecoder::new(rate).unwrap();
        let (mut out, mut packet) = (Vec::new(), Vec::new());
        for frame in voice(rate, 0.5).chunks_exact(320) {
            packet.clear();
            encoder.encode(frame, &mut packet).unwrap();
            decoder.decode(&packet, &mut out).unwrap();
        }
        let level = rms_dbfs(&out[out.len() - 320..]);
        for samples in [320, 1, 41, 5000] {
            out.clear();
            decoder.conceal(samples, &mut out).unwrap();
            assert_eq!(out.len(), samples);
            if samples == 320 {
                assert!((rms_dbfs(&out) - level).abs() < 6.0);
            }
        }
        assert!(rms_dbfs(&out[4680..]) < level);
    }

    #[test]
    fn the_next_packet_mends_a_loss() {
        let rate = SampleRate::Hz16000;
        let options = OpusOptions {
            forward_error_correction: true,
            expected_loss_percent: 20,
            ..Default::default()
        };
        let sound = voice(rate, 1.0);
        let run = |options: OpusOptions, mend: bool| {
            let mut encoder = OpusEncoder::new(rate, options).unwrap();
            let mut decoder = OpusDecoder::new(rate).unwrap();
            let packets: Vec<Vec<u8>> = sound
                .chunks(320)
                .map(|frame| {
                    let mut packet = Vec::new();
                    encoder.encode(frame, &mut packet).unwrap();
                    packet
                })
                .collect();
            let mut out = Vec::new();
            for (n, packet) in packets.iter().enumerate() {
                if n % 5 == 4 && n + 1 < packets.len() {
                    if mend {
                        decoder.recover(&packets[n + 1], 320, &mut out).unwrap();
                    } else {
                        decoder.conceal(320, &mut out).unwrap();
                    }
                } else {
                    decoder.decode(packet, &mut out).unwrap();
                }
            }
            let delay = encoder.delay().unwrap();
            assert_eq!(out.len(), sound.len());
            correlation(&sound[3200..16000 - delay], &out[3200 + delay..])
        };
        assert!(run(options, true) > run(options, false));
    }

    #[test]
    fn wrong_lengths_and_options_are_refused() {
        let mut encoder = OpusEncoder::new(SampleRate::Hz8000, OpusOptions::default()).unwrap();
        let mut out = vec![1];
        let error = encoder.encode(&[0; 161], &mut out).unwrap_err();
        assert_eq!(
            error,
            OpusError::FrameLength {
                expected: 160,
                actual: 161
            }
        );
        assert_eq!(out, [1]);
        let options = OpusOptions {
            complexity: 11,
            ..Default::default()
        };
        assert!(matches!(
            OpusEncoder::new(SampleRate::Hz8000, options),
            Err(OpusError::Library(_))
        ));
    }

    #[test]
    fn hostile_packets_are_errors_at_most() {
        let mut decoder = OpusDecoder::new(SampleRate::Hz48000).unwrap();
        let mut out = vec![5_i16];
        assert_eq!(
            decoder.decode(&[], &mut out),
            Err(OpusError::CorruptPacket { bytes: 0 })
        );
        assert!(decoder.decode(&vec![0; MAX_PACKET_BYTES + 1], &mut out).is_err());
        // Code 3 with no frame count, with no frame, and with 63 frames.
        for packet in [&[0x03][..], &[0x03, 0x00], &[0xFF, 0x3F]] {
            assert!(decoder.decode(packet, &mut out).is_err());
        }
        assert_eq!(out, [5]);
        let mut state = 0x2545_F491_4F6C_DD1D_u64;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        for _ in 0..20_000 {
            let packet: Vec<u8> = (0..next() % 60).map(|_| next() as u8).collect();
            out.clear();
            match decoder.decode(&packet, &mut out) {
                Ok(samples) => assert!(samples == out.len() && samples <= 5760),
                Err(_) => assert!(out.is_empty()),
            }
            let _ = decoder.recover(&packet, (next() % 3000) as usize, &mut out);
        }
    }
}
