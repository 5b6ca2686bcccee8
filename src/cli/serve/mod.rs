//! `repartee serve`: puts the house together and keeps it running.

mod ava;
mod backends;
mod loader;
pub(super) mod models;
mod networks;
pub(super) mod phone;
mod settings;

use std::io::{self, IsTerminal as _, Write as _};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use self::backends::Backends;
use super::{Failure, config, health};
use crate::api::Access;
use crate::backend::Capabilities;
use crate::call::BackendKind;
use crate::config::{Config, LlmBackend, Loaded, LogFormat, LogLevel, Place};
use crate::engine::{Clock, Engine, EngineOptions, RecordingOptions, expire_traces};
use crate::metrics::Metrics;
use crate::registry::{Registry, Slot};
use crate::time::Time;
use crate::transport::native::{self, NativeOptions};

/// Arguments of `repartee serve`.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    repartee serve\n  \
    repartee serve --listen 127.0.0.1:9000 --llm-url http://127.0.0.1:11434/v1 --llm-model llama3.2\n  \
    repartee serve --stt whisper:ggml-base.bin --llm llama:chat.gguf --tts sherpa:voice.onnx\n  \
    repartee serve --config repartee.toml --set turn.endpointing_ms=500\n\n\
    Everything that can be set: `repartee config example`.\n")]
pub(super) struct ServeArguments {
    #[command(flatten)]
    options: Box<config::Options>,
}

/// A running server.
pub(super) struct Server {
    /// Where it listens.
    pub(super) address: SocketAddr,
    engine: Engine,
    backends: Backends,
    ava: Option<ava::Running>,
    phone: phone::Running,
    stop_listening: oneshot::Sender<()>,
    listening: JoinHandle<()>,
    drain_within: Duration,
}

/// Runs the command.
pub(super) fn run(arguments: &ServeArguments) -> Result<ExitCode, Failure> {
    serve(Config::load(&arguments.options.sources())?)
}

/// Serves as the configuration says, until a signal comes.
pub(super) fn serve(mut loaded: Loaded) -> Result<ExitCode, Failure> {
    if *loaded.written.value("log.level").1 == Place::Default
        && let Some(level) = ava::log_level(|name| std::env::var(name).ok())
    {
        loaded.config.log.level = level;
    }
    start_log(&loaded.config);
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    // Workers' links: two threads carry the messages of thousands of sessions. Sessions and their wires have their own.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let (server, started) = start(&loaded).await?;
        say(&format!(
            "repartee {} on http://{}/ (the talk page)",
            env!("CARGO_PKG_VERSION"),
            server.address
        ));
        let told = tokio::spawn(tell_readiness(
            Arc::clone(server.engine.registry()),
            loaded.config.tts.voice.clone(),
            started,
        ));
        let signal = wait_for_signal().await;
        told.abort();
        eprintln!("repartee: {signal}: finishing open turns; again to stop at once");
        tokio::select! {
            left = server.stop() => Ok(if left == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }),
            _ = wait_for_signal() => Ok(ExitCode::from(130)),
        }
    })
}

/// Starts an engine in this process on a port of its own, and waits until it is ready.
pub(super) async fn embed(options: &config::Options) -> Result<Server, Failure> {
    let mut loaded = Config::load(&options.sources())?;
    if options.listen.is_none() {
        loaded.config.server.listen = SocketAddr::from(([127, 0, 0, 1], 0));
    }
    // The conversation is what is to be seen here; of the engine, only what is wrong with it.
    if *loaded.written.value("log.level").1 == Place::Default {
        loaded.config.log.level = LogLevel::Warn;
    }
    start_log(&loaded.config);
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    let (server, _) = start(&loaded).await?;
    let registry = Arc::clone(server.engine.registry());
    for kind in BackendKind::ALL {
        let mut slot = registry.subscribe(kind);
        // A slot that stays `Loading` ends with the supervisor's own time-out.
        let settled = slot.wait_for(|slot| !matches!(slot, Slot::Loading)).await;
        if let Ok(Slot::Missing { reason, .. }) = settled.as_deref()
            && (matches!(kind, BackendKind::Vad | BackendKind::Stt | BackendKind::Tts)
                || (kind == BackendKind::Llm && loaded.config.llm.backend != LlmBackend::None))
        {
            eprintln!("repartee: no {kind}: {reason}");
        }
    }
    Ok(server)
}

