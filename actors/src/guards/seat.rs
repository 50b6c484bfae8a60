//! A seat: the right to have one request running upstream.

use crate::fairshare::Desk;
use obleth_core::fair_queue::{Grant, Spent, TicketId};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// One running request's place among the slots. Dropped unsettled it gives the slot back: without a charge
/// before [`Seat::dispatched`], with the least charge after it.
pub struct Seat {
    desk: Arc<Desk>,
    grant: Grant,
    dispatched: bool,
    held: bool,
}

impl fmt::Debug for Seat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seat").field("grant", &self.grant).finish_non_exhaustive()
    }
}

impl Seat {
    pub(crate) fn new(desk: Arc<Desk>, grant: Grant) -> Self {
        Self { desk, grant, dispatched: false, held: true }
    }

    /// Time spent in the queue.
    pub const fn waited(&self) -> Duration {
        self.grant.waited
    }

    /// Whether the request had to queue.
    pub const fn queued(&self) -> bool {
        self.grant.queued
    }

    /// The forecast that was charged, in tokens.
    pub const fn forecast_tokens(&self) -> u64 {
        self.grant.forecast_tokens
    }

    /// From here on the request is upstream and costs something whatever its end.
    pub const fn dispatched(&mut self) {
        self.dispatched = true;
    }

    /// Tells the scheduler what has been produced so far. Charges only upward.
    pub fn progress(&self, prompt_tokens: u64, output_tokens: u64) {
        self.desk.progress(self.grant.ticket, prompt_tokens, output_tokens);
    }

    /// Gives the slot back with what was truly used.
    pub fn settle(mut self, spent: Spent) {
        self.give_back(spent);
    }

    /// Forgets the guard without giving the slot back; the caller does that.
    pub(crate) fn defuse(mut self) -> TicketId {
        self.held = false;
        self.grant.ticket
    }

    fn give_back(&mut self, spent: Spent) {
        if std::mem::replace(&mut self.held, false) {
            self.desk.release(self.grant.ticket, spent);
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.give_back(if self.dispatched { Spent::Nothing } else { Spent::Never });
    }
}

/// A place in the queue. Dropped before the grant (the client left) it leaves the queue at once.
pub struct WaitPlace {
    desk: Arc<Desk>,
    waiter: u64,
    queued: bool,
}

impl fmt::Debug for WaitPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WaitPlace").field("waiter", &self.waiter).finish_non_exhaustive()
    }
}

impl WaitPlace {
    pub(crate) const fn new(desk: Arc<Desk>, waiter: u64) -> Self {
        Self { desk, waiter, queued: true }
    }

    pub(crate) const fn waiter(&self) -> u64 {
        self.waiter
    }

    /// The wait is over: there is no place to leave.
    pub(crate) const fn left_by_answer(&mut self) {
        self.queued = false;
    }
}

impl Drop for WaitPlace {
    fn drop(&mut self) {
        if self.queued {
            self.desk.leave(self.waiter);
        }
    }
}
