//! What a caller heard, and how: gaps, bursts, lateness, silence.

use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use repartee::audio::frame::rms_dbfs;
use repartee::time::Time;

use super::Codec;
use super::codec::Decoder;

/// Packets within so short a time came together.
const TOGETHER: Duration = Duration::from_millis(5);
/// Sound is looked at in pieces of this length.
const PIECE_MS: u32 = 10;
/// Louder than this is sound; comfort noise lies below.
const SOUND_DBFS: f32 = -45.0;
/// Ticks of the RTP clock in a millisecond.
const TICKS_PER_MS: u32 = 8;
/// The highest values that µ-law and A-law have are 32124 and 32256.
const CLIPPED: u16 = 32_000;

/// An RTP packet as it came.
#[derive(Clone, Debug)]
pub(crate) struct Packet {
    pub(crate) at: Time,
    pub(crate) marker: bool,
    pub(crate) kind: u8,
    pub(crate) sequence: u16,
    pub(crate) ticks: u32,
    pub(crate) ssrc: u32,
    pub(crate) payload: Vec<u8>,
}

impl Packet {
    /// Reads a packet of RTP (RFC 3550 §5.1); none, if it is something else.
    pub(crate) fn parse(at: Time, datagram: &[u8]) -> Option<Self> {
        let (head, rest) = datagram.split_at_checked(12)?;
        if head[0] >> 6 != 2 {
            return None;
        }
        let mut payload = rest.get(4 * usize::from(head[0] & 0x0f)..)?;
        if head[0] & 0x10 != 0 {
            let words = u16::from_be_bytes([*payload.get(2)?, *payload.get(3)?]);
            payload = payload.get(4 + 4 * usize::from(words)..)?;
        }
        if head[0] & 0x20 != 0 {
            let padding = usize::from(*payload.last()?);
            payload = payload.get(..payload.len().checked_sub(padding)?)?;
        }
        Some(Self {
            at,
            marker: head[1] & 0x80 != 0,
            kind: head[1] & 0x7f,
            sequence: u16::from_be_bytes([head[2], head[3]]),
            ticks: u32::from_be_bytes([head[4], head[5], head[6], head[7]]),
            ssrc: u32::from_be_bytes([head[8], head[9], head[10], head[11]]),
            payload: payload.to_vec(),
        })
    }
}

/// How punctual a stretch of packets was.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Punctuality {
    pub(crate) packets: usize,
    /// Packets that never came, by their sequence numbers.
    pub(crate) lost: usize,
    /// Packets that came after a later one.
    pub(crate) overtaken: usize,
    /// Times at which nothing came for 20 ms longer than what came before lasts.
    pub(crate) gaps: usize,
    pub(crate) longest_gap: Duration,
    /// The most packets that came within 5 ms.
    pub(crate) burst: usize,
    /// How often the timestamps jumped: the sender says that it sent nothing for a while.
    pub(crate) jumps: usize,
    /// Packets with the marker: each is the first after a pause, says the sender.
    pub(crate) marked: usize,
    /// By how much packets were earlier or later than their timestamps say; the timestamps are laid on the clock so that half of them
    /// are early. Where a stream begins anew (its timestamps jump), this does, too.
    pub(crate) skew_p50: Duration,
    pub(crate) skew_p99: Duration,
    pub(crate) skew_max: Duration,
}

impl fmt::Display for Punctuality {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = |duration: Duration| duration.as_secs_f64() * 1_000.0;
        write!(
            formatter,
            "{} packets, {} lost, {} overtaken, {} gaps (longest {:.1} ms), burst {}, {} jumps, {} marked, skew p50 {:.2} p99 {:.2} max {:.2} ms",
            self.packets,
            self.lost,
            self.overtaken,
            self.gaps,
            millis(self.longest_gap),
            self.burst,
            self.jumps,
            self.marked,
            millis(self.skew_p50),
            millis(self.skew_p99),
            millis(self.skew_max),
        )
    }
}

/// What was heard so far.
#[derive(Clone, Debug)]
pub(crate) struct Ear {
    pub(crate) packets: Vec<Packet>,
    codec: Codec,
    /// The samples of each packet of audio, and the packet's place in `packets`.
    sound: Vec<(usize, Vec<i16>)>,
    /// When each piece of 10 ms reached the ear, and whether it is sound.
    pieces: Vec<(Time, bool)>,
}

impl Ear {
    pub(crate) fn new(packets: Vec<Packet>, codec: Codec) -> Self {
        let mut decoder = Decoder::new(codec);
        let sound: Vec<(usize, Vec<i16>)> = packets
            .iter()
            .enumerate()
            .filter(|(_, packet)| packet.kind == codec.payload_type())
            .map(|(index, packet)| {
                let mut samples = Vec::with_capacity(packet.payload.len());
                decoder.decode(&packet.payload, &mut samples);
                (index, samples)
            })
            .collect();
        let piece = (codec.rate() / 1_000 * PIECE_MS) as usize;
        let mut pieces = Vec::new();
        for (index, samples) in &sound {
            let mut at = packets[*index].at;
            for samples in samples.chunks(piece) {
                pieces.push((at, rms_dbfs(samples) > SOUND_DBFS));
                at += Duration::from_millis(u64::from(PIECE_MS));
            }
        }
        Self {
            packets,
            codec,
            sound,
            pieces,
        }
    }

