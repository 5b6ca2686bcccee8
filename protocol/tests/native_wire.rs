//! The native wire as a whole: its messages by name, its documents against its types, its parser against its documents.

use std::collections::BTreeSet;
use std::path::Path;

use jsonschema::Validator;
use repartee_protocol::native::{
    AudioFormat, Codec, Control, ErrorCode, Event, Hello, LARGEST_MESSAGE_BYTES, Request, Say, examples, parse_control,
    parse_event, schema,
};
use serde_json::{Value, json};

/// The validator of one definition of the generated schema: `Control`, `Event`, `event_ready`.
fn validator(definition: &str) -> Validator {
    let mut document = schema::json_schema();
    let root = document.as_object_mut().expect("a schema is an object");
    root.remove("anyOf");
    root.insert("$ref".to_owned(), json!(format!("#/$defs/{definition}")));
    jsonschema::validator_for(&document).expect("the generated schema is a schema")
}

fn value(text: &str) -> Value {
    serde_json::from_str(text).expect("an example is JSON")
}

fn kind(message: &Value) -> &str {
    message["type"].as_str().expect("a message has a type")
}

/// Whoever renames or removes one of these breaks clients: that takes a new version of the protocol.
#[test]
fn names_on_the_wire_stay() {
    assert_eq!(
        Request::TYPES.join(" "),
        "hello update say text commit respond cancel clear dtmf tool_output edit switch cancel_switch promote approve \
         capabilities status ping bye"
    );
    assert_eq!(
        Event::TYPES.join(" "),
        "ready speech_started speech_stopped transcript response_started response_text tool_call audio_started ducked \
         audio_done response_done turn_report dtmf history_edited updated backend \
         response_prepared switch_started switched switch_failed shadowed capabilities status error going_away closed pong"
    );
    let codes: Vec<_> = ErrorCode::ALL.iter().map(|code| code.as_str()).collect();
    assert_eq!(
        codes.join(" "),
        "not_websocket hello_expected hello_repeated hello_timeout unsupported_version unauthorized not_json \
         unknown_control unknown_field missing_field invalid_value invalid_state audio_before_hello odd_byte_count \
         media_format malformed_packet message_too_large too_large too_many_sessions draining too_slow idle stt_failed \
         llm_failed tts_failed backend_lost backend_missing timeout overloaded internal"
    );
}

#[test]
fn every_control_has_an_example_that_is_valid_and_read_back() {
    let valid = validator("Control");
    let mut shown = BTreeSet::new();
    for example in examples::CONTROLS {
        let message = value(example.json);
        shown.insert(kind(&message).to_owned());
        if let Err(error) = valid.validate(&message) {
            panic!("{}: {error}", example.json);
        }
        let control = parse_control(example.json).unwrap_or_else(|error| panic!("{}: {error}", example.json));
        assert_eq!(control.request.kind(), kind(&message));
        let written = control.to_json();
        assert!(valid.is_valid(&value(&written)), "{written}");
        assert_eq!(parse_control(&written).as_ref(), Ok(&control), "{written}");
    }
    assert_eq!(shown, Request::TYPES.into_iter().map(str::to_owned).collect());
}

#[test]
fn every_event_has_an_example_that_is_valid_and_read_back() {
    let valid = validator("Event");
    let mut shown = BTreeSet::new();
    for example in examples::EVENTS {
        let message = value(example.json);
        shown.insert(kind(&message).to_owned());
        if let Err(error) = valid.validate(&message) {
            panic!("{}: {error}", example.json);
        }
        let event = parse_event(example.json)
            .unwrap_or_else(|error| panic!("{}: {error}", example.json))
            .expect("its type is known");
        assert_eq!(value(&event.to_json()), message);
    }
    assert_eq!(shown, Event::TYPES.into_iter().map(str::to_owned).collect());
}

