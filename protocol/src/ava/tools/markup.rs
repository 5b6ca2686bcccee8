//! The forms in which language models write calls of tools into their text, and the text without them.

use std::ops::Range;

use serde_json::{Deserializer, Map, Value};

use super::Call;

/// Calls of one reply, at most.
const MAX_CALLS: usize = 8;

/// Places of one text at which JSON is tried, at most: broken text mustn't cost more than its length a few times over.
const MAX_TRIES: u32 = 64;

/// Bytes of a chat template's token, `<|…|>`, at most.
const MAX_TOKEN: usize = 64;

const OPENING: &str = "<tool_call>";
const CLOSING: &str = "</tool_call>";

/// The forms, from the one that is believed first.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// `<tool_call>{"name":…,"arguments":{…}}</tool_call>`.
    Wrapped,
    /// `<transfer>{…}</transfer>`.
    Tagged,
    /// `*transfer* {…}` or `transfer {…}`.
    Named,
    /// The whole text is `{"name":…,"arguments":{…}}`.
    Whole,
}

struct Markup {
    range: Range<usize>,
    form: Form,
    /// The name and the parameters, where they could be read.
    call: Option<(String, Map<String, Value>)>,
}

/// The calls in `text` of tools that are `allowed`, and how many pieces of markup couldn't be read.
#[must_use]
pub fn tool_calls(text: &str, allowed: &[String]) -> (Vec<Call>, u32) {
    let found = scan(text, allowed);
    let failures = u32::try_from(found.iter().filter(|markup| markup.call.is_none()).count()).unwrap_or(u32::MAX);
    let mut calls = Vec::new();
    for form in [Form::Wrapped, Form::Tagged, Form::Named, Form::Whole] {
        for (name, parameters) in found
            .iter()
            .filter(|markup| markup.form == form)
            .filter_map(|markup| markup.call.as_ref())
        {
            if let Some(known) = allowed.iter().find(|known| known.eq_ignore_ascii_case(name)) {
                calls.push(Call {
                    name: known.clone(),
                    parameters: parameters.clone(),
                });
            }
        }
        if !calls.is_empty() {
            break;
        }
    }
    calls.truncate(MAX_CALLS);
    (calls, failures)
}

/// Whether `text` seems to be meant as a call.
#[must_use]
pub fn looks_like_tool_output(text: &str, allowed: &[String]) -> bool {
    let has = |piece| text.contains(piece);
    has("tool_call")
        || (has("\"name\"") && (has("\"arguments\"") || has("\"parameters\"")))
        || !scan(text, allowed).is_empty()
}

/// `text` without calls of tools, readable or not, and without tokens of chat templates: what may be spoken.
#[must_use]
pub fn strip_markup(text: &str, allowed: &[String]) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut at = 0;
    for markup in scan(text, allowed) {
        clean.push_str(&text[at..markup.range.start]);
        at = markup.range.end;
        clean.push(' ');
    }
    clean.push_str(&text[at..]);
    let clean = without_tokens(&clean);
    if clean.len() == text.len() {
        return clean.trim().to_owned();
    }
    // What was taken out leaves spaces behind.
    clean.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn without_tokens(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("<|") {
        let (before, token) = rest.split_at(start);
        clean.push_str(before);
        let inner = &token[2..];
        match inner.find("|>") {
            Some(end) if end <= MAX_TOKEN && !inner[..end].contains('<') => {
                clean.push(' ');
                rest = &inner[end + 2..];
            }
            _ => {
                clean.push_str("<|");
                rest = inner;
            }
        }
    }
    clean.push_str(rest);
    // Closing tags whose opening ones are gone.
    clean.replace(CLOSING, " ")
}

fn scan(text: &str, allowed: &[String]) -> Vec<Markup> {
    if let Some(markup) = whole(text) {
        return vec![markup];
    }
    let mut found = Vec::new();
    let mut tries = MAX_TRIES;
    let mut at = 0;
    let mut before = None;
    while let Some(character) = text[at..].chars().next() {
        let markup = if tries == 0 {
            None
        } else if character == '<' {
            wrapped(text, at, &mut tries).or_else(|| tagged(text, at, allowed, &mut tries))
        } else if before.is_some_and(|before| is_name(before) || before == '*') {
            None
        } else {
            named(text, at, allowed, &mut tries)
        };
        if let Some(markup) = markup {
            at = markup.range.end;
            before = None;
            found.push(markup);
        } else {
            at += character.len_utf8();
            before = Some(character);
        }
    }
    found
}

/// A text that is one JSON object, perhaps within a fence of Markdown.
fn whole(text: &str) -> Option<Markup> {
    let inner = text.trim();
    let inner = match inner.strip_prefix("```") {
        Some(fenced) => fenced.strip_prefix("json").unwrap_or(fenced).trim_end_matches('`'),
        None => inner,
    };
    let inner = inner.trim();
    if !inner.starts_with('{') || !inner.ends_with('}') {
        return None;
    }
    let value: Value = serde_json::from_str(inner).ok()?;
    Some(Markup {
        range: 0..text.len(),
        form: Form::Whole,
        call: call_of(value),
    })
}

