//! Frames: one line of JSON and a payload, found in a stream of bytes.

use std::borrow::Cow;

use bytes::{Buf, Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::message::{MessageError, ToEngine, ToWorker};

/// The longest header line in bytes, without its newline. The largest honest header is a clause of text with its attributes.
pub const MAX_HEADER: usize = 64 * 1024;

/// The longest payload in bytes: 32 s of 16 kHz PCM, or a long chat history.
pub const MAX_PAYLOAD: usize = 1024 * 1024;

/// The one part of a header that is needed to find the next frame.
#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(default)]
    stream: Option<u64>,
    #[serde(default)]
    payload_length: u64,
}

/// One frame as it was received: the header is known to be a JSON object with a `type`; what it says is parsed by
/// [`Frame::to_engine`] or [`Frame::to_worker`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The header line without its newline.
    pub header: Bytes,
    /// The payload; empty where the header announces none.
    pub payload: Bytes,
    kind: Cow<'static, str>,
    stream: Option<u64>,
}

impl Frame {
    /// The `type` of the message, known or not.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// The `stream` that the message is about, if it names one.
    pub fn stream(&self) -> Option<u64> {
        self.stream
    }

    /// What the frame costs of its stream's credit, in bytes: the header line with its newline, and the payload.
    pub fn cost(&self) -> u64 {
        (self.header.len() + 1 + self.payload.len()) as u64
    }

    /// Parses the header as a message from a worker to the engine.
    ///
    /// # Errors
    /// [`MessageError`] where the type is unknown or a field is missing or wrong. The frame after this one isn't affected.
    pub fn to_engine(&self) -> Result<ToEngine, MessageError> {
        // The frame of every 20 ms of speech has a header that is all in the envelope: there's no need to parse it twice.
        if let (b"audio", Some(stream)) = (self.kind.as_bytes(), self.stream) {
            return Ok(ToEngine::Audio { stream: stream.into() });
        }
        serde_json::from_slice(&self.header).map_err(|error| MessageError::new(self, &error, ToEngine::TYPES))
    }

    /// Parses the header as a message from the engine to a worker.
    ///
    /// # Errors
    /// [`MessageError`] where the type is unknown or a field is missing or wrong. The frame after this one isn't affected.
    pub fn to_worker(&self) -> Result<ToWorker, MessageError> {
        if let (b"audio", Some(stream)) = (self.kind.as_bytes(), self.stream) {
            return Ok(ToWorker::Audio { stream: stream.into() });
        }
        serde_json::from_slice(&self.header).map_err(|error| MessageError::new(self, &error, ToWorker::TYPES))
    }
}

/// The bytes are no frames. What follows on the link can't be understood, so the link has to be closed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum FrameError {
    /// No newline within [`MAX_HEADER`] bytes.
    #[error("a header of more than {MAX_HEADER} bytes")]
    HeaderTooLong,
    /// The header announces more than [`MAX_PAYLOAD`] bytes.
    #[error("a payload of {0} bytes, more than {MAX_PAYLOAD}")]
    PayloadTooLong(u64),
    /// The header isn't a JSON object with a string `type` (and, where they are there, a number `stream` and `payload_length`).
    #[error("the header isn't a JSON object with a type: {0}")]
    Header(String),
}

/// Finds frames in a stream of bytes. It never holds more than one frame of the greatest size and what the caller pushed beyond it.
///
/// Push bytes as they arrive, then call [`Decoder::next_frame`] until it has none.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: BytesMut,
    /// How much of `buffer` is known to hold no newline, so that a slow header isn't searched again from its start.
    searched: usize,
    /// A header that waits for its payload.
    header: Option<(Frame, usize)>,
    failed: Option<FrameError>,
}

