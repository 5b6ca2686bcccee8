//! Scenes of a call: we speak, it comes back, and now and then the caller speaks over it.

use super::*;
use crate::audio::g722::{G722Decoder, G722Encoder};
use crate::audio::{Resampler, SampleRate, g711};

const RATE: usize = SESSION_RATE as usize;
/// The frame of the tests: 20 ms.
const FRAME: usize = RATE / 50;
/// How long the filter is given to learn a line, of our speech: 5 s.
const LEARNING: usize = 5 * RATE;

#[derive(Debug, Clone, Copy)]
enum Coding {
    None,
    G711,
    G722,
}

/// How our voice comes back.
#[derive(Debug, Clone, Copy)]
struct Line {
    delay_ms: usize,
    gain_db: f32,
    tail_ms: usize,
    coding: Coding,
    noise_db: f32,
    /// The delay grows by so much in the middle, less than nothing included.
    jump_ms: isize,
    drift_ppm: f32,
}

const LINE: Line = Line {
    delay_ms: 120,
    gain_db: -15.0,
    tail_ms: 60,
    coding: Coding::G711,
    noise_db: -60.0,
    jump_ms: 0,
    drift_ppm: 0.0,
};

/// White noise between -1 and 1, the same in each run.
struct Noise(u32);

impl Noise {
    fn next(&mut self) -> f32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 17;
        self.0 ^= self.0 << 5;
        self.0 as f32 / u32::MAX as f32 * 2.0 - 1.0
    }
}

fn power(db: f32) -> f32 {
    32_768.0 * 10_f32.powf(db / 20.0)
}

/// Something like speech: syllables of 240 ms of a buzz through a moving resonance, with pauses.
fn syllables(seconds: usize, pitch: f32, db: f32, seed: u32) -> Vec<i16> {
    let mut noise = Noise(seed);
    let (mut resonance, mut last, mut before, mut phase) = (500.0, 0.0, 0.0, 0.0);
    let sound: Vec<f32> = (0..seconds * RATE)
        .map(|n| {
            let within = n % 4_800;
            if within == 0 {
                resonance = 900.0 + 600.0 * noise.next();
            }
            phase += pitch * (1.0 + 0.1 * (n as f32 / 9_000.0).sin()) / RATE as f32;
            let pulse = if phase >= 1.0 { 1.0 } else { 0.02 * noise.next() };
            phase %= 1.0;
            let envelope = if within < 3_840 && n / 24_000 % 5 < 4 {
                (within as f32 / 3_840.0 * std::f32::consts::PI).sin()
            } else {
                0.0
            };
            let turn = std::f32::consts::TAU * resonance / RATE as f32;
            let now = pulse * envelope + 1.94 * turn.cos() * last - 0.94 * before;
            (before, last) = (last, now);
            now
        })
        .collect();
    let rms = (sound.iter().map(|s| s * s).sum::<f32>() / sound.len() as f32).sqrt();
    let gain = power(db) / rms;
    sound
        .iter()
        .map(|s| (s * gain).clamp(-32_768.0, 32_767.0) as i16)
        .collect()
}

fn come_back(sent: &[i16], caller: &[i16], line: Line) -> Vec<i16> {
    let mut noise = Noise(9);
    let gain = 10_f32.powf(line.gain_db / 20.0);
    let taps: Vec<(usize, f32)> = (0..line.tail_ms * RATE / 1000)
        .step_by(37)
        .map(|n| {
            (
                n,
                0.5 * noise.next() * (-4.0 * n as f32 / (line.tail_ms * RATE / 1000) as f32).exp(),
            )
        })
        .chain([(0, 1.0)])
        .collect();
    let room: Vec<f32> = (0..sent.len())
        .map(|n| {
            let heard = taps
                .iter()
                .filter_map(|&(lag, tap)| Some(tap * f32::from(sent[n.checked_sub(lag)?])));
            heard.sum::<f32>() * gain
        })
        .collect();
    let mixed: Vec<i16> = (0..sent.len())
        .map(|n| {
            let jump = if n > sent.len() / 2 { line.jump_ms } else { 0 };
            let delay = (line.delay_ms as isize + jump) as f32 * 16.0 + n as f32 * line.drift_ppm * 1e-6;
            let at = n as f32 - delay;
            let echo = if at < 0.0 {
                0.0
            } else {
                let (whole, part) = (at as usize, at.fract());
                room[whole] * (1.0 - part) + room[whole + 1] * part
            };
            let sample = echo + f32::from(caller[n]) + 1.7 * power(line.noise_db) * noise.next();
            sample.clamp(-32_768.0, 32_767.0) as i16
        })
        .collect();
    let (mut bytes, mut out) = (Vec::new(), Vec::new());
    match line.coding {
        Coding::None => return mixed,
        Coding::G711 => {
            let mut narrow = Vec::new();
            Resampler::new(SampleRate::Hz16000, SampleRate::Hz8000)
                .unwrap()
                .process(&mixed, &mut narrow);
            g711::mu_law_encode_into(&narrow, &mut bytes);
            narrow.clear();
            g711::mu_law_decode_into(&bytes, &mut narrow);
            Resampler::new(SampleRate::Hz8000, SampleRate::Hz16000)
                .unwrap()
                .process(&narrow, &mut out);
        }
        Coding::G722 => {
            G722Encoder::new().encode(&mixed, &mut bytes);
            G722Decoder::new().decode(&bytes, &mut out);
        }
    }
    out.resize(mixed.len(), 0);
    out
}

