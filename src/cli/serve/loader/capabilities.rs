//! Everything that could serve here, and what can't, with the reason and the remedy.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use repartee_protocol::worker::Job;

use super::chosen::need_of;
use super::here::{find_silero, find_smart_turn};
use super::names::{ABSENT, FAMILIES, Family};
use super::probes::Asked;
use super::scan::{Found, scan};
use super::{House, Load, job_of, kind_of};
use crate::call::BackendKind;
use crate::cli::serve::models::{Wanted, models_root};
use crate::pii::Pii;
use crate::provider::openai;
use crate::registry::catalogue::{Catalogue, Model};
use crate::registry::{Capability, ModelCapability, Slot};
use crate::supervisor::KNOWN_WORKERS;

/// How to come to a model that isn't here.
const PUT_ONE: &str = "put one there";

/// What all rows are made of.
struct View {
    asked: Vec<Arc<Asked>>,
    found: Vec<Found>,
    root: Option<String>,
    catalogue: Catalogue,
    serving: Vec<Served>,
    configured: Vec<(BackendKind, Wanted)>,
}

/// What serves one job, with what its worker calls the model and what a switch calls it.
struct Served {
    kind: BackendKind,
    backend: String,
    model: String,
    asked_for: Option<String>,
    voices: Vec<String>,
}

impl House {
    /// A row for each backend of each job, in the order of the jobs.
    pub(super) async fn everything(self) -> Vec<Capability> {
        let server = self.server();
        let (asked, server) = tokio::join!(self.probes().all(), server);
        let house = self.clone();
        let rows = tokio::task::spawn_blocking(move || {
            let view = house.view(asked);
            let mut rows = house.rows_here(&view);
            rows.push(view.server(server));
            rows.extend(view.rows_of_workers(house.probes().folders()));
            rows.extend(
                ABSENT
                    .iter()
                    .map(|absent| view.absent(absent.kind, absent.name, absent.reason, absent.remedy)),
            );
            rows.sort_by_key(|row| BackendKind::ALL.iter().position(|kind| *kind == row.kind));
            rows
        });
        // Ends badly only where the program does.
        rows.await.unwrap_or_default()
    }

    /// The server that is configured or answers, and its models.
    async fn server(&self) -> Result<Vec<String>, String> {
        let llm = &self.config().llm;
        match &llm.url {
            Some(base) => {
                let server = openai::Server {
                    name: "configured".to_owned(),
                    base: base.clone(),
                    api_key: llm.api_key.as_ref().map(|key| Pii::new(key.expose().to_owned())),
                };
                openai::probe(&server, openai::PROBE_TIMEOUT)
                    .await
                    .map_err(|error| error.to_string())
            }
            None => match openai::detect(&[], openai::PROBE_TIMEOUT).await {
                Some(found) => Ok(found.models),
                None => Err("no OpenAI-compatible server answers on this machine".to_owned()),
            },
        }
    }

    fn view(&self, asked: Vec<Arc<Asked>>) -> View {
        let root = models_root(self.config());
        let serving = self.registry().map_or_else(Vec::new, |registry| {
            let of = |kind| match registry.state(kind) {
                Slot::Ready(serving) => {
                    let capabilities = serving.capabilities();
                    let asked_for = match self.load_of(capabilities.generation) {
                        Some(Load::Worker(chosen)) => Some(chosen.model),
                        _ => None,
                    };
                    Some(Served {
                        kind,
                        backend: capabilities.name.clone(),
                        model: capabilities.model.clone(),
                        asked_for,
                        voices: capabilities.voices.clone(),
                    })
                }
                _ => None,
            };
            BackendKind::ALL.into_iter().filter_map(of).collect()
        });
        let configured = BackendKind::ALL.into_iter();
        View {
            asked,
            found: root.as_deref().map_or_else(Vec::new, scan),
            root: root.map(|root| root.display().to_string()),
            catalogue: Catalogue::embedded(),
            serving,
            configured: configured
                .filter_map(|kind| Some((kind, Wanted::configured(self.config(), kind)?)))
                .collect(),
        }
    }

