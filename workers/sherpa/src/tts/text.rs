//! Text on its way to a model: cut into pieces that are spoken one at a time, each with its words.
//!
//! A model of these kinds computes a piece at once, so its length decides how long the listener waits for the first sound, for
//! how long other streams wait, and how late a cancel is obeyed. Pieces end where a sentence ends. Only a sentence that is long
//! is cut at a comma or its like, where the voice pauses anyway.

use std::ops::Range;

/// A sentence up to this length, in characters, is a stream's first piece as it is; a longer one is cut at its first phrase. At
/// 15 characters a second it is four seconds of speech, which a small voice makes in half a second on one slow core.
const FIRST: usize = 60;

/// The longest piece, in characters: ten seconds of speech.
const LONGEST: usize = 160;

/// What is shorter isn't cut off a sentence: a phrase of a word or two sounds chopped.
const SHORTEST: usize = 16;

/// What is said at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    /// What is to be said, without characters that have no sound. One line.
    pub(crate) text: String,
    /// The words in it, where they are in the original text.
    pub(crate) words: Vec<Word>,
}

/// A word with the punctuation that clings to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Word {
    /// Its first character's place in the original text.
    pub(crate) start: usize,
    /// The place after its last character.
    pub(crate) end: usize,
    /// For how long it is said, compared with others: letters, and the pause after it.
    pub(crate) weight: u32,
}

/// A part of a piece between two marks of punctuation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Phrase {
    /// The words.
    pub(crate) text: String,
    /// What it ends with: one of `. , ; : ! ?`.
    pub(crate) end: Option<char>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Boundary {
    Sentence,
    Phrase,
}

/// Cuts a text. `first` says that nothing has been said before it. Pieces without a letter or digit are left out.
pub(crate) fn pieces(text: &str, first: bool) -> Vec<Piece> {
    let chars: Vec<char> = text.chars().collect();
    let ranges = cut(&chars, first);
    let pieces = ranges.into_iter().map(|range| piece(&chars, range));
    pieces
        .filter(|piece| piece.text.chars().any(char::is_alphanumeric))
        .collect()
}

fn cut(chars: &[char], first: bool) -> Vec<Range<usize>> {
    let boundaries = boundaries(chars);
    let mut ranges: Vec<Range<usize>> = Vec::new();
    let mut begin = 0;
    let sentence_ends = boundaries
        .iter()
        .filter(|(_, kind)| *kind == Boundary::Sentence)
        .map(|(at, _)| *at)
        .chain([chars.len()]);
    for end in sentence_ends {
        while end.saturating_sub(begin) > LONGEST.min(if first && ranges.is_empty() { FIRST } else { LONGEST }) {
            let mut phrases = boundaries
                .iter()
                .map(|(at, _)| *at)
                .filter(|at| (begin + SHORTEST..=(begin + LONGEST).min(end - SHORTEST)).contains(at));
            let phrase = if first && ranges.is_empty() {
                phrases.next()
            } else {
                phrases.next_back()
            };
            let at = match phrase {
                Some(at) => at,
                None if end - begin <= LONGEST => break,
                None => {
                    let longest = begin + LONGEST;
                    let space = (begin + SHORTEST..longest).rev().find(|at| chars[*at].is_whitespace());
                    space.unwrap_or(longest)
                }
            };
            ranges.push(begin..at);
            begin = at;
        }
        if begin < end {
            ranges.push(begin..end);
        }
        begin = end;
    }
    ranges
}

/// Where sentences and phrases end: the places after their punctuation.
fn boundaries(chars: &[char]) -> Vec<(usize, Boundary)> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < chars.len() {
        if chars[at] == '\n' {
            found.push((at + 1, Boundary::Sentence));
        }
        if punctuation(chars[at]).is_none() {
            at += 1;
            continue;
        }
        let mut end = at;
        let mut kind = Boundary::Phrase;
        while end < chars.len() && (punctuation(chars[end]).is_some() || closes(chars[end])) {
            if matches!(punctuation(chars[end]), Some('.' | '!' | '?')) {
                kind = Boundary::Sentence;
            }
            end += 1;
        }
        let stands_alone = end == chars.len() || chars[end].is_whitespace() || !chars[at].is_ascii();
        if stands_alone && !(chars[at] == '.' && end == at + 1 && is_abbreviated(chars, at)) {
            found.push((end, kind));
        }
        at = end;
    }
    found
}

