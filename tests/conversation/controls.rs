//! What a client can ask for.

use crate::support::client::messages;
use crate::support::{Client, LIMIT, TestServer, eventually, tone};
use crate::{LONG, private, say, typed};
use repartee_protocol::native::{
    Bare, Cancel, CloseReason, Edit, Event, Request, ResponseStatus, Role as WireRole, Say,
};
use std::time::Duration;

#[tokio::test]
async fn typed_turns_and_spoken_answers() {
    let server = TestServer::start().await;
    let mut client = Client::open(server.address).await;
    client.request(typed("good morning")).await;
    let done = client.response_done().await;
    assert_eq!(
        (done.text.expose(), done.status),
        ("good morning", ResponseStatus::Completed)
    );
    assert!(!client.frames.is_empty());
    // A typed turn interrupts a reply.
    client.request(say(LONG)).await;
    client.until_frames(client.frames.len() + 20).await;
    client.request(typed("that is enough")).await;
    let done = client.response_done().await;
    assert_ne!(done.status, ResponseStatus::Completed);
    let done = client.response_done().await;
    assert_eq!(
        (done.text.expose(), done.status),
        ("that is enough", ResponseStatus::Completed)
    );
    let status = client.status().await;
    assert_eq!(status.responses, 3);
}

#[tokio::test]
async fn what_is_said_follows_what_is_being_said_or_replaces_it() {
    let server = TestServer::start().await;
    let mut client = Client::open(server.address).await;
    client.request(say("one two three")).await;
    client.request(say("four five six")).await;
    for expected in ["one two three", "four five six"] {
        let done = client.response_done().await;
        assert_eq!(
            (done.heard.expose(), done.status),
            (expected, ResponseStatus::Completed)
        );
    }
    client.request(say(LONG)).await;
    client.until_frames(client.frames.len() + 10).await;
    let interrupting = Say {
        interrupt: true,
        ..Say::new("listen to me")
    };
    client.request(Request::Say(interrupting)).await;
    assert_eq!(client.response_done().await.status, ResponseStatus::Cancelled);
    assert_eq!(client.response_done().await.heard.expose(), "listen to me");
    // Not to be remembered, and not to be interrupted.
    let aside = Say {
        remember: false,
        interruptible: false,
        ..Say::new("this is an announcement that nobody can stop by talking")
    };
    client.request(Request::Say(aside)).await;
    client.until_frames(client.frames.len() + 5).await;
    client.speak(tone(16_000, 500)).await;
    let done = client.response_done().await;
    assert_eq!(
        (done.status, done.item),
        (ResponseStatus::Completed, None),
        "{}",
        client.story()
    );
}

#[tokio::test]
async fn cancelled_means_silent() {
    let server = TestServer::start().await;
    let mut client = Client::open(server.address).await;
    client.request(say(LONG)).await;
    client.until_frames(20).await;
    client.request(Request::Cancel(Cancel::default())).await;
    let done = client.response_done().await;
    assert_eq!(done.status, ResponseStatus::Cancelled);
    let frames = client.frames.len();
    client.listen_for(Duration::from_millis(200)).await;
    assert_eq!(client.frames.len(), frames);
    // One that is over is left alone.
    client
        .request(Request::Cancel(Cancel {
            response: Some(done.response),
        }))
        .await;
    client.request(say("again")).await;
    assert_eq!(client.response_done().await.status, ResponseStatus::Completed);
}

#[tokio::test]
async fn cleared_speech_gets_neither_transcript_nor_reply() {
    let server = TestServer::start().await;
    let mut client = Client::open(server.address).await;
    client.speak(tone(16_000, 1_000)).await;
    client
        .until("an open turn", |event| {
            matches!(event, Event::SpeechStarted(_)).then_some(())
        })
        .await;
    client.microphone(false).await;
    client.request(Request::Clear(Bare {})).await;
    // Nothing more of it is spoken either: what comes next is a new turn.
    let status = client.status().await;
    assert_eq!(status.turn, None, "{}", client.story());
    client.listen_for(Duration::from_millis(900)).await;
    assert!(
        client
            .event(|event| matches!(event, Event::Transcript(transcript) if transcript.is_final))
            .is_none()
            && client
                .event(|event| matches!(event, Event::ResponseStarted(_)))
                .is_none(),
        "{}",
        client.story()
    );
}

#[tokio::test]
async fn commit_ends_a_turn_before_the_silence_does() {
    let server = TestServer::start().await;
    let mut client = Client::open(server.address).await;
    client.speak(tone(16_000, 3_000)).await;
    client
        .until("an open turn", |event| {
            matches!(event, Event::SpeechStarted(_)).then_some(())
        })
        .await;
    client.listen_for(Duration::from_millis(300)).await;
    client.request(Request::Commit(Bare {})).await;
    let transcript = client.final_transcript().await;
    let millis: u64 = transcript.text.expose().split(' ').nth(1).unwrap().parse().unwrap();
    assert!(millis < 1_500, "{millis} ms of three seconds of speech");
}

