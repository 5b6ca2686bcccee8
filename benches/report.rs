//! What a session costs and how long it waits: one report of what was really measured on this machine.
//!
//! ```text
//! make bench                                        # the criterion benches, then this
//! cargo bench --bench report -- --quick             # a smoke run of seconds
//! cargo bench --bench report -- --json report.json --markdown report.md
//! cargo bench --bench report -- --only latency,cost,rhythm,barge-in,default,parts
//! ```
//!
//! Server and load are processes of their own, so that the system keeps their accounts apart; they share the machine's
//! cores, and the report says how much of them the load took. `docs/performance.md` says how to read it.

mod support;

use std::env;
use std::fs;
use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use self::support::criterion::Estimate;
use self::support::distribution::Distribution;
use self::support::process::machine;
use self::support::scenario::{Measurement, Scenario, measure, measure_default};
use self::support::script::Plan;
use self::support::server::{self, Detector};
use self::support::sound::{Voice, speech_folder};
use self::support::table::Table;
use self::support::{Outcome, criterion, load, role};

/// The mix of a call: two seconds of every five the caller speaks.
const MIX: Plan = Plan::Mix {
    talk: 100,
    silence: 150,
};

/// What the command line asks for.
#[derive(Debug, Default)]
struct Arguments {
    quick: bool,
    json: Option<PathBuf>,
    markdown: Option<PathBuf>,
    only: Vec<String>,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let result = match arguments.as_slice() {
        [role, part, options] if role == role::ROLE => play(part, options),
        _ => read(&arguments).and_then(|arguments| report(&arguments)),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("report: {error}");
            ExitCode::FAILURE
        }
    }
}

fn play(part: &str, options: &str) -> Outcome<()> {
    match part {
        "server" => server::run(&serde_json::from_str(options)?),
        "load" => load::run(serde_json::from_str(options)?),
        "spin" => role::spin(),
        _ => Err(format!("there is no part {part:?}").into()),
    }
}

fn read(arguments: &[String]) -> Outcome<Arguments> {
    let mut read = Arguments {
        // cargo says `--bench` when it benches, and nothing when it tests: then this shall not take minutes.
        quick: !arguments.iter().any(|argument| argument == "--bench"),
        ..Arguments::default()
    };
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let mut value = || rest.next().cloned().ok_or_else(|| format!("{argument} wants a value"));
        match argument.as_str() {
            "--bench" | "--test" => {}
            "--quick" => read.quick = true,
            "--json" => read.json = Some(value()?.into()),
            "--markdown" => read.markdown = Some(value()?.into()),
            "--only" => read.only = value()?.split(',').map(str::to_owned).collect(),
            other => {
                return Err(format!("{other} is unknown: --quick, --json FILE, --markdown FILE, --only PARTS").into());
            }
        }
    }
    Ok(read)
}

/// Everything that was measured, for `--json`.
#[derive(Default, Serialize)]
struct Results {
    cores: usize,
    memory_gib: f64,
    quick: bool,
    latency: Vec<Measurement>,
    cost: Vec<Measurement>,
    rhythm: Vec<Measurement>,
    barge_in: Vec<Measurement>,
    embedded: Vec<Measurement>,
    parts: Vec<Estimate>,
    /// What the bench of the worker link said.
    worker_link: Vec<String>,
    /// What was left out, and why.
    skipped: Vec<String>,
}

