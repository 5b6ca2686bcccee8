//! Audio formats: what `hello` asks for and what `ready` answers.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error, Unexpected};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::ErrorCode;
use crate::rtp::{OPUS_CLOCK, payload_type};

/// How samples are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Codec {
    /// Signed 16-bit samples: little-endian raw, big-endian (L16, RFC 3551 §4.5.11) in RTP.
    Pcm16,
    /// G.711 µ-law, 8000 Hz only.
    Pcmu,
    /// G.711 A-law, 8000 Hz only.
    Pcma,
    /// Opus (RFC 6716). The rate is what the server decodes to and encodes from; the packets fit any.
    Opus,
}

impl Codec {
    /// All four.
    pub const ALL: [Self; 4] = [Self::Pcm16, Self::Pcmu, Self::Pcma, Self::Opus];

    /// Its name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pcm16 => "pcm16",
            Self::Pcmu => "pcmu",
            Self::Pcma => "pcma",
            Self::Opus => "opus",
        }
    }

    /// The rate where `hello` names none.
    #[must_use]
    pub const fn default_rate(self) -> Rate {
        match self {
            Self::Pcm16 => Rate::HZ_16000,
            Self::Pcmu | Self::Pcma => Rate::HZ_8000,
            Self::Opus => Rate::HZ_48000,
        }
    }

    /// Whether it can have this rate.
    #[must_use]
    pub fn takes(self, rate: Rate) -> bool {
        match self {
            Self::Pcm16 | Self::Opus => true,
            Self::Pcmu | Self::Pcma => rate == Rate::HZ_8000,
        }
    }

    /// Bytes of one sample; none for Opus, whose packets vary.
    #[must_use]
    pub const fn bytes_per_sample(self) -> Option<usize> {
        match self {
            Self::Pcm16 => Some(2),
            Self::Pcmu | Self::Pcma => Some(1),
            Self::Opus => None,
        }
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// Samples per second: 8000, 16000, 24000 or 48000.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rate(u32);

impl Rate {
    /// Telephone band.
    pub const HZ_8000: Self = Self(8_000);
    /// What recognisers take.
    pub const HZ_16000: Self = Self(16_000);
    /// What many synthesisers make.
    pub const HZ_24000: Self = Self(24_000);
    /// What sound cards run at.
    pub const HZ_48000: Self = Self(48_000);
    /// All four.
    pub const ALL: [Self; 4] = [Self::HZ_8000, Self::HZ_16000, Self::HZ_24000, Self::HZ_48000];

    /// The rate of `hertz`, if it is one of the four.
    #[must_use]
    pub fn new(hertz: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|rate| rate.0 == hertz)
    }

    /// Samples per second.
    #[must_use]
    pub const fn hertz(self) -> u32 {
        self.0
    }
}

impl Serialize for Rate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u32(self.0)
    }
}

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let hertz = u32::deserialize(deserializer)?;
        Self::new(hertz)
            .ok_or_else(|| D::Error::invalid_value(Unexpected::Unsigned(hertz.into()), &"8000, 16000, 24000 or 48000"))
    }
}

impl JsonSchema for Rate {
    fn schema_name() -> Cow<'static, str> {
        "Rate".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "integer",
            "enum": [8000, 16000, 24000, 48000],
            "description": "Samples per second. `pcmu` and `pcma` are 8000 only.",
        })
    }
}

/// What a binary message holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Framing {
    /// Samples (any whole number of them), or one Opus packet.
    #[default]
    Raw,
    /// One whole RTP packet (RFC 3550), header included.
    Rtp,
}

impl Framing {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Raw, Self::Rtp];

    /// Its name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Rtp => "rtp",
        }
    }
}

/// An audio format, as asked for. Always mono.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct AudioFormat {
    /// How samples are written.
    pub codec: Codec,
    /// Samples per second; where absent 16000 for `pcm16`, 8000 for `pcmu` and `pcma`, 48000 for `opus`.
    #[schemars(with = "Option<Rate>")]
    pub rate: Rate,
    /// Always 1.
    #[schemars(with = "Option<u8>", range(min = 1, max = 1))]
    pub channels: u8,
    /// What a binary message holds; `raw` where absent.
    #[schemars(with = "Option<Framing>")]
    pub framing: Framing,
}

impl Default for AudioFormat {
    fn default() -> Self {
        Self::of(Codec::Pcm16)
    }
}

