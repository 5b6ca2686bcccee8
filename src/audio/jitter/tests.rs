use super::*;

const CLOCK: u32 = 8000;
const FRAME: u32 = 160;
const FRAME_NS: u64 = 20_000_000;

fn at(ms: u64) -> Time {
    Time::from_millis(ms)
}

/// The packet that carries frame `n` of a stream, and `n` as its payload.
fn frame(n: u32) -> JitterPacket<u32> {
    numbered(n, 1000 + n)
}

fn numbered(n: u32, sequence: u32) -> JitterPacket<u32> {
    JitterPacket {
        sequence: sequence as u16,
        timestamp: 50_000_u32.wrapping_add(n.wrapping_mul(FRAME)),
        ssrc: 1,
        marker: false,
        kind: PacketKind::Audio { ticks: FRAME },
        payload: n,
    }
}

fn timed() -> JitterBuffer<u32> {
    JitterBuffer::new(JitterConfig::timed(CLOCK))
}

fn ordered() -> JitterBuffer<u32> {
    JitterBuffer::new(JitterConfig::ordered(CLOCK))
}

/// Everything that is there at `now`.
fn drain(buffer: &mut JitterBuffer<u32>, now: Time) -> Vec<Pull<u32>> {
    let mut pulls = Vec::new();
    loop {
        match buffer.pull(now) {
            Pull::Wait => return pulls,
            pull => pulls.push(pull),
        }
        assert!(pulls.len() < 10_000, "a pull that never waits");
    }
}

fn frames(range: impl IntoIterator<Item = u32>) -> Vec<Pull<u32>> {
    range.into_iter().map(Pull::Frame).collect()
}

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

/// Pushes packets at their times of arrival, pulls every 20 ms, and returns the items with their times.
fn play(
    buffer: &mut JitterBuffer<u32>,
    mut arrivals: Vec<(Time, JitterPacket<u32>)>,
    until: Time,
    quiet: impl Fn(u32) -> bool,
) -> Vec<(Time, Pull<u32>)> {
    arrivals.sort_by_key(|arrival| arrival.0);
    let (mut arrivals, mut now, mut out) = (arrivals.into_iter().peekable(), Time::ZERO, Vec::new());
    while now < until {
        let deadline = buffer.next_deadline().unwrap_or(until).max(now);
        now = match arrivals.peek() {
            Some((arrival, _)) if *arrival <= deadline => *arrival,
            _ => deadline.min(until),
        };
        while let Some((_, packet)) = arrivals.next_if(|(arrival, _)| *arrival <= now) {
            buffer.push(now, packet);
        }
        loop {
            match buffer.pull(now) {
                Pull::Wait => break,
                pull => {
                    if let Pull::Frame(n) = pull {
                        buffer.note_quiet(quiet(n));
                    }
                    out.push((now, pull));
                }
            }
        }
    }
    out
}

fn played(items: &[(Time, Pull<u32>)]) -> Vec<u32> {
    items
        .iter()
        .filter_map(|(_, pull)| if let Pull::Frame(n) = pull { Some(*n) } else { None })
        .collect()
}

/// Every item lasts its ticks: the output never has a hole and never a burst.
fn assert_gapless(items: &[(Time, Pull<u32>)]) {
    for pair in items.windows(2) {
        let ticks = match pair[0].1 {
            Pull::Frame(_) => FRAME,
            Pull::Conceal(ticks) | Pull::Silence(ticks) | Pull::ComfortNoise(ticks) => ticks,
            Pull::NewStream | Pull::Wait => 0,
        };
        let expected = Duration::from_nanos(u64::from(ticks) * 125_000);
        assert_eq!(pair[1].0.since(pair[0].0), expected, "{pair:?}");
    }
}

// Ordered.

#[test]
fn in_order_everything_comes_at_once() {
    let mut buffer = ordered();
    assert_eq!(buffer.pull(at(0)), Pull::Wait);
    for n in 0..200_000 {
        assert_eq!(buffer.push(at(0), frame(n)), Pushed::Queued);
        assert_eq!(buffer.pull(at(0)), Pull::Frame(n));
        assert_eq!(buffer.pull(at(0)), Pull::Wait);
    }
    // The sequence wrapped three times, and the timestamp not yet: that is another test.
    assert_eq!(
        buffer.stats(),
        JitterStats {
            received: 200_000,
            ..JitterStats::default()
        }
    );
}

