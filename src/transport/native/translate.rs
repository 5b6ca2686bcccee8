//! The words of the native wire, and those of a call: each in terms of the other. Nothing here waits or keeps anything.

use std::time::Duration;

use repartee_protocol::native::{
    self, AudioFormat, ControlError, ErrorCode, ErrorEvent, Hello, Millis, Private, ReportStage, Request, StageTime,
    Thousandths,
};

use crate::call::{self, BackendKind, Command, Event, Settings, SettingsError, SettingsUpdate, TurnDetection};
use crate::id::{ItemId, ResponseId, SessionId, TurnId};
use crate::pii::Pii;
use crate::registry::{Registry, Slot};
use crate::time::{Samples, Time};

mod switching;

pub(super) use switching::capabilities;

/// The settings that a `hello` asks for, where `defaults` hold unless it says otherwise.
///
/// # Errors
/// As [`settings`]; the field's path begins with `settings`.
pub(super) fn hello_settings(hello: &Hello, defaults: &Settings) -> Result<Settings, ControlError> {
    match &hello.settings {
        None => Ok(defaults.clone()),
        Some(update) => settings(update, defaults).map_err(|error| ControlError {
            field: error.field.map(|field| format!("settings.{field}")),
            ..error
        }),
    }
}

/// The settings after `update`, which were `current` before it.
///
/// A bound that the client doesn't name follows the value that it does: `silence_ms` above `max_silence_ms` raises that,
/// below `eager_ms` lowers that, and `start_threshold` below `stop_threshold` lowers that. The client sees it in `updated`.
///
/// # Errors
/// With the field's path on the wire: [`ErrorCode::InvalidValue`] for values that don't fit one another,
/// [`ErrorCode::TooLarge`] for instructions over the session's limit.
pub(super) fn settings(update: &native::SettingsUpdate, current: &Settings) -> Result<Settings, ControlError> {
    let mut settings = current.clone();
    if let Some(instructions) = &update.instructions {
        settings.instructions = Pii::new(instructions.expose().to_owned());
    }
    if let Some(voice) = &update.voice {
        settings.voice = Some(voice.clone());
    }
    if let Some(language) = &update.language {
        settings.language = Some(language.clone());
    }
    if let Some(stages) = update.stages {
        set(&mut settings.stages.stt, stages.stt);
        set(&mut settings.stages.llm, stages.llm);
        set(&mut settings.stages.tts, stages.tts);
    }
    set(
        &mut settings.turn_detection,
        update.turn_detection.map(|detection| match detection {
            native::TurnDetection::Server => TurnDetection::Server,
            native::TurnDetection::Client => TurnDetection::Client,
        }),
    );
    if let Some(asked) = update.speech {
        let speech = &mut settings.speech;
        set(
            &mut speech.start_per_mille,
            asked.start_threshold.map(Thousandths::count),
        );
        match asked.stop_threshold {
            Some(stop) => speech.stop_per_mille = stop.count(),
            None => speech.stop_per_mille = speech.stop_per_mille.min(speech.start_per_mille),
        }
        set(&mut speech.min_speech_ms, asked.min_speech_ms);
        set(&mut speech.pre_roll_ms, asked.pre_roll_ms);
    }
    if let Some(asked) = update.endpointing {
        let endpointing = &mut settings.endpointing;
        set(&mut endpointing.silence_ms, asked.silence_ms);
        endpointing.max_silence_ms = match asked.max_silence_ms {
            Some(silence) => silence,
            None => endpointing.max_silence_ms.max(endpointing.silence_ms),
        };
        set(&mut endpointing.hard_limit_ms, asked.hard_limit_ms);
        endpointing.eager_ms = match asked.eager_ms {
            Some(silence) => silence,
            None => endpointing.eager_ms.min(endpointing.silence_ms),
        };
    }
    if let Some(asked) = update.barge_in {
        let barge_in = &mut settings.barge_in;
        set(&mut barge_in.enabled, asked.enabled);
        set(&mut barge_in.confirm_ms, asked.confirm_ms);
        set(&mut barge_in.duck_per_mille, asked.duck_gain.map(Thousandths::count));
    }
    if let Some(tools) = &update.tools {
        settings.tools = tools.iter().map(tool).collect();
    }
    set(&mut settings.approval, update.approval);
    if let Some(temperature) = update.temperature {
        settings.temperature_milli = Some(temperature.count());
    }
    // The session would refuse these too, but then nobody could tell which control its error answers.
    let (characters, most) = (
        settings.instructions.expose().chars().count(),
        settings.limits.max_text_chars,
    );
    if u32::try_from(characters).is_ok_and(|characters| characters <= most) {
        settings.validate().map_err(|error| invalid(&error))?;
        Ok(settings)
    } else {
        Err(ControlError::about(
            ErrorCode::TooLarge,
            "instructions",
            format!("instructions has {characters} characters, but must have at most {most}"),
        ))
    }
}

