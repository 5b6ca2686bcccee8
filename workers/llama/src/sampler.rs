//! Which token comes next: sampling, held to a grammar where there is one.

use llama_cpp_2::context::LlamaContext;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::sampling::LlamaSampler;
use llama_cpp_2::token::LlamaToken;
use llama_cpp_2::token::data::LlamaTokenData;
use llama_cpp_2::token::data_array::LlamaTokenDataArray;
use repartee_worker_shell::Failure;
use repartee_worker_shell::protocol::{LlmParams, code};

use crate::common::Prepared;
use crate::gguf::Gguf;
use crate::log;

/// The seed that llama.cpp takes for "any" (`LLAMA_DEFAULT_SEED`).
const ANY_SEED: u32 = u32::MAX;

/// The deepest nesting of a grammar's brackets. The library reads them by recursion.
const DEEPEST: usize = 256;

/// How a model is sampled unless it's asked for otherwise: what its file recommends, else llama.cpp's own defaults.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Defaults {
    temperature: f32,
    top_p: f32,
    top_k: u32,
    min_p: f32,
}

impl Defaults {
    /// What the file recommends.
    pub(crate) fn of(gguf: &Gguf) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "the library's own type")]
        let number = |key: &str, otherwise: f32| gguf.number(key).map_or(otherwise, |number| number as f32);
        let top_k = gguf.whole("general.sampling.top_k").and_then(|k| u32::try_from(k).ok());
        Self {
            temperature: number("general.sampling.temp", 0.8),
            top_p: number("general.sampling.top_p", 0.95),
            top_k: top_k.unwrap_or(40),
            min_p: number("general.sampling.min_p", 0.05),
        }
    }
}

/// Room for one step's candidates, used again for each stream.
#[derive(Debug)]
pub(crate) struct Candidates(LlamaTokenDataArray);

impl Candidates {
    pub(crate) fn new() -> Self {
        Self(LlamaTokenDataArray::new(Vec::new(), false))
    }

    /// All tokens with what the model gives to each.
    fn fill(&mut self, logits: &[f32]) {
        self.0.data.clear();
        let all = (0..).map(LlamaToken::new).zip(logits);
        self.0
            .data
            .extend(all.map(|(token, logit)| LlamaTokenData::new(token, *logit, 0.0)));
        self.0.sorted = false;
        self.0.selected = None;
    }

    fn has_any(&self) -> bool {
        self.0.data.iter().any(|candidate| candidate.logit().is_finite())
    }
}

/// The sampling of one stream.
#[derive(Debug)]
pub(crate) struct Sampler {
    chain: LlamaSampler,
    grammar: Option<LlamaSampler>,
}

impl Sampler {
    /// As the stream's parameters say, held to what its template or its caller asks for. `holds_prompt`: whether the grammar
    /// begins where the answer's prefix in the prompt does.
    ///
    /// # Errors
    /// Where a parameter makes no sense, or the library refuses the grammar.
    pub(crate) fn new(
        model: &LlamaModel,
        params: &LlmParams,
        defaults: &Defaults,
        prepared: &Prepared,
        holds_prompt: bool,
    ) -> Result<Self, Failure> {
        let temperature = within(params.temperature, defaults.temperature, 0.0..=10.0, "temperature")?;
        let top_p = within(params.top_p, defaults.top_p, 0.0..=1.0, "top_p")?;
        let top_k = params.top_k.unwrap_or(defaults.top_k);
        let chain = if temperature <= 0.0 {
            LlamaSampler::chain([LlamaSampler::greedy()], true)
        } else {
            let seed = params.seed.map_or(ANY_SEED, folded);
            LlamaSampler::chain(
                [
                    // 0 is all of them, for the library as for us.
                    LlamaSampler::top_k(i32::try_from(top_k).unwrap_or(i32::MAX)),
                    LlamaSampler::top_p(top_p, 1),
                    LlamaSampler::min_p(defaults.min_p, 1),
                    LlamaSampler::temp(temperature),
                    LlamaSampler::dist(seed),
                ],
                true,
            )
        };
        let grammar = if prepared.grammar.is_empty() {
            None
        } else {
            Some(grammar(model, prepared, holds_prompt)?)
        };
        Ok(Self { chain, grammar })
    }

    /// The next token after the output `index` of the last step.
    ///
    /// # Errors
    /// Where none is possible: the model gave no numbers, or the grammar allows nothing that its vocabulary has.
    pub(crate) fn next(
        &mut self,
        context: &LlamaContext<'_>,
        index: i32,
        candidates: &mut Candidates,
    ) -> Result<LlamaToken, Failure> {
        let logits = context.get_logits_ith(index);
        let mut token = self.chain.sample(context, index);
        let chosen = usize::try_from(token.0).ok().and_then(|place| logits.get(place));
        if !chosen.is_some_and(|logit| logit.is_finite()) {
            return Err(Failure::new(code::INTERNAL, "the model gave no numbers"));
        }
        if let Some(grammar) = &mut self.grammar {
            // To ask the grammar about one token costs far less than to ask it about all, and mostly the one will do.
            if !allows(grammar, token) {
                candidates.fill(logits);
                grammar.apply(&mut candidates.0);
                if !candidates.has_any() {
                    let message = "the grammar allows nothing that this model's vocabulary can say here";
                    return Err(Failure::new(code::UNSUPPORTED, message));
                }
                token = self.pick(candidates)?;
            }
        }
        if let Some(grammar) = &mut self.grammar
            && grammar.try_accept(token).is_err()
        {
            return Err(Failure::new(
                code::INTERNAL,
                "the grammar refuses the token that it allowed",
            ));
        }
        Ok(token)
    }

