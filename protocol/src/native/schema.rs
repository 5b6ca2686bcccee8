//! JSON Schema and AsyncAPI documents of the native wire, made out of its types.
//!
//! The files under `protocol/schema/` are written by `cargo run -p repartee-protocol --example generate_schema`; a test
//! compares them with what the types say.

use schemars::generate::{Contract, SchemaSettings};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::control::{Bare, Cancel, Dtmf, Edit, Hello, Say, Text, ToolOutput};
use super::event::{
    AudioDone, AudioStarted, Backend, Closed, DtmfPressed, Ducked, ErrorEvent, GoingAway, HistoryEdited, Pong, Ready,
    ResponseDone, ResponseStarted, ResponseText, SpeechStarted, SpeechStopped, Status, ToolCall, Transcript,
    TurnReport, Updated,
};
use super::switching::{
    Approve, Capabilities, ResponsePrepared, Shadowed, Switch, SwitchFailed, SwitchOf, SwitchStarted, Switched,
};
use super::{CloseReason, ErrorCode, Event, MAX_MESSAGE_BYTES, PATH, Request, SettingsUpdate, VERSION, examples};

/// Makes the schema of one message's body.
type Body = fn(&mut SchemaGenerator) -> Schema;

/// A message: its `type`, what it is for, its body.
type Message = (&'static str, &'static str, Body);

const CONTROLS: [Message; 19] = [
    (
        "hello",
        "The first message: opens the session. Answered by `ready`.",
        Hello::json_schema,
    ),
    (
        "update",
        "Change settings. Answered by `updated`.",
        SettingsUpdate::json_schema,
    ),
    ("say", "Speak this.", Say::json_schema),
    (
        "text",
        "A typed turn of the user; it interrupts a reply and is answered like a spoken one.",
        Text::json_schema,
    ),
    ("commit", "End the user's turn now.", Bare::json_schema),
    (
        "respond",
        "Reply now to the history as it is, although no turn ended.",
        Bare::json_schema,
    ),
    ("cancel", "Stop a response.", Cancel::json_schema),
    (
        "clear",
        "Forget the speech of the open turn: it gets no transcript and no reply.",
        Bare::json_schema,
    ),
    ("dtmf", "A telephone key was pressed.", Dtmf::json_schema),
    ("tool_output", "The result of a tool call.", ToolOutput::json_schema),
    (
        "edit",
        "Change the history. Answered by `history_edited`.",
        Edit::json_schema,
    ),
    (
        "switch",
        "Switch a backend. Answered by `switch_started`, `switched` or `switch_failed`.",
        Switch::json_schema,
    ),
    (
        "cancel_switch",
        "Call off the switch that is under way, or end what runs beside the live backend. Answered by `switch_failed`.",
        SwitchOf::json_schema,
    ),
    (
        "promote",
        "Let what runs beside the live backend take its place. Answered by `switched` or `switch_failed`.",
        SwitchOf::json_schema,
    ),
    (
        "approve",
        "Let a reply be spoken that waits for it.",
        Approve::json_schema,
    ),
    (
        "capabilities",
        "Tell what can serve here, and what can't. Answered by `capabilities`.",
        Bare::json_schema,
    ),
    (
        "status",
        "Tell the state of the session. Answered by `status`.",
        Bare::json_schema,
    ),
    ("ping", "Answered by `pong`, at once.", Bare::json_schema),
    (
        "bye",
        "End the session in order. Answered by `closed`.",
        Bare::json_schema,
    ),
];

const EVENTS: [Message; 27] = [
    (
        "ready",
        "The session is open; audio may flow. The answer to `hello`.",
        Ready::json_schema,
    ),
    ("speech_started", "A turn is open.", SpeechStarted::json_schema),
    (
        "speech_stopped",
        "A turn has ended; its final transcript follows.",
        SpeechStopped::json_schema,
    ),
    ("transcript", "What was understood.", Transcript::json_schema),
    ("response_started", "A response is live.", ResponseStarted::json_schema),
    ("response_text", "More text of a response.", ResponseText::json_schema),
    (
        "tool_call",
        "The language model wants a tool called.",
        ToolCall::json_schema,
    ),
    (
        "audio_started",
        "The first frame of a response's audio is sent.",
        AudioStarted::json_schema,
    ),
    (
        "ducked",
        "The reply's volume is lowered, because speech was heard, or raised again, because it was none.",
        Ducked::json_schema,
    ),
    (
        "audio_done",
        "The last frame of a response's audio was sent, or its audio was stopped.",
        AudioDone::json_schema,
    ),
    (
        "response_done",
        "A response is over. Exactly one for each `response_started`.",
        ResponseDone::json_schema,
    ),
    ("turn_report", "Where the time of a turn went.", TurnReport::json_schema),
    (
        "dtmf",
        "A telephone key was pressed: found in the media, or told with `dtmf`.",
        DtmfPressed::json_schema,
    ),
    ("history_edited", "The history was changed.", HistoryEdited::json_schema),
    (
        "updated",
        "Settings have changed. The answer to `update`.",
        Updated::json_schema,
    ),
    ("backend", "A backend's state has changed.", Backend::json_schema),
    (
        "response_prepared",
        "A reply waits for `approve` or `cancel`; nothing of it has been spoken. Only where the setting `approval` is on.",
        ResponsePrepared::json_schema,
    ),
    ("switch_started", "A switch is under way.", SwitchStarted::json_schema),
    (
        "switched",
        "A switch was made: new work goes to the new backend.",
        Switched::json_schema,
    ),
    (
        "switch_failed",
        "A switch was not made; what served before serves on.",
        SwitchFailed::json_schema,
    ),
    (
        "shadowed",
        "How what runs beside the live backend did on one piece of work.",
        Shadowed::json_schema,
    ),
    (
        "capabilities",
        "What can serve here, and what can't. The answer to `capabilities`.",
        Capabilities::json_schema,
    ),
    (
        "status",
        "The state of the session. The answer to `status`.",
        Status::json_schema,
    ),
    (
        "error",
        "Something went wrong. The session goes on, unless `close_code` is there.",
        ErrorEvent::json_schema,
    ),
    (
        "going_away",
        "The server will end the session after the open turn.",
        GoingAway::json_schema,
    ),
    (
        "closed",
        "The session is over; the connection closes after this.",
        Closed::json_schema,
    ),
    ("pong", "The answer to `ping`.", Pong::json_schema),
];

