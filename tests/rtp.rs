//! RTP as Asterisk sends it: calls that come unannounced, calls whose port was reserved, bad networks and bad input. The backends are
//! scripted; the engine, the telephone's floor and the wire are the real ones.

mod support;

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use repartee::audio::{Codec, Framing, MediaFormat, Outbound, RtpStart, SampleRate, g711};
use repartee::call::{Digit, KeyCollection, Settings};
use repartee::engine::{Clock, EngineOptions};
use repartee::phone::{Admission, Announcement, Facts, Key, LiveCall, Notice, PhoneOptions, Phones, tools};
use repartee::time::Time;
use repartee::transport::native::NativeOptions;
use repartee::transport::rtp::{self, Answer, Ports, RtpOptions};
use repartee_protocol::rtp::{
    Datagram, DigitSender, RtcpPacket, RtcpReader, RtpHeader, RtpPacket, RtpSender, SenderReport, classify,
    write_goodbye, write_report,
};
use support::{Fakes, LIMIT, TestServer, eventually, tone};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

const GREETING: &str = "Good morning, you have reached us.";

/// Where tests look for ports: each takes its own, and goes on where they are taken.
static NEXT: AtomicU16 = AtomicU16::new(0);

struct Exchange {
    server: TestServer,
    phones: Phones,
    ports: Ports,
    first: u16,
    serving: JoinHandle<()>,
}

fn phone_options() -> PhoneOptions {
    PhoneOptions {
        settings: Settings::default(),
        greeting: GREETING.to_owned(),
        without_llm: "There is no language model.".to_owned(),
        trouble: "Sorry, once more please.".to_owned(),
        parrot: true,
        ..PhoneOptions::default()
    }
}

fn bind(options: RtpOptions, count: u16) -> (Ports, u16) {
    for _ in 0..500 {
        let process = std::process::id() as u16 % 300;
        let first = 20_000 + process * 40 + NEXT.fetch_add(count, Ordering::Relaxed);
        let wanted = RtpOptions {
            ports: first..=first + count - 1,
            ..options.clone()
        };
        if let Ok(ports) = Ports::bind(wanted) {
            return (ports, first);
        }
    }
    panic!("there are no free ports");
}

impl Exchange {
    async fn start(options: RtpOptions, count: u16) -> Self {
        Self::with(options, count, EngineOptions::default(), phone_options()).await
    }

    async fn with(options: RtpOptions, count: u16, engine: EngineOptions, phone: PhoneOptions) -> Self {
        let server = TestServer::with_options(Fakes::default(), NativeOptions::default(), engine).await;
        let phones = Phones::new(server.engine.clone(), phone);
        let (ports, first) = bind(options, count);
        // All of this machine may call, but for the address that strangers have.
        let admission = Admission::new(|address| address.is_loopback() && address != STRANGE);
        let serving = tokio::spawn(rtp::serve(ports.clone(), phones.clone(), admission));
        let reserved = || ports.reserve().is_some();
        eventually("the ports are served", LIMIT, reserved).await;
        Self {
            server,
            phones,
            ports,
            first,
            serving,
        }
    }

    fn address(&self, port: u16) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, port))
    }

    fn only_call(&self) -> LiveCall {
        let calls = self.phones.board().calls();
        assert_eq!(calls.len(), 1, "{calls:?}");
        calls[0].clone()
    }

    async fn calls(&self, count: usize) {
        eventually("calls", LIMIT, || self.phones.board().calls().len() == count).await;
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

const STRANGE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 9, 9, 9));

/// Asterisk's side of one call.
struct Asterisk {
    socket: UdpSocket,
    to: SocketAddr,
    sender: RtpSender,
    /// What was heard: headers and payloads, in the order of their arrival.
    heard: Vec<(RtpHeader, Vec<u8>)>,
    /// Reports, and the port that each came from.
    reports: Vec<(u16, Vec<u8>)>,
    clock: Clock,
    due: Time,
}

