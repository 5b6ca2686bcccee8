//! What comes from the far side, on its way to the session: at the session's rate, in time, our own voice marked in it.

use crate::audio::{ArrivalClock, ArrivalStats, CallProgress, EchoGuard, Patience, Resampler, SampleRate, Signal};
use crate::call::{FaxSide, Progress};
use crate::engine::AudioSender;
use crate::time::{Samples, Time};

/// A frame with no sample louder than this is quiet: -50 dBFS, far below speech on a telephone, above the noise of its codecs.
const QUIET: u16 = 104;
/// Samples of quiet in a row that make a pause: 200 ms. Shorter ones are within words.
const PAUSE: usize = 3_200;
/// Samples that may wait for the session beyond its own ring: two seconds. What is beyond that is dropped.
const MOST_WAITING: usize = 32_000;
/// Silence is handed on in pieces of this.
const SILENCE: [i16; 320] = [0; 320];

/// Brings a call's sound into the session's form.
#[derive(Debug)]
pub(super) struct Hearing {
    /// Where the wire has no clock of its own.
    arrivals: ArrivalClock,
    resampler: Option<(u32, Resampler)>,
    frame: Vec<i16>,
    /// What the session had no room for: 16 kHz, mono.
    waiting: Vec<i16>,
    /// Samples of quiet since the last sound.
    quiet: usize,
    /// The position of the next sample, in the time of the call.
    position: Option<Samples>,
    echo: Option<Echo>,
    tones: CallProgress,
    unusable: u64,
    dropped: u64,
}

/// Tells our own voice from the caller's.
#[derive(Debug)]
struct Echo {
    guard: EchoGuard,
    /// From the rate of our frames; none where that is the session's.
    resampler: Option<Resampler>,
    played: Vec<i16>,
}

impl Hearing {
    /// For a wire whose frames from us have `rate`; whether our own voice is looked for, and when something that goes on is told.
    pub(super) fn new(rate: SampleRate, echo_guard: bool, patience: Patience) -> Self {
        let echo = echo_guard.then(|| Echo {
            guard: EchoGuard::new(),
            resampler: Resampler::new(rate, SampleRate::Hz16000)
                .ok()
                .filter(|_| rate != SampleRate::Hz16000),
            played: Vec::with_capacity(320),
        });
        Self {
            arrivals: ArrivalClock::new(),
            resampler: None,
            frame: Vec::with_capacity(4_096),
            waiting: Vec::new(),
            quiet: 0,
            position: None,
            echo,
            tones: CallProgress::new(SampleRate::Hz16000, patience),
            unusable: 0,
            dropped: 0,
        }
    }

    /// A frame that came just now, from a wire whose only clock is the arrival. A rate that nothing can be made of is counted.
    pub(super) fn frame(&mut self, now: Time, pcm: &[i16], hz: u32, audio: &mut AudioSender) {
        let mut frame = std::mem::take(&mut self.frame);
        frame.clear();
        if hz == SampleRate::Hz16000.hz() {
            frame.extend_from_slice(pcm);
        } else {
            if self.resampler.as_ref().is_none_or(|(rate, _)| *rate != hz) {
                let resampler = Resampler::from_hz(hz, SampleRate::Hz16000).ok();
                self.resampler = resampler.map(|resampler| (hz, resampler));
            }
            match &mut self.resampler {
                Some((_, resampler)) => resampler.process(pcm, &mut frame),
                None => self.unusable += 1,
            }
        }
        self.quiet = match frame.iter().all(|sample| sample.unsigned_abs() < QUIET) {
            true => self.quiet.saturating_add(frame.len()),
            false => 0,
        };
        let arrival = self.arrivals.receive(now, frame.len(), self.quiet >= PAUSE);
        self.silence(now, arrival.silence_before, audio);
        if arrival.keep {
            self.hand_over(now, &frame, audio);
        }
        self.frame = frame;
    }

