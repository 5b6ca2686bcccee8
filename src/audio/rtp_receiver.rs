//! RTP as it comes over UDP: from datagrams to samples, by the clock.
//!
//! Whose packets are taken, which format each has, their order, what was lost, keys, reports and counts: everything
//! that a receiver owes by RFC 3550, 3551, 4733 and 3389. Time runs on whether packets come or not. A source that
//! changes begins a new stream; what we send is a stream of its own and never changes its source for that.
//!
//! Sans-IO: hand on each datagram by [`RtpReceiver::receive`], and poll at [`RtpReceiver::next_deadline`].

mod format;
mod reception;

use std::net::SocketAddr;
use std::time::Duration;

use repartee_protocol::rtp::{
    Datagram, DigitReceiver, RtpError, RtpHeader, RtpPacket, Source, SourceLock, classify, payload_type,
};

use super::codec::{ByteOrder, CodecError, Decoder};
use super::drift::DriftMeter;
use super::frame::{SampleRate, rms_dbfs};
use super::inbound::{Heard, SetupError};
use super::jitter::{Discipline, JitterBuffer, JitterConfig, JitterPacket, PacketKind, Pull, Pushed};
use super::quality::StreamQuality;
use super::resample::Resampler;
use crate::time::Time;
use reception::Reception;
use thiserror::Error;

pub use format::{RtpFormat, RtpFormats, asterisk_answer};
pub use reception::{PeerView, SentCount};

/// Empty packet buffers that are kept for the next packets.
const SPARE_BUFFERS: usize = 16;
/// Bytes of a payload that a buffer holds without growing: 20 ms of L16 at 48 kHz.
const PAYLOAD_BYTES: usize = 1_920;
/// The longest packet that is taken, in ms. 10 to 60 are in use; whole files come in longer ones.
const LONGEST_PACKET_MS: u64 = 500;
/// A frame below this level is quiet.
const QUIET_DBFS: f32 = -45.0;
/// After so much quiet there is a pause, in which time may be stretched or shortened unheard. The closure before a `p` or a
/// `t` is as quiet, but shorter, and 20 ms less of it makes another word.
const PAUSE: Duration = Duration::from_millis(200);

/// Why a datagram was dropped. The stream goes on.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DatagramError {
    /// It is no RTP packet.
    #[error(transparent)]
    Rtp(#[from] RtpError),
    /// Its payload can't be of the format that its type says.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// It is an RTP packet of a type that nobody agreed on.
    #[error("an RTP packet of payload type {0}, which was not agreed on")]
    PayloadType(u8),
    /// It lasts longer than any packet of a conversation does.
    #[error("a packet of more than {LONGEST_PACKET_MS} ms of sound")]
    TooLong,
}

/// The payload of a packet, and its type.
#[derive(Debug, Clone)]
struct Payload {
    payload_type: u8,
    bytes: Vec<u8>,
}

/// The way from payloads of one type to samples.
#[derive(Debug)]
struct Way {
    payload_type: u8,
    format: RtpFormat,
    decoder: Decoder,
    resampler: Resampler,
}

/// The stream that runs.
#[derive(Debug, Clone, Copy)]
struct Stream {
    ssrc: u32,
    clock: u32,
    /// Ticks of the newest packet of sound.
    frame: u32,
    /// The newest timestamp, and the same unwrapped.
    timestamp: u32,
    ticks: i64,
}

/// See the [module's words](self).
#[derive(Debug)]
pub struct RtpReceiver {
    formats: RtpFormats,
    rate: SampleRate,
    own_ssrc: u32,
    lock: SourceLock,
    jitter: JitterBuffer<Payload>,
    digits: DigitReceiver,
    stream: Option<Stream>,
    /// A packet of another clock came, with this sequence number: a second one behind it changes the clock.
    other_clock: Option<(u32, u16)>,
    /// One for each type that came, the newest first.
    ways: Vec<Way>,
    decoded: Vec<i16>,
    spare: Vec<Vec<u8>>,
    reception: Reception,
    drift: DriftMeter,
    received: u64,
    malformed: u64,
    concealed: Duration,
    filled: Duration,
    /// How long it has been quiet.
    quiet: Duration,
}

