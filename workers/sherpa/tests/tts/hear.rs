//! Starts the worker, has it speak, and hears it to the end.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use repartee_worker_shell::protocol::{
    Job, LoadFailed, Mark, Open, Params, Ready, StreamId, Text, ToEngine, ToWorker, TtsParams,
};
use repartee_worker_shell::testing::{Client, synthetic_folder};
use serde_json::Value;

pub(crate) const SENTENCE: &str = "Good morning, the weather is good today.";
/// Some seconds of speech in several pieces.
pub(crate) const LONG: &str = "The first thing is to look at the time. Then we can go on with the day, and that is good. \
                    After that there is more to say about it. It is a long way to go, but we will be there.";

pub(crate) fn voices() -> PathBuf {
    synthetic_folder("sherpa").expect("the synthetic models are missing; make them with: scripts/synthetic.sh sherpa")
}

/// Where copies of raw voices go in these tests.
pub(crate) const HOME: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/sherpa-home");

/// The worker in an environment of the tests' own: its copies go to [`HOME`], and without `espeak` there is no espeak-ng.
pub(crate) fn worker(espeak: bool) -> &'static Path {
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

pub(crate) fn client(models: &Path) -> Client {
    let (client, hello) = Client::start_with_models(worker(true), Some(models)).expect("a worker");
    assert!(hello.jobs.contains(&Job::Tts));
    client
}

pub(crate) fn loaded(model: &str, options: &[(&str, Value)]) -> (Client, Ready) {
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

pub(crate) fn refused(models: &Path, model: &str, options: &[(&str, Value)]) -> LoadFailed {
    let outcome = client(models).load(Job::Tts, model, options);
    outcome
        .unwrap_or_else(|error| panic!("{model}: the worker ended instead of answering: {error}"))
        .expect_err(model)
}

pub(crate) fn params() -> TtsParams {
    TtsParams {
        marks: true,
        ..TtsParams::default()
    }
}

pub(crate) fn say(client: &mut Client, stream: StreamId, clause: u32, text: &str) {
    let text = Text {
        stream,
        clause,
        text: text.into(),
    };
    client.send(&ToWorker::Text(text), &[]).expect("a link");
}

#[derive(Default)]
pub(crate) struct Spoken {
    pub(crate) pcm: Vec<i16>,
    pub(crate) marks: Vec<(u32, Mark)>,
    pub(crate) first_audio: Option<Duration>,
    pub(crate) all: Duration,
}

impl Spoken {
    pub(crate) fn take(&mut self, payload: &[u8], since: Instant) {
        self.first_audio.get_or_insert_with(|| since.elapsed());
        let samples = payload
            .as_chunks::<2>()
            .0
            .iter()
            .map(|bytes| i16::from_le_bytes(*bytes));
        self.pcm.extend(samples);
    }
}

/// Opens a stream, says clauses, and hears everything until its end.
pub(crate) fn speak(client: &mut Client, params: TtsParams, texts: &[&str]) -> Spoken {
    let stream = client.open(Params::Tts(params)).expect("a link");
    hear(client, stream, texts)
}

/// The same on a stream of this number.
pub(crate) fn speak_on(client: &mut Client, stream: StreamId, params: TtsParams, texts: &[&str]) -> Spoken {
    let open = Open {
        stream,
        credit: 1 << 40,
        params: Params::Tts(params),
    };
    client.send(&ToWorker::Open(open), &[]).expect("a link");
    hear(client, stream, texts)
}

pub(crate) fn hear(client: &mut Client, stream: StreamId, texts: &[&str]) -> Spoken {
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

pub(crate) fn words(spoken: &Spoken) -> String {
    let words: Vec<&str> = spoken.marks.iter().map(|(_, mark)| mark.text.as_str()).collect();
    words.join(" ")
}

pub(crate) fn level(pcm: &[i16]) -> f64 {
    let sum: f64 = pcm.iter().map(|sample| f64::from(*sample).powi(2)).sum();
    (sum / pcm.len().max(1) as f64).sqrt()
}

/// What every voice has to do.
pub(crate) fn check(spoken: &Spoken, rate: u32, text: &str) {
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

pub(crate) fn failure(client: &mut Client) -> (String, String) {
    loop {
        match client.receive().expect("an answer").0 {
            ToEngine::Failed(failed) => return (failed.code, failed.message),
            ToEngine::Credit(_) => {}
            other => panic!("{other:?}"),
        }
    }
}
