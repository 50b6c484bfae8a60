//! How long a request will wait: for the slots, for its pool, for its tenant's cap, for its key's.
//!
//! Each is a gate. A closed one takes the work that stands before the request there, over the pace of its
//! slots and the tenant's share of them; the request waits for the slowest. Is not a promise: shares change
//! with who comes and goes.

use super::account::{Account, Tag};
use super::cost::Asked;
use super::pace::Pace;
use super::plan::Demand;
use super::state::{Group, Lane, Model, Tenant};
use super::{FairQueue, Place};
use crate::ids::KeyId;
use crate::moment::Moment;
use crate::units::Share;
use std::time::Duration;

const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);

/// Who waits for what.
#[derive(Clone, Copy)]
pub(super) struct Waiter<'a> {
    pub(super) tenant: &'a Tenant,
    /// `None`: a model that has room.
    pub(super) model: Option<Place>,
    pub(super) key: Option<KeyId>,
    /// What it costs itself.
    pub(super) cost: u64,
}

/// Slots that are shared by weight: all of them, or those of a pool.
struct Shared<'a> {
    pace: &'a Pace,
    in_flight: u32,
    /// Weights of the active tenants of the group, and of the active groups.
    active: u64,
    active_groups: u64,
    /// What the tenant has waiting for these slots, and how many it holds.
    work: u128,
    own: u32,
    /// The clocks its tag and its group's are compared with.
    clock: Tag,
    group_clock: Tag,
}

impl FairQueue {
    /// How long this demand would wait if it came now: zero when a slot is free for it, `None` while nothing
    /// was measured.
    pub fn estimated_wait(&self, now: Moment, demand: &Demand) -> Option<Duration> {
        let model = self.models.place(&demand.model.id);
        let Some(place) = self.tenants.place(&demand.tenant.id) else {
            return self.stranger_wait(now, model);
        };
        let forecast = model.map_or(0, |model| self.forecast_of(place, model, &Asked::of(demand)));
        let cost = self.settings.cost(demand.prompt_tokens, forecast, demand.model.cost_factor);
        let key = demand.key.map(|(key, _)| key);
        self.wait_of(now, &Waiter { tenant: self.tenants.at(place)?, model, key, cost })
    }

    /// When this demand may come again, if its wait would not be over at `by`; 1 ..= 60 s.
    pub fn too_long(&self, now: Moment, demand: &Demand, by: Moment) -> Option<Duration> {
        let wait = self.estimated_wait(now, demand)?;
        (now + wait > by).then(|| wait.clamp(SHORTEST, LONGEST))
    }

    /// A tenant with nothing queued and no debts is near the front.
    pub(super) fn stranger_wait(&self, now: Moment, model: Option<Place>) -> Option<Duration> {
        let pool = model.and_then(|model| self.models.at(model)).filter(|pool| !pool.open());
        let pool = pool.map_or(Some(0), |pool| next_slot(now, &pool.pace, pool.in_flight));
        let slots = if self.full() { next_slot(now, &self.pace, self.counts.in_flight) } else { Some(0) };
        Some(Duration::from_micros(clipped(pool?.max(slots?))))
    }

    /// The slowest of the gates that are closed to `waiter`.
    pub(super) fn wait_of(&self, now: Moment, waiter: &Waiter<'_>) -> Option<Duration> {
        let group = self.groups.at(waiter.tenant.group)?;
        let mut micros = 0;
        for shared in self.closed(waiter, group).into_iter().flatten() {
            micros = micros.max(shared.turn(now, waiter, group)?);
        }
        for (work, own) in self.capped(waiter).into_iter().flatten() {
            let own = own.max(1);
            let drained = self.pace.micros_of(now, work)? / u128::from(own);
            micros = micros.max(drained).max(next_slot(now, &self.pace, own)?);
        }
        Some(Duration::from_micros(clipped(micros)))
    }

    /// When a refused request may come again: when what its tenant has queued will be through, by its
    /// share of the measured pace; 1 ..= 60 s.
    pub(super) fn retry_after(
        &self,
        now: Moment,
        tenant: Place,
        model: Place,
        key: Option<KeyId>,
    ) -> Duration {
        let micros = || {
            let tenant = self.tenants.at(tenant)?;
            let group = self.groups.at(tenant.group)?;
            let waiter = Waiter { tenant, model: Some(model), key, cost: 0 };
            let mut micros = 0;
            for shared in self.closed(&waiter, group).into_iter().flatten() {
                micros = micros.max(shared.drained(now, shared.work, tenant, group)?);
            }
            for (work, own) in self.capped(&waiter).into_iter().flatten() {
                micros = micros.max(self.pace.micros_of(now, work)? / u128::from(own.max(1)));
            }
            Some(micros)
        };
        let wait = micros().map_or(SHORTEST, |micros| Duration::from_micros(clipped(micros)));
        wait.clamp(SHORTEST, LONGEST)
    }

    fn full(&self) -> bool {
        self.counts.in_flight >= self.slots()
    }

