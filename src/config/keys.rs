//! The one table of keys.

mod telephone;

use super::mistake::Problem;
use super::secret::Secret;
use super::value::Kind;

/// A group of keys: a table of the TOML file.
#[derive(Clone, Copy, Debug)]
pub struct Section {
    /// Its name; empty for the keys that stand outside of any table.
    pub name: &'static str,
    /// What it is about, in a sentence.
    pub help: &'static str,
}

/// A setting.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Its full name: `server.listen`.
    pub name: &'static str,
    /// What it takes.
    pub kind: Kind,
    /// The default as text; empty: not set.
    pub default: &'static str,
    /// What it does, in a sentence or two.
    pub help: &'static str,
    /// Further environment variables for it, besides [`Key::variable`], which wins over them.
    pub aliases: &'static [&'static str],
    /// Whether its value must never be printed.
    pub secret: bool,
}

impl Key {
    const fn new(name: &'static str, kind: Kind, default: &'static str, help: &'static str) -> Self {
        Self {
            name,
            kind,
            default,
            help,
            aliases: &[],
            secret: false,
        }
    }

    const fn alias(mut self, aliases: &'static [&'static str]) -> Self {
        self.aliases = aliases;
        self
    }

    const fn secret(mut self) -> Self {
        self.secret = true;
        self
    }

    /// The section that it is in; empty outside of any.
    #[must_use]
    pub fn section(&self) -> &'static str {
        self.name.rsplit_once('.').map_or("", |(section, _)| section)
    }

    /// Its name within its section.
    #[must_use]
    pub fn last(&self) -> &'static str {
        self.name.rsplit_once('.').map_or(self.name, |(_, last)| last)
    }

    /// Its environment variable: `REPARTEE_SERVER_LISTEN`.
    #[must_use]
    pub fn variable(&self) -> String {
        format!("REPARTEE_{}", self.name.to_uppercase().replace('.', "_"))
    }

    /// `problem` as it may be printed: what was written for a secret is left out.
    pub(super) fn withhold(&self, problem: Problem) -> Problem {
        match problem {
            Problem::Malformed { expected, .. } if self.secret => Problem::Malformed {
                found: Secret::WITHHELD.to_owned(),
                expected,
            },
            problem => problem,
        }
    }

    /// The key of this full name.
    #[must_use]
    pub fn find(name: &str) -> Option<&'static Self> {
        KEYS.iter().find(|key| key.name == name)
    }
}

const fn milliseconds(least: i64, most: i64) -> Kind {
    Kind::Integer {
        least,
        most,
        unit: "milliseconds",
    }
}

const fn seconds(least: i64, most: i64) -> Kind {
    Kind::Integer {
        least,
        most,
        unit: "seconds",
    }
}

const fn count(least: i64, most: i64) -> Kind {
    Kind::Integer { least, most, unit: "" }
}

/// Zero to one.
const SHARE: Kind = Kind::Number { least: 0.0, most: 1.0 };

/// Every section, in the order in which it is shown.
pub const SECTIONS: &[Section] =
    &joined::<Section, { ENGINE_SECTIONS.len() + telephone::SECTIONS.len() }>(ENGINE_SECTIONS, &telephone::SECTIONS);

/// Every key, in the order of [`SECTIONS`].
pub const KEYS: &[Key] = &joined::<Key, { ENGINE_KEYS.len() + telephone::KEYS.len() }>(ENGINE_KEYS, &telephone::KEYS);

/// Two tables as one.
const fn joined<T: Copy, const N: usize>(first: &[T], second: &[T]) -> [T; N] {
    let mut all = [first[0]; N];
    let mut index = 0;
    while index < N {
        all[index] = if index < first.len() {
            first[index]
        } else {
            second[index - first.len()]
        };
        index += 1;
    }
    all
}

