//! Recognisers that hear while they're spoken to: all streams that have audio enough for a step make it together.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use repartee_worker_shell::protocol::{FinalText, Mark, StreamId, SttParams, Usage};
use repartee_worker_shell::{Agreement, Batch, Failure, Input, Step, Stream};
use sherpa_onnx::{LinearResampler, OnlineRecognizer, OnlineStream, RecognizerResult};

use super::kind::Kind;
use super::model::Model;
use super::utterance::{self, Plan, milliseconds, params};
use super::words::{RATE, Timed, settled_chars};

/// How much of a stream's audio is taken at a time: a second, so that one that is replayed doesn't keep the others waiting.
const FEED: usize = RATE as usize;

/// How many successive hypotheses have to agree on a word, where they may change: a second or so, at the usual two or three a second.
const AGREEING: usize = 3;

/// How many frames one output covers, as sherpa-onnx 2.0.1 reckons times for every streaming CTC; NeMo's cover eight.
const LIBRARY_FACTOR: u16 = 4;

/// The samples of one frame of features: 10 ms.
const FRAME: u64 = RATE as u64 / 100;

/// How many streams one step decodes together: of 8, 16 and 32, 16 gave the most streams a core (`scripts/bench-sherpa-peer.sh`).
const MOST_TOGETHER: usize = 16;

/// With more utterances than this at once, a step waits for company.
const GATHER_FROM: usize = 4;

/// For so long: a tenth of a usual chunk of 320 ms, in which of 24 utterances that began at different moments two or three come together.
const GATHERING: Duration = Duration::from_millis(30);

/// How the library cuts audio into chunks, in frames of 10 ms.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chunks {
    /// How many frames a chunk has, with those that it only looks ahead to.
    size: u64,
    /// How many frames further the next one begins.
    shift: u64,
    /// How much silence is heard first: T-one's makers say 300 ms.
    lead: u64,
    /// How long after its sound a token may come.
    delay: u64,
    /// The rate at which the model hears, in Hz.
    rate: u32,
    /// How many frames one of the model's outputs covers, where the library takes it for another number.
    stretch: f32,
}

impl Chunks {
    pub(super) fn of(model: &Model) -> Self {
        /// Wherever metadata is nonsense, and the library takes it nevertheless.
        const MOST: u64 = 1000;
        let main = model.main();
        let number_up_to = |key: &str, most: u64| main.number(key).unwrap_or(0).clamp(1, most);
        let number = |key: &str| number_up_to(key, MOST);
        let (size, shift, lead, delay) = match model.kind {
            // FunASR's fixed chunks: 600 ms.
            Kind::StreamingParaformer => (61, 60, 0, 20),
            Kind::TOne => {
                let frames = (number("frame_length_ms") / 10).max(1);
                (frames, frames, 30, 30)
            }
            Kind::StreamingNemoCtc | Kind::StreamingNemoTransducer => {
                (number("window_size"), number("chunk_shift"), 0, 20)
            }
            _ => (number("T"), number("decode_chunk_len"), 0, 20),
        };
        Self {
            size: size.max(shift),
            shift,
            lead,
            delay,
            rate: if model.kind == Kind::TOne {
                u32::try_from(number_up_to("sample_rate", RATE.into())).unwrap_or(RATE)
            } else {
                RATE
            },
            stretch: if model.kind == Kind::StreamingNemoCtc {
                f32::from(u16::try_from(number("subsampling_factor")).unwrap_or(LIBRARY_FACTOR))
                    / f32::from(LIBRARY_FACTOR)
            } else {
                1.0
            },
        }
    }

    /// How many samples of silence an utterance needs after its end so that all of it, and what comes late, is in decoded chunks.
    pub(super) fn tail(&self, samples: u64) -> usize {
        let spoken = samples + self.lead * FRAME;
        let wanted = spoken.div_ceil(FRAME) + self.delay;
        let chunks = wanted.div_ceil(self.shift).max(1);
        // The library begins a chunk when there's a frame more than it needs, and a frame needs 25 ms.
        let frames = (chunks - 1) * self.shift + self.size + 4;
        usize::try_from((frames * FRAME).saturating_sub(spoken)).unwrap_or(0)
    }
}

/// A stream of the library with what it needs to hear 16 kHz.
struct Ear {
    stream: OnlineStream,
    rate: i32,
    /// For models of another rate. The library resamples too, and writes two lines to its log for each stream.
    resampler: Option<LinearResampler>,
}

impl Ear {
    fn hear(&self, samples: &[f32]) {
        match &self.resampler {
            None => self.stream.accept_waveform(self.rate, samples),
            Some(resampler) => self
                .stream
                .accept_waveform(self.rate, &resampler.resample(samples, false)),
        }
    }

