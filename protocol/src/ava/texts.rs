//! What the server says by itself. Texts that clients compare are AVA's own, to the letter; prompts are in our words.

use serde_json::Value;

/// The reply where no language model is loaded, or it has failed.
pub const NO_MODEL: &str = "I'm here to help you. How can I assist you today?";
/// The reply where the language model took too long.
pub const TOO_SLOW: &str = "I'm here to help you. Could you please repeat that?";
/// The reply where the language model said nothing.
pub const NOTHING_SAID: &str = "I'm here to help you.";
/// The reply to a tool's result where the language model took too long.
pub const RESULT_TOO_SLOW: &str = "I found the result, but I need a moment to format it clearly.";
/// The reply to a tool's result where the language model has failed.
pub const RESULT_FAILED: &str = "I found the result, but I could not format it clearly.";
/// The farewell where nobody has given another.
pub const FAREWELL: &str = "Thank you for calling. Goodbye.";

/// `message` of a session's switch that worked.
pub const PROMPT_SYNCHRONIZED: &str = "Session system prompt synchronized";
/// `message` of a session's switch without a prompt.
pub const PROMPT_MISSING: &str = "session-scoped switch requires llm_config.system_prompt";
/// `message` of a global switch that changes nothing.
pub const NOTHING_TO_APPLY: &str = "No configuration changes to apply";
/// `message` of a reload that worked.
pub const RELOADED: &str = "All models reloaded successfully";
/// `message` of a wrong token.
pub const INVALID_TOKEN: &str = "invalid_auth_token";
/// `message` of whatever comes before the token.
pub const TOKEN_NEEDED: &str = "authentication_required";
/// `error` of a result where no recogniser is loaded.
pub const STT_UNAVAILABLE: &str = "stt_unavailable";
/// The reason with which a connection is closed that should have had a token and can't (close code 1008).
pub const NO_TOKEN_CONFIGURED: &str = "Server misconfigured: auth token required for remote access";

/// The system prompt where neither a session nor the environment has one.
pub const SYSTEM_PROMPT: &str =
    "You are a helpful AI voice assistant. Respond naturally and conversationally to the caller.";

/// What stands before every system prompt, unless the environment says otherwise.
pub const VOICE_PREAMBLE: &str = "You are on a live phone call and everything you write is spoken aloud. Answer in one or two \
    short sentences of plain words: no lists, no headings, no markdown, no emoji, no stage directions. This call is a new \
    conversation; you remember nothing of any call before it.";

/// What is added to the system prompt where replies are spoken sentence by sentence.
pub const ACKNOWLEDGE_FIRST: &str = "Begin every reply with a short acknowledgement of three to eight words that ends with a \
    full stop, and then go on.";

/// What is added to the system prompt until the first reply after an interruption.
pub const INTERRUPTED: &str = "The caller has just interrupted you. Do not go back to what you were saying. Answer only the \
    caller's newest words; if they are unclear, ask one short question.";

/// What is spoken to bridge a wait, where fillers are wanted.
pub const FILLERS: [&str; 4] = [
    "One moment please.",
    "Let me check on that.",
    "Sure thing.",
    "Just a moment.",
];

/// Characters of a tool's result in a prompt, at most.
const MAX_RESULT: usize = 4_000;

/// A system prompt with what stands before it, and what is added.
#[must_use]
pub fn system_prompt(preamble: &str, prompt: &str, interrupted: bool, acknowledge: bool) -> String {
    let parts = [
        preamble,
        prompt,
        if acknowledge { ACKNOWLEDGE_FIRST } else { "" },
        if interrupted { INTERRUPTED } else { "" },
    ];
    let parts: Vec<_> = parts
        .into_iter()
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .collect();
    parts.join("\n\n")
}

/// The user message that asks for a reply to a tool's result. It isn't kept in the history.
#[must_use]
pub fn about_result(tool: &str, result: &Value, is_error: bool) -> String {
    let written = result.to_string();
    let shown: String = written.chars().take(MAX_RESULT).collect();
    let task = if is_error {
        "That did not work. Apologise in a few words and ask the caller whether to try again."
    } else {
        "Tell the caller what it says, with its real values, in one or two spoken sentences."
    };
    format!("The tool {tool} has answered: {shown}\n{task} Do not mention tools, functions or JSON.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_has_a_blank_line_between_its_parts() {
        assert_eq!(system_prompt("A.", "B.", false, false), "A.\n\nB.");
        assert_eq!(system_prompt("A.", "", false, false), "A.");
        let all = system_prompt("", "B.", true, true);
        assert_eq!(all, format!("B.\n\n{ACKNOWLEDGE_FIRST}\n\n{INTERRUPTED}"));
    }

    #[test]
    fn a_long_result_is_cut_between_characters() {
        let prompt = about_result("lookup", &Value::from("ü".repeat(9_000)), false);
        assert!(prompt.contains(&"ü".repeat(3_999)) && !prompt.contains(&"ü".repeat(4_000)));
        assert_ne!(prompt, about_result("lookup", &Value::from("ü".repeat(9_000)), true));
    }
}
