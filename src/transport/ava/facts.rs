//! `status` and `capabilities`: what serves now, read off the registry. Neither waits for a model.

use std::path::Path;
use std::time::Duration;

use repartee_protocol::ava::{
    Capabilities, Capability as Level, Facts, Fallback, Gpu, RuntimeMode, StatusResponse, ToolCapability,
};

use super::Ava;
use crate::call::BackendKind;
use crate::registry::{Capability, Slot};

/// How long the workers may take to say what they can; the Admin UI waits 5 s.
const CAPABILITIES_LIMIT: Duration = Duration::from_secs(4);

/// NVIDIA's driver is there.
const NVIDIA: &str = "/dev/nvidiactl";

impl Ava {
    /// Whether the configuration wants no language model.
    pub(super) fn is_minimal(&self) -> bool {
        self.server().mode == RuntimeMode::Minimal
    }

    /// Whether nothing does this job, and nothing will by itself.
    pub(super) fn lacks(&self, kind: BackendKind) -> bool {
        matches!(self.engine().registry().state(kind), Slot::Missing { .. })
    }

    pub(super) fn status(&self) -> StatusResponse {
        let shown = self.control().shown();
        StatusResponse::new(&shown, &self.facts(shown.llm.path.as_str()))
    }

    fn facts(&self, llm_path: &str) -> Facts {
        let server = self.server();
        let mut facts = Facts {
            minimal: self.is_minimal(),
            mock_models: server.mock_models,
            log_level: server.log_level.clone(),
            debug_audio: server.debug,
            tool_gateway_enabled: server.tool_gateway,
            gpu: Gpu {
                host_preflight_detected: server.gpu_available,
                host_preflight_raw: server.gpu_available.map(|there| there.to_string()),
                ..Gpu::default()
            },
            ..Facts::default()
        };
        for (kind, name) in [
            (BackendKind::Stt, "stt"),
            (BackendKind::Llm, "llm"),
            (BackendKind::Tts, "tts"),
        ] {
            match self.engine().registry().state(kind) {
                Slot::Ready(serving) => {
                    match kind {
                        BackendKind::Stt => facts.stt_loaded = true,
                        BackendKind::Llm => facts.llm_loaded = true,
                        _ => facts.tts_loaded = true,
                    }
                    let capabilities = serving.capabilities();
                    let device = capabilities.device.clone().unwrap_or_else(|| "cpu".to_owned());
                    if device.starts_with("cuda") {
                        facts.gpu.runtime_usable = true;
                    }
                    if let Some(reason) = &capabilities.fallback {
                        let fallback = Fallback {
                            backend: capabilities.name.clone(),
                            from_device: "cuda".to_owned(),
                            to_device: device,
                            reason: reason.clone(),
                            at_epoch_ms: 0,
                        };
                        facts.fallbacks.insert(name, fallback);
                    }
                }
                Slot::Missing { by_choice: true, .. } | Slot::Loading => {}
                Slot::Missing { reason, .. } | Slot::Lost { reason, .. } => {
                    facts.startup_errors.insert(name, reason);
                }
            }
        }
        facts.gpu.runtime_detected = facts.gpu.runtime_usable || Path::new(NVIDIA).exists();
        if facts.gpu.runtime_detected {
            facts.gpu.source = "device";
        }
        // Nobody has tried: the engine then takes the policy that helps a model along.
        facts.tool_capability = Some(ToolCapability {
            level: if facts.minimal || self.lacks(BackendKind::Llm) {
                Level::None
            } else {
                Level::Unknown
            },
            source: match (facts.minimal, self.lacks(BackendKind::Llm)) {
                (true, _) => "runtime_mode",
                (false, false) => "init",
                (false, true) => "unloaded",
            },
            model: llm_path.rsplit('/').next().unwrap_or_default().to_owned(),
            notes: String::new(),
            structured_mode: "parser_fallback",
            validated_at: None,
            model_fingerprint: llm_path.to_owned(),
        });
        facts
    }

    /// Everything that could serve here; what serves alone, where nobody can say more in time.
    pub(super) async fn found(&self) -> Vec<Capability> {
        if let Some(board) = self.engine().switchboard()
            && let Ok(found) = tokio::time::timeout(CAPABILITIES_LIMIT, board.capabilities()).await
        {
            return found;
        }
        let serving = |kind| self.engine().registry().lease(kind);
        BackendKind::ALL
            .into_iter()
            .filter_map(serving)
            .map(|serving| {
                let capabilities = serving.capabilities();
                Capability {
                    kind: capabilities.kind,
                    backend: capabilities.name.clone(),
                    available: true,
                    reason: None,
                    remedy: None,
                    devices: capabilities.device.iter().cloned().collect(),
                    models: Vec::new(),
                }
            })
            .collect()
    }

    pub(super) async fn capabilities(&self) -> Capabilities {
        named(&self.found().await)
    }
}

/// AVA's names for what can run here. Vosk's Kaldi models, CTranslate2 and Silero can't.
pub(super) fn named(found: &[Capability]) -> Capabilities {
    let has = |kind, backend: &str| {
        found
            .iter()
            .any(|known| known.kind == kind && known.backend == backend && known.available)
    };
    let (hears, speaks) = (
        has(BackendKind::Stt, super::switching::SHERPA),
        has(BackendKind::Tts, super::switching::SHERPA),
    );
    Capabilities {
        sherpa: hears,
        tone: hears,
        kroko_embedded: hears,
        whisper_cpp: has(BackendKind::Stt, super::switching::WHISPER),
        piper: speaks,
        kokoro: speaks,
        matcha: speaks,
        llama: has(BackendKind::Llm, super::switching::LLAMA),
        ..Capabilities::default()
    }
}
