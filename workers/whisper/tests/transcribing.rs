//! The worker on a synthetic model, whose hand-set weights write a word for each 0.4 s of sound: its real loading, decoding, streaming and
//! cancelling. They prove no accuracy; `real_models.rs` measures that where there is a real one.

mod common;

use std::time::{Duration, Instant};

use common::{RATE, Utterance, loaded, speech, stt, transcribe, until_all_over};
use repartee_worker_shell::protocol::{SttParams, ToEngine, ToWorker, code};
use serde_json::json;

const ENGLISH: &str = "synthetic-tiny.en.bin";
const MULTILINGUAL: &str = "synthetic-tiny.bin";
const QUANTISED: &str = "synthetic-tiny.en-q8_0.bin";

/// Far more than any decode of these models takes, on a machine that does something else as well.
const SOON: Duration = Duration::from_secs(20);

/// A second at a time with 0.4 s of silence after it. In a pause the worker decodes at once, however busy the machine is; while somebody
/// speaks on, it decodes as often as it can.
fn with_pauses(audio: &[i16]) -> Vec<Vec<i16>> {
    let pause = vec![0; RATE * 2 / 5];
    audio.chunks(RATE).map(|second| [second, &pause].concat()).collect()
}

#[test]
fn a_recording_is_written_down_while_it_is_spoken() {
    for model in [ENGLISH, QUANTISED] {
        let (mut client, ready) = loaded(model, &[]);
        assert!(ready.model.streaming && ready.warmup_ms > 0, "{ready:?}");
        assert_eq!((ready.device.as_str(), ready.fallback.as_deref()), ("cpu", None));
        let audio = speech(5);
        let mut utterance = Utterance::open(&mut client, stt(), ready.stream_credit);
        let began = Instant::now();
        let mut first = None;
        for second in with_pauses(&audio) {
            utterance.send(&mut client, &second, RATE / 50);
            let before = utterance.heard.partials.len();
            // Each second has words of its own, so each brings a partial.
            while utterance.heard.partials.len() == before {
                utterance.receive(&mut client);
            }
            first.get_or_insert(began.elapsed());
        }
        let ended = Instant::now();
        utterance.finish(&mut client);
        utterance.until_over(&mut client);
        let heard = utterance.heard;
        println!(
            "{model}: loaded in {} ms, warm in {} ms, {} MiB; first partial {:?} after a second of speech was there, final {:?} after the end",
            ready.load_ms,
            ready.warmup_ms,
            ready.memory_bytes >> 20,
            first.unwrap_or_default(),
            ended.elapsed()
        );
        heard.assert_stable();
        let stable = heard.partials.last().expect("partials").stable_chars;
        assert!(stable > 10, "most of the words are promised before the end: {heard:?}");
        assert!(heard.text().split(' ').count() >= 8, "{heard:?}");
        let last = &heard.finals[0];
        assert_eq!((last.audio_ms, last.language.as_deref()), (7_000, Some("en")));
        assert!(last.confidence.is_some_and(|confidence| confidence > 0.5), "{last:?}");
        let done = heard.done.expect("it ended well");
        assert!(
            !done.cancelled && done.usage.samples == 7 * RATE as u64 && done.usage.compute_us > 0,
            "{done:?}"
        );
    }
}

#[test]
fn the_same_audio_gives_the_same_words_however_it_comes_and_whatever_came_before() {
    let (mut client, ready) = loaded(ENGLISH, &[]);
    let audio = speech(7);
    let credit = ready.stream_credit;
    let first = transcribe(&mut client, stt(), &audio, 320, credit);
    assert!(!first.text().is_empty());
    transcribe(&mut client, stt(), &audio[RATE..3 * RATE], 320, credit);
    for piece in [160, 1_000, RATE, audio.len()] {
        let again = transcribe(&mut client, stt(), &audio, piece, credit);
        assert_eq!(again.text(), first.text(), "in pieces of {piece}");
    }
    let quiet = SttParams {
        partials: false,
        ..stt()
    };
    let again = transcribe(&mut client, quiet, &audio, 320, credit);
    assert_eq!(again.text(), first.text());
    assert!(again.partials.is_empty(), "nobody asked for them");
}

