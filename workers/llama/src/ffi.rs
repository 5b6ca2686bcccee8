//! The functions of `chat.cpp`, declared by hand, and one of C's.

use std::ffi::{c_char, c_int, c_void};

unsafe extern "C" {
    pub(crate) fn repartee_chat_silence();
    pub(crate) fn repartee_chat_template(
        source: *const c_char,
        bos: *const c_char,
        eos: *const c_char,
        jinja: bool,
        out: *mut *mut c_char,
    ) -> *mut c_void;
    pub(crate) fn repartee_chat_template_free(templates: *mut c_void);
    pub(crate) fn repartee_chat_apply(templates: *const c_void, request: *const c_char, out: *mut *mut c_char) -> bool;
    pub(crate) fn repartee_chat_parser(
        format: c_int,
        parser: *const c_char,
        generation_prompt: *const c_char,
        out: *mut *mut c_char,
    ) -> *mut c_void;
    pub(crate) fn repartee_chat_parser_free(parser: *mut c_void);
    pub(crate) fn repartee_chat_parse(
        parser: *const c_void,
        text: *const c_char,
        length: usize,
        partial: bool,
        out: *mut *mut c_char,
    ) -> bool;
    pub(crate) fn repartee_chat_schema(schema: *const c_char, out: *mut *mut c_char) -> bool;
    pub(crate) fn repartee_chat_text_free(text: *mut c_char);

    /// C's own: ends the process at once, without what was registered for its end.
    pub(crate) safe fn _exit(status: c_int) -> !;
}
