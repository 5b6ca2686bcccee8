//! Pauses before something is tried again: they grow, and they differ, so that many who wait for the same thing don't all come
//! at once.

use std::time::Duration;

/// The pause after the first failure.
const FIRST: Duration = Duration::from_millis(100);
/// The longest pause.
const LONGEST: Duration = Duration::from_secs(30);
/// The longest pause after the loss of a worker that had become ready: its model loads, so what killed it may well not come
/// again, and calls wait for it no longer than ten seconds.
const LONGEST_AFTER_LOSS: Duration = Duration::from_secs(5);
/// A load that was well for this long starts again from the first pause.
pub(super) const STABLE: Duration = Duration::from_secs(60);

/// The pauses between the starts of one worker: 100 ms, doubled with each failure up to 30 s, each shortened by up to a quarter.
#[derive(Clone, Debug)]
pub struct Backoff {
    failures: u32,
    seed: u64,
}

impl Backoff {
    /// No failure yet. Different seeds give different pauses.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self { failures: 0, seed }
    }

    /// One more failure: how long to wait now.
    pub fn after_failure(&mut self) -> Duration {
        let doubled = FIRST.saturating_mul(1 << self.failures.min(16)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        let shortened = mix(self.seed.wrapping_add(u64::from(self.failures))) % (nanos(doubled) / 4).max(1);
        doubled.saturating_sub(Duration::from_nanos(shortened))
    }

    /// One more loss of a worker that was ready: how long to wait now.
    pub fn after_loss(&mut self) -> Duration {
        self.after_failure().min(LONGEST_AFTER_LOSS)
    }

    /// It was well for long enough.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// How many failures there were in a row.
    #[must_use]
    pub const fn failures(&self) -> u32 {
        self.failures
    }
}

/// How long the `position`-th (from 0) of those that lost the same worker waits before it replays its audio: they follow on one
/// another by `step`, each moved by up to a step, the same on each run.
#[must_use]
pub fn spread(seed: u64, position: u32, step: Duration) -> Duration {
    let jitter = mix(seed ^ u64::from(position).wrapping_mul(0x9E37_79B9)) % nanos(step).max(1);
    step.saturating_mul(position)
        .saturating_add(Duration::from_nanos(jitter))
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Makes an even spread of numbers that follow on one another (SplitMix64, Steele et al. 2014).
fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound_and_begin_again() {
        let mut backoff = Backoff::new(7);
        let pauses: Vec<Duration> = (0..20).map(|_| backoff.after_failure()).collect();
        assert!(pauses[0] <= FIRST && pauses[0] >= FIRST * 3 / 4);
        assert!(pauses.windows(2).take(7).all(|pair| pair[0] < pair[1]));
        assert!(pauses.iter().all(|pause| *pause <= LONGEST));
        assert_eq!(backoff.after_loss(), LONGEST_AFTER_LOSS);
        backoff.reset();
        assert!(backoff.after_failure() <= FIRST);
        assert!(backoff.after_loss() <= FIRST * 2);
    }

    #[test]
    fn replays_are_spread_evenly_and_repeatably() {
        let step = Duration::from_millis(50);
        let all: Vec<Duration> = (0..100).map(|position| spread(3, position, step)).collect();
        for (position, wait) in (0_u32..).zip(&all) {
            assert!(*wait >= step * position && *wait < step * (position + 1), "{wait:?}");
        }
        assert_eq!(all[5], spread(3, 5, step));
        assert_ne!(all[5], spread(4, 5, step));
    }
}
