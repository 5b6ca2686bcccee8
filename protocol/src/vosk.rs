//! The protocol of vosk-server (`websocket/asr_server.py`), which Asterisk's `res_speech_vosk`, FreeSWITCH's `mod_vosk`
//! and jigasi speak.
//!
//! A BINARY message is audio: signed 16 bits, little-endian, mono. It is answered by **exactly one** TEXT message, a
//! partial or a result; clients write and read in lockstep. A TEXT message is a [`Request`]: a configuration isn't
//! answered, the end and the reset are answered by a result, and after the end the server closes.

use std::fmt::Write as _;

use serde::Deserialize;
use serde_json::{Map, Value};
use thiserror::Error;

use crate::native::Private;

/// Bytes of one TEXT message that are read, at most. A list of phrases makes long ones.
pub const MAX_TEXT_BYTES: usize = 256 * 1024;
/// Phrases of a list that are kept, at most.
pub const MAX_PHRASES: usize = 10_000;
/// Samples per second, where none are configured.
pub const DEFAULT_RATE_HZ: u32 = 8_000;
/// Samples per second, at least and at most.
pub const RATES_HZ: std::ops::RangeInclusive<u32> = 4_000..=192_000;
/// Alternatives that may be asked for, at most.
pub const MAX_ALTERNATIVES: u32 = 100;

/// What a client asks for. Where a message has more than one of the keys, a configuration goes before all, and the end
/// before a reset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// `{"config":{…}}`.
    Config(Config),
    /// `{"eof" : 1}`, however it is spaced.
    Eof,
    /// `{"reset" : 1}`, however it is spaced.
    Reset,
}

/// A configuration. What isn't in it stays as it was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// Samples per second.
    pub sample_rate_hz: Option<u32>,
    /// Words that are expected, instead of all the model knows. The first [`MAX_PHRASES`].
    pub phrase_list: Option<Vec<Private>>,
    /// Whether results list their words.
    pub words: Option<bool>,
    /// More than 0: results are lists of alternatives.
    pub max_alternatives: Option<u32>,
    /// Another model.
    pub model: Option<String>,
}

/// Why a TEXT message can't be read. Names the field, never what was in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RequestError {
    /// More than [`MAX_TEXT_BYTES`].
    #[error("a message of {0} bytes, where {MAX_TEXT_BYTES} are read at most")]
    TooLong(usize),
    /// Not a JSON object.
    #[error("not a JSON object")]
    Malformed,
    /// An object with none of `config`, `eof` and `reset`.
    #[error("neither config nor eof nor reset")]
    Unknown,
    /// This field of the configuration makes no sense.
    #[error("{0} isn't what it should be")]
    Field(&'static str),
}

impl Request {
    /// Reads a TEXT message. Fields that aren't known are ignored.
    ///
    /// # Errors
    /// [`RequestError`].
    pub fn parse(text: &str) -> Result<Self, RequestError> {
        if text.len() > MAX_TEXT_BYTES {
            return Err(RequestError::TooLong(text.len()));
        }
        let object: Map<String, Value> = serde_json::from_str(text).map_err(|_| RequestError::Malformed)?;
        if let Some(config) = object.get("config") {
            let config = config.as_object().ok_or(RequestError::Field("config"))?;
            return Config::read(config).map(Self::Config);
        }
        // A client that says "no" to either has said nothing.
        if object.get("eof").is_some_and(is_true) {
            Ok(Self::Eof)
        } else if object.get("reset").is_some_and(is_true) {
            Ok(Self::Reset)
        } else {
            Err(RequestError::Unknown)
        }
    }
}

impl Config {
    fn read(object: &Map<String, Value>) -> Result<Self, RequestError> {
        let some = |field: &str| object.get(field).filter(|value| !value.is_null());
        // Python's float() and int() take texts, too.
        let number = |field: &'static str| match some(field) {
            None => Ok(None),
            Some(Value::Number(number)) => number.as_f64().map(Some).ok_or(RequestError::Field(field)),
            Some(Value::String(text)) => text.trim().parse().map(Some).map_err(|_| RequestError::Field(field)),
            Some(_) => Err(RequestError::Field(field)),
        };
        let sample_rate_hz = match number("sample_rate")? {
            None => None,
            Some(rate) if (f64::from(*RATES_HZ.start())..=f64::from(*RATES_HZ.end())).contains(&rate) => {
                Some(rate.round() as u32)
            }
            Some(_) => return Err(RequestError::Field("sample_rate")),
        };
        let max_alternatives = match number("max_alternatives")? {
            None => None,
            Some(count) if (0.0..=f64::from(MAX_ALTERNATIVES)).contains(&count) => Some(count as u32),
            Some(_) => return Err(RequestError::Field("max_alternatives")),
        };
        let phrase_list = match some("phrase_list") {
            None => None,
            Some(list) => {
                let mut phrases = Vec::<Private>::deserialize(list).map_err(|_| RequestError::Field("phrase_list"))?;
                phrases.truncate(MAX_PHRASES);
                Some(phrases)
            }
        };
        let model = match some("model") {
            None => None,
            Some(Value::String(name)) if name.len() <= 1024 => Some(name.clone()),
            Some(_) => return Err(RequestError::Field("model")),
        };
        Ok(Self {
            sample_rate_hz,
            phrase_list,
            words: some("words").map(is_true),
            max_alternatives,
            model,
        })
    }
}

