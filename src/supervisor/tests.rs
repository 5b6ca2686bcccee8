//! The supervisor with the fake worker of `workers/shell`, as a real process.

use std::future::poll_fn;
use std::path::PathBuf;
use std::time::Duration;

use repartee_protocol::worker::{Job, Params, SttParams, TtsParams};
use serde_json::json;
use tokio::time::timeout;

use super::*;
use crate::id::Generation;

const PATIENCE: Duration = Duration::from_secs(20);

/// The fake worker; `None` (and a line that says so) where it hasn't been built.
pub(crate) fn fake() -> Option<PathBuf> {
    let found = find_worker("fake", &worker_folders()).ok();
    if found.is_none() {
        println!("skipped: the fake worker isn't built (cargo test builds it)");
    }
    found
}

pub(crate) fn start(job: Job, options: &[(&str, serde_json::Value)]) -> Option<Worker> {
    let mut specification = Specification::new("fake", fake()?, job, "fake");
    specification.options = options
        .iter()
        .map(|(name, value)| ((*name).to_owned(), value.clone()))
        .collect();
    let mut next = 0;
    Some(Worker::start(specification, move || {
        next += 1;
        Generation::new(next)
    }))
}

pub(crate) fn stt(wish: &str) -> Params {
    Params::Stt(SttParams {
        rate: 16_000,
        hints: vec![wish.to_owned()],
        partials: true,
        ..SttParams::default()
    })
}

async fn event(stream: &mut Stream) -> StreamEvent {
    timeout(PATIENCE, poll_fn(|context| stream.poll_event(context)))
        .await
        .expect("an event in time")
}

#[tokio::test]
async fn an_utterance_goes_to_a_worker_and_comes_back_as_text() {
    let Some(worker) = start(Job::Stt, &[]) else { return };
    let link = worker.ready().await.expect("the fake worker loads");
    assert_eq!(link.hello().map(|hello| hello.name.as_str()), Some("fake"));
    let mut stream = link.open(stt(""), &[]).expect("a place");
    assert_eq!(stream.send_audio(&[1; 320]), Sent::Taken);
    assert!(matches!(event(&mut stream).await, StreamEvent::Partial(partial) if partial.text == "heard 320"));
    stream.finish();
    assert!(matches!(event(&mut stream).await, StreamEvent::Final(text) if text.text == "heard 320 samples"));
    assert!(matches!(event(&mut stream).await, StreamEvent::Done(done) if !done.cancelled));
    drop(stream);
    assert_eq!(link.open_streams(), 0);
    worker.stop().await;
    assert!(link.lost().is_some());
    assert!(matches!(link.open(stt(""), &[]), Err(OpenRefused::Lost(_))));
}

#[tokio::test]
async fn a_worker_that_dies_fails_its_streams_at_once_and_comes_back() {
    let Some(worker) = start(Job::Stt, &[("lanes", json!(3))]) else {
        return;
    };
    let link = worker.ready().await.expect("the fake worker loads");
    let mut states = worker.state();
    states.mark_unchanged();
    let mut innocent = link.open(stt(""), &[]).expect("a place");
    let mut other = link.open(stt(""), &[]).expect("a place");
    let mut guilty = link.open(stt("abort"), &[]).expect("a place");
    innocent.send_audio(&[0; 320]);
    assert!(matches!(event(&mut innocent).await, StreamEvent::Partial(_)));
    guilty.send_audio(&[0; 320]);
    let mut positions = Vec::new();
    for stream in [&mut innocent, &mut other, &mut guilty] {
        let StreamEvent::Lost {
            generation,
            reason,
            position,
        } = event(stream).await
        else {
            panic!("not lost")
        };
        assert_eq!(generation, Generation::new(1));
        assert!(reason.contains("signal 6 (SIGABRT)"), "{reason}");
        positions.push(position);
    }
    assert_eq!(positions, [0, 1, 2]);
    let again = timeout(PATIENCE, async {
        loop {
            states.changed().await.expect("a supervisor");
            if let State::Ready(link) = &*states.borrow_and_update() {
                return link.clone();
            }
        }
    });
    let again = again.await.expect("it comes back");
    assert_eq!(again.generation(), Generation::new(2));
    let mut stream = again.open(stt(""), &[]).expect("a place");
    stream.finish();
    assert!(matches!(event(&mut stream).await, StreamEvent::Final(_)));
    worker.stop().await;
}

