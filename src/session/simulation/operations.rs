//! The session under any sequence of inputs: late, stale, bogus and hostile ones. Drives the fuzz target and the random
//! walks.

use crate::call::{
    BackendKind, BargeIn, CloseReason, Command, Comparison, Digit, Endpointing, FinishReason, HistoryEdit, LlmEvent,
    Probability, Role, Say, Scope, Served, Settings, SettingsUpdate, SpeechDetection, StageFailure, Stages, SttEvent,
    SwitchFailure, SwitchRequest, SwitchStage, Tool, ToolCall, ToolOutput, TurnDetection, When, WordTiming,
};
use crate::id::{Generation, GenerationId, ItemId, PredictionId, ResponseId, SwitchId, SynthesisId, TranscriptionId};
use crate::pii::Pii;
use crate::session::{
    Action, Arrival, BackendChange, Input, Observer, Output, PlayoutEvent, Session, SwitchProgress, TtsProgress,
    Violation,
};
use crate::time::{Samples, Time};

/// What an operation is drawn from; when the bytes are used up, everything is zero.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn byte(&mut self) -> u8 {
        match self.0 {
            [first, rest @ ..] => {
                self.0 = rest;
                *first
            }
            [] => 0,
        }
    }

    fn below(&mut self, bound: u8) -> u8 {
        self.byte() % bound
    }

    fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    fn wide(&mut self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }

    /// Mostly an id that was given lately; sometimes one that never was.
    fn id(&mut self, last: u64) -> u64 {
        match self.byte() {
            byte @ 0..=7 => last.saturating_sub(byte.into()),
            8 => last + 7,
            9 => u64::MAX,
            _ => last,
        }
    }

    fn text(&mut self) -> Pii<String> {
        const TEXTS: [&str; 14] = [
            "",
            "mhm",
            "good morning",
            "I would like to",
            "stop. Please stop! Now, at once.",
            "Grüße aus 3.5 Städten, Dr. Müller...",
            "  ",
            "yeah",
            "*bold* `code` 😀 [link](https://example.com)",
            "one two three four five six seven eight nine ten eleven twelve thirteen fourteen",
            "um",
            ".",
            "\n\n\u{0}\u{fffd}",
            "你好。再见。",
        ];
        let index = usize::from(self.byte());
        if index == 255 {
            return Pii::new("long ".repeat(4_000));
        }
        Pii::from(TEXTS[index % TEXTS.len()])
    }

    fn failure(&mut self) -> StageFailure {
        StageFailure {
            backend: "fuzz".to_owned(),
            reason: "fuzz".to_owned(),
            retry: self.flag(),
            retry_after_ms: self.byte().into(),
        }
    }

    fn samples(&mut self) -> Samples {
        match self.byte() {
            0 => Samples::new(u64::MAX),
            _ => Samples::new(u64::from(self.wide()) * 4),
        }
    }

    fn kind(&mut self) -> BackendKind {
        BackendKind::ALL[usize::from(self.below(5))]
    }

    fn settings(&mut self) -> Settings {
        let defaults = Settings::default();
        let mut limits = defaults.limits;
        limits.max_history_items = 2 + u32::from(self.below(20));
        limits.max_text_chars = 20 + u32::from(self.byte()) * 8;
        limits.idle_timeout_ms = if self.byte() == 0 { 3_000 } else { 0 };
        limits.max_retries = self.below(4);
        Settings {
            stages: self.stages(),
            turn_detection: self.detection(),
            endpointing: self.endpointing(),
            limits,
            ..defaults
        }
    }

    fn stages(&mut self) -> Stages {
        let bits = self.byte();
        Stages {
            stt: bits & 1 == 0,
            llm: bits & 6 != 6,
            tts: bits & 24 != 24,
        }
    }

    fn detection(&mut self) -> TurnDetection {
        if self.byte() < 200 {
            TurnDetection::Server
        } else {
            TurnDetection::Client
        }
    }

    fn endpointing(&mut self) -> Endpointing {
        let silence_ms = 50 + u32::from(self.byte()) * 4;
        Endpointing {
            silence_ms,
            max_silence_ms: silence_ms + u32::from(self.byte()) * 8,
            hard_limit_ms: 2_000 + u32::from(self.byte()) * 100,
            eager_ms: if self.flag() { silence_ms / 2 } else { 0 },
        }
    }
}

