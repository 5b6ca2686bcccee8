//! flite's voices, safely.

use std::ffi::{CStr, CString, c_int};
use std::ptr::NonNull;
use std::sync::Once;

use crate::ffi;
use crate::text::Timed;

/// The smallest piece of audio that flite hands out, in samples: 20 ms at 16 kHz.
const SMALLEST: c_int = 320;

/// A voice that comes with flite.
pub(crate) struct Known {
    /// What it's called here.
    pub(crate) id: &'static str,
    /// One line for people.
    pub(crate) description: &'static str,
    /// The rate of its audio in Hz.
    pub(crate) rate: u32,
    register: ffi::Register,
}

/// The voices of Debian's `flite1-dev`, the default first.
pub(crate) const KNOWN: [Known; 5] = [
    Known {
        id: "rms",
        description: "American, male; the clearest",
        rate: 16_000,
        register: ffi::register_cmu_us_rms,
    },
    Known {
        id: "slt",
        description: "American, female",
        rate: 16_000,
        register: ffi::register_cmu_us_slt,
    },
    Known {
        id: "awb",
        description: "Scottish, male",
        rate: 16_000,
        register: ffi::register_cmu_us_awb,
    },
    Known {
        id: "kal16",
        description: "American, male; small and old",
        rate: 16_000,
        register: ffi::register_cmu_us_kal16,
    },
    Known {
        id: "kal",
        description: "American, male; 8 kHz",
        rate: 8000,
        register: ffi::register_cmu_us_kal,
    },
];

/// A voice of flite's. There's one of each in a process, and it speaks one text at a time.
#[derive(Debug)]
pub(crate) struct Voice {
    raw: NonNull<ffi::Voice>,
    /// Belongs to the voice, which lives as long as the process.
    streaming: NonNull<ffi::StreamingInfo>,
}

// SAFETY: flite's voices have no thread of their own; a `Voice` is only used through `&mut self`, and there's one for each of flite's,
// which the worker makes once.
unsafe impl Send for Voice {}

/// Hears what a voice says.
pub(crate) trait Listener {
    /// When the words of the text will be heard, and how many samples there will be. Called before the first audio.
    fn words(&mut self, words: Vec<Timed>, samples: usize);

    /// A piece of audio. False stops the voice.
    fn audio(&mut self, samples: &[i16]) -> bool;
}

/// What the callback is given: a listener, and whether it has been told the words.
struct Call<'a> {
    listener: &'a mut dyn Listener,
    has_words: bool,
}

impl Voice {
    /// Makes a voice. To be called once for each in a process.
    pub(crate) fn new(known: &Known) -> Option<Self> {
        static INIT: Once = Once::new();
        INIT.call_once(|| {
            // SAFETY: no arguments; called once.
            unsafe { ffi::flite_init() };
        });
        // SAFETY: null stands for the voice's own data, which is linked in. The streaming info is given to the voice, which
        // keeps it for good.
        unsafe {
            let raw = NonNull::new((known.register)(std::ptr::null()))?;
            let streaming = NonNull::new(ffi::new_audio_streaming_info())?;
            (*streaming.as_ptr()).smallest = SMALLEST;
            (*streaming.as_ptr()).on_audio = Some(on_audio);
            (*streaming.as_ptr()).user = std::ptr::null_mut();
            let value = ffi::audio_streaming_info_val(streaming.as_ptr());
            ffi::feat_set((*raw.as_ptr()).features, c"streaming_info".as_ptr(), value);
            Some(Self { raw, streaming })
        }
    }

    /// Speaks a text of printable ASCII with at least one letter or digit, `speed` times as fast as is the voice's own.
    pub(crate) fn speak(&mut self, text: &str, speed: f32, listener: &mut dyn Listener) {
        let Ok(text) = CString::new(text) else { return };
        let mut call = Call {
            listener,
            has_words: false,
        };
        // SAFETY: the voice and its streaming info are valid and used by nobody else; `call` outlives the synthesis, during which alone the
        // callback is called, on this thread. The name is copied by flite or static. The utterance is ours to delete.
        unsafe {
            ffi::feat_set_float((*self.raw.as_ptr()).features, c"duration_stretch".as_ptr(), 1.0 / speed);
            (*self.streaming.as_ptr()).user = (&raw mut call).cast();
            let utterance = ffi::flite_synth_text(text.as_ptr(), self.raw.as_ptr());
            (*self.streaming.as_ptr()).user = std::ptr::null_mut();
            (*self.streaming.as_ptr()).utterance = std::ptr::null();
            if !utterance.is_null() {
                ffi::delete_utterance(utterance);
            }
        }
    }
}

/// flite's audio callback.
unsafe extern "C" fn on_audio(
    wave: *const ffi::Wave,
    start: c_int,
    size: c_int,
    _last: c_int,
    info: *mut ffi::StreamingInfo,
) -> c_int {
    const STOP: c_int = -1;
    // SAFETY: flite calls this with its wave and the info that `Voice::speak` has just put a `Call` into.
    let (call, wave, utterance) = unsafe {
        let Some(call) = (*info).user.cast::<Call<'_>>().as_mut() else {
            return STOP;
        };
        let Some(wave) = wave.as_ref() else { return STOP };
        (call, wave, (*info).utterance)
    };
    if !call.has_words {
        call.has_words = true;
        let words = if utterance.is_null() {
            Vec::new()
        } else {
            // SAFETY: flite has set the utterance that it speaks, and has planned it.
            unsafe { timed_words(utterance) }
        };
        call.listener.words(words, usize::try_from(wave.samples).unwrap_or(0));
    }
    let (Ok(start), Ok(size), Ok(all)) = (
        usize::try_from(start),
        usize::try_from(size),
        usize::try_from(wave.samples),
    ) else {
        return STOP;
    };
    if size == 0 || start.saturating_add(size) > all {
        return 0;
    }
    // SAFETY: the wave has `all` samples, of which these are made.
    let samples = unsafe { std::slice::from_raw_parts(wave.data.add(start), size) };
    if call.listener.audio(samples) { 0 } else { STOP }
}

/// The tokens of an utterance that are spoken, with the times of their first and last segment.
///
/// # Safety
/// `utterance` is one that flite has planned.
unsafe fn timed_words(utterance: *const ffi::Utterance) -> Vec<Timed> {
    let mut words = Vec::new();
    // SAFETY: relations, items and feature strings belong to the utterance; all functions take null items.
    unsafe {
        if ffi::utt_relation_present(utterance, c"Token".as_ptr()) == 0 {
            return words;
        }
        let mut token = ffi::relation_head(ffi::utt_relation(utterance, c"Token".as_ptr()));
        while !token.is_null() {
            let (first, last) = (ffi::item_daughter(token), ffi::item_last_daughter(token));
            if !first.is_null() && !last.is_null() && ffi::item_feat_present(token, c"name".as_ptr()) != 0 {
                let name = ffi::item_feat_string(token, c"name".as_ptr());
                let start = c"R:SylStructure.daughter1.daughter1.R:Segment.p.end";
                let end = c"R:SylStructure.daughtern.daughtern.R:Segment.end";
                words.push(Timed {
                    token: CStr::from_ptr(name).to_string_lossy().into_owned(),
                    start: ffi::flite_ffeature_float(first, start.as_ptr()),
                    end: ffi::flite_ffeature_float(last, end.as_ptr()),
                });
            }
            token = ffi::item_next(token);
        }
    }
    words
}
