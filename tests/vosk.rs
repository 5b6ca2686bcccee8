//! Clients of a Vosk server, on a server whose backends are scripted: they write a message of audio and read one reply, in lockstep.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use repartee::backend::Backend;
use repartee::backend::fake::{Clock, Pace, ScriptedLlm, ScriptedStt};
use repartee::call::BackendKind;
use repartee::engine::{Engine, EngineOptions};
use repartee::id::Generation;
use repartee::metrics::Metrics;
use repartee::phone::Admission;
use repartee::provider::webrtc_vad::{Aggressiveness, WebrtcVadBackend};
use repartee::provider::worker::backend;
use repartee::registry::Registry;
use repartee::supervisor::{Specification, Worker, find_worker, worker_folders};
use repartee::time::Samples;
use repartee::transport::vosk::{self, VoskOptions};
use repartee_protocol::worker::Job;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use self::support::speech::{recording, word_errors, words};
use self::support::{Fakes, LIMIT, eventually, silence, tone};

mod support;

struct House {
    engine: Engine,
    address: SocketAddr,
    fakes: Fakes,
    serving: JoinHandle<()>,
}

impl House {
    async fn with(stt: ScriptedStt, options: VoskOptions) -> Self {
        let fakes = Fakes::new(stt, ScriptedLlm::echo());
        let registry = Arc::new(Registry::default());
        registry.install(Backend::Vad(fakes.vad.clone()));
        registry.install(Backend::Stt(fakes.stt.clone()));
        // Neither a language model nor a voice is needed.
        for kind in [BackendKind::Llm, BackendKind::Tts, BackendKind::Turn] {
            registry.mark_missing(kind, "not needed here".to_owned());
        }
        Self::over(registry, fakes, options).await
    }

    async fn over(registry: Arc<Registry>, fakes: Fakes, options: VoskOptions) -> Self {
        let engine = EngineOptions {
            threads: 1,
            max_sessions: 2,
            ..EngineOptions::default()
        };
        let engine = Engine::new(engine, registry, Arc::new(Metrics::default()));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a port");
        let address = listener.local_addr().expect("it has an address");
        let routes = vosk::routes(engine.clone(), options);
        let serving = tokio::spawn(repartee::api::serve(
            listener,
            routes,
            engine.clone(),
            std::future::pending(),
        ));
        Self {
            engine,
            address,
            fakes,
            serving,
        }
    }

    async fn hearing(texts: &[&str]) -> Self {
        Self::with(ScriptedStt::new(texts.iter().copied()), VoskOptions::default()).await
    }

    async fn client(&self) -> Client {
        Client::connect(self.address).await
    }
}

impl Drop for House {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

struct Client {
    socket: WebSocketStream<TcpStream>,
    /// Texts of results that were not empty.
    results: Vec<String>,
    partials: Vec<String>,
}

impl Client {
    async fn connect(address: SocketAddr) -> Self {
        Self::connect_with(address, None).await.expect("the server lets it in")
    }

    async fn connect_with(address: SocketAddr, origin: Option<&str>) -> Result<Self, u16> {
        let mut request = format!("ws://{address}/").into_client_request().expect("a request");
        if let Some(origin) = origin {
            request.headers_mut().insert("origin", origin.parse().expect("a value"));
        }
        let tcp = TcpStream::connect(address).await.expect("the server listens");
        tcp.set_nodelay(true).expect("a socket takes it");
        match client_async(request, tcp).await {
            Ok((socket, _)) => Ok(Self {
                socket,
                results: Vec::new(),
                partials: Vec::new(),
            }),
            Err(Error::Http(response)) => Err(response.status().as_u16()),
            Err(error) => panic!("{error}"),
        }
    }

    async fn text(&mut self, text: &str) {
        self.socket
            .send(Message::text(text))
            .await
            .expect("the server takes it");
    }

    /// The next message: a reply, or the code of the close.
    async fn next(&mut self) -> Result<Value, Option<u16>> {
        loop {
            match timeout(LIMIT, self.socket.next()).await.expect("something comes") {
                Some(Ok(Message::Text(text))) => return Ok(serde_json::from_str(&text).expect("a reply is JSON")),
                Some(Ok(Message::Close(frame))) => return Err(frame.map(|frame| frame.code.into())),
                Some(Ok(Message::Binary(_))) => panic!("a Vosk server sends no audio"),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Err(None),
            }
        }
    }

    async fn reply(&mut self) -> Value {
        let reply = self.next().await.expect("a reply, not the end");
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        if let Some(partial) = reply.get("partial") {
            self.partials.push(text(partial));
        } else {
            let found = reply.get("text").or_else(|| reply["alternatives"][0].get("text"));
            let found = text(found.expect("a result has a text"));
            if !found.is_empty() {
                self.results.push(found);
            }
        }
        reply
    }

