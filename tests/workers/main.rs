//! Calls with every worker of the tree, each chosen by flag as a user does: with the fake one, which is always built, and with
//! the real ones where they are. `make test-workers` builds those, makes their synthetic models, and sets
//! `REPARTEE_REQUIRE_WORKERS=1`, with which a worker that is missing is a failure; elsewhere it is told and skipped.
//!
//! Synthetic models have weights that nobody trained: they prove that loading, streaming, losing and playing work, and no
//! accuracy.

mod killed;
mod lateness;
#[path = "../support/mod.rs"]
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
            assert_eq!(
                copies,
                usize::from(wanted.contains(&name)),
                "{name} in {}",
                program.display()
            );
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

// --- long conversations

#[tokio::test]
async fn a_conversation_may_outgrow_the_models_context() {
    let _alone = ALONE.lock().await;
    if !built("llama") {
        return;
    }
    let llm = choice("llama", &synthetic("llama", "synthetic-chat.gguf"));
    let arguments = [
        "--llm",
        &llm,
        "--set",
        "llm.options.context=512",
        "--set",
        "llm.max_tokens=32",
    ];
    let server = serve(&arguments).await;
    language_model_serves(&server).await;
    let mut client = Client::open_with(server.address, stages(false, true, false)).await;
    // Some 60 tokens a turn, and as many in its answer: after a few of them nothing more fits.
    let text = "The house is open from nine in the morning to six in the evening, and you can come and see it.";
    for turn in 0..14 {
        client.request(Request::Text(Text { text: text.into() })).await;
        let status = client
            .until_within("the end of a reply", PATIENCE, |event| match event {
                Event::ResponseDone(done) => Some(done.status),
                _ => None,
            })
            .await;
        assert_eq!(status, ResponseStatus::Completed, "turn {turn}: {}", client.story());
    }
}
