//! The life of a worker on its link: hello, load, streams, end.

use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use repartee_protocol::worker::{
    Decoder, Failed, Frame, FrameError, Load, LoadFailed, Pong, Ready, ToEngine, ToWorker, Usage, code,
};
use thiserror::Error;

use crate::link::Link;
use crate::stream::{Outlet, Shared, Stream, Woken};
use crate::{Batch, Failure, Input, Lane, Loaded, Models, Service, Step, Worker, resident_bytes};

/// How much is read from the link at once: two seconds of speech.
const READ: usize = 64 * 1024;

/// The stack of the thread that holds the model, in bytes: twice what the main thread of a C program has. Libraries read grammars,
/// templates and regular expressions by recursion. It takes no memory until it's used.
const MODEL_STACK: usize = 16 * 1024 * 1024;

/// How many characters the reason of a failed load may have.
const LONGEST_REASON: usize = 4_000;

/// Why a worker can't go on.
#[derive(Debug, Error)]
pub enum ServeError {
    /// The engine sent what isn't a frame.
    #[error("the engine sent what is not a frame: {0}")]
    Frame(#[from] FrameError),
    /// The link broke.
    #[error("the link to the engine broke: {0}")]
    Link(#[from] io::Error),
    /// The worker's own code panicked.
    #[error("the worker panicked")]
    Panicked,
}

/// Serves the engine at the other end of `link` until it closes the link or says stop. Returns then, while threads may still be
/// finishing a computation: the caller is expected to exit.
///
/// # Errors
/// [`ServeError`] where something else ended it.
pub fn serve<W: Worker>(worker: W, models: Models, link: Link) -> Result<(), ServeError> {
    let hello = worker.hello();
    let shared = Arc::new(Shared::new(link));
    // One load at a time: an engine that sends a second one meanwhile is told so.
    let (loads, requests) = sync_channel(1);
    if shared.link.send(&ToEngine::Hello(hello), &[]).is_err() {
        return Err(io::Error::other("a hello that is longer than the link allows").into());
    }
    let loader = Arc::clone(&shared);
    thread::Builder::new()
        .name("model".into())
        .stack_size(MODEL_STACK)
        .spawn(move || load_and_serve(&loader, worker, &models, &requests))?;
    let ended = read(&shared, &loads);
    shared.stop();
    if shared.has_panicked() {
        Err(ServeError::Panicked)
    } else {
        ended
    }
}

/// The reading thread: obeys control at once and hands data to the streams.
fn read(shared: &Arc<Shared>, loads: &SyncSender<Load>) -> Result<(), ServeError> {
    let mut decoder = Decoder::new();
    let mut buffer = vec![0; READ];
    loop {
        match shared.link.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(length) => decoder.push(&buffer[..length]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            // An engine that was killed resets the link; that is an end like any other.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        while let Some(frame) = decoder.next_frame()? {
            if obey(shared, loads, frame) == Next::Stop {
                return Ok(());
            }
        }
    }
}

#[derive(PartialEq, Eq)]
enum Next {
    GoOn,
    Stop,
}

fn obey(shared: &Arc<Shared>, loads: &SyncSender<Load>, frame: Frame) -> Next {
    let cost = frame.cost();
    match frame.to_worker() {
        Ok(ToWorker::Audio { stream }) => shared.input(stream, Input::Audio(frame.payload), cost),
        Ok(ToWorker::Text(text)) => shared.input(text.stream, Input::Text(text), cost),
        Ok(ToWorker::Finish { stream }) => shared.input(stream, Input::Finish, cost),
        Ok(ToWorker::Open(open)) => shared.open(open, frame.payload),
        Ok(ToWorker::Cancel { stream }) => shared.cancel(stream),
        Ok(ToWorker::Credit(credit)) => shared.credit(credit),
        Ok(ToWorker::Ping { nonce }) => {
            let (busy, streams) = shared.load_now();
            let pong = Pong {
                nonce,
                busy_ms: milliseconds(busy).into(),
                streams: u32::try_from(streams).unwrap_or(u32::MAX),
                memory_bytes: resident_bytes(),
            };
            tell(shared, &ToEngine::Pong(pong));
        }
        Ok(ToWorker::Load(load)) => {
            if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) = loads.try_send(load) {
                let message = "another load is under way or done; a worker holds one model".into();
                tell(
                    shared,
                    &ToEngine::Error {
                        code: code::INVALID.into(),
                        message,
                    },
                );
            }
        }
        Ok(ToWorker::Stop) => return Next::Stop,
        Err(error) => {
            let answer = match error.stream() {
                Some(stream) => {
                    let stream = stream.into();
                    shared.cancel(stream);
                    ToEngine::Failed(Failed {
                        stream,
                        code: error.code().into(),
                        message: error.to_string(),
                    })
                }
                None => ToEngine::Error {
                    code: error.code().into(),
                    message: error.to_string(),
                },
            };
            tell(shared, &answer);
        }
    }
    Next::GoOn
}

/// Sends a message whose length is bounded by what it is.
fn tell(shared: &Shared, message: &ToEngine) {
    if let Err(too_long) = shared.link.send(message, &[]) {
        eprintln!("a message to the engine was dropped: {too_long}");
    }
}

fn milliseconds(time: Duration) -> u32 {
    u32::try_from(time.as_millis()).unwrap_or(u32::MAX)
}

/// The model's thread: loads until a load succeeds, then serves.
fn load_and_serve<W: Worker>(shared: &Arc<Shared>, mut worker: W, models: &Models, requests: &Receiver<Load>) {
    while let Ok(request) = requests.recv() {
        let began = Instant::now();
        let loaded = match catch_unwind(AssertUnwindSafe(|| worker.load(&request, models))) {
            Ok(Ok(loaded)) => loaded,
            Ok(Err(failed)) => {
                eprintln!("load of {:?} failed: {}", request.model, failed.reason);
                tell(shared, &ToEngine::LoadFailed(bounded(failed)));
                continue;
            }
            Err(panic) => {
                let reason = format!("the worker panicked while it loaded the model: {}", panic_text(&*panic));
                tell(shared, &ToEngine::LoadFailed(LoadFailed::new(code::INTERNAL, reason)));
                shared.panicked();
                return;
            }
        };
        let Loaded {
            model,
            warmup,
            device,
            device_bytes,
            fallback,
            stream_credit,
            service,
        } = loaded;
        let ready = Ready {
            load_ms: milliseconds(began.elapsed().saturating_sub(warmup)),
            warmup_ms: milliseconds(warmup),
            memory_bytes: resident_bytes(),
            device_bytes,
            device,
            fallback,
            stream_credit,
            model,
        };
        shared.accept(request.job, &ready, matches!(service, Service::Batch(_)));
        tell(shared, &ToEngine::Ready(ready));
        match service {
            Service::Batch(batch) => serve_batch(shared, batch),
            Service::Lanes(lanes) => {
                for (number, lane) in lanes.into_iter().enumerate() {
                    let theirs = Arc::clone(shared);
                    let spawned = thread::Builder::new()
                        .name(format!("lane {number}"))
                        .spawn(move || serve_lane(&theirs, number, lane));
                    if let Err(error) = spawned {
                        eprintln!("lane {number} has no thread: {error}");
                    }
                }
            }
        }
        return;
    }
}

/// A message that is longer than the link allows would be dropped, and the engine would wait for it: a library may have much to say of a
/// broken file, and what comes first is the cause.
fn bounded(failed: LoadFailed) -> LoadFailed {
    let cut = |text: String| -> String {
        match text.char_indices().nth(LONGEST_REASON) {
            Some((end, _)) => format!("{}…", &text[..end]),
            None => text,
        }
    };
    LoadFailed {
        reason: cut(failed.reason),
        file: failed.file.map(cut),
        ..failed
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

fn serve_lane(shared: &Arc<Shared>, number: usize, mut lane: Box<dyn Lane>) {
    match catch_unwind(AssertUnwindSafe(|| lane.prepare())) {
        Ok(Ok(())) => {}
        Ok(Err(failed)) => {
            eprintln!("lane {number} is not used: {}", failed.reason);
            return;
        }
        Err(_) => return shared.panicked(),
    }
    while let Some(out) = shared.lease(number) {
        let (open, payload) = out.opened();
        let mut outcome = guarded(shared, number, &out, || lane.open(open, payload, &out));
        while outcome == Outcome::GoesOn {
            let Woken::Input(input) = shared.wait_input(&out) else {
                break;
            };
            let last = matches!(input, Input::Finish);
            outcome = guarded(shared, number, &out, || lane.input(input, &out));
            if last && outcome == Outcome::GoesOn {
                out.done(None, Usage::default());
                break;
            }
        }
        if outcome == Outcome::Panicked {
            return shared.panicked();
        }
        let close = AssertUnwindSafe(|| lane.close());
        if catch_unwind(close).is_err() {
            return shared.panicked();
        }
        shared.close(out.id());
    }
}

#[derive(PartialEq, Eq)]
enum Outcome {
    GoesOn,
    Ended,
    Panicked,
}

/// Runs a call into the worker for one stream: times it, and turns its error or panic into the stream's end.
fn guarded(shared: &Shared, thread: usize, out: &Outlet, call: impl FnOnce() -> Result<(), Failure>) -> Outcome {
    let began = Instant::now();
    shared.set_busy(thread, true);
    let result = catch_unwind(AssertUnwindSafe(call));
    shared.set_busy(thread, false);
    out.computed(began.elapsed());
    match result {
        Ok(Ok(())) if out.has_ended() => Outcome::Ended,
        Ok(Ok(())) => Outcome::GoesOn,
        Ok(Err(failure)) => {
            out.fail(failure);
            Outcome::Ended
        }
        Err(panic) => {
            out.fail(Failure::new(
                code::INTERNAL,
                format!("the worker panicked: {}", panic_text(&*panic)),
            ));
            Outcome::Panicked
        }
    }
}

fn serve_batch(shared: &Arc<Shared>, mut batch: Box<dyn Batch>) {
    let mut live: Vec<Stream> = Vec::new();
    let mut again = false;
    while shared.gather(&mut live, again) {
        shared.set_busy(0, true);
        let step = catch_unwind(AssertUnwindSafe(|| batch.step(&mut live)));
        shared.set_busy(0, false);
        match step {
            Ok(step) => again = step == Step::Again,
            Err(panic) => {
                let message = format!("the worker panicked: {}", panic_text(&*panic));
                for stream in &live {
                    stream.out().fail(Failure::new(code::INTERNAL, message.clone()));
                }
                return shared.panicked();
            }
        }
        live.retain(|stream| {
            // A cancel that came during the step has not been seen by the batch yet: it's shown at the next one.
            let over = stream.cancel_seen || (stream.out().has_ended() && !stream.is_cancelled());
            if over {
                shared.close(stream.id());
            }
            !over
        });
    }
}
