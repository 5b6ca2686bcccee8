//! Repartee: a voice engine. See `ARCHITECTURE.md` for the floors that these modules stand on.

pub mod audio;
pub mod backend;
pub mod call;
pub mod id;
pub mod pii;
pub mod provider;
pub mod session;
pub mod time;