/// White noise of a tenth of full scale: to the synthetic model the loudest of speech.
fn noise(seconds: usize) -> Vec<i16> {
    let mut state = 1_u32;
    let mut uniform = || {
        // The generator of Numerical Recipes; the sum of twelve is as good as normal.
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 24) as f32
    };
    (0..seconds * RATE)
        .map(|_| (((0..12).map(|_| uniform()).sum::<f32>() - 6.0) * 3_276.8) as i16)
        .collect()
}

#[test]
fn words_are_those_of_the_model() {
    for model in [ENGLISH, MULTILINGUAL] {
        let (mut client, ready) = loaded(model, &[]);
        let heard = transcribe(&mut client, stt(), &noise(3), 320, ready.stream_credit);
        // What `synthetic/README.md` says of it.
        assert_eq!(
            heard.text(),
            "hotel charlie foxtrot alpha delta golf bravo echo",
            "{model}"
        );
        heard.assert_stable();
    }
}

#[test]
fn windows_are_cut_while_words_are_promised() {
    let (mut client, ready) = loaded(ENGLISH, &[("window_ms", json!(8_000))]);
    let mut utterance = Utterance::open(&mut client, stt(), ready.stream_credit);
    for second in with_pauses(&noise(20)) {
        utterance.send(&mut client, &second, RATE / 50);
        let before = utterance.heard.partials.len();
        while utterance.heard.partials.len() == before {
            utterance.receive(&mut client);
        }
    }
    utterance.finish(&mut client);
    utterance.until_over(&mut client);
    let heard = utterance.heard;
    heard.assert_stable();
    let last = heard.partials.last().expect("partials");
    assert!(
        last.stable_chars as usize * 10 > last.text.chars().count() * 8,
        "{last:?}"
    );
    for text in [&last.text, heard.text()] {
        let words = text.split(' ').count();
        // Each second lies in three slots or four.
        assert!((55..=85).contains(&words), "{words} words");
    }
    println!("{} partials", heard.partials.len());
}

#[test]
fn silence_noise_and_nothing_give_no_words() {
    let (mut client, ready) = loaded(ENGLISH, &[]);
    let credit = ready.stream_credit;
    for (what, audio) in [
        ("nothing", vec![]),
        ("a moment", vec![3_000; 100]),
        ("silence", vec![0; 3 * RATE]),
        (
            "a quiet line",
            (0..3 * RATE).map(|sample| (sample % 7) as i16 - 3).collect(),
        ),
        ("much silence", vec![0; 70 * RATE]),
    ] {
        let heard = transcribe(&mut client, stt(), &audio, 3_200, credit);
        assert_eq!(heard.text(), "", "{what}");
        assert!(heard.partials.is_empty(), "{what}: {heard:?}");
    }
}

#[test]
fn a_long_utterance_is_written_down_in_bounded_memory() {
    let (mut client, ready) = loaded(ENGLISH, &[]);
    let audio = speech(120);
    let began = Instant::now();
    let params = SttParams { words: true, ..stt() };
    let mut utterance = Utterance::open(&mut client, params, ready.stream_credit);
    utterance.send(&mut client, &audio, 1_600);
    utterance.finish(&mut client);
    utterance.until_over(&mut client);
    let heard = utterance.heard;
    println!("120 s in {:?}, {} partials", began.elapsed(), heard.partials.len());
    heard.assert_stable();
    let last = &heard.finals[0];
    let words = last.text.split(' ').count();
    // A slot has 0.4 s; a cut falls anywhere within one.
    assert!((200..=310).contains(&words), "{words} words");
    assert_eq!(last.words.len(), words);
    for pair in last.words.windows(2) {
        assert!(
            pair[0].start <= pair[0].end && pair[0].end <= pair[1].start + 8_000,
            "{pair:?}"
        );
    }
    let characters: Vec<char> = last.text.chars().collect();
    for word in &last.words {
        let text: String = characters[word.char_start as usize..word.char_end as usize]
            .iter()
            .collect();
        assert_eq!(text, word.text);
    }
    let end = last.words.last().map_or(0, |word| word.end) as usize;
    assert!((118 * RATE..=120 * RATE).contains(&end), "the last word ends at {end}");
    client.send(&ToWorker::Ping { nonce: 1 }, &[]).expect("a link");
    let pong = client.receive().expect("a pong").0;
    let ToEngine::Pong(pong) = pong else {
        panic!("{pong:?}");
    };
    let grown = pong.memory_bytes.saturating_sub(ready.memory_bytes) >> 20;
    println!(
        "{} MiB after loading, {grown} MiB more after two minutes",
        ready.memory_bytes >> 20
    );
    assert!(grown < 120, "{grown} MiB");
}

