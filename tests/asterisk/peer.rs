//! What stands in Repartee's place where an example, or the measuring itself, is tried: it speaks the wire, plays what it is told to,
//! and keeps what came.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use repartee::time::Time;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::{Error, Message, WebSocket, accept_hdr};

use crate::speech::tone;
use crate::{now, pause, until};

/// Where the examples say that Repartee listens.
const AUDIOSOCKET: &str = "127.0.0.1:9092";
const HTTP: &str = "127.0.0.1:8080";

const FRAME: Duration = Duration::from_millis(20);
const LIMIT: Duration = Duration::from_secs(10);

/// How a peer plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// A frame each 20 ms.
    OnTime,
    /// Everything at once.
    AtOnce,
}

/// What came on one call.
#[derive(Clone, Debug, Default)]
pub(crate) struct Report {
    /// AudioSocket: the call's UUID; chan_websocket: its MEDIA_START.
    pub(crate) start: String,
    /// The kinds and lengths of audio that came: type byte of AudioSocket, 0 elsewhere.
    pub(crate) frames: Vec<(u8, usize)>,
    pub(crate) digits: String,
    /// What came as text.
    pub(crate) texts: Vec<String>,
    pub(crate) ended: bool,
}

#[derive(Debug)]
struct Shared {
    report: Mutex<Report>,
    stop: AtomicBool,
    /// End the call in order.
    hang_up: AtomicBool,
    pace: Pace,
}

/// The peer; it takes one call, and ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Peer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Peer {
    /// Waits for AudioSocket's call, and plays two seconds of a tone, then silence, at the rate it is spoken to.
    pub(crate) fn audiosocket(pace: Pace) -> Self {
        Self::start(AUDIOSOCKET, pace, audiosocket)
    }

    /// The same over chan_websocket.
    pub(crate) fn websocket() -> Self {
        Self::start(HTTP, Pace::AtOnce, websocket)
    }

    fn start(address: &str, pace: Pace, serve: fn(TcpStream, &Shared)) -> Self {
        let listener = TcpListener::bind(address).expect("the namespace has this port for us");
        listener.set_nonblocking(true).expect("a listener takes it");
        let shared = Arc::new(Shared {
            report: Mutex::default(),
            stop: AtomicBool::new(false),
            hang_up: AtomicBool::new(false),
            pace,
        });
        let own = Arc::clone(&shared);
        let thread = thread::spawn(move || {
            while !own.stop.load(Ordering::Acquire) {
                match listener.accept() {
                    Ok((stream, _)) => {
                        stream.set_nonblocking(false).expect("a socket takes it");
                        stream.set_nodelay(true).expect("a socket takes it");
                        serve(stream, &own);
                        own.report().ended = true;
                        return;
                    }
                    Err(_) => thread::park_timeout(Duration::from_millis(2)),
                }
            }
        });
        Self {
            shared,
            thread: Some(thread),
        }
    }

    pub(crate) fn report(&self) -> Report {
        self.shared.report().clone()
    }

    pub(crate) fn wait(&self, what: &str, wanted: impl Fn(&Report) -> bool) -> Report {
        until(what, LIMIT, || wanted(&self.shared.report()));
        self.report()
    }

    /// Ends the call in order, as Repartee does when it hands over.
    pub(crate) fn hang_up(&self) {
        self.shared.hang_up.store(true, Ordering::Release);
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn report(&self) -> MutexGuard<'_, Report> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Acquire) && !self.hang_up.load(Ordering::Acquire)
    }
}

fn bytes(samples: &[i16]) -> Vec<u8> {
    samples.iter().flat_map(|sample| sample.to_le_bytes()).collect()
}

