//! The real worker with synthetic voices of every kind: what it says, when, in which turns, and what it says of files that are missing.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use repartee_worker_shell::protocol::{
    Credit, Job, Load, LoadFailed, Mark, Open, Params, Ready, StreamId, Text, ToEngine, ToWorker, TtsParams, code,
};
use repartee_worker_shell::testing::{Client, synthetic_folder};
use serde_json::{Value, json};

const SENTENCE: &str = "Good morning, the weather is good today.";
/// Some seconds of speech in several pieces.
const LONG: &str = "The first thing is to look at the time. Then we can go on with the day, and that is good. \
                    After that there is more to say about it. It is a long way to go, but we will be there.";

fn voices() -> PathBuf {
    synthetic_folder("sherpa").expect("the synthetic models are missing; make them with: scripts/synthetic.sh sherpa")
}

/// Where copies of raw voices go in these tests.
const HOME: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/sherpa-home");

/// The worker in an environment of the tests' own: its copies go to [`HOME`], and without `espeak` there is no espeak-ng.
fn worker(espeak: bool) -> &'static Path {
    static SCRIPTS: OnceLock<[PathBuf; 2]> = OnceLock::new();
    let scripts = SCRIPTS.get_or_init(|| {
        [
            ("without", "export REPARTEE_ESPEAK_NG=/nothing/espeak-ng"),
            ("with", ":"),
        ]
        .map(|(name, more)| {
            let path = PathBuf::from(format!("{HOME}-{name}-{}.sh", std::process::id()));
            let binary = env!("CARGO_BIN_EXE_repartee-worker-sherpa");
            let script = format!("#!/bin/sh\nexport REPARTEE_HOME='{HOME}'\n{more}\nexec '{binary}' \"$@\"\n");
            fs::write(&path, script).expect("a script");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("its mode");
            path
        })
    });
    &scripts[usize::from(espeak)]
}

fn client(models: &Path) -> Client {
    let (client, hello) = Client::start_with_models(worker(true), Some(models)).expect("a worker");
    assert!(hello.jobs.contains(&Job::Tts));
    client
}

fn loaded(model: &str, options: &[(&str, Value)]) -> (Client, Ready) {
    let mut client = client(&voices());
    let ready = client.load(Job::Tts, model, options).expect("a link");
    let ready = ready.unwrap_or_else(|failed| panic!("{model}: {failed:?}"));
    println!(
        "{model} (synthetic): loaded in {} ms, first word in {} ms, {} MiB",
        ready.load_ms,
        ready.warmup_ms,
        ready.memory_bytes >> 20
    );
    (client, ready)
}

fn refused(models: &Path, model: &str, options: &[(&str, Value)]) -> LoadFailed {
    let outcome = client(models).load(Job::Tts, model, options);
    outcome
        .unwrap_or_else(|error| panic!("{model}: the worker ended instead of answering: {error}"))
        .expect_err(model)
}

fn params() -> TtsParams {
    TtsParams {
        marks: true,
        ..TtsParams::default()
    }
}

fn say(client: &mut Client, stream: StreamId, clause: u32, text: &str) {
    let text = Text {
        stream,
        clause,
        text: text.into(),
    };
    client.send(&ToWorker::Text(text), &[]).expect("a link");
}

#[derive(Default)]
struct Spoken {
    pcm: Vec<i16>,
    marks: Vec<(u32, Mark)>,
    first_audio: Option<Duration>,
    /// When each message with audio came.
    audio_at: Vec<Duration>,
    all: Duration,
}

impl Spoken {
    fn take(&mut self, payload: &[u8], since: Instant) {
        self.first_audio.get_or_insert_with(|| since.elapsed());
        self.audio_at.push(since.elapsed());
        let samples = payload
            .as_chunks::<2>()
            .0
            .iter()
            .map(|bytes| i16::from_le_bytes(*bytes));
        self.pcm.extend(samples);
    }
}

/// Opens a stream, says clauses, and hears everything until its end.
fn speak(client: &mut Client, params: TtsParams, texts: &[&str]) -> Spoken {
    let stream = client.open(Params::Tts(params)).expect("a link");
    hear(client, stream, texts)
}

/// The same on a stream of this number.
fn speak_on(client: &mut Client, stream: StreamId, params: TtsParams, texts: &[&str]) -> Spoken {
    let open = Open {
        stream,
        credit: 1 << 40,
        params: Params::Tts(params),
    };
    client.send(&ToWorker::Open(open), &[]).expect("a link");
    hear(client, stream, texts)
}

