//! Replies on their way out: clauses in, paced frames out, and a truthful account of what was heard.

mod continuous;

use std::collections::VecDeque;
use std::time::Duration;

use self::continuous::Line;

use super::wire::{FRAME_MS, OutFrame, Port, WireProfile};
use crate::audio::{CatchUp, Pacer, Resampler, SampleRate};
use crate::id::{ResponseId, SynthesisId};
use crate::session::PlayoutEvent;
use crate::time::{SESSION_RATE, Samples, Time};

const FRAME: Duration = Duration::from_millis(FRAME_MS as u64);
/// Between two reports of what has been heard: ten frames. Reports cost a step of the core each.
const FRAMES_PER_REPORT: u64 = 10;

/// Seconds of audio that a clause of at most 120 characters may have. A synthesiser that gives more never ends.
const LONGEST_CLAUSE: u64 = 120;

/// Why a synthesiser's audio can't be played.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unplayable {
    /// Nothing of it is taken.
    #[error("audio at {0} Hz can't be played: 8000 to 48000 Hz can")]
    Rate(u32),
    /// What came before is kept.
    #[error("it gave more than {LONGEST_CLAUSE} s of audio for one clause")]
    TooLong,
}

/// What became of the wish to send the next frame of a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// It is on its way.
    Sent,
    /// All was sent; some of it is still to be heard.
    BeingHeard,
    /// There is none, for now or for good.
    Nothing,
}

/// The audio of one clause, at the wire's rate.
#[derive(Debug)]
struct Clause {
    id: SynthesisId,
    pcm: VecDeque<i16>,
    resampler: Option<(u32, Resampler)>,
    /// Samples that were made, played or not.
    made: u64,
    done: bool,
}

/// The audio of one response.
#[derive(Debug)]
struct Track {
    response: ResponseId,
    clauses: VecDeque<Clause>,
    /// No further clause comes.
    complete: bool,
    /// Samples given to the wire, and when the last of their frames was due.
    sent: u64,
    last_due: Option<Time>,
    frames: u64,
    starving: bool,
}

impl Track {
    /// Drops clauses at the front that have been played to their end.
    fn skip_finished(&mut self) {
        while self
            .clauses
            .front()
            .is_some_and(|clause| clause.done && clause.pcm.is_empty())
        {
            self.clauses.pop_front();
        }
    }

    /// Samples that can be played without waiting.
    fn available(&self, enough: usize) -> usize {
        let mut count = 0;
        for clause in &self.clauses {
            count += clause.pcm.len();
            if count >= enough || !clause.done {
                break;
            }
        }
        count
    }

    /// Fills `frame` from the clauses in their order and answers how many samples there were.
    fn fill(&mut self, frame: &mut [i16]) -> usize {
        let mut filled = 0;
        while filled < frame.len() {
            self.skip_finished();
            let Some(clause) = self.clauses.front_mut() else { break };
            let count = clause.pcm.len().min(frame.len() - filled);
            if count == 0 {
                break;
            }
            for (slot, sample) in frame[filled..].iter_mut().zip(clause.pcm.drain(..count)) {
                *slot = sample;
            }
            filled += count;
        }
        filled
    }

    fn exhausted(&self) -> bool {
        self.complete && self.clauses.iter().all(|clause| clause.done && clause.pcm.is_empty())
    }
}

/// Plays the responses of one session.
#[derive(Debug)]
pub(super) struct Player {
    rate: SampleRate,
    /// How far ahead of its time a frame is sent.
    lead: Duration,
    /// How much later than that it is heard, as far as the wire knows.
    delay: Duration,
    /// What a wire that is never silent needs.
    line: Option<Line>,
    frame: usize,
    tracks: Vec<Track>,
    playing: Option<ResponseId>,
    pacer: Pacer,
    gain: u16,
    ramp_from: u16,
    /// A resampler is costly to build and cheap to reset: the last one is kept.
    spare: Option<(u32, Resampler)>,
    scratch: Vec<i16>,
    /// Lateness of the frames since it was last asked for.
    lateness: VecDeque<Duration>,
}

impl Player {
    /// A silent player for a wire that wants frames at `rate`.
    #[cfg(test)]
    pub(super) fn new(rate: SampleRate) -> Self {
        Self::for_wire(WireProfile::paced(rate))
    }

