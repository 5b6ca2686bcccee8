//! The shell on a real socket, with a worker whose behaviour the test decides.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bytes::Bytes;
use repartee_worker_shell::protocol::*;
use repartee_worker_shell::{
    Batch, Failure, Input, KnownModel, Lane, Link, Loaded, Models, Outlet, ServeError, Service, Step, Stream, Worker,
    serve,
};

const PATIENCE: Duration = Duration::from_secs(20);

/// Makes the service of a test's worker.
type Make = Box<dyn Fn() -> Service + Send>;

struct TestWorker {
    make: Make,
    places: u32,
}

impl Worker for TestWorker {
    fn hello(&self) -> Hello {
        repartee_worker_shell::hello("test", "1", "none", &[Job::Stt, Job::Tts])
    }

    fn models(&self, _root: &Models) -> Vec<KnownModel> {
        Vec::new()
    }

    fn load(&mut self, request: &Load, root: &Models) -> Result<Loaded, LoadFailed> {
        if request.model != "test" {
            root.resolve(&request.model)?;
        }
        let model = ModelInfo {
            rate: 16_000,
            max_streams: self.places,
            max_waiting: 1,
            ..ModelInfo::default()
        };
        Ok(Loaded::on_cpu(model, Duration::ZERO, 10_000, (self.make)()))
    }
}

struct Peer {
    socket: UnixStream,
    decoder: Decoder,
    server: JoinHandle<Result<(), ServeError>>,
}

impl Peer {
    /// Starts a shell and takes it through hello and load.
    fn with(places: u32, job: Job, make: Make) -> Self {
        let mut peer = Self::started(places, make);
        peer.load(job, "test");
        assert!(matches!(peer.next().0, ToEngine::Ready(_)));
        peer
    }

    fn started(places: u32, make: Make) -> Self {
        let (ours, theirs) = UnixStream::pair().expect("a socket pair");
        ours.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let link = Link::unix(theirs).expect("a link");
        let server = thread::spawn(move || serve(TestWorker { make, places }, Models::default(), link));
        let mut peer = Self {
            socket: ours,
            decoder: Decoder::new(),
            server,
        };
        assert!(matches!(peer.next().0, ToEngine::Hello(hello) if hello.name == "test"));
        peer
    }

    fn load(&mut self, job: Job, model: &str) {
        let load = Load {
            job,
            model: model.into(),
            files: Default::default(),
            options: Default::default(),
            threads: 0,
            device: None,
        };
        self.send(&ToWorker::Load(load), &[]);
    }

    fn send(&mut self, message: &ToWorker, payload: &[u8]) -> usize {
        let mut bytes = Vec::new();
        let cost = encode(message, payload, &mut bytes).expect("within the limits");
        self.socket.write_all(&bytes).expect("the shell reads");
        cost
    }

    fn open_stt(&mut self, stream: u64) {
        let params = Params::Stt(SttParams {
            rate: 16_000,
            ..SttParams::default()
        });
        self.send(
            &ToWorker::Open(Open {
                stream: StreamId(stream),
                credit: 100_000,
                params,
            }),
            &[],
        );
    }

    fn open_tts(&mut self, stream: u64, credit: u64) {
        let params = Params::Tts(TtsParams::default());
        self.send(
            &ToWorker::Open(Open {
                stream: StreamId(stream),
                credit,
                params,
            }),
            &[],
        );
    }

    fn next(&mut self) -> (ToEngine, Bytes) {
        let mut buffer = [0; 65_536];
        loop {
            if let Some(frame) = self.decoder.next_frame().expect("frames") {
                return (frame.to_engine().expect("a known message"), frame.payload);
            }
            let length = self.socket.read(&mut buffer).expect("an answer in time");
            assert!(length > 0, "the shell closed the link");
            self.decoder.push(&buffer[..length]);
        }
    }

    fn failed(&mut self) -> (u64, String) {
        match self.next().0 {
            ToEngine::Failed(failed) => (failed.stream.0, failed.code),
            other => panic!("{other:?} instead of a failure"),
        }
    }

    fn ping(&mut self) -> Pong {
        self.send(&ToWorker::Ping { nonce: 5 }, &[]);
        match self.next().0 {
            ToEngine::Pong(pong) => pong,
            other => panic!("{other:?} instead of a pong"),
        }
    }

    fn end(self) -> Result<(), ServeError> {
        drop(self.socket);
        self.server.join().expect("the shell doesn't panic")
    }
}

/// A lane that tells the samples it heard.
#[derive(Default)]
struct Counter(usize);

