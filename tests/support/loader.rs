//! A loader whose models are scripted: a model's name says what becomes of it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use repartee::backend::fake::{Control, ScriptedLlm, ScriptedStt, ScriptedTts, ScriptedTurn, ScriptedVad, Sound};
use repartee::backend::{Backend, Capabilities};
use repartee::call::{BackendKind, Probability, Served, SwitchFailure, SwitchRequest, SwitchStage};
use repartee::registry::{
    Capability, GenerationCounter, Later, Loader, ModelCapability, Plan, Registry, Seat, Serving, Slot,
};

const GIB: u64 = 1 << 30;

/// Loads scripted backends. Of a model that is called
///
/// - `absent…`, there is none;
/// - `huge…`, 8 GiB are needed, and 4 are free;
/// - `large-…`, a byte more is needed than is free: it fits once what serves was stopped;
/// - `broken…`, the load fails, with a worker's last words;
/// - `hanging…`, the load never ends;
/// - `silent…` (a voice), the verification fails;
/// - `deaf…` (a recogniser), something else is heard than was said, and of `mute…` (a language model), nothing is answered;
/// - anything else, it is loaded after [`ScriptedLoader::load_takes`], and a voice that ends with a number sings at so many Hz.
pub(crate) struct ScriptedLoader {
    generations: GenerationCounter,
    takes: Duration,
    hears: Option<String>,
    rows: Option<Vec<Capability>>,
    pub(crate) live: Arc<AtomicUsize>,
    pub(crate) loads: Arc<AtomicU64>,
    /// To kill what was loaded, by model.
    pub(crate) controls: Arc<Mutex<BTreeMap<String, Control>>>,
}

impl ScriptedLoader {
    pub(crate) fn new(registry: &Registry) -> Self {
        Self {
            generations: registry.generations(),
            takes: Duration::from_millis(30),
            hears: None,
            rows: None,
            live: Arc::default(),
            loads: Arc::default(),
            controls: Arc::default(),
        }
    }

    pub(crate) fn load_takes(mut self, takes: Duration) -> Self {
        self.takes = takes;
        self
    }

    /// Its recognisers hear this, whatever is said; otherwise they tell how long it was.
    pub(crate) fn hears(mut self, text: &str) -> Self {
        self.hears = Some(text.to_owned());
        self
    }

    /// It says that it has these.
    pub(crate) fn with_rows(mut self, rows: Vec<Capability>) -> Self {
        self.rows = Some(rows);
        self
    }

    /// Kills the worker of a model that is loaded.
    pub(crate) fn kill(&self, model: &str) {
        if let Some(control) = self.controls.lock().expect("nobody panics with it").get(model) {
            control.kill();
        }
    }

    fn backend(&self, kind: BackendKind, model: &str) -> Backend {
        let generation = self.generations.next();
        let name = format!("scripted-{kind}");
        let mut controls = self.controls.lock().expect("nobody panics with it");
        match kind {
            BackendKind::Vad => Backend::Vad(Arc::new(
                ScriptedVad::default().named(&name, model).with_generation(generation),
            )),
            BackendKind::Stt => {
                let stt = match &self.hears {
                    _ if model.starts_with("deaf") => ScriptedStt::new(["what on earth does anybody mean"]),
                    Some(text) => ScriptedStt::new([text.as_str()]),
                    None => ScriptedStt::measuring(),
                };
                let stt = stt.named(&name, model).with_generation(generation);
                controls.insert(model.to_owned(), stt.control());
                Backend::Stt(Arc::new(stt))
            }
            BackendKind::Llm => {
                let llm = match model.starts_with("mute") {
                    true => ScriptedLlm::new([Vec::new()]),
                    false => ScriptedLlm::echo(),
                };
                let llm = llm.named(&name, model).with_generation(generation);
                controls.insert(model.to_owned(), llm.control());
                Backend::Llm(Arc::new(llm))
            }
            BackendKind::Turn => Backend::Turn(Arc::new(
                ScriptedTurn::new([Some(Probability::from_per_mille(900))])
                    .named(&name, model)
                    .with_generation(generation),
            )),
            BackendKind::Tts => {
                let digits: String = model.chars().filter(char::is_ascii_digit).collect();
                let sound = if model.starts_with("silent") {
                    Sound::Silence
                } else {
                    Sound::Tone {
                        hz: digits.parse().unwrap_or(440),
                        amplitude: 8_000,
                    }
                };
                let tts = ScriptedTts::default()
                    .millis_per_char(30)
                    .sound(sound)
                    .named(&name, model)
                    .with_generation(generation);
                controls.insert(model.to_owned(), tts.control());
                Backend::Tts(Arc::new(tts))
            }
        }
    }
}

