//! Speech to text by a worker.

use std::sync::Arc;
use std::task::{Context, Poll};

use repartee_protocol::worker::{Params, SttParams};

use super::{capabilities, failure, lost, out_of_place, refused};
use crate::backend::{Capabilities, OpenError, Push, SttBackend, SttRequest, SttStream};
use crate::call::{BackendKind, SttEvent};
use crate::supervisor::{Link, Sent, Stream, StreamEvent};
use crate::time::SESSION_RATE;

/// A recogniser in a worker: one load of it.
#[derive(Debug)]
pub struct WorkerStt {
    link: Arc<Link>,
    capabilities: Capabilities,
}

impl WorkerStt {
    /// The recogniser of a ready worker; `None` if it isn't ready, or doesn't take audio at the session's rate.
    #[must_use]
    pub fn new(link: Arc<Link>) -> Option<Self> {
        let capabilities = capabilities(BackendKind::Stt, &link)?;
        (link.ready()?.model.rate == SESSION_RATE).then_some(Self { link, capabilities })
    }
}

impl SttBackend for WorkerStt {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn open(&self, request: SttRequest) -> Result<Box<dyn SttStream>, OpenError> {
        let params = SttParams {
            rate: SESSION_RATE,
            language: request.language,
            hints: request.hints,
            partials: true,
            ..SttParams::default()
        };
        let stream = self
            .link
            .open(Params::Stt(params), &[])
            .map_err(|no| refused(&self.capabilities.name, no))?;
        Ok(Box::new(Transcription {
            stream,
            backend: self.capabilities.name.clone(),
        }))
    }
}

struct Transcription {
    stream: Stream,
    backend: String,
}

impl SttStream for Transcription {
    fn push(&mut self, pcm: &[i16]) -> Push {
        match self.stream.send_audio(pcm) {
            Sent::Taken => Push::Taken,
            Sent::Full => Push::Full,
        }
    }

    fn finish(&mut self) {
        self.stream.finish();
    }

    fn poll_event(&mut self, context: &mut Context<'_>) -> Poll<SttEvent> {
        loop {
            let Poll::Ready(event) = self.stream.poll_event(context) else {
                return Poll::Pending;
            };
            return Poll::Ready(match event {
                StreamEvent::Partial(partial) => SttEvent::Partial {
                    stable_chars: partial.stable_chars,
                    text: partial.text.into(),
                },
                StreamEvent::Final(text) => SttEvent::Final { text: text.text.into() },
                // A worker that ends without a final understood nothing.
                StreamEvent::Done(_) => SttEvent::Final {
                    text: String::new().into(),
                },
                StreamEvent::Failed(failed) => SttEvent::Failed(failure(&self.backend, failed)),
                StreamEvent::Lost {
                    generation,
                    reason,
                    position,
                } => SttEvent::Failed(lost(&self.backend, generation, reason, position)),
                StreamEvent::Marks(_) | StreamEvent::Score(_) => continue,
                StreamEvent::Audio(_) | StreamEvent::Token(_) | StreamEvent::ToolCall(_) => {
                    SttEvent::Failed(failure(&self.backend, out_of_place(self.stream.id())))
                }
            });
        }
    }
}
