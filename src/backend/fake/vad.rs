//! A fake VAD, which takes everything loud for speech, and a fake turn model, which answers as its script says.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use super::{Pace, Shared, Ticket, common};
use crate::backend::{Capabilities, OpenError, TurnBackend, TurnPrediction, Vad, VadBackend};
use crate::call::{BackendKind, Probability};
use crate::time::Samples;

/// A fake VAD: a frame whose root mean square reaches the threshold is speech for certain, any other certainly not. A
/// tone is speech to it.
pub struct ScriptedVad {
    shared: Arc<Shared>,
    frame: Samples,
    threshold: i16,
}

impl Default for ScriptedVad {
    /// 20 ms frames; a root mean square of 300 (−41 dB of full scale) is speech.
    fn default() -> Self {
        Self {
            shared: Shared::new(BackendKind::Vad, "scripted-vad"),
            frame: Samples::from_millis(20),
            threshold: 300,
        }
    }
}

impl ScriptedVad {
    /// Frames of this length.
    #[must_use]
    pub fn frame(mut self, frame: Samples) -> Self {
        self.frame = frame.max(Samples::new(1));
        self
    }

    /// Speech from this root mean square on.
    #[must_use]
    pub fn threshold(mut self, root_mean_square: i16) -> Self {
        self.threshold = root_mean_square;
        self
    }

    common!();
}

impl VadBackend for ScriptedVad {
    fn capabilities(&self) -> &Capabilities {
        &self.shared.capabilities
    }

    fn open(&self) -> Result<Box<dyn Vad>, OpenError> {
        Ok(Box::new(EnergyVad {
            _ticket: self.shared.open()?,
            frame: usize::try_from(self.frame.count()).unwrap_or(usize::MAX),
            threshold: self.threshold,
        }))
    }
}

struct EnergyVad {
    /// Held for the count of live streams: a VAD that is dropped counts as cancelled.
    _ticket: Ticket,
    frame: usize,
    threshold: i16,
}

impl Vad for EnergyVad {
    fn frame_samples(&self) -> usize {
        self.frame
    }

    fn process(&mut self, frame: &[i16]) -> Probability {
        let energy: i64 = frame.iter().map(|sample| i64::from(*sample).pow(2)).sum();
        let threshold = i64::from(self.threshold).pow(2) * frame.len() as i64;
        Probability::from_per_mille(if energy >= threshold && !frame.is_empty() {
            1000
        } else {
            0
        })
    }

    fn reset(&mut self) {}
}

/// A fake turn model.
pub struct ScriptedTurn {
    shared: Arc<Shared>,
    answers: Vec<Option<Probability>>,
    next: AtomicUsize,
    pace: Pace,
}

impl ScriptedTurn {
    /// Question after question gets the next of these answers; after the last, the first again. With none, it fails
    /// each time.
    #[must_use]
    pub fn new(answers: impl IntoIterator<Item = Option<Probability>>) -> Self {
        Self {
            shared: Shared::new(BackendKind::Turn, "scripted-turn"),
            answers: answers.into_iter().collect(),
            next: AtomicUsize::new(0),
            pace: Pace::instant(),
        }
    }

    /// When its answers come.
    #[must_use]
    pub fn paced(mut self, pace: Pace) -> Self {
        self.pace = pace;
        self
    }

    common!();
}

impl TurnBackend for ScriptedTurn {
    fn capabilities(&self) -> &Capabilities {
        &self.shared.capabilities
    }

    fn predict(&self, _pcm: &[i16]) -> Result<Box<dyn TurnPrediction>, OpenError> {
        let ticket = self.shared.open()?;
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let answer = if self.answers.is_empty() {
            None
        } else {
            self.answers[number % self.answers.len()]
        };
        Ok(Box::new(Prediction {
            ticket,
            pace: self.pace.clone(),
            answer,
        }))
    }
}

struct Prediction {
    ticket: Ticket,
    pace: Pace,
    answer: Option<Probability>,
}

impl TurnPrediction for Prediction {
    fn poll_answer(&mut self, context: &mut Context<'_>) -> Poll<Option<Probability>> {
        match self.ticket.poll_pass(context, &self.pace) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(_)) => Poll::Ready(None),
            Poll::Ready(Ok(())) => {
                self.ticket.finished();
                Poll::Ready(self.answer)
            }
        }
    }
}
