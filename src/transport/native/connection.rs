//! One connection: `hello`, then both directions at once until either ends.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::ws::{CloseFrame, Message, WebSocket};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use repartee_protocol::native::{
    self, AudioFormat, CLOSE_NO_SESSION, Control, ErrorCode, ErrorEvent, Event, Hello, Pong, Request, parse_control,
};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::media::{self, RateWatch};
use super::{NativeOptions, translate};
use crate::access;
use crate::audio::{Heard, Inbound, Outbound};
use crate::call::{self, Command, Digit, Settings};
use crate::engine::{AudioSender, Clock, Commands, Engine, FrameReceiver, OutFrame, Refused, WireProfile};
use crate::id::ResponseId;
use crate::metrics::Metrics;
use crate::registry::Switchboard;
use crate::time::Time;

/// A client that doesn't take a message in this time takes nothing any more.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);
/// Between two pings to a client.
const PING_INTERVAL: Duration = Duration::from_secs(20);
/// A client of which nothing was heard for so long, not even a pong, has vanished.
const VANISHED: Duration = Duration::from_secs(65);
/// The other side answers a close, or doesn't: it is not waited for longer than this.
const LINGER: Duration = Duration::from_secs(2);
/// Errors and replies that may wait for the writer.
const NOTE_CAPACITY: usize = 32;

type Sink = SplitSink<WebSocket, Message>;
type Stream = SplitStream<WebSocket>;

/// Why a connection ended before there was a session. `None` when nobody is left to tell.
type Unopened = Option<Box<ErrorEvent>>;

/// Serves one connection to its end.
pub(super) async fn serve(socket: WebSocket, engine: Engine, options: Arc<NativeOptions>) {
    let (mut sink, mut stream) = socket.split();
    match open(&mut stream, &engine, &options).await {
        Ok(opened) => run(opened, sink, stream, &engine, &options).await,
        Err(Some(mut error)) => {
            let code = *error.close_code.get_or_insert(CLOSE_NO_SESSION);
            let farewell = async {
                let reason = error.code.as_str();
                let _ = sink.send(Message::text(Event::Error(*error).to_json())).await;
                let _ = sink.send(close(code, reason)).await;
            };
            let _ = timeout(LINGER, farewell).await;
            linger(&mut stream).await;
        }
        Err(None) => linger(&mut stream).await,
    }
}

/// Reads to the end, though nothing of it counts any more: whose close came first is only answered by reading on, and a socket
/// that is closed over unread audio is reset, which may take with it what was said last.
async fn linger(stream: &mut Stream) {
    let _ = timeout(LINGER, async { while let Some(Ok(_)) = stream.next().await {} }).await;
}

fn close(code: u16, reason: &'static str) -> Message {
    Message::Close(Some(CloseFrame {
        code,
        reason: reason.into(),
    }))
}

/// A session that is open.
struct Opened {
    call: crate::engine::Call,
    settings: Settings,
    input: AudioFormat,
    inbound: Inbound,
    outbound: Outbound,
    output: AudioFormat,
    reply_to: Option<String>,
    ssrc: u32,
}

fn refuse(code: ErrorCode, message: impl Into<String>, reply_to: Option<String>) -> Unopened {
    Some(Box::new(ErrorEvent {
        reply_to,
        ..ErrorEvent::new(code, message)
    }))
}

