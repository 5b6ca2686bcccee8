//! `repartee serve` as it answers the telephone, in a process of its own. What depends on how it is configured and on what it logs
//! is here and nowhere else.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use repartee::time::Time;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::ari::ari;
use crate::phone::Ear;
use crate::support::process::{repartee, run, signal};
use crate::support::speech::words;
use crate::{now, until};

/// Where it listens; the examples say so, too.
const HTTP: &str = "127.0.0.1:8080";
const LANGUAGE_MODEL: &str = "127.0.0.1:8900";
/// A start takes no longer than this, models included.
const START_LIMIT: Duration = Duration::from_secs(30);
/// What it logs when it stops a reply because the caller speaks.
const DECISION: &str = "barge-in";
/// Lines of its log that a failed test shows.
const LOG_LINES: usize = 60;

/// A way from Asterisk to Repartee.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wire {
    AudioSocketApp,
    AudioSocketChannel,
    WebSocketJson,
    WebSocketPlain,
    RtpByAri,
}

impl Wire {
    /// The example's extension.
    pub(crate) const fn extension(self) -> &'static str {
        match self {
            Self::AudioSocketApp => "7001",
            Self::AudioSocketChannel => "7002",
            Self::WebSocketJson => "7003",
            Self::WebSocketPlain => "7004",
            Self::RtpByAri => "7005",
        }
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::AudioSocketApp => "audiosocket-app",
            Self::AudioSocketChannel => "audiosocket-channel",
            Self::WebSocketJson => "chan-websocket-json",
            Self::WebSocketPlain => "chan-websocket-plain",
            Self::RtpByAri => "rtp-by-ari",
        }
    }

    /// From the decision to stop a reply to silence in the caller's ear.
    pub(crate) const fn silent_within(self) -> Duration {
        match self {
            Self::WebSocketJson | Self::WebSocketPlain => Duration::from_millis(60),
            Self::AudioSocketApp | Self::AudioSocketChannel | Self::RtpByAri => Duration::from_millis(100),
        }
    }

    /// The section of the configuration that a build has which serves this wire.
    const fn section(self) -> &'static str {
        match self {
            Self::AudioSocketApp | Self::AudioSocketChannel => "[audiosocket]",
            // It is served where the talk page is.
            Self::WebSocketJson | Self::WebSocketPlain => "[phone]",
            Self::RtpByAri => "[asterisk]",
        }
    }

    /// What its operator writes into the configuration.
    const fn configuration(self) -> &'static str {
        match self {
            Self::AudioSocketApp | Self::AudioSocketChannel => "[audiosocket]\nlisten = \"127.0.0.1:9092\"\n",
            Self::WebSocketJson | Self::WebSocketPlain => "",
            Self::RtpByAri => {
                "[rtp]\nlisten = \"127.0.0.1:9100\"\n\
                 [asterisk]\nurl = \"http://127.0.0.1:8088\"\nuser = \"repartee\"\npassword = \"change-this-password\"\n\
                 app = \"repartee\"\nmedia = \"rtp\"\ncontext = \"repartee\"\n"
            }
        }
    }
}

/// The sections and keys that this build has.
static CONFIGURABLE: LazyLock<String> = LazyLock::new(|| {
    let output = run(&["config", "example"], START_LIMIT);
    String::from_utf8_lossy(&output.stdout).into_owned()
});

/// How a server of a test begins.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) wire: Wire,
    /// What a caller hears first; empty: nothing.
    pub(crate) greeting: String,
    /// What the language model answers, turn by turn; empty: it is the parrot, which repeats what it heard.
    pub(crate) replies: Vec<Reply>,
}

impl Setup {
    pub(crate) fn new(wire: Wire, greeting: &str) -> Self {
        Self {
            wire,
            greeting: greeting.to_owned(),
            replies: Vec::new(),
        }
    }

    pub(crate) fn replies(self, replies: &[Reply]) -> Self {
        Self {
            replies: replies.to_vec(),
            ..self
        }
    }
}

/// What a language model says, and the tool that it wants called then.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) text: &'static str,
    pub(crate) tool: Option<(&'static str, Value)>,
}

/// Lines that were logged, and when.
type Log = Arc<Mutex<Vec<(Time, String)>>>;

/// The server; it ends when it is dropped.
pub(crate) struct Server {
    child: Child,
    log: Log,
    folder: TempDir,
    setup: Setup,
    _model: Option<LanguageModel>,
}

