//! Work beside a connection: what takes longer than a look at memory. What an interruption makes pointless is called off, and what it
//! had ready already isn't sent.

use std::future::Future;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use repartee_protocol::ava::{LlmToolResponse, Output, Reply, RequestId};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::{AbortHandle, JoinSet};

use crate::id::ResponseId;

/// Jobs of a connection that are worked on at the same time.
const AT_ONCE: usize = 8;
/// Jobs of a connection altogether, those that wait included.
const MOST: usize = 64;
/// Switches, reloads and the like of a connection.
const LASTING: usize = 8;
/// What they have ready and isn't sent yet.
const READY: usize = 64;

/// What a job has ready.
pub(super) enum Done {
    /// To be sent.
    Reply(Reply),
    /// Which tools a reply calls.
    Gated(ResponseId, Box<LlmToolResponse>),
    /// The words about a tool's result, for the reply of this number.
    AboutResult(u64, Option<RequestId>, String),
    /// Audio to bridge the wait for the reply of this number.
    Filler(u64, Output, Bytes),
}

/// Hands out what a job has ready.
#[derive(Clone)]
pub(super) struct Outbox {
    epoch: Option<u64>,
    done: mpsc::Sender<(Option<u64>, Done)>,
}

impl Outbox {
    /// Hands it out, waiting for room.
    pub(super) async fn put(&self, done: Done) {
        // A connection that is gone needs nothing any more.
        let _ = self.done.send((self.epoch, done)).await;
    }

    /// Hands it out if there is room; whether there was.
    pub(super) fn try_put(&self, done: Done) -> bool {
        self.done.try_send((self.epoch, done)).is_ok()
    }
}

/// The jobs of a connection. They end with it, but for those that last.
pub(super) struct Jobs {
    epoch: u64,
    outbox: mpsc::Sender<(Option<u64>, Done)>,
    done: mpsc::Receiver<(Option<u64>, Done)>,
    tasks: JoinSet<()>,
    places: Arc<Semaphore>,
    lasting: Arc<Semaphore>,
}

impl Jobs {
    pub(super) fn new() -> Self {
        let (outbox, done) = mpsc::channel(READY);
        Self {
            epoch: 0,
            outbox,
            done,
            tasks: JoinSet::new(),
            places: Arc::new(Semaphore::new(AT_ONCE)),
            lasting: Arc::new(Semaphore::new(LASTING)),
        }
    }

    /// Begins a job that an interruption calls off. `None`: there are too many.
    pub(super) fn begin<F>(&mut self, job: impl FnOnce(Outbox) -> F) -> Option<AbortHandle>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        while self.tasks.try_join_next().is_some() {}
        if self.tasks.len() >= MOST {
            return None;
        }
        let outbox = Outbox {
            epoch: Some(self.epoch),
            done: self.outbox.clone(),
        };
        let (places, job) = (Arc::clone(&self.places), job(outbox));
        Some(self.tasks.spawn(async move {
            // The semaphore is never closed.
            let _place = places.acquire().await;
            job.await;
        }))
    }

    /// Begins a job that goes on whatever becomes of the connection. False: there are too many.
    pub(super) fn begin_lasting<F>(&self, job: impl FnOnce(Outbox) -> F) -> bool
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let Ok(place) = Arc::clone(&self.lasting).try_acquire_owned() else {
            return false;
        };
        let job = job(Outbox {
            epoch: None,
            done: self.outbox.clone(),
        });
        tokio::spawn(async move {
            job.await;
            drop(place);
        });
        true
    }

    /// Calls off what is under way; nothing of it comes out any more.
    pub(super) fn call_off(&mut self) {
        self.epoch += 1;
        self.tasks.abort_all();
    }

    /// What is ready next. Never `None`: the sender is here too.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Done> {
        loop {
            match self.done.poll_recv(context) {
                Poll::Ready(Some((epoch, done))) => {
                    if epoch.is_none_or(|epoch| epoch == self.epoch) {
                        return Poll::Ready(done);
                    }
                }
                Poll::Ready(None) | Poll::Pending => return Poll::Pending,
            }
        }
    }
}
