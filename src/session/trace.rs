//! Traces: what a session was told, when, and what it did, so that the same call can be run again.
//!
//! A trace is text of one JSON object a line. The first is the [`Header`]; each further one is a [`Step`]: an input with
//! its time, and the actions that it caused. It holds what people said, so it is written only when it was asked for, and
//! kept private by whoever writes it. This module neither opens nor writes files.

use serde::{Deserialize, Serialize};

use super::{Action, Input, Output, Session};
use crate::call::{Event, Settings};
use crate::time::Time;

/// The version of the format that is written, and the only one that is read.
pub const VERSION: u32 = 2;

/// What a trace begins with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// The version of the format: [`VERSION`].
    pub repartee_trace: u32,
    /// The version of the program that wrote it. A session is replayed exactly by the version that ran it; another one may
    /// decide otherwise, and the replay shows where.
    pub program: String,
    /// When the session began, by the wall clock of whoever wrote the trace: RFC 3339.
    pub started: String,
    /// The settings that the session was made with.
    pub settings: Settings,
    /// The seed that it was made with.
    pub seed: u64,
}

/// One input, and what it caused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// When.
    pub at: Time,
    /// What the session was told.
    pub input: Input,
    /// What it did, in its order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub actions: Vec<Action>,
}

impl Header {
    /// The header of a session that was made with these; `started` is RFC 3339.
    #[must_use]
    pub fn new(settings: Settings, seed: u64, started: String) -> Self {
        Self {
            repartee_trace: VERSION,
            program: env!("CARGO_PKG_VERSION").to_owned(),
            started,
            settings,
            seed,
        }
    }

    /// Its line, without the line's end.
    #[must_use]
    pub fn line(&self) -> String {
        serde_json::to_string(self).expect("a header has string keys only, and nothing that JSON can't hold")
    }
}

impl Step {
    /// Its line, without the line's end.
    #[must_use]
    pub fn line(&self) -> String {
        serde_json::to_string(self).expect("a step has string keys only, and nothing that JSON can't hold")
    }
}

/// What a replay found, when every action was the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplayReport {
    /// What the trace says of itself.
    pub header: Header,
    /// Inputs that were replayed.
    pub steps: u64,
    /// Actions that were compared.
    pub actions: u64,
    /// When the last input came.
    pub until: Time,
    /// Turns whose report is in the trace.
    pub turns: u64,
    /// Responses that ended in it.
    pub responses: u64,
    /// Whether the call had come to its end.
    pub ended: bool,
    /// Whether the last line is cut off: the program that wrote it was stopped in the middle.
    pub torn: bool,
}

/// Where a replay went another way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The line of the trace, counted from 1.
    pub line: u64,
    /// When.
    pub at: Time,
    /// The input after which it happened.
    pub input: Input,
    /// The place of the action among those of the step, counted from 0.
    pub index: usize,
    /// What was done then; none where nothing more was.
    pub recorded: Option<Action>,
    /// What is done now; none where nothing more is.
    pub replayed: Option<Action>,
}

/// Why a trace can't be replayed, or that it was not the same.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplayError {
    /// There is no line.
    #[error("the trace is empty")]
    Empty,
    /// The first line is no header.
    #[error("the first line is no header of a trace: {reason}")]
    Header {
        /// What is wrong with it.
        reason: String,
    },
    /// It is of another version.
    #[error("the trace has version {found}; this program reads version {VERSION}")]
    Version {
        /// Its version.
        found: u32,
    },
    /// A line is no step.
    #[error("line {line} is no step of a trace: {reason}")]
    Step {
        /// The line, counted from 1.
        line: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// The session did something else.
    #[error("line {}: at {} ms the session did something else than it had done", .0.line, .0.at.as_millis())]
    Different(Box<Difference>),
}

/// Only the version, so that the header of another version is told from something that is no trace.
#[derive(Deserialize)]
struct AnyHeader {
    repartee_trace: u32,
}

fn read_header(line: &str) -> Result<Header, ReplayError> {
    let no_header = |error: serde_json::Error| ReplayError::Header {
        reason: error.to_string(),
    };
    let AnyHeader { repartee_trace: found } = serde_json::from_str(line).map_err(no_header)?;
    if found != VERSION {
        return Err(ReplayError::Version { found });
    }
    let header: Header = serde_json::from_str(line).map_err(no_header)?;
    header.settings.validate().map_err(|error| ReplayError::Header {
        reason: error.to_string(),
    })?;
    Ok(header)
}

