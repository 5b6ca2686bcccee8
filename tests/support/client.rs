//! A client that speaks and listens at the same time, at the pace of real time, on `repartee::cli::client`.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use repartee::audio::{self, Heard, Inbound, MediaFormat, Outbound, RtpStart, SampleRate};
use repartee::cli::client::{self, ClientReceiver, ClientSender, Incoming};
use repartee::engine::Clock;
use repartee::time::Time;
use repartee_protocol::native::{
    AudioFormat, Bare, Codec, Event, Framing, Hello, Ready, Request, ResponseDone, Transcript, TurnReport,
};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, timeout};

/// An event that must come comes in this time, however busy the machine is.
pub(crate) const LIMIT: Duration = Duration::from_secs(40);
const FRAME_MS: usize = 20;

/// A tone that scripted detectors take for speech.
pub(crate) fn tone(rate: u32, millis: usize) -> Vec<i16> {
    (0..rate as usize * millis / 1_000)
        .map(|index| ((index as f64 * 300.0 * std::f64::consts::TAU / f64::from(rate)).sin() * 9_000.0) as i16)
        .collect()
}

pub(crate) fn silence(rate: u32, millis: usize) -> Vec<i16> {
    vec![0; rate as usize * millis / 1_000]
}

/// One frame that was heard.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    /// When it came.
    pub(crate) at: Time,
    pub(crate) pcm: Vec<i16>,
}

enum Outgoing {
    /// Speak this; the answer is the moment when it begins.
    Speak(Vec<i16>, oneshot::Sender<Time>),
    /// Whether silence is sent while nothing is spoken.
    Microphone(bool),
    Control(Box<Request>),
    Text(String),
    Raw(Vec<u8>),
}

/// The client. It hears everything, and keeps it.
pub(crate) struct Client {
    pub(crate) ready: Ready,
    pub(crate) format: AudioFormat,
    pub(crate) clock: Clock,
    /// All events so far, and when they came.
    pub(crate) events: Vec<(Time, Event)>,
    pub(crate) frames: Vec<Frame>,
    /// Messages of audio as they came.
    pub(crate) messages: Vec<Bytes>,
    outgoing: mpsc::Sender<Outgoing>,
    incoming: mpsc::Receiver<(Time, Incoming)>,
    inbound: Inbound,
    tasks: [JoinHandle<()>; 2],
}

fn media(format: &AudioFormat) -> MediaFormat {
    MediaFormat {
        codec: match format.codec {
            Codec::Pcm16 => audio::Codec::Pcm16,
            Codec::Pcmu => audio::Codec::Pcmu,
            Codec::Pcma => audio::Codec::Pcma,
            Codec::Opus => audio::Codec::Opus,
        },
        rate: SampleRate::from_hz(format.rate.hertz()).expect("both know the same four rates"),
        framing: match format.framing {
            Framing::Raw => audio::Framing::Raw,
            Framing::Rtp => audio::Framing::Rtp,
        },
    }
}

/// An encoder of what a client sends in `format`.
pub(crate) fn outbound(format: &AudioFormat) -> Outbound {
    let start = RtpStart {
        payload_type: format.payload_type(),
        ssrc: 0x0bad_cafe,
        sequence: 65_500,
        timestamp: u32::MAX - 5_000,
    };
    Outbound::new(media(format), start).expect("the format is one that the wire knows")
}

/// `samples` as the messages of a client, 20 ms each; the last is filled up with silence.
pub(crate) fn messages(format: &AudioFormat, samples: &[i16]) -> Vec<Vec<u8>> {
    let frame = format.rate.hertz() as usize / 50;
    let mut outbound = outbound(format);
    let mut samples = samples.to_vec();
    samples.resize(samples.len().next_multiple_of(frame), 0);
    samples
        .chunks(frame)
        .zip(0..)
        .map(|(pcm, index)| {
            let mut message = Vec::new();
            outbound
                .frame(pcm, Time::from_millis(20 * index), &mut message)
                .expect("a frame of 20 ms");
            message
        })
        .collect()
}

impl Client {
    pub(crate) async fn open(address: SocketAddr) -> Self {
        Self::open_with(address, Hello::default()).await
    }

