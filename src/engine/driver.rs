//! One session's driver: it moves samples, results and timers between the world and the core, and decides nothing.
//!
//! A driver is one future on one thread. A poll takes what is there (commands, audio, backend changes, results, the
//! clock), gives each to the core as an [`Input`], does what the core wants, and goes on until nothing is left. Then it
//! sleeps until somebody wakes it or the nearest deadline comes.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::Stream as _;
use tokio::time::Sleep;
use tokio_stream::wrappers::WatchStream;

use super::clock::Clock;
use super::jobs::{GenerationJob, PredictionJob, Progress, SynthesisJob, Transcription, due, poll_running, waits_for};
use super::playout::Player;
use super::recording::Recorder;
use super::ring::AudioRing;
use super::shadow::{Shadow, Work};
use super::switching::{Beside, Lease, SwitchJob};
use super::wire::{INPUT_CAPACITY, Port};
use crate::backend::{Backend, LlmRequest, OpenError, Push, SttRequest, TtsEvent, TtsRequest, Vad};
use crate::call::{BackendKind, CloseReason, Event, LlmEvent, Probability, StageFailure, SttEvent};
use crate::id::{SessionId, SynthesisId};
use crate::metrics::Metrics;
use crate::registry::{Registry, Seat, Switchboard};
use crate::session::{Action, Input, Output, PlayoutEvent, Session, TtsProgress};
use crate::time::{Samples, Span, Time};

/// Samples that one step of the core takes in: 20 ms. Larger pieces are cut, so that VAD and core see even time.
const STEP_SAMPLES: usize = 320;
/// Rounds of work before a driver lets the others of its thread go on.
const ROUNDS_PER_POLL: usize = 64;
/// Samples of the last eight seconds: what turn models look at.
const PREDICTION_SAMPLES: u64 = 8 * crate::time::SESSION_RATE as u64;

/// What a driver needs of the engine.
#[derive(Clone)]
pub(super) struct Surroundings {
    pub(super) registry: Arc<Registry>,
    /// Switches them.
    pub(super) switchboard: Option<Arc<Switchboard>>,
    pub(super) metrics: Arc<Metrics>,
    /// Told when the engine goes away: the milliseconds left.
    pub(super) drain: tokio::sync::watch::Receiver<Option<u32>>,
    /// Which session this is.
    pub(super) id: SessionId,
    /// Delay in ms before work that failed is tried again; differs from session to session.
    pub(super) retry_after_ms: u32,
}

/// See the [module](self).
pub(super) struct Driver {
    pub(super) clock: Clock,
    session: Session,
    port: Port,
    pub(super) surroundings: Surroundings,
    drain: WatchStream<Option<u32>>,
    pub(super) leases: Vec<Lease>,
    /// What this session alone was switched to.
    pub(super) own_seats: Vec<Seat>,
    pub(super) switches: Vec<SwitchJob>,
    pub(super) beside: Vec<Beside>,
    pub(super) shadows: Vec<Shadow>,
    pub(super) answers: VecDeque<Input>,
    pub(super) ring: AudioRing,
    keep_from: Samples,
    pub(super) vad: Option<Box<dyn Vad>>,
    pub(super) vad_next: Samples,
    /// The newest stretch that is known to hold our own voice.
    echo: Span,
    pub(super) transcriptions: Vec<Transcription>,
    generations: Vec<GenerationJob>,
    syntheses: Vec<SynthesisJob>,
    predictions: Vec<PredictionJob>,
    player: Player,
    recorder: Option<Recorder>,
    /// When the core wants to be called again.
    deadline: Option<Time>,
    sleep: Pin<Box<Sleep>>,
    step: Vec<i16>,
    pub(super) scratch: Vec<i16>,
    playout_events: Vec<(crate::id::ResponseId, PlayoutEvent)>,
    /// The wire has left events lying until there was no room for more.
    stuck: bool,
    /// The core knows that the wire is gone.
    told_gone: bool,
    ended: bool,
}

