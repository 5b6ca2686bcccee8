//! What the worker programs say of themselves, asked once each.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use futures_util::future::join_all;
use repartee_protocol::worker::{Hello, Job};

use crate::supervisor::{InstalledWorker, Probe, ProbedModel, installed_workers, probe};

/// How long a worker may take to tell what it can do. It loads no model, but a graphics driver may take seconds to wake.
const PATIENCE: Duration = Duration::from_secs(10);

/// A worker that was asked.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    /// The worker.
    pub(super) name: String,
    /// Its program.
    pub(super) program: PathBuf,
    /// What it said, or why it can't be used.
    pub(super) answer: Result<Probe, String>,
    /// When its program was written: another one is asked again.
    written: Option<SystemTime>,
}

impl Asked {
    /// What it is and can do, if it answered.
    pub(super) fn hello(&self) -> Option<&Hello> {
        self.answer.as_ref().ok().map(|probe| &probe.hello)
    }

    /// The models that it knows by id.
    pub(super) fn models(&self) -> &[ProbedModel] {
        self.answer.as_ref().map_or(&[], |probe| &probe.models)
    }

    /// Whether it does this job.
    pub(super) fn does(&self, job: Job) -> bool {
        self.hello().is_some_and(|hello| hello.jobs.contains(&job))
    }

    /// Where it can compute, by name, what isn't the processor first.
    pub(super) fn devices(&self) -> Vec<&str> {
        let devices = self.hello().map_or(&[][..], |hello| &hello.devices);
        let (processors, others): (Vec<&str>, Vec<&str>) = devices
            .iter()
            .map(|device| device.id.as_str())
            .partition(|id| *id == "cpu");
        others.into_iter().chain(processors).collect()
    }
}

/// The workers of these folders.
#[derive(Debug)]
pub(super) struct Probes {
    folders: Vec<PathBuf>,
    models: Option<PathBuf>,
    known: Mutex<Vec<Arc<Asked>>>,
}

impl Probes {
    /// Nobody has been asked yet.
    pub(super) fn new(folders: Vec<PathBuf>, models: Option<PathBuf>) -> Self {
        Self {
            folders,
            models,
            known: Mutex::default(),
        }
    }

    /// Where workers are looked for.
    pub(super) fn folders(&self) -> &[PathBuf] {
        &self.folders
    }

    fn known(&self) -> MutexGuard<'_, Vec<Arc<Asked>>> {
        // A list of answers can't be half right.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All that are installed, by name; those that aren't known yet are asked, at once.
    pub(super) async fn all(&self) -> Vec<Arc<Asked>> {
        let installed = installed_workers(&self.folders);
        join_all(installed.into_iter().map(|worker| self.ask(worker))).await
    }

    /// The one of this program.
    pub(super) async fn of(&self, name: &str, program: &Path) -> Arc<Asked> {
        let (name, program) = (name.to_owned(), program.to_owned());
        self.ask(InstalledWorker { name, program }).await
    }

    async fn ask(&self, worker: InstalledWorker) -> Arc<Asked> {
        let InstalledWorker { name, program } = worker;
        let written = std::fs::metadata(&program)
            .and_then(|metadata| metadata.modified())
            .ok();
        let is_same = |asked: &Arc<Asked>| asked.program == program && asked.written == written;
        // One that failed may have been mended: a library that was installed changes no program.
        let known = self
            .known()
            .iter()
            .find(|asked| is_same(asked) && asked.answer.is_ok())
            .cloned();
        if let Some(known) = known {
            return known;
        }
        let answer = probe(&program, self.models.as_deref(), PATIENCE)
            .await
            .map_err(|error| error.to_string());
        let asked = Arc::new(Asked {
            name,
            program,
            answer,
            written,
        });
        let mut known = self.known();
        known.retain(|other| other.program != asked.program);
        known.push(Arc::clone(&asked));
        asked
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::worker_script;
    use super::*;

    #[tokio::test]
    async fn a_worker_is_asked_once() {
        let folder = tempfile::tempdir().unwrap();
        let count = folder.path().join("count");
        let hello =
            r#"{"protocol":1,"name":"x","version":"1","jobs":["stt"],"devices":[{"id":"cpu"},{"id":"cuda:0"}]}"#;
        worker_script(
            folder.path(),
            "x",
            &format!("echo >>{}; echo '{{\"hello\":{hello}}}'", count.display()),
        );
        let probes = Probes::new(vec![folder.path().to_owned()], None);
        for _ in 0..2 {
            let all = probes.all().await;
            assert_eq!(all[0].devices(), ["cuda:0", "cpu"]);
            assert!(all[0].does(Job::Stt) && !all[0].does(Job::Llm));
        }
        assert_eq!(std::fs::read_to_string(&count).unwrap().lines().count(), 1);
        // One that fails is asked again.
        worker_script(folder.path(), "y", &format!("echo >>{}; exit 3", count.display()));
        for lines in [2, 3] {
            assert!(probes.all().await[1].answer.is_err());
            assert_eq!(std::fs::read_to_string(&count).unwrap().lines().count(), lines);
        }
    }
}