    pub(crate) async fn open_with(address: SocketAddr, hello: Hello) -> Self {
        let format = hello.input;
        let output = hello.output;
        let url = client::session_url(&address.to_string());
        let (ready, sender, receiver) = client::open(&url, hello).await.expect("the server opens a session");
        let clock = Clock::start();
        let (outgoing, orders) = mpsc::channel(64);
        let (heard, incoming) = mpsc::channel(1 << 16);
        let tasks = [
            tokio::spawn(send(sender, orders, format, clock)),
            tokio::spawn(receive(receiver, heard, clock)),
        ];
        let rate = media(&output).rate;
        Self {
            ready,
            format,
            clock,
            events: Vec::new(),
            frames: Vec::new(),
            messages: Vec::new(),
            outgoing,
            incoming,
            inbound: Inbound::new(media(&output), output.payload_type(), None, rate).expect("a known format"),
            tasks,
        }
    }

    async fn order(&mut self, order: Outgoing) {
        self.outgoing.send(order).await.expect("the connection stands");
    }

    pub(crate) async fn request(&mut self, request: Request) {
        self.order(Outgoing::Control(Box::new(request))).await;
    }

    pub(crate) async fn text(&mut self, text: &str) {
        self.order(Outgoing::Text(text.to_owned())).await;
    }

    pub(crate) async fn raw(&mut self, payload: Vec<u8>) {
        self.order(Outgoing::Raw(payload)).await;
    }

    /// Silence is sent while nothing is spoken, as a microphone does.
    pub(crate) async fn microphone(&mut self, on: bool) {
        self.order(Outgoing::Microphone(on)).await;
    }

    /// Speaks `samples` after what is still to be spoken, and answers when that begins. The microphone is on from then on.
    pub(crate) async fn speak(&mut self, samples: Vec<i16>) -> Time {
        let (begun, begins) = oneshot::channel();
        self.order(Outgoing::Speak(samples, begun)).await;
        timeout(LIMIT * 8, begins)
            .await
            .expect("what was before it is spoken by then")
            .expect("the connection stands")
    }

    fn keep(&mut self, at: Time, incoming: Incoming) -> Option<Event> {
        match incoming {
            Incoming::Event(event) => {
                self.events.push((at, event.clone()));
                Some(event)
            }
            Incoming::Audio(message) => {
                let mut heard = Heard::default();
                self.inbound
                    .message(at, &message, &mut heard)
                    .expect("the server sends what it promised");
                self.messages.push(message);
                self.frames.push(Frame { at, pcm: heard.pcm });
                None
            }
        }
    }

    /// Takes what comes until an event for which `wanted` answers something.
    pub(crate) async fn until<T>(&mut self, what: &str, wanted: impl FnMut(&Event) -> Option<T>) -> T {
        self.until_within(what, LIMIT, wanted).await
    }

    pub(crate) async fn until_within<T>(
        &mut self,
        what: &str,
        limit: Duration,
        mut wanted: impl FnMut(&Event) -> Option<T>,
    ) -> T {
        let waiting = async {
            while let Some((at, incoming)) = self.incoming.recv().await {
                if let Some(event) = self.keep(at, incoming)
                    && let Some(found) = wanted(&event)
                {
                    return Some(found);
                }
            }
            None
        };
        match timeout(limit, waiting).await {
            Ok(Some(found)) => found,
            Ok(None) => panic!("{what}: the connection ended after {}", self.story()),
            Err(_) => panic!("{what}: not within {limit:?}; there came {}", self.story()),
        }
    }

    /// Takes what comes for so long: for tests that something does not come.
    pub(crate) async fn listen_for(&mut self, duration: Duration) {
        let listening = async {
            while let Some((at, incoming)) = self.incoming.recv().await {
                self.keep(at, incoming);
            }
        };
        let _ = timeout(duration, listening).await;
    }

    /// Takes what comes until so many frames have been heard.
    pub(crate) async fn until_frames(&mut self, count: usize) {
        let waiting = async {
            while self.frames.len() < count {
                let Some((at, incoming)) = self.incoming.recv().await else {
                    break;
                };
                self.keep(at, incoming);
            }
        };
        let _ = timeout(LIMIT, waiting).await;
        assert!(
            self.frames.len() >= count,
            "{} frames, after {}",
            self.frames.len(),
            self.story()
        );
    }

    pub(crate) async fn final_transcript(&mut self) -> Transcript {
        self.until("a final transcript", |event| match event {
            Event::Transcript(transcript) if transcript.is_final => Some(transcript.clone()),
            _ => None,
        })
        .await
    }

    pub(crate) async fn response_done(&mut self) -> ResponseDone {
        self.until("the end of a response", |event| match event {
            Event::ResponseDone(done) => Some(done.clone()),
            _ => None,
        })
        .await
    }

