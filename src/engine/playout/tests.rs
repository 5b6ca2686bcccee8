//! Replies on their way out, in time that a test makes.

use std::task::{Context, Poll, Waker};

use super::super::clock::Clock;
use std::sync::Arc;

use super::super::Place;
use super::super::wire::{Call, Played, connect};
use super::*;
use crate::id::SessionId;

const RESPONSE: ResponseId = ResponseId::new(1);

struct Stage {
    player: Player,
    port: Port,
    call: Call,
    events: Vec<PlayoutEvent>,
    heard: Vec<i16>,
    due: Vec<u64>,
}

fn at(millis: u64) -> Time {
    Time::from_millis(millis)
}

impl Stage {
    fn new() -> Self {
        let (call, port) = connect(SessionId::new(1), Clock::start(), Arc::new(Place(None)), Duration::ZERO);
        let player = Player::new(SampleRate::Hz16000);
        Self {
            player,
            port,
            call,
            events: Vec::new(),
            heard: Vec::new(),
            due: Vec::new(),
        }
    }

    /// A clause of `millis` with samples of this value, complete.
    fn clause(&mut self, id: u64, millis: usize, value: i16) {
        let id = SynthesisId::new(id);
        self.player.begin(id, RESPONSE);
        self.player.audio(id, &vec![value; millis * 16], 16_000).unwrap();
        self.player.done(id);
    }

    /// Lets the time run from `from` to `to` in steps of a millisecond.
    fn run(&mut self, from: u64, to: u64) {
        let mut context = Context::from_waker(Waker::noop());
        for millis in from..to {
            let mut events = Vec::new();
            self.player.tick(at(millis), &mut self.port, &mut events);
            self.events.extend(events.into_iter().map(|(_, event)| event));
            while let Poll::Ready(Some(frame)) = self.call.frames.poll_recv(&mut context) {
                self.heard.extend_from_slice(frame.pcm());
                self.due.push(frame.due.as_millis());
            }
        }
    }
}

#[test]
fn clauses_follow_one_another_without_a_gap() {
    let mut stage = Stage::new();
    // 50 ms is no whole number of frames: the second clause begins within one.
    stage.clause(1, 50, 100);
    stage.clause(2, 50, 200);
    stage.player.finish(RESPONSE);
    stage.player.play(RESPONSE, at(7));
    stage.run(0, 300);
    let expected = [vec![100; 800], vec![200; 800]].concat();
    assert_eq!(stage.heard, expected);
    assert_eq!(stage.due, [7, 27, 47, 67, 87]);
    let heard = Samples::from_millis(100);
    assert_eq!(stage.events, [PlayoutEvent::Started, PlayoutEvent::Finished { heard }]);
}

#[test]
fn nothing_is_played_before_play() {
    let mut stage = Stage::new();
    stage.clause(1, 100, 1);
    stage.run(0, 100);
    assert!(stage.heard.is_empty());
}

#[test]
fn a_synthesiser_that_falls_behind_makes_a_pause_not_a_hole_in_a_frame() {
    let mut stage = Stage::new();
    let id = SynthesisId::new(1);
    stage.player.begin(id, RESPONSE);
    stage.player.audio(id, &[5; 400], 16_000).unwrap();
    stage.player.play(RESPONSE, at(0));
    stage.run(0, 100);
    assert_eq!(stage.heard.len(), 320, "half a frame waits");
    assert_eq!(stage.events[1], PlayoutEvent::Underrun { at: Samples::new(320) });
    stage.player.audio(id, &[5; 240], 16_000).unwrap();
    stage.player.done(id);
    stage.player.finish(RESPONSE);
    stage.player.resume(at(100));
    stage.run(100, 200);
    assert_eq!(stage.heard, vec![5; 640]);
    assert_eq!(stage.due, [0, 100]);
    assert_eq!(
        stage.events.last(),
        Some(&PlayoutEvent::Finished {
            heard: Samples::new(640)
        })
    );
}

#[test]
fn stopping_is_silent_at_once_and_says_what_was_heard() {
    let mut stage = Stage::new();
    stage.clause(1, 1_000, 9);
    stage.player.finish(RESPONSE);
    stage.player.play(RESPONSE, at(0));
    stage.run(0, 110);
    assert_eq!(stage.heard.len(), 6 * 320);
    let event = stage.player.stop(RESPONSE, at(110));
    // Six frames are out; the sixth was due at 100 ms, and half of it has been heard.
    let (sent, heard) = (Samples::from_millis(120), Samples::from_millis(110));
    assert_eq!(event, PlayoutEvent::Stopped { sent, heard });
    stage.run(110, 400);
    assert_eq!(stage.heard.len(), 6 * 320);
}

#[test]
fn what_the_wire_has_not_taken_is_flushed() {
    let mut stage = Stage::new();
    stage.clause(1, 1_000, 9);
    stage.player.play(RESPONSE, at(0));
    for millis in 0..60 {
        stage.player.tick(at(millis), &mut stage.port, &mut Vec::new());
    }
    stage.player.stop(RESPONSE, at(60));
    stage.port.flush();
    stage.run(60, 200);
    assert!(stage.heard.is_empty());
}

