//! `repartee config check|show|example`, and the flags that other commands share.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};

use crate::config::{Config, File, Flag, LoadError, Loaded, Sources, example, show_json, show_text};

/// `repartee config …`
#[derive(Subcommand)]
pub enum Command {
    /// Read a file as `serve` would, and tell every mistake with its line and what would be right.
    Check {
        /// The file.
        file: PathBuf,
    },
    /// Print the configuration in force, with the place that each value comes from.
    Show {
        /// One JSON object instead of TOML.
        #[arg(long)]
        json: bool,
        /// Flags as for `serve`.
        #[command(flatten)]
        options: Box<Options>,
    },
    /// Print a file with every setting, its meaning and its default.
    Example,
}

/// Flags that set something; every other setting can be given with `--set`.
#[derive(Args, Clone, Default)]
pub struct Options {
    /// Configuration file [default: repartee.toml, if it is there].
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Address and port to listen on.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Option<String>,
    /// Which stages to start: auto, minimal (no language model) or full.
    #[arg(long)]
    pub mode: Option<String>,
    /// Recogniser: auto, none or a worker, such as whisper:ggml-base.bin. `repartee workers` tells which there are.
    #[arg(long, value_name = "BACKEND[:MODEL]")]
    pub stt: Option<String>,
    /// Voice engine: auto, none or a worker, such as sherpa:voice.onnx.
    #[arg(long, value_name = "BACKEND[:MODEL]")]
    pub tts: Option<String>,
    /// Voice.
    #[arg(long)]
    pub voice: Option<String>,
    /// Who answers: auto, openai, parrot, none or a worker, such as llama:chat.gguf.
    #[arg(long, value_name = "BACKEND[:MODEL]")]
    pub llm: Option<String>,
    /// Address of an OpenAI-compatible server.
    #[arg(long, value_name = "URL")]
    pub llm_url: Option<String>,
    /// Model on that server.
    #[arg(long, value_name = "NAME")]
    pub llm_model: Option<String>,
    /// Serve AVA's clients too, in place of its local_ai_server.
    #[arg(long, value_name = "ADDRESS:PORT", num_args = 0..=1, default_missing_value = "127.0.0.1:8765")]
    pub ava: Option<String>,
    /// Directory for traces of sessions.
    #[arg(long, value_name = "DIRECTORY")]
    pub trace: Option<String>,
    /// How much to log: off, error, warn, info, debug or trace.
    #[arg(long, value_name = "LEVEL")]
    pub log: Option<String>,
    /// Any setting by its full name, such as turn.endpointing_ms=500. May be repeated.
    #[arg(long, value_name = "KEY=VALUE", value_parser = assignment)]
    pub set: Vec<String>,
}

/// An empty value is one (it unsets a key), but a key alone is a slip.
fn assignment(text: &str) -> Result<String, String> {
    match text.split_once('=') {
        Some(_) => Ok(text.to_owned()),
        None => Err(format!("it takes KEY=VALUE, such as {text}=…")),
    }
}

impl Options {
    /// The flags that were given, with the keys that they set. A flag of its own wins over `--set`.
    #[must_use]
    pub fn flags(&self) -> Vec<Flag> {
        let set = self.set.iter().map(|assignment| {
            let (key, text) = assignment.split_once('=').unwrap_or((assignment, ""));
            Flag {
                name: "--set".to_owned(),
                key: key.trim().to_owned(),
                text: text.to_owned(),
            }
        });
        let own = [
            ("--listen", "server.listen", &self.listen),
            ("--mode", "mode", &self.mode),
            ("--stt", "stt.backend", &self.stt),
            ("--tts", "tts.backend", &self.tts),
            ("--voice", "tts.voice", &self.voice),
            ("--llm", "llm.backend", &self.llm),
            ("--llm-url", "llm.url", &self.llm_url),
            ("--llm-model", "llm.model", &self.llm_model),
            ("--ava", "ava.listen", &self.ava),
            ("--trace", "trace.dir", &self.trace),
            ("--log", "log.level", &self.log),
        ];
        let own = own.into_iter().filter_map(|(name, key, text)| {
            Some(Flag {
                name: name.to_owned(),
                key: key.to_owned(),
                text: text.clone()?,
            })
        });
        set.chain(own).collect()
    }

    /// Everything that this process is configured by.
    #[must_use]
    pub fn sources(&self) -> Sources {
        Sources::of_process(self.config.clone(), self.flags())
    }
}

