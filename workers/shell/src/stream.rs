//! Streams: what came and waits to be taken, and what may not be sent yet.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use repartee_protocol::worker::{
    Credit, Done, Failed, FinalText, Job, Mark, Marks, Open, Partial, Ready, Score, StreamId, ToEngine, Token,
    ToolCall, Usage, code, encode,
};

use crate::accepted::Accepted;
use crate::link::Link;
use crate::{Failure, Input};

/// A stream that holds back more than this for want of credit is given no more input. What one input makes comes on top of it: a clause
/// of speech, one token.
const HELD_BACK: usize = 64 * 1024;

/// How many serving threads can be told apart in a ping's answer; further ones share.
const BUSY_SLOTS: usize = 64;

/// A mutex of ours is never left in a half-done state, so a panic of another thread under it changes nothing.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the reading thread and the serving threads share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) link: Link,
    table: Mutex<Table>,
    /// Wakes those who wait for a stream to serve, and a batch, which waits for anything on any of its streams.
    changed: Condvar,
    began: Instant,
    /// When each serving thread began what it's computing, in ms since `began`, by its number; 0: idle.
    busy: [AtomicU64; BUSY_SLOTS],
}

#[derive(Debug, Default)]
struct Table {
    streams: BTreeMap<StreamId, Entry>,
    accepted: Option<Accepted>,
    newest: Option<StreamId>,
    stopping: bool,
    panicked: bool,
    /// Whether one thread serves all streams.
    is_batch: bool,
    /// Lanes that have nothing to do.
    idle: BTreeSet<usize>,
}

impl Table {
    /// Streams that take a place. One that has ended or was cancelled may still be here for a moment, but for the engine it's gone.
    fn open_streams(&self) -> usize {
        let is_over = |state: &State| state.ended.load(Ordering::Acquire) || state.cancelled.load(Ordering::Acquire);
        self.streams.values().filter(|entry| !is_over(&entry.state)).count()
    }
}

#[derive(Debug)]
struct Entry {
    state: Arc<State>,
    leased: bool,
    inbox: VecDeque<(Input, u64)>,
    /// How many bytes of data the engine may still send; negative after a frame that overdrew it.
    allowance: i64,
    /// Bytes of data that were taken and not yet given back as credit.
    taken: u64,
    finished: bool,
}

#[derive(Debug)]
struct State {
    open: Open,
    payload: Bytes,
    cancelled: AtomicBool,
    ended: AtomicBool,
    finishing: AtomicBool,
    /// Bytes in the outbox, so that readers need not lock it.
    held_back: AtomicUsize,
    /// Whether a batch was told that the stream is blocked, so that it has to be woken when it isn't any more.
    told_blocked: AtomicBool,
    outbox: Mutex<Outbox>,
    samples_in: AtomicUsize,
    /// Wakes the lane that serves the stream.
    woken: Condvar,
}

#[derive(Debug, Default)]
struct Outbox {
    credit: i64,
    queue: VecDeque<(Vec<u8>, bool)>,
    samples: u64,
    compute: Duration,
}

/// Where a stream's results go. Cheap to clone; usable from any thread.
#[derive(Clone)]
pub struct Outlet {
    shared: Arc<Shared>,
    state: Arc<State>,
}

impl fmt::Debug for Outlet {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Outlet({})", self.id())
    }
}

impl Outlet {
    /// The stream.
    pub fn id(&self) -> StreamId {
        self.state.open.stream
    }

    /// Whether nothing of the stream is wanted any more. Cheap: ask in the middle of a computation.
    pub fn is_cancelled(&self) -> bool {
        self.state.cancelled.load(Ordering::Acquire)
    }

    /// Whether nothing more comes on the stream: its [`Input::Finish`] is here, taken or not. Cheap: for a computation that gives way to one
    /// which somebody waits for.
    pub fn is_finishing(&self) -> bool {
        self.state.finishing.load(Ordering::Acquire)
    }

