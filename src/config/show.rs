//! The configuration in words: what is in force, and an example of all that can be set.

use std::fmt::Write;

use serde_json::{Map, json};

use super::keys::{KEYS, Key, SECTIONS};
use super::secret::Secret;
use super::value::{Kind, Value};
use super::written::Written;

/// Width at which comments of the example are broken.
const LINE: usize = 100;

/// What is in force as TOML, with the place of each value beside it. Secrets are withheld.
#[must_use]
pub fn show_text(written: &Written) -> String {
    let mut text = String::new();
    let mut section = "";
    for (key, value, place) in written.iter() {
        if key.section() != section {
            section = key.section();
            let _ = writeln!(text, "\n[{section}]");
        }
        let line = match value {
            Value::Unset => format!("# {} is not set", key.last()),
            _ if key.secret => format!("{} = {:?}", key.last(), Secret::WITHHELD),
            value => format!("{} = {value}", key.last()),
        };
        let _ = writeln!(text, "{line:<48} # {place}");
    }
    text
}

/// What is in force as one JSON object: `{"server.listen": {"value": "127.0.0.1:8080", "source": "default"}, …}`.
/// A value that isn't set is null; secrets are withheld.
#[must_use]
pub fn show_json(written: &Written) -> serde_json::Value {
    let entry = |(key, value, place): (&Key, &Value, _)| {
        let value = match value {
            Value::Unset => serde_json::Value::Null,
            _ if key.secret => Secret::WITHHELD.into(),
            Value::Text(text) => text.as_str().into(),
            Value::Integer(number) => (*number).into(),
            Value::Number(number) => (*number).into(),
            Value::Switch(switch) => (*switch).into(),
            Value::List(items) => items.clone().into(),
            Value::Table(table) => table.clone().into_iter().collect::<Map<_, _>>().into(),
        };
        (
            key.name.to_owned(),
            json!({ "value": value, "source": format!("{place}") }),
        )
    };
    written
        .iter()
        .map(|(key, value, place)| entry((key, value, place)))
        .collect::<Map<_, _>>()
        .into()
}

/// A TOML file that names every key with what it does, what it takes and its default, all commented out.
#[must_use]
pub fn example() -> String {
    let mut text = String::from(
        "# Every setting of Repartee, with its default. Take the # away from what you change.\n\
         # The environment goes before this file (server.listen is REPARTEE_SERVER_LISTEN), and flags go before both.\n",
    );
    for section in SECTIONS {
        text.push('\n');
        if !section.name.is_empty() {
            let _ = writeln!(text, "[{}]", section.name);
        }
        comment(&mut text, section.help);
        for key in KEYS.iter().filter(|key| key.section() == section.name) {
            text.push('\n');
            comment(&mut text, key.help);
            comment(&mut text, &takes(key));
            let value = key
                .kind
                .read_text(key.default)
                .expect("a test reads every default of the table");
            let _ = writeln!(text, "# {} = {value}", key.last());
        }
    }
    text
}

/// What the key takes and which variables set it, as a sentence.
fn takes(key: &Key) -> String {
    let mut takes = match key.kind {
        Kind::Text | Kind::Path | Kind::Switch => String::new(),
        kind => format!("Takes {}. ", kind.describe()),
    };
    let _ = write!(takes, "Variable: {}", key.variable());
    for alias in key.aliases {
        let _ = write!(takes, " or {alias}");
    }
    takes.push('.');
    takes
}

/// Adds `words` as comment lines of at most [`LINE`] characters.
fn comment(text: &mut String, words: &str) {
    let mut line = String::from("##");
    for word in words.split_whitespace() {
        if line.chars().count() + 1 + word.chars().count() > LINE {
            text.push_str(&line);
            text.push('\n');
            line = String::from("##");
        }
        line.push(' ');
        line.push_str(word);
    }
    text.push_str(&line);
    text.push('\n');
}
