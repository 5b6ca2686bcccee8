//! What a worker says of itself, and the loading of its model.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What a model is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Job {
    /// Speech to text.
    Stt,
    /// Text to speech.
    Tts,
    /// A language model.
    Llm,
    /// Voice activity.
    Vad,
    /// Whether a turn has ended.
    Turn,
}

/// A device that a worker can compute on, as its library sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Device {
    /// `cpu`, `cuda:0`, `vulkan:1`: what a [`Load`] may ask for.
    pub id: String,
    /// What the device calls itself.
    #[serde(default)]
    pub name: String,
    /// Its memory in bytes, 0 where it isn't known.
    #[serde(default)]
    pub memory_bytes: u64,
    /// How much of it is free, in bytes.
    #[serde(default)]
    pub free_bytes: u64,
}

/// The first message of a worker: what this build on this machine can do, found out by asking the library.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    /// [`VERSION`](super::VERSION) of the worker's side.
    pub protocol: u32,
    /// Which worker this is, such as `pocketsphinx`.
    pub name: String,
    /// Its own version.
    pub version: String,
    /// The native library and its version, for people.
    #[serde(default)]
    pub library: String,
    /// What it can be asked to load models for.
    pub jobs: Vec<Job>,
    /// What the library was built with: `cpu`, `cuda`, `vulkan`…
    #[serde(default)]
    pub features: Vec<String>,
    /// Which kinds of model files it takes: `gguf`, `ggml`, `onnx`, `kroko`, `builtin`…
    #[serde(default)]
    pub formats: Vec<String>,
    /// What it measured of its devices.
    #[serde(default)]
    pub devices: Vec<Device>,
    /// How many cores this process may run on.
    #[serde(default)]
    pub threads: u32,
    /// The machine's memory in bytes, 0 where it isn't known.
    #[serde(default)]
    pub memory_bytes: u64,
    /// The worker's process id, for people and logs.
    #[serde(default)]
    pub pid: u32,
}

/// Asks for the one model of this process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Load {
    /// What the model is to be used for.
    pub job: Job,
    /// A catalogue id (such as `pocketsphinx-en-us`), or a path relative to the models root.
    pub model: String,
    /// Further files of the model by role (`tokens`, `projector`…), as paths relative to the models root.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub files: BTreeMap<String, String>,
    /// Options of this model; the catalogue says which there are.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, Value>,
    /// The most threads that inference may use; 0 leaves it to the worker.
    #[serde(default)]
    pub threads: u32,
    /// Where to compute, an id out of [`Hello::devices`]; absent leaves it to the worker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
}

/// A voice of a speech synthesiser.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Voice {
    /// What [`TtsParams::voice`](super::TtsParams::voice) asks for.
    pub id: String,
    /// What it speaks, as BCP 47 tags.
    #[serde(default)]
    pub languages: Vec<String>,
    /// The rate of its audio in Hz.
    pub rate: u32,
    /// One line for people.
    #[serde(default)]
    pub description: String,
}

/// What the loaded model is and takes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ModelInfo {
    /// The model's name, for people.
    pub name: String,
    /// The rate in Hz at which audio has to come (STT, VAD, turn) or at which it leaves with the default voice (TTS); 0 for LLM.
    #[serde(default)]
    pub rate: u32,
    /// Languages as BCP 47 tags; empty: not known, or any.
    #[serde(default)]
    pub languages: Vec<String>,
    /// Voices, the default one first.
    #[serde(default)]
    pub voices: Vec<Voice>,
    /// How many streams make progress at the same time.
    #[serde(default)]
    pub max_streams: u32,
    /// How many more may wait; a further one fails with [`code::BUSY`](super::code::BUSY).
    #[serde(default)]
    pub max_waiting: u32,
    /// Whether results come while the input goes on: partial transcripts, audio before the last word is planned.
    #[serde(default)]
    pub streaming: bool,
    /// How many tokens fit in the context (LLM).
    #[serde(default)]
    pub context: u32,
    /// The longest input of one stream: ms of audio (STT, turn) or characters of one text (TTS); 0: no limit of its own.
    #[serde(default)]
    pub max_input: u32,
    /// Whether the model was made for tests, with weights that nobody trained: it loads and streams, and proves no accuracy.
    #[serde(default)]
    pub synthetic: bool,
}

/// The model is loaded, has made a real inference, and can be used.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Ready {
    /// Time from the [`Load`] to the loaded model, in ms.
    pub load_ms: u32,
    /// Time of the first inference, in ms.
    pub warmup_ms: u32,
    /// Resident memory of the process now, in bytes.
    pub memory_bytes: u64,
    /// Memory taken on the device, in bytes, 0 on a CPU.
    #[serde(default)]
    pub device_bytes: u64,
    /// Where it computes, an id out of [`Hello::devices`]; empty where the worker doesn't tell.
    #[serde(default)]
    pub device: String,
    /// Why it computes there and not where the [`Load`] asked for, or where the worker would have chosen to; absent: it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<String>,
    /// How many bytes of data frames the engine may send on a new stream before it is given more credit.
    pub stream_credit: u64,
    /// The model.
    pub model: ModelInfo,
}

/// The model can't be used, and why. The worker stays, and may be asked for another one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LoadFailed {
    /// One of [`code`](super::code).
    #[serde(default)]
    pub code: String,
    /// The cause and the remedy, for the operator.
    pub reason: String,
    /// The file or the package that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
}

impl LoadFailed {
    /// A failure with its code, its cause and remedy.
    #[must_use]
    pub fn new(code: &str, reason: impl Into<String>) -> Self {
        Self {
            code: code.into(),
            reason: reason.into(),
            file: None,
        }
    }

    /// The same, about this file or package.
    #[must_use]
    pub fn about(self, file: impl Into<String>) -> Self {
        Self {
            file: Some(file.into()),
            ..self
        }
    }
}
