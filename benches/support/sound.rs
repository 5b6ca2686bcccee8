//! What the callers of the load say, as messages of 20 ms that are ready to be sent.

use std::env;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use repartee::cli::talk::recording::read_recording;
use serde::{Deserialize, Serialize};

/// Samples in a message: 20 ms at 16 kHz.
pub(crate) const FRAME: usize = 320;

/// Recordings with clear speech and no long pauses, all at 16 kHz: the first of these that is there is used. Public
/// domain or CC-BY (CMU Arctic, LibriSpeech).
const GROUPS: [&str; 2] = ["librispeech", "cmu-arctic"];

/// Clips of a load at most, and the longest of them.
const CLIPS: usize = 6;
const LONGEST_SECONDS: usize = 6;

/// A frame this loud (root mean square) belongs to the speech of a clip.
const LOUD: f64 = 300.0;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Voice {
    /// A buzz without pauses: exact about when it begins and ends, and speech to a scripted detector only.
    Buzz,
    /// Recordings, trimmed to where speech begins and ends; what a real detector needs.
    Recordings,
}

/// What is said, clip by clip.
pub(crate) struct Sounds {
    pub(crate) clips: Vec<Vec<Bytes>>,
    /// A second of a quiet line: noise at −60 dB of full scale.
    pub(crate) quiet: Vec<Bytes>,
}

impl Sounds {
    /// `millis` is the length of the buzz.
    pub(crate) fn load(voice: Voice, millis: u64) -> Option<Self> {
        let clips = match voice {
            Voice::Buzz => vec![buzz(usize::try_from(millis * 16).unwrap_or(16_000))],
            Voice::Recordings => recordings()?,
        };
        Some(Self {
            clips: clips.iter().map(|clip| messages(clip)).collect(),
            quiet: messages(&noise(16_000)),
        })
    }
}

/// The folder with recordings, where there is one.
pub(crate) fn speech_folder() -> Option<PathBuf> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/speech");
    let folder = env::var_os("REPARTEE_SPEECH").map_or_else(beside, PathBuf::from);
    folder.is_dir().then_some(folder)
}

fn recordings() -> Option<Vec<Vec<i16>>> {
    let folder = speech_folder()?;
    GROUPS.into_iter().find_map(|group| {
        let mut files: Vec<PathBuf> = std::fs::read_dir(folder.join(group))
            .ok()?
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| {
                let extension = path.extension().and_then(|extension| extension.to_str());
                matches!(extension, Some("wav" | "flac"))
            })
            .collect();
        files.sort();
        let clips: Vec<Vec<i16>> = files
            .iter()
            .filter_map(|path| read_recording(path, 16_000).ok())
            .map(|clip| trimmed(&clip).to_vec())
            .filter(|clip| (16_000..LONGEST_SECONDS * 16_000).contains(&clip.len()))
            .take(CLIPS)
            .collect();
        (!clips.is_empty()).then_some(clips)
    })
}

/// The stretch from the first loud frame to the last.
fn trimmed(clip: &[i16]) -> &[i16] {
    let loud = |frame: &[i16]| {
        let energy: f64 = frame.iter().map(|sample| f64::from(*sample).powi(2)).sum();
        (energy / frame.len() as f64).sqrt() >= LOUD
    };
    let mut frames = clip.chunks_exact(FRAME);
    let Some(first) = frames.position(loud) else { return &[] };
    let last = clip.chunks_exact(FRAME).rposition(loud).unwrap_or(first);
    &clip[first * FRAME..(last + 1) * FRAME]
}

fn buzz(samples: usize) -> Vec<i16> {
    let pulse = |at: usize| {
        let phase = (at % 133) as f32;
        (9_000.0 * (-phase / 60.0).exp() * (phase * 0.27).sin()) as i16
    };
    (0..samples / FRAME * FRAME).map(pulse).collect()
}

fn noise(samples: usize) -> Vec<i16> {
    // Any noise does: a linear congruential generator's.
    let mut seed = 1_u32;
    let sample = |_| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        ((f32::from((seed >> 16) as u16) - 32_768.0) * 0.0017) as i16
    };
    (0..samples).map(sample).collect()
}

fn messages(samples: &[i16]) -> Vec<Bytes> {
    let bytes = |frame: &[i16]| frame.iter().flat_map(|sample| sample.to_le_bytes()).collect();
    samples.chunks_exact(FRAME).map(bytes).collect()
}

/// The largest absolute sample of a message.
pub(crate) fn peak(message: &[u8]) -> u16 {
    let sample = |pair: &[u8]| i16::from_le_bytes([pair[0], pair[1]]).unsigned_abs();
    message.chunks_exact(2).map(sample).max().unwrap_or(0)
}
