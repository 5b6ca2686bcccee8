//! llama.cpp's "common" library (`chat.cpp`), safely: chat templates, what they demand of the sampling, and the parsers of what
//! comes out.

use std::ffi::{CStr, CString, c_char, c_void};
use std::ptr::{self, NonNull};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::ffi;

/// How much of a reason is told: the first line of a template's error, which is followed by pages of the template.
const LONGEST_REASON: usize = 300;

/// Silences what the library prints of conversations. Before anything else here.
pub(crate) fn silence() {
    // SAFETY: it sets a number, and no other thread is in the library yet.
    unsafe { ffi::repartee_chat_silence() };
}

/// A conversation, as the templates want it.
#[derive(Serialize)]
pub(crate) struct Request {
    pub(crate) jinja: bool,
    pub(crate) messages: Vec<Value>,
    pub(crate) tools: Vec<Value>,
    /// `auto`, `none` or `required`.
    pub(crate) tool_choice: &'static str,
    /// A JSON Schema as text, or empty.
    pub(crate) json_schema: String,
    /// Whether a model that can think before it answers should.
    pub(crate) thinking: bool,
}

/// What a template made of it. It prints in tests only: it holds what people said.
#[cfg_attr(test, derive(Debug))]
#[derive(Default, Deserialize)]
pub(crate) struct Prepared {
    pub(crate) prompt: String,
    /// What the answer is held to; empty: nothing.
    pub(crate) grammar: String,
    /// Whether the grammar holds only from one of the triggers on.
    pub(crate) lazy: bool,
    pub(crate) triggers: Vec<Trigger>,
    /// Texts of control tokens that belong to the answer.
    pub(crate) preserved: Vec<String>,
    /// Texts at which the answer ends.
    pub(crate) stops: Vec<String>,
    /// The end of the prompt that is the beginning of the answer, for grammar and parser.
    pub(crate) generation_prompt: String,
    pub(crate) format: i32,
    pub(crate) parser: String,
}

/// Where a lazy grammar sets in.
#[derive(Debug, Deserialize)]
pub(crate) struct Trigger {
    kind: String,
    value: String,
}

impl Trigger {
    /// As a regular expression for the sampler (what `common_sampler_init` makes of it).
    pub(crate) fn pattern(&self) -> String {
        match self.kind.as_str() {
            "pattern" => self.value.clone(),
            "full" => {
                let inner = self.value.trim_start_matches('^').trim_end_matches('$');
                format!("^{inner}$")
            }
            _ => escaped(&self.value),
        }
    }
}

/// `word` as a regular expression that matches it and nothing else.
fn escaped(word: &str) -> String {
    let mut pattern = String::with_capacity(word.len());
    for letter in word.chars() {
        if r".^$|()*+?[]{}\".contains(letter) {
            pattern.push('\\');
        }
        pattern.push(letter);
    }
    pattern
}

/// What a model said.
#[derive(Default, Deserialize)]
pub(crate) struct Said {
    pub(crate) content: String,
    pub(crate) calls: Vec<Call>,
}

/// A call of a tool as the model wrote it.
#[derive(Deserialize)]
pub(crate) struct Call {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) arguments: String,
}

/// A chat template.
#[derive(Debug)]
pub(crate) struct Template(NonNull<c_void>);

// SAFETY: it's an object of its own without a thread; what reads it (`apply`) takes `&self` and is called by one thread.
unsafe impl Send for Template {}

impl Template {
    /// Reads a template. `jinja`: whether `source` is one, or the name of one that llama.cpp has built in.
    ///
    /// # Errors
    /// The library's reason.
    pub(crate) fn new(source: &str, bos: &str, eos: &str, jinja: bool) -> Result<Self, String> {
        let (source, bos, eos) = (c_string(source)?, c_string(bos)?, c_string(eos)?);
        let mut out = ptr::null_mut();
        // SAFETY: the strings outlive the call, which copies them; `out` is written.
        let raw =
            unsafe { ffi::repartee_chat_template(source.as_ptr(), bos.as_ptr(), eos.as_ptr(), jinja, &raw mut out) };
        let said = taken(out);
        NonNull::new(raw).map(Self).ok_or_else(|| reason(&said))
    }

    /// The prompt for a conversation, and what goes with it.
    ///
    /// # Errors
    /// The library's reason: what the template, a schema or a tool lacks.
    pub(crate) fn apply(&self, request: &Request) -> Result<Prepared, String> {
        let request = c_string(&serde_json::to_string(request).map_err(|error| error.to_string())?)?;
        let mut out = ptr::null_mut();
        // SAFETY: the template is valid, the string outlives the call; `out` is written.
        let well = unsafe { ffi::repartee_chat_apply(self.0.as_ptr(), request.as_ptr(), &raw mut out) };
        let said = taken(out);
        if !well {
            return Err(reason(&said));
        }
        serde_json::from_str(&said).map_err(|error| format!("what the template gave can't be read: {error}"))
    }
}

impl Drop for Template {
    fn drop(&mut self) {
        // SAFETY: it's valid and isn't used afterwards.
        unsafe { ffi::repartee_chat_template_free(self.0.as_ptr()) };
    }
}

/// Reads what a model says, in the form of its template.
#[derive(Debug)]
pub(crate) struct Parser(NonNull<c_void>);

// SAFETY: as for `Template`.
unsafe impl Send for Parser {}

impl Parser {
    /// The parser of one answer.
    ///
    /// # Errors
    /// The library's reason.
    pub(crate) fn new(prepared: &Prepared) -> Result<Self, String> {
        let (parser, prompt) = (c_string(&prepared.parser)?, c_string(&prepared.generation_prompt)?);
        let mut out = ptr::null_mut();
        // SAFETY: the strings outlive the call, which copies them; `out` is written.
        let raw = unsafe { ffi::repartee_chat_parser(prepared.format, parser.as_ptr(), prompt.as_ptr(), &raw mut out) };
        let said = taken(out);
        NonNull::new(raw).map(Self).ok_or_else(|| reason(&said))
    }

