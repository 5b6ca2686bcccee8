//! One connection: a configuration, then audio and replies in lockstep, until the client says that it was all.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket, close_code};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use repartee_protocol::vosk::{Config, DEFAULT_RATE_HZ, Reply, Request};
use tokio::sync::mpsc;
use tokio::time::{sleep_until, timeout};

use super::VoskOptions;
use super::utterances::Utterances;
use crate::audio::{Resampler, SampleRate};
use crate::call::{BackendKind, CloseReason, Command, Event, MAX_HINTS_BYTES, Settings, Stages, TurnDetection};
use crate::engine::{AudioSender, Call, Clock, Commands, Engine, FrameReceiver, WireProfile};
use crate::pii::Pii;
use crate::registry::Slot;
use crate::time::{Samples, Time};

/// A client that doesn't take a reply in this time takes nothing any more.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);
/// The other side answers a close, or doesn't: it is not waited for longer than this.
const LINGER: Duration = Duration::from_secs(2);
/// Audio is given to the session in pieces of this many samples, 200 ms, so that one message doesn't outrun the recogniser.
const PIECE: usize = 3_200;
/// A client that is further than this ahead of the time sends a file, and may wait.
const REAL_TIME: Duration = Duration::from_secs(1);
/// So much more of one utterance may have come than time has gone by since it began. A recogniser that keeps up with time has the rest
/// before the session waits for its final words in vain.
const MOST_AHEAD: Duration = Duration::from_secs(15);
/// Final words may take so long here: nobody waits for an answer to them, and a file's come late.
const FINAL_TIMEOUT_MS: u32 = 30_000;

/// Serves one connection to its end.
pub(super) async fn serve(socket: WebSocket, engine: Engine, options: Arc<VoskOptions>) {
    let (sink, stream) = socket.split();
    let mut connection = Connection {
        sink,
        reader: Reader { stream, held: None },
        engine,
        options,
        config: Config::default(),
        carried: None,
        listening: None,
    };
    let end = connection.run().await;
    let Connection {
        mut sink,
        mut reader,
        listening,
        ..
    } = connection;
    // The session is over when the connection is.
    drop(listening);
    let (code, reason) = match end {
        End::Gone => return,
        End::Served => (close_code::NORMAL, String::new()),
        End::Refused(code, reason) => (code, reason),
    };
    let farewell = async {
        let close = CloseFrame {
            code,
            reason: reason.into(),
        };
        // Whoever is gone needs no goodbye.
        let _ = sink.send(Message::Close(Some(close))).await;
        while let Some(Ok(_)) = reader.stream.next().await {}
    };
    let _ = timeout(LINGER, farewell).await;
}

/// How a connection ended.
enum End {
    /// The client has closed, or vanished.
    Gone,
    /// The client has had its last result.
    Served,
    /// By us: the code and the reason, which is short.
    Refused(u16, String),
}

/// The receiving half of the socket. It is read also while something takes its time: pings are answered by reading, and a client
/// that vanishes is noticed.
struct Reader {
    stream: SplitStream<WebSocket>,
    /// A message that came meanwhile. There is one at most: then the client waits.
    held: Option<Message>,
}

struct Connection {
    sink: SplitSink<WebSocket, Message>,
    reader: Reader,
    engine: Engine,
    options: Arc<VoskOptions>,
    config: Config,
    /// The first half of a sample whose second half comes with the next message.
    carried: Option<u8>,
    /// From the first audio on.
    listening: Option<Listening>,
}

/// The session is over.
struct Over;

/// A session that listens.
struct Listening {
    audio: AudioSender,
    commands: Commands,
    events: mpsc::Receiver<Event>,
    /// Nothing is played; it is the session's place.
    _frames: FrameReceiver,
    clock: Clock,
    resampler: Resampler,
    utterances: Utterances,
    /// When the audio that has come so far ends, if it comes in real time.
    due: Time,
    /// Where `due` was and when it was, when the open turn was first seen.
    turn_began: Option<(Time, Time)>,
    /// What the session said of its state since it was asked: whether a turn is open.
    state: Option<bool>,
    pcm: Vec<i16>,
    resampled: Vec<i16>,
}

impl Connection {
    async fn run(&mut self) -> End {
        loop {
            let idle = self.options.idle;
            let message = match timeout(idle, next(&mut self.reader, self.listening.as_mut())).await {
                Ok(Next::Message(message)) => message,
                Ok(Next::SessionOver) => return self.session_over().await,
                Ok(Next::Gone) => return End::Gone,
                Err(_) => return End::Refused(close_code::NORMAL, "nothing came for too long".to_owned()),
            };
            let step = match message {
                Message::Binary(bytes) => self.audio(&bytes).await,
                Message::Text(text) => self.text(&text).await,
                Message::Ping(_) | Message::Pong(_) => Ok(()),
                Message::Close(_) => Err(End::Gone),
            };
            if let Err(end) = step {
                return end;
            }
        }
    }

