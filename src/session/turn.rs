//! The user's turn: idle, speaking, deciding whether it has ended.

use serde::{Deserialize, Serialize};

use super::recognition::Recognition;
use crate::call::{Endpointing, Probability, TurnDetection};
use crate::id::{PredictionId, TurnId};
use crate::time::{Samples, Time};

/// A turn that is open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OpenTurn {
    /// Its id.
    pub(crate) id: TurnId,
    /// Who ends it.
    pub(crate) detection: TurnDetection,
    /// How it is ended; what was set when it began.
    pub(crate) endpointing: Endpointing,
    /// The first sample of its speech.
    pub(crate) speech_start: Samples,
    /// The sample after the last of its speech.
    pub(crate) speech_end: Samples,
    /// When that arrived.
    pub(crate) spoke_until: Time,
    /// Where the interruption of a reply begins, if this turn is one: at the start of its speech, or where a reply began
    /// while it was open already.
    pub(crate) interrupts_from: Samples,
    /// Its words; none when nothing is to be recognised.
    pub(crate) recognition: Option<Recognition>,
}

/// A pause in an open turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pause {
    /// What the turn model says about it.
    pub(crate) opinion: Opinion,
    /// Whether a reply has been prepared in it: once a pause is enough.
    pub(crate) eager: bool,
}

/// What the turn model says about a pause. It is asked once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Opinion {
    /// It wasn't asked.
    #[default]
    Unasked,
    /// It was asked under this id.
    Asked(PredictionId),
    /// It has answered, with nothing if it failed.
    Given(Option<Probability>),
}

/// Where the user's turn stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "turn", rename_all = "snake_case")]
pub(crate) enum Turn {
    /// Nobody speaks.
    Idle,
    /// The user speaks; or, where the client ends turns, may be speaking.
    Speaking {
        /// The turn.
        open: Box<OpenTurn>,
    },
    /// The user has paused, and it is being decided whether the turn has ended.
    Deciding {
        /// The turn.
        open: Box<OpenTurn>,
        /// What is known of the pause.
        pause: Pause,
    },
}

/// What may happen to a turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TurnEvent {
    /// Speech has lasted long enough to open one.
    Open(Box<OpenTurn>),
    /// A frame of speech up to this sample, which arrived at this instant.
    Speech(Samples, Time),
    /// A frame of silence.
    Silence,
    /// It has ended.
    End,
    /// It is to be forgotten.
    Clear,
}

/// What follows from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TurnEffect {
    /// Nothing.
    None,
    /// A turn is open.
    Opened,
    /// It goes on.
    Continued,
    /// It has paused.
    Paused,
    /// It goes on after a pause.
    Resumed,
    /// It is over, and its words are wanted.
    Ended(Box<OpenTurn>),
    /// It is over, and nothing of it is wanted.
    Cleared(Box<OpenTurn>),
}

impl Turn {
    /// The one transition function of a turn.
    pub(crate) fn handle(&mut self, event: TurnEvent) -> TurnEffect {
        use TurnEffect as F;
        use TurnEvent as E;
        let state = std::mem::replace(self, Self::Idle);
        let (next, effect) = match (state, event) {
            (Self::Idle, E::Open(open)) => (Self::Speaking { open }, F::Opened),
            (Self::Idle, E::Speech(..) | E::Silence | E::End | E::Clear) => (Self::Idle, F::None),
            (Self::Speaking { open }, E::Speech(end, at)) => (
                Self::Speaking {
                    open: open.spoken(end, at),
                },
                F::Continued,
            ),
            (Self::Speaking { open }, E::Silence) => (
                Self::Deciding {
                    open,
                    pause: Pause::default(),
                },
                F::Paused,
            ),
            (Self::Deciding { open, .. }, E::Speech(end, at)) => (
                Self::Speaking {
                    open: open.spoken(end, at),
                },
                F::Resumed,
            ),
            (state @ Self::Deciding { .. }, E::Silence) => (state, F::None),
            (Self::Speaking { open } | Self::Deciding { open, .. }, E::End) => (Self::Idle, F::Ended(open)),
            (Self::Speaking { open } | Self::Deciding { open, .. }, E::Clear) => (Self::Idle, F::Cleared(open)),
            (state @ (Self::Speaking { .. } | Self::Deciding { .. }), E::Open(_)) => (state, F::None),
        };
        *self = next;
        effect
    }

