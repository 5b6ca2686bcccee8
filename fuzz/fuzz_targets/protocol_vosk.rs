//! vosk-server's requests: nothing makes the reader panic, and a reply is JSON whatever text is in it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use repartee_protocol::vosk::{RATES_HZ, Reply, Request};

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    if let Ok(Request::Config(config)) = Request::parse(&text) {
        assert!(config.sample_rate_hz.is_none_or(|rate| RATES_HZ.contains(&rate)));
    }
    // A reply is no request; it has to be JSON, which the reader says of it.
    let reply = Reply::Partial(text.as_ref().into()).to_text();
    if reply.len() < 200_000 {
        assert_eq!(
            Request::parse(&reply),
            Err(repartee_protocol::vosk::RequestError::Unknown)
        );
    }
});
