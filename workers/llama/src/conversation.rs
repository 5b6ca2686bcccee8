//! From a chat to a prompt: the template, the tools, the form of the answer.

use repartee_worker_shell::Failure;
use repartee_worker_shell::protocol::{Chat, ChatMessage, Grammar, LlmParams, Role, code};
use serde_json::{Value, json};

use crate::common::{Prepared, Request, Template, schema_grammar};

/// Where a picture belongs in a prompt. No text of a caller's keeps it.
pub(crate) const MARKER: &str = "<__media__>";

/// How conversations are written for the model.
#[derive(Debug)]
pub(crate) struct Style {
    template: Written,
    /// Whether models that can think before they answer should.
    thinking: bool,
}

#[derive(Debug)]
enum Written {
    /// A Jinja template: the file's, or one that was named.
    Jinja(Template),
    /// One that llama.cpp has built in under a name, without tools.
    BuiltIn(Template),
    /// One message after the other, for models that know of no roles.
    Plain {
        /// What stands between them.
        between: &'static str,
    },
}

/// What a stream is to be answered with.
#[cfg_attr(test, derive(Debug))]
pub(crate) struct Task {
    pub(crate) prepared: Prepared,
    /// Whether the grammar begins where the answer's prefix in the prompt does. Not so for one that the caller wrote.
    pub(crate) grammar_holds_prompt: bool,
    /// Whether the answer has to be read by the template's parser: it may hold calls, or thoughts that nobody should hear.
    pub(crate) parse: bool,
}

impl Style {
    pub(crate) fn jinja(template: Template, thinking: bool) -> Self {
        Self {
            template: Written::Jinja(template),
            thinking,
        }
    }

    pub(crate) fn built_in(template: Template) -> Self {
        Self {
            template: Written::BuiltIn(template),
            thinking: false,
        }
    }

    pub(crate) fn plain(between: &'static str) -> Self {
        Self {
            template: Written::Plain { between },
            thinking: false,
        }
    }

    /// Whether there's no template.
    pub(crate) fn is_plain(&self) -> bool {
        matches!(self.template, Written::Plain { .. })
    }

    /// Writes a prompt as every conversation begins.
    ///
    /// # Errors
    /// When the template can't even do that.
    pub(crate) fn try_out(&self) -> Result<(), Failure> {
        let message = ChatMessage {
            role: Role::User,
            content: "Hello".into(),
            tool_calls: Vec::new(),
            tool_call_id: None,
            images: Vec::new(),
        };
        let chat = Chat {
            messages: vec![message],
            ..Chat::default()
        };
        self.task(&chat, &LlmParams::default()).map(drop)
    }

    /// Writes the prompt.
    ///
    /// # Errors
    /// Where the template, a tool or the form of the answer can't be served, with the reason.
    pub(crate) fn task(&self, chat: &Chat, params: &LlmParams) -> Result<Task, Failure> {
        if chat.messages.is_empty() {
            return Err(Failure::new(code::INVALID, "a chat without messages"));
        }
        let (tools, tool_choice) = tools(chat)?;
        let wants_tools = !tools.is_empty() && tool_choice != "none";
        if wants_tools && params.grammar.is_some() {
            let message = "a form for the answer and tools can't be had together";
            return Err(Failure::new(code::UNSUPPORTED, message));
        }
        let (json_schema, grammar) = form(params)?;
        let refused = |reason: String| Failure::new(code::UNSUPPORTED, reason);
        let template = match &self.template {
            Written::Plain { between } => {
                if wants_tools {
                    return Err(refused(
                        "this model has no chat template, so it can't call tools".into(),
                    ));
                }
                return plain(chat, between, &json_schema, grammar);
            }
            Written::BuiltIn(_) if wants_tools => {
                return Err(refused(
                    "the chat template that was named for this model has no place for tools".into(),
                ));
            }
            Written::Jinja(template) | Written::BuiltIn(template) => template,
        };
        let request = Request {
            jinja: matches!(self.template, Written::Jinja(_)),
            messages: messages(chat)?,
            tools,
            tool_choice,
            json_schema,
            thinking: self.thinking,
        };
        let mut prepared = template
            .apply(&request)
            .map_err(|reason| refused(format!("the chat template can't be applied: {reason}")))?;
        if wants_tools && prepared.grammar.is_empty() {
            return Err(refused(
                "this model's chat template has no form for calls of tools".into(),
            ));
        }
        let grammar_holds_prompt = grammar.is_empty();
        if !grammar.is_empty() {
            // The templates know of schemas and tools only.
            prepared.grammar = grammar;
            prepared.lazy = false;
        }
        let parse = wants_tools || !prepared.parser.is_empty();
        Ok(Task {
            prepared,
            grammar_holds_prompt,
            parse,
        })
    }
}

