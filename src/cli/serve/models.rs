//! Which worker, with which model: what the configuration names, found on this machine.
//!
//! On the link a model is named by its catalogue id or by a path below the models root, because a worker may run on another
//! machine. A file that somebody names by its place on this machine is named so too: its worker gets the file's own folder for a
//! models root.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use repartee_protocol::worker::Job;

use super::loader::Chosen;
use crate::call::BackendKind;
use crate::config::{Config, LlmBackend, SttBackend, TtsBackend, WorkerOptions};
use crate::registry::catalogue::Catalogue;
use crate::supervisor::{find_worker, folders_in, installed_workers, worker_folders};

/// The worker that runs models out of [`LOCAL_MODELS`].
const LOCAL_WORKER: &str = "llama";
/// Where language models lie, below the models root.
const LOCAL_MODELS: &str = "llm";

/// A worker and the model that it is to load.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Wanted {
    /// The worker.
    pub(super) name: String,
    /// What for.
    pub(super) job: Job,
    /// As it was written; absent: the worker's own choice.
    pub(super) model: Option<String>,
    files: BTreeMap<String, String>,
    options: WorkerOptions,
}

impl Wanted {
    /// The worker that is configured for a job, if one is.
    pub(super) fn configured(config: &Config, kind: BackendKind) -> Option<Self> {
        match kind {
            BackendKind::Stt => Self::stt(config),
            BackendKind::Tts => Self::tts(config),
            BackendKind::Llm => Self::llm(config),
            BackendKind::Vad | BackendKind::Turn => None,
        }
    }

    /// A worker with a model, or with its own choice, and nothing further.
    pub(super) fn plain(name: &str, job: Job, model: Option<String>) -> Self {
        Self {
            name: name.to_owned(),
            job,
            model,
            files: BTreeMap::new(),
            options: WorkerOptions::new(),
        }
    }

    /// The recogniser; `None`: switched off.
    pub(super) fn stt(config: &Config) -> Option<Self> {
        let name = match &config.stt.backend {
            SttBackend::None => return None,
            SttBackend::Auto => "pocketsphinx",
            SttBackend::Worker(name) => name,
        };
        Some(Self {
            name: name.to_owned(),
            job: Job::Stt,
            model: config.stt.model.clone(),
            files: config.stt.files.clone(),
            options: config.stt.options.clone(),
        })
    }

    /// The voice; `None`: switched off.
    pub(super) fn tts(config: &Config) -> Option<Self> {
        let name = match &config.tts.backend {
            TtsBackend::None => return None,
            // One worker speaks with every voice; which one is a matter of the session.
            TtsBackend::Auto => "flite",
            TtsBackend::Worker(name) => name,
        };
        Some(Self {
            name: name.to_owned(),
            job: Job::Tts,
            model: config.tts.model.clone(),
            files: config.tts.files.clone(),
            options: config.tts.options.clone(),
        })
    }

    /// The language model, if it is a configured worker's.
    pub(super) fn llm(config: &Config) -> Option<Self> {
        match &config.llm.backend {
            LlmBackend::Worker(name) => Some(Self::llm_of(config, name, config.llm.model.clone())),
            _ => None,
        }
    }

    /// A language model that lies where such models do, if its worker is built: the first by its name.
    pub(super) fn local_llm(config: &Config) -> Option<Self> {
        find_worker(LOCAL_WORKER, &folders(config)).ok()?;
        let model = local_model(config)?;
        Some(Self::llm_of(config, LOCAL_WORKER, Some(model)))
    }

    fn llm_of(config: &Config, name: &str, model: Option<String>) -> Self {
        Self {
            name: name.to_owned(),
            job: Job::Llm,
            model,
            files: config.llm.files.clone(),
            options: config.llm.options.clone(),
        }
    }

    /// The same, found on this machine.
    ///
    /// # Errors
    /// The program or the model isn't there, in one line with the remedy.
    pub(super) fn find(&self, config: &Config) -> Result<Chosen, String> {
        let program = find_worker(&self.name, &folders(config)).map_err(|error| error.to_string())?;
        let (models, model) = self.place(config)?;
        let files = self.files_below(models.as_deref())?;
        Ok(Chosen {
            worker: self.name.clone(),
            program,
            job: self.job,
            models,
            model,
            files,
            options: self.options.clone(),
            device: config.workers.device.clone(),
            fallback: None,
        })
    }