/// Runs the command; its answer goes to `out`.
///
/// # Errors
/// `out` can't be written to.
pub fn run(command: &Command, out: &mut impl Write) -> io::Result<ExitCode> {
    match command {
        Command::Check { file } => check(file, &Sources::of_process(None, Vec::new()).environment, out),
        Command::Show { json, options } => show(&options.sources(), *json, out),
        Command::Example => {
            out.write_all(example().as_bytes())?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Reads `file` with `environment` over it, as `serve` would, and tells all mistakes. Failure if there are any.
///
/// # Errors
/// `out` can't be written to.
pub fn check(file: &Path, environment: &[(String, String)], out: &mut impl Write) -> io::Result<ExitCode> {
    let sources = Sources {
        file: File::Named(file.to_owned()),
        environment: environment.to_vec(),
        flags: Vec::new(),
    };
    match Config::load(&sources) {
        Ok(Loaded { warnings, .. }) => {
            for warning in warnings {
                writeln!(out, "note: {warning}")?;
            }
            writeln!(out, "{}: no mistakes", file.display())?;
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => refuse(&error, out),
    }
}

/// Prints the configuration that `sources` amount to.
///
/// # Errors
/// `out` can't be written to.
pub fn show(sources: &Sources, json: bool, out: &mut impl Write) -> io::Result<ExitCode> {
    match Config::load(sources) {
        Ok(Loaded { written, .. }) if json => {
            writeln!(out, "{:#}", show_json(&written))?;
            Ok(ExitCode::SUCCESS)
        }
        Ok(Loaded { written, warnings, .. }) => {
            for warning in warnings {
                writeln!(out, "# note: {warning}")?;
            }
            out.write_all(show_text(&written).as_bytes())?;
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => refuse(&error, out),
    }
}

fn refuse(error: &LoadError, out: &mut impl Write) -> io::Result<ExitCode> {
    writeln!(out, "{error}")?;
    if let LoadError::Mistakes(mistakes) = error {
        let count = mistakes.len();
        writeln!(out, "{count} {}", if count == 1 { "mistake" } else { "mistakes" })?;
    }
    Ok(ExitCode::FAILURE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(text: &str) -> (bool, String) {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("repartee.toml");
        std::fs::write(&file, text).unwrap();
        let mut out = Vec::new();
        let code = check(&file, &[], &mut out).unwrap();
        let shown = String::from_utf8(out)
            .unwrap()
            .replace(&file.display().to_string(), "repartee.toml");
        (code == ExitCode::SUCCESS, shown)
    }

    #[test]
    fn a_right_file_passes() {
        assert_eq!(
            checked("[server]\nmax_sessions = 4\n"),
            (true, "repartee.toml: no mistakes\n".to_owned())
        );
    }

    #[test]
    fn a_wrong_file_fails_and_says_where() {
        let (passed, shown) = checked("\n[server]\nlisen = \"127.0.0.1:1\"\n");
        assert!(!passed);
        assert_eq!(
            shown,
            "repartee.toml:3: server.lisen: there is no such key; did you mean server.listen?\n1 mistake\n"
        );
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let mut out = Vec::new();
        let code = check(Path::new("/nonexistent/repartee.toml"), &[], &mut out).unwrap();
        assert_eq!(code, ExitCode::FAILURE);
        assert!(
            String::from_utf8(out)
                .unwrap()
                .starts_with("/nonexistent/repartee.toml: ")
        );
    }

    #[test]
    fn a_key_alone_sets_nothing() {
        assert!(assignment("turn.endpointing_ms").is_err());
        assert_eq!(assignment("llm.url="), Ok("llm.url=".to_owned()));
    }

    #[test]
    fn flags_of_their_own_win_over_set() {
        let options = Options {
            listen: Some("127.0.0.1:2".to_owned()),
            set: vec!["server.listen=127.0.0.1:1".to_owned(), "turn.eager_ms=200".to_owned()],
            ..Options::default()
        };
        let sources = Sources {
            file: File::Absent,
            environment: Vec::new(),
            flags: options.flags(),
        };
        let mut out = Vec::new();
        show(&sources, true, &mut out).unwrap();
        let shown: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(shown["server.listen"]["value"], "127.0.0.1:2");
        assert_eq!(shown["server.listen"]["source"], "--listen");
        assert_eq!(shown["turn.eager_ms"]["source"], "--set");
    }
}
