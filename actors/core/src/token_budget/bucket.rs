//! One minute bucket, kept as the debt that its filling has still to pay.

use crate::moment::Moment;
use std::num::NonZeroU64;
use std::time::Duration;

/// Units of a token, or of a request: as many as there are microseconds in a minute.
const UNITS: u64 = 60_000_000;

/// In units. Two whole numbers of 64 bits never multiply to more than one of 128.
fn product(a: u64, b: u64) -> u128 {
    u128::from(a) * u128::from(b)
}

/// A bucket. Full when its debt is zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bucket {
    /// What a minute fills, and what it holds at most.
    limit: NonZeroU64,
    /// Taken and not filled up again, as of `at`.
    debt: u128,
    at: Moment,
}

impl Bucket {
    pub const fn full(now: Moment, limit: u64) -> Self {
        Self { limit: at_least_one(limit), debt: 0, at: now }
    }

    pub const fn limit(&self) -> u64 {
        self.limit.get()
    }

    fn debt_at(&self, now: Moment) -> u128 {
        let micros = now.as_micros().saturating_sub(self.at.as_micros());
        self.debt.saturating_sub(product(micros, self.limit()))
    }

    /// Brings it to `now`; a `now` of another thread may lie a little back.
    fn fill(&mut self, now: Moment) {
        self.debt = self.debt_at(now);
        self.at = self.at.max(now);
    }

    /// Another limit from now on; what was taken stays taken.
    pub fn set_limit(&mut self, now: Moment, limit: u64) {
        let limit = at_least_one(limit);
        if self.limit != limit {
            self.fill(now);
            self.limit = limit;
        }
    }

    /// What a request of this size takes: more than the whole bucket there never is.
    pub fn share(&self, count: u64) -> u64 {
        count.min(self.limit())
    }

    fn room(&self) -> u128 {
        product(self.limit(), UNITS)
    }

    /// How long until this much can be taken; zero: now. Exact to the microsecond, rounded up.
    pub fn wait(&self, now: Moment, count: u64) -> Duration {
        let needed = self.debt_at(now).saturating_add(product(self.share(count), UNITS));
        let missing = needed.saturating_sub(self.room());
        if missing == 0 {
            return Duration::ZERO;
        }
        // `debt_at` stands still until the time of this bucket.
        let behind = self.at.since(now);
        self.time_to_fill(missing) + behind
    }

    /// Takes, whatever there is.
    pub fn take(&mut self, now: Moment, count: u64) {
        self.fill(now);
        self.debt = self.debt.saturating_add(product(count, UNITS));
    }

    /// Gives back, up to the brim.
    pub fn give(&mut self, now: Moment, count: u64) {
        self.fill(now);
        self.debt = self.debt.saturating_sub(product(count, UNITS));
    }

    /// What can be taken now, whole.
    pub fn left(&self, now: Moment) -> u64 {
        u64::try_from(self.room().saturating_sub(self.debt_at(now)) / u128::from(UNITS)).unwrap_or(u64::MAX)
    }

    /// Until it is full.
    pub fn until_full(&self, now: Moment) -> Duration {
        self.time_to_fill(self.debt_at(now))
    }

    fn time_to_fill(&self, units: u128) -> Duration {
        let micros = units.div_ceil(u128::from(self.limit()));
        Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
    }

    /// What was taken and is not filled up again, in whole tokens, rounded up.
    pub fn debt(&self, now: Moment) -> u64 {
        u64::try_from(self.debt_at(now).div_ceil(u128::from(UNITS))).unwrap_or(u64::MAX)
    }

    pub fn is_full(&self, now: Moment) -> bool {
        self.debt_at(now) == 0
    }
}

const fn at_least_one(limit: u64) -> NonZeroU64 {
    match NonZeroU64::new(limit) {
        Some(limit) => limit,
        None => NonZeroU64::MIN,
    }
}
