//! Which phonemes a model was trained on where they aren't quite espeak-ng's.

/// Whose phonemes a model takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// espeak-ng's (Piper, Kitten, Matcha).
    Espeak,
    /// Those of Kokoro before 1.0: espeak-ng's, with a few signs for others.
    EarlyKokoro,
    /// Those of Kokoro 1.0 and later, whose own phonemizer (misaki) writes diphthongs and affricates with one sign each.
    Kokoro,
}

/// What ties letters that are one sound, where it's asked for: only so is an affricate told from two sounds that meet.
pub(crate) const TIE: char = '^';

/// As Kokoro's first phonemizer did (its `kokoro.py`).
const EARLY: [(&str, &str); 4] = [("ʲ", "j"), ("r", "ɹ"), ("x", "k"), ("ɬ", "l")];

/// For English, after the table of misaki's fall-back to espeak-ng (its `espeak.py`). Longer ones come first.
const ENGLISH: [(&str, &str); 25] = [
    ("ʔˌn\u{329}", "tᵊn"),
    ("ʔn\u{329}", "tᵊn"),
    ("n\u{329}", "ᵊn"),
    ("l\u{329}", "ᵊl"),
    ("m\u{329}", "ᵊm"),
    ("a^ɪ", "I"),
    ("a^ʊ", "W"),
    ("d^ʒ", "ʤ"),
    ("e^ɪ", "A"),
    ("e^ə", "ɛː"),
    ("t^ʃ", "ʧ"),
    ("ɔ^ɪ", "Y"),
    ("ə^l", "ᵊl"),
    ("ə^ʊ", "Q"),
    ("o^ʊ", "O"),
    ("ʔn", "tᵊn"),
    ("e", "A"),
    ("r", "ɹ"),
    ("x", "k"),
    ("ç", "k"),
    ("ɐ", "ə"),
    ("ɚ", "əɹ"),
    ("ɬ", "l"),
    ("ʔ", "t"),
    ("ʲ", ""),
];

/// What is different in American English: long vowels aren't marked, and a tap is a sign of its own.
const AMERICAN: [(&str, &str); 5] = [("ɜːɹ", "ɜɹ"), ("ɜː", "ɜɹ"), ("ɪ^ə", "iə"), ("ː", ""), ("ɾ", "T")];

/// What is different in British English.
const BRITISH: [(&str, &str); 1] = [("i^ə", "ɪə")];

/// Of espeak-ng before 1.52.
const OLD: [(&str, &str); 1] = [("o", "ɔ")];

/// For other languages.
const OTHERS: [(&str, &str); 10] = [
    ("a^ɪ", "I"),
    ("a^ʊ", "W"),
    ("d^z", "ʣ"),
    ("d^ʒ", "ʤ"),
    ("e^ɪ", "A"),
    ("o^ʊ", "O"),
    ("ə^ʊ", "Q"),
    ("t^s", "ʦ"),
    ("t^ʃ", "ʧ"),
    ("ɔ^ɪ", "Y"),
];

impl Dialect {
    /// Whether espeak-ng has to tie what is one sound.
    pub(crate) fn is_tied(self) -> bool {
        self == Self::Kokoro
    }

    /// The phonemes of espeak-ng's `voice`, in this dialect.
    pub(crate) fn of(self, voice: &str, phonemes: String) -> String {
        let tables: &[&[(&str, &str)]] = match self {
            Self::Espeak => return phonemes,
            Self::EarlyKokoro => &[&EARLY],
            Self::Kokoro if voice.starts_with("en-us") || voice == "en" => &[&ENGLISH, &AMERICAN, &OLD],
            Self::Kokoro if voice.starts_with("en") => &[&ENGLISH, &BRITISH, &OLD],
            Self::Kokoro => &[&OTHERS],
        };
        let mut phonemes = phonemes;
        for (from, to) in tables.iter().copied().flatten() {
            phonemes = phonemes.replace(from, to);
        }
        phonemes.replace([TIE, '\u{329}'], "")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kokoros_english_has_one_sign_for_what_is_one_sound() {
        let american = |phonemes: &str| Dialect::Kokoro.of("en-us", phonemes.into());
        assert_eq!(american("bˈɜːd d^ʒˈɔ^ɪ dˈe^ɪ"), "bˈɜɹd ʤˈY dˈA");
        assert_eq!(american("həlˈo^ʊ lˈɪɾə^l fˈa^ɪ^ɚɹ"), "həlˈO lˈɪTᵊl fˈIəɹɹ");
        assert_eq!(american("bˈʌʔn\u{329} kˈætʃ"), "bˈʌtᵊn kˈætʃ");
        let british = |phonemes: &str| Dialect::Kokoro.of("en-gb", phonemes.into());
        assert_eq!(british("bˈɜːd həlˈə^ʊ t^ʃˈe^ə nˌi^ə"), "bˈɜːd həlˈQ ʧˈɛː nˌɪə");
    }

    #[test]
    fn others_are_left_as_they_are() {
        assert_eq!(Dialect::Kokoro.of("es", "mut^ʃˈat^ʃo ðjˈa".into()), "muʧˈaʧo ðjˈa");
        assert_eq!(Dialect::EarlyKokoro.of("en-us", "dʒˈɔɪ rˈoʊ".into()), "dʒˈɔɪ ɹˈoʊ");
        assert_eq!(Dialect::Espeak.of("en-us", "dʒˈɔɪ".into()), "dʒˈɔɪ");
    }
}
