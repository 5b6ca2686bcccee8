//! The walk itself: row by row, and back to what was there.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use indicatif::ProgressBar;
use repartee_protocol::native::{
    BackendKind, BackendState, Capabilities, Capability, ModelCapability, ResponseStatus, Switch, SwitchScope,
};

use super::check::{Finding, Means, Outcome, Speech, check};
use super::link::{Link, SOON, Trouble, millis};
use super::plan::{Candidate, candidates};
use super::report::{Costs, Row, Started, StartedBackend};
use super::text::plain;
use super::words::SENTENCE;
use crate::cli::client::ClientError;

/// The jobs without a model of words, and those with.
const KINDS: [BackendKind; 5] = [
    BackendKind::Stt,
    BackendKind::Tts,
    BackendKind::Vad,
    BackendKind::Turn,
    BackendKind::Llm,
];
/// A server that has just been started may still be loading.
const STARTING: Duration = Duration::from_secs(30);

/// How a walk is made.
pub(super) struct Manner {
    pub(super) url: String,
    pub(super) token: Option<String>,
    pub(super) all: bool,
    pub(super) scope: SwitchScope,
    /// How long each answer may take.
    pub(super) patience: Duration,
    /// How long each load may take.
    pub(super) load_patience: Duration,
}

/// Comes when the walk is to end early.
pub(super) type Interrupt = Pin<Box<dyn Future<Output = ()>>>;

/// A walk that is under way.
pub(super) struct Walk {
    manner: Manner,
    link: Link,
    capabilities: Capabilities,
    /// What served at the start.
    started: Vec<StartedBackend>,
    /// What a switch calls it.
    names: Vec<StartedBackend>,
    speech: Option<Speech>,
    /// Why the recogniser of the start tells nothing about voices.
    deaf: Option<String>,
    /// Jobs that were switched.
    switched: Vec<BackendKind>,
    pub(super) rows: Vec<Row>,
    pub(super) restore_problems: Vec<String>,
    pub(super) interrupted: bool,
}

impl Walk {
    /// Looks at what is there.
    pub(super) async fn begin(manner: Manner) -> Result<Self, BeginError> {
        let mut link = Link::open(&manner.url, manner.token.as_deref()).await?;
        let needed = [BackendKind::Stt, BackendKind::Tts, BackendKind::Vad, BackendKind::Llm];
        link.settle(&needed, STARTING).await?;
        let mut capabilities = link.capabilities(manner.patience).await?;
        capabilities.reply_to = None;
        let started: Vec<_> = KINDS.into_iter().filter_map(|kind| served(&link, kind)).collect();
        let names = started
            .iter()
            .map(|started| name(&capabilities.backends, started))
            .collect();
        Ok(Self {
            manner,
            link,
            capabilities,
            started,
            names,
            speech: None,
            deaf: None,
            switched: Vec::new(),
            rows: Vec::new(),
            restore_problems: Vec::new(),
            interrupted: false,
        })
    }

    /// How many rows there will be.
    pub(super) fn length(&self) -> usize {
        candidates(&self.capabilities.backends, &KINDS, self.manner.all).len()
    }

    /// Walks through all of it, or until `interrupt` comes.
    pub(super) async fn run(&mut self, bar: &ProgressBar, interrupt: &mut Interrupt) {
        tokio::select! {
            () = self.prepare(bar) => {}
            () = &mut *interrupt => {
                self.interrupted = true;
                return;
            }
        }
        let mut kinds = KINDS;
        if self.speech.is_none() {
            // The sentence comes from the first voice that works.
            kinds.swap(0, 1);
        }
        for kind in kinds {
            for candidate in candidates(&self.capabilities.backends, &[kind], self.manner.all) {
                bar.set_message(candidate.name());
                tokio::select! {
                    row = self.row(&candidate) => self.rows.push(row),
                    () = &mut *interrupt => {
                        self.interrupted = true;
                        return;
                    }
                }
                bar.inc(1);
            }
            // What comes next is tried beside what served at the start. That it does is looked at in the end.
            tokio::select! {
                _ = self.back(kind) => {}
                () = &mut *interrupt => {
                    self.interrupted = true;
                    return;
                }
            }
        }
    }

    /// Has the sentence spoken, and hears what the recogniser makes of it.
    async fn prepare(&mut self, bar: &ProgressBar) {
        bar.set_message("the sentence");
        if self.link.stages(true, false, true).await.is_err() {
            return;
        }
        if !self.link.serves(BackendKind::Stt) {
            self.deaf = Some("no recogniser served at the start to tell its words".to_owned());
        } else if self.link.is_synthetic(BackendKind::Stt) {
            self.deaf = Some("the recogniser of the start is synthetic and can't tell its words".to_owned());
        }
        if !self.link.serves(BackendKind::Tts) {
            return;
        }
        let synthetic = self.link.is_synthetic(BackendKind::Tts);
        if let Ok(spoken) = self.link.say(SENTENCE, self.manner.patience).await
            && spoken.status == ResponseStatus::Completed
            && !spoken.pcm.is_empty()
        {
            let pcm = spoken.pcm;
            self.speech = Some(Speech { pcm, synthetic });
        }
    }