fn wrapped(text: &str, at: usize, tries: &mut u32) -> Option<Markup> {
    let rest = &text[at..];
    if !starts_with(rest, OPENING) {
        return None;
    }
    let inner_at = at + OPENING.len();
    let inner = &text[inner_at..];
    let value = inner.find('{').and_then(|start| {
        // Nothing but white space, a fence or so may stand before it.
        let (value, end) = json_at(&inner[start..], tries)?;
        Some((value, start + end))
    });
    let closing = inner.find(CLOSING);
    let (call, inside) = match value {
        // JSON of what comes behind the closing tag isn't this call's.
        Some((value, end)) if closing.is_none_or(|closing| end <= closing) => (call_of(value), end),
        _ => (None, inner.len()),
    };
    let end = closing.map_or(inside, |closing| closing + CLOSING.len());
    Some(Markup {
        range: at..inner_at + end,
        form: Form::Wrapped,
        call,
    })
}

fn tagged(text: &str, at: usize, allowed: &[String], tries: &mut u32) -> Option<Markup> {
    let rest = &text[at + 1..];
    let length = rest
        .find(|character| !is_name(character))
        .filter(|length| *length > 0)?;
    let name = &rest[..length];
    let inner = rest[length..].strip_prefix('>')?;
    let inner_at = text.len() - inner.len();
    let is_known = allowed.iter().any(|known| known.eq_ignore_ascii_case(name));
    let space = inner.len() - inner.trim_start().len();
    let value = inner[space..]
        .starts_with('{')
        .then(|| json_at(&inner[space..], tries))
        .flatten();
    if value.is_none() && !is_known {
        return None;
    }
    let closing = format!("</{name}>");
    let (call, inside) = match value {
        Some((value, end)) => (parameters_of(value, name), space + end),
        None => (None, inner.find(&closing).unwrap_or(0)),
    };
    let behind = &inner[inside..];
    let end = if behind.trim_start().starts_with(&closing) {
        inside + (behind.len() - behind.trim_start().len()) + closing.len()
    } else {
        inside
    };
    Some(Markup {
        range: at..inner_at + end,
        form: Form::Tagged,
        call,
    })
}

fn named(text: &str, at: usize, allowed: &[String], tries: &mut u32) -> Option<Markup> {
    let rest = text[at..].trim_start_matches('*');
    let known = allowed.iter().find(|known| starts_with(rest, known))?;
    let behind = rest[known.len()..].trim_start_matches('*').trim_start();
    if !behind.starts_with('{') {
        return None;
    }
    let start = text.len() - behind.len();
    let (call, end) = match json_at(behind, tries) {
        Some((value, end)) => (parameters_of(value, known), end),
        None => (None, closing_brace(behind)),
    };
    Some(Markup {
        range: at..start + end,
        form: Form::Named,
        call,
    })
}

/// The JSON value at the beginning of `text`, and where it ends.
fn json_at(text: &str, tries: &mut u32) -> Option<(Value, usize)> {
    *tries = tries.checked_sub(1)?;
    let mut values = Deserializer::from_str(text).into_iter::<Value>();
    let value = values.next()?.ok()?;
    Some((value, values.byte_offset()))
}

/// Where the object ends that `text` begins with, as far as braces tell; the end of the text if they don't.
fn closing_brace(text: &str) -> usize {
    let mut depth = 0_usize;
    for (at, character) in text.char_indices() {
        match character {
            '{' => depth += 1,
            '}' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return at + 1;
                }
            }
            _ => {}
        }
    }
    text.len()
}

/// The call that an object names.
fn call_of(value: Value) -> Option<(String, Map<String, Value>)> {
    let Value::Object(mut object) = value else {
        return None;
    };
    let name = object.get("name")?.as_str()?.trim().to_owned();
    let parameters = match object.remove("arguments").or_else(|| object.remove("parameters")) {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Object(parameters)) => parameters,
        // Some models write the object as a text once more.
        Some(Value::String(text)) => match serde_json::from_str(&text) {
            Ok(Value::Object(parameters)) => parameters,
            _ => return None,
        },
        Some(_) => return None,
    };
    Some((name, parameters))
}

/// The call of `name` whose parameters, or the whole of which, is `value`.
fn parameters_of(value: Value, name: &str) -> Option<(String, Map<String, Value>)> {
    let Value::Object(object) = value else {
        return None;
    };
    let is_call = object.contains_key("arguments") || object.contains_key("parameters");
    if is_call
        && object
            .get("name")
            .and_then(Value::as_str)
            .is_some_and(|own| own.eq_ignore_ascii_case(name))
    {
        return call_of(Value::Object(object));
    }
    Some((name.to_owned(), object))
}

fn is_name(character: char) -> bool {
    character.is_alphanumeric() || matches!(character, '_' | '-' | '.')
}

