//! What AVA's backends are called, and what parameters each takes: the answers to `capabilities`, `backends` and
//! `backend_schema`.

use std::fmt;

use serde::{Serialize, Serializer};
use serde_json::{Map, Value, json};

use super::words::{Named, names};

names! {
    /// What a backend does.
    Job {
        /// Speech to text.
        Stt = "stt",
        /// Text to speech.
        Tts = "tts",
        /// A language model.
        Llm = "llm",
    }
}

/// What could be loaded: each says that models of this kind can be run here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Capabilities {
    /// Vosk.
    pub vosk: bool,
    /// sherpa-onnx.
    pub sherpa: bool,
    /// Kroko's own process.
    pub kroko_embedded: bool,
    /// Faster-Whisper.
    pub faster_whisper: bool,
    /// whisper.cpp.
    pub whisper_cpp: bool,
    /// T-one.
    pub tone: bool,
    /// Piper.
    pub piper: bool,
    /// Kokoro.
    pub kokoro: bool,
    /// MeloTTS.
    pub melotts: bool,
    /// Silero.
    pub silero: bool,
    /// Matcha.
    pub matcha: bool,
    /// llama.cpp.
    pub llama: bool,
}

impl Capabilities {
    /// Whether the backend of this name, as [`Backends`] has it, can be run. Kroko is, for its hosted service can be.
    fn has(self, name: &str) -> bool {
        match name {
            "vosk" => self.vosk,
            "sherpa" => self.sherpa,
            "kroko" => true,
            "faster_whisper" => self.faster_whisper,
            "whisper_cpp" => self.whisper_cpp,
            "tone" => self.tone,
            "piper" => self.piper,
            "kokoro" => self.kokoro,
            "melotts" => self.melotts,
            "silero" => self.silero,
            "matcha" => self.matcha,
            "llama_cpp" => self.llama,
            _ => false,
        }
    }
}

use Preset::{Flag, None as Unset, Number, Text, Whole};

/// A parameter: its name, its type in Python's words, whether it is needed, its default, what it may be, what it is.
struct Parameter {
    name: &'static str,
    kind: &'static str,
    required: bool,
    default: Preset,
    choices: &'static [&'static str],
    help: &'static str,
}

#[derive(Clone, Copy)]
enum Preset {
    None,
    Text(&'static str),
    Whole(i64),
    Number(f64),
    Flag(bool),
}

const fn needed(name: &'static str, help: &'static str) -> Parameter {
    Parameter {
        name,
        kind: "string",
        required: true,
        default: Unset,
        choices: &[],
        help,
    }
}

const fn optional(name: &'static str, default: Preset, help: &'static str) -> Parameter {
    Parameter {
        name,
        kind: match default {
            Unset | Text(_) => "string",
            Whole(_) => "integer",
            Number(_) => "number",
            Flag(_) => "boolean",
        },
        required: false,
        default,
        choices: &[],
        help,
    }
}

const fn one_of(
    name: &'static str,
    default: &'static str,
    choices: &'static [&'static str],
    help: &'static str,
) -> Parameter {
    Parameter {
        choices,
        ..optional(name, Text(default), help)
    }
}

struct Entry {
    job: Job,
    name: &'static str,
    parameters: &'static [Parameter],
}

const fn entry(job: Job, name: &'static str, parameters: &'static [Parameter]) -> Entry {
    Entry { job, name, parameters }
}

const ENTRIES: &[Entry] = &[
    entry(Job::Stt, "vosk", &[needed("model_path", "Folder of the model")]),
    entry(Job::Stt, "sherpa", &[needed("model_path", "Folder of the model")]),
    entry(
        Job::Stt,
        "kroko",
        &[
            optional("url", Unset, "Address of the hosted service"),
            optional("language", Text("en-US"), "Language"),
            optional(
                "embedded",
                Flag(false),
                "A process on this machine in place of the service",
            ),
            optional("port", Whole(6006), "Port of that process"),
        ],
    ),
    entry(
        Job::Stt,
        "faster_whisper",
        &[
            optional("model", Text("base"), "Name of the model"),
            one_of("device", "cpu", &["cpu", "cuda"], "Where it runs"),
            optional("compute_type", Text("int8"), "How it computes"),
            optional("language", Text("en"), "Language"),
        ],
    ),
    entry(
        Job::Stt,
        "whisper_cpp",
        &[
            needed("model_path", "The model's file"),
            optional("language", Text("en"), "Language"),
        ],
    ),
    entry(
        Job::Stt,
        "tone",
        &[
            needed("model_path", "Folder of the model"),
            one_of(
                "decoder_type",
                "beam_search",
                &["beam_search", "greedy"],
                "How it searches",
            ),
            optional("kenlm_path", Unset, "Language model of words"),
        ],
    ),
    entry(Job::Tts, "piper", &[needed("model_path", "The voice's file")]),
    entry(
        Job::Tts,
        "kokoro",
        &[
            optional("voice", Text("af_heart"), "Voice"),
            optional("lang", Text("a"), "Language's letter"),
            one_of("mode", "local", &["local", "hf", "api"], "Where it runs"),
            optional("model_path", Unset, "Folder of the model"),
            optional("api_base_url", Unset, "Address of an HTTP interface"),
            optional("api_key", Unset, "Key of the HTTP interface"),
            optional("api_model", Unset, "Model of the HTTP interface"),
        ],
    ),
    entry(
        Job::Tts,
        "melotts",
        &[
            optional("voice", Text("EN-US"), "Voice"),
            optional("device", Unset, "Where it runs"),
            optional("speed", Number(1.0), "How fast, 1 is normal"),
        ],
    ),
    entry(
        Job::Tts,
        "silero",
        &[
            optional("speaker", Text("xenia"), "Voice"),
            optional("language", Text("ru"), "Language"),
            optional("model_id", Text("v3_1_ru"), "Name of the model"),
            optional("sample_rate", Whole(8000), "Samples per second"),
            optional("model_path", Unset, "Folder of the model"),
        ],
    ),
    entry(
        Job::Tts,
        "matcha",
        &[
            needed("matcha_model_path", "The acoustic model's file"),
            needed("matcha_vocoder_path", "The vocoder's file"),
            optional("matcha_speed", Number(1.0), "How fast, 1 is normal"),
            optional("matcha_sid", Whole(0), "The speaker's number"),
        ],
    ),
    entry(
        Job::Llm,
        "llama_cpp",
        &[
            needed("model_path", "The GGUF file"),
            optional("threads", Whole(4), "Threads"),
            optional("context", Whole(768), "Tokens of context"),
            optional("batch", Whole(128), "Tokens of one batch"),
            optional("max_tokens", Whole(64), "Tokens of one reply, at most"),
            optional("temperature", Number(0.4), "Temperature"),
            optional("top_p", Number(0.85), "Nucleus sampling"),
            optional("repeat_penalty", Number(1.05), "Penalty on repetition"),
            optional("gpu_layers", Whole(0), "Layers on the GPU"),
            optional("use_mlock", Flag(false), "Keep the model in memory"),
        ],
    ),
];

