//! Which model a load means, of which kind it is, and what it says of itself.
//!
//! The kind is read from the metadata of the ONNX file, as the library does it. Everything that the library requires is checked first: it
//! ends the process over whatever is missing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use repartee_worker_shell::Models;
use repartee_worker_shell::protocol::{Load, LoadFailed, code};

use super::files::{has_extension, list, refuse};
use super::{name_of, piper, voices};
use crate::onnx::Onnx;

/// The rates of audio that voices have, in Hz.
const RATES: std::ops::RangeInclusive<u32> = 8000..=48_000;

/// The most speakers of a model.
const SPEAKERS: u32 = 10_000;

/// Metadata that the library reads as numbers where they are there, and ends the process over one below zero.
const NUMBERS: [&str; 16] = [
    "add_blank",
    "add_pad_after_end",
    "blank_id",
    "bos_id",
    "end_id",
    "eos_id",
    "has_espeak",
    "has_g2pw",
    "jieba",
    "max_token_len",
    "num_emotions",
    "pad_id",
    "speaker_id",
    "start_id",
    "use_eos_bos",
    "version",
];

/// What kind of model it is, as far as it matters to how it's loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// VITS that is given phonemes: Piper's, Coqui's, icefall's.
    VitsPhonemes,
    /// VITS whose tokens are letters.
    VitsLetters,
    /// VITS with a lexicon: MeloTTS, and Chinese ones.
    VitsLexicon,
    /// Matcha with a vocoder, or one that brings its own.
    Matcha {
        /// Whether it needs one.
        vocoder: bool,
        /// Whether only a lexicon gives it its tokens (Chinese).
        lexicon: bool,
    },
    /// Kokoro, its version, and for how many tokens it has styles.
    Kokoro {
        /// 1: before 1.0.
        version: u32,
        /// The length of its table of styles.
        lengths: u32,
    },
    /// Kitten.
    Kitten,
}

impl Kind {
    /// What people call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::VitsPhonemes | Self::VitsLetters | Self::VitsLexicon => "VITS",
            Self::Matcha { .. } => "Matcha",
            Self::Kokoro { .. } => "Kokoro",
            Self::Kitten => "Kitten",
        }
    }
}

/// A model as its files describe it.
#[derive(Debug)]
pub(crate) struct Model {
    /// The ONNX file.
    pub(crate) file: PathBuf,
    /// The folder that it and its other files are in.
    pub(crate) folder: PathBuf,
    /// Its kind.
    pub(crate) kind: Kind,
    /// The rate of its audio in Hz.
    pub(crate) rate: u32,
    /// How many speakers it has; at least one.
    pub(crate) speakers: u32,
    /// The names of speakers, by their number.
    pub(crate) names: BTreeMap<u32, String>,
    /// What it speaks, as it calls it.
    pub(crate) language: Option<String>,
    /// The voice of espeak-ng that makes its phonemes.
    pub(crate) espeak: Option<String>,
    /// How many numbers its table of styles has.
    pub(crate) styles: u64,
    /// What its table of tokens has to have for phonemes; the library throws over one that is missing.
    pub(crate) needs: Vec<char>,
    /// What it has to have for a lexicon of the older form.
    pub(crate) lexicon_needs: Vec<char>,
    /// What its JSON says, where it's Piper's.
    pub(crate) piper: Option<piper::Config>,
    /// Whether it lacks what the library needs of it, so that a copy has to be made by the JSON.
    pub(crate) is_raw: bool,
    /// Whether nobody trained it.
    pub(crate) synthetic: bool,
}

/// Finds the model that `request` names: an ONNX file, or a folder with one.
///
/// # Errors
/// With the file, the cause and the remedy.
pub(crate) fn find(request: &Load, root: &Models) -> Result<Model, LoadFailed> {
    let path = root.resolve(&request.model)?;
    let file = if path.is_dir() { in_folder(&path)? } else { path.clone() };
    let folder = file.parent().map(Path::to_path_buf).unwrap_or_default();
    let onnx = super::files::onnx(&file)?;
    let json = match super::files::named(request, root, "config")? {
        Some(json) => Some(json),
        None => piper::json_of(&file),
    };
    let names = [name_of(&file), name_of(&folder)];
    let synthetic = onnx.is_synthetic() || names.iter().any(|name| name.contains("synthetic"));
    let mut model = read(&file, &onnx, json.as_deref())?;
    model.folder = folder;
    model.synthetic = synthetic;
    Ok(model)
}

