use super::*;
use std::time::Duration;

/// A small generator of numbers for tests (xorshift64), seeded, so that a failure can be seen again.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next() as u8).collect()
    }
}

fn header() -> RtpHeader {
    RtpHeader {
        marker: true,
        payload_type: 111,
        sequence: 0xFFFE,
        timestamp: 0x0102_0304,
        ssrc: 0xDEAD_BEEF,
    }
}

#[test]
fn a_plain_packet_is_read_field_by_field() {
    let bytes = [0x80, 0x88, 0x12, 0x34, 0, 0, 0, 160, 0xCA, 0xFE, 0xBA, 0xBE, 1, 2, 3];
    let packet = RtpPacket::parse(&bytes).unwrap();
    assert_eq!(
        packet.header,
        RtpHeader {
            marker: true,
            payload_type: 8,
            sequence: 0x1234,
            timestamp: 160,
            ssrc: 0xCAFE_BABE
        }
    );
    assert_eq!(
        (packet.csrcs, packet.extension, packet.payload),
        (&[][..], None, &[1, 2, 3][..])
    );
}

#[test]
fn everything_that_is_written_is_read_back() {
    let mut random = Random(7);
    for csrc_count in 0..=15 {
        for extension_words in [None, Some(0), Some(1), Some(3)] {
            for payload_bytes in [0, 1, 160] {
                let csrcs = random.bytes(4 * csrc_count);
                let data = random.bytes(4 * extension_words.unwrap_or(0));
                let payload = random.bytes(payload_bytes);
                let packet = RtpPacket {
                    header: header(),
                    csrcs: csrcs.as_chunks::<4>().0,
                    extension: extension_words.map(|_| RtpExtension {
                        profile: 0xBEDE,
                        data: &data,
                    }),
                    payload: &payload,
                };
                let mut bytes = Vec::new();
                packet.write(&mut bytes);
                assert_eq!(RtpPacket::parse(&bytes), Ok(packet));

                // With padding of every length, the packet is the same.
                for padding in [1_u8, 4, 255] {
                    let mut padded = bytes.clone();
                    padded[0] |= 0x20;
                    padded.resize(bytes.len() + usize::from(padding) - 1, 0);
                    padded.push(padding);
                    assert_eq!(RtpPacket::parse(&padded), Ok(packet));
                }
                // Cut anywhere before the payload, it is an error; after it, a shorter payload.
                let before = bytes.len() - payload.len();
                for cut in 0..bytes.len() {
                    match RtpPacket::parse(&bytes[..cut]) {
                        Err(RtpError::Truncated { needed, actual }) => {
                            assert!(cut < before && needed > cut && needed <= before && actual == cut);
                        }
                        Ok(short) => assert!(cut >= before && short.payload == &payload[..cut - before]),
                        Err(error) => panic!("{error}"),
                    }
                }
            }
        }
    }
}

#[test]
fn other_versions_and_rtcp_are_refused() {
    for version in [0, 1, 3] {
        let mut bytes = [0; 20];
        bytes[0] = version << 6;
        assert_eq!(RtpPacket::parse(&bytes), Err(RtpError::Version(version)));
        assert_eq!(RtpPacket::parse(&bytes[..1]), Err(RtpError::Version(version)));
    }
    for second in 0..=255_u8 {
        let mut bytes = [0; 12];
        bytes[..2].copy_from_slice(&[0x80, second]);
        let is_rtcp = (192..=223).contains(&second);
        assert_eq!(RtpPacket::parse(&bytes) == Err(RtpError::Rtcp), is_rtcp);
        assert_eq!(classify(&bytes) == Datagram::Rtcp, is_rtcp);
    }
    assert_eq!(
        RtpPacket::parse(&[]),
        Err(RtpError::Truncated { needed: 12, actual: 0 })
    );
}

