//! One that waits for the answer to a request like its own.

use super::broadcast::Reader;
use super::desk::Desk;
use super::flight::Lead;
use obleth_core::response_cache::{FlightId, WaiterId};
use std::fmt;
use std::sync::Arc;
use tokio::sync::oneshot;

/// What a follower hears.
#[derive(Debug)]
pub enum Told {
    /// The leader ended before its request was sent: this one leads now.
    Lead(Lead),
    /// The request was sent: the answer comes.
    Sent,
}

/// A follower's place among the others. Dropped it is free.
pub(super) struct Place {
    desk: Arc<Desk>,
    flight: FlightId,
    waiter: WaiterId,
    held: bool,
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Place").field("flight", &self.flight).finish_non_exhaustive()
    }
}

impl Place {
    pub(super) const fn new(desk: Arc<Desk>, flight: FlightId, waiter: WaiterId) -> Self {
        Self { desk, flight, waiter, held: true }
    }

    /// There is nothing to leave any more.
    pub(super) fn defuse(mut self) {
        self.held = false;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.held {
            self.desk.leave(self.flight, self.waiter);
        }
    }
}

/// A follower that has not heard yet.
#[derive(Debug)]
pub struct Follower {
    told: oneshot::Receiver<Told>,
    reader: Reader,
}

impl Follower {
    pub(super) const fn new(told: oneshot::Receiver<Told>, reader: Reader) -> Self {
        Self { told, reader }
    }

    /// Waits until it hears. `None`: a contained fault; it may ask again.
    pub async fn told(&mut self) -> Option<Told> {
        let told = (&mut self.told).await.ok()?;
        if matches!(told, Told::Lead(_)) {
            self.reader.leads();
        }
        Some(told)
    }

    /// The reader of the answer, once the request was sent.
    pub fn reader(self) -> Reader {
        self.reader
    }
}