impl Driver {
    pub(super) fn new(
        clock: Clock,
        session: Session,
        port: Port,
        player: Player,
        recorder: Option<Recorder>,
        surroundings: Surroundings,
        ring_bound: Samples,
    ) -> Self {
        let drain = WatchStream::new(surroundings.drain.clone());
        Self {
            clock,
            session,
            port,
            surroundings,
            drain,
            leases: Vec::new(),
            own_seats: Vec::new(),
            switches: Vec::new(),
            beside: Vec::new(),
            shadows: Vec::new(),
            answers: VecDeque::new(),
            ring: AudioRing::new(ring_bound),
            keep_from: Samples::ZERO,
            vad: None,
            vad_next: Samples::ZERO,
            echo: Span::default(),
            transcriptions: Vec::new(),
            generations: Vec::new(),
            syntheses: Vec::new(),
            predictions: Vec::new(),
            player,
            recorder,
            deadline: None,
            sleep: Box::pin(tokio::time::sleep_until(clock.instant(Time::ZERO))),
            step: Vec::with_capacity(STEP_SAMPLES),
            scratch: Vec::new(),
            playout_events: Vec::new(),
            stuck: false,
            told_gone: false,
            ended: false,
        }
    }

    /// The first input.
    pub(super) fn begin(&mut self, input: Input) {
        self.player.open(self.clock.now());
        self.input(input);
    }

    /// Gives `input` to the core and does what it wants.
    pub(super) fn input(&mut self, input: Input) {
        let now = self.clock.now();
        if let Some(recorder) = &mut self.recorder {
            recorder.begin_step(now, &input);
        }
        self.session.handle(now, input);
        loop {
            match self.session.poll() {
                Output::Action(action) => self.perform(action),
                Output::Timeout(deadline) => {
                    self.deadline = deadline;
                    break;
                }
            }
        }
        if let Some(recorder) = &mut self.recorder {
            recorder.end_step();
        }
    }

    fn perform(&mut self, action: Action) {
        if let Some(recorder) = &mut self.recorder {
            recorder.action(&action);
        }
        match action {
            Action::Acquire { kind } => self.acquire(kind),
            Action::Release { kind } => self.release(kind),
            Action::Adopt { kind, generation } => self.adopt(kind, generation),
            Action::Switch { id, request } => self.begin_switch(id, *request),
            Action::CancelSwitch { id } => self.cancel_switch(id),
            Action::Promote { id } => self.promote(id),
            Action::Transcribe {
                id,
                from,
                not_before,
                language,
            } => {
                let hints = self.session.settings().hints.clone();
                let request = SttRequest { language, hints };
                self.transcriptions
                    .push(Transcription::new(id, request, from, not_before));
            }
            Action::FinishTranscription { id, end } => {
                if let Some(job) = self.transcriptions.iter_mut().find(|job| job.id == id) {
                    job.finish(end);
                }
                let now = self.clock.now();
                if let Some(shadow) = self.shadow(Work::Stt(id)) {
                    shadow.finish(end, now);
                }
            }
            Action::CancelTranscription { id } => {
                self.transcriptions.retain(|job| job.id != id);
                self.forget_shadow(Work::Stt(id));
            }
            Action::Predict { id, from, end } => self.predict(id, from, end),
            Action::CancelPrediction { id } => {
                self.predictions.retain(|job| job.id != id);
                self.surroundings.metrics.turn_prediction("withdrawn");
            }
            Action::Generate { id, prompt, not_before } => {
                self.generations.push(GenerationJob {
                    id,
                    progress: Progress::Waiting(
                        not_before,
                        LlmRequest {
                            prompt: *prompt,
                            conversation: Some(self.surroundings.id),
                        },
                    ),
                    keep: None,
                });
            }
            Action::CancelGeneration { id } => {
                self.generations.retain(|job| job.id != id);
                self.forget_shadow(Work::Llm(id));
            }
            Action::Synthesize {
                id,
                response,
                text,
                voice,
                not_before,
            } => {
                self.player.begin(id, response);
                let request = TtsRequest {
                    text,
                    voice,
                    language: None,
                };
                self.syntheses.push(SynthesisJob {
                    id,
                    progress: Progress::Waiting(not_before, request),
                    keep: None,
                });
            }
            Action::CancelSynthesis { id } => {
                self.syntheses.retain(|job| job.id != id);
                self.player.cancel(id);
                self.forget_shadow(Work::Tts(id));
            }
            Action::Play { response } => self.player.play(response, self.clock.now()),
            Action::FinishPlayout { response } => {
                self.player.finish(response);
                self.player.resume(self.clock.now());
            }
            Action::StopPlayout { response } => {
                self.player.set_delay(self.port.delay());
                let event = self.player.stop(response, self.clock.now());
                self.port.flush();
                self.playout_events.push((response, event));
            }
            Action::Gain { per_mille } => self.player.set_gain(per_mille),
            Action::KeepFrom { from } => self.keep_from = from,
            Action::Emit(event) => self.emit(event),
            Action::End => self.ended = true,
        }
    }

