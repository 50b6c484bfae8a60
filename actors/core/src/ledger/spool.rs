//! Rows that wait for the database, in order of arrival.
//!
//! Is: the one place a finished request's row lies between `settle` and the database. Bounded: when it is
//! full the gateway refuses new requests (a row is never dropped). Is not: durable.
//! Invariant: received = recorded + lost + waiting, and a row leaves only when its batch is confirmed.

use super::row::LedgerRow;
use std::collections::VecDeque;
use std::sync::Arc;

/// A batch handed to the database. Confirm or return it; a second batch is not given before.
pub type Batch = Vec<Arc<LedgerRow>>;

/// Row counts since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Rows taken in.
    pub received: u64,
    /// Rows the database confirmed.
    pub recorded: u64,
    /// Rows waiting.
    pub waiting: u64,
}

/// The spool.
#[derive(Debug)]
pub struct Spool {
    rows: VecDeque<Arc<LedgerRow>>,
    /// Rows at the front that are with the database.
    lent: usize,
    capacity: usize,
    received: u64,
    recorded: u64,
}

impl Spool {
    /// An empty spool that asks for refusals from `capacity` rows on.
    pub fn new(capacity: usize) -> Self {
        Self { rows: VecDeque::new(), lent: 0, capacity, received: 0, recorded: 0 }
    }

    /// A fresh spool with the rows of one whose owner failed. A batch that was lent is given again: the
    /// database takes each row once.
    pub fn resume(self) -> Self {
        Self { lent: 0, ..self }
    }

    /// Takes a row. Never refuses: the request it speaks of has happened.
    pub fn push(&mut self, row: Arc<LedgerRow>) {
        self.received += 1;
        self.rows.push_back(row);
    }

    /// Whether a new request may start: the rows of those that run must still fit.
    pub fn has_room(&self) -> bool {
        self.rows.len() < self.capacity
    }

    /// The oldest rows, at most `limit`; `None` when nothing waits or a batch is out.
    pub fn lend(&mut self, limit: usize) -> Option<Batch> {
        if self.lent > 0 || self.rows.is_empty() {
            return None;
        }
        self.lent = limit.min(self.rows.len());
        Some(self.rows.iter().take(self.lent).cloned().collect())
    }

    /// The database has the lent batch.
    pub fn confirm(&mut self) {
        self.recorded += u64::try_from(self.lent).unwrap_or(u64::MAX);
        self.rows.drain(..self.lent);
        self.lent = 0;
    }

    /// The database did not take the lent batch: it is first in line again.
    pub fn take_back(&mut self) {
        self.lent = 0;
    }

    /// The counts; received = recorded + waiting.
    pub fn counts(&self) -> Counts {
        Counts {
            received: self.received,
            recorded: self.recorded,
            waiting: u64::try_from(self.rows.len()).unwrap_or(u64::MAX),
        }
    }
}