impl Server {
    /// Starts it, and waits until it has loaded everything. None, with the reason printed, where this build has no such wire.
    pub(crate) fn start(setup: &Setup) -> Option<Self> {
        let section = setup.wire.section();
        if !CONFIGURABLE.lines().any(|line| line == section) {
            println!(
                "skipped: this build knows no {section}, so it does not serve {}",
                setup.wire.name()
            );
            return None;
        }
        let folder = tempfile::tempdir().expect("a folder for its configuration");
        let model = (!setup.replies.is_empty()).then(|| LanguageModel::start(setup.replies.clone()));
        // On a busy machine the recogniser may be far behind, and is waited for. A reply is not lowered while it is decided whether the
        // caller interrupts it: silence in his ear has to come from stopping it.
        let mut text = format!(
            "[server]\nlisten = \"{HTTP}\"\n[log]\nlevel = \"debug\"\n[turn]\nduck = 1.0\n[stt]\n\
             final_timeout_ms = 30000\n[llm]\n"
        );
        text.push_str(if model.is_some() {
            "backend = \"openai\"\nurl = \"http://127.0.0.1:8900/v1\"\n"
        } else {
            "backend = \"parrot\"\n"
        });
        let _ = match setup.greeting.as_str() {
            "" => write!(text, "[phone]\ngreet = false\n"),
            greeting => write!(text, "[phone]\ngreeting = {greeting:?}\n"),
        };
        text.push_str(setup.wire.configuration());
        std::fs::write(folder.path().join("repartee.toml"), text).expect("its folder can be written");
        let (child, log) = Self::spawn(folder.path().join("repartee.toml"));
        let server = Self {
            child,
            log,
            folder,
            setup: setup.clone(),
            _model: model,
        };
        server.wait_ready();
        // A build may know the settings of all wires before it has all wires.
        let served = match setup.wire {
            Wire::AudioSocketApp | Wire::AudioSocketChannel => true,
            Wire::WebSocketJson | Wire::WebSocketPlain => !get("/media").is_some_and(|answer| answer.contains(" 404 ")),
            Wire::RtpByAri => (0..60).any(|_| {
                crate::pause(Duration::from_millis(50));
                ari("GET", "applications/repartee").0 == 200
            }),
        };
        if !served {
            println!("skipped: this build does not serve {}", setup.wire.name());
            return None;
        }
        Some(server)
    }

    fn spawn(configuration: PathBuf) -> (Child, Log) {
        let mut child = repartee(&["serve", "--config"])
            .arg(configuration)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program is built");
        let log = Log::default();
        let kept = Arc::clone(&log);
        let lines = BufReader::new(child.stderr.take().expect("piped"));
        thread::spawn(move || {
            crate::phone::go_real_time();
            for line in lines.lines().map_while(Result::ok) {
                let at = now();
                kept.lock().unwrap_or_else(PoisonError::into_inner).push((at, line));
            }
        });
        (child, log)
    }

    fn wait_ready(&self) {
        until("the server is ready", START_LIMIT, || {
            get("/ready").is_some_and(|answer| answer.starts_with("HTTP/1.1 200"))
        });
    }

    /// Starts it again with the same configuration, after [`Server::kill`].
    pub(crate) fn restart(&mut self) {
        (self.child, self.log) = Self::spawn(self.folder.path().join("repartee.toml"));
        self.wait_ready();
    }

    /// Ends it as a crash does.
    pub(crate) fn kill(&mut self) {
        signal(self.child.id(), "KILL");
        let _ = self.child.wait();
    }

    pub(crate) const fn wire(&self) -> Wire {
        self.setup.wire
    }

    /// When it logged for the first time after `from` that a caller interrupts a reply. The line is read by another process than
    /// wrote it, which takes some ten microseconds.
    pub(crate) fn decided(&self, from: Time) -> Option<Time> {
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        log.iter()
            .find(|(at, line)| *at >= from && line.contains(DECISION))
            .map(|(at, _)| *at)
    }

    /// How many sessions are open.
    pub(crate) fn sessions(&self) -> usize {
        let metrics = get("/metrics").expect("the server answers");
        metrics
            .lines()
            .find_map(|line| line.strip_prefix("repartee_sessions_live "))
            .and_then(|count| count.trim().parse().ok())
            .expect("the metrics tell of sessions")
    }

    pub(crate) fn wait_sessions(&self, count: usize, limit: Duration) {
        until(&format!("{count} sessions"), limit, || self.sessions() == count);
    }

