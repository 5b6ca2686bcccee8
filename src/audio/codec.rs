//! One encoder and one decoder for every codec of the wires, dispatched by an enum.

use super::concealment::{Concealer, FADE_MS};
use super::frame::{self, OddByteCount, SampleRate};
use super::g711;
use super::g722::{self, G722Decoder, G722Encoder};
use super::opus::{self, OpusDecoder, OpusEncoder, OpusError, OpusOptions};
use thiserror::Error;

/// How samples are written as bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Codec {
    /// 16 bits a sample, uncompressed.
    Pcm16,
    /// G.711 µ-law.
    Pcmu,
    /// G.711 A-law.
    Pcma,
    /// G.722 at 64 kbit/s, at 16 kHz only.
    G722,
    /// Opus.
    Opus,
}

impl Codec {
    /// Whether the codec has samples at `rate`. All have any, but for G.722, which is 16 kHz.
    #[must_use]
    pub const fn has_rate(self, rate: SampleRate) -> bool {
        match self {
            Self::Pcm16 | Self::Pcmu | Self::Pcma | Self::Opus => true,
            Self::G722 => rate.hz() == g722::HZ,
        }
    }

    /// Ticks a second of this codec's RTP timestamps, for samples at `rate`: the rate itself, but always 48000 for
    /// Opus (RFC 7587 §4.1) and 8000 for G.722 (RFC 3551 §4.5.2).
    #[must_use]
    pub const fn rtp_clock(self, rate: SampleRate) -> u32 {
        match self {
            Self::Pcm16 | Self::Pcmu | Self::Pcma => rate.hz(),
            Self::G722 => 8_000,
            Self::Opus => 48_000,
        }
    }

    /// How many samples at `rate` the packet `payload` holds, without decoding it.
    ///
    /// # Errors
    /// As [`Decoder::decode`].
    pub fn samples(self, payload: &[u8], rate: SampleRate) -> Result<usize, CodecError> {
        match self {
            Self::Pcm16 if payload.len() % 2 == 1 => Err(OddByteCount(payload.len()).into()),
            Self::Pcm16 => Ok(payload.len() / 2),
            Self::Pcmu | Self::Pcma => Ok(payload.len()),
            Self::G722 => Ok(payload.len() * 2),
            Self::Opus => Ok(opus::packet_samples(payload, rate)?),
        }
    }
}

/// The byte order of [`Codec::Pcm16`]. Other codecs have none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ByteOrder {
    /// On our own wire and most others.
    #[default]
    LittleEndian,
    /// Network order: L16 in RTP (RFC 3551 §4.5.11).
    BigEndian,
}

