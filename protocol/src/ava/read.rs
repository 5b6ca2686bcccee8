//! Reading what clients send. Leniently: this wire has no message for a mistake, so whatever makes no sense is ignored, with a
//! reason for the log.

use std::fmt;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

use super::output::{Encoding, OutputRequest};
use super::slot::{flag_of, whole_of};
use super::switch::SwitchModel;
use super::tools::{LlmToolRequest, ToolFields};
use super::words::{Mode, Named, names};
use crate::native::Private;

/// Bytes of one text message, at most: 6 minutes of audio at 16 kHz in one message, as AVA's own check of a server sends it.
pub const MAX_MESSAGE_BYTES: usize = 16 * 1024 * 1024;

/// Objects and arrays in one another, at most: serde_json's own bound.
pub const MAX_DEPTH: usize = 127;

/// Samples per second of a client's audio, at least.
pub const MIN_AUDIO_RATE: u32 = 4_000;

/// Samples per second of a client's audio, at most.
pub const MAX_AUDIO_RATE: u32 = 192_000;

/// Characters of an id, at most.
const MAX_ID: usize = 512;

/// Characters of a text to speak or to answer, at most.
const MAX_TEXT: usize = 256 * 1024;

/// Messages of an earlier conversation that are kept, the latest.
const MAX_CONTEXT: usize = 256;

/// Base64 as Python's decoder takes it: with or without padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// Why a message is ignored. Names the field, never what was in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ignored {
    /// More than [`MAX_MESSAGE_BYTES`].
    TooLarge,
    /// Not JSON, or nested deeper than [`MAX_DEPTH`].
    NotJson,
    /// JSON, but no object.
    NotAnObject,
    /// `type` is missing or empty.
    NoType,
    /// A type that isn't known.
    UnknownType,
    /// This field is needed.
    Missing(&'static str),
    /// This field isn't what it should be.
    Wrong(&'static str),
    /// This field is too long.
    TooLong(&'static str),
}

impl Ignored {
    /// Whether it was a message at all: an object with a type. Only such are refused before `auth`.
    #[must_use]
    pub const fn is_a_message(self) -> bool {
        !matches!(self, Self::TooLarge | Self::NotJson | Self::NotAnObject | Self::NoType)
    }
}

impl fmt::Display for Ignored {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge => write!(formatter, "more than {MAX_MESSAGE_BYTES} bytes"),
            Self::NotJson => formatter.write_str("not JSON"),
            Self::NotAnObject => formatter.write_str("not a JSON object"),
            Self::NoType => formatter.write_str("no type"),
            Self::UnknownType => formatter.write_str("an unknown type"),
            Self::Missing(field) => write!(formatter, "{field} is missing or empty"),
            Self::Wrong(field) => write!(formatter, "{field} isn't what it should be"),
            Self::TooLong(field) => write!(formatter, "{field} is too long"),
        }
    }
}

impl std::error::Error for Ignored {}

/// What a client calls its request: a text that isn't empty, or a number. Sent back as it came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct RequestId(Value);

impl RequestId {
    fn read(object: &Map<String, Value>) -> Result<Option<Self>, Ignored> {
        match object.get("request_id") {
            Some(Value::String(id)) if id.chars().nth(MAX_ID).is_some() => Err(Ignored::TooLong("request_id")),
            Some(value @ Value::String(id)) if !id.is_empty() => Ok(Some(Self(value.clone()))),
            Some(value @ Value::Number(number)) if number.as_f64() != Some(0.0) => Ok(Some(Self(value.clone()))),
            _ => Ok(None),
        }
    }
}

impl From<&str> for RequestId {
    fn from(id: &str) -> Self {
        Self(Value::from(id))
    }
}

