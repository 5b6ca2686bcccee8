//! What a switch's request comes to: which backend, which model, found on this machine. Reads names and the beginnings of files, loads
//! nothing, and believes nothing that the request says about places.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use repartee_protocol::worker::Job;
use serde_json::Value;

use super::chosen::Chosen;
use super::form::{Form, form};
use super::names::{self, Named};
use super::place::{Refusal, below, is_path};
use super::probes::Asked;
use super::scan::{Found, scan};
use super::{Load, job_of, server};
use crate::call::{BackendKind, SwitchFailure, SwitchRequest, SwitchStage};
use crate::cli::serve::models::{Wanted, folders, models_root};
use crate::config::{Config, VadBackend};
use crate::registry::catalogue::Catalogue;
use crate::supervisor::{KNOWN_WORKERS, find_worker};

/// Of a longer list of models, so many are told.
const TOLD: usize = 12;
/// The option that names where to compute: it belongs to the load, not to the model.
const DEVICE: &str = "device";

/// What is to be loaded.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Choice {
    /// A worker with its model.
    Worker(Box<Chosen>),
    /// A detector of speech in this process.
    Vad(VadBackend),
    /// The turn model in this process.
    Turn,
    /// What repeats what it heard.
    Parrot,
    /// A server.
    Server(server::Wanted),
}

/// Everything that a request is resolved against.
pub(super) struct Scene {
    pub(super) config: Arc<Config>,
    pub(super) request: SwitchRequest,
    /// The name of what serves.
    pub(super) serving: Option<String>,
    /// How that was loaded.
    pub(super) load: Option<Load>,
    /// The workers that were asked: all of them where a name could be one of their models'.
    pub(super) asked: Vec<Arc<Asked>>,
}

fn unknown(reason: impl Into<String>) -> SwitchFailure {
    SwitchFailure::new(SwitchStage::Resolve, reason)
}

fn unable(reason: impl Into<String>) -> SwitchFailure {
    SwitchFailure::new(SwitchStage::Check, reason)
}

/// Whether the workers have to be asked before `request` can be understood: it names something that is neither a path nor in the catalogue.
pub(super) fn needs_workers(request: &SwitchRequest) -> bool {
    let Some(model) = &request.model else { return false };
    job_of(request.kind).is_some() && !is_path(model) && Catalogue::embedded().model(model).is_none()
}

impl Scene {
    const fn kind(&self) -> BackendKind {
        self.request.kind
    }

    fn root(&self) -> Option<PathBuf> {
        models_root(&self.config)
    }

    /// What the request comes to.
    pub(super) fn choose(&self) -> Result<Choice, SwitchFailure> {
        let (backend, family) = self.backend()?;
        match (self.kind(), backend.as_str()) {
            (BackendKind::Vad, "auto") => self.fixed(&backend, &["silero-vad"], Choice::Vad(VadBackend::Auto)),
            (BackendKind::Vad, "silero") => self.fixed(&backend, &["silero-vad"], Choice::Vad(VadBackend::Silero)),
            (BackendKind::Vad, "webrtc" | "webrtc-vad") => {
                self.fixed(&backend, &["webrtc"], Choice::Vad(VadBackend::Webrtc))
            }
            (BackendKind::Turn, "smart-turn") => self.fixed(&backend, &["smart-turn-v3"], Choice::Turn),
            (BackendKind::Llm, "parrot") => self.fixed(&backend, &["parrot"], Choice::Parrot),
            (BackendKind::Llm, "openai") => {
                let before = match &self.load {
                    Some(Load::Server(options)) => Some(options),
                    _ => None,
                };
                server::Wanted::of(&self.request, before, &self.config).map(Choice::Server)
            }
            (kind, _) => match job_of(kind) {
                Some(job) => self
                    .worker(&backend, family, job)
                    .map(|chosen| Choice::Worker(Box::new(chosen))),
                None => Err(unknown(format!("{backend} does no {kind}"))),
            },
        }
    }

    /// Something that has one model and no options.
    fn fixed(&self, backend: &str, models: &[&str], choice: Choice) -> Result<Choice, SwitchFailure> {
        let SwitchRequest {
            model, files, options, ..
        } = &self.request;
        if let Some(model) = model.as_deref().filter(|model| !models.contains(model)) {
            return Err(unknown(format!("{backend} has no model {model:?}, but {}", models[0])));
        }
        match files.keys().chain(options.keys()).next() {
            Some(name) => Err(unknown(format!(
                "{backend} takes neither files nor options, such as {name:?}"
            ))),
            None => Ok(choice),
        }
    }

