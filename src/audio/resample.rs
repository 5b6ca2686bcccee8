//! Streaming conversion between sample rates, on rubato's windowed-sinc resampler.
//!
//! The engine's own rates have ratios of small whole numbers, so a filter bank with exactly as many phases as the ratio
//! needs (at most six) holds every filter that will ever be asked for. No interpolation between filters is left, which
//! makes it as exact as a synchronous resampler, four times cheaper than cubic interpolation, and small: the filters
//! take kilobytes where rubato's usual 128 phases take 64 KiB a session.
//!
//! Voices come at other rates too: Piper's 22050 Hz would take 320 phases to be had at 16 kHz, and an odd rate
//! thousands. Such a ratio has a bank of [`PHASES`] filters, and a cubic curve through the four nearest: quieter than
//! the last bit of a sample, and built in a fraction of the time.

use super::frame::SampleRate;
use rubato::audioadapter_buffers::direct::SequentialSlice;
use rubato::{
    Async, FixedAsync, Resampler as _, Resizable as _, SincInterpolationParameters, SincInterpolationType,
    WindowFunction,
};
use thiserror::Error;

/// Filter length, in input samples. 64 would lose 2 to 4 dB at 3 kHz on the way down to 8 kHz.
const TAPS: usize = 128;
/// The length for ratios above 4:1, such as 6:1, whose transition band would otherwise reach down to 2 kHz.
const TAPS_STEEP: usize = 256;
/// Phases of the filter bank for ratios that need more than this; what lies between two of them is interpolated.
const PHASES: usize = 64;
/// The lowest and the highest rate in Hz that anything comes at.
const LOWEST_HZ: u32 = 8_000;
const HIGHEST_HZ: u32 = 48_000;
/// The highest rate in Hz that a wire speaks at: Asterisk's slin192.
const HIGHEST_WIRE_HZ: u32 = 192_000;
/// The most input samples that one call into rubato takes: 20 ms at 48 kHz. Longer input is cut; shorter is taken
/// as it is, so nothing waits for a chunk to fill.
const LARGEST_CHUNK: usize = 960;

/// A pair of rates that rubato refused, or a rate that nobody speaks at. None of [`SampleRate`]'s pairs is, as a test
/// shows.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("cannot resample from {from} Hz to {to} Hz: {reason}")]
pub struct ResamplerError {
    from: u32,
    to: u32,
    reason: String,
}

/// Mono samples at one rate to mono samples at another, piece by piece.
///
/// The state of the filter is kept across calls, so the pieces may be cut anywhere and the output is the same. It
/// comes [`delay`](Self::delay) output samples late; [`flush`](Self::flush) brings out that tail at the end of a
/// stream. Where both rates are equal the samples pass untouched, with no delay. After the first calls nothing is
/// allocated as long as the caller's buffer is reused.
#[derive(Debug)]
pub struct Resampler {
    from: u32,
    to: u32,
    /// Absent where the rates are equal.
    engine: Option<Engine>,
}

#[derive(Debug)]
struct Engine {
    sinc: Async<f32>,
    delay: usize,
    input: Vec<f32>,
    output: Vec<f32>,
    /// Samples taken and given since the stream began: at its end they tell how long the tail is.
    taken: u64,
    given: u64,
}

impl Resampler {
    /// A resampler at the start of a stream.
    ///
    /// # Errors
    /// [`ResamplerError`], for no pair of [`SampleRate`]s.
    pub fn new(from: SampleRate, to: SampleRate) -> Result<Self, ResamplerError> {
        Self::from_hz(from.hz(), to)
    }

    /// A resampler at the start of a stream of any rate from 8000 to 48000 Hz.
    ///
    /// # Errors
    /// [`ResamplerError`] for any other rate.
    pub fn from_hz(from: u32, to: SampleRate) -> Result<Self, ResamplerError> {
        Self::within(HIGHEST_HZ, from, to.hz())
    }

