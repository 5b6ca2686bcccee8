//! One utterance: its audio, what is to be decoded of it next, and what is told of it.

use std::time::{Duration, Instant};

use repartee_worker_shell::protocol::{FinalText, Mark, SttParams, Usage, code};
use repartee_worker_shell::{Failure, Outlet};

use crate::checks::Verdict;
use crate::commit::{Shown, Transcript, cut_at};
use crate::language;
use crate::model::{Decoder, Request, SHORTEST, Stopped};
use crate::settings::{CREDIT, LONGEST, Settings};
use crate::window::{FRAME, RATE, Sound};
use crate::words::{Word, join};

/// How often it's looked whether there's something to decode: each 100 ms of audio.
const LOOK: usize = RATE / 10;

/// What the decoder is given to go on from, in characters: of the request, and of what was said before the window. Whisper takes 224
/// tokens, some four characters each.
const LONGEST_PROMPT: usize = 500;
const LONGEST_CONTEXT: usize = 300;

/// A language is taken for detected when it's more likely than all others together, or when so much was heard.
const CERTAIN: f32 = 0.5;
const HEARD_ENOUGH: usize = 4 * RATE;

/// What is spoken.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Language {
    Known(&'static str),
    /// Not known yet, or not for sure.
    Open(Option<&'static str>),
}

/// What a decode is for. Those that somebody waits for come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Purpose {
    /// The utterance is over: what wasn't decoded yet.
    Final,
    /// The window is full: it's decoded as a whole, and cut.
    Cut,
    /// The speaker pauses: what would be the last decode, if nothing more comes.
    Pause,
    /// To show what was heard so far.
    Partial,
}

/// What is to be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Job {
    pub(crate) purpose: Purpose,
    /// Up to which sample of the window.
    end: usize,
    /// How much audio waits for it.
    pub(crate) waiting: usize,
}

/// The last decode of the window as it is.
#[derive(Clone, Debug)]
struct Decoded {
    end: usize,
    /// As a final decode would be made: with its beam, and with times where they're asked for.
    is_final: bool,
    verdict: Verdict,
    words: Vec<Word>,
}

/// One utterance.
pub(crate) struct Utterance {
    language: Language,
    partials: bool,
    timed: bool,
    prompt: String,
    /// The window: everything since the last cut.
    audio: Vec<i16>,
    sound: Sound,
    /// Which sample of the utterance the window begins with.
    offset: u64,
    pub(crate) finished: bool,
    transcript: Transcript,
    decoded: Option<Decoded>,
    /// How much of the window there was at the last decode, and when it was last looked at.
    heard: usize,
    looked: usize,
    /// How long the last decode took.
    cost: Duration,
    compute: Duration,
    told: Shown,
}

