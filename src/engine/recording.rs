//! Traces of calls on disk: what the core was told, and when, so that `repartee replay` can tell it again.
//!
//! A trace holds what people said. It is written only when somebody asked for it, readable by its owner alone, and
//! removed when it has grown old. Writing happens on a thread of its own: a slow disk ends the trace, never the call.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use super::clock;
use crate::call::Settings;
use crate::id::SessionId;
use crate::session::trace::{Header, Step};
use crate::session::{Action, Input};
use crate::time::{SESSION_RATE, Time};

/// Pieces that may wait for the disk: several seconds of a busy call.
const WAITING: usize = 1_024;
/// What the names of traces end in.
const SUFFIX: &str = ".trace.jsonl";
/// What the names of their audio end in.
const AUDIO_SUFFIX: &str = ".trace.wav";

/// Where and how calls are recorded.
#[derive(Clone, Debug)]
pub struct RecordingOptions {
    /// The folder; it is made when it isn't there.
    pub folder: PathBuf,
    /// Whether the client's audio is kept too.
    pub audio: bool,
    /// Traces older than this are removed.
    pub expire_after: Duration,
}

/// Makes the folder of traces, private, and removes those that have grown old. Answers how many.
///
/// # Errors
/// The folder can't be made or read.
pub fn expire_traces(options: &RecordingOptions) -> io::Result<usize> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&options.folder)?;
    let mut removed = 0;
    for entry in fs::read_dir(&options.folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        // Only our own files, whatever else somebody keeps there.
        if !name.starts_with("sess_") || !(name.ends_with(SUFFIX) || name.ends_with(AUDIO_SUFFIX)) {
            continue;
        }
        let modified = entry.metadata()?.modified()?;
        let age = clock::wall().duration_since(modified).unwrap_or_default();
        if age >= options.expire_after && fs::remove_file(entry.path()).is_ok() {
            removed += 1;
        }
    }
    Ok(removed)
}

/// What is to be written.
enum Piece {
    Line(String),
    Audio(Vec<i16>),
}

/// Records one call.
#[derive(Debug)]
pub(super) struct Recorder {
    /// The step that is under way.
    step: Option<Step>,
    /// Absent once the disk was too slow: a trace with a hole replays nothing.
    pieces: Option<SyncSender<Piece>>,
    audio: bool,
}

impl Recorder {
    /// Starts the trace of `session`.
    pub(super) fn start(
        options: &RecordingOptions,
        session: SessionId,
        settings: &Settings,
        seed: u64,
    ) -> io::Result<Self> {
        expire_traces(options)?;
        let path = options.folder.join(format!("{session}{SUFFIX}"));
        let file = private_file(&path)?;
        let audio = match options.audio {
            true => Some(private_file(&options.folder.join(format!("{session}{AUDIO_SUFFIX}")))?),
            false => None,
        };
        let started = humantime::format_rfc3339_seconds(clock::wall()).to_string();
        let header = Header::new(settings.clone(), seed, started).line();
        let (pieces, waiting) = sync_channel(WAITING);
        let has_audio = audio.is_some();
        thread::Builder::new().name("trace".to_owned()).spawn(move || {
            if let Err(error) = write(&waiting, file, audio) {
                tracing::warn!(%session, %error, "the trace could not be written to its end");
            }
        })?;
        let mut recorder = Self {
            step: None,
            pieces: Some(pieces),
            audio: has_audio,
        };
        recorder.send(Piece::Line(header));
        Ok(recorder)
    }

    /// The core is told `input` at `now`.
    pub(super) fn begin_step(&mut self, now: Time, input: &Input) {
        if self.pieces.is_some() {
            self.step = Some(Step {
                at: now,
                input: input.clone(),
                actions: Vec::new(),
            });
        }
    }

    /// And wants this done.
    pub(super) fn action(&mut self, action: &Action) {
        if let Some(step) = &mut self.step {
            step.actions.push(action.clone());
        }
    }

    /// And has nothing more to say.
    pub(super) fn end_step(&mut self) {
        if let Some(step) = self.step.take() {
            self.send(Piece::Line(step.line()));
        }
    }

    /// The client said this.
    pub(super) fn audio(&mut self, pcm: &[i16]) {
        if self.audio {
            self.send(Piece::Audio(pcm.to_vec()));
        }
    }

    fn send(&mut self, piece: Piece) {
        if let Some(pieces) = &self.pieces
            && pieces.try_send(piece).is_err()
        {
            tracing::warn!("the disk is too slow for a trace; it ends here, the call goes on");
            self.pieces = None;
        }
    }
}

fn private_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

/// Writes pieces until no more can come.
fn write(pieces: &Receiver<Piece>, file: File, audio: Option<File>) -> io::Result<()> {
    let mut file = BufWriter::new(file);
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: SESSION_RATE,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let to_io = |error: hound::Error| io::Error::other(error.to_string());
    let mut wav = match audio {
        Some(audio) => Some(hound::WavWriter::new(BufWriter::new(audio), spec).map_err(to_io)?),
        None => None,
    };
    for piece in pieces {
        match (piece, &mut wav) {
            (Piece::Line(line), _) => {
                file.write_all(line.as_bytes())?;
                file.write_all(b"\n")?;
            }
            (Piece::Audio(pcm), Some(wav)) => {
                for sample in pcm {
                    wav.write_sample(sample).map_err(to_io)?;
                }
            }
            (Piece::Audio(_), None) => {}
        }
    }
    if let Some(wav) = wav {
        wav.finalize().map_err(to_io)?;
    }
    file.flush()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn traces_are_private_and_old_ones_go() {
        let folder = tempfile::tempdir().unwrap();
        let options = RecordingOptions {
            folder: folder.path().join("traces"),
            audio: true,
            expire_after: Duration::from_secs(3_600),
        };
        let session = SessionId::new(7);
        let mut recorder = Recorder::start(&options, session, &Settings::default(), 1).unwrap();
        recorder.begin_step(Time::ZERO, &Input::Connected);
        recorder.end_step();
        recorder.audio(&[0; 320]);
        drop(recorder);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&options.folder), 0o700);
        for suffix in [SUFFIX, AUDIO_SUFFIX] {
            assert_eq!(mode(&options.folder.join(format!("{session}{suffix}"))), 0o600);
        }
        let foreign = options.folder.join("notes.txt");
        fs::write(&foreign, "mine").unwrap();
        assert_eq!(expire_traces(&options).unwrap(), 0);
        let none = RecordingOptions {
            expire_after: Duration::ZERO,
            ..options
        };
        assert_eq!(expire_traces(&none).unwrap(), 2);
        assert!(foreign.exists());
    }
}
