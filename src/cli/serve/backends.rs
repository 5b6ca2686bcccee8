//! Which backends a server starts with, and in what order it looks for them.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::JoinSet;

use super::models::Wanted;
use crate::backend::Backend;
use crate::call::BackendKind;
use crate::config::{Config, LlmBackend, Mode, TurnBackend, VadBackend};
use crate::id::Generation;
use crate::pii::Pii;
use crate::provider::openai::{self, OpenaiBackend, OpenaiOptions};
use crate::provider::parrot::ParrotBackend;
use crate::provider::silero::{SileroBackend, SileroOptions};
use crate::provider::smart_turn::{self, SmartTurnBackend, SmartTurnOptions};
use crate::provider::webrtc_vad::{Aggressiveness, WebrtcVadBackend};
use crate::provider::{self, onnx::Places};
use crate::registry::Registry;
use crate::supervisor::{State, Worker};

/// The backends of a server, loading or loaded.
pub(super) struct Backends {
    loading: JoinSet<()>,
    house: House,
}

/// Where workers are started, and what holds them.
#[derive(Clone)]
struct House {
    config: Arc<Config>,
    registry: Arc<Registry>,
    workers: Arc<Mutex<Vec<Worker>>>,
}

impl Backends {
    /// Starts them all at the same time; the registry tells when each is there. Nothing waits here: a server that listens
    /// answers, whatever its backends do.
    pub(super) fn start(config: &Config, registry: Arc<Registry>) -> Self {
        let mut loading = JoinSet::new();
        if config.turn.backend == TurnBackend::None {
            let reason = "switched off by turn.backend = \"none\"; silence and words end turns";
            registry.switch_off(BackendKind::Turn, reason.to_owned());
        } else {
            let (config, registry) = (config.clone(), Arc::clone(&registry));
            loading.spawn_blocking(move || {
                let loaded = load_turn(&config, registry.next_generation());
                settle(&registry, BackendKind::Turn, loaded);
            });
        }
        loading.spawn_blocking({
            let (config, registry) = (config.clone(), Arc::clone(&registry));
            move || {
                let loaded = load_vad(&config, registry.next_generation());
                settle(&registry, BackendKind::Vad, loaded);
            }
        });
        let house = House {
            config: Arc::new(config.clone()),
            registry,
            workers: Arc::default(),
        };
        for (kind, wanted) in [
            (BackendKind::Stt, Wanted::stt(config)),
            (BackendKind::Tts, Wanted::tts(config)),
        ] {
            match wanted {
                Some(wanted) => {
                    loading.spawn(house.clone().serve_with(kind, wanted));
                }
                None => house
                    .registry
                    .switch_off(kind, format!("switched off by {kind}.backend = \"none\"")),
            }
        }
        if config.llm.backend == LlmBackend::None {
            let reason = "switched off by llm.backend = \"none\"; clients supply the replies";
            house.registry.switch_off(BackendKind::Llm, reason.to_owned());
        } else {
            loading.spawn(house.clone().serve_llm());
        }
        Self { loading, house }
    }

    /// Stops what runs beside this process.
    pub(super) async fn stop(mut self) {
        self.loading.abort_all();
        while self.loading.join_next().await.is_some() {}
        let workers = std::mem::take(&mut *self.house.workers());
        let mut stopping: JoinSet<()> = workers.into_iter().map(Worker::stop).collect();
        while stopping.join_next().await.is_some() {}
    }
}

impl House {
    fn workers(&self) -> MutexGuard<'_, Vec<Worker>> {
        // A list of workers can't be half right.
        self.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a worker, and tells the registry what becomes of it until it is stopped.
    async fn serve_with(self, kind: BackendKind, wanted: Wanted) {
        if let Err(reason) = self.follow(kind, wanted).await {
            self.registry.mark_missing(kind, reason);
        }
    }

    /// The same. Returns early only where the worker can't be had (any more).
    ///
    /// # Errors
    /// Why it can't be had, with the remedy.
    async fn follow(&self, kind: BackendKind, wanted: Wanted) -> Result<(), String> {
        let specification = wanted.specification(&self.config)?;
        let generations = self.registry.generations();
        let worker = Worker::start(specification, move || generations.next());
        let mut state = worker.state();
        self.workers().push(worker);
        loop {
            let now = state.borrow_and_update().clone();
            match now {
                State::Starting { .. } => {}
                State::Ready(link) => {
                    let backend = provider::worker::backend(wanted.job, &link, self.config.tts.speed_per_mille)?;
                    self.registry.install(backend);
                }
                State::Lost { generation, reason, .. } => self.registry.mark_lost(kind, generation, reason),
                State::Failed { reason } => return Err(reason),
                State::Stopped => return Ok(()),
            }
            if state.changed().await.is_err() {
                return Ok(());
            }
        }
    }

