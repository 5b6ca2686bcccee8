//! The threads that drive sessions, and the wires that are served beside them.
//!
//! A session stays on one thread, because detectors of speech can't move. A wire that is served on the same thread hands
//! audio over without a system call: waking another thread costs more than all that is done with a frame.

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use thread_priority::unix::{
    RealtimeThreadSchedulePolicy, ThreadSchedulePolicy, set_thread_priority_and_policy, thread_native_id,
};
use thread_priority::{ThreadPriority, ThreadPriorityValue};
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{Semaphore, mpsc};

/// Futures that may wait for their thread to begin with them, beyond the sessions that may be open.
const QUEUE_SLACK: usize = 64;

/// The place of the sessions' threads among those that run in real time: above nothing but ordinary threads, below the kernel's own (50)
/// and whatever audio server there is.
const REAL_TIME_PRIORITY: u8 = 5;

/// Begins with a future on the thread that it is sent to.
type Job = Box<dyn FnOnce() + Send>;

/// Tells the pools of a process apart: tests have many.
static NEXT_POOL: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// The pool that the current thread belongs to, and its number there.
    static HERE: Cell<Option<(usize, usize)>> = const { Cell::new(None) };
}

/// See the [module](self). The threads end when this is dropped, and with them what runs there.
#[derive(Debug)]
pub(super) struct Threads {
    pool: usize,
    threads: Vec<Thread>,
}

#[derive(Debug)]
struct Thread {
    jobs: mpsc::Sender<Job>,
    sessions: Arc<AtomicUsize>,
}

/// A session that counts on its thread.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Threads {
    /// Starts `count` threads for up to `sessions` sessions; in real time if that is wanted and allowed.
    pub(super) fn start(count: usize, sessions: usize, real_time: bool) -> io::Result<Self> {
        let pool = NEXT_POOL.fetch_add(1, Ordering::Relaxed);
        let queue = sessions.saturating_add(QUEUE_SLACK).min(Semaphore::MAX_PERMITS);
        let threads = (0..count.max(1))
            .map(|number| {
                let (jobs, waiting) = mpsc::channel(queue);
                std::thread::Builder::new()
                    .name(format!("session-{number}"))
                    .spawn(move || {
                        if real_time && number == 0 {
                            tell(go_real_time());
                        } else if real_time {
                            let _ = go_real_time();
                        }
                        run(pool, number, waiting);
                    })?;
                Ok(Thread {
                    jobs,
                    sessions: Arc::default(),
                })
            })
            .collect::<io::Result<_>>()?;
        Ok(Self { pool, threads })
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.threads.len()
    }

    /// Sessions of thread `number`.
    pub(super) fn sessions(&self, number: usize) -> usize {
        let thread = self.threads.get(number);
        thread.map_or(0, |thread| thread.sessions.load(Ordering::Relaxed))
    }

    /// The thread with the fewest sessions.
    fn freest(&self) -> usize {
        (0..self.threads.len())
            .min_by_key(|number| self.sessions(*number))
            .unwrap_or(0)
    }

    /// Drives a session: on this thread if it is one of them, else on the freest. False when too many wait already.
    pub(super) fn drive<F: Future<Output = ()> + 'static>(&self, make: impl FnOnce() -> F + Send + 'static) -> bool {
        let here = HERE.get().filter(|(pool, _)| *pool == self.pool);
        let number = here.map_or_else(|| self.freest(), |(_, number)| number);
        let sessions = Arc::clone(&self.threads[number].sessions);
        sessions.fetch_add(1, Ordering::Relaxed);
        let counted = Counted(sessions);
        self.spawn(number, move || {
            let session = make();
            async move {
                let _counted = counted;
                session.await;
            }
        })
    }

    /// Runs a future on thread `number`. False when too many wait already.
    pub(super) fn spawn<F: Future<Output = ()> + 'static>(
        &self,
        number: usize,
        make: impl FnOnce() -> F + Send + 'static,
    ) -> bool {
        let job: Job = Box::new(move || {
            // It ends by itself; nobody waits for it.
            drop(tokio::task::spawn_local(make()));
        });
        self.threads[number % self.threads.len()].jobs.try_send(job).is_ok()
    }
}

/// Lets this thread go before every ordinary one, whatever they are computing: a recogniser that keeps all cores busy then
/// delays no frame by a time slice. A thread that never ended would not stop the machine: Linux leaves ordinary threads a twentieth
/// of each second (sched(7), `sched_rt_runtime_us`).
fn go_real_time() -> Result<(), thread_priority::Error> {
    let priority = ThreadPriorityValue::try_from(REAL_TIME_PRIORITY).expect("it is within 0 to 99");
    set_thread_priority_and_policy(
        thread_native_id(),
        ThreadPriority::Crossplatform(priority),
        ThreadSchedulePolicy::Realtime(RealtimeThreadSchedulePolicy::Fifo),
    )
}

/// Says how the threads run, once for all of them.
fn tell(real_time: Result<(), thread_priority::Error>) {
    match real_time {
        Ok(()) => tracing::debug!("sessions run in real time"),
        Err(error) => tracing::debug!(
            ?error,
            "sessions run as ordinary threads: real time isn't allowed here (`ulimit -r 5`, systemd's LimitRTPRIO=5, or Docker's \
             --ulimit rtprio=5 allow it)"
        ),
    }
}

/// One thread's life.
fn run(pool: usize, number: usize, mut jobs: mpsc::Receiver<Job>) {
    HERE.set(Some((pool, number)));
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default());
    match runtime {
        Ok(runtime) => runtime.block_on(async {
            while let Some(job) = jobs.recv().await {
                job();
            }
        }),
        Err(error) => tracing::error!(%error, "a thread for sessions could not be started"),
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[test]
    fn threads_run_whether_real_time_is_allowed_or_not() {
        let threads = Threads::start(1, 1, true).unwrap();
        let (sender, mut receiver) = mpsc::channel(1);
        assert!(threads.drive(move || async move {
            let policy = thread_priority::unix::thread_schedule_policy().unwrap();
            sender.send((go_real_time().is_ok(), policy)).await.unwrap();
        }));
        let (allowed, policy) = receiver.blocking_recv().unwrap();
        let fifo = ThreadSchedulePolicy::Realtime(RealtimeThreadSchedulePolicy::Fifo);
        assert_eq!(policy == fifo, allowed);
        if !allowed {
            println!("skipped in part: real time isn't allowed here");
        }
    }

    #[test]
    fn sessions_are_spread_and_those_begun_here_stay_here() {
        let threads = Arc::new(Threads::start(2, 10, false).unwrap());
        let (sender, mut receiver) = mpsc::channel(10);
        let (hold, held) = oneshot::channel::<()>();
        let first = sender.clone();
        assert!(threads.drive(move || async move {
            first.send(HERE.get()).await.unwrap();
            let _ = held.await;
        }));
        let begun = receiver.blocking_recv().unwrap().unwrap();
        assert_ne!(threads.freest(), begun.1);
        // From a thread of the pool, a session is driven right there, however busy it is.
        let (again, inner) = (Arc::clone(&threads), sender.clone());
        assert!(threads.spawn(begun.1, move || async move {
            assert!(again.drive(move || async move { inner.send(HERE.get()).await.unwrap() }));
        }));
        assert_eq!(receiver.blocking_recv().unwrap(), Some(begun));
        assert!(threads.drive(move || async move { sender.send(HERE.get()).await.unwrap() }));
        assert_ne!(receiver.blocking_recv().unwrap(), Some(begun));
        drop(hold);
    }
}
