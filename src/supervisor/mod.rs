//! Worker processes: found, started, loaded, watched, restarted, stopped.
//!
//! A [`Worker`] keeps one worker process with one model running. Each start is a [`Generation`](crate::id::Generation) of its own with a
//! [`Link`] of its own; when the process dies, every stream of that link ends at once with [`StreamEvent::Lost`], which carries
//! the cause and the worker's last words, and a new generation is started after a pause that grows with each failure.

mod backoff;
mod find;
mod link;
mod probe;
mod process;
mod stream;
mod tail;
#[cfg(test)]
mod tests;
mod worker;

pub use backoff::{Backoff, spread};
pub use find::{
    InstalledWorker, KNOWN_WORKERS, KnownWorker, NotFound, find_worker, folders_in, installed_workers, worker_folders,
};
pub use link::{Link, LinkError, OpenRefused};
pub use probe::{Probe, ProbeFailed, ProbedModel, probe};
pub use stream::{Sent, Stream, StreamEvent};
pub use worker::{Specification, State, Worker};
