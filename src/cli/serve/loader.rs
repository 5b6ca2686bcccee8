//! What can be loaded here, and the loading of it: [`House`] is the registry's [`Loader`].
//!
//! A request is resolved ([`resolve`]) against names ([`names`]), the models root ([`place`], [`form`], [`scan`]) and what the workers say of
//! themselves ([`probes`]); what comes of it is a plan ([`chosen`], [`server`], [`here`]), which begins a life on a seat ([`seats`]).

mod capabilities;
mod chosen;
mod form;
mod here;
mod machine;
mod memory;
mod names;
mod place;
mod probes;
mod resolve;
mod scan;
mod seats;
mod server;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use repartee_protocol::worker::Job;

pub(super) use self::chosen::Chosen;
use self::chosen::load_timeout;
use self::probes::{Asked, Probes};
use self::resolve::{Choice, Scene, needs_workers};
use self::seats::Running;
use super::models::{Wanted, folders, models_root};
use crate::backend::Capabilities;
use crate::call::{BackendKind, SwitchFailure, SwitchRequest, SwitchStage};
use crate::config::{Config, VadBackend};
use crate::id::Generation;
use crate::pii::Pii;
use crate::provider::openai::OpenaiOptions;
use crate::registry::{Capability, GenerationCounter, Later, Loader, Plan, Registry};

/// How something that serves was loaded, so that what a later request leaves out stays as it is.
#[derive(Clone, Debug)]
pub(super) enum Load {
    /// A worker with its model.
    Worker(Chosen),
    /// A server's model.
    Server(OpenaiOptions),
    /// In this process, where nothing was chosen.
    Here,
}

impl Load {
    /// A server's model, with the configured patience.
    pub(super) fn server(config: &Config, base: &str, model: &str, api_key: Option<Pii<String>>) -> OpenaiOptions {
        server::options(config, base, model, api_key)
    }
}

/// Where workers are started, and what holds them. Clones are the same house.
#[derive(Clone)]
pub(super) struct House(Arc<Inner>);

struct Inner {
    config: Arc<Config>,
    /// Only looked at: it holds seats, whose plans hold this.
    registry: Weak<Registry>,
    generations: GenerationCounter,
    probes: Probes,
    running: Running,
    loads: Mutex<BTreeMap<Generation, Load>>,
}

impl House {
    /// One for this configuration; nothing is loaded yet.
    pub(super) fn new(config: &Config, registry: &Arc<Registry>) -> Self {
        Self(Arc::new(Inner {
            config: Arc::new(config.clone()),
            registry: Arc::downgrade(registry),
            generations: registry.generations(),
            probes: Probes::new(folders(config), models_root(config)),
            running: Running::default(),
            loads: Mutex::default(),
        }))
    }

    /// The configuration.
    pub(super) fn config(&self) -> &Arc<Config> {
        &self.0.config
    }

    fn generations(&self) -> &GenerationCounter {
        &self.0.generations
    }

    fn probes(&self) -> &Probes {
        &self.0.probes
    }

    fn running(&self) -> &Running {
        &self.0.running
    }

    fn registry(&self) -> Option<Arc<Registry>> {
        self.0.registry.upgrade()
    }

    fn loads(&self) -> MutexGuard<'_, BTreeMap<Generation, Load>> {
        // A list of loads can't be half right.
        self.0.loads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes how something that is ready was loaded.
    fn remember(&self, generation: Generation, load: Load) {
        self.loads().insert(generation, load);
    }

    fn forget(&self, generation: Generation) {
        self.loads().remove(&generation);
    }

    /// How something was loaded, if it still is.
    fn load_of(&self, generation: Generation) -> Option<Load> {
        self.loads().get(&generation).cloned()
    }

    /// Ends everything that was loaded, and waits until it is gone.
    pub(super) async fn stop(&self) {
        self.running().stop().await;
    }

    /// The plan of a worker that the configuration names.
    ///
    /// # Errors
    /// Why it can't be had, with the remedy.
    pub(super) async fn plan_wanted(&self, wanted: &Wanted) -> Result<Plan, String> {
        let chosen = wanted.find(self.config())?;
        // Only a device that isn't the processor is worth the time that asking the worker takes.
        let asked = match chosen.device.as_deref() {
            None | Some("cpu") => None,
            Some(_) => Some(self.probes().of(&chosen.worker, &chosen.program).await),
        };
        self.plan_worker(chosen, asked.as_deref())
            .map_err(|failure| failure.reason)
    }

    /// The plan of a worker with its model; `asked` is what it says of itself, if it was asked.
    fn plan_worker(&self, chosen: Chosen, asked: Option<&Asked>) -> Result<Plan, SwitchFailure> {
        let chosen = self.on_device(chosen, asked)?;
        // What goes to a graphics processor doesn't take the memory that is counted here; its worker counts that one.
        let devices = asked.map_or_else(Vec::new, Asked::devices);
        let elsewhere = match chosen.device.as_deref() {
            Some(device) => device != "cpu",
            None => devices.iter().any(|device| *device != "cpu"),
        };
        let house = self.clone();
        let timeout = load_timeout(self.config());
        Ok(Plan {
            served: chosen.served(),
            key: chosen.key(),
            need_bytes: if elsewhere { None } else { chosen.need_bytes() },
            // Where it may fall back to the processor, it is loaded twice.
            limit: if elsewhere { timeout * 2 } else { timeout },
            load: Box::new(move || house.load_worker(&chosen)),
        })
    }

