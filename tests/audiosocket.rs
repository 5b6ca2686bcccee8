//! AudioSocket against an engine with scripted backends: the test speaks as Asterisk does, and as nobody should.

#[path = "support/mod.rs"]
mod support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use repartee::backend::Backend;
use repartee::backend::fake::{ScriptedLlm, ScriptedStt};
use repartee::call::{BackendKind, Digit, KeyCollection, Settings};
use repartee::engine::{Engine, EngineOptions};
use repartee::metrics::Metrics;
use repartee::phone::{Admission, PhoneOptions, Phones};
use repartee::registry::Registry;
use repartee::transport::audiosocket::{self, AudioSocketOptions};
use repartee_protocol::audiosocket::{Frame, HANGUP, Parser, Rate, samples, write_audio, write_digit, write_uuid};
use support::{Fakes, LIMIT, eventually, tone};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;

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
        Self::with(true, AudioSocketOptions::default(), |_| true).await
    }

    async fn with(
        has_llm: bool,
        options: AudioSocketOptions,
        admits: impl Fn(std::net::IpAddr) -> bool + Send + Sync + 'static,
    ) -> Self {
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
        let settings = Settings {
            keys: Some(KeyCollection {
                terminator: Digit::new('#'),
                timeout_ms: 5_000,
                max_keys: 8,
            }),
            ..Settings::default()
        };
        let phones = Phones::new(
            engine,
            PhoneOptions {
                settings,
                greeting: GREETING.to_owned(),
                without_llm: "Nobody is here.".to_owned(),
                ..PhoneOptions::default()
            },
        );
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it has an address");
        let serving = tokio::spawn(audiosocket::serve(
            listener,
            phones.clone(),
            Admission::new(admits),
            options,
        ));
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

    async fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).await.expect("the server listens");
        stream.set_nodelay(true).expect("a socket takes that");
        stream
    }

    /// A call that has begun.
    async fn call(&self) -> Asterisk {
        let mut stream = self.connect().await;
        let mut first = Vec::new();
        write_uuid(&[7; 16], &mut first);
        stream.write_all(&first).await.expect("it is taken");
        Asterisk {
            stream,
            parser: Parser::new(),
            is_over: false,
        }
    }
}

impl Drop for House {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// The far side of a call.
struct Asterisk {
    stream: TcpStream,
    parser: Parser,
    is_over: bool,
}

/// A frame as it was heard.
#[derive(Debug, PartialEq)]
enum Heard {
    Audio(Rate, Vec<i16>),
    Hangup,
    End,
}

impl Heard {
    fn is_loud(&self) -> bool {
        matches!(self, Self::Audio(_, pcm) if pcm.iter().any(|sample| sample.unsigned_abs() > 500))
    }
}

impl Asterisk {
    async fn say(&mut self, rate: Rate, pcm: &[i16]) {
        let mut frame = Vec::new();
        write_audio(rate, pcm, &mut frame).expect("a frame that can be written");
        self.raw(&frame).await;
    }

    async fn raw(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.expect("it is taken");
    }

    async fn hear(&mut self) -> Heard {
        timeout(LIMIT, async {
            let mut bytes = [0; 1];
            loop {
                match self.stream.read(&mut bytes).await {
                    Ok(0) | Err(_) => return Heard::End,
                    Ok(_) => {}
                }
                let mut input = &bytes[..];
                match self.parser.next_frame(&mut input) {
                    Ok(Some(Frame::Audio { rate, payload })) => return Heard::Audio(rate, samples(payload).collect()),
                    Ok(Some(Frame::Hangup)) => return Heard::Hangup,
                    Ok(None) => {}
                    other => panic!("Asterisk would drop the call: {other:?}"),
                }
            }
        })
        .await
        .expect("something is always sent")
    }

