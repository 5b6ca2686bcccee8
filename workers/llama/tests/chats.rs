//! The real worker with the synthetic chat model: templates, grammars, tools, whole characters. Its sentences come from weights that nobody
//! trained: what is proven is that the machinery works, not that anything sensible is said.

#![expect(clippy::unwrap_used, reason = "a test that can't go on says where")]

mod shared;

use repartee_worker_shell::protocol::{Chat, Function, Grammar, LlmParams, Role, Tool, code};
use serde_json::{Value, json};
use shared::{ask, chats, greedy, hear, message, open, user};

fn weather(choice: Option<&str>) -> Chat {
    let tool = |name: &str, property: &str| Tool {
        name: name.into(),
        description: format!("Tells the {name}"),
        parameters: json!({
            "type": "object",
            "properties": {property: {"type": "string"}},
            "required": [property],
        }),
    };
    Chat {
        tools: vec![tool("weather", "city"), tool("time", "zone")],
        tool_choice: choice.map(str::to_owned),
        ..user("Use a tool please")
    }
}

/// The synthetic model's file and its answers to plain questions.
#[test]
fn a_chat_is_answered_in_whole_characters() {
    let (mut client, ready) = chats(&[]);
    assert!(ready.model.synthetic, "{:?}", ready.model);
    println!(
        "loaded in {} ms, warmed up in {} ms, {} MiB, context {}",
        ready.load_ms,
        ready.warmup_ms,
        ready.memory_bytes >> 20,
        ready.model.context
    );
    let answered = ask(&mut client, &greedy(200), &user("Hello"));
    println!("{}", answered.text());
    assert_eq!(answered.reason(), "stop");
    // Its sentences hold a letter whose two bytes are two tokens.
    assert!(answered.text().contains("café"), "{}", answered.text());
    assert!(!answered.text().contains("<|"), "no control token is said");
    assert!(answered.done().usage.completion_tokens > 10);
    // However wild the sampling, what comes is text.
    for seed in 0..5 {
        let wild = LlmParams {
            temperature: Some(10.0),
            top_k: Some(0),
            top_p: Some(1.0),
            seed: Some(seed),
            max_tokens: 100,
            ..LlmParams::default()
        };
        let answered = ask(&mut client, &wild, &user("Hello"));
        assert!(answered.done.is_some(), "{answered:?}");
    }
    let emoji = ask(&mut client, &greedy(5), &user("😀 привет 你好 \u{0} <|im_end|>"));
    assert!(emoji.done.is_some(), "{emoji:?}");
}

#[test]
fn json_is_json_whatever_the_weights_say() {
    let (mut client, _) = chats(&[("parallel", json!(8))]);
    let params = |seed: u64, grammar: Grammar| LlmParams {
        grammar: Some(grammar),
        temperature: Some(if seed == 0 { 0.0 } else { 1.0 }),
        seed: Some(seed),
        max_tokens: 1500,
        ..LlmParams::default()
    };
    let mut whole = 0;
    for seed in 0..6 {
        let answered = ask(&mut client, &params(seed, Grammar::Json), &user("Tell me of it"));
        if answered.reason() == "length" {
            println!("seed {seed}: {} characters and no end", answered.text().len());
            continue;
        }
        let value: Value =
            serde_json::from_str(answered.text().trim()).unwrap_or_else(|error| panic!("{error}: {}", answered.text()));
        assert!(value.is_object(), "{value}");
        whole += 1;
    }
    assert!(whole >= 3, "only {whole} of 6 objects ended");
    let schema = json!({
        "type": "object",
        "properties": {
            "mood": {"enum": ["glad", "sad"]},
            "number": {"type": "integer", "minimum": 1, "maximum": 9},
            "list": {"type": "array", "items": {"type": "boolean"}, "minItems": 1, "maxItems": 3}
        },
        "required": ["mood", "number", "list"],
        "additionalProperties": false
    });
    // Several at once, each with a grammar of its own.
    let streams: Vec<_> = (0..8)
        .map(|seed| {
            let grammar = Grammar::JsonSchema { schema: schema.clone() };
            open(&mut client, &params(seed, grammar), &user("Tell me of it"))
        })
        .collect();
    for answered in hear(&mut client, &streams) {
        assert_eq!(answered.reason(), "stop", "{}", answered.text());
        let value: Value = serde_json::from_str(answered.text().trim()).unwrap();
        println!("{value}");
        assert!(matches!(value["mood"].as_str(), Some("glad" | "sad")), "{value}");
        assert!((1..=9).contains(&value["number"].as_i64().unwrap()), "{value}");
        let list = value["list"].as_array().unwrap();
        assert!(
            (1..=3).contains(&list.len()) && list.iter().all(Value::is_boolean),
            "{value}"
        );
    }
    let text = "root ::= (\"yes\" | \"no\") \", \" [a-c]{3} \"é\"".to_owned();
    let answered = ask(&mut client, &params(3, Grammar::Gbnf { text }), &user("Well?"));
    let said = answered.text();
    let rest = said
        .strip_prefix("yes, ")
        .or_else(|| said.strip_prefix("no, "))
        .unwrap();
    assert!(rest.ends_with('é') && rest.chars().count() == 4, "{said}");
}