fn plain(chat: &Chat, between: &str, json_schema: &str, mut grammar: String) -> Result<Task, Failure> {
    let contents: Vec<&str> = chat.messages.iter().map(|message| message.content.as_str()).collect();
    if !json_schema.is_empty() {
        grammar = schema_grammar(json_schema).map_err(|reason| unfit(&reason))?;
    }
    Ok(Task {
        prepared: Prepared {
            prompt: contents.join(between),
            grammar,
            ..Prepared::default()
        },
        grammar_holds_prompt: false,
        parse: false,
    })
}

fn unfit(reason: &str) -> Failure {
    Failure::new(
        code::UNSUPPORTED,
        format!("the JSON Schema can't be made a grammar: {reason}"),
    )
}

/// The tools that may be called, as the templates want them, and how free the choice is.
fn tools(chat: &Chat) -> Result<(Vec<Value>, &'static str), Failure> {
    let (named, choice) = match chat.tool_choice.as_deref() {
        None | Some("auto") => (None, "auto"),
        Some("none") => (None, "none"),
        Some("required") => (None, "required"),
        Some(name) => (Some(name), "required"),
    };
    let wanted = chat
        .tools
        .iter()
        .filter(|tool| named.is_none_or(|name| tool.name == name));
    let tools: Vec<Value> = wanted
        .map(|tool| {
            let parameters = if tool.parameters.is_null() {
                json!({"type": "object", "properties": {}})
            } else {
                tool.parameters.clone()
            };
            let function = json!({"name": tool.name, "description": tool.description, "parameters": parameters});
            json!({"type": "function", "function": function})
        })
        .collect();
    if choice == "required" && tools.is_empty() {
        let message = match named {
            Some(_) => "the tool that has to be called isn't among the tools",
            None => "a tool has to be called, and there are none",
        };
        return Err(Failure::new(code::INVALID, message));
    }
    for tool in &tools {
        // A schema that a grammar can't say is told as such, not as a fault of the template.
        schema_grammar(&tool["function"]["parameters"].to_string()).map_err(|reason| unfit(&reason))?;
    }
    Ok((tools, choice))
}

/// The form of the answer: as a JSON Schema, or as a grammar.
fn form(params: &LlmParams) -> Result<(String, String), Failure> {
    Ok(match &params.grammar {
        None => (String::new(), String::new()),
        Some(Grammar::Json) => (json!({"type": "object"}).to_string(), String::new()),
        Some(Grammar::JsonSchema { schema }) => {
            let schema = schema.to_string();
            schema_grammar(&schema).map_err(|reason| unfit(&reason))?;
            (schema, String::new())
        }
        Some(Grammar::Gbnf { text }) if text.trim().is_empty() => {
            return Err(Failure::new(code::UNSUPPORTED, "a grammar without rules"));
        }
        Some(Grammar::Gbnf { text }) => (String::new(), text.clone()),
    })
}

/// The messages as the templates want them.
fn messages(chat: &Chat) -> Result<Vec<Value>, Failure> {
    chat.messages.iter().map(message).collect()
}

