//! The sentence chunker: cuts the reply, while it is being written, into clauses that can be spoken. The first is short,
//! because somebody is waiting for it.

use serde::{Deserialize, Serialize};

use crate::pii::Pii;

/// No clause is longer, in characters: some eight seconds of speech, beyond which an interruption wastes much synthesis.
const LONGEST: usize = 120;

/// The first clause may end at a comma when it has at least so many words and characters: "Well," alone sounds chopped.
const FIRST_WORDS: usize = 2;
const FIRST_CHARS: usize = 8;

/// The first clause ends after so many words, whatever they are.
const FIRST_AT_MOST_WORDS: usize = 10;

/// A full stop after these never ends a sentence.
const ABBREVIATIONS: [&str; 31] = [
    "approx", "ca", "capt", "cf", "col", "dept", "dr", "e.g", "eg", "est", "fig", "ft", "gen", "hr", "i.e", "ie", "lt",
    "mr", "mrs", "ms", "mt", "no", "nr", "prof", "rep", "sen", "sgt", "st", "vol", "vs", "z.b",
];

/// A full stop after these ends a sentence only where the next one visibly begins.
const ENDING_ABBREVIATIONS: [&str; 14] = [
    "a.m", "am", "bros", "co", "corp", "etc", "inc", "jr", "ltd", "p.m", "pm", "sr", "u.k", "u.s",
];

/// Cuts text into clauses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Chunker {
    buffer: Pii<String>,
    begun: bool,
    ended: bool,
}

/// Whether a full stop (or the like) ends a sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Boundary {
    Yes,
    No,
    /// It depends on what comes next.
    Unknown,
}

impl Chunker {
    /// More text has been written.
    pub(crate) fn push(&mut self, text: &str) {
        self.buffer.expose_mut().push_str(text);
    }

    /// No more text comes.
    pub(crate) fn end(&mut self) {
        self.ended = true;
    }

    /// Whether everything has been taken, and no more comes.
    pub(crate) fn is_over(&self) -> bool {
        self.ended && self.buffer.expose().is_empty()
    }

    /// The next clause, if one is complete: without markup, and never without a word.
    pub(crate) fn take(&mut self) -> Option<String> {
        while let Some(cut) = find_cut(self.buffer.expose(), !self.begun, self.ended) {
            let clause = speakable(&self.buffer.expose()[..cut]);
            self.buffer.expose_mut().drain(..cut);
            if clause.chars().any(char::is_alphanumeric) {
                self.begun = true;
                return Some(clause);
            }
        }
        if self.ended {
            self.buffer.expose_mut().clear();
        }
        None
    }
}

const fn is_closing(character: char) -> bool {
    matches!(character, '"' | '\'' | ')' | ']' | '”' | '’' | '»' | '*' | '_' | '`')
}

/// Where the first clause of `text` ends, in bytes.
fn find_cut(text: &str, first: bool, ended: bool) -> Option<usize> {
    let mut characters = text.char_indices().peekable();
    let (mut count, mut words) = (0_usize, 0_usize);
    let (mut comma, mut space) = (None, None);
    let mut in_word = false;
    while let Some((at, character)) = characters.next() {
        count += 1;
        let mut after = at + character.len_utf8();
        match character {
            '\n' if !text[..at].trim().is_empty() => return Some(after),
            '。' | '！' | '？' => return Some(after),
            '.' | '!' | '?' | '…' => {
                while let Some((next_at, next)) =
                    characters.next_if(|(_, next)| matches!(next, '.' | '!' | '?' | '…') || is_closing(*next))
                {
                    after = next_at + next.len_utf8();
                    count += 1;
                    if count >= LONGEST {
                        break;
                    }
                }
                match boundary(text, at, after, ended) {
                    Boundary::Yes => return Some(after),
                    Boundary::Unknown => return None,
                    Boundary::No => in_word = true,
                }
            }
            ',' | ';' | ':' | '–' | '—' => {
                in_word = false;
                if characters.peek().is_some_and(|(_, next)| next.is_whitespace()) {
                    comma = Some(after);
                    // The word before the comma has not been counted: it has not met its space yet.
                    if first && words + 1 >= FIRST_WORDS && count >= FIRST_CHARS {
                        return Some(after);
                    }
                    in_word = true;
                }
            }
            _ if character.is_whitespace() => {
                if in_word {
                    words += 1;
                    space = Some(after);
                    if first && words >= FIRST_AT_MOST_WORDS {
                        return Some(after);
                    }
                }
                in_word = false;
            }
            _ => in_word = true,
        }
        if count >= LONGEST {
            return comma.or(space).or(Some(after));
        }
    }
    (ended && !text.is_empty()).then_some(text.len())
}