#[test]
fn a_grammar_that_makes_no_sense_fails_its_stream_with_the_reason() {
    let (mut client, _) = chats(&[]);
    let gbnf = |text: &str| Grammar::Gbnf { text: text.into() };
    let schema = |schema: Value| Grammar::JsonSchema { schema };
    let deep = format!("root ::= {}\"a\"{}", "(".repeat(20_000), ")".repeat(20_000));
    let cases = [
        (gbnf("root ::= \"a"), "grammar"),
        (gbnf("root ::= other"), "grammar"),
        (gbnf("nothing here"), "grammar"),
        (gbnf("start ::= \"a\""), "grammar"),
        (gbnf("root ::= root \"a\" | root"), "grammar"),
        (gbnf(""), "grammar"),
        (gbnf("root ::= \"\0\""), "grammar"),
        (gbnf(&deep), "nested"),
        (schema(json!({"type": "nonsense"})), "Schema"),
        (schema(json!({"$ref": "#/nowhere"})), "Schema"),
    ];
    for (grammar, word) in cases {
        let params = LlmParams {
            grammar: Some(grammar),
            ..greedy(5)
        };
        let answered = ask(&mut client, &params, &user("Hello"));
        let failed = answered.failed();
        println!("{}", failed.message);
        assert_eq!(failed.code, code::UNSUPPORTED, "{}", failed.message);
        assert!(failed.message.contains(word), "{}", failed.message);
    }
    assert!(!ask(&mut client, &greedy(5), &user("Hello")).text().is_empty());
}

fn check(call: &Function) {
    let arguments: Value = serde_json::from_str(&call.arguments).unwrap();
    let property = if call.name == "weather" { "city" } else { "zone" };
    assert!(arguments[property].is_string(), "{call:?} {arguments}");
    assert!(!call.id.is_empty());
}

#[test]
fn a_tool_is_called_where_it_must_be() {
    let (mut client, _) = chats(&[]);
    for (choice, name) in [("required", None), ("time", Some("time")), ("weather", Some("weather"))] {
        for seed in 0..3 {
            let params = LlmParams {
                temperature: Some(0.7),
                seed: Some(seed),
                max_tokens: 1000,
                ..LlmParams::default()
            };
            let answered = ask(&mut client, &params, &weather(Some(choice)));
            if answered.reason() == "length" {
                println!("{choice}, seed {seed}: the arguments found no end");
                assert!(answered.calls.is_empty() || answered.calls.iter().all(|call| !call.arguments.is_empty()));
                continue;
            }
            assert_eq!(answered.reason(), "tool_calls", "{answered:?}");
            println!("{:?}: {}", answered.calls[0], answered.calls[0].arguments);
            answered.calls.iter().for_each(check);
            assert!(name.is_none_or(|name| answered.calls.iter().all(|call| call.name == name)));
            assert!(!answered.text().contains("tool_call"), "{}", answered.text());
        }
    }
}