#[test]
fn clients_overlook_what_they_do_not_know() {
    assert!(matches!(parse_event(r#"{"type":"hologram","kind":"stt"}"#), Ok(None)));
    assert!(matches!(
        parse_event(r#"{"type":"closed","reason":"bye","farewell":"soon"}"#),
        Ok(Some(Event::Closed(_)))
    ));
    assert!(parse_event(r#"{"type":"closed"}"#).is_err());
    assert!(parse_event(r#"{"kind":"closed"}"#).is_err());
    assert!(parse_event("[]").is_err());
}

#[test]
fn the_files_are_what_the_types_say() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("schema");
    for (name, generated) in [
        ("native.schema.json", schema::json_schema()),
        ("native.asyncapi.json", schema::asyncapi()),
    ] {
        let written = std::fs::read_to_string(folder.join(name)).expect("the file is part of the project");
        assert!(
            value(&written) == generated,
            "protocol/schema/{name} is not what the types say: run \
             `cargo run -p repartee-protocol --example generate_schema` and look at the difference"
        );
    }
}

/// Every `$ref` of a document, wherever it stands.
fn references(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(object) => {
            if let Some(Value::String(reference)) = object.get("$ref") {
                found.push(reference.clone());
            }
            object.values().for_each(|inner| references(inner, found));
        }
        Value::Array(values) => values.iter().for_each(|inner| references(inner, found)),
        _ => {}
    }
}

#[test]
fn the_asyncapi_document_refers_to_what_it_has() {
    let document = schema::asyncapi();
    let mut found = Vec::new();
    references(&document, &mut found);
    assert!(found.len() > 100);
    for reference in found {
        let pointer = reference
            .strip_prefix('#')
            .expect("references stay within the document");
        assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
    }
    let messages = document["components"]["messages"].as_object().expect("an object");
    for (name, message) in messages {
        let audio = name.starts_with("audio_");
        assert_eq!(
            message["examples"].as_array().is_none_or(Vec::is_empty),
            audio,
            "{name}"
        );
    }
}

/// Every way to spoil one value in a message: remove it, add beside it, or put something else in its place.
fn spoiled(message: &Value) -> Vec<Value> {
    let replacements = [
        Value::Null,
        json!(true),
        json!(-1),
        json!(0),
        json!(1),
        json!(0.5),
        json!(1.5),
        json!(600.0),
        json!(1e12),
        json!(""),
        json!("x"),
        json!("turn_1"),
        json!("resp_01"),
        json!("x".repeat(5_000)),
        json!([]),
        json!([1]),
        json!({}),
        json!({ "unknown": 1 }),
    ];
    let mut found = Vec::new();
    match message {
        Value::Object(object) => {
            let mut more = object.clone();
            more.insert("surprise".to_owned(), json!(1));
            found.push(Value::Object(more));
            for (key, inner) in object {
                let mut less = object.clone();
                less.remove(key);
                found.push(Value::Object(less));
                for other in replacements.iter().cloned().chain(spoiled(inner)) {
                    let mut changed = object.clone();
                    changed.insert(key.clone(), other);
                    found.push(Value::Object(changed));
                }
            }
        }
        Value::Array(values) => {
            for (index, inner) in values.iter().enumerate() {
                for other in replacements.iter().cloned().chain(spoiled(inner)) {
                    let mut changed = values.clone();
                    changed[index] = other;
                    found.push(Value::Array(changed));
                }
            }
        }
        _ => {}
    }
    found
}

/// The parser is written by hand for the sake of its messages, the schema is generated: here each keeps the other honest.
#[test]
fn the_parser_takes_just_what_the_schema_allows() {
    let valid = validator("Control");
    let mut taken = 0_usize;
    let mut refused = 0_usize;
    for example in examples::CONTROLS {
        for message in spoiled(&value(example.json)) {
            let text = message.to_string();
            let read = parse_control(&text);
            match (&read, valid.is_valid(&message)) {
                (Ok(_), true) => taken += 1,
                (Err(_), false) => refused += 1,
                // JSON Schema can't say that G.711 has one rate; its description does.
                (Err(error), true) if error.message.ends_with("has no other") => refused += 1,
                (_, allowed) => panic!("the schema says {allowed}, the parser {read:?}: {text}"),
            }
        }
    }
    assert!(taken > 100 && refused > 1_000, "{taken} taken, {refused} refused");
}

#[test]
fn mistakes_are_named_with_their_remedy() {
    let cases = [
        // (message, code, field, what the message must contain)
        ("hello", "not_json", "", "line 1 column 1"),
        ("{\"type\":\"commit\"", "not_json", "", "column 16"),
        ("[1]", "not_json", "", "an array"),
        ("{}", "missing_field", "type", "type is missing"),
        (r#"{"type":7}"#, "invalid_value", "type", "not a number"),
        (
            r#"{"type":"comit"}"#,
            "unknown_control",
            "type",
            "did you mean \"commit\"?",
        ),
        (r#"{"type":"zzz"}"#, "unknown_control", "type", "no control \"zzz\""),
        (r#"{"type":"hello"}"#, "missing_field", "version", "version is missing"),
        (
            r#"{"type":"hello","version":2,"future":1}"#,
            "unsupported_version",
            "version",
            "only 1",
        ),
        (
            r#"{"type":"hello","version":1,"inptu":{}}"#,
            "unknown_field",
            "inptu",
            "did you mean \"input\"?",
        ),
        (
            r#"{"type":"hello","version":1,"input":{"codec":"mp3"}}"#,
            "invalid_value",
            "input.codec",
            "pcm16, pcmu, pcma, opus",
        ),
        (
            r#"{"type":"hello","version":1,"input":{"codec":"pcmu","rate":16000}}"#,
            "invalid_value",
            "input.rate",
            "8000",
        ),
        (
            r#"{"type":"hello","version":1,"output":{"codec":"pcm16","rate":44100}}"#,
            "invalid_value",
            "output.rate",
            "not 44100",
        ),
        (
            r#"{"type":"hello","version":1,"input":{"codec":"pcm16","rate":48000,"channels":2}}"#,
            "invalid_value",
            "input.channels",
            "mono",
        ),
        (
            r#"{"type":"hello","version":1,"settings":{"endpointing":{"silence":400}}}"#,
            "unknown_field",
            "settings.endpointing.silence",
            "did you mean \"silence_ms\"?",
        ),
        (
            r#"{"type":"update","endpointing":{"silence_ms":5}}"#,
            "invalid_value",
            "endpointing.silence_ms",
            "from 50 to 10000, not \"5\"",
        ),
        (
            r#"{"type":"update","speech":{"start_threshold":50}}"#,
            "invalid_value",
            "speech.start_threshold",
            "from 0.001 to 1",
        ),
        (
            r#"{"type":"update","tools":[{"name":"a"},{"name":"b c"}]}"#,
            "invalid_value",
            "tools[1].name",
            "letters",
        ),
        (
            r#"{"type":"say","txt":"hi"}"#,
            "unknown_field",
            "txt",
            "did you mean \"text\"?",
        ),
        (r#"{"type":"say","text":""}"#, "invalid_value", "text", "empty"),
        (
            r#"{"type":"cancel","response":"3"}"#,
            "invalid_value",
            "response",
            "resp_1",
        ),
        (r#"{"type":"dtmf","digit":"12"}"#, "invalid_value", "digit", "one key"),
        (r#"{"type":"dtmf","digit":5}"#, "invalid_value", "digit", "a string"),
        (
            r#"{"type":"edit","edit":"delet"}"#,
            "invalid_value",
            "edit",
            "did you mean \"delete\"?",
        ),
        (
            r#"{"type":"edit","edit":"delete"}"#,
            "missing_field",
            "item",
            "item is missing",
        ),
        (r#"{"type":"bye","id":7}"#, "invalid_value", "id", "a string"),
    ];
    for (text, code, field, contains) in cases {
        let error = parse_control(text).expect_err(text);
        assert_eq!(error.code.as_str(), code, "{text}: {error}");
        assert_eq!(error.field.as_deref().unwrap_or_default(), field, "{text}: {error}");
        assert!(error.message.contains(contains), "{text}: {error}");
    }
}

#[test]
fn an_error_answers_the_control_that_it_is_about() {
    let error = parse_control(r#"{"type":"comit","id":"7"}"#).expect_err("no such control");
    assert_eq!(error.reply_to.as_deref(), Some("7"));
}

#[test]
fn size_and_depth_are_bounded() {
    let long = format!(r#"{{"type":"say","text":"{}"}}"#, "x".repeat(LARGEST_MESSAGE_BYTES));
    assert_eq!(
        parse_control(&long).map_err(|error| error.code),
        Err(ErrorCode::MessageTooLarge)
    );
    for open in ["[", "{\"a\":"] {
        let deep = open.repeat(50_000);
        assert_eq!(
            parse_control(&deep).map_err(|error| error.code),
            Err(ErrorCode::InvalidValue)
        );
    }
    let brackets = format!(r#"{{"type":"say","text":"\"{}"}}"#, "[".repeat(1_000));
    assert!(parse_control(&brackets).is_ok(), "brackets within a text are no depth");
}

#[test]
fn what_was_said_is_neither_printed_nor_quoted() {
    let secret = "the number is 5550123";
    let control = Control::from(Request::Say(Say::new(secret)));
    assert!(!format!("{control:?}").contains("5550123"));
    let texts = [
        format!(r#"{{"type":"say","text":["{secret}"]}}"#),
        format!(r#"{{"type":"say","text":"{secret}","interrupt":"{secret}"}}"#),
        format!(r#"{{"type":"text","text":"{secret}"#),
        format!(r#"{{"type":"hello","version":1,"token":{{"{secret}":1}}}}"#),
        format!(r#"{{"type":"hello","version":1,"token":"{}"}}"#, secret.repeat(400)),
        format!(r#"{{"type":"tool_output","call_id":"a","output":{{"b":"{secret}"}}}}"#),
        format!(r#"{{"type":"dtmf","digit":"{secret}"}}"#),
        format!(r#"{{"type":"update","instructions":7,"tools":"{secret}"}}"#),
    ];
    for text in texts {
        let error = parse_control(&text).expect_err(&text);
        assert!(!format!("{error:?} {error}").contains("5550123"), "{error:?}");
    }
}

#[test]
fn an_unknown_name_is_quoted_only_in_part() {
    let name = "n\u{7}".repeat(5_000);
    for message in [
        json!({ "type": name }),
        json!({ "type": "say", "text": "x", name.clone(): 1 }),
        json!({ "type": "hello", "version": 1, "input": { "codec": name } }),
        json!({ "type": "cancel", "response": name }),
        json!({ "type": "edit", "edit": name }),
    ] {
        let error = parse_control(&message.to_string()).expect_err("the name is unknown");
        assert!(error.message.chars().count() < 300, "{error}");
        assert!(
            error.field.as_ref().is_none_or(|field| field.chars().count() < 80),
            "{error:?}"
        );
        assert!(!error.message.chars().any(char::is_control), "{error:?}");
    }
}

#[test]
fn a_client_writes_what_a_server_reads() {
    let hello = Hello {
        token: Some("t".into()),
        input: AudioFormat::of(Codec::Opus),
        ..Hello::default()
    };
    let control = Control {
        id: Some("1".to_owned()),
        request: Request::Hello(Box::new(hello)),
    };
    assert_eq!(parse_control(&control.to_json()), Ok(control));
}
