//! What Asterisk is asked for.

use std::fmt;
use std::fmt::Write as _;

use serde_json::{Map, Value};

use crate::audiosocket;
use crate::chan_websocket::Format;
use crate::native::Digit;

/// A method of HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Asks.
    Get,
    /// Does.
    Post,
    /// Ends.
    Delete,
}

impl Method {
    /// Its name in a request.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Delete => "DELETE",
        }
    }
}

/// A request. Everything that comes from outside is percent-encoded in it (RFC 3986 §2.1), so that no id and no value can
/// change what is asked for.
#[derive(Clone, PartialEq, Eq)]
pub struct Request {
    method: Method,
    target: String,
    body: Option<String>,
}

/// Queries hold numbers and values of variables: the path alone is printed.
impl fmt::Debug for Request {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.target.split('?').next().unwrap_or_default();
        write!(formatter, "{} {path}", self.method.as_str())
    }
}

/// Why a channel is hung up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HangupReason {
    /// The call is over.
    Normal,
    /// We are busy.
    Busy,
    /// There is no room.
    Congestion,
    /// Nobody answered.
    NoAnswer,
}

/// A channel for a call's media, which [`Request::external_media`] asks for.
#[derive(Clone, Copy, Debug)]
pub struct ExternalMedia<'a> {
    /// The application that the channel enters.
    pub app: &'a str,
    /// Its id; without one, Asterisk chooses.
    pub channel_id: Option<&'a str>,
    /// How the media goes.
    pub media: Media<'a>,
    /// Variables of the channel, names and values.
    pub variables: &'a [(&'a str, &'a str)],
}

/// How media goes.
#[derive(Clone, Copy, Debug)]
pub enum Media<'a> {
    /// Asterisk opens a TCP connection to us.
    AudioSocket {
        /// Where we listen: `10.0.0.5:9092`, `[2001:db8::1]:9092`.
        host: &'a str,
        /// Signed linear audio of this rate: nothing else is allowed.
        rate: audiosocket::Rate,
        /// What it tells us first. Without it Asterisk refuses.
        uuid: &'a [u8; 16],
    },
    /// Asterisk opens a WebSocket to us.
    WebSocketToUs {
        /// The section of `websocket_client.conf`.
        client: &'a str,
        /// The format of media.
        format: &'a Format,
        /// Events in JSON: [`Version::chan_websocket_has_json`](super::Version::chan_websocket_has_json).
        json: bool,
    },
    /// We open a WebSocket to Asterisk, at `/media/` and the id that the variable `MEDIA_WEBSOCKET_CONNECTION_ID` of the
    /// reply names.
    WebSocketToAsterisk {
        /// The format of media.
        format: &'a Format,
        /// Events in JSON: [`Version::chan_websocket_has_json`](super::Version::chan_websocket_has_json).
        json: bool,
    },
    /// RTP over UDP. Where we send to is in the variables `UNICASTRTP_LOCAL_ADDRESS` and `UNICASTRTP_LOCAL_PORT` of the
    /// reply.
    Rtp {
        /// Where we receive: `10.0.0.5:9100`.
        host: &'a str,
        /// The format of what Asterisk sends.
        format: &'a Format,
    },
}

/// A call to somebody, which [`Request::originate`] asks for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Originate<'a> {
    /// Who is called: `PJSIP/alice`, `Local/100@from-internal`.
    pub endpoint: &'a str,
    /// The application that the channel enters when it is answered.
    pub app: &'a str,
    /// What the application is told: comma-separated.
    pub app_args: Option<&'a str>,
    /// What the one who is called sees: `"Name" <number>`.
    pub caller_id: Option<&'a str>,
    /// Seconds to ring; Asterisk's own 30 where it isn't said. -1 rings for ever.
    pub timeout_s: Option<i32>,
    /// Its id; without one, Asterisk chooses.
    pub channel_id: Option<&'a str>,
    /// Where the call comes from.
    pub origin: Option<Origin<'a>>,
    /// Variables of the channel, names and values.
    pub variables: &'a [(&'a str, &'a str)],
}

