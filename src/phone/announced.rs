//! Calls that are known before their sound comes: who dials over ARI tells here what the call is, and the wire to which its sound
//! comes finds it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::control::Control;
use super::facts::Facts;
use crate::call::Tool;

/// Calls that may be announced at the same time.
const MOST: usize = 4_096;

/// What a wire knows a call by when its sound comes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// AudioSocket's UUID.
    Uuid([u8; 16]),
    /// chan_websocket's name of a channel or a connection.
    Channel(String),
    /// The UDP port that its RTP comes to.
    Port(u16),
}

/// What is known of such a call.
#[derive(Clone, Debug)]
pub struct Announcement {
    /// The facts.
    pub facts: Facts,
    /// Tools for the language model.
    pub tools: Vec<Tool>,
    /// Who carries them out, and tells of keys.
    pub control: Control,
}

/// See the [module](self). Clones share what is announced.
#[derive(Clone, Debug, Default)]
pub struct Announced(Arc<Mutex<BTreeMap<Key, Announcement>>>);

/// A call stays announced as long as this is held, or until its sound has come.
#[derive(Debug)]
pub struct Ticket {
    announced: Announced,
    key: Key,
}

impl Announced {
    /// Announces a call. `None` when too many are.
    #[must_use]
    pub fn announce(&self, key: Key, announcement: Announcement) -> Option<Ticket> {
        let mut calls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if calls.len() >= MOST {
            return None;
        }
        calls.insert(key.clone(), announcement);
        drop(calls);
        Some(Ticket {
            announced: self.clone(),
            key,
        })
    }

    /// What is known of the call whose sound has come under `key`; it is given once.
    #[must_use]
    pub fn take(&self, key: &Key) -> Option<Announcement> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(key)
    }

    /// Whether a call is announced under `key`.
    #[must_use]
    pub fn knows(&self, key: &Key) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains_key(key)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        drop(self.announced.take(&self.key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn announcement() -> Announcement {
        Announcement {
            facts: Facts::of_call("1"),
            tools: Vec::new(),
            control: tokio::sync::mpsc::channel(1).0,
        }
    }

    #[test]
    fn a_call_is_given_once_and_forgotten_with_its_ticket() {
        let announced = Announced::default();
        let key = Key::Port(9_100);
        let ticket = announced.announce(key.clone(), announcement());
        assert!(announced.knows(&key));
        assert!(announced.take(&key).is_some() && announced.take(&key).is_none());
        drop(ticket);
        let ticket = announced.announce(key.clone(), announcement());
        drop(ticket);
        assert!(!announced.knows(&key));
    }

    #[test]
    fn too_many_are_refused() {
        let announced = Announced::default();
        let tickets: Vec<Option<Ticket>> = (0..=MOST)
            .map(|number| announced.announce(Key::Channel(number.to_string()), announcement()))
            .collect();
        assert!(tickets[MOST - 1].is_some() && tickets[MOST].is_none());
    }
}
