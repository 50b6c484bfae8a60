//! Where one tenant stands, for itself: what it has, what it may, how long it waits. Nothing of others but
//! what a share says of all of them together. Takes time in proportion to the models and the capped
//! keys of the tenant, whatever the number of tenants.

use super::plan::TenantPlan;
use super::recent::Recent;
use super::state::{Tenant, Ticket};
use super::wait::Waiter;
use super::{FairQueue, Place};
use crate::ids::{KeyId, ModelId};
use crate::moment::Moment;
use crate::units::Portion;
use std::time::Duration;

/// A tenant as it may see itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    pub in_flight: u32,
    pub queued: u32,
    /// The bound of `queued`.
    pub max_queued: u32,
    /// What the weights give it among all who are active now, itself included.
    pub entitled: Portion,
    /// Of what was charged to all in the window that `Picture::window_start` tells.
    pub actual: Portion,
    /// How long its oldest waiting request has waited.
    pub oldest_wait: Option<Duration>,
    /// How long a new request of the key would wait for a model that has room; `None` while nothing was measured.
    pub estimated_wait: Option<Duration>,
    /// Running and waiting requests of the key that was asked for, if it has a cap.
    pub key: Option<(u32, u32)>,
    /// The models it has something running or waiting on, by id.
    pub models: Vec<ModelStanding>,
}

/// A tenant on a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelStanding {
    pub id: ModelId,
    pub in_flight: u32,
    pub queued: u32,
    /// How long a new request for it would wait.
    pub estimated_wait: Option<Duration>,
}

impl FairQueue {
    /// Where the tenant of this plan stands, whether the queue has heard of it or not.
    pub fn standing(&self, now: Moment, plan: &TenantPlan, key: Option<KeyId>) -> Standing {
        let tenant = self.tenants.place(&plan.id).and_then(|place| self.tenants.at(place));
        let in_flight = tenant.map_or(0, |tenant| tenant.in_flight);
        Standing {
            in_flight,
            queued: tenant.map_or(0, |tenant| tenant.queued.count),
            max_queued: plan.max_queued.unwrap_or(self.settings.default_tenant_max_queued),
            entitled: self.entitled_of(plan, tenant),
            actual: self.actual_of(tenant),
            oldest_wait: tenant.and_then(|tenant| self.oldest_wait(now, tenant)),
            estimated_wait: self.wait_on(now, tenant, None, key),
            key: key.and_then(|key| key_of(tenant?, key)),
            models: tenant.map(|tenant| self.on_models(now, tenant, key)).unwrap_or_default(),
        }
    }

    /// Its weight among the active ones of its group, times that of the group among the active groups.
    fn entitled_of(&self, plan: &TenantPlan, tenant: Option<&Tenant>) -> Portion {
        let (weight, group_weight) = (u64::from(plan.weight.get()), u64::from(plan.group.weight.get()));
        let group = self.groups.find(&plan.group.id);
        // With this tenant, and so its group, among the active ones.
        let counted = tenant.filter(|tenant| tenant.plan.group.id == plan.group.id);
        let without = |sum: u64, counted: u32| sum.saturating_sub(counted.into());
        let active = group.map_or(0, |group| group.active_weight);
        let active = without(active, counted.map_or(0, |tenant| tenant.counted)).saturating_add(weight);
        let groups = without(self.counts.active_weight, group.map_or(0, |group| group.counted));
        let whole = u128::from(active).saturating_mul(groups.saturating_add(group_weight).into());
        Portion::of(u128::from(weight).saturating_mul(group_weight.into()), whole)
    }

    fn actual_of(&self, tenant: Option<&Tenant>) -> Portion {
        let step = self.watch.step;
        let sum = |recent: &mut dyn Iterator<Item = Recent>| -> u128 {
            recent.map(|recent| u128::from(recent.sum(step))).sum()
        };
        let own = tenant.map_or(0, |tenant| sum(&mut tenant.lanes.iter().map(|lane| lane.recent)));
        Portion::of(own, sum(&mut self.models.iter().map(|(_, model)| model.recent)))
    }

    fn oldest_wait(&self, now: Moment, tenant: &Tenant) -> Option<Duration> {
        let ready = tenant.lanes.iter().filter_map(|lane| lane.ready.first());
        let keyed = tenant.keys.values().flat_map(|line| line.queues.values());
        let keyed = keyed.filter_map(|queue| queue.waiting.first());
        match self.tickets.get(ready.chain(keyed).min()?)? {
            Ticket::Waiting(waiting) => Some(now.since(waiting.since)),
            Ticket::Seated(_) => None,
        }
    }

    fn wait_on(
        &self,
        now: Moment,
        tenant: Option<&Tenant>,
        model: Option<Place>,
        key: Option<KeyId>,
    ) -> Option<Duration> {
        match tenant {
            Some(tenant) => self.wait_of(now, &Waiter { tenant, model, key, cost: 0 }),
            None => self.stranger_wait(now, model),
        }
    }

    fn on_models(&self, now: Moment, tenant: &Tenant, key: Option<KeyId>) -> Vec<ModelStanding> {
        let active = tenant.lanes.iter().filter(|lane| lane.is_active());
        let standing = active.filter_map(|lane| {
            Some(ModelStanding {
                id: self.models.at(lane.model)?.plan.id,
                in_flight: lane.in_flight,
                queued: lane.queued,
                estimated_wait: self.wait_on(now, Some(tenant), Some(lane.model), key),
            })
        });
        let mut models: Vec<ModelStanding> = standing.collect();
        models.sort_by_key(|model| model.id);
        models
    }
}

fn key_of(tenant: &Tenant, key: KeyId) -> Option<(u32, u32)> {
    tenant.keys.get(&key).map(|line| (line.in_flight, line.queued()))
}
