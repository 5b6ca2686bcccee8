//! The real worker: its audio, its word timings, its cancel, and whether the recogniser beside it understands it.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use repartee_worker_shell::protocol::{
    Credit, Job, Mark, Open, Params, Ready, StreamId, SttParams, Text, ToEngine, ToWorker, TtsParams, code,
};
use repartee_worker_shell::testing::{Client, word_errors};

const SENTENCE: &str = "Good morning, the weather in Dublin is sunny and warm.";

fn started() -> (Client, Ready) {
    let (mut client, hello) = Client::start(Path::new(env!("CARGO_BIN_EXE_repartee-worker-flite"))).expect("a worker");
    assert_eq!(hello.jobs, [Job::Tts]);
    let ready = client
        .load(Job::Tts, "flite", &[])
        .expect("a link")
        .expect("flite's voices are linked in");
    (client, ready)
}

fn voice(name: &str) -> Params {
    Params::Tts(TtsParams {
        voice: Some(name.into()),
        marks: true,
        ..TtsParams::default()
    })
}

#[derive(Default)]
struct Spoken {
    pcm: Vec<i16>,
    marks: Vec<Mark>,
    estimated: bool,
    first_audio: Option<Duration>,
    marks_came_first: bool,
}

fn speak(client: &mut Client, params: Params, texts: &[&str]) -> Spoken {
    let stream = client.open(params).expect("a link");
    let began = Instant::now();
    for (clause, text) in texts.iter().enumerate() {
        let text = Text {
            stream,
            clause: clause as u32,
            text: (*text).into(),
        };
        client.send(&ToWorker::Text(text), &[]).expect("a link");
    }
    client.send(&ToWorker::Finish { stream }, &[]).expect("a link");
    let mut spoken = Spoken::default();
    loop {
        match client.receive().expect("a message") {
            (ToEngine::Audio { .. }, payload) => {
                spoken.first_audio.get_or_insert_with(|| began.elapsed());
                spoken.pcm.extend(
                    payload
                        .as_chunks::<2>()
                        .0
                        .iter()
                        .map(|bytes| i16::from_le_bytes(*bytes)),
                );
            }
            (ToEngine::Marks(marks), _) => {
                spoken.marks_came_first |= spoken.pcm.is_empty();
                spoken.estimated |= marks.estimated;
                spoken.marks.extend(marks.words);
            }
            (ToEngine::Done(done), _) => {
                assert_eq!(done.usage.samples, spoken.pcm.len() as u64);
                return spoken;
            }
            (ToEngine::Credit(_), _) => {}
            (other, _) => panic!("{other:?}"),
        }
    }
}

#[test]
fn every_voice_speaks_and_tells_when_its_words_are_heard() {
    let (mut client, ready) = started();
    println!(
        "loaded in {} ms, first word in {} ms, {} MiB",
        ready.load_ms,
        ready.warmup_ms,
        ready.memory_bytes >> 20
    );
    assert_eq!(ready.model.voices[0].id, "rms");
    for info in &ready.model.voices {
        let spoken = speak(&mut client, voice(&info.id), &[SENTENCE]);
        let seconds = spoken.pcm.len() as f64 / f64::from(info.rate);
        println!(
            "{}: {seconds:.2} s, first audio after {:?}",
            info.id, spoken.first_audio
        );
        assert!((2.0..7.0).contains(&seconds), "{seconds} s");
        assert!(spoken.pcm.iter().any(|sample| sample.abs() > 2000), "it's audible");
        let words: Vec<&str> = spoken.marks.iter().map(|mark| mark.text.as_str()).collect();
        assert_eq!(words.join(" "), SENTENCE);
        assert!(spoken.marks_came_first && !spoken.estimated);
        assert!(
            spoken
                .marks
                .windows(2)
                .all(|pair| pair[0].end <= pair[1].start && pair[0].start < pair[0].end)
        );
        let last = spoken.marks.last().expect("words").end;
        assert!(last <= spoken.pcm.len() as u64 && last > spoken.pcm.len() as u64 / 2);
        let first = spoken.marks[0].start;
        assert!(
            first <= u64::from(info.rate) / 20,
            "{first} samples of silence at first"
        );
    }
}

#[test]
fn clauses_follow_on_one_another_and_their_marks_too() {
    let (mut client, _) = started();
    let spoken = speak(&mut client, voice("slt"), &["Hello there.", "", "How are you?", "—"]);
    let words: Vec<&str> = spoken.marks.iter().map(|mark| mark.text.as_str()).collect();
    assert_eq!(words, ["Hello", "there.", "How", "are", "you?"]);
    assert!(spoken.marks.windows(2).all(|pair| pair[0].end <= pair[1].start));
    assert_eq!((spoken.marks[2].char_start, spoken.marks[2].char_end), (0, 3));
    let fast = Params::Tts(TtsParams {
        voice: Some("slt".into()),
        speed: Some(2.0),
        ..TtsParams::default()
    });
    let fast = speak(&mut client, fast, &["Hello there.", "How are you?"]);
    assert!(
        fast.pcm.len() * 3 < spoken.pcm.len() * 2,
        "{} and {}",
        fast.pcm.len(),
        spoken.pcm.len()
    );
}