/// Waits for `hello` and opens the session that it asks for.
async fn open(stream: &mut Stream, engine: &Engine, options: &NativeOptions) -> Result<Opened, Unopened> {
    let (hello, id) = first_message(stream, options).await?;
    let token = hello.token.as_ref().map(native::Private::expose);
    if !access::token_is_right(options.token.as_deref(), token) {
        return Err(refuse(
            ErrorCode::Unauthorized,
            "the access token is missing or wrong",
            id,
        ));
    }
    let settings = translate::hello_settings(&hello, &options.settings).map_err(|error| {
        Some(Box::new(ErrorEvent {
            reply_to: id.clone(),
            ..ErrorEvent::from(error)
        }))
    })?;
    let profile = WireProfile::paced(media::sample_rate(hello.output.rate));
    let call = engine.open(settings.clone(), profile).map_err(|refused| {
        let code = match &refused {
            Refused::Full(_) => ErrorCode::TooManySessions,
            Refused::Draining => ErrorCode::Draining,
            Refused::Settings(_) => ErrorCode::InvalidValue,
        };
        refuse(code, refused.to_string(), id.clone())
    })?;
    let unusable = |error: crate::audio::SetupError| refuse(ErrorCode::Internal, error.to_string(), None);
    let bits = call.id.bits();
    let ssrc = u32::try_from(bits & u64::from(u32::MAX)).unwrap_or(0);
    tracing::debug!(session = %call.id, client = hello.client.as_deref().unwrap_or("unnamed"), "session opened");
    Ok(Opened {
        settings,
        inbound: media::inbound(&hello.input).map_err(unusable)?,
        outbound: media::outbound(&hello.output, ssrc, bits.rotate_left(16)).map_err(unusable)?,
        input: hello.input,
        output: hello.output,
        reply_to: id,
        ssrc,
        call,
    })
}

async fn first_message(stream: &mut Stream, options: &NativeOptions) -> Result<(Box<Hello>, Option<String>), Unopened> {
    let waiting = async {
        loop {
            match stream.next().await {
                Some(Ok(Message::Text(text))) => break read_hello(&text),
                Some(Ok(Message::Binary(_))) => {
                    let message = "audio came before `hello`, which tells what it is";
                    break Err(refuse(ErrorCode::AudioBeforeHello, message, None));
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Err(error)) => break Err(too_large(&error, options.max_message_bytes)),
                Some(Ok(Message::Close(_))) | None => break Err(None),
            }
        }
    };
    timeout(options.hello_timeout, waiting).await.unwrap_or_else(|_| {
        let message = format!("no `hello` within {} ms", options.hello_timeout.as_millis());
        Err(refuse(ErrorCode::HelloTimeout, message, None))
    })
}

fn read_hello(text: &str) -> Result<(Box<Hello>, Option<String>), Unopened> {
    let Control { id, request } = parse_control(text).map_err(|error| Some(Box::new(error.into())))?;
    match request {
        Request::Hello(hello) => Ok((hello, id)),
        other => {
            let message = format!("the first message must be `hello`, not `{}`", other.kind());
            Err(refuse(ErrorCode::HelloExpected, message, id))
        }
    }
}

/// The error for a message that could not be received; `None` when the connection broke.
fn too_large(error: &axum::Error, limit: usize) -> Unopened {
    // axum hides tungstenite's error behind its own; its text is the only way to tell the two apart.
    if error.to_string().contains("too long") || error.to_string().contains("too large") {
        refuse(
            ErrorCode::MessageTooLarge,
            format!("a message has more than {limit} bytes"),
            None,
        )
    } else {
        None
    }
}

/// What the reader tells the writer.
enum Note {
    /// Tell this to the client.
    Event(Box<Event>),
    /// The next `updated` answers this control, with these settings.
    Updating(Option<String>, Box<Settings>),
    /// The next `status` answers this control.
    Asking(Option<String>),
    /// Tell this, and close.
    Last(Box<ErrorEvent>),
}

async fn run(opened: Opened, sink: Sink, stream: Stream, engine: &Engine, options: &NativeOptions) {
    let Opened {
        call,
        settings,
        input,
        inbound,
        outbound,
        output,
        reply_to,
        ssrc,
    } = opened;
    let (notes_in, notes_out) = mpsc::channel(NOTE_CAPACITY);
    let seen = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let ready = translate::ready(
        call.id,
        (&input, &output),
        ssrc,
        &settings,
        options.max_message_bytes,
        reply_to,
        engine.registry(),
    );
    let session = call.id;
    let writer = Writer {
        sink,
        events: call.events,
        frames: call.frames,
        notes: notes_out,
        outbound,
        heard: None,
        clock: call.clock,
        seen: Arc::clone(&seen),
        updating: VecDeque::new(),
        asking: VecDeque::new(),
    };
    let mut reader = Reader {
        stream,
        audio: call.audio,
        commands: call.commands,
        notes: notes_in,
        inbound,
        settings,
        clock: call.clock,
        seen,
        watch: RateWatch::default(),
        told: Vec::new(),
        heard: Heard::default(),
        metrics: Arc::clone(engine.metrics()),
        limit: options.max_message_bytes,
        switchboard: engine.switchboard().cloned(),
    };
    // Whoever ends first ends both: what they hold of the call is dropped, and the session learns it.
    let answers = tokio::select! {
        Ended { how, answers } = writer.run(Event::Ready(Box::new(ready))) => {
            tracing::debug!(%session, how, "connection over");
            answers
        }
        () = reader.run() => {
            tracing::debug!(%session, "client gone");
            true
        }
    };
    let mut stream = reader.end();
    if answers {
        linger(&mut stream).await;
    }
}

