//! The real worker with synthetic voices of every kind: what it says, when, in which turns, and what it says of files that are missing.

mod bad_input;
mod hear;

use std::collections::BTreeMap;
use std::time::Instant;

use repartee_worker_shell::protocol::{Credit, Job, Open, Params, StreamId, ToEngine, ToWorker, TtsParams, code};
use repartee_worker_shell::testing::Client;
use serde_json::json;

use crate::hear::{LONG, SENTENCE, check, failure, loaded, params, refused, say, speak, speak_on, voices, worker};

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