    /// What `text` says, which is all of the answer or (`partial`) its beginning. `None` where it isn't of the form; why isn't told,
    /// as that would quote it.
    pub(crate) fn parse(&self, text: &str, partial: bool) -> Option<Said> {
        let mut out = ptr::null_mut();
        // SAFETY: the parser is valid; the text is only read, and its length is given; `out` is written.
        let well = unsafe {
            ffi::repartee_chat_parse(self.0.as_ptr(), text.as_ptr().cast(), text.len(), partial, &raw mut out)
        };
        let said = taken(out);
        well.then(|| serde_json::from_str(&said).ok()).flatten()
    }
}

impl Drop for Parser {
    fn drop(&mut self) {
        // SAFETY: it's valid and isn't used afterwards.
        unsafe { ffi::repartee_chat_parser_free(self.0.as_ptr()) };
    }
}

/// The grammar for JSON that fits a schema.
///
/// # Errors
/// What the schema asks for that a grammar can't say.
pub(crate) fn schema_grammar(schema: &str) -> Result<String, String> {
    let schema = c_string(schema)?;
    let mut out = ptr::null_mut();
    // SAFETY: the string outlives the call; `out` is written.
    let well = unsafe { ffi::repartee_chat_schema(schema.as_ptr(), &raw mut out) };
    let said = taken(out);
    if well { Ok(said) } else { Err(reason(&said)) }
}

fn c_string(text: &str) -> Result<CString, String> {
    CString::new(text).map_err(|_| "a text with a zero byte".into())
}

/// Takes over a text of the library's.
fn taken(text: *mut c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: it's a string of `chat.cpp`, ours to copy and to give back once.
    unsafe {
        let copy = CStr::from_ptr(text).to_string_lossy().into_owned();
        ffi::repartee_chat_text_free(text);
        copy
    }
}

/// The part of an error's text that is for people: its first lines without the excerpt of the template.
fn reason(said: &str) -> String {
    let line: Vec<&str> = said
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .take(1)
        .collect();
    let text = line.first().copied().unwrap_or("no reason given");
    text.chars().take(LONGEST_REASON).collect()
}

/// The form in which Hermes, Qwen and many others call tools.
#[cfg(test)]
pub(crate) const HERMES: &str = "{%- if tools %}{{- '<|im_start|>system\\nCall like this: <tool_call>{\"name\": NAME, \"arguments\": {}}</tool_call>\\n' }}\
    {%- for tool in tools %}{{- tool | tojson }}{%- endfor %}{{- '<|im_end|>\\n' }}{%- endif %}\
    {%- for message in messages %}{{- '<|im_start|>' + message.role + '\\n' + (message.content or '') }}\
    {%- for call in message.tool_calls or [] %}{{- '<tool_call>\\n{\"name\": \"' + call.function.name + '\", \"arguments\": ' }}\
    {{- call.function.arguments | tojson }}{{- '}\\n</tool_call>' }}{%- endfor %}{{- '<|im_end|>\\n' }}{%- endfor %}\
    {%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}";

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn request(messages: Value) -> Request {
        Request {
            jinja: true,
            messages: serde_json::from_value(messages).expect("a list"),
            tools: Vec::new(),
            tool_choice: "auto",
            json_schema: String::new(),
            thinking: false,
        }
    }

    #[test]
    fn a_conversation_becomes_a_prompt() {
        silence();
        let template = Template::new("chatml", "", "", true).expect("it's built in");
        let prepared = template
            .apply(&request(json!([{"role": "user", "content": "hello"}])))
            .expect("it's a conversation");
        assert!(
            prepared.prompt.starts_with("<|im_start|>user\nhello<|im_end|>"),
            "{prepared:?}"
        );
        assert!(prepared.prompt.trim_end().ends_with("<|im_start|>assistant"));
        assert!(prepared.grammar.is_empty());
    }

    #[test]
    fn a_built_in_template_is_known_by_its_name() {
        silence();
        let template = Template::new("llama3", "", "", false).expect("it's built in");
        let named = Request {
            jinja: false,
            ..request(json!([{"role": "user", "content": "hello"}]))
        };
        let prepared = template.apply(&named).expect("it's a conversation");
        assert!(prepared.prompt.contains("<|start_header_id|>user"), "{prepared:?}");
        let problem = Template::new("no-such-template", "", "", false).expect_err("there's none");
        assert!(problem.contains("no built-in template"), "{problem}");
    }

    #[test]
    fn a_broken_template_is_an_error() {
        silence();
        let broken = Template::new("{% for message in %}", "", "", true);
        assert!(broken.is_err(), "{broken:?}");
    }

    #[test]
    fn schemas_become_grammars_or_reasons() {
        let grammar = schema_grammar(r#"{"type":"object","properties":{"a":{"type":"integer"}}}"#).expect("a schema");
        assert!(grammar.contains("root ::="), "{grammar}");
        assert!(schema_grammar(r#"{"type":"nonsense"}"#).is_err());
        assert!(schema_grammar("{").is_err());
        assert!(schema_grammar("a\0b").is_err());
    }

    #[test]
    fn triggers_become_patterns() {
        let trigger = |kind: &str, value: &str| Trigger {
            kind: kind.into(),
            value: value.into(),
        };
        assert_eq!(trigger("word", "[TOOL]{").pattern(), r"\[TOOL\]\{");
        assert_eq!(trigger("pattern", "a+").pattern(), "a+");
        assert_eq!(trigger("full", "^a").pattern(), "^a$");
    }
}
