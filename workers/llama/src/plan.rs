//! What a model takes of memory, and how long its context can be made with what there is.

use repartee_worker_shell::protocol::LoadFailed;
use repartee_worker_shell::require_memory;

use crate::gguf::Gguf;
use crate::settings::{DEFAULT_CONTEXT, LEAST_CONTEXT, Settings};

/// What the process takes beside weights and cache: the library, its buffers for a step of a small model.
const BESIDE: u64 = 64 << 20;
/// Room in a step for each of its tokens, in numbers for each of the model's embedding: activations of the widest layer, queries, keys, values
/// and scores. Measured at 12 to 30 with models from 1 to 8 billion weights; more is safer.
const ACTIVATIONS: u64 = 40;
/// How much of what is free is used when nothing else was asked for: others need memory too.
const SHARE: u64 = 80;
/// The library makes contexts in steps of this many tokens (`llama_context`'s padding).
const PADDING: u64 = 256;

/// How the model is going to be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Tokens of one conversation.
    pub(crate) context: u32,
    /// Cells of the cache: as many as the answers that are made at once can need. Conversations that rest share what those leave.
    pub(crate) cells: u32,
    /// All of the memory, in bytes.
    pub(crate) bytes: u64,
}

/// What is known of the model's needs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Needs {
    /// Weights, in bytes.
    pub(crate) weights: u64,
    /// Cache of one token, in bytes.
    pub(crate) token: u64,
    /// Buffers of a step, in bytes.
    pub(crate) step: u64,
    /// The context it was trained with.
    pub(crate) trained: u32,
}

impl Needs {
    pub(crate) fn of(gguf: &Gguf, weights: u64, settings: &Settings<'_>) -> Self {
        let width = gguf
            .whole(&format!("{}.embedding_length", gguf.architecture()))
            .unwrap_or(0)
            .min(1 << 20);
        let batch = u64::from(settings.batch.max(2 * settings.parallel));
        let outputs = u64::from(settings.parallel) * gguf.vocabulary() * 4;
        let trained = gguf.trained_context().and_then(|context| u32::try_from(context).ok());
        Self {
            weights,
            token: settings.cache.bytes(gguf.cached_numbers()),
            step: BESIDE + batch.min(512) * width * ACTIVATIONS * 4 + outputs,
            trained: trained.filter(|context| *context > 0).unwrap_or(u32::MAX),
        }
    }

    fn with(&self, cells: u32) -> u64 {
        self.weights
            .saturating_add(self.step)
            .saturating_add(self.token.saturating_mul(u64::from(cells)))
    }

    /// Fits the model into `free` bytes of memory (0: not known): with what was asked for; what was left open is made smaller until it fits.
    ///
    /// # Errors
    /// What it would need at least, and what there is.
    pub(crate) fn plan(&self, settings: &Settings<'_>, free: u64, file: &str) -> Result<Plan, LoadFailed> {
        let cells = |context: u32| {
            let cells = u64::from(context) * u64::from(settings.parallel);
            u32::try_from(cells.next_multiple_of(PADDING)).unwrap_or(u32::MAX)
        };
        let mut context = settings.context.unwrap_or(DEFAULT_CONTEXT.min(self.trained));
        let usable = if free == 0 { u64::MAX } else { free / 100 * SHARE };
        while settings.context.is_none() && self.with(cells(context)) > usable && context / 2 >= LEAST_CONTEXT {
            context /= 2;
        }
        let (cells, bytes) = (cells(context), self.with(cells(context)));
        // What was asked for may use all that is free.
        require_memory(bytes, file)?;
        Ok(Plan { context, cells, bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use repartee_worker_shell::protocol::{Job, Load};
    use serde_json::{Value, json};
    use std::collections::BTreeMap;

    const MIB: u64 = 1 << 20;

    fn load(options: Value) -> Load {
        Load {
            job: Job::Llm,
            model: "a.gguf".into(),
            files: BTreeMap::new(),
            options: serde_json::from_value(options).expect("an object"),
            threads: 0,
            device: None,
        }
    }

    fn plan(options: Value, free: u64) -> Plan {
        let needs = Needs {
            weights: 10 * MIB,
            token: 1024,
            step: 10 * MIB,
            trained: 2048,
        };
        let load = load(options);
        needs
            .plan(&Settings::of(&load).expect("options"), free, "a.gguf")
            .expect("the machine that tests has this much")
    }

    #[test]
    fn a_context_is_made_smaller_until_it_fits() {
        let free = plan(json!({}), 0);
        assert_eq!((free.context, free.cells, free.bytes), (2048, 8192, 28 * MIB));
        assert_eq!(plan(json!({}), 34 * MIB).context, 1024);
        assert_eq!(plan(json!({}), MIB).context, 512, "less isn't tried");
        let asked = plan(json!({"context": 1000, "parallel": 3}), MIB);
        assert_eq!(
            (asked.context, asked.cells),
            (1000, 3072),
            "what was asked for isn't changed"
        );
    }

    #[test]
    fn a_model_that_fits_in_no_way_is_refused() {
        let needs = Needs {
            weights: 1 << 60,
            token: 1,
            step: 0,
            trained: 2048,
        };
        let load = load(json!({}));
        let settings = Settings::of(&load).expect("options");
        let failed = needs.plan(&settings, 1 << 30, "a.gguf").expect_err("an exbibyte");
        assert!(failed.reason.contains("a.gguf needs"), "{failed:?}");
    }
}
