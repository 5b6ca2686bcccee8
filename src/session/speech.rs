//! Start of speech: VAD frames with hysteresis, and an onset that must last.

use serde::{Deserialize, Serialize};

use crate::call::{Probability, SpeechDetection};
use crate::time::Samples;

/// A judged frame is never taken to be longer than this: a VAD that skipped audio has not judged what it skipped.
/// Silero's frames are 32 ms, WebRTC's at most 30 ms.
const LONGEST_FRAME: Samples = Samples::from_millis(64);

/// What a frame sounds like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sound {
    /// At or above the start threshold.
    Speech,
    /// Between the thresholds: it continues what is, and begins nothing.
    Between,
    /// Below the stop threshold.
    Silence,
}

/// One judged frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    /// Its first sample.
    pub(crate) start: Samples,
    /// The sample after its last.
    pub(crate) end: Samples,
    /// What it sounds like.
    pub(crate) sound: Sound,
}

/// Speech that may become a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Onset {
    /// The first sample of speech.
    pub(crate) start: Samples,
    /// The end of the last frame of speech.
    pub(crate) last: Samples,
    /// Speech in it, less the silence in it: a VAD that drops a frame in noise costs two frames, not the onset.
    pub(crate) weight: Samples,
}

/// What has become of an onset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnsetChange {
    /// There is none.
    None,
    /// There is one, not long enough yet.
    Rising(Onset),
    /// It has lasted: a turn begins.
    Confirmed(Onset),
    /// It was a click or a cough.
    Faded,
}

/// Follows the VAD.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SpeechDetector {
    /// VAD has judged every sample before this.
    judged: Samples,
    onset: Option<Onset>,
}

impl SpeechDetector {
    /// VAD has judged every sample before this.
    pub(crate) const fn judged(&self) -> Samples {
        self.judged
    }

    /// The onset that there is, if any.
    pub(crate) const fn onset(&self) -> Option<Onset> {
        self.onset
    }

    /// Forgets an onset.
    pub(crate) const fn reset(&mut self) {
        self.onset = None;
    }

    /// The frame that ends at `end`; none if it does not lie after the one before it.
    pub(crate) fn frame(&mut self, end: Samples, speech: Probability, settings: &SpeechDetection) -> Option<Frame> {
        if end <= self.judged {
            return None;
        }
        let start = self.judged.max(end.saturating_sub(LONGEST_FRAME));
        self.judged = end;
        let sound = if speech.per_mille() >= settings.start_per_mille {
            Sound::Speech
        } else if speech.per_mille() >= settings.stop_per_mille {
            Sound::Between
        } else {
            Sound::Silence
        };
        Some(Frame { start, end, sound })
    }

    /// Follows a frame while no turn is open.
    pub(crate) fn follow(&mut self, frame: Frame, settings: &SpeechDetection) -> OnsetChange {
        let length = frame.end.saturating_sub(frame.start);
        match (frame.sound, &mut self.onset) {
            (Sound::Speech, onset) => {
                let onset = onset.get_or_insert(Onset {
                    start: frame.start,
                    last: frame.end,
                    weight: Samples::ZERO,
                });
                onset.last = frame.end;
                onset.weight += length;
            }
            (Sound::Silence, Some(onset)) => onset.weight = onset.weight.saturating_sub(length),
            (Sound::Between, Some(_)) => {}
            (Sound::Between | Sound::Silence, None) => return OnsetChange::None,
        }
        let onset = self.onset.expect("all branches without one have returned");
        if onset.weight == Samples::ZERO {
            self.onset = None;
            OnsetChange::Faded
        } else if onset.weight >= Samples::from_millis(settings.min_speech_ms.into()) {
            self.onset = None;
            OnsetChange::Confirmed(onset)
        } else {
            OnsetChange::Rising(onset)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::Settings;

    fn follow(detector: &mut SpeechDetector, frames: &[u16]) -> Vec<OnsetChange> {
        let settings = Settings::default().speech;
        frames
            .iter()
            .map(|per_mille| {
                let end = detector.judged() + Samples::from_millis(20);
                let frame = detector
                    .frame(end, Probability::from_per_mille(*per_mille), &settings)
                    .expect("frames follow one another");
                detector.follow(frame, &settings)
            })
            .collect()
    }

    #[test]
    fn speech_must_last() {
        let mut detector = SpeechDetector::default();
        let changes = follow(&mut detector, &[0, 900, 900, 400, 900, 900, 900]);
        assert_eq!(changes[0], OnsetChange::None);
        assert!(matches!(changes[3], OnsetChange::Rising(onset) if onset.weight == Samples::from_millis(40)));
        let OnsetChange::Confirmed(onset) = changes[6] else {
            panic!("100 ms of speech are more than 90: {changes:?}");
        };
        assert_eq!(onset.start, Samples::from_millis(20));
        assert_eq!(onset.last, Samples::from_millis(140));
    }

    #[test]
    fn a_click_fades_and_a_dropped_frame_does_not() {
        let mut detector = SpeechDetector::default();
        let changes = follow(&mut detector, &[900, 0]);
        assert_eq!(changes[1], OnsetChange::Faded);
        let changes = follow(&mut detector, &[900, 900, 0, 900, 900, 900, 900]);
        assert!(matches!(changes.last(), Some(OnsetChange::Confirmed(_))), "{changes:?}");
    }

    #[test]
    fn a_frame_that_is_not_new_is_none() {
        let mut detector = SpeechDetector::default();
        let settings = Settings::default().speech;
        let loud = Probability::from_per_mille(900);
        assert!(detector.frame(Samples::new(512), loud, &settings).is_some());
        assert!(detector.frame(Samples::new(512), loud, &settings).is_none());
        let late = detector
            .frame(Samples::new(1_000_000), loud, &settings)
            .expect("it is new");
        assert_eq!(late.start, Samples::new(1_000_000 - 1024));
    }
}
