//! Language models behind OpenAI's chat completions: Ollama, vLLM, llama-server, and OpenAI itself.
//!
//! Each generation is a task on the runtime that was named at construction, and a bounded channel from it. Dropping the
//! stream aborts the task, which drops the response, which closes the connection: that is what makes a server stop.

mod detect;
mod sse;
mod wire;

use std::net::IpAddr;
use std::task::{Context, Poll};
use std::time::Duration;

use reqwest::{Client, Response, StatusCode, Url, redirect};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::timeout;

pub use self::detect::{Found, LOCAL_SERVERS, PROBE_TIMEOUT, ProbeError, Server, detect, probe};
use self::sse::EventParser;
use self::wire::{Assembly, Broken, Request};
use crate::backend::{Capabilities, LlmBackend, LlmRequest, LlmStream, OpenError};
use crate::call::{BackendKind, LlmEvent, Prompt, StageFailure};
use crate::id::Generation;
use crate::pii::Pii;

/// The name under which failures are told.
const NAME: &str = "openai";

/// Which server, which model, and how long to wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenaiOptions {
    /// The address up to and without `/chat/completions`: `http://127.0.0.1:11434/v1`.
    pub base: String,
    /// The model by the server's name for it.
    pub model: String,
    /// Sent as a bearer token.
    pub api_key: Option<Pii<String>>,
    /// Until the connection stands.
    pub connect_timeout: Duration,
    /// From the request to the first event. A server that loads its model first needs tens of seconds.
    pub first_event_timeout: Duration,
    /// From each event to the next.
    pub next_event_timeout: Duration,
}

impl OpenaiOptions {
    /// This model on this server, without a key, with 2 s to connect, 60 s to the first event, 15 s between events.
    #[must_use]
    pub fn new(base: &str, model: &str) -> Self {
        Self {
            base: base.to_owned(),
            model: model.to_owned(),
            api_key: None,
            connect_timeout: Duration::from_secs(2),
            first_event_timeout: Duration::from_secs(60),
            next_event_timeout: Duration::from_secs(15),
        }
    }
}

/// The client could not be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// The address isn't one.
    #[error("{base:?} is no address of a server: {reason} (right would be http://127.0.0.1:11434/v1)")]
    Address {
        /// What was given.
        base: String,
        /// What is wrong with it.
        reason: String,
    },
    /// TLS could not be set up.
    #[error("the HTTP client can't be set up: {reason}")]
    Setup {
        /// Why.
        reason: String,
    },
}

/// A model on a server.
#[derive(Debug)]
pub struct OpenaiBackend {
    capabilities: Capabilities,
    connection: Connection,
    options: OpenaiOptions,
    runtime: Handle,
}

impl OpenaiBackend {
    /// The backend. Nothing is sent yet; see [`probe`]. Its requests run on `runtime`, from whichever thread they come.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn new(options: OpenaiOptions, generation: Generation, runtime: Handle) -> Result<Self, ClientError> {
        let connection = Connection::new(&options.base, options.api_key.clone(), options.connect_timeout)?;
        Ok(Self {
            capabilities: Capabilities {
                streaming: true,
                ..Capabilities::new(BackendKind::Llm, NAME, &options.model, generation)
            },
            connection,
            options,
            runtime,
        })
    }
}

/// A server, and how to speak to it.
#[derive(Clone, Debug)]
struct Connection {
    client: Client,
    base: Url,
    api_key: Option<Pii<String>>,
}

