//! Speech to text: finds out what the files of a model are, and serves streams with it.

mod config;
mod files;
mod hints;
mod kind;
mod model;
mod offline;
mod online;
mod tokens;
mod utterance;
mod words;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use repartee_worker_shell::protocol::{Job, Load, LoadFailed, ModelInfo, code};
use repartee_worker_shell::{Batch, KnownModel, Loaded, Models, Options, Service, require_memory, threads};

use self::config::Settings;
use self::files::{Files, Precision};
use self::hints::Unit;
use self::kind::Kind;
use self::model::Model;
use self::offline::Offline;
use self::online::{Chunks, Online};
use self::utterance::{Plan, base};
use self::words::{Case, RATE};

/// The options of a recogniser.
const OPTIONS: [&str; 12] = [
    "streams",
    "waiting",
    "kind",
    "precision",
    "case",
    "decoding",
    "hotwords_score",
    "modeling_unit",
    "language",
    "languages",
    "itn",
    "partials",
];

/// Utterances at once unless the load says otherwise, and the most it may say.
const STREAMS: u64 = 16;
const MOST_STREAMS: u64 = 256;
/// Utterances that may wait for a place.
const WAITING: u64 = 16;

/// The longest utterance of a model that hears as it's spoken to: its hypothesis grows with it.
const LONGEST: Duration = Duration::from_secs(300);
/// The longest utterance of a model that takes it whole: attention over all of it costs memory by the square.
const LONGEST_WHOLE: Duration = Duration::from_secs(120);
/// Whisper's window.
const LONGEST_WHISPER: Duration = Duration::from_secs(30);

/// What the engine may send ahead on each stream: 10 s of audio, so that an utterance can be replayed at once.
const CREDIT: u64 = 10 * RATE as u64 * 2;

/// How much a hint is worth, by the library's own default.
const HOTWORDS_SCORE: f64 = 1.5;

/// The library reads a file whole before it makes a model of it, so for a moment there are two; and some memory for itself.
const COPIES: u64 = 2;
const LIBRARY_BYTES: u64 = 64 << 20;

/// Loads a recogniser.
///
/// # Errors
/// With the file and the cause.
pub(crate) fn load(request: &Load, root: &Models) -> Result<Loaded, LoadFailed> {
    let options = Options::of(request, &OPTIONS)?;
    let streams = options.whole("streams", 1..=MOST_STREAMS)?.unwrap_or(STREAMS);
    let waiting = options.whole("waiting", 0..=MOST_STREAMS)?.unwrap_or(WAITING);
    let files = Files::find(request, root, Precision::named(options.text("precision")?)?)?;
    let model = Model::of(&files, options.text("kind")?)?;
    require_memory(
        model.bytes.saturating_mul(COPIES).saturating_add(LIBRARY_BYTES),
        &request.model,
    )?;
    let settings = settings(request, options, &model)?;
    let longest = match model.kind {
        Kind::Whisper => LONGEST_WHISPER,
        kind if kind.is_streaming() => LONGEST,
        _ => LONGEST_WHOLE,
    };
    let plan = Plan {
        case: case(options.text("case")?, &model)?,
        grows: !settings.beam && model.kind != Kind::StreamingParaformer,
        languages: languages(options.text("languages")?, &settings, &model),
        longest: longest.as_secs() * u64::from(RATE),
        hints: settings.unit.map(|unit| (unit, model.tokens.clone())),
        told_hints: Cell::new(false),
    };
    let mut info = ModelInfo {
        name: name(&model, &request.model),
        rate: RATE,
        languages: plan.languages.clone(),
        max_streams: u32::try_from(streams).unwrap_or(u32::MAX),
        max_waiting: u32::try_from(waiting).unwrap_or(u32::MAX),
        streaming: true,
        max_input: u32::try_from(longest.as_millis()).unwrap_or(u32::MAX),
        synthetic: model.onnx.values().any(crate::onnx::Onnx::is_synthetic),
        ..ModelInfo::default()
    };
    let partials = options.flag("partials")?;
    let (batch, warmup): (Box<dyn Batch>, Duration) = if model.kind.is_streaming() {
        let online = Online::new(config::online(&model, &settings)?, plan, Chunks::of(&model));
        let began = Instant::now();
        online.warm_up();
        (Box::new(online), began.elapsed())
    } else {
        let mut offline = Offline::new(config::offline(&model, &settings)?, plan);
        let began = Instant::now();
        offline.warm_up(partials);
        info.streaming = offline.has_partials();
        (Box::new(offline), began.elapsed())
    };
    Ok(Loaded::on_cpu(info, warmup, CREDIT, Service::Batch(batch)))
}

/// How deep below the models root, and how many folders, are looked through for models.
const DEPTH: usize = 4;
const MOST_FOLDERS: usize = 1000;

/// The recognisers below the models root, and what is wrong with those that look like one.
pub(crate) fn known(root: &Models) -> Vec<KnownModel> {
    let Ok(top) = root.resolve(".") else {
        return Vec::new();
    };
    let mut found = Vec::new();
    let mut folders = vec![(PathBuf::new(), 0)];
    let mut looked_at = 0;
    while let Some((relative, depth)) = folders.pop() {
        looked_at += 1;
        if looked_at > MOST_FOLDERS {
            break;
        }
        let mut has_onnx = false;
        for entry in fs::read_dir(top.join(&relative)).into_iter().flatten().flatten() {
            let path = relative.join(entry.file_name());
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                if depth < DEPTH {
                    folders.push((path, depth + 1));
                }
            } else {
                has_onnx |= path.extension().is_some_and(|extension| extension == "onnx");
            }
        }
        if has_onnx && let Some(id) = relative.to_str().filter(|id| !id.is_empty()) {
            found.extend(look_at(id, root));
        }
    }
    found.sort_by(|one, other| one.id.cmp(&other.id));
    found
}