/// What the walk knows of the session, so that it mostly says what makes sense.
#[derive(Default)]
struct Known {
    received: Samples,
    judged: Samples,
    transcription: u64,
    generation: u64,
    synthesis: u64,
    prediction: u64,
    response: u64,
    made: Samples,
    heard: Samples,
    call: Option<String>,
    load: u64,
    switch: u64,
}

impl Known {
    fn learn(&mut self, action: &Action) {
        match action {
            Action::Transcribe { id, .. } => self.transcription = id.number(),
            Action::Predict { id, .. } => self.prediction = id.number(),
            Action::Generate { id, .. } => self.generation = id.number(),
            Action::Switch { id, .. } => self.switch = id.number(),
            Action::Synthesize { id, response, .. } => {
                self.synthesis = id.number();
                self.response = response.number();
                self.made = Samples::ZERO;
            }
            Action::Play { response } => {
                self.response = response.number();
                self.heard = Samples::ZERO;
            }
            Action::Emit(crate::call::Event::ToolCall { call, .. }) => self.call = Some(call.call_id.clone()),
            _ => {}
        }
    }

    fn input(&mut self, bytes: &mut Bytes<'_>) -> Input {
        match bytes.below(32) {
            0..=7 => {
                let step = match bytes.byte() {
                    0 => 160_000,
                    byte => 160 + u64::from(byte % 3) * 160,
                };
                self.received += Samples::new(step);
                let end = if bytes.byte() == 0 {
                    Samples::new(5)
                } else {
                    self.received
                };
                Input::Audio {
                    end,
                    dropped: Samples::new(if bytes.byte() < 4 { 999 } else { 0 }),
                }
            }
            8..=15 => {
                self.judged = match bytes.byte() {
                    0 => self.received + Samples::new(1),
                    1 => self.judged,
                    _ => self.received.min(self.judged + Samples::new(512)).max(self.judged),
                };
                Input::Vad {
                    end: self.judged,
                    speech: Probability::from_per_mille(if bytes.byte() < 150 {
                        900
                    } else {
                        u16::from(bytes.byte()) * 2
                    }),
                }
            }
            16 => Input::Tick,
            17..=19 => self.stt(bytes),
            20..=22 => self.llm(bytes),
            23..=25 => self.tts(bytes),
            26..=27 => self.playout(bytes),
            28 => Input::Prediction {
                id: PredictionId::new(bytes.id(self.prediction)),
                complete: bytes.flag().then(|| Probability::from_per_mille(bytes.wide())),
            },
            29 if bytes.flag() => self.switch(bytes),
            29 => self.backend(bytes),
            30 => Input::Command(self.command(bytes)),
            _ => match bytes.byte() {
                0 => Input::Drain {
                    within_ms: u32::from(bytes.byte()) * 16,
                },
                1 => Input::Disconnected {
                    reason: CloseReason::Disconnected,
                },
                2 => Input::Connected,
                _ => Input::Command(self.command(bytes)),
            },
        }
    }

    fn stt(&self, bytes: &mut Bytes<'_>) -> Input {
        let id = TranscriptionId::new(bytes.id(self.transcription));
        let event = match bytes.below(8) {
            0..=3 => SttEvent::Partial {
                text: bytes.text(),
                stable_chars: bytes.byte().into(),
            },
            4..=6 => SttEvent::Final { text: bytes.text() },
            _ => SttEvent::Failed(bytes.failure()),
        };
        Input::Stt { id, event }
    }

    fn llm(&self, bytes: &mut Bytes<'_>) -> Input {
        let id = GenerationId::new(bytes.id(self.generation));
        let event = match bytes.below(10) {
            0..=5 => LlmEvent::Delta { text: bytes.text() },
            6 => LlmEvent::ToolCall(ToolCall {
                call_id: format!("call_{}", bytes.below(4)),
                name: "tool".to_owned(),
                arguments: bytes.text(),
            }),
            7..=8 => LlmEvent::Done {
                reason: FinishReason::Stop,
            },
            _ => LlmEvent::Failed(bytes.failure()),
        };
        Input::Llm { id, event }
    }

