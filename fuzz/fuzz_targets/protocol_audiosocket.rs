//! AudioSocket's frames: cut anywhere, the same bytes give the same frames, and what is audio is written back the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use repartee_protocol::audiosocket::{self, Frame, Mislabel, Parser};

/// Every frame in `data`, which arrives in pieces of `piece` bytes, in a form that can be compared.
fn frames(data: &[u8], piece: usize) -> Vec<(String, Vec<u8>)> {
    let mut parser = Parser::new();
    let mut frames = Vec::new();
    for mut part in data.chunks(piece) {
        loop {
            match parser.next_frame(&mut part) {
                Ok(Some(frame)) => {
                    let payload = match frame {
                        Frame::Audio { payload, .. } => payload.to_vec(),
                        Frame::Digit(digit) => vec![digit],
                        _ => Vec::new(),
                    };
                    frames.push((format!("{frame:?}"), payload));
                }
                Ok(None) => break,
                Err(error) => frames.push((error.to_string(), Vec::new())),
            }
        }
        assert!(part.is_empty());
    }
    frames
}

fuzz_target!(|data: &[u8]| {
    let whole = frames(data, data.len().max(1));
    assert_eq!(whole, frames(data, 1));
    assert_eq!(whole, frames(data, 7));

    let mut parser = Parser::new();
    let mut mislabel = Mislabel::new();
    let mut rest = data;
    let mut now_ms = 0;
    loop {
        match parser.next_frame(&mut rest) {
            Ok(None) => break,
            Ok(Some(Frame::Audio { rate, payload })) => {
                now_ms += u64::from(payload.first().copied().unwrap_or(20));
                mislabel.observe(rate.kind(), payload.len(), now_ms);
                let samples: Vec<i16> = audiosocket::samples(payload).collect();
                let mut written = Vec::new();
                if audiosocket::write_audio(rate, &samples, &mut written).is_ok() {
                    let even = &payload[..samples.len() * 2];
                    let mut part = &written[..];
                    let read = Parser::new()
                        .next_frame(&mut part)
                        .map(|frame| frame == Some(Frame::Audio { rate, payload: even }));
                    assert_eq!(read, Ok(true));
                }
            }
            Ok(Some(Frame::Uuid(uuid))) => {
                assert_eq!(audiosocket::parse_uuid(&audiosocket::uuid_text(&uuid)), Some(uuid));
            }
            Ok(Some(_)) | Err(_) => {}
        }
    }
    let _ = audiosocket::parse_uuid(&String::from_utf8_lossy(data));
});
