//! What the tests of the whole program share: servers, clients, recordings.

#![allow(dead_code, unused_imports, reason = "each test binary uses its own part of this")]

pub(crate) mod client;
pub(crate) mod loader;
pub(crate) mod process;
pub(crate) mod server;
pub(crate) mod socket;
pub(crate) mod speech;

use std::time::Duration;

pub(crate) use self::client::{Client, LIMIT, silence, tone};
pub(crate) use self::process::ServerProcess;
pub(crate) use self::server::{Fakes, TestServer};
pub(crate) use self::socket::{Met, Socket};

/// Waits until `condition` holds, and fails the test when it doesn't within `limit`. For states that nobody announces:
/// counters, files, memory.
pub(crate) async fn eventually(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) {
    let waiting = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(5));
        while !condition() {
            ticks.tick().await;
        }
    };
    assert!(
        tokio::time::timeout(limit, waiting).await.is_ok(),
        "{what}: not within {limit:?}"
    );
}

/// Memory of this process that is in use, in KiB.
pub(crate) fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux tells about a process");
    status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|kib| kib.parse().ok())
        .expect("the status has VmRSS in kB")
}
