//! The options of a load.

use llama_cpp_2::context::params::KvCacheType;
use repartee_worker_shell::Options;
use repartee_worker_shell::protocol::{Load, LoadFailed, code};

/// Every option there is.
const KNOWN: [&str; 10] = [
    "context",
    "parallel",
    "sessions",
    "batch",
    "prompt_chunk",
    "gpu_layers",
    "kv_type",
    "template",
    "thinking",
    "waiting",
];

/// The longest context that is taken unless asked for. A telephone call of ten minutes has some 2000 tokens; memory for longer ones is better
/// spent on more sessions.
pub(crate) const DEFAULT_CONTEXT: u32 = 4096;
/// Contexts below this hold no conversation: less isn't tried to make a model fit.
pub(crate) const LEAST_CONTEXT: u32 = 512;
/// The longest context that can be asked for.
const MOST_CONTEXT: u64 = 1 << 20;

/// How many answers are made at once.
const PARALLEL: u32 = 4;
/// The most of them, and the most conversations that are kept: llama.cpp has room for 256 (`LLAMA_MAX_SEQ`).
const MOST_SESSIONS: u64 = 256;
/// How many conversations are kept for each answer that is made at once: people speak and listen far longer than a model answers. Not more,
/// as a processor's attention goes over the cells of all of them to find its own.
const SESSIONS: u32 = 2;
/// How many more streams may wait.
const WAITING: u32 = 64;

/// The most tokens of one decoding step.
const BATCH: u32 = 512;
/// How many tokens of prompts a step takes in while somebody else's answer is being made: so many cost a CPU
/// little more time than one, as it reads all weights for either, and the answer halts no longer than that.
const PROMPT_CHUNK: u32 = 32;

/// Layers on the GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layers {
    /// All of them where there's a GPU, and none if that fails.
    Auto,
    /// So many.
    Given(u32),
}

/// What the options say, before anything is known of the model.
#[derive(Debug)]
pub(crate) struct Settings<'a> {
    /// `context`: how many tokens of one conversation fit.
    pub(crate) context: Option<u32>,
    /// `parallel`: how many answers are made at once.
    pub(crate) parallel: u32,
    /// `sessions`: of how many conversations the cache is kept, as far as it has room for them.
    pub(crate) sessions: u32,
    /// `batch`: the most tokens of one step.
    pub(crate) batch: u32,
    /// `prompt_chunk`: the most tokens of prompts in a step that others wait for.
    pub(crate) prompt_chunk: u32,
    /// `gpu_layers`: `"auto"` or how many.
    pub(crate) layers: Layers,
    /// `kv_type`: in which form the cache is kept.
    pub(crate) cache: Cache,
    /// `template`: a built-in one by name.
    pub(crate) template: Option<&'a str>,
    /// `thinking`: whether models that can think before they answer should.
    pub(crate) thinking: bool,
    /// `waiting`: how many more streams may wait.
    pub(crate) waiting: u32,
}

/// The form of the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cache {
    pub(crate) kind: KvCacheType,
    /// Its size: so many bytes for so many numbers.
    bytes: u64,
    numbers: u64,
    /// Whether it is only possible with flash attention.
    pub(crate) quantised: bool,
}

impl Cache {
    fn of(name: &str) -> Option<Self> {
        let (kind, bytes, numbers) = match name {
            "f32" => (KvCacheType::F32, 4, 1),
            "f16" => (KvCacheType::F16, 2, 1),
            "bf16" => (KvCacheType::BF16, 2, 1),
            "q8_0" => (KvCacheType::Q8_0, 34, 32),
            "q4_0" => (KvCacheType::Q4_0, 18, 32),
            _ => return None,
        };
        Some(Self {
            kind,
            bytes,
            numbers,
            quantised: numbers > 1,
        })
    }

    /// How many bytes so many numbers take.
    pub(crate) fn bytes(&self, numbers: u64) -> u64 {
        numbers.div_ceil(self.numbers).saturating_mul(self.bytes)
    }
}

impl<'a> Settings<'a> {
    /// Reads the options.
    ///
    /// # Errors
    /// The first that is wrong.
    pub(crate) fn of(load: &'a Load) -> Result<Self, LoadFailed> {
        let options = Options::of(load, &KNOWN)?;
        let whole = |name, range| options.whole(name, range).map(|number| number.map(small));
        let invalid = |reason: String| LoadFailed::new(code::INVALID, reason);
        let layers = match load.options.get("gpu_layers") {
            None => Layers::Auto,
            Some(value) if value == "auto" => Layers::Auto,
            Some(value) => value
                .as_u64()
                .filter(|layers| *layers <= 1000)
                .map(|layers| Layers::Given(small(layers)))
                .ok_or_else(|| invalid("the option \"gpu_layers\" has to be \"auto\" or a whole number".into()))?,
        };
        let cache = options.text("kv_type")?.unwrap_or("f16");
        let cache = Cache::of(cache).ok_or_else(|| {
            invalid(format!(
                "the option \"kv_type\" has to be f32, f16, bf16, q8_0 or q4_0, not {cache:?}"
            ))
        })?;
        let parallel = whole("parallel", 1..=MOST_SESSIONS)?.unwrap_or(PARALLEL);
        let sessions = whole("sessions", 1..=MOST_SESSIONS)?;
        Ok(Self {
            context: whole("context", 16..=MOST_CONTEXT)?,
            parallel,
            sessions: sessions
                .unwrap_or(SESSIONS * parallel)
                .max(parallel)
                .min(small(MOST_SESSIONS)),
            batch: whole("batch", 16..=8192)?.unwrap_or(BATCH),
            prompt_chunk: whole("prompt_chunk", 1..=8192)?.unwrap_or(PROMPT_CHUNK),
            layers,
            cache,
            template: options.text("template")?,
            thinking: options.flag("thinking")?.unwrap_or(false),
            waiting: whole("waiting", 0..=4096)?.unwrap_or(WAITING),
        })
    }
}

/// A number whose range was checked.
fn small(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use repartee_worker_shell::protocol::Job;
    use serde_json::{Value, json};

    fn load(options: Value) -> Load {
        Load {
            job: Job::Llm,
            model: "a.gguf".into(),
            files: std::collections::BTreeMap::new(),
            options: serde_json::from_value(options).expect("an object"),
            threads: 0,
            device: None,
        }
    }

    #[test]
    fn options_have_defaults_and_bounds() {
        let none = load(json!({}));
        let settings = Settings::of(&none).expect("none is wrong");
        assert_eq!(
            (settings.context, settings.parallel, settings.batch),
            (None, PARALLEL, BATCH)
        );
        assert_eq!((settings.layers, settings.cache.kind), (Layers::Auto, KvCacheType::F16));
        let some = load(json!({"gpu_layers": 7, "kv_type": "q8_0", "context": 2048, "template": "llama3"}));
        let settings = Settings::of(&some).expect("none is wrong");
        assert_eq!((settings.layers, settings.template), (Layers::Given(7), Some("llama3")));
        assert_eq!(settings.cache.bytes(64), 68);
        for wrong in [
            json!({"gpu_layers": "many"}),
            json!({"kv_type": "q5"}),
            json!({"context": 3}),
            json!({"parallel": 0}),
            json!({"paralel": 4}),
            json!({"thinking": "yes"}),
        ] {
            assert!(Settings::of(&load(wrong.clone())).is_err(), "{wrong}");
        }
    }
}
