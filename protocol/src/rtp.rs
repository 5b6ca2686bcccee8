//! RTP: packets and reports (RFC 3550), payload types (RFC 3551), telephone events (RFC 4733), comfort noise (RFC 3389),
//! whose packets are taken (RFC 4961), and what else may arrive on the same port (RFC 7983).
//!
//! Nothing here reads a clock or a socket. Where time matters the caller passes it, as a duration since any fixed
//! moment. Bytes from outside are hostile: every parser returns an error or an answer, and allocates nothing.

mod digits;
mod rtcp;
mod source;

pub use digits::{Digit, DigitReceiver, DigitSender, TelephoneEvent, digit_event};
pub use rtcp::{ReceptionReport, ReceptionReports, RtcpPacket, RtcpReader, SenderReport, write_goodbye, write_report};
pub use source::{Source, SourceLock};

use thiserror::Error;

/// The bytes of a header without CSRCs and extension.
pub const HEADER_BYTES: usize = 12;
/// The clock of telephone events and of every narrow-band codec, in Hz.
pub const NARROWBAND_CLOCK: u32 = 8000;
/// The clock of Opus in RTP, whatever rate the sound has (RFC 7587 §4.1), in Hz.
pub const OPUS_CLOCK: u32 = 48_000;

/// Payload types: the static ones of RFC 3551 §6 that matter here, and those that our own wire gives to the dynamic
/// formats, where no SDP is spoken.
pub mod payload_type {
    /// G.711 µ-law, 8 kHz (static).
    pub const PCMU: u8 = 0;
    /// GSM full rate, 8 kHz (static).
    pub const GSM: u8 = 3;
    /// G.711 A-law, 8 kHz (static).
    pub const PCMA: u8 = 8;
    /// G.722: 16 kHz sound with, by an old mistake that became the standard, an 8 kHz clock (static).
    pub const G722: u8 = 9;
    /// L16 stereo at 44.1 kHz by RFC 3551; Asterisk's own number for 8 kHz mono.
    pub const L16_STEREO: u8 = 10;
    /// L16 mono at 44.1 kHz by RFC 3551; taken by Asterisk as 8 kHz mono.
    pub const L16_MONO: u8 = 11;
    /// Comfort noise, 8 kHz (static, RFC 3389).
    pub const COMFORT_NOISE: u8 = 13;
    /// Comfort noise as Cisco's older devices number it (reserved by RFC 3551).
    pub const COMFORT_NOISE_CISCO: u8 = 19;
    /// G.729 (static).
    pub const G729: u8 = 18;
    /// L16 at the rate that both sides agreed on, network byte order: our wire's number.
    pub const L16_DYNAMIC: u8 = 96;
    /// Telephone events: our wire's number, and nearly everybody's.
    pub const TELEPHONE_EVENT: u8 = 101;
    /// Opus: our wire's number, and the browsers'.
    pub const OPUS: u8 = 111;

    /// The highest number that Asterisk takes from us without negotiation (`AST_RTP_PT_LAST_STATIC`).
    pub const LAST_STATIC: u8 = 34;

    /// Asterisk's internal numbers, which its externalMedia sends unasked.
    pub mod asterisk {
        /// L16, 8 kHz.
        pub const SLIN: u8 = 10;
        /// Opus.
        pub const OPUS: u8 = 107;
        /// L16, 16 kHz.
        pub const SLIN16: u8 = 118;
        /// L16, 12 kHz.
        pub const SLIN12: u8 = 122;
        /// L16, 24 kHz.
        pub const SLIN24: u8 = 123;
        /// L16, 32 kHz.
        pub const SLIN32: u8 = 124;
        /// L16, 48 kHz.
        pub const SLIN48: u8 = 126;
    }

    /// Whether packets of this type say "nothing to hear".
    #[must_use]
    pub const fn is_comfort_noise(payload_type: u8) -> bool {
        matches!(payload_type, COMFORT_NOISE | COMFORT_NOISE_CISCO)
    }

    /// The name and clock (Hz) that RFC 3551 gives a static audio type, where it gives one.
    #[must_use]
    pub const fn static_format(payload_type: u8) -> Option<(&'static str, u32)> {
        Some(match payload_type {
            PCMU => ("PCMU", 8000),
            GSM => ("GSM", 8000),
            PCMA => ("PCMA", 8000),
            G722 => ("G722", 8000),
            L16_STEREO | L16_MONO => ("L16", 44_100),
            COMFORT_NOISE => ("CN", 8000),
            G729 => ("G729", 8000),
            _ => return None,
        })
    }
}

/// What a datagram is, by its first two bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Datagram {
    /// A packet of media.
    Rtp,
    /// A report about media, on a port that carries both (RFC 5761 §4).
    Rtcp,
    /// A binding request or its answer.
    Stun,
    /// A handshake.
    Dtls,
    /// Nothing that we know.
    Other,
}

