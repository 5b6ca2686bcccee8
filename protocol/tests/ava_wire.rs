//! AVA's wire: what is read from clients, and every message that is sent, held against AVA's own schema.

use std::collections::BTreeSet;
use std::path::Path;

use bytes::Bytes;
use jsonschema::Validator;
use repartee_protocol::ava::{
    AudioMode, AuthResponse, AutoContext, Backends, BargeInAck, Capabilities, Capability, Encoding, Facts, Fallback,
    Frame, Gateway, GatewayInput, Gpu, Ignored, Kind, Llm, LlmResponse, LlmToken, MAX_MESSAGE_BYTES, Mode, ModeReady,
    Output, PromptFit, ReloadResponse, Reply, Request, RequestId, Selection, Speaker, SttBackend, SttResult,
    SwitchModel, SwitchResponse, ToolCapability, ToolChoice, ToolContext, TtsAudio, TtsBackend, TtsResponse,
    backend_schema, texts,
};
use serde_json::{Value, json};

fn schema() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("schema/ava-local-ai-server.schema.json");
    let text = std::fs::read_to_string(path).expect("the file is part of the project");
    serde_json::from_str(&text).expect("the schema is JSON")
}

fn validator() -> Validator {
    jsonschema::validator_for(&schema()).expect("the schema is a schema")
}

fn value(text: &str) -> Value {
    serde_json::from_str(text).expect("what is sent is JSON")
}

/// The types that AVA's schema knows.
fn known_types() -> BTreeSet<String> {
    let schema = schema();
    let definitions = schema["$defs"].as_object().expect("definitions").values();
    definitions
        .map(|definition| {
            let name = definition["properties"]["type"]["const"].as_str();
            name.expect("a definition has a type").to_owned()
        })
        .collect()
}

fn read(message: &Value) -> Result<Request, Ignored> {
    Frame::parse(&message.to_string())?.read()
}

fn switch(message: Value) -> SwitchModel {
    match read(&message).expect("it is read") {
        Request::SwitchModel(switch) => *switch,
        other => panic!("{other:?}"),
    }
}

