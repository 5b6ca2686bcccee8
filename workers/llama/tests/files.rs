//! Files that are no model, or not whole, or too large: each load fails by the name of the file and the cause, and the worker stays.

#![expect(clippy::unwrap_used, reason = "a test that can't go on says where")]

mod shared;

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use repartee_worker_shell::protocol::{Job, LoadFailed, code};
use repartee_worker_shell::testing::Client;
use serde_json::json;
use shared::{CHAT, ask, binary, greedy, load, load_with, synthetic, user};

/// A models root of its own, gone when the test is over.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("repartee-llama-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn put(&self, name: &str, bytes: &[u8]) {
        fs::write(self.0.join(name), bytes).unwrap();
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn chat_model() -> Vec<u8> {
    fs::read(synthetic().join(CHAT)).unwrap()
}

fn refused(client: &mut Client, model: &str) -> LoadFailed {
    let failed = load(client, model, &[]).expect_err("it's no model");
    println!("{}", failed.reason);
    assert!(failed.reason.contains(model), "{failed:?}");
    assert_eq!(failed.file.as_deref(), Some(model));
    failed
}

#[test]
fn what_is_no_whole_model_is_told_by_its_name_and_the_worker_stays() {
    let folder = Folder::new("wrong");
    let whole = chat_model();
    folder.put("whole.gguf", &whole);
    folder.put("cut.gguf", &whole[..whole.len() - 1000]);
    folder.put("head.gguf", &whole[..2000]);
    folder.put("empty.gguf", b"");
    folder.put(
        "sound.gguf",
        &[b"RIFF\x24\0\0\0WAVEfmt ".as_slice(), &[0; 400]].concat(),
    );
    folder.put("old.gguf", &[b"lmgg".as_slice(), &[1; 400]].concat());
    folder.put("rubbish.gguf", &[b"GGUF\x03\0\0\0".as_slice(), &[0xff; 400]].concat());
    // The right head, and another architecture in it: the library itself refuses.
    let place = whole.windows(5).position(|bytes| bytes == b"llama").unwrap();
    let mut foreign = whole.clone();
    foreign[place..place + 5].copy_from_slice(b"lllll");
    folder.put("foreign.gguf", &foreign);
    fs::create_dir(folder.0.join("folder.gguf")).unwrap();

    let (mut client, _) = Client::start_with_models(binary(), Some(&folder.0)).unwrap();
    assert!(refused(&mut client, "cut.gguf").reason.contains("incomplete"));
    assert!(refused(&mut client, "head.gguf").reason.contains("incomplete"));
    assert!(refused(&mut client, "empty.gguf").reason.contains("no GGUF"));
    assert!(refused(&mut client, "sound.gguf").reason.contains("RIFF"));
    assert!(refused(&mut client, "old.gguf").reason.contains("lmgg"));
    assert!(refused(&mut client, "rubbish.gguf").reason.contains("damaged"));
    assert!(refused(&mut client, "folder.gguf").reason.contains("not a file"));
    let foreign = refused(&mut client, "foreign.gguf");
    assert!(
        foreign.reason.contains("lllll"),
        "the library's own words: {}",
        foreign.reason
    );
    assert_eq!(refused(&mut client, "missing.gguf").code, code::MISSING);
    assert_eq!(
        load(&mut client, "../escape.gguf", &[]).expect_err("outside").code,
        code::INVALID
    );
    let other = client
        .load(Job::Stt, "whole.gguf", &[])
        .unwrap()
        .expect_err("no recogniser");
    assert_eq!(other.code, code::UNSUPPORTED);
    // After all that, the right file is loaded and answers.
    load(&mut client, "whole.gguf", &[]).unwrap();
    assert!(!ask(&mut client, &greedy(5), &user("Hello")).text().is_empty());
}

/// Bytes of the head, one after the other, become others: whatever the library makes of the file, the worker doesn't die of it.
#[test]
fn a_damaged_head_never_ends_the_worker() {
    let folder = Folder::new("damaged");
    let whole = chat_model();
    let (mut client, _) = Client::start_with_models(binary(), Some(&folder.0)).unwrap();
    // The entries before the vocabulary, which says what the model is.
    let end = whole
        .windows(21)
        .position(|bytes| bytes == b"tokenizer.ggml.tokens")
        .unwrap();
    let mut told = 0;
    for place in (4..end).step_by(13) {
        let mut bytes = whole.clone();
        bytes[place] ^= 0x41;
        folder.put("damaged.gguf", &bytes);
        match load(&mut client, "damaged.gguf", &[]) {
            Err(failed) => {
                assert!(failed.reason.contains("damaged.gguf"), "{failed:?}");
                told += 1;
            }
            Ok(_) => {
                // It made no difference. A worker holds one model, so go on with another.
                client = Client::start_with_models(binary(), Some(&folder.0)).unwrap().0;
            }
        }
    }
    println!("{told} damaged heads were told");
    assert!(told > 5);
}

