//! Work outside of any conversation: a text that is spoken, a question that is answered, audio that is written down, once. Whoever asks waits for the whole
//! result, or takes it piece by piece; dropping the future calls it off.

use std::future::poll_fn;
use std::time::Duration;

use tokio::time::timeout;

use super::Engine;
use crate::audio::{Resampler, SampleRate};
use crate::backend::{Backend, LlmRequest, OpenError, SttRequest, TtsEvent, TtsRequest, transcribe_whole};
use crate::call::{BackendKind, LlmEvent, Prompt, StageFailure};
use crate::id::SessionId;
use crate::pii::Pii;
use crate::registry::Serving;

/// Seconds of audio that one text may become.
const LONGEST_SPEECH: u64 = 600;
/// Bytes of an answer.
const LONGEST_ANSWER: usize = 256 * 1024;
/// Between two tries of something that failed in a way that may pass.
const PAUSE: Duration = Duration::from_millis(250);
/// Tries of one piece of work.
const TRIES: u32 = 3;

/// Why there is no result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unanswered {
    /// Nothing does this job, or not now.
    #[error("no {kind} backend serves: {reason}")]
    Missing {
        /// The job.
        kind: BackendKind,
        /// Why.
        reason: String,
    },
    /// It went wrong.
    #[error("{backend}: {reason}")]
    Failed {
        /// Which backend.
        backend: String,
        /// Why, in words for an operator.
        reason: String,
    },
    /// It took too long.
    #[error("no result within {0:?}")]
    Late(Duration),
}

/// A text that was spoken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spoken {
    /// 16-bit PCM, mono.
    pub pcm: Vec<i16>,
    /// Its rate.
    pub rate: SampleRate,
}

/// A try that failed.
enum Try {
    /// Another one may succeed.
    Again(Unanswered),
    /// None will.
    Never(Unanswered),
}

impl From<OpenError> for Try {
    fn from(error: OpenError) -> Self {
        let StageFailure {
            backend, reason, retry, ..
        } = error.into_failure(0);
        let failed = Unanswered::Failed { backend, reason };
        if retry {
            Self::Again(failed)
        } else {
            Self::Never(failed)
        }
    }
}

fn failed(failure: StageFailure) -> Try {
    let StageFailure {
        backend, reason, retry, ..
    } = failure;
    let failed = Unanswered::Failed { backend, reason };
    if retry { Try::Again(failed) } else { Try::Never(failed) }
}

impl Engine {
    /// What does this job now.
    fn serving(&self, kind: BackendKind) -> Result<Serving, Try> {
        self.registry().lease(kind).ok_or_else(|| {
            let reason = "it isn't there, or not ready yet; /ready tells why".to_owned();
            Try::Again(Unanswered::Missing { kind, reason })
        })
    }

    /// Speaks `text`, within `limit`. What a worker's death interrupted is made again.
    ///
    /// # Errors
    /// See [`Unanswered`].
    pub async fn speak(
        &self,
        text: &Pii<String>,
        voice: Option<&str>,
        rate: SampleRate,
        limit: Duration,
    ) -> Result<Spoken, Unanswered> {
        let tries = async {
            let mut tries = Tries::default();
            loop {
                let spoken = self.spoken(text, voice, rate).await;
                if let Some(result) = tries.settle(spoken).await {
                    return result;
                }
            }
        };
        timeout(limit, tries).await.unwrap_or(Err(Unanswered::Late(limit)))
    }

    async fn spoken(&self, text: &Pii<String>, voice: Option<&str>, to: SampleRate) -> Result<Spoken, Try> {
        let serving = self.serving(BackendKind::Tts)?;
        let Backend::Tts(tts) = &serving.backend else {
            return Err(Try::Never(wrong(BackendKind::Tts)));
        };
        let mut stream = tts.synthesize(TtsRequest {
            text: text.clone(),
            voice: voice.map(str::to_owned).or_else(|| serving.voice.clone()),
            language: serving.language.clone(),
        })?;
        let most = usize::try_from(LONGEST_SPEECH * u64::from(to.hz())).unwrap_or(usize::MAX);
        let mut pcm = Vec::new();
        let mut resampler: Option<(u32, Resampler)> = None;
        loop {
            match poll_fn(|context| stream.poll_event(context)).await {
                TtsEvent::Audio { pcm: piece, rate } => {
                    if resampler.as_ref().is_none_or(|(from, _)| *from != rate) {
                        let made = Resampler::from_hz(rate, to).map_err(|_| {
                            Try::Never(Unanswered::Failed {
                                backend: tts.capabilities().name.clone(),
                                reason: format!("audio at {rate} Hz can't be used"),
                            })
                        })?;
                        resampler = Some((rate, made));
                    }
                    if let Some((_, resampler)) = &mut resampler {
                        resampler.process(&piece, &mut pcm);
                    }
                    if pcm.len() > most {
                        return Err(Try::Never(Unanswered::Failed {
                            backend: tts.capabilities().name.clone(),
                            reason: format!("it gave more than {LONGEST_SPEECH} s of audio"),
                        }));
                    }
                }
                TtsEvent::Words(_) => {}
                TtsEvent::Done => {
                    if let Some((_, resampler)) = &mut resampler {
                        resampler.flush(&mut pcm);
                    }
                    return Ok(Spoken { pcm, rate: to });
                }
                TtsEvent::Failed(failure) => return Err(failed(failure)),
            }
        }
    }

