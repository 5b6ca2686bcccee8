//! From the library's tokens to words with times. Times are in samples from the beginning of the decoded window.

use std::ops::Range;

/// A token, as it came out of a decode.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Token {
    /// A piece of text: bytes, since a character may be cut over several tokens.
    Text { bytes: Vec<u8>, probability: f32 },
    /// A time that the model wrote down: the end of a phrase, or the beginning of the next.
    Time(u64),
}

/// A word as it is written.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Word {
    /// Without spaces; its punctuation belongs to it.
    pub(crate) text: String,
    /// Whether a space goes before it. Chinese and others write without.
    pub(crate) spaced: bool,
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) probability: f32,
    /// Whether the model itself wrote down when it ends; other times are estimated from the sound.
    pub(crate) timed: bool,
}

impl Word {
    /// The word without what is written differently from one decode to the next.
    pub(crate) fn bare(&self) -> String {
        let letters: String = self
            .text
            .chars()
            .filter(|letter| letter.is_alphanumeric())
            .flat_map(char::to_lowercase)
            .collect();
        // Of what is only punctuation, that is all there is.
        if letters.is_empty() { self.text.clone() } else { letters }
    }
}

/// Writes words one after the other.
pub(crate) fn join<'a>(words: impl IntoIterator<Item = &'a Word>) -> String {
    let mut text = String::new();
    for word in words {
        if word.spaced && !text.is_empty() {
            text.push(' ');
        }
        text.push_str(&word.text);
    }
    text
}

/// The words of `tokens`. `voiced` are the stretches of the window in which there's sound, in order: words lie there.
pub(crate) fn words(tokens: &[Token], voiced: &[Range<u64>]) -> Vec<Word> {
    let whole = voiced.first().map_or(0, |first| first.start)..voiced.last().map_or(0, |last| last.end);
    let mut found = Vec::new();
    let mut phrase: Vec<(&[u8], f32)> = Vec::new();
    let mut begin = whole.start;
    for token in tokens {
        match token {
            Token::Text { bytes, probability } => phrase.push((bytes, *probability)),
            Token::Time(time) => {
                // Models write times that go backwards, or past the end of the audio.
                let time = (*time).clamp(begin, whole.end.max(begin));
                if !phrase.is_empty() {
                    place(&mut found, &phrase, begin..time, voiced);
                    phrase.clear();
                    if let Some(last) = found.last_mut() {
                        last.timed = true;
                    }
                }
                begin = time;
            }
        }
    }
    if !phrase.is_empty() {
        place(&mut found, &phrase, begin..whole.end.max(begin), voiced);
    }
    found
}

/// Splits a phrase into words, and gives each its share of the sound within `span`.
fn place(found: &mut Vec<Word>, phrase: &[(&[u8], f32)], span: Range<u64>, voiced: &[Range<u64>]) {
    let words = split(phrase);
    // A letter takes about as long as another, and each word a little by itself.
    let weight = |word: &Word| word.text.chars().filter(|letter| letter.is_alphanumeric()).count() as u64 + 1;
    let all: u64 = words.iter().map(weight).sum();
    let within: Vec<Range<u64>> = voiced
        .iter()
        .map(|stretch| stretch.start.max(span.start)..stretch.end.min(span.end))
        .filter(|stretch| !stretch.is_empty())
        .collect();
    let sound: u64 = within.iter().map(|stretch| stretch.end - stretch.start).sum();
    let mut before = 0;
    for mut word in words {
        let after = before + weight(&word);
        word.start = at(&within, sound * before / all, span.start, false);
        word.end = at(&within, sound * after / all, span.end, true).max(word.start);
        before = after;
        found.push(word);
    }
}

/// Where in time `amount` samples of sound have gone by; at the border of two stretches the end of the first or the start of the second.
fn at(stretches: &[Range<u64>], mut amount: u64, otherwise: u64, is_end: bool) -> u64 {
    for stretch in stretches {
        let length = stretch.end - stretch.start;
        if amount < length || (is_end && amount == length) {
            return stretch.start + amount;
        }
        amount -= length;
    }
    stretches.last().map_or(otherwise, |last| last.end)
}

/// Splits a phrase at its spaces, and where a script has none, between its tokens.
fn split(phrase: &[(&[u8], f32)]) -> Vec<Word> {
    let bytes: Vec<u8> = phrase.iter().flat_map(|(bytes, _)| bytes.iter().copied()).collect();
    let mut borders = Vec::new();
    let mut length = 0;
    for (bytes, probability) in phrase {
        borders.push((length, *probability));
        length += bytes.len();
    }
    let mut words: Vec<Word> = Vec::new();
    let mut counts: Vec<f32> = Vec::new();
    let mut after_space = false;
    let mut previous = None;
    let mut place = 0;
    for chunk in bytes.utf8_chunks() {
        // What is no character was cut off at the end of the decode, or is nonsense.
        for letter in chunk.valid().chars() {
            let here = place;
            place += letter.len_utf8();
            if letter.is_whitespace() || letter.is_control() {
                after_space = true;
                continue;
            }
            let border = borders.partition_point(|(start, _)| *start <= here) - 1;
            let (start, probability) = borders[border];
            let is_new = after_space
                || words.is_empty()
                || is_ideograph(letter)
                || (here == start && is_unspaced(letter))
                || (letter.is_alphanumeric() && previous.is_some_and(is_unspaced) && !is_unspaced(letter));
            if is_new {
                words.push(Word {
                    spaced: after_space || words.is_empty() && !is_unspaced(letter),
                    ..Word::default()
                });
                counts.push(0.0);
            }
            if let (Some(word), Some(count)) = (words.last_mut(), counts.last_mut()) {
                word.text.push(letter);
                word.probability += probability;
                *count += 1.0;
            }
            after_space = false;
            previous = Some(letter);
        }
        place += chunk.invalid().len();
    }
    for (word, count) in words.iter_mut().zip(counts) {
        word.probability /= count;
    }
    words
}

