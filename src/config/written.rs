//! What was written, and where: the first of the two steps.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use super::file;
use super::keys::{FILE_VARIABLE, KEYS, Key, OTHER_VARIABLES};
use super::mistake::{LoadError, Mistake, Place, Problem};
use super::nearest::{nearest, suggest_full_name};
use super::value::{Kind, Value, not_one_of, split_model};
use crate::supervisor::{folders_in, installed_workers, worker_folders};

/// The bit of a file's mode that lets users outside of its group read it.
const READABLE_BY_OTHERS: u32 = 0o004;

/// Which file is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum File {
    /// None.
    Absent,
    /// This one, if it is there.
    IfPresent(PathBuf),
    /// This one, which somebody named: it must be there.
    Named(PathBuf),
}

/// A value from the command line.
#[derive(Clone)]
pub struct Flag {
    /// How the place is called in messages: `--listen`.
    pub name: String,
    /// The full name of the key: `server.listen`.
    pub key: String,
    /// The value as text.
    pub text: String,
}

/// Everything that is read, in rising order. It has no `Debug`: it may hold secrets.
pub struct Sources {
    /// The file.
    pub file: File,
    /// Environment variables; those that are no settings are ignored.
    pub environment: Vec<(String, String)>,
    /// Flags, the last of several for one key wins.
    pub flags: Vec<Flag>,
}

impl Sources {
    /// The file that is read when none is named.
    pub const DEFAULT_FILE: &'static str = "repartee.toml";

    /// The environment of this process, the file that is named by the flag or else by `REPARTEE_CONFIG` or else
    /// [`Sources::DEFAULT_FILE`] in the working directory, and the given flags.
    #[must_use]
    pub fn of_process(file: Option<PathBuf>, flags: Vec<Flag>) -> Self {
        // A variable that isn't Unicode can't be a setting of ours.
        let environment: Vec<(String, String)> = env::vars_os()
            .filter_map(|(name, text)| Some((name.into_string().ok()?, text.into_string().ok()?)))
            .collect();
        let named = file.or_else(|| {
            let variable = environment
                .iter()
                .find(|(name, text)| name == FILE_VARIABLE && !text.is_empty());
            variable.map(|(_, text)| PathBuf::from(text))
        });
        let file = named.map_or_else(|| File::IfPresent(PathBuf::from(Self::DEFAULT_FILE)), File::Named);
        Self {
            file,
            environment,
            flags,
        }
    }
}

/// A value for each key, with the place where it was written. It has no `Debug`: it may hold secrets.
#[derive(Clone)]
pub struct Written {
    /// In the order of [`KEYS`].
    values: Vec<(Value, Place)>,
}

impl Written {
    /// The defaults.
    #[must_use]
    pub fn defaults() -> Self {
        Self {
            values: KEYS.iter().map(|key| (default_of(key), Place::Default)).collect(),
        }
    }

    /// Each key with its value and place, in the order of the table.
    pub fn iter(&self) -> impl Iterator<Item = (&'static Key, &Value, &Place)> {
        KEYS.iter()
            .zip(&self.values)
            .map(|(key, (value, place))| (key, value, place))
    }

    /// The value of a key, and where it was written.
    ///
    /// # Panics
    /// If there is no such key: names are written down in `meaning.rs` only, which a test reads through.
    #[must_use]
    pub fn value(&self, name: &str) -> (&Value, &Place) {
        let index = KEYS
            .iter()
            .position(|key| key.name == name)
            .expect("the key is in the table");
        let (value, place) = &self.values[index];
        (value, place)
    }

    /// Lays a file over what is here.
    ///
    /// # Errors
    /// A file that must be there can't be read. What is wrong in it goes into `mistakes`.
    pub(super) fn read_file(&mut self, file: &File, mistakes: &mut Vec<Mistake>) -> Result<(), LoadError> {
        let path = match file {
            File::Absent => return Ok(()),
            File::IfPresent(path) if !path.exists() => return Ok(()),
            File::IfPresent(path) | File::Named(path) => path,
        };
        let text = file::read(path)?;
        self.read_toml(&path.display().to_string(), &text, mistakes);
        Ok(())
    }

