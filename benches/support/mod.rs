//! What the report is made of: a server, a load and a spinner, each a process of its own, and those who look at them.

pub(crate) mod criterion;
pub(crate) mod distribution;
pub(crate) mod load;
pub(crate) mod process;
pub(crate) mod role;
pub(crate) mod scenario;
pub(crate) mod script;
pub(crate) mod server;
pub(crate) mod sound;
pub(crate) mod table;

use std::error::Error;
use std::time::Instant;

/// A bench that fails says why and stops.
pub(crate) type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

#[expect(clippy::disallowed_methods, reason = "a bench measures time")]
pub(crate) fn now() -> Instant {
    Instant::now()
}