fn report(arguments: &Arguments) -> Outcome<()> {
    let (cores, memory_gib) = machine();
    let mut results = Results {
        cores,
        memory_gib,
        quick: arguments.quick,
        ..Results::default()
    };
    println!(
        "{cores} cores, {memory_gib:.0} GiB of memory; the load runs on the same cores{}",
        if arguments.quick {
            "; quick: a smoke run, no measurement"
        } else {
            ""
        }
    );
    let wanted = |part: &str| arguments.only.is_empty() || arguments.only.iter().any(|only| only == part);
    let mut work = Work::default();
    if wanted("latency") {
        work.latency(arguments.quick);
    }
    if wanted("cost") {
        work.cost(arguments.quick, &mut results.skipped);
    }
    if wanted("rhythm") {
        work.rhythm(arguments.quick);
    }
    if wanted("barge-in") {
        work.barge_in(arguments.quick, &mut results.skipped);
    }
    if wanted("default") && !arguments.quick {
        work.embedded(&mut results.skipped);
    }
    work.run(&mut results)?;
    if wanted("parts") {
        results.parts = criterion::estimates(&target_folder().join("criterion"));
        if results.parts.is_empty() {
            results
                .skipped
                .push("costs of the parts: no criterion bench was run before".to_owned());
        }
        let said = fs::read_to_string(target_folder().join("worker-link.txt")).unwrap_or_default();
        let lines = said.lines().filter(|line| line.starts_with("worker link"));
        results.worker_link = lines.map(str::to_owned).collect();
    }
    let tables = tables(&results);
    for table in &tables {
        print!("{}", table.text());
    }
    for skipped in &results.skipped {
        println!("\nskipped: {skipped}");
    }
    if let Some(path) = &arguments.json {
        fs::write(path, serde_json::to_vec_pretty(&results)?)?;
    }
    if let Some(path) = &arguments.markdown {
        fs::write(path, tables.iter().map(Table::markdown).collect::<String>())?;
    }
    let errors: u64 = results.all().flat_map(|one| one.loaded.errors.values()).sum();
    if errors > 0 {
        let what: Vec<_> = results.all().flat_map(|one| one.loaded.errors.keys()).collect();
        return Err(format!("{errors} errors were told to clients: {what:?}").into());
    }
    Ok(())
}

impl Results {
    fn all(&self) -> impl Iterator<Item = &Measurement> {
        [&self.latency, &self.cost, &self.rhythm, &self.barge_in, &self.embedded]
            .into_iter()
            .flatten()
    }
}

/// `target`, wherever it is: this program lies in `target/PROFILE/deps`.
fn target_folder() -> PathBuf {
    let program = env::current_exe().unwrap_or_default();
    program.ancestors().nth(3).map(PathBuf::from).unwrap_or_default()
}

#[derive(Clone, Copy)]
enum Part {
    Latency,
    Cost,
    Rhythm,
    BargeIn,
    Embedded,
}

/// What is to be measured, in its order.
#[derive(Default)]
struct Work {
    scenarios: Vec<(Part, String, Scenario)>,
    workers: PathBuf,
}

impl Work {
    fn add(&mut self, part: Part, name: &str, scenario: Scenario) {
        self.scenarios.push((part, name.to_owned(), scenario));
    }

    /// Times between stages, end of speech to reply, cost and rhythm come out of the same calls.
    fn latency(&mut self, quick: bool) {
        let sizes: &[usize] = if quick { &[4] } else { &[1, 10, 100, 500] };
        for &sessions in sizes {
            let scenario = Scenario {
                sessions,
                warm_up: if quick { 0.5 } else { SCRIPTED.warm_up },
                seconds: if quick { 4.0 } else { 30.0 },
                ..SCRIPTED
            };
            self.add(Part::Latency, &format!("{sessions} calls"), scenario);
        }
    }

    fn cost(&mut self, quick: bool, skipped: &mut Vec<String>) {
        if quick {
            return;
        }
        let idle = Scenario {
            sessions: 100,
            plan: Plan::Listen,
            seconds: 15.0,
            warm_up: 2.0,
            ..SCRIPTED
        };
        self.add(Part::Cost, "100 silent calls", idle);
        if speech_folder().is_none() {
            skipped
                .push("cost with real detectors: they need recordings (REPARTEE_SPEECH names the folder)".to_owned());
            return;
        }
        let mut detectors = vec![Detector::Webrtc];
        match server::silero(repartee::id::Generation::new(1)) {
            Ok(_) => detectors.push(Detector::Silero),
            Err(error) => skipped.push(format!("cost with Silero: {error}")),
        }
        for detector in detectors {
            for plan in [MIX, Plan::Listen] {
                let scenario = Scenario {
                    sessions: 100,
                    detector,
                    plan,
                    voice: Voice::Recordings,
                    seconds: if plan == MIX { 30.0 } else { 10.0 },
                    ..SCRIPTED
                };
                self.add(Part::Cost, &format!("100 calls, {}", detector.name()), scenario);
            }
        }
    }

