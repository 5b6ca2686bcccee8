//! `repartee matrix` as a program, against a server in this process whose models are scripted: good ones, broken ones, silent ones.

mod support;

use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use repartee::call::{BackendKind, Scope, SwitchRequest};
use repartee::engine::EngineOptions;
use repartee::registry::{Capability, ModelCapability, Registry, Slot, Switchboard, Update};
use repartee::transport::native::NativeOptions;
use serde_json::Value;
use support::loader::{ScriptedLoader, SharedLoader};
use support::process::{repartee, run};
use support::{Fakes, LIMIT, TestServer, eventually};

/// What `repartee matrix` has spoken.
const SENTENCE: &str = "We are going to the market in the morning.";
/// A whole walk takes no longer, however busy the machine is.
const WALK: Duration = Duration::from_secs(240);

fn model(name: &str) -> ModelCapability {
    let available = !name.starts_with("absent");
    ModelCapability {
        model: name.to_owned(),
        description: String::new(),
        available,
        serving: false,
        reason: (!available).then(|| format!("{name} isn't here")),
        remedy: (!available).then(|| "fetch it".to_owned()),
        path: None,
        need_bytes: None,
        voices: Vec::new(),
        synthetic: name.contains("synthetic"),
    }
}

fn row(kind: BackendKind, models: &[&str]) -> Capability {
    Capability {
        kind,
        backend: format!("scripted-{kind}"),
        available: true,
        reason: None,
        remedy: None,
        devices: Vec::new(),
        models: models.iter().map(|name| model(name)).collect(),
    }
}

fn not_built(kind: BackendKind, name: &str) -> Capability {
    Capability {
        backend: name.to_owned(),
        available: false,
        reason: Some(format!("the worker {name} isn't built")),
        remedy: Some(format!("make worker-{name}")),
        ..row(kind, &[])
    }
}

struct House {
    server: TestServer,
    registry: Arc<Registry>,
    loader: Arc<ScriptedLoader>,
}

impl House {
    /// A server that says that it has these, and is served by `first` of each job.
    async fn with(rows: Vec<Capability>) -> Self {
        let registry = Arc::new(Registry::default());
        let loader = Arc::new(ScriptedLoader::new(&registry).hears(SENTENCE).with_rows(rows));
        let board = Switchboard::new(Arc::clone(&registry), Arc::new(SharedLoader(Arc::clone(&loader))));
        for kind in BackendKind::ALL {
            let request = SwitchRequest {
                model: Some("first".to_owned()),
                scope: Scope::Server,
                ..SwitchRequest::new(kind)
            };
            let mut switching = board.begin(request, None);
            loop {
                match switching.update().await.expect("it ends") {
                    Update::Started { .. } => {}
                    Update::Loaded { .. } => break,
                    Update::Failed(failure) => panic!("{failure:?}"),
                }
            }
        }
        let (native, engine) = (NativeOptions::default(), EngineOptions::default());
        let server = TestServer::serve(Arc::clone(&registry), Fakes::default(), native, engine).await;
        server.engine.set_switchboard(board);
        Self {
            server,
            registry,
            loader,
        }
    }

    fn url(&self) -> String {
        self.server.address.to_string()
    }

    /// What serves every job, and which load of it.
    fn serving(&self) -> Vec<(String, u64)> {
        let of = |kind| match self.registry.state(kind) {
            Slot::Ready(serving) => {
                let capabilities = serving.capabilities();
                (capabilities.model.clone(), capabilities.generation.number())
            }
            _ => (format!("no {kind}"), 0),
        };
        BackendKind::ALL.into_iter().map(of).collect()
    }

    async fn matrix(&self, arguments: &[&str]) -> Output {
        let url = self.url();
        let arguments: Vec<String> = ["matrix", "--url", &url]
            .iter()
            .chain(arguments)
            .map(ToString::to_string)
            .collect();
        let running = move || {
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            run(&arguments, WALK)
        };
        tokio::task::spawn_blocking(running).await.expect("it runs")
    }
}

