//! What the server sends. A field that says nothing is left out, never null, but where AVA's clients expect the key.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Serialize, Serializer};

use super::catalogue::{Backends, Capabilities};
use super::output::{Encoding, Output};
use super::read::RequestId;
use super::status::StatusResponse;
use super::texts::{INVALID_TOKEN, PROMPT_MISSING, PROMPT_SYNCHRONIZED, STT_UNAVAILABLE, TOKEN_NEEDED};
use super::tools::LlmToolResponse;
use super::words::{AudioMode, Mode, Named, SttBackend, names};

/// What helpers of AVA's engine take in one message, at most: the default of Python's `websockets`.
pub const HELPER_MESSAGE_BYTES: usize = 1024 * 1024;

names! {
    /// How calls of tools were found, or what else was said.
    ToolPath {
        /// The model was asked which tool it wants.
        Structured = "structured",
        /// In the reply's text.
        Parser = "parser",
        /// The model was asked what it meant.
        Repair = "repair",
        /// The caller's words were enough.
        Heuristic = "heuristic",
        /// There are none.
        None = "none",
    }
}

/// A text message.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Reply {
    /// The answer to `auth`, and to whatever comes before it.
    Auth(AuthResponse),
    /// The answer to `set_mode`.
    ModeReady(ModeReady),
    /// What a recogniser has heard.
    SttResult(SttResult),
    /// A reply.
    Llm(LlmResponse),
    /// A piece of a reply.
    LlmToken(LlmToken),
    /// Which tools a reply calls.
    LlmTool(Box<LlmToolResponse>),
    /// Text that was spoken.
    Tts(TtsResponse),
    /// The answer to `barge_in`.
    BargeIn(BargeInAck),
    /// The answer to `switch_model`.
    Switch(SwitchResponse),
    /// The answer to `reload_models` and `reload_llm`.
    Reload(ReloadResponse),
    /// What is loaded.
    Status(Box<StatusResponse>),
    /// What could be loaded.
    Capabilities(CapabilitiesResponse),
    /// Every backend with its parameters.
    Backends(Backends),
    /// One backend's parameters.
    BackendSchema(serde_json::Value),
}

/// `capabilities_response`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct CapabilitiesResponse {
    #[serde(rename = "type")]
    kind: &'static str,
    capabilities: Capabilities,
}

impl From<Capabilities> for Reply {
    fn from(capabilities: Capabilities) -> Self {
        Self::Capabilities(CapabilitiesResponse {
            kind: "capabilities_response",
            capabilities,
        })
    }
}

macro_rules! replies {
    ($($variant:ident($reply:ty),)+) => {
        $(impl From<$reply> for Reply {
            fn from(reply: $reply) -> Self {
                Self::$variant(reply.into())
            }
        })+
    };
}
replies! {
    Auth(AuthResponse),
    ModeReady(ModeReady),
    SttResult(SttResult),
    Llm(LlmResponse),
    LlmToken(LlmToken),
    LlmTool(LlmToolResponse),
    Tts(TtsResponse),
    BargeIn(BargeInAck),
    Switch(SwitchResponse),
    Reload(ReloadResponse),
    Status(StatusResponse),
    Backends(Backends),
}

impl Reply {
    /// The message's text.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("a message has names for keys and finite numbers")
    }
}

/// `auth_response`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct AuthResponse {
    #[serde(rename = "type")]
    kind: &'static str,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'static str>,
}

impl AuthResponse {
    /// The token is right, or none is needed.
    pub const OK: Self = Self {
        kind: "auth_response",
        status: "ok",
        message: None,
    };
    /// The token is wrong.
    pub const INVALID: Self = Self {
        kind: "auth_response",
        status: "error",
        message: Some(INVALID_TOKEN),
    };
    /// A token must come first.
    pub const NEEDED: Self = Self {
        kind: "auth_response",
        status: "error",
        message: Some(TOKEN_NEEDED),
    };
}

/// `mode_ready`. Every key is always there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ModeReady {
    #[serde(rename = "type")]
    kind: &'static str,
    mode: Mode,
    call_id: String,
    segment_energy_threshold: Option<u16>,
    segment_silence_ms: Option<u16>,
    output_encoding: Encoding,
    output_sample_rate_hz: u32,
}

impl ModeReady {
    /// What holds from now on.
    #[must_use]
    pub fn new(
        call_id: &str,
        mode: Mode,
        segment_energy_threshold: Option<u16>,
        segment_silence_ms: Option<u16>,
        output: Output,
    ) -> Self {
        Self {
            kind: "mode_ready",
            mode,
            call_id: call_id.to_owned(),
            segment_energy_threshold,
            segment_silence_ms,
            output_encoding: output.encoding(),
            output_sample_rate_hz: output.rate(),
        }
    }
}

