//! The ports of the wire: opened at the start, each free, reserved or taken.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use thiserror::Error;
use tokio::sync::{Notify, mpsc};

use super::RtpOptions;
use crate::engine::Engine;

/// Ports that there may be: each costs two file descriptors, and a buffer of 6 kB.
pub const MOST_PORTS: usize = 200;
/// Reports that may wait for the call they are about. One comes every few seconds.
const MOST_REPORTS: usize = 4;

/// Why the ports of the wire can't be opened.
#[derive(Debug, Error)]
pub enum BindError {
    /// The range is empty, or too long.
    #[error("{count} ports for RTP, where 1 to {MOST_PORTS} are possible: each serves one call at a time")]
    Count {
        /// How many ports it has.
        count: usize,
    },
    /// Port 0 is no port.
    #[error("port 0 can't serve RTP: choose ports that Asterisk can be told, such as 9100 to 9119")]
    Zero,
    /// One can't be opened.
    #[error(
        "UDP port {port} of {address} can't be opened for RTP ({source}): choose ports that nothing else uses (`ss -lun` lists those in \
         use), and an address of this machine"
    )]
    Port {
        /// The address.
        address: IpAddr,
        /// The port.
        port: u16,
        /// What the system says.
        source: io::Error,
    },
}

/// A report that came to the port above that of its call (RFC 3550 §11).
#[derive(Debug)]
pub(super) struct Report {
    pub(super) from: SocketAddr,
    pub(super) bytes: Vec<u8>,
}

/// What a port is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// Nothing, since so many ports were given back.
    Free(u64),
    /// A call that came unannounced.
    Called,
    /// A call of whoever reserved it, by the number of the reservation; its other side, once that is known.
    Reserved(u64, Option<SocketAddr>),
}

/// One port, as all sides see it.
#[derive(Debug)]
pub(super) struct Door {
    port: u16,
    is_v6: bool,
    socket: UdpSocket,
    used: Mutex<Use>,
    changed: Notify,
    reports: mpsc::Sender<Report>,
}

impl Door {
    pub(super) const fn port(&self) -> u16 {
        self.port
    }

    /// The socket once more, to read from; it doesn't block.
    ///
    /// # Errors
    /// The system has no more file descriptors.
    pub(super) fn socket(&self) -> io::Result<UdpSocket> {
        self.socket.try_clone()
    }

    pub(super) fn used(&self) -> Use {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until what it is used for has changed since the last time that somebody waited.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// An unannounced call takes it, if it is free.
    pub(super) fn take(&self) -> bool {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let is_free = matches!(*used, Use::Free(_));
        if is_free {
            *used = Use::Called;
        }
        is_free
    }

    /// The unannounced call that took it is over.
    pub(super) fn give_back(&self, turn: u64) {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        if *used == Use::Called {
            *used = Use::Free(turn);
        }
    }

    fn set(&self, wanted: Use, number: u64) {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*used, Use::Reserved(current, _) if current == number) {
            *used = wanted;
            drop(used);
            self.changed.notify_one();
        }
    }

    /// Sends `datagram` to `to`. Answers whether the system took it: a full queue takes none, nor does a network that is down.
    pub(super) fn send(&self, to: SocketAddr, datagram: &[u8]) -> bool {
        let to = match to.ip() {
            // A socket of both families has its own form of IPv4's addresses.
            IpAddr::V4(ip) if self.is_v6 => SocketAddr::new(ip.to_ipv6_mapped().into(), to.port()),
            _ => to,
        };
        self.socket.send_to(datagram, to).is_ok()
    }

    /// A report came to the port above: it is this one's, if anybody's. Where many wait it is dropped, as the network may do.
    pub(super) fn report(&self, from: SocketAddr, datagram: &[u8]) {
        if !matches!(self.used(), Use::Free(_))
            && let Ok(room) = self.reports.try_reserve()
        {
            room.send(Report {
                from,
                bytes: datagram.to_vec(),
            });
        }
    }
}

/// A port for whoever serves it.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) door: Arc<Door>,
    /// The one below: reports that come here may be about its call.
    pub(super) below: Option<Arc<Door>>,
    /// The one above: reports about the call here come there, and leave from there.
    pub(super) above: Option<Arc<Door>>,
    pub(super) reports: mpsc::Receiver<Report>,
    pub(super) turns: Arc<AtomicU64>,
}

#[derive(Debug)]
struct Inner {
    options: Arc<RtpOptions>,
    doors: Vec<Arc<Door>>,
    /// For those who serve the doors; each is taken once.
    reports: Mutex<Vec<Option<mpsc::Receiver<Report>>>>,
    engine: OnceLock<Engine>,
    /// Counts reservations, and ports that were given back.
    turns: Arc<AtomicU64>,
}

/// See the [module](self). Clones share them.
#[derive(Clone, Debug)]
pub struct Ports(Arc<Inner>);

