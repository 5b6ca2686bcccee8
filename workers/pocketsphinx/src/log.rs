//! What the library says while it loads: hundreds of lines, of which only its errors are of interest.
//!
//! They go to an unnamed temporary file. When a load fails, its errors are read back; where the library ends the process itself
//! (`E_FATAL`), they are printed on its way out, so that the supervisor finds them among the last lines.

use std::ptr;
use std::sync::{Mutex, Once, PoisonError};

use crate::ffi;

/// How much of the log is looked at: far more than a load prints.
const LONGEST: usize = 256 * 1024;

struct Open(*mut ffi::File);

// SAFETY: a C stream may be used by any thread (each function locks it), and the mutex below lets one at a time.
unsafe impl Send for Open {}

static LOG: Mutex<Option<Open>> = Mutex::new(None);
static AT_EXIT: Once = Once::new();

/// Keeps the library's log until [`errors`].
pub(crate) fn keep() {
    AT_EXIT.call_once(|| {
        // SAFETY: the handler is a plain function, which doesn't panic. Where it can't be registered, the errors of a
        // fatal exit are lost, which is all.
        unsafe { ffi::atexit(print_at_exit) };
    });
    // SAFETY: no arguments.
    let file = unsafe { ffi::tmpfile() };
    // SAFETY: the library writes to the stream until it's given another; null means that nothing is written.
    unsafe { ffi::err_set_logfp(file) };
    let mut log = LOG.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(Open(before)) = log.take() {
        // SAFETY: it came from `tmpfile`, and the library has been given another.
        unsafe { ffi::fclose(before) };
    }
    *log = (!file.is_null()).then_some(Open(file));
}

/// The errors in the log so far, one a line. The library is silent from now on.
pub(crate) fn errors() -> String {
    // SAFETY: null silences the library.
    unsafe { ffi::err_set_logfp(ptr::null_mut()) };
    let Some(Open(file)) = LOG.lock().unwrap_or_else(PoisonError::into_inner).take() else {
        return String::new();
    };
    let mut bytes = vec![0_u8; LONGEST];
    // SAFETY: the stream came from `tmpfile` and is closed only here; `bytes` is as long as is said. `rewind` also writes out what
    // was buffered.
    let length = unsafe {
        ffi::rewind(file);
        let length = ffi::fread(bytes.as_mut_ptr().cast(), 1, bytes.len(), file);
        ffi::fclose(file);
        length
    };
    bytes.truncate(length);
    only_errors(&String::from_utf8_lossy(&bytes))
}

extern "C" fn print_at_exit() {
    // Only a load that is under way has a log. Where another thread holds it, that thread has it in hand.
    if LOG.try_lock().is_ok_and(|log| log.is_some()) {
        let errors = errors();
        if !errors.is_empty() {
            eprintln!("{errors}");
        }
    }
}

/// The lines that tell an error, without the library's own source positions.
fn only_errors(log: &str) -> String {
    let errors = log.lines().filter_map(|line| {
        let (_, text) = line
            .strip_prefix("ERROR:")
            .or_else(|| line.strip_prefix("FATAL:"))?
            .split_once(": ")?;
        Some(text.trim())
    });
    errors.collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_picked_out_of_the_log() {
        let log = "INFO: pocketsphinx.c(152): Parsed\nERROR: \"acmod.c\", line 83: Folder 'x' does not contain 'mdef'\nFATAL: \"a.c\", line 1: no\n";
        assert_eq!(only_errors(log), "Folder 'x' does not contain 'mdef'; no");
        assert_eq!(only_errors(""), "");
    }
}