    /// Speaks, a frame each 20 ms, and listens until `enough` says so; answers what was heard.
    async fn talk(&mut self, rate: Rate, pcm: &[i16], mut enough: impl FnMut(&Heard) -> bool) -> Vec<Heard> {
        let mut frames = pcm.chunks(rate.frame_samples());
        let mut ticks = tokio::time::interval(FRAME);
        let mut heard = Vec::new();
        let talking = async {
            loop {
                tokio::select! {
                    _ = ticks.tick() => match frames.next() {
                        Some(frame) => self.say(rate, frame).await,
                        None => self.say(rate, &vec![0; rate.frame_samples()]).await,
                    },
                    frame = async {
                        // Cut off in the middle, the parser keeps what it has.
                        let mut byte = [0; 1];
                        let count = self.stream.peek(&mut byte).await;
                        count.is_ok_and(|count| count > 0)
                    } => {
                        let frame = if frame { self.hear().await } else { Heard::End };
                        let is_enough = enough(&frame) || frame == Heard::End;
                        heard.push(frame);
                        if is_enough {
                            return;
                        }
                    }
                }
            }
        };
        timeout(LIMIT, talking).await.expect("it comes");
        self.is_over = heard.last() == Some(&Heard::End);
        heard
    }
}

fn count(limit: usize) -> impl FnMut(&Heard) -> bool {
    let mut seen = 0;
    move |_| {
        seen += 1;
        seen >= limit
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_greeted_in_its_own_rate_in_frames_of_20_ms() {
    let house = House::new().await;
    for rate in [Rate::Hz8000, Rate::Hz16000, Rate::Hz24000, Rate::Hz48000] {
        let mut asterisk = house.call().await;
        let heard = asterisk.talk(rate, &[], Heard::is_loud).await;
        let Some(Heard::Audio(answered, pcm)) = heard.last() else {
            panic!("a greeting was to come")
        };
        assert_eq!((*answered, pcm.len()), (rate, rate.frame_samples()));
        let silent = heard.iter().filter(|frame| !frame.is_loud()).count();
        assert!(silent > 0, "silence comes before the first word");
        drop(asterisk);
        house.is_empty().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_interrupts_and_the_line_goes_on_with_silence() {
    let house = House::new().await;
    let mut asterisk = house.call().await;
    asterisk.talk(Rate::Hz8000, &[], Heard::is_loud).await;
    // The greeting lasts longer than this.
    let speech = tone(8_000, 900);
    let mut silent = 0;
    let heard = asterisk
        .talk(Rate::Hz8000, &speech, |frame| {
            silent = if frame.is_loud() { 0 } else { silent + 1 };
            silent == 10
        })
        .await;
    assert!(heard.len() < 120, "the greeting was heard to its end");
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_a_turn_and_are_answered() {
    let house = House::new().await;
    let mut asterisk = house.call().await;
    asterisk.talk(Rate::Hz8000, &[], Heard::is_loud).await;
    let mut keys = Vec::new();
    for key in *b"12#" {
        write_digit(key, &mut keys);
    }
    asterisk.raw(&keys).await;
    // The first key stops the greeting, which would last much longer, and the entry is answered.
    let mut silent = 0;
    asterisk
        .talk(Rate::Hz8000, &[], |frame| {
            silent = if frame.is_loud() { 0 } else { silent + 1 };
            silent == 20
        })
        .await;
    let prompts = house.fakes.llm.prompts();
    let asked = prompts.iter().flat_map(|prompt| &prompt.messages);
    assert!(asked.into_iter().any(|message| message.text.expose() == "DTMF: 12"));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_language_model_the_caller_is_told_and_the_dialplan_goes_on() {
    let house = House::with(false, AudioSocketOptions::default(), |_| true).await;
    let mut asterisk = house.call().await;
    let heard = asterisk.talk(Rate::Hz8000, &[], |frame| *frame == Heard::Hangup).await;
    assert!(heard.iter().any(Heard::is_loud));
    assert_eq!(
        heard.last(),
        Some(&Heard::Hangup),
        "the application goes on when it is told so"
    );
    house.is_empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_of_every_kind_and_length_end_no_call() {
    let house = House::new().await;
    let mut asterisk = house.call().await;
    asterisk.talk(Rate::Hz8000, &[], count(3)).await;
    let frame = |kind: u8, payload: &[u8]| {
        let length = u16::try_from(payload.len()).expect("a frame's length");
        [&[kind][..], &length.to_be_bytes(), payload].concat()
    };
    for kind in [0x02, 0x03, 0x04, 0x0f, 0x10, 0x12, 0x18, 0x19, 0x7f, 0xfe, 0xff] {
        for length in [0, 1, 2, 319, 320, 321, 65_535] {
            asterisk.raw(&frame(kind, &vec![0; length])).await;
        }
    }
    // A UUID again, and one that is none.
    asterisk.raw(&frame(0x01, &[1; 16])).await;
    asterisk.raw(&frame(0x01, &[1; 3])).await;
    // Byte by byte.
    for byte in frame(0x10, &[0; 320]) {
        asterisk.raw(&[byte]).await;
    }
    let heard = asterisk.talk(Rate::Hz8000, &[], count(20)).await;
    assert!(!asterisk.is_over && heard.len() == 20);
    assert_eq!(house.live(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_says_no_uuid_costs_no_session() {
    let options = AudioSocketOptions {
        uuid_timeout: Duration::from_millis(300),
    };
    let house = House::with(true, options, |_| true).await;
    for first in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        &[0x10, 1, 64],
        &[0x00, 0, 0],
        &[0x01, 0, 15, 1, 2],
        &[0x01, 255, 255, 0],
        &[],
    ] {
        let mut stream = house.connect().await;
        stream.write_all(first).await.expect("it is taken");
        let mut rest = Vec::new();
        let ended = timeout(LIMIT, stream.read_to_end(&mut rest)).await;
        assert!(ended.is_ok(), "{first:?} is waited for");
        assert!(rest.is_empty(), "{first:?} is answered");
    }
    // A connection that closes at once, as on a channel that was not answered.
    drop(house.connect().await);
    assert_eq!(house.live(), 0);
    // The others notice nothing.
    let mut asterisk = house.call().await;
    asterisk.talk(Rate::Hz8000, &[], Heard::is_loud).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_that_is_not_allowed_is_not_served() {
    let house = House::with(true, AudioSocketOptions::default(), |_| false).await;
    let mut stream = house.connect().await;
    let mut rest = Vec::new();
    assert!(timeout(LIMIT, stream.read_to_end(&mut rest)).await.is_ok());
    assert!(rest.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_is_cut_in_the_middle_of_a_frame_is_over() {
    let house = House::new().await;
    for cut in [1, 2, 3, 100] {
        let mut asterisk = house.call().await;
        asterisk.talk(Rate::Hz8000, &[], count(2)).await;
        let mut frame = Vec::new();
        write_audio(Rate::Hz8000, &[0; 160], &mut frame).expect("a frame");
        asterisk.raw(&frame[..cut]).await;
        drop(asterisk);
        house.is_empty().await;
    }
    let mut asterisk = house.call().await;
    asterisk.talk(Rate::Hz8000, &[], count(2)).await;
    asterisk.raw(&HANGUP).await;
    house.is_empty().await;
}

/// Asterisk drops a call whose socket is full; the other way about, we do.
#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_reads_nothing_is_let_go() {
    let house = House::new().await;
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(2_048).expect("it takes a size");
    let mut stream = socket.connect(house.address).await.expect("the server listens");
    let mut first = Vec::new();
    write_uuid(&[7; 16], &mut first);
    write_audio(Rate::Hz48000, &[0; 960], &mut first).expect("a frame");
    stream.write_all(&first).await.expect("it is taken");
    eventually("it is a call", LIMIT, || house.live() == 1).await;
    // Socket buffers hold some seconds of 48 kHz, and five more are waited.
    eventually("it is let go", Duration::from_secs(90), || house.live() == 0).await;
    drop(stream);
}

/// Two seconds' worth of sound is bounded; beyond that it is dropped, and the call goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_flood_is_bounded() {
    let house = House::new().await;
    let mut asterisk = house.call().await;
    asterisk.talk(Rate::Hz8000, &[], count(3)).await;
    let mut frame = Vec::new();
    write_audio(Rate::Hz8000, &tone(8_000, 20), &mut frame).expect("a frame");
    // Half a minute of sound at once.
    for _ in 0..1_500 {
        asterisk.raw(&frame).await;
    }
    asterisk.talk(Rate::Hz8000, &[], count(60)).await;
    assert!(!asterisk.is_over);
    eventually("it is counted", LIMIT, || {
        house
            .phones
            .board()
            .calls()
            .first()
            .is_some_and(|call| call.quality.received.left_out_ms > 20_000)
    })
    .await;
}