    /// Whether the stream may not send for want of credit. What is sent nevertheless is held back. A [`crate::Batch`] that is told so
    /// and waits is called again when it isn't so any more.
    pub fn is_blocked(&self) -> bool {
        let blocked = self.holds_back();
        if blocked {
            self.state.told_blocked.store(true, Ordering::Release);
        }
        blocked
    }

    fn holds_back(&self) -> bool {
        self.state.held_back.load(Ordering::Acquire) > HELD_BACK
    }

    /// A transcript so far.
    pub fn partial(&self, text: &str, stable_chars: u32, audio_ms: u32) {
        let partial = Partial {
            stream: self.id(),
            text: text.into(),
            stable_chars,
            audio_ms,
        };
        self.send(&ToEngine::Partial(partial), &[], false);
    }

    /// The transcript. Its stream is filled in.
    pub fn final_text(&self, mut text: FinalText) {
        text.stream = self.id();
        self.send(&ToEngine::Final(text), &[], false);
    }

    /// Mono PCM, 16 bit, at the rate of the stream's voice.
    pub fn audio(&self, samples: &[i16]) {
        let bytes: Vec<u8> = samples.iter().flat_map(|sample| sample.to_le_bytes()).collect();
        lock(&self.state.outbox).samples += samples.len() as u64;
        self.send(&ToEngine::Audio { stream: self.id() }, &bytes, true);
    }

    /// When the words of a clause are said.
    pub fn marks(&self, clause: u32, words: Vec<Mark>, estimated: bool) {
        self.send(
            &ToEngine::Marks(Marks {
                stream: self.id(),
                clause,
                words,
                estimated,
            }),
            &[],
            false,
        );
    }

    /// A piece of an answer; whole characters.
    pub fn token(&self, text: &str) {
        self.send(
            &ToEngine::Token(Token {
                stream: self.id(),
                text: text.into(),
            }),
            &[],
            true,
        );
    }

    /// The model calls a tool.
    pub fn tool_call(&self, call: repartee_protocol::worker::Function) {
        self.send(
            &ToEngine::ToolCall(ToolCall {
                stream: self.id(),
                call,
            }),
            &[],
            false,
        );
    }

    /// A probability, 0 to 1, that holds up to sample `at` of the stream.
    pub fn score(&self, probability: f32, at: u64) {
        self.send(
            &ToEngine::Score(Score {
                stream: self.id(),
                probability,
                at,
            }),
            &[],
            false,
        );
    }

    /// Ends the stream well. Anything that is sent on it afterwards is dropped.
    pub fn done(&self, reason: Option<&str>, mut usage: Usage) {
        let outbox = lock(&self.state.outbox);
        if usage.samples == 0 {
            usage.samples = outbox.samples.max(self.state.samples_in.load(Ordering::Relaxed) as u64);
        }
        if usage.compute_us == 0 {
            usage.compute_us = u64::try_from(outbox.compute.as_micros()).unwrap_or(u64::MAX);
        }
        drop(outbox);
        let done = Done {
            stream: self.id(),
            cancelled: self.is_cancelled(),
            reason: reason.map(str::to_owned),
            usage,
        };
        self.end(&ToEngine::Done(done));
    }

    /// Ends the stream with an error. Anything that is sent on it afterwards is dropped.
    pub fn fail(&self, failure: Failure) {
        let failed = Failed {
            stream: self.id(),
            code: failure.code.into(),
            message: failure.message,
        };
        self.end(&ToEngine::Failed(failed));
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.state.ended.load(Ordering::Acquire)
    }

    pub(crate) fn computed(&self, time: Duration) {
        lock(&self.state.outbox).compute += time;
    }

    fn end(&self, last: &ToEngine) {
        let mut outbox = lock(&self.state.outbox);
        if !self.state.ended.swap(true, Ordering::AcqRel) {
            self.put(&mut outbox, last, &[], false);
        }
    }

    fn send(&self, message: &ToEngine, payload: &[u8], data: bool) {
        let mut outbox = lock(&self.state.outbox);
        if !self.has_ended() && !self.is_cancelled() {
            self.put(&mut outbox, message, payload, data);
        }
    }

