//! The actor: writes batches on a tick, one at a time, and asks an absent database again with growing pauses.

use super::health::StoreHealth;
use super::{BATCH, FIRST_PAUSE, LONGEST_PAUSE, Ledger, TICK};
use crate::supervise::{Crash, Lifeline};
use actix::{Actor, ActorFutureExt, AsyncContext, Context, Handler, Message, WrapFuture};
use obleth_schema::ledger::LedgerRecord;
use obleth_schema::{Store, StoreError};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// Write what waits; answers whether `target` rows are recorded by then.
#[derive(Message)]
#[rtype(result = "bool")]
pub(super) struct Flush {
    pub target: u64,
}

/// The ledger's actor.
pub(super) struct AccountingActor {
    ledger: Arc<Ledger>,
    store: Store,
    health: StoreHealth,
    writing: bool,
    /// After a failure: the pause, and when it is over. `None` when the database answers.
    pause: Option<(Duration, Instant)>,
    flushes: Vec<(u64, oneshot::Sender<()>)>,
    _line: Lifeline,
}

impl AccountingActor {
    pub(super) const fn new(ledger: Arc<Ledger>, store: Store, health: StoreHealth, line: Lifeline) -> Self {
        Self { ledger, store, health, writing: false, pause: None, flushes: Vec::new(), _line: line }
    }

    /// Writes the next batch, if there is one and none is being written.
    fn write(&mut self, ctx: &mut Context<Self>) {
        if self.writing {
            return;
        }
        let Some(batch) = self.ledger.with_retry(|spool| spool.lend(BATCH)).flatten() else {
            self.answer_flushes();
            return;
        };
        self.writing = true;
        let store = self.store.clone();
        let insert = async move {
            let records: Vec<LedgerRecord> = batch.iter().map(|row| LedgerRecord::from(&**row)).collect();
            obleth_schema::ledger::insert_batch(&store, &records).await
        };
        ctx.spawn(insert.into_actor(self).map(|outcome, actor, ctx| actor.written(&outcome, ctx)));
    }

    fn written(&mut self, outcome: &Result<usize, StoreError>, ctx: &mut Context<Self>) {
        self.writing = false;
        self.health.note(!matches!(outcome, Err(StoreError::Unavailable { .. })));
        match outcome {
            Ok(_) => {
                self.ledger.with(|spool| spool.confirm());
                self.pause = None;
                self.answer_flushes();
                self.write(ctx);
            }
            Err(error) => {
                self.ledger.with(|spool| spool.take_back());
                let pause = self.pause.map_or(FIRST_PAUSE, |(pause, _)| (pause * 2).min(LONGEST_PAUSE));
                self.pause = Some((pause, Instant::now() + pause));
                // Flushes that nobody waits for any more would gather while the database is away.
                self.flushes.retain(|(_, reply)| !reply.is_closed());
                tracing::warn!(%error, retry_ms = pause.as_millis(), "a ledger batch waits");
            }
        }
    }

    fn answer_flushes(&mut self) {
        let recorded = self.ledger.with_retry(|spool| spool.counts()).unwrap_or_default().recorded;
        for (target, reply) in std::mem::take(&mut self.flushes) {
            if recorded >= target {
                // A caller that no longer waits is fine.
                let _ = reply.send(());
            } else {
                self.flushes.push((target, reply));
            }
        }
    }
}

impl Actor for AccountingActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        // A batch that a dead predecessor had lent comes again; the database takes each row once.
        self.ledger.with(|spool| spool.take_back());
        ctx.run_interval(TICK, |actor, ctx| {
            if actor.pause.is_none_or(|(_, over)| Instant::now() >= over) {
                actor.write(ctx);
            }
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
