//! The settings of a call: numbers with names, units and sources.

use serde::{Deserialize, Serialize};

use super::Digit;
use crate::pii::Pii;

/// Which stages a session uses. Transcription only, text to text, speech only: every subset is a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stages {
    /// Speech is recognised.
    pub stt: bool,
    /// Replies are generated when a turn ends. Without it, the client supplies replies (`say`).
    pub llm: bool,
    /// Replies are spoken. Without it they are text only.
    pub tts: bool,
}

/// Who decides that a turn begins and ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TurnDetection {
    /// The engine, by VAD, transcript and, where there is one, a turn model.
    Server,
    /// The client, with `commit`: everything since the last commit is one turn.
    Client,
}

/// Start of speech.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpeechDetection {
    /// VAD probability (thousandths) from which a frame counts as speech. Silero's authors propose 500.
    pub start_per_mille: u16,
    /// VAD probability below which a frame of an open turn counts as silence (hysteresis). Silero: start − 150.
    pub stop_per_mille: u16,
    /// Speech must last this long (ms) before a turn is opened; shorter bursts are clicks and coughs.
    pub min_speech_ms: u32,
    /// The turn's audio begins this long (ms) before the first speech frame, so that soft onsets are not cut.
    pub pre_roll_ms: u32,
}

/// End of turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpointing {
    /// Silence (ms) after which a turn ends when nothing speaks against it.
    pub silence_ms: u32,
    /// Silence (ms) after which it ends although the transcript looks unfinished, is still changing, or is empty.
    pub max_silence_ms: u32,
    /// A turn is cut into a committed segment after this long (ms), whatever is heard. The audio ring holds it whole.
    pub hard_limit_ms: u32,
    /// Prepare a reply on a likely end of turn, after this much silence (ms), and throw it away if the user goes on.
    /// Zero: never.
    pub eager_ms: u32,
}

/// Barge-in: the user speaks while a reply is heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BargeIn {
    /// Whether speech may interrupt a reply at all.
    pub enabled: bool,
    /// Speech of this length (ms) stops the reply, unless its words so far are only a backchannel ("mhm").
    pub confirm_ms: u32,
    /// Gain (thousandths) of the reply between the onset of speech and the decision.
    pub duck_per_mille: u16,
}

/// How keys of a telephone are gathered into something that the user says: a customer's number, a choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyCollection {
    /// This key ends the entry, and is no part of it. None: no key does.
    pub terminator: Option<Digit>,
    /// The entry ends when no further key came for so long (ms).
    pub timeout_ms: u32,
    /// It ends when it has so many keys.
    pub max_keys: u8,
}

/// Bounds of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Tokens of one reply.
    pub max_response_tokens: u32,
    /// Items kept in the history; the oldest are dropped first.
    pub max_history_items: u32,
    /// Characters of one text from a client, and of one reply.
    pub max_text_chars: u32,
    /// Final transcript: wait (ms) for it after the end of a turn.
    pub stt_final_timeout_ms: u32,
    /// First token: wait (ms) for it after the request.
    pub llm_first_token_timeout_ms: u32,
    /// First audio of a clause: wait (ms) for it after the request.
    pub tts_first_audio_timeout_ms: u32,
    /// A stage that fails in a way that may pass is asked again so many times.
    pub max_retries: u8,
    /// A session with neither audio nor commands for this long (ms) is closed. Zero: never.
    pub idle_timeout_ms: u32,
}

/// A tool that the language model may call; the client runs it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tool {
    /// Its name: letters, digits, `_` and `-`.
    pub name: String,
    /// What it does, for the model.
    pub description: String,
    /// JSON Schema of its arguments.
    pub parameters: serde_json::Value,
}

/// Everything that a session is told at its start, and that `update` may change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// The system prompt.
    pub instructions: Pii<String>,
    /// The voice by its backend's name for it; the backend's default when absent.
    pub voice: Option<String>,
    /// BCP 47 language of the speech; the recogniser's default when absent.
    pub language: Option<String>,
    /// Words and phrases that are likely to be said, for recognisers that take them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hints: Vec<String>,
    /// Which stages run.
    pub stages: Stages,
    /// Who finds turns.
    pub turn_detection: TurnDetection,
    /// Start of speech.
    pub speech: SpeechDetection,
    /// End of turn.
    pub endpointing: Endpointing,
    /// Interruption.
    pub barge_in: BargeIn,
    /// Whether telephone keys are gathered into turns of the user. Without it, the client is told of each, and that is all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys: Option<KeyCollection>,
    /// Tools offered to the language model.
    pub tools: Vec<Tool>,
    /// Sampling temperature in thousandths, when not the model's default.
    pub temperature_milli: Option<u16>,
    /// Whether the client is asked before a reply of the model is spoken or told: it hears its whole text, and approves or cancels it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub approval: bool,
    /// What is said while a backend is replaced that the user would wait for; nothing when empty.
    #[serde(default, skip_serializing_if = "is_empty")]
    pub filler: Pii<String>,
    /// Bounds.
    pub limits: Limits,
}

