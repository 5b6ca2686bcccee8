//! The loading of a model: its files are checked, it's fitted into memory, put on a device, and warmed up.

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use llama_cpp_2::context::LlamaContext;
use llama_cpp_2::context::params::LlamaContextParams;
use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_2::llama_batch::LlamaBatch;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::model::params::LlamaModelParams;
use llama_cpp_2::token::LlamaToken;
use llama_cpp_sys_2 as sys;
use repartee_worker_shell::protocol::{Load, LoadFailed, code};
use repartee_worker_shell::{Models, threads};

use crate::gguf::Gguf;
use crate::plan::Plan;
use crate::settings::{Layers, Settings};
use crate::{log, machine};

/// Parts of a model that was split (`split.count`): more than anybody makes.
const MOST_PARTS: u64 = 1000;
/// What a GPU's own libraries take beside the model: cuBLAS' workspace, kernels, pools. They take most of it at the first large step, and end
/// the process where they don't get it. Measured with CUDA 13 on an H200: 110 to 170 MiB, 260 with a projector.
const LIBRARIES: u64 = 512 << 20;
/// What these architectures begin with answers no chat.
const NO_CHAT: [&str; 6] = ["bert", "t5", "clip", "wavtokenizer", "nomic-bert", "jina-bert"];

/// A model's files, checked.
#[derive(Debug)]
pub(crate) struct Files {
    pub(crate) path: PathBuf,
    pub(crate) gguf: Gguf,
    /// Of all parts together, in bytes.
    pub(crate) bytes: u64,
}

fn refuse(file: &str, reason: impl Into<String>) -> LoadFailed {
    LoadFailed::new(code::UNSUPPORTED, reason).about(file)
}

/// Finds and checks the model's files.
///
/// # Errors
/// Which file is wrong, and how.
pub(crate) fn files(root: &Models, name: &str) -> Result<Files, LoadFailed> {
    let path = root.resolve(name)?;
    let gguf = Gguf::read(&path).map_err(|problem| refuse(name, format!("{name} {problem}")))?;
    let architecture = gguf.architecture();
    if architecture.is_empty() || gguf.tensors == 0 {
        return Err(refuse(
            name,
            format!("{name} holds no model: it names no architecture, or has no tensors"),
        ));
    }
    if architecture == "clip" {
        let reason = format!("{name} is a projector; it goes with a chat model, as the file \"projector\"");
        return Err(refuse(name, reason));
    }
    if NO_CHAT.iter().any(|kind| architecture.starts_with(kind)) || gguf.vocabulary() == 0 {
        return Err(refuse(name, format!("{name} is no chat model ({architecture})")));
    }
    let mut bytes = gguf.bytes;
    for part in parts(&gguf, name)? {
        let path = root.resolve(&part)?;
        let gguf = Gguf::read(&path).map_err(|problem| refuse(&part, format!("{part} {problem}")))?;
        bytes = bytes.saturating_add(gguf.bytes);
    }
    Ok(Files { path, gguf, bytes })
}

/// The further parts of a model that was split: `x-00001-of-00003.gguf` and so on.
fn parts(gguf: &Gguf, name: &str) -> Result<Vec<String>, LoadFailed> {
    let count = gguf.whole("split.count").unwrap_or(1);
    if count <= 1 {
        return Ok(Vec::new());
    }
    let first = format!("-00001-of-{count:05}.gguf");
    let stem = name.strip_suffix(first.as_str()).filter(|_| count <= MOST_PARTS);
    let stem = stem.ok_or_else(|| {
        refuse(
            name,
            format!("{name} is one of {count} parts; name the first one, which ends in {first}"),
        )
    })?;
    Ok((2..=count)
        .map(|part| format!("{stem}-{part:05}-of-{count:05}.gguf"))
        .collect())
}

/// Where a model is to be computed.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    /// An id out of the hello's devices.
    device: String,
    /// ggml's number of it; `None`: the CPU.
    gpu: Option<usize>,
    layers: u32,
}

/// A model in memory.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) model: &'static LlamaModel,
    /// The same, to give it back.
    raw: *mut LlamaModel,
    pub(crate) context: LlamaContext<'static>,
    pub(crate) device: String,
    /// Memory that it took of the device, in bytes; 0 on a CPU.
    pub(crate) device_bytes: u64,
    pub(crate) fallback: Option<String>,
    pub(crate) warmup: Duration,
}

impl Held {
    /// Gives the memory back, where something else of the load failed.
    pub(crate) fn release(self) {
        drop(self.context);
        // SAFETY: the pointer is that of the box which `try_hold` made. The context that borrowed from it is gone, and whoever calls
        // this has kept nothing else of it.
        drop(unsafe { Box::from_raw(self.raw) });
    }
}

