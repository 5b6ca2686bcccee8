use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Wake;

use super::*;
use crate::backend::{
    LlmBackend, LlmStream, Push, SttBackend, SttRequest, TtsBackend, TtsEvent, TtsRequest, TurnBackend, VadBackend,
};
use crate::call::{FinishReason, LlmEvent, Message, Probability, Prompt, Role, SttEvent};
use crate::pii::Pii;
use crate::time::Samples;

#[derive(Default)]
struct CountingWaker(AtomicUsize);

impl Wake for CountingWaker {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn waker() -> (Arc<CountingWaker>, Waker) {
    let counting = Arc::new(CountingWaker::default());
    (Arc::clone(&counting), Waker::from(counting))
}

fn prompt(said: &str) -> Prompt {
    Prompt {
        messages: vec![Message {
            role: Role::User,
            text: Pii::from(said),
            tool_calls: Vec::new(),
            call_id: None,
        }],
        tools: Vec::new(),
        max_tokens: 10,
        temperature_milli: None,
    }
}

fn words(text: &str, stable_chars: u32) -> Poll<SttEvent> {
    Poll::Ready(SttEvent::Partial {
        text: Pii::from(text),
        stable_chars,
    })
}

#[test]
fn a_recogniser_hears_its_script_word_by_word() {
    let stt = ScriptedStt::new(["one two three"]).partial_every(Samples::from_millis(100));
    let mut stream = stt.open(SttRequest::default()).expect("a stream");
    let (count, waker) = waker();
    let context = &mut Context::from_waker(&waker);
    assert_eq!(stream.poll_event(context), Poll::Pending);
    assert_eq!(stream.push(&[0; 1599]), Push::Taken);
    assert_eq!(count.0.load(Ordering::SeqCst), 0, "nothing to tell yet");
    assert_eq!(stream.push(&[0; 1]), Push::Taken);
    assert_eq!(count.0.load(Ordering::SeqCst), 1, "woken for the partial");
    assert_eq!(stream.poll_event(context), words("one", 0));
    stream.push(&[0; 1600]);
    assert_eq!(stream.poll_event(context), words("one two", 3));
    assert_eq!(stream.poll_event(context), Poll::Pending);
    stream.finish();
    assert_eq!(count.0.load(Ordering::SeqCst), 3, "woken for the final");
    assert_eq!(
        stream.poll_event(context),
        Poll::Ready(SttEvent::Final {
            text: Pii::from("one two three")
        })
    );
    drop(stream);
    assert_eq!(stt.heard(), [Samples::from_millis(200)]);
    let counts = stt.control().counts();
    assert_eq!((counts.opened, counts.finished, counts.live()), (1, 1, 0));
}

#[test]
fn a_measuring_recogniser_tells_what_it_was_given_and_may_be_full() {
    let stt = ScriptedStt::measuring().full_every(2);
    let mut stream = stt.open(SttRequest::default()).expect("a stream");
    let (count, waker) = waker();
    let context = &mut Context::from_waker(&waker);
    assert_eq!(stream.poll_event(context), Poll::Pending);
    assert_eq!(stream.push(&[0; 160]), Push::Taken);
    assert_eq!(stream.push(&[0; 160]), Push::Full);
    assert_eq!(count.0.load(Ordering::SeqCst), 1, "woken because there is room again");
    assert_eq!(stream.push(&[0; 160]), Push::Taken);
    stream.finish();
    assert_eq!(
        stream.poll_event(context),
        Poll::Ready(SttEvent::Final {
            text: Pii::from("heard 20 milliseconds")
        })
    );
}

#[test]
fn a_model_echoes_and_repeats_its_script() {
    let context = &mut Context::from_waker(Waker::noop());
    let collect = |mut stream: Box<dyn LlmStream>, context: &mut Context<'_>| {
        let mut text = Vec::new();
        loop {
            match stream.poll_event(context) {
                Poll::Ready(LlmEvent::Delta { text: delta }) => text.push(delta.into_exposed()),
                Poll::Ready(LlmEvent::Done { reason }) => return (text, reason),
                other => panic!("{other:?}"),
            }
        }
    };
    let echo = ScriptedLlm::echo();
    let stream = echo.generate(prompt(" hello  there ").into()).expect("a stream");
    let said: Vec<String> = [" hello", "  there", " "].map(str::to_owned).to_vec();
    assert_eq!(collect(stream, context), (said, FinishReason::Stop));
    assert_eq!(echo.prompts().len(), 1);
    let tokens = ScriptedLlm::tokens(["a", "b"]);
    for _ in 0..2 {
        let stream = tokens.generate(prompt("?").into()).expect("a stream");
        assert_eq!(
            collect(stream, context),
            (vec!["a".to_owned(), "b".to_owned()], FinishReason::Stop)
        );
    }
}

