//! One measurement: a fresh server, a load, and looks at both.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde::Serialize;

use super::Outcome;
use super::load::{LoadOptions, Loaded, Moment};
use super::process::{Look, Spent};
use super::role::Player;
use super::script::Plan;
use super::server::{Detector, Listening, ServerOptions};
use super::sound::Voice;

/// What is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scenario {
    pub(crate) sessions: usize,
    pub(crate) detector: Detector,
    pub(crate) plan: Plan,
    pub(crate) voice: Voice,
    pub(crate) reply_ms: usize,
    pub(crate) warm_up: f64,
    pub(crate) seconds: f64,
    /// Every core is kept busy beside it, at nice 10.
    pub(crate) busy: bool,
}

impl Scenario {
    /// How long it takes, about.
    pub(crate) fn length(&self) -> f64 {
        self.warm_up + self.seconds + 1.0 + self.sessions as f64 * 0.004
    }
}

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Measurement {
    pub(crate) sessions: usize,
    pub(crate) detector: String,
    pub(crate) busy: bool,
    pub(crate) seconds: f64,
    pub(crate) loaded: Loaded,
    /// Share of a core by the server's threads, by name: `session-0` and its like drive sessions and their wires.
    pub(crate) server: std::collections::BTreeMap<String, f64>,
    /// Share of a core of the load generator, and of everybody else on the machine.
    pub(crate) load: f64,
    pub(crate) others: f64,
    /// Resident bytes of the server before there was a session, and at the end.
    pub(crate) resident_empty: f64,
    pub(crate) resident: f64,
}

impl Measurement {
    /// Share of a core that the server took.
    pub(crate) fn server_share(&self) -> f64 {
        self.server.values().sum()
    }

    /// The same for each session, in per cent of a core.
    pub(crate) fn percent_per_session(&self) -> f64 {
        self.server_share() * 100.0 / self.sessions as f64
    }

    pub(crate) fn kilobytes_per_session(&self) -> f64 {
        (self.resident - self.resident_empty) / 1024.0 / self.sessions as f64
    }
}

/// Runs `scenario` against a server of its own.
pub(crate) fn measure(scenario: &Scenario) -> Outcome<Measurement> {
    let mut server = Player::start(
        "server",
        &ServerOptions {
            sessions: scenario.sessions,
            detector: scenario.detector,
            reply_ms: scenario.reply_ms,
            audible: matches!(scenario.plan, Plan::BargeIn { .. }),
        },
    )?;
    let Listening { address } = server.hear()?;
    let _spinner = if scenario.busy {
        let mut spinner = Player::start("spin", &())?;
        let _: String = spinner.hear()?;
        Some(spinner)
    } else {
        None
    };
    let (loaded, spent, [before, after]) = put_load_on(scenario, server.id(), &address)?;
    Ok(measurement(
        scenario,
        scenario.detector.name(),
        loaded,
        spent,
        [before, after],
    ))
}

/// Runs `scenario` against `repartee serve` as it comes: with its own detector, recogniser, parrot and voice.
pub(crate) fn measure_default(scenario: &Scenario, workers: &Path) -> Outcome<Measurement> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_repartee"));
    command
        .args(["serve", "--listen", "127.0.0.1:0", "--set", "log.level=warn"])
        .env("REPARTEE_WORKERS", workers)
        .env("REPARTEE_MODE", "minimal");
    let mut server = Player::spawn(command)?;
    let address = loop {
        let line = server.line()?;
        if let Some((_, rest)) = line.split_once("http://") {
            let end = rest.find(|letter: char| letter != '.' && letter != ':' && !letter.is_ascii_digit());
            break rest[..end.unwrap_or(rest.len())].to_owned();
        }
    };
    while !server.line()?.starts_with("ready") {}
    let (loaded, spent, looks) = put_load_on(scenario, server.id(), &address)?;
    Ok(measurement(scenario, "default", loaded, spent, looks))
}

/// A few callers that say nothing for a moment.
fn pilot(address: &str) -> LoadOptions {
    LoadOptions {
        address: address.to_owned(),
        sessions: 4,
        plan: Plan::Listen,
        voice: Voice::Buzz,
        talk_ms: 20,
        warm_up: 0.2,
        seconds: 0.2,
    }
}

fn put_load_on(scenario: &Scenario, server: u32, address: &str) -> Outcome<(Loaded, Spent, [f64; 2])> {
    // What the first session of each thread brings with it (a detector's model, buffers that are kept) is no cost of the
    // others: some sessions come and go before the memory of none is looked at.
    let mut pilot = Player::start("load", &pilot(address))?;
    let _: (Moment, Moment, Loaded) = (pilot.hear()?, pilot.hear()?, pilot.hear()?);
    drop(pilot);
    std::thread::park_timeout(Duration::from_millis(200));
    let empty = Look::at(&[server]).resident(0);
    let talk_ms = match scenario.plan {
        Plan::Mix { talk, .. } => u64::from(talk) * 20,
        _ => 1_200,
    };
    let mut load = Player::start(
        "load",
        &LoadOptions {
            address: address.to_owned(),
            sessions: scenario.sessions,
            plan: scenario.plan,
            voice: scenario.voice,
            talk_ms,
            warm_up: scenario.warm_up,
            seconds: scenario.seconds,
        },
    )?;
    let processes = [server, load.id()];
    let mut looks = Vec::new();
    for moment in [Moment::Begin, Moment::End] {
        let told: Moment = load.hear()?;
        if told != moment {
            return Err("the load said its lines in the wrong order".into());
        }
        looks.push(Look::at(&processes));
    }
    let loaded = load.hear()?;
    let spent = looks[1].since(&looks[0]);
    Ok((loaded, spent, [empty, looks[1].resident(0)]))
}

fn measurement(scenario: &Scenario, detector: &str, loaded: Loaded, spent: Spent, looks: [f64; 2]) -> Measurement {
    Measurement {
        sessions: scenario.sessions,
        detector: detector.to_owned(),
        busy: scenario.busy,
        seconds: spent.seconds,
        load: spent.share(1),
        others: spent.others,
        server: spent.processes.into_iter().next().unwrap_or_default(),
        loaded,
        resident_empty: looks[0],
        resident: looks[1],
    }
}
