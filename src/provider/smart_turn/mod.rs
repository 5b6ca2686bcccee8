//! smart-turn v3: whether a turn is complete, judged by how its last eight seconds sound.
//!
//! The model is Whisper's smallest encoder with a classifier on it, in 8 bits: 8 MB. Source of what it is given:
//! `pipecat-ai/pipecat`, `local_smart_turn_v3.py`. It is judged on one thread for all sessions (`lane`); a session that
//! gets no answer ends its turns by silence and words, as without a model.

mod engine;
mod features;
mod lane;
pub mod measure;

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use self::engine::Engine;
use self::lane::{Lane, Refusal};
use super::onnx::model::{self, MODELS_VARIABLE};
use super::onnx::{self, Places, RuntimeError};
use crate::backend::{Capabilities, OpenError, TurnBackend, TurnPrediction};
use crate::call::BackendKind;
use crate::id::Generation;

/// The model's file, relative to the folder of models.
pub const MODEL_FILE: &str = "turn/smart-turn-v3.2-cpu.onnx";

/// How smart-turn is loaded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SmartTurnOptions {
    /// Where onnxruntime and the model are looked for.
    pub places: Places,
    /// The model's file, when the configuration names it. Then it is looked for nowhere else.
    pub model: Option<PathBuf>,
    /// How far its thread stands back behind those of the sessions, 0 to 19.
    pub nice: u8,
}

/// smart-turn could not be loaded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SmartTurnError {
    /// onnxruntime is the reason.
    #[error("smart-turn needs onnxruntime: {0}")]
    Runtime(#[from] RuntimeError),
    /// There is no model.
    #[error(
        "smart-turn's model is missing: looked for {}; `make setup` fetches it, or set {MODELS_VARIABLE} to a folder \
         that holds {MODEL_FILE}",
        onnx::list(looked)
    )]
    Missing {
        /// Each path that was looked for.
        looked: Vec<PathBuf>,
    },
    /// There is a file, but not one that serves.
    #[error("{} can't serve as smart-turn's model: {reason}; `make setup` fetches a right one", path.display())]
    Unusable {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

impl SmartTurnError {
    /// Whether something isn't there, as opposed to being broken.
    #[must_use]
    pub const fn is_absence(&self) -> bool {
        matches!(self, Self::Missing { .. } | Self::Runtime(RuntimeError::Missing { .. }))
    }
}

/// The path of the model: the configured one, else the one in the data directory, else the one under `$REPARTEE_MODELS`.
///
/// # Errors
/// [`SmartTurnError::Missing`].
pub fn find_model(
    options: &SmartTurnOptions,
    variable: &dyn Fn(&str) -> Option<OsString>,
) -> Result<PathBuf, SmartTurnError> {
    model::find(MODEL_FILE, options.model.as_deref(), &options.places.data, variable)
        .map_err(|looked| SmartTurnError::Missing { looked })
}

/// Judges turns.
#[derive(Debug)]
pub struct SmartTurnBackend {
    capabilities: Capabilities,
    lane: Lane,
}

impl SmartTurnBackend {
    /// Finds, loads and tries out the model. Takes some tenths of a second, for which the calling thread waits.
    ///
    /// # Errors
    /// See [`SmartTurnError`].
    pub fn load(options: &SmartTurnOptions, generation: Generation) -> Result<Self, SmartTurnError> {
        let path = find_model(options, &|name| env::var_os(name))?;
        let environment = onnx::runtime(&options.places)?;
        let unusable = |reason: String| SmartTurnError::Unusable {
            path: path.clone(),
            reason,
        };
        let file = model::read(&path).map_err(unusable)?;
        // onnxruntime's tensors stay where they were made.
        let lane = Lane::start(options.nice, move || {
            let mut engine = Engine::new(&environment, &file)?;
            Ok(Box::new(move |pcm: &[i16]| engine.judge(pcm)))
        })
        .map_err(unusable)?;
        Ok(Self {
            capabilities: Capabilities::new(BackendKind::Turn, "smart-turn", &model_id(&path), generation),
            lane,
        })
    }
}

/// The catalogue's name of the file; a file of somebody's own goes by its own.
fn model_id(path: &Path) -> String {
    if path.ends_with(MODEL_FILE) {
        return "smart-turn-v3".to_owned();
    }
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

impl TurnBackend for SmartTurnBackend {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn predict(&self, pcm: &[i16]) -> Result<Box<dyn TurnPrediction>, OpenError> {
        let newest = &pcm[pcm.len().saturating_sub(features::WINDOW)..];
        match self.lane.ask(newest) {
            Ok(answer) => Ok(Box::new(answer)),
            Err(Refusal::Full) => Err(OpenError::Busy {
                backend: self.capabilities.name.clone(),
                reason: format!("{} questions wait for it", lane::WAITING_MAX),
            }),
            Err(Refusal::Gone) => Err(OpenError::Lost {
                backend: self.capabilities.name.clone(),
                reason: "its thread has ended".to_owned(),
            }),
        }
    }
}

#[cfg(test)]
mod tests;
