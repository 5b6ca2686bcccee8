//! Frames of a worker's link: cut anywhere, the same bytes give the same frames; what they say never makes a parser panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use repartee_protocol::worker::{Decoder, Frame};

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

fuzz_target!(|data: &[u8]| {
    let whole = frames(data, data.len().max(1));
    assert_eq!(whole, frames(data, 7));
    for frame in &whole.0 {
        let _ = frame.to_engine();
        let _ = frame.to_worker();
    }
});