impl RtpReceiver {
    /// A receiver of `formats` that gives samples at `rate`. We send as the source `own_ssrc`. `expected` is where the
    /// peer is said to be, if anybody said so ([`SourceLock::new`]). The jitter buffer is that of
    /// [`JitterConfig::timed`], or has the `discipline` given.
    #[must_use]
    pub fn new(
        formats: RtpFormats,
        rate: SampleRate,
        own_ssrc: u32,
        expected: Option<SocketAddr>,
        discipline: Option<Discipline>,
    ) -> Self {
        let timed = JitterConfig::timed(8_000);
        Self {
            formats,
            rate,
            own_ssrc,
            lock: SourceLock::new(expected),
            jitter: JitterBuffer::new(JitterConfig {
                discipline: discipline.unwrap_or(timed.discipline),
                ..timed
            }),
            digits: DigitReceiver::new(),
            stream: None,
            other_clock: None,
            ways: Vec::new(),
            decoded: Vec::with_capacity(2_880),
            spare: Vec::with_capacity(SPARE_BUFFERS),
            reception: Reception::default(),
            drift: DriftMeter::default(),
            received: 0,
            malformed: 0,
            concealed: Duration::ZERO,
            filled: Duration::ZERO,
            quiet: Duration::ZERO,
        }
    }

    /// Takes a datagram that arrived at `now` from `from`, and appends what is due to be heard. Reports on the same port
    /// are read; handshakes of STUN and DTLS are passed over; packets of strangers are dropped and counted.
    ///
    /// # Errors
    /// [`DatagramError`] for what can't be read, or is of no format that was agreed on: it is counted, and the stream goes
    /// on.
    pub fn receive(
        &mut self,
        now: Time,
        from: SocketAddr,
        datagram: &[u8],
        heard: &mut Heard,
    ) -> Result<(), DatagramError> {
        let result = match classify(datagram) {
            Datagram::Rtcp => {
                self.receive_report(now, from, datagram);
                Ok(())
            }
            Datagram::Stun | Datagram::Dtls => Ok(()),
            Datagram::Rtp | Datagram::Other => self.media(now, from, datagram),
        };
        self.malformed += u64::from(result.is_err());
        self.poll(now, heard);
        result
    }

    /// Takes a datagram of RTCP, from a port of its own.
    pub fn receive_report(&mut self, now: Time, from: SocketAddr, datagram: &[u8]) {
        // It comes from another port, so the lock can't judge it by more than this.
        if self.lock.address().is_none_or(|peer| peer.ip() != from.ip()) {
            return;
        }
        self.malformed += u64::from(!self.reception.read(now, datagram, self.own_ssrc));
    }

    /// Appends what is to be heard at `now`, whether anything came or not.
    pub fn poll(&mut self, now: Time, heard: &mut Heard) {
        while let Some(digit) = self.digits.poll(now.since(Time::ZERO)) {
            heard.digits.push(digit.digit);
        }
        loop {
            match self.jitter.pull(now) {
                Pull::Wait => break,
                Pull::NewStream => {
                    self.quiet = Duration::ZERO;
                    if let Some(way) = self.ways.first_mut() {
                        way.decoder.reset();
                    }
                }
                Pull::Frame(payload) => self.frame(payload, heard),
                Pull::Conceal(ticks) => {
                    self.concealed += self.duration(ticks);
                    self.make_up(ticks, true, heard);
                }
                Pull::Silence(ticks) | Pull::ComfortNoise(ticks) => {
                    self.filled += self.duration(ticks);
                    self.make_up(ticks, false, heard);
                }
            }
        }
    }

