//! What is wrong with a recogniser's files is said before the library sees them: it ends the process on much of it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use repartee_worker_shell::protocol::{
    FinalText, Job, Load, LoadFailed, Params, Ready, SttParams, ToEngine, ToWorker, code,
};
use repartee_worker_shell::testing::{Client, synthetic_folder};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A models root with a copy of a synthetic model in it, and a worker that was started for it.
struct Bench {
    root: TempDir,
    client: Client,
}

impl Bench {
    fn new(models: &[&str]) -> Self {
        let synthetic = synthetic_folder("sherpa").expect("synthetic models: scripts/synthetic.sh sherpa makes them");
        let root = TempDir::new().expect("a folder");
        for model in models {
            let folder = root.path().join(model);
            fs::create_dir(&folder).expect("a folder");
            for entry in fs::read_dir(synthetic.join(model)).expect("the model") {
                let entry = entry.expect("a file");
                fs::copy(entry.path(), folder.join(entry.file_name())).expect("a copy");
            }
        }
        let client = started(root.path());
        Self { root, client }
    }

    fn path(&self, file: &str) -> std::path::PathBuf {
        self.root.path().join(file)
    }

    fn load(&mut self, model: &str, options: Value, files: &[(&str, &str)]) -> Result<Ready, LoadFailed> {
        let load = Load {
            job: Job::Stt,
            model: model.into(),
            files: files
                .iter()
                .map(|(role, file)| ((*role).to_owned(), (*file).to_owned()))
                .collect(),
            options: serde_json::from_value(options).expect("an object"),
            threads: 0,
            device: None,
        };
        answer(&mut self.client, load).expect("the worker is still there")
    }

    /// That a load fails with this code and says all of `words`; the worker is asked for the next one.
    fn refuses(&mut self, model: &str, options: Value, code: &str, words: &[&str]) {
        let failed = self.load(model, options, &[]).expect_err("it can't be loaded");
        println!("{code}: {}", failed.reason);
        assert_eq!(failed.code, code, "{failed:?}");
        for word in words {
            assert!(failed.reason.contains(word), "{word:?} is not in {failed:?}");
        }
    }

    /// The same for a file with other content, which is put back.
    fn refuses_with(&mut self, file: &str, content: &[u8], code: &str, words: &[&str]) {
        let path = self.path(file);
        let kept = fs::read(&path).expect("a file");
        fs::write(&path, content).expect("a file");
        let (model, _) = file.split_once('/').expect("a file of a model");
        self.refuses(model, json!({}), code, words);
        fs::write(&path, kept).expect("a file");
    }
}

fn started(root: &Path) -> Client {
    let binary = Path::new(env!("CARGO_BIN_EXE_repartee-worker-sherpa"));
    Client::start_with_models(binary, Some(root)).expect("a worker").0
}

/// `None` where the worker has gone.
fn answer(client: &mut Client, load: Load) -> Option<Result<Ready, LoadFailed>> {
    client.send(&ToWorker::Load(load), &[]).expect("a link");
    match client.receive() {
        Ok((ToEngine::Ready(ready), _)) => Some(Ok(ready)),
        Ok((ToEngine::LoadFailed(failed), _)) => Some(Err(failed)),
        Ok((other, _)) => panic!("{other:?} instead of ready"),
        Err(_) => None,
    }
}

/// The bytes with one text in place of another of the same length, wherever it is.
fn replaced(path: &Path, from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len(), "lengths are written before texts");
    let mut bytes = fs::read(path).expect("a file");
    let places: Vec<usize> = bytes
        .windows(from.len())
        .enumerate()
        .filter(|(_, window)| *window == from.as_bytes())
        .map(|(at, _)| at)
        .collect();
    assert!(!places.is_empty(), "{from} is in {}", path.display());
    for place in places {
        bytes[place..place + to.len()].copy_from_slice(to.as_bytes());
    }
    bytes
}

const ENCODER: &str = "synthetic-kroko/encoder.onnx";
const TOKENS: &str = "synthetic-kroko/tokens.txt";

