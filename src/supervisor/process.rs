//! One worker process.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::tail::Tail;

/// How long a worker that was told to stop may take before it's killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);
/// How long the last words of a process that has ended are waited for.
const LAST_WORDS: Duration = Duration::from_millis(50);

/// A running worker. It has a process group of its own, so that a signal to the engine's terminal doesn't reach it, and whatever it starts
/// ends with it. Its standard input is the link.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    group: Option<Pid>,
    tail: Tail,
    reading: JoinHandle<()>,
}

impl Process {
    /// Starts a program and gives our end of its link.
    pub(super) fn start(name: &str, program: &Path, models: Option<&Path>, nice: u8) -> io::Result<(Self, UnixStream)> {
        let (ours, theirs) = StdUnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let mut command = Command::new(program);
        command.args(["--connect", "stdin", "--nice"]).arg(nice.to_string());
        if let Some(models) = models {
            command.arg("--models").arg(models);
        }
        let mut child = command
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let tail = Tail::default();
        let stderr = child.stderr.take();
        let reading = tokio::spawn({
            let (tail, name) = (tail.clone(), name.to_owned());
            async move {
                if let Some(stderr) = stderr {
                    tail.read(name, stderr).await;
                }
            }
        });
        // The command holds their end of the link: while it lives, a dead worker's link would look open.
        drop(command);
        Ok((
            Self {
                child,
                group,
                tail,
                reading,
            },
            UnixStream::from_std(ours)?,
        ))
    }

    /// The process id, for people.
    pub(super) fn id(&self) -> u32 {
        self.child.id().unwrap_or(0)
    }

    /// Kills the process and all that it started.
    pub(super) fn kill(&mut self) {
        if let Some(group) = self.group
            && self.child.id().is_some()
        {
            // An error means that there's nobody left.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }

    /// Waits for the end of a process that was told to stop, and kills it if that takes too long. Tells how it ended, and its last words.
    pub(super) async fn end(mut self) -> String {
        let status = match timeout(STOP_TIMEOUT, self.child.wait()).await {
            Ok(status) => status,
            Err(_) => {
                self.kill();
                self.child.wait().await
            }
        };
        self.last_words(status).await
    }

    /// Kills the process if it's still there. Tells how it ended, and its last words.
    pub(super) async fn end_now(mut self) -> String {
        // A process whose link closed is about to end by itself, and how it does so is worth a moment.
        let status = match timeout(LAST_WORDS, self.child.wait()).await {
            Ok(status) => status,
            Err(_) => {
                self.kill();
                self.child.wait().await
            }
        };
        self.last_words(status).await
    }

    async fn last_words(mut self, status: io::Result<std::process::ExitStatus>) -> String {
        // What the process started may hold its standard error open.
        if timeout(LAST_WORDS, &mut self.reading).await.is_err() {
            self.reading.abort();
        }
        let how = status.map_or_else(
            |error| format!("it ended unseen ({error})"),
            |status| format!("it ended with {status}"),
        );
        match self.tail.text() {
            words if words.is_empty() => how,
            words => format!("{how}; its last words: {words}"),
        }
    }
}
