//! Tones as networks and machines send them, and voices, which are none.

use super::*;
use crate::audio::g711;

/// Seconds of these frequencies at once, at -15 dBov each.
fn tone(rate: SampleRate, hz: &[f32], seconds: f32) -> Vec<i16> {
    (0..(seconds * rate.hz() as f32) as usize)
        .map(|n| {
            let angle = |hz: &f32| (n as f32 * hz / rate.hz() as f32 * std::f32::consts::TAU).sin();
            (hz.iter().map(angle).sum::<f32>() * 5_800.0) as i16
        })
        .collect()
}

fn silence(rate: SampleRate, seconds: f32) -> Vec<i16> {
    vec![0; (seconds * rate.hz() as f32) as usize]
}

/// Something that is neither quiet nor a tone.
fn babble(rate: SampleRate, seconds: f32) -> Vec<i16> {
    let mut state = 7_u32;
    let mut last = 0.0;
    (0..(seconds * rate.hz() as f32) as usize)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            last = 0.7 * last + (state >> 16) as f32 / 16.0 - 2_048.0;
            last as i16
        })
        .collect()
}

fn hear(rate: SampleRate, sound: &[i16]) -> Vec<Signal> {
    // What comes over a line is never exact.
    let mut bytes = Vec::new();
    g711::mu_law_encode_into(sound, &mut bytes);
    let mut coded = Vec::new();
    g711::mu_law_decode_into(&bytes, &mut coded);
    let mut progress = CallProgress::new(rate, Patience::default());
    let mut found = Vec::new();
    for piece in coded.chunks(rate.samples(20) + 3) {
        progress.push(piece);
        found.extend(std::iter::from_fn(|| progress.poll()));
    }
    found
}

const RATES: [SampleRate; 2] = [SampleRate::Hz8000, SampleRate::Hz16000];

fn pattern(rate: SampleRate, hz: &[f32], on_off: &[(f32, f32)], times: usize) -> Vec<i16> {
    let once: Vec<i16> = on_off
        .iter()
        .flat_map(|&(on, off)| [tone(rate, hz, on), silence(rate, off)].concat())
        .collect();
    once.repeat(times)
}

#[test]
fn fax_machines_are_recognised() {
    for rate in RATES {
        let calling = pattern(rate, &[1_100.0], &[(0.5, 3.0)], 3);
        assert_eq!(hear(rate, &calling), [Signal::FaxCalling]);
        let answering = [silence(rate, 0.5), tone(rate, &[2_100.0], 2.6)].concat();
        assert_eq!(hear(rate, &answering), [Signal::FaxAnswering]);
        // Its phase turns every 450 ms to switch echo cancellers off (ITU-T G.164).
        let mut turning = tone(rate, &[2_100.0], 3.2);
        for (index, sample) in turning.iter_mut().enumerate() {
            if index / rate.samples(450) % 2 == 1 {
                *sample = -*sample;
            }
        }
        assert_eq!(hear(rate, &turning), [Signal::FaxAnswering]);
        assert_eq!(hear(rate, &tone(rate, &[1_000.0], 3.0)), []);
    }
}

/// Frequencies, and seconds on and off.
type Ring = (&'static [f32], &'static [(f32, f32)]);

#[test]
fn long_ringing_is_told_and_short_is_not() {
    for rate in RATES {
        let rings: [Ring; 4] = [
            (&[425.0], &[(1.0, 4.0)]),
            (&[440.0, 480.0], &[(2.0, 4.0)]),
            (&[400.0, 450.0], &[(0.4, 0.2), (0.4, 2.0)]),
            (&[425.0], &[(1.0, 5.0)]),
        ];
        for (hz, cadence) in rings {
            let seconds: f32 = cadence.iter().map(|(on, off)| on + off).sum();
            let times = (36.0 / seconds) as usize + 1;
            assert_eq!(
                hear(rate, &pattern(rate, hz, cadence, times)),
                [Signal::Ringing],
                "{hz:?}"
            );
            let answered = [pattern(rate, hz, cadence, 3), babble(rate, 2.0), silence(rate, 40.0)].concat();
            assert_eq!(hear(rate, &answered), [], "{hz:?}");
        }
    }
}

