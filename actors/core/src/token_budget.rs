//! Budgets: what a tenant and a key may still use.
//!
//! Is: minute buckets of tokens and requests, and budgets of a day, a month and in total, in tokens and in money, of
//! tenants and of keys. A request reserves in all of them at once, or in none; its hold is settled to what was truly
//! used, or given back. Is not: an order of requests, a forecast, a price list; it is told all of them.
//!
//! **Periods.** Usage is counted in windows of UTC days, UTC months and the whole time, for every tenant and key that
//! uses anything, whether or not it has a budget: one that is set later counts from the beginning of its period. A hold
//! belongs to the windows of its request's arrival, in which the ledger counts it too; nothing is done at the end of a
//! period but to begin the next window with the first request that arrives in it.
//!
//! **Hard budgets.** What is held is the most that the request can use, so `used + held` never passes the limit, and
//! neither does `used` when holds are settled to no more than they are. Refused with [`Refusal::Exhausted`] is what
//! does not fit beside what was used; what only running holds are in the way of, with [`Refusal::Reserved`].
//! Nothing else is refused by a period budget; one that is not hard gives a [`Warning`].
//!
//! **Minute buckets.** A bucket holds one minute's limit and is filled continuously. It is kept as a debt: what was
//! taken and has not been filled up again, in 1/60 000 000 of a token, so that a microsecond fills a whole number of
//! units and nothing is ever rounded. The forecast is taken, at most the whole bucket, and corrected at the end:
//! the debt may then be larger than the bucket. A change of the limit leaves the debt as it is.
//!
//! **Which refusal** when several hold: a prompt larger than a whole bucket, then an exhausted budget (the one that
//! begins anew last), then running holds, then the minute bucket that takes longest.
//!
//! **Replicas** share budgets through a common store: see [`slices`]. Alone, nothing of it is used.
//!
//! Invariants: after every call the held sums are those of the holds that are out; a refused call changes nothing
//! that can be seen; arithmetic saturates and never wraps.

use crate::ids::{KeyId, TenantId};
use accounts::Accounts;
use foldhash::fast::FixedState;
use hold::Held;
use slices::Slices;
use std::collections::HashMap;

mod account;
mod accounts;
pub(crate) mod bucket;
mod bytes_per_token;
mod hold;
mod period;
mod plan;
mod request;
mod reserve;
pub mod slices;
mod view;

pub use bytes_per_token::BytesPerToken;
pub use period::Period;
pub use plan::{
    Amount, Demand, Exhausted, Granted, HoldId, LEAST_OUTPUT, Limits, Minute, Most, Output, PeriodBudget,
    Refusal, Scope, Settlement, UnitPrices, Warning, What,
};
pub use slices::{Answer, Ask, Counter, Dip, Dipped, Others, Report};
pub use view::{Left, Rate, Rates, Standing};

/// Windows of periods that have ended are kept this long, in microseconds: requests that arrived before the end may
/// still be on their way. No request reserves longer after its arrival than half of it.
pub const KEPT_MICROS: i64 = 2 * 3_600_000_000;

/// Whose account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Owner {
    Tenant(TenantId),
    /// A key under its tenant: one that moves to another tenant begins anew there.
    Key(TenantId, KeyId),
}

/// The accounts of some tenants and of their keys. Tenants do not touch each other, so there may be many of these.
#[derive(Debug, Default)]
pub struct TokenBudget {
    accounts: Accounts,
    holds: HashMap<HoldId, Held, FixedState>,
    next: u64,
    /// What is shared with other replicas; `None`: nothing.
    slices: Option<Box<Slices>>,
}

#[cfg(test)]
mod tests;