#[test]
fn an_utterance_that_is_too_long_is_told_so() {
    let (mut client, ready) = loaded(ENGLISH, &[("window_ms", json!(8_000))]);
    assert_eq!(ready.model.max_input, 300_000);
    let mut utterance = Utterance::open(&mut client, stt(), ready.stream_credit);
    let audio = vec![0; RATE];
    for _ in 0..301 {
        while utterance.heard.credit <= 0 && !utterance.heard.is_over() {
            utterance.receive(&mut client);
        }
        if utterance.heard.is_over() {
            break;
        }
        utterance.send_one(&mut client, &audio);
    }
    utterance.until_over(&mut client);
    assert_eq!(utterance.heard.failed.expect("it failed").0, code::TOO_LONG);
}

#[test]
fn several_streams_are_served_in_turns() {
    for states in [1, 2] {
        let (mut client, ready) = loaded(ENGLISH, &[("streams", json!(4)), ("states", json!(states))]);
        assert_eq!(ready.model.max_streams, 4);
        let audio = speech(6);
        let alone = transcribe(&mut client, stt(), &audio, 320, ready.stream_credit);
        let began = Instant::now();
        let mut utterances: Vec<Utterance> = (0..4)
            .map(|_| Utterance::open(&mut client, stt(), ready.stream_credit))
            .collect();
        for second in audio.chunks(RATE) {
            for utterance in &mut utterances {
                utterance.send_one(&mut client, second);
            }
        }
        for utterance in &mut utterances {
            utterance.finish(&mut client);
        }
        until_all_over(&mut client, &mut utterances);
        println!("{states} state(s): four times 6 s in {:?}", began.elapsed());
        for utterance in utterances {
            utterance.heard.assert_stable();
            assert_eq!(utterance.heard.text(), alone.text());
        }
    }
}

#[test]
fn streams_beyond_the_places_wait_and_are_refused_and_a_cancel_frees_a_place() {
    let (mut client, ready) = loaded(ENGLISH, &[("streams", json!(1)), ("waiting", json!(1))]);
    assert_eq!((ready.model.max_streams, ready.model.max_waiting), (1, 1));
    let mut utterances: Vec<Utterance> = (0..3)
        .map(|_| Utterance::open(&mut client, stt(), ready.stream_credit))
        .collect();
    let audio = speech(2);
    for utterance in &mut utterances[..2] {
        utterance.send_one(&mut client, &audio);
    }
    utterances[1].finish(&mut client);
    let stream = utterances[0].stream;
    client.send(&ToWorker::Cancel { stream }, &[]).expect("a link");
    until_all_over(&mut client, &mut utterances);
    assert_eq!(utterances[2].heard.failed.as_ref().expect("no place").0, code::BUSY);
    assert!(utterances[0].heard.done.as_ref().is_some_and(|done| done.cancelled));
    assert!(!utterances[1].heard.text().is_empty());
}

