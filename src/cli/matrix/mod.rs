//! `repartee matrix`: tries every backend and model that a running server has, over the wire that the talk page speaks, and puts back what was
//! there.

mod check;
mod link;
mod plan;
mod report;
mod text;
mod walk;
mod words;

use std::fs::File;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use repartee_protocol::native::SwitchScope;
use tokio::signal::unix::{SignalKind, signal};

use self::check::Outcome;
use self::report::{Report, Summary};
use self::walk::{Interrupt, Manner, Walk, Walked};
use self::words::{NEEDED, SENTENCE};
use super::{Failure, client};

/// How the progress is drawn.
const PROGRESS: &str = "{bar:30} {pos:>3}/{len}  {elapsed}  {msg}";
/// The exit status of a walk that was interrupted: 128 and SIGINT's number, as shells have it.
const INTERRUPTED: u8 = 130;

/// Arguments of `repartee matrix`.
#[derive(Args)]
#[command(
    after_help = "Each recogniser hears a sentence that the server's own voice has spoken, each voice speaks it and is \
    transcribed, each language model is asked something, each detector of speech or of the end of a turn hears the sentence. Calls that go on \
    notice nothing, unless --server.\n\n\
    ok       it did its job\n\
    loaded   it answers; whether rightly can't be told (a synthetic model: weights that nobody trained)\n\
    failed   with the reason\n\
    skipped  with the reason and what helps\n\n\
    Examples:\n  \
    repartee matrix                              one model of each backend, each with its default voice\n  \
    repartee matrix --all --json-out matrix.json\n  \
    repartee matrix --url voice.example:8080 --token \"$TOKEN\" --json | jq .summary\n\n\
    Ctrl-C puts back what was there and prints what was done so far.\n\n\
    Exit status 0: nothing failed, and what was there serves again. 1: something failed, nothing could be tried, or what was there could not \
    be put back. 130: interrupted.\n"
)]
pub(super) struct MatrixArguments {
    /// Every model and every voice, not only the first model of each backend.
    #[arg(long)]
    all: bool,
    /// Write the JSON object to this file, too.
    #[arg(long, value_name = "FILE")]
    json_out: Option<PathBuf>,
    /// Print the JSON object in place of the table.
    #[arg(long)]
    json: bool,
    /// The server.
    #[arg(long, default_value = "127.0.0.1:8080", env = "REPARTEE_URL")]
    url: String,
    /// The server's access token.
    #[arg(long, env = "REPARTEE_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// Switch the whole server, not only the command's own session: other callers are served with each backend that is tried.
    #[arg(long)]
    server: bool,
    /// Give up an answer that takes longer (s).
    #[arg(long, default_value_t = 60, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3_600))]
    patience: u64,
    /// Give up a load that takes longer (s).
    #[arg(long, default_value_t = 300, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=36_000))]
    load_patience: u64,
}

/// Runs the command.
pub(super) fn run(arguments: &MatrixArguments) -> Result<ExitCode, Failure> {
    // What can't be written is found before hours are spent.
    let file = arguments.json_out.as_deref().map(create).transpose()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let report = runtime.block_on(walk(arguments))?;
    let object = serde_json::to_string_pretty(&report)?;
    if let (Some(mut file), Some(path)) = (file, &arguments.json_out) {
        let written = writeln!(file, "{object}");
        written.map_err(|error| Failure(format!("can't write {}: {error}", path.display())))?;
    }
    let stdout = io::stdout();
    let terminal = stdout.is_terminal();
    let mut out = stdout.lock();
    // What can't be written (a reader that went away) is left unwritten.
    let _ = match arguments.json {
        true => writeln!(out, "{object}"),
        false => report::print(&report, terminal, &mut out),
    };
    Ok(status(&report))
}

fn status(report: &Report) -> ExitCode {
    let tried = report.results.iter().any(|row| row.outcome() != Outcome::Skipped);
    if report.interrupted {
        ExitCode::from(INTERRUPTED)
    } else if report.summary.failed == 0 && report.restored && tried {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn create(path: &Path) -> Result<File, Failure> {
    File::create(path).map_err(|error| Failure(format!("can't write {}: {error}", path.display())))
}

async fn walk(arguments: &MatrixArguments) -> Result<Report, Failure> {
    let mut interrupt = interrupt()?;
    let manner = Manner {
        url: client::session_url(&arguments.url),
        token: arguments.token.clone(),
        all: arguments.all,
        scope: if arguments.server {
            SwitchScope::Server
        } else {
            SwitchScope::Session
        },
        patience: Duration::from_secs(arguments.patience),
        load_patience: Duration::from_secs(arguments.load_patience),
    };
    let mut walk = tokio::select! {
        begun = Walk::begin(manner) => begun?,
        () = &mut interrupt => return Err(Failure("interrupted".to_owned())),
    };
    let bar = ProgressBar::new(walk.length() as u64);
    bar.set_draw_target(match io::stderr().is_terminal() {
        true => ProgressDrawTarget::stderr(),
        false => ProgressDrawTarget::hidden(),
    });
    bar.set_style(ProgressStyle::with_template(PROGRESS)?);
    bar.enable_steady_tick(Duration::from_millis(250));
    walk.run(&bar, &mut interrupt).await;
    bar.set_message("putting back what was there");
    let mut again = self::interrupt()?;
    tokio::select! {
        () = walk.restore() => {}
        () = &mut again => {
            walk.interrupted = true;
            walk.restore_problems.push("interrupted before it was looked at".to_owned());
        }
    }
    bar.finish_and_clear();
    let Walked {
        started,
        capabilities,
        rows,
        server,
        restore_problems,
        interrupted,
        scope,
    } = walk.end().await;
    Ok(Report {
        started,
        capabilities,
        summary: Summary::of(&rows),
        results: rows,
        server,
        scope,
        sentence: SENTENCE,
        words_needed: NEEDED,
        interrupted,
        restored: restore_problems.is_empty(),
        restore_problems,
    })
}

/// Ctrl-C, or the system's request to end.
fn interrupt() -> io::Result<Interrupt> {
    let (mut typed, mut asked) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    Ok(Box::pin(async move {
        tokio::select! {
            _ = typed.recv() => {}
            _ = asked.recv() => {}
        }
    }))
}
