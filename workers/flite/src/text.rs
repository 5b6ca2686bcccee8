//! What is spoken: text from outside made fit for flite, and its words found again in the text as it was.

/// The longest piece that is planned at once, in characters. flite plans a whole text before its first sample, and a clause is
/// shorter than this.
const LONGEST_PIECE: usize = 300;

/// The longest word; longer runs of letters are no words, and flite's rules for them are slow.
const LONGEST_WORD: usize = 40;

/// A piece of text as flite is given it: printable ASCII, with the place of each byte in the text that it came from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Piece {
    /// What flite is given.
    pub(crate) text: String,
    /// For each byte of `text`, the index of the character that it stands for, in the original text.
    places: Vec<usize>,
}

/// A word as flite speaks it, with its time in seconds since the piece's first sample.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Timed {
    /// The token, without the punctuation around it.
    pub(crate) token: String,
    /// When it begins.
    pub(crate) start: f32,
    /// When it has ended.
    pub(crate) end: f32,
}

/// Makes pieces of a text: letters with accents lose them, typographic signs become plain ones, everything else that is no printable
/// ASCII becomes a space. A piece ends at the end of a sentence or clause where there is one in time. Pieces without a letter or
/// digit are left out.
pub(crate) fn pieces(text: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut piece = Piece::default();
    let mut run = 0;
    for (place, letter) in text.chars().enumerate() {
        let plain = plain(letter);
        let is_space = plain.chars().all(|c| c == ' ');
        run = if is_space { 0 } else { run + plain.len() };
        if run > LONGEST_WORD {
            piece.push(" ", place);
            run = plain.len();
            if piece.text.len() > LONGEST_PIECE {
                pieces.push(std::mem::take(&mut piece));
            }
        }
        if is_space && (piece.text.is_empty() || piece.text.ends_with(' ')) {
            continue;
        }
        piece.push(plain, place);
        let clause_ends = is_space && piece.text.trim_end().ends_with([',', '.', ';', ':', '!', '?']);
        if piece.text.len() > LONGEST_PIECE && is_space || clause_ends && piece.text.len() > LONGEST_PIECE / 2 {
            pieces.push(std::mem::take(&mut piece));
        }
    }
    pieces.push(piece);
    pieces.retain(|piece| piece.text.contains(|c: char| c.is_ascii_alphanumeric()));
    pieces
}

/// What stands for a character in plain ASCII.
fn plain(letter: char) -> &'static str {
    /// Every printable ASCII character, at its code less that of the space.
    const ASCII: &str =
        " !\"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`abcdefghijklmnopqrstuvwxyz{|}~";
    match letter {
        // Signs that flite doesn't read and that would be heard as noise.
        '<' | '>' | '[' | ']' | '{' | '}' | '|' | '\\' | '^' | '`' | '~' | '_' | '*' | '#' => " ",
        ' '..='~' => {
            let at = letter as usize - ' ' as usize;
            &ASCII[at..=at]
        }
        '\u{2018}' | '\u{2019}' | '\u{02bc}' => "'",
        '\u{201c}' | '\u{201d}' | '\u{201e}' | '«' | '»' => "\"",
        '\u{2010}' | '\u{2011}' => "-",
        '\u{2012}'..='\u{2015}' => ", ",
        '…' => "...",
        '€' => "euro ",
        '£' => "pound ",
        '°' => " degrees",
        '½' => " one half",
        'à'..='å' | 'ā' | 'ă' | 'ą' => "a",
        'À'..='Å' => "A",
        'æ' => "ae",
        'Æ' => "Ae",
        'ç' | 'ć' | 'č' => "c",
        'Ç' => "C",
        'è'..='ë' | 'ē' | 'ę' | 'ě' => "e",
        'È'..='Ë' => "E",
        'ì'..='ï' | 'ī' => "i",
        'Ì'..='Ï' => "I",
        'ł' => "l",
        'ñ' | 'ń' | 'ň' => "n",
        'Ñ' => "N",
        'ò'..='ö' | 'ø' | 'ō' | 'ő' => "o",
        'Ò'..='Ö' | 'Ø' => "O",
        'œ' => "oe",
        'ř' => "r",
        'ś' | 'š' | 'ş' => "s",
        'ß' => "ss",
        'ù'..='ü' | 'ū' | 'ů' | 'ű' => "u",
        'Ù'..='Ü' => "U",
        'ý' | 'ÿ' => "y",
        'ź' | 'ż' | 'ž' => "z",
        _ => " ",
    }
}