names! {
    /// The type of a message.
    Kind {
        /// Shows the shared secret.
        Auth = "auth",
        /// Says what the connection is for.
        SetMode = "set_mode",
        /// Audio of the caller.
        Audio = "audio",
        /// The caller has interrupted, or the call is over.
        BargeIn = "barge_in",
        /// Text to speak.
        TtsRequest = "tts_request",
        /// Text to answer.
        LlmRequest = "llm_request",
        /// The tools of the call.
        ToolContext = "tool_context",
        /// Asks which tools a reply calls.
        LlmToolRequest = "llm_tool_request",
        /// What a tool has given.
        ToolResult = "tool_result",
        /// Other models, or another prompt.
        SwitchModel = "switch_model",
        /// All models again.
        ReloadModels = "reload_models",
        /// The language model again.
        ReloadLlm = "reload_llm",
        /// Asks what is loaded.
        Status = "status",
        /// Asks what could be loaded.
        Capabilities = "capabilities",
        /// Asks for every backend with its parameters.
        Backends = "backends",
        /// Asks for one backend's parameters.
        BackendSchema = "backend_schema",
    }
}

/// A message, read as far as every message is the same.
#[derive(Clone, Debug, PartialEq)]
pub struct Frame {
    /// Its type.
    pub kind: Kind,
    /// The call that it belongs to, if it says so; the connection's from then on.
    pub call_id: Option<String>,
    /// What its answer must carry.
    pub request_id: Option<RequestId>,
    /// The version of the protocol that it says it is of.
    pub protocol_version: Option<i64>,
    fields: Fields,
}

/// What a message asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// The shared secret; none counts as an empty one.
    Auth(Private),
    /// What the connection is for.
    SetMode(SetMode),
    /// Audio of the caller.
    Audio(Audio),
    /// The caller has interrupted, or the call is over.
    BargeIn(BargeIn),
    /// Text to speak.
    Tts(TtsRequest),
    /// Text to answer.
    Llm(LlmRequest),
    /// The tools of the call, in place of those before.
    ToolContext(ToolFields),
    /// Which tools a reply calls.
    LlmTool(Box<LlmToolRequest>),
    /// What a tool has given.
    ToolResult(ToolResult),
    /// Another prompt for this call; none: the message lacks it, which is answered with an error.
    SwitchSession(Option<Private>),
    /// Other models.
    SwitchModel(Box<SwitchModel>),
    /// All models again.
    ReloadModels,
    /// The language model again.
    ReloadLlm(ReloadLlm),
    /// What is loaded.
    Status,
    /// What could be loaded.
    Capabilities,
    /// Every backend with its parameters.
    Backends,
    /// One backend's parameters.
    BackendSchema {
        /// `stt`, `tts`, `llm`, or what the client took for one.
        job: String,
        /// Its name, or what the client took for one.
        name: String,
    },
}

/// `set_mode`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetMode {
    /// The new mode; none: a name that isn't known, and the mode stays.
    pub mode: Option<Mode>,
    /// Loudness of speech as the root mean square of 16-bit samples, 0 to 32767; none: the server's own.
    pub segment_energy_threshold: Option<u16>,
    /// Silence (ms) that ends speech, 100 to 5000; none: the server's own.
    pub segment_silence_ms: Option<u16>,
    /// The format of audio to the client. Here what isn't named is as at the beginning, not as it was.
    pub output: OutputRequest,
}

/// `audio`: 16-bit samples, little-endian, mono.
#[derive(Clone, PartialEq, Eq)]
pub struct Audio {
    /// Whole samples, at least one.
    pub pcm: Bytes,
    /// Samples per second, [`MIN_AUDIO_RATE`] to [`MAX_AUDIO_RATE`].
    pub rate: u32,
    /// The connection's mode from now on, if it says so.
    pub mode: Option<Mode>,
    /// The format of audio to the client from now on, if it says so.
    pub output: OutputRequest,
}

impl fmt::Debug for Audio {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Audio")
            .field("bytes", &self.pcm.len())
            .field("rate", &self.rate)
            .field("mode", &self.mode)
            .field("output", &self.output)
            .finish()
    }
}