    fn wants_list(&self) -> bool {
        self.config.max_alternatives.unwrap_or(0) > 0
    }

    /// Audio is heard, and answered once.
    async fn audio(&mut self, bytes: &[u8]) -> Result<(), End> {
        let as_list = self.wants_list();
        let listening = match &mut self.listening {
            Some(listening) => listening,
            None => self.listening.insert(open(&self.engine, &self.options, &self.config)?),
        };
        take_samples(bytes, &mut self.carried, &mut listening.pcm);
        if self.reader.beside(listening.hear()).await?.is_err() {
            return Err(self.session_over().await);
        }
        let reply = listening.utterances.reply(as_list);
        self.send(&reply).await
    }

    async fn text(&mut self, text: &str) -> Result<(), End> {
        match Request::parse(text) {
            // As a Vosk server does it: the recogniser is made with the first audio, and stays as it is.
            Ok(Request::Config(_)) if self.listening.is_some() => Ok(()),
            Ok(Request::Config(config)) => {
                let rates = 8_000..=48_000;
                if config.sample_rate_hz.is_some_and(|rate| !rates.contains(&rate)) {
                    let reason = "sample_rate must be from 8000 to 48000".to_owned();
                    return Err(End::Refused(close_code::INVALID, reason));
                }
                let Config {
                    sample_rate_hz,
                    phrase_list,
                    words,
                    max_alternatives,
                    model,
                } = config;
                let before = std::mem::take(&mut self.config);
                self.config = Config {
                    sample_rate_hz: sample_rate_hz.or(before.sample_rate_hz),
                    phrase_list: phrase_list.or(before.phrase_list),
                    words: words.or(before.words),
                    max_alternatives: max_alternatives.or(before.max_alternatives),
                    model: model.or(before.model),
                };
                Ok(())
            }
            Ok(Request::Eof) => {
                self.finish().await?;
                Err(End::Served)
            }
            Ok(Request::Reset) => self.finish().await,
            Err(error) => Err(End::Refused(close_code::INVALID, error.to_string())),
        }
    }

    /// Tells the final result of all that was heard.
    async fn finish(&mut self) -> Result<(), End> {
        let as_list = self.wants_list();
        self.carried = None;
        let reply = match &mut self.listening {
            None => Utterances::default().last(as_list),
            Some(listening) => {
                // A session that is over has said all that it will.
                let longest = Duration::from_millis(FINAL_TIMEOUT_MS.into()) + LINGER;
                let _ = self.reader.beside(timeout(longest, listening.settle())).await?;
                listening.utterances.last(as_list)
            }
        };
        self.send(&reply).await
    }

    /// The session is over before its client: what was not told is told, as if it were the end.
    async fn session_over(&mut self) -> End {
        let as_list = self.wants_list();
        let mut reason = None;
        if let Some(listening) = &mut self.listening {
            listening.take_events();
            reason = listening.utterances.over();
            if listening.utterances.has_untold() {
                let reply = listening.utterances.last(as_list);
                if let Err(end) = self.send(&reply).await {
                    return end;
                }
            }
        }
        match reason {
            Some(CloseReason::Drained) => End::Refused(close_code::AWAY, "the server is going away".to_owned()),
            _ => End::Refused(close_code::ERROR, "the session is over".to_owned()),
        }
    }

    async fn send(&mut self, reply: &Reply) -> Result<(), End> {
        match timeout(SEND_TIMEOUT, self.sink.send(Message::text(reply.to_text()))).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(End::Gone),
        }
    }
}

/// What comes next.
enum Next {
    Message(Message),
    SessionOver,
    Gone,
}

impl Reader {
    /// The next message; `None` when the client is gone. Nothing is lost when the future is dropped.
    async fn next(&mut self) -> Option<Message> {
        match self.held.take() {
            Some(message) => Some(message),
            None => self.stream.next().await?.ok(),
        }
    }

    /// Does `work`, and reads meanwhile.
    ///
    /// # Errors
    /// The client is gone, and the work is left.
    async fn beside<T>(&mut self, work: impl Future<Output = T>) -> Result<T, End> {
        let mut work = pin!(work);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return Ok(done),
                message = self.stream.next(), if self.held.is_none() => match message {
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                    Some(Ok(Message::Close(_)) | Err(_)) | None => return Err(End::Gone),
                    Some(Ok(message)) => self.held = Some(message),
                },
            }
        }
    }
}

