//! Integer time: instants of a session in nanoseconds, stretches of audio in samples.
//!
//! Nothing here reads a clock. The engine does, once, and tells everybody else.

use std::ops::{Add, AddAssign, Sub};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The rate of the sample clock of every session, in Hz: what recognisers and VADs take. Wires of another rate are
/// resampled at the edge; positions in a reply's audio are counted at this rate too, whatever the voice's own rate is.
pub const SESSION_RATE: u32 = 16_000;

/// An instant: nanoseconds since the session began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Time(u64);

impl Time {
    /// The beginning of the session.
    pub const ZERO: Self = Self(0);

    /// The instant `nanos` nanoseconds after the session began.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// The instant `millis` milliseconds after the session began.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis * 1_000_000)
    }

    /// Nanoseconds since the session began.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Whole milliseconds since the session began.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0 / 1_000_000
    }

    /// How long after `earlier` this is; zero if it is not after it.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// This instant moved back by `duration`, stopping at the beginning of the session.
    #[must_use]
    pub fn before(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(nanos(duration)))
    }
}

impl Add<Duration> for Time {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(nanos(duration)))
    }
}

impl AddAssign<Duration> for Time {
    fn add_assign(&mut self, duration: Duration) {
        *self = *self + duration;
    }
}

/// Nanoseconds of `duration`; 584 years and more are the same to us.
fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// A count of samples at [`SESSION_RATE`]: a position on the sample clock, or a length of audio.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Samples(u64);

impl Samples {
    /// No samples; the beginning of the sample clock.
    pub const ZERO: Self = Self(0);

    /// `count` samples.
    #[must_use]
    pub const fn new(count: u64) -> Self {
        Self(count)
    }

    /// The samples in `millis` milliseconds.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis * (SESSION_RATE as u64) / 1000)
    }

    /// The whole samples in `duration`.
    #[must_use]
    pub fn from_duration(duration: Duration) -> Self {
        Self(u64::try_from(duration.as_nanos() * u128::from(SESSION_RATE) / 1_000_000_000).unwrap_or(u64::MAX))
    }

    /// The plain count.
    #[must_use]
    pub const fn count(self) -> u64 {
        self.0
    }

    /// Whole milliseconds of audio.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0.saturating_mul(1000) / SESSION_RATE as u64
    }

    /// The time this much audio takes.
    #[must_use]
    pub const fn duration(self) -> Duration {
        Duration::from_nanos(self.0.saturating_mul(1_000_000_000 / SESSION_RATE as u64))
    }

    /// `self - other`, or none if that were negative.
    #[must_use]
    pub const fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl Add for Samples {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl AddAssign for Samples {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sub for Samples {
    type Output = Self;

    /// # Panics
    /// In debug builds when `other` is larger; see [`Samples::saturating_sub`].
    fn sub(self, other: Self) -> Self {
        debug_assert!(self.0 >= other.0, "a length of audio cannot be negative");
        self.saturating_sub(other)
    }
}

/// A stretch of the sample clock: `start` inclusive, `end` exclusive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// The first sample.
    pub start: Samples,
    /// The sample after the last.
    pub end: Samples,
}

impl Span {
    /// Its length.
    #[must_use]
    pub const fn len(self) -> Samples {
        self.end.saturating_sub(self.start)
    }

    /// Whether it holds no sample.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.len().count() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_and_durations_agree() {
        assert_eq!(Samples::from_millis(20).count(), 320);
        assert_eq!(Samples::from_millis(20).duration(), Duration::from_millis(20));
        assert_eq!(Samples::from_duration(Duration::from_micros(62_500)).count(), 1000);
        assert_eq!(Samples::new(16_001).as_millis(), 1000);
    }

    #[test]
    fn time_never_runs_below_its_beginning() {
        assert_eq!(Time::from_millis(5).before(Duration::from_millis(9)), Time::ZERO);
        assert_eq!(Time::from_millis(5).since(Time::from_millis(9)), Duration::ZERO);
        assert_eq!(
            Time::from_nanos(u64::MAX) + Duration::from_secs(1),
            Time::from_nanos(u64::MAX)
        );
    }
}