    /// The backend that is named, else the model's, else the one that serves; with the family that was meant.
    fn backend(&self) -> Result<(String, Option<&'static str>), SwitchFailure> {
        if let Some(written) = &self.request.backend {
            let installed: Vec<String> = self.installed();
            return match names::find(self.kind(), written, &installed) {
                Named::Backend(name, family) => Ok((name, family)),
                Named::Absent(reason) => Err(unable(reason)),
                Named::Unknown(_) if written == "none" => {
                    let kind = self.kind();
                    let reason = format!(
                        "a switch puts one backend in another's place; to do without {kind}, leave the stage out of the session's settings"
                    );
                    Err(unknown(reason))
                }
                Named::Unknown(reason) => Err(unknown(reason)),
            };
        }
        if let Some(model) = &self.request.model
            && let Some(backend) = self.backend_of(model)?
        {
            return Ok((backend, None));
        }
        match &self.serving {
            Some(serving) => Ok((serving.clone(), None)),
            None => Err(unknown(format!("no {} backend serves: name one", self.kind()))),
        }
    }

    fn installed(&self) -> Vec<String> {
        let installed = crate::supervisor::installed_workers(&folders(&self.config));
        installed.into_iter().map(|worker| worker.name).collect()
    }

    /// The backend that a model belongs to. `None`: any could have one of that name.
    fn backend_of(&self, model: &str) -> Result<Option<String>, SwitchFailure> {
        let kind = self.kind();
        if let Some(known) = Catalogue::embedded().model(model) {
            return match known.job == kind {
                true => Ok(Some(known.backend.clone())),
                false => Err(unknown(format!("{model} is a model for {}, not for {kind}", known.job))),
            };
        }
        if let Some(job) = job_of(kind) {
            let knows = |asked: &&Arc<Asked>| asked.does(job) && asked.models().iter().any(|known| known.id == model);
            if let Some(asked) = self.asked.iter().find(knows) {
                return Ok(Some(asked.name.clone()));
            }
        }
        match below(self.root().as_deref(), model) {
            Ok(placed) => self.worker_of(model, &placed.path).map(Some),
            Err(_) if self.configured(model).is_some() => Ok(self.configured(model).map(|wanted| wanted.name)),
            // Names of a server's models may look like paths.
            Err(_) if !is_path(model) || self.serving.as_deref() == Some("openai") => Ok(None),
            Err(Refusal::Outside(reason)) => Err(unknown(reason)),
            // Whoever reads such files tells which there are.
            Err(Refusal::Missing) => match reader_of(model) {
                Some(worker) => Ok(Some(worker.to_owned())),
                None if self.serving.is_some() => Ok(None),
                None => Err(unknown(format!("there is no model {model} under {}", self.root_told()))),
            },
        }
    }

    fn root_told(&self) -> String {
        match self.root() {
            Some(root) => root.display().to_string(),
            None => "the models root (paths.models), which isn't there".to_owned(),
        }
    }

    /// The worker that reads what lies at `path`.
    fn worker_of(&self, written: &str, path: &Path) -> Result<String, SwitchFailure> {
        let Some(form) = form(path) else {
            return Err(unknown(format!(
                "nobody here can tell what {written} is: expected a GGUF file (llama), a ggml .bin file (whisper), an .onnx file with its \
                 .onnx.json, or a folder with ONNX files and tokens.txt (sherpa); or name its backend"
            )));
        };
        let worker = form.worker().map_err(|why| unable(format!("{written}: {why}")))?;
        self.does(&form, written)?;
        Ok(worker.to_owned())
    }

    /// That a model is for the job that is switched.
    fn does(&self, form: &Form, written: &str) -> Result<(), SwitchFailure> {
        match form.job {
            Some(job) if job != self.kind() => {
                let what = form.described();
                Err(unknown(format!(
                    "{written} is {what} for {job}, not for {}",
                    self.kind()
                )))
            }
            _ => Ok(()),
        }
    }

    /// The configured backend of this job, where `model` is the very model that the configuration names for it, wherever that lies.
    fn configured(&self, model: &str) -> Option<Wanted> {
        let wanted = Wanted::configured(&self.config, self.kind())?;
        (wanted.model.as_deref() == Some(model)).then_some(wanted)
    }

