//! One piece of work on a worker's link, as the engine sees it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use repartee_protocol::worker::{
    Credit, Done, Failed, FinalText, Marks, Partial, Score, StreamId, Text, ToEngine, ToWorker, Token, ToolCall, code,
};

use super::link::Link;
use crate::id::Generation;

/// How many events a stream keeps for a reader that doesn't come. Data is bounded by credit and partials replace one another, so only a
/// worker that breaks the rules gets there.
const MOST_EVENTS: usize = 4096;

/// What a worker says on a stream.
#[derive(Clone, Debug, PartialEq)]
pub enum StreamEvent {
    /// A transcript so far.
    Partial(Partial),
    /// A transcript.
    Final(FinalText),
    /// Mono PCM, 16 bit, little endian.
    Audio(Bytes),
    /// When words are heard.
    Marks(Marks),
    /// A piece of an answer.
    Token(Token),
    /// A call of a tool.
    ToolCall(ToolCall),
    /// What a VAD or turn model thinks.
    Score(Score),
    /// The good end.
    Done(Done),
    /// The bad end.
    Failed(Failed),
    /// The worker is gone, and with it the stream.
    Lost {
        /// Which load it was.
        generation: Generation,
        /// How it ended, and its last words.
        reason: String,
        /// Which of the streams that were lost with it this is, from 0: for [`spread`](super::spread).
        position: u32,
    },
}

impl StreamEvent {
    /// Whether it's the last one.
    #[must_use]
    pub const fn is_end(&self) -> bool {
        matches!(self, Self::Done(_) | Self::Failed(_) | Self::Lost { .. })
    }
}

/// What came of sending data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// All of it is on its way.
    Taken,
    /// None of it was taken: the worker is behind. Whoever polls the stream is woken when there's room.
    Full,
}

/// A stream. Dropping it cancels it.
#[derive(Debug)]
pub struct Stream {
    link: Arc<Link>,
    shared: Arc<Shared>,
    id: StreamId,
}

/// What the link's reading task and the stream's owner share.
#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    events: VecDeque<(StreamEvent, u64)>,
    waker: Option<Waker>,
    /// Bytes of data that may still be sent.
    allowance: i64,
    /// Bytes of data that the worker may still send.
    window: i64,
    /// Bytes of data that were taken by the owner and not given back as credit yet.
    taken: u64,
    /// The last event has been put into the queue.
    ended: bool,
    finished: bool,
}

impl Shared {
    pub(super) fn new(allowance: u64, window: u64) -> Self {
        let clamp = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX).min(i64::MAX / 4);
        let (allowance, window) = (clamp(allowance), clamp(window));
        let state = State {
            events: VecDeque::new(),
            waker: None,
            allowance,
            window,
            taken: 0,
            ended: false,
            finished: false,
        };
        Self {
            state: Mutex::new(state),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a message from the worker. `cost` is the length of its frame. Tells whether the stream has ended.
    pub(super) fn take(&self, id: StreamId, message: ToEngine, payload: Bytes, cost: u64) -> bool {
        let mut state = self.lock();
        if state.ended {
            return true;
        }
        let event = match message {
            ToEngine::Credit(Credit { n, .. }) => {
                state.allowance = state.allowance.saturating_add(i64::try_from(n).unwrap_or(i64::MAX / 4));
                return state.wake(false);
            }
            ToEngine::Partial(partial) => {
                // Nobody wants an older one.
                if matches!(state.events.back(), Some((StreamEvent::Partial(_), _))) {
                    state.events.pop_back();
                }
                StreamEvent::Partial(partial)
            }
            ToEngine::Final(text) => StreamEvent::Final(text),
            ToEngine::Audio { .. } => StreamEvent::Audio(payload),
            ToEngine::Marks(marks) => StreamEvent::Marks(marks),
            ToEngine::Token(token) => StreamEvent::Token(token),
            ToEngine::ToolCall(call) => StreamEvent::ToolCall(call),
            ToEngine::Score(score) => StreamEvent::Score(score),
            ToEngine::Done(done) => StreamEvent::Done(done),
            ToEngine::Failed(failed) => StreamEvent::Failed(failed),
            ToEngine::Hello(_)
            | ToEngine::Ready(_)
            | ToEngine::LoadFailed(_)
            | ToEngine::Pong(_)
            | ToEngine::Error { .. } => return false,
        };
        let cost = if matches!(event, StreamEvent::Audio(_) | StreamEvent::Token(_)) {
            cost
        } else {
            0
        };
        let overrun = (cost > 0 && state.window <= 0) || state.events.len() >= MOST_EVENTS;
        let event = if overrun {
            let message = "the worker sent more than it had credit for".to_owned();
            StreamEvent::Failed(Failed {
                stream: id,
                code: code::CREDIT.into(),
                message,
            })
        } else {
            state.window -= i64::try_from(cost).unwrap_or(i64::MAX / 4);
            event
        };
        state.ended = event.is_end();
        state.events.push_back((event, cost));
        let ended = state.ended;
        state.wake(ended)
    }

    /// The worker is gone.
    pub(super) fn lose(&self, generation: Generation, reason: &str, position: u32) {
        let mut state = self.lock();
        if !state.ended {
            state.ended = true;
            state.events.push_back((
                StreamEvent::Lost {
                    generation,
                    reason: reason.to_owned(),
                    position,
                },
                0,
            ));
            state.wake(true);
        }
    }

    /// There's room on the link again.
    pub(super) fn wake(&self) {
        self.lock().wake(false);
    }
}

impl State {
    /// Wakes the owner, and tells what it was told.
    fn wake(&mut self, ended: bool) -> bool {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
        ended
    }
}

impl Stream {
    pub(super) const fn new(link: Arc<Link>, shared: Arc<Shared>, id: StreamId) -> Self {
        Self { link, shared, id }
    }

