//! Slot time: used, and left idle although someone could have used it.

use super::directory::Place;
use obleth_core::moment::Moment;
use std::time::Duration;

/// Slot time, in microseconds of one slot.
#[derive(Debug)]
pub(super) struct Slots {
    slots: u32,
    in_flight: u32,
    now: Moment,
    pub(super) used: u128,
    /// Idle while a request waited whose model and tenant were below their caps.
    pub(super) wasted: u128,
    models: Vec<Pool>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Pool {
    cap: Option<u32>,
    in_flight: u32,
    /// Waiting requests of tenants below their cap.
    ready: u32,
}

impl Slots {
    pub(super) fn new(slots: u32) -> Self {
        Self { slots, in_flight: 0, now: Moment::ZERO, used: 0, wasted: 0, models: Vec::new() }
    }

    pub(super) fn meet(&mut self, model: Place, cap: Option<u32>) {
        while self.models.len() <= model {
            self.models.push(Pool::default());
        }
        if let Some(pool) = self.models.get_mut(model) {
            pool.cap = cap;
        }
    }

    /// What stood until now has lasted until now.
    pub(super) fn advance(&mut self, now: Moment) {
        let span = now.since(self.now);
        if span == Duration::ZERO {
            return;
        }
        self.now = now;
        self.used = self.used.saturating_add(span.as_micros().saturating_mul(u128::from(self.in_flight)));
        let free = self.slots.saturating_sub(self.in_flight);
        if free == 0 {
            return;
        }
        let could = |pool: &Pool| match pool.cap {
            None => pool.ready,
            Some(cap) => pool.ready.min(cap.saturating_sub(pool.in_flight)),
        };
        let could = self.models.iter().map(could).fold(0, u32::saturating_add).min(free);
        self.wasted = self.wasted.saturating_add(span.as_micros().saturating_mul(u128::from(could)));
    }

    /// The whole slot time so far.
    pub(super) fn whole(&self) -> u128 {
        u128::from(self.now.as_micros()).saturating_mul(u128::from(self.slots))
    }

    pub(super) fn in_flight(&self) -> u32 {
        self.in_flight
    }

    /// A slot of the model is taken.
    pub(super) fn take(&mut self, model: Place) {
        self.in_flight = self.in_flight.saturating_add(1);
        if let Some(pool) = self.models.get_mut(model) {
            pool.in_flight = pool.in_flight.saturating_add(1);
        }
    }

    /// A slot of the model comes back.
    pub(super) fn give(&mut self, model: Place) {
        self.in_flight = self.in_flight.saturating_sub(1);
        if let Some(pool) = self.models.get_mut(model) {
            pool.in_flight = pool.in_flight.saturating_sub(1);
        }
    }

    /// A tenant has other requests ready for the model than before.
    pub(super) fn ready(&mut self, model: Place, before: u32, after: u32) {
        if let Some(pool) = self.models.get_mut(model) {
            pool.ready = pool.ready.saturating_sub(before).saturating_add(after);
        }
    }
}