/// The next message. What the session says meanwhile is taken.
async fn next(reader: &mut Reader, listening: Option<&mut Listening>) -> Next {
    let Some(listening) = listening else {
        return reader.next().await.map_or(Next::Gone, Next::Message);
    };
    loop {
        tokio::select! {
            message = reader.next() => return message.map_or(Next::Gone, Next::Message),
            event = listening.events.recv() => match event {
                Some(event) => listening.event(event),
                None => return Next::SessionOver,
            },
        }
    }
}

/// Opens a session that does nothing but listen.
fn open(engine: &Engine, options: &VoskOptions, config: &Config) -> Result<Listening, End> {
    if let Slot::Missing { reason, .. } = engine.registry().state(BackendKind::Stt) {
        tracing::warn!("a client of the Vosk protocol is refused, as there is no recogniser: {reason}");
        return Err(End::Refused(close_code::ERROR, "there is no recogniser".to_owned()));
    }
    let rate = config.sample_rate_hz.unwrap_or(DEFAULT_RATE_HZ);
    let resampler = Resampler::from_hz(rate, SampleRate::Hz16000)
        .map_err(|_| End::Refused(close_code::INVALID, "sample_rate can't be resampled".to_owned()))?;
    let call = engine
        .open(
            settings(&options.settings, config),
            WireProfile::paced(SampleRate::Hz16000),
        )
        .map_err(|refused| {
            tracing::warn!("a client of the Vosk protocol is refused: {refused}");
            End::Refused(close_code::AGAIN, "no more sessions are taken now".to_owned())
        })?;
    let Call {
        id,
        audio,
        commands,
        events,
        frames,
        clock,
    } = call;
    tracing::debug!(session = %id, "a client of the Vosk protocol speaks, at {rate} Hz");
    Ok(Listening {
        audio,
        commands,
        events,
        _frames: frames,
        clock,
        resampler,
        utterances: Utterances::default(),
        due: Time::ZERO,
        turn_began: None,
        state: None,
        pcm: Vec::new(),
        resampled: Vec::new(),
    })
}

/// The settings of a session that only listens.
fn settings(base: &Settings, config: &Config) -> Settings {
    let mut settings = base.clone();
    settings.stages = Stages {
        stt: true,
        llm: false,
        tts: false,
    };
    settings.turn_detection = TurnDetection::Server;
    settings.tools.clear();
    settings.keys = None;
    settings.approval = false;
    settings.instructions = Pii::default();
    settings.filler = Pii::default();
    settings.limits.idle_timeout_ms = 0;
    settings.limits.stt_final_timeout_ms = settings.limits.stt_final_timeout_ms.max(FINAL_TIMEOUT_MS);
    let cost = |hint: &str| u32::try_from(hint.len()).unwrap_or(u32::MAX).saturating_add(1);
    let mut bytes = settings
        .hints
        .iter()
        .fold(0, |sum: u32, hint| sum.saturating_add(cost(hint)));
    for phrase in config.phrase_list.iter().flatten() {
        // Vosk's word for all that isn't in the list.
        let phrase = phrase.expose().trim();
        if phrase.is_empty() || phrase == "[unk]" {
            continue;
        }
        bytes = bytes.saturating_add(cost(phrase));
        if bytes > MAX_HINTS_BYTES {
            break;
        }
        settings.hints.push(phrase.to_owned());
    }
    settings
}

/// The samples (signed 16 bits, little-endian) of a message. Where one is cut in two, its halves come together again.
fn take_samples(bytes: &[u8], carried: &mut Option<u8>, pcm: &mut Vec<i16>) {
    pcm.clear();
    let mut bytes = bytes;
    if let (Some(low), Some((high, rest))) = (*carried, bytes.split_first()) {
        pcm.push(i16::from_le_bytes([low, *high]));
        (*carried, bytes) = (None, rest);
    }
    let (pairs, rest) = bytes.as_chunks::<2>();
    pcm.extend(pairs.iter().map(|pair| i16::from_le_bytes(*pair)));
    if let [low] = rest {
        *carried = Some(*low);
    }
}

impl Listening {
    /// Gives what came to the session, and waits where a file would outrun it.
    async fn hear(&mut self) -> Result<(), Over> {
        let mut resampled = std::mem::take(&mut self.resampled);
        resampled.clear();
        self.resampler.process(&self.pcm, &mut resampled);
        let heard = self.give(&resampled).await;
        self.resampled = resampled;
        heard
    }

    async fn give(&mut self, pcm: &[i16]) -> Result<(), Over> {
        for piece in pcm.chunks(PIECE) {
            self.push(piece).await?;
            let length = Samples::new(piece.len() as u64).duration();
            self.due = self.due.max(self.clock.now()) + length;
            // The session is driven on this thread: it has a look before the answer.
            tokio::task::yield_now().await;
            self.take_events();
            self.keep_pace().await?;
        }
        Ok(())
    }

