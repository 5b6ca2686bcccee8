//! Bytes and types of every wire that Repartee speaks. Nothing here waits, reads a clock or opens a file.

pub mod ari;
pub mod audiosocket;
pub mod ava;
pub mod chan_websocket;
pub mod native;
pub mod rtp;
pub mod twilio;
mod variables;
pub mod vosk;
pub mod worker;
