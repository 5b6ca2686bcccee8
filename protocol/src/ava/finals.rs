//! Which final results of a recogniser are sent, and which are answered.

use std::fmt;
use std::time::Duration;

use super::intent::{normalized, says_something, says_too_little};
use super::words::Mode;

/// An empty result so soon after another says nothing new.
const EMPTY_AGAIN: Duration = Duration::from_millis(500);

/// What made a result final.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The end of speech.
    Speech,
    /// No audio has come for a while.
    Idle,
}

/// What happens with a final result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing.
    Drop,
    /// It is sent, as an empty text.
    SendEmpty,
    /// It is sent; in the modes with a reply it isn't answered.
    Send,
    /// It is sent and answered.
    Answer,
}

/// The final results of one connection.
#[derive(Clone, Default)]
pub struct Finals {
    /// The text of the last that was sent, in small letters with single spaces.
    last: Option<String>,
    last_empty_at: Option<Duration>,
}

impl fmt::Debug for Finals {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Finals").finish_non_exhaustive()
    }
}

impl Finals {
    /// Nothing heard yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Decides about the final result `text`, at `now` (any monotonic time).
    ///
    /// AVA's own server leaves a caller who says the same thing twice without an answer; here he gets one.
    pub fn judge(&mut self, now: Duration, mode: Mode, cause: Cause, text: &str) -> Verdict {
        let replies = matches!(mode, Mode::Full | Mode::Llm);
        if !says_something(text) {
            let last_was_empty = self.last.as_deref() == Some("");
            let again = last_was_empty
                && (cause == Cause::Idle
                    || self
                        .last_empty_at
                        .is_some_and(|before| now.saturating_sub(before) < EMPTY_AGAIN));
            self.last = Some(String::new());
            self.last_empty_at = Some(now);
            return if replies || again {
                Verdict::Drop
            } else {
                Verdict::SendEmpty
            };
        }
        if replies && says_too_little(text) {
            return Verdict::Drop;
        }
        let text = normalized(text);
        if cause == Cause::Idle && self.last.as_ref() == Some(&text) {
            return Verdict::Drop;
        }
        self.last = Some(text);
        if replies { Verdict::Answer } else { Verdict::Send }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_and_what_is_answered() {
        use Cause::{Idle, Speech};
        use Verdict::{Answer, Drop, Send, SendEmpty};
        for (mode, steps) in [
            (
                Mode::Stt,
                &[
                    (0, Speech, "", SendEmpty),
                    (400, Speech, "…", Drop),
                    (1_000, Speech, "", SendEmpty),
                    (9_000, Idle, "", Drop),
                    (9_100, Speech, "um", Send),
                    (9_200, Idle, "", SendEmpty),
                    (10_000, Speech, "What time is it?", Send),
                    (11_000, Idle, "what  time is it?", Drop),
                    (12_000, Speech, "what time is it?", Send),
                ][..],
            ),
            (
                Mode::Full,
                &[
                    (0, Speech, "", Drop),
                    (100, Speech, "um", Drop),
                    (200, Speech, "thanks um", Answer),
                    (300, Speech, "what time is it", Answer),
                    (400, Idle, "what time is it", Drop),
                    // Who asks twice is answered twice.
                    (500, Speech, "what time is it", Answer),
                ],
            ),
        ] {
            let mut finals = Finals::new();
            for (at, cause, text, verdict) in steps {
                let now = Duration::from_millis(*at);
                assert_eq!(
                    finals.judge(now, mode, *cause, text),
                    *verdict,
                    "{mode} at {at}: {text}"
                );
            }
        }
    }
}
