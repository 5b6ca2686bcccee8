//! The load: callers of the native wire, each at the pace of real time, all on one thread of a process of their own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use repartee::cli::client::{self, ClientReceiver, ClientSender, Incoming};
use repartee_protocol::native::Hello;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, timeout};

use super::distribution::Distribution;
use super::script::{Caller, FRAME, Measured, Plan};
use super::sound::{Sounds, Voice};
use super::{Outcome, now, role};

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct LoadOptions {
    pub(crate) address: String,
    pub(crate) sessions: usize,
    pub(crate) plan: Plan,
    pub(crate) voice: Voice,
    /// Length of what is said, where it is no recording.
    pub(crate) talk_ms: u64,
    /// Seconds that pass before anything is measured, and seconds that are measured.
    pub(crate) warm_up: f64,
    pub(crate) seconds: f64,
}

/// What the load tells while it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Moment {
    Begin,
    End,
}

/// What all callers have measured, in milliseconds.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Loaded {
    pub(crate) sessions: usize,
    /// The silence that ends a turn, as the server has it.
    pub(crate) silence_ms: f64,
    pub(crate) replies: u64,
    pub(crate) stages: BTreeMap<String, Distribution>,
    pub(crate) reply_after: Distribution,
    pub(crate) partial_after: Distribution,
    pub(crate) final_after: Distribution,
    pub(crate) lateness: Distribution,
    pub(crate) ducked_after: Distribution,
    pub(crate) stopped_after: Distribution,
    pub(crate) own_lateness: Distribution,
    pub(crate) errors: BTreeMap<String, u64>,
}

/// How far the measurement is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    WarmUp,
    Measuring,
    Over,
}

/// Connections that are being opened at the same time.
const OPENING: usize = 8;

/// How long a server may take to open one.
const OPENING_TIMEOUT: Duration = Duration::from_secs(20);

pub(crate) fn run(options: LoadOptions) -> Outcome<()> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(load(options))
}

async fn load(options: LoadOptions) -> Outcome<()> {
    let sounds = Sounds::load(options.voice, options.talk_ms).ok_or("there are no recordings")?;
    let sounds = Arc::new(sounds);
    let (mut silence_ms, mut connections, mut opening) = (0.0, Vec::new(), JoinSet::new());
    let url = client::session_url(&options.address);
    for number in 0..options.sessions {
        if number >= OPENING {
            connections.extend(opening.join_next().await.transpose()?);
        }
        let url = url.clone();
        opening.spawn(async move { timeout(OPENING_TIMEOUT, client::open(&url, Hello::default())).await });
    }
    while let Some(connection) = opening.join_next().await {
        connections.push(connection?);
    }
    let (phase, phases) = watch::channel(Phase::WarmUp);
    let mut callers = JoinSet::new();
    let begin = Instant::from_std(now()) + Duration::from_millis(50);
    for (number, connection) in connections.into_iter().enumerate() {
        let (ready, sender, receiver) = connection??;
        silence_ms = f64::from(ready.settings.endpointing.silence_ms);
        // Callers are spread evenly over the 20 ms of a frame, and over a conversation: real ones don't speak in chorus.
        let share = number as f64 / options.sessions as f64;
        let phase = match options.plan {
            Plan::Mix { talk, silence } => (share * f64::from(talk + silence)) as u32,
            _ => (share * 200.0) as u32,
        };
        let first = begin + FRAME.mul_f64((number as f64 * 0.618_034).fract());
        let caller = Caller::new(options.plan, Arc::clone(&sounds), number, phase);
        callers.spawn(call(caller, sender, receiver, phases.clone(), first));
    }
    sleep(Duration::from_secs_f64(options.warm_up)).await;
    phase.send_replace(Phase::Measuring);
    role::say(&Moment::Begin)?;
    sleep(Duration::from_secs_f64(options.seconds)).await;
    role::say(&Moment::End)?;
    // Looking at the processes takes a while, and belongs to what is looked at.
    sleep(Duration::from_millis(100)).await;
    phase.send_replace(Phase::Over);
    let mut all = Vec::new();
    while let Some(measured) = callers.join_next().await {
        all.push(measured?);
    }
    role::say(&summary(&options, silence_ms, all))
}

async fn call(
    mut caller: Caller,
    mut sender: ClientSender,
    mut receiver: ClientReceiver,
    mut phases: watch::Receiver<Phase>,
    first: Instant,
) -> Measured {
    let mut ticks = interval_at(first, FRAME);
    // A microphone doesn't forget what it heard while nobody asked.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    loop {
        tokio::select! {
            biased;
            _ = phases.changed() => match *phases.borrow_and_update() {
                Phase::WarmUp => {}
                Phase::Measuring => caller.measured = Measured::default(),
                Phase::Over => return caller.measured,
            },
            incoming = receiver.next() => {
                let now = now();
                match incoming {
                    Some(Ok(Incoming::Audio(frame))) => caller.heard(now, &frame),
                    Some(Ok(Incoming::Event(event))) => caller.told(now, &event),
                    Some(Err(error)) => caller.measured.errors.push(error.to_string()),
                    None => {
                        caller.measured.errors.push("the server hung up".to_owned());
                        return caller.measured;
                    }
                }
            }
            due = ticks.tick() => {
                let (message, is_speech) = caller.next();
                if let Err(error) = sender.audio(message).await {
                    caller.measured.errors.push(error.to_string());
                    return caller.measured;
                }
                let now = now();
                caller.measured.own_lateness.push((Instant::from_std(now) - due).as_secs_f64() * 1e3);
                if is_speech {
                    caller.spoke(now);
                }
            }
        }
    }
}

fn summary(options: &LoadOptions, silence_ms: f64, all: Vec<Measured>) -> Loaded {
    let mut stages: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    let mut errors = BTreeMap::new();
    let mut replies = 0;
    for measured in &all {
        for (stage, took) in &measured.stages {
            stages.entry((*stage).to_owned()).or_default().push(*took);
        }
        for error in &measured.errors {
            *errors.entry(error.clone()).or_default() += 1;
        }
        replies += measured.replies;
    }
    let of = |part: fn(&Measured) -> &Vec<f64>| Distribution::of(all.iter().flat_map(part).copied().collect());
    Loaded {
        sessions: options.sessions,
        silence_ms,
        replies,
        reply_after: of(|measured| &measured.reply_after),
        partial_after: of(|measured| &measured.partial_after),
        final_after: of(|measured| &measured.final_after),
        lateness: of(|measured| &measured.lateness),
        ducked_after: of(|measured| &measured.ducked_after),
        stopped_after: of(|measured| &measured.stopped_after),
        own_lateness: of(|measured| &measured.own_lateness),
        stages: stages
            .into_iter()
            .map(|(stage, took)| (stage, Distribution::of(took)))
            .collect(),
        errors,
    }
}
