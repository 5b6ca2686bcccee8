//! The gate in front of Silero: tells, for next to nothing, where there can't be speech.

use webrtc_vad::Vad as Detector;

use super::engine::FRAME;
use crate::provider::webrtc_vad::{Aggressiveness, detector};

/// Samples of WebRTC's shortest frame: 10 ms.
const STEP: usize = 160;

/// Below this root mean square (−68 dB of full scale) there is nothing that anybody could understand.
const SILENT: f32 = 13.0;

/// What is so many times as loud as the background may be speech, whatever WebRTC's detector says: it drops out in noise.
const ABOVE_BACKGROUND: f32 = 3.0;

/// The background follows down by this part of the way a frame: one soft frame of a noise isn't a new background.
const FALL: f32 = 0.2;

/// It follows up by this factor a frame, 6 dB in a second and a half. A voice doesn't become background, since it has
/// pauses.
const RISE: f32 = 1.015;

/// The gate of one session.
pub(super) struct Gate {
    detector: Detector,
    /// What was left over of the last frame; WebRTC's frames don't divide Silero's.
    rest: [i16; STEP],
    resting: usize,
    /// The background's root mean square.
    background: f32,
}

impl Gate {
    pub(super) fn new() -> Self {
        Self {
            // What the most aggressive mode misses is louder than the background; what the others add is noise.
            detector: detector(Aggressiveness::VeryAggressive),
            rest: [0; STEP],
            resting: 0,
            background: SILENT,
        }
    }

    /// Whether there may be speech in this frame.
    pub(super) fn hears(&mut self, frame: &[i16; FRAME]) -> bool {
        let energy: f32 = frame.iter().map(|sample| f32::from(*sample).powi(2)).sum();
        let loudness = (energy / FRAME as f32).sqrt().max(1.0);
        // The detector learns from each frame, so it gets each.
        let detected = self.detect(frame);
        let stands_out = loudness > self.background * ABOVE_BACKGROUND;
        // It is at least something, or the first breath after digital silence would stand out from it.
        self.background = if loudness < self.background {
            self.background + (loudness - self.background) * FALL
        } else {
            (self.background * RISE).min(loudness)
        }
        .max(SILENT);
        loudness >= SILENT && (detected || stands_out)
    }

    fn detect(&mut self, frame: &[i16; FRAME]) -> bool {
        let mut voice = false;
        let mut frame = frame.as_slice();
        if self.resting > 0 {
            let (head, tail) = frame.split_at(STEP - self.resting);
            self.rest[self.resting..].copy_from_slice(head);
            voice |= self.detector.is_voice_segment(&self.rest).unwrap_or(true);
            frame = tail;
        }
        let steps = frame.chunks_exact(STEP);
        let rest = steps.remainder();
        for step in steps {
            voice |= self.detector.is_voice_segment(step).unwrap_or(true);
        }
        self.rest[..rest.len()].copy_from_slice(rest);
        self.resting = rest.len();
        voice
    }
}
