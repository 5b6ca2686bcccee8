//! RTP packets, reports and telephone events: nothing makes the parser panic, and a packet that was read is written and read back the same.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use repartee_protocol::rtp::{
    DigitReceiver, RtcpPacket, RtcpReader, RtpPacket, SourceLock, classify, comfort_noise_level,
};

fuzz_target!(|data: &[u8]| {
    let mut digits = DigitReceiver::new();
    let mut lock = SourceLock::new(None);
    let mut now = Duration::ZERO;
    // A stream of packets, each behind its length.
    let mut rest = data;
    while let Some((length, tail)) = rest.split_first() {
        let (packet, tail) = tail.split_at(usize::from(*length).min(tail.len()));
        rest = tail;
        let _ = classify(packet);
        for report in RtcpReader::new(packet) {
            if let Ok(RtcpPacket::Report { receptions, .. }) = report {
                assert!(receptions.iter().count() <= 31);
            }
        }
        let Ok(read) = RtpPacket::parse(packet) else { continue };
        let mut written = Vec::new();
        read.write(&mut written);
        assert_eq!(RtpPacket::parse(&written).as_ref(), Ok(&read));
        let _ = comfort_noise_level(read.payload);
        let port = u16::from(*length);
        lock.receive(now, ([127, 0, 0, 1], port).into(), &read.header);
        assert!(lock.address().is_some());
        digits.receive(now, &read.header, read.payload);
        now += Duration::from_millis(20);
        while digits.poll(now).is_some() {}
        assert!(digits.next_deadline().is_none_or(|deadline| deadline >= now));
    }
});
