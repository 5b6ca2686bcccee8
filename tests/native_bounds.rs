//! What costs memory, and mustn't. Each of these tests measures the whole process, so they run one after the other, and in a
//! program of their own.

mod support;

use std::time::Duration;

use futures_util::SinkExt as _;
use repartee::backend::fake::{ScriptedLlm, ScriptedStt, ScriptedTts};
use repartee::engine::Clock;
use repartee_protocol::native::{AudioFormat, Codec, Event, Hello, Request, ResponseStatus, Say};
use support::{Client, Fakes, LIMIT, Socket, TestServer, eventually, resident_kib, tone};
use tokio_tungstenite::tungstenite::Message;

static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

async fn nobody_is_left(server: &TestServer) {
    eventually("no session is left", LIMIT, || server.engine.live() == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silence_for_an_hour_costs_nothing() {
    let _alone = ALONE.lock().await;
    let server = TestServer::start().await;
    let hello = Hello {
        input: AudioFormat::of(Codec::Pcmu),
        ..Hello::default()
    };
    let mut client = Client::open_with(server.address, hello).await;
    // Five minutes in messages of twenty seconds, as fast as they are taken. The first time fills what grows to its working
    // size.
    let stretch = vec![0xff_u8; 8_000 * 20];
    let (mut before, mut status) = (0, client.status().await);
    for round in 1..=12 {
        for _ in 0..15 {
            client.raw(stretch.clone()).await;
        }
        while status.received_ms.as_f64() < f64::from(round) * 300_000.0 - 1_000.0 {
            status = client.status().await;
            client.events.clear();
        }
        if round == 1 {
            before = resident_kib();
        }
    }
    let grown = resident_kib().saturating_sub(before);
    println!("an hour of silence: {grown} KiB");
    // As samples, the 55 minutes would be 103 MiB.
    assert!(grown < 8 * 1024, "{grown} KiB more than after five minutes");
    assert_eq!((status.turns, status.dropped_ms.as_micros()), (0, 0));
    // It still hears.
    client.speak(tone(8_000, 600)).await;
    client.final_transcript().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_stops_reading_is_let_go_and_nobody_else_notices() {
    let _alone = ALONE.lock().await;
    // A reply of more than twenty seconds for the neighbour.
    let fakes = Fakes::new(ScriptedStt::measuring(), ScriptedLlm::echo()).voice(ScriptedTts::default());
    let server = TestServer::with(fakes).await;
    let mut neighbour = Client::open(server.address).await;
    let before = resident_kib();
    let mut deaf = Socket::connect_narrow(server.address).await;
    deaf.text(r#"{"type":"hello","version":1,"output":{"codec":"pcm16","rate":48000}}"#)
        .await;
    assert!(matches!(deaf.event().await, Event::Ready(_)));
    deaf.text(&format!(
        r#"{{"type":"say","text":"{}"}}"#,
        "so it goes on and on. ".repeat(300)
    ))
    .await;
    neighbour.request(Request::Say(Say::new("a word, ".repeat(50)))).await;
    neighbour.until_frames(1).await;
    let clock = Clock::start();
    // It reads nothing, and asks for as much as it is allowed to.
    let flood = async { while deaf.inner.feed(Message::text(r#"{"type":"status"}"#)).await.is_ok() {} };
    let gone = async {
        eventually("the deaf client is let go", Duration::from_secs(25), || {
            server.engine.live() == 1
        })
        .await;
    };
    tokio::select! {
        () = async { flood.await; std::future::pending::<()>().await } => {}
        () = gone => {}
    }
    let took = clock.now();
    let grown = resident_kib().saturating_sub(before);
    assert!(grown < 16 * 1024, "{grown} KiB for somebody who doesn't listen");
    println!("let go after {} ms, {grown} KiB", took.as_millis());

    let done = neighbour.response_done().await;
    assert_eq!(done.status, ResponseStatus::Completed);
    let frames = neighbour.frames.len();
    let span = neighbour.frames[frames - 1].at.since(neighbour.frames[0].at);
    let nominal = Duration::from_millis(20) * u32::try_from(frames - 1).unwrap();
    assert!(frames > 1_000, "{frames} frames");
    assert!(
        span.abs_diff(nominal) < Duration::from_millis(150),
        "{span:?} for {nominal:?}"
    );
    drop(neighbour);
    nobody_is_left(&server).await;
}
