//! The sherpa-onnx worker: speech to text and text to speech with models in ONNX, all through the one library.

mod library;
mod onnx;
mod stt;
mod tts;

use std::process::ExitCode;

use repartee_worker_shell::protocol::{Hello, Job, Load, LoadFailed, code};
use repartee_worker_shell::{KnownModel, Loaded, Models, Worker};

struct Sherpa;

impl Worker for Sherpa {
    fn hello(&self) -> Hello {
        let mut hello = repartee_worker_shell::hello(
            "sherpa",
            env!("CARGO_PKG_VERSION"),
            &library::name(),
            &[Job::Stt, Job::Tts],
        );
        hello.formats = vec!["onnx".into()];
        hello
    }

    fn models(&self, root: &Models) -> Vec<KnownModel> {
        let mut models = stt::known(root);
        models.extend(tts::known(root));
        models
    }

    fn load(&mut self, request: &Load, root: &Models) -> Result<Loaded, LoadFailed> {
        library::require_version()?;
        library::require_device(request)?;
        match request.job {
            Job::Stt => stt::load(request, root),
            Job::Tts => tts::load(request, root),
            other => Err(LoadFailed::new(
                code::UNSUPPORTED,
                format!("sherpa is for stt and tts, not for {other:?}"),
            )),
        }
    }
}

fn main() -> ExitCode {
    repartee_worker_shell::main(Sherpa)
}
