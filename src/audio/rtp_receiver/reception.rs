//! The count of a stream's packets, and what both ends report of it (RFC 3550 §6.4, A.1, A.3).

use std::time::Duration;

use repartee_protocol::rtp::{ReceptionReport, RtcpPacket, RtcpReader, RtpHeader, SenderReport, write_report};

use crate::time::Time;

/// How often we report, if the peer does (RFC 3550 §6.2).
const INTERVAL: Duration = Duration::from_secs(5);
/// A jump of the sequence numbers by more is another stream (RFC 3550 A.1, MAX_DROPOUT).
const MAX_DROPOUT: u16 = 3000;
/// Longer than any way there and back: what claims more is nonsense.
const LONGEST_ROUND_TRIP: u32 = 60 << 16;

/// Counts the packets of one source.
#[derive(Debug, Clone, Copy)]
struct Counted {
    ssrc: u32,
    first: u32,
    /// With its wraps in the upper half.
    highest: u32,
    received: u64,
    /// At the report before.
    expected_before: u64,
    received_before: u64,
}

impl Counted {
    fn expected(&self) -> u64 {
        u64::from(self.highest.wrapping_sub(self.first)) + 1
    }

    fn lost(&self) -> u64 {
        self.expected().saturating_sub(self.received)
    }
}

/// What a peer's reports say of us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PeerView {
    /// Packets of ours that it never got; negative numbers on the wire are told as 0.
    pub lost: u64,
    /// The share of them since its report before, in 256ths.
    pub fraction_lost: u8,
    /// The jitter of our packets there, in ticks of our stream's clock.
    pub jitter: u32,
    /// The time there and back. `None` before it has had a report of ours.
    pub round_trip: Option<Duration>,
}

/// What we have sent, as our reports tell it: ask the sender of the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SentCount {
    /// The timestamp that belongs to the moment of asking.
    pub timestamp: u32,
    /// Packets so far.
    pub packets: u32,
    /// Bytes of payload so far.
    pub bytes: u32,
}

/// One call's packets and reports.
#[derive(Debug, Clone, Default)]
pub(super) struct Reception {
    counted: Option<Counted>,
    /// Losses of the streams before.
    lost_before: u64,
    /// The middle of the NTP time in the peer's last report, and when it came.
    sender_report: Option<(u32, Time)>,
    /// The peer sends reports, and ours is due at.
    due: Option<Time>,
    peer: Option<PeerView>,
    goodbye: bool,
}

impl Reception {
    /// A packet that belongs to the stream and hadn't come before.
    pub(super) fn count(&mut self, header: &RtpHeader) {
        let sequence = u32::from(header.sequence);
        self.goodbye = false;
        if let Some(counted) = &mut self.counted
            && counted.ssrc == header.ssrc
        {
            let step = header.sequence.wrapping_sub(counted.highest as u16);
            let back = (counted.highest as u16).wrapping_sub(header.sequence);
            if step <= MAX_DROPOUT || back <= MAX_DROPOUT {
                if step <= MAX_DROPOUT {
                    counted.highest = counted.highest.wrapping_add(u32::from(step));
                }
                counted.received += 1;
                return;
            }
        }
        self.lost_before += self.counted.map_or(0, |counted| counted.lost());
        self.counted = Some(Counted {
            ssrc: header.ssrc,
            first: sequence,
            highest: sequence,
            received: 1,
            expected_before: 0,
            received_before: 0,
        });
    }

    pub(super) fn lost(&self) -> u64 {
        self.lost_before + self.counted.map_or(0, |counted| counted.lost())
    }