/// Tells what `bytes` are (RFC 7983 §7; RFC 5761 §4: RTCP has 192 to 223 where RTP has marker and type).
#[must_use]
pub const fn classify(bytes: &[u8]) -> Datagram {
    match bytes {
        [128..=191, 192..=223, ..] => Datagram::Rtcp,
        [128..=191, _, ..] => Datagram::Rtp,
        [0..=3, ..] => Datagram::Stun,
        [20..=63, ..] => Datagram::Dtls,
        _ => Datagram::Other,
    }
}

/// Why bytes are no RTP packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum RtpError {
    /// The packet ends before its header, its CSRCs or its extension do.
    #[error("the RTP packet is cut short: {actual} bytes where at least {needed} are needed")]
    Truncated {
        /// Bytes that the header asks for so far.
        needed: usize,
        /// Bytes that there are.
        actual: usize,
    },
    /// The version isn't 2.
    #[error("RTP version {0}, where only 2 exists")]
    Version(u8),
    /// The payload type belongs to RTCP on a shared port.
    #[error("an RTCP packet where RTP was expected")]
    Rtcp,
    /// The last byte says that there is more padding than payload, or none although there is some.
    #[error("RTP padding of {padding} bytes in a payload of {available}")]
    Padding {
        /// The count in the last byte.
        padding: u8,
        /// Bytes after the header.
        available: usize,
    },
}

/// The fields of a header that a stream is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RtpHeader {
    /// Set on the first packet after silence, and on the first of an event.
    pub marker: bool,
    /// 0 to 127.
    pub payload_type: u8,
    /// Counts packets, and wraps.
    pub sequence: u16,
    /// Counts ticks of the format's clock, and wraps.
    pub timestamp: u32,
    /// Names the source.
    pub ssrc: u32,
}

/// A header extension (RFC 3550 §5.3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RtpExtension<'a> {
    /// Defined by the profile: 0xBEDE for the one-byte form of RFC 8285.
    pub profile: u16,
    /// A multiple of four bytes.
    pub data: &'a [u8],
}

/// A packet, as slices of the bytes it was read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RtpPacket<'a> {
    /// The fixed part.
    pub header: RtpHeader,
    /// The contributing sources, four bytes each, at most 15.
    pub csrcs: &'a [[u8; 4]],
    /// The extension, if there is one.
    pub extension: Option<RtpExtension<'a>>,
    /// What is left, without the padding. It may be empty.
    pub payload: &'a [u8],
}

impl<'a> RtpPacket<'a> {
    /// Reads a whole packet.
    ///
    /// # Errors
    /// [`RtpError`], for whatever does not follow RFC 3550 §5.1 and for RTCP.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, RtpError> {
        let truncated = |needed| RtpError::Truncated {
            needed,
            actual: bytes.len(),
        };
        let Some((fixed, rest)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
            // A wrong version is the better answer where there is one: the bytes are something else.
            return Err(match bytes.first() {
                Some(first) if first >> 6 != 2 => RtpError::Version(first >> 6),
                _ => truncated(HEADER_BYTES),
            });
        };
        let [flags, marker_and_type, s0, s1, t0, t1, t2, t3, c0, c1, c2, c3] = *fixed;
        if flags >> 6 != 2 {
            return Err(RtpError::Version(flags >> 6));
        }
        if (192..=223).contains(&marker_and_type) {
            return Err(RtpError::Rtcp);
        }
        let header = RtpHeader {
            marker: marker_and_type & 0x80 != 0,
            payload_type: marker_and_type & 0x7F,
            sequence: u16::from_be_bytes([s0, s1]),
            timestamp: u32::from_be_bytes([t0, t1, t2, t3]),
            ssrc: u32::from_be_bytes([c0, c1, c2, c3]),
        };

        let csrc_bytes = 4 * usize::from(flags & 0x0F);
        let (csrcs, rest) = rest
            .split_at_checked(csrc_bytes)
            .ok_or_else(|| truncated(HEADER_BYTES + csrc_bytes))?;
        let (csrcs, _) = csrcs.as_chunks::<4>();

        let (extension, rest) = if flags & 0x10 == 0 {
            (None, rest)
        } else {
            let before = HEADER_BYTES + csrc_bytes + 4;
            let (&[p0, p1, l0, l1], rest) = rest.split_first_chunk::<4>().ok_or_else(|| truncated(before))?;
            let length = 4 * usize::from(u16::from_be_bytes([l0, l1]));
            let (data, rest) = rest
                .split_at_checked(length)
                .ok_or_else(|| truncated(before + length))?;
            (
                Some(RtpExtension {
                    profile: u16::from_be_bytes([p0, p1]),
                    data,
                }),
                rest,
            )
        };