    /// What was heard by a wire that has a clock of its own: 16 kHz, whole and in time.
    pub(super) fn timed(&mut self, now: Time, pcm: &[i16], audio: &mut AudioSender) {
        for frame in pcm.chunks(SILENCE.len()) {
            self.hand_over(now, frame, audio);
        }
    }

    /// Time goes on where nothing comes.
    pub(super) fn poll(&mut self, now: Time, audio: &mut AudioSender) {
        let missing = self.arrivals.poll(now);
        self.silence(now, missing, audio);
        // What waits is not to wait for the next frame.
        self.hand_over(now, &[], audio);
    }

    /// When to poll next if nothing comes before.
    pub(super) fn next_deadline(&self) -> Option<Time> {
        self.arrivals.next_deadline()
    }

    /// We speak: this frame is heard at `due`.
    pub(super) fn played(&mut self, due: Time, pcm: &[i16]) {
        let Some(echo) = &mut self.echo else { return };
        let at = Samples::from_duration(due.since(Time::ZERO));
        match &mut echo.resampler {
            Some(resampler) => {
                echo.played.clear();
                resampler.process(pcm, &mut echo.played);
                echo.guard.played(at, &echo.played);
            }
            None => echo.guard.played(at, pcm),
        }
    }

    /// What we have sent and what was not heard by now will not be.
    pub(super) fn stopped(&mut self, now: Time) {
        if let Some(echo) = &mut self.echo {
            echo.guard.stopped(Samples::from_duration(now.since(Time::ZERO)));
        }
    }

    fn silence(&mut self, now: Time, mut samples: usize, audio: &mut AudioSender) {
        while samples > 0 {
            let count = samples.min(SILENCE.len());
            self.hand_over(now, &SILENCE[..count], audio);
            samples -= count;
        }
    }

    /// Gives a frame to the session. Where it takes nothing, the rest waits, but not without a bound.
    fn hand_over(&mut self, now: Time, pcm: &[i16], audio: &mut AudioSender) {
        let length = Samples::new(pcm.len() as u64);
        let begin = Samples::from_duration(now.since(Time::ZERO)).saturating_sub(length);
        let position = *self.position.get_or_insert(begin);
        self.position = Some(position + length);
        let is_echo = self
            .echo
            .as_mut()
            .is_some_and(|echo| !pcm.is_empty() && echo.guard.heard(position, pcm).is_echo);
        self.tones.push(pcm);
        if self.waiting.is_empty() {
            if is_echo {
                audio.mark_echo(pcm.len());
            }
            let taken = audio.push(pcm);
            self.waiting.extend_from_slice(&pcm[taken..]);
        } else {
            self.waiting.extend_from_slice(pcm);
            let taken = audio.push(&self.waiting);
            self.waiting.drain(..taken);
        }
        if self.waiting.len() > MOST_WAITING {
            self.dropped += self.waiting.len() as u64;
            self.waiting.clear();
        }
    }

    /// The next thing that was recognised besides speech.
    pub(super) fn progress(&mut self) -> Option<Progress> {
        Some(match self.tones.poll()? {
            Signal::FaxCalling => Progress::FaxTone { side: FaxSide::Calling },
            Signal::FaxAnswering => Progress::FaxTone {
                side: FaxSide::Answering,
            },
            Signal::Ringing => Progress::Ringing,
            Signal::Busy => Progress::Busy,
            Signal::SpecialInformation => Progress::SpecialInformation,
            Signal::Beep => Progress::Beep,
            Signal::EndlessGreeting => Progress::EndlessGreeting,
        })
    }

    /// What the arrivals were like.
    pub(super) fn stats(&self) -> ArrivalStats {
        self.arrivals.stats()
    }

    /// Frames of a rate that nothing can be made of.
    pub(super) const fn unusable(&self) -> u64 {
        self.unusable
    }

    /// Sound that the session had no room for, in ms.
    pub(super) fn dropped_ms(&self) -> u64 {
        Samples::new(self.dropped).as_millis()
    }
}
