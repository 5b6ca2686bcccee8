//! What a model is given for a piece of text: phonemes, letters, or the text itself.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;

use repartee_worker_shell::Failure;
use repartee_worker_shell::protocol::code;

use super::dialect::Dialect;
use super::espeak::Espeak;
use super::text::phrases;

/// How a voice is given its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Front {
    /// As phonemes of espeak-ng's voice of this name.
    Espeak(String),
    /// As letters, each a token.
    Letters,
    /// As it is: the library looks its words up in the model's lexicon.
    Text,
}

/// What espeak-ng or a letter of a text may write as one character, and voices know as two.
const DECOMPOSED: [(char, [char; 2]); 10] = [
    ('ç', ['c', '\u{327}']),
    ('ã', ['a', '\u{303}']),
    ('ẽ', ['e', '\u{303}']),
    ('ĩ', ['i', '\u{303}']),
    ('õ', ['o', '\u{303}']),
    ('ũ', ['u', '\u{303}']),
    ('ỹ', ['y', '\u{303}']),
    ('ä', ['a', '\u{308}']),
    ('ö', ['o', '\u{308}']),
    ('ü', ['u', '\u{308}']),
];

/// The most phonemes of one computation. Kokoro has a style for each length up to 510, and the others slow down with the square of it.
pub(crate) const LONGEST: usize = 300;

/// Makes phonemes. It keeps one `espeak-ng` for each language that was needed.
#[derive(Debug)]
pub(crate) struct Phonemizer {
    /// The tokens of the model; others are left out here, since the library would write a line for each.
    tokens: HashSet<char>,
    dialect: Dialect,
    longest: usize,
    data: Option<PathBuf>,
    running: BTreeMap<String, Espeak>,
}

impl Phonemizer {
    /// One for a model with these tokens, which takes at most `longest` at once.
    pub(crate) fn new(tokens: HashSet<char>, dialect: Dialect, longest: usize, data: Option<PathBuf>) -> Self {
        Self {
            tokens,
            dialect,
            longest: longest.clamp(1, LONGEST),
            data,
            running: BTreeMap::new(),
        }
    }

    /// Starts what a voice needs, so that a load finds out whether it's there.
    ///
    /// # Errors
    /// With the cause and the remedy.
    pub(crate) fn prepare(&mut self, voice: &str) -> Result<(), String> {
        if !self.running.contains_key(voice) {
            let espeak = Espeak::start(voice, self.data.as_deref(), self.dialect.is_tied())?;
            self.running.insert(voice.to_owned(), espeak);
        }
        Ok(())
    }

    /// The phonemes of a piece, in as many parts as it takes; none where nothing of it can be said.
    ///
    /// # Errors
    /// When espeak-ng has ended, and couldn't be started again.
    pub(crate) fn espeak(&mut self, voice: &str, text: &str) -> Result<Vec<Vec<i32>>, Failure> {
        let mut whole = String::new();
        for phrase in phrases(text) {
            let phonemes = self.ask(voice, &phrase.text)?;
            let phonemes = phonemes.trim();
            if phonemes.is_empty() {
                continue;
            }
            if !whole.is_empty() {
                whole.push(' ');
            }
            whole.push_str(phonemes);
            whole.extend(phrase.end);
        }
        Ok(self.tokens_of(&self.dialect.of(voice, whole)))
    }

    /// The letters of a piece.
    pub(crate) fn letters(&self, text: &str) -> Vec<Vec<i32>> {
        self.tokens_of(&text.to_lowercase())
    }

    fn ask(&mut self, voice: &str, phrase: &str) -> Result<String, Failure> {
        let failure = |reason: String| Failure::new(code::INTERNAL, reason);
        self.prepare(voice).map_err(failure)?;
        let running = self.running.get_mut(voice);
        match running.map(|espeak| espeak.phonemes(phrase)) {
            Some(Ok(phonemes)) => return Ok(phonemes),
            Some(Err(error)) => eprintln!("espeak-ng is started again: {error}"),
            None => {}
        }
        self.running.remove(voice);
        self.prepare(voice).map_err(failure)?;
        let espeak = self
            .running
            .get_mut(voice)
            .ok_or_else(|| failure("espeak-ng is gone".into()))?;
        espeak
            .phonemes(phrase)
            .map_err(|error| failure(format!("espeak-ng gave no phonemes: {error}")))
    }

