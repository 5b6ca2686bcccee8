//! Reading controls. Strict, because a mistyped field that is silently ignored costs its author an afternoon.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use super::control::{Bare, Cancel, Dtmf, Edit, Hello, Role, Say, Text, ToolOutput};
use super::error::MAX_QUOTED;
use super::settings::{BargeInUpdate, EndpointingUpdate, MAX_TOOLS, SpeechUpdate, StagesUpdate};
use super::switching::{Approve, Switch, SwitchOf, SwitchScope, SwitchWhen};
use super::{
    AudioFormat, BackendKind, Codec, Control, ControlError, Digit, ErrorCode, Framing, ItemId, LARGEST_MESSAGE_BYTES,
    Private, Rate, Request, ResponseId, SettingsUpdate, Thousandths, Tool, TurnDetection, VERSION,
};

/// Objects and arrays in one another, at most: a tool's JSON Schema needs some, an attack many.
pub const MAX_DEPTH: usize = 32;

/// Reads one text message of a client.
///
/// # Errors
/// The first mistake found, with the control's `id` where that could be read. See [`ErrorCode`] for which of them end the
/// connection. The error quotes names and numbers, never a text, a prompt or a token.
pub fn parse_control(text: &str) -> Result<Control, ControlError> {
    if text.len() > LARGEST_MESSAGE_BYTES {
        return Err(ControlError::new(
            ErrorCode::MessageTooLarge,
            format!(
                "the message has {} bytes, {LARGEST_MESSAGE_BYTES} are allowed",
                text.len()
            ),
        ));
    }
    if depth(text) > MAX_DEPTH {
        return Err(ControlError::new(
            ErrorCode::InvalidValue,
            format!("more than {MAX_DEPTH} objects and arrays in one another"),
        ));
    }
    let value: Value = serde_json::from_str(text).map_err(|error| {
        // serde_json's own text for a value without a type to fit names only the place and what was expected there.
        ControlError::new(ErrorCode::NotJson, format!("not JSON: {error}"))
    })?;
    let Value::Object(object) = &value else {
        return Err(ControlError::new(
            ErrorCode::NotJson,
            format!("a control is a JSON object, not {}", kind_of(&value)),
        ));
    };
    let id = read_id(object)?;
    let request = read_request(object).map_err(|error| ControlError {
        reply_to: id.clone(),
        ..error
    })?;
    Ok(Control { id, request })
}

/// How deep the brackets of `text` go. Text that is no JSON may give any number; the parser finds out what is wrong with it.
fn depth(text: &str) -> usize {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0_usize, 0, false, false);
    for byte in text.bytes() {
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'{' | b'[' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

fn read_id(object: &Map<String, Value>) -> Result<Option<String>, ControlError> {
    match object.get("id") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(id)) if (1..=64).contains(&id.chars().count()) => Ok(Some(id.clone())),
        Some(Value::String(_)) => Err(ControlError::about(
            ErrorCode::InvalidValue,
            "id",
            "id must have 1 to 64 characters",
        )),
        Some(other) => Err(wrong_kind("id", "a string", other)),
    }
}

