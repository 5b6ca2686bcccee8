//! Tools of a call: which there are, and which of them a reply calls.

mod gateway;
mod markup;

use std::fmt;

use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

use super::intent::ends_call;
use super::read::Ignored;
use super::words::{Capability, Named, names};
use crate::native::Private;

pub use gateway::{Gateway, GatewayInput, LlmToolResponse, Pass, PassPrompt, farewell};
pub use markup::{looks_like_tool_output, strip_markup, tool_calls};

/// The tool that ends a call.
pub(super) const HANGUP: &str = "hangup_call";

/// Tools of a call that are kept, at most.
pub const MAX_TOOLS: usize = 128;

/// Characters of a tool's name, at most; a longer name is overlooked.
const MAX_NAME: usize = 128;

/// Characters of a tool's description that are kept.
const MAX_DESCRIPTION: usize = 4_096;

/// Characters of a reply that is looked through for calls; what comes behind them is dropped.
const MAX_REPLY: usize = 16 * 1024;

names! {
    /// How hard calls of tools are looked for.
    Policy {
        /// As the language model's capability says.
        Auto = "auto",
        /// The model writes calls as it is told.
        Strict = "strict",
        /// It may need help.
        Compatible = "compatible",
        /// No tools.
        Off = "off",
    }
}

impl Policy {
    /// The policy for a model of this capability: `auto` becomes one of the others.
    #[must_use]
    pub const fn resolved(self, capability: Capability) -> Self {
        match (self, capability) {
            (Self::Auto, Capability::Strict) => Self::Strict,
            (Self::Auto, Capability::None) => Self::Off,
            (Self::Auto, _) => Self::Compatible,
            (policy, _) => policy,
        }
    }
}

names! {
    /// Whether a reply may call tools.
    ToolChoice {
        /// It may.
        Auto = "auto",
        /// It should.
        Required = "required",
        /// It may not.
        None = "none",
    }
}

/// A tool as the client describes it.
#[derive(Clone, Debug, PartialEq)]
pub struct Tool {
    /// Its name.
    pub name: String,
    /// What it does.
    pub description: String,
    /// JSON Schema of its parameters; an empty object where none came.
    pub parameters: Value,
}

/// A call of a tool.
#[derive(Clone, PartialEq, Serialize)]
pub struct Call {
    /// The tool, as the list of allowed tools spells it.
    pub name: String,
    /// Its parameters. What people said may be in them: never for a log.
    pub parameters: Map<String, Value>,
}

impl fmt::Debug for Call {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Call")
            .field("name", &self.name)
            .field("parameters", &self.parameters.len())
            .finish()
    }
}

/// What a message says about tools.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ToolFields {
    /// Names that may be called, each once; none: the message doesn't say.
    pub allowed: Option<Vec<String>>,
    /// What the tools are; none: the message doesn't say.
    pub tools: Option<Vec<Tool>>,
    /// How hard calls are looked for; none: the message doesn't say.
    pub policy: Option<Policy>,
}

impl ToolFields {
    pub(super) fn read(object: &mut Map<String, Value>) -> Self {
        let allowed = object.get("allowed_tools").and_then(Value::as_array).map(|names| {
            let mut allowed = Vec::new();
            for name in names.iter().filter_map(Value::as_str) {
                add_name(&mut allowed, name);
            }
            allowed
        });
        let tools = match object.remove("tools") {
            Some(Value::Array(tools)) => Some(tools.into_iter().filter_map(read_tool).take(MAX_TOOLS).collect()),
            _ => None,
        };
        Self {
            allowed: allowed.filter(|allowed| !allowed.is_empty()),
            tools: tools.filter(|tools: &Vec<Tool>| !tools.is_empty()),
            policy: object
                .get("tool_policy")
                .and_then(Value::as_str)
                .and_then(|policy| Policy::parse(policy.trim().to_lowercase().as_str())),
        }
    }
}

/// Adds a name that fits and isn't there yet in another spelling.
fn add_name(names: &mut Vec<String>, name: &str) {
    let name = name.trim();
    let fits = !name.is_empty() && name.chars().count() <= MAX_NAME && !name.chars().any(char::is_control);
    if fits && names.len() < MAX_TOOLS && !names.iter().any(|known| known.eq_ignore_ascii_case(name)) {
        names.push(name.to_owned());
    }
}

