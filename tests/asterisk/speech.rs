//! What the test phones say.

use std::time::Duration;

use repartee::audio::frame::rms_dbfs;

/// A tone of 440 Hz that swells and fades in a tenth of a second, so that it clicks nowhere.
pub(crate) fn tone(rate: u32, millis: u32) -> Vec<i16> {
    let count = rate / 1_000 * millis;
    let fade = f64::from(rate / 10);
    (0..count)
        .map(|index| {
            let level = (f64::from(index.min(count - index)) / fade).min(1.0) * 8_000.0;
            (level * (f64::from(index) * 440.0 * std::f64::consts::TAU / f64::from(rate)).sin()) as i16
        })
        .collect()
}

pub(crate) fn silence(rate: u32, millis: u32) -> Vec<i16> {
    vec![0; (rate / 1_000 * millis) as usize]
}

/// A recording of a person, at this rate. None, with the reason printed, where the recordings are not.
pub(crate) fn recording(name: &str, rate: u32) -> Option<Vec<i16>> {
    crate::support::speech::recording(name).map(|recording| recording.samples(rate))
}

/// How long it is quiet at the beginning of `samples`: until the first 10 ms that are louder than −40 dBFS.
pub(crate) fn onset(samples: &[i16], rate: u32) -> Duration {
    let piece = (rate / 100) as usize;
    let quiet = samples
        .chunks(piece)
        .take_while(|piece| rms_dbfs(piece) < -40.0)
        .count();
    Duration::from_millis(10) * u32::try_from(quiet).expect("recordings are short")
}
