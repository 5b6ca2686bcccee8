//! The real worker, with real speech.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use repartee_worker_shell::protocol::{Done, Job, Params, StreamId, SttParams, ToEngine, ToWorker, code};
use repartee_worker_shell::testing::{Client, recordings, samples, speech_folder, word_errors};
use serde_json::json;

fn started() -> Client {
    let (client, hello) =
        Client::start(Path::new(env!("CARGO_BIN_EXE_repartee-worker-pocketsphinx"))).expect("a worker");
    assert_eq!(hello.jobs, [Job::Stt]);
    client
}

/// A worker with a model, unless the model isn't installed.
fn loaded(model: &str, lanes: u32) -> Option<Client> {
    let mut client = started();
    match client
        .load(Job::Stt, model, &[("lanes", json!(lanes)), ("waiting", json!(1))])
        .expect("a link")
    {
        Ok(ready) => {
            assert!(ready.warmup_ms > 0 && ready.memory_bytes > 1 << 20, "{ready:?}");
            println!(
                "{model}: loaded in {} ms, {} MiB",
                ready.load_ms,
                ready.memory_bytes >> 20
            );
            Some(client)
        }
        Err(failed) => {
            assert!(failed.reason.contains("pocketsphinx-en-us"), "{}", failed.reason);
            println!("skipped: {}", failed.reason);
            None
        }
    }
}

fn stt() -> Params {
    Params::Stt(SttParams {
        rate: 16_000,
        language: Some("en".into()),
        partials: true,
        ..SttParams::default()
    })
}

fn bytes(samples: &[i16]) -> Vec<u8> {
    samples.iter().flat_map(|sample| sample.to_le_bytes()).collect()
}

#[derive(Debug, Default)]
struct Heard {
    text: String,
    partials: Vec<(String, u32)>,
    after_end: Duration,
}

/// Sends a whole utterance as fast as its credit allows, in pieces of `piece` samples.
fn transcribe(client: &mut Client, samples: &[i16], piece: usize, credit: u64) -> Heard {
    let stream = client.open(stt()).expect("a link");
    let mut left = credit as i64;
    let mut heard = Heard::default();
    for piece in samples.chunks(piece) {
        while left <= 0 {
            left += receive(client, stream, &mut heard).expect("no end yet") as i64;
        }
        let audio = bytes(piece);
        left -= audio.len() as i64 + 60;
        client.send(&ToWorker::Audio { stream }, &audio).expect("a link");
    }
    client.send(&ToWorker::Finish { stream }, &[]).expect("a link");
    let ended = Instant::now();
    while receive(client, stream, &mut heard).is_some() {}
    heard.after_end = ended.elapsed();
    heard
}

/// Takes one message: the credit that it brings, or nothing at the end.
fn receive(client: &mut Client, stream: StreamId, heard: &mut Heard) -> Option<u64> {
    match client.receive().expect("a message").0 {
        ToEngine::Partial(partial) => heard.partials.push((partial.text, partial.stable_chars)),
        ToEngine::Final(text) => heard.text = text.text,
        ToEngine::Credit(credit) => return Some(credit.n),
        ToEngine::Done(Done {
            stream: ended,
            cancelled: false,
            usage,
            ..
        }) => {
            assert_eq!(ended, stream);
            assert!(usage.samples > 0 && usage.compute_us > 0);
            return None;
        }
        other => panic!("{other:?}"),
    }
    Some(0)
}

#[test]
fn recordings_are_written_down() {
    let Some(folder) = speech_folder() else {
        return println!("skipped: no recordings");
    };
    for model in ["pocketsphinx-en-us", "pocketsphinx-en-us-fast"] {
        let Some(mut client) = loaded(model, 1) else { return };
        let mut groups: BTreeMap<String, (usize, usize, f64, f64)> = BTreeMap::new();
        let (mut promised, mut broken, mut partials) = (0, 0, 0);
        for recording in recordings(&folder) {
            let clear = ["cmu-arctic", "librivox-sense", "pocketsphinx-cards", "speechbrain"];
            if recording.rate != 16_000 || !clear.contains(&recording.group.as_str()) {
                continue;
            }
            let speech = samples(&recording.path);
            let began = Instant::now();
            let heard = transcribe(&mut client, &speech, 320, 320_000);
            let seconds = speech.len() as f64 / 16_000.0;
            let (errors, words) = word_errors(&recording.reference, &heard.text);
            let group = groups.entry(recording.group).or_default();
            *group = (
                group.0 + errors,
                group.1 + words,
                group.2 + seconds,
                group.3 + began.elapsed().as_secs_f64(),
            );
            partials += heard.partials.len();
            for (text, stable) in &heard.partials {
                let stable: String = text.chars().take(*stable as usize).collect();
                promised += usize::from(!stable.is_empty());
                broken += usize::from(!heard.text.starts_with(&stable));
            }
        }
        println!("{model}: {partials} partials, {promised} with stable words, of which the final changed {broken}");
        let (mut errors, mut words) = (0, 0);
        for (group, (e, w, seconds, took)) in groups {
            let (rate, factor) = (100.0 * e as f64 / w as f64, took / seconds);
            println!("{model}: {group}: {rate:.0} % of {w} words wrong, real-time factor {factor:.2}");
            (errors, words) = (errors + e, words + w);
        }
        assert!(partials > 20, "results come while speech goes on");
        // No target but the recogniser's own: this only tells a broken worker from a weak recogniser.
        assert!(errors * 10 < words * 7, "{errors} of {words} words are wrong");
    }
}

