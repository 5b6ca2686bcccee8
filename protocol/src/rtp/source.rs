//! Symmetric RTP: whose packets are taken, and where ours are sent (RFC 4961).
//!
//! RTP over UDP carries no proof of who sent it. An address is taken for the peer's once a few packets came from it
//! that are a stream; from then on nobody else is listened to. It changes only if the peer fell silent and somebody
//! else sends a stream: that is what a transfer, a change of the network or of a NAT's mapping looks like from here.

use std::net::SocketAddr;
use std::time::Duration;

use super::RtpHeader;

/// So many packets in a row make a stream.
const GOOD: u8 = 4;
/// Sequence numbers of a stream go on by at most so much from one packet that came to the next.
const STEP: u16 = 16;
/// The peer must have been silent for so long before another address is listened to: five frames of 20 ms.
const SILENT: Duration = Duration::from_millis(100);
/// Addresses that are looked at, at a time.
const CANDIDATES: usize = 4;

/// What is known of the one who sent a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// It is the peer: take the packet.
    Peer,
    /// It is the peer at an address that is new: take the packet, and send there from now on.
    Moved,
    /// It is not, or not known to be: drop the packet.
    Stranger,
}

#[derive(Debug, Clone, Copy)]
struct Candidate {
    address: SocketAddr,
    ssrc: u32,
    sequence: u16,
    good: u8,
    last: Duration,
}

impl Candidate {
    const fn new(address: SocketAddr, header: &RtpHeader, now: Duration) -> Self {
        Self {
            address,
            ssrc: header.ssrc,
            sequence: header.sequence,
            good: 1,
            last: now,
        }
    }

    fn note(&mut self, header: &RtpHeader, now: Duration) {
        let step = header.sequence.wrapping_sub(self.sequence);
        let follows = header.ssrc == self.ssrc && (1..=STEP).contains(&step);
        self.good = if follows { self.good.saturating_add(1) } else { 1 };
        self.ssrc = header.ssrc;
        self.sequence = header.sequence;
        self.last = now;
    }
}

/// Finds the address of the peer and keeps to it.
#[derive(Debug, Clone, Default)]
pub struct SourceLock {
    /// Where the peer is, or is said to be.
    address: Option<SocketAddr>,
    /// It has proven so by [`GOOD`] packets.
    locked: bool,
    /// The stream from there.
    peer: Option<Candidate>,
    /// Others who send, and where the next one is put.
    candidates: [Option<Candidate>; CANDIDATES],
    next: usize,
    strangers: u64,
}

impl SourceLock {
    /// Takes whoever sends a stream first. `expected` is where the peer is said to be (by SDP, or by Asterisk's
    /// `UNICASTRTP_LOCAL_ADDRESS` and `_PORT`), if anybody said so: ours can be sent there at once, and others are
    /// listened to only while nothing comes from there.
    #[must_use]
    pub const fn new(expected: Option<SocketAddr>) -> Self {
        Self {
            address: expected,
            locked: false,
            peer: None,
            candidates: [None; CANDIDATES],
            next: 0,
            strangers: 0,
        }
    }

    /// Judges a packet with `header` that came from `from` at `now`, a duration since any fixed moment. Ask only for
    /// packets that can be read.
    pub fn receive(&mut self, now: Duration, from: SocketAddr, header: &RtpHeader) -> Source {
        let address = *self.address.get_or_insert(from);
        if address == from {
            let peer = self.peer.get_or_insert_with(|| Candidate::new(from, header, now));
            if peer.last != now || peer.sequence != header.sequence {
                peer.note(header, now);
            }
            self.locked |= peer.good >= GOOD;
            return Source::Peer;
        }
        let candidate = self.candidate(now, from, header);
        let silent = self
            .peer
            .as_ref()
            .is_none_or(|peer| now.saturating_sub(peer.last) >= SILENT);
        // Before the peer is certain, whoever first sends a stream is it: the first packet may have been anybody's.
        if candidate.good >= GOOD && (silent || !self.locked) {
            self.address = Some(from);
            self.peer = Some(candidate);
            self.locked = true;
            self.candidates = [None; CANDIDATES];
            return Source::Moved;
        }
        self.strangers += 1;
        Source::Stranger
    }

    /// Where to send: to the peer, or to where it is said to be.
    #[must_use]
    pub const fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// Whether the peer is certain.
    #[must_use]
    pub const fn is_locked(&self) -> bool {
        self.locked
    }

