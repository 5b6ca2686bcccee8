//! The words of one turn: its segments, what of them is settled, and what has been shown of them.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::call::Event;
use crate::id::{Generation, TranscriptionId, TurnId};
use crate::pii::Pii;
use crate::time::{Samples, Time};

/// Segments that are waited for at the same time; where a recogniser is that far behind, the oldest is given up.
pub(crate) const MAX_SEGMENTS: usize = 8;

/// What a segment is waiting for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "at", rename_all = "snake_case")]
pub(crate) enum SegmentState {
    /// It is being recognised.
    Running,
    /// The recogniser is gone; it is asked again when there is one, but given up at this instant.
    Waiting {
        /// When.
        until: Time,
    },
    /// Its words are final, or it was given up.
    Over,
}

/// A stretch of a turn that is recognised by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Segment {
    /// The recognition that is going on; a retry has a new one.
    pub(crate) id: TranscriptionId,
    /// Its first sample.
    pub(crate) from: Samples,
    /// The sample after its last, once that is known.
    pub(crate) end: Option<Samples>,
    /// When we stop waiting for the final words, once they were asked for.
    pub(crate) deadline: Option<Time>,
    /// The deadline is never put off beyond this instant.
    pub(crate) latest: Option<Time>,
    /// The words so far.
    pub(crate) text: Pii<String>,
    /// Characters of them that stay.
    pub(crate) stable: u32,
    /// How often it was tried again.
    pub(crate) retries: u8,
    /// It is not to be asked for before this instant.
    pub(crate) not_before: Time,
    /// The recogniser that was loaded when it was asked for.
    pub(crate) generation: Option<Generation>,
    /// What it is waiting for.
    pub(crate) state: SegmentState,
}

/// The words of one turn.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Recognition {
    /// The language that was set when the turn began.
    pub(crate) language: Option<String>,
    /// At most so many characters.
    max_chars: u32,
    settled: Pii<String>,
    pub(crate) segments: VecDeque<Segment>,
    text: Pii<String>,
    stable_chars: u32,
    revision: u32,
    shown: Pii<String>,
    shown_stable: u32,
    /// When the words last changed.
    pub(crate) changed_at: Time,
    /// Whether the client was told that recognition failed.
    pub(crate) failure_told: bool,
}

fn joined(target: &mut String, words: &str) {
    let words = words.trim();
    if !words.is_empty() {
        if !target.is_empty() {
            target.push(' ');
        }
        target.push_str(words);
    }
}

/// `text` cut after `chars` characters.
pub(crate) fn truncated(text: &str, chars: usize) -> &str {
    text.char_indices().nth(chars).map_or(text, |(end, _)| &text[..end])
}

/// Characters as they are counted in events.
pub(crate) fn count_chars(text: &str) -> u32 {
    u32::try_from(text.chars().count()).unwrap_or(u32::MAX)
}

impl Recognition {
    /// Of a turn that begins now.
    pub(crate) fn new(language: Option<String>, max_chars: u32, now: Time) -> Self {
        Self {
            language,
            max_chars,
            settled: Pii::default(),
            segments: VecDeque::new(),
            text: Pii::default(),
            stable_chars: 0,
            revision: 0,
            shown: Pii::default(),
            shown_stable: 0,
            changed_at: now,
            failure_told: false,
        }
    }

    /// All words so far, the newest guess included.
    pub(crate) fn text(&self) -> &str {
        self.text.expose()
    }

    /// The segment whose recognition has this id, if it is going on.
    pub(crate) fn segment(&mut self, id: TranscriptionId) -> Option<&mut Segment> {
        self.segments
            .iter_mut()
            .find(|segment| segment.id == id && segment.state == SegmentState::Running)
    }

    /// A segment that waits for a recogniser goes on waiting until then.
    pub(crate) fn wait_on(&mut self, id: TranscriptionId, until: Time) {
        if let Some(segment) = self.segments.iter_mut().find(|segment| segment.id == id) {
            segment.state = SegmentState::Waiting { until };
        }
    }

    /// Whether no word can follow.
    pub(crate) fn is_over(&self) -> bool {
        self.segments.is_empty()
    }

    /// The first sample that is still needed.
    pub(crate) fn needed_from(&self) -> Option<Samples> {
        self.segments.front().map(|segment| segment.from)
    }

    /// Takes a segment's guess.
    pub(crate) fn guess(&mut self, id: TranscriptionId, text: &Pii<String>, stable: u32, now: Time) {
        let max_chars = self.max_chars;
        if let Some(segment) = self.segment(id) {
            segment.text = Pii::from(truncated(text.expose(), max_chars as usize));
            segment.stable = stable.min(count_chars(segment.text.expose()));
            self.refresh(now);
        }
    }

    /// A segment is over, with these words or with those that it had.
    pub(crate) fn settle(&mut self, id: TranscriptionId, text: Option<&Pii<String>>, now: Time) {
        let max_chars = self.max_chars;
        if let Some(segment) = self.segments.iter_mut().find(|segment| segment.id == id) {
            if let Some(text) = text {
                segment.text = Pii::from(truncated(text.expose(), max_chars as usize));
            }
            segment.stable = count_chars(segment.text.expose());
            segment.state = SegmentState::Over;
        }
        while let Some(segment) = self
            .segments
            .pop_front_if(|segment| segment.state == SegmentState::Over)
        {
            joined(self.settled.expose_mut(), segment.text.expose());
        }
        // A turn may go on for hours; of its words no more is kept than is told.
        let kept = truncated(self.settled.expose(), max_chars as usize).len();
        self.settled.expose_mut().truncate(kept);
        self.refresh(now);
    }

