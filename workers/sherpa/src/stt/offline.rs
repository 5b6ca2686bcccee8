//! Recognisers that take a whole utterance: the engine's voice detector says where it ends, then those that have ended are decoded
//! together. Where the model is quick enough, what has been said so far is decoded now and then for partials.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use repartee_worker_shell::protocol::{FinalText, StreamId, SttParams, Usage, code};
use repartee_worker_shell::{Agreement, Batch, Failure, Input, Step, Stream};
use sherpa_onnx::{OfflineRecognizer, OfflineRecognizerResult, OfflineStream};

use super::utterance::{self, Plan, milliseconds, params};
use super::words::{self, RATE, Timed};

/// The shortest audio that is decoded; shorter ones are lengthened with silence. Some models can't take less than a few frames.
const SHORTEST: usize = RATE as usize * 2 / 5;

/// A partial is worth its while when there's so much new audio: half a second.
const PARTIAL: usize = RATE as usize / 2;
/// Partials take at most a quarter of the time: so many times as long as the last one took, none is made.
const REST: u32 = 3;
/// How many successive hypotheses have to agree on a word.
const AGREEING: usize = 3;

/// How long decoding for a partial may take, since meanwhile nobody else is served: what takes longer has none.
const QUICK: Duration = Duration::from_millis(300);
/// How much audio is decoded to see whether the model is quick enough for partials at all.
const PROBE: usize = RATE as usize * 4;

/// The most utterances that are decoded in one go: the longest of them decides what each of them costs.
const TOGETHER: usize = 8;

/// All utterances that are being heard.
pub(super) struct Offline {
    utterances: BTreeMap<StreamId, Utterance>,
    recognizer: OfflineRecognizer,
    plan: Plan,
    partials: bool,
    /// How long a partial may take. Whoever asks for partials of a slow model has them however long they take.
    patience: Duration,
    /// When the last partial was made, and how long it took.
    rested: Option<(Instant, Duration)>,
    /// How long a sample took to decode, lately.
    pace: Duration,
}

struct Utterance {
    audio: Vec<f32>,
    params: SttParams,
    finished: bool,
    /// How much of it the last partial was made of.
    told: usize,
    partial: (String, u32),
    agreement: Agreement,
    compute: Duration,
}

impl Offline {
    pub(super) fn new(recognizer: OfflineRecognizer, plan: Plan) -> Self {
        Self {
            utterances: BTreeMap::new(),
            recognizer,
            plan,
            partials: false,
            patience: QUICK,
            rested: None,
            pace: Duration::ZERO,
        }
    }

    /// Decodes some noise, twice: the second time shows whether the model is quick enough for partials, unless that is said. A model
    /// that can't decode ends the process.
    pub(super) fn warm_up(&mut self, partials: Option<bool>) {
        self.decode(&[(&utterance::noise(RATE as usize), &SttParams::default())]);
        let began = Instant::now();
        self.decode(&[(&utterance::noise(PROBE), &SttParams::default())]);
        self.partials = partials.unwrap_or(began.elapsed() <= QUICK);
        self.patience = if partials.is_some() { Duration::MAX } else { QUICK };
        self.pace = pace(began.elapsed(), PROBE);
    }

    /// Whether there are partials.
    pub(super) fn has_partials(&self) -> bool {
        self.partials
    }

    /// Decodes pieces of audio together.
    fn decode(&self, pieces: &[(&[f32], &SttParams)]) -> Vec<Option<OfflineRecognizerResult>> {
        let streams: Vec<OfflineStream> = pieces
            .iter()
            .map(|(audio, params)| self.stream(audio, params))
            .collect();
        let references: Vec<&OfflineStream> = streams.iter().collect();
        self.recognizer.decode_multiple_streams(&references);
        streams.iter().map(OfflineStream::get_result).collect()
    }

    fn stream(&self, audio: &[f32], params: &SttParams) -> OfflineStream {
        let stream = match self.plan.hints_of(params) {
            Some(hints) => self.recognizer.create_stream_with_hotwords(&hints),
            None => self.recognizer.create_stream(),
        };
        if audio.len() < SHORTEST {
            let mut longer = audio.to_vec();
            longer.resize(SHORTEST, 0.0);
            stream.accept_waveform(RATE as i32, &longer);
        } else {
            stream.accept_waveform(RATE as i32, audio);
        }
        stream
    }

    /// Takes what came on a stream.
    fn take(&mut self, stream: &mut Stream) -> Result<(), Failure> {
        let id = stream.id();
        if !self.utterances.contains_key(&id) {
            let params = params(stream)?;
            self.plan.accepts(params)?;
            let utterance = Utterance {
                audio: Vec::new(),
                params: params.clone(),
                finished: false,
                told: 0,
                partial: (String::new(), 0),
                agreement: Agreement::of(AGREEING),
                compute: Duration::ZERO,
            };
            self.utterances.insert(id, utterance);
        }
        let Some(utterance) = self.utterances.get_mut(&id) else {
            return Ok(());
        };
        while let Some(input) = stream.next_input() {
            match input {
                Input::Text(_) => {}
                Input::Audio(bytes) => {
                    utterance.audio.extend(utterance::floats(&bytes));
                    self.plan.require_length(utterance.audio.len() as u64)?;
                }
                Input::Finish => utterance.finished = true,
            }
        }
        Ok(())
    }

