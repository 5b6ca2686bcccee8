//! The start of a worker process: its arguments, its place in the machine, its end.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::link::{Address, Link};
use crate::serve::serve;
use crate::{Models, Worker};

/// How much a worker gives way to the engine, whose playout may never starve (see `nice(2)`).
const NICE: i32 = 10;

/// The exit status of a wrong command line, as is usual.
const EXIT_USAGE: u8 = 2;
/// The exit status after a panic, as Rust's own.
const EXIT_PANIC: u8 = 101;

#[derive(Debug, PartialEq, Eq)]
enum Command {
    Help,
    Version,
    Probe,
    Serve(Address),
}

#[derive(Debug, PartialEq, Eq)]
struct Arguments {
    command: Command,
    models: Option<PathBuf>,
    nice: i32,
}

/// The whole `main` of a worker.
pub fn main<W: Worker>(worker: W) -> ExitCode {
    let arguments = std::env::args().skip(1);
    let arguments = match parse(arguments, std::env::var_os("REPARTEE_MODELS").map(PathBuf::from)) {
        Ok(arguments) => arguments,
        Err(problem) => {
            eprintln!("{problem}\n\n{}", usage(&worker));
            return ExitCode::from(EXIT_USAGE);
        }
    };
    let models = Models::new(arguments.models);
    match arguments.command {
        Command::Help => println!("{}", usage(&worker)),
        Command::Version => {
            let hello = worker.hello();
            println!("{} {} ({})", hello.name, hello.version, hello.library);
        }
        Command::Probe => {
            let probe = serde_json::json!({ "hello": worker.hello(), "models": worker.models(&models) });
            println!("{probe:#}");
        }
        Command::Serve(address) => return run(worker, models, &address, arguments.nice),
    }
    ExitCode::SUCCESS
}

fn run<W: Worker>(worker: W, models: Models, address: &Address, nice: i32) -> ExitCode {
    // One line, without a backtrace that would push it out of the few last lines that the supervisor keeps.
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        eprintln!(
            "panicked at {place}: {}",
            panic.payload_as_str().unwrap_or("no message")
        );
    }));
    // Some machines don't allow it, and a worker that isn't nice is better than none.
    if let Err(error) = rustix::process::nice(nice) {
        eprintln!("the priority stays as it is: {error}");
    }
    let link = match Link::connect(address) {
        Ok(link) => link,
        Err(error) => {
            eprintln!("no link to the engine at {address:?}: {error}");
            return ExitCode::FAILURE;
        }
    };
    // Returning from `main` ends the process at once, whatever the other threads are at: a worker is never left behind.
    match serve(worker, models, link) {
        Ok(()) => ExitCode::SUCCESS,
        Err(crate::ServeError::Panicked) => ExitCode::from(EXIT_PANIC),
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn parse(arguments: impl Iterator<Item = String>, models: Option<PathBuf>) -> Result<Arguments, String> {
    let mut command = None;
    let mut parsed = Arguments {
        command: Command::Help,
        models,
        nice: NICE,
    };
    let mut arguments = arguments;
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("{argument} needs a value"));
        match argument.as_str() {
            "--help" | "-h" => command = Some(Command::Help),
            "--version" | "-V" => command = Some(Command::Version),
            "--probe" => command = Some(Command::Probe),
            "--connect" => command = Some(Command::Serve(value()?.parse()?)),
            "--models" => parsed.models = Some(PathBuf::from(value()?)),
            "--nice" => parsed.nice = value()?.parse().map_err(|_| "--nice needs a number".to_owned())?,
            _ => return Err(format!("unknown argument {argument:?}")),
        }
    }
    parsed.command = command.ok_or("nothing to do")?;
    Ok(parsed)
}

fn usage<W: Worker>(worker: &W) -> String {
    let hello = worker.hello();
    format!(
        "repartee-worker-{name}: {library}, for Repartee. The engine starts it; by hand it can be asked what it can do.

usage: repartee-worker-{name} --probe | --help | --version | --connect ADDRESS

  --probe            print as JSON what this build can do on this machine, and which models it finds
  --connect ADDRESS  serve the engine there: stdin (standard input is a socket), unix:PATH or tcp:HOST:PORT
  --models DIR       the models root (else REPARTEE_MODELS)
  --nice N           how much to give way to other processes (default {NICE})",
        name = hello.name,
        library = hello.library,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Arguments, String> {
        parse(line.split_ascii_whitespace().map(str::to_owned), None)
    }

    #[test]
    fn arguments_are_understood_or_refused() {
        let arguments = parsed("--models /m --connect tcp:127.0.0.1:9 --nice 5").expect("a good line");
        assert_eq!(arguments.command, Command::Serve(Address::Tcp("127.0.0.1:9".into())));
        assert_eq!((arguments.models, arguments.nice), (Some(PathBuf::from("/m")), 5));
        assert_eq!(parsed("--probe").map(|arguments| arguments.command), Ok(Command::Probe));
        for wrong in ["", "--connect", "--connect x", "--nice x --probe", "serve"] {
            assert!(parsed(wrong).is_err(), "{wrong}");
        }
    }
}
