//! chan_websocket against an engine with scripted backends: the test speaks as Asterisk does, on either end of the connection.

#[path = "support/mod.rs"]
mod support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::serve::ListenerExt as _;
use base64::Engine as _;
use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use repartee::backend::Backend;
use repartee::backend::fake::{ScriptedLlm, ScriptedStt};
use repartee::call::{BackendKind, Digit, KeyCollection, Settings};
use repartee::engine::{Clock, Engine, EngineOptions};
use repartee::metrics::Metrics;
use repartee::phone::{self, Announcement, Facts, Key, Notice, PhoneOptions, Phones};
use repartee::registry::Registry;
use repartee::time::Time;
use repartee::transport::chan_websocket::{self, ChanWebsocketOptions, DialError};
use serde_json::Value;
use support::{Fakes, LIMIT, eventually, tone};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, accept_hdr_async, client_async};

const GREETING: &str = "Good day. This is a greeting that takes some seconds, so that there is time to interrupt it.";
const FRAME: Duration = Duration::from_millis(20);

/// An engine with the wire; it ends when it is dropped.
struct House {
    phones: Phones,
    fakes: Fakes,
    address: SocketAddr,
    serving: JoinHandle<()>,
}

impl House {
    async fn new() -> Self {
        Self::with(ChanWebsocketOptions::default(), true).await
    }

    async fn with(options: ChanWebsocketOptions, has_llm: bool) -> Self {
        let fakes = Fakes::new(ScriptedStt::measuring(), ScriptedLlm::echo());
        let registry = Arc::new(Registry::default());
        registry.install(Backend::Vad(fakes.vad.clone()));
        registry.install(Backend::Stt(fakes.stt.clone()));
        registry.install(Backend::Tts(fakes.tts.clone()));
        registry.mark_missing(BackendKind::Turn, "not needed here".to_owned());
        if has_llm {
            registry.install(Backend::Llm(fakes.llm.clone()));
        } else {
            registry.mark_missing(BackendKind::Llm, "not wanted here".to_owned());
        }
        let engine = Engine::new(EngineOptions::default(), registry, Arc::new(Metrics::default()));
        let phones = Phones::new(
            engine,
            PhoneOptions {
                settings: Settings {
                    keys: Some(KeyCollection {
                        terminator: Digit::new('#'),
                        timeout_ms: 5_000,
                        max_keys: 8,
                    }),
                    ..Settings::default()
                },
                greeting: GREETING.to_owned(),
                without_llm: "Nobody is here.".to_owned(),
                trouble: "Sorry.".to_owned(),
                parrot: false,
                ..PhoneOptions::default()
            },
        );
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .expect("loopback has a free port");
        let address = listener.local_addr().expect("a listener has an address");
        let routes = chan_websocket::routes(phones.clone(), options);
        // As `repartee serve` does it.
        let listener = listener.tap_io(|stream| {
            let _ = stream.set_nodelay(true);
        });
        let serving = tokio::spawn(async move { axum::serve(listener, routes).await.expect("the listener goes on") });
        Self {
            phones,
            fakes,
            address,
            serving,
        }
    }

    fn live(&self) -> usize {
        self.phones.engine().live()
    }

    async fn is_empty(&self) {
        eventually("the session ends", LIMIT, || self.live() == 0).await;
        assert!(self.phones.board().calls().is_empty());
    }

    /// Asterisk calls; the call has begun.
    async fn call(&self, start: &str) -> Asterisk {
        let mut asterisk = self.connect().await;
        asterisk.text(start).await;
        asterisk
    }

    async fn connect(&self) -> Asterisk {
        let request = format!("ws://{}/media?left=over", self.address);
        let stream = TcpStream::connect(self.address).await.expect("the server listens");
        let (socket, response) = connect(stream, &request, None)
            .await
            .expect("the server lets Asterisk in");
        assert_eq!(response.headers()["sec-websocket-protocol"], "media");
        assert!(!response.headers().contains_key("sec-websocket-extensions"));
        Asterisk::new(socket)
    }
}

