use super::super::codec::{Codec, Encoder};
use super::super::opus::OpusOptions;
use super::*;
use repartee_protocol::rtp::{DigitSender, RtpSender, write_goodbye, write_report};

const OWN: u32 = 0x0B0E;
const SLIN16: u8 = payload_type::asterisk::SLIN16;
const SLIN: u8 = payload_type::asterisk::SLIN;

/// A small generator of numbers (xorshift64), seeded.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

fn peer() -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 5], 4000))
}

fn stranger() -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 66], 4000))
}

fn receiver() -> RtpReceiver {
    RtpReceiver::new(RtpFormats::asterisk(), SampleRate::Hz16000, OWN, None, None)
}

fn packet(header: RtpHeader, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    header.write(&mut bytes);
    bytes.extend_from_slice(payload);
    bytes
}

/// 20 ms of L16 at 16 kHz that say which frame they are.
fn marked(number: u32) -> Vec<u8> {
    marking(number).to_be_bytes().repeat(320)
}

fn marking(number: u32) -> i16 {
    (2_000 + 2 * (number % 15_000)) as i16
}

fn slin16(number: u32) -> Vec<u8> {
    let header = RtpHeader {
        marker: number == 0,
        payload_type: SLIN16,
        sequence: 65_500_u16.wrapping_add(number as u16),
        timestamp: (u32::MAX - 10_000).wrapping_add(number.wrapping_mul(320)),
        ssrc: 7,
    };
    packet(header, &marked(number))
}

/// Runs a receiver over datagrams with their times (ns) and senders, up to `until`, with polls at its deadlines.
fn run(receiver: &mut RtpReceiver, mut sent: Vec<(u64, SocketAddr, Vec<u8>)>, until: u64) -> Heard {
    sent.sort_by_key(|datagram| datagram.0);
    let mut heard = Heard::default();
    for (now, from, bytes) in sent {
        while let Some(deadline) = receiver.next_deadline().filter(|deadline| deadline.as_nanos() < now) {
            receiver.poll(deadline, &mut heard);
        }
        let _ = receiver.receive(Time::from_nanos(now), from, &bytes, &mut heard);
    }
    while let Some(deadline) = receiver.next_deadline().filter(|deadline| deadline.as_nanos() < until) {
        receiver.poll(deadline, &mut heard);
    }
    heard
}

/// A network: in every 100 packets so many are lost, and each is up to `jitter` ns late.
fn network(count: u32, loss: u64, jitter: u64, ppm: i64, seed: u64) -> Vec<(u64, SocketAddr, Vec<u8>)> {
    let mut random = Random(seed * 7_919 + 1);
    (0..count)
        .filter_map(|number| {
            let sent = 20_000_000 * (i64::from(number) + 1);
            let sent = (sent - sent / 1_000_000 * ppm).unsigned_abs();
            let late = if jitter > 0 { random.below(jitter) } else { 0 };
            (random.below(100) >= loss || number == 0).then(|| (sent + late, peer(), slin16(number)))
        })
        .collect()
}

/// Each frame that is found in the output, and by how many ms it is later there than where it was sent.
fn timeline(pcm: &[i16]) -> Vec<(u32, i64)> {
    let mut found = Vec::new();
    let mut last = None;
    for (index, frame) in pcm.chunks_exact(320).enumerate() {
        // Its start may be blended with what concealed the frame before.
        let tail = &frame[100..];
        let value = tail[0];
        if value < 2_000 || tail.iter().any(|sample| *sample != value) {
            continue;
        }
        // Which number of those that share the marking, is told by its place.
        let low = (i64::from(value) - 2_000) / 2;
        let cycle = (index as i64 - low + 7_500).div_euclid(15_000);
        let number = low + 15_000 * cycle;
        assert!(last.is_none_or(|last| number > last), "never out of order, never twice");
        last = Some(number);
        found.push((number as u32, 20 * (index as i64 - number)));
    }
    found
}