#[test]
fn busy_is_told_after_four_bursts() {
    for rate in RATES {
        let busy: [(&[f32], f32); 5] = [
            (&[480.0, 620.0], 0.5),
            (&[480.0, 620.0], 0.25),
            (&[425.0], 0.48),
            (&[425.0], 0.24),
            (&[400.0], 0.375),
        ];
        for (hz, half) in busy {
            let sound = pattern(rate, hz, &[(half, half)], 8);
            assert_eq!(hear(rate, &sound), [Signal::Busy], "{hz:?} {half}");
            let few = pattern(rate, hz, &[(half, half)], 2);
            assert_eq!(hear(rate, &few), [], "{hz:?} {half}");
            // After a conversation it is no beep.
            let after = [babble(rate, 3.0), silence(rate, 0.5), sound].concat();
            assert_eq!(hear(rate, &after), [Signal::Busy], "{hz:?} {half}");
        }
    }
}

#[test]
fn special_information_is_three_rising_tones() {
    for rate in RATES {
        let tones = [950.0, 1_400.0, 1_800.0].map(|hz| tone(rate, &[hz], 0.33));
        let sound = [
            babble(rate, 2.0),
            silence(rate, 0.4),
            tones.concat(),
            silence(rate, 2.0),
        ]
        .concat();
        assert_eq!(hear(rate, &sound), [Signal::SpecialInformation]);
        let falling = [
            tone(rate, &[1_800.0], 0.33),
            tone(rate, &[1_400.0], 0.33),
            tone(rate, &[950.0], 0.33),
        ]
        .concat();
        assert_eq!(hear(rate, &falling), []);
    }
}

#[test]
fn a_beep_comes_after_speech_and_before_silence() {
    for rate in RATES {
        for (hz, seconds) in [
            (440.0, 0.5),
            (1_000.0, 0.2),
            (1_000.0, 0.4),
            (1_400.0, 1.0),
            (800.0, 1.8),
            (1_100.0, 0.5),
        ] {
            let beep = [silence(rate, 0.6), tone(rate, &[hz], seconds)].concat();
            let greeting = babble(rate, 4.0);
            let voicemail = [&greeting[..], &beep, &silence(rate, 5.0)].concat();
            assert_eq!(hear(rate, &voicemail), [Signal::Beep], "{hz} Hz, {seconds} s");
            let without_speech = [&beep[..], &silence(rate, 5.0)].concat();
            assert_eq!(hear(rate, &without_speech), [], "{hz} Hz, {seconds} s");
            let without_silence = [&greeting[..], &beep, &babble(rate, 5.0)].concat();
            assert_eq!(hear(rate, &without_silence), [], "{hz} Hz, {seconds} s");
        }
    }
}

#[test]
fn a_greeting_without_a_pause_is_told() {
    for rate in RATES {
        let sentence = [babble(rate, 3.0), silence(rate, 0.8)].concat();
        assert_eq!(hear(rate, &sentence.repeat(9)), [Signal::EndlessGreeting]);
        assert_eq!(hear(rate, &sentence.repeat(7)), []);
        let asks = [sentence.repeat(5), silence(rate, 0.6), sentence.repeat(20)].concat();
        assert_eq!(hear(rate, &asks), [], "after a pause everybody may speak for long");
    }
}

#[test]
fn any_samples_are_taken() {
    for rate in SampleRate::ALL {
        let extremes = [i16::MIN, i16::MAX, 0].repeat(40_000);
        let mut progress = CallProgress::new(rate, Patience::default());
        progress.push(&extremes);
        progress.push(&[]);
        progress.push(&[i16::MIN; 99_999]);
        assert_eq!(progress.poll(), None);
    }
}

#[test]
fn real_voices_are_no_tones() {
    let folder = std::env::var_os("REPARTEE_SPEECH").map_or_else(
        || std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/speech"),
        std::path::PathBuf::from,
    );
    let mut folders = vec![folder.clone()];
    let mut read = 0;
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(&next).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            for rate in RATES {
                let Ok(sound) = crate::cli::talk::recording::read_recording(&path, rate.hz()) else {
                    continue;
                };
                read += 1;
                // Recordings that go on without a pause for half a minute do exist; that is what they are told for.
                let found: Vec<_> = hear(rate, &sound)
                    .into_iter()
                    .filter(|signal| *signal != Signal::EndlessGreeting)
                    .collect();
                assert_eq!(found, [], "{} at {rate}", path.display());
            }
        }
    }
    if read == 0 {
        println!("skipped: no recordings in {}", folder.display());
    }
}