impl Asterisk {
    fn new(to: SocketAddr) -> Self {
        Self::at(to, IpAddr::V4(Ipv4Addr::LOCALHOST), 0x0bad_cafe)
    }

    fn at(to: SocketAddr, here: IpAddr, ssrc: u32) -> Self {
        let socket = UdpSocket::bind((here, 0)).expect("loopback has a free port");
        socket.set_nonblocking(true).expect("a socket can be told not to wait");
        Self {
            socket,
            to,
            sender: RtpSender::new(0, ssrc, 65_520, u32::MAX - 3_000),
            heard: Vec::new(),
            reports: Vec::new(),
            clock: Clock::start(),
            due: Time::ZERO,
        }
    }

    fn address(&self) -> SocketAddr {
        self.socket.local_addr().expect("a socket has an address")
    }

    fn raw(&self, datagram: &[u8]) {
        // A flood may find the queue full.
        let _ = self.socket.send_to(datagram, self.to);
    }

    fn frame(&mut self, pcm: &[i16]) -> Vec<u8> {
        let mut payload = Vec::new();
        g711::mu_law_encode_into(pcm, &mut payload);
        let mut packet = Vec::new();
        self.sender.write(&payload, pcm.len() as u32, &mut packet);
        packet
    }

    /// Takes what has come.
    fn listen(&mut self) {
        let mut buffer = [0; 2_048];
        while let Ok((count, from)) = self.socket.recv_from(&mut buffer) {
            if classify(&buffer[..count]) == Datagram::Rtcp {
                self.reports.push((from.port(), buffer[..count].to_vec()));
            } else if let Ok(packet) = RtpPacket::parse(&buffer[..count]) {
                self.heard.push((packet.header, packet.payload.to_vec()));
            }
        }
    }

    /// The next moment of a frame.
    async fn tick(&mut self) {
        let now = self.clock.now();
        // Who was stopped for long begins anew.
        self.due = if now.since(self.due) > Duration::from_millis(200) {
            now
        } else {
            self.due
        };
        self.due += Duration::from_millis(20);
        tokio::time::sleep_until(self.clock.instant(self.due)).await;
        self.listen();
    }

    /// Sends `pcm`, 8 kHz, in time.
    async fn speak(&mut self, pcm: &[i16]) {
        for frame in pcm.chunks(160) {
            let packet = self.frame(frame);
            self.raw(&packet);
            self.tick().await;
        }
    }

    async fn silence(&mut self, millis: usize) {
        self.speak(&vec![0; 8 * millis]).await;
    }

    /// Speaks silence until `condition` holds.
    async fn until(&mut self, what: &str, mut condition: impl FnMut(&mut Self) -> bool) {
        let waiting = async {
            while !condition(self) {
                self.silence(20).await;
            }
        };
        assert!(timeout(LIMIT, waiting).await.is_ok(), "{what}: not within {LIMIT:?}");
    }

    /// Frames that were heard and are no silence.
    fn loud(&self) -> usize {
        let is_loud = |payload: &Vec<u8>| {
            payload
                .iter()
                .any(|byte| g711::mu_law_decode(*byte).unsigned_abs() > 500)
        };
        self.heard.iter().filter(|(_, payload)| is_loud(payload)).count()
    }
}

