use super::*;

/// A frame on its way: when it arrives, in ns, how many samples, and whether it is quiet.
#[derive(Debug, Clone, Copy)]
struct Sent {
    arrives: u64,
    samples: usize,
    quiet: bool,
}

/// What was handed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Item {
    Silence(usize),
    /// The number of a frame.
    Frame(usize),
    LeftOut(usize),
}

/// Ticks of 20 ms of sound at 16 kHz.
const FRAME: usize = 320;
const NS: u64 = 1_000_000;

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

/// Runs a clock over `frames` and on to `until`, and returns every item with its time.
fn run(clock: &mut ArrivalClock, frames: &[Sent], until: u64) -> Vec<(u64, Item)> {
    let mut items = Vec::new();
    let poll = |clock: &mut ArrivalClock, before: u64, items: &mut Vec<(u64, Item)>| {
        while let Some(deadline) = clock.next_deadline().filter(|deadline| deadline.as_nanos() < before) {
            let silence = clock.poll(deadline);
            assert!(silence > 0, "at its deadline there is something to do");
            items.push((deadline.as_nanos(), Item::Silence(silence)));
        }
    };
    for (number, frame) in frames.iter().enumerate() {
        poll(clock, frame.arrives, &mut items);
        let arrival = clock.receive(Time::from_nanos(frame.arrives), frame.samples, frame.quiet);
        if arrival.silence_before > 0 {
            items.push((frame.arrives, Item::Silence(arrival.silence_before)));
        }
        items.push((
            frame.arrives,
            if arrival.keep {
                Item::Frame(number)
            } else {
                Item::LeftOut(number)
            },
        ));
    }
    poll(clock, until, &mut items);
    items
}

/// The position of the sample clock after each item, in ms, less the time then: how far ahead it is.
fn leads(items: &[(u64, Item)], frames: &[Sent]) -> Vec<i64> {
    let mut samples = 0;
    items
        .iter()
        .map(|(now, item)| {
            samples += match item {
                Item::Silence(count) => *count,
                Item::Frame(number) => frames[*number].samples,
                Item::LeftOut(_) => 0,
            };
            samples as i64 / 16 - (*now / NS) as i64
        })
        .collect()
}

/// Frames of `samples` for `seconds` from a clock that runs `ppm` fast, each up to `jitter` ns late, in order.
fn stream(seconds: u64, samples: usize, ppm: i64, jitter: u64, quiet: impl Fn(usize) -> bool) -> Vec<Sent> {
    let mut random = Random(77);
    let length = samples as i64 * SAMPLE;
    let count = seconds as i64 * 1_000_000_000 / length;
    let mut before = 0;
    (0..count)
        .map(|number| {
            let spoken = length * (number + 1);
            let sent = (spoken - spoken / 1_000_000 * ppm).unsigned_abs();
            before = (sent + if jitter > 0 { random.below(jitter) } else { 0 }).max(before);
            Sent {
                arrives: before,
                samples,
                quiet: quiet(number as usize),
            }
        })
        .collect()
}

fn at(ms: u64, samples: usize) -> Sent {
    Sent {
        arrives: ms * NS,
        samples,
        quiet: false,
    }
}

#[test]
fn nothing_is_made_up_before_the_first_frame() {
    let mut clock = ArrivalClock::new();
    assert_eq!(clock.next_deadline(), None);
    assert_eq!(clock.poll(Time::from_millis(100_000)), 0);
    let first = clock.receive(Time::from_millis(100_000), FRAME, false);
    assert_eq!((first.silence_before, first.keep), (0, true));
    assert_eq!(clock.next_deadline(), Some(Time::from_millis(100_060)));
}

#[test]
fn a_steady_stream_of_any_length_of_frames_passes_as_it_is() {
    for samples in [160, 320, 480, 640, 960, 4000, 8000, 137, 883] {
        let frames = stream(60, samples, 0, 0, |n| n % 2 == 0);
        let mut clock = ArrivalClock::new();
        let items = run(&mut clock, &frames, 60_000 * NS);
        assert!(
            items.iter().all(|item| matches!(item.1, Item::Frame(_))),
            "{samples}: {:?}",
            clock.stats()
        );
        assert_eq!(clock.stats().received, frames.len() as u64);
        assert_eq!(clock.stats().jitter_ms, 0);
    }
}