/// Begins to listen, and to load backends. Answers the server and when that was.
async fn start(loaded: &Loaded) -> Result<(Server, Clock), Failure> {
    let started = Clock::start();
    let config = &loaded.config;
    models::check(config).map_err(Failure)?;
    let listener = listen(config.server.listen, "--listen ").await?;
    let address = listener.local_addr()?;
    let recording = config.trace.dir.clone().map(|folder| RecordingOptions {
        folder,
        audio: config.trace.audio,
        expire_after: Duration::from_secs(u64::from(config.trace.expire_days) * 86_400),
    });
    if let Some(recording) = &recording {
        expire_traces(recording)
            .map_err(|error| Failure(format!("can't keep traces in {}: {error}", recording.folder.display())))?;
    }
    let registry = Arc::new(Registry::default());
    let options = EngineOptions {
        max_sessions: config.server.max_sessions,
        recording,
        real_time: config.server.real_time,
        ..EngineOptions::default()
    };
    let engine = Engine::new(options, Arc::clone(&registry), Arc::new(Metrics::default()));
    let ava = ava::Wanted::read(loaded, |name| std::env::var(name).ok())?;
    let later = ava.as_ref().map_or(&[][..], |ava| &ava.chosen);
    let backends = Backends::start(config, &engine, later);
    let native = NativeOptions {
        token: config.server.token.as_ref().map(|token| Arc::from(token.expose())),
        max_message_bytes: config.server.max_message_bytes,
        hello_timeout: Duration::from_millis(u64::from(config.server.hello_timeout_ms)),
        settings: settings::of(config),
        loopback: config.server.listen.ip().is_loopback(),
    };
    let access = Access {
        token: native.token.clone(),
        loopback: native.loopback,
    };
    let mut routes = crate::api::routes(engine.clone(), access.clone()).merge(native::routes(engine.clone(), native));
    let ava = match ava {
        Some(wanted) => {
            let (running, twins) = wanted.start(config, &engine).await?;
            routes = routes.merge(twins);
            Some(running)
        }
        None => None,
    };
    let phone = phone::Running::start(config, &engine).await?;
    routes = routes
        .merge(crate::api::call_routes(phone.phones().clone(), access))
        .merge(phone.routes());
    let routes = networks::guard(routes, config.server.allowed_networks.clone());
    let (stop_listening, stopped) = oneshot::channel();
    let listening = tokio::spawn(crate::api::serve(listener, routes, engine.clone(), async {
        let _ = stopped.await;
    }));
    let drain_within = Duration::from_millis(u64::from(config.server.drain_timeout_ms));
    Ok((
        Server {
            address,
            engine,
            backends,
            ava,
            phone,
            stop_listening,
            listening,
            drain_within,
        },
        started,
    ))
}

impl Server {
    /// Takes nothing new, lets open turns finish, stops the workers. Answers how many sessions had to be cut off.
    pub(super) async fn stop(mut self) -> usize {
        let _ = self.stop_listening.send(());
        if let Some(ava) = self.ava {
            ava.stop();
        }
        self.phone.stop();
        let left = self.engine.drain(self.drain_within).await;
        self.phone.end().await;
        self.backends.stop().await;
        // A keep-alive connection must not hold up the end.
        let _ = tokio::time::timeout(Duration::from_millis(500), self.listening).await;
        left
    }
}

/// Listens at `address`; `choose` is how another one is chosen.
async fn listen(address: SocketAddr, choose: &str) -> Result<TcpListener, Failure> {
    TcpListener::bind(address).await.map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => {
            let who = match is_repartee(address) {
                true => "another Repartee",
                false => "another program",
            };
            let next = address.port().checked_add(1).unwrap_or(8080);
            let other = SocketAddr::new(address.ip(), next);
            Failure(format!(
                "{address} is in use by {who}: stop it, or choose another port with {choose}{other}"
            ))
        }
        io::ErrorKind::PermissionDenied => Failure(format!(
            "{address} may not be opened: ports below 1024 need rights; try {choose}127.0.0.1:8080"
        )),
        io::ErrorKind::AddrNotAvailable => Failure(format!(
            "{address} is no address of this machine; try {choose}127.0.0.1:{}",
            address.port()
        )),
        _ => Failure(format!("can't listen on {address}: {error}")),
    })
}

/// Whether what answers at `address` is one of us.
fn is_repartee(address: SocketAddr) -> bool {
    health::ask(address, &address.to_string(), "/health", Duration::from_millis(300))
        .is_ok_and(|answer| answer.contains("\"max_sessions\""))
}

/// Prints a line. A reader that went away is no reason to stop serving.
fn say(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
}

/// How long the line that all is ready waits for a language model, which may take minutes to load.
const PATIENCE_FOR_LLM: Duration = Duration::from_millis(500);