/// One of every kind of message, with everything that it may have and with as little as possible.
fn everything_sent() -> Vec<String> {
    let id = || Some(RequestId::from("r1"));
    let mut sent: Vec<Reply> = vec![
        AuthResponse::OK.into(),
        AuthResponse::INVALID.into(),
        AuthResponse::NEEDED.into(),
        ModeReady::new("c1", Mode::Full, None, None, Output::Mulaw8000).into(),
        ModeReady::new("c1", Mode::Stt, Some(800), Some(1_200), Output::Linear16At16000).into(),
        SttResult::partial("c1", Mode::Full, SttBackend::Vosk, "").into(),
        SttResult::last("c1", Mode::Stt, SttBackend::Sherpa, "hello")
            .with_confidence(0.91)
            .with_request(id())
            .into(),
        SttResult::last("c1", Mode::Stt, SttBackend::Sherpa, "hello")
            .with_confidence(f64::NAN)
            .into(),
        SttResult::unavailable("c1", Mode::Llm, SttBackend::Vosk).into(),
        LlmResponse::spoken("c1", texts::NO_MODEL).gated().into(),
        LlmResponse::answer("c1", Mode::Tts, "").with_request(id()).into(),
        LlmResponse::about_result("c1", "It is noon.").with_request(id()).into(),
        LlmResponse::farewell("c1", texts::FAREWELL).into(),
        LlmToken::new("c1", "It", id()).into(),
        TtsResponse::new("c1", "Hello", Output::Mulaw8000, &[1, 2, 3], id()).into(),
        TtsResponse::new("c1", "Hello", Output::Linear16At16000, &[], None).into(),
        BargeInAck::new("c1", None).into(),
        BargeInAck::new("c1", id()).into(),
        SwitchResponse::prompt_taken("c1", id()).into(),
        SwitchResponse::prompt_missing("c1", None).into(),
        SwitchResponse::failed(None, "no such file").into(),
        ReloadResponse::success(texts::RELOADED).into(),
        ReloadResponse::llm(&Llm::default()).into(),
        ReloadResponse::error("no such file").into(),
        Capabilities::default().into(),
        Backends::new(Capabilities::default()).into(),
        Reply::BackendSchema(backend_schema("stt", "vosk", Capabilities::default())),
        Reply::BackendSchema(backend_schema("stt", "none", Capabilities::default())),
    ];
    for message in [
        json!({ "type": "switch_model", "stt_backend": "sherpa", "stt_model_path": "/m/x", "request_id": "r1" }),
        json!({ "type": "switch_model" }),
        json!({ "type": "switch_model", "dry_run": true, "kokoro_voice": "af_sky" }),
        json!({ "type": "switch_model", "enable_filler_audio": true }),
    ] {
        let outcome = switch(message).apply(&Selection::default());
        sent.push(SwitchResponse::switched(id(), &outcome).into());
        sent.push(SwitchResponse::switched(None, &outcome).into());
    }
    for text in ["Bye. <tool_call>{\"name\":\"hangup_call\"}</tool_call>", ""] {
        let context = ToolContext {
            allowed: vec!["hangup_call".to_owned()],
            ..ToolContext::default()
        };
        let gateway = Gateway::new(GatewayInput {
            text,
            user_text: "goodbye",
            context: &context,
            choice: ToolChoice::Auto,
            may_ask: true,
            capability: Capability::Partial,
        });
        let answer = gateway.finish("c1", id());
        sent.push(answer.clone().into());
        sent.push(Reply::LlmTool(Box::new(answer.unasked())));
    }
    let full = Facts {
        stt_loaded: true,
        gpu_layers: Some(33),
        prompt_fit: Some(PromptFit {
            system_prompt_chars: 123,
            system_prompt_tokens: 68,
            safe_max_tokens: 1_972,
        }),
        auto_context: Some(AutoContext {
            enabled: true,
            source: "auto",
            selected_context: 2_048,
            candidates: vec![4_096, 2_048],
            cache_path: String::new(),
        }),
        tool_capability: Some(ToolCapability {
            level: Capability::Strict,
            source: "startup_probe",
            model: "x.gguf".to_owned(),
            notes: String::new(),
            structured_mode: "json_schema",
            validated_at: Some(1_712_345_678_901),
            model_fingerprint: "x.gguf".to_owned(),
        }),
        gpu: Gpu {
            memory_gb: Some(79.6),
            ..Gpu::default()
        },
        startup_errors: [("llm", "no such file".to_owned())].into(),
        fallbacks: [(
            "stt",
            Fallback {
                backend: "faster_whisper".to_owned(),
                from_device: "cuda".to_owned(),
                to_device: "cpu".to_owned(),
                reason: "no GPU".to_owned(),
                at_epoch_ms: 1,
            },
        )]
        .into(),
        ..Facts::default()
    };
    for facts in [Facts::default(), full] {
        for stt in SttBackend::ALL {
            for tts in TtsBackend::ALL {
                let mut selection = Selection::default();
                selection.stt.backend = *stt;
                selection.tts.backend = *tts;
                sent.push(repartee_protocol::ava::StatusResponse::new(&selection, &facts).into());
            }
        }
    }
    let mut sent: Vec<String> = sent.iter().map(Reply::to_json).collect();
    for audio in [
        audio(AudioMode::Full, &[0; 3_200]),
        audio(AudioMode::Filler, &[0]).with_request(id()),
        audio(AudioMode::ToolResult, &[0; 2]).with_place("utt-c1-1", 0, false),
    ] {
        sent.push(audio.into_messages().0);
    }
    sent
}

fn audio(mode: AudioMode, bytes: &[u8]) -> TtsAudio {
    TtsAudio::new("c1", mode, Output::Mulaw8000, Bytes::copy_from_slice(bytes)).expect("it has audio")
}

#[test]
fn every_message_that_is_sent_is_valid() {
    let valid = validator();
    let known = known_types();
    let beside: BTreeSet<&str> = [
        "barge_in_ack",
        "backends_response",
        "backend_schema_response",
        "llm_token",
    ]
    .into();
    let mut shown = BTreeSet::new();
    for text in everything_sent() {
        let message = value(&text);
        let kind = message["type"].as_str().expect("a message has a type").to_owned();
        if known.contains(&kind) {
            if let Err(error) = valid.validate(&message) {
                panic!("{text}: {error}");
            }
        } else {
            assert!(beside.contains(kind.as_str()), "{text}");
        }
        shown.insert(kind);
    }
    // Every type that AVA's server sends is among them.
    let sent_by_ava: BTreeSet<String> = known
        .iter()
        .filter(|kind| {
            kind.ends_with("_response") || ["mode_ready", "stt_result", "tts_audio"].contains(&kind.as_str())
        })
        .cloned()
        .chain(beside.iter().map(|kind| (*kind).to_owned()))
        .collect();
    assert_eq!(shown, sent_by_ava);
}

