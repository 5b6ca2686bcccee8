//! Replies on their way out: clauses in, paced frames out, and a truthful account of what was heard.

use std::collections::VecDeque;
use std::time::Duration;

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
        } = profile;
        let catch_up = if lead.is_zero() { CatchUp::One } else { CatchUp::All };
        Self {
            rate,
            lead,
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
                let track = self.tracks.swap_remove(index);
                (self.position(track.sent), self.position(self.heard(&track, now)))
            }
            None => (Samples::ZERO, Samples::ZERO),
        };
        if self.playing == Some(response) {
            self.playing = None;
            self.pacer.stop();
        }
        PlayoutEvent::Stopped { sent, heard }
    }

    /// Samples of `track` whose time has passed: all that was sent, less what is left of the last frame.
    fn heard(&self, track: &Track, now: Time) -> u64 {
        let Some(due) = track.last_due else { return 0 };
        let left = (due + FRAME).since(now);
        let left = u64::try_from(left.as_nanos())
            .unwrap_or(u64::MAX)
            .saturating_mul(u64::from(self.rate.hz()))
            / 1_000_000_000;
        // With a lead, so much may not have been heard yet; without, no more than a frame.
        let lead = self.lead.as_nanos() * u128::from(self.rate.hz()) / 1_000_000_000;
        let most = self.frame as u64 + u64::try_from(lead).unwrap_or(u64::MAX);
        track.sent.saturating_sub(left.min(most))
    }

    /// When [`tick`](Player::tick) is to be called next.
    pub(super) fn next_deadline(&self) -> Option<Time> {
        self.pacer.next_deadline()
    }

    /// Sends what is due, and tells what has become of it.
    pub(super) fn tick(&mut self, now: Time, port: &mut Port, events: &mut Vec<(ResponseId, PlayoutEvent)>) {
        while let Some(tick) = self.pacer.poll(now) {
            let frame_samples = self.frame;
            let Some(response) = self.playing else {
                self.pacer.stop();
                return;
            };
            let Some(index) = self.tracks.iter().position(|track| track.response == response) else {
                // Play came before the first clause: nothing is due until there is something.
                self.pacer.stop();
                return;
            };
            if self.tracks[index].exhausted() {
                if !self.lead.is_zero() && self.heard(&self.tracks[index], now) < self.tracks[index].sent {
                    // All of it was sent, and is still being heard.
                    continue;
                }
                let track = self.tracks.swap_remove(index);
                events.push((
                    response,
                    PlayoutEvent::Finished {
                        heard: self.position(track.sent),
                    },
                ));
                self.playing = None;
                self.pacer.stop();
                return;
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
                self.pacer.stop();
                return;
            }
            let talkspurt = track.frames == 0 || track.starving;
            let due = tick.deadline + self.lead;
            let mut frame = OutFrame::new(response, due, talkspurt, port.epoch(), frame_samples);
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
            // What is sent ahead of its time is not late.
            if self.lead.is_zero() && self.lateness.len() < 256 {
                self.lateness.push_back(tick.lateness);
            }
            if frames == 1 {
                events.push((response, PlayoutEvent::Started));
            } else if frames.is_multiple_of(FRAMES_PER_REPORT) {
                let heard = if self.lead.is_zero() {
                    sent.saturating_sub(filled as u64)
                } else {
                    self.heard(&self.tracks[index], now)
                };
                events.push((
                    response,
                    PlayoutEvent::Heard {
                        until: self.position(heard),
                    },
                ));
            }
        }
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
            self.pacer.stop();
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
mod tests {
    use std::task::{Context, Poll, Waker};

    use super::super::clock::Clock;
    use std::sync::Arc;

    use super::super::Place;
    use super::super::wire::{Call, connect};
    use super::*;
    use crate::id::SessionId;

    const RESPONSE: ResponseId = ResponseId::new(1);

    struct Stage {
        player: Player,
        port: Port,
        call: Call,
        events: Vec<PlayoutEvent>,
        heard: Vec<i16>,
        due: Vec<u64>,
    }

    fn at(millis: u64) -> Time {
        Time::from_millis(millis)
    }

    impl Stage {
        fn new() -> Self {
            let (call, port) = connect(SessionId::new(1), Clock::start(), Arc::new(Place(None)), Duration::ZERO);
            let player = Player::new(SampleRate::Hz16000);
            Self {
                player,
                port,
                call,
                events: Vec::new(),
                heard: Vec::new(),
                due: Vec::new(),
            }
        }

        /// A clause of `millis` with samples of this value, complete.
        fn clause(&mut self, id: u64, millis: usize, value: i16) {
            let id = SynthesisId::new(id);
            self.player.begin(id, RESPONSE);
            self.player.audio(id, &vec![value; millis * 16], 16_000).unwrap();
            self.player.done(id);
        }

        /// Lets the time run from `from` to `to` in steps of a millisecond.
        fn run(&mut self, from: u64, to: u64) {
            let mut context = Context::from_waker(Waker::noop());
            for millis in from..to {
                let mut events = Vec::new();
                self.player.tick(at(millis), &mut self.port, &mut events);
                self.events.extend(events.into_iter().map(|(_, event)| event));
                while let Poll::Ready(Some(frame)) = self.call.frames.poll_recv(&mut context) {
                    self.heard.extend_from_slice(frame.pcm());
                    self.due.push(frame.due.as_millis());
                }
            }
        }
    }

    #[test]
    fn clauses_follow_one_another_without_a_gap() {
        let mut stage = Stage::new();
        // 50 ms is no whole number of frames: the second clause begins within one.
        stage.clause(1, 50, 100);
        stage.clause(2, 50, 200);
        stage.player.finish(RESPONSE);
        stage.player.play(RESPONSE, at(7));
        stage.run(0, 300);
        let expected = [vec![100; 800], vec![200; 800]].concat();
        assert_eq!(stage.heard, expected);
        assert_eq!(stage.due, [7, 27, 47, 67, 87]);
        let heard = Samples::from_millis(100);
        assert_eq!(stage.events, [PlayoutEvent::Started, PlayoutEvent::Finished { heard }]);
    }

    #[test]
    fn nothing_is_played_before_play() {
        let mut stage = Stage::new();
        stage.clause(1, 100, 1);
        stage.run(0, 100);
        assert!(stage.heard.is_empty());
    }

    #[test]
    fn a_synthesiser_that_falls_behind_makes_a_pause_not_a_hole_in_a_frame() {
        let mut stage = Stage::new();
        let id = SynthesisId::new(1);
        stage.player.begin(id, RESPONSE);
        stage.player.audio(id, &[5; 400], 16_000).unwrap();
        stage.player.play(RESPONSE, at(0));
        stage.run(0, 100);
        assert_eq!(stage.heard.len(), 320, "half a frame waits");
        assert_eq!(stage.events[1], PlayoutEvent::Underrun { at: Samples::new(320) });
        stage.player.audio(id, &[5; 240], 16_000).unwrap();
        stage.player.done(id);
        stage.player.finish(RESPONSE);
        stage.player.resume(at(100));
        stage.run(100, 200);
        assert_eq!(stage.heard, vec![5; 640]);
        assert_eq!(stage.due, [0, 100]);
        assert_eq!(
            stage.events.last(),
            Some(&PlayoutEvent::Finished {
                heard: Samples::new(640)
            })
        );
    }

    #[test]
    fn stopping_is_silent_at_once_and_says_what_was_heard() {
        let mut stage = Stage::new();
        stage.clause(1, 1_000, 9);
        stage.player.finish(RESPONSE);
        stage.player.play(RESPONSE, at(0));
        stage.run(0, 110);
        assert_eq!(stage.heard.len(), 6 * 320);
        let event = stage.player.stop(RESPONSE, at(110));
        // Six frames are out; the sixth was due at 100 ms, and half of it has been heard.
        let (sent, heard) = (Samples::from_millis(120), Samples::from_millis(110));
        assert_eq!(event, PlayoutEvent::Stopped { sent, heard });
        stage.run(110, 400);
        assert_eq!(stage.heard.len(), 6 * 320);
    }

    #[test]
    fn what_the_wire_has_not_taken_is_flushed() {
        let mut stage = Stage::new();
        stage.clause(1, 1_000, 9);
        stage.player.play(RESPONSE, at(0));
        for millis in 0..60 {
            stage.player.tick(at(millis), &mut stage.port, &mut Vec::new());
        }
        stage.player.stop(RESPONSE, at(60));
        stage.port.flush();
        stage.run(60, 200);
        assert!(stage.heard.is_empty());
    }

    #[test]
    fn ducking_ramps_over_a_frame() {
        let mut stage = Stage::new();
        stage.clause(1, 60, 1_000);
        stage.player.finish(RESPONSE);
        stage.player.play(RESPONSE, at(0));
        stage.run(0, 10);
        stage.player.set_gain(250);
        stage.run(10, 100);
        assert_eq!(stage.heard[319], 1_000);
        assert_eq!(stage.heard[320], 1_000);
        assert!(stage.heard[320..640].windows(2).all(|pair| pair[0] >= pair[1]));
        assert_eq!(stage.heard[640], 250);
    }

    #[test]
    fn a_reply_does_not_begin_at_the_volume_at_which_the_one_before_it_was_stopped() {
        let mut stage = Stage::new();
        stage.clause(1, 100, 1_000);
        stage.player.play(RESPONSE, at(0));
        stage.player.set_gain(250);
        stage.run(0, 50);
        stage.player.stop(RESPONSE, at(50));
        stage.player.set_gain(1_000);
        stage.heard.clear();
        stage.clause(2, 100, 1_000);
        stage.player.play(RESPONSE, at(60));
        stage.run(60, 100);
        assert_eq!(stage.heard[..320], [1_000; 320]);
    }

    #[test]
    fn a_synthesiser_that_never_ends_is_cut_off() {
        let mut player = Player::new(SampleRate::Hz8000);
        let id = SynthesisId::new(1);
        player.begin(id, RESPONSE);
        let second = [0; 16_000];
        let taken = (0..1_000)
            .take_while(|_| player.audio(id, &second, 16_000).is_ok())
            .count();
        assert_eq!(taken, 121);
        assert_eq!(player.audio(id, &second, 16_000), Err(Unplayable::TooLong));
    }

    #[test]
    fn other_rates_are_converted_and_counted_at_the_session_rate() {
        let (_call, mut port) = connect(SessionId::new(1), Clock::start(), Arc::new(Place(None)), Duration::ZERO);
        let mut player = Player::new(SampleRate::Hz48000);
        let id = SynthesisId::new(1);
        player.begin(id, RESPONSE);
        player.audio(id, &[0; 8_000], 8_000).unwrap();
        let length = player.done(id).as_millis();
        assert!((995..=1_020).contains(&length), "{length} ms of one second");
        assert_eq!(player.audio(id, &[0; 10], 96_000), Err(Unplayable::Rate(96_000)));
        player.finish(RESPONSE);
        player.play(RESPONSE, at(0));
        let mut events = Vec::new();
        for millis in 0..1_200 {
            player.tick(at(millis), &mut port, &mut events);
        }
        assert!(matches!(events.last(), Some((_, PlayoutEvent::Finished { heard })) if heard.as_millis() == length));
    }

    /// Piper speaks at 22050 Hz, others at 24000 or 44100.
    #[test]
    fn a_voice_of_any_rate_is_played_in_its_own_time_and_pitch() {
        for (from, to) in [
            (22_050, SampleRate::Hz16000),
            (22_050, SampleRate::Hz8000),
            (24_000, SampleRate::Hz16000),
            (44_100, SampleRate::Hz48000),
        ] {
            let (mut call, mut port) =
                connect(SessionId::new(1), Clock::start(), Arc::new(Place(None)), Duration::ZERO);
            let mut player = Player::new(to);
            let tone: Vec<i16> = (0..from)
                .map(|n| (8_000.0 * (f64::from(n) * 440.0 / f64::from(from) * std::f64::consts::TAU).sin()) as i16)
                .collect();
            let mut heard = Vec::new();
            // The second clause has the resampler of the first.
            for number in 1..=2 {
                let id = SynthesisId::new(number);
                player.begin(id, RESPONSE);
                for piece in tone.chunks(441) {
                    player.audio(id, piece, from).unwrap();
                }
                let length = player.done(id).as_millis();
                assert!(
                    (999..=1_012).contains(&length),
                    "{from} to {to}: {length} ms of one second"
                );
            }
            player.finish(RESPONSE);
            player.play(RESPONSE, at(0));
            let mut context = Context::from_waker(Waker::noop());
            for millis in 0..2_200 {
                player.tick(at(millis), &mut port, &mut Vec::new());
                while let Poll::Ready(Some(frame)) = call.frames.poll_recv(&mut context) {
                    heard.extend_from_slice(frame.pcm());
                }
            }
            let middle = &heard[to.samples(200)..to.samples(800)];
            let rises = middle.windows(2).filter(|pair| pair[0] < 0 && pair[1] >= 0).count();
            assert!(
                (263..=265).contains(&rises),
                "{from} to {to}: {rises} periods in 0.6 s of 440 Hz"
            );
            let loudest = middle.iter().map(|sample| sample.unsigned_abs()).max();
            assert!(
                loudest.is_some_and(|loudest| (7_800..=8_200).contains(&loudest)),
                "{from} to {to}: {loudest:?}"
            );
        }
    }

    #[test]
    fn a_response_without_a_clause_is_over_at_once() {
        let mut stage = Stage::new();
        stage.player.finish(RESPONSE);
        stage.player.play(RESPONSE, at(0));
        stage.run(0, 5);
        assert_eq!(stage.events, [PlayoutEvent::Finished { heard: Samples::ZERO }]);
    }
}
