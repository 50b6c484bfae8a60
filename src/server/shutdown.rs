//! The way down: not ready at once, connections closed, new requests refused, streams let go on, then cut.

use super::Running;
use crate::lifecycle::{Phase, TICK};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How long the last ledger rows may take to reach the database.
const FLUSH: Duration = Duration::from_secs(10);
/// How long the last spans may take to reach their collector.
const LAST_SPANS: Duration = Duration::from_secs(2);
/// How often running requests are counted.
const WATCH: Duration = Duration::from_millis(20);

/// How patient a shutdown is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// Behind a load balancer (SIGTERM).
    LoadBalancer,
    /// At a terminal (Ctrl-C): nobody needs to notice.
    Terminal,
}

impl Running {
    /// Ends the server. `hurry` ends the wait early when it resolves (a second signal). `false`: rows of the
    /// ledger did not reach the database; they are in the journal, for the next start.
    pub async fn stop(self, patience: Patience, hurry: impl Future<Output = ()>) -> bool {
        let lifecycle = &self.gateway.lifecycle;
        let (delay, grace) = (self.config.listen.shutdown_delay, self.config.listen.shutdown_grace);
        lifecycle.enter(Phase::Closing);
        tracing::info!(grace_secs = grace.as_secs(), "closing: not ready, still serving");
        let mut hurry = std::pin::pin!(hurry);
        let lame = if patience == Patience::LoadBalancer { delay } else { Duration::ZERO };
        let hurried = tokio::select! {
            () = sleep(lame) => false,
            () = &mut hurry => true,
        };
        lifecycle.enter(Phase::Draining);
        tracing::info!("draining: new requests are refused");
        if !hurried {
            tokio::select! {
                () = self.drained(Instant::now() + grace) => {}
                () = hurry => {}
            }
        }
        lifecycle.enter(Phase::Cut);
        // Each wait looks at the phase within a tick; their answers then need a moment to leave.
        self.drained(Instant::now() + 2 * TICK).await;
        for server in &self.servers {
            server.stop(true).await;
        }
        // Others need not wait for the leases to end.
        self.gateway.handles.fairshare.leave().await;
        let accounting = &self.gateway.handles.accounting;
        let (written, ()) = tokio::join!(accounting.flush(FLUSH), self.gateway.traces.flush(LAST_SPANS));
        if written {
            // What is still claimed is then what was used; else it is, until the journal is replayed.
            self.gateway.handles.budget.leave().await;
            // Worth no more than a moment.
            let uses = self.gateway.handles.admin.write_uses();
            _ = actix_rt::time::timeout(FLUSH, uses).await;
        } else {
            let rows = accounting.counts().waiting;
            tracing::warn!(rows, "ledger rows did not reach the database and wait in the journal");
        }
        // The very end: nothing else runs any more.
        accounting.sync();
        for arbiter in &self.arbiters {
            arbiter.stop();
        }
        written
    }

    /// Waits until nothing runs or waits, at most until `until`.
    async fn drained(&self, until: Instant) {
        while self.gateway.running() > 0 && Instant::now() < until {
            sleep(WATCH).await;
        }
    }
}
