//! The driver's own books: the plans the queue was told last, and the refunds a tenant has not spent.

use super::super::*;
use std::collections::BTreeMap;

#[derive(Default)]
pub struct Books {
    pub tenants: BTreeMap<TenantId, TenantPlan>,
    pub models: BTreeMap<ModelId, ModelPlan>,
    pub keys: BTreeMap<(TenantId, KeyId), u32>,
    /// At least what was refunded and not spent: what is not sure to be spent still counts.
    credit: BTreeMap<TenantId, i128>,
}

impl Books {
    /// The queue takes over the plans that a demand carries.
    pub fn tell(&mut self, demand: &Demand) {
        self.tenants.insert(demand.tenant.id, demand.tenant);
        self.tell_group(demand.tenant.group);
        self.models.insert(demand.model.id, demand.model);
        self.keys.extend(demand.key.map(|(key, cap)| ((demand.tenant.id, key), cap)));
    }

    pub fn tell_group(&mut self, plan: GroupPlan) {
        let members = self.tenants.values_mut().filter(|tenant| tenant.group.id == plan.id);
        members.for_each(|tenant| tenant.group = plan);
    }

    pub fn refund(&mut self, id: TenantId, charged: u64, cost: u64) {
        *self.credit.entry(id).or_default() += i128::from(charged.saturating_sub(cost));
    }

    pub fn spend_credit(&mut self, id: TenantId, charged: u64) {
        let credit = self.credit.entry(id).or_default();
        *credit = (*credit - i128::from(charged)).max(0);
    }

    /// It had nothing queued and came back.
    pub fn forget_credit(&mut self, id: TenantId) {
        self.credit.remove(&id);
    }

    pub fn credit(&self, id: TenantId) -> i128 {
        self.credit.get(&id).copied().unwrap_or_default()
    }

    /// Whether a demand has room on every level but that of the slots, with these requests running.
    pub fn room<'a>(&self, demand: &Demand, running: impl Iterator<Item = &'a Demand> + Clone) -> bool {
        let below = |cap: Option<u32>, of: &dyn Fn(&Demand) -> bool| {
            let count = running.clone().filter(|other| of(other)).count();
            cap.is_none_or(|cap| count < usize::try_from(cap).unwrap())
        };
        let id = demand.tenant.id;
        let key = demand.key.map(|(key, _)| key);
        let key_cap = key.and_then(|key| self.keys.get(&(id, key)).copied());
        below(self.tenants[&id].max_in_flight, &|other| other.tenant.id == id)
            && below(self.models[&demand.model.id].max_in_flight, &|other| other.model.id == demand.model.id)
            && below(key_cap, &|other| other.tenant.id == id && other.key.map(|(key, _)| key) == key)
    }
}
