//! The thread that judges, and the questions that wait for it.
//!
//! A judgement takes tens of milliseconds, and a session's thread serves hundreds of other sessions meanwhile. So one
//! thread judges for all, and stands back behind them.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::thread;

use tokio::sync::oneshot;

use crate::backend::TurnPrediction;
use crate::call::Probability;

/// So many questions may wait. With some 30 ms for each, the last one's answer comes within the half second between the
/// question and the ordinary end of a turn; a later one would be of no use.
pub(super) const WAITING_MAX: usize = 12;

/// Judges samples: how likely a turn that ends so is complete.
pub(super) type Judge = Box<dyn FnMut(&[i16]) -> Result<f32, String>>;

/// Why a question was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// As many wait as may.
    Full,
    /// The thread has ended.
    Gone,
}

struct Question {
    pcm: Vec<i16>,
    answer: oneshot::Sender<Probability>,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Question>,
    /// Buffers of questions that were answered: eight seconds are a quarter of a megabyte.
    spare: Vec<Vec<i16>>,
    closed: bool,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    /// Held for moments only: never while something is copied or judged.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a question that somebody still waits for. None: no more will come.
    fn next(&self) -> Option<Question> {
        let mut state = self.state();
        loop {
            if state.closed {
                return None;
            }
            match state.waiting.pop_front() {
                Some(question) if question.answer.is_closed() => state.keep(question.pcm),
                Some(question) => return Some(question),
                None => state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        // Whoever asked hears that there is no answer.
        state.waiting.clear();
        self.changed.notify_all();
    }
}

impl State {
    fn keep(&mut self, pcm: Vec<i16>) {
        // One is judged while the next is asked: more are rarely needed.
        if self.spare.len() < 2 {
            self.spare.push(pcm);
        }
    }

    fn forget_unwanted(&mut self) {
        let mut unwanted = Vec::new();
        self.waiting.retain_mut(|question| {
            let wanted = !question.answer.is_closed();
            if !wanted {
                unwanted.push(std::mem::take(&mut question.pcm));
            }
            wanted
        });
        unwanted.into_iter().for_each(|pcm| self.keep(pcm));
    }
}

/// The thread's end, however it comes to it: what waits is answered.
struct Closing(Arc<Shared>);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Where questions are put. When it is dropped, the thread ends.
pub(super) struct Lane(Arc<Shared>);

impl fmt::Debug for Lane {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Lane({} waiting)", self.0.state().waiting.len())
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Lane {
    /// Starts the thread, which stands back by `nice`, and waits until `make` has made there what judges.
    pub(super) fn start(
        nice: u8,
        make: impl FnOnce() -> Result<Judge, String> + Send + 'static,
    ) -> Result<Self, String> {
        let shared = Arc::new(Shared::default());
        let (told, made) = sync_channel(1);
        let closing = Closing(Arc::clone(&shared));
        let work = move || {
            stand_back(nice);
            let closing = closing;
            match make() {
                Ok(judge) => {
                    // Whoever asked for the lane waits for this.
                    let _ = told.send(Ok(()));
                    serve(&closing.0, judge);
                }
                Err(reason) => {
                    let _ = told.send(Err(reason));
                }
            }
        };
        let thread = thread::Builder::new().name("turn-model".to_owned());
        thread
            .spawn(work)
            .map_err(|error| format!("its thread can't be started: {error}"))?;
        match made.recv() {
            Ok(Ok(())) => Ok(Self(shared)),
            Ok(Err(reason)) => Err(reason),
            Err(_) => Err("its thread ended while it was loading".to_owned()),
        }
    }

    /// Puts a question. It waits behind those that were put before it.
    pub(super) fn ask(&self, pcm: &[i16]) -> Result<Answer, Refusal> {
        let mut buffer = {
            let mut state = self.0.state();
            if state.closed {
                return Err(Refusal::Gone);
            }
            if state.waiting.len() >= WAITING_MAX {
                state.forget_unwanted();
            }
            if state.waiting.len() >= WAITING_MAX {
                return Err(Refusal::Full);
            }
            state.spare.pop().unwrap_or_default()
        };
        buffer.clear();
        buffer.extend_from_slice(pcm);
        let (answer, answered) = oneshot::channel();
        let mut state = self.0.state();
        // Others may have asked meanwhile.
        if state.closed {
            return Err(Refusal::Gone);
        }
        if state.waiting.len() >= WAITING_MAX {
            state.keep(buffer);
            return Err(Refusal::Full);
        }
        state.waiting.push_back(Question { pcm: buffer, answer });
        self.0.changed.notify_one();
        Ok(Answer(answered))
    }
}

/// One question. Dropped, it isn't judged, unless that has begun.
pub(super) struct Answer(oneshot::Receiver<Probability>);

impl TurnPrediction for Answer {
    fn poll_answer(&mut self, context: &mut Context<'_>) -> Poll<Option<Probability>> {
        Pin::new(&mut self.0).poll(context).map(Result::ok)
    }
}

fn serve(shared: &Shared, mut judge: Judge) {
    let mut failed = false;
    while let Some(question) = shared.next() {
        match judge(&question.pcm) {
            Ok(fraction) => {
                // Whoever asked may have gone meanwhile.
                let _ = question.answer.send(Probability::from_fraction(fraction));
            }
            Err(reason) => {
                // Said once: the answers that fail to come are counted.
                if !failed {
                    tracing::error!(%reason, "the turn model failed");
                }
                failed = true;
            }
        }
        shared.state().keep(question.pcm);
    }
}

/// Lets sessions have the processor first. Where it can't be done, the thread is as important as theirs.
fn stand_back(nice: u8) {
    // On Linux, and only there, this is about the thread and not about the process.
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(None, nice.into()) {
        tracing::debug!(%error, "the turn model's thread can't stand back");
    }
    #[cfg(not(target_os = "linux"))]
    let _ = nice;
}

#[cfg(test)]
mod tests;
