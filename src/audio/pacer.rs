//! When to send the next frame, by absolute deadlines.
//!
//! Sans-IO: the pacer is told the time and answers with frames that are due and the next deadline. Deadlines are
//! multiples of the frame from one anchor, so the error of a timer never adds up. After a stall the pacer sends one
//! frame and starts from there: a peer that plays at once (Asterisk) would drop a burst, and a peer that queues would
//! be later by it for the rest of the call.

use crate::time::Time;
use std::time::Duration;

/// What to do with a frame whose successor is due as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CatchUp {
    /// Never send two frames closer than a frame's length: what was missed is missed.
    None,
    /// Send one missed frame at once, so that a hiccup of less than two frames leaves no hole at the far side.
    #[default]
    One,
    /// Send all that was missed at once: for a peer that queues, and plays at its own pace.
    All,
}

/// One frame that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tick {
    /// When it was due.
    pub deadline: Time,
    /// How much later than that it was asked for.
    pub lateness: Duration,
    /// Deadlines before this one that were given up because of a stall. Their frames are still to be sent, later.
    pub skipped: u64,
}

/// The clock of a paced stream.
///
/// Call [`poll`](Self::poll) at or after [`next_deadline`](Self::next_deadline), send one frame for every [`Tick`], and
/// call again until it answers `None`.
#[derive(Debug, Clone)]
pub struct Pacer {
    frame: Duration,
    catch_up: CatchUp,
    /// The next deadline is `anchor + count * frame`.
    anchor: Option<Time>,
    count: u64,
    late: u64,
    skipped: u64,
    worst_lateness: Duration,
}

/// Frames later than this count as late: the ±5 ms that paced wires are held to.
pub const LATE: Duration = Duration::from_millis(5);

impl Pacer {
    /// A pacer that stands still, for frames that last `frame`.
    ///
    /// # Panics
    /// If `frame` is zero.
    #[must_use]
    pub fn new(frame: Duration, catch_up: CatchUp) -> Self {
        assert!(!frame.is_zero(), "a frame lasts some time");
        Self {
            frame,
            catch_up,
            anchor: None,
            count: 0,
            late: 0,
            skipped: 0,
            worst_lateness: Duration::ZERO,
        }
    }

    /// Starts, or starts again: the first frame is due at `now`.
    pub fn start(&mut self, now: Time) {
        self.anchor = Some(now);
        self.count = 0;
    }

    /// Stops: nothing is due any more.
    pub fn stop(&mut self) {
        self.anchor = None;
    }

    /// Whether it runs.
    #[must_use]
    pub const fn is_running(&self) -> bool {
        self.anchor.is_some()
    }

    /// When the next frame is due; `None` while it stands still.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Time> {
        self.anchor
            .map(|anchor| anchor + Duration::from_nanos(nanos(self.frame).saturating_mul(self.count)))
    }

    /// The frame that is due at `now`, if one is.
    pub fn poll(&mut self, now: Time) -> Option<Tick> {
        let deadline = self.next_deadline().filter(|&deadline| deadline <= now)?;
        let lateness = now.since(deadline);
        // With one frame of catch-up, being late by less than two frames keeps the rhythm.
        let bearable = match self.catch_up {
            CatchUp::None => self.frame,
            CatchUp::One => self.frame.saturating_mul(2),
            CatchUp::All => Duration::MAX,
        };
        let skipped = if lateness < bearable {
            self.count += 1;
            0
        } else {
            self.anchor = Some(now);
            self.count = 1;
            nanos(lateness) / nanos(self.frame)
        };
        self.late += u64::from(lateness > LATE);
        self.skipped += skipped;
        self.worst_lateness = self.worst_lateness.max(lateness);
        Some(Tick {
            deadline,
            lateness,
            skipped,
        })
    }

    /// Frames that came later than [`LATE`].
    #[must_use]
    pub const fn late(&self) -> u64 {
        self.late
    }

    /// Deadlines that were given up.
    #[must_use]
    pub const fn skipped(&self) -> u64 {
        self.skipped
    }

    /// The largest lateness so far.
    #[must_use]
    pub const fn worst_lateness(&self) -> Duration {
        self.worst_lateness
    }
}

