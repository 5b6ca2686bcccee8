//! Configuration, in two steps: what was written, then what it means.
//!
//! [`Written`] collects values from the defaults, one TOML file, the environment and the flags, in rising order, and
//! remembers for each where it came from. [`Config`] is what they mean together: typed, in range, and free of
//! contradictions. Everything is driven by one table of keys ([`KEYS`]): the reader, the messages, `config show` and
//! `config example` can't disagree about what exists.
//!
//! All mistakes are told at once, each with its place, and with the nearest right key or value:
//!
//! ```text
//! repartee.toml:12: server.lisen: there is no such key; did you mean server.listen?
//! REPARTEE_LISTEN: server.listen: "8080" is not an address with a port, such as 127.0.0.1:8080
//! ```
//!
//! What is deliberately absent: including other files, expanding variables, and a key that nothing reads.

mod file;
mod keys;
mod meaning;
mod mistake;
mod nearest;
mod network;
mod secret;
mod show;
mod value;
mod written;

pub use keys::{KEYS, Key, SECTIONS, Section};
pub use meaning::telephone::{
    Asterisk, AudioSocket, Codec, Full, Media, Phone, Rtp, Telephone, Terminator, Twilio, Vosk,
};
pub use meaning::{
    Ava, Config, Llm, LlmBackend, Log, LogFormat, LogLevel, Mode, Paths, Server, Stt, SttBackend, Trace, Tts,
    TtsBackend, Turn, TurnBackend, Vad, VadBackend, WorkerOptions, Workers,
};
pub use mistake::{LoadError, Mistake, Place, Problem};
pub use network::{Network, NetworkError};
pub use secret::Secret;
pub use show::{example, show_json, show_text};
pub use value::{Kind, Value};
pub use written::{File, Flag, Sources, Written};

/// What [`Config::load`] hands back.
pub struct Loaded {
    /// What the values mean.
    pub config: Config,
    /// The values as they were written, with their places.
    pub written: Written,
    /// Things that are no mistakes but look like ones, a line each.
    pub warnings: Vec<String>,
}

impl Config {
    /// Reads all sources and makes sense of them.
    ///
    /// # Errors
    /// A named file that can't be read, or every mistake that was found, in the order of the sources.
    pub fn load(sources: &Sources) -> Result<Loaded, LoadError> {
        let mut written = Written::defaults();
        let mut mistakes = Vec::new();
        written.read_file(&sources.file, &mut mistakes)?;
        let mut warnings = written.read_environment(&sources.environment, &mut mistakes);
        written.read_flags(&sources.flags, &mut mistakes);
        mistakes.extend(written.unknown_workers());
        // A value that was refused left the one below it standing, so the contradictions are looked for only among
        // values that were all accepted: otherwise one typing mistake would be told twice.
        if !mistakes.is_empty() {
            return Err(LoadError::Mistakes(mistakes));
        }
        let config = Config::from_written(&written);
        mistakes.extend(config.contradictions(&written));
        warnings.extend(written.open_secret());
        if mistakes.is_empty() {
            Ok(Loaded {
                config,
                written,
                warnings,
            })
        } else {
            Err(LoadError::Mistakes(mistakes))
        }
    }
}

#[cfg(test)]
mod tests;
