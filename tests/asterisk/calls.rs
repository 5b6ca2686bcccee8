//! What holds of a call on every wire. The modules of the wires run each of these.

use std::path::Path;
use std::time::Duration;

use repartee::time::Time;
use serde_json::json;

use crate::asterisk::{AGENT, Asterisk};
use crate::phone::{Codec, Ear, Line, Phase, Phone};
use crate::server::{Reply, Server, Setup, Wire};
use crate::speech::{onset, recording};
use crate::support::speech::{word_errors, words};
use crate::{now, pause, until};

const SECOND: Duration = Duration::from_secs(1);
/// What a reply takes at most, from the end of what a caller said to its first sound: a recogniser on a busy machine included.
const REPLY_LIMIT: Duration = Duration::from_secs(60);
/// A pause of this length ends a reply.
const PAUSE: Duration = Duration::from_millis(1_200);

const GREETING: &str = "Good morning. This is the telephone of the museum. You can ask me for our opening hours.";
/// Some fifteen seconds.
const LONG: &str = "Good morning, and thank you for calling. I can tell you all about the museum. It opens at nine in the morning \
                    and closes at six in the evening. On Mondays it is closed. Children under twelve pay nothing, and neither \
                    does anybody who comes on the first Sunday of a month.";
const HANDS_OVER: &str = "I connect you with somebody who knows.";

/// Someone reads eight seconds out of a novel.
const RECORDING: &str = "librispeech/84-121550-0000.flac";
/// Two seconds: "He could wait no longer".
const SHORT: &str = "librispeech/1089-134691-0000.flac";

/// Lateness and bursts as the caller is to hear them.
fn assert_clean(what: &str, ear: &Ear, from: Time, to: Time) {
    let found = ear.punctuality(from..to);
    println!("{what}: {found}");
    assert!(found.packets > 0, "{what}: nothing was heard");
    assert_eq!((found.lost, found.gaps), (0, 0), "{what}: {found}");
    assert!(found.burst <= 3, "{what}: {found}");
    assert!(found.skew_p99 <= Duration::from_millis(5), "{what}: {found}");
}

/// Waits for sound at or after `from`, and for its end; the answer is when that was.
fn hear(what: &str, phone: &Phone, from: Time) -> (Time, Time) {
    until(&format!("{what} begins"), REPLY_LIMIT, || {
        phone.ear().sound_from(from).is_some()
    });
    let begin = phone.ear().sound_from(from).expect("that was waited for");
    until(&format!("{what} ends"), Duration::from_secs(60), || {
        phone.ear().silent_from(begin, PAUSE).is_some()
            || phone.ear().silent_since().is_some_and(|end| now() >= end + PAUSE)
    });
    let ear = phone.ear();
    let end = ear.silent_from(begin, PAUSE).or_else(|| ear.silent_since());
    (begin, end.expect("that was waited for"))
}

/// What was heard lies in `target/asterisk/`, to be listened to.
fn keep(ear: &Ear, wire: Wire, name: &str, from: Time, to: Time) {
    let folder = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target"), Into::into)
        .join("asterisk");
    std::fs::create_dir_all(&folder).expect("the build folder can be written");
    ear.write_wav(&folder.join(format!("{}-{name}.wav", wire.name())), from..to);
}

/// Half the words of a synthetic voice over a telephone is what a small recogniser understands on a bad day. Noise is none.
fn assert_understood(server: &Server, ear: &Ear, times: (Time, Time), wanted: &str) {
    let wanted = words(wanted);
    let margin = Duration::from_millis(300);
    let found = server.understand(ear, times.0.before(margin)..times.1 + margin);
    let errors = word_errors(&wanted, &found);
    println!("{}: {errors} of {} words wrong", server.wire().name(), wanted.len());
    assert!(2 * errors <= wanted.len(), "{found:?}");
}

pub(crate) fn the_greeting_is_heard_clean(wire: Wire) {
    let Some(asterisk) = Asterisk::start() else { return };
    let Some(server) = Server::start(&Setup::new(wire, GREETING)) else {
        return;
    };
    let (ear, times) = the_greeting(&asterisk, &server, Codec::Ulaw);
    assert_understood(&server, &ear, times, GREETING);
}

pub(crate) fn the_greeting_is_clean_in_other_codecs(wire: Wire) {
    let Some(asterisk) = Asterisk::start() else { return };
    let Some(server) = Server::start(&Setup::new(wire, GREETING)) else {
        return;
    };
    for codec in [Codec::Alaw, Codec::G722] {
        the_greeting(&asterisk, &server, codec);
    }
}