    /// Reads a report of the peer's. `own` is the source that we send as. Returns whether it could be read.
    pub(super) fn read(&mut self, now: Time, bytes: &[u8], own: u32) -> bool {
        for packet in RtcpReader::new(bytes) {
            let Ok(packet) = packet else { return false };
            match packet {
                RtcpPacket::Report { sender, receptions, .. } => {
                    if let Some(sender) = sender {
                        self.sender_report = Some(((sender.ntp >> 16) as u32, now));
                    }
                    for block in receptions.iter().filter(|block| block.ssrc == own) {
                        self.peer = Some(PeerView {
                            lost: u64::try_from(block.lost).unwrap_or(0),
                            fraction_lost: block.fraction_lost,
                            jitter: block.jitter,
                            round_trip: round_trip(now, &block).or_else(|| self.peer.and_then(|peer| peer.round_trip)),
                        });
                    }
                    self.due.get_or_insert(now + INTERVAL / 2);
                }
                RtcpPacket::Goodbye { .. } => self.goodbye = true,
                RtcpPacket::Other(_) => {}
            }
        }
        true
    }

    /// When our next report is due; never if the peer sends none.
    pub(super) const fn next_deadline(&self) -> Option<Time> {
        self.due
    }

    /// Appends our report to `out` if it is due.
    pub(super) fn write(
        &mut self,
        now: Time,
        own: u32,
        jitter: u32,
        sent: Option<SentCount>,
        out: &mut Vec<u8>,
    ) -> bool {
        if self.due.is_none_or(|due| now < due) {
            return false;
        }
        // Between a half and one and a half of the interval, so that ends don't fall into step (RFC 3550 §6.2).
        let spread = own.wrapping_mul(2_654_435_761).wrapping_add(now.as_millis() as u32) % 5_000;
        self.due = Some(now + INTERVAL / 2 + Duration::from_millis(u64::from(spread)));
        let sender = sent.filter(|sent| sent.packets > 0).map(|sent| SenderReport {
            ntp: ntp(now),
            timestamp: sent.timestamp,
            packets: sent.packets,
            bytes: sent.bytes,
        });
        let last = self.sender_report;
        let reception = self.counted.as_mut().map(|counted| {
            let (expected, received) = (counted.expected(), counted.received);
            let expected_now = expected.saturating_sub(counted.expected_before);
            let lost_now = expected_now.saturating_sub(received - counted.received_before);
            counted.expected_before = expected;
            counted.received_before = received;
            ReceptionReport {
                ssrc: counted.ssrc,
                fraction_lost: u8::try_from((lost_now * 256).checked_div(expected_now).unwrap_or(0)).unwrap_or(u8::MAX),
                lost: i32::try_from(expected.cast_signed() - received.cast_signed()).unwrap_or(i32::MAX),
                highest_sequence: counted.highest,
                jitter,
                last_sender_report: last.map_or(0, |(middle, _)| middle),
                since_sender_report: last.map_or(0, |(_, came)| {
                    u32::try_from(ntp_of(now.since(came)) >> 16).unwrap_or(u32::MAX)
                }),
            }
        });
        write_report(own, NAME, sender.as_ref(), reception.as_ref(), out);
        true
    }

    pub(super) const fn peer(&self) -> Option<PeerView> {
        self.peer
    }

    pub(super) const fn said_goodbye(&self) -> bool {
        self.goodbye
    }
}

/// The name of our source. It says nothing of who runs this or where (RFC 7022 wants names that tell nothing).
const NAME: &str = "repartee";

/// A time since the session began as NTP has it: seconds in the upper half, their fraction in the lower.
fn ntp(time: Time) -> u64 {
    ntp_of(time.since(Time::ZERO))
}

fn ntp_of(duration: Duration) -> u64 {
    (duration.as_secs() << 32) | ((u64::from(duration.subsec_nanos()) << 32) / 1_000_000_000)
}