/// The largest distance from the usual delay.
fn timeline_error(pcm: &[i16]) -> i64 {
    let mut delays: Vec<_> = timeline(pcm).into_iter().map(|(_, delay)| delay).collect();
    delays.sort_unstable();
    let usual = delays[delays.len() / 2];
    delays.iter().map(|delay| (delay - usual).abs()).max().unwrap_or(0)
}

#[test]
fn a_clean_stream_comes_out_as_it_went_in() {
    let mut receiver = receiver();
    let heard = run(&mut receiver, network(500, 0, 0, 0, 1), 10_030_000_000);
    let found = timeline(&heard.pcm);
    assert_eq!(found.len(), 500 - 1, "the last is not due yet");
    assert!(found.iter().all(|(_, delay)| *delay == 0));
    let quality = receiver.quality();
    assert_eq!(
        quality,
        StreamQuality {
            received: 500,
            ..StreamQuality::default()
        }
    );
    assert_eq!(receiver.peer(), Some(peer()));
    assert_eq!(receiver.format(), Some(RtpFormat::of(Codec::Pcm16, 16_000)));
}

#[test]
fn the_closures_of_words_are_no_place_to_save_time() {
    // Every 300 ms there are 100 ms of quiet, as before a `t`: on a perfect network not a sample may change.
    let frame = |n: u32| if n % 15 < 5 { vec![0; 640] } else { marked(n) };
    let packets = |count: u32| {
        (0..count)
            .map(|n| {
                let header = RtpHeader {
                    marker: false,
                    payload_type: SLIN16,
                    sequence: n as u16,
                    timestamp: 320 * n,
                    ssrc: 1,
                };
                (20_000_000 * u64::from(n), peer(), packet(header, &frame(n)))
            })
            .collect()
    };
    let mut receiver = receiver();
    let heard = run(&mut receiver, packets(1_000), 20_000_000_000);
    let sent: Vec<i16> = (0..1_000)
        .flat_map(|n| {
            frame(n)
                .as_chunks::<2>()
                .0
                .iter()
                .map(|pair| i16::from_be_bytes(*pair))
                .collect::<Vec<_>>()
        })
        .collect();
    assert!(heard.pcm.len() > 16 * 19_900);
    assert!(heard.pcm == sent[..heard.pcm.len()], "every sample as it was sent");
    assert_eq!(receiver.quality().left_out_ms, 0);
}

#[test]
fn with_3_percent_of_loss_and_40_ms_of_jitter_every_sound_has_its_place() {
    for seed in 1..=20 {
        let mut receiver = receiver();
        let heard = run(&mut receiver, network(3_000, 3, 40_000_000, 0, seed), 60_000_000_000);
        let quality = receiver.quality();
        assert!(
            timeline_error(&heard.pcm) <= 20,
            "seed {seed}: {} ms, {quality:?}",
            timeline_error(&heard.pcm)
        );
        assert_eq!(quality.filled_ms, 0, "no hole is left unconcealed: {quality:?}");
        assert!((40..150).contains(&quality.lost), "{quality:?}");
        assert!(quality.late <= 15, "{quality:?}");
        assert!(
            quality.concealed_ms <= 20 * (quality.lost + quality.late) + 60,
            "{quality:?}"
        );
        assert!(quality.reordered > 100, "{quality:?}");
        // Real time: what was heard is as long as the call, less the depth.
        assert!((heard.pcm.len() / 16).abs_diff(60_000) <= 100);
    }
}

#[test]
fn with_20_percent_of_loss_it_goes_on() {
    for seed in 1..=5 {
        let mut receiver = receiver();
        let heard = run(&mut receiver, network(3_000, 20, 40_000_000, 0, seed), 60_000_000_000);
        let quality = receiver.quality();
        assert!(timeline_error(&heard.pcm) <= 40, "{} ms", timeline_error(&heard.pcm));
        let found = timeline(&heard.pcm).len() as u64;
        assert!(found + quality.late + 10 >= quality.received, "{found}, {quality:?}");
        assert!((heard.pcm.len() / 16).abs_diff(60_000) <= 200);
        assert!((500..700).contains(&quality.lost), "{quality:?}");
    }
}

