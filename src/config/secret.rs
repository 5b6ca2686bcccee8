//! Text that no log, error or dump may show.

use std::fmt;

/// An access token or an API key. It can be used, compared and handed on; it can't be printed by accident.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// What is printed instead of a secret.
    pub const WITHHELD: &'static str = "[withheld]";

    /// Marks `text` as secret.
    #[must_use]
    pub const fn new(text: String) -> Self {
        Self(text)
    }

    /// The secret itself, for whoever must send or compare it. Never for a log.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(Self::WITHHELD)
    }
}
