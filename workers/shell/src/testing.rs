//! For the tests of workers: a blocking client of a real worker process, and what is needed to judge its results.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use repartee_protocol::worker::{
    Decoder, Hello, Job, Load, LoadFailed, Open, Params, Ready, StreamId, ToEngine, ToWorker, encode,
};
use serde_json::Value;

/// How long a test waits for any one message.
const PATIENCE: Duration = Duration::from_secs(60);

/// A worker process with the link to it. It's killed when this is dropped.
#[derive(Debug)]
pub struct Client {
    /// The process.
    pub process: Child,
    socket: UnixStream,
    listener: Listener,
    streams: u64,
}

/// The half of a link on which the worker speaks.
#[derive(Debug)]
pub struct Listener {
    socket: UnixStream,
    decoder: Decoder,
}

impl Listener {
    fn new(socket: UnixStream) -> Self {
        Self {
            socket,
            decoder: Decoder::new(),
        }
    }

    /// The next message.
    ///
    /// # Errors
    /// When the link breaks, nothing comes for a minute, or what comes isn't a message.
    pub fn receive(&mut self) -> io::Result<(ToEngine, Bytes)> {
        let mut buffer = [0; 65_536];
        loop {
            if let Some(frame) = self.decoder.next_frame().map_err(io::Error::other)? {
                return Ok((frame.to_engine().map_err(io::Error::other)?, frame.payload));
            }
            let length = self.socket.read(&mut buffer)?;
            if length == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.decoder.push(&buffer[..length]);
        }
    }
}

impl Client {
    /// Starts a worker and hears its hello.
    ///
    /// # Errors
    /// When it can't be started, or says nothing or something else.
    pub fn start(binary: &Path) -> io::Result<(Self, Hello)> {
        Self::start_with_models(binary, None)
    }

    /// Starts a worker with a models root, and hears its hello.
    ///
    /// # Errors
    /// As for [`start`](Self::start).
    pub fn start_with_models(binary: &Path, models: Option<&Path>) -> io::Result<(Self, Hello)> {
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_read_timeout(Some(PATIENCE))?;
        let mut command = Command::new(binary);
        command.args(["--connect", "stdin", "--nice", "0"]);
        if let Some(models) = models {
            command.arg("--models").arg(models);
        }
        let process = command.stdin(Stdio::from(OwnedFd::from(theirs))).spawn()?;
        let mut client = Self {
            process,
            listener: Listener::new(ours.try_clone()?),
            socket: ours,
            streams: 0,
        };
        match client.receive()?.0 {
            ToEngine::Hello(hello) => Ok((client, hello)),
            other => Err(io::Error::other(format!("{other:?} instead of hello"))),
        }
    }

    /// Has the model loaded.
    ///
    /// # Errors
    /// The outer one when the link breaks, the inner one when the load fails.
    pub fn load(&mut self, job: Job, model: &str, options: &[(&str, Value)]) -> io::Result<Result<Ready, LoadFailed>> {
        let options = options
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone()))
            .collect();
        let load = Load {
            job,
            model: model.into(),
            files: BTreeMap::new(),
            options,
            threads: 0,
            device: None,
        };
        self.send(&ToWorker::Load(load), &[])?;
        match self.receive()?.0 {
            ToEngine::Ready(ready) => Ok(Ok(ready)),
            ToEngine::LoadFailed(failed) => Ok(Err(failed)),
            other => Err(io::Error::other(format!("{other:?} instead of ready"))),
        }
    }

    /// Opens a stream with more credit than any test uses.
    ///
    /// # Errors
    /// When the link breaks.
    pub fn open(&mut self, params: Params) -> io::Result<StreamId> {
        self.open_with(params, &[])
    }

    /// Opens a stream with a payload (a chat) and more credit than any test uses.
    ///
    /// # Errors
    /// When the link breaks.
    pub fn open_with(&mut self, params: Params, payload: &[u8]) -> io::Result<StreamId> {
        self.streams += 1;
        let stream = StreamId(self.streams);
        self.send(
            &ToWorker::Open(Open {
                stream,
                credit: 1 << 40,
                params,
            }),
            payload,
        )?;
        Ok(stream)
    }

    /// Sends a message.
    ///
    /// # Errors
    /// When the link breaks.
    pub fn send(&mut self, message: &ToWorker, payload: &[u8]) -> io::Result<()> {
        let mut frame = Vec::new();
        encode(message, payload, &mut frame).map_err(io::Error::other)?;
        self.socket.write_all(&frame)
    }

    /// The next message.
    ///
    /// # Errors
    /// When the link breaks, nothing comes for a minute, or what comes isn't a message.
    pub fn receive(&mut self) -> io::Result<(ToEngine, Bytes)> {
        self.listener.receive()
    }

    /// Hands out the half of the link on which the worker speaks, so that another thread can listen while this one sends. Every later message
    /// comes there, and none to [`receive`](Self::receive).
    ///
    /// # Errors
    /// When the system has no more file descriptors.
    pub fn take_listener(&mut self) -> io::Result<Listener> {
        let silent = Listener::new(self.socket.try_clone()?);
        Ok(std::mem::replace(&mut self.listener, silent))
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The folder with the recordings: `REPARTEE_SPEECH`, else beside the repository; `None` where it isn't there.
pub fn speech_folder() -> Option<PathBuf> {
    let folder = std::env::var_os("REPARTEE_SPEECH").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/speech"),
        PathBuf::from,
    );
    folder.join("manifest.tsv").is_file().then_some(folder)
}

