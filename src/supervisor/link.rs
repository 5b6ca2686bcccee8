//! The engine's end of a worker's link.
//!
//! Whoever has something to say writes it to the socket at once, under a lock, with one system call; only what the socket doesn't take
//! is left for a task. One other task reads, and hands each message to its stream. So a message costs no change of task on the
//! way out, and one on the way in.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use repartee_protocol::worker::{
    Decoder, FrameError, Hello, Open, Params, Ready, StreamId, ToEngine, ToWorker, encode,
};
use serde::Serialize;
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Notify, mpsc};

use super::stream::{Shared, Stream};
use crate::id::Generation;

/// While more than this waits for the socket, streams are told that it's full, in bytes.
const CONGESTED: usize = 256 * 1024;

/// How much is read at once, in bytes.
const READ: usize = 64 * 1024;

/// How many messages that belong to no stream may wait for the supervisor, which only ever waits for one.
const CONTROL: usize = 64;

/// Why a link ended.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The worker closed it.
    #[error("the worker closed its link")]
    Closed,
    /// It broke.
    #[error("the link broke: {0}")]
    Io(#[from] io::Error),
    /// The worker sent what isn't a frame.
    #[error("the worker sent what is not a frame: {0}")]
    Frame(#[from] FrameError),
}

/// Why a stream wasn't opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenRefused {
    /// The worker is gone.
    #[error("{0}")]
    Lost(String),
    /// All its places are taken.
    #[error("all {places} places are taken and {waiting} wait")]
    Busy {
        /// Streams that are served at once.
        places: u32,
        /// Streams that may wait.
        waiting: u32,
    },
    /// The request is longer than the link takes.
    #[error("the request is too long: {0}")]
    TooLong(String),
}

/// One load of a worker.
#[derive(Debug)]
pub struct Link {
    generation: Generation,
    writer: Mutex<Writer>,
    /// Bytes that wait for the socket.
    pending: AtomicUsize,
    flush: Notify,
    streams: Mutex<BTreeMap<StreamId, Arc<Shared>>>,
    newest: AtomicU64,
    loaded: OnceLock<(Hello, Ready)>,
    closed: AtomicBool,
    lost: OnceLock<String>,
    stray: AtomicU64,
}

#[derive(Debug)]
struct Writer {
    socket: OwnedWriteHalf,
    frame: Vec<u8>,
    payload: Vec<u8>,
    pending: Vec<u8>,
    broken: bool,
}

impl Link {
    /// How many bytes of data a worker may send on a stream before they are polled: 4 s of audio at 16 kHz.
    pub(super) const WINDOW: u64 = 128 * 1024;

    /// A link over a connected socket, with the messages that belong to no stream. [`Link::run`] has to run.
    pub(super) fn new(
        generation: Generation,
        socket: UnixStream,
    ) -> (
        Arc<Self>,
        OwnedReadHalf,
        mpsc::Sender<ToEngine>,
        mpsc::Receiver<ToEngine>,
    ) {
        let (reader, writer) = socket.into_split();
        let writer = Writer {
            socket: writer,
            frame: Vec::new(),
            payload: Vec::new(),
            pending: Vec::new(),
            broken: false,
        };
        let link = Arc::new(Self {
            generation,
            writer: Mutex::new(writer),
            pending: AtomicUsize::new(0),
            flush: Notify::new(),
            streams: Mutex::default(),
            newest: AtomicU64::new(0),
            loaded: OnceLock::new(),
            closed: AtomicBool::new(false),
            lost: OnceLock::new(),
            stray: AtomicU64::new(0),
        });
        let (control, messages) = mpsc::channel(CONTROL);
        (link, reader, control, messages)
    }

    /// Which load this is.
    #[must_use]
    pub const fn generation(&self) -> Generation {
        self.generation
    }

    /// What the worker said of itself; `None` before it's ready.
    #[must_use]
    pub fn hello(&self) -> Option<&Hello> {
        self.loaded.get().map(|(hello, _)| hello)
    }

    /// What it said of its model; `None` before it's ready.
    #[must_use]
    pub fn ready(&self) -> Option<&Ready> {
        self.loaded.get().map(|(_, ready)| ready)
    }