/// Whether the full stop at `at` belongs to the word before it, and more of the sentence follows.
fn is_abbreviated(chars: &[char], at: usize) -> bool {
    if at + 1 == chars.len() {
        return false;
    }
    let begin = chars[..at]
        .iter()
        .rposition(|letter| letter.is_whitespace())
        .map_or(0, |space| space + 1);
    let word: String = chars[begin..at]
        .iter()
        .skip_while(|letter| !letter.is_alphanumeric())
        .flat_map(|letter| letter.to_lowercase())
        .collect();
    let length = word.chars().count();
    match word.as_str() {
        "dr" | "mr" | "mrs" | "ms" | "prof" | "st" | "sr" | "jr" | "vs" | "no" | "nr" | "approx" | "dept" | "bzw"
        | "ca" | "usw" | "hr" | "fr" | "sra" | "mme" | "mlle" => true,
        // Initials, such as J. Smith, and e.g.; ordinal numbers as German writes them, and those of lists.
        _ => length == 1 || word.contains('.') || (length == 2 && word.chars().all(|c| c.is_ascii_digit())),
    }
}

/// What a mark of punctuation is in the alphabet of the models; `None` for what is none.
fn punctuation(letter: char) -> Option<char> {
    match letter {
        '.' | '…' | '。' | '।' | '۔' | '．' => Some('.'),
        '!' | '！' | '¡' => Some('!'),
        '?' | '？' | '؟' | '¿' => Some('?'),
        ',' | '，' | '、' | '،' | '—' | '–' => Some(','),
        ';' | '；' | '؛' => Some(';'),
        ':' | '：' => Some(':'),
        _ => None,
    }
}

fn closes(letter: char) -> bool {
    matches!(letter, '"' | '\'' | '”' | '’' | '»' | ')' | ']' | '」' | '』' | '）')
}

/// Scripts that are written without spaces: each of their characters is a word of its own.
fn is_wide(letter: char) -> bool {
    matches!(letter, '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{2ffff}')
}

/// A character without sound, or one that phonemizers would take for a command or read out as its name.
fn is_silent(letter: char) -> bool {
    letter.is_control()
        || matches!(letter, '*' | '#' | '_' | '`' | '~' | '|' | '^' | '\\' | '[' | ']' | '{' | '}' | '<' | '>')
        // Marks of direction and joining, byte order, private use, emoji and their modifiers.
        || matches!(letter, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fe00}'..='\u{fe0f}')
        || matches!(letter, '\u{e000}'..='\u{f8ff}' | '\u{2600}'..='\u{27bf}' | '\u{1f000}'..='\u{1faff}' | '\u{e0000}'..)
}

fn piece(chars: &[char], range: Range<usize>) -> Piece {
    let mut text = String::new();
    for letter in &chars[range.clone()] {
        if letter.is_whitespace() || is_silent(*letter) {
            if !text.is_empty() && !text.ends_with(' ') {
                text.push(' ');
            }
        } else {
            text.push(match letter {
                '\u{2018}' | '\u{2019}' | '\u{02bc}' => '\'',
                other => *other,
            });
        }
    }
    text.truncate(text.trim_end().len());
    Piece {
        text,
        words: words(chars, range),
    }
}

fn words(chars: &[char], range: Range<usize>) -> Vec<Word> {
    let mut words: Vec<Word> = Vec::new();
    let mut open: Option<usize> = None;
    let mut close = |open: &mut Option<usize>, end: usize| {
        let Some(start) = open.take() else { return };
        let token = &chars[start..end];
        if token.iter().any(|letter| letter.is_alphanumeric()) {
            // The pause after a comma is about as long as two letters.
            let pause = if token.last().is_some_and(|last| punctuation(*last).is_some()) {
                2
            } else {
                0
            };
            let letters = u32::try_from(token.len()).unwrap_or(u32::MAX);
            words.push(Word {
                start,
                end,
                weight: letters.saturating_add(1 + pause),
            });
        }
    };
    for at in range.clone() {
        let letter = chars[at];
        if letter.is_whitespace() {
            close(&mut open, at);
        } else if open.is_none() {
            open = Some(at);
        } else if is_wide(letter) || open.is_some_and(|start| is_wide(chars[start]) && letter.is_alphanumeric()) {
            close(&mut open, at);
            open = Some(at);
        }
    }
    close(&mut open, range.end);
    words
}

