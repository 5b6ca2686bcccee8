//! A worker with its model, found on this machine: what is started, what it will need, and what it is equal to.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, UNIX_EPOCH};

use repartee_protocol::worker::Job;

use super::kind_of;
use super::scan::bytes_of;
use crate::call::{BackendKind, Served};
use crate::config::{Config, WorkerOptions};
use crate::registry::catalogue::Catalogue;
use crate::supervisor::Specification;

/// A worker, and everything that its load names.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::cli::serve) struct Chosen {
    /// The worker.
    pub(in crate::cli::serve) worker: String,
    /// Its program.
    pub(in crate::cli::serve) program: PathBuf,
    /// What for.
    pub(in crate::cli::serve) job: Job,
    /// The models root that it is given.
    pub(in crate::cli::serve) models: Option<PathBuf>,
    /// The model: an id, or a path below that.
    pub(in crate::cli::serve) model: String,
    /// Further files by role, by their paths below that.
    pub(in crate::cli::serve) files: BTreeMap<String, String>,
    /// Options, by the worker's names for them.
    pub(in crate::cli::serve) options: WorkerOptions,
    /// Where to compute; absent: the worker chooses.
    pub(in crate::cli::serve) device: Option<String>,
    /// Why it computes there and not where it was meant to.
    pub(in crate::cli::serve) fallback: Option<String>,
}

/// What a worker's model takes in memory, by what it is on the disk.
struct Factor {
    worker: &'static str,
    /// Hundredths of the files.
    per_cent: u64,
    /// And so many bytes beside them.
    beside: u64,
}

/// Factors of the workers of this tree, as they reckon it themselves before they load (`require_memory`): sherpa-onnx reads a file whole before
/// it makes a model of it; whisper.cpp has its weights once and a state for decoding; llama.cpp has its weights once, and shrinks its context
/// to what is left.
const FACTORS: &[Factor] = &[
    Factor {
        worker: "sherpa",
        per_cent: 200,
        beside: 150 << 20,
    },
    Factor {
        worker: "whisper",
        per_cent: 110,
        beside: 180 << 20,
    },
    Factor {
        worker: "llama",
        per_cent: 105,
        beside: 256 << 20,
    },
];
/// And of all others.
const OTHER: Factor = Factor {
    worker: "",
    per_cent: 150,
    beside: 32 << 20,
};

/// The memory that `bytes` of model files come to in this worker.
pub(super) fn need_of(worker: &str, bytes: u64) -> u64 {
    let factor = FACTORS.iter().find(|factor| factor.worker == worker).unwrap_or(&OTHER);
    (bytes / 100)
        .saturating_mul(factor.per_cent)
        .saturating_add(factor.beside)
}

impl Chosen {
    /// Its job as the registry names it.
    pub(in crate::cli::serve) const fn kind(&self) -> BackendKind {
        kind_of(self.job)
    }

    /// What people know it by.
    pub(in crate::cli::serve) fn served(&self) -> Served {
        Served {
            backend: self.worker.clone(),
            model: self.model.clone(),
        }
    }

    /// Where its model is, if it is a file or a folder.
    fn path(&self) -> Option<PathBuf> {
        let path = self.models.as_ref()?.join(&self.model);
        path.exists().then_some(path)
    }

    /// The memory that it takes, as far as its files tell; the catalogue knows better where it was measured.
    pub(super) fn need_bytes(&self) -> Option<u64> {
        let catalogue = Catalogue::embedded();
        if let Some(model) = catalogue
            .model(&self.model)
            .filter(|model| model.backend == self.worker)
        {
            return Some(
                model
                    .memory_mib
                    .map_or(need_of(&self.worker, model.size_bytes), |mebibytes| mebibytes << 20),
            );
        }
        let bytes = bytes_of(&self.path()?);
        let further = self
            .models
            .iter()
            .flat_map(|root| self.files.values().map(|file| bytes_of(&root.join(file))));
        Some(need_of(&self.worker, bytes.saturating_add(further.sum())))
    }

    /// Equal for loads that may be shared: a file that was replaced since is another one.
    pub(super) fn key(&self) -> String {
        let Self {
            worker,
            program,
            job,
            models,
            model,
            files,
            options,
            device,
            fallback: _,
        } = self;
        let mut key = format!("{worker} {program:?} {job:?} {models:?} {model:?} {files:?} {device:?}");
        let options = serde_json::to_string(options).unwrap_or_default();
        let written = self.path().and_then(|path| {
            let metadata = fs::metadata(path).ok()?;
            let since = metadata.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
            Some((metadata.len(), since))
        });
        // Writing into a string can't fail.
        let _ = write!(key, " {options} {written:?}");
        key
    }

    /// What the supervisor is told.
    pub(super) fn specification(&self, config: &Config) -> Specification {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let spare = u32::try_from(cores.saturating_sub(1).max(1)).unwrap_or(1);
        Specification {
            models: self.models.clone(),
            files: self.files.clone(),
            options: self.options.clone(),
            device: self.device.clone(),
            fallback: self.fallback.clone(),
            threads: config.workers.threads.map_or(spare, u32::from),
            nice: config.workers.nice,
            load_timeout: load_timeout(config),
            ..Specification::new(&self.worker, self.program.clone(), self.job, &self.model)
        }
    }

    /// The same on the processor, where it could not be loaded elsewhere.
    pub(super) fn on_processor(&self, reason: String) -> Self {
        Self {
            device: Some("cpu".to_owned()),
            fallback: Some(reason),
            ..self.clone()
        }
    }
}

/// How long one load may take.
pub(super) fn load_timeout(config: &Config) -> Duration {
    Duration::from_millis(u64::from(config.workers.load_timeout_ms))
}
