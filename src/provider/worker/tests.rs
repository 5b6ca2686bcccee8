//! The backends over the fake worker and, where they are built, over the real ones.

use std::future::poll_fn;
use std::time::Duration;

use repartee_protocol::worker::Job;
use tokio::time::timeout;

use super::*;
use crate::backend::{Push, SttRequest, TtsEvent, TtsRequest};
use crate::call::{LlmEvent, Message, Prompt, Role, SttEvent};
use crate::supervisor::{Specification, Worker, find_worker, worker_folders};
use crate::time::SESSION_RATE;

const PATIENCE: Duration = Duration::from_secs(60);

/// A ready worker; `None` (and a line that says so) where it isn't built or its model isn't installed.
async fn ready(name: &str, job: Job, model: &str) -> Option<(Worker, Backend)> {
    let program = match find_worker(name, &worker_folders()) {
        Ok(program) => program,
        Err(missing) => {
            println!("skipped: {missing}");
            return None;
        }
    };
    let worker = Worker::start(Specification::new(name, program, job, model), || Generation::new(1));
    match worker.ready().await {
        Ok(link) => Some((worker, backend(job, &link, 1_000).expect("a job that workers do"))),
        Err(reason) => {
            println!("skipped: {reason}");
            None
        }
    }
}

async fn speak(backend: &Backend, text: &str) -> (Vec<i16>, u32, u32) {
    let Backend::Tts(tts) = backend else { panic!("no voice") };
    let mut stream = tts
        .synthesize(TtsRequest {
            text: text.into(),
            voice: None,
            language: None,
        })
        .expect("a place");
    let (mut samples, mut heard_rate, mut end_char) = (Vec::new(), 0, 0);
    loop {
        match timeout(PATIENCE, poll_fn(|context| stream.poll_event(context)))
            .await
            .expect("an event in time")
        {
            TtsEvent::Audio { pcm, rate } => {
                samples.extend(pcm);
                heard_rate = rate;
            }
            TtsEvent::Words(words) => end_char = words.last().map_or(0, |word| word.end_char),
            TtsEvent::Done => return (samples, heard_rate, end_char),
            TtsEvent::Failed(failure) => panic!("{failure:?}"),
        }
    }
}

#[tokio::test]
async fn the_fake_worker_is_a_backend_of_each_job() {
    let Some((_worker, tts)) = ready("fake", Job::Tts, "fake").await else {
        return;
    };
    assert_eq!(tts.capabilities().voices, ["beep"]);
    let (samples, rate, end_char) = speak(&tts, "beep").await;
    assert_eq!((samples.len(), rate, end_char), (4 * 800, 16_000, 4));
    let Backend::Tts(voice) = &tts else { panic!("no voice") };
    let unknown = TtsRequest {
        text: "x".into(),
        voice: Some("boop".into()),
        language: None,
    };
    assert!(matches!(voice.synthesize(unknown), Err(OpenError::Unsupported { .. })));

    let Some((_worker, Backend::Llm(llm))) = ready("fake", Job::Llm, "fake").await else {
        panic!("no model")
    };
    let message = Message {
        role: Role::User,
        text: "hello".into(),
        tool_calls: Vec::new(),
        call_id: None,
    };
    let prompt = Prompt {
        messages: vec![message],
        tools: Vec::new(),
        max_tokens: 5,
        temperature_milli: None,
    };
    let mut stream = llm.generate(prompt.into()).expect("a place");
    let mut answer = String::new();
    loop {
        match timeout(PATIENCE, poll_fn(|context| stream.poll_event(context)))
            .await
            .expect("an event in time")
        {
            LlmEvent::Delta { text } => answer.push_str(text.expose()),
            LlmEvent::Done { .. } => break,
            other => panic!("{other:?}"),
        }
    }
    assert!(answer.contains("\"content\":\"hello\""), "{answer}");
}

#[tokio::test]
async fn what_the_default_voice_says_the_default_recogniser_writes_down() {
    let Some((_voice, tts)) = ready("flite", Job::Tts, "flite-cmu-us-rms").await else {
        return;
    };
    let Some((_ear, Backend::Stt(stt))) = ready("pocketsphinx", Job::Stt, "pocketsphinx-en-us").await else {
        return;
    };
    let said = "Please call me back tomorrow afternoon.";
    let (samples, rate, end_char) = speak(&tts, said).await;
    assert_eq!((rate, end_char as usize), (SESSION_RATE, said.len()));
    let mut stream = stt
        .open(SttRequest {
            language: Some("en".into()),
            ..SttRequest::default()
        })
        .expect("a place");
    let mut partials = 0;
    let mut left = samples.chunks(320).peekable();
    let text = timeout(
        PATIENCE,
        poll_fn(|context| {
            while let Some(piece) = left.peek() {
                if stream.push(piece) == Push::Full {
                    break;
                }
                left.next();
                if left.peek().is_none() {
                    stream.finish();
                }
            }
            loop {
                match std::task::ready!(stream.poll_event(context)) {
                    SttEvent::Partial { .. } => partials += 1,
                    SttEvent::Final { text } => return std::task::Poll::Ready(text.into_exposed()),
                    SttEvent::Failed(failure) => panic!("{failure:?}"),
                }
            }
        }),
    );
    let text = text.await.expect("a transcript in time");
    println!("said {said:?}, heard {text:?}, {partials} partials");
    assert!(text.contains("call me back"), "{text}");
    assert!(partials > 0);
}
