//! The defects of AVA's own server that this one must not have, each under its number in the compatibility notes (D1 to D17).

use std::sync::atomic::Ordering;
use std::time::Duration;

use repartee::backend::fake::{Clock, Fault, Pace, ScriptedLlm, ScriptedStt, ScriptedTts, Sound};
use repartee::call::{LlmEvent, Role};
use repartee::pii::Pii;
use repartee::time::{Samples, Time};
use serde_json::{Value, json};

use crate::house::{House, Met, audio_of};
use crate::support::{Fakes, silence, tone};

fn reply(text: &str) -> Vec<LlmEvent> {
    vec![LlmEvent::Delta { text: Pii::from(text) }]
}

fn pace(first: u64, each: u64) -> Pace {
    Pace::new(
        Clock::new(|wait| Box::pin(tokio::time::sleep(wait))),
        Duration::from_millis(first),
        Duration::from_millis(each),
    )
}

/// Milliseconds of a stretch.
fn length_ms(header: &Value, bytes: usize) -> u64 {
    let rate = header["sample_rate_hz"].as_u64().expect("a rate");
    let width = if header["encoding"] == "linear16" { 2 } else { 1 };
    bytes as u64 * 1_000 / width / rate
}

/// How often the sign changes, as a frequency in Hz.
fn frequency(pcm: &[i16], rate: u32) -> f64 {
    let crossings = pcm.windows(2).filter(|pair| (pair[0] < 0) != (pair[1] < 0)).count();
    crossings as f64 / 2.0 / (pcm.len() as f64 / f64::from(rate))
}

fn samples(bytes: &[u8]) -> Vec<i16> {
    bytes
        .chunks_exact(2)
        .map(|sample| i16::from_le_bytes([sample[0], sample[1]]))
        .collect()
}

/// A header without audio shifts every later one. The client of these tests refuses one; here are the replies that made them.
#[tokio::test]
async fn d01_no_header_without_audio() {
    // The text ends with a sentence and a space; the voice fails; only markup is left.
    let fakes = Fakes::new(
        ScriptedStt::new(["one", "two", "three"]),
        ScriptedLlm::new([
            reply("That is all. "),
            reply("Nobody hears this."),
            reply("<tool_call>{\"name\":\"unknown\",\"arguments\":{}}</tool_call>"),
        ]),
    );
    let control = fakes.tts.control();
    let house = House::with(fakes, &[("LOCAL_TOOL_GATEWAY_ENABLED", "0")]).await;
    let mut client = house.caller("c1", &[]).await;
    client.speak("full").await;
    client.audio().await;
    client.until("llm_response").await;
    control.fail_all(Fault::Unsupported);
    client.speak("full").await;
    client.until("llm_response").await;
    client.within(Duration::from_millis(500)).await;
    control.fail_all(Fault::None);
    client.speak("full").await;
    client.until("llm_response").await;
    let (header, _) = client.audio().await;
    assert_eq!(header["mode"], "full");
    // The farewell after all that is still known as one.
    client
        .send(json!({ "type": "tool_result", "call_id": "c1", "tool_name": "hangup_call", "result": {} }))
        .await;
    client.until("llm_response").await;
    loop {
        let (header, _) = client.audio().await;
        if header["mode"] == "tool_result" {
            break;
        }
    }
}

