//! Listening for wires that are plain TCP: connections are accepted in one place and served on the engine's threads.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::engine::Engine;

/// Connections that may be open before they have said which call they are, of all peers together.
const MOST_UNKNOWN: usize = 256;
/// A peer that acknowledges nothing for so long has vanished.
const VANISHED_MS: u32 = 20_000;

/// Who may connect.
#[derive(Clone)]
pub struct Admission(Arc<dyn Fn(IpAddr) -> bool + Send + Sync>);

impl Admission {
    /// Whoever `admits` says yes to.
    pub fn new(admits: impl Fn(IpAddr) -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(admits))
    }

    /// Whether `peer` may come in.
    #[must_use]
    pub fn admits(&self, peer: IpAddr) -> bool {
        (self.0)(peer.to_canonical())
    }
}

impl fmt::Debug for Admission {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Admission")
    }
}

/// Accepts connections until the future is dropped; each is served by `serve` on a thread of the engine. The permit that it is given
/// counts those that have not said yet which call they are: it is dropped as soon as that is known.
pub async fn serve_tcp<F, S>(listener: TcpListener, engine: &Engine, admission: Admission, serve: S)
where
    F: Future<Output = ()> + 'static,
    S: Fn(TcpStream, OwnedSemaphorePermit) -> F + Clone + Send + 'static,
{
    let unknown = Arc::new(Semaphore::new(MOST_UNKNOWN));
    let mut turn = 0_usize;
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                if !is_the_clients_fault(&error) {
                    // Out of file descriptors, most likely: connections that end give some back.
                    tracing::error!(%error, "a call could not be accepted");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
                continue;
            }
        };
        if !admission.admits(peer.ip()) {
            tracing::debug!(%peer, "a connection from a network that isn't allowed");
            continue;
        }
        let Ok(permit) = Arc::clone(&unknown).try_acquire_owned() else {
            tracing::warn!("{MOST_UNKNOWN} connections have not said which call they are: one more is refused");
            continue;
        };
        // Frames are small, and must not wait for one another.
        let _ = stream.set_nodelay(true);
        let _ = rustix::net::sockopt::set_tcp_user_timeout(&stream, VANISHED_MS);
        let Ok(stream) = stream.into_std() else { continue };
        turn = turn.wrapping_add(1);
        let count = engine.threads();
        let thread = (0..count)
            .min_by_key(|thread| (engine.sessions_on(*thread), (thread + turn) % count))
            .unwrap_or(0);
        let serve = serve.clone();
        engine.serve_on(thread, move || async move {
            if let Ok(stream) = TcpStream::from_std(stream) {
                serve(stream, permit).await;
            }
        });
    }
}

fn is_the_clients_fault(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
    )
}