    fn finish(&self) {
        if let Some(resampler) = &self.resampler {
            self.stream.accept_waveform(self.rate, &resampler.resample(&[], true));
        }
        self.stream.input_finished();
    }
}

/// All utterances that are being heard.
pub(super) struct Online {
    // Streams go before what they came from.
    sessions: BTreeMap<StreamId, Session>,
    recognizer: OnlineRecognizer,
    plan: Plan,
    chunks: Chunks,
}

struct Session {
    ear: Ear,
    samples: u64,
    finished: bool,
    wants_partials: bool,
    wants_words: bool,
    partial: (String, u32),
    agreement: Agreement,
    compute: Duration,
}

impl Online {
    pub(super) fn new(recognizer: OnlineRecognizer, plan: Plan, chunks: Chunks) -> Self {
        Self {
            sessions: BTreeMap::new(),
            recognizer,
            plan,
            chunks,
        }
    }

    /// Hears a second of noise.
    pub(super) fn warm_up(&self) {
        let session = self.session(&SttParams::default());
        session.ear.hear(&utterance::noise(RATE as usize));
        session.ear.hear(&vec![0.0; self.chunks.tail(u64::from(RATE))]);
        session.ear.finish();
        while self.recognizer.is_ready(&session.ear.stream) {
            self.recognizer.decode_multiple_streams(&[&session.ear.stream]);
        }
        drop(self.recognizer.get_result(&session.ear.stream));
    }

    fn session(&self, params: &SttParams) -> Session {
        let hints = self.plan.hints_of(params);
        let stream = match hints {
            Some(hints) => self.recognizer.create_stream_with_hotwords(&hints),
            None => self.recognizer.create_stream(),
        };
        let lead = self.chunks.lead * FRAME;
        let resampler = if self.chunks.rate == RATE {
            None
        } else {
            LinearResampler::create(RATE as i32, self.chunks.rate.cast_signed())
        };
        let rate = resampler.as_ref().map_or(RATE, |_| self.chunks.rate);
        let ear = Ear {
            stream,
            rate: rate.cast_signed(),
            resampler,
        };
        ear.hear(&vec![0.0; usize::try_from(lead).unwrap_or(0)]);
        Session {
            ear,
            samples: 0,
            finished: false,
            wants_partials: params.partials,
            wants_words: params.words,
            partial: (String::new(), 0),
            agreement: Agreement::of(AGREEING),
            compute: Duration::ZERO,
        }
    }

    /// Takes what came on a stream.
    fn take(&mut self, stream: &mut Stream) -> Result<(), Failure> {
        let id = stream.id();
        if !self.sessions.contains_key(&id) {
            let params = params(stream)?;
            self.plan.accepts(params)?;
            let session = self.session(params);
            self.sessions.insert(id, session);
        }
        let Some(session) = self.sessions.get_mut(&id) else {
            return Ok(());
        };
        let began = Instant::now();
        let mut fed = 0;
        while fed < FEED && !session.finished {
            match stream.next_input() {
                None => break,
                Some(Input::Text(_)) => {}
                Some(Input::Audio(bytes)) => {
                    let samples = utterance::floats(&bytes);
                    fed += samples.len();
                    session.samples += samples.len() as u64;
                    self.plan.require_length(session.samples)?;
                    session.ear.hear(&samples);
                }
                Some(Input::Finish) => {
                    session.finished = true;
                    let tail = if session.samples == 0 {
                        0
                    } else {
                        self.chunks.tail(session.samples)
                    };
                    session.ear.hear(&vec![0.0; tail]);
                    session.ear.finish();
                }
            }
        }
        session.compute += began.elapsed();
        Ok(())
    }

    /// Takes what came on a stream; one that can't be served fails.
    fn take_or_fail(&mut self, stream: &mut Stream) {
        if stream.is_cancelled() {
            self.sessions.remove(&stream.id());
        } else if let Err(failure) = self.take(stream) {
            self.sessions.remove(&stream.id());
            stream.out().fail(failure);
        }
    }

    fn is_ready(&self, session: &Session) -> bool {
        session.samples > 0 && self.recognizer.is_ready(&session.ear.stream)
    }

    /// Whether a moment's wait may bring more streams into the next step. Nobody who waits for a final transcript is kept.
    fn is_worth_gathering(&self) -> bool {
        let ready = || self.sessions.values().filter(|session| self.is_ready(session));
        let count = ready().count();
        self.sessions.len() > GATHER_FROM
            && (1..self.sessions.len().min(MOST_TOGETHER)).contains(&count)
            && !ready().any(|session| session.finished)
    }

