//! One response: prepared, live, and exactly one terminal.

use serde::{Deserialize, Serialize};

use crate::call::ResponseStatus;

/// Where a response stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "response", rename_all = "snake_case")]
pub(crate) enum Response {
    /// Prepared on a guess that the turn has ended. Nothing of it may leave, whatever the model says.
    Held,
    /// Asked for; nothing of it has come yet.
    Prepared,
    /// The client knows of it.
    Live,
    /// Its audio is being stopped; how much was heard isn't known yet.
    Stopping {
        /// How it will have ended.
        status: ResponseStatus,
    },
    /// It is over.
    Over {
        /// How it ended.
        status: ResponseStatus,
    },
}

/// What may happen to a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ResponseEvent {
    /// The model said something, or wants a tool.
    Content,
    /// The guess was right: the turn has ended with the words that this was prepared for.
    Promote {
        /// Whether content has come already.
        content: bool,
    },
    /// It is to end early.
    Stop {
        /// Why.
        status: ResponseStatus,
        /// Whether its audio is being played, and must be stopped first.
        playing: bool,
    },
    /// Its audio has been stopped.
    Stopped,
    /// Nothing of it is left to be done.
    Finish {
        /// How it went.
        status: ResponseStatus,
    },
}

/// What follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ResponseEffect {
    /// Nothing.
    None,
    /// The client is to be told that it began.
    Announce,
    /// It is forgotten as if it had never been.
    Forget,
    /// Its audio is to be stopped.
    Silence,
    /// The client is to be told that it began and that it ended so: it failed before it had said anything.
    AnnounceAndEnd(ResponseStatus),
    /// The client is to be told how it ended.
    End(ResponseStatus),
}

impl Response {
    /// The one transition function of a response.
    pub(crate) fn handle(&mut self, event: ResponseEvent) -> ResponseEffect {
        use ResponseEffect as F;
        use ResponseEvent as E;
        let over = |status, effect| (Self::Over { status }, effect);
        let (next, effect) = match (*self, event) {
            (Self::Held, E::Content) => (Self::Held, F::None),
            (Self::Held, E::Promote { content: true }) => (Self::Live, F::Announce),
            (Self::Held, E::Promote { content: false }) => (Self::Prepared, F::None),
            (Self::Held, E::Stop { status, .. }) => over(status, F::Forget),
            // All its words are there, but it is not known yet whether they are wanted.
            (Self::Held, E::Finish { .. }) => (Self::Held, F::None),
            (Self::Prepared, E::Content) => (Self::Live, F::Announce),
            (Self::Prepared, E::Stop { status, .. } | E::Finish { status }) => match status {
                ResponseStatus::Failed | ResponseStatus::Completed => over(status, F::AnnounceAndEnd(status)),
                ResponseStatus::Interrupted | ResponseStatus::Cancelled => over(status, F::Forget),
            },
            (Self::Live, E::Stop { status, playing: true }) => (Self::Stopping { status }, F::Silence),
            (Self::Live, E::Stop { status, playing: false } | E::Finish { status }) => over(status, F::End(status)),
            (Self::Stopping { status }, E::Stopped) => over(status, F::End(status)),
            (state @ (Self::Held | Self::Prepared), E::Stopped)
            | (state @ Self::Prepared, E::Promote { .. })
            | (state @ Self::Live, E::Content | E::Promote { .. } | E::Stopped)
            | (state @ Self::Stopping { .. }, E::Content | E::Promote { .. } | E::Stop { .. } | E::Finish { .. })
            | (state @ Self::Over { .. }, _) => (state, F::None),
        };
        *self = next;
        effect
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ResponseEffect as F;
    use ResponseEvent as E;
    use ResponseStatus::{Cancelled, Completed, Failed, Interrupted};

    #[test]
    fn every_cell() {
        let events = [
            E::Content,
            E::Promote { content: true },
            E::Promote { content: false },
            E::Stop {
                status: Interrupted,
                playing: true,
            },
            E::Stop {
                status: Cancelled,
                playing: false,
            },
            E::Stop {
                status: Failed,
                playing: false,
            },
            E::Stopped,
            E::Finish { status: Completed },
            E::Finish { status: Failed },
        ];
        let over = |status| Response::Over { status };
        let held = (Response::Held, F::None);
        let live = (Response::Live, F::None);
        let prepared = (Response::Prepared, F::None);
        let stopping = Response::Stopping { status: Interrupted };
        let same = (stopping, F::None);
        let table = [
            (
                Response::Held,
                [
                    held,
                    (Response::Live, F::Announce),
                    prepared,
                    (over(Interrupted), F::Forget),
                    (over(Cancelled), F::Forget),
                    (over(Failed), F::Forget),
                    held,
                    held,
                    held,
                ],
            ),
            (
                Response::Prepared,
                [
                    (Response::Live, F::Announce),
                    prepared,
                    prepared,
                    (over(Interrupted), F::Forget),
                    (over(Cancelled), F::Forget),
                    (over(Failed), F::AnnounceAndEnd(Failed)),
                    prepared,
                    (over(Completed), F::AnnounceAndEnd(Completed)),
                    (over(Failed), F::AnnounceAndEnd(Failed)),
                ],
            ),
            (
                Response::Live,
                [
                    live,
                    live,
                    live,
                    (stopping, F::Silence),
                    (over(Cancelled), F::End(Cancelled)),
                    (over(Failed), F::End(Failed)),
                    live,
                    (over(Completed), F::End(Completed)),
                    (over(Failed), F::End(Failed)),
                ],
            ),
            (
                stopping,
                [
                    same,
                    same,
                    same,
                    same,
                    same,
                    same,
                    (over(Interrupted), F::End(Interrupted)),
                    same,
                    same,
                ],
            ),
            (over(Completed), [(over(Completed), F::None); 9]),
        ];
        for (state, row) in table {
            for (event, (next, effect)) in events.into_iter().zip(row) {
                let mut response = state;
                assert_eq!(response.handle(event), effect, "{state:?} {event:?}");
                assert_eq!(response, next, "{state:?} {event:?}");
            }
        }
    }
}
