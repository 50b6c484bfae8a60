//! Budgets and limits a minute as they are shown: used, reserved, left, reset.

use crate::app::Gateway;
use crate::error::Quantity;
use crate::pipeline::Caller;
use chrono::{DateTime, SecondsFormat};
use obleth_actors::shapes::{PeriodName, Time};
use obleth_core::token_budget::{Amount, Left, Owner, Period, Rate, Standing, What};
use schemars::JsonSchema;
use serde::Serialize;

/// A tenant's, or a key's.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Account")]
pub struct AccountView {
    minute: MinuteView,
    budgets: Vec<BudgetView>,
    /// Whether or not there is a budget.
    usage: UsageView,
}

/// What a calling key sees: its tenant's and its own.
#[derive(Debug, Serialize)]
pub struct BudgetsView {
    tenant: AccountView,
    key: AccountView,
}

impl BudgetsView {
    /// Those of a caller, with what other replicas know. `None` after a contained fault.
    pub async fn of(gateway: &Gateway, Caller { tenant, key }: &Caller) -> Option<Self> {
        let budget = &gateway.handles.budget;
        budget.refresh(Owner::Tenant(tenant.id), &tenant.limits).await;
        budget.refresh(Owner::Key(tenant.id, key.id), &key.limits).await;
        let of = |owner, limits| budget.standing(owner, limits).map(|standing| AccountView::of(&standing));
        Some(Self {
            tenant: of(Owner::Tenant(tenant.id), &tenant.limits)?,
            key: of(Owner::Key(tenant.id, key.id), &key.limits)?,
        })
    }
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "MinuteLimits")]
struct MinuteView {
    /// Null: not limited.
    tokens: Option<RateView>,
    requests: Option<RateView>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Rate")]
struct RateView {
    limit: u64,
    remaining: u64,
    /// Until all of it is there again.
    reset_ms: u64,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "BudgetLeft")]
struct BudgetView {
    #[schemars(with = "PeriodName")]
    period: Period,
    hard: bool,
    /// Null: never.
    #[schemars(with = "Option<Time>")]
    resets_at: Option<String>,
    /// Null: not limited.
    tokens: Option<LimitView>,
    cost_usd: Option<LimitView>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "BudgetLimit")]
struct LimitView {
    limit: Quantity,
    used: Quantity,
    /// By requests that run.
    reserved: Quantity,
    left: Quantity,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "UsageByPeriod")]
struct UsageView {
    day: SumView,
    month: SumView,
    total: SumView,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Usage")]
struct SumView {
    tokens: Quantity,
    cost_usd: Quantity,
    reserved_tokens: Quantity,
    reserved_cost_usd: Quantity,
}

impl AccountView {
    /// What is known of one.
    pub fn of(standing: &Standing) -> Self {
        let rates = &standing.rates;
        let [day, month, total] = standing.usage.map(|(_, used, reserved)| SumView::of(used, reserved));
        Self {
            minute: MinuteView { tokens: rates.tokens.map(rate), requests: rates.requests.map(rate) },
            budgets: standing.budgets.iter().map(BudgetView::of).collect(),
            usage: UsageView { day, month, total },
        }
    }
}

impl SumView {
    fn of(used: Amount, reserved: Amount) -> Self {
        let shown = |what: What, amount: Amount| Quantity::of(what, amount.of(what));
        Self {
            tokens: shown(What::Tokens, used),
            cost_usd: shown(What::Money, used),
            reserved_tokens: shown(What::Tokens, reserved),
            reserved_cost_usd: shown(What::Money, reserved),
        }
    }
}

impl BudgetView {
    fn of(left: &Left) -> Self {
        let view = |what: What, limit: u128| {
            let (used, reserved) = (left.used.of(what), left.reserved.of(what));
            LimitView {
                limit: Quantity::of(what, limit),
                used: Quantity::of(what, used),
                reserved: Quantity::of(what, reserved),
                left: Quantity::of(what, limit.saturating_sub(used).saturating_sub(reserved)),
            }
        };
        let budget = &left.budget;
        Self {
            period: budget.period,
            hard: budget.hard,
            resets_at: left.resets_at.map(rfc3339),
            tokens: budget.max_tokens.map(|limit| view(What::Tokens, limit.into())),
            cost_usd: budget.max_cost.map(|limit| view(What::Money, limit)),
        }
    }
}

/// Unix microseconds as RFC 3339, in whole seconds.
pub fn rfc3339(micros: i64) -> String {
    let time = DateTime::from_timestamp_micros(micros).unwrap_or_default();
    time.to_rfc3339_opts(SecondsFormat::Secs, true)
}

fn rate(rate: Rate) -> RateView {
    let reset_ms = u64::try_from(rate.reset.as_micros().div_ceil(1000)).unwrap_or(u64::MAX);
    RateView { limit: rate.limit, remaining: rate.remaining, reset_ms }
}
