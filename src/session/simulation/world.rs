//! The world of a simulated call: the microphone, the scripted backends, the loudspeaker.

mod switching;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{Answer, Happening, Latencies, Script, Timeline};
use crate::call::{
    BackendKind, FinishReason, LlmEvent, Probability, Prompt, Role, StageFailure, SttEvent, SwitchRequest, ToolCall,
    When, WordTiming,
};
use crate::id::{Generation, GenerationId, PredictionId, ResponseId, SwitchId, SynthesisId, TranscriptionId};
use crate::pii::Pii;
use crate::session::random::Random;
use crate::session::{Action, Arrival, BackendChange, Input, Observer, Output, PlayoutEvent, Session, TtsProgress};
use crate::time::{Samples, Time};

/// One packet of the microphone.
const PACKET: Samples = Samples::from_millis(20);
/// One frame of the VAD: Silero's 512 samples.
const VAD_FRAME: Samples = Samples::new(512);
/// The loudspeaker tells how much was heard this often.
const HEARD_EVERY: Samples = Samples::from_millis(100);
/// The synthesiser gives its audio in pieces of this length.
const PIECE: Samples = Samples::from_millis(200);
/// The synthesiser takes this long for a character.
const CHARACTER: Samples = Samples::from_millis(65);

/// What is to be done at an instant.
#[derive(Clone, Debug)]
enum Deed {
    Happening(Happening),
    /// An answer of a backend: delivered if it is still wanted.
    Answer(Box<Input>),
    Deliver(Box<Input>),
    Microphone,
    Loudspeaker,
    Back(BackendKind),
    /// What was to be switched to is loaded.
    Loaded(SwitchId, Box<SwitchRequest>),
}

struct Utterance {
    start: Samples,
    end: Samples,
    words: Vec<(String, Samples)>,
}

struct Hearing {
    from: Samples,
    end: Option<Samples>,
    not_before: Time,
    told_words: usize,
    last_at: Time,
}

struct Player {
    response: ResponseId,
    started: bool,
    position: Samples,
    told: Samples,
    finishing: bool,
    starving: bool,
}

pub(super) struct World {
    script: Script,
    latencies: Latencies,
    session: Session,
    observer: Observer,
    random: Random,
    now: Time,
    deeds: BTreeMap<(Time, u64), Deed>,
    sequence: u64,
    inputs: u64,
    timeline: Timeline,
    utterances: Vec<Utterance>,
    received: Samples,
    judged: Samples,
    hearings: BTreeMap<TranscriptionId, Hearing>,
    generations: BTreeSet<GenerationId>,
    predictions: BTreeSet<PredictionId>,
    syntheses: BTreeSet<SynthesisId>,
    audio: BTreeMap<ResponseId, Vec<(SynthesisId, Samples)>>,
    player: Option<Player>,
    loads: BTreeMap<BackendKind, u64>,
    models: BTreeMap<BackendKind, String>,
    adopted: BTreeMap<BackendKind, Generation>,
    switching: BTreeMap<SwitchId, SwitchRequest>,
    lost: BTreeSet<BackendKind>,
    ended: bool,
}

impl World {
    pub(super) fn new(script: Script) -> Self {
        let mut world = Self {
            latencies: script.latencies,
            session: Session::new(script.settings.clone(), script.seed),
            observer: Observer::default(),
            random: Random::new(script.seed ^ 0x5c21_97ed),
            now: Time::ZERO,
            deeds: BTreeMap::new(),
            sequence: 0,
            inputs: 0,
            timeline: Timeline::new(),
            utterances: Vec::new(),
            received: Samples::ZERO,
            judged: Samples::ZERO,
            hearings: BTreeMap::new(),
            generations: BTreeSet::new(),
            predictions: BTreeSet::new(),
            syntheses: BTreeSet::new(),
            audio: BTreeMap::new(),
            player: None,
            loads: BTreeMap::new(),
            models: BTreeMap::new(),
            adopted: BTreeMap::new(),
            switching: BTreeMap::new(),
            lost: BTreeSet::new(),
            ended: false,
            script,
        };
        world.plan(Time::ZERO, Deed::Deliver(Box::new(Input::Connected)));
        if world.script.audio {
            world.plan(Time::ZERO + PACKET.duration(), Deed::Microphone);
        }
        for (at, happening) in std::mem::take(&mut world.script.happenings) {
            world.plan(at, Deed::Happening(happening));
        }
        world
    }

