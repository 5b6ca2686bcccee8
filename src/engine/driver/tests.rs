use std::task::Waker;
use std::time::Duration;

use super::super::Place;
use super::super::wire::{Call, connect};
use super::*;
use crate::audio::SampleRate;
use crate::backend::fake::{ScriptedLlm, ScriptedStt, ScriptedTts, ScriptedVad};
use crate::call::{Command, Say, Settings};
use crate::id::SessionId;

/// A driver that nobody drives but the test, with fakes that answer at once.
fn driver() -> (Driver, Call) {
    let registry = Arc::new(Registry::default());
    registry.install(Backend::Vad(Arc::new(ScriptedVad::default())));
    registry.install(Backend::Stt(Arc::new(ScriptedStt::new(["hello"]))));
    registry.install(Backend::Llm(Arc::new(ScriptedLlm::echo())));
    registry.install(Backend::Tts(Arc::new(ScriptedTts::default())));
    registry.mark_missing(BackendKind::Turn, "none".to_owned());
    let clock = Clock::start();
    let (call, port) = connect(SessionId::new(1), clock, Arc::new(Place(None)), Duration::ZERO);
    let surroundings = Surroundings {
        id: SessionId::new(1),
        registry,
        switchboard: None,
        metrics: Arc::default(),
        drain: tokio::sync::watch::channel(None).1,
        retry_after_ms: 0,
    };
    let session = Session::new(Settings::default(), 1);
    let player = Player::new(SampleRate::Hz16000);
    let mut driver = Driver::new(
        clock,
        session,
        port,
        player,
        None,
        surroundings,
        Samples::from_millis(70_000),
    );
    driver.begin(Input::Connected);
    (driver, call)
}

/// Polls once, and answers how often that allocated.
fn allocations(driver: &mut Driver) -> u64 {
    let mut context = Context::from_waker(Waker::noop());
    let counted = allocation_counter::measure(|| {
        assert!(Pin::new(&mut *driver).poll(&mut context).is_pending());
    });
    counted.count_total
}

#[tokio::test]
async fn listening_allocates_nothing() {
    let (mut driver, mut call) = driver();
    let quiet = [3_i16; 320];
    let mut counted = 0;
    for frame in 0..700 {
        call.audio.push(&quiet);
        let allocated = allocations(&mut driver);
        // Until the buffers have their working size: that of the pre-roll, and of the arrivals that are remembered.
        if frame >= 200 {
            counted += allocated;
        }
        // Without a pause, tokio finds that this task has done enough.
        tokio::task::yield_now().await;
    }
    assert_eq!(counted, 0, "allocations in ten seconds of silence");
}

#[tokio::test]
async fn playing_allocates_only_for_the_reports_of_what_was_heard() {
    let (mut driver, mut call) = driver();
    allocations(&mut driver);
    let say = Say {
        text: "One sentence that takes two seconds.".into(),
        interrupt: false,
        interruptible: true,
        remember: true,
    };
    call.commands.try_send(Command::Say(say)).unwrap();
    let mut context = Context::from_waker(Waker::noop());
    let (mut frames, mut counted) = (0, 0);
    while frames < 90 {
        let allocated = allocations(&mut driver);
        while call.frames.poll_recv(&mut context).is_ready() {
            frames += 1;
        }
        if frames > 40 {
            counted += allocated;
        }
        // The driver reads the real clock, so the frames come in real time.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // A report comes every tenth frame, and its two allocations are the core's.
    assert!(counted <= 2 * 6, "{counted} allocations in 50 frames of a reply");
}
