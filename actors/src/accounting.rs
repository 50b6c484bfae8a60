//! AccountingActor: the ledger.
//!
//! Is: the shell of `obleth_core::ledger::Spool`. A finished request hands its row over through the cell,
//! without waiting; the actor writes rows to the database in batches, again and again until each is in.
//! Is not: on a request's path. Invariant: received = recorded + waiting; no row is lost with a panic of the
//! actor or the core, none is doubled (the database takes a row id once).

use crate::cell::{Cell, Contained, Heal};
use crate::supervise::{Crash, Supervised, Undelivered};
use actix::Arbiter;
use obleth_core::ledger::{Counts, LedgerRow, Spool};
use obleth_schema::Store;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::{sleep, timeout};

mod actor;
mod health;
pub mod usage;

use actor::{AccountingActor, Flush};
pub use health::StoreHealth;

/// The actor's name in logs and metrics.
pub const NAME: &str = "accounting";

/// Messages (flushes) that may wait.
const MAILBOX: usize = 256;
/// Rows of one batch.
const BATCH: usize = 500;
/// How often waiting rows are written; every pause is looked at as often.
const TICK: Duration = Duration::from_millis(100);
/// First and longest pause after a batch the database did not take.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// The core with what it needs to heal.
struct Books {
    spool: Spool,
    capacity: usize,
}

impl Heal for Books {
    fn heal(&mut self) {
        let torn = std::mem::replace(&mut self.spool, Spool::new(self.capacity));
        self.spool = torn.resume();
    }
}

/// Shared by the handle and the actor.
struct Ledger {
    cell: Cell<Books>,
    /// Rows a contained fault kept out of the core; taken in with the next call.
    stranded: Mutex<Vec<Arc<LedgerRow>>>,
    has_stranded: AtomicBool,
}

impl Ledger {
    /// Calls the core; first hands it what a fault kept out.
    fn with<R>(&self, call: impl FnOnce(&mut Spool) -> R) -> Option<R> {
        let mut stranded = if self.has_stranded.swap(false, Ordering::AcqRel) {
            std::mem::take(&mut *self.stranded.lock())
        } else {
            Vec::new()
        };
        let result = self.cell.with(|books| {
            while let Some(row) = stranded.pop() {
                books.spool.push(row);
            }
            call(&mut books.spool)
        });
        self.strand(stranded);
        result.ok()
    }

    /// Keeps rows that did not reach the core for the next call.
    fn strand(&self, rows: Vec<Arc<LedgerRow>>) {
        if !rows.is_empty() {
            self.stranded.lock().extend(rows);
            self.has_stranded.store(true, Ordering::Release);
        }
    }

    /// The same for a call that may be made again: a contained fault does not end it.
    fn with_retry<R>(&self, call: impl Fn(&mut Spool) -> R) -> Option<R> {
        (0..3).find_map(|_| self.with(&call))
    }
}

/// How handlers reach the ledger.
#[derive(Clone)]
pub struct Accounting {
    ledger: Arc<Ledger>,
    actor: Arc<Supervised<AccountingActor>>,
    store: Store,
    health: StoreHealth,
}

impl std::fmt::Debug for Accounting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Accounting").field("counts", &self.counts()).finish_non_exhaustive()
    }
}

impl Accounting {
    /// Starts the actor on `arbiter`; from `capacity` waiting rows on new requests are refused.
    pub fn start(arbiter: &Arbiter, store: Store, health: StoreHealth, capacity: usize) -> Self {
        let ledger = Arc::new(Ledger {
            cell: Cell::new(NAME, Books { spool: Spool::new(capacity), capacity }),
            stranded: Mutex::new(Vec::new()),
            has_stranded: AtomicBool::new(false),
        });
        let actor = Arc::new(Supervised::new(NAME));
        let (owned, theirs, noted) = (Arc::clone(&ledger), store.clone(), health.clone());
        actor.run(arbiter, MAILBOX, move |line| {
            AccountingActor::new(Arc::clone(&owned), theirs.clone(), noted.clone(), line)
        });
        Self { ledger, actor, store, health }
    }

    /// Takes the row of a finished request. `false`: a contained fault; the row is kept and goes in later.
    pub fn record(&self, row: Arc<LedgerRow>) -> bool {
        let mut row = Some(row);
        let taken = self.ledger.with(|spool| row.take().into_iter().for_each(|row| spool.push(row)));
        self.ledger.strand(row.into_iter().collect());
        taken.is_some()
    }

    /// Whether a new request may start. A contained fault is the request's own: it has cost nothing yet.
    pub fn has_room(&self) -> Result<bool, Contained> {
        self.ledger.with(|spool| spool.has_room()).ok_or(Contained(NAME))
    }

    /// Row counts since the start.
    pub fn counts(&self) -> Counts {
        self.ledger.with_retry(|spool| spool.counts()).unwrap_or_default()
    }

    /// Waits until every row handed over so far is in the database, at most `patience`. Whether it is.
    pub async fn flush(&self, patience: Duration) -> bool {
        let Some(Counts { received: target, recorded, .. }) = self.ledger.with_retry(|spool| spool.counts())
        else {
            return false;
        };
        let attempt = async {
            loop {
                match self.actor.send(Flush { target }).await {
                    Ok(true) => return,
                    Ok(false) | Err(_) => sleep(FIRST_PAUSE).await,
                }
            }
        };
        target == recorded || timeout(patience, attempt).await.is_ok()
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