    /// Finds who answers: what is configured, else a server that answers, else a model on this machine, else the parrot.
    async fn serve_llm(self) {
        let config = Arc::clone(&self.config);
        if let Some(wanted) = Wanted::llm(&config) {
            return self.serve_with(BackendKind::Llm, wanted).await;
        }
        let generation = self.registry.next_generation();
        let without = match load_llm(&config, generation).await {
            Ok(Some(backend)) => return self.registry.install(backend),
            Ok(None) => None,
            Err(reason) => Some(reason),
        };
        let failed = match Wanted::local_llm(&config).filter(|_| config.llm.backend == LlmBackend::Auto) {
            Some(wanted) => match self.follow(BackendKind::Llm, wanted).await {
                Ok(()) => return,
                Err(reason) => Some(reason),
            },
            None => None,
        };
        match (failed, without) {
            (Some(reason), _) if config.mode == Mode::Full => self.registry.mark_missing(BackendKind::Llm, reason),
            (None, Some(reason)) => self.registry.mark_missing(BackendKind::Llm, reason),
            (failed, _) => {
                if let Some(reason) = failed {
                    tracing::warn!("the parrot answers instead of the language model: {reason}");
                }
                let parrot = ParrotBackend::new(self.registry.next_generation());
                self.registry.install(Backend::Llm(Arc::new(parrot)));
            }
        }
    }
}

/// Lets what was loaded serve, or tells why nothing does.
fn settle(registry: &Registry, kind: BackendKind, loaded: Result<Backend, String>) {
    match loaded {
        Ok(backend) => registry.install(backend),
        Err(reason) => registry.mark_missing(kind, reason),
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

fn load_vad(config: &Config, generation: Generation) -> Result<Backend, String> {
    let webrtc = || Backend::Vad(Arc::new(WebrtcVadBackend::new(Aggressiveness::Aggressive, generation)));
    if config.vad.backend == VadBackend::Webrtc {
        return Ok(webrtc());
    }
    let places = Places {
        library: config.paths.onnxruntime.clone(),
        data: data_folder(config),
    };
    let model = config
        .paths
        .models
        .as_deref()
        .map(silero_model)
        .filter(|path| path.is_file());
    match SileroBackend::load(
        &SileroOptions {
            places,
            model,
            ungated: false,
        },
        generation,
    ) {
        Ok(silero) => Ok(Backend::Vad(Arc::new(silero))),
        Err(error) if config.vad.backend == VadBackend::Auto => {
            tracing::warn!("using WebRTC's detector alone, which mistakes more noise for speech: {error}");
            Ok(webrtc())
        }
        Err(error) => Err(error.to_string()),
    }
}

fn silero_model(models: &Path) -> PathBuf {
    models.join(provider::silero::MODEL_FILE)
}

fn load_turn(config: &Config, generation: Generation) -> Result<Backend, String> {
    let options = SmartTurnOptions {
        places: Places {
            library: config.paths.onnxruntime.clone(),
            data: data_folder(config),
        },
        model: config
            .paths
            .models
            .as_deref()
            .map(|models| models.join(smart_turn::MODEL_FILE))
            .filter(|path| path.is_file()),
        nice: config.workers.nice,
    };
    match SmartTurnBackend::load(&options, generation) {
        Ok(smart_turn) => Ok(Backend::Turn(Arc::new(smart_turn))),
        Err(error) => {
            // What nobody asked for and isn't there is no news; what is there and broken is.
            if config.turn.backend == TurnBackend::SmartTurn || !error.is_absence() {
                tracing::warn!("turns end by silence and words alone: {error}");
            }
            Err(error.to_string())
        }
    }
}

/// The parrot where it was asked for, or a server. `None`: there is no server, and that is no fault.
async fn load_llm(config: &Config, generation: Generation) -> Result<Option<Backend>, String> {
    let parrot = || Ok(Some(Backend::Llm(Arc::new(ParrotBackend::new(generation)))));
    let must_be_server = config.llm.backend == LlmBackend::Openai;
    if config.llm.backend == LlmBackend::Parrot || (config.mode == Mode::Minimal && !must_be_server) {
        return parrot();
    }
    let api_key = config.llm.api_key.as_ref().map(|key| Pii::new(key.expose().to_owned()));
    // A server that somebody named may be far away or asleep; those of this machine answer at once or aren't there.
    let (candidates, limit) = match &config.llm.url {
        Some(base) => {
            let server = openai::Server {
                name: "configured".to_owned(),
                base: base.clone(),
                api_key: api_key.clone(),
            };
            (vec![server], Duration::from_secs(3))
        }
        None => (Vec::new(), openai::PROBE_TIMEOUT),
    };
    let found = openai::detect(&candidates, limit).await;
    let base = found
        .as_ref()
        .map(|found| found.server.base.clone())
        .or_else(|| config.llm.url.clone());
    let model = config
        .llm
        .model
        .clone()
        .or_else(|| found.and_then(|found| found.models.first().cloned()));
    let (Some(base), Some(model)) = (base, model) else {
        if must_be_server || config.mode == Mode::Full {
            return Err(match &config.llm.url {
                Some(url) => format!("{url} doesn't name its models; name one with --llm-model"),
                None => {
                    "no OpenAI-compatible server answers here; start Ollama, name one with --llm-url, or a model file \
                         with --llm llama:PATH"
                        .to_owned()
                }
            });
        }
        return Ok(None);
    };
    let options = OpenaiOptions {
        api_key,
        connect_timeout: Duration::from_millis(u64::from(config.llm.connect_timeout_ms)),
        first_event_timeout: Duration::from_millis(u64::from(config.llm.first_token_timeout_ms)),
        ..OpenaiOptions::new(&base, &model)
    };
    match OpenaiBackend::new(options, generation, Handle::current()) {
        Ok(backend) => Ok(Some(Backend::Llm(Arc::new(backend)))),
        Err(error) => Err(error.to_string()),
    }
}
