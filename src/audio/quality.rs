//! What became of the audio that came over a wire, in numbers for a status, for metrics and for a line at the end of a
//! call.

use serde::{Deserialize, Serialize};

use super::arrival::ArrivalStats;

/// What was received since a call began. Wires without sequence numbers can't tell what was lost or came twice, and
/// leave those at 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct StreamQuality {
    /// Packets or frames of audio that came.
    pub received: u64,
    /// Packets that never came.
    pub lost: u64,
    /// Packets that came too late to be heard.
    pub late: u64,
    /// Packets that came after one that was sent later.
    pub reordered: u64,
    /// Packets that came twice, and were heard once.
    pub duplicated: u64,
    /// Sound that was made up in the place of what was lost or late, in ms.
    pub concealed_ms: u64,
    /// Silence that was handed on because nothing came, in ms.
    pub filled_ms: u64,
    /// Audio that was left out because it came faster than time passes, in ms.
    pub left_out_ms: u64,
    /// The jitter of the arrivals as RFC 3550 §6.4.1 smooths it, in ms.
    pub jitter_ms: u32,
    /// By how much the far clock runs faster than ours, in parts per million; an estimate, 0 before half a minute.
    pub drift_ppm: i32,
    /// Packets from addresses that aren't the peer's, dropped.
    pub strangers: u64,
    /// Packets that could not be read, or were of a format that nobody agreed on, dropped.
    pub malformed: u64,
    /// The time to the peer and back as RTCP measured it, in ms. `None` where the peer sends no reports.
    pub round_trip_ms: Option<u32>,
    /// Packets of ours that the peer says it never got. `None` where it sends no reports.
    pub lost_by_peer: Option<u64>,
}

impl From<ArrivalStats> for StreamQuality {
    fn from(stats: ArrivalStats) -> Self {
        Self {
            received: stats.received,
            filled_ms: stats.filled_ms,
            left_out_ms: stats.trimmed_ms + stats.dropped_ms,
            jitter_ms: stats.jitter_ms,
            drift_ppm: stats.drift_ppm,
            ..Self::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_of_arrivals_tells_what_it_knows() {
        let quality = StreamQuality::from(ArrivalStats {
            received: 9,
            filled_ms: 60,
            trimmed_ms: 20,
            dropped_ms: 40,
            jitter_ms: 3,
            drift_ppm: -7,
            ..ArrivalStats::default()
        });
        assert_eq!((quality.received, quality.filled_ms, quality.left_out_ms), (9, 60, 60));
        assert_eq!(
            (quality.jitter_ms, quality.drift_ppm, quality.round_trip_ms),
            (3, -7, None)
        );
    }
}