fn read_request(object: &Map<String, Value>) -> Result<Request, ControlError> {
    let kind = match object.get("type") {
        Some(Value::String(kind)) => kind.as_str(),
        Some(other) => return Err(wrong_kind("type", "a string", other)),
        None => {
            return Err(ControlError::about(
                ErrorCode::MissingField,
                "type",
                "type is missing: it names the control, such as \"hello\"",
            ));
        }
    };
    let control = |fields: &'static [&'static str]| Fields::of_control(object, fields);
    let bare = || control(&[]).map(|_| Bare {});
    Ok(match kind {
        "hello" => Request::Hello(Box::new(read_hello(object)?)),
        "update" => Request::Update(Box::new(read_settings(&control(SETTINGS)?)?)),
        "say" => Request::Say(read_say(&control(&[
            "text",
            "interrupt",
            "interruptible",
            "remember",
        ])?)?),
        "text" => Request::Text(Text {
            text: control(&["text"])?.words("text")?,
        }),
        "commit" => Request::Commit(bare()?),
        "respond" => Request::Respond(bare()?),
        "cancel" => Request::Cancel(Cancel {
            response: control(&["response"])?.id("response", ResponseId::parse, "resp_1")?,
        }),
        "clear" => Request::Clear(bare()?),
        "dtmf" => Request::Dtmf(read_dtmf(&control(&["digit"])?)?),
        "tool_output" => Request::ToolOutput(read_tool_output(&control(&["call_id", "output", "respond"])?)?),
        "edit" => Request::Edit(read_edit(object)?),
        "switch" => Request::Switch(Box::new(read_switch(&control(SWITCH)?)?)),
        "cancel_switch" => Request::CancelSwitch(read_switch_of(&control(&["kind"])?)?),
        "promote" => Request::Promote(read_switch_of(&control(&["kind"])?)?),
        "approve" => Request::Approve(Approve {
            response: control(&["response"])?
                .id("response", ResponseId::parse, "resp_1")?
                .ok_or_else(|| missing("response"))?,
        }),
        "capabilities" => Request::Capabilities(bare()?),
        "status" => Request::Status(bare()?),
        "ping" => Request::Ping(bare()?),
        "bye" => Request::Bye(bare()?),
        _ => {
            return Err(ControlError::about(
                ErrorCode::UnknownControl,
                "type",
                format!(
                    "there is no control {}{}",
                    quoted(kind),
                    did_you_mean(kind, &Request::TYPES)
                ),
            ));
        }
    })
}

fn read_hello(object: &Map<String, Value>) -> Result<Hello, ControlError> {
    // The version comes before everything else: the fields of another version are not ours to judge.
    let version = match object.get("version") {
        Some(version) if version.as_f64() == Some(f64::from(VERSION)) => VERSION,
        Some(Value::Number(number)) => {
            return Err(ControlError::about(
                ErrorCode::UnsupportedVersion,
                "version",
                format!(
                    "version {} is not spoken here, only {VERSION}",
                    quoted(&number.to_string())
                ),
            ));
        }
        Some(Value::Null) | None => return Err(missing("version")),
        Some(other) => return Err(wrong_kind("version", "a number", other)),
    };
    let fields = Fields::of_control(object, &["version", "token", "input", "output", "settings", "client"])?;
    let input = match fields.object("input", FORMAT)? {
        Some(format) => read_format(&format)?,
        None => AudioFormat::default(),
    };
    Ok(Hello {
        version,
        token: fields.text("token", 0..=4096)?.map(Private::from),
        input,
        output: match fields.object("output", FORMAT)? {
            Some(format) => read_format(&format)?,
            None => input,
        },
        settings: match fields.object("settings", SETTINGS)? {
            Some(settings) => Some(read_settings(&settings)?),
            None => None,
        },
        client: fields.text("client", 0..=128)?,
    })
}

const FORMAT: &[&str] = &["codec", "rate", "channels", "framing"];

fn read_format(fields: &Fields<'_>) -> Result<AudioFormat, ControlError> {
    let codec = fields
        .choice("codec", &Codec::ALL, Codec::as_str)?
        .ok_or_else(|| missing(&fields.path("codec")))?;
    let rate = match fields.whole("rate", 0..=u32::MAX)? {
        None => codec.default_rate(),
        Some(hertz) => Rate::new(hertz)
            .ok_or_else(|| fields.invalid("rate", format!("must be 8000, 16000, 24000 or 48000, not {hertz}")))?,
    };
    if !codec.takes(rate) {
        return Err(fields.invalid(
            "rate",
            format!("must be 8000, not {}: {codec} has no other", rate.hertz()),
        ));
    }
    if let Some(channels) = fields.whole("channels", 0..=u32::MAX)?
        && channels != 1
    {
        return Err(fields.invalid(
            "channels",
            format!("must be 1, not {channels}: audio is mono, mix it down before sending it"),
        ));
    }
    Ok(AudioFormat {
        codec,
        rate,
        channels: 1,
        framing: fields
            .choice("framing", &Framing::ALL, Framing::as_str)?
            .unwrap_or_default(),
    })
}

const SETTINGS: &[&str] = &[
    "instructions",
    "voice",
    "language",
    "stages",
    "turn_detection",
    "speech",
    "endpointing",
    "barge_in",
    "tools",
    "temperature",
    "approval",
];