/// For each frame, whether there is sound in it that is not taken for echo.
fn judge(sent: &[i16], heard: &[i16]) -> Vec<bool> {
    let mut guard = EchoGuard::new();
    let frames = sent.chunks_exact(FRAME).zip(heard.chunks_exact(FRAME));
    frames
        .enumerate()
        .map(|(index, (sent, heard))| {
            let at = Samples::new((index * FRAME) as u64);
            guard.played(at, sent);
            let verdict = guard.heard(at, heard);
            assert!((0.0..=1.0).contains(&verdict.echo_share), "{verdict:?}");
            crate::audio::frame::rms_dbfs(heard) > -50.0 && !verdict.is_echo
        })
        .collect()
}

/// The share of frames that are in runs of at least 100 ms: what would open a turn.
fn opened(frames: &[bool]) -> f64 {
    let runs = frames.chunk_by(|a, b| a == b).filter(|run| run[0] && run.len() >= 5);
    runs.map(<[bool]>::len).sum::<usize>() as f64 / frames.len() as f64
}

/// After how many milliseconds 80 ms in a row are the caller's.
fn onset_ms(frames: &[bool]) -> Option<usize> {
    frames
        .windows(4)
        .position(|run| run.iter().all(|&caller| caller))
        .map(|frame| frame * 20 + 80)
}

fn lines() -> Vec<(&'static str, Line)> {
    vec![
        ("G.711", LINE),
        (
            "G.722",
            Line {
                coding: Coding::G722,
                ..LINE
            },
        ),
        (
            "no coding, no room",
            Line {
                coding: Coding::None,
                tail_ms: 1,
                ..LINE
            },
        ),
        (
            "as loud as it was sent",
            Line {
                gain_db: 0.0,
                tail_ms: 50,
                ..LINE
            },
        ),
        ("-40 dB", Line { gain_db: -40.0, ..LINE }),
        ("40 ms", Line { delay_ms: 40, ..LINE }),
        (
            "400 ms and 100 ms of room",
            Line {
                delay_ms: 400,
                tail_ms: 100,
                ..LINE
            },
        ),
        ("20 ms later", Line { jump_ms: 20, ..LINE }),
        ("20 ms earlier", Line { jump_ms: -20, ..LINE }),
        (
            "200 ppm",
            Line {
                drift_ppm: 200.0,
                ..LINE
            },
        ),
        (
            "noise",
            Line {
                noise_db: -50.0,
                ..LINE
            },
        ),
    ]
}

#[test]
fn our_own_voice_opens_no_turn() {
    let sent = syllables(20, 110.0, -20.0, 5);
    let silence = vec![0; sent.len()];
    for (name, line) in lines() {
        let frames = judge(&sent, &come_back(&sent, &silence, line));
        let share = opened(&frames[LEARNING / FRAME..]);
        assert!(share <= 0.01, "{name}: {:.2} % of the frames", share * 100.0);
    }
}

#[test]
fn a_caller_who_speaks_over_us_is_heard() {
    let sent = syllables(16, 110.0, -20.0, 5);
    let words = syllables(2, 190.0, -24.0, 8);
    let start = 12 * RATE;
    let mut caller = vec![0; sent.len()];
    caller[start..start + words.len()].copy_from_slice(&words);
    for (name, line) in lines() {
        if line.gain_db > -10.0 {
            // The caller is then quieter than the echo; a turn still opens, but not at once.
            continue;
        }
        let frames = judge(&sent, &come_back(&sent, &caller, line));
        let onset = onset_ms(&frames[start / FRAME..]);
        assert!(onset.is_some_and(|ms| ms <= 200), "{name}: {onset:?}");
    }
}

