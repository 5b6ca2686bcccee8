//! The waterfall of a turn, for a terminal: one bar for each stage, each beginning where the one before it ends.

use std::fmt::Write as _;

/// Columns of the longest waterfall.
const WIDTH: f64 = 48.0;

/// Draws the stages, each `(name, milliseconds)`, and their sum. An empty text when there are none.
#[must_use]
pub fn waterfall<'a>(stages: impl IntoIterator<Item = (&'a str, f64)>) -> String {
    let stages: Vec<_> = stages.into_iter().collect();
    let total: f64 = stages.iter().map(|(_, millis)| millis).sum();
    let mut text = String::new();
    if stages.is_empty() {
        return text;
    }
    let label = stages
        .iter()
        .map(|(name, _)| name.chars().count())
        .max()
        .unwrap_or(0)
        .max("total".len());
    let scale = if total > 0.0 { WIDTH / total } else { 0.0 };
    let mut start = 0.0;
    for (name, millis) in &stages {
        let (from, to) = (columns(start * scale), columns((start + millis) * scale));
        // What took any time at all is seen.
        let bar = if *millis > 0.0 { (to - from).max(1) } else { 0 };
        let _ = writeln!(
            text,
            "  {name:<label$} {millis:>8.1} ms  {:from$}{}",
            "",
            "█".repeat(bar)
        );
        start += millis;
    }
    let _ = writeln!(text, "  {:<label$} {total:>8.1} ms", "total");
    text
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "between 0 and the width of a terminal"
)]
fn columns(position: f64) -> usize {
    position.round().clamp(0.0, WIDTH) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_follow_one_another_and_add_up() {
        let text = waterfall([
            ("endpointing", 600.0),
            ("stt_final", 150.0),
            ("llm_first_token", 0.0),
            ("send", 0.4),
        ]);
        insta::assert_snapshot!(text, @r"
          endpointing        600.0 ms  ██████████████████████████████████████
          stt_final          150.0 ms                                        ██████████
          llm_first_token      0.0 ms                                                  
          send                 0.4 ms                                                  █
          total              750.4 ms
        ");
    }

    #[test]
    fn nothing_is_drawn_of_nothing() {
        assert_eq!(waterfall([]), "");
        assert!(waterfall([("endpointing", 0.0)]).contains("0.0 ms"));
    }
}
