//! A channel's media: samples of the engine into whole frames of the channel, and back.

use bytes::{Bytes, BytesMut};
use repartee_protocol::chan_websocket::{Format, MAX_MEDIA_BYTES, MediaStart};

use crate::audio::opus::OpusOptions;
use crate::audio::{ByteOrder, Codec, CodecError, Decoder, Encoder, Resampler, SampleRate};

/// The resampler's pieces differ by a few samples: so much silence goes before them, in fractions of a second, that a whole frame is
/// always there.
const HEAD_START: u32 = 500;
/// What comes faster than this is brought down before a line hears it.
const FASTEST_HZ: u32 = 48_000;

/// See the [module](self).
pub(super) struct Media {
    /// Bytes of a frame; 0 where a packet is one.
    frame_bytes: usize,
    is_queued: bool,
    engine_rate: SampleRate,
    wire_hz: u32,
    decoder: Decoder,
    /// Where the channel is faster than anything that a line hears.
    down: Option<Resampler>,
    encoder: Encoder,
    /// Where the channel's rate isn't one of the engine's.
    across: Option<Resampler>,
    heard: Vec<i16>,
    slower: Vec<i16>,
    pcm: Vec<i16>,
    /// What doesn't make a frame yet.
    rest: Vec<u8>,
    message: BytesMut,
}

impl Media {
    /// The media of the channel that begins so; `None` where its format isn't known.
    ///
    /// # Errors
    /// [`CodecError`], when a codec has no memory.
    pub(super) fn new(start: &MediaStart) -> Result<Option<Self>, CodecError> {
        let codec = match start.format {
            Format::Slin(_) => Codec::Pcm16,
            Format::Ulaw => Codec::Pcmu,
            Format::Alaw => Codec::Pcma,
            Format::G722 => Codec::G722,
            Format::Opus => Codec::Opus,
            Format::Unknown(_) => return Ok(None),
        };
        let Some(format_hz) = start.format.sample_rate_hz() else {
            return Ok(None);
        };
        let engine_rate = match (codec, format_hz) {
            // Opus takes any of the engine's rates; voices have no more than this.
            (Codec::Opus, _) => SampleRate::Hz24000,
            (_, ..=8_000) => SampleRate::Hz8000,
            (_, ..=16_000) => SampleRate::Hz16000,
            (_, ..=32_000) => SampleRate::Hz24000,
            _ => SampleRate::Hz48000,
        };
        let wire_hz = if codec == Codec::Opus {
            engine_rate.hz()
        } else {
            format_hz
        };
        let whole = if codec == Codec::Pcm16 { 2 } else { 1 };
        let told = Some(start.frame_bytes)
            .filter(|bytes| (1..=MAX_MEDIA_BYTES).contains(bytes) && bytes.is_multiple_of(whole));
        let frame_bytes = match codec {
            Codec::Opus => 0,
            _ => told.or_else(|| start.format.frame_bytes()).unwrap_or_default(),
        };
        let order = ByteOrder::LittleEndian;
        // A pair of rates from the tables above is never refused, as a test shows.
        let between = |from, to| {
            if from == to {
                None
            } else {
                Resampler::between(from, to).ok()
            }
        };
        let mut media = Self {
            frame_bytes,
            is_queued: !start.passthrough && !start.unbuffered && codec != Codec::Opus,
            engine_rate,
            wire_hz,
            decoder: Decoder::new(codec, engine_rate, order)?,
            down: between(wire_hz, wire_hz.min(FASTEST_HZ)),
            encoder: Encoder::new(codec, engine_rate, order, OpusOptions::default())?,
            across: between(engine_rate.hz(), wire_hz),
            heard: Vec::new(),
            slower: Vec::new(),
            pcm: Vec::new(),
            rest: Vec::new(),
            message: BytesMut::new(),
        };
        media.forget();
        Ok(Some(media))
    }

    /// The rate of the frames that the engine is asked for.
    pub(super) const fn rate(&self) -> SampleRate {
        self.engine_rate
    }

    /// Whether Asterisk has a queue for it, and takes commands about that. In passthrough and unbuffered it plays what comes.
    pub(super) const fn is_queued(&self) -> bool {
        self.is_queued
    }

    /// The samples of a message, and their rate in Hz. What can't be decoded is no sample.
    pub(super) fn decode(&mut self, payload: &[u8]) -> (&[i16], u32) {
        self.heard.clear();
        let whole = match self.decoder.codec() {
            // Half a sample at the end belongs to nobody.
            Codec::Pcm16 => &payload[..payload.len() & !1],
            _ => payload,
        };
        if let Err(error) = self.decoder.decode(whole, &mut self.heard) {
            tracing::debug!(%error, "media that can't be read");
        }
        match &mut self.down {
            None => (&self.heard, self.wire_hz),
            Some(down) => {
                self.slower.clear();
                down.process(&self.heard, &mut self.slower);
                (&self.slower, down.to())
            }
        }
    }

    /// The message for 20 ms of the engine: whole frames, one where the channel's are of 20 ms; `None` while the channel's are
    /// longer and one isn't full.
    pub(super) fn encode(&mut self, pcm: &[i16]) -> Option<Bytes> {
        let samples = match &mut self.across {
            None => pcm,
            Some(across) => {
                self.pcm.clear();
                across.process(pcm, &mut self.pcm);
                &self.pcm
            }
        };
        if let Err(error) = self.encoder.encode(samples, &mut self.rest) {
            tracing::debug!(%error, "a frame can't be encoded");
            return None;
        }
        let bytes = match self.frame_bytes {
            0 => self.rest.len(),
            frame => self.rest.len() / frame * frame,
        };
        if bytes == 0 {
            return None;
        }
        // Once the message before has left, its memory is used again.
        self.message.reserve(bytes);
        self.message.extend_from_slice(&self.rest[..bytes]);
        self.rest.drain(..bytes);
        Some(self.message.split().freeze())
    }