    /// Makes one step with all streams that have audio enough, and tells which those were.
    fn decode(&mut self) -> Vec<StreamId> {
        let is_ready = |session: &Session| self.is_ready(session);
        let ready: Vec<StreamId> = self
            .sessions
            .iter()
            .filter(|(_, session)| is_ready(session))
            .map(|(id, _)| *id)
            .collect();
        if ready.is_empty() {
            return ready;
        }
        let began = Instant::now();
        let streams: Vec<&OnlineStream> = ready
            .iter()
            .filter_map(|id| self.sessions.get(id))
            .map(|session| &session.ear.stream)
            .collect();
        for together in streams.chunks(MOST_TOGETHER) {
            self.recognizer.decode_multiple_streams(together);
        }
        let each = began.elapsed() / u32::try_from(ready.len()).unwrap_or(u32::MAX);
        for id in &ready {
            if let Some(session) = self.sessions.get_mut(id) {
                session.compute += each;
            }
        }
        ready
    }

    fn tell_partial(&mut self, stream: &Stream) {
        let Some(session) = self.sessions.get_mut(&stream.id()) else {
            return;
        };
        if !session.wants_partials {
            return;
        }
        let Some(result) = self.recognizer.get_result(&session.ear.stream) else {
            return;
        };
        let text = self.plan.case.write(&result.text);
        let settled = if self.plan.grows {
            settled_chars(&text)
        } else {
            session.agreement.stable_chars(&text)
        };
        if session.partial.0 != text || session.partial.1 != settled {
            stream.out().partial(&text, settled, milliseconds(session.samples));
            session.partial = (text, settled);
        }
    }

    fn tell_final(&mut self, stream: &Stream) {
        let Some(session) = self.sessions.remove(&stream.id()) else {
            return;
        };
        let result = if session.samples == 0 {
            None
        } else {
            self.recognizer.get_result(&session.ear.stream)
        };
        let text = result
            .as_ref()
            .map(|result| self.plan.case.write(&result.text))
            .unwrap_or_default();
        let words = match result {
            Some(result) if session.wants_words => self.marks(&text, &result, session.samples),
            _ => Vec::new(),
        };
        stream.out().final_text(FinalText {
            text,
            words,
            language: self.plan.only_language(),
            audio_ms: milliseconds(session.samples),
            ..FinalText::default()
        });
        stream.out().done(
            None,
            Usage {
                compute_us: u64::try_from(session.compute.as_micros()).unwrap_or(u64::MAX).max(1),
                ..Usage::default()
            },
        );
    }

    fn marks(&self, text: &str, result: &RecognizerResult, samples: u64) -> Vec<Mark> {
        #[expect(clippy::cast_precision_loss, reason = "some tens of frames")]
        let lead = self.chunks.lead as f32 / 100.0;
        let starts = result.timestamps.as_deref().unwrap_or_default();
        let tokens: Vec<Timed<'_>> = result
            .tokens
            .iter()
            .zip(starts)
            .map(|(text, start)| Timed {
                text,
                start: start * self.chunks.stretch - lead,
                duration: None,
            })
            .collect();
        super::words::marks(text, self.plan.case, &tokens, samples)
    }
}

impl Batch for Online {
    fn step(&mut self, streams: &mut [Stream]) -> Step {
        for stream in &mut *streams {
            self.take_or_fail(stream);
        }
        if self.is_worth_gathering() {
            std::thread::sleep(GATHERING);
            for stream in &mut *streams {
                if self.sessions.contains_key(&stream.id()) {
                    self.take_or_fail(stream);
                }
            }
        }
        let decoded = self.decode();
        let mut next = Step::Wait;
        for stream in streams {
            let Some(session) = self.sessions.get(&stream.id()) else {
                continue;
            };
            if self.is_ready(session) {
                next = Step::Again;
            } else if session.finished {
                self.tell_final(stream);
                continue;
            }
            if decoded.contains(&stream.id()) {
                self.tell_partial(stream);
            }
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_lets_the_last_sound_into_a_decoded_chunk() {
        let chunks = Chunks {
            size: 45,
            shift: 32,
            lead: 0,
            delay: 20,
            rate: RATE,
            stretch: 1.0,
        };
        for samples in [1, 160, 5_000, 16_000, 16_001, 123_456] {
            let frames = (samples + chunks.tail(samples) as u64) / FRAME;
            // As the library counts: it makes a step while there are more frames than those done and a chunk.
            let steps = (0..)
                .take_while(|step| step * chunks.shift + chunks.size < frames)
                .count() as u64;
            assert!(
                steps * chunks.shift * FRAME >= samples + chunks.delay * FRAME,
                "{samples}: {steps} steps"
            );
            assert!(
                (steps - 1) * chunks.shift < samples.div_ceil(FRAME) + chunks.delay,
                "{samples}: none too many"
            );
        }
    }
}
