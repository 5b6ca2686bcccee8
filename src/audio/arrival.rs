//! A sample clock for wires whose frames carry neither numbers nor timestamps (AudioSocket, chan_websocket and other
//! media in WebSocket messages): the moment a frame arrives is all that is known of when it was spoken.
//!
//! - Silence is made up when nothing comes, so that detectors of speech and of its end see time go on.
//! - Nothing is made up or left out for the jitter of a network, or because the far clock runs a little faster or
//!   slower: the relation of both clocks is followed, slowly.
//! - What was made up and then comes after all puts the samples ahead of time. That is paid back by leaving out quiet
//!   frames. Sound is only left out beyond [`MOST_AHEAD`], which is where a peer that floods us ends.
//!
//! Sans-IO: tell it of each frame by [`ArrivalClock::receive`] as soon as it is there, and poll at
//! [`ArrivalClock::next_deadline`]. All counts of samples are at 16 kHz ([`SESSION_RATE`]), after resampling. Nothing is
//! ever allocated.

use std::time::Duration;

use super::drift::{DriftMeter, WINDOW, most_drift};
use crate::time::{SESSION_RATE, Time};

/// The least time without a frame that is a gap. Longer frames than 20 ms, and a network that is known to hold frames
/// up for longer, make it longer.
pub const GAP: Duration = Duration::from_millis(60);
/// Sound that would be so far ahead of time is left out.
pub const MOST_AHEAD: Duration = Duration::from_secs(2);

const SAMPLE: i64 = 1_000_000_000 / SESSION_RATE as i64;
const MS: i64 = 1_000_000;
/// So late may a frame be before its place is filled: this after the moment at which it was to come,
const PATIENCE: i64 = 40 * MS;
/// or, on a network that has shown to need it, up to this.
const MOST_PATIENCE: i64 = 120 * MS;
/// The latest frame of a while is seldom the latest there will be.
const MARGIN: i64 = 10 * MS;
/// Silence is made up in steps of this.
const STEP: i64 = 20 * MS;
/// The longest frame that the next one is waited for accordingly.
const LONGEST_FRAME: i64 = 500 * MS;
/// A frame that is ahead of time by more than this is left out if it is quiet.
const BEARABLE_LEAD: i64 = 20 * MS;
/// Whoever comes so much later than the deadline has stalled himself: that time isn't made up.
const STALL: i64 = 1_000 * MS;
/// How far the clocks' relation may be corrected at once: the first frames may have been late ones.
const CORRECTION: i64 = 200 * MS;

/// What to do with a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// Samples of silence to hand on before the frame.
    pub silence_before: usize,
    /// Whether the frame is to be handed on. If not, it is counted, and forgotten.
    pub keep: bool,
}

/// What has come and what was made of it, since the beginning. It is cheap to ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ArrivalStats {
    /// Frames with samples in them that came.
    pub received: u64,
    /// Gaps that were filled.
    pub gaps: u64,
    /// Silence that was made up, in ms.
    pub filled_ms: u64,
    /// Quiet frames that were left out because the samples were ahead of time, in ms.
    pub trimmed_ms: u64,
    /// Sound that was left out because it was more than [`MOST_AHEAD`] ahead of time, in ms.
    pub dropped_ms: u64,
    /// Time that was not made up since this side had stalled, in ms.
    pub stalled_ms: u64,
    /// The jitter of the arrivals, in ms, as RFC 3550 §6.4.1 smooths it; gaps aren't jitter.
    pub jitter_ms: u32,
    /// How much faster the far clock runs than ours, in parts per million, negative if slower; 0 before some half a
    /// minute was measured. An estimate: a loss of a few milliseconds can't be told from drift.
    pub drift_ppm: i32,
}

/// See the [module's words](self).
#[derive(Debug, Clone, Default)]
pub struct ArrivalClock {
    line: Option<Line>,
    now: i64,
    received: u64,
    gaps: u64,
    filled: u64,
    trimmed: u64,
    dropped: u64,
    stalled: i64,
}

/// A stream after its first frame. Times are nanoseconds since the session began.
#[derive(Debug, Clone)]
struct Line {
    /// The moment at which what was handed on has been spoken: where the next sample begins.
    end: i64,
    /// How long the newest frame was.
    frame: i64,
    /// Silence that was made up and may still turn out to have been too much.
    made_up: i64,
    /// Silence was made up since the last frame.
    open: bool,
    /// By how much `end` may still be corrected without anything being made up or left out.
    correction: i64,
    corrected_at: i64,
    window: Window,
    /// The longest that a frame was late, in the window before.
    late_before: i64,
    drift: DriftMeter,
    /// Jitter, and the transit (arrival less length of all that came) that the next is compared with.
    jitter: i64,
    transit: i64,
    came: i64,
}