/// The time there and back that a block about us tells (RFC 3550 §6.4.1).
fn round_trip(now: Time, block: &ReceptionReport) -> Option<Duration> {
    if block.last_sender_report == 0 {
        return None;
    }
    let middle = (ntp(now) >> 16) as u32;
    let ticks = middle
        .wrapping_sub(block.last_sender_report)
        .wrapping_sub(block.since_sender_report);
    (ticks <= LONGEST_ROUND_TRIP).then(|| Duration::from_nanos((u64::from(ticks) * 1_000_000_000) >> 16))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(sequence: u16) -> RtpHeader {
        RtpHeader {
            sequence,
            ssrc: 5,
            ..RtpHeader::default()
        }
    }

    #[test]
    fn losses_are_counted_over_every_wrap() {
        let mut reception = Reception::default();
        for n in 0..300_000_u32 {
            if n % 10 != 3 {
                reception.count(&header((n + 65_500) as u16));
            }
        }
        assert_eq!(reception.lost(), 30_000);
        // Another source begins at zero.
        reception.count(&RtpHeader { ssrc: 6, ..header(9) });
        assert_eq!(reception.lost(), 30_000);
    }

    #[test]
    fn two_ends_measure_their_distance() {
        // 35 ms there, 15 ms back; neither has the other's clock.
        let (mut here, mut there) = (Reception::default(), Reception::default());
        let sent = Some(SentCount {
            timestamp: 1,
            packets: 2,
            bytes: 3,
        });
        let mut bytes = Vec::new();
        assert!(
            !here.write(Time::from_millis(50_000), 1, 0, sent, &mut bytes),
            "nobody asked"
        );
        // The peer begins.
        write_report(2, "peer", None, None, &mut bytes);
        assert!(here.read(Time::from_millis(1_000), &bytes, 1));
        there.count(&RtpHeader { ssrc: 1, ..header(7) });
        there.count(&RtpHeader { ssrc: 1, ..header(11) });
        let offset = 7_777;
        for round in 0..3 {
            let due = here.next_deadline().unwrap();
            bytes.clear();
            assert!(here.write(due, 1, 0, sent, &mut bytes));
            assert!(there.read(due + Duration::from_millis(35 + offset), &bytes, 2));
            // It answers when its own report is due.
            let answered = there.next_deadline().unwrap();
            bytes.clear();
            assert!(there.write(answered, 2, 44, None, &mut bytes));
            let arrived = answered.before(Duration::from_millis(offset)) + Duration::from_millis(15);
            assert!(here.read(arrived, &bytes, 1));
            let peer = here.peer().unwrap();
            assert_eq!((peer.lost, peer.jitter), (3, 44));
            assert_eq!(peer.fraction_lost, if round == 0 { 3 * 51 } else { 0 });
            let round_trip = peer.round_trip.unwrap();
            assert!(
                round_trip.abs_diff(Duration::from_millis(50)) < Duration::from_micros(50),
                "{round_trip:?}"
            );
        }
    }

    #[test]
    fn reports_come_about_every_five_seconds() {
        let mut reception = Reception::default();
        let mut bytes = Vec::new();
        write_report(2, "peer", None, None, &mut bytes);
        reception.read(Time::ZERO, &bytes, 1);
        let mut times = Vec::new();
        for now in 0..600_000 {
            bytes.clear();
            if reception.write(Time::from_millis(now), 99, 0, None, &mut bytes) {
                times.push(now);
            }
        }
        assert!((100..=140).contains(&times.len()), "{}", times.len());
        assert!(
            times
                .windows(2)
                .all(|pair| (2_500..=7_500).contains(&(pair[1] - pair[0])))
        );
        assert!(!reception.said_goodbye());
        bytes.clear();
        repartee_protocol::rtp::write_goodbye(2, &mut bytes);
        assert!(reception.read(Time::ZERO, &bytes, 1) && reception.said_goodbye());
        assert!(!reception.read(Time::ZERO, &bytes[..6], 1));
    }

    #[test]
    fn nonsense_about_distance_is_not_believed() {
        let block = ReceptionReport {
            last_sender_report: 1 << 31,
            ..ReceptionReport::default()
        };
        assert_eq!(round_trip(Time::from_millis(5_000), &block), None);
    }
}
