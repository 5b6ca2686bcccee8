//! What is in the media: codecs, framings, keys, a bad network.

use crate::support::client::messages;
use crate::support::speech::recording;
use crate::support::{Client, Fakes, TestServer, silence, tone};
use repartee::backend::{Backend, Capabilities, OpenError, Push, SttBackend, SttRequest, SttStream};
use repartee::call::{BackendKind, SttEvent};
use repartee::engine::EngineOptions;
use repartee::id::Generation;
use repartee::registry::Registry;
use repartee::transport::native::NativeOptions;
use repartee_protocol::native::{
    AudioFormat, Bare, Codec, Digit, Dtmf, Event, Framing, Hello, Request, ResponseStatus, SettingsUpdate,
    TurnDetection,
};
use repartee_protocol::rtp::{DigitSender, RtpSender, payload_type};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

/// A recogniser that keeps what it is given.
struct Keeping {
    capabilities: Capabilities,
    kept: Arc<Mutex<Vec<Vec<i16>>>>,
}

impl Keeping {
    fn new() -> Self {
        let capabilities = Capabilities::new(BackendKind::Stt, "keeping", "none", Generation::new(1));
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
        self.kept.lock().expect("nobody panics with it").push(samples);
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