#[derive(Debug, Clone, Copy)]
struct Window {
    since: i64,
    /// By how much the most punctual frame was late; negative if frames were ahead of time.
    least_lag: i64,
    /// By how much a frame was ahead of time at most.
    most_lead: i64,
    /// By how much one was late at most, as far as it was no gap.
    latest: i64,
}

impl Window {
    const fn new(since: i64) -> Self {
        Self {
            since,
            least_lag: i64::MAX,
            most_lead: 0,
            latest: 0,
        }
    }
}

impl ArrivalClock {
    /// A clock that has heard nothing. Nothing is made up before the first frame.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes note of a frame of `samples` that arrived at `now`; `is_quiet` if nothing would be missed without it:
    /// it lies in a pause of 200 ms or more. A single quiet frame may be the closure before a `t`, and without it another
    /// word is heard. An empty frame is as if it hadn't come.
    pub fn receive(&mut self, now: Time, samples: usize, is_quiet: bool) -> Arrival {
        let length = i64::try_from(samples).unwrap_or(i64::MAX).saturating_mul(SAMPLE);
        if length == 0 {
            return Arrival {
                silence_before: 0,
                keep: true,
            };
        }
        self.received += 1;
        let now = self.advance(now);
        let Some(line) = &mut self.line else {
            self.line = Some(Line::new(now, length));
            return Arrival {
                silence_before: 0,
                keep: true,
            };
        };
        let stalled = line.skip_stall(now);
        self.stalled = self.stalled.saturating_add(stalled);
        line.roll(now);

        // How much later than expected it is.
        let late = now.saturating_sub(line.end).saturating_sub(length);
        let is_gap = line.open || late > line.patience();
        let silence = if is_gap { late.max(0) / SAMPLE } else { 0 };
        if is_gap && !line.open && silence > 0 {
            self.gaps += 1;
        }
        line.measure(now, length, is_gap || stalled > 0);
        line.fill(silence);
        line.open = false;
        line.frame = length.min(LONGEST_FRAME);
        self.filled += silence.unsigned_abs();

        let lead = line.settle(now, length);
        let keep = lead <= nanos_of(MOST_AHEAD) && !(is_quiet && lead > BEARABLE_LEAD && lead >= length);
        if keep {
            line.end = line.end.saturating_add(length);
        } else {
            line.made_up = (line.made_up - length).max(0);
            let left_out = if lead > nanos_of(MOST_AHEAD) {
                &mut self.dropped
            } else {
                &mut self.trimmed
            };
            *left_out = left_out.saturating_add(samples as u64);
        }
        Arrival {
            silence_before: usize::try_from(silence).unwrap_or(0),
            keep,
        }
    }

    /// Samples of silence to hand on at `now`, since nothing came: 0 before [`next_deadline`](Self::next_deadline), and
    /// never much more than a second's.
    pub fn poll(&mut self, now: Time) -> usize {
        let now = self.advance(now);
        let Some(line) = &mut self.line else { return 0 };
        if now < line.deadline() {
            return 0;
        }
        self.stalled = self.stalled.saturating_add(line.skip_stall(now));
        line.roll(now);
        if !line.open {
            line.open = true;
            self.gaps += 1;
        }
        // As little as possible, so that frames that are only late still find their place: time runs on, but behind.
        let silence = (now - line.deadline() + STEP) / SAMPLE;
        line.fill(silence);
        self.filled += silence.unsigned_abs();
        usize::try_from(silence).unwrap_or(0)
    }

