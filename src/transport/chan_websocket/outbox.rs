//! Messages on their way to Asterisk: one at a time, commands before media, and no queue of media.

use std::collections::VecDeque;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use repartee_protocol::chan_websocket::{Command, Style};

use super::link::{Gone, Link};
use crate::time::Time;

/// A peer that takes nothing for so long takes nothing any more.
const STUCK: Duration = Duration::from_secs(5);
/// Commands that may wait for the socket. One that takes none of them is let go long before.
const MOST_COMMANDS: usize = 64;

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Outbox {
    style: Style,
    commands: VecDeque<String>,
    /// Since when the socket has taken nothing.
    since: Option<Time>,
}

impl Outbox {
    /// Commands are written in this style.
    pub(super) fn new(style: Style) -> Self {
        Self {
            style,
            commands: VecDeque::new(),
            since: None,
        }
    }

    /// Puts a command behind those that wait. It is on its way when [`Outbox::poll`] is next called.
    pub(super) fn command(&mut self, command: Command<'_>) {
        match command.to_text(self.style) {
            Ok(text) if self.commands.len() < MOST_COMMANDS => self.commands.push_back(text),
            Ok(_) => tracing::debug!(command = command.name(), "the far side takes no commands"),
            Err(error) => tracing::debug!(%error, command = command.name(), "a command can't be written"),
        }
    }

    /// Gives the socket what waits. Ready when nothing does.
    ///
    /// # Errors
    /// The connection is over, or the peer takes nothing any more.
    pub(super) fn poll(&mut self, context: &mut Context<'_>, now: Time, link: &mut Link) -> Poll<Result<(), Gone>> {
        loop {
            if link.poll_sent(context)?.is_pending() {
                let since = *self.since.get_or_insert(now);
                if now.since(since) > STUCK {
                    tracing::debug!("the far side takes nothing any more");
                    return Poll::Ready(Err(Gone));
                }
                return Poll::Pending;
            }
            self.since = None;
            match self.commands.pop_front() {
                Some(text) => link.send_text(text)?,
                None => return Poll::Ready(Ok(())),
            }
        }
    }

    /// Sends media, if nothing waits for the socket; else it would be heard too late. Answers whether it was sent.
    ///
    /// # Errors
    /// As [`Outbox::poll`].
    pub(super) fn media(
        &mut self,
        context: &mut Context<'_>,
        now: Time,
        link: &mut Link,
        media: Bytes,
    ) -> Result<bool, Gone> {
        match self.poll(context, now, link) {
            Poll::Ready(Ok(())) => link.send_media(media).map(|()| true),
            Poll::Ready(Err(gone)) => Err(gone),
            Poll::Pending => Ok(false),
        }
    }
}