    /// A worker with its model.
    fn worker(&self, name: &str, family: Option<&'static str>, job: Job) -> Result<Chosen, SwitchFailure> {
        let folders = folders(&self.config);
        let is_ours = KNOWN_WORKERS.iter().any(|known| known.name == name);
        let program = find_worker(name, &folders).map_err(|missing| match is_ours {
            true => unable(format!("the worker {name} isn't built: `make worker-{name}` builds it")),
            false => unable(missing.to_string()),
        })?;
        let kept = match &self.load {
            Some(Load::Worker(before)) if before.worker == name && before.job == job => Some(before),
            _ => None,
        };
        let mut chosen = match (&self.request.model, kept) {
            (Some(model), _) => Chosen {
                worker: name.to_owned(),
                program,
                job,
                files: std::collections::BTreeMap::new(),
                options: std::collections::BTreeMap::new(),
                device: self.config.workers.device.clone(),
                fallback: None,
                ..self.model(name, model, family, job)?
            },
            // What is absent stays as it is.
            (None, Some(before)) if self.is_of(before, family) => Chosen {
                device: before
                    .device
                    .clone()
                    .filter(|_| before.fallback.is_none())
                    .or_else(|| self.config.workers.device.clone()),
                fallback: None,
                ..before.clone()
            },
            (None, _) => self.own_choice(name, family)?,
        };
        for (role, written) in &self.request.files {
            chosen.files.insert(role.clone(), self.file(&chosen, role, written)?);
        }
        for (option, value) in &self.request.options {
            match (option.as_str(), value) {
                (DEVICE, Value::String(device)) => chosen.device = Some(device.clone()),
                (DEVICE, _) => return Err(unknown("the option \"device\" is a text, such as cpu or cuda:0")),
                (_, Value::Null) => drop(chosen.options.remove(option)),
                _ => drop(chosen.options.insert(option.clone(), value.clone())),
            }
        }
        Ok(chosen)
    }

    /// Whether what serves is of this family.
    fn is_of(&self, before: &Chosen, family: Option<&'static str>) -> bool {
        let path = before.models.as_ref().map(|root| root.join(&before.model));
        family.is_none()
            || path
                .and_then(|path| form(&path))
                .is_some_and(|form| form.family == family)
    }

    /// The model that was named, as its worker's link names it. Of what it answers, only the root and the model count.
    fn model(
        &self,
        name: &str,
        written: &str,
        family: Option<&'static str>,
        job: Job,
    ) -> Result<Chosen, SwitchFailure> {
        let (root, empty) = (self.root(), PathBuf::new());
        let named = |models: Option<PathBuf>, model: &str| Chosen {
            worker: name.to_owned(),
            program: empty.clone(),
            job,
            models,
            model: model.to_owned(),
            files: std::collections::BTreeMap::new(),
            options: std::collections::BTreeMap::new(),
            device: None,
            fallback: None,
        };
        let catalogue = Catalogue::embedded();
        if let Some(known) = catalogue.model(written).filter(|known| known.backend == name) {
            let folder = root.clone().unwrap_or_default();
            known
                .check_installed(&folder)
                .map_err(|missing| unable(missing.to_string()))?;
            return Ok(named(root, written));
        }
        let mut ids = self
            .asked
            .iter()
            .filter(|asked| asked.name == name)
            .flat_map(|asked| asked.models());
        if let Some(known) = ids.find(|known| known.id == written) {
            return match &known.problem {
                Some(problem) => Err(unable(format!("the model {written} can't be loaded: {problem}"))),
                None => Ok(named(root, written)),
            };
        }
        let refusal = match below(root.as_deref(), written) {
            Ok(placed) => {
                self.suits(name, written, &placed.path, family)?;
                return Ok(named(root, &placed.inside));
            }
            Err(refusal) => refusal,
        };
        if let Some(wanted) = self.configured(written).filter(|wanted| wanted.name == name) {
            let found = wanted.find(&self.config).map_err(unable)?;
            return Ok(named(found.models, &found.model));
        }
        let is_ours = KNOWN_WORKERS.iter().any(|known| known.name == name);
        match refusal {
            // A name that only an operator's own worker knows.
            Refusal::Missing if !is_ours && !is_path(written) => Ok(named(root, written)),
            Refusal::Outside(reason) => Err(unknown(reason)),
            Refusal::Missing => Err(unknown(self.no_model(name, written, family))),
        }
    }

    /// That a worker reads what lies at `path`, as far as that can be told.
    fn suits(&self, name: &str, written: &str, path: &Path, family: Option<&'static str>) -> Result<(), SwitchFailure> {
        // What can't be told is tried: its worker knows best.
        let Some(form) = form(path) else { return Ok(()) };
        if !KNOWN_WORKERS.iter().any(|known| known.name == name) {
            return Ok(());
        }
        match form.worker() {
            Err(why) => return Err(unable(format!("{written}: {why}"))),
            Ok(reader) if reader != name => {
                let what = form.described();
                return Err(unable(format!(
                    "{name} can't read {written}: it is {what}, which {reader} reads"
                )));
            }
            Ok(_) => {}
        }
        match (family, form.family) {
            (Some(meant), Some(is)) if meant != is => {
                Err(unknown(format!("{written} is a model of {is}, not of {meant}")))
            }
            _ => self.does(&form, written),
        }
    }

