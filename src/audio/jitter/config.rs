//! The settings of a jitter buffer.

use std::time::Duration;

/// How packets become frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Discipline {
    /// By the clock, with a depth that adapts.
    Timed {
        /// The depth at the start of a stream.
        initial: Duration,
        /// The least that it shrinks to.
        least: Duration,
        /// The most that it grows to.
        most: Duration,
    },
    /// As soon as the order is certain.
    Ordered {
        /// A gap is taken for loss once so many packets wait behind it.
        packets: usize,
        /// Or once so much time has passed since the first of them came.
        patience: Duration,
    },
}

/// The settings of a [`JitterBuffer`](super::JitterBuffer).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JitterConfig {
    /// Ticks a second of the stream's timestamps.
    pub clock: u32,
    /// The length of what is made up where packets are missing, in ticks: that of the stream's usual frame. It is a
    /// first guess; the packets that come correct it.
    pub frame: u32,
    /// The most packets that are held.
    pub capacity: usize,
    /// How packets become frames.
    pub discipline: Discipline,
}

impl JitterConfig {
    /// For UDP: 40 ms at the start, 20 to 200 ms later, frames of 20 ms.
    #[must_use]
    pub const fn timed(clock: u32) -> Self {
        let discipline = Discipline::Timed {
            initial: Duration::from_millis(40),
            least: Duration::from_millis(20),
            most: Duration::from_millis(200),
        };
        Self {
            clock,
            frame: clock / 50,
            capacity: 64,
            discipline,
        }
    }

    /// For a WebSocket: a gap is held open for five packets or 100 ms, frames of 20 ms.
    #[must_use]
    pub const fn ordered(clock: u32) -> Self {
        let discipline = Discipline::Ordered {
            packets: 5,
            patience: Duration::from_millis(100),
        };
        Self {
            clock,
            frame: clock / 50,
            capacity: 64,
            discipline,
        }
    }
}
