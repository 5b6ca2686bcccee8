//! Each extension of `examples/asterisk/` is dialled, with a peer in Repartee's place: what the example says happens.

use std::net::UdpSocket;
use std::time::Duration;

use crate::ari::{Application, ari, encode};
use crate::asterisk::{AGENT, Asterisk};
use crate::peer::{Pace, Peer, Report, play_rtp};
use crate::phone::{Phase, Phone};
use crate::speech::tone;
use crate::{now, pause, until};

const SECOND: Duration = Duration::from_secs(1);

/// Calls `extension`, hears the peer's tone whole and on time, and presses a key.
fn hear_the_tone(extension: &str, peer: &Peer) -> (Phone, Report) {
    let phone = Phone::new("alice");
    let begin = now();
    phone.call(extension);
    until("the tone is heard", 5 * SECOND, || {
        phone.ear().sound_from(begin).is_some()
    });
    pause(2_200 * SECOND / 1_000);
    let ear = phone.ear();
    let from = ear.sound_from(begin).expect("that was waited for");
    let to = ear.silent_since().expect("there was sound");
    let found = ear.punctuality(from..to);
    println!("{extension}: a tone of {:?}: {found}", to.since(from));
    let sound = ear.sound_within(begin..now());
    assert!(
        sound >= 1_900 * SECOND / 1_000 && sound <= 2_050 * SECOND / 1_000,
        "{sound:?}"
    );
    assert!(found.gaps == 0 && found.lost == 0 && found.burst <= 3, "{found}");
    phone.press("7", Duration::from_millis(160));
    let report = peer.wait("the key", |report| !report.digits.is_empty());
    assert_eq!(report.digits, "7");
    (phone, report)
}

/// The person's phone rings, and both can speak.
fn a_person_takes_over(phone: &Phone, agent: &Phone) {
    agent.wait("the call", 5 * SECOND, |phase| matches!(phase, Phase::Answered { .. }));
    let begin = now();
    agent.say(&tone(8_000, 300));
    until("the caller hears the person", 5 * SECOND, || {
        phone.ear().sound_from(begin).is_some()
    });
    phone.say(&tone(8_000, 300));
    until("the person hears the caller", 5 * SECOND, || {
        agent.ear().sound_from(begin).is_some()
    });
}

fn audiosocket(extension: &str, kind: u8, length: usize) {
    let Some(asterisk) = Asterisk::start() else { return };
    let peer = Peer::audiosocket(Pace::OnTime);
    let agent = Phone::at("agent", AGENT).answers();
    let (phone, report) = hear_the_tone(extension, &peer);
    assert_eq!(report.start.len(), 32, "a UUID: {}", report.start);
    assert!(
        report.frames.iter().all(|frame| *frame == (kind, length)),
        "{:?}",
        report.frames
    );
    assert_eq!(agent.phase(), None, "nobody has called the person yet");
    peer.hang_up();
    a_person_takes_over(&phone, &agent);
    phone.hang_up();
    agent.wait_ended(5 * SECOND);
    asterisk.wait_empty(2 * SECOND);
}

#[test]
fn audiosocket_app_hands_over_to_a_phone() {
    audiosocket("7001", 0x10, 320);
}

#[test]
fn audiosocket_app_hands_over_to_a_queue() {
    audiosocket("7006", 0x10, 320);
}

#[test]
fn audiosocket_channel_is_wideband_and_hands_over() {
    audiosocket("7002", 0x12, 640);
}

fn websocket(extension: &str) -> Option<Report> {
    let asterisk = Asterisk::start()?;
    let peer = Peer::websocket();
    let agent = Phone::at("agent", AGENT).answers();
    let (phone, report) = hear_the_tone(extension, &peer);
    assert!(
        report.frames.iter().all(|frame| *frame == (0, 640)),
        "{:?}",
        report.frames
    );
    peer.hang_up();
    a_person_takes_over(&phone, &agent);
    phone.hang_up();
    agent.wait_ended(5 * SECOND);
    asterisk.wait_empty(2 * SECOND);
    Some(report)
}

#[test]
fn chan_websocket_json_tells_who_calls_and_hands_over() {
    let Some(report) = websocket("7003") else { return };
    let start: serde_json::Value = serde_json::from_str(&report.start).expect("MEDIA_START is JSON");
    let variables = &start["channel_variables"];
    assert_eq!(variables["__CALLER_NUM"], "alice", "{start}");
    assert_eq!(variables["__CALLER_NAME"], "alice", "{start}");
    assert_eq!(variables["__DIALED_NUM"], "7003", "{start}");
    assert_eq!(start["format"], "slin16", "{start}");
}

