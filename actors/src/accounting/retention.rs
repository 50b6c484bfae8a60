//! Old rows leave the database a few at a time, between the batches; their sums stay.

use super::actor::AccountingActor;
use crate::clock::unix_micros;
use actix::{ActorFutureExt, AsyncContext, Context, WrapFuture};
use obleth_core::ledger::retention::cutoff;
use obleth_schema::ledger::retention::{announce, drop_before};
use obleth_schema::{Store, StoreError};
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::sleep;

/// When it is looked first, and how often after that.
const FIRST_LOOK: Duration = Duration::from_secs(1);
const LOOK: Duration = Duration::from_secs(60);
/// Rows of one transaction, and the pause behind it: who writes does not wait for long, and not often.
const CHUNK: u32 = 1000;
const PAUSE: Duration = Duration::from_millis(50);

/// What is being done about old rows.
#[derive(Debug)]
pub(super) struct Retention {
    running: bool,
    /// Rows from before this are gone.
    done: i64,
}

impl Retention {
    pub(super) const fn new() -> Self {
        Self { running: false, done: 0 }
    }
}

impl AccountingActor {
    /// Looks for old rows now and then.
    pub(super) fn watch_retention(ctx: &mut Context<Self>) {
        ctx.run_later(FIRST_LOOK, Self::retain);
        ctx.run_interval(LOOK, Self::retain);
    }

    fn retain(&mut self, ctx: &mut Context<Self>) {
        let days = self.ledger.days_kept.load(Ordering::Relaxed);
        let Some(cutoff) = cutoff(unix_micros(), days).filter(|cutoff| *cutoff > self.retention.done) else {
            return;
        };
        if std::mem::replace(&mut self.retention.running, true) {
            return;
        }
        let work = drop_old(self.store.clone(), cutoff);
        ctx.spawn(work.into_actor(self).map(move |outcome, actor, _| {
            actor.retention.running = false;
            match outcome {
                Ok(rows) => {
                    actor.retention.done = cutoff;
                    if rows > 0 {
                        tracing::info!(rows, days, "old rows of the ledger are dropped");
                    }
                }
                // At the next look.
                Err(error) => tracing::warn!(%error, "old rows of the ledger stay for now"),
            }
        }));
    }
}

/// Drops everything from before `cutoff`; says how much that was.
async fn drop_old(store: Store, cutoff: i64) -> Result<usize, StoreError> {
    announce(&store, cutoff).await?;
    let mut rows = 0;
    loop {
        match drop_before(&store, cutoff, CHUNK).await? {
            0 => return Ok(rows),
            gone => rows += gone,
        }
        sleep(PAUSE).await;
    }
}