fn hear(client: &mut Client, stream: StreamId, texts: &[&str]) -> Spoken {
    let began = Instant::now();
    for (clause, text) in texts.iter().enumerate() {
        say(client, stream, clause as u32, text);
    }
    client.send(&ToWorker::Finish { stream }, &[]).expect("a link");
    let mut spoken = Spoken::default();
    loop {
        match client.receive().expect("a message") {
            (ToEngine::Audio { stream: of }, payload) => {
                assert_eq!(of, stream);
                spoken.take(&payload, began);
            }
            (ToEngine::Marks(marks), _) => {
                assert!(marks.estimated, "the library tells no times");
                let first = marks.words.first().expect("words").start;
                assert!(first >= spoken.pcm.len() as u64, "marks come before their audio");
                spoken
                    .marks
                    .extend(marks.words.into_iter().map(|word| (marks.clause, word)));
            }
            (ToEngine::Done(done), _) => {
                assert_eq!(done.usage.samples, spoken.pcm.len() as u64);
                assert!(!done.cancelled);
                spoken.all = began.elapsed();
                break;
            }
            (ToEngine::Credit(_), _) => {}
            (other, _) => panic!("{other:?}"),
        }
    }
    // It ends once: the next thing on the link is the answer to this.
    client.send(&ToWorker::Ping { nonce: 7 }, &[]).expect("a link");
    assert!(matches!(client.receive().expect("a message").0, ToEngine::Pong(pong) if pong.nonce == 7));
    spoken
}

fn words(spoken: &Spoken) -> String {
    let words: Vec<&str> = spoken.marks.iter().map(|(_, mark)| mark.text.as_str()).collect();
    words.join(" ")
}

fn level(pcm: &[i16]) -> f64 {
    let sum: f64 = pcm.iter().map(|sample| f64::from(*sample).powi(2)).sum();
    (sum / pcm.len().max(1) as f64).sqrt()
}

/// What every voice has to do.
fn check(spoken: &Spoken, rate: u32, text: &str) {
    let seconds = spoken.pcm.len() as f64 / f64::from(rate);
    println!(
        "  {seconds:.2} s of speech, first audio after {:?}, all after {:?}: real-time factor {:.3}",
        spoken.first_audio.unwrap_or_default(),
        spoken.all,
        spoken.all.as_secs_f64() / seconds
    );
    assert!(seconds > 0.3, "{seconds} s");
    let level = level(&spoken.pcm);
    assert!((300.0..20_000.0).contains(&level), "an effective level of {level}");
    assert_eq!(words(spoken), text);
    let marks: Vec<&Mark> = spoken.marks.iter().map(|(_, mark)| mark).collect();
    assert!(marks.iter().all(|mark| mark.start < mark.end));
    assert!(marks.windows(2).all(|pair| pair[0].end <= pair[1].start));
    assert!(marks.last().is_some_and(|last| last.end <= spoken.pcm.len() as u64));
}

/// Folder, rate, speakers.
const VOICES: [(&str, u32, usize); 8] = [
    ("synthetic-piper", 22_050, 1),
    ("synthetic-piper-raw", 22_050, 1),
    ("synthetic-vits-lexicon", 22_050, 4),
    ("synthetic-melo", 44_100, 1),
    ("synthetic-kokoro", 24_000, 3),
    ("synthetic-kokoro-multi", 24_000, 0),
    ("synthetic-kitten", 24_000, 3),
    ("synthetic-matcha", 22_050, 1),
];

#[test]
fn every_kind_speaks_and_tells_about_when_its_words_are_heard() {
    for (folder, rate, speakers) in VOICES {
        let (mut client, ready) = loaded(folder, &[]);
        let model = &ready.model;
        assert!(model.synthetic && model.streaming && model.max_input > 0, "{model:?}");
        assert_eq!(model.rate, rate, "{folder}");
        assert!(model.voices.iter().all(|voice| voice.rate == rate));
        assert!(speakers == 0 || model.voices.len() == speakers, "{:?}", model.voices);
        assert!(!model.languages.is_empty(), "{folder}");
        let spoken = speak(&mut client, params(), &[SENTENCE]);
        check(&spoken, rate, SENTENCE);
    }
}

#[test]
fn the_first_audio_leaves_before_the_whole_is_made() {
    let (mut client, ready) = loaded("synthetic-piper", &[]);
    let text = LONG.repeat(4);
    let spoken = speak(&mut client, params(), &[&text]);
    check(&spoken, ready.model.rate, text.trim());
    let first = spoken.first_audio.expect("audio");
    assert!(first < spoken.all / 3, "{first:?} of {:?}", spoken.all);
}

