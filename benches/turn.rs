//! The turn model: what a judgement costs, and what it is worth.
//!
//! `cargo bench --bench turn`. First the cost on one thread: the spectrogram alone, the inference alone, and a question
//! from a session's side. Then, where there are recordings, a report: how likely complete the model finds the pauses in
//! which a speaker goes on, and those after which nothing comes; and how a session with and without the model ends turns in
//! them: how often while the speaker goes on, and how long after the end. The session is the real one, in virtual time,
//! with Silero's detector and without a recogniser's words. Both need onnxruntime and the models, which `make setup`
//! fetches; what is missing is left out.

use std::env;
use std::fs;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use repartee::backend::{TurnBackend, VadBackend};
use repartee::call::{BackendKind, Event, Probability, Settings, SttEvent};
use repartee::id::Generation;
use repartee::pii::Pii;
use repartee::provider::onnx::Places;
use repartee::provider::silero::{self, SileroBackend, SileroOptions};
use repartee::provider::smart_turn::measure::Parts;
use repartee::provider::smart_turn::{self, SmartTurnBackend, SmartTurnOptions};
use repartee::session::{Action, Arrival, BackendChange, Input, Output, Session};
use repartee::time::{Samples, Time};

/// What a question takes from a session's side on a quiet machine, inference and spectrogram together.
const ANSWER_AFTER: Duration = Duration::from_millis(40);

/// Samples of a frame of Silero.
const FRAME: usize = 512;

/// Silence behind each recording: longer than any wait for the end of a turn.
const SILENCE: usize = 3 * 16_000;

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn data() -> PathBuf {
    env::var_os("REPARTEE_HOME").map_or_else(|| repository().join(".repartee"), PathBuf::from)
}

/// A model beside the repository, where the set-up has brought none.
fn beside(file: &str) -> Option<PathBuf> {
    let shared = repository().join("../shared/models").join(file);
    (!data().join("models").join(file).is_file() && shared.is_file()).then_some(shared)
}

fn options() -> SmartTurnOptions {
    SmartTurnOptions {
        places: Places {
            library: None,
            data: data(),
        },
        model: beside(smart_turn::MODEL_FILE),
        nice: 0,
    }
}

/// Something that changes all the time, as long as the model listens.
fn noise() -> Vec<i16> {
    let mut seed = 1_u32;
    let sample = |_| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        ((seed >> 16) as u16 as i16) / 8
    };
    (0..128_000).map(sample).collect()
}

fn cost(criterion: &mut Criterion) {
    let (mut parts, backend) = match (
        Parts::load(&options()),
        SmartTurnBackend::load(&options(), Generation::new(1)),
    ) {
        (Ok(parts), Ok(backend)) => (parts, backend),
        (Err(error), _) | (_, Err(error)) => return println!("the turn model is left out: {error}"),
    };
    let sound = noise();
    let mut group = criterion.benchmark_group("turn");
    group.sample_size(20);
    for (name, samples) in [("spectrogram 8 s", 128_000), ("spectrogram 2 s", 32_000)] {
        let sound = &sound[..samples];
        group.bench_function(name, |bencher| bencher.iter(|| parts.features(black_box(sound))));
    }
    group.bench_function("inference", |bencher| bencher.iter(|| parts.inference()));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    group.bench_function("question and answer", |bencher| {
        bencher.iter(|| {
            let mut asked = backend.predict(black_box(&sound)).expect("nobody else asks");
            runtime.block_on(std::future::poll_fn(|context| asked.poll_answer(context)))
        });
    });
    group.finish();
}

/// Speech of one kind, by what a pause in it means.
struct Kind {
    name: &'static str,
    /// Files or folders.
    places: &'static [&'static str],
}

/// A pause in a recording of one sentence is a pause for breath; running speech has ends of sentences in it, after which the
/// speaker goes on all the same.
const KINDS: [Kind; 3] = [
    Kind {
        name: "spontaneous",
        places: &["conversational"],
    },
    Kind {
        name: "read, running",
        places: &["misc/jfk.wav", "misc/two_cities_16k.wav", "misc/intent.wav"],
    },
    Kind {
        name: "read, one sentence",
        places: &[
            "librivox-sense",
            "pocketsphinx-cards",
            "cmu-arctic",
            "speechbrain",
            "librispeech",
        ],
    },
];

