//! End of turn: silence, what the transcript looks like, and the turn model where there is one.

use std::time::Duration;

use crate::call::{Endpointing, Probability};
use crate::time::Time;

/// Silence counts by the clock while what VAD has judged lags behind by no more than this: a frame of VAD (32 ms) and a
/// packet of a browser (up to 85 ms). Where it lags more, audio is late or missing, and it is not known whether it is silent.
pub(crate) const JUDGEMENT_LAG: Duration = Duration::from_millis(120);

/// A partial transcript that changed less than this ago is still changing.
pub(crate) const SETTLE: Duration = Duration::from_millis(150);

/// Speech of this length should have given a word; without one, the recogniser is behind.
pub(crate) const WORDLESS_SPEECH: Duration = Duration::from_millis(1_000);

/// The turn model is asked after this much silence. It answers within some 100 ms (smart-turn v3.2), which is then well
/// before the shortest useful end of turn.
pub(crate) const ASK_TURN_MODEL_AFTER: Duration = Duration::from_millis(100);

/// From this probability on, the turn model ends a turn early. `benches/turn.rs` measures what comes of it: with 950, more pauses of
/// read sentences were taken for an end than by silence alone; with 975, as many, and those of spontaneous speech none at all.
pub(crate) const SURELY_COMPLETE: Probability = Probability::from_per_mille(975);

/// Below this probability, the turn model keeps a turn open. Of the same pauses, 26 were below it (of those in spontaneous
/// speech, 13 in 14), and 3 of the ends; below 500, 33 pauses, and 10 ends that would wait a second for nothing.
pub(crate) const PROBABLY_INCOMPLETE: Probability = Probability::from_per_mille(100);

/// A turn that the model thinks complete ends after this silence, or after the configured one if that is shorter.
pub(crate) const EARLY_SILENCE: Duration = Duration::from_millis(250);

/// Words after which nobody stops. Only those that hardly ever end a sentence: a wrong one costs a second of waiting.
const UNFINISHED_WORDS: [&str; 28] = [
    "a", "an", "and", "are", "because", "but", "er", "erm", "for", "from", "he's", "i'm", "if", "it's", "my", "of",
    "or", "our", "than", "the", "their", "to", "uh", "uhm", "um", "we're", "with", "your",
];

/// What is known when it is asked whether a turn has ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Evidence<'a> {
    /// The present.
    pub(crate) now: Time,
    /// When the last sample of speech arrived.
    pub(crate) spoke_until: Time,
    /// Silence after it that VAD has judged, by the sample clock.
    pub(crate) judged: Duration,
    /// How long the turn's speech is.
    pub(crate) speech: Duration,
    /// The words so far; none when the recogniser gives no words before its final ones.
    pub(crate) text: Option<&'a str>,
    /// When they last changed.
    pub(crate) changed_at: Time,
    /// The turn model's answer to this pause.
    pub(crate) complete: Option<Probability>,
}

/// Whether the turn has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It has.
    End,
    /// Not before this instant, unless more becomes known. Always later than now.
    Wait(Time),
}

/// Decides whether a turn whose speech has paused is over.
pub(crate) fn decide(evidence: &Evidence<'_>, settings: &Endpointing) -> Verdict {
    let passed = evidence.now.since(evidence.spoke_until);
    let silence = if evidence.judged + JUDGEMENT_LAG >= passed {
        passed.max(evidence.judged)
    } else {
        evidence.judged
    };
    let longest = Duration::from_millis(settings.max_silence_ms.into());
    let target = needed_silence(evidence, settings).min(longest);
    if silence >= target || passed >= longest {
        return Verdict::End;
    }
    let due = evidence.spoke_until + target;
    // The time has come, but not the audio that would prove the silence.
    let due = if due > evidence.now {
        due
    } else {
        evidence.spoke_until + longest
    };
    Verdict::Wait(due)
}

/// How much silence ends this turn.
fn needed_silence(evidence: &Evidence<'_>, settings: &Endpointing) -> Duration {
    let ordinary = Duration::from_millis(settings.silence_ms.into());
    let longest = Duration::from_millis(settings.max_silence_ms.into());
    let unfinished = evidence.text.is_some_and(looks_unfinished);
    match evidence.complete {
        Some(complete) if complete < PROBABLY_INCOMPLETE => return longest,
        Some(complete) if complete >= SURELY_COMPLETE && !unfinished => return ordinary.min(EARLY_SILENCE),
        Some(_) | None => {}
    }
    let Some(text) = evidence.text else {
        return ordinary;
    };
    let wordless = text.trim().is_empty() && evidence.speech >= WORDLESS_SPEECH;
    if unfinished || wordless {
        return longest;
    }
    ordinary.max((evidence.changed_at + SETTLE).since(evidence.spoke_until))
}