    fn emit(&mut self, event: Event) {
        self.surroundings.metrics.observe(&event);
        if let Event::ResponseDone { response, .. } = &event {
            self.player.forget(*response);
        }
        if self.port.events.try_send(event).is_err() {
            // Events are never dropped while the call goes on: a client that takes none is a client that is gone.
            self.stuck = true;
        }
    }

    /// A stage that is asked while no backend serves it.
    fn missing(&self, kind: BackendKind) -> StageFailure {
        StageFailure {
            backend: kind.to_string(),
            reason: format!("no {kind} backend is serving"),
            retry: true,
            retry_after_ms: self.surroundings.retry_after_ms,
        }
    }

    fn predict(&mut self, id: crate::id::PredictionId, from: Samples, end: Samples) {
        let mut answer = None;
        if let Some(Backend::Turn(backend)) = self.backend(BackendKind::Turn).cloned() {
            let from = from.max(end.saturating_sub(Samples::new(PREDICTION_SAMPLES)));
            let wanted = usize::try_from((end - from).count()).unwrap_or(usize::MAX);
            self.scratch.clear();
            self.ring.read(from, wanted, &mut self.scratch);
            match backend.predict(&self.scratch) {
                Ok(asked) => answer = Some(asked),
                // The turn then ends by silence and words, like one that the model has no opinion about.
                Err(OpenError::Busy { .. }) => self.surroundings.metrics.turn_prediction("refused"),
                Err(error) => {
                    tracing::debug!(%error, "the turn model can't be asked");
                    self.surroundings.metrics.turn_prediction("failed");
                }
            }
        }
        self.predictions.push(PredictionJob { id, answer });
    }

    fn poll_commands(&mut self, context: &mut Context<'_>) -> bool {
        if self.told_gone {
            return false;
        }
        match self.port.commands.poll_recv(context) {
            Poll::Ready(Some(command)) => {
                // Audio that was sent before a command is heard before it: `commit` means all of it. What the ring holds
                // by now includes that; what a wire adds in the meantime may wait.
                for _ in 0..INPUT_CAPACITY / STEP_SAMPLES {
                    if !self.take_audio() {
                        break;
                    }
                }
                self.input(Input::Command(command));
                true
            }
            Poll::Ready(None) => {
                self.told_gone = true;
                self.input(Input::Disconnected {
                    reason: CloseReason::Disconnected,
                });
                true
            }
            Poll::Pending => false,
        }
    }

    fn poll_drain(&mut self, context: &mut Context<'_>) -> bool {
        match Pin::new(&mut self.drain).poll_next(context) {
            Poll::Ready(Some(Some(within_ms))) => {
                self.input(Input::Drain { within_ms });
                true
            }
            Poll::Ready(Some(None)) => true,
            Poll::Ready(None) | Poll::Pending => false,
        }
    }

    fn take_audio(&mut self) -> bool {
        let mut step = std::mem::take(&mut self.step);
        self.port.take_audio(STEP_SAMPLES, &mut step);
        let some = !step.is_empty();
        if some {
            if let Some(recorder) = &mut self.recorder {
                recorder.audio(&step);
            }
            let dropped = self.ring.push(&step);
            self.input(Input::Audio {
                end: self.ring.end(),
                dropped,
            });
            self.judge();
            let beside = self.shadows.iter().filter_map(Shadow::needs_from);
            let oldest = self
                .transcriptions
                .iter()
                .map(Transcription::needs_from)
                .chain(beside)
                .min();
            self.ring.keep_from(
                oldest
                    .map_or(self.keep_from, |oldest| oldest.min(self.keep_from))
                    .min(self.vad_next),
            );
        }
        self.step = step;
        some
    }