impl Drop for House {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

type Connected = (
    WebSocketStream<TcpStream>,
    tokio_tungstenite::tungstenite::handshake::client::Response,
);

async fn connect(stream: TcpStream, url: &str, authorization: Option<&str>) -> Result<Connected, Error> {
    let mut request = url.into_client_request()?;
    let headers = request.headers_mut();
    headers.insert("Sec-WebSocket-Protocol", HeaderValue::from_static("media"));
    if let Some(authorization) = authorization {
        headers.insert(
            "Authorization",
            HeaderValue::from_str(authorization).expect("visible ASCII"),
        );
    }
    client_async(request, stream).await
}

/// `MEDIA_START` in JSON.
fn start(format: &str, bytes: usize, more: &str) -> String {
    format!(
        r#"{{"event":"MEDIA_START","connection_id":"repartee","channel":"WebSocket/repartee/0x7f","channel_id":"17.4","format":"{format}","optimal_frame_size":{bytes},"ptime":20,"channel_variables":{{"__CALLER_NUM":"0301","__DIALED_NUM":"7003","_ORDER":"12"}}{more}}}"#
    )
}

const PLAIN: &str = "MEDIA_START connection_id:repartee channel:WebSocket/repartee/0x7f channel_id:17.4 format:slin optimal_frame_size:320 ptime:20";

/// Asterisk's side of a call.
struct Asterisk {
    socket: WebSocketStream<TcpStream>,
    clock: Clock,
    media: Vec<(Time, Bytes)>,
    commands: Vec<String>,
    /// How long it says that its queue is, when it is asked.
    queue_length: u32,
    /// How long after a mark its frame is played.
    answers_marks: bool,
    closed: Option<u16>,
    over: bool,
}

impl Asterisk {
    fn new(socket: WebSocketStream<TcpStream>) -> Self {
        Self {
            socket,
            clock: Clock::start(),
            media: Vec::new(),
            commands: Vec::new(),
            queue_length: 0,
            answers_marks: true,
            closed: None,
            over: false,
        }
    }

    async fn text(&mut self, text: &str) {
        self.socket
            .send(Message::text(text))
            .await
            .expect("the connection stands");
    }

    async fn keep(&mut self, message: Option<Result<Message, Error>>) {
        match message {
            Some(Ok(Message::Binary(media))) => self.media.push((self.clock.now(), media)),
            Some(Ok(Message::Text(text))) => {
                assert!(text.len() <= 128, "Asterisk would not read {text}");
                self.commands.push(text.as_str().to_owned());
                if self.answers_marks && self.commands.last().is_some_and(|text| text.contains("MARK_MEDIA")) {
                    let answer = match serde_json::from_str::<Value>(&text) {
                        Ok(command) => format!(
                            r#"{{"event":"MEDIA_MARK_PROCESSED","channel_id":"17.4","correlation_id":{}}}"#,
                            command["correlation_id"]
                        ),
                        Err(_) => text.replace("MARK_MEDIA", "MEDIA_MARK_PROCESSED"),
                    };
                    let _ = self.socket.send(Message::text(answer)).await;
                }
                if text.contains("GET_STATUS") {
                    let answer = if text.starts_with('{') {
                        format!(
                            r#"{{"event":"STATUS","channel_id":"17.4","queue_length":{},"media_paused":false}}"#,
                            self.queue_length
                        )
                    } else {
                        format!("STATUS channel_id:17.4 queue_length:{}", self.queue_length)
                    };
                    let _ = self.socket.send(Message::text(answer)).await;
                }
            }
            Some(Ok(Message::Close(frame))) => self.closed = frame.map(|frame| frame.code.into()),
            Some(Ok(other)) => panic!("22.6 hangs up on {other:?}"),
            Some(Err(_)) | None => self.over = true,
        }
    }

    /// Takes what comes until `condition` holds.
    async fn until(&mut self, what: &str, condition: impl Fn(&Self) -> bool) {
        let waiting = async {
            while !condition(self) {
                assert!(!self.over, "{what}: the connection ended after {:?}", self.commands);
                let message = self.socket.next().await;
                self.keep(message).await;
            }
        };
        if timeout(LIMIT, waiting).await.is_err() {
            panic!("{what}: not within {LIMIT:?}");
        }
    }

    /// Takes what comes for so long.
    async fn pass(&mut self, duration: Duration) {
        let passing = async {
            while !self.over {
                let message = self.socket.next().await;
                self.keep(message).await;
            }
        };
        let _ = timeout(duration, passing).await;
    }

