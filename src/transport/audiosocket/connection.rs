//! One connection: a UUID, then sound in both directions until either side ends it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use repartee_protocol::audiosocket::{self, Frame, HANGUP, Mislabel, Parser, Rate, uuid_text};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{MissedTickBehavior, interval_at, timeout};

use super::AudioSocketOptions;
use super::outbox::Outbox;
use crate::audio::{SampleRate, g711};
use crate::call::CloseReason;
use crate::engine::{Clock, FRAME_MS};
use crate::phone::{Carrier, Facts, Happening, Key, Line, Phones};

/// How long the first frame of audio, which tells the rate, is waited for; 8 kHz where it doesn't come. The application sends it within 20
/// ms, a channel within 6.
const RATE_WAIT: Duration = Duration::from_millis(200);
/// Bytes that are read at once: 48 kHz in frames of 20 ms are 1,923.
const READ_BYTES: usize = 8_192;
/// The far side closes after our last frame, or doesn't.
const LINGER: Duration = Duration::from_secs(1);
/// Samples of a frame at the highest rate that is resampled: 65,535 bytes.
const MOST_SAMPLES: usize = 32_768;
/// What is sent before the rate is known.
const FIRST_RATE: Rate = Rate::Hz8000;

/// Serves one connection to its end.
pub(super) async fn serve(
    stream: TcpStream,
    permit: OwnedSemaphorePermit,
    phones: Phones,
    options: Arc<AudioSocketOptions>,
) {
    let mut connection = Connection {
        stream,
        parser: Parser::new(),
        bytes: vec![0; READ_BYTES].into_boxed_slice(),
        outbox: Outbox::default(),
        clock: Clock::start(),
        mislabel: Mislabel::new(),
        g711: None,
        pcm: Vec::with_capacity(MOST_SAMPLES),
        message: Vec::with_capacity(2_048),
    };
    let uuid = match timeout(options.uuid_timeout, connection.uuid()).await {
        Ok(Some(uuid)) => uuid,
        // A port scanner, or the application on a channel that was not answered: it closes without a word.
        Ok(None) => return,
        Err(_) => {
            tracing::debug!("a connection has not said which call it is");
            return;
        }
    };
    drop(permit);
    let Some(first) = connection.first_audio().await else {
        return;
    };
    let carrier = Carrier {
        wire: "audiosocket",
        rate: answer_in(first.rate),
        lead: Duration::ZERO,
        continuous: true,
    };
    let announced = phones.announced().take(&Key::Uuid(uuid));
    match phones.answer(carrier, Facts::of_call(&uuid_text(&uuid)), announced) {
        Ok(mut line) => {
            if !first.pcm.is_empty() {
                line.hear(&first.pcm, first.rate.hz());
            }
            for key in first.keys {
                line.key(key);
            }
            let end = connection.run(&mut line, rate_of(carrier.rate)).await;
            // The session is over when the line is; the goodbye on the wire holds nobody up.
            drop(line);
            if matches!(end, End::Ours) {
                connection.hang_up().await;
            }
        }
        Err(refused) => {
            tracing::warn!("a call is refused: {refused}");
            connection.hang_up().await;
        }
    }
}

/// The rate that a call which is spoken in `rate` is answered in: the same where there is one, since only newer Asterisks know others.
const fn answer_in(rate: Rate) -> SampleRate {
    match rate {
        Rate::Hz8000 => SampleRate::Hz8000,
        Rate::Hz12000 | Rate::Hz16000 => SampleRate::Hz16000,
        Rate::Hz24000 | Rate::Hz32000 => SampleRate::Hz24000,
        Rate::Hz44100 | Rate::Hz48000 | Rate::Hz96000 | Rate::Hz192000 => SampleRate::Hz48000,
    }
}

const fn rate_of(rate: SampleRate) -> Rate {
    match rate {
        SampleRate::Hz8000 => Rate::Hz8000,
        SampleRate::Hz16000 => Rate::Hz16000,
        SampleRate::Hz24000 => Rate::Hz24000,
        SampleRate::Hz48000 => Rate::Hz48000,
    }
}

/// What came before the rate was known.
struct First {
    rate: Rate,
    pcm: Vec<i16>,
    keys: Vec<char>,
}

/// Which law a channel's G.711 that is called PCM turned out to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Law {
    Mu,
    A,
}

/// Who ended the call.
enum End {
    /// The far side, or the connection.
    Theirs,
    /// Our side: it is to be told.
    Ours,
}

/// What a frame means to a call.
enum Heard {
    Audio(Rate),
    Key(char),
    HangUp,
    Nothing,
}

