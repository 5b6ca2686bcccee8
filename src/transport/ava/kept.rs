//! What a call was told, kept for a while after its connection broke: AVA's engine connects again within 20 s and doesn't say it again.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use repartee_protocol::ava::ToolState;
use repartee_protocol::native::Private;

use crate::call::Role;
use crate::pii::Pii;
use crate::time::Time;

/// How long it is kept.
const KEPT_FOR: Duration = Duration::from_secs(60);
/// Calls that are kept; the oldest make room.
const MOST: usize = 256;
/// Messages of a conversation that are kept; the oldest make room.
const MESSAGES: usize = 40;

/// A conversation as this wire knows it: from what was heard and what was told.
#[derive(Clone, Default)]
pub(super) struct Conversation(VecDeque<(Role, Pii<String>)>);

impl Conversation {
    pub(super) fn push(&mut self, role: Role, text: &str) {
        if text.trim().is_empty() {
            return;
        }
        if self.0.len() == MESSAGES {
            self.0.pop_front();
        }
        self.0.push_back((role, Pii::from(text)));
    }

    /// Takes back the last reply with its question, as the session does.
    pub(super) fn roll_back(&mut self) {
        if self.0.pop_back_if(|(role, _)| *role == Role::Assistant).is_some() {
            self.0.pop_back_if(|(role, _)| *role == Role::User);
        }
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn messages(&self) -> impl Iterator<Item = &(Role, Pii<String>)> {
        self.0.iter()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Conversation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Conversation({})", self.0.len())
    }
}

/// What is kept of a call.
#[derive(Clone, Debug, Default)]
pub(super) struct Kept {
    /// Its prompt; none: it was never told one.
    pub(super) prompt: Option<Private>,
    pub(super) tools: ToolState,
    pub(super) conversation: Conversation,
}

/// The calls that are kept.
#[derive(Debug, Default)]
pub(super) struct Shelf(VecDeque<(String, Time, Kept)>);

impl Shelf {
    pub(super) fn put(&mut self, now: Time, call_id: &str, kept: Kept) {
        self.0
            .retain(|(id, since, _)| id != call_id && now.since(*since) < KEPT_FOR);
        if self.0.len() == MOST {
            self.0.pop_front();
        }
        self.0.push_back((call_id.to_owned(), now, kept));
    }

    pub(super) fn take(&mut self, now: Time, call_id: &str) -> Option<Kept> {
        self.0.retain(|(_, since, _)| now.since(*since) < KEPT_FOR);
        let index = self.0.iter().position(|(id, _, _)| id == call_id)?;
        self.0.remove(index).map(|(_, _, kept)| kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_kept_for_a_minute_and_taken_once() {
        let at = |seconds: u64| Time::from_millis(seconds * 1_000);
        let mut shelf = Shelf::default();
        shelf.put(at(0), "a", Kept::default());
        shelf.put(at(10), "b", Kept::default());
        assert!(shelf.take(at(59), "a").is_some());
        assert!(shelf.take(at(59), "a").is_none(), "it was taken");
        assert!(shelf.take(at(70), "b").is_none(), "it is too old");
        for index in 0..=MOST {
            shelf.put(at(100), &index.to_string(), Kept::default());
        }
        assert!(shelf.take(at(100), "0").is_none(), "it made room");
        assert!(shelf.take(at(100), "1").is_some());
    }

    #[test]
    fn a_reply_is_taken_back_with_its_question() {
        let mut conversation = Conversation::default();
        conversation.push(Role::User, "hello");
        conversation.push(Role::Assistant, "hi");
        conversation.push(Role::User, "and now?");
        conversation.roll_back();
        assert_eq!(conversation.messages().count(), 3, "there is no reply to take back");
        conversation.push(Role::Assistant, "  ");
        conversation.push(Role::Assistant, "now this");
        conversation.roll_back();
        assert_eq!(conversation.messages().count(), 2);
    }
}
