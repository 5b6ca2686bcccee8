//! The telephone: which of its wires listen, what a call is told, and how the wires are joined with the ARI application.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::super::Failure;
use super::{listen, networks, say, settings};
use crate::audio::Patience;
use crate::call::{Digit, KeyCollection, Settings};
use crate::config::{self, Codec, Config, Full, LlmBackend, Network, Secret, Telephone, Terminator};
use crate::engine::Engine;
use crate::phone::{Admission, PhoneOptions, Phones};
use crate::pii::Pii;
use crate::transport::ari::{self, Ari, AriOptions, AriState, Hooks, RtpPort};
use crate::transport::audiosocket::{self, AudioSocketOptions};
use crate::transport::chan_websocket::{self, ChanWebsocketOptions};
use crate::transport::rtp::{self, Answer, Ports, ReservedPort, RtpOptions};
use crate::transport::twilio::{self, TwilioOptions};
use crate::transport::vosk::{self, VoskOptions};

/// The wires as they run.
pub(super) struct Running {
    phones: Phones,
    /// What stands on the main port.
    routes: Router,
    tasks: Vec<JoinHandle<()>>,
    /// Ends with the last call, not before: it takes down what it has made.
    ari: Option<JoinHandle<()>>,
    stop_vosk: Option<oneshot::Sender<()>>,
}

/// What a call is told.
fn options(config: &Config) -> PhoneOptions {
    let phone = &config.telephone.phone;
    let engine = settings::of(config);
    let keys = KeyCollection {
        terminator: match phone.keys_terminator {
            Terminator::Pound => Digit::new('#'),
            Terminator::Star => Digit::new('*'),
            Terminator::None => None,
        },
        timeout_ms: phone.keys_timeout_ms,
        max_keys: phone.keys_max,
    };
    PhoneOptions {
        settings: Settings {
            instructions: phone.instructions.clone().map_or(engine.instructions, Pii::new),
            keys: phone.gather_keys.then_some(keys),
            ..engine
        },
        greeting: match phone.greet {
            true => phone.greeting.clone(),
            false => String::new(),
        },
        without_llm: phone.without_llm.clone(),
        trouble: phone.trouble.clone(),
        parrot: config.llm.backend == LlmBackend::Parrot,
        echo_guard: phone.echo_guard,
        comfort_noise: phone.comfort_noise,
        patience: Patience {
            ringing: Duration::from_secs(phone.ringing_s.into()),
            greeting: Duration::from_secs(phone.announcement_s.into()),
            ..Patience::default()
        },
    }
}

/// This machine, and the networks that are allowed.
fn admission(allowed: &[Network]) -> Admission {
    let allowed: Arc<[Network]> = allowed.into();
    Admission::new(move |peer: IpAddr| networks::admitted(peer, &allowed))
}

/// A reserved port, as the ARI application knows it.
#[derive(Debug)]
struct Reserved(ReservedPort);

impl RtpPort for Reserved {
    fn port(&self) -> u16 {
        self.0.port()
    }

    fn set_peer(&mut self, peer: SocketAddr) {
        self.0.call(peer);
    }
}

fn rtp_options(telephone: &Telephone, first: SocketAddr) -> RtpOptions {
    let rtp = &telephone.rtp;
    let ports: RangeInclusive<u16> = first.port()..=first.port().saturating_add(rtp.ports - 1);
    RtpOptions {
        address: first.ip(),
        ports,
        answer: match rtp.codec {
            Codec::Pcmu => Answer::Pcmu,
            Codec::Pcma => Answer::Pcma,
            Codec::G722 => Answer::G722,
            Codec::L16 => Answer::L16,
        },
        // Where the application announces its calls, what comes besides is left over from calls before.
        unannounced: telephone.asterisk.url.is_none() || telephone.asterisk.media != config::Media::Rtp,
        idle: Duration::from_secs(rtp.idle_timeout_s.into()),
    }
}

/// How Asterisk reaches the listener of its media: what the operator says, completed by the listener's own.
fn media_address(given: Option<&str>, listener: SocketAddr) -> String {
    let Some(given) = given else {
        return listener.to_string();
    };
    let has_port = given
        .rsplit_once(':')
        .is_some_and(|(host, port)| port.parse::<u16>().is_ok() && (!host.contains(':') || host.ends_with(']')));
    if has_port {
        given.to_owned()
    } else {
        format!("{given}:{}", listener.port())
    }
}

