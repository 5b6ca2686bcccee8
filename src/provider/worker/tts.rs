//! Text to speech by a worker: a stream of the link is a clause.

use std::sync::Arc;
use std::task::{Context, Poll};

use repartee_protocol::worker::{Mark, Params, TtsParams};

use super::{capabilities, failure, lost, out_of_place, refused};
use crate::backend::{Capabilities, OpenError, TtsBackend, TtsEvent, TtsRequest, TtsStream};
use crate::call::{BackendKind, WordTiming};
use crate::supervisor::{Link, Sent, Stream, StreamEvent};
use crate::time::{SESSION_RATE, Samples};

/// A synthesiser in a worker: one load of it.
#[derive(Debug)]
pub struct WorkerTts {
    link: Arc<Link>,
    capabilities: Capabilities,
    /// In thousandths of the voice's own speed; absent: just that.
    speed_per_mille: Option<u16>,
}

impl WorkerTts {
    /// The synthesiser of a ready worker; `None` if it isn't ready.
    #[must_use]
    pub fn new(link: Arc<Link>) -> Option<Self> {
        let capabilities = capabilities(BackendKind::Tts, &link)?;
        Some(Self {
            link,
            capabilities,
            speed_per_mille: None,
        })
    }

    /// The same, speaking at another speed, in thousandths of the voice's own. A worker does what it can of it.
    #[must_use]
    pub const fn at_speed(mut self, per_mille: u16) -> Self {
        // The voice's own speed needs no word: a worker that knows no speeds serves it all the same.
        self.speed_per_mille = if per_mille == 1_000 { None } else { Some(per_mille) };
        self
    }
}

impl TtsBackend for WorkerTts {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn synthesize(&self, request: TtsRequest) -> Result<Box<dyn TtsStream>, OpenError> {
        let backend = || self.capabilities.name.clone();
        let model = self.link.ready().map(|ready| &ready.model);
        let rate = match (&request.voice, model) {
            (Some(voice), Some(model)) if !model.voices.is_empty() => {
                let found =
                    model
                        .voices
                        .iter()
                        .find(|known| known.id == *voice)
                        .ok_or_else(|| OpenError::Unsupported {
                            backend: backend(),
                            reason: format!(
                                "it has no voice {voice:?}; there are {}",
                                self.capabilities.voices.join(", ")
                            ),
                        })?;
                found.rate
            }
            (_, model) => model.map_or(SESSION_RATE, |model| model.rate),
        };
        let params = TtsParams {
            voice: request.voice,
            language: request.language,
            speed: self.speed_per_mille.map(|per_mille| f32::from(per_mille) / 1_000.0),
            marks: true,
        };
        let mut stream = self
            .link
            .open(Params::Tts(params), &[])
            .map_err(|no| refused(&self.capabilities.name, no))?;
        // The first text of a stream always has credit; only a link that is clogged as a whole refuses it.
        if stream.send_text(0, request.text.expose()) == Sent::Full {
            return Err(OpenError::Busy {
                backend: backend(),
                reason: "its link is full".to_owned(),
            });
        }
        stream.finish();
        Ok(Box::new(Synthesis {
            stream,
            backend: backend(),
            rate: rate.max(1),
        }))
    }
}

struct Synthesis {
    stream: Stream,
    backend: String,
    /// The voice's rate in Hz.
    rate: u32,
}

impl Synthesis {
    /// When a word is over, on the session's sample clock.
    fn timing(&self, mark: &Mark, estimated: bool) -> WordTiming {
        let end = mark.end.saturating_mul(SESSION_RATE.into()) / u64::from(self.rate);
        WordTiming {
            end_char: mark.char_end,
            end: Samples::new(end),
            estimated,
        }
    }
}

impl TtsStream for Synthesis {
    fn poll_event(&mut self, context: &mut Context<'_>) -> Poll<TtsEvent> {
        loop {
            let Poll::Ready(event) = self.stream.poll_event(context) else {
                return Poll::Pending;
            };
            return Poll::Ready(match event {
                StreamEvent::Audio(bytes) => {
                    let pcm = bytes
                        .as_chunks::<2>()
                        .0
                        .iter()
                        .map(|sample| i16::from_le_bytes(*sample))
                        .collect();
                    TtsEvent::Audio { pcm, rate: self.rate }
                }
                StreamEvent::Marks(marks) => TtsEvent::Words(
                    marks
                        .words
                        .iter()
                        .map(|mark| self.timing(mark, marks.estimated))
                        .collect(),
                ),
                StreamEvent::Done(_) => TtsEvent::Done,
                StreamEvent::Failed(failed) => TtsEvent::Failed(failure(&self.backend, failed)),
                StreamEvent::Lost {
                    generation,
                    reason,
                    position,
                } => TtsEvent::Failed(lost(&self.backend, generation, reason, position)),
                StreamEvent::Score(_) => continue,
                StreamEvent::Partial(_) | StreamEvent::Final(_) | StreamEvent::Token(_) | StreamEvent::ToolCall(_) => {
                    TtsEvent::Failed(failure(&self.backend, out_of_place(self.stream.id())))
                }
            });
        }
    }
}
