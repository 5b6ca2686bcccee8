//! Whether this machine has a graphics processor, and what it therefore runs unasked.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

use super::House;
use crate::cli::serve::models::Wanted;
use crate::config::{Config, LlmBackend, Mode};
use crate::provider::openai;

/// Where NVIDIA's driver lists its processors.
const NVIDIA: &str = "/proc/driver/nvidia/gpus";
/// What a preflight check of the host says, for those who can't look themselves: AVA's variable.
const TOLD: &str = "GPU_AVAILABLE";
/// How long `nvidia-smi` may take. Where no daemon keeps the driver awake, it takes seconds.
const PATIENCE: Duration = Duration::from_secs(5);

/// What this machine runs, and why: a recogniser and a voice only, or a language model too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli::serve) struct Runtime {
    /// `Minimal` or `Full`.
    pub(in crate::cli::serve) mode: Mode,
    /// What decided it.
    pub(in crate::cli::serve) reason: String,
}

impl Runtime {
    fn new(mode: Mode, reason: impl Into<String>) -> Self {
        let reason = reason.into();
        Self { mode, reason }
    }
}

impl House {
    /// What this machine runs. Looked at in the background: nothing waits for it.
    pub(in crate::cli::serve) async fn runtime(&self) -> Runtime {
        let config = self.config();
        if let Some(runtime) = decided(config, variable) {
            return runtime;
        }
        if lists_processors(Path::new(NVIDIA)) || nvidia_smi("nvidia-smi").await {
            return Runtime::new(Mode::Full, "there is a GPU");
        }
        let probes = self.probes().all().await;
        let mut graphics = probes.iter().flat_map(|probe| probe.devices());
        if let Some(device) = graphics.find(|device| *device != "cpu") {
            return Runtime::new(Mode::Full, format!("there is {device}"));
        }
        if config.llm.backend == LlmBackend::Auto {
            if let Some(model) = Wanted::local_llm(config).and_then(|wanted| wanted.model) {
                return Runtime::new(Mode::Full, format!("there is the language model {model}"));
            }
            if let Some(found) = openai::detect(&[], openai::PROBE_TIMEOUT).await {
                let base = found.server.base;
                return Runtime::new(Mode::Full, format!("a server of language models answers at {base}"));
            }
        }
        Runtime::new(Mode::Minimal, "there is no GPU and no language model")
    }

    /// Whether no language model is to be run, whatever lies about: it is configured so, or this machine was told to be too weak for one.
    pub(in crate::cli::serve) fn is_minimal(&self) -> bool {
        decided(self.config(), variable).is_some_and(|runtime| runtime.mode == Mode::Minimal)
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// What needs no look at the machine: what is configured, and what was told.
fn decided(config: &Config, variable: impl Fn(&str) -> Option<String>) -> Option<Runtime> {
    let llm = &config.llm;
    let named = !matches!(llm.backend, LlmBackend::Auto | LlmBackend::None | LlmBackend::Parrot);
    let told = variable(TOLD).map(|value| value.trim().to_lowercase());
    match config.mode {
        Mode::Auto if named || (llm.backend == LlmBackend::Auto && (llm.url.is_some() || llm.model.is_some())) => {
            Some(Runtime::new(Mode::Full, "a language model is configured"))
        }
        Mode::Auto => match told.as_deref() {
            Some("1" | "true" | "yes" | "on") => Some(Runtime::new(Mode::Full, format!("{TOLD} says so"))),
            Some("0" | "false" | "no" | "off") => Some(Runtime::new(Mode::Minimal, format!("{TOLD} says so"))),
            _ => None,
        },
        mode => Some(Runtime::new(mode, "configured")),
    }
}

fn lists_processors(folder: &Path) -> bool {
    std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some())
}

/// Whether `program -L` lists a processor: where there is no `/proc/driver/nvidia`, as under Windows.
async fn nvidia_smi(program: &str) -> bool {
    let asked = Command::new(program)
        .arg("-L")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .output();
    match timeout(PATIENCE, asked).await {
        Ok(Ok(output)) => output.status.success() && output.stdout.starts_with(b"GPU "),
        Ok(Err(_)) | Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::config;
    use super::*;

    #[test]
    fn what_is_configured_decides_before_what_is_there() {
        let decided = |flags: &[(&str, &str)], gpu: Option<&str>| {
            let gpu = gpu.map(str::to_owned);
            decided(&config(flags), move |_| gpu.clone()).map(|runtime| runtime.mode)
        };
        assert_eq!(decided(&[], None), None, "the machine decides");
        assert_eq!(decided(&[], Some("true")), Some(Mode::Full));
        assert_eq!(decided(&[], Some("false")), Some(Mode::Minimal));
        assert_eq!(decided(&[], Some("")), None);
        assert_eq!(decided(&[("llm.backend", "openai")], Some("false")), Some(Mode::Full));
        assert_eq!(decided(&[("llm.url", "http://10.0.0.1/v1")], None), Some(Mode::Full));
        assert_eq!(
            decided(&[("llm.backend", "parrot")], None),
            None,
            "it is no language model"
        );
        assert_eq!(
            decided(&[("mode", "minimal"), ("llm.backend", "openai")], Some("true")),
            Some(Mode::Minimal)
        );
        assert_eq!(decided(&[("mode", "full")], Some("false")), Some(Mode::Full));
    }

    #[tokio::test]
    async fn processors_are_counted_where_the_driver_lists_them() {
        let folder = tempfile::tempdir().unwrap();
        assert!(!lists_processors(&folder.path().join("none")));
        assert!(!lists_processors(folder.path()));
        std::fs::create_dir(folder.path().join("0000:01:00.0")).unwrap();
        assert!(lists_processors(folder.path()));
        assert!(!nvidia_smi("/no/such/program").await);
        assert!(!nvidia_smi("echo").await, "it lists nothing");
    }
}