#[test]
fn wrong_padding_is_refused() {
    let mut bytes = Vec::new();
    header().write(&mut bytes);
    bytes[0] |= 0x20;
    assert_eq!(
        RtpPacket::parse(&bytes),
        Err(RtpError::Padding {
            padding: 0,
            available: 0
        })
    );
    bytes.extend([9, 9, 0]);
    assert_eq!(
        RtpPacket::parse(&bytes),
        Err(RtpError::Padding {
            padding: 0,
            available: 3
        })
    );
    bytes[14] = 4;
    assert_eq!(
        RtpPacket::parse(&bytes),
        Err(RtpError::Padding {
            padding: 4,
            available: 3
        })
    );
    bytes[14] = 3;
    assert_eq!(RtpPacket::parse(&bytes).unwrap().payload, &[] as &[u8]);
}

#[test]
fn random_bytes_never_panic() {
    let mut random = Random(0x1234_5678);
    let mut digits = DigitReceiver::new();
    let mut accepted = 0;
    for round in 0..200_000_u64 {
        let length = (random.next() % 80) as usize;
        let mut bytes = random.bytes(length);
        if let (Some(first), true) = (bytes.first_mut(), round % 2 == 0) {
            *first = *first & 0x3F | 0x80;
        }
        let _ = classify(&bytes);
        let now = Duration::from_millis(round * 3);
        if let Ok(packet) = RtpPacket::parse(&bytes) {
            accepted += 1;
            assert!(packet.payload.len() + HEADER_BYTES <= bytes.len());
            digits.receive(now, &packet.header, packet.payload);
            let _ = comfort_noise_level(packet.payload);
        }
        while digits.poll(now).is_some() {}
    }
    assert!(accepted > 10_000);
}

#[test]
fn datagrams_are_told_apart() {
    for (bytes, kind) in [
        (&[][..], Datagram::Other),
        (&[0x80], Datagram::Other),
        (&[0x80, 0], Datagram::Rtp),
        (&[0xBF, 0xFF], Datagram::Rtp),
        (&[0x81, 200], Datagram::Rtcp),
        (&[0, 1], Datagram::Stun),
        (&[3, 1], Datagram::Stun),
        (&[22, 254], Datagram::Dtls),
        (&[64, 0], Datagram::Other),
        (&[192, 0], Datagram::Other),
    ] {
        assert_eq!(classify(bytes), kind, "{bytes:?}");
    }
}

#[test]
fn payload_types_are_those_of_the_standard() {
    assert_eq!(payload_type::static_format(0), Some(("PCMU", 8000)));
    assert_eq!(payload_type::static_format(9), Some(("G722", 8000)));
    assert_eq!(payload_type::static_format(11), Some(("L16", 44_100)));
    assert_eq!(payload_type::static_format(111), None);
    assert!(payload_type::is_comfort_noise(13) && payload_type::is_comfort_noise(19));
    assert!(!payload_type::is_comfort_noise(0));
    assert_eq!(comfort_noise_level(&[0xC0 | 5, 3]), Some(0x45));
    assert_eq!(comfort_noise_level(&[]), None);
}

#[test]
fn the_sender_counts_time_that_was_not_sent() {
    let mut sender = RtpSender::new(payload_type::PCMU, 9, 0xFFFF, u32::MAX - 100);
    let first = sender.next_header(160);
    assert_eq!(
        (first.marker, first.sequence, first.timestamp, first.ssrc),
        (true, 0xFFFF, u32::MAX - 100, 9)
    );
    let second = sender.next_header(160);
    assert_eq!((second.marker, second.sequence, second.timestamp), (false, 0, 59));
    sender.skip(0);
    assert!(!sender.next_header(160).marker);
    sender.skip(1600);
    let after = sender.next_header(160);
    assert_eq!(
        (after.marker, after.sequence, after.timestamp),
        (true, 2, 59 + 320 + 1600)
    );
    let mut bytes = Vec::new();
    sender.change_payload_type(8);
    sender.write(&[7; 160], 160, &mut bytes);
    let packet = RtpPacket::parse(&bytes).unwrap();
    assert_eq!((packet.header.payload_type, packet.payload.len()), (8, 160));
}