/// The client's side of the connection.
struct Reader {
    stream: Stream,
    audio: AudioSender,
    commands: Commands,
    notes: mpsc::Sender<Note>,
    inbound: Inbound,
    settings: Settings,
    clock: Clock,
    /// When something last came, in ms of the session.
    seen: Arc<std::sync::atomic::AtomicU64>,
    watch: RateWatch,
    /// Codes of media errors that the client knows of already: a stream of rubbish isn't answered with one of errors.
    told: Vec<ErrorCode>,
    heard: Heard,
    metrics: Arc<Metrics>,
    limit: usize,
    switchboard: Option<Arc<Switchboard>>,
}

/// Why there is nothing more to read.
enum Gone {
    /// The other side has closed, or vanished.
    Client,
    /// The session has ended. The writer says so.
    Call,
}

impl Reader {
    async fn run(&mut self) {
        let gone = loop {
            if let Err(gone) = self.step().await {
                break gone;
            }
        };
        if matches!(gone, Gone::Call) {
            // A client speaks on while it is told that the call is over: nobody listens, but it shall hear it to the end.
            while let Some(Ok(_)) = self.stream.next().await {}
        }
    }

    /// Lets go of the call; what is left is the stream.
    fn end(self) -> Stream {
        let stats = self.inbound.stats();
        for (reason, count) in [
            ("malformed", stats.malformed),
            ("duplicate", stats.duplicates),
            ("late", stats.late),
            ("lost", stats.lost),
        ] {
            self.metrics.media_dropped(reason, count);
        }
        self.stream
    }

    async fn step(&mut self) -> Result<(), Gone> {
        let deadline = self.inbound.next_deadline();
        let timer = tokio::time::sleep_until(self.clock.instant(deadline.unwrap_or(Time::ZERO)));
        tokio::select! {
            message = self.stream.next() => {
                self.seen.store(self.clock.now().as_millis(), std::sync::atomic::Ordering::Relaxed);
                match message {
                    Some(Ok(Message::Binary(payload))) => self.binary(&payload).await?,
                    Some(Ok(Message::Text(text))) => self.text(&text).await?,
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                    Some(Ok(Message::Close(_))) | None => return Err(Gone::Client),
                    Some(Err(error)) => {
                        if let Some(error) = too_large(&error, self.limit) {
                            let _ = self.notes.send(Note::Last(error)).await;
                            // The writer ends the connection once it has told.
                            std::future::pending::<()>().await;
                        }
                        return Err(Gone::Client);
                    }
                }
            }
            () = timer, if deadline.is_some() => {
                let now = self.clock.now();
                self.inbound.poll(now, &mut self.heard);
            }
        }
        self.hand_over().await
    }

    async fn binary(&mut self, payload: &Bytes) -> Result<(), Gone> {
        let now = self.clock.now();
        if let Err(error) = self.inbound.message(now, payload, &mut self.heard) {
            let code = media::error_code(&error);
            if !self.told.contains(&code) {
                self.told.push(code);
                let message = format!("{error}; dropped, as further ones will be");
                self.tell(Event::Error(ErrorEvent::new(code, message))).await?;
            }
        }
        if self.watch.note(now, self.heard.pcm.len()) {
            let message = "far more audio comes than time goes by: is it stereo, or of another rate than promised?";
            self.tell(Event::Error(ErrorEvent::new(ErrorCode::MediaFormat, message)))
                .await?;
        }
        Ok(())
    }