#[test]
fn ducking_ramps_over_a_frame() {
    let mut stage = Stage::new();
    stage.clause(1, 60, 1_000);
    stage.player.finish(RESPONSE);
    stage.player.play(RESPONSE, at(0));
    stage.run(0, 10);
    stage.player.set_gain(250);
    stage.run(10, 100);
    assert_eq!(stage.heard[319], 1_000);
    assert_eq!(stage.heard[320], 1_000);
    assert!(stage.heard[320..640].windows(2).all(|pair| pair[0] >= pair[1]));
    assert_eq!(stage.heard[640], 250);
}

#[test]
fn a_reply_does_not_begin_at_the_volume_at_which_the_one_before_it_was_stopped() {
    let mut stage = Stage::new();
    stage.clause(1, 100, 1_000);
    stage.player.play(RESPONSE, at(0));
    stage.player.set_gain(250);
    stage.run(0, 50);
    stage.player.stop(RESPONSE, at(50));
    stage.player.set_gain(1_000);
    stage.heard.clear();
    stage.clause(2, 100, 1_000);
    stage.player.play(RESPONSE, at(60));
    stage.run(60, 100);
    assert_eq!(stage.heard[..320], [1_000; 320]);
}

#[test]
fn a_synthesiser_that_never_ends_is_cut_off() {
    let mut player = Player::new(SampleRate::Hz8000);
    let id = SynthesisId::new(1);
    player.begin(id, RESPONSE);
    let second = [0; 16_000];
    let taken = (0..1_000)
        .take_while(|_| player.audio(id, &second, 16_000).is_ok())
        .count();
    assert_eq!(taken, 121);
    assert_eq!(player.audio(id, &second, 16_000), Err(Unplayable::TooLong));
}

#[test]
fn other_rates_are_converted_and_counted_at_the_session_rate() {
    let (_call, mut port) = connect(SessionId::new(1), Clock::start(), Arc::new(Place(None)), Duration::ZERO);
    let mut player = Player::new(SampleRate::Hz48000);
    let id = SynthesisId::new(1);
    player.begin(id, RESPONSE);
    player.audio(id, &[0; 8_000], 8_000).unwrap();
    let length = player.done(id).as_millis();
    assert!((995..=1_020).contains(&length), "{length} ms of one second");
    assert_eq!(player.audio(id, &[0; 10], 96_000), Err(Unplayable::Rate(96_000)));
    player.finish(RESPONSE);
    player.play(RESPONSE, at(0));
    let mut events = Vec::new();
    for millis in 0..1_200 {
        player.tick(at(millis), &mut port, &mut events);
    }
    assert!(matches!(events.last(), Some((_, PlayoutEvent::Finished { heard })) if heard.as_millis() == length));
}

/// A telephone line whose frames of a reply go `lead` ahead of their time; it is open from 3 ms on.
fn line(lead: u64) -> Stage {
    let profile = WireProfile::telephone(SampleRate::Hz16000, Duration::from_millis(lead));
    let (call, port) = connect(SessionId::new(1), Clock::start(), Arc::new(Place(None)), profile.lead);
    let mut player = Player::for_wire(profile);
    player.open(at(3));
    Stage {
        player,
        port,
        call,
        events: Vec::new(),
        heard: Vec::new(),
        due: Vec::new(),
    }
}

#[test]
fn a_telephone_line_is_never_silent_and_has_one_grid() {
    for lead in [0, 80] {
        let mut stage = line(lead);
        stage.run(0, 100);
        assert_eq!(stage.due, [3, 23, 43, 63, 83]);
        assert!(stage.heard.iter().all(|sample| *sample == 0));
        stage.heard.clear();
        stage.clause(1, 50, 7);
        stage.player.finish(RESPONSE);
        stage.player.play(RESPONSE, at(100));
        stage.run(100, 300);
        assert_eq!(stage.heard[..800], [7; 800], "from the next deadline on");
        assert!(stage.heard[800..].iter().all(|sample| *sample == 0));
        let grid: Vec<u64> = (0..stage.due.len() as u64).map(|frame| 3 + 20 * frame).collect();
        assert_eq!(stage.due, grid, "no frame twice, none left out");
        assert_eq!(
            stage.heard.len(),
            10 * 320,
            "and after the reply silence comes at its own time again"
        );
        let heard = Samples::from_millis(50);
        assert_eq!(stage.events, [PlayoutEvent::Started, PlayoutEvent::Finished { heard }]);
    }
}

