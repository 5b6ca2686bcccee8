//! The session core: one call as state machines, told the time and asking nothing.
//!
//! # The calling rule
//!
//! One [`Input`] to [`Session::handle`](crate::session), then [`poll`](crate::session) until it answers
//! [`Output::Timeout`], then the next input. When the time of the last `Timeout` has come and no other input has,
//! hand in [`Input::Tick`].
//!
//! There is no audio in here, no task, no lock and no clock: only instants ([`Time`](crate::time::Time)) and positions on
//! the sample clock ([`Samples`](crate::time::Samples)). Whoever calls owns the samples.

mod action;
mod barge_in;
mod call;
mod chunker;
mod clock;
mod commands;
mod core;
mod endpoint;
mod heard;
mod history;
mod input;
mod invariants;
mod leases;
mod listening;
mod observer;
mod playout;
mod random;
mod recognition;
mod reply;
mod replying;
mod response;
pub mod simulation;
mod speech;
pub mod trace;
mod turn;

pub use self::core::Session;
pub use action::{Action, Output};
pub use history::Item;
pub use input::{BackendChange, Input, PlayoutEvent, TtsProgress};
pub use invariants::Violation;
pub use observer::Observer;
