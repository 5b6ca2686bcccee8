//! AudioSocket: what Asterisk speaks over a TCP connection for each call (`res_audiosocket.c`; versions 18 and later).
//!
//! A frame is a type byte, the payload's length (16 bits, big-endian) and the payload. The first one of a call is its
//! UUID; then comes audio, signed 16 bits, little-endian, mono, in the rate that **each frame's own type byte** names.
//! There are no sequence numbers and no timestamps: when a frame arrived is the only clock.
//!
//! What Asterisk takes from us: audio frames and [`HANGUP`], nothing else. Any other type, a frame without payload, or
//! a payload that comes later than its header drops the call, so each frame leaves in one write.
//! Asterisk itself never sends a hang-up: it closes the connection.
//!
//! Bytes from outside are hostile: the parser holds one frame at most, and what it has no use for it doesn't hold.

mod mislabel;

pub use mislabel::Mislabel;

use std::fmt;

use thiserror::Error;

/// Bytes before a payload.
pub const HEADER_BYTES: usize = 3;
/// The bytes of the longest frame: a header, and as much payload as 16 bits can say.
pub const MAX_FRAME_BYTES: usize = HEADER_BYTES + u16::MAX as usize;
/// The longest frame of audio that Asterisk plays, in samples. It drops longer ones whole ("Out of buffer space",
/// `translate.c`). What it plays well is 20 ms each 20 ms: [`Rate::frame_samples`].
pub const MAX_SAMPLES: usize = 8096;
/// The frame that ends our side of the call. `AudioSocket()` goes on in the dialplan; a channel made by `Dial` or ARI
/// hangs up.
pub const HANGUP: [u8; HEADER_BYTES] = [kind::HANGUP, 0, 0];

/// Type bytes.
pub mod kind {
    /// The end of the call; no payload.
    pub const HANGUP: u8 = 0x00;
    /// The call's UUID, 16 bytes.
    pub const UUID: u8 = 0x01;
    /// A digit that was pressed, one ASCII byte. Sent when it ends; Asterisk 22.4, 21.9, 20.14 and later.
    pub const DIGIT: u8 = 0x03;
    /// Audio at 8 kHz, the first of the nine types of audio ([`super::Rate`]).
    pub const AUDIO_8K: u8 = 0x10;
    /// Audio at 192 kHz, the last.
    pub const AUDIO_192K: u8 = 0x18;
    /// An error, with an optional code.
    pub const ERROR: u8 = 0xFF;
}

/// A rate that a type byte can name. Others than 8 kHz exist from Asterisk 22.7, 20.17 and 23.1 on; older versions
/// drop the call, so the rate to answer in is the one that the call is spoken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rate {
    /// 8 kHz.
    Hz8000,
    /// 12 kHz.
    Hz12000,
    /// 16 kHz.
    Hz16000,
    /// 24 kHz.
    Hz24000,
    /// 32 kHz.
    Hz32000,
    /// 44.1 kHz.
    Hz44100,
    /// 48 kHz.
    Hz48000,
    /// 96 kHz.
    Hz96000,
    /// 192 kHz.
    Hz192000,
}

impl Rate {
    /// Every rate, in the order of the type bytes.
    pub const ALL: [Self; 9] = [
        Self::Hz8000,
        Self::Hz12000,
        Self::Hz16000,
        Self::Hz24000,
        Self::Hz32000,
        Self::Hz44100,
        Self::Hz48000,
        Self::Hz96000,
        Self::Hz192000,
    ];

    /// The rate that a type byte names, if it is one of audio.
    #[must_use]
    pub const fn from_kind(kind: u8) -> Option<Self> {
        match kind {
            kind::AUDIO_8K..=kind::AUDIO_192K => Some(Self::ALL[(kind - kind::AUDIO_8K) as usize]),
            _ => None,
        }
    }

