//! Turns, replies and interruptions.

use crate::support::{Client, Fakes, LIMIT, TestServer, eventually, silence, tone};
use crate::{LONG, assert_paced, kind, say, typed};
use repartee::backend::fake::{Clock as FakeClock, Pace, ScriptedLlm, ScriptedStt, ScriptedTts};
use repartee::call::{LlmEvent, Role};
use repartee::time::{Samples, Time};
use repartee_protocol::native::{
    EndpointingUpdate, ErrorCode, Event, Hello, ResponseStatus, SettingsUpdate, StagesUpdate,
};
use std::time::Duration;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_turn_from_the_first_word_to_the_last_frame() {
    let stt = ScriptedStt::new(["when does the museum open today"]).partial_every(Samples::from_millis(200));
    let llm = ScriptedLlm::fixed("At nine. Do you want to know more about the prices?");
    let server = TestServer::with(Fakes::new(stt, llm)).await;
    let mut client = Client::open(server.address).await;
    assert!(client.ready.session.starts_with("sess_"));
    client.speak(tone(16_000, 1_400)).await;
    let report = client.turn_report().await;
    let done = client.response_done().await;

    let mut partials: Vec<(u32, String)> = Vec::new();
    for (_, event) in &client.events {
        let Event::Transcript(transcript) = event else { continue };
        let text = transcript.text.expose();
        assert!(transcript.stable_chars as usize <= text.chars().count());
        if let Some((revision, before)) = partials.last() {
            assert!(transcript.revision > *revision);
            assert!(text.starts_with(before.as_str()), "the script only ever adds words");
        }
        partials.push((transcript.revision, text.to_owned()));
    }
    assert!(partials.len() >= 4, "{}", client.story());
    assert_eq!(partials.last().unwrap().1, "when does the museum open today");

    let order: Vec<String> = client.events.iter().map(|(_, event)| kind(event)).collect();
    let at = |wanted: &str| {
        order
            .iter()
            .position(|kind| kind == wanted)
            .unwrap_or_else(|| panic!("no {wanted} in {}", client.story()))
    };
    for pair in [
        "speech_started",
        "transcript",
        "speech_stopped",
        "response_started",
        "response_text",
        "audio_started",
        "audio_done",
        "response_done",
    ]
    .windows(2)
    {
        assert!(at(pair[0]) < at(pair[1]), "{pair:?} in {}", client.story());
    }
    let text: String = client
        .events
        .iter()
        .filter_map(|(_, event)| match event {
            Event::ResponseText(text) => Some(text.delta.expose()),
            _ => None,
        })
        .collect();
    assert_eq!(text, done.text.expose());
    assert_eq!(
        (done.status, done.heard.expose()),
        (ResponseStatus::Completed, done.text.expose())
    );

    // 30 ms a character: what the fake voice makes of it, and no more than a frame of padding.
    assert!(client.frames.iter().all(|frame| frame.pcm.len() == 320));
    let heard_ms = client.frames.len() as u64 * 20;
    assert!(
        heard_ms.abs_diff(done.heard_ms.as_f64() as u64) <= 20,
        "{heard_ms} and {done:?}"
    );
    assert_paced(&client.frames.iter().map(|frame| frame.at).collect::<Vec<_>>());

    let sum: u64 = report.stages.iter().map(|stage| stage.ms.as_micros()).sum();
    assert_eq!(sum, report.total_ms.as_micros(), "the parts add up");
    assert_eq!(report.stages.len(), 6, "{report:?}");
    let endpointing = report.endpointing_ms.unwrap().as_f64();
    assert!((560.0..750.0).contains(&endpointing), "{endpointing} ms");
    assert!(
        report.total_ms.as_f64() - endpointing < 200.0,
        "instant backends: {report:?}"
    );
    client.bye().await;
    eventually("the session is over", LIMIT, || server.engine.live() == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interruption_is_silent_at_once_and_the_history_holds_what_was_heard() {
    let fakes = Fakes::new(ScriptedStt::measuring(), ScriptedLlm::fixed(LONG)).voice(ScriptedTts::default());
    let server = TestServer::with(fakes).await;
    let mut client = Client::open(server.address).await;
    client.speak(tone(16_000, 600)).await;
    client.until_frames(100).await;
    let onset = client.speak(tone(16_000, 1_000)).await;
    let done = client.response_done().await;
    assert_eq!(done.status, ResponseStatus::Interrupted);
    let frames = client.frames.len();
    let last = client.frames[frames - 1].at;
    let silent_after = last.since(onset);
    // 240 ms confirm it; the rest is two frames of detection, one of playout, and a busy machine.
    assert!(
        silent_after < Duration::from_millis(600),
        "{silent_after:?} from speech to silence"
    );
    println!("silent {} ms after the onset of speech", silent_after.as_millis());
    assert!(
        client
            .event(|event| matches!(event, Event::Ducked(ducked) if ducked.ducked))
            .is_some()
    );

    let (text, heard) = (done.text.expose(), done.heard.expose());
    assert!(
        text.starts_with(heard) && !heard.is_empty() && heard.len() < text.len(),
        "{heard:?}"
    );
    assert!(
        !heard.ends_with(' ') && text[heard.len()..].starts_with([' ', ',', '.']),
        "whole words: {heard:?}"
    );
    // At 60 ms a character, and a word counts when its end was heard.
    let sent_ms = frames as u64 * 20;
    let heard_ms = done.heard_ms.as_f64() as u64;
    // The last frame may have been stopped on its way out.
    assert!(heard_ms.abs_diff(sent_ms) <= 40, "{heard_ms} of {sent_ms} ms");
    assert!(
        heard.chars().count() as u64 * 60 <= heard_ms + 60,
        "{heard:?} in {heard_ms} ms"
    );
    assert!(
        heard.chars().count() as u64 * 60 + 1_000 >= heard_ms,
        "{heard:?} in {heard_ms} ms"
    );

    // Nothing comes of the old reply any more, until the new one begins.
    client
        .until("the second reply", |event| {
            matches!(event, Event::ResponseStarted(_)).then_some(())
        })
        .await;
    assert_eq!(client.frames.len(), frames, "a frame after the end of the reply");
    client.until_frames(frames + 1).await;
    let prompts = server.fakes.llm.prompts();
    let second = &prompts[1].messages;
    let ours: Vec<&str> = second
        .iter()
        .filter(|message| message.role == Role::Assistant)
        .map(|message| message.text.expose().as_str())
        .collect();
    assert_eq!(ours, [heard], "the history holds what was heard");
    let theirs = second.iter().filter(|message| message.role == Role::User).count();
    assert_eq!(theirs, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_short_noise_lowers_the_reply_and_it_goes_on() {
    let fakes = Fakes::new(ScriptedStt::measuring(), ScriptedLlm::echo()).voice(ScriptedTts::default());
    let server = TestServer::with(fakes).await;
    let mut client = Client::open(server.address).await;
    client
        .request(say("I go on talking, whatever coughs in between there may be."))
        .await;
    client.until_frames(30).await;
    client.speak(tone(16_000, 60)).await;
    let done = client.response_done().await;
    assert_eq!(done.status, ResponseStatus::Completed, "{}", client.story());
    assert_eq!(done.heard, done.text);
    let ducked: Vec<bool> = client
        .events
        .iter()
        .filter_map(|(_, event)| match event {
            Event::Ducked(ducked) => Some(ducked.ducked),
            _ => None,
        })
        .collect();
    assert_eq!(ducked, [true, false], "{}", client.story());
    // No sample of it is left out: the tone of the fake voice goes on without a gap, only softer.
    assert_paced(&client.frames.iter().map(|frame| frame.at).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_sessions_do_not_disturb_each_other() {
    let server = TestServer::start().await;
    let (mut short, mut long) = tokio::join!(Client::open(server.address), Client::open(server.address));
    assert_ne!(short.ready.session, long.ready.session);
    let conversation = async |client: &mut Client, millis: usize| {
        let mut heard = Vec::new();
        for _ in 0..2 {
            client.speak(tone(16_000, millis)).await;
            let transcript = client.final_transcript().await.text.into_exposed();
            let done = client.response_done().await;
            assert_eq!(done.text.expose(), transcript, "the echo of another session");
            assert_eq!(done.status, ResponseStatus::Completed);
            heard.push(transcript.split(' ').nth(1).unwrap().parse::<u64>().unwrap());
        }
        heard
    };
    let (from_short, from_long) = tokio::join!(conversation(&mut short, 400), conversation(&mut long, 1_600));
    // Speech, up to 300 ms before it, and some 600 ms of silence after it.
    assert!(
        from_short.iter().all(|millis| (400..1_500).contains(millis)),
        "{from_short:?}"
    );
    assert!(
        from_long.iter().all(|millis| (1_600..2_700).contains(millis)),
        "{from_long:?}"
    );
    for client in [&short, &long] {
        // Two replies, each paced by itself.
        let mut replies: Vec<Vec<Time>> = vec![Vec::new()];
        for frame in &client.frames {
            let reply = replies.last_mut().unwrap();
            if reply
                .last()
                .is_some_and(|last| frame.at.since(*last) > Duration::from_millis(300))
            {
                replies.push(Vec::new());
            }
            replies.last_mut().unwrap().push(frame.at);
        }
        assert_eq!(replies.len(), 2);
        replies.iter().for_each(|reply| assert_paced(reply));
    }
}

#[tokio::test]
async fn a_stage_that_fails_is_told_and_the_call_goes_on() {
    let server = TestServer::start().await;
    let mut client = Client::open(server.address).await;
    let error = async |client: &mut Client| {
        client
            .until("an error", |event| match event {
                Event::Error(error) => Some(error.code),
                _ => None,
            })
            .await
    };
    server
        .fakes
        .llm
        .control()
        .fail_next(repartee::backend::fake::Fault::RefuseAfter(0));
    client.request(typed("this fails")).await;
    assert_eq!(error(&mut client).await, ErrorCode::LlmFailed);
    server
        .fakes
        .stt
        .control()
        .fail_next(repartee::backend::fake::Fault::RefuseAfter(0));
    client.speak(tone(16_000, 400)).await;
    assert_eq!(error(&mut client).await, ErrorCode::SttFailed);
    client.request(typed("this does not")).await;
    loop {
        let done = client.response_done().await;
        if done.status == ResponseStatus::Completed {
            assert_eq!(done.heard.expose(), "this does not");
            break;
        }
    }
}

#[tokio::test]
async fn a_recogniser_that_dies_in_an_utterance_is_given_it_again() {
    let server = TestServer::start().await;
    let mut client = Client::open(server.address).await;
    client.speak(tone(16_000, 1_500)).await;
    client
        .until("an open turn", |event| {
            matches!(event, Event::SpeechStarted(_)).then_some(())
        })
        .await;
    client.listen_for(Duration::from_millis(400)).await;
    let stt = server.fakes.stt.control();
    stt.kill();
    stt.revive();
    let transcript = client.final_transcript().await;
    let millis: u64 = transcript.text.expose().split(' ').nth(1).unwrap().parse().unwrap();
    assert!(
        (1_500..2_600).contains(&millis),
        "the whole utterance, from its start: {millis} ms"
    );
    assert_eq!(client.response_done().await.status, ResponseStatus::Completed);
    assert!(stt.counts().failed >= 1);
}

#[tokio::test]
async fn a_long_speech_is_committed_in_segments_without_losing_any_of_it() {
    let server = TestServer::start().await;
    let hello = Hello {
        settings: Some(SettingsUpdate {
            endpointing: Some(EndpointingUpdate {
                hard_limit_ms: Some(2_000),
                ..EndpointingUpdate::default()
            }),
            stages: Some(StagesUpdate {
                llm: Some(false),
                ..StagesUpdate::default()
            }),
            ..SettingsUpdate::default()
        }),
        ..Hello::default()
    };
    let mut client = Client::open_with(server.address, hello).await;
    client.speak([silence(16_000, 400), tone(16_000, 7_000)].concat()).await;
    // Each segment is transcribed by itself; the turn's text is that of all of them, one after the other.
    let transcript = client.final_transcript().await;
    let segments: Vec<u64> = transcript
        .text
        .expose()
        .split(' ')
        .filter_map(|word| word.parse().ok())
        .collect();
    assert!(segments.len() >= 3, "{segments:?}");
    assert!(
        segments.iter().all(|millis| *millis <= 2_100),
        "none is longer than the limit: {segments:?}"
    );
    // Speech, the pre-roll before it and the silence after it; nothing twice.
    let total: u64 = segments.iter().sum();
    assert!((7_000..=8_400).contains(&total), "{segments:?}");
    assert_eq!(client.status().await.dropped_ms.as_micros(), 0);
}

#[tokio::test]
async fn many_who_lose_the_recogniser_at_once_all_get_their_words() {
    let server = TestServer::start().await;
    let mut clients = Vec::new();
    for _ in 0..12 {
        clients.push(Client::open(server.address).await);
    }
    for client in &mut clients {
        client.speak(tone(16_000, 1_200)).await;
    }
    for client in &mut clients {
        client
            .until("an open turn", |event| {
                matches!(event, Event::SpeechStarted(_)).then_some(())
            })
            .await;
    }
    let stt = server.fakes.stt.control();
    eventually("they all are being listened to", LIMIT, || stt.counts().opened == 12).await;
    stt.kill();
    stt.revive();
    for client in &mut clients {
        let transcript = client.final_transcript().await;
        let millis: u64 = transcript.text.expose().split(' ').nth(1).unwrap().parse().unwrap();
        assert!((1_200..2_600).contains(&millis), "{millis} ms");
    }
    let counts = stt.counts();
    assert_eq!((counts.failed, counts.live()), (12, 0), "{counts:?}");
}

#[tokio::test]
async fn slow_words_come_as_they_are_made() {
    let pace = Pace::new(
        FakeClock::new(|wait| Box::pin(tokio::time::sleep(wait))),
        Duration::from_millis(200),
        Duration::from_millis(60),
    );
    let words = [
        "First ", "of ", "all. ", "And ", "then ", "there ", "is ", "more ", "to ", "come.",
    ];
    let deltas = words
        .iter()
        .map(|word| LlmEvent::Delta {
            text: (*word).to_owned().into(),
        })
        .collect();
    let fakes = Fakes::new(ScriptedStt::measuring(), ScriptedLlm::new([deltas]).paced(pace));
    let server = TestServer::with(fakes).await;
    let mut client = Client::open(server.address).await;
    client.request(typed("go on")).await;
    let done = client.response_done().await;
    assert_eq!(done.heard.expose(), words.concat());
    let last_text = client
        .events
        .iter()
        .rev()
        .find_map(|(at, event)| matches!(event, Event::ResponseText(_)).then_some(*at));
    assert!(
        client.frames[0].at < last_text.unwrap(),
        "it speaks while it still thinks"
    );
}
