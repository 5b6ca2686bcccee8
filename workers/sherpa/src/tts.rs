//! Text to speech: Piper and other VITS voices, MeloTTS, Kokoro, Matcha, Kitten.
//!
//! A load reads its options ([`settings`]), finds the model and its kind ([`model`]), gathers and checks its files ([`parts`],
//! [`files`]), makes what is missing of a raw Piper voice ([`piper`], [`cache`]), decides how each voice is given its text
//! ([`fronts`], [`front`], [`espeak`]), and warms the library up. A stream's text is cut
//! into pieces ([`text`]), which are spoken in turns ([`speaker`]) and leave as PCM with estimated times of their words
//! ([`speech`]).

mod cache;
mod dialect;
mod espeak;
mod files;
mod front;
mod fronts;
mod known;
mod model;
mod parts;
mod piper;
mod settings;
mod speaker;
mod speech;
mod synthesiser;
mod text;
mod voices;

use std::cell::Cell;
use std::path::Path;
use std::rc::Rc;
use std::time::Instant;

use repartee_worker_shell::protocol::{Load, LoadFailed, ModelInfo, code};
use repartee_worker_shell::{Loaded, Models, Service, require_memory, threads};
use sherpa_onnx::OfflineTts;

use self::dialect::Dialect;
use self::files::refuse;
use self::front::{Front, Phonemizer};
use self::fronts::Fronts;
pub(crate) use self::known::known;
use self::model::{Kind, Model};
use self::parts::Parts;
use self::settings::Settings;
use self::speaker::Speakers;
use self::synthesiser::{Manner, Synthesiser};
use self::voices::Voices;
use crate::library;

/// How many responses may be spoken at once, in turns.
const STREAMS: u32 = 32;
/// How many more may wait.
const WAITING: u32 = 32;

/// Texts that the engine may send ahead on each stream, in bytes.
const CREDIT: u64 = 32 * 1024;

/// What the library takes beside the model, in bytes: onnxruntime, its arena for the activations of a sentence, tables.
const BESIDE: u64 = 150 << 20;

/// What is said first, to nobody, in a language of the model's.
const WARM_UP: [&str; 2] = ["Hello, one two three.", "你好。"];

/// The last component of a path, for messages.
fn name_of(path: &Path) -> String {
    path.file_name().map_or_else(
        || path.display().to_string(),
        |name| name.to_string_lossy().into_owned(),
    )
}

/// Loads a synthesiser.
///
/// # Errors
/// With the file, the cause and the remedy.
pub(crate) fn load(request: &Load, root: &Models) -> Result<Loaded, LoadFailed> {
    let settings = Settings::read(request, root)?;
    let model = model::find(request, root)?;
    let mut config = Parts::gather(request, root, &model)?;
    let bytes = config.bytes.saturating_mul(2).saturating_add(BESIDE);
    require_memory(bytes, &name_of(&model.file))?;
    let fronts = Fronts {
        settings: &settings,
        model: &model,
        has_lexicon: config.lexicon.is_some(),
    };
    let voices = fronts.voices()?;
    config.without_needless(&voices);
    let alphabet = config.alphabet(&model)?;
    let mut voices = Voices::new(voices);
    if let Some(speaker) = &settings.speaker {
        voices
            .set_default(speaker)
            .map_err(|reason| LoadFailed::new(code::INVALID, reason))?;
    }
    let (dialect, longest) = match model.kind {
        Kind::Kokoro { version, lengths } => {
            let dialect = if version >= 2 {
                Dialect::Kokoro
            } else {
                Dialect::EarlyKokoro
            };
            // Pad on both sides, and one less than there are styles.
            (dialect, (lengths as usize).saturating_sub(3))
        }
        _ => (Dialect::Espeak, front::LONGEST),
    };
    let mut phonemizer = Phonemizer::new(alphabet, dialect, longest, settings.espeak_data.clone());
    if let Some(Front::Espeak(name)) = voices.get(voices.default()).map(|voice| &voice.front) {
        phonemizer
            .prepare(name)
            .map_err(|reason| LoadFailed::new(code::MISSING, reason).about("espeak-ng"))?;
    }
    let piper = model.piper.as_ref();
    let length_scale = settings.length_scale.or(piper.and_then(|piper| piper.length_scale));
    let plan = config.library(&model, &settings, threads(request.threads));
    let library = OfflineTts::create(&plan).ok_or_else(|| {
        let words = library::words_of(|| OfflineTts::create(&plan));
        let (name, kind) = (name_of(&model.file), model.kind.name());
        let reason = format!("sherpa-onnx makes nothing of {name} as a {kind} voice: {words}");
        refuse(code::INVALID, &model.file, reason)
    })?;
    let mut synthesiser = Synthesiser {
        rate: u32::try_from(library.sample_rate()).unwrap_or(model.rate),
        library,
        voices,
        phonemizer,
        manner: Manner {
            speed: settings.speed,
            length_scale: length_scale.unwrap_or(1.0),
            silence_scale: settings.silence_scale,
        },
    };
    let began = Instant::now();
    warm_up(&mut synthesiser, &model)?;
    let warmup = began.elapsed();
    let info = ModelInfo {
        name: request.model.clone(),
        rate: synthesiser.rate,
        languages: synthesiser.voices.languages(),
        voices: synthesiser.voices.infos(synthesiser.rate),
        max_streams: STREAMS,
        max_waiting: WAITING,
        streaming: true,
        max_input: speaker::LONGEST as u32,
        synthetic: model.synthetic,
        ..ModelInfo::default()
    };
    let service = Service::Batch(Box::new(Speakers::new(synthesiser)));
    Ok(Loaded::on_cpu(info, warmup, CREDIT, service))
}

/// Has something said. A model that says nothing at all isn't used.
fn warm_up(synthesiser: &mut Synthesiser, model: &Model) -> Result<(), LoadFailed> {
    let default = synthesiser.voices.default();
    for text in WARM_UP {
        let samples = Rc::new(Cell::new(0_usize));
        let heard = Rc::clone(&samples);
        let spoken = synthesiser.speak(default, 1.0, text, move |chunk, _| {
            heard.set(heard.get() + chunk.len());
            true
        });
        spoken.map_err(|failure| refuse(failure.code, &model.file, failure.message))?;
        if samples.get() > 0 {
            return Ok(());
        }
    }
    let reason = format!(
        "{} said nothing: neither an English nor a Chinese sentence has anything in it that its tokens or its lexicon \
         know; its tokens.txt or lexicon.txt may belong to another model",
        name_of(&model.file)
    );
    Err(refuse(code::INVALID, &model.file, reason))
}