#[test]
fn both_numbers_may_wrap() {
    for mut buffer in [ordered(), timed()] {
        let wrap = |n: u32| JitterPacket {
            sequence: 65_530_u16.wrapping_add(n as u16),
            timestamp: (u32::MAX - 900).wrapping_add(n * FRAME),
            ..frame(n)
        };
        let arrivals = [0, 1, 2, 4, 3, 5, 6, 8, 7, 9, 10, 11]
            .map(|n| (at(u64::from(n) * 20), wrap(n)))
            .to_vec();
        let items = play(&mut buffer, arrivals, at(270), |_| false);
        assert_eq!(played(&items), (0..12).collect::<Vec<_>>());
        assert_eq!(buffer.stats().concealed_ticks, 0);
    }
}

#[test]
fn neighbours_that_changed_places_are_put_back() {
    let mut buffer = ordered();
    buffer.push(at(0), frame(0));
    buffer.push(at(0), frame(2));
    assert_eq!(drain(&mut buffer, at(0)), frames([0]));
    buffer.push(at(1), frame(3));
    assert_eq!(drain(&mut buffer, at(1)), []);
    buffer.push(at(2), frame(1));
    assert_eq!(drain(&mut buffer, at(2)), frames([1, 2, 3]));
}

#[test]
fn the_first_packets_may_change_places_too() {
    for mut buffer in [ordered(), timed()] {
        for n in [2, 0, 1] {
            buffer.push(at(0), frame(n));
        }
        let items = play(&mut buffer, vec![], at(90), |_| false);
        assert_eq!(played(&items), [0, 1, 2]);
    }
}

#[test]
fn duplicates_are_dropped_before_and_after_their_moment() {
    let mut buffer = ordered();
    for n in [0, 1, 1, 0, 3, 3, 2] {
        buffer.push(at(0), frame(n));
    }
    assert_eq!(drain(&mut buffer, at(0)), frames(0..4));
    assert_eq!(buffer.push(at(1), frame(2)), Pushed::Duplicate);
    assert_eq!(buffer.stats().duplicates, 4);
    assert_eq!(buffer.stats().late, 0);
}

#[test]
fn a_gap_is_held_open_for_some_packets_or_some_time() {
    let mut buffer = ordered();
    buffer.push(at(0), frame(0));
    for n in 2..6 {
        buffer.push(at(10), frame(n));
        assert_eq!(drain(&mut buffer, at(10)), if n == 2 { frames([0]) } else { vec![] });
    }
    assert_eq!(buffer.next_deadline(), Some(at(110)));
    buffer.push(at(11), frame(6));
    let mut expected = vec![Pull::Conceal(FRAME)];
    expected.extend(frames(2..7));
    assert_eq!(drain(&mut buffer, at(11)), expected);
    assert_eq!(buffer.push(at(12), frame(1)), Pushed::Late);

    buffer.push(at(20), frame(9));
    assert_eq!(drain(&mut buffer, at(119)), []);
    assert_eq!((buffer.pull(at(120)), buffer.peek()), (Pull::Conceal(FRAME), None));
    assert_eq!((buffer.pull(at(120)), buffer.peek()), (Pull::Conceal(FRAME), Some(&9)));
    assert_eq!(drain(&mut buffer, at(120)), frames([9]));
    assert_eq!((buffer.stats().lost, buffer.stats().late), (3, 1));

    // At the end of the stream nothing is waited for.
    buffer.push(at(130), frame(11));
    assert_eq!(drain(&mut buffer, at(130)), []);
    buffer.finish();
    assert_eq!(drain(&mut buffer, at(130)), [Pull::Conceal(FRAME), Pull::Frame(11)]);
}

