//! One minute bucket, kept as the debt that its filling has still to pay.

use crate::moment::Moment;
use std::time::Duration;

/// Units of a token, or of a request: as many as there are microseconds in a minute.
const UNITS: u128 = 60_000_000;

/// A bucket. Full when its debt is zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bucket {
    /// What a minute fills, and what it holds at most. At least 1.
    limit: u64,
    /// Taken and not filled up again, as of `at`.
    debt: u128,
    at: Moment,
}

impl Bucket {
    pub const fn full(now: Moment, limit: u64) -> Self {
        Self { limit: if limit == 0 { 1 } else { limit }, debt: 0, at: now }
    }

    pub const fn limit(&self) -> u64 {
        self.limit
    }

    fn debt_at(&self, now: Moment) -> u128 {
        let filled = now.since(self.at).as_micros().saturating_mul(u128::from(self.limit));
        self.debt.saturating_sub(filled)
    }

    /// Brings it to `now`; a `now` of another thread may lie a little back.
    fn fill(&mut self, now: Moment) {
        self.debt = self.debt_at(now);
        self.at = self.at.max(now);
    }

    /// Another limit from now on; what was taken stays taken.
    pub fn set_limit(&mut self, now: Moment, limit: u64) {
        if self.limit != limit {
            self.fill(now);
            self.limit = limit.max(1);
        }
    }

    /// What a request of this size takes: more than the whole bucket there never is.
    pub fn share(&self, count: u64) -> u64 {
        count.min(self.limit)
    }

    fn room(&self) -> u128 {
        u128::from(self.limit) * UNITS
    }

    /// How long until this much can be taken; zero: now. Exact to the microsecond, rounded up.
    pub fn wait(&self, now: Moment, count: u64) -> Duration {
        let needed = self.debt_at(now).saturating_add(u128::from(self.share(count)) * UNITS);
        let missing = needed.saturating_sub(self.room()).div_ceil(u128::from(self.limit));
        // `debt_at` stands still until the time of this bucket.
        let behind = self.at.since(now);
        let micros = u64::try_from(missing).unwrap_or(u64::MAX);
        if micros == 0 { Duration::ZERO } else { Duration::from_micros(micros) + behind }
    }

    /// Takes, whatever there is.
    pub fn take(&mut self, now: Moment, count: u64) {
        self.fill(now);
        self.debt = self.debt.saturating_add(u128::from(count) * UNITS);
    }

    /// Gives back, up to the brim.
    pub fn give(&mut self, now: Moment, count: u64) {
        self.fill(now);
        self.debt = self.debt.saturating_sub(u128::from(count) * UNITS);
    }

    /// What can be taken now, whole.
    pub fn left(&self, now: Moment) -> u64 {
        u64::try_from(self.room().saturating_sub(self.debt_at(now)) / UNITS).unwrap_or(u64::MAX)
    }

    /// Until it is full.
    pub fn until_full(&self, now: Moment) -> Duration {
        let micros = self.debt_at(now).div_ceil(u128::from(self.limit));
        Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
    }

    pub fn is_full(&self, now: Moment) -> bool {
        self.debt_at(now) == 0
    }
}