    pub(super) fn run(mut self) -> Timeline {
        while !self.ended {
            let timer = match self.session.poll() {
                Output::Timeout(at) => at,
                Output::Action(_) => unreachable!("actions are polled after each input"),
            };
            let planned = self.deeds.first_key_value().map(|((at, _), _)| *at);
            let next = match (planned, timer) {
                (Some(planned), Some(timer)) => planned.min(timer),
                (Some(one), None) | (None, Some(one)) => one,
                (None, None) => break,
            };
            if next > self.script.until {
                break;
            }
            self.now = self.now.max(next);
            if timer.is_some_and(|timer| timer <= self.now) && planned.is_none_or(|planned| planned > self.now) {
                self.deliver(Input::Tick);
            } else if let Some((_, deed)) = self.deeds.pop_first() {
                self.perform(deed);
            }
        }
        self.timeline.history = self.session.history().cloned().collect();
        self.timeline
    }

    fn plan(&mut self, at: Time, deed: Deed) {
        self.sequence += 1;
        self.deeds.insert((at, self.sequence), deed);
    }

    fn latency(&mut self, (least, most): (u64, u64)) -> Duration {
        Duration::from_micros(least * 1_000 + self.random.below((most - least) * 1_000 + 1))
    }

    fn deliver(&mut self, input: Input) {
        if !matches!(
            input,
            Input::Audio { .. } | Input::Vad { .. } | Input::Tick | Input::Stt { .. } | Input::Llm { .. }
        ) && let Input::Command(command) = &input
        {
            let command = format!("{command:?}");
            let name = command.split(['(', ' ', '{']).next().unwrap_or_default().to_lowercase();
            self.timeline.note(self.now, "asks", &name);
        }
        self.inputs += 1;
        if self
            .script
            .restore_every
            .is_some_and(|every| self.inputs.is_multiple_of(every))
        {
            let written = serde_json::to_string(&self.session).expect("a session can be written down");
            let restored: Session = serde_json::from_str(&written).expect("a session can be restored");
            assert!(restored == self.session, "a restored session is the session");
            self.session = restored;
        }
        self.observer
            .input(self.now, &input, self.inputs > 1 && !self.session.is_closed());
        self.timeline.inputs.push((self.now, input.clone()));
        self.session.handle(self.now, input);
        if let Err(violation) = self.session.verify() {
            panic!("{violation}\n{}", self.timeline);
        }
        loop {
            let output = self.session.poll();
            if let Err(violation) = self.observer.output(&output) {
                panic!("{violation}: {output:?}\n{}", self.timeline);
            }
            match output {
                Output::Action(action) => self.act(&action),
                Output::Timeout(_) => break,
            }
        }
    }

