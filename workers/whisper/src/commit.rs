//! Which words are promised, and which are final, while a window grows and is decoded again and again.
//!
//! Two chains of words lead through an utterance:
//!
//! * What is *promised*: words that two decodes in a row agree on (LocalAgreement-2; Macháček, Dabre, Bojar 2023, "Turning Whisper into
//!   Real-Time Transcription System"), and never the last word of a decode, which may be half a word. The text of a promise never
//!   changes, and partials begin with it.
//! * What is *fixed*: when the window is full, it is decoded once more as a whole, cut at a pause, and the words before the cut are
//!   fixed as this decode has them. They and the last decode are the final text. It depends on the audio alone, not on when partials
//!   happened to be made.
//!
//! A decode of the window begins with the words that were promised in it, more or less; where it has them otherwise, it's aligned
//! with them, so that no word is lost or doubled where the promised ones end.

use std::collections::VecDeque;
use std::ops::Range;

use crate::window::RATE;
use crate::words::{Word, join};

/// So many earlier decodes are compared: one that agrees to the letter, or two that agree but for punctuation and case.
const COMPARED: usize = 2;

/// What is kept of a window after a cut: the last words of a decode lack what comes after them.
const KEPT: u64 = 2 * RATE as u64;
/// A pause of the voice is looked for so far around a cut.
const AROUND: u64 = RATE as u64 / 10;
/// So much of a pause is looked at.
const PAUSE: u64 = RATE as u64 / 2;
/// A word at the beginning of a window that ends before this, and was the last before the cut, is its echo.
const ECHO: u64 = 3 * RATE as u64 / 10;
/// The same for several words.
const ECHOES: u64 = 3 * RATE as u64 / 2;
const MOST_ECHOES: usize = 4;

/// The words of one utterance.
#[derive(Clone, Debug, Default)]
pub(crate) struct Transcript {
    /// Promised, and before the window.
    shown: String,
    /// Promised, and in the window.
    promised: Vec<Word>,
    /// What the last decodes had after the promised words.
    recent: VecDeque<Vec<Word>>,
    /// Final, and before the window. Times are from the beginning of the utterance.
    fixed: Vec<Word>,
}

/// A transcript so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Shown {
    pub(crate) text: String,
    /// How many of its characters are promised.
    pub(crate) stable: usize,
}

impl Transcript {
    /// Takes a decode of the window.
    pub(crate) fn hear(&mut self, words: &[Word]) -> Shown {
        let words = self.without_echo(words);
        let rest = &words[align(&self.promised, words)..];
        // The last word may be half a word.
        let candidates = rest.len().saturating_sub(1);
        let agreed = (0..candidates)
            .take_while(|place| self.agree(&rest[*place], *place))
            .count();
        self.promised.extend_from_slice(&rest[..agreed]);
        for earlier in &mut self.recent {
            earlier.drain(..agreed.min(earlier.len()));
        }
        let rest = &rest[agreed..];
        self.recent.push_front(rest.to_vec());
        self.recent.truncate(COMPARED);
        let promised = append(&self.shown, &self.promised);
        Shown {
            stable: promised.chars().count(),
            text: append(&promised, rest),
        }
    }

    fn agree(&self, word: &Word, place: usize) -> bool {
        let mut earlier = self.recent.iter().map(|words| words.get(place));
        match earlier.next().flatten() {
            Some(last) if last.text == word.text => true,
            Some(last) => {
                let bare = word.bare();
                last.bare() == bare && earlier.next().flatten().is_some_and(|before| before.bare() == bare)
            }
            None => false,
        }
    }

