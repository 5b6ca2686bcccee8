//! How early packets come before their moment, and what that says about the depth.
//!
//! The smallest margin of a while is what could be saved; the largest is the depth itself. Both move with the
//! network's jitter and with the drift between the two clocks, so one rule serves for both.

use std::time::Duration;

use crate::time::Time;

/// The length of a window. Two of them, the running and the full one before it, are looked at.
const WINDOW: Duration = Duration::from_secs(1);
/// The margin that the latest packets shall have, in nanoseconds: what a scheduler may be late.
const COMFORTABLE: i64 = 10_000_000;
/// Below this the depth grows at the next silence, before packets are late.
const SCARCE: i64 = 5_000_000;
/// So much to spare, for [`PATIENT_WINDOWS`], is worth a frame of sound even where there is no silence.
const PLENTY: i64 = 80_000_000;
const PATIENT_WINDOWS: u32 = 3;
/// One late packet is the network's accident, more of them within two windows are its nature.
const LATE_TO_STRETCH: u32 = 2;

/// What to do with the depth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Advice {
    Keep,
    /// By one frame.
    Stretch,
    /// By one frame.
    Shrink,
}

#[derive(Debug, Clone, Copy)]
struct Window {
    least: i64,
    most: i64,
    late: u32,
}

impl Window {
    const EMPTY: Self = Self {
        least: i64::MAX,
        most: i64::MIN,
        late: 0,
    };

    const fn is_empty(&self) -> bool {
        self.least > self.most
    }

    fn shift(&mut self, by: i64) {
        if !self.is_empty() {
            self.least += by;
            self.most += by;
        }
    }
}

/// The margins of the last one to two seconds, in nanoseconds.
#[derive(Debug, Clone)]
pub(super) struct Margin {
    running: Window,
    full: Window,
    since: Time,
    /// Windows in a row in which there was plenty.
    plenty: u32,
    /// A frame was dropped out of sound in this window.
    forced: bool,
}

impl Default for Margin {
    fn default() -> Self {
        Self {
            running: Window::EMPTY,
            full: Window::EMPTY,
            since: Time::ZERO,
            plenty: 0,
            forced: false,
        }
    }
}

impl Margin {
    /// Starts again at `now`.
    pub(super) fn reset(&mut self, now: Time) {
        *self = Self {
            since: now,
            ..Self::default()
        };
    }

    /// A packet arrived at `now` and is due at `due`, in nanoseconds since the session began.
    pub(super) fn record(&mut self, now: Time, due: i64) {
        let margin = due.saturating_sub(i64::try_from(now.as_nanos()).unwrap_or(i64::MAX));
        self.running.least = self.running.least.min(margin);
        self.running.most = self.running.most.max(margin);
    }

    /// A packet came too late to be used.
    pub(super) fn note_late(&mut self) {
        self.running.late += 1;
    }

    /// The output was moved by so many nanoseconds, later if positive: all margins change by that.
    pub(super) fn shift(&mut self, by: i64) {
        self.running.shift(by);
        self.full.shift(by);
    }

    /// The largest margin, 0 if nothing was recorded.
    pub(super) fn most(&self) -> i64 {
        self.running.most.max(self.full.most).max(0)
    }

    /// What to do at `now`, between the bounds `least` and `most`, where a frame lasts `frame` (nanoseconds).
    pub(super) fn advise(&mut self, now: Time, frame: i64, least: i64, most: i64, quiet: bool) -> Advice {
        self.roll(now);
        let worst = self.running.least.min(self.full.least);
        let depth = self.most();
        let may_grow = depth + frame <= most;
        if self.running.late + self.full.late >= LATE_TO_STRETCH && may_grow {
            self.running.late = 0;
            self.full.late = 0;
            return Advice::Stretch;
        }
        // Less than a full window shows too little of the network.
        if self.full.is_empty() {
            return Advice::Keep;
        }
        if quiet && worst < SCARCE && may_grow {
            return Advice::Stretch;
        }
        if worst < COMFORTABLE + frame || depth - frame < least {
            return Advice::Keep;
        }
        if quiet {
            return Advice::Shrink;
        }
        if !self.forced && (depth > most || self.plenty >= PATIENT_WINDOWS) {
            self.forced = true;
            return Advice::Shrink;
        }
        Advice::Keep
    }

    fn roll(&mut self, now: Time) {
        if now.since(self.since) < WINDOW {
            return;
        }
        let has_plenty = !self.running.is_empty() && self.running.least > PLENTY;
        self.plenty = if has_plenty { self.plenty + 1 } else { 0 };
        self.full = self.running;
        self.running = Window::EMPTY;
        self.since = now;
        self.forced = false;
    }
}