/// The model in a folder: the only ONNX file that is no vocoder, or the one that is called `model.onnx` or nearly so.
fn in_folder(folder: &Path) -> Result<PathBuf, LoadFailed> {
    let models: Vec<PathBuf> = list(folder)
        .into_iter()
        .filter(|file| has_extension(file, "onnx") && !is_vocoder_name(file))
        .collect();
    let whole = folder.join("model.onnx");
    if models.contains(&whole) {
        return Ok(whole);
    }
    let called = models.iter().filter(|file| name_of(file).starts_with("model"));
    match (models.as_slice(), called.collect::<Vec<_>>().as_slice()) {
        ([only], _) => Ok(only.clone()),
        (_, [only]) => Ok((*only).clone()),
        ([], _) => Err(refuse(
            code::MISSING,
            folder,
            format!("there is no .onnx file with a voice in {}", name_of(folder)),
        )),
        (several, _) => {
            let names: Vec<String> = several.iter().take(5).map(|file| name_of(file)).collect();
            let reason = format!(
                "{} has several models ({}); name one of the files",
                name_of(folder),
                names.join(", ")
            );
            Err(refuse(code::INVALID, folder, reason))
        }
    }
}

/// Whether a file is called as vocoders are.
pub(crate) fn is_vocoder_name(file: &Path) -> bool {
    let name = name_of(file).to_ascii_lowercase();
    ["vocos", "hifigan", "vocoder"].iter().any(|part| name.contains(part))
}

fn read(file: &Path, onnx: &Onnx, json: Option<&Path>) -> Result<Model, LoadFailed> {
    let facts = Facts { file, onnx };
    let get = |key: &str| facts.get(key);
    let kind_name = get("model_type").unwrap_or_default();
    let comment = get("comment").unwrap_or_default();
    let is_known = ["sample_rate", "n_speakers", "language", "comment"]
        .iter()
        .all(|key| get(key).is_some());
    let is_style = get("style_dim").is_some() || matches!(kind_name, "kokoro" | "kitten-tts");
    if kind_name == "matcha-tts" || is_style {
        return facts.model(if is_style { facts.style()? } else { facts.matcha()? }, None);
    }
    if kind_name == "vits" || is_known || kind_name.is_empty() && json.is_some() {
        let raw = !is_known;
        let is_piper = raw || comment.contains("piper");
        let config = match json {
            Some(json) if is_piper => Some(piper::read(json)?),
            None if raw => {
                let name = name_of(file);
                let reason = format!(
                    "{name} has no metadata of sherpa-onnx's, and there is no {name}.json beside it, without which a \
                     Piper voice can't be used; put the one that was published with it there"
                );
                return Err(refuse(code::MISSING, file, reason));
            }
            _ => None,
        };
        if raw && let Some(config) = config {
            facts.require_inputs(3)?;
            return Ok(raw_piper(file, config));
        }
        return facts.model(facts.vits(comment)?, config);
    }
    let name = name_of(file);
    let reason = if json.is_none() && onnx.inputs.iter().any(|input| input == "scales") {
        format!(
            "{name} seems to be a voice of Piper's, but there is no {name}.json beside it; put the one that was published \
             with it there"
        )
    } else {
        format!(
            "{name} isn't a voice that sherpa-onnx knows: its metadata names none of vits, matcha-tts, kokoro and \
             kitten-tts (model_type {kind_name:?})"
        )
    };
    Err(refuse(code::UNSUPPORTED, file, reason))
}

