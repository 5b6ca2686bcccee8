//! A switch as a transaction: resolved, checked, loaded, verified, swapped. Whatever fails leaves what served before serving; where that was
//! stopped to make room, it is loaded again. Pure: [`super::switchboard`] does what is wanted here, and tells what came of it.

use crate::call::{SwitchFailure, SwitchStage};

/// Where a switch stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Switch {
    /// It is found out what the request means.
    Resolving {
        /// The old one may be stopped first.
        replace: bool,
    },
    /// What was asked for is being loaded.
    Loading {
        /// The old one was stopped to make room.
        vacated: bool,
    },
    /// It does a piece of its work, to prove that it can.
    Verifying {
        /// See `Loading`.
        vacated: bool,
    },
    /// The old one, which was stopped, is being loaded again.
    Restoring {
        /// Why the new one isn't used.
        failure: SwitchFailure,
    },
    /// It is over.
    Over,
}

/// What may happen to a switch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SwitchEvent {
    /// The request means something that this machine can load.
    Resolved {
        /// The memory that it needs, where that is known.
        need: Option<u64>,
        /// What is free.
        free: Option<u64>,
        /// What would be free as well if the old one were stopped.
        held: u64,
    },
    /// What serves is already what was asked for, or is loaded for somebody else.
    AlreadyLoaded,
    /// It is loaded.
    Loaded,
    /// It did its work.
    Verified,
    /// It went wrong, at this stage.
    Failed(SwitchFailure),
    /// Whoever asked doesn't want it any more.
    Cancelled,
    /// The old one serves again, or can't.
    Restored {
        /// Why not.
        problem: Option<String>,
    },
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SwitchEffect {
    /// Stop the old one; those that it serves wait.
    Vacate,
    /// Load what was asked for.
    Load,
    /// Have it do a piece of its work.
    Verify,
    /// Let it serve.
    Swap,
    /// Let go of what was loaded.
    Drop,
    /// Load the old one again.
    Restore,
    /// Tell that it wasn't made.
    Fail(SwitchFailure),
}

const GIB: f64 = 1_073_741_824.0;

impl Switch {
    /// A switch that begins.
    pub(crate) const fn new(replace: bool) -> Self {
        Self::Resolving { replace }
    }

    /// Whether nothing more is to be done.
    #[cfg(test)]
    fn is_over(&self) -> bool {
        *self == Self::Over
    }

    /// The one transition function of a switch. Effects are done in their order.
    pub(crate) fn handle(&mut self, event: SwitchEvent) -> Vec<SwitchEffect> {
        use SwitchEffect as F;
        use SwitchEvent as E;
        let state = std::mem::replace(self, Self::Over);
        let (next, effects) = match (state, event) {
            (Self::Resolving { replace }, E::Resolved { need, free, held }) => match room(need, free, held) {
                Room::Enough => (Self::Loading { vacated: false }, vec![F::Load]),
                Room::WithoutTheOld(_) if replace => (Self::Loading { vacated: true }, vec![F::Vacate, F::Load]),
                Room::WithoutTheOld(failure) | Room::Never(failure) => (Self::Over, vec![F::Fail(failure)]),
            },
            (Self::Resolving { .. }, E::AlreadyLoaded) => (Self::Verifying { vacated: false }, vec![F::Verify]),
            (Self::Resolving { .. }, E::Failed(failure)) => (Self::Over, vec![F::Fail(failure)]),
            (Self::Resolving { .. }, E::Cancelled) => (Self::Over, vec![F::Fail(cancelled())]),
            (Self::Loading { vacated }, E::Loaded) => (Self::Verifying { vacated }, vec![F::Verify]),
            (Self::Verifying { .. }, E::Verified) => (Self::Over, vec![F::Swap]),
            (Self::Loading { vacated } | Self::Verifying { vacated }, E::Failed(failure)) => back(vacated, failure),
            (Self::Loading { vacated } | Self::Verifying { vacated }, E::Cancelled) => back(vacated, cancelled()),
            (Self::Restoring { mut failure }, E::Restored { problem }) => {
                if let Some(problem) = problem {
                    failure
                        .reason
                        .push_str("; what served before couldn't be loaded again: ");
                    failure.reason.push_str(&problem);
                }
                (Self::Over, vec![F::Fail(failure)])
            }
            // What comes too late, or twice.
            (state, _) => (state, Vec::new()),
        };
        *self = next;
        effects
    }
}