const ENGINE_SECTIONS: &[Section] = &[
    Section {
        name: "",
        help: "What the engine runs.",
    },
    Section {
        name: "server",
        help: "Where it listens, and what a client may ask of it.",
    },
    Section {
        name: "ava",
        help: "In place of AVA's local_ai_server.",
    },
    Section {
        name: "stt",
        help: "Speech to text.",
    },
    Section {
        name: "tts",
        help: "Text to speech.",
    },
    Section {
        name: "llm",
        help: "The language model that answers.",
    },
    Section {
        name: "vad",
        help: "Voice activity detection: what counts as speech.",
    },
    Section {
        name: "turn",
        help: "When the user's turn begins and ends, and when a reply may be interrupted.",
    },
    Section {
        name: "workers",
        help: "The processes that hold the models.",
    },
    Section {
        name: "trace",
        help: "Recordings of sessions, for replay. They hold what people said.",
    },
    Section {
        name: "log",
        help: "The log, on the standard error stream. What people say is never in it.",
    },
    Section {
        name: "paths",
        help: "Where files are.",
    },
];

const ENGINE_KEYS: &[Key] = &[
    Key::new(
        "mode",
        Kind::Choice(&["auto", "minimal", "full"]),
        "auto",
        "\"minimal\" runs speech recognition and speech output only, \"full\" runs a language model too, \"auto\" is full \
         where one is configured or found, or this machine has a GPU; GPU_AVAILABLE=false makes it minimal where none is \
         configured.",
    )
    .alias(&["LOCAL_AI_MODE"]),
    // --- server
    Key::new(
        "server.listen",
        Kind::Address,
        "127.0.0.1:8080",
        "Address and port of the talk page, the WebSocket and the metrics. Any other than loopback needs server.token.",
    )
    .alias(&["REPARTEE_LISTEN"]),
    Key::new(
        "server.token",
        Kind::Text,
        "",
        "Access token that every client must give. Not set: none is asked for.",
    )
    .alias(&["REPARTEE_TOKEN"])
    .secret(),
    Key::new(
        "server.allowed_networks",
        Kind::Networks,
        "",
        "Networks that clients may come from, beside this machine itself; others get HTTP status 403. Empty: from \
         anywhere that can reach the address.",
    ),
    Key::new(
        "server.max_sessions",
        count(1, 10_000),
        "100",
        "Sessions at the same time; one more is refused with a clear answer.",
    )
    .alias(&["REPARTEE_MAX_SESSIONS"]),
    Key::new(
        "server.max_message_bytes",
        Kind::Integer {
            least: 4_096,
            most: 16_777_216,
            unit: "bytes",
        },
        "262144",
        "Largest message that a client may send.",
    ),
    Key::new(
        "server.hello_timeout_ms",
        milliseconds(100, 60_000),
        "5000",
        "How long a new connection may take for its first message.",
    ),
    Key::new(
        "server.idle_timeout_s",
        seconds(0, 86_400),
        "0",
        "A session with neither audio nor commands for this long is closed. 0: never.",
    ),
    Key::new(
        "server.drain_timeout_ms",
        milliseconds(0, 600_000),
        "10000",
        "When the server is told to stop: how long open sessions may take to finish their turn.",
    ),
    Key::new(
        "server.real_time",
        Kind::Switch,
        "true",
        "Whether the threads that play and listen go before all other programs of this machine, where the system allows \
         it (as root, or with an rtprio limit of 5). Without it, frames are late while recognisers keep all cores busy.",
    ),
    // --- ava
    Key::new(
        "ava.listen",
        Kind::Address,
        "",
        "Address and port for the clients of AVA's local_ai_server, such as 127.0.0.1:8765. Any other than loopback needs \
         ava.token. Not set: as LOCAL_WS_HOST and LOCAL_WS_PORT say; without them nobody listens.",
    ),
    Key::new(
        "ava.token",
        Kind::Text,
        "",
        "Shared secret of AVA's clients. Not set: none is asked for.",
    )
    .alias(&["LOCAL_WS_AUTH_TOKEN"])
    .secret(),
    Key::new(
        "ava.jwt_secret",
        Kind::Text,
        "",
        "Secret of the Admin UI's tokens (HS256), for /api/local-ai. Not set: the rules of server.token hold there.",
    )
    .alias(&["JWT_SECRET"])
    .secret(),
    // --- stt
    Key::new(
        "stt.backend",
        Kind::Backend(&["auto", "pocketsphinx", "sherpa", "whisper", "none"]),
        "auto",
        "Which recogniser; \"auto\" takes the best that is installed. Any worker that is built can be named, with its \
         model behind a colon: \"whisper:models/ggml-base.bin\".",
    )
    .alias(&["REPARTEE_STT"]),
    Key::new(
        "stt.model",
        Kind::Text,
        "",
        "Model by its catalogue id (pocketsphinx-en-us, or pocketsphinx-en-us-fast: half the processor time, more \
         errors), by its path below paths.models, or by a path on this machine. Not set: the backend's own choice.",
    ),
    Key::new(
        "stt.files",
        Kind::Table,
        "",
        "Further files of the worker's model by their role, such as { tokens = \"PATH\" }: they lie below the same folder as \
         the model.",
    ),
    Key::new(
        "stt.options",
        Kind::Table,
        "",
        "Options of the worker's model, by the worker's names for them; one that it doesn't know is told.",
    ),
    Key::new(
        "stt.hints",
        Kind::List,
        "",
        "Words and phrases that are likely to be said, such as names, for recognisers that take them.",
    ),
    Key::new(
        "stt.language",
        Kind::Language,
        "",
        "Language of the speech. Not set: the model's own.",
    ),
    Key::new(
        "stt.final_timeout_ms",
        milliseconds(100, 60_000),
        "5000",
        "Longest wait for the final transcript after the end of a turn.",
    ),
    // --- tts
    Key::new(
        "tts.backend",
        Kind::Backend(&["auto", "flite", "sherpa", "none"]),
        "auto",
        "Which voice engine; \"auto\" takes the best that is installed. Any worker that is built can be named, with its \
         model behind a colon: \"sherpa:models/voice.onnx\".",
    )
    .alias(&["REPARTEE_TTS"]),
    Key::new(
        "tts.model",
        Kind::Text,
        "",
        "Model by its catalogue id, by its path below paths.models, or by a path on this machine. Not set: the \
         backend's own choice.",
    ),
    Key::new(
        "tts.files",
        Kind::Table,
        "",
        "Further files of the worker's model by their role, such as { lexicon = \"PATH\" }: they lie below the same folder as \
         the model.",
    ),
    Key::new(
        "tts.options",
        Kind::Table,
        "",
        "Options of the worker's model, by the worker's names for them; one that it doesn't know is told.",
    ),
    Key::new(
        "tts.voice",
        Kind::Text,
        "",
        "Voice by its backend's name for it. Not set: the backend's own choice.",
    )
    .alias(&["REPARTEE_VOICE"]),
    Key::new(
        "tts.speed",
        Kind::Number { least: 0.5, most: 2.0 },
        "1.0",
        "Speed of speech; 1 is the voice's own.",
    ),
    Key::new(
        "tts.first_audio_timeout_ms",
        milliseconds(100, 60_000),
        "5000",
        "Longest wait for the first audio of a clause.",
    ),
    // --- llm
    Key::new(
        "llm.backend",
        Kind::Backend(&["auto", "openai", "llama", "parrot", "none"]),
        "auto",
        "\"openai\" is any server that speaks OpenAI's chat completions (Ollama, vLLM, llama-server), \"parrot\" \
         repeats what it heard, \"none\" leaves the replies to the client. \"llama\" is a worker, as is any other name; \
         its model stands behind a colon: \"llama:models/chat.gguf\". \"auto\" takes the server of llm.url, else one \
         that answers on this machine, else the first GGUF file in llm below paths.models if the worker llama is built, \
         else parrot.",
    )
    .alias(&["REPARTEE_LLM"]),
    Key::new(
        "llm.url",
        Kind::Url,
        "",
        "Base address of the server, up to and with its /v1. Not set: one that answers on this machine.",
    )
    .alias(&["REPARTEE_LLM_BASE_URL"]),
    Key::new(
        "llm.model",
        Kind::Text,
        "",
        "Model by the server's name for it; for a worker by its catalogue id, by its path below paths.models, or by a \
         path on this machine. Not set: the first that the server lists, or the first GGUF file in llm below \
         paths.models.",
    ),
    Key::new(
        "llm.files",
        Kind::Table,
        "",
        "Further files of the worker's model by their role, such as { projector = \"PATH\" }: they lie below the same folder as \
         the model.",
    ),
    Key::new(
        "llm.options",
        Kind::Table,
        "",
        "Options of the worker's model, by the worker's names for them; one that it doesn't know is told.",
    ),
    Key::new("llm.api_key", Kind::Text, "", "Key for the server.").secret(),
    Key::new(
        "llm.instructions",
        Kind::Text,
        "You are a helpful voice assistant. Answer in one or two short spoken sentences, without lists or markup.",
        "The system prompt of sessions that bring none of their own.",
    ),
    Key::new(
        "llm.temperature",
        Kind::Number { least: 0.0, most: 2.0 },
        "",
        "Sampling temperature. Not set: the model's own.",
    ),
    Key::new("llm.max_tokens", count(1, 100_000), "512", "Longest reply, in tokens."),
    Key::new(
        "llm.max_history_items",
        count(2, 10_000),
        "200",
        "Items of history that are kept; the oldest go first.",
    ),
    Key::new(
        "llm.connect_timeout_ms",
        milliseconds(50, 60_000),
        "2000",
        "Longest wait for a connection.",
    ),
    Key::new(
        "llm.first_token_timeout_ms",
        milliseconds(100, 300_000),
        "15000",
        "Longest wait for the first token of a reply.",
    ),
    // --- vad
    Key::new(
        "vad.backend",
        Kind::Choice(&["auto", "silero", "webrtc"]),
        "auto",
        "\"silero\" is a small neural network behind the cheap gate of WebRTC, \"webrtc\" is the gate alone. \"auto\" \
         takes silero where its model and onnxruntime are.",
    ),
    Key::new(
        "vad.start_threshold",
        SHARE,
        "0.5",
        "Probability of speech from which a frame counts as speech.",
    ),
    Key::new(
        "vad.stop_threshold",
        SHARE,
        "0.35",
        "Probability below which a frame of an open turn counts as silence; at most vad.start_threshold.",
    ),
    // --- turn
    Key::new(
        "turn.backend",
        Kind::Choice(&["auto", "smart-turn", "none"]),
        "auto",
        "\"smart-turn\" judges by the sound of the last eight seconds whether a turn is complete, \"none\" leaves that to \
         silence and words. \"auto\" takes smart-turn where its model and onnxruntime are.",
    ),
    Key::new(
        "turn.start_ms",
        milliseconds(0, 2_000),
        "90",
        "Speech must last this long before a turn begins; shorter bursts are clicks and coughs.",
    ),
    Key::new(
        "turn.pre_roll_ms",
        milliseconds(0, 2_000),
        "300",
        "A turn's audio begins this long before its first speech, so that soft onsets are not cut.",
    ),
    Key::new(
        "turn.endpointing_ms",
        milliseconds(50, 10_000),
        "600",
        "Silence after which a turn ends when nothing speaks against it.",
    )
    .alias(&["REPARTEE_ENDPOINTING_MS"]),
    Key::new(
        "turn.endpointing_max_ms",
        milliseconds(50, 30_000),
        "1600",
        "Silence after which it ends although the transcript looks unfinished or is still changing.",
    ),
    Key::new(
        "turn.eager_ms",
        milliseconds(0, 10_000),
        "0",
        "Silence after which a reply is prepared in advance, to be thrown away if the user goes on. 0: never.",
    ),
    Key::new(
        "turn.hard_limit_s",
        seconds(2, 60),
        "30",
        "Speech without a pause is cut into committed segments of this length.",
    ),
    Key::new(
        "turn.barge_in",
        Kind::Switch,
        "true",
        "Whether speech may interrupt a reply.",
    ),
    Key::new(
        "turn.barge_in_min_ms",
        milliseconds(0, 5_000),
        "200",
        "Speech of this length stops the reply, unless its words are only a sign of listening.",
    ),
    Key::new(
        "turn.duck",
        SHARE,
        "0.25",
        "How loud the reply goes on between the onset of speech and that decision.",
    ),
    // --- workers
    Key::new(
        "workers.dir",
        Kind::Path,
        "",
        "Directory of the worker programs, or several with colons between them. Not set: beside the program itself.",
    )
    .alias(&["REPARTEE_WORKERS"]),
    Key::new(
        "workers.threads",
        count(0, 256),
        "0",
        "Threads for each worker's inference. 0: one fewer than there are cores, so that the engine is never starved.",
    ),
    Key::new(
        "workers.device",
        Kind::Text,
        "",
        "Where workers compute, by their names for it: cpu, cuda:0, vulkan:1. `repartee workers` tells which there are. \
         Not set: each worker's own choice.",
    ),
    Key::new(
        "workers.cpu_fallback",
        Kind::Switch,
        "true",
        "Whether a model that can't be loaded on another device is loaded on the CPU instead, which is told.",
    ),
    Key::new(
        "workers.nice",
        count(0, 19),
        "10",
        "How far workers stand back behind the engine when processor time is short.",
    ),
    Key::new(
        "workers.load_timeout_ms",
        milliseconds(1_000, 600_000),
        "60000",
        "Longest wait for a worker to load its model and pass its first inference.",
    ),
    // --- trace
    Key::new(
        "trace.dir",
        Kind::Path,
        "",
        "Directory for the traces of sessions. Not set: nothing is recorded.",
    )
    .alias(&["REPARTEE_TRACE"]),
    Key::new(
        "trace.audio",
        Kind::Switch,
        "false",
        "Whether traces hold the audio too.",
    ),
    Key::new(
        "trace.expire_days",
        Kind::Integer {
            least: 1,
            most: 3_650,
            unit: "days",
        },
        "7",
        "Traces older than this are deleted.",
    ),
    // --- log
    Key::new(
        "log.level",
        Kind::Choice(&["off", "error", "warn", "info", "debug", "trace"]),
        "info",
        "How much is told.",
    )
    .alias(&["REPARTEE_LOG"]),
    Key::new(
        "log.format",
        Kind::Choice(&["text", "json"]),
        "text",
        "Lines for people, or a JSON object each.",
    ),
    // --- paths
    Key::new(
        "paths.home",
        Kind::Path,
        "",
        "Directory of what the set-up fetched. Not set: .repartee in the working directory, else the nearest one above \
         the program.",
    )
    .alias(&["REPARTEE_HOME"]),
    Key::new(
        "paths.models",
        Kind::Path,
        "",
        "Directory of the model files. Not set: models in paths.home.",
    )
    .alias(&["REPARTEE_MODELS"]),
    Key::new(
        "paths.onnxruntime",
        Kind::Path,
        "",
        "The onnxruntime library. Not set: lib/libonnxruntime.so in paths.home.",
    )
    .alias(&["ORT_DYLIB_PATH"]),
];

/// The variable that names the configuration file.
pub(super) const FILE_VARIABLE: &str = "REPARTEE_CONFIG";

/// Variables of this project that aren't settings of the engine: of its set-up, its tests and its tools.
pub(super) const OTHER_VARIABLES: &[&str] = &[
    FILE_VARIABLE,
    "REPARTEE_BIN",
    "REPARTEE_REQUIRE_WORKERS",
    "REPARTEE_SKIP_APT",
    "REPARTEE_SKIP_WHEELS",
    "REPARTEE_SOURCE",
    "REPARTEE_SPEECH",
    "REPARTEE_URL",
    "REPARTEE_WORKER_FEATURES",
];
