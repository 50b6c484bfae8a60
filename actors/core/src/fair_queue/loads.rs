//! What waits for each pool, and for how long: the measure of a brownout.
//!
//! Is: a sum over the tenants, copied in pieces as a picture is. A model at its cap is a pool; the others
//! share the slots. Counted is only what the pool keeps from running: not what stands behind the cap of its
//! own tenant or key, and not the time it stood there. Is not: part of any decision about who goes next.

use super::state::{Lane, Model, Tenant, Ticket};
use super::{FairQueue, Place};
use crate::brownout::{Pool, Pressure};
use crate::moment::Moment;
use std::collections::BTreeMap;
use std::time::Duration;

/// A pool that something waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    pub pressure: Pressure,
    /// Requests that wait for it.
    pub waiting: u32,
    /// Requests that wait, on the models of the pool, and not for it.
    pub held_back: u32,
}

/// What was summed so far. See the module head.
#[derive(Debug, Default)]
pub struct Loads {
    pools: BTreeMap<Pool, Sum>,
    next: Place,
}

/// Of one pool.
#[derive(Debug, Default)]
struct Sum {
    oldest: Option<Moment>,
    /// In cost units.
    work: u128,
    waiting: u32,
}

impl FairQueue {
    /// Adds the next `most` tenants; whether that was all.
    pub fn add_loads(&self, loads: &mut Loads, most: usize) -> bool {
        if self.counts.queued == 0 {
            return true;
        }
        let end = loads.next.saturating_add(most).min(self.tenants.places());
        for place in loads.next..end {
            if let Some(tenant) = self.tenants.at(place).filter(|tenant| tenant.queued.count > 0) {
                self.add_tenant(loads, tenant);
            }
        }
        loads.next = end;
        end >= self.tenants.places()
    }

    fn add_tenant(&self, loads: &mut Loads, tenant: &Tenant) {
        for lane in tenant.lanes.iter().filter(|lane| lane.listed.is_some()) {
            let Some(pool) = self.pool_of(lane.model) else { continue };
            let waiting = eligible(tenant, lane);
            let sum = loads.pools.entry(pool).or_default();
            let since = lane.ready.first().and_then(|ticket| match self.tickets.get(ticket)? {
                Ticket::Waiting(waiting) => Some(waiting.since),
                Ticket::Seated(_) => None,
            });
            // What it waited behind a cap of its own is not the pool's doing.
            let since = since.max(tenant.contends_since);
            sum.oldest = sum.oldest.into_iter().chain(since).min();
            let work = self.work_of(lane).saturating_mul(waiting.into());
            sum.work = sum.work.saturating_add(work / u128::from(lane.queued.max(1)));
            sum.waiting = sum.waiting.saturating_add(waiting);
        }
    }

    /// The loads of all pools that something waits for.
    pub fn loads(&self, now: Moment, loads: &Loads) -> BTreeMap<Pool, Load> {
        let load = |(pool, sum): (&Pool, &Sum)| {
            let (pace, in_flight) = match pool {
                Pool::Slots => (&self.pace, self.counts.in_flight),
                Pool::Model(id) => self.models.find(id).map(|model| (&model.pace, model.in_flight))?,
            };
            let micros = pace.micros_of(now, sum.work).map(|micros| micros / u128::from(in_flight.max(1)));
            let drain = micros.map(|micros| u64::try_from(micros).unwrap_or(u64::MAX));
            let pressure = Pressure {
                oldest_wait: sum.oldest.map(|oldest| now.since(oldest)).unwrap_or_default(),
                drain: drain.map(Duration::from_micros),
            };
            let held_back = self.queued_in(*pool).saturating_sub(sum.waiting);
            Some((*pool, Load { pressure, waiting: sum.waiting, held_back }))
        };
        loads.pools.iter().filter_map(load).collect()
    }

    /// What keeps requests for a model from running now.
    pub(super) fn pool_of(&self, model: Place) -> Option<Pool> {
        let model = self.models.at(model)?;
        Some(if model.open() { Pool::Slots } else { Pool::Model(model.plan.id) })
    }

    /// Requests that wait, for whatever; of all models for the slots, since any of them may need one.
    pub(super) fn queued_in(&self, pool: Pool) -> u32 {
        match pool {
            Pool::Slots => self.counts.queued,
            Pool::Model(id) => self.queued_of(id),
        }
    }

    /// Requests that run.
    pub(super) fn running_in(&self, pool: Pool) -> u32 {
        match pool {
            Pool::Slots => self.counts.in_flight,
            Pool::Model(id) => self.models.find(&id).map_or(0, |model: &Model| model.in_flight),
        }
    }
}

/// Requests of a lane that would run if the pool had room for all.
pub(super) fn eligible(tenant: &Tenant, lane: &Lane) -> u32 {
    if lane.listed.is_none() {
        return 0;
    }
    let mut held_back = 0_u32;
    for line in tenant.keys.values() {
        let waiting = line.queues.get(&lane.model).map_or(0, |queue| queue.waiting.len());
        let waiting = u32::try_from(waiting).unwrap_or(u32::MAX);
        let room = line.cap.saturating_sub(line.in_flight);
        held_back = held_back.saturating_add(waiting.saturating_sub(room));
    }
    let room = tenant.plan.max_in_flight.map_or(u32::MAX, |cap| cap.saturating_sub(tenant.in_flight));
    lane.queued.saturating_sub(held_back).min(room)
}
