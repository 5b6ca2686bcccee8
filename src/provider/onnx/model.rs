//! A model's file: where it lies, how it is read, and how a session is made of it.

use std::ffi::OsString;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use ort::environment::Environment;
use ort::session::Session;
use ort::session::builder::GraphOptimizationLevel;
use ort::value::{Outlet, TensorElementType, ValueType};

/// The environment variable that names the folder of models.
pub const MODELS_VARIABLE: &str = "REPARTEE_MODELS";

/// Models that run in this process have 1 to 9 MB. What is larger than this isn't one, and isn't read into memory to find
/// out.
const BYTES_MAX: u64 = 64 << 20;

/// The path of a model: the configured one, else `file` in the data directory's `models`, else under `$REPARTEE_MODELS`.
///
/// # Errors
/// Each path that was looked for.
pub(in crate::provider) fn find(
    file: &str,
    configured: Option<&Path>,
    data: &Path,
    variable: &dyn Fn(&str) -> Option<OsString>,
) -> Result<PathBuf, Vec<PathBuf>> {
    let looked = match configured {
        Some(model) => vec![model.to_owned()],
        None => {
            let mut looked = vec![data.join("models").join(file)];
            looked.extend(variable(MODELS_VARIABLE).map(|models| Path::new(&models).join(file)));
            looked
        }
    };
    match looked.iter().find(|path| path.is_file()) {
        Some(path) => Ok(path.clone()),
        None => Err(looked),
    }
}

/// The content of a model's file.
pub(in crate::provider) fn read(path: &Path) -> Result<Vec<u8>, String> {
    let file = fs::File::open(path).map_err(|error| error.to_string())?;
    let mut bytes = Vec::new();
    file.take(BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| error.to_string())?;
    if bytes.len() as u64 > BYTES_MAX {
        return Err(format!("it is larger than {} MiB", BYTES_MAX >> 20));
    }
    Ok(bytes)
}

/// A session for one thread: the models are too small to be worth dividing, and threads that spin would cost more than it
/// gains.
pub(in crate::provider) fn load(environment: &Environment, model: &[u8]) -> Result<Session, String> {
    let configured = || -> ort::Result<Session> {
        Session::builder(environment)?
            .with_optimization_level(GraphOptimizationLevel::All)?
            .with_intra_threads(1)?
            .with_inter_threads(1)?
            .with_intra_op_spinning(false)?
            .commit_from_memory(model)
    };
    configured().map_err(|error| error.to_string())
}

/// What we know how to speak to.
pub(in crate::provider) struct Interface {
    /// Which models are such: "Silero VAD 5 and 6".
    pub(in crate::provider) models: &'static str,
    /// Their inputs.
    pub(in crate::provider) inputs: &'static [(&'static str, TensorElementType)],
    /// Those of their outputs that are read.
    pub(in crate::provider) outputs: &'static [(&'static str, TensorElementType)],
}

impl Interface {
    /// Whether a model is such a one: exactly these inputs, and at least these outputs.
    pub(in crate::provider) fn check(&self, session: &Session) -> Result<(), String> {
        let has = |outlets: &[Outlet], wanted: &[(&str, TensorElementType)]| {
            wanted.iter().all(|(name, element)| {
                outlets.iter().any(|outlet| {
                    outlet.name() == *name && matches!(outlet.dtype(), ValueType::Tensor { ty, .. } if ty == element)
                })
            })
        };
        let (inputs, outputs) = (session.inputs(), session.outputs());
        if has(inputs, self.inputs) && has(outputs, self.outputs) && inputs.len() == self.inputs.len() {
            return Ok(());
        }
        let wanted = |outlets: &[(&str, TensorElementType)]| {
            let names: Vec<_> = outlets
                .iter()
                .map(|(name, element)| format!("{name} ({element})"))
                .collect();
            names.join(", ")
        };
        let found = |outlets: &[Outlet]| {
            let names: Vec<_> = outlets
                .iter()
                .take(8)
                .map(|outlet| match outlet.dtype() {
                    ValueType::Tensor { ty, .. } => format!("{} ({ty})", outlet.name()),
                    _ => format!("{} (no tensor)", outlet.name()),
                })
                .collect();
            names.join(", ")
        };
        Err(format!(
            "{} have inputs {} and outputs {}; this model has inputs {} and outputs {}",
            self.models,
            wanted(self.inputs),
            wanted(self.outputs),
            found(inputs),
            found(outputs)
        ))
    }
}
