//! The command line.

use std::path::PathBuf;

use repartee_worker_shell::protocol::Job;
use serde_json::Value;

pub(crate) const USAGE: &str = "\
Measures a worker over its link, and prints a Markdown table.

usage: measure --worker PATH --job stt|tts|llm --model MODEL [OPTION…]

  --models DIR        the models root
  --option NAME=VALUE an option of the load, any number of them; VALUE is JSON, or a text
  --streams 1,2,4,8   numbers of streams at once
  --rounds N          how often each is measured; medians are told (default 3)
  --loads N           how often the model is loaded (default 3)
  --audio FILE.wav    what a recogniser hears, any number of them: 16 bit, one channel, at its rate
                      (default: recordings of 2 to 6 s out of REPARTEE_SPEECH or ../shared/speech, else tones)
  --seconds N         recordings are repeated until they are so long (default: as they are)
  --pace realtime|flood|both
                      audio comes as it is spoken (latencies), or as fast as the worker gives credit for it (throughput)
  --packet-ms N       how much audio comes at once at the pace of speech (default 20, as the engine sends it)
  --spread-ms N       streams begin evenly spread over this time at the pace of speech (default 320)
  --tokens N          how long a completion is (default 64)
  --json              one line of JSON instead of the table";

/// What is sent to a recogniser, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    RealTime,
    Flood,
}

#[derive(Debug)]
pub(crate) struct Arguments {
    pub(crate) worker: PathBuf,
    pub(crate) job: Job,
    pub(crate) model: String,
    pub(crate) models: Option<PathBuf>,
    pub(crate) options: Vec<(String, Value)>,
    pub(crate) streams: Vec<u32>,
    pub(crate) rounds: u32,
    pub(crate) loads: u32,
    pub(crate) audio: Vec<PathBuf>,
    pub(crate) seconds: u32,
    pub(crate) paces: Vec<Pace>,
    pub(crate) packet_ms: u32,
    pub(crate) spread_ms: u32,
    pub(crate) tokens: u32,
    pub(crate) json: bool,
}

impl Arguments {
    /// Reads the command line; `None` where help is wanted.
    pub(crate) fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Option<Self>, String> {
        let mut worker = None;
        let mut job = None;
        let mut model = None;
        let mut parsed = Self {
            worker: PathBuf::new(),
            job: Job::Stt,
            model: String::new(),
            models: None,
            options: Vec::new(),
            streams: vec![1, 2, 4, 8],
            rounds: 3,
            loads: 3,
            audio: Vec::new(),
            seconds: 0,
            paces: vec![Pace::RealTime, Pace::Flood],
            packet_ms: 20,
            spread_ms: 320,
            tokens: 64,
            json: false,
        };
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| format!("{argument} needs a value"));
            match argument.as_str() {
                "--help" | "-h" => return Ok(None),
                "--json" => parsed.json = true,
                "--worker" => worker = Some(PathBuf::from(value()?)),
                "--model" => model = Some(value()?),
                "--models" => parsed.models = Some(PathBuf::from(value()?)),
                "--audio" => parsed.audio.push(PathBuf::from(value()?)),
                "--job" => {
                    job = Some(match value()?.as_str() {
                        "stt" => Job::Stt,
                        "tts" => Job::Tts,
                        "llm" => Job::Llm,
                        other => return Err(format!("--job is stt, tts or llm, not {other:?}")),
                    });
                }
                "--pace" => {
                    parsed.paces = match value()?.as_str() {
                        "realtime" => vec![Pace::RealTime],
                        "flood" => vec![Pace::Flood],
                        "both" => vec![Pace::RealTime, Pace::Flood],
                        other => return Err(format!("--pace is realtime, flood or both, not {other:?}")),
                    };
                }
                "--option" => {
                    let option = value()?;
                    let (name, text) = option
                        .split_once('=')
                        .ok_or_else(|| format!("--option is NAME=VALUE, not {option:?}"))?;
                    let value = serde_json::from_str(text).unwrap_or_else(|_| Value::from(text));
                    parsed.options.push((name.to_owned(), value));
                }
                "--streams" => {
                    parsed.streams = value()?
                        .split(',')
                        .map(|number| whole(number, "--streams", 1))
                        .collect::<Result<_, _>>()?;
                }
                "--rounds" => parsed.rounds = whole(&value()?, "--rounds", 1)?,
                "--loads" => parsed.loads = whole(&value()?, "--loads", 1)?,
                "--seconds" => parsed.seconds = whole(&value()?, "--seconds", 0)?,
                "--packet-ms" => parsed.packet_ms = whole(&value()?, "--packet-ms", 1)?,
                "--spread-ms" => parsed.spread_ms = whole(&value()?, "--spread-ms", 0)?,
                "--tokens" => parsed.tokens = whole(&value()?, "--tokens", 2)?,
                _ => return Err(format!("unknown argument {argument:?}")),
            }
        }
        parsed.worker = worker.ok_or("--worker is missing")?;
        parsed.job = job.ok_or("--job is missing")?;
        parsed.model = model.ok_or("--model is missing")?;
        Ok(Some(parsed))
    }
}

/// A number of at least `least`, and not so large that nothing here could mean it.
fn whole(text: &str, name: &str, least: u32) -> Result<u32, String> {
    /// An hour in seconds; more streams, rounds or milliseconds are meant by nobody.
    const MOST: u32 = 3600;
    text.trim()
        .parse()
        .ok()
        .filter(|number| (least..=MOST).contains(number))
        .ok_or_else(|| format!("{name} takes numbers from {least} to {MOST}, not {text:?}"))
}
