//! Which backends a server starts with, and in what order it looks for them. They are loaded as those that it is switched to later.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::loader::{House, Load};
use super::models::Wanted;
use crate::call::BackendKind;
use crate::config::{Config, LlmBackend, Mode, TurnBackend};
use crate::engine::Engine;
use crate::pii::Pii;
use crate::provider::openai::{self, OpenaiOptions};
use crate::registry::{Manner, Plan, Registry, Seat, Slot, Switchboard};

/// The backends of a server, loading or loaded.
pub(super) struct Backends {
    loading: JoinSet<()>,
    house: House,
}

/// What the beginning needs.
#[derive(Clone)]
struct Start {
    house: House,
    board: Arc<Switchboard>,
    registry: Arc<Registry>,
}

impl Backends {
    /// Starts them all at the same time; the registry tells when each is there. Nothing waits here: a server that listens
    /// answers, whatever its backends do.
    /// Those of `later` are left to somebody else.
    pub(super) fn start(config: &Config, engine: &Engine, later: &[BackendKind]) -> Self {
        let registry = Arc::clone(engine.registry());
        let house = House::new(config, &registry);
        let board = Switchboard::new(Arc::clone(&registry), Arc::new(house.clone()));
        engine.set_switchboard(Arc::clone(&board));
        let start = Start {
            house: house.clone(),
            board,
            registry,
        };
        let mut loading = JoinSet::new();
        if config.turn.backend == TurnBackend::None {
            let reason = "switched off by turn.backend = \"none\"; silence and words end turns";
            start.registry.switch_off(BackendKind::Turn, reason.to_owned());
        } else {
            start.serve(house.plan_turn());
        }
        start.serve(house.plan_vad(config.vad.backend));
        for (kind, wanted) in [
            (BackendKind::Stt, Wanted::stt(config)),
            (BackendKind::Tts, Wanted::tts(config)),
        ] {
            match wanted {
                _ if later.contains(&kind) => {}
                Some(wanted) => {
                    loading.spawn(start.clone().serve_with(kind, wanted));
                }
                None => start
                    .registry
                    .switch_off(kind, format!("switched off by {kind}.backend = \"none\"")),
            }
        }
        if later.contains(&BackendKind::Llm) {
            // It stays `Loading` until then.
        } else if config.llm.backend == LlmBackend::None {
            let reason = "switched off by llm.backend = \"none\"; clients supply the replies";
            start.registry.switch_off(BackendKind::Llm, reason.to_owned());
        } else {
            loading.spawn(start.serve_llm());
        }
        loading.spawn({
            let house = house.clone();
            async move {
                let runtime = house.runtime().await;
                tracing::info!(mode = runtime.mode.word(), "{}", runtime.reason);
            }
        });
        Self { loading, house }
    }

    /// Stops what runs beside this process.
    pub(super) async fn stop(mut self) {
        self.loading.abort_all();
        while self.loading.join_next().await.is_some() {}
        self.house.stop().await;
    }
}

impl Start {
    /// Lets what a plan loads serve, from when it is there.
    fn serve(&self, plan: Plan) {
        let seat = self.board.load(Arc::new(plan));
        self.registry.seat_in(seat, Manner::default());
    }

    /// Starts a worker, which serves when it is there.
    async fn serve_with(self, kind: BackendKind, wanted: Wanted) {
        match self.house.plan_wanted(&wanted).await {
            Ok(plan) => self.serve(plan),
            Err(reason) => self.registry.mark_missing(kind, reason),
        }
    }

    /// Finds who answers: what is configured, else a server that answers, else a model on this machine, else the parrot.
    async fn serve_llm(self) {
        let config = Arc::clone(self.house.config());
        if let Some(wanted) = Wanted::llm(&config) {
            return self.serve_with(BackendKind::Llm, wanted).await;
        }
        if config.llm.backend == LlmBackend::Parrot
            || (self.house.is_minimal() && config.llm.backend != LlmBackend::Openai)
        {
            return self.serve(self.house.plan_parrot());
        }
        let found = find_server(&config).await;
        let without = match found.and_then(|found| found.map(|options| self.house.server_plan(options)).transpose()) {
            Ok(Some(plan)) => return self.serve(plan),
            Ok(None) => None,
            Err(reason) => Some(reason),
        };
        let failed = match Wanted::local_llm(&config).filter(|_| config.llm.backend == LlmBackend::Auto) {
            Some(wanted) => match self.load(&wanted).await {
                Ok(seat) => return self.registry.seat_in(seat, Manner::default()),
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
                self.serve(self.house.plan_parrot());
            }
        }
    }

    /// Loads a worker, and waits until it is ready: another one is to serve where it can't be had.
    async fn load(&self, wanted: &Wanted) -> Result<Seat, String> {
        let plan = self.house.plan_wanted(wanted).await?;
        let seat = self.board.load(Arc::new(plan));
        let mut changes = seat.changes();
        let settled = changes
            .wait_for(|slot| matches!(slot, Slot::Ready(_) | Slot::Missing { .. }))
            .await;
        match settled.as_deref() {
            Ok(Slot::Missing { reason, .. }) => Err(reason.clone()),
            Ok(_) => Ok(seat),
            Err(_) => Err("it ended while it was being loaded".to_owned()),
        }
    }
}

/// The configured server, or one that answers on this machine. `None`: there is no server, and that is no fault.
async fn find_server(config: &Config) -> Result<Option<OpenaiOptions>, String> {
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
    match (base, model) {
        (Some(base), Some(model)) => Ok(Some(Load::server(config, &base, &model, api_key))),
        _ if config.llm.backend == LlmBackend::Openai || config.mode == Mode::Full => Err(match &config.llm.url {
            Some(url) => format!("{url} doesn't name its models; name one with --llm-model"),
            None => "no OpenAI-compatible server answers here; start Ollama, name one with --llm-url, or a model file \
                     with --llm llama:PATH"
                .to_owned(),
        }),
        _ => Ok(None),
    }
}
