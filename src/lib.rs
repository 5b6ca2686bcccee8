//! Repartee: a voice engine. See `ARCHITECTURE.md` for the floors that these modules stand on.

pub mod access;
pub mod api;
pub mod audio;
pub mod backend;
pub mod call;
pub mod cli;
pub mod config;
pub mod engine;
pub mod id;
pub mod metrics;
pub mod phone;
pub mod pii;
pub mod provider;
pub mod registry;
pub mod session;
pub mod supervisor;
pub mod time;
pub mod transport;
