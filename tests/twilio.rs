//! Twilio's side of a call, on a server whose backends are scripted: it sends µ-law every 20 ms, plays what it is sent in its order,
//! and gives marks back when it has.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use repartee::audio::g711;
use repartee::backend::Backend;
use repartee::backend::fake::{ScriptedLlm, ScriptedStt, ScriptedTts};
use repartee::call::{BackendKind, Settings};
use repartee::engine::{Engine, EngineOptions};
use repartee::metrics::Metrics;
use repartee::phone::{PhoneOptions, Phones};
use repartee::registry::Registry;
use repartee::transport::twilio::{self, TwilioOptions};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use self::support::{Fakes, LIMIT, eventually, silence, tone};

mod support;

struct House {
    engine: Engine,
    phones: Phones,
    address: SocketAddr,
    fakes: Fakes,
    serving: JoinHandle<()>,
}

impl House {
    async fn with(fakes: Fakes, options: TwilioOptions, greeting: &str) -> Self {
        let registry = Arc::new(Registry::default());
        registry.install(Backend::Vad(fakes.vad.clone()));
        registry.install(Backend::Stt(fakes.stt.clone()));
        registry.install(Backend::Llm(fakes.llm.clone()));
        registry.install(Backend::Tts(fakes.tts.clone()));
        registry.mark_missing(BackendKind::Turn, "not needed here".to_owned());
        let engine = EngineOptions {
            threads: 1,
            ..EngineOptions::default()
        };
        let engine = Engine::new(engine, registry, Arc::new(Metrics::default()));
        let phones = Phones::new(
            engine.clone(),
            PhoneOptions {
                settings: Settings::default(),
                greeting: greeting.to_owned(),
                without_llm: "Nobody is here.".to_owned(),
                trouble: "Sorry.".to_owned(),
                parrot: true,
                ..PhoneOptions::default()
            },
        );
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a port");
        let address = listener.local_addr().expect("it has an address");
        let routes = twilio::routes(phones.clone(), options);
        let serving = tokio::spawn(repartee::api::serve(
            listener,
            routes,
            engine.clone(),
            std::future::pending(),
        ));
        Self {
            engine,
            phones,
            address,
            fakes,
            serving,
        }
    }

    async fn start() -> Self {
        Self::with(Fakes::default(), TwilioOptions::default(), "").await
    }
}

impl Drop for House {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

type Wire = WebSocketStream<TcpStream>;

async fn connect_with(address: SocketAddr, headers: &[(&'static str, String)]) -> Result<Wire, u16> {
    let mut request = format!("ws://{address}/twilio")
        .into_client_request()
        .expect("an address makes a request");
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().expect("a value"));
    }
    let tcp = TcpStream::connect(address).await.expect("the server listens");
    tcp.set_nodelay(true).expect("a socket takes it");
    match client_async(request, tcp).await {
        Ok((socket, _)) => Ok(socket),
        Err(Error::Http(response)) => Err(response.status().as_u16()),
        Err(error) => panic!("{error}"),
    }
}

fn start(parameters: Value) -> String {
    json!({
        "event": "start", "sequenceNumber": "1", "streamSid": "MZ18ad3ab5a668481ce02b83e7395059f0",
        "start": {
            "accountSid": "AC1", "streamSid": "MZ18ad3ab5a668481ce02b83e7395059f0", "callSid": "CA1", "tracks": ["inbound"],
            "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
            "customParameters": parameters,
        },
    })
    .to_string()
}

/// What Twilio was sent.
#[derive(Clone, Debug, PartialEq)]
enum Sent {
    Media(Vec<u8>),
    Mark(String),
    Clear,
    Closed(Option<u16>),
}

/// Twilio, at the pace of real time: it plays each 20 ms of what it holds, and gives back the marks that it has passed.
struct Twilio {
    /// What the caller says next.
    say: mpsc::Sender<Vec<i16>>,
    raw: mpsc::Sender<Message>,
    sent: mpsc::Receiver<(Instant, Sent)>,
    /// What the caller hears: µ-law, silence included.
    heard: Arc<std::sync::Mutex<Vec<u8>>>,
    tasks: [JoinHandle<()>; 2],
}

impl Drop for Twilio {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Twilio {
    async fn call(address: SocketAddr, parameters: Value) -> Self {
        let socket = connect_with(address, &[]).await.expect("the server lets Twilio in");
        let (mut sink, stream) = socket.split();
        for text in [
            r#"{"event":"connected","protocol":"Call","version":"1.0.0"}"#.to_owned(),
            start(parameters),
        ] {
            sink.send(Message::text(text)).await.expect("the server takes it");
        }
        let (say, said) = mpsc::channel(16);
        let (raw, raws) = mpsc::channel(16);
        let (queue, queued) = mpsc::channel(1_024);
        let (tell, sent) = mpsc::channel(16_384);
        let heard = Arc::new(std::sync::Mutex::new(Vec::new()));
        let tasks = [
            tokio::spawn(listen(stream, queue, tell)),
            tokio::spawn(speak(sink, said, raws, queued, Arc::clone(&heard))),
        ];
        Self {
            say,
            raw,
            sent,
            heard,
            tasks,
        }
    }

