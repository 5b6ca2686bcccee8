//! What belongs to one reply: its words, its clauses and their audio, and what is waited for.

use serde::{Deserialize, Serialize};

use super::chunker::Chunker;
use super::heard::Ledger;
use super::response::Response;
use crate::call::{ResponseStatus, ToolCall, TurnReport};
use crate::id::{GenerationId, ItemId, ResponseId, SynthesisId, TurnId};
use crate::pii::Pii;
use crate::time::{Samples, Time};

/// Tool calls of one reply; more are dropped.
pub(crate) const MAX_TOOL_CALLS: usize = 32;

/// Where a reply comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Origin {
    /// The language model.
    Model,
    /// The client supplied it.
    Say,
}

/// What is waited for from the language model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "generating", rename_all = "snake_case")]
pub(crate) enum Generating {
    /// It is writing.
    Running {
        /// The request.
        id: GenerationId,
        /// When we stop waiting for its next word.
        deadline: Time,
    },
    /// It is gone; it is asked again when there is one, but given up at this instant.
    Waiting {
        /// When.
        until: Time,
    },
    /// All words are there.
    Done,
}

/// What is waited for from the synthesiser. One clause at a time: a clause that has to be made again is always the last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "synthesizing", rename_all = "snake_case")]
pub(crate) enum Synthesizing {
    /// Nothing.
    Nothing,
    /// A clause is being spoken.
    Running {
        /// The request.
        id: SynthesisId,
        /// The clause.
        clause: Pii<String>,
        /// Whether it failed before.
        again: bool,
        /// When we stop waiting for more of its audio.
        deadline: Time,
    },
    /// The synthesiser is gone; it is asked again when there is one, but given up at this instant.
    Waiting {
        /// The clause.
        clause: Pii<String>,
        /// When.
        until: Time,
    },
}

/// Whether a reply may be spoken without the client's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "approval", rename_all = "snake_case")]
pub(crate) enum Approval {
    /// It may.
    NotNeeded,
    /// The client is asked when all its words are there.
    Needed,
    /// The client was asked; the reply is given up at this instant.
    Asked {
        /// When.
        until: Time,
    },
}

/// One reply.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Reply {
    /// Its id.
    pub(crate) id: ResponseId,
    /// The turn it answers.
    pub(crate) turn: Option<TurnId>,
    /// Where it comes from.
    pub(crate) origin: Origin,
    /// Where it stands.
    pub(crate) state: Response,
    /// Whether the user may interrupt it.
    pub(crate) interruptible: bool,
    /// Whether it becomes part of the history.
    pub(crate) remember: bool,
    /// Whether it is to be heard, or is text only (from here on).
    pub(crate) spoken: bool,
    /// The voice that was set when it began.
    pub(crate) voice: Option<String>,
    /// Whether the client is asked before it is spoken.
    pub(crate) approval: Approval,
    /// The words it was prepared for, while the turn was still open.
    pub(crate) prepared_for: Option<Pii<String>>,
    /// What is waited for from the language model.
    pub(crate) generating: Generating,
    /// How often the language model was asked again.
    pub(crate) retries: u8,
    /// All its words.
    pub(crate) text: Pii<String>,
    /// How many characters that is.
    pub(crate) chars: u32,
    /// The words that have not been given to the synthesiser.
    pub(crate) chunker: Chunker,
    /// Those that have.
    pub(crate) ledger: Ledger,
    /// What is waited for from the synthesiser.
    pub(crate) synthesizing: Synthesizing,
    /// Whether playing was asked for.
    pub(crate) play_asked: bool,
    /// When.
    pub(crate) play_asked_at: Time,
    /// When the end of playing was asked for.
    pub(crate) finish_asked: Option<Time>,
    /// Whether all its audio has been heard.
    pub(crate) played: bool,
    /// How much of its audio was heard, once that is settled.
    pub(crate) heard: Samples,
    /// The tools it wants called.
    pub(crate) tool_calls: Vec<ToolCall>,
    /// Its place in the history.
    pub(crate) item: Option<ItemId>,
    /// How it will have ended when all of it has been said.
    pub(crate) status: ResponseStatus,
    /// The report of its turn, until the client has been told.
    pub(crate) report: Option<TurnReport>,
}

impl Reply {
    /// The reply with this id, from this origin; everything else is as for a text that is answered aloud.
    pub(crate) fn new(id: ResponseId, origin: Origin, state: Response, generating: Generating) -> Self {
        Self {
            id,
            turn: None,
            origin,
            state,
            interruptible: true,
            remember: true,
            spoken: true,
            voice: None,
            approval: Approval::NotNeeded,
            prepared_for: None,
            generating,
            retries: 0,
            text: Pii::default(),
            chars: 0,
            chunker: Chunker::default(),
            ledger: Ledger::default(),
            synthesizing: Synthesizing::Nothing,
            play_asked: false,
            play_asked_at: Time::ZERO,
            finish_asked: None,
            played: false,
            heard: Samples::ZERO,
            tool_calls: Vec::new(),
            item: None,
            status: ResponseStatus::Completed,
            report: None,
        }
    }

    /// Whether it was prepared on a guess that the turn has ended.
    pub(crate) fn is_guess(&self) -> bool {
        self.state == Response::Held && self.prepared_for.is_some()
    }

    /// When the client's word is waited for no longer.
    pub(crate) fn approval_due(&self) -> Option<Time> {
        match self.approval {
            Approval::Asked { until } => Some(until),
            Approval::NotNeeded | Approval::Needed => None,
        }
    }

    /// Whether anything has been said.
    pub(crate) fn has_content(&self) -> bool {
        !self.text.expose().is_empty() || !self.tool_calls.is_empty()
    }

    /// The words that have reached the user when its audio has been heard up to `heard`. What was text only from its
    /// beginning has reached them as soon as it was told; of what fell silent on its way, only what was heard counts.
    pub(crate) fn heard_text(&self, heard: Samples) -> String {
        if self.spoken || self.play_asked {
            self.ledger.heard_text(heard)
        } else {
            self.text.expose().clone()
        }
    }

    /// Audio that is still to come.
    pub(crate) fn audio_is_open(&self) -> bool {
        let to_be_made = self.spoken && (self.synthesizing != Synthesizing::Nothing || !self.chunker.is_over());
        to_be_made || (self.play_asked && !self.played)
    }
}
