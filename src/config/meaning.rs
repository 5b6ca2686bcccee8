//! What the written values mean: the second of the two steps. Fields are named as their keys, and documented there.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use super::mistake::{Mistake, Place, Problem};
use super::network::Network;
use super::secret::Secret;
use super::value::Value;
use super::written::Written;

/// A set of words for a key of [`Kind::Choice`](super::Kind::Choice), each with its variant.
macro_rules! choice {
    ($(#[$meta:meta])* $name:ident { $($(#[$variant_meta:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name {
            $($(#[$variant_meta])* $variant,)+
        }

        impl $name {
            /// The words, in the order of the variants.
            pub const WORDS: &'static [&'static str] = &[$($word),+];

            /// The word as it is written.
            #[must_use]
            pub const fn word(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }

            fn from_word(word: &str) -> Self {
                match word {
                    $($word => Self::$variant,)+
                    _ => unreachable!("the key's table of choices has only these words, which a test compares"),
                }
            }
        }
    };
}

pub(in crate::config) mod telephone;

use self::telephone::Telephone;

choice! {
    /// Which stages are started.
    Mode {
        /// By what is configured and what the machine has.
        Auto = "auto",
        /// Recognition and speech output only.
        Minimal = "minimal",
        /// A language model too.
        Full = "full",
    }
}

/// Which recogniser.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SttBackend {
    /// The best that is installed.
    Auto,
    /// This worker.
    Worker(String),
    /// None at all.
    None,
}

impl SttBackend {
    fn from_word(word: &str) -> Self {
        match word {
            "auto" => Self::Auto,
            "none" => Self::None,
            name => Self::Worker(name.to_owned()),
        }
    }
}

/// Which voice engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TtsBackend {
    /// The best that is installed.
    Auto,
    /// This worker.
    Worker(String),
    /// None at all.
    None,
}

impl TtsBackend {
    fn from_word(word: &str) -> Self {
        match word {
            "auto" => Self::Auto,
            "none" => Self::None,
            name => Self::Worker(name.to_owned()),
        }
    }
}

/// Who answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LlmBackend {
    /// The configured server, else one that answers, else a local model, else the parrot.
    Auto,
    /// A server that speaks OpenAI's chat completions.
    Openai,
    /// This worker.
    Worker(String),
    /// Whatever was heard, repeated.
    Parrot,
    /// The client.
    None,
}

impl LlmBackend {
    fn from_word(word: &str) -> Self {
        match word {
            "auto" => Self::Auto,
            "openai" => Self::Openai,
            "parrot" => Self::Parrot,
            "none" => Self::None,
            name => Self::Worker(name.to_owned()),
        }
    }
}

choice! {
    /// Which detector of speech.
    VadBackend {
        /// Silero where it can run, else WebRTC's.
        Auto = "auto",
        /// The neural network behind the gate.
        Silero = "silero",
        /// The gate alone.
        Webrtc = "webrtc",
    }
}

choice! {
    /// Which model judges whether a turn is complete.
    TurnBackend {
        /// smart-turn where it can run, else none.
        Auto = "auto",
        /// The neural network.
        SmartTurn = "smart-turn",
        /// None at all: silence and words decide.
        None = "none",
    }
}

choice! {
    /// How much the log tells.
    LogLevel {
        /// Nothing.
        Off = "off",
        /// What failed.
        Error = "error",
        /// And what looks wrong.
        Warn = "warn",
        /// And what happens to the server.
        Info = "info",
        /// And what happens to each session.
        Debug = "debug",
        /// Everything.
        Trace = "trace",
    }
}

choice! {
    /// What a line of the log is.
    LogFormat {
        /// For people.
        Text = "text",
        /// A JSON object.
        Json = "json",
    }
}

/// `[server]`
#[derive(Clone, Debug, PartialEq)]
#[expect(
    missing_docs,
    reason = "the fields are the keys of the same name, documented in the table"
)]
pub struct Server {
    pub listen: SocketAddr,
    pub token: Option<Secret>,
    pub allowed_networks: Vec<Network>,
    pub max_sessions: usize,
    pub max_message_bytes: usize,
    pub hello_timeout_ms: u32,
    pub idle_timeout_s: u32,
    pub drain_timeout_ms: u32,
    pub real_time: bool,
}

/// What a worker is told of its model, by the worker's own names.
pub type WorkerOptions = BTreeMap<String, serde_json::Value>;

