//! WebRTC's voice activity detector: six sub-band energies against Gaussian mixtures. 1.5 µs for 20 ms, no model file.
//!
//! It says yes or no to each frame and drops out within words, above all in noise; so its answers are smoothed into a
//! probability. Source: WebRTC `common_audio/vad`, by way of libfvad.

use webrtc_vad::{SampleRate, Vad as Detector, VadMode};

use crate::backend::{Capabilities, OpenError, Vad, VadBackend};
use crate::call::{BackendKind, Probability};
use crate::id::Generation;
use crate::time::Samples;

/// How much it takes for noise, at the price of missed speech.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Aggressiveness {
    /// Almost everything is speech (WebRTC's mode 0, "quality").
    Quality,
    /// Mode 1, "low bitrate".
    LowBitrate,
    /// Mode 2, "aggressive": the usual one for finding turns.
    #[default]
    Aggressive,
    /// Mode 3, "very aggressive".
    VeryAggressive,
}

impl From<Aggressiveness> for VadMode {
    fn from(aggressiveness: Aggressiveness) -> Self {
        match aggressiveness {
            Aggressiveness::Quality => Self::Quality,
            Aggressiveness::LowBitrate => Self::LowBitrate,
            Aggressiveness::Aggressive => Self::Aggressive,
            Aggressiveness::VeryAggressive => Self::VeryAggressive,
        }
    }
}

/// A detector at 16 kHz.
pub(super) fn detector(aggressiveness: Aggressiveness) -> Detector {
    Detector::new_with_rate_and_mode(SampleRate::Rate16kHz, aggressiveness.into())
}

/// Makes WebRTC's detectors.
#[derive(Debug)]
pub struct WebrtcVadBackend {
    capabilities: Capabilities,
    aggressiveness: Aggressiveness,
}

impl WebrtcVadBackend {
    /// The backend; it needs no file and can't fail.
    #[must_use]
    pub fn new(aggressiveness: Aggressiveness, generation: Generation) -> Self {
        Self {
            capabilities: Capabilities {
                streaming: true,
                ..Capabilities::new(BackendKind::Vad, "webrtc", "webrtc", generation)
            },
            aggressiveness,
        }
    }
}

impl VadBackend for WebrtcVadBackend {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn open(&self) -> Result<Box<dyn Vad>, OpenError> {
        Ok(Box::new(WebrtcVad {
            detector: detector(self.aggressiveness),
            aggressiveness: self.aggressiveness,
            per_mille: 0,
        }))
    }
}

/// Frames of 20 ms: the detector takes 10, 20 or 30.
const FRAME_MILLIS: u64 = 20;

/// The part of the way to certainty that one "yes" goes, in thousandths: two in a row pass the usual threshold of a half,
/// one click doesn't.
const RISE: u32 = 400;

/// The part of the way to zero that one "no" goes, in thousandths: four in a row (80 ms, longer than its drop-outs within
/// words) fall below the usual threshold of 350.
const FALL: u32 = 230;

struct WebrtcVad {
    detector: Detector,
    aggressiveness: Aggressiveness,
    per_mille: u32,
}

impl Vad for WebrtcVad {
    fn frame_samples(&self) -> usize {
        usize::try_from(Samples::from_millis(FRAME_MILLIS).count()).expect("320 is a usize")
    }

    fn process(&mut self, frame: &[i16]) -> Probability {
        // The detector panics on an empty frame and refuses one of another length.
        let voice = frame.len() == self.frame_samples() && self.detector.is_voice_segment(frame).unwrap_or(false);
        self.per_mille = if voice {
            self.per_mille + (1000 - self.per_mille) * RISE / 1000
        } else {
            self.per_mille * (1000 - FALL) / 1000
        };
        Probability::from_per_mille(u16::try_from(self.per_mille).unwrap_or(1000))
    }

    fn reset(&mut self) {
        // The library's own reset falls back to 8 kHz and mode 0.
        self.detector = detector(self.aggressiveness);
        self.per_mille = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Something voiced: pulses at 120 Hz through a coarse resonance.
    fn voiced(count: usize) -> Vec<i16> {
        (0..count)
            .map(|at| {
                let phase = at % 133;
                let decay = (-(phase as f32) / 30.0).exp();
                (9_000.0 * decay * (phase as f32 * 0.27).sin()) as i16
            })
            .collect()
    }

    #[test]
    fn silence_is_none_and_a_voice_is() {
        let backend = WebrtcVadBackend::new(Aggressiveness::default(), Generation::new(1));
        let mut vad = backend.open().expect("it needs nothing");
        let mut highest = 0;
        for _ in 0..50 {
            highest = highest.max(vad.process(&[0; 320]).per_mille());
        }
        assert!(highest < 350, "{highest}");
        let speech = voiced(16_000);
        let last = speech.chunks_exact(320).map(|frame| vad.process(frame)).last();
        assert!(last.is_some_and(|last| last.per_mille() > 500), "{last:?}");
        vad.reset();
        assert!(vad.process(&[0; 320]).per_mille() < 500);
    }

    #[test]
    fn a_frame_of_a_wrong_length_is_no_speech_and_no_panic() {
        let backend = WebrtcVadBackend::new(Aggressiveness::Quality, Generation::new(1));
        let mut vad = backend.open().expect("it needs nothing");
        for length in [0, 1, 319, 321, 512] {
            assert_eq!(vad.process(&vec![9_000; length]).per_mille(), 0);
        }
    }
}
