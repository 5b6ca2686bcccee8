//! The sound of the window that is decoded again and again: where it's loud, where it ends, where it's best cut.

use std::ops::Range;

/// The one rate that Whisper takes, in Hz.
pub(crate) const RATE: usize = 16_000;
/// What loudness is measured over, and what windows are cut at: 20 ms, which is also one position of the encoder.
pub(crate) const FRAME: usize = 320;

/// Below this nothing is heard, whatever else there is: −60 dB of full scale.
const FLOOR: f32 = 33.0;
/// Nothing within 26 dB of the loudest frame is called quiet, so that nobody's quiet syllable is taken for silence.
const BELOW_LOUDEST: f32 = 0.05;
/// What is louder than twice the quietest tenth stands out from the noise.
const ABOVE_NOISE: f32 = 2.0;

/// How much is kept after the last sound: a word may fade away. What comes after it is left out of the window, so that a pause
/// needs no decode, and the decode of what came before it holds when the utterance ends in that pause.
const FADE: usize = 300 * RATE / 1000;
/// Sound that is interrupted for less than this is one stretch.
const JOINED: usize = 200 * RATE / 1000;

/// Positions that the encoder is given beyond the audio: it was trained on 30 s always, and near the end of a shorter context it repeats
/// itself and loses words. 128 positions are 2.56 s of silence.
const MARGIN: usize = 128;

/// How many positions of the encoder a window of so many samples needs.
pub(crate) fn audio_context(samples: usize, most: usize) -> usize {
    (samples.div_ceil(FRAME) + MARGIN).min(most)
}

/// How loud a window is, frame by frame.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sound {
    /// Root mean squares.
    frames: Vec<f32>,
    squares: f32,
    counted: usize,
}

impl Sound {
    /// Audio is added at the end.
    pub(crate) fn push(&mut self, samples: &[i16]) {
        for sample in samples {
            self.squares += f32::from(*sample) * f32::from(*sample);
            self.counted += 1;
            if self.counted == FRAME {
                self.frames.push((self.squares / FRAME as f32).sqrt());
                (self.squares, self.counted) = (0.0, 0);
            }
        }
    }

    /// Audio is dropped from the front: a whole number of frames.
    pub(crate) fn drop_front(&mut self, samples: usize) {
        self.frames.drain(..(samples / FRAME).min(self.frames.len()));
    }

    fn threshold(frames: &[f32]) -> f32 {
        let mut sorted = frames.to_vec();
        sorted.sort_unstable_by(f32::total_cmp);
        let loudest = sorted.last().copied().unwrap_or_default();
        let quiet = sorted.get(sorted.len() / 10).copied().unwrap_or_default();
        (quiet * ABOVE_NOISE).min(loudest * BELOW_LOUDEST).max(FLOOR)
    }

    /// Where there's sound in the first `samples` of the window, in samples. It depends on these samples only.
    pub(crate) fn voiced(&self, samples: usize) -> Vec<Range<u64>> {
        let frames = &self.frames[..(samples / FRAME).min(self.frames.len())];
        let threshold = Self::threshold(frames);
        let mut stretches: Vec<Range<u64>> = Vec::new();
        for (number, _) in frames
            .iter()
            .enumerate()
            .filter(|(_, loudness)| **loudness >= threshold)
        {
            let (start, end) = ((number * FRAME) as u64, ((number + 1) * FRAME) as u64);
            match stretches.last_mut() {
                Some(last) if start - last.end < JOINED as u64 => last.end = end,
                _ => stretches.push(start..end),
            }
        }
        stretches
    }

    /// Where the window of the first `samples` ends when the silence after the last sound is left out; 0 where there's no sound.
    pub(crate) fn end(&self, samples: usize) -> usize {
        let frames = &self.frames[..(samples / FRAME).min(self.frames.len())];
        let threshold = Self::threshold(frames);
        match frames.iter().rposition(|loudness| *loudness >= threshold) {
            // What doesn't fill a frame yet has no loudness: it goes with the frame before.
            Some(last) => ((last + 1) * FRAME + FADE).min(samples),
            None => 0,
        }
    }