#[test]
fn with_200_ms_of_jitter_the_depth_grows_and_is_bounded() {
    for seed in 1..=5 {
        let mut receiver = receiver();
        let heard = run(&mut receiver, network(3_000, 0, 200_000_000, 0, seed), 60_000_000_000);
        let quality = receiver.quality();
        assert!(receiver.depth() <= Duration::from_millis(220), "{:?}", receiver.depth());
        let found = timeline(&heard.pcm).len();
        assert!(found > 2_850, "{found} of 3000, {quality:?}");
        assert!(quality.jitter_ms > 40, "{quality:?}");
        assert!((heard.pcm.len() / 16).abs_diff(60_000) <= 300);
    }
}

#[test]
fn a_clock_off_by_200_ppm_for_an_hour_adds_no_delay() {
    for ppm in [-200, 200] {
        let mut receiver = receiver();
        let count = 180_000;
        let heard = run(&mut receiver, network(count, 0, 10_000_000, ppm, 3), 3_599_000_000_000);
        let quality = receiver.quality();
        assert!(receiver.depth() <= Duration::from_millis(120), "{:?}", receiver.depth());
        // Output is of our clock; all but what the clocks part by in an hour was heard, or filled up.
        let seconds = heard.pcm.len() / 16_000;
        assert!((3_598..=3_601).contains(&seconds), "{seconds}");
        assert!((i64::from(quality.drift_ppm) - ppm).abs() <= 10, "{quality:?}");
        assert!(quality.late <= 80 && quality.concealed_ms <= 1_500, "{quality:?}");
        assert!(receiver.spare.len() <= SPARE_BUFFERS && receiver.jitter.len() <= 8);
    }
}

#[test]
fn numbers_wrap_anywhere() {
    // 10 ms a packet; the last row is long enough for every number to come by.
    let firsts = [0_u16, 1, 0x7FFE, 0x7FFF, 0x8000, 0xFF00, 0xFFFE, 0xFFFF];
    let rows = firsts
        .into_iter()
        .map(|first| (first, 400_u32))
        .chain([(0x1234, 70_000)]);
    for (first, count) in rows {
        for timestamp in [0, 0x7FFF_FF00, u32::MAX - 500] {
            let mut receiver = receiver();
            let sent = (0..count)
                .filter(|number| number % 50 != 7)
                .map(|number| {
                    let header = RtpHeader {
                        marker: false,
                        payload_type: SLIN16,
                        sequence: first.wrapping_add(number as u16),
                        timestamp: number.wrapping_mul(160).wrapping_add(timestamp),
                        ssrc: 1,
                    };
                    (10_000_000 * u64::from(number), peer(), packet(header, &[0x20; 320]))
                })
                .collect();
            let heard = run(&mut receiver, sent, 10_000_000 * u64::from(count));
            let quality = receiver.quality();
            let lost = u64::from(count) / 50;
            assert_eq!(
                (quality.lost, quality.late, quality.filled_ms),
                (lost, 0, 0),
                "{first} {timestamp}"
            );
            assert_eq!(quality.concealed_ms, 10 * lost);
            assert!((heard.pcm.len() / 16).abs_diff(10 * count as usize) <= 60);
        }
    }
}

