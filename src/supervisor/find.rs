//! Where worker programs are.

use std::env;
use std::fmt;
use std::path::{Path, PathBuf};

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
            self.program.trim_start_matches("repartee-worker-")
        )
    }
}

impl std::error::Error for NotFound {}

/// The folders in which workers are looked for: those of `REPARTEE_WORKERS` (separated by colons) if it's set; else the one of the engine's
/// own program, `workers` and `../libexec/repartee` beside it, and, for tests and benches, the ones above it.
#[must_use]
pub fn worker_folders() -> Vec<PathBuf> {
    if let Some(named) = env::var_os("REPARTEE_WORKERS") {
        return env::split_paths(&named)
            .filter(|folder| !folder.as_os_str().is_empty())
            .collect();
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

/// The program of the worker `name`, such as `pocketsphinx`.
///
/// # Errors
/// [`NotFound`], with the folders that don't have it.
pub fn find_worker(name: &str, folders: &[PathBuf]) -> Result<PathBuf, NotFound> {
    let program = format!("repartee-worker-{name}");
    let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    let found = folders
        .iter()
        .map(|folder| folder.join(&program))
        .find(|path| is_name && path.is_file());
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
        std::fs::write(&program, "").expect("a file");
        let folders = [PathBuf::from("/no/such/folder"), folder.path().to_path_buf()];
        assert_eq!(find_worker("x", &folders), Ok(program));
        let missing = find_worker("y", &folders).expect_err("there's no y");
        assert!(missing.to_string().contains("/no/such/folder"), "{missing}");
        assert!(find_worker("../x", &folders).is_err());
    }
}
