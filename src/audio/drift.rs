//! How much faster a far clock runs than ours, from when things arrive and how long they are.

/// Over how long the most punctual arrival is looked for, in ns: jitter only ever makes things late, so the earliest
/// of a while tells of the clocks alone.
pub(super) const WINDOW: i64 = 10_000_000_000;
/// How fast the clocks may seem to part, in parts per million. Sound cards and phones are within 200.
const MOST_DRIFT_PPM: i64 = 1_000;
/// The drift is told after so many windows.
const LEAST_WINDOWS: i64 = 3;

/// How far two clocks may part in `nanos`.
pub(super) const fn most_drift(nanos: i64) -> i64 {
    nanos / (1_000_000 / MOST_DRIFT_PPM)
}

/// Follows the most punctual arrivals from window to window.
#[derive(Debug, Clone, Default)]
pub(super) struct DriftMeter {
    /// The window that runs: since when, and the least transit in it.
    running: Option<(i64, i64)>,
    /// The least transit of the window before.
    before: Option<i64>,
    moved: i64,
    over: i64,
}

impl DriftMeter {
    /// Something arrived at `now`, `transit` ns after its own clock's time (from any origin).
    pub(super) fn note(&mut self, now: i64, transit: i64) {
        let Some((since, least)) = &mut self.running else {
            self.running = Some((now, transit));
            return;
        };
        let length = now.saturating_sub(*since);
        if length < WINDOW {
            *least = (*least).min(transit);
            return;
        }
        // Where nothing came for long, the window says little about what is between.
        let is_whole = length < 2 * WINDOW;
        if let Some(before) = self.before {
            let moved = least.saturating_sub(before);
            // A loss or a gap moves it by more than any clock does.
            if is_whole && moved.saturating_abs() <= most_drift(length) {
                self.moved += moved;
                self.over = self.over.saturating_add(length);
            }
        }
        self.before = is_whole.then_some(*least);
        self.running = Some((now, transit));
    }

    /// Another source: its times have another origin. The estimate so far is kept.
    pub(super) const fn restart(&mut self) {
        self.running = None;
        self.before = None;
    }

    /// By how much the far clock is faster, in parts per million, negative if slower; 0 before some half a minute was
    /// measured.
    pub(super) fn ppm(&self) -> i32 {
        if self.over < LEAST_WINDOWS * WINDOW {
            return 0;
        }
        // No window moves by more than a thousandth of itself, so this fits.
        (-i128::from(self.moved) * 1_000_000 / i128::from(self.over)) as i32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drift_is_found_under_jitter_and_jumps_are_not_taken_for_it() {
        for ppm in [-200, -20, 0, 20, 200] {
            let mut meter = DriftMeter::default();
            let (mut state, mut jump) = (99_u64, 0_i64);
            for n in 0..30_000_i64 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let jitter = (state >> 33) as i64 % 60_000_000;
                let spoken = n * 20_000_000;
                // Now and then a loss makes what follows late for good.
                jump += if n % 4_000 == 3_999 { 20_000_000 } else { 0 };
                let now = spoken - spoken / 1_000_000 * ppm + jitter + jump;
                meter.note(now, now - spoken);
            }
            assert!((i64::from(meter.ppm()) - ppm).abs() <= 15, "{ppm}: {}", meter.ppm());
        }
    }

    #[test]
    fn little_is_not_judged() {
        let mut meter = DriftMeter::default();
        for n in 0..1_400_i64 {
            meter.note(n * 20_000_000, -n * 4_000);
        }
        assert_eq!(meter.ppm(), 0);
        meter.restart();
        meter.note(i64::MAX, i64::MIN);
        meter.note(i64::MAX, i64::MAX);
        assert_eq!(meter.ppm(), 0);
    }
}
