//! Which tenants have series of their own: at most 50, those with the most tokens lately; `other` has the rest.
//!
//! A request counts where its tenant stands when it ends, in one series and for good. So each series only ever
//! rises while it is there, `other` too, and together they are the whole:
//!
//! - A tenant comes on the roll with its first request while there is room; its series begin at 0 (what it did
//!   before stays in `other`).
//! - At a scrape, when the roll is full, a tenant that is not on it takes the place of the one that has used the
//!   least in the last 60 to 90 s, if it has used more than twice as much in them and the other has stood for
//!   five minutes. Without that pause and that margin two tenants of equal size would take turns, and each turn
//!   is a new series for Prometheus to keep.
//! - One that leaves, is deleted or gets another name takes its series along. If it comes back they begin at 0
//!   again, which Prometheus reads as the restart of a counter.

use super::roll::Roll;
use obleth_core::ids::TenantId;
use obleth_core::moment::Moment;
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

/// Tenants with series of their own.
pub const TENANTS: usize = 50;
/// How long one stands before another may take its place.
const STAY: Duration = Duration::from_secs(300);

/// What the scheduler knows of a tenant.
#[derive(Clone, Copy, Debug)]
pub struct Standing {
    pub id: TenantId,
    pub in_flight: u32,
    pub queued: u32,
    /// Cost that was charged in the last 60 to 90 s.
    pub recent: u64,
}

/// See the module head.
#[derive(Debug)]
pub(super) struct Top {
    pub(super) roll: Roll<TenantId>,
    /// Names of those on the roll, and since when they are known to stand there.
    since: Mutex<HashMap<TenantId, (Arc<str>, Moment)>>,
}

impl Default for Top {
    fn default() -> Self {
        Self { roll: Roll::new(TENANTS), since: Mutex::default() }
    }
}

impl Top {
    /// Decides who stays and who comes; the names of those who stand now.
    pub(super) fn choose(
        &self,
        now: Moment,
        standings: &[Standing],
        name_of: impl Fn(TenantId) -> Option<Arc<str>>,
    ) -> BTreeMap<Arc<str>, TenantId> {
        let mut since = self.since.lock();
        let left = |id: &TenantId| match (name_of(*id), since.get(id)) {
            (None, _) => true,
            (Some(name), known) => known.is_some_and(|(old, _)| *old != name),
        };
        self.roll.strike(&self.roll.keys().into_iter().filter(left).collect::<Vec<_>>());
        self.challenge(now, standings, &since);
        since.retain(|id, _| self.roll.has(id));
        for id in self.roll.keys() {
            if let Some(name) = name_of(id) {
                since.entry(id).or_insert((name, now));
            }
        }
        // One named like the label of all others is called by its id.
        let label = |id: TenantId| {
            let name = name_of(id)?;
            Some((if &*name == super::OTHER { id.to_string().into() } else { name }, id))
        };
        self.roll.keys().into_iter().filter_map(label).collect()
    }

    /// Gives places to those who have more than twice as much as the least who stands.
    fn challenge(&self, now: Moment, standings: &[Standing], since: &HashMap<TenantId, (Arc<str>, Moment)>) {
        let recent: HashMap<TenantId, u64> = standings.iter().map(|row| (row.id, row.recent)).collect();
        let mut outside: Vec<_> = recent.iter().filter(|(id, _)| !self.roll.has(*id)).collect();
        outside.sort_unstable_by_key(|(id, recent)| (std::cmp::Reverse(**recent), **id));
        let long = |id: &TenantId| since.get(id).is_some_and(|(_, from)| now.since(*from) >= STAY);
        let mut weakest: Vec<_> = self.roll.keys().into_iter().filter(long).collect();
        weakest.sort_unstable_by_key(|id| (recent.get(id).copied().unwrap_or_default(), *id));
        let mut weakest = weakest.into_iter();
        for (id, more) in outside.into_iter().filter(|(_, recent)| **recent > 0) {
            if self.roll.admit(id).is_some() {
                continue;
            }
            let Some(leaves) = weakest.next() else {
                return;
            };
            if *more <= recent.get(&leaves).copied().unwrap_or_default().saturating_mul(2) {
                return;
            }
            self.roll.strike(&[leaves]);
            self.roll.admit(id);
        }
    }
}

#[cfg(test)]
mod tests;
