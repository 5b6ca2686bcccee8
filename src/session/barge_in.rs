//! Barge-in: whether speech during a reply is an interruption, a "mhm", or nothing.

use std::time::Duration;

use crate::call::BargeIn;

/// The reply is lowered after this much speech: two frames of a VAD, so that one click does not touch it.
pub(crate) const DUCK_AFTER: Duration = Duration::from_millis(40);

/// It is raised again when an unconfirmed interruption has been silent for this long.
pub(crate) const RAISE_AFTER: Duration = Duration::from_millis(250);

/// So many words that are no backchannel are an interruption, however short they were.
const CLEAR_WORDS: usize = 2;

/// What listeners say to show that they listen (Yngve 1970; the commonest in the Switchboard corpus). All of it together is
/// still no wish to speak.
const BACKCHANNEL: [&str; 32] = [
    "ah",
    "aha",
    "alright",
    "cool",
    "exactly",
    "good",
    "great",
    "hm",
    "hmm",
    "huh",
    "i",
    "interesting",
    "mhm",
    "mm",
    "mmhm",
    "nice",
    "oh",
    "ok",
    "okay",
    "really",
    "right",
    "see",
    "sure",
    "uh",
    "uhhuh",
    "uhuh",
    "um",
    "understand",
    "wow",
    "yeah",
    "yep",
    "yes",
];

/// The words of a text: lower case, without punctuation.
pub(crate) fn words(text: &str) -> impl Iterator<Item = String> {
    text.split_whitespace()
        .map(|word| {
            word.chars()
                .filter(|character| character.is_alphanumeric())
                .flat_map(char::to_lowercase)
                .collect::<String>()
        })
        .filter(|word| !word.is_empty())
}

fn is_backchannel_word(word: &str) -> bool {
    BACKCHANNEL.contains(&word)
}

/// Whether a text has words, and all of them only show that somebody listens.
pub(crate) fn is_backchannel(text: &str) -> bool {
    let mut words = words(text).peekable();
    words.peek().is_some() && words.all(|word| is_backchannel_word(&word))
}

/// Whether speech of this length with these words so far stops the reply.
pub(crate) fn confirms(speech: Duration, text: &str, settings: &BargeIn) -> bool {
    let clear_words = words(text).filter(|word| !is_backchannel_word(word)).count();
    if clear_words >= CLEAR_WORDS {
        return true;
    }
    speech >= Duration::from_millis(settings.confirm_ms.into()) && !is_backchannel(text)
}

/// Whether two texts have the same words.
pub(crate) fn same_words(one: &str, other: &str) -> bool {
    words(one).eq(words(other))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::Settings;

    #[test]
    fn listeners_are_recognised() {
        for text in ["mhm", "Uh-huh.", "Yeah, yeah!", "oh okay I see", "Right."] {
            assert!(is_backchannel(text), "{text}");
        }
        for text in ["", "...", "stop", "yeah but wait", "no"] {
            assert!(!is_backchannel(text), "{text}");
        }
    }

    #[test]
    fn duration_and_words_confirm() {
        let settings = Settings::default().barge_in;
        let millis = Duration::from_millis;
        assert!(!confirms(millis(190), "", &settings));
        assert!(confirms(millis(200), "", &settings), "no words need not mean no speech");
        assert!(confirms(millis(200), "stop", &settings));
        assert!(!confirms(millis(900), "uh-huh yeah", &settings));
        assert!(confirms(millis(120), "please stop", &settings));
        assert!(!confirms(millis(120), "yeah wait", &settings));
    }

    #[test]
    fn words_are_compared_without_dress() {
        assert!(same_words("Good morning.", "good  morning"));
        assert!(!same_words("good morning", "good morning all"));
    }
}
