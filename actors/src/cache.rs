//! CacheActor: the response cache.
//!
//! Is: the shell of `obleth_core::response_cache`. Lookups read the store directly, from any thread and without a
//! message; leaders and followers meet in a cell; an answer on its way goes to all who wait for it through a
//! [`Broadcast`]. The actor expires, purges and counts. Is not: HTTP. Invariants: entries and answers on their
//! way together stay within `max_bytes`; each lead, each place of a follower and each flight is a guard, so
//! none is lost with a client, a task or a panic.

use crate::clock::Clock;
use crate::supervise::{Crash, Supervised, Undelivered};
use actix::Arbiter;
use obleth_core::ids::ModelId;
use obleth_core::ledger::CacheState;
use obleth_core::response_cache::{CacheKey, Dump, Purge, is_fresh};
use obleth_core::units::Usd;
use std::sync::Arc;
use std::time::Duration;

mod actor;
mod broadcast;
mod counts;
mod desk;
mod entry;
mod flight;
mod follower;

use actor::{CacheActor, Forget};
pub use broadcast::{Failure, Got, Head, Line, Outcome, Reader};
pub use counts::ModelCounts;
use desk::Desk;
pub use entry::Entry;
pub use flight::{Flight, Lead, Note};
pub use follower::{Follower, Told};

/// The actor's name in logs and metrics.
pub const NAME: &str = "cache";

/// Messages (purges) that may wait.
const MAILBOX: usize = 256;
/// How often what has expired is dropped, looked up or not.
const TICK: Duration = Duration::from_secs(1);
/// Of all bytes, the part that answers on their way may take.
const FLIGHTS_SHARE: u64 = 8;

/// Bounds of the cache.
#[derive(Clone, Copy, Debug)]
pub struct CacheSettings {
    /// Entries and answers on their way together; 0 = no cache.
    pub max_bytes: u64,
    /// One answer.
    pub max_entry_bytes: usize,
}

impl CacheSettings {
    /// The most one entry may have: no more than all answers on their way together.
    pub fn largest_entry(max_bytes: u64) -> u64 {
        max_bytes / FLIGHTS_SHARE
    }
}

/// What a request that found nothing becomes.
#[derive(Debug)]
pub enum Joined {
    /// It asks the upstream, for itself and those that follow.
    Lead(Lead),
    Follow(Follower),
    /// It goes upstream by itself: too many fly, or a contained fault.
    Alone,
}

/// How handlers reach the cache.
#[derive(Clone, Debug)]
pub struct Cache {
    desk: Arc<Desk>,
    actor: Arc<Supervised<CacheActor>>,
}

impl Cache {
    /// Starts the actor on `arbiter`.
    pub fn start(arbiter: &Arbiter, clock: Clock, settings: CacheSettings) -> Self {
        let desk = Arc::new(Desk::new(clock, settings));
        let actor = Arc::new(Supervised::new(NAME));
        let owned = Arc::clone(&desk);
        actor.run(arbiter, MAILBOX, move |line| CacheActor::new(Arc::clone(&owned), line));
        Self { desk, actor }
    }

    /// Its bounds.
    pub fn settings(&self) -> CacheSettings {
        self.desk.settings
    }

    /// Whether anything is cached at all.
    pub fn is_on(&self) -> bool {
        self.desk.settings.max_bytes > 0
    }

    /// The answer kept under `key`, and its age, if it is younger than `ttl` and no older than `max_age`.
    pub fn find(
        &self,
        key: &CacheKey,
        ttl: Duration,
        max_age: Option<Duration>,
    ) -> Option<(Arc<Entry>, Duration)> {
        let entry = self.desk.store.get(key)?;
        let now = self.desk.clock.now();
        is_fresh(entry.stored, now, ttl.min(entry.ttl), max_age).then(|| {
            let age = now.since(entry.stored);
            (entry, age)
        })
    }

    /// A request for `key` that found nothing.
    pub fn join(&self, key: CacheKey, model: ModelId) -> Joined {
        self.desk.join(key, model)
    }

    /// Counts a request by what the cache did for it; `saved`: the tokens and the money it did not cost.
    pub fn count(&self, model: ModelId, state: CacheState, saved: Option<(u64, Usd)>) {
        self.desk.counts.add(model, state, saved);
    }

    /// Forgets entries, and keeps nothing of what flies. When it returns none of them is found any more.
    pub async fn purge(&self, purge: Purge) -> Result<u64, Undelivered> {
        self.actor.send(Forget(purge)).await
    }

    /// The same without waiting for it; where the mailbox is full it is done at once, by the caller.
    pub fn purge_soon(&self, purge: Purge) {
        if self.actor.try_send(Forget(purge)).is_err() {
            self.desk.purge(purge);
        }
    }

    /// A model is gone: its entries and its counts, too.
    pub fn forget_model(&self, model: ModelId) {
        self.purge_soon(Purge { tenant: None, model: Some(model) });
        self.desk.counts.forget(model);
    }

    /// Counts and sizes by model.
    pub fn stats(&self) -> Vec<(ModelId, ModelCounts)> {
        let mut counts = self.desk.counts.all();
        self.desk.store.sizes(&mut counts);
        counts.into_iter().collect()
    }

    /// Bytes of the entries, and how many there are.
    pub fn size(&self) -> (u64, u64) {
        self.desk.store.size()
    }

    /// Bytes of answers on their way.
    pub fn in_flight_bytes(&self) -> usize {
        self.desk.pool.used()
    }

    /// Flights and followers. `None` after a contained fault.
    pub fn dump(&self) -> Option<Dump> {
        self.desk.dump()
    }

    /// Contained faults and restarts since the start.
    pub fn restarts(&self) -> u64 {
        self.desk.restarts() + self.actor.restarts()
    }

    /// Makes the next core call panic. For tests.
    #[doc(hidden)]
    pub fn plant_fault(&self) {
        self.desk.plant_fault();
    }

    /// Kills the actor. For tests.
    #[doc(hidden)]
    pub fn crash(&self) -> Result<(), Undelivered> {
        self.actor.try_send(Crash)
    }
}