    /// The models of a worker, or of one of its families, that lie below the root.
    fn models_of(&self, name: &str, family: Option<&'static str>) -> Vec<Found> {
        let mut found = self.root().map_or_else(Vec::new, |root| scan(&root));
        found.retain(|found| {
            found.form.worker() == Ok(name)
                && found.form.job.is_none_or(|job| job == self.kind())
                && (family.is_none() || found.form.family == family)
        });
        found
    }

    /// That there is no such model, with what there is.
    fn no_model(&self, name: &str, written: &str, family: Option<&'static str>) -> String {
        let catalogue = Catalogue::embedded();
        let mut there: Vec<String> = self
            .models_of(name, family)
            .into_iter()
            .map(|found| found.name)
            .collect();
        let own = catalogue.for_job(self.kind()).filter(|model| model.backend == name);
        there.extend(own.map(|model| model.id.clone()));
        let of_workers = self
            .asked
            .iter()
            .filter(|asked| asked.name == name)
            .flat_map(|asked| asked.models());
        there.extend(of_workers.map(|known| known.id.clone()));
        there.sort();
        there.dedup();
        let mut told = format!("there is no model {written} under {}", self.root_told());
        // By the last part too: most forget the folder.
        let last = |name: &str| name.rsplit('/').next().unwrap_or_default().to_owned();
        let lasts: Vec<String> = there.iter().map(|name| last(name)).collect();
        let whole = names::nearest(written, there.iter().map(String::as_str)).map(str::to_owned);
        let meant = whole.or_else(|| {
            let near = names::nearest(&last(written), lasts.iter().map(String::as_str))?;
            let index = lasts.iter().position(|last| last == near)?;
            there.get(index).cloned()
        });
        if let Some(meant) = meant {
            told.push_str(&format!("; did you mean {meant}?"));
        }
        match there.is_empty() {
            true => told.push_str(&format!("; {} has none there", family.unwrap_or(name))),
            false => told.push_str(&format!(" (expected one of {})", listed(&there))),
        }
        told
    }

    /// What is loaded where a worker is named and no model: what is configured for it, its own choice, or the only one that is there.
    fn own_choice(&self, name: &str, family: Option<&'static str>) -> Result<Chosen, SwitchFailure> {
        if let Some(wanted) =
            Wanted::configured(&self.config, self.kind()).filter(|wanted| wanted.name == name && wanted.model.is_some())
            && let Ok(found) = wanted.find(&self.config)
            && self.is_of(&found, family)
        {
            return Ok(found);
        }
        let plain = |model: Option<String>| Wanted::plain(name, job_of(self.kind()).unwrap_or(Job::Stt), model);
        if family.is_none()
            && let Ok(found) = plain(None).find(&self.config)
        {
            return Ok(found);
        }
        let there: Vec<String> = self
            .models_of(name, family)
            .into_iter()
            .map(|found| found.name)
            .collect();
        let called = family.unwrap_or(name);
        match there.as_slice() {
            [only] => plain(Some(only.clone())).find(&self.config).map_err(unable),
            [] => {
                let place = self.root_told();
                Err(unable(format!(
                    "{called} has no model under {place}: put one there, and name it"
                )))
            }
            several => Err(unknown(format!(
                "which model of {called}? there are {}",
                listed(several)
            ))),
        }
    }

    /// A further file, as the link names it.
    fn file(&self, chosen: &Chosen, role: &str, written: &str) -> Result<String, SwitchFailure> {
        let root = self.root();
        if root != chosen.models {
            let place = chosen
                .models
                .as_ref()
                .map_or_else(String::new, |root| root.display().to_string());
            return Err(unknown(format!(
                "the file {written} ({role}) has to lie beside the model, below {place}, where a switch may name none: put both below the models root"
            )));
        }
        match below(root.as_deref(), written) {
            Ok(placed) => Ok(placed.inside),
            Err(Refusal::Outside(reason)) => Err(unknown(format!("the file {role}: {reason}"))),
            Err(Refusal::Missing) => {
                let place = self.root_told();
                Err(unknown(format!("there is no file {written} ({role}) under {place}")))
            }
        }
    }
}

/// Who reads files of such names.
fn reader_of(written: &str) -> Option<&'static str> {
    let ending = Path::new(written).extension()?.to_str()?;
    let readers = [("gguf", "llama"), ("bin", "whisper"), ("onnx", "sherpa")];
    let reader = readers.iter().find(|(known, _)| known.eq_ignore_ascii_case(ending))?;
    Some(reader.1)
}

/// A list that stays a line.
fn listed(names: &[String]) -> String {
    let more = names.len().saturating_sub(TOLD);
    let told = names[..names.len() - more].join(", ");
    match more {
        0 => told,
        more => format!("{told} and {more} more"),
    }
}