/// `barge_in`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BargeIn {
    /// The reply under way is to be forgotten, with what it answered.
    pub rollback: bool,
    /// The call is over: nothing but the replies under way is touched.
    pub stops_session: bool,
}

/// `tts_request`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TtsRequest {
    /// Not empty; spaces alone are possible. The answer repeats it exactly.
    pub text: Private,
    /// The format from now on, if it says so.
    pub output: OutputRequest,
}

/// `llm_request`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LlmRequest {
    /// Not blank.
    pub text: Private,
    /// The conversation before, oldest first, as far as it came. AVA's own server doesn't look at it.
    pub context: Vec<ContextMessage>,
    /// Tokens may be sent one by one.
    pub stream: bool,
}

impl LlmRequest {
    /// The conversation before `text`: without the last message where that is `text` itself.
    #[must_use]
    pub fn history(&self) -> &[ContextMessage] {
        match self.context.split_last() {
            Some((last, before)) if last.speaker == Speaker::User && last.text == self.text => before,
            _ => &self.context,
        }
    }
}

/// A message of an earlier conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContextMessage {
    /// Whose it is.
    pub speaker: Speaker,
    /// Not blank.
    pub text: Private,
}

names! {
    /// Whose a message is.
    Speaker {
        /// Instructions.
        System = "system",
        /// The caller.
        User = "user",
        /// The agent.
        Assistant = "assistant",
    }
}

/// `tool_result`.
#[derive(Clone, PartialEq)]
pub struct ToolResult {
    /// The tool.
    pub tool_name: String,
    /// Which of its calls, if it says so.
    pub function_call_id: Option<String>,
    /// What it gave; null where nothing was said. What people said may be in it: never for a log.
    pub result: Value,
    /// It failed.
    pub is_error: bool,
    /// The format of audio to the client from now on, if it says so.
    pub output: OutputRequest,
}

impl fmt::Debug for ToolResult {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ToolResult")
            .field("tool_name", &self.tool_name)
            .field("is_error", &self.is_error)
            .finish_non_exhaustive()
    }
}

/// `reload_llm`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReloadLlm {
    /// Another model's path, if it names one.
    pub model_path: Option<String>,
}

impl Frame {
    /// Reads what every message has.
    ///
    /// # Errors
    /// Why the message is to be ignored.
    pub fn parse(text: &str) -> Result<Self, Ignored> {
        if text.len() > MAX_MESSAGE_BYTES {
            return Err(Ignored::TooLarge);
        }
        let value: Value = serde_json::from_str(text).map_err(|_| Ignored::NotJson)?;
        let Value::Object(object) = value else {
            return Err(Ignored::NotAnObject);
        };
        let kind = match object.get("type") {
            None | Some(Value::Null) => return Err(Ignored::NoType),
            Some(Value::String(name)) => {
                let name = name.replace('\0', "").trim().to_lowercase().replace('-', "_");
                if name.is_empty() {
                    return Err(Ignored::NoType);
                }
                Kind::parse(&name).ok_or(Ignored::UnknownType)?
            }
            Some(_) => return Err(Ignored::UnknownType),
        };
        let request_id = RequestId::read(&object)?;
        let fields = Fields(object);
        Ok(Self {
            kind,
            call_id: fields.id("call_id")?,
            request_id,
            protocol_version: fields.get("protocol_version").and_then(whole_of),
            fields,
        })
    }

