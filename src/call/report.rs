//! Where the time of a turn went.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::id::{ResponseId, TurnId};
use crate::time::Time;

/// The instants of one turn and its reply, in their order. An instant that did not happen (no reply, no audio) is absent.
/// The differences between those that are there add up to the whole, because an instant never lies before the one
/// above it: work done ahead of time counts as taking none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TurnReport {
    /// Which turn.
    pub turn: TurnId,
    /// The reply to it.
    pub response: Option<ResponseId>,
    /// The user stopped speaking (worked out afterwards, from the sample clock).
    pub speech_end: Time,
    /// It was decided that the turn is over.
    pub endpoint: Time,
    /// The final transcript was there.
    pub final_transcript: Option<Time>,
    /// The first text of the reply was there.
    pub first_token: Option<Time>,
    /// The first clause that can be spoken was complete.
    pub first_sentence: Option<Time>,
    /// Its first audio was there.
    pub first_audio: Option<Time>,
    /// Its first audio was given to the wire.
    pub first_sent: Option<Time>,
}

impl TurnReport {
    /// The stages in their order, with the time each took. Only those whose instant is there.
    pub fn stages(&self) -> impl Iterator<Item = (&'static str, Duration)> + use<> {
        let mut previous = self.speech_end;
        [
            ("endpointing", Some(self.endpoint)),
            ("stt_final", self.final_transcript),
            ("llm_first_token", self.first_token),
            ("first_sentence", self.first_sentence),
            ("tts_first_audio", self.first_audio),
            ("send", self.first_sent),
        ]
        .into_iter()
        .filter_map(move |(name, instant)| {
            let instant = instant?.max(previous);
            let took = instant.since(previous);
            previous = instant;
            Some((name, took))
        })
    }

    /// From the end of speech to the last instant that is there.
    #[must_use]
    pub fn total(&self) -> Duration {
        self.stages().map(|(_, took)| took).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_add_up_to_the_whole() {
        let at = |millis| Some(Time::from_millis(millis));
        let report = TurnReport {
            turn: TurnId::new(1),
            response: Some(ResponseId::new(1)),
            speech_end: Time::from_millis(1_000),
            endpoint: Time::from_millis(1_600),
            final_transcript: at(1_650),
            first_token: at(1_640),
            first_sentence: at(1_660),
            first_audio: None,
            first_sent: at(1_700),
        };
        let stages: Vec<_> = report.stages().map(|(name, took)| (name, took.as_millis())).collect();
        assert_eq!(
            stages,
            [
                ("endpointing", 600),
                ("stt_final", 50),
                ("llm_first_token", 0),
                ("first_sentence", 10),
                ("send", 40)
            ]
        );
        assert_eq!(report.total(), Duration::from_millis(700));
    }
}