/// What Python's `bool` makes of it.
fn is_true(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(yes) => *yes,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(object) => !object.is_empty(),
    }
}

/// A word of a result.
#[derive(Clone, Debug, PartialEq)]
pub struct Word {
    /// The word.
    pub word: Private,
    /// Where it begins, in ms since the first sample of the connection.
    pub start_ms: u64,
    /// Where it ends, the same way.
    pub end_ms: u64,
    /// How sure it is, 0 to 1.
    pub confidence: f32,
}

/// One of the texts of a result.
#[derive(Clone, Debug, PartialEq)]
pub struct Alternative {
    /// The text.
    pub text: Private,
    /// The greater, the likelier. Vosk writes a likelihood here, which has no upper end. Left out where it isn't known.
    pub confidence: Option<f32>,
    /// Its words, where they are wanted.
    pub words: Vec<Word>,
}

/// What an audio message, the end or a reset is answered with.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// Nothing has ended yet.
    Partial(Private),
    /// An utterance has ended.
    Result {
        /// What was said; empty if nothing was.
        text: Private,
        /// Its words, where they are wanted.
        words: Vec<Word>,
    },
    /// An utterance has ended, and the client asked for alternatives.
    Alternatives(Vec<Alternative>),
}

impl Reply {
    /// The text of the message, laid out as Vosk does it (`json.h` of vosk-api): keys in alphabetical order, two spaces a
    /// step, six digits behind the point. There are clients that search it for strings.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut out = String::new();
        match self {
            Self::Partial(text) => {
                out.push_str("{\n  \"partial\" : ");
                quote(text, &mut out);
            }
            Self::Result { text, words } => {
                out.push_str("{\n  ");
                write_words(words, "  ", true, &mut out);
                out.push_str("\"text\" : ");
                quote(text, &mut out);
            }
            Self::Alternatives(alternatives) if alternatives.is_empty() => {
                return r#"{"alternatives" : [{"text": "", "confidence" : 1.0}] }"#.to_owned();
            }
            Self::Alternatives(alternatives) => {
                out.push_str("{\n  \"alternatives\" : [");
                for (index, alternative) in alternatives.iter().enumerate() {
                    out.push_str(if index == 0 { "{\n      " } else { ", {\n      " });
                    if let Some(confidence) = alternative.confidence {
                        out.push_str("\"confidence\" : ");
                        decimal(confidence, &mut out);
                        out.push_str(",\n      ");
                    }
                    write_words(&alternative.words, "      ", false, &mut out);
                    out.push_str("\"text\" : ");
                    quote(&alternative.text, &mut out);
                    out.push_str("\n    }");
                }
                out.push(']');
            }
        }
        out.push_str("\n}");
        out
    }
}

/// `"result" : […],` and the beginning of the next line, or nothing if there are no words.
fn write_words(words: &[Word], pad: &str, with_confidence: bool, out: &mut String) {
    if words.is_empty() {
        return;
    }
    out.push_str("\"result\" : [");
    for (index, word) in words.iter().enumerate() {
        out.push_str(if index == 0 { "{\n" } else { ", {\n" });
        let mut line = |key: &str, last: bool, value: &dyn Fn(&mut String)| {
            for part in [pad, "    \"", key, "\" : "] {
                out.push_str(part);
            }
            value(out);
            out.push_str(if last { "\n" } else { ",\n" });
        };
        if with_confidence {
            line("conf", false, &|out| decimal(word.confidence, out));
        }
        line("end", false, &|out| seconds(word.end_ms, out));
        line("start", false, &|out| seconds(word.start_ms, out));
        line("word", true, &|out| quote(&word.word, out));
        out.push_str(pad);
        out.push_str("  }");
    }
    out.push_str("],\n");
    out.push_str(pad);
}

fn quote(text: &Private, out: &mut String) {
    out.push_str(&Value::from(text.expose()).to_string());
}

fn seconds(ms: u64, out: &mut String) {
    write!(out, "{}.{:03}000", ms / 1000, ms % 1000).expect("a String takes everything");
}

/// JSON has no infinities; Vosk wouldn't have them either.
fn decimal(value: f32, out: &mut String) {
    let value = if value.is_finite() { value } else { 0.0 };
    write!(out, "{value:.6}").expect("a String takes everything");
}

#[cfg(test)]
mod tests;
