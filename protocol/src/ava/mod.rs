//! The wire of AVA's `local_ai_server`, protocol version 2: what the engine, the Admin UI and the scripts of
//! [AVA](https://github.com/hkjarral/AVA-AI-Voice-Agent-for-Asterisk) speak with their local models.
//!
//! One WebSocket at any path, port 8765. Text messages are JSON objects with a `type`; binary messages are audio. Nothing is
//! ever sent unasked but what belongs to a call: several clients send one message and take the very next one for its answer.
//!
//! ```text
//! → {"type":"status"}
//! ← {"type":"status_response","status":"ok","stt_backend":"sherpa",…}
//! → {"type":"switch_model","scope":"session","call_id":"c1","request_id":"p1","llm_config":{"system_prompt":"…"}}
//! ← {"type":"switch_response","status":"success","scope":"session","call_id":"c1","request_id":"p1",…}
//! → {"type":"tts_request","call_id":"c1","text":"Hello"}
//! ← {"type":"tts_response","text":"Hello","call_id":"c1","audio_data":"…","encoding":"mulaw",…}
//! → {"type":"audio","call_id":"c1","mode":"full","rate":16000,"data":"…"}
//! ← {"type":"stt_result","text":"what time is it","is_final":true,…}
//! ← {"type":"tts_audio","call_id":"c1","mode":"full","encoding":"mulaw","sample_rate_hz":8000,"byte_length":3200}
//! ← binary: 3200 bytes
//! ← {"type":"llm_response","text":"It's noon.","call_id":"c1","mode":"llm","tool_gateway_done":true}
//! ```
//!
//! Messages are read leniently ([`Frame::parse`]): an unknown field is overlooked, a message that makes no sense is ignored with
//! an [`Ignored`] that says why and never what was in it. There is no general error message on this wire.
//!
//! A client keeps the headers of audio in a queue: a header without its binary message shifts every later one. [`TtsAudio`]
//! therefore owns both, and can't be made of nothing.
//!
//! Beside the messages this module holds the rules of the wire that need neither a model nor a clock: which format audio goes
//! out in ([`Output`]), which results of a recogniser are sent ([`Finals`]), when a caller wants to hang up
//! ([`intent::ends_call`]), which tools a reply calls ([`Gateway`]), what a `switch_model` changes ([`SwitchModel::apply`]), and
//! what AVA's environment variables mean ([`Environment`]).

mod catalogue;
mod environment;
mod finals;
pub mod intent;
mod output;
mod read;
mod reply;
mod selection;
mod slot;
mod status;
mod switch;
pub mod texts;
mod tools;
mod words;

pub use catalogue::{Backends, Capabilities, Job, backend_schema};
pub use environment::{Environment, IgnoredVariable, Machine, Mistake, Segmenter, Server, Use, VARIABLES, Variable};
pub use finals::{Cause, Finals, Verdict};
pub use output::{Encoding, Output, OutputRequest};
pub use read::{
    Audio, BargeIn, ContextMessage, Frame, Ignored, Kind, LlmRequest, MAX_AUDIO_RATE, MAX_DEPTH, MAX_MESSAGE_BYTES,
    MIN_AUDIO_RATE, ReloadLlm, Request, RequestId, SetMode, Speaker, ToolResult, TtsRequest,
};
pub use reply::{
    AuthResponse, BargeInAck, HELPER_MESSAGE_BYTES, LlmResponse, LlmToken, ModeReady, ReloadResponse, Reply, SttResult,
    SwitchResponse, SwitchStatus, ToolPath, TtsAudio, TtsResponse,
};
pub use selection::{
    Difference, FasterWhisper, Kokoro, Kroko, Llm, Matcha, MeloTts, Runtime, Selection, Sherpa, Silero, Stt, Tone, Tts,
    WhisperCpp,
};
pub use status::{AutoContext, Facts, Fallback, Gpu, PromptFit, StatusResponse, ToolCapability};
pub use switch::{Outcome, SwitchModel};
pub use tools::{
    Call, Gateway, GatewayInput, LlmToolRequest, LlmToolResponse, MAX_TOOLS, Pass, PassPrompt, Policy, Tool,
    ToolChoice, ToolContext, ToolFields, ToolState, farewell, looks_like_tool_output, strip_markup, tool_calls,
};
pub use words::{
    AudioMode, Capability, KokoroMode, Mode, RuntimeMode, SherpaKind, SttBackend, ToneDecoder, TtsBackend,
};

/// The version of the protocol that is spoken here.
pub const VERSION: u32 = 2;

/// The port where clients look for the server.
pub const PORT: u16 = 8765;

/// The call of a connection before any message has named one.
pub const UNKNOWN_CALL: &str = "unknown";
