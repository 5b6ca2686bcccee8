//! What all telephone wires share: a call is answered, has facts, a greeting, tools, an end, and a quality.
//!
//! A wire turns its bytes into samples and keys, and gives them to a [`Line`]; the line gives back frames of 20 ms, on one grid of
//! deadlines from its beginning to its end, and says when to flush and when to hang up. What a telephone call needs besides a session
//! of the engine is here, once: time goes on where nothing comes, nobody is left in silence, our own voice isn't taken for the caller.

mod announced;
mod board;
mod control;
mod facts;
mod hearing;
mod line;
mod quality;
mod tcp;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub use self::announced::{Announced, Announcement, Key, Ticket};
pub use self::board::{Board, LiveCall};
pub use self::control::{Control, HANG_UP, Notice, Wish, hang_up_tool, tools};
pub use self::facts::{Facts, tidy};
pub use self::line::{Happening, Line};
pub use self::quality::{Quality, Sent};
pub use self::tcp::{Admission, serve_tcp};
use crate::audio::{Patience, SampleRate};
use crate::call::{BackendKind, Settings};
use crate::engine::{Engine, Refused, WireProfile};
use crate::pii::Pii;
use crate::registry::Slot;

/// What calls are told at the start of the server.
#[derive(Clone, Debug)]
pub struct PhoneOptions {
    /// The settings of their sessions.
    pub settings: Settings,
    /// What is said first; nothing when empty.
    pub greeting: String,
    /// What is said, before the call is ended, where there is no language model.
    pub without_llm: String,
    /// What is said where a reply could not be made.
    pub trouble: String,
    /// Whether `parrot`, which repeats what it heard, counts as a language model.
    pub parrot: bool,
    /// Whether our own voice, coming back, is told from the caller's.
    pub echo_guard: bool,
    /// Whether a faint noise is sent while nobody speaks.
    pub comfort_noise: bool,
    /// After how long something is told that goes on for long.
    pub patience: Patience,
}

impl Default for PhoneOptions {
    /// Nothing is said but where something is wrong; our own voice is told from the caller's.
    fn default() -> Self {
        Self {
            settings: Settings::default(),
            greeting: String::new(),
            without_llm: "There is no language model here.".to_owned(),
            trouble: "Something went wrong.".to_owned(),
            parrot: false,
            echo_guard: true,
            comfort_noise: false,
            patience: Patience::default(),
        }
    }
}

/// How a wire carries a call.
#[derive(Clone, Copy, Debug)]
pub struct Carrier {
    /// Its name, for logs and metrics.
    pub wire: &'static str,
    /// The rate of the frames that it wants.
    pub rate: SampleRate,
    /// How far ahead of its time a reply's frame is sent.
    pub lead: Duration,
    /// Whether silence is sent, too.
    pub continuous: bool,
}

/// Answers telephone calls. Cheap to clone.
#[derive(Clone)]
pub struct Phones {
    inner: Arc<Inner>,
}

struct Inner {
    engine: Engine,
    options: PhoneOptions,
    announced: Announced,
    board: Board,
}

impl fmt::Debug for Phones {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Phones")
    }
}

impl Phones {
    /// Calls are answered by this engine.
    #[must_use]
    pub fn new(engine: Engine, options: PhoneOptions) -> Self {
        Self {
            inner: Arc::new(Inner {
                engine,
                options,
                announced: Announced::default(),
                board: Board::default(),
            }),
        }
    }

    /// The engine.
    #[must_use]
    pub fn engine(&self) -> &Engine {
        &self.inner.engine
    }

    /// Calls that are known before their sound comes.
    #[must_use]
    pub fn announced(&self) -> &Announced {
        &self.inner.announced
    }

    /// Calls that are going on.
    #[must_use]
    pub fn board(&self) -> &Board {
        &self.inner.board
    }

    /// Answers a call. What was announced of it holds before `facts`, what the wire knows.
    ///
    /// # Errors
    /// The engine takes no more: see [`Refused`].
    pub fn answer(&self, carrier: Carrier, facts: Facts, announced: Option<Announcement>) -> Result<Line, Refused> {
        let options = &self.inner.options;
        let mut settings = options.settings.clone();
        let (facts, control) = match announced {
            Some(announced) => {
                settings.tools.extend(announced.tools);
                (announced.facts, Some(announced.control))
            }
            None => {
                settings.tools.push(hang_up_tool());
                (facts, None)
            }
        };
        let instructions = format!("{}{}", settings.instructions.expose(), facts.for_the_model());
        settings.instructions = Pii::new(instructions);
        let alone = self.has_no_llm();
        settings.stages.llm &= !alone;
        let profile = WireProfile {
            output_rate: carrier.rate,
            lead: carrier.lead,
            continuous: carrier.continuous,
        };
        let call = self.inner.engine.open(settings, profile)?;
        Ok(Line::begin(self.clone(), carrier, call, facts, control, alone))
    }

    /// Whether nobody would answer a caller. One that is being loaded is waited for by the session.
    fn has_no_llm(&self) -> bool {
        let registry = self.inner.engine.registry();
        if !self.inner.options.settings.stages.llm {
            return true;
        }
        match registry.state(BackendKind::Llm) {
            Slot::Ready(serving) => serving.capabilities().name == "parrot" && !self.inner.options.parrot,
            Slot::Missing { .. } => true,
            Slot::Loading | Slot::Lost { .. } => false,
        }
    }
}
