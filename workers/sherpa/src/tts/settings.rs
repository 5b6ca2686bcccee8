//! The options of a load.

use std::path::PathBuf;

use repartee_worker_shell::protocol::{Load, LoadFailed, code};
use repartee_worker_shell::{Models, Options};
use serde_json::Value;

use super::espeak;

/// The options of a load; each is described in [`Settings`].
const OPTIONS: [&str; 9] = [
    "speaker",
    "speed",
    "length_scale",
    "noise_scale",
    "noise_scale_w",
    "silence_scale",
    "frontend",
    "language",
    "espeak_data",
];

/// What the options say.
#[derive(Debug)]
pub(crate) struct Settings {
    /// `speaker`: the default voice, a name or a number; else the model's first.
    pub(crate) speaker: Option<String>,
    /// `speed`: of streams that ask for none, 0.5 to 2; 1 is the voice's own.
    pub(crate) speed: f32,
    /// `length_scale`: how much longer everything takes, 0.25 to 4; else the JSON's, else 1.
    pub(crate) length_scale: Option<f32>,
    /// `noise_scale`: how much the voice varies (VITS, Matcha), 0 to 2; else the JSON's, else 0.667 and 1.
    pub(crate) noise_scale: Option<f32>,
    /// `noise_scale_w`: how much its durations vary (VITS), 0 to 2; else the JSON's, else 0.8.
    pub(crate) noise_scale_w: Option<f32>,
    /// `silence_scale`: how much longer pauses of more than 0.2 s are, 0.01 to 10; 1 leaves them.
    pub(crate) silence_scale: f32,
    /// `frontend`: whether `espeak` or the `lexicon` beside the model makes the phonemes; else espeak-ng where it is installed.
    pub(crate) frontend: Option<Frontend>,
    /// `language`: the voice of espeak-ng, such as `en-gb`; else the model's.
    pub(crate) language: Option<String>,
    /// `espeak_data`: a folder below the models root with espeak-ng's data; else its own.
    pub(crate) espeak_data: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
/// What makes the phonemes.
pub(crate) enum Frontend {
    Espeak,
    Lexicon,
}

impl Settings {
    /// Reads them.
    ///
    /// # Errors
    /// With the first that is wrong.
    pub(crate) fn read(request: &Load, root: &Models) -> Result<Self, LoadFailed> {
        let options = Options::of(request, &OPTIONS)?;
        #[expect(clippy::cast_possible_truncation, reason = "the library computes in f32")]
        let number = |name: &str, range| Ok::<_, LoadFailed>(options.number(name, range)?.map(|number| number as f32));
        let speaker = match request.options.get("speaker") {
            Some(Value::Number(speaker)) => Some(speaker.to_string()),
            _ => options.text("speaker")?.map(str::to_owned),
        };
        let frontend = match options.text("frontend")? {
            None => None,
            Some("espeak") => Some(Frontend::Espeak),
            Some("lexicon") => Some(Frontend::Lexicon),
            Some(_) => {
                let reason = "the option \"frontend\" has to be espeak or lexicon";
                return Err(LoadFailed::new(code::INVALID, reason));
            }
        };
        let language = options.text("language")?.map(str::to_owned);
        if language.as_deref().is_some_and(|language| !espeak::is_voice(language)) {
            let reason = "the option \"language\" has to be the name of a voice of espeak-ng, such as en-gb";
            return Err(LoadFailed::new(code::INVALID, reason));
        }
        Ok(Self {
            speaker,
            speed: number("speed", 0.5..=2.0)?.unwrap_or(1.0),
            length_scale: number("length_scale", 0.25..=4.0)?,
            noise_scale: number("noise_scale", 0.0..=2.0)?,
            noise_scale_w: number("noise_scale_w", 0.0..=2.0)?,
            silence_scale: number("silence_scale", 0.01..=10.0)?.unwrap_or(1.0),
            frontend,
            language,
            espeak_data: options
                .text("espeak_data")?
                .map(|path| root.resolve(path))
                .transpose()?,
        })
    }
}
