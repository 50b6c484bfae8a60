//! What the simulator asks of a scheduler, and the production one behind it.

use obleth_core::fair_queue::{Demand, Effect, FairQueue, Grant, Refusal, Spent, TicketId};
use obleth_core::moment::Moment;

/// Decides who goes next. The words are those of [`FairQueue`].
pub(super) trait Scheduler {
    /// A request arrives: past the queue with a grant, or into it. Effects may follow.
    fn arrive(&mut self, now: Moment, demand: Demand) -> Result<(TicketId, Option<Grant>), Refusal>;
    fn progress(&mut self, now: Moment, ticket: TicketId, prompt: u64, output: u64);
    fn release(&mut self, now: Moment, ticket: TicketId, spent: Spent);
    fn cancel(&mut self, now: Moment, ticket: TicketId);
    fn expire(&mut self, now: Moment);
    fn next_wakeup(&self) -> Option<Moment>;
    fn poll_effect(&mut self) -> Option<Effect>;
}

impl Scheduler for FairQueue {
    fn arrive(&mut self, now: Moment, demand: Demand) -> Result<(TicketId, Option<Grant>), Refusal> {
        if let Some(grant) = self.try_seat(now, &demand) {
            return Ok((grant.ticket, Some(grant)));
        }
        Ok((self.enqueue(now, demand)?, None))
    }

    fn progress(&mut self, now: Moment, ticket: TicketId, prompt: u64, output: u64) {
        FairQueue::progress(self, now, ticket, prompt, output);
    }

    fn release(&mut self, now: Moment, ticket: TicketId, spent: Spent) {
        FairQueue::release(self, now, ticket, spent);
    }

    fn cancel(&mut self, now: Moment, ticket: TicketId) {
        FairQueue::cancel(self, now, ticket);
    }

    fn expire(&mut self, now: Moment) {
        FairQueue::expire(self, now);
    }

    fn next_wakeup(&self) -> Option<Moment> {
        FairQueue::next_wakeup(self)
    }

    fn poll_effect(&mut self) -> Option<Effect> {
        FairQueue::poll_effect(self)
    }
}