fn object(output: &Output) -> Value {
    let stderr = String::from_utf8_lossy(&output.stderr);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}; it said {stderr}"))
}

/// The row of a model of a job, or of a backend without one.
fn found<'a>(report: &'a Value, kind: &str, name: &str) -> &'a Value {
    let rows = report["results"].as_array().expect("rows");
    rows.iter()
        .find(|row| row["kind"] == kind && (row["model"] == name || (row["model"] == "" && row["backend"] == name)))
        .unwrap_or_else(|| panic!("no row for {kind} {name} in {rows:#?}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_of_row_and_what_was_there_serves_on() {
    let house = House::with(vec![
        row(BackendKind::Stt, &["plain", "deaf", "broken", "synthetic", "absent"]),
        not_built(BackendKind::Stt, "whisper"),
        row(BackendKind::Tts, &["voice-300", "silent", "synthetic-voice-500"]),
        row(BackendKind::Vad, &["plain"]),
        row(BackendKind::Turn, &["plain"]),
        row(BackendKind::Llm, &["plain", "mute", "synthetic"]),
    ])
    .await;
    let before = house.serving();
    let file = tempfile::tempdir().unwrap();
    let path = file.path().join("matrix.json");
    let output = house
        .matrix(&["--all", "--json", "--json-out", path.to_str().unwrap()])
        .await;
    let report = object(&output);
    assert_eq!(output.status.code(), Some(1), "{report:#}");
    for (kind, name, outcome, says) in [
        ("stt", "plain", "ok", "9 of 9 words"),
        ("stt", "deaf", "failed", "0 of 9 words"),
        ("stt", "broken", "failed", "last words: unexpected end of file"),
        ("stt", "synthetic", "loaded", "9 of 9 words"),
        ("stt", "absent", "skipped", "skipped: absent isn't here"),
        ("stt", "whisper", "skipped", "skipped: the worker whisper isn't built"),
        ("tts", "voice-300", "ok", "9 of 9 words"),
        (
            "tts",
            "silent",
            "failed",
            "loaded, but does not work: it made nothing but silence",
        ),
        ("tts", "synthetic-voice-500", "loaded", "no words to be expected"),
        ("vad", "plain", "ok", "speech found"),
        ("turn", "plain", "ok", "the turn ended"),
        ("llm", "plain", "ok", "Name one colour"),
        ("llm", "mute", "failed", "no words"),
        ("llm", "synthetic", "loaded", "words"),
    ] {
        let row = found(&report, kind, name);
        let message = row["message"].as_str().expect("a message");
        assert_eq!(row["outcome"], outcome, "{row:#}");
        assert!(message.contains(says), "{row:#}");
        assert_eq!(row["ok"], outcome == "ok" || outcome == "loaded", "{row:#}");
        assert_eq!(row["elapsed_sec"] == 0.0, outcome == "skipped", "{row:#}");
        assert_eq!(row["remedy"].is_string(), outcome == "skipped", "{row:#}");
        let came = outcome == "ok" || outcome == "loaded";
        assert!(
            !came || (row["load_ms"].is_u64() && row["first_result_ms"].is_u64() && row["gap_ms"] == 0),
            "{row:#}"
        );
    }
    let summary = &report["summary"];
    let counts = ["ok", "failed_or_skipped", "total", "loaded", "failed", "skipped"].map(|key| summary[key].as_u64());
    assert_eq!(counts, [8, 6, 14, 3, 4, 2].map(Some), "{summary:#}");
    assert_eq!(report["started"]["stt_backend"], "scripted-stt");
    assert_eq!(report["started"]["llm_path"], "first");
    assert_eq!(report["capabilities"]["backends"].as_array().map(Vec::len), Some(6));
    assert_eq!(
        (&report["restored"], &report["interrupted"]),
        (&Value::Bool(true), &Value::Bool(false))
    );
    let written = std::fs::read_to_string(&path).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&written).unwrap(), report);
    // Nobody else noticed anything: the very same loads serve, and nothing else is kept.
    assert_eq!(house.serving(), before);
    let live = Arc::clone(&house.loader.live);
    eventually("what was tried is let go of", LIMIT, || {
        live.load(Ordering::Acquire) == 5
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_is_switched_and_switched_back() {
    let house = House::with(vec![
        row(BackendKind::Stt, &["absent", "plain", "never tried"]),
        row(BackendKind::Tts, &["voice-300"]),
        row(BackendKind::Llm, &["plain", "broken"]),
        not_built(BackendKind::Llm, "llama"),
    ])
    .await;
    let output = house.matrix(&["--server"]).await;
    let table = String::from_utf8_lossy(&output.stdout).into_owned();
    // One model of each backend, the first that can be loaded; nothing failed.
    assert_eq!(output.status.code(), Some(0), "{table}");
    assert!(table.contains("3 ok, 0 loaded, 0 failed, 1 skipped"), "{table}");
    let told = [
        "ok       stt",
        "the worker llama isn't built: make worker-llama",
        SENTENCE,
    ];
    for told in told {
        assert!(table.contains(told), "{told} in {table}");
    }
    assert!(!table.contains("never tried") && !table.contains('\x1b'), "{table}");
    let models: Vec<String> = house.serving().into_iter().map(|(model, _)| model).collect();
    assert_eq!(models, ["first"; 5]);
    // The server itself was switched: each job that was tried is served by a later load than before.
    let loads = house.loader.loads.load(Ordering::Acquire);
    assert!(loads >= 8, "{loads} loads");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn interrupted_in_the_middle_of_a_load_it_puts_back_what_was_there() {
    let house = House::with(vec![
        row(BackendKind::Llm, &["plain", "hanging"]),
        row(BackendKind::Tts, &["voice-300"]),
    ])
    .await;
    let before = house.serving();
    let loads = Arc::clone(&house.loader.loads);
    let mut command = repartee(&["matrix", "--url", &house.url(), "--all", "--json"]);
    let child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it is built");
    // Five of the server, the voice, the first model, and the one that hangs.
    eventually("it hangs", WALK, || loads.load(Ordering::Acquire) >= 8).await;
    let killed = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(killed.expect("there is a kill").success());
    let output = tokio::task::spawn_blocking(|| child.wait_with_output())
        .await
        .unwrap()
        .unwrap();
    let report = object(&output);
    assert_eq!(output.status.code(), Some(130), "{report:#}");
    assert_eq!(report["interrupted"], true);
    assert_eq!(report["restored"], true, "{report:#}");
    assert_eq!(report["summary"]["total"], 2, "{report:#}");
    assert_eq!(house.serving(), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_without_end_is_given_up_and_the_walk_goes_on() {
    let house = House::with(vec![row(BackendKind::Llm, &["hanging", "plain"])]).await;
    let output = house.matrix(&["--all", "--json", "--load-patience", "1"]).await;
    let report = object(&output);
    assert_eq!(output.status.code(), Some(1), "{report:#}");
    let hanging = found(&report, "llm", "hanging");
    assert!(
        hanging["message"].as_str().unwrap().contains("within 1 s"),
        "{hanging:#}"
    );
    assert_eq!(found(&report, "llm", "plain")["outcome"], "ok");
    assert_eq!(report["restored"], true);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_walked_is_told_in_a_line() {
    let server = TestServer::start().await;
    let url = server.address.to_string();
    let walk = move |arguments: Vec<String>| {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        run(&arguments, WALK)
    };
    for (arguments, says) in [
        (vec!["matrix", "--url", &url], "can't be switched"),
        (vec!["matrix", "--url", "127.0.0.1:1"], "is the server running?"),
        (
            vec!["matrix", "--url", &url, "--json-out", "/nowhere/matrix.json"],
            "can't write /nowhere/matrix.json",
        ),
    ] {
        let arguments = arguments.into_iter().map(str::to_owned).collect();
        let output = tokio::task::spawn_blocking(move || walk(arguments)).await.unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1));
        assert!(stderr.contains(says) && stderr.lines().count() == 1, "{stderr}");
    }
}
