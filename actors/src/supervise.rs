//! Restarts an actor that died. actix's own `Supervisor` does not: a panic in a handler drops the actor and
//! its mailbox, in-flight senders get `Closed`. Here a task waits for that drop and starts a fresh actor.

use actix::dev::ToEnvelope;
use actix::{Actor, Addr, Arbiter, Context, Handler, Message};
use arc_swap::ArcSwapOption;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

/// First pause before a restart; doubles with each death up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// An actor that lived this long is healthy again.
const STABLE: Duration = Duration::from_secs(30);

/// Dropped with the actor that carries it, which wakes the restarter.
#[derive(Debug)]
pub struct Lifeline(#[expect(dead_code, reason = "only its drop matters")] oneshot::Sender<()>);

/// The current address of an actor that is restarted when it dies.
pub struct Supervised<A: Actor> {
    name: &'static str,
    address: ArcSwapOption<Addr<A>>,
    restarts: AtomicU64,
    stopping: AtomicBool,
}

impl<A: Actor> fmt::Debug for Supervised<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Supervised").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Why a message was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Undelivered {
    /// The mailbox is full.
    #[error("the mailbox is full")]
    Full,
    /// The actor is being restarted.
    #[error("the actor is being restarted")]
    Restarting,
}

impl<A: Actor<Context = Context<A>> + Send> Supervised<A> {
    /// An actor that does not run yet.
    pub fn new(name: &'static str) -> Self {
        Self {
            name,
            address: ArcSwapOption::empty(),
            restarts: AtomicU64::new(0),
            stopping: AtomicBool::new(false),
        }
    }

    /// Runs the actor that `make` builds on `arbiter`, again after each death. Its mailbox holds `mailbox`
    /// messages from the first moment on: `Actor::started` would be too late for those that wait for it.
    pub fn run(
        self: &Arc<Self>,
        arbiter: &Arbiter,
        mailbox: usize,
        make: impl Fn(Lifeline) -> A + Send + 'static,
    ) {
        let this = Arc::clone(self);
        arbiter.spawn(async move {
            let mut pause = FIRST_PAUSE;
            while !this.stopping.load(Ordering::Acquire) {
                let (line, dropped) = oneshot::channel();
                let born = Instant::now();
                let address = A::create(|context| {
                    context.set_mailbox_capacity(mailbox);
                    make(Lifeline(line))
                });
                this.address.store(Some(Arc::new(address)));
                let _ = dropped.await;
                this.address.store(None);
                if this.stopping.load(Ordering::Acquire) {
                    break;
                }
                this.restarts.fetch_add(1, Ordering::Relaxed);
                tracing::error!(actor = this.name, "the actor died and is started again");
                pause = if born.elapsed() >= STABLE { FIRST_PAUSE } else { (pause * 2).min(LONGEST_PAUSE) };
                sleep(pause).await;
            }
        });
    }

    /// Leaves the actor dead when it next dies.
    pub fn stop_restarting(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    /// Hands over a message without waiting for its answer.
    pub fn try_send<M>(&self, message: M) -> Result<(), Undelivered>
    where
        M: Message + Send + 'static,
        M::Result: Send,
        A: Handler<M>,
        Context<A>: ToEnvelope<A, M>,
    {
        let address = self.address.load();
        let address = address.as_ref().ok_or(Undelivered::Restarting)?;
        address.try_send(message).map_err(|error| match error {
            actix::prelude::SendError::Full(_) => Undelivered::Full,
            actix::prelude::SendError::Closed(_) => Undelivered::Restarting,
        })
    }

    /// Sends a message and waits for its answer.
    pub async fn send<M>(&self, message: M) -> Result<M::Result, Undelivered>
    where
        M: Message + Send + 'static,
        M::Result: Send,
        A: Handler<M>,
        Context<A>: ToEnvelope<A, M>,
    {
        let address = self.address.load_full().ok_or(Undelivered::Restarting)?;
        address.send(message).await.map_err(|_| Undelivered::Restarting)
    }

    /// How often the actor was started again.
    pub fn restarts(&self) -> u64 {
        self.restarts.load(Ordering::Relaxed)
    }

    /// Whether the actor runs.
    pub fn is_running(&self) -> bool {
        self.address.load().as_ref().is_some_and(|address| address.connected())
    }
}

/// Kills the actor that handles it. For tests of supervision.
#[doc(hidden)]
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Crash;
