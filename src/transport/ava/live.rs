//! The session of a connection: audio in, news out, and a quiet point where a new reply may begin.
//!
//! "The latest wins" needs one: what is under way is cancelled, and the session is asked for its state. Until it answers, whatever it
//! still says belongs to the past and isn't passed on. Then, once a reply that was being heard has stopped, what was to follow is done.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future as _;
use std::task::{Context, Poll};

use repartee_protocol::ava::AudioMode;
use tokio::sync::mpsc;

use super::speaker::Speaker;
use crate::call::{Command, Event};
use crate::engine::{AudioSender, Call, Clock, CommandRefused, Commands, FrameReceiver, OutFrame};
use crate::id::{ResponseId, SessionId};
use crate::pii::Pii;
use crate::time::Time;

/// Audio (samples) that may wait for the session before nothing more is read: a minute.
const BACKLOG: usize = 60 * 16_000;

/// What is done at the next quiet point.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Then {
    /// The last reply is forgotten, with its question.
    RollBack,
    /// The language model is asked.
    Respond,
    /// This is said.
    Say { text: Pii<String>, mode: AudioMode },
}

/// A response that was announced and isn't over.
pub(super) struct Told {
    pub(super) mode: AudioMode,
    /// Whether it is the language model's; until its first text nobody knows.
    pub(super) is_reply: Option<bool>,
    /// It was cancelled: nothing of it is passed on.
    pub(super) dead: bool,
    pub(super) text: String,
    /// Audio of it was sent.
    pub(super) voiced: bool,
}

/// Something that the session was told to say.
struct Saying {
    text: Pii<String>,
    mode: AudioMode,
    dead: bool,
}

/// What the session has for its connection.
pub(super) enum News {
    Frame(Box<OutFrame>),
    Event(Event),
    Over,
}

pub(super) struct Live {
    pub(super) id: SessionId,
    pub(super) commands: Commands,
    pub(super) clock: Clock,
    pub(super) speaker: Speaker,
    pub(super) told: BTreeMap<ResponseId, Told>,
    /// A turn is open.
    pub(super) turn_is_open: bool,
    /// The open turn was ended because no audio came.
    pub(super) idle: bool,
    /// When audio last came.
    pub(super) heard_at: Time,
    pub(super) last_partial: String,
    audio: AudioSender,
    events: mpsc::Receiver<Event>,
    frames: FrameReceiver,
    backlog: VecDeque<i16>,
    says: VecDeque<Saying>,
    /// States that were asked for and not told yet.
    deaf: u32,
    /// A cancelled response that is still being stopped.
    stopping: Option<ResponseId>,
    then: VecDeque<Then>,
}

impl Live {
    pub(super) fn new(call: Call) -> Self {
        let Call {
            id,
            audio,
            commands,
            events,
            frames,
            clock,
        } = call;
        Self {
            id,
            commands,
            clock,
            speaker: Speaker::default(),
            told: BTreeMap::new(),
            turn_is_open: false,
            idle: false,
            heard_at: Time::ZERO,
            last_partial: String::new(),
            audio,
            events,
            frames,
            backlog: VecDeque::new(),
            says: VecDeque::new(),
            deaf: 0,
            stopping: None,
            then: VecDeque::new(),
        }
    }

    /// Takes audio (16 kHz) for the session.
    pub(super) fn hear(&mut self, pcm: &[i16]) {
        self.heard_at = self.clock.now();
        self.backlog.extend(pcm);
    }

    /// Whether so much audio waits that no more should be read.
    pub(super) fn is_full(&self) -> bool {
        self.backlog.len() >= BACKLOG
    }

    /// Whether the session has all audio that has come.
    pub(super) fn has_all(&self) -> bool {
        self.backlog.is_empty()
    }

    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<News> {
        while !self.backlog.is_empty() {
            let (front, _) = self.backlog.as_slices();
            match self.audio.poll_push(context, front) {
                Poll::Ready(Ok(taken)) => drop(self.backlog.drain(..taken)),
                // The end is told by the events.
                Poll::Ready(Err(_)) => self.backlog.clear(),
                Poll::Pending => break,
            }
        }
        if let Poll::Ready(Some(frame)) = self.frames.poll_recv(context) {
            return Poll::Ready(News::Frame(Box::new(frame)));
        }
        match self.events.poll_recv(context) {
            Poll::Ready(Some(event)) => Poll::Ready(News::Event(event)),
            Poll::Ready(None) => Poll::Ready(News::Over),
            Poll::Pending => Poll::Pending,
        }
    }