    /// Has the language model answer `prompt`, within `limit`. `heard` is given each piece of text as it comes. A model may keep what it has computed of
    /// `conversation` for its next question.
    ///
    /// # Errors
    /// See [`Unanswered`].
    pub async fn complete(
        &self,
        prompt: &Prompt,
        conversation: Option<SessionId>,
        limit: Duration,
        mut heard: impl FnMut(&str),
    ) -> Result<Pii<String>, Unanswered> {
        let mut said = false;
        let tries = async {
            let mut tries = Tries::default();
            loop {
                let completed = self
                    .completed(prompt, conversation, &mut |piece: &str| {
                        said = true;
                        heard(piece);
                    })
                    .await;
                let completed = match completed {
                    // What somebody has heard the beginning of isn't begun again.
                    Err(Try::Again(error)) if said => Err(Try::Never(error)),
                    other => other,
                };
                if let Some(result) = tries.settle(completed).await {
                    return result;
                }
            }
        };
        timeout(limit, tries).await.unwrap_or(Err(Unanswered::Late(limit)))
    }

    async fn completed(
        &self,
        prompt: &Prompt,
        conversation: Option<SessionId>,
        heard: &mut impl FnMut(&str),
    ) -> Result<Pii<String>, Try> {
        let serving = self.serving(BackendKind::Llm)?;
        let Backend::Llm(llm) = &serving.backend else {
            return Err(Try::Never(wrong(BackendKind::Llm)));
        };
        let request = LlmRequest {
            prompt: prompt.clone(),
            conversation,
        };
        let mut stream = llm.generate(request)?;
        let mut answer = Pii::<String>::default();
        loop {
            match poll_fn(|context| stream.poll_event(context)).await {
                LlmEvent::Delta { text } => {
                    heard(text.expose());
                    answer.expose_mut().push_str(text.expose());
                    if answer.expose().len() > LONGEST_ANSWER {
                        return Ok(answer);
                    }
                }
                LlmEvent::ToolCall(_) => {}
                LlmEvent::Done { .. } => {
                    let usage = stream.usage();
                    self.metrics().tokens([usage.prompt, usage.cached, usage.completion]);
                    return Ok(answer);
                }
                LlmEvent::Failed(failure) => return Err(failed(failure)),
            }
        }
    }

    /// Writes down 16-bit PCM at 16 kHz, within `limit`.
    ///
    /// # Errors
    /// See [`Unanswered`].
    pub async fn transcribe(
        &self,
        pcm: &[i16],
        request: &SttRequest,
        limit: Duration,
    ) -> Result<Pii<String>, Unanswered> {
        let tries = async {
            let mut tries = Tries::default();
            loop {
                let transcribed = self.transcribed(pcm, request).await;
                if let Some(result) = tries.settle(transcribed).await {
                    return result;
                }
            }
        };
        timeout(limit, tries).await.unwrap_or(Err(Unanswered::Late(limit)))
    }

    async fn transcribed(&self, pcm: &[i16], request: &SttRequest) -> Result<Pii<String>, Try> {
        let serving = self.serving(BackendKind::Stt)?;
        let Backend::Stt(stt) = &serving.backend else {
            return Err(Try::Never(wrong(BackendKind::Stt)));
        };
        let mut stream = stt.open(request.clone())?;
        transcribe_whole(stream.as_mut(), pcm).await.map_err(failed)
    }
}

fn wrong(kind: BackendKind) -> Unanswered {
    Unanswered::Missing {
        kind,
        reason: "another job's backend stands in its place".to_owned(),
    }
}

/// Counts tries. (A closure that is called again and again would do, but its future could not be proved to be `Send`.)
#[derive(Default)]
struct Tries(u32);

impl Tries {
    /// The result of a try, if another one is not worth it; otherwise waits a little.
    async fn settle<T>(&mut self, outcome: Result<T, Try>) -> Option<Result<T, Unanswered>> {
        self.0 += 1;
        match outcome {
            Ok(result) => Some(Ok(result)),
            Err(Try::Never(error)) => Some(Err(error)),
            Err(Try::Again(error)) if self.0 == TRIES => Some(Err(error)),
            Err(Try::Again(_)) => {
                tokio::time::sleep(PAUSE * self.0).await;
                None
            }
        }
    }
}
