//! What bad input gets on the native wire: a clear error with a stable code, and a session that goes on wherever that makes
//! sense. The backends are scripted; the engine and the wire are the real ones.

mod support;

use std::time::Duration;

use futures_util::SinkExt as _;
use repartee::engine::EngineOptions;
use repartee::transport::native::NativeOptions;
use repartee_protocol::native::{
    AudioFormat, Codec, ErrorCode, Event, Framing, Hello, Rate, Request, ResponseStatus, Say,
};
use support::client::messages;
use support::socket::{HELLO, http_get, upgrade_status};
use support::{Client, Fakes, LIMIT, Met, Socket, TestServer, eventually, tone};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;

const RTP_HELLO: &str = r#"{"type":"hello","version":1,"input":{"codec":"pcmu","framing":"rtp"}}"#;

fn rtp() -> AudioFormat {
    AudioFormat {
        framing: Framing::Rtp,
        ..AudioFormat::of(Codec::Pcmu)
    }
}

async fn nobody_is_left(server: &TestServer) {
    eventually("no session is left", LIMIT, || server.engine.live() == 0).await;
}

#[tokio::test]
async fn not_a_websocket() {
    let server = TestServer::start().await;
    let (status, body) = http_get(server.address, "/v1/session").await;
    assert_eq!(status, 426);
    assert!(body.contains("\"not_websocket\""), "{body}");
    assert!(body.contains("WebSocket"), "{body}");
    // What isn't even HTTP harms nobody.
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream
        .write_all(b"\x16\x03\x01\x02\x00\x01\x00 what is this\r\n\r\n")
        .await
        .unwrap();
    let mut answer = Vec::new();
    let _ = timeout(LIMIT, stream.read_to_end(&mut answer))
        .await
        .expect("it is let go");
    assert_eq!(server.engine.live(), 0);
    Socket::open(server.address, HELLO).await.expect_alive().await;
}

