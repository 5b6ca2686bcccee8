//! Channel variables, as Asterisk's JSON carries them.

use std::fmt;

use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::native::Private;

/// Variables of a channel in the order in which they came, [`Variables::MAX`] at most. Names keep the underscores that
/// they were set with. Values may be a caller's number or name, so they print redacted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Variables {
    entries: Vec<(String, Private)>,
    truncated: bool,
}

impl Variables {
    /// How many are kept. More than a dialplan sets; those after them are dropped.
    pub const MAX: usize = 256;

    /// The value of the first variable with this name. `CALLER_NUM` isn't `__CALLER_NUM` here; see
    /// [`inherited`](Self::inherited).
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&str> {
        self.iter().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    /// The value of the first variable with this name, whatever underscores are before it: a variable that the dialplan
    /// sets as `__CALLER_NUM`, so that the channels it makes inherit it, arrives under that name.
    #[must_use]
    pub fn inherited(&self, name: &str) -> Option<&str> {
        let bare = name.trim_start_matches('_');
        self.iter()
            .find(|(known, _)| known.trim_start_matches('_') == bare)
            .map(|(_, value)| value)
    }

    /// Names and values. The values are private: never for a log.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.entries.iter().map(|(name, value)| (name.as_str(), value.expose()))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether there were more than [`Variables::MAX`].
    #[must_use]
    pub const fn is_truncated(&self) -> bool {
        self.truncated
    }
}

impl<'de> Deserialize<'de> for Variables {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;

        impl<'de> Visitor<'de> for Reader {
            type Value = Variables;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object of texts")
            }

            fn visit_unit<E>(self) -> Result<Variables, E> {
                Ok(Variables::default())
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Variables, A::Error> {
                let mut variables = Variables::default();
                while variables.entries.len() < Variables::MAX {
                    let Some(name) = map.next_key()? else {
                        return Ok(variables);
                    };
                    // A variable without a value is `null` in some answers of ARI.
                    let value: Option<Private> = map.next_value()?;
                    variables.entries.push((name, value.unwrap_or_default()));
                }
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {
                    variables.truncated = true;
                }
                Ok(variables)
            }
        }

        deserializer.deserialize_any(Reader)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_keep_their_order_and_their_underscores() {
        let variables: Variables = serde_json::from_str(r#"{"__CALLER_NUM":"0301","B":"2","A":null,"B":"3"}"#).unwrap();
        assert_eq!(
            variables.iter().collect::<Vec<_>>(),
            [("__CALLER_NUM", "0301"), ("B", "2"), ("A", ""), ("B", "3")]
        );
        assert_eq!((variables.value("B"), variables.value("CALLER_NUM")), (Some("2"), None));
        assert_eq!(variables.inherited("CALLER_NUM"), Some("0301"));
        assert_eq!(variables.inherited("_CALLER_NUM"), Some("0301"));
        assert!(!format!("{variables:?}").contains("0301"));
    }

    #[test]
    fn there_is_an_end_to_them() {
        let many: Vec<String> = (0..1000).map(|index| format!(r#""V{index}":"x""#)).collect();
        let variables: Variables = serde_json::from_str(&format!("{{{}}}", many.join(","))).unwrap();
        assert_eq!((variables.len(), variables.is_truncated()), (256, true));
        assert!(serde_json::from_str::<Variables>(r#"{"A":1}"#).is_err());
        assert!(serde_json::from_str::<Variables>("null").unwrap().is_empty());
        assert!(serde_json::from_str::<Variables>("[]").is_err());
    }
}