/// Who sends a message.
#[derive(Clone, Copy)]
enum Side {
    Client,
    Server,
}

impl Side {
    /// What the names of its messages' definitions begin with: `dtmf` and `status` exist on both sides.
    const fn prefix(self) -> &'static str {
        match self {
            Self::Client => "control_",
            Self::Server => "event_",
        }
    }

    const fn messages(self) -> &'static [Message] {
        match self {
            Self::Client => &CONTROLS,
            Self::Server => &EVENTS,
        }
    }

    /// Controls are described as they are read, events as they are written: that decides which fields are required.
    fn settings(self, base: &SchemaSettings) -> SchemaSettings {
        let contract = match self {
            Self::Client => Contract::Deserialize,
            Self::Server => Contract::Serialize,
        };
        base.clone().with(|settings| settings.contract = contract)
    }
}

/// Every message's schema under `control_…` and `event_…`, and every type that they refer to.
fn definitions(base: &SchemaSettings) -> Map<String, Value> {
    let mut all = Map::new();
    for side in [Side::Client, Side::Server] {
        let mut generator = side.settings(base).into_generator();
        for (kind, summary, body) in side.messages() {
            let mut schema = body(&mut generator);
            add_envelope(&mut schema, kind, side);
            schema.insert("description".to_owned(), Value::from(*summary));
            all.insert(format!("{}{kind}", side.prefix()), schema.to_value());
        }
        all.extend(generator.take_definitions(true));
    }
    all
}

/// Adds `type` and, to controls, `id`; to each variant where the message has several.
fn add_envelope(schema: &mut Schema, kind: &str, side: Side) {
    if let Some(Value::Array(variants)) = schema.get_mut("oneOf") {
        for variant in variants {
            if let Value::Object(object) = variant {
                add_envelope_to(object, kind, side);
            }
        }
        // Where the fields beside the variants stand in the same object, they are the message's own.
        if schema.get("properties").is_none() {
            return;
        }
    }
    add_envelope_to(schema.ensure_object(), kind, side);
}

fn add_envelope_to(object: &mut Map<String, Value>, kind: &str, side: Side) {
    object.insert("type".to_owned(), Value::from("object"));
    if let Value::Object(properties) = object.entry("properties").or_insert_with(|| json!({})) {
        properties.insert("type".to_owned(), json!({ "type": "string", "const": kind }));
        if matches!(side, Side::Client) {
            properties.insert(
                "id".to_owned(),
                json!({
                    "type": ["string", "null"],
                    "minLength": 1,
                    "maxLength": 64,
                    "description": "Chosen by the client; the answer or the error carries it as `reply_to`.",
                }),
            );
        }
    }
    if let Value::Array(required) = object.entry("required").or_insert_with(|| json!([])) {
        required.insert(0, Value::from("type"));
    }
}

fn one_of(side: Side, path: &str) -> Value {
    let references: Vec<_> = side
        .messages()
        .iter()
        .map(|(kind, _, _)| json!({ "$ref": format!("#{path}/{}{kind}", side.prefix()) }))
        .collect();
    json!({ "oneOf": references })
}

/// The JSON Schema (draft 2020-12) of all text messages: `$defs/Control` and `$defs/Event`.
#[must_use]
pub fn json_schema() -> Value {
    let mut definitions = definitions(&SchemaSettings::draft2020_12());
    definitions.insert("Control".to_owned(), one_of(Side::Client, "/$defs"));
    definitions.insert("Event".to_owned(), one_of(Side::Server, "/$defs"));
    let mut document = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Repartee's native wire: text messages",
        "description": format!(
            "Version {VERSION}. Controls go from the client to the server, events from the server to the client, over the \
             WebSocket at {PATH}. Generated from the types; don't edit."
        ),
        "anyOf": [{ "$ref": "#/$defs/Control" }, { "$ref": "#/$defs/Event" }],
        "$defs": definitions,
    });
    document.sort_all_objects();
    document
}

