//! The small types that messages are made of: ids, lengths of time, fractions, keys, and what is private.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error, Unexpected};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What somebody said, wrote, or keeps secret. `Debug` shows only how much there is of it; there is no `Display`.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Private(String);

impl Private {
    /// The text itself, for whoever must process it. Never for a log.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The text itself, by value.
    #[must_use]
    pub fn into_exposed(self) -> String {
        self.0
    }
}

impl From<&str> for Private {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl From<String> for Private {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for Private {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "[{} characters withheld]", self.0.chars().count())
    }
}

impl JsonSchema for Private {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Private".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string" })
    }
}

macro_rules! identifier {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(u64);

        impl $name {
            /// What its text begins with.
            pub const PREFIX: &str = $prefix;

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

            /// Reads the text form: the prefix and at most 19 decimal digits, without leading zeros.
            #[must_use]
            pub fn parse(text: &str) -> Option<Self> {
                parse_number(text.strip_prefix($prefix)?).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(formatter, concat!($prefix, "{}"), self.0)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = Cow::<'de, str>::deserialize(deserializer)?;
                Self::parse(&text).ok_or_else(|| D::Error::custom(concat!("not an id of the form ", $prefix, "1")))
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({
                    "type": "string",
                    "pattern": concat!("^", $prefix, "(0|[1-9][0-9]{0,18})$"),
                })
            }
        }
    };
}

/// At most 19 digits, so that every number that fits the pattern fits 64 bits too.
fn parse_number(digits: &str) -> Option<u64> {
    let well_formed = (1..=19).contains(&digits.len())
        && digits.bytes().all(|byte| byte.is_ascii_digit())
        && (digits == "0" || !digits.starts_with('0'));
    if well_formed { digits.parse().ok() } else { None }
}

identifier!(
    /// One turn of the user, counted from 1 in a session: `turn_1`.
    TurnId, "turn_");
identifier!(
    /// One response of the assistant, counted from 1 in a session: `resp_1`.
    ResponseId, "resp_");
identifier!(
    /// One item of the history, counted from 1 in a session: `item_1`.
    ItemId, "item_");

/// A length of time, or an instant since the session began, in milliseconds with at most three decimals. It is kept as whole
/// microseconds, so that sums are exact.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Millis {
    micros: u64,
}

impl Millis {
    /// From whole microseconds.
    #[must_use]
    pub const fn from_micros(micros: u64) -> Self {
        Self { micros }
    }

    /// Whole microseconds.
    #[must_use]
    pub const fn as_micros(self) -> u64 {
        self.micros
    }

    /// Milliseconds as a fraction.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "exact for the first 285 years of a session")]
    pub fn as_f64(self) -> f64 {
        self.micros as f64 / 1000.0
    }
}

impl From<Duration> for Millis {
    /// What is less than a microsecond is cut off.
    fn from(duration: Duration) -> Self {
        Self::from_micros(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX))
    }
}

impl std::iter::Sum for Millis {
    fn sum<I: Iterator<Item = Self>>(parts: I) -> Self {
        Self::from_micros(parts.fold(0, |sum, part| sum.saturating_add(part.micros)))
    }
}

impl Serialize for Millis {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.micros.is_multiple_of(1000) {
            serializer.serialize_u64(self.micros / 1000)
        } else {
            serializer.serialize_f64(self.as_f64())
        }
    }
}

impl<'de> Deserialize<'de> for Millis {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "checked to be finite and not negative; the cast saturates at 584,000 years"
    )]
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let millis = f64::deserialize(deserializer)?;
        if millis.is_finite() && millis >= 0.0 {
            Ok(Self::from_micros((millis * 1000.0).round() as u64))
        } else {
            Err(D::Error::invalid_value(
                Unexpected::Float(millis),
                &"milliseconds, not negative",
            ))
        }
    }
}

impl JsonSchema for Millis {
    fn schema_name() -> Cow<'static, str> {
        "Millis".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "number",
            "minimum": 0,
            "description": "Milliseconds, with at most three decimals.",
        })
    }
}

/// A number with at most three decimals, kept as thousandths: thresholds and gains (0 to 1), temperatures (0 to 2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Thousandths(u16);

impl Thousandths {
    /// From thousandths.
    #[must_use]
    pub const fn new(thousandths: u16) -> Self {
        Self(thousandths)
    }

