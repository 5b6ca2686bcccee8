//! The format of audio to the client: two exist, and what is said about the audio is what it is.

use std::fmt;

use super::words::{Named, names};
use serde::{Serialize, Serializer};

names! {
    /// How samples are written.
    Encoding {
        /// G.711 µ-law, one byte a sample.
        Mulaw = "mulaw",
        /// Signed 16-bit samples, little-endian.
        Linear16 = "linear16",
    }
}

impl Encoding {
    /// What a client means by `name`; an unknown name means µ-law, which every telephone takes.
    #[must_use]
    pub fn meant_by(name: &str) -> Self {
        match name.trim().to_lowercase().as_str() {
            "linear16" | "pcm16" | "slin16" | "slin" => Self::Linear16,
            _ => Self::Mulaw,
        }
    }

    /// Bytes of one sample.
    #[must_use]
    pub const fn bytes_per_sample(self) -> usize {
        match self {
            Self::Mulaw => 1,
            Self::Linear16 => 2,
        }
    }
}

/// What a message says about the format that it wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutputRequest {
    /// The encoding, if the message names one.
    pub encoding: Option<Encoding>,
    /// Samples per second, if the message names a rate; 0 stands for something that is no rate.
    pub rate: Option<u32>,
}

/// The format of audio to a client: mono, `mulaw` at 8000 Hz or `linear16` at 16000 Hz.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Output {
    /// µ-law at 8000 Hz: what a connection begins with.
    #[default]
    Mulaw8000,
    /// 16-bit samples at 16000 Hz, whatever the synthesiser's own rate is.
    Linear16At16000,
}

impl Output {
    /// The format after `request`. What isn't offered, `linear16` at 8000 Hz for one, becomes µ-law at 8000 Hz.
    ///
    /// An encoding without a rate means the one rate that it is offered at; a rate without an encoding keeps the encoding.
    #[must_use]
    pub fn after(self, request: OutputRequest) -> Self {
        let (encoding, rate) = match (request.encoding, request.rate) {
            (None, None) => return self,
            (Some(Encoding::Linear16), None) => return Self::Linear16At16000,
            (encoding, rate) => (encoding.unwrap_or(self.encoding()), rate),
        };
        match (encoding, rate) {
            (Encoding::Linear16, Some(16_000)) => Self::Linear16At16000,
            _ => Self::Mulaw8000,
        }
    }

    /// How samples are written.
    #[must_use]
    pub const fn encoding(self) -> Encoding {
        match self {
            Self::Mulaw8000 => Encoding::Mulaw,
            Self::Linear16At16000 => Encoding::Linear16,
        }
    }

    /// Samples per second.
    #[must_use]
    pub const fn rate(self) -> u32 {
        match self {
            Self::Mulaw8000 => 8_000,
            Self::Linear16At16000 => 16_000,
        }
    }

    /// The bytes of `milliseconds` of audio.
    #[must_use]
    pub const fn bytes_of(self, milliseconds: u32) -> usize {
        self.rate() as usize / 1_000 * milliseconds as usize * self.encoding().bytes_per_sample()
    }

    /// So much silence, at most ten seconds of it.
    #[must_use]
    pub fn silence(self, milliseconds: u32) -> Vec<u8> {
        const LONGEST_MS: u32 = 10_000;
        /// µ-law's positive zero (ITU-T G.711, table 2a).
        const MULAW_ZERO: u8 = 0xff;
        let byte = match self {
            Self::Mulaw8000 => MULAW_ZERO,
            Self::Linear16At16000 => 0,
        };
        vec![byte; self.bytes_of(milliseconds.min(LONGEST_MS))]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_and_what_is_given() {
        use Output::{Linear16At16000, Mulaw8000};
        for (before, encoding, rate, after) in [
            (Mulaw8000, None, None, Mulaw8000),
            (Linear16At16000, None, None, Linear16At16000),
            (Mulaw8000, Some("linear16"), Some(16_000), Linear16At16000),
            (Mulaw8000, Some(" SLIN16 "), Some(16_000), Linear16At16000),
            (Mulaw8000, Some("slin"), None, Linear16At16000),
            (Mulaw8000, Some("pcm16"), Some(8_000), Mulaw8000),
            (Linear16At16000, Some("ulaw"), Some(8_000), Mulaw8000),
            (Linear16At16000, Some("μ-law"), None, Mulaw8000),
            (Linear16At16000, Some("opus"), Some(16_000), Mulaw8000),
            (Linear16At16000, None, Some(8_000), Mulaw8000),
            (Linear16At16000, None, Some(16_000), Linear16At16000),
            (Mulaw8000, None, Some(16_000), Mulaw8000),
            (Mulaw8000, Some("linear16"), Some(0), Mulaw8000),
        ] {
            let request = OutputRequest {
                encoding: encoding.map(Encoding::meant_by),
                rate,
            };
            assert_eq!(before.after(request), after, "{before:?} {encoding:?} {rate:?}");
        }
    }

    #[test]
    fn silence_has_the_length_it_says() {
        assert_eq!(Output::Mulaw8000.silence(100), vec![0xff; 800]);
        assert_eq!(Output::Linear16At16000.silence(100), vec![0; 3_200]);
        assert_eq!(Output::Mulaw8000.silence(u32::MAX).len(), 80_000);
    }
}