/// Puts a model into memory, on the GPU where that's wanted and possible.
///
/// # Errors
/// What the library says.
pub(crate) fn hold(
    backend: &LlamaBackend,
    files: &Files,
    request: &Load,
    settings: &Settings<'_>,
    plan: &Plan,
) -> Result<Held, LoadFailed> {
    let (place, mut fallback) = choose(request, settings, plan, &files.gguf);
    let cpu = Place {
        device: "cpu".into(),
        gpu: None,
        layers: 0,
    };
    let mut held = try_hold(backend, files, request, settings, plan, &place);
    if place != cpu
        && let Err(problem) = &held
    {
        fallback = Some(format!("{} can't: {}", place.device, problem.reason));
        held = try_hold(backend, files, request, settings, plan, &cpu);
    }
    held.map(|held| Held { fallback, ..held })
}

/// Where to compute, and why not where it should be.
fn choose(request: &Load, settings: &Settings<'_>, plan: &Plan, gguf: &Gguf) -> (Place, Option<String>) {
    let cpu = Place {
        device: "cpu".into(),
        gpu: None,
        layers: 0,
    };
    if request.device.as_deref() == Some("cpu") || settings.layers == Layers::Given(0) {
        return (cpu, None);
    }
    let gpus = machine::gpus();
    let wanted = request.device.as_deref();
    let gpu = gpus
        .iter()
        .find(|gpu| wanted.is_none_or(|id| machine::id(&gpu.name) == id));
    let Some(gpu) = gpu else {
        let fallback = match (wanted, settings.layers) {
            (Some(id), _) => Some(format!("there is no device {id}: this build sees {} GPUs", gpus.len())),
            (None, Layers::Given(layers)) => Some(format!("there is no GPU for {layers} layers")),
            (None, Layers::Auto) => None,
        };
        return (cpu, fallback);
    };
    let all = gguf.whole(&format!("{}.block_count", gguf.architecture())).unwrap_or(0);
    // The output counts as one more.
    let all = u32::try_from(all).unwrap_or(u32::MAX).saturating_add(1);
    let layers = match settings.layers {
        Layers::Given(layers) => layers.min(all),
        Layers::Auto => fitting(all, plan.bytes, gpu.memory_free as u64),
    };
    let device = machine::id(&gpu.name);
    if layers == 0 {
        return (
            cpu,
            Some(format!("{device} has too little memory free for even one layer")),
        );
    }
    let fallback = (settings.layers == Layers::Auto && layers < all)
        .then(|| format!("{layers} of {all} layers fit on {device}; the others are computed on the CPU"));
    let place = Place {
        device,
        gpu: Some(gpu.index),
        layers,
    };
    (place, fallback)
}

/// How many of `all` layers fit, if they share `bytes` evenly. A tenth of what is free is left for what nobody can foresee, and no less than
/// the libraries take.
fn fitting(all: u32, bytes: u64, free: u64) -> u32 {
    let usable = (free / 10 * 9).min(free.saturating_sub(LIBRARIES));
    if bytes <= usable {
        return all;
    }
    let each = (bytes / u64::from(all.max(1))).max(1);
    u32::try_from(usable / each).unwrap_or(u32::MAX).min(all)
}

fn try_hold(
    backend: &LlamaBackend,
    files: &Files,
    request: &Load,
    settings: &Settings<'_>,
    plan: &Plan,
    place: &Place,
) -> Result<Held, LoadFailed> {
    let name = request.model.as_str();
    let failed = |what: &str| {
        LoadFailed::new(
            code::INTERNAL,
            log::explained(&format!("llama.cpp can't {what} {name}")),
        )
        .about(name)
    };
    let before = free_of(place.gpu);
    log::forget();
    let mut params = LlamaModelParams::default().with_n_gpu_layers(place.layers);
    // Without a list the library takes every GPU there is, even for no layer: weights would go to its pinned memory, and a context couldn't
    // be made where the GPU is what failed.
    let devices: Vec<usize> = place.gpu.into_iter().collect();
    params = params
        .with_devices(&devices)
        .map_err(|_| failed("use the device for"))?;
    let model = LlamaModel::load_from_file(backend, &files.path, &params).map_err(|_| failed("load"))?;
    let raw = Box::into_raw(Box::new(model));
    // SAFETY: the pointer is a box's, and given back (below) only where nothing that borrows from it was handed out.
    let model: &'static LlamaModel = unsafe { &*raw };
    // A whole step has a GPU's libraries take their memory and load their kernels now. A CPU has nothing to gain by it, and would take seconds.
    let warmed = place.gpu.map_or(1, |_| step(settings).min(plan.context));
    let made = new_context(backend, model, request, settings, plan, place)
        .map_err(|()| failed("make a context for"))
        .and_then(|mut context| match warm_up(&mut context, model, warmed) {
            Ok(warmup) => Ok((context, warmup)),
            Err(problem) => Err(LoadFailed::new(
                code::INTERNAL,
                log::explained(&format!("the first inference with {name} fails: {problem}")),
            )
            .about(name)),
        });
    match made {
        Ok((context, warmup)) => Ok(Held {
            model,
            raw,
            context,
            device: place.device.clone(),
            device_bytes: before.saturating_sub(free_of(place.gpu)),
            fallback: None,
            warmup,
        }),
        Err(problem) => {
            // SAFETY: the box of above; the context that borrowed from it is gone.
            drop(unsafe { Box::from_raw(raw) });
            Err(problem)
        }
    }
}

