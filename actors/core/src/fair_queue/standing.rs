//! Where one tenant stands, for itself: what it has, what it may, how long it waits. Nothing of others but
//! what a share says of all of them together. Takes time in proportion to the models and the capped
//! keys of the tenant, whatever the number of tenants.

use super::fairness::{among, entitled};
use super::plan::TenantPlan;
use super::recent::Recent;
use super::state::Tenant;
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
            oldest_wait: tenant.and_then(|tenant| self.waiting_since(tenant)).map(|since| now.since(since)),
            estimated_wait: self.wait_on(now, tenant, None, key),
            key: key.and_then(|key| key_of(tenant?, key)),
            models: tenant.map(|tenant| self.on_models(now, tenant, key)).unwrap_or_default(),
        }
    }

    /// Its weight among the active ones of its group, times that of the group among the active groups.
    fn entitled_of(&self, plan: &TenantPlan, tenant: Option<&Tenant>) -> Portion {
        let group = self.groups.find(&plan.group.id);
        // With this tenant, and so its group, among the active ones.
        let counted = tenant.filter(|tenant| tenant.plan.group.id == plan.group.id);
        let counted = counted.map_or(0, |tenant| tenant.counted);
        let member = among(group.map_or(0, |group| group.active_weight), counted, plan.weight);
        let counted = group.map_or(0, |group| group.counted);
        entitled(member, among(self.counts.active_weight, counted, plan.group.weight))
    }

    fn actual_of(&self, tenant: Option<&Tenant>) -> Portion {
        let step = self.watch.step;
        let sum = |recent: &mut dyn Iterator<Item = Recent>| -> u128 {
            recent.map(|recent| u128::from(recent.sum(step))).sum()
        };
        let own = tenant.map_or(0, |tenant| sum(&mut tenant.lanes.iter().map(|lane| lane.recent)));
        Portion::of(own, sum(&mut self.models.iter().map(|(_, model)| model.recent)))
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