/// Whether the stop at `at`, whose run of stops and quotes ends at `after`, ends a sentence.
fn boundary(text: &str, at: usize, after: usize, ended: bool) -> Boundary {
    let rest = &text[after..];
    let Some(next) = rest.chars().next() else {
        return if ended { Boundary::Yes } else { Boundary::Unknown };
    };
    if !next.is_whitespace() {
        return Boundary::No;
    }
    // A new line is visible whatever stands on it.
    let line_ends = rest.trim_start_matches([' ', '\t', '\r']).starts_with('\n');
    let begins = match rest.trim_start().chars().next() {
        _ if line_ends => Boundary::Yes,
        Some(next) if next.is_lowercase() => Boundary::No,
        Some(_) => Boundary::Yes,
        None if ended => Boundary::Yes,
        None => Boundary::Unknown,
    };
    let stops = &text[at..after];
    if stops.starts_with("..") || stops.starts_with('…') {
        return begins;
    }
    if !stops.starts_with('.') {
        return Boundary::Yes;
    }
    let word = text[..at]
        .rsplit(char::is_whitespace)
        .next()
        .unwrap_or_default()
        .trim_start_matches(|character: char| !character.is_alphanumeric());
    let lower = word.to_lowercase();
    let mut letters = word.chars();
    let initial =
        matches!((letters.next(), letters.next()), (Some(letter), None) if letter.is_uppercase() && letter != 'I');
    let list_number = !word.is_empty()
        && word.chars().all(|character| character.is_ascii_digit())
        && text[..at]
            .trim_start()
            .chars()
            .all(|character| character.is_ascii_digit());
    if initial || list_number || ABBREVIATIONS.contains(&lower.as_str()) {
        Boundary::No
    } else if ENDING_ABBREVIATIONS.contains(&lower.as_str()) {
        begins
    } else {
        Boundary::Yes
    }
}

/// Symbols that a synthesiser would read out or stumble over: emoji, pictographs, arrows, joiners, variation selectors.
const fn is_symbol(character: char) -> bool {
    matches!(character,
        '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{2190}'..='\u{21ff}'
        | '\u{2300}'..='\u{23ff}' | '\u{2500}'..='\u{27bf}' | '\u{2b00}'..='\u{2bff}' | '\u{fe00}'..='\u{fe0f}'
        | '\u{feff}' | '\u{1f000}'..='\u{1faff}' | '\u{e0000}'..='\u{e007f}' | '\u{fffd}')
}

