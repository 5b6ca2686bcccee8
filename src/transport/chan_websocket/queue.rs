//! What is known of Asterisk's queue of our frames: how late it plays them, whether it is full, and whether it is longer than it
//! has a reason to be. Pure: it is told the time, what was sent and what came.
//!
//! Asterisk takes one frame from its queue every 20 ms and never catches up (asterisk#2115). A frame that came late left a hole, and
//! everything after it waits 20 ms longer than it must, until the queue is emptied. So a queue that stands there while nobody speaks
//! is flushed.
//!
//! Frames are always whole, so media is never buffered ([`START_MEDIA_BUFFERING`](Command::StartMediaBuffering)): that would gain nothing,
//! ends at a flush or doesn't, by version, and hides from `STATUS` what isn't a frame yet.

use std::collections::VecDeque;
use std::time::Duration;

#[cfg(doc)]
use repartee_protocol::chan_websocket::Command;
use repartee_protocol::chan_websocket::Status;

use crate::engine::FRAME_MS;
use crate::time::Time;

const FRAME: Duration = Duration::from_millis(FRAME_MS as u64);
/// Frames of speech between two marks.
const FRAMES_PER_MARK: u32 = 10;
/// Marks that may be on their way.
const MOST_MARKS: usize = 128;
/// So many marks without any answer: this Asterisk is older than 22.8, which has none.
const UNANSWERED_MARKS: usize = 16;
/// The delay is the median of so many.
const DELAYS: usize = 5;
/// Frames that a queue may be longer than what is known to be in it: less than that is jitter.
const TOLERATED: u32 = 3;
/// So many questions about the status without any answer: it isn't asked again.
const UNANSWERED_QUESTIONS: u32 = 5;

/// The name of a mark: `m` and its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark(u32);

impl Mark {
    /// Its name.
    pub(super) fn name(self) -> String {
        format!("m{}", self.0)
    }

    /// The mark of this name, if one may have it.
    pub(super) fn read(name: &str) -> Option<Self> {
        name.strip_prefix('m')?.parse().ok().map(Self)
    }
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Queue {
    /// Marks on their way, and when the frame before each was due.
    marks: VecDeque<(Mark, Time)>,
    next_mark: u32,
    /// Whether marks are sent. They aren't where nobody answers them.
    marking: bool,
    answered: bool,
    /// Frames of speech since the last mark.
    unmarked: u32,
    /// The last delays, the newest at the end.
    delays: VecDeque<Duration>,
    /// When the last frame was due.
    last_due: Time,
    /// Frames of silence since the last one of speech.
    quiet: u32,
    is_full: bool,
    is_paused: bool,
    unanswered: u32,
    status_known: bool,
    flushed: u64,
}

impl Queue {
    /// A queue with nothing in it. `marks` tells whether this Asterisk may know of marks.
    pub(super) fn new(marks: bool) -> Self {
        Self {
            marks: VecDeque::with_capacity(MOST_MARKS),
            next_mark: 1,
            marking: marks,
            answered: false,
            unmarked: 0,
            delays: VecDeque::with_capacity(DELAYS),
            last_due: Time::ZERO,
            quiet: 0,
            is_full: false,
            is_paused: false,
            unanswered: 0,
            status_known: false,
            flushed: 0,
        }
    }

    /// A frame was sent, of speech or of silence. Answers the mark that is to be sent behind it: one each 200 ms of speech, and one behind
    /// the first silence after it.
    pub(super) fn sent(&mut self, due: Time, is_speech: bool) -> Option<Mark> {
        self.last_due = self.last_due.max(due);
        let ends = !is_speech && self.quiet == 0 && self.unmarked > 0;
        if is_speech {
            self.quiet = 0;
            self.unmarked += 1;
        } else {
            self.quiet = self.quiet.saturating_add(1);
        }
        if !(ends || self.unmarked >= FRAMES_PER_MARK) {
            return None;
        }
        self.unmarked = 0;
        if !self.marking || self.marks.len() >= MOST_MARKS {
            return None;
        }
        if !self.answered && self.marks.len() >= UNANSWERED_MARKS {
            self.refused();
            return None;
        }
        let mark = Mark(self.next_mark);
        self.next_mark = self.next_mark.wrapping_add(1);
        self.marks.push_back((mark, due));
        Some(mark)
    }

