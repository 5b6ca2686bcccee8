//! The text of a hypothesis as it is told: its spaces, its case, how much of it is certain, and when its words were said.

use repartee_worker_shell::protocol::Mark;

/// The rate at which audio comes, in Hz. The library resamples for models of another.
pub(super) const RATE: u32 = 16_000;

/// How long a token lasts at least, in samples: 120 ms, some three frames of the usual models. Of most only the beginning is known.
const TOKEN: u64 = RATE as u64 * 12 / 100;

/// How words are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Case {
    AsIs,
    Lower,
}

impl Case {
    /// The text with single spaces, none at its ends, in this case.
    pub(super) fn write(self, text: &str) -> String {
        let words: Vec<&str> = text.split_whitespace().collect();
        let text = words.join(" ");
        match self {
            Self::AsIs => text,
            Self::Lower => text.to_lowercase(),
        }
    }
}

/// Whether a character is a word by itself: Chinese, Japanese and Korean are written without spaces, or heard by syllables.
fn stands_alone(character: char) -> bool {
    matches!(u32::from(character), 0x2E80..=0x9FFF | 0xAC00..=0xD7AF | 0xF900..=0xFAFF | 0xFF00..=0xFFEF | 0x20000..=0x3FFFF)
}

/// How many leading characters won't change where a hypothesis only grows: all but its last word, which may.
pub(super) fn settled_chars(text: &str) -> u32 {
    let characters: Vec<char> = text.chars().collect();
    let last = characters.len().saturating_sub(1);
    let place = (0..=last).rev().find(|place| {
        let is_space = characters.get(*place) == Some(&' ');
        is_space || (*place > 0 && characters.get(place - 1).is_some_and(|before| stands_alone(*before)))
    });
    u32::try_from(place.unwrap_or(0)).unwrap_or(u32::MAX)
}

/// A token with its time in seconds, and how long it lasts where the model says so.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timed<'a> {
    pub(super) text: &'a str,
    pub(super) start: f32,
    pub(super) duration: Option<f32>,
}

/// When the words of `text` were said. `samples` is how much audio there was. Words that can't be found among the tokens, since something
/// rewrote them, are left out.
pub(super) fn marks(text: &str, case: Case, tokens: &[Timed<'_>], samples: u64) -> Vec<Mark> {
    let mut words: Vec<(String, u64, u64)> = Vec::new();
    let mut begins = true;
    for token in tokens {
        let piece = token.text.replace('▁', " ");
        begins |= piece.starts_with(' ');
        let written = case.write(&piece);
        let start = in_samples(token.start).min(samples);
        let end = start + token.duration.map_or(0, in_samples).max(TOKEN);
        let alone = written.chars().next().is_some_and(stands_alone);
        match words.last_mut() {
            _ if written.is_empty() => {}
            Some((word, _, last)) if !begins && !alone => {
                word.push_str(&written);
                *last = end;
            }
            _ => words.push((written.clone(), start, end)),
        }
        if !written.is_empty() {
            begins = written.chars().next_back().is_some_and(stands_alone);
        }
        begins |= piece.ends_with(' ');
    }
    let mut marks: Vec<Mark> = Vec::with_capacity(words.len());
    let (mut rest, mut passed) = (text, 0);
    for (word, start, end) in words {
        let Some(place) = rest.find(&word) else { continue };
        let char_start = passed + count(&rest[..place]);
        let char_end = char_start + count(&word);
        (rest, passed) = (&rest[place + word.len()..], char_end);
        if let Some(before) = marks.last_mut() {
            before.end = before.end.min(start.max(before.start));
        }
        let end = end.min(samples).max(start);
        marks.push(Mark {
            text: word,
            char_start,
            char_end,
            start,
            end,
        });
    }
    marks
}

fn count(text: &str) -> u32 {
    u32::try_from(text.chars().count()).unwrap_or(u32::MAX)
}

/// Times before the first sample are the first sample's.
fn in_samples(seconds: f32) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a cast of a float saturates"
    )]
    let samples = (f64::from(seconds) * f64::from(RATE)).round() as u64;
    samples
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_told_with_single_spaces_in_its_case() {
        assert_eq!(Case::Lower.write("  HELLO  WORLD "), "hello world");
        assert_eq!(Case::AsIs.write(" Hello"), "Hello");
    }

    #[test]
    fn the_last_word_of_a_growing_text_is_not_settled() {
        for (text, settled) in [
            ("", 0),
            ("good", 0),
            ("good mor", 4),
            ("good morning all", 12),
            ("今天天气", 3),
            ("ok 今天", 4),
        ] {
            assert_eq!(settled_chars(text), settled, "{text}");
        }
    }

    #[test]
    fn words_have_the_times_of_their_tokens() {
        let at = |text, start| Timed {
            text,
            start,
            duration: None,
        };
        let tokens = [at(" GOOD", 0.5), at(" MOR", 1.0), at("NING", 1.2)];
        let marks = marks("good morning", Case::Lower, &tokens, 20_000);
        let told: Vec<_> = marks
            .iter()
            .map(|mark| (mark.text.as_str(), mark.char_start, mark.char_end, mark.start, mark.end))
            .collect();
        assert_eq!(told, [("good", 0, 4, 8000, 9920), ("morning", 5, 12, 16_000, 20_000)]);
    }

    #[test]
    fn characters_without_spaces_are_words_of_their_own() {
        let at = |text, start| Timed {
            text,
            start,
            duration: Some(0.5),
        };
        let marks = marks(
            "今天ok",
            Case::AsIs,
            &[at("今", 0.0), at("天", 0.25), at("o", 1.0), at("k", 1.25)],
            160_000,
        );
        let told: Vec<_> = marks
            .iter()
            .map(|mark| (mark.text.as_str(), mark.char_start, mark.start, mark.end))
            .collect();
        assert_eq!(
            told,
            [("今", 0, 0, 4000), ("天", 1, 4000, 12_000), ("ok", 2, 16_000, 28_000)]
        );
        assert_eq!(
            super::marks("3", Case::AsIs, &[at("three", 0.0)], 1),
            [],
            "something rewrote it"
        );
    }
}
