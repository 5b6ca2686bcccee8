//! One connection: `start` says which call it is, then sound in both directions until either side ends it.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket, close_code};
use futures_util::stream::SplitStream;
use futures_util::{SinkExt as _, StreamExt as _};
use repartee_protocol::twilio::{self, Event, MAX_AUDIO_BYTES, Start, StreamSid};
use tokio::time::{sleep_until, timeout};

use super::TwilioOptions;
use super::marks::Marks;
use super::outbox::{Outbox, Sink};
use crate::access;
use crate::audio::{SampleRate, g711};
use crate::call::CloseReason;
use crate::engine::{Clock, OutFrame};
use crate::phone::{Carrier, Facts, Happening, Line, Phones};
use crate::time::Time;

/// How far ahead of its time a reply's frame is sent: what the internet holds up now and then.
const LEAD: Duration = Duration::from_millis(200);
/// Twilio sends 50 messages a second as long as the call lasts: when nothing has come for so long, it is gone.
const VANISHED: Duration = Duration::from_secs(30);
/// The last words are on their way when the call ends: their mark is waited for, but not longer than this.
const LAST_WORDS: Duration = Duration::from_millis(1_500);
/// The other side answers a close, or doesn't: it is not waited for longer than this.
const LINGER: Duration = Duration::from_secs(2);
/// So many messages in a row that make no sense: this is not Twilio.
const MOST_RUBBISH: u32 = 50;
/// The parameter that carries the access token.
const TOKEN: &str = "token";

/// Serves one connection to its end.
pub(super) async fn serve(socket: WebSocket, phones: Phones, options: Arc<TwilioOptions>) {
    let (sink, stream) = socket.split();
    let mut socket = Socket { sink, stream };
    let start = match timeout(options.start_timeout, first_message(&mut socket.stream)).await {
        Ok(Some(start)) => start,
        Ok(None) => return socket.close(close_code::POLICY, "this is Twilio's <Stream>").await,
        Err(_) => return socket.close(close_code::POLICY, "no start came").await,
    };
    if !access::token_is_right(options.token.as_deref(), start.parameters.value(TOKEN)) {
        tracing::warn!("a stream of Twilio is refused: its parameter {TOKEN:?} is missing or wrong");
        return socket
            .close(close_code::POLICY, "the parameter token is missing or wrong")
            .await;
    }
    if !start.is_mulaw() {
        tracing::warn!("a stream of Twilio is refused: it isn't µ-law at 8 kHz in one channel");
        return socket
            .close(close_code::UNSUPPORTED, "only audio/x-mulaw at 8000 Hz")
            .await;
    }
    let carrier = Carrier {
        wire: "twilio",
        rate: SampleRate::Hz8000,
        lead: LEAD,
        continuous: false,
    };
    let mut line = match phones.answer(carrier, facts(&start), None) {
        Ok(line) => line,
        Err(refused) => {
            tracing::warn!("a call is refused: {refused}");
            return socket.close(close_code::AGAIN, "no more calls are taken now").await;
        }
    };
    let clock = line.clock();
    let mut connection = Connection {
        socket,
        stream_sid: start.stream_sid,
        clock,
        seen: clock.now(),
        outbox: Outbox::default(),
        marks: Marks::default(),
        mulaw: Vec::with_capacity(MAX_AUDIO_BYTES),
        pcm: Vec::with_capacity(MAX_AUDIO_BYTES),
        rubbish: 0,
    };
    let end = connection.run(&mut line).await;
    if matches!(end, End::Ours) {
        // The line holds the session's place: an engine that goes away waits until the goodbye was heard.
        let _ = timeout(LAST_WORDS, connection.last_words()).await;
    }
    drop(line);
    connection.socket.close(close_code::NORMAL, "").await;
}

