//! Which format a payload type names.

use repartee_protocol::rtp::payload_type;

use super::super::codec::Codec;
use super::super::frame::SampleRate;

/// What the payloads of one type hold; always mono.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RtpFormat {
    /// How samples are written.
    pub codec: Codec,
    /// Samples a second, as they are decoded, in Hz: 8000 to 48000.
    pub hz: u32,
    /// Ticks a second of the timestamps, in Hz. It is not `hz` for Opus and G.722.
    pub clock: u32,
}

impl RtpFormat {
    /// G.722, whose clock is half of its rate by an old mistake (RFC 3551 §4.5.2).
    pub const G722: Self = Self {
        codec: Codec::G722,
        hz: 16_000,
        clock: 8_000,
    };

    /// A format whose timestamps count its samples.
    #[must_use]
    pub const fn of(codec: Codec, hz: u32) -> Self {
        Self { codec, hz, clock: hz }
    }

    /// The rate at which a decoder is told to work. L16 of a rate that the engine has no name for is decoded all the same,
    /// since its samples are what they are; only the length of what conceals a loss is off, by a third or a half.
    pub(super) const fn decoder_rate(self) -> SampleRate {
        match self.hz {
            0..=12_000 => SampleRate::Hz8000,
            12_001..=16_000 => SampleRate::Hz16000,
            16_001..=32_000 => SampleRate::Hz24000,
            _ => SampleRate::Hz48000,
        }
    }
}

/// The formats of a session's payload types.
#[derive(Debug, Clone)]
pub struct RtpFormats {
    formats: [Option<RtpFormat>; 128],
    events: u8,
}

impl RtpFormats {
    /// No format, and telephone events as type 101.
    #[must_use]
    pub const fn none() -> Self {
        Self {
            formats: [None; 128],
            events: payload_type::TELEPHONE_EVENT,
        }
    }

    /// What Asterisk's externalMedia sends: its internal numbers, which are never negotiated (asterisk.md §3). Opus is
    /// decoded at 16 kHz, and L16 of types 10 and 11 is mono at 8 kHz, whatever RFC 3551 says.
    #[must_use]
    pub const fn asterisk() -> Self {
        use payload_type::asterisk as numbers;
        let opus = RtpFormat {
            codec: Codec::Opus,
            hz: 16_000,
            clock: 48_000,
        };
        Self::none()
            .with(payload_type::PCMU, RtpFormat::of(Codec::Pcmu, 8_000))
            .with(payload_type::PCMA, RtpFormat::of(Codec::Pcma, 8_000))
            .with(payload_type::G722, RtpFormat::G722)
            .with(numbers::SLIN, RtpFormat::of(Codec::Pcm16, 8_000))
            .with(payload_type::L16_MONO, RtpFormat::of(Codec::Pcm16, 8_000))
            .with(numbers::SLIN12, RtpFormat::of(Codec::Pcm16, 12_000))
            .with(numbers::SLIN16, RtpFormat::of(Codec::Pcm16, 16_000))
            .with(numbers::SLIN24, RtpFormat::of(Codec::Pcm16, 24_000))
            .with(numbers::SLIN32, RtpFormat::of(Codec::Pcm16, 32_000))
            .with(numbers::SLIN48, RtpFormat::of(Codec::Pcm16, 48_000))
            .with(numbers::OPUS, opus)
    }

    /// The same with `format` for `payload_type`, as SDP or a configuration says.
    #[must_use]
    pub const fn with(mut self, payload_type: u8, format: RtpFormat) -> Self {
        self.formats[(payload_type & 0x7F) as usize] = Some(format);
        self
    }

    /// The same with telephone events as `payload_type`.
    #[must_use]
    pub const fn with_events(mut self, payload_type: u8) -> Self {
        self.events = payload_type & 0x7F;
        self
    }

    /// The format of `payload_type`.
    #[must_use]
    pub const fn format(&self, payload_type: u8) -> Option<RtpFormat> {
        self.formats[(payload_type & 0x7F) as usize]
    }

    /// The payload type of telephone events.
    #[must_use]
    pub const fn events(&self) -> u8 {
        self.events
    }
}

/// In which type and format Asterisk takes audio back from us where it sends `heard`: it takes static types alone, which
/// need not be what it sends, and drops all others without a word (asterisk.md §3). Wide sound is answered in G.722,
/// which is the only static type that carries it; L16 at 8 kHz has type 11.
#[must_use]
pub const fn asterisk_answer(heard: RtpFormat) -> (u8, RtpFormat) {
    match heard.codec {
        Codec::Pcmu => (payload_type::PCMU, RtpFormat::of(Codec::Pcmu, 8_000)),
        Codec::Pcma => (payload_type::PCMA, RtpFormat::of(Codec::Pcma, 8_000)),
        Codec::Pcm16 if heard.hz <= 8_000 => (payload_type::L16_MONO, RtpFormat::of(Codec::Pcm16, 8_000)),
        Codec::Pcm16 | Codec::Opus | Codec::G722 => (payload_type::G722, RtpFormat::G722),
    }
}
