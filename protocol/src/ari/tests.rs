use super::*;
use crate::audiosocket::Rate;
use crate::chan_websocket::Format;
use crate::native::Digit;

const CHANNEL: &str = r#"{"id":"1795291244.164","name":"PJSIP/labphone-00000052","state":"Ring","protocol_id":"x","caller":{"name":"Ada","number":"0301"},"connected":{"name":"","number":""},"accountcode":"","dialplan":{"context":"default","exten":"100","priority":2,"app_name":"Stasis","app_data":"engine"},"creationtime":"2026-11-26T10:00:00.000+0000","language":"en","channelvars":{"UNICASTRTP_LOCAL_PORT":"11000","EMPTY":null}}"#;

fn event(text: &str) -> Event {
    Message::parse(text)
        .unwrap_or_else(|error| panic!("{text}: {error}"))
        .event
}

fn channel() -> Box<Channel> {
    Box::new(parse_reply(CHANNEL.as_bytes()).unwrap())
}

#[test]
fn a_channel_is_read() {
    let channel = channel();
    assert_eq!(channel.id, "1795291244.164");
    assert_eq!(channel.name, "PJSIP/labphone-00000052");
    assert_eq!(channel.state, ChannelState::Ring);
    assert_eq!(
        (channel.caller.name.expose(), channel.caller.number.expose()),
        ("Ada", "0301")
    );
    assert_eq!(channel.connected, Party::default());
    let place = &channel.dialplan;
    assert_eq!(
        (place.context.as_str(), place.exten.expose(), place.priority),
        ("default", "100", 2)
    );
    assert_eq!((place.app_name.as_str(), place.app_data.expose()), ("Stasis", "engine"));
    assert_eq!(channel.variables.value("UNICASTRTP_LOCAL_PORT"), Some("11000"));
    let printed = format!("{channel:?}");
    assert!(!printed.contains("Ada") && !printed.contains("0301"));

    let small: Channel = parse_reply(br#"{"id":"1","state":"Dialing"}"#).unwrap();
    assert_eq!(small.state, ChannelState::Other("Dialing".to_owned()));
    let list: Vec<Channel> = parse_reply(format!("[{CHANNEL},{CHANNEL}]").as_bytes()).unwrap();
    assert_eq!(list.len(), 2);
}

#[test]
fn events_are_read() {
    let text = format!(
        r#"{{"type":"StasisStart","timestamp":"x","args":["a","b"],"channel":{CHANNEL},"replace_channel":{CHANNEL},"asterisk_id":"00:11","application":"engine"}}"#
    );
    let message = Message::parse(&text).unwrap();
    assert_eq!(message.application, "engine");
    assert_eq!(
        message.event,
        Event::StasisStart {
            args: vec!["a".into(), "b".into()],
            channel: channel(),
            replaces: Some(channel()),
        }
    );
    let cases = [
        (
            r#""type":"StasisEnd","channel":C"#,
            Event::StasisEnd { channel: channel() },
        ),
        (
            r#""type":"ChannelDtmfReceived","digit":"5","duration_ms":200,"channel":C"#,
            Event::ChannelDtmfReceived {
                digit: Digit::new('5').unwrap(),
                duration_ms: 200,
                channel: channel(),
            },
        ),
        (
            r#""type":"ChannelHangupRequest","cause":16,"channel":C"#,
            Event::ChannelHangupRequest {
                cause: Some(16),
                soft: false,
                channel: channel(),
            },
        ),
        (
            r#""type":"ChannelDestroyed","cause":16,"cause_txt":"Normal Clearing","channel":C"#,
            Event::ChannelDestroyed {
                cause: 16,
                cause_text: "Normal Clearing".to_owned(),
                channel: channel(),
            },
        ),
        (
            r#""type":"ChannelStateChange","channel":C"#,
            Event::ChannelStateChange { channel: channel() },
        ),
        (
            r#""type":"ChannelVarset","variable":"X","value":"1","channel":C"#,
            Event::ChannelVarset {
                variable: "X".to_owned(),
                value: "1".into(),
                channel: Some(channel()),
            },
        ),
        (
            r#""type":"ChannelVarset","variable":"X","value":"""#,
            Event::ChannelVarset {
                variable: "X".to_owned(),
                value: "".into(),
                channel: None,
            },
        ),
        (
            r#""type":"Dial","dialstatus":"ANSWER","dialstring":"x","peer":C"#,
            Event::Dial {
                status: "ANSWER".to_owned(),
                caller: None,
                peer: channel(),
            },
        ),
        (
            r#""type":"BridgeDestroyed","bridge":{"id":"b1","technology":"simple_bridge","bridge_type":"mixing","bridge_class":"stasis","creator":"Stasis","name":"n","channels":["1.2"]}"#,
            Event::BridgeDestroyed {
                bridge: Bridge {
                    id: "b1".to_owned(),
                    name: "n".to_owned(),
                    creator: "Stasis".to_owned(),
                    bridge_type: "mixing".to_owned(),
                    channels: vec!["1.2".to_owned()],
                },
            },
        ),
        (r#""type":"ApplicationReplaced""#, Event::ApplicationReplaced),
        (
            r#""type":"ChannelTalkingStarted","channel":7"#,
            Event::Unknown("ChannelTalkingStarted".to_owned()),
        ),
    ];
    for (text, expected) in cases {
        let text = format!("{{{}}}", text.replace(":C", &format!(":{CHANNEL}")));
        assert_eq!(event(&text), expected, "{text}");
    }
}

#[test]
fn what_makes_no_sense_is_an_error() {
    let deep = format!("{{\"type\":\"StasisEnd\",\"channel\":{}", "[".repeat(10_000));
    for text in [
        "",
        "[]",
        "{}",
        &deep,
        r#"{"type":7}"#,
        r#"{"type":"StasisStart"}"#,
        r#"{"type":"StasisStart","channel":{}}"#,
        r#"{"type":"StasisStart","channel":{"id":7}}"#,
        r#"{"type":"ChannelDtmfReceived","digit":"55","channel":{"id":"1"}}"#,
        r#"{"type":"ChannelDtmfReceived","digit":"5","duration_ms":-1,"channel":{"id":"1"}}"#,
        r#"{"type":"BridgeDestroyed","bridge":[]}"#,
    ] {
        let error = Message::parse(text).expect_err(text);
        assert!(error.to_string().len() < 80);
    }
    let long = " ".repeat(MAX_EVENT_BYTES + 1);
    assert_eq!(Message::parse(&long), Err(EventError::TooLong(MAX_EVENT_BYTES + 1)));
    assert_eq!(
        parse_reply::<Channel>(b"<html>"),
        Err(ReplyError::Unexpected("a channel"))
    );
    let long = vec![b' '; MAX_REPLY_BYTES + 1];
    assert_eq!(parse_reply::<Bridge>(&long), Err(ReplyError::TooLong(long.len())));
}

#[test]
fn other_replies_are_read() {
    let bridges: Vec<Bridge> = parse_reply(br#"[{"id":"b"}]"#).unwrap();
    assert_eq!(bridges[0].id, "b");
    let value: VariableValue = parse_reply(br#"{"value":"7"}"#).unwrap();
    assert_eq!(value.value.expose(), "7");
    for body in [r#"{"message":"Channel not found"}"#, r#"{"error":"Channel not found"}"#] {
        let failure: Failure = parse_reply(body.as_bytes()).unwrap();
        assert_eq!(failure.message, "Channel not found");
    }
    let info: Info = parse_reply(br#"{"system":{"version":"22.10.1","entity_id":"00:11"}}"#).unwrap();
    assert_eq!(Version::parse(&info.version), Some(Version { major: 22, minor: 10 }));
}

#[test]
fn a_version_says_what_it_can_do() {
    let version = |text: &str| Version::parse(text).unwrap_or_else(|| panic!("{text}"));
    assert_eq!(version("22.10.1~dfsg+~cs6.15").to_string(), "22.10");
    assert_eq!(version("certified-20.7-cert3").to_string(), "20.7");
    for wrong in ["", "GIT-master-abc", "22", "22.", ".5", "99999.1", "22.99999"] {
        assert_eq!(Version::parse(wrong), None, "{wrong}");
    }
    // Digits and rates of AudioSocket, chan_websocket, its JSON.
    for (text, able) in [
        ("18.26.0", [false, false, false, false]),
        ("20.13.0", [false, false, false, false]),
        ("20.14.0", [true, false, false, false]),
        ("20.16.0", [true, false, true, false]),
        ("20.17.0", [true, true, true, false]),
        ("20.18.0", [true, true, true, true]),
        ("21.8.0", [false, false, false, false]),
        ("21.11.0", [true, false, true, false]),
        ("22.6.0", [true, false, true, false]),
        ("22.7.0", [true, true, true, false]),
        ("22.8.0", [true, true, true, true]),
        ("23.0.0", [true, false, true, false]),
        ("23.2.0", [true, true, true, true]),
        ("24.0.0", [true, true, true, true]),
    ] {
        let version = version(text);
        let found = [
            version.audiosocket_has_digits(),
            version.audiosocket_has_rates(),
            version.has_chan_websocket(),
            version.chan_websocket_has_json(),
        ];
        assert_eq!(found, able, "{text}");
    }
}

#[test]
fn requests_are_as_asterisk_takes_them() {
    let digits: Vec<Digit> = "1#".chars().filter_map(Digit::new).collect();
    let slin16 = Format::from_name("slin16");
    let uuid = [0x11; 16];
    let media = |media| {
        Request::external_media(&ExternalMedia {
            app: "engine",
            channel_id: None,
            media,
            variables: &[],
        })
    };
    let cases = [
        (Request::events("my app"), "GET /events?app=my%20app"),
        (Request::ping(), "GET /asterisk/ping"),
        (Request::info(), "GET /asterisk/info?only=system"),
        (Request::channels(), "GET /channels"),
        (Request::channel("1.2"), "GET /channels/1.2"),
        (Request::answer("1.2"), "POST /channels/1.2/answer"),
        (
            Request::hang_up("1.2", HangupReason::Normal),
            "DELETE /channels/1.2?reason=normal",
        ),
        (
            Request::hang_up("1.2", HangupReason::NoAnswer),
            "DELETE /channels/1.2?reason=no_answer",
        ),
        (
            Request::continue_in_dialplan("1.2", None, None, None),
            "POST /channels/1.2/continue",
        ),
        (
            Request::continue_in_dialplan("1.2", Some("c"), Some("*7#"), Some(1)),
            "POST /channels/1.2/continue?context=c&extension=%2A7%23&priority=1",
        ),
        (
            media(Media::AudioSocket {
                host: "[::1]:9092",
                rate: Rate::Hz16000,
                uuid: &uuid,
            }),
            "POST /channels/externalMedia?app=engine&external_host=%5B%3A%3A1%5D%3A9092&encapsulation=audiosocket&transport=tcp&format=slin16&data=11111111-1111-1111-1111-111111111111",
        ),
        (
            media(Media::WebSocketToUs {
                client: "engine",
                format: &slin16,
                json: true,
            }),
            "POST /channels/externalMedia?app=engine&external_host=engine&transport=websocket&encapsulation=none&format=slin16&transport_data=f%28json%29",
        ),
        (
            media(Media::WebSocketToAsterisk {
                format: &slin16,
                json: false,
            }),
            "POST /channels/externalMedia?app=engine&external_host=INCOMING&connection_type=server&transport=websocket&encapsulation=none&format=slin16",
        ),
        (
            media(Media::Rtp {
                host: "10.0.0.5:9100",
                format: &slin16,
            }),
            "POST /channels/externalMedia?app=engine&external_host=10.0.0.5%3A9100&format=slin16",
        ),
        (Request::send_dtmf("1.2", &digits), "POST /channels/1.2/dtmf?dtmf=1%23"),
        (Request::send_keys("1.2", "1w#"), "POST /channels/1.2/dtmf?dtmf=1w%23"),
        (Request::start_music("1.2", None), "POST /channels/1.2/moh"),
        (
            Request::start_music("1.2", Some("jazz")),
            "POST /channels/1.2/moh?mohClass=jazz",
        ),
        (Request::stop_music("1.2"), "DELETE /channels/1.2/moh"),
        (
            Request::variable("1.2", "CALLERID(num)"),
            "GET /channels/1.2/variable?variable=CALLERID%28num%29",
        ),
        (
            Request::set_variable("1.2", "X", "a&b=ü"),
            "POST /channels/1.2/variable?variable=X&value=a%26b%3D%C3%BC",
        ),
        (Request::bridges(), "GET /bridges"),
        (
            Request::create_bridge(Some("b1"), "call 7"),
            "POST /bridges?type=mixing&bridgeId=b1&name=call%207",
        ),
        (Request::delete_bridge("b1"), "DELETE /bridges/b1"),
        (
            Request::add_channel("b1", "1.2"),
            "POST /bridges/b1/addChannel?channel=1.2",
        ),
        (
            Request::remove_channel("b1", "1.2"),
            "POST /bridges/b1/removeChannel?channel=1.2",
        ),
        (Request::start_bridge_music("b1", None), "POST /bridges/b1/moh"),
        (Request::stop_bridge_music("b1"), "DELETE /bridges/b1/moh"),
    ];
    for (request, expected) in cases {
        assert_eq!(format!("{} {}", request.method().as_str(), request.target()), expected);
        assert_eq!(request.body(), None);
    }
}

#[test]
fn a_call_is_made_with_variables() {
    let request = Request::originate(&Originate {
        endpoint: "Local/100@from-internal",
        app: "engine",
        app_args: Some("out,7"),
        caller_id: Some("\"Ada\" <0301>"),
        timeout_s: Some(20),
        channel_id: Some("c1"),
        origin: Some(Origin::Formats("slin16")),
        variables: &[("X", "a\"b")],
    });
    assert_eq!(
        request.target(),
        "/channels?endpoint=Local%2F100%40from-internal&app=engine&appArgs=out%2C7&callerId=%22Ada%22%20%3C0301%3E&timeout=20&channelId=c1&formats=slin16"
    );
    assert_eq!(request.body(), Some(r#"{"variables":{"X":"a\"b"}}"#));
    assert_eq!(format!("{request:?}"), "POST /channels");
    let request = Request::originate(&Originate {
        endpoint: "PJSIP/a",
        app: "e",
        origin: Some(Origin::Channel("1.2")),
        ..Originate::default()
    });
    assert_eq!(request.target(), "/channels?endpoint=PJSIP%2Fa&app=e&originator=1.2");
}

#[test]
fn no_id_changes_what_is_asked_for() {
    assert_eq!(
        Request::answer("../bridges?x=1#\r\n").target(),
        "/channels/..%2Fbridges%3Fx%3D1%23%0D%0A/answer"
    );
    for id in ["", ".", ".."] {
        let request = Request::hang_up(id, HangupReason::Normal);
        assert_eq!(request.target(), "/channels/%2E-none?reason=normal");
    }
}

#[test]
fn random_texts_are_read_or_refused() {
    let mut state = 271_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as usize
    };
    let seed = format!(r#"{{"type":"StasisStart","args":["a"],"channel":{CHANNEL},"application":"engine"}}"#);
    for _ in 0..10_000 {
        let mut bytes = seed.as_bytes().to_vec();
        for _ in 0..1 + next() % 4 {
            let place = next() % bytes.len();
            bytes[place] = if next() % 2 == 0 {
                next() as u8
            } else {
                b"{}[]\",:0"[next() % 8]
            };
        }
        let _ = Message::parse(&String::from_utf8_lossy(&bytes));
        let _ = parse_reply::<Channel>(&bytes);
    }
}
