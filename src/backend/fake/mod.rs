//! Scripted fakes: backends that do as they are told, for tests, examples and benches.
//!
//! They are not recognisers, models or voices, and no server uses them unless somebody says so. They answer at once, or
//! after a wait on a clock that the caller supplies ([`Clock`]), so that a test in virtual time stays in virtual time.
//! They can be made to fail in each way that a real one fails ([`Fault`], [`Control::kill`]), and they count what was
//! asked of them ([`Counts`]).

mod llm;
mod stt;
mod tts;
mod vad;

pub use llm::ScriptedLlm;
pub use stt::ScriptedStt;
pub use tts::{ScriptedTts, Sound};
pub use vad::{ScriptedTurn, ScriptedVad};

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::{Capabilities, OpenError};
use crate::call::{BackendKind, StageFailure};
use crate::id::Generation;

/// A wait that has begun.
pub type Sleep = Pin<Box<dyn Future<Output = ()> + Send>>;

/// How a fake waits. The floor of backends knows no runtime, so whoever builds a slow fake brings one:
/// `Clock::new(|wait| Box::pin(tokio::time::sleep(wait)))`.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn(Duration) -> Sleep + Send + Sync>);

impl Clock {
    /// A clock whose waits `sleep` begins.
    pub fn new(sleep: impl Fn(Duration) -> Sleep + Send + Sync + 'static) -> Self {
        Self(Arc::new(sleep))
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Clock")
    }
}

/// When a fake's events come.
#[derive(Clone, Debug, Default)]
pub struct Pace {
    clock: Option<Clock>,
    first: Duration,
    each: Duration,
}

impl Pace {
    /// At once.
    #[must_use]
    pub const fn instant() -> Self {
        Self {
            clock: None,
            first: Duration::ZERO,
            each: Duration::ZERO,
        }
    }

    /// The first `first` after the stream was first polled, each further one `each` after the one before.
    #[must_use]
    pub const fn new(clock: Clock, first: Duration, each: Duration) -> Self {
        Self {
            clock: Some(clock),
            first,
            each,
        }
    }
}

/// How a stream goes wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    /// It doesn't.
    #[default]
    None,
    /// It isn't opened: all places are taken.
    Busy,
    /// It isn't opened: the backend is not running.
    Lost,
    /// It isn't opened, and never will be.
    Unsupported,
    /// It fails after so many events, in a way that may pass.
    DieAfter(u32),
    /// It fails after so many events, in a way that won't pass.
    RefuseAfter(u32),
    /// After so many events nothing comes any more.
    HangAfter(u32),
}

/// What was asked of a fake until now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Streams that were opened.
    pub opened: u64,
    /// Streams that were refused.
    pub refused: u64,
    /// Streams that gave their last event.
    pub finished: u64,
    /// Streams that failed.
    pub failed: u64,
    /// Streams that were dropped before their last event.
    pub cancelled: u64,
}

impl Counts {
    /// Streams that are open.
    #[must_use]
    pub const fn live(&self) -> u64 {
        self.opened - self.finished - self.failed - self.cancelled
    }
}

/// The strings of a fake: makes it fail, and tells what was asked of it. Clones pull the same strings.
#[derive(Clone)]
pub struct Control {
    shared: Arc<Shared>,
}

impl Control {
    /// What was asked until now.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.shared.state().counts
    }

    /// All streams that are opened from now on go wrong in this way, unless [`fail_next`](Self::fail_next) says
    /// otherwise.
    pub fn fail_all(&self, fault: Fault) {
        self.shared.state().fault = fault;
    }

    /// The next stream goes wrong in this way; called again, the one after it, and so on.
    pub fn fail_next(&self, fault: Fault) {
        self.shared.state().queued.push_back(fault);
    }

    /// The backend dies: open streams fail, in a way that may pass, and none is opened until [`revive`](Self::revive).
    pub fn kill(&self) {
        let slots: Vec<_> = {
            let mut state = self.shared.state();
            state.dead = true;
            state.deaths += 1;
            state.slots.values().cloned().collect()
        };
        for slot in slots {
            slot.wake();
        }
    }

    /// The backend runs again.
    pub fn revive(&self) {
        self.shared.state().dead = false;
    }
}