impl AudioFormat {
    /// Raw audio of this codec at its default rate.
    #[must_use]
    pub const fn of(codec: Codec) -> Self {
        Self {
            codec,
            rate: codec.default_rate(),
            channels: 1,
            framing: Framing::Raw,
        }
    }

    /// How many samples a raw message of `bytes` bytes holds; none for Opus, whose packets must be opened to know.
    ///
    /// # Errors
    /// [`ErrorCode::OddByteCount`] when the last sample is cut in half.
    pub fn samples_in(&self, bytes: usize) -> Result<Option<usize>, ErrorCode> {
        match self.codec.bytes_per_sample() {
            None => Ok(None),
            Some(size) if bytes.is_multiple_of(size) => Ok(Some(bytes / size)),
            Some(_) => Err(ErrorCode::OddByteCount),
        }
    }

    /// The RTP payload type of this codec on this wire: the static ones of RFC 3551 §6, else those that this wire gives
    /// to the dynamic formats.
    #[must_use]
    pub const fn payload_type(&self) -> u8 {
        match self.codec {
            Codec::Pcmu => payload_type::PCMU,
            Codec::Pcma => payload_type::PCMA,
            Codec::Pcm16 => payload_type::L16_DYNAMIC,
            Codec::Opus => payload_type::OPUS,
        }
    }

    /// Ticks per second of the RTP timestamps. Opus always counts at 48000 (RFC 7587 §4.1), whatever its rate is.
    #[must_use]
    pub const fn rtp_clock(&self) -> u32 {
        match self.codec {
            Codec::Opus => OPUS_CLOCK,
            Codec::Pcm16 | Codec::Pcmu | Codec::Pcma => self.rate.hertz(),
        }
    }

    /// The format as `ready` tells it. `ssrc` is that of the packets we send; none for the direction that we receive.
    #[must_use]
    pub fn effective(&self, ssrc: Option<u32>) -> EffectiveFormat {
        EffectiveFormat {
            codec: self.codec,
            rate: self.rate,
            channels: self.channels,
            framing: self.framing,
            frame_ms: FRAME_MS,
            rtp: (self.framing == Framing::Rtp).then(|| RtpFormat {
                payload_type: self.payload_type(),
                clock_rate: self.rtp_clock(),
                telephone_event: payload_type::TELEPHONE_EVENT,
                comfort_noise: payload_type::COMFORT_NOISE,
                ssrc,
            }),
        }
    }
}

/// Milliseconds of audio in each binary message that the server sends.
pub const FRAME_MS: u32 = 20;

/// An audio format, as it is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EffectiveFormat {
    /// How samples are written.
    pub codec: Codec,
    /// Samples per second.
    pub rate: Rate,
    /// Always 1.
    pub channels: u8,
    /// What a binary message holds.
    pub framing: Framing,
    /// Milliseconds of audio in each binary message that the server sends; a client may send other lengths.
    pub frame_ms: u32,
    /// With `rtp` framing: its numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtp: Option<RtpFormat>,
}

/// The numbers of RTP packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RtpFormat {
    /// Payload type of audio.
    pub payload_type: u8,
    /// Ticks per second of the timestamps.
    pub clock_rate: u32,
    /// Payload type of telephone keys (RFC 4733).
    pub telephone_event: u8,
    /// Payload type of comfort noise (RFC 3389).
    pub comfort_noise: u8,
    /// The source of the server's packets; absent for those that it receives, whose source may be any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ssrc: Option<u32>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_sample_is_refused() {
        let pcm = AudioFormat::default();
        assert_eq!(pcm.samples_in(640), Ok(Some(320)));
        assert_eq!(pcm.samples_in(0), Ok(Some(0)));
        assert_eq!(pcm.samples_in(641), Err(ErrorCode::OddByteCount));
        assert_eq!(AudioFormat::of(Codec::Pcmu).samples_in(161), Ok(Some(161)));
        assert_eq!(AudioFormat::of(Codec::Opus).samples_in(33), Ok(None));
    }

    #[test]
    fn opus_counts_at_48_khz_whatever_its_rate_is() {
        let opus = AudioFormat {
            rate: Rate::HZ_16000,
            framing: Framing::Rtp,
            ..AudioFormat::of(Codec::Opus)
        };
        let rtp = opus.effective(Some(7)).rtp.expect("rtp framing has its numbers");
        assert_eq!((rtp.payload_type, rtp.clock_rate, rtp.ssrc), (111, 48_000, Some(7)));
        assert_eq!(AudioFormat::of(Codec::Opus).effective(None).rtp, None);
    }
}