/// Whether words look as if more were to come.
pub(crate) fn looks_unfinished(text: &str) -> bool {
    let text = text.trim_end();
    if text.ends_with([',', ';', ':', '-', '–', '—']) {
        return true;
    }
    if text.ends_with(['.', '!', '?']) && !text.ends_with("...") {
        return false;
    }
    let last = text
        .trim_end_matches(|character: char| !character.is_alphanumeric())
        .rsplit(char::is_whitespace)
        .next()
        .unwrap_or_default();
    // No word of the list is longer, so a long one need not be copied.
    last.len() <= 8 && UNFINISHED_WORDS.contains(&last.to_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::Settings;

    const ENDPOINTING: fn() -> Endpointing = || Settings::default().endpointing;

    fn evidence(now: u64, judged: u64, text: Option<&str>) -> Evidence<'_> {
        Evidence {
            now: Time::from_millis(1_000 + now),
            spoke_until: Time::from_millis(1_000),
            judged: Duration::from_millis(judged),
            speech: Duration::from_millis(1_500),
            text,
            changed_at: Time::from_millis(900),
            complete: None,
        }
    }

    fn wait(millis: u64) -> Verdict {
        Verdict::Wait(Time::from_millis(1_000 + millis))
    }

    #[test]
    fn silence_decides() {
        assert_eq!(decide(&evidence(100, 90, None), &ENDPOINTING()), wait(600));
        assert_eq!(decide(&evidence(599, 590, None), &ENDPOINTING()), wait(600));
        assert_eq!(decide(&evidence(600, 576, None), &ENDPOINTING()), Verdict::End);
        assert_eq!(
            decide(&evidence(600, 576, Some("good morning")), &ENDPOINTING()),
            Verdict::End
        );
    }

    #[test]
    fn audio_that_is_faster_than_time_ends_by_the_sample_clock() {
        assert_eq!(decide(&evidence(3, 599, None), &ENDPOINTING()), wait(600));
        assert_eq!(decide(&evidence(3, 600, None), &ENDPOINTING()), Verdict::End);
    }

    #[test]
    fn audio_that_is_late_is_waited_for() {
        assert_eq!(decide(&evidence(600, 200, None), &ENDPOINTING()), wait(1_600));
        assert_eq!(decide(&evidence(1_600, 200, None), &ENDPOINTING()), Verdict::End);
    }

    #[test]
    fn an_unfinished_transcript_waits() {
        for text in ["I would like to", "well, um", "first,", "and..."] {
            assert_eq!(
                decide(&evidence(700, 690, Some(text)), &ENDPOINTING()),
                wait(1_600),
                "{text}"
            );
        }
        for text in ["I would like two", "I want to.", "is it on"] {
            assert_eq!(
                decide(&evidence(700, 690, Some(text)), &ENDPOINTING()),
                Verdict::End,
                "{text}"
            );
        }
    }

    #[test]
    fn no_words_after_long_speech_wait_for_the_recogniser() {
        assert_eq!(decide(&evidence(700, 690, Some(" ")), &ENDPOINTING()), wait(1_600));
        let short = Evidence {
            speech: Duration::from_millis(300),
            ..evidence(700, 690, Some(""))
        };
        assert_eq!(decide(&short, &ENDPOINTING()), Verdict::End);
    }

    #[test]
    fn words_that_still_change_are_waited_for() {
        let changing = Evidence {
            changed_at: Time::from_millis(1_550),
            ..evidence(600, 590, Some("good morning"))
        };
        assert_eq!(decide(&changing, &ENDPOINTING()), wait(700));
    }

    #[test]
    fn the_turn_model_hurries_and_delays() {
        let with = |complete, now, text| {
            decide(
                &Evidence {
                    complete: Some(Probability::from_per_mille(complete)),
                    ..evidence(now, now - 10, Some(text))
                },
                &ENDPOINTING(),
            )
        };
        assert_eq!(with(975, 200, "good morning"), wait(250));
        assert_eq!(with(975, 250, "good morning"), Verdict::End);
        assert_eq!(with(975, 250, "good morning and"), wait(1_600));
        for unsure in [100, 600, 974] {
            assert_eq!(with(unsure, 250, "good morning"), wait(600), "{unsure}");
        }
        assert_eq!(with(99, 650, "good morning"), wait(1_600));
    }
}