/// Where a call that is made comes from: its formats, its linked id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin<'a> {
    /// The channel on whose behalf it is made.
    Channel(&'a str),
    /// The formats that it may have, comma-separated: `slin16,ulaw`.
    Formats(&'a str),
}

impl Request {
    /// The method.
    #[must_use]
    pub const fn method(&self) -> Method {
        self.method
    }

    /// Path and query, from the root of ARI (`http://asterisk:8088/ari`) on: `/channels/1.2/answer`.
    #[must_use]
    pub fn target(&self) -> &str {
        &self.target
    }

    /// The body, JSON.
    #[must_use]
    pub fn body(&self) -> Option<&str> {
        self.body.as_deref()
    }

    /// The WebSocket on which events for `app` come. Opening it makes the application known to the dialplan.
    #[must_use]
    pub fn events(app: &str) -> Self {
        Self::get(&["events"]).with("app", app)
    }

    /// Whether anybody is there.
    #[must_use]
    pub fn ping() -> Self {
        Self::get(&["asterisk", "ping"])
    }

    /// What Asterisk says about itself. The reply is [`Info`](super::Info).
    #[must_use]
    pub fn info() -> Self {
        Self::get(&["asterisk", "info"]).with("only", "system")
    }

    /// All channels. The reply is a list of [`Channel`](super::Channel)s.
    #[must_use]
    pub fn channels() -> Self {
        Self::get(&["channels"])
    }

    /// One channel. The reply is a [`Channel`](super::Channel), or 404.
    #[must_use]
    pub fn channel(channel: &str) -> Self {
        Self::get(&["channels", channel])
    }

    /// Answers.
    #[must_use]
    pub fn answer(channel: &str) -> Self {
        Self::post(&["channels", channel, "answer"])
    }

    /// Hangs up.
    #[must_use]
    pub fn hang_up(channel: &str, reason: HangupReason) -> Self {
        let reason = match reason {
            HangupReason::Normal => "normal",
            HangupReason::Busy => "busy",
            HangupReason::Congestion => "congestion",
            HangupReason::NoAnswer => "no_answer",
        };
        Self::delete(&["channels", channel]).with("reason", reason)
    }

    /// Lets a channel go on in the dialplan: where it was, or from the given place on.
    #[must_use]
    pub fn continue_in_dialplan(
        channel: &str,
        context: Option<&str>,
        extension: Option<&str>,
        priority: Option<u32>,
    ) -> Self {
        Self::post(&["channels", channel, "continue"])
            .with_some("context", context)
            .with_some("extension", extension)
            .with_some("priority", priority.map(|priority| priority.to_string()).as_deref())
    }

    /// Makes a channel for media. The reply is a [`Channel`](super::Channel) with variables; it has to be bridged on its
    /// [`Event::StasisStart`](super::Event::StasisStart).
    #[must_use]
    pub fn external_media(wanted: &ExternalMedia<'_>) -> Self {
        let request = Self::post(&["channels", "externalMedia"])
            .with("app", wanted.app)
            .with_some("channelId", wanted.channel_id);
        let request = match wanted.media {
            Media::AudioSocket { host, rate, uuid } => request
                .with("external_host", host)
                .with("encapsulation", "audiosocket")
                .with("transport", "tcp")
                .with("format", Format::Slin(rate).name())
                .with("data", &audiosocket::uuid_text(uuid)),
            Media::WebSocketToUs { client, format, json } => {
                request.with("external_host", client).with_websocket(format, json)
            }
            Media::WebSocketToAsterisk { format, json } => request
                .with("external_host", "INCOMING")
                .with("connection_type", "server")
                .with_websocket(format, json),
            // UDP and RTP are what Asterisk takes where nothing is said, also where it knows nothing else (16.6).
            Media::Rtp { host, format } => request.with("external_host", host).with("format", format.name()),
        };
        request.with_variables(wanted.variables)
    }

    /// Calls somebody. The reply is a [`Channel`](super::Channel).
    #[must_use]
    pub fn originate(wanted: &Originate<'_>) -> Self {
        let request = Self::post(&["channels"])
            .with("endpoint", wanted.endpoint)
            .with("app", wanted.app)
            .with_some("appArgs", wanted.app_args)
            .with_some("callerId", wanted.caller_id)
            .with_some(
                "timeout",
                wanted.timeout_s.map(|seconds| seconds.to_string()).as_deref(),
            )
            .with_some("channelId", wanted.channel_id);
        match wanted.origin {
            None => request,
            Some(Origin::Channel(channel)) => request.with("originator", channel),
            Some(Origin::Formats(formats)) => request.with("formats", formats),
        }
        .with_variables(wanted.variables)
    }

    /// Sends digits to a channel, each 100 ms long with 100 ms between them, as Asterisk has it.
    #[must_use]
    pub fn send_dtmf(channel: &str, digits: &[Digit]) -> Self {
        let digits: String = digits.iter().map(|digit| digit.key()).collect();
        Self::post(&["channels", channel, "dtmf"]).with("dtmf", &digits)
    }

    /// Plays these keys to a channel: `0-9`, `*`, `#`, `A-D`, and `w` and `W`, which wait for half a second and for a whole one
    /// (`ast_dtmf_stream` of Asterisk's source). Others end the sequence.
    #[must_use]
    pub fn send_keys(channel: &str, keys: &str) -> Self {
        Self::post(&["channels", channel, "dtmf"]).with("dtmf", keys)
    }

    /// Plays music to a channel that waits.
    #[must_use]
    pub fn start_music(channel: &str, class: Option<&str>) -> Self {
        Self::post(&["channels", channel, "moh"]).with_some("mohClass", class)
    }

    /// Ends that music.
    #[must_use]
    pub fn stop_music(channel: &str) -> Self {
        Self::delete(&["channels", channel, "moh"])
    }

    /// A variable of a channel, or what a function of the dialplan gives for it. The reply is a
    /// [`VariableValue`](super::VariableValue), or 404.
    #[must_use]
    pub fn variable(channel: &str, name: &str) -> Self {
        Self::get(&["channels", channel, "variable"]).with("variable", name)
    }

    /// Sets a variable of a channel, or a function of the dialplan.
    #[must_use]
    pub fn set_variable(channel: &str, name: &str, value: &str) -> Self {
        Self::post(&["channels", channel, "variable"])
            .with("variable", name)
            .with("value", value)
    }

    /// All bridges. The reply is a list of [`Bridge`](super::Bridge)s.
    #[must_use]
    pub fn bridges() -> Self {
        Self::get(&["bridges"])
    }

    /// Makes a bridge in which everybody hears everybody. The reply is a [`Bridge`](super::Bridge).
    #[must_use]
    pub fn create_bridge(id: Option<&str>, name: &str) -> Self {
        Self::post(&["bridges"])
            .with("type", "mixing")
            .with_some("bridgeId", id)
            .with("name", name)
    }

    /// Removes a bridge. The channels in it stay.
    #[must_use]
    pub fn delete_bridge(bridge: &str) -> Self {
        Self::delete(&["bridges", bridge])
    }

    /// Puts a channel into a bridge.
    #[must_use]
    pub fn add_channel(bridge: &str, channel: &str) -> Self {
        Self::post(&["bridges", bridge, "addChannel"]).with("channel", channel)
    }

    /// Takes a channel out of a bridge.
    #[must_use]
    pub fn remove_channel(bridge: &str, channel: &str) -> Self {
        Self::post(&["bridges", bridge, "removeChannel"]).with("channel", channel)
    }

    /// Plays music to everybody in a bridge.
    #[must_use]
    pub fn start_bridge_music(bridge: &str, class: Option<&str>) -> Self {
        Self::post(&["bridges", bridge, "moh"]).with_some("mohClass", class)
    }

    /// Ends that music.
    #[must_use]
    pub fn stop_bridge_music(bridge: &str) -> Self {
        Self::delete(&["bridges", bridge, "moh"])
    }

    fn get(segments: &[&str]) -> Self {
        Self::new(Method::Get, segments)
    }

    fn post(segments: &[&str]) -> Self {
        Self::new(Method::Post, segments)
    }

    fn delete(segments: &[&str]) -> Self {
        Self::new(Method::Delete, segments)
    }

    fn new(method: Method, segments: &[&str]) -> Self {
        let mut target = String::new();
        for segment in segments {
            target.push('/');
            match *segment {
                // Whoever resolves paths would take these for a step, also percent-encoded (RFC 3986 §6.2.2.3). No
                // channel has such an id; this one can't be either.
                "" | "." | ".." => target.push_str("%2E-none"),
                segment => encode(segment, &mut target),
            }
        }
        Self {
            method,
            target,
            body: None,
        }
    }

    fn with(mut self, key: &str, value: &str) -> Self {
        self.target.push(if self.target.contains('?') { '&' } else { '?' });
        self.target.push_str(key);
        self.target.push('=');
        encode(value, &mut self.target);
        self
    }

    fn with_some(self, key: &str, value: Option<&str>) -> Self {
        match value {
            Some(value) => self.with(key, value),
            None => self,
        }
    }

    fn with_websocket(self, format: &Format, json: bool) -> Self {
        self.with("transport", "websocket")
            .with("encapsulation", "none")
            .with("format", format.name())
            .with_some("transport_data", json.then_some("f(json)"))
    }

    fn with_variables(mut self, variables: &[(&str, &str)]) -> Self {
        if !variables.is_empty() {
            let variables: Map<String, Value> = variables
                .iter()
                .map(|(name, value)| ((*name).to_owned(), Value::from(*value)))
                .collect();
            self.body = Some(serde_json::json!({ "variables": variables }).to_string());
        }
        self
    }
}

/// Appends `text`, percent-encoded but for the unreserved characters (RFC 3986 §2.3).
fn encode(text: &str, out: &mut String) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            write!(out, "%{byte:02X}").expect("a String takes everything");
        }
    }
}