/// The host alone.
fn media_host(given: Option<&str>, listener: SocketAddr) -> String {
    let address = media_address(given, listener);
    address
        .rsplit_once(':')
        .map_or(address.clone(), |(host, _)| host.to_owned())
}

/// What the ARI application is told, if the configuration has one.
pub(in crate::cli) fn ari_options(telephone: &Telephone) -> Option<AriOptions> {
    let asterisk = &telephone.asterisk;
    let (Some(url), Some(user), Some(password)) = (&asterisk.url, &asterisk.user, &asterisk.password) else {
        return None;
    };
    let given = asterisk.media_address.as_deref();
    // That its listener is there was checked with the configuration.
    let media = match (asterisk.media, telephone.audiosocket.listen, telephone.rtp.listen) {
        (config::Media::AudioSocket, Some(listener), _) => ari::Media::AudioSocket {
            address: media_address(given, listener),
        },
        (config::Media::Rtp, _, Some(listener)) => ari::Media::Rtp {
            host: media_host(given, listener),
        },
        _ => ari::Media::ChanWebsocket {
            client: asterisk.websocket_client.clone(),
        },
    };
    Some(AriOptions {
        format: asterisk.format.clone(),
        json: asterisk.json,
        transfer_context: asterisk.context.clone(),
        variables: asterisk.variables.clone(),
        afterwards: match asterisk.when_full {
            Full::Continue => ari::Afterwards::Continue,
            Full::HangUp => ari::Afterwards::HangUp,
        },
        ..AriOptions::new(url, user, password.expose(), &asterisk.app, media)
    })
}

/// The ARI application, if the configuration has one, joined with the wires that bring its sound.
fn application(telephone: &Telephone, phones: &Phones, ports: Option<&Ports>) -> Result<Option<Ari>, Failure> {
    let Some(options) = ari_options(telephone) else {
        return Ok(None);
    };
    let dialling = phones.clone();
    let ports = ports.cloned();
    let hooks = Hooks {
        dial: Some(Arc::new(move |dial: ari::Dial| {
            let phones = dialling.clone();
            tokio::spawn(async move {
                // The application sees that no sound comes, and gives the call up.
                if let Err(error) = chan_websocket::dial(phones, dial.url).await {
                    tracing::warn!("a channel of Asterisk can't be connected to: {error}");
                }
            });
        })),
        rtp: ports.map(|ports| -> ari::ReservePort {
            Arc::new(move || ports.reserve().map(|port| Box::new(Reserved(port)) as Box<dyn RtpPort>))
        }),
    };
    Ari::new(phones.clone(), options, hooks)
        .map(Some)
        .map_err(|error| Failure(format!("asterisk: {error}")))
}

/// Tells the operator whether Asterisk is there, at first and whenever that changes.
async fn tell_state(url: String, app: String, mut state: tokio::sync::watch::Receiver<AriState>) {
    loop {
        let line = match &*state.borrow_and_update() {
            AriState::Connecting => None,
            AriState::Connected { version, .. } => {
                Some(format!("ARI application {app} on Asterisk {version} at {url}"))
            }
            AriState::Lost { reason } => Some(format!("no Asterisk at {url}: {reason}; trying again")),
            AriState::Replaced => Some(format!(
                "another program has taken over the ARI application {app}: start this one again"
            )),
        };
        if let Some(line) = line {
            say(&line);
        }
        if state.changed().await.is_err() {
            return;
        }
    }
}