    /// What runs in this process.
    fn rows_here(&self, view: &View) -> Vec<Capability> {
        let (silero_found, turn_found) = (find_silero(self.config()), find_smart_turn(self.config()));
        let of_file = |kind, backend: &str, model: &str, found: Result<PathBuf, String>| {
            let (path, reason) = match found {
                Ok(path) => (Some(path.display().to_string()), None),
                Err(reason) => (None, Some(reason)),
            };
            let model = ModelCapability {
                available: reason.is_none(),
                remedy: reason.as_ref().map(|_| "`make setup` installs it".to_owned()),
                reason,
                path,
                ..view.model(kind, backend, model)
            };
            row(kind, backend, vec![model])
        };
        let plain = |kind, backend: &str, model: &str| row(kind, backend, vec![view.model(kind, backend, model)]);
        vec![
            of_file(BackendKind::Vad, "silero", "silero-vad", silero_found),
            plain(BackendKind::Vad, "webrtc", "webrtc"),
            of_file(BackendKind::Turn, "smart-turn", "smart-turn-v3", turn_found),
            plain(BackendKind::Llm, "parrot", "parrot"),
        ]
    }
}

/// A backend with its models: as available as the best of them.
fn row(kind: BackendKind, backend: &str, models: Vec<ModelCapability>) -> Capability {
    let available = models.iter().any(|model| model.available);
    let fault = models.first().filter(|_| !available);
    Capability {
        kind,
        backend: backend.to_owned(),
        available,
        reason: fault.and_then(|model| model.reason.clone()),
        remedy: fault.and_then(|model| model.remedy.clone()),
        devices: vec!["cpu".to_owned()],
        models,
    }
}

impl View {
    /// A model that can be loaded.
    fn model(&self, kind: BackendKind, backend: &str, model: &str) -> ModelCapability {
        // Of its names, the registry knows the one that the backend says itself.
        let same = |served: &&Served| {
            let is_backend = served.backend == backend || served.backend == format!("{backend}-vad");
            let is_model = served.asked_for.as_deref().unwrap_or(&served.model) == model;
            served.kind == kind && is_backend && is_model
        };
        let served = self.serving.iter().find(same);
        ModelCapability {
            model: model.to_owned(),
            description: String::new(),
            available: true,
            serving: served.is_some(),
            reason: None,
            remedy: None,
            path: None,
            need_bytes: None,
            voices: served.map_or_else(Vec::new, |served| served.voices.clone()),
            synthetic: false,
        }
    }

    fn absent(&self, kind: BackendKind, backend: &str, reason: &str, remedy: &str) -> Capability {
        // What lies about for it is told all the same.
        let of_it = |found: &&Found| found.form.family == Some(backend) && found.form.worker().is_err();
        let models = self
            .found
            .iter()
            .filter(of_it)
            .map(|found| self.found(backend, kind, found))
            .collect();
        Capability {
            available: false,
            reason: Some(reason.to_owned()),
            remedy: Some(remedy.to_owned()),
            devices: Vec::new(),
            ..row(kind, backend, models)
        }
    }

    /// Language models behind HTTP.
    fn server(&self, models: Result<Vec<String>, String>) -> Capability {
        let kind = BackendKind::Llm;
        let (models, fault) = match models {
            Ok(models) if models.is_empty() => (models, Some("the server lists no model".to_owned())),
            Ok(models) => (models, None),
            Err(reason) => (Vec::new(), Some(reason)),
        };
        let mut rows: Vec<ModelCapability> = models.iter().map(|model| self.model(kind, "openai", model)).collect();
        // One of another address serves too.
        if let Some(served) = self
            .serving
            .iter()
            .find(|served| served.kind == kind && served.backend == "openai")
            && !models.contains(&served.model)
        {
            rows.push(self.model(kind, "openai", &served.model));
        }
        let fault = fault.filter(|_| rows.is_empty());
        Capability {
            kind,
            backend: "openai".to_owned(),
            available: fault.is_none(),
            remedy: fault.as_ref().map(|_| {
                "start Ollama or another one, or set llm.url (a switch names it in the option base_url)".to_owned()
            }),
            reason: fault,
            devices: Vec::new(),
            models: rows,
        }
    }