/// Chinese characters and Japanese syllables: each is a word of its own.
fn is_ideograph(letter: char) -> bool {
    matches!(letter, '\u{3040}'..='\u{30ff}' | '\u{31f0}'..='\u{31ff}' | '\u{3400}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{2fa1f}')
        && letter != 'ー'
}

/// Scripts that are written without spaces: beside those above Thai, Lao, Tibetan, Burmese and Khmer.
fn is_unspaced(letter: char) -> bool {
    is_ideograph(letter)
        || matches!(letter, 'ー' | '\u{0e00}'..='\u{0eff}' | '\u{0f00}'..='\u{0fff}' | '\u{1000}'..='\u{109f}' | '\u{1780}'..='\u{17ff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Range<u64> = 0..5_000;

    fn text(text: &str) -> Token {
        Token::Text {
            bytes: text.as_bytes().to_vec(),
            probability: 0.5,
        }
    }

    fn shown(words: &[Word]) -> Vec<(&str, u64, u64)> {
        words
            .iter()
            .map(|word| (word.text.as_str(), word.start, word.end))
            .collect()
    }

    #[test]
    fn words_are_split_at_spaces_and_scripts_without_them_between_characters() {
        for (tokens, expected, joined) in [
            (
                vec![" Hel", "lo", ",", " world", "."],
                vec!["Hello,", "world."],
                "Hello, world.",
            ),
            (
                vec![" It", "'s", " twenty", "-one"],
                vec!["It's", "twenty-one"],
                "It's twenty-one",
            ),
            (vec!["你好", "。", "我"], vec!["你", "好。", "我"], "你好。我"),
            (vec!["สวัส", "ดี", " ครับ"], vec!["สวัส", "ดี", "ครับ"], "สวัสดี ครับ"),
            (vec!["使用", "GPS", "で"], vec!["使", "用", "GPS", "で"], "使用GPSで"),
            (vec![" ", " "], vec![], ""),
        ] {
            let tokens: Vec<Token> = tokens.into_iter().map(text).collect();
            let words = words(&tokens, std::slice::from_ref(&WINDOW));
            let texts: Vec<&str> = words.iter().map(|word| word.text.as_str()).collect();
            assert_eq!(texts, expected);
            assert_eq!(join(&words), joined);
        }
    }

    #[test]
    fn characters_cut_over_tokens_are_put_together_and_half_ones_dropped() {
        let piece = |bytes: &[u8], probability| Token::Text {
            bytes: bytes.to_vec(),
            probability,
        };
        let tokens = [
            piece(b" gr\xc3", 1.0),
            piece(b"\xbc\xc3\x9f", 0.0),
            piece(b" f\xc3", 0.5),
        ];
        let words = words(&tokens, std::slice::from_ref(&WINDOW));
        assert_eq!(join(&words), "grüß f");
        assert!((words[0].probability - 0.75).abs() < 0.01, "{words:?}");
    }

    #[test]
    fn words_share_the_sound_of_their_phrase() {
        // Ten seconds (as samples / 1000), silent from 2 to 5, and from 9 on.
        let voiced = [0..2_000, 5_000..9_000];
        let tokens = [
            Token::Time(0),
            text(" abc"),
            text(" abc"),
            Token::Time(2_500),
            Token::Time(4_000),
            text(" abc"),
            text(" abc"),
            Token::Time(30_000),
        ];
        let placed = words(&tokens, &voiced);
        assert_eq!(
            shown(&placed),
            [
                ("abc", 0, 1_000),
                ("abc", 1_000, 2_000),
                ("abc", 5_000, 7_000),
                ("abc", 7_000, 9_000)
            ]
        );
        // Without times the pause still belongs to nobody.
        let tokens = [text(" abc"), text(" abcdefg")];
        assert_eq!(
            shown(&words(&tokens, &voiced)),
            [("abc", 0, 2_000), ("abcdefg", 5_000, 9_000)]
        );
    }

    #[test]
    fn times_that_make_no_sense_still_give_words_in_order() {
        let tokens = [
            Token::Time(9_000),
            text(" a"),
            Token::Time(100),
            text(" b"),
            text(" c"),
            Token::Time(50_000),
            text(" d"),
        ];
        for voiced in [std::slice::from_ref(&WINDOW), &[], &[100..101, 400..600]] {
            let placed = words(&tokens, voiced);
            assert_eq!(join(&placed), "a b c d");
            for pair in placed.windows(2) {
                assert!(
                    pair[0].start <= pair[0].end && pair[0].end <= pair[1].start,
                    "{placed:?}"
                );
            }
        }
    }
}
