//! Identifiers. Each kind is a type of its own, so that one can't be passed for another.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! identifier {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(u64);

        impl $name {
            /// The identifier with this number.
            #[must_use]
            pub const fn new(number: u64) -> Self {
                Self(number)
            }

            /// Its number.
            #[must_use]
            pub const fn number(self) -> u64 {
                self.0
            }

            /// The one after it.
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0 + 1)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(formatter, concat!($prefix, "{}"), self.0)
            }
        }
    };
}

identifier!(
    /// One stretch of the user's speech (or one typed message), counted from 1 in a session.
    TurnId, "turn_");
identifier!(
    /// One reply, counted from 1 in a session.
    ResponseId, "resp_");
identifier!(
    /// One item of the conversation's history, counted from 1 in a session.
    ItemId, "item_");
identifier!(
    /// One recognition that the core asked for. A turn has several when a recogniser is replaced or its turn is long.
    TranscriptionId, "stt_");
identifier!(
    /// One request to the language model.
    GenerationId, "llm_");
identifier!(
    /// One clause given to the synthesiser.
    SynthesisId, "tts_");
identifier!(
    /// One question to the end-of-turn model.
    PredictionId, "eot_");
identifier!(
    /// A loaded backend: a number that grows with each load in the process, so that two loads of one model differ.
    Generation, "gen_");

identifier!(
    /// One switch of a backend, counted from 1 in a session.
    SwitchId, "switch_");

/// A session, unique across processes: 64 random bits, chosen by the engine.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct SessionId(u64);

impl SessionId {
    /// The session with these bits.
    #[must_use]
    pub const fn new(bits: u64) -> Self {
        Self(bits)
    }

    /// Its bits.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "sess_{:016x}", self.0)
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl From<SessionId> for String {
    fn from(id: SessionId) -> Self {
        id.to_string()
    }
}

impl TryFrom<String> for SessionId {
    type Error = NotASessionId;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let digits = text
            .strip_prefix("sess_")
            .filter(|digits| digits.len() == 16)
            .ok_or(NotASessionId)?;
        u64::from_str_radix(digits, 16).map(Self).map_err(|_| NotASessionId)
    }
}

/// The text isn't `sess_` and sixteen hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a session id is \"sess_\" and sixteen hexadecimal digits")]
pub struct NotASessionId;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn session_ids_are_read_back() {
        let id = SessionId::new(0xfeed_0000_0000_0001);
        assert_eq!(id.to_string(), "sess_feed000000000001");
        assert_eq!(SessionId::try_from(id.to_string()), Ok(id));
        for wrong in [
            "",
            "sess_",
            "sess_1",
            "feed000000000001",
            "sess_feed00000000000g",
            "sess_+eed000000000001x",
        ] {
            assert_eq!(SessionId::try_from(wrong.to_owned()), Err(NotASessionId), "{wrong}");
        }
    }
}
