//! One worker that is kept running.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use repartee_protocol::worker::{Hello, Job, Load, LoadFailed, Pong, Ready, ToEngine, ToWorker, VERSION, code};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::backoff::{Backoff, STABLE};
use super::link::Link;
use super::process::Process;
use crate::id::Generation;

/// How long a started program may take to say hello.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the end of a link is waited for where a worker seems to be gone.
const LINK_END: Duration = Duration::from_millis(50);
/// How often a worker is asked whether it's well.
const PING_INTERVAL: Duration = Duration::from_secs(2);
/// After how many pings without an answer it's taken for dead. Its reading thread answers, also while the model computes.
const MISSED_PINGS: u64 = 5;
/// A single computation that takes longer than this hangs.
const HANG: Duration = Duration::from_secs(30);

/// A worker that has never been ready and ends, or says nothing, this often in a row while it is started isn't tried any more:
/// libraries end their process on a file that they can't read, and reading it again doesn't help.
const FAILED_STARTS: u32 = 3;
/// The same for one that was ready once: its model loads, so what stops it may pass. With the pauses between, this is a minute
/// and a half.
const FAILED_RESTARTS: u32 = 10;

/// What is to be kept running.
#[derive(Clone, Debug)]
pub struct Specification {
    /// The worker's name, such as `pocketsphinx`.
    pub name: String,
    /// Its program.
    pub program: PathBuf,
    /// The models root.
    pub models: Option<PathBuf>,
    /// What the model is for.
    pub job: Job,
    /// The model, by catalogue id or by path relative to the models root.
    pub model: String,
    /// Further files of the model by role.
    pub files: BTreeMap<String, String>,
    /// Options of the model.
    pub options: BTreeMap<String, serde_json::Value>,
    /// The most threads for inference; 0 leaves it to the worker.
    pub threads: u32,
    /// How far it gives way to other processes, the engine above all: 0 to 19.
    pub nice: u8,
    /// Where to compute; absent leaves it to the worker.
    pub device: Option<String>,
    /// Why that isn't where it was meant to be; told of the worker that is ready.
    pub fallback: Option<String>,
    /// How long a load may take, the warm-up included.
    pub load_timeout: Duration,
}

impl Specification {
    /// A worker with a model that needs nothing further.
    #[must_use]
    pub fn new(name: &str, program: PathBuf, job: Job, model: &str) -> Self {
        Self {
            name: name.to_owned(),
            program,
            models: None,
            job,
            model: model.to_owned(),
            files: BTreeMap::new(),
            options: BTreeMap::new(),
            threads: 0,
            nice: 10,
            device: None,
            fallback: None,
            load_timeout: Duration::from_secs(120),
        }
    }
}

/// How a worker is.
#[derive(Clone, Debug)]
pub enum State {
    /// It's being started or loads its model.
    Starting {
        /// Which load it will be.
        generation: Generation,
    },
    /// It can be used.
    Ready(Arc<Link>),
    /// It's gone (or could not be started), and is started again after a pause.
    Lost {
        /// Which load it was.
        generation: Generation,
        /// Why, with its last words.
        reason: String,
        /// For how long.
        pause: Duration,
    },
    /// It can't be had, and trying again doesn't help: a file is missing, the program is.
    Failed {
        /// Why, with the remedy.
        reason: String,
    },
    /// It was stopped.
    Stopped,
}