#[test]
fn lengths_that_change_pass_as_they_are() {
    let mut now = 0;
    let mut random = Random(3);
    let frames: Vec<_> = (0..5000)
        .map(|_| {
            let samples = 1 + random.below(960) as usize;
            now += samples as u64 * SAMPLE as u64;
            Sent {
                arrives: now,
                samples,
                quiet: true,
            }
        })
        .collect();
    let mut clock = ArrivalClock::new();
    let items = run(&mut clock, &frames, now);
    assert!(items.iter().all(|item| matches!(item.1, Item::Frame(_))));
}

#[test]
fn a_key_press_of_220_ms_is_silence_of_its_length() {
    // While a key is held, Asterisk sends nothing.
    let frames: Vec<_> = (1..=50)
        .map(|n| at(n * 20, FRAME))
        .chain((62..=100).map(|n| at(n * 20, FRAME)))
        .collect();
    let mut clock = ArrivalClock::new();
    let items = run(&mut clock, &frames, 2_000 * NS);
    assert_eq!(
        items[50],
        (1_060 * NS, Item::Silence(320)),
        "60 ms after the last frame"
    );
    assert_eq!(clock.stats().filled_ms, 220);
    assert_eq!(clock.stats().gaps, 1);
    assert_eq!(clock.stats().jitter_ms, 0, "a gap is no jitter");
    assert_eq!(leads(&items, &frames).last(), Some(&0));
    assert!(!items.iter().any(|item| matches!(item.1, Item::LeftOut(_))));
}

#[test]
fn in_a_hold_of_thirty_seconds_time_runs_on() {
    let frames: Vec<_> = (1..=50)
        .map(|n| at(n * 20, FRAME))
        .chain((1_551..=1_700).map(|n| at(n * 20 + 7, FRAME)))
        .collect();
    let mut clock = ArrivalClock::new();
    let items = run(&mut clock, &frames, 36_000 * NS);
    let leads = leads(&items, &frames);
    assert!(leads.iter().all(|lead| (-60..=1).contains(lead)), "{leads:?}");
    let stats = clock.stats();
    // 30.007 s between, and two seconds after the last frame, seen 40 ms late.
    assert!(
        (30_000 + 1_930..=30_000 + 2_010).contains(&stats.filled_ms),
        "{stats:?}"
    );
    assert_eq!((stats.gaps, stats.trimmed_ms, stats.dropped_ms), (2, 0, 0));
}

#[test]
fn what_comes_after_all_is_paid_back_in_quiet_and_never_in_sound() {
    // The network stands still for half a second, then delivers everything at once.
    let burst = |quiet: bool| -> Vec<Sent> {
        (1..=500)
            .map(|n| Sent {
                quiet: quiet && n % 10 >= 8,
                ..at(if (50..75).contains(&n) { 1_500 } else { n * 20 }, FRAME)
            })
            .collect()
    };
    let frames = burst(true);
    let mut clock = ArrivalClock::new();
    let items = run(&mut clock, &frames, 10_000 * NS);
    let stats = clock.stats();
    assert!(stats.filled_ms >= 440, "{stats:?}");
    assert!(
        stats.filled_ms - stats.trimmed_ms <= 40,
        "all but what is bearable: {stats:?}"
    );
    let lead = leads(&items, &frames);
    assert!(*lead.last().unwrap() <= 20, "{lead:?}");
    assert!(lead.iter().all(|lead| *lead <= 500), "{lead:?}");
    let left_out: Vec<_> = items
        .iter()
        .filter_map(|item| if let Item::LeftOut(n) = item.1 { Some(n) } else { None })
        .collect();
    assert!(left_out.iter().all(|n| frames[*n].quiet));

    let frames = burst(false);
    let mut clock = ArrivalClock::new();
    let items = run(&mut clock, &frames, 10_000 * NS);
    assert_eq!(clock.stats().trimmed_ms + clock.stats().dropped_ms, 0);
    assert!(leads(&items, &frames).last().unwrap() <= &500);
}

#[test]
fn a_clock_off_by_200_ppm_costs_nothing_in_an_hour() {
    for ppm in [-200, 200] {
        for jitter in [0, 3 * NS, 15 * NS] {
            let frames = stream(3_600, FRAME, ppm, jitter, |n| n % 50 < 20);
            let mut clock = ArrivalClock::new();
            let items = run(&mut clock, &frames, frames.last().unwrap().arrives);
            let stats = clock.stats();
            assert!(
                items.iter().all(|item| matches!(item.1, Item::Frame(_))),
                "{ppm} ppm, jitter {jitter}: {stats:?}"
            );
            assert!((i64::from(stats.drift_ppm) - ppm).abs() <= 5, "{ppm}: {stats:?}");
        }
    }
}

