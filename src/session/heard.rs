//! The heard ledger: which words of a reply have left the playout clock.

use serde::{Deserialize, Serialize};

use crate::call::WordTiming;
use crate::pii::Pii;
use crate::time::{SESSION_RATE, Samples};

/// How much audio a character takes, where nothing better is known yet: 14 characters a second, the pace of unhurried
/// English (150 words a minute at 5.6 characters with the space).
const SAMPLES_PER_CHAR: u64 = SESSION_RATE as u64 / 14;

/// A clause that was given to the synthesiser.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Clause {
    text: Pii<String>,
    chars: u32,
    audio: Samples,
    complete: bool,
    words: Vec<WordTiming>,
}

/// The clauses of one reply in the order in which they are heard.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ledger {
    clauses: Vec<Clause>,
}

impl Ledger {
    /// A clause follows.
    pub(crate) fn begin(&mut self, text: &str) {
        self.clauses.push(Clause {
            text: Pii::from(text),
            chars: super::recognition::count_chars(text),
            audio: Samples::ZERO,
            complete: false,
            words: Vec::new(),
        });
    }

    /// So much audio of the last clause lies ready.
    pub(crate) fn audio(&mut self, total: Samples) {
        if let Some(clause) = self.clauses.last_mut() {
            clause.audio = clause.audio.max(total);
        }
    }

    /// All audio of the last clause lies ready.
    pub(crate) fn complete(&mut self) {
        if let Some(clause) = self.clauses.last_mut() {
            clause.complete = true;
        }
    }

    /// When words of the last clause are heard. What is out of order, or more than the clause has characters, is ignored.
    pub(crate) fn words(&mut self, words: &[WordTiming]) {
        let Some(clause) = self.clauses.last_mut() else { return };
        for word in words {
            let follows = clause
                .words
                .last()
                .is_none_or(|last| word.end_char > last.end_char && word.end >= last.end);
            if follows && word.end_char <= clause.chars {
                clause.words.push(*word);
            }
        }
    }

    /// The last clause is synthesised again from its beginning.
    pub(crate) fn restart(&mut self) {
        if let Some(clause) = self.clauses.last_mut() {
            clause.audio = Samples::ZERO;
            clause.complete = false;
            clause.words.clear();
        }
    }

    /// Whether no clause has been given to the synthesiser.
    pub(crate) const fn is_empty(&self) -> bool {
        self.clauses.is_empty()
    }

    /// All audio that has been made.
    pub(crate) fn ready(&self) -> Samples {
        self.clauses
            .iter()
            .fold(Samples::ZERO, |sum, clause| sum + clause.audio)
    }

    /// Where the audio of the last clause begins.
    pub(crate) fn last_start(&self) -> Samples {
        let earlier = self.clauses.len().saturating_sub(1);
        self.clauses[..earlier]
            .iter()
            .fold(Samples::ZERO, |sum, clause| sum + clause.audio)
    }

    /// The words that have been heard when the audio has been heard up to `until`. A word counts when its end has been.
    pub(crate) fn heard_text(&self, until: Samples) -> String {
        let mut text = String::new();
        let mut start = Samples::ZERO;
        for clause in &self.clauses {
            if until <= start {
                break;
            }
            let heard = clause.heard(until.saturating_sub(start)).trim();
            if !heard.is_empty() {
                if !text.is_empty() {
                    text.push(' ');
                }
                text.push_str(heard);
            }
            start += clause.audio;
        }
        text
    }
}

impl Clause {
    /// The part of it that has been heard after `offset` of its audio.
    fn heard(&self, offset: Samples) -> &str {
        let text = self.text.expose();
        if self.complete && offset >= self.audio {
            return text;
        }
        if self.words.is_empty() {
            return self.estimate(offset);
        }
        let chars = self
            .words
            .iter()
            .take_while(|word| word.end <= offset)
            .last()
            .map_or(0, |word| word.end_char);
        super::recognition::truncated(text, chars as usize)
    }

    /// The same in proportion to the characters, for synthesisers that tell no times.
    fn estimate(&self, offset: Samples) -> &str {
        let text = self.text.expose();
        let chars = u64::from(self.chars.max(1));
        let length = if self.complete {
            self.audio.count()
        } else {
            self.audio.count().max(chars * SAMPLES_PER_CHAR)
        };
        let mut heard = 0;
        let mut in_word = false;
        let characters = text
            .char_indices()
            .map(|(at, character)| (at, character.is_whitespace()))
            .chain([(text.len(), true)]);
        for (count, (at, space)) in (0_u64..).zip(characters) {
            if space && in_word {
                let end = u128::from(length) * u128::from(count) / u128::from(chars);
                if end > u128::from(offset.count()) {
                    break;
                }
                heard = at;
            }
            in_word = !space;
        }
        &text[..heard]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(end_char: u32, millis: u64) -> WordTiming {
        WordTiming {
            end_char,
            end: Samples::from_millis(millis),
            estimated: false,
        }
    }

    #[test]
    fn words_count_when_their_end_has_been_heard() {
        let mut ledger = Ledger::default();
        ledger.begin("Good morning.");
        ledger.audio(Samples::from_millis(1_000));
        ledger.words(&[word(4, 300), word(13, 900), word(2, 950), word(99, 990)]);
        ledger.complete();
        ledger.begin("How are you?");
        ledger.audio(Samples::from_millis(800));
        ledger.words(&[word(3, 200), word(7, 400), word(12, 700)]);
        let heard = |millis| ledger.heard_text(Samples::from_millis(millis));
        assert_eq!(heard(299), "");
        assert_eq!(heard(300), "Good");
        assert_eq!(heard(1_000), "Good morning.");
        assert_eq!(heard(1_200), "Good morning. How");
        assert_eq!(heard(1_699), "Good morning. How are");
        assert_eq!(heard(9_999), "Good morning. How are you?");
        assert_eq!(ledger.ready(), Samples::from_millis(1_800));
        assert_eq!(ledger.last_start(), Samples::from_millis(1_000));
    }

    #[test]
    fn without_times_characters_are_counted() {
        let mut ledger = Ledger::default();
        ledger.begin("Grüße an alle");
        ledger.audio(Samples::from_millis(1_300));
        ledger.complete();
        let heard = |millis| ledger.heard_text(Samples::from_millis(millis));
        assert_eq!(heard(490), "");
        assert_eq!(heard(500), "Grüße");
        assert_eq!(heard(800), "Grüße an");
        assert_eq!(heard(1_299), "Grüße an");
        assert_eq!(heard(1_300), "Grüße an alle");
    }

    #[test]
    fn what_is_begun_again_has_no_audio() {
        let mut ledger = Ledger::default();
        ledger.begin("Hello");
        ledger.audio(Samples::from_millis(100));
        ledger.restart();
        assert_eq!(ledger.ready(), Samples::ZERO);
    }
}