// Telephone events.

const SSRC: u32 = 77;

fn event_packet(digit: char, timestamp: u32, duration: u16, end: bool) -> (RtpHeader, [u8; 4]) {
    let header = RtpHeader {
        marker: false,
        payload_type: 101,
        sequence: 0,
        timestamp,
        ssrc: SSRC,
    };
    let event = TelephoneEvent {
        event: digit_event(digit).unwrap(),
        end,
        volume: 10,
        duration,
    };
    (header, event.to_bytes())
}

fn feed(receiver: &mut DigitReceiver, now_ms: u64, packet: (RtpHeader, [u8; 4])) -> Vec<(char, u32)> {
    receiver.receive(Duration::from_millis(now_ms), &packet.0, &packet.1);
    drain(receiver, now_ms)
}

fn drain(receiver: &mut DigitReceiver, now_ms: u64) -> Vec<(char, u32)> {
    std::iter::from_fn(|| receiver.poll(Duration::from_millis(now_ms)))
        .map(|d| (d.digit, d.ticks))
        .collect()
}

#[test]
fn events_are_read_and_written() {
    let bytes = [11, 0x80 | 0x40 | 10, 0x06, 0x40];
    let event = TelephoneEvent::parse(&bytes).unwrap();
    assert_eq!(
        event,
        TelephoneEvent {
            event: 11,
            end: true,
            volume: 10,
            duration: 1600
        }
    );
    assert_eq!(event.digit(), Some('#'));
    // The reserved bit is ignored and sent as zero.
    assert_eq!(event.to_bytes(), [11, 0x80 | 10, 0x06, 0x40]);
    for cut in 0..4 {
        assert_eq!(TelephoneEvent::parse(&bytes[..cut]), None);
    }
    assert_eq!(TelephoneEvent { event: 16, ..event }.digit(), None);
    for (number, digit) in "0123456789*#ABCD".chars().enumerate() {
        assert_eq!(digit_event(digit), Some(number as u8));
        assert_eq!(
            TelephoneEvent {
                event: number as u8,
                ..event
            }
            .digit(),
            Some(digit)
        );
    }
    assert_eq!((digit_event('d'), digit_event('x')), (Some(15), None));
}

#[test]
fn a_digit_is_reported_once() {
    let mut receiver = DigitReceiver::new();
    for n in 1..5_u16 {
        assert_eq!(
            feed(
                &mut receiver,
                u64::from(n) * 20,
                event_packet('5', 1000, n * 160, false)
            ),
            []
        );
    }
    assert_eq!(
        feed(&mut receiver, 100, event_packet('5', 1000, 800, true)),
        [('5', 800)]
    );
    for copy in [120, 140, 5000] {
        assert_eq!(feed(&mut receiver, copy, event_packet('5', 1000, 800, true)), []);
    }
    assert_eq!(receiver.next_deadline(), None);
    // The same key again is another digit.
    assert_eq!(
        feed(&mut receiver, 5020, event_packet('5', 9000, 400, true)),
        [('5', 400)]
    );
}

#[test]
fn a_digit_without_an_end_is_over_after_100_ms() {
    let mut receiver = DigitReceiver::new();
    feed(&mut receiver, 0, event_packet('*', 1000, 160, false));
    feed(&mut receiver, 20, event_packet('*', 1000, 320, false));
    assert_eq!(receiver.next_deadline(), Some(Duration::from_millis(120)));
    assert_eq!(drain(&mut receiver, 119), []);
    assert_eq!(drain(&mut receiver, 120), [('*', 320)]);
    assert_eq!(
        feed(&mut receiver, 130, event_packet('*', 1000, 480, true)),
        [],
        "the end came too late"
    );
}

#[test]
fn the_next_digit_ends_one_whose_end_was_lost() {
    let mut receiver = DigitReceiver::new();
    feed(&mut receiver, 0, event_packet('1', 1000, 160, false));
    assert_eq!(
        feed(&mut receiver, 60, event_packet('2', 2000, 160, true)),
        [('1', 160), ('2', 160)]
    );
    // A packet of the first that took a detour.
    assert_eq!(feed(&mut receiver, 70, event_packet('1', 1000, 320, true)), []);
}

