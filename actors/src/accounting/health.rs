//! Whether the database answers, as far as the last call knew. While it does not, a key that the snapshot
//! does not know may exist all the same: it is answered 503, not 401.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A shared flag.
#[derive(Clone, Debug, Default)]
pub struct StoreHealth(Arc<AtomicBool>);

impl StoreHealth {
    /// Notes how the last call went.
    pub fn note(&self, answered: bool) {
        if self.0.swap(!answered, Ordering::Relaxed) == answered {
            if answered {
                tracing::info!("the database is back");
            } else {
                tracing::warn!("the database is away; known keys go on, ledger rows wait");
            }
        }
    }

    /// Whether the last call found the database away.
    pub fn is_away(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