    /// When the first sound at or after `from` began to reach the ear.
    pub(crate) fn sound_from(&self, from: Time) -> Option<Time> {
        self.pieces
            .iter()
            .find(|(at, loud)| *loud && *at >= from)
            .map(|(at, _)| *at)
    }

    /// Since when there has been no sound: the end of the last one. None, if there never was any.
    pub(crate) fn silent_since(&self) -> Option<Time> {
        self.pieces
            .iter()
            .rev()
            .find(|(_, loud)| *loud)
            .map(|(at, _)| *at + Duration::from_millis(u64::from(PIECE_MS)))
    }

    /// When the sound that goes on at `from` ends: the moment after which nothing is heard for `pause`. None, if it goes on to
    /// the end of what was heard, or if there is none.
    pub(crate) fn silent_from(&self, from: Time, pause: Duration) -> Option<Time> {
        let piece = Duration::from_millis(u64::from(PIECE_MS));
        let mut end = None;
        for (at, loud) in self.pieces.iter().filter(|(at, _)| *at + piece >= from) {
            if *loud {
                end = Some(*at + piece);
            } else if end.is_some_and(|end| *at + piece >= end + pause) {
                return end;
            }
        }
        // Nothing comes any more: that is silence, too.
        let last = self.packets.last()?.at;
        end.filter(|end| last >= *end + pause)
    }

    /// How long sound was heard within these times, all in all.
    pub(crate) fn sound_within(&self, times: Range<Time>) -> Duration {
        let count = self
            .pieces
            .iter()
            .filter(|(at, loud)| *loud && times.contains(at))
            .count();
        Duration::from_millis(u64::from(PIECE_MS)) * u32::try_from(count).expect("calls are short")
    }

    /// The samples that came within these times, at the codec's rate, with silence where nothing came.
    pub(crate) fn heard(&self, times: Range<Time>) -> Vec<i16> {
        let rate = u64::from(self.codec.rate());
        let mut samples: Vec<i16> = Vec::new();
        for (index, own) in &self.sound {
            let at = self.packets[*index].at;
            if !times.contains(&at) {
                continue;
            }
            // What comes a little late is still put behind what was before it.
            let place = usize::try_from(at.since(times.start).as_nanos() * u128::from(rate) / 1_000_000_000)
                .expect("calls are short");
            if place > samples.len() + own.len() * 3 / 2 {
                samples.resize(place, 0);
            }
            samples.extend(own);
        }
        samples
    }

    /// The share of samples that are at the end of the scale, of 1.
    pub(crate) fn clipped(&self) -> f64 {
        let (mut clipped, mut all) = (0_usize, 0_usize);
        for (_, samples) in &self.sound {
            all += samples.len();
            clipped += samples.iter().filter(|sample| sample.unsigned_abs() >= CLIPPED).count();
        }
        if all == 0 { 0.0 } else { clipped as f64 / all as f64 }
    }

    /// How punctual the packets within these times were.
    pub(crate) fn punctuality(&self, times: Range<Time>) -> Punctuality {
        let packets: Vec<&Packet> = self
            .packets
            .iter()
            .filter(|packet| times.contains(&packet.at) && packet.kind == self.codec.payload_type())
            .collect();
        let mut found = Punctuality {
            packets: packets.len(),
            ..Punctuality::default()
        };
        let ticks = |packet: &Packet| u32::try_from(packet.payload.len()).expect("a datagram is short");
        let mut skews = Vec::with_capacity(packets.len());
        let mut stretch: Vec<i64> = Vec::new();
        // Nanoseconds from the stretch's first timestamp.
        let mut position = 0_i64;
        for (index, packet) in packets.iter().enumerate() {
            let near = packets[index..]
                .iter()
                .take_while(|other| other.at.since(packet.at) < TOGETHER);
            found.burst = found.burst.max(near.count());
            found.marked += usize::from(packet.marker);
            if let Some(before) = index.checked_sub(1).map(|before| packets[before]) {
                let skipped = packet.sequence.wrapping_sub(before.sequence).wrapping_sub(1);
                let overtaken = skipped >= 1 << 15;
                let anew = packet.ssrc != before.ssrc || overtaken || skipped > 1_000;
                if overtaken {
                    found.overtaken += 1;
                    found.lost = found.lost.saturating_sub(1);
                } else if !anew {
                    found.lost += usize::from(skipped);
                }
                let length = Duration::from_millis(u64::from(ticks(before) / TICKS_PER_MS));
                let gap = packet.at.since(before.at + length);
                found.longest_gap = found.longest_gap.max(gap);
                found.gaps += usize::from(gap > Duration::from_millis(20));
                let step = packet.ticks.wrapping_sub(before.ticks);
                if anew || step != ticks(before) * (u32::from(skipped) + 1) {
                    found.jumps += 1;
                    settle(&mut stretch, &mut skews);
                    position = 0;
                } else {
                    position += i64::from(step) * 1_000_000 / i64::from(TICKS_PER_MS);
                }
            }
            stretch.push(i64::try_from(packet.at.as_nanos()).expect("calls are short") - position);
        }
        settle(&mut stretch, &mut skews);
        skews.sort_unstable();
        let share = |share: usize| {
            let place = (skews.len() * share / 100).min(skews.len().saturating_sub(1));
            Duration::from_nanos(skews.get(place).copied().unwrap_or_default())
        };
        found.skew_p50 = share(50);
        found.skew_p99 = share(99);
        found.skew_max = share(100);
        found
    }