#[test]
fn clauses_follow_on_one_another_and_so_do_their_marks() {
    let (mut client, ready) = loaded("synthetic-piper", &[]);
    let texts = ["Hello there.", "", "How are you?", " … 😀 ", "Good."];
    let spoken = speak(&mut client, params(), &texts);
    check(&spoken, ready.model.rate, "Hello there. How are you? Good.");
    let clauses: Vec<u32> = spoken.marks.iter().map(|(clause, _)| *clause).collect();
    assert_eq!(clauses, [0, 0, 2, 2, 2, 4]);
    let how = &spoken.marks[2].1;
    assert_eq!((how.char_start, how.char_end), (0, 3));
}

#[test]
fn what_can_not_be_said_is_done_without_a_sound() {
    for folder in ["synthetic-piper", "synthetic-melo", "synthetic-vits-lexicon"] {
        let (mut client, _) = loaded(folder, &[]);
        for text in ["", " ", "…", "—", "😀😀", "\u{200b}", "\0"] {
            let spoken = speak(&mut client, params(), &[text]);
            assert!(spoken.pcm.is_empty() && spoken.marks.is_empty(), "{folder}: {text:?}");
        }
        // The same stream goes on with what can be said.
        let spoken = speak(&mut client, params(), &["…", "Good morning."]);
        assert!(!spoken.pcm.is_empty());
    }
}

#[test]
fn the_same_text_is_as_long_again_and_speed_makes_it_shorter() {
    let (mut client, _) = loaded("synthetic-piper", &[]);
    let mut length = |speed: Option<f32>| {
        let params = TtsParams { speed, ..params() };
        speak(&mut client, params, &[SENTENCE]).pcm.len() as f64
    };
    let normal = length(None);
    assert!((length(None) - normal).abs() < 1.0);
    assert!((length(Some(1.0)) - normal).abs() < 1.0);
    let (fast, slow) = (length(Some(2.0)), length(Some(0.5)));
    assert!((0.4..0.6).contains(&(fast / normal)), "{fast} of {normal}");
    assert!((1.8..2.2).contains(&(slow / normal)), "{slow} of {normal}");
    assert!((length(Some(9.0)) - fast).abs() < 1.0, "it is clamped");
    assert!((length(Some(0.01)) - slow).abs() < 1.0, "it is clamped");
    // Scale and speed go together, which the library by itself doesn't do.
    let (mut client, _) = loaded(
        "synthetic-piper",
        &[("length_scale", json!(2.0)), ("speed", json!(2.0))],
    );
    let both = speak(&mut client, params(), &[SENTENCE]).pcm.len() as f64;
    assert!((both - normal).abs() / normal < 0.02, "{both} and {normal}");
}

#[test]
fn speakers_are_asked_for_by_name_or_number() {
    let (mut client, ready) = loaded("synthetic-vits-lexicon", &[("speaker", json!(2))]);
    let default = ready.model.voices[0].id.clone();
    let mut spoken = |voice: Option<&str>| {
        let params = TtsParams {
            voice: voice.map(str::to_owned),
            ..params()
        };
        speak(&mut client, params, &[SENTENCE]).pcm
    };
    let own = spoken(None);
    assert_eq!(own, spoken(Some(&default)));
    assert_eq!(own, spoken(Some("speaker:2")));
    assert_eq!(own, spoken(Some("2")));
    assert_ne!(own, spoken(Some("speaker:3")));
    let stream = client
        .open(Params::Tts(TtsParams {
            voice: Some("darth".into()),
            ..params()
        }))
        .expect("a link");
    say(&mut client, stream, 0, "x");
    let (reason, message) = failure(&mut client);
    assert!(reason == code::UNSUPPORTED && message.contains(&default), "{message}");
    let stream = client
        .open(Params::Tts(TtsParams {
            language: Some("ja".into()),
            ..params()
        }))
        .expect("a link");
    say(&mut client, stream, 0, "x");
    assert_eq!(failure(&mut client).0, code::UNSUPPORTED);
}

#[test]
fn kokoros_speakers_have_names() {
    let (mut client, ready) = loaded("synthetic-kokoro", &[]);
    println!("{:?}", ready.model.voices);
    let named: Vec<&str> = ready.model.voices.iter().map(|voice| voice.id.as_str()).collect();
    assert!(named.iter().all(|name| !name.starts_with("speaker:")), "{named:?}");
    let mut spoken = Vec::new();
    for voice in named {
        let params = TtsParams {
            voice: Some(voice.into()),
            ..params()
        };
        spoken.push(speak(&mut client, params, &[SENTENCE]).pcm);
    }
    assert!(spoken.windows(2).all(|pair| pair[0] != pair[1]));
}