    /// The rate of so many samples per second, if AudioSocket has it.
    #[must_use]
    pub fn from_hz(hz: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|rate| rate.hz() == hz)
    }

    /// The type byte of its audio.
    #[must_use]
    pub const fn kind(self) -> u8 {
        kind::AUDIO_8K + self as u8
    }

    /// Samples per second.
    #[must_use]
    pub const fn hz(self) -> u32 {
        match self {
            Self::Hz8000 => 8_000,
            Self::Hz12000 => 12_000,
            Self::Hz16000 => 16_000,
            Self::Hz24000 => 24_000,
            Self::Hz32000 => 32_000,
            Self::Hz44100 => 44_100,
            Self::Hz48000 => 48_000,
            Self::Hz96000 => 96_000,
            Self::Hz192000 => 192_000,
        }
    }

    /// Samples of 20 ms, the length that every frame to Asterisk should have. At 48 kHz and above such a frame is
    /// longer than one TCP segment on most networks.
    #[must_use]
    pub const fn frame_samples(self) -> usize {
        (self.hz() / 50) as usize
    }
}

/// A frame, as it came. Its payload lies in the bytes that were given, or in the parser.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Frame<'a> {
    /// The call's UUID, the first frame of each call. [`uuid_text`] writes it as the dialplan does.
    Uuid([u8; 16]),
    /// A digit: one of `0-9 * # A-D`, as ASCII.
    Digit(u8),
    /// Audio.
    Audio {
        /// The rate, from this frame's type byte.
        rate: Rate,
        /// Samples of 16 bits, little-endian: any number of bytes from 0 to 65,535, also an odd one ([`samples`]).
        payload: &'a [u8],
    },
    /// The other side is done. Whatever payload it had is skipped.
    Hangup,
    /// The other side says that something went wrong. The codes of old versions are 1 (hung up), 2 (a frame could not
    /// be forwarded) and 4 (memory); the current one sends none at all.
    Error(Option<u8>),
    /// A type that isn't known. Its payload is skipped.
    Unknown {
        /// The type byte.
        kind: u8,
        /// Bytes of its payload.
        length: u16,
    },
}

/// What was said isn't printed, nor which digit was pressed.
impl fmt::Debug for Frame<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uuid(uuid) => write!(formatter, "Uuid({})", uuid_text(uuid)),
            Self::Digit(_) => formatter.write_str("Digit(withheld)"),
            Self::Audio { rate, payload } => {
                write!(formatter, "Audio {{ {} Hz, {} bytes }}", rate.hz(), payload.len())
            }
            Self::Hangup => formatter.write_str("Hangup"),
            Self::Error(code) => write!(formatter, "Error({code:?})"),
            Self::Unknown { kind, length } => write!(formatter, "Unknown {{ kind: {kind:#04x}, length: {length} }}"),
        }
    }
}

/// A frame of a known type that makes no sense. The parser has skipped it: what follows can still be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FrameError {
    /// A UUID has 16 bytes.
    #[error("a UUID of {0} bytes, where 16 are needed")]
    UuidLength(u16),
    /// A digit is one byte.
    #[error("a digit of {0} bytes, where 1 is needed")]
    DigitLength(u16),
    /// The byte is none of `0-9 * # A-D`.
    #[error("a digit that no telephone has")]
    NotADigit(u8),
}

/// Finds frames in a stream of bytes, however it is cut.
///
/// ```
/// # use repartee_protocol::audiosocket::{Frame, Parser, Rate};
/// # let mut parser = Parser::new();
/// # let read: &[u8] = &[0x10, 0, 2, 1, 0];
/// let mut rest = read;
/// while let Some(frame) = parser.next_frame(&mut rest).expect("frames that make sense") {
///     assert_eq!(frame, Frame::Audio { rate: Rate::Hz8000, payload: &[1, 0] });
/// }
/// assert!(rest.is_empty());
/// ```
///
/// A frame that lies in the given bytes as a whole is not copied. One that is cut is put together in the parser, which
/// holds [`MAX_FRAME_BYTES`] at most and allocates only for a longer frame than it has seen cut before.
#[derive(Debug, Default)]
pub struct Parser {
    /// The start of a frame, or the whole one that the last call returned (`complete`).
    buffer: Vec<u8>,
    complete: bool,
    /// Bytes to come that belong to a frame that is done with.
    skip: usize,
}

