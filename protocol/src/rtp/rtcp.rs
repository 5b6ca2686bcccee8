//! RTCP: what both ends tell each other about a stream (RFC 3550 §6).
//!
//! Sender and receiver reports, the name of a source and its goodbye; whatever else is in a compound packet is passed
//! over by its length.

use super::RtpError;

/// Types of packets (RFC 3550 §12.1).
const SENDER_REPORT: u8 = 200;
const RECEIVER_REPORT: u8 = 201;
const SOURCE_DESCRIPTION: u8 = 202;
const GOODBYE: u8 = 203;
/// The item of a source description that names the source for good.
const CNAME: u8 = 1;
/// Bytes of a block about one source.
const BLOCK_BYTES: usize = 24;

/// What a receiver says about one source (RFC 3550 §6.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReceptionReport {
    /// The source that it is about.
    pub ssrc: u32,
    /// Packets lost since the report before, in 256ths of those expected.
    pub fraction_lost: u8,
    /// Packets lost since the beginning; negative if more came than were expected. 24 bits on the wire.
    pub lost: i32,
    /// The highest sequence number that came, with the count of its wraps in the upper half.
    pub highest_sequence: u32,
    /// The interarrival jitter, in ticks of the stream's clock.
    pub jitter: u32,
    /// The middle half of the NTP time in the source's last sender report; 0 if none came.
    pub last_sender_report: u32,
    /// How long ago that was, in 65536ths of a second.
    pub since_sender_report: u32,
}

/// What a sender says about its own stream (RFC 3550 §6.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SenderReport {
    /// The time of the report in 2^-32 s: since 1900, or since any moment where nobody knows the hour (RFC 3550 §4).
    pub ntp: u64,
    /// The same moment on the stream's own clock.
    pub timestamp: u32,
    /// Packets sent so far.
    pub packets: u32,
    /// Bytes of payload sent so far.
    pub bytes: u32,
}

/// One packet out of a compound one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RtcpPacket<'a> {
    /// A report of `ssrc`, who also sends if there is a sender's part in it.
    Report {
        /// Who reports.
        ssrc: u32,
        /// What it sent.
        sender: Option<SenderReport>,
        /// What it received.
        receptions: ReceptionReports<'a>,
    },
    /// `ssrc` sends no more. A hint: calls end by signalling.
    Goodbye {
        /// The first source that leaves; 0 if none is named.
        ssrc: u32,
    },
    /// Something else of this type.
    Other(u8),
}

/// The blocks of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReceptionReports<'a> {
    blocks: &'a [[u8; BLOCK_BYTES]],
}

impl ReceptionReports<'_> {
    /// The blocks, one for a source, at most 31.
    pub fn iter(&self) -> impl Iterator<Item = ReceptionReport> {
        self.blocks.iter().map(|block| {
            let (words, _) = block.as_chunks::<4>();
            let word = |index: usize| u32::from_be_bytes(words[index]);
            ReceptionReport {
                ssrc: word(0),
                fraction_lost: block[4],
                // 24 bits with a sign.
                lost: ((word(1) << 8) as i32) >> 8,
                highest_sequence: word(2),
                jitter: word(3),
                last_sender_report: word(4),
                since_sender_report: word(5),
            }
        })
    }
}

/// Reads the packets of a compound one.
///
/// It ends after the first error.
#[derive(Debug, Clone)]
pub struct RtcpReader<'a> {
    rest: &'a [u8],
}