#[test]
fn a_gap_in_the_timestamps_alone_is_silence() {
    let mut buffer = ordered();
    buffer.push(at(0), frame(0));
    // Half a second and a bit were not sent, and the sequence goes on.
    let after = JitterPacket {
        marker: true,
        timestamp: 50_000 + FRAME + 4040,
        ..numbered(1, 1001)
    };
    buffer.push(at(500), after);
    let items = drain(&mut buffer, at(500));
    assert_eq!(items.len(), 1 + 26 + 1);
    let silent: u32 = items
        .iter()
        .map(|item| if let Pull::Silence(ticks) = item { *ticks } else { 0 })
        .sum();
    assert_eq!((silent, buffer.stats().lost), (4040, 0));
}

/// Pushes a frame each 20 ms, `first` to `last`, of which the first comes at `begin`, and answers what was handed on, and when.
fn live(buffer: &mut JitterBuffer<u32>, first: u32, last: u32, begin: u64) -> Vec<(u64, u32)> {
    let mut heard = Vec::new();
    for n in first..last {
        let now = begin + u64::from(n - first) * 20;
        buffer.push(at(now), frame(n));
        heard.extend(drain(buffer, at(now)).into_iter().filter_map(|pull| match pull {
            Pull::Frame(payload) => Some((now, payload)),
            _ => None,
        }));
    }
    heard
}

#[test]
fn a_sender_whose_clock_stood_still_is_heard_again() {
    let mut buffer = timed();
    assert!(live(&mut buffer, 0, 50, 0).len() > 45);
    // It is put on hold for eight seconds, and goes on as if nothing had been; no packet has the marker.
    for now in (1_000..9_000).step_by(20) {
        drain(&mut buffer, at(now));
    }
    let heard = live(&mut buffer, 50, 150, 9_000);
    let (begin, first) = heard[0];
    assert!(begin <= 9_250, "heard after {} ms", begin - 9_000);
    // One frame may be left out where the depth turns out to be more than is needed.
    assert!(
        heard.windows(2).all(|pair| (1..=2).contains(&(pair[1].1 - pair[0].1))),
        "from {first}: {heard:?}"
    );
    assert!(heard.len() > 85, "{} frames", heard.len());
}

#[test]
fn what_a_network_held_back_moves_nothing() {
    let mut buffer = timed();
    live(&mut buffer, 0, 50, 0);
    for now in (1_000..2_000).step_by(20) {
        drain(&mut buffer, at(now));
    }
    // A second of sound within 10 ms.
    for n in 50..100 {
        buffer.push(at(2_000 + u64::from(n - 50) / 5), frame(n));
    }
    let heard = live(&mut buffer, 100, 200, 2_010);
    let (now, last) = heard[heard.len() - 1];
    assert!(now - (2_010 + u64::from(last - 100) * 20) <= 200);
    assert!(heard.len() > 90, "{} frames", heard.len());
}

#[test]
fn telephone_events_use_up_numbers_and_no_time() {
    let mut buffer = ordered();
    let event = |sequence: u32, timestamp: u32| JitterPacket {
        kind: PacketKind::Other,
        timestamp,
        ..numbered(0, sequence)
    };
    buffer.push(at(0), frame(0));
    for n in 0..8 {
        buffer.push(at(20 + u64::from(n) * 20), event(1001 + n, 50_000 + FRAME));
        assert_eq!(drain(&mut buffer, at(0)), if n == 0 { frames([0]) } else { vec![] });
    }
    assert_eq!(buffer.len(), 0, "they don't pile up");
    buffer.push(
        at(200),
        JitterPacket {
            marker: true,
            ..numbered(7, 1009)
        },
    );
    let items = drain(&mut buffer, at(200));
    assert_eq!(items[..6], [Pull::Silence(FRAME); 6]);
    assert_eq!(items[6..], frames([7]));
}

#[test]
fn comfort_noise_fills_until_there_is_sound() {
    let mut buffer = ordered();
    buffer.push(at(0), frame(0));
    let noise = JitterPacket {
        kind: PacketKind::ComfortNoise,
        ..frame(1)
    };
    buffer.push(at(20), noise);
    buffer.push(at(100), numbered(4, 1002));
    let noise = Pull::ComfortNoise(FRAME);
    assert_eq!(
        drain(&mut buffer, at(100)),
        [Pull::Frame(0), noise, noise, noise, Pull::Frame(4)]
    );

    let mut buffer = timed();
    let arrivals = vec![
        (at(0), frame(0)),
        (
            at(20),
            JitterPacket {
                kind: PacketKind::ComfortNoise,
                ..frame(1)
            },
        ),
        (at(100), numbered(5, 1002)),
    ];
    let items: Vec<_> = play(&mut buffer, arrivals, at(141), |_| false)
        .into_iter()
        .map(|item| item.1)
        .collect();
    assert_eq!(items, [Pull::Frame(0), noise, noise, noise, noise, Pull::Frame(5)]);
}