    /// Reads the rest.
    ///
    /// # Errors
    /// Why the message is to be ignored.
    pub fn read(mut self) -> Result<Request, Ignored> {
        let fields = &mut self.fields;
        Ok(match self.kind {
            Kind::Auth => Request::Auth(match fields.id("auth_token")? {
                Some(token) => token.into(),
                None => fields.id("token")?.unwrap_or_default().into(),
            }),
            Kind::SetMode => Request::SetMode(fields.set_mode()),
            Kind::Audio => Request::Audio(fields.audio()?),
            Kind::BargeIn => Request::BargeIn(BargeIn {
                rollback: fields.flag("rollback_assistant"),
                stops_session: fields
                    .text("reason")
                    .is_some_and(|reason| reason.trim() == "stop_session"),
            }),
            Kind::TtsRequest => Request::Tts(TtsRequest {
                text: fields.needed_text("text")?,
                output: fields.output(
                    &["output_encoding", "encoding"],
                    &["output_sample_rate_hz", "sample_rate_hz"],
                ),
            }),
            Kind::LlmRequest => Request::Llm(fields.llm_request()?),
            Kind::ToolContext => Request::ToolContext(ToolFields::read(&mut fields.0)),
            Kind::LlmToolRequest => Request::LlmTool(Box::new(LlmToolRequest::read(&mut fields.0)?)),
            Kind::ToolResult => Request::ToolResult(ToolResult {
                tool_name: fields.id("tool_name")?.unwrap_or_default(),
                function_call_id: fields.id("function_call_id")?,
                result: fields.0.remove("result").unwrap_or_default(),
                is_error: fields.flag("is_error"),
                output: fields.output(&["output_encoding"], &["output_sample_rate_hz"]),
            }),
            Kind::SwitchModel => fields.switch(),
            Kind::ReloadModels => Request::ReloadModels,
            Kind::ReloadLlm => Request::ReloadLlm(ReloadLlm {
                model_path: match fields.id("llm_model_path")? {
                    Some(path) => Some(path),
                    None => fields.id("model_path")?,
                },
            }),
            Kind::Status => Request::Status,
            Kind::Capabilities => Request::Capabilities,
            Kind::Backends => Request::Backends,
            Kind::BackendSchema => Request::BackendSchema {
                job: fields.id("backend_type")?.unwrap_or_default(),
                name: fields.id("backend_name")?.unwrap_or_default(),
            },
        })
    }
}

/// The fields of a message.
#[derive(Clone, PartialEq)]
struct Fields(Map<String, Value>);

impl fmt::Debug for Fields {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "[{} fields withheld]", self.0.len())
    }
}