#[test]
fn a_wrong_request_is_refused_by_its_name() {
    let mut bench = Bench::new(&["synthetic-kroko", "synthetic-zipformer-ctc", "synthetic-vits-lexicon"]);
    fs::create_dir(bench.path("empty")).expect("a folder");
    fs::write(bench.path("model.gguf"), "GGUF").expect("a file");
    bench.refuses("nothing", json!({}), code::MISSING, &["nothing"]);
    bench.refuses(
        "../synthetic-kroko",
        json!({}),
        code::INVALID,
        &["below the models root"],
    );
    bench.refuses("empty", json!({}), code::MISSING, &["no .onnx file", "empty"]);
    bench.refuses("model.gguf", json!({}), code::UNSUPPORTED, &["model.gguf", "ONNX"]);
    bench.refuses(
        "synthetic-vits-lexicon",
        json!({}),
        code::UNSUPPORTED,
        &["no recogniser", "vits", "for tts"],
    );
    bench.refuses(
        "synthetic-kroko",
        json!({"stream": 1}),
        code::INVALID,
        &["\"stream\"", "streams"],
    );
    bench.refuses(
        "synthetic-kroko",
        json!({"streams": 0}),
        code::INVALID,
        &["\"streams\"", "from 1 to 256"],
    );
    bench.refuses(
        "synthetic-kroko",
        json!({"kind": "vosk"}),
        code::INVALID,
        &["vosk", "streaming_transducer"],
    );
    bench.refuses(
        "synthetic-kroko",
        json!({"precision": "int4"}),
        code::INVALID,
        &["int4", "fp32"],
    );
    bench.refuses(
        "synthetic-kroko",
        json!({"case": "title"}),
        code::INVALID,
        &["title", "lower"],
    );
    bench.refuses(
        "synthetic-kroko",
        json!({"decoding": "magic"}),
        code::INVALID,
        &["magic", "beam"],
    );
    bench.refuses(
        "synthetic-zipformer-ctc",
        json!({"decoding": "beam"}),
        code::INVALID,
        &["streaming_ctc", "greedy"],
    );
    let load = Load {
        job: Job::Stt,
        model: "synthetic-kroko".into(),
        files: BTreeMap::from([("vocoder".to_owned(), ENCODER.to_owned())]),
        options: BTreeMap::new(),
        threads: 0,
        device: None,
    };
    let failed = answer(&mut bench.client, load.clone())
        .expect("an answer")
        .expect_err("a recogniser has no vocoder");
    assert!(
        failed.reason.contains("vocoder") && failed.reason.contains("joiner"),
        "{failed:?}"
    );
    let elsewhere = Load {
        files: BTreeMap::new(),
        device: Some("cuda:0".into()),
        ..load
    };
    let failed = answer(&mut bench.client, elsewhere)
        .expect("an answer")
        .expect_err("there's no such device");
    assert!(
        failed.code == code::UNSUPPORTED && failed.reason.contains("cuda:0"),
        "{failed:?}"
    );
    // After all that the worker still loads what is right, also by one of its files.
    let ready = bench
        .load(ENCODER, json!({}), &[("tokens", TOKENS)])
        .expect("it is right");
    assert!(ready.model.synthetic);
}

#[test]
fn a_wrong_file_is_named_with_what_is_wrong() {
    let mut bench = Bench::new(&["synthetic-kroko", "synthetic-nemo-ctc", "synthetic-sense-voice"]);
    let encoder = bench.path(ENCODER);
    let whole = fs::read(&encoder).expect("a file");
    bench.refuses_with(ENCODER, b"", code::INVALID, &["encoder.onnx", "is empty"]);
    bench.refuses_with(
        ENCODER,
        &whole[..whole.len() / 2],
        code::INVALID,
        &["encoder.onnx", "cut off"],
    );
    bench.refuses_with(
        ENCODER,
        b"GGUF\x03\0\0\0\0\0",
        code::INVALID,
        &["encoder.onnx", "no ONNX model"],
    );
    let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n";
    bench.refuses_with(ENCODER, pointer, code::INVALID, &["encoder.onnx", "no ONNX model"]);
    let joiner = fs::read(bench.path("synthetic-kroko/joiner.onnx")).expect("a file");
    bench.refuses_with(
        ENCODER,
        &joiner,
        code::UNSUPPORTED,
        &["encoder.onnx", "model_type", "kind"],
    );
    bench.refuses_with(
        "synthetic-kroko/joiner.onnx",
        &whole,
        code::INVALID,
        &["joiner.onnx", "joiner_dim"],
    );
    let decoder = fs::read(bench.path("synthetic-kroko/decoder.onnx")).expect("a file");
    let no_size = replaced(&bench.path("synthetic-kroko/decoder.onnx"), "vocab_size", "vocab_sise");
    bench.refuses_with(
        "synthetic-kroko/decoder.onnx",
        &no_size,
        code::INVALID,
        &["decoder.onnx", "vocab_size"],
    );
    drop(decoder);
    // Without the length of its chunks it would be taken for an offline one, which has no states.
    let no_chunks = replaced(&encoder, "decode_chunk_len", "decode_chunk_lem");
    bench.refuses_with(ENCODER, &no_chunks, code::INVALID, &["encoder.onnx", "inputs"]);
    let no_type = replaced(&encoder, "zipformer2", "zipformer9");
    bench.refuses_with(ENCODER, &no_type, code::UNSUPPORTED, &["encoder.onnx", "zipformer9"]);
    let no_list = replaced(&encoder, "num_heads", "num_heats");
    bench.refuses_with(ENCODER, &no_list, code::INVALID, &["encoder.onnx", "num_heads"]);
    let nemo = "synthetic-nemo-ctc/model.onnx";
    let no_factor = replaced(&bench.path(nemo), "subsampling_factor", "subsampling_faktor");
    bench.refuses_with(nemo, &no_factor, code::INVALID, &["model.onnx", "subsampling_factor"]);
    let sense = "synthetic-sense-voice/model.int8.onnx";
    let no_language = replaced(&bench.path(sense), "lang_yue", "lang_yuh");
    bench.refuses_with(sense, &no_language, code::INVALID, &["model.int8.onnx", "lang_yue"]);

    let tokens = fs::read_to_string(bench.path(TOKENS)).expect("a file");
    bench.refuses_with(TOKENS, b"", code::INVALID, &["tokens.txt", "empty"]);
    bench.refuses_with(TOKENS, b"<blk> 0\nA\n", code::INVALID, &["tokens.txt", "line 2"]);
    bench.refuses_with(
        TOKENS,
        b"<blk> 0\nA 1\n",
        code::INVALID,
        &["tokens.txt", "another model"],
    );
    bench.refuses_with(TOKENS, b"\xff\xfe 0\n", code::INVALID, &["tokens.txt", "UTF-8"]);
    let blankless = tokens.replace("<blk>", "<blank-less>");
    bench.refuses_with(TOKENS, blankless.as_bytes(), code::INVALID, &["tokens.txt", "<blk>"]);
    fs::remove_file(bench.path(TOKENS)).expect("a file");
    bench.refuses("synthetic-kroko", json!({}), code::MISSING, &["tokens.txt"]);
    fs::write(bench.path(TOKENS), tokens).expect("a file");

    // Two that could be it; with the precision asked for, or one of them named, it's clear.
    fs::copy(&encoder, bench.path("synthetic-kroko/encoder-2.onnx")).expect("a copy");
    bench.refuses(
        "synthetic-kroko",
        json!({}),
        code::INVALID,
        &["encoder.onnx", "encoder-2.onnx", "files: encoder"],
    );
    fs::remove_file(bench.path("synthetic-kroko/encoder-2.onnx")).expect("a file");
    fs::write(bench.path("synthetic-kroko/encoder.int8.onnx"), b"not this one").expect("a file");
    bench.refuses("synthetic-kroko", json!({}), code::INVALID, &["encoder.int8.onnx"]);
    bench
        .load("synthetic-kroko", json!({"precision": "fp32"}), &[])
        .expect("the other one is right");
}

