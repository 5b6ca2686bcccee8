use super::*;

/// A small generator of numbers for tests (xorshift64), seeded, so that a failure can be seen again.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next() as u8).collect()
    }
}

/// A frame that doesn't borrow.
#[derive(Debug, PartialEq)]
enum Owned {
    Audio(Rate, Vec<u8>),
    Other(Frame<'static>),
    Wrong(FrameError),
}

/// Every frame in `bytes`, which arrive in pieces whose lengths `piece` gives.
fn frames_in(bytes: &[u8], mut piece: impl FnMut() -> usize) -> (Vec<Owned>, bool) {
    let mut parser = Parser::new();
    let mut found = Vec::new();
    let mut left = bytes;
    while !left.is_empty() {
        let (mut part, rest) = left.split_at(piece().clamp(1, left.len()));
        left = rest;
        loop {
            found.push(match parser.next_frame(&mut part) {
                Ok(None) => break,
                Ok(Some(Frame::Audio { rate, payload })) => Owned::Audio(rate, payload.to_vec()),
                Ok(Some(Frame::Uuid(uuid))) => Owned::Other(Frame::Uuid(uuid)),
                Ok(Some(Frame::Digit(digit))) => Owned::Other(Frame::Digit(digit)),
                Ok(Some(Frame::Hangup)) => Owned::Other(Frame::Hangup),
                Ok(Some(Frame::Error(code))) => Owned::Other(Frame::Error(code)),
                Ok(Some(Frame::Unknown { kind, length })) => Owned::Other(Frame::Unknown { kind, length }),
                Err(error) => Owned::Wrong(error),
            });
            assert!(parser.buffer.len() <= MAX_FRAME_BYTES);
        }
        assert!(part.is_empty(), "what isn't taken would be lost");
    }
    (found, parser.is_within_frame())
}

fn whole(bytes: &[u8]) -> (Vec<Owned>, bool) {
    frames_in(bytes, || usize::MAX)
}

#[test]
fn frames_are_read_by_their_type() {
    let uuid = *b"0123456789abcdef";
    let cases: [(&[u8], Owned); 14] = [
        (&[0, 0, 0], Owned::Other(Frame::Hangup)),
        (&[0, 0, 2, 7, 7], Owned::Other(Frame::Hangup)),
        (b"\x01\x00\x100123456789abcdef", Owned::Other(Frame::Uuid(uuid))),
        (&[1, 0, 3, 1, 2, 3], Owned::Wrong(FrameError::UuidLength(3))),
        (&[1, 0, 0], Owned::Wrong(FrameError::UuidLength(0))),
        (&[3, 0, 1, b'#'], Owned::Other(Frame::Digit(b'#'))),
        (&[3, 0, 1, b'x'], Owned::Wrong(FrameError::NotADigit(b'x'))),
        (&[3, 0, 0], Owned::Wrong(FrameError::DigitLength(0))),
        (&[3, 0, 2, b'1', b'2'], Owned::Wrong(FrameError::DigitLength(2))),
        (&[0x10, 0, 0], Owned::Audio(Rate::Hz8000, vec![])),
        (&[0x12, 0, 3, 1, 2, 3], Owned::Audio(Rate::Hz16000, vec![1, 2, 3])),
        (&[0xFF, 0, 0], Owned::Other(Frame::Error(None))),
        (&[0xFF, 0, 2, 4, 9], Owned::Other(Frame::Error(Some(4)))),
        (&[2, 0, 1, 0], Owned::Other(Frame::Unknown { kind: 2, length: 1 })),
    ];
    for (bytes, expected) in cases {
        assert_eq!(whole(bytes), (vec![expected], false), "{bytes:?}");
    }
}

#[test]
fn every_type_of_audio_names_its_rate() {
    let known = [8000, 12_000, 16_000, 24_000, 32_000, 44_100, 48_000, 96_000, 192_000];
    for (offset, hz) in known.into_iter().enumerate() {
        let kind = 0x10 + offset as u8;
        let rate = Rate::from_kind(kind).unwrap();
        assert_eq!((rate.hz(), rate.kind()), (hz, kind));
        assert_eq!(Rate::from_hz(hz), Some(rate));
        assert_eq!(rate.frame_samples() as u32 * 50, hz);
    }
    assert_eq!((Rate::from_kind(0x0F), Rate::from_kind(0x19)), (None, None));
    assert_eq!((Rate::from_hz(0), Rate::from_hz(11_025)), (None, None));
}

#[test]
fn cut_anywhere_the_frames_are_the_same() {
    for seed in 1..=60 {
        let mut random = Random(seed);
        let mut bytes = Vec::new();
        for _ in 0..30 {
            let kind = [0, 1, 2, 3, 0x10, 0x12, 0x18, 0x19, 0xFF][random.below(9)];
            let length = [0, 1, 2, 15, 16, 17, 320, 641][random.below(8)];
            bytes.push(kind);
            bytes.extend_from_slice(&(length as u16).to_be_bytes());
            bytes.extend(random.bytes(length));
        }
        let expected = whole(&bytes);
        assert_eq!(expected.0.len(), 30);
        assert!(!expected.1);
        assert_eq!(frames_in(&bytes, || 1), expected);
        assert_eq!(frames_in(&bytes, || 1 + random.below(700)), expected);
    }
}

#[test]
fn random_bytes_are_read_alike_however_they_are_cut() {
    for seed in 1..=40 {
        let mut random = Random(seed * 7919);
        let count = 1 + random.below(100_000);
        let bytes = random.bytes(count);
        let expected = whole(&bytes);
        assert_eq!(frames_in(&bytes, || 1 + random.below(1500)), expected);
        if seed == 1 {
            assert_eq!(frames_in(&bytes, || 1), expected);
        }
    }
}

#[test]
fn the_longest_frame_is_held_and_no_more() {
    let mut bytes = vec![0x10, 0xFF, 0xFF];
    bytes.extend(vec![5; 65_535]);
    bytes.extend(&[0, 0, 0]);
    let (found, _) = frames_in(&bytes, || 1000);
    assert_eq!(
        found,
        [Owned::Audio(Rate::Hz8000, vec![5; 65_535]), Owned::Other(Frame::Hangup)]
    );

    // What is skipped isn't held at all.
    let mut parser = Parser::new();
    let mut part: &[u8] = &[0x77, 0xFF, 0xFF];
    let frame = parser.next_frame(&mut part);
    assert_eq!(
        frame,
        Ok(Some(Frame::Unknown {
            kind: 0x77,
            length: 65_535
        }))
    );
    let junk = vec![1; 65_535];
    let mut part = &junk[..];
    assert_eq!(parser.next_frame(&mut part), Ok(None));
    assert!(!parser.is_within_frame());
    assert_eq!(parser.buffer.capacity(), 0);
}

#[test]
fn a_connection_that_closes_within_a_frame_is_known_to_be_cut() {
    let bytes = [0x10, 0, 4, 1, 2, 3, 4];
    for cut in 0..=bytes.len() {
        let (found, within) = whole(&bytes[..cut]);
        assert_eq!((found.len(), within), (cut / 7, cut % 7 != 0), "cut at {cut}");
    }
    assert!(whole(&[9, 0, 2, 1]).1);
}

#[test]
fn whole_frames_are_not_copied_and_cut_ones_allocate_once() {
    let mut bytes = Vec::new();
    write_audio(Rate::Hz8000, &[1; 160], &mut bytes).unwrap();
    let mut parser = Parser::new();
    for _ in 0..3 {
        let mut part = &bytes[..];
        let Ok(Some(Frame::Audio { payload, .. })) = parser.next_frame(&mut part) else {
            panic!("a frame of audio")
        };
        assert_eq!(payload.as_ptr(), bytes[3..].as_ptr());
    }
    assert_eq!(parser.buffer.capacity(), 0);

    let mut capacity = None;
    for _ in 0..5 {
        for mut part in bytes.chunks(100) {
            while let Ok(Some(_)) = parser.next_frame(&mut part) {}
        }
        let now = parser.buffer.capacity();
        assert_eq!(*capacity.get_or_insert(now), now);
    }
}

#[test]
fn an_odd_byte_does_not_shift_samples() {
    assert_eq!(samples(&[1, 0, 0xFF, 0xFF, 9]).collect::<Vec<_>>(), [1, -1]);
    assert_eq!(samples(&[9]).len(), 0);
    let mut out = Vec::new();
    write_pcm(Rate::Hz8000, &[1, 0, 9], &mut out).unwrap();
    assert_eq!(out, [0x10, 0, 2, 1, 0]);
}

#[test]
fn what_is_written_is_read_back() {
    let mut out = Vec::new();
    write_uuid(&[7; 16], &mut out);
    write_digit(b'5', &mut out);
    write_audio(Rate::Hz24000, &[-2, 3], &mut out).unwrap();
    out.extend_from_slice(&HANGUP);
    assert_eq!(
        whole(&out).0,
        [
            Owned::Other(Frame::Uuid([7; 16])),
            Owned::Other(Frame::Digit(b'5')),
            Owned::Audio(Rate::Hz24000, vec![0xFE, 0xFF, 3, 0]),
            Owned::Other(Frame::Hangup),
        ]
    );
}

#[test]
fn what_asterisk_would_not_take_is_not_written() {
    let mut out = Vec::new();
    assert_eq!(write_audio(Rate::Hz8000, &[], &mut out), Err(WriteError::Empty));
    assert_eq!(write_pcm(Rate::Hz8000, &[1], &mut out), Err(WriteError::Empty));
    assert_eq!(
        write_audio(Rate::Hz8000, &[0; 8097], &mut out),
        Err(WriteError::TooLong(8097))
    );
    assert!(out.is_empty());
    write_audio(Rate::Hz8000, &[0; 8096], &mut out).unwrap();
    assert_eq!(out.len(), 3 + 2 * 8096);
    for rate in Rate::ALL {
        assert!(rate.frame_samples() <= MAX_SAMPLES);
    }
}

#[test]
fn a_uuid_is_written_as_the_dialplan_does() {
    let text = "3f2a9c04-0b1d-4e8f-a5c6-00ff10ee7d81";
    let uuid = parse_uuid(text).unwrap();
    assert_eq!((uuid[0], uuid[15]), (0x3F, 0x81));
    assert_eq!(uuid_text(&uuid), text);
    assert_eq!(parse_uuid(&text.to_uppercase()), Some(uuid));
    for wrong in [
        "",
        &text[1..],
        &text.replace('-', "a"),
        &text.replace("3f", "3g"),
        &text.replace("3f", "é"),
        "3f2a9c040-b1d-4e8f-a5c6-00ff10ee7d81",
    ] {
        assert_eq!(parse_uuid(wrong), None, "{wrong}");
    }
}

#[test]
fn private_bytes_are_not_printed() {
    let audio = Frame::Audio {
        rate: Rate::Hz16000,
        payload: &[1, 2],
    };
    assert_eq!(format!("{audio:?}"), "Audio { 16000 Hz, 2 bytes }");
    assert_eq!(format!("{:?}", Frame::Digit(b'7')), "Digit(withheld)");
}

/// When the detector speaks, if it does: the number of the frame, from 1.
fn found_at(kind: u8, bytes: usize, gaps: impl IntoIterator<Item = u64>) -> Option<usize> {
    let mut detector = Mislabel::new();
    let mut now = 1000;
    let mut found = None;
    for (index, gap) in gaps.into_iter().enumerate() {
        now += gap;
        if detector.observe(kind, bytes, now) {
            assert_eq!(found, None, "once is enough");
            found = Some(index + 1);
        }
    }
    assert_eq!(detector.is_found(), found.is_some());
    found
}

#[test]
fn g711_that_is_called_pcm_is_noticed() {
    assert_eq!(found_at(0x10, 160, [20; 50]), Some(11));
    // Jitter of ±5 ms, and one packet in twenty lost.
    let jitter = (0..50).map(|index| match index % 20 {
        7 => 40,
        even if even % 2 == 0 => 15,
        _ => 25,
    });
    assert!(found_at(0x10, 160, jitter).is_some_and(|frame| frame < 20));
    // A stall and a burst at first.
    let stalled = [300, 0, 0, 0, 0, 0].into_iter().chain([20; 30]);
    assert!(found_at(0x10, 160, stalled).is_some_and(|frame| frame < 20));
}

#[test]
fn honest_callers_are_not_suspected() {
    let cases: [(&str, u8, usize, Vec<u64>); 6] = [
        ("10 ms frames", 0x10, 160, vec![10; 400]),
        (
            "10 ms frames in pairs",
            0x10,
            160,
            (0..400).map(|index| 20 * (index % 2)).collect(),
        ),
        (
            "10 ms frames with pauses",
            0x10,
            160,
            (0..400).map(|index| if index % 10 == 0 { 110 } else { 10 }).collect(),
        ),
        ("20 ms frames", 0x10, 320, vec![20; 400]),
        ("another rate", 0x12, 160, vec![20; 400]),
        ("one burst", 0x10, 160, vec![0; 400]),
    ];
    for (name, kind, bytes, gaps) in cases {
        assert_eq!(found_at(kind, bytes, gaps), None, "{name}");
    }
    // A file's last frame may have any length: alone it proves nothing.
    let mut detector = Mislabel::new();
    for index in 0..200 {
        let bytes = if index % 5 == 4 { 320 } else { 160 };
        assert!(!detector.observe(0x10, bytes, index * 20));
    }
}