    /// How many streams are open.
    #[must_use]
    pub fn open_streams(&self) -> usize {
        self.streams().len()
    }

    /// How many messages came for streams that weren't there any more, or that nobody knows.
    #[must_use]
    pub fn stray_messages(&self) -> u64 {
        self.stray.load(Ordering::Relaxed)
    }

    /// Why the worker is gone; `None` while it's there.
    #[must_use]
    pub fn lost(&self) -> Option<&str> {
        self.lost.get().map(String::as_str)
    }

    /// Opens a stream. `payload` belongs to the job (a chat for an LLM).
    ///
    /// # Errors
    /// [`OpenRefused`].
    pub fn open(self: &Arc<Self>, params: Params, payload: &[u8]) -> Result<Stream, OpenRefused> {
        let not_running = || {
            OpenRefused::Lost(
                self.lost
                    .get()
                    .map_or("the worker has just ended", String::as_str)
                    .to_owned(),
            )
        };
        let Some((_, ready)) = self.loaded.get() else {
            return Err(OpenRefused::Lost("the worker is still loading".to_owned()));
        };
        let (places, waiting) = (ready.model.max_streams, ready.model.max_waiting);
        let mut streams = self.streams();
        if self.closed.load(Ordering::Acquire) {
            return Err(not_running());
        }
        if streams.len() as u64 >= u64::from(places) + u64::from(waiting) {
            return Err(OpenRefused::Busy { places, waiting });
        }
        let id = StreamId(self.newest.fetch_add(1, Ordering::Relaxed) + 1);
        let shared = Arc::new(Shared::new(ready.stream_credit, Self::WINDOW));
        // Under the lock, so that streams are opened in the order of their names, as the link's rules say.
        let open = ToWorker::Open(Open {
            stream: id,
            credit: Self::WINDOW,
            params,
        });
        self.write(&open, payload).map_err(OpenRefused::TooLong)?;
        streams.insert(id, Arc::clone(&shared));
        drop(streams);
        Ok(Stream::new(Arc::clone(self), shared, id))
    }