#[test]
fn a_lexicon_does_where_there_is_no_espeak_ng() {
    for folder in [
        "synthetic-piper",
        "synthetic-kokoro-multi",
        "synthetic-kitten",
        "synthetic-matcha",
    ] {
        let (mut client, ready) = loaded(folder, &[("frontend", json!("lexicon"))]);
        let spoken = speak(&mut client, params(), &["Good morning, the day is good."]);
        check(&spoken, ready.model.rate, "Good morning, the day is good.");
    }
    let failed = refused(&voices(), "synthetic-kokoro", &[("frontend", json!("lexicon"))]);
    assert!(
        failed.code == code::MISSING && failed.reason.contains("lexicon.txt"),
        "{failed:?}"
    );
}

#[test]
fn without_espeak_ng_a_voice_takes_its_lexicon_or_says_what_to_install() {
    let started = || {
        Client::start_with_models(worker(false), Some(&voices()))
            .expect("a worker")
            .0
    };
    let mut client = started();
    client
        .load(Job::Tts, "synthetic-piper", &[])
        .expect("a link")
        .expect("it has a lexicon");
    assert!(!speak(&mut client, params(), &["Good morning."]).pcm.is_empty());
    for (folder, option) in [
        ("synthetic-kokoro", None),
        ("synthetic-piper", Some(("frontend", json!("espeak")))),
    ] {
        let failed = started()
            .load(Job::Tts, folder, option.as_slice())
            .expect("a link")
            .expect_err("no phonemes");
        assert_eq!(
            (failed.code.as_str(), failed.file.as_deref()),
            (code::MISSING, Some("espeak-ng"))
        );
        assert!(
            failed.reason.contains("apt install espeak-ng") && failed.reason.contains("lexicon.txt"),
            "{failed:?}"
        );
    }
}

#[test]
fn without_credit_nothing_but_the_first_audio_leaves() {
    let (mut client, _) = loaded("synthetic-piper", &[]);
    let stream = StreamId(1000);
    let open = Open {
        stream,
        credit: 1,
        params: Params::Tts(params()),
    };
    client.send(&ToWorker::Open(open), &[]).expect("a link");
    say(&mut client, stream, 0, &LONG.repeat(10));
    assert!(matches!(client.receive().expect("a message").0, ToEngine::Marks(_)));
    assert!(matches!(client.receive().expect("a message").0, ToEngine::Audio { .. }));
    // Another stream isn't held up by one whose listener takes nothing.
    let spoken = speak_on(&mut client, StreamId(1001), params(), &["Good morning."]);
    assert!(!spoken.pcm.is_empty());
    client
        .send(&ToWorker::Credit(Credit { stream, n: 1 << 20 }), &[])
        .expect("a link");
    assert!(matches!(client.receive().expect("a message").0, ToEngine::Audio { stream: of } if of == stream));
}

#[test]
fn a_cancel_stops_the_voice_and_others_go_on() {
    let (mut client, _) = loaded("synthetic-piper", &[]);
    let text = LONG.repeat(15);
    let whole = {
        let spoken = speak(&mut client, params(), &[&text]);
        println!("  the whole takes {:?}", spoken.all);
        spoken
    };
    for _ in 0..5 {
        let stream = client.open(Params::Tts(params())).expect("a link");
        let began = Instant::now();
        say(&mut client, stream, 0, &text);
        while !matches!(client.receive().expect("a message").0, ToEngine::Audio { .. }) {}
        client.send(&ToWorker::Cancel { stream }, &[]).expect("a link");
        loop {
            match client.receive().expect("a message").0 {
                ToEngine::Audio { .. } | ToEngine::Marks(_) | ToEngine::Credit(_) => {}
                ToEngine::Done(done) if done.cancelled => break,
                other => panic!("{other:?}"),
            }
        }
        // The next stream waits for no more than the piece that was under way.
        let spoken = speak(&mut client, params(), &["Still here."]);
        let took = began.elapsed();
        assert!(!spoken.pcm.is_empty());
        assert!(took < whole.all / 2, "{took:?} of {:?}", whole.all);
    }
}