    /// A silent player for a wire of this profile.
    pub(super) fn for_wire(profile: WireProfile) -> Self {
        let WireProfile {
            output_rate: rate,
            lead,
            continuous,
        } = profile;
        let catch_up = match lead.is_zero() || continuous {
            true => CatchUp::One,
            false => CatchUp::All,
        };
        Self {
            rate,
            lead,
            delay: Duration::ZERO,
            line: continuous.then(Line::default),
            frame: (rate.hz() * FRAME_MS / 1000) as usize,
            tracks: Vec::new(),
            playing: None,
            pacer: Pacer::new(FRAME, catch_up),
            gain: 1000,
            ramp_from: 1000,
            spare: None,
            scratch: Vec::new(),
            lateness: VecDeque::new(),
        }
    }

    /// A position in samples of the wire, as a position at the session's rate.
    fn position(&self, samples: u64) -> Samples {
        Samples::new(samples * u64::from(SESSION_RATE) / u64::from(self.rate.hz()))
    }

    fn track(&mut self, response: ResponseId) -> Option<&mut Track> {
        self.tracks.iter_mut().find(|track| track.response == response)
    }

    fn clause(&mut self, id: SynthesisId) -> Option<&mut Clause> {
        self.tracks
            .iter_mut()
            .flat_map(|track| &mut track.clauses)
            .find(|clause| clause.id == id)
    }

    /// A place for the audio of `id`, behind the response's earlier clauses.
    pub(super) fn begin(&mut self, id: SynthesisId, response: ResponseId) {
        let clause = Clause {
            id,
            pcm: VecDeque::new(),
            resampler: None,
            made: 0,
            done: false,
        };
        if let Some(track) = self.track(response) {
            track.clauses.push_back(clause);
            return;
        }
        self.tracks.push(Track {
            response,
            clauses: VecDeque::from([clause]),
            complete: false,
            sent: 0,
            last_due: None,
            frames: 0,
            starving: false,
        });
    }

    /// Audio of a clause has come. Answers how much of the clause lies ready or was played, all together.
    pub(super) fn audio(&mut self, id: SynthesisId, pcm: &[i16], rate: u32) -> Result<Samples, Unplayable> {
        let most = LONGEST_CLAUSE * u64::from(self.rate.hz());
        if self.clause(id).is_some_and(|clause| clause.made > most) {
            return Err(Unplayable::TooLong);
        }
        let (to, mut spare, mut scratch) = (self.rate, self.spare.take(), std::mem::take(&mut self.scratch));
        let mut made = 0;
        if let Some(clause) = self.clause(id) {
            let fresh = match clause.resampler.take() {
                Some((used, resampler)) if used == rate => Ok(resampler),
                _ => match spare.take() {
                    Some((used, mut resampler)) if used == rate => {
                        resampler.reset();
                        Ok(resampler)
                    }
                    _ => Resampler::from_hz(rate, to).map_err(|_| Unplayable::Rate(rate)),
                },
            };
            let mut resampler = fresh?;
            scratch.clear();
            resampler.process(pcm, &mut scratch);
            clause.pcm.extend(&scratch);
            clause.made += scratch.len() as u64;
            clause.resampler = Some((rate, resampler));
            made = clause.made;
        }
        (self.spare, self.scratch) = (spare.or(self.spare.take()), scratch);
        Ok(self.position(made))
    }

    /// A clause is complete. Answers its length.
    pub(super) fn done(&mut self, id: SynthesisId) -> Samples {
        let mut scratch = std::mem::take(&mut self.scratch);
        let (mut made, mut spare) = (0, None);
        if let Some(clause) = self.clause(id) {
            scratch.clear();
            if let Some((rate, mut resampler)) = clause.resampler.take() {
                resampler.flush(&mut scratch);
                spare = Some((rate, resampler));
            }
            clause.pcm.extend(&scratch);
            clause.made += scratch.len() as u64;
            clause.done = true;
            made = clause.made;
        }
        self.scratch = scratch;
        self.spare = spare.or(self.spare.take());
        self.position(made)
    }

    /// What a clause has left is not to be played.
    pub(super) fn cancel(&mut self, id: SynthesisId) {
        if let Some(clause) = self.clause(id) {
            clause.pcm.clear();
            clause.resampler = None;
            clause.done = true;
        }
    }

