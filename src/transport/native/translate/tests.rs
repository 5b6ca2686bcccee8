//! Every word in both directions, and what is written held against the published schema.

use std::sync::Arc;

use repartee_protocol::native::{self, AudioFormat, Codec, Framing, Request, parse_control, schema};
use serde_json::{Value, json};

use super::*;
use crate::call::{
    BackendState, CallError, CloseReason, Digit, HistoryEdit, Origin, ResponseStatus, Role, Status, ToolCall,
    TurnReport,
};
use crate::id::Generation;

fn request(message: Value) -> Request {
    parse_control(&message.to_string()).expect("a control").request
}

fn said(text: &str) -> Pii<String> {
    Pii::new(text.to_owned())
}

fn hello(settings: Value) -> Hello {
    match request(json!({ "type": "hello", "version": 1, "settings": settings })) {
        Request::Hello(hello) => *hello,
        other => panic!("{other:?}"),
    }
}

fn changed(update: Value) -> Result<Settings, ControlError> {
    let mut message = update;
    message["type"] = json!("update");
    match request(message) {
        Request::Update(update) => settings(&update, &Settings::default()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_request_becomes_its_command() {
    let turn = |text: &str| Some(Command::Text { text: said(text) });
    let cases = [
        (json!({ "type": "hello", "version": 1 }), None),
        (json!({ "type": "update" }), None),
        (json!({ "type": "ping" }), None),
        (
            json!({ "type": "say", "text": "Hi.", "interrupt": true, "interruptible": false, "remember": false }),
            Some(Command::Say(call::Say {
                text: said("Hi."),
                interrupt: true,
                interruptible: false,
                remember: false,
            })),
        ),
        (
            json!({ "type": "say", "text": "Hi." }),
            Some(Command::Say(call::Say {
                text: said("Hi."),
                interrupt: false,
                interruptible: true,
                remember: true,
            })),
        ),
        (json!({ "type": "text", "text": "Hi?" }), turn("Hi?")),
        (json!({ "type": "commit" }), Some(Command::Commit)),
        (json!({ "type": "respond" }), Some(Command::Respond)),
        (json!({ "type": "cancel" }), Some(Command::Cancel { response: None })),
        (
            json!({ "type": "cancel", "response": "resp_4" }),
            Some(Command::Cancel {
                response: Some(ResponseId::new(4)),
            }),
        ),
        (json!({ "type": "clear" }), Some(Command::Clear)),
        (
            json!({ "type": "tool_output", "call_id": "c1", "output": "21", "respond": false }),
            Some(Command::ToolOutput(call::ToolOutput {
                call_id: "c1".to_owned(),
                output: said("21"),
                respond: false,
            })),
        ),
        (
            json!({ "type": "edit", "edit": "delete", "item": "item_9" }),
            Some(Command::Edit(HistoryEdit::Delete { item: ItemId::new(9) })),
        ),
        (
            json!({ "type": "edit", "edit": "clear" }),
            Some(Command::Edit(HistoryEdit::Clear)),
        ),
        (
            json!({ "type": "edit", "edit": "rollback" }),
            Some(Command::Edit(HistoryEdit::Rollback)),
        ),
        (
            json!({ "type": "switch", "kind": "tts", "voice": "slt", "scope": "server", "when": "next_turn" }),
            Some(Command::Switch(Box::new(call::SwitchRequest {
                voice: Some("slt".to_owned()),
                scope: call::Scope::Server,
                when: call::When::NextTurn,
                ..call::SwitchRequest::new(BackendKind::Tts)
            }))),
        ),
        (
            json!({ "type": "cancel_switch", "kind": "llm" }),
            Some(Command::CancelSwitch { kind: BackendKind::Llm }),
        ),
        (
            json!({ "type": "promote", "kind": "stt" }),
            Some(Command::Promote { kind: BackendKind::Stt }),
        ),
        (
            json!({ "type": "approve", "response": "resp_2" }),
            Some(Command::Approve {
                response: ResponseId::new(2),
            }),
        ),
        (json!({ "type": "status" }), Some(Command::Status)),
        (json!({ "type": "bye" }), Some(Command::Bye)),
    ];
    for (message, expected) in cases {
        assert_eq!(command(request(message.clone())), expected, "{message}");
    }
    for (name, role) in [
        ("system", Role::System),
        ("user", Role::User),
        ("assistant", Role::Assistant),
    ] {
        let message = json!({ "type": "edit", "edit": "append", "role": name, "text": "x" });
        let text = said("x");
        assert_eq!(
            command(request(message)),
            Some(Command::Edit(HistoryEdit::Append { role, text }))
        );
    }
    for key in "0123456789*#ABCD".chars() {
        let digit = Digit::new(key).expect("a key");
        let message = json!({ "type": "dtmf", "digit": key });
        assert_eq!(command(request(message)), Some(Command::Dtmf { digit }));
    }
}

#[test]
fn every_setting_arrives() {
    let settings = changed(json!({
        "instructions": "Be brief.", "voice": "slt", "language": "de",
        "stages": { "stt": false, "llm": false, "tts": false },
        "turn_detection": "client",
        "speech": { "start_threshold": 0.7, "stop_threshold": 0.2, "min_speech_ms": 11, "pre_roll_ms": 12 },
        "endpointing": { "silence_ms": 401, "max_silence_ms": 1201, "hard_limit_ms": 20_001, "eager_ms": 101 },
        "barge_in": { "enabled": false, "confirm_ms": 13, "duck_gain": 0.125 },
        "tools": [{ "name": "t", "description": "d", "parameters": { "type": "object" } }],
        "temperature": 1.5, "approval": true,
    }))
    .expect("all of it fits");
    let expected = Settings {
        instructions: said("Be brief."),
        voice: Some("slt".to_owned()),
        language: Some("de".to_owned()),
        hints: Vec::new(),
        stages: call::Stages {
            stt: false,
            llm: false,
            tts: false,
        },
        turn_detection: TurnDetection::Client,
        speech: call::SpeechDetection {
            start_per_mille: 700,
            stop_per_mille: 200,
            min_speech_ms: 11,
            pre_roll_ms: 12,
        },
        endpointing: call::Endpointing {
            silence_ms: 401,
            max_silence_ms: 1_201,
            hard_limit_ms: 20_001,
            eager_ms: 101,
        },
        barge_in: call::BargeIn {
            enabled: false,
            confirm_ms: 13,
            duck_per_mille: 125,
        },
        keys: None,
        tools: vec![call::Tool {
            name: "t".to_owned(),
            description: "d".to_owned(),
            parameters: json!({ "type": "object" }),
        }],
        temperature_milli: Some(1_500),
        approval: true,
        filler: Settings::default().filler,
        limits: Settings::default().limits,
    };
    assert_eq!(settings, expected);
    let told = serde_json::to_value(settings_in_effect(&settings)).expect("JSON");
    assert_eq!(
        told,
        json!({
            "voice": "slt", "language": "de",
            "stages": { "stt": false, "llm": false, "tts": false },
            "turn_detection": "client",
            "speech": { "start_threshold": 0.7, "stop_threshold": 0.2, "min_speech_ms": 11, "pre_roll_ms": 12 },
            "endpointing": { "silence_ms": 401, "max_silence_ms": 1201, "hard_limit_ms": 20_001, "eager_ms": 101 },
            "barge_in": { "enabled": false, "confirm_ms": 13, "duck_gain": 0.125 },
            "tools": ["t"], "temperature": 1.5, "approval": true,
        })
    );
    let asked = native::SettingsUpdate::default();
    let Command::Update(update) = update(&asked, settings) else {
        panic!("an update is an update");
    };
    assert_eq!(update.temperature_milli, Some(1_500));
    assert_eq!(update.speech, Some(expected.speech));
    assert_eq!(update.instructions, Some(expected.instructions));
    // They may have been switched meanwhile, and nobody asked for them here.
    assert_eq!((update.voice, update.language), (None, None));
}

#[test]
fn what_is_absent_stays() {
    assert_eq!(changed(json!({})), Ok(Settings::default()));
    assert_eq!(
        hello_settings(&Hello::default(), &Settings::default()),
        Ok(Settings::default())
    );
    let one = changed(json!({ "barge_in": { "confirm_ms": 7 }, "stages": { "tts": false } })).expect("it fits");
    let mut expected = Settings::default();
    expected.barge_in.confirm_ms = 7;
    expected.stages.tts = false;
    assert_eq!(one, expected);
}

#[test]
fn a_bound_that_is_not_named_follows() {
    let slow = changed(json!({ "endpointing": { "silence_ms": 2_500 } })).expect("the upper bound follows");
    assert_eq!(slow.endpointing.max_silence_ms, 2_500);
    let low = changed(json!({ "speech": { "start_threshold": 0.2 } })).expect("the lower threshold follows");
    assert_eq!(low.speech.stop_per_mille, 200);
    let eager = changed(json!({ "endpointing": { "eager_ms": 300 } })).expect("it fits");
    let update = native::SettingsUpdate {
        endpointing: Some(native::EndpointingUpdate {
            silence_ms: Some(200),
            ..Default::default()
        }),
        ..Default::default()
    };
    let quick = settings(&update, &eager).expect("the eager delay follows");
    assert_eq!(quick.endpointing.eager_ms, 200);
}

#[test]
fn values_that_do_not_fit_one_another_are_named_by_their_path_on_the_wire() {
    let cases = [
        (
            json!({ "speech": { "start_threshold": 0.4, "stop_threshold": 0.45 } }),
            "speech.stop_threshold",
            "speech.stop_threshold is 0.45, but must be at most speech.start_threshold",
        ),
        (
            json!({ "endpointing": { "silence_ms": 500, "max_silence_ms": 400 } }),
            "endpointing.max_silence_ms",
            "endpointing.max_silence_ms is 400, but must be endpointing.silence_ms to 30000 ms",
        ),
        (
            json!({ "endpointing": { "silence_ms": 500, "eager_ms": 600 } }),
            "endpointing.eager_ms",
            "endpointing.eager_ms is 600, but must be 0 to endpointing.silence_ms",
        ),
    ];
    for (update, field, message) in cases {
        let error = changed(update.clone()).expect_err("it doesn't fit");
        assert_eq!(
            (error.code, error.field.as_deref(), error.message.as_str()),
            (ErrorCode::InvalidValue, Some(field), message)
        );
        let error = hello_settings(&hello(update), &Settings::default()).expect_err("it doesn't fit");
        assert_eq!(error.field, Some(format!("settings.{field}")));
    }
}

#[test]
fn instructions_have_a_limit() {
    let most = usize::try_from(Settings::default().limits.max_text_chars).expect("a few thousand");
    assert!(changed(json!({ "instructions": "é".repeat(most) })).is_ok());
    let error = changed(json!({ "instructions": "é".repeat(most + 1) })).expect_err("one too many");
    assert_eq!(
        (error.code, error.field.as_deref()),
        (ErrorCode::TooLarge, Some("instructions"))
    );
}

/// The wire's parser checks the ranges of single values, and the call's settings do again: they are the same ranges.
#[test]
fn both_sides_have_the_same_ranges() {
    let document = schema::json_schema();
    let range = |group: &str, name: &str| {
        let property = &document["$defs"][group]["properties"][name];
        (
            property["minimum"].as_f64().expect("a range"),
            property["maximum"].as_f64().expect("a range"),
        )
    };
    let fields = [
        ("SpeechUpdate", "speech", "start_threshold", 0.001),
        ("SpeechUpdate", "speech", "min_speech_ms", 1.0),
        ("SpeechUpdate", "speech", "pre_roll_ms", 1.0),
        ("EndpointingUpdate", "endpointing", "silence_ms", 1.0),
        ("EndpointingUpdate", "endpointing", "max_silence_ms", 1.0),
        ("EndpointingUpdate", "endpointing", "hard_limit_ms", 1.0),
        ("BargeInUpdate", "barge_in", "confirm_ms", 1.0),
        ("BargeInUpdate", "barge_in", "duck_gain", 0.001),
    ];
    for (definition, group, name, step) in fields {
        let (low, high) = range(definition, name);
        for inside in [low, high] {
            let mut update = json!({ group: { name: inside } });
            if name == "max_silence_ms" {
                update["endpointing"]["silence_ms"] = json!(50);
            }
            assert!(changed(update).is_ok(), "{name} {inside}");
        }
        for outside in [low - step, high + step] {
            if outside >= 0.0 {
                let message = json!({ "type": "update", group: { name: outside } });
                assert!(parse_control(&message.to_string()).is_err(), "{name} {outside}");
            }
        }
        let beyond = high + step;
        let mut past = Settings::default();
        past.speech.stop_per_mille = 0;
        let whole = beyond.to_string().parse().unwrap_or(u32::MAX);
        match name {
            "start_threshold" => past.speech.start_per_mille = 1_001,
            "min_speech_ms" => past.speech.min_speech_ms = whole,
            "pre_roll_ms" => past.speech.pre_roll_ms = whole,
            "silence_ms" => {
                past.endpointing.silence_ms = whole;
                past.endpointing.max_silence_ms = whole;
            }
            "max_silence_ms" => past.endpointing.max_silence_ms = whole,
            "hard_limit_ms" => past.endpointing.hard_limit_ms = whole,
            "confirm_ms" => past.barge_in.confirm_ms = whole,
            _ => past.barge_in.duck_per_mille = 1_001,
        }
        assert!(past.validate().is_err(), "{name} {beyond}");
    }
}

#[test]
fn ready_tells_what_holds() {
    let registry = Registry::default();
    registry.mark_missing(BackendKind::Llm, "no model is configured".to_owned());
    registry.mark_missing(BackendKind::Turn, "no model is configured".to_owned());
    let input = AudioFormat {
        framing: Framing::Rtp,
        ..AudioFormat::of(Codec::Pcmu)
    };
    let ready = ready(
        SessionId::new(0xfeed),
        (&input, &input),
        77,
        &Settings::default(),
        1_000,
        Some("h".to_owned()),
        &registry,
    );
    assert_eq!(ready.session, "sess_000000000000feed");
    assert_eq!(ready.input.rtp.map(|rtp| rtp.ssrc), Some(None));
    assert_eq!(ready.output.rtp.map(|rtp| rtp.ssrc), Some(Some(77)));
    assert_eq!(ready.limits.max_message_bytes, 1_000);
    let backends = serde_json::to_value(&ready.backends).expect("JSON");
    assert_eq!(
        backends,
        json!([{ "kind": "llm", "state": "missing", "reason": "no model is configured" }])
    );
    assert_valid(&native::Event::Ready(Box::new(ready)));
}

fn assert_valid(event: &native::Event) {
    let mut document = schema::json_schema();
    let root = document.as_object_mut().expect("an object");
    root.remove("anyOf");
    root.insert("$ref".to_owned(), json!("#/$defs/Event"));
    let validator = jsonschema::validator_for(&document).expect("a schema");
    let message: Value = serde_json::from_str(&event.to_json()).expect("JSON");
    if let Err(error) = validator.validate(&message) {
        panic!("{message}: {error}");
    }
}

fn report() -> TurnReport {
    let at = |micros: u64| Some(Time::from_nanos(micros * 1_000 + 7));
    TurnReport {
        turn: TurnId::new(1),
        response: Some(ResponseId::new(2)),
        speech_end: Time::from_millis(1_000),
        endpoint: Time::from_millis(1_600),
        final_transcript: at(1_650_000),
        first_token: at(1_651_500),
        first_sentence: at(1_652_000),
        first_audio: at(1_664_000),
        first_sent: at(1_664_250),
    }
}

fn told() -> Status {
    Status {
        backends: vec![(
            BackendKind::Stt,
            BackendState::Ready {
                name: "pocketsphinx".to_owned(),
                model: "en-us".to_owned(),
                generation: Generation::new(3),
                device: None,
                synthetic: false,
            },
        )],
        turn: Some(TurnId::new(4)),
        response: None,
        received: Samples::from_millis(1_000),
        dropped: Samples::new(1),
        turns: 4,
        responses: 3,
        history_items: 7,
        stale_answers: 1,
    }
}

#[test]
fn every_event_becomes_its_message() {
    let (turn, response) = (TurnId::new(1), ResponseId::new(2));
    let generation = Generation::new(3);
    let cases = [
        (
            Event::SpeechStarted {
                turn,
                at: Samples::new(1_001),
            },
            json!({ "type": "speech_started", "turn": "turn_1", "at_ms": 62.562 }),
        ),
        (
            Event::SpeechStopped {
                turn,
                at: Samples::from_millis(900),
            },
            json!({ "type": "speech_stopped", "turn": "turn_1", "at_ms": 900 }),
        ),
        (
            Event::Transcript {
                turn,
                revision: 2,
                text: said("héllo"),
                stable_chars: 3,
                is_final: true,
            },
            json!({
                "type": "transcript", "turn": "turn_1", "revision": 2, "text": "héllo", "stable_chars": 3, "final": true,
            }),
        ),
        (
            Event::ResponseStarted {
                response,
                turn: Some(turn),
            },
            json!({ "type": "response_started", "response": "resp_2", "turn": "turn_1" }),
        ),
        (
            Event::ResponseStarted { response, turn: None },
            json!({ "type": "response_started", "response": "resp_2" }),
        ),
        (
            Event::ResponseText {
                response,
                delta: said("Hi "),
            },
            json!({ "type": "response_text", "response": "resp_2", "delta": "Hi " }),
        ),
        (
            Event::ToolCall {
                response,
                call: ToolCall {
                    call_id: "c".to_owned(),
                    name: "t".to_owned(),
                    arguments: said("{}"),
                },
            },
            json!({ "type": "tool_call", "response": "resp_2", "call_id": "c", "name": "t", "arguments": "{}" }),
        ),
        (
            Event::AudioStarted { response },
            json!({ "type": "audio_started", "response": "resp_2" }),
        ),
        (
            Event::Ducked { response, ducked: true },
            json!({ "type": "ducked", "response": "resp_2", "ducked": true }),
        ),
        (
            Event::AudioDone {
                response,
                sent: Samples::from_millis(20),
            },
            json!({ "type": "audio_done", "response": "resp_2", "sent_ms": 20 }),
        ),
        (
            Event::ResponseDone {
                response,
                status: ResponseStatus::Interrupted,
                text: said("One two."),
                heard: said("One"),
                heard_audio: Samples::from_millis(300),
                item: Some(ItemId::new(5)),
            },
            json!({
                "type": "response_done", "response": "resp_2", "status": "interrupted", "text": "One two.",
                "heard": "One", "heard_ms": 300, "item": "item_5",
            }),
        ),
        (
            Event::TurnReport(report()),
            json!({
                "type": "turn_report", "turn": "turn_1", "response": "resp_2", "speech_end_ms": 1_000,
                "stages": [
                    { "stage": "endpointing", "ms": 600 }, { "stage": "stt_final", "ms": 50 },
                    { "stage": "llm_first_token", "ms": 1.5 }, { "stage": "first_sentence", "ms": 0.5 },
                    { "stage": "tts_first_audio", "ms": 12 }, { "stage": "send", "ms": 0.25 },
                ],
                "total_ms": 664.25, "endpointing_ms": 600, "stt_final_ms": 50, "llm_first_token_ms": 1.5,
                "first_sentence_ms": 0.5, "tts_first_audio_ms": 12, "send_ms": 0.25,
            }),
        ),
        (
            Event::Dtmf {
                digit: Digit::new('#').expect("a key"),
            },
            json!({ "type": "dtmf", "digit": "#" }),
        ),
        (
            Event::HistoryEdited { items: 3 },
            json!({ "type": "history_edited", "items": 3 }),
        ),
        (
            Event::Backend {
                kind: BackendKind::Tts,
                state: BackendState::Lost {
                    generation,
                    reason: "killed".to_owned(),
                },
            },
            json!({ "type": "backend", "kind": "tts", "state": "lost", "generation": 3, "reason": "killed" }),
        ),
        (
            Event::Backend {
                kind: BackendKind::Vad,
                state: BackendState::Missing {
                    reason: "none".to_owned(),
                },
            },
            json!({ "type": "backend", "kind": "vad", "state": "missing", "reason": "none" }),
        ),
        (
            Event::Status(Box::new(told())),
            json!({
                "type": "status",
                "backends": [{
                    "kind": "stt", "state": "ready", "name": "pocketsphinx", "model": "en-us", "generation": 3,
                }],
                "turn": "turn_4", "received_ms": 1_000, "dropped_ms": 0.062, "turns": 4, "responses": 3,
                "history_items": 7, "stale_answers": 1,
            }),
        ),
        (
            Event::Error(CallError {
                code: call::ErrorCode::SttFailed,
                origin: Origin::Engine,
                retry: false,
                message: "why".to_owned(),
            }),
            json!({ "type": "error", "code": "stt_failed", "origin": "engine", "retry": false, "message": "why" }),
        ),
        (
            Event::GoingAway { within_ms: 9 },
            json!({ "type": "going_away", "within_ms": 9 }),
        ),
        (
            Event::Closed {
                reason: CloseReason::TooSlow,
            },
            json!({ "type": "closed", "reason": "too_slow" }),
        ),
    ];
    for (inside, expected) in cases {
        let name = format!("{inside:?}");
        let outside = event(inside).expect("it has a message of its own");
        let message: Value = serde_json::from_str(&outside.to_json()).expect("JSON");
        assert_eq!(message, expected, "{name}");
        assert_valid(&outside);
    }
    assert_eq!(event(Event::Updated), None);
    let answer = updated(&Settings::default(), Some("7".to_owned()));
    assert_valid(&answer);
    assert!(answer.to_json().contains(r#""reply_to":"7""#));
    assert!(
        status(&told(), Some("8".to_owned()))
            .to_json()
            .contains(r#""reply_to":"8""#)
    );
}

#[test]
fn names_are_the_same_on_both_sides() {
    let name = |value: Value| value.as_str().expect("a name").to_owned();
    for code in [
        call::ErrorCode::InvalidValue,
        call::ErrorCode::InvalidState,
        call::ErrorCode::TooLarge,
        call::ErrorCode::SttFailed,
        call::ErrorCode::LlmFailed,
        call::ErrorCode::TtsFailed,
        call::ErrorCode::BackendLost,
        call::ErrorCode::BackendMissing,
        call::ErrorCode::Timeout,
        call::ErrorCode::Overloaded,
    ] {
        assert_eq!(name(json!(code)), error_code(code).as_str());
        assert_eq!(error_code(code).close_code(), None, "errors in a call don't end it");
    }
    for reason in [
        CloseReason::Bye,
        CloseReason::Disconnected,
        CloseReason::Drained,
        CloseReason::Idle,
        CloseReason::TooSlow,
    ] {
        assert_eq!(json!(reason), json!(close_reason(reason)));
    }
    for status in [
        ResponseStatus::Completed,
        ResponseStatus::Interrupted,
        ResponseStatus::Cancelled,
        ResponseStatus::Failed,
    ] {
        assert_eq!(json!(status), json!(response_status(status)));
    }
    for kind in BackendKind::ALL {
        let state = BackendState::Missing { reason: String::new() };
        assert_eq!(json!(kind), json!(backend(kind, state).kind));
    }
    let stages: Vec<_> = report().stages().map(|(stage, _)| stage).collect();
    assert_eq!(stages, ReportStage::ALL.map(ReportStage::as_str));
}

#[test]
fn nothing_said_is_printed_on_the_way() {
    let secret = "5550123";
    let request = request(json!({ "type": "say", "text": secret }));
    assert!(!format!("{request:?}").contains(secret));
    let outside = event(Event::ResponseText {
        response: ResponseId::new(1),
        delta: said(secret),
    });
    assert!(!format!("{outside:?} {:?}", command(request)).contains(secret));
}

#[test]
fn a_backend_that_serves_is_told() {
    let registry = Arc::new(Registry::default());
    let generation = registry.next_generation();
    registry.mark_missing(BackendKind::Stt, "none".to_owned());
    registry.mark_missing(BackendKind::Vad, "none".to_owned());
    registry.mark_missing(BackendKind::Tts, "none".to_owned());
    assert_eq!(generation, Generation::new(1));
    let kinds = |settings: &Settings| -> Vec<_> {
        backends_of(settings, &registry)
            .into_iter()
            .map(|backend| backend.kind)
            .collect()
    };
    let mut settings = Settings::default();
    assert_eq!(
        kinds(&settings),
        [
            native::BackendKind::Vad,
            native::BackendKind::Stt,
            native::BackendKind::Tts
        ]
    );
    settings.stages.tts = false;
    settings.turn_detection = TurnDetection::Client;
    assert_eq!(
        kinds(&settings),
        [native::BackendKind::Stt],
        "only those that the session uses"
    );
}
