//! Backends: what does one of the five jobs, behind small traits.
//!
//! A stream is one piece of work: an utterance, a generation, a clause. It is stamped by whoever opened it; dropping it
//! cancels it, and nothing comes of it afterwards. A push never blocks: "full" is an answer. Results are polled, and the
//! waker of the last poll is woken when there is more.

pub mod fake;

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::call::{BackendKind, LlmEvent, Probability, Prompt, StageFailure, SttEvent, WordTiming};
use crate::id::{Generation, SessionId};
use crate::pii::Pii;

/// What a loaded backend is and can do, as it said itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Its job.
    pub kind: BackendKind,
    /// Its name: "pocketsphinx".
    pub name: String,
    /// Its model: "pocketsphinx-en-us".
    pub model: String,
    /// Which load this is.
    pub generation: Generation,
    /// BCP 47 languages; empty when it isn't known.
    pub languages: Vec<String>,
    /// Voices by name, the default first; empty for anything but `tts`.
    pub voices: Vec<String>,
    /// Whether results come while the work goes on.
    pub streaming: bool,
    /// Where it computes: "cpu", "cuda:0"; absent where that isn't told.
    pub device: Option<String>,
    /// Why it computes there and not where it was meant to; absent: it does.
    pub fallback: Option<String>,
    /// Whether its model was made for tests, with weights that nobody trained.
    pub synthetic: bool,
}

impl Capabilities {
    /// Something with a name and a model, which tells nothing else of itself.
    #[must_use]
    pub fn new(kind: BackendKind, name: &str, model: &str, generation: Generation) -> Self {
        Self {
            kind,
            name: name.to_owned(),
            model: model.to_owned(),
            generation,
            languages: Vec::new(),
            voices: Vec::new(),
            streaming: false,
            device: None,
            fallback: None,
            synthetic: false,
        }
    }
}

/// Why a stream was not opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// All places are taken; later it may work.
    #[error("{backend} is busy: {reason}")]
    Busy {
        /// Which backend.
        backend: String,
        /// What is taken.
        reason: String,
    },
    /// It is not running at the moment; it is being started again.
    #[error("{backend} is not running: {reason}")]
    Lost {
        /// Which backend.
        backend: String,
        /// Why, the worker's last words included.
        reason: String,
    },
    /// It will never do this: an unknown voice, a language it lacks.
    #[error("{backend} can't do this: {reason}")]
    Unsupported {
        /// Which backend.
        backend: String,
        /// What it lacks.
        reason: String,
    },
}

impl OpenError {
    /// The same as an answer of the stage; `retry_after_ms` is for those that may pass.
    #[must_use]
    pub fn into_failure(self, retry_after_ms: u32) -> StageFailure {
        match self {
            Self::Busy { backend, reason } | Self::Lost { backend, reason } => StageFailure {
                backend,
                reason,
                retry: true,
                retry_after_ms,
            },
            Self::Unsupported { backend, reason } => StageFailure {
                backend,
                reason,
                retry: false,
                retry_after_ms: 0,
            },
        }
    }
}

/// Voice activity detection of one session. Runs in process, on the session's own thread: it need not be `Send`.
pub trait Vad {
    /// Samples of a frame at 16 kHz.
    fn frame_samples(&self) -> usize;

    /// How much this frame looks like speech. `frame` has exactly [`frame_samples`](Vad::frame_samples) samples of 16-bit
    /// PCM at 16 kHz, following on the frame before it.
    fn process(&mut self, frame: &[i16]) -> Probability;

    /// Forgets what it has heard.
    fn reset(&mut self);
}

/// Makes a [`Vad`] for each session.
pub trait VadBackend: Send + Sync {
    /// What it is.
    fn capabilities(&self) -> &Capabilities;

    /// One for a session; called on the thread that will use it.
    ///
    /// # Errors
    /// See [`OpenError`].
    fn open(&self) -> Result<Box<dyn Vad>, OpenError>;
}

/// What came of pushing audio.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Push {
    /// All of it was taken.
    Taken,
    /// None of it was taken: push the same again when [`SttStream::poll_event`]'s waker has been woken.
    Full,
}

/// What a transcription is told at its start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SttRequest {
    /// BCP 47 language; the backend's default when absent.
    pub language: Option<String>,
    /// Words and phrases that are likely; a recogniser that takes none overlooks them.
    pub hints: Vec<String>,
}

/// Speech to text.
pub trait SttBackend: Send + Sync {
    /// What it is.
    fn capabilities(&self) -> &Capabilities;

    /// Starts a transcription.
    ///
    /// # Errors
    /// See [`OpenError`].
    fn open(&self, request: SttRequest) -> Result<Box<dyn SttStream>, OpenError>;
}

/// One transcription.
pub trait SttStream: Send {
    /// Hands in audio: 16-bit PCM at 16 kHz, mono, at most a second at a time. May be faster than real time.
    fn push(&mut self, pcm: &[i16]) -> Push;

    /// No more audio comes; the final text is wanted.
    fn finish(&mut self);