fn the_greeting(asterisk: &Asterisk, server: &Server, codec: Codec) -> (Ear, (Time, Time)) {
    let wire = server.wire();
    let phone = Phone::new("alice").codecs(&[codec]);
    let called = now();
    phone.call(wire.extension());
    let (begin, end) = hear("the greeting", &phone, called);
    let ear = phone.ear();
    println!(
        "{} {codec:?}: the greeting begins {:?} after the call",
        wire.name(),
        begin.since(called)
    );
    keep(&ear, wire, &format!("greeting-{codec:?}"), begin, end);
    assert_clean(&format!("{} {codec:?}: the greeting", wire.name()), &ear, begin, end);
    assert_eq!(ear.clipped(), 0.0, "the voice is at the end of the scale");
    assert!(end.since(begin) > 3 * SECOND, "{:?}", end.since(begin));
    phone.hang_up();
    server.wait_sessions(0, 5 * SECOND);
    asterisk.wait_empty(5 * SECOND);
    (ear, (begin, end))
}

pub(crate) fn what_a_caller_says_is_answered(wire: Wire) {
    let Some(_asterisk) = Asterisk::start() else { return };
    let Some(speech) = recording(SHORT, 8_000) else { return };
    let Some(server) = Server::start(&Setup::new(wire, GREETING)) else {
        return;
    };
    let phone = Phone::new("alice");
    let called = now();
    phone.call(wire.extension());
    hear("the greeting", &phone, called);
    for turn in ["first", "second"] {
        phone.say(&speech);
        let said = phone.wait_said(60 * SECOND);
        let (begin, end) = hear("the reply", &phone, said);
        println!(
            "{}: the {turn} reply begins {:?} after the end",
            wire.name(),
            begin.since(said)
        );
        let ear = phone.ear();
        keep(&ear, wire, &format!("{turn}-reply"), begin, end);
        assert_clean(&format!("{}: the {turn} reply", wire.name()), &ear, begin, end);
        assert!(end.since(begin) > SECOND, "{:?}", end.since(begin));
    }
    phone.hang_up();
    server.wait_sessions(0, 5 * SECOND);
}

pub(crate) fn a_caller_who_speaks_silences_the_reply(wire: Wire) {
    let Some(_asterisk) = Asterisk::start() else { return };
    let Some(speech) = recording(RECORDING, 8_000) else {
        return;
    };
    let Some(server) = Server::start(&Setup::new(wire, LONG)) else {
        return;
    };
    let phone = Phone::new("alice");
    let called = now();
    phone.call(wire.extension());
    until("the greeting begins", REPLY_LIMIT, || {
        phone.ear().sound_from(called).is_some()
    });
    pause(SECOND);
    phone.say(&speech);
    let speaks = phone.begun() + onset(&speech, 8_000);
    until("the ear falls silent", 5 * SECOND, || {
        let ear = phone.ear();
        ear.silent_from(speaks, SECOND / 2).is_some()
            || ear
                .silent_since()
                .is_some_and(|end| end > speaks && now() >= end + SECOND / 2)
    });
    let ear = phone.ear();
    let silent = ear.silent_from(speaks, SECOND / 2).or_else(|| ear.silent_since());
    let silent = silent.expect("that was waited for");
    keep(&ear, wire, "barge-in", called, now());
    println!(
        "{}: silent {:?} after the caller's first sound",
        wire.name(),
        silent.since(speaks)
    );
    let decided = server.decided(speaks).expect("the server tells when it decided");
    let took = silent.since(decided);
    println!(
        "{}: decided {:?} after the caller's first sound, silent {took:?} after the decision",
        wire.name(),
        decided.since(speaks)
    );
    assert!(took <= wire.silent_within(), "{took:?}");
    // The conversation goes on: perhaps already in a pause of what the caller reads.
    phone.wait_said(60 * SECOND);
    hear("the reply", &phone, silent + SECOND / 2);
    phone.hang_up();
    server.wait_sessions(0, 5 * SECOND);
}

pub(crate) fn keys_are_a_turn(wire: Wire) {
    let Some(_asterisk) = Asterisk::start() else { return };
    let Some(server) = Server::start(&Setup::new(wire, GREETING)) else {
        return;
    };
    let phone = Phone::new("alice");
    let called = now();
    phone.call(wire.extension());
    hear("the greeting", &phone, called);
    for key in ["4", "2", "#"] {
        phone.press(key, Duration::from_millis(120));
        phone.wait_said(SECOND);
        pause(SECOND / 10);
    }
    let pressed = now();
    let (begin, end) = hear("the reply to the keys", &phone, pressed);
    keep(&phone.ear(), wire, "keys", begin, end);
    println!(
        "{}: the reply to the keys begins {:?} after them",
        wire.name(),
        begin.since(pressed)
    );
    phone.hang_up();
    server.wait_sessions(0, 5 * SECOND);
}

