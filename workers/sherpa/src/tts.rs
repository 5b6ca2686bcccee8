//! Text to speech: Piper and other VITS voices, MeloTTS, Kokoro, Matcha, Kitten.
//!
//! A load finds the model and its kind ([`model`]), checks its files ([`files`]), makes what is missing of a raw Piper voice ([`piper`],
//! [`cache`]), decides how each voice is given its text ([`front`], [`espeak`]), and warms the library up. A stream's text is cut
//! into pieces ([`text`]), which are spoken in turns ([`speaker`]) and leave as PCM with estimated times of their words
//! ([`speech`]).

mod cache;
mod espeak;
mod files;
mod front;
mod model;
mod piper;
mod speaker;
mod speech;
mod synthesiser;
mod text;
mod voices;

use std::cell::Cell;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Instant;

use repartee_worker_shell::protocol::{Load, LoadFailed, ModelInfo, code};
use repartee_worker_shell::{Loaded, Models, Options, Service, require_memory, threads};
use serde_json::Value;
use sherpa_onnx::{OfflineTts, OfflineTtsConfig};

use files::{Table, joined, list, named, path_text, refuse, required, tokens};
use front::{Dialect, Front, Phonemizer};
use model::{Kind, Model};
use speaker::Speakers;
use synthesiser::{Manner, Synthesiser};
use voices::{Voice, Voices};

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
struct Settings {
    /// `speaker`: the default voice, a name or a number; else the model's first.
    speaker: Option<String>,
    /// `speed`: of streams that ask for none, 0.5 to 2; 1 is the voice's own.
    speed: f32,
    /// `length_scale`: how much longer everything takes, 0.25 to 4; else the JSON's, else 1.
    length_scale: Option<f32>,
    /// `noise_scale`: how much the voice varies (VITS, Matcha), 0 to 2; else the JSON's, else 0.667 and 1.
    noise_scale: Option<f32>,
    /// `noise_scale_w`: how much its durations vary (VITS), 0 to 2; else the JSON's, else 0.8.
    noise_scale_w: Option<f32>,
    /// `silence_scale`: how much longer pauses of more than 0.2 s are, 0.01 to 10; 1 leaves them.
    silence_scale: f32,
    /// `frontend`: whether `espeak` or the `lexicon` beside the model makes the phonemes; else espeak-ng where it is installed.
    frontend: Option<Frontend>,
    /// `language`: the voice of espeak-ng, such as `en-gb`; else the model's.
    language: Option<String>,
    /// `espeak_data`: a folder below the models root with espeak-ng's data; else its own.
    espeak_data: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Frontend {
    Espeak,
    Lexicon,
}

impl Settings {
    fn read(request: &Load, root: &Models) -> Result<Self, LoadFailed> {
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
    let config = Parts::gather(request, root, &model)?;
    let bytes = config.bytes.saturating_mul(2).saturating_add(BESIDE);
    require_memory(bytes, &name_of(&model.file))?;
    let fronts = Fronts {
        settings: &settings,
        model: &model,
        has_lexicon: config.lexicon.is_some(),
    };
    let mut voices = Voices::new(fronts.voices()?);
    if let Some(speaker) = &settings.speaker {
        voices
            .set_default(speaker)
            .map_err(|reason| LoadFailed::new(code::INVALID, reason))?;
    }
    let (dialect, longest) = match model.kind {
        Kind::Kokoro { version, lengths } => {
            let dialect = if version >= 2 { Dialect::Kokoro } else { Dialect::Espeak };
            // Pad on both sides, and one less than there are styles.
            (dialect, (lengths as usize).saturating_sub(3))
        }
        _ => (Dialect::Espeak, front::LONGEST),
    };
    let mut phonemizer = Phonemizer::new(config.alphabet.clone(), dialect, longest, settings.espeak_data.clone());
    if let Some(Front::Espeak(name)) = voices.get(voices.default()).map(|voice| &voice.front) {
        phonemizer
            .prepare(name)
            .map_err(|reason| LoadFailed::new(code::MISSING, reason).about("espeak-ng"))?;
    }
    let piper = model.piper.as_ref();
    let length_scale = settings.length_scale.or(piper.and_then(|piper| piper.length_scale));
    let library =
        OfflineTts::create(&config.library(&model, &settings, threads(request.threads))).ok_or_else(|| {
            let name = name_of(&model.file);
            let reason = format!(
                "sherpa-onnx can't load {name} as a {} voice; its own message is above",
                model.kind.name()
            );
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

/// The files of a model, found and checked.
struct Parts {
    file: PathBuf,
    tokens: PathBuf,
    styles: Option<PathBuf>,
    vocoder: Option<PathBuf>,
    lexicon: Option<String>,
    rules: Option<String>,
    /// Tokens of one character.
    alphabet: HashSet<char>,
    /// What is loaded, in bytes.
    bytes: u64,
}

impl Parts {
    fn gather(request: &Load, root: &Models, model: &Model) -> Result<Self, LoadFailed> {
        let folder = &model.folder;
        let lexicons = match named(request, root, "lexicon")? {
            Some(path) => vec![path],
            None => lexicons(folder, model),
        };
        let needs_lexicon = matches!(model.kind, Kind::VitsLexicon | Kind::Matcha { lexicon: true, .. });
        if needs_lexicon && lexicons.is_empty() {
            let what = "without which this model has no pronunciation of any word";
            required(request, root, folder, "lexicon", "lexicon.txt", what)?;
        }
        let own =
            named(request, root, "tokens")?.or_else(|| Some(folder.join("tokens.txt")).filter(|path| path.is_file()));
        let (file, tokens_file) = match (&model.piper, own) {
            (Some(piper), own) if model.is_raw || own.is_none() => piper.convert(&model.file, model.is_raw)?,
            (_, Some(own)) => (model.file.clone(), own),
            (_, None) => {
                let what = "and without it nothing can be made of a text";
                (
                    model.file.clone(),
                    required(request, root, folder, "tokens", "tokens.txt", what)?,
                )
            }
        };
        let is_vits_lexicon = model.kind == Kind::VitsLexicon || model.kind == Kind::VitsPhonemes && is_old(&lexicons);
        let table = match model.kind {
            Kind::VitsPhonemes | Kind::VitsLetters if !is_vits_lexicon => Table::Characters,
            _ => Table::Words,
        };
        let alphabet = tokens(&tokens_file, table)?;
        if model.kind == Kind::VitsPhonemes && !alphabet.contains(&'_') && !alphabet.contains(&',') {
            let reason = format!(
                "{} has neither a _ nor a , in it: it belongs to another model",
                name_of(&tokens_file)
            );
            return Err(refuse(code::INVALID, &tokens_file, reason));
        }
        let styles = match model.kind {
            Kind::Kokoro { .. } | Kind::Kitten => {
                let what = "which holds the styles of its speakers";
                let path = required(request, root, folder, "voices", "voices.bin", what)?;
                files::require_styles(&path, model.styles)?;
                Some(path)
            }
            _ => None,
        };
        let vocoder = match model.kind {
            Kind::Matcha { vocoder: true, .. } => Some(vocoder(request, root, model)?),
            _ => None,
        };
        // Numbers and dates are written out by rules that are made for the lexicon they come with.
        let rules: Vec<PathBuf> = list(folder)
            .into_iter()
            .filter(|file| files::has_extension(file, "fst"))
            .collect();
        let size = |path: &PathBuf| std::fs::metadata(path).map_or(0, |metadata| metadata.len());
        let loaded = [Some(&file), styles.as_ref(), vocoder.as_ref()];
        Ok(Self {
            bytes: loaded.into_iter().flatten().map(size).sum(),
            lexicon: joined(&lexicons)?,
            rules: if lexicons.is_empty() { None } else { joined(&rules)? },
            file,
            tokens: tokens_file,
            styles,
            vocoder,
            alphabet,
        })
    }

    /// What the library is told.
    fn library(&self, model: &Model, settings: &Settings, threads: u32) -> OfflineTtsConfig {
        let text = |path: &Path| path_text(path).ok();
        let piper = model.piper.as_ref();
        let noise_scale = settings.noise_scale.or(piper.and_then(|piper| piper.noise_scale));
        let noise_scale_w = settings.noise_scale_w.or(piper.and_then(|piper| piper.noise_scale_w));
        let mut config = OfflineTtsConfig {
            // One sentence at a time: the first leaves before the second is computed.
            max_num_sentences: 1,
            silence_scale: settings.silence_scale,
            rule_fsts: self.rules.clone(),
            ..OfflineTtsConfig::default()
        };
        let file = text(&self.file);
        let tokens = text(&self.tokens);
        let lexicon = self.lexicon.clone();
        config.model.num_threads = i32::try_from(threads).unwrap_or(1);
        config.model.provider = Some("cpu".into());
        match model.kind {
            Kind::VitsPhonemes | Kind::VitsLetters | Kind::VitsLexicon => {
                let vits = &mut config.model.vits;
                vits.model = file;
                vits.tokens = tokens;
                vits.lexicon = lexicon;
                vits.noise_scale = noise_scale.unwrap_or(vits.noise_scale);
                vits.noise_scale_w = noise_scale_w.unwrap_or(vits.noise_scale_w);
            }
            Kind::Matcha { .. } => {
                let matcha = &mut config.model.matcha;
                matcha.acoustic_model = file;
                matcha.tokens = tokens;
                matcha.lexicon = lexicon;
                matcha.vocoder = self.vocoder.as_deref().and_then(text);
                matcha.noise_scale = noise_scale.unwrap_or(matcha.noise_scale);
            }
            Kind::Kokoro { .. } => {
                let kokoro = &mut config.model.kokoro;
                kokoro.model = file;
                kokoro.tokens = tokens;
                kokoro.lexicon = lexicon;
                kokoro.voices = self.styles.as_deref().and_then(text);
            }
            Kind::Kitten => {
                let kitten = &mut config.model.kitten;
                kitten.model = file;
                kitten.tokens = tokens;
                kitten.lexicon = lexicon;
                kitten.voices = self.styles.as_deref().and_then(text);
            }
        }
        config
    }
}

/// The lexicons beside a model. VITS takes one; of those of several languages that Kokoro brings, British English is left out, because
/// it has the same words as American.
fn lexicons(folder: &Path, model: &Model) -> Vec<PathBuf> {
    let one = folder.join("lexicon.txt");
    if one.is_file() {
        return vec![one];
    }
    let is_vits = matches!(model.kind, Kind::VitsPhonemes | Kind::VitsLetters | Kind::VitsLexicon);
    let all: Vec<PathBuf> = list(folder)
        .into_iter()
        .filter(|file| {
            let name = name_of(file);
            name.starts_with("lexicon") && name.ends_with(".txt") && !name.contains("-gb-")
        })
        .collect();
    if is_vits {
        all.into_iter().take(1).collect()
    } else {
        all
    }
}

/// Whether a lexicon is of the older form, `word p1 p2`, for which the library has another reader, of tokens too.
fn is_old(lexicons: &[PathBuf]) -> bool {
    use std::io::{BufRead, BufReader};
    let Some(file) = lexicons.first().and_then(|path| std::fs::File::open(path).ok()) else {
        return false;
    };
    let mut lines = BufReader::new(file).lines().map_while(Result::ok);
    let first = lines.find(|line| !line.is_empty() && !line.starts_with('#'));
    first.is_some_and(|line| !line.contains("||"))
}

/// The vocoder: the one that the load names, else one beside the model, else one beside its folder.
fn vocoder(request: &Load, root: &Models, model: &Model) -> Result<PathBuf, LoadFailed> {
    // Of several, one of Vocos: it takes a tenth of HiFi-GAN's time.
    let beside = |folder: &Path| {
        let mut found = list(folder);
        found.retain(|file| files::has_extension(file, "onnx") && model::is_vocoder_name(file));
        found.sort_by_key(|file| !name_of(file).contains("vocos"));
        found.into_iter().next()
    };
    let found = named(request, root, "vocoder")?
        .or_else(|| beside(&model.folder))
        .or_else(|| model.folder.parent().and_then(beside));
    let Some(path) = found else {
        let reason = format!(
            "Matcha needs a vocoder, and there is none (vocos*.onnx, hifigan*.onnx) beside {}; put the one for {} Hz there, \
             or name it as files.vocoder",
            name_of(&model.file),
            model.rate
        );
        return Err(refuse(code::MISSING, &model.file, reason));
    };
    let onnx = files::onnx(&path)?;
    let get = |key: &str| onnx.metadata.get(key).map(String::as_str);
    if !matches!(get("model_type"), Some("hifigan" | "vocos" | "matcha-tts vocos")) {
        let reason = format!(
            "{} isn't a vocoder that sherpa-onnx knows (vocos, hifigan)",
            name_of(&path)
        );
        return Err(refuse(code::INVALID, &path, reason));
    }
    match get("sample_rate").and_then(|rate| rate.parse::<u32>().ok()) {
        Some(rate) if rate != model.rate => {
            let reason = format!("{} is for {rate} Hz, the model for {} Hz", name_of(&path), model.rate);
            Err(refuse(code::INVALID, &path, reason))
        }
        _ => Ok(path),
    }
}

/// Decides how each voice is given its text.
struct Fronts<'a> {
    settings: &'a Settings,
    model: &'a Model,
    has_lexicon: bool,
}

impl Fronts<'_> {
    fn voices(&self) -> Result<Vec<Voice>, LoadFailed> {
        let espeak_is_there = espeak::is_there();
        let mut problem = None;
        let mut all = Vec::new();
        for speaker in 0..self.model.speakers {
            let name = self.model.names.get(&speaker).cloned();
            let of_kokoro = match self.model.kind {
                Kind::Kokoro { .. } => name.as_deref().and_then(voices::of_kokoro),
                _ => None,
            };
            let espeak = self.settings.language.as_deref();
            let espeak = espeak
                .or(of_kokoro.map(|(_, espeak)| espeak))
                .or(self.model.espeak.as_deref());
            let language = match (of_kokoro, &self.settings.language) {
                (Some((tag, _)), _) => Some(tag.to_owned()),
                (None, Some(language)) => voices::tag(language),
                (None, None) => self
                    .model
                    .espeak
                    .as_deref()
                    .and_then(voices::tag)
                    .or_else(|| self.model.language.as_deref().and_then(voices::tag)),
            };
            match self.front(espeak, espeak_is_there) {
                Ok(front) => all.push(Voice {
                    speaker,
                    name,
                    language,
                    front,
                }),
                Err(reason) => {
                    problem.get_or_insert(reason);
                }
            }
        }
        match problem {
            Some(reason) if all.is_empty() => Err(refuse(code::MISSING, &self.model.file, reason)),
            _ => Ok(all),
        }
    }

    fn front(&self, espeak: Option<&str>, espeak_is_there: bool) -> Result<Front, String> {
        let name = name_of(&self.model.file);
        match (&self.model.kind, &self.model.piper) {
            (Kind::VitsLetters | Kind::VitsLexicon | Kind::Matcha { lexicon: true, .. }, _) => return Ok(Front::Text),
            (_, Some(piper)) if piper.alphabet == piper::Alphabet::Letters => return Ok(Front::Letters),
            _ => {}
        }
        // Kokoro's Chinese and Japanese aren't espeak-ng's phonemes.
        let is_own = matches!(self.model.kind, Kind::Kokoro { .. }) && matches!(espeak, Some("cmn" | "ja"));
        let by_espeak = espeak.filter(|_| !is_own);
        let wants = self.settings.frontend;
        if wants != Some(Frontend::Lexicon)
            && let Some(voice) = by_espeak
            && (espeak_is_there || wants == Some(Frontend::Espeak) || !self.has_lexicon)
        {
            return Ok(Front::Espeak(voice.to_owned()));
        }
        let is_japanese = is_own && espeak == Some("ja");
        if self.has_lexicon && !is_japanese && wants != Some(Frontend::Espeak) {
            return Ok(Front::Text);
        }
        Err(match wants {
            Some(Frontend::Lexicon) => {
                format!("there is no lexicon.txt beside {name}, which the option \"frontend\" asks for")
            }
            _ => format!(
                "{name} doesn't say whose phonemes it speaks: set the option \"language\" (en-us), or put a lexicon.txt beside it"
            ),
        })
    }
}