struct Connection {
    stream: TcpStream,
    parser: Parser,
    bytes: Box<[u8]>,
    outbox: Outbox,
    clock: Clock,
    mislabel: Mislabel,
    g711: Option<Law>,
    /// The samples of the last frame of audio.
    pcm: Vec<i16>,
    message: Vec<u8>,
}

impl Connection {
    /// The call's UUID, which is the first thing that is sent; `None` when something else is, or nothing.
    async fn uuid(&mut self) -> Option<[u8; 16]> {
        // Read up to there and no further: what follows belongs to the call.
        let mut read = 0;
        let wanted = audiosocket::HEADER_BYTES + 16;
        while read < wanted {
            self.stream.readable().await.ok()?;
            match self.stream.try_read(&mut self.bytes[read..wanted]) {
                Ok(0) => return None,
                Ok(count) => read += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(_) => return None,
            }
            // A scanner is known by its first byte.
            if self.bytes[0] != audiosocket::kind::UUID {
                tracing::debug!("a connection that doesn't speak AudioSocket");
                return None;
            }
        }
        let mut input = &self.bytes[..wanted];
        match self.parser.next_frame(&mut input) {
            Ok(Some(Frame::Uuid(uuid))) => Some(uuid),
            _ => None,
        }
    }

    /// Sends silence until the first frame of audio tells the rate, or until it is late. `None` when the call is over.
    async fn first_audio(&mut self) -> Option<First> {
        let frame = Duration::from_millis(FRAME_MS.into());
        let begin = self.clock.instant(self.clock.now());
        let mut ticks = interval_at(begin, frame);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut first = First {
            rate: FIRST_RATE,
            pcm: Vec::new(),
            keys: Vec::new(),
        };
        let silence = vec![0; FIRST_RATE.frame_samples()];
        let wait = tokio::time::sleep_until(begin + RATE_WAIT);
        tokio::pin!(wait);
        loop {
            let mut known = false;
            tokio::select! {
                () = &mut wait => return Some(first),
                _ = ticks.tick() => {
                    self.send(&silence, FIRST_RATE).ok()?;
                }
                ready = self.stream.readable() => {
                    ready.ok()?;
                    let mut over = false;
                    let read = self.read(|heard, pcm| match heard {
                        // What came in another rate before is a frame at most.
                        Heard::Audio(rate) => {
                            if rate != first.rate {
                                first.pcm.clear();
                            }
                            first.rate = rate;
                            first.pcm.extend_from_slice(pcm);
                            known = true;
                        }
                        Heard::Key(key) => first.keys.push(key),
                        Heard::HangUp => over = true,
                        Heard::Nothing => {}
                    });
                    read.ok()?;
                    if over {
                        return None;
                    }
                }
            }
            if known {
                return Some(first);
            }
        }
    }

    /// Both directions, until either ends.
    async fn run(&mut self, line: &mut Line, rate: Rate) -> End {
        loop {
            tokio::select! {
                happening = line.next() => match happening {
                    Happening::Frame(frame) => match self.send(frame.pcm(), rate) {
                        Ok(true) => {}
                        Ok(false) => line.note_unsent(),
                        Err(_) => return End::Theirs,
                    },
                    // What has been sent is being played; nothing follows it, which is all that can be done here.
                    Happening::Flush => {}
                    Happening::Over(CloseReason::TooSlow) => return End::Theirs,
                    Happening::Over(_) => return End::Ours,
                },
                ready = self.stream.readable() => {
                    if ready.is_err() {
                        return End::Theirs;
                    }
                    let mut over = false;
                    let read = self.read(|heard, pcm| match heard {
                        Heard::Audio(rate) => line.hear(pcm, rate.hz()),
                        Heard::Key(key) => line.key(key),
                        Heard::HangUp => over = true,
                        Heard::Nothing => {}
                    });
                    if over || read.is_err() {
                        return End::Theirs;
                    }
                }
                ready = self.stream.writable(), if self.outbox.is_waiting() => {
                    if ready.is_err() || self.outbox.flush(&self.stream).is_err() {
                        return End::Theirs;
                    }
                }
            }
        }
    }

    fn send(&mut self, pcm: &[i16], rate: Rate) -> io::Result<bool> {
        self.message.clear();
        if audiosocket::write_audio(rate, pcm, &mut self.message).is_err() {
            return Ok(false);
        }
        self.outbox.send(self.clock.now(), &self.stream, &self.message)
    }

