//! A piece of speech on its way out: samples become PCM, words are given their times, audio leaves in frames.
//!
//! The library tells no times of words, so they are spread over what is heard of a chunk by their length, and marked as estimated.

use repartee_worker_shell::protocol::Mark;

use super::text::Word;

/// How much of the silence before a stream's first sound is kept, in ms; the listener would wait for the rest.
const KEPT_SILENCE: usize = 20;

/// What is no louder is silence: -46 dB of full scale. Voices have a noise floor of -60 dB and less.
const SILENCE: f32 = 0.005;

/// Audio leaves in frames of this length, in ms. A chunk is there at once, so this only keeps messages short: a cancel is seen between
/// two of them.
const FRAME: usize = 100;

/// What takes the results.
pub(crate) trait Sink {
    /// Whether to go on.
    fn wants_more(&self) -> bool;
    /// Audio.
    fn audio(&self, samples: &[i16]);
    /// About when words are heard.
    fn marks(&self, words: Vec<Mark>);
}

/// One piece while it's synthesised.
pub(crate) struct Speech {
    sink: Box<dyn Sink>,
    original: Vec<char>,
    words: Vec<Word>,
    rate: u32,
    /// Samples of the stream that left before this piece.
    before: u64,
    /// Samples of this piece that left.
    sent: u64,
    has_begun: bool,
}

impl Speech {
    /// A piece with these `words` out of the text `original`, at `rate` Hz, of whose stream `before` samples have left.
    pub(crate) fn new(sink: Box<dyn Sink>, original: &str, words: Vec<Word>, rate: u32, before: u64) -> Self {
        Self {
            sink,
            original: original.chars().collect(),
            words,
            rate,
            before,
            sent: 0,
            has_begun: false,
        }
    }

    /// How many samples left.
    pub(crate) fn sent(&self) -> u64 {
        self.sent
    }

    /// Takes a chunk of the library's, after which `progress` (0 to 1) of the piece is done. False: nothing more is wanted.
    pub(crate) fn chunk(&mut self, samples: &[f32], progress: f32) -> bool {
        if !self.sink.wants_more() {
            return false;
        }
        let loud = |sample: &f32| sample.abs() > SILENCE;
        let mut samples = samples;
        if self.before == 0 && !self.has_begun {
            let kept = KEPT_SILENCE * self.rate as usize / 1000;
            let first = samples.iter().position(loud).unwrap_or(samples.len());
            samples = &samples[first.saturating_sub(kept)..];
        }
        if samples.is_empty() {
            return true;
        }
        self.has_begun = true;
        let begin = samples.iter().position(loud).unwrap_or(0) as u64;
        let end = samples.iter().rposition(loud).map_or(samples.len(), |last| last + 1) as u64;
        let marks = self.marks(begin, end, progress);
        if !marks.is_empty() {
            self.sink.marks(marks);
        }
        let mut pcm = Vec::with_capacity(FRAME * self.rate as usize / 1000);
        for frame in samples.chunks((FRAME * self.rate as usize / 1000).max(1)) {
            if !self.sink.wants_more() {
                return false;
            }
            pcm.clear();
            pcm.extend(frame.iter().copied().map(to_pcm));
            self.sink.audio(&pcm);
            self.sent += pcm.len() as u64;
        }
        true
    }

    /// The times of the words that are said up to `progress`, between the samples `begin` and `end` of this chunk.
    fn marks(&mut self, begin: u64, end: u64, progress: f32) -> Vec<Mark> {
        let weight = |words: &[Word]| words.iter().map(|word| u64::from(word.weight)).sum::<u64>();
        let all = weight(&self.words).max(1);
        #[expect(clippy::cast_precision_loss, reason = "a guess of a word's place")]
        let is_said = |before: u64, word: &Word| {
            progress >= 1.0 || (before as f32 + word.weight as f32 / 2.0) / all as f32 <= progress
        };
        let mut before = 0;
        let said = self.words.iter().take_while(|word| {
            let said = is_said(before, word);
            before += u64::from(word.weight);
            said
        });
        let said = said.count();
        // What is said takes its weight with it, so that the next chunk's progress is measured against the whole all the same.
        let chunk: Vec<Word> = self.words[..said]
            .iter_mut()
            .filter(|word| word.end > word.start)
            .map(|word| {
                let this = *word;
                word.end = word.start;
                this
            })
            .collect();
        let length = weight(&chunk).max(1);
        let offset = self.before + self.sent;
        let mut done = 0;
        let mark = |word: &Word| {
            let start = begin + (end - begin) * done / length;
            done += u64::from(word.weight);
            let stop = begin + (end - begin) * done / length;
            Mark {
                text: self.original[word.start..word.end].iter().collect(),
                char_start: u32::try_from(word.start).unwrap_or(u32::MAX),
                char_end: u32::try_from(word.end).unwrap_or(u32::MAX),
                start: offset + start,
                end: offset + stop,
            }
        };
        chunk.iter().map(mark).collect()
    }
}