fn read_settings(fields: &Fields<'_>) -> Result<SettingsUpdate, ControlError> {
    Ok(SettingsUpdate {
        instructions: fields
            .text("instructions", 0..=LARGEST_MESSAGE_BYTES)?
            .map(Private::from),
        voice: fields.text("voice", 1..=128)?,
        language: read_language(fields)?,
        stages: match fields.object("stages", &["stt", "llm", "tts"])? {
            Some(stages) => Some(StagesUpdate {
                stt: stages.flag("stt")?,
                llm: stages.flag("llm")?,
                tts: stages.flag("tts")?,
            }),
            None => None,
        },
        turn_detection: fields.choice("turn_detection", &TurnDetection::ALL, TurnDetection::as_str)?,
        speech: match fields.object(
            "speech",
            &["start_threshold", "stop_threshold", "min_speech_ms", "pre_roll_ms"],
        )? {
            Some(speech) => Some(SpeechUpdate {
                start_threshold: speech.fraction("start_threshold", 0.001..=1.0)?,
                stop_threshold: speech.fraction("stop_threshold", 0.0..=1.0)?,
                min_speech_ms: speech.whole("min_speech_ms", 0..=2_000)?,
                pre_roll_ms: speech.whole("pre_roll_ms", 0..=2_000)?,
            }),
            None => None,
        },
        endpointing: match fields.object(
            "endpointing",
            &["silence_ms", "max_silence_ms", "hard_limit_ms", "eager_ms"],
        )? {
            Some(endpointing) => Some(EndpointingUpdate {
                silence_ms: endpointing.whole("silence_ms", 50..=10_000)?,
                max_silence_ms: endpointing.whole("max_silence_ms", 50..=30_000)?,
                hard_limit_ms: endpointing.whole("hard_limit_ms", 2_000..=60_000)?,
                eager_ms: endpointing.whole("eager_ms", 0..=10_000)?,
            }),
            None => None,
        },
        barge_in: match fields.object("barge_in", &["enabled", "confirm_ms", "duck_gain"])? {
            Some(barge_in) => Some(BargeInUpdate {
                enabled: barge_in.flag("enabled")?,
                confirm_ms: barge_in.whole("confirm_ms", 0..=5_000)?,
                duck_gain: barge_in.fraction("duck_gain", 0.0..=1.0)?,
            }),
            None => None,
        },
        tools: read_tools(fields)?,
        temperature: fields.fraction("temperature", 0.0..=2.0)?,
        approval: fields.flag("approval")?,
    })
}

fn read_language(fields: &Fields<'_>) -> Result<Option<String>, ControlError> {
    let language = fields.text("language", 1..=62)?;
    let subtags = |text: &str| {
        text.split('-').count() <= 7
            && text
                .split('-')
                .all(|tag| (1..=8).contains(&tag.len()) && tag.bytes().all(|byte| byte.is_ascii_alphanumeric()))
    };
    if language.as_deref().is_some_and(|text| !subtags(text)) {
        return Err(fields.invalid("language", "must be a BCP 47 tag such as \"en-US\"".to_owned()));
    }
    Ok(language)
}

fn read_tools(fields: &Fields<'_>) -> Result<Option<Vec<Tool>>, ControlError> {
    let Some(value) = fields.get("tools") else {
        return Ok(None);
    };
    let Value::Array(tools) = value else {
        return Err(wrong_kind(&fields.path("tools"), "an array", value));
    };
    if tools.len() > MAX_TOOLS {
        return Err(fields.invalid("tools", format!("must be at most {MAX_TOOLS}, not {}", tools.len())));
    }
    tools
        .iter()
        .enumerate()
        .map(|(index, tool)| read_tool(tool, format!("{}[{index}]", fields.path("tools"))))
        .collect::<Result<Vec<_>, _>>()
        .map(Some)
}

fn read_tool(value: &Value, path: String) -> Result<Tool, ControlError> {
    let Value::Object(object) = value else {
        return Err(wrong_kind(&path, "an object", value));
    };
    let fields = Fields::new(object, path, &["name", "description", "parameters"])?;
    let name = fields
        .text("name", 1..=64)?
        .ok_or_else(|| missing(&fields.path("name")))?;
    if !name
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
    {
        return Err(fields.invalid("name", "must have only letters, digits, _ and -".to_owned()));
    }
    let parameters = match fields.get("parameters") {
        None => serde_json::json!({ "type": "object", "properties": {} }),
        Some(parameters @ Value::Object(_)) => parameters.clone(),
        Some(other) => return Err(wrong_kind(&fields.path("parameters"), "an object", other)),
    };
    Ok(Tool {
        name,
        description: fields
            .text("description", 0..=LARGEST_MESSAGE_BYTES)?
            .unwrap_or_default(),
        parameters,
    })
}