pub(crate) fn a_caller_who_hangs_up_ends_the_session(wire: Wire) {
    let Some(asterisk) = Asterisk::start() else { return };
    let Some(server) = Server::start(&Setup::new(wire, LONG)) else {
        return;
    };
    let phone = Phone::new("alice");
    // In the middle of a word, and at once.
    for heard in [true, false] {
        let called = now();
        phone.call(wire.extension());
        if heard {
            until("the greeting begins", REPLY_LIMIT, || {
                phone.ear().sound_from(called).is_some()
            });
            server.wait_sessions(1, 5 * SECOND);
        }
        phone.hang_up();
        let hung_up = now();
        server.wait_sessions(0, 5 * SECOND);
        println!(
            "{}: the session is over {:?} after the caller hung up",
            wire.name(),
            now().since(hung_up)
        );
        asterisk.wait_empty(5 * SECOND);
    }
}

pub(crate) fn after_the_server_hangs_up_a_person_answers(wire: Wire) {
    let Some(asterisk) = Asterisk::start() else { return };
    let Some(speech) = recording(SHORT, 8_000) else { return };
    let ends = Reply {
        text: HANDS_OVER,
        tool: Some(("hangup", json!({}))),
    };
    let Some(server) = Server::start(&Setup::new(wire, GREETING).replies(&[ends])) else {
        return;
    };
    let agent = Phone::at("agent", AGENT).answers();
    let phone = Phone::new("alice");
    let called = now();
    phone.call(wire.extension());
    hear("the greeting", &phone, called);
    assert_eq!(agent.phase(), None, "nobody has called the person yet");
    phone.say(&speech);
    phone.wait_said(60 * SECOND);
    if wire == Wire::RtpByAri {
        // There, ending the call is ending it; who wants a person transfers.
        phone.wait_ended(REPLY_LIMIT);
        assert_eq!(agent.phase(), None, "nobody has called the person");
    } else {
        a_person_answers(&phone, &agent);
        phone.hang_up();
        agent.wait_ended(5 * SECOND);
    }
    server.wait_sessions(0, 5 * SECOND);
    asterisk.wait_empty(5 * SECOND);
}

pub(crate) fn a_transfer_reaches_the_extension(wire: Wire) {
    let Some(asterisk) = Asterisk::start() else { return };
    let Some(speech) = recording(SHORT, 8_000) else { return };
    let transfers = Reply {
        text: HANDS_OVER,
        tool: Some(("transfer", json!({"extension": "7100"}))),
    };
    let Some(server) = Server::start(&Setup::new(wire, GREETING).replies(&[transfers])) else {
        return;
    };
    let agent = Phone::at("agent", AGENT).answers();
    let phone = Phone::new("alice");
    let called = now();
    phone.call(wire.extension());
    hear("the greeting", &phone, called);
    phone.say(&speech);
    let said = phone.wait_said(60 * SECOND);
    hear("what is said before", &phone, said);
    a_person_answers(&phone, &agent);
    server.wait_sessions(0, 5 * SECOND);
    agent.hang_up();
    phone.wait_ended(5 * SECOND);
    asterisk.wait_empty(5 * SECOND);
}

fn a_person_answers(phone: &Phone, agent: &Phone) {
    agent.wait("the call", 2 * REPLY_LIMIT, |phase| {
        matches!(phase, Phase::Answered { .. })
    });
    let begin = now();
    agent.say(&crate::speech::tone(8_000, 300));
    until("the caller hears the person", 5 * SECOND, || {
        phone.ear().sound_from(begin).is_some()
    });
    phone.say(&crate::speech::tone(8_000, 300));
    until("the person hears the caller", 5 * SECOND, || {
        agent.ear().sound_from(begin).is_some()
    });
}

pub(crate) fn a_bad_line_does_not_end_the_call(wire: Wire) {
    let Some(_asterisk) = Asterisk::start() else { return };
    let Some(speech) = recording(RECORDING, 8_000) else {
        return;
    };
    let Some(server) = Server::start(&Setup::new(wire, GREETING)) else {
        return;
    };
    let line = Line {
        loss: 0.03,
        jitter: Duration::from_millis(40),
        seed: 11,
    };
    let phone = Phone::new("alice").line(line);
    let called = now();
    phone.call(wire.extension());
    hear("the greeting", &phone, called);
    phone.say(&speech);
    let said = phone.wait_said(60 * SECOND);
    let (begin, end) = hear("the reply", &phone, said);
    let ear = phone.ear();
    keep(&ear, wire, "bad-line", begin, end);
    // The line is bad in the other direction only.
    assert_clean(&format!("{}: the reply over a bad line", wire.name()), &ear, begin, end);
    assert!(end.since(begin) > SECOND, "{:?}", end.since(begin));
    assert!(!phone.is_over(), "{:?}", phone.phase());
    phone.hang_up();
    server.wait_sessions(0, 5 * SECOND);
}

