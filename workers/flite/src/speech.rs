//! A clause on its way out: its leading silence is cut, its words are placed in the text, its audio is cut into frames.

use repartee_worker_shell::protocol::Mark;

use crate::text::{Piece, Timed};
use crate::voice::Listener;

/// How much of the silence before the first word is kept, in ms. flite's voices begin with 100 to 200 ms of it, which the listener would
/// wait for.
const KEPT_SILENCE: u64 = 20;

/// After the first piece of audio, pieces are put together to frames of this length, in ms: fewer messages.
const FRAME: u64 = 80;

/// What takes the results.
pub(crate) trait Sink {
    /// Whether to go on.
    fn wants_more(&self) -> bool;
    /// Audio.
    fn audio(&self, samples: &[i16]);
    /// When the words of a clause are heard, and whether that is a guess.
    fn marks(&self, words: Vec<Mark>, estimated: bool);
}

/// One clause, which flite may be given in several pieces.
pub(crate) struct Speech<'a> {
    sink: &'a dyn Sink,
    original: Vec<char>,
    piece: &'a Piece,
    rate: u64,
    /// Samples sent on the stream before this piece.
    before: u64,
    /// Samples still to be left out of the leading silence.
    skip: u64,
    /// Samples that left in this piece.
    sent: u64,
    pending: Vec<i16>,
    is_stopped: bool,
}

impl<'a> Speech<'a> {
    /// A clause at `rate` Hz, of whose stream `before` samples have left.
    pub(crate) fn new(sink: &'a dyn Sink, text: &str, piece: &'a Piece, rate: u32, before: u64) -> Self {
        Self {
            sink,
            original: text.chars().collect(),
            piece,
            rate: rate.into(),
            before,
            skip: 0,
            sent: 0,
            pending: Vec::new(),
            is_stopped: false,
        }
    }

    /// Sends what is left, and tells how many samples the piece had.
    pub(crate) fn end(mut self) -> u64 {
        self.flush();
        self.sent
    }

    fn flush(&mut self) {
        if !self.pending.is_empty() && !self.is_stopped {
            self.sink.audio(&self.pending);
            self.sent += self.pending.len() as u64;
        }
        self.pending.clear();
    }

    fn mark(&self, (from, to): (usize, usize), start: u64, end: u64) -> Mark {
        Mark {
            text: self.original[from..to.max(from)].iter().collect(),
            char_start: u32::try_from(from).unwrap_or(u32::MAX),
            char_end: u32::try_from(to.max(from)).unwrap_or(u32::MAX),
            start: self.before + start,
            end: self.before + end,
        }
    }
}

impl Listener for Speech<'_> {
    fn words(&mut self, words: Vec<Timed>, samples: usize) {
        let at = |seconds: f32| (f64::from(seconds.max(0.0)) * self.rate as f64).round() as u64;
        let total = samples as u64;
        let last = words.last().map_or(0.0, |word| word.end);
        if last <= 0.0 {
            // The plan has no times: spread the words over the audio by their length.
            let letters: u64 = words.iter().map(|word| word.token.len() as u64 + 1).sum();
            let mut heard = 0;
            let marks = self.piece.find(&words).into_iter().zip(&words).map(|(place, word)| {
                let start = total * heard / letters.max(1);
                heard += word.token.len() as u64 + 1;
                self.mark(place, start, total * heard / letters.max(1))
            });
            return self.sink.marks(marks.collect(), true);
        }
        let first = words.first().map_or(0, |word| at(word.start));
        self.skip = first.saturating_sub(KEPT_SILENCE * self.rate / 1000);
        let marks = self.piece.find(&words).into_iter().zip(&words).map(|(place, word)| {
            let (start, end) = (at(word.start).min(total), at(word.end).min(total));
            self.mark(place, start.saturating_sub(self.skip), end.saturating_sub(self.skip))
        });
        self.sink.marks(marks.collect(), false);
    }

    fn audio(&mut self, samples: &[i16]) -> bool {
        if !self.sink.wants_more() {
            self.is_stopped = true;
            return false;
        }
        let skipped = usize::try_from(self.skip).unwrap_or(usize::MAX).min(samples.len());
        self.skip -= skipped as u64;
        self.pending.extend_from_slice(&samples[skipped..]);
        if self.sent == 0 || self.pending.len() as u64 >= FRAME * self.rate / 1000 {
            self.flush();
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::text::pieces;

    #[derive(Default)]
    struct Kept {
        frames: RefCell<Vec<usize>>,
        marks: RefCell<Vec<(String, u64, u64, bool)>>,
    }

    impl Sink for Kept {
        fn wants_more(&self) -> bool {
            self.frames.borrow().len() < 4
        }

        fn audio(&self, samples: &[i16]) {
            self.frames.borrow_mut().push(samples.len());
        }

        fn marks(&self, words: Vec<Mark>, estimated: bool) {
            self.marks.borrow_mut().extend(
                words
                    .into_iter()
                    .map(|word| (word.text, word.start, word.end, estimated)),
            );
        }
    }

    fn timed(token: &str, start: f32, end: f32) -> Timed {
        Timed {
            token: token.into(),
            start,
            end,
        }
    }

    #[test]
    fn the_leading_silence_is_cut_and_the_words_move_with_it() {
        let (sink, text) = (Kept::default(), "Good day.");
        let all = pieces(text);
        let mut speech = Speech::new(&sink, text, &all[0], 16_000, 1000);
        speech.words(vec![timed("Good", 0.12, 0.5), timed("day", 0.5, 1.0)], 17_000);
        let mut given = 0;
        while speech.audio(&[1; 400]) {
            given += 400;
        }
        assert_eq!(
            *sink.marks.borrow(),
            [("Good".into(), 1320, 7400, false), ("day.".into(), 7400, 15_400, false)]
        );
        // 100 ms are cut, which are four pieces; the next leaves at once, the others in frames of 80 ms.
        assert_eq!(*sink.frames.borrow(), [400, 1600, 1600, 1600]);
        assert_eq!(speech.end(), 5200, "nothing leaves after the stop");
        assert_eq!(given, 1600 + 5200);
    }

    #[test]
    fn without_times_the_words_are_spread() {
        let (sink, text) = (Kept::default(), "ab abcdef");
        let all = pieces(text);
        let mut speech = Speech::new(&sink, text, &all[0], 8000, 0);
        speech.words(vec![timed("ab", 0.0, 0.0), timed("abcdef", 0.0, 0.0)], 1000);
        assert_eq!(
            *sink.marks.borrow(),
            [("ab".into(), 0, 300, true), ("abcdef".into(), 300, 1000, true)]
        );
    }
}