#[tokio::test]
async fn a_stream_that_nobody_announced_is_a_call() {
    let exchange = Exchange::start(RtpOptions::default(), 1).await;
    let mut asterisk = Asterisk::new(exchange.address(exchange.first));
    // Three packets are none.
    asterisk.silence(60).await;
    assert_eq!(exchange.ports.busy(), 0);
    asterisk.silence(200).await;
    assert_eq!((exchange.ports.busy(), exchange.only_call().wire), (1, "rtp"));
    asterisk.until("the greeting", |asterisk| asterisk.loud() > 20).await;
    asterisk
        .until("its end", |asterisk| {
            let last = asterisk.heard.len().saturating_sub(25);
            let payloads = &asterisk.heard[last..];
            payloads
                .iter()
                .all(|(_, payload)| payload.iter().all(|byte| *byte == g711::MU_LAW_SILENCE))
        })
        .await;
    // The caller speaks, and is answered.
    let before = asterisk.loud();
    asterisk.speak(&tone(8_000, 1_000)).await;
    asterisk
        .until("an answer", |asterisk| asterisk.loud() > before + 10)
        .await;
    let heard = exchange.server.fakes.stt.heard();
    assert!(!heard.is_empty());

    // One packet of 20 ms for each frame, numbered without a hole; timestamps run on; the first alone is marked.
    let first = asterisk.heard[0].0;
    assert!(first.marker);
    for (n, (header, payload)) in asterisk.heard.iter().enumerate() {
        assert_eq!((header.ssrc, header.payload_type, payload.len()), (first.ssrc, 0, 160));
        assert_eq!(header.sequence, first.sequence.wrapping_add(n as u16));
        if n > 0 {
            let step = header.timestamp.wrapping_sub(asterisk.heard[n - 1].0.timestamp);
            assert!(step == 160 || (header.marker && step > 160), "{step}");
        }
    }
    let quality = exchange.only_call().quality.received;
    assert!(quality.received > 50);
    assert_eq!((quality.malformed, quality.strangers, quality.duplicated), (0, 0, 0));
}

/// Announces a call for a reserved port, and answers what its owner is told by.
fn announce(exchange: &Exchange, port: u16) -> (repartee::phone::Ticket, mpsc::Receiver<Notice>) {
    let (control, notices) = mpsc::channel(16);
    let announcement = Announcement {
        facts: Facts::of_call("1795291244.164").with_numbers("100", "", "200"),
        tools: tools(),
        control,
    };
    let ticket = exchange.phones.announced().announce(Key::Port(port), announcement);
    (ticket.expect("there is room"), notices)
}

async fn notice(notices: &mut mpsc::Receiver<Notice>) -> Notice {
    let notice = timeout(LIMIT, notices.recv()).await.expect("a notice comes");
    notice.expect("the call is there")
}

#[tokio::test]
async fn a_reserved_port_is_called_before_anything_came_and_ends_with_its_reservation() {
    let exchange = Exchange::start(RtpOptions::default(), 2).await;
    let reserved = exchange.ports.reserve().expect("two are free");
    let (_ticket, mut notices) = announce(&exchange, reserved.port());
    let mut asterisk = Asterisk::new(exchange.address(reserved.port()));
    reserved.call(asterisk.address());
    assert!(matches!(notice(&mut notices).await, Notice::Connected(..)));
    let call = exchange.only_call();
    assert_eq!(call.facts.call.as_deref(), Some("1795291244.164"));
    // It hears silence, then the greeting, without having sent a packet.
    while asterisk.loud() < 5 {
        asterisk.tick().await;
    }
    assert_eq!(asterisk.heard[0].1, [g711::MU_LAW_SILENCE; 160]);
    asterisk
        .until("it is heard", |_| exchange.only_call().quality.received.received > 20)
        .await;
    assert_eq!(exchange.only_call().quality.received.malformed, 0);
    // The other port is another call's; a third isn't there.
    let other = exchange.ports.reserve().expect("one is free");
    assert_ne!(other.port(), reserved.port());
    assert!(exchange.ports.reserve().is_none());
    drop(other);

    let port = reserved.port();
    drop(reserved);
    assert!(matches!(notice(&mut notices).await, Notice::Over));
    exchange.calls(0).await;
    assert_eq!(exchange.ports.busy(), 0);
    // What still comes for it is no new call.
    asterisk.silence(500).await;
    assert_eq!(exchange.ports.busy(), 0);
    assert!(exchange.phones.board().calls().is_empty());
    // Another stream is, and the port that was used the longest ago is the first to be taken.
    assert_ne!(exchange.ports.reserve().expect("both are free").port(), port);
    let mut next = Asterisk::at(exchange.address(port), IpAddr::V4(Ipv4Addr::LOCALHOST), 9);
    next.until("another call", |_| exchange.ports.busy() == 1).await;
}

