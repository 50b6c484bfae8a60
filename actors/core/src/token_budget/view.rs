//! How things stand, for headers and views. Changes nothing.

use super::account::Indexes;
use super::period::Period;
use super::plan::{Amount, Limits, Minute, PeriodBudget, What};
use super::slices::Counter;
use super::{Owner, TokenBudget};
use crate::moment::Moment;
use std::time::Duration;

/// One minute bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    pub limit: u64,
    /// What can be taken now.
    pub remaining: u64,
    /// Until the bucket is full.
    pub reset: Duration,
}

/// The minute buckets of one owner, or the tightest of several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    pub tokens: Option<Rate>,
    pub requests: Option<Rate>,
}

impl Rates {
    /// Of each kind the one with less left; of equals the lower limit.
    pub fn tightest(self, other: Self) -> Self {
        let tighter = |a: Option<Rate>, b: Option<Rate>| {
            a.into_iter().chain(b).min_by_key(|rate| (rate.remaining, rate.limit))
        };
        Self { tokens: tighter(self.tokens, other.tokens), requests: tighter(self.requests, other.requests) }
    }
}

/// A period budget as it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Left {
    pub budget: PeriodBudget,
    pub used: Amount,
    /// By requests that run.
    pub reserved: Amount,
    /// Unix microseconds; `None`: never.
    pub resets_at: Option<i64>,
}

/// All that is known of an owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    pub rates: Rates,
    pub budgets: Vec<Left>,
    /// Used and reserved, by day, month and total, whether or not there is a budget.
    pub usage: [(Period, Amount, Amount); 3],
}

impl TokenBudget {
    /// The minute buckets of an owner.
    pub fn rates(&self, now: Moment, owner: Owner, limits: &Limits) -> Rates {
        let account = self.accounts.get(owner);
        let slices = self.slices.as_deref();
        if let Some(pools) = slices.filter(|slices| !slices.is_apart()) {
            let rate =
                |minute, limit: Option<u64>| limit.map(|limit| pools.rate(now, (owner, minute), limit));
            let tokens = rate(Minute::Tokens, limits.tokens_per_minute);
            return Rates { tokens, requests: rate(Minute::Requests, limits.requests_per_minute) };
        }
        let parts = slices.and_then(|slices| slices.parts()).unwrap_or(1).max(1);
        let rate = |bucket: Option<super::bucket::Bucket>, limit: Option<u64>| {
            let limit = limit? / parts;
            let Some(mut bucket) = bucket else {
                return Some(Rate { limit, remaining: limit, reset: Duration::ZERO });
            };
            bucket.set_limit(now, limit);
            Some(Rate { limit, remaining: bucket.left(now), reset: bucket.until_full(now) })
        };
        Rates {
            tokens: rate(account.and_then(|account| account.tokens), limits.tokens_per_minute),
            requests: rate(account.and_then(|account| account.requests), limits.requests_per_minute),
        }
    }

    /// All that is known of an owner, in the periods of `unix_micros`.
    pub fn standing(&self, now: Moment, unix_micros: i64, owner: Owner, limits: &Limits) -> Standing {
        let account = self.accounts.get(owner);
        let indexes = Indexes::of(unix_micros);
        let sums = |period: Period| {
            let window = account.map(|account| account.window(period, *indexes.get(period)));
            let own = window
                .map_or((Amount::ZERO, Amount::ZERO), |window| (window.used.amount(), window.held.amount()));
            let Some(slices) = self.slices.as_deref() else { return own };
            let index = *indexes.get(period);
            let [tokens, money] = [What::Tokens, What::Money]
                .map(|what| slices.others(&Counter { owner, period, index, what }));
            let sum =
                |tokens: u128, pico: u128| Amount { tokens: u64::try_from(tokens).unwrap_or(u64::MAX), pico };
            let held = sum(tokens.busy.saturating_sub(tokens.used), money.busy.saturating_sub(money.used));
            (own.0.plus(sum(tokens.used, money.used)), own.1.plus(held))
        };
        let left = |budget: &PeriodBudget| {
            let (used, reserved) = sums(budget.period);
            Left {
                budget: *budget,
                used,
                reserved,
                resets_at: budget.period.end(*indexes.get(budget.period)),
            }
        };
        Standing {
            rates: self.rates(now, owner, limits),
            budgets: limits.budgets.iter().map(left).collect(),
            usage: Period::ALL.map(|period| {
                let (used, reserved) = sums(period);
                (period, used, reserved)
            }),
        }
    }
}
