//! Calls with every worker of the tree, each chosen by flag as a user does: with the fake one, which is always built, and with
//! the real ones where they are. `make test-workers` builds those, makes their synthetic models, and sets
//! `REPARTEE_REQUIRE_WORKERS=1`, with which a worker that is missing is a failure; elsewhere it is told and skipped.
//!
//! Synthetic models have weights that nobody trained: they prove that loading, streaming, losing and playing work, and no
//! accuracy.

mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use repartee::engine::Clock;
use repartee::supervisor::{find_worker, worker_folders};
use repartee::time::Time;
use repartee_protocol::native::{
    BackendKind, BackendState, Event, Hello, Request, ResponseStatus, Say, SettingsUpdate, StagesUpdate, Text,
};
use serde_json::Value;
use support::process::{repartee, run_command, signal};
use support::socket::http_get;
use support::speech::words;
use support::{Client, ServerProcess, eventually};

/// Each of these tests needs the machine for itself, also where all run in one process.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// A worker may have to read its model from a cold disk, and an inference on a busy machine takes its time.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is said to the recognisers; the voice of the embedded default says it.
const QUESTION: &str = "please call me back tomorrow afternoon";

/// A long text of common words, some twenty seconds of it.
const LONG: &str = "The house is open from nine in the morning to six in the evening. You can come with me and see it, if you \
                    have the time for it. We will go there and look at all of the good things that people have made. \
                    Then we can talk about them for as long as you like. Thank you for the time that you have for me.";

/// 20 ms frames within this of their deadlines at p99 (DESIGN, "What it must reach").
const LATENESS_BOUND_MS: f64 = 5.0;
/// What is let pass here: one frame, which a listener's jitter buffer still bridges. The machines of a CI share their cores with
/// strangers, who may take one away for longer than the bound, whatever this program does. How long they do is measured beside it,
/// by a thread that does nothing but wake every 20 ms: frames may be as late as that thread twice over.
const LATENESS_TOLERATED_MS: f64 = 20.0;

// --- what there is here

/// Where workers are: with the programs, and the fake one with the examples.
fn folders() -> Vec<PathBuf> {
    let mut folders = worker_folders();
    let own = std::env::current_exe().expect("a test is a program");
    let examples = own.ancestors().nth(2).map(|programs| programs.join("examples"));
    folders.extend(examples.filter(|folder| !folders.contains(folder)));
    folders
}

/// Whether this worker is built; the reason is printed where it isn't. A failure where workers are required.
fn built(name: &str) -> bool {
    if find_worker(name, &folders()).is_ok() {
        return true;
    }
    let missing = format!("the worker {name} isn't built (make worker-{name})");
    assert!(
        std::env::var_os("REPARTEE_REQUIRE_WORKERS").is_none_or(|required| required != "1"),
        "{missing}, and REPARTEE_REQUIRE_WORKERS=1 wants all of them"
    );
    println!("skipped: {missing}");
    false
}

/// A synthetic model of a worker. They are made before the tests that need them.
fn synthetic(worker: &str, model: &str) -> PathBuf {
    let home = std::env::var_os("REPARTEE_HOME").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join(".repartee"),
        PathBuf::from,
    );
    let path = home.join("synthetic").join(worker).join(model);
    assert!(
        path.exists(),
        "{} is missing: scripts/synthetic.sh {worker} makes it",
        path.display()
    );
    path
}

/// A small real language model; `None`, and the reason printed, where there is none.
fn stories() -> Option<PathBuf> {
    let folder = std::env::var_os("REPARTEE_MODELS").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/models"),
        PathBuf::from,
    );
    let path = folder.join("llm/stories260K-f32.gguf");
    if path.is_file() {
        return Some(path);
    }
    println!("skipped: {} is not there", path.display());
    None
}

/// `worker:path`, as a flag takes it.
fn choice(worker: &str, path: &Path) -> String {
    format!("{worker}:{}", path.display())
}

/// The recognisers that can be tried: their choice, and their program.
fn recognisers() -> Vec<(String, String)> {
    let mut all = vec![("fake:fake".to_owned(), "repartee-worker-fake".to_owned())];
    for (worker, model) in [("whisper", "synthetic-tiny.en.bin"), ("sherpa", "synthetic-zipformer")] {
        if built(worker) {
            all.push((
                choice(worker, &synthetic(worker, model)),
                format!("repartee-worker-{worker}"),
            ));
        }
    }
    all
}

