//! The end of a server, its counters, its log.

use crate::support::{self, Client, LIMIT, ServerProcess, TestServer, eventually, tone};
use crate::{private, say, typed};
use repartee::metrics::Metrics;
use repartee_protocol::native::{
    CloseReason, Digit, Dtmf, EndpointingUpdate, ErrorCode, Event, Hello, Request, ResponseStatus, SettingsUpdate,
};
use std::sync::Arc;
use std::time::Duration;

#[tokio::test]
async fn a_server_that_goes_away_lets_a_reply_end() {
    let server = TestServer::start().await;
    let mut talking = Client::open(server.address).await;
    let mut idle = Client::open(server.address).await;
    talking
        .request(say("this is still to be said before the lights go out"))
        .await;
    talking.until_frames(5).await;
    let engine = server.engine.clone();
    let drained = tokio::spawn(async move { engine.drain(Duration::from_secs(5)).await });
    idle.until("going away", |event| matches!(event, Event::GoingAway(_)).then_some(()))
        .await;
    idle.until_closed().await;
    let done = talking.response_done().await;
    assert_eq!(
        (done.status, done.heard.expose()),
        (ResponseStatus::Completed, done.text.expose())
    );
    talking.until_closed().await;
    for client in [&talking, &idle] {
        assert!(
            matches!(client.events.last(), Some((_, Event::Closed(closed))) if closed.reason == CloseReason::Drained),
            "{}",
            client.story()
        );
    }
    assert_eq!(drained.await.unwrap(), 0);
    let mut late = support::Socket::connect(server.address).await;
    late.text(support::socket::HELLO).await;
    late.expect_end(ErrorCode::Draining, 4503).await;
}

/// A server without models, for what only the program itself does.
async fn bare_program(arguments: &[&str]) -> ServerProcess {
    let mut all = vec![
        "--stt",
        "none",
        "--tts",
        "none",
        "--llm",
        "parrot",
        "--set",
        "vad.backend=webrtc",
    ];
    all.extend(arguments);
    ServerProcess::start(&all).await
}

#[tokio::test]
async fn the_program_says_goodbye_on_sigterm() {
    let mut server = bare_program(&[]).await;
    let mut client = Client::open(server.address).await;
    client.request(typed("hello out there")).await;
    assert!(client.response_done().await.text.expose().contains("hello out there"));
    server.signal("TERM");
    client
        .until("going away", |event| matches!(event, Event::GoingAway(_)).then_some(()))
        .await;
    client.until_closed().await;
    assert!(
        matches!(client.events.last(), Some((_, Event::Closed(closed))) if closed.reason == CloseReason::Drained),
        "{}",
        client.story()
    );
    let status = server.ended(LIMIT).await.expect("it ends");
    assert!(status.success(), "{status}: {}", server.stderr());
}

#[tokio::test]
async fn nothing_that_anybody_says_is_in_the_log() {
    let token = "zwetschgenmarmelade";
    let server = bare_program(&["--log", "trace", "--set", &format!("server.token={token}")]).await;
    let hello = Hello {
        token: Some(private(token)),
        settings: Some(SettingsUpdate {
            instructions: Some(private("Be a quetzalcoatlus.")),
            endpointing: Some(EndpointingUpdate {
                silence_ms: Some(300),
                ..EndpointingUpdate::default()
            }),
            ..SettingsUpdate::default()
        }),
        ..Hello::default()
    };
    let mut client = Client::open_with(server.address, hello).await;
    client.request(typed("my xylophone is in zanzibar")).await;
    assert_eq!(
        client.response_done().await.text.expose(),
        "You said: my xylophone is in zanzibar."
    );
    client.request(say("the bandersnatch is frumious")).await;
    client.response_done().await;
    client
        .text(r#"{"type":"say","text":"the jabberwock has eyes of flame","bogus":1}"#)
        .await;
    client
        .text(r#"{"type":"edit","edit":"append","role":"user","text":"slithy toves"}"#)
        .await;
    client
        .text(r#"{"type":"tool_output","call_id":"x","output":"mome raths"}"#)
        .await;
    client.text("this borogove is not even JSON").await;
    client
        .request(Request::Dtmf(Dtmf {
            digit: Digit::new('7').unwrap(),
        }))
        .await;
    client.speak(tone(16_000, 500)).await;
    client.listen_for(Duration::from_millis(600)).await;
    client.bye().await;
    let mut refused = support::Socket::connect(server.address).await;
    refused
        .text(r#"{"type":"hello","version":1,"token":"powidltatschkerl"}"#)
        .await;
    refused.expect_error(ErrorCode::Unauthorized).await;
    eventually("it logs the session", LIMIT, || server.stderr().contains("session")).await;
    let log = server.stderr() + &server.stdout();
    for word in [
        token,
        "powidltatschkerl",
        "quetzalcoatlus",
        "xylophone",
        "zanzibar",
        "bandersnatch",
        "jabberwock",
        "slithy",
        "mome",
        "borogove",
    ] {
        let line = log.lines().find(|line| line.to_lowercase().contains(word));
        assert_eq!(line, None, "{word} is in the log");
    }
}

/// The counters of an engine that has served somebody say so.
#[tokio::test]
async fn what_happened_is_counted() {
    let server = TestServer::start().await;
    let mut client = Client::open(server.address).await;
    client.speak(tone(16_000, 400)).await;
    client.response_done().await;
    let metrics: &Arc<Metrics> = server.engine.metrics();
    let text = metrics.text();
    for wanted in ["repartee_", "_bucket{", "# EOF"] {
        assert!(text.contains(wanted), "{wanted} in {text}");
    }
    let (status, body) = support::socket::http_get(server.address, "/health").await;
    assert_eq!(status, 200);
    assert!(body.contains("\"sessions\":1"), "{body}");
    let (status, _) = support::socket::http_get(server.address, "/ready").await;
    assert_eq!(status, 200);
    let (status, body) = support::socket::http_get(server.address, "/metrics").await;
    assert_eq!((status, body.contains("# EOF")), (200, true));
}
