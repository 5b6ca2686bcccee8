//! The command line: what was asked, and who does it.

mod ari;
pub mod client;
pub mod config;
mod health;
mod matrix;
mod replay;
mod serve;
pub mod talk;
mod workers;

use std::io;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// A voice engine: hears, answers and speaks over a WebSocket, in real time.
#[derive(Parser)]
#[command(
    name = "repartee",
    version,
    after_help = "Examples:\n  \
        repartee serve                  start the engine; the talk page is at http://127.0.0.1:8080/\n  \
        repartee talk question.wav      speak a recording to it and print what becomes of it\n  \
        repartee talk --text \"what time is it\" --out reply.wav\n  \
        repartee matrix                 try every backend that a running server has\n  \
        repartee config example > repartee.toml\n"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start the engine: talk page, native WebSocket, health, readiness and metrics on one port.
    Serve(serve::ServeArguments),
    /// Start the engine as an ARI application of Asterisk: it answers, transfers and ends the calls of Stasis(repartee).
    Ari(ari::AriArguments),
    /// Speak to a running engine from a recording, a text or the microphone.
    Talk(talk::TalkArguments),
    /// Ask a running server whether it is ready; the exit status tells.
    Health(health::HealthArguments),
    /// Try every backend and model that a running server has, with real speech; the exit status tells.
    Matrix(matrix::MatrixArguments),
    /// Run a recorded call again, and prove that every action is the same.
    Replay(replay::ReplayArguments),
    /// Tell which workers are built, and what each can do on this machine.
    Workers(workers::WorkersArguments),
    /// Check, show or write the configuration.
    #[command(subcommand)]
    Config(config::Command),
}

/// Runs the program.
#[must_use]
pub fn main() -> ExitCode {
    // A reader that went away (`repartee … | head`) is no reason to panic: what can't be written is left unwritten.
    let result = match Cli::parse().command {
        Command::Serve(arguments) => serve::run(&arguments),
        Command::Ari(arguments) => ari::run(&arguments),
        Command::Talk(arguments) => talk::run(&arguments),
        Command::Health(arguments) => health::run(&arguments),
        Command::Matrix(arguments) => matrix::run(&arguments),
        Command::Replay(arguments) => replay::run(&arguments),
        Command::Workers(arguments) => workers::run(&arguments),
        Command::Config(command) => {
            config::run(&command, &mut io::stdout()).map_err(|error| Failure(error.to_string()))
        }
    };
    result.unwrap_or_else(|Failure(message)| {
        eprintln!("repartee: {message}");
        ExitCode::FAILURE
    })
}

/// What is told to a person when a command can't be done: one line, with the remedy where there is one.
struct Failure(String);

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}