    /// Takes a decode of the whole window, which is then cut: the first `count` words are fixed, and the window begins at sample `at` of what
    /// it was, which is sample `offset + at` of the utterance.
    pub(crate) fn cut(&mut self, words: &[Word], count: usize, at: u64, offset: u64) {
        let echoes = words.len() - self.without_echo(words).len();
        let (words, count) = (&words[echoes..], count.saturating_sub(echoes));
        let (before, after) = words.split_at(count.min(words.len()));
        let mut covered = align(before, &self.promised);
        if before.is_empty() {
            // This decode heard nothing where others did: what they promised there is before the cut.
            covered = self.promised.iter().take_while(|word| word.end <= at).count();
        } else if covered == self.promised.len() {
            // All that was promised is before the cut, and so are words that weren't promised yet.
            let more = &before[align(&self.promised, before)..];
            self.promised.extend_from_slice(more);
            covered = self.promised.len();
        }
        let rest = self.promised.split_off(covered);
        self.shown = append(&self.shown, &self.promised);
        self.promised = rest;
        self.fixed.extend(before.iter().map(|word| Word {
            start: word.start + offset,
            end: word.end + offset,
            ..word.clone()
        }));
        let shifted: Vec<Word> = after
            .iter()
            .map(|word| Word {
                start: word.start.saturating_sub(at),
                end: word.end.saturating_sub(at),
                ..word.clone()
            })
            .collect();
        for word in &mut self.promised {
            word.start = word.start.saturating_sub(at);
            word.end = word.end.saturating_sub(at);
        }
        self.recent.clear();
        self.recent
            .push_front(shifted[align(&self.promised, &shifted)..].to_vec());
    }

    /// The words of the utterance, with the last decode of the window, which begins at sample `offset`.
    pub(crate) fn finish(&mut self, words: &[Word], offset: u64) -> Vec<Word> {
        let mut all = std::mem::take(&mut self.fixed);
        let last = if all.is_empty() {
            words
        } else {
            without_echo_of(&all, words)
        };
        all.extend(last.iter().map(|word| Word {
            start: word.start + offset,
            end: word.end + offset,
            ..word.clone()
        }));
        all
    }

    /// The last words that are fixed, as text for the decoder to go on from.
    pub(crate) fn context(&self, most_characters: usize) -> String {
        let mut length = 0;
        let start = self
            .fixed
            .iter()
            .rposition(|word| {
                length += word.text.chars().count() + 1;
                length > most_characters
            })
            .map_or(0, |place| place + 1);
        join(&self.fixed[start..])
    }

    fn without_echo<'a>(&self, words: &'a [Word]) -> &'a [Word] {
        without_echo_of(&self.fixed, words)
    }
}

fn append(text: &str, words: &[Word]) -> String {
    let more = join(words);
    match words.first() {
        Some(first) if first.spaced && !text.is_empty() => format!("{text} {more}"),
        _ => format!("{text}{more}"),
    }
}

/// Leaves out words at the beginning of a window that are the end of what was before the cut: what a cut a moment too early leaves.
fn without_echo_of<'a>(before: &[Word], words: &'a [Word]) -> &'a [Word] {
    let is_echo = |count: usize| {
        let (Some(last), Some(first)) = (
            before.len().checked_sub(count).map(|start| &before[start..]),
            words.get(..count),
        ) else {
            return false;
        };
        let longest = if count == 1 { ECHO } else { ECHOES };
        let is_short = first.last().is_some_and(|word| word.end <= longest);
        is_short && last.iter().zip(first).all(|(one, other)| one.bare() == other.bare())
    };
    let echoes = (1..=MOST_ECHOES).rev().find(|count| is_echo(*count)).unwrap_or(0);
    &words[echoes..]
}

