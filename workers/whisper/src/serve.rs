//! All utterances, served in turns.
//!
//! whisper.cpp doesn't batch: two states at once take about as long as one after the other (four utterances of 6 s on two cores: 2.3 s with one
//! state, 2.8 with two), on twice the memory, and on more threads than the engine can spare. So one thread does one decode after the other with all the threads there are (unless the load asks for more
//! states), and chooses each time: what somebody waits for first, then whose audio waits longest. A partial decode gives way
//! when an utterance ends meanwhile.

use std::collections::BTreeMap;
use std::thread;

use repartee_worker_shell::protocol::{Params, StreamId, code};
use repartee_worker_shell::{Batch, Failure, Input, Outlet, Step, Stream};

use crate::model::{Decoder, Stopped};
use crate::settings::Settings;
use crate::utterance::{Job, Purpose, Utterance};

/// The loaded model at work.
pub(crate) struct Whisper {
    settings: Settings,
    languages: Vec<&'static str>,
    decoders: Vec<Decoder>,
    utterances: BTreeMap<StreamId, Utterance>,
}

impl Whisper {
    pub(crate) fn new(settings: Settings, languages: Vec<&'static str>, decoders: Vec<Decoder>) -> Self {
        Self {
            settings,
            languages,
            decoders,
            utterances: BTreeMap::new(),
        }
    }

    /// Takes what came on a stream.
    fn take(&mut self, stream: &mut Stream) -> Result<(), Failure> {
        if !self.utterances.contains_key(&stream.id()) {
            let Params::Stt(params) = &stream.open().params else {
                return Err(Failure::new(code::INVALID, "not an utterance"));
            };
            let utterance = Utterance::new(params, &self.languages, &self.settings)?;
            self.utterances.insert(stream.id(), utterance);
        }
        let Some(utterance) = self.utterances.get_mut(&stream.id()) else {
            return Ok(());
        };
        while utterance.has_room(&self.settings) {
            match stream.next_input() {
                Some(Input::Audio(audio)) => utterance.push(&audio)?,
                Some(Input::Finish) => utterance.finished = true,
                Some(Input::Text(_)) => {}
                None => break,
            }
        }
        Ok(())
    }

    /// What is to be decoded now: as many jobs as there are decoders.
    fn jobs(&mut self) -> Vec<(StreamId, Job)> {
        let speaking = self.utterances.values().filter(|utterance| !utterance.finished).count();
        let each = speaking.div_ceil(self.decoders.len().max(1));
        let mut jobs: Vec<(StreamId, Job)> = self
            .utterances
            .iter_mut()
            .filter_map(|(stream, utterance)| {
                Some((
                    *stream,
                    utterance.job(&self.settings, u32::try_from(each).unwrap_or(u32::MAX))?,
                ))
            })
            .collect();
        jobs.sort_by_key(|(_, job)| (job.purpose, std::cmp::Reverse(job.waiting)));
        jobs.truncate(self.decoders.len());
        jobs
    }
}

/// An utterance on its way through a decode.
struct Task {
    out: Outlet,
    job: Job,
    utterance: Utterance,
    outcome: Result<(), Stopped>,
}

impl Task {
    fn run(&mut self, decoder: &mut Decoder, settings: &Settings, others: &[Outlet]) {
        let Self {
            out, job, utterance, ..
        } = self;
        let is_unwanted = || {
            let gives_way = match job.purpose {
                Purpose::Final | Purpose::Cut => false,
                // When the utterance ends now, this decode is its last.
                Purpose::Pause => others.iter().any(Outlet::is_finishing),
                Purpose::Partial => out.is_finishing() || others.iter().any(Outlet::is_finishing),
            };
            gives_way || out.is_cancelled()
        };
        self.outcome = utterance.decode(*job, decoder, settings, &is_unwanted);
    }
}

impl Batch for Whisper {
    fn step(&mut self, streams: &mut [Stream]) -> Step {
        for stream in streams.iter_mut() {
            if stream.is_cancelled() {
                self.utterances.remove(&stream.id());
            } else if let Err(failure) = self.take(stream) {
                self.utterances.remove(&stream.id());
                stream.out().fail(failure);
            }
        }
        // Whatever became of a stream that isn't here any more, its utterance is over.
        self.utterances
            .retain(|id, _| streams.iter().any(|stream| stream.id() == *id));
        let jobs = self.jobs();
        if jobs.is_empty() {
            return Step::Wait;
        }
        let is_chosen = |id: StreamId| jobs.iter().any(|(chosen, _)| *chosen == id);
        let others: Vec<Outlet> = streams
            .iter()
            .filter(|stream| self.utterances.contains_key(&stream.id()) && !is_chosen(stream.id()))
            .map(|stream| stream.out().clone())
            .collect();
        let mut tasks: Vec<Task> = Vec::with_capacity(jobs.len());
        for (id, job) in &jobs {
            let out = streams
                .iter()
                .find(|stream| stream.id() == *id)
                .map(|stream| stream.out().clone());
            if let (Some(out), Some(utterance)) = (out, self.utterances.remove(id)) {
                tasks.push(Task {
                    out,
                    job: *job,
                    utterance,
                    outcome: Ok(()),
                });
            }
        }
        let settings = &self.settings;
        match (&mut tasks[..], &mut self.decoders[..]) {
            ([task], [decoder, ..]) => task.run(decoder, settings, &others),
            (tasks, decoders) => thread::scope(|scope| {
                for (task, decoder) in tasks.iter_mut().zip(decoders) {
                    scope.spawn(|| task.run(decoder, settings, &others));
                }
            }),
        }
        for mut task in tasks {
            match task.outcome {
                Ok(()) if task.out.is_cancelled() => {}
                Ok(()) => {
                    if !task.utterance.tell(task.job, &task.out) {
                        self.utterances.insert(task.out.id(), task.utterance);
                    }
                }
                Err(Stopped::Unwanted) => {
                    self.utterances.insert(task.out.id(), task.utterance);
                }
                Err(Stopped::Failed(reason)) => task.out.fail(Failure::new(code::INTERNAL, reason)),
            }
        }
        Step::Again
    }
}