    /// A row for each worker and job, and for the families that a worker runs.
    fn rows_of_workers(&self, folders: &[PathBuf]) -> Vec<Capability> {
        let mut rows = Vec::new();
        for known in KNOWN_WORKERS {
            let asked = self.asked.iter().find(|asked| asked.name == known.name);
            for job in known.jobs {
                let families = FAMILIES
                    .iter()
                    .filter(|family| family.worker == known.name && family.kind == kind_of(*job));
                rows.push(self.worker(known.name, *job, asked, None, folders));
                rows.extend(families.map(|family| self.worker(known.name, *job, asked, Some(family), folders)));
            }
        }
        // An operator's own.
        for asked in self
            .asked
            .iter()
            .filter(|asked| !KNOWN_WORKERS.iter().any(|known| known.name == asked.name))
        {
            let jobs = asked.hello().map_or(&[][..], |hello| &hello.jobs);
            let jobs = jobs.iter().filter(|job| job_of(kind_of(**job)).is_some());
            rows.extend(jobs.map(|job| self.worker(&asked.name, *job, Some(asked), None, folders)));
        }
        rows
    }

    fn worker(
        &self,
        name: &str,
        job: Job,
        asked: Option<&Arc<Asked>>,
        family: Option<&Family>,
        folders: &[PathBuf],
    ) -> Capability {
        let kind = kind_of(job);
        let mut models = self.models_of(name, job, asked, family.map(|family| family.name));
        let (reason, remedy) = match asked.map(|asked| &asked.answer) {
            None => {
                let places: Vec<String> = folders.iter().map(|folder| folder.display().to_string()).collect();
                let reason = format!("the worker {name} isn't built (looked for in {})", places.join(", "));
                (Some(reason), Some(format!("`make worker-{name}` builds it")))
            }
            Some(Err(problem)) => {
                let remedy = "`repartee workers` tells more; build it again, or install what it lacks";
                (
                    Some(format!("the worker {name} can't be used: {problem}")),
                    Some(remedy.to_owned()),
                )
            }
            Some(Ok(_)) => (None, None),
        };
        if reason.is_some() {
            // Nothing of it can be loaded, and the row says why.
            for model in models.iter_mut().filter(|model| model.available) {
                model.available = false;
                model.reason.clone_from(&reason);
                model.remedy.clone_from(&remedy);
            }
        }
        let available = models.iter().any(|model| model.available);
        let first = models.first();
        let nothing = || {
            let place = self.root.as_deref().unwrap_or("the models root (paths.models)");
            let called = family.map_or(name, |family| family.name);
            (format!("{called} has no model below {place}"), PUT_ONE.to_owned())
        };
        let fault = match (available, reason, first) {
            (true, ..) => None,
            (false, Some(reason), _) => Some((reason, remedy)),
            (false, None, Some(model)) => model.reason.clone().map(|reason| (reason, model.remedy.clone())),
            (false, None, None) => Some(nothing()).map(|(reason, remedy)| (reason, Some(remedy))),
        };
        let (reason, remedy) = fault.map_or((None, None), |(reason, remedy)| (Some(reason), remedy));
        let devices = asked.map_or_else(Vec::new, |asked| {
            asked.devices().into_iter().map(str::to_owned).collect()
        });
        Capability {
            kind,
            backend: family.map_or(name, |family| family.name).to_owned(),
            available,
            reason,
            remedy,
            devices,
            models,
        }
    }