#[tokio::test]
async fn a_reserved_port_waits_for_packets_where_the_address_is_not_told() {
    let exchange = Exchange::start(
        RtpOptions {
            unannounced: false,
            ..RtpOptions::default()
        },
        1,
    )
    .await;
    let mut asterisk = Asterisk::new(exchange.address(exchange.first));
    asterisk.silence(300).await;
    assert!(
        exchange.phones.board().calls().is_empty(),
        "it was said that such are no calls"
    );
    let reserved = exchange.ports.reserve().expect("one is free");
    let (_ticket, mut notices) = announce(&exchange, reserved.port());
    asterisk
        .until("the call", |_| !exchange.phones.board().calls().is_empty())
        .await;
    assert!(matches!(notice(&mut notices).await, Notice::Connected(..)));
    asterisk.until("the greeting", |asterisk| asterisk.loud() > 5).await;
    // The wire's own end of a call leaves the port to whoever has reserved it.
    exchange.serving.abort();
    asterisk.silence(200).await;
    assert_eq!(exchange.only_call().wire, "rtp", "calls that are going on go on");
}

#[tokio::test]
async fn who_was_hung_up_on_is_not_called_anew_by_the_same_stream() {
    let mut phone = phone_options();
    phone.settings.stages.llm = false;
    let exchange = Exchange::with(RtpOptions::default(), 1, EngineOptions::default(), phone).await;
    let mut asterisk = Asterisk::new(exchange.address(exchange.first));
    asterisk.until("the sentence", |asterisk| asterisk.loud() > 20).await;
    asterisk
        .until("the end", |_| exchange.phones.board().calls().is_empty())
        .await;
    let spoken = exchange.server.fakes.tts.spoken().len();
    asterisk.silence(600).await;
    assert_eq!(exchange.ports.busy(), 0);
    assert_eq!(exchange.server.fakes.tts.spoken().len(), spoken);
    let mut other = Asterisk::at(exchange.address(exchange.first), IpAddr::V4(Ipv4Addr::LOCALHOST), 77);
    other.until("another caller", |other| other.loud() > 20).await;
}

#[tokio::test]
async fn a_call_ends_when_nothing_comes_any_more_and_another_takes_its_place() {
    let options = RtpOptions {
        idle: Duration::from_millis(400),
        ..RtpOptions::default()
    };
    let exchange = Exchange::start(options, 1).await;
    let mut asterisk = Asterisk::new(exchange.address(exchange.first));
    asterisk.until("the call", |_| exchange.ports.busy() == 1).await;
    exchange.calls(1).await;
    // A goodbye is a hint, and no more.
    let mut goodbye = Vec::new();
    write_goodbye(0x0bad_cafe, &mut goodbye);
    asterisk.raw(&goodbye);
    asterisk.silence(200).await;
    exchange.calls(1).await;
    exchange.calls(0).await;
    assert_eq!(exchange.ports.busy(), 0);
    // He comes back: that is a call.
    asterisk.until("the call", |_| exchange.ports.busy() == 1).await;
}

#[tokio::test]
async fn keys_are_heard_once_each() {
    let mut phone = phone_options();
    phone.settings.keys = Some(KeyCollection {
        terminator: Digit::new('#'),
        timeout_ms: 5_000,
        max_keys: 16,
    });
    let exchange = Exchange::with(RtpOptions::default(), 1, EngineOptions::default(), phone).await;
    let mut asterisk = Asterisk::new(exchange.address(exchange.first));
    asterisk.until("the greeting", |asterisk| asterisk.loud() > 5).await;
    for key in ['1', '1', '2', '#'] {
        let mut digit = DigitSender::new(key, &asterisk.sender, 1_280, 160).expect("it is a key");
        loop {
            let mut packet = Vec::new();
            if !digit.write_next(&mut asterisk.sender, &mut packet) {
                break;
            }
            asterisk.raw(&packet);
            // The network doubles everything.
            asterisk.raw(&packet);
            asterisk.tick().await;
        }
        asterisk.silence(100).await;
    }
    let tts = exchange.server.fakes.tts.clone();
    let is_said = || tts.spoken().iter().any(|request| request.text.expose().contains("112"));
    asterisk.until("the keys come back", |_| is_said()).await;
}

