//! The one place where the session core meets the world: one driver for each session, the one clock, the rings of
//! audio, admission, drain and recording. It knows no wire.

mod clock;
mod driver;
mod jobs;
mod once;
mod playout;
mod recording;
mod ring;
mod shadow;
mod switching;
mod threads;
mod wire;

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::watch;

pub use self::clock::Clock;
use self::driver::{Driver, Surroundings};
pub use self::once::{Spoken, Unanswered};
use self::playout::Player;
pub use self::recording::{RecordingOptions, expire_traces};
use self::threads::Threads;
pub use self::wire::{
    AudioSender, Call, CallOver, CommandRefused, Commands, FRAME_MS, FrameReceiver, OutFrame, Played, WeakCommands,
    WireProfile,
};
use crate::call::{Settings, SettingsError};
use crate::id::SessionId;
use crate::metrics::Metrics;
use crate::registry::{Registry, Switchboard};
use crate::session::{Input, Session};
use crate::time::Samples;

/// Room in the ring of a session beyond the hard limit of a turn: pre-roll, the silence that ends it, and a replay.
const RING_SLACK: Samples = Samples::from_millis(10_000);

/// What an engine is told at its start.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// Sessions that may be open at the same time.
    pub max_sessions: usize,
    /// Threads that drive sessions.
    pub threads: usize,
    /// Whether those threads go before all ordinary ones of the machine, where the system allows it.
    pub real_time: bool,
    /// Where and how calls are recorded, if they are.
    pub recording: Option<RecordingOptions>,
}

impl Default for EngineOptions {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self {
            max_sessions: 100,
            threads: cores.min(4),
            real_time: false,
            recording: None,
        }
    }
}

/// Why a session was not opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// As many are open as may be.
    #[error("all {0} sessions are in use; try again later, or raise server.max_sessions")]
    Full(usize),
    /// The engine is going away.
    #[error("the server is going away")]
    Draining,
    /// The settings don't make sense.
    #[error(transparent)]
    Settings(#[from] SettingsError),
}

/// Drives sessions. Cheap to clone.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

struct Inner {
    options: EngineOptions,
    registry: Arc<Registry>,
    switchboard: OnceLock<Arc<Switchboard>>,
    metrics: Arc<Metrics>,
    threads: Threads,
    live: AtomicUsize,
    /// Milliseconds until everybody must be gone, once the engine goes away.
    drain: watch::Sender<Option<u32>>,
    /// Wakes whoever waits for the last session to end.
    ended: watch::Sender<usize>,
}

impl fmt::Debug for Engine {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Engine")
            .field("live", &self.live())
            .finish_non_exhaustive()
    }
}

/// One of the places that admission gives away; given back when both the driver and the wire have let go of it. Empty in
/// tests of the parts.
struct Place(Option<Arc<Inner>>);

impl fmt::Debug for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Place")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(inner) = &self.0 else { return };
        let live = inner.live.fetch_sub(1, Ordering::AcqRel) - 1;
        inner.metrics.session_closed();
        inner.ended.send_replace(live);
    }
}

impl Engine {
    /// An engine that serves with the backends of `registry`.
    #[must_use]
    pub fn new(options: EngineOptions, registry: Arc<Registry>, metrics: Arc<Metrics>) -> Self {
        let threads = Threads::start(options.threads, options.max_sessions, options.real_time)
            .expect("a system that can start no thread can't run a server");
        let inner = Inner {
            options,
            registry,
            switchboard: OnceLock::new(),
            metrics,
            threads,
            live: AtomicUsize::new(0),
            drain: watch::channel(None).0,
            ended: watch::channel(0).0,
        };
        Self { inner: Arc::new(inner) }
    }

    /// The backends it serves with.
    #[must_use]
    pub fn registry(&self) -> &Arc<Registry> {
        &self.inner.registry
    }

    /// Lets its backends be switched by this, once and for all. Without, a switch is refused.
    pub fn set_switchboard(&self, switchboard: Arc<Switchboard>) {
        // A second one would know nothing of what the first has loaded.
        let _ = self.inner.switchboard.set(switchboard);
    }

    /// What switches its backends.
    #[must_use]
    pub fn switchboard(&self) -> Option<&Arc<Switchboard>> {
        self.inner.switchboard.get()
    }

