//! The server under load: the engine and the native wire as `repartee serve` runs them, with backends that answer at once.

use std::env;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use repartee::api::Access;
use repartee::backend::Backend;
use repartee::backend::fake::{ScriptedLlm, ScriptedStt, ScriptedTts, ScriptedVad, Sound};
use repartee::call::BackendKind;
use repartee::engine::{Engine, EngineOptions};
use repartee::id::Generation;
use repartee::metrics::Metrics;
use repartee::provider::onnx::Places;
use repartee::provider::silero::{MODEL_FILE, SileroBackend, SileroOptions};
use repartee::provider::webrtc_vad::{Aggressiveness, WebrtcVadBackend};
use repartee::registry::Registry;
use repartee::time::Samples;
use repartee::transport::native::{self, NativeOptions};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;

use super::{Outcome, role};

/// Milliseconds of audio that the scripted voice makes of a character.
const MILLIS_PER_CHAR: usize = 60;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Detector {
    /// Everything loud is speech.
    Scripted,
    Webrtc,
    Silero,
}

impl Detector {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Scripted => "scripted",
            Self::Webrtc => "webrtc",
            Self::Silero => "Silero behind its gate",
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ServerOptions {
    pub(crate) sessions: usize,
    pub(crate) detector: Detector,
    /// Length of each reply in milliseconds.
    pub(crate) reply_ms: usize,
    /// Replies can be heard. Making a tone costs more than sending it, so where nobody listens they are silent.
    pub(crate) audible: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Listening {
    pub(crate) address: String,
}

/// Serves until its standard input ends.
pub(crate) fn run(options: &ServerOptions) -> Outcome<()> {
    let engine_options = EngineOptions {
        // Those of the pilot may not have been let go of yet.
        max_sessions: options.sessions + 8,
        // As `repartee serve` does.
        real_time: true,
        ..EngineOptions::default()
    };
    let engine = Engine::new(engine_options, registry(options)?, Arc::new(Metrics::default()));
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?
        .block_on(serve(engine))
}

async fn serve(engine: Engine) -> Outcome<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    role::say(&Listening {
        address: listener.local_addr()?.to_string(),
    })?;
    let routes = native::routes(engine.clone(), NativeOptions::default())
        .merge(repartee::api::routes(engine.clone(), Access::default()));
    let over = async {
        let mut nothing = [0; 16];
        while tokio::io::stdin().read(&mut nothing).await.is_ok_and(|count| count > 0) {}
    };
    tokio::select! {
        () = repartee::api::serve(listener, routes, engine, std::future::pending()) => {}
        () = over => {}
    }
    std::process::exit(0);
}

fn registry(options: &ServerOptions) -> Outcome<Arc<Registry>> {
    let registry = Arc::new(Registry::default());
    let generation = registry.next_generation();
    let vad = match options.detector {
        Detector::Scripted => Backend::Vad(Arc::new(ScriptedVad::default())),
        Detector::Webrtc => Backend::Vad(Arc::new(WebrtcVadBackend::new(Aggressiveness::default(), generation))),
        Detector::Silero => Backend::Vad(Arc::new(silero(generation)?)),
    };
    // Partial transcripts come as often as those of a real recogniser, and none while the caller is silent: that would
    // rightly put off the end of the turn.
    let stt = ScriptedStt::new(["will it rain tomorrow?"]).partial_every(Samples::from_millis(400));
    registry.install(vad);
    registry.install(Backend::Stt(Arc::new(stt)));
    registry.install(Backend::Llm(Arc::new(ScriptedLlm::fixed(&reply(options.reply_ms)))));
    let voice = ScriptedTts::default().millis_per_char(u32::try_from(MILLIS_PER_CHAR)?);
    let voice = if options.audible {
        voice
    } else {
        voice.sound(Sound::Silence)
    };
    registry.install(Backend::Tts(Arc::new(voice)));
    registry.mark_missing(BackendKind::Turn, "not needed here".to_owned());
    Ok(registry)
}

/// A reply of sentences that takes about `millis` to be spoken.
fn reply(millis: usize) -> String {
    let sentence = "It will rain all day. ";
    let wanted = (millis / MILLIS_PER_CHAR).max(1);
    let text: String = sentence.chars().cycle().take(wanted).collect();
    text.trim_end().to_owned()
}

/// Silero, where the set-up has fetched it.
pub(crate) fn silero(generation: Generation) -> Outcome<SileroBackend> {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    let data = env::var_os("REPARTEE_HOME").map_or_else(|| repository.join(".repartee"), PathBuf::from);
    let mut options = SileroOptions {
        places: Places { library: None, data },
        ..SileroOptions::default()
    };
    let shared = repository.join("../shared/models").join(MODEL_FILE);
    if !options.places.data.join("models").join(MODEL_FILE).is_file() && shared.is_file() {
        options.model = Some(shared);
    }
    Ok(SileroBackend::load(&options, generation)?)
}
