//! What a server says, fit for a terminal.

/// More of a reason is not shown.
const LONGEST: usize = 400;

/// `text` in one line, without anything that a terminal would obey, and not longer than a person reads.
pub(super) fn plain(text: &str) -> String {
    let mut line = String::new();
    let words = text.split(|letter: char| letter.is_whitespace() || letter.is_control());
    for word in words.filter(|word| !word.is_empty()) {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
        if line.len() > LONGEST {
            break;
        }
    }
    cut(&line, LONGEST)
}

/// The first `most` characters, with an ellipsis where there are more.
pub(super) fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_reaches_the_terminal_that_it_would_obey() {
        assert_eq!(plain("two\nlines \x1b[31mred\x07 \u{9b}2J"), "two lines [31mred 2J");
        assert_eq!(plain("  "), "");
        let long = plain(&"é".repeat(3_000));
        assert_eq!(long.chars().count(), LONGEST + 1);
        assert_eq!(cut("abc", 3), "abc");
        assert_eq!(cut("abcd", 3), "abc…");
    }
}
