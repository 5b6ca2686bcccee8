//! A worker with a synthetic model, and an utterance as the engine holds it.

use std::path::{Path, PathBuf};

use repartee_worker_shell::protocol::{
    Done, FinalText, Job, Params, Partial, Ready, StreamId, SttParams, ToEngine, ToWorker,
};
use repartee_worker_shell::testing::{Client, recordings, samples, speech_folder, synthetic_folder};
use serde_json::Value;

pub const RATE: usize = 16_000;

/// The folder with the synthetic models. A test can't do without.
pub fn models() -> PathBuf {
    synthetic_folder("whisper").expect("the synthetic models are missing: run scripts/synthetic.sh whisper")
}

pub fn started(models: &Path) -> Client {
    let binary = Path::new(env!("CARGO_BIN_EXE_repartee-worker-whisper"));
    let (client, hello) = Client::start_with_models(binary, Some(models)).expect("a worker");
    assert_eq!(hello.jobs, [Job::Stt]);
    client
}

pub fn loaded(model: &str, options: &[(&str, Value)]) -> (Client, Ready) {
    let mut client = started(&models());
    let ready = client
        .load(Job::Stt, model, options)
        .expect("a link")
        .expect("it loads");
    assert!(ready.model.synthetic, "{ready:?}");
    (client, ready)
}

pub fn stt() -> SttParams {
    SttParams {
        rate: RATE as u32,
        partials: true,
        ..SttParams::default()
    }
}

pub fn bytes(samples: &[i16]) -> Vec<u8> {
    samples.iter().flat_map(|sample| sample.to_le_bytes()).collect()
}

/// A recording at 16 kHz, if there are any.
pub fn recording(name: &str) -> Option<Vec<i16>> {
    let found = recordings(&speech_folder()?)
        .into_iter()
        .find(|recording| recording.path.ends_with(name))?;
    assert_eq!(found.rate as usize, RATE);
    Some(samples(&found.path))
}

/// Speech: a recording, or where there are none something as loud, in syllables.
pub fn speech(seconds: usize) -> Vec<i16> {
    let unit = recording("arctic_a0010.wav").unwrap_or_else(|| {
        let syllable = |sample: usize| {
            let time = sample as f32 / RATE as f32;
            let loudness = (time * 4.0 * std::f32::consts::PI).sin().abs() * 8_000.0;
            (loudness * ((time * 1_200.0).sin() + (time * 4_400.0).sin() * (time * 3.0).sin())) as i16
        };
        (0..4 * RATE).map(syllable).collect()
    });
    unit.into_iter().cycle().take(seconds * RATE).collect()
}

/// What was heard of one stream.
#[derive(Debug, Default)]
pub struct Heard {
    pub partials: Vec<Partial>,
    pub finals: Vec<FinalText>,
    pub done: Option<Done>,
    pub failed: Option<(String, String)>,
    pub credit: i64,
}

impl Heard {
    pub fn text(&self) -> &str {
        assert_eq!(self.finals.len(), 1, "exactly one final: {self:?}");
        &self.finals[0].text
    }

    pub fn is_over(&self) -> bool {
        self.done.is_some() || self.failed.is_some()
    }

    fn take(&mut self, message: ToEngine) {
        assert!(!self.is_over(), "{message:?} after the end");
        match message {
            ToEngine::Partial(partial) => {
                assert!(self.finals.is_empty(), "a partial after the final");
                self.partials.push(partial);
            }
            ToEngine::Final(text) => self.finals.push(text),
            ToEngine::Done(done) => self.done = Some(done),
            ToEngine::Failed(failed) => self.failed = Some((failed.code, failed.message)),
            ToEngine::Credit(credit) => self.credit += credit.n as i64,
            other => panic!("{other:?}"),
        }
    }

    /// Each stable prefix begins with the one before.
    pub fn assert_stable(&self) {
        let mut before = String::new();
        for partial in &self.partials {
            let stable: String = partial.text.chars().take(partial.stable_chars as usize).collect();
            assert_eq!(stable.chars().count(), partial.stable_chars as usize, "{partial:?}");
            assert!(stable.starts_with(&before), "{before:?} became {stable:?}");
            before = stable;
        }
    }
}

/// An utterance on its way.
pub struct Utterance {
    pub stream: StreamId,
    pub heard: Heard,
}

impl Utterance {
    pub fn open(client: &mut Client, params: SttParams, credit: u64) -> Self {
        let stream = client.open(Params::Stt(params)).expect("a link");
        let heard = Heard {
            credit: credit as i64,
            ..Heard::default()
        };
        Self { stream, heard }
    }

    /// Takes one message of the link, which is about this stream: in tests with one.
    pub fn receive(&mut self, client: &mut Client) {
        let message = client.receive().expect("a message").0;
        self.heard.take(message);
    }

    /// Sends audio in pieces, as fast as its credit allows.
    pub fn send(&mut self, client: &mut Client, samples: &[i16], piece: usize) {
        for piece in samples.chunks(piece) {
            while self.heard.credit <= 0 {
                self.receive(client);
            }
            self.send_one(client, piece);
        }
    }

    pub fn send_one(&mut self, client: &mut Client, samples: &[i16]) {
        let audio = bytes(samples);
        // The header is some fifty bytes long.
        self.heard.credit -= audio.len() as i64 + 80;
        let stream = self.stream;
        client.send(&ToWorker::Audio { stream }, &audio).expect("a link");
    }

    pub fn finish(&mut self, client: &mut Client) {
        let stream = self.stream;
        client.send(&ToWorker::Finish { stream }, &[]).expect("a link");
    }

    pub fn until_over(&mut self, client: &mut Client) {
        while !self.heard.is_over() {
            self.receive(client);
        }
    }
}

/// A whole utterance at once.
pub fn transcribe(client: &mut Client, params: SttParams, samples: &[i16], piece: usize, credit: u64) -> Heard {
    let mut utterance = Utterance::open(client, params, credit);
    utterance.send(client, samples, piece);
    utterance.finish(client);
    utterance.until_over(client);
    utterance.heard
}

/// Takes messages about several streams until all are over.
pub fn until_all_over(client: &mut Client, utterances: &mut [Utterance]) {
    while utterances.iter().any(|utterance| !utterance.heard.is_over()) {
        let message = client.receive().expect("a message").0;
        let stream = stream_of(&message);
        let utterance = utterances
            .iter_mut()
            .find(|utterance| utterance.stream == stream)
            .expect("a stream of ours");
        utterance.heard.take(message);
    }
}

pub fn stream_of(message: &ToEngine) -> StreamId {
    match message {
        ToEngine::Partial(partial) => partial.stream,
        ToEngine::Final(text) => text.stream,
        ToEngine::Done(done) => done.stream,
        ToEngine::Failed(failed) => failed.stream,
        ToEngine::Credit(credit) => credit.stream,
        other => panic!("{other:?}"),
    }
}