fn read_say(fields: &Fields<'_>) -> Result<Say, ControlError> {
    let say = Say::new(fields.words("text")?);
    Ok(Say {
        interrupt: fields.flag("interrupt")?.unwrap_or(say.interrupt),
        interruptible: fields.flag("interruptible")?.unwrap_or(say.interruptible),
        remember: fields.flag("remember")?.unwrap_or(say.remember),
        text: say.text,
    })
}

fn read_dtmf(fields: &Fields<'_>) -> Result<Dtmf, ControlError> {
    let text = fields
        .text("digit", 0..=LARGEST_MESSAGE_BYTES)?
        .ok_or_else(|| missing("digit"))?;
    // What was pressed may be part of a card number, so it is not quoted.
    let digit = Digit::parse(&text)
        .ok_or_else(|| fields.invalid("digit", "must be one of 0-9, *, #, A-D: one key a message".to_owned()))?;
    Ok(Dtmf { digit })
}

fn read_tool_output(fields: &Fields<'_>) -> Result<ToolOutput, ControlError> {
    Ok(ToolOutput {
        call_id: fields.text("call_id", 1..=256)?.ok_or_else(|| missing("call_id"))?,
        output: fields
            .text("output", 0..=LARGEST_MESSAGE_BYTES)?
            .map(Private::from)
            .ok_or_else(|| missing("output"))?,
        respond: fields.flag("respond")?.unwrap_or(true),
    })
}

fn read_edit(object: &Map<String, Value>) -> Result<Edit, ControlError> {
    let kind = match object.get("edit") {
        Some(Value::String(kind)) => kind.as_str(),
        Some(Value::Null) | None => return Err(missing("edit")),
        Some(other) => return Err(wrong_kind("edit", "a string", other)),
    };
    match kind {
        "delete" => {
            let fields = Fields::of_control(object, &["edit", "item"])?;
            let item = fields.id("item", ItemId::parse, "item_1")?;
            Ok(Edit::Delete {
                item: item.ok_or_else(|| missing("item"))?,
            })
        }
        "clear" => Fields::of_control(object, &["edit"]).map(|_| Edit::Clear {}),
        "rollback" => Fields::of_control(object, &["edit"]).map(|_| Edit::Rollback {}),
        "append" => {
            let fields = Fields::of_control(object, &["edit", "role", "text"])?;
            let role = fields.choice("role", &Role::ALL, Role::as_str)?;
            Ok(Edit::Append {
                role: role.ok_or_else(|| missing("role"))?,
                text: fields.words("text")?,
            })
        }
        _ => Err(ControlError::about(
            ErrorCode::InvalidValue,
            "edit",
            format!(
                "edit must be \"delete\", \"clear\", \"rollback\" or \"append\", not {}{}",
                quoted(kind),
                did_you_mean(kind, &Edit::KINDS)
            ),
        )),
    }
}

const SWITCH: &[&str] = &[
    "kind", "backend", "model", "voice", "language", "files", "options", "scope", "when", "replace", "shadow",
];

/// Files and options of one switch, at most.
const MAX_ENTRIES: usize = 64;

fn read_switch(fields: &Fields<'_>) -> Result<Switch, ControlError> {
    let SwitchOf { kind } = read_switch_of(fields)?;
    let files = fields.map("files", MAX_ENTRIES)?;
    let files = files.into_iter().map(|(role, path)| match path {
        Value::String(path) if (1..=1024).contains(&path.chars().count()) => Ok((role, path)),
        _ => Err(fields.invalid(
            "files",
            "must name a path of 1 to 1024 characters for each role".to_owned(),
        )),
    });
    let plain = Switch::new(kind);
    Ok(Switch {
        backend: fields.text("backend", 1..=64)?,
        model: fields.text("model", 1..=1024)?,
        voice: fields.text("voice", 1..=128)?,
        language: read_language(fields)?,
        files: files.collect::<Result<_, _>>()?,
        options: fields.map("options", MAX_ENTRIES)?,
        scope: fields
            .choice("scope", &SwitchScope::ALL, SwitchScope::as_str)?
            .unwrap_or(plain.scope),
        when: fields
            .choice("when", &SwitchWhen::ALL, SwitchWhen::as_str)?
            .unwrap_or(plain.when),
        replace: fields.flag("replace")?.unwrap_or(plain.replace),
        shadow: fields.flag("shadow")?.unwrap_or(plain.shadow),
        kind,
    })
}

