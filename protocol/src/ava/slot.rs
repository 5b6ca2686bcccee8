//! A place for a setting, whatever its type: variables and messages fill the same ones.

use std::ops::RangeInclusive;

use serde_json::Value;

use super::words::Named;
use crate::native::Private;

/// Characters of a name, a path or an address, at most.
const MAX_NAME: usize = 4096;

/// Characters of a text, at most.
const MAX_TEXT: usize = 256 * 1024;

/// A whole number of any width.
pub(super) trait Whole {
    /// The number.
    fn number(&self) -> i64;
    /// Takes it, if it fits.
    fn set(&mut self, number: i64) -> bool;
}

macro_rules! whole {
    ($($width:ty),+) => {
        $(impl Whole for $width {
            fn number(&self) -> i64 {
                i64::from(*self)
            }

            fn set(&mut self, number: i64) -> bool {
                Self::try_from(number).map(|number| *self = number).is_ok()
            }
        })+
    };
}
whole!(u16, u32, i32);

/// A place for a setting.
pub(super) enum Slot<'a> {
    /// A name.
    Text(&'a mut String),
    /// A path.
    Path(&'a mut String),
    /// An address; it may carry a key.
    Address(&'a mut String),
    /// A key, or words.
    Secret(&'a mut Private),
    /// A whole number within bounds.
    Whole(&'a mut dyn Whole, RangeInclusive<i64>),
    /// A whole number within bounds, or nobody has said.
    MaybeWhole(&'a mut Option<u32>, RangeInclusive<i64>),
    /// A number within bounds.
    Number(&'a mut f64, RangeInclusive<f64>),
    /// Yes or no.
    Flag(&'a mut bool),
    /// Yes, no, or nobody has said.
    MaybeFlag(&'a mut Option<bool>),
    /// One of a few names.
    Choice(&'a mut dyn Named),
    /// Names with commas between.
    List(&'a mut Vec<String>),
}

impl Slot<'_> {
    /// Takes what `text` says.
    ///
    /// # Errors
    /// What would fit. Nothing has changed then.
    pub(super) fn set(self, text: &str) -> Result<(), String> {
        match self {
            Self::Text(place) | Self::Path(place) | Self::Address(place) => {
                if text.chars().any(char::is_control) || text.chars().nth(MAX_NAME).is_some() {
                    return Err(format!("at most {MAX_NAME} characters in one line"));
                }
                text.clone_into(place);
            }
            Self::Secret(place) => {
                if text.chars().nth(MAX_TEXT).is_some() {
                    return Err(format!("at most {MAX_TEXT} characters"));
                }
                *place = text.into();
            }
            Self::Whole(place, range) => {
                let number = whole_in(text).filter(|number| range.contains(number));
                if !number.is_some_and(|number| place.set(number)) {
                    return Err(format!("a whole number from {} to {}", range.start(), range.end()));
                }
            }
            Self::MaybeWhole(place, range) => {
                let number = whole_in(text).filter(|number| range.contains(number));
                let number = number.and_then(|number| u32::try_from(number).ok());
                if number.is_none() {
                    return Err(format!("a whole number from {} to {}", range.start(), range.end()));
                }
                *place = number;
            }
            Self::Number(place, range) => match text.trim().parse::<f64>() {
                Ok(number) if range.contains(&number) => *place = number,
                _ => return Err(format!("a number from {} to {}", range.start(), range.end())),
            },
            Self::Flag(place) => *place = flag_in(text).ok_or("1 or 0, true or false, yes or no, on or off")?,
            Self::MaybeFlag(place) => {
                *place = Some(flag_in(text).ok_or("1 or 0, true or false, yes or no, on or off")?);
            }
            Self::Choice(place) => {
                if !place.set(text) {
                    return Err(format!("one of {}", place.choices()));
                }
            }
            Self::List(place) => {
                if text.chars().nth(MAX_NAME).is_some() {
                    return Err(format!("at most {MAX_NAME} characters"));
                }
                *place = text
                    .split(',')
                    .map(str::trim)
                    .filter(|item| !item.is_empty())
                    .map(str::to_owned)
                    .collect();
            }
        }
        Ok(())
    }

    /// Takes what `value` says; false, and no change, where that doesn't fit.
    pub(super) fn set_json(self, value: &Value) -> bool {
        match (self, value) {
            (slot, Value::String(text)) => slot.set(text).is_ok(),
            (slot, Value::Number(number)) => slot.set(&number.to_string()).is_ok(),
            (Slot::Flag(place), Value::Bool(flag)) => {
                *place = *flag;
                true
            }
            _ => false,
        }
    }

    /// The value for `changed` of a `switch_response`: a path's last part, 1 or 0, and nothing of what is nobody's business.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Text(text) => (*text).clone(),
            Self::Path(path) => base_name(path).to_owned(),
            Self::Address(_) | Self::Secret(_) => "updated".to_owned(),
            Self::Whole(number, _) => number.number().to_string(),
            Self::MaybeWhole(number, _) => number.map_or(String::new(), |number| number.to_string()),
            Self::Number(number, _) => number.to_string(),
            Self::Flag(flag) => u8::from(**flag).to_string(),
            Self::MaybeFlag(flag) => flag.map_or(String::new(), |flag| u8::from(flag).to_string()),
            Self::Choice(choice) => choice.name().to_owned(),
            Self::List(items) => items.join(","),
        }
    }

    /// The value as text, as [`Slot::set`] takes it.
    pub(super) fn written(&self) -> String {
        match self {
            Self::Path(text) | Self::Address(text) => (*text).clone(),
            Self::Secret(text) => text.expose().to_owned(),
            _ => self.shown(),
        }
    }
}

/// The last part of a path.
pub(super) fn base_name(path: &str) -> &str {
    let path = path.trim_end_matches('/');
    path.rsplit_once('/').map_or(path, |(_, name)| name)
}

/// Yes or no, as AVA's `.env` files write it.
pub(super) fn flag_in(text: &str) -> Option<bool> {
    match text.trim().to_lowercase().as_str() {
        "1" | "true" | "yes" | "y" | "on" => Some(true),
        "0" | "false" | "no" | "n" | "off" => Some(false),
        _ => None,
    }
}

/// A whole number; `16000.0` is one too.
#[expect(
    clippy::cast_possible_truncation,
    reason = "it is whole and within the bounds of what a double holds exactly"
)]
fn whole_in(text: &str) -> Option<i64> {
    /// Below 2⁵³ every whole number is a double.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let text = text.trim();
    if let Ok(number) = text.parse() {
        return Some(number);
    }
    let number: f64 = text.parse().ok()?;
    (number.fract() == 0.0 && number.abs() < EXACT).then_some(number as i64)
}

/// A whole number that a message holds, as a number or as text.
pub(super) fn whole_of(value: &Value) -> Option<i64> {
    match value {
        Value::Number(number) => whole_in(&number.to_string()),
        Value::String(text) => whole_in(text),
        _ => None,
    }
}

/// Yes or no that a message holds, as such, as a number or as text.
pub(super) fn flag_of(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(flag) => Some(*flag),
        Value::Number(number) => number.as_f64().map(|number| number != 0.0),
        Value::String(text) => flag_in(text),
        _ => None,
    }
}