    /// Its name on the link.
    #[must_use]
    pub const fn id(&self) -> StreamId {
        self.id
    }

    /// The link that it's on.
    #[must_use]
    pub const fn link(&self) -> &Arc<Link> {
        &self.link
    }

    /// Sends mono PCM. What is sent on a stream that has ended is swallowed; its end is there to be polled.
    pub fn send_audio(&mut self, pcm: &[i16]) -> Sent {
        self.send(|link, id| link.send_pcm(&ToWorker::Audio { stream: id }, pcm))
    }

    /// Sends a clause to be spoken.
    pub fn send_text(&mut self, clause: u32, text: &str) -> Sent {
        self.send(|link, id| {
            link.send(
                &ToWorker::Text(Text {
                    stream: id,
                    clause,
                    text: text.to_owned(),
                }),
                &[],
            )
        })
    }

    fn send(&mut self, write: impl FnOnce(&Link, StreamId) -> u64) -> Sent {
        let mut state = self.shared.lock();
        if state.ended || state.finished {
            return Sent::Taken;
        }
        if state.allowance <= 0 || self.link.is_congested() {
            return Sent::Full;
        }
        let cost = write(&self.link, self.id);
        state.allowance -= i64::try_from(cost).unwrap_or(i64::MAX / 4);
        Sent::Taken
    }

    /// Says that no more data comes.
    pub fn finish(&mut self) {
        let mut state = self.shared.lock();
        if !state.finished {
            state.finished = true;
            self.link.send(&ToWorker::Finish { stream: self.id }, &[]);
        }
    }

    /// The next event. After one that [`StreamEvent::is_end`] there's none.
    pub fn poll_event(&mut self, context: &mut Context<'_>) -> Poll<StreamEvent> {
        let mut state = self.shared.lock();
        let Some((event, cost)) = state.events.pop_front() else {
            if !state
                .waker
                .as_ref()
                .is_some_and(|waker| waker.will_wake(context.waker()))
            {
                state.waker = Some(context.waker().clone());
            }
            return Poll::Pending;
        };
        state.taken += cost;
        // A quarter of the window at a time: seldom enough to cost nothing, early enough that the worker never runs dry.
        if state.taken >= Link::WINDOW / 4 && !state.ended {
            let n = std::mem::take(&mut state.taken);
            state.window += i64::try_from(n).unwrap_or(i64::MAX / 4);
            self.link.send(&ToWorker::Credit(Credit { stream: self.id, n }), &[]);
        }
        Poll::Ready(event)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let ended = self.shared.lock().ended;
        if !ended {
            self.link.send(&ToWorker::Cancel { stream: self.id }, &[]);
        }
        self.link.forget(self.id);
    }
}
