//! The audio of the wire in both directions, and whether it is what was promised.

use std::time::Duration;

use repartee_protocol::native::{AudioFormat, Codec, ErrorCode, Framing, Rate};

use crate::audio::{self, Inbound, MediaError, MediaFormat, Outbound, RtpStart, SampleRate, SetupError};
use crate::time::{SESSION_RATE, Time};

/// The format in the words of the audio floor; for clients of this wire too.
#[must_use]
pub fn media_format(format: &AudioFormat) -> MediaFormat {
    let codec = match format.codec {
        Codec::Pcm16 => audio::Codec::Pcm16,
        Codec::Pcmu => audio::Codec::Pcmu,
        Codec::Pcma => audio::Codec::Pcma,
        Codec::Opus => audio::Codec::Opus,
    };
    let framing = match format.framing {
        Framing::Raw => audio::Framing::Raw,
        Framing::Rtp => audio::Framing::Rtp,
    };
    MediaFormat {
        codec,
        rate: sample_rate(format.rate),
        framing,
    }
}

/// The rate in the words of the audio floor.
pub(super) fn sample_rate(rate: Rate) -> SampleRate {
    SampleRate::from_hz(rate.hertz()).expect("both sides know the same four rates, as a test shows")
}

/// The decoder of what the client sends.
pub(super) fn inbound(format: &AudioFormat) -> Result<Inbound, SetupError> {
    let rate = SampleRate::from_hz(SESSION_RATE).expect("the session's rate is one of the four");
    Inbound::new(media_format(format), format.payload_type(), None, rate)
}

/// The encoder of what the client hears.
pub(super) fn outbound(format: &AudioFormat, ssrc: u32, random: u64) -> Result<Outbound, SetupError> {
    let start = RtpStart {
        payload_type: format.payload_type(),
        ssrc,
        sequence: u16::try_from(random & 0xffff).unwrap_or(0),
        timestamp: u32::try_from(random >> 32).unwrap_or(0),
    };
    Ok(Outbound::new(media_format(format), start)?)
}

/// The code under which a dropped message is told.
pub(super) const fn error_code(error: &MediaError) -> ErrorCode {
    match error {
        MediaError::Codec(audio::CodecError::OddByteCount(_)) => ErrorCode::OddByteCount,
        MediaError::Codec(audio::CodecError::Opus(_)) | MediaError::Rtp(_) => ErrorCode::MalformedPacket,
        MediaError::PayloadType { .. } | MediaError::Codec(audio::CodecError::Rate { .. }) => ErrorCode::MediaFormat,
    }
}

/// Audio may run ahead of its time by this much before anybody wonders: a burst after a hiccup of the network.
const BURST: Duration = Duration::from_secs(3);

/// Watches whether audio comes as fast as time goes by. Stereo sent as mono, or 48 kHz sent as 24 kHz, looks just like
/// sound that lasts twice as long, so this is the only place where it shows.
#[derive(Debug, Default)]
pub(super) struct RateWatch {
    first: Option<Time>,
    samples: u64,
    told: bool,
}

impl RateWatch {
    /// Takes note of `samples` that came at `now`. True once, when far more has come than time has passed.
    pub(super) fn note(&mut self, now: Time, samples: usize) -> bool {
        let first = *self.first.get_or_insert(now);
        self.samples += samples as u64;
        let audio = Duration::from_micros(self.samples * 1_000_000 / u64::from(SESSION_RATE));
        let excessive = audio > now.since(first).mul_f32(1.5) + BURST;
        let tell = excessive && !self.told;
        self.told |= excessive;
        tell
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_know_the_same_rates() {
        for rate in Rate::ALL {
            assert_eq!(sample_rate(rate).hz(), rate.hertz());
        }
    }

    #[test]
    fn stereo_sent_as_mono_is_noticed_and_a_burst_is_not() {
        let mut honest = RateWatch::default();
        let mut stereo = RateWatch::default();
        assert!(
            !honest.note(Time::ZERO, 16_000 * 2),
            "two seconds at once after a hiccup"
        );
        let mut told = 0;
        for millis in (0..60_000).step_by(20) {
            assert!(!honest.note(Time::from_millis(millis), 320));
            told += u32::from(stereo.note(Time::from_millis(millis), 640));
        }
        assert_eq!(told, 1);
    }
}