/// The recordings of a kind, at 16 kHz.
fn recordings(folder: &Path, kind: &Kind) -> Vec<Vec<i16>> {
    let mut files = Vec::new();
    for place in kind.places {
        let path = folder.join(place);
        if path.is_dir() {
            let inside = fs::read_dir(&path).into_iter().flatten().flatten();
            files.extend(inside.map(|entry| entry.path()));
        } else {
            files.push(path);
        }
    }
    files.sort();
    files.iter().filter_map(|file| read(file)).collect()
}

/// A WAV file at 16 kHz, in a quiet room.
fn read(path: &Path) -> Option<Vec<i16>> {
    let mut reader = hound::WavReader::open(path).ok()?;
    if reader.spec().sample_rate != 16_000 || reader.spec().channels != 1 {
        return None;
    }
    let hush = |at: usize| (at * 7_919 % 11) as i16 - 5;
    let mut sound: Vec<i16> = (0..FRAME * 16).map(hush).collect();
    sound.extend(reader.samples::<i16>().filter_map(Result::ok));
    sound.extend((0..SILENCE).map(hush));
    Some(sound)
}

/// What a session did with a recording.
#[derive(Default)]
struct Outcome {
    /// The model's answers to pauses after which speech goes on, and the last one.
    inside: Vec<u16>,
    at_end: Vec<u16>,
    /// Turns that ended while the speaker went on.
    cut: usize,
    /// From the end of speech to the end of the turn.
    delay: Option<Duration>,
}

/// Lets a session hear `sound`, in virtual time.
fn hear(sound: &[i16], speech: &[Probability], judge: &mut dyn FnMut(&[i16]) -> u16, with_model: bool) -> Outcome {
    let mut settings = Settings::default();
    settings.stages.llm = false;
    settings.stages.tts = false;
    let mut listener = Listener {
        session: Session::new(settings, 1),
        sound,
        judge,
        timer: None,
        answers: Vec::new(),
        asked: Vec::new(),
        ended: Vec::new(),
    };
    listener.input(Time::ZERO, Input::Connected);
    for kind in [BackendKind::Vad, BackendKind::Stt, BackendKind::Turn] {
        let change = if kind == BackendKind::Turn && !with_model {
            BackendChange::Missing {
                reason: "it is switched off".to_owned(),
            }
        } else {
            BackendChange::Ready(Arrival::new("bench", "bench", Generation::new(1)))
        };
        listener.input(Time::ZERO, Input::Backend { kind, change });
    }
    for (number, speech) in speech.iter().enumerate() {
        let end = Samples::new((number as u64 + 1) * FRAME as u64);
        let now = Time::ZERO + end.duration();
        listener.pass(now);
        let dropped = Samples::ZERO;
        listener.input(now, Input::Audio { end, dropped });
        listener.input(now, Input::Vad { end, speech: *speech });
    }
    let last = listener.ended.last().map(|(at, _)| *at);
    let mut outcome = Outcome {
        cut: listener.ended.len().saturating_sub(1),
        delay: listener.ended.last().map(|(_, delay)| *delay),
        ..Outcome::default()
    };
    for (end, per_mille) in listener.asked {
        // A question about the end comes a moment after it; those before it are about pauses.
        if last.is_some_and(|last| end > last) {
            outcome.at_end.push(per_mille);
        } else {
            outcome.inside.push(per_mille);
        }
    }
    outcome
}

struct Listener<'a> {
    session: Session,
    sound: &'a [i16],
    judge: &'a mut dyn FnMut(&[i16]) -> u16,
    timer: Option<Time>,
    /// Answers on their way.
    answers: Vec<(Time, Input)>,
    /// What was asked, and what the model said.
    asked: Vec<(Samples, u16)>,
    /// Where turns ended, and after how much waiting.
    ended: Vec<(Samples, Duration)>,
}

