//! One stream while it's served: its prompt, its place in the cache, its answer.

use std::collections::HashSet;
use std::time::Duration;

use llama_cpp_2::token::LlamaToken;
use repartee_worker_shell::protocol::Usage;

use crate::answer::Answer;
use crate::pictures::Picture;
use crate::sampler::Sampler;
use crate::slots::Cell;

/// A stream that is being served.
pub(crate) struct Live {
    /// Its sequence in the cache.
    pub(crate) slot: usize,
    /// What it's asked.
    pub(crate) prompt: Vec<Cell>,
    /// The pictures in it, in order.
    pub(crate) pictures: Vec<Picture>,
    /// The last token of the answer, which the model hasn't seen yet. `None` while the prompt is taken in.
    pub(crate) last: Option<LlamaToken>,
    pub(crate) sampler: Sampler,
    pub(crate) answer: Answer,
    /// Control tokens whose text belongs to the answer.
    pub(crate) preserved: HashSet<LlamaToken>,
    /// How many tokens the answer may have.
    pub(crate) most: u32,
    /// How many tokens of the prompt were in the cache.
    pub(crate) cached: usize,
    /// How many tokens were made.
    pub(crate) made: u32,
    /// The share in the time of the steps that it took part in.
    pub(crate) compute: Duration,
    /// How many steps the model had made when it was taken.
    pub(crate) since: u64,
}

impl Live {
    /// What it used so far, after so many `steps` of the model.
    pub(crate) fn usage(&self, steps: u64) -> Usage {
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        Usage {
            prompt_tokens: count(self.prompt.len()),
            cached_tokens: count(self.cached),
            completion_tokens: self.made,
            compute_us: u64::try_from(self.compute.as_micros()).unwrap_or(u64::MAX).max(1),
            steps: steps - self.since,
            ..Usage::default()
        }
    }

    /// The cells of its prompt that can be decoded in one go from `place` on: up to `most`, and up to the next picture.
    pub(crate) fn piece(&self, place: usize, most: usize) -> &[Cell] {
        let next = self
            .pictures
            .iter()
            .map(|picture| picture.start)
            .find(|start| *start >= place)
            .unwrap_or(self.prompt.len());
        &self.prompt[place..next.min(place + most)]
    }

    /// The picture that begins at `place`.
    pub(crate) fn picture(&self, place: usize) -> Option<&Picture> {
        self.pictures.iter().find(|picture| picture.start == place)
    }
}
