//! Calls through a real Asterisk: test phones call extensions of `examples/asterisk/`, and measure what they hear. They need an
//! Asterisk and a network of their own; `make test-asterisk` makes both. Elsewhere they say that they are skipped.

mod alone;
mod ari;
mod asterisk;
mod calls;
mod examples;
mod peer;
mod phone;
mod server;
mod speech;
#[path = "../support/mod.rs"]
mod support;
mod wires;

use std::sync::LazyLock;
use std::thread;
use std::time::Duration;

use repartee::engine::Clock;
use repartee::time::Time;

static CLOCK: LazyLock<Clock> = LazyLock::new(Clock::start);

/// The one clock of phones, logs and measurements.
fn now() -> Time {
    CLOCK.now()
}

/// Waits until `condition` holds, and fails the test when it doesn't within `limit`. For states that nobody announces.
fn until(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) {
    let end = now() + limit;
    while !condition() {
        assert!(now() < end, "{what}: not within {limit:?}");
        thread::park_timeout(Duration::from_millis(5));
    }
}

/// Lets time pass: for calls that last, and for tests that something does not come.
fn pause(duration: Duration) {
    let end = now() + duration;
    while now() < end {
        thread::park_timeout(end.since(now()));
    }
}
