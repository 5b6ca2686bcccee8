//! Who may come in: which page a browser may have come from, and who knows the token. Pure; the wires hand in what they were told.

use std::net::IpAddr;

/// Refuses pages of other sites. A browser lets any page open a WebSocket to any host, this machine included, and says in
/// `Origin` where the page came from; programs send none. A page whose own name was pointed at this machine (DNS
/// rebinding) has an `Origin` that equals `Host`: while only this machine can reach us, `Host` must name it.
///
/// `origin` and `host` are the values of the headers of these names, `loopback` whether only this machine can reach us.
///
/// # Errors
/// Why this page may not come in.
pub fn same_origin(origin: Option<&str>, host: Option<&str>, loopback: bool) -> Result<(), &'static str> {
    let Some(origin) = origin else {
        return Ok(());
    };
    let host = host.unwrap_or_default();
    let origin_host = origin.split_once("://").map_or("", |(_, rest)| rest);
    if host.is_empty() || !origin_host.eq_ignore_ascii_case(host) {
        return Err("this page comes from another site and may not open a session here");
    }
    if loopback && !names_this_machine(host) {
        return Err("this server is reached as localhost or 127.0.0.1 only");
    }
    Ok(())
}

fn names_this_machine(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Whether `given` is the token that is wanted, in a time that doesn't tell how much of it was right.
#[must_use]
pub fn token_is_right(wanted: Option<&str>, given: Option<&str>) -> bool {
    let Some(wanted) = wanted else { return true };
    let given = given.unwrap_or_default().as_bytes();
    let difference = wanted
        .bytes()
        .enumerate()
        .fold(wanted.len() ^ given.len(), |difference, (index, byte)| {
            difference | usize::from(byte ^ given.get(index).copied().unwrap_or(0))
        });
    std::hint::black_box(difference) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_page_and_programs_get_in() {
        for (origin, host, loopback, allowed) in [
            (None, "127.0.0.1:8080", true, true),
            (Some("http://127.0.0.1:8080"), "127.0.0.1:8080", true, true),
            (Some("http://localhost:8080"), "localhost:8080", true, true),
            (Some("http://[::1]:8080"), "[::1]:8080", true, true),
            (Some("http://evil.example"), "127.0.0.1:8080", true, false),
            (Some("http://localhost:9"), "localhost:8080", true, false),
            (Some("null"), "127.0.0.1:8080", true, false),
            (Some("http://rebound.example:8080"), "rebound.example:8080", true, false),
            (Some("https://voice.example"), "voice.example", false, true),
        ] {
            assert_eq!(
                same_origin(origin, Some(host), loopback).is_ok(),
                allowed,
                "{origin:?} at {host}"
            );
        }
    }

    #[test]
    fn tokens_are_compared_whole() {
        assert!(token_is_right(None, None));
        assert!(token_is_right(None, Some("anything")));
        assert!(token_is_right(Some("secret"), Some("secret")));
        for wrong in [None, Some(""), Some("secre"), Some("secret2"), Some("Secret")] {
            assert!(!token_is_right(Some("secret"), wrong), "{wrong:?}");
        }
    }
}
