//! How fair it has been: what a picture of the queue says about shares, in integers.
//!
//! *Entitled share*, for the live view: by weight among the groups, and in the group among the tenants, that
//! have anything waiting or running. *Jain index*, for the gauge: of `x = served / due` over the tenants that
//! waited all through the window without being held back by a cap of their own or of their keys. What was due
//! to a tenant is the fluid share: the service of all groups with such a tenant, divided among these groups
//! by weight, less what other members of its group took, divided among the group's waiting tenants by weight.
//!
//! A model whose cap was reached in the window is a pool of its own, and its tenants are compared with each
//! other; all other models share the slots and count as one pool. A tenant on several pools has no one share
//! to be measured by, so it counts for its group only. A pool with one such tenant tells nothing.

use super::Dump;
use super::cost::UNITS_A_TOKEN;
use super::picture::{GroupRow, Picture, TenantRow};
use crate::ids::{GroupId, ModelId};
use crate::moment::Moment;
use crate::units::{Decimal, Portion, Share};
use std::collections::BTreeMap;
use std::time::Duration;

/// A tenant's `x` where service and due agree.
const FAIR: u128 = 1_000_000;

/// The gauges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fairness {
    /// Weighted Jain index; whole when fewer than two tenants can be compared.
    pub jain: Portion,
    /// Tenants that were compared.
    pub compared: usize,
    /// Largest |virtual time − clock| of a tenant that waits and is held back by no cap of its own, in
    /// tokens at its weight.
    pub max_lag_tokens: u64,
    /// Tenants with something waiting, and those of them at their own cap.
    pub backlogged: usize,
    pub blocked: usize,
    /// Age of the oldest waiting request.
    pub oldest_wait: Duration,
    /// Sum of |forecast − actual| over the sum of actual cost, in millionths.
    pub forecast_error_millionths: u32,
}

impl Default for Fairness {
    /// Of a queue of which nothing is known.
    fn default() -> Self {
        Self {
            jain: Portion::WHOLE,
            compared: 0,
            max_lag_tokens: 0,
            backlogged: 0,
            blocked: 0,
            oldest_wait: Duration::ZERO,
            forecast_error_millionths: 0,
        }
    }
}

/// The entitled share `gw/ΣGw × w/ΣW` of a tenant: its weight and that of all active members of its group,
/// and the same of the group among the active groups.
pub(super) fn entitled(member: (u128, u128), group: (u128, u128)) -> Portion {
    Portion::of(member.0.saturating_mul(group.0), member.1.saturating_mul(group.1))
}

/// `weight` and the sum of active weights with it, of which `counted` was its own part until now.
pub(super) fn among(active: u64, counted: u32, weight: Share) -> (u128, u128) {
    let others = active.saturating_sub(counted.into());
    (weight.get().into(), u128::from(others).saturating_add(weight.get().into()))
}

/// What the active ones weigh together.
#[derive(Clone, Debug, Default)]
pub struct Weights {
    groups: BTreeMap<GroupId, (u128, u128)>,
    all_groups: u128,
    /// Charged in the window, all tenants together.
    pub recent_cost: u128,
}

impl Weights {
    /// Of a picture.
    pub fn of(picture: &Picture) -> Self {
        let mut weights = Self::default();
        let plans = groups(picture);
        for tenant in picture.tenants.iter().filter(|tenant| active(tenant)) {
            let Some(group) = plans.get(&tenant.group) else { continue };
            let own = u128::from(group.weight.get());
            let entry = weights.groups.entry(tenant.group).or_insert((own, 0));
            entry.1 = entry.1.saturating_add(u128::from(tenant.weight.get()));
        }
        weights.all_groups = weights.groups.values().map(|(weight, _)| *weight).sum();
        weights.recent_cost = picture.models.iter().map(|model| u128::from(model.recent_cost)).sum();
        weights
    }

    /// The entitled share of a tenant: nothing while it has neither waiting nor running requests.
    pub fn entitled(&self, tenant: &TenantRow) -> Portion {
        match self.groups.get(&tenant.group).filter(|_| active(tenant)) {
            Some((group, members)) => {
                entitled((tenant.weight.get().into(), *members), (*group, self.all_groups))
            }
            None => Portion::NONE,
        }
    }

    /// The entitled share of a group.
    pub fn entitled_group(&self, group: GroupId) -> Portion {
        self.groups.get(&group).map_or(Portion::NONE, |(weight, _)| Portion::of(*weight, self.all_groups))
    }

    /// `cost` as a part of all that was charged in the window.
    pub fn actual(&self, cost: u128) -> Portion {
        Portion::of(cost, self.recent_cost)
    }
}

/// A virtual time in tokens per weight, cut to nine decimals.
pub fn tokens_a_weight(virtual_time: i128) -> Decimal<9> {
    Decimal(virtual_time.saturating_mul(1_000_000_000) / Dump::TOKEN)
}

impl TenantRow {
    /// The score of fair share: served tokens per weight, cut to nine decimals.
    pub fn share_score(&self) -> Decimal<9> {
        // A unit of cost is 10⁷ billionths of a token.
        Decimal(self.served_cost.saturating_mul(10_000_000) / i128::from(self.weight.get()))
    }

    /// The lag in tokens at its weight, cut towards zero: positive = had more than its share.
    pub fn lag_tokens(&self) -> i128 {
        self.lag.saturating_mul(i128::from(self.weight.get())) / Dump::TOKEN
    }
}

impl Picture {
    /// What a tenant was charged in the window.
    pub fn recent_cost_of(&self, tenant: &TenantRow) -> u128 {
        self.lanes_of(tenant).iter().map(|lane| u128::from(lane.recent_cost)).sum()
    }

