//! Languages: BCP 47 tags outside, Whisper's own codes inside.

/// Tags whose language Whisper knows under another code: old codes (RFC 5646 keeps them valid), members of a macrolanguage, and
/// Javanese, which its authors spelt their own way.
const ALIASES: [(&str, &str); 12] = [
    ("jv", "jw"),
    ("nb", "no"),
    ("iw", "he"),
    ("ji", "yi"),
    ("mo", "ro"),
    ("cmn", "zh"),
    ("fil", "tl"),
    ("arb", "ar"),
    ("pes", "fa"),
    ("swh", "sw"),
    ("zsm", "ms"),
    ("ekk", "et"),
];

/// Whisper's code of Cantonese: only the newest vocabulary has it.
const CANTONESE: &str = "yue";

/// Whisper's code for the language of a BCP 47 tag, if it has one.
pub(crate) fn code(tag: &str, knows_cantonese: bool) -> Option<&'static str> {
    let base = tag.split(['-', '_']).next().unwrap_or_default().to_ascii_lowercase();
    // The library also takes whole names ("german"), which are no tags.
    if !(2..=3).contains(&base.len()) || !base.bytes().all(|byte| byte.is_ascii_lowercase()) {
        return None;
    }
    // In `zh-yue` and `zh-HK` the speech is Cantonese.
    let rest = tag.to_ascii_lowercase();
    if knows_cantonese
        && base == "zh"
        && rest
            .split(['-', '_'])
            .skip(1)
            .any(|part| part == CANTONESE || part == "hk")
    {
        return Some(CANTONESE);
    }
    let base = ALIASES
        .iter()
        .find(|(alias, _)| *alias == base)
        .map_or(base.as_str(), |(_, code)| code);
    let id = whisper_rs::get_lang_id(base)?;
    // Older models transcribe Cantonese as Chinese.
    if base == CANTONESE && !knows_cantonese {
        return Some("zh");
    }
    whisper_rs::get_lang_str(id)
}

/// The BCP 47 tag for one of Whisper's codes.
pub(crate) fn tag(code: &str) -> &str {
    if code == "jw" { "jv" } else { code }
}

/// The codes of all languages that a multilingual model knows, by the number of their token.
pub(crate) fn all(knows_cantonese: bool) -> Vec<&'static str> {
    (0..=whisper_rs::get_lang_max_id())
        .filter_map(whisper_rs::get_lang_str)
        .filter(|code| knows_cantonese || *code != CANTONESE)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_become_whispers_codes() {
        for (tag, expected) in [
            ("en", Some("en")),
            ("en-US", Some("en")),
            ("DE_at", Some("de")),
            ("nb-NO", Some("no")),
            ("jv", Some("jw")),
            ("he", Some("he")),
            ("iw", Some("he")),
            ("cmn-Hans-CN", Some("zh")),
            ("yue", Some("zh")),
            ("zh-HK", Some("zh")),
            ("haw", Some("haw")),
            ("german", None),
            ("xx", None),
            ("", None),
            ("e\0", None),
            ("-", None),
        ] {
            assert_eq!(code(tag, false), expected, "{tag:?}");
        }
        assert_eq!(code("yue", true), Some("yue"));
        assert_eq!(code("zh-HK", true), Some("yue"));
        assert_eq!(code("zh-CN", true), Some("zh"));
    }

    #[test]
    fn every_code_has_a_tag_that_leads_back() {
        assert_eq!((all(false).len(), all(true).len()), (99, 100));
        for known in all(true) {
            assert_eq!(code(tag(known), true), Some(known));
        }
    }
}
