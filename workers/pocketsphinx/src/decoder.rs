//! A decoder of libpocketsphinx, safely.

use std::ffi::{CStr, CString, c_int};
use std::ptr::NonNull;
use std::sync::{Mutex, PoisonError};

use crate::{ffi, log};

/// One decoder: some 91 MiB, one utterance at a time.
#[derive(Debug)]
pub(crate) struct Decoder {
    raw: NonNull<ffi::PsDecoder>,
    /// The mean of the cepstra that the model comes with.
    mean: Vec<f32>,
    in_utterance: bool,
}

// SAFETY: a decoder has no thread of its own and no thread-local state; it's only used through `&mut self`.
unsafe impl Send for Decoder {}

/// Cepstra have 13 coefficients; a much larger number means that the library isn't the one that was declared.
const MOST_COEFFICIENTS: i32 = 64;

/// How many frames (of 10 ms) the model's own mean counts for against those of an utterance's beginning.
const MODEL_WEIGHT: f32 = 30.0;

/// How many frames the first mean counts for against those that follow.
const FIRST_WEIGHT: i32 = 100;

impl Decoder {
    /// Loads a decoder with the library's own command-line options, such as `-hmm DIR`.
    ///
    /// # Errors
    /// What the library says about it.
    pub(crate) fn new(options: &[String]) -> Result<Self, String> {
        // The library has one log for all decoders.
        static LOADING: Mutex<()> = Mutex::new(());
        let _loading = LOADING.lock().unwrap_or_else(PoisonError::into_inner);
        log::keep();
        let decoder = Self::load(options);
        let said = log::errors();
        decoder.map_err(|problem| {
            if said.is_empty() {
                problem.to_owned()
            } else {
                format!("{problem}: {said}")
            }
        })
    }

