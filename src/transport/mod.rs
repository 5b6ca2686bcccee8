//! Wires: one room each. They know the call and its vocabulary, never each other, the core or a backend.

pub mod ava;
pub mod native;
