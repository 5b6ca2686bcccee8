//! The Whisper worker: speech to text with whisper.cpp, on ggml models of any size, quantised or not.
//!
//! Whisper hears 30 s at once and knows nothing of streams. So the window of an utterance is decoded again and again while it grows
//! (`utterance.rs` says when, `window.rs` how long it is), the words that decodes agree on are promised, and a window that is full is
//! cut (`commit.rs`). What can't be believed is left out (`checks.rs`). `serve.rs` shares the machine between the utterances.

mod checks;
mod commit;
mod device;
mod header;
mod language;
mod log;
mod model;
mod serve;
mod settings;
mod utterance;
mod window;
mod words;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use repartee_worker_shell::protocol::{Hello, Job, Load, LoadFailed, ModelInfo, code};
use repartee_worker_shell::{KnownModel, Loaded, Models, Service, Worker, require_memory, threads};

use crate::checks::Thresholds;
use crate::header::Header;
use crate::model::{Decoder, Model, Request, Stopped};
use crate::serve::Whisper;
use crate::settings::{CREDIT, LONGEST, Settings};
use crate::window::RATE;

/// Where models lie below the models root, for `--probe`.
const FOLDER: &str = "whisper";

/// How long the first inference hears.
const WARM_UP: usize = RATE;

struct WhisperCpp;

impl Worker for WhisperCpp {
    fn hello(&self) -> Hello {
        let library = format!("whisper.cpp {}", whisper_rs::WHISPER_CPP_VERSION);
        let mut hello = repartee_worker_shell::hello("whisper", env!("CARGO_PKG_VERSION"), &library, &[Job::Stt]);
        hello.formats = vec!["ggml".into()];
        hello.features.extend(device::features());
        hello.devices.extend(device::gpus().into_iter().map(|gpu| gpu.device));
        hello
    }

    fn models(&self, root: &Models) -> Vec<KnownModel> {
        let Ok(folder) = root.resolve(FOLDER) else {
            return Vec::new();
        };
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let mut files: Vec<String> = entries
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        files.retain(|name| name.ends_with(".bin"));
        files.sort();
        files
            .into_iter()
            .filter_map(|file| {
                let id = format!("{FOLDER}/{file}");
                let header = Header::read(&root.resolve(&id).ok()?, &id);
                Some(match header {
                    Ok(header) => KnownModel {
                        description: header.to_string(),
                        problem: None,
                        id,
                    },
                    Err(failed) => KnownModel {
                        description: "a Whisper model".into(),
                        problem: Some(failed.reason),
                        id,
                    },
                })
            })
            .collect()
    }

