//! The real worker with synthetic recognisers: they hear the loudest band of a frame as a letter, and nothing in silence.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use repartee_worker_shell::protocol::{
    Done, FinalText, Job, Params, Ready, StreamId, SttParams, ToEngine, ToWorker, code,
};
use repartee_worker_shell::testing::{
    Client, Recording, models_folder, recordings, samples, speech_folder, synthetic_folder, word_errors,
};
use serde_json::{Value, json};

const RATE: usize = 16_000;

/// A packet of 20 ms.
const PACKET: usize = RATE / 50;

/// The recognisers that hear while they're spoken to.
const STREAMING: [&str; 7] = [
    "synthetic-zipformer",
    "synthetic-kroko",
    "synthetic-zipformer-ctc",
    "synthetic-nemo-streaming-ctc",
    "synthetic-nemo-streaming-transducer",
    "synthetic-paraformer-streaming",
    "synthetic-t-one",
];
/// Those that take an utterance as a whole.
const WHOLE: [&str; 7] = [
    "synthetic-sense-voice",
    "synthetic-moonshine",
    "synthetic-parakeet-tdt",
    "synthetic-nemo-transducer",
    "synthetic-nemo-ctc",
    "synthetic-offline-zipformer",
    "synthetic-offline-zipformer-ctc",
];

fn models() -> PathBuf {
    synthetic_folder("sherpa").expect("synthetic models: scripts/synthetic.sh sherpa makes them")
}

fn started(models: &Path) -> Client {
    let binary = Path::new(env!("CARGO_BIN_EXE_repartee-worker-sherpa"));
    let (client, hello) = Client::start_with_models(binary, Some(models)).expect("a worker");
    assert_eq!(hello.jobs, [Job::Stt, Job::Tts]);
    assert!(hello.library.starts_with("sherpa-onnx 2."), "{}", hello.library);
    client
}

fn loaded(model: &str, options: &[(&str, Value)]) -> (Client, Ready) {
    let mut client = started(&models());
    let ready = client.load(Job::Stt, model, options).expect("a link");
    let ready = ready.unwrap_or_else(|failed| panic!("{model}: {}", failed.reason));
    (client, ready)
}

/// A melody's tones and pauses: a word is three tones, and a pause comes before the first and after each.
const TONE: usize = RATE * 2 / 10;
const PAUSE: usize = RATE * 3 / 10;

/// Words of tones between pauses, as loud as speech; `seed` chooses the tones.
fn melody(seed: usize, words: usize) -> Vec<i16> {
    let mut samples = vec![0; PAUSE];
    for word in 0..words {
        for tone in 0..3 {
            let step = (seed * 7 + word * 3 + tone * 5) % 11;
            let hertz = 350.0 + 280.0 * step as f64;
            samples.extend((0..TONE).map(|sample| {
                let phase = std::f64::consts::TAU * hertz * sample as f64 / RATE as f64;
                (phase.sin() * 9000.0) as i16
            }));
        }
        samples.resize(samples.len() + PAUSE, 0);
    }
    samples
}

fn bytes(samples: &[i16]) -> Vec<u8> {
    samples.iter().flat_map(|sample| sample.to_le_bytes()).collect()
}

fn stt() -> SttParams {
    SttParams {
        rate: RATE as u32,
        words: true,
        partials: true,
        ..SttParams::default()
    }
}

#[derive(Clone, Debug, Default)]
struct Heard {
    last: FinalText,
    finals: usize,
    partials: Vec<(String, u32, u32)>,
    cancelled: bool,
}

/// Takes messages until these streams have ended.
fn hear(client: &mut Client, streams: &[StreamId]) -> BTreeMap<StreamId, Heard> {
    let mut heard: BTreeMap<StreamId, Heard> = streams.iter().map(|stream| (*stream, Heard::default())).collect();
    let mut open = streams.len();
    while open > 0 {
        match client.receive().expect("a message").0 {
            ToEngine::Partial(partial) => {
                let of = heard.get_mut(&partial.stream).expect("one of the streams");
                of.partials.push((partial.text, partial.stable_chars, partial.audio_ms));
            }
            ToEngine::Final(text) => {
                let of = heard.get_mut(&text.stream).expect("one of the streams");
                of.finals += 1;
                of.last = text;
            }
            ToEngine::Credit(_) => {}
            ToEngine::Done(Done {
                stream,
                cancelled,
                usage,
                ..
            }) => {
                assert!(cancelled || (usage.compute_us > 0), "{usage:?}");
                heard.get_mut(&stream).expect("one of the streams").cancelled = cancelled;
                open -= 1;
            }
            other => panic!("{other:?}"),
        }
    }
    heard
}

