//! What the worker says of files that are missing or broken, and of options that are wrong.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use repartee_worker_shell::protocol::{Job, Load, ToEngine, ToWorker, code};
use serde_json::json;

use crate::hear::{HOME, SENTENCE, client, params, refused, speak, voices};

/// A models root with a copy of one synthetic voice, to take something away from.
fn copied(folder: &str) -> (tempfile::TempDir, PathBuf) {
    let root = tempfile::tempdir().expect("a folder");
    let target = root.path().join(folder);
    fs::create_dir(&target).expect("a folder");
    for entry in fs::read_dir(voices().join(folder))
        .expect("a synthetic voice")
        .flatten()
    {
        if entry.path().is_file() {
            fs::copy(entry.path(), target.join(entry.file_name())).expect("a copy");
        }
    }
    (root, target)
}

#[test]
fn a_raw_piper_voice_without_its_rate_is_refused() {
    let failed = refused(&voices(), "synthetic-piper-rateless", &[]);
    assert_eq!(failed.code, code::INVALID);
    assert!(
        failed.reason.contains("audio.sample_rate") && failed.reason.contains(".onnx.json"),
        "{failed:?}"
    );
    let (root, folder) = copied("synthetic-piper-raw");
    fs::remove_file(folder.join("en_US-synthetic-low.onnx.json")).expect("the JSON");
    let failed = refused(root.path(), "synthetic-piper-raw/en_US-synthetic-low.onnx", &[]);
    assert!(failed.reason.contains("en_US-synthetic-low.onnx.json"), "{failed:?}");
}

#[test]
fn the_rate_of_a_raw_piper_voice_is_that_of_its_json() {
    let (root, folder) = copied("synthetic-piper-raw");
    let json = folder.join("en_US-synthetic-low.onnx.json");
    let text = fs::read_to_string(&json).expect("the JSON");
    fs::write(&json, text.replace("22050", "16000")).expect("another rate");
    let mut client = client(root.path());
    let ready = client
        .load(Job::Tts, "synthetic-piper-raw/en_US-synthetic-low.onnx", &[])
        .expect("a link")
        .expect("a voice");
    assert_eq!((ready.model.rate, ready.model.voices[0].rate), (16_000, 16_000));
    assert_eq!(ready.model.languages, ["en-US"]);
    assert!(!speak(&mut client, params(), &[SENTENCE]).pcm.is_empty());
    let cache = Path::new(HOME).join("cache/sherpa");
    let mode = fs::metadata(&cache).expect("the copies").permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    assert!((1..=8).contains(&fs::read_dir(&cache).expect("the copies").count()));
}

#[test]
fn each_missing_file_is_named_with_what_to_do() {
    let cases = [
        ("synthetic-vits-lexicon", "tokens.txt", "tokens.txt"),
        ("synthetic-vits-lexicon", "lexicon.txt", "lexicon.txt"),
        ("synthetic-melo", "lexicon.txt", "lexicon.txt"),
        ("synthetic-kokoro", "voices.bin", "voices.bin"),
        ("synthetic-kokoro", "tokens.txt", "tokens.txt"),
        ("synthetic-kitten", "voices.bin", "voices.bin"),
        ("synthetic-matcha", "tokens.txt", "tokens.txt"),
        ("synthetic-kokoro", "model.onnx", ".onnx"),
    ];
    for (folder, file, expected) in cases {
        let (root, path) = copied(folder);
        fs::remove_file(path.join(file)).expect(file);
        let failed = refused(root.path(), folder, &[]);
        println!("{folder} without {file}: {}", failed.reason);
        assert_eq!(failed.code, code::MISSING, "{failed:?}");
        assert!(failed.reason.contains(expected) && failed.file.is_some(), "{failed:?}");
    }
    let (root, path) = copied("synthetic-matcha");
    fs::remove_file(path.join("vocos-22khz-univ.onnx")).expect("a vocoder");
    fs::remove_file(path.join("hifigan_v2.onnx")).expect("a vocoder");
    let failed = refused(root.path(), "synthetic-matcha", &[]);
    assert!(
        failed.code == code::MISSING && failed.reason.contains("vocoder"),
        "{failed:?}"
    );
    assert!(failed.reason.contains("22050 Hz"), "{failed:?}");
    // The tokens of a voice that has its JSON are made of that.
    let (root, path) = copied("synthetic-piper");
    fs::remove_file(path.join("tokens.txt")).expect("the tokens");
    let mut client = client(root.path());
    client
        .load(Job::Tts, "synthetic-piper", &[])
        .expect("a link")
        .expect("a voice");
    assert!(!speak(&mut client, params(), &[SENTENCE]).pcm.is_empty());
}

