//! Requests against models and workers that stand for real ones, and what several files of tests share.

mod lives;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use repartee_protocol::worker::Job;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Chosen, House, Load};
use crate::backend::Capabilities;
use crate::call::{BackendKind, SwitchFailure, SwitchRequest, SwitchStage};
use crate::cli::serve::models::Wanted;
use crate::config::{Config, File, Flag, Sources};
use crate::id::Generation;
use crate::registry::{Loader as _, Plan, Registry};

/// A configuration with these keys set.
pub(super) fn config(flags: &[(&str, &str)]) -> Config {
    let flags = flags.iter().map(|(key, text)| Flag {
        name: "--set".to_owned(),
        key: (*key).to_owned(),
        text: (*text).to_owned(),
    });
    let sources = Sources {
        file: File::Absent,
        environment: Vec::new(),
        flags: flags.collect(),
    };
    match Config::load(&sources) {
        Ok(loaded) => loaded.config,
        Err(error) => panic!("{error}"),
    }
}

/// A worker program that is a shell script. Another program writes it: a file that this process writes can't be run while a thread beside this
/// one starts something.
pub(super) fn worker_script(folder: &Path, name: &str, text: &str) -> PathBuf {
    let program = folder.join(format!("repartee-worker-{name}"));
    let text = format!("#!/bin/sh\n{text}\n");
    let written = Command::new("sh")
        .args(["-c", "printf %s \"$1\" >\"$2\" && chmod 755 \"$2\"", "sh", &text])
        .arg(&program)
        .status();
    assert!(written.is_ok_and(|status| status.success()), "a script");
    program
}

/// A house with models and workers of its own: scripts that answer a probe, and nothing else.
struct Setting {
    models: TempDir,
    workers: TempDir,
    home: TempDir,
    registry: Arc<Registry>,
}

impl Setting {
    fn new() -> Self {
        Self {
            models: tempfile::tempdir().unwrap(),
            workers: tempfile::tempdir().unwrap(),
            home: tempfile::tempdir().unwrap(),
            registry: Arc::default(),
        }
    }