/// What a call is, as far as `start` says. TwiML passes the caller's numbers on as parameters, under whatever names.
fn facts(start: &Start) -> Facts {
    let given = |names: &[&str]| {
        let found = start
            .parameters
            .iter()
            .find(|(name, _)| names.iter().any(|known| name.eq_ignore_ascii_case(known)));
        found.map_or("", |(_, value)| value)
    };
    let (callers, names, dialled) = (
        ["caller", "from"],
        ["caller_name", "callerName"],
        ["to", "called", "dialled"],
    );
    let mut facts = Facts::of_call(&start.call_sid).with_numbers(given(&callers), given(&names), given(&dialled));
    for (name, value) in start.parameters.iter() {
        let is_known = [TOKEN]
            .iter()
            .chain(&callers)
            .chain(&names)
            .chain(&dialled)
            .any(|known| name.eq_ignore_ascii_case(known));
        if !is_known {
            facts.add_variable(name, value);
        }
    }
    facts
}

/// `start`, which comes after `connected`. `None` when something else comes, or the connection ends.
async fn first_message(stream: &mut SplitStream<WebSocket>) -> Option<Box<Start>> {
    let mut messages = 0;
    while messages < MOST_RUBBISH {
        match stream.next().await?.ok()? {
            Message::Text(text) => match Event::parse(&text) {
                Ok(Event::Start(start)) => return Some(start),
                Ok(Event::Stop) | Err(_) => return None,
                Ok(_) => {}
            },
            Message::Ping(_) | Message::Pong(_) => {}
            Message::Binary(_) | Message::Close(_) => return None,
        }
        messages += 1;
    }
    None
}

/// Who ended the call.
enum End {
    /// The far side, or the connection.
    Theirs,
    /// Our side.
    Ours,
}

struct Socket {
    sink: Sink,
    stream: SplitStream<WebSocket>,
}

impl Socket {
    /// Closes, and reads to the end: whose close came first is only answered by reading on.
    async fn close(mut self, code: u16, reason: &'static str) {
        let farewell = async {
            let close = CloseFrame {
                code,
                reason: reason.into(),
            };
            // Whoever is gone needs no goodbye.
            let _ = self.sink.send(Message::Close(Some(close))).await;
            while let Some(Ok(_)) = self.stream.next().await {}
        };
        let _ = timeout(LINGER, farewell).await;
    }
}

struct Connection {
    socket: Socket,
    stream_sid: StreamSid,
    clock: Clock,
    /// When something last came.
    seen: Time,
    outbox: Outbox,
    marks: Marks,
    mulaw: Vec<u8>,
    pcm: Vec<i16>,
    rubbish: u32,
}

impl Connection {
    /// Both directions, until either ends.
    async fn run(&mut self, line: &mut Line) -> End {
        loop {
            let vanished = self.seen + VANISHED;
            let deadline = self.marks.deadline().map_or(vanished, |mark| mark.min(vanished));
            let over = tokio::select! {
                happening = line.next() => match happening {
                    Happening::Frame(frame) => self.send_frame(line, &frame),
                    Happening::Flush => self.send_clear(),
                    Happening::Over(CloseReason::TooSlow) => true,
                    Happening::Over(_) => return End::Ours,
                },
                message = self.socket.stream.next() => match message {
                    Some(Ok(message)) => self.message(line, &message),
                    Some(Err(_)) | None => true,
                },
                sent = self.outbox.send(&mut self.socket.sink), if self.outbox.is_waiting() => sent.is_err(),
                () = sleep_until(self.clock.instant(deadline)) => self.tick(),
            };
            if over {
                return End::Theirs;
            }
        }
    }

    /// Sends a frame, and a mark where one is due. Whether the connection is over.
    fn send_frame(&mut self, line: &mut Line, frame: &OutFrame) -> bool {
        let now = self.clock.now();
        self.mulaw.clear();
        g711::mu_law_encode_into(frame.pcm(), &mut self.mulaw);
        let mut text = String::with_capacity(320);
        twilio::write_media(&self.stream_sid, &self.mulaw, &mut text);
        match self.outbox.push(now, text) {
            Ok(true) => self.marks.frame(now, frame.due) && self.send_mark(),
            Ok(false) => {
                line.note_unsent();
                false
            }
            Err(_) => true,
        }
    }

    fn send_mark(&mut self) -> bool {
        let mut text = String::with_capacity(128);
        let name = self.marks.mark().to_string();
        twilio::write_mark(&self.stream_sid, &name, &mut text);
        // One that isn't sent is never waited for long.
        self.outbox.push(self.clock.now(), text).is_err()
    }

