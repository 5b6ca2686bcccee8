//! The socket to the engine: where it is, and the one lock under which frames are written.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use repartee_protocol::worker::{TooLong, encode};
use serde::Serialize;

/// A link that takes no bytes for this long is broken: the engine always reads, as credits bound what it has to keep.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// Where the engine is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// Standard input is one end of a socket pair: how the supervisor starts workers on its own machine.
    Stdin,
    /// A Unix socket that the engine listens on.
    Unix(String),
    /// A TCP address that the engine listens on.
    Tcp(String),
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            None if text == "stdin" => Ok(Self::Stdin),
            Some(("unix", path)) if !path.is_empty() => Ok(Self::Unix(path.into())),
            Some(("tcp", address)) if address.contains(':') => Ok(Self::Tcp(address.into())),
            _ => Err(format!("{text:?} is not an address: stdin, unix:PATH or tcp:HOST:PORT")),
        }
    }
}

#[derive(Debug)]
enum Socket {
    Unix(UnixStream),
    Tcp(TcpStream),
}

/// A link to the engine: one thread reads it, any thread writes whole frames to it.
pub struct Link {
    reader: Socket,
    writer: Mutex<Writer>,
}

struct Writer {
    socket: Socket,
    buffer: Vec<u8>,
    broken: bool,
}

impl fmt::Debug for Link {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Link({:?})", self.reader)
    }
}

impl Link {
    /// Connects to the engine.
    ///
    /// # Errors
    /// When there's nobody, or standard input is no socket.
    pub fn connect(address: &Address) -> io::Result<Self> {
        match address {
            Address::Stdin => {
                let socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
                socket
                    .peer_addr()
                    .map_err(|_| io::Error::other("standard input is not a socket"))?;
                Self::unix(socket)
            }
            Address::Unix(path) => Self::unix(UnixStream::connect(path)?),
            Address::Tcp(address) => {
                let socket = TcpStream::connect(address)?;
                socket.set_nodelay(true)?;
                socket.set_write_timeout(Some(WRITE_TIMEOUT))?;
                Ok(Self::new(Socket::Tcp(socket.try_clone()?), Socket::Tcp(socket)))
            }
        }
    }

    /// A link over a Unix socket that is already connected.
    ///
    /// # Errors
    /// When the socket can't be shared between threads.
    pub fn unix(socket: UnixStream) -> io::Result<Self> {
        socket.set_nonblocking(false)?;
        socket.set_write_timeout(Some(WRITE_TIMEOUT))?;
        Ok(Self::new(Socket::Unix(socket.try_clone()?), Socket::Unix(socket)))
    }

    fn new(reader: Socket, writer: Socket) -> Self {
        Self {
            reader,
            writer: Mutex::new(Writer {
                socket: writer,
                buffer: Vec::new(),
                broken: false,
            }),
        }
    }

    /// Reads what has come; 0 when the engine closed the link. For the one reading thread.
    pub(crate) fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match &self.reader {
            Socket::Unix(socket) => (&*socket).read(buffer),
            Socket::Tcp(socket) => (&*socket).read(buffer),
        }
    }

    /// Writes one frame and returns its cost. A broken link swallows everything: its reader is about to see the end.
    pub(crate) fn send<M: Serialize>(&self, message: &M, payload: &[u8]) -> Result<usize, TooLong> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let Writer { socket, buffer, broken } = &mut *writer;
        buffer.clear();
        let cost = encode(message, payload, buffer)?;
        if !*broken {
            *broken = socket.write_all(buffer).is_err();
        }
        Ok(cost)
    }

    /// Writes a frame that is already encoded.
    pub(crate) fn send_encoded(&self, frame: &[u8]) {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if !writer.broken {
            writer.broken = writer.socket.write_all(frame).is_err();
        }
    }

    /// Closes the link, so that the reading thread ends.
    pub(crate) fn close(&self) {
        // An error here means that it is closed already.
        let _ = match &self.reader {
            Socket::Unix(socket) => socket.shutdown(Shutdown::Both),
            Socket::Tcp(socket) => socket.shutdown(Shutdown::Both),
        };
    }
}

impl Socket {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Unix(socket) => socket.write_all(bytes),
            Self::Tcp(socket) => socket.write_all(bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_told_apart() {
        assert_eq!("stdin".parse(), Ok(Address::Stdin));
        assert_eq!("unix:/run/x".parse(), Ok(Address::Unix("/run/x".into())));
        assert_eq!("tcp:127.0.0.1:99".parse(), Ok(Address::Tcp("127.0.0.1:99".into())));
        for wrong in ["", "unix:", "tcp:99", "/run/x", "http://x"] {
            assert!(wrong.parse::<Address>().is_err(), "{wrong}");
        }
    }
}
