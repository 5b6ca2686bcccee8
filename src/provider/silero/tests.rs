use std::cell::Cell;
use std::fs;
use std::path::Path;

use super::*;

thread_local! {
    /// How often the model ran on this thread.
    pub(super) static RUNS: Cell<usize> = const { Cell::new(0) };
}

/// Where the library and the model are on this machine, or why there are none.
fn options(ungated: bool) -> Result<SileroOptions, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let data = env::var_os("REPARTEE_HOME").map_or_else(|| root.join(".repartee"), PathBuf::from);
    let shared = root.join("../shared/models").join(MODEL_FILE);
    let mut options = SileroOptions {
        places: Places { library: None, data },
        model: None,
        ungated,
    };
    if find_model(&options, &|name| env::var_os(name)).is_err() && shared.is_file() {
        options.model = Some(shared);
    }
    find_model(&options, &|name| env::var_os(name)).map_err(|error| error.to_string())?;
    onnx::find_library(&options.places, &|name| env::var_os(name)).map_err(|error| error.to_string())?;
    Ok(options)
}

fn backend(ungated: bool) -> Option<SileroBackend> {
    match options(ungated) {
        Ok(options) => Some(SileroBackend::load(&options, Generation::new(1)).expect("it is there, so it loads")),
        Err(reason) => {
            println!("skipped: {reason}");
            None
        }
    }
}

fn recordings() -> Option<PathBuf> {
    let folder = env::var_os("REPARTEE_SPEECH").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/speech"),
        PathBuf::from,
    );
    if folder.is_dir() {
        Some(folder)
    } else {
        println!("skipped: no recordings in {}", folder.display());
        None
    }
}

/// A recording at 16 kHz.
fn recording(path: &Path) -> Vec<i16> {
    let mut reader = hound::WavReader::open(path).expect("a WAV file");
    let samples: Vec<i16> = reader
        .samples::<i16>()
        .map(|sample| sample.expect("a sample"))
        .collect();
    match reader.spec().sample_rate {
        16_000 => samples,
        8_000 => samples
            .windows(2)
            .flat_map(|pair| [pair[0], ((i32::from(pair[0]) + i32::from(pair[1])) / 2) as i16])
            .collect(),
        rate => panic!("{rate} Hz"),
    }
}

/// `samples` between two stretches of an almost silent second, on top of a noise so many decibels softer than them.
fn call(samples: &[i16], noise: Option<(&[i16], f64)>) -> Vec<i16> {
    let hush = |at: usize| i16::try_from(at * 7919 % 11).expect("less than 11") - 5;
    let mut call: Vec<i16> = (0..16_000).map(hush).collect();
    call.extend_from_slice(samples);
    call.extend((0..16_000).map(hush));
    if let Some((noise, decibels)) = noise {
        let loudness = |samples: &[i16]| {
            let energy: f64 = samples.iter().map(|sample| f64::from(*sample).powi(2)).sum();
            (energy / samples.len() as f64).sqrt()
        };
        let gain = loudness(&call) / loudness(noise) / 10_f64.powf(decibels / 20.0);
        for (sample, noise) in call.iter_mut().zip(noise.iter().cycle()) {
            *sample = (f64::from(*sample) + gain * f64::from(*noise)).clamp(-32_768.0, 32_767.0) as i16;
        }
    }
    call
}

/// Which frames a session would call speech: from a half on, until below 0.35.
fn decisions(vad: &mut dyn Vad, call: &[i16]) -> Vec<bool> {
    let mut speech = false;
    let frames = call.chunks_exact(FRAME);
    frames
        .map(|frame| {
            speech = vad.process(frame).per_mille() >= if speech { 350 } else { 500 };
            speech
        })
        .collect()
}

/// How far two rows of decisions agree.
#[derive(Clone, Copy, Debug, Default)]
struct Agreement {
    frames: usize,
    same: usize,
    speech: usize,
    heard: usize,
    /// Stretches of speech, and those of which nothing was heard within 64 ms of their start.
    onsets: usize,
    late: usize,
    runs: usize,
}

impl Agreement {
    fn add(&mut self, gated: &[bool], ungated: &[bool]) {
        self.frames += gated.len();
        for (at, (gated_speech, speech)) in gated.iter().zip(ungated).enumerate() {
            self.same += usize::from(gated_speech == speech);
            self.speech += usize::from(*speech);
            self.heard += usize::from(*speech && *gated_speech);
            if *speech && (at == 0 || !ungated[at - 1]) {
                self.onsets += 1;
                self.late += usize::from(!gated[at..gated.len().min(at + 3)].contains(&true));
            }
        }
    }
}

