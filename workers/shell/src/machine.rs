//! What this machine and this process are, read from `/proc`. Everything is 0 or empty where it can't be known.

use std::fs;

use repartee_protocol::worker::{Device, Hello, Job, LoadFailed, VERSION, code};

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

/// How many threads inference may use: as many as the load asks for (0: leaves it to us), but fewer than there are cores. Native
/// libraries wait for each other in spin loops, and with all cores at it the engine starves, and so do they: ggml took 8 s for
/// what takes 0.03 s with one thread.
pub fn threads(asked: u32) -> u32 {
    let cores = std::thread::available_parallelism().map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(u32::MAX));
    let most = cores.saturating_sub(1).max(1);
    if asked == 0 { most } else { asked.min(most) }
}

/// Whether `bytes` of memory are to be had, for the model in `file`. Asked before a load, since a machine that runs out of memory
/// kills somebody, and before that swaps for minutes. Where the memory can't be measured, everything fits.
///
/// # Errors
/// With both figures.
pub fn require_memory(bytes: u64, file: &str) -> Result<(), LoadFailed> {
    fits(bytes, memory().1, file)
}

fn fits(bytes: u64, free: u64, file: &str) -> Result<(), LoadFailed> {
    if free == 0 || bytes <= free {
        return Ok(());
    }
    #[expect(clippy::cast_precision_loss, reason = "a tenth of a GiB is all that is told")]
    let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
    let reason = format!("{file} needs {:.1} GiB of memory, {:.1} free", gib(bytes), gib(free));
    Err(LoadFailed::new(code::MEMORY, reason).about(file))
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

    #[test]
    fn a_model_that_does_not_fit_is_refused_with_both_figures() {
        assert_eq!(fits(1 << 30, 3 << 30, "a.gguf"), Ok(()));
        assert_eq!(fits(u64::MAX, 0, "a.gguf"), Ok(()), "nothing is known");
        let failed = fits(11 << 29, 3 << 30, "a.gguf").expect_err("too much");
        assert_eq!(failed.reason, "a.gguf needs 5.5 GiB of memory, 3.0 free");
        assert_eq!(
            (failed.code.as_str(), failed.file.as_deref()),
            (code::MEMORY, Some("a.gguf"))
        );
        require_memory(1, "a.gguf").expect("a byte is free");
    }

    #[test]
    fn one_core_is_left_to_the_engine() {
        let most = threads(0);
        assert_eq!((threads(u32::MAX), threads(1)), (most, 1));
        assert!(most >= 1);
    }
}