#[test]
fn another_source_is_another_stream_and_time_runs_on() {
    let mut receiver = receiver();
    let mut sent: Vec<_> = (0..100)
        .map(|n| (20_000_000 * u64::from(n), peer(), slin16(n)))
        .collect();
    sent.extend((100..200_u32).map(|n| {
        let header = RtpHeader {
            marker: false,
            payload_type: SLIN16,
            sequence: 9 + n as u16,
            timestamp: 77 + n * 320,
            ssrc: 8,
        };
        (20_000_000 * u64::from(n), peer(), packet(header, &marked(n)))
    }));
    let heard = run(&mut receiver, sent, 4_000_000_000);
    let found = timeline(&heard.pcm);
    assert!(found.len() >= 194, "{}", found.len());
    assert!(timeline_error(&heard.pcm) <= 20, "{found:?}");
    assert_eq!(receiver.quality().lost, 0);
}

#[test]
fn strangers_and_their_floods_are_not_heard() {
    let mut receiver = receiver();
    let mut sent = network(500, 0, 5_000_000, 0, 1);
    let noise = |n: u64| {
        let header = RtpHeader {
            marker: false,
            payload_type: SLIN16,
            sequence: n as u16,
            timestamp: 320 * n as u32,
            ssrc: 99,
        };
        packet(header, &30_000_i16.to_be_bytes().repeat(320))
    };
    sent.extend((0..50_000).map(|n| (150_000_000 + 190_000 * n, stranger(), noise(n))));
    let heard = run(&mut receiver, sent, 9_900_000_000);
    assert!(heard.pcm.iter().all(|sample| *sample < 29_000));
    assert_eq!(receiver.quality().strangers, 50_000);
    assert!(timeline(&heard.pcm).len() >= 490);
}

#[test]
fn a_flood_of_the_peers_own_stays_bounded() {
    let mut receiver = receiver();
    // A hundred times as fast as time passes.
    let sent: Vec<_> = (0..50_000)
        .map(|n| (200_000 * u64::from(n), peer(), slin16(n)))
        .collect();
    let heard = run(&mut receiver, sent, 10_000_000_000);
    assert!(
        (heard.pcm.len() / 16).abs_diff(10_000) <= 1_300,
        "{}",
        heard.pcm.len() / 16
    );
    assert!(receiver.jitter.len() <= 64 && receiver.spare.len() <= SPARE_BUFFERS);
    assert!(receiver.quality().left_out_ms > 900_000, "{:?}", receiver.quality());
}

#[test]
fn every_number_of_asterisk_is_heard() {
    for (number, codec, rate, clock) in [
        (0, Codec::Pcmu, 8_000, 8_000),
        (8, Codec::Pcma, 8_000, 8_000),
        (9, Codec::G722, 16_000, 8_000),
        (10, Codec::Pcm16, 8_000, 8_000),
        (11, Codec::Pcm16, 8_000, 8_000),
        (107, Codec::Opus, 16_000, 48_000),
        (118, Codec::Pcm16, 16_000, 16_000),
        (122, Codec::Pcm16, 12_000, 12_000),
        (123, Codec::Pcm16, 24_000, 24_000),
        (124, Codec::Pcm16, 32_000, 32_000),
        (126, Codec::Pcm16, 48_000, 48_000),
    ] {
        let format = RtpFormats::asterisk().format(number).unwrap();
        assert_eq!((format.codec, format.hz, format.clock), (codec, rate, clock));
        let mut encoder = Encoder::new(
            codec,
            format.decoder_rate(),
            ByteOrder::BigEndian,
            OpusOptions::default(),
        )
        .unwrap();
        let mut sender = RtpSender::new(number, 1, 2, 3);
        let mut sent = Vec::new();
        for n in 0..100_u64 {
            let samples = u64::from(rate / 50);
            let tone: Vec<i16> = (n * samples..(n + 1) * samples)
                .map(|at| (8_000.0 * (at as f64 * 440.0 / f64::from(rate) * std::f64::consts::TAU).sin()) as i16)
                .collect();
            let (mut payload, mut bytes) = (Vec::new(), Vec::new());
            encoder.encode(&tone, &mut payload).unwrap();
            sender.write(&payload, clock / 50, &mut bytes);
            if n != 50 {
                sent.push((20_000_000 * n, peer(), bytes));
            }
        }
        let mut receiver = receiver();
        let heard = run(&mut receiver, sent, 2_000_000_000);
        assert!(
            (heard.pcm.len() / 16).abs_diff(1_960) <= 30,
            "{number}: {}",
            heard.pcm.len()
        );
        let middle = &heard.pcm[8_000..12_000];
        // A tone of 440 Hz at -15 dBFS: its level and its crossings of zero.
        assert!((rms_dbfs(middle) + 15.2).abs() < 1.0, "{number}: {}", rms_dbfs(middle));
        let crossings = middle.windows(2).filter(|pair| (pair[0] < 0) != (pair[1] < 0)).count();
        assert!(crossings.abs_diff(220) <= 2, "{number}: {crossings}");
        let quality = receiver.quality();
        assert_eq!(
            (quality.lost, quality.concealed_ms, quality.malformed),
            (1, 20, 0),
            "{number}"
        );
    }
}

