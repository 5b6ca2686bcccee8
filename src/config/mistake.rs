//! Mistakes in a configuration: where, in which key, what is wrong, and what would be right.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Nowhere: it is the built-in default.
    Default,
    /// In a file, by its name as it was given and its line, counted from 1.
    File {
        /// The file.
        path: Arc<str>,
        /// The line.
        line: usize,
    },
    /// In an environment variable.
    Environment(String),
    /// In a flag of the command line.
    Flag(String),
}

impl Place {
    /// Which of the sources it is, in rising order.
    pub(super) const fn rank(&self) -> u8 {
        match self {
            Self::Default => 0,
            Self::File { .. } => 1,
            Self::Environment(_) => 2,
            Self::Flag(_) => 3,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => formatter.write_str("default"),
            Self::File { path, line } => write!(formatter, "{path}:{line}"),
            Self::Environment(name) | Self::Flag(name) => formatter.write_str(name),
        }
    }
}

/// What is wrong. The texts follow the key's name and a colon.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The file is not TOML.
    #[error("{0}")]
    Syntax(String),
    /// A key that doesn't exist.
    #[error("there is no such key; {0}")]
    UnknownKey(Suggestion),
    /// A section that doesn't exist.
    #[error("there is no such section; {0}")]
    UnknownSection(Suggestion),
    /// A section's name with a plain value.
    #[error("this is a section, written as [{0}], not a value")]
    SectionAsValue(String),
    /// A value of another type.
    #[error("this is {found}, but {expected} is needed")]
    WrongType {
        /// What was found, in words.
        found: &'static str,
        /// What is needed, in words.
        expected: String,
    },
    /// A number beyond its bounds.
    #[error("{found} is out of range; it takes {range}")]
    OutOfRange {
        /// The number.
        found: String,
        /// The range, in words.
        range: String,
    },
    /// A word that is none of the possible ones.
    #[error("{found:?} is not possible here; {suggestion}")]
    NotOneOf {
        /// The word.
        found: String,
        /// The nearest, or all.
        suggestion: Suggestion,
    },
    /// A text that doesn't have the needed form.
    #[error("{found:?} is not {expected}")]
    Malformed {
        /// The text.
        found: String,
        /// What is needed, with an example.
        expected: String,
    },
    /// Values that are right by themselves and wrong together.
    #[error("{0}")]
    Contradiction(String),
}

/// What to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Suggestion {
    /// Something close to what was written.
    Nearest(String),
    /// Nothing is close; these exist.
    OneOf(Vec<String>),
}

impl fmt::Display for Suggestion {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nearest(name) => write!(formatter, "did you mean {name}?"),
            Self::OneOf(names) => write!(formatter, "these are: {}", names.join(", ")),
        }
    }
}

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// Where it was written.
    pub place: Place,
    /// The key as it was written; empty where the mistake is in no key.
    pub key: String,
    /// What is wrong.
    pub problem: Problem,
}

impl fmt::Display for Mistake {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: ", self.place)?;
        if !self.key.is_empty() {
            write!(formatter, "{}: ", self.key.escape_debug())?;
        }
        write!(formatter, "{}", self.problem)
    }
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file can't be read.
    #[error("{}: the configuration can't be read: {reason}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: std::io::Error,
    },
    /// The file is far larger than any configuration.
    #[error("{}: this is larger than {limit} bytes, so it is no configuration", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The largest size that is read.
        limit: u64,
    },
    /// Everything that is wrong, a line each.
    #[error("{}", lines(.0))]
    Mistakes(Vec<Mistake>),
}

fn lines(mistakes: &[Mistake]) -> String {
    mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}
