use super::*;
use crate::native::Digit;

fn event(text: &str) -> Event {
    Message::parse(text)
        .unwrap_or_else(|error| panic!("{text}: {error}"))
        .event
}

/// As Asterisk 22.10.1 sent it.
const START: &str = r#"{"event":"MEDIA_START","connection_id":"engine","channel":"WebSocket/engine/0x7f53","channel_id":"1795291244.164","format":"slin16","optimal_frame_size":640,"ptime":20,"channel_variables":{"DIALEDPEERNUMBER":"engine/c(slin16)f(json)","MEDIA_WEBSOCKET_CONNECTION_ID":"engine","MEDIA_WEBSOCKET_OPTIMAL_FRAME_SIZE":"640","__CALLER_NUM":"labphone"}}"#;

#[test]
fn a_call_begins_in_json() {
    let message = Message::parse(START).unwrap();
    assert_eq!(message.channel_id.as_deref(), Some("1795291244.164"));
    let Event::MediaStart(start) = message.event else {
        panic!("{message:?}")
    };
    assert_eq!(start.connection_id, "engine");
    assert_eq!(start.channel, "WebSocket/engine/0x7f53");
    assert_eq!(start.format, Format::Slin(SlinRate::Hz16000));
    assert_eq!((start.frame_bytes, start.ptime_ms), (640, 20));
    assert_eq!((start.passthrough, start.unbuffered), (false, false));
    assert_eq!(start.variables.len(), 4);
    assert_eq!(start.variables.value("__CALLER_NUM"), Some("labphone"));
    assert_eq!(start.variables.inherited("CALLER_NUM"), Some("labphone"));
    assert!(!format!("{start:?}").contains("labphone"));

    // A newer version, with a field that nobody knows yet.
    let newer = START.replace(
        r#""ptime":20"#,
        r#""ptime":40,"passthrough":true,"unbuffered":true,"new":[{}]"#,
    );
    let Event::MediaStart(start) = event(&newer) else {
        panic!()
    };
    assert_eq!((start.passthrough, start.unbuffered, start.ptime_ms), (true, true, 40));
}