#[test]
fn a_reply_goes_ahead_of_its_time_by_the_lead_and_no_more() {
    let mut stage = line(80);
    stage.run(0, 100);
    stage.due.clear();
    stage.clause(1, 1_000, 7);
    stage.player.play(RESPONSE, at(100));
    stage.run(100, 104);
    assert_eq!(stage.due, [103, 123, 143, 163, 183]);
    stage.run(104, 124);
    assert_eq!(stage.due.last(), Some(&203));
    // What is due is what is heard: at 150 ms, 47 ms of it.
    let event = stage.player.stop(RESPONSE, at(150));
    let (sent, heard) = (Samples::from_millis(120), Samples::from_millis(47));
    assert_eq!(event, PlayoutEvent::Stopped { sent, heard });
    stage.port.flush();
    let mut context = Context::from_waker(Waker::noop());
    // Silence is due at 143 and 163 ms: what was sent ahead is not waited for.
    stage.player.tick(at(163), &mut stage.port, &mut Vec::new());
    let played = |stage: &mut Stage, context: &mut Context<'_>| stage.call.frames.poll_played(context);
    assert!(matches!(
        played(&mut stage, &mut context),
        Poll::Ready(Some(Played::Flush))
    ));
    for _ in 0..2 {
        let frame = played(&mut stage, &mut context);
        assert!(matches!(frame, Poll::Ready(Some(Played::Frame(frame))) if frame.response.is_none()));
    }
    assert!(played(&mut stage, &mut context).is_pending());
}

#[test]
fn what_the_peer_plays_late_is_heard_late() {
    let mut stage = line(80);
    stage.clause(1, 1_000, 7);
    stage.player.play(RESPONSE, at(3));
    stage.run(0, 100);
    stage.player.set_delay(Duration::from_millis(60));
    let PlayoutEvent::Stopped { heard, .. } = stage.player.stop(RESPONSE, at(103)) else {
        panic!("it was stopped");
    };
    assert_eq!(heard, Samples::from_millis(40));
}

#[test]
fn a_stopped_reply_fades_and_the_line_goes_on() {
    let mut stage = line(0);
    stage.clause(1, 1_000, 9_000);
    stage.player.play(RESPONSE, at(3));
    stage.run(0, 60);
    stage.heard.clear();
    stage.player.stop(RESPONSE, at(60));
    stage.port.flush();
    stage.run(60, 200);
    let (fade, silence) = stage.heard.split_at(80);
    assert!(
        fade.windows(2).all(|pair| pair[0] > pair[1]) && fade[0] <= 9_000 && fade[79] < 200,
        "{fade:?}"
    );
    assert!(silence.len() >= 6 * 320 && silence.iter().all(|sample| *sample == 0));
}

#[test]
fn a_stall_makes_no_burst_on_a_telephone_line() {
    for lead in [0, 80] {
        let mut stage = line(lead);
        stage.clause(1, 5_000, 7);
        stage.player.play(RESPONSE, at(3));
        stage.run(0, 100);
        stage.due.clear();
        stage.run(700, 701);
        assert!(stage.due.len() as u64 <= 1 + lead / 20, "{:?}", stage.due);
        stage.due.clear();
        stage.run(701, 901);
        assert_eq!(stage.due.len(), 10);
    }
}

/// Piper speaks at 22050 Hz, others at 24000 or 44100.
#[test]
fn a_voice_of_any_rate_is_played_in_its_own_time_and_pitch() {
    for (from, to) in [
        (22_050, SampleRate::Hz16000),
        (22_050, SampleRate::Hz8000),
        (24_000, SampleRate::Hz16000),
        (44_100, SampleRate::Hz48000),
    ] {
        let (mut call, mut port) = connect(SessionId::new(1), Clock::start(), Arc::new(Place(None)), Duration::ZERO);
        let mut player = Player::new(to);
        let tone: Vec<i16> = (0..from)
            .map(|n| (8_000.0 * (f64::from(n) * 440.0 / f64::from(from) * std::f64::consts::TAU).sin()) as i16)
            .collect();
        let mut heard = Vec::new();
        // The second clause has the resampler of the first.
        for number in 1..=2 {
            let id = SynthesisId::new(number);
            player.begin(id, RESPONSE);
            for piece in tone.chunks(441) {
                player.audio(id, piece, from).unwrap();
            }
            let length = player.done(id).as_millis();
            assert!(
                (999..=1_012).contains(&length),
                "{from} to {to}: {length} ms of one second"
            );
        }
        player.finish(RESPONSE);
        player.play(RESPONSE, at(0));
        let mut context = Context::from_waker(Waker::noop());
        for millis in 0..2_200 {
            player.tick(at(millis), &mut port, &mut Vec::new());
            while let Poll::Ready(Some(frame)) = call.frames.poll_recv(&mut context) {
                heard.extend_from_slice(frame.pcm());
            }
        }
        let middle = &heard[to.samples(200)..to.samples(800)];
        let rises = middle.windows(2).filter(|pair| pair[0] < 0 && pair[1] >= 0).count();
        assert!(
            (263..=265).contains(&rises),
            "{from} to {to}: {rises} periods in 0.6 s of 440 Hz"
        );
        let loudest = middle.iter().map(|sample| sample.unsigned_abs()).max();
        assert!(
            loudest.is_some_and(|loudest| (7_800..=8_200).contains(&loudest)),
            "{from} to {to}: {loudest:?}"
        );
    }
}

#[test]
fn a_response_without_a_clause_is_over_at_once() {
    let mut stage = Stage::new();
    stage.player.finish(RESPONSE);
    stage.player.play(RESPONSE, at(0));
    stage.run(0, 5);
    assert_eq!(stage.events, [PlayoutEvent::Finished { heard: Samples::ZERO }]);
}