#[test]
fn another_source_starts_a_new_stream_at_once() {
    for mut buffer in [ordered(), timed()] {
        for n in 0..3 {
            buffer.push(at(0), frame(n));
        }
        let other = |n: u32| JitterPacket {
            ssrc: 2,
            timestamp: 9 + n * FRAME,
            ..numbered(100 + n, n)
        };
        assert_eq!(buffer.push(at(1), other(0)), Pushed::NewStream);
        assert_eq!(buffer.push(at(1), other(1)), Pushed::Queued);
        assert_eq!(buffer.stats().restarts, 1);
        assert_eq!(buffer.pull(at(1)), Pull::NewStream);
        let items = play(&mut buffer, vec![], at(150), |_| false);
        assert_eq!(played(&items), [100, 101]);
    }
}

#[test]
fn one_stray_is_ignored_and_two_make_a_stream() {
    for (sequence, timestamp) in [
        (30_000, 50_000),
        (1003, 3_000_000),
        (1003, 50_000_u32.wrapping_sub(100_000)),
    ] {
        let stray = |n: u32| JitterPacket {
            sequence: (sequence + n) as u16,
            timestamp: timestamp.wrapping_add(n * FRAME),
            ..frame(500 + n)
        };
        let mut buffer = ordered();
        buffer.push(at(0), frame(0));
        assert_eq!(buffer.push(at(1), stray(0)), Pushed::Probation);
        assert_eq!(buffer.push(at(2), frame(1)), Pushed::Queued, "the stream goes on");
        assert_eq!(drain(&mut buffer, at(2)), frames([0, 1]));
        assert_eq!(buffer.push(at(3), stray(2)), Pushed::Probation);
        assert_eq!(
            buffer.push(at(4), stray(9_000)),
            Pushed::Probation,
            "two that don't agree"
        );
        assert_eq!(buffer.push(at(5), stray(9_001)), Pushed::NewStream);
        let mut expected = vec![Pull::NewStream];
        expected.extend(frames([9_500, 9_501]));
        assert_eq!(drain(&mut buffer, at(5)), expected);
        assert_eq!((buffer.stats().strays, buffer.stats().restarts), (2, 1));
    }
}

#[test]
fn an_hour_of_silence_in_between_is_no_jump() {
    let mut buffer = timed();
    let hour = 3600 * 50;
    let arrivals = vec![
        (at(0), frame(0)),
        (
            at(3_600_000),
            JitterPacket {
                marker: true,
                ..numbered(hour, 1001)
            },
        ),
        (at(3_600_020), numbered(hour + 1, 1002)),
    ];
    let items = play(&mut buffer, arrivals, at(3_600_100), |_| false);
    assert_gapless(&items);
    assert_eq!(played(&items), [0, hour, hour + 1]);
    assert_eq!(buffer.stats().restarts, 0);
}

#[test]
fn no_more_than_the_capacity_is_held() {
    for config in [JitterConfig::ordered(CLOCK), JitterConfig::timed(CLOCK)] {
        let mut buffer = JitterBuffer::new(JitterConfig { capacity: 10, ..config });
        for n in 0..10 {
            assert_eq!(buffer.push(at(0), frame(n)), Pushed::Queued);
        }
        assert_eq!(buffer.push(at(0), frame(10)), Pushed::QueuedAndDropped);
        assert_eq!(buffer.len(), 10);
        assert_eq!(buffer.stats().overflowed, 1);
        assert_eq!(buffer.pull(at(40)), Pull::Frame(1));
    }
}

// Timed.