#[test]
fn a_long_text_does_not_keep_another_stream_waiting() {
    let (mut client, _) = loaded("synthetic-piper", &[]);
    let text = LONG.repeat(15);
    let long = client.open(Params::Tts(params())).expect("a link");
    say(&mut client, long, 0, &text);
    client.send(&ToWorker::Finish { stream: long }, &[]).expect("a link");
    while !matches!(client.receive().expect("a message").0, ToEngine::Audio { .. }) {}
    let short = client.open(Params::Tts(params())).expect("a link");
    say(&mut client, short, 0, "And now this.");
    client.send(&ToWorker::Finish { stream: short }, &[]).expect("a link");
    let mut ended = Vec::new();
    let mut audio: BTreeMap<StreamId, usize> = BTreeMap::new();
    let mut long_when_short_began = None;
    while ended.len() < 2 {
        match client.receive().expect("a message") {
            (ToEngine::Audio { stream }, payload) => {
                *audio.entry(stream).or_default() += payload.len();
                if stream == short && long_when_short_began.is_none() {
                    long_when_short_began = audio.get(&long).copied();
                }
            }
            (ToEngine::Done(done), _) => ended.push(done.stream),
            (ToEngine::Marks(_) | ToEngine::Credit(_), _) => {}
            (other, _) => panic!("{other:?}"),
        }
    }
    assert_eq!(ended, [short, long]);
    let (before, all) = (long_when_short_began.unwrap_or(0), audio[&long]);
    assert!(before < all / 2, "{before} of {all} bytes of the long text came first");
}

#[test]
fn hostile_texts_are_spoken_or_refused_and_nothing_breaks() {
    for folder in [
        "synthetic-piper",
        "synthetic-kokoro-multi",
        "synthetic-matcha",
        "synthetic-melo",
    ] {
        let (mut client, _) = loaded(folder, &[]);
        let control: String = (0..32_u8).map(char::from).collect();
        let texts = [
            "a".repeat(1500),
            "0".repeat(300),
            "$%&@=+/()'\"!?;:,.-".repeat(20),
            format!("{control}one{control}"),
            "12345678901234567890.12345e99 $1,000,000,000,000.99 1/2/3/4 XVIII".into(),
            "naïve 你好 \u{202e}\u{feff}\u{1f600} Ünïcödé Привет".into(),
            "[[h@'loU]] <speak><break time='9s'/></speak> {x} qzxjq".into(),
            "Dr. St. ... e.g. A.B.C. www.example.com/x?y=z&q a@b.c".into(),
        ];
        for text in &texts {
            speak(&mut client, params(), &[text]);
        }
        let stream = client.open(Params::Tts(params())).expect("a link");
        say(&mut client, stream, 0, &"x ".repeat(5000));
        assert_eq!(failure(&mut client).0, code::TOO_LONG);
        let stream = client
            .open(Params::Tts(TtsParams {
                speed: Some(f32::MAX),
                ..params()
            }))
            .expect("a link");
        client.send(&ToWorker::Finish { stream }, &[]).expect("a link");
        while !matches!(client.receive().expect("a message").0, ToEngine::Done(_)) {}
        assert!(!speak(&mut client, params(), &["Good morning."]).pcm.is_empty());
    }
}

fn failure(client: &mut Client) -> (String, String) {
    loop {
        match client.receive().expect("an answer").0 {
            ToEngine::Failed(failed) => return (failed.code, failed.message),
            ToEngine::Credit(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

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

#[test]
fn what_is_said_is_not_written_to_the_error_output() {
    use std::process::{Command, Stdio};
    // The test runs itself, so that the worker's error output is its own.
    if std::env::var_os("SAY_WHAT_IS_UNKNOWN").is_some() {
        for (folder, frontend) in [
            ("synthetic-piper", "lexicon"),
            ("synthetic-piper", "espeak"),
            ("synthetic-kokoro-multi", "lexicon"),
        ] {
            let (mut client, _) = loaded(folder, &[("frontend", json!(frontend))]);
            speak(
                &mut client,
                params(),
                &["Good zyzzyva morning.", "Xylographic.", "密 ж"],
            );
        }
        let (mut client, _) = loaded("synthetic-melo", &[]);
        speak(
            &mut client,
            params(),
            &["Good zyzzyva morning.", "Xylographic.", "密 ж"],
        );
        return;
    }
    let output = Command::new(std::env::current_exe().expect("this test"))
        .args([
            "--exact",
            "what_is_said_is_not_written_to_the_error_output",
            "--nocapture",
        ])
        .env("SAY_WHAT_IS_UNKNOWN", "1")
        .stdin(Stdio::null())
        .output()
        .expect("this test");
    let text = String::from_utf8_lossy(&output.stderr).to_lowercase();
    assert!(output.status.success(), "{text}");
    for word in ["zyzzyva", "xylographic", "密", "ж"] {
        assert!(!text.contains(word), "{text}");
    }
}
