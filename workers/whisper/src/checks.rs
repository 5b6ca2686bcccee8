//! Whether what came out of a decode can be believed. Whisper was trained on subtitles, and where nothing is said it
//! writes what subtitles say then: notes in brackets, thanks to the viewers, the last words again and again.

use crate::words::Word;

/// When a decode isn't believed. The defaults are those of Whisper (`transcribe.py`) and of whisper.cpp.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Thresholds {
    /// Above this probability of no speech, and below the next one, nothing was said.
    pub(crate) no_speech: f32,
    /// The mean log-probability of the tokens.
    pub(crate) log_probability: f32,
    /// The entropy of the last [`LOOK_BACK`] tokens: low when they repeat themselves.
    pub(crate) entropy: f32,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            no_speech: 0.6,
            log_probability: -1.0,
            entropy: 2.4,
        }
    }
}

/// Over how many of the last tokens whisper.cpp measures their entropy (`whisper_sequence_score`); with fewer it doesn't.
const LOOK_BACK: usize = 32;

/// What to think of a decode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Believed,
    /// Nothing was said.
    Silence,
    /// Something was said, and this may not be it.
    Doubted,
}

/// What the library tells of a decode beside its text.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Signs {
    /// The probability of no speech; only looked at where the text is unlikely.
    pub(crate) no_speech: f32,
    /// The mean over all tokens, special ones included.
    pub(crate) log_probability: f32,
    /// The tokens of the text.
    pub(crate) tokens: Vec<i32>,
}

impl Signs {
    /// Whether this isn't what a model writes that has understood.
    pub(crate) fn is_unlikely(&self, thresholds: Thresholds) -> bool {
        // A number that is none is below everything.
        self.log_probability.is_nan() || self.log_probability < thresholds.log_probability
    }
}

pub(crate) fn verdict(signs: &Signs, words: &[Word], thresholds: Thresholds) -> Verdict {
    let is_unlikely = signs.is_unlikely(thresholds);
    if signs.tokens.is_empty() || (is_unlikely && signs.no_speech > thresholds.no_speech) {
        Verdict::Silence
    } else if is_unlikely || is_monotonous(&signs.tokens, thresholds.entropy) || loop_end(words).is_some() {
        Verdict::Doubted
    } else {
        Verdict::Believed
    }
}

fn is_monotonous(tokens: &[i32], threshold: f32) -> bool {
    if tokens.len() <= LOOK_BACK {
        return false;
    }
    let mut last = tokens[tokens.len() - LOOK_BACK..].to_vec();
    last.sort_unstable();
    let entropy: f32 = last
        .chunk_by(|one, other| one == other)
        .map(|same| {
            let share = same.len() as f32 / LOOK_BACK as f32;
            -share * share.ln()
        })
        .sum();
    entropy < threshold
}

/// People say a word three times, and a phrase twice. A model in a loop doesn't stop.
const SAME_WORDS: usize = 7;
const SAME_PHRASES: usize = 4;
/// The longest phrase that is looked for.
const LONGEST_PHRASE: usize = 12;

/// Where the text begins to repeat itself up to its end: the end of the first of the repeated phrases.
pub(crate) fn loop_end(words: &[Word]) -> Option<usize> {
    let bare: Vec<String> = words.iter().map(Word::bare).collect();
    (1..=LONGEST_PHRASE).find_map(|length| {
        let phrase = bare.len().checked_sub(length).map(|start| &bare[start..])?;
        let times = bare.rchunks_exact(length).take_while(|other| *other == phrase).count();
        let most = if length == 1 { SAME_WORDS } else { SAME_PHRASES };
        (times >= most).then(|| bare.len() - (times - 1) * length)
    })
}

/// What opens a note, and what closes it.
const BRACKETS: [(char, char); 9] = [
    ('[', ']'),
    ('(', ')'),
    ('{', '}'),
    ('（', '）'),
    ('【', '】'),
    ('〔', '〕'),
    ('♪', '♪'),
    ('♫', '♫'),
    ('*', '*'),
];
/// What isn't said either.
const SIGNS: [char; 7] = ['♪', '♫', '♩', '♬', '■', '□', '…'];

