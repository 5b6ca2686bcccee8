//! The library as a whole: its version, and where it computes.

use std::fs::File;
use std::io::{Read, Seek};

use repartee_worker_shell::protocol::{Load, LoadFailed, code};
use rustix::fs::{MemfdFlags, memfd_create};

/// The version of the crate that the library is called through.
const CRATE_VERSION: &str = env!("SHERPA_ONNX_CRATE_VERSION");

/// The library and what it runs on, as they say themselves.
pub(crate) fn name() -> String {
    format!(
        "sherpa-onnx {}, onnxruntime {}",
        sherpa_onnx::version(),
        sherpa_onnx::onnxruntime_version()
    )
}

/// That the library which was found at run time is the one that the crate was made for.
///
/// # Errors
/// With both versions.
pub(crate) fn require_version() -> Result<(), LoadFailed> {
    let found = sherpa_onnx::version();
    if found == CRATE_VERSION {
        return Ok(());
    }
    let reason = format!(
        "the libsherpa-onnx-c-api.so that was found is version {found}, this worker was built for {CRATE_VERSION}; \
         run workers/sherpa/setup.sh and build the worker again"
    );
    Err(LoadFailed::new(code::UNSUPPORTED, reason).about("libsherpa-onnx-c-api.so"))
}

/// That the load asks for no device but the CPU: the library of the set-up knows no other.
///
/// # Errors
/// With what was asked for.
pub(crate) fn require_device(request: &Load) -> Result<(), LoadFailed> {
    match request.device.as_deref() {
        None | Some("cpu") => Ok(()),
        Some(other) => Err(LoadFailed::new(
            code::UNSUPPORTED,
            format!("this sherpa-onnx computes on cpu, not on {other:?}"),
        )),
    }
}

/// How much of what the library says is told.
const LONGEST: usize = 600;

/// What the library writes to the error output while `again` runs. It says why it makes nothing of a model only there; and so that its
/// words aren't lost where it ends the process, this is for doing a second time what has failed once.
pub(crate) fn words_of<T>(again: impl FnOnce() -> Option<T>) -> String {
    let record = || -> Option<File> {
        let kept = rustix::io::dup(rustix::stdio::stderr()).ok()?;
        let record = memfd_create("words", MemfdFlags::CLOEXEC).ok()?;
        rustix::stdio::dup2_stderr(&record).ok()?;
        drop(again());
        rustix::stdio::dup2_stderr(&kept).ok()?;
        Some(record.into())
    };
    let mut words = String::new();
    let read =
        record().is_some_and(|mut record| record.rewind().and_then(|()| record.read_to_string(&mut words)).is_ok());
    if read { told(&words) } else { String::new() }
}

/// The lines without the places in the library's source that they begin with.
fn told(words: &str) -> String {
    let without_place = |line: &str| match line.split_once(".cc:") {
        Some((path, rest)) if path.starts_with('/') => rest.split_once(' ').map_or("", |(_, rest)| rest).to_owned(),
        _ => line.to_owned(),
    };
    let lines: Vec<String> = words
        .lines()
        .map(|line| without_place(line.trim()).trim().to_owned())
        .filter(|line| !line.is_empty())
        .collect();
    lines.join("; ").chars().take(LONGEST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_librarys_words_are_told_without_their_places() {
        let words = "/workspace/sherpa-onnx/c-api/c-api.cc:SherpaOnnxCreateOnlineRecognizer:224 Failed to create: \n\n no model \n";
        assert_eq!(told(words), "Failed to create:; no model");
        assert_eq!(told(&"x".repeat(LONGEST + 1)).len(), LONGEST);
    }

    #[test]
    fn what_is_written_to_the_error_output_is_kept() {
        use std::io::Write;
        let said = words_of(|| {
            // Not eprintln, which tests capture.
            std::io::stderr().write_all(b"it is broken\n").ok()
        });
        assert!(said.contains("it is broken"), "{said:?}");
    }
}