impl Parser {
    /// A parser that has seen nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes bytes from the front of `input` up to the end of the next frame, and returns it. `None` means that all of
    /// `input` was taken and more is needed. Frames whose payload doesn't matter are returned at their header.
    ///
    /// # Errors
    /// [`FrameError`]: one frame made no sense and is skipped. The next call goes on behind it.
    pub fn next_frame<'frame, 'input: 'frame>(
        &'frame mut self,
        input: &mut &'input [u8],
    ) -> Result<Option<Frame<'frame>>, FrameError> {
        let skipped = self.skip.min(input.len());
        *input = &input[skipped..];
        self.skip -= skipped;
        if self.complete {
            self.buffer.clear();
            self.complete = false;
        }

        // Nearly always: a frame came in one piece.
        if self.buffer.is_empty()
            && let Some((header, rest)) = input.split_first_chunk::<HEADER_BYTES>()
        {
            let header = Header::read(*header);
            if let Some((payload, rest)) = rest.split_at_checked(header.kept()) {
                *input = rest;
                self.skip = header.skipped();
                return header.frame(payload).map(Some);
            }
        }

        self.take(HEADER_BYTES, input);
        let Some((header, _)) = self.buffer.split_first_chunk::<HEADER_BYTES>() else {
            return Ok(None);
        };
        let header = Header::read(*header);
        let end = HEADER_BYTES + header.kept();
        self.take(end, input);
        if self.buffer.len() < end {
            return Ok(None);
        }
        self.complete = true;
        self.skip = header.skipped();
        header.frame(&self.buffer[HEADER_BYTES..]).map(Some)
    }

    /// Whether the bytes so far end within a frame: a connection that closes now was cut.
    #[must_use]
    pub fn is_within_frame(&self) -> bool {
        self.skip > 0 || (!self.complete && !self.buffer.is_empty())
    }

    /// Moves bytes from the front of `input` into the buffer until it has `length` of them.
    fn take(&mut self, length: usize, input: &mut &[u8]) {
        let count = length.saturating_sub(self.buffer.len()).min(input.len());
        let (taken, rest) = input.split_at(count);
        self.buffer.extend_from_slice(taken);
        *input = rest;
    }
}

#[derive(Clone, Copy)]
struct Header {
    kind: u8,
    length: u16,
}

impl Header {
    const fn read([kind, high, low]: [u8; HEADER_BYTES]) -> Self {
        Self {
            kind,
            length: u16::from_be_bytes([high, low]),
        }
    }

    /// Bytes of the payload that are needed to make the frame.
    fn kept(self) -> usize {
        let length = usize::from(self.length);
        match self.kind {
            kind::AUDIO_8K..=kind::AUDIO_192K => length,
            kind::UUID if length == 16 => 16,
            kind::DIGIT if length == 1 => 1,
            kind::ERROR => length.min(1),
            _ => 0,
        }
    }

    /// Bytes of the payload behind those.
    fn skipped(self) -> usize {
        usize::from(self.length) - self.kept()
    }

    /// The frame, with the kept part of its payload.
    fn frame(self, payload: &[u8]) -> Result<Frame<'_>, FrameError> {
        let Self { kind, length } = self;
        if let Some(rate) = Rate::from_kind(kind) {
            return Ok(Frame::Audio { rate, payload });
        }
        match (kind, payload) {
            (kind::HANGUP, _) => Ok(Frame::Hangup),
            (kind::UUID, payload) => payload
                .try_into()
                .map(Frame::Uuid)
                .map_err(|_| FrameError::UuidLength(length)),
            (kind::DIGIT, &[digit @ (b'0'..=b'9' | b'*' | b'#' | b'A'..=b'D')]) => Ok(Frame::Digit(digit)),
            (kind::DIGIT, &[other]) => Err(FrameError::NotADigit(other)),
            (kind::DIGIT, _) => Err(FrameError::DigitLength(length)),
            (kind::ERROR, payload) => Ok(Frame::Error(payload.first().copied())),
            (kind, _) => Ok(Frame::Unknown { kind, length }),
        }
    }
}

