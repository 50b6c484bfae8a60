//! What the shell says to the budgets and what it hears.

use super::period::Period;
use crate::ids::{KeyId, TenantId};
use std::time::Duration;

/// The least output bound that the gateway sets, in tokens.
pub const LEAST_OUTPUT: u64 = 16;

/// Tokens, and money in pico-dollars.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    pub tokens: u64,
    pub pico: u128,
}

impl Amount {
    /// Nothing.
    pub const ZERO: Self = Self { tokens: 0, pico: 0 };

    /// Both together.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self { tokens: self.tokens.saturating_add(other.tokens), pico: self.pico.saturating_add(other.pico) }
    }

    pub(super) const fn minus(self, other: Self) -> Self {
        Self { tokens: self.tokens.saturating_sub(other.tokens), pico: self.pico.saturating_sub(other.pico) }
    }

    /// The number of one unit.
    pub fn of(self, what: What) -> u128 {
        match what {
            What::Tokens => u128::from(self.tokens),
            What::Money => self.pico,
        }
    }
}

/// What a period budget counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum What {
    Tokens,
    Money,
}

/// Whose limit it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    Tenant,
    Key,
}

impl Scope {
    /// The word in answers and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tenant => "tenant",
            Self::Key => "key",
        }
    }
}

/// One period budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeriodBudget {
    pub period: Period,
    pub max_tokens: Option<u64>,
    /// Pico-dollars.
    pub max_cost: Option<u128>,
    /// Refuses; otherwise it only warns.
    pub hard: bool,
}

impl PeriodBudget {
    /// Its limits, one a unit.
    pub fn limits(&self) -> impl Iterator<Item = (What, u128)> {
        let tokens = self.max_tokens.map(|limit| (What::Tokens, u128::from(limit)));
        tokens.into_iter().chain(self.max_cost.map(|limit| (What::Money, limit)))
    }
}

/// The limits of a tenant or of a key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    pub tokens_per_minute: Option<u64>,
    pub requests_per_minute: Option<u64>,
    pub budgets: Vec<PeriodBudget>,
}

impl Limits {
    /// Whether a minute is limited.
    pub const fn has_minute(&self) -> bool {
        self.tokens_per_minute.is_some() || self.requests_per_minute.is_some()
    }

    /// Whether anything is limited.
    pub const fn is_empty(&self) -> bool {
        !self.has_minute() && self.budgets.is_empty()
    }

    /// Whether a hard budget is among them.
    pub fn has_hard(&self) -> bool {
        self.budgets.iter().any(|budget| budget.hard)
    }
}

/// Prices of one token in pico-dollars.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UnitPrices {
    /// The dearest that a prompt token can be.
    pub prompt: u64,
    pub output: u64,
}

impl UnitPrices {
    /// Tokens and what they cost.
    pub fn amount(&self, prompt: u64, output: u64) -> Amount {
        let cost = |price: u64, tokens: u64| u128::from(price).saturating_mul(u128::from(tokens));
        Amount {
            tokens: prompt.saturating_add(output),
            pico: cost(self.prompt, prompt).saturating_add(cost(self.output, output)),
        }
    }
}

/// The output bound of one answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// As the client set it, or as the route has it.
    Given(u64),
    /// None: it is to be set, to what the budget leaves but at most this.
    Open { at_most: u64 },
}

/// The most that a request can use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Most {
    pub prompt: u64,
    pub output: Output,
    /// Answers that the upstream writes, at least 1.
    pub answers: u64,
}

/// What a request asks for. Its limits are those of now, so nothing is registered beforehand.
#[derive(Clone, Copy, Debug)]
pub struct Demand<'a> {
    pub tenant: TenantId,
    pub tenant_limits: &'a Limits,
    pub key: KeyId,
    pub key_limits: &'a Limits,
    /// Unix microseconds: decides the periods.
    pub arrival: i64,
    /// Estimate of the prompt, in tokens.
    pub prompt: u64,
    /// Forecast of prompt and answers together, in tokens: what the minute buckets give.
    pub forecast: u64,
    /// What is held where a hard budget applies.
    pub most: Most,
    pub prices: UnitPrices,
    /// Whether the store was asked before: then what is lacking is refused. Of no meaning where nothing is shared.
    pub asked: bool,
}

/// A hold that is out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HoldId(pub(super) u64);

/// A budget that is not hard would be passed by this request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Warning {
    pub scope: Scope,
    pub period: Period,
    pub what: What,
    pub used: u128,
    pub limit: u128,
    /// The first one of the period.
    pub first: bool,
}

/// A reservation in every budget that applies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Granted {
    pub id: HoldId,
    /// Whether a hard budget applies, so that the request must not use more than is held.
    pub hard: bool,
    pub held: Amount,
    /// The bound of all answers together, in tokens, where a hard budget applies.
    pub output: u64,
    /// The bound of one answer that the gateway must set.
    pub set_output: Option<u64>,
    pub warnings: Vec<Warning>,
}

/// A hard budget that leaves too little.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exhausted {
    pub scope: Scope,
    pub period: Period,
    pub what: What,
    pub limit: u128,
    pub used: u128,
    /// What the request needs.
    pub needed: u128,
    /// Unix microseconds; `None`: never.
    pub resets_at: Option<i64>,
}

/// A limit of a minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Minute {
    Tokens,
    Requests,
}

/// Why nothing was reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The prompt alone is larger than what a whole minute gives.
    TooLarge { scope: Scope, limit: u64 },
    /// Used and its own reservation are over a hard limit.
    Exhausted(Exhausted),
    /// Only holds that are out are in the way.
    Reserved { scope: Scope, period: Period },
    /// What this replica may spend does not suffice: ask the store for what [`super::TokenBudget::lacks`] says, and try
    /// again. Only where budgets are shared.
    Short,
    /// After `retry_after` the same request passes if nothing else happens.
    Minute { scope: Scope, minute: Minute, limit: u64, retry_after: Duration },
}

/// How a hold ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settlement {
    /// What was truly used.
    pub used: Amount,
    /// Whether it counts as a request.
    pub counts: bool,
}

impl Settlement {
    /// As if there had been no request.
    pub const NOTHING: Self = Self { used: Amount::ZERO, counts: false };
}
