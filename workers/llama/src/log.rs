//! What llama.cpp says: hundreds of lines for a load, of which its last warnings and errors are kept, for the reason of a load that fails.
//! Nothing of it is printed.

use std::collections::VecDeque;
use std::ffi::{CStr, c_char, c_void};
use std::io::Write;
use std::ptr;
use std::sync::{Mutex, PoisonError};

use llama_cpp_sys_2 as sys;

/// How many of the last lines are kept.
const LINES: usize = 8;
/// How many of them say why ggml aborts: what failed, where, and the call.
const CAUSE: usize = 3;
/// How much of each.
const LONGEST: usize = 300;

#[derive(Debug)]
struct Log {
    lines: VecDeque<String>,
    /// Whether the line before was kept, so that its continuation is.
    keeps: bool,
}

static LOG: Mutex<Log> = Mutex::new(Log {
    lines: VecDeque::new(),
    keeps: false,
});

/// Takes over the library's log.
pub(crate) fn keep() {
    // SAFETY: the callback is a function that lives as long as the process, needs no data, and doesn't unwind.
    unsafe {
        sys::llama_log_set(Some(heard), ptr::null_mut());
        sys::mtmd_helper_log_set(Some(heard), ptr::null_mut());
    }
    // SAFETY: this function too lives as long as the process and doesn't unwind.
    unsafe { sys::ggml_set_abort_callback(Some(aborted)) };
}

/// The library is about to end the process. It says "CUDA error", and why only to the log.
extern "C" fn aborted(message: *const c_char) {
    if message.is_null() {
        return;
    }
    // SAFETY: the library hands over a string that lives during the call.
    let message = unsafe { CStr::from_ptr(message) }.to_string_lossy();
    // Whoever holds the log may be who aborts: waiting for it could be for ever.
    let said = LOG.try_lock().map(|log| log.said(CAUSE)).unwrap_or_default();
    let _ = writeln!(std::io::stderr(), "llama.cpp gives up: {message}: {said}");
}

extern "C" fn heard(level: sys::ggml_log_level, text: *const c_char, _data: *mut c_void) {
    if text.is_null() {
        return;
    }
    // SAFETY: the library hands over a string that lives during the call.
    let text = unsafe { CStr::from_ptr(text) }.to_string_lossy();
    LOG.lock().unwrap_or_else(PoisonError::into_inner).take(level, &text);
}

impl Log {
    /// So many of the last lines.
    fn said(&self, most: usize) -> String {
        let lines = self.lines.iter().skip(self.lines.len().saturating_sub(most));
        let lines: Vec<&str> = lines.map(|line| line.trim()).filter(|line| !line.is_empty()).collect();
        lines.join("; ")
    }

    fn take(&mut self, level: sys::ggml_log_level, text: &str) {
        if level == sys::GGML_LOG_LEVEL_CONT {
            if self.keeps
                && let Some(last) = self.lines.back_mut()
            {
                let room = LONGEST.saturating_sub(last.chars().count());
                last.extend(text.trim_end_matches('\n').chars().take(room));
            }
            return;
        }
        self.keeps = level == sys::GGML_LOG_LEVEL_WARN || level == sys::GGML_LOG_LEVEL_ERROR;
        if self.keeps {
            let line: String = text.trim_end_matches('\n').chars().take(LONGEST).collect();
            // Said again and again it would push out the cause.
            if self.lines.back() == Some(&line) {
                return;
            }
            if self.lines.len() == LINES {
                self.lines.pop_front();
            }
            self.lines.push_back(line);
        }
    }
}

/// Forgets what was said so far.
pub(crate) fn forget() {
    LOG.lock().unwrap_or_else(PoisonError::into_inner).lines.clear();
}

/// The last warnings and errors since [`forget`], `"; "` between them. Empty where there were none.
pub(crate) fn last() -> String {
    LOG.lock().unwrap_or_else(PoisonError::into_inner).said(LINES)
}

/// `problem`, with what the library said about it.
pub(crate) fn explained(problem: &str) -> String {
    let said = last();
    if said.is_empty() {
        problem.to_owned()
    } else {
        format!("{problem}: {said}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_errors_are_kept() {
        let mut log = Log {
            lines: VecDeque::new(),
            keeps: false,
        };
        log.take(sys::GGML_LOG_LEVEL_INFO, "loading\n");
        log.take(sys::GGML_LOG_LEVEL_CONT, "...\n");
        assert!(log.lines.is_empty());
        log.take(sys::GGML_LOG_LEVEL_ERROR, "no such ");
        log.take(sys::GGML_LOG_LEVEL_CONT, "tensor\n");
        log.take(sys::GGML_LOG_LEVEL_ERROR, "no such tensor\n");
        assert_eq!(log.lines, ["no such tensor"]);
        for number in 0..LINES * 2 {
            log.take(sys::GGML_LOG_LEVEL_WARN, &format!("{number}\n"));
        }
        assert_eq!(log.lines.len(), LINES);
        assert_eq!(log.said(2), format!("{}; {}", LINES * 2 - 2, LINES * 2 - 1));
        log.take(sys::GGML_LOG_LEVEL_ERROR, &"x".repeat(LONGEST * 2));
        assert_eq!(log.lines.back().map(String::len), Some(LONGEST));
    }
}
