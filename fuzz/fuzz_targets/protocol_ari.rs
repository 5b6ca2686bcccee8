//! ARI's events and replies: nothing makes a reader panic, and no text changes which thing a request is for.
#![no_main]

use libfuzzer_sys::fuzz_target;
use repartee_protocol::ari::{Bridge, Channel, Failure, Info, Message, Request, Version, parse_reply};

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    let _ = Message::parse(&text);
    let _ = parse_reply::<Channel>(data);
    let _ = parse_reply::<Vec<Channel>>(data);
    let _ = parse_reply::<Vec<Bridge>>(data);
    let _ = parse_reply::<Failure>(data);
    let _ = parse_reply::<Info>(data);
    if let Some(version) = Version::parse(&text) {
        let _ = version.chan_websocket_has_json();
    }
    let request = Request::set_variable(&text, &text, &text);
    let target = request.target();
    assert!(target.is_ascii() && !target.contains([' ', '#', '\r', '\n']));
    assert_eq!(target.split('/').count(), 4);
    assert_eq!((target.split('?').count(), target.split('&').count()), (2, 2));
});