    /// Decodes the utterances of these streams, and tells what was said.
    fn transcribe(&mut self, ids: &[StreamId]) -> Vec<Option<OfflineRecognizerResult>> {
        let pieces: Vec<(&[f32], &SttParams)> = ids
            .iter()
            .filter_map(|id| self.utterances.get(id))
            .map(|utterance| (&utterance.audio[..], &utterance.params))
            .collect();
        let began = Instant::now();
        let results = self.decode(&pieces);
        let each = began.elapsed() / u32::try_from(ids.len()).unwrap_or(u32::MAX).max(1);
        for id in ids {
            if let Some(utterance) = self.utterances.get_mut(id) {
                utterance.compute += each;
            }
        }
        results
    }

    fn tell_final(&mut self, stream: &Stream, result: Option<OfflineRecognizerResult>) {
        let Some(utterance) = self.utterances.remove(&stream.id()) else {
            return;
        };
        if result.is_none() && !utterance.audio.is_empty() {
            stream
                .out()
                .fail(Failure::new(code::INTERNAL, "sherpa-onnx gave no result"));
            return;
        }
        let samples = utterance.audio.len() as u64;
        let text = result
            .as_ref()
            .map(|result| self.plan.case.write(&result.text))
            .unwrap_or_default();
        let words = match result {
            Some(result) if utterance.params.words => {
                let starts = result.timestamps.as_deref().unwrap_or_default();
                let durations = result.durations.as_deref().unwrap_or_default();
                let tokens = result.tokens.iter().zip(starts).enumerate();
                let tokens: Vec<Timed<'_>> = tokens
                    .map(|(place, (text, start))| Timed {
                        text,
                        start: *start,
                        duration: durations.get(place).copied(),
                    })
                    .collect();
                words::marks(&text, self.plan.case, &tokens, samples)
            }
            _ => Vec::new(),
        };
        stream.out().final_text(FinalText {
            text,
            words,
            language: self.plan.only_language(),
            audio_ms: milliseconds(samples),
            ..FinalText::default()
        });
        stream.out().done(
            None,
            Usage {
                compute_us: u64::try_from(utterance.compute.as_micros()).unwrap_or(u64::MAX).max(1),
                ..Usage::default()
            },
        );
    }

    /// A partial of the utterance that has the most new audio, if one is due.
    fn tell_partial(&mut self, streams: &[Stream]) {
        let rests = self.rested.is_some_and(|(ended, took)| ended.elapsed() < took * REST);
        if !self.partials || rests {
            return;
        }
        let is_due = |utterance: &Utterance| {
            let samples = u32::try_from(utterance.audio.len()).unwrap_or(u32::MAX);
            let is_quick = self.pace.saturating_mul(samples) <= self.patience;
            utterance.params.partials && is_quick && utterance.audio.len() >= utterance.told + PARTIAL
        };
        let due = self.utterances.iter().filter(|(_, utterance)| is_due(utterance));
        let Some(id) = due
            .max_by_key(|(_, utterance)| utterance.audio.len() - utterance.told)
            .map(|(id, _)| *id)
        else {
            return;
        };
        let began = Instant::now();
        let result = self.transcribe(&[id]).pop().flatten();
        let took = began.elapsed();
        self.rested = Some((Instant::now(), took));
        let Some(utterance) = self.utterances.get_mut(&id) else {
            return;
        };
        utterance.told = utterance.audio.len();
        self.pace = pace(took, utterance.told);
        let (Some(result), Some(stream)) = (result, streams.iter().find(|stream| stream.id() == id)) else {
            return;
        };
        let text = self.plan.case.write(&result.text);
        let stable = utterance.agreement.stable_chars(&text);
        if utterance.partial.0 != text || utterance.partial.1 != stable {
            stream.out().partial(&text, stable, milliseconds(utterance.told as u64));
            utterance.partial = (text, stable);
        }
    }
}

fn pace(took: Duration, samples: usize) -> Duration {
    took / u32::try_from(samples).unwrap_or(u32::MAX).max(1)
}

impl Batch for Offline {
    fn step(&mut self, streams: &mut [Stream]) -> Step {
        for stream in &mut *streams {
            if stream.is_cancelled() {
                self.utterances.remove(&stream.id());
            } else if let Err(failure) = self.take(stream) {
                self.utterances.remove(&stream.id());
                stream.out().fail(failure);
            }
        }
        let finished: Vec<StreamId> = self
            .utterances
            .iter()
            .filter(|(_, utterance)| utterance.finished)
            .map(|(id, _)| *id)
            .collect();
        let is_empty = |id: &StreamId| {
            self.utterances
                .get(id)
                .is_some_and(|utterance| utterance.audio.is_empty())
        };
        let (silent, mut spoken): (Vec<StreamId>, Vec<StreamId>) = finished.into_iter().partition(is_empty);
        let more = spoken.len() > TOGETHER;
        spoken.truncate(TOGETHER);
        let results = if spoken.is_empty() {
            Vec::new()
        } else {
            self.transcribe(&spoken)
        };
        let silent = silent.into_iter().map(|id| (id, None));
        for (id, result) in spoken.into_iter().zip(results).chain(silent).collect::<Vec<_>>() {
            if let Some(stream) = streams.iter().find(|stream| stream.id() == id) {
                self.tell_final(stream, result);
            }
        }
        if more {
            return Step::Again;
        }
        self.tell_partial(streams);
        Step::Wait
    }
}