/// What was loaded is let go of, and what served before serves on, or again.
fn back(vacated: bool, failure: SwitchFailure) -> (Switch, Vec<SwitchEffect>) {
    if vacated {
        let effects = vec![SwitchEffect::Drop, SwitchEffect::Restore];
        (Switch::Restoring { failure }, effects)
    } else {
        (Switch::Over, vec![SwitchEffect::Drop, SwitchEffect::Fail(failure)])
    }
}

fn cancelled() -> SwitchFailure {
    SwitchFailure::new(SwitchStage::Cancelled, "it was called off")
}

/// Whether a model fits into memory.
enum Room {
    /// Beside what serves, as far as is known.
    Enough,
    /// Only when that is stopped first.
    WithoutTheOld(SwitchFailure),
    /// Not even then.
    Never(SwitchFailure),
}

fn room(need: Option<u64>, free: Option<u64>, held: u64) -> Room {
    let (Some(need), Some(free)) = (need, free) else {
        return Room::Enough;
    };
    if need <= free {
        return Room::Enough;
    }
    let gib = |bytes: u64| bytes as f64 / GIB;
    let mut failure = SwitchFailure::new(
        SwitchStage::Check,
        format!("it needs {:.1} GiB of memory, {:.1} are free", gib(need), gib(free)),
    );
    if need <= free.saturating_add(held) {
        let more = "; with replace = true what serves now is stopped first, which makes room";
        failure.reason.push_str(more);
        failure.replace_may_help = true;
        Room::WithoutTheOld(failure)
    } else {
        Room::Never(failure)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use SwitchEffect as F;
    use SwitchEvent as E;

    fn failure() -> SwitchFailure {
        SwitchFailure::new(SwitchStage::Load, "the file is broken")
    }

    fn resolved(need: u64, free: u64, held: u64) -> E {
        E::Resolved {
            need: Some(need),
            free: Some(free),
            held,
        }
    }

    /// What a switch wants after these events, effect by effect.
    fn wanted(replace: bool, events: &[E]) -> (Switch, Vec<F>) {
        let mut switch = Switch::new(replace);
        let effects = events.iter().flat_map(|event| switch.handle(event.clone())).collect();
        (switch, effects)
    }

    #[test]
    fn every_way() {
        let gib = 1 << 30;
        let fits = resolved(gib, 2 * gib, 0);
        let tight = resolved(3 * gib, 2 * gib, 2 * gib);
        let rows: Vec<(bool, Vec<E>, Vec<F>)> = vec![
            (
                false,
                vec![fits.clone(), E::Loaded, E::Verified],
                vec![F::Load, F::Verify, F::Swap],
            ),
            (false, vec![E::AlreadyLoaded, E::Verified], vec![F::Verify, F::Swap]),
            (false, vec![E::Failed(failure())], vec![F::Fail(failure())]),
            (
                false,
                vec![fits.clone(), E::Failed(failure())],
                vec![F::Load, F::Drop, F::Fail(failure())],
            ),
            (
                false,
                vec![fits.clone(), E::Loaded, E::Failed(failure())],
                vec![F::Load, F::Verify, F::Drop, F::Fail(failure())],
            ),
            (
                false,
                vec![fits.clone(), E::Cancelled],
                vec![F::Load, F::Drop, F::Fail(cancelled())],
            ),
            (
                true,
                vec![tight.clone(), E::Loaded, E::Verified],
                vec![F::Vacate, F::Load, F::Verify, F::Swap],
            ),
            // Room for both: nothing is stopped, although it might be.
            (
                true,
                vec![fits.clone(), E::Loaded, E::Verified],
                vec![F::Load, F::Verify, F::Swap],
            ),
            (
                true,
                vec![
                    tight.clone(),
                    E::Loaded,
                    E::Failed(failure()),
                    E::Restored { problem: None },
                ],
                vec![F::Vacate, F::Load, F::Verify, F::Drop, F::Restore, F::Fail(failure())],
            ),
            // What comes too late changes nothing.
            (
                false,
                vec![fits, E::Cancelled, E::Loaded, E::Verified, E::Failed(failure())],
                vec![F::Load, F::Drop, F::Fail(cancelled())],
            ),
        ];
        for (replace, events, effects) in rows {
            let (switch, seen) = wanted(replace, &events);
            assert_eq!(seen, effects, "{events:?}");
            assert!(switch.is_over(), "{events:?}");
        }
    }

    #[test]
    fn memory_that_does_not_hold_both_is_told_with_numbers() {
        let gib = 1 << 30;
        let (_, effects) = wanted(false, &[resolved(5 * gib, 3 * gib, 4 * gib)]);
        let [F::Fail(failure)] = effects.as_slice() else {
            panic!("{effects:?}")
        };
        assert_eq!(failure.stage, SwitchStage::Check);
        assert!(failure.replace_may_help);
        assert!(
            failure.reason.contains("needs 5.0 GiB of memory, 3.0 are free"),
            "{failure:?}"
        );
        let (_, effects) = wanted(true, &[resolved(9 * gib, 3 * gib, 4 * gib)]);
        assert!(
            matches!(effects.as_slice(), [F::Fail(failure)] if !failure.replace_may_help),
            "{effects:?}"
        );
    }

    #[test]
    fn what_could_not_be_restored_is_told_too() {
        let gib = 1 << 30;
        let events = [
            resolved(3 * gib, 2 * gib, 2 * gib),
            E::Failed(failure()),
            E::Restored {
                problem: Some("the disk is gone".to_owned()),
            },
        ];
        let (_, effects) = wanted(true, &events);
        let Some(F::Fail(failure)) = effects.last() else {
            panic!("{effects:?}")
        };
        assert!(
            failure.reason.contains("the file is broken") && failure.reason.contains("the disk is gone"),
            "{failure:?}"
        );
    }

    /// Whatever comes in whatever order: at most one swap or failure ends it, a stopped one is never left stopped, and what was loaded is
    /// swapped in or dropped.
    #[test]
    fn no_sequence_of_events_leaves_it_half_done() {
        let gib = 1 << 30;
        let events = [
            resolved(gib, 2 * gib, 0),
            resolved(3 * gib, 2 * gib, 2 * gib),
            E::AlreadyLoaded,
            E::Loaded,
            E::Verified,
            E::Failed(failure()),
            E::Cancelled,
            E::Restored { problem: None },
        ];
        let count = events.len();
        // All sequences of five.
        for code in 0..count.pow(5) {
            for replace in [false, true] {
                let mut switch = Switch::new(replace);
                let (mut ends, mut vacated, mut loaded) = (0, false, false);
                for place in 0..5 {
                    for effect in switch.handle(events[code / count.pow(place) % count].clone()) {
                        assert_eq!(ends, 0, "nothing follows the end");
                        match effect {
                            F::Vacate => vacated = true,
                            F::Load => loaded = true,
                            F::Verify => {}
                            F::Swap => {
                                (ends, vacated, loaded) = (ends + 1, false, false);
                            }
                            F::Drop => loaded = false,
                            F::Restore => vacated = false,
                            F::Fail(_) => ends += 1,
                        }
                    }
                }
                assert_eq!(ends == 1, switch.is_over(), "it ends exactly once");
                assert!(!switch.is_over() || (!vacated && !loaded), "nothing is left over");
            }
        }
    }
}