#[tokio::test]
async fn a_panic_and_its_last_words_reach_the_operator() {
    let Some(worker) = start(Job::Stt, &[]) else { return };
    let link = worker.ready().await.expect("the fake worker loads");
    let mut stream = link.open(stt("panic"), &[]).expect("a place");
    let mut other = link.open(stt(""), &[]).expect("a place");
    stream.send_audio(&[0; 320]);
    assert!(matches!(event(&mut stream).await, StreamEvent::Failed(failed) if failed.message.contains("as asked")));
    let StreamEvent::Lost { reason, .. } = event(&mut other).await else {
        panic!("not lost")
    };
    assert!(reason.contains("panicked") && reason.contains("as asked"), "{reason}");
}

#[tokio::test]
async fn a_load_that_fails_says_why_and_is_not_tried_again() {
    let Some(worker) = start(Job::Stt, &[("fail", json!(true))]) else {
        return;
    };
    let reason = worker.ready().await.expect_err("it fails as asked");
    assert!(reason.contains("install the package fake-model"), "{reason}");
    let missing = Specification::new("none", PathBuf::from("/no/such/program"), Job::Stt, "x");
    let worker = Worker::start(missing, || Generation::new(1));
    assert!(
        worker
            .ready()
            .await
            .expect_err("no program")
            .contains("/no/such/program")
    );
    let wrong = Specification::new("true", PathBuf::from("/bin/true"), Job::Stt, "x");
    let worker = Worker::start(wrong, || Generation::new(1));
    let mut states = worker.state();
    let lost = timeout(PATIENCE, states.wait_for(|state| matches!(state, State::Lost { .. }))).await;
    assert!(matches!(lost.expect("in time").as_deref(), Ok(State::Lost { .. })));
}

