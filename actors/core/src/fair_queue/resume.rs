//! A fresh queue after a fault: built from the seats that are out.

use super::FairQueue;
use super::cost::Asked;
use super::plan::{Demand, GroupPlan, NO_CAP, SeatRecord, Settings, TicketId};
use super::recent::Rough;
use super::state::{Keyed, Seat, Ticket, Waiting};
use crate::moment::Moment;

/// Distance between the tickets that are known to have been used and the first new one.
const TICKET_GAP: u64 = 1 << 32;

impl FairQueue {
    /// A fresh queue that knows the seats that are out: they hold their slots and keep their charge.
    /// Clocks start anew. Tickets start beyond any that the old queue can have given, also to waiters
    /// (no more than one each microsecond since the origin).
    pub fn resume(settings: Settings, now: Moment, seats: impl IntoIterator<Item = SeatRecord>) -> Self {
        let mut queue = Self::new(settings);
        queue.counts.next_ticket = now.as_micros();
        for seat in seats {
            queue.take_seat(now, seat);
        }
        queue
    }

    fn take_seat(&mut self, now: Moment, record: SeatRecord) {
        if self.tickets.contains_key(&record.ticket) {
            return;
        }
        let demand = Demand {
            tenant: record.tenant,
            model: record.model,
            key: record.key,
            prompt_tokens: record.prompt_tokens,
            max_output_tokens: None,
            answers: record.answers,
            deadline: None,
        };
        let (tenant, model) = self.meet(now, &demand);
        let key = Keyed::of(record.key);
        let asked = Asked::of(&demand);
        let waiting =
            Waiting { tenant, model, key, asked, cost: 0, prompt_cost: 0, since: now, deadline: None };
        self.count_grant(record.started, &waiting);
        let Some(group) = self.tenants.at(tenant).map(|tenant| tenant.group) else { return };
        let seat = Seat {
            tenant,
            model,
            key,
            group: (group, record.tenant.group.id),
            asked,
            forecast: Rough::of(record.charged),
            factor: record.model.cost_factor,
            charged: 0,
            started: record.started,
        };
        self.correct(&seat, record.charged);
        self.note_service(tenant, model, 0, record.charged);
        self.tickets.insert(record.ticket, Ticket::Seated(Seat { charged: record.charged, ..seat }));
        self.counts.next_ticket = self.counts.next_ticket.max(record.ticket.0.saturating_add(TICKET_GAP));
        self.refresh(tenant);
    }

    /// What [`Self::resume`] needs to know of a seat; `None` when the ticket holds no seat.
    pub fn seat_record(&self, ticket: TicketId) -> Option<SeatRecord> {
        let Some(Ticket::Seated(seat)) = self.tickets.get(&ticket) else { return None };
        let tenant = self.tenants.at(seat.tenant)?;
        let group: GroupPlan = self.groups.at(tenant.group)?.plan;
        let mut plan = tenant.plan;
        plan.group = group;
        let mut model = self.models.at(seat.model)?.plan;
        model.cost_factor = seat.factor;
        let key = match seat.key {
            Keyed::Unknown => None,
            Keyed::Known(key) => Some((key, NO_CAP)),
            Keyed::Counted(key) => tenant.keys.get(&key).map(|line| (key, line.cap)),
        };
        Some(SeatRecord {
            ticket,
            tenant: plan,
            model,
            key,
            prompt_tokens: seat.asked.prompt,
            answers: seat.asked.answers,
            charged: seat.charged,
            started: seat.started,
        })
    }
}
