//! What the library says while it loads: some fifty lines, of which only its errors and warnings are of interest. At all other times it is
//! silent, since what it says while it transcribes holds words of people (DESIGN: what people say is never logged).

use std::ffi::{CStr, c_char, c_void};
use std::sync::{Mutex, Once, PoisonError};

use whisper_rs::whisper_rs_sys as sys;

/// So many of its last errors are kept.
const LINES: usize = 4;
/// A line is cut after so many characters: a supervisor shows a few lines.
const LONGEST: usize = 200;

/// The last errors while something is being loaded; `None` at other times.
static KEPT: Mutex<Option<Vec<String>>> = Mutex::new(None);
static TAKEN_OVER: Once = Once::new();

/// Takes over the library's log. From here on it says nothing by itself.
pub(crate) fn take_over() {
    TAKEN_OVER.call_once(|| {
        // SAFETY: the callback is a plain function that doesn't unwind and needs no data. It sets ggml's log as well.
        unsafe { sys::whisper_log_set(Some(hear), std::ptr::null_mut()) };
    });
}

/// Runs `load` and gives what the library complained of meanwhile, one after the other.
pub(crate) fn while_loading<T>(load: impl FnOnce() -> T) -> (T, String) {
    take_over();
    *KEPT.lock().unwrap_or_else(PoisonError::into_inner) = Some(Vec::new());
    let loaded = load();
    let lines = KEPT.lock().unwrap_or_else(PoisonError::into_inner).take();
    (loaded, lines.unwrap_or_default().join("; "))
}

unsafe extern "C" fn hear(level: sys::ggml_log_level, text: *const c_char, _: *mut c_void) {
    if text.is_null()
        || (level != sys::ggml_log_level_GGML_LOG_LEVEL_ERROR && level != sys::ggml_log_level_GGML_LOG_LEVEL_WARN)
    {
        return;
    }
    // SAFETY: the library passes a C string, which lives as long as this call.
    let text = unsafe { CStr::from_ptr(text) }.to_string_lossy();
    if let Some(lines) = &mut *KEPT.lock().unwrap_or_else(PoisonError::into_inner) {
        keep(lines, &text);
    }
}

fn keep(lines: &mut Vec<String>, text: &str) {
    let line: String = text.trim().chars().take(LONGEST).collect();
    if line.is_empty() {
        return;
    }
    if lines.len() == LINES {
        lines.remove(0);
    }
    lines.push(line);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_kept() {
        let mut lines = Vec::new();
        for number in 0..9 {
            keep(&mut lines, &format!(" error {number}\n"));
            keep(&mut lines, "\n");
        }
        assert_eq!(lines, ["error 5", "error 6", "error 7", "error 8"]);
        keep(&mut lines, &"x".repeat(1000));
        assert_eq!(lines[3].len(), LONGEST);
    }
}