/// The voices that can be tried.
fn voices() -> Vec<(String, String)> {
    let mut all = vec![("fake:fake".to_owned(), "repartee-worker-fake".to_owned())];
    if built("sherpa") {
        all.push((
            choice("sherpa", &synthetic("sherpa", "synthetic-piper")),
            "repartee-worker-sherpa".to_owned(),
        ));
    }
    all
}

/// The language models that can be tried.
fn language_models() -> Vec<String> {
    if !built("llama") {
        return Vec::new();
    }
    let mut all = vec![choice("llama", &synthetic("llama", "synthetic-chat.gguf"))];
    all.extend(stories().map(|path| choice("llama", &path)));
    all
}

fn with_workers(mut command: Command) -> Command {
    let folders = std::env::join_paths(folders()).expect("no folder of ours has a colon in its name");
    command.env("REPARTEE_WORKERS", folders);
    command
}

fn program(arguments: &[&str]) -> Output {
    run_command(with_workers(repartee(arguments)), PATIENCE)
}

fn said(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

async fn serve(arguments: &[&str]) -> ServerProcess {
    let command = with_workers(repartee(&["serve", "--listen", "127.0.0.1:0"]));
    let server = ServerProcess::start_command(command, arguments).await;
    if let Err(reason) = server.ready().await {
        panic!("not ready: {reason}\n{}", server.stderr());
    }
    server
}

/// Waits until the model has come, which holds up nothing else.
async fn language_model_serves(server: &ServerProcess) {
    let mut ticks = tokio::time::interval(Duration::from_millis(50));
    for _ in 0..PATIENCE.as_millis() / 50 {
        ticks.tick().await;
        let (_, body) = http_get(server.address, "/ready").await;
        let body: Value = serde_json::from_str(&body).expect("it answers with JSON");
        let llm = body["backends"]
            .as_array()
            .and_then(|all| all.iter().find(|one| one["kind"] == "llm"));
        match llm.and_then(|llm| llm["state"].as_str()) {
            Some("ready") => return,
            Some("missing") => panic!("no language model: {body}"),
            _ => {}
        }
    }
    panic!("the language model didn't come: {}", server.stderr());
}

/// The question as a recording, spoken by Flite once for all tests; `None`, and the reason printed, where it isn't set up.
fn question() -> Option<&'static Path> {
    static QUESTION_FILE: OnceLock<Option<(tempfile::TempDir, PathBuf)>> = OnceLock::new();
    let made = QUESTION_FILE.get_or_init(|| {
        if !built("flite") {
            return None;
        }
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("question.wav");
        let out = path.to_str().expect("a temporary path is text");
        let arguments = ["talk", "--embedded", "--json", "--text", QUESTION, "--out", out];
        let output = program(
            &[
                &arguments[..],
                &["--stt", "fake:fake", "--llm", "parrot", "--tts", "flite"],
            ]
            .concat(),
        );
        assert!(output.status.success(), "{}", said(&output));
        Some((folder, path))
    });
    made.as_ref().map(|(_, path)| path.as_path())
}

fn samples(path: &Path) -> Vec<i16> {
    repartee::cli::talk::recording::read_recording(path, 16_000).expect("it was written as a WAV file")
}

/// One exchange of `repartee talk` over the question.
fn talk(stt: &str, llm: &str, tts: &str, question: &Path) -> Value {
    let question = question.to_str().expect("a temporary path is text");
    let output = program(&[
        "talk",
        "--embedded",
        "--json",
        "--stt",
        stt,
        "--llm",
        llm,
        "--tts",
        tts,
        "--set",
        // What is said takes its time; a short reply says as much about the worker.
        "llm.max_tokens=40",
        "--patience",
        "45",
        question,
    ]);
    assert!(output.status.success(), "{stt} {llm} {tts}: {}", said(&output));
    let summary: Value = serde_json::from_slice(&output.stdout).expect("one object");
    let turn = &summary["turns"][0];
    for key in ["transcript", "reply"] {
        let text = turn[key].as_str().unwrap_or_default();
        assert!(
            !text.trim().is_empty(),
            "{stt} {llm} {tts}: no {key}: {}",
            said(&output)
        );
    }
    assert_eq!(turn["status"], "completed", "{stt} {llm} {tts}");
    summary
}

