//! The session is heard: its reply is played, lowered, raised and stopped, and what was heard is noted.

use std::time::Duration;

use super::core::Session;
use super::playout::{Playout, PlayoutEffect, PlayoutInput};
use super::reply::{Reply, Synthesizing};
use super::response::{ResponseEffect, ResponseEvent};
use super::{Action, PlayoutEvent};
use crate::call::{Event, TurnReport};
use crate::id::ResponseId;
use crate::time::{Samples, Time};

/// How much longer than its audio a reply may take to be played. A client that plays when it likes may be slow; one that
/// never says that it has played must not hold the conversation up for ever.
const PLAY_WAIT: Duration = Duration::from_secs(10);

impl Session {
    /// The live reply, if its audio is being heard.
    pub(super) fn audible_reply(&self) -> Option<ResponseId> {
        match self.playout {
            Playout::Playing { response, .. } => Some(response),
            Playout::Silent | Playout::Asked { .. } | Playout::Stopping { .. } => None,
        }
    }

    /// When we stop waiting for the first frame of a reply whose end isn't known yet.
    pub(super) fn start_at(&self, reply: &Reply) -> Option<Time> {
        let asked = matches!(self.playout, Playout::Asked { .. }) && reply.finish_asked.is_none();
        asked.then_some(reply.play_asked_at + PLAY_WAIT)
    }

    /// Asks for playing as soon as audio lies ready, and for its end when no more comes.
    pub(super) fn play(&mut self) {
        let Some(reply) = &mut self.reply else { return };
        let id = reply.id;
        if reply.spoken && !reply.play_asked && reply.ledger.ready() > Samples::ZERO {
            reply.play_asked = true;
            reply.play_asked_at = self.now;
            self.handle_playout(PlayoutInput::Play(id));
        }
        let Some(reply) = &mut self.reply else { return };
        let made = !reply.spoken || (reply.synthesizing == Synthesizing::Nothing && reply.chunker.is_over());
        if reply.play_asked && !reply.played && reply.finish_asked.is_none() && made {
            reply.finish_asked = Some(self.now);
            self.act(Action::FinishPlayout { response: id });
        }
    }

    /// When we stop waiting for the end of playing.
    pub(super) fn finish_at(&self, reply: &Reply) -> Option<Time> {
        let asked = reply.finish_asked?;
        match self.playout {
            Playout::Playing { heard, told, .. } => {
                Some(asked.max(told) + reply.ledger.ready().saturating_sub(heard).duration() + PLAY_WAIT)
            }
            Playout::Asked { .. } => Some(asked + reply.ledger.ready().duration() + PLAY_WAIT),
            Playout::Silent | Playout::Stopping { .. } => None,
        }
    }

    /// No more can have been heard than was made, whatever the wire says.
    fn within_what_was_made(&self, input: PlayoutInput) -> PlayoutInput {
        let PlayoutInput::Told(response, event, now) = input else {
            return input;
        };
        let made = self.reply.as_ref().map_or(Samples::ZERO, |reply| reply.ledger.ready());
        let event = match event {
            PlayoutEvent::Started => event,
            PlayoutEvent::Heard { until } => PlayoutEvent::Heard { until: until.min(made) },
            PlayoutEvent::Underrun { at } => PlayoutEvent::Underrun { at: at.min(made) },
            PlayoutEvent::Finished { heard } => PlayoutEvent::Finished { heard: heard.min(made) },
            PlayoutEvent::Stopped { sent, heard } => PlayoutEvent::Stopped {
                sent: sent.min(made),
                heard: heard.min(made),
            },
        };
        PlayoutInput::Told(response, event, now)
    }

    pub(super) fn handle_playout(&mut self, input: PlayoutInput) {
        let before = self.playout;
        match self.playout.handle(self.within_what_was_made(input)) {
            PlayoutEffect::None => {}
            PlayoutEffect::Stale => self.count_stale(),
            PlayoutEffect::Play(response) => self.act(Action::Play { response }),
            PlayoutEffect::Stop(response) => self.act(Action::StopPlayout { response }),
            PlayoutEffect::Started(response) => {
                self.emit(Event::AudioStarted { response });
                let received = self.clock.received;
                if let Some(open) = self.turn.open_mut() {
                    open.interrupts_from = received.max(open.speech_end);
                }
                let Some(reply) = &mut self.reply else { return };
                let report = reply.report.take().map(|report| TurnReport {
                    first_sent: Some(self.now),
                    ..report
                });
                self.emit_report(report);
            }
            PlayoutEffect::Heard(_, heard) => {
                let Some(mut reply) = self.reply.take() else { return };
                self.remember_heard(&mut reply, heard);
                self.reply = Some(reply);
            }
            PlayoutEffect::Finished {
                response,
                heard,
                started,
            } => {
                let Some(reply) = &mut self.reply else { return };
                if reply.finish_asked.is_none() {
                    // It cannot have finished: it was not told yet where its end is.
                    self.playout = before;
                    self.count_stale();
                    return;
                }
                reply.played = true;
                reply.heard = heard.min(reply.ledger.ready());
                if started {
                    let sent = reply.heard;
                    self.emit(Event::AudioDone { response, sent });
                }
            }
            PlayoutEffect::Stopped {
                response,
                sent,
                heard,
                started,
            } => {
                let Some(mut reply) = self.reply.take() else { return };
                let ready = reply.ledger.ready();
                reply.played = true;
                reply.heard = heard.min(ready);
                if started {
                    let sent = sent.min(ready);
                    self.emit(Event::AudioDone { response, sent });
                }
                match reply.state.handle(ResponseEvent::Stopped) {
                    ResponseEffect::End(status) => self.conclude(reply, status),
                    _ => self.reply = Some(reply),
                }
            }
        }
    }

    /// Lowers the reply's volume, because somebody may be speaking.
    pub(super) fn duck(&mut self) {
        let Some(response) = self.audible_reply() else { return };
        let interruptible = self.reply.as_ref().is_some_and(|reply| reply.interruptible);
        if !self.settings.barge_in.enabled || !interruptible || self.ducked.is_some() {
            return;
        }
        self.ducked = Some(response);
        self.act(Action::Gain {
            per_mille: self.settings.barge_in.duck_per_mille,
        });
        self.emit(Event::Ducked { response, ducked: true });
    }

    /// Raises it again; `tell` where the reply goes on.
    pub(super) fn raise(&mut self, tell: bool) {
        let audible = self.audible_reply();
        // What is being stopped is not raised before it is silent.
        let Some(response) = self.ducked.take_if(|ducked| !tell || Some(*ducked) == audible) else {
            return;
        };
        self.act(Action::Gain { per_mille: 1_000 });
        if tell {
            self.emit(Event::Ducked {
                response,
                ducked: false,
            });
        }
    }
}
