//! The sample clock: how many samples have arrived, when, and which of them are still needed.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::time::{Samples, Time};

/// Arrivals that are remembered: at 20 ms a frame two and a half seconds, and VAD lags by less than a tenth of one.
const ARRIVALS: usize = 128;

/// What has arrived.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SampleClock {
    /// Every sample before this has arrived.
    pub(crate) received: Samples,
    /// So many of them could not be kept.
    pub(crate) dropped: Samples,
    /// Audio before this has been given up.
    pub(crate) kept_from: Samples,
    /// Audio before this belongs to a turn that was committed or cleared, and to no later one.
    pub(crate) taken: Samples,
    arrivals: VecDeque<(Samples, Time)>,
}

impl SampleClock {
    /// Samples have arrived; whether the clock moved.
    pub(crate) fn advance(&mut self, end: Samples, dropped: Samples, now: Time) -> bool {
        if end <= self.received {
            return false;
        }
        self.dropped += dropped.min(end - self.received);
        self.received = end;
        if self.arrivals.len() == ARRIVALS {
            self.arrivals.pop_front();
        }
        self.arrivals.push_back((end, now));
        true
    }

    /// When the sample before `end` arrived; the oldest instant that is known, if it was before that.
    pub(crate) fn arrival(&self, end: Samples) -> Time {
        let index = self.arrivals.partition_point(|(until, _)| *until < end);
        self.arrivals
            .get(index)
            .or(self.arrivals.back())
            .map_or(Time::ZERO, |(_, at)| *at)
    }

    /// Arrivals that are remembered.
    pub(crate) fn is_within_bounds(&self) -> bool {
        self.arrivals.len() <= ARRIVALS && self.dropped <= self.received && self.kept_from <= self.received
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrivals_are_found() {
        let mut clock = SampleClock::default();
        assert_eq!(clock.arrival(Samples::new(5)), Time::ZERO);
        for count in 1..=1_000 {
            assert!(clock.advance(Samples::new(count * 320), Samples::ZERO, Time::from_millis(count * 20)));
        }
        assert!(!clock.advance(Samples::new(320), Samples::new(9), Time::from_millis(90_000)));
        let at = |count| clock.arrival(Samples::new(count)).as_millis();
        assert_eq!(at(1_000 * 320), 20_000);
        assert_eq!(at(999 * 320 + 1), 20_000);
        assert_eq!(at(999 * 320), 19_980);
        assert_eq!(at(1), 873 * 20, "the oldest that is remembered");
        assert_eq!(clock.dropped, Samples::ZERO);
    }

    #[test]
    fn no_more_is_dropped_than_came() {
        let mut clock = SampleClock::default();
        clock.advance(Samples::new(100), Samples::new(500), Time::ZERO);
        assert_eq!(clock.dropped, Samples::new(100));
    }
}
