//! What one caller of the load does: when it speaks, and what it measures.

use std::time::{Duration, Instant};

use bytes::Bytes;
use repartee_protocol::native::{Event, ResponseStatus};
use serde::{Deserialize, Serialize};

use super::sound::{Sounds, peak};

/// Length of a message and of a frame of a reply.
pub(crate) const FRAME: Duration = Duration::from_millis(20);

/// Frames of silence after which a caller stops waiting for a reply, and begins to speak again.
const PATIENCE: u32 = 400;

/// Frames between a reply and the next words of the caller.
const PAUSE: u32 = 25;

/// The scripted voice speaks with an amplitude of 8,000; what is quieter than this is ducked.
const DUCKED_BELOW: u16 = 6_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Plan {
    /// Says nothing.
    Listen,
    /// Speaks for so many frames, then is silent for so many.
    Mix { talk: u32, silence: u32 },
    /// Says a clip, waits for the reply to end, says the next.
    Turns,
    /// The same, but speaks into each reply after so many of its frames.
    BargeIn { after: u32 },
}

/// What one caller has measured, all in milliseconds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Measured {
    /// Stages of the turn reports.
    pub(crate) stages: Vec<(&'static str, f64)>,
    /// From the last message of speech to the first frame of the reply.
    pub(crate) reply_after: Vec<f64>,
    /// From the first message of speech to the first partial transcript.
    pub(crate) partial_after: Vec<f64>,
    /// From the last message of speech to the final transcript.
    pub(crate) final_after: Vec<f64>,
    /// How much later than 20 ms after 20 ms each frame of a reply came, against the reply's most punctual frame.
    pub(crate) lateness: Vec<f64>,
    /// From the first message that spoke into a reply to its first quieter frame, and to its last frame.
    pub(crate) ducked_after: Vec<f64>,
    pub(crate) stopped_after: Vec<f64>,
    /// How late the load itself was with its messages.
    pub(crate) own_lateness: Vec<f64>,
    pub(crate) replies: u64,
    pub(crate) errors: Vec<String>,
}

/// One caller.
pub(crate) struct Caller {
    plan: Plan,
    sounds: std::sync::Arc<Sounds>,
    /// Which clip is next, and how far the present one is.
    clip: usize,
    speaking: Option<usize>,
    ticks: u32,
    silent_for: u32,
    first_word: Option<Instant>,
    last_word: Option<Instant>,
    first_partial_came: bool,
    /// Arrivals of the frames of the reply that is being heard.
    arrivals: Vec<Instant>,
    reply_over: bool,
    barging: Option<Instant>,
    ducked: bool,
    pub(crate) measured: Measured,
}

fn millis(later: Instant, earlier: Instant) -> f64 {
    later.saturating_duration_since(earlier).as_secs_f64() * 1e3
}

impl Caller {
    /// `phase` frames pass before this caller does anything, so that not all of them speak at once.
    pub(crate) fn new(plan: Plan, sounds: std::sync::Arc<Sounds>, number: usize, phase: u32) -> Self {
        let clip = number % sounds.clips.len();
        Self {
            plan,
            sounds,
            clip,
            speaking: None,
            ticks: 0,
            // In these plans a caller speaks when it has been silent for long enough.
            silent_for: PATIENCE.saturating_sub(phase + 1),
            first_word: None,
            last_word: None,
            first_partial_came: false,
            arrivals: Vec::new(),
            reply_over: false,
            barging: None,
            ducked: false,
            measured: Measured::default(),
        }
        .delayed(phase)
    }

    fn delayed(mut self, phase: u32) -> Self {
        if let Plan::Mix { talk, silence } = self.plan {
            // The first words come after `phase` frames of the cycle's silence.
            self.ticks = talk + silence.saturating_sub(phase % silence.max(1));
        }
        self
    }

