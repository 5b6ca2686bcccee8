//! What a message between the engine and a worker costs: CPU time on both sides together, and the round trip.
//!
//! It runs the fake worker of `workers/shell`, which answers each piece of audio with a partial transcript, so nearly all of the time
//! is the link's. `cargo build --release --workspace --examples` builds it.
#![expect(
    clippy::disallowed_methods,
    reason = "a bench measures time; the ban is for the engine"
)]

use std::fs;
use std::future::poll_fn;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use repartee::id::Generation;
use repartee::supervisor::{Link, Sent, Specification, Stream, StreamEvent, Worker, find_worker, worker_folders};
use repartee_protocol::worker::{Job, Params, SttParams};

/// 20 ms of audio.
const FRAME: [i16; 320] = [0; 320];
/// Sequential round trips.
const ROUND_TRIPS: usize = 20_000;
/// Streams at the pace of real time.
const STREAMS: usize = 50;
/// Frames of each.
const FRAMES: usize = 200;
/// The pace.
const PACE: Duration = Duration::from_millis(20);

/// Time on a CPU of all threads of a process, in ns.
fn cpu_time(process: &str) -> u64 {
    let tasks = fs::read_dir(PathBuf::from("/proc").join(process).join("task"))
        .into_iter()
        .flatten()
        .flatten();
    let times = tasks.filter_map(|task| {
        let line = fs::read_to_string(task.path().join("schedstat")).ok()?;
        line.split(' ').next()?.parse::<u64>().ok()
    });
    times.sum()
}

fn both(link: &Link) -> (u64, u64) {
    let worker = link.hello().map_or(String::new(), |hello| hello.pid.to_string());
    (cpu_time("self"), cpu_time(&worker))
}

fn open(link: &Arc<Link>) -> Result<Stream, String> {
    let params = SttParams {
        rate: 16_000,
        partials: true,
        ..SttParams::default()
    };
    link.open(Params::Stt(params), &[])
        .map_err(|refused| refused.to_string())
}

/// Sends a frame and waits for its partial.
async fn round_trip(stream: &mut Stream) -> Result<(), String> {
    if stream.send_audio(&FRAME) == Sent::Full {
        return Err("the stream is full".to_owned());
    }
    match poll_fn(|context| stream.poll_event(context)).await {
        StreamEvent::Partial(_) => Ok(()),
        other => Err(format!("{other:?}")),
    }
}

fn report(what: &str, before: (u64, u64), after: (u64, u64), messages: usize) {
    let per_message = |nanos: u64| nanos as f64 / 1000.0 / messages as f64;
    let (engine, worker) = (per_message(after.0 - before.0), per_message(after.1 - before.1));
    println!(
        "{what}: {:.2} µs of CPU a message (engine {engine:.2}, worker {worker:.2})",
        engine + worker
    );
}

async fn sequential(link: &Arc<Link>) -> Result<(), String> {
    let mut stream = open(link)?;
    for _ in 0..1000 {
        round_trip(&mut stream).await?;
    }
    let before = both(link);
    let mut times = Vec::with_capacity(ROUND_TRIPS);
    for _ in 0..ROUND_TRIPS {
        let began = Instant::now();
        round_trip(&mut stream).await?;
        times.push(began.elapsed());
    }
    let after = both(link);
    times.sort_unstable();
    let at = |per_mille: usize| times[times.len() * per_mille / 1000];
    println!(
        "worker link, round trip: p50 {:?}, p99 {:?}, p99.9 {:?}",
        at(500),
        at(990),
        at(999)
    );
    report("worker link, one at a time", before, after, ROUND_TRIPS * 2);
    Ok(())
}

async fn paced(link: &Arc<Link>) -> Result<(), String> {
    let mut streams = (0..STREAMS).map(|_| open(link)).collect::<Result<Vec<_>, _>>()?;
    let before = both(link);
    let mut ticks = tokio::time::interval(PACE);
    for _ in 0..FRAMES {
        ticks.tick().await;
        for stream in &mut streams {
            stream.send_audio(&FRAME);
        }
        for stream in &mut streams {
            poll_fn(|context| stream.poll_event(context)).await;
        }
    }
    let name = format!("worker link, {STREAMS} streams of {} frames/s", 1000 / PACE.as_millis());
    report(&name, before, both(link), STREAMS * FRAMES * 2);
    Ok(())
}

async fn run() -> Result<(), String> {
    let mut folders = worker_folders();
    folders.extend(folders.clone().iter().map(|folder| folder.join("examples")));
    let program = find_worker("fake", &folders).map_err(|missing| missing.to_string())?;
    let mut specification = Specification::new("fake", program, Job::Stt, "fake");
    specification
        .options
        .insert("lanes".into(), serde_json::json!(STREAMS + 1));
    let worker = Worker::start(specification, || Generation::new(1));
    let link = worker.ready().await?;
    sequential(&link).await?;
    paced(&link).await?;
    worker.stop().await;
    Ok(())
}

fn main() -> ExitCode {
    // `cargo test --benches` only asks whether it builds.
    if std::env::args().any(|argument| argument == "--test") {
        return ExitCode::SUCCESS;
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("no runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    // As a task, as sessions are; `block_on` itself would be one more thread to change to.
    match runtime
        .block_on(runtime.spawn(run()))
        .unwrap_or_else(|error| Err(error.to_string()))
    {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("worker link: {problem}");
            ExitCode::FAILURE
        }
    }
}
