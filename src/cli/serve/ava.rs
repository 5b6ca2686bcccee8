//! AVA's wire beside the others: where it listens, what AVA's environment chooses, and what it finds where that says nothing.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use repartee_protocol::ava::{Environment, Machine, RuntimeMode, Selection, Server, SttBackend, TtsBackend};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::super::Failure;
use super::models::models_root;
use super::settings;
use crate::call::{BackendKind, Settings};
use crate::config::{Config, Loaded, LogLevel, Mode, Place, Value};
use crate::engine::Engine;
use crate::registry::Slot;
use crate::transport::ava::admin::{self, AdminOptions};
use crate::transport::ava::{self, Ava, AvaOptions, push_status};

/// Variables that ask for the wire.
const ASKING: [&str; 2] = ["LOCAL_WS_HOST", "LOCAL_WS_PORT"];

/// Variables that choose a recogniser.
const STT: &[&str] = &[
    "LOCAL_STT_BACKEND",
    "LOCAL_STT_MODEL_PATH",
    "SHERPA_MODEL_PATH",
    "WHISPER_CPP_MODEL_PATH",
    "LOCAL_WHISPER_CPP_MODEL_PATH",
    "TONE_MODEL_PATH",
];
/// Variables that choose a voice.
const TTS: &[&str] = &[
    "LOCAL_TTS_BACKEND",
    "LOCAL_TTS_MODEL_PATH",
    "KOKORO_MODEL_PATH",
    "MATCHA_MODEL_PATH",
];
/// Variables that choose a language model.
const LLM: &[&str] = &["LOCAL_LLM_MODEL_PATH"];

/// What the configuration and AVA's environment say about the wire.
pub(super) struct Wanted {
    listen: SocketAddr,
    options: AvaOptions,
    /// Jobs whose backend AVA's environment chooses: the configuration says nothing about them.
    pub(super) chosen: Vec<BackendKind>,
    fail_fast: bool,
}

/// The wire as it runs.
pub(super) struct Running {
    ava: Ava,
    tasks: Vec<JoinHandle<()>>,
}