/// Waits for a backend to be in this state.
async fn backend(client: &mut Client, kind: BackendKind, wanted: fn(&BackendState) -> bool) -> BackendState {
    client
        .until_within("news of a backend", PATIENCE, |event| match event {
            Event::Backend(backend) if backend.kind == kind && wanted(&backend.state) => Some(backend.state.clone()),
            _ => None,
        })
        .await
}

const fn is_lost(state: &BackendState) -> bool {
    matches!(state, BackendState::Lost { .. })
}

const fn is_ready(state: &BackendState) -> bool {
    matches!(state, BackendState::Ready { .. })
}

fn stages(stt: bool, llm: bool, tts: bool) -> Hello {
    Hello {
        settings: Some(SettingsUpdate {
            stages: Some(StagesUpdate {
                stt: Some(stt),
                llm: Some(llm),
                tts: Some(tts),
            }),
            ..SettingsUpdate::default()
        }),
        ..Hello::default()
    }
}

// --- what they can do

#[tokio::test]
async fn every_worker_that_is_built_tells_what_it_can_do() {
    let _alone = ALONE.lock().await;
    let output = program(&["workers", "--json"]);
    assert!(output.status.success(), "{}", said(&output));
    let report: Value = serde_json::from_slice(&output.stdout).expect("one object");
    let workers = report["workers"].as_array().expect("a list");
    for worker in workers {
        assert_eq!(worker["problem"], Value::Null, "{worker}");
        assert!(
            !worker["hello"]["jobs"].as_array().expect("a list").is_empty(),
            "{worker}"
        );
    }
    let text = said(&program(&["workers"]));
    for name in ["fake", "pocketsphinx", "flite", "whisper", "llama", "sherpa"] {
        let answers = workers.iter().any(|worker| worker["name"] == name);
        assert_eq!(answers, find_worker(name, &folders()).is_ok(), "{name}");
        if !answers && name != "fake" {
            assert!(text.contains(&format!("`make worker-{name}` builds it")), "{text}");
        }
    }
    assert!(text.contains("fake"), "{text}");
}