#[test]
fn a_steady_stream_is_played_after_the_first_depth_without_a_gap() {
    let mut buffer = timed();
    let arrivals = (0..500).map(|n| (at(5 + u64::from(n) * 20), frame(n))).collect();
    let items = play(&mut buffer, arrivals, at(10_000), |_| false);
    assert_eq!(items[0], (at(45), Pull::Frame(0)));
    assert_gapless(&items);
    assert_eq!(played(&items), (0..498).collect::<Vec<_>>());
    let stats = buffer.stats();
    assert_eq!((stats.concealed_ticks, stats.shrunk, stats.stretched), (0, 0, 0));
    assert_eq!((buffer.jitter(), buffer.depth()), (0, Duration::from_millis(40)));
}

#[test]
fn silence_is_used_to_shrink_a_needless_depth() {
    let mut buffer = timed();
    let arrivals = (0..500).map(|n| (at(u64::from(n) * 20), frame(n))).collect();
    let items = play(&mut buffer, arrivals, at(9_000), |n| n % 100 > 90);
    assert_gapless(&items);
    assert_eq!(buffer.stats().shrunk, 1);
    assert_eq!(buffer.depth(), Duration::from_millis(20));
}

#[test]
fn jitter_within_the_depth_is_not_heard() {
    let mut random = Random(99);
    let mut buffer = timed();
    let arrivals = (0..3000)
        .map(|n| {
            (
                at(100 + u64::from(n) * 20 - if n == 0 { 30 } else { random.below(30) }),
                frame(n),
            )
        })
        .collect();
    let items = play(&mut buffer, arrivals, at(60_000), |_| false);
    assert_gapless(&items);
    assert_eq!(buffer.stats().concealed_ticks, 0);
    assert!(buffer.jitter() > 40, "{}", buffer.jitter());
}

#[test]
fn the_depth_grows_under_jitter_and_is_bounded() {
    let mut random = Random(5);
    let mut buffer = timed();
    let arrivals = (0..3000)
        .map(|n| (at(u64::from(n) * 20 + random.below(150)), frame(n)))
        .collect();
    let items = play(&mut buffer, arrivals, at(60_000), |_| false);
    assert_gapless(&items);
    let frames = played(&items);
    assert!(frames.is_sorted(), "never out of order");
    assert!(frames.len() > 2950, "{} of 3000", frames.len());
    let tail = items
        .iter()
        .rev()
        .take(1500)
        .filter(|item| !matches!(item.1, Pull::Frame(_)))
        .count();
    assert!(tail < 5, "once grown, the depth is enough: {tail}");
    assert!(buffer.depth() > Duration::from_millis(100) && buffer.depth() <= Duration::from_millis(200));
    assert!(buffer.stats().stretched > 0);
}

#[test]
fn losses_are_concealed_in_their_own_time() {
    let mut buffer = timed();
    let lost = [10, 20, 21, 40, 41, 42, 43, 44];
    let arrivals = (0..100)
        .filter(|n| !lost.contains(n))
        .map(|n| (at(u64::from(n) * 20), frame(n)))
        .collect();
    let items = play(&mut buffer, arrivals, at(2_000), |_| false);
    assert_gapless(&items);
    for (n, item) in items.iter().enumerate() {
        let n = n as u32;
        if !lost.contains(&n) {
            assert_eq!(item.1, Pull::Frame(n));
        } else if n < 43 {
            assert_eq!(item.1, Pull::Conceal(FRAME));
        } else {
            // After 60 ms it is silence, until the next packet is here and tells that it was loss.
            assert!(!matches!(item.1, Pull::Frame(_)));
        }
    }
    assert_eq!(buffer.stats().lost, 8);
}

#[test]
fn when_nothing_comes_time_runs_on() {
    let mut buffer = timed();
    let arrivals = (0..5).map(|n| (at(u64::from(n) * 20), frame(n))).collect();
    let items = play(&mut buffer, arrivals, at(10_000), |_| false);
    assert_gapless(&items);
    assert_eq!(items.len(), 499);
    let kinds: Vec<_> = items.iter().map(|item| item.1).collect();
    assert_eq!(kinds[5..8], [Pull::Conceal(FRAME); 3], "60 ms");
    assert!(kinds[8..].iter().all(|pull| *pull == Pull::Silence(FRAME)));
    buffer.finish();
    assert_eq!(buffer.next_deadline(), None);
    assert_eq!(buffer.pull(at(10_100)), Pull::Wait);
}