/// Why a payload or a frame was refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CodecError {
    /// Half a sample of PCM.
    #[error(transparent)]
    OddByteCount(#[from] OddByteCount),
    /// The codec has no samples at that rate ([`Codec::has_rate`]).
    #[error("{codec:?} has no samples at {rate}")]
    Rate {
        /// The codec that was asked for.
        codec: Codec,
        /// The rate that it does not have.
        rate: SampleRate,
    },
    /// Refused by Opus.
    #[error(transparent)]
    Opus(#[from] OpusError),
}

/// Payloads to samples, with the loss concealment of the codec.
///
/// Everything is appended to a buffer of the caller. A payload that is refused leaves both the buffer and the
/// decoder as they were: conceal what it should have held.
#[derive(Debug)]
pub struct Decoder {
    codec: Codec,
    order: ByteOrder,
    rate: SampleRate,
    state: DecoderState,
}

#[derive(Debug)]
enum DecoderState {
    Plain(Concealer),
    G722 {
        decoder: Box<G722Decoder>,
        concealer: Concealer,
    },
    Opus {
        decoder: OpusDecoder,
        /// Samples concealed since the last good packet.
        concealed: usize,
    },
}

impl Decoder {
    /// A decoder of `codec` that gives samples at `rate`. `order` matters for PCM only.
    ///
    /// # Errors
    /// [`CodecError::Rate`] for G.722 at another rate than its own; [`CodecError::Opus`] when libopus has no memory.
    pub fn new(codec: Codec, rate: SampleRate, order: ByteOrder) -> Result<Self, CodecError> {
        if !codec.has_rate(rate) {
            return Err(CodecError::Rate { codec, rate });
        }
        let state = match codec {
            Codec::Pcm16 | Codec::Pcmu | Codec::Pcma => DecoderState::Plain(Concealer::new(rate)),
            Codec::G722 => DecoderState::G722 {
                decoder: Box::default(),
                concealer: Concealer::new(rate),
            },
            Codec::Opus => DecoderState::Opus {
                decoder: OpusDecoder::new(rate)?,
                concealed: 0,
            },
        };
        Ok(Self {
            codec,
            order,
            rate,
            state,
        })
    }

    /// The codec that this decodes.
    #[must_use]
    pub const fn codec(&self) -> Codec {
        self.codec
    }

    /// The rate of the samples that come out.
    #[must_use]
    pub const fn rate(&self) -> SampleRate {
        self.rate
    }

    /// Appends the samples of `payload` to `out`.
    ///
    /// # Errors
    /// [`CodecError`] for half a sample or a corrupt packet.
    pub fn decode(&mut self, payload: &[u8], out: &mut Vec<i16>) -> Result<(), CodecError> {
        let start = out.len();
        match &mut self.state {
            DecoderState::Plain(concealer) => {
                match (self.codec, self.order) {
                    (Codec::Pcmu, _) => g711::mu_law_decode_into(payload, out),
                    (Codec::Pcma, _) => g711::a_law_decode_into(payload, out),
                    (_, ByteOrder::LittleEndian) => frame::pcm16_from_le(payload, out)?,
                    (_, ByteOrder::BigEndian) => frame::pcm16_from_be(payload, out)?,
                }
                concealer.accept(&mut out[start..]);
            }
            DecoderState::G722 { decoder, concealer } => {
                decoder.decode(payload, out);
                concealer.accept(&mut out[start..]);
            }
            DecoderState::Opus { decoder, concealed } => {
                decoder.decode(payload, out)?;
                *concealed = 0;
            }
        }
        Ok(())
    }

    /// Appends `samples` in place of lost ones: the last sound is carried on and faded for 60 ms, then there is
    /// silence.
    pub fn conceal(&mut self, samples: usize, out: &mut Vec<i16>) {
        match &mut self.state {
            DecoderState::Plain(concealer) | DecoderState::G722 { concealer, .. } => concealer.conceal(samples, out),
            DecoderState::Opus { decoder, concealed } => {
                let start = out.len();
                let audible = self.rate.samples(FADE_MS).saturating_sub(*concealed).min(samples);
                // Should libopus fail, silence is the best concealment that is left.
                let _ = decoder.conceal(audible, out);
                out.resize(start + samples, 0);
                *concealed += samples;
            }
        }
    }

    /// Appends `samples` in place of one lost packet, of which the packet after it, `next`, may carry a copy (Opus
    /// with forward error correction). Otherwise this is [`conceal`](Self::conceal). `next` is still to be decoded.
    pub fn recover(&mut self, next: &[u8], samples: usize, out: &mut Vec<i16>) {
        if let DecoderState::Opus { decoder, .. } = &mut self.state {
            // Only the newest 20 ms are in the copy; what was lost before them is concealed.
            let copied = samples.min(self.rate.samples(opus::FRAME_MS));
            let older = samples - copied;
            if older == 0 && decoder.recover(next, copied, out).is_ok() {
                return;
            }
        }
        self.conceal(samples, out);
    }

    /// Appends `samples` of silence, where the far side sent nothing because there was nothing to hear.
    pub fn silence(&mut self, samples: usize, out: &mut Vec<i16>) {
        let start = out.len();
        out.resize(start + samples, 0);
        if let DecoderState::Plain(concealer) | DecoderState::G722 { concealer, .. } = &mut self.state {
            concealer.accept(&mut out[start..]);
        }
    }

    /// Forgets the past: another source speaks now.
    pub fn reset(&mut self) {
        match &mut self.state {
            DecoderState::Plain(concealer) => concealer.reset(),
            DecoderState::G722 { decoder, concealer } => {
                **decoder = G722Decoder::new();
                concealer.reset();
            }
            DecoderState::Opus { decoder, concealed } => {
                *concealed = 0;
                // A decoder that could not be reset decodes the new source all the same, after a rough start.
                let _ = decoder.reset();
            }
        }
    }
}

/// Samples to payloads.
#[derive(Debug)]
pub struct Encoder {
    codec: Codec,
    order: ByteOrder,
    rate: SampleRate,
    state: EncoderState,
}

#[derive(Debug)]
enum EncoderState {
    /// Every sample by itself.
    Plain,
    G722(Box<G722Encoder>),
    Opus(OpusEncoder),
}

impl Encoder {
    /// An encoder of samples at `rate`. `order` matters for PCM only, `options` for Opus only.
    ///
    /// # Errors
    /// [`CodecError::Rate`] for G.722 at another rate than its own; [`CodecError::Opus`] for options out of their range.
    pub fn new(codec: Codec, rate: SampleRate, order: ByteOrder, options: OpusOptions) -> Result<Self, CodecError> {
        if !codec.has_rate(rate) {
            return Err(CodecError::Rate { codec, rate });
        }
        let state = match codec {
            Codec::Opus => EncoderState::Opus(OpusEncoder::new(rate, options)?),
            Codec::G722 => EncoderState::G722(Box::default()),
            Codec::Pcm16 | Codec::Pcmu | Codec::Pcma => EncoderState::Plain,
        };
        Ok(Self {
            codec,
            order,
            rate,
            state,
        })
    }

    /// The codec that this encodes.
    #[must_use]
    pub const fn codec(&self) -> Codec {
        self.codec
    }

    /// The rate of the samples that go in.
    #[must_use]
    pub const fn rate(&self) -> SampleRate {
        self.rate
    }

    /// Appends the payload of `samples` to `out`. Opus takes exactly 20 ms, the others any length; of an odd number,
    /// G.722 keeps the last sample for the next call.
    ///
    /// # Errors
    /// [`CodecError::Opus`] for an Opus frame that isn't 20 ms long; `out` is left as it was.
    pub fn encode(&mut self, samples: &[i16], out: &mut Vec<u8>) -> Result<(), CodecError> {
        match &mut self.state {
            EncoderState::Opus(opus) => {
                opus.encode(samples, out)?;
            }
            EncoderState::G722(encoder) => encoder.encode(samples, out),
            EncoderState::Plain => match (self.codec, self.order) {
                (Codec::Pcmu, _) => g711::mu_law_encode_into(samples, out),
                (Codec::Pcma, _) => g711::a_law_encode_into(samples, out),
                (_, ByteOrder::LittleEndian) => frame::pcm16_to_le(samples, out),
                (_, ByteOrder::BigEndian) => frame::pcm16_to_be(samples, out),
            },
        }
        Ok(())
    }

    /// Forgets the past, for a new stream.
    pub fn reset(&mut self) {
        match &mut self.state {
            EncoderState::Plain => {}
            EncoderState::G722(encoder) => **encoder = G722Encoder::new(),
            // As for the decoder: what could not be forgotten does no harm beyond the first frame.
            EncoderState::Opus(opus) => {
                let _ = opus.reset();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CODECS: [Codec; 5] = [Codec::Pcm16, Codec::Pcmu, Codec::Pcma, Codec::G722, Codec::Opus];

    fn rates(codec: Codec) -> impl Iterator<Item = SampleRate> {
        SampleRate::ALL.into_iter().filter(move |&rate| codec.has_rate(rate))
    }

    fn tone(rate: SampleRate, samples: usize) -> Vec<i16> {
        (0..samples)
            .map(|n| (9000.0 * (n as f64 * 1500.0 / f64::from(rate.hz())).sin()) as i16)
            .collect()
    }

    #[test]
    fn every_codec_gives_back_what_it_took() {
        for codec in CODECS {
            for rate in rates(codec) {
                for order in [ByteOrder::LittleEndian, ByteOrder::BigEndian] {
                    let mut encoder = Encoder::new(codec, rate, order, OpusOptions::default()).unwrap();
                    let mut decoder = Decoder::new(codec, rate, order).unwrap();
                    let sound = tone(rate, rate.samples(200));
                    let (mut payload, mut out) = (Vec::new(), Vec::new());
                    for frame in sound.chunks(rate.samples(20)) {
                        payload.clear();
                        encoder.encode(frame, &mut payload).unwrap();
                        assert_eq!(codec.samples(&payload, rate), Ok(frame.len()));
                        decoder.decode(&payload, &mut out).unwrap();
                    }
                    assert_eq!(out.len(), sound.len());
                    match codec {
                        Codec::Pcm16 => assert_eq!(out, sound),
                        Codec::Pcmu | Codec::Pcma => {
                            assert!(out.iter().zip(&sound).all(|(a, b)| (a - b).abs() <= 512));
                        }
                        // g722.rs and opus.rs look at the sound itself.
                        Codec::G722 | Codec::Opus => assert!(out.iter().any(|s| s.abs() > 5000)),
                    }
                }
            }
        }
    }

    #[test]
    fn g722_is_wideband_with_a_narrowband_clock() {
        assert_eq!(Codec::G722.rtp_clock(SampleRate::Hz16000), 8_000);
        assert_eq!(Codec::G722.samples(&[0; 160], SampleRate::Hz16000), Ok(320));
        for rate in SampleRate::ALL {
            let decoder = Decoder::new(Codec::G722, rate, ByteOrder::default());
            let encoder = Encoder::new(Codec::G722, rate, ByteOrder::default(), OpusOptions::default());
            let refused = CodecError::Rate {
                codec: Codec::G722,
                rate,
            };
            match rate {
                SampleRate::Hz16000 => assert!(decoder.is_ok() && encoder.is_ok()),
                _ => assert_eq!((decoder.err(), encoder.err()), (Some(refused.clone()), Some(refused))),
            }
        }
    }

    #[test]
    fn byte_order_is_the_wires_business() {
        for (order, bytes) in [
            (ByteOrder::LittleEndian, [0x34, 0x12]),
            (ByteOrder::BigEndian, [0x12, 0x34]),
        ] {
            let mut out = Vec::new();
            Decoder::new(Codec::Pcm16, SampleRate::Hz8000, order)
                .unwrap()
                .decode(&bytes, &mut out)
                .unwrap();
            assert_eq!(out, [0x1234]);
        }
    }

    #[test]
    fn a_refused_payload_changes_nothing() {
        for (codec, payload) in [
            (Codec::Pcm16, &[1, 2, 3][..]),
            (Codec::Opus, &[0xFF, 0x3F]),
            (Codec::Opus, &[]),
        ] {
            let mut decoder = Decoder::new(codec, SampleRate::Hz16000, ByteOrder::default()).unwrap();
            let mut out = vec![4];
            assert!(decoder.decode(payload, &mut out).is_err());
            assert!(codec.samples(payload, SampleRate::Hz16000).is_err());
            assert_eq!(out, [4]);
            decoder.reset();
        }
    }

    #[test]
    fn every_codec_conceals_for_60_ms_and_then_is_silent() {
        for codec in CODECS {
            for rate in rates(codec) {
                let mut encoder = Encoder::new(codec, rate, ByteOrder::default(), OpusOptions::default()).unwrap();
                let mut decoder = Decoder::new(codec, rate, ByteOrder::default()).unwrap();
                let mut out = Vec::new();
                for frame in tone(rate, rate.samples(100)).chunks(rate.samples(20)) {
                    let mut payload = Vec::new();
                    encoder.encode(frame, &mut payload).unwrap();
                    decoder.decode(&payload, &mut out).unwrap();
                }
                out.clear();
                for _ in 0..4 {
                    decoder.conceal(rate.samples(20), &mut out);
                }
                assert_eq!(out.len(), rate.samples(80));
                assert!(
                    out[..rate.samples(20)].iter().any(|s| s.abs() > 2000),
                    "{codec:?} at {rate}"
                );
                assert!(out[rate.samples(60)..].iter().all(|&s| s == 0), "{codec:?} at {rate}");
                decoder.silence(7, &mut out);
                decoder.recover(&[], 9, &mut out);
                assert_eq!(out.len(), rate.samples(80) + 16);
            }
        }
    }
}
