//! What replies and events are made of.

use std::fmt;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use thiserror::Error;

use super::Variables;
use crate::native::Private;

/// Bytes of a reply that are read, at most. A list of channels has about 1 kB for each.
pub const MAX_REPLY_BYTES: usize = 8 * 1024 * 1024;

/// A channel: one leg of a call.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Channel {
    /// Its id, which requests name.
    pub id: String,
    /// `PJSIP/trunk-0000002a`: technology, endpoint, a number.
    #[serde(default)]
    pub name: String,
    /// How far it is.
    #[serde(default)]
    pub state: ChannelState,
    /// Who calls.
    #[serde(default)]
    pub caller: Party,
    /// Who is on the other side.
    #[serde(default)]
    pub connected: Party,
    /// Where in the dialplan it is.
    #[serde(default)]
    pub dialplan: DialplanPlace,
    /// Variables: those that `ari.conf` lists, and those of external media, such as `UNICASTRTP_LOCAL_PORT`,
    /// `MEDIA_WEBSOCKET_CONNECTION_ID` and `AUDIOSOCKET_UUID`.
    #[serde(default, rename = "channelvars")]
    pub variables: Variables,
}

/// How far a channel is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ChannelState {
    /// Nothing has happened.
    #[default]
    Down,
    /// Somebody calls us.
    Ring,
    /// It rings at the other side.
    Ringing,
    /// Answered.
    Up,
    /// Another state, by its name.
    Other(String),
}

impl<'de> Deserialize<'de> for ChannelState {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Ok(match name.as_str() {
            "Down" => Self::Down,
            "Ring" => Self::Ring,
            "Ringing" => Self::Ringing,
            "Up" => Self::Up,
            _ => Self::Other(name),
        })
    }
}

/// Somebody at one end of a channel. Empty texts where nothing is known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Party {
    /// A name.
    pub name: Private,
    /// A number.
    pub number: Private,
}

/// A place in the dialplan.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct DialplanPlace {
    /// The context.
    pub context: String,
    /// The extension: what was dialled.
    pub exten: Private,
    /// The priority, from 1.
    pub priority: i64,
    /// The dialplan's application that it is in: `Stasis` for a channel that an application of ARI has.
    pub app_name: String,
    /// What that was called with: an application's name, and what is passed to it.
    pub app_data: Private,
}

/// A bridge: channels that hear one another.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Bridge {
    /// Its id, which requests name.
    pub id: String,
    /// The name that it was created with.
    #[serde(default)]
    pub name: String,
    /// `Stasis` for those that ARI created.
    #[serde(default)]
    pub creator: String,
    /// `mixing` or `holding`.
    #[serde(default)]
    pub bridge_type: String,
    /// Ids of the channels in it.
    #[serde(default)]
    pub channels: Vec<String>,
}

/// The value of a variable.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct VariableValue {
    /// It.
    pub value: Private,
}

/// What is in the body of a refusal.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Failure {
    /// Asterisk's own words. For a log: they name what wasn't found or isn't allowed.
    #[serde(alias = "error")]
    pub message: String,
}

/// What Asterisk says about itself.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Info {
    /// Its version, as it writes it: [`Version::parse`].
    #[serde(rename = "system", deserialize_with = "version_of_system")]
    pub version: String,
}

fn version_of_system<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    #[derive(Deserialize)]
    struct System {
        version: String,
    }
    System::deserialize(deserializer).map(|system| system.version)
}

/// A version of Asterisk. What it can do depends on it in each branch: 20.18, 22.8 and 23.2 are sisters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// The branch.
    pub major: u16,
    /// The release.
    pub minor: u16,
}

impl Version {
    /// Reads what [`Info`] has: `22.10.1`, `22.10.1~dfsg+~cs6.15`, `certified-20.7-cert3`. `None` for a build that has no
    /// number.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text
            .strip_prefix("certified-")
            .or(text.strip_prefix("certified/"))
            .unwrap_or(text);
        let (major, rest) = text.split_once('.')?;
        let end = rest.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(rest.len());
        Some(Self {
            major: major.parse().ok()?,
            minor: rest[..end].parse().ok()?,
        })
    }

    /// Whether this is `minor` of its branch or later. `None` for a branch: none of it has the thing.
    fn since(self, v20: Option<u16>, v21: Option<u16>, v22: u16, v23: u16) -> bool {
        match self.major {
            ..20 => false,
            20 => v20.is_some_and(|minor| self.minor >= minor),
            21 => v21.is_some_and(|minor| self.minor >= minor),
            22 => self.minor >= v22,
            23 => self.minor >= v23,
            _ => true,
        }
    }

    /// AudioSocket tells of digits: 20.14, 21.9, 22.4.
    #[must_use]
    pub fn audiosocket_has_digits(self) -> bool {
        self.since(Some(14), Some(9), 4, 0)
    }

    /// AudioSocket has other rates than 8 kHz: 20.17, 22.7, 23.1.
    #[must_use]
    pub fn audiosocket_has_rates(self) -> bool {
        self.since(Some(17), None, 7, 1)
    }

    /// There is chan_websocket: 20.16, 21.11, 22.6, 23.0.
    #[must_use]
    pub fn has_chan_websocket(self) -> bool {
        self.since(Some(16), Some(11), 6, 0)
    }

    /// chan_websocket speaks JSON, knows marks, takes `transport_data`, and survives a ping: 20.18, 22.8, 23.2.
    #[must_use]
    pub fn chan_websocket_has_json(self) -> bool {
        self.since(Some(18), None, 8, 2)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}", self.major, self.minor)
    }
}

/// Why a reply can't be read. It says what was expected, never what was there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ReplyError {
    /// More than [`MAX_REPLY_BYTES`].
    #[error("a reply of {0} bytes, where {MAX_REPLY_BYTES} are read at most")]
    TooLong(usize),
    /// It isn't this.
    #[error("a reply that isn't {0}")]
    Unexpected(&'static str),
}

/// What a body can be read as.
pub trait Reply: DeserializeOwned {
    /// For errors.
    const WHAT: &'static str;
}

impl Reply for Channel {
    const WHAT: &'static str = "a channel";
}

impl Reply for Vec<Channel> {
    const WHAT: &'static str = "a list of channels";
}

impl Reply for Bridge {
    const WHAT: &'static str = "a bridge";
}

impl Reply for Vec<Bridge> {
    const WHAT: &'static str = "a list of bridges";
}

impl Reply for VariableValue {
    const WHAT: &'static str = "the value of a variable";
}

impl Reply for Info {
    const WHAT: &'static str = "what Asterisk says about itself";
}

impl Reply for Failure {
    const WHAT: &'static str = "a refusal with its reason";
}

/// Reads the body of a reply. Fields that aren't known are ignored.
///
/// # Errors
/// [`ReplyError`].
pub fn parse_reply<T: Reply>(body: &[u8]) -> Result<T, ReplyError> {
    if body.len() > MAX_REPLY_BYTES {
        return Err(ReplyError::TooLong(body.len()));
    }
    serde_json::from_slice(body).map_err(|_| ReplyError::Unexpected(T::WHAT))
}
