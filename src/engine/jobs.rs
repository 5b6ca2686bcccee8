//! Work that a session has given to its backends, each piece stamped with the id it was asked under.

use std::task::{Context, Poll};

use super::ring::AudioRing;
use crate::backend::{LlmRequest, LlmStream, Push, SttRequest, SttStream, TtsRequest, TtsStream, TurnPrediction};
use crate::id::{GenerationId, PredictionId, SynthesisId, TranscriptionId};
use crate::registry::Serving;
use crate::time::{Samples, Time};

/// Samples handed to a recogniser at a time: a fifth of a second, so that a replay is soon done and a push stays small.
const PUSH_SAMPLES: usize = 3_200;

/// Work that has begun, or begins at an instant.
pub(super) enum Progress<Request, Stream> {
    /// Not before this instant.
    Waiting(Time, Request),
    /// Under way.
    Running(Stream),
}

/// A recognition.
pub(super) struct Transcription {
    pub(super) id: TranscriptionId,
    pub(super) progress: Progress<SttRequest, Box<dyn SttStream>>,
    /// The next sample that the recogniser gets.
    next: Samples,
    /// It gets no sample from here on.
    end: Option<Samples>,
    finished: bool,
    /// What it goes to, kept loaded until it is over.
    pub(super) keep: Option<Serving>,
}

impl Transcription {
    pub(super) fn new(id: TranscriptionId, request: SttRequest, from: Samples, not_before: Time) -> Self {
        Self {
            id,
            progress: Progress::Waiting(not_before, request),
            next: from,
            end: None,
            finished: false,
            keep: None,
        }
    }

    /// One whose stream is open already.
    pub(super) fn running(id: TranscriptionId, stream: Box<dyn SttStream>, from: Samples) -> Self {
        Self {
            id,
            progress: Progress::Running(stream),
            next: from,
            end: None,
            finished: false,
            keep: None,
        }
    }

    /// It gets no sample from `end` on.
    pub(super) fn finish(&mut self, end: Samples) {
        self.end = Some(end);
    }

    /// The oldest sample it still needs.
    pub(super) fn needs_from(&self) -> Samples {
        self.next
    }

    /// Hands over what the ring has for it, as far as the recogniser takes it. After [`Push::Full`] there is more.
    pub(super) fn feed(&mut self, ring: &AudioRing, scratch: &mut Vec<i16>) -> Push {
        let Progress::Running(stream) = &mut self.progress else {
            return Push::Taken;
        };
        let until = self.end.unwrap_or(ring.end()).min(ring.end());
        // What the ring had to give up is not made up for with what lies behind the end.
        self.next = self.next.max(ring.start());
        while self.next < until {
            let wanted = usize::try_from((until - self.next).count())
                .unwrap_or(usize::MAX)
                .min(PUSH_SAMPLES);
            scratch.clear();
            let from = ring.read(self.next, wanted, scratch);
            if scratch.is_empty() {
                break;
            }
            if stream.push(scratch) == Push::Full {
                return Push::Full;
            }
            self.next = from + Samples::new(scratch.len() as u64);
        }
        if !self.finished && self.end.is_some_and(|end| self.next >= end) {
            self.finished = true;
            stream.finish();
        }
        Push::Taken
    }
}

/// A generation.
pub(super) struct GenerationJob {
    pub(super) id: GenerationId,
    pub(super) progress: Progress<LlmRequest, Box<dyn LlmStream>>,
    /// What it goes to, kept loaded until it is over.
    pub(super) keep: Option<Serving>,
}

/// A synthesis.
pub(super) struct SynthesisJob {
    pub(super) id: SynthesisId,
    pub(super) progress: Progress<TtsRequest, Box<dyn TtsStream>>,
    /// What it goes to, kept loaded until it is over.
    pub(super) keep: Option<Serving>,
}

/// A question to the turn model.
pub(super) struct PredictionJob {
    pub(super) id: PredictionId,
    /// Absent where nothing could be asked: that is answered too.
    pub(super) answer: Option<Box<dyn TurnPrediction>>,
}

/// Takes the request out of work that waits and whose instant has come.
pub(super) fn due<Request: Clone, Stream>(progress: &Progress<Request, Stream>, now: Time) -> Option<Request> {
    match progress {
        Progress::Waiting(not_before, request) if *not_before <= now => Some(request.clone()),
        _ => None,
    }
}

/// The instant that work waits for.
pub(super) fn waits_for<Request, Stream>(progress: &Progress<Request, Stream>) -> Option<Time> {
    match progress {
        Progress::Waiting(not_before, _) => Some(*not_before),
        Progress::Running(_) => None,
    }
}

/// The next event of a stream that runs.
pub(super) fn poll_running<Request, Stream, Event>(
    progress: &mut Progress<Request, Stream>,
    context: &mut Context<'_>,
    poll: impl FnOnce(&mut Stream, &mut Context<'_>) -> Poll<Event>,
) -> Option<Event> {
    match progress {
        Progress::Running(stream) => match poll(stream, context) {
            Poll::Ready(event) => Some(event),
            Poll::Pending => None,
        },
        Progress::Waiting(..) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::call::SttEvent;

    /// Remembers what it was pushed.
    struct Kept(Arc<Mutex<Vec<i16>>>);

    impl SttStream for Kept {
        fn push(&mut self, pcm: &[i16]) -> Push {
            self.0.lock().unwrap().extend_from_slice(pcm);
            Push::Taken
        }

        fn finish(&mut self) {}

        fn poll_event(&mut self, _context: &mut Context<'_>) -> Poll<SttEvent> {
            Poll::Pending
        }
    }

    #[test]
    fn nothing_behind_the_end_is_heard_in_place_of_what_was_given_up() {
        let mut ring = AudioRing::new(Samples::new(100));
        let audio: Vec<i16> = (0..250).collect();
        ring.push(&audio);
        let pushed = Arc::new(Mutex::new(Vec::new()));
        for (end, expected) in [(200, &audio[150..200]), (120, &[])] {
            let mut job = Transcription::new(
                TranscriptionId::new(1),
                SttRequest::default(),
                Samples::new(10),
                Time::ZERO,
            );
            job.progress = Progress::Running(Box::new(Kept(Arc::clone(&pushed))));
            job.finish(Samples::new(end));
            job.feed(&ring, &mut Vec::new());
            assert!(job.finished);
            assert_eq!(std::mem::take(&mut *pushed.lock().unwrap()), expected);
        }
    }
}
