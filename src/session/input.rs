//! What a session is told.

use serde::{Deserialize, Serialize};

use crate::call::{
    BackendKind, BackendState, CloseReason, Command, Comparison, LlmEvent, Probability, Served, StageFailure, SttEvent,
    SwitchFailure, When, WordTiming,
};
use crate::id::{Generation, GenerationId, PredictionId, ResponseId, SwitchId, SynthesisId, TranscriptionId};
use crate::time::Samples;

/// What a session is told. Answers carry the id that they were asked under; an answer to something that is over is
/// counted and otherwise ignored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "input", rename_all = "snake_case")]
pub enum Input {
    /// The wire is up: the call is live from now on.
    Connected,
    /// The client asks for something.
    Command(Command),
    /// The sample clock has moved: every sample before `end` has arrived, `dropped` of the new ones could not be kept.
    Audio {
        /// Where the sample clock stands now.
        end: Samples,
        /// How many of the samples since the last such input are missing in the ring.
        dropped: Samples,
    },
    /// VAD has looked at the audio up to `end`.
    Vad {
        /// Where the judged frame ends.
        end: Samples,
        /// How much it looks like speech.
        speech: Probability,
    },
    /// The turn model's answer.
    Prediction {
        /// Which question.
        id: PredictionId,
        /// How likely the turn is complete; absent when the model failed.
        complete: Option<Probability>,
    },
    /// A backend has come, gone or changed.
    Backend {
        /// Its job.
        kind: BackendKind,
        /// What happened.
        change: BackendChange,
    },
    /// What has become of a switch that the session asked for.
    Switch {
        /// Which.
        id: SwitchId,
        /// What happened.
        progress: SwitchProgress,
    },
    /// The recogniser's answer.
    Stt {
        /// Which transcription.
        id: TranscriptionId,
        /// What it says.
        event: SttEvent,
    },
    /// The language model's answer.
    Llm {
        /// Which generation.
        id: GenerationId,
        /// What it says.
        event: LlmEvent,
    },
    /// The synthesiser's progress; the samples stay with the caller.
    Tts {
        /// Which synthesis.
        id: SynthesisId,
        /// What it says.
        event: TtsProgress,
    },
    /// What has become of a response's audio.
    Playout {
        /// Whose.
        response: ResponseId,
        /// What happened.
        event: PlayoutEvent,
    },
    /// The engine is going away: finish the open turn and its reply, within `within_ms`.
    Drain {
        /// Milliseconds left.
        within_ms: u32,
    },
    /// The wire is gone.
    Disconnected {
        /// How.
        reason: CloseReason,
    },
    /// The time of the last [`Output::Timeout`](super::Output) has come.
    Tick,
}

/// A change of a backend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum BackendChange {
    /// It is loaded and verified. It serves once it is adopted: see [`Action::Adopt`](super::Action).
    Ready(Arrival),
    /// It is gone and being started again. What was asked of it fails separately, each under its own id.
    Lost {
        /// Which load.
        generation: Generation,
        /// Why.
        reason: String,
        /// It was stopped to make room for another, which is being loaded.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        replacing: bool,
    },
    /// There is none, and none is coming.
    Missing {
        /// Why, with the remedy.
        reason: String,
    },
}

/// A backend that is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arrival {
    /// Its name.
    pub name: String,
    /// Its model.
    pub model: String,
    /// Which load.
    pub generation: Generation,
    /// Where it computes: "cpu", "cuda:0".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// Its model was made for tests, with weights that nobody trained.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub synthetic: bool,
    /// When it is to take over from another model.
    #[serde(default)]
    pub when: When,
    /// The voice of sessions that name none; absent: its own default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub voice: Option<String>,
    /// The language of sessions that name none; absent: its own default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
}

impl Arrival {
    /// One that says nothing but what it is.
    #[must_use]
    pub fn new(name: &str, model: &str, generation: Generation) -> Self {
        Self {
            name: name.to_owned(),
            model: model.to_owned(),
            generation,
            device: None,
            synthetic: false,
            when: When::Now,
            voice: None,
            language: None,
        }
    }

    /// The state of a session that has adopted it.
    pub(super) fn state(&self) -> BackendState {
        BackendState::Ready {
            name: self.name.clone(),
            model: self.model.clone(),
            generation: self.generation,
            device: self.device.clone(),
            synthetic: self.synthetic,
        }
    }
}

/// What has become of a switch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "progress", rename_all = "snake_case")]
pub enum SwitchProgress {
    /// It makes sense, and is being loaded.
    Started {
        /// What.
        to: Served,
    },
    /// It is loaded and verified. A [`BackendChange::Ready`] of this load comes too, unless it serves already or runs beside.
    Loaded {
        /// What.
        new: Served,
        /// Which load.
        generation: Generation,
        /// Milliseconds since it was asked for.
        load_ms: u32,
    },
    /// It was not made.
    Failed(SwitchFailure),
    /// How what runs beside did on one piece of work.
    Compared(Comparison),
}

/// Progress of one synthesis. Lengths are at the session's rate, whatever the voice's own is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum TtsProgress {
    /// More audio lies ready.
    Audio {
        /// How much all together since this synthesis began.
        total: Samples,
    },
    /// When its words are heard. May come in parts, in order.
    Words {
        /// The words.
        words: Vec<WordTiming>,
    },
    /// All audio lies ready.
    Done {
        /// How much all together.
        total: Samples,
    },
    /// It could not be done (any more).
    Failed(StageFailure),
}

/// What has become of a response's audio. Positions count from the response's first sample, at the session's rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum PlayoutEvent {
    /// Its first frame was given to the wire.
    Started,
    /// It has been heard up to here. Told a few times a second, not for each frame.
    Heard {
        /// The position.
        until: Samples,
    },
    /// What lay ready has been played, and more is expected: there is a gap.
    Underrun {
        /// Where it stopped.
        at: Samples,
    },
    /// All its audio was heard: everything asked for with [`Action::FinishPlayout`](super::Action) has been played.
    Finished {
        /// All of it.
        heard: Samples,
    },
    /// It was stopped, as asked with [`Action::StopPlayout`](super::Action).
    Stopped {
        /// Audio given to the wire.
        sent: Samples,
        /// Audio heard before it stopped.
        heard: Samples,
    },
}