    fn streams(&self) -> MutexGuard<'_, BTreeMap<StreamId, Arc<Shared>>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_loaded(&self, hello: Hello, ready: Ready) {
        // A link is loaded once.
        let _ = self.loaded.set((hello, ready));
    }

    /// Whether so much waits for the socket that nothing should be added.
    pub(super) fn is_congested(&self) -> bool {
        self.pending.load(Ordering::Relaxed) > CONGESTED
    }

    /// Sends a message and tells its cost; 0 for one that the link can't take, which is dropped.
    pub(super) fn send<M: Serialize>(&self, message: &M, payload: &[u8]) -> u64 {
        self.write(message, payload).unwrap_or_else(|too_long| {
            tracing::warn!(generation = %self.generation, "a message to a worker was dropped: {too_long}");
            0
        })
    }

    /// Sends a message whose payload is PCM.
    pub(super) fn send_pcm<M: Serialize>(&self, message: &M, pcm: &[i16]) -> u64 {
        let mut writer = self.writer();
        let mut payload = std::mem::take(&mut writer.payload);
        payload.clear();
        payload.extend(pcm.iter().flat_map(|sample| sample.to_le_bytes()));
        let cost = self.write_locked(&mut writer, message, &payload).unwrap_or(0);
        writer.payload = payload;
        cost
    }

    fn write<M: Serialize>(&self, message: &M, payload: &[u8]) -> Result<u64, String> {
        self.write_locked(&mut self.writer(), message, payload)
    }

    fn write_locked<M: Serialize>(&self, writer: &mut Writer, message: &M, payload: &[u8]) -> Result<u64, String> {
        let Writer {
            socket,
            frame,
            pending,
            broken,
            ..
        } = writer;
        frame.clear();
        let cost = encode(message, payload, frame).map_err(|too_long| too_long.to_string())? as u64;
        if *broken {
            return Ok(cost);
        }
        let mut written = 0;
        while pending.is_empty() && written < frame.len() {
            match socket.try_write(&frame[written..]) {
                Ok(length) => written += length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // The reading task sees the end of the link and tells everybody.
                Err(_) => {
                    *broken = true;
                    return Ok(cost);
                }
            }
        }
        if written < frame.len() {
            pending.extend_from_slice(&frame[written..]);
            self.pending.store(pending.len(), Ordering::Relaxed);
            self.flush.notify_one();
        }
        Ok(cost)
    }

    /// The stream's owner is gone.
    pub(super) fn forget(&self, stream: StreamId) {
        self.streams().remove(&stream);
    }

    /// Reads and flushes until the link ends; tells why. Streams are told by [`Link::fail`], when it's known how the worker ended.
    pub(super) async fn run(&self, mut reader: OwnedReadHalf, control: mpsc::Sender<ToEngine>) -> LinkError {
        let ended = tokio::select! {
            ended = self.read(&mut reader, &control) => ended,
            ended = self.flush() => ended,
        };
        // Under the lock of the streams: none is opened afterwards that `fail` wouldn't see.
        let streams = self.streams();
        self.closed.store(true, Ordering::Release);
        drop(streams);
        ended
    }

    async fn read(&self, reader: &mut OwnedReadHalf, control: &mpsc::Sender<ToEngine>) -> LinkError {
        let mut decoder = Decoder::new();
        let mut buffer = vec![0; READ];
        loop {
            if let Err(error) = reader.readable().await {
                return error.into();
            }
            // The copy out of `buffer` is small; reading into the decoder's own would keep all of it alive for each payload that waits.
            match reader.try_read(&mut buffer) {
                Ok(0) => return LinkError::Closed,
                Ok(length) => decoder.push(&buffer[..length]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(error) => return error.into(),
            }
            loop {
                match decoder.next_frame() {
                    Ok(Some(frame)) => {
                        let cost = frame.cost();
                        match frame.to_engine() {
                            Ok(message) => self.dispatch(message, frame.payload, cost, control),
                            Err(error) => self.count_stray(&error.to_string()),
                        }
                    }
                    Ok(None) => break,
                    Err(error) => return error.into(),
                }
            }
        }
    }

    fn dispatch(&self, message: ToEngine, payload: bytes::Bytes, cost: u64, control: &mpsc::Sender<ToEngine>) {
        let Some(id) = message.stream() else {
            if control.try_send(message).is_err() {
                self.count_stray("more messages than the supervisor waits for");
            }
            return;
        };
        let shared = self.streams().get(&id).cloned();
        match shared {
            Some(shared) => {
                if shared.take(id, message, payload, cost) {
                    self.forget(id);
                }
            }
            // It was cancelled, and this crossed the cancel.
            None => {
                self.stray.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn count_stray(&self, what: &str) {
        self.stray.fetch_add(1, Ordering::Relaxed);
        tracing::debug!(generation = %self.generation, "from a worker: {what}");
    }

    /// Writes what the socket didn't take at once.
    async fn flush(&self) -> LinkError {
        loop {
            self.flush.notified().await;
            while self.pending.load(Ordering::Relaxed) > 0 {
                // The lock isn't held while waiting; what is written meanwhile goes behind what waits.
                if let Err(error) = self.writable().await {
                    return error.into();
                }
                let mut writer = self.writer();
                let Writer { socket, pending, .. } = &mut *writer;
                match socket.try_write(pending) {
                    Ok(length) => drop(pending.drain(..length)),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return error.into(),
                }
                self.pending.store(pending.len(), Ordering::Relaxed);
            }
            let streams: Vec<_> = self.streams().values().cloned().collect();
            streams.iter().for_each(|stream| stream.wake());
        }
    }

    async fn writable(&self) -> io::Result<()> {
        std::future::poll_fn(|context| {
            let writer = self.writer();
            let socket: &UnixStream = writer.socket.as_ref();
            socket.poll_write_ready(context)
        })
        .await
    }

    /// The worker is gone: every stream is told at once.
    pub(super) fn fail(&self, reason: &str) {
        let mut streams = self.streams();
        self.closed.store(true, Ordering::Release);
        // The first reason is the true one.
        let _ = self.lost.set(reason.to_owned());
        let lost = std::mem::take(&mut *streams);
        drop(streams);
        for (position, shared) in (0..).zip(lost.values()) {
            shared.lose(self.generation, reason, position);
        }
    }
}