/// A sample as 16-bit PCM, clipped. What is no number is silent.
fn to_pcm(sample: f32) -> i16 {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "it is clamped before, and no number becomes 0"
    )]
    let pcm = (sample * f32::from(i16::MAX))
        .round()
        .clamp(f32::from(i16::MIN), f32::from(i16::MAX)) as i16;
    pcm
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use super::super::text::pieces;
    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Rc<RefCell<Heard>>);

    #[derive(Default)]
    struct Heard {
        audio: Vec<i16>,
        marks: Vec<(String, u64, u64)>,
        wanted: Option<usize>,
    }

    impl Sink for Kept {
        fn wants_more(&self) -> bool {
            let heard = self.0.borrow();
            heard.wanted.is_none_or(|wanted| heard.audio.len() < wanted)
        }

        fn audio(&self, samples: &[i16]) {
            self.0.borrow_mut().audio.extend_from_slice(samples);
        }

        fn marks(&self, words: Vec<Mark>) {
            let words = words.into_iter().map(|word| (word.text, word.start, word.end));
            self.0.borrow_mut().marks.extend(words);
        }
    }

    fn speech(kept: &Kept, text: &str, before: u64) -> Speech {
        let words = pieces(text, true)[0].words.clone();
        Speech::new(Box::new(kept.clone()), text, words, 1000, before)
    }

    #[test]
    fn words_are_spread_over_what_is_heard_and_the_first_silence_is_cut() {
        let kept = Kept::default();
        let mut speech = speech(&kept, "ab abcdef", 0);
        let mut samples = vec![0.0; 500];
        samples.extend([0.5; 1000]);
        samples.extend([0.0; 100]);
        assert!(speech.chunk(&samples, 1.0));
        assert_eq!(speech.sent(), 20 + 1000 + 100);
        let heard = kept.0.borrow();
        assert_eq!(heard.marks, [("ab".into(), 20, 320), ("abcdef".into(), 320, 1020)]);
        assert_eq!(heard.audio[19..21], [0, 16_384]);
    }

    #[test]
    fn silence_within_a_stream_stays() {
        let kept = Kept::default();
        let mut speech = speech(&kept, "ab", 100);
        assert!(speech.chunk(&[0.0; 300], 1.0));
        assert_eq!((speech.sent(), kept.0.borrow().audio.len()), (300, 300));
        assert_eq!(kept.0.borrow().marks, [("ab".into(), 100, 400)]);
    }

    #[test]
    fn every_word_is_marked_once_in_whichever_chunks_it_comes() {
        let text = "one two three four five six seven eight";
        for chunks in 1..12 {
            let kept = Kept::default();
            let mut speech = speech(&kept, text, 0);
            for chunk in 1..=chunks {
                assert!(speech.chunk(&[0.5; 1000], chunk as f32 / chunks as f32));
            }
            let heard = kept.0.borrow();
            let words: Vec<&str> = heard.marks.iter().map(|(word, ..)| word.as_str()).collect();
            assert_eq!(words.join(" "), text);
            assert!(heard.marks.windows(2).all(|pair| pair[0].2 <= pair[1].1));
            assert!(heard.marks.iter().all(|(_, start, end)| start < end));
            assert!(heard.marks.last().is_some_and(|(_, _, end)| *end <= 1000 * chunks));
        }
    }

    #[test]
    fn a_cancel_stops_between_frames() {
        let kept = Kept::default();
        kept.0.borrow_mut().wanted = Some(250);
        let mut speech = speech(&kept, "ab", 0);
        assert!(!speech.chunk(&[0.5; 1000], 0.5));
        assert_eq!(speech.sent(), 300);
        assert!(!speech.chunk(&[0.5; 1000], 1.0));
        assert_eq!(speech.sent(), 300);
    }

    #[test]
    fn samples_are_clipped_and_no_number_is_silent() {
        let pcm: Vec<i16> = [0.0, 1.0, -1.0, 7.0, -7.0, f32::NAN, f32::INFINITY]
            .map(to_pcm)
            .to_vec();
        assert_eq!(pcm, [0, 32_767, -32_767, 32_767, -32_768, 0, 32_767]);
    }
}
