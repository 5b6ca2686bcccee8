//! The llama worker: chat models in GGUF files, on llama.cpp.
//!
//! One context serves all conversations. Each has a sequence of its own in the cache, where what was said stays from turn to turn;
//! each step of the library takes in a token of every answer that is being made and a piece of every prompt (`engine.rs`). Prompts are
//! written by llama.cpp's own chat templates, which also say what an answer is held to and read the calls out of it (`chat.cpp`).

mod answer;
mod common;
mod conversation;
mod engine;
mod ffi;
mod gguf;
mod log;
mod machine;
mod model;
mod pictures;
mod plan;
mod sampler;
mod settings;
mod slots;
mod stream;
mod text;
mod vocabulary;

use std::collections::BTreeMap;
use std::ffi::CString;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_2::llama_batch::LlamaBatch;
use llama_cpp_2::mtmd::{MtmdContext, MtmdContextParams};
use repartee_worker_shell::protocol::{Hello, Job, Load, LoadFailed, ModelInfo, code};
use repartee_worker_shell::{KnownModel, Loaded, Models, Service, Worker, threads};

use crate::common::Template;
use crate::conversation::{MARKER, Style};
use crate::engine::{Engine, Limits};
use crate::gguf::Gguf;
use crate::model::Held;
use crate::pictures::Eyes;
use crate::plan::Needs;
use crate::sampler::{Candidates, Defaults};
use crate::settings::Settings;
use crate::slots::Slots;
use crate::vocabulary::Vocabulary;

/// Data that the engine may send ahead on each stream: there's none, as a chat comes with its stream's opening.
const CREDIT: u64 = 4096;

/// The longest file of a chat template, in bytes.
const LONGEST_TEMPLATE: u64 = 1 << 20;

struct Llama {
    backend: Option<LlamaBackend>,
}

impl Worker for Llama {
    fn hello(&self) -> Hello {
        machine::hello()
    }

    fn models(&self, _root: &Models) -> Vec<KnownModel> {
        // Models are named by their files; the catalogue knows them.
        Vec::new()
    }

    fn load(&mut self, request: &Load, root: &Models) -> Result<Loaded, LoadFailed> {
        if request.job != Job::Llm {
            let reason = format!("llama.cpp's models are for llm, not for {:?}", request.job);
            return Err(LoadFailed::new(code::UNSUPPORTED, reason));
        }
        machine::check_processor()?;
        let settings = Settings::of(request)?;
        let files = model::files(root, &request.model)?;
        let projector = model::projector(root, request)?;
        let weights = files.bytes + projector.as_ref().map_or(0, |(_, gguf)| gguf.bytes);
        let needs = Needs::of(&files.gguf, weights, &settings);
        if settings.context.is_some_and(|context| context > needs.trained) {
            let reason = format!(
                "the option \"context\" asks for more than the {} tokens that {} was trained with",
                needs.trained, request.model
            );
            return Err(LoadFailed::new(code::INVALID, reason).about(&request.model));
        }
        let plan = needs.plan(&settings, free_memory(), &request.model)?;
        if self.backend.is_none() {
            self.backend = Some(machine::backend()?);
        }
        let Some(backend) = &self.backend else {
            return Err(LoadFailed::new(code::INTERNAL, "llama.cpp hasn't started"));
        };
        // A template that can't be used is told before the model is loaded, which takes long.
        style(root, request, &settings, &files.gguf, "", "")?
            .try_out()
            .map_err(|failure| {
                let reason = format!(
                    "{}; name another template with the option \"template\"",
                    failure.message
                );
                LoadFailed::new(code::INVALID, reason).about(&request.model)
            })?;
        let held = model::hold(backend, &files, request, &settings, &plan)?;
        let eyes = match &projector {
            None => None,
            Some((path, _)) => match eyes(request, &held, path) {
                Ok(eyes) => Some(eyes),
                Err(failed) => {
                    held.release();
                    return Err(failed);
                }
            },
        };
        let Held {
            model,
            context,
            device,
            device_bytes,
            fallback,
            warmup,
            ..
        } = held;
        let vocabulary = Vocabulary::of(model, &files.gguf);
        let mut style = style(root, request, &settings, &files.gguf, &vocabulary.bos, &vocabulary.eos)?;
        let mut name = files.gguf.text("general.name").unwrap_or(&request.model).to_owned();
        if style.is_plain() {
            style = Style::plain(if vocabulary.can_say("\n") { "\n" } else { " " });
            name.push_str(" (no chat template: messages are given to it as plain text)");
            eprintln!(
                "{} has no chat template: messages are given to it as plain text",
                request.model
            );
        }
        let info = ModelInfo {
            name,
            max_streams: settings.parallel,
            max_waiting: settings.waiting,
            streaming: true,
            context: plan.context,
            synthetic: files.gguf.is_synthetic() || request.model.contains("synthetic"),
            ..ModelInfo::default()
        };
        let batch = model::step(&settings) as usize;
        let slots = Slots::new(settings.sessions, context.n_ctx() as usize);
        let engine = Engine {
            context,
            model,
            batch: LlamaBatch::new(batch, 1),
            vocabulary,
            style,
            defaults: Defaults::of(&files.gguf),
            slots,
            candidates: Candidates::new(),
            eyes,
            limits: Limits {
                context: plan.context as usize,
                batch,
                prompt_chunk: settings.prompt_chunk as usize,
            },
            live: BTreeMap::new(),
            steps: 0,
        };
        Ok(Loaded {
            model: info,
            warmup,
            device,
            device_bytes,
            fallback,
            stream_credit: CREDIT,
            service: Service::Batch(Box::new(engine)),
        })
    }
}

