//! Endings: corrections while a request runs, its release, cancelled and expired tickets.

use super::FairQueue;
use super::cost::Average;
use super::plan::{Spent, TicketId};
use super::planted::{Fault, planted};
use super::state::{Seat, Tenant, Ticket};
use crate::moment::Moment;

impl FairQueue {
    /// What a running request used so far. Beyond its charge it is charged at once; never less.
    pub fn progress(&mut self, now: Moment, ticket: TicketId, prompt: u64, output: u64) {
        let Some(Ticket::Seated(seat)) = self.tickets.get_mut(&ticket) else { return };
        let produced = self.settings.cost(prompt, output, seat.factor);
        if produced <= seat.charged || planted(Fault::ProgressUncharged) {
            return;
        }
        let before = *seat;
        seat.charged = produced;
        self.note_time(now);
        self.note_service(before.tenant, before.model, before.charged, produced);
        self.correct(&before, produced);
        self.refresh(before.tenant);
    }

    /// Takes a seat back and dispatches. Whether it was out: the second release of a ticket does nothing.
    pub fn release(&mut self, now: Moment, ticket: TicketId, spent: Spent) -> bool {
        let Some(Ticket::Seated(seat)) = self.tickets.get(&ticket) else {
            let twice = u32::from(planted(Fault::ReleasedTwice));
            self.counts.in_flight = self.counts.in_flight.saturating_sub(twice);
            return false;
        };
        let seat = *seat;
        self.tickets.remove(&ticket);
        self.note_time(now);
        let capped = self.tenants.at(seat.tenant).is_some_and(Tenant::blocked);
        let cost = self.final_cost(now, &seat, spent);
        self.note_service(seat.tenant, seat.model, seat.charged, cost);
        self.note_outcome(&seat, spent, cost);
        self.learn(now, &seat, spent);
        self.correct(&seat, cost);
        self.creep(&seat, cost);
        self.pace(now, &seat, cost);
        self.count_release(&seat);
        if !(capped && planted(Fault::WakeUpLost)) {
            self.refresh(seat.tenant);
        }
        self.leave_idle(seat.tenant, seat.key.counted());
        self.drop_model_if_removed(seat.model);
        self.dispatch(now);
        true
    }

    /// Removes a ticket that waits. Whether it did.
    pub fn cancel(&mut self, now: Moment, ticket: TicketId) -> bool {
        self.note_time(now);
        let Some(Ticket::Waiting(waiting)) = self.tickets.get(&ticket) else { return false };
        let waiting = *waiting;
        self.leave_queue(ticket, &waiting);
        if planted(Fault::CancelLeaks)
            && let Some(tenant) = self.tenants.at_mut(waiting.tenant)
        {
            tenant.queued.count = tenant.queued.count.saturating_add(1);
        }
        self.tickets.remove(&ticket);
        self.refresh(waiting.tenant);
        self.leave_idle(waiting.tenant, waiting.key.counted());
        true
    }

    /// Refuses every ticket whose deadline has passed.
    pub fn expire(&mut self, now: Moment) {
        self.note_time(now);
        while let Some((deadline, ticket)) = self.deadlines.first().copied()
            && deadline <= now
        {
            match self.tickets.get(&ticket) {
                Some(Ticket::Waiting(waiting)) => {
                    let waiting = *waiting;
                    self.time_out(now, ticket, &waiting);
                }
                _ => {
                    self.deadlines.pop_first();
                }
            }
        }
    }

    fn final_cost(&self, now: Moment, seat: &Seat, spent: Spent) -> u64 {
        if planted(Fault::NeverReconciled) {
            return seat.charged;
        }
        let least = if planted(Fault::NoLeastCharge) { 0 } else { self.settings.min_charge(seat.factor) };
        match spent {
            Spent::Tokens { prompt, output } => self.settings.cost(prompt, output, seat.factor).max(least),
            Spent::Held => {
                let tokens = self.settings.held_tokens(now.since(seat.started).as_micros());
                tokens.saturating_mul(u64::from(seat.factor.hundredths())).max(least)
            }
            Spent::Nothing => least,
            Spent::Never if planted(Fault::UnreceivedCharged) => least,
            Spent::Never => 0,
        }
    }

    /// Moves both tags from what the seat was charged to `cost`.
    pub(super) fn correct(&mut self, seat: &Seat, cost: u64) {
        if let Some(tenant) = self.tenants.at_mut(seat.tenant) {
            tenant.account.correct(seat.charged, cost, tenant.plan.weight);
            let change = i128::from(cost).saturating_sub(i128::from(seat.charged));
            tenant.served = tenant.served.saturating_add(change);
        }
        let (place, id) = seat.group;
        if let Some(group) = self.groups.at_mut(place)
            && group.plan.id == id
        {
            group.account.correct(seat.charged, cost, group.plan.weight);
            // The tenant may belong to another group by now, which its own refresh would miss.
            self.refresh_group(place);
        }
    }

    /// The forecast learns what a finished request produced, for one answer.
    fn learn(&mut self, now: Moment, seat: &Seat, spent: Spent) {
        if planted(Fault::NeverLearns) {
            return;
        }
        let output = match spent {
            Spent::Tokens { output, .. } => output.div_ceil(u64::from(seat.asked.answers.max(1))),
            Spent::Held => self.settings.held_tokens(now.since(seat.started).as_micros()),
            Spent::Nothing | Spent::Never => return,
        };
        let lane = self.tenants.at_mut(seat.tenant).and_then(|tenant| tenant.lane_mut(seat.model));
        if let Some(lane) = lane {
            lane.average = Some(Average::learn(lane.average, output));
        }
        if let Some(model) = self.models.at_mut(seat.model) {
            model.average = Some(Average::learn(model.average, output));
        }
    }

    /// The measured pace of the slots, of all and of the pool.
    fn pace(&mut self, now: Moment, seat: &Seat, cost: u64) {
        self.pace.finish(now, seat.started, cost);
        if let Some(model) = self.models.at_mut(seat.model) {
            model.pace.finish(now, seat.started, cost);
        }
    }

    /// The churn floor.
    fn creep(&mut self, seat: &Seat, cost: u64) {
        let theta = self.settings.theta_percent;
        let Some(group) = self.tenants.at(seat.tenant).map(|tenant| tenant.group) else { return };
        if let Some(cell) = self.groups.at_mut(group).and_then(|group| group.cell_mut(seat.model)) {
            cell.clock.creep(cost, theta, cell.active_weight);
        }
        if let Some(model) = self.models.at_mut(seat.model) {
            model.clock.creep(cost, theta, model.active_weight);
        }
    }

    fn count_release(&mut self, seat: &Seat) {
        self.counts.in_flight = self.counts.in_flight.saturating_sub(1);
        if let Some(model) = self.models.at_mut(seat.model) {
            model.in_flight = model.in_flight.saturating_sub(1);
        }
        let Some(tenant) = self.tenants.at_mut(seat.tenant) else { return };
        tenant.in_flight = tenant.in_flight.saturating_sub(1);
        if let Some(lane) = tenant.lane_mut(seat.model) {
            lane.in_flight = lane.in_flight.saturating_sub(1);
        }
        if let Some(key) = seat.key.counted() {
            if let Some(line) = tenant.keys.get_mut(&key) {
                line.in_flight = line.in_flight.saturating_sub(1);
            }
            tenant.settle_key(key);
        }
    }
}