#[tokio::test]
async fn rubbish_strangers_and_floods_harm_nobody() {
    // One thread, so that everybody is in everybody's way.
    let engine = EngineOptions {
        threads: 1,
        ..EngineOptions::default()
    };
    let exchange = Exchange::with(RtpOptions::default(), 2, engine, phone_options()).await;
    let free = exchange.address(exchange.first + 1);
    let called = exchange.address(exchange.first);
    let rubbish = |asterisk: &Asterisk| {
        for length in 0..1_500_usize {
            let bytes: Vec<u8> = (0..length).map(|n| (n * 31 + length * 7) as u8).collect();
            asterisk.raw(&bytes);
            // The same as RTP, of every payload type, with extensions, padding and sources that aren't there.
            let mut bytes = bytes;
            if let [first, second, ..] = &mut bytes[..] {
                *first = 0x80 | (length as u8 & 0x3F);
                *second = length as u8;
            }
            asterisk.raw(&bytes);
        }
        asterisk.raw(&[0x80; 20_000]);
    };
    // Before a call: nobody is answered.
    rubbish(&Asterisk::new(free));
    let mut stranger = Asterisk::at(free, STRANGE, 5);
    stranger.silence(200).await;
    assert_eq!(exchange.ports.busy(), 0);

    let mut asterisk = Asterisk::new(called);
    let mut beside = Asterisk::at(free, IpAddr::V4(Ipv4Addr::LOCALHOST), 8);
    asterisk.until("the call", |asterisk| asterisk.loud() > 5).await;
    beside.until("the call beside", |beside| beside.loud() > 5).await;
    let ssrc = asterisk.heard[0].0.ssrc;
    // From the caller himself, from who may call, and from who may not.
    rubbish(&asterisk);
    let neighbour = Asterisk::at(called, IpAddr::V4(Ipv4Addr::LOCALHOST), 6);
    rubbish(&neighbour);
    let mut stranger = Asterisk::at(called, STRANGE, 5);
    for _ in 0..60 {
        for _ in 0..300 {
            let packet = stranger.frame(&[9_000; 160]);
            stranger.raw(&packet);
        }
        asterisk.silence(20).await;
        beside.silence(20).await;
    }
    let calls = exchange.phones.board().calls();
    assert_eq!(calls.len(), 2);
    assert!(stranger.heard.is_empty() && neighbour.heard.is_empty());
    for caller in [&mut asterisk, &mut beside] {
        caller.silence(1_500).await;
        let spoken = exchange.server.fakes.tts.spoken().len();
        caller.speak(&tone(8_000, 800)).await;

        caller
            .until("an answer", |_| exchange.server.fakes.tts.spoken().len() > spoken)
            .await;
    }
    asterisk
        .until("the count", |_| {
            let calls = exchange.phones.board().calls();
            calls
                .iter()
                .any(|call| call.quality.received.strangers > 1_000 && call.quality.received.malformed > 100)
        })
        .await;
    assert!(
        asterisk.heard.iter().all(|(header, _)| header.ssrc == ssrc),
        "our stream goes on as it began"
    );
}