impl Decoder {
    /// A decoder that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes bytes as they came from the link.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.failed.is_none() {
            self.buffer.extend_from_slice(bytes);
        }
    }

    /// The next whole frame, or `None` until more bytes are pushed.
    ///
    /// # Errors
    /// [`FrameError`], the same at every later call: the link can't be understood any more.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        match self.advance() {
            Ok(frame) => Ok(frame),
            Err(error) => {
                self.failed = Some(error.clone());
                self.buffer = BytesMut::new();
                Err(error)
            }
        }
    }

    fn advance(&mut self) -> Result<Option<Frame>, FrameError> {
        if self.header.is_none() {
            let end = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n');
            let Some(end) = end.map(|position| position + self.searched) else {
                self.searched = self.buffer.len();
                if self.searched > MAX_HEADER {
                    return Err(FrameError::HeaderTooLong);
                }
                return Ok(None);
            };
            if end > MAX_HEADER {
                return Err(FrameError::HeaderTooLong);
            }
            self.searched = 0;
            let header = self.buffer.split_to(end).freeze();
            self.buffer.advance(1);
            let envelope: Envelope<'_> =
                serde_json::from_slice(&header).map_err(|error| FrameError::Header(error.to_string()))?;
            let length = match usize::try_from(envelope.payload_length) {
                Ok(length) if length <= MAX_PAYLOAD => length,
                _ => return Err(FrameError::PayloadTooLong(envelope.payload_length)),
            };
            // The types that anybody knows are not copied for each frame.
            let known = ToEngine::TYPES
                .iter()
                .chain(ToWorker::TYPES)
                .find(|known| **known == envelope.kind);
            let kind = known.map_or_else(|| Cow::Owned(envelope.kind.into_owned()), |known| Cow::Borrowed(*known));
            let stream = envelope.stream;
            self.header = Some((
                Frame {
                    header,
                    payload: Bytes::new(),
                    kind,
                    stream,
                },
                length,
            ));
        }
        let Some((mut frame, length)) = self.header.take() else {
            return Ok(None);
        };
        if self.buffer.len() < length {
            self.header = Some((frame, length));
            return Ok(None);
        }
        frame.payload = self.buffer.split_to(length).freeze();
        Ok(Some(frame))
    }
}

/// A message can't be sent, because it is longer than the link allows. Nothing was written.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum TooLong {
    /// The header, more than [`MAX_HEADER`].
    #[error("a header of {0} bytes, more than {MAX_HEADER}")]
    Header(usize),
    /// The payload, more than [`MAX_PAYLOAD`].
    #[error("a payload of {0} bytes, more than {MAX_PAYLOAD}")]
    Payload(usize),
}

/// Appends one frame to `out`: the message as the header, then `payload`. Returns the frame's length in bytes, which is its cost.
///
/// # Errors
/// [`TooLong`], and `out` is as it was. Messages without text of any length never are.
pub fn encode<M: Serialize>(message: &M, payload: &[u8], out: &mut Vec<u8>) -> Result<usize, TooLong> {
    if payload.len() > MAX_PAYLOAD {
        return Err(TooLong::Payload(payload.len()));
    }
    let start = out.len();
    serde_json::to_writer(&mut *out, message)
        .expect("messages are plain data, which JSON can hold, and a Vec takes all");
    if !payload.is_empty() {
        debug_assert_eq!(out.last(), Some(&b'}'), "every message is a JSON object");
        out.pop();
        out.extend_from_slice(b",\"payload_length\":");
        let mut digits = [0_u8; 20];
        out.extend_from_slice(decimal(payload.len(), &mut digits));
        out.push(b'}');
    }
    let header = out.len() - start;
    if header > MAX_HEADER {
        out.truncate(start);
        return Err(TooLong::Header(header));
    }
    out.push(b'\n');
    out.extend_from_slice(payload);
    Ok(out.len() - start)
}

/// Writes a number in decimal without the formatting machinery, which would cost as much as the rest of the header.
fn decimal(mut number: usize, digits: &mut [u8; 20]) -> &[u8] {
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return &digits[start..];
        }
    }
}