/// A switch loads what was asked for, beside the calls, and takes nothing away when it fails.
#[tokio::test]
async fn d02_a_switch_loads_one_model_and_a_failed_one_changes_nothing() {
    let (house, loader) = House::switching(Duration::from_millis(50), &[]).await;
    let mut client = house.client().await;
    client
        .send(json!({ "type": "switch_model", "tts_backend": "piper", "tts_model_path": "/app/models/tts/other.onnx", "request_id": "s1" }))
        .await;
    let answer = client.expect("switch_response").await;
    assert_eq!(
        (&answer["status"], &answer["request_id"]),
        (&json!("success"), &json!("s1")),
        "{answer}"
    );
    assert_eq!(loader.loads.load(Ordering::Acquire), 1, "one model was asked for");
    // Asked for once more it is there.
    client
        .send(json!({ "type": "switch_model", "tts_backend": "piper", "tts_model_path": "/app/models/tts/other.onnx" }))
        .await;
    assert_eq!(client.expect("switch_response").await["status"], "success");
    assert_eq!(loader.loads.load(Ordering::Acquire), 1);
    for path in ["broken.onnx", "absent.onnx"] {
        client
            .send(json!({ "type": "switch_model", "tts_backend": "piper", "tts_model_path": path }))
            .await;
        let answer = client.expect("switch_response").await;
        assert_eq!(answer["status"], "error", "{answer}");
        let message = answer["message"].as_str().unwrap();
        assert!(message.contains(path), "it says what went wrong: {message}");
        let status = client.expect_alive().await;
        assert_eq!(status["models"]["tts"]["path"], "/app/models/tts/other.onnx");
        assert_eq!(status["models"]["tts"]["loaded"], true);
    }
    client
        .send(json!({ "type": "tts_request", "text": "still here" }))
        .await;
    audio_of(&client.expect("tts_response").await);
    // Of two that are asked for at once the second fails: the first is taken back.
    client
        .send(json!({
            "type": "switch_model", "stt_backend": "sherpa", "sherpa_model_path": "new-one", "tts_backend": "piper",
            "tts_model_path": "broken.onnx",
        }))
        .await;
    assert_eq!(client.expect("switch_response").await["status"], "error");
    let status = client.expect_alive().await;
    assert_eq!(status["models"]["tts"]["path"], "/app/models/tts/other.onnx");
    assert_eq!(
        status["stt_backend"], "vosk",
        "nothing of a switch that failed is shown"
    );
}

/// Nobody's recogniser delays another call.
#[tokio::test]
async fn d03_one_calls_recogniser_delays_no_other() {
    let slow = ScriptedStt::new(["a", "b"]).final_paced(pace(1_500, 0));
    let house = House::with(Fakes::new(slow, ScriptedLlm::echo()), &[]).await;
    let (mut one, mut two) = (house.caller("c1", &[]).await, house.caller("c2", &[]).await);
    one.speak("stt").await;
    two.speak("stt").await;
    let began = one.clock.now();
    tokio::join!(one.transcript(), two.transcript());
    let took = one.clock.now().since(began);
    assert!(
        took < Duration::from_millis(2_800),
        "one after the other takes 3 s: {took:?}"
    );
}

/// A voice of 16 kHz is spoken at its own pitch and speed.
#[tokio::test]
async fn d04_a_voices_rate_is_its_own() {
    for rate in [16_000, 22_050, 24_000] {
        let fakes = Fakes::default().voice(ScriptedTts::default().rate(rate).millis_per_char(100));
        let house = House::with(fakes, &[]).await;
        let mut client = house.client().await;
        client
            .send(json!({
                "type": "tts_request", "text": "0123456789", "output_encoding": "linear16", "output_sample_rate_hz": 16000,
            }))
            .await;
        let audio = samples(&audio_of(&client.expect("tts_response").await));
        let millis = audio.len() / 16;
        assert!((980..=1_020).contains(&millis), "{rate}: {millis} ms");
        let hz = frequency(&audio[1_600..14_400], 16_000);
        assert!((435.0..=445.0).contains(&hz), "{rate}: {hz} Hz");
    }
}

