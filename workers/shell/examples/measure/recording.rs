//! What a recogniser hears.

use std::f32::consts::TAU;
use std::fs;
use std::path::Path;

use repartee_worker_shell::testing::{recordings, samples, speech_folder};

use crate::arguments::Arguments;

/// How long the recordings are that are taken unless others are named, in seconds: utterances as people say them.
const SHORTEST: usize = 2;
const LONGEST: usize = 6;

/// How many different ones are taken.
const MOST: usize = 8;

/// Audio as it goes over the link.
#[derive(Debug)]
pub(crate) struct Recording {
    /// 16 bit, little endian.
    pub(crate) bytes: Vec<u8>,
    /// The first sample of its speech.
    pub(crate) onset: usize,
}

impl Recording {
    fn new(samples: &[i16], rate: usize, seconds: usize) -> Self {
        let wanted = if seconds == 0 { samples.len() } else { seconds * rate };
        let bytes = samples
            .iter()
            .cycle()
            .take(wanted)
            .flat_map(|sample| sample.to_le_bytes())
            .collect();
        Self {
            bytes,
            onset: onset(samples, rate),
        }
    }

    pub(crate) fn samples(&self) -> usize {
        self.bytes.len() / 2
    }
}

/// Where it becomes loud: the first 20 ms that are within 20 dB of the loudest.
fn onset(samples: &[i16], rate: usize) -> usize {
    let frame = (rate / 50).max(1);
    let loudness: Vec<f64> = samples
        .chunks(frame)
        .map(|frame| {
            let squares: f64 = frame.iter().map(|sample| f64::from(*sample).powi(2)).sum();
            (squares / frame.len() as f64).sqrt()
        })
        .collect();
    let loudest = loudness.iter().copied().fold(0.0, f64::max);
    let first = loudness.iter().position(|loudness| *loudness >= loudest / 10.0);
    first.unwrap_or(0) * frame
}

/// The recordings to use, and a word on what they are.
pub(crate) fn chosen(arguments: &Arguments, rate: u32) -> Result<(Vec<Recording>, String), String> {
    let hertz = rate as usize;
    let seconds = arguments.seconds as usize;
    if !arguments.audio.is_empty() {
        let named: Vec<Recording> = arguments
            .audio
            .iter()
            .map(|path| read(path, rate).map(|samples| Recording::new(&samples, hertz, seconds)))
            .collect::<Result<_, _>>()?;
        let said = format!("{} named recordings", named.len());
        return Ok((named, said));
    }
    let folder = speech_folder();
    let found: Vec<Recording> = folder
        .iter()
        .flat_map(|folder| recordings(folder))
        .filter(|recording| recording.rate == rate)
        .map(|recording| samples(&recording.path))
        .filter(|samples| (SHORTEST * hertz..=LONGEST * hertz).contains(&samples.len()))
        .take(MOST)
        .map(|samples| Recording::new(&samples, hertz, seconds))
        .collect();
    if !found.is_empty() {
        let total: usize = found.iter().map(Recording::samples).sum();
        let mean = total as f64 / found.len() as f64 / f64::from(rate);
        let said = format!("{} recordings of {mean:.1} s on average", found.len());
        return Ok((found, said));
    }
    let melody = vec![Recording::new(&melody(hertz), hertz, seconds)];
    Ok((
        melody,
        "tones of 4 s, as there are no recordings of its rate here".into(),
    ))
}

/// Words of three tones with pauses around them, 4 s.
fn melody(rate: usize) -> Vec<i16> {
    const TONES: [f32; 3] = [440.0, 880.0, 1760.0];
    /// An eighth of full scale.
    const LOUDNESS: f32 = 4096.0;
    let fifth = rate / 5;
    let word = |samples: &mut Vec<i16>| {
        samples.extend(std::iter::repeat_n(0, 2 * fifth));
        for tone in TONES {
            samples.extend((0..fifth).map(|sample| {
                let angle = TAU * tone * sample as f32 / rate as f32;
                (angle.sin() * LOUDNESS) as i16
            }));
        }
    };
    let mut samples = Vec::new();
    for _ in 0..4 {
        word(&mut samples);
    }
    samples
}

fn read(path: &Path, rate: u32) -> Result<Vec<i16>, String> {
    let wrong = |what: String| format!("{}: {what}", path.display());
    let bytes = fs::read(path).map_err(|error| wrong(error.to_string()))?;
    let Some(format) = format(&bytes) else {
        return Err(wrong("not a WAV file".into()));
    };
    if format != (1, rate, 16) {
        let (channels, found, bits) = format;
        return Err(wrong(format!(
            "{channels} channels of {bits} bits at {found} Hz; the worker hears one of 16 bits at {rate} Hz"
        )));
    }
    let samples = samples(path);
    if samples.is_empty() {
        return Err(wrong("no samples".into()));
    }
    Ok(samples)
}

/// Channels, rate and bits of a WAV file.
fn format(bytes: &[u8]) -> Option<(u16, u32, u16)> {
    let mut chunks = bytes.strip_prefix(b"RIFF")?.get(8..)?;
    loop {
        let (name, rest) = chunks.split_first_chunk::<4>()?;
        let (length, rest) = rest.split_first_chunk::<4>()?;
        if name == b"fmt " {
            let two = |at: usize| Some(u16::from_le_bytes(*rest.get(at..)?.first_chunk()?));
            let rate = u32::from_le_bytes(*rest.get(4..)?.first_chunk()?);
            return Some((two(2)?, rate, two(14)?));
        }
        let length = u32::from_le_bytes(*length) as usize;
        chunks = rest.get(length.checked_add(length % 2)?..)?;
    }
}