/// `stt_result`.
#[derive(Clone, PartialEq, Serialize)]
pub struct SttResult {
    #[serde(rename = "type")]
    kind: &'static str,
    text: String,
    call_id: String,
    mode: Mode,
    is_final: bool,
    is_partial: bool,
    stt_backend: SttBackend,
    /// Null only where no recogniser is loaded.
    #[serde(skip_serializing_if = "Option::is_none")]
    confidence: Option<Option<f64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<RequestId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'static str>,
}

impl fmt::Debug for SttResult {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("SttResult")
            .field("characters", &self.text.chars().count())
            .field("is_final", &self.is_final)
            .finish_non_exhaustive()
    }
}

impl SttResult {
    fn new(call_id: &str, mode: Mode, backend: SttBackend, text: &str, is_final: bool) -> Self {
        Self {
            kind: "stt_result",
            text: text.to_owned(),
            call_id: call_id.to_owned(),
            mode,
            is_final,
            is_partial: !is_final,
            stt_backend: backend,
            confidence: None,
            request_id: None,
            error: None,
        }
    }

    /// What has been heard so far.
    #[must_use]
    pub fn partial(call_id: &str, mode: Mode, backend: SttBackend, text: &str) -> Self {
        Self::new(call_id, mode, backend, text, false)
    }

    /// What was said; may be empty.
    #[must_use]
    pub fn last(call_id: &str, mode: Mode, backend: SttBackend, text: &str) -> Self {
        Self::new(call_id, mode, backend, text, true)
    }

    /// No recogniser is loaded: the answer to each audio message.
    #[must_use]
    pub fn unavailable(call_id: &str, mode: Mode, backend: SttBackend) -> Self {
        Self {
            confidence: Some(None),
            error: Some(STT_UNAVAILABLE),
            ..Self::new(call_id, mode, backend, "", true)
        }
    }

    /// With the recogniser's own idea of how likely it is, 0 to 1; anything that is no finite number is left out.
    #[must_use]
    pub fn with_confidence(mut self, confidence: f64) -> Self {
        self.confidence = confidence.is_finite().then_some(Some(confidence));
        self
    }

    /// With the id of the audio message.
    #[must_use]
    pub fn with_request(mut self, request_id: Option<RequestId>) -> Self {
        self.request_id = request_id;
        self
    }
}

/// `llm_response`.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct LlmResponse {
    #[serde(rename = "type")]
    kind: &'static str,
    text: String,
    call_id: String,
    mode: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<RequestId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_gateway_done: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_result_final: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_path: Option<&'static str>,
}

impl fmt::Debug for LlmResponse {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("LlmResponse")
            .field("characters", &self.text.chars().count())
            .field("mode", &self.mode)
            .finish_non_exhaustive()
    }
}

impl LlmResponse {
    fn new(call_id: &str, mode: &'static str, text: &str) -> Self {
        Self {
            kind: "llm_response",
            text: text.to_owned(),
            call_id: call_id.to_owned(),
            mode,
            request_id: None,
            tool_gateway_done: None,
            tool_result_final: None,
            tool_path: None,
        }
    }

    /// A reply to a caller. `text` isn't empty: [`NOTHING_SAID`](super::texts::NOTHING_SAID) is for that.
    ///
    /// # Panics
    /// Never; in debug builds, where `text` is empty.
    #[must_use]
    pub fn spoken(call_id: &str, text: &str) -> Self {
        debug_assert!(!text.is_empty(), "an empty reply is the end of a stream of tokens");
        Self::new(call_id, Mode::Llm.as_str(), text)
    }

    /// The answer to `llm_request`, in the connection's mode. Empty only as the end of a stream of [`LlmToken`]s.
    #[must_use]
    pub fn answer(call_id: &str, mode: Mode, text: &str) -> Self {
        Self::new(call_id, mode.as_str(), text)
    }

    /// The reply to a tool's result.
    #[must_use]
    pub fn about_result(call_id: &str, text: &str) -> Self {
        Self {
            tool_gateway_done: Some(true),
            tool_result_final: Some(true),
            tool_path: Some(ToolPath::None.as_str()),
            ..Self::new(call_id, AudioMode::ToolResult.as_str(), text)
        }
    }