impl fmt::Debug for Control {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Control")
            .field("backend", &self.shared.capabilities.name)
            .field("counts", &self.counts())
            .finish()
    }
}

/// What a fake and its streams share.
struct Shared {
    capabilities: Capabilities,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    counts: Counts,
    fault: Fault,
    queued: VecDeque<Fault>,
    dead: bool,
    deaths: u64,
    /// The wakers of the open streams, so that a death is noticed at once.
    slots: BTreeMap<u64, Arc<Slot>>,
}

impl Shared {
    fn new(kind: BackendKind, name: &str) -> Arc<Self> {
        Arc::new(Self {
            capabilities: Capabilities {
                streaming: true,
                ..Capabilities::new(kind, name, "script", Generation::new(1))
            },
            state: Mutex::new(State::default()),
        })
    }

    /// Nothing panics while it holds this lock, and counters can't be half right: a poisoned lock is as good as new.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a stream, or refuses it as the script says.
    fn open(self: &Arc<Self>) -> Result<Ticket, OpenError> {
        let mut state = self.state();
        let fault = state.queued.pop_front().unwrap_or(state.fault);
        let backend = self.capabilities.name.clone();
        let refusal = match fault {
            _ if state.dead => Some(OpenError::Lost {
                backend,
                reason: DEATH.to_owned(),
            }),
            Fault::Lost => Some(OpenError::Lost {
                backend,
                reason: "the script says that it is not running".to_owned(),
            }),
            Fault::Busy => Some(OpenError::Busy {
                backend,
                reason: "the script says that all places are taken".to_owned(),
            }),
            Fault::Unsupported => Some(OpenError::Unsupported {
                backend,
                reason: "the script says that it can't".to_owned(),
            }),
            Fault::None | Fault::DieAfter(_) | Fault::RefuseAfter(_) | Fault::HangAfter(_) => None,
        };
        if let Some(refusal) = refusal {
            state.counts.refused += 1;
            return Err(refusal);
        }
        state.counts.opened += 1;
        let number = state.counts.opened;
        let slot = Arc::new(Slot::default());
        state.slots.insert(number, Arc::clone(&slot));
        Ok(Ticket {
            shared: Arc::clone(self),
            number,
            slot,
            deaths: state.deaths,
            fault,
            given: 0,
            over: false,
            sleep: None,
        })
    }
}

const DEATH: &str = "the script killed it";

/// The waker of a stream's last poll.
#[derive(Default)]
struct Slot(Mutex<Option<Waker>>);

impl Slot {
    fn store(&self, waker: &Waker) {
        let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match slot.as_mut() {
            Some(kept) => kept.clone_from(waker),
            None => *slot = Some(waker.clone()),
        }
    }

