//! AVA's wire, as AVA's own clients use it: against the real engine with scripted backends.

mod calls;
mod defects;
mod house;
mod server;
#[path = "../support/mod.rs"]
mod support;
