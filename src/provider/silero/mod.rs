//! Silero's voice activity detector, versions 5 and 6, through onnxruntime, behind a cheap gate.
//!
//! The model takes 32 ms at 16 kHz with the 4 ms before it, and carries its state itself. Source:
//! `snakers4/silero-vad`, `utils_vad.py` (`OnnxWrapper`).
//!
//! One run costs about 0.1 ms, which is 0.4 % of a core if it is done for each frame. Most of a call is silence, so the
//! `Gate` decides what the model hears.

mod engine;
mod gate;

use std::cell::RefCell;
use std::env;
use std::ffi::OsString;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use self::engine::{CONTEXT, Engine, FRAME, INPUT, STATE};
use self::gate::Gate;
use super::onnx::model::{self, MODELS_VARIABLE};
use super::onnx::{self, Places, RuntimeError};
use crate::backend::{Capabilities, OpenError, Vad, VadBackend};
use crate::call::{BackendKind, Probability};
use crate::id::Generation;

/// The model's file, relative to the folder of models.
pub const MODEL_FILE: &str = "vad/silero_vad.onnx";

/// How Silero is loaded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SileroOptions {
    /// Where onnxruntime and the model are looked for.
    pub places: Places,
    /// The model's file, when the configuration names it. Then it is looked for nowhere else.
    pub model: Option<PathBuf>,
    /// Run the model for each frame, also where nothing is heard: for measurements.
    pub ungated: bool,
}

/// Silero could not be loaded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SileroError {
    /// onnxruntime is the reason.
    #[error("Silero VAD needs onnxruntime: {0}")]
    Runtime(#[from] RuntimeError),
    /// There is no model.
    #[error(
        "Silero VAD's model is missing: looked for {}; `make setup` fetches it, or set {MODELS_VARIABLE} to a folder \
         that holds {MODEL_FILE}",
        onnx::list(looked)
    )]
    Missing {
        /// Each path that was looked for.
        looked: Vec<PathBuf>,
    },
    /// There is a file, but not one that serves.
    #[error("{} can't serve as Silero VAD's model: {reason}; `make setup` fetches a right one", path.display())]
    Unusable {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// The path of Silero's model: the configured one, else the one in the data directory, else the one under
/// `$REPARTEE_MODELS`.
///
/// # Errors
/// [`SileroError::Missing`].
pub fn find_model(
    options: &SileroOptions,
    variable: &dyn Fn(&str) -> Option<OsString>,
) -> Result<PathBuf, SileroError> {
    model::find(MODEL_FILE, options.model.as_deref(), &options.places.data, variable)
        .map_err(|looked| SileroError::Missing { looked })
}

/// Makes Silero's detectors.
#[derive(Debug)]
pub struct SileroBackend {
    capabilities: Capabilities,
    model: Arc<Model>,
    gated: bool,
}

/// A model's file in memory, with what is needed to make engines of it.
struct Model {
    environment: ort::environment::Environment,
    bytes: Vec<u8>,
}

impl std::fmt::Debug for Model {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Model({} bytes)", self.bytes.len())
    }
}

/// An engine and all who use it, on one thread.
type SharedEngine = Rc<RefCell<Engine>>;

thread_local! {
    /// The engines of this thread: one for each loaded model, shared by all its detectors. More than one only while a
    /// model is being replaced.
    static ENGINES: RefCell<Vec<(Arc<Model>, SharedEngine)>> = const { RefCell::new(Vec::new()) };
}

impl SileroBackend {
    /// Finds, loads and tries out the model. Takes some tens of milliseconds, on the calling thread.
    ///
    /// # Errors
    /// See [`SileroError`].
    pub fn load(options: &SileroOptions, generation: Generation) -> Result<Self, SileroError> {
        let path = find_model(options, &|name| env::var_os(name))?;
        let unusable = |reason: String| SileroError::Unusable {
            path: path.clone(),
            reason,
        };
        let bytes = model::read(&path).map_err(unusable)?;
        let environment = onnx::runtime(&options.places)?;
        let model = Arc::new(Model { environment, bytes });
        let backend = Self {
            capabilities: Capabilities {
                streaming: true,
                ..Capabilities::new(BackendKind::Vad, "silero", "silero-vad", generation)
            },
            model,
            gated: !options.ungated,
        };
        backend.prepare().map_err(unusable)?;
        Ok(backend)
    }

    /// Makes the calling thread's engine, so that its first session needn't wait for it (some tens of milliseconds).
    ///
    /// # Errors
    /// What onnxruntime says.
    pub fn prepare(&self) -> Result<(), String> {
        self.engine().map(drop)
    }

    fn engine(&self) -> Result<SharedEngine, String> {
        ENGINES.with_borrow_mut(|engines| {
            if let Some((_, engine)) = engines.iter().find(|(model, _)| Arc::ptr_eq(model, &self.model)) {
                return Ok(Rc::clone(engine));
            }
            // Models that were replaced go when their last detector here has gone.
            engines.retain(|(_, engine)| Rc::strong_count(engine) > 1);
            let engine = Engine::new(&self.model.environment, &self.model.bytes)?;
            let engine = Rc::new(RefCell::new(engine));
            engines.push((Arc::clone(&self.model), Rc::clone(&engine)));
            Ok(engine)
        })
    }
}