    fn put(&self, outbox: &mut Outbox, message: &ToEngine, payload: &[u8], data: bool) {
        let problem = if outbox.queue.is_empty() && (!data || outbox.credit > 0) {
            self.shared
                .link
                .send(message, payload)
                .map(|cost| outbox.credit -= if data { cost as i64 } else { 0 })
        } else {
            let mut frame = Vec::new();
            encode(message, payload, &mut frame).map(|cost| {
                self.state.held_back.fetch_add(cost, Ordering::AcqRel);
                outbox.queue.push_back((frame, data));
            })
        };
        if let Err(too_long) = problem {
            // A worker that makes such messages has a fault of its own; the engine must not wait for them.
            eprintln!("stream {}: {too_long}", self.id());
            if !self.state.ended.swap(true, Ordering::AcqRel) {
                let failed = Failed {
                    stream: self.id(),
                    code: code::INTERNAL.into(),
                    message: too_long.to_string(),
                };
                self.put(outbox, &ToEngine::Failed(failed), &[], false);
            }
        }
    }
}

/// A live stream, as a [`crate::Batch`] sees it.
#[derive(Debug)]
pub struct Stream {
    out: Outlet,
    pub(crate) cancel_seen: bool,
}

impl Stream {
    pub(crate) fn new(out: Outlet) -> Self {
        Self {
            out,
            cancel_seen: false,
        }
    }

    /// The stream's name.
    pub fn id(&self) -> StreamId {
        self.out.id()
    }

    /// What it was opened with.
    pub fn open(&self) -> &Open {
        &self.out.state.open
    }

    /// The payload of its opening (a chat for an LLM).
    pub fn payload(&self) -> &Bytes {
        &self.out.state.payload
    }

    /// Where its results go.
    pub fn out(&self) -> &Outlet {
        &self.out
    }

    /// Whether nothing of it is wanted any more.
    pub fn is_cancelled(&self) -> bool {
        self.out.is_cancelled()
    }

    /// The next thing that came, in order; `None` while nothing has come or while the stream [`Outlet::is_blocked`].
    pub fn next_input(&mut self) -> Option<Input> {
        let mut table = self.out.shared.table();
        let input = take(&self.out.shared, &mut table, &self.out.state);
        drop(table);
        input
    }
}

/// Why a lane was woken.
pub(crate) enum Woken {
    Input(Input),
    Over,
}

/// Takes the next input of a stream and gives its credit back now and then.
fn take(shared: &Shared, table: &mut Table, state: &State) -> Option<Input> {
    if state.cancelled.load(Ordering::Acquire) || state.held_back.load(Ordering::Acquire) > HELD_BACK {
        return None;
    }
    let window = table.accepted.map_or(1, |accepted| accepted.credit);
    let entry = table.streams.get_mut(&state.open.stream)?;
    let (input, cost) = entry.inbox.pop_front()?;
    entry.taken += cost;
    // A quarter of the window: seldom enough to cost nothing, early enough that the engine never runs dry.
    if entry.taken >= window / 4 && !entry.finished {
        let n = std::mem::take(&mut entry.taken);
        entry.allowance += n as i64;
        // A credit message is a few bytes long.
        let _ = shared.link.send(
            &ToEngine::Credit(Credit {
                stream: state.open.stream,
                n,
            }),
            &[],
        );
    }
    Some(input)
}

