//! An application of Asterisk's REST interface (ARI): it answers the calls that the dialplan gives to `Stasis(name)`.
//!
//! For each call a bridge is made and a channel whose sound comes to one of the wires ("externalMedia"), and both are put together with
//! the caller. Before the sound comes, the call is announced ([`Phones::announced`]), so the wire knows who calls, and the language model
//! has tools that Asterisk carries out: `hangup`, `transfer`, `send_dtmf`, `hold`. Keys come by ARI.
//!
//! A call is a state machine without a clock or a socket ([`call`]); [`exchange`] moves what goes in and out of it; [`client`] speaks
//! HTTP. Bridges and media channels have names by which they are known as ours, so what a crash has left is found and deleted.

mod call;
mod client;
mod exchange;
mod names;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use repartee_protocol::ari::{Info, Request, Version};
use repartee_protocol::chan_websocket::Format;
use tokio::sync::watch;

pub use self::call::Afterwards;
use self::client::Client;
use crate::engine::Clock;
use crate::phone::{Key, Phones};
use crate::pii::Pii;

/// The wire by which sound comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Media {
    /// AudioSocket.
    AudioSocket {
        /// Where Asterisk reaches it: `10.0.0.5:9092`.
        address: String,
    },
    /// chan_websocket.
    ChanWebsocket {
        /// Asterisk connects to us, as this section of its websocket_client.conf says; otherwise we connect to it, at `/media` beside
        /// `/ari`.
        client: Option<String>,
    },
    /// RTP.
    Rtp {
        /// The host name or address at which Asterisk reaches us; each call has a port of its own.
        host: String,
    },
}

/// What the application is told at its start.
#[derive(Clone, Debug)]
pub struct AriOptions {
    /// Asterisk's HTTP server, with or without `/ari`: `http://127.0.0.1:8088`.
    pub url: String,
    /// The user in its ari.conf.
    pub user: String,
    /// The password there.
    pub password: Pii<String>,
    /// The application's name: that of `Stasis(name)`. Each program needs one of its own.
    pub app: String,
    /// The wire by which sound comes.
    pub media: Media,
    /// How Asterisk is to send it, by Asterisk's name: `slin16`. AudioSocket takes slin of any rate.
    pub format: String,
    /// Whether chan_websocket's events are to be JSON (Asterisk 20.18, 22.8, 23.2 and later); plain text otherwise.
    pub json: bool,
    /// The context of the dialplan in which callers are transferred.
    pub transfer_context: String,
    /// Variables of a channel that the session is to know: `ACCOUNT`, `PJSIP_HEADER(read,X-Reason)`. 32 at most.
    pub variables: Vec<String>,
    /// What becomes of a caller for whom there is no session (any more), and who has not been hung up by a tool.
    pub afterwards: Afterwards,
}

impl AriOptions {
    /// With sound as `slin16`, JSON, transfers into `default`, no variables, and the dialplan going on afterwards.
    #[must_use]
    pub fn new(url: &str, user: &str, password: &str, app: &str, media: Media) -> Self {
        Self {
            url: url.to_owned(),
            user: user.to_owned(),
            password: Pii::from(password),
            app: app.to_owned(),
            media,
            format: "slin16".to_owned(),
            json: true,
            transfer_context: "default".to_owned(),
            variables: Vec::new(),
            afterwards: Afterwards::default(),
        }
    }
}

/// Options that make no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OptionsError {
    /// The address isn't one.
    #[error("no address of Asterisk's HTTP server: {reason} (right would be http://127.0.0.1:8088)")]
    Url {
        /// What is wrong with it.
        reason: String,
    },
    /// An application must have a name that the dialplan can write.
    #[error("an application's name has letters, digits, - _ and . only")]
    App,
    /// The wire has no such format.
    #[error("{format:?} is no format that this wire carries")]
    Format {
        /// What was asked for.
        format: String,
    },
    /// HTTP or TLS could not be set up.
    #[error("the HTTP client can't be set up: {reason}")]
    Client {
        /// Why.
        reason: String,
    },
}

/// Whether Asterisk is there.
#[derive(Clone, Debug)]
pub enum AriState {
    /// It has not been reached yet.
    Connecting,
    /// Calls come.
    Connected {
        /// Its version; empty where it doesn't say.
        version: String,
        /// A clock that began when it was connected.
        since: Clock,
    },
    /// It can't be reached, for now: it is tried again and again.
    Lost {
        /// Why, in words for an operator.
        reason: String,
    },
    /// Another program has taken over the application. That is not fought over: this one must be started again.
    Replaced,
}