    fn tts(&mut self, bytes: &mut Bytes<'_>) -> Input {
        let id = SynthesisId::new(bytes.id(self.synthesis));
        let event = match bytes.below(10) {
            0..=4 => {
                self.made += Samples::from_millis(u64::from(bytes.byte()) * 4);
                TtsProgress::Audio { total: self.made }
            }
            5 => TtsProgress::Words {
                words: vec![
                    WordTiming {
                        end_char: bytes.below(20).into(),
                        end: bytes.samples(),
                        estimated: false,
                    };
                    2
                ],
            },
            6..=8 => TtsProgress::Done {
                total: if bytes.byte() == 0 { bytes.samples() } else { self.made },
            },
            _ => TtsProgress::Failed(bytes.failure()),
        };
        Input::Tts { id, event }
    }

    fn playout(&mut self, bytes: &mut Bytes<'_>) -> Input {
        let response = ResponseId::new(bytes.id(self.response));
        self.heard += Samples::from_millis(u64::from(bytes.byte()));
        let event = match bytes.below(8) {
            0..=1 => PlayoutEvent::Started,
            2..=4 => PlayoutEvent::Heard { until: self.heard },
            5 => PlayoutEvent::Underrun { at: bytes.samples() },
            6 => PlayoutEvent::Finished { heard: self.heard },
            _ => PlayoutEvent::Stopped {
                sent: bytes.samples(),
                heard: self.heard,
            },
        };
        Input::Playout { response, event }
    }

    fn backend(&mut self, bytes: &mut Bytes<'_>) -> Input {
        let kind = bytes.kind();
        let change = match bytes.below(8) {
            0..=4 => {
                self.load += 1;
                let model = format!("fuzz-{}", bytes.below(2));
                let mut arrival = Arrival::new("fuzz", &model, Generation::new(self.load));
                if bytes.flag() {
                    arrival.when = When::NextTurn;
                }
                BackendChange::Ready(arrival)
            }
            5..=6 => BackendChange::Lost {
                generation: Generation::new(self.load),
                reason: "fuzz".to_owned(),
                replacing: bytes.flag(),
            },
            _ => BackendChange::Missing {
                reason: "fuzz".to_owned(),
            },
        };
        Input::Backend { kind, change }
    }

    /// What becomes of a switch: of one that is under way, or of one that nobody knows.
    fn switch(&mut self, bytes: &mut Bytes<'_>) -> Input {
        let id = SwitchId::new(bytes.id(self.switch));
        let served = |bytes: &mut Bytes<'_>| Served {
            backend: "fuzz".to_owned(),
            model: format!("fuzz-{}", bytes.below(2)),
        };
        let progress = match bytes.below(8) {
            0 => SwitchProgress::Started { to: served(bytes) },
            1..=3 => SwitchProgress::Loaded {
                new: served(bytes),
                generation: Generation::new(self.load + u64::from(bytes.below(2))),
                load_ms: 1,
            },
            4..=5 => SwitchProgress::Failed(SwitchFailure::new(SwitchStage::Load, "fuzz")),
            _ => SwitchProgress::Compared(Comparison::default()),
        };
        Input::Switch { id, progress }
    }

    fn command(&self, bytes: &mut Bytes<'_>) -> Command {
        match bytes.below(20) {
            16..=17 => Command::Switch(Box::new(SwitchRequest {
                backend: bytes.flag().then(|| "fuzz".to_owned()),
                voice: bytes.flag().then(|| "v".to_owned()),
                scope: if bytes.flag() { Scope::Server } else { Scope::Session },
                when: if bytes.flag() { When::NextTurn } else { When::Now },
                shadow: bytes.flag(),
                ..SwitchRequest::new(bytes.kind())
            })),
            18 if bytes.flag() => Command::CancelSwitch { kind: bytes.kind() },
            18 => Command::Promote { kind: bytes.kind() },
            19 => Command::Approve {
                response: ResponseId::new(bytes.id(self.response)),
            },
            0..=1 => Command::Text { text: bytes.text() },
            2..=4 => Command::Say(Say {
                text: bytes.text(),
                interrupt: bytes.flag(),
                interruptible: bytes.flag(),
                remember: bytes.flag(),
            }),
            5 => Command::Commit,
            6 => Command::Respond,
            7 => Command::Cancel {
                response: bytes.flag().then(|| ResponseId::new(bytes.id(self.response))),
            },
            8 => Command::Clear,
            9 => Command::Dtmf {
                digit: Digit::new('#').expect("# is a key"),
            },
            10..=11 => Command::ToolOutput(ToolOutput {
                call_id: self.call.clone().unwrap_or_default(),
                output: bytes.text(),
                respond: bytes.flag(),
            }),
            12 => Command::Edit(match bytes.below(4) {
                0 => HistoryEdit::Delete {
                    item: ItemId::new(bytes.byte().into()),
                },
                1 => HistoryEdit::Clear,
                other => HistoryEdit::Append {
                    role: if other == 2 { Role::User } else { Role::Tool },
                    text: bytes.text(),
                },
            }),
            13 => Command::Status,
            14 => {
                if bytes.byte() == 0 {
                    Command::Bye
                } else {
                    Command::Status
                }
            }
            _ => Command::Update(Box::new(self.update(bytes))),
        }
    }

    #[expect(clippy::unused_self, reason = "it stands beside the other operations")]
    fn update(&self, bytes: &mut Bytes<'_>) -> SettingsUpdate {
        let mut update = SettingsUpdate::default();
        match bytes.below(8) {
            0 => update.stages = Some(bytes.stages()),
            1 => update.turn_detection = Some(bytes.detection()),
            2 => update.endpointing = Some(bytes.endpointing()),
            3 => {
                update.barge_in = Some(BargeIn {
                    enabled: bytes.flag(),
                    confirm_ms: u32::from(bytes.byte()) * 4,
                    duck_per_mille: u16::from(bytes.byte()) * 4,
                });
            }
            4 => {
                update.speech = Some(SpeechDetection {
                    start_per_mille: u16::from(bytes.byte()) * 4,
                    stop_per_mille: u16::from(bytes.byte()) * 2,
                    min_speech_ms: bytes.byte().into(),
                    pre_roll_ms: u32::from(bytes.wide()),
                });
            }
            5 => {
                update.tools = Some(vec![Tool {
                    name: "tool".to_owned(),
                    description: String::new(),
                    parameters: serde_json::Value::Null,
                }]);
            }
            6 => update.temperature_milli = Some(bytes.wide()),
            7 if bytes.flag() => update.approval = Some(bytes.flag()),
            _ => update.instructions = Some(bytes.text()),
        }
        update
    }
}

