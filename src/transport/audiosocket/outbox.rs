//! Frames on their way into the socket: each in one write, none cut in two by us, and no queue of them.

use std::io;
use std::time::Duration;

use tokio::net::TcpStream;

use crate::time::Time;

/// A peer that takes nothing for so long takes nothing any more.
const STUCK: Duration = Duration::from_secs(5);

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Outbox {
    /// What the socket didn't take of the last frame.
    rest: Vec<u8>,
    since: Option<Time>,
}

impl Outbox {
    /// Whether something waits for the socket.
    pub(super) const fn is_waiting(&self) -> bool {
        self.since.is_some()
    }

    /// Sends a frame, whole. Where the peer has not taken the one before, this one is not sent: it would be heard too late. Answers
    /// whether it was.
    ///
    /// # Errors
    /// The connection is over, or the peer takes nothing any more.
    pub(super) fn send(&mut self, now: Time, stream: &TcpStream, frame: &[u8]) -> io::Result<bool> {
        self.flush(stream)?;
        if let Some(since) = self.since {
            if now.since(since) > STUCK {
                return Err(io::ErrorKind::TimedOut.into());
            }
            return Ok(false);
        }
        let sent = match stream.try_write(frame) {
            Ok(sent) => sent,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(error) => return Err(error),
        };
        if sent < frame.len() {
            self.rest.extend_from_slice(&frame[sent..]);
            self.since = Some(now);
        }
        Ok(true)
    }

    /// Gives the socket what waits for it.
    ///
    /// # Errors
    /// The connection is over.
    pub(super) fn flush(&mut self, stream: &TcpStream) -> io::Result<()> {
        if self.since.is_none() {
            return Ok(());
        }
        match stream.try_write(&self.rest) {
            Ok(sent) => {
                self.rest.drain(..sent);
                if self.rest.is_empty() {
                    self.since = None;
                }
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error),
        }
    }
}
