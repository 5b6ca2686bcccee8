//! What a session wants done.

use serde::{Deserialize, Serialize};

use crate::call::{BackendKind, Event, Prompt, SwitchRequest};
use crate::id::{Generation, GenerationId, PredictionId, ResponseId, SwitchId, SynthesisId, TranscriptionId};
use crate::time::{Samples, Time};

/// What a session wants done. None of these fails at once: what can't be done is answered under its id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum Action {
    /// Lease the backend for this job, and tell its changes until it is released.
    Acquire {
        /// The job.
        kind: BackendKind,
    },
    /// Give the lease back.
    Release {
        /// The job.
        kind: BackendKind,
    },
    /// New work goes to this load from now on; what was asked of the one before it is finished there.
    Adopt {
        /// The job.
        kind: BackendKind,
        /// Which load, as [`BackendChange::Ready`](super::BackendChange) named it.
        generation: Generation,
    },
    /// Switch a backend. Answered by [`Input::Switch`](super::Input).
    Switch {
        /// Names the switch.
        id: SwitchId,
        /// What is asked for.
        request: Box<SwitchRequest>,
    },
    /// Call off a switch, or end what it runs beside the live backend. Nothing is answered under its id any more.
    CancelSwitch {
        /// Which.
        id: SwitchId,
    },
    /// What this switch runs beside the live backend shall take its place. Answered like a switch.
    Promote {
        /// Which.
        id: SwitchId,
    },
    /// Start a recognition with the kept audio from `from` on, and feed it with what arrives until it is finished.
    Transcribe {
        /// Names it.
        id: TranscriptionId,
        /// Its first sample; not before the last [`Action::KeepFrom`].
        from: Samples,
        /// Not before this instant, so that many sessions that lost one worker don't all come at once.
        not_before: Time,
        /// BCP 47 language.
        language: Option<String>,
    },
    /// It gets no audio from `end` on: give the final text.
    FinishTranscription {
        /// Which.
        id: TranscriptionId,
        /// The sample after its last.
        end: Samples,
    },
    /// Its result isn't wanted any more.
    CancelTranscription {
        /// Which.
        id: TranscriptionId,
    },
    /// Ask the turn model about the audio from `from` to `end`; where that is more than it looks at, its end counts.
    Predict {
        /// Names the question.
        id: PredictionId,
        /// Where the turn begins.
        from: Samples,
        /// Where the audio ends.
        end: Samples,
    },
    /// Its answer isn't wanted any more.
    CancelPrediction {
        /// Which.
        id: PredictionId,
    },
    /// Ask the language model.
    Generate {
        /// Names the generation.
        id: GenerationId,
        /// What it is asked.
        prompt: Box<Prompt>,
        /// Not before this instant; see [`Action::Transcribe`].
        not_before: Time,
    },
    /// Its result isn't wanted any more: close the stream.
    CancelGeneration {
        /// Which.
        id: GenerationId,
    },
    /// Synthesise one clause. Its audio lies ready behind that of the response's earlier clauses, in the order of these
    /// actions; nothing is played before [`Action::Play`].
    Synthesize {
        /// Names the synthesis.
        id: SynthesisId,
        /// Whose audio it is.
        response: ResponseId,
        /// The clause.
        text: crate::pii::Pii<String>,
        /// The voice; the backend's default when absent.
        voice: Option<String>,
        /// Not before this instant; see [`Action::Transcribe`].
        not_before: Time,
    },
    /// Stop this synthesis. Its audio, if any lies ready, is forgotten where it has not been played.
    CancelSynthesis {
        /// Which.
        id: SynthesisId,
    },
    /// Play this response's audio, now and as it comes. At most one response is played at a time.
    Play {
        /// Which.
        response: ResponseId,
    },
    /// No further clause comes: tell when all has been heard.
    FinishPlayout {
        /// Which.
        response: ResponseId,
    },
    /// Be silent at once, and flush what the peer has queued where it can be. Answered by `Stopped`.
    StopPlayout {
        /// Which.
        response: ResponseId,
    },
    /// Play at this gain from now on, ramped over a frame.
    Gain {
        /// Thousandths; 1000 is unchanged.
        per_mille: u16,
    },
    /// Audio before this sample is not needed any more.
    KeepFrom {
        /// The first that is.
        from: Samples,
    },
    /// Tell the client.
    Emit(Event),
    /// The call is over; nothing follows. Close the wire once the client has been told.
    End,
}

/// What [`poll`](crate::session) answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Output {
    /// Do this; then poll again.
    Action(Action),
    /// Nothing (more) to do until an input comes, or until this instant.
    Timeout(Option<Time>),
}
