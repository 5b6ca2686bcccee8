//! The sound of a test phone: a microphone that keeps time, a line that may be bad, and an ear that writes down when each packet came.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use repartee::time::Time;
use thread_priority::unix::{
    RealtimeThreadSchedulePolicy, ThreadSchedulePolicy, set_thread_priority_and_policy, thread_native_id,
};
use thread_priority::{ThreadPriority, ThreadPriorityValue};

use super::sip::DIGITS;
use super::{Codec, Ear, Packet};
use crate::now;

/// Packets leave each 20 ms.
const FRAME: Duration = Duration::from_millis(20);
/// What a packet holds at the RTP clock of 8000 Hz.
const FRAME_TICKS: u32 = 160;
const HEADER_BYTES: usize = 12;
/// RFC 4733 repeats the last packet of a digit, so that its end is not lost.
const END_PACKETS: u32 = 3;

/// How bad the line is on which the phone sends. What it hears is left alone.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Line {
    /// The share of packets that are lost, of 1.
    pub(crate) loss: f64,
    /// Each packet is late by something between nothing and this, evenly spread; so packets overtake one another.
    pub(crate) jitter: Duration,
    /// The same seed loses and delays the same packets.
    pub(crate) seed: u64,
}

/// SplitMix64: the same on each machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Evenly from 0 up to 1.
    fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// What the microphone is to do next.
#[derive(Debug, Default)]
struct Orders {
    /// What is still to be said, at the codec's rate.
    speech: VecDeque<i16>,
    /// Each digit as RFC 4733 counts them, and how many packets long it is pressed.
    digits: VecDeque<(u8, u32)>,
    /// When what was ordered last began to leave, until somebody asked.
    begun: Option<Time>,
    muted: bool,
    line: Line,
}

#[derive(Debug)]
struct Shared {
    orders: Mutex<Orders>,
    /// What the ear has caught. It never waits for who looks at it: a thread in real time that waits for an ordinary one is late.
    caught: SyncSender<Packet>,
    heard: Mutex<(Receiver<Packet>, Vec<Packet>)>,
    stop: AtomicBool,
}

/// Packets that one call may have: five minutes.
const MOST_PACKETS: usize = 1 << 14;

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The media of one call; it ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Media {
    socket: Arc<UdpSocket>,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    codec: Codec,
}

impl Media {
    /// A socket on loopback. Nothing is sent before [`Media::start`].
    pub(crate) fn bind() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("loopback has a free port");
        socket
            .set_read_timeout(Some(Duration::from_millis(50)))
            .expect("a socket takes it");
        let (caught, catch) = sync_channel(MOST_PACKETS);
        Self {
            socket: Arc::new(socket),
            shared: Arc::new(Shared {
                orders: Mutex::default(),
                caught,
                heard: Mutex::new((catch, Vec::with_capacity(MOST_PACKETS))),
                stop: AtomicBool::new(false),
            }),
            threads: Vec::new(),
            codec: Codec::Ulaw,
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.socket.local_addr().expect("it is bound")
    }

    /// Starts microphone and ear towards `peer`. Silence leaves until something is said. Nothing, if they run.
    pub(crate) fn start(&mut self, peer: SocketAddr, codec: Codec, line: Line) {
        if !self.threads.is_empty() {
            return;
        }
        self.codec = codec;
        locked(&self.shared.orders).line = line;
        let (socket, shared) = (Arc::clone(&self.socket), Arc::clone(&self.shared));
        self.threads.push(thread::spawn(move || listen(&socket, &shared)));
        let (socket, shared) = (Arc::clone(&self.socket), Arc::clone(&self.shared));
        self.threads.push(thread::spawn(move || {
            Microphone::new(codec, peer).run(&socket, &shared)
        }));
    }

    /// Says `samples`, at the codec's rate, after what is still to be said.
    pub(crate) fn say(&self, samples: &[i16]) {
        let mut orders = locked(&self.shared.orders);
        orders.begun = None;
        orders.speech.extend(samples);
    }

    /// When the first sample of what was said last left, once it has.
    pub(crate) fn begun(&self) -> Option<Time> {
        locked(&self.shared.orders).begun
    }

    /// Whether nothing is left to be said or pressed.
    pub(crate) fn is_done(&self) -> bool {
        let orders = locked(&self.shared.orders);
        orders.speech.is_empty() && orders.digits.is_empty()
    }

    /// Presses these keys one after the other, each for `duration`.
    pub(crate) fn press(&self, keys: &str, duration: Duration) {
        let packets = u32::try_from(duration.as_millis() / FRAME.as_millis()).expect("keys are pressed for a moment");
        locked(&self.shared.orders).digits.extend(keys.chars().map(|key| {
            let number = "0123456789*#ABCD".find(key).expect("a phone has sixteen keys at most");
            (u8::try_from(number).expect("below sixteen"), packets.max(1))
        }));
    }

    /// Sends nothing at all while muted, as a phone does that saves bandwidth.
    pub(crate) fn mute(&self, muted: bool) {
        locked(&self.shared.orders).muted = muted;
    }

    /// What was heard so far.
    pub(crate) fn ear(&self) -> Ear {
        let mut heard = locked(&self.shared.heard);
        let (catch, packets) = &mut *heard;
        packets.extend(catch.try_iter());
        Ear::new(packets.clone(), self.codec)
    }

    /// Ends microphone and ear, and does not wait for that.
    pub(crate) fn silence(&self) {
        self.shared.stop.store(true, Ordering::Release);
    }
}

