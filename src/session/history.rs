//! What was said so far: the user's words as they were understood, ours as they were heard.

use std::collections::{BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

use crate::call::{Message, Prompt, Role, Settings, ToolCall};
use crate::id::ItemId;
use crate::pii::Pii;

/// One item of the conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// Its id.
    pub id: ItemId,
    /// Who said it.
    pub role: Role,
    /// What was said; of a reply the part that was heard, of a tool its output.
    pub text: Pii<String>,
    /// On [`Role::Assistant`]: the tool calls it made.
    pub tool_calls: Vec<ToolCall>,
    /// On [`Role::Tool`]: which call this answers.
    pub call_id: Option<String>,
}

/// The items, oldest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct History {
    items: VecDeque<Item>,
    next: ItemId,
}

impl Default for History {
    fn default() -> Self {
        Self {
            items: VecDeque::new(),
            next: ItemId::new(1),
        }
    }
}

impl History {
    /// Puts an item at the end; the oldest make room for it.
    pub(crate) fn push(&mut self, role: Role, text: Pii<String>, call_id: Option<String>, max_items: u32) -> ItemId {
        let id = self.next;
        self.next = id.next();
        self.items.push_back(Item {
            id,
            role,
            text,
            tool_calls: Vec::new(),
            call_id,
        });
        while self.items.len() > max_items as usize {
            self.items.pop_front();
        }
        id
    }

    /// Adds what the user said: to the newest item if that is the user's too and `merge` says so, for one thing said in
    /// two turns is one thing.
    pub(crate) fn push_user(&mut self, text: Pii<String>, merge: bool, max_items: u32, max_chars: u32) -> ItemId {
        if let Some(last) = self.items.back_mut()
            && merge
            && last.role == Role::User
            && last.text.expose().len() + text.expose().len() < max_chars as usize
        {
            let words = last.text.expose_mut();
            words.push(' ');
            words.push_str(text.expose());
            return last.id;
        }
        self.push(Role::User, text, None, max_items)
    }

    fn find(&mut self, id: ItemId) -> Option<&mut Item> {
        // What is changed is nearly always the newest.
        self.items.iter_mut().rev().find(|item| item.id == id)
    }

    /// Changes the text of an item; one that a client removed stays removed.
    pub(crate) fn set_text(&mut self, id: ItemId, text: Pii<String>) {
        if let Some(item) = self.find(id) {
            item.text = text;
        }
    }

    /// Adds a tool call to an item.
    pub(crate) fn add_call(&mut self, id: ItemId, call: ToolCall) {
        if let Some(item) = self.find(id) {
            item.tool_calls.push(call);
        }
    }

    /// Removes an item; whether it was there.
    pub(crate) fn delete(&mut self, id: ItemId) -> bool {
        let before = self.items.len();
        self.items.retain(|item| item.id != id);
        self.items.len() < before
    }

    /// Removes the last item if it is the assistant's, and the user's before it.
    pub(crate) fn rollback(&mut self) {
        if self.items.pop_back_if(|last| last.role == Role::Assistant).is_some() {
            self.items.pop_back_if(|last| last.role == Role::User);
        }
    }

    /// Removes all.
    pub(crate) fn clear(&mut self) {
        self.items.clear();
    }

    /// The items, oldest first.
    pub(crate) fn items(&self) -> impl ExactSizeIterator<Item = &Item> {
        self.items.iter()
    }

    /// The item with this id.
    pub(crate) fn item(&self, id: ItemId) -> Option<&Item> {
        self.items.iter().rev().find(|item| item.id == id)
    }

