//! Which streams the loaded model takes.

use repartee_protocol::worker::{Job, Open, Params, StreamId, code};

use crate::Failure;

/// What streams the loaded model takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Accepted {
    pub(crate) job: Job,
    pub(crate) rate: u32,
    pub(crate) places: usize,
    pub(crate) waiting: usize,
    pub(crate) credit: u64,
}

impl Accepted {
    /// Why a stream isn't opened, after `newest` and beside so many.
    pub(crate) fn refuse(&self, open: &Open, newest: Option<StreamId>, beside: usize) -> Option<Failure> {
        if newest.is_some_and(|newest| open.stream <= newest) {
            return Some(Failure::new(
                code::INVALID,
                format!("stream {} was used before", open.stream),
            ));
        }
        if open.params.job() != self.job {
            let message = format!(
                "this worker's model is for {:?}, not for {:?}",
                self.job,
                open.params.job()
            );
            return Some(Failure::new(code::UNSUPPORTED, message));
        }
        let rate = match &open.params {
            Params::Stt(params) => params.rate,
            Params::Vad(params) => params.rate,
            Params::Turn(params) => params.rate,
            Params::Tts(_) | Params::Llm(_) => self.rate,
        };
        if rate != self.rate {
            return Some(Failure::new(
                code::UNSUPPORTED,
                format!("audio at {rate} Hz; this model takes {} Hz", self.rate),
            ));
        }
        if beside >= self.places + self.waiting {
            return Some(Failure::new(
                code::BUSY,
                format!("all {} places are taken and {} wait", self.places, self.waiting),
            ));
        }
        None
    }
}