/// Whether `text` begins with `start`, small or capital.
fn starts_with(text: &str, start: &str) -> bool {
    text.get(..start.len())
        .is_some_and(|beginning| beginning.eq_ignore_ascii_case(start))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn names() -> Vec<String> {
        ["hangup_call", "transfer"].map(str::to_owned).to_vec()
    }

    /// Name and parameters of each call, the failures, and the text that is left.
    fn read(text: &str) -> (Vec<(String, Value)>, u32, String) {
        let (calls, failures) = tool_calls(text, &names());
        let calls = calls
            .into_iter()
            .map(|call| (call.name, Value::Object(call.parameters)))
            .collect();
        (calls, failures, strip_markup(text, &names()))
    }

    fn one(name: &str, parameters: Value) -> Vec<(String, Value)> {
        vec![(name.to_owned(), parameters)]
    }

    #[test]
    fn every_form_is_read_and_taken_out() {
        let to = json!({ "to": "sales" });
        for (text, calls, failures, left) in [
            ("Just words.", vec![], 0, "Just words."),
            (
                "One moment. <tool_call>{\"name\":\"transfer\",\"arguments\":{\"to\":\"sales\"}}</tool_call> Bye.",
                one("transfer", to.clone()),
                0,
                "One moment. Bye.",
            ),
            (
                "<tool_call>\n{\"name\": \"TRANSFER\", \"parameters\": {\"to\": \"sales\"}}",
                one("transfer", to.clone()),
                0,
                "",
            ),
            (
                "<tool_call>{\"name\":\"transfer\",\"arguments\":\"{\\\"to\\\":\\\"sales\\\"}\"}</tool_call>",
                one("transfer", to.clone()),
                0,
                "",
            ),
            (
                "<transfer> {\"to\":\"sales\"} </transfer> Sure.",
                one("transfer", to.clone()),
                0,
                "Sure.",
            ),
            (
                "Sure. *transfer* {\"to\":\"sales\"}",
                one("transfer", to.clone()),
                0,
                "Sure.",
            ),
            (
                "Sure. **Transfer**{\"to\":\"sales\"}.",
                one("transfer", to.clone()),
                0,
                "Sure. .",
            ),
            ("transfer {\"to\":\"sales\"}", one("transfer", to.clone()), 0, ""),
            (
                "{\"name\":\"transfer\",\"arguments\":{\"to\":\"sales\"}}",
                one("transfer", to.clone()),
                0,
                "",
            ),
            (
                "```json\n{\"name\":\"hangup_call\"}\n```",
                one("hangup_call", json!({})),
                0,
                "",
            ),
            // The first form that gives something is believed.
            (
                "transfer {\"to\":\"x\"} <tool_call>{\"name\":\"hangup_call\"}</tool_call>",
                one("hangup_call", json!({})),
                0,
                "",
            ),
            // Tools that aren't allowed, and JSON that is none.
            ("<tool_call>{\"name\":\"delete_all\"}</tool_call>", vec![], 0, ""),
            ("<delete_all>{\"now\":true}</delete_all> Done.", vec![], 0, "Done."),
            ("<tool_call>{\"name\":</tool_call> Hello.", vec![], 1, "Hello."),
            ("<tool_call>hangup", vec![], 1, ""),
            ("Hello. transfer {\"to\": sales}. Yes?", vec![], 1, "Hello. . Yes?"),
            ("<hangup_call></hangup_call> Bye.", vec![], 1, "Bye."),
            // Two at once.
            (
                "<tool_call>{\"name\":\"transfer\",\"arguments\":{\"to\":\"sales\"}}</tool_call>\
                 <tool_call>{\"name\":\"hangup_call\"}</tool_call>",
                vec![
                    ("transfer".to_owned(), to.clone()),
                    ("hangup_call".to_owned(), json!({})),
                ],
                0,
                "",
            ),
            // What only looks like it.
            ("I will transfer you.", vec![], 0, "I will transfer you."),
            ("a < b and <b>bold</b>", vec![], 0, "a < b and <b>bold</b>"),
            (
                "my_transfer {\"to\":\"sales\"}",
                vec![],
                0,
                "my_transfer {\"to\":\"sales\"}",
            ),
            ("Hi.<|end|>  <|assistant|>", vec![], 0, "Hi."),
            ("five <| six", vec![], 0, "five <| six"),
            ("two\n\nlines", vec![], 0, "two\n\nlines"),
        ] {
            assert_eq!(read(text), (calls, failures, left.to_owned()), "{text}");
        }
    }

    #[test]
    fn what_looks_like_a_call() {
        for (text, expected) in [
            ("Hello.", false),
            ("<tool_call>{", true),
            ("[tool_calls]", true),
            ("{\"name\": \"x\", \"arguments\": ", true),
            ("*transfer* {oops", true),
            ("transfer you", false),
        ] {
            assert_eq!(looks_like_tool_output(text, &names()), expected, "{text}");
        }
    }

    #[test]
    fn broken_text_ends() {
        for piece in [
            "<tool_call>",
            "transfer {",
            "<transfer>{",
            "<|",
            "{\"a\":",
            "*",
            "<",
            "é{",
        ] {
            let text = piece.repeat(4_000);
            let _ = read(&text);
        }
        let deep = format!("<tool_call>{}", "{\"a\":".repeat(5_000));
        assert_eq!(read(&deep).0, []);
    }
}