impl Fields {
    /// A field's value; null is the same as absent.
    fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.get(name).and_then(Value::as_str)
    }

    fn flag(&self, name: &str) -> bool {
        self.get(name).and_then(flag_of).unwrap_or(false)
    }

    /// A short text, or a number for one; empty is the same as absent.
    fn id(&self, name: &'static str) -> Result<Option<String>, Ignored> {
        match self.get(name) {
            Some(Value::String(text)) if text.chars().nth(MAX_ID).is_some() => Err(Ignored::TooLong(name)),
            Some(Value::String(text)) => Ok(Some(text.replace('\0', "")).filter(|text| !text.is_empty())),
            Some(Value::Number(number)) => Ok(Some(number.to_string())),
            _ => Ok(None),
        }
    }

    /// A text that isn't empty.
    fn needed_text(&self, name: &'static str) -> Result<Private, Ignored> {
        match self.get(name) {
            None => Err(Ignored::Missing(name)),
            Some(Value::String(text)) if text.is_empty() => Err(Ignored::Missing(name)),
            Some(Value::String(text)) if text.chars().nth(MAX_TEXT).is_some() => Err(Ignored::TooLong(name)),
            Some(Value::String(text)) => Ok(text.as_str().into()),
            Some(_) => Err(Ignored::Wrong(name)),
        }
    }

    /// The first of these names that is there decides.
    fn output(&self, encodings: &[&str], rates: &[&str]) -> OutputRequest {
        OutputRequest {
            encoding: encodings
                .iter()
                .find_map(|name| self.get(name))
                .map(|value| Encoding::meant_by(value.as_str().unwrap_or_default())),
            rate: rates
                .iter()
                .find_map(|name| self.get(name))
                .map(|value| whole_of(value).and_then(|rate| u32::try_from(rate).ok()).unwrap_or(0)),
        }
    }

    fn set_mode(&self) -> SetMode {
        SetMode {
            mode: match self.get("mode") {
                None => Some(Mode::Full),
                Some(mode) => mode.as_str().and_then(Mode::parse),
            },
            segment_energy_threshold: self.whole_within("segment_energy_threshold", 0, 32_767),
            segment_silence_ms: self.whole_within("segment_silence_ms", 100, 5_000),
            output: self.output(&["output_encoding"], &["output_sample_rate_hz"]),
        }
    }

    /// A whole number that is written as one, within these bounds.
    fn whole_within(&self, name: &str, low: u16, high: u16) -> Option<u16> {
        let number = u16::try_from(self.get(name)?.as_u64()?).ok()?;
        (low..=high).contains(&number).then_some(number)
    }

    fn audio(&mut self) -> Result<Audio, Ignored> {
        let rate = match self.get("rate") {
            None => 16_000,
            Some(rate) => whole_of(rate)
                .and_then(|rate| u32::try_from(rate).ok())
                .filter(|rate| (MIN_AUDIO_RATE..=MAX_AUDIO_RATE).contains(rate))
                .ok_or(Ignored::Wrong("rate"))?,
        };
        let mut pcm = match self.0.remove("data") {
            None | Some(Value::Null) => return Err(Ignored::Missing("data")),
            Some(Value::String(data)) => decode(data).ok_or(Ignored::Wrong("data"))?,
            Some(_) => return Err(Ignored::Wrong("data")),
        };
        // Half a sample is nobody's.
        pcm.truncate(pcm.len() & !1);
        if pcm.is_empty() {
            return Err(Ignored::Missing("data"));
        }
        Ok(Audio {
            pcm: pcm.into(),
            rate,
            mode: self.text("mode").and_then(Mode::parse),
            output: self.output(&["output_encoding"], &["output_sample_rate_hz"]),
        })
    }

    fn llm_request(&self) -> Result<LlmRequest, Ignored> {
        let text = self.needed_text("text")?;
        if text.expose().trim().is_empty() {
            return Err(Ignored::Missing("text"));
        }
        Ok(LlmRequest {
            text,
            context: match self.get("context") {
                Some(Value::Array(messages)) => context(messages),
                Some(Value::Object(object)) => object
                    .get("messages")
                    .and_then(Value::as_array)
                    .map(|messages| context(messages))
                    .unwrap_or_default(),
                _ => Vec::new(),
            },
            stream: self.flag("stream"),
        })
    }

    fn switch(&self) -> Request {
        let of_session = self
            .text("scope")
            .is_some_and(|scope| scope.trim().eq_ignore_ascii_case("session"));
        if of_session {
            let prompt = self
                .get("llm_config")
                .and_then(|config| config.get("system_prompt"))
                .and_then(Value::as_str)
                .filter(|prompt| prompt.chars().nth(MAX_TEXT).is_none());
            return Request::SwitchSession(prompt.map(Private::from));
        }
        Request::SwitchModel(Box::new(SwitchModel::read(&self.0)))
    }
}

fn decode(data: String) -> Option<Vec<u8>> {
    let data = if data.bytes().any(|byte| byte.is_ascii_whitespace()) {
        data.split_ascii_whitespace().collect()
    } else {
        data
    };
    BASE64.decode(data).ok()
}

/// OpenAI's list of messages, as far as it is text of the three speakers.
fn context(messages: &[Value]) -> Vec<ContextMessage> {
    let latest = &messages[messages.len().saturating_sub(MAX_CONTEXT)..];
    latest
        .iter()
        .filter_map(|message| {
            let speaker = Speaker::parse(message.get("role")?.as_str()?)?;
            let text = match message.get("content")? {
                Value::String(text) => text.clone(),
                Value::Array(parts) => parts
                    .iter()
                    .filter_map(|part| part.get("text").and_then(Value::as_str))
                    .collect::<Vec<_>>()
                    .join(" "),
                _ => return None,
            };
            (!text.trim().is_empty()).then(|| ContextMessage {
                speaker,
                text: text.into(),
            })
        })
        .collect()
}
