//! The program itself, as a process.

use std::io::{BufRead as _, BufReader, Read};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use super::socket::http_get;

/// A start takes no longer than this, models included.
const START_LIMIT: Duration = Duration::from_secs(30);

/// The program with these arguments, without settings out of the environment of whoever runs the tests, but for where the
/// set-up has put things.
pub(crate) fn repartee(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_repartee"));
    for (name, _) in std::env::vars_os() {
        let name_text = name.to_string_lossy();
        if name_text.starts_with("REPARTEE_") && !matches!(&*name_text, "REPARTEE_HOME" | "REPARTEE_WORKERS") {
            command.env_remove(name);
        }
    }
    command.args(arguments);
    command
}

/// Runs the program to its end, and fails the test when that doesn't come.
pub(crate) fn run(arguments: &[&str], limit: Duration) -> Output {
    run_command(repartee(arguments), limit)
}

pub(crate) fn run_command(mut command: Command, limit: Duration) -> Output {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program is built");
    let stdout = gather(child.stdout.take().expect("piped"));
    let stderr = gather(child.stderr.take().expect("piped"));
    let status = wait(&mut child, limit);
    let _ = child.kill();
    let (stdout, stderr) = (stdout.join(), stderr.join());
    let (stdout, stderr) = (stdout.expect("a reader"), stderr.expect("a reader"));
    let Some(status) = status else {
        panic!(
            "it did not end within {limit:?}; it said {}{}",
            String::from_utf8_lossy(&stdout),
            String::from_utf8_lossy(&stderr)
        );
    };
    Output { status, stdout, stderr }
}

fn gather(mut source: impl Read + Send + 'static) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = source.read_to_end(&mut bytes);
        bytes
    })
}

/// Waits for the end of `child`.
fn wait(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let step = Duration::from_millis(10);
    let mut left = limit;
    loop {
        if let Some(status) = child.try_wait().expect("a child can be asked") {
            return Some(status);
        }
        left = left.checked_sub(step)?;
        thread::park_timeout(step);
    }
}

/// `repartee serve` on a port of its own; it is killed when this is dropped.
pub(crate) struct ServerProcess {
    child: Child,
    pub(crate) address: SocketAddr,
    stderr: Arc<Mutex<String>>,
    stdout: Arc<Mutex<String>>,
}

impl ServerProcess {
    /// Starts it with further arguments, and waits until it listens.
    pub(crate) async fn start(arguments: &[&str]) -> Self {
        Self::start_command(repartee(&["serve", "--listen", "127.0.0.1:0"]), arguments).await
    }

    pub(crate) async fn start_command(mut command: Command, arguments: &[&str]) -> Self {
        command.args(arguments);
        tokio::task::spawn_blocking(move || Self::spawn(command))
            .await
            .expect("a server starts")
    }

