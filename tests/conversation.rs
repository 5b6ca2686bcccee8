//! Whole conversations over the native wire, in real time. The backends are scripted; the engine and the wire are the real
//! ones, and so is the program where it is the program that is looked at.

mod support;

use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use repartee::backend::fake::{Clock as FakeClock, Pace, ScriptedLlm, ScriptedStt, ScriptedTts};
use repartee::backend::{Backend, Capabilities, OpenError, Push, SttBackend, SttRequest, SttStream};
use repartee::call::{BackendKind, LlmEvent, Role, SttEvent};
use repartee::engine::EngineOptions;
use repartee::id::Generation;
use repartee::metrics::Metrics;
use repartee::registry::Registry;
use repartee::time::{Samples, Time};
use repartee::transport::native::NativeOptions;
use repartee_protocol::native::{
    AudioFormat, Bare, Cancel, CloseReason, Codec, Digit, Dtmf, Edit, EndpointingUpdate, ErrorCode, Event, Framing,
    Hello, Private, Request, ResponseStatus, Role as WireRole, Say, SettingsUpdate, StagesUpdate, Text, TurnDetection,
};
use repartee_protocol::rtp::{DigitSender, RtpSender, payload_type};
use support::client::messages;
use support::speech::recording;
use support::{Client, Fakes, LIMIT, ServerProcess, TestServer, eventually, silence, tone};

/// Some fourteen seconds at the pace of the fake voice.
const LONG: &str = "Certainly, I can tell you all about it. The museum opens at nine in the morning and closes at six in \
                    the evening. On Mondays it is closed. Children under twelve pay nothing, and neither does anybody who \
                    comes on the first Sunday of a month.";

fn private(text: &str) -> Private {
    Private::from(text)
}

fn say(text: &str) -> Request {
    Request::Say(Say::new(text))
}

fn typed(text: &str) -> Request {
    Request::Text(Text { text: private(text) })
}

fn kind(event: &Event) -> String {
    let value = serde_json::to_value(event).expect("an event is JSON");
    value["type"].as_str().unwrap_or_default().to_owned()
}