    /// A resampler at the start of a stream between any two rates from 8000 to 192000 Hz, for wires whose rate is none of the
    /// engine's.
    ///
    /// # Errors
    /// [`ResamplerError`] for any other rate.
    pub fn between(from: u32, to: u32) -> Result<Self, ResamplerError> {
        Self::within(HIGHEST_WIRE_HZ, from, to)
    }

    fn within(highest: u32, from: u32, to: u32) -> Result<Self, ResamplerError> {
        if [from, to].iter().any(|hz| !(LOWEST_HZ..=highest).contains(hz)) {
            let reason = format!("rates from {LOWEST_HZ} to {highest} Hz can be");
            return Err(ResamplerError { from, to, reason });
        }
        let engine = if from == to { None } else { Some(Engine::new(from, to)?) };
        Ok(Self { from, to, engine })
    }

    /// The rate in Hz of what goes in.
    #[must_use]
    pub const fn from(&self) -> u32 {
        self.from
    }

    /// The rate in Hz of what comes out.
    #[must_use]
    pub const fn to(&self) -> u32 {
        self.to
    }

    /// How much later a sound is in the output than in the input, in samples of the output.
    #[must_use]
    pub fn delay(&self) -> usize {
        self.engine.as_ref().map_or(0, |engine| engine.delay)
    }

    /// Appends to `out` whatever can be made out of `samples` and what came before them. The first call gives a few
    /// samples less than the ratio says, later ones vary by one: cut exact frames with a
    /// [`FrameFifo`](super::FrameFifo).
    pub fn process(&mut self, samples: &[i16], out: &mut Vec<i16>) {
        match &mut self.engine {
            None => out.extend_from_slice(samples),
            Some(engine) => {
                for chunk in samples.chunks(LARGEST_CHUNK) {
                    engine.taken += chunk.len() as u64;
                    engine.run(chunk, None, out);
                }
            }
        }
    }

    /// Ends the stream: appends the tail that is still inside the filter, and is ready for another stream. Over the
    /// whole stream that makes as many samples as the ratio says (rounded up), and [`delay`](Self::delay) more.
    pub fn flush(&mut self, out: &mut Vec<i16>) {
        let Some(engine) = &mut self.engine else { return };
        if engine.taken > 0 {
            let (from, to) = (u64::from(self.from), u64::from(self.to));
            let whole = (engine.taken * to).div_ceil(from) + engine.delay as u64;
            // The tail is shorter than two filters, so this ends after some 512 samples of silence at most.
            while engine.given < whole {
                engine.run(&[0; 64], Some(whole - engine.given), out);
            }
        }
        self.reset();
    }

    /// Forgets the stream, for another one.
    pub fn reset(&mut self) {
        if let Some(engine) = &mut self.engine {
            engine.sinc.reset();
            engine.taken = 0;
            engine.given = 0;
        }
    }
}

impl Engine {
    fn new(from_hz: u32, to_hz: u32) -> Result<Self, ResamplerError> {
        let divisor = greatest_common_divisor(from_hz, to_hz);
        let (phases, interpolation) = match (to_hz / divisor) as usize {
            exact if exact <= PHASES => (exact, SincInterpolationType::Nearest),
            _ => (PHASES, SincInterpolationType::Cubic),
        };
        let taps = if from_hz > 4 * to_hz { TAPS_STEEP } else { TAPS };
        // Blackman-Harris rejects 92 dB, more than 16-bit samples can show, with the narrowest transition.
        let parameters = SincInterpolationParameters::new(taps, WindowFunction::BlackmanHarris)
            .oversampling_factor(phases)
            .interpolation(interpolation);
        let ratio = f64::from(to_hz) / f64::from(from_hz);
        let sinc = Async::new_sinc(ratio, 1.0, &parameters, LARGEST_CHUNK, 1, FixedAsync::Input).map_err(|error| {
            ResamplerError {
                from: from_hz,
                to: to_hz,
                reason: error.to_string(),
            }
        })?;
        // rubato tells half the filter; its first output lies one step of the output and one phase later than that,
        // which is this fraction of an output sample less.
        let (rise, run) = (f64::from(to_hz / divisor), f64::from(from_hz / divisor));
        let delay = (taps as f64 / 2.0 * rise / run - 1.0 - 1.0 / run).round() as usize;
        let output = vec![0.0; sinc.output_frames_max()];
        Ok(Self {
            sinc,
            delay,
            input: vec![0.0; LARGEST_CHUNK],
            output,
            taken: 0,
            given: 0,
        })
    }

