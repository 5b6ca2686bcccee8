//! The names of what we make in Asterisk: by them it is known as ours, also after a crash.

use std::fmt::Write as _;

/// Hexadecimal digits of a call's own part of a name.
const DIGITS: usize = 32;

/// How the names of an application's bridges and media channels begin.
#[derive(Clone, Debug)]
pub(super) struct Names {
    prefix: String,
}

impl Names {
    pub(super) fn new(app: &str) -> Self {
        Self {
            prefix: format!("repartee-{app}-"),
        }
    }

    /// The name of the bridge and of the media channel of the call with this UUID.
    pub(super) fn of(&self, uuid: &[u8; 16]) -> String {
        let mut name = self.prefix.clone();
        for byte in uuid {
            // Writing into a string cannot fail.
            let _ = write!(name, "{byte:02x}");
        }
        name
    }

    /// Whether a call of this application was given this name; another whose name begins with ours has its own.
    pub(super) fn is_ours(&self, name: &str) -> bool {
        name.strip_prefix(&self.prefix).is_some_and(|rest| {
            rest.len() == DIGITS
                && rest
                    .bytes()
                    .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
        })
    }
}

/// A random UUID (RFC 9562 §5.4): for AudioSocket it is all that names the call, so it can't be guessed.
pub(super) fn uuid() -> [u8; 16] {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("a system without a random source can't run a server");
    bytes[6] = bytes[6] & 0x0F | 0x40;
    bytes[8] = bytes[8] & 0x3F | 0x80;
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_names_are_known_and_no_others() {
        let names = Names::new("bot");
        let name = names.of(&uuid());
        assert!(names.is_ours(&name), "{name}");
        assert_ne!(name, names.of(&uuid()));
        let other = Names::new("bot-2").of(&uuid());
        for name in ["", "1795291244.164", "repartee-bot-", &other, &name[..name.len() - 1]] {
            assert!(!names.is_ours(name), "{name}");
        }
    }
}