impl Utterance {
    /// A new utterance for a model that knows `languages` (Whisper's codes).
    pub(crate) fn new(params: &SttParams, languages: &[&'static str], settings: &Settings) -> Result<Self, Failure> {
        let language = match (&params.language, languages) {
            (None, [only]) => Language::Known(only),
            (None, _) => Language::Open(None),
            (Some(tag), _) => {
                let code = language::code(tag, languages.contains(&"yue"));
                match code.and_then(|code| languages.iter().find(|known| **known == code)) {
                    Some(known) => Language::Known(known),
                    None if languages == ["en"] => {
                        return Err(Failure::new(
                            code::UNSUPPORTED,
                            format!("this model hears English only, not {tag:?}"),
                        ));
                    }
                    None => {
                        return Err(Failure::new(
                            code::UNSUPPORTED,
                            format!("Whisper doesn't know the language {tag:?}"),
                        ));
                    }
                }
            }
        };
        Ok(Self {
            language,
            partials: params.partials,
            timed: params.words,
            prompt: prompt(params),
            audio: Vec::new(),
            sound: Sound::default(),
            offset: 0,
            finished: false,
            transcript: Transcript::default(),
            decoded: None,
            heard: 0,
            looked: 0,
            cost: Duration::ZERO,
            compute: Duration::ZERO,
            told: Shown::default(),
        })
        .map(|utterance| {
            if settings.translate {
                utterance.without_context()
            } else {
                utterance
            }
        })
    }

    /// A prompt is in the language of the text; what people said before isn't where it's translated.
    fn without_context(mut self) -> Self {
        self.prompt.clear();
        self
    }

    /// Whether more audio is taken now. What isn't waits on the link, by its credit.
    pub(crate) fn has_room(&self, settings: &Settings) -> bool {
        self.audio.len() < settings.window + CREDIT as usize / 2
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let before = self.audio.len();
        self.audio
            .extend(bytes.as_chunks::<2>().0.iter().map(|bytes| i16::from_le_bytes(*bytes)));
        self.sound.push(&self.audio[before..]);
        if self.offset + self.audio.len() as u64 > LONGEST.as_secs() * RATE as u64 {
            let message = format!("an utterance of more than {} s", LONGEST.as_secs());
            return Err(Failure::new(code::TOO_LONG, message));
        }
        Ok(())
    }

    /// What is to be decoded now, where `speaking` streams share the machine.
    pub(crate) fn job(&mut self, settings: &Settings, speaking: u32) -> Option<Job> {
        let length = self.audio.len();
        let waiting = length - self.heard;
        let job = |purpose, end| Some(Job { purpose, end, waiting });
        if length >= settings.window {
            return job(Purpose::Cut, settings.window);
        }
        if self.finished {
            return job(Purpose::Final, self.sound.end(length));
        }
        if length < self.looked + LOOK {
            return None;
        }
        self.looked = length;
        let end = self.sound.end(length);
        let has_new_sound = end >= SHORTEST && self.decoded.as_ref().is_none_or(|decoded| decoded.end != end);
        if !has_new_sound {
            return None;
        }
        if end < length {
            return job(Purpose::Pause, end);
        }
        // Decodes of all streams together take at most the time that there is. What is behind is skipped, not made up for.
        let least = (self.cost.as_millis() as usize * RATE / 1000).saturating_mul(speaking.max(1) as usize);
        let is_due = waiting >= settings.interval.max(least);
        if self.partials && is_due {
            job(Purpose::Partial, end)
        } else {
            None
        }
    }

    /// Does a job. Nothing of it is told yet.
    pub(crate) fn decode(
        &mut self,
        job: Job,
        decoder: &mut Decoder,
        settings: &Settings,
        is_unwanted: &(dyn Fn() -> bool + Sync),
    ) -> Result<(), Stopped> {
        let began = Instant::now();
        let decoded = self.decoded_for(job, decoder, settings, is_unwanted);
        let took = began.elapsed();
        self.compute += took;
        let decoded = decoded?;
        if job.purpose >= Purpose::Pause {
            self.cost = took;
        }
        self.heard = self.audio.len();
        self.decoded = Some(decoded);
        Ok(())
    }

    /// The decode of the last pause is that of the whole utterance, if nothing was said since: not one like it, the very same.
    fn already(&self, job: Job) -> Option<&Decoded> {
        let is_it = |before: &&Decoded| job.purpose == Purpose::Final && before.end == job.end && before.is_final;
        self.decoded.as_ref().filter(is_it)
    }

    fn decoded_for(
        &mut self,
        job: Job,
        decoder: &mut Decoder,
        settings: &Settings,
        is_unwanted: &(dyn Fn() -> bool + Sync),
    ) -> Result<Decoded, Stopped> {
        let silence = |end| Decoded {
            end,
            is_final: true,
            verdict: Verdict::Silence,
            words: Vec::new(),
        };
        if self.sound.end(job.end) < SHORTEST {
            return Ok(silence(job.end));
        }
        let before = self.already(job);
        let is_doubted = before.is_some_and(|before| before.verdict == Verdict::Doubted);
        if let (Some(before), false) = (before, is_doubted) {
            return Ok(before.clone());
        }
        let is_final = job.purpose != Purpose::Partial || (settings.beam == 1 && !self.timed);
        let voiced = self.sound.voiced(job.end);
        let context = self.transcript.context(LONGEST_CONTEXT);
        let prompt = format!("{} {context}", self.prompt);
        let mut request = Request {
            samples: &self.audio[..job.end],
            voiced: &voiced,
            language: "en",
            translate: settings.translate,
            timed: job.purpose == Purpose::Cut || (self.timed && job.purpose != Purpose::Partial),
            beam: if job.purpose == Purpose::Partial {
                1
            } else {
                settings.beam
            },
            full_context: settings.full_context,
            prompt: prompt.trim(),
            thresholds: settings.thresholds,
        };
        request.language = match self.language {
            Language::Known(language) => language,
            Language::Open(_) => {
                let (language, probability) = decoder.detect(&request, is_unwanted)?;
                let is_certain = probability >= CERTAIN || job.end >= HEARD_ENOUGH || job.purpose <= Purpose::Cut;
                self.language = if is_certain {
                    Language::Known(language)
                } else {
                    Language::Open(Some(language))
                };
                language
            }
        };
        let falls_back = job.purpose <= Purpose::Cut;
        let heard = if is_doubted {
            decoder.fall_back(&request, is_unwanted)?
        } else {
            let heard = decoder.decode(&request, is_unwanted)?;
            if falls_back && heard.verdict == Verdict::Doubted {
                decoder.fall_back(&request, is_unwanted)?
            } else {
                heard
            }
        };
        Ok(Decoded {
            end: job.end,
            is_final,
            verdict: heard.verdict,
            words: heard.words,
        })
    }

    /// Tells what a job gave. True when the utterance is over.
    pub(crate) fn tell(&mut self, job: Job, out: &Outlet) -> bool {
        match job.purpose {
            Purpose::Final => {
                let words = self.decoded.take().map(|decoded| decoded.words).unwrap_or_default();
                let words = self.transcript.finish(&words, self.offset);
                out.final_text(self.final_text(&words));
                let compute_us = u64::try_from(self.compute.as_micros()).unwrap_or(u64::MAX);
                out.done(
                    None,
                    Usage {
                        compute_us,
                        ..Usage::default()
                    },
                );
                return true;
            }
            Purpose::Cut => {
                let words = self.decoded.take().map(|decoded| decoded.words).unwrap_or_default();
                let shown = self.transcript.hear(&words);
                self.show(shown, job.end, out);
                let (count, span) = cut_at(&words, job.end as u64);
                let at = if span.is_empty() {
                    span.start
                } else {
                    self.sound.quietest(span)
                };
                let at = (at as usize / FRAME * FRAME).min(job.end);
                self.transcript.cut(&words, count, at as u64, self.offset);
                self.audio.drain(..at);
                self.sound.drop_front(at);
                self.offset += at as u64;
                (self.heard, self.looked) = (0, 0);
            }
            Purpose::Pause | Purpose::Partial => {
                if let Some(decoded) = &self.decoded
                    && decoded.verdict != Verdict::Doubted
                {
                    let shown = self.transcript.hear(&decoded.words);
                    self.show(shown, job.end, out);
                }
            }
        }
        false
    }

    fn show(&mut self, shown: Shown, end: usize, out: &Outlet) {
        if self.partials && self.told != shown {
            out.partial(
                &shown.text,
                u32::try_from(shown.stable).unwrap_or(u32::MAX),
                milliseconds(self.offset + end as u64),
            );
            self.told = shown;
        }
    }

    fn final_text(&self, words: &[Word]) -> FinalText {
        let mut marks = Vec::new();
        if self.timed {
            let mut place = 0;
            for (number, word) in words.iter().enumerate() {
                place += u32::from(word.spaced && number > 0);
                let length = u32::try_from(word.text.chars().count()).unwrap_or(u32::MAX);
                marks.push(Mark {
                    text: word.text.clone(),
                    char_start: place,
                    char_end: place + length,
                    start: word.start,
                    end: word.end,
                });
                place += length;
            }
        }
        let sum: f32 = words.iter().map(|word| word.probability).sum();
        let (Language::Known(language) | Language::Open(Some(language))) = self.language else {
            return self.nothing();
        };
        FinalText {
            text: join(words),
            confidence: (!words.is_empty()).then(|| sum / words.len() as f32),
            language: Some(language::tag(language).to_owned()),
            words: marks,
            ..self.nothing()
        }
    }

    fn nothing(&self) -> FinalText {
        FinalText {
            audio_ms: milliseconds(self.offset + self.audio.len() as u64),
            ..FinalText::default()
        }
    }
}

fn milliseconds(samples: u64) -> u32 {
    u32::try_from(samples * 1000 / RATE as u64).unwrap_or(u32::MAX)
}

/// What the decoder is told before the first word: likely words as a list, then what was said before. The end of it counts most, and is kept.
fn prompt(params: &SttParams) -> String {
    let hints = params.hints.join(", ");
    let said = params.prompt.as_deref().unwrap_or_default();
    let whole = match (hints.is_empty(), said.is_empty()) {
        (true, _) => said.to_owned(),
        (false, true) => format!("{hints}."),
        (false, false) => format!("{hints}. {said}"),
    };
    let too_many = whole.chars().count().saturating_sub(LONGEST_PROMPT);
    let start = whole
        .char_indices()
        .nth(too_many)
        .map_or(whole.len(), |(place, _)| place);
    // Not in the middle of a word.
    let start = match whole[start..].find(' ') {
        Some(space) if too_many > 0 => start + space + 1,
        _ => start,
    };
    whole[start..].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn utterance(params: &SttParams) -> Result<Utterance, Failure> {
        Utterance::new(params, &["en", "de"], &Settings::default())
    }

    fn bytes(milliseconds: usize, amplitude: i16) -> Vec<u8> {
        std::iter::repeat_n(amplitude.to_le_bytes(), milliseconds * RATE / 1000)
            .flatten()
            .collect()
    }

    /// As if a decode had been made.
    fn decoded(utterance: &mut Utterance, job: Job) {
        utterance.heard = utterance.audio.len();
        utterance.decoded = Some(Decoded {
            end: job.end,
            is_final: true,
            verdict: Verdict::Believed,
            words: Vec::new(),
        });
    }

    #[test]
    fn a_window_is_decoded_when_there_is_enough_new_in_it() {
        let settings = Settings::default();
        let params = SttParams {
            partials: true,
            ..SttParams::default()
        };
        let mut one = utterance(&params).expect("an utterance");
        let mut log = Vec::new();
        // Speech, a long pause, speech, the end: in packets of 20 ms.
        for (milliseconds, amplitude) in [(1_240, 3_000), (2_000, 0), (660, 3_000)] {
            for _ in 0..milliseconds / 20 {
                one.push(&bytes(20, amplitude)).expect("it is short");
                if let Some(job) = one.job(&settings, 1) {
                    log.push((job.purpose, job.end * 1000 / RATE, one.audio.len() * 1000 / RATE));
                    decoded(&mut one, job);
                }
            }
        }
        one.finished = true;
        let last = one.job(&settings, 1).expect("the final");
        log.push((last.purpose, last.end * 1000 / RATE, one.audio.len() * 1000 / RATE));
        assert_eq!(
            log,
            [
                (Purpose::Partial, 500, 500),
                (Purpose::Partial, 1000, 1000),
                (Purpose::Partial, 1500, 1500),
                // Once what may fade away has faded, and no second time.
                (Purpose::Pause, 1540, 1600),
                (Purpose::Partial, 3300, 3300),
                (Purpose::Partial, 3800, 3800),
                (Purpose::Final, 3900, 3900),
            ]
        );
    }

    #[test]
    fn what_was_decoded_in_a_pause_is_final_when_nothing_more_was_said() {
        let settings = Settings::default();
        let ended = |more: &[u8], is_final: bool| {
            let mut one = utterance(&SttParams::default()).expect("an utterance");
            one.push(&bytes(1_000, 3_000)).expect("it is short");
            one.push(&bytes(500, 0)).expect("it is short");
            let job = one.job(&settings, 1).expect("a pause");
            assert_eq!(job.purpose, Purpose::Pause);
            decoded(&mut one, job);
            if let Some(decoded) = &mut one.decoded {
                decoded.is_final = is_final;
            }
            one.push(more).expect("it is short");
            one.finished = true;
            let last = one.job(&settings, 1).expect("the final");
            (last.purpose, one.already(last).is_some())
        };
        assert_eq!(ended(&[], true), (Purpose::Final, true));
        assert_eq!(ended(&bytes(2_000, 0), true), (Purpose::Final, true));
        assert_eq!(
            ended(&bytes(100, 3_000), true),
            (Purpose::Final, false),
            "more was said"
        );
        assert_eq!(ended(&[], false), (Purpose::Final, false), "it was made with less care");
    }

    #[test]
    fn a_machine_that_is_behind_decodes_less_often() {
        let settings = Settings::default();
        let params = SttParams {
            partials: true,
            ..SttParams::default()
        };
        let mut one = utterance(&params).expect("an utterance");
        one.cost = Duration::from_millis(700);
        one.push(&bytes(1_300, 3_000)).expect("it is short");
        assert_eq!(one.job(&settings, 2), None, "two streams, each of which takes 700 ms");
        one.push(&bytes(100, 3_000)).expect("it is short");
        assert_eq!(one.job(&settings, 2).map(|job| job.purpose), Some(Purpose::Partial));
        one.partials = false;
        one.push(&bytes(1_000, 3_000)).expect("it is short");
        assert_eq!(one.job(&settings, 1), None, "nobody wants to see it");
        one.push(&bytes(26_000, 3_000)).expect("it is short");
        assert_eq!(
            one.job(&settings, 1).map(|job| (job.purpose, job.end)),
            Some((Purpose::Cut, settings.window))
        );
    }

    #[test]
    fn an_utterance_is_bounded() {
        let mut one = utterance(&SttParams::default()).expect("an utterance");
        let settings = Settings::default();
        let mut seconds = 0;
        while one.has_room(&settings) {
            one.push(&bytes(1_000, 0)).expect("it is short");
            seconds += 1;
        }
        assert_eq!(seconds, 38);
        one.offset = 299 * RATE as u64 - one.audio.len() as u64;
        one.push(&bytes(1_000, 0)).expect("just as long as it may be");
        assert_eq!(one.push(&bytes(1, 0)).expect_err("it is too long").code, code::TOO_LONG);
    }

    #[test]
    fn languages_are_known_refused_or_open() {
        let of = |tag: Option<&str>| {
            let params = SttParams {
                language: tag.map(str::to_owned),
                ..SttParams::default()
            };
            utterance(&params)
                .map(|utterance| utterance.language)
                .map_err(|failure| (failure.code, failure.message))
        };
        assert_eq!(of(Some("de-AT")), Ok(Language::Known("de")));
        assert_eq!(of(None), Ok(Language::Open(None)));
        let refused = of(Some("tlh")).expect_err("Klingon");
        assert_eq!(refused.0, code::UNSUPPORTED);
        assert!(refused.1.contains("tlh"), "{refused:?}");
    }

    #[test]
    fn a_prompt_is_made_of_hints_and_what_was_said_and_bounded() {
        let params = |hints: &[&str], prompt: Option<&str>| SttParams {
            hints: hints.iter().map(|hint| (*hint).to_owned()).collect(),
            prompt: prompt.map(str::to_owned),
            ..SttParams::default()
        };
        assert_eq!(prompt(&params(&[], None)), "");
        assert_eq!(prompt(&params(&["Repartee", "Łódź"], None)), "Repartee, Łódź.");
        assert_eq!(
            prompt(&params(&["Repartee"], Some("Which town?"))),
            "Repartee. Which town?"
        );
        let long = prompt(&params(&["x"], Some(&"wörter ".repeat(1_000))));
        assert!(
            long.chars().count() <= LONGEST_PROMPT && long.starts_with("wörter"),
            "{long}"
        );
        let one_word = prompt(&params(&[], Some(&"ß".repeat(1_000))));
        assert_eq!(one_word.chars().count(), LONGEST_PROMPT);
    }
}
