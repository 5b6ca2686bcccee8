//! One call: `MEDIA_START`, then media and events in both directions until either side ends it.

use std::collections::VecDeque;
use std::future::{Future as _, poll_fn};
use std::pin::Pin;
use std::str;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use repartee_protocol::chan_websocket::{Command, CorrelationId, Event, MediaStart, Message, Style};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Sleep, sleep_until, timeout};

use super::facts;
use super::link::{Came, Gone, Link};
use super::media::Media;
use super::outbox::Outbox;
use super::queue::{Mark, Queue};
use crate::call::CloseReason;
use crate::engine::{Clock, OutFrame};
use crate::phone::{Announcement, Carrier, Happening, Key, Line, Phones};

/// How long `MEDIA_START` is waited for.
const START_WAIT: Duration = Duration::from_secs(10);
/// Media that may come before it, in bytes: Asterisk up to 22.7 sends a frame or two. Of more, the newest are kept.
const EARLY_BYTES: usize = 32_000;
/// How far ahead of their time frames go into Asterisk's queue: what the network may hold up before a hole is heard. A flush takes
/// them back.
const LEAD: Duration = Duration::from_millis(80);
/// Between two questions how long Asterisk's queue is.
const ASK: Duration = Duration::from_secs(2);
/// Frames of speech that wait while Asterisk's queue is full: a second.
const MOST_WAITING: usize = 50;
/// The far side closes after us, or doesn't.
const LINGER: Duration = Duration::from_secs(1);

/// Who ended the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The far side, or the connection.
    Theirs,
    /// Our side: it is to be told.
    Ours,
}

/// Serves one connection to its end. `permit` counts those that have not said yet which call they are; `called` is the connection's id,
/// where we have called.
pub(super) async fn serve(
    mut link: Link,
    phones: Phones,
    permit: Option<OwnedSemaphorePermit>,
    called: Option<String>,
) {
    let clock = Clock::start();
    let begun = match timeout(START_WAIT, begin(&mut link)).await {
        Ok(Some(begun)) => begun,
        Ok(None) => return,
        Err(_) => {
            tracing::debug!("a connection has not begun a call");
            return hang_up(link, Outbox::new(Style::Json), clock, End::Theirs).await;
        }
    };
    drop(permit);
    let mut outbox = Outbox::new(begun.style);
    match open(&begun, &phones, called) {
        Some((media, line)) => {
            let queued = media.is_queued();
            // With `n` in the dial string the channel rings until it is told; one that is up stays up (22.10.1).
            outbox.command(Command::Answer);
            let mut call = Call {
                clock: line.clock(),
                link,
                outbox,
                queue: Queue::new(queued && begun.knows_marks()),
                media,
                waiting: VecDeque::new(),
                ask: Box::pin(sleep_until(line.clock().instant(line.clock().now() + ASK))),
                line,
            };
            for media in &begun.early {
                call.hear(media);
            }
            let end = poll_fn(|context| call.poll(context)).await;
            let Call {
                link,
                outbox,
                queue,
                line,
                ..
            } = call;
            if queue.flushed() > 0 {
                tracing::debug!(
                    session = %line.session(),
                    "Asterisk's queue stood {} times, and was emptied",
                    queue.flushed()
                );
            }
            // The session is over when the line is; the goodbye on the wire holds nobody up.
            drop(line);
            hang_up(link, outbox, clock, end).await;
        }
        None => hang_up(link, outbox, clock, End::Ours).await,
    }
}

/// What came until the call had begun.
struct Begun {
    style: Style,
    channel: Option<String>,
    start: Box<MediaStart>,
    early: VecDeque<Bytes>,
}

impl Begun {
    /// Whether this Asterisk may know marks: 22.8 does, and writes JSON or names the channel in plain text; 22.6 does neither.
    const fn knows_marks(&self) -> bool {
        matches!(self.style, Style::Json) || self.channel.is_some()
    }
}

/// Waits for `MEDIA_START`; `None` when the connection ends before.
async fn begin(link: &mut Link) -> Option<Begun> {
    let mut early = VecDeque::new();
    let mut bytes = 0;
    loop {
        match poll_fn(|context| link.poll_next(context)).await? {
            Came::Media(media) => {
                bytes += media.len();
                early.push_back(media);
                while bytes > EARLY_BYTES
                    && let Some(oldest) = early.pop_front()
                {
                    bytes -= oldest.len();
                }
            }
            Came::Text(text) => {
                if let Some((style, message)) = read(&text)
                    && let Event::MediaStart(start) = message.event
                {
                    return Some(Begun {
                        style,
                        channel: message.channel_id,
                        start,
                        early,
                    });
                }
            }
            Came::Nothing => {}
        }
    }
}