impl Shared {
    pub(crate) fn new(link: Link) -> Self {
        Self {
            link,
            table: Mutex::default(),
            changed: Condvar::new(),
            began: Instant::now(),
            busy: [const { AtomicU64::new(0) }; BUSY_SLOTS],
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        lock(&self.table)
    }

    fn wait<'a>(&self, table: MutexGuard<'a, Table>) -> MutexGuard<'a, Table> {
        self.changed.wait(table).unwrap_or_else(PoisonError::into_inner)
    }

    fn outlet(self: &Arc<Self>, entry: &Entry) -> Outlet {
        Outlet {
            shared: Arc::clone(self),
            state: Arc::clone(&entry.state),
        }
    }

    // ---- for the reading thread -------------------------------------------------------------------------------------

    /// Streams are accepted from now on.
    pub(crate) fn accept(&self, job: Job, ready: &Ready, is_batch: bool) {
        let mut table = self.table();
        table.is_batch = is_batch;
        table.accepted = Some(Accepted {
            job,
            rate: ready.model.rate,
            places: ready.model.max_streams.max(1) as usize,
            waiting: ready.model.max_waiting as usize,
            credit: ready.stream_credit,
        });
    }

    /// Opens a stream, or fails it with the reason.
    pub(crate) fn open(&self, open: Open, payload: Bytes) {
        let mut table = self.table();
        let stream = open.stream;
        let refused = match table.accepted {
            None => Some(Failure::new(code::INVALID, "no model is loaded")),
            Some(accepted) => accepted.refuse(&open, table.newest, table.open_streams()),
        };
        if let Some(failure) = refused {
            drop(table);
            let failed = Failed {
                stream,
                code: failure.code.into(),
                message: failure.message,
            };
            let _ = self.link.send(&ToEngine::Failed(failed), &[]);
            return;
        }
        let window = table.accepted.map_or(0, |accepted| accepted.credit);
        let outbox = Outbox {
            credit: clamp(open.credit),
            ..Outbox::default()
        };
        let state = State {
            open,
            payload,
            cancelled: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            finishing: AtomicBool::new(false),
            held_back: AtomicUsize::new(0),
            told_blocked: AtomicBool::new(false),
            outbox: Mutex::new(outbox),
            samples_in: AtomicUsize::new(0),
            woken: Condvar::new(),
        };
        let entry = Entry {
            state: Arc::new(state),
            leased: false,
            inbox: VecDeque::new(),
            allowance: clamp(window),
            taken: 0,
            finished: false,
        };
        table.newest = Some(stream);
        table.streams.insert(stream, entry);
        drop(table);
        self.changed.notify_all();
    }

    /// Takes what came on a stream. Streams that have ended here, but not yet at the engine, are left in peace.
    pub(crate) fn input(self: &Arc<Self>, stream: StreamId, input: Input, cost: u64) {
        let mut table = self.table();
        let Some(entry) = table.streams.get_mut(&stream) else {
            return;
        };
        if entry.state.cancelled.load(Ordering::Acquire) {
            return;
        }
        let problem = match &input {
            _ if entry.finished => Some(Failure::new(code::INVALID, "input after finish")),
            Input::Finish => None,
            _ if entry.allowance <= 0 => Some(Failure::new(code::CREDIT, "more data than the stream had credit for")),
            Input::Audio(_) if !matches!(entry.state.open.params.job(), Job::Stt | Job::Vad | Job::Turn) => {
                Some(Failure::new(code::INVALID, "audio on a stream that takes none"))
            }
            Input::Audio(bytes) if bytes.len() % 2 != 0 => Some(Failure::new(code::INVALID, "half a sample")),
            Input::Text(_) if entry.state.open.params.job() != Job::Tts => {
                Some(Failure::new(code::INVALID, "text on a stream that takes none"))
            }
            Input::Audio(_) | Input::Text(_) => None,
        };
        if let Some(failure) = problem {
            let outlet = self.outlet(entry);
            drop(table);
            outlet.fail(failure);
            self.cancel(stream);
            return;
        }
        match &input {
            Input::Finish => {
                entry.finished = true;
                entry.state.finishing.store(true, Ordering::Release);
            }
            Input::Audio(bytes) => {
                entry.state.samples_in.fetch_add(bytes.len() / 2, Ordering::Relaxed);
                entry.allowance -= clamp(cost);
            }
            Input::Text(_) => entry.allowance -= clamp(cost),
        }
        entry.inbox.push_back((input, cost));
        let state = Arc::clone(&entry.state);
        let is_batch = table.is_batch;
        drop(table);
        self.wake(is_batch, &state);
    }

    /// Nothing of the stream is wanted any more. What it holds back is dropped at once; who serves it is told.
    pub(crate) fn cancel(self: &Arc<Self>, stream: StreamId) {
        let mut table = self.table();
        let Some(entry) = table.streams.get_mut(&stream) else {
            return;
        };
        let outlet = self.outlet(entry);
        let leased = entry.leased;
        entry.inbox.clear();
        entry.state.cancelled.store(true, Ordering::Release);
        drop(table);
        let mut outbox = lock(&outlet.state.outbox);
        // Where the stream has ended here and its end waits behind data, the end is said now; else whoever serves the stream ends it.
        let end = if outlet.has_ended() {
            outbox.queue.pop_back()
        } else {
            None
        };
        outbox.queue.clear();
        outlet.state.held_back.store(0, Ordering::Release);
        if let Some((frame, _)) = end {
            self.link.send_encoded(&frame);
        }
        drop(outbox);
        if !leased {
            self.close(stream);
        }
        let is_batch = self.table().is_batch;
        self.wake(is_batch, &outlet.state);
    }

    /// More may be sent on a stream: sends what was held back.
    pub(crate) fn credit(self: &Arc<Self>, credit: Credit) {
        let table = self.table();
        let Some(entry) = table.streams.get(&credit.stream) else {
            return;
        };
        let outlet = self.outlet(entry);
        drop(table);
        let mut outbox = lock(&outlet.state.outbox);
        outbox.credit = outbox.credit.saturating_add(clamp(credit.n));
        while let Some((frame, data)) = outbox.queue.front() {
            if *data && outbox.credit <= 0 {
                break;
            }
            let (cost, data) = (frame.len(), *data);
            self.link.send_encoded(frame);
            outbox.queue.pop_front();
            outlet.state.held_back.fetch_sub(cost, Ordering::AcqRel);
            if data {
                outbox.credit -= cost as i64;
            }
        }
        let empty = outbox.queue.is_empty();
        drop(outbox);
        let mut table = self.table();
        if empty && outlet.has_ended() && table.streams.get(&credit.stream).is_some_and(|entry| !entry.leased) {
            table.streams.remove(&credit.stream);
        }
        let is_batch = table.is_batch;
        drop(table);
        self.wake(is_batch, &outlet.state);
    }

    /// For how long the oldest computation has been running, and how many streams are open.
    pub(crate) fn load_now(&self) -> (Duration, usize) {
        let table = self.table();
        let starts = self
            .busy
            .iter()
            .map(|start| start.load(Ordering::Relaxed))
            .filter(|start| *start > 0);
        let oldest = starts
            .min()
            .map_or(0, |start| self.milliseconds().saturating_sub(start).max(1));
        let oldest = Duration::from_millis(oldest);
        (oldest, table.open_streams())
    }

    /// The link is gone, or the engine said stop: everybody goes home.
    pub(crate) fn stop(&self) {
        let mut table = self.table();
        table.stopping = true;
        for entry in table.streams.values() {
            entry.state.cancelled.store(true, Ordering::Release);
            entry.state.woken.notify_one();
        }
        drop(table);
        self.changed.notify_all();
    }

    // ---- for the serving threads ------------------------------------------------------------------------------------

    /// Waits for a stream that nobody serves yet and takes it; `None` when there's no more work. Of the lanes that wait, the one
    /// with the lowest number takes it, so that lanes which load on their first use stay unloaded as long as they aren't needed.
    pub(crate) fn lease(self: &Arc<Self>, lane: usize) -> Option<Outlet> {
        let mut table = self.table();
        table.idle.insert(lane);
        loop {
            if table.stopping {
                return None;
            }
            if table.idle.first() == Some(&lane)
                && let Some(entry) = table.streams.values_mut().find(|entry| is_waiting(entry))
            {
                entry.leased = true;
                let outlet = self.outlet(entry);
                table.idle.remove(&lane);
                drop(table);
                // It's the next lane's turn now.
                self.changed.notify_all();
                return Some(outlet);
            }
            table = self.wait(table);
        }
    }

    /// Waits for the next input of a stream.
    pub(crate) fn wait_input(&self, outlet: &Outlet) -> Woken {
        let mut table = self.table();
        loop {
            if table.stopping || outlet.is_cancelled() || outlet.has_ended() {
                return Woken::Over;
            }
            if let Some(input) = take(self, &mut table, &outlet.state) {
                return Woken::Input(input);
            }
            table = outlet.state.woken.wait(table).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// For a batch: adds streams that nobody serves yet, and waits until there's something to do (`again`: doesn't wait).
    /// False when there's no more work.
    pub(crate) fn gather(self: &Arc<Self>, live: &mut Vec<Stream>, again: bool) -> bool {
        let mut table = self.table();
        loop {
            if table.stopping {
                return false;
            }
            let places = table.accepted.map_or(1, |accepted| accepted.places);
            let mut added = false;
            for entry in table.streams.values_mut().filter(|entry| is_waiting(entry)) {
                if live.len() >= places {
                    break;
                }
                entry.leased = true;
                live.push(Stream::new(self.outlet(entry)));
                added = true;
            }
            let something = live.iter().any(|stream| {
                let entry = table.streams.get(&stream.id());
                let has_input = entry.is_some_and(|entry| !entry.inbox.is_empty());
                // A stream that has nothing more to take may still have something to say, and was told to wait with it.
                let may_go_on = has_input || stream.out.state.told_blocked.load(Ordering::Acquire);
                stream.is_cancelled() || (may_go_on && !stream.out.holds_back())
            });
            if added || something || (again && !live.is_empty()) {
                for stream in live.iter_mut() {
                    stream.cancel_seen = stream.is_cancelled();
                    if !stream.out.holds_back() {
                        stream.out.state.told_blocked.store(false, Ordering::Release);
                    }
                }
                return true;
            }
            table = self.wait(table);
        }
    }

    /// The serving thread is through with a stream. What is still held back is sent as credit comes.
    pub(crate) fn close(self: &Arc<Self>, stream: StreamId) {
        let table = self.table();
        let Some(entry) = table.streams.get(&stream) else {
            return;
        };
        let outlet = self.outlet(entry);
        drop(table);
        // First the end, then the place: a stream without either would be taken for a new one.
        outlet.done(None, Usage::default());
        if let Some(entry) = self.table().streams.get_mut(&stream) {
            entry.leased = false;
        }
        let outbox = lock(&outlet.state.outbox);
        if outbox.queue.is_empty() || outlet.is_cancelled() {
            drop(outbox);
            self.table().streams.remove(&stream);
            self.changed.notify_all();
        }
    }

    /// Marks a computation of a serving thread, so that pings can tell when one hangs.
    pub(crate) fn set_busy(&self, thread: usize, busy: bool) {
        let now = if busy { self.milliseconds() } else { 0 };
        self.busy[thread % BUSY_SLOTS].store(now, Ordering::Relaxed);
    }

    /// Milliseconds since this process began to serve; never 0.
    fn milliseconds(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis())
            .unwrap_or(u64::MAX)
            .max(1)
    }

    /// Wakes whoever serves a stream on which something changed.
    fn wake(&self, is_batch: bool, state: &State) {
        if is_batch {
            self.changed.notify_one();
        } else {
            state.woken.notify_one();
        }
    }

    /// A serving thread panicked: nothing that shares its library can be trusted any more, so the process ends.
    pub(crate) fn panicked(&self) {
        self.table().panicked = true;
        self.link.close();
    }

    pub(crate) fn has_panicked(&self) -> bool {
        self.table().panicked
    }
}

impl Outlet {
    /// What the stream was opened with.
    pub(crate) fn opened(&self) -> (&Open, &Bytes) {
        (&self.state.open, &self.state.payload)
    }
}

/// Whether a stream waits to be served. One that has ended is only there for what it holds back.
fn is_waiting(entry: &Entry) -> bool {
    !entry.leased && !entry.state.ended.load(Ordering::Acquire) && !entry.state.cancelled.load(Ordering::Acquire)
}

/// Byte counts of the wire are unsigned and may be anything; ours fit an `i64`.
fn clamp(bytes: u64) -> i64 {
    // Half of the range, so that sums of a few can't overflow.
    i64::try_from(bytes).unwrap_or(i64::MAX).min(i64::MAX / 4)
}
