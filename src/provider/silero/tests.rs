use super::*;

use std::time::Instant;

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
    let samples: Vec<i16> = reader.samples::<i16>().map(|sample| sample.expect("a sample")).collect();
    match reader.spec().sample_rate {
        16_000 => samples,
        8_000 => samples
            .windows(2)
            .flat_map(|pair| [pair[0], ((i32::from(pair[0]) + i32::from(pair[1])) / 2) as i16])
            .collect(),
        rate => panic!("{rate} Hz"),
    }
}

#[test]
fn explore() {
    let (Some(gated), Some(ungated), Some(folder)) = (backend(false), backend(true), recordings()) else {
        return;
    };
    let mut files = vec![];
    for group in ["vad", "conversational", "misc", "noise", "commonvoice", "osr-8k", "fsdd-8k", "cmu-arctic"] {
        for entry in fs::read_dir(folder.join(group)).into_iter().flatten().flatten() {
            if entry.path().extension().is_some_and(|e| e == "wav") { files.push(entry.path()); }
        }
    }
    files.sort();
    let noise = recording(&folder.join("noise/speechbrain_noise1.wav"));
    let (mut runs_all, mut frames_all) = (0usize, 0usize);
    for file in &files {
        let Ok(reader) = hound::WavReader::open(file) else { continue };
        if ![8000, 16000].contains(&reader.spec().sample_rate) || reader.spec().bits_per_sample != 16 || reader.spec().channels != 1 { continue; }
        for db in [0, 10] {
        let mut samples = recording(file);
        // pad with a second of near-silence around
        let mut padded: Vec<i16> = (0..16000).map(|n| ((n * 7919) % 11) as i16 - 5).collect();
        padded.append(&mut samples);
        padded.extend((0..16000).map(|n| ((n * 7919) % 11) as i16 - 5));
        if db > 0 {
            let e = |s: &[i16]| (s.iter().map(|s| f64::from(*s).powi(2)).sum::<f64>() / s.len() as f64).sqrt();
            let gain = e(&padded) / e(&noise) / 10f64.powf(f64::from(db) / 20.0);
            for (at, s) in padded.iter_mut().enumerate() { *s = (f64::from(*s) + gain * f64::from(noise[at % noise.len()])).clamp(-32768.0, 32767.0) as i16; }
        }
        let mut a = gated.open().expect("open");
        let mut b = ungated.open().expect("open");
        let (mut sa, mut sb) = (false, false);
        let (mut frames, mut speech, mut agree_speech, mut agree) = (0, 0, 0, 0);
        let (mut worst, mut pending_a, mut pending_b): (i64, Option<i64>, Option<i64>) = (0, None, None);
        let mut misses = 0;
        let began = Instant::now();
        let probs: Vec<u16> = padded.chunks_exact(512).map(|f| a.process(f).per_mille()).collect();
        let cost_a = began.elapsed();
        let began = Instant::now();
        let truth: Vec<u16> = padded.chunks_exact(512).map(|f| b.process(f).per_mille()).collect();
        let cost_b = began.elapsed();
        for (n, (pa, pb)) in probs.iter().zip(&truth).enumerate() {
            let step = |s: bool, p: u16| if s { p >= 350 } else { p >= 500 };
            let (na, nb) = (step(sa, *pa), step(sb, *pb));
            if na && !sa { pending_a = Some(n as i64); }
            if nb && !sb { pending_b = Some(n as i64); }
            sa = na; sb = nb;
            if let (Some(x), Some(y)) = (pending_a, pending_b) && sa && sb { if (x - y).abs() < 20 { worst = worst.max(x - y); } pending_a = None; pending_b = None; }
            if !nb && pending_b.is_some() { misses += 1; pending_b = None; }
            frames += 1;
            speech += usize::from(nb);
            agree_speech += usize::from(nb && na);
            agree += usize::from(na == nb);
        }
        let awake = cost_a.as_secs_f64() / cost_b.as_secs_f64();
        runs_all += (awake * frames as f64) as usize; frames_all += frames;
        println!("{:>40} db{db:2} frames {frames:5} speech {speech:5} agree {:6.2}% in speech {:6.2}% worst onset {:4} ms missed {misses} cost {:5.1}% ({:.0} µs a frame ungated)",
            file.strip_prefix(&folder).expect("inside").display(), 100.0 * agree as f64 / frames as f64, 100.0 * agree_speech as f64 / speech.max(1) as f64, worst * 32, awake * 100.0, cost_b.as_micros() as f64 / frames as f64);
        }
    }
    println!("overall {}", runs_all as f64 / frames_all as f64);
}
