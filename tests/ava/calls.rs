//! Calls: AVA's full agent over one connection, its pipelines over three.

use std::time::Duration;

use repartee::backend::fake::{Clock, Pace, ScriptedLlm, ScriptedStt, ScriptedTts};
use repartee::call::{LlmEvent, Role};
use repartee::pii::Pii;
use serde_json::json;

use crate::house::{House, Met, audio_of};
use crate::support::{Fakes, silence};

/// A reply of a language model.
fn reply(text: &str) -> Vec<LlmEvent> {
    vec![LlmEvent::Delta { text: Pii::from(text) }]
}

fn slow(first: u64) -> Pace {
    Pace::new(
        Clock::new(|wait| Box::pin(tokio::time::sleep(wait))),
        Duration::from_millis(first),
        Duration::ZERO,
    )
}

/// The set-up, a greeting, a turn, an interruption, a tool, the end: as AVA's engine does it.
#[tokio::test]
async fn a_call_of_the_full_agent() {
    let fakes = Fakes::new(
        ScriptedStt::new([
            "what time is it",
            "tell me a story",
            "what is the weather",
            "okay thanks goodbye",
        ]),
        ScriptedLlm::new([
            reply("It is noon."),
            reply(
                "Once upon a time there was a fox who lived in a wood, and it was a long story that went on and on and on.",
            ),
            reply("Let me look. <tool_call>{\"name\":\"weather\",\"arguments\":{\"city\":\"Rome\"}}</tool_call>"),
            reply("It rains in Rome."),
            reply(
                "<tool_call>{\"name\":\"hangup_call\",\"arguments\":{\"farewell_message\":\"Bye bye.\"}}</tool_call>",
            ),
        ]),
    );
    let variables = [
        ("LOCAL_WS_AUTH_TOKEN", "open sesame"),
        ("LOCAL_TOOL_GATEWAY_ENABLED", "0"),
    ];
    let house = House::with(fakes, &variables).await;
    let mut client = house.client().await;
    client
        .send(json!({ "type": "auth", "auth_token": "open sesame" }))
        .await;
    assert_eq!(client.expect("auth_response").await["status"], "ok");
    client.set_up("c1", &["weather", "hangup_call"]).await;

    // The greeting, played as the agent's audio.
    client
        .send(json!({
            "type": "tts_request", "call_id": "c1", "text": "Hello, how are you?", "output_encoding": "mulaw",
            "output_sample_rate_hz": 8000,
        }))
        .await;
    let greeting = client.expect("tts_response").await;
    assert_eq!(greeting["text"], "Hello, how are you?");
    assert_eq!(
        (&greeting["encoding"], &greeting["sample_rate_hz"]),
        (&json!("mulaw"), &json!(8_000))
    );
    let audio = audio_of(&greeting);
    // The scripted voice takes 30 ms for each of 19 characters.
    assert!((4_400..=4_720).contains(&audio.len()), "{}", audio.len());

    // A turn. Tools must be looked for, so the words come before the audio.
    client.speak("full").await;
    assert_eq!(client.transcript().await["text"], "what time is it");
    let answer = client.expect("llm_response").await;
    assert_eq!(
        (&answer["text"], &answer["mode"]),
        (&json!("It is noon."), &json!("llm"))
    );
    assert_eq!(answer["tool_gateway_done"], true);
    let (header, _) = client.audio().await;
    assert_eq!(
        (&header["mode"], &header["encoding"]),
        (&json!("full"), &json!("mulaw"))
    );
    client.within(Duration::from_millis(900)).await;

    // The caller interrupts the next reply while it is heard; nothing of it comes after the answer to that.
    client.speak("full").await;
    client.until("llm_response").await;
    client.audio().await;
    client.barge_in("barge-1", true, "caller").await;
    let acknowledged = client.until("barge_in_ack").await;
    assert_eq!(
        (&acknowledged["status"], &acknowledged["request_id"]),
        (&json!("ok"), &json!("barge-1"))
    );
    client.expect_silence(Duration::from_millis(700)).await;

    // A tool: a call and no audio, then its result in words.
    client.speak("full").await;
    assert_eq!(client.transcript().await["text"], "what is the weather");
    let call = client.expect("llm_tool_response").await;
    assert_eq!(call["server_gated"], true);
    assert_eq!(call["tool_calls"][0]["name"], "weather");
    assert_eq!(call["tool_calls"][0]["parameters"], json!({ "city": "Rome" }));
    client
        .send(json!({
            "type": "tool_result", "protocol_version": 2, "request_id": "tool-result-1", "call_id": "c1",
            "function_call_id": "f1", "tool_name": "weather", "result": { "sky": "rain" }, "is_error": false,
            "output_encoding": "mulaw", "output_sample_rate_hz": 8000,
        }))
        .await;
    let told = client.expect("llm_response").await;
    assert_eq!(
        (&told["text"], &told["mode"]),
        (&json!("It rains in Rome."), &json!("tool_result"))
    );
    assert_eq!(
        (&told["tool_result_final"], &told["request_id"]),
        (&json!(true), &json!("tool-result-1"))
    );
    let (header, _) = client.audio().await;
    assert_eq!(header["mode"], "tool_result");

    // What was interrupted is forgotten, and the model was told that it was interrupted, once.
    let prompts = house.fakes.llm.prompts();
    let asked = |index: usize| {
        let said: Vec<_> = prompts[index]
            .messages
            .iter()
            .filter(|message| message.role != Role::System)
            .map(|message| message.text.expose().clone())
            .collect();
        said.join(" | ")
    };
    assert!(!asked(2).contains("tell me a story"), "{}", asked(2));
    assert!(asked(2).ends_with("what is the weather"), "{}", asked(2));
    let system = |index: usize| prompts[index].messages[0].text.expose().clone();
    assert!(system(0).contains("You are Ava."));
    assert!(system(2).contains("interrupted") && !system(0).contains("interrupted"));
    assert!(asked(3).contains("rain"), "{}", asked(3));

    // The caller hangs up: the tool is called, the farewell is spoken to the letter.
    client.within(Duration::from_millis(1_200)).await;
    client.speak("full").await;
    assert_eq!(client.transcript().await["text"], "okay thanks goodbye");
    let call = client.until("llm_tool_response").await;
    assert_eq!(call["tool_calls"][0]["name"], "hangup_call");
    client
        .send(json!({
            "type": "tool_result", "request_id": "tool-result-2", "call_id": "c1", "tool_name": "hangup_call",
            "result": { "farewell_message": "Bye   bye." }, "is_error": false,
        }))
        .await;
    let farewell = client.expect("llm_response").await;
    assert_eq!(
        (&farewell["text"], &farewell["tool_path"]),
        (&json!("Bye bye."), &json!("terminal_farewell"))
    );
    assert_eq!(client.audio().await.0["mode"], "tool_result");
    client.barge_in("barge-2", false, "stop_session").await;
    client.until("barge_in_ack").await;
    client.expect_silence(Duration::from_millis(300)).await;
}