    /// The next event; after `Final` or `Failed` it is not polled again.
    fn poll_event(&mut self, context: &mut Context<'_>) -> Poll<SttEvent>;
}

/// Writes down a whole recording: 16-bit PCM at 16 kHz. Waits for room where the recogniser has none.
///
/// # Errors
/// How the recogniser failed.
pub async fn transcribe_whole(stream: &mut dyn SttStream, pcm: &[i16]) -> Result<Pii<String>, StageFailure> {
    /// A fifth of a second at a time.
    const PIECE: usize = 3_200;
    let mut pieces = pcm.chunks(PIECE).peekable();
    let mut finished = false;
    loop {
        let event = std::future::poll_fn(|context| {
            // Also when it is woken because there is room again.
            while let Some(piece) = pieces.peek()
                && stream.push(piece) == Push::Taken
            {
                pieces.next();
            }
            if pieces.peek().is_none() && !std::mem::replace(&mut finished, true) {
                stream.finish();
            }
            stream.poll_event(context)
        });
        match event.await {
            SttEvent::Partial { .. } => {}
            SttEvent::Final { text } => return Ok(text),
            SttEvent::Failed(failure) => return Err(failure),
        }
    }
}

/// What a language model is asked, and by whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LlmRequest {
    /// What it is asked.
    pub prompt: Prompt,
    /// The session whose conversation this is: a model may keep what it has computed of it until the next turn.
    pub conversation: Option<SessionId>,
}

impl From<Prompt> for LlmRequest {
    /// A question that belongs to no conversation.
    fn from(prompt: Prompt) -> Self {
        Self {
            prompt,
            conversation: None,
        }
    }
}

/// The tokens of one generation; zeros where they weren't counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TokenUsage {
    /// Of the prompt.
    pub prompt: u32,
    /// How many of those had been kept from before.
    pub cached: u32,
    /// Made.
    pub completion: u32,
}

/// The language model.
pub trait LlmBackend: Send + Sync {
    /// What it is.
    fn capabilities(&self) -> &Capabilities;

    /// Starts a generation.
    ///
    /// # Errors
    /// See [`OpenError`].
    fn generate(&self, request: LlmRequest) -> Result<Box<dyn LlmStream>, OpenError>;
}

/// One generation.
pub trait LlmStream: Send {
    /// The next event; after `Done` or `Failed` it is not polled again.
    fn poll_event(&mut self, context: &mut Context<'_>) -> Poll<LlmEvent>;

    /// What it used, once it is done.
    fn usage(&self) -> TokenUsage {
        TokenUsage::default()
    }
}

/// A clause to be spoken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TtsRequest {
    /// What is spoken.
    pub text: Pii<String>,
    /// The voice by name; the backend's default when absent.
    pub voice: Option<String>,
    /// BCP 47 language; the voice's own when absent.
    pub language: Option<String>,
}

/// What a synthesiser gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TtsEvent {
    /// Audio: 16-bit PCM, mono.
    Audio {
        /// The samples.
        pcm: Vec<i16>,
        /// Their rate in Hz. The same throughout a stream.
        rate: u32,
    },
    /// When words are heard, in the clause's audio at [`SESSION_RATE`](crate::time::SESSION_RATE).
    Words(Vec<WordTiming>),
    /// All audio has been given.
    Done,
    /// It could not be done (any more).
    Failed(StageFailure),
}

/// Text to speech.
pub trait TtsBackend: Send + Sync {
    /// What it is.
    fn capabilities(&self) -> &Capabilities;

    /// Starts a synthesis.
    ///
    /// # Errors
    /// See [`OpenError`].
    fn synthesize(&self, request: TtsRequest) -> Result<Box<dyn TtsStream>, OpenError>;
}

/// One synthesis.
pub trait TtsStream: Send {
    /// The next event; after `Done` or `Failed` it is not polled again. Not polling holds the synthesiser back.
    fn poll_event(&mut self, context: &mut Context<'_>) -> Poll<TtsEvent>;
}

/// The model that tells whether a turn has ended.
pub trait TurnBackend: Send + Sync {
    /// What it is.
    fn capabilities(&self) -> &Capabilities;

    /// Judges up to eight seconds of 16-bit PCM at 16 kHz that end where speech paused. Answers on `poll`.
    ///
    /// # Errors
    /// See [`OpenError`].
    fn predict(&self, pcm: &[i16]) -> Result<Box<dyn TurnPrediction>, OpenError>;
}

/// One question to the turn model.
pub trait TurnPrediction: Send {
    /// How likely the turn is complete; `None` when the model failed.
    fn poll_answer(&mut self, context: &mut Context<'_>) -> Poll<Option<Probability>>;
}

/// A shared backend of any job.
#[derive(Clone)]
pub enum Backend {
    /// Voice activity detection.
    Vad(Arc<dyn VadBackend>),
    /// End of turn.
    Turn(Arc<dyn TurnBackend>),
    /// Speech to text.
    Stt(Arc<dyn SttBackend>),
    /// Language model.
    Llm(Arc<dyn LlmBackend>),
    /// Text to speech.
    Tts(Arc<dyn TtsBackend>),
}

impl Backend {
    /// What it is.
    #[must_use]
    pub fn capabilities(&self) -> &Capabilities {
        match self {
            Self::Vad(backend) => backend.capabilities(),
            Self::Turn(backend) => backend.capabilities(),
            Self::Stt(backend) => backend.capabilities(),
            Self::Llm(backend) => backend.capabilities(),
            Self::Tts(backend) => backend.capabilities(),
        }
    }
}

impl fmt::Debug for Backend {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Backend").field(self.capabilities()).finish()
    }
}