#[test]
fn a_model_larger_than_the_memory_is_refused_before_it_is_loaded() {
    let folder = Folder::new("large");
    // The head of a model with one tensor of a tebibyte, in a file with nothing but holes behind it.
    let mut bytes = b"GGUF\x03\0\0\0".to_vec();
    bytes.extend(1_u64.to_le_bytes());
    bytes.extend(3_u64.to_le_bytes());
    let text = |bytes: &mut Vec<u8>, text: &str| {
        bytes.extend((text.len() as u64).to_le_bytes());
        bytes.extend(text.as_bytes());
    };
    for (key, value) in [("general.architecture", "llama"), ("general.name", "synthetic")] {
        text(&mut bytes, key);
        bytes.extend(8_u32.to_le_bytes());
        text(&mut bytes, value);
    }
    text(&mut bytes, "tokenizer.ggml.tokens");
    bytes.extend(9_u32.to_le_bytes());
    bytes.extend(8_u32.to_le_bytes());
    bytes.extend(1_u64.to_le_bytes());
    text(&mut bytes, "a");
    text(&mut bytes, "token_embd.weight");
    bytes.extend(1_u32.to_le_bytes());
    bytes.extend((1_u64 << 38).to_le_bytes());
    bytes.extend(0_u32.to_le_bytes());
    bytes.extend(0_u64.to_le_bytes());
    folder.put("large.gguf", &bytes);
    let file = File::options().write(true).open(folder.0.join("large.gguf")).unwrap();
    if let Err(error) = file.set_len((1 << 40) + 4096) {
        println!("skipped: this file system has no files with holes of a tebibyte ({error})");
        return;
    }
    let (mut client, _) = Client::start_with_models(binary(), Some(&folder.0)).unwrap();
    let failed = refused(&mut client, "large.gguf");
    assert_eq!(failed.code, code::MEMORY);
    assert!(
        failed.reason.contains("1024.") && failed.reason.contains("free"),
        "{}",
        failed.reason
    );
}

#[test]
fn options_that_make_no_sense_are_told() {
    let (mut client, _) = Client::start_with_models(binary(), Some(&synthetic())).unwrap();
    for (name, value) in [
        ("context", json!(1_000_000)),
        ("context", json!("long")),
        ("kontext", json!(5)),
        ("template", json!("no-such-template")),
        ("gpu_layers", json!("some")),
        ("kv_type", json!("q2")),
    ] {
        let failed = load(&mut client, CHAT, &[(name, value)]).expect_err(name);
        println!("{}", failed.reason);
        assert_eq!(failed.code, code::INVALID);
        assert!(
            failed
                .reason
                .contains(if name == "template" { "no-such-template" } else { name }),
            "{failed:?}"
        );
    }
    load(
        &mut client,
        CHAT,
        &[("kv_type", json!("q8_0")), ("context", json!(512))],
    )
    .unwrap();
    assert!(!ask(&mut client, &greedy(20), &user("Hello")).text().is_empty());
}

#[test]
fn a_gpu_that_is_not_there_is_told_and_the_cpu_serves() {
    use repartee_worker_shell::protocol::{Load, ToEngine, ToWorker};
    let (mut client, hello) = Client::start_with_models(binary(), Some(&synthetic())).unwrap();
    assert!(hello.features.iter().any(|feature| feature == "cpu"), "{hello:?}");
    assert_eq!(hello.formats, ["gguf"]);
    if hello.devices.len() > 1 {
        println!("skipped: there is a GPU: {:?}", hello.devices);
        return;
    }
    let request = Load {
        job: Job::Llm,
        model: CHAT.into(),
        files: Default::default(),
        options: Default::default(),
        threads: 1,
        device: Some("cuda:0".into()),
    };
    client.send(&ToWorker::Load(request), &[]).unwrap();
    let ToEngine::Ready(ready) = client.receive().unwrap().0 else {
        panic!("not ready")
    };
    assert_eq!(ready.device, "cpu");
    assert!(ready.fallback.unwrap().contains("cuda:0"));
}

#[test]
fn a_projector_has_to_be_one() {
    let (mut client, _) = Client::start_with_models(binary(), Some(&synthetic())).unwrap();
    let failed = load_with(&mut client, CHAT, &[("projector", CHAT)]).expect_err("a chat model is none");
    assert!(failed.reason.contains("no projector"), "{failed:?}");
    let failed = load_with(&mut client, CHAT, &[("projector", "missing.gguf")]).expect_err("it's missing");
    assert_eq!(failed.code, code::MISSING);
    if Path::new(&synthetic().join("synthetic-mmproj.gguf")).is_file() {
        let failed = load(&mut client, "synthetic-mmproj.gguf", &[]).expect_err("a projector is no model");
        assert!(failed.reason.contains("is a projector"), "{failed:?}");
    }
}

#[test]
fn a_template_can_come_from_a_file() {
    let folder = Folder::new("template");
    folder.put("model.gguf", &chat_model());
    folder.put(
        "shout.jinja",
        b"{% for message in messages %}{{ message.content | upper }} {% endfor %}",
    );
    folder.put("broken.jinja", b"{% for message in %}");
    let (mut client, _) = Client::start_with_models(binary(), Some(&folder.0)).unwrap();
    let failed = load_with(&mut client, "model.gguf", &[("template", "broken.jinja")]).expect_err("it's broken");
    println!("{}", failed.reason);
    assert_eq!(
        (failed.code.as_str(), failed.file.as_deref()),
        (code::INVALID, Some("broken.jinja"))
    );
    load_with(&mut client, "model.gguf", &[("template", "shout.jinja")]).unwrap();
    let answered = ask(&mut client, &greedy(5), &user("Hello"));
    assert!(answered.done.is_some(), "{answered:?}");
    assert!(answered.done().usage.prompt_tokens < 10, "it's only one word now");
}
