//! Refusing what waits, for a brownout: whose, and how many.
//!
//! A tenant's *claim* on a pool is what it runs there and has waiting for it, in requests. It is over its
//! share when that is more than its weights give it of all claims on the pool. What is refused is the newest,
//! so that who waited longest keeps what that was good for. Nothing here changes the order of those that stay.

use super::fairness::{among, entitled};
use super::loads::eligible;
use super::plan::{Demand, Refusal, TicketId};
use super::state::{Lane, Tenant, Ticket};
use super::{FairQueue, Place};
use crate::brownout::Pool;
use crate::ids::TenantId;
use crate::moment::Moment;
use crate::units::Portion;
use std::time::Duration;

/// What a tenant has of a pool and wants of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    pub tenant: TenantId,
    pub pool: Pool,
    pub running: u32,
    /// Kept from running by the pool alone.
    pub waiting: u32,
    /// By weight among the groups and tenants that are active on the pool.
    pub entitled: Portion,
    /// What everybody runs there and has waiting, behind caps of their own too.
    pub all: u32,
}

impl Claim {
    /// How much of it is beyond the tenant's share, if `held_back` requests of all stand behind caps of
    /// their own.
    pub fn over(&self, held_back: u32) -> u32 {
        let all = self.all.saturating_sub(held_back);
        let due = u64::from(self.entitled.billionths()).saturating_mul(all.into()).div_ceil(1_000_000_000);
        let due = u32::try_from(due).unwrap_or(u32::MAX);
        self.running.saturating_add(self.waiting).saturating_sub(due)
    }
}

/// The verdict on what a tenant has waiting for a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    All,
    /// This many are refused, the newest.
    AllBut {
        refused: u32,
        retry_after: Duration,
    },
}

impl FairQueue {
    /// The claims of a demand's tenant on the pools that would keep it waiting if it came now, itself
    /// included. Nothing when a slot is free for it, or when a cap of its own tenant or key holds it back.
    pub fn claims_of(&self, demand: &Demand) -> impl Iterator<Item = Claim> {
        let tenant = self.tenants.find(&demand.tenant.id);
        let in_flight = tenant.map_or(0, |tenant| tenant.in_flight);
        let key = |(key, cap)| {
            tenant.and_then(|tenant| tenant.keys.get(&key)).is_some_and(|line| line.in_flight >= cap)
        };
        let held =
            demand.tenant.max_in_flight.is_some_and(|cap| in_flight >= cap) || demand.key.is_some_and(key);
        let id = demand.model.id;
        let cap = demand.model.max_in_flight;
        let closed = cap.is_some_and(|cap| self.in_flight_of(id) >= cap).then_some(Pool::Model(id));
        let full = (self.counts.in_flight >= self.slots()).then_some(Pool::Slots);
        [closed, full].into_iter().flatten().filter(move |_| !held).map(move |pool| {
            let claim = self.claim(demand, tenant, pool);
            Claim { waiting: claim.waiting.saturating_add(1), all: claim.all.saturating_add(1), ..claim }
        })
    }

    fn claim(&self, demand: &Demand, tenant: Option<&Tenant>, pool: Pool) -> Claim {
        if let Some(claim) = tenant.and_then(|tenant| self.claim_on(tenant, pool)) {
            return claim;
        }
        let (members, groups) = self.active_in(&demand.tenant.group.id, pool);
        Claim {
            tenant: demand.tenant.id,
            pool,
            running: 0,
            waiting: 0,
            entitled: entitled(
                among(members, 0, demand.tenant.weight),
                among(groups.0, groups.1, demand.tenant.group.weight),
            ),
            all: self.running_in(pool).saturating_add(self.queued_in(pool)),
        }
    }

    /// Looks at the next `most` tenants from `next` on, and refuses what `judge` does not keep, at most
    /// `most` requests of a tenant at a time. Whether that was all.
    pub fn shed(
        &mut self,
        now: Moment,
        next: &mut usize,
        most: usize,
        judge: impl Fn(&Claim) -> Keep,
    ) -> bool {
        self.note_time(now);
        let end = next.saturating_add(most).min(self.tenants.places());
        while *next < end {
            if self.shed_tenant(*next, most, &judge) {
                return false;
            }
            *next = next.saturating_add(1);
        }
        end >= self.tenants.places()
    }

