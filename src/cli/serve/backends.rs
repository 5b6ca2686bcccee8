//! Which backends a server starts with, and in what order it looks for them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use repartee_protocol::worker::Job;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::backend::Backend;
use crate::call::BackendKind;
use crate::config::{Config, LlmBackend, Mode, SttBackend, TtsBackend, TurnBackend, VadBackend};
use crate::id::Generation;
use crate::pii::Pii;
use crate::provider::openai::{self, OpenaiBackend, OpenaiOptions};
use crate::provider::parrot::ParrotBackend;
use crate::provider::silero::{SileroBackend, SileroOptions};
use crate::provider::smart_turn::{self, SmartTurnBackend, SmartTurnOptions};
use crate::provider::webrtc_vad::{Aggressiveness, WebrtcVadBackend};
use crate::provider::{self, onnx::Places};
use crate::registry::Registry;
use crate::supervisor::{Specification, State, Worker, find_worker, worker_folders};

/// The backends of a server, loading or loaded.
pub(super) struct Backends {
    loading: JoinSet<()>,
    workers: Vec<Worker>,
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
        if config.llm.backend == LlmBackend::None {
            let reason = "switched off by llm.backend = \"none\"; clients supply the replies";
            registry.switch_off(BackendKind::Llm, reason.to_owned());
        } else {
            let (config, registry) = (config.clone(), Arc::clone(&registry));
            loading.spawn(async move {
                let loaded = load_llm(&config, registry.next_generation()).await;
                settle(&registry, BackendKind::Llm, loaded);
            });
        }
        let mut workers = Vec::new();
        for (kind, wanted) in [
            (BackendKind::Stt, stt_worker(config)),
            (BackendKind::Tts, tts_worker(config)),
        ] {
            let Some(wanted) = wanted else {
                registry.switch_off(kind, format!("switched off by {kind}.backend = \"none\""));
                continue;
            };
            match specification(config, wanted) {
                Ok(specification) => {
                    let (registry, generations) = (Arc::clone(&registry), registry.generations());
                    let worker = Worker::start(specification, move || generations.next());
                    loading.spawn(follow(worker.state(), kind, config.tts.speed_per_mille, registry));
                    workers.push(worker);
                }
                Err(reason) => registry.mark_missing(kind, reason),
            }
        }
        Self { loading, workers }
    }

    /// Stops what runs beside this process.
    pub(super) async fn stop(mut self) {
        self.loading.abort_all();
        while self.loading.join_next().await.is_some() {}
        let mut stopping: JoinSet<()> = self.workers.into_iter().map(Worker::stop).collect();
        while stopping.join_next().await.is_some() {}
    }
}

/// A worker and the model that it is to load.
struct Wanted {
    name: &'static str,
    job: Job,
    model: String,
}

/// `None`: switched off.
fn stt_worker(config: &Config) -> Option<Wanted> {
    match config.stt.backend {
        SttBackend::None => None,
        SttBackend::Auto | SttBackend::Pocketsphinx => {
            let model = config
                .stt
                .model
                .clone()
                .unwrap_or_else(|| "pocketsphinx-en-us".to_owned());
            Some(Wanted {
                name: "pocketsphinx",
                job: Job::Stt,
                model,
            })
        }
    }
}

/// `None`: switched off.
fn tts_worker(config: &Config) -> Option<Wanted> {
    match config.tts.backend {
        TtsBackend::None => None,
        // One worker speaks with every voice; which one is a matter of the session.
        TtsBackend::Auto | TtsBackend::Flite => Some(Wanted {
            name: "flite",
            job: Job::Tts,
            model: "flite".to_owned(),
        }),
    }
}

fn specification(config: &Config, wanted: Wanted) -> Result<Specification, String> {
    let folders = config
        .workers
        .dir
        .clone()
        .map_or_else(worker_folders, |folder| vec![folder]);
    let program = find_worker(wanted.name, &folders).map_err(|error| error.to_string())?;
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let spare = u32::try_from(cores.saturating_sub(1).max(1)).unwrap_or(1);
    Ok(Specification {
        models: config
            .paths
            .models
            .clone()
            .or_else(|| Some(data_folder(config).join("models")).filter(|folder| folder.is_dir())),
        threads: config.workers.threads.map_or(spare, u32::from),
        nice: config.workers.nice,
        load_timeout: Duration::from_millis(u64::from(config.workers.load_timeout_ms)),
        ..Specification::new(wanted.name, program, wanted.job, &wanted.model)
    })
}

/// Tells the registry what becomes of a worker, until it is stopped.
async fn follow(mut state: watch::Receiver<State>, kind: BackendKind, speed_per_mille: u16, registry: Arc<Registry>) {
    loop {
        let now = state.borrow_and_update().clone();
        match now {
            State::Starting { .. } => {}
            State::Ready(link) => {
                let job = match kind {
                    BackendKind::Stt => Job::Stt,
                    _ => Job::Tts,
                };
                if let Some(backend) = provider::worker::backend(job, &link, speed_per_mille) {
                    registry.install(backend);
                }
            }
            State::Lost { generation, reason, .. } => registry.mark_lost(kind, generation, reason),
            State::Failed { reason } => registry.mark_missing(kind, reason),
            State::Stopped => return,
        }
        if state.changed().await.is_err() {
            return;
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

async fn load_llm(config: &Config, generation: Generation) -> Result<Backend, String> {
    let parrot = || Backend::Llm(Arc::new(ParrotBackend::new(generation)));
    let wanted = match (config.llm.backend, config.mode) {
        (LlmBackend::Parrot, _) | (LlmBackend::Auto, Mode::Minimal) => return Ok(parrot()),
        (wanted, _) => wanted,
    };
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
        if wanted == LlmBackend::Openai || config.mode == Mode::Full {
            return Err(match &config.llm.url {
                Some(url) => format!("{url} doesn't name its models; name one with --llm-model"),
                None => "no OpenAI-compatible server answers here; start Ollama, or name one with --llm-url".to_owned(),
            });
        }
        return Ok(parrot());
    };
    let options = OpenaiOptions {
        api_key,
        connect_timeout: Duration::from_millis(u64::from(config.llm.connect_timeout_ms)),
        first_event_timeout: Duration::from_millis(u64::from(config.llm.first_token_timeout_ms)),
        ..OpenaiOptions::new(&base, &model)
    };
    match OpenaiBackend::new(options, generation, Handle::current()) {
        Ok(backend) => Ok(Backend::Llm(Arc::new(backend))),
        Err(error) => Err(error.to_string()),
    }
}
