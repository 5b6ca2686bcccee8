//! What the registry asks of whoever knows the configuration and the machine: what a request means, whether it can be had, and to load it.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use serde::Serialize;

use super::Seat;
use crate::backend::Capabilities;
use crate::call::{BackendKind, Served, SwitchFailure, SwitchRequest};

/// A future that is owned and may be awaited on any thread.
pub type Later<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A request that makes sense and that this machine can do.
pub struct Plan {
    /// What it comes to.
    pub served: Served,
    /// Equal for equal loads: backend, files, options, device. Loads that are equal are shared.
    pub key: String,
    /// The memory that it takes, in bytes, as far as that can be told from its files.
    pub need_bytes: Option<u64>,
    /// How long loading may take, the warm-up included.
    pub limit: Duration,
    /// Begins to load it, on the runtime that it is called on. The seat is `Loading`, then `Ready`, or `Missing` with the cause (the worker's last
    /// words included); it ends when it is released.
    pub load: Box<dyn Fn() -> Seat + Send + Sync>,
}

impl fmt::Debug for Plan {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Plan")
            .field("served", &self.served)
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

/// Knows what can be loaded here, and loads it.
pub trait Loader: Send + Sync {
    /// What `request` comes to, where `serving` does the job now. Everything that can be known without loading is checked:
    /// the worker, the model's files, their place below a models root, the device.
    ///
    /// # Errors
    /// The stage is [`Resolve`](crate::call::SwitchStage::Resolve) or [`Check`](crate::call::SwitchStage::Check); the reason has the remedy.
    fn resolve(&self, request: &SwitchRequest, serving: Option<&Capabilities>) -> Later<Result<Plan, SwitchFailure>>;

    /// The memory that a model may take now, in bytes; absent where that can't be told.
    fn free_bytes(&self) -> Option<u64>;

    /// Everything that could serve here, and what can't, with the reason.
    fn capabilities(&self) -> Later<Vec<Capability>>;
}

/// A backend that could do a job here, or why it can't.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Capability {
    /// The job.
    pub kind: BackendKind,
    /// Its name: what a switch calls `backend`.
    pub backend: String,
    /// Whether it can run with at least one model.
    pub available: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What helps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// Where it can compute, the best first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<String>,
    /// Its models, those that can't be loaded included.
    pub models: Vec<ModelCapability>,
}

/// A model of a backend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ModelCapability {
    /// What a switch calls `model`.
    pub model: String,
    /// One line for people.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Whether it can be loaded.
    pub available: bool,
    /// Whether the server's sessions are served with it now.
    pub serving: bool,
    /// Why it can't be loaded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What helps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// Its file or folder on this machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Memory that it takes, in bytes, as far as its files tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub need_bytes: Option<u64>,
    /// Its voices, the default first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub voices: Vec<String>,
    /// It was made for tests, with weights that nobody trained.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub synthetic: bool,
}
