//! Asking Asterisk, over HTTP, and hearing from it, over a WebSocket.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use repartee_protocol::ari::{self, Event, Info, MAX_EVENT_BYTES, MAX_REPLY_BYTES, Message, Request, Version};
use reqwest::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE};
use reqwest::{Method, StatusCode, Upgraded, Url, redirect};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::{sleep, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::{client::generate_key, derive_accept_key};
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{self, Bytes};

use super::call::Failure;
use super::{AriOptions, AriState, OptionsError};
use crate::engine::Clock;
use crate::pii::Pii;

/// From a request to its reply.
const REPLY_LIMIT: Duration = Duration::from_secs(5);
/// Asterisk closes a connection that nothing was asked on for 15 s (`session_keep_alive` of http.conf): it isn't used again shortly
/// before that.
const KEEP_CONNECTION: Duration = Duration::from_secs(5);
/// Requests at the same time. Asterisk's HTTP server lets 10 connections wait to be accepted (`listen` in its main/tcptls.c): what comes
/// beyond that in one moment is lost, and tried again by TCP only after seconds. One is for the events.
const MOST_REQUESTS: usize = 8;
/// Between two signs of life that are asked for.
const PING: Duration = Duration::from_secs(15);
/// The first pause before it is connected again, and the longest.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// Asks Asterisk. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Client {
    http: reqwest::Client,
    base: Url,
    user: String,
    password: Pii<String>,
    turns: Arc<Semaphore>,
}

impl Client {
    pub(super) fn new(options: &AriOptions) -> Result<Self, OptionsError> {
        let address = |reason: &str| OptionsError::Url {
            reason: reason.to_owned(),
        };
        let mut base = Url::parse(&options.url).map_err(|error| address(&error.to_string()))?;
        if !matches!(base.scheme(), "http" | "https") {
            return Err(address("it begins with neither http:// nor https://"));
        }
        if !base.username().is_empty() || base.password().is_some() {
            return Err(address("the user and the password have settings of their own"));
        }
        base.set_query(None);
        base.set_fragment(None);
        let path = base.path().trim_end_matches('/').to_owned();
        base.set_path(if path.is_empty() { "/ari" } else { &path });
        // The process has one cryptography provider; it doesn't matter who installed it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = reqwest::Client::builder()
            .connect_timeout(REPLY_LIMIT)
            .pool_idle_timeout(KEEP_CONNECTION)
            .tcp_nodelay(true)
            .redirect(redirect::Policy::none());
        if is_loopback(&base) {
            // A proxy that is configured for the world can't reach what listens on our own loopback.
            builder = builder.no_proxy();
        }
        let http = builder.build().map_err(|error| OptionsError::Client {
            reason: error.without_url().to_string(),
        })?;
        Ok(Self {
            http,
            base,
            user: options.user.clone(),
            password: options.password.clone(),
            turns: Arc::new(Semaphore::new(MOST_REQUESTS)),
        })
    }