    /// Lets VAD look at every whole frame that has arrived.
    fn judge(&mut self) {
        let Some(mut vad) = self.vad.take() else {
            self.vad_next = self.ring.end();
            return;
        };
        let frame = vad.frame_samples();
        let length = Samples::new(frame as u64);
        let mut scratch = std::mem::take(&mut self.scratch);
        while self.vad_next + length <= self.ring.end() {
            scratch.clear();
            let from = self.ring.read(self.vad_next, frame, &mut scratch);
            self.vad_next = from + length;
            if scratch.len() == frame {
                let speech = match self.is_echo(from, self.vad_next) {
                    // It looks all the same: what it knows of the sound goes on.
                    true => {
                        vad.process(&scratch);
                        Probability::from_per_mille(0)
                    }
                    false => vad.process(&scratch),
                };
                self.input(Input::Vad {
                    end: self.vad_next,
                    speech,
                });
            }
        }
        self.scratch = scratch;
        // What VAD said may have had the lease given back.
        if self.leases.iter().any(|lease| lease.kind == BackendKind::Vad) {
            self.vad = Some(vad);
        }
    }

    /// Whether most of this stretch is our own voice.
    fn is_echo(&mut self, from: Samples, end: Samples) -> bool {
        let mut echo = 0;
        loop {
            let (start, stop) = (self.echo.start.max(from), self.echo.end.min(end));
            echo += stop.saturating_sub(start).count();
            if self.echo.end >= end {
                break;
            }
            let Some(next) = self.port.take_echo(end) else { break };
            self.echo = next;
        }
        echo * 2 > (end - from).count()
    }

    fn poll_transcriptions(&mut self, context: &mut Context<'_>) -> bool {
        let mut index = 0;
        let mut progressed = false;
        while index < self.transcriptions.len() {
            let id = self.transcriptions[index].id;
            if let Some(request) = due(&self.transcriptions[index].progress, self.clock.now()) {
                let from = self.transcriptions[index].needs_from();
                self.shadow_stt(id, from, &request);
                let opened = match self.backend(BackendKind::Stt) {
                    Some(Backend::Stt(backend)) => backend
                        .open(request)
                        .map_err(|error| error.into_failure(self.surroundings.retry_after_ms)),
                    _ => Err(self.missing(BackendKind::Stt)),
                };
                match opened {
                    Ok(stream) => {
                        self.transcriptions[index].keep = self.serving(BackendKind::Stt).cloned();
                        self.transcriptions[index].progress = Progress::Running(stream);
                    }
                    Err(failure) => {
                        self.transcriptions.swap_remove(index);
                        self.input(Input::Stt {
                            id,
                            event: SttEvent::Failed(failure),
                        });
                        return true;
                    }
                }
            }
            let job = &mut self.transcriptions[index];
            let pushed = job.feed(&self.ring, &mut self.scratch);
            let event = poll_running(&mut job.progress, context, |stream, context| stream.poll_event(context));
            if event.is_none() && pushed == Push::Full {
                // Room that was made between the push and the poll woke nobody.
                job.feed(&self.ring, &mut self.scratch);
            }
            if let Some(event) = event {
                let now = self.clock.now();
                if let Some(shadow) = self.shadow(Work::Stt(id)) {
                    shadow.heard(&event, now);
                }
                if !matches!(event, SttEvent::Partial { .. }) {
                    self.transcriptions.swap_remove(index);
                }
                self.input(Input::Stt { id, event });
                progressed = true;
                break;
            }
            index += 1;
        }
        progressed
    }

