//! Messages on their way into the socket: a bounded queue that nobody waits for.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::extract::ws::{Message, WebSocket};
use futures_util::SinkExt as _;
use futures_util::stream::SplitSink;

use crate::time::Time;

/// Messages that may wait: the 200 ms that a reply begins with, their marks, and a second more.
const MOST: usize = 64;
/// A peer that takes nothing for so long takes nothing any more.
const STUCK: Duration = Duration::from_secs(5);

/// The sending half of the socket.
pub(super) type Sink = SplitSink<WebSocket, Message>;

/// The peer takes nothing any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stuck;

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Outbox {
    queue: VecDeque<String>,
    /// Something was given to the socket and may not have left it.
    unflushed: bool,
    /// Since when the socket has taken nothing of what waits.
    since: Option<Time>,
}

impl Outbox {
    /// Whether something waits for the socket.
    pub(super) fn is_waiting(&self) -> bool {
        self.unflushed || !self.queue.is_empty()
    }

    /// Queues a message. Where there is no room it is not sent, as it would be heard too late; the answer tells.
    ///
    /// # Errors
    /// [`Stuck`].
    pub(super) fn push(&mut self, now: Time, message: String) -> Result<bool, Stuck> {
        let since = *self.since.get_or_insert(now);
        if now.since(since) > STUCK {
            return Err(Stuck);
        }
        let has_room = self.queue.len() < MOST;
        if has_room {
            self.queue.push_back(message);
        }
        Ok(has_room)
    }

    /// What waits is not to be sent any more.
    pub(super) fn clear(&mut self) {
        self.queue.clear();
    }

    /// Gives the socket what waits. Nothing is lost when the future is dropped.
    ///
    /// # Errors
    /// The connection is over.
    pub(super) async fn send(&mut self, sink: &mut Sink) -> Result<(), axum::Error> {
        poll_fn(|context| self.poll_send(context, sink)).await
    }

    fn poll_send(&mut self, context: &mut Context<'_>, sink: &mut Sink) -> Poll<Result<(), axum::Error>> {
        while !self.queue.is_empty() {
            ready!(sink.poll_ready_unpin(context))?;
            if let Some(message) = self.queue.pop_front() {
                sink.start_send_unpin(Message::text(message))?;
                (self.unflushed, self.since) = (true, None);
            }
        }
        ready!(sink.poll_flush_unpin(context))?;
        (self.unflushed, self.since) = (false, None);
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_queue_is_bounded_and_a_peer_that_takes_nothing_is_noticed() {
        let mut outbox = Outbox::default();
        let at = Time::from_millis;
        for number in 0..200 {
            let taken = outbox.push(at(number), String::new());
            assert_eq!(taken, Ok(number < MOST as u64), "{number}");
        }
        outbox.clear();
        assert_eq!(outbox.push(at(5_000), String::new()), Ok(true));
        assert_eq!(outbox.push(at(5_001), String::new()), Err(Stuck));
    }
}
