//! A judgement in its parts, on the calling thread: for benches and reports. A server takes [`super::SmartTurnBackend`].

use std::env;

use super::engine::Engine;
use super::{SmartTurnError, SmartTurnOptions, find_model, model, onnx};

/// The model, and the spectrogram that it is to judge.
pub struct Parts(Engine);

impl Parts {
    /// Finds, loads and tries out the model.
    ///
    /// # Errors
    /// See [`SmartTurnError`].
    pub fn load(options: &SmartTurnOptions) -> Result<Self, SmartTurnError> {
        let path = find_model(options, &|name| env::var_os(name))?;
        let environment = onnx::runtime(&options.places)?;
        let engine = model::read(&path).and_then(|file| Engine::new(&environment, &file));
        engine
            .map(Self)
            .map_err(|reason| SmartTurnError::Unusable { path, reason })
    }

    /// Makes the spectrogram of the last eight seconds of `pcm`.
    pub fn features(&mut self, pcm: &[i16]) {
        self.0.prepare(pcm);
    }

    /// Judges the last spectrogram: how likely the turn is complete, 0 to 1.
    ///
    /// # Errors
    /// What onnxruntime says.
    pub fn inference(&mut self) -> Result<f32, String> {
        self.0.infer()
    }
}