impl<'a> RtcpReader<'a> {
    /// A reader of the datagram `bytes`.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    fn read(&mut self) -> Result<RtcpPacket<'a>, RtpError> {
        let bytes = self.rest;
        let truncated = |needed| RtpError::Truncated {
            needed,
            actual: bytes.len(),
        };
        let &[flags, kind, l0, l1] = bytes.first_chunk::<4>().ok_or_else(|| truncated(4))?;
        if flags >> 6 != 2 {
            return Err(RtpError::Version(flags >> 6));
        }
        let length = 4 + 4 * usize::from(u16::from_be_bytes([l0, l1]));
        let (packet, rest) = bytes.split_at_checked(length).ok_or_else(|| truncated(length))?;
        self.rest = rest;
        let count = usize::from(flags & 0x1F);
        let word = |at: usize| packet[at..].first_chunk::<4>().map(|word| u32::from_be_bytes(*word));
        match kind {
            SENDER_REPORT | RECEIVER_REPORT => {
                let blocks_at = if kind == SENDER_REPORT { 28 } else { 8 };
                let needed = blocks_at + BLOCK_BYTES * count;
                if packet.len() < needed {
                    return Err(truncated(needed));
                }
                let field = |at: usize| word(at).unwrap_or(0);
                let sender = (kind == SENDER_REPORT).then(|| SenderReport {
                    ntp: (u64::from(field(8)) << 32) | u64::from(field(12)),
                    timestamp: field(16),
                    packets: field(20),
                    bytes: field(24),
                });
                let (blocks, _) = packet[blocks_at..needed].as_chunks::<BLOCK_BYTES>();
                Ok(RtcpPacket::Report {
                    ssrc: field(4),
                    sender,
                    receptions: ReceptionReports { blocks },
                })
            }
            GOODBYE if count > 0 => Ok(RtcpPacket::Goodbye {
                ssrc: word(4).ok_or_else(|| truncated(8))?,
            }),
            GOODBYE => Ok(RtcpPacket::Goodbye { ssrc: 0 }),
            other => Ok(RtcpPacket::Other(other)),
        }
    }
}

impl<'a> Iterator for RtcpReader<'a> {
    type Item = Result<RtcpPacket<'a>, RtpError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let read = self.read();
        if read.is_err() {
            self.rest = &[];
        }
        Some(read)
    }
}

/// Appends a compound packet of `ssrc` to `out`: a sender report if it sent anything, else a receiver report; what it
/// received, where it received anything; and its name, which every compound packet has to carry (RFC 3550 §6.1).
///
/// # Panics
/// If the name is longer than 255 bytes: it is our own.
pub fn write_report(
    ssrc: u32,
    name: &str,
    sender: Option<&SenderReport>,
    reception: Option<&ReceptionReport>,
    out: &mut Vec<u8>,
) {
    let kind = if sender.is_some() {
        SENDER_REPORT
    } else {
        RECEIVER_REPORT
    };
    let bytes = 8 + if sender.is_some() { 20 } else { 0 } + if reception.is_some() { BLOCK_BYTES } else { 0 };
    write_header(u8::from(reception.is_some()), kind, bytes, out);
    out.extend_from_slice(&ssrc.to_be_bytes());
    if let Some(sender) = sender {
        out.extend_from_slice(&sender.ntp.to_be_bytes());
        for word in [sender.timestamp, sender.packets, sender.bytes] {
            out.extend_from_slice(&word.to_be_bytes());
        }
    }
    if let Some(reception) = reception {
        out.extend_from_slice(&reception.ssrc.to_be_bytes());
        let lost = reception.lost.clamp(-0x80_0000, 0x7F_FFFF).cast_unsigned() & 0xFF_FFFF;
        for word in [
            (u32::from(reception.fraction_lost) << 24) | lost,
            reception.highest_sequence,
            reception.jitter,
            reception.last_sender_report,
            reception.since_sender_report,
        ] {
            out.extend_from_slice(&word.to_be_bytes());
        }
    }
    let length = u8::try_from(name.len()).expect("a name of ours is short");
    // The list of items ends with at least one zero, at a whole word.
    let bytes = (8 + 2 + name.len() + 1).next_multiple_of(4);
    let start = out.len();
    write_header(1, SOURCE_DESCRIPTION, bytes, out);
    out.extend_from_slice(&ssrc.to_be_bytes());
    out.extend_from_slice(&[CNAME, length]);
    out.extend_from_slice(name.as_bytes());
    out.resize(start + bytes, 0);
}

/// Appends the goodbye of `ssrc` to `out`, for the end of a compound packet (RFC 3550 §6.6).
pub fn write_goodbye(ssrc: u32, out: &mut Vec<u8>) {
    write_header(1, GOODBYE, 8, out);
    out.extend_from_slice(&ssrc.to_be_bytes());
}

