//! What the fuzz targets do, for a while and without a fuzzer: no bytes make a parser panic.

use std::time::Duration;

use repartee_protocol::ava;
use repartee_protocol::native::{examples, parse_control, parse_event};
use repartee_protocol::rtp::{DigitReceiver, RtpPacket, classify, comfort_noise_level};
use repartee_protocol::worker::{Decoder, Frame};

/// A small generator (xorshift64*, Vigna 2016), so that failures repeat.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).expect("less than a usize")
    }
}

/// With the examples as its corpus.
#[test]
fn text_messages_of_the_native_wire() {
    let mut random = Random(0x5eed);
    let corpus: Vec<&str> = examples::CONTROLS
        .iter()
        .chain(examples::EVENTS)
        .map(|example| example.json)
        .collect();
    for round in 0..30_000 {
        let mut bytes = if round % 4 == 0 {
            (0..random.below(64)).map(|_| random.next().to_le_bytes()[0]).collect()
        } else {
            corpus[random.below(corpus.len())].as_bytes().to_vec()
        };
        for _ in 0..random.below(4) {
            if bytes.is_empty() {
                break;
            }
            let at = random.below(bytes.len());
            match random.below(4) {
                0 => bytes[at] = random.next().to_le_bytes()[0],
                1 => drop(bytes.remove(at)),
                2 => bytes.truncate(at),
                _ => bytes.insert(at, b"{}[]\",:0-9.eE\\u"[random.below(15)]),
            }
        }
        let text = String::from_utf8_lossy(&bytes);
        match parse_control(&text) {
            Ok(control) => assert_eq!(parse_control(&control.to_json()), Ok(control), "{text}"),
            Err(error) => assert!(error.message.chars().count() < 300, "{text}: {error}"),
        }
        if let Ok(Some(event)) = parse_event(&text) {
            let written = event.to_json();
            let again = parse_event(&written).ok().flatten();
            assert_eq!(again.as_ref(), Some(&event), "{text}");
        }
    }
}

/// What clients of AVA's wire send.
const AVA: &[&str] = &[
    r#"{"type":"auth","auth_token":"t"}"#,
    r#"{"type":"set-mode","mode":"stt","segment_silence_ms":800,"output_encoding":"slin","output_sample_rate_hz":16000}"#,
    r#"{"type":"audio","data":"AQIDBAUG","rate":8000,"mode":"full"}"#,
    r#"{"type":"barge_in","rollback_assistant":true,"request_id":"b1"}"#,
    r#"{"type":"tts_request","text":"Hello.","encoding":"mulaw"}"#,
    r#"{"type":"llm_request","text":"Hi","context":{"messages":[{"role":"user","content":[{"text":"a"}]}]}}"#,
    r#"{"type":"tool_context","allowed_tools":["a"],"tools":[{"name":"a","parameters":{}}],"tool_policy":"auto"}"#,
    r#"{"type":"llm_tool_request","text":"ok <tool_call>{\"name\":\"a\"}</tool_call> *a* {}","allowed_tools":["a"]}"#,
    r#"{"type":"tool_result","tool_name":"a","result":{"b":[1]},"is_error":false}"#,
    r#"{"type":"switch_model","stt_backend":"sherpa","stt_config":{"port":1},"tts_config":{"speed":1.5},"dry_run":true}"#,
    r#"{"type":"switch_model","scope":"session","llm_config":{"system_prompt":""}}"#,
    r#"{"type":"backend_schema","backend_type":"stt","backend_name":"vosk"}"#,
];

