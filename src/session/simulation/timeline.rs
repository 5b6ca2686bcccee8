//! What happened, as text that people review.

use std::fmt::{self, Write};

use crate::call::{BackendState, Event, Role, TurnReport};
use crate::session::{Action, Input, Item};
use crate::time::Time;

/// A simulated call, after it.
#[derive(Clone, Debug)]
pub struct Timeline {
    /// One line for each thing worth telling.
    lines: Vec<String>,
    /// Every input, with its time.
    pub inputs: Vec<(Time, Input)>,
    /// Every action, with the time at which it was polled.
    pub actions: Vec<(Time, Action)>,
    /// The history at the end.
    pub history: Vec<Item>,
}

impl fmt::Display for Timeline {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.lines {
            writeln!(formatter, "{line}")?;
        }
        writeln!(formatter, "history:")?;
        for item in &self.history {
            let role = match item.role {
                Role::System => "system",
                Role::User => "user",
                Role::Assistant => "assistant",
                Role::Tool => "tool",
            };
            let calls: Vec<_> = item.tool_calls.iter().map(|call| call.name.as_str()).collect();
            let calls = if calls.is_empty() {
                String::new()
            } else {
                format!(" calls {}", calls.join(", "))
            };
            writeln!(formatter, "  {role}: {:?}{calls}", item.text.expose())?;
        }
        Ok(())
    }
}

impl Timeline {
    pub(super) const fn new() -> Self {
        Self {
            lines: Vec::new(),
            inputs: Vec::new(),
            actions: Vec::new(),
            history: Vec::new(),
        }
    }

    /// Everything that the client was told, with its time.
    pub fn events(&self) -> impl Iterator<Item = (Time, &Event)> {
        self.actions.iter().filter_map(|(at, action)| match action {
            Action::Emit(event) => Some((*at, event)),
            _ => None,
        })
    }

    /// Where the time of each turn went.
    pub fn reports(&self) -> impl Iterator<Item = &TurnReport> {
        self.events().filter_map(|(_, event)| match event {
            Event::TurnReport(report) => Some(report),
            _ => None,
        })
    }

    pub(super) fn note(&mut self, at: Time, who: &str, what: &str) {
        let millis = at.as_millis();
        self.lines
            .push(format!("{:>3}.{:03} {who:<7} {what}", millis / 1_000, millis % 1_000));
    }

    pub(super) fn act(&mut self, at: Time, action: &Action) {
        if let Action::Emit(event) = action {
            if let Some(told) = told(event) {
                self.note(at, "client", &told);
            }
        } else if let Some(done) = done(action) {
            self.note(at, "do", &done);
        }
        self.actions.push((at, action.clone()));
    }
}