impl Connection {
    fn new(base: &str, api_key: Option<Pii<String>>, connect_timeout: Duration) -> Result<Self, ClientError> {
        let address = |reason: &str| ClientError::Address {
            base: base.to_owned(),
            reason: reason.to_owned(),
        };
        let mut url = Url::parse(base).map_err(|error| address(&error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(address("it begins with neither http:// nor https://"));
        }
        // `Url::join` replaces what follows the last slash.
        if !url.path().ends_with('/') {
            url.set_path(&format!("{}/", url.path()));
        }
        // The process has one cryptography provider; it doesn't matter who installed it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = Client::builder()
            .connect_timeout(connect_timeout)
            .tcp_nodelay(true)
            .redirect(redirect::Policy::none());
        if is_loopback(&url) {
            // A proxy that is configured for the world can't reach what listens on our own loopback.
            builder = builder.no_proxy();
        }
        let client = builder
            .build()
            .map_err(|error| ClientError::Setup { reason: chain(&error) })?;
        Ok(Self {
            client,
            base: url,
            api_key,
        })
    }

    fn request(&self, method: reqwest::Method, path: &str) -> reqwest::RequestBuilder {
        let url = self.base.join(path).unwrap_or_else(|_| self.base.clone());
        let request = self.client.request(method, url);
        match &self.api_key {
            Some(key) => request.bearer_auth(key.expose()),
            None => request,
        }
    }
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// An error with its causes, which `reqwest` leaves out; without the address, which may hold a password.
fn chain(error: &reqwest::Error) -> String {
    let mut text = if error.is_connect() {
        "can't connect".to_owned()
    } else if error.is_timeout() {
        "no answer in time".to_owned()
    } else {
        "the connection failed".to_owned()
    };
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let words = cause.to_string();
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        source = cause.source();
    }
    text
}

impl LlmBackend for OpenaiBackend {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn generate(&self, LlmRequest { prompt, .. }: LlmRequest) -> Result<Box<dyn LlmStream>, OpenError> {
        let (sender, receiver) = mpsc::channel(CHANNEL_EVENTS);
        let task = Task {
            connection: self.connection.clone(),
            options: self.options.clone(),
            prompt,
            sender,
        };
        let task = self.runtime.spawn(task.run());
        Ok(Box::new(Stream {
            receiver,
            task: task.abort_handle(),
        }))
    }
}

/// Events that may wait to be polled; then the server is read no further.
const CHANNEL_EVENTS: usize = 64;

struct Stream {
    receiver: mpsc::Receiver<LlmEvent>,
    task: AbortHandle,
}

impl LlmStream for Stream {
    fn poll_event(&mut self, context: &mut Context<'_>) -> Poll<LlmEvent> {
        self.receiver.poll_recv(context).map(|event| {
            // The task ends without a last event only when its runtime goes.
            event.unwrap_or_else(|| LlmEvent::Failed(failure("the program is ending", false)))
        })
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn failure(reason: impl Into<String>, retry: bool) -> StageFailure {
    StageFailure {
        backend: NAME.to_owned(),
        reason: reason.into(),
        retry,
        retry_after_ms: if retry { RETRY_AFTER_MS } else { 0 },
    }
}

/// A server that was busy or is starting again is left alone for this long.
const RETRY_AFTER_MS: u32 = 250;

/// The task of one generation.
struct Task {
    connection: Connection,
    options: OpenaiOptions,
    prompt: Prompt,
    sender: mpsc::Sender<LlmEvent>,
}

/// Nobody listens any more.
struct Cancelled;

impl Task {
    async fn run(self) {
        let last = match self.generate().await {
            Ok(events) => events,
            Err(failure) => vec![LlmEvent::Failed(failure)],
        };
        for event in last {
            if self.sender.send(event).await.is_err() {
                break;
            }
        }
    }

    async fn send_text(&self, text: String) -> Result<(), Cancelled> {
        let event = LlmEvent::Delta { text: Pii::new(text) };
        self.sender.send(event).await.map_err(|_| Cancelled)
    }

    /// Gives all deltas, and returns the events of the end.
    async fn generate(&self) -> Result<Vec<LlmEvent>, StageFailure> {
        let mut parser = EventParser::default();
        let mut assembly = Assembly::default();
        let begin = async {
            let mut response = self.open().await?;
            let chunks = next_chunks(&mut response, &mut parser).await?;
            Ok((response, chunks))
        };
        let (mut response, mut chunks) = timeout(self.options.first_event_timeout, begin)
            .await
            .unwrap_or_else(|_| Err(failure("it didn't begin to answer in time", true)))?;
        while let Some(complete) = chunks {
            for chunk in complete {
                if chunk.trim() == "[DONE]" {
                    return Ok(assembly.finish());
                }
                let text = assembly.take(&chunk).map_err(|broken| match broken {
                    Broken::Server(words) => failure(wire::presentable(&words, &self.prompt), true),
                    Broken::Unreadable(reason) => failure(reason, false),
                })?;
                if let Some(text) = text
                    && self.send_text(text).await.is_err()
                {
                    return Ok(Vec::new());
                }
            }
            // Counted from here: a listener that holds us back isn't the server's silence.
            chunks = timeout(self.options.next_event_timeout, next_chunks(&mut response, &mut parser))
                .await
                .unwrap_or_else(|_| Err(failure("it fell silent in the middle of its answer", true)))?;
        }
        if assembly.is_finished() {
            Ok(assembly.finish())
        } else {
            Err(failure("it ended the connection in the middle of its answer", true))
        }
    }

    /// Sends the request, and waits for the head of a good answer.
    async fn open(&self) -> Result<Response, StageFailure> {
        let request = self
            .connection
            .request(reqwest::Method::POST, "chat/completions")
            .json(&Request::new(&self.options.model, &self.prompt));
        let response = request.send().await.map_err(|error| failure(chain(&error), true))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let retry = status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error();
        let body = timeout(BODY_TIMEOUT, bounded_body(response, BODY_BYTES_MAX)).await;
        let words = wire::presentable(&wire::refusal(&body.unwrap_or_default()), &self.prompt);
        Err(failure(format!("HTTP {}: {words}", status.as_u16()), retry))
    }
}

/// The data of the next events, at least one; none at the end. Comments, with which proxies keep connections open, are
/// none and don't end the wait.
async fn next_chunks(response: &mut Response, parser: &mut EventParser) -> Result<Option<Vec<String>>, StageFailure> {
    let mut chunks = Vec::new();
    while chunks.is_empty() {
        let bytes = response.chunk().await.map_err(|error| failure(chain(&error), true))?;
        let Some(bytes) = bytes else { return Ok(None) };
        parser
            .push(&bytes, |data| chunks.push(data.to_owned()))
            .map_err(|_| failure("it sent an event without end", false))?;
    }
    Ok(Some(chunks))
}

/// Of a refusal's body so much is read, and for so long.
const BODY_BYTES_MAX: usize = 4 << 10;
const BODY_TIMEOUT: Duration = Duration::from_secs(2);

/// The first `limit` bytes of a body.
async fn bounded_body(mut response: Response, limit: usize) -> Vec<u8> {
    let mut body = Vec::new();
    while let Ok(Some(bytes)) = response.chunk().await {
        let room = limit - body.len();
        body.extend_from_slice(&bytes[..bytes.len().min(room)]);
        if body.len() == limit {
            break;
        }
    }
    body
}

#[cfg(test)]
mod tests;
