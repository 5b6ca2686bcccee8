//! `repartee replay`: a recorded call, run again.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::Failure;
use crate::session::trace::{Difference, ReplayError, replay};

/// Arguments of `repartee replay`.
#[derive(Args)]
#[command(after_help = "Record a call with `repartee serve --trace FOLDER`, then:\n  \
    repartee replay FOLDER/sess_0123456789abcdef.trace.jsonl\n\n\
    Exit status 0: every action is the same. 1: one differs, or the file is no trace.\n")]
pub(super) struct ReplayArguments {
    /// The trace.
    file: PathBuf,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &ReplayArguments) -> Result<ExitCode, Failure> {
    let name = arguments.file.display();
    let file = File::open(&arguments.file).map_err(|error| Failure(format!("can't open {name}: {error}")))?;
    let lines: Result<Vec<_>, _> = BufReader::new(file).lines().collect();
    let lines = lines.map_err(|error| Failure(format!("can't read {name}: {error}")))?;
    let outcome = replay(&lines);
    if arguments.json {
        println!("{}", as_json(&outcome));
    }
    match outcome {
        Ok(_) if arguments.json => Ok(ExitCode::SUCCESS),
        Ok(report) => {
            println!(
                "identical: {} actions after {} inputs in {:.1} s of call, {} turns, {} responses{}{}",
                report.actions,
                report.steps,
                report.until.as_millis() as f64 / 1_000.0,
                report.turns,
                report.responses,
                if report.ended { "" } else { "; the call had not ended" },
                if report.torn { "; the last line is cut off" } else { "" },
            );
            Ok(ExitCode::SUCCESS)
        }
        Err(_) if arguments.json => Ok(ExitCode::FAILURE),
        Err(ReplayError::Different(difference)) => Err(Failure(told(&difference))),
        Err(error) => Err(Failure(format!("{name}: {error}"))),
    }
}

/// Both actions, as they print: what people said is withheld.
fn told(difference: &Difference) -> String {
    let Difference {
        line,
        at,
        input,
        index,
        recorded,
        replayed,
    } = difference;
    format!(
        "line {line}, at {} ms: action {} differs\n  after    {input:?}\n  recorded {recorded:?}\n  replayed {replayed:?}",
        at.as_millis(),
        index + 1,
    )
}

fn as_json(outcome: &Result<crate::session::trace::ReplayReport, ReplayError>) -> serde_json::Value {
    match outcome {
        Ok(report) => json!({
            "identical": true,
            "started": report.header.started,
            "program": report.header.program,
            "inputs": report.steps,
            "actions": report.actions,
            "call_ms": report.until.as_millis(),
            "turns": report.turns,
            "responses": report.responses,
            "ended": report.ended,
            "torn": report.torn,
        }),
        Err(error) => json!({ "identical": false, "reason": error.to_string() }),
    }
}
