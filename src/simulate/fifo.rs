//! First in, first out, strictly: what the fair queue is compared with. The request at the head goes next;
//! while it cannot start (no slot, its model or its tenant at the cap), nobody can.

use super::scheduler::Scheduler;
use obleth_core::fair_queue::{Demand, Effect, Grant, Refusal, Spent, TicketId};
use obleth_core::ids::{ModelId, TenantId};
use obleth_core::moment::Moment;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::Duration;

/// See the module head.
#[derive(Debug, Default)]
pub(super) struct Fifo {
    slots: u32,
    next_ticket: u64,
    waiting: BTreeMap<TicketId, (Moment, Demand)>,
    waiting_of: HashMap<TenantId, u32>,
    deadlines: BTreeSet<(Moment, TicketId)>,
    running: HashMap<TicketId, (TenantId, ModelId)>,
    in_flight_of: HashMap<TenantId, u32>,
    in_flight_on: HashMap<ModelId, u32>,
    effects: VecDeque<Effect>,
}

impl Fifo {
    pub(super) fn new(slots: u32) -> Self {
        Self { slots, ..Self::default() }
    }

    fn may_start(&self, demand: &Demand) -> bool {
        let of = self.in_flight_of.get(&demand.tenant.id).copied().unwrap_or_default();
        let on = self.in_flight_on.get(&demand.model.id).copied().unwrap_or_default();
        u32::try_from(self.running.len()).is_ok_and(|running| running < self.slots)
            && demand.tenant.max_in_flight.is_none_or(|cap| of < cap)
            && demand.model.max_in_flight.is_none_or(|cap| on < cap)
    }

    fn dispatch(&mut self, now: Moment) {
        while let Some((ticket, (since, demand))) = self.waiting.first_key_value() {
            let (ticket, since) = (*ticket, *since);
            if !self.may_start(demand) {
                return;
            }
            let Some(demand) = self.leave(ticket) else { return };
            let grant = self.seat(now, ticket, since, &demand);
            self.effects.push_back(Effect::Grant(grant));
        }
    }

    fn seat(&mut self, now: Moment, ticket: TicketId, since: Moment, demand: &Demand) -> Grant {
        let (tenant, model) = (demand.tenant.id, demand.model.id);
        self.running.insert(ticket, (tenant, model));
        rise(self.in_flight_of.entry(tenant).or_default());
        rise(self.in_flight_on.entry(model).or_default());
        // Nothing is charged, so nothing is ever beyond the forecast.
        let forecast_tokens = u64::MAX;
        Grant { ticket, tenant, model, forecast_tokens, waited: now.since(since), queued: true }
    }

    fn leave(&mut self, ticket: TicketId) -> Option<Demand> {
        let (_, demand) = self.waiting.remove(&ticket)?;
        fall(self.waiting_of.get_mut(&demand.tenant.id));
        if let Some(deadline) = demand.deadline {
            self.deadlines.remove(&(deadline, ticket));
        }
        Some(demand)
    }
}

fn rise(count: &mut u32) {
    *count = count.saturating_add(1);
}

fn fall(count: Option<&mut u32>) {
    if let Some(count) = count {
        *count = count.saturating_sub(1);
    }
}

/// Nobody is told here when to come again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

impl Scheduler for Fifo {
    fn arrive(&mut self, now: Moment, demand: Demand) -> Result<(TicketId, Option<Grant>), Refusal> {
        let starts = self.waiting.is_empty() && self.may_start(&demand);
        let queued = self.waiting_of.get(&demand.tenant.id).copied().unwrap_or_default();
        if !starts && demand.tenant.max_queued.is_some_and(|most| queued >= most) {
            return Err(Refusal::TenantQueueFull { retry_after: RETRY_AFTER });
        }
        let ticket = TicketId(self.next_ticket);
        self.next_ticket = self.next_ticket.saturating_add(1);
        if starts {
            let grant = self.seat(now, ticket, now, &demand);
            return Ok((ticket, Some(Grant { queued: false, ..grant })));
        }
        rise(self.waiting_of.entry(demand.tenant.id).or_default());
        self.deadlines.extend(demand.deadline.map(|deadline| (deadline, ticket)));
        self.waiting.insert(ticket, (now, demand));
        Ok((ticket, None))
    }

    fn progress(&mut self, _now: Moment, _ticket: TicketId, _prompt: u64, _output: u64) {}

    fn release(&mut self, now: Moment, ticket: TicketId, _spent: Spent) {
        let Some((tenant, model)) = self.running.remove(&ticket) else { return };
        fall(self.in_flight_of.get_mut(&tenant));
        fall(self.in_flight_on.get_mut(&model));
        self.dispatch(now);
    }

    /// The head may have been what held up the others.
    fn cancel(&mut self, now: Moment, ticket: TicketId) {
        self.leave(ticket);
        self.dispatch(now);
    }

    fn expire(&mut self, now: Moment) {
        while let Some((deadline, ticket)) = self.deadlines.first().copied()
            && deadline <= now
        {
            self.leave(ticket);
            let refusal = Refusal::Timeout { retry_after: RETRY_AFTER };
            self.effects.push_back(Effect::Refuse { ticket, refusal });
        }
        self.dispatch(now);
    }

    fn next_wakeup(&self) -> Option<Moment> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }
}