    pub(crate) async fn turn_report(&mut self) -> TurnReport {
        self.until("a report of the turn", |event| match event {
            Event::TurnReport(report) => Some(report.clone()),
            _ => None,
        })
        .await
    }

    pub(crate) async fn status(&mut self) -> repartee_protocol::native::Status {
        self.request(Request::Status(Bare {})).await;
        self.until("the status", |event| match event {
            Event::Status(status) => Some((**status).clone()),
            _ => None,
        })
        .await
    }

    /// Says `bye` and takes what comes until the end of the connection.
    pub(crate) async fn bye(mut self) -> Self {
        self.request(Request::Bye(Bare {})).await;
        self.until_closed().await;
        self
    }

    pub(crate) async fn until_closed(&mut self) {
        let waiting = async {
            while let Some((at, incoming)) = self.incoming.recv().await {
                self.keep(at, incoming);
            }
        };
        assert!(timeout(LIMIT, waiting).await.is_ok(), "the server hangs up");
    }

    /// Everything that was heard, one after the other.
    pub(crate) fn heard(&self) -> Vec<i16> {
        self.frames.iter().flat_map(|frame| frame.pcm.iter().copied()).collect()
    }

    pub(crate) fn event(&self, wanted: impl Fn(&Event) -> bool) -> Option<&Event> {
        self.events.iter().map(|(_, event)| event).find(|event| wanted(event))
    }

    /// The types of the events, for messages of failed tests. Not their text: what people say is not logged, not even here.
    pub(crate) fn story(&self) -> String {
        let types: Vec<String> = self
            .events
            .iter()
            .map(|(at, event)| {
                let value = serde_json::to_value(event).expect("an event is JSON");
                let kind = value["type"].as_str().unwrap_or("?").to_owned();
                match event {
                    Event::Error(error) => format!("{}:{kind}({}: {})", at.as_millis(), error.code, error.message),
                    _ => format!("{}:{kind}", at.as_millis()),
                }
            })
            .collect();
        format!("[{}] and {} frames", types.join(", "), self.frames.len())
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

async fn send(mut sender: ClientSender, mut orders: mpsc::Receiver<Outgoing>, format: AudioFormat, clock: Clock) {
    let frame = format.rate.hertz() as usize * FRAME_MS / 1_000;
    let mut outbound = outbound(&format);
    let mut ticks = interval(Duration::from_millis(FRAME_MS as u64));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut spoken: VecDeque<(Vec<i16>, usize, Option<oneshot::Sender<Time>>)> = VecDeque::new();
    let (mut on, mut due) = (false, Time::ZERO);
    loop {
        let sent = tokio::select! {
            _ = ticks.tick() => {
                let silent = vec![0; frame];
                let mut last = false;
                let pcm: &[i16] = match spoken.front_mut() {
                    Some((samples, position, begun)) => {
                        if let Some(begun) = begun.take() {
                            let _ = begun.send(clock.now());
                        }
                        *position += frame;
                        last = *position >= samples.len();
                        samples.get(*position - frame..*position).unwrap_or(&silent)
                    }
                    None => &silent,
                };
                let mut payload = Vec::new();
                let sent = if on {
                    outbound.frame(pcm, due, &mut payload).expect("a frame of 20 ms");
                    due += Duration::from_millis(FRAME_MS as u64);
                    sender.audio(payload.into()).await
                } else {
                    Ok(())
                };
                if last {
                    spoken.pop_front();
                }
                sent
            }
            order = orders.recv() => match order {
                None => return,
                Some(Outgoing::Speak(mut samples, begun)) => {
                    on = true;
                    samples.resize(samples.len().next_multiple_of(frame).max(frame), 0);
                    spoken.push_back((samples, 0, Some(begun)));
                    Ok(())
                }
                Some(Outgoing::Microphone(wanted)) => {
                    on = wanted;
                    Ok(())
                }
                Some(Outgoing::Control(request)) => sender.control((*request).into()).await,
                Some(Outgoing::Text(text)) => sender.text(text).await,
                Some(Outgoing::Raw(payload)) => sender.audio(payload.into()).await,
            },
        };
        if sent.is_err() {
            // The server has hung up: the receiving half tells.
            return;
        }
    }
}

async fn receive(mut receiver: ClientReceiver, heard: mpsc::Sender<(Time, Incoming)>, clock: Clock) {
    while let Some(Ok(incoming)) = receiver.next().await {
        if heard.send((clock.now(), incoming)).await.is_err() {
            return;
        }
    }
}