fn read(text: &[u8]) -> Option<(Style, Message)> {
    let text = str::from_utf8(text).ok()?;
    match Message::parse(text) {
        Ok(message) => Some((Style::of(text), message)),
        Err(error) => {
            tracing::debug!(%error, "an event that can't be read");
            None
        }
    }
}

/// Opens the session of a call that has begun; `None` when there is none to be had.
fn open(begun: &Begun, phones: &Phones, called: Option<String>) -> Option<(Media, Line)> {
    let start = &begun.start;
    let media = match Media::new(start) {
        Ok(Some(media)) => media,
        Ok(None) => {
            tracing::warn!(
                "a channel speaks {:?}, which isn't known here: add c(slin16) to Dial(WebSocket/…)",
                start.format.name()
            );
            return None;
        }
        Err(error) => {
            tracing::warn!(%error, "a call can't be answered");
            return None;
        }
    };
    let carrier = Carrier {
        wire: "chan_websocket",
        rate: media.rate(),
        lead: if media.is_queued() { LEAD } else { Duration::ZERO },
        continuous: true,
    };
    let announced = announcement(begun, phones, called);
    match phones.answer(carrier, facts::of(begun.channel.as_deref(), start), announced) {
        Ok(line) => Some((media, line)),
        Err(refused) => {
            tracing::warn!("a call is refused: {refused}");
            None
        }
    }
}

/// What was announced of it: by its channel, or by the connection that we were told to open.
fn announcement(begun: &Begun, phones: &Phones, called: Option<String>) -> Option<Announcement> {
    let names = [begun.channel.clone(), Some(begun.start.connection_id.clone()), called];
    names
        .into_iter()
        .flatten()
        .filter(|name| !name.is_empty())
        .find_map(|name| phones.announced().take(&Key::Channel(name)))
}

/// A call that goes on.
struct Call {
    clock: Clock,
    link: Link,
    outbox: Outbox,
    queue: Queue,
    media: Media,
    /// Frames of speech that wait while Asterisk's queue is full.
    waiting: VecDeque<OutFrame>,
    /// When the status is asked for next.
    ask: Pin<Box<Sleep>>,
    line: Line,
}

