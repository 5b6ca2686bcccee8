//! What every worker process shares.
//!
//! A worker binds one native library and implements [`Worker`]: who it is, which models it has, and how it loads one. What comes out of
//! [`Worker::load`] serves streams in one of two ways:
//!
//! * [`Lane`]s: each lane serves one stream at a time on a thread of its own, from the stream's opening to its end. For
//!   libraries whose decoder holds one utterance (pocketsphinx, Vosk).
//! * a [`Batch`]: one thread is handed all live streams at each step and does as much for all of them as one step of the library
//!   does. For libraries that batch (llama.cpp, sherpa-onnx), and for those that are so quick that turns suffice (flite).
//!
//! The shell does the rest: it reads and writes the link (`repartee_protocol::worker` has its rules), answers pings while the model
//! computes, holds every stream to its credit, makes each stream end exactly once, turns panics into failures, and ends the
//! process when the engine goes away. Control messages are obeyed by the thread that reads the link, at once: a
//! cancelled stream says so through [`Outlet::is_cancelled`] in the middle of a computation.
//!
//! Frames are written by the thread that has something to say, under a lock, with one system call each: a thread for writing would
//! double a message's cost. Nothing builds up: what a stream may not send yet for want of credit is held back in its own
//! outbox, and a stream whose outbox is full is given no more input.
#![forbid(unsafe_code)]

mod accepted;
mod agreement;
mod link;
mod machine;
mod options;
mod serve;
mod start;
mod stream;
pub mod testing;

use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
pub use repartee_protocol::worker as protocol;
use repartee_protocol::worker::{Hello, Load, LoadFailed, ModelInfo, Open, Text, code};

pub use agreement::Agreement;
pub use link::{Address, Link};
pub use machine::{hello, require_memory, resident_bytes, threads};
pub use options::Options;
pub use serve::{ServeError, serve};
pub use start::main;
pub use stream::{Outlet, Stream};

/// A native library with its models.
pub trait Worker: Send + 'static {
    /// Who this is and what this build can do on this machine. Loads no model. [`hello`] fills in what is the same for all.
    fn hello(&self) -> Hello;

    /// The models that this worker knows by id, and for each whether it could be loaded here. For `--probe`.
    fn models(&self, root: &Models) -> Vec<KnownModel>;

    /// Loads the one model and warms it up with a real inference.
    ///
    /// # Errors
    /// [`LoadFailed`] with the cause and the remedy: which file or package is missing.
    fn load(&mut self, request: &Load, root: &Models) -> Result<Loaded, LoadFailed>;
}

/// A model that a worker knows by its id.
#[derive(Clone, Debug, serde::Serialize)]
pub struct KnownModel {
    /// What a `load` names.
    pub id: String,
    /// One line for people.
    pub description: String,
    /// Why it can't be loaded here; absent: it can.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// A loaded model.
pub struct Loaded {
    /// What it is and takes. Its `max_streams` and `max_waiting` bound what the shell accepts.
    pub model: ModelInfo,
    /// How long the first inference took.
    pub warmup: Duration,
    /// Where it computes: an id out of the hello's devices.
    pub device: String,
    /// Memory taken on that device, in bytes; 0 on a CPU.
    pub device_bytes: u64,
    /// Why it isn't computed where it should be; `None`: it is.
    pub fallback: Option<String>,
    /// How many bytes of data the engine may send ahead on each stream.
    pub stream_credit: u64,
    /// What serves the streams.
    pub service: Service,
}

impl Loaded {
    /// A model that computes on the CPU, as it was meant to.
    pub fn on_cpu(model: ModelInfo, warmup: Duration, stream_credit: u64, service: Service) -> Self {
        Self {
            model,
            warmup,
            device: "cpu".into(),
            device_bytes: 0,
            fallback: None,
            stream_credit,
            service,
        }
    }
}

/// How streams are served.
pub enum Service {
    /// One stream at a time on each.
    Lanes(Vec<Box<dyn Lane>>),
    /// All streams together, on one thread: the one that loaded the model.
    Batch(Box<dyn Batch>),
}

/// One place for one stream at a time. All calls come from one thread.
pub trait Lane: Send {
    /// Called once before the first stream: the time to load what only this lane needs.
    ///
    /// # Errors
    /// The lane isn't used; the others are.
    fn prepare(&mut self) -> Result<(), LoadFailed> {
        Ok(())
    }

