//! A hold: what one request has reserved of the budgets of its tenant and its key.

use crate::budget::Desk;
use obleth_core::token_budget::{Granted, Settlement};
use std::fmt;
use std::sync::Arc;

/// One request's reservation. Dropped unsettled it is given back as if there had been no request.
pub struct Hold {
    desk: Arc<Desk>,
    shard: usize,
    granted: Granted,
    held: bool,
}

impl fmt::Debug for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hold").field("granted", &self.granted).finish_non_exhaustive()
    }
}

impl Hold {
    pub(crate) const fn new(desk: Arc<Desk>, shard: usize, granted: Granted) -> Self {
        Self { desk, shard, granted, held: true }
    }

    /// What was reserved.
    pub const fn granted(&self) -> &Granted {
        &self.granted
    }

    /// Ends the hold with what was truly used.
    pub fn settle(mut self, with: Settlement) {
        self.end(with);
    }

    fn end(&mut self, with: Settlement) {
        if std::mem::replace(&mut self.held, false) {
            self.desk.settle(self.shard, self.granted.id, with);
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.end(Settlement::NOTHING);
    }
}
