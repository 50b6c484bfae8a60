//! Grants: from the head of the lines into free slots.

use super::plan::{Effect, Grant, Refusal, TicketId};
use super::planted::{Fault, planted};
use super::recent::Rough;
use super::state::{Seat, Ticket, Waiting};
use super::{FairQueue, Place};
use crate::moment::Moment;
use smallvec::SmallVec;

impl FairQueue {
    /// Grants until no slot is free or nobody who waits may go.
    pub(super) fn dispatch(&mut self, now: Moment) {
        let extra = u32::from(planted(Fault::SlotTooMany));
        // Pools whose next slot is another replica's.
        let mut left: SmallVec<[Place; 4]> = SmallVec::new();
        while self.counts.in_flight < self.slots().saturating_add(extra) {
            let Some(ticket) = self.pick(&left) else { return };
            let Some(Ticket::Waiting(waiting)) = self.tickets.get(&ticket) else { return };
            let waiting = *waiting;
            if self.yields(&waiting, false) {
                left.push(waiting.model);
                continue;
            }
            if waiting.deadline.is_some_and(|deadline| deadline <= now) && !planted(Fault::LateGrant) {
                self.time_out(now, ticket, &waiting);
                continue;
            }
            self.leave_queue(ticket, &waiting);
            if let Some(grant) = self.seat(now, ticket, &waiting, true) {
                self.effects.push_back(Effect::Grant(grant));
            }
        }
    }

    /// Gives a slot: bounds the lag, moves the clocks, charges the forecast.
    pub(super) fn seat(&mut self, now: Moment, id: TicketId, from: &Waiting, queued: bool) -> Option<Grant> {
        let forecast = self.forecast_of(from.tenant, from.model, &from.asked);
        let plan = self.models.at(from.model)?.plan;
        let cost = self.settings.cost(from.asked.prompt, forecast, plan.cost_factor);
        let cost = cost.max(self.settings.min_charge(plan.cost_factor));
        let group = self.charge_grant(from.tenant, from.model, cost)?;
        self.note_service(from.tenant, from.model, 0, cost);
        self.count_grant(now, from);
        let seat = Seat {
            tenant: from.tenant,
            model: from.model,
            key: from.key,
            group: (group, self.groups.at(group)?.plan.id),
            asked: from.asked,
            forecast: Rough::of(cost),
            factor: plan.cost_factor,
            charged: cost,
            started: now,
        };
        self.tickets.insert(id, Ticket::Seated(seat));
        self.refresh(from.tenant);
        Some(Grant {
            ticket: id,
            tenant: self.tenants.at(from.tenant)?.plan.id,
            model: plan.id,
            forecast_tokens: forecast,
            waited: now.since(from.since),
            queued,
        })
    }

    /// Tags and clocks of a grant. The group that was charged.
    fn charge_grant(&mut self, tenant: Place, model: Place, cost: u64) -> Option<Place> {
        let lag = self.settings.lag();
        let Self { tenants, groups, models, .. } = self;
        let tenant = tenants.at_mut(tenant)?;
        let place = tenant.group;
        let group = groups.at_mut(place)?;
        let (weight, group_weight) = (tenant.plan.weight, group.plan.weight);
        let weight = if planted(Fault::WrongWeight) { group_weight } else { weight };
        let clock = group.clock(model);
        tenant.account.bound_lag(clock, lag, weight);
        group.account.bound_lag(models.at(model)?.clock.now(), lag, group_weight);
        let (tag, group_tag) = (tenant.account.tag, group.account.tag);
        // The clock of a closed pool stands still: who waits for it is compared with its own kind.
        for (other, pool) in
            models.iter_mut().filter(|(_, pool)| pool.open() || planted(Fault::ClosedClockMoves))
        {
            pool.clock.raise(group_tag);
            if let Some(cell) = group.cell_mut(other) {
                cell.clock.raise(tag);
            }
        }
        tenant.account.charge_forecast(cost, weight);
        group.account.charge_forecast(cost, group_weight);
        tenant.served = tenant.served.saturating_add(i128::from(cost));
        Some(place)
    }

    /// Counters of a grant.
    pub(super) fn count_grant(&mut self, started: Moment, from: &Waiting) {
        self.pace.start(started);
        self.counts.in_flight = self.counts.in_flight.saturating_add(1);
        if let Some(model) = self.models.at_mut(from.model) {
            model.pace.start(started);
            model.in_flight = model.in_flight.saturating_add(1);
            if !model.open() {
                model.full_at = Some(started);
            }
        }
        let Some(tenant) = self.tenants.at_mut(from.tenant) else { return };
        tenant.in_flight = tenant.in_flight.saturating_add(1);
        if let Some(lane) = tenant.lane_mut(from.model) {
            lane.in_flight = lane.in_flight.saturating_add(1);
        }
        if let Some(key) = from.key.counted() {
            if let Some(line) = tenant.keys.get_mut(&key) {
                line.in_flight = line.in_flight.saturating_add(1);
            }
            tenant.settle_key(key);
        }
    }

    /// Unlinks a waiting ticket from every queue. The caller removes or replaces the ticket itself, and
    /// refreshes the tenant.
    pub(super) fn leave_queue(&mut self, ticket: TicketId, waiting: &Waiting) {
        if let Some(deadline) = waiting.deadline {
            self.counts.step(self.deadlines.len());
            self.deadlines.remove(&(deadline, ticket));
        }
        self.counts.queued = self.counts.queued.saturating_sub(1);
        if let Some(model) = self.models.at_mut(waiting.model) {
            model.queued = model.queued.saturating_sub(1);
        }
        let Some(tenant) = self.tenants.at_mut(waiting.tenant) else { return };
        tenant.queued.count = tenant.queued.count.saturating_sub(1);
        tenant.queued.cost = tenant.queued.cost.saturating_sub(u128::from(waiting.cost));
        if let Some(lane) = tenant.lane_mut(waiting.model) {
            lane.queued = lane.queued.saturating_sub(1);
            lane.work.remove(waiting);
            if waiting.key.counted().is_none() {
                lane.ready.remove(&ticket);
            }
        }
        if let Some(key) = waiting.key.counted() {
            if let Some(queue) =
                tenant.keys.get_mut(&key).and_then(|line| line.queues.get_mut(&waiting.model))
            {
                queue.waiting.remove(&ticket);
            }
            tenant.settle_key(key);
        }
        if let Some(group) = self.groups.at_mut(tenant.group) {
            group.queued = group.queued.saturating_sub(1);
        }
    }

    /// Refuses a ticket that waited too long.
    pub(super) fn time_out(&mut self, now: Moment, ticket: TicketId, waiting: &Waiting) {
        let retry_after = self.retry_after(now, waiting.tenant, waiting.model, waiting.key.counted());
        self.dismiss(ticket, waiting, Refusal::Timeout { retry_after });
    }

    /// Refuses a ticket that waits.
    pub(super) fn dismiss(&mut self, ticket: TicketId, waiting: &Waiting, refusal: Refusal) {
        self.leave_queue(ticket, waiting);
        self.tickets.remove(&ticket);
        self.refresh(waiting.tenant);
        self.leave_idle(waiting.tenant, waiting.key.counted());
        self.effects.push_back(Effect::Refuse { ticket, refusal });
    }
}