    /// Puts the whole text together again.
    fn refresh(&mut self, now: Time) {
        let mut text = self.settled.expose().clone();
        let mut stable_chars = count_chars(&text);
        for (index, segment) in self.segments.iter().enumerate() {
            let before = count_chars(&text);
            joined(&mut text, segment.text.expose());
            if index == 0 && segment.stable > 0 {
                let separator = u32::from(before > 0);
                let leading = count_chars(segment.text.expose()) - count_chars(segment.text.expose().trim_start());
                stable_chars = before + separator + segment.stable.saturating_sub(leading);
            }
        }
        let text = truncated(&text, self.max_chars as usize);
        self.stable_chars = stable_chars.min(count_chars(text));
        if self.text.expose() != text {
            self.text = Pii::from(text);
            self.changed_at = now;
        }
    }

    /// The event that tells the client of the words, if there is news. What was called stable is kept: a guess of
    /// another recogniser that contradicts it is held back until it agrees or is final.
    pub(crate) fn revise(&mut self, turn: TurnId, is_final: bool) -> Option<Event> {
        if !is_final {
            let kept = truncated(self.shown.expose(), self.shown_stable as usize);
            let news = self.text != self.shown || self.stable_chars > self.shown_stable;
            if !news || !self.text.expose().starts_with(kept) {
                return None;
            }
        }
        self.shown_stable = if is_final {
            count_chars(self.text.expose())
        } else {
            self.shown_stable.max(self.stable_chars)
        };
        self.shown.clone_from(&self.text);
        self.revision += 1;
        Some(Event::Transcript {
            turn,
            revision: self.revision,
            text: self.text.clone(),
            stable_chars: self.shown_stable,
            is_final,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(id: u64) -> Segment {
        Segment {
            id: TranscriptionId::new(id),
            from: Samples::new(id * 100),
            end: None,
            deadline: None,
            latest: None,
            text: Pii::default(),
            stable: 0,
            retries: 0,
            not_before: Time::ZERO,
            generation: None,
            state: SegmentState::Running,
        }
    }

    fn shown(event: Option<Event>) -> Option<(u32, String, u32, bool)> {
        let Some(Event::Transcript {
            revision,
            text,
            stable_chars,
            is_final,
            ..
        }) = event
        else {
            return None;
        };
        Some((revision, text.into_exposed(), stable_chars, is_final))
    }

    #[test]
    fn segments_are_joined_in_order() {
        let turn = TurnId::new(1);
        let mut words = Recognition::new(None, 100, Time::ZERO);
        let (one, two) = (TranscriptionId::new(1), TranscriptionId::new(2));
        words.segments.push_back(segment(1));
        words.guess(one, &Pii::from("good mor"), 4, Time::ZERO);
        assert_eq!(shown(words.revise(turn, false)), Some((1, "good mor".into(), 4, false)));
        words.segments.push_back(segment(2));
        words.guess(two, &Pii::from("how are"), 3, Time::ZERO);
        assert_eq!(
            shown(words.revise(turn, false)),
            Some((2, "good mor how are".into(), 4, false))
        );
        words.settle(two, Some(&Pii::from("how are you")), Time::ZERO);
        assert!(!words.is_over(), "the first is still to come");
        words.settle(one, Some(&Pii::from("good morning")), Time::ZERO);
        assert!(words.is_over());
        assert_eq!(
            shown(words.revise(turn, true)),
            Some((3, "good morning how are you".into(), 24, true))
        );
    }

    #[test]
    fn what_was_stable_is_kept_until_the_final_words() {
        let turn = TurnId::new(1);
        let mut words = Recognition::new(None, 100, Time::ZERO);
        let one = TranscriptionId::new(1);
        words.segments.push_back(segment(1));
        words.guess(one, &Pii::from("good morning"), 5, Time::ZERO);
        assert!(words.revise(turn, false).is_some());
        assert!(words.revise(turn, false).is_none(), "nothing new");
        words.guess(one, &Pii::from("could more"), 0, Time::ZERO);
        assert!(words.revise(turn, false).is_none(), "it contradicts");
        words.guess(one, &Pii::from("good mornings"), 0, Time::ZERO);
        assert_eq!(
            shown(words.revise(turn, false)),
            Some((2, "good mornings".into(), 5, false))
        );
        words.settle(one, Some(&Pii::from("could more")), Time::ZERO);
        assert_eq!(
            shown(words.revise(turn, true)),
            Some((3, "could more".into(), 10, true))
        );
    }

    #[test]
    fn the_text_is_bounded() {
        let mut words = Recognition::new(None, 5, Time::ZERO);
        words.segments.push_back(segment(1));
        words.guess(TranscriptionId::new(1), &Pii::from("ääääääää"), 99, Time::ZERO);
        assert_eq!(words.text(), "äääää");
        assert_eq!(words.stable_chars, 5);
        for id in 1..100 {
            words.settle(TranscriptionId::new(id), Some(&Pii::from("ööö")), Time::ZERO);
            words.segments.push_back(segment(id + 1));
        }
        assert_eq!(words.text(), "ööö ö");
        assert_eq!(words.settled.expose(), "ööö ö");
    }
}