/// How much of a GPU's memory is free, in bytes.
fn free_of(gpu: Option<usize>) -> u64 {
    let gpu = gpu.and_then(|index| machine::gpus().into_iter().find(|gpu| gpu.index == index));
    gpu.map_or(0, |gpu| gpu.memory_free as u64)
}

fn new_context(
    backend: &LlamaBackend,
    model: &'static LlamaModel,
    request: &Load,
    settings: &Settings<'_>,
    plan: &Plan,
    place: &Place,
) -> Result<LlamaContext<'static>, ()> {
    let threads = i32::try_from(threads(request.threads)).unwrap_or(1);
    let batch = step(settings);
    let mut params = LlamaContextParams::default()
        .with_n_ctx(NonZeroU32::new(plan.cells))
        .with_n_batch(batch)
        .with_n_ubatch(batch.min(512))
        .with_n_seq_max(settings.sessions)
        .with_n_threads(threads)
        .with_n_threads_batch(threads)
        .with_type_k(settings.cache.kind)
        .with_type_v(settings.cache.kind)
        .with_offload_kqv(place.gpu.is_some())
        .with_op_offload(place.gpu.is_some())
        // With a part of the cache for each sequence, only neighbours are computed together.
        .with_kv_unified(true)
        // Layers that look back less far keep everything nevertheless: else no beginning could be used again.
        .with_swa_full(true)
        .with_no_perf(true);
    if settings.cache.quantised {
        params = params.with_flash_attention_policy(sys::LLAMA_FLASH_ATTN_TYPE_ENABLED);
    }
    model.new_context(backend, params).map_err(|_| ())
}

/// The most tokens of a step: each of the answers has to have a place in it, and the prompts too.
pub(crate) fn step(settings: &Settings<'_>) -> u32 {
    settings.batch.max(2 * settings.parallel)
}

/// The first inferences: a prompt of so many tokens, and one token, as answers are made.
fn warm_up(context: &mut LlamaContext<'_>, model: &LlamaModel, prompt: u32) -> Result<Duration, String> {
    let began = Instant::now();
    let first = model.vocab().bos();
    let first = if first.0 < 0 { LlamaToken(0) } else { first };
    let mut batch = LlamaBatch::new(prompt as usize, 1);
    let alone: &[u32] = if prompt > 1 { &[prompt, 1] } else { &[1] };
    for tokens in alone {
        let last = i32::try_from(tokens - 1).map_err(|error| error.to_string())?;
        batch.clear();
        for place in 0..=last {
            batch
                .add(first, place, &[0], place == last)
                .map_err(|error| error.to_string())?;
        }
        context.decode(&mut batch).map_err(|error| error.to_string())?;
        if context.get_logits_ith(last).iter().any(|logit| logit.is_nan()) {
            return Err("it gives no numbers".into());
        }
        context.clear_kv_cache();
    }
    Ok(began.elapsed())
}

/// The file of a role.
///
/// # Errors
/// When it isn't there, or isn't a projector.
pub(crate) fn projector(root: &Models, request: &Load) -> Result<Option<(PathBuf, Gguf)>, LoadFailed> {
    let Some(name) = request.files.get("projector") else {
        return Ok(None);
    };
    let path = root.resolve(name)?;
    let gguf = Gguf::read(&path).map_err(|problem| refuse(name, format!("{name} {problem}")))?;
    if gguf.architecture() != "clip" {
        let reason = format!(
            "{name} is no projector: its architecture is {:?}, not \"clip\"",
            gguf.architecture()
        );
        return Err(refuse(name, reason));
    }
    Ok(Some((path, gguf)))
}

/// The path as the library takes it.
///
/// # Errors
/// When it isn't UTF-8.
pub(crate) fn text_of<'a>(path: &'a Path, name: &str) -> Result<&'a str, LoadFailed> {
    path.to_str()
        .ok_or_else(|| refuse(name, format!("the path of {name} isn't UTF-8")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_layers_are_taken_as_fit() {
        const GIB: u64 = 1 << 30;
        assert_eq!(fitting(33, 10 * GIB, 20 * GIB), 33);
        assert_eq!(fitting(33, 33 * GIB, 10 * GIB), 9);
        assert_eq!(fitting(33, 33 * GIB, GIB), 0);
        assert_eq!(fitting(2, GIB / 10, LIBRARIES), 0, "the libraries would take all of it");
        assert_eq!(fitting(2, GIB / 10, LIBRARIES + GIB / 10), 2);
    }
}