    fn pick(&mut self, candidates: &mut Candidates) -> Result<LlamaToken, Failure> {
        self.chain.apply(&mut candidates.0);
        candidates
            .0
            .selected_token()
            .ok_or_else(|| Failure::new(code::INTERNAL, "the sampler chose no token"))
    }
}

fn allows(grammar: &mut LlamaSampler, token: LlamaToken) -> bool {
    let mut one = LlamaTokenDataArray::new(vec![LlamaTokenData::new(token, 1.0, 0.0)], false);
    grammar.apply(&mut one);
    one.data.first().is_some_and(|candidate| candidate.logit().is_finite())
}

fn grammar(model: &LlamaModel, prepared: &Prepared, holds_prompt: bool) -> Result<LlamaSampler, Failure> {
    if depth(&prepared.grammar) > DEEPEST {
        let message = format!("a grammar with brackets nested deeper than {DEEPEST}");
        return Err(Failure::new(code::UNSUPPORTED, message));
    }
    log::forget();
    let made = if prepared.lazy {
        let patterns: Vec<String> = prepared.triggers.iter().map(|trigger| trigger.pattern()).collect();
        LlamaSampler::grammar_lazy_patterns(model, &prepared.grammar, "root", &patterns, &[])
    } else {
        LlamaSampler::grammar(model, &prepared.grammar, "root")
    };
    let mut grammar = made.map_err(|error| {
        let problem = log::explained(&format!("llama.cpp refuses the grammar ({error})"));
        Failure::new(code::UNSUPPORTED, problem)
    })?;
    if holds_prompt && !prepared.lazy && !prepared.generation_prompt.is_empty() {
        let vocabulary = model.vocab();
        let tokens = vocabulary.tokenize(prepared.generation_prompt.as_bytes(), false, true);
        for (place, token) in tokens.into_iter().enumerate() {
            // Some vocabularies put a space before the first word.
            let is_added = place == 0
                && vocabulary.token_to_piece(token, true, None).starts_with(b" ")
                && !prepared.generation_prompt.starts_with(' ');
            if is_added {
                continue;
            }
            if !allows(&mut grammar, token) || grammar.try_accept(token).is_err() {
                let message = "the grammar doesn't fit the beginning that the template gives the answer";
                return Err(Failure::new(code::UNSUPPORTED, message));
            }
        }
    }
    Ok(grammar)
}

/// How deeply brackets are nested. Those in texts are counted too: it's a bound.
fn depth(grammar: &str) -> usize {
    let mut now = 0_usize;
    let mut most = 0;
    for byte in grammar.bytes() {
        match byte {
            b'(' => now += 1,
            b')' => now = now.saturating_sub(1),
            _ => continue,
        }
        most = most.max(now);
    }
    most
}

fn within(
    asked: Option<f32>,
    otherwise: f32,
    range: std::ops::RangeInclusive<f32>,
    name: &str,
) -> Result<f32, Failure> {
    match asked {
        None => Ok(otherwise),
        Some(number) if range.contains(&number) => Ok(number),
        Some(number) => Err(Failure::new(
            code::INVALID,
            format!(
                "{name} has to be from {} to {}, not {number}",
                range.start(),
                range.end()
            ),
        )),
    }
}

/// A seed for the library, which has half as many bits, and one value that means another thing.
fn folded(seed: u64) -> u32 {
    #[expect(clippy::cast_possible_truncation, reason = "both halves are used")]
    let folded = (seed ^ (seed >> 32)) as u32;
    if folded == ANY_SEED { 0 } else { folded }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_have_bounds() {
        assert_eq!(within(None, 0.8, 0.0..=2.0, "temperature").ok(), Some(0.8));
        assert_eq!(within(Some(0.0), 0.8, 0.0..=2.0, "temperature").ok(), Some(0.0));
        assert!(within(Some(f32::NAN), 0.8, 0.0..=2.0, "temperature").is_err());
        assert!(within(Some(-1.0), 0.8, 0.0..=2.0, "temperature").is_err());
        assert_ne!(folded(u64::from(ANY_SEED)), ANY_SEED);
        assert_ne!(folded(1), folded(2));
        assert_ne!(folded(1), folded(1 << 33));
    }

    #[test]
    fn the_nesting_of_a_grammar_is_counted() {
        assert_eq!(depth("root ::= (a (b) | (c (d)))"), 3);
        assert_eq!(depth(")("), 1);
    }
}