fn read_switch_of(fields: &Fields<'_>) -> Result<SwitchOf, ControlError> {
    let kind = fields.choice("kind", &BackendKind::ALL, BackendKind::as_str)?;
    Ok(SwitchOf {
        kind: kind.ok_or_else(|| missing("kind"))?,
    })
}

/// The fields of one object, all of whose names are known.
struct Fields<'a> {
    object: &'a Map<String, Value>,
    /// Where the object stands in the message; empty at the top.
    path: String,
}

impl<'a> Fields<'a> {
    /// The fields of a control, beside `type` and `id`, which all have.
    fn of_control(object: &'a Map<String, Value>, known: &'static [&'static str]) -> Result<Self, ControlError> {
        Self::checked(object, String::new(), known, &["type", "id"])
    }

    fn new(object: &'a Map<String, Value>, path: String, known: &'static [&'static str]) -> Result<Self, ControlError> {
        Self::checked(object, path, known, &[])
    }

    fn checked(
        object: &'a Map<String, Value>,
        path: String,
        known: &[&'static str],
        common: &[&'static str],
    ) -> Result<Self, ControlError> {
        let fields = Self { object, path };
        match object
            .keys()
            .find(|key| !known.contains(&key.as_str()) && !common.contains(&key.as_str()))
        {
            None => Ok(fields),
            Some(key) => {
                let place = if fields.path.is_empty() {
                    String::new()
                } else {
                    format!(" in {}", fields.path)
                };
                Err(ControlError::about(
                    ErrorCode::UnknownField,
                    fields.path(&cut(key)),
                    format!("there is no field {}{place}{}", quoted(key), did_you_mean(key, known)),
                ))
            }
        }
    }

    /// The path of the field `name`.
    fn path(&self, name: &str) -> String {
        if self.path.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.path)
        }
    }

    /// A field's value; null is the same as absent.
    fn get(&self, name: &str) -> Option<&'a Value> {
        self.object.get(name).filter(|value| !value.is_null())
    }

    fn invalid(&self, name: &str, what: String) -> ControlError {
        let path = self.path(name);
        let message = format!("{path} {what}");
        ControlError::about(ErrorCode::InvalidValue, path, message)
    }

    fn object(&self, name: &str, known: &'static [&'static str]) -> Result<Option<Fields<'a>>, ControlError> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Object(object)) => Fields::new(object, self.path(name), known).map(Some),
            Some(other) => Err(wrong_kind(&self.path(name), "an object", other)),
        }
    }

    fn flag(&self, name: &str) -> Result<Option<bool>, ControlError> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(other) => Err(wrong_kind(&self.path(name), "true or false", other)),
        }
    }

    /// An object whose names are free, with at most so many entries.
    fn map(&self, name: &str, most: usize) -> Result<BTreeMap<String, Value>, ControlError> {
        match self.get(name) {
            None => Ok(BTreeMap::new()),
            Some(Value::Object(object)) if object.len() > most => {
                Err(self.invalid(name, format!("must have at most {most} entries, not {}", object.len())))
            }
            Some(Value::Object(object)) => Ok(object.iter().map(|(key, value)| (key.clone(), value.clone())).collect()),
            Some(other) => Err(wrong_kind(&self.path(name), "an object", other)),
        }
    }

    /// A text of so many characters.
    fn text(&self, name: &str, length: RangeInclusive<usize>) -> Result<Option<String>, ControlError> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => {
                let characters = text.chars().count();
                if length.contains(&characters) {
                    Ok(Some(text.clone()))
                } else {
                    let (low, high) = (length.start(), length.end());
                    Err(self.invalid(name, format!("must have {low} to {high} characters, not {characters}")))
                }
            }
            Some(other) => Err(wrong_kind(&self.path(name), "a string", other)),
        }
    }

    /// A text that must be there and not empty: what somebody says.
    fn words(&self, name: &str) -> Result<Private, ControlError> {
        match self.text(name, 0..=LARGEST_MESSAGE_BYTES)? {
            None => Err(missing(&self.path(name))),
            Some(text) if text.is_empty() => Err(self.invalid(name, "must not be empty".to_owned())),
            Some(text) => Ok(text.into()),
        }
    }

    /// A whole number. `600.0` is one too, as it is in JSON Schema.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the range is checked before the cast"
    )]
    fn whole(&self, name: &str, range: RangeInclusive<u32>) -> Result<Option<u32>, ControlError> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        let Some(number) = value.as_f64().filter(|_| value.is_number()) else {
            return Err(wrong_kind(&self.path(name), "a whole number", value));
        };
        let (low, high) = (*range.start(), *range.end());
        if number.fract() == 0.0 && number >= f64::from(low) && number <= f64::from(high) {
            Ok(Some(number as u32))
        } else {
            Err(self.invalid(
                name,
                format!(
                    "must be a whole number from {low} to {high}, not {}",
                    quoted(&value.to_string())
                ),
            ))
        }
    }

    /// A number with decimals, of which three are kept.
    fn fraction(&self, name: &str, range: RangeInclusive<f64>) -> Result<Option<Thousandths>, ControlError> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        let Some(number) = value.as_f64() else {
            return Err(wrong_kind(&self.path(name), "a number", value));
        };
        match Thousandths::nearest(number).filter(|_| range.contains(&number)) {
            Some(thousandths) => Ok(Some(thousandths)),
            None => Err(self.invalid(
                name,
                format!(
                    "must be a number from {} to {}, not {}",
                    range.start(),
                    range.end(),
                    quoted(&value.to_string())
                ),
            )),
        }
    }

    /// One of `choices`, by its name.
    fn choice<T: Copy>(
        &self,
        name: &str,
        choices: &[T],
        name_of: fn(T) -> &'static str,
    ) -> Result<Option<T>, ControlError> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        let Value::String(text) = value else {
            return Err(wrong_kind(&self.path(name), "a string", value));
        };
        if let Some(choice) = choices.iter().find(|choice| name_of(**choice) == text) {
            return Ok(Some(*choice));
        }
        let names: Vec<_> = choices.iter().map(|choice| name_of(*choice)).collect();
        Err(self.invalid(
            name,
            format!("must be one of {}, not {}", names.join(", "), quoted(text)),
        ))
    }

    fn id<T>(&self, name: &str, parse: fn(&str) -> Option<T>, example: &str) -> Result<Option<T>, ControlError> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => parse(text).map(Some).ok_or_else(|| {
                self.invalid(
                    name,
                    format!("must be an id such as \"{example}\", not {}", quoted(text)),
                )
            }),
            Some(other) => Err(wrong_kind(&self.path(name), "a string", other)),
        }
    }
}

