//! Twilio's media streams: nothing makes the reader panic, audio has an end, and what is written can be read.
#![no_main]

use libfuzzer_sys::fuzz_target;
use repartee_protocol::twilio::{self, Event, MAX_AUDIO_BYTES};

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    let mut audio = Vec::new();
    let mut out = String::new();
    match Event::parse(&text) {
        Ok(Event::Media(media)) if media.decode(&mut audio).is_ok() => {
            assert!(audio.len() <= MAX_AUDIO_BYTES);
            let stream = twilio::StreamSid::new("MZ1").expect("a name");
            twilio::write_media(&stream, &audio, &mut out);
            let mut again = Vec::new();
            match Event::parse(&out) {
                Ok(Event::Media(media)) => media.decode(&mut again).expect("our own audio"),
                other => panic!("{other:?}"),
            }
            assert_eq!(audio, again);
        }
        Ok(Event::Start(start)) => {
            twilio::write_mark(&start.stream_sid, &text, &mut out);
            assert!(Event::parse(&out).is_ok() || text.chars().count() > twilio::MAX_NAME);
            out.clear();
            twilio::write_clear(&start.stream_sid, &mut out);
            assert!(Event::parse(&out).is_ok());
        }
        _ => {}
    }
});