impl Ports {
    /// Opens all ports of the range.
    ///
    /// # Errors
    /// [`BindError`]: what is wrong with the range, or which port can't be opened. None is then left open.
    pub fn bind(options: RtpOptions) -> Result<Self, BindError> {
        let count = options.ports.clone().count();
        if count == 0 || count > MOST_PORTS {
            return Err(BindError::Count { count });
        }
        if *options.ports.start() == 0 {
            return Err(BindError::Zero);
        }
        let mut doors = Vec::with_capacity(count);
        let mut reports = Vec::with_capacity(count);
        for port in options.ports.clone() {
            let bound = UdpSocket::bind((options.address, port)).and_then(|socket| {
                socket.set_nonblocking(true)?;
                Ok(socket)
            });
            let socket = bound.map_err(|source| BindError::Port {
                address: options.address,
                port,
                source,
            })?;
            let (sender, receiver) = mpsc::channel(MOST_REPORTS);
            reports.push(Some(receiver));
            doors.push(Arc::new(Door {
                port,
                is_v6: options.address.is_ipv6(),
                socket,
                used: Mutex::new(Use::Free(0)),
                changed: Notify::new(),
                reports: sender,
            }));
        }
        Ok(Self(Arc::new(Inner {
            options: Arc::new(options),
            doors,
            reports: Mutex::new(reports),
            engine: OnceLock::new(),
            turns: Arc::default(),
        })))
    }

    /// What they were opened with.
    pub(super) fn options(&self) -> &Arc<RtpOptions> {
        &self.0.options
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.doors.len()
    }

    /// Those that serve a call now, or are reserved.
    #[must_use]
    pub fn busy(&self) -> usize {
        let is_busy = |door: &&Arc<Door>| !matches!(door.used(), Use::Free(_));
        self.0.doors.iter().filter(is_busy).count()
    }

    /// Reserves a free port for a call that is about to be announced as `Key::Port`: on the thread with the fewest sessions, the one that was
    /// used the longest ago, since packets of its call before may still be on their way. `None` when all are in use, or before
    /// they are served.
    #[must_use]
    pub fn reserve(&self) -> Option<ReservedPort> {
        let engine = self.0.engine.get()?;
        let threads = engine.threads().max(1);
        loop {
            let free = self.0.doors.iter().enumerate().filter_map(|(index, door)| {
                let Use::Free(since) = door.used() else { return None };
                Some((engine.sessions_on(index % threads), since, index))
            });
            let (_, since, index) = free.min()?;
            let door = Arc::clone(&self.0.doors[index]);
            let number = self.0.turns.fetch_add(1, Ordering::Relaxed) + 1;
            let mut used = door.used.lock().unwrap_or_else(PoisonError::into_inner);
            // Somebody may have been faster.
            if *used == Use::Free(since) {
                *used = Use::Reserved(number, None);
                drop(used);
                door.changed.notify_one();
                return Some(ReservedPort {
                    door,
                    number,
                    turns: Arc::clone(&self.0.turns),
                });
            }
        }
    }

    /// They are served by this engine.
    pub(super) fn open(&self, engine: &Engine) {
        // Served a second time, they have no doors left to give.
        let _ = self.0.engine.set(engine.clone());
    }

    /// The ports of one of `threads` threads. Each is given once.
    pub(super) fn doors(&self, thread: usize, threads: usize) -> Vec<Opened> {
        let doors = &self.0.doors;
        let mut reports = self.0.reports.lock().unwrap_or_else(PoisonError::into_inner);
        (thread..doors.len())
            .step_by(threads.max(1))
            .filter_map(|index| {
                Some(Opened {
                    door: Arc::clone(&doors[index]),
                    below: index.checked_sub(1).map(|below| Arc::clone(&doors[below])),
                    above: doors.get(index + 1).map(Arc::clone),
                    reports: reports[index].take()?,
                    turns: Arc::clone(&self.0.turns),
                })
            })
            .collect()
    }
}

/// A port that is kept for one call. Dropping it ends the call, and gives the port back.
#[derive(Debug)]
pub struct ReservedPort {
    door: Arc<Door>,
    number: u64,
    turns: Arc<AtomicU64>,
}

impl ReservedPort {
    /// Its number: `Key::Port` of the call's announcement, and the port of `external_host`.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.door.port
    }

    /// Tells where the other side is: Asterisk's `UNICASTRTP_LOCAL_ADDRESS` and `UNICASTRTP_LOCAL_PORT`. The call is answered at once, and
    /// silence flows there; so the call must have been announced before.
    pub fn call(&self, peer: SocketAddr) {
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        self.door.set(Use::Reserved(self.number, Some(peer)), self.number);
    }
}

impl Drop for ReservedPort {
    fn drop(&mut self) {
        let turn = self.turns.fetch_add(1, Ordering::Relaxed) + 1;
        self.door.set(Use::Free(turn), self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_that_makes_no_sense_is_told() {
        let options = |ports| RtpOptions {
            ports,
            ..RtpOptions::default()
        };
        for (ports, told) in [
            (20_000..=20_200, "201 ports"),
            (std::ops::RangeInclusive::new(20_000, 19_999), "0 ports"),
            (0..=10, "port 0"),
        ] {
            let error = Ports::bind(options(ports)).map(|_| ()).unwrap_err();
            assert!(error.to_string().contains(told), "{error}");
        }
        let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let error = Ports::bind(options(port..=port)).map(|_| ()).unwrap_err();
        assert!(
            error.to_string().contains(&format!("UDP port {port} of 127.0.0.1")),
            "{error}"
        );
    }
}
