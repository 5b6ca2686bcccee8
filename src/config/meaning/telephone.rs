//! What the written values of the telephone mean.

use std::net::SocketAddr;

use super::{CHECKED, Config, Network, Read, Secret};

choice! {
    /// The key that ends an entry.
    Terminator {
        /// The pound key.
        Pound = "#",
        /// The star key.
        Star = "*",
        /// None does.
        None = "none",
    }
}

choice! {
    /// What is sent as RTP.
    Codec {
        /// G.711 µ-law.
        Pcmu = "pcmu",
        /// G.711 A-law.
        Pcma = "pcma",
        /// G.722.
        G722 = "g722",
        /// 16-bit PCM at 8 kHz.
        L16 = "l16",
    }
}

choice! {
    /// How the sound of ARI's calls comes.
    Media {
        /// AudioSocket.
        AudioSocket = "audiosocket",
        /// chan_websocket.
        ChanWebsocket = "chan_websocket",
        /// RTP.
        Rtp = "rtp",
    }
}

choice! {
    /// What becomes of a call that can't be taken.
    Full {
        /// It goes on in the dialplan.
        Continue = "continue",
        /// It is ended.
        HangUp = "hangup",
    }
}

/// `[phone]`
#[derive(Clone, Debug, PartialEq)]
#[expect(
    missing_docs,
    reason = "the fields are the keys of the same name, documented in the table"
)]
pub struct Phone {
    pub greet: bool,
    pub greeting: String,
    pub instructions: Option<String>,
    pub without_llm: String,
    pub trouble: String,
    pub allowed_networks: Vec<Network>,
    pub echo_guard: bool,
    pub comfort_noise: bool,
    pub gather_keys: bool,
    pub keys_terminator: Terminator,
    pub keys_timeout_ms: u32,
    pub keys_max: u8,
    pub ringing_s: u32,
    pub announcement_s: u32,
}

/// `[audiosocket]`
#[derive(Clone, Debug, PartialEq)]
#[expect(
    missing_docs,
    reason = "the fields are the keys of the same name, documented in the table"
)]
pub struct AudioSocket {
    pub listen: Option<SocketAddr>,
    pub uuid_timeout_s: u32,
}

/// `[rtp]`
#[derive(Clone, Debug, PartialEq)]
#[expect(
    missing_docs,
    reason = "the fields are the keys of the same name, documented in the table"
)]
pub struct Rtp {
    pub listen: Option<SocketAddr>,
    pub ports: u16,
    pub codec: Codec,
    pub idle_timeout_s: u32,
}

/// `[asterisk]`
#[derive(Clone, Debug, PartialEq)]
#[expect(
    missing_docs,
    reason = "the fields are the keys of the same name, documented in the table"
)]
pub struct Asterisk {
    pub url: Option<String>,
    pub user: Option<String>,
    pub password: Option<Secret>,
    pub app: String,
    pub media: Media,
    pub media_address: Option<String>,
    pub format: String,
    pub json: bool,
    pub websocket_client: Option<String>,
    pub context: String,
    pub variables: Vec<String>,
    pub when_full: Full,
}

/// `[twilio]`
#[derive(Clone, Debug, PartialEq)]
#[expect(
    missing_docs,
    reason = "the fields are the keys of the same name, documented in the table"
)]
pub struct Twilio {
    pub auth_token: Option<Secret>,
    pub url: Option<String>,
}

/// `[vosk]`
#[derive(Clone, Debug, PartialEq)]
#[expect(
    missing_docs,
    reason = "the fields are the keys of the same name, documented in the table"
)]
pub struct Vosk {
    pub listen: Option<SocketAddr>,
}

/// Everything of the telephone.
#[derive(Clone, Debug, PartialEq)]
#[expect(
    missing_docs,
    reason = "the fields are the sections of the same name, documented in the table"
)]
pub struct Telephone {
    pub phone: Phone,
    pub audiosocket: AudioSocket,
    pub rtp: Rtp,
    pub asterisk: Asterisk,
    pub twilio: Twilio,
    pub vosk: Vosk,
}

