//! A server that speaks AVA's wire over scripted backends, and a client that is as strict as AVA's own: it keeps the headers of
//! audio in a queue, and holds every message against AVA's schema.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use jsonschema::Validator;
use repartee::backend::Backend;
use repartee::call::{BackendKind, Settings};
use repartee::engine::{Clock, Engine, EngineOptions};
use repartee::metrics::Metrics;
use repartee::registry::{Registry, Switchboard};
use repartee::time::Time;
use repartee::transport::ava::{self, Ava, AvaOptions};
use repartee_protocol::ava::{Environment, Machine};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::support::Fakes;
use crate::support::loader::{ScriptedLoader, SharedLoader};

/// What must come comes in this time, however busy the machine is.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

pub(crate) struct House {
    pub(crate) engine: Engine,
    pub(crate) address: SocketAddr,
    pub(crate) fakes: Fakes,
    pub(crate) ava: Ava,
    serving: JoinHandle<()>,
}

/// AVA's environment with these variables; a language model is wanted unless they say otherwise.
pub(crate) fn environment(variables: &[(&str, &str)]) -> Environment {
    let (environment, _, mistakes) = Environment::read(Machine { processors: 2 }, |name| {
        let given = variables.iter().find(|(known, _)| *known == name);
        given
            .map(|(_, value)| (*value).to_owned())
            .or_else(|| (name == "LOCAL_AI_MODE").then(|| "full".to_owned()))
    });
    assert_eq!(mistakes, []);
    environment
}

pub(crate) fn options(variables: &[(&str, &str)]) -> AvaOptions {
    let environment = environment(variables);
    let token = environment.server.token.expose();
    AvaOptions {
        token: (!token.is_empty()).then(|| Arc::from(token)),
        loopback: true,
        settings: Settings::default(),
        environment,
    }
}

impl House {
    pub(crate) async fn with(fakes: Fakes, variables: &[(&str, &str)]) -> Self {
        let registry = Arc::new(Registry::default());
        registry.install(Backend::Vad(fakes.vad.clone()));
        registry.install(Backend::Stt(fakes.stt.clone()));
        registry.install(Backend::Llm(fakes.llm.clone()));
        registry.install(Backend::Tts(fakes.tts.clone()));
        registry.mark_missing(BackendKind::Turn, "not needed here".to_owned());
        Self::over(registry, fakes, options(variables)).await
    }

    /// Models are loaded by the scripted loader, which takes so long for each.
    pub(crate) async fn switching(takes: Duration, variables: &[(&str, &str)]) -> (Self, Arc<ScriptedLoader>) {
        let house = Self::with(Fakes::default(), variables).await;
        let registry = Arc::clone(house.engine.registry());
        let loader = Arc::new(ScriptedLoader::new(&registry).load_takes(takes));
        let shared = Arc::new(SharedLoader(Arc::clone(&loader)));
        house.engine.set_switchboard(Switchboard::new(registry, shared));
        (house, loader)
    }

    pub(crate) async fn over(registry: Arc<Registry>, fakes: Fakes, options: AvaOptions) -> Self {
        let engine = Engine::new(
            EngineOptions {
                threads: 1,
                ..EngineOptions::default()
            },
            registry,
            Arc::new(Metrics::default()),
        );
        let ava = Ava::new(engine.clone(), options);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a port");
        let address = listener.local_addr().expect("it has an address");
        // As `repartee serve` does it.
        let serving = tokio::spawn(repartee::api::serve(
            listener,
            ava::routes(ava.clone()),
            engine.clone(),
            std::future::pending(),
        ));
        Self {
            engine,
            address,
            fakes,
            ava,
            serving,
        }
    }

    pub(crate) async fn client(&self) -> Client {
        Client::connect(self.address, "/ws").await
    }

    /// A client that has set up a call as AVA's engine does.
    pub(crate) async fn caller(&self, call: &str, tools: &[&str]) -> Client {
        let mut client = self.client().await;
        client.set_up(call, tools).await;
        client
    }
}

impl Drop for House {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn validator() -> &'static Validator {
    static VALIDATOR: OnceLock<Validator> = OnceLock::new();
    VALIDATOR.get_or_init(|| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("protocol/schema/ava-local-ai-server.schema.json");
        let text = std::fs::read_to_string(path).expect("the schema is part of the project");
        let schema: Value = serde_json::from_str(&text).expect("it is JSON");
        jsonschema::validator_for(&schema).expect("it is a schema")
    })
}