#[test]
fn a_line_without_echo_costs_no_words() {
    let sent = syllables(10, 110.0, -20.0, 5);
    let caller = syllables(10, 190.0, -24.0, 8);
    let frames = judge(&sent, &caller);
    let heard = frames[LEARNING / FRAME..].iter().filter(|&&caller| caller).count() as f64;
    let spoken = caller[LEARNING..]
        .chunks(FRAME)
        .filter(|frame| crate::audio::frame::rms_dbfs(frame) > -35.0)
        .count() as f64;
    assert!(heard > 0.8 * spoken, "{heard} of {spoken}");
}

#[test]
fn while_we_are_silent_everything_is_the_callers() {
    let mut guard = EchoGuard::new();
    let caller = syllables(1, 190.0, -24.0, 8);
    let silence = [0; FRAME];
    for (index, frame) in caller.chunks_exact(FRAME).enumerate() {
        let at = Samples::new((index * FRAME) as u64);
        guard.played(at, &silence);
        assert!(!guard.is_listening(at));
        assert_eq!(
            guard.heard(at, frame),
            Verdict {
                is_echo: false,
                echo_share: 0.0
            }
        );
    }
    // What was told ahead and then stopped is not waited for.
    guard.played(Samples::from_millis(1_000), &caller);
    assert!(guard.is_listening(Samples::from_millis(1_900)));
    guard.stopped(Samples::from_millis(1_000));
    assert!(!guard.is_listening(Samples::from_millis(1_600)));
}

#[test]
fn frames_may_have_any_length_and_come_with_gaps() {
    let sent = syllables(8, 110.0, -20.0, 5);
    let heard = come_back(&sent, &vec![0; sent.len()], LINE);
    let mut guard = EchoGuard::new();
    guard.played(Samples::ZERO, &sent[..3 * RATE]);
    let (mut at, mut wrong, mut frames) = (0, 0, 0);
    let mut noise = Noise(3);
    while at < heard.len() {
        let length = ((noise.next().abs() * 600.0) as usize).min(heard.len() - at);
        guard.played(
            Samples::new((at + 3 * RATE) as u64),
            &sent[(at + 3 * RATE).min(sent.len())..][..length.min(sent.len().saturating_sub(at + 3 * RATE))],
        );
        let verdict = guard.heard(Samples::new(at as u64), &heard[at..at + length]);
        frames += 1;
        wrong += usize::from(!verdict.is_echo && at > LEARNING && at < heard.len() - RATE);
        at += length;
    }
    assert!(wrong * 20 < frames, "{wrong} of {frames}");
    for at in [u64::MAX, 0, 7, u64::MAX / 2, 16_000] {
        guard.played(Samples::new(at), &sent[..999]);
        guard.heard(Samples::new(at), &sent[..999]);
        guard.stopped(Samples::new(at / 2));
        guard.heard(Samples::new(at), &[]);
    }
}

#[test]
fn real_voices_are_told_apart() {
    let folder = std::env::var_os("REPARTEE_SPEECH").map_or_else(
        || std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/speech"),
        std::path::PathBuf::from,
    );
    let read = |name: &str| crate::cli::talk::recording::read_recording(&folder.join(name), SESSION_RATE);
    let (Ok(ours), Ok(more), Ok(theirs)) = (
        read("osr-8k/OSR_us_000_0034_8k.wav"),
        read("librispeech/1089-134686-0000.flac"),
        read("librispeech/1089-134691-0000.flac"),
    ) else {
        println!("skipped: no recordings in {}", folder.display());
        return;
    };
    let mut sent: Vec<i16> = ours.iter().chain(&more).copied().collect();
    sent.truncate(24 * RATE);
    let silence = vec![0; sent.len()];
    let first = theirs.iter().position(|sample| sample.abs() > 700).unwrap_or(0);
    for (name, line) in [lines()[0], lines()[1], lines()[6]] {
        let frames = judge(&sent, &come_back(&sent, &silence, line));
        let share = opened(&frames[LEARNING / FRAME..]);
        assert!(share <= 0.01, "{name}: {:.2} % of the frames", share * 100.0);
        for start in [9 * RATE, 15 * RATE, 20 * RATE] {
            let mut caller = silence.clone();
            let words = &theirs[first..];
            let length = words.len().min(sent.len() - start);
            caller[start..start + length].copy_from_slice(&words[..length]);
            let frames = judge(&sent, &come_back(&sent, &caller, line));
            let onset = onset_ms(&frames[start / FRAME..]);
            assert!(onset.is_some_and(|ms| ms <= 250), "{name} at {start}: {onset:?}");
        }
    }
}
