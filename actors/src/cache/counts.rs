//! What the cache did for each model.

use obleth_core::ids::ModelId;
use obleth_core::ledger::CacheState;
use obleth_core::units::Usd;
use parking_lot::Mutex;
use std::collections::HashMap;

/// Since the start of the process, but for the sizes, which are those of now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ModelCounts {
    pub hits: u64,
    pub misses: u64,
    pub coalesced: u64,
    pub bypassed: u64,
    /// Tokens of answers that cost nothing, prompt and answer.
    pub tokens_saved: u64,
    /// What they would have cost.
    pub saved: Usd,
    pub bytes: u64,
    pub entries: u64,
}

impl ModelCounts {
    /// Both together.
    #[must_use]
    pub fn and(self, other: &Self) -> Self {
        Self {
            hits: self.hits + other.hits,
            misses: self.misses + other.misses,
            coalesced: self.coalesced + other.coalesced,
            bypassed: self.bypassed + other.bypassed,
            tokens_saved: self.tokens_saved.saturating_add(other.tokens_saved),
            saved: self.saved + other.saved,
            bytes: self.bytes + other.bytes,
            entries: self.entries + other.entries,
        }
    }
}

/// Of all models that were asked for.
#[derive(Debug, Default)]
pub(super) struct Counts(Mutex<HashMap<ModelId, ModelCounts>>);

impl Counts {
    pub fn add(&self, model: ModelId, state: CacheState, saved: Option<(u64, Usd)>) {
        if state == CacheState::Off {
            return;
        }
        let mut all = self.0.lock();
        let counts = all.entry(model).or_default();
        match state {
            CacheState::Off => {}
            CacheState::Hit => counts.hits += 1,
            CacheState::Miss => counts.misses += 1,
            CacheState::Coalesced => counts.coalesced += 1,
            CacheState::Bypass => counts.bypassed += 1,
        }
        if let Some((tokens, money)) = saved {
            counts.tokens_saved = counts.tokens_saved.saturating_add(tokens);
            counts.saved = counts.saved + money;
        }
    }

    pub fn all(&self) -> HashMap<ModelId, ModelCounts> {
        self.0.lock().clone()
    }

    pub fn forget(&self, model: ModelId) {
        self.0.lock().remove(&model);
    }
}
