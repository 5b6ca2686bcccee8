//! Backends switched under calls: over the native wire and over HTTP, with scripted models that load, fail, hang and die.

mod support;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use repartee::call::{BackendKind, Scope, SwitchRequest};
use repartee::engine::EngineOptions;
use repartee::registry::{Registry, Slot, Switchboard, Update};
use repartee::transport::native::NativeOptions;
use repartee_protocol::native::{self, Event, Request, Say, Switch, SwitchOf, SwitchScope, SwitchStage};
use serde_json::{Value, json};
use support::loader::{ScriptedLoader, SharedLoader};
use support::{Client, Fakes, TestServer, eventually, silence, tone};

struct House {
    server: TestServer,
    loader: Arc<ScriptedLoader>,
    board: Arc<Switchboard>,
}

/// A server whose backends were all loaded by the scripted loader.
async fn house(takes: Duration) -> House {
    let registry = Arc::new(Registry::default());
    let loader = Arc::new(ScriptedLoader::new(&registry).load_takes(takes));
    let board = Switchboard::new(Arc::clone(&registry), Arc::new(SharedLoader(Arc::clone(&loader))));
    for (kind, model) in [
        (BackendKind::Vad, "plain"),
        (BackendKind::Stt, "plain"),
        (BackendKind::Llm, "plain"),
        (BackendKind::Tts, "voice-440"),
    ] {
        let mut switching = board.begin(request(kind, model, Scope::Server), None);
        loop {
            match switching.update().await.expect("it ends") {
                Update::Started { .. } => {}
                Update::Loaded { .. } => break,
                Update::Failed(failure) => panic!("{failure:?}"),
            }
        }
    }
    registry.mark_missing(BackendKind::Turn, "not needed here".to_owned());
    let server = TestServer::serve(
        registry,
        Fakes::default(),
        NativeOptions::default(),
        EngineOptions::default(),
    )
    .await;
    server.engine.set_switchboard(Arc::clone(&board));
    House { server, loader, board }
}

fn request(kind: BackendKind, model: &str, scope: Scope) -> SwitchRequest {
    SwitchRequest {
        model: Some(model.to_owned()),
        scope,
        ..SwitchRequest::new(kind)
    }
}

fn switch(kind: native::BackendKind, model: &str, scope: SwitchScope) -> Request {
    Request::Switch(Box::new(Switch {
        model: Some(model.to_owned()),
        scope,
        ..Switch::new(kind)
    }))
}

async fn switched(client: &mut Client) -> native::Switched {
    client
        .until("switched", |event| match event {
            Event::Switched(switched) => Some(switched.clone()),
            Event::SwitchFailed(failed) => panic!("{failed:?}"),
            _ => None,
        })
        .await
}

/// The news that this model serves.
async fn switched_to(client: &mut Client, model: &str) -> native::Switched {
    client
        .until("switched", |event| match event {
            Event::Switched(switched) if switched.new.model == model => Some(switched.clone()),
            Event::SwitchFailed(failed) => panic!("{failed:?}"),
            _ => None,
        })
        .await
}

async fn failed(client: &mut Client) -> native::SwitchFailed {
    client
        .until("switch_failed", |event| match event {
            Event::SwitchFailed(failed) => Some(failed.clone()),
            Event::Switched(switched) => panic!("{switched:?}"),
            _ => None,
        })
        .await
}

/// The strongest of these frequencies in `pcm` at 16 kHz.
fn pitch(pcm: &[i16], candidates: &[u32]) -> u32 {
    let power = |hz: u32| {
        let step = std::f64::consts::TAU * f64::from(hz) / 16_000.0;
        let (mut re, mut im) = (0.0, 0.0);
        for (index, sample) in pcm.iter().enumerate() {
            re += f64::from(*sample) * (step * index as f64).cos();
            im += f64::from(*sample) * (step * index as f64).sin();
        }
        re * re + im * im
    };
    *candidates
        .iter()
        .max_by(|one, other| power(**one).total_cmp(&power(**other)))
        .expect("candidates")
}

