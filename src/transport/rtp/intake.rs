//! Datagrams as they come to a port: in batches, and no more of them than a thread can bear.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::UdpSocket;

use crate::engine::Clock;
use crate::time::Time;

/// Datagrams that are read before others on the thread have their turn.
const BATCH: u32 = 32;
/// Datagrams that are read in [`WINDOW`]: a call sends one, or two of 10 ms; what catches up after a stall of the network is some dozens.
/// Of a flood, the rest is the system's to drop, whose buffer has a bound.
const MOST: u32 = 320;
const WINDOW: Duration = Duration::from_millis(20);
/// Bytes of the longest datagram that is taken: 60 ms of L16 at 48 kHz are 5,772.
const LONGEST: usize = 6_144;

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Intake {
    socket: UdpSocket,
    clock: Clock,
    /// One byte more than the longest: what fills it was cut.
    buffer: Box<[u8]>,
    window: Time,
    taken: u32,
    /// The last batch ended with its bound: there is more.
    more: bool,
}

impl Intake {
    /// Reads from `socket`, which doesn't block. To be made on the thread that is to read.
    ///
    /// # Errors
    /// The system can't watch the socket.
    pub(super) fn new(socket: std::net::UdpSocket, clock: Clock) -> io::Result<Self> {
        Ok(Self {
            socket: UdpSocket::from_std(socket)?,
            clock,
            buffer: vec![0; LONGEST + 1].into_boxed_slice(),
            window: Time::ZERO,
            taken: 0,
            more: false,
        })
    }

    /// Waits until something is there, and its turn has come. May be called off.
    pub(super) async fn ready(&mut self) {
        let now = self.clock.now();
        if now.since(self.window) >= WINDOW {
            (self.window, self.taken) = (now, 0);
        }
        if self.taken >= MOST {
            tokio::time::sleep_until(self.clock.instant(self.window + WINDOW)).await;
        } else if self.more {
            tokio::task::yield_now().await;
        } else {
            // An error is met again, and counted, where it is read.
            let _ = self.socket.readable().await;
        }
    }

    /// Reads a batch: `take` is given each datagram and where it came from. One that is too long is empty.
    pub(super) fn read(&mut self, mut take: impl FnMut(SocketAddr, &[u8])) {
        self.more = false;
        for _ in 0..BATCH {
            match self.socket.try_recv_from(&mut self.buffer) {
                Ok((count, from)) => {
                    let datagram = if count > LONGEST { &[] } else { &self.buffer[..count] };
                    take(canonical(from), datagram);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // Somebody's refusal of what we sent: it tells nothing of what comes.
                Err(_) => {}
            }
            self.taken += 1;
            if self.taken >= MOST {
                break;
            }
        }
        self.more = true;
    }
}

/// The address without the form that a socket of both families gives to those of IPv4.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_flood_is_read_in_batches_up_to_its_bound() {
        let here = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        here.set_nonblocking(true).unwrap();
        let address = here.local_addr().unwrap();
        let there = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut intake = Intake::new(here, Clock::start()).unwrap();
        for length in [0, 1, LONGEST, LONGEST + 1, 9_000] {
            there.send_to(&vec![1; length], address).unwrap();
        }
        let mut lengths = Vec::new();
        while lengths.len() < 5 {
            intake.ready().await;
            intake.read(|from, datagram| {
                assert_eq!(from, there.local_addr().unwrap());
                lengths.push(datagram.len());
            });
        }
        assert_eq!(
            lengths,
            [0, 1, LONGEST, 0, 0],
            "what would be cut is not taken for what it isn't"
        );
        // More comes than is read at a time.
        let mut batches = Vec::new();
        for _ in 0..100 {
            there.send_to(&[1; 172], address).unwrap();
        }
        while batches.iter().sum::<u32>() < 100 {
            intake.ready().await;
            let mut count = 0;
            intake.read(|_, _| count += 1);
            batches.push(count);
        }
        assert!(batches.iter().all(|count| *count <= BATCH), "{batches:?}");
        // And the window has a bound: with it used up, nothing is ready before the next.
        intake.taken = MOST;
        intake.window = intake.clock.now();
        let before = intake.window;
        there.send_to(&[1; 172], address).unwrap();
        intake.ready().await;
        assert!(intake.clock.now().since(before) >= WINDOW);
    }
}
