//! How much memory a model may take now: what the machine has left, or what this process's control groups leave of it.

use std::fs;
use std::path::{Path, PathBuf};

/// Where the control groups (version 2) are.
const GROUPS: &str = "/sys/fs/cgroup";

/// Bytes that can be had without swapping; absent where the system doesn't tell.
pub(super) fn free_bytes() -> Option<u64> {
    let of_machine = fs::read_to_string("/proc/meminfo")
        .ok()
        .and_then(|text| available(&text));
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let of_group = left_in(Path::new(GROUPS), &groups);
    match (of_machine, of_group) {
        (Some(machine), Some(group)) => Some(machine.min(group)),
        (one, other) => one.or(other),
    }
}

/// `MemAvailable` out of `/proc/meminfo`, in bytes.
fn available(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kibibytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// The least that a limit of the group that `/proc/self/cgroup` names, or of one above it, leaves; `None` without any limit. In a container
/// the group may not be visible under its name: then it is the root.
fn left_in(root: &Path, groups: &str) -> Option<u64> {
    let own = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    let inside: PathBuf = Path::new(own.trim())
        .components()
        .filter(|part| matches!(part, std::path::Component::Normal(_)))
        .collect();
    let folder = root.join(inside);
    folder
        .ancestors()
        .take_while(|folder| folder.starts_with(root))
        .filter_map(left_in_group)
        .min()
}

/// Limit less what is used. The cache of files, which the kernel gives up where memory is short, isn't used.
fn left_in_group(folder: &Path) -> Option<u64> {
    let number = |file: &str| -> Option<u64> { fs::read_to_string(folder.join(file)).ok()?.trim().parse().ok() };
    // "max" is no number and no limit.
    let (limit, used) = (number("memory.max")?, number("memory.current")?);
    let statistics = fs::read_to_string(folder.join("memory.stat")).unwrap_or_default();
    let cache = statistics.lines().find_map(|line| line.strip_prefix("inactive_file "));
    let cache: u64 = cache.and_then(|bytes| bytes.trim().parse().ok()).unwrap_or(0);
    Some(limit.saturating_sub(used.saturating_sub(cache)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_tells_what_is_available() {
        assert_eq!(
            available("MemTotal: 24 kB\nMemFree: 1 kB\nMemAvailable:   12 kB\n"),
            Some(12_288)
        );
        assert_eq!(available("MemTotal: 24 kB\n"), None);
        assert_eq!(available("MemAvailable: lots\n"), None);
        assert!(free_bytes().is_some_and(|bytes| bytes > 0), "this machine tells");
    }

    #[test]
    fn the_tightest_group_counts() {
        let root = tempfile::tempdir().unwrap();
        let group = |name: &str, limit: &str, used: &str, cache: &str| {
            let folder = root.path().join(name);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("memory.max"), limit).unwrap();
            fs::write(folder.join("memory.current"), used).unwrap();
            fs::write(folder.join("memory.stat"), format!("anon 1\ninactive_file {cache}\n")).unwrap();
        };
        let left = |groups: &str| left_in(root.path(), groups);
        group("a", "1000\n", "900\n", "300");
        group("a/b", "max\n", "800\n", "0");
        assert_eq!(left("0::/a/b\n"), Some(400));
        group("a/b", "850\n", "800\n", "0");
        assert_eq!(left("1:name=x:/old\n0::/a/b\n"), Some(50));
        assert_eq!(left("0::/a\n"), Some(400));
        // A container that doesn't see the name of its own group sees its limit at the root.
        group("", "500\n", "100\n", "0");
        assert_eq!(left("0::/docker/x\n"), Some(400));
        assert_eq!(left("0::/../../x\n"), Some(400));
        assert_eq!(left("4:memory:/old\n"), None);
    }
}