#[tokio::test]
async fn settings_hold_from_when_they_are_changed() {
    let server = TestServer::start().await;
    let mut client = Client::open(server.address).await;
    client
        .text(r#"{"type":"update","id":"u1","endpointing":{"silence_ms":200},"instructions":"Be brief."}"#)
        .await;
    let updated = client
        .until("updated", |event| match event {
            Event::Updated(updated) => Some((**updated).clone()),
            _ => None,
        })
        .await;
    assert_eq!(updated.reply_to.as_deref(), Some("u1"));
    assert_eq!(updated.settings.endpointing.silence_ms, 200);
    client.speak(tone(16_000, 500)).await;
    let report = client.turn_report().await;
    let endpointing = report.endpointing_ms.unwrap().as_f64();
    assert!((160.0..350.0).contains(&endpointing), "{endpointing} ms");
    let prompts = server.fakes.llm.prompts();
    assert_eq!(prompts[0].messages[0].text.expose(), "Be brief.");
    // Replies as text only, from the next one on.
    client.response_done().await;
    let frames = client.frames.len();
    client.text(r#"{"type":"update","stages":{"tts":false}}"#).await;
    client.request(typed("in writing please")).await;
    let done = client.response_done().await;
    assert_eq!(done.text.expose(), "in writing please");
    client.listen_for(Duration::from_millis(100)).await;
    assert_eq!(client.frames.len(), frames);
}

#[tokio::test]
async fn a_turn_ends_when_its_audio_stops_in_the_middle_of_a_word() {
    let server = TestServer::start().await;
    let mut client = Client::open(server.address).await;
    for message in messages(&client.format, &tone(16_000, 1_000)) {
        client.raw(message).await;
    }
    let transcript = client.final_transcript().await;
    assert!(!transcript.text.expose().is_empty());
    assert_eq!(client.response_done().await.status, ResponseStatus::Completed);
}

#[tokio::test]
async fn nobody_is_listened_for_where_the_client_finds_turns() {
    let server = TestServer::start().await;
    let mut client = Client::open(server.address).await;
    client.microphone(true).await;
    let vad = server.fakes.vad.control();
    eventually("a detector listens", LIMIT, || vad.counts().live() == 1).await;
    client.text(r#"{"type":"update","turn_detection":"client"}"#).await;
    eventually("none does", LIMIT, || vad.counts().live() == 0).await;
    client.text(r#"{"type":"update","turn_detection":"server"}"#).await;
    eventually("one does again", LIMIT, || vad.counts().live() == 1).await;
}

#[tokio::test]
async fn the_history_can_be_edited() {
    let server = TestServer::start().await;
    let mut client = Client::open(server.address).await;
    client.request(typed("remember this")).await;
    let done = client.response_done().await;
    let edited = async |client: &mut Client, edit: Edit| {
        client.request(Request::Edit(edit)).await;
        client
            .until("history_edited", |event| match event {
                Event::HistoryEdited(edited) => Some(edited.items),
                _ => None,
            })
            .await
    };
    let append = Edit::Append {
        role: WireRole::User,
        text: private("and that"),
    };
    assert_eq!(edited(&mut client, append).await, 3);
    let delete = Edit::Delete {
        item: done.item.expect("a reply is an item"),
    };
    assert_eq!(edited(&mut client, delete).await, 2);
    client.request(Request::Respond(Bare {})).await;
    assert_eq!(client.response_done().await.text.expose(), "and that");
    let prompt = server.fakes.llm.prompts().pop().unwrap();
    let said: Vec<&str> = prompt
        .messages
        .iter()
        .skip(1)
        .map(|message| message.text.expose().as_str())
        .collect();
    assert_eq!(said, ["remember this", "and that"]);
    assert_eq!(edited(&mut client, Edit::Clear {}).await, 0);
}

#[tokio::test]
async fn status_and_ping_and_bye() {
    let server = TestServer::start().await;
    let mut client = Client::open(server.address).await;
    client.text(r#"{"type":"ping","id":"p"}"#).await;
    client
        .until("pong", |event| match event {
            Event::Pong(pong) => (pong.reply_to.as_deref() == Some("p")).then_some(()),
            _ => None,
        })
        .await;
    let status = client.status().await;
    assert_eq!(
        (status.turns, status.responses, status.turn, status.response),
        (0, 0, None, None)
    );
    assert!(status.backends.len() >= 4, "{status:?}");
    // What was asked just before the end is answered.
    client.text(r#"{"type":"status","id":"last"}"#).await;
    client
        .text(r#"{"type":"update","id":"very last","temperature":0.5}"#)
        .await;
    let client = client.bye().await;
    assert!(matches!(client.events.last(), Some((_, Event::Closed(closed))) if closed.reason == CloseReason::Bye));
    let answered = |id: &str| {
        client.event(|event| match event {
            Event::Status(status) => status.reply_to.as_deref() == Some(id),
            Event::Updated(updated) => updated.reply_to.as_deref() == Some(id),
            _ => false,
        })
    };
    assert!(
        answered("last").is_some() && answered("very last").is_some(),
        "{}",
        client.story()
    );
}
