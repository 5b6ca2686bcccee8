//! Asking a worker program what it can do, without having it load anything.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use repartee_protocol::worker::{Hello, VERSION};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt as _;
use tokio::process::Command;
use tokio::time::timeout;

use super::process::how_it_ended;

/// How much of an answer is read, in bytes: a worker with hundreds of voices says some 50 kB.
const LONGEST_ANSWER: u64 = 1 << 20;
/// How much of what it printed besides is told, in characters.
const LAST_WORDS: usize = 500;

/// What a worker says of itself when it is asked with `--probe`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Probe {
    /// What this build can do on this machine.
    pub hello: Hello,
    /// The models that it knows by id.
    #[serde(default)]
    pub models: Vec<ProbedModel>,
}

/// A model that a worker knows by its id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbedModel {
    /// What a load names.
    pub id: String,
    /// One line for people.
    #[serde(default)]
    pub description: String,
    /// Why it can't be loaded here; absent: it can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// A program that doesn't answer as a worker does.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProbeFailed {
    /// It can't be started.
    #[error("it can't be started: {0}")]
    Start(String),
    /// It takes too long.
    #[error("it didn't answer within {0:?}")]
    Silent(Duration),
    /// It ended badly.
    #[error("{0}")]
    Ended(String),
    /// It says something else.
    #[error("it answers with something else: {0}")]
    Strange(String),
    /// It is of another version.
    #[error("it speaks version {0} of the link, not {VERSION}: build it again")]
    Version(u32),
}

/// Runs `program --probe`, for `limit` at most.
///
/// # Errors
/// See [`ProbeFailed`].
pub async fn probe(program: &Path, models: Option<&Path>, limit: Duration) -> Result<Probe, ProbeFailed> {
    let mut command = Command::new(program);
    command.arg("--probe");
    if let Some(models) = models {
        command.arg("--models").arg(models);
    }
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // Its own group, so that a key pressed in the terminal doesn't reach it, as with a worker that serves.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| ProbeFailed::Start(error.to_string()))?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let read = async {
        let (mut answer, mut words) = (Vec::new(), Vec::new());
        let reading = async {
            if let Some(stdout) = stdout {
                // What can't be read is missing from the answer, which tells it.
                let _ = stdout.take(LONGEST_ANSWER).read_to_end(&mut answer).await;
            }
        };
        let listening = async {
            if let Some(stderr) = stderr {
                let _ = stderr.take(LONGEST_ANSWER).read_to_end(&mut words).await;
            }
        };
        tokio::join!(reading, listening);
        (child.wait().await, answer, words)
    };
    let (status, answer, words) = timeout(limit, read).await.map_err(|_| ProbeFailed::Silent(limit))?;
    let status = status.map_err(|error| ProbeFailed::Ended(error.to_string()))?;
    if !status.success() {
        return Err(ProbeFailed::Ended(format!(
            "{}{}",
            how_it_ended(status),
            last_words(&words)
        )));
    }
    let probe: Probe = serde_json::from_slice(&answer).map_err(|error| ProbeFailed::Strange(error.to_string()))?;
    if probe.hello.protocol == VERSION {
        Ok(probe)
    } else {
        Err(ProbeFailed::Version(probe.hello.protocol))
    }
}

/// The end of what a program printed, in one printable line.
fn last_words(printed: &[u8]) -> String {
    let text = String::from_utf8_lossy(printed);
    let line: Vec<&str> = text.split_whitespace().collect();
    let line: String = line
        .join(" ")
        .chars()
        .map(|letter| if letter.is_control() { ' ' } else { letter })
        .collect();
    if line.is_empty() {
        return String::new();
    }
    let skipped = line.chars().count().saturating_sub(LAST_WORDS);
    format!("; its last words: {}", line.chars().skip(skipped).collect::<String>())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::PathBuf;

    use super::*;
    use crate::supervisor::{find_worker, worker_folders};

    const PATIENCE: Duration = Duration::from_secs(20);

    fn script(folder: &Path, text: &str) -> PathBuf {
        let program = folder.join("repartee-worker-script");
        std::fs::write(&program, format!("#!/bin/sh\n{text}\n")).expect("a script");
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("it is ours");
        program
    }

    #[tokio::test]
    async fn the_fake_worker_tells_what_it_can_do() {
        let Ok(program) = find_worker("fake", &worker_folders()) else {
            println!("skipped: the fake worker isn't built (cargo test builds it)");
            return;
        };
        let probe = probe(&program, None, PATIENCE).await.expect("an answer");
        assert_eq!(
            (probe.hello.name.as_str(), probe.models[0].id.as_str()),
            ("fake", "fake")
        );
    }

    #[tokio::test]
    async fn what_is_no_worker_is_told_with_the_cause() {
        let folder = tempfile::tempdir().expect("a folder");
        let ask = async |text: &str| {
            let program = script(folder.path(), text);
            probe(&program, None, PATIENCE)
                .await
                .expect_err("no worker")
                .to_string()
        };
        let told = ask("echo libfoo.so: not found >&2; exit 127").await;
        assert!(told.contains("127") && told.contains("libfoo.so: not found"), "{told}");
        let told = ask("kill -KILL $$").await;
        assert!(told.contains("signal 9 (SIGKILL)"), "{told}");
        let told = ask("echo hello").await;
        assert!(told.contains("something else"), "{told}");
        let told = ask(r#"echo '{"hello":{"protocol":77,"name":"x","version":"1","jobs":[]}}'"#).await;
        assert!(told.contains("version 77"), "{told}");
        let missing = probe(Path::new("/no/such/program"), None, PATIENCE).await;
        assert!(matches!(missing, Err(ProbeFailed::Start(_))));
    }

    #[tokio::test]
    async fn a_program_that_never_ends_is_not_waited_for() {
        let folder = tempfile::tempdir().expect("a folder");
        let program = script(folder.path(), "exec sleep 600");
        let limit = Duration::from_millis(50);
        assert_eq!(probe(&program, None, limit).await, Err(ProbeFailed::Silent(limit)));
    }
}