impl Listener<'_> {
    /// Lets time pass until `now`.
    fn pass(&mut self, now: Time) {
        loop {
            let answer = self.answers.iter().map(|(at, _)| *at).min();
            let Some(next) = answer.into_iter().chain(self.timer).min().filter(|at| *at <= now) else {
                return;
            };
            if let Some(index) = self.answers.iter().position(|(at, _)| *at == next) {
                let (_, input) = self.answers.swap_remove(index);
                self.input(next, input);
            } else {
                self.input(next, Input::Tick);
            }
        }
    }

    fn input(&mut self, now: Time, input: Input) {
        self.session.handle(now, input);
        loop {
            match self.session.poll() {
                Output::Timeout(at) => {
                    self.timer = at;
                    return;
                }
                Output::Action(Action::Predict { id, from, end }) => {
                    let place = |at: Samples| usize::try_from(at.count()).unwrap_or(usize::MAX).min(self.sound.len());
                    let per_mille = (self.judge)(&self.sound[place(from)..place(end)]);
                    self.asked.push((end, per_mille));
                    let complete = Some(Probability::from_per_mille(per_mille));
                    self.answers
                        .push((now + ANSWER_AFTER, Input::Prediction { id, complete }));
                }
                Output::Action(Action::CancelPrediction { id }) => {
                    self.answers
                        .retain(|(_, input)| !matches!(input, Input::Prediction { id: other, .. } if *other == id));
                }
                Output::Action(Action::FinishTranscription { id, .. }) => {
                    let text = Pii::from("words");
                    let event = SttEvent::Final { text };
                    self.answers.push((now, Input::Stt { id, event }));
                }
                Output::Action(Action::Emit(Event::SpeechStopped { at, .. })) => {
                    self.ended.push((at, now.since(Time::ZERO + at.duration())));
                }
                Output::Action(_) => {}
            }
        }
    }
}

/// Shares of `values` in the bands between the policy's thresholds and the middle.
fn bands(values: &[u16]) -> String {
    let share = |least: u16, most: u16| {
        let inside = values.iter().filter(|value| (least..most).contains(value)).count();
        format!("{:3.0} %", 100.0 * inside as f64 / values.len().max(1) as f64)
    };
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let median = sorted.get(sorted.len() / 2).copied().unwrap_or_default();
    format!(
        "{:3}: median 0.{median:03}; < 0.1 {}, < 0.5 {}, < 0.975 {}, above {}",
        values.len(),
        share(0, 100),
        share(100, 500),
        share(500, 975),
        share(975, 1_001)
    )
}

fn worth(_criterion: &mut Criterion) {
    let folder = env::var_os("REPARTEE_SPEECH").map_or_else(|| repository().join("../shared/speech"), PathBuf::from);
    if !folder.is_dir() {
        return println!("the report is left out: no recordings in {}", folder.display());
    }
    let detector = SileroBackend::load(
        &SileroOptions {
            places: options().places,
            model: beside(silero::MODEL_FILE),
            ungated: false,
        },
        Generation::new(1),
    );
    let (mut parts, detector) = match (Parts::load(&options()), detector) {
        (Ok(parts), Ok(detector)) => (parts, detector),
        (Err(error), _) => return println!("the report is left out: {error}"),
        (_, Err(error)) => return println!("the report is left out: {error}"),
    };
    let mut judge = |pcm: &[i16]| {
        parts.features(pcm);
        let fraction = parts.inference().expect("it was tried out");
        Probability::from_fraction(fraction).per_mille()
    };
    for kind in &KINDS {
        let sounds = recordings(&folder, kind);
        let (mut inside, mut at_end) = (Vec::new(), Vec::new());
        // Without and with the model.
        let mut cut = [0; 2];
        let mut delays = [Vec::new(), Vec::new()];
        for sound in &sounds {
            let mut vad = detector.open().expect("it is loaded");
            let speech: Vec<_> = sound.chunks_exact(FRAME).map(|frame| vad.process(frame)).collect();
            for (index, with_model) in [false, true].into_iter().enumerate() {
                let outcome = hear(sound, &speech, &mut judge, with_model);
                cut[index] += outcome.cut;
                delays[index].extend(outcome.delay.map(|delay| delay.as_millis()));
                inside.extend(outcome.inside);
                at_end.extend(outcome.at_end);
            }
        }
        println!("{}, {} recordings", kind.name, sounds.len());
        println!("  the speaker goes on, {}", bands(&inside));
        println!("  it was the end,      {}", bands(&at_end));
        let named = ["silence alone", "with the model"].into_iter().zip(cut);
        for ((name, cut), delays) in named.zip(&mut delays) {
            delays.sort_unstable();
            let mean = delays.iter().sum::<u128>() / (delays.len() as u128).max(1);
            let median = delays.get(delays.len() / 2).copied().unwrap_or_default();
            println!(
                "  {name}: {cut} turns cut off; from the end of speech to the end of the turn median {median}, mean {mean} ms"
            );
        }
    }
}

criterion_group!(benches, cost, worth);
criterion_main!(benches);
