use std::fs;
use std::task::{Context, Poll, Waker};

use super::features::{FRAMES, LogMel, MELS, WINDOW};
use super::measure::Parts;
use super::*;
use crate::call::Probability;

/// The sound of `golden.py`.
fn sound(count: usize) -> Vec<i16> {
    let (mut seed, mut phase) = (1_u32, 0_u32);
    (0..count)
        .map(|at| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            phase = phase.wrapping_add(2_000_000).wrapping_add(at as u32 * 12_000);
            let triangle = ((phase >> 16) as i32 - 32_768).abs() - 16_384;
            let noise = ((seed >> 16) % 401) as i32 - 200;
            let second = at / 16_000;
            let value = triangle.div_euclid([1, 8, 64][second % 3]) + noise.div_euclid([1, 16, 4][second % 3]);
            if second == 4 { 0 } else { value as i16 }
        })
        .collect()
}

/// Every so many frames, one was kept.
const GOLDEN_STEP: usize = 16;

/// What the features may differ by from the reference: a ten-thousandth of their range of two.
const TOLERANCE: f32 = 1e-4;

fn features(pcm: &[i16]) -> Vec<f32> {
    let mut spectrogram = vec![0.0; MELS * FRAMES];
    LogMel::new().compute(pcm, &mut spectrogram);
    spectrogram
}

#[test]
fn the_spectrogram_is_the_reference_s() {
    let golden: Vec<f32> = include_bytes!("golden.f32")
        .chunks_exact(4)
        .map(|bytes| f32::from_le_bytes(bytes.try_into().expect("four bytes")))
        .collect();
    let kept = FRAMES / GOLDEN_STEP * MELS;
    assert_eq!(golden.len(), 2 * kept);
    for (samples, expected) in [(128_000, &golden[..kept]), (36_800, &golden[kept..])] {
        let found = features(&sound(samples));
        let mut worst = 0.0_f32;
        for (number, expected) in expected.iter().enumerate() {
            let (frame, band) = (number / MELS * GOLDEN_STEP, number % MELS);
            worst = worst.max((found[band * FRAMES + frame] - expected).abs());
        }
        println!("{samples} samples: at most {worst:e} from the reference");
        assert!(worst <= TOLERANCE, "{worst}");
    }
}

#[test]
fn only_the_last_eight_seconds_are_heard_and_what_is_missing_is_silence_before() {
    let sound = sound(WINDOW + 5_000);
    assert_eq!(features(&sound), features(&sound[5_000..]));
    let mut padded = vec![0; WINDOW - 40_000];
    padded.extend_from_slice(&sound[..40_000]);
    // Here no frame is taken for another.
    let (quick, slow) = (features(&sound[..40_000]), features(&padded));
    let worst = quick
        .iter()
        .zip(&slow)
        .map(|(quick, slow)| (quick - slow).abs())
        .fold(0.0, f32::max);
    assert!(worst <= 1e-6, "{worst}");
}

#[test]
fn the_memory_of_one_spectrogram_serves_the_next() {
    let (long, short) = (sound(WINDOW), sound(9_000));
    let mut log_mel = LogMel::new();
    let mut spectrogram = vec![f32::NAN; MELS * FRAMES];
    for pcm in [long.as_slice(), short.as_slice(), &[], long.as_slice()] {
        log_mel.compute(pcm, &mut spectrogram);
        assert_eq!(spectrogram, features(pcm), "{} samples", pcm.len());
        assert!(spectrogram.iter().all(|level| level.is_finite()));
    }
    let counted = allocation_counter::measure(|| log_mel.compute(&long, &mut spectrogram));
    assert_eq!(counted.count_total, 0, "nothing is allocated for a spectrogram");
}

/// Where the library and the model are on this machine, or why there are none.
fn options() -> Result<SmartTurnOptions, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let data = env::var_os("REPARTEE_HOME").map_or_else(|| root.join(".repartee"), PathBuf::from);
    let shared = root.join("../shared/models").join(MODEL_FILE);
    let mut options = SmartTurnOptions {
        places: Places { library: None, data },
        model: None,
        nice: 0,
    };
    if find_model(&options, &|name| env::var_os(name)).is_err() && shared.is_file() {
        options.model = Some(shared);
    }
    find_model(&options, &|name| env::var_os(name)).map_err(|error| error.to_string())?;
    onnx::find_library(&options.places, &|name| env::var_os(name)).map_err(|error| error.to_string())?;
    Ok(options)
}