#[tokio::test]
async fn a_reader_that_does_not_come_holds_the_worker_back() {
    let Some(worker) = start(Job::Tts, &[]) else { return };
    let link = worker.ready().await.expect("the fake worker loads");
    let mut stream = link
        .open(
            Params::Tts(TtsParams {
                marks: true,
                ..TtsParams::default()
            }),
            &[],
        )
        .expect("a place");
    // 500 letters are 25 s of a tone: six times the window.
    assert_eq!(stream.send_text(0, &"x".repeat(500)), Sent::Taken);
    stream.finish();
    assert!(matches!(event(&mut stream).await, StreamEvent::Marks(_)));
    tokio::time::sleep(Duration::from_millis(100)).await;
    let mut bytes = 0;
    loop {
        match event(&mut stream).await {
            StreamEvent::Audio(audio) => bytes += audio.len(),
            StreamEvent::Done(_) => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(bytes, 500 * 800 * 2);
}

#[tokio::test]
async fn places_are_counted_and_a_drop_frees_one() {
    let Some(worker) = start(Job::Stt, &[("lanes", json!(1)), ("waiting", json!(1))]) else {
        return;
    };
    let link = worker.ready().await.expect("the fake worker loads");
    for _ in 0..20 {
        let first = link.open(stt(""), &[]).expect("a place");
        let mut second = link.open(stt(""), &[]).expect("a place in the queue");
        assert!(matches!(
            link.open(stt(""), &[]),
            Err(OpenRefused::Busy { places: 1, waiting: 1 })
        ));
        drop(first);
        second.finish();
        assert!(matches!(event(&mut second).await, StreamEvent::Final(text) if text.text == "heard 0 samples"));
    }
}

#[tokio::test]
async fn audio_faster_than_the_worker_takes_it_is_answered_with_full() {
    let Some(worker) = start(Job::Stt, &[("lanes", json!(1)), ("stream_credit", json!(20_000))]) else {
        return;
    };
    let link = worker.ready().await.expect("the fake worker loads");
    let mut stream = link.open(stt(""), &[]).expect("a place");
    let mut total = 0;
    timeout(
        PATIENCE,
        poll_fn(|context| {
            while total < 320_000 {
                if stream.send_audio(&[0; 1600]) == Sent::Full {
                    while let std::task::Poll::Ready(event) = stream.poll_event(context) {
                        assert!(!event.is_end(), "{event:?}");
                    }
                    return std::task::Poll::Pending;
                }
                total += 1600;
            }
            std::task::Poll::Ready(())
        }),
    )
    .await
    .expect("credit comes back");
    stream.finish();
    loop {
        match event(&mut stream).await {
            StreamEvent::Final(text) => break assert_eq!(text.text, "heard 320000 samples"),
            StreamEvent::Partial(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

/// A worker that is a shell script; its standard input is the link.
fn script(name: &str, lines: &str) -> (tempfile::TempDir, Specification) {
    use std::os::unix::fs::PermissionsExt as _;

    let folder = tempfile::tempdir().expect("a folder");
    let program = folder.path().join(name);
    std::fs::write(&program, format!("#!/bin/sh\n{lines}\n")).expect("a script");
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("it is ours");
    let specification = Specification::new(name, program, Job::Stt, "model.bin");
    (folder, specification)
}

/// What a script says first.
const HELLO: &str = r#"echo '{"type":"hello","protocol":1,"name":"script","version":"1","jobs":["stt"]}' >&0"#;

/// Why such a worker isn't used.
async fn given_up(specification: Specification) -> String {
    let mut next = 0;
    let worker = Worker::start(specification, move || {
        next += 1;
        Generation::new(next)
    });
    timeout(PATIENCE, worker.ready())
        .await
        .expect("it is given up")
        .expect_err("it never loads")
}

#[tokio::test]
async fn a_worker_of_another_version_is_not_used() {
    let (_folder, specification) = script("newer", &HELLO.replace("\"protocol\":1", "\"protocol\":99"));
    let reason = given_up(specification).await;
    for part in ["newer can't be used", "version 99 of the link, not 1"] {
        assert!(reason.contains(part), "{part} in {reason}");
    }
}

#[tokio::test]
async fn a_worker_that_hangs_while_it_loads_is_given_up() {
    let half = r#"printf '{"type":"ready","load_ms":1,"payl' >&0"#;
    for (name, last) in [("silent", ""), ("broken-off", half)] {
        let lines = format!("{HELLO}\nread load <&0\necho 'reading model.bin' >&2\n{last}\nexec sleep 600");
        let (_folder, mut specification) = script(name, &lines);
        specification.load_timeout = Duration::from_millis(300);
        let reason = given_up(specification).await;
        for part in [name, "no loaded model in 300ms", "reading model.bin", "3 times"] {
            assert!(reason.contains(part), "{part} in {reason}");
        }
    }
}

#[tokio::test]
async fn a_program_that_talks_rubbish_is_ended_and_the_reason_says_so() {
    let (_folder, specification) = script("rubbish", "exec cat /dev/zero >&0");
    let worker = Worker::start(specification, || Generation::new(1));
    let mut state = worker.state();
    let told = state.wait_for(|state| matches!(state, State::Lost { reason, .. } if reason.contains("not a frame")));
    let told = timeout(PATIENCE, told)
        .await
        .expect("in time")
        .expect("it is kept")
        .clone();
    let State::Lost { reason, .. } = told else {
        unreachable!()
    };
    assert!(reason.contains("SIGKILL") || reason.contains("exit"), "{reason}");
    worker.stop().await;
}

#[tokio::test]
async fn a_program_that_ends_while_it_loads_is_given_up_with_its_last_words() {
    // Native libraries do this with a file that they can't read.
    let lines = format!("{HELLO}\nread load <&0\necho 'bad magic in model.bin' >&2\nkill -ABRT $$");
    let (_folder, specification) = script("brittle", &lines);
    let reason = given_up(specification).await;
    for part in ["brittle", "model.bin", "bad magic", "signal 6 (SIGABRT)", "3 times"] {
        assert!(reason.contains(part), "{part} in {reason}");
    }
}

#[tokio::test]
async fn a_worker_that_is_dropped_ends_its_streams() {
    let Some(worker) = start(Job::Stt, &[]) else { return };
    let link = worker.ready().await.expect("the fake worker loads");
    let mut stream = link.open(stt(""), &[]).expect("a place");
    drop(worker);
    assert!(matches!(event(&mut stream).await, StreamEvent::Lost { reason, .. } if reason.contains("stopped")));
    assert!(matches!(link.open(stt(""), &[]), Err(OpenRefused::Lost(_))));
}