/// The schema isn't taken for more than it is: a message that breaks it is found.
#[test]
fn the_schema_finds_a_mistake() {
    let valid = validator();
    let mut message = value(&Reply::from(LlmResponse::spoken("c1", "Hello.")).to_json());
    assert!(valid.is_valid(&message));
    message["request_id"] = Value::Null;
    assert!(!valid.is_valid(&message));
}

#[test]
fn exact_messages() {
    for (message, expected) in [
        (
            Reply::from(SwitchResponse::prompt_taken("c1", Some("p1".into()))),
            json!({
                "type": "switch_response", "status": "success", "message": "Session system prompt synchronized",
                "scope": "session", "call_id": "c1", "request_id": "p1", "changed": ["system_prompt"],
            }),
        ),
        (
            SwitchResponse::prompt_missing("c1", Some("p1".into())).into(),
            json!({
                "type": "switch_response", "status": "error",
                "message": "session-scoped switch requires llm_config.system_prompt",
                "scope": "session", "call_id": "c1", "request_id": "p1",
            }),
        ),
        (
            SwitchResponse::failed(None, "x").into(),
            json!({ "type": "switch_response", "status": "error", "message": "x", "request_id": null }),
        ),
        (
            BargeInAck::new("c1", None).into(),
            json!({ "type": "barge_in_ack", "status": "ok", "call_id": "c1", "request_id": null }),
        ),
        (
            ModeReady::new("c1", Mode::Stt, Some(800), None, Output::Mulaw8000).into(),
            json!({
                "type": "mode_ready", "mode": "stt", "call_id": "c1", "segment_energy_threshold": 800,
                "segment_silence_ms": null, "output_encoding": "mulaw", "output_sample_rate_hz": 8000,
            }),
        ),
        (
            SttResult::unavailable("c1", Mode::Full, SttBackend::Vosk).into(),
            json!({
                "type": "stt_result", "text": "", "call_id": "c1", "mode": "full", "is_final": true,
                "is_partial": false, "confidence": null, "stt_backend": "vosk", "error": "stt_unavailable",
            }),
        ),
        (
            LlmResponse::farewell("c1", "Bye.").into(),
            json!({
                "type": "llm_response", "text": "Bye.", "call_id": "c1", "mode": "tool_result",
                "tool_result_final": true, "tool_gateway_done": true, "tool_path": "terminal_farewell",
            }),
        ),
        (
            TtsResponse::new("c1", "Hi", Output::Linear16At16000, &[1, 2, 3], Some("t1".into())).into(),
            json!({
                "type": "tts_response", "text": "Hi", "call_id": "c1", "audio_data": "AQI=", "encoding": "linear16",
                "sample_rate_hz": 16000, "byte_length": 2, "request_id": "t1",
            }),
        ),
        (
            ReloadResponse::llm(&Llm::default()).into(),
            json!({
                "type": "reload_response", "status": "success",
                "message": "LLM model reloaded with optimizations (ctx=768, batch=128, temp=0.4, max_tokens=64)",
            }),
        ),
    ] {
        assert_eq!(value(&message.to_json()), expected);
    }
}

#[test]
fn a_header_always_has_its_audio() {
    let new = |output, bytes: &'static [u8]| TtsAudio::new("c1", AudioMode::Full, output, Bytes::from_static(bytes));
    assert_eq!(new(Output::Mulaw8000, &[]), None);
    assert_eq!(new(Output::Linear16At16000, &[1]), None);
    let (header, bytes) = new(Output::Linear16At16000, &[1, 2, 3])
        .expect("a sample")
        .into_messages();
    assert_eq!(bytes.as_ref(), [1, 2]);
    assert_eq!(
        value(&header),
        json!({
            "type": "tts_audio", "call_id": "c1", "mode": "full", "encoding": "linear16", "sample_rate_hz": 16000,
            "byte_length": 2,
        })
    );
}

#[test]
fn no_audio_is_answered_with_a_moment_of_silence() {
    let message = value(&Reply::from(TtsResponse::new("c1", "Hi", Output::Mulaw8000, &[], None)).to_json());
    assert_eq!(message["byte_length"], 800);
    assert!(
        message["audio_data"]
            .as_str()
            .is_some_and(|data| data.starts_with("////"))
    );
}