fn audiosocket(mut stream: TcpStream, shared: &Shared) {
    let mut waiting = Vec::new();
    let mut buffer = [0; 4_096];
    let mut kind = 0x10;
    let mut voice: Option<VecDeque<Vec<u8>>> = None;
    stream.set_nonblocking(true).expect("a socket takes it");
    crate::phone::go_real_time();
    let begin = now();
    let mut frame = 0;
    while shared.goes_on() {
        match stream.read(&mut buffer) {
            Ok(0) => return,
            Ok(count) => waiting.extend(&buffer[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                thread::park_timeout((begin + FRAME * frame).since(now()).min(Duration::from_millis(1)));
            }
            Err(_) => return,
        }
        while let [own, high, low, rest @ ..] = &waiting[..] {
            let length = usize::from(u16::from_be_bytes([*high, *low]));
            let Some(payload) = rest.get(..length) else { break };
            let mut report = shared.report();
            match own {
                0x01 => report.start = payload.iter().map(|byte| format!("{byte:02x}")).collect(),
                0x03 => report.digits.extend(payload.iter().map(|byte| char::from(*byte))),
                own => {
                    report.frames.push((*own, length));
                    if voice.is_none() {
                        kind = *own;
                        let rate = if kind == 0x12 { 16_000 } else { 8_000 };
                        let mut frames: VecDeque<Vec<u8>> =
                            tone(rate, 2_000).chunks(rate as usize / 50).map(bytes).collect();
                        if shared.pace == Pace::AtOnce {
                            let all: Vec<u8> = frames.drain(..).flat_map(|pcm| audio(kind, &pcm)).collect();
                            let _ = stream.write_all(&all);
                        }
                        voice = Some(frames);
                    }
                }
            }
            drop(report);
            waiting.drain(..3 + length);
        }
        if begin + FRAME * frame <= now() {
            frame += 1;
            let silence = vec![0; if kind == 0x12 { 640 } else { 320 }];
            let pcm = voice.as_mut().and_then(VecDeque::pop_front).unwrap_or(silence);
            if stream.write_all(&audio(kind, &pcm)).is_err() {
                return;
            }
        }
    }
    if shared.hang_up.load(Ordering::Acquire) {
        let _ = stream.write_all(&[0, 0, 0]);
        // Asterisk closes then.
        pause(Duration::from_millis(100));
    }
}

fn audio(kind: u8, pcm: &[u8]) -> Vec<u8> {
    let length = u16::try_from(pcm.len()).expect("a frame is short");
    let mut frame = vec![kind];
    frame.extend(length.to_be_bytes());
    frame.extend(pcm);
    frame
}

fn websocket(stream: TcpStream, shared: &Shared) {
    #[expect(clippy::result_large_err, reason = "the library wants it so")]
    let answer = |_: &Request, mut response: Response| {
        response
            .headers_mut()
            .insert("Sec-WebSocket-Protocol", HeaderValue::from_static("media"));
        Ok(response)
    };
    let Ok(mut socket) = accept_hdr(stream, answer) else {
        return;
    };
    socket
        .get_ref()
        .set_read_timeout(Some(Duration::from_millis(2)))
        .expect("a socket takes it");
    let mut json = false;
    while shared.goes_on() {
        let message = match socket.read() {
            Ok(message) => message,
            Err(Error::Io(error)) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => continue,
            Err(_) => return,
        };
        match message {
            Message::Text(text) => {
                let text = text.as_str().to_owned();
                if text.contains("MEDIA_START") {
                    json = text.starts_with('{');
                    shared.report().start.clone_from(&text);
                    let rate = if text.contains("slin16") { 16_000 } else { 8_000 };
                    play(&mut socket, json, &tone(rate, 2_000));
                }
                if text.contains("DTMF_END") {
                    let digit = text
                        .split_once("\"digit\":\"")
                        .or_else(|| text.split_once("digit:"))
                        .and_then(|(_, rest)| rest.chars().next());
                    shared.report().digits.extend(digit);
                }
                shared.report().texts.push(text);
            }
            Message::Binary(payload) => shared.report().frames.push((0, payload.len())),
            Message::Close(_) => return,
            _ => {}
        }
    }
    if shared.hang_up.load(Ordering::Acquire) {
        command(&mut socket, json, "HANGUP");
        while socket.read().is_ok_and(|message| !message.is_close()) {}
    }
}

fn command(socket: &mut WebSocket<TcpStream>, json: bool, name: &str) {
    let text = if json {
        format!(r#"{{"command":"{name}"}}"#)
    } else {
        name.to_owned()
    };
    let _ = socket.send(Message::text(text));
}

fn play(socket: &mut WebSocket<TcpStream>, json: bool, samples: &[i16]) {
    command(socket, json, "START_MEDIA_BUFFERING");
    for part in bytes(samples).chunks(32_000) {
        let _ = socket.send(Message::binary(part.to_vec()));
    }
    command(socket, json, "STOP_MEDIA_BUFFERING");
}

/// Sends two seconds of a tone as µ-law by RTP to `peer`, from `socket`, on time; the answer is when it began.
pub(crate) fn play_rtp(socket: &UdpSocket, peer: &str) -> Time {
    let begin = now();
    for (number, samples) in (0_u16..).zip(tone(8_000, 2_000).chunks(160)) {
        pause((begin + FRAME * u32::from(number)).since(now()));
        let mut packet = vec![0x80, 0];
        packet.extend(number.to_be_bytes());
        packet.extend((u32::from(number) * 160).to_be_bytes());
        packet.extend([1, 2, 3, 4]);
        packet.extend(
            samples
                .iter()
                .map(|sample| repartee::audio::g711::mu_law_encode(*sample)),
        );
        socket.send_to(&packet, peer).expect("loopback takes it");
    }
    begin
}
