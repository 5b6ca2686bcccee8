//! Bytes and types of every wire that Repartee speaks. Nothing here waits, reads a clock or opens a file.
#![forbid(unsafe_code)]

pub mod native;