    /// The shared slots that are all taken: the whole, and the pool of the model.
    fn closed<'a>(&'a self, waiter: &Waiter<'_>, group: &Group) -> [Option<Shared<'a>>; 2] {
        let tenant = waiter.tenant;
        let pool = waiter.model.and_then(|model| Some((model, self.models.at(model)?)));
        let open = |lane: &&Lane| self.models.at(lane.model).is_some_and(Model::open);
        let clocks = || {
            let lanes = tenant.lanes.iter().filter(|lane| lane.is_active());
            let clocks = lanes.map(|lane| (group.clock(lane.model), lane.model)).max();
            let model = waiter.model.or(clocks.map(|(_, model)| model));
            model.and_then(|place| Some((group.clock(place), self.models.at(place)?.clock.now())))
        };
        let whole = self.full().then(|| {
            let (clock, group_clock) = clocks().unwrap_or((tenant.account.tag, group.account.tag));
            Shared {
                pace: &self.pace,
                in_flight: self.counts.in_flight,
                active: group.active_weight,
                active_groups: self.counts.active_weight,
                work: tenant.lanes.iter().filter(open).map(|lane| self.work_of(lane)).sum(),
                own: tenant.in_flight,
                clock,
                group_clock,
            }
        });
        let pool = pool.filter(|(_, pool)| !pool.open()).map(|(place, pool)| Shared {
            pace: &pool.pace,
            in_flight: pool.in_flight,
            active: group.cell(place).map_or(0, |cell| cell.active_weight),
            active_groups: pool.active_weight,
            work: tenant.lane(place).map_or(0, |lane| self.work_of(lane)),
            own: tenant.lane(place).map_or(0, |lane| lane.in_flight),
            clock: group.clock(place),
            group_clock: pool.clock.now(),
        });
        [whole, pool]
    }

    /// The caps of the tenant and of the key that are reached: what waits behind them, and how many run.
    fn capped(&self, waiter: &Waiter<'_>) -> [Option<(u128, u32)>; 2] {
        let Waiter { tenant, key, .. } = *waiter;
        let work = || tenant.lanes.iter().map(|lane| self.work_of(lane)).sum::<u128>();
        let line = key.and_then(|key| tenant.keys.get(&key)).filter(|line| line.in_flight >= line.cap);
        [
            tenant.blocked().then(|| (work(), tenant.in_flight)),
            line.map(|line| {
                let each = work().checked_div(tenant.queued.count.into()).unwrap_or_default();
                (each.saturating_mul(line.queued().into()), line.in_flight)
            }),
        ]
    }

    /// What a tenant has waiting on a model, in cost units.
    pub(super) fn work_of(&self, lane: &Lane) -> u128 {
        let Some(model) = self.models.at(lane.model) else { return 0 };
        lane.work.cost(&self.settings, model.plan.cost_factor, lane.average.or(model.average))
    }
}

impl Shared<'_> {
    /// Microseconds in which the tenant's share of the slots does `work`.
    fn drained(&self, now: Moment, work: u128, tenant: &Tenant, group: &Group) -> Option<u128> {
        let weight = tenant.plan.weight;
        let alone = self.pace.micros_of(now, work)? / u128::from(self.in_flight.max(1));
        Some(over_share(over_share(alone, self.active, weight), self.active_groups, group.plan.weight))
    }

    /// Microseconds until a newcomer of the tenant has its turn: until what is queued is through and the
    /// clocks have reached the tags. A tenant that holds more than its share goes on at what it holds.
    fn turn(&self, now: Moment, waiter: &Waiter<'_>, group: &Group) -> Option<u128> {
        let tenant = waiter.tenant;
        let owed = debt(&tenant.account, self.clock, tenant.plan.weight, waiter.cost);
        let group_owed = debt(&group.account, self.group_clock, group.plan.weight, waiter.cost);
        let own = self.drained(now, self.work.saturating_add(owed), tenant, group)?;
        let others = self.pace.micros_of(now, group_owed)? / u128::from(self.in_flight.max(1));
        let entitled = own.max(over_share(others, self.active_groups, group.plan.weight));
        let held = match self.own {
            0 => entitled,
            // Half a slot less: it may hold one more than its share only because slots are whole.
            slots => self.pace.micros_of(now, self.work)?.saturating_mul(2) / (2 * u128::from(slots) - 1),
        };
        Some(entitled.min(held).max(next_slot(now, self.pace, self.in_flight)?))
    }
}

/// How far a tag is ahead of its clock, in cost units, less half a request: on average that much of the
/// last grant is through.
fn debt(account: &Account, clock: Tag, weight: Share, request: u64) -> u128 {
    let ahead = account.tag.saturating_sub(clock).max(0);
    let owed = u128::try_from(ahead).unwrap_or_default().saturating_mul(u128::from(weight.get())) >> 32;
    owed.saturating_sub(owed.min(u128::from(request)) / 2)
}

/// Microseconds until a slot is free, on average: half of what lies between two endings.
fn next_slot(now: Moment, pace: &Pace, slots: u32) -> Option<u128> {
    Some(pace.micros_each(now)? / u128::from(slots.max(1)) / 2)
}

/// Time at a share of `weight` among the active weights, which may not have this one in them yet.
fn over_share(micros: u128, active: u64, weight: Share) -> u128 {
    let weight = u128::from(weight.get());
    micros.saturating_mul(u128::from(active).max(weight)) / weight
}

fn clipped(micros: u128) -> u64 {
    u64::try_from(micros).unwrap_or(u64::MAX)
}