        let payload = if flags & 0x20 == 0 {
            rest
        } else {
            let padding = rest.last().copied().unwrap_or(0);
            let error = RtpError::Padding {
                padding,
                available: rest.len(),
            };
            if padding == 0 {
                return Err(error);
            }
            let kept = rest.len().checked_sub(usize::from(padding)).ok_or(error)?;
            &rest[..kept]
        };
        Ok(Self {
            header,
            csrcs,
            extension,
            payload,
        })
    }

    /// Appends the packet to `out`.
    ///
    /// # Panics
    /// If there are more than 15 CSRCs, or an extension whose data is no multiple of four bytes or longer than
    /// 262,140: what this crate sends is its own.
    pub fn write(&self, out: &mut Vec<u8>) {
        assert!(self.csrcs.len() <= 15, "the count has four bits");
        let flags = 0x80 | if self.extension.is_some() { 0x10 } else { 0 } | self.csrcs.len() as u8;
        self.header.write_with(flags, out);
        out.extend_from_slice(self.csrcs.as_flattened());
        if let Some(extension) = &self.extension {
            assert!(extension.data.len() % 4 == 0, "extensions are whole words");
            let words = u16::try_from(extension.data.len() / 4).expect("the length has 16 bits");
            out.extend_from_slice(&extension.profile.to_be_bytes());
            out.extend_from_slice(&words.to_be_bytes());
            out.extend_from_slice(extension.data);
        }
        out.extend_from_slice(self.payload);
    }
}

impl RtpHeader {
    /// Appends this header, without CSRCs and extension, to `out`. The payload follows it.
    pub fn write(&self, out: &mut Vec<u8>) {
        self.write_with(0x80, out);
    }

    fn write_with(&self, flags: u8, out: &mut Vec<u8>) {
        out.push(flags);
        out.push(self.payload_type & 0x7F | if self.marker { 0x80 } else { 0 });
        out.extend_from_slice(&self.sequence.to_be_bytes());
        out.extend_from_slice(&self.timestamp.to_be_bytes());
        out.extend_from_slice(&self.ssrc.to_be_bytes());
    }
}

/// The level of the noise that a comfort noise packet describes, in dB below overload (RFC 3389 §3): 0 to 127.
/// The spectrum that may follow it is not read. `None` for an empty payload.
#[must_use]
pub fn comfort_noise_level(payload: &[u8]) -> Option<u8> {
    payload.first().map(|level| level & 0x7F)
}

/// Numbers the packets of one outgoing stream.
///
/// Timestamps follow the clock, also over time in which nothing was sent, and are never used twice; the first packet
/// after such a time carries the marker (RFC 3551 §4.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RtpSender {
    ssrc: u32,
    payload_type: u8,
    sequence: u16,
    timestamp: u32,
    /// The next packet is the first, or the first after a gap.
    after_gap: bool,
}

impl RtpSender {
    /// A stream that begins at `sequence` and `timestamp`. All three numbers should be random (RFC 3550 §5.1); they
    /// come from the caller, since this crate has no source of randomness.
    #[must_use]
    pub const fn new(payload_type: u8, ssrc: u32, sequence: u16, timestamp: u32) -> Self {
        Self {
            ssrc,
            payload_type,
            sequence,
            timestamp,
            after_gap: true,
        }
    }

    /// The header of the next packet, which lasts `ticks` of the clock.
    pub fn next_header(&mut self, ticks: u32) -> RtpHeader {
        let header = RtpHeader {
            marker: self.after_gap,
            payload_type: self.payload_type,
            sequence: self.sequence,
            timestamp: self.timestamp,
            ssrc: self.ssrc,
        };
        self.after_gap = false;
        self.sequence = self.sequence.wrapping_add(1);
        self.timestamp = self.timestamp.wrapping_add(ticks);
        header
    }

    /// Appends the next packet, header and `payload`, to `out`.
    pub fn write(&mut self, payload: &[u8], ticks: u32, out: &mut Vec<u8>) {
        self.next_header(ticks).write(out);
        out.extend_from_slice(payload);
    }

    /// Lets `ticks` of the clock pass in which nothing is sent.
    pub fn skip(&mut self, ticks: u32) {
        if ticks > 0 {
            self.timestamp = self.timestamp.wrapping_add(ticks);
            self.after_gap = true;
        }
    }

    /// Sends in another format from the next packet on. The clock must be the same.
    pub const fn change_payload_type(&mut self, payload_type: u8) {
        self.payload_type = payload_type;
    }

    /// The timestamp of the next packet.
    #[must_use]
    pub const fn timestamp(&self) -> u32 {
        self.timestamp
    }

    /// The source's name.
    #[must_use]
    pub const fn ssrc(&self) -> u32 {
        self.ssrc
    }

    /// A header outside the flow of audio: its own type and timestamp, the next sequence number.
    fn event_header(&mut self, payload_type: u8, timestamp: u32, marker: bool) -> RtpHeader {
        let header = RtpHeader {
            marker,
            payload_type,
            sequence: self.sequence,
            timestamp,
            ssrc: self.ssrc,
        };
        self.sequence = self.sequence.wrapping_add(1);
        header
    }
}

#[cfg(test)]
mod tests;