impl Piece {
    fn push(&mut self, text: &str, place: usize) {
        self.text.push_str(text);
        self.places.extend(std::iter::repeat_n(place, text.len()));
    }

    /// Where flite's tokens are in the original text, in characters: from the first to the one after the last, with the punctuation
    /// that clings to them. A token that can't be found is empty, at the end of the one before.
    pub(crate) fn find(&self, words: &[Timed]) -> Vec<(usize, usize)> {
        let bytes = self.text.as_bytes();
        let clings = |at: usize| bytes.get(at).is_some_and(|byte| byte.is_ascii_punctuation());
        let mut cursor = 0;
        let mut found = Vec::with_capacity(words.len());
        for word in words {
            let Some(start) = self.text[cursor..].find(&word.token).map(|at| at + cursor) else {
                let at = self.places.get(cursor).copied().unwrap_or_default();
                found.push((at, at));
                continue;
            };
            let mut end = start + word.token.len();
            while clings(end) && !matches!(bytes[end], b'(' | b'$') {
                end += 1;
            }
            let mut begin = start;
            while begin > cursor && clings(begin - 1) {
                begin -= 1;
            }
            cursor = end;
            let last = end
                .checked_sub(1)
                .and_then(|last| self.places.get(last))
                .map_or(0, |place| place + 1);
            found.push((self.places.get(begin).copied().unwrap_or_default(), last));
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clean(text: &str) -> String {
        pieces(text)
            .iter()
            .map(|piece| piece.text.as_str())
            .collect::<Vec<_>>()
            .join("|")
    }

    #[test]
    fn text_becomes_plain() {
        assert_eq!(clean("“Café”  —\tnaïve\u{0}…"), "\"Cafe\" , naive ...");
        assert_eq!(clean("5°C <b>now</b> 你好"), "5 degreesC b now /b ");
        assert_eq!(clean(""), "");
        assert_eq!(clean(" — … ! "), "");
        for code in 0..0x3000 {
            let Some(letter) = char::from_u32(code) else { continue };
            assert!(
                plain(letter).bytes().all(|byte| (b' '..=b'~').contains(&byte)),
                "{letter:?}"
            );
        }
    }

    #[test]
    fn long_texts_are_cut_where_clauses_end_and_long_runs_anywhere() {
        let sentence = "This is a sentence of some length, with a clause in it. ";
        let all = pieces(&sentence.repeat(20));
        assert!(
            all.len() > 3 && all.iter().all(|piece| piece.text.len() <= LONGEST_PIECE),
            "{all:?}"
        );
        assert!(all[0].text.trim_end().ends_with(['.', ',']));
        let all = pieces(&"a".repeat(100_000));
        assert!(
            all.iter()
                .all(|piece| piece.text.len() <= LONGEST_PIECE + LONGEST_WORD + 2)
        );
        assert!(
            all.iter()
                .all(|piece| piece.text.split(' ').all(|word| word.len() <= LONGEST_WORD))
        );
    }

    #[test]
    fn words_are_found_in_the_text_as_it_was() {
        let text = "Well, it costs — “€5” (or so) at 3 o’clock.";
        let piece = &pieces(text)[0];
        let tokens = [
            "Well", "it", "costs", "euro", "5", "or", "so", "at", "3", "o'clock", "nothing",
        ];
        let words = tokens.map(|token| Timed {
            token: token.into(),
            start: 0.0,
            end: 0.0,
        });
        let original: Vec<char> = text.chars().collect();
        let found: Vec<String> = piece
            .find(&words)
            .iter()
            .map(|(from, to)| original[*from..*to].iter().collect())
            .collect();
        assert_eq!(
            found,
            [
                "Well,",
                "it",
                "costs",
                "“€",
                "5”",
                "(or",
                "so)",
                "at",
                "3",
                "o’clock.",
                ""
            ]
        );
    }
}