#[test]
fn what_only_the_library_finds_is_told_in_its_words() {
    let mut bench = Bench::new(&["synthetic-kroko", "synthetic-sense-voice"]);
    for file in ["synthetic-kroko/decoder.onnx", "synthetic-sense-voice/model.int8.onnx"] {
        // An operator that doesn't exist: that takes onnxruntime to see.
        let broken = replaced(&bench.path(file), "Gather", "Gatter");
        bench.refuses_with(file, &broken, code::INVALID, &["sherpa-onnx", "Gatter", file]);
    }
}

#[test]
fn hints_are_taken_where_the_model_can_and_ignored_elsewhere() {
    let hear = |options: Value, vocabulary: Option<&str>, hints: &[&str]| -> Result<FinalText, LoadFailed> {
        let mut bench = Bench::new(&["synthetic-kroko"]);
        if let Some(vocabulary) = vocabulary {
            fs::write(bench.path("synthetic-kroko/bpe.vocab"), vocabulary).expect("a file");
        }
        bench.load("synthetic-kroko", options, &[])?;
        let params = SttParams {
            rate: 16_000,
            hints: hints.iter().map(|hint| (*hint).to_owned()).collect(),
            partials: true,
            ..SttParams::default()
        };
        let stream = bench.client.open(Params::Stt(params)).expect("a link");
        let tone = (0..16_000).map(|sample| ((f64::from(sample) * 0.3).sin() * 9000.0) as i16);
        let audio: Vec<u8> = tone.flat_map(i16::to_le_bytes).collect();
        bench.client.send(&ToWorker::Audio { stream }, &audio).expect("a link");
        bench.client.send(&ToWorker::Finish { stream }, &[]).expect("a link");
        loop {
            match bench.client.receive().expect("a message").0 {
                ToEngine::Final(text) => return Ok(text),
                ToEngine::Partial(_) | ToEngine::Credit(_) => {}
                other => panic!("{other:?}"),
            }
        }
    };
    let vocabulary: String = ["▁".to_owned()]
        .into_iter()
        .chain(('A'..='Z').map(String::from))
        .map(|piece| format!("{piece}\t-1.5\n"))
        .collect();
    let plain = hear(json!({}), None, &["whatever", "and more"]).expect("hints that have no effect are no error");
    assert!(!plain.text.is_empty());
    let beam = json!({"decoding": "beam", "hotwords_score": 2.0});
    let hinted = hear(beam.clone(), Some(&vocabulary), &["abba", "x/y: z", "12", "\u{0}"]).expect("it takes hints");
    assert!(!hinted.text.is_empty());
    let failed = hear(beam.clone(), Some("QQ\t-1\n"), &[]).expect_err("the vocabulary is another's");
    assert!(
        failed.reason.contains("bpe.vocab") && failed.reason.contains("another model"),
        "{failed:?}"
    );
    let failed =
        hear(json!({"decoding": "beam", "modeling_unit": "bpe"}), None, &[]).expect_err("there's no vocabulary");
    assert!(
        failed.code == code::MISSING && failed.reason.contains("bpe.vocab"),
        "{failed:?}"
    );
}