/// The samples of a frame's payload. Asterisk never cuts a sample in two, so the odd last byte of a frame belongs to
/// nothing and is dropped: carried over, it would shift every sample after it by a byte, which is loud noise.
pub fn samples(payload: &[u8]) -> impl ExactSizeIterator<Item = i16> + '_ {
    payload.as_chunks::<2>().0.iter().map(|pair| i16::from_le_bytes(*pair))
}

/// Why a frame of audio isn't written: Asterisk would drop the call, or the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum WriteError {
    /// A frame without samples drops the call ("Invalid message length").
    #[error("a frame of audio without a sample")]
    Empty,
    /// More than [`MAX_SAMPLES`].
    #[error("a frame of {0} samples, where Asterisk plays {MAX_SAMPLES} at most")]
    TooLong(usize),
}

/// Appends a frame of audio to `out`, header and payload together: to be sent in one write.
///
/// # Errors
/// [`WriteError`]; nothing is appended then.
pub fn write_audio(rate: Rate, samples: &[i16], out: &mut Vec<u8>) -> Result<(), WriteError> {
    write_header(rate, samples.len(), out)?;
    out.extend(samples.iter().flat_map(|sample| sample.to_le_bytes()));
    Ok(())
}

/// Appends a frame of audio to `out` from samples that are bytes already: 16 bits, little-endian. An odd last byte is
/// left out.
///
/// # Errors
/// [`WriteError`]; nothing is appended then.
pub fn write_pcm(rate: Rate, pcm: &[u8], out: &mut Vec<u8>) -> Result<(), WriteError> {
    let pairs = pcm.as_chunks::<2>().0;
    write_header(rate, pairs.len(), out)?;
    out.extend_from_slice(pairs.as_flattened());
    Ok(())
}

/// Appends the header of a frame with so many samples.
fn write_header(rate: Rate, samples: usize, out: &mut Vec<u8>) -> Result<(), WriteError> {
    match samples {
        0 => Err(WriteError::Empty),
        1..=MAX_SAMPLES => {
            let [high, low] = ((samples * 2) as u16).to_be_bytes();
            out.reserve(HEADER_BYTES + samples * 2);
            out.extend_from_slice(&[rate.kind(), high, low]);
            Ok(())
        }
        _ => Err(WriteError::TooLong(samples)),
    }
}

/// Appends the frame with which Asterisk begins a call. For whoever calls a server as Asterisk does: Asterisk itself
/// drops a call in which it is sent one.
pub fn write_uuid(uuid: &[u8; 16], out: &mut Vec<u8>) {
    out.extend_from_slice(&[kind::UUID, 0, 16]);
    out.extend_from_slice(uuid);
}

/// Appends the frame by which Asterisk tells of a digit. For whoever calls a server as Asterisk does: Asterisk itself
/// drops a call in which it is sent one.
pub fn write_digit(digit: u8, out: &mut Vec<u8>) {
    out.extend_from_slice(&[kind::DIGIT, 0, 1, digit]);
}

/// A UUID as the dialplan and ARI write it: 8-4-4-4-12 digits in lower case (RFC 9562 §4).
#[must_use]
pub fn uuid_text(uuid: &[u8; 16]) -> String {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(36);
    for (index, byte) in uuid.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push(char::from(HEX[usize::from(byte >> 4)]));
        text.push(char::from(HEX[usize::from(byte & 15)]));
    }
    text
}

/// Reads what [`uuid_text`] writes, in upper or lower case.
#[must_use]
pub fn parse_uuid(text: &str) -> Option<[u8; 16]> {
    let bytes: &[u8; 36] = text.as_bytes().try_into().ok()?;
    let mut uuid = [0; 16];
    let mut digits = 0;
    for (index, &byte) in bytes.iter().enumerate() {
        if matches!(index, 8 | 13 | 18 | 23) {
            if byte != b'-' {
                return None;
            }
            continue;
        }
        let digit = char::from(byte).to_digit(16)? as u8;
        uuid[digits / 2] |= digit << if digits % 2 == 0 { 4 } else { 0 };
        digits += 1;
    }
    Some(uuid)
}

#[cfg(test)]
mod tests;
