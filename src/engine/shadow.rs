//! A candidate beside a live backend: it is given the same work, its results are compared, and nothing of it reaches the call.

use std::task::{Context, Poll};
use std::time::Duration;

use super::driver::Driver;
use super::jobs::{Transcription, poll_running};
use super::ring::AudioRing;
use crate::backend::{Backend, LlmRequest, LlmStream, SttRequest, TtsEvent, TtsRequest, TtsStream};
use crate::call::{BackendKind, Comparison, LlmEvent, SttEvent};
use crate::id::{GenerationId, SwitchId, SynthesisId, TranscriptionId};
use crate::session::{Input, SwitchProgress};
use crate::time::{Samples, Time};

/// Comparisons of one session that go on at the same time; work beyond that is not compared.
const MAX_SHADOWS: usize = 8;
/// Characters that are compared, at most.
const MAX_CHARS: usize = 8_000;
/// A comparison that has no end by then is given up.
const PATIENCE: Duration = Duration::from_secs(60);

impl Driver {
    /// The comparison that goes on for this work.
    pub(super) fn shadow(&mut self, work: Work) -> Option<&mut Shadow> {
        self.shadows.iter_mut().find(|shadow| shadow.work == work)
    }

    /// The work was called off: there is nothing to compare any more.
    pub(super) fn forget_shadow(&mut self, work: Work) {
        self.shadows.retain(|shadow| shadow.work != work);
    }

    /// The candidate for a job, if there is one and it has room.
    fn candidate(&self, kind: BackendKind) -> Option<(SwitchId, Backend)> {
        let beside = self.beside.iter().find(|beside| beside.kind == kind)?;
        let backend = beside.backend().filter(|_| self.shadows.len() < MAX_SHADOWS)?;
        Some((beside.id, backend))
    }

    /// Gives a transcription to the candidate as well.
    pub(super) fn shadow_stt(&mut self, id: TranscriptionId, from: Samples, request: &SttRequest) {
        if let Some((switch, backend)) = self.candidate(BackendKind::Stt)
            && let Backend::Stt(stt) = &backend
            && let Ok(stream) = stt.open(request.clone())
        {
            let job = Transcription::running(id, stream, from);
            self.add_shadow(switch, Work::Stt(id), Candidate::Stt(Box::new(job)), backend);
        }
    }

    /// Gives a prompt to the candidate as well.
    pub(super) fn shadow_llm(&mut self, id: GenerationId, request: &LlmRequest) {
        if let Some((switch, backend)) = self.candidate(BackendKind::Llm)
            && let Backend::Llm(llm) = &backend
            && let Ok(stream) = llm.generate(request.clone())
        {
            self.add_shadow(switch, Work::Llm(id), Candidate::Llm(stream), backend);
        }
    }

    /// Gives a clause to the candidate as well, in its own voice.
    pub(super) fn shadow_tts(&mut self, id: SynthesisId, request: &TtsRequest) {
        if let Some((switch, backend)) = self.candidate(BackendKind::Tts)
            && let Backend::Tts(tts) = &backend
            && let Ok(stream) = tts.synthesize(TtsRequest {
                voice: None,
                ..request.clone()
            })
        {
            self.add_shadow(switch, Work::Tts(id), Candidate::Tts(stream), backend);
        }
    }

    fn add_shadow(&mut self, switch: SwitchId, work: Work, candidate: Candidate, keep: Backend) {
        let now = self.clock.now();
        self.shadows.push(Shadow {
            switch,
            work,
            since: now,
            begun: now,
            candidate,
            live: Side::default(),
            beside: Side::default(),
            _keep: keep,
        });
    }

    /// Lets the candidates work, and tells what comparisons have come to.
    pub(super) fn poll_shadows(&mut self, context: &mut Context<'_>) -> bool {
        let now = self.clock.now();
        let mut progressed = false;
        for index in 0..self.shadows.len() {
            let shadow = &mut self.shadows[index];
            progressed |= shadow.poll(&self.ring, &mut self.scratch, now, context);
            let comparison = shadow.comparison();
            if comparison.is_some() || shadow.until() <= now {
                let id = self.shadows.swap_remove(index).switch;
                if let Some(comparison) = comparison {
                    let progress = SwitchProgress::Compared(comparison);
                    self.input(Input::Switch { id, progress });
                }
                return true;
            }
        }
        progressed
    }
}

/// What the work is named in the core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    /// A transcription.
    Stt(TranscriptionId),
    /// A generation.
    Llm(GenerationId),
    /// A clause.
    Tts(SynthesisId),
}

/// The candidate's own work.
enum Candidate {
    Stt(Box<Transcription>),
    Llm(Box<dyn LlmStream>),
    Tts(Box<dyn TtsStream>),
    Over,
}

/// What one side said.
#[derive(Default)]
struct Side {
    /// When its result was there: final words, first token, first audio.
    at: Option<Time>,
    text: String,
    /// Length of its audio, in microseconds.
    audio_us: u64,
    over: bool,
    failed: bool,
}

/// One piece of work that both do.
pub(super) struct Shadow {
    switch: SwitchId,
    work: Work,
    /// When it was asked for; of a transcription, when its end was.
    since: Time,
    begun: Time,
    candidate: Candidate,
    live: Side,
    beside: Side,
    _keep: Backend,
}

impl Shadow {
    /// Which switch it belongs to.
    pub(super) const fn switch(&self) -> SwitchId {
        self.switch
    }

    /// When it is given up.
    pub(super) fn until(&self) -> Time {
        self.begun + PATIENCE
    }

    /// The oldest sample that it still needs.
    pub(super) fn needs_from(&self) -> Option<Samples> {
        match &self.candidate {
            Candidate::Stt(job) => Some(job.needs_from()),
            _ => None,
        }
    }