impl Telephone {
    pub(super) fn read(read: &Read<'_>) -> Self {
        let address = |name| read.optional_text(name).map(|address| address.parse().expect(CHECKED));
        // An application without a listener for its calls' sound would be deaf: it has the usual one on this machine.
        let media = read
            .optional_text("asterisk.url")
            .map(|_| Media::from_word(&read.text("asterisk.media")));
        let usual = |wanted, port| (media == Some(wanted)).then(|| SocketAddr::from(([127, 0, 0, 1], port)));
        Self {
            phone: Phone {
                greet: read.switch("phone.greet"),
                greeting: read.text("phone.greeting"),
                instructions: read.optional_text("phone.instructions"),
                without_llm: read.text("phone.without_llm"),
                trouble: read.text("phone.trouble"),
                allowed_networks: read.networks("phone.allowed_networks"),
                echo_guard: read.switch("phone.echo_guard"),
                comfort_noise: read.switch("phone.comfort_noise"),
                gather_keys: read.switch("phone.gather_keys"),
                keys_terminator: Terminator::from_word(&read.text("phone.keys_terminator")),
                keys_timeout_ms: read.integer("phone.keys_timeout_ms"),
                keys_max: read.integer("phone.keys_max"),
                ringing_s: read.integer("phone.ringing_s"),
                announcement_s: read.integer("phone.announcement_s"),
            },
            audiosocket: AudioSocket {
                listen: address("audiosocket.listen").or_else(|| usual(Media::AudioSocket, 9_092)),
                uuid_timeout_s: read.integer("audiosocket.uuid_timeout_s"),
            },
            rtp: Rtp {
                listen: address("rtp.listen").or_else(|| usual(Media::Rtp, 9_100)),
                ports: read.integer("rtp.ports"),
                codec: Codec::from_word(&read.text("rtp.codec")),
                idle_timeout_s: read.integer("rtp.idle_timeout_s"),
            },
            asterisk: Asterisk {
                url: read.optional_text("asterisk.url"),
                user: read.optional_text("asterisk.user"),
                password: read.optional_text("asterisk.password").map(Secret::new),
                app: read.text("asterisk.app"),
                media: Media::from_word(&read.text("asterisk.media")),
                media_address: read.optional_text("asterisk.media_address"),
                format: read.text("asterisk.format"),
                json: read.switch("asterisk.json"),
                websocket_client: read.optional_text("asterisk.websocket_client"),
                context: read.text("asterisk.context"),
                variables: read.list("asterisk.variables"),
                when_full: Full::from_word(&read.text("asterisk.when_full")),
            },
            twilio: Twilio {
                auth_token: read.optional_text("twilio.auth_token").map(Secret::new),
                url: read.optional_text("twilio.url"),
            },
            vosk: Vosk {
                listen: address("vosk.listen"),
            },
        }
    }
}

impl Config {
    /// What contradicts itself in the telephone's part: the key that must change, and why.
    pub(super) fn telephone_contradictions(&self) -> Vec<(&'static str, String)> {
        let Telephone {
            phone,
            audiosocket,
            rtp,
            asterisk,
            vosk,
            ..
        } = &self.telephone;
        let mut found = Vec::new();
        for (key, listen) in [
            ("audiosocket.listen", audiosocket.listen),
            ("rtp.listen", rtp.listen),
            ("vosk.listen", vosk.listen),
        ] {
            if let Some(listen) = listen
                && !listen.ip().to_canonical().is_loopback()
                && phone.allowed_networks.is_empty()
            {
                found.push((
                    key,
                    format!(
                        "{listen} can be reached from other machines, and this wire knows no password: set phone.allowed_networks to \
                         those that may call, or listen on 127.0.0.1"
                    ),
                ));
            }
        }
        if let Some(first) = rtp.listen
            && first.port().checked_add(rtp.ports - 1).is_none()
        {
            found.push((
                "rtp.ports",
                format!("from port {} on there are not so many", first.port()),
            ));
        }
        if asterisk.url.is_some() && (asterisk.user.is_none() || asterisk.password.is_none()) {
            let text = "ARI needs asterisk.user and asterisk.password, as ari.conf has them".to_owned();
            found.push(("asterisk.url", text));
        }
        found
    }
}