    /// Gives what was heard to the session.
    async fn hand_over(&mut self) -> Result<(), Gone> {
        if !self.heard.pcm.is_empty() {
            self.audio.send(&self.heard.pcm).await.map_err(|_| Gone::Call)?;
            self.heard.pcm.clear();
        }
        for key in self.heard.digits.drain(..) {
            if let Some(digit) = Digit::new(key) {
                self.commands
                    .send(Command::Dtmf { digit })
                    .await
                    .map_err(|_| Gone::Call)?;
            }
        }
        Ok(())
    }

    async fn tell(&mut self, event: Event) -> Result<(), Gone> {
        self.notes
            .send(Note::Event(Box::new(event)))
            .await
            .map_err(|_| Gone::Call)
    }

    /// Asks every worker what it can do, beside the session: the client may go on meanwhile.
    async fn tell_capabilities(&mut self, reply_to: Option<String>) -> Result<(), Gone> {
        let Some(board) = self.switchboard.clone() else {
            let error = ErrorEvent::new(ErrorCode::InvalidState, "this server's backends can't be switched");
            return self.tell(Event::Error(ErrorEvent { reply_to, ..error })).await;
        };
        let notes = self.notes.clone();
        tokio::spawn(async move {
            let backends = board.capabilities().await;
            let event = Event::Capabilities(translate::capabilities(backends, reply_to));
            // A client that is gone needs no answer.
            let _ = notes.send(Note::Event(Box::new(event))).await;
        });
        Ok(())
    }

    async fn text(&mut self, text: &str) -> Result<(), Gone> {
        let control = match parse_control(text) {
            Ok(control) => control,
            Err(error) => return self.tell(Event::Error(error.into())).await,
        };
        let id = control.id;
        let command = match control.request {
            Request::Hello(_) => {
                let error = ErrorEvent::new(ErrorCode::HelloRepeated, "the session is open already");
                return self.tell(Event::Error(ErrorEvent { reply_to: id, ..error })).await;
            }
            Request::Ping(_) => return self.tell(Event::Pong(Pong { reply_to: id })).await,
            Request::Update(update) => match translate::settings(&update, &self.settings) {
                Ok(settings) => {
                    self.settings = settings.clone();
                    self.note(Note::Updating(id, Box::new(settings.clone()))).await?;
                    translate::update(&update, settings)
                }
                Err(error) => {
                    let error = ErrorEvent::from(error);
                    return self.tell(Event::Error(ErrorEvent { reply_to: id, ..error })).await;
                }
            },
            Request::Capabilities(_) => return self.tell_capabilities(id).await,
            Request::Status(_) => {
                self.note(Note::Asking(id)).await?;
                Command::Status
            }
            request => match translate::command(request) {
                Some(command) => command,
                None => return Ok(()),
            },
        };
        self.commands.send(command).await.map_err(|_| Gone::Call)
    }

    async fn note(&mut self, note: Note) -> Result<(), Gone> {
        self.notes.send(note).await.map_err(|_| Gone::Call)
    }
}

/// The server's side of the connection.
struct Writer {
    sink: Sink,
    events: mpsc::Receiver<call::Event>,
    frames: FrameReceiver,
    notes: mpsc::Receiver<Note>,
    outbound: Outbound,
    /// Whose audio was sent last.
    heard: Option<ResponseId>,
    clock: Clock,
    seen: Arc<std::sync::atomic::AtomicU64>,
    /// Controls whose answers come out of the session, in the order in which they were handed to it.
    updating: VecDeque<(Option<String>, Box<Settings>)>,
    asking: VecDeque<Option<String>>,
}

impl Writer {
    /// Sends until the end, and tells how it ended.
    async fn run(mut self, ready: Event) -> Ended {
        if let Err(ended) = self.send_event(&ready).await {
            return ended;
        }
        let mut ping = tokio::time::interval_at(self.clock.instant(self.clock.now() + PING_INTERVAL), PING_INTERVAL);
        let mut payload = Vec::with_capacity(2_048);
        loop {
            // Frames first: they have deadlines.
            let sent = tokio::select! {
                biased;
                frame = self.frames.recv() => match frame {
                    Some(frame) => self.send_frame(&frame, &mut payload).await,
                    None => self.last_events().await,
                },
                Some(note) = self.notes.recv() => self.send_note(note).await,
                Some(event) = self.events.recv() => self.send_call_event(event).await,
                _ = ping.tick() => self.ping().await,
            };
            if let Err(ended) = sent {
                return ended;
            }
        }
    }

