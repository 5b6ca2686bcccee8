//! Playout: what has been asked to be played, what was sent, what was heard, and stopping it.

use serde::{Deserialize, Serialize};

use crate::id::ResponseId;
use crate::session::PlayoutEvent;
use crate::time::{Samples, Time};

/// Where the audio of the session's replies stands. At most one response is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "playout", rename_all = "snake_case")]
pub(crate) enum Playout {
    /// Nothing is played.
    Silent,
    /// It was asked for; no frame has been given to the wire.
    Asked {
        /// Whose audio.
        response: ResponseId,
    },
    /// It is heard, or about to be.
    Playing {
        /// Whose audio.
        response: ResponseId,
        /// Heard up to here.
        heard: Samples,
        /// When `heard` was last told.
        told: Time,
    },
    /// It was asked to stop, and the wire has not said yet how much was heard.
    Stopping {
        /// Whose audio.
        response: ResponseId,
        /// Heard up to here, as far as is known.
        heard: Samples,
        /// Whether a frame had been given to the wire.
        started: bool,
        /// When we stop waiting for the answer.
        deadline: Time,
    },
}

/// What may happen to playout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PlayoutInput {
    /// Audio of this response lies ready.
    Play(ResponseId),
    /// The audio is to stop; the answer is waited for until this instant.
    Stop(Time),
    /// The wire said this of a response, at this instant.
    Told(ResponseId, PlayoutEvent, Time),
    /// The wire has not answered in time; what is known must do.
    GiveUp,
}

/// What follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PlayoutEffect {
    /// Nothing.
    None,
    /// Playing is to be asked for.
    Play(ResponseId),
    /// Its first frame has left.
    Started(ResponseId),
    /// It has been heard up to here.
    Heard(ResponseId, Samples),
    /// All of it was heard.
    Finished {
        /// Whose audio.
        response: ResponseId,
        /// All of it.
        heard: Samples,
        /// Whether its first frame had been reported.
        started: bool,
    },
    /// Stopping is to be asked for.
    Stop(ResponseId),
    /// It has stopped.
    Stopped {
        /// Whose audio.
        response: ResponseId,
        /// Given to the wire.
        sent: Samples,
        /// Heard.
        heard: Samples,
        /// Whether its first frame had been reported.
        started: bool,
    },
    /// It is about something that is over.
    Stale,
}

