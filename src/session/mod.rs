//! The session core: one call as state machines, told the time and asking nothing.
//!
//! # The calling rule
//!
//! One [`Input`] to [`Session::handle`], then [`Session::poll`] until it answers [`Output::Timeout`], then the next input.
//! When the time of the last `Timeout` has come and no other input has, hand in [`Input::Tick`].
//!
//! There is no audio in here, no task, no lock and no clock: only instants ([`Time`](crate::time::Time)) and positions on
//! the sample clock ([`Samples`](crate::time::Samples)). Whoever calls owns the samples.
//!
//! # Where what is decided
//!
//! | file | holds |
//! |---|---|
//! | `call`, `turn`, `response`, `playout` | the four machines: one enum, one total transition each |
//! | `speech`, `endpoint`, `barge_in`, `chunker` | policy: small total functions with named numbers |
//! | `recognition`, `keys`, `reply`, `heard`, `history`, `clock`, `leases` | what is known of a turn's words, of keys that were pressed, of a reply, of what was heard, of the audio, of the backends |
//! | `core`, `listening`, `transcribing`, `replying`, `approving`, `playing`, `commands`, `switching` | the [`Session`] itself: timers and end; the way in, turns and their words; the way out, replies, the client's word on them, and their audio; the client's wishes; which backends serve |
//! | `invariants`, `observer` | what must always hold, seen from inside and from outside |
//! | [`trace`], [`simulation`] | a call written down and run again; a call that is played by a script |

mod action;
mod approving;
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
mod keys;
mod leases;
mod listening;
mod observer;
mod playing;
mod playout;
mod random;
mod recognition;
mod reply;
mod replying;
mod response;
pub mod simulation;
mod speech;
mod switching;
pub mod trace;
mod transcribing;
mod turn;

pub use self::core::Session;
pub use action::{Action, Output};
pub use history::Item;
pub use input::{Arrival, BackendChange, Input, PlayoutEvent, SwitchProgress, TtsProgress};
pub use invariants::Violation;
pub use observer::Observer;