impl Lane for Counter {
    fn open(&mut self, _open: &Open, _payload: &Bytes, _out: &Outlet) -> Result<(), Failure> {
        assert_eq!(self.0, 0, "closed before it is opened again");
        Ok(())
    }

    fn input(&mut self, input: Input, out: &Outlet) -> Result<(), Failure> {
        match input {
            Input::Audio(audio) if audio == b"boom"[..] => panic!("boom"),
            Input::Audio(audio) => self.0 += audio.len() / 2,
            Input::Text(_) => return Err(Failure::new(code::INVALID, "text")),
            Input::Finish => out.final_text(FinalText {
                text: self.0.to_string(),
                ..FinalText::default()
            }),
        }
        Ok(())
    }

    fn close(&mut self) {
        self.0 = 0;
    }
}

fn counters(count: usize) -> Make {
    Box::new(move || {
        Service::Lanes(
            (0..count)
                .map(|_| Box::new(Counter::default()) as Box<dyn Lane>)
                .collect(),
        )
    })
}

#[test]
fn an_utterance_goes_through_a_lane() {
    let mut peer = Peer::with(1, Job::Stt, counters(1));
    for stream in 1..=3 {
        let stream_id = StreamId(stream);
        peer.open_stt(stream);
        peer.send(&ToWorker::Audio { stream: stream_id }, &[0; 640]);
        peer.send(&ToWorker::Audio { stream: stream_id }, &[0; 320]);
        peer.send(&ToWorker::Finish { stream: stream_id }, &[]);
        assert!(matches!(peer.next().0, ToEngine::Final(text) if text.text == "480" && text.stream == stream_id));
        let ToEngine::Done(done) = peer.next().0 else {
            panic!("no done")
        };
        assert_eq!(
            (done.stream, done.cancelled, done.usage.samples),
            (stream_id, false, 480)
        );
    }
    assert_eq!(peer.ping().streams, 0);
    assert!(peer.end().is_ok());
}

#[test]
fn more_streams_wait_and_then_are_refused() {
    let mut peer = Peer::with(1, Job::Stt, counters(1));
    for stream in 1..=3 {
        peer.open_stt(stream);
    }
    assert_eq!(peer.failed(), (3, code::BUSY.into()));
    // The waiting one already takes audio, and is served when the first one has ended.
    peer.send(&ToWorker::Audio { stream: StreamId(2) }, &[0; 20]);
    peer.send(&ToWorker::Finish { stream: StreamId(2) }, &[]);
    assert_eq!(peer.ping().streams, 2);
    peer.send(&ToWorker::Cancel { stream: StreamId(1) }, &[]);
    assert!(matches!(peer.next().0, ToEngine::Done(done) if done.cancelled && done.stream == StreamId(1)));
    assert!(matches!(peer.next().0, ToEngine::Final(text) if text.text == "10"));
    assert!(matches!(peer.next().0, ToEngine::Done(done) if !done.cancelled));
    // A waiting stream can be cancelled too.
    peer.open_stt(4);
    peer.open_stt(5);
    peer.send(&ToWorker::Cancel { stream: StreamId(5) }, &[]);
    assert!(matches!(peer.next().0, ToEngine::Done(done) if done.cancelled && done.stream == StreamId(5)));
}

#[test]
fn what_breaks_the_rules_is_answered_and_the_link_goes_on() {
    let mut peer = Peer::with(2, Job::Stt, counters(1));
    peer.open_stt(1);
    peer.open_stt(1);
    assert_eq!(peer.failed(), (1, code::INVALID.into()));
    peer.open_tts(2, 1000);
    assert_eq!(peer.failed(), (2, code::UNSUPPORTED.into()));
    let params = Params::Stt(SttParams {
        rate: 8000,
        ..SttParams::default()
    });
    peer.send(
        &ToWorker::Open(Open {
            stream: StreamId(3),
            credit: 1,
            params,
        }),
        &[],
    );
    assert_eq!(peer.failed(), (3, code::UNSUPPORTED.into()));
    peer.open_stt(4);
    peer.send(&ToWorker::Audio { stream: StreamId(4) }, &[0; 3]);
    assert_eq!(peer.failed(), (4, code::INVALID.into()));
    peer.open_stt(5);
    peer.send(
        &ToWorker::Text(Text {
            stream: StreamId(5),
            clause: 0,
            text: "hello".into(),
        }),
        &[],
    );
    assert_eq!(peer.failed(), (5, code::INVALID.into()));
    peer.socket
        .write_all(b"{\"type\":\"dance\",\"payload_length\":2}\nxx")
        .expect("the shell reads");
    assert!(matches!(peer.next().0, ToEngine::Error { code, .. } if code == code::UNKNOWN_TYPE));
    peer.load(Job::Stt, "test");
    assert!(matches!(peer.next().0, ToEngine::Error { code, .. } if code == code::INVALID));
    // Streams that nobody knows are ignored: their end may have crossed the message.
    peer.send(&ToWorker::Finish { stream: StreamId(99) }, &[]);
    peer.send(&ToWorker::Finish { stream: StreamId(1) }, &[]);
    loop {
        match peer.next().0 {
            ToEngine::Done(done) if done.stream == StreamId(1) => break,
            ToEngine::Final(text) => assert_eq!(text.stream, StreamId(1)),
            other => panic!("{other:?}"),
        }
    }
    peer.socket.write_all(b"no frame\n").expect("the shell reads");
    assert!(matches!(
        peer.server.join().expect("no panic"),
        Err(ServeError::Frame(_))
    ));
}