impl Drop for Media {
    fn drop(&mut self) {
        self.silence();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// The phones are what measures, so they must not be late themselves. Where the system doesn't allow it, they are as punctual as
/// they can be.
pub(crate) fn go_real_time() {
    let priority = ThreadPriorityValue::try_from(60_u8).expect("it is within 0 to 99");
    let _ = set_thread_priority_and_policy(
        thread_native_id(),
        ThreadPriority::Crossplatform(priority),
        ThreadSchedulePolicy::Realtime(RealtimeThreadSchedulePolicy::Fifo),
    );
}

fn listen(socket: &UdpSocket, shared: &Shared) {
    go_real_time();
    let mut datagram = [0; 2_048];
    while !shared.stop.load(Ordering::Acquire) {
        let Ok((length, _)) = socket.recv_from(&mut datagram) else {
            continue;
        };
        let at = now();
        if let Some(packet) = Packet::parse(at, &datagram[..length]) {
            shared.caught.try_send(packet).expect("a test's call is shorter");
        }
    }
}

/// Sends; the state of one stream.
struct Microphone {
    codec: Codec,
    peer: SocketAddr,
    sequence: u16,
    ticks: u32,
    /// What jitter holds back, by its time and its number.
    delayed: BinaryHeap<Reverse<(Time, u64, Vec<u8>)>>,
    number: u64,
    random: Option<Random>,
    digit: Option<Digit>,
    /// The next packet of audio is the first after a gap.
    marker: bool,
    encoder: super::codec::Encoder,
}

/// A digit that is being pressed.
struct Digit {
    event: u8,
    start: u32,
    packets: u32,
    sent: u32,
}

impl Microphone {
    fn new(codec: Codec, peer: SocketAddr) -> Self {
        Self {
            codec,
            peer,
            // Shortly before they wrap, so that each longer call sees that.
            sequence: 65_400,
            ticks: u32::MAX - 200 * FRAME_TICKS,
            delayed: BinaryHeap::new(),
            number: 0,
            random: None,
            digit: None,
            marker: true,
            encoder: super::codec::Encoder::new(codec),
        }
    }

    fn run(mut self, socket: &UdpSocket, shared: &Shared) {
        go_real_time();
        let begin = now();
        let mut frame = 0_u32;
        while !shared.stop.load(Ordering::Acquire) {
            let due = begin + FRAME * frame;
            let next = self.delayed.peek().map_or(due, |Reverse((time, ..))| due.min(*time));
            let left = next.since(now());
            if !left.is_zero() {
                thread::park_timeout(left);
                continue;
            }
            while self.delayed.peek().is_some_and(|Reverse((time, ..))| *time <= now()) {
                if let Some(Reverse((_, _, packet))) = self.delayed.pop() {
                    let _ = socket.send_to(&packet, self.peer);
                }
            }
            if due <= now() {
                frame += 1;
                self.tick(socket, &mut locked(&shared.orders));
            }
        }
    }

    /// The packet of these 20 ms.
    fn tick(&mut self, socket: &UdpSocket, orders: &mut Orders) {
        if self.digit.is_none()
            && let Some((event, packets)) = orders.digits.pop_front()
        {
            self.digit = Some(Digit {
                event,
                start: self.ticks,
                packets,
                sent: 0,
            });
        }
        if let Some(digit) = &mut self.digit {
            digit.sent += 1;
            let ended = digit.sent >= digit.packets;
            let duration = u16::try_from(digit.sent.min(digit.packets) * FRAME_TICKS).unwrap_or(u16::MAX);
            let payload = [
                digit.event,
                if ended { 0x8a } else { 0x0a },
                (duration >> 8) as u8,
                duration as u8,
            ];
            let (start, marker) = (digit.start, digit.sent == 1);
            let copies = if ended { END_PACKETS } else { 1 };
            if ended {
                self.digit = None;
                self.marker = true;
            }
            for _ in 0..copies {
                self.send(socket, orders.line, DIGITS, marker, start, &payload);
            }
            self.ticks = self.ticks.wrapping_add(FRAME_TICKS);
            return;
        }
        let ticks = self.ticks;
        self.ticks = self.ticks.wrapping_add(FRAME_TICKS);
        let samples = self.codec.rate() as usize / 50;
        let speaks = !orders.speech.is_empty();
        let mut pcm: Vec<i16> = (0..samples).map_while(|_| orders.speech.pop_front()).collect();
        pcm.resize(samples, 0);
        if speaks && orders.begun.is_none() {
            orders.begun = Some(now());
        }
        if orders.muted && !speaks {
            self.marker = true;
            return;
        }
        let payload = self.encoder.encode(&pcm);
        let marker = std::mem::take(&mut self.marker);
        self.send(socket, orders.line, self.codec.payload_type(), marker, ticks, &payload);
    }

    fn send(&mut self, socket: &UdpSocket, line: Line, kind: u8, marker: bool, ticks: u32, payload: &[u8]) {
        let mut packet = Vec::with_capacity(HEADER_BYTES + payload.len());
        packet.extend([0x80, kind | if marker { 0x80 } else { 0 }]);
        packet.extend(self.sequence.to_be_bytes());
        packet.extend(ticks.to_be_bytes());
        packet.extend(0x7e57_0001_u32.to_be_bytes());
        packet.extend(payload);
        self.sequence = self.sequence.wrapping_add(1);
        self.number += 1;
        let random = self.random.get_or_insert(Random(line.seed));
        if line.loss > 0.0 && random.share() < line.loss {
            return;
        }
        if line.jitter.is_zero() {
            let _ = socket.send_to(&packet, self.peer);
        } else {
            let late = line.jitter.mul_f64(random.share());
            self.delayed.push(Reverse((now() + late, self.number, packet)));
        }
    }
}
