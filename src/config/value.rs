//! Values and the kinds of values: how each is read from text and from TOML, and what is said when it can't be.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;

use toml::de::DeValue;

use super::mistake::{Problem, Suggestion};
use super::nearest::nearest;
use super::network::Network;
use crate::call::MAX_HINTS_BYTES;

/// A value as it was written, checked against its key's [`Kind`].
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Not set, and no default either: the backend's own default applies, or the thing is off.
    Unset,
    /// A text of any textual kind.
    Text(String),
    /// A whole number.
    Integer(i64),
    /// A number.
    Number(f64),
    /// Yes or no.
    Switch(bool),
    /// Several texts.
    List(Vec<String>),
    /// Values by name, as JSON holds them: numbers, texts, true and false.
    Table(BTreeMap<String, serde_json::Value>),
}

/// What a key takes.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// Any text that isn't empty.
    Text,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// An IP address with a port.
    Address,
    /// A whole number within bounds (both included), in a unit.
    Integer {
        /// The least.
        least: i64,
        /// The most.
        most: i64,
        /// The unit in words, such as `milliseconds`; empty for plain counts.
        unit: &'static str,
    },
    /// A number within bounds (both included).
    Number {
        /// The least.
        least: f64,
        /// The most.
        most: f64,
    },
    /// Yes or no.
    Switch,
    /// A file or directory; relative ones start at the working directory.
    Path,
    /// An `http` or `https` address without a user in it.
    Url,
    /// Ranges of IP addresses.
    Networks,
    /// A language tag (BCP 47), such as `en` or `en-US`.
    Language,
    /// One of these words, or the name of a worker, of which [`Written`](super::Written) looks whether there is one. A model
    /// may follow behind a colon, and goes to the key `model` beside this one.
    Backend(&'static [&'static str]),
    /// Several texts.
    List,
    /// Values by names that somebody else knows: the options of a worker.
    Table,
}

/// Words for a backend that has no model.
const WITHOUT_MODEL: &[&str] = &["none", "parrot"];

/// The longest name of a worker: its program's name still fits everywhere.
const LONGEST_NAME: usize = 64;