impl Playout {
    /// The one transition function of playout.
    pub(crate) fn handle(&mut self, input: PlayoutInput) -> PlayoutEffect {
        use PlayoutEffect as F;
        use PlayoutEvent as E;
        use PlayoutInput as I;
        let (next, effect) = match (*self, input) {
            (Self::Silent, I::Play(response)) => (Self::Asked { response }, F::Play(response)),
            (state @ Self::Silent, I::Stop(_) | I::GiveUp) => (state, F::None),
            (state @ Self::Silent, I::Told(..)) => (state, F::Stale),

            (Self::Asked { response }, I::Stop(deadline)) => (
                Self::Stopping {
                    response,
                    heard: Samples::ZERO,
                    started: false,
                    deadline,
                },
                F::Stop(response),
            ),
            (Self::Asked { response }, I::Told(whose, event, now)) if whose == response => match event {
                E::Started => (
                    Self::Playing {
                        response,
                        heard: Samples::ZERO,
                        told: now,
                    },
                    F::Started(response),
                ),
                E::Finished { heard } => (
                    Self::Silent,
                    F::Finished {
                        response,
                        heard,
                        started: false,
                    },
                ),
                // Nothing can have been heard of what was not begun.
                E::Heard { .. } | E::Underrun { .. } | E::Stopped { .. } => (Self::Asked { response }, F::Stale),
            },
            (Self::Asked { response }, I::GiveUp) => (
                Self::Silent,
                F::Finished {
                    response,
                    heard: Samples::ZERO,
                    started: false,
                },
            ),

            (Self::Playing { response, heard, .. }, I::Stop(deadline)) => (
                Self::Stopping {
                    response,
                    heard,
                    started: true,
                    deadline,
                },
                F::Stop(response),
            ),
            (Self::Playing { response, heard, told }, I::Told(whose, event, now)) if whose == response => match event {
                E::Heard { until } | E::Underrun { at: until } => {
                    let heard = heard.max(until);
                    (
                        Self::Playing {
                            response,
                            heard,
                            told: now,
                        },
                        F::Heard(response, heard),
                    )
                }
                E::Finished { heard: all } => (
                    Self::Silent,
                    F::Finished {
                        response,
                        heard: heard.max(all),
                        started: true,
                    },
                ),
                E::Started | E::Stopped { .. } => (Self::Playing { response, heard, told }, F::Stale),
            },
            (Self::Playing { response, heard, .. }, I::GiveUp) => (
                Self::Silent,
                F::Finished {
                    response,
                    heard,
                    started: true,
                },
            ),

            (
                Self::Stopping {
                    response,
                    heard,
                    started,
                    deadline,
                },
                I::Told(whose, event, _),
            ) if whose == response => match event {
                E::Stopped { sent, heard: all } => (
                    Self::Silent,
                    F::Stopped {
                        response,
                        sent: sent.max(heard),
                        heard: heard.max(all),
                        started,
                    },
                ),
                // It came to its end before the wish to stop it arrived.
                E::Finished { heard: all } => (
                    Self::Silent,
                    F::Stopped {
                        response,
                        sent: heard.max(all),
                        heard: heard.max(all),
                        started,
                    },
                ),
                E::Started => (
                    Self::Stopping {
                        response,
                        heard,
                        started: true,
                        deadline,
                    },
                    if started { F::Stale } else { F::Started(response) },
                ),
                E::Heard { until } | E::Underrun { at: until } => (
                    Self::Stopping {
                        response,
                        heard: heard.max(until),
                        started,
                        deadline,
                    },
                    F::None,
                ),
            },
            (
                Self::Stopping {
                    response,
                    heard,
                    started,
                    ..
                },
                I::GiveUp,
            ) => (
                Self::Silent,
                F::Stopped {
                    response,
                    sent: heard,
                    heard,
                    started,
                },
            ),
            (state @ Self::Stopping { .. }, I::Stop(_)) => (state, F::None),

            // One at a time: whoever asks must have ended the one before.
            (state @ (Self::Asked { .. } | Self::Playing { .. } | Self::Stopping { .. }), I::Play(_)) => {
                (state, F::None)
            }
            (state @ (Self::Asked { .. } | Self::Playing { .. } | Self::Stopping { .. }), I::Told(..)) => {
                (state, F::Stale)
            }
        };
        *self = next;
        effect
    }

    /// Whose audio is in it.
    pub(crate) const fn response(self) -> Option<ResponseId> {
        match self {
            Self::Silent => None,
            Self::Asked { response } | Self::Playing { response, .. } | Self::Stopping { response, .. } => {
                Some(response)
            }
        }
    }