#[test]
fn packets_held_up_for_a_moment_are_played_late_and_not_lost() {
    let mut buffer = timed();
    // The network stands still from 200 to 320 ms, then delivers everything.
    let arrivals = (0..200)
        .map(|n| {
            let sent = u64::from(n) * 20;
            (at(if (200..320).contains(&sent) { 320 } else { sent }), frame(n))
        })
        .collect();
    let items = play(&mut buffer, arrivals, at(3_500), |n| n > 60 && n % 10 == 0);
    assert_gapless(&items);
    assert_eq!(played(&items)[..60], (0..60).collect::<Vec<_>>(), "nothing is lost");
    assert_eq!(buffer.stats().late, 0);
    assert!(buffer.stats().stretched > 0);
    assert!(buffer.stats().shrunk > 0, "and the delay is won back in silence");
    assert!(buffer.depth() < Duration::from_millis(80), "{:?}", buffer.depth());
}

#[test]
fn a_long_standstill_costs_what_exceeds_the_bound() {
    let mut buffer = timed();
    let arrivals = (0..300)
        .map(|n| {
            let sent = u64::from(n) * 20;
            (at(if (200..900).contains(&sent) { 900 } else { sent }), frame(n))
        })
        .collect();
    let items = play(&mut buffer, arrivals, at(5_000), |_| false);
    assert_gapless(&items);
    assert!(buffer.depth() <= Duration::from_millis(200), "{:?}", buffer.depth());
    assert!(buffer.stats().late > 20);
    assert!(played(&items).is_sorted());
}

#[test]
fn talk_after_silence_from_a_clock_that_stood_still() {
    let mut buffer = timed();
    let mut arrivals: Vec<_> = (0..10).map(|n| (at(u64::from(n) * 20), frame(n))).collect();
    // Two seconds later the timestamps go on as if nothing had been.
    arrivals.extend((10..20).map(|n| {
        (
            at(2_000 + u64::from(n) * 20),
            JitterPacket {
                marker: n == 10,
                ..frame(n)
            },
        )
    }));
    let items = play(&mut buffer, arrivals, at(2_500), |_| false);
    assert_gapless(&items);
    assert_eq!(played(&items), (0..20).collect::<Vec<_>>());
}

#[test]
fn a_new_stream_fills_its_depth_again_while_time_runs() {
    let mut buffer = timed();
    let mut arrivals: Vec<_> = (0..10).map(|n| (at(u64::from(n) * 20), frame(n))).collect();
    arrivals.extend((0..10).map(|n| {
        (
            at(203 + u64::from(n) * 20),
            JitterPacket {
                ssrc: 9,
                ..frame(100 + n)
            },
        )
    }));
    let items = play(&mut buffer, arrivals, at(400), |_| false);
    let continuous: Vec<_> = items.iter().copied().filter(|item| item.1 != Pull::NewStream).collect();
    assert_gapless(&continuous);
    assert_eq!(items.iter().filter(|item| item.1 == Pull::NewStream).count(), 1);
    // The last frame of the old stream was due at 220 ms; two of silence, and the new one is under way.
    assert_eq!(played(&items), (0..9).chain(100..108).collect::<Vec<_>>());
}

/// Ten minutes of a far clock that is off by `parts_per_million`, with a pause now and then.
fn drift(parts_per_million: i64, quiet: impl Fn(u32) -> bool) -> (JitterBuffer<u32>, Vec<(Time, Pull<u32>)>) {
    let mut random = Random(31);
    let mut buffer = timed();
    let arrivals = (0..30_000_u32)
        .map(|n| {
            let sent = i64::from(n) * FRAME_NS as i64;
            let arrived = (sent - sent / 1_000_000 * parts_per_million) as u64 + random.below(5_000_000);
            (Time::from_nanos(arrived), frame(n))
        })
        .collect();
    let items = play(&mut buffer, arrivals, at(595_000), quiet);
    assert_gapless(&items);
    (buffer, items)
}

