//! What the phones speak.

use repartee::audio::g711::{a_law_decode_into, a_law_encode_into, mu_law_decode_into, mu_law_encode_into};
use repartee::audio::g722::{G722Decoder, G722Encoder};

/// A codec with a static payload type, and an RTP clock of 8000 Hz.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Codec {
    Ulaw,
    Alaw,
    G722,
}

impl Codec {
    pub(crate) const fn payload_type(self) -> u8 {
        match self {
            Self::Ulaw => 0,
            Self::Alaw => 8,
            Self::G722 => 9,
        }
    }

    pub(crate) const fn from_payload_type(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Ulaw),
            8 => Some(Self::Alaw),
            9 => Some(Self::G722),
            _ => None,
        }
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Ulaw => "PCMU",
            Self::Alaw => "PCMA",
            Self::G722 => "G722",
        }
    }

    /// Samples in a second of what is spoken and heard. G.722 has 16000, with an RTP clock of 8000 (RFC 3551 §4.5.2).
    pub(crate) const fn rate(self) -> u32 {
        match self {
            Self::Ulaw | Self::Alaw => 8_000,
            Self::G722 => 16_000,
        }
    }
}

/// One direction of a call.
pub(crate) enum Encoder {
    Ulaw,
    Alaw,
    G722(Box<G722Encoder>),
}

impl Encoder {
    pub(crate) fn new(codec: Codec) -> Self {
        match codec {
            Codec::Ulaw => Self::Ulaw,
            Codec::Alaw => Self::Alaw,
            Codec::G722 => Self::G722(Box::default()),
        }
    }

    pub(crate) fn encode(&mut self, samples: &[i16]) -> Vec<u8> {
        let mut payload = Vec::with_capacity(samples.len());
        match self {
            Self::Ulaw => mu_law_encode_into(samples, &mut payload),
            Self::Alaw => a_law_encode_into(samples, &mut payload),
            Self::G722(encoder) => encoder.encode(samples, &mut payload),
        }
        payload
    }
}

/// The other direction.
pub(crate) enum Decoder {
    Ulaw,
    Alaw,
    G722(Box<G722Decoder>),
}

impl Decoder {
    pub(crate) fn new(codec: Codec) -> Self {
        match codec {
            Codec::Ulaw => Self::Ulaw,
            Codec::Alaw => Self::Alaw,
            Codec::G722 => Self::G722(Box::default()),
        }
    }

    /// Appends the samples of `payload`.
    pub(crate) fn decode(&mut self, payload: &[u8], samples: &mut Vec<i16>) {
        match self {
            Self::Ulaw => mu_law_decode_into(payload, samples),
            Self::Alaw => a_law_decode_into(payload, samples),
            Self::G722(decoder) => decoder.decode(payload, samples),
        }
    }
}
