//! The worker link: what is written is read again, in pieces of any size, and hostile bytes are answered.

use std::collections::BTreeMap;

use repartee_protocol::worker::*;

fn decode_all(decoder: &mut Decoder) -> Vec<Frame> {
    let mut frames = Vec::new();
    while let Some(frame) = decoder.next_frame().expect("well-formed frames") {
        frames.push(frame);
    }
    frames
}

fn written<M: serde::Serialize>(message: &M, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    encode(message, payload, &mut out).expect("a message within the limits");
    out
}

fn to_worker() -> Vec<(ToWorker, Vec<u8>)> {
    let chat = Chat {
        messages: vec![ChatMessage {
            role: Role::User,
            content: "What's the weather in Cork?".into(),
            tool_calls: Vec::new(),
            tool_call_id: None,
            images: vec![Image {
                media_type: "image/png".into(),
                data: "iVBORw0KGgo=".into(),
            }],
        }],
        tools: vec![Tool {
            name: "weather".into(),
            description: String::new(),
            parameters: serde_json::json!({"type": "object"}),
        }],
        tool_choice: Some("auto".into()),
    };
    let stream = StreamId(7);
    let open = |params| {
        ToWorker::Open(Open {
            stream,
            credit: 65_536,
            params,
        })
    };
    vec![
        (
            ToWorker::Load(Load {
                job: Job::Stt,
                model: "pocketsphinx-en-us".into(),
                files: BTreeMap::from([("tokens".into(), "stt/tokens.txt".into())]),
                options: BTreeMap::from([("fwdflat".into(), serde_json::json!(false))]),
                threads: 1,
                device: Some("cpu".into()),
            }),
            Vec::new(),
        ),
        (
            open(Params::Stt(SttParams {
                rate: 16_000,
                language: Some("en-US".into()),
                hints: vec!["Repartee".into()],
                prompt: None,
                partials: true,
                words: true,
            })),
            Vec::new(),
        ),
        (
            open(Params::Tts(TtsParams {
                voice: Some("rms".into()),
                speed: Some(1.1),
                ..TtsParams::default()
            })),
            Vec::new(),
        ),
        (
            open(Params::Llm(LlmParams {
                max_tokens: 64,
                temperature: Some(0.5),
                grammar: Some(Grammar::JsonSchema {
                    schema: serde_json::json!({"type": "object"}),
                }),
                stop: vec!["\n".into()],
                ..LlmParams::default()
            })),
            serde_json::to_vec(&chat).expect("plain data"),
        ),
        (open(Params::Vad(VadParams { rate: 16_000 })), Vec::new()),
        (
            open(Params::Turn(TurnParams {
                rate: 16_000,
                text: None,
            })),
            Vec::new(),
        ),
        (ToWorker::Audio { stream }, vec![1, 2, 3, 4]),
        (
            ToWorker::Text(Text {
                stream,
                clause: 3,
                text: "Good morning,\nall.".into(),
            }),
            Vec::new(),
        ),
        (ToWorker::Finish { stream }, Vec::new()),
        (ToWorker::Cancel { stream }, Vec::new()),
        (ToWorker::Credit(Credit { stream, n: 4096 }), Vec::new()),
        (ToWorker::Ping { nonce: 99 }, Vec::new()),
        (ToWorker::Stop, Vec::new()),
    ]
}

