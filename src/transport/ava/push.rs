//! The status is pushed to AVA's Admin UI, where a token for that is set: every few seconds, and after each switch.

use std::time::Duration;

use repartee_protocol::ava::Reply;
use reqwest::{Client, Url};
use serde_json::{Value, json};

use super::Ava;

/// Where the Admin UI is when nobody says.
const ADMIN: &str = "http://127.0.0.1:3003";

/// What is pushed.
fn body(status: &Value) -> Value {
    let models = &status["models"];
    let loaded = ["stt", "llm", "tts"]
        .iter()
        .filter(|job| models[**job]["loaded"] == true)
        .count();
    let errors: Vec<String> = status["config"]["startup_errors"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(job, reason)| format!("{job}: {}", reason.as_str().unwrap_or_default()))
        .collect();
    let is_ready = errors.is_empty() && loaded == 3;
    json!({
        "source": "local_ai_server",
        "components": { "local_ai_server": {
            "state": if is_ready { "ready" } else { "degraded" },
            "summary": format!("Local AI {}, {loaded}/3 models loaded", if is_ready { "ready" } else { "degraded" }),
            "details": status,
            "metrics": {
                "models_loaded": loaded, "models_total": 3, "runtime_mode": status["config"]["runtime_mode"],
            },
            "warnings": [],
            "errors": errors,
        } },
    })
}

/// Pushes for as long as it is polled; returns at once where there is no token. What can't be pushed is told once, and tried again.
pub async fn push_status(ava: Ava) {
    let server = ava.server();
    let token = server.live_status_token.expose().to_owned();
    if token.is_empty() {
        return;
    }
    let base = match server.live_status_url.trim_end_matches('/') {
        "" => ADMIN,
        url => url,
    };
    let seconds = |number: f64| Duration::try_from_secs_f64(number).unwrap_or(Duration::from_secs(10));
    let (interval, limit) = (
        seconds(server.live_status_interval_s),
        seconds(server.live_status_timeout_s),
    );
    let Ok(url) = Url::parse(&format!("{base}/api/system/live-status/publish")) else {
        tracing::warn!("LIVE_STATUS_ADMIN_URL is no address of a server; the status isn't pushed");
        return;
    };
    // The process has one cryptography provider; it doesn't matter who installed it.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = Client::builder()
        .timeout(limit)
        .redirect(reqwest::redirect::Policy::none());
    let client = match client.build() {
        Ok(client) => client,
        Err(error) => {
            tracing::warn!("the status isn't pushed: {error}");
            return;
        }
    };
    let mut told = false;
    loop {
        let status = serde_json::from_str(&Reply::from(ava.status()).to_json()).unwrap_or_default();
        let pushed = client
            .post(url.clone())
            .bearer_auth(&token)
            .json(&body(&status))
            .send()
            .await
            .and_then(reqwest::Response::error_for_status);
        match pushed {
            Ok(_) => told = false,
            Err(error) => {
                if !std::mem::replace(&mut told, true) {
                    tracing::warn!("the status could not be pushed: {}", error.without_url());
                }
            }
        }
        // A switch is news at once.
        let _ = tokio::time::timeout(interval, ava.control().changed.notified()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_three_make_it_ready() {
        let status = |llm: bool| {
            json!({
                "models": { "stt": { "loaded": true }, "llm": { "loaded": llm }, "tts": { "loaded": true } },
                "config": { "startup_errors": {}, "runtime_mode": "full" },
            })
        };
        let component = |llm| body(&status(llm))["components"]["local_ai_server"].clone();
        assert_eq!(component(true)["state"], "ready");
        assert_eq!(component(true)["summary"], "Local AI ready, 3/3 models loaded");
        assert_eq!(component(false)["state"], "degraded");
        assert_eq!(component(false)["metrics"]["models_loaded"], 2);
    }
}
