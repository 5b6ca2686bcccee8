//! What this machine and this process are, read from `/proc`. Everything is 0 or empty where it can't be known.

use std::fs;

use repartee_protocol::worker::{Device, Hello, Job, VERSION};

/// A [`Hello`] with what is the same for every worker: the link's version, the CPU as the one device, threads, memory.
pub fn hello(name: &str, version: &str, library: &str, jobs: &[Job]) -> Hello {
    let (total, free) = memory();
    Hello {
        protocol: VERSION,
        name: name.into(),
        version: version.into(),
        library: library.into(),
        jobs: jobs.into(),
        features: vec!["cpu".into()],
        formats: vec!["builtin".into()],
        devices: vec![Device {
            id: "cpu".into(),
            name: processor(),
            memory_bytes: total,
            free_bytes: free,
        }],
        threads: std::thread::available_parallelism()
            .map_or(1, |threads| u32::try_from(threads.get()).unwrap_or(u32::MAX)),
        memory_bytes: total,
        pid: std::process::id(),
    }
}

/// The resident memory of this process in bytes.
pub fn resident_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    kilobytes(&status, "VmRSS:") * 1024
}

/// Total and available memory in bytes.
fn memory() -> (u64, u64) {
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    (
        kilobytes(&meminfo, "MemTotal:") * 1024,
        kilobytes(&meminfo, "MemAvailable:") * 1024,
    )
}

/// The number on the line of `text` that begins with `name`, as in `MemTotal:  24689 kB`.
fn kilobytes(text: &str, name: &str) -> u64 {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name))
        .unwrap_or_default();
    line.trim()
        .split(' ')
        .next()
        .and_then(|number| number.parse().ok())
        .unwrap_or(0)
}

fn processor() -> String {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = cpuinfo.lines().find_map(|line| line.strip_prefix("model name"));
    name.map(|name| name.trim_start_matches([' ', '\t', ':']).to_owned())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hello_tells_what_the_machine_has() {
        let hello = hello("test", "0", "none", &[Job::Stt]);
        assert!(hello.threads > 0);
        assert_eq!(hello.protocol, VERSION);
        assert_eq!(kilobytes("A: 1 kB\nB:  22 kB\n", "B:"), 22);
        assert_eq!(kilobytes("A: x\n", "B:"), 0);
        assert!(resident_bytes() > 0);
    }
}
