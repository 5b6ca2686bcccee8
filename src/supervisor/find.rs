//! Where worker programs are.

use std::env;
use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use repartee_protocol::worker::Job;

/// What the names of all worker programs begin with.
const PREFIX: &str = "repartee-worker-";

/// A worker whose source is part of this project.
#[derive(Clone, Copy, Debug)]
pub struct KnownWorker {
    /// Its name.
    pub name: &'static str,
    /// What it does.
    pub jobs: &'static [Job],
}

/// The workers whose source is in `workers/`, built here or not.
pub const KNOWN_WORKERS: &[KnownWorker] = &[
    KnownWorker {
        name: "pocketsphinx",
        jobs: &[Job::Stt],
    },
    KnownWorker {
        name: "flite",
        jobs: &[Job::Tts],
    },
    KnownWorker {
        name: "sherpa",
        jobs: &[Job::Stt, Job::Tts],
    },
    KnownWorker {
        name: "whisper",
        jobs: &[Job::Stt],
    },
    KnownWorker {
        name: "llama",
        jobs: &[Job::Llm],
    },
];

/// A worker's program on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstalledWorker {
    /// Its name, such as `pocketsphinx`.
    pub name: String,
    /// Its program.
    pub program: PathBuf,
}

/// All workers in `folders`, by name. Of two with one name the first is meant, as in [`find_worker`].
#[must_use]
pub fn installed_workers(folders: &[PathBuf]) -> Vec<InstalledWorker> {
    let mut found: Vec<InstalledWorker> = Vec::new();
    for folder in folders {
        // A folder that isn't there has no workers.
        let Ok(entries) = fs::read_dir(folder) else { continue };
        for program in entries.filter_map(|entry| Some(entry.ok()?.path())) {
            let name = program.file_name().and_then(|name| name.to_str()?.strip_prefix(PREFIX));
            // cargo keeps a file of dependencies beside each program, `repartee-worker-flite.d`.
            let Some(name) = name.filter(|name| is_name(name) && is_program(&program)) else {
                continue;
            };
            if !found.iter().any(|worker| worker.name == name) {
                let name = name.to_owned();
                found.push(InstalledWorker { name, program });
            }
        }
    }
    found.sort_by(|one, other| one.name.cmp(&other.name));
    found
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// Whether this is a file that somebody may run.
fn is_program(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

/// There's no such worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotFound {
    /// The program's name.
    pub program: String,
    /// Where it was looked for.
    pub folders: Vec<PathBuf>,
}

impl fmt::Display for NotFound {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let folders: Vec<_> = self.folders.iter().map(|folder| folder.display().to_string()).collect();
        write!(
            formatter,
            "the program {} is missing; it was looked for in {} (`make worker-{}` builds it; or name its folder in REPARTEE_WORKERS)",
            self.program,
            folders.join(", "),
            self.program.trim_start_matches(PREFIX)
        )
    }
}

impl std::error::Error for NotFound {}

/// The folders in which workers are looked for: those of `REPARTEE_WORKERS` (separated by colons) if it's set; else the one of the engine's
/// own program, `workers` and `../libexec/repartee` beside it, and, for tests and benches, the ones above it.
#[must_use]
pub fn worker_folders() -> Vec<PathBuf> {
    if let Some(named) = env::var_os("REPARTEE_WORKERS") {
        return folders_in(&named);
    }
    let own = env::current_exe()
        .ok()
        .and_then(|program| program.parent().map(Path::to_path_buf));
    let Some(own) = own else { return Vec::new() };
    let mut folders = vec![own.clone(), own.join("workers"), own.join("../libexec/repartee")];
    // cargo puts tests and benches into `deps`, and examples into `examples`, below the folder of the programs.
    if own.ends_with("deps") || own.ends_with("examples") {
        folders.extend(own.parent().map(Path::to_path_buf));
        folders.extend(own.parent().map(|programs| programs.join("examples")));
    }
    folders
}

/// The folders that are named together, with colons between them.
#[must_use]
pub fn folders_in(named: impl AsRef<OsStr>) -> Vec<PathBuf> {
    env::split_paths(named.as_ref())
        .filter(|folder| !folder.as_os_str().is_empty())
        .collect()
}

/// The program of the worker `name`, such as `pocketsphinx`.
///
/// # Errors
/// [`NotFound`], with the folders that don't have it.
pub fn find_worker(name: &str, folders: &[PathBuf]) -> Result<PathBuf, NotFound> {
    let program = format!("{PREFIX}{name}");
    let found = folders
        .iter()
        .map(|folder| folder.join(&program))
        .find(|path| is_name(name) && path.is_file());
    found.ok_or_else(|| NotFound {
        program,
        folders: folders.to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_is_found_in_the_first_folder_that_has_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let program = folder.path().join("repartee-worker-x");
        fs::write(&program, "").expect("a file");
        let folders = [PathBuf::from("/no/such/folder"), folder.path().to_path_buf()];
        assert_eq!(find_worker("x", &folders), Ok(program));
        let missing = find_worker("y", &folders).expect_err("there's no y");
        assert!(missing.to_string().contains("/no/such/folder"), "{missing}");
        assert!(find_worker("../x", &folders).is_err());
    }

    #[test]
    fn installed_workers_are_programs_of_the_right_name() {
        let (first, second) = (
            tempfile::tempdir().expect("a folder"),
            tempfile::tempdir().expect("a folder"),
        );
        let put = |folder: &Path, name: &str, mode: u32| {
            let path = folder.join(name);
            fs::write(&path, "").expect("a file");
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("it is ours");
            path
        };
        let program = put(first.path(), "repartee-worker-zebra", 0o755);
        put(first.path(), "repartee-worker-zebra.d", 0o644);
        put(first.path(), "repartee-worker-notes", 0o644);
        put(first.path(), "repartee", 0o755);
        put(second.path(), "repartee-worker-zebra", 0o755);
        let ape = put(second.path(), "repartee-worker-ape", 0o755);
        let folders = [
            PathBuf::from("/no/such/folder"),
            first.path().to_path_buf(),
            second.path().to_path_buf(),
        ];
        let found: Vec<_> = installed_workers(&folders)
            .into_iter()
            .map(|worker| (worker.name, worker.program))
            .collect();
        assert_eq!(found, [("ape".to_owned(), ape), ("zebra".to_owned(), program)]);
    }

    #[test]
    fn every_worker_of_the_tree_is_known() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("workers");
        for entry in fs::read_dir(folder).expect("the folder is there") {
            let entry = entry.expect("an entry");
            let name = entry.file_name().into_string().expect("a plain name");
            if name != "shell" && entry.path().join("Cargo.toml").is_file() {
                assert!(KNOWN_WORKERS.iter().any(|known| known.name == name), "{name}");
            }
        }
    }
}
