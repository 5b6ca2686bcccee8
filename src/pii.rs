//! Privacy as a type: what people say, write or are called prints redacted.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Something personal. `Debug` shows only how much there is of it; there is no `Display`. It serialises as what it is,
/// because wires and traces carry it on purpose.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Pii<T>(T);

impl<T> Pii<T> {
    /// Marks `value` as personal.
    pub const fn new(value: T) -> Self {
        Self(value)
    }

    /// The value itself, for whoever must process it. Never for a log.
    pub const fn expose(&self) -> &T {
        &self.0
    }

    /// The value itself, mutable.
    pub const fn expose_mut(&mut self) -> &mut T {
        &mut self.0
    }

    /// The value itself, by value.
    pub fn into_exposed(self) -> T {
        self.0
    }
}

impl<T> From<T> for Pii<T> {
    fn from(value: T) -> Self {
        Self(value)
    }
}

impl From<&str> for Pii<String> {
    fn from(value: &str) -> Self {
        Self(value.to_owned())
    }
}

impl<T: AsRef<str>> fmt::Debug for Pii<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "[{} characters withheld]", self.0.as_ref().chars().count())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_is_not_printed() {
        let said = Pii::<String>::from("my number is 555 0123");
        assert_eq!(format!("{said:?}"), "[21 characters withheld]");
        assert_eq!(
            serde_json::to_string(&said).expect("a string"),
            "\"my number is 555 0123\""
        );
    }
}
