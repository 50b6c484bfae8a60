//! How fast a pool works, and how long its queue will take.

use super::plan::Demand;
use super::{FairQueue, Place};
use crate::moment::Moment;
use std::time::Duration;

/// A rate is taken over at least this long.
const WINDOW: Duration = Duration::from_secs(2);
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);

/// Cost finished per time, measured while the pool is at work.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pace {
    /// Start of the window.
    since: Moment,
    /// Finished in the window.
    cost: u128,
    /// Whether the pool is at work: pauses are not measured.
    busy: bool,
    /// Of the windows before, in cost units a second: a moving average with step 1/4.
    rate: Option<u128>,
}

impl Pace {
    /// A request starts. After a pause a new window begins.
    pub(super) fn work(&mut self, now: Moment) {
        if !self.busy {
            self.begin(now);
        }
        self.busy = true;
    }

    /// Nothing runs any more.
    pub(super) fn rest(&mut self) {
        self.busy = false;
    }

    fn begin(&mut self, now: Moment) {
        self.since = now;
        self.cost = 0;
    }

    pub(super) fn add(&mut self, now: Moment, cost: u64) {
        self.cost = self.cost.saturating_add(u128::from(cost));
        if now.since(self.since) < WINDOW {
            return;
        }
        let Some(sample) = self.sample(now) else { return };
        self.rate = Some(match self.rate {
            None => sample,
            Some(old) => old.saturating_mul(3).saturating_add(sample) / 4,
        });
        self.begin(now);
    }

    fn sample(&self, now: Moment) -> Option<u128> {
        let micros = now.since(self.since).as_micros();
        self.cost.saturating_mul(1_000_000).checked_div(micros)
    }

    /// Cost units a second; `None` while nothing was measured.
    fn rate(&self, now: Moment) -> Option<u128> {
        self.rate.or_else(|| self.sample(now)).filter(|rate| *rate > 0)
    }
}

impl FairQueue {
    /// How long this demand would wait, from what its tenant has queued and the share it gets of the
    /// measured pace. A tenant with nothing queued is near the front. `None` while nothing was measured.
    pub fn estimated_wait(&self, now: Moment, demand: &Demand) -> Option<Duration> {
        let tenant = self.tenants.place(&demand.tenant.id);
        let model = self.models.place(&demand.model.id);
        match (tenant, model) {
            (Some(tenant), Some(model)) if self.tenants.at(tenant)?.queued.count > 0 => {
                self.queue_time(now, tenant, model)
            }
            _ => Some(Duration::ZERO),
        }
    }

    /// Queued cost over the tenant's share of the pace of the pool.
    fn queue_time(&self, now: Moment, tenant: Place, model: Place) -> Option<Duration> {
        let tenant = self.tenants.at(tenant)?;
        let group = self.groups.at(tenant.group)?;
        let pool = self.models.at(model)?;
        let weight = u128::from(tenant.plan.weight.get());
        let active = group.cell(model).map_or(0, |cell| u128::from(cell.active_weight)).max(weight);
        let group_weight = u128::from(group.plan.weight.get());
        let active_groups = u128::from(pool.active_weight).max(group_weight);
        let work = tenant.queued.cost.saturating_mul(active).saturating_mul(active_groups);
        let rate = pool.pace.rate(now)?.saturating_mul(weight).saturating_mul(group_weight);
        Some(duration(work, rate))
    }

    /// When a refused request may come again: 1 ..= 60 s.
    pub(super) fn retry_after(&self, now: Moment, tenant: Place, model: Place) -> Duration {
        self.queue_time(now, tenant, model).unwrap_or(SHORTEST).clamp(SHORTEST, LONGEST)
    }
}

/// `work / rate` seconds.
fn duration(work: u128, rate: u128) -> Duration {
    let micros = work.saturating_mul(1_000_000) / rate.max(1);
    Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
}
