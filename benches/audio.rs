//! What 20 ms of sound cost on the audio floor: codecs, resampling, concealment, the jitter buffer.
//!
//! `cargo bench --bench audio`; each figure is the time for one frame of 20 ms of one session.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use repartee::audio::opus::OpusOptions;
use repartee::audio::{
    ByteOrder, Codec, Decoder, Encoder, JitterBuffer, JitterConfig, JitterPacket, PacketKind, Pull, Resampler,
    SampleRate,
};
use repartee::time::Time;
use repartee_protocol::rtp::{RtpPacket, RtpSender, payload_type};

/// Twenty frames of something like a voice, so that Opus has real work.
fn voice(rate: SampleRate) -> Vec<Vec<i16>> {
    let hz = f64::from(rate.hz());
    let sound: Vec<i16> = (0..rate.samples(400))
        .map(|n| {
            let t = n as f64 / hz * std::f64::consts::TAU;
            let tone: f64 = (1..16).map(|k| (t * 140.0 * f64::from(k)).sin() / f64::from(k)).sum();
            (tone * 6000.0 * (0.6 + 0.4 * (t * 4.0).sin())) as i16
        })
        .collect();
    sound.chunks(rate.samples(20)).map(<[i16]>::to_vec).collect()
}

fn codecs(criterion: &mut Criterion) {
    let cases = [
        (Codec::Pcm16, SampleRate::Hz16000),
        (Codec::Pcmu, SampleRate::Hz8000),
        (Codec::Pcma, SampleRate::Hz8000),
        (Codec::Opus, SampleRate::Hz16000),
        (Codec::Opus, SampleRate::Hz48000),
    ];
    for (name, decoding) in [("encode 20 ms", false), ("decode 20 ms", true), ("conceal 20 ms", true)] {
        let mut group = criterion.benchmark_group(name);
        for (codec, rate) in cases {
            let mut encoder =
                Encoder::new(codec, rate, ByteOrder::default(), OpusOptions::default()).expect("valid options");
            let mut decoder = Decoder::new(codec, rate, ByteOrder::default()).expect("memory for a decoder");
            let frames = voice(rate);
            let packets: Vec<Vec<u8>> = frames
                .iter()
                .map(|frame| {
                    let mut packet = Vec::new();
                    encoder.encode(frame, &mut packet).expect("a frame of 20 ms");
                    packet
                })
                .collect();
            let (mut payload, mut samples, mut n) = (Vec::new(), Vec::new(), 0);
            group.bench_function(BenchmarkId::from_parameter(format!("{codec:?} {rate}")), |bencher| {
                bencher.iter(|| {
                    n = (n + 1) % frames.len();
                    if !decoding {
                        payload.clear();
                        encoder
                            .encode(black_box(&frames[n]), &mut payload)
                            .expect("a frame of 20 ms");
                    } else {
                        samples.clear();
                        // Every other frame is lost where concealment is measured, so that it never falls silent.
                        if name.starts_with("conceal") && n % 2 == 1 {
                            decoder.conceal(rate.samples(20), &mut samples);
                        } else {
                            decoder
                                .decode(black_box(&packets[n]), &mut samples)
                                .expect("our own packet");
                        }
                    }
                });
            });
        }
        group.finish();
    }
}

fn resampling(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("resample 20 ms");
    for from in SampleRate::ALL {
        for to in SampleRate::ALL {
            if from == to {
                continue;
            }
            let mut resampler = Resampler::new(from, to).expect("every pair is supported");
            let (frames, mut out, mut n) = (voice(from), Vec::new(), 0);
            group.bench_function(BenchmarkId::from_parameter(format!("{from} to {to}")), |bencher| {
                bencher.iter(|| {
                    n = (n + 1) % frames.len();
                    out.clear();
                    resampler.process(black_box(&frames[n]), &mut out);
                });
            });
        }
    }
    group.finish();
}

fn jitter_buffer(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("jitter buffer 20 ms");
    for (name, config) in [
        ("timed", JitterConfig::timed(16_000)),
        ("ordered", JitterConfig::ordered(16_000)),
    ] {
        let mut buffer = JitterBuffer::new(config);
        let mut n = 0_u64;
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                // Every tenth packet is lost, and each pair after it changes places.
                n += 1;
                let number = match n % 10 {
                    3 => n + 1,
                    4 => n - 1,
                    _ => n,
                };
                let now = Time::from_millis(n * 20);
                if !n.is_multiple_of(10) {
                    let packet = JitterPacket {
                        sequence: number as u16,
                        timestamp: (number * 320) as u32,
                        ssrc: 1,
                        marker: false,
                        kind: PacketKind::Audio { ticks: 320 },
                        payload: number,
                    };
                    black_box(buffer.push(now, packet));
                }
                while black_box(buffer.pull(now)) != Pull::Wait {}
            });
        });
    }
    group.finish();
}

fn rtp(criterion: &mut Criterion) {
    let mut sender = RtpSender::new(payload_type::PCMU, 1, 2, 3);
    let (payload, mut bytes) = ([0xFF; 160], Vec::new());
    criterion.bench_function("rtp write and parse", |bencher| {
        bencher.iter(|| {
            bytes.clear();
            sender.write(black_box(&payload), 160, &mut bytes);
            black_box(
                RtpPacket::parse(black_box(&bytes))
                    .expect("our own packet")
                    .payload
                    .len(),
            )
        });
    });
}

criterion_group!(benches, codecs, resampling, jitter_buffer, rtp);
criterion_main!(benches);