#[test]
fn answers_are_static_types() {
    let formats = RtpFormats::asterisk();
    for number in 0..128 {
        let Some(format) = formats.format(number) else { continue };
        let (answer, sent) = asterisk_answer(format);
        assert!(answer <= payload_type::LAST_STATIC);
        assert_eq!(formats.format(answer), Some(sent));
    }
}

#[test]
fn the_format_may_change_in_the_middle() {
    // µ-law, A-law on the same clock, then L16 at 16 kHz on another, all by one source.
    let mut receiver = receiver();
    let sent = (0..150_u64)
        .map(|n| {
            let (number, clock, payload) = match n / 50 {
                0 => (payload_type::PCMU, 160, vec![0x90; 160]),
                1 => (payload_type::PCMA, 160, vec![0x90; 160]),
                _ => (SLIN16, 320, marked(n as u32)),
            };
            let header = RtpHeader {
                marker: false,
                payload_type: number,
                sequence: n as u16,
                timestamp: n as u32 * clock,
                ssrc: 3,
            };
            (20_000_000 * n, peer(), packet(header, &payload))
        })
        .collect();
    let heard = run(&mut receiver, sent, 3_000_000_000);
    assert!((heard.pcm.len() / 16).abs_diff(2_960) <= 30, "{}", heard.pcm.len() / 16);
    let tail = &heard.pcm[heard.pcm.len() - 16_000 + 3_000..];
    assert!(tail.iter().filter(|sample| (2_200..2_300).contains(*sample)).count() > 12_000);
    assert_eq!(receiver.format(), Some(RtpFormat::of(Codec::Pcm16, 16_000)));
    // Without a source of its own, a single packet of another clock changes nothing.
    let mut heard = Heard::default();
    let header = RtpHeader {
        marker: false,
        payload_type: SLIN,
        sequence: 150,
        timestamp: 9,
        ssrc: 3,
    };
    receiver
        .receive(Time::from_millis(3_000), peer(), &packet(header, &[1; 320]), &mut heard)
        .unwrap();
    receiver
        .receive(Time::from_millis(3_005), peer(), &slin16(1), &mut heard)
        .unwrap();
    assert_eq!(receiver.format(), Some(RtpFormat::of(Codec::Pcm16, 16_000)));
}

#[test]
fn keys_count_once_and_are_no_sound() {
    let mut receiver = receiver();
    let mut sender = RtpSender::new(payload_type::PCMU, 1, 65_530, u32::MAX - 100);
    let mut sent = Vec::new();
    let mut now = 0;
    for digit in ['5', '5', '#'] {
        for _ in 0..25 {
            let mut bytes = Vec::new();
            sender.write(&[0xA0; 160], 160, &mut bytes);
            sent.push((now, peer(), bytes));
            now += 20_000_000;
        }
        let mut key = DigitSender::new(digit, &sender, 1_600, 160).unwrap();
        let mut bytes = Vec::new();
        while key.write_next(&mut sender, &mut bytes) {
            sent.push((now, peer(), std::mem::take(&mut bytes)));
            now += 20_000_000;
        }
    }
    // Every packet comes twice, as over two ways.
    let twice: Vec<_> = sent
        .iter()
        .map(|(now, from, bytes)| (now + 3_000_000, *from, bytes.clone()))
        .collect();
    sent.extend(twice);
    let heard = run(&mut receiver, sent, now);
    assert_eq!(heard.digits, ['5', '5', '#']);
    let quality = receiver.quality();
    assert_eq!((quality.lost, quality.duplicated), (0, 75 + 36));
    assert!((heard.pcm.len() / 16).abs_diff(now as usize / 1_000_000) <= 60);
}