    /// Where a channel's sound is dialled that waits for us (`/media/ID` beside `/ari`).
    pub(super) fn media_url(&self, connection: &str) -> String {
        let mut url = self.base.clone();
        let scheme = if url.scheme() == "https" { "wss" } else { "ws" };
        // Both are special schemes with a host, between which a URL may change.
        let _ = url.set_scheme(scheme);
        let prefix = url.path().strip_suffix("/ari").unwrap_or_default().to_owned();
        url.set_path(&prefix);
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(["media", connection]);
        }
        url.into()
    }

    fn request(&self, request: &Request) -> reqwest::RequestBuilder {
        let method = match request.method() {
            ari::Method::Get => Method::GET,
            ari::Method::Post => Method::POST,
            ari::Method::Delete => Method::DELETE,
        };
        let url = format!("{}{}", self.base.as_str().trim_end_matches('/'), request.target());
        let asked = self
            .http
            .request(method, url)
            .basic_auth(&self.user, Some(self.password.expose()));
        match request.body() {
            Some(body) => asked
                .header(reqwest::header::CONTENT_TYPE, "application/json")
                .body(body.to_owned()),
            None => asked,
        }
    }

    /// Asks for something, and answers the body of the reply.
    pub(super) async fn ask(&self, request: &Request) -> Result<Vec<u8>, Failure> {
        let asked = async {
            let mut response = self.request(request).send().await.map_err(|error| unclear(&error))?;
            let status = response.status();
            let mut body = Vec::new();
            while let Some(chunk) = response.chunk().await.map_err(|error| unclear(&error))? {
                if body.len() + chunk.len() > MAX_REPLY_BYTES {
                    return Err(Failure::Unclear("a reply that is too long".to_owned()));
                }
                body.extend_from_slice(&chunk);
            }
            if status.is_success() {
                return Ok(body);
            }
            let reason = reason(status, &body);
            // What is wrong with the password, or goes on at the same time, may be otherwise the next time.
            let is_final = status.is_client_error()
                && !matches!(
                    status,
                    StatusCode::UNAUTHORIZED
                        | StatusCode::FORBIDDEN
                        | StatusCode::REQUEST_TIMEOUT
                        | StatusCode::TOO_MANY_REQUESTS
                );
            Err(match is_final {
                true => Failure::Refused(reason),
                false => Failure::Unclear(reason),
            })
        };
        // It is never closed.
        let _turn = self.turns.acquire().await;
        timeout(REPLY_LIMIT, asked)
            .await
            .unwrap_or_else(|_| Err(Failure::Unclear("no answer in time".to_owned())))
    }

    /// Asks for something that is there to be read.
    pub(super) async fn read<T: ari::Reply>(&self, request: &Request) -> Result<T, Failure> {
        let body = self.ask(request).await?;
        ari::parse_reply(&body).map_err(|error| Failure::Unclear(error.to_string()))
    }

    /// Connects as the application `app`.
    async fn events(&self, app: &str) -> Result<WebSocketStream<Upgraded>, String> {
        let key = generate_key();
        let response = self
            .request(&Request::events(app))
            .header(CONNECTION, "Upgrade")
            .header(UPGRADE, "websocket")
            .header(SEC_WEBSOCKET_VERSION, "13")
            .header(SEC_WEBSOCKET_KEY, &key)
            .send()
            .await
            .map_err(|error| unclear(&error).reason().to_owned())?;
        let status = response.status();
        if status != StatusCode::SWITCHING_PROTOCOLS {
            return Err(match status {
                StatusCode::UNAUTHORIZED => "the user or the password is refused".to_owned(),
                StatusCode::NOT_FOUND => "there is no ARI at this address".to_owned(),
                status => format!("it answers {status}, where a WebSocket was expected"),
            });
        }
        let accept = response.headers().get(SEC_WEBSOCKET_ACCEPT);
        if accept.is_none_or(|accept| accept.as_bytes() != derive_accept_key(key.as_bytes()).as_bytes()) {
            return Err("it doesn't answer as a WebSocket does".to_owned());
        }
        let stream = response
            .upgrade()
            .await
            .map_err(|error| unclear(&error).reason().to_owned())?;
        let config = WebSocketConfig::default()
            .max_message_size(Some(MAX_EVENT_BYTES))
            .max_frame_size(Some(MAX_EVENT_BYTES));
        Ok(WebSocketStream::from_raw_socket(stream, Role::Client, Some(config)).await)
    }
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// Asterisk's own words, with the number.
fn reason(status: StatusCode, body: &[u8]) -> String {
    let words = ari::parse_reply::<ari::Failure>(body).map(|failure| failure.message);
    match words.ok().and_then(|words| crate::phone::tidy(&words)) {
        Some(words) => format!("{words} ({})", status.as_u16()),
        None => status.to_string(),
    }
}

