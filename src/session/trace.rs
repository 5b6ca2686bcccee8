//! stub
use super::{Action, Input};
use crate::call::Settings;
use crate::id::SessionId;
use crate::time::Time;
use std::time::Duration;
/// stub
#[derive(Debug)]
pub struct TraceWriter;
impl TraceWriter {
    /// stub
    pub fn new(_: SessionId, _: &Settings, _: u64, _: Duration) -> (Self, String) {
        (Self, String::new())
    }
    /// stub
    pub fn input(&mut self, _: Time, _: &Input) -> String {
        String::new()
    }
    /// stub
    pub fn action(&mut self, _: &Action) {}
    /// stub
    pub fn finish(&mut self) -> String {
        String::new()
    }
}