/// Prints, when everything that is coming has come, what serves in one line, and what a conversation lacks in one each. A
/// language model that takes its time holds up nobody: it gets a line of its own.
async fn tell_readiness(registry: Arc<Registry>, voice: Option<String>, started: Clock) {
    let elapsed = || started.now().since(Time::ZERO).as_secs_f64();
    let (mut parts, mut lacking) = (Vec::new(), Vec::new());
    let mut llm_is_late = false;
    // The language model last, so that nothing else waits for it.
    let mut kinds = BackendKind::ALL;
    kinds.sort_by_key(|kind| *kind == BackendKind::Llm);
    for kind in kinds {
        let mut slot = registry.subscribe(kind);
        let settled = slot.wait_for(|slot| !matches!(slot, Slot::Loading));
        let settled = if kind == BackendKind::Llm {
            tokio::time::timeout(PATIENCE_FOR_LLM, settled).await
        } else {
            Ok(settled.await)
        };
        let part = match settled {
            Err(_) => {
                llm_is_late = true;
                "llm loading".to_owned()
            }
            Ok(Err(_)) => return,
            Ok(Ok(settled)) => match &*settled {
                Slot::Ready(backend) => format!("{kind} {}", described(backend.capabilities())),
                Slot::Missing { by_choice: true, .. } if kind == BackendKind::Turn => "no turn model".to_owned(),
                Slot::Missing { by_choice: true, .. } => format!("{kind} off"),
                Slot::Missing { reason, .. } if kind == BackendKind::Llm => format!("no {kind} ({reason})"),
                Slot::Missing { reason, .. } | Slot::Lost { reason, .. } if kind != BackendKind::Turn => {
                    lacking.push(format!("no {kind}: {reason}"));
                    continue;
                }
                _ => continue,
            },
        };
        // In the order of the pipeline, whatever came first.
        parts.push((kind, part));
    }
    parts.sort_by_key(|(kind, _)| BackendKind::ALL.iter().position(|known| known == kind));
    let parts: Vec<String> = parts.into_iter().map(|(_, part)| part).collect();
    let state = if lacking.is_empty() { "ready" } else { "NOT ready" };
    say(&format!("{state} after {:.2} s: {}", elapsed(), parts.join(", ")));
    for line in lacking {
        say(&line);
    }
    if let (Some(voice), Some(speaker)) = (voice, registry.lease(BackendKind::Tts)) {
        let voices = &speaker.capabilities().voices;
        if !voices.is_empty() && !voices.contains(&voice) {
            say(&format!(
                "tts.voice = {voice:?}: there is no such voice; there are {}",
                voices.join(", ")
            ));
        }
    }
    if llm_is_late {
        let mut slot = registry.subscribe(BackendKind::Llm);
        match slot.wait_for(|slot| !matches!(slot, Slot::Loading)).await.as_deref() {
            Ok(Slot::Ready(backend)) => say(&format!(
                "llm {} after {:.2} s",
                described(backend.capabilities()),
                elapsed()
            )),
            Ok(Slot::Missing { reason, .. } | Slot::Lost { reason, .. }) => say(&format!("no llm: {reason}")),
            Ok(Slot::Loading) | Err(_) => {}
        }
    }
}

/// What serves, for a line: its name, where it computes if that is worth a word, and whether its model is a real one.
fn described(capabilities: &Capabilities) -> String {
    let mut text = capabilities.name.clone();
    if let Some(device) = &capabilities.device
        && (device != "cpu" || capabilities.fallback.is_some())
    {
        text.push_str(&format!(" on {device}"));
    }
    if let Some(fallback) = &capabilities.fallback {
        text.push_str(&format!(" ({fallback})"));
    }
    if capabilities.synthetic {
        text.push_str(" (synthetic)");
    }
    text
}

async fn wait_for_signal() -> &'static str {
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
        .expect("a process may always listen for SIGTERM");
    tokio::select! {
        _ = tokio::signal::ctrl_c() => "interrupted",
        _ = terminate.recv() => "asked to stop",
    }
}

fn start_log(config: &Config) {
    let level = config.log.level.word();
    // "off" is off for what the engine stands on, too.
    let filter = match config.log.level {
        LogLevel::Off => level.to_owned(),
        LogLevel::Error => format!("repartee={level},error"),
        _ => format!("repartee={level},warn"),
    };
    let filter = tracing_subscriber::EnvFilter::new(filter);
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal());
    match config.log.format {
        LogFormat::Text => log.with_target(false).init(),
        LogFormat::Json => log.json().init(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Generation;

    #[test]
    fn a_backend_is_described_with_what_is_worth_a_word() {
        let plain = Capabilities {
            device: Some("cpu".to_owned()),
            ..Capabilities::new(BackendKind::Llm, "llama", "x", Generation::new(1))
        };
        assert_eq!(described(&plain), "llama");
        let fallen = Capabilities {
            fallback: Some("asked for cuda: no such device".to_owned()),
            synthetic: true,
            ..plain.clone()
        };
        assert_eq!(
            described(&fallen),
            "llama on cpu (asked for cuda: no such device) (synthetic)"
        );
        let elsewhere = Capabilities {
            device: Some("cuda:0".to_owned()),
            ..plain
        };
        assert_eq!(described(&elsewhere), "llama on cuda:0");
    }
}