/// Counts what is loaded.
struct Live(Arc<AtomicUsize>);

impl Drop for Live {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Shared, so that a plan can load again and again.
#[derive(Clone)]
pub(crate) struct SharedLoader(pub(crate) Arc<ScriptedLoader>);

impl Loader for SharedLoader {
    fn resolve(&self, request: &SwitchRequest, serving: Option<&Capabilities>) -> Later<Result<Plan, SwitchFailure>> {
        let kind = request.kind;
        let model = request
            .model
            .clone()
            .or_else(|| serving.map(|serving| serving.model.clone()))
            .unwrap_or_else(|| "plain".to_owned());
        let loader = self.clone();
        let options = format!("{:?}", request.options);
        Box::pin(async move {
            if model.starts_with("absent") {
                let reason = format!("there is no model {model}: expected one of plain, other");
                return Err(SwitchFailure::new(SwitchStage::Resolve, reason));
            }
            let served = Served {
                backend: format!("scripted-{kind}"),
                model: model.clone(),
            };
            let seat_served = served.clone();
            Ok(Plan {
                served,
                key: format!("{kind} {model} {options}"),
                need_bytes: Some(match model.split('-').next() {
                    Some("huge") => 8 * GIB,
                    Some("large") => 4 * GIB + 1,
                    _ => GIB,
                }),
                limit: Duration::from_millis(1_500),
                load: Box::new(move || {
                    let (seat, slot, mut released) = Seat::new(kind, seat_served.clone());
                    let (loader, model) = (Arc::clone(&loader.0), model.clone());
                    loader.live.fetch_add(1, Ordering::AcqRel);
                    loader.loads.fetch_add(1, Ordering::AcqRel);
                    let live = Live(Arc::clone(&loader.live));
                    tokio::spawn(async move {
                        let _live = live;
                        let loading = async {
                            tokio::time::sleep(loader.takes).await;
                            if model.starts_with("hanging") {
                                std::future::pending::<()>().await;
                            }
                            if model.trim_start_matches("large-").starts_with("broken") {
                                slot.send_replace(Slot::Missing {
                                    reason: format!(
                                        "the worker can't load {model}: its last words: unexpected end of file"
                                    ),
                                    by_choice: false,
                                });
                                return;
                            }
                            let backend = loader.backend(kind, &model);
                            slot.send_replace(Slot::Ready(Serving::of(backend)));
                            std::future::pending::<()>().await;
                        };
                        tokio::select! {
                            () = loading => released.wait().await,
                            () = released.wait() => {}
                        }
                        drop(slot);
                    });
                    seat
                }),
            })
        })
    }

    fn free_bytes(&self) -> Option<u64> {
        Some(4 * GIB)
    }

    fn capabilities(&self) -> Later<Vec<Capability>> {
        if let Some(rows) = self.0.rows.clone() {
            return Box::pin(async move { rows });
        }
        let model = |name: &str, available: bool| ModelCapability {
            model: name.to_owned(),
            description: String::new(),
            available,
            serving: false,
            reason: (!available).then(|| "it needs 8.0 GiB, 4.0 free".to_owned()),
            remedy: None,
            path: None,
            need_bytes: Some(GIB),
            voices: Vec::new(),
            synthetic: name.starts_with("synthetic"),
        };
        let row = |kind, backend: &str, models: Vec<ModelCapability>| Capability {
            kind,
            backend: backend.to_owned(),
            available: models.iter().any(|model| model.available),
            reason: models.is_empty().then(|| "the worker isn't built".to_owned()),
            remedy: models.is_empty().then(|| format!("make worker-{backend}")),
            devices: vec!["cpu".to_owned()],
            models,
        };
        let rows = vec![
            row(
                BackendKind::Stt,
                "scripted-stt",
                vec![model("plain", true), model("broken", true)],
            ),
            row(BackendKind::Stt, "whisper", Vec::new()),
            row(
                BackendKind::Llm,
                "scripted-llm",
                vec![model("plain", true), model("huge", false)],
            ),
            row(
                BackendKind::Tts,
                "scripted-tts",
                vec![model("voice-440", true), model("silent", true)],
            ),
        ];
        Box::pin(async move { rows })
    }
}
