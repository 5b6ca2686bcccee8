//! What a backend that was switched to must do, and what is made of it.

use std::time::Duration;

use repartee_protocol::native::{BackendKind, ResponseStatus};

use super::link::{Hearing, Link, Spoken, Trouble};
use super::text::{cut, plain};
use super::words::{Agreement, NEEDED, SENTENCE, agreement};
use crate::audio::frame::rms_dbfs;

/// What a language model is asked.
const PROMPT: &str = "Name one colour of the rainbow.";
/// Quieter than this (dB of full scale) is no voice.
const QUIETEST: f32 = -45.0;
/// The sentence takes a person two seconds; what is shorter than this (ms) or longer hasn't said it.
const LENGTH_MS: std::ops::RangeInclusive<usize> = 700..=15_000;
/// Characters of an answer that are shown.
const EXCERPT: usize = 40;

/// What became of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Outcome {
    /// It did its job.
    Ok,
    /// It loads and answers; whether it answers rightly can't be told.
    Loaded,
    /// It doesn't.
    Failed,
    /// It wasn't tried.
    Skipped,
}

/// What was found.
#[derive(Clone, Debug)]
pub(super) struct Finding {
    pub(super) outcome: Outcome,
    pub(super) message: String,
    pub(super) first_result_ms: Option<u64>,
    pub(super) words: Option<Agreement>,
    /// What was understood of the sentence.
    pub(super) heard: Option<String>,
}

impl Finding {
    fn new(outcome: Outcome, message: impl Into<String>) -> Self {
        Self {
            outcome,
            message: message.into(),
            first_result_ms: None,
            words: None,
            heard: None,
        }
    }

    fn failed(message: impl Into<String>, error: Option<&String>) -> Self {
        let mut message = message.into();
        if let Some(error) = error {
            message.push_str("; the server said: ");
            message.push_str(error);
        }
        Self::new(Outcome::Failed, message)
    }

    fn first(self, first_result_ms: Option<u64>) -> Self {
        Self {
            first_result_ms,
            ..self
        }
    }
}

/// The sentence, spoken.
#[derive(Clone, Debug)]
pub(super) struct Speech {
    /// 16 kHz.
    pub(super) pcm: Vec<i16>,
    /// By a voice that was made for tests: there are no words in it.
    pub(super) synthetic: bool,
}

/// What checks are made with.
pub(super) struct Means<'a> {
    pub(super) speech: Option<&'a Speech>,
    /// Why the recogniser that listens to voices tells nothing about them; absent where it does.
    pub(super) deaf: Option<&'a str>,
    /// How long each answer may take.
    pub(super) patience: Duration,
}

/// Has what serves `kind` now do its job. `synthetic`: nobody trained it.
pub(super) async fn check(
    link: &mut Link,
    kind: BackendKind,
    synthetic: bool,
    means: &Means<'_>,
) -> Result<(Finding, Option<Vec<i16>>), Trouble> {
    match (kind, means.speech) {
        (BackendKind::Tts, _) => voice(link, synthetic, means).await,
        (BackendKind::Llm, _) => Ok((model(link, synthetic, means).await?, None)),
        (_, Some(speech)) => {
            let recognised = kind == BackendKind::Stt || link.serves(BackendKind::Stt);
            let hearing = link.hear(&speech.pcm, recognised, means.patience).await?;
            let proven = !synthetic && !speech.synthetic;
            Ok((heard(kind, &hearing, recognised, proven), None))
        }
        (_, None) => Ok((Finding::new(Outcome::Skipped, "no voice has spoken the sentence"), None)),
    }
}