/// A worker that is kept running until it's stopped or this is dropped.
#[derive(Debug)]
pub struct Worker {
    name: String,
    state: watch::Receiver<State>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

/// Why a start didn't come to a worker that is ready.
enum StartFailed {
    /// Trying again doesn't help.
    ForGood(String),
    /// It may.
    ForNow(String),
    /// The process ended or said nothing. It may help once or twice.
    Died(String),
}

/// A worker that is ready.
struct Running {
    process: Process,
    link: Arc<Link>,
    ended: JoinHandle<String>,
    messages: mpsc::Receiver<ToEngine>,
}

impl Worker {
    /// Starts a worker and keeps it running. `generations` numbers its loads.
    pub fn start(specification: Specification, generations: impl FnMut() -> Generation + Send + 'static) -> Self {
        let mut generations = generations;
        let first = generations();
        let (state, receiver) = watch::channel(State::Starting { generation: first });
        let (stop, stopped) = watch::channel(false);
        let name = specification.name.clone();
        let task = tokio::spawn(keep(specification, first, generations, state, stopped));
        Self {
            name,
            state: receiver,
            stop,
            task,
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How it is, now and whenever that changes.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<State> {
        self.state.clone()
    }

    /// Waits until it's ready for the first time (or again).
    ///
    /// # Errors
    /// Why it won't be: it failed for good, or was stopped. A start that is tried again is waited for.
    pub async fn ready(&self) -> Result<Arc<Link>, String> {
        let mut state = self.state.clone();
        let settled = state
            .wait_for(|state| matches!(state, State::Ready(_) | State::Failed { .. } | State::Stopped))
            .await;
        match settled.as_deref() {
            Ok(State::Ready(link)) => Ok(Arc::clone(link)),
            Ok(State::Failed { reason }) => Err(reason.clone()),
            _ => Err(format!("the worker {} was stopped", self.name)),
        }
    }

    /// Stops it: asks first, then kills. Its open streams are lost.
    pub async fn stop(mut self) {
        // The task may have ended already.
        let _ = self.stop.send(true);
        let _ = (&mut self.task).await;
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // The process is killed with the task that holds it, and its streams end.
        self.task.abort();
    }
}

/// Starts the worker again and again.
async fn keep(
    specification: Specification,
    first: Generation,
    mut generations: impl FnMut() -> Generation + Send,
    state: watch::Sender<State>,
    mut stop: watch::Receiver<bool>,
) {
    let mut backoff = Backoff::new(u64::from(std::process::id()) ^ first.number());
    let mut generation = first;
    let (mut failed_starts, mut most_failed_starts) = (0, FAILED_STARTS);
    loop {
        let started = tokio::select! {
            started = start(&specification, generation) => started,
            () = stopped(&mut stop) => break,
        };
        let (reason, was_ready) = match started {
            Ok(running) => {
                (failed_starts, most_failed_starts) = (0, FAILED_RESTARTS);
                tell_ready(&specification, generation, &running);
                state.send_replace(State::Ready(Arc::clone(&running.link)));
                match watch_over(running, &mut stop, &mut backoff).await {
                    Some(reason) => (reason, true),
                    None => break,
                }
            }
            Err(StartFailed::ForGood(reason)) => {
                // Whoever follows the state tells it, once.
                tracing::debug!(worker = specification.name, %generation, "{reason}");
                state.send_replace(State::Failed { reason });
                return;
            }
            Err(StartFailed::ForNow(reason)) => (reason, false),
            Err(StartFailed::Died(reason)) => {
                failed_starts += 1;
                if failed_starts >= most_failed_starts {
                    let reason = format!("{reason}; it was started {failed_starts} times and is not tried again");
                    tracing::debug!(worker = specification.name, %generation, "{reason}");
                    state.send_replace(State::Failed { reason });
                    return;
                }
                (reason, false)
            }
        };
        let pause = match was_ready {
            true => backoff.after_loss(),
            false => backoff.after_failure(),
        };
        tracing::warn!(worker = specification.name, %generation, ?pause, "{reason}");
        state.send_replace(State::Lost {
            generation,
            reason,
            pause,
        });
        tokio::select! {
            () = sleep(pause) => {}
            () = stopped(&mut stop) => break,
        }
        generation = generations();
        state.send_replace(State::Starting { generation });
    }
    state.send_replace(State::Stopped);
}

/// Logs what is ready, and a fall-back to another device once for each load.
fn tell_ready(specification: &Specification, generation: Generation, running: &Running) {
    let name = &specification.name;
    let ready = running.link.ready();
    let device = ready.map_or("", |ready| ready.device.as_str());
    let pid = running.process.id();
    tracing::info!(worker = name, %generation, pid, device, "the worker is ready");
    if let Some(fallback) = ready.and_then(|ready| ready.fallback.as_deref()) {
        tracing::warn!(worker = name, %generation, "it computes on {device}: {fallback}");
    }
}

/// Waits until the worker is to be stopped.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    // When the sender is gone, so is the `Worker`, and its task is aborted.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Starts the process, hears its hello, and has it load the model.
async fn start(specification: &Specification, generation: Generation) -> Result<Running, StartFailed> {
    let Specification {
        name,
        program,
        models,
        nice,
        ..
    } = specification;
    let (process, socket) = Process::start(name, program, models.as_deref(), *nice).map_err(|error| {
        let reason = format!("the worker {name} can't be started from {}: {error}", program.display());
        match error.kind() {
            std::io::ErrorKind::NotFound | std::io::ErrorKind::PermissionDenied => StartFailed::ForGood(reason),
            _ => StartFailed::ForNow(reason),
        }
    })?;
    let (link, reader, control, messages) = Link::new(generation, socket);
    let ended = tokio::spawn({
        let link = Arc::clone(&link);
        async move { link.run(reader, control).await.to_string() }
    });
    let mut running = Running {
        process,
        link,
        ended,
        messages,
    };
    match greet(specification, &mut running).await {
        Ok((hello, mut ready)) => {
            ready.fallback = ready.fallback.or_else(|| specification.fallback.clone());
            running.link.set_loaded(hello, ready);
            Ok(running)
        }
        Err(Greeting::Refused(failed)) => {
            running.process.kill();
            let LoadFailed {
                code: reason_code,
                reason,
                file,
            } = failed;
            let file = file
                .filter(|file| !reason.contains(file.as_str()))
                .map_or(String::new(), |file| format!(" ({file})"));
            let reason = format!("the worker {name} can't load {:?}: {reason}{file}", specification.model);
            // A model that is too large for this machine's memory stays so; whoever makes room starts the engine again.
            let for_good =
                [code::MISSING, code::INVALID, code::UNSUPPORTED, code::MEMORY].contains(&reason_code.as_str());
            Err(if for_good {
                StartFailed::ForGood(reason)
            } else {
                StartFailed::ForNow(reason)
            })
        }
        Err(Greeting::Broken(what)) => {
            // Where the link ended first, it knows best why: a worker may say what is no frame, and go on saying it.
            let what = match timeout(LINK_END, &mut running.ended).await {
                Ok(Ok(cause)) => format!("{what}: {cause}"),
                Ok(Err(_)) | Err(_) => what,
            };
            let words = running.process.end_now().await;
            let model = &specification.model;
            Err(StartFailed::Died(format!(
                "the worker {name} did not start with {model:?}: {what}; {words}"
            )))
        }
        Err(Greeting::Wrong(what)) => Err(StartFailed::ForGood(format!(
            "{} can't be used: {what}",
            program.display()
        ))),
    }
}

/// Why a started process isn't used.
enum Greeting {
    /// It can't load the model.
    Refused(LoadFailed),
    /// It ended, or is silent.
    Broken(String),
    /// It's something else than what was meant.
    Wrong(String),
}

async fn greet(specification: &Specification, running: &mut Running) -> Result<(Hello, Ready), Greeting> {
    let silent = |what: &str, time: Duration| Greeting::Broken(format!("no {what} in {time:?}"));
    let hello = match timeout(HELLO_TIMEOUT, running.messages.recv()).await {
        Ok(Some(ToEngine::Hello(hello))) => hello,
        Ok(Some(_)) => return Err(Greeting::Wrong("it says something before hello".to_owned())),
        Ok(None) => return Err(Greeting::Broken("it ended before its hello".to_owned())),
        Err(_) => return Err(silent("hello", HELLO_TIMEOUT)),
    };
    if hello.protocol != VERSION {
        return Err(Greeting::Wrong(format!(
            "it speaks version {} of the link, not {VERSION}",
            hello.protocol
        )));
    }
    if !hello.jobs.contains(&specification.job) {
        return Err(Greeting::Wrong(format!(
            "it's for {:?}, not for {:?}",
            hello.jobs, specification.job
        )));
    }
    let load = Load {
        job: specification.job,
        model: specification.model.clone(),
        files: specification.files.clone(),
        options: specification.options.clone(),
        threads: specification.threads,
        device: specification.device.clone(),
    };
    running.link.send(&ToWorker::Load(load), &[]);
    let loading = async {
        loop {
            match running.messages.recv().await {
                Some(ToEngine::Ready(ready)) => return Ok(ready),
                Some(ToEngine::LoadFailed(failed)) => return Err(Greeting::Refused(failed)),
                Some(ToEngine::Error { code, message }) => return Err(Greeting::Wrong(format!("{code}: {message}"))),
                Some(_) => {}
                None => return Err(Greeting::Broken("it ended while it loaded the model".to_owned())),
            }
        }
    };
    let limit = specification.load_timeout;
    let ready = timeout(limit, loading)
        .await
        .map_err(|_| silent("loaded model", limit))??;
    Ok((hello, ready))
}

/// Ends the streams of a link when it goes, for whatever reason: the first reason that was told stays.
struct EndsStreams(Arc<Link>);

impl Drop for EndsStreams {
    fn drop(&mut self) {
        self.0.fail("the worker was stopped");
    }
}

/// Watches over a worker that is ready. Tells why it's gone; `None` when it was to be stopped.
async fn watch_over(running: Running, stop: &mut watch::Receiver<bool>, backoff: &mut Backoff) -> Option<String> {
    let Running {
        mut process,
        link,
        mut ended,
        mut messages,
    } = running;
    // Also when this is dropped in the middle: nobody else would tell the streams.
    let _ends = EndsStreams(Arc::clone(&link));
    let mut pings = interval(PING_INTERVAL);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut sent, mut answered) = (0_u64, 0_u64);
    let stable_after = STABLE.as_millis() / PING_INTERVAL.as_millis();
    let what = loop {
        tokio::select! {
            cause = &mut ended => break cause.unwrap_or_else(|error| format!("its link's task ended: {error}")),
            () = stopped(stop) => {
                link.fail("the worker was stopped");
                link.send(&ToWorker::Stop, &[]);
                process.end().await;
                return None;
            }
            _ = pings.tick() => {
                if sent >= answered + MISSED_PINGS {
                    process.kill();
                    break format!("it has not answered for {} s", PING_INTERVAL.as_secs() * MISSED_PINGS);
                }
                if u128::from(answered) >= stable_after {
                    backoff.reset();
                }
                sent += 1;
                link.send(&ToWorker::Ping { nonce: sent }, &[]);
            }
            // When the channel closes, the link's task is about to end.
            Some(message) = messages.recv() => match message {
                ToEngine::Pong(Pong { nonce, busy_ms, .. }) => {
                    answered = answered.max(nonce.min(sent));
                    if u128::from(busy_ms) > HANG.as_millis() {
                        process.kill();
                        break format!("its model has hung for {} s", busy_ms / 1000);
                    }
                }
                ToEngine::Error { code, message } => tracing::warn!(code, "from a worker: {message}"),
                _ => {}
            }
        }
    };
    let reason = format!("the worker is gone: {what}; {}", process.end_now().await);
    link.fail(&reason);
    Some(reason)
}