impl VadBackend for SileroBackend {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn open(&self) -> Result<Box<dyn Vad>, OpenError> {
        let engine = self.engine().map_err(|reason| OpenError::Lost {
            backend: self.capabilities.name.clone(),
            reason,
        })?;
        Ok(Box::new(SileroVad {
            hearing: Hearing::new(engine),
            gate: self.gated.then(Gate::new),
            kept: Kept::new(),
            awake: 0,
        }))
    }
}

/// How long the model goes on listening after it last heard something like speech, in frames: 500 ms, so that the pauses
/// between words, where its state matters, are heard by it.
const HANGOVER_FRAMES: u32 = 16;

/// How long it listens when the gate wakes it, in frames, unless it hears something like speech then: 160 ms. Most of
/// what wakes it in a quiet room is a rustle.
const TRIAL_FRAMES: u32 = 5;

/// From this probability on, what the model itself says keeps it awake, in thousandths. Below the threshold at which a
/// turn is held open (350), so that the gate never ends a turn that the model wouldn't.
const KEEPS_AWAKE: u16 = 200;

/// How many frames the model is given when it wakes that it slept through: 160 ms, in which a soft onset lies.
const KEPT_FRAMES: usize = 5;

/// Silero for one session.
struct SileroVad {
    hearing: Hearing,
    gate: Option<Gate>,
    kept: Kept,
    /// For so many frames more the model listens; zero while it sleeps.
    awake: u32,
}

/// The newest frames that the model has not heard, in a ring.
struct Kept {
    frames: [[i16; FRAME]; KEPT_FRAMES],
    filled: usize,
    next: usize,
}

impl Kept {
    const fn new() -> Self {
        Self {
            frames: [[0; FRAME]; KEPT_FRAMES],
            filled: 0,
            next: 0,
        }
    }

    fn keep(&mut self, frame: &[i16; FRAME]) {
        self.frames[self.next] = *frame;
        self.next = (self.next + 1) % KEPT_FRAMES;
        self.filled = (self.filled + 1).min(KEPT_FRAMES);
    }

    /// Gives all kept frames to `hear`, the oldest first, and forgets them.
    fn drain(&mut self, mut hear: impl FnMut(&[i16; FRAME])) {
        let first = (self.next + KEPT_FRAMES - self.filled) % KEPT_FRAMES;
        for number in 0..self.filled {
            hear(&self.frames[(first + number) % KEPT_FRAMES]);
        }
        self.filled = 0;
    }
}

impl Vad for SileroVad {
    fn frame_samples(&self) -> usize {
        FRAME
    }

    fn process(&mut self, frame: &[i16]) -> Probability {
        let Ok(frame) = <&[i16; FRAME]>::try_from(frame) else {
            debug_assert!(false, "a frame has {FRAME} samples, this one has {}", frame.len());
            return Probability::default();
        };
        let Some(gate) = &mut self.gate else {
            return self.hearing.hear(frame);
        };
        if gate.hears(frame) {
            if self.awake == 0 {
                // Its state stays as it was when it fell asleep: against the model that heard everything it agrees in
                // 99.9 % of the frames of long recordings, and with a state of zeros in 98.5 %.
                self.kept.drain(|kept| {
                    self.hearing.hear(kept);
                });
            }
            self.awake = self.awake.max(TRIAL_FRAMES);
        }
        if self.awake == 0 {
            self.kept.keep(frame);
            return Probability::default();
        }
        self.awake -= 1;
        let probability = self.hearing.hear(frame);
        if probability.per_mille() >= KEEPS_AWAKE {
            self.awake = HANGOVER_FRAMES;
        }
        probability
    }

    fn reset(&mut self) {
        self.hearing.reset();
        self.kept.filled = 0;
        self.awake = 0;
        if let Some(gate) = &mut self.gate {
            *gate = Gate::new();
        }
    }
}

/// The model's state for one session.
struct Hearing {
    engine: SharedEngine,
    state: [f32; STATE],
    /// The newest samples, which the model wants to hear again before the next frame; then the frame.
    input: [f32; INPUT],
    /// The last answer, which stands in when the model fails.
    last: Probability,
    failed: bool,
}

impl Hearing {
    fn new(engine: SharedEngine) -> Self {
        Self {
            engine,
            state: [0.0; STATE],
            input: [0.0; INPUT],
            last: Probability::default(),
            failed: false,
        }
    }

    fn hear(&mut self, frame: &[i16; FRAME]) -> Probability {
        #[cfg(test)]
        tests::RUNS.set(tests::RUNS.get() + 1);
        for (input, sample) in self.input[CONTEXT..].iter_mut().zip(frame) {
            *input = f32::from(*sample) / 32_768.0;
        }
        match self.engine.borrow_mut().run(&self.input, &mut self.state) {
            Ok(fraction) => self.last = Probability::from_fraction(fraction),
            Err(reason) => {
                // Said once: a log line a frame would be the second misfortune.
                if !self.failed {
                    tracing::error!(%reason, "Silero VAD failed on a frame");
                }
                self.failed = true;
                self.last = Probability::default();
                self.state = [0.0; STATE];
            }
        }
        self.input.copy_within(FRAME.., 0);
        self.last
    }

    fn reset(&mut self) {
        self.state = [0.0; STATE];
        self.input = [0.0; INPUT];
        self.last = Probability::default();
    }
}

#[cfg(test)]
mod tests;
