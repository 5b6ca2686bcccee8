//! The loaded model, and its decodes of a window.
//!
//! Each decode begins from nothing: the library keeps nothing of a window that could be used for a longer one. So a state belongs
//! to no utterance, and one state serves any number of them in turns.

use std::collections::BTreeMap;
use std::ffi::c_void;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use whisper_rs::{FullParams, SamplingStrategy, WhisperContext, WhisperContextParameters, WhisperError, WhisperState};

use crate::checks::{self, Signs, Thresholds, Verdict};
use crate::header::{AUDIO_CONTEXT, Header};
use crate::window::{FRAME, RATE, audio_context};
use crate::words::{Token, Word, words};

/// The library reads 200 samples past the beginning, and doesn't decode less than 100 ms.
pub(crate) const SHORTEST: usize = RATE / 10;

/// Tokens that a window may have for each second, and besides. Quick speech has some five words a second; scripts that Whisper knows little
/// of need several tokens for a word. What goes on beyond that is a loop.
const TOKENS_PER_SECOND: usize = 16;
const TOKENS_BESIDE: usize = 16;
/// The library's own limit, half of the decoder's positions less what begins a text.
const MOST_TOKENS: usize = 220;
/// What a decode goes through that isn't believed: 0, 0.4 and 0.8. Whisper goes by 0.2, with five candidates each, for texts that may
/// take their time; here somebody waits for an answer.
const WARMER: f32 = 0.4;
const TEMPERATURES: usize = 3;
const BEST_OF: i32 = 2;

/// What `whisper_full_with_state` returns when the encoder or the decoder was stopped or failed, and when it has freed its state.
const ENCODER_STOPPED: i32 = -6;
const PROMPT_STOPPED: i32 = -8;
const DECODER_STOPPED: i32 = -9;
const STATE_FREED: i32 = -7;

/// A model in memory.
pub(crate) struct Model {
    context: WhisperContext,
    pub(crate) header: Header,
}

impl Model {
    /// Loads the file, on a graphics device or on the CPU.
    pub(crate) fn load(path: &Path, header: Header, gpu: Option<i32>) -> Result<Self, String> {
        let parameters = WhisperContextParameters {
            use_gpu: gpu.is_some(),
            gpu_device: gpu.unwrap_or_default(),
            ..WhisperContextParameters::default()
        };
        match WhisperContext::new_with_params(path, parameters) {
            Ok(context) => Ok(Self { context, header }),
            Err(error) => Err(error.to_string()),
        }
    }

    fn tokens(&self, text: &str) -> Vec<i32> {
        let text = text.replace('\0', " ");
        // A token has at least one byte. Were there less room than tokens, whisper-rs would take the negative count for a length.
        self.context.tokenize(&text, text.len() + 1).unwrap_or_default()
    }
}

/// What is wanted of a decode.
#[derive(Clone, Debug)]
pub(crate) struct Request<'a> {
    pub(crate) samples: &'a [i16],
    /// Where there's sound in them.
    pub(crate) voiced: &'a [Range<u64>],
    pub(crate) language: &'static str,
    pub(crate) translate: bool,
    /// Whether the model writes times down.
    pub(crate) timed: bool,
    pub(crate) beam: u32,
    pub(crate) full_context: bool,
    /// What came before, for the decoder to go on from.
    pub(crate) prompt: &'a str,
    pub(crate) thresholds: Thresholds,
}

/// What a decode gave.
#[derive(Clone, Debug)]
pub(crate) struct Heard {
    pub(crate) words: Vec<Word>,
    pub(crate) verdict: Verdict,
}

/// Why there's no result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stopped {
    /// It isn't wanted any more.
    Unwanted,
    /// The library failed.
    Failed(String),
}

/// Who stops a decode: called after the encoder and after each token.
struct Watch<'a> {
    is_unwanted: &'a (dyn Fn() -> bool + Sync),
    steps: AtomicU32,
    most: u32,
}

unsafe extern "C" fn should_stop(watch: *mut c_void) -> bool {
    // SAFETY: `Decoder::run` passes a `Watch` that lives until the library returns. It's only shared.
    let watch = unsafe { &*watch.cast::<Watch>() };
    watch.steps.fetch_add(1, Ordering::Relaxed) >= watch.most || (watch.is_unwanted)()
}

/// One state of the library: one decode at a time.
pub(crate) struct Decoder {
    model: Arc<Model>,
    threads: u32,
    state: Option<WhisperState>,
    /// Parameters by language and beam. whisper-rs never frees the name of a language, so there's one of each.
    parameters: BTreeMap<(&'static str, u32), FullParams<'static, 'static>>,
    /// The samples of a window, as the library takes them.
    samples: Vec<f32>,
}

impl Decoder {
    pub(crate) fn new(model: Arc<Model>, threads: u32) -> Result<Self, String> {
        let mut decoder = Self {
            model,
            threads,
            state: None,
            parameters: BTreeMap::new(),
            samples: Vec::new(),
        };
        decoder.renew()?;
        Ok(decoder)
    }