/// Audio is resampled as one stream, with a filter: no clicks where messages meet, no mirror tones.
#[tokio::test]
async fn d05_resampling_is_one_filtered_stream() {
    // 7 kHz at 24 kHz is above half of 8 kHz: nothing of it may be left.
    let high = Sound::Tone {
        hz: 7_000,
        amplitude: 8_000,
    };
    let fakes = Fakes::default().voice(ScriptedTts::default().rate(24_000).sound(high).millis_per_char(100));
    let house = House::with(fakes, &[]).await;
    let mut client = house.client().await;
    client
        .send(json!({ "type": "tts_request", "text": "0123456789" }))
        .await;
    let audio = audio_of(&client.expect("tts_response").await);
    let loudest = audio[800..7_200]
        .iter()
        .map(|byte| repartee::audio::g711::mu_law_decode(*byte).unsigned_abs())
        .max();
    assert!(loudest.is_some_and(|loudest| loudest < 200), "{loudest:?}");

    // The caller's 8 kHz audio in many small messages is as long as in one.
    let fakes = Fakes::new(ScriptedStt::measuring(), ScriptedLlm::echo());
    let house = House::with(fakes, &[]).await;
    let mut client = house.client().await.of_call("c1");
    let mut pcm = tone(8_000, 600);
    pcm.extend(silence(8_000, 1_000));
    for piece in pcm.chunks(80) {
        use base64::Engine as _;
        let bytes: Vec<u8> = piece.iter().flat_map(|sample| sample.to_le_bytes()).collect();
        let data = base64::engine::general_purpose::STANDARD.encode(bytes);
        client
            .send(json!({ "type": "audio", "data": data, "rate": 8000, "mode": "stt", "call_id": "c1" }))
            .await;
    }
    client.transcript().await;
    let heard: Vec<Samples> = house.fakes.stt.heard();
    let millis = heard[0].as_millis();
    assert!(
        (850..=1_700).contains(&millis),
        "pre-roll, 600 ms and the silence that ended it: {millis}"
    );
}

/// Who says the same thing twice is answered twice.
#[tokio::test]
async fn d06_who_repeats_himself_is_answered_again() {
    let fakes = Fakes::new(ScriptedStt::new(["are you there"]), ScriptedLlm::fixed("Yes."));
    let house = House::with(fakes, &[]).await;
    let mut client = house.caller("c1", &[]).await;
    for _ in 0..2 {
        client.speak("full").await;
        assert_eq!(client.transcript().await["text"], "are you there");
        assert_eq!(client.until("llm_response").await["text"], "Yes.");
    }
}

/// Each text that is to be spoken is spoken, however many are asked for at once.
#[tokio::test]
async fn d07_no_text_cancels_another() {
    let fakes = Fakes::default().voice(ScriptedTts::default().millis_per_char(5).paced(pace(100, 0)));
    let house = House::with(fakes, &[]).await;
    let mut client = house.client().await;
    let texts: Vec<String> = (0..5).map(|number| format!("sentence number {number}")).collect();
    for text in &texts {
        client
            .send(json!({ "type": "tts_request", "text": text, "request_id": text }))
            .await;
    }
    let mut spoken = Vec::new();
    for _ in &texts {
        let response = client.expect("tts_response").await;
        assert_eq!(response["text"], response["request_id"]);
        audio_of(&response);
        spoken.push(response["text"].as_str().unwrap().to_owned());
    }
    spoken.sort();
    assert_eq!(spoken, texts);
}

/// An interruption is answered while recogniser, language model and voice are at work.
#[tokio::test]
async fn d08_an_interruption_waits_for_nothing() {
    let fakes = Fakes::new(
        ScriptedStt::new(["one", "two"]).final_paced(pace(2_000, 0)),
        ScriptedLlm::fixed("late").paced(pace(5_000, 0)),
    )
    .voice(ScriptedTts::default().paced(pace(5_000, 0)));
    let house = House::with(fakes, &[]).await;
    let mut client = house.caller("c1", &[]).await;
    client
        .send(json!({ "type": "tts_request", "text": "a text that takes long" }))
        .await;
    client
        .send(json!({ "type": "llm_request", "text": "a question" }))
        .await;
    client.speak("full").await;
    let began = client.clock.now();
    client.barge_in("b1", false, "caller").await;
    client.expect("barge_in_ack").await;
    let took = client.clock.now().since(began);
    assert!(took < Duration::from_millis(50), "{took:?}");
    // Nothing of what was called off comes.
    let rest = client.within(Duration::from_millis(1_000)).await;
    assert!(rest.iter().all(|met| met.kind() == "stt_result"), "{rest:?}");
}

