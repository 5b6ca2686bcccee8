//! What was heard lately: the samples behind the spans of the session core.

use std::collections::VecDeque;

use crate::time::Samples;

/// Audio of a session by its position on the sample clock. It holds what the core says it may still need, and never more
/// than its bound.
#[derive(Debug)]
pub(super) struct AudioRing {
    samples: VecDeque<i16>,
    start: Samples,
    bound: usize,
}

/// Below this many samples (half a second) the buffer's memory isn't given back.
const KEEP_CAPACITY: usize = 8_000;

impl AudioRing {
    /// An empty ring at the beginning of the sample clock that holds at most `bound` samples.
    pub(super) fn new(bound: Samples) -> Self {
        Self {
            samples: VecDeque::with_capacity(KEEP_CAPACITY),
            start: Samples::ZERO,
            bound: usize::try_from(bound.count()).unwrap_or(usize::MAX),
        }
    }

    /// The oldest sample.
    pub(super) fn start(&self) -> Samples {
        self.start
    }

    /// The sample after the newest.
    pub(super) fn end(&self) -> Samples {
        self.start + Samples::new(self.samples.len() as u64)
    }

    /// Appends `pcm`. Answers how many of the oldest samples had to go to stay under the bound.
    pub(super) fn push(&mut self, pcm: &[i16]) -> Samples {
        self.samples.extend(pcm);
        let excess = self.samples.len().saturating_sub(self.bound);
        self.samples.drain(..excess);
        self.start += Samples::new(excess as u64);
        Samples::new(excess as u64)
    }

    /// Forgets what lies before `from`.
    pub(super) fn keep_from(&mut self, from: Samples) {
        let count = from.saturating_sub(self.start).count().min(self.samples.len() as u64);
        self.samples.drain(..usize::try_from(count).unwrap_or(usize::MAX));
        self.start += Samples::new(count);
        // A turn of half a minute takes a megabyte; an idle session shall not keep it.
        if self.samples.capacity() > KEEP_CAPACITY && self.samples.len() * 4 < self.samples.capacity() {
            self.samples.shrink_to(KEEP_CAPACITY.max(self.samples.len() * 2));
        }
    }

    /// Copies up to `limit` samples from `from` on to the end of `out` and answers the position of the first one copied:
    /// `from`, or the oldest sample kept, if that is later.
    pub(super) fn read(&self, from: Samples, limit: usize, out: &mut Vec<i16>) -> Samples {
        let from = from.max(self.start);
        let offset = usize::try_from(from.saturating_sub(self.start).count()).unwrap_or(usize::MAX);
        let offset = offset.min(self.samples.len());
        let length = limit.min(self.samples.len() - offset);
        let (front, back) = self.samples.as_slices();
        let from_front = front.get(offset..).unwrap_or(&[]);
        let first = from_front.len().min(length);
        out.extend_from_slice(&from_front[..first]);
        let back_offset = offset.saturating_sub(front.len());
        out.extend_from_slice(&back[back_offset..back_offset + (length - first)]);
        from
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(count: u64) -> Samples {
        Samples::new(count)
    }

    #[test]
    fn what_was_pushed_is_read_back_across_the_seam() {
        let mut ring = AudioRing::new(at(10_000));
        let mut expected = VecDeque::new();
        let mut next = 0i16;
        for round in 0..500 {
            let chunk: Vec<i16> = (0..37 + round % 5)
                .map(|_| {
                    next = next.wrapping_add(1);
                    next
                })
                .collect();
            expected.extend(&chunk);
            ring.push(&chunk);
            let keep = ring.end().saturating_sub(at(300));
            let gone = keep.saturating_sub(ring.start).count() as usize;
            expected.drain(..gone.min(expected.len()));
            ring.keep_from(keep);
            let mut out = Vec::new();
            let from = ring.read(ring.start + at(7), 200, &mut out);
            assert_eq!(from, ring.start + at(7));
            let wanted: Vec<i16> = expected.iter().skip(7).take(200).copied().collect();
            assert_eq!(out, wanted, "round {round}");
        }
    }

    #[test]
    fn the_bound_holds_and_the_loss_is_told() {
        let mut ring = AudioRing::new(at(100));
        assert_eq!(ring.push(&[1; 80]), at(0));
        assert_eq!(ring.push(&[2; 80]), at(60));
        assert_eq!((ring.start, ring.end()), (at(60), at(160)));
        let mut out = Vec::new();
        assert_eq!(ring.read(at(0), 1_000, &mut out), at(60));
        assert_eq!(out.len(), 100);
    }

    #[test]
    fn reading_outside_gives_nothing() {
        let mut ring = AudioRing::new(at(100));
        ring.push(&[1; 10]);
        let mut out = Vec::new();
        ring.read(at(10), 5, &mut out);
        ring.read(at(99), 5, &mut out);
        assert!(out.is_empty());
    }

    #[test]
    fn memory_is_given_back_after_a_long_turn() {
        let mut ring = AudioRing::new(at(1_000_000));
        ring.push(&vec![0; 480_000]);
        ring.keep_from(ring.end());
        assert!(
            ring.samples.capacity() <= 2 * KEEP_CAPACITY,
            "{}",
            ring.samples.capacity()
        );
    }
}