#[test]
fn jitter_of_60_ms_is_learned() {
    for ppm in [0, -200, 200] {
        let frames = stream(600, FRAME, ppm, 60 * NS, |n| n % 50 < 20);
        let mut clock = ArrivalClock::new();
        let items = run(&mut clock, &frames, frames.last().unwrap().arrives);
        let stats = clock.stats();
        assert!(stats.filled_ms <= 100, "{stats:?}");
        assert_eq!(stats.dropped_ms, 0);
        let mut after = items.iter().filter(|item| item.0 > 30_000 * NS);
        assert!(
            after.all(|item| !matches!(item.1, Item::Silence(_))),
            "once learned, nothing is made up: {stats:?}"
        );
        assert!((5..=30).contains(&stats.jitter_ms), "{stats:?}");
        assert!((i64::from(stats.drift_ppm) - ppm).abs() <= 20, "{stats:?}");
    }
}

#[test]
fn frames_that_are_lost_keep_their_time() {
    let mut random = Random(11);
    let mut frames = stream(300, FRAME, 0, 5 * NS, |n| n % 50 < 20);
    frames.retain(|_| random.below(100) >= 3);
    let mut clock = ArrivalClock::new();
    let items = run(&mut clock, &frames, 300_000 * NS);
    let lead = leads(&items, &frames);
    // What the clock follows in five minutes as if it were drift is 0.3 s at most.
    assert!(*lead.last().unwrap() > -400, "{:?}", lead.last());
    assert!(*lead.last().unwrap() <= 20);
    assert!(clock.stats().filled_ms >= 300 * 30 - 500, "{:?}", clock.stats());
}

#[test]
fn a_flood_stays_bounded() {
    for quiet in [false, true] {
        let frames: Vec<_> = (1..=100_000)
            .map(|n| Sent {
                arrives: n * 5 * NS,
                samples: FRAME,
                quiet,
            })
            .collect();
        let mut clock = ArrivalClock::new();
        let items = run(&mut clock, &frames, 500_000 * NS);
        let most = leads(&items, &frames).into_iter().max().unwrap();
        // The bound, the correction, and what may pass for drift in 500 s.
        assert!(most <= 2_000 + 200 + 500 + 20, "{most}");
        let stats = clock.stats();
        assert!(stats.dropped_ms + stats.trimmed_ms > 1_490_000, "{stats:?}");
        assert_eq!(stats.filled_ms, 0);
    }
}

#[test]
fn one_who_stalls_goes_on_with_the_present() {
    let mut clock = ArrivalClock::new();
    clock.receive(Time::from_millis(20), FRAME, false);
    let silence = clock.poll(Time::from_millis(3_600_000));
    assert!(silence <= 17_000, "{silence}");
    let arrival = clock.receive(Time::from_millis(3_600_000), FRAME, false);
    assert!(arrival.silence_before <= 960 && arrival.keep, "{arrival:?}");
    assert!((3_598_000..3_600_000).contains(&clock.stats().stalled_ms));

    // The same where nobody polled.
    let arrival = clock.receive(Time::from_millis(7_200_000), FRAME, false);
    assert!(arrival.silence_before <= 18_000 && arrival.keep, "{arrival:?}");
}

#[test]
fn late_first_frames_cost_nothing() {
    // The first frame was 100 ms late, the others come in time.
    let frames: Vec<_> = (1..=200)
        .map(|n| Sent {
            quiet: true,
            ..at((n * 20).max(120), FRAME)
        })
        .collect();
    let mut clock = ArrivalClock::new();
    let items = run(&mut clock, &frames, 4_000 * NS);
    assert!(items.iter().all(|item| matches!(item.1, Item::Frame(_))));
}

#[test]
fn no_frames_and_no_times_do_harm() {
    let mut random = Random(19);
    let mut clock = ArrivalClock::new();
    for _ in 0..20_000 {
        // Neither in order nor sensible.
        let now = Time::from_nanos(random.below(u64::MAX) >> random.below(64));
        let samples = usize::try_from(random.below(u64::MAX) >> random.below(64)).unwrap_or(usize::MAX);
        let arrival = clock.receive(now, samples, random.below(2) == 0);
        assert!(arrival.silence_before < 40_000);
        assert!(clock.poll(now) < 40_000);
        let _ = (clock.next_deadline(), clock.stats());
    }
    assert!(ArrivalClock::new().receive(Time::ZERO, 0, true).keep);
}