    /// Nothing more is there to be read.
    async fn expect_silence(&mut self) {
        let more = timeout(Duration::from_millis(100), self.socket.next()).await;
        assert!(more.is_err(), "{more:?} is more than one reply");
    }

    async fn bytes(&mut self, bytes: Vec<u8>) -> Value {
        self.socket
            .send(Message::Binary(bytes.into()))
            .await
            .expect("it is taken");
        self.reply().await
    }

    /// Sends in messages of `samples` and reads one reply each; in real time if `hz` says which that is.
    async fn speak(&mut self, pcm: &[i16], samples: usize, hz: Option<usize>) {
        let every = Duration::from_micros(hz.map_or(1, |hz| (samples * 1_000_000 / hz) as u64));
        let mut ticks = interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        for chunk in pcm.chunks(samples) {
            if hz.is_some() {
                ticks.tick().await;
            }
            self.bytes(bytes_of(chunk)).await;
        }
    }

    /// Says that it was all; the final result, and the end.
    async fn eof(&mut self) -> Value {
        self.text(r#"{"eof" : 1}"#).await;
        let last = self.reply().await;
        assert_eq!(self.next().await, Err(Some(1_000)));
        last
    }
}

fn bytes_of(pcm: &[i16]) -> Vec<u8> {
    pcm.iter().flat_map(|sample| sample.to_le_bytes()).collect()
}

/// `count` utterances of 700 ms with pauses that end them.
fn speech(rate: u32, count: usize) -> Vec<i16> {
    let one = [silence(rate, 300), tone(rate, 700), silence(rate, 2_000)].concat();
    one.repeat(count)
}

/// Asterisk: 8 kHz unless it says otherwise, 200 ms a message, in real time, in lockstep.
#[tokio::test]
async fn a_telephone_in_lockstep() {
    let stt = ScriptedStt::new(["yes please", "no thanks"]).partial_every(Samples::from_millis(300));
    let house = House::with(stt, VoskOptions::default()).await;
    let mut client = house.client().await;
    client.text(r#"{"config" : {"sample_rate" : 8000}}"#).await;
    // A configuration isn't answered, and costs no session.
    client.expect_silence().await;
    assert_eq!(house.engine.live(), 0);
    client.speak(&speech(8_000, 2), 1_600, Some(8_000)).await;
    assert_eq!(client.results, ["yes please", "no thanks"]);
    assert!(client.partials.iter().any(|partial| partial == "yes"));
    client.expect_silence().await;
    assert_eq!(client.eof().await, json!({"text": ""}));
    eventually("the session ends", LIMIT, || house.engine.live() == 0).await;
}

/// A file, as fast as it goes: every utterance is told, in its order, in one reply each, however the file is cut.
#[tokio::test]
async fn a_file_at_full_speed() {
    for (rate, samples) in [(16_000_u32, 3_200), (8_000, 4_000), (48_000, 12_001), (11_025, 333)] {
        let house = House::hearing(&["one", "two", "three", "four", "five"]).await;
        let mut client = house.client().await;
        client
            .text(&json!({"config": {"sample_rate": f64::from(rate), "words": true}}).to_string())
            .await;
        client.speak(&speech(rate, 5), samples, None).await;
        client.eof().await;
        assert_eq!(client.results, ["one", "two", "three", "four", "five"], "{rate}");
        // Nothing was lost on the way: 700 ms, what was kept before it and what was waited for after it.
        for heard in house.fakes.stt.heard() {
            assert!((1_200..=2_100).contains(&heard.as_millis()), "{rate}: {heard:?}");
        }
    }
}

/// A recogniser that takes its time for final words: a file waits for them, and hears them before what comes later.
#[tokio::test]
async fn a_file_waits_for_its_words() {
    let slow = Pace::new(
        Clock::new(|duration| Box::pin(tokio::time::sleep(duration))),
        Duration::from_millis(400),
        Duration::ZERO,
    );
    let stt = ScriptedStt::new(["one", "two", "three"]).final_paced(slow);
    let house = House::with(stt, VoskOptions::default()).await;
    let mut client = house.client().await;
    client.speak(&speech(8_000, 12), 1_600, None).await;
    // The first are told before the last is sent.
    assert!(client.results.len() >= 10, "{:?}", client.results);
    client.eof().await;
    assert_eq!(client.results.join(" "), "one two three ".repeat(4).trim());
}

/// While final words are waited for, pings are answered, and a client that vanishes gives its place back.
#[tokio::test]
async fn a_client_that_waits_is_not_left_alone() {
    let clock = Clock::new(|wait| Box::pin(tokio::time::sleep(wait)));
    let never = Pace::new(clock, Duration::from_secs(3_600), Duration::ZERO);
    let house = House::with(ScriptedStt::measuring().final_paced(never), VoskOptions::default()).await;
    let mut client = house.client().await;
    client.speak(&tone(8_000, 900), 1_600, None).await;
    client.text(r#"{"eof" : 1}"#).await;
    for number in 0..3_u8 {
        let ping = Message::Ping(Bytes::from(vec![number]));
        client.socket.send(ping).await.expect("it is taken");
        let pong = timeout(LIMIT, client.socket.next()).await.expect("it is answered");
        assert!(matches!(pong, Some(Ok(Message::Pong(payload))) if payload[..] == [number]));
    }
    assert_eq!(house.engine.live(), 1);
    drop(client);
    eventually("its place is free", LIMIT, || house.engine.live() == 0).await;
}

/// What is said when the client says that it was all is told as well: at the end, and at a reset, after which it goes on.
#[tokio::test]
async fn the_end_tells_the_open_utterance() {
    let house = House::hearing(&["left", "right"]).await;
    let mut client = house.client().await;
    // Neither has anything to tell before there was audio.
    client.text(r#"{"reset":1}"#).await;
    assert_eq!(client.reply().await, json!({"text": ""}));
    client.speak(&tone(8_000, 900), 1_600, None).await;
    assert!(client.results.is_empty());
    client.text(r#"{ "reset" : true }"#).await;
    assert_eq!(client.reply().await, json!({"text": "left"}));
    client.speak(&silence(8_000, 1_000), 1_600, None).await;
    assert_eq!(client.results, ["left"]);
    client.speak(&tone(8_000, 900), 1_600, None).await;
    assert_eq!(client.eof().await, json!({"text": "right"}));

    let mut client = house.client().await;
    assert_eq!(client.eof().await, json!({"text": ""}));
}

/// Alternatives are a list of one, without a confidence that nobody knows.
#[tokio::test]
async fn alternatives() {
    let house = House::hearing(&["left"]).await;
    let mut client = house.client().await;
    client
        .text(r#"{"config":{"max_alternatives":3,"phrase_list":["left","right"],"model":"en","new":{}}}"#)
        .await;
    client.speak(&tone(8_000, 900), 1_600, None).await;
    assert_eq!(client.eof().await, json!({"alternatives": [{"text": "left"}]}));
}

/// A message of no bytes, of one, of an odd number, of a minute: exactly one reply each.
#[tokio::test]
async fn messages_of_every_length() {
    let house = House::hearing(&["odd"]).await;
    let mut client = house.client().await;
    assert_eq!(client.bytes(Vec::new()).await, json!({"partial": ""}));
    let audio = bytes_of(&speech(8_000, 1));
    for chunk in audio.chunks(1_601) {
        client.bytes(chunk.to_vec()).await;
    }
    assert_eq!(client.bytes(vec![0]).await, json!({"partial": ""}));
    client.expect_silence().await;
    client.bytes(vec![0; 1 << 20]).await;
    client.expect_silence().await;
    client.eof().await;
    assert_eq!(client.results, ["odd"]);
}

/// What makes no sense ends the connection, with a reason, and nobody else's.
#[tokio::test]
async fn bad_input() {
    let house = House::hearing(&["fine"]).await;
    let mut good = house.client().await;
    good.speak(&tone(8_000, 900), 1_600, None).await;
    for text in [
        "",
        "hello",
        "{}",
        "[]",
        r#"{"config":1}"#,
        r#"{"config":{"sample_rate":7999}}"#,
        r#"{"config":{"sample_rate":96000}}"#,
        r#"{"config":{"sample_rate":"fast"}}"#,
    ] {
        let mut client = house.client().await;
        client.text(text).await;
        assert_eq!(client.next().await, Err(Some(1_007)), "{text}");
    }
    let mut client = house.client().await;
    // It breaks off before all of it is taken, or after.
    let _ = client
        .socket
        .send(Message::Binary(Bytes::from(vec![0; (1 << 20) + 2])))
        .await;
    assert!(client.next().await.is_err());
    assert_eq!(
        Client::connect_with(house.address, Some("https://evil.example"))
            .await
            .err(),
        Some(403)
    );
    // Many that say nothing take no session.
    let mut idle = Vec::new();
    for _ in 0..20 {
        idle.push(house.client().await);
    }
    assert_eq!(house.engine.live(), 1);
    // One that vanishes in the middle gives its place back.
    let mut gone = house.client().await;
    gone.bytes(bytes_of(&tone(8_000, 400))).await;
    assert_eq!(house.engine.live(), 2);
    let mut third = house.client().await;
    third
        .socket
        .send(Message::Binary(vec![0; 320].into()))
        .await
        .expect("it is taken");
    assert_eq!(third.next().await, Err(Some(1_013)), "all places are taken");
    drop(gone);
    eventually("its place is free", LIMIT, || house.engine.live() == 1).await;
    assert_eq!(good.eof().await, json!({"text": "fine"}));
}

/// Networks that aren't allowed, a server without a recogniser, a client that says nothing for too long, a server that goes away.
#[tokio::test]
async fn the_house_has_rules() {
    let nobody = VoskOptions {
        admission: Admission::new(|_| false),
        ..VoskOptions::default()
    };
    let house = House::with(ScriptedStt::measuring(), nobody).await;
    assert_eq!(Client::connect_with(house.address, None).await.err(), Some(403));

    let registry = Arc::new(Registry::default());
    for kind in BackendKind::ALL {
        registry.mark_missing(kind, "not configured".to_owned());
    }
    let house = House::over(registry, Fakes::default(), VoskOptions::default()).await;
    let mut client = house.client().await;
    client
        .socket
        .send(Message::Binary(vec![0; 320].into()))
        .await
        .expect("it is taken");
    assert_eq!(client.next().await, Err(Some(1_011)));

    let hasty = VoskOptions {
        idle: Duration::from_millis(100),
        ..VoskOptions::default()
    };
    let house = House::with(ScriptedStt::measuring(), hasty).await;
    let mut client = house.client().await;
    assert_eq!(client.next().await, Err(Some(1_000)));

    // What was said before the server goes away is told.
    let house = House::hearing(&["last"]).await;
    let mut client = house.client().await;
    client.speak(&tone(8_000, 900), 1_600, None).await;
    let engine = house.engine.clone();
    let draining = tokio::spawn(async move { engine.drain(Duration::from_secs(10)).await });
    assert_eq!(client.next().await, Ok(json!({"text": "last"})));
    assert_eq!(client.next().await, Err(Some(1_001)));
    assert_eq!(draining.await.expect("it doesn't panic"), 0);
}

/// The embedded recogniser, over a file at full speed and the same in real time: both end, and tell words.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_embedded_recogniser_hears_a_recording() {
    let program = match find_worker("pocketsphinx", &worker_folders()) {
        Ok(program) => program,
        Err(missing) => {
            println!("skipped: {missing}");
            return;
        }
    };
    let Some(recording) = recording("cmu-arctic/cmu_arctic_us_aew_a0003.wav") else {
        return;
    };
    let specification = Specification::new("pocketsphinx", program, Job::Stt, "pocketsphinx-en-us");
    let worker = Worker::start(specification, || Generation::new(1));
    let link = match timeout(LIMIT, worker.ready()).await.expect("it loads, or says why not") {
        Ok(link) => link,
        Err(reason) => {
            println!("skipped: {reason}");
            return;
        }
    };
    let registry = Arc::new(Registry::default());
    registry.install(backend(Job::Stt, &link, 1_000).expect("it is a recogniser"));
    let vad = WebrtcVadBackend::new(Aggressiveness::Aggressive, Generation::new(2));
    registry.install(Backend::Vad(Arc::new(vad)));
    for kind in [BackendKind::Llm, BackendKind::Tts, BackendKind::Turn] {
        registry.mark_missing(kind, "not needed here".to_owned());
    }
    let house = House::over(registry, Fakes::default(), VoskOptions::default()).await;
    let wanted = recording.words.clone().expect("it was written down");
    let spoken = [recording.samples(16_000), silence(16_000, 1_000)].concat();
    for (pcm, hz) in [(spoken.repeat(3), None), (spoken, Some(16_000))] {
        let mut client = house.client().await;
        client.text(r#"{"config":{"sample_rate":16000}}"#).await;
        client.speak(&pcm, 3_200, hz).await;
        client.eof().await;
        let times = if hz.is_some() { 1 } else { 3 };
        let errors = word_errors(&vec![wanted.clone(); times].concat(), &words(&client.results.join(" ")));
        println!(
            "{errors} of {} words wrong in {} results{}",
            wanted.len() * times,
            client.results.len(),
            if hz.is_some() {
                ", in real time"
            } else {
                ", at full speed"
            }
        );
        assert!(errors * 2 < wanted.len() * times, "{:?}", client.results);
    }
    drop(house);
    worker.stop().await;
}
