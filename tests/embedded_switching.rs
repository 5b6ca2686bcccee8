//! One call that keeps talking while its backends are switched back and forth, with the real workers of the embedded default: no word is lost, no
//! frame is late, and what is understood is what a call without switches understands.

mod support;

use std::time::Duration;

use repartee_protocol::native::{
    BackendKind, Bare, Event, Hello, Request, ResponseStatus, SettingsUpdate, StagesUpdate, Switch, SwitchScope,
    TurnDetection,
};
use serde_json::json;
use support::process::{embedded, run, signal};
use support::speech::{recordings, word_errors, words};
use support::{Client, LIMIT, ServerProcess, eventually};

/// Recordings that the calls consist of, and the longest of them in seconds.
const TURNS: usize = 5;
const LONGEST: f64 = 4.5;

struct Turn {
    samples: Vec<i16>,
    wanted: Vec<String>,
}

fn turns(rate: u32) -> Vec<Turn> {
    let mut all = recordings();
    let read_aloud = ["librivox-sense", "librispeech", "cmu-arctic", "speechbrain"];
    all.retain(|one| {
        read_aloud.contains(&one.group.as_str()) && one.words.is_some() && (2.2..LONGEST).contains(&one.seconds)
    });
    all.sort_by(|one, other| one.path.cmp(&other.path));
    all.into_iter()
        .take(TURNS)
        .map(|one| Turn {
            samples: one.samples(rate),
            wanted: one.words.clone().unwrap_or_default(),
        })
        .collect()
}

/// What became of one turn.
struct Heard {
    transcript: String,
    status: ResponseStatus,
    heard_ms: f64,
}

async fn open(server: &ServerProcess, answers: bool) -> Client {
    let hello = Hello {
        settings: Some(SettingsUpdate {
            turn_detection: Some(TurnDetection::Client),
            stages: Some(StagesUpdate {
                stt: Some(true),
                llm: Some(answers),
                tts: Some(answers),
            }),
            ..SettingsUpdate::default()
        }),
        ..Hello::default()
    };
    Client::open_with(server.address, hello).await
}

async fn finish(client: &mut Client) -> String {
    client.request(Request::Commit(Bare {})).await;
    client.final_transcript().await.text.into_exposed()
}

async fn answered(client: &mut Client) -> Heard {
    let transcript = finish(client).await;
    let done = client
        .until_within("the end of the reply", Duration::from_secs(60), |event| match event {
            Event::ResponseDone(done) => Some(done.clone()),
            _ => None,
        })
        .await;
    Heard {
        transcript,
        status: done.status,
        heard_ms: done.heard_ms.as_f64(),
    }
}

fn length(samples: &[i16], client: &Client) -> Duration {
    Duration::from_millis(samples.len() as u64 * 1_000 / u64::from(client.format.rate.hertz()))
}

/// Two configurations of one recogniser: the second spells out what the first does anyway.
fn recogniser(second: bool, scope: SwitchScope) -> Request {
    let mut switch = Switch {
        backend: Some("pocketsphinx".to_owned()),
        model: Some("pocketsphinx-en-us".to_owned()),
        scope,
        ..Switch::new(BackendKind::Stt)
    };
    if second {
        switch.options.insert("topn".to_owned(), json!(4));
    }
    Request::Switch(Box::new(switch))
}

fn voice(name: &str, scope: SwitchScope) -> Request {
    Request::Switch(Box::new(Switch {
        voice: Some(name.to_owned()),
        scope,
        ..Switch::new(BackendKind::Tts)
    }))
}