fn set<T>(value: &mut T, asked: Option<T>) {
    if let Some(asked) = asked {
        *value = asked;
    }
}

fn tool(tool: &native::Tool) -> call::Tool {
    call::Tool {
        name: tool.name.clone(),
        description: tool.description.clone(),
        parameters: tool.parameters.clone(),
    }
}

/// Fields whose name on the wire is another: in a call they count thousandths, on the wire they are numbers with decimals.
const RENAMED: [(&str, &str); 4] = [
    ("speech.start_per_mille", "speech.start_threshold"),
    ("speech.stop_per_mille", "speech.stop_threshold"),
    ("barge_in.duck_per_mille", "barge_in.duck_gain"),
    ("temperature_milli", "temperature"),
];

/// The error of a call's settings in the words of the wire.
fn invalid(error: &SettingsError) -> ControlError {
    let (field, value) = match RENAMED.iter().find(|(inside, _)| *inside == error.field) {
        None => (error.field, error.value.clone()),
        Some((_, wire)) => {
            let value = error.value.parse().map(Thousandths::new);
            (
                *wire,
                value.map_or_else(|_| error.value.clone(), |value| value.as_f64().to_string()),
            )
        }
    };
    let expected = RENAMED.iter().fold(error.expected.to_owned(), |words, (inside, wire)| {
        words.replace(inside, wire)
    });
    ControlError::about(
        ErrorCode::InvalidValue,
        field,
        format!("{field} is {value}, but must be {expected}"),
    )
}

/// The command that makes `settings` hold, which `asked` has led to. Voice and language may have been switched behind the wire's back, so they
/// are only told when they were asked for.
pub(super) fn update(asked: &native::SettingsUpdate, settings: Settings) -> Command {
    Command::Update(Box::new(SettingsUpdate {
        instructions: Some(settings.instructions),
        voice: asked.voice.clone(),
        language: asked.language.clone(),
        stages: Some(settings.stages),
        turn_detection: Some(settings.turn_detection),
        speech: Some(settings.speech),
        endpointing: Some(settings.endpointing),
        barge_in: Some(settings.barge_in),
        tools: Some(settings.tools),
        temperature_milli: settings.temperature_milli,
        approval: Some(settings.approval),
    }))
}

/// The command that a request stands for; none for those that the connection answers itself (`hello`, `ping`) or that
/// need the settings of the session (`update`).
pub(super) fn command(request: Request) -> Option<Command> {
    Some(match request {
        Request::Hello(_) | Request::Ping(_) | Request::Update(_) | Request::Capabilities(_) => return None,
        Request::Switch(switch) => Command::Switch(Box::new(switching::request(*switch))),
        Request::CancelSwitch(of) => Command::CancelSwitch {
            kind: switching::kind(of.kind),
        },
        Request::Promote(of) => Command::Promote {
            kind: switching::kind(of.kind),
        },
        Request::Approve(approve) => Command::Approve {
            response: ResponseId::new(approve.response.number()),
        },
        Request::Say(say) => Command::Say(call::Say {
            text: pii(say.text),
            interrupt: say.interrupt,
            interruptible: say.interruptible,
            remember: say.remember,
        }),
        Request::Text(text) => Command::Text { text: pii(text.text) },
        Request::Commit(_) => Command::Commit,
        Request::Respond(_) => Command::Respond,
        Request::Cancel(cancel) => Command::Cancel {
            response: cancel.response.map(|id| ResponseId::new(id.number())),
        },
        Request::Clear(_) => Command::Clear,
        Request::Dtmf(pressed) => Command::Dtmf {
            digit: call::Digit::new(pressed.digit.key()).expect("both sides know the same sixteen keys"),
        },
        Request::ToolOutput(result) => Command::ToolOutput(call::ToolOutput {
            call_id: result.call_id,
            output: pii(result.output),
            respond: result.respond,
        }),
        Request::Edit(edit) => Command::Edit(match edit {
            native::Edit::Delete { item } => call::HistoryEdit::Delete {
                item: ItemId::new(item.number()),
            },
            native::Edit::Clear {} => call::HistoryEdit::Clear,
            native::Edit::Rollback {} => call::HistoryEdit::Rollback,
            native::Edit::Append { role, text } => call::HistoryEdit::Append {
                role: match role {
                    native::Role::System => call::Role::System,
                    native::Role::User => call::Role::User,
                    native::Role::Assistant => call::Role::Assistant,
                },
                text: pii(text),
            },
        }),
        Request::Status(_) => Command::Status,
        Request::Bye(_) => Command::Bye,
    })
}