fn write_header(count: u8, kind: u8, bytes: usize, out: &mut Vec<u8>) {
    // At most some 350 bytes are ever written.
    let words = (bytes / 4 - 1) as u16;
    out.extend_from_slice(&[0x80 | count, kind]);
    out.extend_from_slice(&words.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    const SENDER: SenderReport = SenderReport {
        ntp: 0x0102_0304_0506_0708,
        timestamp: 160,
        packets: 3,
        bytes: 480,
    };
    const RECEPTION: ReceptionReport = ReceptionReport {
        ssrc: 0xCAFE,
        fraction_lost: 12,
        lost: -5,
        highest_sequence: 0x0001_FFFF,
        jitter: 77,
        last_sender_report: 0x0304_0506,
        since_sender_report: 65_536,
    };

    #[test]
    fn what_is_written_is_read_back() {
        for sender in [None, Some(SENDER)] {
            for reception in [None, Some(RECEPTION)] {
                for name in ["", "a", "ab", "abc", "abcd@1"] {
                    let mut bytes = Vec::new();
                    write_report(7, name, sender.as_ref(), reception.as_ref(), &mut bytes);
                    write_goodbye(7, &mut bytes);
                    assert!(bytes.len().is_multiple_of(4));
                    assert_eq!(super::super::classify(&bytes), super::super::Datagram::Rtcp);
                    let packets: Vec<_> = RtcpReader::new(&bytes).map(Result::unwrap).collect();
                    let [
                        report,
                        RtcpPacket::Other(SOURCE_DESCRIPTION),
                        RtcpPacket::Goodbye { ssrc: 7 },
                    ] = packets[..]
                    else {
                        panic!("{packets:?}");
                    };
                    let RtcpPacket::Report {
                        ssrc: 7,
                        sender: read,
                        receptions,
                    } = report
                    else {
                        panic!("{report:?}");
                    };
                    assert_eq!(read, sender);
                    assert_eq!(receptions.iter().collect::<Vec<_>>(), Vec::from_iter(reception));
                }
            }
        }
    }

    #[test]
    fn losses_have_24_bits_and_a_sign() {
        for (lost, read) in [
            (0x7F_FFFF, 0x7F_FFFF),
            (i32::MAX, 0x7F_FFFF),
            (i32::MIN, -0x80_0000),
            (-1, -1),
        ] {
            let mut bytes = Vec::new();
            write_report(1, "x", None, Some(&ReceptionReport { lost, ..RECEPTION }), &mut bytes);
            let Some(Ok(RtcpPacket::Report { receptions, .. })) = RtcpReader::new(&bytes).next() else {
                panic!("no report");
            };
            let block = receptions.iter().next().unwrap();
            assert_eq!((block.lost, block.fraction_lost), (read, 12));
        }
    }

    #[test]
    fn cut_and_wrong_packets_are_refused_and_end_it() {
        let mut bytes = Vec::new();
        write_report(1, "name", Some(&SENDER), Some(&RECEPTION), &mut bytes);
        for length in 0..bytes.len() {
            let read: Vec<_> = RtcpReader::new(&bytes[..length]).collect();
            assert!(read.len() <= 2);
            assert!(
                length == 0 || length == 52 || read.last().unwrap().is_err(),
                "{length}: {read:?}"
            );
        }
        // More blocks than there are bytes; another version; a goodbye of nobody.
        bytes[0] = 0x9F;
        assert!(RtcpReader::new(&bytes).next().unwrap().is_err());
        bytes[0] = 0x41;
        assert_eq!(RtcpReader::new(&bytes).next(), Some(Err(RtpError::Version(1))));
        assert_eq!(
            RtcpReader::new(&[0x80, GOODBYE, 0, 0]).next(),
            Some(Ok(RtcpPacket::Goodbye { ssrc: 0 }))
        );
        assert!(RtcpReader::new(&[0x81, GOODBYE, 0, 0]).next().unwrap().is_err());
    }

    #[test]
    fn nothing_makes_the_reader_panic_or_loop() {
        let mut state = 88_172_645_463_325_252_u64;
        for round in 0..20_000 {
            let bytes: Vec<u8> = (0..round % 97)
                .map(|at| {
                    state ^= state << 13;
                    state ^= state >> 7;
                    state ^= state << 17;
                    if at % 8 == 0 { 0x81 } else { state as u8 }
                })
                .collect();
            let read = RtcpReader::new(&bytes)
                .filter_map(Result::ok)
                .map(|packet| match packet {
                    RtcpPacket::Report { receptions, .. } => receptions.iter().count(),
                    RtcpPacket::Goodbye { .. } | RtcpPacket::Other(_) => 0,
                })
                .count();
            assert!(read <= bytes.len() / 4);
        }
    }
}