    /// A worker's models: those that it knows by id, those of the catalogue, those below the models root, and the one that is configured.
    fn models_of(
        &self,
        name: &str,
        job: Job,
        asked: Option<&Arc<Asked>>,
        family: Option<&'static str>,
    ) -> Vec<ModelCapability> {
        let kind = kind_of(job);
        let mut models = Vec::new();
        let catalogued = |model: &&Model| model.backend == name && model.job == kind;
        if family.is_none() {
            let known = asked.map_or(&[][..], |asked| asked.models());
            let only_job = asked
                .and_then(|asked| asked.hello())
                .is_some_and(|hello| hello.jobs == [job]);
            for known in known.iter().filter(|_| only_job) {
                let model = ModelCapability {
                    description: known.description.clone(),
                    available: known.problem.is_none(),
                    reason: known.problem.clone(),
                    remedy: known
                        .problem
                        .as_ref()
                        .and_then(|_| Some(self.catalogue.model(&known.id)?.remedy())),
                    ..self.model(kind, name, &known.id)
                };
                models.push(self.with_catalogue(model));
            }
            for model in self.catalogue.models().iter().filter(catalogued) {
                if !models.iter().any(|known: &ModelCapability| known.model == model.id) {
                    models.push(self.catalogued(kind, name, model));
                }
            }
        }
        let fits = |found: &&Found| {
            let is_here =
                found.form.worker() == Ok(name) && family.is_none_or(|family| found.form.family == Some(family));
            // What is broken or of a container that nobody reads stands where people look for it.
            let is_near = match found.form.family {
                Some(of) => family == Some(of) && FAMILIES.iter().any(|family| family.name == of),
                None => family.is_none() && broken_for(name, found),
            };
            let does = found.form.job.is_none_or(|job| job == kind);
            does && (is_here || (found.form.worker().is_err() && is_near))
        };
        models.extend(
            self.found
                .iter()
                .filter(fits)
                .map(|found| self.found(name, kind, found)),
        );
        let configured = self
            .configured
            .iter()
            .find(|(of, wanted)| *of == kind && wanted.name == name);
        if let Some(written) = configured.and_then(|(_, wanted)| wanted.model.as_ref())
            && family.is_none()
            && !models.iter().any(|model| model.model == *written)
        {
            models.push(self.model(kind, name, written));
        }
        models
    }

    fn found(&self, name: &str, kind: BackendKind, found: &Found) -> ModelCapability {
        let worker = found.form.worker();
        ModelCapability {
            description: found.form.described().to_owned(),
            available: worker.is_ok(),
            reason: worker.err().map(str::to_owned),
            path: Some(found.path.display().to_string()),
            need_bytes: worker.ok().map(|worker| need_of(worker, found.bytes)),
            synthetic: found.form.synthetic,
            ..self.model(kind, name, &found.name)
        }
    }

    /// A model of the catalogue: whether all of it is here can be told only where its files are known.
    fn catalogued(&self, kind: BackendKind, name: &str, model: &Model) -> ModelCapability {
        let root = self.root.as_deref().map_or(Path::new(""), Path::new);
        let missing = model.check_installed(root).err();
        let row = ModelCapability {
            available: missing.is_none(),
            remedy: missing.as_ref().map(|missing| missing.remedy.clone()),
            reason: missing.map(|missing| format!("{} {}", missing.path.display(), missing.fault)),
            ..self.model(kind, name, &model.id)
        };
        self.with_catalogue(row)
    }

    /// What the catalogue knows of a model, beside what its worker says.
    fn with_catalogue(&self, mut row: ModelCapability) -> ModelCapability {
        let Some(model) = self.catalogue.model(&row.model) else {
            return row;
        };
        row.description.clone_from(&model.name);
        row.need_bytes = Some(model.memory_mib.map_or(model.size_bytes, |mebibytes| mebibytes << 20));
        if row.voices.is_empty() {
            row.voices.extend(model.voice.clone());
        }
        row
    }
}

/// Whether a file that isn't what its name says would be this worker's.
fn broken_for(worker: &str, found: &Found) -> bool {
    let ending = found.path.extension().and_then(|ending| ending.to_str());
    matches!((worker, ending), ("llama", Some("gguf")) | ("whisper", Some("bin")))
}
