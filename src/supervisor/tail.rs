//! The last lines that a worker printed: they travel with the error.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncRead, AsyncReadExt};

/// How many lines are kept.
const LINES: usize = 20;
/// How much of a line is kept, in bytes.
const LENGTH: usize = 500;

/// The last lines of a worker's standard error.
#[derive(Clone, Debug, Default)]
pub(super) struct Tail {
    lines: Arc<Mutex<VecDeque<String>>>,
}

impl Tail {
    /// Reads until the end.
    pub(super) async fn read(self, worker: String, mut from: impl AsyncRead + Unpin) {
        let mut buffer = [0; 4096];
        let mut line = Vec::new();
        while let Ok(length @ 1..) = from.read(&mut buffer).await {
            for byte in &buffer[..length] {
                if *byte == b'\n' {
                    self.push(&worker, &line);
                    line.clear();
                } else if line.len() < LENGTH {
                    line.push(*byte);
                }
            }
        }
        if !line.is_empty() {
            self.push(&worker, &line);
        }
    }

    fn push(&self, worker: &str, line: &[u8]) {
        // Only what can be printed: a worker's words end on terminals.
        let text = String::from_utf8_lossy(line);
        let text: String = text
            .chars()
            .map(|letter| if letter.is_control() { ' ' } else { letter })
            .collect();
        tracing::debug!(worker, "{text}");
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == LINES {
            lines.pop_front();
        }
        lines.push_back(text);
    }

    /// The lines, oldest first, in one.
    pub(super) fn text(&self) -> String {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines
            .iter()
            .map(|line| line.trim())
            .filter(|line| !line.is_empty())
            .collect::<Vec<_>>()
            .join(" | ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_last_lines_are_kept_and_bounded() {
        let tail = Tail::default();
        let mut printed = Vec::new();
        for number in 0..100 {
            printed.extend_from_slice(format!("line {number}\n").as_bytes());
        }
        printed.extend_from_slice(&vec![b'x'; 10_000]);
        printed.extend_from_slice(b"\n\x1b[31mthe end");
        tail.clone().read("test".into(), &printed[..]).await;
        let text = tail.text();
        assert!(
            text.ends_with("[31mthe end") && text.contains("line 99") && !text.contains("line 81"),
            "{text}"
        );
        assert!(text.len() < LINES * (LENGTH + 4) && !text.contains('\x1b'));
    }
}