impl Kind {
    /// What is needed, in words that follow "it takes" and "… is needed".
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::Text => "a text in quotes".to_owned(),
            Self::Choice(words) => format!("one of {}", quoted(words)),
            Self::Address => "an address with a port, such as \"127.0.0.1:8080\"".to_owned(),
            Self::Integer { .. } => format!("a whole number {}", self.range()),
            Self::Number { .. } => format!("a number {}", self.range()),
            Self::Switch => "true or false".to_owned(),
            Self::Path => "a path in quotes".to_owned(),
            Self::Url => "an address such as \"http://127.0.0.1:11434/v1\"".to_owned(),
            Self::Networks => "a list of networks, such as [\"10.0.0.0/8\"]".to_owned(),
            Self::Language => "a language tag such as \"en\" or \"en-US\"".to_owned(),
            Self::Backend(words) => format!(
                "{}, or the name of another worker; a model may follow, as in \"NAME:MODEL\"",
                quoted(words)
            ),
            Self::List => "a list of texts, such as [\"Repartee\", \"Asterisk\"]".to_owned(),
            Self::Table => "a table of names and values, such as { name = 1 }".to_owned(),
        }
    }

    /// The bounds of a number, in words; empty for other kinds.
    fn range(&self) -> String {
        match self {
            Self::Integer { least, most, unit: "" } => format!("from {least} to {most}"),
            Self::Integer { least, most, unit } => format!("from {least} to {most} ({unit})"),
            Self::Number { least, most } => format!("from {least} to {most}"),
            _ => String::new(),
        }
    }

    /// Reads the text of an environment variable, a flag or a default. An empty text is [`Value::Unset`].
    ///
    /// # Errors
    /// The problem, in words for whoever wrote it.
    pub fn read_text(&self, text: &str) -> Result<Value, Problem> {
        let text = text.trim();
        if text.is_empty() {
            return Ok(match self {
                Self::Networks | Self::List => Value::List(Vec::new()),
                Self::Table => Value::Table(BTreeMap::new()),
                _ => Value::Unset,
            });
        }
        match self {
            Self::Integer { .. } => match text.parse() {
                Ok(number) => self.check_integer(number),
                Err(_) => Err(self.malformed(text)),
            },
            Self::Number { .. } => match text.parse() {
                Ok(number) => self.check_number(number),
                Err(_) => Err(self.malformed(text)),
            },
            Self::Switch => match text.to_lowercase().as_str() {
                "true" | "on" | "yes" | "1" => Ok(Value::Switch(true)),
                "false" | "off" | "no" | "0" => Ok(Value::Switch(false)),
                _ => Err(self.malformed(text)),
            },
            Self::Networks => self.check_networks(listed(text)),
            Self::List => self.check_list(listed(text)),
            Self::Table => {
                let mut table = BTreeMap::new();
                for part in listed(text) {
                    let (name, value) = part.split_once('=').ok_or_else(|| self.malformed(&part))?;
                    table.insert(name.trim().to_owned(), Self::read_option(value.trim()));
                }
                self.check_table(table)
            }
            _ => self.check_text(text),
        }
    }

    /// Takes a value out of a TOML file. An empty text is [`Value::Unset`].
    ///
    /// # Errors
    /// The problem, in words for whoever wrote it.
    pub(super) fn read_toml(&self, value: &DeValue<'_>) -> Result<Value, Problem> {
        match (self, value) {
            // As in the environment, an empty text says "not set".
            (_, DeValue::String(text)) if text.trim().is_empty() => self.read_text(""),
            (Self::Integer { .. }, DeValue::Integer(number)) => {
                // A number that doesn't fit is out of every range; its text is still worth showing.
                match i64::from_str_radix(number.as_str(), number.radix()) {
                    Ok(number) => self.check_integer(number),
                    Err(_) => Err(Problem::OutOfRange {
                        found: number.to_string(),
                        range: self.describe(),
                    }),
                }
            }
            (Self::Number { .. }, DeValue::Integer(number)) => match number.as_str().parse() {
                Ok(number) => self.check_number(number),
                Err(_) => Err(self.malformed(&number.to_string())),
            },
            (Self::Number { .. }, DeValue::Float(number)) => match number.as_str().parse() {
                Ok(number) => self.check_number(number),
                Err(_) => Err(self.malformed(number.as_str())),
            },
            (Self::Switch, DeValue::Boolean(switch)) => Ok(Value::Switch(*switch)),
            (Self::Networks | Self::List, DeValue::Array(items)) => {
                let mut texts = Vec::new();
                for item in items.iter() {
                    match item.get_ref() {
                        DeValue::String(text) => texts.push(text.to_string()),
                        other => return Err(self.wrong_type(other)),
                    }
                }
                match self {
                    Self::Networks => self.check_networks(texts),
                    _ => self.check_list(texts),
                }
            }
            (Self::Table, DeValue::Table(entries)) => {
                let mut table = BTreeMap::new();
                for (name, value) in entries {
                    let value = match value.get_ref() {
                        DeValue::String(text) => text.as_ref().into(),
                        DeValue::Boolean(switch) => (*switch).into(),
                        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
                            .map(serde_json::Value::from)
                            .map_err(|_| self.malformed(&number.to_string()))?,
                        DeValue::Float(number) => Self::read_option(number.as_str()),
                        other => return Err(self.wrong_type(other)),
                    };
                    table.insert(name.get_ref().to_string(), value);
                }
                self.check_table(table)
            }
            (
                Self::Text
                | Self::Choice(_)
                | Self::Address
                | Self::Path
                | Self::Url
                | Self::Language
                | Self::Backend(_),
                DeValue::String(text),
            ) => self.check_text(text),
            (_, other) => Err(self.wrong_type(other)),
        }
    }

    fn check_integer(&self, number: i64) -> Result<Value, Problem> {
        match self {
            Self::Integer { least, most, .. } if (*least..=*most).contains(&number) => Ok(Value::Integer(number)),
            _ => Err(Problem::OutOfRange {
                found: number.to_string(),
                range: self.describe(),
            }),
        }
    }

    fn check_number(&self, number: f64) -> Result<Value, Problem> {
        match self {
            // A comparison with NaN is false, so NaN is out of range.
            Self::Number { least, most } if (*least..=*most).contains(&number) => Ok(Value::Number(number)),
            _ => Err(Problem::OutOfRange {
                found: number.to_string(),
                range: self.describe(),
            }),
        }
    }

    fn check_networks(&self, networks: Vec<String>) -> Result<Value, Problem> {
        for network in &networks {
            if let Err(error) = network.parse::<Network>() {
                let expected = format!("a network such as 10.0.0.0/8 ({error})");
                return Err(Problem::Malformed {
                    found: network.clone(),
                    expected,
                });
            }
        }
        Ok(Value::List(networks))
    }

    fn check_list(&self, texts: Vec<String>) -> Result<Value, Problem> {
        if let Some(empty) = texts.iter().find(|text| text.trim().is_empty() || text.contains('\0')) {
            return Err(self.malformed(empty));
        }
        let bytes: usize = texts.iter().map(|text| text.len() + 1).sum();
        if bytes > MAX_HINTS_BYTES as usize {
            return Err(Problem::OutOfRange {
                found: format!("a list of {bytes} bytes"),
                range: format!("at most {MAX_HINTS_BYTES}"),
            });
        }
        Ok(Value::List(texts))
    }

    fn check_table(&self, table: BTreeMap<String, serde_json::Value>) -> Result<Value, Problem> {
        let is_name = |name: &str| {
            !name.is_empty()
                && name
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
        };
        match table.keys().find(|name| !is_name(name)) {
            Some(name) => Err(self.malformed(name)),
            None => Ok(Value::Table(table)),
        }
    }

    /// A value of a table out of a text: a number, `true` or `false`, else the text itself.
    pub(super) fn read_option(text: &str) -> serde_json::Value {
        let plain = text.replace('_', "");
        match text {
            "true" => true.into(),
            "false" => false.into(),
            _ => match (plain.parse::<i64>(), plain.parse::<f64>()) {
                (Ok(number), _) => number.into(),
                (Err(_), Ok(number)) if number.is_finite() => number.into(),
                _ => text.into(),
            },
        }
    }

    fn check_text(&self, text: &str) -> Result<Value, Problem> {
        let fits = match self {
            Self::Choice(words) if !words.contains(&text) => {
                return Err(not_one_of(text, words.iter().copied()));
            }
            Self::Backend(_) => {
                let (name, model) = split_model(text);
                let is_name = (1..=LONGEST_NAME).contains(&name.len())
                    && name
                        .bytes()
                        .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
                let model_fits = model
                    .is_none_or(|model| !model.is_empty() && !model.contains('\0') && !WITHOUT_MODEL.contains(&name));
                is_name && model_fits
            }
            Self::Address => text.parse::<SocketAddr>().is_ok(),
            Self::Url => return check_url(text),
            Self::Language => is_language(text),
            // A NUL byte can't be part of a path or of anything that reaches a C library.
            _ => !text.contains('\0'),
        };
        if fits {
            Ok(Value::Text(text.to_owned()))
        } else {
            Err(self.malformed(text))
        }
    }

    fn malformed(&self, found: &str) -> Problem {
        Problem::Malformed {
            found: found.to_owned(),
            expected: self.describe(),
        }
    }

    fn wrong_type(&self, found: &DeValue<'_>) -> Problem {
        let found = match found {
            DeValue::String(_) => "a text",
            DeValue::Integer(_) => "a whole number",
            DeValue::Float(_) => "a number with a point",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date or time",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a section",
        };
        Problem::WrongType {
            found,
            expected: self.describe(),
        }
    }
}