    /// A state as new.
    fn renew(&mut self) -> Result<(), String> {
        // The old one first: there's memory for one.
        self.state = None;
        let state = self.model.context.create_state();
        self.state = Some(state.map_err(|error| format!("no state for the decoder: {error}"))?);
        Ok(())
    }

    /// Decodes a window once, at temperature 0.
    pub(crate) fn decode(
        &mut self,
        request: &Request,
        is_unwanted: &(dyn Fn() -> bool + Sync),
    ) -> Result<Heard, Stopped> {
        self.run(request, false, is_unwanted)
    }

    /// Decodes a window whose decode isn't to be believed again: with the whole context, and at rising temperatures.
    pub(crate) fn fall_back(
        &mut self,
        request: &Request,
        is_unwanted: &(dyn Fn() -> bool + Sync),
    ) -> Result<Heard, Stopped> {
        // Sampling goes on where the state's random numbers are, so a new one makes that the same audio gives the same words.
        self.renew().map_err(Stopped::Failed)?;
        let request = Request {
            full_context: true,
            ..request.clone()
        };
        let mut heard = self.run(&request, true, is_unwanted)?;
        if let Some(end) = checks::loop_end(&heard.words) {
            heard.words.truncate(end);
        }
        Ok(heard)
    }

    fn run(
        &mut self,
        request: &Request,
        fall_back: bool,
        is_unwanted: &(dyn Fn() -> bool + Sync),
    ) -> Result<Heard, Stopped> {
        if request.samples.len() < SHORTEST {
            return Ok(Heard {
                words: Vec::new(),
                verdict: Verdict::Silence,
            });
        }
        let prompt = self.model.tokens(request.prompt);
        let most_tokens = (TOKENS_BESIDE + request.samples.len() * TOKENS_PER_SECOND / RATE).min(MOST_TOKENS);
        let attempts = if fall_back { TEMPERATURES } else { 1 };
        let watch = Watch {
            is_unwanted,
            steps: AtomicU32::new(0),
            // The encoder, the prompt, and each token. With times a window is decoded in several pieces, in odd cases.
            most: (attempts * (most_tokens + 2) + 8) as u32,
        };
        let mut parameters = self.parameters(request, &watch);
        parameters.set_max_tokens(most_tokens as i32);
        parameters.set_temperature_inc(if fall_back { WARMER } else { 0.0 });
        parameters.set_tokens(&prompt);
        self.full(parameters, request.samples, &watch)?;
        self.result(request)
    }

    /// The logits of the first token after the start of a transcript, for what was encoded last.
    fn first_logits(&mut self) -> Result<&[f32], Stopped> {
        let start = self.model.context.token_sot();
        let Some(state) = &mut self.state else {
            return Err(Stopped::Failed("there is no state".into()));
        };
        let failed = |error: WhisperError| Stopped::Failed(format!("the decoder failed: {error}"));
        let threads = self.threads.max(1) as usize;
        state.decode(&[start], 0, threads).map_err(failed)?;
        state.get_logits().map_err(failed)
    }

    /// The probability that nothing was said, where Whisper looks for it (`decoding.py`): at the start of a transcript.
    ///
    /// whisper.cpp 1.8.3 looks at the first row of its logits after it has decoded a prompt, of which only the last row is computed: what
    /// it finds there is left from the decode before.
    fn no_speech(&mut self) -> Result<f32, Stopped> {
        let token = self.model.context.token_nosp() as usize;
        let logits = self.first_logits()?;
        let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f32 = logits.iter().map(|logit| (logit - largest).exp()).sum();
        Ok(logits.get(token).map_or(0.0, |logit| (logit - largest).exp() / sum))
    }

    /// The language that is spoken in the window, and how sure that is.
    pub(crate) fn detect(
        &mut self,
        request: &Request,
        is_unwanted: &(dyn Fn() -> bool + Sync),
    ) -> Result<(&'static str, f32), Stopped> {
        // `whisper_lang_auto_detect` encodes with the context of whatever was decoded before. So the encoder runs as for a decode, and is
        // stopped there; then the decoder is asked for its first token.
        let watch = Watch {
            is_unwanted: &|| true,
            steps: AtomicU32::new(0),
            most: 0,
        };
        let parameters = self.parameters(request, &watch);
        match self.full(parameters, request.samples, &watch) {
            Ok(()) | Err(Stopped::Unwanted) if !is_unwanted() => {}
            Ok(()) => return Err(Stopped::Unwanted),
            Err(stopped) => return Err(stopped),
        }
        let first = self.model.context.token_sot() as usize + 1;
        let languages = crate::language::all(self.model.header.knows_cantonese());
        // Their tokens follow on the start of a transcript.
        let logits = self.first_logits()?.get(first..).unwrap_or_default();
        let best = languages
            .iter()
            .zip(logits)
            .max_by(|one, other| one.1.total_cmp(other.1));
        let Some((language, largest)) = best else {
            return Err(Stopped::Failed("the model has no languages".into()));
        };
        let sum: f32 = languages
            .iter()
            .zip(logits)
            .map(|(_, logit)| (logit - largest).exp())
            .sum();
        Ok((language, 1.0 / sum))
    }

