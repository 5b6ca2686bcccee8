//! What goes wrong around the engine: workers that are killed, things that are missing, ports that are taken, files that are
//! none. The program itself, with its real workers where they are set up.

mod support;

use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use repartee_protocol::native::{
    BackendKind, BackendState, Event, Hello, Request, ResponseStatus, Say, SettingsUpdate, StagesUpdate, Text,
};
use serde_json::Value;
use support::process::{embedded, repartee, run, run_command, signal};
use support::socket::http_get;
use support::speech::{recording, word_errors, words};
use support::{Client, LIMIT, ServerProcess, eventually, tone};

/// Each of these tests needs the machine for itself, also where all run in one process.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

const STT: &str = "repartee-worker-pocketsphinx";
const TTS: &str = "repartee-worker-flite";

fn error_of(output: &std::process::Output) -> String {
    assert!(!output.status.success(), "it ended well");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Waits for a backend to be in this state.
async fn backend(client: &mut Client, kind: BackendKind, wanted: fn(&BackendState) -> bool) -> BackendState {
    client
        .until("news of a backend", |event| match event {
            Event::Backend(backend) if backend.kind == kind && wanted(&backend.state) => Some(backend.state.clone()),
            _ => None,
        })
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recogniser_killed_in_an_utterance_costs_no_word() {
    let _alone = ALONE.lock().await;
    let Some(recording) = recording("librivox-sense/sense_and_sensibility_01_austen_64kb-0870.wav") else {
        return;
    };
    let Some(server) = embedded(&[]).await else { return };
    let hello = Hello {
        settings: Some(SettingsUpdate {
            stages: Some(StagesUpdate {
                llm: Some(false),
                ..StagesUpdate::default()
            }),
            ..SettingsUpdate::default()
        }),
        ..Hello::default()
    };
    let mut client = Client::open_with(server.address, hello.clone()).await;
    let mut bystander = Client::open_with(server.address, hello).await;
    client.speak(recording.samples(16_000)).await;
    let undisturbed = client.final_transcript().await.text.into_exposed();

    client.speak(recording.samples(16_000)).await;
    client
        .until("a partial transcript", |event| {
            matches!(event, Event::Transcript(transcript) if words(transcript.text.expose()).len() >= 3).then_some(())
        })
        .await;
    let workers = server.workers(STT);
    assert_eq!(workers.len(), 1, "{workers:?}");
    signal(workers[0], "KILL");
    let BackendState::Lost { reason, .. } = backend(&mut client, BackendKind::Stt, |state| {
        matches!(state, BackendState::Lost { .. })
    })
    .await
    else {
        unreachable!("that is what was waited for")
    };
    println!("the session was told: {reason}");
    backend(&mut client, BackendKind::Stt, |state| {
        matches!(state, BackendState::Ready { .. })
    })
    .await;
    let replayed = client
        .until_within(
            "the transcript all the same",
            Duration::from_secs(25),
            |event| match event {
                Event::Transcript(transcript) if transcript.is_final => Some(transcript.text.expose().to_owned()),
                _ => None,
            },
        )
        .await;
    // Where a turn begins differs by some milliseconds from run to run, and with it what PocketSphinx makes of it; but nothing
    // is missing.
    let (before, after) = (words(&undisturbed), words(&replayed));
    let wanted = recording.words.clone().unwrap_or_default();
    let (errors_before, errors_after) = (word_errors(&wanted, &before), word_errors(&wanted, &after));
    println!(
        "{errors_after} of {} words heard wrong, {errors_before} where nothing happened",
        wanted.len()
    );
    assert!(
        after.len() * 4 >= before.len() * 3,
        "{} words, {} undisturbed",
        after.len(),
        before.len()
    );
    assert!(
        errors_after <= errors_before + wanted.len() / 3,
        "{errors_after} and {errors_before} errors"
    );
    // Whoever said nothing is told too, and goes on.
    backend(&mut bystander, BackendKind::Stt, |state| {
        matches!(state, BackendState::Lost { .. })
    })
    .await;
    backend(&mut bystander, BackendKind::Stt, |state| {
        matches!(state, BackendState::Ready { .. })
    })
    .await;
    bystander.speak(recording.samples(16_000)).await;
    assert!(!bystander.final_transcript().await.text.expose().is_empty());
    assert_eq!(server.workers(STT).len(), 1);
    assert!(server.ready().await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_who_lose_the_recogniser_at_once_all_get_their_words() {
    let _alone = ALONE.lock().await;
    let Some(recording) = recording("librivox-sense/sense_and_sensibility_01_austen_64kb-0890.wav") else {
        return;
    };
    // The recording is one turn, however final its pauses sound.
    let one_turn = [
        "--set",
        "stt.model=pocketsphinx-en-us-fast",
        "--set",
        "turn.backend=none",
    ];
    let Some(server) = embedded(&one_turn).await else {
        return;
    };
    let hello = Hello {
        settings: Some(SettingsUpdate {
            stages: Some(StagesUpdate {
                llm: Some(false),
                ..StagesUpdate::default()
            }),
            ..SettingsUpdate::default()
        }),
        ..Hello::default()
    };
    let mut clients = Vec::new();
    for _ in 0..4 {
        let mut client = Client::open_with(server.address, hello.clone()).await;
        client.speak(recording.samples(16_000)).await;
        clients.push(client);
    }
    for client in &mut clients {
        client
            .until("a partial transcript", |event| {
                matches!(event, Event::Transcript(_)).then_some(())
            })
            .await;
    }
    signal(server.workers(STT)[0], "KILL");
    for client in &mut clients {
        backend(client, BackendKind::Stt, |state| {
            matches!(state, BackendState::Lost { .. })
        })
        .await;
    }
    let wanted = recording.words.clone().unwrap_or_default();
    for client in &mut clients {
        let is_final = |event: &Event| match event {
            Event::Transcript(transcript) if transcript.is_final => Some(words(transcript.text.expose())),
            _ => None,
        };
        // On a busy machine a turn may be over before the worker of the others is killed.
        let found = match client.events.iter().find_map(|(_, event)| is_final(event)) {
            Some(found) => found,
            None => {
                let limit = Duration::from_secs(90);
                client
                    .until_within("the transcript all the same", limit, is_final)
                    .await
            }
        };
        println!("{} of {} words heard wrong", word_errors(&wanted, &found), wanted.len());
        assert!(
            found.len() * 2 >= wanted.len(),
            "{} of {} words",
            found.len(),
            wanted.len()
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_voice_killed_in_a_reply_comes_back() {
    let _alone = ALONE.lock().await;
    let Some(server) = embedded(&[]).await else {
        return;
    };
    let mut client = Client::open(server.address).await;
    let long = "The museum opens at nine in the morning and closes at six in the evening. On Mondays it is closed. Children \
                under twelve pay nothing, and neither does anybody who comes on the first Sunday of a month. Dogs have to \
                stay outside, whatever their age may be. Thank you for asking me about it.";
    client.request(Request::Say(Say::new(long))).await;
    client.until_frames(20).await;
    let workers = server.workers(TTS);
    assert_eq!(workers.len(), 1, "{workers:?}");
    signal(workers[0], "KILL");
    backend(&mut client, BackendKind::Tts, |state| {
        matches!(state, BackendState::Lost { .. })
    })
    .await;
    backend(&mut client, BackendKind::Tts, |state| {
        matches!(state, BackendState::Ready { .. })
    })
    .await;
    let done = client
        .until_within("the end of the reply", Duration::from_secs(60), |event| match event {
            Event::ResponseDone(done) => Some(done.clone()),
            _ => None,
        })
        .await;
    assert_eq!(done.status, ResponseStatus::Completed, "{}", client.story());
    assert_eq!(done.heard, done.text);
    let seconds = client.heard().len() as f64 / 16_000.0;
    println!("{seconds:.1} s of reply were heard");
    assert!(seconds > 12.0, "{seconds} s of a reply of some twenty");
    client.request(Request::Say(Say::new("And here I am again."))).await;
    assert_eq!(client.response_done().await.status, ResponseStatus::Completed);
}

#[tokio::test]
async fn workers_end_with_the_server() {
    let _alone = ALONE.lock().await;
    let Some(mut server) = embedded(&[]).await else { return };
    let workers = [server.workers(STT), server.workers(TTS)].concat();
    assert_eq!(workers.len(), 2);
    // Not even in order.
    server.signal("KILL");
    server.ended(LIMIT).await.expect("it is gone");
    eventually("its workers are gone too", LIMIT, || {
        workers
            .iter()
            .all(|id| std::fs::read_to_string(format!("/proc/{id}/stat")).map_or(true, |stat| stat.contains(") Z ")))
    })
    .await;
}

#[tokio::test]
async fn a_missing_worker_is_named_with_its_remedy() {
    let _alone = ALONE.lock().await;
    let empty = tempfile::tempdir().unwrap();
    let setting = format!("workers.dir={}", empty.path().display());
    let server = ServerProcess::start(&["--llm", "parrot", "--set", "vad.backend=webrtc", "--set", &setting]).await;
    eventually("it tells that it is ready", LIMIT, || {
        server.stdout().contains("ready after")
    })
    .await;
    let (status, body) = http_get(server.address, "/ready").await;
    assert_eq!(status, 503);
    for told in [server.stdout(), body] {
        for wanted in [STT, TTS, "is missing", "make worker-"] {
            assert!(told.contains(wanted), "{wanted} in {told}");
        }
    }
    // It serves what it can: text to text.
    let mut client = Client::open(server.address).await;
    client.request(Request::Text(Text { text: "hello".into() })).await;
    let done = client.response_done().await;
    assert!(done.text.expose().contains("hello"), "{}", client.story());
    assert!(
        client
            .ready
            .backends
            .iter()
            .any(|backend| matches!(&backend.state, BackendState::Missing { reason } if reason.contains(STT))),
        "the client is told too"
    );
    // And who speaks is told that nobody listens.
    client.speak(tone(16_000, 600)).await;
    assert_eq!(http_get(server.address, "/health").await.0, 200);
}

#[tokio::test]
async fn a_missing_detector_is_named_with_its_remedy() {
    let _alone = ALONE.lock().await;
    let empty = tempfile::tempdir().unwrap();
    let home = format!("paths.home={}", empty.path().display());
    let arguments = ["--stt", "none", "--tts", "none", "--llm", "parrot", "--set", &home];
    let server = ServerProcess::start(&[&arguments[..], &["--set", "vad.backend=silero"]].concat()).await;
    eventually("it tells that it is ready", LIMIT, || {
        server.stdout().contains("ready after")
    })
    .await;
    let (status, body) = http_get(server.address, "/ready").await;
    assert_eq!(status, 503, "{body}");
    println!("{body}");
    for told in [server.stdout(), body] {
        assert!(
            told.contains("onnxruntime") || told.contains("silero"),
            "what is missing: {told}"
        );
        assert!(
            told.contains("make setup") || told.contains("make run") || told.contains("pip"),
            "and how to get it: {told}"
        );
    }
    // Left to itself it takes the detector that is always there, and says so.
    let server = ServerProcess::start(&arguments).await;
    eventually("it tells that it is ready", LIMIT, || {
        server.stdout().contains("ready after")
    })
    .await;
    assert!(server.stdout().contains("vad webrtc"), "{}", server.stdout());
    assert!(server.stderr().contains("WebRTC"), "{}", server.stderr());
}

#[tokio::test]
async fn a_turn_model_that_is_missing_or_broken_or_unwanted_keeps_nobody() {
    let _alone = ALONE.lock().await;
    let (empty, broken) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let file = broken.path().join("turn/smart-turn-v3.2-cpu.onnx");
    std::fs::create_dir(file.parent().unwrap()).unwrap();
    std::fs::write(&file, b"not a model").unwrap();
    let bare = [
        "--stt",
        "none",
        "--tts",
        "none",
        "--llm",
        "parrot",
        "--set",
        "vad.backend=webrtc",
    ];
    let home = format!("paths.home={}", empty.path().display());
    let models = format!("paths.models={}", broken.path().display());
    let file = file.display().to_string();
    for (settings, state, reason, log, start) in [
        // Nobody asked for it: whoever looks finds the remedy, and nobody is told.
        (vec![home.as_str()], "missing", "make setup", "", ""),
        // Somebody asked for it.
        (
            vec![home.as_str(), "turn.backend=smart-turn"],
            "missing",
            "make setup",
            "make setup",
            "",
        ),
        // It is there, and broken. Without onnxruntime, that is what is told.
        (
            vec![models.as_str(), "turn.backend=smart-turn"],
            "missing",
            "smart-turn",
            "silence and words alone",
            "",
        ),
        (vec!["turn.backend=none"], "off", "turn.backend", "", "no turn model"),
    ] {
        let settings: Vec<_> = settings.iter().flat_map(|setting| ["--set", *setting]).collect();
        let server = ServerProcess::start(&[&bare[..], &settings].concat()).await;
        eventually("it tells that it is ready", LIMIT, || {
            server.stdout().contains("ready after")
        })
        .await;
        let (status, body) = http_get(server.address, "/ready").await;
        assert_eq!(status, 200, "turns end without it too: {body}");
        let body: Value = serde_json::from_str(&body).unwrap();
        let row = body["backends"]
            .as_array()
            .unwrap()
            .iter()
            .find(|row| row["kind"] == "turn")
            .unwrap();
        assert_eq!(row["state"], state, "{row}");
        let told = row["reason"].as_str().unwrap();
        assert!(told.contains(reason), "{told}");
        if settings.contains(&models.as_str()) && !told.contains("needs onnxruntime") {
            assert!(told.contains(&file), "the file is named: {told}");
        }
        assert_eq!(
            server.stderr().contains("silence and words alone"),
            !log.is_empty(),
            "{}",
            server.stderr()
        );
        assert!(server.stderr().contains(log), "{}", server.stderr());
        assert!(server.stdout().contains(start), "{}", server.stdout());
    }
}

#[tokio::test]
async fn a_taken_port_is_told_in_one_line_with_the_remedy() {
    let _alone = ALONE.lock().await;
    let bare = [
        "--stt",
        "none",
        "--tts",
        "none",
        "--llm",
        "parrot",
        "--set",
        "vad.backend=webrtc",
    ];
    let server = ServerProcess::start(&bare).await;
    let address = server.address.to_string();
    let second = move |address: &str| {
        let arguments = [&["serve", "--listen", address][..], &bare[..]].concat();
        let output = run(&arguments, LIMIT);
        assert!(output.stdout.is_empty(), "{}", String::from_utf8_lossy(&output.stdout));
        error_of(&output)
    };
    let told = tokio::task::spawn_blocking(move || (second(&address), address))
        .await
        .unwrap();
    let (told, address) = told;
    let line = told.lines().last().unwrap();
    assert!(
        line.contains(&address) && line.contains("another Repartee") && line.contains("--listen"),
        "{told}"
    );
    // The first one goes on.
    assert_eq!(http_get(server.address, "/health").await.0, 200);

    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = other.local_addr().unwrap().to_string();
    let told = tokio::task::spawn_blocking(move || second(&address)).await.unwrap();
    let line = told.lines().last().unwrap();
    assert!(line.contains("another program") && line.contains("--listen"), "{told}");
}

#[test]
fn addresses_that_anybody_could_reach_need_a_token() {
    let told = error_of(&run(&["serve", "--listen", "0.0.0.0:0"], LIMIT));
    assert!(told.contains("token"), "{told}");
    let told = error_of(&run(&["serve", "--listen", "127.0.0.1"], LIMIT));
    assert!(told.contains("server.listen"), "{told}");
    let told = error_of(&run(&["serve", "--set", "turn.endpointing=5"], LIMIT));
    assert!(told.contains("turn.endpointing_ms"), "the nearest is proposed: {told}");
}

#[test]
fn what_was_chosen_and_is_not_there_is_told_before_anything_starts() {
    let empty = tempfile::tempdir().unwrap();
    let workers = format!("workers.dir={}", empty.path().display());
    let refused = |arguments: &[&str]| {
        let output = run(&[arguments, &["--set", &workers]].concat(), LIMIT);
        assert!(output.stdout.is_empty(), "{}", String::from_utf8_lossy(&output.stdout));
        error_of(&output)
    };
    let told = refused(&["serve", "--listen", "127.0.0.1:0", "--stt", "whisper:ggml-base.bin"]);
    assert_eq!(told.lines().count(), 1, "{told}");
    assert!(
        told.contains("the worker whisper isn't built") && told.contains("`make worker-whisper`"),
        "{told}"
    );
    let told = refused(&["talk", "--embedded", "--text", "hello", "--tts", "sherpa:voice.onnx"]);
    assert!(told.contains("the worker sherpa isn't built"), "{told}");
    // A name that nobody knows.
    let told = refused(&["serve", "--llm", "lama:x.gguf"]);
    assert!(told.contains("did you mean \"llama\"?"), "{told}");
    // A worker that is there, with a model that isn't: it is told without starting it.
    let program = empty.path().join("repartee-worker-llama");
    std::fs::write(&program, "#!/bin/sh\nexit 1\n").unwrap();
    let told = refused(&["serve", "--listen", "127.0.0.1:0", "--llm", "llama:no/such.gguf"]);
    assert!(told.contains("llm.model: there is no model no/such.gguf"), "{told}");
}

#[test]
fn what_talk_cannot_use_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("letter.wav");
    std::fs::write(
        &text,
        "Dear Sir or Madam, this is no recording, however it may be called.",
    )
    .unwrap();
    let talk = |arguments: &[&str]| error_of(&run(&[&["talk"][..], arguments].concat(), LIMIT));
    let told = talk(&[text.to_str().unwrap()]);
    assert!(told.contains("isn't audio") && told.contains("WAV"), "{told}");
    let told = talk(&["no/such/file.wav"]);
    assert!(told.contains("no/such/file.wav"), "{told}");
    let told = talk(&[folder.path().to_str().unwrap()]);
    assert!(told.lines().count() <= 2, "{told}");
    let told = talk(&["--text", "hello", "--format", "pcmu", "--rate", "16000"]);
    assert!(told.contains("8000"), "{told}");
    // A port that was free a moment ago: nobody listens there.
    let free = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .to_string();
    let told = talk(&["--text", "hello", "--url", &free]);
    assert!(told.contains(&free) && told.contains("repartee serve"), "{told}");
    let told = talk(&["--mic", "--url", &free]);
    assert!(
        told.contains("--features mic") || told.contains("microphone") || told.contains("can't reach"),
        "{told}"
    );
}

#[tokio::test]
async fn talk_as_json_and_its_recording() {
    let _alone = ALONE.lock().await;
    let traces = tempfile::tempdir().unwrap();
    let folder = traces.path().join("traces");
    let Some(server) = embedded(&["--trace", folder.to_str().unwrap()]).await else {
        return;
    };
    let url = server.address.to_string();
    let out = traces.path().join("reply.wav");
    let (spoken, wav) = (
        recording("librivox-sense/sense_and_sensibility_01_austen_64kb-0930.wav"),
        out.to_str().unwrap().to_owned(),
    );
    let output = tokio::task::spawn_blocking(move || {
        let mut command = repartee(&[
            "talk",
            "--json",
            "--out",
            &wav,
            "--url",
            &url,
            "--format",
            "pcmu",
            "--framing",
            "rtp",
        ]);
        match &spoken {
            Some(recording) => command.arg(&recording.path),
            None => command.args(["--text", "the weather is fine today"]),
        };
        run_command(command, Duration::from_secs(60))
    })
    .await
    .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.lines().count(), 1, "one object and nothing else: {text}");
    let summary: Value = serde_json::from_str(&text).unwrap();
    let mut keys: Vec<_> = summary.as_object().unwrap().keys().cloned().collect();
    keys.sort();
    assert_eq!(
        keys,
        [
            "audio_in_ms",
            "audio_out_ms",
            "partials",
            "reply_wav",
            "session_id",
            "turns"
        ]
    );
    let turn = &summary["turns"][0];
    for key in ["transcript", "reply", "report", "status"] {
        assert!(!turn[key].is_null(), "{key} in {turn}");
    }
    assert_eq!(turn["status"], "completed");
    assert!(turn["report"]["total_ms"].as_f64().unwrap() > 500.0, "{turn}");
    assert!(turn["report"]["endpointing_ms"].is_number(), "{turn}");
    let said = words(turn["transcript"].as_str().unwrap());
    let replied = words(turn["reply"].as_str().unwrap());
    assert!(
        !said.is_empty() && said.iter().all(|word| replied.contains(word)),
        "the parrot repeats it"
    );
    assert!(summary["audio_in_ms"].as_u64().unwrap() > 1_000);
    let wav = hound::WavReader::open(&out).unwrap();
    let millis = u64::from(wav.duration()) * 1_000 / u64::from(wav.spec().sample_rate);
    assert_eq!((wav.spec().sample_rate, wav.spec().channels), (8_000, 1));
    assert_eq!(millis, summary["audio_out_ms"].as_u64().unwrap());
    assert!(millis > 1_000, "{millis} ms of reply");

    drop(server);
    let session = summary["session_id"].as_str().unwrap();
    let trace = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| {
            path.file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with(session))
        })
        .expect("the call was recorded");
    tokio::task::spawn_blocking(move || replays_exactly_and_notices_changes(&trace))
        .await
        .unwrap();
}

fn replays_exactly_and_notices_changes(trace: &Path) {
    let replay = |path: &Path| run(&["replay", path.to_str().expect("a temporary path is text")], LIMIT);
    let output = replay(trace);
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{told}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(told.starts_with("identical"), "{told}");
    println!("{}", told.trim_end());

    let text = std::fs::read_to_string(trace).expect("the trace can be read");
    let lines: Vec<&str> = text.lines().collect();
    let changed = trace.with_extension("changed");
    let with = |lines: &[String]| {
        std::fs::write(&changed, lines.join("\n") + "\n").expect("a temporary file");
        let output = replay(&changed);
        assert!(
            !output.status.success(),
            "a change was not noticed: {}",
            String::from_utf8_lossy(&output.stdout)
        );
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    // The lines that caused something, changed in what they caused, or left out.
    let acting: Vec<usize> = (1..lines.len())
        .filter(|index| lines[*index].contains("\"actions\""))
        .collect();
    let acting = acting[acting.len() / 2];
    let mut without: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
    without.remove(acting);
    with(&without);
    let mut other: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
    let mut step: Value = serde_json::from_str(&other[acting]).expect("a step is JSON");
    step["actions"].as_array_mut().expect("actions are an array").clear();
    other[acting] = step.to_string();
    with(&other);
    let mut header: Value = serde_json::from_str(lines[0]).expect("a header is JSON");
    // Not a number of the endpointing: on a busy machine words may come so late that it makes no difference.
    header["settings"]["stages"]["tts"] = false.into();
    let mut mute: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
    mute[0] = header.to_string();
    with(&mute);
    // And what is no trace at all.
    std::fs::write(&changed, "this is no trace\n").expect("a temporary file");
    let told = error_of(&replay(&changed));
    assert!(told.contains("trace"), "{told}");
}