    fn poll_generations(&mut self, context: &mut Context<'_>) -> bool {
        for index in 0..self.generations.len() {
            let id = self.generations[index].id;
            if let Some(request) = due(&self.generations[index].progress, self.clock.now()) {
                self.shadow_llm(id, &request);
                let opened = match self.backend(BackendKind::Llm) {
                    Some(Backend::Llm(backend)) => backend
                        .generate(request)
                        .map_err(|error| error.into_failure(self.surroundings.retry_after_ms)),
                    _ => Err(self.missing(BackendKind::Llm)),
                };
                match opened {
                    Ok(stream) => {
                        self.generations[index].keep = self.serving(BackendKind::Llm).cloned();
                        self.generations[index].progress = Progress::Running(stream);
                    }
                    Err(failure) => {
                        self.generations.swap_remove(index);
                        self.input(Input::Llm {
                            id,
                            event: LlmEvent::Failed(failure),
                        });
                        return true;
                    }
                }
            }
            let job = &mut self.generations[index];
            if let Some(event) = poll_running(&mut job.progress, context, |stream, context| stream.poll_event(context))
            {
                let now = self.clock.now();
                if let Some(shadow) = self.shadow(Work::Llm(id)) {
                    shadow.wrote(&event, now);
                }
                if matches!(event, LlmEvent::Done { .. } | LlmEvent::Failed(_))
                    && let Progress::Running(stream) = self.generations.swap_remove(index).progress
                {
                    let usage = stream.usage();
                    let tokens = [usage.prompt, usage.cached, usage.completion];
                    self.surroundings.metrics.tokens(tokens);
                }
                self.input(Input::Llm { id, event });
                return true;
            }
        }
        false
    }

    fn poll_syntheses(&mut self, context: &mut Context<'_>) -> bool {
        for index in 0..self.syntheses.len() {
            let id = self.syntheses[index].id;
            if let Some(request) = due(&self.syntheses[index].progress, self.clock.now()) {
                self.shadow_tts(id, &request);
                let opened = match self.backend(BackendKind::Tts) {
                    Some(Backend::Tts(backend)) => backend
                        .synthesize(request)
                        .map_err(|error| error.into_failure(self.surroundings.retry_after_ms)),
                    _ => Err(self.missing(BackendKind::Tts)),
                };
                match opened {
                    Ok(stream) => {
                        self.syntheses[index].keep = self.serving(BackendKind::Tts).cloned();
                        self.syntheses[index].progress = Progress::Running(stream);
                    }
                    Err(failure) => {
                        self.end_synthesis(index, id, TtsProgress::Failed(failure));
                        return true;
                    }
                }
            }
            let job = &mut self.syntheses[index];
            let event = poll_running(&mut job.progress, context, |stream, context| stream.poll_event(context));
            if let Some(event) = event {
                let now = self.clock.now();
                if let Some(shadow) = self.shadow(Work::Tts(id)) {
                    shadow.spoke(&event, now);
                }
                self.synthesised(index, id, event);
                return true;
            }
        }
        false
    }

    fn synthesised(&mut self, index: usize, id: SynthesisId, event: TtsEvent) {
        match event {
            TtsEvent::Audio { pcm, rate } => match self.player.audio(id, &pcm, rate) {
                Ok(total) => {
                    self.input(Input::Tts {
                        id,
                        event: TtsProgress::Audio { total },
                    });
                    self.player.resume(self.clock.now());
                }
                Err(error) => {
                    let backend = self.backend(BackendKind::Tts);
                    let failure = StageFailure {
                        backend: backend
                            .map_or_else(|| "tts".to_owned(), |backend| backend.capabilities().name.clone()),
                        reason: error.to_string(),
                        retry: false,
                        retry_after_ms: 0,
                    };
                    self.end_synthesis(index, id, TtsProgress::Failed(failure));
                }
            },
            TtsEvent::Words(words) => self.input(Input::Tts {
                id,
                event: TtsProgress::Words { words },
            }),
            TtsEvent::Done => {
                let total = self.player.done(id);
                self.end_synthesis(index, id, TtsProgress::Done { total });
            }
            TtsEvent::Failed(failure) => self.end_synthesis(index, id, TtsProgress::Failed(failure)),
        }
    }

    fn end_synthesis(&mut self, index: usize, id: SynthesisId, event: TtsProgress) {
        self.syntheses.swap_remove(index);
        if matches!(event, TtsProgress::Failed(_)) {
            // What was made of it stays to be played; nothing follows.
            self.player.done(id);
        }
        self.input(Input::Tts { id, event });
        self.player.resume(self.clock.now());
    }

