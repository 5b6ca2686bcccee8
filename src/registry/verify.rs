//! Whether a backend that says that it is ready does its job: a small piece of real work, through the same traits that sessions use.

use std::future::poll_fn;
use std::time::Duration;

use crate::backend::{Backend, OpenError, SttRequest, TtsEvent, TtsRequest, transcribe_whole};
use crate::call::{LlmEvent, Message, Prompt, Role};
use crate::pii::Pii;

/// How long the piece of work may take. Models that take longer for it are of no use in a conversation.
const LIMIT: Duration = Duration::from_secs(30);
/// What a voice says.
const SENTENCE: &str = "One, two, three.";
/// What a recogniser hears: a second of faint noise at 16 kHz.
const AUDIO_SAMPLES: usize = 16_000;

/// Has `backend` do a piece of work.
///
/// # Errors
/// What it did instead.
pub(super) async fn verify(backend: &Backend) -> Result<(), String> {
    let work = async {
        match backend {
            Backend::Vad(_) => vad(backend),
            Backend::Turn(_) => turn(backend).await,
            Backend::Stt(_) => stt(backend).await,
            Backend::Llm(_) => llm(backend).await,
            Backend::Tts(_) => tts(backend).await,
        }
    };
    match tokio::time::timeout(LIMIT, work).await {
        Ok(done) => done,
        Err(_) => Err(format!("it did not answer within {} s", LIMIT.as_secs())),
    }
}

/// A stream, or none where so many others are served that it certainly works.
fn opened<T>(result: Result<T, OpenError>) -> Result<Option<T>, String> {
    match result {
        Ok(stream) => Ok(Some(stream)),
        Err(OpenError::Busy { .. }) => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}

/// Faint noise, the same each time: 16-bit PCM at 16 kHz.
fn noise() -> Vec<i16> {
    let mut state: u32 = 1;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        i16::try_from(state >> 27).unwrap_or(0) - 16
    };
    (0..AUDIO_SAMPLES).map(|_| next()).collect()
}

fn vad(backend: &Backend) -> Result<(), String> {
    let Backend::Vad(backend) = backend else { return Ok(()) };
    let mut vad = backend.open().map_err(|error| error.to_string())?;
    let frame = vad.frame_samples();
    for chunk in noise().chunks_exact(frame.max(1)).take(4) {
        vad.process(chunk);
    }
    Ok(())
}

async fn turn(backend: &Backend) -> Result<(), String> {
    let Backend::Turn(backend) = backend else { return Ok(()) };
    let Some(mut asked) = opened(backend.predict(&noise()))? else {
        return Ok(());
    };
    match poll_fn(|context| asked.poll_answer(context)).await {
        Some(_) => Ok(()),
        None => Err("it gave no opinion on a second of noise".to_owned()),
    }
}

async fn stt(backend: &Backend) -> Result<(), String> {
    let Backend::Stt(backend) = backend else { return Ok(()) };
    let Some(mut stream) = opened(backend.open(SttRequest::default()))? else {
        return Ok(());
    };
    match transcribe_whole(stream.as_mut(), &noise()).await {
        Ok(_) => Ok(()),
        Err(failure) => Err(failure.reason),
    }
}

async fn llm(backend: &Backend) -> Result<(), String> {
    let Backend::Llm(backend) = backend else { return Ok(()) };
    let prompt = Prompt {
        messages: vec![Message {
            role: Role::User,
            text: Pii::from("Say yes."),
            tool_calls: Vec::new(),
            call_id: None,
        }],
        tools: Vec::new(),
        max_tokens: 8,
        temperature_milli: None,
    };
    let Some(mut stream) = opened(backend.generate(prompt.into()))? else {
        return Ok(());
    };
    match poll_fn(|context| stream.poll_event(context)).await {
        LlmEvent::Failed(failure) => Err(failure.reason),
        LlmEvent::Delta { .. } | LlmEvent::ToolCall(_) | LlmEvent::Done { .. } => Ok(()),
    }
}

async fn tts(backend: &Backend) -> Result<(), String> {
    let Backend::Tts(backend) = backend else { return Ok(()) };
    let request = TtsRequest {
        text: Pii::from(SENTENCE),
        voice: None,
        language: None,
    };
    let Some(mut stream) = opened(backend.synthesize(request))? else {
        return Ok(());
    };
    let mut sound = false;
    loop {
        match poll_fn(|context| stream.poll_event(context)).await {
            TtsEvent::Audio { pcm, .. } => sound |= pcm.iter().any(|sample| *sample != 0),
            TtsEvent::Words(_) => {}
            TtsEvent::Done if sound => return Ok(()),
            TtsEvent::Done => return Err(format!("it made nothing but silence of {SENTENCE:?}")),
            TtsEvent::Failed(failure) => return Err(failure.reason),
        }
    }
}