    /// What the language model is asked. Tool calls without a result and results without a call are left out: models
    /// refuse a conversation that holds one without the other. So are replies of which nothing was heard.
    pub(crate) fn prompt(&self, settings: &Settings, newest: Option<&Pii<String>>) -> Prompt {
        let answered: BTreeSet<&str> = self.items.iter().filter_map(|item| item.call_id.as_deref()).collect();
        let called: BTreeSet<&str> = self
            .items
            .iter()
            .flat_map(|item| &item.tool_calls)
            .map(|call| call.call_id.as_str())
            .collect();
        let mut messages = Vec::with_capacity(self.items.len() + 2);
        if !settings.instructions.expose().is_empty() {
            messages.push(Message {
                role: Role::System,
                text: settings.instructions.clone(),
                tool_calls: Vec::new(),
                call_id: None,
            });
        }
        for item in &self.items {
            let tool_calls: Vec<ToolCall> = item
                .tool_calls
                .iter()
                .filter(|call| answered.contains(call.call_id.as_str()))
                .cloned()
                .collect();
            let empty = item.text.expose().is_empty() && tool_calls.is_empty();
            let orphan = item.call_id.as_deref().is_some_and(|call| !called.contains(call));
            if orphan || (item.role == Role::Assistant && empty) {
                continue;
            }
            messages.push(Message {
                role: item.role,
                text: item.text.clone(),
                tool_calls,
                call_id: item.call_id.clone(),
            });
        }
        if let Some(newest) = newest {
            messages.push(Message {
                role: Role::User,
                text: newest.clone(),
                tool_calls: Vec::new(),
                call_id: None,
            });
        }
        Prompt {
            messages,
            tools: settings.tools.clone(),
            max_tokens: settings.limits.max_response_tokens,
            temperature_milli: settings.temperature_milli,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(prompt: &Prompt) -> Vec<String> {
        prompt
            .messages
            .iter()
            .map(|message| {
                let calls: Vec<_> = message.tool_calls.iter().map(|call| call.call_id.as_str()).collect();
                format!("{:?} {}{}", message.role, message.text.expose(), calls.join("+"))
            })
            .collect()
    }

    fn settings() -> Settings {
        Settings {
            instructions: Pii::from("be kind"),
            ..Settings::default()
        }
    }

    #[test]
    fn the_oldest_make_room() {
        let mut history = History::default();
        for number in 0..5 {
            history.push(Role::User, Pii::new(number.to_string()), None, 3);
        }
        assert_eq!(history.items().len(), 3);
        assert_eq!(
            texts(&history.prompt(&settings(), None)),
            ["System be kind", "User 2", "User 3", "User 4"]
        );
    }

    #[test]
    fn one_thing_said_in_two_turns_is_one_item() {
        let mut history = History::default();
        let one = history.push_user(Pii::from("I would"), true, 9, 100);
        assert_eq!(history.push_user(Pii::from("like tea"), true, 9, 100), one);
        assert_ne!(history.push_user(Pii::from("hello"), false, 9, 100), one);
        assert_ne!(history.push_user(Pii::from("too long"), true, 9, 10), one);
        assert_eq!(
            history.item(one).expect("it is there").text.expose(),
            "I would like tea"
        );
    }

    #[test]
    fn calls_and_results_come_in_pairs() {
        let mut history = History::default();
        let item = history.push(Role::Assistant, Pii::default(), None, 9);
        for call_id in ["one", "two"] {
            history.add_call(
                item,
                ToolCall {
                    call_id: call_id.to_owned(),
                    name: "weather".to_owned(),
                    arguments: Pii::from("{}"),
                },
            );
        }
        history.push(Role::Tool, Pii::from("rain"), Some("two".to_owned()), 9);
        history.push(Role::Tool, Pii::from("lost"), Some("three".to_owned()), 9);
        history.push(Role::Assistant, Pii::default(), None, 9);
        assert_eq!(
            texts(&history.prompt(&settings(), Some(&Pii::from("and tomorrow?")))),
            ["System be kind", "Assistant two", "Tool rain", "User and tomorrow?"]
        );
    }

    #[test]
    fn what_a_client_removed_stays_removed() {
        let mut history = History::default();
        let item = history.push(Role::Assistant, Pii::from("a"), None, 9);
        assert!(history.delete(item));
        assert!(!history.delete(item));
        history.set_text(item, Pii::from("b"));
        assert_eq!(history.items().len(), 0);
    }
}