/// The phrases of a piece, each without the punctuation around it.
pub(crate) fn phrases(text: &str) -> Vec<Phrase> {
    let chars: Vec<char> = text.chars().collect();
    let mut phrases = Vec::new();
    let mut begin = 0;
    let ends = boundaries(&chars).into_iter().map(|(at, _)| at);
    for end in ends.chain([chars.len()]) {
        let part = &chars[begin..end];
        begin = end;
        let Some(last) = part.iter().rposition(|letter| letter.is_alphanumeric()) else {
            continue;
        };
        // Of several, as in ?!, the first says most.
        let mark = part[last + 1..].iter().find_map(|letter| punctuation(*letter));
        let words: String = part[..part.len()]
            .iter()
            .enumerate()
            .filter(|(at, letter)| *at <= last || punctuation(**letter).is_none())
            .map(|(_, letter)| *letter)
            .collect();
        phrases.push(Phrase {
            text: words.trim().to_owned(),
            end: mark,
        });
    }
    phrases
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut_up(text: &str, first: bool) -> Vec<String> {
        pieces(text, first).into_iter().map(|piece| piece.text).collect()
    }

    #[test]
    fn sentences_are_pieces() {
        assert_eq!(
            cut_up("Hello there. How are you, today? \u{201c}Fine!\u{201d} he said…", true),
            [
                "Hello there.",
                "How are you, today?",
                "\u{201c}Fine!\u{201d}",
                "he said…"
            ]
        );
        assert_eq!(cut_up("你好。再见！", true), ["你好。", "再见！"]);
        assert_eq!(cut_up("", true), Vec::<String>::new());
        assert_eq!(cut_up(" — … ! \n 😀", true), Vec::<String>::new());
    }

    #[test]
    fn a_full_stop_in_a_word_ends_no_sentence() {
        for text in [
            "Dr. Smith and J. Doe pay 3.50, e.g. today.",
            "Am 24. Mai um 10.30 Uhr.",
            "Mail x@example.com now.",
        ] {
            assert_eq!(cut_up(text, true), [text]);
        }
    }

    #[test]
    fn a_long_first_sentence_begins_with_its_first_phrase_and_nothing_else_is_cut_early() {
        let text = "Well, if you look at the weather in Dublin today, you will find that it is sunny and warm.";
        assert_eq!(
            cut_up(text, true),
            [
                "Well, if you look at the weather in Dublin today,",
                "you will find that it is sunny and warm."
            ]
        );
        assert_eq!(cut_up(text, false), [text]);
    }

    #[test]
    fn no_piece_is_longer_than_it_may_be_and_no_letter_is_lost() {
        let sentence = "some words that go on and on, ".repeat(40);
        let run = "a".repeat(1000);
        for text in [&sentence, &run, &"word ".repeat(300)] {
            for first in [true, false] {
                let all = pieces(text, first);
                assert!(all.iter().all(|piece| piece.text.chars().count() <= LONGEST));
                let letters = |text: &str| text.chars().filter(|c| c.is_alphanumeric()).count();
                let said: usize = all.iter().map(|piece| letters(&piece.text)).sum();
                assert_eq!(said, letters(text));
            }
        }
    }

    #[test]
    fn words_are_where_they_are_in_the_original() {
        let text = "Well,  it’s “5” — (or so) 你好。 <b>!";
        let chars: Vec<char> = text.chars().collect();
        let all = pieces(text, true);
        let words: Vec<String> = all
            .iter()
            .flat_map(|piece| &piece.words)
            .map(|word| chars[word.start..word.end].iter().collect())
            .collect();
        assert_eq!(words, ["Well,", "it’s", "“5”", "(or", "so)", "你", "好。", "<b>!"]);
        assert_eq!(all[0].text, "Well, it's “5” — (or so) 你好。");
    }

    #[test]
    fn phrases_have_their_punctuation_in_the_models_alphabet() {
        let all = phrases("Well, “is it” (really)?! Yes：no—maybe; 3.14 and");
        let all: Vec<(&str, Option<char>)> = all.iter().map(|phrase| (phrase.text.as_str(), phrase.end)).collect();
        assert_eq!(
            all,
            [
                ("Well", Some(',')),
                ("“is it” (really)", Some('?')),
                ("Yes", Some(':')),
                ("no", Some(',')),
                ("maybe", Some(';')),
                ("3.14 and", None)
            ]
        );
    }
}