#[test]
fn a_cancel_stops_the_voice_and_others_go_on() {
    let (mut client, _) = started();
    for _ in 0..20 {
        let stream = client.open(voice("rms")).expect("a link");
        let text = SENTENCE.repeat(20);
        client
            .send(
                &ToWorker::Text(Text {
                    stream,
                    clause: 0,
                    text,
                }),
                &[],
            )
            .expect("a link");
        assert!(matches!(client.receive().expect("a message").0, ToEngine::Marks(_)));
        client.send(&ToWorker::Cancel { stream }, &[]).expect("a link");
        let mut pieces = 0;
        loop {
            match client.receive().expect("a message").0 {
                ToEngine::Audio { .. } | ToEngine::Marks(_) => pieces += 1,
                ToEngine::Done(done) if done.cancelled => break,
                other => panic!("{other:?}"),
            }
        }
        assert!(pieces < 400, "{pieces} pieces after the cancel");
    }
    assert!(speak(&mut client, voice("rms"), &["Still here."]).pcm.len() > 5000);
}

#[test]
fn without_credit_nothing_but_the_first_audio_leaves() {
    let (mut client, _) = started();
    let params = voice("rms");
    let stream = StreamId(1000);
    client
        .send(
            &ToWorker::Open(Open {
                stream,
                credit: 1,
                params,
            }),
            &[],
        )
        .expect("a link");
    client
        .send(
            &ToWorker::Text(Text {
                stream,
                clause: 0,
                text: SENTENCE.into(),
            }),
            &[],
        )
        .expect("a link");
    assert!(matches!(client.receive().expect("a message").0, ToEngine::Marks(_)));
    assert!(matches!(client.receive().expect("a message").0, ToEngine::Audio { .. }));
    client.send(&ToWorker::Ping { nonce: 1 }, &[]).expect("a link");
    assert!(matches!(client.receive().expect("a message").0, ToEngine::Pong(_)));
    client
        .send(&ToWorker::Credit(Credit { stream, n: 1 << 20 }), &[])
        .expect("a link");
    assert!(matches!(client.receive().expect("a message").0, ToEngine::Audio { .. }));
}

#[test]
fn hostile_texts_are_spoken_or_refused_and_nothing_breaks() {
    let (mut client, _) = started();
    let control: String = (0..32_u8).map(char::from).collect();
    let zeros = "0".repeat(500);
    let signs = "%$&@=+/()'\"!?;:,.-".repeat(20);
    let texts = [
        "a".repeat(3000),
        zeros,
        signs,
        format!("{control}one{control}"),
        "12345678901234567890.12345e99 $1,000,000,000,000.99 1/2/3/4 XVIII".into(),
        "naïve 你好 \u{202e}\u{feff}\u{1f600} Ünïcödé".into(),
        "Dr. St. ... e.g. A.B.C. www.example.com/x?y=z&q a@b.c".into(),
        "'''''' x' 's '' s's's's".into(),
    ];
    for text in &texts {
        let began = Instant::now();
        speak(&mut client, voice("kal"), &[text]);
        speak(&mut client, voice("rms"), &[&text[..text.floor_char_boundary(200)]]);
        println!("{} bytes in {:?}", text.len(), began.elapsed());
    }
    let stream = client.open(voice("rms")).expect("a link");
    client
        .send(
            &ToWorker::Text(Text {
                stream,
                clause: 0,
                text: "x ".repeat(5000),
            }),
            &[],
        )
        .expect("a link");
    assert_eq!(failure(&mut client).0, code::TOO_LONG);
    let stream = client.open(voice("darth")).expect("a link");
    client
        .send(
            &ToWorker::Text(Text {
                stream,
                clause: 0,
                text: "x".into(),
            }),
            &[],
        )
        .expect("a link");
    let (reason, message) = failure(&mut client);
    assert!(reason == code::UNSUPPORTED && message.contains("rms"), "{message}");
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

/// The recogniser's binary, where it has been built.
fn recogniser() -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_BIN_EXE_repartee-worker-flite")).with_file_name("repartee-worker-pocketsphinx");
    path.is_file().then_some(path)
}

#[test]
fn the_recogniser_understands_the_voice() {
    let Some(binary) = recogniser() else {
        return println!("skipped: the pocketsphinx worker isn't built");
    };
    let (mut listener, _) = Client::start(&binary).expect("a worker");
    if let Err(failed) = listener.load(Job::Stt, "pocketsphinx-en-us", &[]).expect("a link") {
        return println!("skipped: {}", failed.reason);
    }
    let (mut speaker, _) = started();
    let (mut errors, mut words) = (0, 0);
    for text in [
        SENTENCE,
        "Please call me back tomorrow afternoon.",
        "The train to the city leaves at seven.",
    ] {
        let spoken = speak(&mut speaker, voice("rms"), &[text]);
        let stream = listener
            .open(Params::Stt(SttParams {
                rate: 16_000,
                ..SttParams::default()
            }))
            .expect("a link");
        for piece in spoken.pcm.chunks(1600) {
            let bytes: Vec<u8> = piece.iter().flat_map(|sample| sample.to_le_bytes()).collect();
            listener.send(&ToWorker::Audio { stream }, &bytes).expect("a link");
        }
        listener.send(&ToWorker::Finish { stream }, &[]).expect("a link");
        let heard = loop {
            match listener.receive().expect("a message").0 {
                ToEngine::Final(text) => break text.text,
                ToEngine::Failed(failed) => panic!("{failed:?}"),
                _ => {}
            }
        };
        while !matches!(listener.receive().expect("a message").0, ToEngine::Done(_)) {}
        println!("said {text:?}, heard {heard:?}");
        let (wrong, of) = word_errors(text, &heard);
        (errors, words) = (errors + wrong, words + of);
    }
    assert!(errors * 5 <= words, "{errors} of {words} words are wrong");
}
