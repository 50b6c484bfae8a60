//! How fast a slot works: what finished requests cost, over the time they held their slots.
//!
//! Is: one measure for each pool and one for all of them. Is not: cost per time of day; a pool that was half
//! empty is not slow, and a pause measures nothing. Seats that are out count once they are older than a
//! finished request was: an upstream that hangs is seen before anything finishes.

use crate::moment::Moment;

/// Half of what was measured is forgotten each time this has passed, in microseconds.
const HALF_LIFE_MICROS: u64 = 2_000_000;
/// One of whatever is measured: so fine that halving it often loses nothing.
const ONE: u128 = 1 << 20;

/// See the module head.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pace {
    /// The last time half was forgotten.
    since: Moment,
    /// Of finished requests: their cost, the microseconds they held a slot, and how many they were. All in
    /// [`ONE`]s.
    cost: u128,
    held: u128,
    finished: u128,
    /// Of running requests: how many, and the sum of their starts in microseconds.
    running: u128,
    started: u128,
}

impl Pace {
    /// A request got its slot.
    pub(super) fn start(&mut self, started: Moment) {
        self.running = self.running.saturating_add(1);
        self.started = self.started.saturating_add(u128::from(started.as_micros()));
    }

    /// It gave it back. What cost nothing was never sent, and measures nothing.
    pub(super) fn finish(&mut self, now: Moment, started: Moment, cost: u64) {
        self.running = self.running.saturating_sub(1);
        self.started = self.started.saturating_sub(u128::from(started.as_micros()));
        if cost == 0 {
            return;
        }
        if now.as_micros().saturating_sub(self.since.as_micros()) >= HALF_LIFE_MICROS {
            self.since = now;
            (self.cost, self.held, self.finished) = (self.cost / 2, self.held / 2, self.finished / 2);
        }
        self.cost = self.cost.saturating_add(u128::from(cost).saturating_mul(ONE));
        self.held = self.held.saturating_add(now.since(started).as_micros().saturating_mul(ONE));
        self.finished = self.finished.saturating_add(ONE);
    }

    /// Microseconds in which one slot does `work`, in cost units; `None` while nothing was measured.
    pub(super) fn micros_of(&self, now: Moment, work: u128) -> Option<u128> {
        work.saturating_mul(self.held(now)).checked_div(self.cost)
    }

    /// Microseconds for which one request holds its slot; `None` while nothing was measured.
    pub(super) fn micros_each(&self, now: Moment) -> Option<u128> {
        self.held(now).checked_div(self.finished)
    }

    /// The time finished requests held their slots; longer if those that run are older than that on average.
    fn held(&self, now: Moment) -> u128 {
        let ages = self.running.saturating_mul(u128::from(now.as_micros())).saturating_sub(self.started);
        let age = ages.checked_div(self.running).unwrap_or_default();
        self.held.max(age.saturating_mul(self.finished))
    }
}
