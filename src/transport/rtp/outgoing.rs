//! Our stream: one packet for each frame of the line, numbered from where nobody can guess.

use std::net::SocketAddr;

use repartee_protocol::rtp::{RtpPacket, write_goodbye};

use super::Answer;
use super::ports::Door;
use crate::audio::{CodecError, Outbound, RtpStart, SentCount};
use crate::engine::OutFrame;
use crate::time::Time;

/// See the [module](self). Whatever becomes of the peer, the stream goes on as it began.
#[derive(Debug)]
pub(super) struct Outgoing {
    outbound: Outbound,
    ssrc: u32,
    clock: u32,
    packet: Vec<u8>,
    packets: u32,
    bytes: u32,
    /// The timestamp of the last packet, and when it was due.
    last: (u32, Time),
}

impl Outgoing {
    /// # Errors
    /// The codec can't be set up.
    pub(super) fn new(answer: Answer) -> Result<Self, CodecError> {
        let start = random_start(answer.payload_type());
        let format = answer.format();
        Ok(Self {
            outbound: Outbound::new(format, start)?,
            ssrc: start.ssrc,
            clock: format.codec.rtp_clock(format.rate),
            packet: Vec::with_capacity(512),
            packets: 0,
            bytes: 0,
            last: (start.timestamp, Time::ZERO),
        })
    }

    /// The name of its source.
    pub(super) const fn ssrc(&self) -> u32 {
        self.ssrc
    }

    /// Sends a frame to `peer`. Answers whether the system took it.
    pub(super) fn send(&mut self, door: &Door, peer: SocketAddr, frame: &OutFrame) -> bool {
        self.packet.clear();
        if self.outbound.frame(frame.pcm(), frame.due, &mut self.packet).is_err() {
            return false;
        }
        if let Ok(packet) = RtpPacket::parse(&self.packet) {
            self.packets = self.packets.wrapping_add(1);
            self.bytes = self.bytes.wrapping_add(packet.payload.len() as u32);
            self.last = (packet.header.timestamp, frame.due);
        }
        door.send(peer, &self.packet)
    }

    /// What was sent, for a report at `now`.
    pub(super) fn sent(&self, now: Time) -> SentCount {
        let (timestamp, due) = self.last;
        let ticks = now.since(due).as_micros() * u128::from(self.clock) / 1_000_000;
        SentCount {
            timestamp: timestamp.wrapping_add(ticks as u32),
            packets: self.packets,
            bytes: self.bytes,
        }
    }

    /// The last report: this source is gone.
    pub(super) fn goodbye(&mut self) -> &[u8] {
        self.packet.clear();
        write_goodbye(self.ssrc, &mut self.packet);
        &self.packet
    }
}

/// Where a stream begins: RFC 3550 §5.1 wants all three numbers random.
fn random_start(payload_type: u8) -> RtpStart {
    let mut bits = [0; 10];
    getrandom::fill(&mut bits).expect("a system without a random source can't run a server");
    let [a, b, c, d, e, f, g, h, i, j] = bits;
    RtpStart {
        payload_type,
        ssrc: u32::from_be_bytes([a, b, c, d]),
        timestamp: u32::from_be_bytes([e, f, g, h]),
        sequence: u16::from_be_bytes([i, j]),
    }
}