/// Sends a whole utterance in pieces of so many samples, and hears it to its end.
fn transcribe(client: &mut Client, samples: &[i16], piece: usize, params: SttParams) -> Heard {
    let stream = client.open(Params::Stt(params)).expect("a link");
    for piece in samples.chunks(piece) {
        client.send(&ToWorker::Audio { stream }, &bytes(piece)).expect("a link");
    }
    client.send(&ToWorker::Finish { stream }, &[]).expect("a link");
    hear(client, &[stream]).remove(&stream).expect("the stream")
}

/// Sends a second and a bit, waits for what is heard of it, and then sends the rest.
fn transcribe_live(client: &mut Client, samples: &[i16]) -> Heard {
    let stream = client.open(Params::Stt(stt())).expect("a link");
    let (begin, rest) = samples.split_at(RATE * 6 / 5);
    client.send(&ToWorker::Audio { stream }, &bytes(begin)).expect("a link");
    let first = match client.receive().expect("a message").0 {
        ToEngine::Partial(partial) => (partial.text, partial.stable_chars, partial.audio_ms),
        other => panic!("{other:?} instead of a partial"),
    };
    assert!(!first.0.is_empty() && first.2 == 1200, "{first:?}");
    for piece in rest.chunks(PACKET) {
        client.send(&ToWorker::Audio { stream }, &bytes(piece)).expect("a link");
    }
    client.send(&ToWorker::Finish { stream }, &[]).expect("a link");
    let mut heard = hear(client, &[stream]).remove(&stream).expect("the stream");
    heard.partials.insert(0, first);
    heard
}

#[test]
fn every_kind_is_told_from_its_files_and_hears() {
    for (model, hears_at_once) in STREAMING
        .map(|model| (model, true))
        .into_iter()
        .chain(WHOLE.map(|model| (model, false)))
    {
        let (mut client, ready) = loaded(model, &[("partials", json!(true))]);
        assert!(
            ready.model.synthetic && ready.model.streaming && ready.model.rate == 16_000,
            "{ready:?}"
        );
        assert!(ready.warmup_ms > 0 && ready.memory_bytes > 1 << 20, "{ready:?}");
        let heard = transcribe_live(&mut client, &melody(1, 4));
        println!(
            "{model}: load {} ms, {} MiB, {:?}",
            ready.load_ms,
            ready.memory_bytes >> 20,
            heard.last.text
        );
        let text = &heard.last.text;
        assert!(text.chars().count() >= 8 && !heard.cancelled, "{model}: {heard:?}");
        assert_eq!((heard.finals, heard.last.audio_ms), (1, 3900), "{model}");
        assert_eq!(text.to_lowercase(), *text, "{model}");
        // Partials grow, and what is called stable stays.
        assert!(
            !hears_at_once || heard.partials.len() >= 4,
            "{model}: {:?}",
            heard.partials
        );
        assert!(heard.partials.is_sorted_by_key(|(_, _, audio)| *audio), "{model}");
        for (partial, stable, audio) in &heard.partials {
            let kept: String = partial.chars().take(*stable as usize).collect();
            assert!(
                !hears_at_once || text.starts_with(&kept),
                "{model}: {partial:?} {stable}"
            );
            assert!(*audio <= 3900, "{model}");
        }
        if hears_at_once && model != "synthetic-paraformer-streaming" {
            assert!(
                heard.partials.iter().any(|(_, stable, _)| *stable > 3),
                "{model}: {:?}",
                heard.partials
            );
        }
        // Nothing was said, or nothing came at all.
        assert_eq!(
            transcribe(&mut client, &[0; 2 * RATE], PACKET, stt()).last.text,
            "",
            "{model}"
        );
        for samples in [0, 1, 500] {
            let heard = transcribe(&mut client, &vec![0; samples], PACKET, stt());
            assert_eq!(
                (heard.finals, heard.last.text.as_str()),
                (1, ""),
                "{model}: {samples} samples"
            );
        }
        let silent = SttParams {
            partials: false,
            words: false,
            ..stt()
        };
        let quiet = transcribe(&mut client, &melody(1, 4), PACKET, silent);
        assert_eq!(
            (&quiet.last.text, quiet.partials.len(), quiet.last.words.len()),
            (text, 0, 0),
            "{model}"
        );
    }
}

