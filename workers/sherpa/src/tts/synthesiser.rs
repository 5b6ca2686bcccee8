//! A loaded model that speaks.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use repartee_worker_shell::Failure;
use repartee_worker_shell::protocol::code;
use rustix::fd::OwnedFd;
use sherpa_onnx::{GenerationConfig, OfflineTts};

use super::front::{Front, Phonemizer};
use super::voices::Voices;

/// Some models of the library's cut and merge sentences again by their own rules. Pieces are cut here, so they are told to leave them whole:
/// these are more words than a piece has.
const WHOLE: u32 = 10_000;

/// How a model speaks unless a stream asks for something else.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Manner {
    /// The speed, 1.0 is the voice's own.
    pub(crate) speed: f32,
    /// How much longer everything takes than the model would.
    pub(crate) length_scale: f32,
    /// How much longer pauses of more than 0.2 s are.
    pub(crate) silence_scale: f32,
}

/// A model with what it needs to be given a text.
pub(crate) struct Synthesiser {
    pub(crate) library: OfflineTts,
    pub(crate) voices: Voices,
    pub(crate) phonemizer: Phonemizer,
    pub(crate) manner: Manner,
    pub(crate) rate: u32,
}

impl Synthesiser {
    /// The rate of its audio in Hz.
    pub(crate) fn rate(&self) -> u32 {
        self.rate
    }

    /// The speed of a stream that asks for none.
    pub(crate) fn speed(&self) -> f32 {
        self.manner.speed
    }

    /// The voice that a stream asks for.
    ///
    /// # Errors
    /// With the voices that there are.
    pub(crate) fn voice(&self, name: Option<&str>, language: Option<&str>) -> Result<usize, String> {
        self.voices.find(name, language)
    }

    /// Speaks one piece. `heard` is given chunks of samples and how much of the piece they complete; it stops the library by false. A
    /// piece without anything that the model can say makes no sound.
    ///
    /// # Errors
    /// When the phonemizer fails.
    pub(crate) fn speak(
        &mut self,
        voice: usize,
        speed: f32,
        text: &str,
        heard: impl FnMut(&[f32], f32) -> bool + 'static,
    ) -> Result<(), Failure> {
        let Some(voice) = self.voices.get(voice) else {
            return Err(Failure::new(code::INTERNAL, "a voice that isn't there"));
        };
        let mut config = GenerationConfig {
            silence_scale: self.manner.silence_scale,
            // The library takes either a speed or a scale; here it's always the speed.
            speed: speed / self.manner.length_scale,
            sid: i32::try_from(voice.speaker).unwrap_or_default(),
            ..GenerationConfig::default()
        };
        let whole = ["min_words_in_sentence", "max_words_in_sentence"];
        config.extra = Some(whole.map(|name| (name.to_owned(), WHOLE.into())).into());
        let heard = Rc::new(RefCell::new(heard));
        let has_called = Rc::new(Cell::new(false));
        let (ears, calls) = (Rc::clone(&heard), Rc::clone(&has_called));
        let callback = move |samples: &[f32], progress: f32| {
            calls.set(true);
            (ears.borrow_mut())(samples, progress)
        };
        let phonemes = match &voice.front {
            Front::Espeak(name) => Some(self.phonemizer.espeak(name, text)?),
            Front::Letters => Some(self.phonemizer.letters(text)),
            Front::Text => None,
        };
        let audio = match phonemes {
            // An empty list would have the library read the text.
            Some(phonemes) if phonemes.is_empty() => None,
            Some(phonemes) => {
                config.phoneme_codepoints = Some(phonemes);
                self.library.generate_with_config("", &config, Some(callback))
            }
            None => {
                let _hush = Hush::begin();
                // The crate panics over a null character.
                self.library
                    .generate_with_config(&text.replace('\0', " "), &config, Some(callback))
            }
        };
        // Kitten never calls back.
        if let Some(audio) = audio.filter(|_| !has_called.get()) {
            (heard.borrow_mut())(audio.samples(), 1.0);
        }
        Ok(())
    }
}

/// While it lives, nothing is written to the error output: the library writes every word there that isn't in its lexicon.
struct Hush(Option<OwnedFd>);

impl Hush {
    fn begin() -> Self {
        let silence = || {
            let kept = rustix::io::dup(rustix::stdio::stderr()).ok()?;
            let nothing = std::fs::OpenOptions::new().write(true).open("/dev/null").ok()?;
            rustix::stdio::dup2_stderr(&nothing).ok()?;
            Some(kept)
        };
        Self(silence())
    }
}

impl Drop for Hush {
    fn drop(&mut self) {
        if let Some(kept) = &self.0 {
            // There's nobody left to be told.
            let _ = rustix::stdio::dup2_stderr(kept);
        }
    }
}
