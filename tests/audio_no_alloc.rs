//! Nothing on the audio path allocates for a frame, once its buffers have grown to their working size.
//!
//! The counter replaces this program's allocator and counts what the measuring thread allocates through Rust;
//! libopus, in C, is given its memory when a codec is made and works on the stack from then on.

use std::time::Duration;

use repartee::audio::opus::OpusOptions;
use repartee::audio::{
    ArrivalClock, ByteOrder, CallProgress, CatchUp, Codec, ComfortNoise, Decoder, EchoGuard, Encoder, FrameFifo, Heard,
    JitterBuffer, JitterConfig, JitterPacket, Pacer, PacketKind, Patience, Pull, Resampler, RtpFormats, RtpReceiver,
    SampleRate,
};
use repartee::time::{Samples, Time};
use repartee_protocol::rtp::RtpHeader;

const WARM_UP: usize = 50;
const MEASURED: usize = 500;

fn tone(rate: SampleRate) -> Vec<i16> {
    let samples = rate.samples(20);
    (0..samples)
        .map(|n| (8000.0 * (n as f64 / samples as f64 * 31.4).sin()) as i16)
        .collect()
}

/// Runs `frame` until it is warm, then counts.
fn assert_no_allocation(what: &str, mut frame: impl FnMut(usize)) {
    (0..WARM_UP).for_each(&mut frame);
    let counted = allocation_counter::measure(|| (WARM_UP..WARM_UP + MEASURED).for_each(&mut frame));
    assert_eq!(
        counted.count_total, 0,
        "{what}: {} allocations in {MEASURED} frames",
        counted.count_total
    );
}

#[test]
fn the_counter_counts() {
    let counted = allocation_counter::measure(|| drop(std::hint::black_box(vec![0_u8; 100])));
    assert_eq!(counted.count_total, 1);
}

#[test]
fn codecs() {
    for codec in [Codec::Pcm16, Codec::Pcmu, Codec::Pcma, Codec::G722, Codec::Opus] {
        for rate in SampleRate::ALL.into_iter().filter(|&rate| codec.has_rate(rate)) {
            let mut encoder = Encoder::new(codec, rate, ByteOrder::BigEndian, OpusOptions::default()).unwrap();
            let mut decoder = Decoder::new(codec, rate, ByteOrder::BigEndian).unwrap();
            let (sound, mut payload, mut out) = (tone(rate), Vec::new(), Vec::new());
            assert_no_allocation(&format!("{codec:?} at {rate}"), |n| {
                payload.clear();
                out.clear();
                encoder.encode(&sound, &mut payload).unwrap();
                match n % 10 {
                    3 => decoder.conceal(sound.len(), &mut out),
                    7 => decoder.recover(&payload, sound.len(), &mut out),
                    8 => assert!(decoder.decode(&payload[..1], &mut out).is_ok() || codec == Codec::Pcm16),
                    _ => decoder.decode(&payload, &mut out).unwrap(),
                }
            });
        }
    }
}

#[test]
fn resampling() {
    // The engine's own rates, and those of voices.
    for from in [8_000, 11_025, 16_000, 22_050, 24_000, 44_100, 48_000] {
        for to in SampleRate::ALL {
            let mut resampler = Resampler::from_hz(from, to).unwrap();
            let mut fifo = FrameFifo::new(to.samples(20), to.samples(100));
            let (mut sound, mut out, mut frame) = (tone(SampleRate::Hz48000), Vec::new(), Vec::new());
            sound.truncate(from as usize / 50);
            assert_no_allocation(&format!("{from} to {to}"), |n| {
                out.clear();
                resampler.process(&sound[..sound.len() - n % 3], &mut out);
                if n % 100 == 0 {
                    resampler.flush(&mut out);
                }
                fifo.push(&out);
                frame.clear();
                fifo.pull(&mut frame);
            });
        }
    }
}

#[test]
fn jitter_buffer_and_pacer() {
    for config in [JitterConfig::timed(8000), JitterConfig::ordered(8000)] {
        let mut buffer = JitterBuffer::new(config);
        let mut pacer = Pacer::new(Duration::from_millis(20), CatchUp::One);
        pacer.start(Time::ZERO);
        assert_no_allocation(&format!("{:?}", config.discipline), |n| {
            let now = Time::from_millis(n as u64 * 20);
            // One in eight is lost, two change places, and now and then the stream starts again.
            let number = if n % 8 == 4 {
                n + 1
            } else if n % 8 == 5 {
                n - 1
            } else {
                n
            };
            if n % 8 != 2 {
                buffer.push(
                    now,
                    JitterPacket {
                        sequence: number as u16,
                        timestamp: number as u32 * 160,
                        ssrc: (n / 100) as u32,
                        marker: false,
                        kind: PacketKind::Audio { ticks: 160 },
                        payload: number,
                    },
                );
            }
            while buffer.pull(now) != Pull::Wait {}
            while pacer.poll(now).is_some() {}
        });
    }
}

#[test]
fn the_receiver_of_rtp_and_the_clock_of_arrivals() {
    // G.711, which is resampled, and L16 at the session's own rate; keys, comfort noise, losses and strangers among it.
    for (payload_type, ticks, bytes) in [(0, 160, 160), (118, 320, 640)] {
        let mut receiver = RtpReceiver::new(RtpFormats::asterisk(), SampleRate::Hz16000, 1, None, None);
        let (peer, stranger) = (([192, 0, 2, 1], 4000).into(), ([192, 0, 2, 9], 4000).into());
        let (payload, mut packet, mut heard) = (vec![0x55; bytes], Vec::new(), Heard::default());
        let mut clock = ArrivalClock::new();
        assert_no_allocation(&format!("RTP type {payload_type}"), |n| {
            let now = Time::from_millis(n as u64 * 20);
            let header = RtpHeader {
                marker: false,
                payload_type: match n % 32 {
                    9 => 101,
                    21 => 13,
                    _ => payload_type,
                },
                sequence: n as u16,
                timestamp: n as u32 * ticks,
                ssrc: 5,
            };
            packet.clear();
            header.write(&mut packet);
            packet.extend_from_slice(if header.payload_type == payload_type {
                &payload
            } else {
                &[5, 0x80, 0, 160]
            });
            heard.pcm.clear();
            heard.digits.clear();
            if n % 8 != 2 {
                receiver.receive(now, peer, &packet, &mut heard).unwrap();
                clock.receive(now, 320, n % 3 == 0);
            }
            receiver.receive(now, stranger, &packet, &mut heard).unwrap();
            clock.poll(now);
            let _ = (receiver.quality(), clock.stats());
        });
    }
}

#[test]
fn what_listens_to_a_telephone() {
    let rate = SampleRate::Hz16000;
    let (mut sound, mut noise) = (tone(rate), ComfortNoise::new(rate, -60.0, 7));
    let (mut echo, mut progress) = (EchoGuard::new(), CallProgress::new(rate, Patience::default()));
    assert_no_allocation("echo, progress and comfort noise", |n| {
        let at = Samples::new((n * sound.len()) as u64);
        noise.add(&mut sound);
        echo.played(at, &sound);
        echo.heard(at, &sound);
        progress.push(&sound);
        progress.poll();
    });
}