/// What became of the sentence. `proven`: speech and model are real, so that what isn't understood is a fault.
fn heard(kind: BackendKind, hearing: &Hearing, recognised: bool, proven: bool) -> Finding {
    let error = hearing.error.as_ref();
    let Some(started) = hearing.started_ms else {
        return match proven || kind == BackendKind::Stt {
            true => Finding::failed("no speech was found in the sentence", error),
            false => Finding::new(
                Outcome::Loaded,
                "no speech was found in a sound that holds none for certain",
            ),
        };
    };
    let Some(stopped) = hearing.stopped_ms else {
        return Finding::failed("the turn did not end", error);
    };
    if recognised && hearing.finals.is_empty() {
        return Finding::failed("no final transcript came", error);
    }
    let text = plain(&hearing.text());
    let words = recognised.then(|| agreement(SENTENCE, &text));
    let understood = words.map_or_else(|| "no recogniser listened".to_owned(), told);
    let finding = match kind {
        BackendKind::Vad => Finding::new(
            Outcome::Ok,
            format!("speech found; its end {stopped} ms after the sound; {understood}"),
        )
        .first(Some(started)),
        BackendKind::Turn => {
            let message = format!("the turn ended {stopped} ms after the sound; {understood}");
            Finding::new(Outcome::Ok, message).first(Some(stopped))
        }
        _ => {
            let enough = words.is_some_and(|words| words.right >= NEEDED);
            let final_ms = hearing.final_ms.unwrap_or_default();
            let message = format!("{understood}; final {final_ms} ms after the turn");
            let outcome = if enough || !proven {
                Outcome::Ok
            } else {
                Outcome::Failed
            };
            let need = match enough {
                true => String::new(),
                false => format!(" ({NEEDED} are needed): \"{}\"", cut(&text, EXCERPT)),
            };
            let error = error.filter(|_| outcome == Outcome::Failed);
            let finding = Finding::failed(format!("{message}{need}"), error).first(hearing.first_words_ms);
            Finding { outcome, ..finding }
        }
    };
    let outcome = match finding.outcome {
        Outcome::Ok if !proven => Outcome::Loaded,
        outcome => outcome,
    };
    Finding {
        outcome,
        words,
        heard: recognised.then_some(text),
        ..finding
    }
}

fn told(words: Agreement) -> String {
    format!("{} of {} words", words.right, words.of)
}

async fn voice(link: &mut Link, synthetic: bool, means: &Means<'_>) -> Result<(Finding, Option<Vec<i16>>), Trouble> {
    let spoken = link.say(SENTENCE, means.patience).await?;
    let sound = match sound(&spoken) {
        Ok(sound) => sound,
        Err(fault) => return Ok((fault.first(spoken.first_ms), None)),
    };
    let loaded = |why: &str| Finding::new(Outcome::Loaded, format!("{sound}; {why}"));
    let finding = match means.deaf {
        _ if synthetic => loaded("no words to be expected"),
        Some(why) => loaded(why),
        None => {
            let hearing = link.hear(&spoken.pcm, true, means.patience).await?;
            let finding = heard(BackendKind::Stt, &hearing, true, true);
            Finding {
                message: format!("{sound}; {}", finding.message),
                ..finding
            }
        }
    };
    Ok((finding.first(spoken.first_ms), Some(spoken.pcm)))
}

/// How long and how loud it was; a fault where that is no sentence.
fn sound(spoken: &Spoken) -> Result<String, Finding> {
    let error = spoken.error.as_ref();
    if spoken.status != ResponseStatus::Completed {
        return Err(Finding::failed("it did not speak to the end", error));
    }
    if spoken.pcm.is_empty() {
        return Err(Finding::failed("nothing was heard", error));
    }
    let (length, level) = (spoken.pcm.len() / 16, rms_dbfs(&spoken.pcm));
    let sound = format!("{}.{} s at {level:.0} dB", length / 1_000, length % 1_000 / 100);
    if level < QUIETEST {
        return Err(Finding::failed(format!("{sound}: that is silence"), error));
    }
    if !LENGTH_MS.contains(&length) {
        return Err(Finding::failed(
            format!("{sound}: that is not the length of the sentence"),
            error,
        ));
    }
    Ok(sound)
}