    /// A mark was not sent, or a command was refused that may have been one.
    pub(super) fn refused(&mut self) {
        if !self.answered {
            self.marking = false;
            self.marks.clear();
        }
    }

    /// A mark came back. Answers how much later than it was due a frame leaves the queue, as far as is known; nothing for a mark
    /// that was flushed or never sent.
    pub(super) fn marked(&mut self, now: Time, mark: Mark) -> Option<Duration> {
        let place = self.marks.iter().position(|(sent, _)| *sent == mark)?;
        let (_, due) = self.marks[place];
        // They come in their order: those before it never come.
        self.marks.drain(..=place);
        self.answered = true;
        if self.delays.len() == DELAYS {
            self.delays.pop_front();
        }
        self.delays.push_back(now.since(due));
        let mut sorted = [Duration::ZERO; DELAYS];
        let sorted = &mut sorted[..self.delays.len()];
        for (slot, delay) in sorted.iter_mut().zip(&self.delays) {
            *slot = *delay;
        }
        sorted.sort_unstable();
        Some(sorted[(sorted.len() - 1) / 2])
    }

    /// The queue is emptied: marks in it never come. Answers the delay that is likely from now on, that of the best times, where one is known.
    pub(super) fn flush(&mut self) -> Option<Duration> {
        self.marks.clear();
        self.unmarked = 0;
        let least = self.delays.iter().min().copied();
        self.delays.clear();
        self.delays.extend(least);
        // Nothing that was sent is in it any more.
        self.last_due = Time::ZERO;
        least
    }

    /// The status is about to be asked for. Answers whether it is worth it.
    pub(super) fn ask(&mut self) -> bool {
        if !self.status_known && self.unanswered >= UNANSWERED_QUESTIONS {
            return false;
        }
        self.unanswered = self.unanswered.saturating_add(1);
        true
    }

    /// The status has come. True when the queue holds silence that only makes everything later: flush it.
    pub(super) fn status(&mut self, now: Time, status: &Status) -> bool {
        self.status_known = true;
        self.unanswered = 0;
        self.is_paused = status.media_paused;
        let ahead = (self.last_due + FRAME)
            .since(now)
            .as_millis()
            .div_ceil(FRAME.as_millis());
        let known = u32::try_from(ahead).unwrap_or(u32::MAX);
        // The last frames that were sent are those that are in it: when all of them are silence, nothing is lost.
        let is_silence = self.quiet >= status.queue_length;
        let stands = is_silence && status.queue_length > known.saturating_add(TOLERATED);
        self.flushed += u64::from(stands);
        stands
    }

    /// Asterisk says that its queue is nearly full, or that it isn't any more.
    pub(super) fn set_full(&mut self, is_full: bool) {
        self.is_full = is_full;
    }

    /// Whether it is nearly full.
    pub(super) const fn is_full(&self) -> bool {
        self.is_full
    }

    /// Whether it is paused. We never do that; but a flush doesn't end it.
    pub(super) const fn is_paused(&self) -> bool {
        self.is_paused
    }