/// What a program defines, as `nm` tells, and which libraries it asks for, as `ldd` tells.
fn linked(program: &Path) -> (Vec<String>, String) {
    let told = |tool: &str, arguments: &[&str]| {
        let output = Command::new(tool)
            .args(arguments)
            .arg(program)
            .output()
            .expect("binutils and libc's tools come with the compiler");
        assert!(output.status.success(), "{tool}: {}", said(&output));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let symbols = told("nm", &["--defined-only", "--format=just-symbols"]);
    let symbols = symbols.lines().map(str::to_owned).collect();
    (symbols, told("ldd", &[]))
}

/// whisper.cpp and llama.cpp carry copies of ggml under the same names, of different versions: in one process, one of them would
/// run on the other's.
#[test]
fn the_copies_of_ggml_never_meet_in_one_process() {
    const GGML: &str = "ggml_graph_compute";
    const WHISPER: &str = "whisper_full_with_state";
    const LLAMA: &str = "llama_decode";
    let engine = PathBuf::from(env!("CARGO_BIN_EXE_repartee"));
    let mut programs = vec![(engine, [].as_slice())];
    for (name, wanted) in [
        ("whisper", [GGML, WHISPER].as_slice()),
        ("llama", [GGML, LLAMA].as_slice()),
        ("sherpa", [].as_slice()),
    ] {
        if built(name) {
            let program = find_worker(name, &folders()).expect("it is built");
            programs.push((program, wanted));
        }
    }
    for (program, wanted) in programs {
        let (symbols, libraries) = linked(&program);
        for name in [GGML, WHISPER, LLAMA] {
            let copies = symbols.iter().filter(|symbol| *symbol == name).count();
            assert_eq!(copies, usize::from(wanted.contains(&name)), "{name} in {}", program.display());
        }
        // Nor does the loader bring one in.
        for name in ["ggml", "libwhisper", "libllama"] {
            assert!(!libraries.contains(name), "{}: {libraries}", program.display());
        }
    }
}

#[tokio::test]
async fn talk_works_with_each_recogniser_chosen_by_flag() {
    let _alone = ALONE.lock().await;
    let Some(question) = question() else { return };
    for (stt, _) in recognisers() {
        let summary = talk(&stt, "parrot", "flite", question);
        let (heard, reply) = (&summary["turns"][0]["transcript"], &summary["turns"][0]["reply"]);
        println!("{stt}: heard {heard}");
        let heard = words(heard.as_str().unwrap_or_default());
        let replied = words(reply.as_str().unwrap_or_default());
        assert!(heard.iter().all(|word| replied.contains(word)), "the parrot repeats it");
    }
}

#[tokio::test]
async fn talk_works_with_each_language_model_chosen_by_flag() {
    let _alone = ALONE.lock().await;
    let models = language_models();
    let Some(question) = question().filter(|_| !models.is_empty()) else {
        return;
    };
    for llm in models {
        let summary = talk("fake:fake", &llm, "flite", question);
        let reply = summary["turns"][0]["reply"].as_str().unwrap_or_default();
        println!("{llm}: a reply of {} characters", reply.chars().count());
        assert!(!reply.starts_with("You said"), "that was the parrot");
    }
}

#[tokio::test]
async fn talk_works_with_each_voice_chosen_by_flag() {
    let _alone = ALONE.lock().await;
    let Some(question) = question() else { return };
    for (tts, _) in voices() {
        let summary = talk("fake:fake", "parrot", &tts, question);
        let millis = summary["audio_out_ms"].as_u64().unwrap_or_default();
        println!("{tts}: {millis} ms of reply");
        assert!(millis > 300, "{tts}: {millis} ms of reply");
    }
}

#[tokio::test]
async fn talk_works_with_all_three_at_once() {
    let _alone = ALONE.lock().await;
    if !(built("whisper") && built("llama") && built("sherpa")) {
        return;
    }
    let Some(question) = question() else { return };
    let stt = choice("whisper", &synthetic("whisper", "synthetic-tiny.en.bin"));
    let llm = choice("llama", &synthetic("llama", "synthetic-chat.gguf"));
    let tts = choice("sherpa", &synthetic("sherpa", "synthetic-piper"));
    talk(&stt, &llm, &tts, question);
}

#[tokio::test]
async fn a_synthetic_model_is_called_so_wherever_it_shows() {
    let _alone = ALONE.lock().await;
    if !built("llama") {
        return;
    }
    let llm = choice("llama", &synthetic("llama", "synthetic-chat.gguf"));
    let server = serve(&["--stt", "fake:fake", "--llm", &llm, "--tts", "fake:fake"]).await;
    language_model_serves(&server).await;
    eventually("the line about the language model", PATIENCE, || {
        server.stdout().contains("llm llama")
    })
    .await;
    assert!(server.stdout().contains("(synthetic)"), "{}", server.stdout());
    let (_, body) = http_get(server.address, "/ready").await;
    assert!(body.contains("\"synthetic\":true"), "{body}");
    let client = Client::open(server.address).await;
    let told = client
        .ready
        .backends
        .iter()
        .find(|backend| backend.kind == BackendKind::Llm);
    assert!(
        matches!(told.map(|told| &told.state), Some(BackendState::Ready { synthetic: true, device: Some(device), .. }) if device == "cpu"),
        "{told:?}"
    );
}

// --- killed at work

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recogniser_killed_in_an_utterance_loses_none_of_it() {
    let _alone = ALONE.lock().await;
    let Some(question) = question() else { return };
    let question = samples(question);
    for (stt, process) in recognisers() {
        let server = serve(&["--stt", &stt, "--llm", "none", "--tts", "none"]).await;
        let mut client = Client::open_with(server.address, stages(true, false, false)).await;
        let heard = async |client: &mut Client| {
            let text = client
                .until_within("a final transcript", PATIENCE, |event| match event {
                    Event::Transcript(transcript) if transcript.is_final => Some(transcript.text.expose().to_owned()),
                    _ => None,
                })
                .await;
            words(&text)
        };
        client.speak(question.clone()).await;
        let undisturbed = heard(&mut client).await;
        client.speak(question.clone()).await;
        client
            .until_within("a partial transcript", PATIENCE, |event| {
                matches!(event, Event::Transcript(transcript) if !transcript.is_final).then_some(())
            })
            .await;
        let workers = server.workers(&process);
        assert_eq!(workers.len(), 1, "{stt}: {workers:?}");
        signal(workers[0], "KILL");
        let BackendState::Lost { reason, .. } = backend(&mut client, BackendKind::Stt, is_lost).await else {
            unreachable!("that is what was waited for")
        };
        assert!(reason.contains("signal 9 (SIGKILL)"), "{stt}: {reason}");
        backend(&mut client, BackendKind::Stt, is_ready).await;
        let replayed = heard(&mut client).await;
        println!(
            "{stt}: {} words undisturbed, {} after the loss",
            undisturbed.len(),
            replayed.len()
        );
        assert!(!undisturbed.is_empty(), "{stt}");
        if process == "repartee-worker-fake" {
            // "heard 35000 samples": where the turn begins and ends may differ by some frames.
            let count = |words: &[String]| words[1].parse::<f64>().expect("a number");
            let share = count(&replayed) / count(&undisturbed);
            assert!((0.9..1.1).contains(&share), "{share} of the samples");
        } else {
            let missing = undisturbed.len().saturating_sub(replayed.len());
            assert!(
                missing * 4 <= undisturbed.len(),
                "{stt}: {missing} of {} words",
                undisturbed.len()
            );
        }
        assert!(server.ready().await.is_ok(), "{stt}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_voice_killed_in_a_reply_goes_on() {
    let _alone = ALONE.lock().await;
    for (tts, process) in voices() {
        let server = serve(&["--stt", "none", "--llm", "none", "--tts", &tts]).await;
        let mut client = Client::open_with(server.address, stages(false, false, true)).await;
        client.request(Request::Say(Say::new(LONG))).await;
        client.until_frames(20).await;
        let workers = server.workers(&process);
        assert_eq!(workers.len(), 1, "{tts}: {workers:?}");
        signal(workers[0], "KILL");
        backend(&mut client, BackendKind::Tts, is_lost).await;
        backend(&mut client, BackendKind::Tts, is_ready).await;
        let done = client
            .until_within("the end of the reply", PATIENCE * 2, |event| match event {
                Event::ResponseDone(done) => Some(done.clone()),
                _ => None,
            })
            .await;
        assert_eq!(done.status, ResponseStatus::Completed, "{tts}: {}", client.story());
        assert_eq!(done.heard, done.text, "{tts}");
        println!(
            "{tts}: {:.1} s of reply were heard",
            client.heard().len() as f64 / 16_000.0
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_language_model_killed_in_a_reply_loses_no_turn() {
    let _alone = ALONE.lock().await;
    for llm in language_models() {
        // The smallest model has room for some 500 tokens, which three turns have to share.
        let short = ["--set", "llm.max_tokens=120", "--set", "llm.instructions=Tell stories."];
        let server = serve(&[&["--stt", "none", "--llm", &llm, "--tts", "none"][..], &short].concat()).await;
        language_model_serves(&server).await;
        let mut client = Client::open_with(server.address, stages(false, true, false)).await;
        let ask = async |client: &mut Client, text: &str| {
            client.request(Request::Text(Text { text: text.into() })).await;
        };
        let answered = async |client: &mut Client| {
            client
                .until_within("the end of a reply", PATIENCE, |event| match event {
                    Event::ResponseDone(done) => Some(done.clone()),
                    _ => None,
                })
                .await
        };
        ask(&mut client, "Tell me a story.").await;
        let first = answered(&mut client).await;
        assert_eq!(first.status, ResponseStatus::Completed, "{llm}: {}", client.story());
        // Killed before it can say all: the turn is asked again, or its reply ends with what was said of it.
        ask(&mut client, "Tell me a story.").await;
        let workers = server.workers("repartee-worker-llama");
        assert_eq!(workers.len(), 1, "{llm}: {workers:?}");
        signal(workers[0], "KILL");
        let second = answered(&mut client).await;
        println!("{llm}: {:?} after the loss", second.status);
        assert!(
            second.status == ResponseStatus::Completed || !second.text.expose().is_empty(),
            "{llm}: {}",
            client.story()
        );
        language_model_serves(&server).await;
        // Nothing is forgotten: both questions are there, and the next one is answered.
        let items = client.status().await.history_items;
        assert!(items >= 3, "{llm}: {items} items");
        ask(&mut client, "Tell me a story.").await;
        assert_eq!(
            answered(&mut client).await.status,
            ResponseStatus::Completed,
            "{llm}: {}",
            client.story()
        );
        let (_, metrics) = http_get(server.address, "/metrics").await;
        assert!(
            metrics.contains("repartee_llm_tokens_total{kind=\"completion\"}"),
            "{llm}: tokens are counted"
        );
    }
}

// --- bad files

#[tokio::test]
async fn a_model_that_is_cut_off_is_told_and_the_rest_goes_on() {
    let _alone = ALONE.lock().await;
    if !built("llama") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let whole = std::fs::read(synthetic("llama", "synthetic-chat.gguf")).expect("it can be read");
    let cut = folder.path().join("cut-off.gguf");
    std::fs::write(&cut, &whole[..whole.len() / 2]).expect("a file");
    let server = serve(&[
        "--stt",
        "fake:fake",
        "--llm",
        &choice("llama", &cut),
        "--tts",
        "fake:fake",
    ])
    .await;
    eventually("it says why there is no language model", PATIENCE, || {
        server
            .stdout()
            .lines()
            .any(|line| line.contains("no llm") && line.contains("cut-off.gguf"))
    })
    .await;
    println!("{}", server.stdout());
    assert_eq!(http_get(server.address, "/health").await.0, 200);
    let (status, body) = http_get(server.address, "/ready").await;
    assert!(status == 200 && body.contains("cut-off.gguf"), "{body}");
    let mut client = Client::open(server.address).await;
    client.request(Request::Say(Say::new("I can still speak."))).await;
    assert_eq!(client.response_done().await.status, ResponseStatus::Completed);
}

#[tokio::test]
async fn a_model_of_another_format_is_told_by_each_worker() {
    let _alone = ALONE.lock().await;
    let folder = tempfile::tempdir().expect("a folder");
    for (worker, kind, name) in [
        ("whisper", "stt", "letter.bin"),
        ("sherpa", "tts", "letter.onnx"),
        ("llama", "llm", "letter.gguf"),
    ] {
        if !built(worker) {
            continue;
        }
        let path = folder.path().join(name);
        std::fs::write(
            &path,
            "Dear Sir or Madam, this is no model, however it may be called.\n",
        )
        .expect("a file");
        let mut choices = [
            ("stt", "none".to_owned()),
            ("llm", "none".to_owned()),
            ("tts", "none".to_owned()),
        ];
        for (job, chosen) in &mut choices {
            if *job == kind {
                *chosen = choice(worker, &path);
            }
        }
        let flags: Vec<String> = choices
            .iter()
            .flat_map(|(job, chosen)| [format!("--{job}"), chosen.clone()])
            .collect();
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let command = with_workers(repartee(&["serve", "--listen", "127.0.0.1:0"]));
        let server = ServerProcess::start_command(command, &flags).await;
        eventually("it says why", PATIENCE, || {
            server.stdout().contains(&format!("no {kind}")) && server.stdout().contains(name)
        })
        .await;
        println!("{}", server.stdout().lines().last().unwrap_or_default());
        assert_eq!(http_get(server.address, "/health").await.0, 200, "{worker}");
    }
}

// --- frames on time

/// The lateness in ms below which a share of the frames is, out of the histogram's buckets: the bound of the bucket in which it
/// falls, so never less than the truth.
fn lateness(metrics: &str, share: f64) -> (f64, f64) {
    let mut buckets: Vec<(f64, f64)> = metrics
        .lines()
        .filter_map(|line| {
            let rest = line.strip_prefix("repartee_frame_lateness_seconds_bucket{le=\"")?;
            let (bound, count) = rest.split_once("\"} ")?;
            let bound = bound.parse::<f64>().unwrap_or(f64::INFINITY);
            Some((bound, count.split(' ').next()?.parse().ok()?))
        })
        .collect();
    buckets.sort_by(|one, other| one.0.total_cmp(&other.0));
    let total = buckets.last().map_or(0.0, |(_, count)| *count);
    let found = buckets.iter().find(|(_, count)| *count >= share * total);
    (found.map_or(f64::INFINITY, |(bound, _)| bound * 1_000.0), total)
}

/// How late, in ms at p99, this machine wakes a thread that has nothing to do: what strangers on its cores cost.
struct Wakes {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<Vec<f64>>,
}

impl Wakes {
    fn start() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let (clock, mut due, mut late) = (Clock::start(), Duration::ZERO, Vec::new());
            while !stopped.load(Ordering::Relaxed) {
                due += Duration::from_millis(20);
                let now = clock.now().since(Time::ZERO);
                // As the pacer does: after a long delay it goes on from where it is.
                due = due.max(now);
                std::thread::park_timeout(due - now);
                late.push(clock.now().since(Time::ZERO).saturating_sub(due).as_secs_f64() * 1_000.0);
            }
            late
        });
        Self { stop, thread }
    }

    fn late(self) -> f64 {
        self.stop.store(true, Ordering::Relaxed);
        let mut late = self.thread.join().expect("it can't panic");
        late.sort_by(f64::total_cmp);
        late.get(late.len() * 99 / 100).copied().unwrap_or_default()
    }
}

/// Frames leave in time while everything that is built infers: each recogniser hears speech without end, each model tells
/// stories, and each voice speaks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_are_in_time_while_every_worker_infers() {
    let _alone = ALONE.lock().await;
    let Some(question) = question() else { return };
    let question = samples(question);
    let whisper = built("whisper").then(|| choice("whisper", &synthetic("whisper", "synthetic-tiny.en.bin")));
    let sherpa = built("sherpa").then(|| choice("sherpa", &synthetic("sherpa", "synthetic-piper")));
    let llama = language_models().pop();
    let stt = whisper.unwrap_or_else(|| "fake:fake".to_owned());
    let tts = sherpa.clone().unwrap_or_else(|| "flite".to_owned());
    let llm = llama.clone().unwrap_or_else(|| "parrot".to_owned());
    // Each story is a conversation of its own, or the smallest model would be full after the first.
    let short = ["--set", "llm.max_tokens=200", "--set", "llm.max_history_items=2"];
    let server = serve(&[&["--stt", &stt, "--llm", &llm, "--tts", &tts][..], &short].concat()).await;
    if llama.is_some() {
        language_model_serves(&server).await;
    }
    // A second engine whose workers are busy on the same cores: the recogniser of sherpa-onnx, with as many streams.
    let beside = match sherpa.is_some() {
        true => {
            let ear = choice("sherpa", &synthetic("sherpa", "synthetic-zipformer"));
            Some(serve(&["--stt", &ear, "--llm", "none", "--tts", "none"]).await)
        }
        false => None,
    };
    let mut busy = tokio::task::JoinSet::new();
    let ears = [Some(server.address), beside.as_ref().map(|beside| beside.address)];
    for address in ears.into_iter().flatten() {
        let question = question.clone();
        busy.spawn(async move {
            let mut client = Client::open_with(address, stages(true, false, false)).await;
            loop {
                client.speak(question.clone()).await;
                client.listen_for(Duration::from_millis(1_500)).await;
            }
        });
    }
    if llama.is_some() {
        let address = server.address;
        busy.spawn(async move {
            let mut client = Client::open_with(address, stages(false, true, false)).await;
            loop {
                client
                    .request(Request::Text(Text {
                        text: "Tell me a long story.".into(),
                    }))
                    .await;
                client
                    .until_within("the end of a story", PATIENCE, |event| {
                        matches!(event, Event::ResponseDone(_)).then_some(())
                    })
                    .await;
            }
        });
    }
    let wakes = Wakes::start();
    let mut listeners = tokio::task::JoinSet::new();
    for _ in 0..3 {
        let address = server.address;
        listeners.spawn(async move {
            let mut client = Client::open_with(address, stages(false, false, true)).await;
            client.request(Request::Say(Say::new(LONG))).await;
            client
                .until_within("the end of the reply", PATIENCE * 2, |event| match event {
                    Event::ResponseDone(done) => Some(done.status),
                    _ => None,
                })
                .await
        });
    }
    while let Some(ended) = listeners.join_next().await {
        assert_eq!(ended.expect("nobody panics"), ResponseStatus::Completed);
    }
    let idle = wakes.late();
    busy.abort_all();
    let (_, metrics) = http_get(server.address, "/metrics").await;
    let ((half, total), (most, _)) = (lateness(&metrics, 0.5), lateness(&metrics, 0.99));
    println!(
        "{total} frames, at most {half} ms late at p50 and {most} ms at p99 (bound {LATENESS_BOUND_MS} ms; an idle thread of this \
         machine wakes {idle:.1} ms late at p99), with {stt}, {llm}, {tts}{}",
        if beside.is_some() {
            " and sherpa's recogniser"
        } else {
            ""
        }
    );
    assert!(total >= 500.0, "{total} frames are too few to tell");
    // The histogram tells the end of a bucket, at most two and a half times the truth.
    let tolerated = LATENESS_TOLERATED_MS.max(idle * 2.0 * 2.5);
    if most > LATENESS_BOUND_MS {
        println!("over the bound: {tolerated:.0} ms are let pass where others use the machine too");
    }
    assert!(most <= tolerated, "{most} ms at p99, more than {tolerated:.0} ms");
}
