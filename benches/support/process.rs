//! What the system says about a process: its processor time by thread, its memory, and who else was busy.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::now;

/// Ticks a second in `/proc/stat`, which Linux has fixed at 100 for programs (`USER_HZ`).
const USER_HZ: f64 = 100.0;

/// One look at the machine and at some processes.
pub(crate) struct Look {
    at: Instant,
    /// Seconds of all cores that were not idle.
    busy: f64,
    processes: Vec<Usage>,
}

/// What one process has used until now.
#[derive(Clone, Debug, Default)]
pub(crate) struct Usage {
    /// Seconds of a core by thread (id and name).
    threads: BTreeMap<(u32, String), f64>,
    /// Resident memory in bytes.
    pub(crate) resident: f64,
}

/// What happened between two looks.
#[derive(Clone, Debug, Default)]
pub(crate) struct Spent {
    /// Seconds between them.
    pub(crate) seconds: f64,
    /// For each process: its share of a core by the name of its threads. 1 is one core.
    pub(crate) processes: Vec<BTreeMap<String, f64>>,
    /// Share of a core that everybody else took.
    pub(crate) others: f64,
}

impl Look {
    pub(crate) fn at(processes: &[u32]) -> Self {
        Self {
            at: now(),
            busy: busy_seconds(),
            processes: processes.iter().map(|process| usage(*process)).collect(),
        }
    }

    /// Resident memory of process number `index`, in bytes.
    pub(crate) fn resident(&self, index: usize) -> f64 {
        self.processes[index].resident
    }

    /// What was spent from `earlier` until this look.
    pub(crate) fn since(&self, earlier: &Self) -> Spent {
        let seconds = self.at.duration_since(earlier.at).as_secs_f64().max(1e-9);
        let processes: Vec<BTreeMap<String, f64>> = self
            .processes
            .iter()
            .zip(&earlier.processes)
            .map(|(later, earlier)| {
                let mut shares = BTreeMap::new();
                for (thread, spent) in &later.threads {
                    let before = earlier.threads.get(thread).copied().unwrap_or(0.0);
                    *shares.entry(thread.1.clone()).or_default() += (spent - before) / seconds;
                }
                shares
            })
            .collect();
        let ours: f64 = processes.iter().flat_map(BTreeMap::values).sum();
        Spent {
            seconds,
            others: ((self.busy - earlier.busy) / seconds - ours).max(0.0),
            processes,
        }
    }
}

impl Spent {
    /// The share of a core that process number `index` took.
    pub(crate) fn share(&self, index: usize) -> f64 {
        self.processes[index].values().sum()
    }
}

fn usage(process: u32) -> Usage {
    let folder = PathBuf::from(format!("/proc/{process}"));
    let mut threads = BTreeMap::new();
    for entry in fs::read_dir(folder.join("task")).into_iter().flatten().flatten() {
        let id = entry.file_name().to_string_lossy().parse().unwrap_or(0);
        let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        threads.insert((id, name.trim().to_owned()), seconds_on_core(&entry.path()));
    }
    Usage {
        threads,
        resident: resident_bytes(&folder),
    }
}

/// Seconds that a thread has run: to the nanosecond where the kernel tells, else to the hundredth.
fn seconds_on_core(thread: &Path) -> f64 {
    let precise = fs::read_to_string(thread.join("schedstat")).unwrap_or_default();
    if let Some(nanos) = precise
        .split_whitespace()
        .next()
        .and_then(|word| word.parse::<f64>().ok())
        && nanos > 0.0
    {
        return nanos / 1e9;
    }
    let stat = fs::read_to_string(thread.join("stat")).unwrap_or_default();
    // The name stands in parentheses and may hold spaces; the numbers follow it. utime and stime are the 14th and 15th.
    let numbers = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let field = |index| -> f64 {
        let word = numbers.split_whitespace().nth(index);
        word.and_then(|word| word.parse().ok()).unwrap_or(0.0)
    };
    (field(11) + field(12)) / USER_HZ
}

fn resident_bytes(process: &Path) -> f64 {
    let status = fs::read_to_string(process.join("status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    kilobytes.unwrap_or(0.0) * 1024.0
}

fn busy_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let numbers: Vec<f64> = stat
        .lines()
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .skip(1)
        .filter_map(|word| word.parse().ok())
        .collect();
    // user, nice, system, idle, iowait, irq, softirq, steal; guests are counted in the first two already.
    let busy = [0, 1, 2, 5, 6, 7];
    busy.iter().filter_map(|index| numbers.get(*index)).sum::<f64>() / USER_HZ
}

/// Cores that this process may use, and the machine's memory in GiB.
pub(crate) fn machine() -> (usize, f64) {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kilobytes = total.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    (cores, kilobytes.unwrap_or(0.0) / (1024.0 * 1024.0))
}