#[test]
fn a_cancel_in_the_middle_ends_the_stream_soon() {
    let (mut client, ready) = loaded(ENGLISH, &[("full_context", json!(true)), ("beam_size", json!(8))]);
    let audio = speech(9);
    let mut utterance = Utterance::open(&mut client, stt(), ready.stream_credit);
    utterance.send_one(&mut client, &audio);
    utterance.finish(&mut client);
    let stream = utterance.stream;
    // Until the decode is under way.
    let mut busy = 0;
    while busy == 0 {
        client.send(&ToWorker::Ping { nonce: 1 }, &[]).expect("a link");
        loop {
            match client.receive().expect("a message").0 {
                ToEngine::Pong(pong) => {
                    busy = pong.busy_ms;
                    break;
                }
                ToEngine::Credit(_) | ToEngine::Partial(_) => {}
                other => panic!("it ended before it could be cancelled: {other:?}"),
            }
        }
    }
    let began = Instant::now();
    client.send(&ToWorker::Cancel { stream }, &[]).expect("a link");
    utterance.until_over(&mut client);
    let took = began.elapsed();
    println!("cancelled within {took:?}");
    let done = utterance.heard.done.expect("it ended");
    assert!(done.cancelled && utterance.heard.finals.is_empty());
    assert!(took < SOON, "{took:?}");
    let next = transcribe(&mut client, stt(), &audio, 320, ready.stream_credit);
    assert!(!next.text().is_empty(), "the next one is served as if nothing had been");
}

#[test]
fn a_language_is_taken_refused_or_detected() {
    let (mut client, ready) = loaded(MULTILINGUAL, &[]);
    let credit = ready.stream_credit;
    assert_eq!(ready.model.languages.len(), 99);
    let audio = speech(3);
    let with = |language: Option<&str>| SttParams {
        language: language.map(str::to_owned),
        ..stt()
    };
    for (tag, told) in [("de-CH", "de"), ("jv", "jv"), ("nb-NO", "no"), ("en", "en")] {
        let heard = transcribe(&mut client, with(Some(tag)), &audio, 3_200, credit);
        assert_eq!(heard.finals[0].language.as_deref(), Some(told));
        assert!(!heard.text().is_empty());
    }
    let first = transcribe(&mut client, with(None), &audio, 3_200, credit);
    let detected = first.finals[0].language.clone().expect("one was detected");
    println!("detected {detected}");
    assert!(ready.model.languages.contains(&detected));
    let again = transcribe(&mut client, with(None), &audio, 320, credit);
    assert_eq!(again.finals[0].language, Some(detected));
    let refused = transcribe(&mut client, with(Some("tlh")), &[], 320, credit);
    let (code, message) = refused.failed.expect("Klingon");
    assert_eq!(code, code::UNSUPPORTED);
    assert!(message.contains("tlh"), "{message}");
    drop(client);
    let (mut client, ready) = loaded(ENGLISH, &[]);
    assert_eq!(ready.model.languages, ["en"]);
    let refused = transcribe(&mut client, with(Some("de")), &[], 320, ready.stream_credit);
    let (code, message) = refused.failed.expect("German");
    assert_eq!(code, code::UNSUPPORTED);
    assert!(message.contains("English only"), "{message}");
    transcribe(&mut client, with(Some("en-GB")), &audio, 320, ready.stream_credit).text();
}

#[test]
fn prompts_hints_beams_and_the_whole_context_are_taken() {
    let audio = speech(4);
    let params = SttParams {
        hints: vec!["Repartee".into(), "naïve".into(), "[_SOT_]".into()],
        prompt: Some(format!("{}\0 what came before", "word ".repeat(5_000))),
        words: true,
        ..stt()
    };
    for options in [
        vec![],
        vec![("beam_size", json!(3))],
        vec![("full_context", json!(true)), ("partial_interval_ms", json!(1_000))],
    ] {
        let (mut client, ready) = loaded(ENGLISH, &options);
        let heard = transcribe(&mut client, params.clone(), &audio, 320, ready.stream_credit);
        assert!(heard.text().split(' ').count() >= 6, "{options:?}: {heard:?}");
        assert_eq!(heard.finals[0].words.len(), heard.text().split(' ').count());
    }
    let (mut client, ready) = loaded(MULTILINGUAL, &[("translate", json!(true))]);
    let heard = transcribe(&mut client, params, &audio, 320, ready.stream_credit);
    assert!(!heard.text().is_empty());
}

#[test]
fn the_worker_ends_when_its_engine_is_gone() {
    let (mut client, _) = loaded(ENGLISH, &[]);
    client.send(&ToWorker::Stop, &[]).expect("a link");
    let deadline = Instant::now() + SOON;
    while client.process.try_wait().expect("a process").is_none() {
        assert!(Instant::now() < deadline, "the worker is still there");
        std::thread::sleep(Duration::from_millis(2));
    }
}