#[test]
fn comfort_noise_of_either_number_is_silence() {
    for number in [13, 19] {
        let mut receiver = receiver();
        let audio = |n: u64, sequence: u16| {
            let header = RtpHeader {
                marker: n == 100,
                payload_type: payload_type::PCMU,
                sequence,
                timestamp: 160 * n as u32,
                ssrc: 1,
            };
            (20_000_000 * n, peer(), packet(header, &[0xA0; 160]))
        };
        let mut sent: Vec<_> = (0..50).map(|n| audio(n, n as u16)).collect();
        let header = RtpHeader {
            marker: false,
            payload_type: number,
            sequence: 50,
            timestamp: 160 * 50,
            ssrc: 1,
        };
        sent.push((1_000_000_000, peer(), packet(header, &[60])));
        sent.extend((100..150).map(|n| audio(n, (n - 49) as u16)));
        let heard = run(&mut receiver, sent, 3_000_000_000);
        let quality = receiver.quality();
        assert_eq!(
            (quality.lost, quality.concealed_ms, quality.malformed),
            (0, 0, 0),
            "{number}: {quality:?}"
        );
        assert!((960..=1_040).contains(&quality.filled_ms), "{quality:?}");
        assert!(
            heard.pcm[16_000 + 3_000..32_000 - 3_000]
                .iter()
                .all(|sample| *sample == 0)
        );
    }
}

#[test]
fn lengths_of_packets_are_read_from_them() {
    for ms in [10_u64, 20, 30, 40, 60, 120] {
        let mut receiver = receiver();
        let samples = 8 * ms as usize;
        let sent = (0..100_u64)
            .filter(|n| *n != 40)
            .map(|n| {
                let header = RtpHeader {
                    marker: false,
                    payload_type: payload_type::PCMA,
                    sequence: n as u16,
                    timestamp: n as u32 * samples as u32,
                    ssrc: 1,
                };
                (ms * 1_000_000 * n, peer(), packet(header, &vec![0x90; samples]))
            })
            .collect();
        run(&mut receiver, sent, 100 * ms * 1_000_000);
        let quality = receiver.quality();
        assert_eq!(
            (quality.received, quality.lost, quality.late),
            (99, 1, 0),
            "{ms} ms: {quality:?}"
        );
        assert_eq!(quality.concealed_ms + quality.filled_ms, ms, "{ms} ms: {quality:?}");
    }
}

#[test]
fn what_is_no_sound_is_passed_over_or_counted() {
    let mut receiver = receiver();
    let mut heard = Heard::default();
    let mut take = |receiver: &mut RtpReceiver, bytes: &[u8]| {
        receiver
            .receive(Time::from_millis(1), peer(), bytes, &mut heard)
            .map_err(|error| error.to_string())
    };
    take(&mut receiver, &slin16(0)).unwrap();
    // A binding request, a handshake, nothing.
    take(&mut receiver, &[0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42]).unwrap();
    take(&mut receiver, &[22, 254, 253]).unwrap();
    assert!(take(&mut receiver, &[]).is_err());
    assert!(take(&mut receiver, &slin16(1)[..9]).is_err());
    assert!(take(&mut receiver, &slin16(1)[..651]).is_err(), "half a sample");
    let of = |number: u8, payload: &[u8]| {
        let header = RtpHeader {
            payload_type: number,
            sequence: 65_501,
            timestamp: 5,
            ssrc: 7,
            marker: false,
        };
        packet(header, payload)
    };
    assert_eq!(
        take(&mut receiver, &of(99, &[1])).unwrap_err(),
        "an RTP packet of payload type 99, which was not agreed on"
    );
    assert!(take(&mut receiver, &of(0, &[0; 4_001])).unwrap_err().contains("500 ms"));
    take(&mut receiver, &of(0, &[])).unwrap();
    assert_eq!(receiver.quality().malformed, 5);
    assert_eq!(receiver.quality().received, 1);
}