    /// Lays the text of a file over what is here.
    pub(super) fn read_toml(&mut self, name: &str, text: &str, mistakes: &mut Vec<Mistake>) {
        let content = file::parse(name, text);
        for (key, value, place) in content.values {
            self.set(key, value, place);
        }
        mistakes.extend(content.mistakes);
    }

    /// A warning if a secret lies in a file that other users of this machine may read.
    pub(super) fn open_secret(&self) -> Option<String> {
        self.iter().filter(|(key, ..)| key.secret).find_map(|(key, _, place)| {
            let Place::File { path, .. } = place else { return None };
            let mode = fs::metadata(&**path).ok()?.permissions().mode();
            let open = mode & READABLE_BY_OTHERS != 0;
            open.then(|| {
                format!(
                    "{path} holds {} and can be read by every user: chmod 600 {path}",
                    key.name
                )
            })
        })
    }

    /// Lays environment variables over what is here. An empty variable counts as absent, as compose files write it.
    /// Returns warnings about variables that look like misspelled settings: they may belong to somebody else (a
    /// cluster sets `REPARTEE_PORT` for a service of that name), so they are no mistakes.
    pub(super) fn read_environment(
        &mut self,
        environment: &[(String, String)],
        mistakes: &mut Vec<Mistake>,
    ) -> Vec<String> {
        for key in KEYS {
            let variable = key.variable();
            let names = key.aliases.iter().rev().copied().chain([variable.as_str()]);
            for name in names {
                if let Some((_, text)) = environment
                    .iter()
                    .find(|(known, text)| known == name && !text.is_empty())
                {
                    self.read_text(key, text, Place::Environment(name.to_owned()), mistakes);
                }
            }
        }
        let variables: Vec<String> = KEYS.iter().map(Key::variable).collect();
        let known: Vec<&str> = KEYS
            .iter()
            .flat_map(|key| key.aliases.iter().copied())
            .chain(variables.iter().map(String::as_str))
            .chain(OTHER_VARIABLES.iter().copied())
            .collect();
        let strangers = environment
            .iter()
            .map(|(name, _)| name.as_str())
            .filter(|name| name.starts_with("REPARTEE_") && !known.contains(name));
        // All names share their first nine letters, so only what follows is compared.
        let rests = || known.iter().filter_map(|name| name.strip_prefix("REPARTEE_"));
        strangers
            .filter_map(|name| {
                let near = nearest(name.trim_start_matches("REPARTEE_"), rests())?;
                Some(format!(
                    "{name} is no setting and is ignored; did you mean REPARTEE_{near}?"
                ))
            })
            .collect()
    }

    /// Lays flags over what is here.
    pub(super) fn read_flags(&mut self, flags: &[Flag], mistakes: &mut Vec<Mistake>) {
        for flag in flags {
            let place = Place::Flag(flag.name.clone());
            match (Key::find(&flag.key), option(&flag.key)) {
                (Some(key), _) => self.read_text(key, &flag.text, place, mistakes),
                (None, Some((key, name))) => {
                    // One more option beside those that are there: `--set llm.options.context=4096`.
                    let mut table = match self.value(key.name).0 {
                        Value::Table(table) => table.clone(),
                        _ => BTreeMap::new(),
                    };
                    table.insert(name.to_owned(), Kind::read_option(flag.text.trim()));
                    self.set(key, Value::Table(table), place);
                }
                (None, None) => {
                    let problem = Problem::UnknownKey(suggest_full_name(&flag.key));
                    mistakes.push(Mistake {
                        place,
                        key: flag.key.clone(),
                        problem,
                    });
                }
            }
        }
    }

