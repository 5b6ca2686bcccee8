//! What the fuzz targets do, for a while and without a fuzzer: no bytes make a parser panic.

use std::time::Duration;

use repartee_protocol::native::{examples, parse_control, parse_event};
use repartee_protocol::rtp::{DigitReceiver, RtpPacket, classify, comfort_noise_level};
use repartee_protocol::worker::{Decoder, Frame};

/// A small generator (xorshift64*, Vigna 2016), so that failures repeat.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).expect("less than a usize")
    }
}

/// With the examples as its corpus.
#[test]
fn text_messages_of_the_native_wire() {
    let mut random = Random(0x5eed);
    let corpus: Vec<&str> = examples::CONTROLS
        .iter()
        .chain(examples::EVENTS)
        .map(|example| example.json)
        .collect();
    for round in 0..30_000 {
        let mut bytes = if round % 4 == 0 {
            (0..random.below(64)).map(|_| random.next().to_le_bytes()[0]).collect()
        } else {
            corpus[random.below(corpus.len())].as_bytes().to_vec()
        };
        for _ in 0..random.below(4) {
            if bytes.is_empty() {
                break;
            }
            let at = random.below(bytes.len());
            match random.below(4) {
                0 => bytes[at] = random.next().to_le_bytes()[0],
                1 => drop(bytes.remove(at)),
                2 => bytes.truncate(at),
                _ => bytes.insert(at, b"{}[]\",:0-9.eE\\u"[random.below(15)]),
            }
        }
        let text = String::from_utf8_lossy(&bytes);
        match parse_control(&text) {
            Ok(control) => assert_eq!(parse_control(&control.to_json()), Ok(control), "{text}"),
            Err(error) => assert!(error.message.chars().count() < 300, "{text}: {error}"),
        }
        if let Ok(Some(event)) = parse_event(&text) {
            let written = event.to_json();
            let again = parse_event(&written).ok().flatten();
            assert_eq!(again.as_ref(), Some(&event), "{text}");
        }
    }
}

#[test]
fn rtp_packets_and_telephone_events() {
    let mut random = Random(0x5eed + 1);
    let mut digits = DigitReceiver::new();
    let mut now = Duration::ZERO;
    let mut parsed = 0_u32;
    for _ in 0..50_000 {
        let mut packet: Vec<u8> = (0..random.below(48)).map(|_| random.next().to_le_bytes()[0]).collect();
        if let Some(first) = packet.first_mut().filter(|_| random.below(8) > 0) {
            // Mostly the right version: a wrong one is refused before anything else is looked at.
            *first = *first & 0x3f | 0x80;
        }
        let _ = classify(&packet);
        let Ok(read) = RtpPacket::parse(&packet) else { continue };
        parsed += 1;
        let mut written = Vec::new();
        read.write(&mut written);
        assert_eq!(RtpPacket::parse(&written).as_ref(), Ok(&read));
        let _ = comfort_noise_level(read.payload);
        digits.receive(now, &read.header, read.payload);
        now += Duration::from_millis(20);
        while digits.poll(now).is_some() {}
        assert!(digits.next_deadline().is_none_or(|deadline| deadline >= now));
    }
    assert!(parsed > 1_000, "{parsed}");
}

/// Every frame in `data`, which arrives in pieces of `piece` bytes, and whether the link broke.
fn frames(data: &[u8], piece: usize) -> (Vec<Frame>, bool) {
    let mut decoder = Decoder::new();
    let mut frames = Vec::new();
    for part in data.chunks(piece) {
        decoder.push(part);
        loop {
            match decoder.next_frame() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(_) => return (frames, true),
            }
        }
    }
    (frames, false)
}

#[test]
fn frames_of_a_workers_link() {
    let corpus =
        b"{\"type\":\"audio\",\"stream\":7,\"payload_length\":4}\nabcd{\"type\":\"ping\"}\n{\"type\":\"partial\",\
        \"stream\":7,\"text\":\"a\",\"stable_chars\":1}\n{\"type\":\"credit\",\"stream\":7,\"bytes\":99}\n";
    let mut random = Random(0x5eed + 2);
    for _ in 0..10_000 {
        let mut bytes = corpus.to_vec();
        for _ in 0..random.below(6) {
            let at = random.below(bytes.len());
            match random.below(3) {
                0 => bytes[at] = random.next().to_le_bytes()[0],
                1 => drop(bytes.remove(at)),
                _ => bytes.insert(at, b"{}\":,09\n"[random.below(8)]),
            }
        }
        let whole = frames(&bytes, bytes.len());
        assert_eq!(whole, frames(&bytes, 1 + random.below(9)));
        for frame in &whole.0 {
            let _ = frame.to_engine();
            let _ = frame.to_worker();
        }
    }
}