    /// An event that has come already.
    pub(super) fn next_event(&mut self) -> Option<Event> {
        self.events.try_recv().ok()
    }

    /// A frame that has come already.
    pub(super) fn next_frame(&mut self) -> Option<OutFrame> {
        let mut context = Context::from_waker(std::task::Waker::noop());
        let next = std::pin::pin!(self.frames.recv());
        match next.poll(&mut context) {
            Poll::Ready(frame) => frame,
            Poll::Pending => None,
        }
    }

    /// Tells the session; false when it is over or takes nothing.
    pub(super) fn command(&self, command: Command) -> bool {
        match self.commands.try_send(command) {
            Ok(()) => true,
            Err(CommandRefused::Full) => {
                tracing::warn!(session = %self.id, "too many commands wait; one was dropped");
                false
            }
            Err(CommandRefused::Over) => false,
        }
    }

    /// Cancels what is under way and forgets what was to follow. Nothing of it is passed on any more.
    pub(super) fn hush(&mut self) {
        self.speaker.clear();
        self.then.retain(|then| *then == Then::RollBack);
        for told in self.told.values_mut() {
            told.dead = true;
        }
        for saying in &mut self.says {
            saying.dead = true;
        }
        if self.command(Command::Cancel { response: None }) && self.command(Command::Status) {
            self.deaf += 1;
        }
    }

    /// Does this at the next quiet point.
    pub(super) fn then(&mut self, then: Then) {
        self.then.push_back(then);
    }

    /// Whether what the session says belongs to the past.
    pub(super) fn is_deaf(&self) -> bool {
        self.deaf > 0
    }

    /// The session has told its state: the past ends here, but for a response that is still being stopped.
    pub(super) fn state_told(&mut self, live: Option<ResponseId>) {
        self.deaf = self.deaf.saturating_sub(1);
        if self.deaf == 0 {
            // A saying may have begun in place of what was cancelled: it is dead as well.
            self.stopping = live;
            if let Some(live) = live {
                self.command(Command::Cancel { response: Some(live) });
            }
        }
    }

    /// What is to be done now, one after the other.
    pub(super) fn next_then(&mut self) -> Option<Then> {
        if self.deaf > 0 || self.stopping.is_some() {
            return None;
        }
        self.then.pop_front()
    }

    /// The session is to say this; it is known again by its text.
    pub(super) fn saying(&mut self, text: Pii<String>, mode: AudioMode) {
        self.says.push_back(Saying {
            text,
            mode,
            dead: false,
        });
    }

    pub(super) fn started(&mut self, response: ResponseId) {
        let is_deaf = self.is_deaf();
        self.told.entry(response).or_insert(Told {
            mode: AudioMode::Full,
            is_reply: None,
            dead: is_deaf,
            text: String::new(),
            voiced: false,
        });
    }

    /// More text of a response; the first tells whether it is something that it was told to say. Answers whether it counts.
    pub(super) fn text(&mut self, response: ResponseId, delta: &str) -> bool {
        let Some(told) = self.told.get_mut(&response) else {
            return false;
        };
        if told.is_reply.is_none() {
            let known = self.says.iter().position(|saying| saying.text.expose() == delta);
            told.is_reply = Some(known.is_none());
            if let Some(saying) = known.and_then(|index| self.says.remove(index)) {
                told.mode = saying.mode;
                if saying.dead && !told.dead {
                    told.dead = true;
                    let cancel = Command::Cancel {
                        response: Some(response),
                    };
                    // A session that is over says nothing more anyway.
                    let _ = self.commands.try_send(cancel);
                }
            }
        }
        if told.dead {
            return false;
        }
        told.text.push_str(delta);
        true
    }

    pub(super) fn over(&mut self, response: ResponseId) -> Option<Told> {
        self.stopping.take_if(|stopping| *stopping == response);
        self.told.remove(&response)
    }
}