#[test]
fn messages_of_avas_wire() {
    let mut random = Random(0x5eed + 3);
    let mut understood = 0_u32;
    for _ in 0..10_000 {
        let mut bytes = AVA[random.below(AVA.len())].as_bytes().to_vec();
        for _ in 0..random.below(4) {
            if bytes.is_empty() {
                break;
            }
            let at = random.below(bytes.len());
            match random.below(4) {
                0 => bytes[at] = random.next().to_le_bytes()[0],
                1 => drop(bytes.remove(at)),
                2 => bytes.truncate(at),
                _ => bytes.insert(at, b"{}[]\",:0-9.eE\\u<>*"[random.below(18)]),
            }
        }
        let text = String::from_utf8_lossy(&bytes);
        let names = ["a".to_owned()];
        let _ = ava::tool_calls(&text, &names);
        assert!(ava::strip_markup(&text, &names).len() <= text.len() + 16, "{text}");
        let _ = (ava::intent::ends_call(&text), ava::intent::says_too_little(&text));
        match ava::Frame::parse(&text).and_then(ava::Frame::read) {
            Ok(ava::Request::SwitchModel(switch)) => {
                let outcome = switch.apply(&ava::Selection::default());
                assert_eq!(
                    outcome.changed.is_empty(),
                    outcome.message() == ava::texts::NOTHING_TO_APPLY
                );
                understood += 1;
            }
            Ok(ava::Request::Audio(audio)) => {
                assert!(!audio.pcm.is_empty() && audio.pcm.len() % 2 == 0, "{text}");
                understood += 1;
            }
            Ok(_) => understood += 1,
            Err(ignored) => assert!(ignored.to_string().len() < 100, "{text}"),
        }
    }
    assert!(understood > 2_000, "{understood}");
}

#[test]
fn rtp_packets_and_telephone_events() {
    let mut random = Random(0x5eed + 1);
    let mut digits = DigitReceiver::new();
    let mut now = Duration::ZERO;
    let mut parsed = 0_u32;
    for _ in 0..50_000 {
        let mut packet: Vec<u8> = (0..random.below(48)).map(|_| random.next().to_le_bytes()[0]).collect();
        if let Some(first) = packet.first_mut().filter(|_| random.below(8) > 0) {
            // Mostly the right version: a wrong one is refused before anything else is looked at.
            *first = *first & 0x3f | 0x80;
        }
        let _ = classify(&packet);
        let Ok(read) = RtpPacket::parse(&packet) else { continue };
        parsed += 1;
        let mut written = Vec::new();
        read.write(&mut written);
        assert_eq!(RtpPacket::parse(&written).as_ref(), Ok(&read));
        let _ = comfort_noise_level(read.payload);
        digits.receive(now, &read.header, read.payload);
        now += Duration::from_millis(20);
        while digits.poll(now).is_some() {}
        assert!(digits.next_deadline().is_none_or(|deadline| deadline >= now));
    }
    assert!(parsed > 1_000, "{parsed}");
}

/// Every frame in `data`, which arrives in pieces of `piece` bytes, and whether the link broke.
fn frames(data: &[u8], piece: usize) -> (Vec<Frame>, bool) {
    let mut decoder = Decoder::new();
    let mut frames = Vec::new();
    for part in data.chunks(piece) {
        decoder.push(part);
        loop {
            match decoder.next_frame() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(_) => return (frames, true),
            }
        }
    }
    (frames, false)
}

#[test]
fn frames_of_a_workers_link() {
    let corpus =
        b"{\"type\":\"audio\",\"stream\":7,\"payload_length\":4}\nabcd{\"type\":\"ping\"}\n{\"type\":\"partial\",\
        \"stream\":7,\"text\":\"a\",\"stable_chars\":1}\n{\"type\":\"credit\",\"stream\":7,\"bytes\":99}\n";
    let mut random = Random(0x5eed + 2);
    for _ in 0..10_000 {
        let mut bytes = corpus.to_vec();
        for _ in 0..random.below(6) {
            let at = random.below(bytes.len());
            match random.below(3) {
                0 => bytes[at] = random.next().to_le_bytes()[0],
                1 => drop(bytes.remove(at)),
                _ => bytes.insert(at, b"{}\":,09\n"[random.below(8)]),
            }
        }
        let whole = frames(&bytes, bytes.len());
        assert_eq!(whole, frames(&bytes, 1 + random.below(9)));
        for frame in &whole.0 {
            let _ = frame.to_engine();
            let _ = frame.to_worker();
        }
    }
}