    /// When to poll next if no datagram comes before.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Time> {
        let digits = self.digits.next_deadline().map(|since| Time::ZERO + since);
        [self.jitter.next_deadline(), digits].into_iter().flatten().min()
    }

    /// Appends our report to `out` if it is due at `now`, and says whether it was: about every 5 s, to a peer that
    /// sends reports too. `sent` is what we sent so far.
    pub fn write_report(&mut self, now: Time, sent: Option<SentCount>, out: &mut Vec<u8>) -> bool {
        self.reception
            .write(now, self.own_ssrc, self.jitter.jitter(), sent, out)
    }

    /// When our next report is due; `None` as long as the peer sends none.
    #[must_use]
    pub const fn next_report(&self) -> Option<Time> {
        self.reception.next_deadline()
    }

    /// Where to send ours: where the peer's packets come from, or are said to.
    #[must_use]
    pub const fn peer(&self) -> Option<SocketAddr> {
        self.lock.address()
    }

    /// The format that the peer sends, as its newest sound has it.
    #[must_use]
    pub fn format(&self) -> Option<RtpFormat> {
        self.ways.first().map(|way| way.format)
    }

    /// What the peer reports of what we send.
    #[must_use]
    pub const fn peer_view(&self) -> Option<PeerView> {
        self.reception.peer()
    }

    /// Whether the peer said goodbye (RTCP BYE), and nothing has come since. A hint; the call ends by signalling.
    #[must_use]
    pub const fn said_goodbye(&self) -> bool {
        self.reception.said_goodbye()
    }

    /// The present depth of the jitter buffer.
    #[must_use]
    pub fn depth(&self) -> Duration {
        self.jitter.depth()
    }

    /// What became of what came, since the beginning.
    #[must_use]
    pub fn quality(&self) -> StreamQuality {
        let jitter = self.jitter.stats();
        let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let in_ms = |ticks: u32| {
            let clock = self.stream.map_or(8_000, |stream| stream.clock);
            u64::from(ticks) * 1_000 / u64::from(clock)
        };
        let frame_ms = in_ms(self.stream.map_or(0, |stream| stream.frame));
        let peer = self.reception.peer();
        StreamQuality {
            received: self.received,
            lost: self.reception.lost(),
            late: jitter.late,
            reordered: jitter.reordered,
            duplicated: jitter.duplicates,
            concealed_ms: ms(self.concealed),
            filled_ms: ms(self.filled),
            left_out_ms: (jitter.shrunk + jitter.overflowed) * frame_ms,
            jitter_ms: u32::try_from(in_ms(self.jitter.jitter())).unwrap_or(u32::MAX),
            drift_ppm: self.drift.ppm(),
            strangers: self.lock.strangers(),
            malformed: self.malformed,
            round_trip_ms: peer
                .and_then(|peer| peer.round_trip)
                .map(|round_trip| u32::try_from(round_trip.as_millis()).unwrap_or(u32::MAX)),
            lost_by_peer: peer.map(|peer| peer.lost),
        }
    }

    fn media(&mut self, now: Time, from: SocketAddr, datagram: &[u8]) -> Result<(), DatagramError> {
        let packet = RtpPacket::parse(datagram)?;
        let header = packet.header;
        if self.lock.receive(now.since(Time::ZERO), from, &header) == Source::Stranger {
            return Ok(());
        }
        let Some(format) = self.formats.format(header.payload_type) else {
            return self.other(now, &packet);
        };
        // The length is told by the payload; 10, 30, 40 and 60 ms are as good as 20.
        let samples = format.codec.samples(packet.payload, format.decoder_rate())? as u64;
        if samples * 1_000 > LONGEST_PACKET_MS * u64::from(format.hz) {
            return Err(DatagramError::TooLong);
        }
        let ticks = u32::try_from(samples * u64::from(format.clock) / u64::from(format.hz)).unwrap_or(u32::MAX);
        if ticks == 0 {
            // It keeps a mapping open, and holds nothing.
            self.push(now, header, PacketKind::Other, &[]);
            return Ok(());
        }
        if !self.follow_clock(&header, format.clock) {
            return Ok(());
        }
        self.received += 1;
        self.note(now, &header, format.clock, ticks);
        self.push(now, header, PacketKind::Audio { ticks }, packet.payload);
        Ok(())
    }

    /// A packet of the peer's that is no sound.
    fn other(&mut self, now: Time, packet: &RtpPacket<'_>) -> Result<(), DatagramError> {
        let header = packet.header;
        let found = header.payload_type;
        if found == self.formats.events() {
            self.digits.receive(now.since(Time::ZERO), &header, packet.payload);
            self.push(now, header, PacketKind::Other, &[]);
            return Ok(());
        }
        if payload_type::is_comfort_noise(found) {
            self.push(now, header, PacketKind::ComfortNoise, &[]);
            return Ok(());
        }
        // It uses up a sequence number, and isn't lost.
        self.push(now, header, PacketKind::Other, &[]);
        Err(DatagramError::PayloadType(found))
    }

    /// Changes to the clock of a packet that is no stray; `false` if it may be one.
    fn follow_clock(&mut self, header: &RtpHeader, clock: u32) -> bool {
        let Some(stream) = self.stream.filter(|stream| stream.clock != clock) else {
            if self.stream.is_none() && clock != 8_000 {
                self.jitter.change_clock(clock, clock / 50);
            }
            self.other_clock = None;
            return true;
        };
        let follows = self
            .other_clock
            .is_some_and(|(other, sequence)| other == clock && header.sequence.wrapping_sub(sequence) <= 16);
        if stream.ssrc == header.ssrc && !follows {
            self.other_clock = Some((clock, header.sequence));
            return false;
        }
        self.other_clock = None;
        self.jitter.change_clock(clock, clock / 50);
        self.stream = None;
        true
    }

    /// Takes note of the times of a packet of sound.
    fn note(&mut self, now: Time, header: &RtpHeader, clock: u32, frame: u32) {
        let ticks = match self.stream {
            Some(stream) if stream.ssrc == header.ssrc => {
                stream.ticks + i64::from(header.timestamp.wrapping_sub(stream.timestamp).cast_signed())
            }
            _ => {
                self.drift.restart();
                0
            }
        };
        self.stream = Some(Stream {
            ssrc: header.ssrc,
            clock,
            frame,
            timestamp: header.timestamp,
            ticks,
        });
        let now = i64::try_from(now.as_nanos()).unwrap_or(i64::MAX);
        let spoken = i128::from(ticks) * 1_000_000_000 / i128::from(clock);
        self.drift
            .note(now, now.saturating_sub(i64::try_from(spoken).unwrap_or(i64::MAX)));
    }

    fn push(&mut self, now: Time, header: RtpHeader, kind: PacketKind, payload: &[u8]) {
        let mut bytes = Vec::new();
        if !payload.is_empty() {
            bytes = self.spare.pop().unwrap_or_else(|| Vec::with_capacity(PAYLOAD_BYTES));
            bytes.clear();
            bytes.extend_from_slice(payload);
        }
        let pushed = self.jitter.push(
            now,
            JitterPacket {
                sequence: header.sequence,
                timestamp: header.timestamp,
                ssrc: header.ssrc,
                marker: header.marker,
                kind,
                payload: Payload {
                    payload_type: header.payload_type,
                    bytes,
                },
            },
        );
        while let Some(discarded) = self.jitter.reclaim() {
            self.recycle(discarded.bytes);
        }
        if pushed != Pushed::Duplicate {
            self.reception.count(&header);
        }
    }

    /// Decodes a packet whose moment it is.
    fn frame(&mut self, payload: Payload, heard: &mut Heard) {
        self.decoded.clear();
        match self.way(payload.payload_type, heard) {
            Ok(()) => {
                let way = &mut self.ways[0];
                if way.decoder.decode(&payload.bytes, &mut self.decoded).is_err() {
                    // Its length was read from it when it came; its inside turned out to be rubbish.
                    self.malformed += 1;
                    let samples = way
                        .format
                        .codec
                        .samples(&payload.bytes, way.format.decoder_rate())
                        .unwrap_or(0);
                    way.decoder.conceal(samples, &mut self.decoded);
                }
                let length = way.format.decoder_rate().duration(self.decoded.len() as u64);
                self.quiet = if rms_dbfs(&self.decoded) < QUIET_DBFS {
                    self.quiet.saturating_add(length)
                } else {
                    Duration::ZERO
                };
                self.jitter.note_quiet(self.quiet >= PAUSE);
                way.resampler.process(&self.decoded, &mut heard.pcm);
            }
            // libopus has no memory for another decoder. The time passes all the same.
            Err(_) => {
                self.malformed += 1;
                let frame = self.stream.map_or(0, |stream| stream.frame);
                self.make_up(frame, false, heard);
            }
        }
        self.recycle(payload.bytes);
    }

    fn recycle(&mut self, bytes: Vec<u8>) {
        if bytes.capacity() > 0 && self.spare.len() < SPARE_BUFFERS {
            self.spare.push(bytes);
        }
    }

    /// Puts the way for `payload_type` in front, and lets the one before give what it still has.
    fn way(&mut self, payload_type: u8, heard: &mut Heard) -> Result<(), SetupError> {
        if self.ways.first().is_some_and(|way| way.payload_type == payload_type) {
            return Ok(());
        }
        let known = self.ways.iter().position(|way| way.payload_type == payload_type);
        let way = match (known, self.formats.format(payload_type)) {
            (Some(index), _) => {
                let mut way = self.ways.remove(index);
                way.decoder.reset();
                way
            }
            (None, Some(format)) => Way {
                payload_type,
                format,
                decoder: Decoder::new(format.codec, format.decoder_rate(), ByteOrder::BigEndian)?,
                resampler: Resampler::from_hz(format.hz, self.rate)?,
            },
            // Nothing without a format is queued as sound.
            (None, None) => return Ok(()),
        };
        if let Some(before) = self.ways.first_mut() {
            before.resampler.flush(&mut heard.pcm);
        }
        self.ways.insert(0, way);
        Ok(())
    }

    /// Hands on `ticks` of what did not come.
    fn make_up(&mut self, ticks: u32, is_loss: bool, heard: &mut Heard) {
        let clock = u64::from(self.stream.map_or(8_000, |stream| stream.clock));
        let samples_at = |hz: u32| usize::try_from(u64::from(ticks) * u64::from(hz) / clock).unwrap_or(0);
        let Some(way) = self.ways.first_mut() else {
            let samples = samples_at(self.rate.hz());
            heard.pcm.resize(heard.pcm.len() + samples, 0);
            return;
        };
        self.decoded.clear();
        let samples = samples_at(way.format.hz);
        match self.jitter.peek() {
            _ if !is_loss => way.decoder.silence(samples, &mut self.decoded),
            Some(next) if next.payload_type == way.payload_type => {
                way.decoder.recover(&next.bytes, samples, &mut self.decoded);
            }
            _ => way.decoder.conceal(samples, &mut self.decoded),
        }
        way.resampler.process(&self.decoded, &mut heard.pcm);
    }

    fn duration(&self, ticks: u32) -> Duration {
        let clock = u64::from(self.stream.map_or(8_000, |stream| stream.clock));
        Duration::from_nanos(u64::from(ticks) * 1_000_000_000 / clock)
    }
}

#[cfg(test)]
mod tests;