#[test]
fn the_same_audio_gives_the_same_words_whatever_came_before() {
    let Some(folder) = speech_folder() else {
        return println!("skipped: no recordings");
    };
    let Some(mut client) = loaded("pocketsphinx-en-us", 1) else {
        return;
    };
    let all = recordings(&folder);
    let find = |name: &str| {
        all.iter()
            .find(|recording| recording.path.ends_with(name))
            .map(|found| samples(&found.path))
    };
    let (Some(one), Some(other)) = (find("arctic_a0010.wav"), find("001.wav")) else {
        return println!("skipped: other recordings");
    };
    let first = transcribe(&mut client, &one, 320, 320_000);
    transcribe(&mut client, &other, 320, 320_000);
    // In other pieces, too: how a transport cuts its packets makes no difference to the words.
    let second = transcribe(&mut client, &one, 320, 320_000);
    assert_eq!(first.text, second.text);
    println!("final after the end: {:?}", second.after_end);
    assert_eq!(transcribe(&mut client, &one, 16_000, 320_000).text, first.text);
}

#[test]
fn streams_beyond_the_pool_wait_and_are_refused_and_a_cancel_frees_a_place() {
    let Some(mut client) = loaded("pocketsphinx-en-us-fast", 1) else {
        return;
    };
    let first = client.open(stt()).expect("a link");
    let second = client.open(stt()).expect("a link");
    let third = client.open(stt()).expect("a link");
    assert!(matches!(client.receive().expect("an answer").0,
        ToEngine::Failed(failed) if failed.stream == third && failed.code == code::BUSY));
    client
        .send(&ToWorker::Audio { stream: first }, &bytes(&[100; 16_000]))
        .expect("a link");
    client.send(&ToWorker::Finish { stream: second }, &[]).expect("a link");
    client.send(&ToWorker::Cancel { stream: first }, &[]).expect("a link");
    let mut ends = Vec::new();
    while ends.len() < 2 {
        match client.receive().expect("a message").0 {
            ToEngine::Done(done) => ends.push((done.stream, done.cancelled)),
            ToEngine::Final(text) => assert_eq!((text.stream, text.text.as_str()), (second, "")),
            ToEngine::Partial(_) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(ends, [(first, true), (second, false)]);
}

#[test]
fn a_wrong_request_says_what_is_wrong() {
    let mut client = started();
    let failed = client
        .load(Job::Tts, "pocketsphinx-en-us", &[])
        .expect("a link")
        .expect_err("it speaks not");
    assert_eq!(failed.code, code::UNSUPPORTED);
    let failed = client
        .load(Job::Stt, "stt/nothing-here", &[])
        .expect("a link")
        .expect_err("no such model");
    assert_eq!(failed.code, code::MISSING);
    drop(client);
    let Some(mut client) = loaded("pocketsphinx-en-us-fast", 1) else {
        return;
    };
    let german = Params::Stt(SttParams {
        rate: 16_000,
        language: Some("de-DE".into()),
        ..SttParams::default()
    });
    client.open(german).expect("a link");
    assert!(
        matches!(client.receive().expect("an answer").0, ToEngine::Failed(failed) if failed.code == code::UNSUPPORTED)
    );
}

#[test]
fn the_worker_ends_when_its_engine_is_gone() {
    let Some(mut client) = loaded("pocketsphinx-en-us-fast", 1) else {
        return;
    };
    client.send(&ToWorker::Stop, &[]).expect("a link");
    let deadline = Instant::now() + Duration::from_secs(10);
    while client.process.try_wait().expect("a process").is_none() {
        assert!(Instant::now() < deadline, "the worker is still there");
        std::thread::sleep(Duration::from_millis(2));
    }
}