/// Where no tool can be called, audio comes before the words are complete.
#[tokio::test]
async fn a_reply_is_spoken_while_it_is_thought() {
    let fakes = Fakes::new(
        ScriptedStt::new(["tell me more"]),
        ScriptedLlm::tokens([
            "Certainly, let me see. ",
            "There is a lot to be said. ",
            "And that was all.",
        ])
        .paced(Pace::new(
            Clock::new(|wait| Box::pin(tokio::time::sleep(wait))),
            Duration::from_millis(20),
            Duration::from_millis(400),
        )),
    );
    let house = House::with(fakes, &[]).await;
    let mut client = house.caller("c1", &["hangup_call"]).await;
    client.speak("full").await;
    client.transcript().await;
    let (header, _) = client.audio().await;
    assert_eq!((&header["mode"], &header["chunk_index"]), (&json!("full"), &json!(0)));
    assert!(
        !client.met.iter().any(|(_, met)| met.kind() == "llm_response"),
        "audio comes first"
    );
    let answer = client.until("llm_response").await;
    assert_eq!(
        answer["text"],
        "Certainly, let me see. There is a lot to be said. And that was all."
    );
    let prompts = house.fakes.llm.prompts();
    assert!(prompts[0].messages[0].text.expose().contains("acknowledgement"));
}

