//! How many words of a sentence were understood.

/// What is spoken for a try: common words, no numbers (which recognisers write in different ways), no comma at which a turn could end.
/// PocketSphinx, the weakest recogniser that is here, was measured on it: of its nine words it understands seven to nine from each of Flite's
/// voices, that of 8 kHz included, and with its fast model six.
pub(super) const SENTENCE: &str = "We are going to the market in the morning.";
/// So many of its words must be understood, more than half: some that are mistaken are no sign that a backend doesn't work.
pub(super) const NEEDED: usize = 5;

/// How far two texts agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Agreement {
    /// Words that were understood; each that is too many costs one.
    pub(super) right: usize,
    /// Words that were said.
    pub(super) of: usize,
}

/// The words of `text`, without their case and without punctuation.
fn words(text: &str) -> Vec<String> {
    text.to_lowercase()
        .split(|letter: char| !letter.is_alphanumeric() && letter != '\'')
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect()
}

/// How many words of `said` are in `understood`: those of `said` less the words that must be put in, taken out or replaced to make one of the
/// other (Levenshtein's distance over words).
pub(super) fn agreement(said: &str, understood: &str) -> Agreement {
    let (said, understood) = (words(said), words(understood));
    let mut row: Vec<usize> = (0..=understood.len()).collect();
    for (index, word) in said.iter().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], index + 1);
        for (column, other) in understood.iter().enumerate() {
            let replaced = diagonal + usize::from(word != other);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(row[column] + 1).min(diagonal + 1);
        }
    }
    let errors = row.last().copied().unwrap_or(said.len());
    Agreement {
        right: said.len().saturating_sub(errors),
        of: said.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_counted_without_case_and_punctuation() {
        for (understood, right) in [
            ("We are going to the market in the morning.", 9),
            ("we are going to the market in the morning", 9),
            ("we are going to the marked in the morning", 8),
            ("we are going to the market", 6),
            ("well we are going to the market in the morning", 8),
            ("", 0),
            ("what on earth does anybody mean by all of that", 0),
        ] {
            let found = agreement(SENTENCE, understood);
            assert_eq!((found.right, found.of), (right, 9), "{understood}");
        }
        assert_eq!(agreement("", "something").right, 0);
    }

    #[test]
    fn most_of_the_sentence_is_needed() {
        let of = agreement(SENTENCE, "").of;
        assert!((NEEDED..NEEDED * 2).contains(&of));
    }
}