fn pii(text: Private) -> Pii<String> {
    Pii::new(text.into_exposed())
}

fn private(text: Pii<String>) -> Private {
    Private::from(text.into_exposed())
}

const fn turn_id(id: TurnId) -> native::TurnId {
    native::TurnId::new(id.number())
}

const fn response_id(id: ResponseId) -> native::ResponseId {
    native::ResponseId::new(id.number())
}

fn audio_ms(samples: Samples) -> Millis {
    Millis::from(samples.duration())
}

fn instant_ms(time: Time) -> Millis {
    Millis::from(time.since(Time::ZERO))
}

/// The answer to `hello`. `ssrc` is that of the packets that we send.
pub(super) fn ready(
    session: SessionId,
    (input, output): (&AudioFormat, &AudioFormat),
    ssrc: u32,
    settings: &Settings,
    max_message_bytes: usize,
    reply_to: Option<String>,
    registry: &Registry,
) -> native::Ready {
    native::Ready {
        session: session.to_string(),
        version: native::VERSION,
        server: concat!("repartee/", env!("CARGO_PKG_VERSION")).to_owned(),
        input: input.effective(None),
        output: output.effective(Some(ssrc)),
        settings: settings_in_effect(settings),
        backends: backends_of(settings, registry),
        limits: native::Limits {
            max_message_bytes: u32::try_from(max_message_bytes).unwrap_or(u32::MAX),
            max_text_chars: settings.limits.max_text_chars,
            max_response_tokens: settings.limits.max_response_tokens,
            max_history_items: settings.limits.max_history_items,
            idle_timeout_ms: settings.limits.idle_timeout_ms,
        },
        reply_to,
    }
}

/// The backends that a session with these settings uses, but for those that are still being loaded: of them it hears later.
fn backends_of(settings: &Settings, registry: &Registry) -> Vec<native::Backend> {
    let finds_turns = settings.turn_detection == TurnDetection::Server;
    BackendKind::ALL
        .into_iter()
        .filter_map(|kind| {
            let (used, state) = (
                match kind {
                    BackendKind::Vad | BackendKind::Turn => finds_turns,
                    BackendKind::Stt => settings.stages.stt,
                    BackendKind::Llm => settings.stages.llm,
                    BackendKind::Tts => settings.stages.tts,
                },
                match registry.state(kind) {
                    Slot::Loading => return None,
                    // Turns end without a turn model too: that there is none is no news.
                    Slot::Missing { .. } if kind == BackendKind::Turn => return None,
                    Slot::Missing { reason, .. } => call::BackendState::Missing { reason },
                    Slot::Lost { generation, reason, .. } => call::BackendState::Lost { generation, reason },
                    Slot::Ready(serving) => {
                        let capabilities = serving.capabilities();
                        call::BackendState::Ready {
                            name: capabilities.name.clone(),
                            model: capabilities.model.clone(),
                            generation: capabilities.generation,
                            device: capabilities.device.clone(),
                            synthetic: capabilities.synthetic,
                        }
                    }
                },
            );
            used.then(|| backend(kind, state))
        })
        .collect()
}

fn backend(kind: BackendKind, state: call::BackendState) -> native::Backend {
    native::Backend {
        kind: switching::wire_kind(kind),
        state: match state {
            call::BackendState::Ready {
                name,
                model,
                generation,
                device,
                synthetic,
            } => native::BackendState::Ready {
                name,
                model,
                generation: generation.number(),
                device,
                synthetic,
            },
            call::BackendState::Lost { generation, reason } => native::BackendState::Lost {
                generation: generation.number(),
                reason,
            },
            call::BackendState::Missing { reason } => native::BackendState::Missing { reason },
        },
    }
}

