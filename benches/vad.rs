//! What listening costs one session: WebRTC's detector, and Silero with and without its gate.
//!
//! `cargo bench --bench vad`. Each figure is the time for one frame (20 ms for WebRTC, 32 ms for Silero) of one session,
//! the mean over a stretch of silence, of office noise, or of speech. Silero needs onnxruntime and its model, which `make
//! setup` fetches; without them, its part is left out. At the end it prints the share of a core that one call needs in
//! which the caller speaks a third of the time.

use std::env;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use repartee::backend::{Vad, VadBackend};
use repartee::id::Generation;
use repartee::provider::onnx::Places;
use repartee::provider::silero::{MODEL_FILE, SileroBackend, SileroOptions};
use repartee::provider::webrtc_vad::{Aggressiveness, WebrtcVadBackend};

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A recording at 16 kHz, or something that sounds a little like a voice when there are no recordings.
fn speech() -> Vec<i16> {
    let folder = env::var_os("REPARTEE_SPEECH").map_or_else(|| repository().join("../shared/speech"), PathBuf::from);
    let recording = folder.join("vad/silero_test_60s.wav");
    match hound::WavReader::open(&recording) {
        Ok(mut reader) => reader.samples::<i16>().filter_map(Result::ok).collect(),
        Err(_) => {
            println!("{} is not there: a synthetic voice is used", recording.display());
            let pulse = |at: usize| {
                let phase = (at % 133) as f32;
                // Half a second of voice, half a second of none.
                let voiced = if at % 16_000 < 8_000 { 9_000.0 } else { 0.0 };
                (voiced * (-phase / 30.0).exp() * (phase * 0.27).sin()) as i16
            };
            (0..160_000).map(pulse).collect()
        }
    }
}

/// Noise as even as an office's air conditioning, at −50 dB of full scale.
fn noise() -> Vec<i16> {
    let mut seed = 1_u32;
    let mut low = 0.0_f32;
    let sample = |_| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        low += (f32::from((seed >> 16) as u16) - 32_768.0 - low) * 0.05;
        (low * 0.03) as i16
    };
    (0..160_000).map(sample).collect()
}

fn silero(ungated: bool) -> Option<SileroBackend> {
    let data = env::var_os("REPARTEE_HOME").map_or_else(|| repository().join(".repartee"), PathBuf::from);
    let mut options = SileroOptions {
        places: Places { library: None, data },
        model: None,
        ungated,
    };
    let shared = repository().join("../shared/models").join(MODEL_FILE);
    if !options.places.data.join("models").join(MODEL_FILE).is_file() && shared.is_file() {
        options.model = Some(shared);
    }
    match SileroBackend::load(&options, Generation::new(1)) {
        Ok(backend) => Some(backend),
        Err(error) => {
            println!("Silero is left out: {error}");
            None
        }
    }
}

/// The mean time of a frame when `vad` hears all of `sound`.
fn listen(vad: &mut dyn Vad, sound: &[i16], rounds: u64) -> Duration {
    let mut spent = Duration::ZERO;
    let mut frames = 0;
    let length = vad.frame_samples();
    while frames < rounds {
        vad.reset();
        let began = now();
        for frame in sound.chunks_exact(length) {
            black_box(vad.process(frame));
        }
        spent += began.elapsed();
        frames += (sound.len() / length) as u64;
    }
    spent.mul_f64(rounds as f64 / frames as f64)
}

#[expect(clippy::disallowed_methods, reason = "a bench measures time")]
fn now() -> Instant {
    Instant::now()
}

fn vads(criterion: &mut Criterion) {
    let webrtc = WebrtcVadBackend::new(Aggressiveness::default(), Generation::new(1));
    let mut detectors = vec![("webrtc-vad 20 ms", webrtc.open().expect("it needs nothing"))];
    let (gated, ungated) = (silero(false), silero(true));
    for (name, backend) in [("silero gated 32 ms", &gated), ("silero ungated 32 ms", &ungated)] {
        if let Some(backend) = backend {
            detectors.push((name, backend.open().expect("it is loaded")));
        }
    }
    let sounds = [("silence", vec![0; 160_000]), ("noise", noise()), ("speech", speech())];
    for (name, vad) in &mut detectors {
        let mut group = criterion.benchmark_group(*name);
        group.throughput(Throughput::Elements(1));
        group.sample_size(10);
        for (sound, samples) in &sounds {
            group.bench_with_input(BenchmarkId::from_parameter(sound), samples, |bencher, samples| {
                bencher.iter_custom(|rounds| listen(vad.as_mut(), samples, rounds));
            });
        }
        group.finish();
    }
    // A caller speaks a third of the time, while the other two are quiet but for the line's noise.
    let mut call = vec![0; 0];
    for stretch in speech().chunks(32_000).take(10) {
        call.extend_from_slice(stretch);
        call.extend_from_slice(&noise()[..64_000]);
    }
    for (name, vad) in &mut detectors {
        let frames = (call.len() / vad.frame_samples()) as u64;
        let spent = listen(vad.as_mut(), &call, frames * 3) / 3;
        let share = spent.as_secs_f64() / (call.len() as f64 / 16_000.0);
        println!(
            "{name}: a call with a third of speech needs {:.3} % of a core",
            share * 100.0
        );
    }
}

criterion_group!(benches, vads);
criterion_main!(benches);
