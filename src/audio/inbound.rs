//! The messages of a wire as samples: unpacked from RTP where they are in it, put in order, decoded, resampled.

use std::time::Duration;

use repartee_protocol::rtp::{Datagram, DigitReceiver, RtpError, RtpPacket, classify, payload_type};
use thiserror::Error;

use super::codec::{ByteOrder, CodecError, Decoder};
use super::frame::SampleRate;
use super::jitter::{Discipline, JitterBuffer, JitterConfig, JitterPacket, PacketKind, Pull, Pushed};
use super::outbound::{Framing, MediaFormat};
use super::resample::{Resampler, ResamplerError};
use crate::time::Time;

/// Empty packet buffers that are kept for the next packets.
const SPARE_BUFFERS: usize = 8;
/// Bytes of an RTP payload that a buffer holds without growing: 20 ms of L16 at 48 kHz.
const PAYLOAD_BYTES: usize = 1_920;

/// Why a message was dropped. The stream goes on.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum MediaError {
    /// It can't be decoded.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// It is no RTP packet.
    #[error(transparent)]
    Rtp(#[from] RtpError),
    /// It is an RTP packet of something else.
    #[error("an RTP packet of payload type {found}, where {expected} was agreed on")]
    PayloadType {
        /// What it says.
        found: u8,
        /// What the session's codec has.
        expected: u8,
    },
}

/// Why there is no decoder for a format.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SetupError {
    /// The codec can't be set up.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// The rate can't be converted.
    #[error(transparent)]
    Resampler(#[from] ResamplerError),
}

/// What came out of a wire. The caller empties both.
#[derive(Debug, Default)]
pub struct Heard {
    /// Samples at the rate that was asked for.
    pub pcm: Vec<i16>,
    /// Telephone keys that were let go.
    pub digits: Vec<char>,
}

/// What was dropped or made up, counted since the beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct InboundStats {
    /// Messages that were dropped because they could not be read.
    pub malformed: u64,
    /// Packets that came twice.
    pub duplicates: u64,
    /// Packets that came after their moment.
    pub late: u64,
    /// Packets that never came.
    pub lost: u64,
}

/// Decodes the messages of one wire in one direction.
#[derive(Debug)]
pub struct Inbound {
    decoder: Decoder,
    resampler: Resampler,
    rtp: Option<RtpIn>,
    decoded: Vec<i16>,
    malformed: u64,
}

#[derive(Debug)]
struct RtpIn {
    jitter: JitterBuffer<Vec<u8>>,
    digits: DigitReceiver,
    payload_type: u8,
    clock: u32,
    format: MediaFormat,
    spare: Vec<Vec<u8>>,
}

impl Inbound {
    /// A decoder of `format` that gives samples at `rate`. In RTP the codec's packets have `payload_type`, and come over a
    /// transport that keeps their order, or over one that does not (`discipline`; see [`JitterConfig`]).
    ///
    /// # Errors
    /// See [`SetupError`].
    pub fn new(
        format: MediaFormat,
        payload_type: u8,
        discipline: Option<Discipline>,
        rate: SampleRate,
    ) -> Result<Self, SetupError> {
        let order = match format.framing {
            Framing::Raw => ByteOrder::LittleEndian,
            Framing::Rtp => ByteOrder::BigEndian,
        };
        let clock = format.codec.rtp_clock(format.rate);
        let ordered = JitterConfig::ordered(clock);
        let config = JitterConfig {
            discipline: discipline.unwrap_or(ordered.discipline),
            ..ordered
        };
        let rtp = (format.framing == Framing::Rtp).then(|| RtpIn {
            jitter: JitterBuffer::new(config),
            digits: DigitReceiver::new(),
            payload_type,
            clock,
            format,
            spare: Vec::with_capacity(SPARE_BUFFERS),
        });
        Ok(Self {
            decoder: Decoder::new(format.codec, format.rate, order)?,
            resampler: Resampler::new(format.rate, rate)?,
            rtp,
            decoded: Vec::with_capacity(2_880),
            malformed: 0,
        })
    }

    /// Takes one message that arrived at `now`, and appends what can be heard by now.
    ///
    /// # Errors
    /// [`MediaError`] when the message is dropped; it was counted.
    pub fn message(&mut self, now: Time, message: &[u8], heard: &mut Heard) -> Result<(), MediaError> {
        let result = match &mut self.rtp {
            None => {
                self.decoded.clear();
                self.decoder
                    .decode(message, &mut self.decoded)
                    .map_err(MediaError::from)
            }
            Some(rtp) => rtp.push(now, message, heard),
        };
        if result.is_err() {
            self.malformed += 1;
        } else if self.rtp.is_none() {
            self.resampler.process(&self.decoded, &mut heard.pcm);
        }
        self.poll(now, heard);
        result
    }

