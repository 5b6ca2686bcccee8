//! Backends that are worker processes: the traits of [`crate::backend`] over a worker's [`Link`].

mod llm;
mod stt;
#[cfg(test)]
mod tests;
mod tts;

use std::sync::Arc;
use std::time::Duration;

use repartee_protocol::worker::{Failed, Job, StreamId, code};

pub use llm::WorkerLlm;
pub use stt::WorkerStt;
pub use tts::WorkerTts;

use crate::backend::{Backend, Capabilities, OpenError};
use crate::call::{BackendKind, StageFailure};
use crate::id::Generation;
use crate::supervisor::{Link, OpenRefused, spread};
use crate::time::SESSION_RATE;

/// Those who lost the same worker come back one after the other, this far apart: about what a recogniser takes for ten seconds of kept audio
/// when it has a core for itself.
const REPLAY_STEP: Duration = Duration::from_millis(100);
/// What a lost worker takes at least to be there again.
const RESTART: Duration = Duration::from_millis(300);
/// When to ask a busy worker again.
const BUSY: Duration = Duration::from_millis(250);

/// The backend that a worker is, once it's ready. A synthesiser speaks at `speed_per_mille` thousandths of its voices' own
/// speed.
///
/// # Errors
/// Why this worker can't do the job, in words for an operator.
pub fn backend(job: Job, link: &Arc<Link>, speed_per_mille: u16) -> Result<Backend, String> {
    let unready = || "the worker is not ready".to_owned();
    match job {
        Job::Stt => match WorkerStt::new(Arc::clone(link)) {
            Some(stt) => Ok(Backend::Stt(Arc::new(stt))),
            None => Err(link.ready().map_or_else(unready, |ready| {
                let (model, rate) = (&ready.model.name, ready.model.rate);
                format!("the recogniser {model} takes audio at {rate} Hz, and the engine has it at {SESSION_RATE} Hz")
            })),
        },
        Job::Tts => {
            let tts = WorkerTts::new(Arc::clone(link)).ok_or_else(unready)?;
            Ok(Backend::Tts(Arc::new(tts.at_speed(speed_per_mille))))
        }
        Job::Llm => Ok(Backend::Llm(Arc::new(
            WorkerLlm::new(Arc::clone(link)).ok_or_else(unready)?,
        ))),
        Job::Vad | Job::Turn => Err("no worker does this job yet".to_owned()),
    }
}

/// What a ready worker said of itself.
fn capabilities(kind: BackendKind, link: &Link) -> Option<Capabilities> {
    let (hello, ready) = (link.hello()?, link.ready()?);
    Some(Capabilities {
        kind,
        name: hello.name.clone(),
        model: ready.model.name.clone(),
        generation: link.generation(),
        languages: ready.model.languages.clone(),
        voices: ready.model.voices.iter().map(|voice| voice.id.clone()).collect(),
        streaming: ready.model.streaming,
        device: (!ready.device.is_empty()).then(|| ready.device.clone()),
        fallback: ready.fallback.clone(),
        synthetic: ready.model.synthetic,
    })
}

fn refused(backend: &str, refused: OpenRefused) -> OpenError {
    let backend = backend.to_owned();
    match refused {
        OpenRefused::Lost(reason) => OpenError::Lost { backend, reason },
        OpenRefused::Busy { .. } => OpenError::Busy {
            backend,
            reason: refused.to_string(),
        },
        OpenRefused::TooLong(reason) => OpenError::Unsupported { backend, reason },
    }
}

/// A stream's bad end, as a stage tells it.
fn failure(backend: &str, failed: Failed) -> StageFailure {
    let (retry, after) = match failed.code.as_str() {
        code::BUSY => (true, millis(spread(failed.stream.0, 0, BUSY) + BUSY)),
        code::INTERNAL | code::CREDIT => (true, 0),
        _ => (false, 0),
    };
    let reason = format!("{} ({})", failed.message, failed.code);
    StageFailure {
        backend: backend.to_owned(),
        reason,
        retry,
        retry_after_ms: after,
    }
}

/// A lost stream, as a stage tells it: each is given another delay.
fn lost(backend: &str, generation: Generation, reason: String, position: u32) -> StageFailure {
    let after = RESTART + spread(generation.number(), position, REPLAY_STEP);
    StageFailure {
        backend: backend.to_owned(),
        reason,
        retry: true,
        retry_after_ms: millis(after),
    }
}

/// A worker that says something that doesn't belong to its job.
fn out_of_place(stream: StreamId) -> Failed {
    Failed {
        stream,
        code: code::INVALID.into(),
        message: "the worker says what doesn't belong to its job".into(),
    }
}

fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}