/// Messages that AVA's schema doesn't have.
const NOT_IN_SCHEMA: &[&str] = &[
    "barge_in_ack",
    "backends_response",
    "backend_schema_response",
    "llm_token",
];

/// What has come.
#[derive(Clone, Debug)]
pub(crate) enum Met {
    Text(Value),
    /// A header with its binary message.
    Audio(Value, Bytes),
    Closed(Option<u16>, String),
}

impl Met {
    pub(crate) fn kind(&self) -> &str {
        match self {
            Self::Text(value) | Self::Audio(value, _) => value["type"].as_str().expect("a message has a type"),
            Self::Closed(..) => "closed",
        }
    }
}

pub(crate) struct Client {
    pub(crate) socket: WebSocketStream<TcpStream>,
    pub(crate) clock: Clock,
    /// Everything that came, and when.
    pub(crate) met: Vec<(Time, Met)>,
    call: String,
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr, path: &str) -> Self {
        let tcp = TcpStream::connect(address).await.expect("the server listens");
        tcp.set_nodelay(true).expect("a socket takes it");
        let (socket, _) = client_async(format!("ws://{address}{path}"), tcp)
            .await
            .expect("the server speaks WebSocket at any path");
        Self {
            socket,
            clock: Clock::start(),
            met: Vec::new(),
            call: "unknown".to_owned(),
        }
    }

    pub(crate) async fn send(&mut self, message: Value) {
        self.raw(&message.to_string()).await;
    }

    pub(crate) async fn raw(&mut self, text: &str) {
        self.socket
            .send(Message::text(text))
            .await
            .expect("the server takes it");
    }

    pub(crate) async fn binary(&mut self, bytes: Vec<u8>) {
        self.socket
            .send(Message::Binary(bytes.into()))
            .await
            .expect("the server takes it");
    }

    async fn message(&mut self) -> Message {
        loop {
            let message = timeout(LIMIT, self.socket.next()).await.expect("something comes");
            match message {
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(message)) => return message,
                None
                | Some(Err(Error::ConnectionClosed | Error::AlreadyClosed | Error::Protocol(_) | Error::Io(_))) => {
                    return Message::Close(None);
                }
                Some(Err(error)) => panic!("{error}"),
            }
        }
    }

    /// The next message, checked.
    pub(crate) async fn next(&mut self) -> Met {
        let met = match self.message().await {
            Message::Text(text) => {
                let value: Value = serde_json::from_str(&text).expect("text is JSON");
                let kind = value["type"].as_str().expect("a message has a type").to_owned();
                if !NOT_IN_SCHEMA.contains(&kind.as_str()) {
                    let errors: Vec<String> = validator().iter_errors(&value).map(|error| error.to_string()).collect();
                    assert!(errors.is_empty(), "{value} isn't in AVA's schema: {errors:?}");
                }
                if kind == "tts_audio" {
                    // Exactly one binary message, of the length that was promised.
                    match self.message().await {
                        Message::Binary(audio) => {
                            assert!(!audio.is_empty(), "no audio behind {value}");
                            assert_eq!(value["byte_length"], audio.len(), "{value}");
                            assert_eq!(
                                value["call_id"],
                                self.call.as_str(),
                                "the client drops audio of another call"
                            );
                            Met::Audio(value, audio)
                        }
                        other => panic!("{other:?} behind {value}"),
                    }
                } else {
                    Met::Text(value)
                }
            }
            Message::Binary(audio) => panic!("{} bytes without a header", audio.len()),
            Message::Close(frame) => {
                let (code, reason) = frame.map_or((None, String::new()), |frame| {
                    (Some(frame.code.into()), frame.reason.to_string())
                });
                Met::Closed(code, reason)
            }
            other => panic!("{other:?}"),
        };
        self.met.push((self.clock.now(), met.clone()));
        met
    }

    /// The very next message is of this type.
    pub(crate) async fn expect(&mut self, kind: &str) -> Value {
        match self.next().await {
            Met::Text(value) if value["type"] == kind => value,
            other => panic!("{kind} was expected, {other:?} came"),
        }
    }

    /// The next message of this type; others before it are passed over.
    pub(crate) async fn until(&mut self, kind: &str) -> Value {
        loop {
            match self.next().await {
                Met::Text(value) if value["type"] == kind => return value,
                Met::Closed(code, reason) => panic!("closed with {code:?} {reason} before {kind}"),
                _ => {}
            }
        }
    }

    /// The next final transcript.
    pub(crate) async fn transcript(&mut self) -> Value {
        loop {
            let result = self.until("stt_result").await;
            if result["is_final"] == true {
                return result;
            }
        }
    }

    /// The next audio.
    pub(crate) async fn audio(&mut self) -> (Value, Bytes) {
        loop {
            match self.next().await {
                Met::Audio(header, audio) => return (header, audio),
                Met::Closed(code, reason) => panic!("closed with {code:?} {reason} before audio"),
                Met::Text(_) => {}
            }
        }
    }

    /// Whatever comes within this time.
    pub(crate) async fn within(&mut self, limit: Duration) -> Vec<Met> {
        let from = self.met.len();
        let _ = timeout(limit, async {
            loop {
                if let Met::Closed(..) = self.next().await {
                    return;
                }
            }
        })
        .await;
        self.met[from..].iter().map(|(_, met)| met.clone()).collect()
    }

    /// Nothing comes within this time.
    pub(crate) async fn expect_silence(&mut self, limit: Duration) {
        let met = self.within(limit).await;
        assert!(met.is_empty(), "{met:?}");
    }

    /// `status` is answered; whatever comes before it is handed back.
    pub(crate) async fn expect_alive(&mut self) -> Value {
        self.send(json!({ "type": "status" })).await;
        self.until("status_response").await
    }

    /// Steps 3 to 5 of a call's set-up.
    pub(crate) async fn set_up(&mut self, call: &str, tools: &[&str]) {
        self.call = call.to_owned();
        self.send(json!({ "type": "status" })).await;
        self.expect("status_response").await;
        self.send(json!({
            "type": "switch_model", "scope": "session", "call_id": call, "request_id": "prompt-sync-1",
            "protocol_version": 2, "llm_config": { "system_prompt": "You are Ava." },
        }))
        .await;
        let answer = self.expect("switch_response").await;
        assert_eq!(answer["status"], "success");
        assert_eq!(
            (&answer["call_id"], &answer["request_id"]),
            (&json!(call), &json!("prompt-sync-1"))
        );
        let described: Vec<Value> = tools
            .iter()
            .map(|name| json!({ "name": name, "description": "does it", "parameters": { "type": "object" } }))
            .collect();
        self.send(json!({
            "type": "tool_context", "protocol_version": 2, "call_id": call, "allowed_tools": tools, "tools": described,
            "tool_policy": "compatible",
        }))
        .await;
    }

    /// This call's messages are what is expected, without its set-up.
    pub(crate) fn of_call(mut self, call: &str) -> Self {
        self.call = call.to_owned();
        self
    }

    /// Audio as AVA's engine sends it: bursts of 320 ms.
    pub(crate) async fn hear(&mut self, pcm: &[i16], mode: &str) {
        for burst in pcm.chunks(16_000 * 320 / 1_000) {
            let bytes: Vec<u8> = burst.iter().flat_map(|sample| sample.to_le_bytes()).collect();
            let call = self.call.clone();
            self.send(json!({
                "type": "audio", "data": STANDARD.encode(bytes), "rate": 16_000, "mode": mode, "call_id": call,
            }))
            .await;
        }
    }

    /// Something is said, and then nothing for long enough.
    pub(crate) async fn speak(&mut self, mode: &str) {
        let mut pcm = crate::support::tone(16_000, 500);
        pcm.extend(crate::support::silence(16_000, 1_000));
        self.hear(&pcm, mode).await;
    }

    pub(crate) async fn barge_in(&mut self, id: &str, rollback: bool, reason: &str) {
        let call = self.call.clone();
        self.send(json!({
            "type": "barge_in", "protocol_version": 2, "call_id": call, "request_id": id,
            "rollback_assistant": rollback, "reason": reason,
        }))
        .await;
    }
}

/// The bytes of a `tts_response`.
pub(crate) fn audio_of(response: &Value) -> Vec<u8> {
    let data = response["audio_data"].as_str().expect("it has audio");
    let audio = STANDARD.decode(data).expect("it is base64");
    assert_eq!(response["byte_length"], audio.len());
    audio
}