impl Entry {
    fn schema(&self) -> Value {
        let fields: Map<String, Value> = self
            .parameters
            .iter()
            .map(|parameter| {
                let mut field = json!({
                    "type": parameter.kind, "required": parameter.required, "description": parameter.help,
                });
                let default = match parameter.default {
                    Unset => None,
                    Text(text) => Some(json!(text)),
                    Whole(number) => Some(json!(number)),
                    Number(number) => Some(json!(number)),
                    Flag(flag) => Some(json!(flag)),
                };
                if let Some(default) = default {
                    field["default"] = default;
                }
                if !parameter.choices.is_empty() {
                    field["enum"] = json!(parameter.choices);
                }
                (parameter.name.to_owned(), field)
            })
            .collect();
        Value::Object(fields)
    }
}

/// `backends_response`: every backend with its parameters.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Backends {
    #[serde(rename = "type")]
    kind: &'static str,
    stt: Vec<Listed>,
    tts: Vec<Listed>,
    llm: Vec<Listed>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct Listed {
    name: &'static str,
    available: bool,
    schema: Value,
}

impl Backends {
    /// All of them, and which can be run.
    #[must_use]
    pub fn new(capabilities: Capabilities) -> Self {
        let of = |job| {
            ENTRIES
                .iter()
                .filter(|entry| entry.job == job)
                .map(|entry| Listed {
                    name: entry.name,
                    available: capabilities.has(entry.name),
                    schema: entry.schema(),
                })
                .collect()
        };
        Self {
            kind: "backends_response",
            stt: of(Job::Stt),
            tts: of(Job::Tts),
            llm: of(Job::Llm),
        }
    }
}

/// `backend_schema_response` for the backend `name` that does `job`, whatever a client has written there.
#[must_use]
pub fn backend_schema(job: &str, name: &str, capabilities: Capabilities) -> Value {
    let error = |what: String| json!({ "type": "backend_schema_response", "error": what });
    let Some(known) = Job::parse(job) else {
        return error(format!("Unknown backend type: {job}"));
    };
    match ENTRIES.iter().find(|entry| entry.job == known && entry.name == name) {
        None => error(format!("Unknown backend: {name}")),
        Some(entry) => json!({
            "type": "backend_schema_response", "backend_type": job, "backend_name": name, "schema": entry.schema(),
            "available": capabilities.has(name),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_backend_is_listed_under_its_job() {
        let capabilities = Capabilities {
            piper: true,
            ..Capabilities::default()
        };
        let listed = serde_json::to_value(Backends::new(capabilities)).expect("it has names for keys");
        let names = |job: &str, available: bool| -> Vec<String> {
            let all = listed[job].as_array().expect("a list").iter();
            all.filter(|entry| !available || entry["available"] == true)
                .map(|entry| entry["name"].as_str().expect("a name").to_owned())
                .collect()
        };
        assert_eq!(
            names("stt", false).join(" "),
            "vosk sherpa kroko faster_whisper whisper_cpp tone"
        );
        assert_eq!(names("tts", false).join(" "), "piper kokoro melotts silero matcha");
        assert_eq!(names("llm", false), ["llama_cpp"]);
        assert_eq!(names("stt", true), ["kroko"]);
        assert_eq!(names("tts", true), ["piper"]);
    }

    #[test]
    fn a_schema_or_what_is_unknown() {
        let all = Capabilities::default();
        assert_eq!(
            backend_schema("stt", "whisper_cpp", all),
            json!({
                "type": "backend_schema_response", "backend_type": "stt", "backend_name": "whisper_cpp", "available": false,
                "schema": {
                    "model_path": { "type": "string", "required": true, "description": "The model's file" },
                    "language": { "type": "string", "required": false, "default": "en", "description": "Language" },
                },
            })
        );
        let device = &backend_schema("stt", "faster_whisper", all)["schema"]["device"];
        assert_eq!(
            (&device["default"], &device["enum"]),
            (&json!("cpu"), &json!(["cpu", "cuda"]))
        );
        assert_eq!(
            backend_schema("llm", "llama_cpp", all)["schema"]["use_mlock"]["type"],
            "boolean"
        );
        assert_eq!(backend_schema("x", "y", all)["error"], "Unknown backend type: x");
        assert_eq!(backend_schema("tts", "vosk", all)["error"], "Unknown backend: vosk");
    }
}