#[tokio::test]
async fn a_stream_that_changes_is_followed() {
    let exchange = Exchange::start(RtpOptions::default(), 1).await;
    let mut asterisk = Asterisk::new(exchange.address(exchange.first));
    asterisk.until("the call", |asterisk| asterisk.loud() > 20).await;
    let ssrc = asterisk.heard[0].0.ssrc;
    // A transfer: another source from the same place, elsewhere in its numbers.
    asterisk.sender = RtpSender::new(8, 99, 7, 1);
    asterisk.silence(2_500).await;
    let mut alaw = Vec::new();
    for frame in tone(8_000, 800).chunks(160) {
        alaw.clear();
        g711::a_law_encode_into(frame, &mut alaw);
        let mut packet = Vec::new();
        asterisk.sender.write(&alaw, 160, &mut packet);
        asterisk.raw(&packet);
        asterisk.tick().await;
    }
    asterisk.sender.change_payload_type(0);
    let stt = exchange.server.fakes.stt.clone();
    asterisk.until("it is heard", |_| !stt.heard().is_empty()).await;
    assert_eq!(exchange.phones.board().calls().len(), 1);
    assert!(asterisk.heard.iter().all(|(header, _)| header.ssrc == ssrc));
    // He moves to another address, when nothing has come from the first for a while.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let mut moved = Asterisk::at(exchange.address(exchange.first), IpAddr::V4(Ipv4Addr::LOCALHOST), 100);
    moved.until("sound comes there", |moved| moved.heard.len() > 5).await;
    assert_eq!(
        (moved.heard[0].0.ssrc, exchange.phones.board().calls().len()),
        (ssrc, 1)
    );
}

#[tokio::test]
async fn a_bad_network_costs_some_sound_and_no_call() {
    let exchange = Exchange::start(RtpOptions::default(), 1).await;
    let mut asterisk = Asterisk::new(exchange.address(exchange.first));
    asterisk.until("the call", |asterisk| asterisk.loud() > 5).await;
    asterisk.silence(2_000).await;
    // 200 ms of jitter, and a fifth is lost.
    let mut random = 12_345_u32;
    let mut dice = move |sides: u32| {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (random >> 16) % sides
    };
    let sound: Vec<i16> = [vec![0; 4_000], tone(8_000, 1_500), vec![0; 24_000]].concat();
    let mut packets = Vec::new();
    for (frame, n) in sound.chunks(160).zip(0..) {
        let packet = asterisk.frame(frame);
        if dice(5) > 0 {
            packets.push((n * 20 + u64::from(dice(200)), packet));
        }
    }
    packets.sort_by_key(|(at, _)| *at);
    let begin = asterisk.clock.now();
    for (at, packet) in &packets {
        let due = begin + Duration::from_millis(*at);
        tokio::time::sleep_until(asterisk.clock.instant(due)).await;
        asterisk.raw(packet);
        asterisk.listen();
    }
    let stt = exchange.server.fakes.stt.clone();
    asterisk.until("it is heard", |_| !stt.heard().is_empty()).await;
    asterisk
        .until("it is counted", |_| exchange.only_call().quality.received.lost > 10)
        .await;
    let heard: u64 = stt.heard().iter().map(|samples| samples.as_millis()).sum();
    assert!((700..6_000).contains(&heard), "{heard} ms were heard of 1500");
    let received = exchange.only_call().quality.received;
    assert!(received.reordered > 10 && received.jitter_ms > 10, "{received:?}");
}

#[tokio::test]
async fn calls_are_answered_in_the_format_that_was_chosen_whatever_they_come_in() {
    for (answer, payload_type, bytes) in [(Answer::G722, 9, 160), (Answer::L16, 11, 320), (Answer::Pcma, 8, 160)] {
        let exchange = Exchange::start(
            RtpOptions {
                answer,
                ..RtpOptions::default()
            },
            1,
        )
        .await;
        let mut asterisk = Asterisk::new(exchange.address(exchange.first));
        // As Asterisk sends slin16: its own number, 16 kHz, network order.
        let format = MediaFormat {
            codec: Codec::Pcm16,
            rate: SampleRate::Hz16000,
            framing: Framing::Rtp,
        };
        let start = RtpStart {
            payload_type: 118,
            ssrc: 5,
            sequence: 65_530,
            timestamp: u32::MAX - 500,
        };
        let mut slin16 = Outbound::new(format, start).unwrap();
        let sound = [vec![0; 40_000], tone(16_000, 1_000), vec![0; 32_000]].concat();
        for (frame, n) in sound.chunks(320).zip(0..) {
            let mut packet = Vec::new();
            slin16.frame(frame, Time::from_millis(n * 20), &mut packet).unwrap();
            asterisk.raw(&packet);
            asterisk.tick().await;
        }
        let stt = exchange.server.fakes.stt.clone();
        eventually("it is heard", LIMIT, || !stt.heard().is_empty()).await;
        let heard = stt.heard()[0].as_millis();
        assert!((900..3_000).contains(&heard), "{answer:?}: {heard} ms");
        assert!(asterisk.heard.len() > 100);
        for pair in asterisk.heard.windows(2) {
            let ((before, _), (header, payload)) = (&pair[0], &pair[1]);
            assert_eq!(
                (header.payload_type, payload.len()),
                (payload_type, bytes),
                "{answer:?}"
            );
            let step = header.timestamp.wrapping_sub(before.timestamp);
            assert!(step == 160 || (header.marker && step > 160), "{answer:?}: {step}");
        }
    }
}