    /// Reads what is there, once, and tells `hear` of each frame, with the samples of one of audio.
    fn read(&mut self, mut hear: impl FnMut(Heard, &[i16])) -> io::Result<()> {
        let count = match self.stream.try_read(&mut self.bytes) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        };
        let now_ms = self.clock.now().as_millis();
        let mut input = &self.bytes[..count];
        loop {
            let frame = match self.parser.next_frame(&mut input) {
                Ok(Some(frame)) => frame,
                Ok(None) => return Ok(()),
                Err(error) => {
                    tracing::debug!(%error, "a frame is skipped");
                    continue;
                }
            };
            let heard = match frame {
                Frame::Audio { rate, payload } => {
                    self.pcm.clear();
                    if self.g711.is_none() && self.mislabel.observe(rate.kind(), payload.len(), now_ms) {
                        let law = law_of(payload);
                        tracing::warn!(
                            "a channel sends {law:?}-law G.711 and calls it PCM: add c(slin) to Dial(AudioSocket/…); it is read as what it is"
                        );
                        self.g711 = Some(law);
                    }
                    match self.g711 {
                        Some(law) if rate == Rate::Hz8000 => decode(law, payload, &mut self.pcm),
                        _ => self.pcm.extend(audiosocket::samples(payload)),
                    }
                    Heard::Audio(rate)
                }
                Frame::Digit(digit) => Heard::Key(char::from(digit)),
                Frame::Hangup => Heard::HangUp,
                Frame::Uuid(_) | Frame::Error(_) | Frame::Unknown { .. } => Heard::Nothing,
            };
            hear(heard, &self.pcm);
        }
    }

    /// Tells the far side that the call is over. A socket that is closed over unread bytes is reset, which may take the goodbye with
    /// it: so it is read to its end.
    async fn hang_up(mut self) {
        let farewell = async {
            while self.outbox.is_waiting() {
                self.stream.writable().await?;
                self.outbox.flush(&self.stream)?;
            }
            self.stream.write_all(&HANGUP).await?;
            self.stream.shutdown().await?;
            loop {
                self.stream.readable().await?;
                match self.stream.try_read(&mut self.bytes) {
                    Ok(0) => return Ok::<(), io::Error>(()),
                    Ok(_) => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error),
                }
            }
        };
        // Whoever is gone needs no goodbye.
        let _ = timeout(LINGER, farewell).await;
    }
}

fn decode(law: Law, payload: &[u8], pcm: &mut Vec<i16>) {
    match law {
        Law::Mu => pcm.extend(payload.iter().map(|byte| g711::mu_law_decode(*byte))),
        Law::A => pcm.extend(payload.iter().map(|byte| g711::a_law_decode(*byte))),
    }
}

/// The law of these bytes of G.711: each has bytes of its own for silence; and read by the wrong one, a sound is rougher, from sample to
/// sample, for its loudness.
fn law_of(payload: &[u8]) -> Law {
    let idle = payload
        .iter()
        .filter(|byte| matches!(**byte & 0x7F, 0x54 | 0x55))
        .count();
    if idle * 2 > payload.len() {
        return Law::A;
    }
    let roughness = |decode: fn(u8) -> i16| {
        let (mut steps, mut level) = (0_u64, 1_u64);
        for pair in payload.windows(2) {
            let (one, other) = (decode(pair[0]), decode(pair[1]));
            steps += u64::from(one.abs_diff(other));
            level += u64::from(one.unsigned_abs());
        }
        steps * 1_000 / level
    };
    if roughness(g711::a_law_decode) < roughness(g711::mu_law_decode) {
        Law::A
    } else {
        Law::Mu
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_law_of_g711_is_told_from_its_sound() {
        let tone: Vec<i16> = (0..160)
            .map(|n| (6_000.0 * (f64::from(n) * 0.3).sin() + 1_500.0 * (f64::from(n) * 1.1).sin()) as i16)
            .collect();
        let mut mu = Vec::new();
        g711::mu_law_encode_into(&tone, &mut mu);
        let mut a = Vec::new();
        g711::a_law_encode_into(&tone, &mut a);
        assert_eq!(law_of(&mu), Law::Mu);
        assert_eq!(law_of(&a), Law::A);
        assert_eq!(law_of(&[]), Law::Mu);
        assert_eq!(law_of(&[g711::MU_LAW_SILENCE; 160]), Law::Mu);
        assert_eq!(law_of(&[g711::A_LAW_SILENCE; 160]), Law::A);
    }

    #[test]
    fn a_call_is_answered_in_its_own_rate_where_there_is_one() {
        for rate in Rate::ALL {
            let answered = rate_of(answer_in(rate));
            if [Rate::Hz8000, Rate::Hz16000, Rate::Hz24000, Rate::Hz48000].contains(&rate) {
                assert_eq!(answered, rate);
            }
        }
    }
}
