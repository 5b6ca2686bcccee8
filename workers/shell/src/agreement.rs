//! Which words of a growing hypothesis won't change any more, by agreement: a word that all of the last few
//! hypotheses have in the same place, with the same words before it, is called stable (local agreement, Liu et al. 2020).
//! For recognisers that look back, as most do.

use std::collections::VecDeque;

/// The last words of a hypothesis, which the decoder is still busy with.
const UNFINISHED: usize = 1;

/// The hypotheses of one utterance so far.
#[derive(Debug)]
pub struct Agreement {
    agreeing: usize,
    recent: VecDeque<Vec<String>>,
}

impl Agreement {
    /// So many successive hypotheses have to agree, at least one.
    pub fn of(agreeing: usize) -> Self {
        Self {
            agreeing: agreeing.max(1),
            recent: VecDeque::new(),
        }
    }

    /// Takes the newest hypothesis, and tells how many of its leading characters are stable: whole words with the spaces
    /// between them.
    pub fn stable_chars(&mut self, hypothesis: &str) -> u32 {
        let words: Vec<String> = hypothesis
            .split(' ')
            .filter(|word| !word.is_empty())
            .map(str::to_owned)
            .collect();
        let mut agreed = if self.recent.len() + 1 >= self.agreeing {
            words.len().saturating_sub(UNFINISHED)
        } else {
            0
        };
        for earlier in &self.recent {
            let same = earlier
                .iter()
                .zip(&words)
                .take_while(|(theirs, ours)| theirs == ours)
                .count();
            agreed = agreed.min(same);
        }
        let characters: usize = words[..agreed].iter().map(|word| word.chars().count()).sum();
        self.recent.push_back(words);
        if self.recent.len() >= self.agreeing {
            self.recent.pop_front();
        }
        u32::try_from(characters + agreed.saturating_sub(1)).unwrap_or(u32::MAX)
    }

    /// Forgets the utterance.
    pub fn reset(&mut self) {
        self.recent.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_become_stable_when_enough_hypotheses_agree() {
        const AGREEING: usize = 5;
        let mut agreement = Agreement::of(AGREEING);
        for _ in 0..AGREEING - 1 {
            assert_eq!(agreement.stable_chars("good mor"), 0);
        }
        assert_eq!(agreement.stable_chars("good morning"), 4, "the word before the last");
        for _ in 0..AGREEING - 2 {
            assert_eq!(agreement.stable_chars("good morning all"), 4);
        }
        assert_eq!(agreement.stable_chars("good morning all"), 12);
        assert_eq!(
            agreement.stable_chars("wood morning all"),
            0,
            "a word that changes takes what follows with it"
        );
        agreement.reset();
        assert_eq!(agreement.stable_chars("wood morning all"), 0);
        assert_eq!(agreement.stable_chars(""), 0);
    }
}
