//! The session's invariants (DESIGN §3), checked after every step of debug builds, simulations and fuzzing.

use super::Session;
use super::core::{MAX_ACTIONS, MAX_ENDINGS, MAX_SAYS};
use super::playout::Playout;
use super::recognition::{MAX_SEGMENTS, Recognition, count_chars};
use super::reply::{MAX_TOOL_CALLS, Synthesizing};
use super::response::Response;

/// An invariant that does not hold: a mistake in the core, never of whoever uses it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an invariant of the session is broken: {0}")]
pub struct Violation(pub(crate) &'static str);

const fn must(holds: bool, what: &'static str) -> Result<(), Violation> {
    if holds { Ok(()) } else { Err(Violation(what)) }
}

impl Session {
    /// Checks everything that must hold between two inputs.
    ///
    /// # Errors
    /// The first invariant that doesn't.
    pub fn verify(&self) -> Result<(), Violation> {
        let limits = self.settings.limits;
        must(
            self.actions.len() <= MAX_ACTIONS,
            "the queue of actions is within its bound",
        )?;
        must(self.says.len() <= MAX_SAYS, "the queue of replies is within its bound")?;
        must(
            self.endings.len() <= MAX_ENDINGS,
            "the ended turns are within their bound",
        )?;
        must(
            self.history.items().len() <= limits.max_history_items as usize,
            "the history is within its bound",
        )?;
        must(
            self.open_calls.len() <= limits.max_history_items as usize,
            "the open tool calls are within their bound",
        )?;
        must(
            self.clock.is_within_bounds(),
            "samples in are samples consumed and samples dropped",
        )?;
        must(
            self.speech.judged() <= self.clock.received,
            "VAD judges only what has arrived",
        )?;
        must(
            self.is_closed() || self.deadline().is_none_or(|at| at >= self.now),
            "timers are never before now",
        )?;
        if let Some(open) = self.turn.open() {
            must(
                open.speech_start <= open.speech_end,
                "a turn's speech has a beginning and an end",
            )?;
            must(open.speech_end <= self.clock.received, "a turn's speech has arrived")?;
            self.verify_recognition(open.recognition.as_ref())?;
        }
        for ending in &self.endings {
            self.verify_recognition(ending.recognition.as_ref())?;
            must(
                ending
                    .recognition
                    .iter()
                    .flat_map(|recognition| &recognition.segments)
                    .all(|segment| segment.end.is_some()),
                "nothing is added to a turn that has ended",
            )?;
        }
        self.verify_reply()
    }

    fn verify_recognition(&self, recognition: Option<&Recognition>) -> Result<(), Violation> {
        let Some(recognition) = recognition else { return Ok(()) };
        must(
            recognition.segments.len() <= MAX_SEGMENTS,
            "a turn's segments are within their bound",
        )?;
        must(
            count_chars(recognition.text()) <= self.settings.limits.max_text_chars,
            "a turn's text is within its bound",
        )?;
        must(
            recognition
                .segments
                .iter()
                .zip(recognition.segments.iter().skip(1))
                .all(|(one, next)| one.end == Some(next.from)),
            "a turn's segments leave no gap",
        )?;
        must(
            recognition
                .needed_from()
                .is_none_or(|from| from >= self.clock.kept_from || self.is_closed()),
            "audio that a recognition may need again is kept",
        )
    }

    fn verify_reply(&self) -> Result<(), Violation> {
        let playing = self.playout.response();
        let Some(reply) = &self.reply else {
            must(playing.is_none(), "nothing is played without a response")?;
            return must(self.ducked.is_none(), "nothing is lowered without a response");
        };
        must(
            !matches!(reply.state, Response::Over { .. }),
            "a response that is over is not kept",
        )?;
        must(
            playing.is_none_or(|playing| playing == reply.id),
            "only the live response is played",
        )?;
        must(
            matches!(reply.state, Response::Live | Response::Stopping { .. }) || playing.is_none(),
            "nothing of a prepared response reaches audio",
        )?;
        must(
            matches!(reply.state, Response::Live | Response::Stopping { .. }) || reply.item.is_none(),
            "nothing of a prepared response reaches the history",
        )?;
        must(
            !matches!(reply.state, Response::Stopping { .. }) || matches!(self.playout, Playout::Stopping { .. }),
            "a response that is being stopped waits for its audio only",
        )?;
        must(
            reply.state == Response::Live || reply.synthesizing == Synthesizing::Nothing,
            "only what is live is spoken",
        )?;
        must(
            reply.chars
                <= self
                    .settings
                    .limits
                    .max_text_chars
                    .max(count_chars(reply.text.expose())),
            "a reply's text is within its bound",
        )?;
        must(
            reply.tool_calls.len() <= MAX_TOOL_CALLS,
            "a reply's tool calls are within their bound",
        )?;
        must(
            self.ducked.is_none_or(|ducked| ducked == reply.id),
            "only the live response is lowered",
        )?;
        self.verify_heard()
    }

    /// The history holds what was heard.
    fn verify_heard(&self) -> Result<(), Violation> {
        let Some(reply) = &self.reply else { return Ok(()) };
        let Some(item) = reply.item.and_then(|item| self.history.item(item)) else {
            return Ok(());
        };
        let Playout::Playing { heard, .. } = self.playout else {
            return Ok(());
        };
        must(
            item.text.expose() == &reply.heard_text(heard),
            "the history equals what was heard",
        )
    }
}