/// A tool, as such or in OpenAI's wrapping (`{"type":"function","function":{…}}`).
fn read_tool(tool: Value) -> Option<Tool> {
    let Value::Object(mut object) = tool else {
        return None;
    };
    if !object.contains_key("name")
        && let Some(Value::Object(function)) = object.remove("function")
    {
        object = function;
    }
    let mut names = Vec::new();
    add_name(&mut names, object.get("name")?.as_str()?);
    let description = object.get("description").and_then(Value::as_str).unwrap_or_default();
    Some(Tool {
        name: names.pop()?,
        description: description.chars().take(MAX_DESCRIPTION).collect(),
        parameters: match object.remove("parameters") {
            Some(parameters @ Value::Object(_)) => parameters,
            _ => Value::Object(Map::new()),
        },
    })
}

/// `llm_tool_request`: which tools a reply calls.
#[derive(Clone, Debug, PartialEq)]
pub struct LlmToolRequest {
    /// The reply; may be empty.
    pub text: Private,
    /// What the caller said before it; may be empty.
    pub user_text: Private,
    /// The tools, as far as the message says.
    pub tools: ToolFields,
    /// Whether the reply may call them.
    pub choice: ToolChoice,
}

impl LlmToolRequest {
    pub(super) fn read(object: &mut Map<String, Value>) -> Result<Self, Ignored> {
        Ok(Self {
            text: reply(object, "text")?,
            user_text: reply(object, "latest_user_text")?,
            tools: ToolFields::read(object),
            choice: object
                .get("tool_choice")
                .and_then(Value::as_str)
                .and_then(|choice| ToolChoice::parse(choice.trim().to_lowercase().as_str()))
                .unwrap_or(ToolChoice::Auto),
        })
    }
}

/// A text of at most [`MAX_REPLY`] characters; the rest is dropped.
fn reply(object: &Map<String, Value>, name: &'static str) -> Result<Private, Ignored> {
    match object.get(name) {
        None | Some(Value::Null) => Ok(Private::default()),
        Some(Value::String(text)) => Ok(text.chars().take(MAX_REPLY).collect::<String>().into()),
        Some(_) => Err(Ignored::Wrong(name)),
    }
}

/// The tools that count for one reply.
#[derive(Clone, Debug, PartialEq)]
pub struct ToolContext {
    /// Names that may be called, each once.
    pub allowed: Vec<String>,
    /// What they are. May lack some and have others.
    pub tools: Vec<Tool>,
    /// How hard calls are looked for.
    pub policy: Policy,
}

impl Default for ToolContext {
    fn default() -> Self {
        Self {
            allowed: Vec::new(),
            tools: Vec::new(),
            policy: Policy::Auto,
        }
    }
}

impl ToolContext {
    /// The tools of `fields`, and those of `before` where the fields say nothing.
    #[must_use]
    pub fn of(fields: ToolFields, before: &Self) -> Self {
        let says_tools = fields.tools.is_some();
        let tools = fields.tools.unwrap_or_else(|| before.tools.clone());
        let allowed = match fields.allowed {
            Some(allowed) => allowed,
            None if !says_tools && !before.allowed.is_empty() => before.allowed.clone(),
            None => {
                let mut allowed = Vec::new();
                for tool in &tools {
                    add_name(&mut allowed, &tool.name);
                }
                allowed
            }
        };
        Self {
            allowed,
            tools,
            policy: fields.policy.unwrap_or(before.policy),
        }
    }

    /// Whether this tool may be called.
    #[must_use]
    pub fn allows(&self, name: &str) -> bool {
        self.allowed.iter().any(|known| known.eq_ignore_ascii_case(name))
    }

    /// Whether a reply to `user_text` must be looked through as a whole before any of it is spoken. Where ending the call is
    /// all that may be called, and the caller doesn't want to, nothing can be called.
    #[must_use]
    pub fn blocks_streaming(&self, user_text: &str) -> bool {
        match self.allowed.as_slice() {
            _ if self.policy == Policy::Off => false,
            [] => false,
            [only] if only.eq_ignore_ascii_case(HANGUP) => ends_call(user_text),
            _ => true,
        }
    }
}

