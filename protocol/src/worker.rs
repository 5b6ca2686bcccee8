//! The link between the engine and a worker process.
//!
//! A worker hosts one loaded model of one native library. The link is a byte stream in each direction (a socket pair, a Unix
//! socket or TCP) that carries *frames*, shaped like those of the Wyoming protocol: one line of JSON, the header, then as many
//! payload bytes as its `payload_length` says (none when it is absent):
//!
//! ```text
//! {"type":"audio","stream":7,"payload_length":640}\n<640 bytes>
//! ```
//!
//! so that a worker can be written in any language, and a link can be read with any tool.
//!
//! # The rules of the link
//!
//! 1. The worker speaks first: [`Hello`]. The engine answers with [`Load`]; the worker loads its one model, warms it up with a
//!    real inference, and says [`Ready`] or [`LoadFailed`]. Nothing else is sent to a worker before it is ready, except
//!    [`ToWorker::Ping`] and [`ToWorker::Stop`].
//! 2. Work happens in *streams*: one utterance to be written down, one response to be spoken, one completion. The engine opens a
//!    stream under an id that it has not used before on this link ([`Open`]); any number are open at once, and a worker
//!    batches them where its library can.
//! 3. Each opened stream ends with exactly one of [`ToEngine::Done`] and [`ToEngine::Failed`], after which nothing follows. A
//!    cancelled stream ends with `Done` too, and frames that crossed the cancel are dropped by the engine.
//! 4. *Credit* bounds every stream in both directions. A data frame (`audio`, `text`, `token`) costs its whole length in bytes, header
//!    and payload; everything else is free. The engine may send [`Ready::stream_credit`] bytes of data on a new stream, the worker
//!    [`Open::credit`]; each [`Credit`] adds to what its receiver may send. A data frame may be sent while the credit
//!    that is left is above zero, so one frame may overdraw it: a window need not fit the largest frame. Whoever sends more has its
//!    stream failed with [`code::CREDIT`].
//! 5. Control overtakes data: a worker acts on `cancel`, `ping` and `stop` while it computes.
//! 6. Unknown fields are ignored. An unknown type is answered with [`ToEngine::Error`] (or ignored by the engine) and its payload skipped.
//!    A header that is no JSON object, or a length over the limits, ends the link, because the next frame can't be found.
//! 7. Models are named by catalogue id or by a path relative to the models root, which both sides know each for themselves. A worker
//!    may run on another machine.
//! 8. A worker whose link closes exits. An engine whose link closes fails every open stream at once.

mod frame;
mod load;
mod message;
mod open;

pub use frame::{Decoder, Frame, FrameError, MAX_HEADER, MAX_PAYLOAD, TooLong, encode};
pub use load::{Device, Hello, Job, Load, LoadFailed, ModelInfo, Ready, Voice};
pub use message::{
    Credit, Done, Failed, FinalText, Mark, Marks, MessageError, Partial, Pong, Score, StreamId, Text, ToEngine,
    ToWorker, Token, ToolCall, Usage, VERSION, code,
};
pub use open::{
    Chat, ChatMessage, Function, Grammar, Image, LlmParams, Open, Params, Role, SttParams, Tool, TtsParams, TurnParams,
    VadParams,
};