#[test]
fn a_call_begins_in_plain_text() {
    let message = Message::parse(
        "MEDIA_START connection_id:engine channel:WebSocket/engine/0x7f channel_id:17.4 format:slin optimal_frame_size:320 ptime:20",
    )
    .unwrap();
    assert_eq!(message.channel_id.as_deref(), Some("17.4"));
    let Event::MediaStart(start) = message.event else {
        panic!()
    };
    assert_eq!(
        (start.channel.as_str(), start.frame_bytes),
        ("WebSocket/engine/0x7f", 320)
    );
    assert_eq!(start.format.sample_rate_hz(), Some(8000));

    // 22.6: no channel_id and no ptime.
    let message = Message::parse("MEDIA_START connection_id:a channel:b format:ulaw optimal_frame_size:160").unwrap();
    assert_eq!(message.channel_id, None);
    let Event::MediaStart(start) = message.event else {
        panic!()
    };
    assert_eq!(
        (start.format, start.ptime_ms, start.frame_bytes),
        (Format::Ulaw, 20, 160)
    );

    // A frame's size that isn't said follows from the format, where it does.
    let size = |text: &str| match event(text) {
        Event::MediaStart(start) => start.frame_bytes,
        other => panic!("{other:?}"),
    };
    assert_eq!(size("MEDIA_START format:slin24"), 960);
    assert_eq!(size("MEDIA_START format:opus"), 0);
    assert_eq!(
        size(r#"{"event":"MEDIA_START","format":"opus","optimal_frame_size":0}"#),
        0
    );
}

#[test]
fn both_styles_say_the_same() {
    let id = |text: &str| Some(CorrelationId::new(text).unwrap());
    let status = Status {
        queue_length: 200,
        xon_level: 800,
        xoff_level: 900,
        queue_full: false,
        bulk_media: true,
        media_paused: false,
    };
    let cases = [
        (
            r#"{"event":"DTMF_END","channel_id":"1.2","digit":"5"}"#,
            "DTMF_END digit:5 channel_id:1.2",
            Event::Dtmf(Digit::new('5').unwrap()),
        ),
        (
            r#"{"event":"MEDIA_XOFF","channel_id":"1.2"}"#,
            "MEDIA_XOFF channel_id:1.2",
            Event::Xoff,
        ),
        (
            r#"{"event":"MEDIA_XON","channel_id":"1.2"}"#,
            "MEDIA_XON channel_id:1.2",
            Event::Xon,
        ),
        (
            r#"{"event":"STATUS","channel_id":"1.2","queue_length":200,"xon_level":800,"xoff_level":900,"queue_full":false,"bulk_media":true,"media_paused":false}"#,
            "STATUS channel_id:1.2 queue_length:200 xon_level:800 xoff_level:900 queue_full:false bulk_media:true media_paused:false",
            Event::Status(status),
        ),
        (
            r#"{"event":"MEDIA_BUFFERING_COMPLETED","channel_id":"1.2","correlation_id":"s1"}"#,
            "MEDIA_BUFFERING_COMPLETED s1 channel_id:1.2",
            Event::BufferingCompleted(id("s1")),
        ),
        (
            r#"{"event":"MEDIA_MARK_PROCESSED","channel_id":"1.2","correlation_id":"7:m1"}"#,
            "MEDIA_MARK_PROCESSED channel_id:1.2 7:m1",
            Event::MarkProcessed(id("7:m1")),
        ),
        (
            r#"{"event":"MEDIA_MARK_PROCESSED","channel_id":"1.2","correlation_id":""}"#,
            "MEDIA_MARK_PROCESSED channel_id:1.2",
            Event::MarkProcessed(None),
        ),
        (
            r#"{"event":"QUEUE_DRAINED","channel_id":"1.2"}"#,
            "QUEUE_DRAINED channel_id:1.2",
            Event::QueueDrained,
        ),
        (
            r#"{"event":"ERROR","channel_id":"1.2","error_text":"MARK_MEDIA: not now"}"#,
            "ERROR channel_id:1.2 error_text:MARK_MEDIA: not now",
            Event::Error("MARK_MEDIA: not now".into()),
        ),
        (
            r#"{"event":"LATER","channel_id":"1.2","format":5}"#,
            "LATER channel_id:1.2 format:5",
            Event::Unknown("LATER".to_owned()),
        ),
    ];
    for (json, plain, expected) in cases {
        let expected = Ok(Message {
            channel_id: Some("1.2".to_owned()),
            event: expected,
        });
        assert_eq!(Message::parse(json), expected, "{json}");
        assert_eq!(Message::parse(plain), expected, "{plain}");
    }
    assert_eq!(event("MEDIA_XOFF"), Event::Xoff);
    assert_eq!(event("QUEUE_DRAINED\n"), Event::QueueDrained);
}

#[test]
fn what_makes_no_sense_is_an_error() {
    let deep = format!("{{\"event\":{}", "[".repeat(10_000));
    let long = format!(
        r#"{{"event":"MEDIA_MARK_PROCESSED","correlation_id":"{}"}}"#,
        "a".repeat(65)
    );
    let name = format!("MEDIA_START format:{}", "a".repeat(65));
    for text in [
        "",
        " ",
        "{",
        "{}",
        "{\"event\":1}",
        &deep,
        "DTMF_END",
        "DTMF_END digit:55",
        "DTMF_END digit:x",
        r#"{"event":"DTMF_END","digit":5}"#,
        "STATUS queue_length:-1",
        "STATUS queue_length:99999999999",
        "STATUS queue_length:1 queue_full:perhaps",
        r#"{"event":"STATUS","queue_length":"1"}"#,
        "MEDIA_START",
        "MEDIA_START format:slin optimal_frame_size:70000",
        "MEDIA_START format:slin ptime:0",
        &name,
        r#"{"event":"MEDIA_START","format":"slin","channel_variables":[]}"#,
        &long,
    ] {
        let error = Message::parse(text).expect_err(text);
        assert!(error.to_string().len() < 120);
    }
    let long = "x".repeat(MAX_MESSAGE_BYTES + 1);
    assert_eq!(Message::parse(&long), Err(EventError::TooLong(MAX_MESSAGE_BYTES + 1)));
    assert_eq!(event(&long[1..]), Event::Unknown("x".repeat(64)));
}

#[test]
fn random_texts_are_read_or_refused() {
    let mut state = 99_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let corpus = [
        START,
        "STATUS channel_id:1 queue_length:2 queue_full:false",
        "ERROR error_text:a b",
        "MEDIA_MARK_PROCESSED m1",
    ];
    for _ in 0..20_000 {
        let mut bytes = corpus[next() as usize % corpus.len()].as_bytes().to_vec();
        for _ in 0..1 + next() % 4 {
            let place = next() as usize % bytes.len();
            match next() % 3 {
                0 => bytes[place] = next() as u8,
                1 => bytes.truncate(place.max(1)),
                _ => bytes.insert(place, b" :{}\"\\,"[next() as usize % 7]),
            }
        }
        let _ = Message::parse(&String::from_utf8_lossy(&bytes));
    }
}

#[test]
fn formats_have_names_rates_and_sizes() {
    let cases = [
        ("slin", Some(8000), Some(320)),
        ("slin12", Some(12_000), Some(480)),
        ("slin16", Some(16_000), Some(640)),
        ("slin24", Some(24_000), Some(960)),
        ("slin32", Some(32_000), Some(1280)),
        ("slin44", Some(44_100), Some(1764)),
        ("slin48", Some(48_000), Some(1920)),
        ("slin96", Some(96_000), Some(3840)),
        ("slin192", Some(192_000), Some(7680)),
        ("ulaw", Some(8000), Some(160)),
        ("alaw", Some(8000), Some(160)),
        ("g722", Some(16_000), Some(160)),
        ("opus", Some(48_000), None),
        ("silk", None, None),
    ];
    for (name, rate, bytes) in cases {
        let format = Format::from_name(name);
        assert_eq!(format.name(), name);
        assert_eq!((format.sample_rate_hz(), format.frame_bytes()), (rate, bytes), "{name}");
        assert_eq!(format.message_bytes().is_some(), bytes.is_some());
        if let (Some(message), Some(frame)) = (format.message_bytes(), bytes) {
            assert!(message % frame == 0 && message <= MAX_MEDIA_BYTES && message + frame > MAX_MEDIA_BYTES);
        }
    }
    assert_eq!(Format::from_name("silk"), Format::Unknown("silk".to_owned()));
}

#[test]
fn commands_are_compact() {
    let id = CorrelationId::new("m1").unwrap();
    let cases = [
        (Command::Answer, r#"{"command":"ANSWER"}"#, "ANSWER"),
        (Command::Hangup, r#"{"command":"HANGUP"}"#, "HANGUP"),
        (
            Command::StartMediaBuffering,
            r#"{"command":"START_MEDIA_BUFFERING"}"#,
            "START_MEDIA_BUFFERING",
        ),
        (
            Command::StopMediaBuffering(Some(&id)),
            r#"{"command":"STOP_MEDIA_BUFFERING","correlation_id":"m1"}"#,
            "STOP_MEDIA_BUFFERING m1",
        ),
        (
            Command::StopMediaBuffering(None),
            r#"{"command":"STOP_MEDIA_BUFFERING"}"#,
            "STOP_MEDIA_BUFFERING",
        ),
        (
            Command::MarkMedia(Some(&id)),
            r#"{"command":"MARK_MEDIA","correlation_id":"m1"}"#,
            "MARK_MEDIA m1",
        ),
        (Command::FlushMedia, r#"{"command":"FLUSH_MEDIA"}"#, "FLUSH_MEDIA"),
        (Command::PauseMedia, r#"{"command":"PAUSE_MEDIA"}"#, "PAUSE_MEDIA"),
        (
            Command::ContinueMedia,
            r#"{"command":"CONTINUE_MEDIA"}"#,
            "CONTINUE_MEDIA",
        ),
        (
            Command::ReportQueueDrained,
            r#"{"command":"REPORT_QUEUE_DRAINED"}"#,
            "REPORT_QUEUE_DRAINED",
        ),
        (Command::GetStatus, r#"{"command":"GET_STATUS"}"#, "GET_STATUS"),
    ];
    for (command, json, plain) in cases {
        assert_eq!(command.to_text(Style::Json).as_deref(), Ok(json));
        assert_eq!(command.to_text(Style::Plain).as_deref(), Ok(plain));
        assert!(serde_json::from_str::<serde_json::Value>(json).is_ok());
    }
    for (direction, word) in [
        (Direction::Both, "both"),
        (Direction::In, "in"),
        (Direction::Out, "out"),
    ] {
        let command = Command::SetMediaDirection(direction);
        assert_eq!(
            command.to_text(Style::Json),
            Ok(format!(r#"{{"command":"SET_MEDIA_DIRECTION","direction":"{word}"}}"#))
        );
        assert_eq!(command.to_text(Style::Plain), Err(CommandError::NeedsJson));
    }
}

#[test]
fn no_command_is_longer_than_asterisk_reads() {
    let longest = CorrelationId::new("i".repeat(MAX_CORRELATION_ID)).unwrap();
    for command in [
        Command::StopMediaBuffering(Some(&longest)),
        Command::MarkMedia(Some(&longest)),
    ] {
        for style in [Style::Json, Style::Plain] {
            let text = command.to_text(style).unwrap();
            assert!(text.len() <= MAX_COMMAND_BYTES, "{}", text.len());
        }
    }
    for wrong in ["", "a b", "a\"", "a\\", "é", "a\n", &"i".repeat(65)] {
        assert_eq!(CorrelationId::new(wrong), Err(NotACorrelationId), "{wrong}");
    }
}
