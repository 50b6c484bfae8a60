//! The actor: batches from the journal to the database, one at a time, and an absent database asked again with
//! growing pauses; opens to the kernel, the file to the disk, segments kept.

use super::health::StoreHealth;
use super::ledger::{Batch, Ledger};
use super::retention::Retention;
use super::{BATCH, DISK_PAUSE, FIRST_PAUSE, LONGEST_PAUSE, LOST_PAUSE, SYNC, Sync, TICK, WRITE};
use crate::supervise::{Crash, Lifeline};
use actix::{Actor, ActorFutureExt, AsyncContext, Context, Handler, Message, WrapFuture};
use obleth_core::ledger::journal::Stretch;
use obleth_schema::{Store, StoreError};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep};

/// Write what waits; answers whether `target` rows are recorded by then.
#[derive(Message)]
#[rtype(result = "bool")]
pub(super) struct Flush {
    pub target: u64,
}

/// How one batch went.
enum Outcome {
    /// Nothing waits.
    Nothing,
    /// The database has it.
    Recorded(Batch),
    /// The database did not take it.
    Refused(StoreError),
    /// The journal could not be read.
    Unread(io::Error),
}

/// The ledger's actor.
pub(super) struct AccountingActor {
    pub(super) ledger: Arc<Ledger>,
    pub(super) store: Store,
    pub(super) retention: Retention,
    health: StoreHealth,
    writing: bool,
    /// Segments are being looked after.
    keeping: bool,
    /// After a failure: the pause, and when it is over. `None` when the database answers.
    pause: Option<(Duration, Instant)>,
    flushes: Vec<(u64, oneshot::Sender<()>)>,
    /// Lost rows as of the last word about them, and when that was.
    told: (u64, Option<Instant>),
    _line: Lifeline,
}

impl AccountingActor {
    pub(super) const fn new(ledger: Arc<Ledger>, store: Store, health: StoreHealth, line: Lifeline) -> Self {
        Self {
            ledger,
            store,
            retention: Retention::new(),
            health,
            writing: false,
            keeping: false,
            pause: None,
            flushes: Vec::new(),
            told: (0, None),
            _line: line,
        }
    }

    /// Writes the next batch, if there is one and none is being written.
    fn write(&mut self, ctx: &mut Context<Self>) {
        if self.writing {
            return;
        }
        // Here and not where it is read: what a dead predecessor had lent is known to be back.
        let Some(stretch) = self.ledger.with_retry(|books| books.journal.lend()).flatten() else {
            self.answer_flushes();
            return;
        };
        self.writing = true;
        let batch = next(Arc::clone(&self.ledger), stretch, self.store.clone());
        ctx.spawn(batch.into_actor(self).map(|outcome, actor, ctx| actor.written(outcome, ctx)));
    }

    fn written(&mut self, outcome: Outcome, ctx: &mut Context<Self>) {
        self.writing = false;
        match outcome {
            Outcome::Nothing => {
                self.take_back();
                self.answer_flushes();
            }
            Outcome::Recorded(batch) => {
                let (consumed, rows, damaged) = (batch.consumed, batch.records.len(), batch.damaged);
                if rows > 0 {
                    self.health.note(true);
                }
                self.ledger.with_retry(|books| books.journal.confirm(consumed, rows, damaged));
                self.ledger.touch();
                self.pause = None;
                self.answer_flushes();
                // A batch costs a transaction, whatever its size: less than a full one waits for the next tick.
                let few = usize::try_from(self.ledger.counts().waiting).is_ok_and(|rows| rows < BATCH);
                if !few || !self.flushes.is_empty() {
                    self.write(ctx);
                }
            }
            Outcome::Refused(error) => {
                self.health.note(!matches!(error, StoreError::Unavailable { .. }));
                let pause = self.rest();
                tracing::warn!(%error, retry_ms = pause.as_millis(), "a ledger batch waits");
            }
            Outcome::Unread(error) => {
                let pause = self.rest();
                tracing::error!(%error, retry_ms = pause.as_millis(), "the journal cannot be read");
            }
        }
    }

    fn take_back(&self) {
        self.ledger.with_retry(|books| books.journal.take_back());
    }

    /// The batch comes again, after a longer pause than the one before.
    fn rest(&mut self) -> Duration {
        self.take_back();
        let pause = self.pause.map_or(FIRST_PAUSE, |(pause, _)| (pause * 2).min(LONGEST_PAUSE));
        self.pause = Some((pause, Instant::now() + pause));
        // Flushes that nobody waits for any more would gather while the database is away.
        self.flushes.retain(|(_, reply)| !reply.is_closed());
        pause
    }

