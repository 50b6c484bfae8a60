//! AccountingActor: the ledger.
//!
//! Is: the shell of `obleth_core::ledger::journal`. A request that has its seat is noted as open; when it ends
//! its row is appended to the journal's file through the cell, by the thread that ends it, before the end of the
//! answer leaves. The actor brings rows from the journal to the database in batches, again and again until each
//! is in, syncs the file and keeps the segments. Is not: on a request's path, but for one write. Invariant:
//! received = recorded + waiting + lost; none is doubled (the database takes a row id once).

use crate::cell::Contained;
use crate::supervise::{Crash, Supervised, Undelivered};
use actix::Arbiter;
use obleth_core::ledger::journal::Full;
use obleth_core::ledger::{Counts, LedgerRow};
use obleth_schema::Store;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::{sleep, timeout};

mod actor;
mod folder;
mod health;
mod ledger;
mod retention;
pub mod usage;

use actor::{AccountingActor, Flush};
pub use folder::{JournalError, JournalSettings, OpenJournal, Sync};
pub use health::StoreHealth;
use ledger::Ledger;
pub use ledger::Written;
pub use obleth_core::ledger::journal::WhenFull;

/// The actor's name in logs and metrics.
pub const NAME: &str = "accounting";

/// Messages (flushes) that may wait.
const MAILBOX: usize = 256;
/// Rows of one batch.
const BATCH: usize = 500;
/// How often waiting rows go to the database and segments are looked at; every pause is looked at as often.
const TICK: Duration = Duration::from_millis(100);
/// How long an open may wait for the kernel.
const WRITE: Duration = Duration::from_millis(10);
/// How long a row may wait for the disk.
const SYNC: Duration = Duration::from_millis(50);
/// Pause after the disk failed, and between two words about lost rows.
const DISK_PAUSE: Duration = Duration::from_secs(1);
const LOST_PAUSE: Duration = Duration::from_secs(60);
/// First and longest pause after a batch the database did not take.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// How handlers reach the ledger.
#[derive(Clone)]
pub struct Accounting {
    ledger: Arc<Ledger>,
    actor: Arc<Supervised<AccountingActor>>,
    store: Store,
    health: StoreHealth,
    /// What callers were told of their own usage.
    own: Arc<usage::Memo>,
}

impl std::fmt::Debug for Accounting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Accounting").field("counts", &self.counts()).finish_non_exhaustive()
    }
}

impl Accounting {
    /// Starts the actor on `arbiter`.
    pub fn start(arbiter: &Arbiter, store: Store, health: StoreHealth, journal: OpenJournal) -> Self {
        let ledger = Arc::new(Ledger::new(journal));
        let found = ledger.counts();
        if found.replayed + found.corrupt + found.torn > 0 {
            let path = ledger.folder().path().display();
            let (rows, interrupted, corrupt, torn) =
                (found.replayed, found.interrupted, found.corrupt, found.torn);
            tracing::info!(%path, rows, interrupted, corrupt, torn, "rows were left in the journal");
        }
        let actor = Arc::new(Supervised::new(NAME));
        let (owned, theirs, noted) = (Arc::clone(&ledger), store.clone(), health.clone());
        actor.run(arbiter, MAILBOX, move |line| {
            AccountingActor::new(Arc::clone(&owned), theirs.clone(), noted.clone(), line)
        });
        Self { ledger, actor, store, health, own: Arc::default() }
    }

    /// Notes that a request has its seat, and sets room aside for its row. `row` is what it shall have if the
    /// process ends before it does. A contained fault is the request's own: it has cost nothing yet.
    pub fn open(&self, row: &LedgerRow) -> Result<Result<(), Full>, Contained> {
        self.ledger.open(row)
    }

    /// Takes the row of a finished request; the kernel has it when this returns. `Some`: the end of the answer is
    /// to wait for [`Self::durable`].
    pub fn record(&self, row: &Arc<LedgerRow>) -> Option<Written> {
        self.ledger.record(row)
    }

    /// Waits until the disk has the row, or fails.
    pub async fn durable(&self, place: Written) {
        self.ledger.durable(place).await;
    }

    /// Whether a new request may start. A contained fault is the request's own: it has cost nothing yet.
    pub fn has_room(&self) -> Result<bool, Contained> {
        self.ledger.with(|books| books.journal.has_room())
    }

    /// Keeps rows so many days from now on, and drops older ones; 0: keeps all, as before the first call.
    pub fn keep_rows(&self, days: u32) {
        self.ledger.days_kept.store(days, Ordering::Relaxed);
    }

    /// Row counts since the start.
    pub fn counts(&self) -> Counts {
        self.ledger.counts()
    }

    /// Waits until every row handed over so far is in the database, at most `patience`. Whether it is.
    pub async fn flush(&self, patience: Duration) -> bool {
        let Some(counts) = self.ledger.with_retry(|books| books.journal.counts()) else {
            return false;
        };
        let target = counts.received;
        let attempt = async {
            loop {
                match self.actor.send(Flush { target }).await {
                    Ok(true) => return,
                    Ok(false) | Err(_) => sleep(FIRST_PAUSE).await,
                }
            }
        };
        target == counts.recorded + counts.lost || timeout(patience, attempt).await.is_ok()
    }

    /// For the end of the process: what is in the journal reaches the disk. Blocks.
    pub fn sync(&self) {
        if let Err(error) = self.ledger.sync_out() {
            tracing::error!(%error, "the journal cannot be brought to the disk");
        }
    }

    /// Contained faults and restarts since the start.
    pub fn restarts(&self) -> u64 {
        self.ledger.cell.restarts() + self.actor.restarts()
    }

    /// The health of the database.
    pub const fn health(&self) -> &StoreHealth {
        &self.health
    }

    /// Makes the next core call panic. For tests.
    #[doc(hidden)]
    pub fn plant_fault(&self) {
        self.ledger.cell.plant_fault();
    }

    /// Kills the actor. For tests.
    #[doc(hidden)]
    pub fn crash(&self) -> Result<(), Undelivered> {
        self.actor.try_send(Crash)
    }
}
