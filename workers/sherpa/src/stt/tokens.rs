//! `tokens.txt`: what each number that the model gives is written as.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::Path;

use repartee_worker_shell::protocol::{LoadFailed, code};

use super::files::file_name;

/// The largest table that is read. The largest known ones have some 150,000 tokens.
const LONGEST: u64 = 32 << 20;

/// The names of the blank in the tables of the different makers.
const BLANKS: [&str; 4] = ["<blk>", "<eps>", "<blank>", "<pad>"];

/// A table of tokens.
#[derive(Clone, Debug, Default)]
pub(super) struct Tokens {
    numbers: HashMap<String, u32>,
    count: usize,
}

impl Tokens {
    /// Reads a table and checks that the library could read it: it ends the process where it can't.
    ///
    /// # Errors
    /// With the line.
    pub(super) fn read(path: &Path) -> Result<Self, LoadFailed> {
        let name = file_name(path);
        let failed = |code: &str, reason: String| LoadFailed::new(code, reason).about(name.clone());
        let length = fs::metadata(path).map(|data| data.len()).unwrap_or(0);
        if length > LONGEST {
            return Err(failed(
                code::INVALID,
                format!("{name} is no table of tokens: it has {length} bytes"),
            ));
        }
        let bytes = fs::read(path).map_err(|error| failed(code::MISSING, format!("{name} can't be read: {error}")))?;
        let text = String::from_utf8(bytes)
            .map_err(|_| failed(code::INVALID, format!("{name} is no table of tokens: it is not UTF-8")))?;
        Self::parse(&text).map_err(|problem| failed(code::INVALID, format!("{name} is no table of tokens: {problem}")))
    }

    fn parse(text: &str) -> Result<Self, String> {
        let mut tokens = Self::default();
        let mut seen = HashSet::new();
        for (line_number, line) in text.lines().enumerate() {
            if line.trim().is_empty() {
                continue;
            }
            let place = line_number + 1;
            let (symbol, number) = line
                .trim_end()
                .rsplit_once([' ', '\t'])
                .ok_or_else(|| format!("line {place} has no token and number"))?;
            let number: u32 = number
                .parse()
                .map_err(|_| format!("line {place} doesn't end with a token's number"))?;
            if !seen.insert(number) {
                return Err(format!("line {place} gives the number {number} a second time"));
            }
            tokens.numbers.insert(symbol.to_owned(), number);
        }
        tokens.count = seen.len();
        if tokens.count == 0 {
            return Err("it is empty".into());
        }
        Ok(tokens)
    }

    /// How many tokens there are.
    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// Whether one of them is the blank.
    pub(super) fn has_blank(&self) -> bool {
        BLANKS.iter().any(|blank| self.numbers.contains_key(*blank))
    }

    /// Whether there's such a token.
    pub(super) fn has(&self, symbol: &str) -> bool {
        self.numbers.contains_key(symbol)
    }

    /// Whether the model writes in capitals only. Names of special tokens, in brackets, don't count.
    pub(super) fn are_capitals(&self) -> bool {
        let written = || {
            self.numbers
                .keys()
                .filter(|symbol| !symbol.starts_with(['<', '[', '#']))
        };
        let any = |is: fn(char) -> bool| written().any(|symbol| symbol.chars().any(is));
        any(char::is_uppercase) && !any(char::is_lowercase)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_read_or_refused_with_the_line() {
        let tokens = Tokens::parse("<blk> 0\n▁THE 1\nA 2\n  3\n").expect("a table");
        assert_eq!(tokens.len(), 4);
        assert!(tokens.has_blank() && tokens.are_capitals() && tokens.has("▁THE") && tokens.has(" "));
        assert!(!Tokens::parse("<blk> 0\na 1\nB 2").expect("a table").are_capitals());
        for (text, problem) in [
            ("", "empty"),
            ("\n \n", "empty"),
            ("a 0\nb", "line 2"),
            ("a 0\nb x", "line 2"),
            ("a 0\nb -1", "line 2"),
            ("a 0\nb 0", "second time"),
        ] {
            let said = Tokens::parse(text).expect_err("no table");
            assert!(said.contains(problem), "{text:?}: {said}");
        }
    }
}
