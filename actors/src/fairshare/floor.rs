//! What the lock guards: the fair queue, the waiters' reply channels, and a record of each seat that is out.

use crate::cell::Heal;
use crate::clock::Clock;
use crate::guards::Seat;
use obleth_core::fair_queue::{
    Effect, FairQueue, Grant, GroupPlan, ModelPlan, Refusal, SeatRecord, Settings, Spent, TenantPlan,
    TicketId,
};
use obleth_core::fleet::Replica;
use obleth_core::ids::{KeyId, ModelId, TenantId};
use obleth_core::moment::Moment;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::{Notify, oneshot};

/// What a waiter hears.
pub(super) type Reply = Result<Seat, Refusal>;

/// A change of configuration.
#[derive(Clone, Copy, Debug)]
pub enum Change {
    Slots(u32),
    Group(GroupPlan),
    Tenant(TenantPlan),
    /// Queued requests are refused, running ones finish.
    Suspend(TenantId),
    /// Queued requests of the key are refused, running ones finish.
    DismissKey(TenantId, KeyId),
    /// The cap of a tenant's key; `NO_CAP` = none.
    Key(TenantId, KeyId, u32),
    Model(ModelPlan),
    /// Queued requests are refused, running ones finish.
    RemoveModel(ModelId),
}

/// One who waits.
pub(super) struct Waiter {
    /// The waiter's own number, by which it leaves.
    pub number: u64,
    pub reply: oneshot::Sender<Reply>,
}

/// What the lock guards.
pub(super) struct Floor {
    clock: Clock,
    settings: Settings,
    pub queue: FairQueue,
    /// Each seat that is out, enough to rebuild the queue from.
    seats: HashMap<TicketId, SeatRecord>,
    pub waiting: HashMap<TicketId, Waiter>,
    pub tickets: HashMap<u64, TicketId>,
    /// Admission requests on their way through the mailbox. They count as waiting: nobody slips past them.
    pub approaching: u32,
    given: Given,
    /// Its side of the slots that several replicas share; `None`: they are its own.
    pub fleet: Option<Replica>,
    /// Rung when the fleet is to be asked at once.
    bell: Arc<Notify>,
}

/// What the call that runs has given. A panic before its end takes it back: nobody holds it yet.
#[derive(Default)]
struct Given {
    seats: Vec<TicketId>,
    approaches: u32,
}

impl Heal for Floor {
    fn heal(&mut self) {
        let given = std::mem::take(&mut self.given);
        given.seats.iter().for_each(|ticket| _ = self.seats.remove(ticket));
        self.approaching = self.approaching.saturating_sub(given.approaches);
        let seats = self.seats.values().cloned();
        let now = self.clock.now();
        let era = self.queue.next_era();
        self.queue = FairQueue::resume(self.settings.clone(), now, seats);
        if let Some(fleet) = &mut self.fleet {
            // Its totals begin anew, in an era that is later than any of the queue before.
            self.queue.join_fleet(era);
            fleet.resume(now, &mut self.queue);
        }
        // Their callers see the channel close and offer the request again.
        self.waiting.clear();
        self.tickets.clear();
    }

    fn commit(&mut self) {
        self.given.seats.clear();
        self.given.approaches = 0;
    }
}

/// Answers to hand over once the lock is released.
pub(super) type Answers = Vec<(oneshot::Sender<Reply>, Result<Grant, Refusal>)>;

impl Floor {
    /// An empty floor.
    pub fn new(clock: Clock, settings: Settings, bell: Arc<Notify>) -> Self {
        Self {
            clock,
            queue: FairQueue::new(settings.clone()),
            settings,
            seats: HashMap::new(),
            waiting: HashMap::new(),
            tickets: HashMap::new(),
            approaching: 0,
            given: Given::default(),
            fleet: None,
            bell,
        }
    }

    /// Shares its slots from here on.
    pub fn join(&mut self, replica: Replica) {
        self.queue.join_fleet(0);
        self.fleet = Some(replica);
    }

    /// Before anything is decided: whether what is here of the fleet's slots is still so.
    pub fn look(&mut self, now: Moment) {
        if let Some(fleet) = &mut self.fleet {
            fleet.look(now, &mut self.queue);
        }
    }

    pub fn note_seat(&mut self, ticket: TicketId) {
        if let Some(record) = self.queue.seat_record(ticket) {
            self.seats.insert(ticket, record);
            self.given.seats.push(ticket);
        }
    }

    pub fn note_approach(&mut self) {
        self.approaching += 1;
        self.given.approaches += 1;
    }

    pub fn give_back(&mut self, now: Moment, ticket: TicketId, spent: Spent) {
        self.seats.remove(&ticket);
        self.queue.release(now, ticket, spent);
    }

    fn take_waiter(&mut self, ticket: TicketId) -> Option<Waiter> {
        let waiter = self.waiting.remove(&ticket)?;
        self.tickets.remove(&waiter.number);
        Some(waiter)
    }

    /// What the queue decided, for waiters that are still there.
    pub fn answers(&mut self, now: Moment) -> Answers {
        let mut answers = Answers::new();
        while let Some(effect) = self.queue.poll_effect() {
            match effect {
                Effect::Grant(grant) => match self.take_waiter(grant.ticket) {
                    Some(waiter) if !waiter.reply.is_closed() => {
                        self.note_seat(grant.ticket);
                        answers.push((waiter.reply, Ok(grant)));
                    }
                    _ => self.give_back(now, grant.ticket, Spent::Never),
                },
                Effect::Refuse { ticket, refusal } => {
                    if let Some(waiter) = self.take_waiter(ticket) {
                        answers.push((waiter.reply, Err(refusal)));
                    }
                }
            }
        }
        if self.fleet.as_ref().is_some_and(|fleet| fleet.is_urgent(&self.queue)) {
            self.bell.notify_one();
        }
        answers
    }

    /// Slots, requests that hold one, requests that wait.
    pub fn load(&self) -> (u32, u32, u32) {
        (self.settings.slots, self.queue.in_flight(), self.queue.queued())
    }

    pub fn apply(&mut self, now: Moment, change: Change) {
        match change {
            Change::Slots(slots) => {
                self.settings.slots = slots;
                self.queue.set_slots(now, slots);
            }
            Change::Group(plan) => self.queue.set_group(now, plan),
            Change::Tenant(plan) => self.queue.set_tenant(now, plan),
            Change::Suspend(id) => self.queue.suspend_tenant(now, id),
            Change::DismissKey(tenant, key) => self.queue.dismiss_key(now, tenant, key),
            Change::Key(tenant, key, cap) => self.queue.set_key(now, tenant, key, cap),
            Change::Model(plan) => self.queue.set_model(now, plan),
            Change::RemoveModel(id) => self.queue.remove_model(now, id),
        }
    }
}
