//! `repartee workers`: which worker programs there are, and what each can do on this machine.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use futures_util::future::join_all;
use repartee_protocol::worker::{Device, Hello, Job};
use serde::Serialize;

use super::serve::models::{folders, models_root};
use super::{Failure, config};
use crate::config::Config;
use crate::supervisor::{InstalledWorker, KNOWN_WORKERS, Probe, ProbedModel, installed_workers, probe};

/// How long a worker may take to tell what it can do. It loads no model, but a graphics driver may take seconds to wake.
const PATIENCE: Duration = Duration::from_secs(10);

/// Bytes of a gibibyte, in which memory is told.
const GIB: f64 = 1_073_741_824.0;

/// Arguments of `repartee workers`.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    repartee workers\n  \
    repartee workers --json | jq '.workers[].hello.devices'\n\n\
    Exit status 0: at least one worker answers. 1: none does.\n")]
pub(super) struct WorkersArguments {
    /// One JSON object instead of text.
    #[arg(long)]
    json: bool,
    /// Flags as for `serve`: workers.dir and paths.models tell where to look.
    #[command(flatten)]
    options: Box<config::Options>,
}

/// Everything that is known of the workers of this machine.
#[derive(Serialize)]
struct Report {
    /// Where they were looked for.
    folders: Vec<PathBuf>,
    /// The models root that they were asked with.
    models: Option<PathBuf>,
    /// By name.
    workers: Vec<Answer>,
    /// What could be built.
    not_built: Vec<NotBuilt>,
}

/// What one program said.
#[derive(Serialize)]
struct Answer {
    name: String,
    program: PathBuf,
    #[serde(skip_serializing_if = "Option::is_none")]
    hello: Option<Hello>,
    models: Vec<ProbedModel>,
    /// Why it can't be used.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

/// A worker of the tree that isn't built.
#[derive(Serialize)]
struct NotBuilt {
    name: &'static str,
    jobs: &'static [Job],
    /// What builds it.
    remedy: String,
}

/// Runs the command.
pub(super) fn run(arguments: &WorkersArguments) -> Result<ExitCode, Failure> {
    let loaded = Config::load(&arguments.options.sources())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let report = runtime.block_on(ask(&loaded.config));
    let mut out = io::stdout().lock();
    // What can't be written (a reader that went away) is left unwritten.
    let _ = if arguments.json {
        let text = serde_json::to_string_pretty(&report)?;
        writeln!(out, "{text}")
    } else {
        print(&report, &mut out)
    };
    Ok(match report.workers.iter().any(|worker| worker.problem.is_none()) {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

/// Asks all workers at once.
async fn ask(config: &Config) -> Report {
    let folders = folders(config);
    let models = models_root(config);
    let installed = installed_workers(&folders);
    let asked = installed.into_iter().map(async |InstalledWorker { name, program }| {
        match probe(&program, models.as_deref(), PATIENCE).await {
            Ok(Probe { hello, models }) => Answer {
                name,
                program,
                hello: Some(hello),
                models,
                problem: None,
            },
            Err(error) => Answer {
                name,
                program,
                hello: None,
                models: Vec::new(),
                problem: Some(error.to_string()),
            },
        }
    });
    let workers = join_all(asked).await;
    let not_built = KNOWN_WORKERS
        .iter()
        .filter(|known| !workers.iter().any(|worker| worker.name == known.name))
        .map(|known| NotBuilt {
            name: known.name,
            jobs: known.jobs,
            remedy: format!("make worker-{}", known.name),
        })
        .collect();
    Report {
        folders,
        models,
        workers,
        not_built,
    }
}

fn print(report: &Report, out: &mut impl Write) -> io::Result<()> {
    for worker in &report.workers {
        let Some(hello) = &worker.hello else {
            let problem = worker.problem.as_deref().unwrap_or("it says nothing");
            writeln!(out, "{}: can't be used: {problem}", worker.name)?;
            writeln!(out, "  program   {}", worker.program.display())?;
            continue;
        };
        writeln!(out, "{} {} ({})", worker.name, hello.version, hello.library)?;
        writeln!(out, "  program   {}", worker.program.display())?;
        let rows = [
            ("jobs", joined(hello.jobs.iter().map(|job| word(*job).to_owned()))),
            ("formats", hello.formats.join(", ")),
            ("devices", joined(hello.devices.iter().map(device))),
            ("features", hello.features.join(", ")),
        ];
        for (name, row) in rows.iter().filter(|(_, row)| !row.is_empty()) {
            writeln!(out, "  {name:<9} {row}")?;
        }
        for (index, model) in worker.models.iter().enumerate() {
            let label = if index == 0 { "models" } else { "" };
            write!(out, "  {label:<9} {}", model.id)?;
            if !model.description.is_empty() {
                write!(out, ": {}", model.description)?;
            }
            match &model.problem {
                Some(problem) => writeln!(out, " (not here: {problem})")?,
                None => writeln!(out)?,
            }
        }
    }
    for missing in &report.not_built {
        let jobs = joined(missing.jobs.iter().map(|job| word(*job).to_owned()));
        writeln!(
            out,
            "{} ({jobs}): not built; `{}` builds it",
            missing.name, missing.remedy
        )?;
    }
    if report.workers.is_empty() {
        let folders = joined(report.folders.iter().map(|folder| folder.display().to_string()));
        writeln!(out, "no worker is in {folders}")?;
    }
    Ok(())
}

/// A device in a few words, its memory where that is known.
fn device(device: &Device) -> String {
    let mut text = device.id.clone();
    if !device.name.is_empty() && device.name != device.id {
        text.push_str(&format!(" {}", device.name));
    }
    if device.memory_bytes > 0 {
        text.push_str(&format!(
            " ({:.1} GiB, {:.1} free)",
            device.memory_bytes as f64 / GIB,
            device.free_bytes as f64 / GIB
        ));
    }
    text
}

fn joined(parts: impl Iterator<Item = String>) -> String {
    parts.collect::<Vec<_>>().join(", ")
}

const fn word(job: Job) -> &'static str {
    match job {
        Job::Stt => "stt",
        Job::Tts => "tts",
        Job::Llm => "llm",
        Job::Vad => "vad",
        Job::Turn => "turn",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_answers_what_does_not_and_what_could_be_built_are_told() {
        let hello: Hello = serde_json::from_value(serde_json::json!({
            "protocol": 1, "name": "x", "version": "1.2", "library": "libx 3", "jobs": ["stt", "tts"],
            "formats": ["onnx"], "devices": [{"id": "cpu"}, {"id": "cuda:0", "name": "A GPU", "memory_bytes": 8589934592_u64}],
        }))
        .unwrap();
        let report = Report {
            folders: vec!["/workers".into()],
            models: None,
            workers: vec![
                Answer {
                    name: "x".to_owned(),
                    program: "/workers/repartee-worker-x".into(),
                    hello: Some(hello),
                    models: vec![ProbedModel {
                        id: "small".to_owned(),
                        description: "a small one".to_owned(),
                        problem: Some("its file is missing".to_owned()),
                    }],
                    problem: None,
                },
                Answer {
                    name: "y".to_owned(),
                    program: "/workers/repartee-worker-y".into(),
                    hello: None,
                    models: Vec::new(),
                    problem: Some("it didn't answer within 10s".to_owned()),
                },
            ],
            not_built: vec![NotBuilt {
                name: "z",
                jobs: &[Job::Llm],
                remedy: "make worker-z".to_owned(),
            }],
        };
        let mut out = Vec::new();
        print(&report, &mut out).unwrap();
        insta::assert_snapshot!(String::from_utf8(out).unwrap());
    }
}