    fn spawn(mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program is built");
        let stderr = follow(child.stderr.take().expect("piped"));
        let (told, telling) = std::sync::mpsc::sync_channel(1);
        let stdout = Arc::new(Mutex::new(String::new()));
        let kept = Arc::clone(&stdout);
        let lines = BufReader::new(child.stdout.take().expect("piped"));
        thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                if let Some(address) = line.split("http://").nth(1).and_then(|rest| rest.split('/').next()) {
                    let _ = told.try_send(address.parse::<SocketAddr>());
                }
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                kept.push_str(&line);
                kept.push('\n');
            }
        });
        let address = telling.recv_timeout(START_LIMIT);
        let Ok(Ok(address)) = address else {
            let _ = child.kill();
            let said = stderr.lock().unwrap_or_else(PoisonError::into_inner).clone();
            panic!("the server told no address; it said {said}");
        };
        Self {
            child,
            address,
            stderr,
            stdout,
        }
    }

    /// Waits until `/ready` says that everything needed is there. `Err` is its last answer.
    pub(crate) async fn ready(&self) -> Result<(), String> {
        let mut ticks = tokio::time::interval(Duration::from_millis(50));
        let mut answer = String::new();
        for _ in 0..START_LIMIT.as_millis() / 50 {
            ticks.tick().await;
            let (status, body) = http_get(self.address, "/ready").await;
            if status == 200 {
                return Ok(());
            }
            let settled = !body.contains("\"loading\"");
            answer = body;
            if settled && !answer.contains("\"lost\"") {
                break;
            }
        }
        Err(answer)
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn stderr(&self) -> String {
        self.stderr.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn stdout(&self) -> String {
        self.stdout.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sends it a signal by its name.
    pub(crate) fn signal(&self, name: &str) {
        signal(self.id(), name);
    }

    /// Waits for its end.
    pub(crate) async fn ended(&mut self, limit: Duration) -> Option<ExitStatus> {
        let mut ticks = tokio::time::interval(Duration::from_millis(10));
        for _ in 0..limit.as_millis() / 10 {
            ticks.tick().await;
            if let Some(status) = self.child.try_wait().expect("a child can be asked") {
                return Some(status);
            }
        }
        None
    }

    /// The worker processes that it has started, by the name of their program.
    pub(crate) fn workers(&self, program: &str) -> Vec<u32> {
        children(self.id())
            .into_iter()
            .filter(|id| {
                std::fs::read_to_string(format!("/proc/{id}/cmdline")).is_ok_and(|line| {
                    line.split('\0')
                        .next()
                        .is_some_and(|own| PathBuf::from(own).file_name().is_some_and(|name| name == program))
                })
            })
            .collect()
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        // In order, so that it stops its workers; then for certain.
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            self.signal("TERM");
            self.signal("TERM");
            if wait(&mut self.child, Duration::from_secs(3)).is_none() {
                let _ = self.child.kill();
                let _ = self.child.wait();
            }
        }
    }
}

/// Sends a process a signal by its name. Only ever a process that this test has started.
pub(crate) fn signal(process: u32, name: &str) {
    let sent = Command::new("kill")
        .args([&format!("-{name}"), &process.to_string()])
        .status();
    assert!(sent.is_ok_and(|status| status.success()), "SIG{name} to {process}");
}

/// The processes whose parent this is.
fn children(parent: u32) -> Vec<u32> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|id: &u32| {
            // "pid (name) state ppid …"; the name may hold anything, parentheses too.
            std::fs::read_to_string(format!("/proc/{id}/stat")).is_ok_and(|stat| {
                stat.rsplit_once(") ")
                    .and_then(|(_, rest)| rest.split(' ').nth(1)?.parse::<u32>().ok())
                    == Some(parent)
            })
        })
        .collect()
}

fn follow(source: impl Read + Send + 'static) -> Arc<Mutex<String>> {
    let text = Arc::new(Mutex::new(String::new()));
    let kept = Arc::clone(&text);
    thread::spawn(move || {
        for line in BufReader::new(source).lines().map_while(Result::ok) {
            let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
            kept.push_str(&line);
            kept.push('\n');
        }
    });
    text
}

/// The server with the embedded default. None, with the reason printed, where it isn't set up; under `make test`, which has
/// set it up and names the workers' folder, that is a failure.
pub(crate) async fn embedded(arguments: &[&str]) -> Option<ServerProcess> {
    // These tests are about words. On a busy machine the recogniser may be far behind, and is waited for.
    let mut all = vec!["--llm", "parrot", "--set", "stt.final_timeout_ms=30000"];
    all.extend(arguments);
    let server = ServerProcess::start(&all).await;
    match server.ready().await {
        Ok(()) => Some(server),
        Err(reason) if std::env::var_os("REPARTEE_WORKERS").is_some() => {
            panic!("set up, and not ready: {reason}")
        }
        Err(reason) => {
            println!("skipped: {reason}");
            None
        }
    }
}