    /// Gives `piece` to the session, waiting for room; events make room as well.
    async fn push(&mut self, piece: &[i16]) -> Result<(), Over> {
        let mut rest = piece;
        poll_fn(|context| {
            while let Poll::Ready(event) = self.events.poll_recv(context) {
                let Some(event) = event else {
                    return Poll::Ready(Err(Over));
                };
                self.event(event);
            }
            while !rest.is_empty() {
                match std::task::ready!(self.audio.poll_push(context, rest)) {
                    Ok(taken) => rest = &rest[taken..],
                    Err(_) => return Poll::Ready(Err(Over)),
                }
            }
            Poll::Ready(Ok(()))
        })
        .await
    }

    /// Waits while audio comes faster than time goes by and there is something to wait for: the final words of what has ended, or, in a
    /// very long utterance, the time itself.
    async fn keep_pace(&mut self) -> Result<(), Over> {
        loop {
            let now = self.clock.now();
            if self.due.since(now) <= REAL_TIME {
                return Ok(());
            }
            let until = match self.turn_began {
                _ if self.utterances.awaits_final() => None,
                Some((due, at)) if self.due.since(due) > now.since(at) + MOST_AHEAD => {
                    Some(now + (self.due.since(due) - now.since(at) - MOST_AHEAD))
                }
                Some(_) | None => return Ok(()),
            };
            let waiting = async {
                match until {
                    Some(until) => sleep_until(self.clock.instant(until)).await,
                    // The session gives up by itself in the end, and says so.
                    None => std::future::pending().await,
                }
            };
            let event = tokio::select! {
                event = self.events.recv() => event.ok_or(Over)?,
                () = waiting => continue,
            };
            self.event(event);
        }
    }

    fn take_events(&mut self) {
        while let Ok(event) = self.events.try_recv() {
            self.event(event);
        }
    }

    fn event(&mut self, event: Event) {
        if let Event::Status(status) = &event {
            self.state = Some(status.turn.is_some());
        }
        self.utterances.event(event);
        if self.utterances.is_speaking() {
            let began = (self.due, self.clock.now());
            self.turn_began.get_or_insert(began);
        } else {
            self.turn_began = None;
        }
    }

    /// Ends what is being said, and waits until all final words are there.
    async fn settle(&mut self) -> Result<(), Over> {
        // What the resampler still holds is part of it.
        let mut tail = std::mem::take(&mut self.resampled);
        tail.clear();
        self.resampler.flush(&mut tail);
        let pushed = self.push(&tail).await;
        self.resampled = tail;
        pushed?;
        loop {
            // Whether a turn is open is asked, as its beginning may not have been told yet.
            self.state = None;
            self.commands.send(Command::Status).await.map_err(|_| Over)?;
            while self.state.is_none() {
                let event = self.events.recv().await.ok_or(Over)?;
                self.event(event);
            }
            if self.state == Some(false) {
                break;
            }
            self.commands.send(Command::Commit).await.map_err(|_| Over)?;
        }
        while self.utterances.awaits_final() {
            let event = self.events.recv().await.ok_or(Over)?;
            self.event(event);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_whole_however_the_messages_are_cut() {
        let bytes: Vec<u8> = (0..=255).collect();
        let whole: Vec<i16> = bytes
            .as_chunks::<2>()
            .0
            .iter()
            .map(|pair| i16::from_le_bytes(*pair))
            .collect();
        for size in 1..20 {
            let (mut carried, mut pcm, mut all) = (None, Vec::new(), Vec::new());
            for piece in bytes.chunks(size) {
                take_samples(piece, &mut carried, &mut pcm);
                all.extend_from_slice(&pcm);
                take_samples(&[], &mut carried, &mut pcm);
                assert!(pcm.is_empty());
            }
            assert_eq!((all.as_slice(), carried), (whole.as_slice(), None), "{size}");
        }
    }

    #[test]
    fn a_session_only_listens_and_its_hints_are_bounded() {
        let base = Settings {
            hints: vec!["ours".to_owned()],
            ..Settings::default()
        };
        let phrases = ["yes", " ", "[unk]", "no"].map(Into::into).to_vec();
        let config = Config {
            phrase_list: Some(phrases),
            ..Config::default()
        };
        let made = settings(&base, &config);
        assert_eq!(made.hints, ["ours", "yes", "no"]);
        assert!(made.stages.stt && !made.stages.llm && !made.stages.tts);
        assert_eq!(made.validate(), Ok(()));
        let config = Config {
            phrase_list: Some(vec!["x".repeat(1_000).as_str().into(); 10_000]),
            ..Config::default()
        };
        assert_eq!(settings(&base, &config).validate(), Ok(()));
    }
}