    fn rhythm(&mut self, quick: bool) {
        let sizes: &[usize] = if quick { &[2] } else { &[1, 10, 100] };
        for &sessions in sizes {
            let scenario = Scenario {
                sessions,
                warm_up: if quick { 0.5 } else { SCRIPTED.warm_up },
                seconds: if quick { 3.0 } else { 15.0 },
                busy: true,
                ..SCRIPTED
            };
            self.add(Part::Rhythm, &format!("{sessions} calls, every core busy"), scenario);
        }
    }

    fn barge_in(&mut self, quick: bool, skipped: &mut Vec<String>) {
        let scenario = Scenario {
            sessions: if quick { 2 } else { 10 },
            plan: Plan::BargeIn { after: 40 },
            reply_ms: 6_000,
            warm_up: if quick { 0.0 } else { SCRIPTED.warm_up },
            seconds: if quick { 5.0 } else { 20.0 },
            ..SCRIPTED
        };
        self.add(Part::BargeIn, "speaking into replies", scenario);
        if quick {
            return;
        }
        if speech_folder().is_some() && server::silero(repartee::id::Generation::new(1)).is_ok() {
            let scenario = Scenario {
                detector: Detector::Silero,
                voice: Voice::Recordings,
                seconds: 30.0,
                ..scenario
            };
            self.add(Part::BargeIn, "speaking into replies, Silero", scenario);
        } else {
            skipped.push("barge-in with Silero: it needs recordings and `make setup`".to_owned());
        }
    }

    fn embedded(&mut self, skipped: &mut Vec<String>) {
        let workers = env::var_os("REPARTEE_WORKERS").map_or_else(|| target_folder().join("release"), PathBuf::from);
        let worker = workers.join("repartee-worker-pocketsphinx");
        if !worker.is_file() || speech_folder().is_none() {
            skipped.push(format!(
                "the embedded default: it needs {} (`make build`) and recordings (REPARTEE_SPEECH)",
                worker.display()
            ));
            return;
        }
        self.workers = workers;
        for sessions in [1, 2] {
            let scenario = Scenario {
                sessions,
                plan: Plan::Turns,
                voice: Voice::Recordings,
                seconds: 60.0,
                ..SCRIPTED
            };
            self.add(Part::Embedded, &format!("{sessions} calls, embedded default"), scenario);
        }
    }

    fn run(&self, results: &mut Results) -> Outcome<()> {
        let total: f64 = self.scenarios.iter().map(|(_, _, scenario)| scenario.length()).sum();
        let bar = ProgressBar::new(total.ceil() as u64);
        if !std::io::stderr().is_terminal() {
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        bar.set_style(ProgressStyle::with_template("{bar:30} {pos:>3}/{len} s  {msg}")?);
        let mut done = 0.0;
        for (part, name, scenario) in &self.scenarios {
            bar.set_message(name.clone());
            let measured = with_progress(&bar, done, scenario.length(), || match part {
                Part::Embedded => measure_default(scenario, &self.workers),
                _ => measure(scenario),
            });
            let measured = measured.map_err(|error| format!("{name}: {error}"))?;
            done += scenario.length();
            match part {
                Part::Latency => results.latency.push(measured),
                Part::Cost => results.cost.push(measured),
                Part::Rhythm => results.rhythm.push(measured),
                Part::BargeIn => results.barge_in.push(measured),
                Part::Embedded => results.embedded.push(measured),
            }
        }
        bar.finish_and_clear();
        Ok(())
    }
}

/// A call with scripted backends that answer at once.
const SCRIPTED: Scenario = Scenario {
    sessions: 1,
    detector: Detector::Scripted,
    plan: MIX,
    voice: Voice::Buzz,
    reply_ms: 2_000,
    warm_up: 5.0,
    seconds: 30.0,
    busy: false,
};

/// Moves the bar on, second by second, while `work` is done.
fn with_progress<T>(bar: &ProgressBar, done: f64, length: f64, work: impl FnOnce() -> T) -> T {
    let (over, waiting) = std::sync::mpsc::sync_channel::<()>(0);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut seconds = 0.0;
            while waiting.recv_timeout(Duration::from_secs(1)) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                seconds += 1.0;
                bar.set_position((done + f64::min(seconds, length)) as u64);
            }
        });
        let result = work();
        drop(over);
        result
    })
}

