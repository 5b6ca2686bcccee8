//! What a caller means, as far as words tell: whether he wants to end the call, and whether he has said anything at all.
//! English only, as the protocol has it.

/// What alone is enough, whatever stands around it.
const OUTRIGHT: [&str; 2] = ["hang up", "end call"];

/// A farewell that is talked about is no farewell: "say goodbye to my friend".
const FAREWELLS: [&str; 4] = ["goodbye", "bye", "thanks", "thank you"];
const TALKS_ABOUT: [&str; 6] = ["say", "said", "repeat", "reply", "respond", "answer"];
const TALKED_ABOUT: [&str; 5] = ["word", "phrase", "sentence", "response", "answer"];
const NEGATIONS: [&str; 3] = ["not", "don't", "didn't"];

/// Characters between a verb and the farewell that it talks about, at most.
const AFTER_VERB: usize = 32;
/// Characters between a farewell and what it is called, or between a negation and a farewell, at most.
const AROUND_FAREWELL: usize = 24;

/// One word counts as a whole word, several count anywhere.
const ENDINGS: [&str; 17] = [
    "no transcript",
    "no transcript needed",
    "don't send a transcript",
    "no thanks",
    "no thank you",
    "thank you",
    "thanks",
    "that's all",
    "nothing else",
    "end call",
    "hang up",
    "goodbye",
    "bye",
    "have a good day",
    "have a great day",
    "take care",
    "talk to you later",
];

/// Whether somebody who says this wants to end the call.
#[must_use]
pub fn ends_call(text: &str) -> bool {
    let text = normalized(text);
    if OUTRIGHT.iter().any(|phrase| text.contains(phrase)) {
        return true;
    }
    if is_talk_about_farewells(&text) {
        return false;
    }
    ENDINGS.iter().any(|phrase| {
        if phrase.contains(' ') {
            text.contains(phrase)
        } else {
            whole_words(&text, phrase).next().is_some()
        }
    })
}

/// Whether a result of a recogniser says too little to be answered: a stray article, or a sentence that ends in "um".
#[must_use]
pub fn says_too_little(text: &str) -> bool {
    const STRAY: [&str; 7] = ["a", "an", "the", "then", "uh", "um", "hmm"];
    const HESITATIONS: [&str; 3] = ["uh", "um", "hmm"];
    const FEW: usize = 4;
    if ends_call(text) {
        return false;
    }
    let text = normalized(text);
    let words: Vec<&str> = text
        .split_whitespace()
        .map(|word| word.trim_matches(|character: char| !character.is_alphanumeric()))
        .filter(|word| !word.is_empty())
        .collect();
    match words.as_slice() {
        [] => false,
        [word] => STRAY.contains(word),
        [.., last] => words.len() <= FEW && HESITATIONS.contains(last),
    }
}

/// Whether there is anything in a text that could be a word.
#[must_use]
pub fn says_something(text: &str) -> bool {
    text.chars().any(char::is_alphanumeric)
}

/// In small letters, with single spaces and straight apostrophes.
pub(super) fn normalized(text: &str) -> String {
    let small = text.to_lowercase().replace(['\u{2019}', '\u{2bc}'], "'");
    small.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn is_talk_about_farewells(text: &str) -> bool {
    follows(text, &TALKS_ABOUT, &FAREWELLS, AFTER_VERB)
        || follows(text, &FAREWELLS, &TALKED_ABOUT, AROUND_FAREWELL)
        || follows(text, &NEGATIONS, &FAREWELLS, AROUND_FAREWELL)
}

/// Whether one of `second` begins at most `gap` characters behind one of `first`.
fn follows(text: &str, first: &[&str], second: &[&str], gap: usize) -> bool {
    first.iter().any(|first| {
        whole_words(text, first).any(|start| {
            let rest = &text[start + first.len()..];
            // Everything that is looked for is shorter than this; the window keeps the search linear.
            const LONGEST: usize = 16;
            let window = rest
                .char_indices()
                .nth(gap + LONGEST)
                .map_or(rest, |(end, _)| &rest[..end]);
            second
                .iter()
                .any(|second| whole_words(window, second).any(|found| window[..found].chars().count() <= gap))
        })
    })
}

/// Where `phrase` stands in `text` with no letter or digit right before or behind it. In bytes.
fn whole_words<'a>(text: &'a str, phrase: &'a str) -> impl Iterator<Item = usize> + 'a {
    text.match_indices(phrase)
        .map(|(start, _)| start)
        .filter(move |&start| {
            let before = text[..start].chars().next_back();
            let after = text[start + phrase.len()..].chars().next();
            !before.is_some_and(char::is_alphanumeric) && !after.is_some_and(char::is_alphanumeric)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_wants_to_end_the_call() {
        for (text, expected) in [
            ("", false),
            ("goodbye", true),
            ("Goodbye!", true),
            ("  Okay,  BYE.  ", true),
            ("that's all", true),
            ("That\u{2019}s all", true),
            ("no thanks", true),
            ("thank you so much for your help", true),
            ("please hang up", true),
            ("don't hang up", true),
            ("you can end call now", true),
            ("have a great day", true),
            ("no transcript needed", true),
            ("talk to you later", true),
            ("nothing else", true),
            // A word within a word.
            ("the byelaws of the club", false),
            ("thanksgiving dinner for four", false),
            // Talk about farewells.
            ("say goodbye to everyone", false),
            ("he said thank you", false),
            ("can you repeat after me thanks", false),
            ("goodbye is a nice word", false),
            ("thank you is not a sentence", false),
            ("i did not say bye", false),
            ("i didn't mean goodbye", false),
            // Too far away to be about it.
            (
                "can you say how long the appointment will take altogether, thanks",
                true,
            ),
            ("that is not what i wanted to hear from you today but thanks", true),
            // Neither.
            ("what time is it", false),
            ("book a table for two", false),
        ] {
            assert_eq!(ends_call(text), expected, "{text}");
        }
    }

    #[test]
    fn who_has_said_too_little() {
        for (text, expected) in [
            ("", false),
            ("the", true),
            ("Um.", true),
            ("hmm", true),
            ("yes", false),
            ("no", false),
            ("i want uh", true),
            ("so i was um", true),
            ("i really would like uh", false),
            ("thanks um", false),
            ("um what time is it", false),
        ] {
            assert_eq!(says_too_little(text), expected, "{text}");
        }
        assert!(says_something("a") && says_something("да") && says_something("7"));
        assert!(!says_something("") && !says_something(" … !?"));
    }
}