#[test]
fn reports_are_exchanged_with_whoever_sends_them() {
    let mut receiver = receiver();
    let mut heard = Heard::default();
    for n in 0..100 {
        let now = Time::from_millis(20 * u64::from(n));
        if n % 10 != 9 {
            receiver.receive(now, peer(), &slin16(n), &mut heard).unwrap();
        }
    }
    assert_eq!(receiver.next_report(), None);
    let control = SocketAddr::new(peer().ip(), 4001);
    let mut bytes = Vec::new();
    write_report(7, "peer", None, None, &mut bytes);
    receiver.receive_report(Time::from_millis(2_000), stranger(), &bytes);
    assert_eq!(receiver.next_report(), None, "a stranger's");
    receiver.receive_report(Time::from_millis(2_000), control, &bytes);
    let due = receiver.next_report().unwrap();
    let mut report = Vec::new();
    assert!(receiver.write_report(due, None, &mut report));
    let Some(Ok(repartee_protocol::rtp::RtcpPacket::Report {
        ssrc: OWN,
        sender: None,
        receptions,
    })) = repartee_protocol::rtp::RtcpReader::new(&report).next()
    else {
        panic!("{report:?}");
    };
    let block = receptions.iter().next().unwrap();
    // The last packet that came is number 98, and nine before it are missing.
    assert_eq!((block.ssrc, block.lost), (7, 9));
    assert_eq!(block.highest_sequence, 65_500 + 98);
    assert_eq!(u64::from(block.fraction_lost), 9 * 256 / 99);

    bytes.clear();
    write_goodbye(7, &mut bytes);
    // On the same port this time.
    receiver
        .receive(Time::from_millis(2_100), peer(), &bytes, &mut heard)
        .unwrap();
    assert!(receiver.said_goodbye());
    receiver
        .receive(Time::from_millis(2_120), peer(), &slin16(106), &mut heard)
        .unwrap();
    assert!(!receiver.said_goodbye(), "a hint alone");
}

#[test]
fn hostile_datagrams_leave_everything_bounded() {
    for seed in 1..30 {
        let mut random = Random(seed * 104_729);
        let mut receiver = receiver();
        let mut heard = Heard::default();
        let mut now = 0;
        for n in 0..4_000_u32 {
            now += random.below(30);
            let mut bytes = slin16(n);
            bytes.truncate(random.below(700) as usize + 1);
            for _ in 0..random.below(6) {
                let at = random.below(bytes.len().min(16) as u64) as usize;
                bytes[at] = random.below(256) as u8;
            }
            let from = if random.below(4) == 0 { stranger() } else { peer() };
            let _ = receiver.receive(Time::from_millis(now), from, &bytes, &mut heard);
            receiver.receive_report(Time::from_millis(now), from, &bytes);
            let _ = (receiver.next_deadline(), receiver.quality());
            let mut report = Vec::new();
            receiver.write_report(Time::from_millis(now), Some(SentCount::default()), &mut report);
            assert!(receiver.jitter.len() <= 64 && receiver.ways.len() <= 11);
            heard.digits.clear();
        }
        assert!(heard.pcm.len() as u64 <= 16 * (now + 600), "never faster than time");
    }
}