    fn wake(&self) {
        let waker = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// One open stream, as far as all fakes are alike.
struct Ticket {
    shared: Arc<Shared>,
    /// Counted from 1.
    number: u64,
    slot: Arc<Slot>,
    deaths: u64,
    fault: Fault,
    given: u32,
    over: bool,
    sleep: Option<Sleep>,
}

impl Ticket {
    /// Remembers who polls, and says whether the next event may come: `Pending` while the script says to wait or hang,
    /// a failure when it says to fail.
    fn poll_pass(&mut self, context: &mut Context<'_>, pace: &Pace) -> Poll<Result<(), StageFailure>> {
        // The waker is stored before the look at the state: a death in between wakes it.
        self.slot.store(context.waker());
        if let Some(failure) = self.failure() {
            self.over = true;
            let mut state = self.shared.state();
            state.counts.failed += 1;
            state.slots.remove(&self.number);
            return Poll::Ready(Err(failure));
        }
        if matches!(self.fault, Fault::HangAfter(events) if self.given >= events) {
            return Poll::Pending;
        }
        self.poll_sleep(context, pace).map(Ok)
    }

    fn failure(&self) -> Option<StageFailure> {
        let (reason, retry) = match self.fault {
            _ if self.shared.state().deaths != self.deaths => (DEATH, true),
            Fault::DieAfter(events) if self.given >= events => ("the script says that it dies here", true),
            Fault::RefuseAfter(events) if self.given >= events => ("the script says that it gives up here", false),
            _ => return None,
        };
        Some(StageFailure {
            backend: self.shared.capabilities.name.clone(),
            reason: reason.to_owned(),
            retry,
            retry_after_ms: 0,
        })
    }

    fn poll_sleep(&mut self, context: &mut Context<'_>, pace: &Pace) -> Poll<()> {
        let Some(clock) = &pace.clock else {
            return Poll::Ready(());
        };
        let wait = if self.given == 0 { pace.first } else { pace.each };
        if wait.is_zero() {
            return Poll::Ready(());
        }
        let sleep = self.sleep.get_or_insert_with(|| (clock.0)(wait));
        match sleep.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(()),
            Poll::Pending => Poll::Pending,
        }
    }

    /// An event was given.
    fn gave(&mut self) {
        self.given += 1;
        self.sleep = None;
    }

    /// The last event was given.
    fn finished(&mut self) {
        self.gave();
        self.over = true;
        let mut state = self.shared.state();
        state.counts.finished += 1;
        state.slots.remove(&self.number);
    }

    fn wake(&self) {
        self.slot.wake();
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.over {
            let mut state = self.shared.state();
            state.counts.cancelled += 1;
            state.slots.remove(&self.number);
        }
    }
}

/// How many requests a fake remembers for [`ScriptedStt::heard`], [`ScriptedLlm::prompts`] and
/// [`ScriptedTts::spoken`]; the oldest are forgotten, so that a bench may run for hours.
pub const REMEMBERED: usize = 1024;

/// The newest [`REMEMBERED`] of something.
struct Memory<T>(Mutex<VecDeque<T>>);

impl<T> Default for Memory<T> {
    fn default() -> Self {
        Self(Mutex::new(VecDeque::new()))
    }
}

impl<T: Clone> Memory<T> {
    fn push(&self, item: T) {
        let mut items = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if items.len() == REMEMBERED {
            items.pop_front();
        }
        items.push_back(item);
    }

    fn all(&self) -> Vec<T> {
        let items = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        items.iter().cloned().collect()
    }
}

/// What the builders of all fakes have in common.
macro_rules! common {
    () => {
        /// Under another name than the usual one.
        #[must_use]
        pub fn named(mut self, name: &str, model: &str) -> Self {
            self.change_capabilities(|capabilities| {
                capabilities.name = name.to_owned();
                capabilities.model = model.to_owned();
            });
            self
        }

        /// As another load than the first.
        #[must_use]
        pub fn with_generation(mut self, generation: crate::id::Generation) -> Self {
            self.change_capabilities(|capabilities| capabilities.generation = generation);
            self
        }

        /// The strings to pull while it is in use.
        #[must_use]
        pub fn control(&self) -> super::Control {
            super::Control {
                shared: std::sync::Arc::clone(&self.shared),
            }
        }

        fn change_capabilities(&mut self, change: impl FnOnce(&mut crate::backend::Capabilities)) {
            let mut capabilities = self.shared.capabilities.clone();
            change(&mut capabilities);
            // A control handed out before this would pull the strings of another fake.
            assert_eq!(
                std::sync::Arc::strong_count(&self.shared),
                1,
                "a fake is named before its control is handed out"
            );
            self.shared = std::sync::Arc::new(super::Shared {
                capabilities,
                state: std::sync::Mutex::default(),
            });
        }
    };
}
use common;

#[cfg(test)]
mod tests;