    /// How often it was emptied because it stood.
    pub(super) const fn flushed(&self) -> u64 {
        self.flushed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(millis: u64) -> Time {
        Time::from_millis(millis)
    }

    fn status(queue_length: u32) -> Status {
        Status {
            queue_length,
            xon_level: 800,
            xoff_level: 900,
            queue_full: false,
            bulk_media: false,
            media_paused: false,
        }
    }

    /// Frames from `from` ms on; the marks that go with them.
    fn send(queue: &mut Queue, from: u64, frames: u64, is_speech: bool) -> Vec<(Mark, Time)> {
        (0..frames)
            .filter_map(|frame| {
                let due = ms(from + 20 * frame);
                queue.sent(due, is_speech).map(|mark| (mark, due))
            })
            .collect()
    }

    #[test]
    fn speech_is_marked_each_200_ms_and_at_its_end() {
        let mut queue = Queue::new(true);
        assert_eq!(send(&mut queue, 0, 50, false), []);
        let marks = send(&mut queue, 1_000, 25, true);
        assert_eq!(marks, [(Mark(1), ms(1_180)), (Mark(2), ms(1_380))]);
        assert_eq!(send(&mut queue, 1_500, 50, false), [(Mark(3), ms(1_500))]);
        // An end right behind a mark needs no other.
        assert_eq!(send(&mut queue, 3_000, 10, true).len(), 1);
        assert_eq!(send(&mut queue, 3_200, 10, false), []);
    }

    #[test]
    fn the_delay_is_the_median_of_the_last_and_starts_anew_after_a_flush() {
        let mut queue = Queue::new(true);
        let marks = send(&mut queue, 0, 80, true);
        let delays: Vec<u128> = marks
            .iter()
            .zip([20, 200, 40, 30, 50, 60, 60])
            .filter_map(|((mark, due), late)| queue.marked(*due + Duration::from_millis(late), *mark))
            .map(|delay| delay.as_millis())
            .collect();
        assert_eq!(delays, [20, 20, 40, 30, 40, 50, 50]);
        let left = marks[7].0;
        assert_eq!(queue.flush(), Some(Duration::from_millis(30)));
        assert_eq!(queue.marked(ms(9_000), left), None, "it was flushed");
        assert_eq!(queue.marked(ms(9_000), Mark(4_000)), None, "it was never sent");
    }

    #[test]
    fn marks_that_nobody_answers_end() {
        let mut queue = Queue::new(true);
        let sent = send(&mut queue, 0, 10_000, true).len();
        assert_eq!(sent, UNANSWERED_MARKS);
        assert!(send(&mut Queue::new(false), 0, 1_000, true).is_empty());
        let mut answered = Queue::new(true);
        let first = send(&mut answered, 0, 10, true)[0];
        answered.marked(ms(500), first.0);
        answered.refused();
        assert_eq!(
            send(&mut answered, 0, 100_000, true).len(),
            MOST_MARKS,
            "bounded all the same"
        );
        assert_eq!(Mark::read("m17"), Some(Mark(17)));
        for name in ["", "m", "17", "m-1", "m99999999999", "s1"] {
            assert_eq!(Mark::read(name), None, "{name}");
        }
    }

    #[test]
    fn a_queue_that_stands_while_nobody_speaks_is_flushed() {
        let mut queue = Queue::new(true);
        send(&mut queue, 0, 100, false);
        assert!(!queue.status(ms(1_990), &status(1)), "as it is");
        assert!(!queue.status(ms(1_990), &status(4)), "jitter");
        assert!(queue.status(ms(1_990), &status(5)));
        queue.flush();
        assert!(!queue.status(ms(2_000), &status(0)));
        assert_eq!(queue.flushed(), 1);
    }

    #[test]
    fn what_is_still_to_be_heard_is_not_flushed() {
        let mut queue = Queue::new(true);
        send(&mut queue, 0, 100, true);
        assert!(!queue.status(ms(1_920), &status(20)), "speech");
        send(&mut queue, 2_000, 19, false);
        assert!(!queue.status(ms(2_370), &status(20)), "its last frame is still in it");
        send(&mut queue, 2_380, 1, false);
        assert!(queue.status(ms(2_390), &status(20)));
        // A lead that is known is no delay.
        let mut early = Queue::new(true);
        send(&mut early, 1_000, 6, false);
        assert!(!early.status(ms(1_000), &status(6)));
    }

    #[test]
    fn a_status_that_nobody_answers_is_not_asked_for_again() {
        let mut queue = Queue::new(true);
        assert_eq!((0..20).filter(|_| queue.ask()).count(), 5);
        let mut answering = Queue::new(true);
        assert!(answering.ask());
        answering.status(ms(0), &status(0));
        assert_eq!((0..20).filter(|_| answering.ask()).count(), 20);
    }
}