    fn answer_flushes(&mut self) {
        if self.flushes.is_empty() {
            return;
        }
        let counts = self.ledger.counts();
        for (target, reply) in std::mem::take(&mut self.flushes) {
            if counts.recorded + counts.lost >= target {
                // A caller that no longer waits is fine.
                let _ = reply.send(());
            } else {
                self.flushes.push((target, reply));
            }
        }
    }

    /// Looks after the segments, off this thread.
    fn keep(&mut self, ctx: &mut Context<Self>) {
        let wanted = || self.ledger.with_retry(|books| books.journal.wants_keeping()) == Some(true);
        if self.keeping || !wanted() {
            return;
        }
        self.keeping = true;
        let ledger = Arc::clone(&self.ledger);
        let work = async move {
            let kept = spawn_blocking(move || ledger.keep()).await;
            if let Ok(Err(error)) = kept {
                tracing::error!(%error, "the journal cannot begin a new segment");
                sleep(DISK_PAUSE).await;
            }
        };
        ctx.spawn(work.into_actor(self).map(|(), actor, _| actor.keeping = false));
    }

    /// Says how many rows are lost, once a minute at most.
    fn tell(&mut self) {
        let lost = self.ledger.counts().lost;
        let (told, when) = self.told;
        if lost > told && when.is_none_or(|when| when.elapsed() >= LOST_PAUSE) {
            tracing::error!(rows = lost - told, total = lost, "ledger rows are lost: no room, or damaged");
            self.told = (lost, Some(Instant::now()));
        }
    }
}

/// One batch: read off this thread, then handed to the database.
async fn next(ledger: Arc<Ledger>, stretch: Stretch, store: Store) -> Outcome {
    match spawn_blocking(move || ledger.read_batch(&stretch)).await {
        Ok(Ok(Some(batch))) if batch.records.is_empty() => Outcome::Recorded(batch),
        Ok(Ok(Some(batch))) => match obleth_schema::ledger::insert_batch(&store, &batch.records).await {
            Ok(_) => Outcome::Recorded(batch),
            Err(error) => Outcome::Refused(error),
        },
        Ok(Ok(None)) | Err(_) => Outcome::Nothing,
        Ok(Err(error)) => Outcome::Unread(error),
    }
}

/// Brings the file to the disk whenever it is time, off this thread.
async fn sync(ledger: Arc<Ledger>) {
    loop {
        match ledger.sync {
            Sync::Never => return,
            Sync::Interval => sleep(SYNC).await,
            Sync::Always => ledger.wanted.notified().await,
        }
        if ledger.is_synced() {
            continue;
        }
        let own = Arc::clone(&ledger);
        if let Ok(Err(error)) = spawn_blocking(move || own.sync_out()).await {
            tracing::error!(%error, "the journal cannot be brought to the disk");
            sleep(DISK_PAUSE).await;
            ledger.wanted.notify_one();
        }
    }
}

impl Actor for AccountingActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        // A batch that a dead predecessor had lent comes again; the database takes each row once.
        self.take_back();
        ctx.run_interval(WRITE, |actor, _| actor.ledger.write_out());
        ctx.spawn(sync(Arc::clone(&self.ledger)).into_actor(self));
        // One that a dead predecessor took notice of.
        self.ledger.wanted.notify_one();
        Self::watch_retention(ctx);
        ctx.run_interval(TICK, |actor, ctx| {
            if actor.pause.is_none_or(|(_, over)| Instant::now() >= over) {
                actor.write(ctx);
            }
            actor.keep(ctx);
            actor.tell();
        });
    }
}

impl Handler<Flush> for AccountingActor {
    type Result = actix::ResponseFuture<bool>;

    fn handle(&mut self, Flush { target }: Flush, ctx: &mut Self::Context) -> Self::Result {
        let (reply, done) = oneshot::channel();
        self.flushes.push((target, reply));
        self.write(ctx);
        Box::pin(async move { done.await.is_ok() })
    }
}

impl Handler<Crash> for AccountingActor {
    type Result = ();

    fn handle(&mut self, _: Crash, _: &mut Self::Context) {
        std::panic::resume_unwind(Box::new("planted crash"));
    }
}