/// The clause without markup and symbols, white space collapsed. Of a link only its words stay.
fn speakable(clause: &str) -> String {
    let mut spoken = String::with_capacity(clause.len());
    let mut characters = clause.chars().peekable();
    let mut line_start = true;
    let mut previous = ' ';
    while let Some(character) = characters.next() {
        let next = characters.peek().copied().unwrap_or(' ');
        let dropped = match character {
            '*' | '`' | '~' | '[' => true,
            '_' => !(previous.is_alphanumeric() && next.is_alphanumeric()),
            '#' | '>' => line_start,
            '-' | '+' | '•' => line_start && next.is_whitespace(),
            ']' => {
                if next == '(' {
                    for skipped in characters.by_ref() {
                        if skipped == ')' {
                            break;
                        }
                    }
                }
                true
            }
            _ => is_symbol(character),
        };
        let blank = character.is_whitespace() || character.is_control() || character == '|';
        if character == '\n' {
            line_start = true;
        } else if !dropped && !blank {
            line_start = false;
        }
        if blank {
            if !spoken.is_empty() && !spoken.ends_with(' ') {
                spoken.push(' ');
            }
        } else if !dropped {
            spoken.push(character);
        }
        previous = character;
    }
    spoken.truncate(spoken.trim_end().len());
    spoken
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All clauses of a text that is written in pieces of `size` characters, taken as soon as they are there.
    fn clauses(text: &str, size: usize) -> Vec<String> {
        let mut chunker = Chunker::default();
        let mut clauses = Vec::new();
        let characters: Vec<char> = text.chars().collect();
        for piece in characters.chunks(size) {
            chunker.push(&piece.iter().collect::<String>());
            while let Some(clause) = chunker.take() {
                clauses.push(clause);
            }
        }
        chunker.end();
        while let Some(clause) = chunker.take() {
            clauses.push(clause);
        }
        assert!(chunker.is_over());
        clauses
    }

    #[test]
    fn sentences() {
        for (text, expected) in [
            ("Good morning. How are you?", &["Good morning.", "How are you?"][..]),
            (
                "It costs 3.5 euros at example.com/tea. Shall I order?",
                &["It costs 3.5 euros at example.com/tea.", "Shall I order?"],
            ),
            (
                "Dr. Smith met J. Doe at St. Mary. Yes.",
                &["Dr. Smith met J. Doe at St. Mary.", "Yes."],
            ),
            (
                "At 5 p.m. we eat. At 6 p.m. We sleep.",
                &["At 5 p.m. we eat.", "At 6 p.m.", "We sleep."],
            ),
            ("Well... maybe. Hm... No.", &["Well... maybe.", "Hm...", "No."]),
            (
                "\"Stop!\" he said. (Really.) Now",
                &["\"Stop!\"", "he said.", "(Really.)", "Now"],
            ),
            ("One line\nanother line\n\nlast", &["One line", "another line", "last"]),
            ("你好。再见。", &["你好。", "再见。"]),
            ("Nothing ends this", &["Nothing ends this"]),
            (" \n ", &[]),
            ("...", &[]),
        ] {
            for size in [1, 3, 1000] {
                assert_eq!(clauses(text, size), expected, "in pieces of {size}");
            }
        }
    }

    #[test]
    fn the_first_clause_is_short() {
        for size in [1, 7, 1000] {
            assert_eq!(
                clauses(
                    "Well, of course, I can do that for you, if you wish. Shall I, now?",
                    size
                ),
                [
                    "Well, of course,",
                    "I can do that for you, if you wish.",
                    "Shall I, now?"
                ]
            );
            assert_eq!(
                clauses("one two three four five six seven eight nine ten eleven twelve", size),
                ["one two three four five six seven eight nine ten", "eleven twelve"]
            );
        }
    }

    #[test]
    fn markup_is_not_spoken() {
        for (text, expected) in [
            ("**Bold** and `code` 😀 text.", "Bold and code text."),
            ("# Title\n", "Title"),
            ("- see [the page](https://a.b/c) now.", "see the page now."),
            ("snake_case is _not_ markup.", "snake_case is not markup."),
            ("1. First thing.", "1. First thing."),
            ("two - one is one.", "two - one is one."),
        ] {
            assert_eq!(clauses(text, 1000), [expected]);
        }
    }

    #[test]
    fn no_clause_is_too_long() {
        let word = "word ".repeat(100);
        let commas = "some words, ".repeat(50);
        let run = "x".repeat(1_000);
        let dots = ".".repeat(1_000);
        for text in [&word, &commas, &run, &dots] {
            for clause in clauses(text, 50) {
                assert!(clause.chars().count() <= LONGEST, "{clause}");
            }
        }
        assert_eq!(clauses(&run, 50).concat(), run);
    }

    #[test]
    fn no_word_is_lost() {
        let text = "First, e.g. this; then that: 1.5 or 2? Mr. X said no... Then, etc. And so on and on, until the \
                    very end of it all, which is far away, as everybody who was there knew very well already!";
        let plain = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        for size in [1, 2, 5, 40, 1000] {
            assert_eq!(plain(&clauses(text, size).join(" ")), plain(text));
        }
    }
}
