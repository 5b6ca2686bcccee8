//! A recogniser of one's own behind the trait: it "recognises" how loud somebody spoke.
//!
//! ```text
//! cargo run --example custom_backend
//! ```
//!
//! The rest of the engine is real, but for the scripted voice and detector (see `backend::fake`), so no model is needed.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use repartee::audio::SampleRate;
use repartee::audio::frame::rms_dbfs;
use repartee::backend::fake::{ScriptedLlm, ScriptedTts, ScriptedVad};
use repartee::backend::{Backend, Capabilities, OpenError, Push, SttBackend, SttRequest, SttStream};
use repartee::call::{BackendKind, Event, Settings, SttEvent};
use repartee::engine::{Engine, EngineOptions, WireProfile};
use repartee::metrics::Metrics;
use repartee::registry::Registry;

/// The backend: what all its streams share, and what it says about itself.
struct Loudness {
    capabilities: Capabilities,
}

impl SttBackend for Loudness {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn open(&self, _: SttRequest) -> Result<Box<dyn SttStream>, OpenError> {
        Ok(Box::new(Utterance {
            samples: Vec::new(),
            finished: false,
            waker: None,
        }))
    }
}

/// One utterance. A real one would hand its audio to a thread; see `provider::worker`.
struct Utterance {
    samples: Vec<i16>,
    finished: bool,
    waker: Option<Waker>,
}

impl SttStream for Utterance {
    fn push(&mut self, pcm: &[i16]) -> Push {
        // The engine never pushes more than a turn's hard limit, so this is bounded.
        self.samples.extend_from_slice(pcm);
        Push::Taken
    }

    fn finish(&mut self) {
        self.finished = true;
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn poll_event(&mut self, context: &mut Context<'_>) -> Poll<SttEvent> {
        if !self.finished {
            self.waker = Some(context.waker().clone());
            return Poll::Pending;
        }
        let level = rms_dbfs(&self.samples);
        let word = if level > -15.0 { "shouted" } else { "spoke softly" };
        Poll::Ready(SttEvent::Final {
            text: format!("somebody {word}").into(),
        })
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let registry = Arc::new(Registry::default());
    let capabilities = Capabilities::new(BackendKind::Stt, "loudness", "none", registry.next_generation());
    registry.install(Backend::Stt(Arc::new(Loudness { capabilities })));
    registry.install(Backend::Vad(Arc::new(ScriptedVad::default())));
    registry.install(Backend::Llm(Arc::new(ScriptedLlm::echo())));
    registry.install(Backend::Tts(Arc::new(ScriptedTts::default())));
    registry.mark_missing(BackendKind::Turn, "not needed here".to_owned());

    let engine = Engine::new(EngineOptions::default(), registry, Arc::new(Metrics::default()));
    for amplitude in [2_000.0, 15_000.0] {
        let mut call = engine.open(Settings::default(), WireProfile::paced(SampleRate::Hz16000))?;
        let mut audio = call.audio;
        let speaking = tokio::spawn(async move {
            let mut frames = tokio::time::interval(Duration::from_millis(20));
            for index in 0..150_u32 {
                frames.tick().await;
                // One second of a tone, and silence.
                let level = if index < 50 { amplitude } else { 0.0 };
                let frame: Vec<i16> = (0..320)
                    .map(|sample| ((f64::from(index * 320 + sample) * 0.2).sin() * level) as i16)
                    .collect();
                if audio.send(&frame).await.is_err() {
                    break;
                }
            }
        });
        while let Some(event) = call.events.recv().await {
            match event {
                Event::Transcript {
                    text, is_final: true, ..
                } => println!("heard:  {}", text.expose()),
                Event::ResponseDone { text, .. } => {
                    println!("reply:  {}", text.expose());
                    break;
                }
                _ => {}
            }
        }
        speaking.abort();
    }
    Ok(())
}
