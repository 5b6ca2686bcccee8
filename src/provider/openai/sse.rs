//! Server-sent events out of bytes, without IO. Source: WHATWG HTML, "Parsing an event stream".
//!
//! Only `data` is of interest; names, ids and retry times are read over. Lines may be split anywhere, characters too.

/// An event, or a line of one, may have so many bytes: a tool call's arguments in one piece are the largest that is
/// known, and have some kilobytes.
pub(super) const EVENT_BYTES_MAX: usize = 1 << 20;

/// What was given is longer than [`EVENT_BYTES_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooLong;

/// Cuts bytes into events.
#[derive(Debug, Default)]
pub(super) struct EventParser {
    line: Vec<u8>,
    data: Vec<u8>,
    /// Whether the event has a `data` line, which may be empty.
    has_data: bool,
    /// The last byte was a carriage return: a line feed after it belongs to the same line end.
    after_return: bool,
    /// A byte order mark may stand at the very beginning.
    begun: bool,
}

impl EventParser {
    /// Takes the next bytes and gives the data of each event that they complete.
    ///
    /// # Errors
    /// After [`TooLong`] it can't be used any more.
    pub(super) fn push(&mut self, bytes: &[u8], mut on_data: impl FnMut(&str)) -> Result<(), TooLong> {
        let mut rest = bytes;
        while let Some(first) = rest.first() {
            if std::mem::take(&mut self.after_return) && *first == b'\n' {
                rest = &rest[1..];
                continue;
            }
            match rest.iter().position(|byte| matches!(byte, b'\r' | b'\n')) {
                Some(end) => {
                    self.extend(&rest[..end])?;
                    self.after_return = rest[end] == b'\r';
                    rest = &rest[end + 1..];
                    self.end_line(&mut on_data)?;
                }
                None => {
                    self.extend(rest)?;
                    break;
                }
            }
        }
        Ok(())
    }

    fn extend(&mut self, bytes: &[u8]) -> Result<(), TooLong> {
        if self.line.len() + bytes.len() > EVENT_BYTES_MAX {
            return Err(TooLong);
        }
        self.line.extend_from_slice(bytes);
        Ok(())
    }

    fn end_line(&mut self, on_data: &mut impl FnMut(&str)) -> Result<(), TooLong> {
        let mut line = self.line.as_slice();
        if !std::mem::replace(&mut self.begun, true) {
            line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
        }
        if line.is_empty() {
            if std::mem::take(&mut self.has_data) {
                on_data(&String::from_utf8_lossy(&self.data));
            }
            self.data.clear();
        } else if let Some(value) = line.strip_prefix(b"data")
            && let Some(value) = value.strip_prefix(b":").or(value.is_empty().then_some(value))
        {
            let value = value.strip_prefix(b" ").unwrap_or(value);
            if self.data.len() + value.len() >= EVENT_BYTES_MAX {
                return Err(TooLong);
            }
            if std::mem::replace(&mut self.has_data, true) {
                self.data.push(b'\n');
            }
            self.data.extend_from_slice(value);
        }
        self.line.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(pieces: &[&[u8]]) -> Result<Vec<String>, TooLong> {
        let mut parser = EventParser::default();
        let mut events = Vec::new();
        for piece in pieces {
            parser.push(piece, |data| events.push(data.to_owned()))?;
        }
        Ok(events)
    }

    #[test]
    fn events_are_the_same_however_they_are_cut() {
        let text = "\u{feff}: a comment\r\nevent: x\r\ndata: {\"a\":\"h\u{e9}llo \u{1f600}\"}\r\n\r\ndata:one\rdata: \
                    two\r\rid: 7\n\ndata\n\ndata: [DONE]\n\ndata: cut off";
        let expected = ["{\"a\":\"h\u{e9}llo \u{1f600}\"}", "one\ntwo", "", "[DONE]"];
        let bytes = text.as_bytes();
        for size in 1..bytes.len() {
            let pieces: Vec<_> = bytes.chunks(size).collect();
            assert_eq!(parse(&pieces).expect("short"), expected, "in pieces of {size}");
        }
    }

    #[test]
    fn what_is_not_text_is_replaced() {
        assert_eq!(parse(&[b"data: \xff\xfe\n\n"]).expect("short"), ["\u{fffd}\u{fffd}"]);
    }

    #[test]
    fn what_never_ends_is_refused() {
        let piece = vec![b'x'; 1 << 16];
        assert_eq!(parse(&vec![piece.as_slice(); 17]), Err(TooLong));
        let mut line = b"data: ".to_vec();
        line.extend_from_slice(&piece);
        line.push(b'\n');
        assert_eq!(parse(&vec![line.as_slice(); 17]), Err(TooLong));
    }
}