async fn say(client: &mut Client, text: &str) -> Vec<i16> {
    let before = client.heard().len();
    client.request(Request::Say(Say::new(text))).await;
    client.response_done().await;
    client.heard()[before..].to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn another_voice_for_one_session_and_for_all() {
    let house = house(Duration::from_millis(20)).await;
    let (mut one, mut other) = (
        Client::open(house.server.address).await,
        Client::open(house.server.address).await,
    );
    let voices = [440, 660, 880];
    assert_eq!(pitch(&say(&mut one, "hello there").await, &voices), 440);
    one.request(switch(native::BackendKind::Tts, "voice-660", SwitchScope::Session))
        .await;
    let made = switched(&mut one).await;
    assert_eq!((made.new.model.as_str(), made.gap_ms), ("voice-660", 0));
    assert_eq!(made.old.map(|old| old.model).as_deref(), Some("voice-440"));
    assert_eq!(pitch(&say(&mut one, "hello there").await, &voices), 660);
    assert_eq!(pitch(&say(&mut other, "hello there").await, &voices), 440);
    // Back to what is still loaded, and forth again: older loads serve as well as new ones.
    for model in ["voice-440", "voice-660"] {
        one.request(switch(native::BackendKind::Tts, model, SwitchScope::Session))
            .await;
        assert_eq!(switched_to(&mut one, model).await.gap_ms, 0);
    }
    // For everybody: who has a voice of its own keeps it.
    other
        .request(switch(native::BackendKind::Tts, "voice-880", SwitchScope::Server))
        .await;
    switched(&mut other).await;
    assert_eq!(pitch(&say(&mut other, "hello there").await, &voices), 880);
    assert_eq!(pitch(&say(&mut one, "hello there").await, &voices), 660);
    let mut newcomer = Client::open(house.server.address).await;
    assert_eq!(pitch(&say(&mut newcomer, "hello there").await, &voices), 880);
    // What nobody uses any more is gone: the first voice at once, the session's own with it.
    let live = Arc::clone(&house.loader.live);
    eventually("the first voice is unloaded", Duration::from_secs(5), || {
        live.load(Ordering::Acquire) == 5
    })
    .await;
    one.bye().await;
    eventually("the session's voice is unloaded", Duration::from_secs(5), || {
        live.load(Ordering::Acquire) == 4
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_response_is_said_in_one_voice_while_it_is_switched() {
    let house = house(Duration::from_millis(20)).await;
    let mut client = Client::open(house.server.address).await;
    let text =
        "One sentence that is said first. Then comes a second one that is longer. And here is the third of them all.";
    client.request(Request::Say(Say::new(text))).await;
    client
        .until("audio", |event| matches!(event, Event::AudioStarted(_)).then_some(()))
        .await;
    client
        .request(switch(native::BackendKind::Tts, "voice-880", SwitchScope::Server))
        .await;
    client.response_done().await;
    let heard = client.heard();
    for (number, second) in heard.chunks(8_000).enumerate().filter(|(_, part)| part.len() == 8_000) {
        assert_eq!(pitch(second, &[440, 880]), 440, "half second {number}");
    }
    if client.event(|event| matches!(event, Event::Switched(_))).is_none() {
        switched(&mut client).await;
    }
    assert_eq!(pitch(&say(&mut client, "and now").await, &[440, 880]), 880);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recogniser_is_switched_in_the_middle_of_an_utterance() {
    let house = house(Duration::from_millis(20)).await;
    let mut client = Client::open(house.server.address).await;
    client.speak(tone(16_000, 1_500)).await;
    client
        .request(switch(native::BackendKind::Stt, "other", SwitchScope::Session))
        .await;
    switched(&mut client).await;
    client.speak(tone(16_000, 1_000)).await;
    client.speak(silence(16_000, 1_500)).await;
    let text = client.final_transcript().await.text.expose().to_owned();
    // The fake tells how much it heard: all of it, although it came in the middle.
    let millis: u64 = text
        .chars()
        .filter(char::is_ascii_digit)
        .collect::<String>()
        .parse()
        .unwrap_or_else(|_| panic!("{text}"));
    assert!(millis >= 2_500, "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_fails_leaves_the_old_one_serving_and_says_why() {
    let house = house(Duration::from_millis(20)).await;
    let mut client = Client::open(house.server.address).await;
    let before = house.loader.live.load(Ordering::Acquire);
    for (model, stage, reason) in [
        ("absent", SwitchStage::Resolve, "expected one of plain, other"),
        ("huge", SwitchStage::Check, "needs 8.0 GiB of memory, 4.0 are free"),
        ("broken", SwitchStage::Load, "its last words: unexpected end of file"),
        ("hanging", SwitchStage::Load, "was not loaded within 1 s"),
        ("silent", SwitchStage::Verify, "nothing but silence"),
    ] {
        for scope in SwitchScope::ALL {
            client.request(switch(native::BackendKind::Tts, model, scope)).await;
            let failed = failed(&mut client).await;
            assert_eq!(failed.stage, stage, "{failed:?}");
            assert!(failed.reason.contains(reason), "{failed:?}");
            assert_eq!(failed.serving.map(|served| served.model).as_deref(), Some("voice-440"));
            assert_eq!(pitch(&say(&mut client, "still here").await, &[440, 880]), 440);
        }
    }
    let live = Arc::clone(&house.loader.live);
    eventually("nothing is left behind", Duration::from_secs(5), || {
        live.load(Ordering::Acquire) == before
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_for_one_only_is_used_for_one_at_a_time() {
    let house = house(Duration::from_millis(20)).await;
    // 4 GiB are free, 1 is held: 8 don't fit even then, so the old one isn't even stopped.
    let mut huge = Switch {
        model: Some("huge".to_owned()),
        scope: SwitchScope::Server,
        replace: true,
        ..Switch::new(native::BackendKind::Tts)
    };
    let mut client = Client::open(house.server.address).await;
    client.request(Request::Switch(Box::new(huge.clone()))).await;
    let refused = failed(&mut client).await;
    assert!(
        refused.stage == SwitchStage::Check && !refused.replace_may_help,
        "{refused:?}"
    );
    huge.model = Some("voice-880".to_owned());
    client.request(Request::Switch(Box::new(huge))).await;
    assert_eq!(switched(&mut client).await.gap_ms, 0, "there is room for both");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_old_one_makes_room_where_that_is_allowed_and_comes_back_if_it_was_in_vain() {
    let house = house(Duration::from_millis(300)).await;
    let mut client = Client::open(house.server.address).await;
    let replacing = |model: &str, replace: bool| {
        Request::Switch(Box::new(Switch {
            model: Some(model.to_owned()),
            scope: SwitchScope::Server,
            replace,
            ..Switch::new(native::BackendKind::Llm)
        }))
    };
    client.request(replacing("large-one", false)).await;
    let refused = failed(&mut client).await;
    assert!(
        refused.stage == SwitchStage::Check && refused.replace_may_help,
        "{refused:?}"
    );
    // Who asks meanwhile waits, hears that it takes a moment, and is answered.
    client.request(replacing("large-one", true)).await;
    client
        .until("the model is gone", |event| match event {
            Event::Backend(native::Backend {
                kind: native::BackendKind::Llm,
                state: native::BackendState::Lost { reason, .. },
            }) => {
                assert!(reason.contains("makes room"), "{reason}");
                Some(())
            }
            _ => None,
        })
        .await;
    client
        .request(Request::Text(native::Text {
            text: "are you there".into(),
        }))
        .await;
    let made = switched(&mut client).await;
    assert!(made.new.model == "large-one" && made.gap_ms >= 250, "{made:?}");
    client
        .until("the answer", |event| match event {
            Event::ResponseDone(done) => done.text.expose().contains("are you there").then_some(()),
            _ => None,
        })
        .await;
    let filler = |event: &Event| matches!(event, Event::ResponseText(text) if text.delta.expose().contains("moment"));
    assert!(client.event(filler).is_some(), "{}", client.story());
    // In vain: what served before is loaded again.
    client.request(replacing("large-broken", true)).await;
    let failed = failed(&mut client).await;
    assert!(
        failed.stage == SwitchStage::Load && failed.reason.contains("end of file"),
        "{failed:?}"
    );
    client
        .request(Request::Text(native::Text { text: "and now".into() }))
        .await;
    client
        .until("the answer of what was there before", |event| match event {
            Event::ResponseDone(done) => done.text.expose().contains("and now").then_some(()),
            _ => None,
        })
        .await;
    assert!(matches!(
        house.server.engine.registry().state(BackendKind::Llm),
        Slot::Ready(_)
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_of_the_server_at_once_are_refused_by_name_and_a_thousand_leave_nothing() {
    let house = house(Duration::from_millis(300)).await;
    let before = house.loader.loads.load(Ordering::Acquire);
    let mut first = house
        .board
        .begin(request(BackendKind::Stt, "other", Scope::Server), None);
    assert!(matches!(first.update().await, Some(Update::Started { .. })));
    let mut refused = 0;
    for _ in 0..1_000 {
        let mut one = house
            .board
            .begin(request(BackendKind::Stt, "third", Scope::Server), None);
        match one.update().await {
            Some(Update::Failed(failure)) => {
                assert!(failure.reason.contains("stt is being switched to other"), "{failure:?}");
                refused += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(matches!(first.update().await, Some(Update::Loaded { .. })));
    assert_eq!(refused, 1_000);
    assert_eq!(house.loader.loads.load(Ordering::Acquire), before + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_is_called_off_by_its_client_and_by_its_end() {
    let house = house(Duration::from_millis(500)).await;
    let before = house.loader.live.load(Ordering::Acquire);
    let mut client = Client::open(house.server.address).await;
    client
        .request(switch(native::BackendKind::Llm, "other", SwitchScope::Session))
        .await;
    client
        .until("started", |event| {
            matches!(event, Event::SwitchStarted(_)).then_some(())
        })
        .await;
    client
        .request(Request::CancelSwitch(SwitchOf {
            kind: native::BackendKind::Llm,
        }))
        .await;
    assert_eq!(failed(&mut client).await.stage, SwitchStage::Cancelled);
    client
        .request(switch(native::BackendKind::Llm, "third", SwitchScope::Session))
        .await;
    client
        .until("started", |event| {
            matches!(event, Event::SwitchStarted(_)).then_some(())
        })
        .await;
    drop(client);
    let live = Arc::clone(&house.loader.live);
    eventually("both loads are gone", Duration::from_secs(5), || {
        live.load(Ordering::Acquire) == before
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_candidate_beside_the_recogniser_is_compared_and_promoted() {
    let house = house(Duration::from_millis(20)).await;
    let mut client = Client::open(house.server.address).await;
    client
        .request(Request::Switch(Box::new(Switch {
            model: Some("candidate".to_owned()),
            shadow: true,
            ..Switch::new(native::BackendKind::Stt)
        })))
        .await;
    assert!(switched(&mut client).await.shadow);
    client.speak(tone(16_000, 1_000)).await;
    client.speak(silence(16_000, 1_500)).await;
    let compared = client
        .until("shadowed", |event| match event {
            Event::Shadowed(shadowed) => Some(*shadowed),
            _ => None,
        })
        .await;
    // Both measure the same audio.
    assert_eq!(compared.agreement.map(native::Thousandths::count), Some(1_000));
    assert!(compared.live_ms.is_some() && compared.candidate_ms.is_some());
    client
        .request(Request::Promote(SwitchOf {
            kind: native::BackendKind::Stt,
        }))
        .await;
    assert_eq!(switched(&mut client).await.new.model, "candidate");
}

/// What HTTP answers: status and body.
async fn http(house: &House, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
    let url = format!("http://{}{path}", house.server.address);
    // No TLS: a client without a certificate store.
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let request = match (method, body) {
        ("POST", Some(body)) => client.post(url).json(&body),
        _ => client.get(url),
    };
    let answer = request.send().await.expect("an answer");
    let status = answer.status().as_u16();
    (status, answer.json().await.unwrap_or(Value::Null))
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_switch_over_http_and_look_before() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let house = house(Duration::from_millis(20)).await;
    let posted = |body: Value| http(&house, "POST", "/api/switch", Some(body));
    let dry = posted(json!({"kind": "tts", "model": "voice-880", "dry_run": true})).await;
    assert_eq!(
        (dry.0, &dry.1["ok"], &dry.1["new"]["model"]),
        (200, &json!(true), &json!("voice-880"))
    );
    assert_eq!(dry.1["serving"]["model"], "voice-440");
    let made = posted(json!({"kind": "tts", "model": "voice-880"})).await;
    assert_eq!(
        (made.0, &made.1["serving"]["model"]),
        (200, &json!("voice-880")),
        "{made:?}"
    );
    assert!(made.1["load_ms"].as_u64().is_some_and(|took| took >= 20), "{made:?}");
    for (body, status, stage) in [
        (json!({"kind": "tts", "model": "absent"}), 404, "resolve"),
        (json!({"kind": "tts", "model": "huge"}), 422, "check"),
        (json!({"kind": "tts", "model": "huge", "dry_run": true}), 422, "check"),
        (json!({"kind": "tts", "model": "broken"}), 502, "load"),
        (json!({"kind": "tts"}), 409, "request"),
    ] {
        let answer = posted(body.clone()).await;
        assert_eq!(
            (answer.0, &answer.1["stage"]),
            (status, &json!(stage)),
            "{body}: {answer:?}"
        );
        assert_eq!(answer.1["serving"]["model"], "voice-880");
    }
    assert_eq!(posted(json!({"kind": "voice"})).await.0, 422);
    let (status, answer) = http(&house, "GET", "/api/capabilities", None).await;
    assert_eq!(status, 200);
    // The same as on the session's wire.
    let mut client = Client::open(house.server.address).await;
    client.request(Request::Capabilities(native::Bare {})).await;
    let told = client
        .until("capabilities", |event| match event {
            Event::Capabilities(told) => Some(told.clone()),
            _ => None,
        })
        .await;
    assert_eq!(serde_json::to_value(&told.backends).expect("JSON"), answer["backends"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn status_is_answered_at_once_while_something_is_loaded() {
    let house = house(Duration::from_millis(800)).await;
    let mut client = Client::open(house.server.address).await;
    client
        .request(switch(native::BackendKind::Llm, "other", SwitchScope::Server))
        .await;
    client
        .until("started", |event| {
            matches!(event, Event::SwitchStarted(_)).then_some(())
        })
        .await;
    let mut times = Vec::new();
    while client.event(|event| matches!(event, Event::Switched(_))).is_none() {
        let clock = repartee::engine::Clock::start();
        client.status().await;
        times.push(clock.now().as_millis());
    }
    times.sort_unstable();
    assert!(times.len() > 20, "{times:?}");
    let p99 = times[times.len() * 99 / 100];
    println!("status during a load: {} questions, p99 {p99} ms", times.len());
    assert!(p99 < 100, "{times:?}");
}

/// Any switches in any order, with models that load, fail and hang, workers that die, sessions that come and go: what served serves, or something
/// that was asked for, and in the end nothing is left but what serves.
#[tokio::test(flavor = "multi_thread")]
async fn no_walk_leaves_a_server_without_a_voice_or_with_what_nobody_uses() {
    let house = house(Duration::from_millis(3)).await;
    let mut state: u64 = 0x9e37_79b9;
    let mut next = |bound: u64| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % bound
    };
    let registry = Arc::clone(house.server.engine.registry());
    let mut under_way = Vec::new();
    for step in 0..400 {
        let kind = [BackendKind::Stt, BackendKind::Llm, BackendKind::Tts][usize::try_from(next(3)).unwrap()];
        let model = match next(6) {
            0 => "broken".to_owned(),
            1 => "silent".to_owned(),
            2 => "absent".to_owned(),
            other => format!("model-{}", 300 + other * 100),
        };
        let scope = if next(2) == 0 { Scope::Server } else { Scope::Session };
        under_way.push(house.board.begin(request(kind, &model, scope), None));
        if next(3) == 0 && !under_way.is_empty() {
            let index = usize::try_from(next(under_way.len() as u64)).unwrap();
            let mut gone = under_way.swap_remove(index);
            if next(2) == 0 {
                gone.cancel();
            }
        }
        if next(4) == 0 {
            tokio::time::sleep(Duration::from_millis(next(8))).await;
        }
        for kind in [BackendKind::Stt, BackendKind::Llm, BackendKind::Tts] {
            assert!(
                matches!(registry.state(kind), Slot::Ready(_)),
                "step {step}: {kind} {:?}",
                registry.state(kind)
            );
        }
    }
    for mut switching in under_way {
        while switching.update().await.is_some() {}
    }
    let live = Arc::clone(&house.loader.live);
    // VAD, recogniser, language model, voice.
    eventually("what nobody uses is unloaded", Duration::from_secs(10), || {
        live.load(Ordering::Acquire) == 4
    })
    .await;
}
