//! Telephone keys that the user says something with: gathered until a terminator, a pause or the most that is wanted.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::core::Session;
use crate::call::{Digit, Event};
use crate::pii::Pii;
use crate::time::Time;

/// What a turn of keys begins with, so that a language model knows that they were not said.
const PREFIX: &str = "DTMF: ";

/// The keys that were pressed and are no turn yet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Keys {
    pressed: Pii<String>,
    last: Time,
}

impl Session {
    /// A key was pressed: the client is told, and it is gathered where that is wanted. The first one stops a reply that the user may
    /// interrupt.
    pub(super) fn press(&mut self, digit: Digit) {
        self.emit(Event::Dtmf { digit });
        let Some(wanted) = self.settings.keys else { return };
        if wanted.terminator == Some(digit) {
            self.end_entry();
            return;
        }
        if self.keys.pressed.expose().is_empty() && self.may_interrupt() {
            self.interrupt();
        }
        self.keys.pressed.expose_mut().push(digit.key());
        self.keys.last = self.now;
        if self.keys.pressed.expose().len() >= usize::from(wanted.max_keys) {
            self.end_entry();
        }
    }

    /// When an entry ends because no further key comes.
    pub(super) fn entry_ends_at(&self) -> Option<Time> {
        let wanted = self.settings.keys?;
        let is_open = !self.keys.pressed.expose().is_empty();
        is_open.then(|| self.keys.last + Duration::from_millis(wanted.timeout_ms.into()))
    }

    /// The keys are all there: they are what the user says. An entry without a key is none.
    pub(super) fn end_entry(&mut self) {
        let keys = std::mem::take(&mut self.keys.pressed);
        if !keys.expose().is_empty() {
            self.text(Pii::new(format!("{PREFIX}{}", keys.expose())));
        }
    }

    fn may_interrupt(&self) -> bool {
        let interruptible = |reply: &super::reply::Reply| !reply.is_guess() && reply.interruptible;
        self.settings.barge_in.enabled && self.reply.as_deref().is_some_and(interruptible)
    }
}