    /// Plays `response` from now on.
    pub(super) fn play(&mut self, response: ResponseId, now: Time) {
        self.playing = Some(response);
        // The gain of the reply before it ended with that.
        self.ramp_from = self.gain;
        if !self.pacer.is_running() {
            self.start(now);
        }
    }

    /// Starts the clock: the next frame is heard now, or when what was sent before it has been.
    fn start(&mut self, now: Time) {
        let playing = self.playing;
        let track = self.tracks.iter().find(|track| Some(track.response) == playing);
        let free = track.and_then(|track| track.last_due).map_or(now, |due| due + FRAME);
        self.pacer.start(now.max(free).before(self.lead));
    }

    /// No further clause of `response` comes.
    pub(super) fn finish(&mut self, response: ResponseId) {
        match self.track(response) {
            Some(track) => track.complete = true,
            // A response without a single clause is a complete one of no length.
            None => self.tracks.push(Track {
                response,
                clauses: VecDeque::new(),
                complete: true,
                sent: 0,
                last_due: None,
                frames: 0,
                starving: false,
            }),
        }
    }

    /// Sets the gain in thousandths; the next frame ramps to it.
    pub(super) fn set_gain(&mut self, per_mille: u16) {
        self.gain = per_mille.min(1000);
    }

    /// Falls silent at once. The caller flushes the wire.
    pub(super) fn stop(&mut self, response: ResponseId, now: Time) -> PlayoutEvent {
        let (sent, heard) = match self.tracks.iter().position(|track| track.response == response) {
            Some(index) => {
                let mut track = self.tracks.swap_remove(index);
                self.fade(&mut track);
                (self.position(track.sent), self.position(self.heard(&track, now)))
            }
            None => (Samples::ZERO, Samples::ZERO),
        };
        if self.playing == Some(response) {
            self.playing = None;
            self.rest();
        }
        PlayoutEvent::Stopped { sent, heard }
    }

    /// Samples of `track` whose time has passed: all that was sent, less what is left of the last frame.
    fn heard(&self, track: &Track, now: Time) -> u64 {
        let Some(due) = track.last_due else { return 0 };
        let left = (due + FRAME + self.delay).since(now);
        let left = u64::try_from(left.as_nanos())
            .unwrap_or(u64::MAX)
            .saturating_mul(u64::from(self.rate.hz()))
            / 1_000_000_000;
        // With a lead, so much may not have been heard yet; without, no more than a frame.
        let lead = (self.lead + self.delay).as_nanos() * u128::from(self.rate.hz()) / 1_000_000_000;
        let most = self.frame as u64 + u64::try_from(lead).unwrap_or(u64::MAX);
        track.sent.saturating_sub(left.min(most))
    }

    /// When [`tick`](Player::tick) is to be called next.
    pub(super) fn next_deadline(&self) -> Option<Time> {
        self.pacer.next_deadline()
    }

    /// What is sent is heard so much later than it is due.
    pub(super) fn set_delay(&mut self, delay: Duration) {
        self.delay = delay;
    }

    /// Nothing is played for now: the clock stands still, where the wire can be silent.
    fn rest(&mut self) {
        if self.line.is_none() {
            self.pacer.stop();
        }
    }

    /// Sends what is due, and tells what has become of it.
    pub(super) fn tick(&mut self, now: Time, port: &mut Port, events: &mut Vec<(ResponseId, PlayoutEvent)>) {
        if self.line.is_some() {
            self.tick_continuously(now, port, events);
            return;
        }
        while let Some(tick) = self.pacer.poll(now) {
            match self.send_next(now, tick.deadline + self.lead, port, events) {
                // What is sent ahead of its time is not late.
                Next::Sent if self.lead.is_zero() => self.note_lateness(tick.lateness),
                Next::Sent | Next::BeingHeard => {}
                Next::Nothing => {
                    self.pacer.stop();
                    return;
                }
            }
        }
    }

    fn note_lateness(&mut self, lateness: Duration) {
        if self.lateness.len() < 256 {
            self.lateness.push_back(lateness);
        }
    }

