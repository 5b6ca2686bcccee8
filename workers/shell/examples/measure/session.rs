//! A worker with its loaded model, and the clock beside it.

use std::fs;
use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use repartee_worker_shell::protocol::{Hello, Params, Ready, StreamId, ToEngine, ToWorker};
use repartee_worker_shell::testing::Client;
use serde_json::Value;

use crate::arguments::Arguments;

/// How many messages may wait to be looked at. They are short, and looked at between any two that are sent.
const WAITING: usize = 4096;

/// How long a worker may say nothing at all while something is expected of it.
const PATIENCE: Duration = Duration::from_secs(50);

/// How many ticks `/proc` counts in a second: `USER_HZ`, which is 100 for every program on Linux.
const TICKS: f64 = 100.0;

/// Small models finish in milliseconds what the kernel counts in ticks of ten: whatever isn't bound to the pace of speech is repeated for so long
/// in each round.
pub(crate) const LEAST: Duration = Duration::from_secs(1);

/// And so often at most.
pub(crate) const MOST_RUNS: u32 = 50;

/// What a worker said, and when it arrived.
#[derive(Debug)]
pub(crate) struct Heard {
    pub(crate) at: Instant,
    pub(crate) message: ToEngine,
    pub(crate) payload: Bytes,
}

pub(crate) struct Session {
    client: Client,
    heard: Receiver<io::Result<Heard>>,
    pub(crate) hello: Hello,
    pub(crate) ready: Ready,
}

impl Session {
    /// Starts the worker, has the model loaded, and listens from then on.
    pub(crate) fn start(arguments: &Arguments) -> Result<Self, String> {
        let (mut client, hello) = Client::start_with_models(&arguments.worker, arguments.models.as_deref())
            .map_err(|error| format!("{}: {error}", arguments.worker.display()))?;
        let options: Vec<(&str, Value)> = arguments
            .options
            .iter()
            .map(|(name, value)| (name.as_str(), value.clone()))
            .collect();
        let ready = client
            .load(arguments.job, &arguments.model, &options)
            .map_err(|error| format!("the worker was lost while it loaded: {error}"))?
            .map_err(|failed| failed.reason)?;
        let mut listener = client.take_listener().map_err(|error| error.to_string())?;
        let (sender, heard) = sync_channel(WAITING);
        // A thread of its own, so that arrivals are timed while audio is being sent.
        thread::Builder::new()
            .name("listener".into())
            .spawn(move || {
                loop {
                    let heard = listener.receive().map(|(message, payload)| Heard {
                        at: Instant::now(),
                        message,
                        payload,
                    });
                    let is_over = heard.is_err();
                    if sender.send(heard).is_err() || is_over {
                        return;
                    }
                }
            })
            .map_err(|error| error.to_string())?;
        Ok(Self {
            client,
            heard,
            hello,
            ready,
        })
    }

    /// Opens a stream with all the credit that it can use.
    pub(crate) fn open(&mut self, params: Params, payload: &[u8]) -> Result<StreamId, String> {
        self.client.open_with(params, payload).map_err(lost)
    }

    pub(crate) fn send(&mut self, message: &ToWorker, payload: &[u8]) -> Result<(), String> {
        self.client.send(message, payload).map_err(lost)
    }

    /// What has arrived and wasn't looked at yet.
    pub(crate) fn arrived(&self) -> Result<Option<Heard>, String> {
        match self.heard.try_recv() {
            Ok(heard) => fine(heard.map_err(lost)?).map(Some),
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => Err("the worker has gone".into()),
        }
    }

    /// What arrives next; nothing where something is to be done at `until` and nothing has come till then.
    pub(crate) fn hear(&self, until: Option<Instant>) -> Result<Option<Heard>, String> {
        let patience = until.map_or(PATIENCE, |until| until.saturating_duration_since(Instant::now()));
        match self.heard.recv_timeout(patience) {
            Ok(heard) => fine(heard.map_err(lost)?).map(Some),
            Err(RecvTimeoutError::Timeout) if until.is_some() => Ok(None),
            Err(RecvTimeoutError::Timeout) => Err(format!("the worker said nothing for {PATIENCE:?}")),
            Err(RecvTimeoutError::Disconnected) => Err("the worker has gone".into()),
        }
    }

    /// The processor time of the worker so far, in seconds: of all its threads, and of the programs that it ran to their end.
    pub(crate) fn processor_seconds(&self) -> f64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.client.process.id())).unwrap_or_default();
        // The second field is the program's name in parentheses, and may hold spaces. See proc_pid_stat(5).
        let after_name = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
        /// `utime`, which `stime`, `cutime` and `cstime` follow.
        const USER_TIME: usize = 14 - 3;
        let ticks: f64 = after_name
            .split(' ')
            .skip(USER_TIME)
            .take(4)
            .filter_map(|field| field.parse::<f64>().ok())
            .sum();
        ticks / TICKS
    }

    /// The most resident memory that the worker ever had, in bytes.
    pub(crate) fn peak_bytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.client.process.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kilobytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
        kilobytes.unwrap_or(0) * 1024
    }
}

fn lost(error: io::Error) -> String {
    format!("the link to the worker broke: {error}")
}

/// A failed stream makes every figure worthless, so it ends the measurement.
fn fine(heard: Heard) -> Result<Heard, String> {
    match heard.message {
        ToEngine::Failed(failed) => Err(format!("a stream failed ({}): {}", failed.code, failed.message)),
        ToEngine::Error { code, message } => Err(format!("the worker can't obey ({code}): {message}")),
        _ => Ok(heard),
    }
}
