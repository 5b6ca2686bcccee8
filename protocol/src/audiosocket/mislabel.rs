//! The trap of `Dial(AudioSocket/host/uuid)` without `c(slin)`: Asterisk passes the caller's own codec on, and calls it
//! 8 kHz PCM.

use super::kind;

/// Bytes of 20 ms of G.711, and of 10 ms of what the type byte says that it is.
const G711_BYTES: usize = 160;
/// Gaps that are looked at together.
const GAPS: usize = 10;
/// How many of them have to be about 20 ms. The rest are lost or late packets.
const REGULAR: usize = 8;

/// Notices G.711 that is labelled as 8 kHz PCM: frames of type 0x10 with 160 bytes, one each **20** ms. Played as PCM
/// they are noise. A caller who really has frames of 10 ms sends one each 10 ms and isn't taken for it.
///
/// It looks at lengths and times alone. So it can't tell µ-law from A-law, which have equally long frames: that is in
/// the bytes, or in the dialplan. The remedy is `c(slin)` in the dial string.
#[derive(Clone, Debug, Default)]
pub struct Mislabel {
    /// The last gaps in ms, in a ring.
    gaps: [u16; GAPS],
    /// How many frames of this length came in a row.
    run: usize,
    last_ms: u64,
    found: bool,
}

impl Mislabel {
    /// A detector that has seen nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes note of one frame of audio: its type byte, the bytes of its payload, and when it arrived, in ms since any
    /// fixed moment. True once, when it is clear that the label is wrong: after 11 frames (200 ms) of a steady stream.
    pub fn observe(&mut self, kind: u8, payload_bytes: usize, now_ms: u64) -> bool {
        if self.found {
            return false;
        }
        if kind != kind::AUDIO_8K || payload_bytes != G711_BYTES {
            self.run = 0;
            return false;
        }
        if self.run > 0 {
            let gap = now_ms.saturating_sub(self.last_ms);
            self.gaps[(self.run - 1) % GAPS] = u16::try_from(gap).unwrap_or(u16::MAX);
        }
        self.last_ms = now_ms;
        self.run = self.run.saturating_add(1);
        if self.run > GAPS {
            // Pairs of 10 ms frames that come together have gaps of 20 ms too, but the mean gives them away; a pause
            // among 10 ms frames lifts the mean, but the single gaps give it away.
            let regular = self.gaps.iter().filter(|gap| (14..=27).contains(*gap)).count();
            let sum: u32 = self.gaps.iter().map(|gap| u32::from(*gap)).sum();
            let mean_is_20 = (17 * GAPS as u32..=25 * GAPS as u32).contains(&sum);
            self.found = regular >= REGULAR && mean_is_20;
        }
        self.found
    }

    /// Whether the label was found to be wrong.
    #[must_use]
    pub const fn is_found(&self) -> bool {
        self.found
    }
}