    async fn say(&self, pcm: Vec<i16>) {
        self.say.send(pcm).await.expect("the connection stands");
    }

    async fn raw(&self, text: &str) {
        self.raw.send(Message::text(text)).await.expect("the connection stands");
    }

    async fn until<T>(&mut self, what: &str, mut wanted: impl FnMut(Instant, &Sent) -> Option<T>) -> T {
        let waiting = async {
            while let Some((at, sent)) = self.sent.recv().await {
                if let Some(found) = wanted(at, &sent) {
                    return found;
                }
                assert!(!matches!(sent, Sent::Closed(_)), "{what}: closed");
            }
            panic!("{what}: the connection is over");
        };
        timeout(LIMIT, waiting)
            .await
            .unwrap_or_else(|_| panic!("{what}: not in time"))
    }

    async fn closed(&mut self) -> Option<u16> {
        self.until("the end", |_, sent| match sent {
            Sent::Closed(code) => Some(*code),
            _ => None,
        })
        .await
    }

    /// Milliseconds of the caller's ear that aren't silent.
    fn loud_millis(&self) -> usize {
        let heard = self.heard.lock().expect("nobody panics with it");
        heard.chunks(8).filter(|millisecond| is_loud(millisecond)).count()
    }
}

fn is_loud(mulaw: &[u8]) -> bool {
    mulaw
        .iter()
        .any(|byte| g711::mu_law_decode(*byte).unsigned_abs() > 1_000)
}

async fn listen(mut stream: SplitStream<Wire>, queue: mpsc::Sender<Sent>, tell: mpsc::Sender<(Instant, Sent)>) {
    loop {
        let sent = match stream.next().await {
            Some(Ok(Message::Text(text))) => {
                let value: Value = serde_json::from_str(&text).expect("what comes is JSON");
                assert_eq!(value["streamSid"], "MZ18ad3ab5a668481ce02b83e7395059f0");
                match value["event"].as_str() {
                    Some("media") => {
                        let payload = value["media"]["payload"].as_str().expect("media has a payload");
                        Sent::Media(STANDARD.decode(payload).expect("it is base64"))
                    }
                    Some("mark") => Sent::Mark(value["mark"]["name"].as_str().expect("a mark has a name").to_owned()),
                    Some("clear") => Sent::Clear,
                    _ => panic!("Twilio doesn't know {text}"),
                }
            }
            Some(Ok(Message::Close(frame))) => Sent::Closed(frame.map(|frame| frame.code.into())),
            Some(Ok(_)) => continue,
            Some(Err(_)) | None => Sent::Closed(None),
        };
        #[expect(clippy::disallowed_methods, reason = "a test's own clock")]
        let now = Instant::now();
        let over = matches!(sent, Sent::Closed(_));
        let _ = queue.send(sent.clone()).await;
        if tell.send((now, sent)).await.is_err() || over {
            return;
        }
    }
}

async fn speak(
    mut sink: SplitSink<Wire, Message>,
    mut said: mpsc::Receiver<Vec<i16>>,
    mut raws: mpsc::Receiver<Message>,
    mut queued: mpsc::Receiver<Sent>,
    heard: Arc<std::sync::Mutex<Vec<u8>>>,
) {
    let mut ticks = interval(Duration::from_millis(20));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut words = std::collections::VecDeque::new();
    let mut held: std::collections::VecDeque<Sent> = std::collections::VecDeque::new();
    let mut chunk = 0_u64;
    let mark = |name: &str| {
        json!({"event": "mark", "sequenceNumber": "4", "mark": {"name": name}, "streamSid": "MZ18ad3ab5a668481ce02b83e7395059f0"})
            .to_string()
    };
    loop {
        let mut messages = Vec::new();
        tokio::select! {
            Some(pcm) = said.recv() => words.extend(pcm),
            Some(raw) = raws.recv() => messages.push(raw),
            Some(sent) = queued.recv() => match sent {
                Sent::Clear => {
                    for cleared in held.drain(..) {
                        if let Sent::Mark(name) = cleared {
                            messages.push(Message::text(mark(&name)));
                        }
                    }
                }
                sent => held.push_back(sent),
            },
            _ = ticks.tick() => {
                let frame: Vec<i16> = (0..160).map(|_| words.pop_front().unwrap_or(0)).collect();
                let mut mulaw = Vec::new();
                g711::mu_law_encode_into(&frame, &mut mulaw);
                chunk += 1;
                messages.push(Message::text(
                    json!({"event": "media", "sequenceNumber": (chunk + 1).to_string(), "streamSid": "MZ18ad3ab5a668481ce02b83e7395059f0",
                           "media": {"track": "inbound", "chunk": chunk.to_string(), "timestamp": (chunk * 20).to_string(),
                                     "payload": STANDARD.encode(&mulaw)}})
                    .to_string(),
                ));
                let mut played = vec![g711::MU_LAW_SILENCE; 160];
                while let Some(next) = held.pop_front() {
                    match next {
                        Sent::Mark(name) => messages.push(Message::text(mark(&name))),
                        Sent::Media(media) => {
                            played = media;
                            break;
                        }
                        _ => {}
                    }
                }
                // What is behind the frame that is being played comes back with the next.
                heard.lock().expect("nobody panics with it").extend(played);
            }
        }
        for message in messages {
            if sink.send(message).await.is_err() {
                return;
            }
        }
    }
}

fn question() -> Vec<i16> {
    [silence(8_000, 200), tone(8_000, 800), silence(8_000, 200)].concat()
}

/// A call is greeted, heard, answered; frames come 20 ms each, up to 200 ms ahead, with marks among them and at their end.
#[tokio::test]
async fn a_call_is_answered() {
    let fakes = Fakes::new(ScriptedStt::new(["good morning"]), ScriptedLlm::echo());
    let house = House::with(fakes, TwilioOptions::default(), "Hello there.").await;
    let mut twilio = Twilio::call(house.address, json!({"from": "+4930123", "to": "200", "plan": "gold"})).await;
    // The greeting, 12 characters of 30 ms; its last frame is followed by a mark.
    let mut media = 0;
    let mut marks = 0;
    while media < 18 || marks < 2 {
        twilio
            .until("the greeting", |_, sent| match sent {
                Sent::Media(mulaw) => {
                    assert_eq!(mulaw.len(), 160);
                    media += 1;
                    Some(())
                }
                Sent::Mark(_) => {
                    marks += 1;
                    Some(())
                }
                _ => None,
            })
            .await;
    }
    let calls = house.phones.board().calls();
    assert_eq!(calls.len(), 1);
    let told = serde_json::to_value(&calls[0]).expect("a call is JSON");
    assert_eq!(
        (&told["wire"], &told["call"], &told["caller"], &told["dialled"]),
        (&json!("twilio"), &json!("CA1"), &json!("+4930123"), &json!("200"))
    );
    twilio.say(question()).await;
    twilio
        .until("an answer", |_, sent| {
            matches!(sent, Sent::Media(mulaw) if is_loud(mulaw)).then_some(())
        })
        .await;
    assert_eq!(house.engine.live(), 1);
    let prompt = format!("{:?}", house.fakes.llm.prompts().last().expect("it was asked"));
    assert!(!prompt.contains("4930123"), "what is private isn't printed");
    twilio.raw(r#"{"event":"stop","sequenceNumber":"9","stop":{"accountSid":"AC1","callSid":"CA1"},"streamSid":"MZ18ad3ab5a668481ce02b83e7395059f0"}"#).await;
    twilio.closed().await;
    eventually("the session ends", LIMIT, || house.engine.live() == 0).await;
}

/// Barge-in: what Twilio holds is cleared, nothing of the reply follows, and the marks that come back at once say nothing.
#[tokio::test]
async fn the_caller_interrupts() {
    let fakes = Fakes::new(ScriptedStt::new(["stop please now"]), ScriptedLlm::echo())
        .voice(ScriptedTts::default().millis_per_char(100));
    let greeting = "This is a very long greeting that nobody wants to hear to its end, and so it will be interrupted.";
    let house = House::with(fakes, TwilioOptions::default(), greeting).await;
    let mut twilio = Twilio::call(house.address, json!({})).await;
    for _ in 0..50 {
        twilio
            .until("the greeting", |_, sent| matches!(sent, Sent::Media(_)).then_some(()))
            .await;
    }
    twilio.say(question()).await;
    twilio
        .until("a clear", |_, sent| (*sent == Sent::Clear).then_some(()))
        .await;
    let before = twilio.loud_millis();
    twilio
        .until("the next reply", |_, sent| matches!(sent, Sent::Media(_)).then_some(()))
        .await;
    // One frame was in the caller's ear already.
    assert!(twilio.loud_millis() <= before + 40);
    assert_eq!(house.engine.live(), 1);
}

/// The goodbye is heard to its end before the socket is closed, and the TwiML goes on.
#[tokio::test]
async fn the_last_words_are_heard() {
    let house = {
        let fakes = Fakes::default();
        let registry = Arc::new(Registry::default());
        registry.install(Backend::Vad(fakes.vad.clone()));
        registry.install(Backend::Stt(fakes.stt.clone()));
        registry.install(Backend::Tts(fakes.tts.clone()));
        registry.mark_missing(BackendKind::Llm, "not configured".to_owned());
        registry.mark_missing(BackendKind::Turn, "not needed here".to_owned());
        let engine = Engine::new(EngineOptions::default(), registry, Arc::new(Metrics::default()));
        let phones = Phones::new(
            engine.clone(),
            PhoneOptions {
                settings: Settings::default(),
                greeting: String::new(),
                without_llm: "Nobody is here to answer.".to_owned(),
                trouble: String::new(),
                parrot: false,
                ..PhoneOptions::default()
            },
        );
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a port");
        let address = listener.local_addr().expect("it has an address");
        let routes = twilio::routes(phones.clone(), TwilioOptions::default());
        let serving = tokio::spawn(repartee::api::serve(
            listener,
            routes,
            engine.clone(),
            std::future::pending(),
        ));
        House {
            engine,
            phones,
            address,
            fakes,
            serving,
        }
    };
    let mut twilio = Twilio::call(house.address, json!({})).await;
    assert_eq!(twilio.closed().await, Some(1_000));
    // 25 characters of 30 ms.
    let heard = twilio.loud_millis();
    assert!((720..=760).contains(&heard), "{heard} ms");
    eventually("the session ends", LIMIT, || house.engine.live() == 0).await;
    assert!(house.phones.board().calls().is_empty());
}

/// Keys reach the session. Rubbish in between is skipped.
#[tokio::test]
async fn keys_and_rubbish() {
    let house = House::start().await;
    let mut twilio = Twilio::call(house.address, json!({})).await;
    for text in [
        "not json",
        "{}",
        r#"{"event":"media"}"#,
        r#"{"event":"media","media":{"payload":"!!!"}}"#,
        r#"{"event":"media","media":{"track":"inbound","payload":""}}"#,
        r#"{"event":"media","media":{"track":"outbound","payload":"AAAA"}}"#,
        r#"{"event":"mark","mark":{"name":"never sent"}}"#,
        r#"{"event":"dtmf","dtmf":{"digit":"ten"}}"#,
        r#"{"event":"dance"}"#,
        r#"{"event":"dtmf","dtmf":{"track":"inbound_track","digit":"1"}}"#,
    ] {
        twilio.raw(text).await;
    }
    twilio
        .raw
        .send(Message::Binary(vec![0; 640].into()))
        .await
        .expect("it stands");
    twilio.say(question()).await;
    twilio
        .until("an answer", |_, sent| matches!(sent, Sent::Media(_)).then_some(()))
        .await;
    drop(twilio);
    eventually("the session ends", LIMIT, || house.engine.live() == 0).await;
}

/// What Twilio never does opens no session, or ends it.
#[tokio::test]
async fn who_isnt_twilio_gets_nothing() {
    let options = TwilioOptions {
        token: Some(Arc::from("open sesame")),
        start_timeout: Duration::from_millis(300),
        ..TwilioOptions::default()
    };
    let house = House::with(Fakes::default(), options, "").await;
    let wrong_format = start(json!({"token": "open sesame"})).replace("8000", "16000");
    let flood = "x".repeat(70_000);
    for first in [
        None,
        Some("hello"),
        Some(r#"{"event":"stop"}"#),
        Some(&start(json!({}))),
        Some(&start(json!({"token": "open"}))),
        Some(&wrong_format),
        Some(&flood),
    ] {
        let mut socket = connect_with(house.address, &[]).await.expect("the WebSocket stands");
        if let Some(first) = first {
            let _ = socket.send(Message::text(first)).await;
        }
        let ended = async {
            while let Some(Ok(message)) = socket.next().await {
                assert!(message.is_close(), "{message:?}");
            }
        };
        timeout(LIMIT, ended).await.expect("it ends");
        assert_eq!(house.engine.live(), 0);
    }
    // A page of another site.
    let origin = [("origin", "https://evil.example".to_owned())];
    assert_eq!(connect_with(house.address, &origin).await.err(), Some(403));
    let mut twilio = Twilio::call(house.address, json!({"token": "open sesame"})).await;
    twilio.say(question()).await;
    twilio
        .until("an answer", |_, sent| matches!(sent, Sent::Media(_)).then_some(()))
        .await;
    let call = serde_json::to_string(&house.phones.board().calls()).expect("JSON");
    assert!(call.contains("CA1") && !call.contains("sesame"), "{call}");
    // Nothing but rubbish: it isn't Twilio.
    for _ in 0..60 {
        if twilio.raw.send(Message::text("{}")).await.is_err() {
            break;
        }
    }
}

/// With the account's auth token, only signed requests get in.
#[tokio::test]
async fn requests_are_signed() {
    let options = TwilioOptions {
        auth_token: Some(Arc::from("12345")),
        public_url: Some(Arc::from("wss://voice.example/twilio")),
        ..TwilioOptions::default()
    };
    let house = House::with(Fakes::default(), options, "").await;
    assert_eq!(connect_with(house.address, &[]).await.err(), Some(403));
    let wrong = [("x-twilio-signature", "AAAA".to_owned())];
    assert_eq!(connect_with(house.address, &wrong).await.err(), Some(403));
    let right = [("x-twilio-signature", "9drV9w30+xO3uRD6ZxQMOiPUmnw=".to_owned())];
    assert!(connect_with(house.address, &right).await.is_ok());
}

/// A Twilio that takes nothing any more costs no memory and no time of anybody else's; the call ends when its socket does.
#[tokio::test]
async fn a_peer_that_reads_nothing() {
    let fakes =
        Fakes::new(ScriptedStt::measuring(), ScriptedLlm::echo()).voice(ScriptedTts::default().millis_per_char(200));
    let greeting = "A greeting that is long enough to fill every buffer that there may be between the two of us.";
    let house = House::with(fakes, TwilioOptions::default(), greeting).await;
    let mut deaf = connect_with(house.address, &[]).await.expect("it stands");
    deaf.send(Message::text(start(json!({})))).await.expect("it is taken");
    eventually("the session", LIMIT, || house.engine.live() == 1).await;
    // Another call goes on beside it.
    let mut twilio = Twilio::call(house.address, json!({})).await;
    let mut last: Option<Instant> = None;
    let mut worst = Duration::ZERO;
    for _ in 0..100 {
        let at = twilio
            .until("the greeting", |at, sent| matches!(sent, Sent::Media(_)).then_some(at))
            .await;
        if let Some(last) = last {
            worst = worst.max(at - last);
        }
        last = Some(at);
    }
    assert!(worst < Duration::from_secs(1), "{worst:?}");
    #[expect(clippy::disallowed_methods, reason = "a test's own clock")]
    sleep_until(Instant::now() + Duration::from_millis(50)).await;
    drop(deaf);
    drop(twilio);
    eventually("both sessions end", LIMIT, || house.engine.live() == 0).await;
}