fn tables(results: &Results) -> Vec<Table> {
    let mut tables = Vec::new();
    if !results.latency.is_empty() {
        tables.extend([stages(results), replies(results)]);
    }
    tables.extend([costs(results), rhythm(results)]);
    if !results.barge_in.is_empty() {
        tables.push(barge_in(results));
    }
    if !results.embedded.is_empty() {
        tables.push(embedded(results));
    }
    if !results.parts.is_empty() {
        tables.push(parts(results));
    }
    tables.push(targets(results));
    tables.retain(|table| !table.rows.is_empty());
    tables
}

/// The stages between which the engine adds time, without the one whose length is configured.
const ADDED: [&str; 5] = [
    "stt_final",
    "llm_first_token",
    "first_sentence",
    "tts_first_audio",
    "send",
];

fn stages(results: &Results) -> Table {
    let mut table = Table::new(
        "Added between stages, ms, p50 / p99",
        "scripted backends that answer at once; out of the turn reports, which the client gets",
        &[
            "calls",
            "turns",
            "stt_final",
            "llm_first_token",
            "first_sentence",
            "tts_first_audio",
            "send",
        ],
    );
    for one in &results.latency {
        let stage = |name: &str| one.loaded.stages.get(name).copied().unwrap_or_default();
        let mut cells = vec![one.sessions.to_string(), stage("send").count.to_string()];
        cells.extend(ADDED.iter().map(|name| stage(name).show()));
        table.row(cells);
    }
    table
}

/// A distribution less what was configured.
fn beyond(distribution: Distribution, configured: f64) -> Distribution {
    let less = |value: f64| value - configured;
    Distribution {
        count: distribution.count,
        mean: less(distribution.mean),
        p50: less(distribution.p50),
        p90: less(distribution.p90),
        p99: less(distribution.p99),
        max: less(distribution.max),
    }
}

fn replies(results: &Results) -> Table {
    let mut table = Table::new(
        "End of speech to first reply audio beyond the configured silence, ms, p50 / p99",
        "at the client: from the last message of speech sent to the first frame of the reply received",
        &["calls", "replies", "configured", "beyond it", "the load was late by"],
    );
    for one in &results.latency {
        table.row(vec![
            one.sessions.to_string(),
            one.loaded.reply_after.count.to_string(),
            format!("{:.0}", one.loaded.silence_ms),
            beyond(one.loaded.reply_after, one.loaded.silence_ms).show(),
            one.loaded.own_lateness.show(),
        ]);
    }
    table
}

fn costs(results: &Results) -> Table {
    let mut table = Table::new(
        "Cost of a call",
        "the caller speaks 40 % of the time and is answered; PCM at 16 kHz both ways; load and others in cores",
        &["calls", "detector", "% of a core each", "KiB each", "load", "others"],
    );
    for one in results.latency.iter().chain(&results.cost) {
        let silent = if one.loaded.replies == 0 { ", silent calls" } else { "" };
        table.row(vec![
            one.sessions.to_string(),
            format!("{}{silent}", one.detector),
            format!("{:.3}", one.percent_per_session()),
            format!("{:.0}", one.kilobytes_per_session()),
            format!("{:.2}", one.load),
            format!("{:.2}", one.others),
        ]);
    }
    table
}

fn rhythm(results: &Results) -> Table {
    let mut table = Table::new(
        "Lateness of reply frames at the client, ms",
        "against multiples of 20 ms from the reply's most punctual frame; busy: as many threads as cores spin at nice 10",
        &[
            "calls",
            "beside it",
            "frames",
            "p50",
            "p90",
            "p99",
            "max",
            "the load was late by",
        ],
    );
    let embedded = results.embedded.iter().map(|one| ("a real recogniser", one));
    let fakes = results.latency.iter().map(|one| ("nothing", one));
    for (beside, one) in fakes
        .chain(results.rhythm.iter().map(|one| ("busy cores", one)))
        .chain(embedded)
    {
        let late = one.loaded.lateness;
        table.row(vec![
            one.sessions.to_string(),
            beside.to_owned(),
            late.count.to_string(),
            format!("{:.2}", late.p50),
            format!("{:.2}", late.p90),
            format!("{:.2}", late.p99),
            format!("{:.2}", late.max),
            one.loaded.own_lateness.show(),
        ]);
    }
    table
}

