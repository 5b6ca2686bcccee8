//! A fake recogniser: it hears the words of its script.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use super::{Memory, Pace, Shared, Ticket, common};
use crate::backend::{Capabilities, OpenError, Push, SttBackend, SttRequest, SttStream};
use crate::call::{BackendKind, SttEvent};
use crate::pii::Pii;
use crate::time::Samples;

/// A fake recogniser. Each transcription "hears" the next text of the script, one word more with each so many samples.
pub struct ScriptedStt {
    shared: Arc<Shared>,
    texts: Vec<String>,
    next: AtomicUsize,
    partial_every: Option<Samples>,
    partial_pace: Pace,
    final_pace: Pace,
    full_every: Option<u32>,
    heard: Arc<Memory<Samples>>,
}

impl ScriptedStt {
    /// Transcription after transcription hears the next of these texts; after the last, the first again.
    #[must_use]
    pub fn new<Text: Into<String>>(texts: impl IntoIterator<Item = Text>) -> Self {
        Self {
            shared: Shared::new(BackendKind::Stt, "scripted-stt"),
            texts: texts.into_iter().map(Into::into).collect(),
            next: AtomicUsize::new(0),
            partial_every: None,
            partial_pace: Pace::instant(),
            final_pace: Pace::instant(),
            full_every: None,
            heard: Arc::new(Memory::default()),
        }
    }

    /// Each transcription tells how much audio it was given: "heard 1230 milliseconds".
    #[must_use]
    pub fn measuring() -> Self {
        Self::new(Vec::<String>::new())
    }

    /// Gives a partial with one word more after each so much audio, until the text is complete. Without it there are
    /// none. All words but the last are called stable.
    #[must_use]
    pub fn partial_every(mut self, audio: Samples) -> Self {
        self.partial_every = Some(audio).filter(|audio| *audio > Samples::ZERO);
        self
    }

    /// When partials come, once their audio is there.
    #[must_use]
    pub fn partials_paced(mut self, pace: Pace) -> Self {
        self.partial_pace = pace;
        self
    }

    /// When the final text comes, counted from the first poll after [`finish`](SttStream::finish).
    #[must_use]
    pub fn final_paced(mut self, mut pace: Pace) -> Self {
        // Whether partials went before it or not, the final waits the same.
        pace.each = pace.first;
        self.final_pace = pace;
        self
    }

    /// Every `pushes`th push is answered [`Push::Full`] once.
    #[must_use]
    pub fn full_every(mut self, pushes: u32) -> Self {
        self.full_every = Some(pushes).filter(|pushes| *pushes > 0);
        self
    }

    /// How much audio each transcription was given until it ended or was dropped, in the order of their ends; the
    /// newest [`REMEMBERED`](super::REMEMBERED).
    #[must_use]
    pub fn heard(&self) -> Vec<Samples> {
        self.heard.all()
    }

    common!();
}

impl SttBackend for ScriptedStt {
    fn capabilities(&self) -> &Capabilities {
        &self.shared.capabilities
    }

    fn open(&self, _request: SttRequest) -> Result<Box<dyn SttStream>, OpenError> {
        let ticket = self.shared.open()?;
        let text = if self.texts.is_empty() {
            None
        } else {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            Some(self.texts[number % self.texts.len()].clone())
        };
        Ok(Box::new(Stream {
            ticket,
            text,
            partial_every: self.partial_every,
            partial_pace: self.partial_pace.clone(),
            final_pace: self.final_pace.clone(),
            full_every: self.full_every,
            heard: Arc::clone(&self.heard),
            samples: Samples::ZERO,
            pushes: 0,
            partials: 0,
            finishing: false,
        }))
    }
}

struct Stream {
    ticket: Ticket,
    text: Option<String>,
    partial_every: Option<Samples>,
    partial_pace: Pace,
    final_pace: Pace,
    full_every: Option<u32>,
    heard: Arc<Memory<Samples>>,
    samples: Samples,
    pushes: u32,
    /// Words that partials have told.
    partials: usize,
    finishing: bool,
}

impl Stream {
    /// The next partial that the audio so far allows.
    fn next_partial(&self) -> Option<SttEvent> {
        let (text, every) = (self.text.as_deref()?, self.partial_every?);
        let allowed = usize::try_from(self.samples.count() / every.count()).unwrap_or(usize::MAX);
        if self.partials >= allowed || self.finishing {
            return None;
        }
        let mut words = text.split_whitespace();
        let told: Vec<&str> = words.by_ref().take(self.partials + 1).collect();
        if told.len() <= self.partials {
            return None;
        }
        let text = told.join(" ");
        // The space after the last stable word may still become something else.
        let stable = text.rfind(' ').map_or(0, |end| text[..end].chars().count());
        Some(SttEvent::Partial {
            text: Pii::from(text),
            stable_chars: u32::try_from(stable).unwrap_or(u32::MAX),
        })
    }

    fn final_text(&self) -> String {
        match &self.text {
            Some(text) => text.clone(),
            None => format!("heard {} milliseconds", self.samples.as_millis()),
        }
    }
}

impl SttStream for Stream {
    fn push(&mut self, pcm: &[i16]) -> Push {
        self.pushes = self.pushes.wrapping_add(1);
        if self.full_every.is_some_and(|every| self.pushes.is_multiple_of(every)) {
            // There is room again at once.
            self.ticket.wake();
            return Push::Full;
        }
        self.samples += Samples::new(pcm.len() as u64);
        if self.next_partial().is_some() {
            self.ticket.wake();
        }
        Push::Taken
    }

    fn finish(&mut self) {
        self.finishing = true;
        self.ticket.sleep = None;
        self.ticket.wake();
    }

    fn poll_event(&mut self, context: &mut Context<'_>) -> Poll<SttEvent> {
        let partial = self.next_partial();
        let pace = match (&partial, self.finishing) {
            (Some(_), _) => &self.partial_pace,
            (None, true) => &self.final_pace,
            (None, false) => &Pace::instant(),
        };
        match self.ticket.poll_pass(context, pace) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(failure)) => Poll::Ready(SttEvent::Failed(failure)),
            Poll::Ready(Ok(())) => match partial {
                Some(partial) => {
                    self.partials += 1;
                    self.ticket.gave();
                    Poll::Ready(partial)
                }
                None if self.finishing => {
                    self.ticket.finished();
                    Poll::Ready(SttEvent::Final {
                        text: Pii::from(self.final_text()),
                    })
                }
                None => Poll::Pending,
            },
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.heard.push(self.samples);
    }
}