impl Wanted {
    /// Reads AVA's variables; `None` where nobody asks for the wire. Each variable without an effect and each mistake is told.
    ///
    /// # Errors
    /// It may not listen where it is to, with the remedy.
    pub(super) fn read(loaded: &Loaded, lookup: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, Failure> {
        let config = &loaded.config;
        let is_set = |name: &&str| lookup(name).is_some_and(|value| !value.trim().is_empty());
        if config.ava.listen.is_none() && !ASKING.iter().any(is_set) {
            return Ok(None);
        }
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let machine = Machine {
            processors: u32::try_from(processors).unwrap_or(u32::MAX),
        };
        let (mut environment, ignored, mistakes) = Environment::read(machine, &lookup);
        for variable in ignored {
            tracing::info!("{} has no effect: {}", variable.name, variable.reason);
        }
        for mistake in &mistakes {
            tracing::warn!("{mistake}; the default holds");
        }
        let listen = match config.ava.listen {
            Some(listen) => listen,
            None => address(&environment.server)?,
        };
        let token = config.ava.token.as_ref().map(|token| Arc::<str>::from(token.expose()));
        let loopback = listen.ip().to_canonical().is_loopback();
        if !loopback && token.is_none() {
            return Err(Failure(format!(
                "{listen} can be reached from other machines, so AVA's clients need a shared secret: set LOCAL_WS_AUTH_TOKEN (or \
                 ava.token), or listen on 127.0.0.1"
            )));
        }
        let own = |key: &str| *loaded.written.value(key).1 != Place::Default;
        let mut chosen = Vec::new();
        for (kind, key, variables) in [
            (BackendKind::Stt, "stt.backend", STT),
            (BackendKind::Tts, "tts.backend", TTS),
            (BackendKind::Llm, "llm.backend", LLM),
        ] {
            if !own(key) && variables.iter().any(is_set) {
                chosen.push(kind);
            } else {
                name_own(&mut environment.selection, loaded, kind);
            }
        }
        // A language model that the configuration names is meant, whatever AVA's rule (none without a GPU) is.
        let names_llm = own("llm.backend") || own("llm.url") || config.mode == Mode::Full;
        if names_llm && !is_set(&"LOCAL_AI_MODE") {
            environment.server.mode = RuntimeMode::Full;
        }
        if environment.server.mode == RuntimeMode::Minimal {
            chosen.retain(|kind| *kind != BackendKind::Llm);
        }
        if environment.server.mock_models {
            chosen.clear();
        }
        Ok(Some(Self {
            listen,
            fail_fast: environment.server.fail_fast,
            options: AvaOptions {
                token,
                loopback,
                settings: session_settings(settings::of(config), &environment.server),
                environment,
            },
            chosen,
        }))
    }

    /// Listens, and loads what is chosen. Answers the wire and its part of the main server's routes.
    ///
    /// # Errors
    /// It can't listen; or something can't be loaded, and `LOCAL_AI_FAIL_FAST` says that it must.
    pub(super) async fn start(self, config: &Config, engine: &Engine) -> Result<(Running, Router), Failure> {
        let listener = super::listen(self.listen, "--set ava.listen=").await?;
        let ava = Ava::new(engine.clone(), self.options);
        let routes = admin::routes(ava.clone(), admin_options(config));
        tracing::info!("Enhanced Local AI Server started on ws://{}", listener.local_addr()?);
        let loading = tell_loaded(ava.clone(), engine.clone(), self.chosen);
        let mut tasks = Vec::new();
        if self.fail_fast {
            let missing = loading.await;
            if !missing.is_empty() {
                let told = missing.join("\n");
                return Err(Failure(format!("LOCAL_AI_FAIL_FAST: {told}")));
            }
        } else {
            tasks.push(tokio::spawn(async move {
                loading.await;
            }));
        }
        tasks.push(tokio::spawn(push_status(ava.clone())));
        tasks.push(tokio::spawn(serve(
            listener,
            ava.clone(),
            config.clone(),
            engine.clone(),
        )));
        Ok((Running { ava, tasks }, routes))
    }
}

/// How much AVA's `LOCAL_LOG_LEVEL` wants to be told, where AVA's variables ask for the wire.
pub(super) fn log_level(lookup: impl Fn(&str) -> Option<String>) -> Option<LogLevel> {
    if !ASKING
        .iter()
        .any(|name| lookup(name).is_some_and(|value| !value.trim().is_empty()))
    {
        return None;
    }
    match lookup("LOCAL_LOG_LEVEL")?.trim().to_uppercase().as_str() {
        "DEBUG" => Some(LogLevel::Debug),
        "INFO" => Some(LogLevel::Info),
        "WARNING" | "WARN" => Some(LogLevel::Warn),
        "ERROR" | "CRITICAL" => Some(LogLevel::Error),
        _ => None,
    }
}

impl Running {
    /// Takes no new connections.
    pub(super) fn stop(self) {
        for task in self.tasks {
            task.abort();
        }
        drop(self.ava);
    }
}

async fn serve(listener: TcpListener, ava: Ava, config: Config, engine: Engine) {
    let routes = super::networks::guard(ava::routes(ava), config.server.allowed_networks);
    crate::api::serve(listener, routes, engine, std::future::pending()).await;
}

/// Loads what is chosen, and tells what came of it in the line that AVA's set-up waits for. Answers what could not be loaded.
async fn tell_loaded(ava: Ava, engine: Engine, chosen: Vec<BackendKind>) -> Vec<String> {
    let missing = ava.load_chosen(&chosen).await;
    let mut all = missing.is_empty();
    for kind in [BackendKind::Stt, BackendKind::Tts] {
        let mut slot = engine.registry().subscribe(kind);
        let settled = slot.wait_for(|slot| !matches!(slot, Slot::Loading)).await;
        all &= matches!(settled.as_deref(), Ok(Slot::Ready(_)));
    }
    if all {
        tracing::info!("All models loaded successfully");
    } else {
        tracing::warn!("Enhanced Local AI Server is degraded: {}", missing.join("; "));
    }
    missing
}

fn admin_options(config: &Config) -> AdminOptions {
    AdminOptions {
        jwt_secret: config.ava.jwt_secret.as_ref().map(|secret| Arc::from(secret.expose())),
        token: config.server.token.as_ref().map(|token| Arc::from(token.expose())),
        loopback: config.server.listen.ip().to_canonical().is_loopback(),
        models: models_root(config),
    }
}

/// Where AVA's variables say that it listens.
fn address(server: &Server) -> Result<SocketAddr, Failure> {
    let host = server.host.trim();
    let ip = if host.eq_ignore_ascii_case("localhost") {
        IpAddr::V4(Ipv4Addr::LOCALHOST)
    } else {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        bare.parse().map_err(|_| {
            Failure(format!(
                "LOCAL_WS_HOST must be an address such as 127.0.0.1 or 0.0.0.0, not {host:?}"
            ))
        })?
    };
    Ok(SocketAddr::new(ip, server.port))
}

/// What AVA's variables say about turns.
fn session_settings(mut settings: Settings, server: &Server) -> Settings {
    let segmenter = server.segmenter;
    if let Some(pre_roll) = segmenter.pre_roll_ms {
        settings.speech.pre_roll_ms = pre_roll.min(2_000);
    }
    if let Some(least) = segmenter.min_ms {
        settings.speech.min_speech_ms = least.min(2_000);
    }
    let endpointing = &mut settings.endpointing;
    if let Some(silence) = segmenter.silence_ms {
        endpointing.silence_ms = silence.clamp(50, 10_000);
        endpointing.max_silence_ms = endpointing.max_silence_ms.max(endpointing.silence_ms);
        endpointing.eager_ms = endpointing.eager_ms.min(endpointing.silence_ms);
    }
    if let Some(longest) = segmenter.max_ms {
        endpointing.hard_limit_ms = longest.clamp(2_000, 60_000);
    }
    settings
}

/// What serves by our own configuration, under the name that AVA has for it.
fn name_own(selection: &mut Selection, loaded: &Loaded, kind: BackendKind) {
    let text = |key: &str| match loaded.written.value(&format!("{kind}.{key}")).0 {
        Value::Text(text) => Some(text.clone()),
        _ => None,
    };
    let backend = text("backend").unwrap_or_default();
    let path = text("model").unwrap_or_else(|| backend.clone());
    match kind {
        BackendKind::Stt if backend == "whisper" => {
            selection.stt.backend = SttBackend::WhisperCpp;
            selection.stt.whisper_cpp.path = path;
        }
        BackendKind::Stt => {
            selection.stt.backend = SttBackend::Sherpa;
            selection.stt.sherpa.path = path;
        }
        BackendKind::Tts => {
            selection.tts.backend = TtsBackend::Piper;
            selection.tts.piper_path = path;
        }
        _ => selection.llm.path = path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{File, Flag, Sources};

    fn read(flags: &[(&str, &str)], variables: &[(&str, &str)]) -> Result<Option<Wanted>, String> {
        let flags = flags.iter().map(|(key, text)| Flag {
            name: "--set".to_owned(),
            key: (*key).to_owned(),
            text: (*text).to_owned(),
        });
        let environment: Vec<(String, String)> = variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let sources = Sources {
            file: File::Absent,
            environment,
            flags: flags.collect(),
        };
        let Ok(loaded) = Config::load(&sources) else {
            return Err("the configuration is refused".to_owned());
        };
        let found = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        Wanted::read(&loaded, found).map_err(|Failure(text)| text)
    }

    #[test]
    fn it_listens_only_where_somebody_asks_and_never_openly_without_a_secret() {
        assert!(read(&[], &[]).unwrap().is_none());
        assert!(read(&[], &[("LOCAL_STT_BACKEND", "sherpa")]).unwrap().is_none());
        let wanted = read(&[], &[("LOCAL_WS_PORT", "8765")]).unwrap().unwrap();
        assert_eq!(wanted.listen, "127.0.0.1:8765".parse().unwrap());
        assert!(wanted.options.loopback);
        let open = [("LOCAL_WS_HOST", "0.0.0.0")];
        let refused = read(&[], &open).err().unwrap();
        assert!(refused.contains("LOCAL_WS_AUTH_TOKEN"), "{refused}");
        let wanted = read(&[], &[open[0], ("LOCAL_WS_AUTH_TOKEN", "s")]).unwrap().unwrap();
        assert_eq!(wanted.options.token.as_deref(), Some("s"));
        assert!(!wanted.options.loopback);
        let refused = read(&[("ava.listen", "0.0.0.0:1")], &[]).err().unwrap();
        assert!(refused.contains("shared secret"), "{refused}");
        let refused = read(&[], &[("LOCAL_WS_HOST", "my-host")]).err().unwrap();
        assert!(refused.contains("LOCAL_WS_HOST"), "{refused}");
    }

    #[test]
    fn avas_environment_chooses_where_the_configuration_says_nothing() {
        let variables = [
            ("LOCAL_WS_PORT", "8765"),
            ("LOCAL_STT_BACKEND", "whisper_cpp"),
            ("LOCAL_TTS_MODEL_PATH", "/app/models/tts/a.onnx"),
            ("LOCAL_LLM_MODEL_PATH", "/app/models/llm/a.gguf"),
            ("LOCAL_STT_SEGMENT_SILENCE_MS", "700"),
        ];
        let wanted = read(&[], &variables).unwrap().unwrap();
        // Without a GPU AVA has no language model.
        assert_eq!(wanted.chosen, [BackendKind::Stt, BackendKind::Tts]);
        assert_eq!(wanted.options.settings.endpointing.silence_ms, 700);
        let selection = &wanted.options.environment.selection;
        assert_eq!(selection.tts.piper_path, "/app/models/tts/a.onnx");
        let full = [&variables[..], &[("LOCAL_AI_MODE", "full")]].concat();
        assert!(read(&[], &full).unwrap().unwrap().chosen.contains(&BackendKind::Llm));
        let mock = [&variables[..], &[("LOCAL_AI_MOCK_MODELS", "1")]].concat();
        assert!(read(&[], &mock).unwrap().unwrap().chosen.is_empty());
        // Our own configuration wins, and is shown under AVA's names.
        let own = [("tts.backend", "flite"), ("llm.backend", "parrot")];
        let wanted = read(&own, &variables).unwrap().unwrap();
        assert_eq!(wanted.chosen, [BackendKind::Stt]);
        assert_eq!(wanted.options.environment.selection.tts.piper_path, "flite");
        assert_eq!(wanted.options.environment.server.mode, RuntimeMode::Full);
    }
}