/// `[stt]`
#[derive(Clone, Debug, PartialEq)]
#[expect(
    missing_docs,
    reason = "the fields are the keys of the same name, documented in the table"
)]
pub struct Stt {
    pub backend: SttBackend,
    pub model: Option<String>,
    pub files: BTreeMap<String, String>,
    pub options: WorkerOptions,
    pub hints: Vec<String>,
    pub language: Option<String>,
    pub final_timeout_ms: u32,
}

/// `[tts]`
#[derive(Clone, Debug, PartialEq)]
#[expect(
    missing_docs,
    reason = "the fields are the keys of the same name, documented in the table"
)]
pub struct Tts {
    pub backend: TtsBackend,
    pub model: Option<String>,
    pub files: BTreeMap<String, String>,
    pub options: WorkerOptions,
    pub voice: Option<String>,
    /// In thousandths: 1000 is the voice's own speed.
    pub speed_per_mille: u16,
    pub first_audio_timeout_ms: u32,
}

/// `[llm]`
#[derive(Clone, Debug, PartialEq)]
#[expect(
    missing_docs,
    reason = "the fields are the keys of the same name, documented in the table"
)]
pub struct Llm {
    pub backend: LlmBackend,
    pub url: Option<String>,
    pub model: Option<String>,
    pub files: BTreeMap<String, String>,
    pub options: WorkerOptions,
    pub api_key: Option<Secret>,
    pub instructions: String,
    /// In thousandths.
    pub temperature_milli: Option<u16>,
    pub max_tokens: u32,
    pub max_history_items: u32,
    pub connect_timeout_ms: u32,
    pub first_token_timeout_ms: u32,
}

/// `[vad]`
#[derive(Clone, Debug, PartialEq)]
#[expect(
    missing_docs,
    reason = "the fields are the keys of the same name, documented in the table"
)]
pub struct Vad {
    pub backend: VadBackend,
    /// In thousandths.
    pub start_per_mille: u16,
    /// In thousandths.
    pub stop_per_mille: u16,
}

/// `[turn]`
#[derive(Clone, Debug, PartialEq)]
#[expect(
    missing_docs,
    reason = "the fields are the keys of the same name, documented in the table"
)]
pub struct Turn {
    pub backend: TurnBackend,
    pub start_ms: u32,
    pub pre_roll_ms: u32,
    pub endpointing_ms: u32,
    pub endpointing_max_ms: u32,
    pub eager_ms: u32,
    pub hard_limit_s: u32,
    pub barge_in: bool,
    pub barge_in_min_ms: u32,
    /// In thousandths.
    pub duck_per_mille: u16,
}

/// `[workers]`
#[derive(Clone, Debug, PartialEq)]
#[expect(
    missing_docs,
    reason = "the fields are the keys of the same name, documented in the table"
)]
pub struct Workers {
    pub dir: Option<PathBuf>,
    /// Absent: one fewer than there are cores.
    pub threads: Option<u16>,
    pub device: Option<String>,
    pub cpu_fallback: bool,
    pub nice: u8,
    pub load_timeout_ms: u32,
}

/// `[trace]`
#[derive(Clone, Debug, PartialEq)]
#[expect(
    missing_docs,
    reason = "the fields are the keys of the same name, documented in the table"
)]
pub struct Trace {
    pub dir: Option<PathBuf>,
    pub audio: bool,
    pub expire_days: u32,
}

/// `[log]`
#[derive(Clone, Debug, PartialEq)]
#[expect(
    missing_docs,
    reason = "the fields are the keys of the same name, documented in the table"
)]
pub struct Log {
    pub level: LogLevel,
    pub format: LogFormat,
}

/// `[paths]`
#[derive(Clone, Debug, PartialEq)]
#[expect(
    missing_docs,
    reason = "the fields are the keys of the same name, documented in the table"
)]
pub struct Paths {
    pub home: Option<PathBuf>,
    pub models: Option<PathBuf>,
    pub onnxruntime: Option<PathBuf>,
}

/// `[ava]`
#[derive(Clone, Debug, PartialEq)]
#[expect(
    missing_docs,
    reason = "the fields are the keys of the same name, documented in the table"
)]
pub struct Ava {
    pub listen: Option<SocketAddr>,
    pub token: Option<Secret>,
    pub jwt_secret: Option<Secret>,
}

/// The whole configuration.
#[derive(Clone, Debug, PartialEq)]
#[expect(
    missing_docs,
    reason = "the fields are the sections of the same name, documented in the table"
)]
pub struct Config {
    pub mode: Mode,
    pub server: Server,
    pub ava: Ava,
    pub stt: Stt,
    pub tts: Tts,
    pub llm: Llm,
    pub vad: Vad,
    pub turn: Turn,
    pub workers: Workers,
    pub trace: Trace,
    pub log: Log,
    pub paths: Paths,
    pub telephone: Telephone,
}