    /// Tries one candidate.
    async fn row(&mut self, candidate: &Candidate) -> Row {
        if let Some(absent) = &candidate.absent {
            return Row::skipped(candidate, &absent.reason, absent.remedy.as_deref());
        }
        if self.speech.is_none() && !matches!(candidate.kind, BackendKind::Tts | BackendKind::Llm) {
            let remedy = "choose a voice for the server (tts.backend), or see the tts rows";
            return Row::skipped(candidate, "no voice has spoken the sentence", Some(remedy));
        }
        let clock = self.link.clock;
        let begun = clock.now();
        let mut costs = Costs::default();
        let tried = self.tried(candidate, &mut costs).await;
        costs.elapsed_ms = millis(begun, clock.now());
        match tried {
            Ok((finding, synthetic)) => Row::found(candidate, synthetic, finding, costs),
            Err(trouble) => {
                let reason = plain(&trouble.to_string());
                self.recover(trouble).await;
                Row::failed(candidate, reason, costs)
            }
        }
    }

    async fn tried(&mut self, candidate: &Candidate, costs: &mut Costs) -> Result<(Finding, bool), Trouble> {
        let kind = candidate.kind;
        // A model is asked without a voice, and nobody answers what a recogniser hears.
        let llm = kind == BackendKind::Llm;
        self.link.stages(!llm, llm, !llm).await?;
        self.link.settle(&[kind], SOON).await?;
        let switch = Switch {
            backend: Some(candidate.backend.clone()),
            model: Some(candidate.model.clone()).filter(|model| !model.is_empty()),
            voice: candidate.voice.clone(),
            scope: self.manner.scope,
            ..Switch::new(kind)
        };
        if !self.switched.contains(&kind) {
            // Also where it is given up in the middle: who knows what was done.
            self.switched.push(kind);
        }
        let switched = self.link.switch(switch, self.manner.load_patience).await?;
        (costs.load_ms, costs.gap_ms) = (Some(switched.load_ms), Some(switched.gap_ms));
        let synthetic = candidate.synthetic || self.link.is_synthetic(kind);
        let means = Means {
            speech: self.speech.as_ref(),
            deaf: self.deaf.as_deref(),
            patience: self.manner.patience,
        };
        let (finding, pcm) = check(&mut self.link, kind, synthetic, &means).await?;
        let spoke = matches!(finding.outcome, Outcome::Ok | Outcome::Loaded);
        if let Some(pcm) = pcm.filter(|_| spoke && self.speech.is_none()) {
            self.speech = Some(Speech { pcm, synthetic });
        }
        Ok((finding, synthetic))
    }

    /// Makes the session fit for the next row; another one, where it is over.
    async fn recover(&mut self, trouble: Trouble) {
        let broken = match trouble {
            Trouble::Broken(_) => true,
            Trouble::Switch(_) | Trouble::Refused(_) => false,
            Trouble::Late { .. } => self.link.call_off().await.is_err(),
        };
        if broken
            // Where there is none to be had, the next rows say so.
            && let Ok(link) = Link::open(&self.manner.url, self.manner.token.as_deref()).await
        {
            self.link = link;
            let _ = self.link.settle(&KINDS, SOON).await;
            if self.manner.scope == SwitchScope::Session {
                // It was served alone, and that is over.
                self.switched.clear();
            }
        }
    }

    /// Switches a job back to what served at the start.
    async fn back(&mut self, kind: BackendKind) -> Result<(), Trouble> {
        if !self.switched.contains(&kind) {
            return Ok(());
        }
        let Some(name) = self.names.iter().find(|name| name.kind == kind).cloned() else {
            let alone = self.manner.scope == SwitchScope::Session;
            return match alone {
                // The session ends with it.
                true => Ok(()),
                false => Err(Trouble::Refused(
                    "nothing did this job before; what was tried last goes on".to_owned(),
                )),
            };
        };
        let settings = &self.link.ready.settings;
        let switch = Switch {
            backend: Some(name.backend),
            model: Some(name.model).filter(|model| !model.is_empty()),
            voice: settings.voice.clone().filter(|_| kind == BackendKind::Tts),
            language: settings.language.clone(),
            scope: self.manner.scope,
            ..Switch::new(kind)
        };
        self.link.switch(switch, self.manner.load_patience).await?;
        self.switched.retain(|switched| *switched != kind);
        Ok(())
    }

