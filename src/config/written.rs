//! What was written, and where: the first of the two steps.

use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use super::file;
use super::keys::{FILE_VARIABLE, KEYS, Key, OTHER_VARIABLES};
use super::mistake::{LoadError, Mistake, Place, Problem};
use super::nearest::{nearest, suggest_full_name};
use super::value::Value;

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
        let value = |key: &Key| {
            key.kind
                .read_text(key.default)
                .expect("a test reads every default of the table")
        };
        Self {
            values: KEYS.iter().map(|key| (value(key), Place::Default)).collect(),
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
            match Key::find(&flag.key) {
                Some(key) => self.read_text(key, &flag.text, place, mistakes),
                None => {
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

    /// A value that says "not set" where the key has a default brings that default back.
    fn set(&mut self, key: &'static Key, value: Value, place: Place) {
        let value = match value {
            Value::Unset => key
                .kind
                .read_text(key.default)
                .expect("a test reads every default of the table"),
            value => value,
        };
        let index = KEYS
            .iter()
            .position(|known| known.name == key.name)
            .expect("the key is out of the table");
        self.values[index] = (value, place);
    }
}
