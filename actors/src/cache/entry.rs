//! Kept answers, and the store that holds them.
//!
//! The store is moka: admission and eviction by W-TinyLFU, a bound in bytes, an expiry of each entry's own. What
//! an entry weighs is what it holds in memory: its body stands in one allocation of exactly its size, never in
//! slices of read buffers that would hold more.

use super::broadcast::{Head, Piece};
use super::counts::ModelCounts;
use bytes::Bytes;
use moka::Expiry;
use moka::sync::Cache;
use obleth_core::ids::ModelId;
use obleth_core::ledger::Usage;
use obleth_core::moment::Moment;
use obleth_core::response_cache::{CacheKey, Purge};
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What the store itself needs for an entry: its key twice, nodes of two queues and of the timer, the slot in the
/// map, the counters of the allocations. Measured at 400 to 500 bytes.
const OVERHEAD: usize = 512;

/// A kept answer.
#[derive(Debug)]
pub struct Entry {
    pub head: Head,
    body: Bytes,
    /// Where the pieces end in which it came, and which of them bring nothing but the usage.
    pieces: Box<[(usize, bool)]>,
    pub usage: Usage,
    pub model: ModelId,
    pub stored: Moment,
    pub ttl: Duration,
}

impl Entry {
    /// The answer in these pieces.
    pub(super) fn of(
        head: &Head,
        pieces: &[Piece],
        usage: Usage,
        model: ModelId,
        stored: Moment,
        ttl: Duration,
    ) -> Self {
        let mut body = Vec::with_capacity(pieces.iter().map(|piece| piece.bytes.len()).sum());
        let mut ends = Vec::with_capacity(pieces.len());
        for piece in pieces {
            body.extend_from_slice(&piece.bytes);
            ends.push((body.len(), piece.usage_only));
        }
        let pieces = ends.into_boxed_slice();
        Self { head: head.kept(), body: body.into(), pieces, usage, model, stored, ttl }
    }

    /// All bytes, the usage of a stream included.
    pub(super) fn body(&self) -> &[u8] {
        &self.body
    }

    /// The answer as it came; `plain`: without the piece that brings nothing but the usage.
    pub fn pieces(&self, plain: bool) -> impl Iterator<Item = Bytes> {
        let mut from = 0;
        self.pieces.iter().filter_map(move |(end, usage_only)| {
            let start = std::mem::replace(&mut from, *end);
            (!(plain && *usage_only)).then(|| self.body.slice(start..*end))
        })
    }

    /// Bytes in memory.
    fn weight(&self) -> usize {
        OVERHEAD + size_of::<Self>() + self.head.weight() + self.body.len() + size_of_val(&*self.pieces)
    }
}

/// An entry lives as long as it says.
struct Own;

impl Expiry<CacheKey, Arc<Entry>> for Own {
    fn expire_after_create(&self, _: &CacheKey, entry: &Arc<Entry>, _: Instant) -> Option<Duration> {
        Some(entry.ttl)
    }

    fn expire_after_update(
        &self,
        _: &CacheKey,
        entry: &Arc<Entry>,
        _: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(entry.ttl)
    }
}

/// All kept answers.
pub(super) struct Store(Cache<CacheKey, Arc<Entry>>);

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("entries", &self.0.entry_count()).finish()
    }
}

impl Store {
    /// A store of at most so many bytes.
    pub fn new(max_bytes: u64) -> Self {
        let weigh = |_: &CacheKey, entry: &Arc<Entry>| u32::try_from(entry.weight()).unwrap_or(u32::MAX);
        Self(Cache::builder().max_capacity(max_bytes).weigher(weigh).expire_after(Own).build())
    }

    pub fn get(&self, key: &CacheKey) -> Option<Arc<Entry>> {
        self.0.get(key)
    }

    /// Keeps an answer, and makes room for it at once: what waits to be evicted is in memory all the same.
    pub fn put(&self, key: CacheKey, entry: Arc<Entry>) {
        self.0.insert(key, entry);
        self.0.run_pending_tasks();
    }

    /// Drops what has expired.
    pub fn tidy(&self) {
        self.0.run_pending_tasks();
    }

    /// Forgets what is meant; how many that were.
    pub fn purge(&self, purge: Purge) -> u64 {
        let meant = self.0.iter().filter(|(key, entry)| purge.means(key.tenant, entry.model));
        let keys: Vec<CacheKey> = meant.map(|(key, _)| *key).collect();
        keys.iter().for_each(|key| self.0.invalidate(key));
        self.0.run_pending_tasks();
        u64::try_from(keys.len()).unwrap_or(u64::MAX)
    }

    /// Bytes and entries.
    pub fn size(&self) -> (u64, u64) {
        self.0.run_pending_tasks();
        (self.0.weighted_size(), self.0.entry_count())
    }

    /// Adds bytes and entries by model.
    pub fn sizes(&self, counts: &mut HashMap<ModelId, ModelCounts>) {
        for (_, entry) in &self.0 {
            let counts = counts.entry(entry.model).or_default();
            counts.bytes += u64::try_from(entry.weight()).unwrap_or(0);
            counts.entries += 1;
        }
    }
}