fn message(message: &ChatMessage) -> Result<Value, Failure> {
    let role = match message.role {
        Role::System => "system",
        Role::User => "user",
        Role::Assistant => "assistant",
        Role::Tool => "tool",
    };
    let text = message.content.replace(MARKER, "");
    let content = if message.images.is_empty() {
        Value::String(text)
    } else {
        let pictures = message
            .images
            .iter()
            .map(|_| json!({"type": "media_marker", "text": MARKER}));
        let words = (!text.is_empty()).then(|| json!({"type": "text", "text": text}));
        pictures.chain(words).collect()
    };
    let mut value = json!({"role": role, "content": content});
    if !message.tool_calls.is_empty() {
        let mut calls = Vec::new();
        for call in &message.tool_calls {
            if serde_json::from_str::<Value>(&call.arguments).is_err() {
                let message = "a call in the chat has arguments that are no JSON";
                return Err(Failure::new(code::INVALID, message));
            }
            let function = json!({"name": call.name, "arguments": call.arguments});
            calls.push(json!({"type": "function", "id": call.id, "function": function}));
        }
        value["tool_calls"] = calls.into();
    }
    if let Some(id) = &message.tool_call_id {
        value["tool_call_id"] = id.as_str().into();
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use repartee_worker_shell::protocol::Tool;

    fn chat(text: &str) -> Chat {
        let message = ChatMessage {
            role: Role::User,
            content: text.into(),
            tool_calls: Vec::new(),
            tool_call_id: None,
            images: Vec::new(),
        };
        Chat {
            messages: vec![message],
            ..Chat::default()
        }
    }

    fn with_tool(choice: Option<&str>, parameters: Value) -> Chat {
        let tool = Tool {
            name: "weather".into(),
            description: "The weather".into(),
            parameters,
        };
        Chat {
            tools: vec![tool],
            tool_choice: choice.map(str::to_owned),
            ..chat("hello")
        }
    }

    fn chatml() -> Style {
        crate::common::silence();
        Style::jinja(Template::new("chatml", "", "", true).expect("it's built in"), false)
    }

    #[test]
    fn without_a_template_messages_follow_one_another() {
        let mut two = chat("once upon");
        two.messages.extend(chat("a time").messages);
        let task = Style::plain(" ").task(&two, &LlmParams::default()).expect("plain text");
        assert_eq!(task.prepared.prompt, "once upon a time");
        let failure = Style::plain(" ")
            .task(&with_tool(None, Value::Null), &LlmParams::default())
            .expect_err("no tools without a template");
        assert_eq!(failure.code, code::UNSUPPORTED);
    }

    #[test]
    fn tools_give_a_grammar_and_a_parser() {
        let schema = json!({"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]});
        crate::common::silence();
        let hermes = Template::new(crate::common::HERMES, "", "<|im_end|>", true).expect("a template");
        let style = Style::jinja(hermes, false);
        let free = style
            .task(&with_tool(None, schema.clone()), &LlmParams::default())
            .expect("auto");
        assert!(free.parse);
        let must = style
            .task(&with_tool(Some("weather"), schema.clone()), &LlmParams::default())
            .expect("by name");
        assert!(
            !must.prepared.grammar.is_empty() && !must.prepared.lazy,
            "{:?}",
            must.prepared
        );
        let wrong = style.task(&with_tool(Some("other"), schema), &LlmParams::default());
        assert_eq!(wrong.expect_err("no such tool").code, code::INVALID);
        let wrong = style.task(&with_tool(None, json!({"type": "nonsense"})), &LlmParams::default());
        assert_eq!(wrong.expect_err("no such type").code, code::UNSUPPORTED);
        let without = chatml().task(&with_tool(None, Value::Null), &LlmParams::default());
        assert_eq!(without.expect_err("it has no form for calls").code, code::UNSUPPORTED);
    }

    #[test]
    fn forms_become_grammars() {
        let style = chatml();
        let with = |grammar| LlmParams {
            grammar: Some(grammar),
            ..LlmParams::default()
        };
        let json = style.task(&chat("x"), &with(Grammar::Json)).expect("JSON");
        assert!(json.prepared.grammar.contains("root ::="));
        let text = "root ::= \"yes\" | \"no\"".to_owned();
        let own = style
            .task(&chat("x"), &with(Grammar::Gbnf { text: text.clone() }))
            .expect("GBNF");
        assert_eq!((own.prepared.grammar, own.grammar_holds_prompt), (text, false));
        let schema = json!({"type": "nonsense"});
        let wrong = style.task(&chat("x"), &with(Grammar::JsonSchema { schema }));
        assert_eq!(wrong.expect_err("no such type").code, code::UNSUPPORTED);
    }

    #[test]
    fn a_text_never_stands_for_a_picture() {
        let task = chatml()
            .task(&chat("look <__media__> here"), &LlmParams::default())
            .expect("text");
        assert!(!task.prepared.prompt.contains(MARKER));
    }
}