/// An `http` or `https` address with a host. One with a user is refused without being shown: it holds a password.
fn check_url(text: &str) -> Result<Value, Problem> {
    let malformed = || Problem::Malformed {
        found: text.to_owned(),
        expected: Kind::Url.describe(),
    };
    let rest = text
        .strip_prefix("http://")
        .or_else(|| text.strip_prefix("https://"))
        .ok_or_else(malformed)?;
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.contains('@') {
        let expected = "without a user in it: put the key into llm.api_key".to_owned();
        return Err(Problem::Malformed {
            found: "an address with a user".to_owned(),
            expected,
        });
    }
    let host_is_there = !authority.is_empty() && !authority.starts_with(':');
    if !host_is_there
        || text
            .chars()
            .any(|character| character.is_whitespace() || character.is_control())
    {
        return Err(malformed());
    }
    Ok(Value::Text(text.to_owned()))
}

/// The shape of a BCP 47 tag: a language of 2 to 8 letters, then subtags of 1 to 8 letters or digits.
fn is_language(text: &str) -> bool {
    let mut subtags = text.split('-');
    let language = subtags.next().unwrap_or_default();
    (2..=8).contains(&language.len())
        && language.bytes().all(|byte| byte.is_ascii_alphabetic())
        && subtags
            .all(|subtag| (1..=8).contains(&subtag.len()) && subtag.bytes().all(|byte| byte.is_ascii_alphanumeric()))
}

