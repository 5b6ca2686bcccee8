//! When what was sent is heard: a mark comes back when everything before it has been played. Pure: it is told the time.

use std::collections::VecDeque;
use std::time::Duration;

use crate::engine::FRAME_MS;
use crate::time::Time;

/// Frames between two marks: 200 ms.
const FRAMES_PER_MARK: u32 = 10;
/// Marks that are waited for. A peer that gives none back has let go of the oldest.
const MOST: usize = 64;
/// Nothing is heard later than this: whatever comes back so late says nothing.
const LATEST: Duration = Duration::from_secs(5);
/// A reply of which no frame left for so long has ended, or has a pause. Frames leave every 20 ms.
const PAUSE: Duration = Duration::from_millis(60);

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Marks {
    next: u64,
    /// Marks that have not come back: which, and when what is before it should be heard to its end.
    out: VecDeque<(u64, Time)>,
    /// Frames after the last mark, when they should be heard to their end, and when the last of them left.
    unmarked: u32,
    end: Time,
    left: Time,
}

impl Marks {
    /// A frame that is due at `due` leaves now. Whether a mark is to follow it.
    pub(super) fn frame(&mut self, now: Time, due: Time) -> bool {
        self.unmarked += 1;
        self.end = due + Duration::from_millis(FRAME_MS.into());
        self.left = now;
        self.unmarked >= FRAMES_PER_MARK
    }

    /// When a mark is due because no frame follows.
    pub(super) fn deadline(&self) -> Option<Time> {
        (self.unmarked > 0).then(|| self.left + PAUSE)
    }

    /// Whether frames have left that no mark follows.
    pub(super) const fn is_due(&self) -> bool {
        self.unmarked > 0
    }

    /// A mark behind all that was sent. Its name.
    pub(super) fn mark(&mut self) -> u64 {
        let number = self.next;
        self.next += 1;
        self.unmarked = 0;
        if self.out.len() == MOST {
            self.out.pop_front();
        }
        self.out.push_back((number, self.end));
        number
    }

    /// What was sent is not heard any more: marks come back at once, and say nothing.
    pub(super) fn clear(&mut self) {
        self.out.clear();
        self.unmarked = 0;
    }

    /// Whether a mark is still to come back.
    pub(super) fn is_waiting(&self) -> bool {
        !self.out.is_empty()
    }

    /// A mark came back. How much later than it was due what is before it has been heard; `None` when the mark says nothing of that:
    /// it was cleared, or isn't ours.
    pub(super) fn came_back(&mut self, now: Time, name: &str) -> Option<Duration> {
        let number: u64 = name.parse().ok()?;
        let place = self.out.iter().position(|(known, _)| *known == number)?;
        // They come in order: what was before it never comes.
        let (_, end) = self.out.drain(..=place).next_back()?;
        let delay = now.since(end);
        (delay <= LATEST).then_some(delay)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Time {
        Time::from_millis(millis)
    }

    /// Sends `count` frames from `due` on, 200 ms ahead, and answers the marks among them.
    fn send(marks: &mut Marks, due: u64, count: u64) -> Vec<u64> {
        (0..count)
            .filter_map(|frame| {
                let due = due + frame * 20;
                marks.frame(at(due.saturating_sub(200)), at(due)).then(|| marks.mark())
            })
            .collect()
    }

    #[test]
    fn a_mark_follows_every_200_ms_and_the_end() {
        let mut marks = Marks::default();
        assert_eq!(marks.deadline(), None);
        assert_eq!(send(&mut marks, 1_000, 25), [0, 1]);
        // The last frame left at 1280.
        assert_eq!(marks.deadline(), Some(at(1_340)));
        assert_eq!(marks.mark(), 2);
        assert_eq!(marks.deadline(), None);
    }

    #[test]
    fn the_delay_is_what_comes_on_top() {
        let mut marks = Marks::default();
        assert_eq!(send(&mut marks, 1_000, 30), [0, 1, 2]);
        assert_eq!(marks.came_back(at(1_290), "0"), Some(Duration::from_millis(90)));
        // 1 is lost on the way.
        assert_eq!(marks.came_back(at(1_650), "2"), Some(Duration::from_millis(50)));
        assert!(!marks.is_waiting());
        assert_eq!(send(&mut marks, 5_000, 10), [3]);
        assert_eq!(marks.came_back(at(5_100), "3"), Some(Duration::ZERO), "never early");
    }

    #[test]
    fn what_was_cleared_or_is_strange_says_nothing() {
        let mut marks = Marks::default();
        assert_eq!(send(&mut marks, 1_000, 15), [0]);
        marks.clear();
        assert_eq!(marks.deadline(), None);
        for name in ["0", "1", "", "-1", "x", "99999999999999999999999"] {
            assert_eq!(marks.came_back(at(1_100), name), None, "{name}");
        }
        assert_eq!(send(&mut marks, 2_000, 10), [1]);
        assert_eq!(marks.came_back(at(60_000), "1"), None, "far too late");
    }

    #[test]
    fn a_peer_that_gives_none_back_costs_no_memory() {
        let mut marks = Marks::default();
        send(&mut marks, 1_000, 100_000);
        assert_eq!(marks.out.len(), MOST);
    }
}