    /// The device that is meant by what was asked for ("cuda" is the first of that kind), or the processor where that one isn't there.
    fn on_device(&self, chosen: Chosen, asked: Option<&Asked>) -> Result<Chosen, SwitchFailure> {
        let (Some(device), Some(asked)) = (chosen.device.as_deref(), asked) else {
            return Ok(chosen);
        };
        let Some(hello) = asked.hello() else { return Ok(chosen) };
        let devices = asked.devices();
        let of_kind = |id: &&&str| id.split(':').next() == Some(device);
        if let Some(found) = devices
            .iter()
            .find(|id| **id == device)
            .or_else(|| devices.iter().find(of_kind))
        {
            let device = Some((*found).to_owned());
            return Ok(Chosen { device, ..chosen });
        }
        // One that tells no devices is tried.
        if device == "cpu" || devices.is_empty() {
            return Ok(chosen);
        }
        let kind = device.split(':').next().unwrap_or(device).to_uppercase();
        let mut reason = format!(
            "{} can't compute on {device} here: it has {}",
            chosen.worker,
            devices.join(", ")
        );
        let feature = kind.to_lowercase();
        if ["whisper", "llama"].contains(&chosen.worker.as_str()) && !hello.features.contains(&feature) {
            let worker = &chosen.worker;
            reason.push_str(&format!(
                "; `REPARTEE_WORKER_FEATURES={feature} make worker-{worker}` builds it for {kind}"
            ));
        }
        if self.config().workers.cpu_fallback {
            return Ok(chosen.on_processor(reason));
        }
        Err(SwitchFailure::new(
            SwitchStage::Check,
            format!("needs {kind}: {reason}"),
        ))
    }

    async fn resolved(self, request: SwitchRequest, serving: Option<Capabilities>) -> Result<Plan, SwitchFailure> {
        let asked = match needs_workers(&request) {
            true => self.probes().all().await,
            false => Vec::new(),
        };
        let scene = Scene {
            config: Arc::clone(self.config()),
            request,
            load: serving.as_ref().and_then(|serving| self.load_of(serving.generation)),
            serving: serving.map(|serving| serving.name),
            asked,
        };
        // A models root may lie on a disk that is slow.
        let choice = tokio::task::spawn_blocking(move || scene.choose()).await;
        let choice =
            choice.map_err(|error| SwitchFailure::new(SwitchStage::Resolve, format!("it came to no end: {error}")))?;
        let unable = |reason| SwitchFailure::new(SwitchStage::Check, reason);
        match choice? {
            Choice::Worker(chosen) => {
                let asked = self.probes().of(&chosen.worker, &chosen.program).await;
                if let Err(problem) = &asked.answer {
                    let reason = format!("the worker {} can't be used: {problem}", chosen.worker);
                    return Err(SwitchFailure::new(SwitchStage::Check, reason));
                }
                if !asked.does(chosen.job) {
                    let reason = format!("the worker {} does no {}", chosen.worker, chosen.kind());
                    return Err(SwitchFailure::new(SwitchStage::Resolve, reason));
                }
                self.plan_worker(*chosen, Some(&asked))
            }
            Choice::Vad(backend) => {
                if backend == VadBackend::Silero {
                    here::find_silero(self.config()).map_err(unable)?;
                }
                Ok(self.plan_vad(backend))
            }
            Choice::Turn => {
                here::find_smart_turn(self.config()).map_err(unable)?;
                Ok(self.plan_turn())
            }
            Choice::Parrot => Ok(self.plan_parrot()),
            Choice::Server(wanted) => {
                let options = wanted.find(self.config()).await?;
                let plan = self.server_plan(options);
                plan.map_err(|reason| SwitchFailure::new(SwitchStage::Resolve, reason))
            }
        }
    }
}

impl Loader for House {
    fn resolve(&self, request: &SwitchRequest, serving: Option<&Capabilities>) -> Later<Result<Plan, SwitchFailure>> {
        Box::pin(self.clone().resolved(request.clone(), serving.cloned()))
    }

    fn free_bytes(&self) -> Option<u64> {
        memory::free_bytes()
    }

    fn capabilities(&self) -> Later<Vec<Capability>> {
        Box::pin(self.clone().everything())
    }
}

/// A worker's job, as the registry names it.
const fn kind_of(job: Job) -> BackendKind {
    match job {
        Job::Stt => BackendKind::Stt,
        Job::Tts => BackendKind::Tts,
        Job::Llm => BackendKind::Llm,
        Job::Vad => BackendKind::Vad,
        Job::Turn => BackendKind::Turn,
    }
}

/// A job that workers do, as their link names it.
const fn job_of(kind: BackendKind) -> Option<Job> {
    match kind {
        BackendKind::Stt => Some(Job::Stt),
        BackendKind::Tts => Some(Job::Tts),
        BackendKind::Llm => Some(Job::Llm),
        BackendKind::Vad | BackendKind::Turn => None,
    }
}
