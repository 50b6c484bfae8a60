//! What one tenant or one key has used and holds.

use super::bucket::Bucket;
use super::period::Period;
use super::plan::{Amount, Limits};
use crate::moment::Moment;

/// One period's count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Window {
    pub period: Period,
    pub index: i64,
    pub used: Amount,
    /// Of holds that are out.
    pub held: Amount,
    /// A warning was given, of tokens and of money.
    pub warned: [bool; 2],
}

impl Window {
    const fn empty(period: Period, index: i64) -> Self {
        Self { period, index, used: Amount::ZERO, held: Amount::ZERO, warned: [false; 2] }
    }
}

/// The numbers of the windows that an arrival counts in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Indexes([i64; 3]);

impl Indexes {
    pub fn of(unix_micros: i64) -> Self {
        Self(Period::ALL.map(|period| period.index(unix_micros)))
    }

    pub fn all(self) -> impl Iterator<Item = (Period, i64)> {
        Period::ALL.into_iter().zip(self.0)
    }

    pub const fn index(self, period: Period) -> i64 {
        let [day, month, total] = self.0;
        match period {
            Period::Day => day,
            Period::Month => month,
            Period::Total => total,
        }
    }
}

/// An account.
#[derive(Clone, Debug, Default)]
pub(super) struct Account {
    pub tokens: Option<Bucket>,
    pub requests: Option<Bucket>,
    /// Of the running periods, and of ended ones for a while.
    pub windows: Vec<Window>,
    /// Holds that are out.
    pub holds: u64,
}

impl Account {
    /// The buckets as `limits` want them. One that is limited no longer is forgotten.
    pub fn set_limits(&mut self, now: Moment, limits: &Limits) {
        fit(&mut self.tokens, now, limits.tokens_per_minute);
        fit(&mut self.requests, now, limits.requests_per_minute);
    }

    /// Used and held in a window.
    pub fn window(&self, period: Period, index: i64) -> Option<&Window> {
        self.windows.iter().find(|window| window.period == period && window.index == index)
    }

    /// Every window that an arrival counts in; those that are not there are begun.
    pub fn change(&mut self, indexes: Indexes, mut change: impl FnMut(&mut Window)) {
        for (period, index) in indexes.all() {
            let found = |window: &&mut Window| window.period == period && window.index == index;
            if let Some(window) = self.windows.iter_mut().find(found) {
                change(window);
                continue;
            }
            let mut window = Window::empty(period, index);
            change(&mut window);
            self.windows.push(window);
        }
    }

    /// Forgets windows that ended before `before` (Unix microseconds) and hold nothing, and full buckets.
    pub fn expire(&mut self, now: Moment, before: i64) {
        self.windows.retain(|window| {
            window.held != Amount::ZERO || window.period.end(window.index).is_none_or(|end| end >= before)
        });
        if self.holds == 0 {
            self.tokens = self.tokens.filter(|bucket| !bucket.is_full(now));
            self.requests = self.requests.filter(|bucket| !bucket.is_full(now));
        }
    }

    /// Whether nothing is known that another account would not begin with.
    pub fn is_blank(&self) -> bool {
        let blank = |window: &Window| window.used == Amount::ZERO && window.held == Amount::ZERO;
        self.holds == 0 && self.tokens.is_none() && self.requests.is_none() && self.windows.iter().all(blank)
    }
}

fn fit(bucket: &mut Option<Bucket>, now: Moment, limit: Option<u64>) {
    match (bucket.as_mut(), limit) {
        (_, None) => *bucket = None,
        (None, Some(limit)) => *bucket = Some(Bucket::full(now, limit)),
        (Some(bucket), Some(limit)) => bucket.set_limit(now, limit),
    }
}
