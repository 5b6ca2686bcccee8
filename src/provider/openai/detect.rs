//! Finding a server that is there: asked for its models, all at once, for a fraction of a second.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::timeout;

use super::{ClientError, Connection, bounded_body, chain};
use crate::pii::Pii;

/// A server to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Its name, for messages: "ollama".
    pub name: String,
    /// Its address: `http://127.0.0.1:11434/v1`.
    pub base: String,
    /// Sent as a bearer token.
    pub api_key: Option<Pii<String>>,
}

/// Where servers listen by their own default, in the order in which they are preferred. llama-server's own default,
/// 8080, is ours; 8081 is where its users move it.
pub const LOCAL_SERVERS: [(&str, &str); 4] = [
    ("ollama", "http://127.0.0.1:11434/v1"),
    ("vllm", "http://127.0.0.1:8000/v1"),
    ("llama-server", "http://127.0.0.1:8081/v1"),
    ("lm-studio", "http://127.0.0.1:1234/v1"),
];

/// How long a server may take to name its models. One on this machine takes a few milliseconds.
pub const PROBE_TIMEOUT: Duration = Duration::from_millis(300);

/// A server did not name its models.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProbeError {
    /// It can't be asked.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Nothing answers there.
    #[error("{base} doesn't answer: {reason}")]
    Silent {
        /// Which address.
        base: String,
        /// Why.
        reason: String,
    },
    /// Something answers, but not as a server of language models does.
    #[error("{base} answers, but doesn't name its models: {reason}")]
    Strange {
        /// Which address.
        base: String,
        /// What it does instead.
        reason: String,
    },
}

/// A list of models is a few kilobytes; OpenAI's own has some fifty.
const MODELS_BYTES_MAX: usize = 1 << 20;

/// The models that a server offers for conversation, in its order (Ollama: the newest first).
///
/// # Errors
/// See [`ProbeError`]; a server without models is no error.
pub async fn probe(server: &Server, limit: Duration) -> Result<Vec<String>, ProbeError> {
    let connection = Connection::new(&server.base, server.api_key.clone(), limit)?;
    let silent = |reason: String| ProbeError::Silent {
        base: server.base.clone(),
        reason,
    };
    let strange = |reason: String| ProbeError::Strange {
        base: server.base.clone(),
        reason,
    };
    let ask = async {
        let request = connection.request(reqwest::Method::GET, "models");
        let response = request.send().await.map_err(|error| silent(chain(&error)))?;
        let status = response.status();
        if !status.is_success() {
            return Err(strange(format!("HTTP {}", status.as_u16())));
        }
        let body = bounded_body(response, MODELS_BYTES_MAX).await;
        super::wire::models(&body).ok_or_else(|| strange("it answers with something else".to_owned()))
    };
    timeout(limit, ask)
        .await
        .unwrap_or_else(|_| Err(silent("no answer in time".to_owned())))
}

/// A server that answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Which one.
    pub server: Server,
    /// Its models for conversation; never empty.
    pub models: Vec<String>,
}

/// The first of `candidates` that answers and has a model. All are asked at once, so it takes as long as the slowest, and
/// at most `limit`. Without `candidates`, those of [`LOCAL_SERVERS`].
pub async fn detect(candidates: &[Server], limit: Duration) -> Option<Found> {
    let local: Vec<Server>;
    let candidates = if candidates.is_empty() {
        let servers = LOCAL_SERVERS.iter().map(|(name, base)| Server {
            name: (*name).to_owned(),
            base: (*base).to_owned(),
            api_key: None,
        });
        local = servers.collect();
        &local
    } else {
        candidates
    };
    let answers = join_all(candidates.iter().map(|server| probe(server, limit))).await;
    candidates
        .iter()
        .zip(answers)
        .find_map(|(server, answer)| match answer {
            Ok(models) if !models.is_empty() => Some(Found {
                server: server.clone(),
                models,
            }),
            Ok(_) => {
                tracing::info!(server = %server.name, base = %server.base, "it has no model for conversation");
                None
            }
            Err(error) => {
                tracing::debug!(server = %server.name, %error, "no language model here");
                None
            }
        })
}