#[test]
fn types_are_read_in_any_spelling() {
    for (text, kind) in [
        ("status", Ok(Kind::Status)),
        (" Set-Mode\u{0}\n", Ok(Kind::SetMode)),
        ("LLM-TOOL_request", Ok(Kind::LlmToolRequest)),
        ("\u{0} ", Err(Ignored::NoType)),
        ("hello", Err(Ignored::UnknownType)),
    ] {
        let message = json!({ "type": text }).to_string();
        assert_eq!(Frame::parse(&message).map(|frame| frame.kind), kind, "{text}");
    }
    for kind in Kind::ALL {
        let message = json!({ "type": kind.as_str() }).to_string();
        assert_eq!(Frame::parse(&message).map(|frame| frame.kind), Ok(*kind));
    }
}

#[test]
fn what_makes_no_sense_is_ignored_with_a_reason() {
    let long = "x".repeat(300_000);
    for (text, reason, is_a_message) in [
        ("", Ignored::NotJson, false),
        ("{\"type\":\"status\"", Ignored::NotJson, false),
        (&"[".repeat(10_000), Ignored::NotJson, false),
        ("[{\"type\":\"status\"}]", Ignored::NotAnObject, false),
        ("null", Ignored::NotAnObject, false),
        ("{}", Ignored::NoType, false),
        ("{\"type\":null}", Ignored::NoType, false),
        ("{\"type\":7}", Ignored::UnknownType, true),
        ("{\"type\":\"ping\"}", Ignored::UnknownType, true),
        ("{\"type\":\"audio\"}", Ignored::Missing("data"), true),
        (
            "{\"type\":\"audio\",\"data\":\"AAA=\",\"rate\":\"fast\"}",
            Ignored::Wrong("rate"),
            true,
        ),
        (
            "{\"type\":\"audio\",\"data\":\"AAA=\",\"rate\":[]}",
            Ignored::Wrong("rate"),
            true,
        ),
        (
            "{\"type\":\"audio\",\"data\":\"AAA=\",\"rate\":0}",
            Ignored::Wrong("rate"),
            true,
        ),
        (
            "{\"type\":\"audio\",\"data\":\"AAA=\",\"rate\":1e9}",
            Ignored::Wrong("rate"),
            true,
        ),
        ("{\"type\":\"audio\",\"data\":\"AA\"}", Ignored::Missing("data"), true),
        ("{\"type\":\"audio\",\"data\":\"?!\"}", Ignored::Wrong("data"), true),
        ("{\"type\":\"audio\",\"data\":7}", Ignored::Wrong("data"), true),
        ("{\"type\":\"tts_request\"}", Ignored::Missing("text"), true),
        (
            "{\"type\":\"tts_request\",\"text\":\"\"}",
            Ignored::Missing("text"),
            true,
        ),
        (
            "{\"type\":\"llm_request\",\"text\":\" \"}",
            Ignored::Missing("text"),
            true,
        ),
        ("{\"type\":\"llm_request\",\"text\":{}}", Ignored::Wrong("text"), true),
        (
            &format!("{{\"type\":\"tts_request\",\"text\":\"{long}\"}}"),
            Ignored::TooLong("text"),
            true,
        ),
        (
            &format!("{{\"type\":\"status\",\"call_id\":\"{long}\"}}"),
            Ignored::TooLong("call_id"),
            true,
        ),
        (
            &format!("{{\"type\":\"status\",\"request_id\":\"{long}\"}}"),
            Ignored::TooLong("request_id"),
            true,
        ),
        (
            "{\"type\":\"llm_tool_request\",\"text\":[]}",
            Ignored::Wrong("text"),
            true,
        ),
    ] {
        let read = Frame::parse(text).and_then(Frame::read);
        assert_eq!(read, Err(reason), "{}", &text[..text.len().min(80)]);
        assert_eq!(reason.is_a_message(), is_a_message);
        assert!(!reason.to_string().is_empty());
    }
    let huge = " ".repeat(MAX_MESSAGE_BYTES + 1);
    assert_eq!(Frame::parse(&huge).map(|frame| frame.kind), Err(Ignored::TooLarge));
}

