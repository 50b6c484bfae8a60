//! When keys were last used: noted in memory by the data plane, written once a minute, shown with the keys.

use super::{Admin, AdminError, Context, rfc3339};
use obleth_core::ids::KeyId;
use obleth_schema as schema;
use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Pause between two writes.
pub(super) const PERIOD: Duration = Duration::from_secs(60);
const MINUTE: i64 = 60_000_000;

/// The minute of a moment in Unix microseconds.
pub fn minute_of(unix_micros: i64) -> u32 {
    u32::try_from(unix_micros / MINUTE).unwrap_or(0)
}

fn micros_of(minute: u32) -> i64 {
    i64::from(minute) * MINUTE
}

impl Context {
    /// Writes the uses since the last time, all in one batch. What fails is in the next one.
    pub(super) async fn write_uses(&self) {
        let written = self.uses_written.load(Ordering::Relaxed);
        let registry = self.registry.load();
        let fresh = registry.keys().filter(|key| key.used.minute() >= written.max(1));
        let uses: Vec<_> = fresh.map(|key| (key.id.to_string(), key.used.minute())).collect();
        let Some(latest) = uses.iter().map(|(_, minute)| *minute).max() else {
            return;
        };
        let rows: Vec<_> = uses.into_iter().map(|(id, minute)| (id, micros_of(minute))).collect();
        match schema::key_uses::note(&self.store, &rows).await {
            // A key may be used again within that minute, to no effect, or a new one in it: once more then.
            Ok(()) => self.uses_written.store(latest, Ordering::Relaxed),
            Err(error) => tracing::debug!(%error, "the last uses of keys were not written; next time"),
        }
    }

    /// The last use of this key, as RFC 3339.
    pub(super) async fn last_use(&self, id: &str) -> Result<Option<String>, AdminError> {
        Ok(self.last_uses(vec![id.to_owned()]).await?.remove(id))
    }

    /// The last uses of these keys, as RFC 3339.
    pub(super) async fn last_uses(&self, ids: Vec<String>) -> Result<HashMap<String, String>, AdminError> {
        let mut uses: HashMap<String, i64> =
            schema::key_uses::of(&self.store, ids.clone()).await?.into_iter().collect();
        let registry = self.registry.load();
        for id in ids {
            let key = id.parse().ok().and_then(|id| registry.key(KeyId(id)));
            if let Some(minute) = key.map(|key| key.used.minute()).filter(|minute| *minute > 0) {
                let at = uses.entry(id).or_default();
                *at = micros_of(minute).max(*at);
            }
        }
        Ok(uses.into_iter().map(|(id, at)| (id, rfc3339(at))).collect())
    }
}

impl Admin {
    /// Writes the uses of keys now, at the end; the actor does it once a minute.
    pub async fn write_uses(&self) {
        self.context.write_uses().await;
    }
}
