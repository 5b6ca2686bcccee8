//! x
pub mod rtp;
