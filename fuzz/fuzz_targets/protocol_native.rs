//! Text messages of the native wire: no bytes make a parser panic, what is read is written back the same, and errors stay short.
#![no_main]

use libfuzzer_sys::fuzz_target;
use repartee_protocol::native::{parse_control, parse_event};

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    match parse_control(&text) {
        Ok(control) => assert_eq!(parse_control(&control.to_json()), Ok(control)),
        Err(error) => assert!(error.message.chars().count() < 300),
    }
    if let Ok(Some(event)) = parse_event(&text) {
        assert_eq!(parse_event(&event.to_json()).ok().flatten(), Some(event));
    }
});