fn missing(path: &str) -> ControlError {
    ControlError::about(ErrorCode::MissingField, path, format!("{path} is missing"))
}

fn wrong_kind(path: &str, expected: &str, value: &Value) -> ControlError {
    ControlError::about(
        ErrorCode::InvalidValue,
        path,
        format!("{path} must be {expected}, not {}", kind_of(value)),
    )
}

/// What a value is, without saying what it says.
const fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// At most [`MAX_QUOTED`] characters of `text`, none of them a control character.
fn cut(text: &str) -> String {
    let mut short: String = text
        .chars()
        .take(MAX_QUOTED)
        .map(|character| if character.is_control() { '\u{fffd}' } else { character })
        .collect();
    if text.chars().nth(MAX_QUOTED).is_some() {
        short.push('…');
    }
    short
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", cut(text))
}

/// Which of `known` was probably meant: the nearest, if it is near at all.
fn did_you_mean(name: &str, known: &[&str]) -> String {
    /// Jaro-Winkler similarity from which a proposal helps more than it puzzles; `txt` and `text` have 0.93.
    const NEAR: f64 = 0.75;
    let short = cut(name);
    known
        .iter()
        .map(|candidate| (strsim::jaro_winkler(&short, candidate), candidate))
        .filter(|(similarity, _)| *similarity >= NEAR)
        .max_by(|left, right| left.0.total_cmp(&right.0))
        .map(|(_, candidate)| format!("; did you mean \"{candidate}\"?"))
        .unwrap_or_default()
}