#[test]
fn each_broken_file_is_named_with_what_is_wrong_and_the_worker_lives() {
    let broken = |folder: &str, file: &str, change: &dyn Fn(Vec<u8>) -> Vec<u8>| {
        let (root, path) = copied(folder);
        let file = path.join(file);
        let bytes = fs::read(&file).expect("a file");
        fs::write(&file, change(bytes)).expect("a broken file");
        let mut client = client(root.path());
        let failed = client
            .load(Job::Tts, folder, &[])
            .unwrap_or_else(|error| panic!("{folder}: the worker ended instead of answering: {error}"));
        let failed = failed.expect_err(folder);
        println!("{folder}: {}", failed.reason);
        // It may be asked for another one.
        let other = client.load(Job::Tts, "nothing", &[]).expect("it lives");
        assert_eq!(other.expect_err("it isn't there").code, code::MISSING);
        failed
    };
    let half = |mut bytes: Vec<u8>| {
        bytes.truncate(bytes.len() / 2);
        bytes
    };
    let failed = broken("synthetic-kokoro", "voices.bin", &half);
    assert!(
        failed.reason.contains("voices.bin") && failed.code == code::INVALID,
        "{failed:?}"
    );
    let failed = broken("synthetic-kokoro", "model.onnx", &half);
    assert!(
        failed.reason.contains("model.onnx") && failed.reason.contains("cut off"),
        "{failed:?}"
    );
    let failed = broken("synthetic-kitten", "model.fp16.onnx", &|_| b"GGUF rubbish".to_vec());
    assert!(failed.reason.contains("model.fp16.onnx"), "{failed:?}");
    let twice = |bytes: Vec<u8>| [bytes.clone(), bytes].concat();
    let failed = broken("synthetic-piper", "tokens.txt", &twice);
    assert!(
        failed.reason.contains("tokens.txt") && failed.reason.contains("second time"),
        "{failed:?}"
    );
    let failed = broken("synthetic-piper-raw", "en_US-synthetic-low.onnx.json", &half);
    assert!(failed.reason.contains("isn't valid JSON"), "{failed:?}");
    // What only onnxruntime can see is told in its words.
    let misnamed = |bytes: Vec<u8>| {
        let mut bytes = bytes;
        let at = bytes.windows(6).position(|name| name == b"Gather").expect("it gathers");
        bytes[at..at + 6].copy_from_slice(b"Gathex");
        bytes
    };
    let failed = broken("synthetic-kokoro", "model.onnx", &misnamed);
    assert!(
        failed.reason.contains("model.onnx") && failed.reason.contains("Gathex"),
        "{failed:?}"
    );
    // A recogniser isn't a voice.
    let failed = refused(&voices(), "synthetic-sense-voice", &[]);
    assert!(
        failed.code == code::UNSUPPORTED && failed.reason.contains("sense_voice"),
        "{failed:?}"
    );
}

#[test]
fn a_lexicon_of_the_older_form_is_in_nobodys_way() {
    let (root, path) = copied("synthetic-piper");
    let lexicon = path.join("lexicon.txt");
    let text = fs::read_to_string(&lexicon).expect("the lexicon");
    fs::write(&lexicon, text.replace(" || ", " ")).expect("an older one");
    // With such a lexicon the library takes no phonemes, so it isn't given it when espeak-ng makes them.
    for frontend in ["espeak", "lexicon"] {
        let mut client = client(root.path());
        let ready = client.load(Job::Tts, "synthetic-piper", &[("frontend", json!(frontend))]);
        ready.expect("a link").expect(frontend);
        assert!(!speak(&mut client, params(), &[SENTENCE]).pcm.is_empty(), "{frontend}");
    }
    let tokens = path.join("tokens.txt");
    let text = fs::read_to_string(&tokens).expect("the tokens");
    let without: String = text
        .lines()
        .filter(|line| !line.starts_with(' '))
        .flat_map(|line| [line, "\n"])
        .collect();
    fs::write(&tokens, without).expect("tokens without a space");
    let failed = refused(root.path(), "synthetic-piper", &[("frontend", json!("lexicon"))]);
    assert!(failed.reason.contains("tokens.txt has no token ' '"), "{failed:?}");
}

#[test]
fn options_have_bounds() {
    let cases = [
        ("speed", json!(3.0), "0.5"),
        ("noise_scale", json!("x"), "number"),
        ("frontend", json!("cloud"), "espeak or lexicon"),
        ("language", json!("../x"), "en-gb"),
        ("speaker", json!("darth"), "speaker:0"),
        ("silence", json!(1), "silence_scale"),
        ("espeak_data", json!("no-such-folder"), "no-such-folder"),
    ];
    for (option, value, expected) in cases {
        let failed = refused(&voices(), "synthetic-piper", &[(option, value)]);
        assert!(failed.reason.contains(expected), "{option}: {failed:?}");
    }
}

#[test]
fn a_file_of_a_role_may_lie_elsewhere() {
    let (root, path) = copied("synthetic-kokoro");
    fs::rename(path.join("voices.bin"), root.path().join("styles.bin")).expect("another place");
    let mut client = client(root.path());
    let load = Load {
        job: Job::Tts,
        model: "synthetic-kokoro".into(),
        files: [("voices".to_owned(), "styles.bin".to_owned())].into(),
        options: BTreeMap::new(),
        threads: 1,
        device: None,
    };
    client.send(&ToWorker::Load(load), &[]).expect("a link");
    match client.receive().expect("an answer").0 {
        ToEngine::Ready(ready) => assert_eq!(ready.model.rate, 24_000),
        other => panic!("{other:?}"),
    }
}