/// The AsyncAPI 3.0 document of the wire, binary messages and error codes included. It is written from the server's side: the
/// server receives controls and sends events.
#[must_use]
pub fn asyncapi() -> Value {
    const SCHEMAS: &str = "/components/schemas";
    // AsyncAPI's own schema dialect is a superset of draft 07.
    let settings = SchemaSettings::draft07().with(|settings| settings.definitions_path = SCHEMAS.into());
    let mut messages = Map::new();
    let mut operations = Map::new();
    for (side, name, action) in [
        (Side::Client, "receive_controls", "receive"),
        (Side::Server, "send_events", "send"),
    ] {
        for (kind, summary, _) in side.messages() {
            let name = format!("{}{kind}", side.prefix());
            let message = json!({
                "name": kind,
                "title": kind,
                "summary": summary,
                "contentType": "application/json",
                "payload": { "$ref": format!("#{SCHEMAS}/{name}") },
                "examples": examples_of(side, kind),
            });
            messages.insert(name, message);
        }
        let names = side
            .messages()
            .iter()
            .map(|(kind, _, _)| format!("{}{kind}", side.prefix()));
        operations.insert(name.to_owned(), operation(action, "Text messages.", names));
    }
    for (name, action, summary) in [
        (
            "audio_from_client",
            "receive",
            "Audio in the format that `ready` names as `input`.",
        ),
        (
            "audio_to_client",
            "send",
            "Audio in the format that `ready` names as `output`, a frame of 20 ms a message.",
        ),
    ] {
        messages.insert(name.to_owned(), audio_message(name, summary));
        operations.insert(
            format!("{action}_audio"),
            operation(action, "Binary messages.", std::iter::once(name.to_owned())),
        );
    }
    let references: Map<_, _> = messages
        .keys()
        .map(|name| (name.clone(), json!({ "$ref": format!("#/components/messages/{name}") })))
        .collect();
    let mut document = json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "Repartee's native wire",
            "version": format!("{VERSION}.0.0"),
            "description": format!(
                "One WebSocket, one session. The first message is `hello`, its answer `ready`. Text messages are JSON, binary \
                 messages are audio, none over {MAX_MESSAGE_BYTES} bytes unless the server is configured otherwise. Generated from the types; don't edit."
            ),
            "license": { "name": "MIT OR Apache-2.0" },
        },
        "defaultContentType": "application/json",
        "servers": {
            "local": {
                "host": "127.0.0.1:8080",
                "protocol": "ws",
                "description": "`repartee serve`, as it listens unless told otherwise.",
            },
        },
        "channels": { "session": { "address": PATH, "messages": references } },
        "operations": operations,
        "components": { "messages": messages, "schemas": definitions(&settings) },
        "x-error-codes": error_codes(),
        "x-close-codes": close_codes(),
    });
    document.sort_all_objects();
    document
}

fn operation(action: &str, summary: &str, messages: impl Iterator<Item = String>) -> Value {
    let references: Vec<_> = messages
        .map(|name| json!({ "$ref": format!("#/channels/session/messages/{name}") }))
        .collect();
    json!({
        "action": action,
        "summary": summary,
        "channel": { "$ref": "#/channels/session" },
        "messages": references,
    })
}

fn audio_message(name: &str, summary: &str) -> Value {
    json!({
        "name": name,
        "title": name,
        "summary": summary,
        "description": "Framing `raw`: whole samples (`pcm16` little-endian, `pcmu`, `pcma`), or one `opus` packet. Framing `rtp`: \
                        one whole RTP packet; payload types: pcmu 0, pcma 8, comfort noise 13, pcm16 96 (big-endian), telephone \
                        keys 101, opus 111.",
        "contentType": "application/octet-stream",
        "payload": { "type": "string", "format": "binary" },
    })
}

fn examples_of(side: Side, kind: &str) -> Value {
    let all = match side {
        Side::Client => examples::CONTROLS,
        Side::Server => examples::EVENTS,
    };
    all.iter()
        .filter_map(|example| {
            let payload: Value = serde_json::from_str(example.json).expect("a test reads every example");
            (payload.get("type").and_then(Value::as_str) == Some(kind))
                .then(|| json!({ "summary": example.shows, "payload": payload }))
        })
        .collect()
}

fn error_codes() -> Value {
    ErrorCode::ALL
        .iter()
        .map(|code| {
            json!({
                "code": code,
                "origin": code.origin(),
                "retry": code.retry(),
                "close_code": code.close_code(),
            })
        })
        .collect()
}

fn close_codes() -> Value {
    [
        CloseReason::Bye,
        CloseReason::Disconnected,
        CloseReason::Drained,
        CloseReason::Idle,
        CloseReason::TooSlow,
    ]
    .into_iter()
    .map(|reason| json!({ "reason": reason, "close_code": reason.close_code() }))
    .collect()
}

// The tables above and the enums name the same messages.
const _: () = assert!(CONTROLS.len() == Request::TYPES.len() && EVENTS.len() == Event::TYPES.len());
