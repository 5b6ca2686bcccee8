//! Frames of a reply as the payloads of a wire: encoded, and in RTP packets where the wire wants them.

use repartee_protocol::rtp::RtpSender;

use super::codec::{ByteOrder, Codec, CodecError, Encoder};
use super::frame::SampleRate;
use super::opus::OpusOptions;
use crate::time::Time;

/// What a message of a wire holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Framing {
    /// The payload of the codec alone.
    #[default]
    Raw,
    /// One whole RTP packet (RFC 3550).
    Rtp,
}

/// The format of a wire's audio in one direction; always mono.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MediaFormat {
    /// How samples are written.
    pub codec: Codec,
    /// Their rate.
    pub rate: SampleRate,
    /// What is around them.
    pub framing: Framing,
}

/// Where an RTP stream begins. RFC 3550 §5.1 wants all three random.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RtpStart {
    /// Payload type of the codec on this wire.
    pub payload_type: u8,
    /// Synchronisation source.
    pub ssrc: u32,
    /// First sequence number.
    pub sequence: u16,
    /// First timestamp.
    pub timestamp: u32,
}

/// Encodes the frames of one wire.
#[derive(Debug)]
pub struct Outbound {
    encoder: Encoder,
    format: MediaFormat,
    rtp: Option<RtpSender>,
    /// When the frame after the last one would be due.
    next: Option<Time>,
    payload: Vec<u8>,
}

impl Outbound {
    /// An encoder for `format`; `start` is used where its framing is RTP.
    ///
    /// # Errors
    /// [`CodecError`] when the codec can't be set up.
    pub fn new(format: MediaFormat, start: RtpStart) -> Result<Self, CodecError> {
        let order = match format.framing {
            Framing::Raw => ByteOrder::LittleEndian,
            Framing::Rtp => ByteOrder::BigEndian,
        };
        let rtp = match format.framing {
            Framing::Raw => None,
            Framing::Rtp => Some(RtpSender::new(
                start.payload_type,
                start.ssrc,
                start.sequence,
                start.timestamp,
            )),
        };
        let encoder = Encoder::new(format.codec, format.rate, order, OpusOptions::default())?;
        Ok(Self {
            encoder,
            format,
            rtp,
            next: None,
            payload: Vec::with_capacity(2_048),
        })
    }

    /// Appends the message for `pcm` to `out`. `due` is when the frame is sent: the timestamps of RTP run on through the
    /// time in which nothing was, and the first packet after such a gap is marked.
    ///
    /// # Errors
    /// [`CodecError`] when the codec refuses the frame, as Opus does with lengths that it doesn't have.
    pub fn frame(&mut self, pcm: &[i16], due: Time, out: &mut Vec<u8>) -> Result<(), CodecError> {
        let Some(sender) = &mut self.rtp else {
            return self.encoder.encode(pcm, out);
        };
        self.payload.clear();
        self.encoder.encode(pcm, &mut self.payload)?;
        let clock = u64::from(self.format.codec.rtp_clock(self.format.rate));
        let rate = u64::from(self.format.rate.hz());
        // Half a frame of lateness isn't a gap: what was due follows at once.
        let frame = std::time::Duration::from_nanos(pcm.len() as u64 * 1_000_000_000 / rate);
        let gap = self.next.map_or(std::time::Duration::ZERO, |next| due.since(next));
        if gap > frame / 2 {
            let ticks = u64::try_from(gap.as_nanos()).unwrap_or(u64::MAX).saturating_mul(clock) / 1_000_000_000;
            sender.skip(u32::try_from(ticks & u64::from(u32::MAX)).unwrap_or(0));
        }
        let ticks = u32::try_from(pcm.len() as u64 * clock / rate).unwrap_or(u32::MAX);
        sender.write(&self.payload, ticks, out);
        self.next = Some(due + frame);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use repartee_protocol::rtp::RtpPacket;

    const START: RtpStart = RtpStart {
        payload_type: 96,
        ssrc: 7,
        sequence: 65_535,
        timestamp: u32::MAX - 100,
    };

    fn at(millis: u64) -> Time {
        Time::from_millis(millis)
    }

    #[test]
    fn timestamps_run_on_through_a_gap_and_the_next_packet_is_marked() {
        let format = MediaFormat {
            codec: Codec::Pcm16,
            rate: SampleRate::Hz16000,
            framing: Framing::Rtp,
        };
        let mut outbound = Outbound::new(format, START).unwrap();
        let mut seen = Vec::new();
        for due in [0, 20, 40, 1_040, 1_060] {
            let mut message = Vec::new();
            outbound.frame(&[0x0102; 320], at(due), &mut message).unwrap();
            let packet = RtpPacket::parse(&message).unwrap();
            assert_eq!(&packet.payload[..2], [1, 2], "network order");
            let elapsed = packet.header.timestamp.wrapping_sub(START.timestamp);
            seen.push((packet.header.sequence, elapsed, packet.header.marker));
        }
        assert_eq!(
            seen,
            [
                (65_535, 0, true),
                (0, 320, false),
                (1, 640, false),
                (2, 16_640, true),
                (3, 16_960, false)
            ]
        );
    }

    #[test]
    fn raw_messages_are_the_payload_alone() {
        let format = MediaFormat {
            codec: Codec::Pcm16,
            rate: SampleRate::Hz8000,
            framing: Framing::Raw,
        };
        let mut outbound = Outbound::new(format, START).unwrap();
        let mut message = Vec::new();
        outbound.frame(&[0x0102; 160], at(0), &mut message).unwrap();
        assert_eq!((message.len(), &message[..2]), (320, &[2, 1][..]), "little-endian");
    }
}
