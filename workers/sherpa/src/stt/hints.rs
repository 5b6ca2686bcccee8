//! Words that are likely, as the library takes them: for icefall's transducers with beam search.

use std::fs;
use std::path::Path;

use repartee_worker_shell::protocol::{LoadFailed, code};

use super::files::file_name;
use super::model::Model;
use super::tokens::Tokens;

/// The most hints of a stream, and the longest: a graph is made of them for each stream.
const MOST: usize = 200;
const LONGEST: usize = 100;

/// The largest vocabulary that is read.
const LONGEST_VOCABULARY: u64 = 16 << 20;

/// How the words of hints are cut into the model's tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    /// Pieces of words, by the vocabulary `bpe.vocab`.
    Bpe,
    /// Chinese characters.
    Characters,
    /// Both in one.
    Both,
}

impl Unit {
    /// What the library calls it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Bpe => "bpe",
            Self::Characters => "cjkchar",
            Self::Both => "cjkchar+bpe",
        }
    }

    /// The unit that is asked for, or that the model's files speak for.
    ///
    /// # Errors
    /// When there's no such unit, or no vocabulary for it that goes with the model: the library would end the process.
    pub(super) fn of(model: &Model, asked: Option<&str>) -> Result<Self, LoadFailed> {
        let unit = match asked {
            None if model.bpe_vocab.is_some() => Self::Bpe,
            None => Self::Characters,
            Some(name) => [Self::Bpe, Self::Characters, Self::Both]
                .into_iter()
                .find(|unit| unit.name() == name)
                .ok_or_else(|| {
                    let reason =
                        format!("the option \"modeling_unit\" has to be bpe, cjkchar or cjkchar+bpe, not {name:?}");
                    LoadFailed::new(code::INVALID, reason)
                })?,
        };
        if unit == Self::Characters {
            return Ok(unit);
        }
        let Some(path) = &model.bpe_vocab else {
            let reason = format!("the modeling unit {:?} needs a bpe.vocab beside the model", unit.name());
            return Err(LoadFailed::new(code::MISSING, reason).about("bpe.vocab"));
        };
        check_vocabulary(path, &model.tokens)?;
        Ok(unit)
    }
}

/// A line of the vocabulary is a piece and its score; each piece has to be one of the model's tokens.
fn check_vocabulary(path: &Path, tokens: &Tokens) -> Result<(), LoadFailed> {
    let name = file_name(path);
    let wrong = |problem: String| LoadFailed::new(code::INVALID, format!("{name} {problem}")).about(name.clone());
    if path.metadata().map(|data| data.len()).unwrap_or(0) > LONGEST_VOCABULARY {
        return Err(wrong("is too large for a vocabulary".into()));
    }
    let text = fs::read_to_string(path).map_err(|error| wrong(format!("can't be read: {error}")))?;
    for (line_number, line) in text.lines().enumerate() {
        let place = line_number + 1;
        let mut fields = line.split_whitespace();
        let (Some(piece), Some(score), None) = (fields.next(), fields.next(), fields.next()) else {
            return Err(wrong(format!(
                "is no vocabulary: line {place} is not a piece and its score"
            )));
        };
        if score.parse::<f32>().is_err() {
            return Err(wrong(format!("is no vocabulary: line {place} ends with no score")));
        }
        if !piece.starts_with('<') && !tokens.has(piece) {
            return Err(wrong(format!(
                "belongs to another model: the piece in line {place} is none of its tokens"
            )));
        }
    }
    if text.is_empty() {
        Err(wrong("is empty".into()))
    } else {
        Ok(())
    }
}

/// The hints of a stream in the library's form, and how many were left out. The library writes a hint that it can't cut into tokens to
/// its log, where it has no place, so such hints aren't given to it.
pub(super) fn written(hints: &[String], tokens: &Tokens, unit: Unit) -> (String, usize) {
    let are_capitals = tokens.are_capitals();
    let good: Vec<String> = hints
        .iter()
        .take(MOST)
        .filter_map(|hint| clean(hint, tokens, unit, are_capitals))
        .collect();
    (good.join("/"), hints.len() - good.len())
}

fn clean(hint: &str, tokens: &Tokens, unit: Unit, are_capitals: bool) -> Option<String> {
    if hint.chars().count() > LONGEST {
        return None;
    }
    // These mean something else to the library: the next hint, its score, its threshold, its name.
    let words = hint.replace(
        |sign: char| matches!(sign, '/' | ':' | '#' | '@') || sign.is_control(),
        " ",
    );
    let words = if are_capitals { words.to_uppercase() } else { words };
    let words: Vec<&str> = words.split_whitespace().collect();
    let has = |character: char| {
        let mut buffer = [0; 4];
        let alone: &str = character.encode_utf8(&mut buffer);
        tokens.has(alone) || (unit != Unit::Characters && tokens.has(&format!("▁{alone}")))
    };
    let known = words.iter().all(|word| word.chars().all(has));
    (known && !words.is_empty()).then(|| words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_are_given_in_the_models_letters_or_not_at_all() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        fs::write(file.path(), "<blk> 0\n▁A 1\nA 2\nB 3\n▁B 4\n今 5\n").expect("a file");
        let tokens = Tokens::read(file.path()).expect("a table");
        let hints = [
            "ab ba".to_owned(),
            "a/b:1".into(),
            "xyz".into(),
            " ".into(),
            "a".repeat(LONGEST + 1),
        ];
        assert_eq!(
            written(&hints, &tokens, Unit::Bpe),
            ("AB BA/A B 1".replace("/A B 1", ""), 4)
        );
        assert_eq!(
            written(&["a/b".into(), "今".into()], &tokens, Unit::Bpe),
            ("A B/今".into(), 0)
        );
    }
}