/// An error without the address, which names the caller's channel, but with its causes.
fn unclear(error: &reqwest::Error) -> Failure {
    let mut text = if error.is_connect() {
        "can't connect".to_owned()
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
    Failure::Unclear(text)
}

/// What is heard from Asterisk.
#[derive(Debug)]
pub(super) enum Heard {
    /// We are connected; what happened before was missed.
    Connected(Option<Version>),
    /// Something has happened.
    Event(Box<Event>),
}

/// Stays connected as the application `app`, and connects again, until the receiver is dropped or another program has taken the
/// application over.
pub(super) async fn listen(client: Client, app: String, heard: mpsc::Sender<Heard>, state: watch::Sender<AriState>) {
    let mut failures = 0_u32;
    loop {
        let connecting = timeout(REPLY_LIMIT, client.events(&app));
        let lost = match connecting.await.unwrap_or_else(|_| Err("no answer in time".to_owned())) {
            Ok(socket) => {
                let info = client.read::<Info>(&Request::info()).await;
                let version = info.map(|info| info.version).unwrap_or_default();
                tracing::info!(app, "connected to Asterisk {version}");
                if heard.send(Heard::Connected(Version::parse(&version))).await.is_err() {
                    return;
                }
                let since = Clock::start();
                state.send_replace(AriState::Connected { version, since });
                let end = follow(socket, &heard).await;
                // What breaks at once is not hurried after.
                if since.now().since(crate::time::Time::ZERO) > BACKOFF.1 {
                    failures = 0;
                }
                end
            }
            Err(reason) => End::Lost(reason),
        };
        let reason = match lost {
            End::Lost(reason) => reason,
            End::Unwanted => return,
            End::Replaced => {
                tracing::error!(
                    app,
                    "another program has taken over this application of Asterisk's: no calls come here any more until \
                     this one is started again. Give each program an application of its own"
                );
                state.send_replace(AriState::Replaced);
                return;
            }
        };
        let pause = backoff(failures, random());
        failures = failures.saturating_add(1);
        let is_news = !matches!(&*state.borrow(), AriState::Lost { reason: before } if *before == reason);
        if is_news {
            tracing::warn!(app, "not connected to Asterisk: {reason}");
        }
        state.send_replace(AriState::Lost { reason });
        sleep(pause).await;
        if heard.is_closed() {
            return;
        }
    }
}

fn random() -> u32 {
    getrandom::u32().unwrap_or_default()
}

/// The pause after so many failures in a row: doubled each time, and a random half of it is left out.
fn backoff(failures: u32, random: u32) -> Duration {
    let full = BACKOFF.0.saturating_mul(1 << failures.min(10)).min(BACKOFF.1);
    let part = full.mul_f64(f64::from(random) / f64::from(u32::MAX) / 2.0);
    full - part
}

/// Why a connection is over.
enum End {
    Lost(String),
    Replaced,
    /// Nobody wants to hear any more.
    Unwanted,
}

async fn follow(mut socket: WebSocketStream<Upgraded>, heard: &mpsc::Sender<Heard>) -> End {
    let mut is_silent = false;
    loop {
        let message = match timeout(PING, socket.next()).await {
            Err(_) if is_silent => return End::Lost("it gives no sign of life".to_owned()),
            Err(_) => {
                is_silent = true;
                let ping = timeout(REPLY_LIMIT, socket.send(tungstenite::Message::Ping(Bytes::new())));
                if !matches!(ping.await, Ok(Ok(()))) {
                    return End::Lost("it takes nothing any more".to_owned());
                }
                continue;
            }
            Ok(None | Some(Ok(tungstenite::Message::Close(_)))) => {
                return End::Lost("it has closed the connection".to_owned());
            }
            Ok(Some(Err(error))) => return End::Lost(format!("the connection broke: {error}")),
            Ok(Some(Ok(message))) => message,
        };
        is_silent = false;
        let tungstenite::Message::Text(text) = message else {
            continue;
        };
        let event = match Message::parse(&text) {
            Ok(message) => message.event,
            Err(error) => {
                tracing::debug!("an event of Asterisk's that can't be read: {error}");
                continue;
            }
        };
        match event {
            Event::ApplicationReplaced => return End::Replaced,
            Event::Unknown(_) | Event::ChannelVarset { .. } | Event::Dial { .. } => {}
            event => {
                if heard.send(Heard::Event(Box::new(event))).await.is_err() {
                    return End::Unwanted;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::ari::Media;

    fn client(url: &str) -> Result<Client, OptionsError> {
        Client::new(&AriOptions::new(
            url,
            "u",
            "p",
            "a",
            Media::AudioSocket {
                address: "127.0.0.1:9092".to_owned(),
            },
        ))
    }

    #[test]
    fn addresses_are_taken_as_people_write_them() {
        for (url, base, media) in [
            ("http://pbx:8088", "http://pbx:8088/ari", "ws://pbx:8088/media/x%2Fy"),
            (
                "http://pbx:8088/ari/",
                "http://pbx:8088/ari",
                "ws://pbx:8088/media/x%2Fy",
            ),
            (
                "https://pbx/asterisk/ari",
                "https://pbx/asterisk/ari",
                "wss://pbx/asterisk/media/x%2Fy",
            ),
        ] {
            let client = client(url).unwrap();
            assert_eq!(client.base.as_str(), base);
            assert_eq!(client.media_url("x/y"), media);
        }
        for url in ["pbx:8088", "", "ftp://pbx", "http://u:p@pbx"] {
            assert!(client(url).is_err(), "{url}");
        }
        let secret = format!("{:?}", client("http://pbx").unwrap());
        assert!(!secret.contains("\"p\""), "{secret}");
    }

    #[test]
    fn pauses_grow_up_to_a_bound_and_differ() {
        assert_eq!(backoff(0, 0), Duration::from_millis(500));
        assert_eq!(backoff(0, u32::MAX), Duration::from_millis(250));
        assert_eq!(backoff(3, 0), Duration::from_secs(4));
        for failures in [6, 30, u32::MAX] {
            assert_eq!(backoff(failures, 0), Duration::from_secs(30));
            assert_eq!(backoff(failures, u32::MAX), Duration::from_secs(15));
        }
    }
}