#[test]
fn a_stream_that_overruns_its_credit_fails_and_honest_ones_get_more() {
    // The lane is taken by stream 1, so that what stream 2 sends stays where it is.
    let mut peer = Peer::with(1, Job::Stt, counters(1));
    peer.open_stt(1);
    peer.open_stt(2);
    let mut sent = 0;
    while sent < 10_000 {
        sent += peer.send(&ToWorker::Audio { stream: StreamId(2) }, &[0; 1000]);
    }
    peer.send(&ToWorker::Audio { stream: StreamId(2) }, &[0; 1000]);
    assert_eq!(peer.failed(), (2, code::CREDIT.into()));
    // An honest sender is given back what the lane takes, and nothing stalls.
    let mut credit = 10_000_i64;
    for _ in 0..100 {
        while credit <= 0 {
            let ToEngine::Credit(more) = peer.next().0 else {
                panic!("no credit")
            };
            credit += more.n as i64;
        }
        credit -= peer.send(&ToWorker::Audio { stream: StreamId(1) }, &[0; 1000]) as i64;
    }
}

/// Speaks ten pieces of 100 samples for each text.
struct Speaker;

impl Batch for Speaker {
    fn step(&mut self, streams: &mut [Stream]) -> Step {
        for stream in streams {
            match stream.next_input() {
                Some(Input::Finish) => stream.out().done(None, Usage::default()),
                Some(Input::Text(_)) => (0..10).for_each(|_| stream.out().audio(&[7; 100])),
                Some(Input::Audio(_)) | None => {}
            }
        }
        Step::Again
    }
}

