//! Bytes per token of each model, shared by all threads. Two that learn at once may lose one of two lessons.

use obleth_core::ids::ModelId;
use obleth_core::token_budget::BytesPerToken;
use parking_lot::RwLock;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

/// What is known of each model that has answered.
#[derive(Debug, Default)]
pub(super) struct Ratios {
    models: RwLock<HashMap<ModelId, AtomicU64>>,
}

impl Ratios {
    pub fn of(&self, model: ModelId) -> BytesPerToken {
        let models = self.models.read();
        BytesPerToken::unpacked(models.get(&model).map_or(0, |word| word.load(Ordering::Relaxed)))
    }

    pub fn learn(&self, model: ModelId, bytes: u64, tokens: u64) {
        if let Some(word) = self.models.read().get(&model) {
            let learned = BytesPerToken::unpacked(word.load(Ordering::Relaxed)).learn(bytes, tokens);
            word.store(learned.packed(), Ordering::Relaxed);
            return;
        }
        let learned = BytesPerToken::default().learn(bytes, tokens);
        self.models.write().insert(model, AtomicU64::new(learned.packed()));
    }

    pub fn retain(&self, keep: impl Fn(ModelId) -> bool) {
        self.models.write().retain(|model, _| keep(*model));
    }
}