/// `None` where the folder holds something else, such as a voice.
fn look_at(id: &str, root: &Models) -> Option<KnownModel> {
    let request = Load {
        job: Job::Stt,
        model: id.to_owned(),
        files: BTreeMap::new(),
        options: BTreeMap::new(),
        threads: 0,
        device: None,
    };
    let files = Files::find(&request, root, Precision::Int8).ok()?;
    let (description, problem) = match Model::of(&files, None) {
        Ok(model) => (format!("a {}", model.kind.name()), None),
        Err(failed) if failed.code == code::UNSUPPORTED => return None,
        Err(failed) => ("a recogniser".to_owned(), Some(failed.reason)),
    };
    Some(KnownModel {
        id: id.to_owned(),
        description,
        problem,
    })
}

fn settings(request: &Load, options: Options<'_>, model: &Model) -> Result<Settings, LoadFailed> {
    let refuse = |reason: String| LoadFailed::new(code::INVALID, reason);
    let beam = match options.text("decoding")? {
        None | Some("greedy") => false,
        Some("beam") => true,
        Some(other) => {
            return Err(refuse(format!(
                "the option \"decoding\" has to be greedy or beam, not {other:?}"
            )));
        }
    };
    let takes_beam = [
        Kind::StreamingTransducer,
        Kind::StreamingNemoTransducer,
        Kind::Transducer,
        Kind::NemoTransducer,
    ];
    if beam && !takes_beam.contains(&model.kind) {
        return Err(refuse(format!(
            "sherpa-onnx has no beam search for a {}: \"decoding\" can only be greedy",
            model.kind.name()
        )));
    }
    let asked = options.text("modeling_unit")?;
    let unit = if beam && model.kind.takes_hints() {
        Some(Unit::of(model, asked)?)
    } else {
        None
    };
    let language = options.text("language")?.unwrap_or_default();
    if !language.is_empty() && model.kind == Kind::SenseVoice && !SENSE_VOICE.contains(&base(language).as_str()) {
        return Err(refuse(format!(
            "SenseVoice hears {}, not {language:?}",
            SENSE_VOICE.join(", ")
        )));
    }
    #[expect(clippy::cast_possible_truncation, reason = "a score of a few digits")]
    let hotwords_score = options.number("hotwords_score", 0.0..=100.0)?.unwrap_or(HOTWORDS_SCORE) as f32;
    Ok(Settings {
        threads: i32::try_from(inference_threads(request.threads, model.kind)).unwrap_or(1),
        beam,
        unit,
        hotwords_score,
        language: base(language),
        itn: options.flag("itn")?.unwrap_or(true),
    })
}

/// As many threads as the load asks for; where it leaves that to us, no more than help: a step of a streaming model is small, and
/// onnxruntime's threads spin while they wait for one another.
fn inference_threads(asked: u32, kind: Kind) -> u32 {
    const STREAMING: u32 = 2;
    const WHOLE: u32 = 4;
    let most = if kind.is_streaming() { STREAMING } else { WHOLE };
    if asked == 0 {
        threads(0).min(most)
    } else {
        threads(asked)
    }
}

/// What SenseVoice can be told to expect.
const SENSE_VOICE: [&str; 5] = ["zh", "en", "ja", "ko", "yue"];

/// Models that know capitals only shout, so they are written in lower case unless an option says otherwise; others as they write.
fn case(option: Option<&str>, model: &Model) -> Result<Case, LoadFailed> {
    match option {
        None | Some("auto") => Ok(if model.tokens.are_capitals() {
            Case::Lower
        } else {
            Case::AsIs
        }),
        Some("as_is") => Ok(Case::AsIs),
        Some("lower") => Ok(Case::Lower),
        Some(other) => Err(LoadFailed::new(
            code::INVALID,
            format!("the option \"case\" has to be auto, as_is or lower, not {other:?}"),
        )),
    }
}

/// What the model hears: as an option says (`en,de`), else as its metadata does, else as follows from its kind; else it isn't known.
fn languages(option: Option<&str>, settings: &Settings, model: &Model) -> Vec<String> {
    let metadata = ["languages", "language"].map(|key| model.main().text(key));
    let said = option.or_else(|| metadata.into_iter().find(|text| !text.is_empty()));
    let listed: Vec<String> = said
        .unwrap_or_default()
        .split([',', ' '])
        .filter(|tag| {
            (2..=16).contains(&tag.len()) && tag.chars().all(|sign| sign.is_ascii_alphanumeric() || sign == '-')
        })
        .map(str::to_owned)
        .collect();
    if !listed.is_empty() {
        return listed;
    }
    // The library is told a language when the model is loaded, and not by stream.
    if !settings.language.is_empty() {
        return vec![settings.language.clone()];
    }
    let known: &[&str] = match model.kind {
        Kind::SenseVoice => &SENSE_VOICE,
        Kind::TOne => &["ru"],
        Kind::Whisper if model.main().text("model_type").ends_with(".en") => &["en"],
        _ => &[],
    };
    known.iter().map(|tag| (*tag).to_owned()).collect()
}

/// What the model calls itself, else what it was asked for by.
fn name(model: &Model, asked: &str) -> String {
    /// Longer ones are no names.
    const LONGEST_NAME: usize = 100;
    let metadata = ["name", "model_name"].map(|key| model.main().text(key));
    let said = metadata
        .into_iter()
        .find(|text| !text.is_empty() && text.len() <= LONGEST_NAME);
    said.unwrap_or(asked).to_owned()
}
