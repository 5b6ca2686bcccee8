//! The call: connecting, live, draining, closed.

use serde::{Deserialize, Serialize};

use crate::call::CloseReason;
use crate::time::Time;

/// Where a call stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "call", rename_all = "snake_case")]
pub(crate) enum Call {
    /// The wire is not up yet.
    Connecting,
    /// It is up.
    Live,
    /// What is open is finished, nothing new begins.
    Draining {
        /// When it is closed, finished or not.
        deadline: Time,
    },
    /// It is over.
    Closed {
        /// Why.
        reason: CloseReason,
    },
}

/// What may happen to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CallEvent {
    /// The wire is up.
    Connected,
    /// The engine is going away, at the latest at this instant.
    Drain(Time),
    /// Nothing is open: no turn, no reply, nothing owed.
    Quiet,
    /// The instant that [`Call::Draining`] names has come.
    Deadline,
    /// The client ends it.
    Bye,
    /// The wire is gone.
    Gone(CloseReason),
    /// Nothing came for too long.
    Idle,
}

/// What follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CallEffect {
    /// Nothing.
    None,
    /// The backends are to be leased.
    Open,
    /// The client is to be told that we are going away.
    GoAway,
    /// Everything ends, for this reason.
    Close(CloseReason),
}

impl Call {
    /// The one transition function of the call.
    pub(crate) fn handle(&mut self, event: CallEvent) -> CallEffect {
        use CallEvent as E;
        let close = |reason| (Self::Closed { reason }, CallEffect::Close(reason));
        let (next, effect) = match (*self, event) {
            (Self::Connecting, E::Connected) => (Self::Live, CallEffect::Open),
            // There is nobody to be told yet, and nothing to be finished.
            (Self::Connecting, E::Drain(_)) => close(CloseReason::Drained),
            (Self::Live, E::Drain(deadline)) => (Self::Draining { deadline }, CallEffect::GoAway),
            // A second announcement can only shorten the time that is left.
            (Self::Draining { deadline }, E::Drain(earlier)) if earlier < deadline => {
                (Self::Draining { deadline: earlier }, CallEffect::GoAway)
            }
            (Self::Draining { .. }, E::Quiet | E::Deadline) => close(CloseReason::Drained),
            (Self::Connecting | Self::Live | Self::Draining { .. }, E::Bye) => close(CloseReason::Bye),
            (Self::Connecting | Self::Live | Self::Draining { .. }, E::Gone(reason)) => close(reason),
            (Self::Connecting | Self::Live | Self::Draining { .. }, E::Idle) => close(CloseReason::Idle),
            (state @ (Self::Live | Self::Draining { .. }), E::Connected)
            | (state @ Self::Draining { .. }, E::Drain(_))
            | (state @ (Self::Connecting | Self::Live), E::Quiet | E::Deadline)
            | (state @ Self::Closed { .. }, _) => (state, CallEffect::None),
        };
        *self = next;
        effect
    }

    /// Whether commands and media are taken.
    pub(crate) const fn is_open(self) -> bool {
        matches!(self, Self::Live | Self::Draining { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cell() {
        use CallEffect as F;
        use CallEvent as E;
        let at = Time::from_millis;
        let draining = Call::Draining { deadline: at(50) };
        let closed = Call::Closed {
            reason: CloseReason::Bye,
        };
        let over = |reason| (Call::Closed { reason }, F::Close(reason));
        let gone = CloseReason::Disconnected;
        let events = [
            E::Connected,
            E::Drain(at(90)),
            E::Drain(at(20)),
            E::Quiet,
            E::Deadline,
            E::Bye,
            E::Gone(gone),
            E::Idle,
        ];
        let sooner = Call::Draining { deadline: at(20) };
        let table = [
            (
                Call::Connecting,
                [
                    (Call::Live, F::Open),
                    over(CloseReason::Drained),
                    over(CloseReason::Drained),
                    (Call::Connecting, F::None),
                    (Call::Connecting, F::None),
                    over(CloseReason::Bye),
                    over(gone),
                    over(CloseReason::Idle),
                ],
            ),
            (
                Call::Live,
                [
                    (Call::Live, F::None),
                    (Call::Draining { deadline: at(90) }, F::GoAway),
                    (sooner, F::GoAway),
                    (Call::Live, F::None),
                    (Call::Live, F::None),
                    over(CloseReason::Bye),
                    over(gone),
                    over(CloseReason::Idle),
                ],
            ),
            (
                draining,
                [
                    (draining, F::None),
                    (draining, F::None),
                    (sooner, F::GoAway),
                    over(CloseReason::Drained),
                    over(CloseReason::Drained),
                    over(CloseReason::Bye),
                    over(gone),
                    over(CloseReason::Idle),
                ],
            ),
            (closed, [(closed, F::None); 8]),
        ];
        for (state, row) in table {
            for (event, (next, effect)) in events.into_iter().zip(row) {
                let mut call = state;
                assert_eq!(call.handle(event), effect, "{state:?} {event:?}");
                assert_eq!(call, next, "{state:?} {event:?}");
            }
        }
    }
}