#[test]
fn the_gated_model_hears_what_the_ungated_one_hears() {
    let (Some(gated), Some(ungated), Some(folder)) = (backend(false), backend(true), recordings()) else {
        return;
    };
    let noise = recording(&folder.join("noise/speechbrain_noise1.wav"));
    for decibels in [None, Some(10.0)] {
        let mut all = Agreement::default();
        for group in ["vad", "conversational", "cmu-arctic", "osr-8k", "fsdd-8k"] {
            let mut agreement = Agreement::default();
            let mut files: Vec<_> = fs::read_dir(folder.join(group))
                .into_iter()
                .flatten()
                .flatten()
                .map(|entry| entry.path())
                .filter(|path| path.extension().is_some_and(|extension| extension == "wav"))
                .collect();
            files.sort();
            for file in files.into_iter().take(20) {
                let call = call(&recording(&file), decibels.map(|decibels| (noise.as_slice(), decibels)));
                let before = RUNS.get();
                let heard = decisions(gated.open().expect("a VAD").as_mut(), &call);
                let runs = RUNS.get() - before;
                let truth = decisions(ungated.open().expect("a VAD").as_mut(), &call);
                for sum in [&mut agreement, &mut all] {
                    sum.add(&heard, &truth);
                    sum.runs += runs;
                }
            }
            println!("{group} at {decibels:?} dB: {agreement:?}");
        }
        assert!(all.frames > 0, "there are recordings");
        assert!(all.heard * 1000 >= all.speech * 985, "{all:?}");
        assert!(all.same * 1000 >= all.frames * 990, "{all:?}");
        assert!(all.late * 50 <= all.onsets, "{all:?}");
    }
}

#[test]
fn in_silence_and_noise_the_model_sleeps() {
    let (Some(gated), Some(folder)) = (backend(false), recordings()) else {
        return;
    };
    let mut vad = gated.open().expect("a VAD");
    let before = RUNS.get();
    decisions(vad.as_mut(), &vec![0; 60 * 16_000]);
    assert_eq!(RUNS.get() - before, 0, "a minute of digital silence costs no run");
    let office = recording(&folder.join("noise/office-ambience-8000-mono.wav"));
    vad.reset();
    let before = RUNS.get();
    let speech = decisions(vad.as_mut(), &office);
    let runs = RUNS.get() - before;
    println!("office: {runs} runs in {} frames", speech.len());
    assert!(runs * 3 < speech.len());
    assert!(speech.iter().filter(|speech| **speech).count() * 100 < speech.len());
}

#[test]
fn sessions_of_one_thread_share_the_model_and_not_their_state() {
    let (Some(backend), Some(folder)) = (backend(true), recordings()) else {
        return;
    };
    let speech = recording(&folder.join("vad/speechbrain_vad_train.wav"));
    let mut alone = backend.open().expect("a VAD");
    let expected = decisions(alone.as_mut(), &speech);
    assert!(expected.contains(&true) && expected.contains(&false));
    let (mut first, mut second) = (backend.open().expect("a VAD"), backend.open().expect("a VAD"));
    let mut probabilities = Vec::new();
    for frame in speech.chunks_exact(FRAME) {
        probabilities.push(first.process(frame));
        second.process(&[0; FRAME]);
    }
    alone.reset();
    let again: Vec<_> = speech.chunks_exact(FRAME).map(|frame| alone.process(frame)).collect();
    assert_eq!(
        probabilities, again,
        "neither another session nor the past before a reset is heard"
    );
    let engines = ENGINES.with_borrow(Vec::len);
    assert_eq!(engines, 1, "one engine for all sessions of the thread");
}

#[test]
fn each_thread_has_its_own_engine() {
    let Some(backend) = backend(true) else { return };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..2)
            .map(|_| scope.spawn(|| backend.open().expect("a VAD").process(&[0; FRAME])))
            .collect();
        for thread in threads {
            assert!(thread.join().expect("no panic").per_mille() < 500);
        }
    });
}

#[test]
fn a_missing_model_is_named_with_its_remedy() {
    let data = tempfile::tempdir().expect("a directory");
    let options = SileroOptions {
        places: Places {
            library: None,
            data: data.path().to_owned(),
        },
        ..SileroOptions::default()
    };
    let variable = |name: &str| (name == MODELS_VARIABLE).then(|| "/nowhere".into());
    let text = find_model(&options, &variable)
        .expect_err("nothing is there")
        .to_string();
    assert!(text.contains("models/vad/silero_vad.onnx"), "{text}");
    assert!(text.contains("/nowhere/vad/silero_vad.onnx"), "{text}");
    assert!(
        text.contains("make setup") && text.contains("REPARTEE_MODELS"),
        "{text}"
    );
}

#[test]
fn a_file_that_is_no_model_is_an_error() {
    let Ok(options) = options(true) else {
        println!("skipped: no onnxruntime");
        return;
    };
    let folder = tempfile::tempdir().expect("a directory");
    let file = folder.path().join("silero_vad.onnx");
    for bytes in [b"".as_slice(), b"not a model", &[0xff; 4096]] {
        fs::write(&file, bytes).expect("a file");
        let wrong = SileroOptions {
            model: Some(file.clone()),
            ..options.clone()
        };
        let error = SileroBackend::load(&wrong, Generation::new(1)).expect_err("it is no model");
        assert!(matches!(error, SileroError::Unusable { .. }), "{error}");
    }
    // A model, but another one.
    let other = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/models/turn");
    let other = fs::read_dir(other)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|extension| extension == "onnx"));
    if let Some(model) = other {
        let wrong = SileroOptions {
            model: Some(model),
            ..options
        };
        let error = SileroBackend::load(&wrong, Generation::new(1)).expect_err("it is another model");
        let text = error.to_string();
        assert!(text.contains("input (f32), state (f32), sr (i64)"), "{text}");
    }
}