/// Questions are answered beside each other, with what was said before, and what is late holds up nobody.
#[tokio::test]
async fn d09_questions_have_their_context_and_hold_up_nobody() {
    let fakes = Fakes::new(ScriptedStt::measuring(), ScriptedLlm::echo().paced(pace(400, 0)));
    let house = House::with(fakes, &[]).await;
    let (mut one, mut two) = (house.client().await, house.client().await);
    let began = one.clock.now();
    let question = |text: &str| {
        json!({
            "type": "llm_request", "text": text,
            "context": { "messages": [{ "role": "user", "content": "I am Jo" }, { "role": "assistant", "content": "Hi" }] },
        })
    };
    one.send(question("first")).await;
    two.send(question("second")).await;
    assert_eq!(one.expect("llm_response").await["text"], "first");
    assert_eq!(two.expect("llm_response").await["text"], "second");
    let took = one.clock.now().since(began);
    assert!(
        took < Duration::from_millis(750),
        "one after the other takes 800 ms: {took:?}"
    );
    let prompts = house.fakes.llm.prompts();
    let roles: Vec<Role> = prompts[0].messages.iter().map(|message| message.role).collect();
    assert_eq!(roles, [Role::System, Role::User, Role::Assistant, Role::User]);
    assert_eq!(prompts[0].messages[1].text.expose(), "I am Jo");
}

/// Calls don't wait for one another's voice, and the first audio doesn't wait for the whole reply.
#[tokio::test]
async fn d10_the_first_audio_waits_for_no_whole_reply() {
    let long =
        "This is the first sentence. This is a second one, which is longer than the first. And here is a third one.";
    let fakes = Fakes::new(ScriptedStt::new(["go on"]), ScriptedLlm::fixed(long))
        .voice(ScriptedTts::default().millis_per_char(60).paced(pace(20, 20)));
    let house = House::with(fakes, &[]).await;
    let mut client = house.caller("c1", &[]).await;
    client.speak("full").await;
    client.transcript().await;
    let began = client.clock.now();
    client.audio().await;
    let took = client.clock.now().since(began);
    // Each 25 ms of audio take 20 ms: the whole reply takes 5 s.
    assert!(took < Duration::from_millis(1_500), "{took:?}");
}

/// A turn costs one question to the language model where its reply says what it wants.
#[tokio::test]
async fn d11_one_question_for_a_turn() {
    let call = "<tool_call>{\"name\":\"weather\",\"arguments\":{}}</tool_call>";
    let fakes = Fakes::new(
        ScriptedStt::new(["the weather please", "hello"]),
        ScriptedLlm::new([reply(call), reply("Hello.")]),
    );
    let house = House::with(fakes, &[]).await;
    let mut client = house.caller("c1", &["weather"]).await;
    client.speak("full").await;
    client.until("llm_tool_response").await;
    assert_eq!(house.fakes.llm.prompts().len(), 1);
    // Where only the end of the call could be called, and nobody wants it, it isn't asked for either.
    let mut client = house.caller("c2", &["hangup_call"]).await;
    client.speak("full").await;
    let answer = client.until("llm_response").await;
    assert_eq!(answer["tool_gateway_done"], true);
    assert_eq!(house.fakes.llm.prompts().len(), 2);
}

/// A turn ends by what was heard, not by when messages come: a burst with the whole turn in it is enough. A quiet caller is heard.
#[tokio::test]
async fn d12_turns_end_by_samples_and_quiet_callers_are_heard() {
    let fakes = Fakes::new(ScriptedStt::new(["quiet words"]), ScriptedLlm::echo());
    let house = House::with(fakes, &[]).await;
    let mut client = house.client().await.of_call("c1");
    // A root mean square of 425: AVA's threshold is 1200.
    let mut pcm: Vec<i16> = tone(16_000, 500).iter().map(|sample| sample / 15).collect();
    pcm.extend(silence(16_000, 1_000));
    let began = client.clock.now();
    client.hear(&pcm, "stt").await;
    assert_eq!(client.transcript().await["text"], "quiet words");
    let took = client.clock.now().since(began);
    assert!(
        took < Duration::from_millis(1_200),
        "1.5 s of audio, all at once: {took:?}"
    );

    // Where the audio stops in the middle of a turn, it has ended all the same.
    let mut client = house.client().await.of_call("c2");
    client.hear(&tone(16_000, 640), "stt").await;
    assert_eq!(client.transcript().await["text"], "quiet words");
}

