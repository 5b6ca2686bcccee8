//! What holds for every utterance, whether it's heard as it's spoken or as a whole.

use std::cell::Cell;

use repartee_worker_shell::protocol::{Params, SttParams, code};
use repartee_worker_shell::{Failure, Stream};

use super::hints::{self, Unit};
use super::tokens::Tokens;
use super::words::{Case, RATE};

/// What was decided when the model was loaded.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) case: Case,
    /// Whether a hypothesis only grows: greedy search never takes a word back.
    pub(super) grows: bool,
    /// What the model hears, as far as that is known.
    pub(super) languages: Vec<String>,
    /// The longest utterance in samples.
    pub(super) longest: u64,
    /// How hints are cut into tokens, and the tokens; `None`: the model takes no hints.
    pub(super) hints: Option<(Unit, Tokens)>,
    /// Whether it was told that hints have no effect.
    pub(super) told_hints: Cell<bool>,
}

impl Plan {
    /// Whether an utterance with these parameters can be heard.
    ///
    /// # Errors
    /// When it's in another language.
    pub(super) fn accepts(&self, params: &SttParams) -> Result<(), Failure> {
        let Some(language) = &params.language else {
            return Ok(());
        };
        if self.languages.is_empty() || self.languages.iter().any(|known| base(known) == base(language)) {
            return Ok(());
        }
        let message = format!("this model hears {}, not {language:?}", self.languages.join(", "));
        Err(Failure::new(code::UNSUPPORTED, message))
    }

    /// # Errors
    /// When an utterance of so many samples is too long.
    pub(super) fn require_length(&self, samples: u64) -> Result<(), Failure> {
        if samples <= self.longest {
            return Ok(());
        }
        let message = format!("an utterance of more than {} s", self.longest / u64::from(RATE));
        Err(Failure::new(code::TOO_LONG, message))
    }

    /// The hints of an utterance as the library takes them. It's told once, and without the hints, that they have no effect.
    pub(super) fn hints_of(&self, params: &SttParams) -> Option<String> {
        if params.hints.is_empty() {
            return None;
        }
        let (written, left_out) = match &self.hints {
            Some((unit, tokens)) => hints::written(&params.hints, tokens, *unit),
            None => (String::new(), params.hints.len()),
        };
        if left_out > 0 && !self.told_hints.replace(true) {
            let why = match self.hints {
                Some(_) => "they are too many, too long, or not in the model's letters",
                None => "that takes a transducer of icefall's, loaded with \"decoding\": \"beam\"",
            };
            eprintln!(
                "{left_out} of {} hints have no effect: {why}; this is told once",
                params.hints.len()
            );
        }
        (!written.is_empty()).then_some(written)
    }

    /// The language, where there's one only.
    pub(super) fn only_language(&self) -> Option<String> {
        match &self.languages[..] {
            [language] => Some(language.clone()),
            _ => None,
        }
    }
}

/// The language of a tag without its region.
pub(super) fn base(tag: &str) -> String {
    tag.split(['-', '_']).next().unwrap_or_default().to_ascii_lowercase()
}

/// # Errors
/// When the stream isn't one to be written down.
pub(super) fn params(stream: &Stream) -> Result<&SttParams, Failure> {
    match &stream.open().params {
        Params::Stt(params) => Ok(params),
        _ => Err(Failure::new(code::UNSUPPORTED, "not an utterance to write down")),
    }
}

/// PCM of 16 bits as the library takes it, from -1 to 1.
pub(super) fn floats(bytes: &[u8]) -> Vec<f32> {
    let samples = bytes.as_chunks::<2>().0.iter();
    samples
        .map(|bytes| f32::from(i16::from_le_bytes(*bytes)) / 32768.0)
        .collect()
}

/// A soft noise, the same each time, to warm up with.
pub(super) fn noise(samples: usize) -> Vec<f32> {
    // The generator of Numerical Recipes; any noise does.
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        f32::from((state >> 16) as u16) / 65536.0 - 0.5
    };
    (0..samples).map(|_| next() / 10.0).collect()
}

pub(super) fn milliseconds(samples: u64) -> u32 {
    u32::try_from(samples * 1000 / u64::from(RATE)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_language_and_too_long_an_utterance_are_refused() {
        let plan = Plan {
            case: Case::Lower,
            grows: true,
            languages: vec!["en-US".into()],
            longest: 32_000,
            hints: None,
            told_hints: Cell::new(false),
        };
        let language = |tag: &str| SttParams {
            language: Some(tag.into()),
            ..SttParams::default()
        };
        assert_eq!(plan.accepts(&language("en_GB")), Ok(()));
        assert_eq!(plan.accepts(&SttParams::default()), Ok(()));
        assert_eq!(
            plan.accepts(&language("de-DE")).expect_err("German").code,
            code::UNSUPPORTED
        );
        assert_eq!(plan.require_length(32_000), Ok(()));
        assert_eq!(plan.require_length(32_001).expect_err("too long").code, code::TOO_LONG);
        let hinted = SttParams {
            hints: vec!["x".into()],
            ..SttParams::default()
        };
        assert_eq!(plan.hints_of(&hinted), None);
        assert!(plan.told_hints.get());
    }
}