fn to_engine() -> Vec<(ToEngine, Vec<u8>)> {
    let stream = StreamId(7);
    let mark = Mark {
        text: "morning".into(),
        char_start: 5,
        char_end: 12,
        start: 100,
        end: 4000,
    };
    vec![
        (
            ToEngine::Hello(Hello {
                protocol: VERSION,
                name: "fake".into(),
                version: "0.1.0".into(),
                library: "none".into(),
                jobs: vec![Job::Stt, Job::Tts, Job::Llm, Job::Vad, Job::Turn],
                features: vec!["cpu".into()],
                formats: vec!["builtin".into()],
                devices: vec![Device {
                    id: "cpu".into(),
                    name: "some CPU".into(),
                    memory_bytes: 1,
                    free_bytes: 1,
                }],
                threads: 2,
                memory_bytes: 1 << 30,
                pid: 42,
            }),
            Vec::new(),
        ),
        (
            ToEngine::Ready(Ready {
                load_ms: 360,
                warmup_ms: 90,
                memory_bytes: 91 << 20,
                device_bytes: 0,
                device: "cpu".into(),
                fallback: Some("no CUDA device was found".into()),
                stream_credit: 320_000,
                model: ModelInfo {
                    name: "US English".into(),
                    rate: 16_000,
                    languages: vec!["en-US".into()],
                    voices: vec![Voice {
                        id: "rms".into(),
                        rate: 16_000,
                        ..Voice::default()
                    }],
                    max_streams: 2,
                    max_waiting: 8,
                    streaming: true,
                    context: 0,
                    max_input: 60_000,
                    synthetic: true,
                },
            }),
            Vec::new(),
        ),
        (
            ToEngine::LoadFailed(LoadFailed {
                code: code::MISSING.into(),
                reason: "install pocketsphinx-en-us".into(),
                file: Some("en-us/mdef".into()),
            }),
            Vec::new(),
        ),
        (
            ToEngine::Partial(Partial {
                stream,
                text: "good mor".into(),
                stable_chars: 4,
                audio_ms: 600,
            }),
            Vec::new(),
        ),
        (
            ToEngine::Final(FinalText {
                stream,
                text: "good morning".into(),
                confidence: Some(0.5),
                language: None,
                words: vec![mark.clone()],
                audio_ms: 900,
            }),
            Vec::new(),
        ),
        (ToEngine::Audio { stream }, vec![0; 640]),
        (
            ToEngine::Marks(Marks {
                stream,
                clause: 3,
                words: vec![mark],
                estimated: false,
            }),
            Vec::new(),
        ),
        (
            ToEngine::Token(Token {
                stream,
                text: "Grüße".into(),
            }),
            Vec::new(),
        ),
        (
            ToEngine::ToolCall(ToolCall {
                stream,
                call: Function {
                    id: "1".into(),
                    name: "weather".into(),
                    arguments: "{}".into(),
                },
            }),
            Vec::new(),
        ),
        (
            ToEngine::Score(Score {
                stream,
                probability: 0.75,
                at: 512,
            }),
            Vec::new(),
        ),
        (
            ToEngine::Done(Done {
                stream,
                cancelled: true,
                reason: Some("stop".into()),
                usage: Usage::default(),
            }),
            Vec::new(),
        ),
        (
            ToEngine::Failed(Failed {
                stream,
                code: code::BUSY.into(),
                message: "all decoders are taken".into(),
            }),
            Vec::new(),
        ),
        (ToEngine::Credit(Credit { stream, n: 1 }), Vec::new()),
        (
            ToEngine::Pong(Pong {
                nonce: 99,
                busy_ms: 3,
                streams: 2,
                memory_bytes: 5,
            }),
            Vec::new(),
        ),
        (
            ToEngine::Error {
                code: code::UNKNOWN_TYPE.into(),
                message: "what?".into(),
            },
            Vec::new(),
        ),
    ]
}

#[test]
fn every_message_survives_the_link_in_pieces_of_any_size() {
    for piece in [1, 2, 3, 7, 64, 4096] {
        let mut decoder = Decoder::new();
        let mut bytes = Vec::new();
        for (message, payload) in to_worker() {
            encode(&message, &payload, &mut bytes).expect("within the limits");
        }
        for (message, payload) in to_engine() {
            encode(&message, &payload, &mut bytes).expect("within the limits");
        }
        let mut frames = Vec::new();
        for part in bytes.chunks(piece) {
            decoder.push(part);
            frames.extend(decode_all(&mut decoder));
        }
        let (first, second) = frames.split_at(to_worker().len());
        for (frame, (message, payload)) in first.iter().zip(to_worker()) {
            assert_eq!(frame.to_worker().expect("a known message"), message);
            assert_eq!(frame.payload, payload);
        }
        assert_eq!(second.len(), to_engine().len());
        for (frame, (message, payload)) in second.iter().zip(to_engine()) {
            assert_eq!(frame.to_engine().expect("a known message"), message);
            assert_eq!(frame.payload, payload);
            assert_eq!(frame.cost(), written(&message, &payload).len() as u64);
        }
    }
}

#[test]
fn every_type_is_known_to_its_direction_and_unknown_to_the_other() {
    for (message, payload) in to_worker() {
        let mut decoder = Decoder::new();
        decoder.push(&written(&message, &payload));
        let frame = decode_all(&mut decoder).remove(0);
        let wrong_way = frame.to_engine();
        if !matches!(message, ToWorker::Audio { .. } | ToWorker::Credit(_)) {
            assert!(
                matches!(wrong_way, Err(MessageError::UnknownType { .. })),
                "{message:?}"
            );
        }
    }
}

#[test]
fn unknown_fields_are_ignored_and_unknown_types_are_answerable() {
    let mut decoder = Decoder::new();
    decoder.push(b"{\"type\":\"finish\",\"stream\":3,\"colour\":\"blue\"}\n");
    decoder.push(b"{\"type\":\"dance\",\"stream\":4,\"payload_length\":3}\nabc");
    decoder.push(b"{\"type\":\"text\",\"stream\":5}\n{\"type\":\"stop\"}\n");
    let frames = decode_all(&mut decoder);
    assert_eq!(frames[0].to_worker(), Ok(ToWorker::Finish { stream: StreamId(3) }));
    let error = frames[1].to_worker().expect_err("nobody dances");
    assert_eq!((error.code(), error.stream()), (code::UNKNOWN_TYPE, Some(4)));
    let error = frames[2].to_worker().expect_err("a text without text");
    assert_eq!((error.code(), error.stream()), (code::INVALID, Some(5)));
    assert_eq!(frames[3].to_worker(), Ok(ToWorker::Stop));
}