    /// How much of it has been heard, as far as is known.
    pub(crate) const fn heard(self) -> Samples {
        match self {
            Self::Silent | Self::Asked { .. } => Samples::ZERO,
            Self::Playing { heard, .. } | Self::Stopping { heard, .. } => heard,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes a cell of the table in few words.
    fn cell(mut state: Playout, input: PlayoutInput) -> String {
        let effect = state.handle(input);
        let state = match state {
            Playout::Silent => "silent".to_owned(),
            Playout::Asked { .. } => "asked".to_owned(),
            Playout::Playing { heard, .. } => format!("playing({})", heard.count()),
            Playout::Stopping { heard, started, .. } => {
                format!(
                    "stopping({}, {})",
                    heard.count(),
                    if started { "started" } else { "unheard" }
                )
            }
        };
        let effect = match effect {
            PlayoutEffect::None => "-".to_owned(),
            PlayoutEffect::Play(_) => "play".to_owned(),
            PlayoutEffect::Started(_) => "started".to_owned(),
            PlayoutEffect::Heard(_, heard) => format!("heard {}", heard.count()),
            PlayoutEffect::Finished { heard, started, .. } => format!("finished {} {started}", heard.count()),
            PlayoutEffect::Stop(_) => "stop".to_owned(),
            PlayoutEffect::Stopped {
                sent, heard, started, ..
            } => {
                format!("stopped {} of {} {started}", heard.count(), sent.count())
            }
            PlayoutEffect::Stale => "stale".to_owned(),
        };
        format!("{state}: {effect}")
    }

    #[test]
    fn every_cell() {
        use PlayoutEvent as E;
        use PlayoutInput as I;
        let (ours, other) = (ResponseId::new(1), ResponseId::new(2));
        let at = Time::from_millis(9);
        let count = Samples::new;
        let told = |event| I::Told(ours, event, at);
        let inputs = [
            I::Play(ours),
            I::Stop(at),
            I::GiveUp,
            told(E::Started),
            told(E::Heard { until: count(30) }),
            told(E::Heard { until: count(10) }),
            told(E::Underrun { at: count(40) }),
            told(E::Finished { heard: count(50) }),
            told(E::Stopped {
                sent: count(45),
                heard: count(35),
            }),
            I::Told(other, E::Started, at),
            I::Told(other, E::Finished { heard: count(7) }, at),
        ];
        let table = [
            (
                Playout::Silent,
                [
                    "asked: play",
                    "silent: -",
                    "silent: -",
                    "silent: stale",
                    "silent: stale",
                    "silent: stale",
                    "silent: stale",
                    "silent: stale",
                    "silent: stale",
                    "silent: stale",
                    "silent: stale",
                ],
            ),
            (
                Playout::Asked { response: ours },
                [
                    "asked: -",
                    "stopping(0, unheard): stop",
                    "silent: finished 0 false",
                    "playing(0): started",
                    "asked: stale",
                    "asked: stale",
                    "asked: stale",
                    "silent: finished 50 false",
                    "asked: stale",
                    "asked: stale",
                    "asked: stale",
                ],
            ),
            (
                Playout::Playing {
                    response: ours,
                    heard: count(20),
                    told: Time::ZERO,
                },
                [
                    "playing(20): -",
                    "stopping(20, started): stop",
                    "silent: finished 20 true",
                    "playing(20): stale",
                    "playing(30): heard 30",
                    "playing(20): heard 20",
                    "playing(40): heard 40",
                    "silent: finished 50 true",
                    "playing(20): stale",
                    "playing(20): stale",
                    "playing(20): stale",
                ],
            ),
            (
                Playout::Stopping {
                    response: ours,
                    heard: count(20),
                    started: true,
                    deadline: at,
                },
                [
                    "stopping(20, started): -",
                    "stopping(20, started): -",
                    "silent: stopped 20 of 20 true",
                    "stopping(20, started): stale",
                    "stopping(30, started): -",
                    "stopping(20, started): -",
                    "stopping(40, started): -",
                    "silent: stopped 50 of 50 true",
                    "silent: stopped 35 of 45 true",
                    "stopping(20, started): stale",
                    "stopping(20, started): stale",
                ],
            ),
        ];
        for (state, row) in table {
            for (input, expected) in inputs.into_iter().zip(row) {
                assert_eq!(cell(state, input), expected, "{state:?} {input:?}");
            }
        }
        let unheard = Playout::Stopping {
            response: ours,
            heard: Samples::ZERO,
            started: false,
            deadline: at,
        };
        assert_eq!(cell(unheard, told(E::Started)), "stopping(0, started): started");
        assert_eq!(cell(unheard, I::GiveUp), "silent: stopped 0 of 0 false");
    }
}