    /// When to poll if no frame comes before. `None` before the first frame.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Time> {
        let line = self.line.as_ref()?;
        Some(Time::from_nanos(line.deadline().max(0).unsigned_abs()))
    }

    /// Time doesn't run backwards, whatever is said.
    fn advance(&mut self, now: Time) -> i64 {
        self.now = self.now.max(i64::try_from(now.as_nanos()).unwrap_or(i64::MAX));
        self.now
    }

    /// Counts since the beginning.
    #[must_use]
    pub fn stats(&self) -> ArrivalStats {
        let ms = |samples: u64| samples / (u64::from(SESSION_RATE) / 1000);
        let (jitter, drift_ppm) = self
            .line
            .as_ref()
            .map_or((0, 0), |line| (line.jitter, line.drift.ppm()));
        ArrivalStats {
            received: self.received,
            gaps: self.gaps,
            filled_ms: ms(self.filled),
            trimmed_ms: ms(self.trimmed),
            dropped_ms: ms(self.dropped),
            stalled_ms: (self.stalled / MS).unsigned_abs(),
            jitter_ms: u32::try_from(jitter / MS).unwrap_or(u32::MAX),
            drift_ppm,
        }
    }
}

impl Line {
    /// The first frame ends now: it can't have been spoken later.
    fn new(now: i64, length: i64) -> Self {
        let mut window = Window::new(now);
        window.least_lag = 0;
        let transit = now.saturating_sub(length);
        let mut drift = DriftMeter::default();
        drift.note(now, transit);
        Self {
            end: now,
            frame: length.min(LONGEST_FRAME),
            made_up: 0,
            open: false,
            correction: CORRECTION,
            corrected_at: now,
            window,
            late_before: 0,
            drift,
            jitter: 0,
            transit,
            came: length,
        }
    }

    fn patience(&self) -> i64 {
        let latest = self.window.latest.max(self.late_before);
        if latest > PATIENCE {
            (latest + MARGIN).min(MOST_PATIENCE)
        } else {
            PATIENCE
        }
    }

    fn deadline(&self) -> i64 {
        self.end
            .saturating_add((self.frame + self.patience()).max(nanos_of(GAP)))
    }

    fn fill(&mut self, samples: i64) {
        self.end = self.end.saturating_add(samples * SAMPLE);
        self.made_up = self.made_up.saturating_add(samples * SAMPLE);
    }

    /// Skips the time in which this side did nothing, and returns how much that was.
    fn skip_stall(&mut self, now: i64) -> i64 {
        let stalled = now.saturating_sub(self.deadline()).saturating_sub(STALL).max(0);
        self.end = self.end.saturating_add(stalled);
        self.window.since = self.window.since.saturating_add(stalled);
        stalled
    }

    /// Measures jitter and transit.
    fn measure(&mut self, now: i64, length: i64, is_gap: bool) {
        self.came = self.came.saturating_add(length);
        let transit = now.saturating_sub(self.came);
        if !is_gap {
            let change = transit.saturating_sub(self.transit).saturating_abs();
            self.jitter += (change - self.jitter) / 16;
        }
        self.transit = transit;
        self.drift.note(now, transit);
    }

    /// By how much a frame that is handed on now would be ahead of time. The relation of the clocks is corrected where
    /// that explains it.
    fn settle(&mut self, now: i64, length: i64) -> i64 {
        let lead = self.end.saturating_add(length).saturating_sub(now);
        self.window.least_lag = self.window.least_lag.min(-lead);
        self.window.latest = self.window.latest.max(lead.abs().min(MOST_PATIENCE));
        let refill = most_drift(now.saturating_sub(self.corrected_at));
        self.correction = self.correction.saturating_add(refill).min(CORRECTION);
        // What is left of less than a microsecond's refill isn't lost.
        if refill > 0 {
            self.corrected_at = now;
        }
        // More than was made up can't be explained by it: the frames before were late, or the far clock is fast.
        let unexplained = (lead - self.made_up).clamp(0, self.correction);
        self.correction -= unexplained;
        self.end -= unexplained;
        let lead = lead - unexplained;
        self.window.most_lead = self.window.most_lead.max(lead);
        lead
    }

    /// Looks back at a window that is over.
    fn roll(&mut self, now: i64) {
        let length = now.saturating_sub(self.window.since);
        if length < WINDOW {
            return;
        }
        let window = std::mem::replace(&mut self.window, Window::new(now));
        self.late_before = window.latest;
        if window.least_lag == i64::MAX {
            // Nothing came.
            return;
        }
        // Frames weren't ahead of time by more than this, so no more than this was made up for nothing.
        self.made_up = self.made_up.min(window.most_lead);
        // Even the most punctual frame was late: the far clock is slow.
        self.end = self.end.saturating_add(window.least_lag.clamp(0, most_drift(length)));
    }
}

const fn nanos_of(duration: Duration) -> i64 {
    duration.as_nanos() as i64
}

#[cfg(test)]
mod tests;
