//! The ARI application against a fake Asterisk, which keeps channels and bridges as the real one does and connects to the real wire
//! for AudioSocket; the engine is the real one, with scripted backends. (`make test-asterisk` has the real Asterisk.)

mod support;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ws::{Message as WsMessage, WebSocketUpgrade};
use axum::extract::{Query, Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{any, get};
use repartee::backend::Backend;
use repartee::backend::fake::{ScriptedLlm, ScriptedStt};
use repartee::call::{BackendKind, Digit, FinishReason, KeyCollection, LlmEvent, Settings, ToolCall};
use repartee::engine::{Engine, EngineOptions};
use repartee::metrics::Metrics;
use repartee::phone::{Admission, PhoneOptions, Phones};
use repartee::pii::Pii;
use repartee::registry::Registry;
use repartee::transport::ari::{Afterwards, Ari, AriOptions, AriState, Hooks, Media};
use repartee::transport::audiosocket::{self, AudioSocketOptions};
use serde_json::{Value, json};
use support::{Fakes, LIMIT, eventually};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{broadcast, watch};
use tokio::task::JoinHandle;

const APP: &str = "bot";

/// A channel of the fake Asterisk.
#[derive(Debug)]
struct FakeChannel {
    state: &'static str,
    in_app: bool,
    music: bool,
    keys: String,
    /// Its connection to the wire.
    media: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct World {
    channels: BTreeMap<String, FakeChannel>,
    bridges: BTreeMap<String, Vec<String>>,
    /// Who has gone on in the dialplan, and where.
    continued: Vec<(String, String)>,
    asked: Vec<String>,
    /// Bytes of sound that is none of silence, by channel.
    heard: BTreeMap<String, usize>,
    /// Requests that hold this are answered with an error.
    broken: Option<&'static str>,
}

#[derive(Clone, Debug)]
struct FakeAsterisk {
    world: Arc<Mutex<World>>,
    /// Events; an empty one closes the connection.
    events: broadcast::Sender<String>,
    address: SocketAddr,
}

impl FakeAsterisk {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let fake = Self {
            world: Arc::default(),
            events: broadcast::channel(256).0,
            address: listener.local_addr().expect("it has an address"),
        };
        let routes = Router::new()
            .route("/ari/events", get(events))
            .route("/ari/{*path}", any(rest))
            .with_state(fake.clone());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        fake
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, event: &Value) {
        // Nobody may be connected.
        let _ = self.events.send(event.to_string());
    }

    fn channel(&self, id: &str) -> Value {
        let world = self.world();
        let channel = world.channels.get(id);
        json!({
            "id": id, "name": format!("Fake/{id}"), "state": channel.map_or("Up", |channel| channel.state),
            "caller": {"name": "Ada", "number": "0301"}, "connected": {"name": "", "number": ""},
            "dialplan": {"context": "default", "exten": "100", "priority": 2,
                "app_name": if channel.is_none_or(|channel| channel.in_app) { "Stasis" } else { "Echo" }, "app_data": "bot,sales"},
        })
    }

    fn enters(&self, id: &str) {
        let channel = FakeChannel {
            state: "Ring",
            in_app: true,
            music: false,
            keys: String::new(),
            media: None,
        };
        self.world().channels.insert(id.to_owned(), channel);
        self.announce(id);
    }

    fn announce(&self, id: &str) {
        self.tell(&json!({"type": "StasisStart", "application": APP, "args": ["sales"], "channel": self.channel(id)}));
    }

    fn presses(&self, id: &str, keys: &str) {
        for key in keys.chars() {
            self.tell(
                &json!({"type": "ChannelDtmfReceived", "application": APP, "digit": key.to_string(),
                "duration_ms": 100, "channel": self.channel(id)}),
            );
        }
    }

    /// A channel is gone, or only out of the application.
    fn leaves(&self, id: &str, is_gone: bool) -> bool {
        let channel = self.channel(id);
        let mut world = self.world();
        let Some(known) = world.channels.get_mut(id) else {
            return false;
        };
        if !known.in_app && !is_gone {
            return false;
        }
        known.in_app = false;
        if let Some(media) = known.media.take() {
            media.abort();
        }
        for members in world.bridges.values_mut() {
            members.retain(|member| member != id);
        }
        if is_gone {
            world.channels.remove(id);
        }
        drop(world);
        self.tell(&json!({"type": "StasisEnd", "application": APP, "channel": channel}));
        if is_gone {
            self.tell(&json!({"type": "ChannelDestroyed", "application": APP, "cause": 16, "cause_txt": "", "channel": channel}));
        }
        true
    }

    fn asked(&self, part: &str) -> usize {
        self.world().asked.iter().filter(|asked| asked.contains(part)).count()
    }

    fn heard(&self) -> usize {
        self.world().heard.values().sum()
    }

    async fn has_asked(&self, part: &str) {
        eventually(&format!("{part} is asked for"), LIMIT, || self.asked(part) > 0).await;
    }

    async fn is_empty(&self) {
        let is_empty = || {
            let world = self.world();
            world.channels.is_empty() && world.bridges.is_empty()
        };
        eventually("nothing is left in Asterisk", LIMIT, is_empty).await;
    }

    /// Everything in it is gone, and no one is told.
    fn crashes(&self) {
        let mut world = self.world();
        for (_, channel) in std::mem::take(&mut world.channels) {
            if let Some(media) = channel.media {
                media.abort();
            }
        }
        world.bridges.clear();
        drop(world);
        let _ = self.events.send(String::new());
    }

    /// The media channel's own end: to the wire and back.
    async fn carry(self, id: String, host: String, uuid: String) {
        let digits = uuid.replace('-', "");
        let digit = |place: usize| u8::from_str_radix(&digits[place..place + 2], 16).expect("a UUID is hexadecimal");
        let bytes: Vec<u8> = (0..digits.len()).step_by(2).map(digit).collect();
        let Ok(mut stream) = TcpStream::connect(host).await else {
            self.leaves(&id, true);
            return;
        };
        let mut first = vec![0x01, 0x00, 0x10];
        first.extend(bytes);
        stream.write_all(&first).await.expect("the wire listens");
        let mut silence = vec![0x12, 0x02, 0x80];
        silence.resize(643, 0);
        let mut ticks = tokio::time::interval(Duration::from_millis(20));
        let mut buffer = [0; 4_096];
        loop {
            tokio::select! {
                _ = ticks.tick() => if stream.write_all(&silence).await.is_err() { break },
                read = stream.read(&mut buffer) => match read {
                    Ok(0) | Err(_) => break,
                    Ok(count) => {
                        let sound = buffer[..count].iter().filter(|byte| **byte > 0x20).count();
                        *self.world().heard.entry(id.clone()).or_default() += sound;
                    }
                },
            }
        }
        // The task is not to end itself.
        if let Some(channel) = self.world().channels.get_mut(&id) {
            channel.media = None;
        }
        self.leaves(&id, true);
    }
}

async fn events(State(fake): State<FakeAsterisk>, headers: HeaderMap, upgrade: WebSocketUpgrade) -> Response {
    // "repartee:secret"
    if headers
        .get("authorization")
        .is_none_or(|value| value != "Basic cmVwYXJ0ZWU6c2VjcmV0")
    {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let mut events = fake.events.subscribe();
    upgrade.on_upgrade(move |mut socket| async move {
        while let Ok(event) = events.recv().await {
            if event.is_empty() || socket.send(WsMessage::Text(event.into())).await.is_err() {
                return;
            }
        }
    })
}

fn refused(status: StatusCode, message: &str) -> Response {
    (status, json!({ "message": message }).to_string()).into_response()
}

/// All requests but the one for events.
async fn rest(
    State(fake): State<FakeAsterisk>,
    Query(query): Query<BTreeMap<String, String>>,
    request: Request<Body>,
) -> Response {
    let path = request.uri().path().trim_start_matches("/ari/").to_owned();
    let asked = format!(
        "{} {path}?{}",
        request.method(),
        request.uri().query().unwrap_or_default()
    );
    fake.world().asked.push(asked.clone());
    if fake.world().broken.is_some_and(|part| asked.contains(part)) {
        return refused(StatusCode::INTERNAL_SERVER_ERROR, "broken");
    }
    let value = |name: &str| query.get(name).cloned().unwrap_or_default();
    let method = request.method().as_str();
    let parts: Vec<&str> = path.split('/').collect();
    let ok = StatusCode::NO_CONTENT.into_response();
    let not_found = refused(StatusCode::NOT_FOUND, "not found");
    match (method, parts.as_slice()) {
        ("GET", ["asterisk", "info"]) => json!({"system": {"version": "22.10.1"}}).to_string().into_response(),
        ("GET", ["channels"]) => {
            let ids: Vec<String> = fake.world().channels.keys().cloned().collect();
            let channels: Vec<Value> = ids.iter().map(|id| fake.channel(id)).collect();
            Value::from(channels).to_string().into_response()
        }
        ("GET", ["bridges"]) => {
            let bridges: Vec<Value> = fake
                .world()
                .bridges
                .iter()
                .map(|(id, channels)| json!({"id": id, "name": id, "channels": channels}))
                .collect();
            Value::from(bridges).to_string().into_response()
        }
        ("POST", ["bridges"]) => {
            let id = value("bridgeId");
            fake.world().bridges.insert(id.clone(), Vec::new());
            json!({ "id": id }).to_string().into_response()
        }
        ("DELETE", ["bridges", id]) => match fake.world().bridges.remove(*id) {
            Some(_) => ok,
            None => not_found,
        },
        ("POST", ["bridges", id, "addChannel"]) => {
            let mut world = fake.world();
            let channels: Vec<String> = value("channel").split(',').map(str::to_owned).collect();
            if channels.iter().any(|channel| !world.channels.contains_key(channel)) {
                return not_found;
            }
            match world.bridges.get_mut(*id) {
                Some(members) => {
                    members.extend(channels);
                    ok
                }
                None => not_found,
            }
        }
        ("POST", ["bridges", id, "removeChannel"]) => {
            let channel = value("channel");
            match fake.world().bridges.get_mut(*id) {
                Some(members) => {
                    members.retain(|member| *member != channel);
                    ok
                }
                None => not_found,
            }
        }
        ("POST", ["channels", "externalMedia"]) => {
            let id = value("channelId");
            let carrier = fake.clone().carry(id.clone(), value("external_host"), value("data"));
            let channel = FakeChannel {
                state: "Up",
                in_app: true,
                music: false,
                keys: String::new(),
                media: None,
            };
            fake.world().channels.insert(id.clone(), channel);
            let media = tokio::spawn(carrier);
            if let Some(channel) = fake.world().channels.get_mut(&id) {
                channel.media = Some(media);
            }
            // As with the real one, this may be there before the reply.
            fake.announce(&id);
            fake.channel(&id).to_string().into_response()
        }
        ("GET", ["channels", _, "variable"]) => match value("variable").as_str() {
            "ACCOUNT" => json!({"value": "4711"}).to_string().into_response(),
            "DIALPLAN_EXISTS(agents,200,1)" => json!({"value": "1"}).to_string().into_response(),
            name if name.starts_with("DIALPLAN_EXISTS") => json!({"value": "0"}).to_string().into_response(),
            _ => not_found,
        },
        ("DELETE", ["channels", id]) => match fake.leaves(id, true) {
            true => ok,
            false => not_found,
        },
        ("POST", ["channels", id, "continue"]) => match fake.leaves(id, false) {
            true => {
                let place = format!("{},{},{}", value("context"), value("extension"), value("priority"));
                fake.world().continued.push(((*id).to_owned(), place));
                ok
            }
            false => not_found,
        },
        (method, ["channels", id, what]) => match fake.world().channels.get_mut(*id) {
            Some(channel) => {
                match *what {
                    "answer" => channel.state = "Up",
                    "moh" => channel.music = method == "POST",
                    "dtmf" => channel.keys.push_str(&value("dtmf")),
                    _ => return not_found,
                }
                ok
            }
            None => not_found,
        },
        _ => not_found,
    }
}

/// An application beside a fake Asterisk; it ends when this is dropped.
struct House {
    asterisk: FakeAsterisk,
    phones: Phones,
    engine: Engine,
    fakes: Fakes,
    state: watch::Receiver<AriState>,
    running: Vec<JoinHandle<()>>,
}

impl House {
    async fn start(llm: ScriptedLlm) -> Self {
        Self::with(llm, EngineOptions::default(), |_| {}).await
    }

    async fn with(llm: ScriptedLlm, engine: EngineOptions, change: impl FnOnce(&mut AriOptions)) -> Self {
        let asterisk = FakeAsterisk::start().await;
        Self::beside(asterisk, llm, engine, change).await
    }

    async fn beside(
        asterisk: FakeAsterisk,
        llm: ScriptedLlm,
        engine: EngineOptions,
        change: impl FnOnce(&mut AriOptions),
    ) -> Self {
        let fakes = Fakes::new(ScriptedStt::measuring(), llm);
        let registry = Arc::new(Registry::default());
        registry.install(Backend::Vad(fakes.vad.clone()));
        registry.install(Backend::Stt(fakes.stt.clone()));
        registry.install(Backend::Llm(fakes.llm.clone()));
        registry.install(Backend::Tts(fakes.tts.clone()));
        registry.mark_missing(BackendKind::Turn, "not needed here".to_owned());
        let engine = Engine::new(engine, registry, Arc::new(Metrics::default()));
        let settings = Settings {
            keys: Some(KeyCollection {
                terminator: Digit::new('#'),
                timeout_ms: 5_000,
                max_keys: 16,
            }),
            ..Settings::default()
        };
        let phones = Phones::new(
            engine.clone(),
            PhoneOptions {
                settings,
                greeting: String::new(),
                without_llm: "nobody".to_owned(),
                trouble: "trouble".to_owned(),
                parrot: true,
                ..PhoneOptions::default()
            },
        );
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it has an address").to_string();
        let wire = audiosocket::serve(
            listener,
            phones.clone(),
            Admission::new(|_| true),
            AudioSocketOptions::default(),
        );
        let url = format!("http://{}", asterisk.address);
        let mut options = AriOptions::new(&url, "repartee", "secret", APP, Media::AudioSocket { address });
        options.variables = vec!["ACCOUNT".to_owned(), "MISSING".to_owned()];
        options.transfer_context = "agents".to_owned();
        change(&mut options);
        let ari = Ari::new(phones.clone(), options, Hooks::default()).expect("the options make sense");
        let state = ari.state();
        let running = vec![tokio::spawn(wire), tokio::spawn(ari.run())];
        Self {
            asterisk,
            phones,
            engine,
            fakes,
            state,
            running,
        }
    }

    async fn connected(mut self) -> Self {
        self.is(|state| matches!(state, AriState::Connected { .. })).await;
        self
    }

    async fn is(&mut self, wanted: impl FnMut(&AriState) -> bool) {
        let waiting = self.state.wait_for(wanted);
        tokio::time::timeout(LIMIT, waiting)
            .await
            .expect("the state comes in time")
            .expect("the application runs");
    }

    /// A caller with whom there is a conversation.
    async fn call(&self, id: &str) {
        let before = self.engine.live();
        self.asterisk.enters(id);
        let is_talking = || {
            let world = self.asterisk.world();
            self.engine.live() > before && world.bridges.values().any(|members| members.len() == 2)
        };
        eventually("the call is answered", LIMIT, is_talking).await;
    }

    async fn is_over(&self) {
        eventually("the session is over", LIMIT, || self.engine.live() == 0).await;
    }
}

impl Drop for House {
    fn drop(&mut self) {
        for task in &self.running {
            task.abort();
        }
    }
}

/// A model that says this, and wants a tool called.
fn says_and_calls(text: &str, name: &str, arguments: &str) -> Vec<LlmEvent> {
    vec![
        LlmEvent::Delta { text: Pii::from(text) },
        LlmEvent::ToolCall(ToolCall {
            call_id: "t1".to_owned(),
            name: name.to_owned(),
            arguments: Pii::from(arguments),
        }),
        LlmEvent::Done {
            reason: FinishReason::ToolCalls,
        },
    ]
}

fn says(text: &str) -> Vec<LlmEvent> {
    vec![LlmEvent::Delta { text: Pii::from(text) }]
}

#[tokio::test]
async fn a_call_is_answered_known_and_left_tidy() {
    let house = House::start(ScriptedLlm::echo()).await.connected().await;
    house.call("1.1").await;
    // The dialplan may send a channel here twice in a breath, and an event can come twice.
    house.asterisk.announce("1.1");
    let call = house.phones.board().calls().pop().expect("it is on the board");
    assert_eq!(call.wire, "audiosocket");
    let facts = call.facts;
    let known = |fact: &Option<Pii<String>>| fact.as_ref().map(|fact| fact.expose().clone());
    assert_eq!(known(&facts.caller).as_deref(), Some("0301"));
    assert_eq!(known(&facts.caller_name).as_deref(), Some("Ada"));
    assert_eq!(known(&facts.dialled).as_deref(), Some("100"));
    let variables: Vec<(&str, &str)> = facts
        .variables
        .iter()
        .map(|(name, value)| (name.as_str(), value.expose().as_str()))
        .collect();
    assert_eq!(variables, [("ARG1", "sales"), ("ACCOUNT", "4711")]);
    // Keys come by ARI.
    house.asterisk.presses("1.1", "42#");
    eventually("the keys are a turn", LIMIT, || !house.fakes.llm.prompts().is_empty()).await;
    let prompt = format!("{:?}", house.fakes.llm.prompts()[0].tools);
    for tool in ["hangup", "transfer", "send_dtmf", "hold"] {
        assert!(prompt.contains(tool), "{prompt}");
    }
    eventually("the reply is heard", LIMIT, || house.asterisk.heard() > 0).await;
    assert_eq!(house.engine.live(), 1);
    assert!(house.asterisk.leaves("1.1", true));
    house.is_over().await;
    house.asterisk.is_empty().await;
    assert_eq!(house.asterisk.asked("externalMedia"), 1);
    assert_eq!(house.asterisk.asked("answer"), 1);
}

#[tokio::test]
async fn a_goodbye_is_heard_before_the_call_ends() {
    let goodbye = "Goodbye, and thank you for calling us today.";
    let llm = ScriptedLlm::new([says_and_calls(goodbye, "hangup", "{}")]);
    let house = House::start(llm).await.connected().await;
    house.call("1.1").await;
    house.asterisk.presses("1.1", "1#");
    house.asterisk.has_asked("DELETE channels/1.1").await;
    // 30 ms a character at 16 kHz; what is quiet in it doesn't count.
    let spoken = goodbye.len() * 30 * 16 * 2;
    let heard = house.asterisk.heard();
    assert!(heard > spoken / 4, "{heard} bytes of {spoken}");
    house.is_over().await;
    house.asterisk.is_empty().await;
    assert!(house.asterisk.world().continued.is_empty());
}

#[tokio::test]
async fn a_caller_is_transferred_and_a_wrong_extension_is_told_to_the_model() {
    let llm = ScriptedLlm::new([
        says_and_calls("Wait.", "transfer", r#"{"extension":"999"}"#),
        says("That is no extension."),
        says_and_calls("I connect you.", "transfer", r#"{"extension":"200"}"#),
    ]);
    let house = House::start(llm).await.connected().await;
    house.call("1.1").await;
    house.asterisk.presses("1.1", "1#");
    eventually("the model is told", LIMIT, || {
        let prompts = house.fakes.llm.prompts();
        prompts.len() > 1
    })
    .await;
    let told = house.fakes.llm.prompts()[1].messages.last().cloned();
    let told = serde_json::to_string(&told).unwrap();
    assert!(told.contains("there is no extension 999"), "{told}");
    house.asterisk.presses("1.1", "2#");
    house.asterisk.has_asked("extension=200").await;
    house.is_over().await;
    eventually("only the caller is left", LIMIT, || {
        let world = house.asterisk.world();
        world.bridges.is_empty() && world.channels.len() == 1
    })
    .await;
    let continued = house.asterisk.world().continued.clone();
    assert_eq!(continued, [("1.1".to_owned(), "agents,200,1".to_owned())]);
    assert_eq!(house.asterisk.asked("DELETE channels/1.1"), 0);
}

#[tokio::test]
async fn keys_are_sent_and_a_caller_is_held_and_taken_back() {
    let llm = ScriptedLlm::new([
        says_and_calls("", "send_dtmf", r#"{"digits":"1w2#"}"#),
        says_and_calls("", "hold", r#"{"on":true}"#),
        says("Held."),
        says_and_calls("", "hold", r#"{"on":false}"#),
        says("Back."),
    ]);
    let house = House::start(llm).await.connected().await;
    house.call("1.1").await;
    let state = |house: &House| {
        let world = house.asterisk.world();
        let members = world.bridges.values().next().map_or(0, Vec::len);
        (world.channels["1.1"].music, members, world.channels["1.1"].keys.clone())
    };
    house.asterisk.presses("1.1", "1#");
    eventually("he is on hold", LIMIT, || state(&house) == (true, 1, "1w2#".to_owned())).await;
    eventually("the model knows", LIMIT, || house.fakes.llm.prompts().len() == 3).await;
    house.asterisk.presses("1.1", "2#");
    eventually("he is back", LIMIT, || state(&house) == (false, 2, "1w2#".to_owned())).await;
    assert!(house.asterisk.leaves("1.1", true));
    house.is_over().await;
    house.asterisk.is_empty().await;
}

#[tokio::test]
async fn where_there_is_no_room_the_dialplan_goes_on() {
    for (afterwards, is_continued) in [(Afterwards::Continue, true), (Afterwards::HangUp, false)] {
        let engine = EngineOptions {
            max_sessions: 1,
            ..EngineOptions::default()
        };
        let house = House::with(ScriptedLlm::echo(), engine, |options| options.afterwards = afterwards).await;
        let house = house.connected().await;
        house.call("1.1").await;
        house.asterisk.enters("1.2");
        let part = if is_continued {
            "channels/1.2/continue"
        } else {
            "channels/1.2?reason=congestion"
        };
        house.asterisk.has_asked(part).await;
        assert_eq!(house.asterisk.asked("channels/1.2/answer"), 0);
        assert_eq!(house.engine.live(), 1);
    }
}

#[tokio::test]
async fn what_breaks_during_the_set_up_leaves_nothing() {
    for broken in ["/answer", "POST bridges?", "externalMedia", "addChannel"] {
        let house = House::start(ScriptedLlm::echo()).await.connected().await;
        house.asterisk.world().broken = Some(broken);
        house.asterisk.enters("1.1");
        house.asterisk.has_asked("channels/1.1/continue").await;
        house.is_over().await;
        let only_the_caller = || {
            let world = house.asterisk.world();
            world.bridges.is_empty() && world.channels.len() == 1
        };
        eventually("only the caller is left", LIMIT, only_the_caller).await;
        // And the next call is one.
        house.asterisk.world().broken = None;
        house.call("1.2").await;
    }
}

#[tokio::test]
async fn a_lost_connection_is_made_again_and_calls_go_on() {
    let mut house = House::start(ScriptedLlm::echo()).await.connected().await;
    house.call("1.1").await;
    let _ = house.asterisk.events.send(String::new());
    house.is(|state| matches!(state, AriState::Lost { .. })).await;
    // Meanwhile one caller has come, and one who was known has gone.
    house.call_unheard("1.2");
    house.is(|state| matches!(state, AriState::Connected { .. })).await;
    eventually("both are served", LIMIT, || house.engine.live() == 2).await;
    for id in ["1.1", "1.2"] {
        assert!(house.asterisk.leaves(id, true));
    }
    house.is_over().await;
    house.asterisk.is_empty().await;
}

#[tokio::test]
async fn what_a_crash_has_left_is_ended_and_who_waits_is_answered() {
    let asterisk = FakeAsterisk::start().await;
    let old = format!("repartee-{APP}-{}", "0".repeat(32));
    let strangers = ["repartee-bot2-00000000000000000000000000000000", "conference"];
    asterisk.enters("1.1");
    asterisk.enters(&old);
    asterisk
        .world()
        .bridges
        .insert(old.clone(), vec!["1.1".to_owned(), old.clone()]);
    for stranger in strangers {
        asterisk.world().bridges.insert(stranger.to_owned(), Vec::new());
    }
    let house = House::beside(asterisk, ScriptedLlm::echo(), EngineOptions::default(), |_| {}).await;
    eventually("he is answered", LIMIT, || house.engine.live() == 1).await;
    eventually("the old is gone", LIMIT, || {
        let world = house.asterisk.world();
        !world.bridges.contains_key(&old) && !world.channels.contains_key(&old)
    })
    .await;
    for stranger in strangers {
        assert!(house.asterisk.world().bridges.contains_key(stranger));
    }
}

#[tokio::test]
async fn a_restart_in_the_middle_ends_calls_and_the_next_is_answered() {
    let mut house = House::start(ScriptedLlm::echo()).await.connected().await;
    house.call("1.1").await;
    house.asterisk.crashes();
    house.is_over().await;
    house.is(|state| matches!(state, AriState::Connected { .. })).await;
    house.call("1.2").await;
    assert_eq!(house.asterisk.world().bridges.len(), 1);
}

#[tokio::test]
async fn an_application_that_is_taken_over_is_not_fought_over() {
    let mut house = House::start(ScriptedLlm::echo()).await.connected().await;
    house.call("1.1").await;
    house
        .asterisk
        .tell(&json!({"type": "ApplicationReplaced", "application": APP}));
    house.is(|state| matches!(state, AriState::Replaced)).await;
    assert_eq!(house.engine.live(), 1);
    // The call's own end is still seen to: its sound tells.
    let name = house
        .asterisk
        .world()
        .bridges
        .keys()
        .next()
        .cloned()
        .expect("it has a bridge");
    assert!(house.asterisk.leaves(&name, true));
    house.is_over().await;
    house.asterisk.has_asked("DELETE bridges").await;
}

#[tokio::test]
async fn a_wrong_password_is_said() {
    let house = House::with(ScriptedLlm::echo(), EngineOptions::default(), |options| {
        options.password = Pii::from("wrong");
    });
    let mut house = house.await;
    house
        .is(|state| matches!(state, AriState::Lost { reason } if reason.contains("password is refused")))
        .await;
}

impl House {
    /// A caller comes while nobody listens.
    fn call_unheard(&self, id: &str) {
        let channel = FakeChannel {
            state: "Ring",
            in_app: true,
            music: false,
            keys: String::new(),
            media: None,
        };
        self.asterisk.world().channels.insert(id.to_owned(), channel);
    }
}