fn barge_in(results: &Results) -> Table {
    let mut table = Table::new(
        "Speaking into a reply, ms from the first message of speech, p50 / p99",
        "at the client; a reply is ducked at the onset and stopped once the interruption is confirmed (200 ms by default)",
        &["detector", "interruptions", "first quieter frame", "last frame"],
    );
    for one in &results.barge_in {
        table.row(vec![
            one.detector.clone(),
            one.loaded.stopped_after.count.to_string(),
            one.loaded.ducked_after.show(),
            one.loaded.stopped_after.show(),
        ]);
    }
    table
}

fn embedded(results: &Results) -> Table {
    let mut table = Table::new(
        "The embedded default, ms, p50 / p99",
        "pocketsphinx, parrot and flite as `repartee serve` starts them; recordings of one speaker after another",
        &[
            "calls",
            "turns",
            "first partial",
            "final",
            "first reply audio",
            "tts_first_audio",
            "% of a core",
        ],
    );
    for one in &results.embedded {
        let stage = |name: &str| one.loaded.stages.get(name).copied().unwrap_or_default();
        table.row(vec![
            one.sessions.to_string(),
            one.loaded.reply_after.count.to_string(),
            one.loaded.partial_after.show(),
            one.loaded.final_after.show(),
            one.loaded.reply_after.show(),
            stage("tts_first_audio").show(),
            format!("{:.2}", one.percent_per_session()),
        ]);
    }
    table
}

fn parts(results: &Results) -> Table {
    let mut table = Table::new(
        "Costs of the parts",
        "medians of the criterion benches",
        &["part", "µs"],
    );
    for line in &results.worker_link {
        let (name, said) = line.rsplit_once(": ").unwrap_or((line, ""));
        table.row(vec![name.to_owned(), said.to_owned()]);
    }
    for part in &results.parts {
        table.row(vec![part.name.clone(), format!("{:.2}", part.nanos / 1e3)]);
    }
    table
}

fn targets(results: &Results) -> Table {
    let mut table = Table::new("Goals (DESIGN §6)", "", &["goal", "measured", "reached"]);
    let mut goal = |goal: &str, measured: String, reached: bool| {
        let reached = if reached { "yes" } else { "no" };
        table.row(vec![goal.to_owned(), measured, reached.to_owned()]);
    };
    if let Some(hundred) = results.latency.iter().find(|one| one.sessions == 100) {
        let stages = ADDED.iter().filter_map(|name| hundred.loaded.stages.get(*name));
        let worst = stages.fold((0.0, 0.0), |worst: (f64, f64), stage| {
            (worst.0.max(stage.p50), worst.1.max(stage.p99))
        });
        goal(
            "each stage adds under 1 ms at p50, 5 ms at p99, 100 calls",
            format!("{:.2} / {:.2} ms", worst.0, worst.1),
            worst.0 < 1.0 && worst.1 < 5.0,
        );
        let kilobytes = hundred.kilobytes_per_session();
        goal(
            "under 0.5 MB a session",
            format!("{kilobytes:.0} KiB"),
            kilobytes < 488.0,
        );
    }
    if let Some(ten) = results.latency.iter().find(|one| one.sessions == 10) {
        let added = beyond(ten.loaded.reply_after, ten.loaded.silence_ms);
        goal(
            "reply at most 10 ms beyond the configured silence, 10 calls",
            format!("{} ms", added.show()),
            added.p99.max(if added.count < 100 { added.max } else { 0.0 }) <= 10.0,
        );
    }
    let silero = |one: &&Measurement| one.detector == Detector::Silero.name() && one.loaded.replies > 0;
    if let Some(cost) = results.cost.iter().find(silero) {
        let percent = cost.percent_per_session();
        goal(
            "0.2 % of a core a session, VAD included",
            format!("{percent:.3} %"),
            percent <= 0.2,
        );
    }
    if let Some(busy) = results.rhythm.iter().find(|one| one.sessions == 10) {
        let late = busy.loaded.lateness.p99;
        goal(
            "frames within 5 ms at p99, cores busy, 10 calls",
            format!("{late:.2} ms"),
            late <= 5.0,
        );
    }
    for one in &results.barge_in {
        let (ducked, stopped) = (one.loaded.ducked_after, one.loaded.stopped_after);
        goal(
            &format!("ducked within 100 ms, decided within 260 ms, {}", one.detector),
            format!("{:.0} and {:.0} ms at p50", ducked.p50, stopped.p50),
            ducked.p50 <= 100.0 && stopped.p50 <= 260.0,
        );
    }
    table
}
