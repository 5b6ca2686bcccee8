//! Frames of 20 ms on their way to stretches of a few hundred milliseconds.
//!
//! AVA's engine takes a reply for over when a stretch's own length and 50 ms have passed without another one. So a stretch leaves
//! before the one before it has been played, and none is tiny: some is held back until more has come, or until it has to go.

use bytes::Bytes;
use repartee_protocol::ava::Output;
use std::time::Duration;

use crate::audio::{Resampler, SampleRate, g711};
use crate::engine::OutFrame;
use crate::id::ResponseId;
use crate::time::Time;

/// The rate that sessions of this wire play at.
pub(super) const RATE: SampleRate = SampleRate::Hz16000;
/// How far ahead of its time a session gives each frame.
pub(super) const LEAD: Duration = Duration::from_millis(500);
/// The first stretch of a reply: short, so that it is heard soon.
const FIRST_MS: u32 = 160;
/// Each further one.
const NEXT_MS: u32 = 240;
/// What stays behind when one leaves, so that the last isn't tiny.
const HELD_MS: u32 = 100;
/// What lies here leaves so long before the client has played all that it was sent, whatever else has come.
const MARGIN: Duration = Duration::from_millis(60);

/// A stretch of a reply.
pub(super) struct Stretch {
    pub(super) response: ResponseId,
    pub(super) output: Output,
    pub(super) audio: Bytes,
    /// Counted from 0 within the response.
    pub(super) index: u32,
}

/// Gathers the frames of one response after the other.
#[derive(Default)]
pub(super) struct Speaker {
    response: Option<ResponseId>,
    /// What this response is sent in, to its end.
    output: Output,
    resampler: Option<Resampler>,
    scratch: Vec<i16>,
    bytes: Vec<u8>,
    /// When the first that lies here has to leave, while nothing was sent yet.
    due: Option<Time>,
    /// When the client will have played all that it was sent: it plays from the first stretch on.
    dry_at: Option<Time>,
    index: u32,
}

/// 16-bit PCM at [`RATE`] in the format of `output`; `resampler` goes on where it stopped.
fn encode(pcm: &[i16], output: Output, resampler: Option<&mut Resampler>, scratch: &mut Vec<i16>, out: &mut Vec<u8>) {
    match output {
        Output::Linear16At16000 => out.extend(pcm.iter().flat_map(|sample| sample.to_le_bytes())),
        Output::Mulaw8000 => {
            if let Some(resampler) = resampler {
                scratch.clear();
                resampler.process(pcm, scratch);
                g711::mu_law_encode_into(scratch, out);
            }
        }
    }
}

/// A whole text's audio, made at the format's own rate.
pub(super) fn encode_whole(pcm: &[i16], output: Output) -> Vec<u8> {
    let mut out = Vec::with_capacity(pcm.len() * output.encoding().bytes_per_sample());
    match output {
        Output::Linear16At16000 => out.extend(pcm.iter().flat_map(|sample| sample.to_le_bytes())),
        Output::Mulaw8000 => g711::mu_law_encode_into(pcm, &mut out),
    }
    out
}

/// The rate that a format has.
pub(super) const fn rate_of(output: Output) -> SampleRate {
    match output {
        Output::Mulaw8000 => SampleRate::Hz8000,
        Output::Linear16At16000 => SampleRate::Hz16000,
    }
}

impl Speaker {
    /// Takes a frame; answers what leaves now, in order. A response keeps the format that it began in.
    pub(super) fn frame(&mut self, now: Time, frame: &OutFrame, output: Output) -> Vec<Stretch> {
        let mut leaving = Vec::new();
        if self.response != frame.response {
            leaving.extend(self.finish(now));
            self.response = frame.response;
            self.output = output;
            self.index = 0;
            self.dry_at = None;
            self.resampler = match output {
                Output::Linear16At16000 => None,
                Output::Mulaw8000 => Resampler::new(RATE, SampleRate::Hz8000).ok(),
            };
        }
        if self.index == 0 {
            self.due.get_or_insert(frame.due);
        }
        encode(
            frame.pcm(),
            self.output,
            self.resampler.as_mut(),
            &mut self.scratch,
            &mut self.bytes,
        );
        let wanted = if self.index == 0 { FIRST_MS } else { NEXT_MS };
        let wanted = self.output.bytes_of(wanted);
        if self.bytes.len() >= wanted + self.output.bytes_of(HELD_MS) {
            let rest = self.bytes.split_off(wanted);
            let whole = std::mem::replace(&mut self.bytes, rest);
            leaving.extend(self.stretch(now, whole));
        }
        leaving
    }

    fn stretch(&mut self, now: Time, audio: Vec<u8>) -> Option<Stretch> {
        let response = self.response.filter(|_| !audio.is_empty())?;
        let length = Duration::from_millis((audio.len() / self.output.bytes_of(1)) as u64);
        self.dry_at = Some(self.dry_at.map_or(now, |dry_at| dry_at.max(now)) + length);
        self.due = None;
        let index = self.index;
        self.index += 1;
        Some(Stretch {
            response,
            output: self.output,
            audio: audio.into(),
            index,
        })
    }

    /// When what lies here has to leave.
    pub(super) fn deadline(&self) -> Option<Time> {
        let sent = self.dry_at.filter(|_| !self.bytes.is_empty());
        sent.or(self.due).map(|until| until.before(MARGIN))
    }

    /// What lies here leaves; more of the response may come. A sliver is made whole with silence: where no more has come by now, the reply is
    /// over, or its voice is behind and there is a pause anyway.
    pub(super) fn flush(&mut self, now: Time) -> Option<Stretch> {
        let mut audio = std::mem::take(&mut self.bytes);
        let least = self.output.bytes_of(HELD_MS);
        if !audio.is_empty() && audio.len() < least {
            let silence = match self.output {
                Output::Mulaw8000 => 0xff,
                Output::Linear16At16000 => 0,
            };
            audio.resize(least, silence);
        }
        self.stretch(now, audio)
    }

    /// The response has no more frames: what lies here leaves, the resampler's tail with it.
    pub(super) fn finish(&mut self, now: Time) -> Option<Stretch> {
        if let Some(mut resampler) = self.resampler.take() {
            self.scratch.clear();
            resampler.flush(&mut self.scratch);
            if !self.bytes.is_empty() {
                g711::mu_law_encode_into(&self.scratch, &mut self.bytes);
            }
        }
        let last = self.flush(now);
        self.response = None;
        (self.due, self.dry_at) = (None, None);
        last
    }

    /// Nothing of what lies here is sent.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}
