//! The files that make up a model, and what the library is told of them.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use repartee_worker_shell::Models;
use repartee_worker_shell::protocol::{Load, LoadFailed, code};
use sherpa_onnx::OfflineTtsConfig;

use super::files::{self, Table, joined, list, named, path_text, refuse, required, tokens};
use super::front::Front;
use super::model::{self, Kind, Model};
use super::name_of;
use super::settings::Settings;
use super::voices::Voice;

/// The files of a model, found and checked.
pub(crate) struct Parts {
    file: PathBuf,
    tokens: PathBuf,
    styles: Option<PathBuf>,
    vocoder: Option<PathBuf>,
    pub(crate) lexicon: Option<String>,
    rules: Option<String>,
    /// Whether the lexicon is of the older form.
    is_old_lexicon: bool,
    /// What is loaded, in bytes.
    pub(crate) bytes: u64,
}

impl Parts {
    /// Finds them.
    ///
    /// # Errors
    /// With the file, the cause and the remedy.
    pub(crate) fn gather(request: &Load, root: &Models, model: &Model) -> Result<Self, LoadFailed> {
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
            is_old_lexicon: is_old(&lexicons),
        })
    }

    /// Leaves out the lexicon where no voice is given its text by it: with one of the older form the library takes no phonemes, and any
    /// takes time to read.
    pub(crate) fn without_needless(&mut self, voices: &[Voice]) {
        if voices.iter().all(|voice| voice.front != Front::Text) {
            self.lexicon = None;
            self.rules = None;
        }
    }

    /// Reads the table of tokens as the library will, and gives those of one character.
    ///
    /// # Errors
    /// With what the library would stumble over.
    pub(crate) fn alphabet(&self, model: &Model) -> Result<HashSet<char>, LoadFailed> {
        let by_old_lexicon = self.lexicon.is_some() && self.is_old_lexicon;
        let (table, needs): (_, &[char]) = match model.kind {
            Kind::VitsLetters => (Table::Characters, &[]),
            Kind::VitsPhonemes if by_old_lexicon => (Table::Words, &model.lexicon_needs),
            Kind::VitsPhonemes => (Table::Characters, &model.needs),
            _ => (Table::Words, &model.needs),
        };
        let alphabet = tokens(&self.tokens, table)?;
        match needs.iter().find(|token| !alphabet.contains(token)) {
            None => Ok(alphabet),
            Some(token) => {
                let name = name_of(&self.tokens);
                let reason = format!("{name} has no token {token:?}: it belongs to another model");
                Err(refuse(code::INVALID, &self.tokens, reason))
            }
        }
    }

    /// What the library is told.
    pub(crate) fn library(&self, model: &Model, settings: &Settings, threads: u32) -> OfflineTtsConfig {
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
pub(crate) fn lexicons(folder: &Path, model: &Model) -> Vec<PathBuf> {
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
