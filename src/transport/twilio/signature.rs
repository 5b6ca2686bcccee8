//! Whether a request is Twilio's: it signs the URL of each with the account's auth token
//! (<https://www.twilio.com/docs/usage/security#validating-requests>): HMAC-SHA1 in base64. A WebSocket has no fields of a form, so the
//! URL is all that is signed.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;

/// Whether `given`, the value of `X-Twilio-Signature`, is the signature of `url` by `auth_token`. An address of a WebSocket is taken under
/// both of its names, `wss://` and `https://`. The time that it takes doesn't tell how much of it was right.
pub(super) fn is_right(auth_token: &str, url: &str, given: Option<&str>) -> bool {
    let Some(tag) = given.and_then(|given| STANDARD.decode(given.trim()).ok()) else {
        return false;
    };
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, auth_token.as_bytes());
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    ["wss", "https"]
        .iter()
        .any(|scheme| hmac::verify(&key, format!("{scheme}://{rest}").as_bytes(), &tag).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_right_signature_of_the_right_url_is_right() {
        // printf %s wss://voice.example/twilio | openssl dgst -sha1 -hmac 12345 -binary | base64
        let signature = "9drV9w30+xO3uRD6ZxQMOiPUmnw=";
        let url = "wss://voice.example/twilio";
        assert!(is_right("12345", url, Some(signature)));
        assert!(is_right("12345", "https://voice.example/twilio", Some(signature)));
        for (token, url, given) in [
            ("12346", url, Some(signature)),
            ("12345", "wss://voice.example/twilio/", Some(signature)),
            ("12345", "wss://evil.example/twilio", Some(signature)),
            ("12345", url, None),
            ("12345", url, Some("")),
            ("12345", url, Some("not base64!")),
            ("12345", url, Some("AAAA")),
            ("12345", "", Some(signature)),
        ] {
            assert!(!is_right(token, url, given), "{token} {url} {given:?}");
        }
    }
}
