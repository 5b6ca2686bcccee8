//! RTP over UDP, as Asterisk's ARI sends it (externalMedia, UnicastRTP): one port a call.
//!
//! Nothing in RTP names a call, so its port does: who dials over ARI reserves one ([`Ports::reserve`]), announces the call under its
//! number, and tells where Asterisk's side is as soon as that is known; silence flows there from then on. A stream that comes unannounced
//! to a free port, from a network that may call, is a call too: `Dial(UnicastRTP/host:port)` needs nothing else.
//!
//! There is no hanging up in RTP. A call ends when nothing comes any more, when whoever reserved its port gives that back, or on our side:
//! what its stream goes on to send is passed over then, and is no new call.

mod doorstep;
mod intake;
mod outgoing;
mod port;
mod ports;

use std::net::{IpAddr, Ipv4Addr};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use repartee_protocol::rtp::payload_type;
use tokio::sync::watch;
use tokio::task::JoinSet;

pub use self::ports::{BindError, MOST_PORTS, Ports, ReservedPort};
use crate::audio::{Codec, Framing, MediaFormat, SampleRate};
use crate::phone::{Admission, Phones};

/// In which format calls are answered. Asterisk takes static payload types alone, whatever it sends itself, and drops all others without
/// a word (asterisk.md §3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Answer {
    /// G.711 µ-law, 8 kHz: payload type 0.
    #[default]
    Pcmu,
    /// G.711 A-law, 8 kHz: payload type 8.
    Pcma,
    /// G.722, 16 kHz: payload type 9.
    G722,
    /// Plain samples of 16 bits at 8 kHz, in network order: payload type 11, which is mono at 8 kHz for Asterisk alone.
    L16,
}

impl Answer {
    /// Its number in RTP.
    #[must_use]
    pub const fn payload_type(self) -> u8 {
        match self {
            Self::Pcmu => payload_type::PCMU,
            Self::Pcma => payload_type::PCMA,
            Self::G722 => payload_type::G722,
            Self::L16 => payload_type::L16_MONO,
        }
    }

    /// The rate of its samples.
    #[must_use]
    pub const fn rate(self) -> SampleRate {
        match self {
            Self::Pcmu | Self::Pcma | Self::L16 => SampleRate::Hz8000,
            Self::G722 => SampleRate::Hz16000,
        }
    }

    const fn format(self) -> MediaFormat {
        MediaFormat {
            codec: match self {
                Self::Pcmu => Codec::Pcmu,
                Self::Pcma => Codec::Pcma,
                Self::G722 => Codec::G722,
                Self::L16 => Codec::Pcm16,
            },
            rate: self.rate(),
            framing: Framing::Rtp,
        }
    }
}

/// What the wire is told at its start.
#[derive(Clone, Debug)]
pub struct RtpOptions {
    /// The address whose ports are opened.
    pub address: IpAddr,
    /// The ports, at most [`MOST_PORTS`]; each serves one call at a time.
    pub ports: RangeInclusive<u16>,
    /// In which format calls are answered.
    pub answer: Answer,
    /// Whether a stream that nobody announced is a call. Where all calls are dialled over ARI it need not be: what comes for calls that were
    /// there before a restart is then passed over.
    pub unannounced: bool,
    /// A call for which nothing has come for so long is over. It does not hold for one whose port is reserved: who has reserved it knows
    /// when the call ends, and a caller on hold may be silent for longer.
    pub idle: Duration,
}

impl Default for RtpOptions {
    /// One port, 9100, of this machine alone.
    fn default() -> Self {
        Self {
            address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            ports: 9_100..=9_100,
            answer: Answer::default(),
            unannounced: true,
            idle: Duration::from_secs(30),
        }
    }
}

/// Serves calls that come to `ports`, until the future is dropped; calls that are going on go on. Unannounced calls, and packets of
/// calls whose address nobody told, are taken from networks that `admission` admits.
pub async fn serve(ports: Ports, phones: Phones, admission: Admission) {
    let engine = phones.engine().clone();
    let threads = engine.threads();
    ports.open(&engine);
    // The ports close when this is dropped.
    let (_open, closed) = watch::channel(());
    for thread in 0..threads {
        let doors = ports.doors(thread, threads);
        let (phones, admission, closed) = (phones.clone(), admission.clone(), closed.clone());
        let options = Arc::clone(ports.options());
        let served = engine.serve_on(thread, move || async move {
            let mut serving = JoinSet::new();
            for door in doors {
                let port = port::Port::new(
                    door,
                    phones.clone(),
                    admission.clone(),
                    Arc::clone(&options),
                    closed.clone(),
                );
                match port {
                    Ok(port) => drop(serving.spawn_local(port.serve())),
                    Err(error) => tracing::error!(%error, "a port of RTP is not served"),
                }
            }
            drop((phones, admission, closed));
            while serving.join_next().await.is_some() {}
        });
        if !served {
            tracing::error!("ports of RTP are not served: too much waits for thread {thread}");
        }
    }
    drop(closed);
    std::future::pending().await
}
