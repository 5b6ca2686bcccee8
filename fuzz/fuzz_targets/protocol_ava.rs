//! Text messages of AVA's wire: nothing makes a reader panic, a switch says what it changes, and a reply is searched for calls.
#![no_main]

use libfuzzer_sys::fuzz_target;
use repartee_protocol::ava::{
    Capability, Frame, Gateway, GatewayInput, Request, Selection, ToolContext, ToolFields, ToolState, intent,
    strip_markup, texts, tool_calls,
};

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    let names = ["hangup_call".to_owned(), "transfer".to_owned()];
    let _ = tool_calls(&text, &names);
    let _ = strip_markup(&text, &names);
    let _ = (intent::ends_call(&text), intent::says_too_little(&text));
    match Frame::parse(&text).and_then(Frame::read) {
        Ok(Request::SwitchModel(switch)) => {
            let outcome = switch.apply(&Selection::default());
            assert_eq!(outcome.changed.is_empty(), outcome.message() == texts::NOTHING_TO_APPLY);
        }
        Ok(Request::Audio(audio)) => assert!(!audio.pcm.is_empty() && audio.pcm.len() % 2 == 0),
        Ok(Request::LlmTool(request)) => {
            let context = ToolContext::of(request.tools, &ToolContext::default());
            let gateway = Gateway::new(GatewayInput {
                text: request.text.expose(),
                user_text: request.user_text.expose(),
                context: &context,
                choice: request.choice,
                may_ask: true,
                capability: Capability::Unknown,
            });
            if let Some(pass) = gateway.needs() {
                let _ = gateway.prompt(pass);
            }
            let answer = gateway.finish("c", None);
            assert!(answer.tool_calls.iter().all(|call| context.allows(&call.name)));
        }
        Ok(Request::ToolContext(fields)) => {
            let mut state = ToolState::new();
            state.replace("c", fields);
            let _ = state.for_request("c", ToolFields::default());
        }
        _ => {}
    }
});
