//! What is done with a call besides talking: the tools that a language model has for it, and who carries them out.

use serde::Deserialize;
use serde_json::json;
use tokio::sync::mpsc;

use crate::call::{Tool, ToolCall};
use crate::engine::WeakCommands;
use crate::id::SessionId;

/// The longest number that is dialled or played.
const MOST_DIGITS: usize = 64;

/// What a language model may want done with a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// End it.
    HangUp,
    /// Connect the caller with somebody else: an extension of the exchange.
    Transfer(String),
    /// Play these keys to the caller's side.
    SendKeys(String),
    /// Music for the caller (true), or back to the conversation.
    Hold(bool),
}

/// The tool that ends a call; every wire has it.
pub const HANG_UP: &str = "hangup";
/// The tool that connects the caller with somebody else.
pub(super) const TRANSFER: &str = "transfer";

/// What whoever carries out wishes is told of a call.
#[derive(Debug)]
pub enum Notice {
    /// Its sound has come: it is this session, and takes commands by this.
    Connected(SessionId, WeakCommands),
    /// The language model wants a tool called. The answer goes to the session.
    Tool(ToolCall),
    /// The session is over.
    Over,
}

/// Hands notices to whoever carries out wishes.
pub type Control = mpsc::Sender<Notice>;

/// The tools that a call has whose exchange can be asked for everything.
#[must_use]
pub fn tools() -> Vec<Tool> {
    let tool = |name: &str, description: &str, parameters| Tool {
        name: name.to_owned(),
        description: description.to_owned(),
        parameters,
    };
    vec![
        hang_up_tool(),
        tool(
            TRANSFER,
            "Connect the caller with another extension, for example a human agent. Say first that you do so.",
            json!({"type": "object", "properties": {"extension": {"type": "string", "description": "Digits of the extension"}},
                   "required": ["extension"]}),
        ),
        tool(
            "send_dtmf",
            "Send telephone keys into the call.",
            json!({"type": "object", "properties": {"digits": {"type": "string", "description": "0-9, *, #, A-D; w waits half a second"}},
                   "required": ["digits"]}),
        ),
        tool(
            "hold",
            "Put the caller on hold, or take him back.",
            json!({"type": "object", "properties": {"on": {"type": "boolean"}}, "required": ["on"]}),
        ),
    ]
}

/// The tool that every call has.
#[must_use]
pub fn hang_up_tool() -> Tool {
    Tool {
        name: HANG_UP.to_owned(),
        description: "End the call. Say goodbye first.".to_owned(),
        parameters: json!({"type": "object", "properties": {}}),
    }
}

#[derive(Deserialize)]
struct Extension {
    extension: Word,
}

#[derive(Deserialize)]
struct Keys {
    digits: Word,
}

#[derive(Deserialize)]
struct On {
    on: bool,
}

/// Models write numbers with and without quotes.
#[derive(Deserialize)]
#[serde(untagged)]
enum Word {
    Text(String),
    Number(u64),
}

impl Word {
    fn into_text(self) -> String {
        match self {
            Self::Text(text) => text.trim().to_owned(),
            Self::Number(number) => number.to_string(),
        }
    }
}

impl Wish {
    /// What `call` wants.
    ///
    /// # Errors
    /// A sentence for the model: there is no such tool, or its arguments make no sense.
    pub fn read(call: &ToolCall) -> Result<Self, String> {
        let arguments = match call.arguments.expose().trim() {
            "" => "{}",
            text => text,
        };
        let wrong = |error: serde_json::Error| format!("the arguments of {} can't be read: {error}", call.name);
        match call.name.as_str() {
            HANG_UP => Ok(Self::HangUp),
            TRANSFER => {
                let wanted: Extension = serde_json::from_str(arguments).map_err(wrong)?;
                let extension = wanted.extension.into_text();
                let is_one = (1..=MOST_DIGITS).contains(&extension.len())
                    && extension
                        .bytes()
                        .all(|byte| byte.is_ascii_alphanumeric() || b"*#+_-.".contains(&byte));
                is_one
                    .then_some(Self::Transfer(extension))
                    .ok_or_else(|| "an extension has letters, digits, and * # + _ - . only".to_owned())
            }
            "send_dtmf" => {
                let wanted: Keys = serde_json::from_str(arguments).map_err(wrong)?;
                let keys = wanted.digits.into_text();
                let are_keys = (1..=MOST_DIGITS).contains(&keys.len())
                    && keys.bytes().all(|byte| b"0123456789*#ABCDabcdwW".contains(&byte));
                are_keys
                    .then_some(Self::SendKeys(keys))
                    .ok_or_else(|| "digits are 0-9, *, #, A-D and w, at most 64".to_owned())
            }
            "hold" => {
                let wanted: On = serde_json::from_str(arguments).map_err(wrong)?;
                Ok(Self::Hold(wanted.on))
            }
            other => Err(format!("there is no tool {other:?}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pii::Pii;

    fn read(name: &str, arguments: &str) -> Result<Wish, String> {
        Wish::read(&ToolCall {
            call_id: "1".to_owned(),
            name: name.to_owned(),
            arguments: Pii::from(arguments),
        })
    }

    #[test]
    fn wishes_are_read_as_models_write_them() {
        assert_eq!(read("hangup", ""), Ok(Wish::HangUp));
        assert_eq!(read("hangup", "{}"), Ok(Wish::HangUp));
        assert_eq!(
            read("transfer", r#"{"extension":"200"}"#),
            Ok(Wish::Transfer("200".to_owned()))
        );
        assert_eq!(
            read("transfer", r#"{"extension":200}"#),
            Ok(Wish::Transfer("200".to_owned()))
        );
        assert_eq!(
            read("send_dtmf", r#"{"digits":"1w2#"}"#),
            Ok(Wish::SendKeys("1w2#".to_owned()))
        );
        assert_eq!(read("hold", r#"{"on":false}"#), Ok(Wish::Hold(false)));
        for (name, arguments) in [
            ("transfer", "{}"),
            ("transfer", r#"{"extension":"1,Hangup()"}"#),
            ("transfer", r#"{"extension":""}"#),
            ("send_dtmf", r#"{"digits":"call 1"}"#),
            ("hold", r#"{"on":"yes"}"#),
            ("hold", "["),
            ("explode", "{}"),
        ] {
            assert!(read(name, arguments).is_err(), "{name} {arguments}");
        }
    }
}