/// Other languages than English are answered like it: short words of theirs are no noise, and their farewell is the model's to hear.
#[tokio::test]
async fn d13_other_languages_are_answered() {
    let call = "<tool_call>{\"name\":\"weather\",\"arguments\":{\"ort\":\"Köln\"}}</tool_call>";
    let fakes = Fakes::new(
        ScriptedStt::new(["ja", "да", "好", "wie ist das Wetter"]),
        ScriptedLlm::new([reply("Gut."), reply("Хорошо."), reply("好的。"), reply(call)]),
    );
    let house = House::with(fakes, &[("LOCAL_TOOL_GATEWAY_ENABLED", "0")]).await;
    let mut client = house.caller("c1", &["weather"]).await;
    for (said, answer) in [("ja", "Gut."), ("да", "Хорошо."), ("好", "好的。")] {
        client.speak("full").await;
        assert_eq!(client.transcript().await["text"], said);
        assert_eq!(client.until("llm_response").await["text"], answer);
    }
    client.speak("full").await;
    let found = client.until("llm_tool_response").await;
    assert_eq!(found["tool_calls"][0]["parameters"]["ort"], "Köln");
}

/// What makes no sense is ignored, a failed reload is told, and a voice that fails leaves nobody waiting.
#[tokio::test]
async fn d14_bad_messages_close_nothing_and_failures_are_answered() {
    let (house, _) = House::switching(Duration::from_millis(20), &[]).await;
    let mut client = house.client().await;
    for text in [
        "7",
        "[]",
        "\"status\"",
        "null",
        "{",
        "{}",
        r#"{"type":7}"#,
        r#"{"type":"dance"}"#,
        r#"{"type":"audio"}"#,
        r#"{"type":"audio","data":"!","rate":16000}"#,
        r#"{"type":"audio","data":"AAAA","rate":"fast"}"#,
        r#"{"type":"audio","data":"AAAA","rate":1}"#,
        r#"{"type":"tts_request","text":""}"#,
        r#"{"type":"tts_request","text":7}"#,
        r#"{"type":"llm_request","text":"  "}"#,
        r#"{"type":"tool_context","tools":7,"allowed_tools":"all"}"#,
    ] {
        client.raw(text).await;
    }
    client.binary(vec![1]).await;
    client.expect_alive().await;
    let kinds: Vec<String> = client.met.iter().map(|(_, met)| met.kind().to_owned()).collect();
    assert_eq!(kinds, ["status_response"], "what makes no sense gets no answer");

    house
        .engine
        .registry()
        .mark_missing(repartee::call::BackendKind::Llm, "it is gone".to_owned());
    client
        .send(json!({ "type": "reload_llm", "model_path": "broken.gguf" }))
        .await;
    assert_eq!(client.expect("reload_response").await["status"], "error");
    house.fakes.tts.control().fail_all(Fault::Unsupported);
    client
        .send(json!({ "type": "tts_request", "text": "hello", "request_id": "t" }))
        .await;
    let response = client.expect("tts_response").await;
    assert!(!audio_of(&response).is_empty(), "silence, so that nobody waits");
    assert_eq!(response["text"], "hello");
}