    /// The quietest place in `span` to cut at: the middle of the quietest 60 ms, at a frame's border.
    pub(crate) fn quietest(&self, span: Range<u64>) -> u64 {
        let (first, last) = (
            span.start as usize / FRAME,
            (span.end as usize / FRAME).min(self.frames.len()),
        );
        let loudness = |frame: usize| -> f32 {
            self.frames[frame.saturating_sub(1)..(frame + 2).min(self.frames.len())]
                .iter()
                .sum()
        };
        (first..last.max(first))
            .filter(|frame| *frame < self.frames.len())
            .min_by(|one, other| loudness(*one).total_cmp(&loudness(*other)))
            .map_or((first * FRAME) as u64, |frame| (frame * FRAME) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tone(milliseconds: usize, amplitude: i16) -> Vec<i16> {
        (0..milliseconds * RATE / 1000)
            .map(|sample| if sample % 20 < 10 { amplitude } else { -amplitude })
            .collect()
    }

    fn sound(parts: &[(usize, i16)]) -> (Sound, usize) {
        let mut sound = Sound::default();
        let mut length = 0;
        for (milliseconds, amplitude) in parts {
            let samples = tone(*milliseconds, *amplitude);
            length += samples.len();
            // In odd pieces: frames don't depend on packets.
            for piece in samples.chunks(123) {
                sound.push(piece);
            }
        }
        (sound, length)
    }

    const MS: usize = RATE / 1000;

    #[test]
    fn silence_after_the_last_sound_is_left_out() {
        for (parts, end) in [
            (&[(1000, 0)][..], 0),
            (&[(1000, 20)], 0),
            (&[(1000, 3000)], 1000),
            (&[(1000, 3000), (200, 0)], 1200),
            (&[(1000, 3000), (2000, 0)], 1300),
            // A noisy line: nothing within 26 dB of the voice is silence.
            (&[(1000, 3000), (2000, 200)], 3000),
            // A quiet line: its noise is.
            (&[(400, 40), (1000, 3000), (2000, 40)], 1700),
            (&[(500, 0), (500, 2000), (1000, 0), (500, 200), (1000, 0)], 2800),
        ] {
            let (sound, length) = sound(parts);
            assert_eq!(sound.end(length) / MS, end, "{parts:?}");
        }
    }

    #[test]
    fn stretches_of_sound_are_found_and_short_gaps_closed() {
        let (sound, length) = sound(&[(100, 0), (400, 3000), (100, 0), (500, 3000), (600, 0), (300, 3000)]);
        let milliseconds: Vec<_> = sound
            .voiced(length)
            .into_iter()
            .map(|stretch| stretch.start as usize / MS..stretch.end as usize / MS)
            .collect();
        assert_eq!(milliseconds, [100..1100, 1700..2000]);
        assert!(sound.voiced(50 * MS).is_empty());
        assert_eq!(sound.voiced(300 * MS).len(), 1);
    }

    #[test]
    fn a_cut_is_made_where_it_is_quiet() {
        let (mut sound, _) = sound(&[(1000, 3000), (200, 100), (1000, 3000)]);
        let cut = sound.quietest(500 * 16..1500 * 16) as usize / MS;
        assert!((1000..1200).contains(&cut), "{cut}");
        assert_eq!(sound.quietest(500 * 16..500 * 16), 500 * 16);
        let cut = sound.quietest(0..u64::MAX) as usize / MS;
        assert!((1000..1200).contains(&cut), "{cut}");
        sound.drop_front(1000 * MS);
        let cut = sound.quietest(0..500 * 16) as usize / MS;
        assert!(cut < 200, "{cut}");
    }

    #[test]
    fn the_encoder_gets_what_the_audio_needs_and_a_margin() {
        assert_eq!(audio_context(RATE, 1500), 50 + 128);
        assert_eq!(audio_context(RATE + 1, 1500), 51 + 128);
        assert_eq!(audio_context(28 * RATE, 1500), 1500);
        assert_eq!(audio_context(0, 1500), 128);
    }
}