    /// The live transcription gets no sample from `end` on.
    pub(super) fn finish(&mut self, end: Samples, now: Time) {
        self.since = now;
        if let Candidate::Stt(job) = &mut self.candidate {
            job.finish(end);
        }
    }

    /// What the live recogniser said.
    pub(super) fn heard(&mut self, event: &SttEvent, now: Time) {
        self.live.heard(event, now);
    }

    /// What the live language model said.
    pub(super) fn wrote(&mut self, event: &LlmEvent, now: Time) {
        self.live.wrote(event, now);
    }

    /// What the live synthesiser gave.
    pub(super) fn spoke(&mut self, event: &TtsEvent, now: Time) {
        self.live.spoke(event, now);
    }

    /// The candidate's work goes on; whether it got on.
    pub(super) fn poll(
        &mut self,
        ring: &AudioRing,
        scratch: &mut Vec<i16>,
        now: Time,
        context: &mut Context<'_>,
    ) -> bool {
        let mut progressed = false;
        for _ in 0..16 {
            match &mut self.candidate {
                Candidate::Stt(job) => {
                    job.feed(ring, scratch);
                    let event = poll_running(&mut job.progress, context, |stream, context| stream.poll_event(context));
                    let Some(event) = event else { break };
                    self.beside.heard(&event, now);
                }
                Candidate::Llm(stream) => match stream.poll_event(context) {
                    Poll::Ready(event) => self.beside.wrote(&event, now),
                    Poll::Pending => break,
                },
                Candidate::Tts(stream) => match stream.poll_event(context) {
                    Poll::Ready(event) => self.beside.spoke(&event, now),
                    Poll::Pending => break,
                },
                Candidate::Over => break,
            }
            progressed = true;
            if self.beside.over {
                self.candidate = Candidate::Over;
            }
        }
        progressed
    }

    /// How both did, when both are done.
    pub(super) fn comparison(&self) -> Option<Comparison> {
        if !self.live.over || !self.beside.over {
            return None;
        }
        let took = |side: &Side| {
            let at = side.at.filter(|_| !side.failed)?;
            u32::try_from(at.since(self.since).as_millis()).ok()
        };
        let both = !self.live.failed && !self.beside.failed;
        let agreement = match self.work {
            Work::Stt(_) | Work::Llm(_) => words_agree(&self.live.text, &self.beside.text),
            Work::Tts(_) => ratio(
                self.live.audio_us.min(self.beside.audio_us),
                self.live.audio_us.max(self.beside.audio_us),
            ),
        };
        Some(Comparison {
            agreement_per_mille: both.then_some(agreement),
            live_ms: took(&self.live),
            candidate_ms: took(&self.beside),
        })
    }
}

impl Side {
    fn heard(&mut self, event: &SttEvent, now: Time) {
        match event {
            SttEvent::Partial { .. } => {}
            SttEvent::Final { text } => {
                self.text.clone_from(text.expose());
                self.at = Some(now);
                self.over = true;
            }
            SttEvent::Failed(_) => self.fail(),
        }
    }

    fn wrote(&mut self, event: &LlmEvent, now: Time) {
        match event {
            LlmEvent::Delta { text } => {
                self.at.get_or_insert(now);
                if self.text.len() < MAX_CHARS {
                    self.text.push_str(text.expose());
                }
            }
            LlmEvent::ToolCall(_) => {
                self.at.get_or_insert(now);
            }
            LlmEvent::Done { .. } => self.over = true,
            LlmEvent::Failed(_) => self.fail(),
        }
    }

    fn spoke(&mut self, event: &TtsEvent, now: Time) {
        match event {
            TtsEvent::Audio { pcm, rate } => {
                self.at.get_or_insert(now);
                self.audio_us += pcm.len() as u64 * 1_000_000 / u64::from((*rate).max(1));
            }
            TtsEvent::Words(_) => {}
            TtsEvent::Done => self.over = true,
            TtsEvent::Failed(_) => self.fail(),
        }
    }

    fn fail(&mut self) {
        self.failed = true;
        self.over = true;
    }
}

fn ratio(part: u64, whole: u64) -> u16 {
    if whole == 0 {
        return 1_000;
    }
    u16::try_from(part * 1_000 / whole).unwrap_or(1_000)
}

/// The share of words that both texts have in common and in the same order, of the words of the longer one, in thousandths. Case and
/// punctuation don't count.
fn words_agree(one: &str, other: &str) -> u16 {
    let words = |text: &str| -> Vec<String> {
        text.split(|character: char| !character.is_alphanumeric() && character != '\'')
            .filter(|word| !word.is_empty())
            .map(str::to_lowercase)
            .take(MAX_CHARS / 8)
            .collect()
    };
    let (one, other) = (words(one), words(other));
    // Longest common subsequence, a row at a time.
    let mut row = vec![0_u64; other.len() + 1];
    for word in &one {
        let mut before = 0;
        for (index, candidate) in other.iter().enumerate() {
            let above = row[index + 1];
            row[index + 1] = if word == candidate {
                before + 1
            } else {
                above.max(row[index])
            };
            before = above;
        }
    }
    let common = row.last().copied().unwrap_or_default();
    ratio(common, one.len().max(other.len()) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agreement_counts_common_words_in_their_order() {
        assert_eq!(words_agree("Good morning, you", "good MORNING you"), 1_000);
        assert_eq!(words_agree("", ""), 1_000);
        assert_eq!(words_agree("one two three four", "one three"), 500);
        assert_eq!(words_agree("a b", "b a"), 500);
        assert_eq!(words_agree("something", ""), 0);
    }
}
