//! A call in virtual time: a script of what people and machines do, played against a real
//! [`Session`](crate::session::Session). Minutes run in
//! milliseconds, and the same script and seed give the same call, to the nanosecond.
//!
//! The recogniser, the language model, the synthesiser and the far side's loudspeaker are scripted: they know what is
//! said because the script says it, and take times that are drawn from the seed. Every input and every action is watched
//! by an [`Observer`](super::Observer), and the session's own invariants are checked after each step.

mod operations;
mod timeline;
mod world;

use std::time::Duration;

pub use operations::run_operations;
pub use timeline::Timeline;

use crate::call::{BackendKind, Command, Settings};
use crate::pii::Pii;
use crate::session::Input;
use crate::time::Time;

/// How long the scripted backends take. Ranges in milliseconds, both ends included; a seed draws from them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Latencies {
    /// A partial transcript, after the word it ends with.
    pub stt_partial: (u64, u64),
    /// The final transcript, after it was asked for.
    pub stt_final: (u64, u64),
    /// The language model's first word, after it was asked.
    pub llm_first: (u64, u64),
    /// Each further word.
    pub llm_next: (u64, u64),
    /// The synthesiser's first audio, after it was asked.
    pub tts_first: (u64, u64),
    /// Each further fifth of a second of its audio.
    pub tts_next: (u64, u64),
    /// The loudspeaker, after it was asked to play.
    pub play: (u64, u64),
    /// A backend that is switched to, until it is loaded.
    pub load: (u64, u64),
}

impl Latencies {
    /// Those of small models on a small machine.
    pub const ORDINARY: Self = Self {
        stt_partial: (60, 160),
        stt_final: (40, 90),
        llm_first: (120, 260),
        llm_next: (20, 45),
        tts_first: (40, 110),
        tts_next: (8, 12),
        play: (5, 20),
        load: (400, 400),
    };

    /// None at all: what is left is the session's own.
    pub const INSTANT: Self = Self {
        stt_partial: (0, 0),
        stt_final: (0, 0),
        llm_first: (0, 0),
        llm_next: (0, 0),
        tts_first: (0, 0),
        tts_next: (0, 0),
        play: (0, 0),
        load: (0, 0),
    };
}

/// What is asked of the language model, and what it then does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It writes this.
    Text(String),
    /// It says this, and then calls this tool with these arguments.
    Tool {
        /// What it says first; may be empty.
        text: String,
        /// The tool's name.
        name: String,
        /// Its arguments: JSON text.
        arguments: String,
    },
    /// It fails after having written this.
    Failure {
        /// What it writes first; may be empty.
        text: String,
        /// Whether it says that asking again may help.
        retry: bool,
    },
}

/// What happens at some instant.
#[derive(Clone, Debug, PartialEq)]
enum Happening {
    /// The user begins to say this, and takes so long.
    User { text: String, lasting: Duration },
    /// A noise that the VAD takes for speech.
    Noise { lasting: Duration },
    /// Some input.
    Input(Box<Input>),
    /// A worker dies, and is back after so long.
    Loss { kind: BackendKind, lasting: Duration },
    /// A worker is replaced by another one.
    Switch { kind: BackendKind },
}

/// What happens in a simulated call.
#[derive(Clone, Debug)]
pub struct Script {
    settings: Settings,
    seed: u64,
    latencies: Latencies,
    happenings: Vec<(Time, Happening)>,
    answers: Vec<(String, Answer)>,
    missing: Vec<BackendKind>,
    predictions: Option<u16>,
    audio: bool,
    until: Time,
    restore_every: Option<u64>,
}

impl Default for Script {
    fn default() -> Self {
        Self::new(Settings::default())
    }
}

impl Script {
    /// A call with these settings in which nothing happens for ten seconds.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            seed: 1,
            latencies: Latencies::ORDINARY,
            happenings: Vec::new(),
            answers: Vec::new(),
            missing: vec![BackendKind::Turn],
            predictions: None,
            audio: true,
            until: Time::from_millis(10_000),
            restore_every: None,
        }
    }

    /// Draws everything from this seed.
    #[must_use]
    pub const fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// The backends take these times.
    #[must_use]
    pub const fn latencies(mut self, latencies: Latencies) -> Self {
        self.latencies = latencies;
        self
    }

    /// The user says `text` from `at` on for `lasting` milliseconds.
    #[must_use]
    pub fn user(self, at: u64, text: &str, lasting: u64) -> Self {
        self.happening(
            at,
            Happening::User {
                text: text.to_owned(),
                lasting: Duration::from_millis(lasting),
            },
        )
    }

    /// Something that is no speech sounds like it from `at` on for `lasting` milliseconds.
    #[must_use]
    pub fn noise(self, at: u64, lasting: u64) -> Self {
        self.happening(
            at,
            Happening::Noise {
                lasting: Duration::from_millis(lasting),
            },
        )
    }

    /// The client asks for this at `at`.
    #[must_use]
    pub fn command(self, at: u64, command: Command) -> Self {
        self.input(at, Input::Command(command))
    }

    /// The client has this said at `at`.
    #[must_use]
    pub fn say(self, at: u64, text: &str) -> Self {
        self.command(
            at,
            Command::Say(crate::call::Say {
                text: Pii::from(text),
                interrupt: false,
                interruptible: true,
                remember: true,
            }),
        )
    }

    /// This comes in at `at`.
    #[must_use]
    pub fn input(self, at: u64, input: Input) -> Self {
        self.happening(at, Happening::Input(Box::new(input)))
    }

    /// The worker of this backend dies at `at`, and another one is ready after `lasting` milliseconds.
    #[must_use]
    pub fn lose(self, at: u64, kind: BackendKind, lasting: u64) -> Self {
        self.happening(
            at,
            Happening::Loss {
                kind,
                lasting: Duration::from_millis(lasting),
            },
        )
    }

    /// This backend is replaced by another one at `at`, while it serves.
    #[must_use]
    pub fn switch(self, at: u64, kind: BackendKind) -> Self {
        self.happening(at, Happening::Switch { kind })
    }

    /// Asked something that ends with `question`, the language model does this: the first time, if several are scripted for
    /// it. Without a script it repeats what it heard.
    #[must_use]
    pub fn answer(mut self, question: &str, answer: Answer) -> Self {
        self.answers.push((question.to_owned(), answer));
        self
    }

    /// There is no such backend.
    #[must_use]
    pub fn without(mut self, kind: BackendKind) -> Self {
        self.missing.push(kind);
        self
    }

    /// There is a turn model, and it always says this (thousandths).
    #[must_use]
    pub fn turn_model(mut self, complete_per_mille: u16) -> Self {
        self.missing.retain(|kind| *kind != BackendKind::Turn);
        self.predictions = Some(complete_per_mille);
        self
    }

    /// No audio comes at all.
    #[must_use]
    pub const fn without_audio(mut self) -> Self {
        self.audio = false;
        self
    }

    /// The call is watched until `at`.
    #[must_use]
    pub const fn until(mut self, at: u64) -> Self {
        self.until = Time::from_millis(at);
        self
    }

    /// Every so many inputs the session is written down, thrown away and restored.
    #[must_use]
    pub const fn restored_every(mut self, inputs: u64) -> Self {
        self.restore_every = Some(inputs);
        self
    }

    /// Plays it.
    ///
    /// # Panics
    /// When the session breaks one of its invariants.
    #[must_use]
    pub fn run(self) -> Timeline {
        world::World::new(self).run()
    }

    fn happening(mut self, at: u64, happening: Happening) -> Self {
        self.happenings.push((Time::from_millis(at), happening));
        self
    }
}