async fn model(link: &mut Link, synthetic: bool, means: &Means<'_>) -> Result<Finding, Trouble> {
    let answer = link.ask(PROMPT, means.patience).await?;
    let text = plain(answer.text.expose());
    let finding = if answer.status != ResponseStatus::Completed {
        Finding::failed("it did not answer to the end", answer.error.as_ref())
    } else if text.is_empty() {
        Finding::failed("its answer has no words", answer.error.as_ref())
    } else {
        let outcome = if synthetic { Outcome::Loaded } else { Outcome::Ok };
        Finding::new(
            outcome,
            format!("{} words: \"{}\"", text.split(' ').count(), cut(&text, EXCERPT)),
        )
    };
    Ok(finding.first(answer.first_ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hearing(text: &str) -> Hearing {
        Hearing {
            started_ms: Some(120),
            first_words_ms: Some(400),
            stopped_ms: Some(600),
            final_ms: Some(30),
            finals: vec![text.into()],
            error: None,
        }
    }

    fn stt(text: &str, proven: bool) -> (Outcome, String) {
        let finding = heard(BackendKind::Stt, &hearing(text), true, proven);
        (finding.outcome, finding.message)
    }

    #[test]
    fn words_decide_where_they_can() {
        assert_eq!(
            stt("we are going to the market in the morning", true),
            (Outcome::Ok, "9 of 9 words; final 30 ms after the turn".to_owned())
        );
        assert_eq!(stt("we are going to a market in morning", true).0, Outcome::Ok);
        let (outcome, message) = stt("whether vice mourning", true);
        assert_eq!(outcome, Outcome::Failed);
        assert!(
            message.contains("0 of 9 words") && message.contains("5 are needed"),
            "{message}"
        );
        assert_eq!(stt("", true).0, Outcome::Failed);
        // Of a synthetic model no words can be expected.
        assert_eq!(stt("", false).0, Outcome::Loaded);
    }

    #[test]
    fn a_detector_needs_a_beginning_an_end_and_a_transcript() {
        let find = |kind, hearing: &Hearing| heard(kind, hearing, true, true).outcome;
        for kind in [BackendKind::Vad, BackendKind::Turn] {
            assert_eq!(find(kind, &hearing("no matter what")), Outcome::Ok);
            let lacking = [
                Hearing {
                    started_ms: None,
                    ..hearing("")
                },
                Hearing {
                    stopped_ms: None,
                    ..hearing("")
                },
                Hearing {
                    finals: Vec::new(),
                    ..hearing("")
                },
            ];
            for hearing in &lacking {
                assert_eq!(find(kind, hearing), Outcome::Failed, "{hearing:?}");
            }
        }
        let alone = Hearing {
            finals: Vec::new(),
            ..hearing("")
        };
        assert_eq!(heard(BackendKind::Vad, &alone, false, true).outcome, Outcome::Ok);
    }

    #[test]
    fn a_voice_is_as_loud_and_as_long_as_a_sentence() {
        let tone = |millis: usize, amplitude: i16| Spoken {
            pcm: (0..millis * 16)
                .map(|index| if index % 32 < 16 { amplitude } else { -amplitude })
                .collect(),
            first_ms: Some(20),
            status: ResponseStatus::Completed,
            error: None,
        };
        assert_eq!(sound(&tone(2_300, 8_000)).unwrap(), "2.3 s at -12 dB");
        for (spoken, why) in [
            (tone(0, 0), "nothing was heard"),
            (tone(2_000, 10), "silence"),
            (tone(200, 8_000), "length"),
            (tone(20_000, 8_000), "length"),
            (
                Spoken {
                    status: ResponseStatus::Failed,
                    ..tone(2_000, 8_000)
                },
                "to the end",
            ),
        ] {
            let fault = sound(&spoken).unwrap_err();
            assert_eq!(fault.outcome, Outcome::Failed);
            assert!(fault.message.contains(why), "{}", fault.message);
        }
    }
}
