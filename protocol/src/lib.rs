//! Bytes and types of every wire that Repartee speaks. Nothing here waits, reads a clock or opens a file.

pub mod ava;
pub mod native;
pub mod rtp;
pub mod worker;