    /// A stream begins.
    ///
    /// # Errors
    /// The stream fails; the lane takes the next one.
    fn open(&mut self, open: &Open, payload: &Bytes, out: &Outlet) -> Result<(), Failure>;

    /// Something came on the stream. When this returns after [`Input::Finish`], the shell says `done`.
    ///
    /// # Errors
    /// The stream fails; the lane takes the next one.
    fn input(&mut self, input: Input, out: &Outlet) -> Result<(), Failure>;

    /// The stream is over, in whichever way: forget it.
    fn close(&mut self);
}

/// What serves all streams together.
pub trait Batch: Send {
    /// Does one step for the live streams, in the order of their opening: takes what came ([`Stream::next_input`]), computes once, says
    /// what came out ([`Stream::out`]), and ends streams that are done ([`Outlet::done`]) or can't be served ([`Outlet::fail`]).
    ///
    /// A stream is in the slice at every step from its opening until it has ended. One that [`Stream::is_cancelled`] is there once more and then
    /// never again: whatever is kept for it has to be dropped.
    fn step(&mut self, streams: &mut [Stream]) -> Step;
}

/// When a [`Batch`] wants to be called again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// When something came on any stream, or a stream may send again.
    Wait,
    /// At once: there's more to compute.
    Again,
}

/// What comes on a stream.
#[derive(Clone, Debug)]
pub enum Input {
    /// Mono PCM, 16 bit, little endian; a whole number of samples.
    Audio(Bytes),
    /// A clause to speak.
    Text(Text),
    /// Nothing more comes: give the result.
    Finish,
}

/// Why a stream can't be served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// One of [`code`].
    pub code: &'static str,
    /// The cause, for the operator. It never holds what was said.
    pub message: String,
}

impl Failure {
    /// A failure with its code and cause.
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }
}

/// The models root of this machine: relative paths become real ones, and never leave it.
#[derive(Clone, Debug, Default)]
pub struct Models {
    root: Option<PathBuf>,
}

impl Models {
    /// The root, if this machine has one.
    pub fn new(root: Option<PathBuf>) -> Self {
        Self { root }
    }

    /// The file or folder that `relative` names below the root.
    ///
    /// # Errors
    /// [`LoadFailed`] where there's no root, no such file, or the path would leave the root.
    pub fn resolve(&self, relative: &str) -> Result<PathBuf, LoadFailed> {
        let failed = |code: &str, reason: String| LoadFailed::new(code, reason).about(relative);
        let path = Path::new(relative);
        if relative.is_empty()
            || path
                .components()
                .any(|part| !matches!(part, Component::Normal(_) | Component::CurDir))
        {
            return Err(failed(
                code::INVALID,
                format!("{relative:?} is not a path below the models root"),
            ));
        }
        let Some(root) = &self.root else {
            return Err(failed(
                code::MISSING,
                "this worker was started without a models root (--models DIR)".into(),
            ));
        };
        let whole = root.join(path);
        if whole.exists() {
            Ok(whole)
        } else {
            Err(failed(
                code::MISSING,
                format!("there is no {relative:?} below the models root"),
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_never_leaves_the_models_root() {
        let models = Models::new(Some(std::env::temp_dir()));
        for path in ["", "/etc/passwd", "../x", "a/../../x", "no-such-file-here"] {
            assert!(models.resolve(path).is_err(), "{path}");
        }
        let failed = Models::default().resolve("a").expect_err("no root");
        assert_eq!(failed.code, code::MISSING);
    }
}
