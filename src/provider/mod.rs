//! Providers: what implements the traits of [`crate::backend`] with something real.
//!
//! VADs and the turn model run in this process, since they are small and answer at once; language models are asked over
//! HTTP; everything native and heavy runs in a worker process.

pub mod onnx;
pub mod openai;
pub mod parrot;
pub mod silero;
pub mod smart_turn;
pub mod webrtc_vad;
pub mod worker;
