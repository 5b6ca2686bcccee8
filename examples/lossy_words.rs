//! How many more words the embedded recogniser gets wrong when a call's RTP crosses a bad network.
//!
//! ```text
//! make build
//! REPARTEE_WORKERS=$PWD/target/release cargo run --release --example lossy_words            # twenty seeds
//! REPARTEE_WORKERS=$PWD/target/release cargo run --release --example lossy_words -- 5 20 40 # seeds, % lost, ms of jitter
//! ```
//!
//! Recordings of people (`REPARTEE_SPEECH` or `../shared/speech`) become µ-law in RTP packets of 20 ms. A simulated network
//! loses some and holds up each by a random time; `RtpReceiver` makes samples of what comes, in virtual time; the recogniser
//! writes those down, faster than they were spoken. For comparison the same is done without losses and jitter, without packets
//! (which must give the same), and with the recordings as they are.

#[allow(dead_code, reason = "tests use the rest")]
#[path = "../tests/support/speech.rs"]
mod speech;

use std::net::SocketAddr;
use std::sync::Arc;

use repartee::audio::opus::OpusOptions;
use repartee::audio::{ByteOrder, Codec, Decoder, Encoder, Heard, Resampler, RtpFormats, RtpReceiver, SampleRate};
use repartee::backend::{Backend, SttBackend, SttRequest, transcribe_whole};
use repartee::id::Generation;
use repartee::provider::worker;
use repartee::supervisor::{Specification, Worker, find_worker, worker_folders};
use repartee::time::Time;
use repartee_protocol::rtp::{RtpSender, payload_type};
use repartee_protocol::worker::Job;
use speech::{Recording, recordings, word_errors, words};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// The groups of recordings, and how many seconds of each: those of `tests/embedded.rs` of which the recogniser
/// understands more than half over a telephone.
const GROUPS: [(&str, f64); 2] = [("librivox-sense", 16.0), ("cmu-arctic", 9.0)];
/// Silence at 8 kHz after each recording, in samples: half a second.
const TAIL: usize = 4_000;
const FRAME_NS: u64 = 20_000_000;

/// The network between.
#[derive(Clone, Copy)]
struct Network {
    loss_percent: u64,
    jitter_ms: u64,
    seed: u64,
}

/// What the receiver makes of 8 kHz samples that cross a network.
fn over(network: Network, samples: &[i16]) -> Outcome<Vec<i16>> {
    let mut state = network.seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut random = |bound: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        if bound == 0 { 0 } else { state % bound }
    };
    let peer = SocketAddr::from(([192, 0, 2, 1], 4000));
    let mut encoder = Encoder::new(
        Codec::Pcmu,
        SampleRate::Hz8000,
        ByteOrder::BigEndian,
        OpusOptions::default(),
    )?;
    let mut sender = RtpSender::new(payload_type::PCMU, 1, 60_000, 1);
    let mut packets = Vec::new();
    for (frame, sent) in samples.chunks(160).zip((0..).step_by(FRAME_NS as usize)) {
        let (mut payload, mut packet) = (Vec::new(), Vec::new());
        encoder.encode(frame, &mut payload)?;
        sender.write(&payload, 160, &mut packet);
        let lost = random(100) < network.loss_percent;
        let late = random(network.jitter_ms * 1_000_000);
        if !lost {
            packets.push((sent + late, packet));
        }
    }
    packets.sort();
    let mut receiver = RtpReceiver::new(RtpFormats::asterisk(), SampleRate::Hz16000, 2, None, None);
    let mut heard = Heard::default();
    let poll_until = |receiver: &mut RtpReceiver, until: u64, heard: &mut Heard| {
        while let Some(due) = receiver.next_deadline().filter(|due| due.as_nanos() < until) {
            receiver.poll(due, heard);
        }
    };
    for (arrives, packet) in packets {
        poll_until(&mut receiver, arrives, &mut heard);
        receiver.receive(Time::from_nanos(arrives), peer, &packet, &mut heard)?;
    }
    let end = samples.len() as u64 * 125_000;
    poll_until(&mut receiver, end, &mut heard);
    Ok(heard.pcm)
}

/// The same samples coded and decoded, without packets, network and receiver.
fn direct(samples: &[i16]) -> Outcome<Vec<i16>> {
    let mut encoder = Encoder::new(
        Codec::Pcmu,
        SampleRate::Hz8000,
        ByteOrder::BigEndian,
        OpusOptions::default(),
    )?;
    let mut decoder = Decoder::new(Codec::Pcmu, SampleRate::Hz8000, ByteOrder::BigEndian)?;
    let mut resampler = Resampler::new(SampleRate::Hz8000, SampleRate::Hz16000)?;
    let (mut payload, mut decoded, mut heard) = (Vec::new(), Vec::new(), Vec::new());
    encoder.encode(samples, &mut payload)?;
    decoder.decode(&payload, &mut decoded)?;
    resampler.process(&decoded, &mut heard);
    Ok(heard)
}