    /// Appends what can be heard at `now` without a further message. Call it at [`next_deadline`](Self::next_deadline).
    pub fn poll(&mut self, now: Time, heard: &mut Heard) {
        let Some(rtp) = &mut self.rtp else { return };
        while let Some(digit) = rtp.digits.poll(now.since(Time::ZERO)) {
            heard.digits.push(digit.digit);
        }
        loop {
            self.decoded.clear();
            match rtp.jitter.pull(now) {
                Pull::Wait => break,
                Pull::NewStream => {
                    self.decoder.reset();
                    continue;
                }
                Pull::Frame(payload) => {
                    if self.decoder.decode(&payload, &mut self.decoded).is_err() {
                        // Its length was read from it when it came; its inside turned out to be rubbish.
                        self.malformed += 1;
                        let samples = rtp.format.codec.samples(&payload, rtp.format.rate).unwrap_or(0);
                        self.decoder.conceal(samples, &mut self.decoded);
                    }
                    rtp.recycle(payload);
                }
                Pull::Conceal(ticks) => self.decoder.conceal(rtp.samples(ticks), &mut self.decoded),
                Pull::Silence(ticks) | Pull::ComfortNoise(ticks) => {
                    self.decoder.silence(rtp.samples(ticks), &mut self.decoded);
                }
            }
            self.resampler.process(&self.decoded, &mut heard.pcm);
        }
    }

    /// When to poll next if no message comes before.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Time> {
        let rtp = self.rtp.as_ref()?;
        let digits = rtp.digits.next_deadline().map(|since| Time::ZERO + since);
        [rtp.jitter.next_deadline(), digits].into_iter().flatten().min()
    }

    /// Counts since the beginning.
    #[must_use]
    pub fn stats(&self) -> InboundStats {
        let jitter = self.rtp.as_ref().map(|rtp| rtp.jitter.stats()).unwrap_or_default();
        InboundStats {
            malformed: self.malformed,
            duplicates: jitter.duplicates,
            late: jitter.late,
            lost: jitter.lost,
        }
    }

    /// How much later a sound is in the samples than in the messages, because of the resampler.
    #[must_use]
    pub fn delay(&self) -> Duration {
        let samples = self.resampler.delay() as u64;
        Duration::from_nanos(samples * 1_000_000_000 / u64::from(self.resampler.to()))
    }
}

impl RtpIn {
    fn push(&mut self, now: Time, message: &[u8], heard: &mut Heard) -> Result<(), MediaError> {
        // A peer that multiplexes RTCP, STUN or DTLS on its port sends nothing for us in them.
        if matches!(classify(message), Datagram::Rtcp | Datagram::Stun | Datagram::Dtls) {
            return Ok(());
        }
        let packet = RtpPacket::parse(message)?;
        let found = packet.header.payload_type;
        let kind = if found == self.payload_type {
            let samples = self.format.codec.samples(packet.payload, self.format.rate)?;
            PacketKind::Audio {
                ticks: self.ticks(samples),
            }
        } else if payload_type::is_comfort_noise(found) {
            PacketKind::ComfortNoise
        } else if found == payload_type::TELEPHONE_EVENT {
            self.digits
                .receive(now.since(Time::ZERO), &packet.header, packet.payload);
            while let Some(digit) = self.digits.poll(now.since(Time::ZERO)) {
                heard.digits.push(digit.digit);
            }
            PacketKind::Other
        } else {
            return Err(MediaError::PayloadType {
                found,
                expected: self.payload_type,
            });
        };
        let mut payload = self.spare.pop().unwrap_or_else(|| Vec::with_capacity(PAYLOAD_BYTES));
        payload.clear();
        if matches!(kind, PacketKind::Audio { .. }) {
            payload.extend_from_slice(packet.payload);
        }
        let pushed = self.jitter.push(
            now,
            JitterPacket {
                sequence: packet.header.sequence,
                timestamp: packet.header.timestamp,
                ssrc: packet.header.ssrc,
                marker: packet.header.marker,
                kind,
                payload,
            },
        );
        debug_assert!(!matches!(pushed, Pushed::QueuedAndDropped) || self.jitter.len() <= 64);
        while let Some(discarded) = self.jitter.reclaim() {
            self.recycle(discarded);
        }
        Ok(())
    }

    fn recycle(&mut self, payload: Vec<u8>) {
        if payload.capacity() > 0 && self.spare.len() < SPARE_BUFFERS {
            self.spare.push(payload);
        }
    }

    /// Ticks of the RTP clock as samples of the format.
    fn samples(&self, ticks: u32) -> usize {
        let samples = u64::from(ticks) * u64::from(self.format.rate.hz()) / u64::from(self.clock);
        usize::try_from(samples).unwrap_or(usize::MAX)
    }

