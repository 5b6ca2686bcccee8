//! The few functions of libpocketsphinx and libsphinxbase (0.8+5prealpha, soname 3) that are used, declared by hand from
//! `pocketsphinx.h`, `sphinxbase/{cmd_ln,err,fe,feat,cmn}.h`, and four of C's own for its log.

use std::ffi::{c_char, c_int, c_void};

/// `ps_decoder_t`, opaque.
#[repr(C)]
pub(crate) struct PsDecoder {
    _opaque: [u8; 0],
}

/// `cmd_ln_t`, opaque.
#[repr(C)]
pub(crate) struct CmdLn {
    _opaque: [u8; 0],
}

/// `arg_t`, a table of which only the address is used.
#[repr(C)]
pub(crate) struct Arg {
    _opaque: [u8; 0],
}

/// `fe_t`, the front end that makes cepstra of samples; opaque.
#[repr(C)]
pub(crate) struct FrontEnd {
    _opaque: [u8; 0],
}

/// C's `FILE`.
#[repr(C)]
pub(crate) struct File {
    _opaque: [u8; 0],
}

/// `cmn_t`: the running mean of the cepstra.
#[repr(C)]
pub(crate) struct Cmn {
    pub(crate) mean: *mut f32,
    pub(crate) variance: *mut f32,
    pub(crate) sum: *mut f32,
    pub(crate) frames: i32,
    pub(crate) length: i32,
}

/// The head of `feat_t`, up to the member that is used.
#[repr(C)]
pub(crate) struct Feat {
    refcount: c_int,
    name: *mut c_char,
    cepstrum_size: i32,
    streams: i32,
    stream_lengths: *mut u32,
    window_size: i32,
    subvectors: i32,
    subvector_lengths: *mut u32,
    subvector_specification: *mut *mut i32,
    subvector_buffer: *mut f32,
    subvector_dimension: i32,
    cmn_kind: c_int,
    variance_normalisation: i32,
    agc_kind: c_int,
    compute: *mut c_void,
    pub(crate) cmn: *mut Cmn,
}

unsafe extern "C" {
    pub(crate) fn ps_args() -> *const Arg;
    pub(crate) fn ps_init(config: *mut CmdLn) -> *mut PsDecoder;
    pub(crate) fn ps_free(decoder: *mut PsDecoder) -> c_int;
    pub(crate) fn ps_get_feat(decoder: *mut PsDecoder) -> *mut Feat;
    pub(crate) fn ps_get_fe(decoder: *mut PsDecoder) -> *mut FrontEnd;
    pub(crate) fn ps_start_stream(decoder: *mut PsDecoder) -> c_int;
    pub(crate) fn ps_start_utt(decoder: *mut PsDecoder) -> c_int;
    pub(crate) fn ps_process_raw(
        decoder: *mut PsDecoder,
        samples: *const i16,
        count: usize,
        no_search: c_int,
        whole_utterance: c_int,
    ) -> c_int;
    pub(crate) fn ps_end_utt(decoder: *mut PsDecoder) -> c_int;
    pub(crate) fn ps_get_hyp(decoder: *mut PsDecoder, best_score: *mut i32) -> *const c_char;

    pub(crate) fn cmd_ln_parse_r(
        into: *mut CmdLn,
        definition: *const Arg,
        count: i32,
        arguments: *mut *mut c_char,
        strict: i32,
    ) -> *mut CmdLn;
    pub(crate) fn cmd_ln_free_r(config: *mut CmdLn) -> c_int;

    pub(crate) fn cmn_live_get(cmn: *mut Cmn, mean: *mut f32);
    pub(crate) fn cmn_live_set(cmn: *mut Cmn, mean: *const f32);

    pub(crate) fn cmn_live_update(cmn: *mut Cmn);

    pub(crate) fn fe_start_utt(front_end: *mut FrontEnd) -> c_int;
    pub(crate) fn fe_process_utt(
        front_end: *mut FrontEnd,
        samples: *const i16,
        count: usize,
        cepstra: *mut *mut *mut f32,
        frames: *mut i32,
    ) -> c_int;
    pub(crate) fn fe_free_2d(cepstra: *mut c_void);

    pub(crate) fn err_set_logfp(stream: *mut File);

    pub(crate) fn tmpfile() -> *mut File;
    pub(crate) fn fclose(stream: *mut File) -> c_int;
    pub(crate) fn rewind(stream: *mut File);
    pub(crate) fn fread(into: *mut c_void, size: usize, count: usize, stream: *mut File) -> usize;
    pub(crate) fn atexit(function: extern "C" fn()) -> c_int;
}