    fn perform(&mut self, deed: Deed) {
        match deed {
            Deed::Happening(happening) => self.happen(happening),
            Deed::Deliver(input) => self.deliver(*input),
            Deed::Answer(input) => self.answer(*input),
            Deed::Microphone => self.record(),
            Deed::Loudspeaker => self.play_on(),
            Deed::Back(kind) => {
                self.lost.remove(&kind);
                self.ready(kind, When::Now);
            }
            Deed::Loaded(id, request) => self.loaded(id, &request),
        }
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::User { text, lasting } => {
                self.timeline.note(
                    self.now,
                    "user",
                    &format!("says {text:?} for {} ms", lasting.as_millis()),
                );
                let words: Vec<&str> = text.split_whitespace().collect();
                let (start, length) = (self.received, Samples::from_duration(lasting));
                let count = words.len().max(1) as u64;
                let words = (1..)
                    .zip(words)
                    .map(|(index, word)| {
                        let end = start + Samples::new(length.count() * index / count);
                        (word.to_owned(), end)
                    })
                    .collect();
                self.utterances.push(Utterance {
                    start,
                    end: start + length,
                    words,
                });
            }
            Happening::Noise { lasting } => {
                self.timeline
                    .note(self.now, "noise", &format!("for {} ms", lasting.as_millis()));
                self.utterances.push(Utterance {
                    start: self.received,
                    end: self.received + Samples::from_duration(lasting),
                    words: Vec::new(),
                });
            }
            Happening::Input(input) => self.deliver(*input),
            Happening::Loss { kind, lasting } => self.lose(kind, lasting),
            Happening::Switch { kind } => {
                let next = self.loads.get(&kind).copied().unwrap_or_default() + 1;
                self.models.insert(kind, format!("scripted-{kind}-{next}"));
                self.ready(kind, When::Now);
            }
        }
    }

    fn failure(kind: BackendKind) -> StageFailure {
        StageFailure {
            backend: format!("scripted-{kind}"),
            reason: "the worker was killed".to_owned(),
            retry: true,
            retry_after_ms: 50,
        }
    }

    fn lose(&mut self, kind: BackendKind, lasting: Duration) {
        self.timeline.note(self.now, "worker", &format!("{kind} dies"));
        let generation = Generation::new(self.loads.get(&kind).copied().unwrap_or_default());
        // One that another is to take over from dies for good.
        let retired = self.adopted.get(&kind).is_some_and(|adopted| *adopted != generation);
        if !retired {
            self.lost.insert(kind);
            self.plan(self.now + lasting, Deed::Back(kind));
        }
        // As a supervisor does it: who waits for an answer hears first, then everybody.
        match kind {
            BackendKind::Stt => {
                for id in std::mem::take(&mut self.hearings).into_keys() {
                    self.fail_hearing(id);
                }
            }
            BackendKind::Llm => {
                for id in std::mem::take(&mut self.generations) {
                    self.deliver(Input::Llm {
                        id,
                        event: LlmEvent::Failed(Self::failure(kind)),
                    });
                }
            }
            BackendKind::Tts => {
                for id in std::mem::take(&mut self.syntheses) {
                    self.deliver(Input::Tts {
                        id,
                        event: TtsProgress::Failed(Self::failure(kind)),
                    });
                }
            }
            BackendKind::Vad | BackendKind::Turn => {}
        }
        if retired {
            return;
        }
        self.deliver(Input::Backend {
            kind,
            change: BackendChange::Lost {
                generation,
                reason: "the worker was killed".to_owned(),
                replacing: false,
            },
        });
    }

    fn fail_hearing(&mut self, id: TranscriptionId) {
        self.deliver(Input::Stt {
            id,
            event: SttEvent::Failed(Self::failure(BackendKind::Stt)),
        });
    }

    fn ready(&mut self, kind: BackendKind, when: When) {
        let load = self.loads.entry(kind).or_default();
        *load += 1;
        let generation = Generation::new(*load);
        let model = self.models.entry(kind).or_insert_with(|| format!("scripted-{kind}-1"));
        let arrival = Arrival {
            when,
            ..Arrival::new(&format!("scripted-{kind}"), model, generation)
        };
        self.deliver(Input::Backend {
            kind,
            change: BackendChange::Ready(arrival),
        });
    }

    /// An answer is delivered only while it is wanted, as a stream that was dropped says no more.
    fn answer(&mut self, input: Input) {
        let wanted = match &input {
            Input::Stt { id, event } => match event {
                SttEvent::Partial { .. } => self.hearings.contains_key(id),
                SttEvent::Final { .. } | SttEvent::Failed(_) => self.hearings.remove(id).is_some(),
            },
            Input::Llm { id, event } => match event {
                LlmEvent::Delta { .. } | LlmEvent::ToolCall(_) => self.generations.contains(id),
                LlmEvent::Done { .. } | LlmEvent::Failed(_) => self.generations.remove(id),
            },
            Input::Prediction { id, .. } => self.predictions.remove(id),
            Input::Switch { id, .. } => self.switching.remove(id).is_some(),
            Input::Tts { id, event } => {
                let wanted = match event {
                    TtsProgress::Audio { .. } | TtsProgress::Words { .. } => self.syntheses.contains(id),
                    TtsProgress::Done { .. } | TtsProgress::Failed(_) => self.syntheses.remove(id),
                };
                if let (true, TtsProgress::Audio { total } | TtsProgress::Done { total }) = (wanted, event) {
                    for (known, audio) in self.audio.values_mut().flatten() {
                        if known == id {
                            *audio = *total;
                        }
                    }
                }
                wanted
            }
            _ => true,
        };
        if wanted {
            self.deliver(input);
        }
    }

    /// A packet of the microphone, and what the VAD and the recogniser make of it.
    fn record(&mut self) {
        self.received += PACKET;
        self.plan(self.now + PACKET.duration(), Deed::Microphone);
        self.deliver(Input::Audio {
            end: self.received,
            dropped: Samples::ZERO,
        });
        while self.judged + VAD_FRAME <= self.received {
            let (start, end) = (self.judged, self.judged + VAD_FRAME);
            self.judged = end;
            let voiced = self
                .utterances
                .iter()
                .map(|utterance| {
                    utterance
                        .end
                        .min(end)
                        .saturating_sub(utterance.start.max(start))
                        .count()
                })
                .max()
                .unwrap_or_default();
            // Half a frame of voice is enough for a good VAD.
            let loudness = if voiced * 2 >= VAD_FRAME.count() { 900 } else { 20 };
            let wobble = self.random.below(80);
            self.deliver(Input::Vad {
                end,
                speech: Probability::from_per_mille(u16::try_from(loudness + wobble).unwrap_or(1_000)),
            });
        }
        let ids: Vec<TranscriptionId> = self.hearings.keys().copied().collect();
        for id in ids {
            self.listen(id);
        }
    }

    fn words(&self, from: Samples, until: Samples, whole: bool) -> Vec<String> {
        let mut words = Vec::new();
        for utterance in &self.utterances {
            let mut start = utterance.start;
            for (word, end) in &utterance.words {
                let middle = Samples::new(u64::midpoint(start.count(), end.count()));
                let known = if whole { middle < until } else { *end <= until };
                if middle >= from && known {
                    words.push(word.clone());
                }
                start = *end;
            }
        }
        words
    }

    fn listen(&mut self, id: TranscriptionId) {
        let Some((from, not_before, told_words)) = self
            .hearings
            .get(&id)
            .filter(|hearing| hearing.end.is_none())
            .map(|hearing| (hearing.from, hearing.not_before, hearing.told_words))
        else {
            return;
        };
        let words = self.words(from, self.received, false);
        if self.now < not_before || words.len() <= told_words {
            return;
        }
        let latency = self.latency(self.latencies.stt_partial);
        let Some(hearing) = self.hearings.get_mut(&id) else {
            return;
        };
        hearing.told_words = words.len();
        hearing.last_at = hearing.last_at.max(self.now + latency);
        let at = hearing.last_at;
        let stable = words[..words.len() - 1].join(" ").chars().count();
        self.plan(
            at,
            Deed::Answer(Box::new(Input::Stt {
                id,
                event: SttEvent::Partial {
                    text: Pii::new(words.join(" ")),
                    stable_chars: u32::try_from(stable).unwrap_or(u32::MAX),
                },
            })),
        );
    }

    fn act(&mut self, action: &Action) {
        self.timeline.act(self.now, action);
        match action {
            Action::Acquire { kind } => {
                if self.script.missing.contains(kind) {
                    let change = BackendChange::Missing {
                        reason: "the script has none".to_owned(),
                    };
                    self.plan(
                        self.now,
                        Deed::Deliver(Box::new(Input::Backend { kind: *kind, change })),
                    );
                } else {
                    self.plan(self.now, Deed::Back(*kind));
                }
            }
            Action::Transcribe {
                id, from, not_before, ..
            } => {
                if self.lost.contains(&BackendKind::Stt) {
                    let event = SttEvent::Failed(Self::failure(BackendKind::Stt));
                    self.plan(self.now, Deed::Deliver(Box::new(Input::Stt { id: *id, event })));
                    return;
                }
                self.hearings.insert(
                    *id,
                    Hearing {
                        from: *from,
                        end: None,
                        not_before: *not_before,
                        told_words: 0,
                        last_at: *not_before,
                    },
                );
            }
            Action::FinishTranscription { id, end } => self.finish_hearing(*id, *end),
            Action::CancelTranscription { id } => {
                self.hearings.remove(id);
            }
            Action::CancelPrediction { id } => {
                self.predictions.remove(id);
            }
            Action::Predict { id, .. } => {
                self.predictions.insert(*id);
                let complete = self.script.predictions.map(Probability::from_per_mille);
                let input = Input::Prediction { id: *id, complete };
                self.plan(self.now + Duration::from_millis(40), Deed::Answer(Box::new(input)));
            }
            Action::Generate { id, prompt, not_before } => self.generate(*id, prompt, *not_before),
            Action::CancelGeneration { id } => {
                self.generations.remove(id);
            }
            Action::Synthesize {
                id,
                response,
                text,
                not_before,
                ..
            } => self.synthesize(*id, *response, text.expose(), *not_before),
            Action::CancelSynthesis { id } => self.cancel_synthesis(*id),
            Action::Play { response } => {
                self.player = Some(Player {
                    response: *response,
                    started: false,
                    position: Samples::ZERO,
                    told: Samples::ZERO,
                    finishing: false,
                    starving: false,
                });
                let latency = self.latency(self.latencies.play);
                self.plan(self.now + latency, Deed::Loudspeaker);
            }
            Action::FinishPlayout { .. } => {
                if let Some(player) = &mut self.player {
                    player.finishing = true;
                }
            }
            Action::StopPlayout { response } => {
                let heard = self.player.take().map_or(Samples::ZERO, |player| player.position);
                let event = PlayoutEvent::Stopped { sent: heard, heard };
                let input = Input::Playout {
                    response: *response,
                    event,
                };
                self.plan(self.now + Duration::from_millis(2), Deed::Deliver(Box::new(input)));
            }
            Action::End => self.ended = true,
            Action::Switch { id, request } => self.begin_switch(*id, request),
            Action::CancelSwitch { id } => {
                self.switching.remove(id);
            }
            Action::Promote { id } => {
                if let Some(mut request) = self.switching.get(id).cloned() {
                    request.shadow = false;
                    self.plan(self.now, Deed::Loaded(*id, Box::new(request)));
                }
            }
            Action::Adopt { kind, generation } => {
                self.adopted.insert(*kind, *generation);
            }
            Action::Release { .. } | Action::Gain { .. } | Action::KeepFrom { .. } | Action::Emit(_) => {}
        }
    }

    fn finish_hearing(&mut self, id: TranscriptionId, end: Samples) {
        let latency = self.latency(self.latencies.stt_final);
        let now = self.now;
        let Some(hearing) = self.hearings.get_mut(&id) else {
            return;
        };
        hearing.end = Some(end);
        let at = hearing.last_at.max(now.max(hearing.not_before) + latency);
        let text = self
            .hearings
            .get(&id)
            .map(|hearing| self.words(hearing.from, end, true).join(" "))
            .unwrap_or_default();
        self.plan(
            at,
            Deed::Answer(Box::new(Input::Stt {
                id,
                event: SttEvent::Final { text: Pii::new(text) },
            })),
        );
    }

    /// What the language model does with this prompt.
    fn choose(&mut self, prompt: &Prompt) -> Answer {
        let Some(last) = prompt.messages.last() else {
            return Answer::Text("Hello.".to_owned());
        };
        let said = last.text.expose();
        let mut fitting = (0..self.script.answers.len()).filter(|index| said.ends_with(&self.script.answers[*index].0));
        if let Some(first) = fitting.next() {
            return if fitting.next().is_some() {
                self.script.answers.remove(first).1
            } else {
                self.script.answers[first].1.clone()
            };
        }
        Answer::Text(match last.role {
            Role::Tool => format!("The tool says {said}."),
            Role::System | Role::User | Role::Assistant => format!("You said {said}."),
        })
    }

    fn generate(&mut self, id: GenerationId, prompt: &Prompt, not_before: Time) {
        let answer = if self.lost.contains(&BackendKind::Llm) {
            Answer::Failure {
                text: String::new(),
                retry: true,
            }
        } else {
            self.choose(prompt)
        };
        self.generations.insert(id);
        let text = match &answer {
            Answer::Text(text) | Answer::Tool { text, .. } | Answer::Failure { text, .. } => text.clone(),
        };
        let mut at = self.now.max(not_before) + self.latency(self.latencies.llm_first);
        let mut tell = |world: &mut Self, event| {
            world.plan(at, Deed::Answer(Box::new(Input::Llm { id, event })));
            at += world.latency(world.latencies.llm_next);
        };
        for word in text.split_inclusive(' ') {
            let text = Pii::from(word);
            tell(self, LlmEvent::Delta { text });
        }
        match answer {
            Answer::Text(_) => tell(
                self,
                LlmEvent::Done {
                    reason: FinishReason::Stop,
                },
            ),
            Answer::Tool { name, arguments, .. } => {
                let call = ToolCall {
                    call_id: format!("call_{}", id.number()),
                    name,
                    arguments: Pii::new(arguments),
                };
                tell(self, LlmEvent::ToolCall(call));
                tell(
                    self,
                    LlmEvent::Done {
                        reason: FinishReason::ToolCalls,
                    },
                );
            }
            Answer::Failure { retry, .. } => tell(
                self,
                LlmEvent::Failed(StageFailure {
                    backend: "scripted-llm".to_owned(),
                    reason: "the script says so".to_owned(),
                    retry,
                    retry_after_ms: 50,
                }),
            ),
        }
    }

    fn synthesize(&mut self, id: SynthesisId, response: ResponseId, text: &str, not_before: Time) {
        if self.lost.contains(&BackendKind::Tts) {
            let event = TtsProgress::Failed(Self::failure(BackendKind::Tts));
            self.plan(self.now, Deed::Deliver(Box::new(Input::Tts { id, event })));
            return;
        }
        self.syntheses.insert(id);
        self.audio.entry(response).or_default().push((id, Samples::ZERO));
        let total = Samples::new(CHARACTER.count() * text.chars().count() as u64);
        let mut at = self.now.max(not_before) + self.latency(self.latencies.tts_first);
        let mut tell = |world: &mut Self, event| {
            world.plan(at, Deed::Answer(Box::new(Input::Tts { id, event })));
            at += world.latency(world.latencies.tts_next);
        };
        let ends = text
            .char_indices()
            .map(|(at, character)| (at, character.is_whitespace()))
            .chain([(text.len(), true)]);
        let words: Vec<WordTiming> = (0..)
            .zip(ends)
            .filter(|(_, (_, space))| *space)
            .map(|(end_char, _)| WordTiming {
                end_char,
                end: Samples::new(CHARACTER.count() * u64::from(end_char)),
                estimated: false,
            })
            .collect();
        tell(self, TtsProgress::Words { words });
        let mut made = PIECE;
        while made < total {
            tell(self, TtsProgress::Audio { total: made });
            made += PIECE;
        }
        tell(self, TtsProgress::Done { total });
    }

    fn cancel_synthesis(&mut self, id: SynthesisId) {
        self.syntheses.remove(&id);
        let position = self.player.as_ref().map_or(Samples::ZERO, |player| player.position);
        for clauses in self.audio.values_mut() {
            let mut start = Samples::ZERO;
            for (known, audio) in clauses.iter_mut() {
                if *known == id {
                    *audio = position.saturating_sub(start).min(*audio);
                }
                start += *audio;
            }
        }
    }

    /// A frame of the loudspeaker.
    fn play_on(&mut self) {
        let Some(player) = &mut self.player else { return };
        let response = player.response;
        let ready = self.audio.get(&response).map_or(Samples::ZERO, |clauses| {
            clauses.iter().fold(Samples::ZERO, |sum, (_, audio)| sum + *audio)
        });
        let mut told = Vec::new();
        if player.started {
            player.position = (player.position + PACKET).min(ready);
        } else {
            player.started = true;
            told.push(PlayoutEvent::Started);
        }
        let dry = player.position == ready;
        if dry && player.finishing {
            told.push(PlayoutEvent::Finished { heard: ready });
        } else if dry && !player.starving && ready > Samples::ZERO {
            told.push(PlayoutEvent::Underrun { at: ready });
        } else if player.position >= player.told + HEARD_EVERY {
            player.told = player.position;
            told.push(PlayoutEvent::Heard { until: player.position });
        }
        player.starving = dry;
        if dry && player.finishing {
            self.player = None;
        } else {
            self.plan(self.now + PACKET.duration(), Deed::Loudspeaker);
        }
        for event in told {
            self.deliver(Input::Playout { response, event });
        }
    }
}