impl Config {
    /// Gives each value its type. Every value was checked against its key's kind when it was read.
    pub(super) fn from_written(written: &Written) -> Self {
        let read = Read(written);
        Self {
            mode: Mode::from_word(&read.text("mode")),
            server: Server {
                listen: read.text("server.listen").parse().expect("an address was checked"),
                token: read.optional_text("server.token").map(Secret::new),
                allowed_networks: read.networks("server.allowed_networks"),
                max_sessions: read.integer("server.max_sessions"),
                max_message_bytes: read.integer("server.max_message_bytes"),
                hello_timeout_ms: read.integer("server.hello_timeout_ms"),
                idle_timeout_s: read.integer("server.idle_timeout_s"),
                drain_timeout_ms: read.integer("server.drain_timeout_ms"),
                real_time: read.switch("server.real_time"),
            },
            ava: Ava {
                listen: read
                    .optional_text("ava.listen")
                    .map(|address| address.parse().expect("an address was checked")),
                token: read.optional_text("ava.token").map(Secret::new),
                jwt_secret: read.optional_text("ava.jwt_secret").map(Secret::new),
            },
            stt: Stt {
                backend: SttBackend::from_word(&read.text("stt.backend")),
                model: read.optional_text("stt.model"),
                files: read.files("stt.files"),
                options: read.table("stt.options"),
                hints: read.list("stt.hints"),
                language: read.optional_text("stt.language"),
                final_timeout_ms: read.integer("stt.final_timeout_ms"),
            },
            tts: Tts {
                backend: TtsBackend::from_word(&read.text("tts.backend")),
                model: read.optional_text("tts.model"),
                files: read.files("tts.files"),
                options: read.table("tts.options"),
                voice: read.optional_text("tts.voice"),
                speed_per_mille: read.thousandths("tts.speed"),
                first_audio_timeout_ms: read.integer("tts.first_audio_timeout_ms"),
            },
            llm: Llm {
                backend: LlmBackend::from_word(&read.text("llm.backend")),
                url: read.optional_text("llm.url"),
                model: read.optional_text("llm.model"),
                files: read.files("llm.files"),
                options: read.table("llm.options"),
                api_key: read.optional_text("llm.api_key").map(Secret::new),
                instructions: read.text("llm.instructions"),
                temperature_milli: read.optional_thousandths("llm.temperature"),
                max_tokens: read.integer("llm.max_tokens"),
                max_history_items: read.integer("llm.max_history_items"),
                connect_timeout_ms: read.integer("llm.connect_timeout_ms"),
                first_token_timeout_ms: read.integer("llm.first_token_timeout_ms"),
            },
            vad: Vad {
                backend: VadBackend::from_word(&read.text("vad.backend")),
                start_per_mille: read.thousandths("vad.start_threshold"),
                stop_per_mille: read.thousandths("vad.stop_threshold"),
            },
            turn: Turn {
                backend: TurnBackend::from_word(&read.text("turn.backend")),
                start_ms: read.integer("turn.start_ms"),
                pre_roll_ms: read.integer("turn.pre_roll_ms"),
                endpointing_ms: read.integer("turn.endpointing_ms"),
                endpointing_max_ms: read.integer("turn.endpointing_max_ms"),
                eager_ms: read.integer("turn.eager_ms"),
                hard_limit_s: read.integer("turn.hard_limit_s"),
                barge_in: read.switch("turn.barge_in"),
                barge_in_min_ms: read.integer("turn.barge_in_min_ms"),
                duck_per_mille: read.thousandths("turn.duck"),
            },
            workers: Workers {
                dir: read.path("workers.dir"),
                threads: Some(read.integer("workers.threads")).filter(|threads| *threads > 0),
                device: read.optional_text("workers.device"),
                cpu_fallback: read.switch("workers.cpu_fallback"),
                nice: read.integer("workers.nice"),
                load_timeout_ms: read.integer("workers.load_timeout_ms"),
            },
            trace: Trace {
                dir: read.path("trace.dir"),
                audio: read.switch("trace.audio"),
                expire_days: read.integer("trace.expire_days"),
            },
            log: Log {
                level: LogLevel::from_word(&read.text("log.level")),
                format: LogFormat::from_word(&read.text("log.format")),
            },
            paths: Paths {
                home: read.path("paths.home"),
                models: read.path("paths.models"),
                onnxruntime: read.path("paths.onnxruntime"),
            },
            telephone: Telephone::read(&read),
        }
    }