/// Drives a session with the operations that `data` spells, and checks every invariant after each. At the places that
/// `data` names, `restore` is given the session and puts back what it makes of it, which must be the same.
///
/// # Errors
/// The first invariant that is broken.
pub fn run_operations(data: &[u8], mut restore: impl FnMut(Session) -> Session) -> Result<Vec<Action>, Violation> {
    let mut bytes = Bytes(data);
    let mut known = Known::default();
    let mut observer = Observer::default();
    let mut session = Session::new(bytes.settings(), u64::from(bytes.byte()));
    let mut now = Time::ZERO;
    let mut timer = None;
    let mut actions = Vec::new();
    let mut connected = false;
    while !bytes.0.is_empty() {
        let ready = connected || bytes.byte() == 0;
        let input = if ready {
            known.input(&mut bytes)
        } else {
            Input::Connected
        };
        now += std::time::Duration::from_micros(match bytes.byte() {
            0 => 5_000_000,
            byte => u64::from(byte) * 100,
        });
        // Mostly the clock stops where the session wants it to.
        if let Some(timer) = timer.filter(|timer| *timer < now && bytes.byte() > 8) {
            step(
                &mut session,
                &mut observer,
                timer,
                Input::Tick,
                &mut known,
                &mut actions,
            )?;
        }
        if bytes.byte() < 16 {
            session = restore(session);
        }
        connected |= input == Input::Connected;
        let open = connected && !session.is_closed();
        observer.input(now, &input, open);
        timer = step(&mut session, &mut observer, now, input, &mut known, &mut actions)?;
    }
    Ok(actions)
}

fn step(
    session: &mut Session,
    observer: &mut Observer,
    now: Time,
    input: Input,
    known: &mut Known,
    actions: &mut Vec<Action>,
) -> Result<Option<Time>, Violation> {
    session.handle(now, input);
    session.verify()?;
    loop {
        let output = session.poll();
        observer.output(&output)?;
        match output {
            Output::Action(action) => {
                known.learn(&action);
                actions.push(action);
            }
            Output::Timeout(at) => return Ok(at),
        }
    }
}