#[test]
fn a_digit_that_arrives_whole_but_late_is_not_lost() {
    let mut receiver = DigitReceiver::new();
    feed(&mut receiver, 0, event_packet('2', 2000, 160, false));
    assert_eq!(
        feed(&mut receiver, 10, event_packet('1', 1000, 160, false)),
        [('1', 160)]
    );
    assert_eq!(feed(&mut receiver, 20, event_packet('1', 1000, 320, true)), []);
    assert_eq!(
        feed(&mut receiver, 30, event_packet('2', 2000, 320, true)),
        [('2', 320)]
    );
}

#[test]
fn long_events_go_on_in_segments() {
    let mut receiver = DigitReceiver::new();
    let start = u32::MAX - 1000;
    assert_eq!(feed(&mut receiver, 0, event_packet('9', start, 160, false)), []);
    assert_eq!(feed(&mut receiver, 50, event_packet('9', start, 0xFFFF, false)), []);
    let second = start.wrapping_add(0xFFFF);
    assert_eq!(feed(&mut receiver, 100, event_packet('9', second, 160, false)), []);
    assert_eq!(
        feed(&mut receiver, 110, event_packet('9', start, 0xFFFF, false)),
        [],
        "late, of the first segment"
    );
    assert_eq!(
        feed(&mut receiver, 150, event_packet('9', second, 1600, true)),
        [('9', 0xFFFF + 1600)]
    );
}

#[test]
fn another_source_is_another_digit() {
    let mut receiver = DigitReceiver::new();
    feed(&mut receiver, 0, event_packet('3', 1000, 160, false));
    let (mut header, payload) = event_packet('3', 1000, 160, true);
    header.ssrc = SSRC + 1;
    receiver.receive(Duration::from_millis(20), &header, &payload);
    assert_eq!(drain(&mut receiver, 20), [('3', 160), ('3', 160)]);
}

#[test]
fn a_receiver_that_nobody_polls_stays_small() {
    let mut receiver = DigitReceiver::new();
    for n in 0..10_000_u32 {
        let packet = event_packet('7', n * 1000, 160, true);
        receiver.receive(Duration::from_millis(u64::from(n) * 100), &packet.0, &packet.1);
    }
    assert_eq!(drain(&mut receiver, 2_000_000).len(), 16);
}

#[test]
fn what_is_sent_is_received() {
    let mut sender = RtpSender::new(payload_type::PCMU, SSRC, 5, 8000);
    sender.next_header(160);
    let (mut receiver, mut heard, mut packets, mut now) = (DigitReceiver::new(), Vec::new(), Vec::new(), 0);
    for digit in "12#A".chars() {
        let mut digit = DigitSender::new(digit, &sender, 800, 160).unwrap();
        let start = sender.timestamp();
        loop {
            let mut bytes = Vec::new();
            if !digit.write_next(&mut sender, &mut bytes) {
                break;
            }
            let packet = RtpPacket::parse(&bytes).unwrap();
            assert_eq!((packet.header.timestamp, packet.header.payload_type), (start, 101));
            packets.push(packet.header);
            receiver.receive(Duration::from_millis(now), &packet.header, packet.payload);
            heard.extend(drain(&mut receiver, now));
            now += 20;
        }
        assert_eq!(sender.timestamp(), start + 800);
        assert!(sender.next_header(160).marker, "audio comes back after a gap");
        now += 20;
    }
    assert_eq!(heard, [('1', 800), ('2', 800), ('#', 800), ('A', 800)]);
    assert_eq!(packets.len(), 4 * 7, "four that grow and three ends");
    assert_eq!(packets.iter().filter(|header| header.marker).count(), 4);
    assert!(DigitSender::new('x', &sender, 800, 160).is_none());
}