    fn tokens_of(&self, phonemes: &str) -> Vec<Vec<i32>> {
        let mut known: Vec<char> = Vec::new();
        for letter in phonemes.chars() {
            let pair = DECOMPOSED.iter().find(|(whole, _)| *whole == letter);
            let letter = if letter.is_whitespace() { ' ' } else { letter };
            match pair {
                Some((_, pair)) if pair.iter().all(|part| self.tokens.contains(part)) => known.extend(pair),
                // Pad, begin and end are the library's to set.
                _ if self.tokens.contains(&letter) && !matches!(letter, '_' | '^' | '$') => known.push(letter),
                _ => {}
            }
        }
        let mut parts = Vec::new();
        let mut rest = known.as_slice();
        while !rest.is_empty() {
            let (part, more) = rest.split_at(if rest.len() <= self.longest {
                rest.len()
            } else {
                let space = rest[..self.longest].iter().rposition(|letter| *letter == ' ');
                space.map_or(self.longest, |space| space + 1)
            });
            rest = more;
            if part.iter().any(|letter| letter.is_alphabetic()) {
                parts.push(part.iter().map(|letter| u32::from(*letter) as i32).collect());
            }
        }
        parts
    }
}

#[cfg(test)]
mod tests {
    use super::super::espeak;
    use super::*;

    fn phonemizer(tokens: &str, dialect: Dialect, longest: usize) -> Phonemizer {
        Phonemizer::new(tokens.chars().collect(), dialect, longest, None)
    }

    fn read(parts: &[Vec<i32>]) -> Vec<String> {
        let letter = |code: &i32| char::from_u32(*code as u32).expect("a letter");
        parts.iter().map(|part| part.iter().map(letter).collect()).collect()
    }

    #[test]
    fn what_the_model_does_not_know_is_left_out() {
        let known = phonemizer("abc\u{327} _^$", Dialect::Espeak, 300);
        assert_eq!(read(&known.letters("A_b^\u{1f600}\tx ç$")), ["ab  c\u{327}"]);
        assert_eq!(read(&known.letters("xyz")), Vec::<String>::new());
        assert_eq!(read(&known.letters(" ")), Vec::<String>::new());
    }

    #[test]
    fn long_ones_are_parted_at_a_space() {
        let known = phonemizer("ab ", Dialect::Espeak, 5);
        assert_eq!(
            read(&known.letters("aa bb aaa bbbbbbbb")),
            ["aa ", "bb ", "aaa ", "bbbbb", "bbb"]
        );
    }

    #[test]
    fn phonemes_keep_the_punctuation_of_the_text() {
        assert!(
            espeak::is_there(),
            "espeak-ng is missing: workers/sherpa/setup.sh installs it"
        );
        let alphabet = "həloʊðɛɹæɡʤOjɪˈ,.!? ";
        let mut known = phonemizer(alphabet, Dialect::Espeak, 300);
        let parts = known.espeak("en-us", "Hello, there! — ?").expect("phonemes");
        assert_eq!(read(&parts), ["həlˈoʊ, ðˈɛɹ!"]);
        let mut kokoro = phonemizer(alphabet, Dialect::Kokoro, 300);
        assert_eq!(
            read(&kokoro.espeak("en-us", "Hello, Joe.").expect("phonemes")),
            ["həlˈO, ʤˈO."]
        );
        // It is started again when it was killed.
        known.running.get_mut("en-us").expect("it runs").kill();
        assert_eq!(read(&known.espeak("en-us", "Hello.").expect("phonemes")), ["həlˈoʊ."]);
        assert!(known.espeak("en-us", " … ").expect("nothing").is_empty());
        assert!(
            known
                .espeak("zz-none", "Hello")
                .expect_err("no such voice")
                .message
                .contains("zz-none")
        );
    }
}