/// The frames of a reply come one by one, 20 ms apart.
fn assert_paced(times: &[Time]) {
    let span = times[times.len() - 1].since(times[0]);
    let nominal = Duration::from_millis(20) * u32::try_from(times.len() - 1).unwrap();
    assert!(
        span.abs_diff(nominal) < Duration::from_millis(100),
        "{} frames in {span:?}",
        times.len()
    );
    let mut gaps: Vec<Duration> = times.windows(2).map(|pair| pair[1].since(pair[0])).collect();
    gaps.sort();
    let median = gaps[gaps.len() / 2];
    assert!(
        median.abs_diff(Duration::from_millis(20)) < Duration::from_millis(5),
        "{median:?} between frames in the middle"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_turn_from_the_first_word_to_the_last_frame() {
    let stt = ScriptedStt::new(["when does the museum open today"]).partial_every(Samples::from_millis(200));
    let llm = ScriptedLlm::fixed("At nine. Do you want to know more about the prices?");
    let server = TestServer::with(Fakes::new(stt, llm)).await;
    let mut client = Client::open(server.address).await;
    assert!(client.ready.session.starts_with("sess_"));
    client.speak(tone(16_000, 1_400)).await;
    let report = client.turn_report().await;
    let done = client.response_done().await;

    let mut partials: Vec<(u32, String)> = Vec::new();
    for (_, event) in &client.events {
        let Event::Transcript(transcript) = event else { continue };
        let text = transcript.text.expose();
        assert!(transcript.stable_chars as usize <= text.chars().count());
        if let Some((revision, before)) = partials.last() {
            assert!(transcript.revision > *revision);
            assert!(text.starts_with(before.as_str()), "the script only ever adds words");
        }
        partials.push((transcript.revision, text.to_owned()));
    }
    assert!(partials.len() >= 4, "{}", client.story());
    assert_eq!(partials.last().unwrap().1, "when does the museum open today");

    let order: Vec<String> = client.events.iter().map(|(_, event)| kind(event)).collect();
    let at = |wanted: &str| {
        order
            .iter()
            .position(|kind| kind == wanted)
            .unwrap_or_else(|| panic!("no {wanted} in {}", client.story()))
    };
    for pair in [
        "speech_started",
        "transcript",
        "speech_stopped",
        "response_started",
        "response_text",
        "audio_started",
        "audio_done",
        "response_done",
    ]
    .windows(2)
    {
        assert!(at(pair[0]) < at(pair[1]), "{pair:?} in {}", client.story());
    }
    let text: String = client
        .events
        .iter()
        .filter_map(|(_, event)| match event {
            Event::ResponseText(text) => Some(text.delta.expose()),
            _ => None,
        })
        .collect();
    assert_eq!(text, done.text.expose());
    assert_eq!(
        (done.status, done.heard.expose()),
        (ResponseStatus::Completed, done.text.expose())
    );

    // 30 ms a character: what the fake voice makes of it, and no more than a frame of padding.
    assert!(client.frames.iter().all(|frame| frame.pcm.len() == 320));
    let heard_ms = client.frames.len() as u64 * 20;
    assert!(
        heard_ms.abs_diff(done.heard_ms.as_f64() as u64) <= 20,
        "{heard_ms} and {done:?}"
    );
    assert_paced(&client.frames.iter().map(|frame| frame.at).collect::<Vec<_>>());

    let sum: u64 = report.stages.iter().map(|stage| stage.ms.as_micros()).sum();
    assert_eq!(sum, report.total_ms.as_micros(), "the parts add up");
    assert_eq!(report.stages.len(), 6, "{report:?}");
    let endpointing = report.endpointing_ms.unwrap().as_f64();
    assert!((599.0..700.0).contains(&endpointing), "{endpointing} ms");
    assert!(
        report.total_ms.as_f64() - endpointing < 100.0,
        "instant backends: {report:?}"
    );
    client.bye().await;
    eventually("the session is over", LIMIT, || server.engine.live() == 0).await;
}

/// A recogniser that keeps what it is given.
struct Keeping {
    capabilities: Capabilities,
    kept: Arc<Mutex<Vec<Vec<i16>>>>,
}

impl Keeping {
    fn new() -> Self {
        let capabilities = Capabilities {
            kind: BackendKind::Stt,
            name: "keeping".to_owned(),
            model: "none".to_owned(),
            generation: Generation::new(1),
            languages: Vec::new(),
            voices: Vec::new(),
            streaming: false,
        };
        Self {
            capabilities,
            kept: Arc::default(),
        }
    }
}

impl SttBackend for Keeping {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn open(&self, _: SttRequest) -> Result<Box<dyn SttStream>, OpenError> {
        Ok(Box::new(KeepingStream {
            samples: Vec::new(),
            finished: false,
            kept: Arc::clone(&self.kept),
        }))
    }
}

struct KeepingStream {
    samples: Vec<i16>,
    finished: bool,
    kept: Arc<Mutex<Vec<Vec<i16>>>>,
}

impl SttStream for KeepingStream {
    fn push(&mut self, pcm: &[i16]) -> Push {
        self.samples.extend_from_slice(pcm);
        Push::Taken
    }

    fn finish(&mut self) {
        self.finished = true;
    }

    fn poll_event(&mut self, _: &mut Context<'_>) -> Poll<SttEvent> {
        if !self.finished {
            // It is polled again after each push and after `finish`: both happen in the driver that polls it.
            return Poll::Pending;
        }
        let samples = std::mem::take(&mut self.samples);
        // A sum over all samples: the slightest difference shows in the words.
        let sum = samples.iter().fold(0_u64, |sum, sample| {
            sum.wrapping_mul(31).wrapping_add(u64::from(sample.cast_unsigned()))
        });
        let text = format!("{} samples of sum {sum}", samples.len());
        self.kept.lock().unwrap().push(samples);
        Poll::Ready(SttEvent::Final { text: text.into() })
    }
}

async fn keeping_server() -> (TestServer, Arc<Mutex<Vec<Vec<i16>>>>) {
    let registry = Arc::new(Registry::default());
    let keeping = Keeping::new();
    let kept = Arc::clone(&keeping.kept);
    let fakes = Fakes::default();
    registry.install(Backend::Vad(fakes.vad.clone()));
    registry.install(Backend::Stt(Arc::new(keeping)));
    registry.install(Backend::Llm(fakes.llm.clone()));
    registry.install(Backend::Tts(fakes.tts.clone()));
    registry.mark_missing(BackendKind::Turn, "not needed here".to_owned());
    let server = TestServer::serve(registry, fakes, NativeOptions::default(), EngineOptions::default()).await;
    (server, kept)
}

fn client_turns() -> Option<SettingsUpdate> {
    Some(SettingsUpdate {
        turn_detection: Some(TurnDetection::Client),
        ..SettingsUpdate::default()
    })
}

/// Speech, or a tone where there are no recordings.
fn speech(rate: u32) -> Vec<i16> {
    match recording("librivox-sense/sense_and_sensibility_01_austen_64kb-0930.wav") {
        Some(recording) => recording.samples(rate),
        None => tone(rate, 3_000),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn raw_and_rtp_of_one_codec_are_heard_alike() {
    let (server, kept) = keeping_server().await;
    for codec in Codec::ALL {
        let mut transcripts = Vec::new();
        for framing in Framing::ALL {
            let format = AudioFormat {
                framing,
                ..AudioFormat::of(codec)
            };
            let hello = Hello {
                input: format,
                settings: client_turns(),
                ..Hello::default()
            };
            let mut client = Client::open_with(server.address, hello).await;
            let samples = speech(format.rate.hertz());
            let sent = messages(&format, &samples);
            let millis = sent.len() as f64 * 20.0;
            for message in sent {
                client.raw(message).await;
            }
            // What the resampler still holds comes with the audio after it.
            while client.status().await.received_ms.as_f64() < millis - 40.0 {}
            client.request(Request::Commit(Bare {})).await;
            transcripts.push(client.final_transcript().await.text.into_exposed());
        }
        assert_eq!(transcripts[0], transcripts[1], "{codec}");
        let kept: Vec<Vec<i16>> = std::mem::take(&mut *kept.lock().unwrap());
        assert_eq!(kept.len(), 2, "{codec}");
        assert!(kept[0].len() > 40_000, "{codec}: {} samples", kept[0].len());
        assert!(kept[0] == kept[1], "{codec}: the samples differ");
        assert!(
            kept[0].iter().any(|sample| sample.unsigned_abs() > 1_000),
            "{codec} is not silence"
        );
    }
}

#[tokio::test]
async fn commit_takes_all_that_was_sent_before_it() {
    let server = TestServer::start().await;
    let hello = Hello {
        settings: client_turns(),
        ..Hello::default()
    };
    let mut client = Client::open_with(server.address, hello).await;
    for millis in [1_000, 500, 1_800] {
        let bytes: Vec<u8> = tone(16_000, millis)
            .iter()
            .flat_map(|sample| sample.to_le_bytes())
            .collect();
        client.raw(bytes).await;
        client.request(Request::Commit(Bare {})).await;
        let transcript = client.final_transcript().await;
        assert_eq!(transcript.text.expose(), format!("heard {millis} milliseconds"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interruption_is_silent_at_once_and_the_history_holds_what_was_heard() {
    let fakes = Fakes::new(ScriptedStt::measuring(), ScriptedLlm::fixed(LONG)).voice(ScriptedTts::default());
    let server = TestServer::with(fakes).await;
    let mut client = Client::open(server.address).await;
    client.speak(tone(16_000, 600)).await;
    client.until_frames(100).await;
    let onset = client.speak(tone(16_000, 1_000)).await;
    let done = client.response_done().await;
    assert_eq!(done.status, ResponseStatus::Interrupted);
    let frames = client.frames.len();
    let last = client.frames[frames - 1].at;
    let silent_after = last.since(onset);
    // 240 ms confirm it; the rest is two frames of detection, one of playout, and a busy machine.
    assert!(
        silent_after < Duration::from_millis(450),
        "{silent_after:?} from speech to silence"
    );
    println!("silent {} ms after the onset of speech", silent_after.as_millis());
    assert!(
        client
            .event(|event| matches!(event, Event::Ducked(ducked) if ducked.ducked))
            .is_some()
    );

    let (text, heard) = (done.text.expose(), done.heard.expose());
    assert!(
        text.starts_with(heard) && !heard.is_empty() && heard.len() < text.len(),
        "{heard:?}"
    );
    assert!(
        !heard.ends_with(' ') && text[heard.len()..].starts_with([' ', ',', '.']),
        "whole words: {heard:?}"
    );
    // At 60 ms a character, and a word counts when its end was heard.
    let sent_ms = frames as u64 * 20;
    let heard_ms = done.heard_ms.as_f64() as u64;
    assert!(
        heard_ms <= sent_ms && sent_ms - heard_ms <= 20,
        "{heard_ms} of {sent_ms} ms"
    );
    assert!(
        heard.chars().count() as u64 * 60 <= heard_ms + 60,
        "{heard:?} in {heard_ms} ms"
    );
    assert!(
        heard.chars().count() as u64 * 60 + 1_000 >= heard_ms,
        "{heard:?} in {heard_ms} ms"
    );

    // Nothing comes of the old reply any more, until the new one begins.
    client
        .until("the second reply", |event| {
            matches!(event, Event::ResponseStarted(_)).then_some(())
        })
        .await;
    assert_eq!(client.frames.len(), frames, "a frame after the end of the reply");
    client.until_frames(frames + 1).await;
    let prompts = server.fakes.llm.prompts();
    let second = &prompts[1].messages;
    let ours: Vec<&str> = second
        .iter()
        .filter(|message| message.role == Role::Assistant)
        .map(|message| message.text.expose().as_str())
        .collect();
    assert_eq!(ours, [heard], "the history holds what was heard");
    let theirs = second.iter().filter(|message| message.role == Role::User).count();
    assert_eq!(theirs, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_short_noise_lowers_the_reply_and_it_goes_on() {
    let fakes = Fakes::new(ScriptedStt::measuring(), ScriptedLlm::echo()).voice(ScriptedTts::default());
    let server = TestServer::with(fakes).await;
    let mut client = Client::open(server.address).await;
    client
        .request(say("I go on talking, whatever coughs in between there may be."))
        .await;
    client.until_frames(30).await;
    client.speak(tone(16_000, 60)).await;
    let done = client.response_done().await;
    assert_eq!(done.status, ResponseStatus::Completed, "{}", client.story());
    assert_eq!(done.heard, done.text);
    let ducked: Vec<bool> = client
        .events
        .iter()
        .filter_map(|(_, event)| match event {
            Event::Ducked(ducked) => Some(ducked.ducked),
            _ => None,
        })
        .collect();
    assert_eq!(ducked, [true, false], "{}", client.story());
    // No sample of it is left out: the tone of the fake voice goes on without a gap, only softer.
    assert_paced(&client.frames.iter().map(|frame| frame.at).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_sessions_do_not_disturb_each_other() {
    let server = TestServer::start().await;
    let (mut short, mut long) = tokio::join!(Client::open(server.address), Client::open(server.address));
    assert_ne!(short.ready.session, long.ready.session);
    let conversation = async |client: &mut Client, millis: usize| {
        let mut heard = Vec::new();
        for _ in 0..2 {
            client.speak(tone(16_000, millis)).await;
            let transcript = client.final_transcript().await.text.into_exposed();
            let done = client.response_done().await;
            assert_eq!(done.text.expose(), transcript, "the echo of another session");
            assert_eq!(done.status, ResponseStatus::Completed);
            heard.push(transcript.split(' ').nth(1).unwrap().parse::<u64>().unwrap());
        }
        heard
    };
    let (from_short, from_long) = tokio::join!(conversation(&mut short, 400), conversation(&mut long, 1_600));
    // Speech, up to 300 ms before it, and some 600 ms of silence after it.
    assert!(
        from_short.iter().all(|millis| (400..1_500).contains(millis)),
        "{from_short:?}"
    );
    assert!(
        from_long.iter().all(|millis| (1_600..2_700).contains(millis)),
        "{from_long:?}"
    );
    for client in [&short, &long] {
        // Two replies, each paced by itself.
        let mut replies: Vec<Vec<Time>> = vec![Vec::new()];
        for frame in &client.frames {
            let reply = replies.last_mut().unwrap();
            if reply
                .last()
                .is_some_and(|last| frame.at.since(*last) > Duration::from_millis(300))
            {
                replies.push(Vec::new());
            }
            replies.last_mut().unwrap().push(frame.at);
        }
        assert_eq!(replies.len(), 2);
        replies.iter().for_each(|reply| assert_paced(reply));
    }
}

#[tokio::test]
async fn typed_turns_and_spoken_answers() {
    let server = TestServer::start().await;
    let mut client = Client::open(server.address).await;
    client.request(typed("good morning")).await;
    let done = client.response_done().await;
    assert_eq!(
        (done.text.expose(), done.status),
        ("good morning", ResponseStatus::Completed)
    );
    assert!(!client.frames.is_empty());
    // A typed turn interrupts a reply.
    client.request(say(LONG)).await;
    client.until_frames(client.frames.len() + 20).await;
    client.request(typed("that is enough")).await;
    let done = client.response_done().await;
    assert_ne!(done.status, ResponseStatus::Completed);
    let done = client.response_done().await;
    assert_eq!(
        (done.text.expose(), done.status),
        ("that is enough", ResponseStatus::Completed)
    );
    let status = client.status().await;
    assert_eq!(status.responses, 3);
}

#[tokio::test]
async fn what_is_said_follows_what_is_being_said_or_replaces_it() {
    let server = TestServer::start().await;
    let mut client = Client::open(server.address).await;
    client.request(say("one two three")).await;
    client.request(say("four five six")).await;
    for expected in ["one two three", "four five six"] {
        let done = client.response_done().await;
        assert_eq!(
            (done.heard.expose(), done.status),
            (expected, ResponseStatus::Completed)
        );
    }
    client.request(say(LONG)).await;
    client.until_frames(client.frames.len() + 10).await;
    let interrupting = Say {
        interrupt: true,
        ..Say::new("listen to me")
    };
    client.request(Request::Say(interrupting)).await;
    assert_eq!(client.response_done().await.status, ResponseStatus::Cancelled);
    assert_eq!(client.response_done().await.heard.expose(), "listen to me");
    // Not to be remembered, and not to be interrupted.
    let aside = Say {
        remember: false,
        interruptible: false,
        ..Say::new("this is an announcement that nobody can stop by talking")
    };
    client.request(Request::Say(aside)).await;
    client.until_frames(client.frames.len() + 5).await;
    client.speak(tone(16_000, 500)).await;
    let done = client.response_done().await;
    assert_eq!(
        (done.status, done.item),
        (ResponseStatus::Completed, None),
        "{}",
        client.story()
    );
}

#[tokio::test]
async fn cancelled_means_silent() {
    let server = TestServer::start().await;
    let mut client = Client::open(server.address).await;
    client.request(say(LONG)).await;
    client.until_frames(20).await;
    client.request(Request::Cancel(Cancel::default())).await;
    let done = client.response_done().await;
    assert_eq!(done.status, ResponseStatus::Cancelled);
    let frames = client.frames.len();
    client.listen_for(Duration::from_millis(200)).await;
    assert_eq!(client.frames.len(), frames);
    // One that is over is left alone.
    client
        .request(Request::Cancel(Cancel {
            response: Some(done.response),
        }))
        .await;
    client.request(say("again")).await;
    assert_eq!(client.response_done().await.status, ResponseStatus::Completed);
}

#[tokio::test]
async fn cleared_speech_gets_neither_transcript_nor_reply() {
    let server = TestServer::start().await;
    let mut client = Client::open(server.address).await;
    client.speak(tone(16_000, 1_000)).await;
    client
        .until("an open turn", |event| {
            matches!(event, Event::SpeechStarted(_)).then_some(())
        })
        .await;
    client.microphone(false).await;
    client.request(Request::Clear(Bare {})).await;
    // Nothing more of it is spoken either: what comes next is a new turn.
    let status = client.status().await;
    assert_eq!(status.turn, None, "{}", client.story());
    client.listen_for(Duration::from_millis(900)).await;
    assert!(
        client
            .event(|event| matches!(event, Event::Transcript(transcript) if transcript.is_final))
            .is_none()
            && client
                .event(|event| matches!(event, Event::ResponseStarted(_)))
                .is_none(),
        "{}",
        client.story()
    );
}

#[tokio::test]
async fn commit_ends_a_turn_before_the_silence_does() {
    let server = TestServer::start().await;
    let mut client = Client::open(server.address).await;
    client.speak(tone(16_000, 3_000)).await;
    client
        .until("an open turn", |event| {
            matches!(event, Event::SpeechStarted(_)).then_some(())
        })
        .await;
    client.listen_for(Duration::from_millis(300)).await;
    client.request(Request::Commit(Bare {})).await;
    let transcript = client.final_transcript().await;
    let millis: u64 = transcript.text.expose().split(' ').nth(1).unwrap().parse().unwrap();
    assert!(millis < 1_500, "{millis} ms of three seconds of speech");
}

#[tokio::test]
async fn settings_hold_from_when_they_are_changed() {
    let server = TestServer::start().await;
    let mut client = Client::open(server.address).await;
    client
        .text(r#"{"type":"update","id":"u1","endpointing":{"silence_ms":200},"instructions":"Be brief."}"#)
        .await;
    let updated = client
        .until("updated", |event| match event {
            Event::Updated(updated) => Some((**updated).clone()),
            _ => None,
        })
        .await;
    assert_eq!(updated.reply_to.as_deref(), Some("u1"));
    assert_eq!(updated.settings.endpointing.silence_ms, 200);
    client.speak(tone(16_000, 500)).await;
    let report = client.turn_report().await;
    let endpointing = report.endpointing_ms.unwrap().as_f64();
    assert!((199.0..300.0).contains(&endpointing), "{endpointing} ms");
    let prompts = server.fakes.llm.prompts();
    assert_eq!(prompts[0].messages[0].text.expose(), "Be brief.");
    // Replies as text only, from the next one on.
    client.response_done().await;
    let frames = client.frames.len();
    client.text(r#"{"type":"update","stages":{"tts":false}}"#).await;
    client.request(typed("in writing please")).await;
    let done = client.response_done().await;
    assert_eq!(done.text.expose(), "in writing please");
    client.listen_for(Duration::from_millis(100)).await;
    assert_eq!(client.frames.len(), frames);
}

#[tokio::test]
async fn the_history_can_be_edited() {
    let server = TestServer::start().await;
    let mut client = Client::open(server.address).await;
    client.request(typed("remember this")).await;
    let done = client.response_done().await;
    let edited = async |client: &mut Client, edit: Edit| {
        client.request(Request::Edit(edit)).await;
        client
            .until("history_edited", |event| match event {
                Event::HistoryEdited(edited) => Some(edited.items),
                _ => None,
            })
            .await
    };
    let append = Edit::Append {
        role: WireRole::User,
        text: private("and that"),
    };
    assert_eq!(edited(&mut client, append).await, 3);
    let delete = Edit::Delete {
        item: done.item.expect("a reply is an item"),
    };
    assert_eq!(edited(&mut client, delete).await, 2);
    client.request(Request::Respond(Bare {})).await;
    assert_eq!(client.response_done().await.text.expose(), "and that");
    let prompt = server.fakes.llm.prompts().pop().unwrap();
    let said: Vec<&str> = prompt
        .messages
        .iter()
        .skip(1)
        .map(|message| message.text.expose().as_str())
        .collect();
    assert_eq!(said, ["remember this", "and that"]);
    assert_eq!(edited(&mut client, Edit::Clear {}).await, 0);
}

#[tokio::test]
async fn status_and_ping_and_bye() {
    let server = TestServer::start().await;
    let mut client = Client::open(server.address).await;
    client.text(r#"{"type":"ping","id":"p"}"#).await;
    client
        .until("pong", |event| match event {
            Event::Pong(pong) => (pong.reply_to.as_deref() == Some("p")).then_some(()),
            _ => None,
        })
        .await;
    let status = client.status().await;
    assert_eq!(
        (status.turns, status.responses, status.turn, status.response),
        (0, 0, None, None)
    );
    assert!(status.backends.len() >= 4, "{status:?}");
    // What was asked just before the end is answered.
    client.text(r#"{"type":"status","id":"last"}"#).await;
    client
        .text(r#"{"type":"update","id":"very last","temperature":0.5}"#)
        .await;
    let client = client.bye().await;
    assert!(matches!(client.events.last(), Some((_, Event::Closed(closed))) if closed.reason == CloseReason::Bye));
    let answered = |id: &str| {
        client.event(|event| match event {
            Event::Status(status) => status.reply_to.as_deref() == Some(id),
            Event::Updated(updated) => updated.reply_to.as_deref() == Some(id),
            _ => false,
        })
    };
    assert!(
        answered("last").is_some() && answered("very last").is_some(),
        "{}",
        client.story()
    );
}

#[tokio::test]
async fn telephone_keys_as_controls_and_in_the_media() {
    let server = TestServer::start().await;
    let keys = async |client: &mut Client, count: usize| {
        let mut keys = String::new();
        while keys.len() < count {
            keys.push(
                client
                    .until("a key", |event| match event {
                        Event::Dtmf(pressed) => Some(pressed.digit.key()),
                        _ => None,
                    })
                    .await,
            );
        }
        keys
    };
    let mut client = Client::open(server.address).await;
    for key in "12#".chars() {
        client
            .request(Request::Dtmf(Dtmf {
                digit: Digit::new(key).unwrap(),
            }))
            .await;
    }
    assert_eq!(keys(&mut client, 3).await, "12#");

    let format = AudioFormat {
        framing: Framing::Rtp,
        ..AudioFormat::of(Codec::Pcmu)
    };
    let hello = Hello {
        input: format,
        output: format,
        ..Hello::default()
    };
    let mut client = Client::open_with(server.address, hello).await;
    let mut sender = RtpSender::new(payload_type::PCMU, 7, 65_533, u32::MAX - 300);
    let mut ticks = tokio::time::interval(Duration::from_millis(20));
    for key in "4*D4".chars() {
        for _ in 0..5 {
            ticks.tick().await;
            let mut message = Vec::new();
            sender.write(&[0xff; 160], 160, &mut message);
            client.raw(message).await;
        }
        let mut digit = DigitSender::new(key, &sender, 800, 160).unwrap();
        loop {
            ticks.tick().await;
            let mut message = Vec::new();
            if !digit.write_next(&mut sender, &mut message) {
                break;
            }
            // Each packet twice, as a network does that means too well: a key is pressed once all the same.
            client.raw(message.clone()).await;
            client.raw(message).await;
        }
    }
    assert_eq!(keys(&mut client, 4).await, "4*D4");
    client.listen_for(Duration::from_millis(200)).await;
    let all = client
        .events
        .iter()
        .filter(|(_, event)| matches!(event, Event::Dtmf(_)))
        .count();
    assert_eq!(all, 4, "{}", client.story());
}

#[tokio::test]
async fn a_bad_network_does_not_stop_a_turn() {
    let server = TestServer::start().await;
    let format = AudioFormat {
        framing: Framing::Rtp,
        ..AudioFormat::of(Codec::Pcmu)
    };
    let hello = Hello {
        input: format,
        ..Hello::default()
    };
    let mut client = Client::open_with(server.address, hello).await;
    let speech = [silence(8_000, 300), tone(8_000, 1_200), silence(8_000, 1_500)].concat();
    let mut sent: Vec<Vec<u8>> = Vec::new();
    let mut sender = RtpSender::new(payload_type::PCMU, 7, 65_500, u32::MAX - 8_000);
    for (index, pcm) in speech.chunks(160).enumerate() {
        if index == 40 {
            // The other side starts again in the middle of the speech: another source, other numbers.
            sender = RtpSender::new(payload_type::PCMU, 8, 12, 77);
        }
        let payload: Vec<u8> = pcm
            .iter()
            .map(|sample| repartee::audio::g711::mu_law_encode(*sample))
            .collect();
        let mut message = Vec::new();
        sender.write(&payload, 160, &mut message);
        sent.push(message);
    }
    let total = sent.len();
    for index in (5..total - 5).step_by(9) {
        sent.swap(index, index + 1);
    }
    let mut ticks = tokio::time::interval(Duration::from_millis(20));
    for (index, message) in sent.into_iter().enumerate() {
        ticks.tick().await;
        if index % 13 == 7 {
            continue;
        }
        if index % 17 == 3 {
            client.raw(message.clone()).await;
        }
        client.raw(message).await;
    }
    let transcript = client.final_transcript().await;
    let millis: u64 = transcript.text.expose().split(' ').nth(1).unwrap().parse().unwrap();
    assert!((1_100..2_600).contains(&millis), "{millis} ms of 1200 ms of speech");
    assert_eq!(client.response_done().await.status, ResponseStatus::Completed);
    let stopped = client
        .events
        .iter()
        .filter(|(_, event)| matches!(event, Event::SpeechStopped(_)))
        .count();
    assert_eq!(stopped, 1, "one turn: {}", client.story());
    assert!(
        client.event(|event| matches!(event, Event::Error(_))).is_none(),
        "{}",
        client.story()
    );
}

#[tokio::test]
async fn a_server_that_goes_away_lets_a_reply_end() {
    let server = TestServer::start().await;
    let mut talking = Client::open(server.address).await;
    let mut idle = Client::open(server.address).await;
    talking
        .request(say("this is still to be said before the lights go out"))
        .await;
    talking.until_frames(5).await;
    let engine = server.engine.clone();
    let drained = tokio::spawn(async move { engine.drain(Duration::from_secs(5)).await });
    idle.until("going away", |event| matches!(event, Event::GoingAway(_)).then_some(()))
        .await;
    idle.until_closed().await;
    let done = talking.response_done().await;
    assert_eq!(
        (done.status, done.heard.expose()),
        (ResponseStatus::Completed, done.text.expose())
    );
    talking.until_closed().await;
    for client in [&talking, &idle] {
        assert!(
            matches!(client.events.last(), Some((_, Event::Closed(closed))) if closed.reason == CloseReason::Drained),
            "{}",
            client.story()
        );
    }
    assert_eq!(drained.await.unwrap(), 0);
    let mut late = support::Socket::connect(server.address).await;
    late.text(support::socket::HELLO).await;
    late.expect_end(ErrorCode::Draining, 4503).await;
}

#[tokio::test]
async fn a_stage_that_fails_is_told_and_the_call_goes_on() {
    let server = TestServer::start().await;
    let mut client = Client::open(server.address).await;
    let error = async |client: &mut Client| {
        client
            .until("an error", |event| match event {
                Event::Error(error) => Some(error.code),
                _ => None,
            })
            .await
    };
    server
        .fakes
        .llm
        .control()
        .fail_next(repartee::backend::fake::Fault::RefuseAfter(0));
    client.request(typed("this fails")).await;
    assert_eq!(error(&mut client).await, ErrorCode::LlmFailed);
    server
        .fakes
        .stt
        .control()
        .fail_next(repartee::backend::fake::Fault::RefuseAfter(0));
    client.speak(tone(16_000, 400)).await;
    assert_eq!(error(&mut client).await, ErrorCode::SttFailed);
    client.request(typed("this does not")).await;
    loop {
        let done = client.response_done().await;
        if done.status == ResponseStatus::Completed {
            assert_eq!(done.heard.expose(), "this does not");
            break;
        }
    }
}

#[tokio::test]
async fn a_recogniser_that_dies_in_an_utterance_is_given_it_again() {
    let server = TestServer::start().await;
    let mut client = Client::open(server.address).await;
    client.speak(tone(16_000, 1_500)).await;
    client
        .until("an open turn", |event| {
            matches!(event, Event::SpeechStarted(_)).then_some(())
        })
        .await;
    client.listen_for(Duration::from_millis(400)).await;
    let stt = server.fakes.stt.control();
    stt.kill();
    stt.revive();
    let transcript = client.final_transcript().await;
    let millis: u64 = transcript.text.expose().split(' ').nth(1).unwrap().parse().unwrap();
    assert!(
        (1_500..2_600).contains(&millis),
        "the whole utterance, from its start: {millis} ms"
    );
    assert_eq!(client.response_done().await.status, ResponseStatus::Completed);
    assert!(stt.counts().failed >= 1);
}

#[tokio::test]
async fn a_long_speech_is_committed_in_segments_without_losing_any_of_it() {
    let server = TestServer::start().await;
    let hello = Hello {
        settings: Some(SettingsUpdate {
            endpointing: Some(EndpointingUpdate {
                hard_limit_ms: Some(2_000),
                ..EndpointingUpdate::default()
            }),
            stages: Some(StagesUpdate {
                llm: Some(false),
                ..StagesUpdate::default()
            }),
            ..SettingsUpdate::default()
        }),
        ..Hello::default()
    };
    let mut client = Client::open_with(server.address, hello).await;
    client.speak([silence(16_000, 400), tone(16_000, 7_000)].concat()).await;
    // Each segment is transcribed by itself; the turn's text is that of all of them, one after the other.
    let transcript = client.final_transcript().await;
    let segments: Vec<u64> = transcript
        .text
        .expose()
        .split(' ')
        .filter_map(|word| word.parse().ok())
        .collect();
    assert!(segments.len() >= 3, "{segments:?}");
    assert!(
        segments.iter().all(|millis| *millis <= 2_100),
        "none is longer than the limit: {segments:?}"
    );
    // Speech, the pre-roll before it and the silence after it; nothing twice.
    let total: u64 = segments.iter().sum();
    assert!((7_000..=8_400).contains(&total), "{segments:?}");
    assert_eq!(client.status().await.dropped_ms.as_micros(), 0);
}

#[tokio::test]
async fn many_who_lose_the_recogniser_at_once_all_get_their_words() {
    let server = TestServer::start().await;
    let mut clients = Vec::new();
    for _ in 0..12 {
        clients.push(Client::open(server.address).await);
    }
    for client in &mut clients {
        client.speak(tone(16_000, 1_200)).await;
    }
    for client in &mut clients {
        client
            .until("an open turn", |event| {
                matches!(event, Event::SpeechStarted(_)).then_some(())
            })
            .await;
    }
    let stt = server.fakes.stt.control();
    eventually("they all are being listened to", LIMIT, || stt.counts().opened == 12).await;
    stt.kill();
    stt.revive();
    for client in &mut clients {
        let transcript = client.final_transcript().await;
        let millis: u64 = transcript.text.expose().split(' ').nth(1).unwrap().parse().unwrap();
        assert!((1_200..2_600).contains(&millis), "{millis} ms");
    }
    let counts = stt.counts();
    assert_eq!((counts.failed, counts.live()), (12, 0), "{counts:?}");
}

#[tokio::test]
async fn slow_words_come_as_they_are_made() {
    let pace = Pace::new(
        FakeClock::new(|wait| Box::pin(tokio::time::sleep(wait))),
        Duration::from_millis(200),
        Duration::from_millis(60),
    );
    let words = [
        "First ", "of ", "all. ", "And ", "then ", "there ", "is ", "more ", "to ", "come.",
    ];
    let deltas = words
        .iter()
        .map(|word| LlmEvent::Delta {
            text: (*word).to_owned().into(),
        })
        .collect();
    let fakes = Fakes::new(ScriptedStt::measuring(), ScriptedLlm::new([deltas]).paced(pace));
    let server = TestServer::with(fakes).await;
    let mut client = Client::open(server.address).await;
    client.request(typed("go on")).await;
    let done = client.response_done().await;
    assert_eq!(done.heard.expose(), words.concat());
    let last_text = client
        .events
        .iter()
        .rev()
        .find_map(|(at, event)| matches!(event, Event::ResponseText(_)).then_some(*at));
    assert!(
        client.frames[0].at < last_text.unwrap(),
        "it speaks while it still thinks"
    );
}

/// A server without models, for what only the program itself does.
async fn bare_program(arguments: &[&str]) -> ServerProcess {
    let mut all = vec![
        "--stt",
        "none",
        "--tts",
        "none",
        "--llm",
        "parrot",
        "--set",
        "vad.backend=webrtc",
    ];
    all.extend(arguments);
    ServerProcess::start(&all).await
}

#[tokio::test]
async fn the_program_says_goodbye_on_sigterm() {
    let mut server = bare_program(&[]).await;
    let mut client = Client::open(server.address).await;
    client.request(typed("hello out there")).await;
    assert!(client.response_done().await.text.expose().contains("hello out there"));
    server.signal("TERM");
    client
        .until("going away", |event| matches!(event, Event::GoingAway(_)).then_some(()))
        .await;
    client.until_closed().await;
    assert!(
        matches!(client.events.last(), Some((_, Event::Closed(closed))) if closed.reason == CloseReason::Drained),
        "{}",
        client.story()
    );
    let status = server.ended(LIMIT).await.expect("it ends");
    assert!(status.success(), "{status}: {}", server.stderr());
}

#[tokio::test]
async fn nothing_that_anybody_says_is_in_the_log() {
    let token = "zwetschgenmarmelade";
    let server = bare_program(&["--log", "trace", "--set", &format!("server.token={token}")]).await;
    let hello = Hello {
        token: Some(private(token)),
        settings: Some(SettingsUpdate {
            instructions: Some(private("Be a quetzalcoatlus.")),
            endpointing: Some(EndpointingUpdate {
                silence_ms: Some(300),
                ..EndpointingUpdate::default()
            }),
            ..SettingsUpdate::default()
        }),
        ..Hello::default()
    };
    let mut client = Client::open_with(server.address, hello).await;
    client.request(typed("my xylophone is in zanzibar")).await;
    assert_eq!(
        client.response_done().await.text.expose(),
        "You said: my xylophone is in zanzibar."
    );
    client.request(say("the bandersnatch is frumious")).await;
    client.response_done().await;
    client
        .text(r#"{"type":"say","text":"the jabberwock has eyes of flame","bogus":1}"#)
        .await;
    client
        .text(r#"{"type":"edit","edit":"append","role":"user","text":"slithy toves"}"#)
        .await;
    client
        .text(r#"{"type":"tool_output","call_id":"x","output":"mome raths"}"#)
        .await;
    client.text("this borogove is not even JSON").await;
    client
        .request(Request::Dtmf(Dtmf {
            digit: Digit::new('7').unwrap(),
        }))
        .await;
    client.speak(tone(16_000, 500)).await;
    client.listen_for(Duration::from_millis(600)).await;
    client.bye().await;
    let mut refused = support::Socket::connect(server.address).await;
    refused
        .text(r#"{"type":"hello","version":1,"token":"powidltatschkerl"}"#)
        .await;
    refused.expect_error(ErrorCode::Unauthorized).await;
    eventually("it logs the session", LIMIT, || server.stderr().contains("session")).await;
    let log = server.stderr() + &server.stdout();
    for word in [
        token,
        "powidltatschkerl",
        "quetzalcoatlus",
        "xylophone",
        "zanzibar",
        "bandersnatch",
        "jabberwock",
        "slithy",
        "mome",
        "borogove",
    ] {
        let line = log.lines().find(|line| line.to_lowercase().contains(word));
        assert_eq!(line, None, "{word} is in the log");
    }
}

/// The counters of an engine that has served somebody say so.
#[tokio::test]
async fn what_happened_is_counted() {
    let server = TestServer::start().await;
    let mut client = Client::open(server.address).await;
    client.speak(tone(16_000, 400)).await;
    client.response_done().await;
    let metrics: &Arc<Metrics> = server.engine.metrics();
    let text = metrics.text();
    for wanted in ["repartee_", "_bucket{", "# EOF"] {
        assert!(text.contains(wanted), "{wanted} in {text}");
    }
    let (status, body) = support::socket::http_get(server.address, "/health").await;
    assert_eq!(status, 200);
    assert!(body.contains("\"sessions\":1"), "{body}");
    let (status, _) = support::socket::http_get(server.address, "/ready").await;
    assert_eq!(status, 200);
    let (status, body) = support::socket::http_get(server.address, "/metrics").await;
    assert_eq!((status, body.contains("# EOF")), (200, true));
}