fn raw_piper(file: &Path, config: piper::Config) -> Model {
    Model {
        file: file.to_path_buf(),
        folder: PathBuf::new(),
        kind: Kind::VitsPhonemes,
        rate: config.rate,
        speakers: config.speakers,
        names: config.names.clone(),
        language: config.language.clone(),
        espeak: match &config.alphabet {
            piper::Alphabet::Espeak(voice) => Some(voice.clone()),
            piper::Alphabet::Letters => None,
        },
        styles: 0,
        needs: piper::MARKS.to_vec(),
        lexicon_needs: vec![' '],
        piper: Some(config),
        is_raw: true,
        synthetic: false,
    }
}

/// What a model's file says of itself.
struct Facts<'a> {
    file: &'a Path,
    onnx: &'a Onnx,
}

impl Facts<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.onnx
            .metadata
            .get(key)
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    }

    fn wrong(&self, problem: String) -> LoadFailed {
        let reason = format!(
            "{} {problem}; take the model as it was published for sherpa-onnx",
            name_of(self.file)
        );
        refuse(code::INVALID, self.file, reason)
    }

    fn number(&self, key: &str) -> Result<Option<u32>, LoadFailed> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let number = value
            .trim()
            .parse::<u32>()
            .ok()
            .filter(|number| *number <= i32::MAX as u32);
        let wrong = || self.wrong(format!("has the metadata {key} = {value:?}, which is no number"));
        number.map(Some).ok_or_else(wrong)
    }

    fn required(&self, key: &str) -> Result<u32, LoadFailed> {
        let missing = || self.wrong(format!("has no metadata {key}"));
        self.number(key)?.ok_or_else(missing)
    }

    /// That there are as many inputs as the library gives. There may be more: old files name their weights as inputs.
    fn require_inputs(&self, least: usize) -> Result<(), LoadFailed> {
        if self.onnx.inputs.len() >= least {
            return Ok(());
        }
        let inputs = self.onnx.inputs.join(", ");
        Err(self.wrong(format!(
            "takes only the inputs {inputs}, which aren't those of such a voice"
        )))
    }

    fn vits(&self, comment: &str) -> Result<Kind, LoadFailed> {
        for key in ["language", "comment"] {
            if self.get(key).is_none() {
                return Err(self.wrong(format!("has no metadata {key}")));
            }
        }
        let is = |key: &str| Ok(self.number(key)?.unwrap_or_default() > 0);
        let is_melo = comment.contains("melo");
        let kind = if self.get("frontend") == Some("characters") {
            Kind::VitsLetters
        } else if is_melo || is("jieba")? || is("has_g2pw")? {
            Kind::VitsLexicon
        } else if ["piper", "coqui", "icefall", "Inflect"]
            .iter()
            .any(|maker| comment.contains(maker))
        {
            Kind::VitsPhonemes
        } else {
            Kind::VitsLexicon
        };
        if is_melo && self.number("version")?.unwrap_or_default() < 2 {
            return Err(self.wrong("is a MeloTTS model of before version 2".into()));
        }
        self.require_inputs(3)?;
        Ok(kind)
    }

    fn matcha(&self) -> Result<Kind, LoadFailed> {
        self.required("use_eos_bos")?;
        self.required("pad_id")?;
        self.require_inputs(3)?;
        let is_chinese = self
            .get("language")
            .is_some_and(|language| language.eq_ignore_ascii_case("chinese"))
            || self.get("voice").is_some_and(|voice| voice.starts_with("zh"));
        Ok(Kind::Matcha {
            vocoder: self.onnx.outputs.first().is_none_or(|output| output != "audio_output"),
            lexicon: is_chinese || self.number("jieba")?.unwrap_or_default() > 0,
        })
    }

    /// The size of the table of styles.
    fn dimensions(&self) -> Result<Vec<u32>, LoadFailed> {
        let text = self.get("style_dim").unwrap_or_default();
        let numbers: Result<Vec<u32>, _> = text.split(',').map(|number| number.trim().parse()).collect();
        numbers
            .ok()
            .filter(|numbers| numbers.iter().all(|number| (1..=1 << 16).contains(number)))
            .ok_or_else(|| self.wrong(format!("has the metadata style_dim = {text:?}, which are no sizes")))
    }

    fn style(&self) -> Result<Kind, LoadFailed> {
        self.require_inputs(3)?;
        let sizes = self.dimensions()?;
        let is_kitten = self.get("model_type") == Some("kitten-tts");
        match sizes.as_slice() {
            [_, _] if is_kitten => Ok(Kind::Kitten),
            [lengths, 1, _] if !is_kitten => Ok(Kind::Kokoro {
                version: self.number("version")?.unwrap_or(1),
                lengths: *lengths,
            }),
            _ => Err(self.wrong(format!("has a style_dim of {} sizes", sizes.len()))),
        }
    }

    fn needs(&self, kind: Kind) -> Vec<char> {
        let comment = self.get("comment").unwrap_or_default();
        match kind {
            Kind::VitsPhonemes if comment.contains("coqui") => vec![','],
            Kind::VitsPhonemes if comment.contains("Inflect") => vec!['_'],
            Kind::VitsPhonemes => piper::MARKS.to_vec(),
            Kind::VitsLexicon => self.lexicon_needs(),
            _ => Vec::new(),
        }
    }

    /// Words are parted by a space, and every mark that is named is looked up.
    fn lexicon_needs(&self) -> Vec<char> {
        if self.get("comment").is_some_and(|comment| comment.contains("melo")) || !self.is_spaced() {
            return Vec::new();
        }
        let marks = self.get("punctuation").unwrap_or_default().split(' ');
        let marks = marks.filter(|mark| mark.chars().count() == 1).flat_map(str::chars);
        marks.chain([' ']).collect()
    }

    /// Whether the library parts its texts at spaces.
    fn is_spaced(&self) -> bool {
        let is_set = |key: &str| self.get(key).is_some_and(|value| value != "0");
        let is_chinese = self
            .get("language")
            .is_some_and(|language| language.eq_ignore_ascii_case("chinese"));
        !is_chinese && !is_set("jieba") && !is_set("has_g2pw")
    }

    fn model(&self, kind: Kind, piper: Option<piper::Config>) -> Result<Model, LoadFailed> {
        for key in NUMBERS {
            self.number(key)?;
        }
        let rate = self.required("sample_rate")?;
        if !RATES.contains(&rate) {
            return Err(self.wrong(format!("has the metadata sample_rate = {rate}, which is no rate")));
        }
        let speakers = self.required("n_speakers")?;
        if speakers > SPEAKERS {
            return Err(self.wrong(format!("says that it has {speakers} speakers")));
        }
        let sizes = match kind {
            Kind::Kokoro { .. } | Kind::Kitten => self.dimensions()?,
            _ => Vec::new(),
        };
        if let (Kind::Kitten, Some(priors)) = (kind, self.get("speaker_speed_priors")) {
            let numbers = priors.split(',').filter(|number| number.trim().parse::<f32>().is_ok());
            if numbers.count() != speakers as usize {
                return Err(self.wrong(format!("has no speed for each of its {speakers} speakers")));
            }
        }
        let styles = sizes.iter().map(|size| u64::from(*size)).product::<u64>() * u64::from(speakers);
        let listed = self.get("speaker_names").unwrap_or_default().split(',').enumerate();
        let mut names: BTreeMap<u32, String> = listed
            .filter_map(|(number, name)| Some((u32::try_from(number).ok()?, voices::name(name)?)))
            .filter(|(number, _)| *number < speakers)
            .collect();
        if let Some(config) = &piper {
            names.extend(config.names.clone());
        }
        // A model of several languages names them all; the library speaks the last.
        let espeak = self.get("voice").and_then(|voice| voice.rsplit(' ').next());
        let by_default = matches!(
            kind,
            Kind::Kokoro { .. } | Kind::Kitten | Kind::Matcha { lexicon: false, .. }
        );
        Ok(Model {
            file: self.file.to_path_buf(),
            folder: PathBuf::new(),
            kind,
            rate,
            speakers: speakers.max(1),
            names,
            language: self.get("language").map(str::to_owned),
            espeak: espeak.or(by_default.then_some("en-us")).map(str::to_owned),
            styles,
            needs: self.needs(kind),
            lexicon_needs: self.lexicon_needs(),
            piper,
            is_raw: false,
            synthetic: false,
        })
    }
}