#[test]
fn chan_websocket_plain_text_hands_over() {
    let Some(report) = websocket("7004") else { return };
    assert!(report.start.starts_with("MEDIA_START "), "{}", report.start);
    assert!(report.start.contains("format:slin16"), "{}", report.start);
}

#[test]
fn ari_without_its_application_goes_on_in_the_dialplan() {
    let Some(asterisk) = Asterisk::start() else { return };
    let agent = Phone::at("agent", AGENT).answers();
    let phone = Phone::new("alice");
    phone.call("7005");
    a_person_takes_over(&phone, &agent);
    agent.hang_up();
    phone.wait_ended(5 * SECOND);
    asterisk.wait_empty(2 * SECOND);
}

#[test]
fn ari_brings_rtp_and_hands_over_to_an_extension() {
    let Some(asterisk) = Asterisk::start() else { return };
    let agent = Phone::at("agent", AGENT).answers();
    let mut application = Application::connect("repartee");
    let phone = Phone::new("alice");
    phone.dial("7005");
    let caller = application.wait("StasisStart")["channel"]["id"]
        .as_str()
        .expect("a channel has an id")
        .to_owned();
    assert_eq!(ari("POST", &format!("channels/{caller}/answer")).0, 204);
    phone.wait("an answer", 5 * SECOND, |phase| matches!(phase, Phase::Answered { .. }));

    let socket = UdpSocket::bind("127.0.0.1:0").expect("loopback has a free port");
    let host = encode(&socket.local_addr().expect("it is bound").to_string());
    let (status, media) = ari(
        "POST",
        &format!("channels/externalMedia?app=repartee&external_host={host}&format=slin16"),
    );
    assert_eq!(status, 200, "{media}");
    let media_id = application.wait("StasisStart")["channel"]["id"]
        .as_str()
        .expect("an id")
        .to_owned();
    let variables = &media["channelvars"];
    let place = format!(
        "{}:{}",
        variables["UNICASTRTP_LOCAL_ADDRESS"].as_str().expect("an address"),
        variables["UNICASTRTP_LOCAL_PORT"].as_str().expect("a port")
    );
    let bridge = ari("POST", "bridges?type=mixing").1["id"]
        .as_str()
        .expect("an id")
        .to_owned();
    let both = format!("bridges/{bridge}/addChannel?channel={caller},{media_id}");
    assert_eq!(ari("POST", &both).0, 204);

    let begin = play_rtp(&socket, &place);
    pause(SECOND / 5);
    let sound = phone.ear().sound_within(begin..now());
    assert!(sound >= 1_900 * SECOND / 1_000, "{sound:?}");
    socket.set_read_timeout(Some(SECOND)).expect("a socket takes it");
    let mut packet = [0; 2_048];
    let (length, _) = socket.recv_from(&mut packet).expect("the caller is heard");
    assert_eq!((length, packet[1] & 0x7f), (652, 118), "slin16 by RTP");

    phone.press("5", Duration::from_millis(160));
    assert_eq!(application.wait("ChannelDtmfReceived")["digit"], "5");
    let on = format!("channels/{caller}/continue?context=repartee&extension=7100&priority=1");
    assert_eq!(ari("POST", &on).0, 204);
    a_person_takes_over(&phone, &agent);
    assert_eq!(ari("DELETE", &format!("channels/{media_id}")).0, 204);
    assert_eq!(ari("DELETE", &format!("bridges/{bridge}")).0, 204);
    phone.hang_up();
    agent.wait_ended(5 * SECOND);
    asterisk.wait_empty(2 * SECOND);
}

#[test]
fn what_is_sent_at_once_is_seen_as_a_burst() {
    let Some(_asterisk) = Asterisk::start() else { return };
    let _peer = Peer::audiosocket(Pace::AtOnce);
    let phone = Phone::new("alice");
    let begin = now();
    phone.call("7001");
    pause(SECOND);
    let found = phone.ear().punctuality(begin..now());
    println!("two seconds at once: {found}");
    assert!(found.burst >= 50 && found.skew_max > SECOND / 2, "{found}");
}