    fn load(&mut self, request: &Load, root: &Models) -> Result<Loaded, LoadFailed> {
        if request.job != Job::Stt {
            let reason = format!("whisper is for stt, not for {:?}", request.job);
            return Err(LoadFailed::new(code::UNSUPPORTED, reason));
        }
        let missing = device::missing_instructions();
        if !missing.is_empty() {
            let (missing, off) = (missing.join(", "), missing.join("=OFF GGML_"));
            let reason = format!(
                "this build uses {missing}, which this processor hasn't; build it anew with GGML_{off}=OFF in the environment"
            );
            return Err(LoadFailed::new(code::UNSUPPORTED, reason));
        }
        let settings = Settings::of(request)?;
        let path = root.resolve(&request.model)?;
        let header = Header::read(&path, &request.model)?;
        if settings.translate && !header.is_multilingual() {
            let reason = format!("{}: an English model has nothing to translate", request.model);
            return Err(LoadFailed::new(code::INVALID, reason).about(request.model.clone()));
        }
        let needed = header.bytes + header.state_bytes() * u64::from(settings.states);
        let gpus = device::gpus();
        let choice = device::choose(request.device.as_deref(), &gpus, needed);
        let each = (threads(request.threads) / settings.states).max(1);
        let attempt = |gpu: Option<i32>| {
            let (loaded, complaints) = log::while_loading(|| load(&path, &header, gpu, settings.states, each));
            loaded.map_err(|reason| {
                if complaints.is_empty() {
                    reason
                } else {
                    format!("{reason}: {complaints}")
                }
            })
        };
        let mut fallback = choice.fallback;
        let mut loaded = None;
        if let Some(gpu) = &choice.gpu {
            match attempt(Some(gpu.number)) {
                Ok(first) => loaded = Some((first, gpu.device.id.clone(), gpu.device.free_bytes)),
                Err(reason) => fallback = Some(format!("{} can't be used: {reason}", gpu.device.id)),
            }
        }
        let ((decoders, warmup), device, free_before) = match loaded {
            Some(loaded) => loaded,
            None => {
                require_memory(needed, &request.model)?;
                let failed = |reason: String| {
                    LoadFailed::new(code::INTERNAL, format!("{}: {reason}", request.model)).about(request.model.clone())
                };
                (attempt(None).map_err(failed)?, "cpu".to_owned(), 0)
            }
        };
        let free_now = device::gpus()
            .iter()
            .find(|gpu| gpu.device.id == device)
            .map_or(0, |gpu| gpu.device.free_bytes);
        let languages = if header.is_multilingual() {
            language::all(header.knows_cantonese())
        } else {
            vec!["en"]
        };
        let info = ModelInfo {
            name: name(&path),
            rate: RATE as u32,
            languages: languages.iter().map(|code| language::tag(code).to_owned()).collect(),
            max_streams: settings.streams,
            max_waiting: settings.waiting,
            streaming: true,
            max_input: LONGEST.as_millis() as u32,
            synthetic: name(&path).starts_with("synthetic-"),
            ..ModelInfo::default()
        };
        Ok(Loaded {
            device,
            device_bytes: free_before.saturating_sub(free_now),
            fallback,
            ..Loaded::on_cpu(
                info,
                warmup,
                CREDIT,
                Service::Batch(Box::new(Whisper::new(settings, languages, decoders))),
            )
        })
    }
}

/// The name of a model: its file without what all of them have.
fn name(path: &Path) -> String {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    stem.strip_prefix("ggml-").unwrap_or(&stem).to_owned()
}

/// Loads the model and makes its states, and has each of them hear something.
fn load(
    path: &Path,
    header: &Header,
    gpu: Option<i32>,
    states: u32,
    threads: u32,
) -> Result<(Vec<Decoder>, Duration), String> {
    let model = Arc::new(Model::load(path, header.clone(), gpu)?);
    let mut decoders = Vec::new();
    let mut warmup = Duration::ZERO;
    for _ in 0..states {
        let mut decoder = Decoder::new(Arc::clone(&model), threads)?;
        let began = Instant::now();
        warm_up(&mut decoder)?;
        warmup = warmup.max(began.elapsed());
        decoders.push(decoder);
    }
    Ok((decoders, warmup))
}

/// Decodes noise, so that the weights and the buffers are in memory, and it's known that the library can.
fn warm_up(decoder: &mut Decoder) -> Result<(), String> {
    let mut state = 1_u32;
    let noise: Vec<i16> = (0..WARM_UP)
        .map(|_| {
            // The generator of Numerical Recipes; any noise does.
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 21) as i16 - 1024
        })
        .collect();
    let voiced = 0..WARM_UP as u64;
    let request = Request {
        samples: &noise,
        voiced: std::slice::from_ref(&voiced),
        language: "en",
        translate: false,
        timed: false,
        beam: 1,
        full_context: false,
        prompt: "",
        thresholds: Thresholds::default(),
    };
    match decoder.decode(&request, &|| false) {
        Ok(_) | Err(Stopped::Unwanted) => Ok(()),
        Err(Stopped::Failed(reason)) => Err(reason),
    }
}

fn main() -> ExitCode {
    log::take_over();
    repartee_worker_shell::main(WhisperCpp)
}