    fn load(options: &[String]) -> Result<Self, &'static str> {
        // As in `main`, the first argument is a program's name.
        let strings = std::iter::once("pocketsphinx").chain(options.iter().map(String::as_str));
        let strings: Vec<CString> = strings
            .map(CString::new)
            .collect::<Result<_, _>>()
            .map_err(|_| "an option holds a zero byte")?;
        let mut pointers: Vec<_> = strings.iter().map(|string| string.as_ptr().cast_mut()).collect();
        let count = i32::try_from(pointers.len()).map_err(|_| "too many options")?;
        // SAFETY: the definitions are a static table; the strings outlive the call, which copies them and doesn't write to them.
        let config =
            unsafe { ffi::cmd_ln_parse_r(std::ptr::null_mut(), ffi::ps_args(), count, pointers.as_mut_ptr(), 1) };
        if config.is_null() {
            return Err("libpocketsphinx refuses its options");
        }
        // SAFETY: `config` is valid; the decoder takes its own reference, so ours is given back either way.
        let raw = unsafe {
            let raw = ffi::ps_init(config);
            ffi::cmd_ln_free_r(config);
            raw
        };
        let raw = NonNull::new(raw).ok_or("libpocketsphinx can't load the model")?;
        let mut decoder = Self {
            raw,
            mean: Vec::new(),
            in_utterance: false,
        };
        if let Some(cmn) = decoder.cmn() {
            // SAFETY: `cmn` is the decoder's and has `length` coefficients, which are copied.
            unsafe {
                decoder.mean = vec![0.0; (*cmn.as_ptr()).length as usize];
                ffi::cmn_live_get(cmn.as_ptr(), decoder.mean.as_mut_ptr());
            }
        }
        Ok(decoder)
    }

    /// The decoder's normaliser, if it has one of a plausible size.
    fn cmn(&self) -> Option<NonNull<ffi::Cmn>> {
        // SAFETY: the decoder is valid; its feature computer lives as long as it does, and so does the normaliser in it.
        unsafe {
            let feat = NonNull::new(ffi::ps_get_feat(self.raw.as_ptr()))?;
            let cmn = NonNull::new((*feat.as_ptr()).cmn)?;
            ((1..=MOST_COEFFICIENTS).contains(&(*cmn.as_ptr()).length)).then_some(cmn)
        }
    }

    /// Begins an utterance. Nothing is left of the ones before: not their words, noise level or channel, which were another
    /// speaker's. So the same audio always gives the same transcript.
    ///
    /// `beginning` is how it begins (it isn't decoded yet): the recogniser hears cepstra relative to their mean, which is the channel's and
    /// the speaker's, and the library itself would learn it only after eight seconds.
    ///
    /// # Errors
    /// When the library refuses.
    pub(crate) fn start(&mut self, beginning: &[i16]) -> Result<(), String> {
        self.end();
        // SAFETY: the decoder is valid and in no utterance. This forgets the noise level.
        check(unsafe { ffi::ps_start_stream(self.raw.as_ptr()) }, "begin a stream")?;
        let mean = self.estimate(beginning);
        if let Some(cmn) = self.cmn()
            && !mean.is_empty()
        {
            // SAFETY: `mean` has as many coefficients as the normaliser, from which the model's was read. The library's own weight
            // of the first mean is eight seconds; with ours it follows the speaker sooner.
            unsafe {
                ffi::cmn_live_set(cmn.as_ptr(), mean.as_ptr());
                let sums = std::slice::from_raw_parts_mut((*cmn.as_ptr()).sum, mean.len());
                for (sum, mean) in sums.iter_mut().zip(&mean) {
                    *sum = mean * FIRST_WEIGHT as f32;
                }
                (*cmn.as_ptr()).frames = FIRST_WEIGHT;
            }
        }
        // SAFETY: the decoder is valid and in no utterance. The front end measured the beginning, and forgets it.
        let status = unsafe {
            ffi::ps_start_stream(self.raw.as_ptr());
            ffi::ps_start_utt(self.raw.as_ptr())
        };
        self.in_utterance = status >= 0;
        check(status, "begin an utterance")
    }

    /// The mean of the cepstra: the model's own, moved towards that of `beginning`.
    fn estimate(&mut self, beginning: &[i16]) -> Vec<f32> {
        let mut sums: Vec<f32> = self.mean.iter().map(|mean| mean * MODEL_WEIGHT).collect();
        let mut weight = MODEL_WEIGHT;
        let mut cepstra = std::ptr::null_mut();
        let mut frames = 0;
        if !beginning.is_empty() && !sums.is_empty() {
            // SAFETY: the decoder and its front end are valid and in no utterance; the samples are only read. On success `cepstra` is a
            // table of `frames` rows of as many coefficients as the normaliser has, which is ours to free.
            unsafe {
                let front_end = ffi::ps_get_fe(self.raw.as_ptr());
                if ffi::fe_start_utt(front_end) >= 0
                    && ffi::fe_process_utt(
                        front_end,
                        beginning.as_ptr(),
                        beginning.len(),
                        &mut cepstra,
                        &mut frames,
                    ) >= 0
                    && !cepstra.is_null()
                {
                    for frame in 0..usize::try_from(frames).unwrap_or(0) {
                        let row = std::slice::from_raw_parts(*cepstra.add(frame), sums.len());
                        sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
                        weight += 1.0;
                    }
                    ffi::fe_free_2d(cepstra.cast());
                }
            }
        }
        sums.iter().map(|sum| sum / weight).collect()
    }

    /// Lets the mean of the cepstra follow what was heard since the utterance began.
    pub(crate) fn adapt(&mut self) {
        if let Some(cmn) = self.cmn()
            && self.in_utterance
        {
            // SAFETY: the normaliser is the decoder's.
            unsafe { ffi::cmn_live_update(cmn.as_ptr()) };
        }
    }

    /// Decodes audio: 16 kHz, mono.
    ///
    /// # Errors
    /// When the library refuses.
    pub(crate) fn process(&mut self, samples: &[i16]) -> Result<(), String> {
        if !self.in_utterance || samples.is_empty() {
            return Ok(());
        }
        // SAFETY: the decoder is valid and in an utterance; the samples are only read, during the call.
        let status = unsafe { ffi::ps_process_raw(self.raw.as_ptr(), samples.as_ptr(), samples.len(), 0, 0) };
        check(status, "decode audio")
    }

    /// The words so far, or of the whole utterance after [`Decoder::finish`].
    pub(crate) fn hypothesis(&mut self) -> String {
        // SAFETY: the decoder is valid; the text belongs to it until the next call and is copied here.
        let text = unsafe {
            let text = ffi::ps_get_hyp(self.raw.as_ptr(), std::ptr::null_mut());
            if text.is_null() {
                return String::new();
            }
            CStr::from_ptr(text).to_string_lossy()
        };
        only_words(&text)
    }

    /// Ends the utterance with the library's later passes.
    ///
    /// # Errors
    /// When the library refuses.
    pub(crate) fn finish(&mut self) -> Result<(), String> {
        if !self.in_utterance {
            return Ok(());
        }
        self.in_utterance = false;
        // SAFETY: the decoder is valid and in an utterance.
        check(unsafe { ffi::ps_end_utt(self.raw.as_ptr()) }, "end the utterance")
    }

    /// Ends an utterance of which nothing is wanted.
    pub(crate) fn end(&mut self) {
        // Where it can't be ended, the next start fails and says so.
        let _ = self.finish();
    }
}

impl Drop for Decoder {
    fn drop(&mut self) {
        self.end();
        // SAFETY: the decoder is valid and isn't used afterwards.
        unsafe { ffi::ps_free(self.raw.as_ptr()) };
    }
}

fn check(status: c_int, what: &str) -> Result<(), String> {
    if status < 0 {
        Err(format!("libpocketsphinx can't {what}"))
    } else {
        Ok(())
    }
}

/// Without fillers (`<sil>`, `[NOISE]`, `++UM++`) and marks of another pronunciation (`the(2)`).
fn only_words(hypothesis: &str) -> String {
    let words = hypothesis
        .split_ascii_whitespace()
        .filter(|word| !word.starts_with(['<', '[', '+']));
    words
        .map(|word| word.split_once('(').map_or(word, |(word, _)| word))
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fillers_are_no_words() {
        assert_eq!(only_words("<s> the(2) quick [NOISE] fox ++UM++ </s>"), "the quick fox");
        assert_eq!(only_words(""), "");
    }

    #[test]
    fn a_load_that_fails_says_what_the_library_says() {
        let options = ["-hmm", "/no/such/folder"].map(str::to_owned);
        let problem = Decoder::new(&options).expect_err("there's no such model");
        assert!(problem.contains("/no/such/folder"), "{problem}");
        assert!(Decoder::new(&["-nonsense".to_owned(), "1".to_owned()]).is_err());
    }
}