/// Removes notes in brackets, such as `[BLANK_AUDIO]` or `(music)`, and words that are only signs. A note that is opened and not
/// closed yet goes up to the end.
pub(crate) fn without_notes(words: Vec<Word>) -> Vec<Word> {
    let mut closing = None;
    let mut kept: Vec<Word> = Vec::with_capacity(words.len());
    let mut lost_space = false;
    for mut word in words {
        let text = std::mem::take(&mut word.text);
        for letter in text.chars() {
            match closing {
                Some(close) if letter == close => closing = None,
                Some(_) => {}
                None => match BRACKETS.iter().find(|(open, _)| *open == letter) {
                    Some((_, close)) => closing = Some(*close),
                    None => word.text.push(letter),
                },
            }
        }
        if word
            .text
            .chars()
            .any(|letter| !SIGNS.contains(&letter) && letter.is_alphanumeric())
        {
            word.spaced |= lost_space;
            lost_space = false;
            kept.push(word);
        } else if text
            .chars()
            .all(|letter| !letter.is_alphanumeric() && !SIGNS.contains(&letter))
            && closing.is_none()
            && word.text == text
            && !kept.is_empty()
        {
            // Punctuation by itself, as in "a & b".
            kept.push(word);
        } else {
            lost_space |= word.spaced;
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::join;

    fn words(text: &str) -> Vec<Word> {
        text.split(' ')
            .filter(|word| !word.is_empty())
            .map(|word| Word {
                text: word.into(),
                spaced: true,
                ..Word::default()
            })
            .collect()
    }

    #[test]
    fn notes_are_removed() {
        for (text, expected) in [
            ("[BLANK_AUDIO]", ""),
            ("(upbeat music)", ""),
            ("♪ la la la ♪", ""),
            ("*coughs* Hello there", "Hello there"),
            (
                "Good morning. [Music playing] How are you?",
                "Good morning. How are you?",
            ),
            ("Yes [laugh", "Yes"),
            ("[ Silence ]", ""),
            ("- Hello.", "Hello."),
            ("rock & roll", "rock & roll"),
            ("…", ""),
            ("wait(laughs) here", "wait here"),
            ("We met at 5:30 (p.m.) or so", "We met at 5:30 or so"),
        ] {
            assert_eq!(join(&without_notes(words(text))), expected, "{text:?}");
        }
    }

    #[test]
    fn loops_are_found_and_what_people_repeat_is_none() {
        for (text, end) in [
            ("no no no", None),
            ("very very very very good", None),
            ("bye bye. bye bye.", None),
            ("so we go on and on and on", None),
            ("Thank you. Thank you. Thank you. Thank you.", Some(2)),
            ("I said the the the the the the the the", Some(3)),
            ("we go to the park. to the park. To the park, to the park", Some(5)),
            ("", None),
        ] {
            assert_eq!(loop_end(&words(text)), end, "{text:?}");
        }
    }

    #[test]
    fn a_decode_is_believed_by_whispers_thresholds() {
        let said = words("what is said");
        let signs = |no_speech, log_probability, tokens: Vec<i32>| Signs {
            no_speech,
            log_probability,
            tokens,
        };
        for (signs, expected) in [
            (signs(0.1, -0.3, vec![1, 2, 3]), Verdict::Believed),
            (signs(0.9, -0.3, vec![1, 2, 3]), Verdict::Believed),
            (signs(0.9, -1.3, vec![1, 2, 3]), Verdict::Silence),
            (signs(0.1, -1.3, vec![1, 2, 3]), Verdict::Doubted),
            (signs(0.1, f32::NAN, vec![1, 2, 3]), Verdict::Doubted),
            (signs(0.1, -0.3, vec![]), Verdict::Silence),
            (
                signs(0.1, -0.3, (0..40).map(|token| token % 3).collect()),
                Verdict::Doubted,
            ),
            (signs(0.1, -0.3, (0..40).collect()), Verdict::Believed),
        ] {
            assert_eq!(verdict(&signs, &said, Thresholds::default()), expected, "{signs:?}");
        }
        let stuck = words(&"thank you ".repeat(5));
        assert_eq!(
            verdict(&signs(0.1, -0.1, vec![1, 2]), &stuck, Thresholds::default()),
            Verdict::Doubted
        );
    }
}