/// Nanoseconds of `duration`; 584 years and more are the same to us.
fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: Duration = Duration::from_millis(20);

    fn at(ms: u64) -> Time {
        Time::from_millis(ms)
    }

    #[test]
    fn a_pacer_that_was_not_started_has_nothing_due() {
        let mut pacer = Pacer::new(FRAME, CatchUp::One);
        assert_eq!(pacer.next_deadline(), None);
        assert_eq!(pacer.poll(at(1_000_000)), None);
        pacer.start(at(5));
        assert!(pacer.is_running());
        pacer.stop();
        assert_eq!(pacer.poll(at(100)), None);
    }

    #[test]
    fn deadlines_are_absolute() {
        let mut pacer = Pacer::new(FRAME, CatchUp::One);
        pacer.start(at(7));
        for n in 0..100_000_u64 {
            let deadline = at(7 + 20 * n);
            assert_eq!(pacer.next_deadline(), Some(deadline));
            assert_eq!(pacer.poll(deadline.before(Duration::from_nanos(1))), None);
            // Every timer fires a little late, and it never adds up.
            let lateness = Duration::from_nanos((n * 7919) % 4_000_000);
            let tick = pacer.poll(deadline + lateness).unwrap();
            assert_eq!(
                tick,
                Tick {
                    deadline,
                    lateness,
                    skipped: 0
                }
            );
            assert_eq!(pacer.poll(deadline + lateness), None);
        }
        assert_eq!((pacer.late(), pacer.skipped()), (0, 0));
        assert!(pacer.worst_lateness() < Duration::from_millis(4));
    }

    #[test]
    fn a_hiccup_is_caught_up_by_one_frame() {
        let mut pacer = Pacer::new(FRAME, CatchUp::One);
        pacer.start(at(0));
        pacer.poll(at(0)).unwrap();
        let first = pacer.poll(at(50)).unwrap();
        assert_eq!(
            (first.deadline, first.lateness, first.skipped),
            (at(20), Duration::from_millis(30), 0)
        );
        let second = pacer.poll(at(50)).unwrap();
        assert_eq!((second.deadline, second.skipped), (at(40), 0));
        assert_eq!(pacer.poll(at(50)), None, "no third frame");
        assert_eq!(pacer.next_deadline(), Some(at(60)), "the rhythm is kept");
        assert_eq!(pacer.late(), 2);
    }

    #[test]
    fn a_stall_never_makes_a_burst() {
        for (catch_up, stall) in [
            (CatchUp::One, 60),
            (CatchUp::One, 5000),
            (CatchUp::None, 40),
            (CatchUp::None, 5000),
        ] {
            let mut pacer = Pacer::new(FRAME, catch_up);
            pacer.start(at(0));
            pacer.poll(at(0)).unwrap();
            let tick = pacer.poll(at(stall)).unwrap();
            assert_eq!(tick.deadline, at(20));
            assert_eq!(tick.skipped, (stall - 20) / 20);
            assert_eq!(pacer.poll(at(stall)), None);
            assert_eq!(pacer.next_deadline(), Some(at(stall + 20)));
            assert_eq!(pacer.skipped(), (stall - 20) / 20);
        }
    }

    #[test]
    fn frames_are_never_closer_than_allowed() {
        // A poller of random punctuality: at most two frames at one instant, and never more than the time allows.
        let mut state = 12345_u64;
        let mut pacer = Pacer::new(FRAME, CatchUp::One);
        pacer.start(at(0));
        let (mut now, mut sent) = (0, 0_u64);
        for _ in 0..50_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            now += (state >> 33) % 70;
            let mut burst = 0;
            while pacer.poll(at(now)).is_some() {
                burst += 1;
            }
            assert!(burst <= 2);
            sent += burst;
            assert!(sent <= now / 20 + 1);
        }
    }
}