#[test]
fn words_have_the_times_at_which_they_were_said() {
    let with_times = [
        "synthetic-zipformer",
        "synthetic-zipformer-ctc",
        "synthetic-nemo-streaming-ctc",
        "synthetic-nemo-streaming-transducer",
        "synthetic-t-one",
        "synthetic-sense-voice",
        "synthetic-offline-zipformer",
        "synthetic-offline-zipformer-ctc",
    ];
    for model in with_times {
        let (mut client, _) = loaded(model, &[]);
        let last = transcribe(&mut client, &melody(1, 4), PACKET, stt()).last;
        let characters: Vec<char> = last.text.chars().collect();
        assert_eq!(last.words.len(), 4, "{model}: {last:?}");
        for (place, word) in last.words.iter().enumerate() {
            let written: String = characters[word.char_start as usize..word.char_end as usize]
                .iter()
                .collect();
            assert_eq!(written, word.text, "{model}");
            // A frame of the slowest is 80 ms, and the last token may be a frame or two before the sound ends.
            let near = |told: u64, true_place: usize| told.abs_diff(true_place as u64) <= (RATE / 8) as u64;
            let begins = PAUSE + place * (3 * TONE + PAUSE);
            assert!(
                near(word.start, begins) && near(word.end, begins + 3 * TONE),
                "{model}: {word:?} at {begins}"
            );
        }
    }
}

#[test]
fn the_last_word_is_not_lost_at_the_end() {
    for model in STREAMING {
        let (mut client, _) = loaded(model, &[]);
        let long = melody(5, 3);
        let mut quiet = long.clone();
        quiet.resize(long.len() + 3 * RATE, 0);
        let wanted = transcribe(&mut client, &quiet, PACKET, stt()).last.text;
        // Wherever in a chunk the end falls.
        for shorter in (0..PAUSE).step_by(PAUSE / 4) {
            let heard = transcribe(&mut client, &long[..long.len() - shorter], PACKET, stt())
                .last
                .text;
            assert_eq!(heard, wanted, "{model}: {shorter} samples shorter");
        }
    }
}

#[test]
fn packets_make_no_difference() {
    for model in STREAMING.into_iter().chain(WHOLE) {
        let (mut client, _) = loaded(model, &[]);
        let audio = melody(2, 3);
        let first = transcribe(&mut client, &audio, PACKET, stt()).last;
        for piece in [160, 777, RATE, audio.len()] {
            let again = transcribe(&mut client, &audio, piece, stt()).last;
            assert_eq!(
                (again.text, again.words),
                (first.text.clone(), first.words.clone()),
                "{model}: {piece}"
            );
        }
    }
}

#[test]
fn eight_at_once_hear_what_each_hears_alone() {
    for model in STREAMING.into_iter().chain(WHOLE) {
        let (mut client, _) = loaded(model, &[("streams", json!(8))]);
        let melodies: Vec<Vec<i16>> = (0..8).map(|seed| melody(seed, 1 + seed % 4)).collect();
        let alone: Vec<String> = melodies
            .iter()
            .map(|audio| transcribe(&mut client, audio, PACKET, stt()).last.text)
            .collect();
        assert!(alone[3] != alone[7], "{model}: other tones, other words");
        let streams: Vec<StreamId> = melodies
            .iter()
            .map(|_| client.open(Params::Stt(stt())).expect("a link"))
            .collect();
        let longest = melodies.iter().map(Vec::len).max().expect("some");
        for start in (0..longest).step_by(PACKET) {
            for (stream, audio) in streams.iter().zip(&melodies) {
                if let Some(rest) = audio.get(start..).filter(|rest| !rest.is_empty()) {
                    let packet = &rest[..rest.len().min(PACKET)];
                    client
                        .send(&ToWorker::Audio { stream: *stream }, &bytes(packet))
                        .expect("a link");
                    if rest.len() <= PACKET {
                        client.send(&ToWorker::Finish { stream: *stream }, &[]).expect("a link");
                    }
                }
            }
        }
        let heard = hear(&mut client, &streams);
        let together: Vec<String> = heard.into_values().map(|heard| heard.last.text).collect();
        assert_eq!(together, alone, "{model}");
    }
}