#[test]
fn a_voice_lasts_as_long_as_its_text_at_any_rate() {
    for rate in [8_000, 16_000, 22_050, 48_000] {
        let tts = ScriptedTts::default().rate(rate).millis_per_char(50);
        let mut stream = tts
            .synthesize(TtsRequest {
                text: Pii::from("hé you"),
                voice: None,
                language: None,
            })
            .expect("a stream");
        let context = &mut Context::from_waker(Waker::noop());
        let (mut audio, mut timings) = (Vec::new(), Vec::new());
        loop {
            match stream.poll_event(context) {
                Poll::Ready(TtsEvent::Audio { pcm, rate: told }) => {
                    assert_eq!(told, rate);
                    audio.extend(pcm);
                }
                Poll::Ready(TtsEvent::Words(words)) => timings.extend(words),
                Poll::Ready(TtsEvent::Done) => break,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(audio.len() as u32, rate * 300 / 1000);
        assert!(audio.iter().any(|sample| *sample > 7_000));
        let ends: Vec<_> = timings
            .iter()
            .map(|word| (word.end_char, word.end.as_millis()))
            .collect();
        assert_eq!(ends, [(2, 100), (6, 300)]);
    }
}

#[test]
fn an_unknown_voice_is_refused() {
    let tts = ScriptedTts::default().voices(["rms", "slt"]);
    let request = |voice: &str| TtsRequest {
        text: Pii::from("hello"),
        voice: Some(voice.to_owned()),
        language: None,
    };
    assert!(tts.synthesize(request("slt")).is_ok());
    assert!(matches!(
        tts.synthesize(request("nobody")),
        Err(OpenError::Unsupported { .. })
    ));
    let counts = tts.control().counts();
    assert_eq!((counts.opened, counts.refused, counts.cancelled), (1, 1, 1));
}

#[test]
fn faults_come_in_order_and_a_death_wakes_its_streams() {
    let llm = ScriptedLlm::fixed("one two three");
    let control = llm.control();
    control.fail_next(Fault::Busy);
    control.fail_next(Fault::DieAfter(1));
    assert!(matches!(llm.generate(prompt("?").into()), Err(OpenError::Busy { .. })));
    let context = &mut Context::from_waker(Waker::noop());
    let mut stream = llm.generate(prompt("?").into()).expect("a stream");
    assert!(matches!(
        stream.poll_event(context),
        Poll::Ready(LlmEvent::Delta { .. })
    ));
    let Poll::Ready(LlmEvent::Failed(failure)) = stream.poll_event(context) else {
        panic!("it dies after one event");
    };
    assert!(failure.retry);

    control.fail_next(Fault::HangAfter(0));
    let mut hanging = llm.generate(prompt("?").into()).expect("a stream");
    let (count, waker) = waker();
    let context = &mut Context::from_waker(&waker);
    assert_eq!(hanging.poll_event(context), Poll::Pending);
    control.kill();
    assert_eq!(count.0.load(Ordering::SeqCst), 1);
    assert!(matches!(hanging.poll_event(context), Poll::Ready(LlmEvent::Failed(_))));
    assert!(matches!(llm.generate(prompt("?").into()), Err(OpenError::Lost { .. })));
    control.revive();
    drop(llm.generate(prompt("?").into()).expect("a stream"));
    let counts = control.counts();
    assert_eq!((counts.failed, counts.cancelled, counts.live()), (2, 1, 0));
}

#[test]
fn a_slow_fake_waits_on_the_callers_clock() {
    /// Is over when it is polled for the second time.
    struct Once(bool);
    impl Future for Once {
        type Output = ();
        fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
            if std::mem::replace(&mut self.0, true) {
                return Poll::Ready(());
            }
            context.waker().wake_by_ref();
            Poll::Pending
        }
    }
    let waits = Arc::new(Mutex::new(Vec::new()));
    let clock = Clock::new({
        let waits = Arc::clone(&waits);
        move |wait| {
            waits.lock().expect("not poisoned").push(wait.as_millis());
            Box::pin(Once(false))
        }
    });
    let pace = Pace::new(clock, Duration::from_millis(300), Duration::from_millis(20));
    let llm = ScriptedLlm::tokens(["a", "b"]).paced(pace);
    let mut stream = llm.generate(prompt("?").into()).expect("a stream");
    let (count, waker) = waker();
    let context = &mut Context::from_waker(&waker);
    for _ in 0..3 {
        assert_eq!(stream.poll_event(context), Poll::Pending);
        assert!(stream.poll_event(context).is_ready());
    }
    assert_eq!(*waits.lock().expect("not poisoned"), [300, 20, 20]);
    assert_eq!(count.0.load(Ordering::SeqCst), 3);
}

#[test]
fn what_is_loud_is_speech() {
    let backend = ScriptedVad::default();
    let mut vad = backend.open().expect("a VAD");
    assert_eq!(vad.frame_samples(), 320);
    assert_eq!(vad.process(&[0; 320]).per_mille(), 0);
    assert_eq!(vad.process(&[1_000; 320]).per_mille(), 1000);
    assert_eq!(vad.process(&[i16::MIN; 320]).per_mille(), 1000);
}

#[test]
fn a_turn_model_answers_its_script() {
    let turn = ScriptedTurn::new([Some(Probability::from_per_mille(900)), None]);
    let context = &mut Context::from_waker(Waker::noop());
    for expected in [Some(900), None] {
        let mut prediction = turn.predict(&[0; 16]).expect("a question");
        let answer = prediction
            .poll_answer(context)
            .map(|answer| answer.map(Probability::per_mille));
        assert_eq!(answer, Poll::Ready(expected));
    }
}