    /// Whether it was so much that the rest must wait for the next call.
    fn shed_tenant(&mut self, place: Place, most: usize, judge: &impl Fn(&Claim) -> Keep) -> bool {
        let Some(tenant) = self.tenants.at(place).filter(|tenant| tenant.queued.count > 0) else {
            return false;
        };
        let mut pools: Vec<Pool> = listed(tenant).filter_map(|lane| self.pool_of(lane.model)).collect();
        pools.sort_unstable();
        pools.dedup();
        for pool in pools {
            let claim = self.tenants.at(place).and_then(|tenant| self.claim_on(tenant, pool));
            let Some(Keep::AllBut { refused, retry_after }) = claim.as_ref().map(judge) else { continue };
            let wanted = usize::try_from(refused).unwrap_or(usize::MAX);
            let tickets = self.newest(place, pool, wanted.min(most));
            for ticket in &tickets {
                if let Some(Ticket::Waiting(waiting)) = self.tickets.get(ticket) {
                    let waiting = *waiting;
                    self.dismiss(*ticket, &waiting, Refusal::Shed { retry_after });
                }
            }
            if tickets.len() == most {
                return true;
            }
        }
        false
    }

    /// The newest tickets that a tenant has waiting for a pool.
    fn newest(&self, place: Place, pool: Pool, most: usize) -> Vec<TicketId> {
        let Some(tenant) = self.tenants.at(place) else { return Vec::new() };
        let lanes = || listed(tenant).filter(|lane| self.pool_of(lane.model) == Some(pool));
        let ready = lanes().flat_map(|lane| lane.ready.iter().rev().take(most));
        let keyed = tenant.keys.values().flat_map(|line| {
            let queues = lanes().filter_map(|lane| line.queues.get(&lane.model));
            queues.flat_map(|queue| queue.waiting.iter().rev().take(most))
        });
        let mut tickets: Vec<TicketId> = ready.chain(keyed).copied().collect();
        tickets.sort_unstable_by(|a, b| b.cmp(a));
        tickets.dedup();
        tickets.truncate(most);
        tickets
    }

    /// A known tenant's claim; `None` when it has nothing on the pool.
    fn claim_on(&self, tenant: &Tenant, pool: Pool) -> Option<Claim> {
        let group = self.groups.at(tenant.group)?;
        let lanes = tenant.lanes.iter().filter(|lane| self.pool_of(lane.model) == Some(pool));
        let waiting = lanes.map(|lane| eligible(tenant, lane)).fold(0, u32::saturating_add);
        let (running, counted) = match pool {
            Pool::Slots => (tenant.in_flight, tenant.counted),
            Pool::Model(id) => {
                let lane = tenant.lane(self.models.place(&id)?)?;
                (lane.in_flight, lane.counted)
            }
        };
        let (members, groups) = self.active_in(&group.plan.id, pool);
        let weight = tenant.plan.weight;
        Some(Claim {
            tenant: tenant.plan.id,
            pool,
            running,
            waiting,
            entitled: entitled(among(members, counted, weight), among(groups.0, groups.1, group.plan.weight)),
            all: self.running_in(pool).saturating_add(self.queued_in(pool)),
        })
    }

    /// The weights that are active on a pool: of the tenants of a group; of all groups, and the part of it
    /// that is this group's.
    fn active_in(&self, group: &crate::ids::GroupId, pool: Pool) -> (u64, (u64, u32)) {
        let group = self.groups.find(group);
        match pool {
            Pool::Slots => (
                group.map_or(0, |group| group.active_weight),
                (self.counts.active_weight, group.map_or(0, |group| group.counted)),
            ),
            Pool::Model(id) => {
                let place = self.models.place(&id);
                let cell = place.and_then(|place| group?.cell(place));
                let all =
                    place.and_then(|place| self.models.at(place)).map_or(0, |model| model.active_weight);
                (cell.map_or(0, |cell| cell.active_weight), (all, cell.map_or(0, |cell| cell.counted)))
            }
        }
    }
}

fn listed(tenant: &Tenant) -> impl Iterator<Item = &Lane> {
    tenant.lanes.iter().filter(|lane| lane.listed.is_some())
}
