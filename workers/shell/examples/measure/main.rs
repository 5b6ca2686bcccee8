//! Measures a worker over its link, as the engine would use it: load, memory, latencies at the pace of speech, throughput, and the processor
//! time of its process. `make bench-workers` runs it for every worker that is built.
//!
//! Processor time is what the kernel accounts to the worker, its ended children included. It hardly depends on who else uses the
//! machine, unlike every wall clock figure.

mod arguments;
mod figures;
mod llm;
mod recording;
mod session;
mod stt;
mod tts;

use std::process::ExitCode;

use repartee_worker_shell::protocol::{Hello, Job, Ready};
use serde_json::json;

use crate::arguments::{Arguments, USAGE};
use crate::figures::{Spread, Table};
use crate::session::Session;

const MEBIBYTE: f64 = (1 << 20) as f64;

fn main() -> ExitCode {
    let arguments = match Arguments::parse(std::env::args().skip(1)) {
        Ok(Some(arguments)) => arguments,
        Ok(None) => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(problem) => {
            eprintln!("{problem}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match measure(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("{}: {problem}", arguments.model);
            ExitCode::FAILURE
        }
    }
}

fn measure(arguments: &Arguments) -> Result<(), String> {
    let mut loads = Vec::new();
    let mut warmups = Vec::new();
    // The others are stopped before the next one starts.
    let mut session = Session::start(arguments)?;
    for _ in 1..arguments.loads {
        loads.push(f64::from(session.ready.load_ms));
        warmups.push(f64::from(session.ready.warmup_ms));
        drop(session);
        session = Session::start(arguments)?;
    }
    loads.push(f64::from(session.ready.load_ms));
    warmups.push(f64::from(session.ready.warmup_ms));

    let capacity = session.ready.model.max_streams + session.ready.model.max_waiting;
    let (fits, too_many): (Vec<u32>, Vec<u32>) = arguments.streams.iter().partition(|streams| **streams <= capacity);
    if fits.is_empty() {
        return Err(format!("the worker takes at most {capacity} streams as it was loaded"));
    }
    let mut table = Table::new(&fits);
    table.once("load_ms", "load", Spread::of(&loads).milliseconds());
    table.once("warmup_ms", "warm-up", Spread::of(&warmups).milliseconds());
    table.once(
        "memory_mib",
        "memory after the load",
        mebibytes(session.ready.memory_bytes),
    );
    let notes = match arguments.job {
        Job::Stt => stt::measure(&mut session, arguments, &mut table)?,
        Job::Tts => tts::measure(&mut session, arguments, &mut table)?,
        Job::Llm => llm::measure(&mut session, arguments, &mut table)?,
        other => return Err(format!("{other:?} isn't measured here")),
    };
    table.once("memory_peak_mib", "most memory", mebibytes(session.peak_bytes()));

    if arguments.json {
        let report = json!({
            "worker": session.hello.name,
            "version": session.hello.version,
            "library": session.hello.library,
            "job": arguments.job,
            "model": arguments.model,
            "name": session.ready.model.name,
            "synthetic": session.ready.model.synthetic,
            "device": session.ready.device,
            "max_streams": session.ready.model.max_streams,
            "rounds": arguments.rounds,
            "loads": arguments.loads,
            "figures": table.json(),
        });
        println!("{report}");
        return Ok(());
    }
    println!("{}", table.markdown(&title(&session.hello, &session.ready, arguments)));
    for note in notes {
        println!("{note}");
    }
    if !too_many.is_empty() {
        let too_many: Vec<String> = too_many.iter().map(ToString::to_string).collect();
        println!(
            "Not measured with {} streams: as it was loaded it takes {capacity}.",
            too_many.join(", ")
        );
    }
    println!();
    Ok(())
}

fn mebibytes(bytes: u64) -> figures::Cell {
    figures::Cell::number(bytes as f64 / MEBIBYTE, 0, " MiB")
}

fn title(hello: &Hello, ready: &Ready, arguments: &Arguments) -> String {
    let synthetic = if ready.model.synthetic { ", synthetic" } else { "" };
    let device = match ready.device.as_str() {
        "" | "cpu" => String::new(),
        device => format!(", on {device}"),
    };
    let options: Vec<String> = arguments
        .options
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let options = if options.is_empty() {
        String::new()
    } else {
        format!(", {}", options.join(" "))
    };
    let name = &ready.model.name;
    let named = if *name == arguments.model || name.is_empty() {
        String::new()
    } else {
        format!(" ({name})")
    };
    format!(
        "{} ({}): `{}`{named}{synthetic}{device}{options}",
        hello.name, hello.library, arguments.model
    )
}
