//! Everything that touches samples: formats, codecs, resampling, and the two clocks of a stream.
//!
//! All of it is sans-IO. The [`JitterBuffer`] and the [`Pacer`] are told the
//! time and never ask for it; codecs and the [`Resampler`] append to buffers that the caller
//! owns, so nothing is allocated for a frame once those buffers have grown to their working size
//! (`tests/audio_no_alloc.rs` proves it).
//!
//! Audio inside the engine is mono, signed 16-bit, in machine order (`i16`). Byte order exists only on wires.

pub mod arrival;
pub mod codec;
pub mod comfort;
mod concealment;
mod drift;
pub mod echo;
pub mod frame;
pub mod g711;
pub mod g722;
pub mod inbound;
pub mod jitter;
pub mod opus;
pub mod outbound;
pub mod pacer;
pub mod quality;
pub mod resample;
pub mod rtp_receiver;
pub mod tones;

pub use arrival::{Arrival, ArrivalClock, ArrivalStats};
pub use codec::{ByteOrder, Codec, CodecError, Decoder, Encoder};
pub use comfort::ComfortNoise;
pub use echo::{EchoGuard, Verdict};
pub use frame::{FrameFifo, SampleRate, UnsupportedRate};
pub use inbound::{Heard, Inbound, InboundStats, MediaError, SetupError};
pub use jitter::{Discipline, JitterBuffer, JitterConfig, JitterPacket, JitterStats, PacketKind, Pull, Pushed};
pub use outbound::{Framing, MediaFormat, Outbound, RtpStart};
pub use pacer::{CatchUp, Pacer, Tick};
pub use quality::StreamQuality;
pub use resample::{Resampler, ResamplerError};
pub use rtp_receiver::{DatagramError, PeerView, RtpFormat, RtpFormats, RtpReceiver, SentCount, asterisk_answer};
pub use tones::{CallProgress, Patience, Signal};