pub(crate) fn a_muted_phone_does_not_end_the_call(wire: Wire) {
    let Some(_asterisk) = Asterisk::start() else { return };
    let Some(server) = Server::start(&Setup::new(wire, GREETING)) else {
        return;
    };
    let phone = Phone::new("alice");
    let called = now();
    phone.call(wire.extension());
    hear("the greeting", &phone, called);
    phone.mute(true);
    pause(6 * SECOND);
    assert!(!phone.is_over(), "{:?}", phone.phase());
    assert_eq!(server.sessions(), 1);
    phone.mute(false);
    phone.hang_up();
    server.wait_sessions(0, 5 * SECOND);
}

pub(crate) fn a_server_that_is_killed_leaves_nothing_behind(wire: Wire) {
    let Some(asterisk) = Asterisk::start() else { return };
    let Some(mut server) = Server::start(&Setup::new(wire, LONG)) else {
        return;
    };
    let agent = Phone::at("agent", AGENT).answers();
    let phone = Phone::new("alice");
    let called = now();
    phone.call(wire.extension());
    until("the greeting begins", REPLY_LIMIT, || {
        phone.ear().sound_from(called).is_some()
    });
    server.kill();
    let killed = now();
    if wire == Wire::RtpByAri {
        // Nothing in RTP says that its other end is gone. When the server is back, it finds the caller who still waits in its
        // application, and answers anew; what it had made of the call before is deleted.
        let silent = now();
        server.restart();
        until("the caller is greeted again", REPLY_LIMIT, || {
            phone.ear().sound_from(silent + SECOND).is_some()
        });
        println!(
            "{}: greeted again {:?} after the server was killed",
            wire.name(),
            now().since(killed)
        );
        phone.hang_up();
        asterisk.wait_empty(5 * SECOND);
        return;
    } else {
        until("the call is over, or a person has it", 5 * SECOND, || {
            phone.is_over() || agent.phase().is_some()
        });
    }
    println!(
        "{}: {:?} after the server was killed the caller {}",
        wire.name(),
        now().since(killed),
        if phone.is_over() {
            "is hung up on"
        } else {
            "has a person"
        }
    );
    phone.hang_up();
    asterisk.wait_empty(5 * SECOND);
}

pub(crate) fn twenty_callers_hear_a_clean_greeting(wire: Wire) {
    const CALLERS: usize = 20;
    const HEARD: Duration = Duration::from_secs(12);
    let Some(asterisk) = Asterisk::start() else { return };
    let Some(server) = Server::start(&Setup::new(wire, LONG)) else {
        return;
    };
    let phones: Vec<Phone> = (0..CALLERS)
        .map(|number| Phone::new(&format!("caller{number}")))
        .collect();
    let called = now();
    for phone in &phones {
        phone.dial(wire.extension());
    }
    for phone in &phones {
        phone.wait("an answer", REPLY_LIMIT, |phase| {
            matches!(phase, Phase::Answered { .. })
        });
    }
    server.wait_sessions(CALLERS, REPLY_LIMIT);
    for phone in &phones {
        until("the greeting begins", REPLY_LIMIT, || {
            phone.ear().sound_from(called).is_some()
        });
    }
    // All speak at once now. Silence between clauses has to be as punctual as sound.
    let begin = now();
    pause(HEARD);
    let end = now();
    let mut lateness = Vec::new();
    for phone in &phones {
        let ear = phone.ear();
        let found = ear.punctuality(begin..end);
        let sound = ear.sound_within(called..end);
        println!("{}: one of {CALLERS}: {found}; {sound:?} of sound", wire.name());
        assert!(found.packets >= 590, "{found}");
        assert_eq!((found.lost, found.gaps), (0, 0), "{found}");
        assert!(found.burst <= 3, "{found}");
        // How fast one voice speaks for twenty is the machine's matter; that everybody hears it is not.
        assert!(sound > HEARD / 4, "{sound:?}");
        lateness.push(found.skew_p99);
    }
    // All callers have as many frames, so the mean of what 1 in 100 exceeds is close to what 1 in 100 of all exceed.
    let most = lateness.iter().max().expect("there are callers");
    let mean = lateness.iter().sum::<Duration>() / u32::try_from(CALLERS).expect("few");
    println!(
        "{}: of {CALLERS} callers the p99 is {mean:?} on average, {most:?} for the worst",
        wire.name()
    );
    assert!(mean <= Duration::from_millis(5), "{mean:?}");
    // chan_websocket takes a frame a tick: where silence was late for one tick, all that follows is 20 ms later than what came before.
    assert!(*most <= Duration::from_millis(25), "{most:?}");
    for phone in &phones {
        phone.hang_up();
    }
    server.wait_sessions(0, 5 * SECOND);
    asterisk.wait_empty(5 * SECOND);
}