/// How many of the first words of `words` are those of `known`: the best alignment of all of `known` with a beginning of `words`. Words may
/// be changed, missing, added, or written as two. Of alignments that are equally good, the one whose end is nearest in time.
fn align(known: &[Word], words: &[Word]) -> usize {
    if known.is_empty() {
        return 0;
    }
    let bare = |words: &[Word]| -> Vec<String> { words.iter().map(Word::bare).collect() };
    let (known_bare, words_bare) = (bare(known), bare(words));
    // distances[i][j]: between the first i known words and the first j words.
    let mut distances = vec![vec![0_usize; words.len() + 1]; known.len() + 1];
    for i in 0..=known.len() {
        for j in 0..=words.len() {
            if i == 0 || j == 0 {
                distances[i][j] = i + j;
                continue;
            }
            let (one, other) = (&known_bare[i - 1], &words_bare[j - 1]);
            let mut best = distances[i - 1][j - 1] + usize::from(one != other);
            best = best.min(distances[i - 1][j] + 1).min(distances[i][j - 1] + 1);
            if j > 1 && one.strip_suffix(other.as_str()) == Some(words_bare[j - 2].as_str()) {
                best = best.min(distances[i - 1][j - 2]);
            }
            if i > 1 && other.strip_suffix(one.as_str()) == Some(known_bare[i - 2].as_str()) {
                best = best.min(distances[i - 2][j - 1]);
            }
            distances[i][j] = best;
        }
    }
    let ends_at = known.last().map_or(0, |word| word.end);
    let away = |count: usize| match count.checked_sub(1) {
        Some(last) => words[last].end.abs_diff(ends_at),
        None => u64::MAX,
    };
    let last = &distances[known.len()];
    (0..=words.len())
        .min_by_key(|count| (last[*count], away(*count)))
        .unwrap_or(0)
}

