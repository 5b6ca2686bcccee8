//! A server in this process whose backends are scripted.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::serve::ListenerExt as _;
use repartee::api::Access;
use repartee::backend::Backend;
use repartee::backend::fake::{ScriptedLlm, ScriptedStt, ScriptedTts, ScriptedVad};
use repartee::call::BackendKind;
use repartee::engine::{Engine, EngineOptions};
use repartee::metrics::Metrics;
use repartee::registry::Registry;
use repartee::transport::native::{self, NativeOptions};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// The scripted backends of a server, to be asked afterwards what was asked of them.
#[derive(Clone)]
pub(crate) struct Fakes {
    pub(crate) stt: Arc<ScriptedStt>,
    pub(crate) llm: Arc<ScriptedLlm>,
    pub(crate) tts: Arc<ScriptedTts>,
    pub(crate) vad: Arc<ScriptedVad>,
}

impl Fakes {
    pub(crate) fn new(stt: ScriptedStt, llm: ScriptedLlm) -> Self {
        Self {
            stt: Arc::new(stt),
            llm: Arc::new(llm),
            tts: Arc::new(ScriptedTts::default().millis_per_char(30)),
            vad: Arc::new(ScriptedVad::default()),
        }
    }

    pub(crate) fn voice(self, tts: ScriptedTts) -> Self {
        Self {
            tts: Arc::new(tts),
            ..self
        }
    }
}

impl Default for Fakes {
    /// Tells how much it heard, and says that back.
    fn default() -> Self {
        Self::new(ScriptedStt::measuring(), ScriptedLlm::echo())
    }
}

/// The server; it ends when it is dropped.
pub(crate) struct TestServer {
    pub(crate) engine: Engine,
    pub(crate) address: SocketAddr,
    pub(crate) fakes: Fakes,
    serving: JoinHandle<()>,
}

impl TestServer {
    pub(crate) async fn start() -> Self {
        Self::with(Fakes::default()).await
    }

    pub(crate) async fn with(fakes: Fakes) -> Self {
        Self::with_options(fakes, NativeOptions::default(), EngineOptions::default()).await
    }

    pub(crate) async fn with_native(native: NativeOptions) -> Self {
        Self::with_options(Fakes::default(), native, EngineOptions::default()).await
    }

    pub(crate) async fn with_options(fakes: Fakes, native: NativeOptions, engine: EngineOptions) -> Self {
        let registry = Arc::new(Registry::default());
        registry.install(Backend::Vad(fakes.vad.clone()));
        registry.install(Backend::Stt(fakes.stt.clone()));
        registry.install(Backend::Llm(fakes.llm.clone()));
        registry.install(Backend::Tts(fakes.tts.clone()));
        registry.mark_missing(BackendKind::Turn, "not needed here".to_owned());
        Self::serve(registry, fakes, native, engine).await
    }

    /// With whatever `registry` holds; `fakes` are kept for whoever asks.
    pub(crate) async fn serve(
        registry: Arc<Registry>,
        fakes: Fakes,
        native: NativeOptions,
        engine: EngineOptions,
    ) -> Self {
        let engine = Engine::new(engine, registry, Arc::new(Metrics::default()));
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .expect("loopback has a free port");
        let address = listener.local_addr().expect("a listener has an address");
        let routes =
            repartee::api::routes(engine.clone(), Access::default()).merge(native::routes(engine.clone(), native));
        // As `repartee serve` does it.
        let listener = listener.tap_io(|stream| {
            let _ = stream.set_nodelay(true);
        });
        let serving = tokio::spawn(async move {
            axum::serve(listener, routes).await.expect("the listener goes on");
        });
        Self {
            engine,
            address,
            fakes,
            serving,
        }
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}