    /// Puts back what isn't yet, looks whether all is as it was, and ends the session.
    pub(super) async fn restore(&mut self) {
        if self.interrupted
            && let Err(trouble) = self.link.call_off().await
        {
            self.recover(trouble).await;
        }
        let mut troubles = Vec::new();
        for kind in KINDS {
            if let Err(trouble) = self.back(kind).await {
                troubles.push((kind, plain(&trouble.to_string())));
                self.recover(trouble).await;
            }
        }
        let kinds: Vec<_> = self.started.iter().map(|started| started.kind).collect();
        let status = async {
            self.link.stages(true, true, true).await?;
            self.link.settle(&kinds, SOON).await?;
            self.link.status().await
        };
        if let Err(trouble) = status.await {
            self.restore_problems.push(format!("the state can't be had: {trouble}"));
            return;
        }
        // What serves counts, not what was said about it on the way.
        for started in &self.started {
            let now = served(&self.link, started.kind);
            let same = now
                .as_ref()
                .is_some_and(|now| (&now.backend, &now.model) == (&started.backend, &started.model));
            if !same {
                let now = now.map_or_else(
                    || "nothing".to_owned(),
                    |now| format!("{} ({})", now.backend, now.model),
                );
                let StartedBackend { kind, backend, model } = started;
                let why = troubles.iter().find(|(of, _)| of == kind);
                let why = why.map_or_else(String::new, |(_, why)| format!(" ({why})"));
                let problem = format!("{}: it was {backend} ({model}), it is {now}{why}", kind.as_str());
                self.restore_problems.push(plain(&problem));
            }
        }
        let unknown = troubles.iter().filter(|(kind, _)| !kinds.contains(kind));
        let unknown: Vec<_> = unknown.map(|(kind, why)| format!("{}: {why}", kind.as_str())).collect();
        self.restore_problems.extend(unknown);
    }

    /// What is told in the end; ends the session.
    pub(super) async fn end(self) -> Walked {
        let path = |kind| {
            self.names
                .iter()
                .find(|name| name.kind == kind)
                .map(|name| self.path(name))
        };
        let backend = |kind| {
            self.started
                .iter()
                .find(|started| started.kind == kind)
                .map(|started| started.backend.clone())
        };
        let started = Started {
            stt_backend: backend(BackendKind::Stt).unwrap_or_default(),
            stt_path: path(BackendKind::Stt).unwrap_or_default(),
            tts_backend: backend(BackendKind::Tts).unwrap_or_default(),
            tts_path: path(BackendKind::Tts).unwrap_or_default(),
            llm_path: path(BackendKind::Llm).unwrap_or_default(),
            backends: self.started.clone(),
        };
        let walked = Walked {
            started,
            server: plain(&self.link.ready.server),
            capabilities: self.capabilities,
            rows: self.rows,
            restore_problems: self.restore_problems,
            interrupted: self.interrupted,
            scope: self.manner.scope,
        };
        self.link.bye().await;
        walked
    }

    /// Where a model lies on the server, or its name.
    fn path(&self, name: &StartedBackend) -> String {
        let model = model_of(&self.capabilities.backends, name);
        let path = model.and_then(|model| model.path.clone());
        path.unwrap_or_else(|| name.model.clone())
    }
}

/// A walk that is over.
pub(super) struct Walked {
    pub(super) started: Started,
    pub(super) capabilities: Capabilities,
    pub(super) rows: Vec<Row>,
    pub(super) server: String,
    pub(super) restore_problems: Vec<String>,
    pub(super) interrupted: bool,
    pub(super) scope: SwitchScope,
}

/// Why a walk can't begin.
#[derive(Debug, thiserror::Error)]
pub(super) enum BeginError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("the server can't be walked: {0}")]
    Trouble(#[from] Trouble),
}

fn served(link: &Link, kind: BackendKind) -> Option<StartedBackend> {
    match link.state(kind) {
        Some(BackendState::Ready { name, model, .. }) => Some(StartedBackend {
            kind,
            backend: name.clone(),
            model: model.clone(),
        }),
        _ => None,
    }
}

fn model_of<'a>(backends: &'a [Capability], name: &StartedBackend) -> Option<&'a ModelCapability> {
    let mut of_kind = backends.iter().filter(|backend| backend.kind == name.kind);
    let backend = of_kind.find(|backend| backend.backend == name.backend)?;
    backend.models.iter().find(|model| model.model == name.model)
}

/// What a switch calls what serves: the row that says that it is serving, for a backend may call itself otherwise.
fn name(backends: &[Capability], started: &StartedBackend) -> StartedBackend {
    let of_kind = backends.iter().filter(|backend| backend.kind == started.kind);
    let mut serving = of_kind.flat_map(|backend| {
        let models = backend.models.iter().filter(|model| model.serving);
        models.map(move |model| StartedBackend {
            kind: started.kind,
            backend: backend.backend.clone(),
            model: model.model.clone(),
        })
    });
    serving.next().unwrap_or_else(|| started.clone())
}