#[test]
fn a_cancel_frees_the_place_and_more_than_fit_are_refused() {
    for model in ["synthetic-zipformer", "synthetic-sense-voice"] {
        let (mut client, ready) = loaded(model, &[("streams", json!(1)), ("waiting", json!(1))]);
        assert_eq!((ready.model.max_streams, ready.model.max_waiting), (1, 1));
        let first = client.open(Params::Stt(stt())).expect("a link");
        let second = client.open(Params::Stt(stt())).expect("a link");
        let third = client.open(Params::Stt(stt())).expect("a link");
        assert!(matches!(client.receive().expect("an answer").0,
            ToEngine::Failed(failed) if failed.stream == third && failed.code == code::BUSY));
        client
            .send(&ToWorker::Audio { stream: first }, &bytes(&melody(3, 4)))
            .expect("a link");
        client
            .send(&ToWorker::Audio { stream: second }, &bytes(&melody(4, 2)))
            .expect("a link");
        client.send(&ToWorker::Finish { stream: second }, &[]).expect("a link");
        client.send(&ToWorker::Cancel { stream: first }, &[]).expect("a link");
        let heard = hear(&mut client, &[first, second]);
        assert!(heard[&first].cancelled && heard[&first].finals == 0);
        assert!(!heard[&second].cancelled && heard[&second].finals == 1);
        let again = transcribe(&mut client, &melody(4, 2), PACKET, stt());
        assert_eq!(
            again.last.text, heard[&second].last.text,
            "{model}: nothing is left of what was cancelled"
        );
    }
}

#[test]
fn options_change_what_they_say() {
    let (mut client, ready) = loaded(
        "synthetic-zipformer",
        &[("case", json!("as_is")), ("languages", json!("en-US,en-GB"))],
    );
    assert_eq!(ready.model.languages, ["en-US", "en-GB"]);
    let shouted = transcribe(&mut client, &melody(1, 2), PACKET, stt()).last.text;
    assert_eq!(shouted, shouted.to_uppercase());
    let german = Params::Stt(SttParams {
        language: Some("de-DE".into()),
        ..stt()
    });
    let stream = client.open(german).expect("a link");
    assert!(matches!(client.receive().expect("an answer").0,
        ToEngine::Failed(failed) if failed.stream == stream && failed.code == code::UNSUPPORTED));
    let (_client, ready) = loaded(
        "synthetic-sense-voice",
        &[("partials", json!(false)), ("language", json!("ja"))],
    );
    assert!(!ready.model.streaming, "it says what it does");
    assert_eq!(ready.model.languages, ["ja"]);
}

/// The processor time that the worker has taken, in seconds: the 14th and 15th fields of its `stat`, in hundredths.
fn processor_seconds(client: &Client) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", client.process.id())).expect("a process");
    let (_, fields) = stat.rsplit_once(") ").expect("a name in brackets");
    let fields: Vec<&str> = fields.split(' ').collect();
    let ticks: f64 = fields[11..=12]
        .iter()
        .map(|ticks| ticks.parse::<f64>().expect("a number"))
        .sum();
    ticks / 100.0
}