    /// How many thousandths.
    #[must_use]
    pub const fn count(self) -> u16 {
        self.0
    }

    /// The nearest to `number`; none if it is negative, over 65.535 or no number.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the range is checked before the cast"
    )]
    pub fn nearest(number: f64) -> Option<Self> {
        let thousandths = (number * 1000.0).round();
        (number >= 0.0 && thousandths <= f64::from(u16::MAX)).then_some(Self(thousandths as u16))
    }

    /// The number itself.
    #[must_use]
    pub fn as_f64(self) -> f64 {
        f64::from(self.0) / 1000.0
    }
}

impl Serialize for Thousandths {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.as_f64())
    }
}

impl<'de> Deserialize<'de> for Thousandths {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = f64::deserialize(deserializer)?;
        Self::nearest(number)
            .ok_or_else(|| D::Error::invalid_value(Unexpected::Float(number), &"a number from 0 to 65.535"))
    }
}

impl JsonSchema for Thousandths {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Thousandths".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "number" })
    }
}

/// A telephone key: `0`–`9`, `*`, `#`, `A`–`D`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Digit(char);

impl Digit {
    /// The key that `key` names, if it is one; `a`–`d` are taken too.
    #[must_use]
    pub const fn new(key: char) -> Option<Self> {
        match key {
            '0'..='9' | '*' | '#' | 'A'..='D' => Some(Self(key)),
            'a'..='d' => Some(Self(key.to_ascii_uppercase())),
            _ => None,
        }
    }

    /// Reads a text that is exactly one key.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut keys = text.chars();
        let key = Self::new(keys.next()?)?;
        keys.next().is_none().then_some(key)
    }

    /// The key.
    #[must_use]
    pub const fn key(self) -> char {
        self.0
    }
}

impl Serialize for Digit {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_char(self.0)
    }
}

impl<'de> Deserialize<'de> for Digit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let key = char::deserialize(deserializer)?;
        Self::new(key).ok_or_else(|| D::Error::custom("a telephone key is one of 0-9, *, #, A-D"))
    }
}

impl JsonSchema for Digit {
    fn schema_name() -> Cow<'static, str> {
        "Digit".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": "^[0-9*#A-Da-d]$",
            "description": "A telephone key.",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_back_and_nothing_else_is() {
        assert_eq!(TurnId::parse("turn_17"), Some(TurnId::new(17)));
        assert_eq!(TurnId::new(17).to_string(), "turn_17");
        assert_eq!(TurnId::parse("turn_0"), Some(TurnId::new(0)));
        assert!(ResponseId::parse("resp_9999999999999999999").is_some());
        for wrong in [
            "turn_",
            "turn_01",
            "turn_-1",
            "turn_+1",
            "resp_1",
            "turn_1 ",
            "turn_99999999999999999999",
            "turn_١",
        ] {
            assert_eq!(TurnId::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn milliseconds_are_whole_numbers_where_they_can_be() {
        let text = |micros| serde_json::to_string(&Millis::from_micros(micros)).expect("a number");
        assert_eq!(text(600_000), "600");
        assert_eq!(text(62_500), "62.5");
        assert_eq!(text(1), "0.001");
        for micros in [0, 1, 999, 1_000, 62_500, 86_400_000_001] {
            assert_eq!(
                serde_json::from_str::<Millis>(&text(micros)).ok(),
                Some(Millis::from_micros(micros))
            );
        }
        assert!(serde_json::from_str::<Millis>("-1").is_err());
    }

    #[test]
    fn thousandths_round_and_refuse() {
        assert_eq!(Thousandths::nearest(0.5), Some(Thousandths::new(500)));
        assert_eq!(Thousandths::nearest(0.0004), Some(Thousandths::new(0)));
        for wrong in [-0.1, f64::NAN, f64::INFINITY, 65.6] {
            assert_eq!(Thousandths::nearest(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_key_is_one_character() {
        assert_eq!(Digit::parse("5").map(Digit::key), Some('5'));
        assert_eq!(Digit::parse("c").map(Digit::key), Some('C'));
        for wrong in ["", "55", "E", "٣"] {
            assert_eq!(Digit::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_is_private_is_not_printed() {
        assert_eq!(format!("{:?}", Private::from("0123")), "[4 characters withheld]");
    }
}
