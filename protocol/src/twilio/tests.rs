use super::*;

const START: &str = r#"{"event":"start","sequenceNumber":"1","start":{"accountSid":"AC1","streamSid":"MZ1","callSid":"CA1","tracks":["inbound"],"mediaFormat":{"encoding":"audio/x-mulaw","sampleRate":8000,"channels":1},"customParameters":{"number":"+4930"}},"streamSid":"MZ1"}"#;

fn media(text: &str) -> Media<'_> {
    match Event::parse(text) {
        Ok(Event::Media(media)) => media,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_stream_begins() {
    let connected = Event::parse(r#"{"event":"connected","protocol":"Call","version":"1.0.0"}"#);
    assert_eq!(
        connected,
        Ok(Event::Connected {
            protocol: Some("Call".into()),
            version: Some("1.0.0".into())
        })
    );
    let Ok(Event::Start(start)) = Event::parse(START) else {
        panic!()
    };
    assert_eq!(start.stream_sid.as_str(), "MZ1");
    assert_eq!((start.call_sid.as_str(), start.account_sid.as_str()), ("CA1", "AC1"));
    assert!(start.is_mulaw());
    assert_eq!(start.parameter("number"), Some("+4930".into()));
    assert_eq!(start.parameter("other"), None);
    assert!(!format!("{start:?}").contains("4930"));

    // Numbers as texts, the name of the stream outside alone, and hardly anything else.
    let Ok(Event::Start(start)) = Event::parse(
        r#"{"event":"start","streamSid":"s","start":{"mediaFormat":{"sampleRate":"16000","channels":"2"}}}"#,
    ) else {
        panic!()
    };
    assert_eq!((start.sample_rate_hz, start.channels), (16_000, 2));
    assert!(!start.is_mulaw());
}

#[test]
fn audio_is_decoded_into_the_callers_buffer() {
    let text = r#"{"event":"media","sequenceNumber":"2","media":{"track":"inbound","chunk":"1","timestamp":"171","payload":"AAH/fw=="},"streamSid":"MZ1"}"#;
    let read = media(text);
    assert_eq!(
        (read.is_inbound, read.chunk, read.timestamp_ms),
        (true, Some(1), Some(171))
    );
    let mut out = vec![9; 3];
    read.decode(&mut out).unwrap();
    assert_eq!(out, [0, 1, 0xFF, 0x7F]);
    let at = out.as_ptr();
    read.decode(&mut out).unwrap();
    assert_eq!(out.as_ptr(), at, "no second allocation");

    // Numbers as numbers; a slash that is escaped; no padding; the other track.
    let text = r#"{"event":"media","media":{"track":"outbound","chunk":1,"timestamp":171,"payload":"AAH\/fw"}}"#;
    let read = media(text);
    assert_eq!(
        (read.is_inbound, read.chunk, read.timestamp_ms),
        (false, Some(1), Some(171))
    );
    read.decode(&mut out).unwrap();
    assert_eq!(out, [0, 1, 0xFF, 0x7F]);
}

#[test]
fn audio_has_an_end() {
    let message = |payload: &str| format!(r#"{{"event":"media","media":{{"payload":"{payload}"}}}}"#);
    let mut out = Vec::new();
    for (count, fits) in [
        (0, true),
        (160, true),
        (MAX_AUDIO_BYTES, true),
        (MAX_AUDIO_BYTES + 1, false),
        (20_000, false),
    ] {
        let text = message(&BASE64.encode(vec![7; count]));
        assert_eq!(media(&text).decode(&mut out).is_ok(), fits, "{count}");
        assert_eq!(out.len(), if fits { count } else { 0 });
    }
    for wrong in ["!", "A", "AA=A", "AAAA====", "é"] {
        let text = message(wrong);
        assert_eq!(
            media(&text).decode(&mut out),
            Err(EventError::Field("media.payload")),
            "{wrong}"
        );
        assert!(out.is_empty());
    }
}

#[test]
fn other_events_are_read() {
    let cases = [
        (
            r#"{"event":"dtmf","sequenceNumber":"5","dtmf":{"track":"inbound_track","digit":"1"},"streamSid":"MZ1"}"#,
            Event::Dtmf(Digit::new('1').unwrap()),
        ),
        (
            r#"{"event":"mark","sequenceNumber":"4","mark":{"name":"m \"1\""},"streamSid":"MZ1"}"#,
            Event::Mark { name: "m \"1\"".into() },
        ),
        (
            r#"{"event":"stop","sequenceNumber":"9","stop":{"accountSid":"AC1","callSid":"CA1"},"streamSid":"MZ1"}"#,
            Event::Stop,
        ),
        (r#"{"event":"later","media":7}"#, Event::Unknown("later".to_owned())),
    ];
    for (text, expected) in cases {
        assert_eq!(Event::parse(text), Ok(expected), "{text}");
    }
}

#[test]
fn what_makes_no_sense_is_an_error() {
    let deep = format!("{{\"event\":{}", "[".repeat(10_000));
    let name = format!(r#"{{"event":"mark","mark":{{"name":"{}"}}}}"#, "m".repeat(MAX_NAME + 1));
    for text in [
        "",
        "[]",
        "{}",
        &deep,
        &name,
        r#"{"event":null}"#,
        r#"{"event":"media"}"#,
        r#"{"event":"media","media":{}}"#,
        r#"{"event":"media","media":{"payload":5}}"#,
        r#"{"event":"media","media":{"payload":"","timestamp":"-1"}}"#,
        r#"{"event":"media","media":{"payload":"","timestamp":1.5}}"#,
        r#"{"event":"dtmf","dtmf":{"digit":"12"}}"#,
        r#"{"event":"mark","mark":{}}"#,
        r#"{"event":"start","start":{}}"#,
        r#"{"event":"start","start":{"streamSid":"a b"}}"#,
        r#"{"event":"start","start":{"streamSid":"a","mediaFormat":{"sampleRate":99999999999}}}"#,
    ] {
        let error = Event::parse(text).expect_err(text);
        assert!(error.to_string().len() < 80);
    }
    let long = " ".repeat(MAX_MESSAGE_BYTES + 1);
    assert_eq!(Event::parse(&long), Err(EventError::TooLong(MAX_MESSAGE_BYTES + 1)));
}

#[test]
fn what_is_sent_is_as_twilio_reads_it() {
    let stream = StreamSid::new("MZ1").unwrap();
    let mut out = String::new();
    write_media(&stream, &[0, 1, 0xFF, 0x7F], &mut out);
    assert_eq!(
        out,
        r#"{"event":"media","streamSid":"MZ1","media":{"payload":"AAH/fw=="}}"#
    );
    out.clear();
    write_mark(&stream, "a\"b", &mut out);
    assert_eq!(out, r#"{"event":"mark","streamSid":"MZ1","mark":{"name":"a\"b"}}"#);
    out.clear();
    write_clear(&stream, &mut out);
    assert_eq!(out, r#"{"event":"clear","streamSid":"MZ1"}"#);
    for wrong in ["", "a b", "a\"", "\\", "é", &"a".repeat(257)] {
        assert_eq!(StreamSid::new(wrong), None);
    }
}

#[test]
fn random_texts_are_read_or_refused() {
    let mut state = 4711_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as usize
    };
    let corpus = [
        START,
        r#"{"event":"media","media":{"track":"inbound","timestamp":"17","payload":"AAH/fw=="}}"#,
    ];
    let mut out = Vec::new();
    for _ in 0..20_000 {
        let mut bytes = corpus[next() % 2].as_bytes().to_vec();
        for _ in 0..1 + next() % 3 {
            let place = next() % bytes.len();
            bytes[place] = if next() % 2 == 0 {
                next() as u8
            } else {
                b"{}[]\",:=0"[next() % 9]
            };
        }
        if let Ok(Event::Media(media)) = Event::parse(&String::from_utf8_lossy(&bytes)) {
            let _ = media.decode(&mut out);
        }
    }
}