/// The tools that a connection has been told of, for the call that they are for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ToolState {
    call_id: Option<String>,
    context: ToolContext,
}

impl ToolState {
    /// No tools.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a `tool_context` of `call_id`, in place of all before.
    pub fn replace(&mut self, call_id: &str, fields: ToolFields) {
        self.call_id = Some(call_id.to_owned());
        self.context = ToolContext::of(fields, &ToolContext::default());
    }

    /// The tools for a reply within `call_id`. Another call than the one they are for has none, and they are forgotten.
    pub fn of_call(&mut self, call_id: &str) -> &ToolContext {
        if self.call_id.as_deref().is_some_and(|known| known != call_id) {
            *self = Self::default();
        }
        &self.context
    }

    /// The tools for an `llm_tool_request` of `call_id`: its own, and what it doesn't say from before.
    #[must_use]
    pub fn for_request(&mut self, call_id: &str, fields: ToolFields) -> ToolContext {
        ToolContext::of(fields, self.of_call(call_id))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fields(value: Value) -> ToolFields {
        let Value::Object(mut object) = value else {
            panic!("an object");
        };
        ToolFields::read(&mut object)
    }

    #[test]
    fn names_come_once_and_from_the_tools_where_no_list_is() {
        let listed = fields(json!({ "allowed_tools": ["hangup_call", "HANGUP_CALL", " ", 7, "transfer"] }));
        assert_eq!(
            listed.allowed.as_deref(),
            Some(&["hangup_call".to_owned(), "transfer".to_owned()][..])
        );

        let mut state = ToolState::new();
        state.replace(
            "c1",
            fields(json!({
                "allowed_tools": [],
                "tools": [{ "name": "a", "parameters": {} }, { "type": "function", "function": { "name": "b" } }, {}, 3],
                "tool_policy": "STRICT",
            })),
        );
        let context = state.of_call("c1");
        assert_eq!(context.allowed, ["a", "b"]);
        assert_eq!(context.policy, Policy::Strict);
        assert!(context.allows("A") && !context.allows("c"));
    }

    #[test]
    fn a_request_says_what_it_says_and_another_call_has_no_tools() {
        let mut state = ToolState::new();
        state.replace(
            "c1",
            fields(json!({ "allowed_tools": ["a", "b"], "tool_policy": "off" })),
        );
        let asked = state.for_request("c1", fields(json!({ "tool_policy": "strict" })));
        assert_eq!((asked.allowed.len(), asked.policy), (2, Policy::Strict));
        let asked = state.for_request("c1", fields(json!({ "allowed_tools": ["b"] })));
        assert_eq!(
            (asked.allowed.as_slice(), asked.policy),
            (&["b".to_owned()][..], Policy::Off)
        );
        assert_eq!(state.for_request("c2", ToolFields::default()), ToolContext::default());
        assert_eq!(*state.of_call("c1"), ToolContext::default());
    }

    #[test]
    fn what_must_be_looked_through_before_it_is_spoken() {
        let context = |names: &[&str], policy| ToolContext {
            allowed: names.iter().map(|name| (*name).to_owned()).collect(),
            tools: Vec::new(),
            policy,
        };
        assert!(!context(&[], Policy::Auto).blocks_streaming("goodbye"));
        assert!(!context(&["hangup_call"], Policy::Auto).blocks_streaming("what time is it"));
        assert!(context(&["hangup_call"], Policy::Auto).blocks_streaming("goodbye"));
        assert!(context(&["transfer"], Policy::Auto).blocks_streaming("what time is it"));
        assert!(context(&["hangup_call", "transfer"], Policy::Auto).blocks_streaming("what time is it"));
        assert!(!context(&["transfer"], Policy::Off).blocks_streaming("what time is it"));
    }

    #[test]
    fn surplus_tools_are_overlooked() {
        let many: Vec<_> = (0..1_000)
            .map(|number| json!({ "name": format!("tool_{number}") }))
            .collect();
        let read = fields(json!({ "tools": many, "allowed_tools": ["x".repeat(10_000)] }));
        assert_eq!(read.tools.map(|tools| tools.len()), Some(MAX_TOOLS));
        assert_eq!(read.allowed, None);
    }
}
