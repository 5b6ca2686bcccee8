//! What has been recognised, and what of it has been told. Pure.

use std::collections::VecDeque;

use repartee_protocol::vosk::{Alternative, Reply};

use crate::call::{CloseReason, Event};
use crate::id::TurnId;
use crate::pii::Pii;

/// Utterances that may wait to be told one by one; where there are more, they are told together.
const MOST: usize = 16;

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Utterances {
    /// Final texts that have not been told.
    untold: VecDeque<Pii<String>>,
    /// The words so far of the newest turn that has no final text.
    partial: Option<(TurnId, Pii<String>)>,
    /// The turn that is open.
    open: Option<TurnId>,
    /// Turns that have ended and have no final text yet.
    awaited: VecDeque<TurnId>,
    over: Option<CloseReason>,
}

impl Utterances {
    /// The session says this.
    pub(super) fn event(&mut self, event: Event) {
        match event {
            Event::SpeechStarted { turn, .. } => {
                self.open = Some(turn);
            }
            Event::SpeechStopped { turn, .. } if self.open == Some(turn) => {
                self.open = None;
                self.awaited.push_back(turn);
            }
            Event::Transcript {
                turn,
                text,
                is_final: false,
                ..
            } => self.partial = Some((turn, text)),
            Event::Transcript { turn, text, .. } => {
                self.partial.take_if(|(of, _)| *of <= turn);
                self.awaited.retain(|awaited| *awaited != turn);
                if !text.expose().trim().is_empty() {
                    self.untold.push_back(text);
                }
            }
            Event::Closed { reason } => self.over = Some(reason),
            _ => {}
        }
    }

    /// Whether somebody speaks, as far as is known.
    pub(super) const fn is_speaking(&self) -> bool {
        self.open.is_some()
    }

    /// Whether a turn has ended whose final text is still to come.
    pub(super) fn awaits_final(&self) -> bool {
        !self.awaited.is_empty()
    }

    /// Why the session is over, if it is.
    pub(super) const fn over(&self) -> Option<CloseReason> {
        self.over
    }

    /// Whether something has ended that was not told.
    pub(super) fn has_untold(&self) -> bool {
        !self.untold.is_empty()
    }

    /// What a message of audio is answered: the oldest utterance that has ended and was not told, or what is heard now. `as_list` where
    /// the client wants alternatives.
    pub(super) fn reply(&mut self, as_list: bool) -> Reply {
        if self.untold.len() > MOST {
            return self.last(as_list);
        }
        match self.untold.pop_front() {
            Some(text) => result(text.into_exposed(), as_list),
            None => {
                let partial = self.partial.as_ref().map_or("", |(_, text)| text.expose());
                Reply::Partial(partial.into())
            }
        }
    }

    /// What the end or a reset is answered: all that was not told.
    pub(super) fn last(&mut self, as_list: bool) -> Reply {
        let mut all = String::new();
        for text in self.untold.drain(..) {
            if !all.is_empty() {
                all.push(' ');
            }
            all.push_str(text.expose().trim());
        }
        self.partial = None;
        result(all, as_list)
    }
}

fn result(text: String, as_list: bool) -> Reply {
    if as_list {
        Reply::Alternatives(vec![Alternative {
            text: text.into(),
            confidence: None,
            words: Vec::new(),
        }])
    } else {
        Reply::Result {
            text: text.into(),
            words: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Samples;

    const FIRST: TurnId = TurnId::new(1);
    const SECOND: TurnId = TurnId::new(2);

    fn started(turn: TurnId) -> Event {
        Event::SpeechStarted {
            turn,
            at: Samples::ZERO,
        }
    }

    fn stopped(turn: TurnId) -> Event {
        Event::SpeechStopped {
            turn,
            at: Samples::ZERO,
        }
    }

    fn words(turn: TurnId, text: &str, is_final: bool) -> Event {
        Event::Transcript {
            turn,
            revision: 1,
            text: Pii::from(text),
            stable_chars: 0,
            is_final,
        }
    }

    fn told(utterances: &mut Utterances) -> String {
        utterances.reply(false).to_text().split_whitespace().collect()
    }

    #[test]
    fn what_is_known_is_told_and_nothing_twice() {
        let mut utterances = Utterances::default();
        assert_eq!(told(&mut utterances), r#"{"partial":""}"#);
        utterances.event(started(FIRST));
        utterances.event(words(FIRST, "one", false));
        assert!(utterances.is_speaking());
        assert_eq!(told(&mut utterances), r#"{"partial":"one"}"#);
        utterances.event(stopped(FIRST));
        assert!(utterances.awaits_final() && !utterances.is_speaking());
        assert_eq!(told(&mut utterances), r#"{"partial":"one"}"#);
        utterances.event(words(FIRST, "oneone", true));
        assert!(!utterances.awaits_final());
        assert_eq!(told(&mut utterances), r#"{"text":"oneone"}"#);
        assert_eq!(told(&mut utterances), r#"{"partial":""}"#);
    }

    #[test]
    fn two_that_end_between_two_replies_are_told_one_after_the_other() {
        let mut utterances = Utterances::default();
        for turn in [FIRST, SECOND] {
            utterances.event(started(turn));
            utterances.event(stopped(turn));
        }
        utterances.event(words(SECOND, "se", false));
        utterances.event(words(FIRST, "first", true));
        assert_eq!(told(&mut utterances), r#"{"text":"first"}"#);
        assert_eq!(told(&mut utterances), r#"{"partial":"se"}"#);
        utterances.event(words(SECOND, "second", true));
        assert_eq!(told(&mut utterances), r#"{"text":"second"}"#);
    }

    #[test]
    fn a_turn_without_words_is_no_result() {
        let mut utterances = Utterances::default();
        utterances.event(started(FIRST));
        utterances.event(stopped(FIRST));
        utterances.event(words(FIRST, " ", true));
        assert!(!utterances.awaits_final() && !utterances.has_untold());
        assert_eq!(told(&mut utterances), r#"{"partial":""}"#);
    }

    #[test]
    fn the_end_tells_all_that_was_not_told() {
        let mut utterances = Utterances::default();
        for text in ["a", " b ", "c"] {
            utterances.event(words(FIRST, text, true));
        }
        assert_eq!(told(&mut utterances), r#"{"text":"a"}"#);
        utterances.event(words(SECOND, "gone", false));
        assert_eq!(
            utterances.last(true).to_text().split_whitespace().collect::<String>(),
            r#"{"alternatives":[{"text":"bc"}]}"#
        );
        assert_eq!(
            utterances.last(false).to_text().split_whitespace().collect::<String>(),
            r#"{"text":""}"#
        );
        assert_eq!(told(&mut utterances), r#"{"partial":""}"#);
    }

    #[test]
    fn many_are_told_together() {
        let mut utterances = Utterances::default();
        for _ in 0..1_000 {
            utterances.event(words(FIRST, "x", true));
        }
        assert_eq!(told(&mut utterances).len(), r#"{"text":""}"#.len() + 1_000);
        assert!(!utterances.has_untold());
    }
}