    fn put(&self, name: &str, content: &[u8]) {
        let path = self.models.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// A worker that says this of itself.
    fn worker(&self, name: &str, jobs: &[&str], devices: &[&str], models: Value) {
        let devices: Vec<Value> = devices.iter().map(|id| json!({ "id": id })).collect();
        let hello = json!({
            "protocol": 1, "name": name, "version": "1", "jobs": jobs, "devices": devices, "features": ["cpu"],
        });
        let answer = json!({ "hello": hello, "models": models }).to_string();
        worker_script(self.workers.path(), name, &format!("cat <<'END'\n{answer}\nEND"));
    }

    /// The workers of the tree, as they are where all are built.
    fn workers(&self) {
        self.worker("whisper", &["stt"], &["cpu"], json!([]));
        self.worker("llama", &["llm"], &["cpu"], json!([]));
        self.worker("sherpa", &["stt", "tts"], &["cpu"], json!([]));
        self.worker(
            "flite",
            &["tts"],
            &["cpu"],
            json!([{ "id": "flite", "description": "every voice of flite's" }, { "id": "flite-cmu-us-slt" }]),
        );
        let problem = "there is no /usr/share/pocketsphinx";
        self.worker(
            "pocketsphinx",
            &["stt"],
            &["cpu"],
            json!([{ "id": "pocketsphinx-en-us-fast", "problem": problem }]),
        );
    }

    fn house_with(&self, flags: &[(&str, &str)]) -> House {
        let own = [
            ("paths.models", self.models.path().to_str().unwrap()),
            ("workers.dir", self.workers.path().to_str().unwrap()),
            ("paths.home", self.home.path().to_str().unwrap()),
        ];
        House::new(&config(&[&own, flags].concat()), &self.registry)
    }

    fn house(&self) -> House {
        self.house_with(&[])
    }
}

fn request(kind: BackendKind, backend: &str, model: &str) -> SwitchRequest {
    let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    SwitchRequest {
        backend: text(backend),
        model: text(model),
        ..SwitchRequest::new(kind)
    }
}

fn serving(kind: BackendKind, name: &str, generation: u64) -> Capabilities {
    Capabilities::new(kind, name, "x", Generation::new(generation))
}

async fn plan(house: &House, request: SwitchRequest, serving: Option<Capabilities>) -> Result<Plan, SwitchFailure> {
    house.resolve(&request, serving.as_ref()).await
}

#[tokio::test]
async fn a_model_decides_its_backend() {
    let setting = Setting::new();
    setting.workers();
    setting.put("stt/ggml-base.bin", b"lmgg");
    setting.put("llm/chat.gguf", b"GGUF");
    setting.put("tts/en.onnx", b"weights");
    setting.put("tts/en.onnx.json", b"{}");
    for name in ["tokens.txt", "encoder.onnx", "decoder.onnx", "joiner.onnx"] {
        setting.put(&format!("stt/zipformer/{name}"), b"x");
    }
    let house = setting.house();
    let (stt, llm, tts) = (BackendKind::Stt, BackendKind::Llm, BackendKind::Tts);
    for (kind, backend, model, comes_to) in [
        (stt, "", "stt/ggml-base.bin", "whisper (stt/ggml-base.bin)"),
        (
            stt,
            "whisper_cpp",
            "/app/models/stt/ggml-base.bin",
            "whisper (stt/ggml-base.bin)",
        ),
        (stt, "", "stt/zipformer", "sherpa (stt/zipformer)"),
        (stt, "sherpa", "/app/models/stt/zipformer/", "sherpa (stt/zipformer)"),
        (llm, "", "llm/chat.gguf", "llama (llm/chat.gguf)"),
        (llm, "llama", "", "llama (llm/chat.gguf)"),
        (llm, "parrot", "", "parrot"),
        (tts, "", "tts/en.onnx", "sherpa (tts/en.onnx)"),
        (tts, "piper", "tts/en.onnx", "sherpa (tts/en.onnx)"),
        // The only one of its family.
        (tts, "piper", "", "sherpa (tts/en.onnx)"),
        (tts, "", "flite-cmu-us-slt", "flite (flite-cmu-us-slt)"),
        (tts, "", "flite", "flite"),
        (BackendKind::Vad, "webrtc", "", "webrtc"),
        (BackendKind::Vad, "auto", "", "auto (silero-vad)"),
    ] {
        let plan = plan(&house, request(kind, backend, model), None).await;
        let plan = plan.unwrap_or_else(|failure| panic!("{kind} {backend} {model}: {failure:?}"));
        assert_eq!(plan.served.to_string(), comes_to, "{kind} {backend} {model}");
    }
    let whisper = plan(&house, request(stt, "", "stt/ggml-base.bin"), None).await.unwrap();
    assert!(
        whisper.need_bytes.is_some_and(|bytes| bytes > 100 << 20),
        "{:?}",
        whisper.need_bytes
    );
    // Two ways to one load.
    let same = plan(&house, request(stt, "whisper", "/app/models/stt/ggml-base.bin"), None)
        .await
        .unwrap();
    assert_eq!(whisper.key, same.key);
    setting.put("stt/ggml-base.bin", b"lmgg, another one");
    let other = plan(&house, request(stt, "", "stt/ggml-base.bin"), None).await.unwrap();
    assert_ne!(whisper.key, other.key, "the file was replaced");
}

#[tokio::test]
async fn what_can_not_be_had_is_told_with_its_remedy() {
    let setting = Setting::new();
    setting.workers();
    let elsewhere = tempfile::tempdir().unwrap();
    let secret = elsewhere.path().join("ggml-secret.bin");
    fs::write(&secret, b"lmgg").unwrap();
    std::os::unix::fs::symlink(&secret, setting.models.path().join("ggml-link.bin")).unwrap();
    setting.put("stt/ggml-base.en.bin", b"lmgg");
    setting.put("stt/ggml-small.bin", b"lmgg");
    setting.put("llm/chat.gguf", b"GGUF");
    setting.put("llm/half.gguf", b"<!doctype html>");
    setting.put("kroko/Kroko-EN.data", b"...");
    setting.put("notes.md", b"...");
    fs::remove_file(setting.workers.path().join("repartee-worker-sherpa")).unwrap();
    let house = setting.house();
    let (stt, llm, tts) = (BackendKind::Stt, BackendKind::Llm, BackendKind::Tts);
    let (resolve, check) = (SwitchStage::Resolve, SwitchStage::Check);
    let root = setting.models.path().to_str().unwrap();
    for (kind, backend, model, stage, told) in [
        (stt, "", "", resolve, vec!["no stt backend serves"]),
        (
            stt,
            "wisper",
            "",
            resolve,
            vec!["did you mean whisper?", "pocketsphinx"],
        ),
        (stt, "vosk", "", check, vec!["no worker for Vosk", "take sherpa"]),
        (stt, "none", "", resolve, vec!["leave the stage out"]),
        (
            tts,
            "sherpa",
            "",
            check,
            vec!["the worker sherpa isn't built", "`make worker-sherpa`"],
        ),
        (tts, "piper", "x.onnx", check, vec!["`make worker-sherpa`"]),
        (
            stt,
            "",
            "stt/none.bin",
            resolve,
            vec![
                "no model stt/none.bin under",
                root,
                "expected one of stt/ggml-base.en.bin, stt/ggml-small.bin",
            ],
        ),
        (llm, "", "llm/none.gguf", resolve, vec!["expected one of llm/chat.gguf"]),
        (stt, "", "stt/none", resolve, vec!["no model stt/none under", root]),
        (
            stt,
            "whisper",
            "stt/ggml-base.bin",
            resolve,
            vec![
                "no model stt/ggml-base.bin under",
                root,
                "did you mean stt/ggml-base.en.bin?",
                "stt/ggml-small.bin",
            ],
        ),
        (
            stt,
            "whisper",
            "ggml-base.en.bin",
            resolve,
            vec!["did you mean stt/ggml-base.en.bin?"],
        ),
        (
            stt,
            "whisper",
            "",
            resolve,
            vec!["which model of whisper?", "stt/ggml-base.en.bin, stt/ggml-small.bin"],
        ),
        (
            stt,
            "whisper",
            "llm/chat.gguf",
            check,
            vec!["it is a GGUF file, which llama reads"],
        ),
        (stt, "", "llm/chat.gguf", resolve, vec!["for llm, not for stt"]),
        (stt, "", "silero-vad", resolve, vec!["is a model for vad, not for stt"]),
        (llm, "", "llm/half.gguf", check, vec!["half a download"]),
        (
            stt,
            "",
            "kroko/Kroko-EN.data",
            check,
            vec!["kroko-server", "tokens.txt"],
        ),
        (
            stt,
            "whisper",
            "../ggml-secret.bin",
            resolve,
            vec!["leads out of the models root"],
        ),
        (
            stt,
            "",
            secret.to_str().unwrap(),
            resolve,
            vec!["leads out of the models root"],
        ),
        (
            stt,
            "whisper",
            "ggml-link.bin",
            resolve,
            vec!["leads out of the models root"],
        ),
        (
            stt,
            "",
            "/app/models/../../etc/passwd",
            resolve,
            vec!["leads out of the models root"],
        ),
        (
            stt,
            "",
            "notes.md",
            resolve,
            vec!["nobody here can tell what notes.md is"],
        ),
        (
            stt,
            "",
            "pocketsphinx-en-us-fast",
            check,
            vec!["there is no /usr/share/pocketsphinx"],
        ),
        (
            BackendKind::Vad,
            "silero",
            "x.onnx",
            resolve,
            vec!["silero has no model"],
        ),
        (
            BackendKind::Vad,
            "",
            "silero-vad",
            check,
            vec!["silero_vad.onnx", "make setup"],
        ),
        (
            BackendKind::Turn,
            "smart_turn",
            "",
            check,
            vec!["smart-turn-v3.2-cpu.onnx", "make setup"],
        ),
        (BackendKind::Turn, "none", "", resolve, vec!["to do without turn"]),
    ] {
        let failure = plan(&house, request(kind, backend, model), None)
            .await
            .expect_err(&format!("{kind} {backend} {model}"));
        assert_eq!(failure.stage, stage, "{kind} {backend} {model}: {failure:?}");
        for part in told {
            assert!(
                failure.reason.contains(part),
                "{kind} {backend} {model}: {part:?} is not in {failure:?}"
            );
        }
    }
}

#[tokio::test]
async fn what_a_configuration_names_may_lie_anywhere() {
    let setting = Setting::new();
    setting.workers();
    let elsewhere = tempfile::tempdir().unwrap();
    let model = elsewhere.path().join("ggml-own.bin");
    fs::write(&model, b"lmgg").unwrap();
    fs::write(elsewhere.path().join("ggml-other.bin"), b"lmgg").unwrap();
    let model = model.to_str().unwrap();
    let house = setting.house_with(&[
        ("stt.backend", "whisper"),
        ("stt.model", model),
        ("stt.options.streams", "2"),
    ]);
    for (backend, named) in [("", model), ("whisper", model), ("whisper", "")] {
        let plan = plan(&house, request(BackendKind::Stt, backend, named), None).await;
        assert_eq!(
            plan.map(|plan| plan.served.model),
            Ok("ggml-own.bin".to_owned()),
            "{backend} {named}"
        );
    }
    let beside = model.replace("own", "other");
    let failure = plan(&house, request(BackendKind::Stt, "whisper", &beside), None)
        .await
        .unwrap_err();
    assert!(failure.reason.contains("leads out"), "{failure:?}");
}

#[tokio::test]
async fn what_is_absent_stays_as_it_is() {
    let setting = Setting::new();
    setting.workers();
    setting.put("stt/ggml-base.bin", b"lmgg");
    setting.put("stt/ggml-small.bin", b"lmgg");
    let house = setting.house();
    let with = |model: &str, options: Value| SwitchRequest {
        options: serde_json::from_value(options).unwrap(),
        ..request(BackendKind::Stt, "", model)
    };
    let choose = async |request: SwitchRequest, before: Option<Capabilities>| {
        let plan = plan(&house, request, before).await.unwrap();
        (plan.served.model, plan.key)
    };
    let (model, key) = choose(with("stt/ggml-base.bin", json!({ "streams": 2 })), None).await;
    assert!(
        model == "stt/ggml-base.bin" && key.contains(r#"{"streams":2}"#),
        "{key}"
    );
    // As if it had been loaded.
    let found = Wanted::plain("whisper", Job::Stt, Some("stt/ggml-base.bin".to_owned()))
        .find(house.config())
        .unwrap();
    let options = serde_json::from_value(json!({ "streams": 2 })).unwrap();
    house.remember(Generation::new(7), Load::Worker(Chosen { options, ..found }));
    let before = Some(serving(BackendKind::Stt, "whisper", 7));
    let (model, key) = choose(with("", json!({ "beam_size": 3 })), before.clone()).await;
    assert!(
        model == "stt/ggml-base.bin" && key.contains(r#"{"beam_size":3,"streams":2}"#),
        "{key}"
    );
    let (_, key) = choose(with("", json!({ "streams": null })), before.clone()).await;
    assert!(key.contains(" {} "), "{key}");
    // Another model has options of its own.
    let (model, key) = choose(with("stt/ggml-small.bin", json!({})), before).await;
    assert!(model == "stt/ggml-small.bin" && key.contains(" {} "), "{key}");
}

#[tokio::test]
async fn further_files_lie_below_the_root_too() {
    let setting = Setting::new();
    setting.workers();
    setting.put("llm/chat.gguf", b"GGUF");
    setting.put("llm/mmproj.gguf", b"GGUF");
    let house = setting.house();
    let with = |file: &str| SwitchRequest {
        files: [("projector".to_owned(), file.to_owned())].into(),
        ..request(BackendKind::Llm, "", "llm/chat.gguf")
    };
    let taken = plan(&house, with("/app/models/llm/mmproj.gguf"), None).await.unwrap();
    assert!(
        taken.key.contains(r#"{"projector": "llm/mmproj.gguf"}"#),
        "{}",
        taken.key
    );
    for (file, told) in [
        ("/etc/passwd", "leads out"),
        ("llm/none.gguf", "no file llm/none.gguf (projector)"),
    ] {
        let failure = plan(&house, with(file), None).await.unwrap_err();
        assert!(failure.reason.contains(told), "{failure:?}");
    }
}

#[tokio::test]
async fn a_device_that_is_not_there_is_told_or_done_without() {
    let setting = Setting::new();
    setting.worker("whisper", &["stt"], &["cpu"], json!([]));
    setting.worker("llama", &["llm"], &["cpu", "cuda:0"], json!([]));
    setting.put("a.bin", b"lmgg");
    setting.put("a.gguf", b"GGUF");
    let on = |kind, model: &str| SwitchRequest {
        options: [("device".to_owned(), json!("cuda"))].into(),
        ..request(kind, "", model)
    };
    let strict = setting.house_with(&[("workers.cpu_fallback", "false")]);
    let failure = plan(&strict, on(BackendKind::Stt, "a.bin"), None).await.unwrap_err();
    assert_eq!(failure.stage, SwitchStage::Check);
    for part in [
        "needs CUDA",
        "it has cpu",
        "REPARTEE_WORKER_FEATURES=cuda make worker-whisper",
    ] {
        assert!(failure.reason.contains(part), "{failure:?}");
    }
    let there = plan(&strict, on(BackendKind::Llm, "a.gguf"), None).await.unwrap();
    assert!(there.key.contains(r#"Some("cuda:0")"#), "{}", there.key);
    assert_eq!(there.need_bytes, None, "it takes the memory of the device");
    let lenient = plan(&setting.house(), on(BackendKind::Stt, "a.bin"), None)
        .await
        .unwrap();
    assert!(lenient.key.contains(r#"Some("cpu")"#), "{}", lenient.key);
}

#[tokio::test]
async fn everything_that_could_serve_is_told_and_what_can_not_with_the_remedy() {
    let setting = Setting::new();
    setting.workers();
    fs::remove_file(setting.workers.path().join("repartee-worker-llama")).unwrap();
    setting.worker("mine", &["stt"], &["cpu", "cuda:0"], json!([{ "id": "own" }]));
    worker_script(
        setting.workers.path(),
        "broken",
        "echo libx.so is missing >&2; exit 127",
    );
    setting.put("llm/half.gguf", b"<!doctype html>");
    setting.put("stt/ggml-base.bin", b"lmgg");
    setting.put("llm/chat.gguf", b"GGUF");
    setting.put("tts/en.onnx", b"weights");
    setting.put("tts/en.onnx.json", b"{}");
    setting.put("tts/kokoro/tokens.txt", b"");
    setting.put(
        "tts/kokoro/model.onnx",
        b"weights style_dim n_speakers \x0a\x09synthetic",
    );
    setting.put("stt/kroko/Kroko-EN.data", b"..");
    setting.put("stt/vosk-model/conf/x", b"");
    setting.put("stt/vosk-model/am/final.mdl", b"");
    let house = setting.house();
    let rows = house.capabilities().await;
    let row = |kind, backend: &str| {
        let row = rows.iter().find(|row| row.kind == kind && row.backend == backend);
        row.unwrap_or_else(|| panic!("no row of {backend}: {rows:#?}"))
    };
    let names = |kind, backend: &str| -> Vec<(String, bool)> {
        row(kind, backend)
            .models
            .iter()
            .map(|model| (model.model.clone(), model.available))
            .collect()
    };
    let (stt, llm, tts) = (BackendKind::Stt, BackendKind::Llm, BackendKind::Tts);
    let owned = |names: &[(&str, bool)]| -> Vec<(String, bool)> {
        names.iter().map(|(name, is)| ((*name).to_owned(), *is)).collect()
    };
    assert_eq!(names(stt, "whisper"), owned(&[("stt/ggml-base.bin", true)]));
    assert_eq!(
        names(tts, "sherpa"),
        owned(&[("tts/en.onnx", true), ("tts/kokoro", true)])
    );
    assert_eq!(names(tts, "piper"), owned(&[("tts/en.onnx", true)]));
    assert_eq!(names(tts, "kokoro"), owned(&[("tts/kokoro", true)]));
    assert!(row(tts, "kokoro").models[0].synthetic && !row(tts, "piper").models[0].synthetic);
    assert_eq!(names(stt, "kroko"), owned(&[("stt/kroko/Kroko-EN.data", false)]));
    assert!(row(stt, "kroko").reason.as_ref().unwrap().contains("kroko-server"));
    assert_eq!(names(stt, "vosk"), owned(&[("stt/vosk-model", false)]));
    assert_eq!(
        names(llm, "llama"),
        owned(&[("llm/chat.gguf", false), ("llm/half.gguf", false)])
    );
    assert!(
        row(llm, "llama").models[1]
            .reason
            .as_ref()
            .unwrap()
            .contains("half a download")
    );
    assert_eq!(
        row(llm, "llama").remedy.as_deref(),
        Some("`make worker-llama` builds it")
    );
    assert_eq!(names(stt, "mine"), owned(&[("own", true)]));
    assert_eq!(row(stt, "mine").devices, ["cuda:0", "cpu"]);
    assert!(
        row(tts, "matcha")
            .reason
            .as_ref()
            .unwrap()
            .contains("matcha has no model below")
    );
    assert!(names(tts, "flite").contains(&("flite".to_owned(), true)));
    let fast = row(stt, "pocketsphinx")
        .models
        .iter()
        .find(|model| model.model == "pocketsphinx-en-us-fast")
        .unwrap();
    assert!(
        !fast.available && fast.reason.as_ref().unwrap().contains("/usr/share"),
        "{fast:?}"
    );
    assert!(row(BackendKind::Vad, "webrtc").available && row(llm, "parrot").available);
    // Its files aren't below this root.
    let silero = row(BackendKind::Vad, "silero");
    assert!(
        !silero.available && silero.remedy.as_ref().unwrap().contains("make setup"),
        "{silero:?}"
    );
    for row in &rows {
        assert_eq!(row.available, row.reason.is_none(), "{row:?}");
        assert!(
            row.available || row.remedy.is_some() || row.backend == "kroko",
            "{row:?}"
        );
        // What is told as available can be asked for by these names.
        for model in row
            .models
            .iter()
            .filter(|model| model.available && row.backend != "openai")
        {
            let plan = plan(&house, request(row.kind, &row.backend, &model.model), None).await;
            assert!(plan.is_ok(), "{} {}: {plan:?}", row.backend, model.model);
        }
    }
    let mut kinds: Vec<_> = rows.iter().map(|row| (row.kind, row.backend.clone())).collect();
    let all = kinds.len();
    kinds.sort();
    kinds.dedup();
    assert_eq!(kinds.len(), all, "each has one row");
}