/// Speech to text, text to text and text to speech over a connection each, all of one call.
#[tokio::test]
async fn a_call_of_the_pipelines() {
    let fakes = Fakes::new(
        ScriptedStt::new(["good morning"]),
        ScriptedLlm::fixed("Good morning to you."),
    );
    let house = House::with(fakes, &[]).await;
    let (mut stt, mut llm, mut tts) = (house.client().await, house.client().await, house.client().await);
    stt.send(json!({
        "type": "set_mode", "mode": "stt", "call_id": "p1", "segment_energy_threshold": 800, "segment_silence_ms": 700,
    }))
    .await;
    let ready = stt.expect("mode_ready").await;
    assert_eq!(ready["segment_silence_ms"], 700);
    llm.send(json!({ "type": "set-mode", "mode": "llm", "call_id": "p1" }))
        .await;
    let ready = llm.expect("mode_ready").await;
    assert_eq!(
        (&ready["mode"], &ready["output_encoding"]),
        (&json!("llm"), &json!("mulaw"))
    );
    assert!(ready["segment_silence_ms"].is_null());
    tts.send(json!({
        "type": "set_mode", "mode": "tts", "call_id": "p1", "output_encoding": "linear16", "output_sample_rate_hz": 16000,
    }))
    .await;
    let ready = tts.expect("mode_ready").await;
    assert_eq!(
        (&ready["output_encoding"], &ready["output_sample_rate_hz"]),
        (&json!("linear16"), &json!(16_000))
    );

    let mut stt = stt.of_call("p1");
    stt.speak("stt").await;
    let heard = stt.transcript().await;
    assert_eq!(
        (&heard["text"], &heard["mode"]),
        (&json!("good morning"), &json!("stt"))
    );
    stt.expect_silence(Duration::from_millis(300)).await;

    llm.send(json!({
        "type": "llm_request", "text": "good morning", "call_id": "p1", "request_id": "q1", "mode": "llm",
        "context": [
            { "role": "system", "content": "Be brief." },
            { "role": "user", "content": "hello" },
            { "role": "assistant", "content": "Hello." },
            { "role": "user", "content": "good morning" },
        ],
    }))
    .await;
    let answer = llm.expect("llm_response").await;
    assert_eq!(
        (&answer["text"], &answer["request_id"]),
        (&json!("Good morning to you."), &json!("q1"))
    );

    for sentence in ["Good morning to you.", "How are you?"] {
        tts.send(json!({ "type": "tts_request", "mode": "tts", "call_id": "p1", "text": sentence }))
            .await;
        let spoken = tts.expect("tts_response").await;
        assert_eq!(
            (&spoken["text"], &spoken["encoding"]),
            (&json!(sentence), &json!("linear16"))
        );
        audio_of(&spoken);
    }
    // Audio means nothing to a connection that speaks.
    tts.hear(&silence(16_000, 320), "tts").await;
    tts.expect_silence(Duration::from_millis(100)).await;
}

/// Only the newest of two things that are said quickly is answered.
#[tokio::test]
async fn of_two_quick_turns_the_newest_is_answered() {
    let fakes = Fakes::new(
        ScriptedStt::new(["first question", "second question"]),
        ScriptedLlm::echo().paced(slow(500)),
    );
    let house = House::with(fakes, &[("LOCAL_LLM_STREAMING_TTS_OVERLAP", "0")]).await;
    let mut client = house.caller("c1", &[]).await;
    client.speak("full").await;
    assert_eq!(client.transcript().await["text"], "first question");
    client.speak("full").await;
    assert_eq!(client.transcript().await["text"], "second question");
    let answer = client.until("llm_response").await;
    assert_eq!(answer["text"], "second question");
    let rest = client.within(Duration::from_millis(1_500)).await;
    assert!(rest.iter().all(|met| met.kind() == "tts_audio"), "{rest:?}");
    assert!(!rest.is_empty());
}

/// `llm` mode: words, and no audio.
#[tokio::test]
async fn text_only_is_never_spoken() {
    let fakes = Fakes::new(ScriptedStt::new(["are you there"]), ScriptedLlm::fixed("Yes, I am."));
    let house = House::with(fakes, &[]).await;
    let mut client = house.client().await.of_call("c1");
    client.speak("llm").await;
    client.transcript().await;
    assert_eq!(client.expect("llm_response").await["text"], "Yes, I am.");
    client.expect_silence(Duration::from_millis(400)).await;
    assert!(house.fakes.tts.spoken().is_empty());
}