#[test]
fn audio_is_held_back_until_there_is_credit() {
    let mut peer = Peer::with(4, Job::Tts, Box::new(|| Service::Batch(Box::new(Speaker))));
    peer.open_tts(1, 500);
    peer.send(
        &ToWorker::Text(Text {
            stream: StreamId(1),
            clause: 0,
            text: "x".into(),
        }),
        &[],
    );
    peer.send(&ToWorker::Finish { stream: StreamId(1) }, &[]);
    let mut pieces = 0;
    for _ in 0..3 {
        // 500 bytes of credit let out three pieces of some 250, the last of which overdraws it.
        let (message, payload) = peer.next();
        assert!(matches!(message, ToEngine::Audio { .. }), "{message:?}");
        assert_eq!(payload.len(), 200);
        pieces += 1;
    }
    peer.ping();
    loop {
        peer.send(
            &ToWorker::Credit(Credit {
                stream: StreamId(1),
                n: 400,
            }),
            &[],
        );
        match peer.next().0 {
            ToEngine::Audio { .. } => pieces += 1,
            ToEngine::Done(done) => {
                assert_eq!((pieces, done.usage.samples), (10, 1000));
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(peer.ping().streams, 0);
}

/// Says something without being given anything, as a language model does, for as long as it may.
struct Talker(usize);

impl Batch for Talker {
    fn step(&mut self, streams: &mut [Stream]) -> Step {
        const PIECES: usize = 1000;
        for stream in streams {
            if stream.out().is_blocked() {
                return Step::Wait;
            }
            self.0 += 1;
            stream.out().audio(&[0; 100]);
            if self.0 == PIECES {
                stream.out().done(None, Usage::default());
            }
        }
        Step::Again
    }
}

#[test]
fn a_stream_that_was_blocked_goes_on_with_new_credit_and_without_new_input() {
    let mut peer = Peer::with(4, Job::Tts, Box::new(|| Service::Batch(Box::new(Talker(0)))));
    peer.open_tts(1, 1);
    let (message, _) = peer.next();
    assert!(matches!(message, ToEngine::Audio { .. }), "{message:?}");
    // It has said what it could, and waits.
    while peer.ping().busy_ms > 0 {}
    let mut pieces = 1;
    let credit = Credit {
        stream: StreamId(1),
        n: 1 << 30,
    };
    peer.send(&ToWorker::Credit(credit), &[]);
    loop {
        match peer.next().0 {
            ToEngine::Audio { .. } => pieces += 1,
            ToEngine::Done(_) => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(pieces, 1000);
}

#[test]
fn a_cancel_drops_what_is_held_back_and_ends_the_stream_once() {
    let mut peer = Peer::with(4, Job::Tts, Box::new(|| Service::Batch(Box::new(Speaker))));
    for stream in 1..=50 {
        peer.open_tts(stream, 1);
        peer.send(
            &ToWorker::Text(Text {
                stream: StreamId(stream),
                clause: 0,
                text: "x".into(),
            }),
            &[],
        );
        if stream % 2 == 0 {
            peer.send(
                &ToWorker::Finish {
                    stream: StreamId(stream),
                },
                &[],
            );
        }
        if stream % 3 == 0 {
            assert!(matches!(peer.next().0, ToEngine::Audio { .. }));
        }
        peer.send(
            &ToWorker::Cancel {
                stream: StreamId(stream),
            },
            &[],
        );
        loop {
            match peer.next().0 {
                ToEngine::Audio { .. } => {}
                ToEngine::Done(done) => {
                    assert_eq!(done.stream, StreamId(stream));
                    break;
                }
                other => panic!("{other:?}"),
            }
        }
    }
    // Nothing more comes than the answer, and no stream is left.
    let pong = peer.ping();
    assert_eq!(pong.nonce, 5);
    let deadline = Instant::now() + PATIENCE;
    while peer.ping().streams > 0 {
        assert!(Instant::now() < deadline, "a cancelled stream is left");
    }
}

/// Computes until it is cancelled.
struct Thinker(mpsc::SyncSender<()>);

impl Lane for Thinker {
    fn open(&mut self, _open: &Open, _payload: &Bytes, out: &Outlet) -> Result<(), Failure> {
        self.0.send(()).expect("the test listens");
        while !out.is_cancelled() {
            thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    fn input(&mut self, _input: Input, _out: &Outlet) -> Result<(), Failure> {
        Ok(())
    }

    fn close(&mut self) {}
}

#[test]
fn pings_and_cancels_are_obeyed_while_the_model_computes() {
    let (started, starts) = mpsc::sync_channel(1);
    let make: Make = Box::new(move || Service::Lanes(vec![Box::new(Thinker(started.clone()))]));
    let mut peer = Peer::with(1, Job::Stt, make);
    peer.open_stt(1);
    starts.recv_timeout(PATIENCE).expect("the lane begins");
    let deadline = Instant::now() + PATIENCE;
    while peer.ping().busy_ms == 0 {
        assert!(Instant::now() < deadline, "a computation under way is not seen");
    }
    peer.send(&ToWorker::Cancel { stream: StreamId(1) }, &[]);
    assert!(matches!(peer.next().0, ToEngine::Done(done) if done.cancelled));
}

#[test]
fn a_panic_fails_its_stream_and_ends_the_worker() {
    let mut peer = Peer::with(1, Job::Stt, counters(1));
    peer.open_stt(1);
    peer.send(&ToWorker::Audio { stream: StreamId(1) }, b"boom");
    assert_eq!(peer.failed(), (1, code::INTERNAL.into()));
    assert!(matches!(
        peer.server.join().expect("no panic in the shell"),
        Err(ServeError::Panicked)
    ));
}

#[test]
fn a_load_that_fails_says_why_and_another_may_follow() {
    let mut peer = Peer::started(1, counters(1));
    peer.open_stt(1);
    assert_eq!(peer.failed(), (1, code::INVALID.into()));
    peer.load(Job::Stt, "../etc/passwd");
    assert!(matches!(peer.next().0, ToEngine::LoadFailed(failed) if failed.code == code::INVALID));
    peer.load(Job::Stt, "test");
    assert!(matches!(peer.next().0, ToEngine::Ready(ready) if ready.stream_credit == 10_000));
    peer.send(&ToWorker::Stop, &[]);
    assert!(peer.server.join().expect("no panic").is_ok());
}

#[test]
fn a_long_reason_is_cut_and_told() {
    let mut peer = Peer::started(1, Box::new(|| unreachable!("nothing is loaded")));
    // Named in the reason and as the file, it would make a header that is longer than the link allows.
    peer.load(Job::Stt, &format!("/{}", "x".repeat(MAX_HEADER * 2 / 3)));
    match peer.next().0 {
        ToEngine::LoadFailed(failed) => assert!(failed.reason.ends_with('…'), "{} bytes", failed.reason.len()),
        other => panic!("{other:?}"),
    }
}