    /// The farewell that a `hangup_call` brings.
    #[must_use]
    pub fn farewell(call_id: &str, text: &str) -> Self {
        Self {
            tool_path: Some("terminal_farewell"),
            ..Self::about_result(call_id, text)
        }
    }

    /// Says that calls of tools have been looked for already: the client then doesn't ask.
    #[must_use]
    pub fn gated(mut self) -> Self {
        self.tool_gateway_done = Some(true);
        self
    }

    /// With the id of the request.
    #[must_use]
    pub fn with_request(mut self, request_id: Option<RequestId>) -> Self {
        self.request_id = request_id;
        self
    }
}

/// `llm_token`: only where the request asked for a stream.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct LlmToken {
    #[serde(rename = "type")]
    kind: &'static str,
    token: String,
    call_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<RequestId>,
}

impl fmt::Debug for LlmToken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("LlmToken").finish_non_exhaustive()
    }
}

impl LlmToken {
    /// A piece of a reply.
    #[must_use]
    pub fn new(call_id: &str, token: &str, request_id: Option<RequestId>) -> Self {
        Self {
            kind: "llm_token",
            token: token.to_owned(),
            call_id: call_id.to_owned(),
            request_id,
        }
    }
}

/// `tts_response`: all of a text, spoken, inside of JSON. Never without audio.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct TtsResponse {
    #[serde(rename = "type")]
    kind: &'static str,
    text: String,
    call_id: String,
    audio_data: String,
    encoding: Encoding,
    sample_rate_hz: u32,
    byte_length: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<RequestId>,
}

impl fmt::Debug for TtsResponse {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("TtsResponse")
            .field("byte_length", &self.byte_length)
            .finish_non_exhaustive()
    }
}

impl TtsResponse {
    /// Milliseconds of silence in place of audio that couldn't be made: a client that gets none waits in vain.
    const IN_PLACE_OF_AUDIO_MS: u32 = 100;

    /// The audio of `text`, which is repeated exactly. Where there is none, a moment of silence takes its place.
    #[must_use]
    pub fn new(call_id: &str, text: &str, output: Output, audio: &[u8], request_id: Option<RequestId>) -> Self {
        let silence;
        let audio = match whole_samples(output, audio.len()) {
            0 => {
                silence = output.silence(Self::IN_PLACE_OF_AUDIO_MS);
                &silence[..]
            }
            length => &audio[..length],
        };
        Self {
            kind: "tts_response",
            text: text.to_owned(),
            call_id: call_id.to_owned(),
            audio_data: STANDARD.encode(audio),
            encoding: output.encoding(),
            sample_rate_hz: output.rate(),
            byte_length: audio.len(),
            request_id,
        }
    }
}

/// The most of `length` bytes that are whole samples.
const fn whole_samples(output: Output, length: usize) -> usize {
    length - length % output.encoding().bytes_per_sample()
}

/// A stretch of audio to the client: a header and the binary message that follows it at once. There is none without audio.
#[derive(Clone, PartialEq, Eq)]
pub struct TtsAudio {
    header: TtsAudioHeader,
    audio: Bytes,
}

#[derive(Clone, PartialEq, Eq, Serialize)]
struct TtsAudioHeader {
    #[serde(rename = "type")]
    kind: &'static str,
    call_id: String,
    mode: AudioMode,
    encoding: Encoding,
    sample_rate_hz: u32,
    byte_length: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<RequestId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    utterance_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    chunk_index: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    is_final: Option<bool>,
}

impl fmt::Debug for TtsAudio {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("TtsAudio")
            .field("mode", &self.header.mode)
            .field("byte_length", &self.audio.len())
            .finish_non_exhaustive()
    }
}

impl TtsAudio {
    /// `audio` in the format `output`; nothing where it isn't a single whole sample. Half a sample at the end is dropped.
    #[must_use]
    pub fn new(call_id: &str, mode: AudioMode, output: Output, mut audio: Bytes) -> Option<Self> {
        audio.truncate(whole_samples(output, audio.len()));
        (!audio.is_empty()).then(|| Self {
            header: TtsAudioHeader {
                kind: "tts_audio",
                call_id: call_id.to_owned(),
                mode,
                encoding: output.encoding(),
                sample_rate_hz: output.rate(),
                byte_length: audio.len(),
                request_id: None,
                utterance_id: None,
                chunk_index: None,
                is_final: None,
            },
            audio,
        })
    }

    /// With the id of the request.
    #[must_use]
    pub fn with_request(mut self, request_id: Option<RequestId>) -> Self {
        self.header.request_id = request_id;
        self
    }