/// The folder with real models: `REPARTEE_MODELS`, else beside the repository; `None` where it isn't there.
pub fn models_folder() -> Option<PathBuf> {
    let folder = std::env::var_os("REPARTEE_MODELS").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/models"),
        PathBuf::from,
    );
    folder.is_dir().then_some(folder)
}

/// The folder with the synthetic models of a worker, as `scripts/synthetic.sh` makes them; `None` where they weren't made.
pub fn synthetic_folder(worker: &str) -> Option<PathBuf> {
    let home = std::env::var_os("REPARTEE_HOME").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.repartee"),
        PathBuf::from,
    );
    let folder = home.join("synthetic").join(worker);
    folder.join("stamp").is_file().then_some(folder)
}

/// A recording with what is said in it.
#[derive(Clone, Debug)]
pub struct Recording {
    /// The group that it belongs to.
    pub group: String,
    /// The file.
    pub path: PathBuf,
    /// Its rate in Hz.
    pub rate: u32,
    /// What is said, in lower case.
    pub reference: String,
}

/// The WAV recordings in `folder` that have one channel and a reference.
pub fn recordings(folder: &Path) -> Vec<Recording> {
    let manifest = std::fs::read_to_string(folder.join("manifest.tsv")).unwrap_or_default();
    let recording = |line: &str| {
        let columns: Vec<&str> = line.split('\t').collect();
        let [file, rate, "1", _, reference, ..] = columns[..] else {
            return None;
        };
        let (group, _) = file.split_once('/')?;
        (file.ends_with(".wav") && !reference.is_empty()).then_some(())?;
        let (group, reference) = (group.to_owned(), reference.to_lowercase());
        Some(Recording {
            group,
            path: folder.join(file),
            rate: rate.parse().ok()?,
            reference,
        })
    };
    manifest.lines().filter_map(recording).collect()
}

/// The samples of a WAV file of 16-bit PCM, one channel. Nothing where it's something else.
pub fn samples(path: &Path) -> Vec<i16> {
    let bytes = std::fs::read(path).unwrap_or_default();
    let mut chunks = bytes.get(12..).unwrap_or_default();
    while let [a, b, c, d, l0, l1, l2, l3, rest @ ..] = chunks {
        let length = (u32::from_le_bytes([*l0, *l1, *l2, *l3]) as usize).min(rest.len());
        if &[*a, *b, *c, *d] == b"data" {
            return rest[..length]
                .as_chunks::<2>()
                .0
                .iter()
                .map(|bytes| i16::from_le_bytes(*bytes))
                .collect();
        }
        // Chunks begin at even places.
        chunks = rest.get(length + length % 2..).unwrap_or_default();
    }
    Vec::new()
}

/// How many words have to be changed, added or taken away to make `heard` of `reference` (the numerator of the word error rate), and how many
/// words `reference` has.
pub fn word_errors(reference: &str, heard: &str) -> (usize, usize) {
    let words = |text: &str| -> Vec<String> {
        let letters = text
            .to_lowercase()
            .replace(|letter: char| !letter.is_alphanumeric() && letter != '\'', " ");
        letters.split_whitespace().map(str::to_owned).collect()
    };
    let (reference, heard) = (words(reference), words(heard));
    let mut row: Vec<usize> = (0..=heard.len()).collect();
    for (i, expected) in reference.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, word) in heard.iter().enumerate() {
            let change = diagonal + usize::from(word != expected);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    (row[heard.len()], reference.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn word_errors_are_counted() {
        assert_eq!(word_errors("It's ten, o'clock.", "its ten o'clock"), (1, 3));
        assert_eq!(word_errors("a b c", "a x b c"), (1, 3));
        assert_eq!(word_errors("a b c", ""), (3, 3));
        assert_eq!(word_errors("", "a"), (1, 0));
    }
}
