//! One worker process.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
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

    async fn last_words(mut self, status: io::Result<ExitStatus>) -> String {
        // What the process started may hold its standard error open.
        if timeout(LAST_WORDS, &mut self.reading).await.is_err() {
            self.reading.abort();
        }
        let how = status.map_or_else(|error| format!("it ended unseen ({error})"), how_it_ended);
        match self.tail.text() {
            words if words.is_empty() => how,
            words => format!("{how}; its last words: {words}"),
        }
    }
}

/// The end of a process, for an operator.
pub(super) fn how_it_ended(status: ExitStatus) -> String {
    let Some(signal) = status.signal() else {
        return match status.code() {
            Some(code) => format!("it ended with exit status {code}"),
            None => format!("it ended with {status}"),
        };
    };
    // The numbers are those of Linux on every machine that this runs on (signal(7)).
    let (name, cause) = match signal {
        4 => ("SIGILL", "its library was built for another processor"),
        6 => ("SIGABRT", "its library gave up"),
        7 => (
            "SIGBUS",
            "a file that it had mapped was cut short, or the memory is faulty",
        ),
        8 => ("SIGFPE", "its library divided by zero"),
        9 => ("SIGKILL", "out of memory, or by hand"),
        11 => ("SIGSEGV", "its library failed"),
        15 => ("SIGTERM", "by hand"),
        _ => return format!("it was killed by signal {signal}"),
    };
    format!("it was killed by signal {signal} ({name}): {cause}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_told_with_what_it_means() {
        let told = |raw| how_it_ended(ExitStatus::from_raw(raw));
        assert_eq!(
            told(9),
            "it was killed by signal 9 (SIGKILL): out of memory, or by hand"
        );
        assert_eq!(told(10), "it was killed by signal 10");
        assert_eq!(told(3 << 8), "it ended with exit status 3");
    }
}