fn is_empty(text: &Pii<String>) -> bool {
    text.expose().is_empty()
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            instructions: Pii::from(
                "You are a helpful voice assistant. Answer in one or two short spoken sentences, without lists or \
                 markup.",
            ),
            voice: None,
            language: None,
            hints: Vec::new(),
            stages: Stages {
                stt: true,
                llm: true,
                tts: true,
            },
            turn_detection: TurnDetection::Server,
            speech: SpeechDetection {
                start_per_mille: 500,
                stop_per_mille: 350,
                min_speech_ms: 90,
                pre_roll_ms: 300,
            },
            endpointing: Endpointing {
                silence_ms: 600,
                max_silence_ms: 1_600,
                hard_limit_ms: 30_000,
                eager_ms: 0,
            },
            barge_in: BargeIn {
                enabled: true,
                confirm_ms: 200,
                duck_per_mille: 250,
            },
            keys: None,
            tools: Vec::new(),
            temperature_milli: None,
            approval: false,
            filler: Pii::from("One moment, please."),
            limits: Limits {
                max_response_tokens: 512,
                max_history_items: 200,
                max_text_chars: 8_000,
                stt_final_timeout_ms: 5_000,
                llm_first_token_timeout_ms: 15_000,
                tts_first_audio_timeout_ms: 5_000,
                max_retries: 2,
                idle_timeout_ms: 0,
            },
        }
    }
}

/// Bytes of all hints together: they travel in one header of the link to a worker, which takes four times as much.
pub const MAX_HINTS_BYTES: u32 = 16_384;

/// A setting outside its range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} is {value}, but must be {expected}")]
pub struct SettingsError {
    /// The field by its path: `endpointing.silence_ms`.
    pub field: &'static str,
    /// What it was.
    pub value: String,
    /// What it may be, in words.
    pub expected: &'static str,
}

impl Settings {
    /// Checks every range.
    ///
    /// # Errors
    /// The first field that is out of its range.
    pub fn validate(&self) -> Result<(), SettingsError> {
        let within = |field, value: u32, low: u32, high: u32, expected| {
            if (low..=high).contains(&value) {
                Ok(())
            } else {
                Err(SettingsError {
                    field,
                    value: value.to_string(),
                    expected,
                })
            }
        };
        let (speech, endpointing, barge_in, limits) = (self.speech, self.endpointing, self.barge_in, self.limits);
        within(
            "speech.start_per_mille",
            speech.start_per_mille.into(),
            1,
            1000,
            "1 to 1000",
        )?;
        within(
            "speech.stop_per_mille",
            speech.stop_per_mille.into(),
            0,
            speech.start_per_mille.into(),
            "at most speech.start_per_mille",
        )?;
        within("speech.min_speech_ms", speech.min_speech_ms, 0, 2_000, "0 to 2000 ms")?;
        within("speech.pre_roll_ms", speech.pre_roll_ms, 0, 2_000, "0 to 2000 ms")?;
        within(
            "endpointing.silence_ms",
            endpointing.silence_ms,
            50,
            10_000,
            "50 to 10000 ms",
        )?;
        within(
            "endpointing.max_silence_ms",
            endpointing.max_silence_ms,
            endpointing.silence_ms,
            30_000,
            "endpointing.silence_ms to 30000 ms",
        )?;
        within(
            "endpointing.hard_limit_ms",
            endpointing.hard_limit_ms,
            2_000,
            60_000,
            "2000 to 60000 ms",
        )?;
        within(
            "endpointing.eager_ms",
            endpointing.eager_ms,
            0,
            endpointing.silence_ms,
            "0 to endpointing.silence_ms",
        )?;
        within("barge_in.confirm_ms", barge_in.confirm_ms, 0, 5_000, "0 to 5000 ms")?;
        within(
            "barge_in.duck_per_mille",
            barge_in.duck_per_mille.into(),
            0,
            1000,
            "0 to 1000",
        )?;
        let keys = self.keys.unwrap_or(KeyCollection {
            terminator: None,
            timeout_ms: 100,
            max_keys: 1,
        });
        within("keys.timeout_ms", keys.timeout_ms, 100, 60_000, "100 to 60000 ms")?;
        within("keys.max_keys", keys.max_keys.into(), 1, 64, "1 to 64")?;
        within(
            "limits.max_response_tokens",
            limits.max_response_tokens,
            1,
            100_000,
            "1 to 100000",
        )?;
        within(
            "limits.max_history_items",
            limits.max_history_items,
            2,
            10_000,
            "2 to 10000",
        )?;
        within(
            "limits.max_text_chars",
            limits.max_text_chars,
            1,
            100_000,
            "1 to 100000",
        )?;
        within(
            "tools",
            u32::try_from(self.tools.len()).unwrap_or(u32::MAX),
            0,
            128,
            "at most 128 tools",
        )?;
        within(
            "hints",
            u32::try_from(self.hints.iter().map(|hint| hint.len() + 1).sum::<usize>()).unwrap_or(u32::MAX),
            0,
            MAX_HINTS_BYTES,
            "at most 16384 bytes together",
        )?;
        within(
            "temperature_milli",
            self.temperature_milli.unwrap_or(0).into(),
            0,
            2_000,
            "0 to 2000",
        )
    }
}