/// The parts of a text between commas.
fn listed(text: &str) -> Vec<String> {
    text.split(',').map(|part| part.trim().to_owned()).collect()
}

/// `whisper:ggml-tiny.bin` is a backend and its model; the model may hold colons itself.
pub(super) fn split_model(text: &str) -> (&str, Option<&str>) {
    match text.split_once(':') {
        Some((name, model)) => (name.trim(), Some(model.trim())),
        None => (text, None),
    }
}

/// `found` is none of `words`, of which the nearest is proposed.
pub(super) fn not_one_of<'a>(found: &str, words: impl Iterator<Item = &'a str> + Clone) -> Problem {
    let suggestion = match nearest(found, words.clone()) {
        Some(word) => Suggestion::Nearest(format!("{word:?}")),
        None => Suggestion::OneOf(words.map(|word| format!("{word:?}")).collect()),
    };
    Problem::NotOneOf {
        found: found.to_owned(),
        suggestion,
    }
}

fn quoted(words: &[&str]) -> String {
    words
        .iter()
        .map(|word| format!("{word:?}"))
        .collect::<Vec<_>>()
        .join(", ")
}

/// As it stands in a TOML file.
impl fmt::Display for Value {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unset => formatter.write_str("\"\""),
            Self::Text(text) => write!(formatter, "{}", toml::Value::from(text.as_str())),
            Self::Integer(number) => write!(formatter, "{number}"),
            // `{:?}` keeps the point of a whole number, as TOML needs it for a float.
            Self::Number(number) => write!(formatter, "{number:?}"),
            Self::Switch(switch) => write!(formatter, "{switch}"),
            Self::List(items) => write!(formatter, "{}", toml::Value::from(items.clone())),
            Self::Table(table) if table.is_empty() => formatter.write_str("{}"),
            Self::Table(table) => {
                for (index, (name, value)) in table.iter().enumerate() {
                    formatter.write_str(if index == 0 { "{ " } else { ", " })?;
                    match value {
                        serde_json::Value::String(text) => {
                            write!(formatter, "{name} = {}", toml::Value::from(text.as_str()))?;
                        }
                        number => write!(formatter, "{name} = {number}")?,
                    }
                }
                formatter.write_str(" }")
            }
        }
    }
}