#[test]
fn a_far_clock_that_drifts_is_followed() {
    for parts_per_million in [-1000, -200, 200, 1000] {
        for pauses in [false, true] {
            let (buffer, items) = drift(parts_per_million, |n| pauses && n % 250 < 20);
            let stats = buffer.stats();
            assert!(
                buffer.depth() <= Duration::from_millis(220),
                "{parts_per_million}: {:?}",
                buffer.depth()
            );
            let moved = (parts_per_million.unsigned_abs() * 595 / 1000 / 20) as i64;
            if parts_per_million > 0 {
                // Without pauses the depth may stay some 100 ms too large before sound is given up.
                assert!(
                    (stats.shrunk as i64 - moved).abs() <= 6,
                    "{parts_per_million} {pauses}: {stats:?}"
                );
            } else {
                assert!(
                    (stats.stretched as i64 - moved).abs() <= 6,
                    "{parts_per_million} {pauses}: {stats:?}"
                );
            }
            let missing = 29_740 - played(&items).len() as i64;
            assert!(
                missing <= moved + 10,
                "{parts_per_million} {pauses}: {missing} missing, {stats:?}"
            );
        }
    }
}

#[test]
fn a_consumer_that_stalls_goes_on_with_what_is_newest() {
    let mut buffer = timed();
    for n in 0..60 {
        buffer.push(at(u64::from(n) * 20), frame(n));
    }
    assert_eq!(buffer.pull(at(40)), Pull::Frame(0));
    let items = drain(&mut buffer, at(1_200));
    assert_eq!(items, frames([49]), "200 ms are left, and no burst");
    assert_eq!(buffer.pull(at(1_220)), Pull::Frame(50));
}

#[test]
fn frames_of_other_lengths_are_counted_by_their_own() {
    for ticks in [80, 240, 320, 480] {
        let mut buffer = timed();
        let packet = |n: u32| JitterPacket {
            timestamp: n * ticks,
            kind: PacketKind::Audio { ticks },
            ..frame(n)
        };
        let step = u64::from(ticks) / 8;
        let arrivals = (0..100)
            .filter(|n| *n != 50)
            .map(|n| (at(u64::from(n) * step), packet(n)))
            .collect();
        let items = play(&mut buffer, arrivals, at(40 + 99 * step), |_| false);
        assert_eq!(items[50].1, Pull::Conceal(ticks));
        assert_eq!(items[98], (at(40 + 98 * step), Pull::Frame(98)));
    }
}

#[test]
fn hostile_packets_leave_everything_bounded() {
    for config in [JitterConfig::ordered(CLOCK), JitterConfig::timed(CLOCK)] {
        for seed in 1..40 {
            let mut random = Random(seed * 7919);
            let mut buffer = JitterBuffer::new(config);
            let (mut now, mut ticks_out, mut streams) = (0_u64, 0_u64, 0_u64);
            for n in 0..5_000_u32 {
                now += random.below(40);
                let wild = random.below(10) == 0;
                let kind = match random.below(12) {
                    0 => PacketKind::ComfortNoise,
                    1 => PacketKind::Other,
                    2 => PacketKind::Audio {
                        ticks: random.below(100_000) as u32,
                    },
                    3 => PacketKind::Audio { ticks: 0 },
                    _ => PacketKind::Audio { ticks: FRAME },
                };
                let packet = JitterPacket {
                    sequence: if wild { random.below(65_536) as u16 } else { n as u16 },
                    timestamp: if random.below(10) == 0 {
                        random.below(1 << 32) as u32
                    } else {
                        n * FRAME
                    },
                    ssrc: u32::from(random.below(100) == 0),
                    marker: random.below(4) == 0,
                    kind,
                    payload: n,
                };
                buffer.push(at(now), packet);
                assert!(buffer.len() <= config.capacity);
                for _ in 0..random.below(4) {
                    match buffer.pull(at(now)) {
                        Pull::Conceal(ticks) | Pull::Silence(ticks) | Pull::ComfortNoise(ticks) => {
                            assert!(ticks > 0 && ticks <= CLOCK / 8);
                            ticks_out += u64::from(ticks);
                        }
                        Pull::NewStream => streams += 1,
                        Pull::Frame(_) | Pull::Wait => {}
                    }
                }
                let _ = buffer.next_deadline();
            }
            assert!(streams <= buffer.stats().restarts);
            let _ = drain(&mut buffer, at(now + 10_000_000));
            assert!(ticks_out <= 15_000 * u64::from(CLOCK / 8));
        }
    }
}
