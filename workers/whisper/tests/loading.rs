//! Loads that can't succeed say why, and the worker goes on to the next one.

#[expect(dead_code, reason = "this uses a part of it")]
mod common;

use std::path::{Path, PathBuf};

use common::{models, started};
use repartee_worker_shell::protocol::{Job, LoadFailed, code};
use repartee_worker_shell::testing::{Client, models_folder};
use serde_json::{Value, json};

const ENGLISH: &str = "synthetic-tiny.en.bin";

/// A models root of its own with the files that are given, which goes away.
struct Root(PathBuf);

impl Root {
    fn new(name: &str) -> Self {
        let root = std::env::temp_dir().join(format!("repartee-whisper-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&root).expect("a folder");
        Self(root)
    }

    fn put(&self, name: &str, bytes: &[u8]) -> &Self {
        std::fs::write(self.0.join(name), bytes).expect("a file");
        self
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        // Whatever is left of it lies with the temporary files.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn refused(client: &mut Client, model: &str, options: &[(&str, Value)]) -> LoadFailed {
    client
        .load(Job::Stt, model, options)
        .expect("a link")
        .expect_err("it can't be loaded")
}

#[test]
fn bad_files_are_named_with_what_they_are() {
    let whole = std::fs::read(models().join(ENGLISH)).expect("the synthetic model");
    let root = Root::new("bad");
    let mut damaged = whole.clone();
    // The number of heads.
    damaged[4 + 3 * 4] = 7;
    let mut renamed = whole.clone();
    let name = whole
        .windows(12)
        .position(|bytes| bytes == b"encoder.conv")
        .expect("a tensor of that name");
    renamed[name] = b'E';
    let vocabulary_only = {
        let tensors = whole
            .windows(12)
            .position(|bytes| bytes == b"encoder.posi" || bytes == b"encoder.conv" || bytes == b"decoder.posi");
        // Three dimensions at most, and three numbers, go before the first name.
        whole[..tensors.expect("tensors") - 12 - 8].to_vec()
    };
    root.put("truncated.bin", &whole[..whole.len() - 1_000])
        .put("half.bin", &whole[..whole.len() / 2])
        .put("header.bin", &whole[..40])
        .put("empty.bin", b"")
        .put("weightless.bin", &vocabulary_only)
        .put("damaged.bin", &damaged)
        .put("renamed.bin", &renamed)
        .put("llama.bin", b"GGUF\x03\0\0\0\0\0\0\0\0\0\0\0")
        .put("page.bin", b"<!DOCTYPE html><html>")
        .put("pointer.bin", b"version https://git-lfs.github.com/spec/v1")
        .put(ENGLISH, &whole);
    std::fs::create_dir_all(root.0.join("folder.bin")).expect("a folder");
    let mut client = started(&root.0);
    for (file, told) in [
        ("truncated.bin", "truncated"),
        ("half.bin", "truncated"),
        ("header.bin", "truncated"),
        ("empty.bin", "0 bytes"),
        ("weightless.bin", "weights"),
        ("damaged.bin", "heads"),
        // This one is found by the library, whose own words are passed on.
        ("renamed.bin", "unknown tensor 'Encoder."),
        ("llama.bin", "GGUF"),
        ("page.bin", "web page"),
        ("pointer.bin", "git lfs"),
        ("folder.bin", "folder"),
        ("absent.bin", "there is no"),
        ("../etc/passwd", "not a path below the models root"),
    ] {
        let failed = refused(&mut client, file, &[]);
        println!("{file}: {}: {}", failed.code, failed.reason);
        assert!(failed.reason.contains(told), "{file}: {}", failed.reason);
        assert!(
            failed.reason.contains(file) && failed.file.as_deref() == Some(file),
            "{failed:?}"
        );
    }
    // After all of these the worker still loads what can be loaded.
    let ready = client.load(Job::Stt, ENGLISH, &[]).expect("a link").expect("it loads");
    assert_eq!(ready.model.name, "synthetic-tiny.en");
}

#[test]
fn a_real_model_without_weights_is_told_from_one_that_can_be_used() {
    let Some(folder) = models_folder() else {
        return println!("skipped: no models");
    };
    let file = "whisper/for-tests-ggml-tiny.en.bin";
    if !folder.join(file).is_file() {
        return println!("skipped: {file} is not among the models");
    }
    let failed = refused(&mut started(&folder), file, &[]);
    assert!(
        failed.reason.contains("no weights") && failed.code == code::INVALID,
        "{failed:?}"
    );
}

#[test]
fn wrong_options_and_jobs_are_told() {
    let mut client = started(&models());
    for (options, told) in [
        (("stream", json!(1)), "\"stream\""),
        (("streams", json!(0)), "from 1 to 64"),
        (("window_ms", json!(30_000)), "from 8000 to 28000"),
        (("translate", json!("yes")), "true or false"),
        (("translate", json!(true)), "nothing to translate"),
        (("entropy_threshold", json!(9)), "from 0 to 3.5"),
    ] {
        let failed = refused(&mut client, ENGLISH, &[options]);
        assert_eq!(failed.code, code::INVALID);
        assert!(failed.reason.contains(told), "{}", failed.reason);
    }
    let failed = client
        .load(Job::Tts, ENGLISH, &[])
        .expect("a link")
        .expect_err("it speaks not");
    assert_eq!(failed.code, code::UNSUPPORTED);
}

#[test]
fn a_device_that_is_not_there_is_fallen_back_from_and_told() {
    use repartee_worker_shell::protocol::{Load, ToEngine, ToWorker};
    let mut client = started(&models());
    let load = Load {
        job: Job::Stt,
        model: ENGLISH.into(),
        files: Default::default(),
        options: Default::default(),
        threads: 1,
        device: Some("vulkan:7".into()),
    };
    client.send(&ToWorker::Load(load), &[]).expect("a link");
    let ToEngine::Ready(ready) = client.receive().expect("an answer").0 else {
        panic!("it isn't ready");
    };
    assert_eq!(ready.device, "cpu");
    assert!(ready.fallback.is_some_and(|reason| reason.contains("vulkan:7")));
}

#[test]
fn the_probe_tells_what_there_is() {
    let root = Root::new("probe");
    std::fs::create_dir_all(root.0.join("whisper")).expect("a folder");
    std::fs::copy(models().join(ENGLISH), root.0.join("whisper/ggml-tiny.en.bin")).expect("a copy");
    root.put("whisper/ggml-base.bin", b"GGUF").put("whisper/notes.txt", b"");
    let output = std::process::Command::new(Path::new(env!("CARGO_BIN_EXE_repartee-worker-whisper")))
        .arg("--probe")
        .arg("--models")
        .arg(&root.0)
        .output()
        .expect("it runs");
    let probe: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(probe["hello"]["name"], "whisper");
    assert!(
        probe["hello"]["library"]
            .as_str()
            .is_some_and(|library| library.starts_with("whisper.cpp 1.")),
        "{probe}"
    );
    let models = probe["models"].as_array().expect("models");
    assert_eq!(models.len(), 2, "{probe}");
    assert!(
        models[0]["problem"]
            .as_str()
            .is_some_and(|problem| problem.contains("GGUF")),
        "{probe}"
    );
    assert!(
        models[1]["problem"].is_null() && models[1]["id"] == "whisper/ggml-tiny.en.bin",
        "{probe}"
    );
    let nothing = String::from_utf8_lossy(&output.stderr);
    assert_eq!(nothing, "", "the library keeps its log to itself");
}