fn settings_in_effect(settings: &Settings) -> native::Settings {
    native::Settings {
        voice: settings.voice.clone(),
        language: settings.language.clone(),
        stages: native::Stages {
            stt: settings.stages.stt,
            llm: settings.stages.llm,
            tts: settings.stages.tts,
        },
        turn_detection: match settings.turn_detection {
            TurnDetection::Server => native::TurnDetection::Server,
            TurnDetection::Client => native::TurnDetection::Client,
        },
        speech: native::Speech {
            start_threshold: Thousandths::new(settings.speech.start_per_mille),
            stop_threshold: Thousandths::new(settings.speech.stop_per_mille),
            min_speech_ms: settings.speech.min_speech_ms,
            pre_roll_ms: settings.speech.pre_roll_ms,
        },
        endpointing: native::Endpointing {
            silence_ms: settings.endpointing.silence_ms,
            max_silence_ms: settings.endpointing.max_silence_ms,
            hard_limit_ms: settings.endpointing.hard_limit_ms,
            eager_ms: settings.endpointing.eager_ms,
        },
        barge_in: native::BargeIn {
            enabled: settings.barge_in.enabled,
            confirm_ms: settings.barge_in.confirm_ms,
            duck_gain: Thousandths::new(settings.barge_in.duck_per_mille),
        },
        tools: settings.tools.iter().map(|tool| tool.name.clone()).collect(),
        temperature: settings.temperature_milli.map(Thousandths::new),
        approval: settings.approval,
    }
}

/// The answer to `update`.
pub(super) fn updated(settings: &Settings, reply_to: Option<String>) -> native::Event {
    native::Event::Updated(Box::new(native::Updated {
        settings: settings_in_effect(settings),
        reply_to,
    }))
}

/// The answer to `status`.
pub(super) fn status(status: &call::Status, reply_to: Option<String>) -> native::Event {
    native::Event::Status(Box::new(native::Status {
        backends: status
            .backends
            .iter()
            .map(|(kind, state)| backend(*kind, state.clone()))
            .collect(),
        turn: status.turn.map(turn_id),
        response: status.response.map(response_id),
        received_ms: audio_ms(status.received),
        dropped_ms: audio_ms(status.dropped),
        turns: status.turns,
        responses: status.responses,
        history_items: status.history_items,
        stale_answers: status.stale_answers,
        reply_to,
    }))
}

/// Why a call is over, in the words of the wire.
pub(super) const fn close_reason(reason: call::CloseReason) -> native::CloseReason {
    match reason {
        call::CloseReason::Bye => native::CloseReason::Bye,
        call::CloseReason::Disconnected => native::CloseReason::Disconnected,
        call::CloseReason::Drained => native::CloseReason::Drained,
        call::CloseReason::Idle => native::CloseReason::Idle,
        call::CloseReason::TooSlow => native::CloseReason::TooSlow,
    }
}