    /// Values that are right by themselves and wrong together, each at the place of the one that must change.
    pub(super) fn contradictions(&self, written: &Written) -> Vec<Mistake> {
        let mut mistakes = Vec::new();
        let mut refuse = |key: &str, text: String| {
            let place = written.value(key).1.clone();
            mistakes.push(Mistake {
                place,
                key: key.to_owned(),
                problem: Problem::Contradiction(text),
            });
        };
        let listen = self.server.listen;
        if !listen.ip().to_canonical().is_loopback() && self.server.token.is_none() {
            refuse(
                "server.listen",
                format!(
                    "{listen} can be reached from other machines, so an access token is needed: set server.token \
                     (or REPARTEE_TOKEN), or listen on 127.0.0.1"
                ),
            );
        }
        for (key, text) in self.telephone_contradictions() {
            refuse(key, text);
        }
        if self.trace.audio && self.trace.dir.is_none() {
            refuse(
                "trace.audio",
                "there is no trace to hold the audio: set trace.dir".to_owned(),
            );
        }
        let turn = &self.turn;
        let orders = [
            (
                self.vad.stop_per_mille <= self.vad.start_per_mille,
                "vad.stop_threshold",
                "vad.start_threshold",
            ),
            (
                turn.endpointing_ms <= turn.endpointing_max_ms,
                "turn.endpointing_ms",
                "turn.endpointing_max_ms",
            ),
            (
                turn.eager_ms <= turn.endpointing_ms,
                "turn.eager_ms",
                "turn.endpointing_ms",
            ),
        ];
        for (_, lower, upper) in orders.into_iter().filter(|(right, ..)| !right) {
            // Told at the one that somebody wrote; the other may be a default.
            let ((lower_value, _), (upper_value, upper_place)) = (written.value(lower), written.value(upper));
            if *upper_place == Place::Default {
                refuse(
                    lower,
                    format!("this is {lower_value}, and must not be above {upper}, which is {upper_value}"),
                );
            } else {
                refuse(
                    upper,
                    format!("this is {upper_value}, and must not be below {lower}, which is {lower_value}"),
                );
            }
        }
        mistakes
    }
}

/// Typed reading of checked values.
struct Read<'a>(&'a Written);

/// What a mismatch between the table and this file would be.
const CHECKED: &str = "the value was checked against its key's kind";

impl Read<'_> {
    fn optional_text(&self, name: &str) -> Option<String> {
        match self.0.value(name).0 {
            Value::Unset => None,
            Value::Text(text) => Some(text.clone()),
            _ => unreachable!("{CHECKED}"),
        }
    }

    fn text(&self, name: &str) -> String {
        self.optional_text(name).expect(CHECKED)
    }

    fn path(&self, name: &str) -> Option<PathBuf> {
        self.optional_text(name).map(PathBuf::from)
    }

    fn integer<T: TryFrom<i64>>(&self, name: &str) -> T {
        match self.0.value(name).0 {
            Value::Integer(number) => T::try_from(*number).ok().expect(CHECKED),
            _ => unreachable!("{CHECKED}"),
        }
    }

    fn switch(&self, name: &str) -> bool {
        matches!(self.0.value(name).0, Value::Switch(true))
    }

    fn optional_thousandths(&self, name: &str) -> Option<u16> {
        match self.0.value(name).0 {
            Value::Unset => None,
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "ranges are within 0 to 2"
            )]
            Value::Number(number) => Some((number * 1000.0).round() as u16),
            _ => unreachable!("{CHECKED}"),
        }
    }

    fn thousandths(&self, name: &str) -> u16 {
        self.optional_thousandths(name).expect(CHECKED)
    }

    fn list(&self, name: &str) -> Vec<String> {
        match self.0.value(name).0 {
            Value::List(texts) => texts.clone(),
            _ => unreachable!("{CHECKED}"),
        }
    }

    fn networks(&self, name: &str) -> Vec<Network> {
        let networks = self.list(name);
        networks.iter().map(|network| network.parse().expect(CHECKED)).collect()
    }

    /// A file whose name looks like a number is a file all the same.
    fn files(&self, name: &str) -> BTreeMap<String, String> {
        let text = |value| match value {
            serde_json::Value::String(text) => text,
            other => other.to_string(),
        };
        let table = self.table(name);
        table.into_iter().map(|(role, path)| (role, text(path))).collect()
    }

    fn table(&self, name: &str) -> WorkerOptions {
        match self.0.value(name).0 {
            Value::Table(table) => table.clone(),
            _ => unreachable!("{CHECKED}"),
        }
    }
}
