//! Asterisk and the phones, without Repartee: what measures must be right before it is believed.

use std::time::Duration;

use crate::asterisk::{AGENT, Asterisk};
use crate::phone::{Codec, Line, Phase, Phone};
use crate::speech::{recording, silence, tone};
use crate::{now, pause, until};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_phone_hears_its_own_tone_come_back_whole_and_on_time() {
    let Some(asterisk) = Asterisk::start() else { return };
    for codec in [Codec::Ulaw, Codec::Alaw, Codec::G722] {
        let phone = Phone::new("alice").codecs(&[codec]);
        phone.call("100");
        let begin = now();
        phone.say(&tone(phone.rate(), 3_000));
        let said = phone.wait_said(5 * SECOND);
        pause(SECOND / 5);
        let ear = phone.ear();
        let found = ear.punctuality(begin..said);
        println!("echo in {codec:?}: {found}");
        assert!(found.packets >= 140 && found.lost == 0 && found.gaps == 0, "{found}");
        assert!(
            found.burst <= 3 && found.skew_p99 <= Duration::from_millis(5),
            "{found}"
        );
        let delay = ear.sound_from(begin).expect("the tone comes back").since(phone.begun());
        println!("echo in {codec:?}: after {delay:?}");
        assert!(delay < Duration::from_millis(150), "{delay:?}");
        let sound = ear.sound_within(begin..now());
        assert!(
            sound > 2_900 * SECOND / 1_000 && sound < 3_050 * SECOND / 1_000,
            "{sound:?}"
        );
        assert_eq!(ear.clipped(), 0.0);
        phone.hang_up();
        asterisk.wait_empty(2 * SECOND);
    }
}

#[test]
fn what_asterisk_plays_has_no_gap() {
    let Some(_asterisk) = Asterisk::start() else { return };
    let phone = Phone::new("alice");
    phone.call("101");
    let begin = now();
    pause(3 * SECOND);
    let found = phone.ear().punctuality(begin..now());
    println!("a tone of Asterisk: {found}");
    assert!(
        found.packets >= 145 && found.lost == 0 && found.gaps == 0 && found.burst <= 3,
        "{found}"
    );
    assert!(phone.ear().sound_within(begin..now()) > 2_900 * SECOND / 1_000);
}

#[test]
fn keys_that_a_phone_presses_are_read() {
    let Some(asterisk) = Asterisk::start() else { return };
    let phone = Phone::new("alice");
    phone.call("102");
    pause(SECOND / 2);
    phone.press("4#", Duration::from_millis(160));
    // `#` ends what is read.
    asterisk.wait_logged("digits read: 4", 5 * SECOND);
    phone.wait_ended(5 * SECOND);

    phone.call("102");
    pause(SECOND / 2);
    for key in ["1", "9", "5"] {
        phone.press(key, Duration::from_millis(100));
        phone.wait_said(SECOND);
        pause(SECOND / 10);
    }
    asterisk.wait_logged("digits read: 195", 5 * SECOND);
    phone.wait_ended(5 * SECOND);
}

#[test]
fn two_phones_hear_one_another_until_either_hangs_up() {
    let Some(asterisk) = Asterisk::start() else { return };
    let agent = Phone::at("agent", AGENT).answers();
    let phone = Phone::new("alice");
    for hangs_up in [&phone, &agent] {
        phone.call("103");
        agent.wait("the call", 5 * SECOND, |phase| matches!(phase, Phase::Answered { .. }));
        let begin = now();
        phone.say(&tone(8_000, 500));
        until("the person hears the caller", 5 * SECOND, || {
            agent.ear().sound_from(begin).is_some()
        });
        agent.say(&tone(8_000, 500));
        until("the caller hears the person", 5 * SECOND, || {
            phone.ear().sound_from(begin).is_some()
        });
        hangs_up.hang_up();
        let other = if std::ptr::eq(hangs_up, &phone) { &agent } else { &phone };
        other.wait_ended(5 * SECOND);
        asterisk.wait_empty(2 * SECOND);
    }
}

#[test]
fn asterisk_hanging_up_ends_the_call_and_a_wrong_number_is_none() {
    let Some(_asterisk) = Asterisk::start() else { return };
    let phone = Phone::new("alice");
    phone.dial("104");
    phone.wait_ended(5 * SECOND);
    phone.dial("999");
    let phase = phone.wait("a refusal", 5 * SECOND, |phase| matches!(phase, Phase::Ended { .. }));
    assert!(matches!(phase, Phase::Ended { status: 404, .. }), "{phase:?}");
}

#[test]
fn a_held_call_goes_on_afterwards() {
    let Some(_asterisk) = Asterisk::start() else { return };
    let agent = Phone::at("agent", AGENT).answers();
    let phone = Phone::new("alice");
    phone.call("103");
    agent.wait("the call", 5 * SECOND, |phase| matches!(phase, Phase::Answered { .. }));
    phone.hold(true);
    phone.mute(true);
    pause(SECOND);
    phone.mute(false);
    phone.hold(false);
    pause(SECOND / 5);
    let begin = now();
    phone.say(&tone(8_000, 500));
    until("the person hears the caller", 5 * SECOND, || {
        agent.ear().sound_from(begin).is_some()
    });
}

#[test]
fn a_bad_line_is_as_bad_as_it_was_ordered() {
    let Some(_asterisk) = Asterisk::start() else { return };
    let line = Line {
        loss: 0.1,
        jitter: Duration::from_millis(40),
        seed: 7,
    };
    let phone = Phone::new("alice").line(line);
    phone.call("100");
    let begin = now();
    pause(6 * SECOND);
    let found = phone.ear().punctuality(begin..now());
    println!("echo over a line that loses 10 % and has 40 ms of jitter: {found}");
    // Asterisk throws away what was overtaken, so more is missing than was lost.
    let missing = 300 - found.packets.min(300);
    assert!((15..=200).contains(&missing), "{found}");
    assert!(found.skew_max >= Duration::from_millis(10), "{found}");
}

#[test]
fn a_recording_comes_back_as_it_was() {
    let Some(_asterisk) = Asterisk::start() else { return };
    let Some(mut speech) = recording("librivox-sense/sense_and_sensibility_01_austen_64kb-0870.wav", 8_000) else {
        return;
    };
    speech.splice(0..0, silence(8_000, 100));
    let phone = Phone::new("alice");
    phone.call("100");
    pause(SECOND / 2);
    phone.say(&speech);
    let begun = phone.begun();
    phone.wait_said(60 * SECOND);
    pause(SECOND / 5);
    let heard = phone.ear().heard(begun..now());
    let correlation = best_correlation(&speech, &heard, 8_000 / 5);
    println!("a recording and its echo: correlation {correlation:.4}");
    // µ-law costs some 38 dB of distance, which leaves 0.9999.
    assert!(correlation > 0.99, "{correlation}");
}

/// The correlation of two signals at the shift, within `shifts` samples, at which it is greatest.
fn best_correlation(left: &[i16], right: &[i16], shifts: usize) -> f64 {
    (0..shifts)
        .map(|shift| {
            let (mut both, mut own, mut other) = (0.0, 0.0, 0.0);
            for (left, right) in left.iter().zip(right.get(shift..).unwrap_or_default()) {
                let (left, right) = (f64::from(*left), f64::from(*right));
                both += left * right;
                own += left * left;
                other += right * right;
            }
            both / (own * other).sqrt().max(1.0)
        })
        .fold(0.0, f64::max)
}