    /// Feeds at most [`LARGEST_CHUNK`] samples through the filter and appends what comes out, `limit` at most.
    fn run(&mut self, chunk: &[i16], limit: Option<u64>, out: &mut Vec<i16>) {
        let count = chunk.len();
        for (float, &sample) in self.input.iter_mut().zip(chunk) {
            *float = f32::from(sample);
        }
        self.sinc
            .set_chunk_size(count)
            .expect("a chunk has 1 to LARGEST_CHUNK samples");
        let input = SequentialSlice::new(&self.input[..count], 1, count).expect("the slice has this length");
        let frames = self.output.len();
        let mut output = SequentialSlice::new_mut(&mut self.output[..], 1, frames).expect("the slice has this length");
        let (_, made) = self
            .sinc
            .process_into_buffer(&input, &mut output, None)
            .expect("one channel, a whole chunk in, and room for the largest chunk out");
        let made = limit.map_or(made, |limit| made.min(limit as usize));
        self.given += made as u64;
        // The cast saturates, so a filter that overshoots full scale clips instead of wrapping round.
        out.extend(self.output[..made].iter().map(|&float| float.round() as i16));
    }
}

const fn greatest_common_divisor(mut a: u32, mut b: u32) -> u32 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sine(rate: SampleRate, hz: f64, amplitude: f64, samples: usize) -> Vec<i16> {
        sine_hz(rate.hz(), hz, amplitude, samples)
    }

    fn sine_hz(rate: u32, hz: f64, amplitude: f64, samples: usize) -> Vec<i16> {
        (0..samples)
            .map(|n| (amplitude * (n as f64 * hz / f64::from(rate) * std::f64::consts::TAU).sin()).round() as i16)
            .collect()
    }

    /// Rates of voices that are none of the engine's own: Piper's, a CD's, half and a quarter of that, and odd ones.
    const OTHER_HZ: [u32; 7] = [8_001, 11_025, 12_000, 22_050, 31_999, 32_000, 44_100];

    fn other_pairs() -> impl Iterator<Item = (u32, SampleRate)> {
        OTHER_HZ
            .into_iter()
            .flat_map(|from| SampleRate::ALL.into_iter().map(move |to| (from, to)))
    }

    fn convert(from: SampleRate, to: SampleRate, samples: &[i16], piece: usize) -> (Vec<i16>, usize) {
        convert_hz(from.hz(), to, samples, piece)
    }

    fn convert_hz(from: u32, to: SampleRate, samples: &[i16], piece: usize) -> (Vec<i16>, usize) {
        let mut resampler = Resampler::from_hz(from, to).unwrap();
        let mut out = Vec::new();
        for chunk in samples.chunks(piece) {
            resampler.process(chunk, &mut out);
        }
        resampler.flush(&mut out);
        (out, resampler.delay())
    }

    /// The amplitude of the tone at `hz`, and the root mean square of everything else, both in samples' units.
    fn analyse(samples: &[i16], rate: SampleRate, hz: f64) -> (f64, f64) {
        let step = hz / f64::from(rate.hz()) * std::f64::consts::TAU;
        let count = samples.len() as f64;
        let (mut cosine, mut sine) = (0.0, 0.0);
        for (n, &sample) in samples.iter().enumerate() {
            cosine += f64::from(sample) * (step * n as f64).cos() * 2.0 / count;
            sine += f64::from(sample) * (step * n as f64).sin() * 2.0 / count;
        }
        let rest: f64 = samples
            .iter()
            .enumerate()
            .map(|(n, &s)| (f64::from(s) - cosine * (step * n as f64).cos() - sine * (step * n as f64).sin()).powi(2))
            .sum();
        (cosine.hypot(sine), (rest / count).sqrt())
    }

    fn pairs() -> impl Iterator<Item = (SampleRate, SampleRate)> {
        SampleRate::ALL
            .into_iter()
            .flat_map(|from| SampleRate::ALL.into_iter().map(move |to| (from, to)))
            .filter(|(from, to)| from != to)
    }

    #[test]
    fn equal_rates_pass_untouched() {
        let sound = sine(SampleRate::Hz16000, 440.0, 9000.0, 777);
        assert_eq!(
            convert(SampleRate::Hz16000, SampleRate::Hz16000, &sound, 100),
            (sound, 0)
        );
    }

    #[test]
    fn a_tone_in_the_pass_band_comes_through_clean() {
        for (from, to) in pairs() {
            let lowest = f64::from(from.min(to).hz());
            for hz in [lowest * 0.025, lowest * 0.125, lowest * 0.375] {
                let sound = sine(from, hz, 16000.0, from.samples(600));
                let (out, delay) = convert(from, to, &sound, from.samples(20));
                // Whole periods away from both ends.
                let middle = &out[delay + to.samples(80)..delay + to.samples(480)];
                let (amplitude, rest) = analyse(middle, to, hz);
                let loss = 20.0 * (amplitude / 16000.0).log10();
                let noise = 20.0 * (rest / (16000.0 / std::f64::consts::SQRT_2)).log10();
                assert!(loss.abs() < 0.6, "{hz} Hz, {from} to {to}: {loss:.2} dB");
                assert!(noise < -80.0, "{hz} Hz, {from} to {to}: noise at {noise:.1} dB");
            }
        }
    }

    #[test]
    fn tones_that_the_output_cannot_hold_are_removed() {
        for (from, to) in pairs().filter(|(from, to)| from > to) {
            // From 15 % above half the output rate, where the filter has reached its stop band.
            let nyquist = f64::from(to.hz()) / 2.0;
            for hz in [nyquist * 1.15, nyquist * 1.4, f64::from(from.hz()) * 0.49] {
                let sound = sine(from, hz, 16000.0, from.samples(400));
                let (out, delay) = convert(from, to, &sound, from.samples(20));
                let middle = &out[delay + to.samples(80)..delay + to.samples(280)];
                let level = crate::audio::frame::rms_dbfs(middle) + 9.2;
                assert!(level < -80.0, "{hz} Hz, {from} to {to}: {level:.1} dB");
            }
        }
    }

    #[test]
    fn images_are_removed_going_up() {
        for (from, to) in pairs().filter(|(from, to)| from < to) {
            let hz = f64::from(from.hz()) * 0.42;
            let sound = sine(from, hz, 16000.0, from.samples(600));
            let (out, delay) = convert(from, to, &sound, 160);
            let (amplitude, rest) = analyse(&out[delay + to.samples(80)..][..to.samples(400)], to, hz);
            assert!(rest / amplitude < 1.0e-4, "{from} to {to}: {rest}");
        }
    }

    #[test]
    fn the_cut_of_the_pieces_does_not_matter() {
        for (from, to) in pairs() {
            let sound = sine(from, 700.0, 12000.0, from.samples(90) + 13);
            let (whole, _) = convert(from, to, &sound, usize::MAX);
            for piece in [1, 7, 160, 399, 960, 961] {
                let (cut, _) = convert(from, to, &sound, piece);
                assert_eq!(cut.len(), whole.len(), "{from} to {to} in pieces of {piece}");
                // Sums in another order of rounding may differ in the last bit.
                assert!(
                    cut.iter().zip(&whole).all(|(a, b)| (a - b).abs() <= 1),
                    "{from} to {to}, {piece}"
                );
            }
        }
    }

    #[test]
    fn nothing_is_lost_and_the_delay_is_what_it_says() {
        for (from, to) in pairs() {
            // A click in the very last sample must still come out, at its own time plus the delay.
            let mut sound = vec![0; from.samples(50)];
            *sound.last_mut().unwrap() = 30000;
            let (out, delay) = convert(from, to, &sound, 123);
            assert_eq!(out.len(), to.samples(50) + delay, "{from} to {to}");
            let loudest = (0..out.len()).max_by_key(|&n| out[n].unsigned_abs()).unwrap();
            let expected = (sound.len() - 1) as f64 * f64::from(to.hz()) / f64::from(from.hz()) + delay as f64;
            assert!(
                (loudest as f64 - expected).abs() <= 1.0,
                "{from} to {to}: {loudest}, not {expected}"
            );
            assert!(delay as f64 * 1000.0 / f64::from(to.hz()) <= 8.0, "at most 8 ms");
        }
    }

    #[test]
    fn a_tone_at_any_rate_keeps_its_pitch_and_its_level() {
        for (from, to) in other_pairs() {
            let lowest = f64::from(from.min(to.hz()));
            for hz in [lowest * 0.025, lowest * 0.125, lowest * 0.375] {
                // Whole periods in the stretch that is looked at, so that nothing leaks into the rest.
                let hz = (hz / 2.5).round() * 2.5;
                let sound = sine_hz(from, hz, 16000.0, from as usize * 6 / 10);
                let (out, delay) = convert_hz(from, to, &sound, from as usize / 50);
                let middle = &out[delay + to.samples(80)..delay + to.samples(480)];
                let (amplitude, rest) = analyse(middle, to, hz);
                let loss = 20.0 * (amplitude / 16000.0).log10();
                let noise = 20.0 * (rest / (16000.0 / std::f64::consts::SQRT_2)).log10();
                assert!(loss.abs() < 0.6, "{hz} Hz, {from} to {to}: {loss:.2} dB");
                assert!(noise < -80.0, "{hz} Hz, {from} to {to}: noise at {noise:.1} dB");
            }
        }
    }

    #[test]
    fn a_tone_keeps_its_pitch_and_its_level_at_the_rates_of_a_wire() {
        for (from, to) in [
            (24_000, 12_000),
            (48_000, 32_000),
            (48_000, 44_100),
            (48_000, 96_000),
            (48_000, 192_000),
            (96_000, 48_000),
            (192_000, 48_000),
        ] {
            let hz = f64::from(from.min(to)) * 0.125;
            let mut resampler = Resampler::between(from, to).unwrap();
            let mut out = Vec::new();
            for chunk in sine_hz(from, hz, 16000.0, from as usize * 6 / 10).chunks(from as usize / 50) {
                resampler.process(chunk, &mut out);
            }
            let rate = f64::from(to);
            let middle = &out[resampler.delay() + to as usize * 8 / 100..][..to as usize * 4 / 10];
            let (sin, cos) = middle.iter().zip(0..).fold((0.0, 0.0), |(sin, cos), (&sample, n)| {
                let phase = hz / rate * f64::from(n) * std::f64::consts::TAU;
                (
                    sin + f64::from(sample) * phase.sin(),
                    cos + f64::from(sample) * phase.cos(),
                )
            });
            let amplitude = f64::hypot(sin, cos) * 2.0 / middle.len() as f64;
            assert!(
                (20.0 * (amplitude / 16000.0).log10()).abs() < 0.6,
                "{from} to {to}: {amplitude}"
            );
        }
        assert!(Resampler::between(7_999, 8_000).is_err() && Resampler::between(8_000, 192_001).is_err());
    }

    #[test]
    fn tones_of_other_rates_that_the_output_cannot_hold_are_removed() {
        for (from, to) in other_pairs().filter(|(from, to)| *from > to.hz() * 5 / 4) {
            let nyquist = f64::from(to.hz()) / 2.0;
            let hz = (nyquist * 1.2).min(f64::from(from) * 0.49);
            let sound = sine_hz(from, hz, 16000.0, from as usize * 4 / 10);
            let (out, delay) = convert_hz(from, to, &sound, from as usize / 50);
            let middle = &out[delay + to.samples(80)..delay + to.samples(280)];
            let level = crate::audio::frame::rms_dbfs(middle) + 9.2;
            assert!(level < -70.0, "{hz} Hz, {from} to {to}: {level:.1} dB");
        }
    }

    #[test]
    fn nothing_of_any_rate_is_lost_however_it_is_cut() {
        for (from, to) in other_pairs() {
            // The sound is soft, because a click loses much of its height on the way down to 8 kHz.
            let mut sound = sine_hz(from, 700.0, 1000.0, from as usize / 20 + 13);
            // A click in the last millisecond must still come out, at its own time plus the delay.
            sound.extend_from_slice(&[0; 400]);
            let click = sound.len() - from as usize / 1_000;
            sound[click] = 30000;
            let (whole, delay) = convert_hz(from, to, &sound, usize::MAX);
            let exact = sound.len() as f64 * f64::from(to.hz()) / f64::from(from);
            assert!(
                (whole.len() as f64 - exact - delay as f64).abs() <= 2.0,
                "{from} to {to}: {} samples, not {exact} and {delay}",
                whole.len()
            );
            let loudest = (0..whole.len()).max_by_key(|&n| whole[n].unsigned_abs()).unwrap();
            let expected = click as f64 * f64::from(to.hz()) / f64::from(from) + delay as f64;
            assert!(
                (loudest as f64 - expected).abs() <= 1.5,
                "{from} to {to}: {loudest}, not {expected}"
            );
            for piece in [1, 7, 399, 960, 961] {
                let (cut, _) = convert_hz(from, to, &sound, piece);
                assert_eq!(cut.len(), whole.len(), "{from} to {to} in pieces of {piece}");
                assert!(
                    cut.iter().zip(&whole).all(|(a, b)| (a - b).abs() <= 1),
                    "{from} to {to}, {piece}"
                );
            }
        }
    }

    #[test]
    fn rates_that_nobody_speaks_at_are_refused() {
        for from in [0, 1, 7_999, 48_001, u32::MAX] {
            assert!(Resampler::from_hz(from, SampleRate::Hz16000).is_err(), "{from}");
        }
    }

    #[test]
    fn a_flushed_resampler_starts_again() {
        let sound = sine(SampleRate::Hz8000, 300.0, 9000.0, 1000);
        let mut resampler = Resampler::new(SampleRate::Hz8000, SampleRate::Hz24000).unwrap();
        let (mut first, mut second) = (Vec::new(), Vec::new());
        resampler.flush(&mut first);
        assert!(first.is_empty(), "an empty stream has no tail");
        resampler.process(&sound, &mut first);
        resampler.flush(&mut first);
        resampler.process(&sound, &mut second);
        resampler.flush(&mut second);
        assert_eq!(first, second);
    }

    #[test]
    fn full_scale_clips_and_does_not_wrap() {
        let square: Vec<i16> = (0..1600)
            .map(|n| if n / 20 % 2 == 0 { i16::MAX } else { i16::MIN })
            .collect();
        let (out, delay) = convert(SampleRate::Hz8000, SampleRate::Hz16000, &square, 160);
        for (n, sample) in out.iter().enumerate().skip(delay + 500).take(2000) {
            let phase = (n - delay) / 40 % 2;
            if !(4..36).contains(&((n - delay) % 40)) {
                continue;
            }
            assert_eq!(*sample > 0, phase == 0, "sample {n} is {sample}");
        }
    }

    #[test]
    fn hours_do_not_drift() {
        let mut resampler = Resampler::new(SampleRate::Hz8000, SampleRate::Hz24000).unwrap();
        let (frame, mut out, mut given) = (vec![0; 160], Vec::new(), 0_u64);
        for _ in 0..20_000 {
            out.clear();
            resampler.process(&frame, &mut out);
            given += out.len() as u64;
        }
        // All that is missing is what the filter holds: its delay, at most twice.
        let expected = 20_000 * 480;
        assert!(
            given <= expected && expected - given < 2 * 128 * 3,
            "{given} of {expected}"
        );
    }
}