#[tokio::test]
async fn reports_are_answered_where_they_come_from() {
    let exchange = Exchange::start(RtpOptions::default(), 4).await;
    let here = IpAddr::V4(Ipv4Addr::LOCALHOST);
    // One has its reports on the port of the sound, the other on the next.
    let mut one = Asterisk::at(exchange.address(exchange.first), here, 11);
    let mut two = Asterisk::at(exchange.address(exchange.first + 2), here, 22);
    let mut reports = Asterisk::at(exchange.address(exchange.first + 3), here, 22);
    for caller in [&mut one, &mut two] {
        caller.until("the call", |caller| caller.heard.len() > 5).await;
    }
    let report = |ssrc| {
        let mut report = Vec::new();
        let sender = SenderReport {
            ntp: 77 << 32,
            timestamp: 5,
            packets: 9,
            bytes: 1_440,
        };
        write_report(ssrc, "asterisk", Some(&sender), None, &mut report);
        report
    };
    one.raw(&report(11));
    // Of the wrong source it is nobody's.
    reports.raw(&report(23));
    reports.raw(&report(22));
    one.until("a report", |one| !one.reports.is_empty()).await;
    two.until("another", |_| {
        reports.listen();
        !reports.reports.is_empty()
    })
    .await;
    assert!(two.reports.is_empty());
    for (caller, ssrc, port, (from, report)) in [
        (&one, 11, exchange.first, &one.reports[0]),
        (&two, 22, exchange.first + 3, &reports.reports[0]),
    ] {
        assert_eq!(*from, port);
        let Some(Ok(RtcpPacket::Report {
            ssrc: own,
            sender,
            receptions,
        })) = RtcpReader::new(report).next()
        else {
            panic!("no report");
        };
        assert_eq!(own, caller.heard[0].0.ssrc);
        let block = receptions.iter().next().expect("something came");
        assert_eq!((block.ssrc, block.lost), (ssrc, 0));
        assert!(sender.is_some_and(|sent| sent.packets > 5 && sent.bytes == sent.packets * 160));
    }
}

#[tokio::test]
async fn a_full_house_refuses_and_serves_who_comes_later() {
    let engine = EngineOptions {
        max_sessions: 1,
        ..EngineOptions::default()
    };
    let options = RtpOptions {
        idle: Duration::from_millis(500),
        ..RtpOptions::default()
    };
    let exchange = Exchange::with(options, 2, engine, phone_options()).await;
    let mut first = Asterisk::new(exchange.address(exchange.first));
    first.until("the call", |first| first.loud() > 5).await;
    let mut second = Asterisk::new(exchange.address(exchange.first + 1));
    for _ in 0..30 {
        second.silence(20).await;
        first.silence(20).await;
    }
    assert!(second.heard.is_empty());
    assert_eq!(exchange.ports.busy(), 1);
    exchange.calls(0).await;
    // He dials again.
    let mut third = Asterisk::at(exchange.address(exchange.first + 1), IpAddr::V4(Ipv4Addr::LOCALHOST), 3);
    third.until("the call", |third| third.loud() > 5).await;
}