impl Running {
    /// Begins to listen on every wire that the configuration names.
    ///
    /// # Errors
    /// An address can't be opened, or the application can't be set up, with the remedy.
    pub(super) async fn start(config: &Config, engine: &Engine) -> Result<Self, Failure> {
        let telephone = &config.telephone;
        let phones = Phones::new(engine.clone(), options(config));
        let admission = admission(&telephone.phone.allowed_networks);
        let token = |secret: &Option<Secret>| secret.as_ref().map(|secret| Arc::from(secret.expose()));
        let loopback = config.server.listen.ip().is_loopback();
        let mut tasks = Vec::new();
        if let Some(address) = telephone.audiosocket.listen {
            let listener = listen(address, "--set audiosocket.listen=").await?;
            say(&format!("AudioSocket on {address}"));
            let options = AudioSocketOptions {
                uuid_timeout: Duration::from_secs(telephone.audiosocket.uuid_timeout_s.into()),
            };
            let serving = audiosocket::serve(listener, phones.clone(), admission.clone(), options);
            tasks.push(tokio::spawn(serving));
        }
        let mut ports = None;
        if let Some(first) = telephone.rtp.listen {
            let opened = Ports::bind(rtp_options(telephone, first)).map_err(|error| {
                Failure(format!(
                    "{error}; choose others with --set rtp.listen= and --set rtp.ports="
                ))
            })?;
            say(&format!("RTP on {first} and the {} ports from there", opened.count()));
            tasks.push(tokio::spawn(rtp::serve(
                opened.clone(),
                phones.clone(),
                admission.clone(),
            )));
            ports = Some(opened);
        }
        let mut stop_vosk = None;
        if let Some(address) = telephone.vosk.listen {
            let listener = listen(address, "--set vosk.listen=").await?;
            say(&format!("Vosk's protocol on ws://{address}"));
            let routes = vosk::routes(
                engine.clone(),
                VoskOptions {
                    admission,
                    settings: settings::of(config),
                    loopback: address.ip().is_loopback(),
                    ..VoskOptions::default()
                },
            );
            let (stop, stopped) = oneshot::channel();
            stop_vosk = Some(stop);
            tasks.push(tokio::spawn(crate::api::serve(
                listener,
                routes,
                engine.clone(),
                async {
                    let _ = stopped.await;
                },
            )));
        }
        let routes = chan_websocket::routes(
            phones.clone(),
            ChanWebsocketOptions {
                password: token(&config.server.token),
                loopback,
            },
        )
        .merge(twilio::routes(
            phones.clone(),
            TwilioOptions {
                token: token(&config.server.token),
                auth_token: token(&telephone.twilio.auth_token),
                public_url: telephone.twilio.url.as_deref().map(Arc::from),
                loopback,
                ..TwilioOptions::default()
            },
        ));
        let mut ari = None;
        if let Some(application) = application(telephone, &phones, ports.as_ref())? {
            let (url, app) = (
                telephone.asterisk.url.clone().unwrap_or_default(),
                telephone.asterisk.app.clone(),
            );
            tasks.push(tokio::spawn(tell_state(url, app, application.state())));
            ari = Some(tokio::spawn(application.run()));
        }
        Ok(Self {
            phones,
            routes,
            tasks,
            ari,
            stop_vosk,
        })
    }

    /// Calls, for operators.
    pub(super) const fn phones(&self) -> &Phones {
        &self.phones
    }

    /// What stands on the main port.
    pub(super) fn routes(&self) -> Router {
        self.routes.clone()
    }

    /// Takes no call any more; those that are going on go on.
    pub(super) fn stop(&mut self) {
        drop(self.stop_vosk.take());
        for task in self.tasks.drain(..) {
            task.abort();
        }
    }

    /// After the last call: what was made of it at Asterisk is taken down, which is not waited for long.
    pub(super) async fn end(self) {
        if let Some(ari) = self.ari {
            let _ = tokio::time::timeout(Duration::from_millis(500), async {
                while !self.phones.board().calls().is_empty() {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            })
            .await;
            ari.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_of_media_is_completed() {
        let listener = "127.0.0.1:9092".parse().unwrap();
        for (given, address, host) in [
            (None, "127.0.0.1:9092", "127.0.0.1"),
            (Some("10.0.0.5"), "10.0.0.5:9092", "10.0.0.5"),
            (Some("10.0.0.5:1"), "10.0.0.5:1", "10.0.0.5"),
            (Some("engine.lan"), "engine.lan:9092", "engine.lan"),
            (Some("[fd00::1]"), "[fd00::1]:9092", "[fd00::1]"),
            (Some("[fd00::1]:7"), "[fd00::1]:7", "[fd00::1]"),
        ] {
            assert_eq!(media_address(given, listener), address);
            assert_eq!(media_host(given, listener), host);
        }
    }
}
