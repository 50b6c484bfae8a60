//! Memory: tenants without work are remembered for a while, for their forecasts, then forgotten.
//!
//! Forgetting is exact where it matters: only a tenant whose tag no clock of its group lies below goes,
//! and it would be lifted to the clock on its return anyway. Each ending looks at two entries of the
//! list, so the work is constant and a list of n entries is gone through within n/2 endings.

use super::planted::{Fault, planted};
use super::{FairQueue, Place};
use crate::ids::KeyId;
use std::collections::VecDeque;

/// Idle tenants remembered when nothing else is said.
const KEPT: usize = 1024;

/// Tenants without work.
#[derive(Debug)]
pub(super) struct Idle {
    /// How many may stay although they could be forgotten.
    kept: usize,
    count: usize,
    next_mark: u64,
    /// Places with the mark they got when they became idle; stale when the tenant has another by now.
    line: VecDeque<(Place, u64)>,
}

impl Default for Idle {
    fn default() -> Self {
        Self { kept: KEPT, count: 0, next_mark: 0, line: VecDeque::new() }
    }
}

impl FairQueue {
    /// Sets how many idle tenants are remembered although they could be forgotten. What is lost with a
    /// tenant is the forecast of its answers and its part of the reported service.
    pub fn remember_idle(&mut self, kept: usize) {
        self.idle.kept = kept;
    }

    /// Tenants known, idle ones included.
    pub fn known_tenants(&self) -> usize {
        self.tenants.len()
    }

    /// The tenant has work again.
    pub(super) fn wake(&mut self, place: Place) {
        if self.tenants.at_mut(place).and_then(|tenant| tenant.idle_mark.take()).is_some() {
            self.idle.count = self.idle.count.saturating_sub(1);
        }
    }

    /// Something of the tenant ended: its key, and the tenant itself, may be without work now.
    pub(super) fn leave_idle(&mut self, place: Place, key: Option<KeyId>) {
        let Some(tenant) = self.tenants.at_mut(place) else { return };
        if let Some(key) = key {
            tenant.forget_key(key);
        }
        if !tenant.is_idle() || tenant.idle_mark.is_some() {
            return;
        }
        let mark = self.idle.next_mark;
        self.idle.next_mark = mark.wrapping_add(1);
        tenant.idle_mark = Some(mark);
        self.idle.count = self.idle.count.saturating_add(1);
        self.idle.line.push_back((place, mark));
        self.sweep();
        self.sweep();
    }

    /// Looks at the entry at the front.
    fn sweep(&mut self) {
        let Some((place, mark)) = self.idle.line.pop_front() else { return };
        if self.tenants.at(place).is_none_or(|tenant| tenant.idle_mark != Some(mark)) {
            return;
        }
        if self.idle.count > self.idle.kept && self.forgettable(place) {
            self.forget(place);
        } else {
            self.idle.line.push_back((place, mark));
        }
    }

    fn forgettable(&self, place: Place) -> bool {
        let Some(tenant) = self.tenants.at(place) else { return false };
        let Some(group) = self.groups.at(tenant.group) else { return false };
        let lowest = group.cells.iter().flatten().map(|cell| cell.clock.now()).min();
        let owes = lowest.is_some_and(|clock| tenant.account.tag > clock);
        let fresh =
            self.shared.as_ref().is_some_and(|shared| !shared.records.is_old_tenant(place, self.watch.now));
        tenant.is_idle() && !fresh && (!owes || planted(Fault::ForgottenTooEarly))
    }

    fn forget(&mut self, place: Place) {
        let Some((id, group, era)) =
            self.tenants.at(place).map(|tenant| (tenant.plan.id, tenant.group, tenant.account.era))
        else {
            return;
        };
        if let Some(shared) = self.shared.as_mut() {
            shared.records.forget_tenant(place, era);
        }
        self.tenants.remove(&id);
        self.idle.count = self.idle.count.saturating_sub(1);
        if let Some(group) = self.groups.at_mut(group) {
            group.members = group.members.saturating_sub(1);
        }
        self.forget_group_if_empty(group);
    }

    /// A group goes with its last tenant, on the same condition one level up.
    pub(super) fn forget_group_if_empty(&mut self, place: Place) {
        let Some(group) = self.groups.at(place) else { return };
        let lowest = self.models.iter().map(|(_, model)| model.clock.now()).min();
        let shared = self.shared.as_ref();
        let fresh = shared.is_some_and(|shared| !shared.records.is_old_group(place, self.watch.now));
        if group.members == 0 && !fresh && lowest.is_none_or(|clock| group.account.tag <= clock) {
            let (id, era) = (group.plan.id, group.account.era);
            if let Some(shared) = self.shared.as_mut() {
                shared.records.forget_group(place, era);
            }
            self.groups.remove(&id);
        }
    }
}

#[cfg(test)]
impl FairQueue {
    /// Length of the list of idle tenants, stale entries included.
    pub(super) fn idle_entries(&self) -> usize {
        self.idle.line.len()
    }
}