    fn parameters<'a>(&mut self, request: &Request, watch: &'a Watch) -> FullParams<'a, 'a> {
        let strategy = match request.beam {
            0 | 1 => SamplingStrategy::Greedy { best_of: BEST_OF },
            beam => SamplingStrategy::BeamSearch {
                beam_size: beam as i32,
                patience: -1.0,
            },
        };
        let template = self
            .parameters
            .entry((request.language, request.beam))
            .or_insert_with(|| {
                let mut parameters = FullParams::new(strategy);
                // English is what it begins with.
                if request.language != "en" {
                    parameters.set_language(Some(request.language));
                }
                parameters
            });
        let mut parameters: FullParams<'a, 'a> = template.clone();
        parameters.set_n_threads(self.threads.max(1) as i32);
        parameters.set_translate(request.translate);
        parameters.set_no_context(true);
        parameters.set_single_segment(true);
        parameters.set_no_timestamps(!request.timed);
        parameters.set_suppress_blank(true);
        parameters.set_suppress_nst(true);
        // The library's own probability of no speech is that of a row of logits which it hasn't computed, so it's left out of its
        // decisions (nothing is above 2), and `no_speech` has the right one.
        parameters.set_no_speech_thold(2.0);
        parameters.set_logprob_thold(request.thresholds.log_probability);
        parameters.set_entropy_thold(request.thresholds.entropy);
        parameters.set_print_progress(false);
        parameters.set_print_realtime(false);
        parameters.set_print_special(false);
        parameters.set_print_timestamps(false);
        let most = AUDIO_CONTEXT as usize;
        let positions = if request.full_context {
            most
        } else {
            audio_context(request.samples.len(), most)
        };
        parameters.set_audio_ctx(positions as i32);
        // SAFETY: the function has the signature that the library calls, and doesn't unwind.
        unsafe { parameters.set_abort_callback(Some(should_stop)) };
        // SAFETY: the watch outlives the parameters by their lifetime, and `should_stop` reads it as what it is.
        unsafe { parameters.set_abort_callback_user_data(std::ptr::from_ref(watch).cast_mut().cast()) };
        parameters
    }

    fn full(&mut self, parameters: FullParams, samples: &[i16], watch: &Watch) -> Result<(), Stopped> {
        self.samples.clear();
        self.samples
            .extend(samples.iter().map(|sample| f32::from(*sample) / 32_768.0));
        if self.state.is_none() {
            self.renew().map_err(Stopped::Failed)?;
        }
        let Some(state) = &mut self.state else {
            return Err(Stopped::Failed("there is no state".into()));
        };
        match state.full(parameters, &self.samples) {
            Ok(()) => Ok(()),
            Err(WhisperError::GenericError(STATE_FREED)) => {
                // The library has freed it, so we must not.
                std::mem::forget(self.state.take());
                Err(Stopped::Failed("no memory for more decoders".into()))
            }
            Err(WhisperError::GenericError(ENCODER_STOPPED | PROMPT_STOPPED | DECODER_STOPPED))
                if (watch.is_unwanted)() =>
            {
                Err(Stopped::Unwanted)
            }
            // Stopped for its length: what there is, is doubted.
            Err(WhisperError::GenericError(ENCODER_STOPPED | PROMPT_STOPPED | DECODER_STOPPED))
                if watch.steps.load(Ordering::Relaxed) > watch.most =>
            {
                Ok(())
            }
            Err(error) => Err(Stopped::Failed(format!("the decode failed: {error}"))),
        }
    }

    fn result(&mut self, request: &Request) -> Result<Heard, Stopped> {
        let context = &self.model.context;
        let (end_of_text, first_time) = (context.token_eot(), context.token_beg());
        let mut tokens = Vec::new();
        let mut signs = Signs::default();
        let (mut sum, mut count) = (0.0_f32, 0.0_f32);
        for segment in self.state.iter().flat_map(WhisperState::as_iter) {
            for token in (0..segment.n_tokens()).filter_map(|number| segment.get_token(number)) {
                let data = token.token_data();
                sum += data.plog;
                count += 1.0;
                if data.id >= first_time {
                    tokens.push(Token::Time((data.id - first_time) as u64 * FRAME as u64));
                } else if data.id < end_of_text
                    && let Ok(bytes) = context.token_to_bytes(data.id)
                {
                    signs.tokens.push(data.id);
                    tokens.push(Token::Text {
                        bytes: bytes.to_vec(),
                        probability: data.p,
                    });
                }
            }
        }
        signs.log_probability = sum / count;
        // It takes a step of the decoder, and decides only where the text is unlikely.
        if signs.is_unlikely(request.thresholds) {
            signs.no_speech = self.no_speech()?;
        }
        let words = checks::without_notes(words(&tokens, request.voiced));
        let verdict = checks::verdict(&signs, &words, request.thresholds);
        Ok(Heard {
            words: if verdict == Verdict::Silence { Vec::new() } else { words },
            verdict,
        })
    }
}