/// Where to cut a window of `length` samples whose decode is `words`: how many words are before the cut, and within which samples it
/// lies. It's made after a phrase whose end the model wrote down, else in the longest pause between words, in the second half of the
/// window; where nobody speaks there, as late as possible.
pub(crate) fn cut_at(words: &[Word], length: u64) -> (usize, Range<u64>) {
    let latest = length.saturating_sub(KEPT);
    let pause = |count: usize| {
        words
            .get(count)
            .map_or(length, |next| next.start)
            .saturating_sub(words[count - 1].end)
    };
    let candidates = (1..=words.len()).filter(|count| words[count - 1].end <= latest && words[count - 1].end > 0);
    let late = |count: &usize| words[count - 1].end >= length / 2;
    let best = candidates
        .clone()
        .filter(late)
        .max_by_key(|count| (words[count - 1].timed, pause(*count), *count))
        .or_else(|| candidates.max());
    let (count, span) = match best {
        Some(count) => {
            let from = words[count - 1].end;
            let to = words.get(count).map_or(latest, |next| next.start).clamp(from, latest);
            // Of a long pause its end, so that it isn't decoded again.
            let from = from.max(to.saturating_sub(PAUSE)).saturating_sub(AROUND);
            (count, from..(to + AROUND).min(latest))
        }
        // Nothing was said, or only at the very end.
        None => {
            let to = words.first().map_or(latest, |first| first.start.min(latest));
            (0, to..to)
        }
    };
    if span.end >= length / 4 {
        return (count, span);
    }
    // A word that is said to last for most of the window: the decode makes no sense, and work has to go on.
    let count = words.iter().take_while(|word| word.start < length / 2).count();
    (count, latest..latest)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = RATE as u64;

    /// Words of half a second each, one after the other from `start` on.
    fn words_from(start: u64, text: &str) -> Vec<Word> {
        text.split(' ')
            .filter(|word| !word.is_empty())
            .enumerate()
            .map(|(number, word)| Word {
                text: word.into(),
                spaced: true,
                start: start + number as u64 * SECOND / 2,
                end: start + (number as u64 + 1) * SECOND / 2,
                probability: 1.0,
                timed: false,
            })
            .collect()
    }

    fn words(text: &str) -> Vec<Word> {
        words_from(0, text)
    }

    /// What is shown after each decode, with `|` after what is promised.
    fn shown(decodes: &[&str]) -> Vec<String> {
        let mut transcript = Transcript::default();
        decodes
            .iter()
            .map(|decode| mark(&transcript.hear(&words(decode))))
            .collect()
    }

    fn mark(shown: &Shown) -> String {
        let promised: String = shown.text.chars().take(shown.stable).collect();
        format!("{promised}|{}", &shown.text[promised.len()..])
    }

    #[test]
    fn words_are_promised_when_two_decodes_agree() {
        for (decodes, expected) in [
            // A sentence that grows, with half words at its end.
            (
                &["I", "I want to", "I want to go.", "I want to go home now."][..],
                &["|I", "I| want to", "I want to| go.", "I want to| go home now."][..],
            ),
            // A word that changes takes what follows with it, and what was promised stays.
            (
                &[
                    "the cat sat on",
                    "the cat sat on a",
                    "the cat sad on the mat",
                    "the cat sad on the mat.",
                ],
                &[
                    "|the cat sat on",
                    "the cat sat on| a",
                    "the cat sat on| the mat",
                    "the cat sat on the| mat.",
                ],
            ),
            // Punctuation and case hold up a promise, but not for ever.
            (
                &[
                    "so I said",
                    "So, I said no",
                    "so I said no but",
                    "so I said no but then",
                ],
                &[
                    "|so I said",
                    "|So, I said no",
                    "so I said no| but",
                    "so I said no but| then",
                ],
            ),
            // Words that are said twice.
            (
                &["no no no I", "no no no I mean", "no no no I mean no no"],
                &["|no no no I", "no no no I| mean", "no no no I mean| no no"],
            ),
            // A decode that heard nothing takes nothing back.
            (
                &["good morning all", "good morning all of", "", "good morning all of you"],
                &[
                    "|good morning all",
                    "good morning all| of",
                    "good morning all|",
                    "good morning all| of you",
                ],
            ),
            (&["", ""], &["|", "|"]),
        ] {
            assert_eq!(shown(decodes), expected, "{decodes:?}");
        }
    }

    #[test]
    fn promised_words_that_are_read_otherwise_later_are_neither_lost_nor_doubled() {
        for (first, then, expected) in [
            (
                "I have twenty one apples here",
                "I have 21 apples here today",
                "I have twenty one apples here| today",
            ),
            (
                "you can not see it now",
                "you cannot see it now or",
                "you can not see it now| or",
            ),
            (
                "you cannot see it now",
                "you can not see it now or",
                "you cannot see it now| or",
            ),
            (
                "so it is raining again here",
                "So it's raining again here now",
                "so it is raining again here| now",
            ),
            (
                "well I think we go now",
                "I think we go now then",
                "well I think we go now| then",
            ),
            (
                "I think we go now",
                "Well I think we go now then",
                "I think we go now| then",
            ),
            (
                "the the cat is in here",
                "the cat is in here now",
                "the the cat is in here| now",
            ),
        ] {
            let shown = shown(&[first, first, then]);
            assert_eq!(shown[2], expected, "{first:?}, {then:?}");
        }
    }

    #[test]
    fn a_promise_never_shrinks_and_never_changes() {
        // A decoder that changes its mind at random, also in the middle of what was promised, over cut windows.
        let mut state = 7_u32;
        let mut random = |below: u32| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) % below
        };
        let mut transcript = Transcript::default();
        let mut promised = String::new();
        let (mut said, mut offset) = (Vec::<String>::new(), 0_u64);
        for step in 0..600_u32 {
            said.push(format!("w{}", random(40)));
            let heard: Vec<String> = said
                .iter()
                .flat_map(|word| match random(12) {
                    0 => vec![format!("{word}x")],
                    1 => vec![],
                    2 => vec![word.clone(), "um".into()],
                    _ => vec![word.clone()],
                })
                .collect();
            let heard = words(&heard.join(" "));
            let shown = transcript.hear(&heard);
            let now: String = shown.text.chars().take(shown.stable).collect();
            assert!(now.starts_with(&promised), "{step}: {promised:?} became {now:?}");
            promised = now;
            if said.len() == 40 {
                let length = heard.last().map_or(0, |word| word.end);
                let (count, span) = cut_at(&heard, length);
                transcript.cut(&heard, count, span.start, offset);
                offset += span.start;
                said.drain(..(span.start / (SECOND / 2)) as usize);
            }
        }
        assert!(promised.len() > 1_000, "{}", promised.len());
    }

    #[test]
    fn a_cut_loses_and_doubles_no_word() {
        let all: Vec<String> = (0..50).map(|number| format!("w{number}")).collect();
        let text = |range: Range<usize>| all[range].join(" ");
        // How far the promises had come when the window was cut: nowhere, before the cut, beyond it.
        for promised in [0, 10, 38] {
            let mut transcript = Transcript::default();
            if promised > 0 {
                transcript.hear(&words(&text(0..promised + 1)));
                transcript.hear(&words(&text(0..promised + 1)));
            }
            let window = words(&text(0..40));
            let (count, span) = cut_at(&window, 40 * SECOND / 2);
            assert!((20..=36).contains(&count), "{count}");
            // Fifty milliseconds too early, as it happens.
            transcript.cut(&window, count, span.start, 0);
            let at = span.start;
            let mut rest = words_from(0, &text(count..45));
            let shown = transcript.hear(&rest);
            assert!(shown.stable >= text(0..promised).len(), "{promised}: {shown:?}");
            assert_eq!(shown.text, text(0..45), "{promised}");
            // The echo of a word that was cut in its middle.
            rest.insert(
                0,
                Word {
                    end: SECOND / 5,
                    ..window[count - 1].clone()
                },
            );
            assert_eq!(transcript.hear(&rest).text, text(0..45), "{promised}");
            let last = transcript.finish(&rest, at);
            assert_eq!(join(&last), text(0..45), "{promised}");
            assert_eq!(last[3].start, 3 * SECOND / 2);
            assert!(
                last.windows(2).all(|pair| pair[0].start <= pair[1].start),
                "times go on"
            );
        }
    }

    #[test]
    fn the_final_words_are_those_of_the_decodes_not_of_the_promises() {
        let mut transcript = Transcript::default();
        for _ in 0..2 {
            transcript.hear(&words("he said wright on and then"));
        }
        let window = words("he said right on. And then we went off");
        transcript.cut(&window, 4, 2 * SECOND, 0);
        let shown = transcript.hear(&words("And then we went off to sea"));
        assert_eq!(mark(&shown), "he said wright on and then we went off| to sea");
        let last = transcript.finish(&words("And then we went off to sea."), 2 * SECOND);
        assert_eq!(join(&last), "he said right on. And then we went off to sea.");
    }

    #[test]
    fn a_window_is_cut_at_a_pause() {
        let mut window = words(&["a"; 56].join(" "));
        let length = 28 * SECOND;
        // No pause anywhere: as late as what is kept allows.
        assert_eq!(cut_at(&window, length).0, 52);
        // A pause after the 40th word.
        for word in &mut window[40..] {
            word.start += SECOND / 4;
            word.end += SECOND / 4;
        }
        let (count, span) = cut_at(&window, length);
        assert_eq!(count, 40);
        assert!(span.contains(&(20 * SECOND + SECOND / 8)), "{span:?}");
        // The end of a phrase that the model wrote down goes before that.
        window[44].timed = true;
        assert_eq!(cut_at(&window, length).0, 45);
        // Words only in the first half, none, and only at the very end.
        assert_eq!(cut_at(&window[..6], length).0, 6);
        assert_eq!(cut_at(&[], length), (0, 26 * SECOND..26 * SECOND));
        let late = words_from(27 * SECOND, "oh");
        assert_eq!(cut_at(&late, length), (0, 26 * SECOND..26 * SECOND));
        let only = words_from(0, "all");
        let long = [Word {
            end: length,
            ..only[0].clone()
        }];
        assert_eq!(cut_at(&long, length), (1, 26 * SECOND..26 * SECOND));
    }

    #[test]
    fn the_context_is_the_end_of_what_is_fixed() {
        let mut transcript = Transcript::default();
        transcript.cut(&words("one two three four"), 4, 2 * SECOND, 0);
        assert_eq!(transcript.context(100), "one two three four");
        assert_eq!(transcript.context(11), "three four");
        assert_eq!(transcript.context(0), "");
    }
}