impl Call {
    /// Both directions, until either ends.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<End> {
        match self.turn(context) {
            Poll::Ready(Ok(end)) => Poll::Ready(end),
            Poll::Ready(Err(Gone)) => Poll::Ready(End::Theirs),
            Poll::Pending => Poll::Pending,
        }
    }

    fn turn(&mut self, context: &mut Context<'_>) -> Poll<Result<End, Gone>> {
        loop {
            // Frames first: they have deadlines. A peer that sends without end delays none by more than one message.
            let mut is_idle = true;
            if let Poll::Ready(happening) = self.line.poll(context) {
                is_idle = false;
                match happening {
                    Happening::Frame(frame) => self.frame(context, frame)?,
                    Happening::Flush => self.flush(),
                    Happening::Over(CloseReason::TooSlow) => return Poll::Ready(Ok(End::Theirs)),
                    Happening::Over(_) => return Poll::Ready(Ok(End::Ours)),
                }
            }
            if let Poll::Ready(came) = self.link.poll_next(context) {
                is_idle = false;
                match came.ok_or(Gone)? {
                    Came::Media(media) => self.hear(&media),
                    Came::Text(text) => self.text(&text),
                    Came::Nothing => {}
                }
            }
            if self.ask.as_mut().poll(context).is_ready() {
                is_idle = false;
                self.ask();
            }
            // Whether the socket takes it at once or later: what has a place in it is on its way.
            let _ = self.outbox.poll(context, self.clock.now(), &mut self.link)?;
            if is_idle {
                return Poll::Pending;
            }
        }
    }

    fn hear(&mut self, media: &[u8]) {
        let (pcm, hz) = self.media.decode(media);
        if !pcm.is_empty() {
            self.line.hear(pcm, hz);
        }
    }

    /// A frame is due, or as far ahead of its time as it goes.
    fn frame(&mut self, context: &mut Context<'_>, frame: OutFrame) -> Result<(), Gone> {
        if !self.queue.is_full() && self.waiting.is_empty() {
            return self.send(context, &frame);
        }
        // Silence is what a full queue needs least. Speech waits, but not for ever.
        if frame.response.is_none() || self.waiting.len() >= MOST_WAITING {
            self.line.note_unsent();
        } else {
            self.waiting.push_back(frame);
        }
        self.send_waiting(context)
    }

    fn send_waiting(&mut self, context: &mut Context<'_>) -> Result<(), Gone> {
        while !self.queue.is_full()
            && let Some(frame) = self.waiting.pop_front()
        {
            self.send(context, &frame)?;
        }
        Ok(())
    }

    fn send(&mut self, context: &mut Context<'_>, frame: &OutFrame) -> Result<(), Gone> {
        let Some(message) = self.media.encode(frame.pcm()) else {
            return Ok(());
        };
        if !self.outbox.media(context, self.clock.now(), &mut self.link, message)? {
            self.line.note_unsent();
            return Ok(());
        }
        if self.media.is_queued()
            && let Some(mark) = self.queue.sent(frame.due, frame.response.is_some())
            && let Ok(name) = CorrelationId::new(mark.name())
        {
            self.outbox.command(Command::MarkMedia(Some(&name)));
        }
        Ok(())
    }

    /// What Asterisk holds is not to be heard any more.
    fn flush(&mut self) {
        self.media.forget();
        self.waiting.clear();
        if !self.media.is_queued() {
            return;
        }
        self.outbox.command(Command::FlushMedia);
        if self.queue.is_paused() {
            self.outbox.command(Command::ContinueMedia);
        }
        if let Some(delay) = self.queue.flush() {
            self.line.note_delay(delay);
        }
    }

    fn ask(&mut self) {
        let now = self.clock.now();
        self.ask.as_mut().reset(self.clock.instant(now + ASK));
        if self.media.is_queued() && self.queue.ask() {
            self.outbox.command(Command::GetStatus);
        }
    }

    fn text(&mut self, text: &[u8]) {
        let Some((_, message)) = read(text) else { return };
        match message.event {
            Event::Dtmf(digit) => self.line.key(digit.key()),
            Event::MarkProcessed(Some(name)) => {
                if let Some(mark) = Mark::read(name.as_str())
                    && let Some(delay) = self.queue.marked(self.clock.now(), mark)
                {
                    self.line.note_delay(delay);
                }
            }
            Event::Status(status) => {
                if self.queue.status(self.clock.now(), &status) {
                    self.flush();
                }
            }
            Event::Xoff => {
                self.queue.set_full(true);
                self.ask();
            }
            Event::Xon => self.queue.set_full(false),
            Event::Error(_) => {
                tracing::debug!("Asterisk refuses a command");
                self.queue.refused();
            }
            // A second beginning is none; of what was flushed, and of what was not asked for, nothing is to be known.
            Event::MediaStart(_)
            | Event::MarkProcessed(None)
            | Event::BufferingCompleted(_)
            | Event::QueueDrained
            | Event::Unknown(_) => {}
        }
    }
}

/// Ends the connection: tells Asterisk, where we end it, and reads to the end, since a socket that is closed over unread media is reset,
/// which may take the goodbye with it.
async fn hang_up(mut link: Link, mut outbox: Outbox, clock: Clock, end: End) {
    if end == End::Ours {
        outbox.command(Command::Hangup);
    }
    // A close of theirs is answered by what follows here, too.
    let mut is_closed = end == End::Theirs;
    let farewell = poll_fn(|context| {
        loop {
            match outbox.poll(context, clock.now(), &mut link) {
                Poll::Ready(Ok(())) if !is_closed => {
                    is_closed = true;
                    if link.send_close().is_err() {
                        return Poll::Ready(());
                    }
                    continue;
                }
                Poll::Ready(Err(Gone)) => return Poll::Ready(()),
                Poll::Ready(Ok(())) | Poll::Pending => {}
            }
            if ready!(link.poll_next(context)).is_none() {
                return Poll::Ready(());
            }
        }
    });
    // Whoever is gone needs no goodbye.
    let _ = timeout(LINGER, farewell).await;
}
