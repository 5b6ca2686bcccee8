//! Wires: one room each. They know the call and its vocabulary, never each other, the core or a backend.

pub mod ari;
pub mod audiosocket;
pub mod ava;
pub mod chan_websocket;
pub mod native;
pub mod rtp;
pub mod twilio;
pub mod vosk;