/// A UDP port for one call's RTP; it is given back when this is dropped.
pub trait RtpPort: fmt::Debug + Send {
    /// Its number.
    fn port(&self) -> u16;

    /// Where Asterisk's own end is: what comes from elsewhere is a stranger's, and this is where the reply is sent.
    fn set_peer(&mut self, peer: SocketAddr);
}

/// A channel of chan_websocket that waits to be connected to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dial {
    /// `ws://asterisk:8088/media/ID` (wss where ARI is https), subprotocol `media`. The id in it is its only secret.
    pub url: String,
    /// The key under which the call is announced: it must be taken with this.
    pub key: Key,
}

/// What this room needs of wires, which it doesn't know.
#[derive(Clone, Default)]
pub struct Hooks {
    /// Connects to a channel that waits; must return at once. Without it, [`Media::ChanWebsocket`] without a client has no sound.
    pub dial: Option<Arc<dyn Fn(Dial) + Send + Sync>>,
    /// Gives a port; none when all are taken. Without it, [`Media::Rtp`] has no sound.
    pub rtp: Option<ReservePort>,
}

/// See [`Hooks::rtp`].
pub type ReservePort = Arc<dyn Fn() -> Option<Box<dyn RtpPort>> + Send + Sync>;

impl fmt::Debug for Hooks {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Hooks")
    }
}

/// See the [module](self).
#[derive(Debug)]
pub struct Ari {
    phones: Phones,
    options: AriOptions,
    hooks: Hooks,
    client: Client,
    format: Format,
    state: watch::Sender<AriState>,
}

/// Asks Asterisk who it is, and what it can do for a call's sound, in words. Nothing is connected, and a program that is the
/// application now stays it.
///
/// # Errors
/// Why it doesn't answer, in words.
pub async fn version(options: &AriOptions) -> Result<String, String> {
    let client = Client::new(options).map_err(|error| error.to_string())?;
    let info: Info = client
        .read(&Request::info())
        .await
        .map_err(|failure| failure.reason().to_owned())?;
    let Some(version) = Version::parse(&info.version) else {
        return Ok(format!("Asterisk {}", info.version));
    };
    let audiosocket = match (version.audiosocket_has_digits(), version.audiosocket_has_rates()) {
        (_, true) => "AudioSocket with keys and wideband",
        (true, false) => "AudioSocket with keys, 8 kHz (asterisk.format = slin)",
        (false, false) => "AudioSocket, 8 kHz (asterisk.format = slin)",
    };
    let websocket = match (version.has_chan_websocket(), version.chan_websocket_has_json()) {
        (true, true) => "chan_websocket with JSON",
        (true, false) => "chan_websocket in plain text (asterisk.json = false)",
        (false, _) => "no chan_websocket",
    };
    Ok(format!("Asterisk {}: {audiosocket}; {websocket}; RTP", info.version))
}

impl Ari {
    /// An application whose calls are answered by `phones`. Nothing is connected yet.
    ///
    /// # Errors
    /// See [`OptionsError`].
    pub fn new(phones: Phones, options: AriOptions, hooks: Hooks) -> Result<Self, OptionsError> {
        let client = Client::new(&options)?;
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if options.app.is_empty() || options.app.len() > 64 || !options.app.bytes().all(is_name) {
            return Err(OptionsError::App);
        }
        let format = Format::from_name(&options.format);
        let is_carried = match (&options.media, &format) {
            (_, Format::Slin(_)) => true,
            (Media::AudioSocket { .. }, _) | (_, Format::Unknown(_)) => false,
            (Media::ChanWebsocket { .. } | Media::Rtp { .. }, _) => true,
        };
        if !is_carried {
            return Err(OptionsError::Format { format: options.format });
        }
        Ok(Self {
            phones,
            options,
            hooks,
            client,
            format,
            state: watch::Sender::new(AriState::Connecting),
        })
    }

    /// Whether Asterisk is there, now and whenever that changes.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<AriState> {
        self.state.subscribe()
    }

    /// Answers calls for as long as it is polled. A server that goes away polls it until the engine has no sessions any more: calls are
    /// taken down here.
    pub async fn run(self) {
        exchange::run(self).await;
    }
}
