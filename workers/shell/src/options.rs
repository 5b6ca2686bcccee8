//! The options of a load, read with their bounds: a wrong one fails the load by its name.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use repartee_protocol::worker::{Load, LoadFailed, code};
use serde_json::Value;

/// The options of one [`Load`].
#[derive(Clone, Copy, Debug)]
pub struct Options<'a>(&'a BTreeMap<String, Value>);

impl<'a> Options<'a> {
    /// The options of `load`, which may be only those that are `known`: one that is misspelt must not be overlooked.
    ///
    /// # Errors
    /// The first that isn't known, with those that are.
    pub fn of(load: &'a Load, known: &[&str]) -> Result<Self, LoadFailed> {
        match load.options.keys().find(|name| !known.contains(&name.as_str())) {
            None => Ok(Self(&load.options)),
            Some(name) => Err(LoadFailed::new(
                code::INVALID,
                format!("there is no option {name:?}; there are {}", known.join(", ")),
            )),
        }
    }

    /// A whole number within `range`; `None` where it isn't set.
    ///
    /// # Errors
    /// When it's anything else.
    pub fn whole(&self, name: &str, range: RangeInclusive<u64>) -> Result<Option<u64>, LoadFailed> {
        let (least, most) = (range.start(), range.end());
        self.value(name, &format!("a whole number from {least} to {most}"), |value| {
            value.as_u64().filter(|number| range.contains(number))
        })
    }

    /// A number within `range`; `None` where it isn't set.
    ///
    /// # Errors
    /// When it's anything else.
    pub fn number(&self, name: &str, range: RangeInclusive<f64>) -> Result<Option<f64>, LoadFailed> {
        let (least, most) = (range.start(), range.end());
        self.value(name, &format!("a number from {least} to {most}"), |value| {
            value.as_f64().filter(|number| range.contains(number))
        })
    }

    /// True or false; `None` where it isn't set.
    ///
    /// # Errors
    /// When it's anything else.
    pub fn flag(&self, name: &str) -> Result<Option<bool>, LoadFailed> {
        self.value(name, "true or false", Value::as_bool)
    }

    /// A text; `None` where it isn't set.
    ///
    /// # Errors
    /// When it's anything else.
    pub fn text(&self, name: &str) -> Result<Option<&'a str>, LoadFailed> {
        self.value(name, "a text", Value::as_str)
    }

    fn value<T>(
        &self,
        name: &str,
        expected: &str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, LoadFailed> {
        let Some(value) = self.0.get(name) else {
            return Ok(None);
        };
        match read(value) {
            Some(read) => Ok(Some(read)),
            None => Err(LoadFailed::new(
                code::INVALID,
                format!("the option {name:?} has to be {expected}"),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use repartee_protocol::worker::Job;
    use serde_json::json;

    fn load(options: Value) -> Load {
        Load {
            job: Job::Stt,
            model: "x".into(),
            files: BTreeMap::new(),
            options: serde_json::from_value(options).expect("an object"),
            threads: 0,
            device: None,
        }
    }

    #[test]
    fn options_are_read_within_their_bounds() {
        let load = load(json!({"lanes": 3, "speed": 1.5, "translate": true, "language": "de", "wrong": -1}));
        let known = ["lanes", "speed", "translate", "language", "wrong", "absent"];
        let options = Options::of(&load, &known).expect("all are known");
        assert_eq!(options.whole("lanes", 1..=4), Ok(Some(3)));
        assert_eq!(options.number("speed", 0.5..=2.0), Ok(Some(1.5)));
        assert_eq!(options.flag("translate"), Ok(Some(true)));
        assert_eq!(options.text("language"), Ok(Some("de")));
        assert_eq!(options.whole("absent", 0..=1), Ok(None));
        let failed = options.whole("wrong", 0..=9).expect_err("it is below zero");
        assert!(
            failed.reason.contains("\"wrong\"") && failed.reason.contains("from 0 to 9"),
            "{failed:?}"
        );
        assert!(options.whole("lanes", 1..=2).is_err());
        assert!(options.text("lanes").is_err());
    }

    #[test]
    fn a_misspelt_option_is_told() {
        let load = load(json!({"lane": 3}));
        let failed = Options::of(&load, &["lanes", "waiting"]).expect_err("it is misspelt");
        assert!(
            failed.reason.contains("\"lane\"") && failed.reason.contains("lanes, waiting"),
            "{failed:?}"
        );
    }
}
