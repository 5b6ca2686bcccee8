//! What became of a conversation, put together from the events of the server.

use repartee_protocol::native::{Event, ResponseId, ResponseStatus, TurnId, TurnReport};
use serde::Serialize;

/// One turn of the user and the reply to it, or a reply without a turn.
#[derive(Debug, Default, Serialize)]
pub struct Exchange {
    /// What was understood; empty for a reply without a turn.
    pub transcript: String,
    /// What was replied.
    pub reply: String,
    /// Where the time went.
    pub report: Option<TurnReport>,
    /// How the reply ended; `unanswered` when there was none, `open` while it isn't over.
    pub status: &'static str,
    #[serde(skip)]
    turn: Option<TurnId>,
    #[serde(skip)]
    response: Option<ResponseId>,
}

/// A conversation so far.
#[derive(Debug, Default)]
pub struct Conversation {
    /// Its turns, in order.
    pub exchanges: Vec<Exchange>,
    /// Partial transcripts that came.
    pub partials: u64,
    /// The session is over.
    pub closed: bool,
    speaking: bool,
    awaiting_transcript: bool,
    live_responses: u32,
    /// Turns whose final transcript has words, and whose report has not come.
    unreported: u32,
}

impl Conversation {
    /// Whether nothing is going on: nobody speaks, nothing is awaited.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        !self.speaking && !self.awaiting_transcript && self.live_responses == 0 && self.unreported == 0
    }

    /// Whether anything was understood or replied at all.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        !self.exchanges.is_empty()
    }

    /// Whether there are words at all, of either side: without any, no conversation was held.
    #[must_use]
    pub fn has_words(&self) -> bool {
        self.exchanges
            .iter()
            .any(|exchange| !exchange.transcript.is_empty() || !exchange.reply.is_empty())
    }

    fn of_turn(&mut self, turn: TurnId) -> &mut Exchange {
        let index = self
            .exchanges
            .iter()
            .position(|exchange| exchange.turn == Some(turn))
            .unwrap_or_else(|| {
                self.exchanges.push(Exchange {
                    turn: Some(turn),
                    status: "unanswered",
                    ..Exchange::default()
                });
                self.exchanges.len() - 1
            });
        &mut self.exchanges[index]
    }

    fn of_response(&mut self, response: ResponseId) -> Option<&mut Exchange> {
        self.exchanges
            .iter_mut()
            .find(|exchange| exchange.response == Some(response))
    }

    /// Takes in an event.
    pub fn observe(&mut self, event: &Event) {
        match event {
            Event::SpeechStarted(_) => self.speaking = true,
            Event::SpeechStopped(_) => {
                self.speaking = false;
                self.awaiting_transcript = true;
            }
            Event::Transcript(transcript) => {
                self.partials += u64::from(!transcript.is_final);
                if transcript.is_final {
                    self.awaiting_transcript = false;
                    self.unreported += 1;
                }
                transcript
                    .text
                    .expose()
                    .clone_into(&mut self.of_turn(transcript.turn).transcript);
            }
            Event::ResponseStarted(started) => {
                self.live_responses += 1;
                if let Some(turn) = started.turn {
                    self.of_turn(turn).response = Some(started.response);
                } else {
                    self.exchanges.push(Exchange {
                        response: Some(started.response),
                        ..Exchange::default()
                    });
                }
                if let Some(exchange) = self.of_response(started.response) {
                    exchange.status = "open";
                }
            }
            Event::ResponseText(text) => {
                if let Some(exchange) = self.of_response(text.response) {
                    exchange.reply.push_str(text.delta.expose());
                }
            }
            Event::ResponseDone(done) => {
                self.live_responses = self.live_responses.saturating_sub(1);
                if let Some(exchange) = self.of_response(done.response) {
                    exchange.status = status(done.status);
                }
            }
            Event::TurnReport(report) => {
                self.unreported = self.unreported.saturating_sub(1);
                self.of_turn(report.turn).report = Some(report.clone());
            }
            Event::Closed(_) => self.closed = true,
            _ => {}
        }
    }
}

const fn status(status: ResponseStatus) -> &'static str {
    match status {
        ResponseStatus::Completed => "completed",
        ResponseStatus::Interrupted => "interrupted",
        ResponseStatus::Cancelled => "cancelled",
        ResponseStatus::Failed => "failed",
    }
}
