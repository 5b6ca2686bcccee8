//! How well a call's sound comes and goes.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::audio::StreamQuality;

/// Frames of ours that leave later than this are late.
const LATE: Duration = Duration::from_millis(5);

/// What was sent to the far side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Sent {
    /// Frames of 20 ms.
    pub frames: u64,
    /// Frames that left more than 5 ms late.
    pub late: u64,
    /// The latest, in ms.
    pub worst_ms: u32,
    /// Frames that found no room, because the far side took nothing.
    pub dropped: u64,
}

/// Both directions of a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Quality {
    /// From the far side.
    pub received: StreamQuality,
    /// To it.
    pub sent: Sent,
}

/// What is counted of what came, by name: for metrics, which add up over all calls.
pub(super) const fn counts(received: &StreamQuality) -> [(&'static str, u64); 10] {
    [
        ("received", received.received),
        ("lost", received.lost),
        ("late", received.late),
        ("reordered", received.reordered),
        ("duplicate", received.duplicated),
        ("malformed", received.malformed),
        ("stranger", received.strangers),
        ("concealed_ms", received.concealed_ms),
        ("filled_ms", received.filled_ms),
        ("left_out_ms", received.left_out_ms),
    ]
}

impl Sent {
    /// A frame left so much later than it was due.
    pub(super) fn note(&mut self, lateness: Duration) {
        self.frames += 1;
        self.late += u64::from(lateness > LATE);
        let lateness = u32::try_from(lateness.as_millis()).unwrap_or(u32::MAX);
        self.worst_ms = self.worst_ms.max(lateness);
    }
}

impl fmt::Display for Quality {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { received, sent } = self;
        write!(
            formatter,
            "received={} lost={} late={} reordered={} duplicated={} malformed={} strangers={} concealed_ms={} filled_ms={} \
             left_out_ms={} jitter_ms={} drift_ppm={} sent={} sent_late={} sent_worst_ms={} sent_dropped={}",
            received.received,
            received.lost,
            received.late,
            received.reordered,
            received.duplicated,
            received.malformed,
            received.strangers,
            received.concealed_ms,
            received.filled_ms,
            received.left_out_ms,
            received.jitter_ms,
            received.drift_ppm,
            sent.frames,
            sent.late,
            sent.worst_ms,
            sent.dropped
        )
    }
}
