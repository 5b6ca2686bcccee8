//! Listening: connections are accepted in one place and served on the engine's threads, beside the sessions that they open.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::serve::{Listener, ListenerExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};

use crate::engine::Engine;

/// Connections that may wait for their thread to begin with them.
const WAITING: usize = 256;

/// Serves `routes` to whoever comes to `listener`, until `stopped` is ready and the requests under way are answered.
/// WebSockets that are open stay open. Handlers may ask for the peer's `ConnectInfo<SocketAddr>`.
pub async fn serve(listener: TcpListener, routes: Router, engine: Engine, stopped: impl Future<Output = ()>) {
    let Ok(address) = listener.local_addr() else { return };
    let (stop, stopping) = watch::channel(());
    // Each thread holds one of these until it has answered everything.
    let (busy, mut all_done) = mpsc::channel::<()>(1);
    let threads: Vec<mpsc::Sender<std::net::TcpStream>> = (0..engine.threads())
        .map(|thread| {
            let (hand_over, connections) = mpsc::channel(WAITING);
            let (routes, mut stopping, busy) = (routes.clone(), stopping.clone(), busy.clone());
            let taken = engine.serve_on(thread, move || async move {
                // axum tells handlers the address of a peer for listeners that are its own or wrapped by it.
                let handed_over = HandedOver { connections, address }.tap_io(|_| {});
                let service = routes.into_make_service_with_connect_info::<SocketAddr>();
                let serving = axum::serve(handed_over, service).with_graceful_shutdown(async move {
                    // Nothing is ever sent: it is over when the sender is gone.
                    while stopping.changed().await.is_ok() {}
                });
                if let Err(error) = serving.await {
                    tracing::error!(%error, "serving failed");
                }
                drop(busy);
            });
            debug_assert!(taken, "a thread that has just been started has nothing to do yet");
            hand_over
        })
        .collect();
    drop(busy);
    // The wires' own state keeps the engine alive; waiting for connections shall not.
    tokio::select! {
        () = accept(listener, &threads, &engine) => {}
        () = stopped => {}
    }
    drop((stop, stopping, engine));
    let _ = all_done.recv().await;
}

async fn accept(listener: TcpListener, threads: &[mpsc::Sender<std::net::TcpStream>], engine: &Engine) {
    let mut handed_over = vec![0_u64; threads.len()];
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                if !is_the_clients_fault(&error) {
                    // Out of file descriptors, most likely: connections that end give some back.
                    tracing::error!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
                continue;
            }
        };
        // Frames are small and must not wait for one another.
        let _ = stream.set_nodelay(true);
        let Ok(stream) = stream.into_std() else { continue };
        // Where many come at once, none of them has a session yet: then they take turns.
        let load = |thread: &usize| (engine.sessions_on(*thread), handed_over[*thread]);
        let thread = (0..threads.len()).min_by_key(load).unwrap_or(0);
        handed_over[thread] += 1;
        if threads[thread].send(stream).await.is_err() {
            return;
        }
    }
}

fn is_the_clients_fault(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
    )
}

/// Connections that were accepted elsewhere, for one thread.
struct HandedOver {
    connections: mpsc::Receiver<std::net::TcpStream>,
    address: SocketAddr,
}

impl Listener for HandedOver {
    type Io = TcpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        loop {
            let Some(stream) = self.connections.recv().await else {
                // No more come; the graceful end is told elsewhere.
                return std::future::pending().await;
            };
            let peer = stream.peer_addr();
            if let (Ok(stream), Ok(peer)) = (TcpStream::from_std(stream), peer) {
                return (stream, peer);
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}