    /// The next message, and whether it is speech.
    pub(crate) fn next(&mut self) -> (Bytes, bool) {
        self.ticks += 1;
        let begins = match self.plan {
            Plan::Listen => false,
            Plan::Mix { talk, silence } => self.ticks.is_multiple_of(talk + silence),
            Plan::Turns => self.has_waited(),
            Plan::BargeIn { after } => self.has_waited() || self.arrivals.len() as u32 == after,
        };
        if self.speaking.is_none() && begins {
            self.speaking = Some(0);
            self.first_word = None;
            self.first_partial_came = false;
            self.reply_over = false;
        }
        let Some(at) = self.speaking else {
            self.silent_for += 1;
            let quiet = &self.sounds.quiet;
            return (quiet[self.ticks as usize % quiet.len()].clone(), false);
        };
        self.silent_for = 0;
        let clip = &self.sounds.clips[self.clip];
        let message = clip[at].clone();
        // In a mix a clip that is longer than the talk is cut short, so that its share is what it says.
        let end = match self.plan {
            Plan::Mix { talk, .. } => clip.len().min(talk as usize),
            _ => clip.len(),
        };
        self.speaking = Some(at + 1).filter(|next| *next < end);
        if self.speaking.is_none() {
            self.clip = (self.clip + 1) % self.sounds.clips.len();
        }
        (message, true)
    }

    fn has_waited(&self) -> bool {
        self.silent_for > PATIENCE || (self.reply_over && self.silent_for > PAUSE)
    }

    /// A message of speech has been handed to the system.
    pub(crate) fn spoke(&mut self, now: Instant) {
        if self.first_word.is_none() {
            self.first_word = Some(now);
            if matches!(self.plan, Plan::BargeIn { .. }) && !self.arrivals.is_empty() {
                self.barging = Some(now);
                self.ducked = false;
            }
        }
        self.last_word = Some(now);
    }

    pub(crate) fn heard(&mut self, now: Instant, frame: &[u8]) {
        if self.arrivals.is_empty() {
            self.measured.replies += 1;
            if let Some(last_word) = self.last_word.take() {
                self.measured.reply_after.push(millis(now, last_word));
            }
        }
        self.arrivals.push(now);
        if let Some(onset) = self.barging
            && !self.ducked
            && peak(frame) < DUCKED_BELOW
        {
            self.ducked = true;
            self.measured.ducked_after.push(millis(now, onset));
        }
    }

    pub(crate) fn told(&mut self, now: Instant, event: &Event) {
        match event {
            Event::Transcript(transcript) if transcript.is_final => {
                if let Some(last_word) = self.last_word {
                    self.measured.final_after.push(millis(now, last_word));
                }
            }
            Event::Transcript(_) => {
                if let Some(first_word) = self.first_word
                    && !self.first_partial_came
                {
                    self.first_partial_came = true;
                    self.measured.partial_after.push(millis(now, first_word));
                }
            }
            Event::TurnReport(report) => {
                let stages = report.stages.iter();
                self.measured
                    .stages
                    .extend(stages.map(|stage| (stage.stage.as_str(), stage.ms.as_f64())));
            }
            Event::ResponseDone(done) => {
                let last_frame = self.arrivals.last().copied();
                if let (Some(onset), Some(last_frame)) = (self.barging.take(), last_frame)
                    && done.status == ResponseStatus::Interrupted
                {
                    self.measured.stopped_after.push(millis(last_frame, onset));
                }
                self.judge_rhythm();
                self.reply_over = true;
            }
            Event::Error(error) => self.measured.errors.push(error.code.as_str().to_owned()),
            _ => {}
        }
    }

    /// The reply is over: how even did its frames come? The most punctual frame gives the beat; each frame's deadline is
    /// a multiple of 20 ms from there.
    fn judge_rhythm(&mut self) {
        let Some(first) = self.arrivals.first().copied() else {
            return;
        };
        let offset = |(number, arrival): (u32, &Instant)| millis(*arrival, first) - f64::from(number) * 20.0;
        let offsets: Vec<f64> = (0..).zip(&self.arrivals).map(offset).collect();
        let earliest = offsets.iter().copied().fold(f64::INFINITY, f64::min);
        self.measured
            .lateness
            .extend(offsets.iter().map(|offset| offset - earliest));
        self.arrivals.clear();
    }
}