/// Runs a traced session again, and compares every action with the one that was recorded. `lines` are the trace's, without
/// their ends; empty ones are skipped.
///
/// # Errors
/// The trace can't be read, or the first difference.
pub fn replay<L: AsRef<str>>(lines: impl IntoIterator<Item = L>) -> Result<ReplayReport, ReplayError> {
    let mut lines = (1_u64..)
        .zip(lines)
        .filter(|(_, line)| !line.as_ref().trim().is_empty())
        .peekable();
    let (_, first) = lines.next().ok_or(ReplayError::Empty)?;
    let header = read_header(first.as_ref())?;
    let mut session = Session::new(header.settings.clone(), header.seed);
    let mut report = ReplayReport {
        header,
        steps: 0,
        actions: 0,
        until: Time::ZERO,
        turns: 0,
        responses: 0,
        ended: false,
        torn: false,
    };
    while let Some((number, line)) = lines.next() {
        let step: Step = match serde_json::from_str(line.as_ref()) {
            Ok(step) => step,
            Err(error) if error.is_eof() && lines.peek().is_none() => {
                report.torn = true;
                break;
            }
            Err(error) => {
                return Err(ReplayError::Step {
                    line: number,
                    reason: error.to_string(),
                });
            }
        };
        run_step(&mut session, number, step, &mut report)?;
    }
    Ok(report)
}

fn run_step(session: &mut Session, line: u64, step: Step, report: &mut ReplayReport) -> Result<(), ReplayError> {
    session.handle(step.at, step.input.clone());
    let mut recorded = step.actions.into_iter();
    let mut index = 0;
    loop {
        let recorded = recorded.next();
        let replayed = match session.poll() {
            Output::Action(action) => Some(action),
            Output::Timeout(_) => None,
        };
        if recorded != replayed {
            return Err(ReplayError::Different(Box::new(Difference {
                line,
                at: step.at,
                input: step.input,
                index,
                recorded,
                replayed,
            })));
        }
        match replayed {
            None => break,
            Some(Action::Emit(Event::TurnReport(_))) => report.turns += 1,
            Some(Action::Emit(Event::ResponseDone { .. })) => report.responses += 1,
            Some(Action::End) => report.ended = true,
            Some(_) => {}
        }
        index += 1;
        report.actions += 1;
    }
    report.steps += 1;
    report.until = step.at;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::Command;
    use crate::session::simulation::Script;

    /// The trace of a short call.
    fn trace() -> Vec<String> {
        let script = Script::default()
            .seed(3)
            .user(300, "good morning", 700)
            .command(4_000, Command::Bye);
        let timeline = script.until(5_000).run();
        let header = Header::new(Settings::default(), 3, "2026-01-01T00:00:00Z".to_owned());
        let mut session = Session::new(Settings::default(), 3);
        let mut lines = vec![header.line()];
        for (at, input) in timeline.inputs {
            session.handle(at, input.clone());
            let mut actions = Vec::new();
            while let Output::Action(action) = session.poll() {
                actions.push(action);
            }
            lines.push(Step { at, input, actions }.line());
        }
        lines
    }

    #[test]
    fn a_recorded_call_replays_exactly() {
        let lines = trace();
        let report = replay(&lines).expect("it is the same call");
        assert_eq!(report.steps as usize, lines.len() - 1);
        assert_eq!((report.turns, report.responses), (1, 1));
        assert!(report.ended && !report.torn);
        assert_eq!(report.until, Time::from_millis(4_000));
    }

    #[test]
    fn the_first_difference_is_shown() {
        let mut lines = trace();
        let changed = lines
            .iter()
            .position(|line| line.contains("good morning"))
            .expect("it was said");
        lines[changed] = lines[changed].replacen("good morning", "good evening", 1);
        let Err(ReplayError::Different(difference)) = replay(&lines) else {
            panic!("the change is found");
        };
        assert_eq!(difference.line as usize, changed + 1);
        assert_ne!(difference.recorded, difference.replayed);
    }

    #[test]
    fn missing_and_superfluous_actions_are_differences() {
        let lines = trace();
        let connected: Step = serde_json::from_str(&lines[1]).expect("it is a step");
        for change in [
            |step: &mut Step| drop(step.actions.pop()),
            |step: &mut Step| step.actions.push(Action::End),
        ] {
            let mut step = connected.clone();
            change(&mut step);
            let changed = [lines[0].clone(), step.line()];
            let Err(ReplayError::Different(difference)) = replay(&changed) else {
                panic!("the change is found");
            };
            assert!(difference.recorded.is_none() != difference.replayed.is_none());
        }
    }

    #[test]
    fn a_torn_last_line_is_told() {
        let mut lines = trace();
        lines.truncate(40);
        let half = lines[39].len() / 2;
        lines[39].truncate(half);
        let report = replay(&lines).expect("what is there is the same");
        assert!(report.torn && !report.ended);
        assert_eq!(report.steps, 38);
        lines.push(lines[5].clone());
        assert!(matches!(replay(&lines), Err(ReplayError::Step { line: 40, .. })));
    }

    #[test]
    fn what_is_no_trace_is_refused() {
        assert_eq!(replay::<&str>([]), Err(ReplayError::Empty));
        assert!(matches!(replay(["hello"]), Err(ReplayError::Header { .. })));
        assert!(matches!(
            replay([format!("{{\"repartee_trace\":{VERSION}}}")]),
            Err(ReplayError::Header { .. })
        ));
        assert_eq!(
            replay(["{\"repartee_trace\":7,\"other\":1}"]),
            Err(ReplayError::Version { found: 7 })
        );
        let header = trace().swap_remove(0);
        assert!(matches!(
            replay([header.as_str(), "{}"]),
            Err(ReplayError::Step { line: 2, .. })
        ));
    }
}