/// What a client is told; none for [`Event::Updated`], which needs the settings: see [`updated`], and for what only telephones have.
pub(super) fn event(event: Event) -> Option<native::Event> {
    Some(match event {
        Event::Updated | Event::Progress(_) => return None,
        Event::SpeechStarted { turn, at } => native::Event::SpeechStarted(native::SpeechStarted {
            turn: turn_id(turn),
            at_ms: audio_ms(at),
        }),
        Event::SpeechStopped { turn, at } => native::Event::SpeechStopped(native::SpeechStopped {
            turn: turn_id(turn),
            at_ms: audio_ms(at),
        }),
        Event::Transcript {
            turn,
            revision,
            text,
            stable_chars,
            is_final,
        } => native::Event::Transcript(native::Transcript {
            turn: turn_id(turn),
            revision,
            text: private(text),
            stable_chars,
            is_final,
        }),
        Event::ResponseStarted { response, turn } => native::Event::ResponseStarted(native::ResponseStarted {
            response: response_id(response),
            turn: turn.map(turn_id),
        }),
        Event::ResponseText { response, delta } => native::Event::ResponseText(native::ResponseText {
            response: response_id(response),
            delta: private(delta),
        }),
        Event::ToolCall { response, call } => native::Event::ToolCall(native::ToolCall {
            response: response_id(response),
            call_id: call.call_id,
            name: call.name,
            arguments: private(call.arguments),
        }),
        Event::AudioStarted { response } => native::Event::AudioStarted(native::AudioStarted {
            response: response_id(response),
        }),
        Event::Ducked { response, ducked } => native::Event::Ducked(native::Ducked {
            response: response_id(response),
            ducked,
        }),
        Event::AudioDone { response, sent } => native::Event::AudioDone(native::AudioDone {
            response: response_id(response),
            sent_ms: audio_ms(sent),
        }),
        Event::ResponseDone {
            response,
            status,
            text,
            heard,
            heard_audio,
            item,
        } => native::Event::ResponseDone(native::ResponseDone {
            response: response_id(response),
            status: response_status(status),
            text: private(text),
            heard: private(heard),
            heard_ms: audio_ms(heard_audio),
            item: item.map(|item| native::ItemId::new(item.number())),
        }),
        Event::TurnReport(report) => native::Event::TurnReport(turn_report(&report)),
        Event::Dtmf { digit } => native::Event::Dtmf(native::DtmfPressed {
            digit: native::Digit::new(digit.key()).expect("both sides know the same sixteen keys"),
        }),
        Event::HistoryEdited { items } => native::Event::HistoryEdited(native::HistoryEdited { items }),
        Event::Backend { kind, state } => native::Event::Backend(backend(kind, state)),
        Event::ResponsePrepared {
            response,
            turn,
            text,
            calls,
        } => native::Event::ResponsePrepared(native::ResponsePrepared {
            response: response_id(response),
            turn: turn.map(turn_id),
            text: private(text),
            calls: calls
                .into_iter()
                .map(|call| native::PreparedCall {
                    call_id: call.call_id,
                    name: call.name,
                    arguments: private(call.arguments),
                })
                .collect(),
        }),
        event @ (Event::SwitchStarted { .. }
        | Event::Switched { .. }
        | Event::SwitchFailed { .. }
        | Event::Shadowed { .. }) => return switching::event(event),
        Event::Status(told) => status(&told, None),
        Event::Error(error) => native::Event::Error(error_event(error)),
        Event::GoingAway { within_ms } => native::Event::GoingAway(native::GoingAway { within_ms }),
        Event::Closed { reason } => native::Event::Closed(native::Closed {
            reason: close_reason(reason),
        }),
    })
}

const fn response_status(status: call::ResponseStatus) -> native::ResponseStatus {
    match status {
        call::ResponseStatus::Completed => native::ResponseStatus::Completed,
        call::ResponseStatus::Interrupted => native::ResponseStatus::Interrupted,
        call::ResponseStatus::Cancelled => native::ResponseStatus::Cancelled,
        call::ResponseStatus::Failed => native::ResponseStatus::Failed,
    }
}

fn turn_report(report: &call::TurnReport) -> native::TurnReport {
    let stages = report
        .stages()
        .filter_map(|(name, took): (_, Duration)| {
            // A stage that the wire has no name for would be missing here; a test holds both lists against each other.
            let stage = ReportStage::ALL.into_iter().find(|stage| stage.as_str() == name)?;
            Some(StageTime {
                stage,
                ms: Millis::from(took),
            })
        })
        .collect();
    native::TurnReport::new(
        turn_id(report.turn),
        report.response.map(response_id),
        instant_ms(report.speech_end),
        stages,
    )
}

fn error_event(error: call::CallError) -> ErrorEvent {
    ErrorEvent {
        origin: match error.origin {
            call::Origin::Client => native::Origin::Client,
            call::Origin::Backend => native::Origin::Backend,
            call::Origin::Engine => native::Origin::Engine,
        },
        retry: error.retry,
        ..ErrorEvent::new(error_code(error.code), error.message)
    }
}

const fn error_code(code: call::ErrorCode) -> ErrorCode {
    match code {
        call::ErrorCode::InvalidValue => ErrorCode::InvalidValue,
        call::ErrorCode::InvalidState => ErrorCode::InvalidState,
        call::ErrorCode::TooLarge => ErrorCode::TooLarge,
        call::ErrorCode::SttFailed => ErrorCode::SttFailed,
        call::ErrorCode::LlmFailed => ErrorCode::LlmFailed,
        call::ErrorCode::TtsFailed => ErrorCode::TtsFailed,
        call::ErrorCode::BackendLost => ErrorCode::BackendLost,
        call::ErrorCode::BackendMissing => ErrorCode::BackendMissing,
        call::ErrorCode::Timeout => ErrorCode::Timeout,
        call::ErrorCode::Overloaded => ErrorCode::Overloaded,
    }
}

#[cfg(test)]
mod tests;