#[test]
fn ids_are_kept_as_they_came() {
    let ids = |message: Value| {
        let frame = Frame::parse(&message.to_string()).expect("it is read");
        let id = serde_json::to_value(&frame.request_id).expect("an id is JSON");
        (frame.call_id, id, frame.protocol_version)
    };
    assert_eq!(
        ids(json!({ "type": "status", "call_id": "c1", "request_id": "r1", "protocol_version": 3 })),
        (Some("c1".to_owned()), json!("r1"), Some(3))
    );
    assert_eq!(
        ids(json!({ "type": "status", "call_id": 17, "request_id": 5 })),
        (Some("17".to_owned()), json!(5), None)
    );
    for nothing in [json!(""), json!(0), json!(false), json!(null), json!([])] {
        assert_eq!(
            ids(json!({ "type": "status", "call_id": "", "request_id": nothing })),
            (None, Value::Null, None)
        );
    }
}

#[test]
fn modes_and_formats() {
    let mode = |message: Value| match read(&message) {
        Ok(Request::SetMode(mode)) => mode,
        other => panic!("{other:?}"),
    };
    let plain = mode(json!({ "type": "set_mode" }));
    assert_eq!((plain.mode, plain.segment_energy_threshold), (Some(Mode::Full), None));
    assert_eq!(plain.output, repartee_protocol::ava::OutputRequest::default());

    let given = mode(json!({
        "type": "set_mode", "mode": "stt", "segment_energy_threshold": 0, "segment_silence_ms": 5000,
        "output_encoding": "slin16", "output_sample_rate_hz": "16000",
    }));
    assert_eq!(given.mode, Some(Mode::Stt));
    assert_eq!(
        (given.segment_energy_threshold, given.segment_silence_ms),
        (Some(0), Some(5_000))
    );
    assert_eq!(
        (given.output.encoding, given.output.rate),
        (Some(Encoding::Linear16), Some(16_000))
    );

    let odd = mode(json!({
        "type": "set_mode", "mode": "minimal", "segment_energy_threshold": true, "segment_silence_ms": 99,
        "output_sample_rate_hz": [],
    }));
    assert_eq!(
        (odd.mode, odd.segment_energy_threshold, odd.segment_silence_ms),
        (None, None, None)
    );
    assert_eq!(Output::Linear16At16000.after(odd.output), Output::Mulaw8000);

    let Ok(Request::Tts(tts)) = read(&json!({
        "type": "tts_request", "text": " ", "encoding": "linear16", "sample_rate_hz": 16000, "output_encoding": "ulaw",
    })) else {
        panic!("it is read");
    };
    assert_eq!((tts.text.expose(), tts.output.encoding), (" ", Some(Encoding::Mulaw)));
}

