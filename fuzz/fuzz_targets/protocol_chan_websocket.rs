//! chan_websocket's events, JSON and plain text: nothing makes the reader panic, and no command with an id that came is too long.
#![no_main]

use libfuzzer_sys::fuzz_target;
use repartee_protocol::chan_websocket::{Command, Event, MAX_COMMAND_BYTES, Message, Style};

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    match Message::parse(&text).map(|message| message.event) {
        Ok(Event::MarkProcessed(Some(id)) | Event::BufferingCompleted(Some(id))) => {
            for style in [Style::Json, Style::Plain] {
                for command in [Command::MarkMedia(Some(&id)), Command::StopMediaBuffering(Some(&id))] {
                    assert!(command.to_text(style).is_ok_and(|text| text.len() <= MAX_COMMAND_BYTES));
                }
            }
            let again = Message::parse(&format!(
                r#"{{"event":"MEDIA_MARK_PROCESSED","correlation_id":"{id}"}}"#
            ));
            assert_eq!(again.map(|message| message.event), Ok(Event::MarkProcessed(Some(id))));
        }
        Ok(Event::MediaStart(start)) => {
            assert!(start.ptime_ms > 0 && start.frame_bytes <= 65_535);
            let _ = (start.format.frame_bytes(), start.format.message_bytes());
            let _ = start.variables.inherited("CALLER_NUM");
        }
        _ => {}
    }
});