    /// The models root, and the model as the link names it.
    fn place(&self, config: &Config) -> Result<(Option<PathBuf>, String), String> {
        let root = models_root(config);
        let Some(written) = self.model.clone().or_else(|| self.own_choice(config)) else {
            let name = &self.name;
            return Err(format!(
                "the worker {name} needs a model: name its file, as in {name}:PATH{}",
                match self.job {
                    Job::Llm => ", or put one into llm below the models root",
                    _ => "",
                }
            ));
        };
        if is_id(&written, &self.name) {
            return Ok((root, written));
        }
        let path = Path::new(&written);
        // Below the root first, which is where models are kept; else from here.
        if path.is_relative() && root.as_ref().is_some_and(|root| root.join(path).exists()) {
            return Ok((root, written));
        }
        if path.exists() {
            let (folder, file) = split(path).map_err(|reason| format!("the model {written}: {reason}"))?;
            return Ok((Some(folder), file));
        }
        if looks_like_a_path(path) {
            let here = std::env::current_dir().unwrap_or_default();
            let mut places = Vec::new();
            if path.is_relative() {
                places.extend(root.iter().map(|root| root.display().to_string()));
                places.push(here.display().to_string());
            }
            return Err(format!(
                "there is no model {written}{}",
                if places.is_empty() {
                    String::new()
                } else {
                    format!(" (looked for below {})", places.join(" and "))
                }
            ));
        }
        // A name that only the worker knows.
        Ok((root, written))
    }

    /// The further files as the link names them: by their paths below the models root.
    fn files_below(&self, root: Option<&Path>) -> Result<BTreeMap<String, String>, String> {
        let below = |(role, written): (&String, &String)| {
            let Some(root) = root else {
                return Err(format!(
                    "the file {written} ({role}): there is no folder of models to name it in"
                ));
            };
            if Path::new(written).is_relative() && root.join(written).exists() {
                return Ok((role.clone(), written.clone()));
            }
            if !Path::new(written).exists() {
                return Err(format!(
                    "there is no file {written} ({role}) below {} or here",
                    root.display()
                ));
            }
            let whole = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
            let (path, root) = (whole(Path::new(written)), whole(root));
            match path.strip_prefix(&root).ok().and_then(Path::to_str) {
                Some(inside) => Ok((role.clone(), inside.to_owned())),
                None => Err(format!(
                    "the file {written} ({role}) has to lie below {}, as the model does",
                    root.display()
                )),
            }
        };
        self.files.iter().map(below).collect()
    }

    /// What is loaded where no model is named.
    fn own_choice(&self, config: &Config) -> Option<String> {
        match (self.name.as_str(), self.job) {
            ("pocketsphinx", _) => Some("pocketsphinx-en-us".to_owned()),
            ("flite", _) => Some("flite".to_owned()),
            (LOCAL_WORKER, Job::Llm) => local_model(config),
            _ => None,
        }
    }
}

/// Whether everything that somebody named is there, before anything is started.
///
/// # Errors
/// All that is missing, a line each, with the remedy.
pub(super) fn check(config: &Config) -> Result<(), String> {
    let named = |kind, wanted: Option<Wanted>, by_name: bool| wanted.filter(|_| by_name).map(|wanted| (kind, wanted));
    let all = [
        named(
            BackendKind::Stt,
            Wanted::stt(config),
            matches!(config.stt.backend, SttBackend::Worker(_)),
        ),
        named(BackendKind::Llm, Wanted::llm(config), true),
        named(
            BackendKind::Tts,
            Wanted::tts(config),
            matches!(config.tts.backend, TtsBackend::Worker(_)),
        ),
    ];
    let folders = folders(config);
    let mut mistakes = Vec::new();
    for (kind, wanted) in all.into_iter().flatten() {
        let name = &wanted.name;
        if find_worker(name, &folders).is_err() {
            let there: Vec<_> = installed_workers(&folders)
                .into_iter()
                .map(|worker| worker.name)
                .collect();
            let there = match there.is_empty() {
                true => "none is".to_owned(),
                false => format!("{} are", there.join(", ")),
            };
            let places: Vec<_> = folders.iter().map(|folder| folder.display().to_string()).collect();
            mistakes.push(format!(
                "{kind}.backend: the worker {name} isn't built: `make worker-{name}` builds it ({there} in {})",
                places.join(", ")
            ));
        } else {
            match wanted.place(config) {
                Err(reason) => mistakes.push(format!("{kind}.model: {reason}")),
                Ok((root, _)) => {
                    let files = wanted.files_below(root.as_deref());
                    mistakes.extend(files.err().map(|reason| format!("{kind}.files: {reason}")));
                }
            }
        }
    }
    if mistakes.is_empty() {
        Ok(())
    } else {
        Err(mistakes.join("\n"))
    }
}

