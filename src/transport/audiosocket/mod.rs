//! Asterisk's AudioSocket: one TCP connection a call, frames of a type byte, a length and a payload
//! (`repartee_protocol::audiosocket`).
//!
//! Asterisk plays each frame as it comes and can't take one back, so frames leave at their time and not before; it expects sound at
//! all times, so silence is sent from the first moment; and each frame is one write, since one that comes in two halves can cost
//! the call. Nothing in it tells who calls but a UUID, which somebody else may have announced.

mod connection;
mod outbox;

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;

use crate::phone::{Admission, Phones, serve_tcp};

/// What the wire is told at its start.
#[derive(Clone, Debug)]
pub struct AudioSocketOptions {
    /// How long a connection may take to say which call it is. A channel that ARI has created connects at once and says so only when
    /// it is dialled, which may be minutes later.
    pub uuid_timeout: Duration,
}

impl Default for AudioSocketOptions {
    fn default() -> Self {
        Self {
            uuid_timeout: Duration::from_secs(300),
        }
    }
}

/// Serves calls that come to `listener`, until the future is dropped; calls that are going on go on.
pub async fn serve(listener: TcpListener, phones: Phones, admission: Admission, options: AudioSocketOptions) {
    let options = Arc::new(options);
    let engine = phones.engine().clone();
    serve_tcp(listener, &engine, admission, move |stream, permit| {
        connection::serve(stream, permit, phones.clone(), Arc::clone(&options))
    })
    .await;
}
