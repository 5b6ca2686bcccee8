//! A witness beside the session, who sees only what goes in and what comes out, and knows what must never be seen.

use std::collections::BTreeMap;

use super::{Action, BackendChange, Input, Output, TtsProgress, Violation};
use crate::call::{BackendKind, Command, Event};
use crate::id::{Generation, PredictionId, ResponseId, SwitchId, SynthesisId, TranscriptionId, TurnId};
use crate::pii::Pii;
use crate::time::{Samples, Time};

/// What has been seen of the words of a turn.
#[derive(Clone, Debug, Default)]
struct Seen {
    revision: u32,
    stable: String,
    is_final: bool,
}

/// Watches one session from outside: hand in every input and every output, in their order. Holds a few words for each turn,
/// so it is for tests, simulations and fuzzing, not for servers.
#[derive(Clone, Debug, Default)]
pub struct Observer {
    now: Time,
    closed: bool,
    ended: bool,
    live: Option<ResponseId>,
    last_response: Option<ResponseId>,
    played: Option<ResponseId>,
    stopped: Option<ResponseId>,
    ducked: bool,
    open_turn: Option<TurnId>,
    turns: BTreeMap<TurnId, Seen>,
    reports: BTreeMap<TurnId, ()>,
    transcriptions: BTreeMap<TranscriptionId, Transcription>,
    asked: Option<PredictionId>,
    last_ids: BTreeMap<&'static str, u64>,
    kept_from: Samples,
    leases: BTreeMap<BackendKind, ()>,
    /// Loads that have come and were not adopted yet: backend and model.
    arrived: BTreeMap<(BackendKind, Generation), String>,
    /// What speaks what begins now.
    synthesiser: Option<String>,
    /// The last clause that was asked for, of which response, from whom.
    synthesis: Option<(SynthesisId, ResponseId, String)>,
    /// What a response was heard to speak with.
    voice: Option<(ResponseId, String)>,
    switches: BTreeMap<SwitchId, ()>,
    /// Answers that the client waits for.
    status_due: u32,
    dtmf_due: u32,
    update_due: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Transcription {
    Running { from: Samples },
    Finished,
    Over,
}

const fn must(holds: bool, what: &'static str) -> Result<(), Violation> {
    if holds { Ok(()) } else { Err(Violation(what)) }
}

impl Observer {
    /// Notes an input. `open` tells whether the call was connected and not over.
    pub fn input(&mut self, now: Time, input: &Input, open: bool) {
        self.now = self.now.max(now);
        match input {
            Input::Prediction { id, .. } if self.asked == Some(*id) => self.asked = None,
            Input::Backend {
                kind,
                change: BackendChange::Ready(arrival),
            } => {
                let identity = format!("{} {}", arrival.name, arrival.model);
                self.arrived.insert((*kind, arrival.generation), identity);
            }
            Input::Tts {
                id,
                event: TtsProgress::Audio { total } | TtsProgress::Done { total },
            } if *total > Samples::ZERO => {
                if let Some((synthesis, response, voice)) = &self.synthesis
                    && synthesis == id
                {
                    self.voice = Some((*response, voice.clone()));
                }
            }
            Input::Command(Command::Status) if open => self.status_due += 1,
            Input::Command(Command::Dtmf { .. }) if open => self.dtmf_due += 1,
            Input::Command(Command::Update(_)) if open => self.update_due += 1,
            _ => {}
        }
    }

    /// Notes an output.
    ///
    /// # Errors
    /// The output must not have come.
    pub fn output(&mut self, output: &Output) -> Result<(), Violation> {
        match output {
            Output::Action(action) => {
                must(!self.ended, "after the end, no action")?;
                self.action(action)
            }
            Output::Timeout(at) => {
                must(at.is_none_or(|at| at >= self.now), "timers are never before now")?;
                must(!self.ended || at.is_none(), "after the end, no timer")?;
                must(
                    self.status_due == 0 || self.ended,
                    "every question for the status is answered",
                )?;
                must(self.dtmf_due == 0 || self.ended, "every key is told")?;
                must(
                    self.update_due == 0 || self.ended,
                    "every change of settings is answered",
                )
            }
        }
    }