/// An event in few words; none when it would only fill the page.
fn told(event: &Event) -> Option<String> {
    let mut line = String::new();
    // Writing into a string does not fail.
    let _ = match event {
        Event::SpeechStarted { turn, at } => write!(line, "speech started {turn} at {} ms", at.as_millis()),
        Event::SpeechStopped { turn, at } => write!(line, "speech stopped {turn} at {} ms", at.as_millis()),
        Event::Transcript {
            turn,
            revision,
            text,
            is_final,
            ..
        } => write!(
            line,
            "transcript {turn} #{revision}{} {:?}",
            if *is_final { " final" } else { "" },
            text.expose()
        ),
        Event::ResponseStarted { response, turn } => match turn {
            Some(turn) => write!(line, "response started {response} to {turn}"),
            None => write!(line, "response started {response}"),
        },
        Event::ResponseText { .. } => return None,
        Event::ToolCall { response, call } => {
            write!(line, "tool call {response} {}({})", call.name, call.arguments.expose())
        }
        Event::ResponsePrepared { response, text, .. } => write!(line, "prepared {response} {:?}", text.expose()),
        Event::SwitchStarted { switch, to, .. } => write!(line, "{switch} to {to} started"),
        Event::Switched {
            switch,
            old,
            new,
            load_ms,
            gap_ms,
            shadow,
            ..
        } => {
            let old = old.as_ref().map_or_else(|| "nothing".to_owned(), ToString::to_string);
            let how = if *shadow { "runs beside" } else { "made" };
            write!(
                line,
                "{switch} {how}: {old} to {new}, load {load_ms} ms, gap {gap_ms} ms"
            )
        }
        Event::SwitchFailed { switch, failure, .. } => {
            write!(line, "{switch} failed at {:?}: {}", failure.stage, failure.reason)
        }
        Event::Shadowed { switch, comparison, .. } => {
            write!(line, "{switch} compared {:?}", comparison.agreement_per_mille)
        }
        Event::AudioStarted { response } => write!(line, "audio started {response}"),
        Event::Ducked { response, ducked } => {
            write!(line, "{} {response}", if *ducked { "ducked" } else { "raised" })
        }
        Event::AudioDone { response, sent } => write!(line, "audio done {response} sent {} ms", sent.as_millis()),
        Event::ResponseDone {
            response,
            status,
            text,
            heard,
            heard_audio,
            ..
        } => write!(
            line,
            "response done {response} {status:?}, heard {} ms: {:?} of {:?}",
            heard_audio.as_millis(),
            heard.expose(),
            text.expose()
        ),
        Event::TurnReport(report) => {
            let _ = write!(line, "report {}", report.turn);
            if let Some(response) = report.response {
                let _ = write!(line, " {response}");
            }
            for (stage, took) in report.stages() {
                let _ = write!(line, ", {stage} {}", took.as_millis());
            }
            Ok(())
        }
        Event::Progress(progress) => write!(line, "heard {progress:?}"),
        Event::Dtmf { digit } => write!(line, "key {}", digit.key()),
        Event::HistoryEdited { items } => write!(line, "history edited, {items} items"),
        Event::Updated => write!(line, "updated"),
        Event::Backend { kind, state } => match state {
            BackendState::Ready { model, .. } => write!(line, "{kind} ready: {model}"),
            BackendState::Lost { reason, .. } => write!(line, "{kind} lost: {reason}"),
            BackendState::Missing { reason } => write!(line, "{kind} missing: {reason}"),
        },
        Event::Status(status) => write!(
            line,
            "status: {} turns, {} responses, {} items, {} late answers",
            status.turns, status.responses, status.history_items, status.stale_answers
        ),
        Event::Error(error) => write!(line, "error {:?}: {}", error.code, error.message),
        Event::GoingAway { within_ms } => write!(line, "going away within {within_ms} ms"),
        Event::Closed { reason } => write!(line, "closed: {reason:?}"),
    };
    Some(line)
}

/// An action in few words; none when it would only fill the page.
fn done(action: &Action) -> Option<String> {
    Some(match action {
        Action::Acquire { .. }
        | Action::Release { .. }
        | Action::Adopt { .. }
        | Action::KeepFrom { .. }
        | Action::Emit(_) => return None,
        Action::Switch { id, request } => format!("switch {} as {id}", request.kind),
        Action::CancelSwitch { id } => format!("cancel {id}"),
        Action::Promote { id } => format!("promote {id}"),
        Action::Transcribe { id, from, .. } => format!("transcribe {id} from {} ms", from.as_millis()),
        Action::FinishTranscription { id, end } => format!("finish {id} at {} ms", end.as_millis()),
        Action::CancelTranscription { id } => format!("cancel {id}"),
        Action::Predict { id, from, end } => {
            format!("predict {id} from {} to {} ms", from.as_millis(), end.as_millis())
        }
        Action::CancelPrediction { id } => format!("cancel {id}"),
        Action::Generate { id, prompt, .. } => {
            let last = prompt.messages.last().map_or("", |message| message.text.expose());
            format!("generate {id} to {last:?}")
        }
        Action::CancelGeneration { id } => format!("cancel {id}"),
        Action::Synthesize { id, response, text, .. } => format!("synthesize {id} of {response}: {:?}", text.expose()),
        Action::CancelSynthesis { id } => format!("cancel {id}"),
        Action::Play { response } => format!("play {response}"),
        Action::FinishPlayout { response } => format!("finish playing {response}"),
        Action::StopPlayout { response } => format!("stop {response}"),
        Action::Gain { per_mille } => format!("gain {per_mille}"),
        Action::End => "end".to_owned(),
    })
}
