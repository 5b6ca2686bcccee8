//! Reading the TOML file, with a line for everything.

use std::fs;
use std::io::Read;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use toml::de::{DeTable, DeValue};

use super::keys::{Key, SECTIONS};
use super::mistake::{LoadError, Mistake, Place, Problem};
use super::nearest::{join, suggest_key, suggest_section};
use super::value::Value;

/// Largest file that is read. The example with every key and its comments has some 10 kB.
const LARGEST: u64 = 1 << 20;

/// What a file says.
#[derive(Default)]
pub(super) struct FileContent {
    /// Accepted values, with their lines.
    pub(super) values: Vec<(&'static Key, Value, Place)>,
    /// Everything else.
    pub(super) mistakes: Vec<Mistake>,
}

/// Reads the file as text.
///
/// # Errors
/// It can't be read, isn't UTF-8, or is larger than [`LARGEST`].
pub(super) fn read(path: &Path) -> Result<String, LoadError> {
    let unreadable = |reason| LoadError::Unreadable {
        path: path.to_owned(),
        reason,
    };
    let mut text = String::new();
    let file = fs::File::open(path).map_err(unreadable)?;
    file.take(LARGEST + 1).read_to_string(&mut text).map_err(unreadable)?;
    if text.len() as u64 > LARGEST {
        return Err(LoadError::TooLarge {
            path: path.to_owned(),
            limit: LARGEST,
        });
    }
    Ok(text)
}

/// Takes the text of a file apart. `name` is how the file is called in places.
pub(super) fn parse(name: &str, text: &str) -> FileContent {
    let mut reader = Reader {
        name: Arc::from(name),
        text,
        content: FileContent::default(),
    };
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        let at = error.span().map_or(0, |span| span.start);
        let problem = Problem::Syntax(format!("this is not TOML: {}", error.message().replace('\n', "; ")));
        reader.refuse(at, String::new(), problem);
    }
    // After a syntax error the rest was only guessed at: what it seems to say is not worth a message.
    if reader.content.mistakes.is_empty() {
        reader.table(table.get_ref());
    }
    reader.content.mistakes.sort_by_key(|mistake| match mistake.place {
        Place::File { line, .. } => line,
        _ => 0,
    });
    reader.content
}

struct Reader<'a> {
    name: Arc<str>,
    text: &'a str,
    content: FileContent,
}

impl Reader<'_> {
    fn table(&mut self, table: &DeTable<'_>) {
        for (name, value) in table {
            let at = name.span();
            let name = name.get_ref().as_ref();
            let is_section = SECTIONS
                .iter()
                .any(|section| !section.name.is_empty() && section.name == name);
            match value.get_ref() {
                DeValue::Table(keys) if is_section => {
                    for (last, value) in keys {
                        self.key(name, last.get_ref(), last.span(), value.get_ref());
                    }
                }
                DeValue::Table(keys) => {
                    let suggestion = suggest_section(name, keys.keys().map(|key| key.get_ref().as_ref()));
                    self.refuse(at.start, format!("[{name}]"), Problem::UnknownSection(suggestion));
                }
                _ if is_section => {
                    self.refuse(at.start, name.to_owned(), Problem::SectionAsValue(name.to_owned()));
                }
                other => self.key("", name, at, other),
            }
        }
    }

    fn key(&mut self, section: &str, last: &str, at: Range<usize>, value: &DeValue<'_>) {
        let full = join(section, last);
        match Key::find(&full) {
            Some(key) => match key.kind.read_toml(value) {
                Ok(value) => {
                    let place = self.place(at.start);
                    self.content.values.push((key, value, place));
                }
                Err(problem) => self.refuse(at.start, full, key.withhold(problem)),
            },
            None => self.refuse(at.start, full, Problem::UnknownKey(suggest_key(section, last))),
        }
    }

    fn refuse(&mut self, at: usize, key: String, problem: Problem) {
        let place = self.place(at);
        self.content.mistakes.push(Mistake { place, key, problem });
    }

    /// The place of a byte of the text.
    fn place(&self, at: usize) -> Place {
        let before = self.text.as_bytes().get(..at).unwrap_or(self.text.as_bytes());
        let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
        Place::File {
            path: Arc::clone(&self.name),
            line,
        }
    }
}