    /// Sends `bytes` of media in messages of `frame`, one each 20 ms.
    async fn speak(&mut self, bytes: &[u8], frame: usize) {
        let begun = self.clock.now();
        for (message, number) in bytes.chunks(frame).zip(1..) {
            let message = Bytes::copy_from_slice(message);
            self.socket
                .send(Message::Binary(message))
                .await
                .expect("the connection stands");
            self.pass((begun + FRAME * number).since(self.clock.now())).await;
        }
    }

    fn has(&self, command: &str) -> bool {
        self.commands.iter().any(|text| text.contains(command))
    }

    fn loud(&self) -> usize {
        self.media.iter().filter(|(_, media)| is_loud(media)).count()
    }

    async fn is_hung_up(&mut self) {
        self.until("the end", |asterisk| asterisk.closed.is_some()).await;
        assert!(self.has("HANGUP"), "{:?}", self.commands);
        assert_eq!(self.closed, Some(1000));
    }
}

fn is_loud(media: &[u8]) -> bool {
    media.iter().any(|byte| *byte != 0)
}

fn pcm(samples: &[i16]) -> Vec<u8> {
    samples.iter().flat_map(|sample| sample.to_le_bytes()).collect()
}

#[tokio::test]
async fn a_call_is_answered_heard_and_interrupted() {
    let house = House::new().await;
    let mut asterisk = house.call(&start("slin16", 640, "")).await;
    asterisk.until("a mark", |asterisk| asterisk.has("MARK_MEDIA")).await;
    assert!(asterisk.loud() >= 10, "a mark comes after 200 ms of speech");
    assert_eq!(asterisk.commands[0], r#"{"command":"ANSWER"}"#);
    let calls = house.phones.board().calls();
    let facts = &calls[0].facts;
    assert_eq!((calls.len(), calls[0].wire), (1, "chan_websocket"));
    assert_eq!(facts.call.as_deref(), Some("17.4"));
    assert_eq!(facts.caller.as_ref().unwrap().expose(), "0301");
    assert_eq!(facts.dialled.as_ref().unwrap().expose(), "7003");
    assert_eq!(facts.variables.len(), 1);

    // The caller speaks into the greeting.
    asterisk.speak(&pcm(&tone(16_000, 800)), 640).await;
    asterisk
        .until("the flush", |asterisk| asterisk.has("FLUSH_MEDIA"))
        .await;
    let flushed = asterisk.media.len();
    asterisk.speak(&pcm(&[0; 16_000]), 640).await;
    let heard = house.fakes.stt.heard();
    assert!(!heard.is_empty(), "the turn was recognised");
    assert!(!asterisk.has("CONTINUE_MEDIA"), "nothing was paused");
    // Nothing of the greeting comes after the flush: silence, then the reply.
    let after: Vec<bool> = asterisk.media[flushed..]
        .iter()
        .map(|(_, media)| is_loud(media))
        .collect();
    assert!(after.iter().take(5).all(|loud| !loud), "{after:?}");
    asterisk
        .until("the reply", |asterisk| {
            asterisk.media[flushed..].iter().any(|(_, media)| is_loud(media))
        })
        .await;
    assert!(asterisk.media.iter().all(|(_, media)| media.len() == 640));
    asterisk.socket.close(None).await.unwrap();
    house.is_empty().await;
}

/// Silence flows from the beginning, and as much is sent as time goes by, whatever is spoken.
#[tokio::test]
async fn the_line_is_never_silent_and_never_ahead() {
    let house = House::new().await;
    let mut asterisk = house.call(&start("slin", 320, "")).await;
    asterisk.until("frames", |asterisk| !asterisk.media.is_empty()).await;
    let begun = asterisk.media[0].0;
    asterisk.pass(Duration::from_secs(5)).await;
    let elapsed = asterisk.clock.now().since(begun).as_millis() / 20;
    let frames = asterisk.media.len() as u128;
    // The lead is four frames; a machine that stood still leaves frames out.
    assert!(frames <= elapsed + 6, "{frames} frames in {elapsed} times 20 ms");
    assert!(frames * 10 >= elapsed * 8, "{frames} frames in {elapsed} times 20 ms");
    assert!(asterisk.has("GET_STATUS"));
    assert!(!asterisk.has("FLUSH_MEDIA"), "its queue is as long as it has to be");
    // Asterisk goes without a word.
    drop(asterisk);
    house.is_empty().await;
}

#[tokio::test]
async fn plain_text_is_answered_in_plain_text_and_keys_are_a_turn() {
    let house = House::new().await;
    let mut asterisk = house.call(PLAIN).await;
    asterisk
        .until("a mark", |asterisk| {
            asterisk.commands.iter().any(|text| text == "MARK_MEDIA m1")
        })
        .await;
    assert!(house.fakes.llm.prompts().is_empty());
    for key in ["4", "2", "#"] {
        asterisk.text(&format!("DTMF_END digit:{key} channel_id:17.4")).await;
    }
    asterisk
        .until("the model is asked", |_| !house.fakes.llm.prompts().is_empty())
        .await;
    asterisk
        .until("the status is asked for", |asterisk| asterisk.has("GET_STATUS"))
        .await;
    assert!(asterisk.commands.iter().all(|text| !text.starts_with('{')));
    assert!(asterisk.media.iter().all(|(_, media)| media.len() == 320));
}

/// 22.6 tells neither its channel's id nor knows marks.
#[tokio::test]
async fn an_old_asterisk_is_not_asked_for_marks() {
    let house = House::new().await;
    let mut asterisk = house
        .call("MEDIA_START connection_id:repartee channel:WebSocket/repartee/0x7f format:ulaw optimal_frame_size:160")
        .await;
    asterisk
        .until("the status is asked for", |asterisk| asterisk.has("GET_STATUS"))
        .await;
    assert!(!asterisk.has("MARK_MEDIA"));
    assert!(asterisk.media.iter().all(|(_, media)| media.len() == 160));
    assert_eq!(house.phones.board().calls()[0].facts.call.as_deref(), Some("repartee"));
}

#[tokio::test]
async fn without_a_language_model_the_caller_is_told_and_the_call_ended() {
    let house = House::with(ChanWebsocketOptions::default(), false).await;
    let mut asterisk = house.call(&start("slin16", 640, "")).await;
    asterisk.is_hung_up().await;
    assert!(asterisk.loud() > 5);
    house.is_empty().await;
}

#[tokio::test]
async fn only_asterisk_comes_in() {
    let options = ChanWebsocketOptions {
        password: Some("open sesame".into()),
        ..ChanWebsocketOptions::default()
    };
    assert!(!format!("{options:?}").contains("sesame"));
    let house = House::with(options, true).await;
    let url = format!("ws://{}/media", house.address);
    let basic = |text: &str| format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(text));
    for authorization in [
        None,
        Some(basic("any:open")),
        Some(basic("open sesame")),
        Some("Basic !".to_owned()),
    ] {
        let stream = TcpStream::connect(house.address).await.unwrap();
        match connect(stream, &url, authorization.as_deref()).await {
            Err(Error::Http(response)) => {
                assert_eq!(response.status(), 401);
                assert_eq!(response.headers()["www-authenticate"], "Basic realm=\"repartee\"");
            }
            other => panic!("{other:?}"),
        }
    }
    for user in ["", "asterisk"] {
        let stream = TcpStream::connect(house.address).await.unwrap();
        let authorization = basic(&format!("{user}:open sesame"));
        connect(stream, &url, Some(&authorization)).await.unwrap();
    }
    // A page, and no WebSocket at all.
    for (headers, status) in [
        (
            "Origin: http://evil.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
            "403",
        ),
        ("Connection: close\r\n", "426"),
    ] {
        let mut stream = TcpStream::connect(house.address).await.unwrap();
        let request = format!("GET /media HTTP/1.1\r\nHost: x\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = vec![0; 12];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(String::from_utf8_lossy(&answer), format!("HTTP/1.1 {status}"));
    }
    assert_eq!(house.live(), 0);
}

/// As it is on the wire: extensions are never agreed on, no message is in pieces, nothing is pinged.
#[tokio::test]
async fn messages_are_whole_and_nothing_else_is_sent() {
    let house = House::new().await;
    let mut stream = TcpStream::connect(house.address).await.unwrap();
    let request = "GET /media HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Protocol: media\r\nSec-WebSocket-Extensions: permessage-deflate\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
    assert!(
        head.starts_with("http/1.1 101") && head.contains("sec-websocket-protocol: media\r\n"),
        "{head}"
    );
    assert!(!head.contains("extensions"), "{head}");
    let text = start("slin48", 1_920, "");
    // Masked with zeros, which changes nothing.
    let mut message = vec![0x81, 0xFE];
    message.extend_from_slice(&u16::try_from(text.len()).unwrap().to_be_bytes());
    message.extend_from_slice(&[0; 4]);
    message.extend_from_slice(text.as_bytes());
    stream.write_all(&message).await.unwrap();
    let (mut media, mut texts) = (0, 0);
    while media < 150 {
        let (first, second) = (stream.read_u8().await.unwrap(), stream.read_u8().await.unwrap());
        let length = match second {
            126 => usize::from(stream.read_u16().await.unwrap()),
            length => usize::from(length),
        };
        let mut payload = vec![0; length];
        stream.read_exact(&mut payload).await.unwrap();
        match first {
            0x82 => {
                assert_eq!(length, 1_920);
                media += 1;
            }
            0x81 => texts += 1,
            other => panic!("first byte {other:#x}"),
        }
    }
    assert!(texts > 0);
}

#[tokio::test]
async fn media_may_come_before_the_beginning_and_the_beginning_late() {
    let house = House::new().await;
    let mut asterisk = house.connect().await;
    // Far more than is kept; and rubbish.
    for _ in 0..200 {
        asterisk
            .socket
            .send(Message::Binary(vec![0; 640].into()))
            .await
            .unwrap();
    }
    asterisk.text("MEDIA_START").await;
    asterisk.text(r#"{"event":"DTMF_END","digit":"1"}"#).await;
    asterisk.pass(Duration::from_millis(200)).await;
    assert_eq!((house.live(), asterisk.media.len()), (0, 0));
    asterisk.text(&start("slin16", 640, "")).await;
    asterisk.until("the greeting", |asterisk| asterisk.loud() > 0).await;
}

#[tokio::test]
async fn rubbish_ends_no_call() {
    let house = House::new().await;
    let mut asterisk = house.call(&start("slin16", 640, "")).await;
    asterisk.until("the greeting", |asterisk| asterisk.loud() > 0).await;
    let long = "x".repeat(100_000);
    for text in [
        "",
        "{",
        "{}",
        "\u{0}",
        long.as_str(),
        r#"{"event":"LATER"}"#,
        r#"{"event":"STATUS","queue_length":-1}"#,
        r#"{"event":"STATUS","queue_length":4294967295}"#,
        r#"{"event":"MEDIA_MARK_PROCESSED","correlation_id":"m99"}"#,
        r#"{"event":"MEDIA_MARK_PROCESSED"}"#,
        r#"{"event":"ERROR","error_text":"no"}"#,
        "DTMF_END digit:x",
        "MEDIA_XOFF",
        "MEDIA_XON",
        &start("opus", 0, ""),
    ] {
        asterisk.text(text).await;
    }
    for length in [0, 1, 3, 639, 65_000] {
        asterisk
            .socket
            .send(Message::Binary(vec![1; length].into()))
            .await
            .unwrap();
    }
    let before = asterisk.media.len();
    asterisk
        .until("the call goes on", |asterisk| asterisk.media.len() > before + 20)
        .await;
    assert_eq!(house.live(), 1);
}

#[tokio::test]
async fn a_format_that_is_not_known_is_hung_up() {
    let house = House::new().await;
    let mut asterisk = house.call(&start("silk24", 480, "")).await;
    asterisk.is_hung_up().await;
    assert_eq!((house.live(), asterisk.media.len()), (0, 0));
}

/// A scanner, and one that says something and goes.
#[tokio::test]
async fn connections_without_a_call_cost_no_session() {
    let house = House::new().await;
    for _ in 0..20 {
        let mut asterisk = house.connect().await;
        asterisk
            .socket
            .send(Message::Binary(vec![0; 100].into()))
            .await
            .unwrap();
        drop(asterisk);
        drop(TcpStream::connect(house.address).await.unwrap());
    }
    assert_eq!(house.live(), 0);
    let mut asterisk = house.call(&start("slin16", 640, "")).await;
    asterisk.until("the greeting", |asterisk| asterisk.loud() > 0).await;
}

/// What stands in the queue while nobody speaks only makes everything later.
#[tokio::test]
async fn a_queue_that_stands_is_flushed_in_a_pause() {
    let house = House::new().await;
    let mut asterisk = house.call(&start("slin16", 640, "")).await;
    asterisk.queue_length = 12;
    asterisk
        .until("the flush", |asterisk| asterisk.has("FLUSH_MEDIA"))
        .await;
    let quiet = asterisk
        .media
        .iter()
        .rev()
        .take_while(|(_, media)| !is_loud(media))
        .count();
    assert!(asterisk.loud() > 0 && quiet >= 12, "{quiet} frames of silence");
}

/// While it is full, silence is left out; a paused one is continued with the flush.
#[tokio::test]
async fn a_full_queue_is_left_alone() {
    let house = House::new().await;
    let mut asterisk = house.call(&start("slin16", 640, "")).await;
    asterisk.until("the greeting", |asterisk| asterisk.loud() > 0).await;
    asterisk.text(r#"{"event":"MEDIA_XOFF","channel_id":"17.4"}"#).await;
    asterisk
        .until("the question", |asterisk| asterisk.has("GET_STATUS"))
        .await;
    asterisk.pass(Duration::from_millis(100)).await;
    let before = asterisk.media.len();
    asterisk.pass(Duration::from_millis(500)).await;
    assert_eq!(asterisk.media.len(), before);
    asterisk
        .text(r#"{"event":"STATUS","channel_id":"17.4","queue_length":900,"media_paused":true}"#)
        .await;
    asterisk.text(r#"{"event":"MEDIA_XON","channel_id":"17.4"}"#).await;
    asterisk
        .until("what has waited", |asterisk| asterisk.media.len() > before + 20)
        .await;
    asterisk.commands.clear();
    asterisk.speak(&pcm(&tone(16_000, 800)), 640).await;
    asterisk
        .until("the end of the pause", |asterisk| asterisk.has("CONTINUE_MEDIA"))
        .await;
    let place = |wanted: &str| asterisk.commands.iter().position(|text| text.contains(wanted));
    assert!(place("FLUSH_MEDIA") < place("CONTINUE_MEDIA"));
}

/// Opus, passed through: Asterisk plays what comes, and takes no commands about media.
#[tokio::test]
async fn in_passthrough_nothing_is_commanded() {
    let house = House::new().await;
    let mut asterisk = house.call(&start("opus", 0, r#","passthrough":true"#)).await;
    asterisk
        .until("the greeting", |asterisk| asterisk.media.len() > 60)
        .await;
    let mut encoder = repartee::audio::Encoder::new(
        repartee::audio::Codec::Opus,
        repartee::audio::SampleRate::Hz16000,
        repartee::audio::ByteOrder::LittleEndian,
        repartee::audio::opus::OpusOptions::default(),
    )
    .unwrap();
    for frame in tone(16_000, 1_000).chunks(320) {
        let mut packet = Vec::new();
        encoder.encode(frame, &mut packet).unwrap();
        asterisk.speak(&packet, packet.len()).await;
    }
    asterisk.pass(Duration::from_millis(1_500)).await;
    assert!(!house.fakes.stt.heard().is_empty(), "the caller was heard");
    assert_eq!(asterisk.commands, [r#"{"command":"ANSWER"}"#], "nothing about media");
    asterisk
        .socket
        .send(Message::Binary(vec![0xff; 3].into()))
        .await
        .unwrap();
    let before = asterisk.media.len();
    asterisk
        .until("the call goes on", |asterisk| asterisk.media.len() > before + 10)
        .await;
}

/// Asterisk takes nothing any more: it is let go, and until then frames are dropped.
#[tokio::test]
async fn a_peer_that_reads_nothing_is_let_go() {
    let house = House::new().await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    let stream = socket.connect(house.address).await.unwrap();
    let url = format!("ws://{}/media", house.address);
    let (socket, _) = connect(stream, &url, None).await.unwrap();
    let mut asterisk = Asterisk::new(socket);
    // The format with the most bytes.
    asterisk.text(&start("slin192", 7_680, "")).await;
    eventually("the session begins", LIMIT, || house.live() == 1).await;
    eventually("frames are dropped", LIMIT, || {
        house
            .phones
            .board()
            .calls()
            .iter()
            .any(|call| call.quality.sent.dropped > 50)
    })
    .await;
    house.is_empty().await;
}

/// A call that ARI has announced is found by its channel's id; the exchange is told of it.
#[tokio::test]
async fn an_announced_call_is_found() {
    let house = House::new().await;
    let (control, mut notices) = tokio::sync::mpsc::channel(8);
    let announcement = Announcement {
        facts: Facts::of_call("from ARI"),
        tools: phone::tools(),
        control,
    };
    let key = Key::Channel("17.4".to_owned());
    let _ticket = house.phones.announced().announce(key, announcement).unwrap();
    let mut asterisk = house.call(&start("slin16", 640, "")).await;
    asterisk.until("frames", |asterisk| !asterisk.media.is_empty()).await;
    assert!(matches!(notices.recv().await, Some(Notice::Connected(..))));
    assert_eq!(house.phones.board().calls()[0].facts.call.as_deref(), Some("from ARI"));
    drop(asterisk);
    while let Some(notice) = notices.recv().await {
        if matches!(notice, Notice::Over) {
            break;
        }
    }
    house.is_empty().await;
}

/// Asterisk's own server, for one connection.
async fn incoming(listener: &TcpListener, known: &'static str) -> Option<Asterisk> {
    let (stream, _) = listener.accept().await.expect("somebody calls");
    #[expect(clippy::result_large_err, reason = "the trait of the handshake is like that")]
    let check = |request: &Request, mut response: Response| -> Result<Response, ErrorResponse> {
        assert_eq!(request.headers()["sec-websocket-protocol"], "media");
        assert!(!request.headers().contains_key("sec-websocket-extensions"));
        if request.uri().path() != known {
            return Err(Response::builder()
                .status(404)
                .body(None)
                .expect("a status and nothing else"));
        }
        response
            .headers_mut()
            .insert("Sec-WebSocket-Protocol", HeaderValue::from_static("media"));
        Ok(response)
    };
    accept_hdr_async(stream, check).await.ok().map(Asterisk::new)
}

#[tokio::test]
async fn a_channel_that_waits_is_called() {
    let house = House::new().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (control, mut notices) = tokio::sync::mpsc::channel(8);
    let announcement = Announcement {
        facts: Facts::of_call("from ARI"),
        tools: phone::tools(),
        control,
    };
    let key = Key::Channel("3f-7a".to_owned());
    let _ticket = house.phones.announced().announce(key, announcement).unwrap();
    let dial = |path: &str| chan_websocket::dial(house.phones.clone(), format!("ws://{address}{path}"));
    let (asterisk, dialled) = tokio::join!(incoming(&listener, "/media/3f-7a"), dial("/media/3f-7a"));
    dialled.unwrap();
    let mut asterisk = asterisk.unwrap();
    asterisk
        .text("MEDIA_START connection_id:3f-7a channel:WebSocket/INCOMING/0x7f channel_id:18.1 format:slin16 optimal_frame_size:640 ptime:20")
        .await;
    asterisk.until("the greeting", |asterisk| asterisk.loud() > 0).await;
    assert!(matches!(notices.recv().await, Some(Notice::Connected(..))));
    let _ = asterisk.socket.close(None).await;
    house.is_empty().await;

    let (_, refused) = tokio::join!(incoming(&listener, "/media/3f-7a"), dial("/media/none"));
    assert!(matches!(refused, Err(DialError::Refused(404))), "{refused:?}");
    drop(listener);
    assert!(matches!(dial("/media/none").await, Err(DialError::Connect(_))));
    for url in [
        "",
        "media",
        "wss://127.0.0.1:1/media/1",
        "http://127.0.0.1/media/1",
        "ws:///media/1",
    ] {
        let refused = chan_websocket::dial(house.phones.clone(), url.to_owned()).await;
        assert!(matches!(refused, Err(DialError::Url)), "{url}: {refused:?}");
    }
}