    /// Packets of others that were dropped.
    #[must_use]
    pub const fn strangers(&self) -> u64 {
        self.strangers
    }

    /// Takes note of a packet of somebody who isn't the peer.
    fn candidate(&mut self, now: Duration, from: SocketAddr, header: &RtpHeader) -> Candidate {
        if let Some(candidate) = self
            .candidates
            .iter_mut()
            .flatten()
            .find(|candidate| candidate.address == from)
        {
            candidate.note(header, now);
            return *candidate;
        }
        let candidate = Candidate::new(from, header, now);
        self.candidates[self.next] = Some(candidate);
        self.next = (self.next + 1) % CANDIDATES;
        candidate
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], port))
    }

    fn header(ssrc: u32, sequence: u16) -> RtpHeader {
        RtpHeader {
            ssrc,
            sequence,
            ..RtpHeader::default()
        }
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// A packet every 20 ms from `start`.
    fn send(lock: &mut SourceLock, start: u64, count: u16, port: u16, ssrc: u32) -> Vec<Source> {
        (0..count)
            .map(|n| {
                lock.receive(
                    ms(start + 20 * u64::from(n)),
                    address(port),
                    &header(ssrc, 65_533_u16.wrapping_add(n)),
                )
            })
            .collect()
    }

    #[test]
    fn the_first_who_sends_a_stream_is_the_peer() {
        let mut lock = SourceLock::new(None);
        assert_eq!(lock.address(), None);
        assert_eq!(send(&mut lock, 0, 3, 1, 7), [Source::Peer; 3], "nothing of it is lost");
        assert_eq!((lock.address(), lock.is_locked()), (Some(address(1)), false));
        send(&mut lock, 60, 4, 1, 7);
        assert!(lock.is_locked());
        assert_eq!(send(&mut lock, 130, 9, 2, 8)[..4], [Source::Stranger; 4]);
    }

    #[test]
    fn a_single_packet_of_a_scanner_takes_nothing() {
        let mut lock = SourceLock::new(None);
        assert_eq!(send(&mut lock, 0, 1, 9, 1), [Source::Peer]);
        assert_eq!(
            send(&mut lock, 1, 5, 1, 7),
            [
                Source::Stranger,
                Source::Stranger,
                Source::Stranger,
                Source::Moved,
                Source::Peer
            ]
        );
        assert_eq!(lock.address(), Some(address(1)));
        assert_eq!(lock.strangers(), 3);
    }

    #[test]
    fn strangers_are_dropped_while_the_peer_sends() {
        let mut lock = SourceLock::new(None);
        for n in 0..500_u16 {
            let now = ms(20 * u64::from(n));
            assert_eq!(lock.receive(now, address(1), &header(7, n)), Source::Peer);
            for port in 2..9 {
                let verdict = lock.receive(now, address(port), &header(u32::from(port), n));
                assert!(n < 4 || verdict == Source::Stranger);
            }
        }
        assert_eq!(lock.address(), Some(address(1)));
        assert_eq!(lock.strangers(), 500 * 7);
    }

    #[test]
    fn who_falls_silent_may_have_moved() {
        let mut lock = SourceLock::new(None);
        send(&mut lock, 0, 50, 1, 7);
        // The last packet came at 980 ms.
        let moved = send(&mut lock, 1_000, 8, 2, 8);
        assert_eq!(
            moved.iter().position(|source| *source == Source::Moved),
            Some(4),
            "{moved:?}"
        );
        assert_eq!(send(&mut lock, 1_160, 3, 1, 7), [Source::Stranger; 3]);
        assert_eq!(lock.address(), Some(address(2)));
    }

    #[test]
    fn who_is_expected_is_sent_to_before_anything_came() {
        let mut lock = SourceLock::new(Some(address(1)));
        assert_eq!(lock.address(), Some(address(1)));
        // It sits behind a NAT, and comes from elsewhere.
        assert_eq!(send(&mut lock, 0, 4, 3, 7)[3], Source::Moved);
        assert_eq!(lock.address(), Some(address(3)));
    }

    #[test]
    fn random_packets_are_no_stream() {
        let mut lock = SourceLock::new(Some(address(1)));
        for n in 0..10_000_u32 {
            let sequence = (n.wrapping_mul(2_654_435_761) >> 16) as u16;
            let verdict = lock.receive(ms(u64::from(n)), address(2 + (n % 50_000) as u16), &header(n, sequence));
            assert_eq!(verdict, Source::Stranger);
        }
    }
}