/// The folder that the set-up fills: as configured, else `.repartee` here, else the one beside the build that this program
/// came out of.
pub(super) fn data_folder(config: &Config) -> PathBuf {
    let beside_build = || {
        let program = std::env::current_exe().ok()?;
        program
            .ancestors()
            .map(|folder| folder.join(".repartee"))
            .find(|folder| folder.is_dir())
    };
    let here = PathBuf::from(".repartee");
    config.paths.home.clone().unwrap_or_else(|| {
        if here.is_dir() {
            here
        } else {
            beside_build().unwrap_or(here)
        }
    })
}

/// Where workers are looked for.
pub(crate) fn folders(config: &Config) -> Vec<PathBuf> {
    config.workers.dir.as_ref().map_or_else(worker_folders, folders_in)
}

/// The models root of this machine, if it has one.
pub(crate) fn models_root(config: &Config) -> Option<PathBuf> {
    let unpacked = || Some(data_folder(config).join("models")).filter(|folder| folder.is_dir());
    config.paths.models.clone().or_else(unpacked)
}

/// The first language model that lies where such models do, as a path below the models root.
fn local_model(config: &Config) -> Option<String> {
    let folder = models_root(config)?.join(LOCAL_MODELS);
    let entries = std::fs::read_dir(&folder).ok()?;
    let mut files: Vec<String> = entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let name = entry.file_name().into_string().ok()?;
            // A projector belongs to a model and is none.
            let is_model = name.ends_with(".gguf") && !name.contains("mmproj") && entry.path().is_file();
            is_model.then_some(name)
        })
        .collect();
    files.sort();
    if files.len() > 1 {
        tracing::info!(folder = %folder.display(), models = files.len(), "of several language models the first by name is taken");
    }
    files.into_iter().next().map(|file| format!("{LOCAL_MODELS}/{file}"))
}

/// Whether the catalogue knows a model of this worker by that name.
fn is_id(name: &str, worker: &str) -> bool {
    Catalogue::embedded()
        .model(name)
        .is_some_and(|model| model.backend == worker)
}

/// Ids have neither slashes nor points.
fn looks_like_a_path(path: &Path) -> bool {
    path.components().count() > 1 || path.is_absolute() || path.extension().is_some()
}