    /// Sends the next frame of the reply that is played, if it lies ready. It is to be heard at `due`.
    fn send_next(
        &mut self,
        now: Time,
        due: Time,
        port: &mut Port,
        events: &mut Vec<(ResponseId, PlayoutEvent)>,
    ) -> Next {
        let frame_samples = self.frame;
        let Some(response) = self.playing else {
            return Next::Nothing;
        };
        let Some(index) = self.tracks.iter().position(|track| track.response == response) else {
            // Play came before the first clause: nothing is due until there is something.
            return Next::Nothing;
        };
        let is_ahead = !self.lead.is_zero() || !self.delay.is_zero();
        if self.tracks[index].exhausted() {
            if is_ahead && self.heard(&self.tracks[index], now) < self.tracks[index].sent {
                return Next::BeingHeard;
            }
            let track = self.tracks.swap_remove(index);
            let heard = self.position(track.sent);
            events.push((response, PlayoutEvent::Finished { heard }));
            self.playing = None;
            return Next::Nothing;
        }
        let position = self.position(self.tracks[index].sent);
        let track = &mut self.tracks[index];
        let available = track.available(frame_samples);
        let last = track.complete && track.clauses.iter().all(|clause| clause.done);
        if available < frame_samples && !(last && available > 0) {
            // Half a frame is not played: its other half may come any moment, and a hole in a word is worse than a
            // pause before it.
            if !track.starving && track.sent > 0 {
                events.push((response, PlayoutEvent::Underrun { at: position }));
            }
            track.starving = true;
            return Next::Nothing;
        }
        let talkspurt = track.frames == 0 || track.starving;
        let mut frame = OutFrame::new(Some(response), due, talkspurt, port.epoch(), frame_samples);
        let filled = track.fill(frame.pcm_mut());
        track.starving = false;
        track.sent += filled as u64;
        track.last_due = Some(due);
        track.frames += 1;
        let frames = track.frames;
        let sent = track.sent;
        apply_gain(frame.pcm_mut(), self.ramp_from, self.gain);
        self.ramp_from = self.gain;
        port.send_frame(frame);
        if frames == 1 {
            events.push((response, PlayoutEvent::Started));
        } else if frames.is_multiple_of(FRAMES_PER_REPORT) {
            let heard = if is_ahead {
                self.heard(&self.tracks[index], now)
            } else {
                sent.saturating_sub(filled as u64)
            };
            let until = self.position(heard);
            events.push((response, PlayoutEvent::Heard { until }));
        }
        Next::Sent
    }

    /// Something may be playable that was not: starts the clock again where it stood still.
    pub(super) fn resume(&mut self, now: Time) {
        let Some(response) = self.playing else { return };
        let frame = self.frame;
        if !self.pacer.is_running()
            && let Some(track) = self.track(response)
        {
            track.skip_finished();
            let available = track.available(frame);
            let last = track.complete && track.clauses.iter().all(|clause| clause.done);
            if available >= frame || last {
                self.start(now);
            }
        }
    }

    /// Whether there is enough to tell about, or nothing more comes for now. Telling takes a lock.
    pub(super) fn lateness_is_due(&self) -> bool {
        self.lateness.len() >= 50 || (!self.pacer.is_running() && !self.lateness.is_empty())
    }

    /// Lateness of the frames sent since this was last asked.
    pub(super) fn take_lateness(&mut self) -> impl Iterator<Item = Duration> + '_ {
        self.lateness.drain(..)
    }

    /// Forgets a response that is over without having been stopped or finished.
    pub(super) fn forget(&mut self, response: ResponseId) {
        self.tracks.retain(|track| track.response != response);
        if self.playing == Some(response) {
            self.playing = None;
            self.rest();
        }
    }
}

/// Scales `pcm` by a gain that runs from `from` to `to` (thousandths) over its length.
fn apply_gain(pcm: &mut [i16], from: u16, to: u16) {
    if from == 1000 && to == 1000 {
        return;
    }
    let length = i32::try_from(pcm.len().max(1)).unwrap_or(i32::MAX);
    let (from, to) = (i32::from(from), i32::from(to));
    for (index, sample) in (0..).zip(pcm.iter_mut()) {
        let gain = from + (to - from) * index / length;
        // At most 32768 · 1000, divided by 1000: it fits again.
        *sample = i16::try_from(i32::from(*sample) * gain / 1000).unwrap_or(i16::MAX);
    }
}

#[cfg(test)]
mod tests;