    /// What Twilio holds of the reply is not to be heard any more, nor what waits here.
    fn send_clear(&mut self) -> bool {
        self.outbox.clear();
        self.marks.clear();
        let mut text = String::with_capacity(96);
        twilio::write_clear(&self.stream_sid, &mut text);
        self.outbox.push(self.clock.now(), text).is_err()
    }

    /// Time has passed. Whether the connection is over.
    fn tick(&mut self) -> bool {
        let now = self.clock.now();
        if now >= self.seen + VANISHED {
            tracing::debug!("nothing comes of a stream of Twilio any more");
            return true;
        }
        self.marks.deadline().is_some_and(|mark| now >= mark) && self.send_mark()
    }

    /// Something came. Whether the connection is over.
    fn message(&mut self, line: &mut Line, message: &Message) -> bool {
        self.seen = self.clock.now();
        let event = match message {
            Message::Text(text) => Event::parse(text),
            Message::Ping(_) | Message::Pong(_) => return false,
            Message::Close(_) => return true,
            Message::Binary(_) => Err(twilio::EventError::Malformed),
        };
        let understood = match event {
            Ok(Event::Media(media)) if media.is_inbound => media.decode(&mut self.mulaw).map(|()| {
                self.pcm.clear();
                g711::mu_law_decode_into(&self.mulaw, &mut self.pcm);
                // The arrivals are the clock: what `timestamp` says isn't needed, nor is it trusted.
                line.hear(&self.pcm, twilio::SAMPLE_RATE_HZ);
            }),
            Ok(Event::Dtmf(digit)) => {
                line.key(digit.key());
                Ok(())
            }
            Ok(Event::Mark { name }) => {
                if let Some(delay) = self.marks.came_back(self.seen, &name) {
                    line.note_delay(delay);
                }
                Ok(())
            }
            Ok(Event::Stop) => return true,
            Ok(_) => Ok(()),
            Err(error) => Err(error),
        };
        match understood {
            Ok(()) => {
                self.rubbish = 0;
                false
            }
            Err(error) => {
                self.rubbish += 1;
                if self.rubbish == 1 {
                    tracing::debug!(%error, "a message of Twilio is skipped");
                }
                self.rubbish >= MOST_RUBBISH
            }
        }
    }

    /// Waits until what was sent has been played: a socket that is closed cuts it off.
    async fn last_words(&mut self) {
        if self.marks.is_due() {
            self.send_mark();
        }
        while self.marks.is_waiting() || self.outbox.is_waiting() {
            tokio::select! {
                message = self.socket.stream.next() => match message {
                    Some(Ok(Message::Text(text))) => match Event::parse(&text) {
                        Ok(Event::Mark { name }) => {
                            self.marks.came_back(self.clock.now(), &name);
                        }
                        Ok(Event::Stop) => return,
                        _ => {}
                    },
                    Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                    Some(Ok(_)) => {}
                },
                sent = self.outbox.send(&mut self.socket.sink), if self.outbox.is_waiting() => {
                    if sent.is_err() {
                        return;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(parameters: &str) -> Start {
        let text = format!(
            r#"{{"event":"start","start":{{"streamSid":"MZ1","callSid":"CA1","customParameters":{parameters}}},"streamSid":"MZ1"}}"#
        );
        match Event::parse(&text) {
            Ok(Event::Start(start)) => *start,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn parameters_become_facts_and_the_token_none() {
        let start =
            start(r#"{"From":"+4930123","to":"200","CallerName":"Ann","plan":"gold","TOKEN":"secret","caller":"x"}"#);
        let facts = facts(&start);
        assert_eq!(facts.call.as_deref(), Some("CA1"));
        let told = |fact: &Option<crate::pii::Pii<String>>| fact.as_ref().map(|fact| fact.expose().clone());
        assert_eq!(told(&facts.caller).as_deref(), Some("+4930123"));
        assert_eq!(told(&facts.caller_name).as_deref(), Some("Ann"));
        assert_eq!(told(&facts.dialled).as_deref(), Some("200"));
        let rest: Vec<_> = facts
            .variables
            .iter()
            .map(|(name, value)| (name.as_str(), value.expose().as_str()))
            .collect();
        assert_eq!(rest, [("plan", "gold")]);
        assert!(!format!("{facts:?}").contains("secret"));
    }
}