/// How much memory is free, in bytes; 0 where it isn't known.
fn free_memory() -> u64 {
    machine::hello().devices.first().map_or(0, |cpu| cpu.free_bytes)
}

/// How conversations are written: by the template that was named or given, else by the model's own, else plainly.
fn style(
    root: &Models,
    request: &Load,
    settings: &Settings<'_>,
    gguf: &Gguf,
    bos: &str,
    eos: &str,
) -> Result<Style, LoadFailed> {
    let invalid = |reason: String| LoadFailed::new(code::INVALID, reason);
    if let Some(file) = request.files.get("template") {
        let path = root.resolve(file)?;
        let unreadable =
            |reason: String| invalid(format!("{file} can't be read as a chat template: {reason}")).about(file);
        let length = std::fs::metadata(&path)
            .map_err(|error| unreadable(error.to_string()))?
            .len();
        if length > LONGEST_TEMPLATE {
            return Err(unreadable(format!("it has {length} bytes")));
        }
        let source = std::fs::read_to_string(&path).map_err(|error| unreadable(error.to_string()))?;
        let template = Template::new(&source, bos, eos, true).map_err(unreadable)?;
        return Ok(Style::jinja(template, settings.thinking));
    }
    match settings.template {
        Some("plain") => Ok(Style::plain("\n")),
        // The one that is also there as Jinja, and so can have tools.
        Some("chatml") => Template::new("chatml", bos, eos, true)
            .map(|template| Style::jinja(template, settings.thinking))
            .map_err(invalid),
        Some(name) => Template::new(name, bos, eos, false)
            .map(Style::built_in)
            .map_err(|reason| invalid(format!("the template {name:?} can't be had: {reason}"))),
        None => match gguf.text("tokenizer.chat_template").filter(|source| !source.trim().is_empty()) {
            None => Ok(Style::plain("\n")),
            Some(source) => Template::new(source, bos, eos, true)
                .map(|template| Style::jinja(template, settings.thinking))
                .map_err(|reason| {
                    let reason = format!(
                        "the chat template in {} can't be read ({reason}); name another one with the option \"template\"",
                        request.model
                    );
                    invalid(reason).about(&request.model)
                }),
        },
    }
}

/// Loads the projector.
fn eyes(request: &Load, held: &Held, path: &Path) -> Result<Eyes, LoadFailed> {
    let name = request.files.get("projector").map_or("the projector", String::as_str);
    let failed = |problem: String| LoadFailed::new(code::INTERNAL, log::explained(&problem)).about(name);
    log::forget();
    let params = MtmdContextParams {
        use_gpu: held.device != "cpu",
        print_timings: false,
        n_threads: i32::try_from(threads(request.threads)).unwrap_or(1),
        media_marker: CString::new(MARKER).map_err(|error| failed(error.to_string()))?,
        ..MtmdContextParams::default()
    };
    let context = MtmdContext::init_from_file(model::text_of(path, name)?, held.model, &params)
        .map_err(|_| failed(format!("llama.cpp can't use {name} with {}", request.model)))?;
    if !context.support_vision() {
        return Err(failed(format!(
            "{name} is a projector for something else than pictures"
        )));
    }
    Ok(Eyes(context))
}

fn main() -> ! {
    // SAFETY: no other thread runs yet that could read the environment. When ggml aborts it would start a debugger to print a backtrace,
    // which takes seconds and pushes the one line with the cause out of the last ones.
    unsafe { std::env::set_var("GGML_NO_BACKTRACE", "1") };
    log::keep();
    common::silence();
    let code = repartee_worker_shell::main(Llama { backend: None });
    // Another thread may be in the middle of a step. The library's own end of the process would take its data from under it.
    let _ = std::io::stdout().flush();
    let known = (0..=u8::MAX).find(|status| ExitCode::from(*status) == code);
    ffi::_exit(known.map_or(1, i32::from))
}