#[test]
fn sixteen_streams_cost_no_more_each_than_one_alone() {
    let (mut client, ready) = loaded("synthetic-zipformer-bench", &[("streams", json!(16))]);
    let (load, warmup, memory) = (ready.load_ms, ready.warmup_ms, ready.memory_bytes >> 20);
    println!("synthetic-zipformer-bench: load {load} ms, first inference {warmup} ms, {memory} MiB");
    let audio = melody(6, 9);
    let seconds = audio.len() as f64 / RATE as f64;
    // The least of two rounds, in turns, as the machine does other things too.
    let mut costs = BTreeMap::new();
    for count in [1, 4, 16, 1, 4, 16] {
        let streams: Vec<StreamId> = (0..count)
            .map(|_| client.open(Params::Stt(stt())).expect("a link"))
            .collect();
        let (began, spent) = (Instant::now(), processor_seconds(&client));
        for piece in audio.chunks(PACKET) {
            for stream in &streams {
                client
                    .send(&ToWorker::Audio { stream: *stream }, &bytes(piece))
                    .expect("a link");
            }
        }
        for stream in &streams {
            client.send(&ToWorker::Finish { stream: *stream }, &[]).expect("a link");
        }
        hear(&mut client, &streams);
        let heard = seconds * f64::from(count);
        let (took, spent) = (began.elapsed().as_secs_f64(), processor_seconds(&client) - spent);
        println!(
            "{count} streams: real-time factor {:.4}, processor time {:.4} of the speech's, {:.0} streams a core",
            took / heard,
            spent / heard,
            heard / spent
        );
        let cost: &mut f64 = costs.entry(count).or_insert(f64::INFINITY);
        *cost = cost.min(spent / heard);
    }
    // A step for all is one step: what each costs falls, if not by much, since states have to be put together and taken apart. The rest
    // is for a noisy machine.
    assert!(costs[&16] < costs[&1] * 1.5, "{costs:?}");
}

/// The recognisers that the worker finds below a folder.
fn found(models: &Path) -> Vec<String> {
    let binary = env!("CARGO_BIN_EXE_repartee-worker-sherpa");
    let probe = Command::new(binary)
        .arg("--probe")
        .arg("--models")
        .arg(models)
        .output()
        .expect("an answer");
    let probe: Value = serde_json::from_slice(&probe.stdout).expect("JSON");
    let models = probe["models"].as_array().expect("a list");
    let good = models
        .iter()
        .filter(|model| model.get("problem").is_none_or(Value::is_null));
    good.filter_map(|model| model["id"].as_str().map(str::to_owned))
        .collect()
}

#[test]
fn the_probe_lists_what_it_finds() {
    let found = found(&models());
    for model in STREAMING.into_iter().chain(WHOLE) {
        assert!(found.iter().any(|id| id == model), "{model} is not in {found:?}");
    }
}

/// For whoever has real models: `REPARTEE_MODELS` and `REPARTEE_SPEECH` say where they and recordings are.
#[test]
fn real_models_hear_real_speech() {
    let (Some(models), Some(speech)) = (models_folder(), speech_folder()) else {
        return println!("skipped: no models or no recordings");
    };
    let found: Vec<String> = found(&models)
        .into_iter()
        .filter(|id| !id.contains("synthetic"))
        .collect();
    if found.is_empty() {
        return println!("skipped: no recogniser of sherpa-onnx below {}", models.display());
    }
    let clear = ["cmu-arctic", "librispeech", "librivox-sense"];
    let recordings: Vec<Recording> = recordings(&speech)
        .into_iter()
        .filter(|recording| recording.rate == RATE as u32 && clear.contains(&recording.group.as_str()))
        .collect();
    for model in found {
        let mut client = started(&models);
        let ready = client
            .load(Job::Stt, &model, &[])
            .expect("a link")
            .unwrap_or_else(|failed| panic!("{}", failed.reason));
        let (mut errors, mut words, mut partials) = (0, 0, 0);
        for recording in &recordings {
            let audio = samples(&recording.path);
            // What the stream may be sent ahead.
            if audio.len() * 2 >= ready.stream_credit as usize {
                continue;
            }
            let heard = transcribe(&mut client, &audio, PACKET, stt());
            let (wrong, all) = word_errors(&recording.reference, &heard.last.text);
            (errors, words, partials) = (errors + wrong, words + all, partials + heard.partials.len());
        }
        println!(
            "{model}: load {} ms, {} MiB, {errors} of {words} words wrong, {partials} partials",
            ready.load_ms,
            ready.memory_bytes >> 20
        );
        let is_english =
            ready.model.languages.is_empty() || ready.model.languages.iter().any(|tag| tag.starts_with("en"));
        assert!(
            !is_english || errors * 2 < words,
            "{model}: {errors} of {words} words are wrong"
        );
    }
}
