//! onnxruntime, loaded at run time: found, checked and started once in the process.
//!
//! `ort` panics when its library can't be loaded at its first use. So nothing may use it before [`runtime`] has
//! succeeded, which is why everything that needs it asks here for the [`Environment`].

pub mod model;

use std::env;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use ort::environment::Environment;

/// The environment variable that names onnxruntime's library.
pub const LIBRARY_VARIABLE: &str = "ORT_DYLIB_PATH";

/// Where files are looked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// onnxruntime's library, when the configuration names it. Then it is looked for nowhere else.
    pub library: Option<PathBuf>,
    /// The data directory, which the set-up fills: `lib/` with libraries, `models/` with models.
    pub data: PathBuf,
}

/// onnxruntime could not be started.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuntimeError {
    /// There is no library.
    #[error(
        "onnxruntime's library is missing: looked for {}; `make setup` fetches it, or set {LIBRARY_VARIABLE} to the \
         path of libonnxruntime.so (1.{}.0 or newer)",
        list(looked),
        ort::MINOR_VERSION
    )]
    Missing {
        /// Each path that was looked for.
        looked: Vec<PathBuf>,
    },
    /// There is a file, but not one that serves.
    #[error(
        "{} can't serve as onnxruntime's library: {reason}; `make setup` fetches a right one, or set \
         {LIBRARY_VARIABLE} to the path of libonnxruntime.so (1.{}.0 or newer)", path.display(), ort::MINOR_VERSION
    )]
    Unusable {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it, in the words of the loader.
        reason: String,
    },
}

/// Paths for a message.
pub(super) fn list(paths: &[PathBuf]) -> String {
    let mut text = String::new();
    for (number, path) in paths.iter().enumerate() {
        let separator = if number == 0 { "" } else { ", " };
        write!(text, "{separator}{}", path.display()).expect("writing to a string never fails");
    }
    text
}

/// The path of onnxruntime's library: the configured one, else the one that `ORT_DYLIB_PATH` names, else the newest
/// `libonnxruntime.so*` in the data directory's `lib`.
///
/// # Errors
/// [`RuntimeError::Missing`].
pub fn find_library(places: &Places, variable: &dyn Fn(&str) -> Option<OsString>) -> Result<PathBuf, RuntimeError> {
    let named = places.library.clone().or_else(|| {
        variable(LIBRARY_VARIABLE)
            .filter(|path| !path.is_empty())
            .map(PathBuf::from)
    });
    if let Some(named) = named {
        // Somebody named it: another one that happens to lie about would only hide the mistake.
        return if named.is_file() {
            // A relative path would be taken relative to the executable.
            Ok(fs::canonicalize(&named).unwrap_or(named))
        } else {
            Err(RuntimeError::Missing { looked: vec![named] })
        };
    }
    let folder = places.data.join("lib");
    let newest = fs::read_dir(&folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("libonnxruntime.so"))
        .map(|entry| entry.path())
        .filter(|path| path.is_file())
        .max_by_key(|path| version(path));
    newest
        .map(|path| fs::canonicalize(&path).unwrap_or(path))
        .ok_or_else(|| RuntimeError::Missing {
            looked: vec![folder.join("libonnxruntime.so*")],
        })
}

/// The numbers at the end of a library's name: `libonnxruntime.so.1.31.1` is newer than `….so.1.9.0`.
fn version(path: &Path) -> Vec<u32> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    name.split('.').filter_map(|part| part.parse().ok()).collect()
}

/// The one environment of this process, started at the first call. A process can't change its library: later calls get
/// what the first successful one loaded, whatever they name.
///
/// # Errors
/// See [`RuntimeError`]. After an error it can be tried again.
pub fn runtime(places: &Places) -> Result<Environment, RuntimeError> {
    static RUNTIME: Mutex<Option<Environment>> = Mutex::new(None);
    let mut runtime = RUNTIME.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(environment) = runtime.as_ref() {
        return Ok(environment.clone());
    }
    let path = find_library(places, &|name| env::var_os(name))?;
    let unusable = |reason: String| RuntimeError::Unusable {
        path: path.clone(),
        reason,
    };
    // What `ort` takes for impossible, it asserts: a library that exports the right symbol and answers null.
    let started = panic::catch_unwind(AssertUnwindSafe(|| {
        let builder = ort::init_from(&path).map_err(|error| words(&error))?;
        builder
            .with_name("repartee")
            .with_telemetry(false)
            .build()
            .map_err(|error| error.to_string())
    }));
    let environment = match started {
        Ok(result) => result.map_err(unusable)?,
        Err(_) => return Err(unusable("it doesn't offer the interface that it should".to_owned())),
    };
    tracing::info!(library = %path.display(), "onnxruntime is loaded");
    *runtime = Some(environment.clone());
    Ok(environment)
}

/// What the loader says; `ort` leaves the cause out.
fn words(error: &ort::LoadDynamicError) -> String {
    match error {
        ort::LoadDynamicError::Dlopen { error, .. } => {
            let cause = std::error::Error::source(error);
            cause.map_or_else(|| error.to_string(), ToString::to_string)
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nothing(_: &str) -> Option<OsString> {
        None
    }

    #[test]
    fn the_newest_library_of_the_data_directory_is_taken() {
        let data = tempfile::tempdir().expect("a directory");
        let places = Places {
            library: None,
            data: data.path().to_owned(),
        };
        let error = find_library(&places, &nothing).expect_err("nothing is there");
        let text = error.to_string();
        assert!(text.contains("lib/libonnxruntime.so*"), "{text}");
        assert!(text.contains("make setup") && text.contains("ORT_DYLIB_PATH"), "{text}");

        let folder = data.path().join("lib");
        fs::create_dir(&folder).expect("a folder");
        for name in ["libonnxruntime.so.1.9.0", "libonnxruntime.so.1.31.1", "libother.so.9"] {
            fs::write(folder.join(name), b"").expect("a file");
        }
        let found = find_library(&places, &nothing).expect("two are there");
        assert!(found.ends_with("libonnxruntime.so.1.31.1"), "{found:?}");
    }

    #[test]
    fn a_named_library_is_the_only_one() {
        let data = tempfile::tempdir().expect("a directory");
        let file = data.path().join("mine.so");
        fs::write(&file, b"").expect("a file");
        let mut places = Places {
            library: Some(data.path().join("absent.so")),
            data: data.path().to_owned(),
        };
        let variable = |name: &str| (name == LIBRARY_VARIABLE).then(|| file.clone().into_os_string());
        assert!(
            find_library(&places, &variable).is_err(),
            "the configuration comes first"
        );
        places.library = None;
        assert!(find_library(&places, &variable).is_ok_and(|found| found.ends_with("mine.so")));
    }

    #[test]
    fn a_file_that_is_no_library_is_an_error() {
        let data = tempfile::tempdir().expect("a directory");
        let file = data.path().join("libonnxruntime.so");
        fs::write(&file, b"not a library").expect("a file");
        // The second is a library, but another one.
        for library in [file, PathBuf::from("/lib/x86_64-linux-gnu/libm.so.6")] {
            if !library.is_file() {
                continue;
            }
            let name = library.clone();
            let loaded = runtime(&Places {
                library: Some(library),
                data: data.path().to_owned(),
            });
            // Another test may have loaded a real one already; then the process keeps it.
            let Err(error) = loaded else { return };
            assert!(matches!(error, RuntimeError::Unusable { .. }), "{error}");
            println!("{}: {error}", name.display());
        }
    }
}