    /// The turn that is open.
    pub(crate) fn open(&self) -> Option<&OpenTurn> {
        match self {
            Self::Idle => None,
            Self::Speaking { open } | Self::Deciding { open, .. } => Some(open),
        }
    }

    /// The question to the turn model that has no answer yet.
    pub(crate) fn unanswered(&self) -> Option<PredictionId> {
        match self {
            Self::Deciding { pause, .. } => match pause.opinion {
                Opinion::Asked(id) => Some(id),
                Opinion::Unasked | Opinion::Given(_) => None,
            },
            Self::Idle | Self::Speaking { .. } => None,
        }
    }

    /// The turn that is open.
    pub(crate) fn open_mut(&mut self) -> Option<&mut OpenTurn> {
        match self {
            Self::Idle => None,
            Self::Speaking { open } | Self::Deciding { open, .. } => Some(open),
        }
    }
}

impl OpenTurn {
    fn spoken(mut self: Box<Self>, end: Samples, at: Time) -> Box<Self> {
        if end > self.speech_end {
            self.speech_end = end;
            self.spoke_until = self.spoke_until.max(at);
        }
        self
    }

    /// The words so far.
    pub(crate) fn text(&self) -> &str {
        self.recognition.as_ref().map_or("", Recognition::text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::Settings;

    fn open(id: u64) -> Box<OpenTurn> {
        Box::new(OpenTurn {
            id: TurnId::new(id),
            detection: TurnDetection::Server,
            endpointing: Settings::default().endpointing,
            speech_start: Samples::new(100),
            speech_end: Samples::new(200),
            spoke_until: Time::from_millis(20),
            interrupts_from: Samples::new(100),
            recognition: None,
        })
    }

    #[test]
    fn every_cell() {
        let spoken = |end| open(1).spoken(Samples::new(end), Time::from_millis(30));
        let later = TurnEvent::Speech(Samples::new(300), Time::from_millis(30));
        let asked = Pause {
            opinion: Opinion::Asked(PredictionId::new(4)),
            ..Pause::default()
        };
        let deciding = || Turn::Deciding {
            open: open(1),
            pause: asked,
        };
        let speaking = || Turn::Speaking { open: open(1) };
        let events = || {
            [
                TurnEvent::Open(open(2)),
                later.clone(),
                TurnEvent::Silence,
                TurnEvent::End,
                TurnEvent::Clear,
            ]
        };
        let table = [
            (
                Turn::Idle,
                [
                    (Turn::Speaking { open: open(2) }, TurnEffect::Opened),
                    (Turn::Idle, TurnEffect::None),
                    (Turn::Idle, TurnEffect::None),
                    (Turn::Idle, TurnEffect::None),
                    (Turn::Idle, TurnEffect::None),
                ],
            ),
            (
                speaking(),
                [
                    (speaking(), TurnEffect::None),
                    (Turn::Speaking { open: spoken(300) }, TurnEffect::Continued),
                    (
                        Turn::Deciding {
                            open: open(1),
                            pause: Pause::default(),
                        },
                        TurnEffect::Paused,
                    ),
                    (Turn::Idle, TurnEffect::Ended(open(1))),
                    (Turn::Idle, TurnEffect::Cleared(open(1))),
                ],
            ),
            (
                deciding(),
                [
                    (deciding(), TurnEffect::None),
                    (Turn::Speaking { open: spoken(300) }, TurnEffect::Resumed),
                    (deciding(), TurnEffect::None),
                    (Turn::Idle, TurnEffect::Ended(open(1))),
                    (Turn::Idle, TurnEffect::Cleared(open(1))),
                ],
            ),
        ];
        for (state, row) in table {
            for (event, (next, effect)) in events().into_iter().zip(row) {
                let mut turn = state.clone();
                let name = format!("{turn:?} {event:?}");
                assert_eq!(turn.handle(event), effect, "{name}");
                assert_eq!(turn, next, "{name}");
            }
        }
    }

    #[test]
    fn speech_that_lies_before_what_is_known_changes_nothing() {
        let mut turn = Turn::Speaking { open: open(1) };
        turn.handle(TurnEvent::Speech(Samples::new(150), Time::from_millis(99)));
        assert_eq!(turn, Turn::Speaking { open: open(1) });
    }
}