#[test]
fn audio_comes_in_every_base64() {
    let pcm = |data: &str| match read(&json!({ "type": "audio", "data": data, "rate": 8000.0, "mode": "stt" })) {
        Ok(Request::Audio(audio)) => {
            assert_eq!((audio.rate, audio.mode), (8_000, Some(Mode::Stt)));
            assert!(!format!("{audio:?}").contains('['));
            audio.pcm.to_vec()
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(pcm("AQIDBA=="), [1, 2, 3, 4]);
    assert_eq!(pcm("AQIDBA"), [1, 2, 3, 4]);
    assert_eq!(pcm("AQ ID\r\nBA==\n"), [1, 2, 3, 4]);
    // Half a sample too much.
    assert_eq!(pcm("AQIDBAU="), [1, 2, 3, 4]);
}

#[test]
fn the_rest_of_what_clients_send() {
    let messages = json!([
        { "role": "system", "content": "Be brief." }, { "role": "tool", "content": "x" }, { "role": "user", "content": "" },
        { "role": "user", "content": [{ "type": "text", "text": "What" }, { "type": "text", "text": "time?" }] },
        { "role": "assistant", "content": null }, 7, { "role": "assistant", "content": "Noon." },
        { "role": "user", "content": "Sure?" },
    ]);
    for context in [messages.clone(), json!({ "messages": messages, "other": 1 })] {
        let Ok(Request::Llm(request)) =
            read(&json!({ "type": "llm_request", "text": "Sure?", "context": context, "stream": true }))
        else {
            panic!("it is read");
        };
        let heard: Vec<_> = request
            .history()
            .iter()
            .map(|message| (message.speaker, message.text.expose()))
            .collect();
        assert_eq!(
            heard,
            [
                (Speaker::System, "Be brief."),
                (Speaker::User, "What time?"),
                (Speaker::Assistant, "Noon.")
            ]
        );
        assert!(request.stream);
    }
    let Ok(Request::Llm(request)) = read(&json!({ "type": "llm_request", "text": "Hi", "context": { "call": {} } }))
    else {
        panic!("it is read");
    };
    assert!(request.history().is_empty() && !request.stream);

    assert!(matches!(
        read(&json!({ "type": "auth", "token": "t" })),
        Ok(Request::Auth(token)) if token.expose() == "t"
    ));
    assert!(matches!(
        read(&json!({ "type": "barge_in", "rollback_assistant": true, "reason": "stop_session" })),
        Ok(Request::BargeIn(barge_in)) if barge_in.rollback && barge_in.stops_session
    ));
    assert!(matches!(
        read(&json!({ "type": "tool_result", "tool_name": "t", "result": { "a": [1] }, "is_error": 1 })),
        Ok(Request::ToolResult(result)) if result.is_error && result.result == json!({ "a": [1] })
    ));
    assert!(matches!(
        read(&json!({ "type": "reload_llm", "model_path": "/m/x" })),
        Ok(Request::ReloadLlm(reload)) if reload.model_path.as_deref() == Some("/m/x")
    ));
    assert!(matches!(
        read(&json!({ "type": "backend_schema", "backend_type": "stt" })),
        Ok(Request::BackendSchema { job, name }) if job == "stt" && name.is_empty()
    ));
}

#[test]
fn a_session_switches_its_prompt_only() {
    let prompt = |config: Value| match read(&json!({
        "type": "switch_model", "scope": "Session", "call_id": "c1", "llm_config": config, "stt_backend": "vosk",
    })) {
        Ok(Request::SwitchSession(prompt)) => prompt.map(|prompt| prompt.expose().to_owned()),
        other => panic!("{other:?}"),
    };
    assert_eq!(
        prompt(json!({ "system_prompt": "Be brief." })),
        Some("Be brief.".to_owned())
    );
    // Empty is a prompt, too.
    assert_eq!(prompt(json!({ "system_prompt": "" })), Some(String::new()));
    for nothing in [json!({}), json!(null), json!("x"), json!({ "system_prompt": 7 })] {
        assert_eq!(prompt(nothing), None);
    }
}

/// What people say, and secrets, are not in what is printed for a log.
#[test]
fn nothing_private_is_printed() {
    for message in [
        json!({ "type": "auth", "auth_token": "hush" }),
        json!({ "type": "tts_request", "text": "hush" }),
        json!({ "type": "llm_request", "text": "hush", "context": [{ "role": "user", "content": "hush" }] }),
        json!({ "type": "llm_tool_request", "text": "hush", "latest_user_text": "hush" }),
        json!({ "type": "switch_model", "scope": "session", "llm_config": { "system_prompt": "hush" } }),
        json!({ "type": "switch_model", "kokoro_api_key": "hush", "kokoro_api_base_url": "https://u:hush@x" }),
        json!({ "type": "tool_result", "tool_name": "t", "result": { "message": "hush" } }),
    ] {
        let frame = Frame::parse(&message.to_string()).expect("it is read");
        let told = format!("{frame:?}");
        let told = format!("{told} {:?}", frame.read().expect("it is read"));
        assert!(!told.contains("hush"), "{told}");
    }
    let gateway = Gateway::new(GatewayInput {
        text: "hush *transfer* {\"to\":\"hush\"}",
        user_text: "hush",
        context: &ToolContext {
            allowed: vec!["transfer".to_owned()],
            ..ToolContext::default()
        },
        choice: ToolChoice::Auto,
        may_ask: true,
        capability: Capability::Unknown,
    });
    let told = format!("{gateway:?} {:?}", gateway.prompt(repartee_protocol::ava::Pass::Repair));
    assert!(!told.contains("hush"), "{told}");
    for reply in [
        Reply::from(gateway.finish("c1", None)),
        SttResult::last("c1", Mode::Stt, SttBackend::Vosk, "hush").into(),
        LlmResponse::spoken("c1", "hush").into(),
        LlmToken::new("c1", "hush", None).into(),
        TtsResponse::new("c1", "hush", Output::Mulaw8000, &[1], None).into(),
    ] {
        assert!(!format!("{reply:?}").contains("hush"), "{reply:?}");
    }
}