    /// The words that this server understands of what a caller heard.
    pub(crate) fn understand(&self, ear: &Ear, times: std::ops::Range<Time>) -> Vec<String> {
        let path = self.folder.path().join("heard.wav");
        ear.write_wav(&path, times);
        let path = path.to_str().expect("a plain name");
        let output = run(
            &["talk", path, "--url", HTTP, "--json", "--patience", "8"],
            Duration::from_secs(120),
        );
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
        let mut text = String::new();
        collect_transcripts(&answer, &mut text);
        words(&text)
    }
}

/// All transcripts within `value`, one after the other.
fn collect_transcripts(value: &Value, text: &mut String) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::String(found) if name == "transcript" => {
                        text.push_str(found);
                        text.push(' ');
                    }
                    value => collect_transcripts(value, text),
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| collect_transcripts(value, text)),
        _ => {}
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if thread::panicking() {
            let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
            println!("the end of the server's log:");
            for (at, line) in &log[log.len().saturating_sub(LOG_LINES)..] {
                println!("{:>8} ms {line}", at.as_millis());
            }
        }
        if matches!(self.child.try_wait(), Ok(None)) {
            // In order, so that it stops its workers; twice: without waiting for calls.
            signal(self.child.id(), "TERM");
            signal(self.child.id(), "TERM");
            let end = now() + Duration::from_secs(3);
            while now() < end && matches!(self.child.try_wait(), Ok(None)) {
                thread::park_timeout(Duration::from_millis(10));
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn get(path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(HTTP).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {HTTP}\r\nConnection: close\r\n\r\n"
    )
    .ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

/// A language model with OpenAI's interface that says what it was told to, one reply after the other, and then nothing more.
struct LanguageModel {
    stop: Arc<std::sync::atomic::AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl LanguageModel {
    fn start(replies: Vec<Reply>) -> Self {
        use std::sync::atomic::Ordering;
        let listener = TcpListener::bind(LANGUAGE_MODEL).expect("the namespace has this port for us");
        listener.set_nonblocking(true).expect("a listener takes it");
        let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut replies = replies.into_iter();
            while !stopped.load(Ordering::Acquire) {
                match listener.accept() {
                    Ok((stream, _)) => {
                        let _ = stream.set_nonblocking(false);
                        let _ = stream.set_read_timeout(Some(Duration::from_secs(2)));
                        let _ = answer(stream, &mut replies);
                    }
                    Err(_) => thread::park_timeout(Duration::from_millis(5)),
                }
            }
        });
        Self {
            stop,
            thread: Some(thread),
        }
    }
}

impl Drop for LanguageModel {
    fn drop(&mut self) {
        self.stop.store(true, std::sync::atomic::Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Answers one request of HTTP, and closes.
fn answer(mut stream: TcpStream, replies: &mut impl Iterator<Item = Reply>) -> std::io::Result<()> {
    let mut request = Vec::new();
    let mut buffer = [0; 16_384];
    // All of it must be read, or closing resets the connection.
    loop {
        let count = stream.read(&mut buffer)?;
        request.extend(&buffer[..count]);
        let text = String::from_utf8_lossy(&request);
        let length = |head: &str| {
            head.lines()
                .filter_map(|line| line.split_once(':'))
                .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
                .and_then(|(_, value)| value.trim().parse::<usize>().ok())
                .unwrap_or(0)
        };
        if count == 0
            || text
                .split_once("\r\n\r\n")
                .is_some_and(|(head, body)| body.len() >= length(head))
        {
            break;
        }
    }
    let head = |kind: &str| format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nConnection: close\r\n\r\n");
    if request.starts_with(b"GET") {
        let models = json!({"object": "list", "data": [{"id": "scripted", "object": "model"}]});
        return write!(stream, "{}{models}", head("application/json"));
    }
    let reply = replies.next().unwrap_or(Reply { text: "", tool: None });
    let mut deltas = vec![json!({"role": "assistant", "content": reply.text})];
    let mut reason = "stop";
    if let Some((name, arguments)) = reply.tool {
        reason = "tool_calls";
        deltas.push(json!({"tool_calls": [{"index": 0, "id": "call_1", "type": "function",
                           "function": {"name": name, "arguments": arguments.to_string()}}]}));
    }
    write!(stream, "{}", head("text/event-stream"))?;
    for delta in deltas {
        let chunk = json!({"choices": [{"index": 0, "delta": delta, "finish_reason": null}]});
        write!(stream, "data: {chunk}\n\n")?;
    }
    let end = json!({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]});
    write!(stream, "data: {end}\n\ndata: [DONE]\n\n")
}