/// Stretches come ahead of time and none is tiny, so that the client doesn't take a reply for over while it goes on.
#[tokio::test]
async fn d15_a_reply_never_seems_over_before_it_is() {
    let long = "One two three four five six. Seven eight nine ten eleven. Twelve thirteen fourteen.";
    let fakes = Fakes::new(ScriptedStt::new(["count"]), ScriptedLlm::fixed(long))
        .voice(ScriptedTts::default().millis_per_char(40));
    let house = House::with(fakes, &[]).await;
    let mut client = house.caller("c1", &[]).await;
    client.speak("full").await;
    client.until("llm_response").await;
    client.within(Duration::from_millis(300)).await;
    let stretches: Vec<(Time, u64)> = client
        .met
        .iter()
        .filter_map(|(at, met)| match met {
            Met::Audio(header, audio) => Some((*at, length_ms(header, audio.len()))),
            _ => None,
        })
        .collect();
    let total: u64 = stretches.iter().map(|(_, length)| length).sum();
    assert!((3_000..=3_800).contains(&total), "83 characters of 40 ms: {total}");
    assert!(stretches.len() < 25, "few and long: {stretches:?}");
    for (at, length) in &stretches {
        assert!(*length >= 80, "{length} ms at {at:?}");
    }
    // What has been sent is never all played before more comes.
    let begin = stretches[0].0;
    let mut sent = Duration::ZERO;
    for pair in stretches.windows(2) {
        sent += Duration::from_millis(pair[0].1);
        let played = pair[1].0.since(begin);
        assert!(
            played < sent,
            "{played:?} were played, {sent:?} were there: {stretches:?}"
        );
        // And the client's timer for the stretch before has not run out.
        let gap = pair[1].0.since(pair[0].0);
        assert!(
            gap <= Duration::from_millis(pair[0].1 + 50),
            "{gap:?} after {} ms",
            pair[0].1
        );
    }
}

/// Fillers are in the format that was agreed on.
#[tokio::test]
async fn d16_fillers_have_the_agreed_format() {
    let fakes = Fakes::new(
        ScriptedStt::new(["a hard one"]),
        ScriptedLlm::fixed("Done.").paced(pace(600, 0)),
    )
    .voice(ScriptedTts::default().millis_per_char(10));
    let house = House::with(fakes, &[("LOCAL_ENABLE_FILLER_AUDIO", "1")]).await;
    let mut client = house.client().await.of_call("c1");
    client
        .send(json!({
            "type": "set_mode", "mode": "full", "call_id": "c1", "output_encoding": "slin16", "output_sample_rate_hz": 16000,
        }))
        .await;
    client.expect("mode_ready").await;
    client.speak("full").await;
    for mode in ["filler", "full"] {
        let (header, _) = client.audio().await;
        assert_eq!(header["mode"], mode);
        assert_eq!(
            (&header["encoding"], &header["sample_rate_hz"]),
            (&json!("linear16"), &json!(16_000))
        );
    }
}

/// A reply that is spoken while it is thought says that nothing has to be asked about tools any more; and what looks like a call is not
/// spoken.
#[tokio::test]
async fn d17_a_streamed_reply_says_that_tools_are_done() {
    let fakes = Fakes::new(
        ScriptedStt::new(["tell me something", "and more"]),
        ScriptedLlm::new([
            reply("Here is something."),
            reply("<tool_call>{\"name\":\"hangup_call\",\"arguments\":{}}</tool_call>"),
            reply("All right. <tool_call>{\"name\":\"hangup_call\",\"arguments\":{}}</tool_call>"),
        ]),
    );
    let house = House::with(fakes, &[]).await;
    let mut client = house.caller("c1", &["hangup_call"]).await;
    client.speak("full").await;
    client.audio().await;
    let answer = client.until("llm_response").await;
    assert_eq!(answer["tool_gateway_done"], true);
    assert_eq!(house.fakes.llm.prompts().len(), 1);
    client.speak("full").await;
    let answer = client.until("llm_response").await;
    assert_eq!(
        (&answer["text"], &answer["tool_gateway_done"]),
        (&json!("All right."), &json!(true))
    );
    let rest = client.within(Duration::from_millis(1_000)).await;
    let millis: u64 = rest
        .iter()
        .map(|met| match met {
            Met::Audio(header, audio) => length_ms(header, audio.len()),
            other => panic!("{other:?}"),
        })
        .sum();
    assert!(
        (280..=340).contains(&millis),
        "ten characters of 30 ms, and no markup: {millis}"
    );
}
