//! Providers: what implements the traits of [`crate::backend`] with something real.
//!
//! VADs run in this process, since they answer within a frame; language models are asked over HTTP; everything native
//! and heavy runs in a worker process.

pub mod onnx;
pub mod openai;
pub mod parrot;
pub mod silero;
pub mod webrtc_vad;
pub mod worker;