    /// What it counts.
    #[must_use]
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.inner.metrics
    }

    /// Sessions that are open now.
    #[must_use]
    pub fn live(&self) -> usize {
        self.inner.live.load(Ordering::Acquire)
    }

    /// Sessions that may be open at the same time.
    #[must_use]
    pub fn max_sessions(&self) -> usize {
        self.inner.options.max_sessions
    }

    /// Opens a session for a wire of this profile.
    ///
    /// # Errors
    /// See [`Refused`].
    pub fn open(&self, settings: Settings, profile: WireProfile) -> Result<Call, Refused> {
        settings.validate()?;
        let place = Arc::new(self.admit()?);
        let (id, seed) = (SessionId::new(random_bits()), random_bits());
        let clock = Clock::start();
        let (call, port) = wire::connect(id, clock, Arc::clone(&place), profile.lead);
        let recorder = self.inner.options.recording.as_ref().and_then(|options| {
            recording::Recorder::start(options, id, &settings, seed)
                .inspect_err(|error| tracing::warn!(%id, %error, "the call is not recorded"))
                .ok()
        });
        let surroundings = Surroundings {
            registry: Arc::clone(&self.inner.registry),
            switchboard: self.inner.switchboard.get().cloned(),
            metrics: Arc::clone(&self.inner.metrics),
            drain: self.inner.drain.subscribe(),
            id,
            retry_after_ms: self.spread(id),
        };
        let ring_bound = Samples::from_millis(u64::from(settings.endpointing.hard_limit_ms.max(60_000))) + RING_SLACK;
        let driven = self.inner.threads.drive(move || async move {
            let _place = place;
            let session = Session::new(settings, seed);
            let player = Player::for_wire(profile);
            let mut driver = Driver::new(clock, session, port, player, recorder, surroundings, ring_bound);
            driver.begin(Input::Connected);
            driver.await;
        });
        if !driven {
            return Err(Refused::Full(self.inner.options.max_sessions));
        }
        Ok(call)
    }

    /// Threads that drive sessions.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.inner.threads.count()
    }

    /// Sessions that thread `thread` drives; none on a thread that there isn't.
    #[must_use]
    pub fn sessions_on(&self, thread: usize) -> usize {
        self.inner.threads.sessions(thread)
    }

    /// Runs a wire on thread `thread`. The sessions that it opens are driven there too, and its audio comes to them
    /// without waking another thread, which is half of what a session costs. False when too many wait to be begun with.
    pub fn serve_on<F: Future<Output = ()> + 'static>(
        &self,
        thread: usize,
        wire: impl FnOnce() -> F + Send + 'static,
    ) -> bool {
        self.inner.threads.spawn(thread, wire)
    }

    fn admit(&self) -> Result<Place, Refused> {
        if self.inner.drain.borrow().is_some() {
            self.inner.metrics.session_refused("draining");
            return Err(Refused::Draining);
        }
        let max = self.inner.options.max_sessions;
        let taken = self
            .inner
            .live
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |live| {
                if live < max { Some(live + 1) } else { None }
            });
        if taken.is_err() {
            self.inner.metrics.session_refused("full");
            return Err(Refused::Full(max));
        }
        self.inner.metrics.session_opened();
        Ok(Place(Some(Arc::clone(&self.inner))))
    }

    /// How long this session waits before it asks again for what failed, in ms: where many sessions lost one worker,
    /// their replays come one after the other, some 20 ms apart.
    fn spread(&self, id: SessionId) -> u32 {
        let window = 50 + 20 * self.live() as u64;
        50 + u32::try_from(id.bits() % window).unwrap_or(0)
    }

    /// Takes no new session, lets each open one finish its turn, and returns when the last is over or `within` has
    /// passed. Answers how many were still open then.
    pub async fn drain(&self, within: Duration) -> usize {
        let within_ms = u32::try_from(within.as_millis()).unwrap_or(u32::MAX);
        self.inner.drain.send_replace(Some(within_ms));
        let mut ended = self.inner.ended.subscribe();
        // A little more than what the sessions were told, so that they can say goodbye.
        let all_gone = async { while self.live() > 0 && ended.changed().await.is_ok() {} };
        let _ = tokio::time::timeout(within + Duration::from_millis(500), all_gone).await;
        self.live()
    }
}

/// 64 bits that nobody can guess.
fn random_bits() -> u64 {
    getrandom::u64().expect("a system without a random source can't run a server")
}