fn chosen() -> Vec<(Recording, Vec<String>)> {
    let mut all = recordings();
    all.sort_by(|one, other| one.seconds.total_cmp(&other.seconds));
    let mut left = GROUPS;
    all.into_iter()
        .filter_map(|recording| {
            let words = recording.words.clone()?;
            let (_, left) = left.iter_mut().find(|(group, _)| *group == recording.group)?;
            if recording.seconds > *left {
                return None;
            }
            *left -= recording.seconds;
            Some((recording, words))
        })
        .collect()
}

/// Wrong words in a hundred, over all recordings as `heard` makes them out.
async fn error_rate(
    recogniser: &Arc<dyn SttBackend>,
    recordings: &[(Recording, Vec<String>)],
    heard: impl Fn(usize, &Recording) -> Outcome<Vec<i16>>,
) -> Outcome<f64> {
    let (mut wrong, mut all) = (0, 0);
    for (index, (recording, wanted)) in recordings.iter().enumerate() {
        let mut stream = recogniser.open(SttRequest::default())?;
        let found = transcribe_whole(stream.as_mut(), &heard(index, recording)?)
            .await
            .map_err(|failure| failure.reason)?;
        wrong += word_errors(wanted, &words(found.expose()));
        all += wanted.len();
    }
    Ok(100.0 * wrong as f64 / all as f64)
}

/// The mean, and half of its 95 % interval by Student's t (Abramowitz and Stegun 26.7.5).
fn interval(values: &[f64]) -> (f64, f64) {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (count - 1.0).max(1.0);
    let (z, freedom) = (1.959_964_f64, (count - 1.0).max(1.0));
    let t = z
        + (z.powi(3) + z) / (4.0 * freedom)
        + (5.0 * z.powi(5) + 16.0 * z.powi(3) + 3.0 * z) / (96.0 * freedom.powi(2));
    (mean, t * (variance / count).sqrt())
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Outcome<()> {
    let mut numbers = std::env::args().skip(1).map(|number| number.parse::<u64>());
    let seeds = numbers.next().transpose()?.unwrap_or(20);
    let loss_percent = numbers.next().transpose()?.unwrap_or(3);
    let jitter_ms = numbers.next().transpose()?.unwrap_or(40);
    let recordings = chosen();
    if recordings.is_empty() {
        return Ok(());
    }
    let program = find_worker("pocketsphinx", &worker_folders())?;
    let specification = Specification {
        // Nobody's call waits here.
        nice: 0,
        ..Specification::new("pocketsphinx", program, Job::Stt, "pocketsphinx-en-us")
    };
    let mut next = 0;
    let worker = Worker::start(specification, move || {
        next += 1;
        Generation::new(next)
    });
    let link = worker.ready().await?;
    let Backend::Stt(recogniser) = worker::backend(Job::Stt, &link, 1_000)? else {
        return Err("the worker is no recogniser".into());
    };

    // A caller's line goes on after the last word. Without this, the end of a recording is concealed like a loss.
    let spoken: Vec<Vec<i16>> = recordings
        .iter()
        .map(|(recording, _)| {
            let mut samples = recording.samples(8_000);
            samples.resize(samples.len() + TAIL, 0);
            samples
        })
        .collect();
    let count: usize = recordings.iter().map(|(_, words)| words.len()).sum();
    println!("{} recordings, {count} words", recordings.len());
    let wide = error_rate(&recogniser, &recordings, |_, recording| Ok(recording.samples(16_000))).await?;
    println!("as recorded, 16 kHz: {wide:.1} %");
    let coded = error_rate(&recogniser, &recordings, |index, _| direct(&spoken[index])).await?;
    println!("G.711 without packets: {coded:.1} %");
    let clean = Network {
        loss_percent: 0,
        jitter_ms: 0,
        seed: 0,
    };
    let clean = error_rate(&recogniser, &recordings, |index, _| over(clean, &spoken[index])).await?;
    println!("G.711 over RTP, nothing lost: {clean:.1} %");
    let mut rates = Vec::new();
    for seed in 1..=seeds {
        let rate = error_rate(&recogniser, &recordings, |index, _| {
            let seed = seed * 1_000 + index as u64;
            over(
                Network {
                    loss_percent,
                    jitter_ms,
                    seed,
                },
                &spoken[index],
            )
        })
        .await?;
        println!("seed {seed}: {rate:.1} %");
        rates.push(rate);
    }
    let (mean, half) = interval(&rates);
    println!(
        "G.711 over RTP, {loss_percent} % lost, {jitter_ms} ms of jitter, {} seeds: {mean:.1} ± {half:.1} % (95 % interval of the mean)",
        rates.len()
    );
    worker.stop().await;
    Ok(())
}