    fn ticks(&self, samples: usize) -> u32 {
        let ticks = samples as u64 * u64::from(self.clock) / u64::from(self.format.rate.hz());
        u32::try_from(ticks).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Codec;
    use super::super::outbound::{Outbound, RtpStart};
    use super::*;

    const START: RtpStart = RtpStart {
        payload_type: 96,
        ssrc: 7,
        sequence: 65_530,
        timestamp: u32::MAX - 700,
    };

    fn tone(samples: usize, rate: SampleRate) -> Vec<i16> {
        (0..samples)
            .map(|index| {
                let angle = index as f32 * 440.0 * std::f32::consts::TAU / rate.hz() as f32;
                (angle.sin() * 9_000.0) as i16
            })
            .collect()
    }

    fn payload_type_of(codec: Codec) -> u8 {
        match codec {
            Codec::Pcm16 => payload_type::L16_DYNAMIC,
            Codec::Pcmu => payload_type::PCMU,
            Codec::Pcma => payload_type::PCMA,
            Codec::G722 => payload_type::G722,
            Codec::Opus => payload_type::OPUS,
        }
    }

    fn messages(format: MediaFormat, count: usize) -> Vec<Vec<u8>> {
        let start = RtpStart {
            payload_type: payload_type_of(format.codec),
            ..START
        };
        let mut outbound = Outbound::new(format, start).unwrap();
        let frame = (format.rate.hz() / 50) as usize;
        tone(frame * count, format.rate)
            .chunks(frame)
            .zip(0..)
            .map(|(pcm, index)| {
                let mut message = Vec::new();
                outbound
                    .frame(pcm, Time::from_millis(20 * index), &mut message)
                    .unwrap();
                message
            })
            .collect()
    }

    fn hear(format: MediaFormat, messages: &[Vec<u8>]) -> Heard {
        let payload_type = payload_type_of(format.codec);
        let mut inbound = Inbound::new(format, payload_type, None, SampleRate::Hz16000).unwrap();
        let mut heard = Heard::default();
        for (index, message) in messages.iter().enumerate() {
            inbound
                .message(Time::from_millis(20 * index as u64), message, &mut heard)
                .unwrap();
        }
        heard
    }

    #[test]
    fn raw_and_rtp_of_one_codec_give_the_same_samples() {
        for codec in [Codec::Pcm16, Codec::Pcmu, Codec::Pcma, Codec::G722, Codec::Opus] {
            for rate in SampleRate::ALL {
                if !codec.has_rate(rate) || matches!(codec, Codec::Pcmu | Codec::Pcma) && rate != SampleRate::Hz8000 {
                    continue;
                }
                let format = |framing| MediaFormat { codec, rate, framing };
                let raw = hear(format(Framing::Raw), &messages(format(Framing::Raw), 50));
                let rtp = hear(format(Framing::Rtp), &messages(format(Framing::Rtp), 50));
                assert!(raw.pcm.len() > 15_000, "{codec:?} {rate}: {}", raw.pcm.len());
                assert_eq!(raw.pcm, rtp.pcm, "{codec:?} {rate}");
            }
        }
    }

    #[test]
    fn disorder_and_doubles_do_not_change_what_is_heard() {
        let format = MediaFormat {
            codec: Codec::Pcmu,
            rate: SampleRate::Hz8000,
            framing: Framing::Rtp,
        };
        let sent = messages(format, 60);
        let mut disordered = sent.clone();
        for index in (1..56).step_by(5) {
            disordered.swap(index, index + 2);
        }
        disordered.insert(20, sent[18].clone());
        assert_eq!(hear(format, &sent).pcm, hear(format, &disordered).pcm);
    }

    #[test]
    fn a_lost_packet_takes_its_time_all_the_same() {
        let format = MediaFormat {
            codec: Codec::Pcm16,
            rate: SampleRate::Hz16000,
            framing: Framing::Rtp,
        };
        let mut sent = messages(format, 60);
        sent.remove(30);
        assert_eq!(hear(format, &sent).pcm.len(), 60 * 320);
    }

    #[test]
    fn rubbish_is_counted_and_the_stream_goes_on() {
        let format = MediaFormat {
            codec: Codec::Pcm16,
            rate: SampleRate::Hz16000,
            framing: Framing::Rtp,
        };
        let mut inbound = Inbound::new(format, payload_type::L16_DYNAMIC, None, SampleRate::Hz16000).unwrap();
        let mut heard = Heard::default();
        let sent = messages(format, 2);
        inbound.message(Time::ZERO, &sent[0], &mut heard).unwrap();
        assert!(
            inbound.message(Time::ZERO, &sent[1][..9], &mut heard).is_err(),
            "cut short"
        );
        assert!(
            inbound
                .message(Time::ZERO, &sent[1][..sent[1].len() - 1], &mut heard)
                .is_err(),
            "half a sample"
        );
        let mut wrong_version = sent[1].clone();
        wrong_version[0] = 0x40;
        let _ = inbound.message(Time::ZERO, &wrong_version, &mut heard);
        let mut wrong_type = sent[1].clone();
        wrong_type[1] = 77 + 20;
        assert!(matches!(
            inbound.message(Time::ZERO, &wrong_type, &mut heard),
            Err(MediaError::PayloadType {
                found: 97,
                expected: 96
            })
        ));
        assert!(inbound.message(Time::ZERO, &[], &mut heard).is_err());
        inbound.message(Time::from_millis(20), &sent[1], &mut heard).unwrap();
        assert_eq!(heard.pcm.len(), 640);
        assert!(inbound.stats().malformed >= 4);
    }
}
