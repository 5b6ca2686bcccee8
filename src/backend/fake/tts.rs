//! A fake voice: a tone, or silence, as long as the text.

use std::sync::Arc;
use std::task::{Context, Poll};

use super::{Memory, Pace, Shared, Ticket, common};
use crate::backend::{Capabilities, OpenError, TtsBackend, TtsEvent, TtsRequest, TtsStream};
use crate::call::{BackendKind, WordTiming};
use crate::time::{SESSION_RATE, Samples};

/// What a fake voice sounds like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sound {
    /// Nothing is heard.
    Silence,
    /// A sine.
    Tone {
        /// Its frequency in Hz.
        hz: u32,
        /// Its largest sample.
        amplitude: i16,
    },
}

/// A fake voice.
pub struct ScriptedTts {
    shared: Arc<Shared>,
    rate: u32,
    millis_per_char: u32,
    chunk_millis: u32,
    sound: Sound,
    words: bool,
    pace: Pace,
    spoken: Memory<TtsRequest>,
}

impl Default for ScriptedTts {
    /// A 440 Hz tone at 16 kHz, 60 ms for each character (what a person needs), in chunks of 25 ms (what flite gives).
    fn default() -> Self {
        Self {
            shared: Shared::new(BackendKind::Tts, "scripted-tts"),
            rate: SESSION_RATE,
            millis_per_char: 60,
            chunk_millis: 25,
            sound: Sound::Tone {
                hz: 440,
                amplitude: 8_000,
            },
            words: true,
            pace: Pace::instant(),
            spoken: Memory::default(),
        }
    }
}

impl ScriptedTts {
    /// Audio at this rate in Hz.
    #[must_use]
    pub fn rate(mut self, hz: u32) -> Self {
        self.rate = hz.max(1);
        self
    }

    /// So many milliseconds of audio for each character of the text.
    #[must_use]
    pub fn millis_per_char(mut self, millis: u32) -> Self {
        self.millis_per_char = millis;
        self
    }

    /// Audio comes in chunks of so many milliseconds.
    #[must_use]
    pub fn chunk_millis(mut self, millis: u32) -> Self {
        self.chunk_millis = millis.max(1);
        self
    }

    /// What is heard.
    #[must_use]
    pub fn sound(mut self, sound: Sound) -> Self {
        self.sound = sound;
        self
    }

    /// Doesn't tell when words are heard.
    #[must_use]
    pub fn without_words(mut self) -> Self {
        self.words = false;
        self
    }

    /// Has these voices.
    #[must_use]
    pub fn voices<Name: Into<String>>(mut self, voices: impl IntoIterator<Item = Name>) -> Self {
        self.change_capabilities(|capabilities| capabilities.voices = voices.into_iter().map(Into::into).collect());
        self
    }

    /// When its events come.
    #[must_use]
    pub fn paced(mut self, pace: Pace) -> Self {
        self.pace = pace;
        self
    }

    /// What it was asked to speak; the newest [`REMEMBERED`](super::REMEMBERED).
    #[must_use]
    pub fn spoken(&self) -> Vec<TtsRequest> {
        self.spoken.all()
    }

    common!();

    /// Samples at `rate` for so many characters.
    fn samples_at(&self, rate: u32, chars: u64) -> u64 {
        chars * u64::from(self.millis_per_char) * u64::from(rate) / 1000
    }
}

impl TtsBackend for ScriptedTts {
    fn capabilities(&self) -> &Capabilities {
        &self.shared.capabilities
    }

    fn synthesize(&self, request: TtsRequest) -> Result<Box<dyn TtsStream>, OpenError> {
        let voices = &self.shared.capabilities.voices;
        if let Some(voice) = request.voice.as_ref().filter(|_| !voices.is_empty())
            && !voices.contains(voice)
        {
            self.shared.state().counts.refused += 1;
            return Err(OpenError::Unsupported {
                backend: self.shared.capabilities.name.clone(),
                reason: format!("it has no voice {voice:?}"),
            });
        }
        let ticket = self.shared.open()?;
        let text = request.text.expose();
        let chars = text.chars().count() as u64;
        let mut words = Vec::new();
        if self.words {
            let mut letters = text.chars().enumerate().peekable();
            while let Some((at, letter)) = letters.next() {
                let word_ends = letters.peek().is_none_or(|(_, next)| next.is_whitespace());
                if !letter.is_whitespace() && word_ends {
                    words.push(WordTiming {
                        end_char: u32::try_from(at + 1).unwrap_or(u32::MAX),
                        end: Samples::new(self.samples_at(SESSION_RATE, at as u64 + 1)),
                        estimated: false,
                    });
                }
            }
        }
        let stream = Stream {
            ticket,
            pace: self.pace.clone(),
            sound: self.sound,
            rate: self.rate,
            chunk: u64::from(self.rate) * u64::from(self.chunk_millis) / 1000,
            given: 0,
            total: self.samples_at(self.rate, chars),
            words: Some(words).filter(|words| !words.is_empty()),
        };
        self.spoken.push(request);
        Ok(Box::new(stream))
    }
}

struct Stream {
    ticket: Ticket,
    pace: Pace,
    sound: Sound,
    rate: u32,
    /// Samples of a chunk.
    chunk: u64,
    given: u64,
    total: u64,
    /// Told once, after the first audio: real voices know them about then.
    words: Option<Vec<WordTiming>>,
}

impl Stream {
    fn next_chunk(&mut self) -> Vec<i16> {
        let end = self.total.min(self.given + self.chunk.max(1));
        let pcm = (self.given..end).map(|at| sample(self.sound, self.rate, at)).collect();
        self.given = end;
        pcm
    }
}

/// The sample at `at`, so that chunks join without a click whatever their size.
fn sample(sound: Sound, rate: u32, at: u64) -> i16 {
    match sound {
        Sound::Silence => 0,
        Sound::Tone { hz, amplitude } => {
            let turns = (at * u64::from(hz) % u64::from(rate)) as f64 / f64::from(rate);
            #[expect(clippy::cast_possible_truncation, reason = "a sine of an i16's amplitude is an i16")]
            let value = ((turns * std::f64::consts::TAU).sin() * f64::from(amplitude)).round() as i16;
            value
        }
    }
}

impl TtsStream for Stream {
    fn poll_event(&mut self, context: &mut Context<'_>) -> Poll<TtsEvent> {
        if self.ticket.over {
            // Polled after its end, which the contract forbids: nothing more comes.
            return Poll::Pending;
        }
        match self.ticket.poll_pass(context, &self.pace) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(failure)) => Poll::Ready(TtsEvent::Failed(failure)),
            Poll::Ready(Ok(())) => {
                if self.given > 0
                    && let Some(words) = self.words.take()
                {
                    self.ticket.gave();
                    return Poll::Ready(TtsEvent::Words(words));
                }
                if self.given >= self.total {
                    self.ticket.finished();
                    return Poll::Ready(TtsEvent::Done);
                }
                let pcm = self.next_chunk();
                self.ticket.gave();
                Poll::Ready(TtsEvent::Audio { pcm, rate: self.rate })
            }
        }
    }
}
