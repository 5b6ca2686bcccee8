//! The numbers of one stream: unwrapping, jumps, and the jitter of RFC 3550.

use crate::time::Time;

use super::JitterPacket;

/// The most that a sequence number may jump and still belong to the stream (RFC 3550 A.1, MAX_DROPOUT).
const MAX_SEQUENCE_JUMP: i64 = 3000;

/// Where a packet is in its stream, unwrapped: no number comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position {
    /// First, since order is by timestamp.
    pub(super) timestamp: i64,
    pub(super) sequence: i64,
}

/// The newest numbers of a stream.
#[derive(Debug, Clone)]
pub(super) struct Numbers {
    ssrc: u32,
    newest: Position,
    newest_arrival: Time,
    clock: u32,
    /// Sixteen times the jitter in ticks, as in RFC 3550 A.8, and the transit that it compares with.
    jitter_sixteenths: i64,
    transit: i64,
    /// Which of the newest 128 sequence numbers have come; the lowest bit is the newest.
    seen: u128,
}

impl Numbers {
    /// A stream that begins with this packet.
    pub(super) fn new(ssrc: u32, sequence: u16, timestamp: u32, clock: u32, now: Time) -> (Self, Position) {
        let newest = Position {
            timestamp: i64::from(timestamp),
            sequence: i64::from(sequence),
        };
        let mut numbers = Self {
            ssrc,
            newest,
            newest_arrival: now,
            clock,
            jitter_sixteenths: 0,
            transit: 0,
            seen: 1,
        };
        numbers.transit = numbers.transit_of(newest, now);
        (numbers, newest)
    }

    pub(super) const fn ssrc(&self) -> u32 {
        self.ssrc
    }

    /// When the newest packet arrived.
    pub(super) const fn newest_arrival(&self) -> Time {
        self.newest_arrival
    }

    /// The jitter in ticks.
    pub(super) fn jitter(&self) -> u32 {
        u32::try_from(self.jitter_sixteenths >> 4).unwrap_or(u32::MAX)
    }

    /// Where a packet belongs: at most `back` ticks before the newest one and `ahead` after it. `None` if that is
    /// not near.
    pub(super) fn place(&self, sequence: u16, timestamp: u32, back: i64, ahead: i64) -> Option<Position> {
        let sequence_step = i64::from(sequence.wrapping_sub(self.newest.sequence as u16) as i16);
        let timestamp_step = i64::from(timestamp.wrapping_sub(self.newest.timestamp as u32) as i32);
        let near = sequence_step.abs() <= MAX_SEQUENCE_JUMP && timestamp_step >= -back && timestamp_step <= ahead;
        near.then(|| Position {
            timestamp: self.newest.timestamp + timestamp_step,
            sequence: self.newest.sequence + sequence_step,
        })
    }

    /// Whether a packet comes after one that was sent later.
    pub(super) const fn is_behind(&self, position: Position) -> bool {
        position.sequence < self.newest.sequence
    }

    /// Takes note of a packet that belongs to the stream; `false` if it has come before.
    pub(super) fn accept(&mut self, position: Position, now: Time) -> bool {
        let step = position.sequence - self.newest.sequence;
        match u32::try_from(step) {
            Ok(0) => return false,
            Ok(ahead) => self.seen = self.seen.checked_shl(ahead).unwrap_or(0) | 1,
            Err(_) => {
                // Older than all that is remembered is too old to matter: its moment is over in any case.
                let bit = u32::try_from(-step)
                    .ok()
                    .and_then(|back| 1_u128.checked_shl(back))
                    .unwrap_or(0);
                if self.seen & bit != 0 {
                    return false;
                }
                self.seen |= bit;
            }
        }
        let transit = self.transit_of(position, now);
        let change = (transit - self.transit).abs();
        self.transit = transit;
        self.jitter_sixteenths += change - ((self.jitter_sixteenths + 8) >> 4);
        if position.sequence > self.newest.sequence {
            self.newest = position;
            self.newest_arrival = now;
        }
        true
    }

    /// How much later than its timestamp a packet came, in ticks from some origin.
    fn transit_of(&self, position: Position, now: Time) -> i64 {
        (i128::from(now.as_nanos()) * i128::from(self.clock) / 1_000_000_000) as i64 - position.timestamp
    }
}

/// A packet far from its stream, which the next one may justify.
#[derive(Debug, Clone)]
pub(super) struct Probation<P> {
    arrived: Time,
    packet: JitterPacket<P>,
}

impl<P> Probation<P> {
    pub(super) const fn new(arrived: Time, packet: JitterPacket<P>) -> Self {
        Self { arrived, packet }
    }

    /// Whether `next` goes on where this one is: its sequence soon after, its timestamp within `jump` ticks.
    pub(super) fn is_followed_by(&self, next: &JitterPacket<P>, jump: i64) -> bool {
        let sequence_step = next.sequence.wrapping_sub(self.packet.sequence) as i16;
        let timestamp_step = i64::from(next.timestamp.wrapping_sub(self.packet.timestamp) as i32);
        next.ssrc == self.packet.ssrc && (1..=16).contains(&sequence_step) && (0..=jump).contains(&timestamp_step)
    }

    pub(super) fn into_parts(self) -> (Time, JitterPacket<P>) {
        (self.arrived, self.packet)
    }
}