#[tokio::test]
async fn the_first_message_must_be_hello() {
    let server = TestServer::start().await;
    for (first, code) in [
        (r#"{"type":"ping","id":"7"}"#, ErrorCode::HelloExpected),
        (r#"{"type":"say","text":"hello"}"#, ErrorCode::HelloExpected),
        ("hello", ErrorCode::NotJson),
        ("[]", ErrorCode::NotJson),
        ("{}", ErrorCode::MissingField),
        (r#"{"type":"helo","version":1}"#, ErrorCode::UnknownControl),
        (r#"{"type":"hello"}"#, ErrorCode::MissingField),
        (r#"{"type":"hello","version":1,"inptu":{}}"#, ErrorCode::UnknownField),
        (
            r#"{"type":"hello","version":1,"input":{"codec":"mp3"}}"#,
            ErrorCode::InvalidValue,
        ),
        (
            r#"{"type":"hello","version":1,"input":{"codec":"pcmu","rate":16000}}"#,
            ErrorCode::InvalidValue,
        ),
        (
            r#"{"type":"hello","version":1,"input":{"codec":"pcm16","rate":44100}}"#,
            ErrorCode::InvalidValue,
        ),
        (
            r#"{"type":"hello","version":1,"input":{"codec":"pcm16","channels":2}}"#,
            ErrorCode::InvalidValue,
        ),
        (
            r#"{"type":"hello","version":1,"settings":{"endpointing":{"silence_ms":5}}}"#,
            ErrorCode::InvalidValue,
        ),
        (
            r#"{"type":"hello","version":1,"settings":{"endpointing":{"silence_ms":900,"max_silence_ms":800}}}"#,
            ErrorCode::InvalidValue,
        ),
    ] {
        let mut socket = Socket::connect(server.address).await;
        socket.text(first).await;
        let error = socket.expect_error(code).await;
        let close = error.close_code.expect("without a session the connection ends");
        assert!(
            matches!(socket.next().await, Met::Closed(Some(found)) if found == close),
            "{first}"
        );
        if first.contains("settings") {
            let field = error.field.as_deref().unwrap_or_default();
            assert!(field.starts_with("settings.endpointing."), "{field} for {first}");
        }
        if first.contains("\"id\"") {
            assert_eq!(error.reply_to.as_deref(), Some("7"), "{first}");
        }
    }
    assert_eq!(server.engine.live(), 0);
}

#[tokio::test]
async fn audio_before_hello() {
    let server = TestServer::start().await;
    let mut socket = Socket::connect(server.address).await;
    socket.binary(vec![0; 640]).await;
    socket.expect_end(ErrorCode::AudioBeforeHello, 4400).await;
}

#[tokio::test]
async fn a_version_that_nobody_speaks() {
    let server = TestServer::start().await;
    for version in ["0", "2", "999999"] {
        let mut socket = Socket::connect(server.address).await;
        socket.text(&format!(r#"{{"type":"hello","version":{version}}}"#)).await;
        let error = socket.expect_end(ErrorCode::UnsupportedVersion, 4426).await;
        assert!(
            error.message.contains('1'),
            "it names what is spoken: {}",
            error.message
        );
    }
}

#[tokio::test]
async fn the_access_token() {
    let server = TestServer::with_native(NativeOptions {
        token: Some("open sesame".into()),
        ..NativeOptions::default()
    })
    .await;
    for hello in [
        HELLO,
        r#"{"type":"hello","version":1,"token":""}"#,
        r#"{"type":"hello","version":1,"token":"open"}"#,
        r#"{"type":"hello","version":1,"token":"open sesame "}"#,
    ] {
        let mut socket = Socket::connect(server.address).await;
        socket.text(hello).await;
        let error = socket.expect_end(ErrorCode::Unauthorized, 4401).await;
        assert!(!error.message.contains("sesame"), "{}", error.message);
    }
    let right = r#"{"type":"hello","version":1,"token":"open sesame"}"#;
    Socket::open(server.address, right).await.expect_alive().await;
    nobody_is_left(&server).await;
}

#[tokio::test]
async fn no_hello_in_time() {
    let server = TestServer::with_native(NativeOptions {
        hello_timeout: Duration::from_millis(100),
        ..NativeOptions::default()
    })
    .await;
    let mut socket = Socket::connect(server.address).await;
    // Pings don't buy time.
    socket.inner.send(Message::Ping(vec![1].into())).await.unwrap();
    socket.expect_end(ErrorCode::HelloTimeout, 4408).await;
}

#[tokio::test]
async fn controls_that_cant_be_obeyed_leave_the_session_as_it_is() {
    let server = TestServer::start().await;
    let mut socket = Socket::open(server.address, HELLO).await;
    for (text, code, says) in [
        ("not json at all", ErrorCode::NotJson, "not JSON"),
        ("{\"type\":\"say\",", ErrorCode::NotJson, "not JSON"),
        ("\"say\"", ErrorCode::NotJson, "object"),
        (
            "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
            ErrorCode::InvalidValue,
            "32",
        ),
        (
            r#"{"type":"statsu"}"#,
            ErrorCode::UnknownControl,
            "did you mean \"status\"?",
        ),
        (
            r#"{"type":"sayy","text":"x"}"#,
            ErrorCode::UnknownControl,
            "did you mean \"say\"?",
        ),
        (
            r#"{"type":"say","txt":"x"}"#,
            ErrorCode::UnknownField,
            "did you mean \"text\"?",
        ),
        (r#"{"type":"say"}"#, ErrorCode::MissingField, "text"),
        (r#"{"type":"say","text":7}"#, ErrorCode::InvalidValue, "a string"),
        (r#"{"type":"say","text":""}"#, ErrorCode::InvalidValue, "empty"),
        (r#"{"type":"dtmf","digit":"12"}"#, ErrorCode::InvalidValue, "0-9"),
        (
            r#"{"type":"update","temperature":2.5}"#,
            ErrorCode::InvalidValue,
            "0 to 2",
        ),
        (
            r#"{"type":"update","endpointing":{"silence_ms":49}}"#,
            ErrorCode::InvalidValue,
            "50",
        ),
        (
            r#"{"type":"update","endpointing":{"silence_ms":2000,"max_silence_ms":1000}}"#,
            ErrorCode::InvalidValue,
            "endpointing.max_silence_ms",
        ),
        (
            r#"{"type":"edit","edit":"deleet"}"#,
            ErrorCode::InvalidValue,
            "did you mean \"delete\"?",
        ),
        (HELLO, ErrorCode::HelloRepeated, "open already"),
    ] {
        socket.text(text).await;
        let error = socket.expect_error(code).await;
        assert!(error.message.contains(says), "{text} got: {}", error.message);
        assert_eq!(error.close_code, None, "{text}");
    }
    // The error names the control that it answers.
    socket.text(r#"{"type":"update","temperature":-1,"id":"warmer"}"#).await;
    let error = socket.expect_error(ErrorCode::InvalidValue).await;
    assert_eq!(
        (error.reply_to.as_deref(), error.field.as_deref()),
        (Some("warmer"), Some("temperature"))
    );
    // And nothing of what people say or keep secret is repeated.
    socket
        .text(r#"{"type":"say","text":"my number is 4711","interupt":true}"#)
        .await;
    let error = socket.expect_error(ErrorCode::UnknownField).await;
    assert!(!error.message.contains("4711"), "{}", error.message);
    socket.expect_alive().await;
}

#[tokio::test]
async fn commands_that_make_no_sense_now() {
    let server = TestServer::start().await;
    let mut socket = Socket::open(server.address, HELLO).await;
    socket.text(r#"{"type":"cancel"}"#).await;
    socket.text(r#"{"type":"cancel","response":"resp_99"}"#).await;
    socket.text(r#"{"type":"clear"}"#).await;
    socket.expect_alive().await;
    socket.text(r#"{"type":"edit","edit":"delete","item":"item_99"}"#).await;
    socket.expect_error(ErrorCode::InvalidValue).await;
    let long = "x".repeat(8_001);
    socket.text(&format!(r#"{{"type":"say","text":"{long}"}}"#)).await;
    socket.expect_error(ErrorCode::TooLarge).await;
    socket.expect_alive().await;
}

#[tokio::test]
async fn an_odd_byte_count_is_told_once_and_dropped() {
    let server = TestServer::start().await;
    let mut client = Client::open(server.address).await;
    for _ in 0..50 {
        client.raw(vec![1; 641]).await;
    }
    // The same stream goes on to a whole turn.
    client.speak(tone(16_000, 600)).await;
    let transcript = client.final_transcript().await;
    assert!(transcript.text.expose().starts_with("heard "));
    client.response_done().await;
    let errors: Vec<_> = client
        .events
        .iter()
        .filter_map(|(_, event)| match event {
            Event::Error(error) => Some(error.code),
            _ => None,
        })
        .collect();
    assert_eq!(errors, [ErrorCode::OddByteCount], "{}", client.story());
    drop(client);
    nobody_is_left(&server).await;
    let dropped = server.engine.metrics().text();
    let counted = dropped
        .lines()
        .find(|line| line.contains("malformed") && !line.starts_with('#'))
        .unwrap_or_else(|| panic!("they are counted: {dropped}"));
    assert!(counted.ends_with(" 50"), "{counted}");
}

#[tokio::test]
async fn a_message_over_the_limit_ends_the_connection() {
    let server = TestServer::start().await;
    let mut beside = Socket::open(server.address, HELLO).await;
    let mut socket = Socket::open(server.address, HELLO).await;
    // Exactly the limit is taken, although it is far more sound than time.
    socket.binary(vec![0; 256 * 1024]).await;
    socket.expect_error(ErrorCode::MediaFormat).await;
    socket.expect_alive().await;
    // One byte more isn't. The server may hang up while it is still being sent.
    let _ = socket.inner.send(Message::Binary(vec![0; 256 * 1024 + 2].into())).await;
    socket.expect_end(ErrorCode::MessageTooLarge, 1009).await;
    let mut socket = Socket::open(server.address, HELLO).await;
    let text = format!(r#"{{"type":"say","text":"{}"}}"#, "x".repeat(256 * 1024));
    let _ = socket.inner.send(Message::text(text)).await;
    socket.expect_end(ErrorCode::MessageTooLarge, 1009).await;
    // Before `hello` too.
    let mut socket = Socket::connect(server.address).await;
    let _ = socket.inner.send(Message::Binary(vec![0; 300 * 1024].into())).await;
    socket.expect_end(ErrorCode::MessageTooLarge, 1009).await;
    beside.expect_alive().await;
    drop(beside);
    nobody_is_left(&server).await;
}

#[tokio::test]
async fn rtp_packets_that_are_none() {
    let server = TestServer::start().await;
    let good = messages(&rtp(), &tone(8_000, 600));
    let mut wrong_version = good[1].clone();
    wrong_version[0] = 0x40;
    let mut wrong_type = good[1].clone();
    wrong_type[1] = 97;
    let mut lying_padding = good[1].clone();
    lying_padding[0] |= 0x20;
    *lying_padding.last_mut().unwrap() = 255;
    let mut lying_sources = good[1][..20].to_vec();
    lying_sources[0] |= 0x0f;
    for (bad, code) in [
        (good[1][..7].to_vec(), ErrorCode::MalformedPacket),
        (Vec::new(), ErrorCode::MalformedPacket),
        (wrong_version, ErrorCode::MalformedPacket),
        (lying_padding, ErrorCode::MalformedPacket),
        (lying_sources, ErrorCode::MalformedPacket),
        (wrong_type, ErrorCode::MediaFormat),
    ] {
        let mut socket = Socket::open(server.address, RTP_HELLO).await;
        socket.binary(good[0].clone()).await;
        for _ in 0..20 {
            socket.binary(bad.clone()).await;
        }
        let error = socket.expect_error(code).await;
        assert_eq!(error.close_code, None);
        // It is told once, not twenty times.
        socket.expect_alive().await;
    }
}

#[tokio::test]
async fn a_turn_among_rubbish_is_heard_whole() {
    let server = TestServer::start().await;
    let mut client = Client::open_with(
        server.address,
        Hello {
            input: rtp(),
            output: rtp(),
            ..Hello::default()
        },
    )
    .await;
    client.speak(tone(8_000, 800)).await;
    for index in 0..40_u8 {
        client.raw(vec![index; usize::from(index)]).await;
    }
    let transcript = client.final_transcript().await;
    let millis: u64 = transcript.text.expose().split(' ').nth(1).unwrap().parse().unwrap();
    // Speech, pre-roll and the silence that ended it; what was rubbish added nothing.
    assert!((800..=2_400).contains(&millis), "{millis} ms");
    let done = client.response_done().await;
    assert_eq!(done.status, ResponseStatus::Completed);
}

#[tokio::test]
async fn stereo_where_mono_was_promised_is_noticed() {
    let server = TestServer::start().await;
    let hello = r#"{"type":"hello","version":1,"input":{"codec":"pcm16","rate":48000}}"#;
    let mut socket = Socket::open(server.address, hello).await;
    // 48 kHz stereo has twice the samples: ten seconds of it are twenty of mono. Sent at once it is too much in any case.
    for _ in 0..500 {
        socket.binary(vec![0; 960 * 2 * 2]).await;
    }
    let error = socket.expect_error(ErrorCode::MediaFormat).await;
    assert!(error.message.contains("stereo"), "{}", error.message);
    assert_eq!(error.close_code, None);
    socket.expect_alive().await;
}

#[tokio::test]
async fn a_thousand_messages_of_rubbish() {
    let server = TestServer::start().await;
    let mut beside = Socket::open(server.address, HELLO).await;
    let Socket { inner } = Socket::open(server.address, HELLO).await;
    let (mut sink, stream) = futures_util::StreamExt::split(inner);
    let sending = tokio::spawn(async move {
        // A fixed sequence of bytes that mean nothing: a linear congruential generator (Knuth's constants).
        let mut state = 1_u64;
        for index in 0..1_000_usize {
            let rubbish: Vec<u8> = (0..index % 300)
                .map(|_| {
                    state = state
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(1_442_695_040_888_963_407);
                    state.to_be_bytes()[0]
                })
                .collect();
            let message = if index % 2 == 0 {
                Message::text(String::from_utf8_lossy(&rubbish).into_owned())
            } else {
                Message::Binary(rubbish.into())
            };
            sink.send(message).await.expect("the server takes it");
        }
        sink
    });
    let mut socket = Receiving(stream);
    let mut errors = 0;
    while errors < 500 {
        if let Event::Error(error) = socket.event().await {
            assert_eq!(error.close_code, None, "{error:?}");
            errors += usize::from(error.code != ErrorCode::OddByteCount);
        }
    }
    let mut sink = sending.await.unwrap();
    sink.send(Message::text(r#"{"type":"ping"}"#)).await.unwrap();
    while !matches!(socket.event().await, Event::Pong(_)) {}
    beside.expect_alive().await;
}

/// The receiving half of a bare socket.
struct Receiving(futures_util::stream::SplitStream<tokio_tungstenite::WebSocketStream<TcpStream>>);

impl Receiving {
    async fn event(&mut self) -> Event {
        loop {
            let message = timeout(LIMIT, futures_util::StreamExt::next(&mut self.0)).await;
            match message
                .expect("the server answers")
                .expect("it stays")
                .expect("a message")
            {
                Message::Text(text) => {
                    return repartee_protocol::native::parse_event(&text)
                        .expect("an event")
                        .expect("a known type");
                }
                Message::Close(frame) => panic!("closed: {frame:?}"),
                _ => {}
            }
        }
    }
}

#[tokio::test]
async fn a_burst_of_controls_is_answered_one_by_one() {
    let server = TestServer::start().await;
    let Socket { inner } = Socket::open(server.address, HELLO).await;
    let (mut sink, stream) = futures_util::StreamExt::split(inner);
    let sending = tokio::spawn(async move {
        for index in 0..2_000 {
            let text = format!(r#"{{"type":"status","id":"{index}"}}"#);
            sink.send(Message::text(text)).await.expect("the server takes it");
        }
        sink
    });
    let mut socket = Receiving(stream);
    for index in 0..2_000 {
        let reply_to = loop {
            match socket.event().await {
                Event::Status(status) => break status.reply_to,
                Event::Backend(_) => {}
                other => panic!("{other:?} at {index}"),
            }
        };
        assert_eq!(reply_to, Some(index.to_string()));
    }
    drop(sending.await.unwrap());
}

#[tokio::test]
async fn too_many_sessions_and_then_room_again() {
    let engine = EngineOptions {
        max_sessions: 2,
        ..EngineOptions::default()
    };
    let server = TestServer::with_options(Fakes::default(), NativeOptions::default(), engine).await;
    let mut first = Socket::open(server.address, HELLO).await;
    let second = Socket::open(server.address, HELLO).await;
    let mut third = Socket::connect(server.address).await;
    third.text(HELLO).await;
    let error = third.expect_end(ErrorCode::TooManySessions, 4429).await;
    assert!(error.retry);
    first.expect_alive().await;
    drop(second);
    eventually("the place is free", LIMIT, || server.engine.live() == 1).await;
    Socket::open(server.address, HELLO).await.expect_alive().await;
}

#[tokio::test]
async fn pages_of_other_sites_stay_outside() {
    let server = TestServer::start().await;
    let own = format!("http://{}", server.address);
    for (origin, status) in [
        (own, 101),
        ("http://evil.example".to_owned(), 403),
        ("null".to_owned(), 403),
        (
            format!("http://127.0.0.1:{}", server.address.port().wrapping_add(1)),
            403,
        ),
    ] {
        assert_eq!(
            upgrade_status(server.address, &[("origin", origin.clone())]).await,
            status,
            "{origin}"
        );
    }
    // Under another name that somebody pointed at this machine.
    let rebound = [
        ("origin", "http://rebound.example".to_owned()),
        ("host", "rebound.example".to_owned()),
    ];
    assert_eq!(upgrade_status(server.address, &rebound).await, 403);
}

#[tokio::test]
async fn whoever_vanishes_leaves_nothing_behind() {
    let server = TestServer::start().await;
    let mut beside = Socket::open(server.address, HELLO).await;
    for round in 0..20 {
        let mut socket = Socket::open(server.address, HELLO).await;
        match round % 4 {
            // In the middle of a reply, of an utterance, of nothing, of a message.
            0 => {
                socket
                    .text(r#"{"type":"say","text":"one two three four five six seven"}"#)
                    .await
            }
            1 => {
                for frame in tone(16_000, 400).chunks(320) {
                    socket
                        .binary(frame.iter().flat_map(|sample| sample.to_le_bytes()).collect::<Vec<_>>())
                        .await;
                }
            }
            2 => {}
            _ => socket.inner.get_mut().write_all(&[0x82, 0xfe, 0x7d]).await.unwrap(),
        }
        if round % 2 == 0 {
            socket.reset();
        } else {
            drop(socket);
        }
    }
    eventually("the session count is back", LIMIT, || server.engine.live() == 1).await;
    beside.expect_alive().await;
    drop(beside);
    nobody_is_left(&server).await;
    for (name, live) in [
        ("stt", server.fakes.stt.control().counts().live()),
        ("tts", server.fakes.tts.control().counts().live()),
        ("llm", server.fakes.llm.control().counts().live()),
        ("vad", server.fakes.vad.control().counts().live()),
    ] {
        assert_eq!(live, 0, "{name} still works for somebody who is gone");
    }
}

#[tokio::test]
async fn rates_and_codecs_as_promised() {
    let server = TestServer::start().await;
    for codec in Codec::ALL {
        for rate in Rate::ALL.into_iter().filter(|rate| codec.takes(*rate)) {
            for framing in Framing::ALL {
                let format = AudioFormat {
                    rate,
                    framing,
                    ..AudioFormat::of(codec)
                };
                let hello = Hello {
                    input: format,
                    output: format,
                    ..Hello::default()
                };
                let mut client = Client::open_with(server.address, hello).await;
                assert_eq!((client.ready.input.rate, client.ready.output.codec), (rate, codec));
                client.request(Request::Say(Say::new("yes sir"))).await;
                let done = client.response_done().await;
                // Messages are counted, not samples: where this machine stalls, RTP tells the gap, and the client fills it.
                let sent = client.messages.len() as u64 * 20;
                let heard = client.heard().len() as u64 * 1_000 / u64::from(rate.hertz());
                assert!(heard >= sent, "{codec} {rate:?} {framing:?}: {heard} of {sent} ms");
                assert!(framing == Framing::Rtp || heard == sent, "{codec} {rate:?}: {heard} ms");
                let told = done.heard_ms.as_f64() as u64;
                assert!(
                    sent.abs_diff(told) <= 30,
                    "{codec} {rate:?} {framing:?}: {sent} ms, {told} told"
                );
            }
        }
    }
}

#[tokio::test]
async fn a_goodbye_reaches_a_client_that_is_still_talking() {
    let server = TestServer::start().await;
    for round in 0..5 {
        let mut socket = Socket::open(server.address, HELLO).await;
        socket.text(r#"{"type":"bye"}"#).await;
        // What is on its way when the server closes must not cost the client what the server said last.
        for _ in 0..50 {
            if socket.inner.send(Message::Binary(vec![0; 640].into())).await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let mut told = false;
        let code = loop {
            match socket.next().await {
                Met::Event(Event::Closed(_)) => told = true,
                Met::Event(_) | Met::Audio(_) => {}
                Met::Closed(code) => break code,
            }
        };
        assert!(told, "round {round}: `closed` is told");
        assert_eq!(code, Some(1000), "round {round}");
    }
    nobody_is_left(&server).await;
}

#[tokio::test]
async fn a_close_is_answered() {
    let server = TestServer::start().await;
    let mut socket = Socket::open(server.address, HELLO).await;
    let goodbye = tokio_tungstenite::tungstenite::protocol::CloseFrame {
        code: 1000.into(),
        reason: "".into(),
    };
    socket.inner.send(Message::Close(Some(goodbye))).await.unwrap();
    // Without the answer a browser reports 1006, a connection that broke.
    loop {
        match socket.next().await {
            Met::Closed(code) => {
                assert_eq!(code, Some(1000));
                break;
            }
            Met::Event(_) | Met::Audio(_) => {}
        }
    }
    nobody_is_left(&server).await;
}