#[test]
fn a_tool_is_called_or_not_where_that_is_free() {
    let (mut client, _) = chats(&[]);
    // This model calls a tool when the context speaks of one.
    let called = ask(&mut client, &greedy(800), &weather(None));
    println!("auto: {:?} {}", called.calls, called.text());
    assert_eq!(called.reason(), "tool_calls", "{called:?}");
    called.calls.iter().for_each(check);
    let never = ask(&mut client, &greedy(200), &weather(Some("none")));
    println!("none: {}", never.text());
    assert!(never.calls.is_empty());
    assert_ne!(never.reason(), "tool_calls");
}

#[test]
fn the_result_of_a_call_is_part_of_the_next_turn() {
    let (mut client, _) = chats(&[]);
    let params = LlmParams {
        cache_key: Some("a".into()),
        ..greedy(800)
    };
    let mut chat = weather(Some("required"));
    let called = ask(&mut client, &params, &chat);
    assert_eq!(called.reason(), "tool_calls");
    let mut assistant = message(Role::Assistant, &called.text());
    assistant.tool_calls = called.calls.clone();
    let mut result = message(Role::Tool, "It rains");
    result.tool_call_id = Some(called.calls[0].id.clone());
    chat.messages.extend([assistant, result]);
    chat.tool_choice = Some("none".into());
    let next = ask(&mut client, &params, &chat);
    assert!(next.done.is_some(), "{next:?}");
    assert!(next.done().usage.cached_tokens > 50, "{:?}", next.done().usage);
    chat.messages[1].tool_calls[0].arguments = "{broken".into();
    assert_eq!(ask(&mut client, &params, &chat).failed().code, code::INVALID);
}

#[test]
fn tools_that_cannot_be_had_are_told() {
    let (mut client, _) = chats(&[]);
    let failed = |answered: shared::Answered| answered.failed().clone();
    assert_eq!(
        failed(ask(&mut client, &greedy(5), &weather(Some("other")))).code,
        code::INVALID
    );
    let mut without = user("Hello");
    without.tool_choice = Some("required".into());
    assert_eq!(failed(ask(&mut client, &greedy(5), &without)).code, code::INVALID);
    let both = LlmParams {
        grammar: Some(Grammar::Json),
        ..greedy(5)
    };
    assert_eq!(failed(ask(&mut client, &both, &weather(None))).code, code::UNSUPPORTED);
    let mut wrong = weather(None);
    wrong.tools[0].parameters = json!({"type": "nonsense"});
    let refused = failed(ask(&mut client, &greedy(5), &wrong));
    assert_eq!(refused.code, code::UNSUPPORTED);
    assert!(refused.message.contains("Schema"), "{}", refused.message);
    let (mut plain, ready) = chats(&[("template", json!("plain"))]);
    assert!(ready.model.name.contains("no chat template"));
    assert_eq!(
        failed(ask(&mut plain, &greedy(5), &weather(None))).code,
        code::UNSUPPORTED
    );
    let (mut named, _) = chats(&[("template", json!("llama3"))]);
    assert_eq!(
        failed(ask(&mut named, &greedy(5), &weather(None))).code,
        code::UNSUPPORTED
    );
    assert!(ask(&mut named, &greedy(5), &user("Hello")).done.is_some());
}

#[test]
fn a_conversation_with_a_template_is_read_once() {
    let (mut client, _) = chats(&[]);
    let params = LlmParams {
        cache_key: Some("call".into()),
        ..greedy(100)
    };
    let mut chat = user("Hello");
    chat.messages.insert(0, message(Role::System, "You are a parrot"));
    let first = ask(&mut client, &params, &chat);
    chat.messages.push(message(Role::Assistant, &first.text()));
    chat.messages.push(message(Role::User, "And now?"));
    let second = ask(&mut client, &params, &chat);
    let (before, after) = (first.done().usage, second.done().usage);
    println!("{before:?} {after:?}");
    assert!(
        after.cached_tokens >= before.prompt_tokens,
        "the first turn's prompt is there"
    );
    assert!(after.prompt_tokens > after.cached_tokens);
}