    /// The gauges of this picture.
    pub fn fairness(&self) -> Fairness {
        let waiting = || self.tenants.iter().filter(|tenant| tenant.queued > 0);
        let contending = waiting().filter(|tenant| tenant.contends_since.is_some());
        let lag = contending.map(|tenant| tenant.lag_tokens().unsigned_abs()).max().unwrap_or(0);
        let oldest = waiting().filter_map(|tenant| tenant.waiting_since).min();
        let (jain, compared) = self.jain();
        Fairness {
            jain,
            compared,
            max_lag_tokens: u64::try_from(lag).unwrap_or(u64::MAX),
            backlogged: waiting().count(),
            blocked: waiting().filter(|tenant| tenant.blocked).count(),
            oldest_wait: oldest.map(|since| self.taken.since(since)).unwrap_or_default(),
            forecast_error_millionths: self.forecast_error(),
        }
    }

    fn forecast_error(&self) -> u32 {
        let (error, actual) = self.forecast_errors;
        let ratio = u128::from(error).saturating_mul(1_000_000).checked_div(u128::from(actual));
        u32::try_from(ratio.unwrap_or(0)).unwrap_or(u32::MAX)
    }

    /// The index and how many tenants went into it.
    fn jain(&self) -> (Portion, usize) {
        let Some(start) = self.window_start else { return (Portion::WHOLE, 0) };
        let ratios: Vec<u128> = self.pools(start).values().flat_map(Pool::ratios).collect();
        let sum: u128 = ratios.iter().sum();
        let squares = ratios.iter().fold(0_u128, |sum, x| sum.saturating_add(x.saturating_mul(*x)));
        let count = u128::try_from(ratios.len()).unwrap_or(u128::MAX);
        if squares == 0 {
            return (Portion::WHOLE, 0);
        }
        (Portion::of(sum.saturating_mul(sum), count.saturating_mul(squares)), ratios.len())
    }

    fn pools(&self, start: Moment) -> BTreeMap<Option<ModelId>, Pool> {
        let plans = groups(self);
        let full: BTreeMap<ModelId, bool> =
            self.models.iter().map(|model| (model.id, model.was_full)).collect();
        let pool_of = |model: ModelId| full.get(&model).copied().unwrap_or(false).then_some(model);
        let mut pools: BTreeMap<Option<ModelId>, Pool> = BTreeMap::new();
        for tenant in &self.tenants {
            let Some(group) = plans.get(&tenant.group) else { continue };
            let since = tenant.contends_since.map(|since| since.max(group.weighed_since));
            let mut own: BTreeMap<Option<ModelId>, (u128, bool)> = BTreeMap::new();
            for lane in self.lanes_of(tenant) {
                let entry = own.entry(pool_of(lane.model)).or_default();
                entry.0 = entry.0.saturating_add(u128::from(lane.recent_cost));
                entry.1 |= lane.active;
            }
            let one = own.values().filter(|(_, active)| *active).count() == 1;
            let compared = one && since.is_some_and(|since| since <= start);
            for (pool, (cost, active)) in own {
                pools.entry(pool).or_default().add(tenant, group, cost, active, compared && active);
            }
        }
        pools
    }
}

/// The service of one pool.
#[derive(Default)]
struct Pool {
    groups: BTreeMap<GroupId, Members>,
}

/// A group in a pool.
#[derive(Default)]
struct Members {
    weight: u128,
    served: u128,
    active_weight: u128,
    compared_served: u128,
    compared_weight: u128,
    /// Weight and service of each tenant that is compared.
    compared: Vec<(u128, u128)>,
}

impl Pool {
    fn add(&mut self, tenant: &TenantRow, group: &GroupRow, cost: u128, active: bool, compared: bool) {
        let members = self.groups.entry(tenant.group).or_default();
        let weight = u128::from(tenant.weight.get());
        members.weight = u128::from(group.weight.get());
        members.served = members.served.saturating_add(cost);
        if active {
            members.active_weight = members.active_weight.saturating_add(weight);
        }
        if compared {
            members.compared_served = members.compared_served.saturating_add(cost);
            members.compared_weight = members.compared_weight.saturating_add(weight);
            members.compared.push((weight, cost));
        }
    }

    /// Served over due of each tenant that is compared; none if that is one, or nothing was served.
    fn ratios(&self) -> Vec<u128> {
        let waiting = || self.groups.values().filter(|members| members.compared_weight > 0);
        let served: u128 = waiting().map(|members| members.served).sum();
        let weight: u128 = waiting().map(|members| members.weight).sum();
        if served == 0 || waiting().map(|members| members.compared.len()).sum::<usize>() < 2 {
            return Vec::new();
        }
        waiting().flat_map(|members| members.ratios(served.saturating_mul(members.weight) / weight)).collect()
    }
}

impl Members {
    fn ratios(&self, due: u128) -> impl Iterator<Item = u128> {
        let others = self.served.saturating_sub(self.compared_served);
        let left = due.saturating_sub(others);
        self.compared.iter().map(move |(weight, served)| {
            // Never less than the share among all who are active now: members that come and go may have
            // taken everything.
            let fluid = left.saturating_mul(*weight) / self.compared_weight.max(1);
            let least = due.saturating_mul(*weight) / self.active_weight.max(1);
            served.saturating_mul(FAIR) / fluid.max(least).max(UNITS_A_TOKEN.into())
        })
    }
}

fn active(tenant: &TenantRow) -> bool {
    tenant.queued > 0 || tenant.in_flight > 0
}

fn groups(picture: &Picture) -> BTreeMap<GroupId, GroupRow> {
    picture.groups.iter().map(|group| (group.id, *group)).collect()
}
