//! Who knocks at a free port: a stream is told from a stray packet, and from what goes on to come for a call that is over.

use std::net::SocketAddr;
use std::time::Duration;

use repartee_protocol::rtp::RtpHeader;

use crate::time::Time;

/// Sequence numbers of a stream go on by at most so much from one packet that came to the next.
const STEP: u16 = 16;
/// Packets that are further apart are no stream.
const APART: Duration = Duration::from_secs(1);
/// Streams that are looked at, at a time: a flood from invented addresses can push one out only between two of its packets.
const STREAMS: usize = 16;
/// Streams of calls that are over, as many as are remembered.
const OVER: usize = 4;

/// A stream, by where it comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Source {
    pub(super) from: SocketAddr,
    pub(super) ssrc: u32,
}

#[derive(Clone, Copy, Debug)]
struct Stream {
    source: Source,
    sequence: u16,
    in_a_row: u8,
    last: Time,
}

/// See the [module](self). Pure: it is told the time of its port's clock.
#[derive(Debug)]
pub(super) struct Doorstep {
    streams: [Option<Stream>; STREAMS],
    /// Streams of calls that are over, and when the last packet of each came.
    over: [Option<(Source, Time)>; OVER],
    /// After so long a silence such a stream may be a call again.
    forget: Duration,
}

impl Doorstep {
    pub(super) const fn new(forget: Duration) -> Self {
        Self {
            streams: [None; STREAMS],
            over: [None; OVER],
            forget,
        }
    }

    /// A packet of sound came. Answers how many came in a row, of its stream; 0 if its call is over.
    pub(super) fn knock(&mut self, now: Time, from: SocketAddr, header: &RtpHeader) -> u8 {
        let source = Source {
            from,
            ssrc: header.ssrc,
        };
        for slot in &mut self.over {
            if let Some((over, last)) = slot
                && *over == source
            {
                if now.since(*last) < self.forget {
                    *last = now;
                    return 0;
                }
                *slot = None;
            }
        }
        if let Some(stream) = self.streams.iter_mut().flatten().find(|stream| stream.source == source) {
            let step = header.sequence.wrapping_sub(stream.sequence);
            let follows = (1..=STEP).contains(&step) && now.since(stream.last) < APART;
            stream.in_a_row = if follows { stream.in_a_row.saturating_add(1) } else { 1 };
            stream.sequence = header.sequence;
            stream.last = now;
            return stream.in_a_row;
        }
        // In the place of none, of one that has stopped, of the one of which the least came, of the oldest.
        let slot = self
            .streams
            .iter_mut()
            .min_by_key(|slot| slot.map(|stream| (now.since(stream.last) < APART, stream.in_a_row, stream.last)));
        if let Some(slot) = slot {
            *slot = Some(Stream {
                source,
                sequence: header.sequence,
                in_a_row: 1,
                last: now,
            });
        }
        1
    }

    /// A call has begun: who knocked besides knocks again.
    pub(super) fn clear(&mut self) {
        self.streams = [None; STREAMS];
    }

    /// The call of `source` is over, but its packets go on to come.
    pub(super) fn over(&mut self, now: Time, source: Source) {
        let slot = self.over.iter_mut().min_by_key(|slot| slot.map(|(_, last)| last));
        if let Some(slot) = slot {
            *slot = Some((source, now));
        }
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

    fn ms(ms: u64) -> Time {
        Time::from_millis(ms)
    }

    #[test]
    fn a_stream_is_counted_over_the_wrap_and_over_losses() {
        let mut doorstep = Doorstep::new(Duration::from_secs(30));
        let counts: Vec<u8> = [65_534, 65_535, 0, 3, 19, 36, 37]
            .into_iter()
            .zip(0..)
            .map(|(sequence, n)| doorstep.knock(ms(20 * n), address(1), &header(7, sequence)))
            .collect();
        assert_eq!(counts, [1, 2, 3, 4, 5, 1, 2], "17 are no step");
        // Twice the same packet, or one a minute later, is no stream; nor are two sources one.
        assert_eq!(doorstep.knock(ms(200), address(1), &header(7, 37)), 1);
        assert_eq!(doorstep.knock(ms(60_000), address(1), &header(7, 38)), 1);
        assert_eq!(doorstep.knock(ms(60_020), address(1), &header(8, 39)), 1);
        assert_eq!(doorstep.knock(ms(60_020), address(2), &header(7, 39)), 1);
    }

    #[test]
    fn a_flood_of_single_packets_is_no_stream_and_hides_none() {
        let mut doorstep = Doorstep::new(Duration::from_secs(30));
        let mut best = 0;
        for n in 0..2_000_u32 {
            // 500 packets a second of nobody, and 50 of somebody.
            let stray = doorstep.knock(
                ms(u64::from(n) * 2),
                address(2 + n as u16),
                &header(n, (n * 40_503) as u16),
            );
            assert_eq!(stray, 1);
            if n % 10 == 0 {
                best = best.max(doorstep.knock(ms(u64::from(n) * 2), address(1), &header(7, (n / 10) as u16)));
            }
        }
        assert_eq!(best, 200);
    }

    #[test]
    fn what_goes_on_after_a_call_is_no_new_one() {
        let mut doorstep = Doorstep::new(Duration::from_secs(30));
        let source = Source {
            from: address(1),
            ssrc: 7,
        };
        doorstep.over(ms(0), source);
        for n in 0..5_000_u16 {
            assert_eq!(doorstep.knock(ms(u64::from(n) * 20), address(1), &header(7, n)), 0);
        }
        // The same address with another stream is another call; and the same stream is one after a long silence.
        assert_eq!(doorstep.knock(ms(100_000), address(1), &header(8, 0)), 1);
        assert_eq!(doorstep.knock(ms(140_000), address(1), &header(7, 0)), 1);
        assert_eq!(doorstep.knock(ms(140_020), address(1), &header(7, 1)), 2);
    }
}
