//! Which tenant has the most queued cost per weight. Asked only when the whole queue is full.
//!
//! A heap of upper bounds: an entry is pushed when a tenant's score passes the highest it had, and
//! nothing is done when the score falls. Asking corrects the entries at the top until one is true.
//! Invariant: every tenant with something queued has an entry of at least its score, and `bound` is it.

use super::{FairQueue, Place};
use std::collections::BinaryHeap;

/// See the module head. Entries whose score is not the `bound` of the tenant at their place are stale.
pub(super) type Heaviest = BinaryHeap<(u64, Place)>;

impl FairQueue {
    /// The score of a tenant may have risen.
    pub(super) fn note_score(&mut self, place: Place) {
        let Some(tenant) = self.tenants.at_mut(place) else { return };
        let score = tenant.score_of(tenant.queued.cost);
        if tenant.queued.count == 0 || tenant.queued.bound.is_some_and(|bound| bound >= score) {
            return;
        }
        tenant.queued.bound = Some(score);
        self.counts.step(self.heaviest.len());
        self.heaviest.push((score, place));
        if self.heaviest.len() > self.tenants.len().saturating_mul(2).saturating_add(64) {
            self.drop_stale();
        }
    }

    /// The highest score of all.
    pub(super) fn highest_score(&mut self) -> Option<u64> {
        while let Some((bound, place)) = self.heaviest.pop() {
            self.counts.step(self.heaviest.len());
            let Some(tenant) = self.tenants.at_mut(place) else { continue };
            if tenant.queued.bound != Some(bound) {
                continue;
            }
            tenant.queued.bound = None;
            if tenant.queued.count == 0 {
                continue;
            }
            let score = tenant.score_of(tenant.queued.cost);
            tenant.queued.bound = Some(score);
            self.heaviest.push((score, place));
            if score == bound {
                return Some(score);
            }
        }
        None
    }

    /// Keeps one entry a tenant, so that the heap stays as small as the tenants are many.
    fn drop_stale(&mut self) {
        let Self { heaviest, tenants, .. } = self;
        heaviest.clear();
        for (place, tenant) in tenants.iter_mut() {
            let waits = tenant.queued.count > 0;
            tenant.queued.bound = waits.then(|| tenant.score_of(tenant.queued.cost));
            heaviest.extend(tenant.queued.bound.map(|bound| (bound, place)));
        }
    }
}