    /// As a piece of a reply that is spoken while it is thought.
    #[must_use]
    pub fn with_place(mut self, utterance_id: &str, chunk_index: u32, is_final: bool) -> Self {
        self.header.utterance_id = Some(utterance_id.to_owned());
        self.header.chunk_index = Some(chunk_index);
        self.header.is_final = Some(is_final);
        self
    }

    /// The text message and the binary message, to be sent one right behind the other.
    #[must_use]
    pub fn into_messages(self) -> (String, Bytes) {
        let header = serde_json::to_string(&self.header).expect("a header has names for keys");
        (header, self.audio)
    }
}

/// `barge_in_ack`. Its `request_id` is always there, null if need be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BargeInAck {
    #[serde(rename = "type")]
    kind: &'static str,
    status: &'static str,
    call_id: String,
    request_id: Option<RequestId>,
}

impl BargeInAck {
    /// Nothing of what was under way is sent any more.
    #[must_use]
    pub fn new(call_id: &str, request_id: Option<RequestId>) -> Self {
        Self {
            kind: "barge_in_ack",
            status: "ok",
            call_id: call_id.to_owned(),
            request_id,
        }
    }
}

names! {
    /// How a switch went.
    SwitchStatus {
        /// Something has changed.
        Success = "success",
        /// There was nothing to change.
        NoChange = "no_change",
        /// It hasn't worked; all is as it was.
        Error = "error",
    }
}

/// `switch_response`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SwitchResponse {
    #[serde(rename = "type")]
    kind: &'static str,
    status: SwitchStatus,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    call_id: Option<String>,
    /// Always there for the whole server, null if need be; for a session only if the request had one.
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<Option<RequestId>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    changed: Option<Vec<String>>,
}

impl SwitchResponse {
    fn of_session(call_id: &str, request_id: Option<RequestId>, status: SwitchStatus, message: &str) -> Self {
        Self {
            kind: "switch_response",
            status,
            message: message.to_owned(),
            scope: Some("session"),
            call_id: Some(call_id.to_owned()),
            request_id: request_id.map(Some),
            changed: None,
        }
    }

    /// The call has its prompt.
    #[must_use]
    pub fn prompt_taken(call_id: &str, request_id: Option<RequestId>) -> Self {
        Self {
            changed: Some(vec!["system_prompt".to_owned()]),
            ..Self::of_session(call_id, request_id, SwitchStatus::Success, PROMPT_SYNCHRONIZED)
        }
    }

    /// The message for a call has no prompt.
    #[must_use]
    pub fn prompt_missing(call_id: &str, request_id: Option<RequestId>) -> Self {
        Self::of_session(call_id, request_id, SwitchStatus::Error, PROMPT_MISSING)
    }

    fn of_server(
        request_id: Option<RequestId>,
        status: SwitchStatus,
        message: String,
        changed: Option<Vec<String>>,
    ) -> Self {
        Self {
            kind: "switch_response",
            status,
            message,
            scope: None,
            call_id: None,
            request_id: Some(request_id),
            changed,
        }
    }

    /// It has worked, or there was nothing to do.
    #[must_use]
    pub fn switched(request_id: Option<RequestId>, outcome: &super::Outcome) -> Self {
        let status = if outcome.changed.is_empty() {
            SwitchStatus::NoChange
        } else {
            SwitchStatus::Success
        };
        Self::of_server(request_id, status, outcome.message(), Some(outcome.changed.clone()))
    }

    /// It hasn't worked; `message` says why.
    #[must_use]
    pub fn failed(request_id: Option<RequestId>, message: &str) -> Self {
        Self::of_server(request_id, SwitchStatus::Error, message.to_owned(), None)
    }
}

/// `reload_response`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReloadResponse {
    #[serde(rename = "type")]
    kind: &'static str,
    status: &'static str,
    message: String,
}

impl ReloadResponse {
    /// It has worked.
    #[must_use]
    pub fn success(message: &str) -> Self {
        Self {
            kind: "reload_response",
            status: "success",
            message: message.to_owned(),
        }
    }

    /// The language model is loaded again.
    #[must_use]
    pub fn llm(llm: &super::Llm) -> Self {
        Self::success(&format!(
            "LLM model reloaded with optimizations (ctx={}, batch={}, temp={}, max_tokens={})",
            llm.context, llm.batch, llm.temperature, llm.max_tokens
        ))
    }

    /// It hasn't worked; `message` says why.
    #[must_use]
    pub fn error(message: &str) -> Self {
        Self {
            status: "error",
            ..Self::success(message)
        }
    }
}