    fn poll_predictions(&mut self, context: &mut Context<'_>) -> bool {
        for index in 0..self.predictions.len() {
            let answer = match &mut self.predictions[index].answer {
                Some(answer) => answer.poll_answer(context).map(|complete| {
                    let outcome = if complete.is_some() { "answered" } else { "failed" };
                    self.surroundings.metrics.turn_prediction(outcome);
                    complete
                }),
                None => Poll::Ready(None),
            };
            if let Poll::Ready(complete) = answer {
                let job = self.predictions.swap_remove(index);
                self.input(Input::Prediction { id: job.id, complete });
                return true;
            }
        }
        false
    }

    fn play(&mut self) -> bool {
        let now = self.clock.now();
        if self.player.next_deadline().is_some_and(|deadline| deadline <= now) {
            self.player.set_delay(self.port.delay());
            self.player.tick(now, &mut self.port, &mut self.playout_events);
            if self.player.lateness_is_due() {
                self.surroundings.metrics.frames(self.player.take_lateness());
            }
        }
        let mut events = std::mem::take(&mut self.playout_events);
        let some = !events.is_empty();
        for (response, event) in events.drain(..) {
            self.input(Input::Playout { response, event });
        }
        // What these inputs have added themselves comes first, then the buffer is used again.
        if self.playout_events.is_empty() {
            self.playout_events = events;
        }
        some
    }

    fn tick(&mut self) -> bool {
        let due = self.deadline.is_some_and(|deadline| deadline <= self.clock.now());
        if due {
            self.input(Input::Tick);
        }
        due
    }

    /// One round: every source once.
    fn round(&mut self, context: &mut Context<'_>) -> bool {
        // Each of them is asked, whether or not an earlier one had something: no source can starve another.
        let mut progressed = self.play();
        // What backends there are is known before a command asks: a client may be quicker than the first round.
        for _ in 0..BackendKind::ALL.len() {
            if !self.poll_leases(context) {
                break;
            }
            progressed = true;
        }
        progressed |= self.poll_commands(context);
        progressed |= self.poll_drain(context);
        progressed |= self.take_audio();
        progressed |= self.poll_transcriptions(context);
        progressed |= self.poll_generations(context);
        progressed |= self.poll_syntheses(context);
        progressed |= self.poll_predictions(context);
        progressed |= self.poll_switches(context);
        progressed |= self.poll_shadows(context);
        progressed |= self.give_answers();
        progressed |= self.tick();
        progressed
    }

    /// The nearest instant at which there is something to do.
    fn next_deadline(&self) -> Option<Time> {
        let waits = self.transcriptions.iter().filter_map(|job| waits_for(&job.progress));
        let waits = waits.chain(self.generations.iter().filter_map(|job| waits_for(&job.progress)));
        let waits = waits.chain(self.syntheses.iter().filter_map(|job| waits_for(&job.progress)));
        let waits = waits.chain(self.shadows.iter().map(Shadow::until));
        waits.chain(self.deadline).chain(self.player.next_deadline()).min()
    }

    /// The wire takes nothing any more, or is gone: the core is told once.
    fn hang_up_if_stuck(&mut self) {
        if self.stuck && !self.told_gone && !self.ended {
            self.told_gone = true;
            self.input(Input::Disconnected {
                reason: CloseReason::TooSlow,
            });
        }
    }
}

impl Future for Driver {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let driver = &mut *self;
        driver.port.register(context);
        for _ in 0..ROUNDS_PER_POLL {
            let progressed = driver.round(context);
            driver.hang_up_if_stuck();
            if driver.ended {
                return Poll::Ready(());
            }
            if progressed {
                continue;
            }
            let Some(deadline) = driver.next_deadline() else {
                return Poll::Pending;
            };
            let instant = driver.clock.instant(deadline);
            if driver.sleep.deadline() != instant {
                driver.sleep.as_mut().reset(instant);
            }
            if driver.sleep.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

#[cfg(test)]
mod tests;