    /// Writes what was heard within these times into a WAV file, for whoever wants to listen to it.
    pub(crate) fn write_wav(&self, path: &Path, times: Range<Time>) {
        let form = hound::WavSpec {
            channels: 1,
            sample_rate: self.codec.rate(),
            bits_per_sample: 16,
            sample_format: hound::SampleFormat::Int,
        };
        let mut file = hound::WavWriter::create(path, form).expect("the folder is there");
        for sample in self.heard(times) {
            file.write_sample(sample).expect("the disk has room");
        }
        file.finalize().expect("the disk has room");
    }
}

/// The end of a stretch: how far each of its packets lay from the stretch's median.
fn settle(stretch: &mut Vec<i64>, skews: &mut Vec<u64>) {
    let mut sorted = stretch.clone();
    sorted.sort_unstable();
    if let Some(median) = sorted.get(sorted.len() / 2) {
        skews.extend(stretch.iter().map(|at| at.abs_diff(*median)));
    }
    stretch.clear();
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Packets at these milliseconds, in the order of their numbers; loud ones if `loud`.
    fn ear(arrivals: &[u64], loud: bool) -> Ear {
        let packets = arrivals
            .iter()
            .zip(0_u16..)
            .map(|(at, number)| Packet {
                at: Time::from_millis(*at),
                marker: number == 0,
                kind: 0,
                sequence: number.wrapping_add(65_530),
                ticks: u32::from(number) * 160,
                ssrc: 1,
                payload: vec![if loud { 0x90 } else { 0xff }; 160],
            })
            .collect();
        Ear::new(packets, Codec::Ulaw)
    }

    const ALL: Range<Time> = Time::ZERO..Time::from_millis(100_000);

    #[test]
    fn packets_on_time_have_neither_gap_nor_skew() {
        let arrivals: Vec<u64> = (0..200).map(|index| 20 * index).collect();
        let found = ear(&arrivals, true).punctuality(ALL);
        assert_eq!((found.packets, found.lost, found.gaps, found.burst), (200, 0, 0, 1));
        assert_eq!(found.skew_max, Duration::ZERO);
    }

    #[test]
    fn a_stall_and_its_burst_are_seen() {
        let mut arrivals: Vec<u64> = (0..200).map(|index| 20 * index).collect();
        for (index, at) in arrivals.iter_mut().enumerate().skip(100).take(5) {
            *at = 2_100 + index as u64 - 100;
        }
        let found = ear(&arrivals, true).punctuality(ALL);
        // With the one that is on time at that moment.
        assert_eq!((found.gaps, found.burst), (1, 6), "{found}");
        assert_eq!(found.longest_gap, Duration::from_millis(100));
        assert_eq!(found.skew_max, Duration::from_millis(100));
        assert_eq!(found.skew_p50, Duration::ZERO);
    }

    #[test]
    fn lost_packets_are_counted_over_the_wrap_of_numbers() {
        let mut ear = ear(&[0, 20, 40, 60, 80, 100, 120, 140, 160], true);
        ear.packets.drain(5..7);
        let found = Ear::new(ear.packets, Codec::Ulaw).punctuality(ALL);
        assert_eq!((found.packets, found.lost, found.gaps), (7, 2, 1), "{found}");
    }

    #[test]
    fn sound_and_silence_are_told_apart() {
        let (mut sounding, quiet) = (ear(&[0, 20, 40], true), ear(&[60, 80, 100, 120, 140], false));
        sounding.packets.extend(quiet.packets);
        let ear = Ear::new(sounding.packets, Codec::Ulaw);
        assert_eq!(ear.sound_from(Time::from_millis(5)), Some(Time::from_millis(10)));
        assert_eq!(ear.silent_since(), Some(Time::from_millis(60)));
        let pause = Duration::from_millis(50);
        assert_eq!(
            ear.silent_from(Time::from_millis(20), pause),
            Some(Time::from_millis(60))
        );
        assert_eq!(ear.silent_from(Time::from_millis(20), Duration::from_secs(1)), None);
        assert_eq!(ear.sound_within(ALL), Duration::from_millis(60));
        assert_eq!(ear.heard(ALL).len(), 8 * 160);
    }
}
