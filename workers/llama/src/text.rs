//! From the bytes of tokens to text that can be sent: whole characters, without what may be the beginning of a stop string.

/// Makes characters of bytes, however they are cut.
#[derive(Default)]
pub(crate) struct Characters {
    /// The beginning of a character.
    pending: Vec<u8>,
}

impl Characters {
    /// Takes bytes and gives the characters that are whole. What is no UTF-8 becomes U+FFFD.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> String {
        self.pending.extend_from_slice(bytes);
        let mut text = String::new();
        let mut rest = self.pending.as_slice();
        loop {
            match std::str::from_utf8(rest) {
                Ok(valid) => {
                    text.push_str(valid);
                    rest = &[];
                }
                Err(error) => {
                    let (valid, after) = rest.split_at(error.valid_up_to());
                    text.push_str(&String::from_utf8_lossy(valid));
                    rest = after;
                    if let Some(wrong) = error.error_len() {
                        text.push(char::REPLACEMENT_CHARACTER);
                        rest = &after[wrong..];
                        continue;
                    }
                }
            }
            break;
        }
        self.pending = rest.to_vec();
        text
    }

    /// There's no more: what is left is no character.
    pub(crate) fn finish(&mut self) -> &'static str {
        if std::mem::take(&mut self.pending).is_empty() {
            ""
        } else {
            "\u{fffd}"
        }
    }
}

/// Watches a text for strings at which it ends.
pub(crate) struct Stops {
    stops: Vec<String>,
    /// What may be the beginning of one.
    held: String,
}

impl Stops {
    /// Empty ones are left out: they would end everything.
    pub(crate) fn new(stops: Vec<String>) -> Self {
        Self {
            stops: stops.into_iter().filter(|stop| !stop.is_empty()).collect(),
            held: String::new(),
        }
    }

    /// Takes text; gives what can be sent, and whether a stop string has come. What follows it isn't given.
    pub(crate) fn push(&mut self, text: &str) -> (String, bool) {
        self.held.push_str(text);
        let first = self.stops.iter().filter_map(|stop| self.held.find(stop.as_str())).min();
        if let Some(end) = first {
            let mut text = std::mem::take(&mut self.held);
            text.truncate(end);
            return (text, true);
        }
        let keep = self.stops.iter().map(|stop| begun(&self.held, stop)).max().unwrap_or(0);
        let rest = self.held.split_off(self.held.len() - keep);
        (std::mem::replace(&mut self.held, rest), false)
    }

    /// There's no more: what was held back was no stop string.
    pub(crate) fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

/// How many of the last bytes of `text` are the beginning of `stop`.
fn begun(text: &str, stop: &str) -> usize {
    stop.char_indices()
        .map(|(length, _)| length)
        .filter(|length| *length > 0 && text.ends_with(&stop[..*length]))
        .max()
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_are_whole_however_they_are_cut() {
        let text = "aé€😀z";
        for size in 1..6 {
            let mut characters = Characters::default();
            let whole: String = text
                .as_bytes()
                .chunks(size)
                .map(|chunk| characters.push(chunk))
                .collect();
            assert_eq!((whole.as_str(), characters.finish()), (text, ""));
        }
    }

    #[test]
    fn what_is_no_utf8_is_replaced() {
        let mut characters = Characters::default();
        assert_eq!(characters.push(b"a\xffb\xc3"), "a\u{fffd}b");
        assert_eq!(characters.push(b"("), "\u{fffd}(");
        assert_eq!(characters.push(b"\xf0\x9f"), "");
        assert_eq!(characters.finish(), "\u{fffd}");
        assert_eq!(characters.finish(), "");
    }

    #[test]
    fn stop_strings_are_held_back_and_left_out() {
        let mut stops = Stops::new(vec!["END".into(), "\nUser:".into(), String::new()]);
        assert_eq!(stops.push("hello E"), ("hello ".into(), false));
        assert_eq!(stops.push("N"), (String::new(), false));
        assert_eq!(stops.push("ough"), ("ENough".into(), false));
        assert_eq!(stops.push("\nUse"), (String::new(), false));
        assert_eq!(stops.push("r: hi END"), (String::new(), true));
        let mut stops = Stops::new(vec!["aab".into()]);
        assert_eq!(stops.push("aaa"), ("a".into(), false));
        assert_eq!(stops.push("bc"), (String::new(), true));
        assert_eq!(stops.push("aa"), (String::new(), false));
        assert_eq!(stops.finish(), "aa");
        let mut stops = Stops::new(vec!["é!".into()]);
        assert_eq!(stops.push("caf\u{e9}"), ("caf".into(), false));
        assert_eq!(stops.push("?"), ("\u{e9}?".into(), false));
    }
}