    fn grows(&mut self, kind: &'static str, number: u64) -> Result<(), Violation> {
        let last = self.last_ids.insert(kind, number);
        must(last.is_none_or(|last| number > last), "ids grow")
    }

    fn action(&mut self, action: &Action) -> Result<(), Violation> {
        must(
            !self.closed || matches!(action, Action::End),
            "after the call is closed, only its end follows",
        )?;
        match action {
            Action::Acquire { kind } => must(self.leases.insert(*kind, ()).is_none(), "a backend is leased once"),
            Action::Release { kind } => must(self.leases.remove(kind).is_some(), "only what is leased is given back"),
            Action::Transcribe { id, from, .. } => {
                self.grows("transcription", id.number())?;
                self.transcriptions.insert(*id, Transcription::Running { from: *from });
                must(*from >= self.kept_from, "audio that was given up is not asked for")
            }
            Action::FinishTranscription { id, end } => match self.transcriptions.insert(*id, Transcription::Finished) {
                Some(Transcription::Running { from }) => must(*end >= from, "a segment doesn't end before it begins"),
                Some(Transcription::Finished | Transcription::Over) | None => {
                    Err(Violation("only what is being recognised is finished"))
                }
            },
            Action::CancelTranscription { id } => match self.transcriptions.insert(*id, Transcription::Over) {
                Some(Transcription::Running { .. } | Transcription::Finished) => Ok(()),
                Some(Transcription::Over) | None => Err(Violation("only what is being recognised is cancelled")),
            },
            Action::Predict { id, from, end } => {
                self.grows("prediction", id.number())?;
                must(
                    self.asked.replace(*id).is_none(),
                    "the turn model is asked one question at a time",
                )?;
                must(
                    *from >= self.kept_from && from < end,
                    "audio that was given up is not judged",
                )?;
                must(self.open_turn.is_some(), "the turn model is asked about an open turn")
            }
            Action::CancelPrediction { id } => must(
                self.asked.take() == Some(*id),
                "only a question without an answer is withdrawn",
            ),
            Action::Generate { id, .. } => self.grows("generation", id.number()),
            Action::CancelGeneration { .. } | Action::CancelSynthesis { .. } => Ok(()),
            Action::Synthesize { id, response, .. } => {
                self.grows("synthesis", id.number())?;
                must(self.live == Some(*response), "only the live response is spoken")?;
                must(
                    self.stopped != Some(*response),
                    "nothing is made for a response that was stopped",
                )?;
                let now = self.synthesiser.clone().unwrap_or_default();
                must(
                    self.voice
                        .as_ref()
                        .is_none_or(|(speaks, voice)| speaks != response || *voice == now),
                    "a response has one voice",
                )?;
                self.synthesis = Some((*id, *response, now));
                Ok(())
            }
            Action::Play { response } => {
                must(self.live == Some(*response), "only the live response is played")?;
                must(
                    self.stopped != Some(*response),
                    "no frame is played for a cancelled response",
                )?;
                must(
                    self.played.replace(*response) != Some(*response),
                    "a response is played once",
                )
            }
            Action::FinishPlayout { response } => {
                must(self.played == Some(*response), "only what is played is finished")?;
                must(self.live == Some(*response), "only the live response is finished")
            }
            Action::StopPlayout { response } => {
                must(self.played == Some(*response), "only what is played is stopped")?;
                must(
                    self.stopped.replace(*response) != Some(*response),
                    "a response is stopped once",
                )
            }
            Action::Gain { .. } | Action::Promote { .. } => Ok(()),
            Action::Adopt { kind, generation } => {
                must(self.leases.contains_key(kind), "only what is leased is adopted")?;
                let identity = self.arrived.remove(&(*kind, *generation));
                must(identity.is_some(), "only what has come is adopted")?;
                if *kind == BackendKind::Tts {
                    self.synthesiser = identity;
                }
                Ok(())
            }
            Action::Switch { id, .. } => {
                self.grows("switch", id.number())?;
                self.switches.insert(*id, ());
                Ok(())
            }
            Action::CancelSwitch { .. } => Ok(()),
            Action::KeepFrom { from } => {
                let before = std::mem::replace(&mut self.kept_from, *from);
                must(*from > before, "audio that was given up doesn't come back")
            }
            Action::Emit(event) => self.event(event),
            Action::End => {
                self.ended = true;
                must(self.closed, "the client is told before the end")?;
                must(self.leases.is_empty(), "every backend was given back")
            }
        }
    }