/// A switch that must fail: there is no such model.
fn impossible(kind: BackendKind) -> Request {
    Request::Switch(Box::new(Switch {
        model: Some("no/such/model.bin".to_owned()),
        ..Switch::new(kind)
    }))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_switches_in_one_call_lose_no_word_and_leave_no_gap() {
    let traces = tempfile::tempdir().expect("a folder");
    let folder = traces.path().to_str().expect("its name is text").to_owned();
    let Some(server) = embedded(&["--trace", &folder]).await else {
        return;
    };
    let mut plain = open(&server, false).await;
    let turns = turns(plain.format.rate.hertz());
    if turns.len() < TURNS {
        println!(
            "skipped: of the recordings, {} are of the length that is wanted, not {TURNS}",
            turns.len()
        );
        return;
    }
    let mut without = Vec::new();
    for turn in &turns {
        plain.speak(turn.samples.clone()).await;
        plain.listen_for(length(&turn.samples, &plain)).await;
        without.push(finish(&mut plain).await);
    }
    plain.bye().await;

    let mut client = open(&server, true).await;
    let mut with = Vec::new();
    let (voices, scopes) = (["slt", "awb", "rms"], [SwitchScope::Session, SwitchScope::Server]);
    for (number, turn) in turns.iter().enumerate() {
        let scope = scopes[number % 2];
        client.speak(turn.samples.clone()).await;
        client.listen_for(Duration::from_millis(700)).await;
        // In the middle of the sentence: the recogniser, the voice, and something that can't be had.
        client.request(recogniser(number % 2 == 0, scope)).await;
        client.request(voice(voices[number % 3], scope)).await;
        let kinds = [BackendKind::Llm, BackendKind::Vad, BackendKind::Llm];
        client.request(impossible(kinds[number % 3])).await;
        client.listen_for(Duration::from_millis(600)).await;
        // A worker is killed each time.
        let victim = ["repartee-worker-pocketsphinx", "repartee-worker-flite"][number % 2];
        for process in server.workers(victim).into_iter().take(1) {
            signal(process, "KILL");
        }
        let left = length(&turn.samples, &client).saturating_sub(Duration::from_millis(1_300));
        client.listen_for(left).await;
        // And once more before the reply is over.
        client.request(impossible(BackendKind::Stt)).await;
        with.push(answered(&mut client).await);
    }

    let errors = |heard: &mut dyn Iterator<Item = &str>| -> usize {
        heard
            .zip(&turns)
            .map(|(heard, turn)| word_errors(&turn.wanted, &words(heard)))
            .sum()
    };
    let wanted: usize = turns.iter().map(|turn| turn.wanted.len()).sum();
    let (plain, switched) = (
        errors(&mut without.iter().map(String::as_str)),
        errors(&mut with.iter().map(|heard| heard.transcript.as_str())),
    );
    println!("{wanted} words: {plain} wrong without switches, {switched} with");
    // As many words as without switches, but for a few: a decoder goes on from what it learned of the loudness of earlier sentences, and one that
    // was just loaded begins anew.
    assert!(
        switched <= plain + wanted / 8,
        "{switched} of {wanted} words, not {plain}"
    );
    // One final transcript for each turn, and a reply that was heard to its end.
    let finals = client
        .events
        .iter()
        .filter(|(_, event)| matches!(event, Event::Transcript(transcript) if transcript.is_final))
        .count();
    assert_eq!(finals, turns.len());
    for (one, other) in without.iter().zip(&with) {
        let (one, other_words) = (words(one), words(&other.transcript));
        let differ = word_errors(&one, &other_words);
        assert!(differ * 2 <= one.len(), "{one:?} and {other_words:?}");
        assert_eq!(other.status, ResponseStatus::Completed, "{}", client.story());
        assert!(other.heard_ms > 500.0, "{} ms", other.heard_ms);
    }
    let count = |wanted: fn(&Event) -> bool| client.events.iter().filter(|(_, event)| wanted(event)).count();
    let made = count(|event| matches!(event, Event::Switched(_)));
    let failed = count(|event| matches!(event, Event::SwitchFailed(_)));
    println!("{made} switches were made, {failed} failed as they should");
    assert_eq!((made, failed), (2 * TURNS, 2 * TURNS), "{}", client.story());
    let gaps: Vec<u32> = client
        .events
        .iter()
        .filter_map(|(_, event)| match event {
            Event::Switched(switched) => Some(switched.gap_ms),
            _ => None,
        })
        .collect();
    println!("gaps in ms: {gaps:?}");
    assert!(server.ready().await.is_ok());

    // What only this call used is gone with it.
    client.bye().await;
    eventually("one recogniser and one voice are left", Duration::from_secs(20), || {
        server.workers("repartee-worker-pocketsphinx").len() == 1 && server.workers("repartee-worker-flite").len() == 1
    })
    .await;

    // A call with switches replays like any other.
    drop(server);
    for entry in std::fs::read_dir(traces.path()).expect("the traces") {
        let path = entry.expect("a file").path();
        let output = run(&["replay", path.to_str().expect("its name is text")], LIMIT);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

/// Memory in use of a process and its workers, in KiB.
fn memory(server: &ServerProcess) -> u64 {
    let workers = ["repartee-worker-pocketsphinx", "repartee-worker-flite"];
    let all = workers
        .iter()
        .flat_map(|name| server.workers(name))
        .chain([server.id()]);
    all.filter_map(|process| {
        let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    })
    .sum()
}

fn median(times: &mut [u64]) -> u64 {
    times.sort_unstable();
    times[times.len() / 2]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_switches_of_the_server_leave_memory_as_it_was() {
    let Some(server) = embedded(&[]).await else { return };
    let _ = rustls::crypto::ring::default_provider().install_default();
    let http = reqwest::Client::builder().no_proxy().build().expect("a client");
    let (address, question) = (server.address, http.clone());
    let (over, mut is_over) = tokio::sync::oneshot::channel::<()>();
    let asking = tokio::spawn(async move {
        // How long an operator waits for the state, whatever is being loaded.
        let mut times = Vec::new();
        while is_over.try_recv() == Err(tokio::sync::oneshot::error::TryRecvError::Empty) {
            let clock = repartee::engine::Clock::start();
            let answer = question.get(format!("http://{address}/ready")).send().await;
            assert!(
                answer.is_ok_and(|answer| answer.status().is_success()),
                "it stays ready"
            );
            times.push(clock.now().as_millis());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        times.sort_unstable();
        (times.len(), times[times.len() * 99 / 100])
    });
    let (mut recogniser, mut voice, mut before) = (Vec::new(), Vec::new(), 0);
    for number in 0..56 {
        let (kind, times) = if number % 2 == 0 {
            ("stt", &mut recogniser)
        } else {
            ("tts", &mut voice)
        };
        let options = match (kind, number % 4 < 2) {
            ("stt", true) => json!({"topn": 4}),
            ("tts", true) => json!({"voice": "slt"}),
            _ => json!({}),
        };
        let backend = if kind == "stt" { "pocketsphinx" } else { "flite" };
        let model = if kind == "stt" { "pocketsphinx-en-us" } else { "flite" };
        let body = json!({"kind": kind, "backend": backend, "model": model, "options": options});
        let answer = http
            .post(format!("http://{address}/api/switch"))
            .json(&body)
            .send()
            .await
            .expect("an answer");
        let told: serde_json::Value = answer.json().await.expect("JSON");
        assert_eq!(told["ok"], true, "{told}");
        times.push(told["load_ms"].as_u64().expect("it took its time"));
        if number == 5 {
            // Once everything that is allocated once has been.
            eventually("one of each", Duration::from_secs(10), || {
                server.workers("repartee-worker-pocketsphinx").len() + server.workers("repartee-worker-flite").len()
                    == 2
            })
            .await;
            before = memory(&server);
        }
    }
    eventually("one of each", Duration::from_secs(10), || {
        server.workers("repartee-worker-pocketsphinx").len() + server.workers("repartee-worker-flite").len() == 2
    })
    .await;
    let after = memory(&server);
    drop(over);
    let (questions, slowest) = asking.await.expect("it was always ready");
    println!("/ready, asked {questions} times meanwhile: p99 {slowest} ms");
    println!(
        "from request to serving: recogniser {} ms, voice {} ms (medians of 28); memory {before} KiB before, {after} KiB after 50 switches",
        median(&mut recogniser),
        median(&mut voice)
    );
    assert!(after * 100 <= before * 102, "{before} KiB before, {after} KiB after");
}