    /// Sends a frame. Whose it is a client knows from the events: what was told of a response before its first frame is sent
    /// before that.
    async fn send_frame(&mut self, frame: &OutFrame, payload: &mut Vec<u8>) -> Result<(), Ended> {
        if self.heard != frame.response {
            self.heard = frame.response;
            for _ in 0..self.events.len() {
                // An answer goes with the note about it, which is older.
                while let Ok(note) = self.notes.try_recv() {
                    self.send_note(note).await?;
                }
                if let Ok(event) = self.events.try_recv() {
                    self.send_call_event(event).await?;
                }
            }
        }
        payload.clear();
        match self.outbound.frame(frame.pcm(), frame.due, payload) {
            Ok(()) => self.send(Message::Binary(Bytes::copy_from_slice(payload))).await,
            Err(_) => Ok(()),
        }
    }

    async fn send_note(&mut self, note: Note) -> Result<(), Ended> {
        match self.take(note) {
            Some(Ok(event)) => self.send_event(&event).await,
            Some(Err(error)) => {
                let code = error.close_code.unwrap_or(CLOSE_NO_SESSION);
                let reason = error.code.as_str();
                let _ = self.send_event(&Event::Error(*error)).await;
                let _ = self.send(close(code, reason)).await;
                Err(Ended::told(reason))
            }
            None => Ok(()),
        }
    }

    /// Notes what the reader says; answers what is to be told to the client, or the error that ends the connection.
    fn take(&mut self, note: Note) -> Option<Result<Event, Box<ErrorEvent>>> {
        match note {
            Note::Event(event) => return Some(Ok(*event)),
            Note::Last(error) => return Some(Err(error)),
            Note::Updating(reply_to, settings) => self.updating.push_back((reply_to, settings)),
            Note::Asking(reply_to) => self.asking.push_back(reply_to),
        }
        None
    }

    async fn send_call_event(&mut self, event: call::Event) -> Result<(), Ended> {
        let wire = match event {
            call::Event::Updated => {
                let Some((reply_to, settings)) = self.updating.pop_front() else {
                    return Ok(());
                };
                translate::updated(&settings, reply_to)
            }
            call::Event::Status(status) => translate::status(&status, self.asking.pop_front().flatten()),
            call::Event::Closed { reason } => {
                let reason = translate::close_reason(reason);
                self.send_event(&Event::Closed(native::Closed { reason })).await?;
                let _ = self.send(close(reason.close_code(), "closed")).await;
                return Err(Ended::told("closed"));
            }
            event => match translate::event(event) {
                Some(event) => event,
                None => return Ok(()),
            },
        };
        self.send_event(&wire).await
    }

    /// The session is over: what it said last is told before the connection ends.
    async fn last_events(&mut self) -> Result<(), Ended> {
        while let Some(event) = self.events.recv().await {
            while let Ok(note) = self.notes.try_recv() {
                self.send_note(note).await?;
            }
            self.send_call_event(event).await?;
        }
        Err(Ended::silently("session over"))
    }

    async fn ping(&mut self) -> Result<(), Ended> {
        let seen = Time::from_millis(self.seen.load(std::sync::atomic::Ordering::Relaxed));
        if self.clock.now().since(seen) > VANISHED {
            return Err(Ended::silently("vanished"));
        }
        self.send(Message::Ping(Bytes::new())).await
    }

    async fn send_event(&mut self, event: &Event) -> Result<(), Ended> {
        self.send(Message::text(event.to_json())).await
    }

    async fn send(&mut self, message: Message) -> Result<(), Ended> {
        match timeout(SEND_TIMEOUT, self.sink.send(message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Ended::silently("gone")),
            Err(_) => Err(Ended::silently("too slow")),
        }
    }
}

/// The writer has ended.
struct Ended {
    /// Like this.
    how: &'static str,
    /// The client knows, and may answer.
    answers: bool,
}

impl Ended {
    const fn told(how: &'static str) -> Self {
        Self { how, answers: true }
    }

    const fn silently(how: &'static str) -> Self {
        Self { how, answers: false }
    }
}