/// The folder of a file, and its name in it. A link stays one: what lies beside it belongs to the model too.
fn split(path: &Path) -> Result<(PathBuf, String), String> {
    let mut whole = std::path::absolute(path).map_err(|error| error.to_string())?;
    if whole.file_name().is_none() {
        whole = whole.canonicalize().map_err(|error| error.to_string())?;
    }
    match (whole.parent(), whole.file_name().map(|name| name.to_str())) {
        (Some(folder), Some(Some(name))) => Ok((folder.to_owned(), name.to_owned())),
        (_, Some(None)) => Err("its name isn't Unicode text, which the link to the worker needs".to_owned()),
        _ => Err("it is no file in a folder".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{File, Flag, Sources};

    fn config(flags: &[(&str, &str)]) -> Config {
        let flags = flags
            .iter()
            .map(|(key, text)| Flag {
                name: "--set".to_owned(),
                key: (*key).to_owned(),
                text: (*text).to_owned(),
            })
            .collect();
        let sources = Sources {
            file: File::Absent,
            environment: Vec::new(),
            flags,
        };
        match Config::load(&sources) {
            Ok(loaded) => loaded.config,
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn a_model_is_an_id_or_a_path_below_the_root_or_one_on_this_machine() {
        let (root, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let models = root.path().to_str().unwrap();
        std::fs::create_dir(root.path().join("stt")).unwrap();
        std::fs::write(root.path().join("stt/tiny.bin"), "").unwrap();
        let outside = elsewhere.path().join("other.bin");
        std::fs::write(&outside, "").unwrap();
        let place = |backend: &str| {
            let config = config(&[("paths.models", models), ("stt.backend", backend)]);
            Wanted::stt(&config).unwrap().place(&config)
        };
        let here = Some(root.path().to_path_buf());
        assert_eq!(
            place("pocketsphinx"),
            Ok((here.clone(), "pocketsphinx-en-us".to_owned()))
        );
        assert_eq!(
            place("whisper:stt/tiny.bin"),
            Ok((here.clone(), "stt/tiny.bin".to_owned()))
        );
        assert_eq!(
            place(&format!("whisper:{}", outside.display())),
            Ok((Some(elsewhere.path().to_path_buf()), "other.bin".to_owned()))
        );
        assert_eq!(
            place("whisper:an-id-of-its-own"),
            Ok((here, "an-id-of-its-own".to_owned()))
        );
        // A folder is a model too.
        let folder = format!("sherpa:{}/stt/..", root.path().display());
        assert_eq!(
            place(&folder).unwrap().1,
            root.path()
                .canonicalize()
                .unwrap()
                .file_name()
                .unwrap()
                .to_str()
                .unwrap()
        );
        // Further files are named as the model is, wherever they were found.
        let files = |path: &str| {
            let config = config(&[
                ("paths.models", models),
                ("stt.backend", "sherpa:stt/tiny.bin"),
                ("stt.files.tokens", path),
            ]);
            let specification = Wanted::stt(&config).unwrap();
            let (root, _) = specification.place(&config).unwrap();
            specification.files_below(root.as_deref())
        };
        let inside = root.path().join("stt/tiny.bin");
        for path in ["stt/tiny.bin", inside.to_str().unwrap()] {
            assert_eq!(files(path).unwrap()["tokens"], "stt/tiny.bin");
        }
        assert!(
            files(outside.to_str().unwrap())
                .expect_err("it is elsewhere")
                .contains("has to lie below")
        );
        assert!(
            files("none.txt")
                .expect_err("it isn't there")
                .contains("no file none.txt (tokens)")
        );
        let missing = place("whisper:stt/none.bin").expect_err("it isn't there");
        assert!(
            missing.contains("no model stt/none.bin") && missing.contains(models),
            "{missing}"
        );
        assert!(
            place("whisper")
                .expect_err("it has no choice of its own")
                .contains("whisper:PATH")
        );
    }

    #[test]
    fn the_first_language_model_by_name_is_found_and_projectors_are_none() {
        let root = tempfile::tempdir().unwrap();
        let models = root.path().to_str().unwrap();
        let flags = [("paths.models", models), ("llm.backend", "llama")];
        let wanted = |flags: &[(&str, &str)]| {
            let config = config(flags);
            Wanted::llm(&config).unwrap().place(&config)
        };
        assert!(
            wanted(&flags)
                .expect_err("there is none")
                .contains("llm below the models root")
        );
        std::fs::create_dir(root.path().join("llm")).unwrap();
        for name in ["b.gguf", "c.gguf", "a-mmproj.gguf", "a.bin"] {
            std::fs::write(root.path().join("llm").join(name), "").unwrap();
        }
        assert_eq!(
            wanted(&flags),
            Ok((Some(root.path().to_path_buf()), "llm/b.gguf".to_owned()))
        );
        let workers = tempfile::tempdir().unwrap();
        let auto = config(&[
            ("paths.models", models),
            ("workers.dir", workers.path().to_str().unwrap()),
        ]);
        assert_eq!(Wanted::local_llm(&auto), None, "the worker isn't built");
        std::fs::write(workers.path().join("repartee-worker-llama"), "").unwrap();
        assert_eq!(
            Wanted::local_llm(&auto).and_then(|wanted| wanted.model),
            Some("llm/b.gguf".to_owned())
        );
    }

    #[test]
    fn what_was_named_and_is_not_there_is_told_with_its_remedy() {
        let workers = tempfile::tempdir().unwrap();
        let folder = workers.path().to_str().unwrap();
        let told = |flags: &[(&str, &str)]| {
            check(&config(&[&[("workers.dir", folder)], flags].concat())).expect_err("something is missing")
        };
        let all = told(&[("stt.backend", "whisper:x.bin"), ("llm.backend", "llama:x.gguf")]);
        let lines: Vec<&str> = all.lines().collect();
        assert_eq!(lines.len(), 2, "{all}");
        assert!(
            lines[0].contains("the worker whisper isn't built") && lines[0].contains("make worker-whisper"),
            "{all}"
        );
        std::fs::write(workers.path().join("repartee-worker-llama"), "").unwrap();
        let one = told(&[("llm.backend", "llama:no/such.gguf")]);
        assert!(one.contains("llm.model: there is no model no/such.gguf"), "{one}");
        // Nobody named what "auto" would take: that it is missing is told by the running server.
        assert_eq!(check(&config(&[("workers.dir", folder)])), Ok(()));
    }
}
