//! What somebody who mistyped a name may have meant.

use super::keys::{KEYS, SECTIONS};
use super::mistake::Suggestion;

/// How alike two names must be (0 to 1) for one to be proposed for the other. At 0.8, `lisen` proposes `listen` and
/// `max_session` proposes `max_sessions`, while `port` proposes nothing.
const ALIKE: f64 = 0.8;

/// How alike two names are that differ by a single slip: `vda` and `vad`.
const ONE_SLIP: f64 = 0.95;

/// Jaro-Winkler's likeness. It underrates short names, so one slip (a letter too few, too many, wrong, or two swapped)
/// in a name of at least three letters counts as [`ONE_SLIP`].
fn likeness(one: &str, other: &str) -> f64 {
    let likeness = strsim::jaro_winkler(one, other);
    if one.len() >= 3 && strsim::osa_distance(one, other) <= 1 {
        likeness.max(ONE_SLIP)
    } else {
        likeness
    }
}

/// The candidate that is most like `name`, if any is alike.
pub(super) fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let name = name.to_lowercase().replace('-', "_");
    candidates
        .into_iter()
        .map(|candidate| (likeness(&name, &candidate.to_lowercase()), candidate))
        .filter(|(likeness, _)| *likeness >= ALIKE)
        .max_by(|one, other| one.0.total_cmp(&other.0))
        .map(|(_, candidate)| candidate)
}

/// What to write instead of the key `name` in the section `section` (empty: outside of any).
pub(super) fn suggest_key(section: &str, name: &str) -> Suggestion {
    let in_section = || KEYS.iter().filter(|key| key.section() == section).map(|key| key.last());
    if let Some(last) = nearest(name, in_section()) {
        return Suggestion::Nearest(join(section, last));
    }
    // The right key in the wrong section: `stt.voice` means `tts.voice`.
    if let Some(elsewhere) = KEYS.iter().find(|key| key.last() == name.replace('-', "_")) {
        return Suggestion::Nearest(elsewhere.name.to_owned());
    }
    let lasts = KEYS.iter().map(|key| key.last());
    if let Some(key) = nearest(name, lasts).and_then(|last| KEYS.iter().find(|key| key.last() == last)) {
        return Suggestion::Nearest(key.name.to_owned());
    }
    let mut names: Vec<String> = in_section().map(str::to_owned).collect();
    if section.is_empty() {
        names.extend(section_names().map(|name| format!("[{name}]")));
    }
    Suggestion::OneOf(names)
}

/// The sections that have a name.
fn section_names() -> impl Iterator<Item = &'static str> {
    SECTIONS
        .iter()
        .map(|section| section.name)
        .filter(|name| !name.is_empty())
}

/// What to write instead of the section `name`, which holds the keys `keys`.
pub(super) fn suggest_section<'a>(name: &str, keys: impl IntoIterator<Item = &'a str>) -> Suggestion {
    let sections = || {
        SECTIONS
            .iter()
            .map(|section| section.name)
            .filter(|name| !name.is_empty())
    };
    if let Some(section) = nearest(name, sections()) {
        return Suggestion::Nearest(format!("[{section}]"));
    }
    // A section of another name that holds keys of ours: `[http]` with `listen` means `[server]`.
    let owner = keys
        .into_iter()
        .find_map(|written| KEYS.iter().find(|key| key.last() == written));
    match owner {
        Some(key) if !key.section().is_empty() => Suggestion::Nearest(format!("[{}]", key.section())),
        _ => Suggestion::OneOf(section_names().map(str::to_owned).collect()),
    }
}

/// What to write instead of the full name `name`, such as `server.lisen`.
pub(super) fn suggest_full_name(name: &str) -> Suggestion {
    let (section, last) = name.rsplit_once('.').unwrap_or(("", name));
    if SECTIONS.iter().any(|known| known.name == section) {
        return suggest_key(section, last);
    }
    match nearest(name, KEYS.iter().map(|key| key.name)) {
        Some(found) => Suggestion::Nearest(found.to_owned()),
        None => suggest_section(section, [last]),
    }
}

/// `section.last`, or `last` alone outside of any section.
pub(super) fn join(section: &str, last: &str) -> String {
    if section.is_empty() {
        last.to_owned()
    } else {
        format!("{section}.{last}")
    }
}