    fn is_live(&self, response: ResponseId) -> Result<(), Violation> {
        must(
            self.live == Some(response),
            "nothing is told of a response that is not live",
        )
    }

    fn event(&mut self, event: &Event) -> Result<(), Violation> {
        match event {
            Event::SpeechStarted { turn, .. } => {
                self.grows("turn", turn.number())?;
                must(self.open_turn.replace(*turn).is_none(), "one turn is open at a time")
            }
            Event::SpeechStopped { turn, .. } => must(
                self.open_turn.take() == Some(*turn),
                "speaking if and only if a turn is open",
            ),
            Event::Transcript {
                turn,
                revision,
                text,
                stable_chars,
                is_final,
            } => self.transcript(*turn, *revision, text, *stable_chars, *is_final),
            Event::ResponseStarted { response, .. } => {
                must(self.live.replace(*response).is_none(), "at most one response is live")?;
                must(
                    self.last_response
                        .replace(*response)
                        .is_none_or(|last| last < *response),
                    "responses are told in their order, and once",
                )
            }
            Event::ResponseText { response, .. }
            | Event::ToolCall { response, .. }
            | Event::AudioStarted { response }
            | Event::AudioDone { response, .. } => self.is_live(*response),
            Event::Ducked { response, ducked } => {
                let before = std::mem::replace(&mut self.ducked, *ducked);
                must(before != *ducked, "lowered and raised take turns")?;
                self.is_live(*response)
            }
            Event::ResponseDone { response, .. } => {
                self.is_live(*response)?;
                self.live = None;
                self.ducked = false;
                Ok(())
            }
            Event::TurnReport(report) => {
                must(
                    self.reports.insert(report.turn, ()).is_none(),
                    "a turn is reported once",
                )?;
                must(report.speech_end <= report.endpoint, "speech ends before the turn does")
            }
            Event::Dtmf { .. } => {
                self.dtmf_due = self.dtmf_due.saturating_sub(1);
                Ok(())
            }
            Event::Progress(_) => Ok(()),
            Event::Updated | Event::Error(_) => {
                self.update_due = self.update_due.saturating_sub(1);
                Ok(())
            }
            Event::Status(status) => {
                self.status_due = self.status_due.saturating_sub(1);
                must(status.turn == self.open_turn, "the status names the open turn")?;
                must(status.dropped <= status.received, "no more is dropped than came")
            }
            Event::ResponsePrepared { response, .. } => {
                must(self.live != Some(*response), "what is to be approved is not live")
            }
            Event::SwitchStarted { switch, .. } | Event::Shadowed { switch, .. } => must(
                self.switches.contains_key(switch),
                "nothing is told of a switch that is over",
            ),
            Event::Switched { switch, shadow, .. } => must(
                *shadow || self.switches.remove(switch).is_some(),
                "a switch is made once",
            ),
            Event::SwitchFailed { switch, .. } => {
                // One that was refused was never begun.
                self.switches.remove(switch);
                Ok(())
            }
            Event::HistoryEdited { .. } | Event::Backend { .. } | Event::GoingAway { .. } => Ok(()),
            Event::Closed { .. } => {
                self.closed = true;
                must(self.live.is_none(), "each response has exactly one terminal")?;
                must(self.open_turn.is_none(), "no turn stays open")
            }
        }
    }

    fn transcript(
        &mut self,
        turn: TurnId,
        revision: u32,
        text: &Pii<String>,
        stable_chars: u32,
        is_final: bool,
    ) -> Result<(), Violation> {
        let seen = self.turns.entry(turn).or_default();
        must(!seen.is_final, "nothing follows the final transcript")?;
        must(revision > seen.revision, "revisions grow")?;
        let stable: String = text.expose().chars().take(stable_chars as usize).collect();
        must(
            stable.chars().count() == stable_chars as usize,
            "no more characters are stable than there are",
        )?;
        must(
            is_final || stable.starts_with(&seen.stable),
            "a prefix that was called stable is kept",
        )?;
        *seen = Seen {
            revision,
            stable,
            is_final,
        };
        Ok(())
    }
}