    /// What was begun isn't to be heard any more.
    pub(super) fn forget(&mut self) {
        self.rest.clear();
        if let Some(across) = &mut self.across {
            across.reset();
            // Only linear samples have other rates than the engine's: two bytes each.
            self.rest
                .resize(2 * usize::try_from(self.wire_hz / HEAD_START).unwrap_or(0), 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use repartee_protocol::chan_websocket::{Event, Message};

    use super::*;

    fn start(fields: &str) -> MediaStart {
        match Message::parse(&format!(r#"{{"event":"MEDIA_START",{fields}}}"#))
            .unwrap()
            .event
        {
            Event::MediaStart(start) => *start,
            other => panic!("{other:?}"),
        }
    }

    fn media(fields: &str) -> Media {
        Media::new(&start(fields)).unwrap().unwrap()
    }

    fn tone(hz: u32, samples: usize) -> Vec<i16> {
        (0..samples)
            .map(|index| ((index as f64 * 440.0 * std::f64::consts::TAU / f64::from(hz)).sin() * 9_000.0) as i16)
            .collect()
    }

    #[test]
    fn every_20_ms_are_one_message_of_one_frame_from_the_first_on() {
        for (name, bytes) in [
            ("slin", 320),
            ("slin12", 480),
            ("slin16", 640),
            ("slin24", 960),
            ("slin32", 1_280),
            ("slin44", 1_764),
            ("slin48", 1_920),
            ("slin96", 3_840),
            ("slin192", 7_680),
            ("ulaw", 160),
            ("alaw", 160),
            ("g722", 160),
        ] {
            let mut media = media(&format!(r#""format":"{name}""#));
            assert!(media.is_queued());
            let frame = tone(media.rate().hz(), media.rate().samples(20));
            for round in 0..400 {
                let message = media.encode(&frame).unwrap_or_else(|| panic!("{name}, frame {round}"));
                assert_eq!(message.len(), bytes, "{name}, frame {round}");
                if round == 200 {
                    media.forget();
                }
            }
        }
    }

    #[test]
    fn what_is_sent_is_what_is_heard() {
        for name in [
            "slin", "slin12", "slin16", "slin32", "slin44", "slin96", "slin192", "ulaw", "g722", "opus",
        ] {
            let mut media = media(&format!(r#""format":"{name}""#));
            let sound = tone(media.rate().hz(), media.rate().samples(1_000));
            let (mut heard, mut rate) = (Vec::new(), 0);
            for frame in sound.chunks(media.rate().samples(20)) {
                let message = media.encode(frame).expect(name);
                let (pcm, hz) = media.decode(&message);
                heard.extend_from_slice(pcm);
                rate = hz;
            }
            assert!((8_000..=48_000).contains(&rate), "{name}: {rate}");
            let seconds = heard.len() as f64 / f64::from(rate);
            assert!((0.98..=1.001).contains(&seconds), "{name}: {seconds} s");
            let middle = &heard[heard.len() / 2..];
            let ups = middle.windows(2).filter(|pair| pair[0] < 0 && pair[1] >= 0).count();
            assert!(
                (215..=225).contains(&ups),
                "{name}: 440 Hz are {ups} times in half a second"
            );
        }
    }

    #[test]
    fn frames_that_are_longer_are_gathered_and_shorter_ones_go_together() {
        let mut long = media(r#""format":"slin16","optimal_frame_size":1280,"ptime":40"#);
        let frame = tone(16_000, 320);
        let lengths: Vec<usize> = (0..4)
            .map(|_| long.encode(&frame).map_or(0, |message| message.len()))
            .collect();
        assert_eq!(lengths, [0, 1_280, 0, 1_280]);
        let mut short = media(r#""format":"ulaw","optimal_frame_size":80,"ptime":10"#);
        assert_eq!(short.encode(&tone(8_000, 160)).unwrap().len(), 160);
        // Sizes that make no sense aren't believed.
        for size in [0, 7, 65_535] {
            let mut odd = media(&format!(r#""format":"slin16","optimal_frame_size":{size}"#));
            assert_eq!(odd.encode(&frame).unwrap().len(), 640, "{size}");
        }
    }

    #[test]
    fn passthrough_has_no_queue_and_unknown_formats_no_media() {
        assert!(!media(r#""format":"opus","optimal_frame_size":0"#).is_queued());
        assert!(!media(r#""format":"ulaw","passthrough":true"#).is_queued());
        assert!(!media(r#""format":"slin16","unbuffered":true"#).is_queued());
        assert!(Media::new(&start(r#""format":"silk24""#)).unwrap().is_none());
    }

    #[test]
    fn rubbish_is_no_sound() {
        let mut linear = media(r#""format":"slin16""#);
        assert_eq!(linear.decode(&[1]).0, [0_i16; 0]);
        assert_eq!(linear.decode(&[]).0, [0_i16; 0]);
        assert_eq!(linear.decode(&[1, 0, 2]).0, [1_i16]);
        let mut opus = media(r#""format":"opus""#);
        assert_eq!(opus.decode(&[0xff; 3]).0, [0_i16; 0]);
        assert_eq!(opus.decode(&[]).0, [0_i16; 0]);
        opus.decode(&[7; 2_000]);
    }
}