#[test]
fn an_error_never_quotes_what_was_said() {
    let mut decoder = Decoder::new();
    decoder.push(b"{\"type\":\"text\",\"stream\":5,\"text\":{\"secret\":\"my number is 12345\"}}\n");
    let error = decode_all(&mut decoder)
        .remove(0)
        .to_worker()
        .expect_err("the text is no string");
    assert!(!error.to_string().contains("12345"), "{error}");
    assert!(
        !format!(
            "{:?}",
            Text {
                stream: StreamId(1),
                clause: 0,
                text: "12345".into()
            }
        )
        .contains("12345")
    );
}

#[test]
fn hostile_headers_end_the_link_with_a_reason() {
    type Expected = fn(&FrameError) -> bool;
    let cases: Vec<(Vec<u8>, Expected)> = vec![
        (vec![b'x'; MAX_HEADER + 2], |error| *error == FrameError::HeaderTooLong),
        (
            b"{\"type\":\"audio\",\"payload_length\":99999999999}\n".to_vec(),
            |error| matches!(error, FrameError::PayloadTooLong(99_999_999_999)),
        ),
        (b"{\"type\":\"audio\",\"payload_length\":-1}\n".to_vec(), |error| {
            matches!(error, FrameError::Header(_))
        }),
        (b"{\"type\":1}\n".to_vec(), |error| {
            matches!(error, FrameError::Header(_))
        }),
        (b"{}\n".to_vec(), |error| matches!(error, FrameError::Header(_))),
        (b"[]\n".to_vec(), |error| matches!(error, FrameError::Header(_))),
        (b"\n".to_vec(), |error| matches!(error, FrameError::Header(_))),
        (b"GET / HTTP/1.1\r\n".to_vec(), |error| {
            matches!(error, FrameError::Header(_))
        }),
        (vec![0xff, 0xfe, b'\n'], |error| matches!(error, FrameError::Header(_))),
    ];
    for (bytes, expected) in cases {
        let mut decoder = Decoder::new();
        decoder.push(&bytes);
        let error = decoder.next_frame().expect_err("hostile bytes");
        assert!(expected(&error), "{error:?}");
        decoder.push(b"{\"type\":\"stop\"}\n");
        assert_eq!(decoder.next_frame(), Err(error), "the error stays");
    }
}

#[test]
fn random_bytes_and_damaged_frames_never_panic() {
    // A small generator of our own (xorshift64) keeps the test the same on each run.
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut honest = Vec::new();
    for (message, payload) in to_worker() {
        encode(&message, &payload, &mut honest).expect("within the limits");
    }
    for (message, payload) in to_engine() {
        encode(&message, &payload, &mut honest).expect("within the limits");
    }
    for _ in 0..2000 {
        let mut bytes = honest.clone();
        for _ in 0..1 + random() % 8 {
            let place = random() as usize % bytes.len();
            match random() % 3 {
                0 => bytes[place] = random() as u8,
                1 => drop(bytes.remove(place)),
                _ => bytes.insert(place, random() as u8),
            }
        }
        let mut decoder = Decoder::new();
        for part in bytes.chunks(1 + random() as usize % 300) {
            decoder.push(part);
            while let Ok(Some(frame)) = decoder.next_frame() {
                let _ = frame.to_worker();
                let _ = frame.to_engine();
            }
        }
    }
}

#[test]
fn a_message_over_the_limits_is_refused_and_leaves_no_trace() {
    let mut out = b"before".to_vec();
    let text = Text {
        stream: StreamId(1),
        clause: 0,
        text: "x".repeat(MAX_HEADER),
    };
    assert!(matches!(
        encode(&ToWorker::Text(text), &[], &mut out),
        Err(TooLong::Header(_))
    ));
    let audio = ToWorker::Audio { stream: StreamId(1) };
    assert!(matches!(
        encode(&audio, &vec![0; MAX_PAYLOAD + 1], &mut out),
        Err(TooLong::Payload(_))
    ));
    assert_eq!(out, b"before");
    assert!(encode(&audio, &vec![0; MAX_PAYLOAD], &mut out).is_ok());
}

#[test]
fn the_audio_header_is_what_the_documentation_shows() {
    let bytes = written(&ToWorker::Audio { stream: StreamId(7) }, &[0; 640]);
    assert!(bytes.starts_with(b"{\"type\":\"audio\",\"stream\":7,\"payload_length\":640}\n"));
}