    fn read_text(&mut self, key: &'static Key, text: &str, place: Place, mistakes: &mut Vec<Mistake>) {
        match key.kind.read_text(text) {
            Ok(value) => self.set(key, value, place),
            Err(problem) => {
                mistakes.push(Mistake {
                    place,
                    key: key.name.to_owned(),
                    problem: key.withhold(problem),
                });
            }
        }
    }

    /// A value that says "not set" where the key has a default brings that default back. A backend that is written with
    /// its model sets both keys.
    fn set(&mut self, key: &'static Key, value: Value, place: Place) {
        let value = match value {
            Value::Unset => default_of(key),
            value => value,
        };
        if let (Kind::Backend(_), Value::Text(text)) = (key.kind, &value) {
            let (name, model) = split_model(text);
            let (name, model) = (name.to_owned(), model.map(str::to_owned));
            self.forget_former_backend(key, &name, &place);
            if let (Some(model), Some(model_key)) = (model, beside(key, "model")) {
                self.put(model_key, Value::Text(model), place.clone());
            }
            return self.put(key, Value::Text(name), place);
        }
        self.put(key, value, place);
    }

    /// The model, its files and the options that a lower source wrote for its backend mean nothing to another one.
    fn forget_former_backend(&mut self, key: &Key, name: &str, place: &Place) {
        let (former, former_place) = self.value(key.name);
        let former_rank = former_place.rank();
        if former_rank == Place::Default.rank()
            || former_rank >= place.rank()
            || *former == Value::Text(name.to_owned())
        {
            return;
        }
        for last in ["model", "files", "options"] {
            let Some(other) = beside(key, last) else { continue };
            if self.value(other.name).1.rank() <= former_rank {
                self.put(other, default_of(other), Place::Default);
            }
        }
    }

    fn put(&mut self, key: &Key, value: Value, place: Place) {
        let index = KEYS
            .iter()
            .position(|known| known.name == key.name)
            .expect("the key is out of the table");
        self.values[index] = (value, place);
    }

    /// Backends that are neither among their key's words nor workers that are built here. They are looked for when all
    /// sources have been read, because one of them may name the folder of the workers.
    pub(super) fn unknown_workers(&self) -> Vec<Mistake> {
        let mut mistakes = Vec::new();
        for (key, value, place) in self.iter() {
            let (Kind::Backend(words), Value::Text(name)) = (key.kind, value) else {
                continue;
            };
            if words.contains(&name.as_str()) {
                continue;
            }
            let folders = match self.value("workers.dir").0 {
                Value::Text(named) => folders_in(named),
                _ => worker_folders(),
            };
            let installed = installed_workers(&folders);
            if installed.iter().any(|worker| worker.name == *name) {
                continue;
            }
            let others = installed.iter().map(|worker| worker.name.as_str());
            let others =
                others.filter(|other| !words.contains(other) && !words_of_other_backends(words).contains(other));
            mistakes.push(Mistake {
                place: place.clone(),
                key: key.name.to_owned(),
                problem: not_one_of(name, words.iter().copied().chain(others)),
            });
        }
        mistakes
    }
}

/// The words of the other backends' keys: a recogniser isn't proposed for a voice.
fn words_of_other_backends(own: &[&str]) -> Vec<&'static str> {
    let kinds = KEYS.iter().filter_map(|key| match key.kind {
        Kind::Backend(words) if words != own => Some(words),
        _ => None,
    });
    kinds.flatten().copied().collect()
}

fn default_of(key: &Key) -> Value {
    key.kind
        .read_text(key.default)
        .expect("a test reads every default of the table")
}

/// The key of the same section with this last name.
fn beside(key: &Key, last: &str) -> Option<&'static Key> {
    Key::find(&format!("{}.{last}", key.section()))
}

/// The key of a table and the name in it, for a full name such as `llm.options.context`.
fn option(name: &str) -> Option<(&'static Key, &str)> {
    let (table, name) = name.rsplit_once('.')?;
    let key = Key::find(table).filter(|key| matches!(key.kind, Kind::Table))?;
    (!name.is_empty()).then_some((key, name))
}
