//! The one clock. Everything above asks it; everything below is told.

use std::time::Instant;

use crate::time::Time;

/// A session's clock: it began when the session did.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Instant,
}

impl Clock {
    /// A clock that shows [`Time::ZERO`] now.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads a clock")]
    pub fn start() -> Self {
        Self { origin: Instant::now() }
    }

    /// What it shows.
    #[must_use]
    pub fn now(&self) -> Time {
        Time::ZERO + self.origin.elapsed()
    }

    /// The instant at which it shows `time`, for timers.
    #[must_use]
    pub fn instant(&self, time: Time) -> tokio::time::Instant {
        tokio::time::Instant::from_std(self.origin + time.since(Time::ZERO))
    }
}

/// The time of day, for names and ages of files; nothing that a session decides on.
#[expect(clippy::disallowed_methods, reason = "this is the one place that reads a clock")]
pub(super) fn wall() -> std::time::SystemTime {
    std::time::SystemTime::now()
}