/// A call whose connection broke goes on with its prompt, its tools and what was said.
#[tokio::test]
async fn a_call_goes_on_after_its_connection_broke() {
    let fakes = Fakes::new(
        ScriptedStt::new(["my name is Jo", "what is my name"]),
        ScriptedLlm::new([reply("Hello Jo."), reply("You are Jo.")]),
    );
    let house = House::with(fakes, &[("LOCAL_TOOL_GATEWAY_ENABLED", "0")]).await;
    let mut client = house.caller("c1", &["weather"]).await;
    client.speak("full").await;
    client.until("llm_response").await;
    client.audio().await;
    client.within(Duration::from_millis(900)).await;
    drop(client);
    tokio::time::sleep(Duration::from_millis(100)).await;

    let mut client = house.client().await.of_call("c1");
    client.speak("full").await;
    let answer = client.until("llm_response").await;
    assert_eq!(answer["tool_gateway_done"], true, "its tools are known");
    let prompts = house.fakes.llm.prompts();
    let texts: Vec<_> = prompts[1]
        .messages
        .iter()
        .map(|message| message.text.expose().as_str())
        .collect();
    assert!(texts[0].contains("You are Ava."), "{texts:?}");
    assert_eq!(texts[1..], ["my name is Jo", "Hello Jo.", "what is my name"]);

    // A call that is over is forgotten.
    client.barge_in("b", false, "stop_session").await;
    client.until("barge_in_ack").await;
    drop(client);
    tokio::time::sleep(Duration::from_millis(100)).await;
    let mut client = house.client().await.of_call("c1");
    client.speak("full").await;
    client.until("llm_response").await;
    let prompts = house.fakes.llm.prompts();
    assert!(!prompts[2].messages[0].text.expose().contains("You are Ava."));
}

/// What bridges a wait comes first, and as what it is.
#[tokio::test]
async fn a_filler_bridges_the_wait() {
    let fakes = Fakes::new(
        ScriptedStt::new(["hard question"]),
        ScriptedLlm::fixed("An answer.").paced(slow(700)),
    )
    .voice(ScriptedTts::default().millis_per_char(10));
    let variables = [
        ("LOCAL_ENABLE_FILLER_AUDIO", "1"),
        ("LOCAL_FILLER_PHRASES", "One moment."),
    ];
    let house = House::with(fakes, &variables).await;
    let mut client = house.caller("c1", &[]).await;
    client.speak("full").await;
    client.transcript().await;
    assert_eq!(client.audio().await.0["mode"], "filler");
    assert_eq!(client.audio().await.0["mode"], "full");
}

/// What can't be answered is told so in AVA's own words, and spoken.
#[tokio::test]
async fn without_a_language_model_there_are_avas_own_words() {
    let house = House::with(Fakes::default(), &[("LOCAL_AI_MODE", "minimal")]).await;
    let mut client = house.caller("c1", &[]).await;
    client.speak("full").await;
    let answer = client.until("llm_response").await;
    assert_eq!(answer["text"], "I'm here to help you. How can I assist you today?");
    assert!(matches!(client.next().await, Met::Audio(..)));
    client
        .send(json!({ "type": "llm_request", "text": "hello", "request_id": "r" }))
        .await;
    let answer = client.until("llm_response").await;
    assert_eq!(answer["text"], "I'm here to help you. How can I assist you today?");
    let status = client.expect_alive().await;
    assert_eq!(status["models"]["llm"]["loaded"], false);
}

/// A language model that takes too long, or says nothing.
#[tokio::test]
async fn late_and_empty_replies_have_words_of_their_own() {
    let fakes = Fakes::new(
        ScriptedStt::new(["hello there"]),
        ScriptedLlm::fixed("too late").paced(slow(60_000)),
    );
    let house = House::with(fakes, &[("LOCAL_LLM_INFER_TIMEOUT_SEC", "0.4")]).await;
    let mut client = house.caller("c1", &[]).await;
    client.speak("full").await;
    let answer = client.until("llm_response").await;
    assert_eq!(answer["text"], "I'm here to help you. Could you please repeat that?");
    client.audio().await;

    let fakes = Fakes::new(ScriptedStt::new(["hello there"]), ScriptedLlm::new([reply(" ")]));
    let house = House::with(fakes, &[]).await;
    let mut client = house.caller("c1", &[]).await;
    client.speak("full").await;
    assert_eq!(client.until("llm_response").await["text"], "I'm here to help you.");
}
