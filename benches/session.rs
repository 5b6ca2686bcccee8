//! What a step of the session costs: 50 packets of audio and 31 frames of VAD come each second, for each session.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use repartee::call::{BackendKind, Probability, Settings, SttEvent};
use repartee::id::{Generation, TranscriptionId};
use repartee::pii::Pii;
use repartee::session::simulation::{Latencies, Script};
use repartee::session::{Arrival, BackendChange, Input, Output, Session};
use repartee::time::{Samples, Time};

/// A session that hears, and has heard `steps` frames of this loudness.
struct Hearing {
    session: Session,
    steps: u64,
}

impl Hearing {
    fn new() -> Self {
        let mut session = Session::new(Settings::default(), 1);
        session.handle(Time::ZERO, Input::Connected);
        drain(&mut session);
        for kind in BackendKind::ALL {
            let change = BackendChange::Ready(Arrival::new("bench", "bench", Generation::new(1)));
            session.handle(Time::ZERO, Input::Backend { kind, change });
            drain(&mut session);
        }
        Self { session, steps: 0 }
    }

    /// 32 ms of audio and the VAD's word on it.
    fn step(&mut self, per_mille: u16) {
        self.steps += 1;
        let end = Samples::new(self.steps * 512);
        let now = Time::ZERO + end.duration();
        self.session.handle(
            now,
            Input::Audio {
                end,
                dropped: Samples::ZERO,
            },
        );
        drain(&mut self.session);
        let speech = Probability::from_per_mille(per_mille);
        self.session.handle(now, Input::Vad { end, speech });
        drain(&mut self.session);
    }
}

fn drain(session: &mut Session) {
    while let Output::Action(action) = session.poll() {
        black_box(action);
    }
}

fn steps(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("session_step");
    group.bench_function("audio_and_vad_idle", |bencher| {
        let mut hearing = Hearing::new();
        bencher.iter(|| hearing.step(20));
    });
    group.bench_function("audio_and_vad_in_a_turn", |bencher| {
        let mut hearing = Hearing::new();
        for _ in 0..10 {
            hearing.step(900);
        }
        bencher.iter(|| hearing.step(900));
    });
    group.bench_function("partial_transcript", |bencher| {
        let mut hearing = Hearing::new();
        for _ in 0..10 {
            hearing.step(900);
        }
        let texts = [
            "what I would like to know is when",
            "what I would like to know is when the",
        ];
        let mut count = 0_usize;
        bencher.iter(|| {
            count += 1;
            let event = SttEvent::Partial {
                text: Pii::from(texts[count % 2]),
                stable_chars: 10,
            };
            let id = TranscriptionId::new(1);
            hearing.session.handle(Time::from_millis(400), Input::Stt { id, event });
            drain(&mut hearing.session);
        });
    });
    group.finish();
}

/// All inputs of a call with one turn and its reply; no simulation in the measured time.
fn turn(criterion: &mut Criterion) {
    let timeline = Script::default()
        .latencies(Latencies::ORDINARY)
        .user(500, "when does the museum open", 1_300)
        .until(6_000)
        .run();
    let mut group = criterion.benchmark_group("session_turn");
    group.bench_function("six_seconds_with_one_turn", |bencher| {
        bencher.iter_batched(
            || timeline.inputs.clone(),
            |inputs| {
                let mut session = Session::new(Settings::default(), 1);
                for (at, input) in inputs {
                    session.handle(at, input);
                    drain(&mut session);
                }
                session
            },
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

criterion_group!(benches, steps, turn);
criterion_main!(benches);
