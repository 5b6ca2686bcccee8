//! What runs in this process: detectors of speech, the turn model, the parrot.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::chosen::load_timeout;
use super::seats::Make;
use super::{House, Load};
use crate::backend::Backend;
use crate::call::{BackendKind, Served};
use crate::cli::serve::models::data_folder;
use crate::config::{Config, TurnBackend, VadBackend};
use crate::id::Generation;
use crate::provider::onnx::{self, Places};
use crate::provider::parrot::ParrotBackend;
use crate::provider::silero::{self, SileroBackend, SileroOptions};
use crate::provider::smart_turn::{self, SmartTurnBackend, SmartTurnOptions};
use crate::provider::webrtc_vad::{Aggressiveness, WebrtcVadBackend};
use crate::registry::Plan;

impl House {
    /// A plan for something of this process. It is small: no memory is asked for.
    pub(super) fn plan_here(&self, kind: BackendKind, served: Served, key: String, make: Make, load: Load) -> Plan {
        let house = self.clone();
        let named = served.clone();
        Plan {
            served,
            key,
            need_bytes: None,
            limit: load_timeout(self.config()),
            load: Box::new(move || house.load_here(kind, named.clone(), Arc::clone(&make), load.clone())),
        }
    }

    fn plan_fixed(&self, kind: BackendKind, backend: &str, model: &str, make: Make) -> Plan {
        let served = Served {
            backend: backend.to_owned(),
            model: model.to_owned(),
        };
        self.plan_here(kind, served, format!("{kind} {backend}"), make, Load::Here)
    }

    /// A detector of speech.
    pub(in crate::cli::serve) fn plan_vad(&self, backend: VadBackend) -> Plan {
        let model = if backend == VadBackend::Webrtc {
            "webrtc"
        } else {
            "silero-vad"
        };
        let make: Make = Arc::new(move |house, generation| load_vad(house.config(), backend, generation));
        self.plan_fixed(BackendKind::Vad, backend.word(), model, make)
    }

    /// The turn model.
    pub(in crate::cli::serve) fn plan_turn(&self) -> Plan {
        let make: Make = Arc::new(|house, generation| load_turn(house.config(), generation));
        self.plan_fixed(BackendKind::Turn, "smart-turn", "smart-turn-v3", make)
    }

    /// What repeats what it heard.
    pub(in crate::cli::serve) fn plan_parrot(&self) -> Plan {
        let make: Make = Arc::new(|_, generation| Ok(Backend::Llm(Arc::new(ParrotBackend::new(generation)))));
        self.plan_fixed(BackendKind::Llm, "parrot", "parrot", make)
    }
}

fn places(config: &Config) -> Places {
    Places {
        library: config.paths.onnxruntime.clone(),
        data: data_folder(config),
    }
}

/// A model below the configured root, if it is there; elsewhere the provider looks itself.
fn configured(config: &Config, file: &str) -> Option<PathBuf> {
    let models: &Path = config.paths.models.as_deref()?;
    Some(models.join(file)).filter(|path| path.is_file())
}

/// Silero's model, and whatever runs it.
///
/// # Errors
/// What isn't there, with the remedy.
pub(super) fn find_silero(config: &Config) -> Result<PathBuf, String> {
    let (options, variable) = (silero_options(config), |name: &str| std::env::var_os(name));
    let path = silero::find_model(&options, &variable).map_err(|error| error.to_string())?;
    let library = onnx::find_library(&options.places, &variable);
    library.map(|_| path).map_err(|error| error.to_string())
}

/// The turn model, and whatever runs it.
///
/// # Errors
/// What isn't there, with the remedy.
pub(super) fn find_smart_turn(config: &Config) -> Result<PathBuf, String> {
    let (options, variable) = (smart_turn_options(config), |name: &str| std::env::var_os(name));
    let path = smart_turn::find_model(&options, &variable).map_err(|error| error.to_string())?;
    let library = onnx::find_library(&options.places, &variable);
    library.map(|_| path).map_err(|error| error.to_string())
}

fn silero_options(config: &Config) -> SileroOptions {
    SileroOptions {
        places: places(config),
        model: configured(config, silero::MODEL_FILE),
        ungated: false,
    }
}

fn smart_turn_options(config: &Config) -> SmartTurnOptions {
    SmartTurnOptions {
        places: places(config),
        model: configured(config, smart_turn::MODEL_FILE),
        nice: config.workers.nice,
    }
}

fn load_vad(config: &Config, wanted: VadBackend, generation: Generation) -> Result<Backend, String> {
    let webrtc = || Backend::Vad(Arc::new(WebrtcVadBackend::new(Aggressiveness::Aggressive, generation)));
    if wanted == VadBackend::Webrtc {
        return Ok(webrtc());
    }
    match SileroBackend::load(&silero_options(config), generation) {
        Ok(silero) => Ok(Backend::Vad(Arc::new(silero))),
        Err(error) if wanted == VadBackend::Auto => {
            tracing::warn!("using WebRTC's detector alone, which mistakes more noise for speech: {error}");
            Ok(webrtc())
        }
        Err(error) => Err(error.to_string()),
    }
}

fn load_turn(config: &Config, generation: Generation) -> Result<Backend, String> {
    match SmartTurnBackend::load(&smart_turn_options(config), generation) {
        Ok(smart_turn) => Ok(Backend::Turn(Arc::new(smart_turn))),
        Err(error) => {
            // What nobody asked for and isn't there is no news; what is there and broken is.
            if config.turn.backend == TurnBackend::SmartTurn || !error.is_absence() {
                tracing::warn!("turns end by silence and words alone: {error}");
            }
            Err(error.to_string())
        }
    }
}
