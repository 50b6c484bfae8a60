//! The response cache.

use super::Env;
use obleth_actors::cache::CacheSettings;

/// Bytes of all kept answers, when nothing else is said.
const BYTES: u64 = 256 << 20;
/// Bytes of one, when nothing else is said.
const ENTRY: u64 = 1 << 20;

/// How much is kept.
#[derive(Clone, Debug)]
pub struct CacheConfig {
    /// `OBLETH_CACHE_MAX_BYTES`: kept answers and answers on their way to several, together; 0 = no cache.
    pub max_bytes: u64,
    /// `OBLETH_CACHE_MAX_ENTRY_BYTES`: the largest answer that is kept.
    pub max_entry_bytes: usize,
}

impl CacheConfig {
    pub(super) fn read(env: &mut Env) -> Self {
        let max_bytes = env.number("OBLETH_CACHE_MAX_BYTES", BYTES, 0..=1 << 40);
        let entry = env.optional_number("OBLETH_CACHE_MAX_ENTRY_BYTES", 0..=1 << 30);
        let largest = CacheSettings::largest_entry(max_bytes);
        if max_bytes > 0 && entry.is_some_and(|entry| entry > largest) {
            env.fault(format!(
                "OBLETH_CACHE_MAX_ENTRY_BYTES must not be more than an eighth of OBLETH_CACHE_MAX_BYTES ({largest})"
            ));
        }
        let entry = entry.unwrap_or_else(|| ENTRY.min(largest));
        Self { max_bytes, max_entry_bytes: usize::try_from(entry).unwrap_or(usize::MAX) }
    }

    pub(super) fn effective(&self) -> Vec<(&'static str, String)> {
        vec![
            ("OBLETH_CACHE_MAX_BYTES", self.max_bytes.to_string()),
            ("OBLETH_CACHE_MAX_ENTRY_BYTES", self.max_entry_bytes.to_string()),
        ]
    }
}