fn installed() -> Option<SmartTurnOptions> {
    options().map_err(|reason| println!("skipped: {reason}")).ok()
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

fn recording(path: &Path) -> Vec<i16> {
    let mut reader = hound::WavReader::open(path).expect("a WAV file");
    assert_eq!(reader.spec().sample_rate, 16_000);
    reader
        .samples::<i16>()
        .map(|sample| sample.expect("a sample"))
        .collect()
}

/// The model runs in 8 bits, and its kernels differ from processor to processor.
const MODEL_TOLERANCE: f32 = 0.05;

#[test]
fn the_model_says_what_it_says_to_python() {
    let Some(options) = installed() else { return };
    let mut parts = Parts::load(&options).expect("it is there, so it loads");
    let mut judge = |pcm: &[i16]| {
        parts.features(pcm);
        parts.inference().expect("it answers")
    };
    // What pipecat 1.14.0 with onnxruntime 1.31.1 says to the same.
    let mut check = |name: &str, pcm: &[i16], expected: f32| {
        let found = judge(pcm);
        println!("{name}: {found}, in Python {expected}");
        assert!(
            (found - expected).abs() <= MODEL_TOLERANCE,
            "{name}: {found}, not {expected}"
        );
    };
    check("a chirp", &sound(WINDOW), 0.161);
    check("a short chirp", &sound(36_800), 0.189);
    let Some(folder) = recordings() else { return };
    for (file, whole, half) in [
        ("misc/jfk.wav", 0.855, 0.208),
        ("cmu-arctic/arctic_a0010.wav", 0.970, 0.008),
        ("pocketsphinx-cards/005.wav", 0.989, 0.869),
        (
            "librivox-sense/sense_and_sensibility_01_austen_64kb-0930.wav",
            0.221,
            0.016,
        ),
    ] {
        let pcm = recording(&folder.join(file));
        check(file, &pcm, whole);
        check(&format!("half of {file}"), &pcm[..pcm.len() / 2], half);
    }
}

#[test]
fn sessions_ask_and_are_answered() {
    let Some(options) = installed() else { return };
    let backend = SmartTurnBackend::load(&options, Generation::new(7)).expect("it is there, so it loads");
    assert_eq!(backend.capabilities().kind, BackendKind::Turn);
    assert_eq!(backend.capabilities().model, "smart-turn-v3");
    assert_eq!(backend.capabilities().generation, Generation::new(7));
    let mut asked: Vec<_> = [0, 4_000, 200_000]
        .map(|samples| backend.predict(&sound(samples)).expect("there is room"))
        .into();
    // Dropped before it is judged, or while it is: both are no one's answer any more.
    drop(backend.predict(&sound(WINDOW)).expect("there is room"));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    let answers = runtime.block_on(async {
        let mut answers: Vec<Option<Probability>> = Vec::new();
        for prediction in &mut asked {
            answers.push(std::future::poll_fn(|context| prediction.poll_answer(context)).await);
        }
        answers
    });
    assert!(answers.iter().all(Option::is_some), "{answers:?}");
}

#[test]
fn the_backend_goes_while_it_is_asked() {
    let Some(options) = installed() else { return };
    let backend = SmartTurnBackend::load(&options, Generation::new(1)).expect("it is there, so it loads");
    let mut asked: Vec<_> = (0..4)
        .map(|_| backend.predict(&sound(8_000)).expect("there is room"))
        .collect();
    drop(backend);
    let mut last = asked.pop().expect("four were asked");
    // It waited behind the others, so it is not judged any more, and that is told at once.
    let mut context = Context::from_waker(Waker::noop());
    assert_eq!(last.poll_answer(&mut context), Poll::Ready(None));
}

#[test]
fn a_missing_model_is_named_with_its_remedy() {
    let data = tempfile::tempdir().expect("a directory");
    let options = SmartTurnOptions {
        places: Places {
            library: None,
            data: data.path().to_owned(),
        },
        ..SmartTurnOptions::default()
    };
    let variable = |name: &str| (name == MODELS_VARIABLE).then(|| "/nowhere".into());
    let error = find_model(&options, &variable).expect_err("nothing is there");
    assert!(error.is_absence());
    let text = error.to_string();
    assert!(text.contains("models/turn/smart-turn-v3.2-cpu.onnx"), "{text}");
    assert!(text.contains("/nowhere/turn/smart-turn-v3.2-cpu.onnx"), "{text}");
    assert!(
        text.contains("make setup") && text.contains("REPARTEE_MODELS"),
        "{text}"
    );
}

#[test]
fn a_file_that_is_no_model_is_an_error_that_names_it() {
    let Some(options) = installed() else { return };
    let real = fs::read(find_model(&options, &|name| env::var_os(name)).expect("it is installed")).expect("it is read");
    let folder = tempfile::tempdir().expect("a directory");
    let file = folder.path().join("smart-turn-v3.2-cpu.onnx");
    for bytes in [
        b"".as_slice(),
        b"not a model",
        &[0xff; 4096],
        &real[..real.len() / 2],
        &real[..real.len() - 1],
    ] {
        fs::write(&file, bytes).expect("a file");
        refuse(&options, &file, "");
    }
    // A model, but another one, under the right name.
    let silero = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/models/vad/silero_vad.onnx");
    if silero.is_file() {
        fs::copy(&silero, &file).expect("a copy");
        refuse(&options, &file, "input_features (f32)");
    } else {
        println!("skipped: no other model");
    }
}

fn refuse(options: &SmartTurnOptions, file: &Path, because: &str) {
    let wrong = SmartTurnOptions {
        model: Some(file.to_owned()),
        ..options.clone()
    };
    let error = SmartTurnBackend::load(&wrong, Generation::new(1)).expect_err("it is no model");
    assert!(
        matches!(error, SmartTurnError::Unusable { .. }) && !error.is_absence(),
        "{error}"
    );
    let text = error.to_string();
    assert!(
        text.contains(&file.display().to_string()) && text.contains(because),
        "{text}"
    );
    println!("{text}");
}
