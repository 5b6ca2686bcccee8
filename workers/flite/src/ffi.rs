//! The part of flite 2.2 that is used, declared by hand from `flite.h`, `cst_audio.h`, `cst_voice.h`, `cst_wave.h` and `cst_item.h`.

use std::ffi::{c_char, c_float, c_int, c_void};

macro_rules! opaque {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {
        $(
            $(#[$doc])*
            #[repr(C)]
            pub(crate) struct $name {
                _opaque: [u8; 0],
            }
        )+
    };
}

opaque!(
    /// `cst_features`.
    Features,
    /// `cst_utterance`.
    Utterance,
    /// `cst_relation`.
    Relation,
    /// `cst_item`.
    Item,
    /// `cst_val`.
    Value,
);

/// The head of `cst_voice`.
#[repr(C)]
pub(crate) struct Voice {
    pub(crate) name: *const c_char,
    pub(crate) features: *mut Features,
}

/// `cst_wave`.
#[repr(C)]
pub(crate) struct Wave {
    kind: *const c_char,
    pub(crate) rate: c_int,
    pub(crate) samples: c_int,
    channels: c_int,
    pub(crate) data: *const i16,
}

/// Called with each new piece of a wave; anything but 0 stops the synthesis.
pub(crate) type OnAudio =
    unsafe extern "C" fn(wave: *const Wave, start: c_int, size: c_int, last: c_int, info: *mut StreamingInfo) -> c_int;

/// `cst_audio_streaming_info`.
#[repr(C)]
pub(crate) struct StreamingInfo {
    pub(crate) smallest: c_int,
    pub(crate) on_audio: Option<OnAudio>,
    pub(crate) utterance: *const Utterance,
    item: *const Item,
    pub(crate) user: *mut c_void,
}

/// A function that makes a voice, or gives the one that it made before.
pub(crate) type Register = unsafe extern "C" fn(folder: *const c_char) -> *mut Voice;

unsafe extern "C" {
    pub(crate) fn flite_init() -> c_int;
    pub(crate) fn register_cmu_us_rms(folder: *const c_char) -> *mut Voice;
    pub(crate) fn register_cmu_us_slt(folder: *const c_char) -> *mut Voice;
    pub(crate) fn register_cmu_us_awb(folder: *const c_char) -> *mut Voice;
    pub(crate) fn register_cmu_us_kal16(folder: *const c_char) -> *mut Voice;
    pub(crate) fn register_cmu_us_kal(folder: *const c_char) -> *mut Voice;

    pub(crate) fn flite_synth_text(text: *const c_char, voice: *mut Voice) -> *mut Utterance;
    pub(crate) fn delete_utterance(utterance: *mut Utterance);

    pub(crate) fn new_audio_streaming_info() -> *mut StreamingInfo;
    pub(crate) fn audio_streaming_info_val(info: *mut StreamingInfo) -> *mut Value;
    pub(crate) fn feat_set(features: *mut Features, name: *const c_char, value: *const Value);
    pub(crate) fn feat_set_float(features: *mut Features, name: *const c_char, value: c_float);

    pub(crate) fn utt_relation(utterance: *const Utterance, name: *const c_char) -> *mut Relation;
    pub(crate) fn utt_relation_present(utterance: *const Utterance, name: *const c_char) -> c_int;
    pub(crate) fn relation_head(relation: *mut Relation) -> *mut Item;
    pub(crate) fn item_next(item: *const Item) -> *mut Item;
    pub(crate) fn item_daughter(item: *const Item) -> *mut Item;
    pub(crate) fn item_last_daughter(item: *const Item) -> *mut Item;
    pub(crate) fn item_feat_present(item: *const Item, name: *const c_char) -> c_int;
    pub(crate) fn item_feat_string(item: *const Item, name: *const c_char) -> *const c_char;
    pub(crate) fn flite_ffeature_float(item: *const Item, path: *const c_char) -> c_float;
}
