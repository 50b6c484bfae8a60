//! `GET /usage/statement`: a tenant's bill of a month. Its parts add up to its total to the last digit.

use super::zone::month;
use super::{Of, Zone, usd};
use crate::accounting::Accounting;
use crate::admin::{AdminError, fields::FieldError};
use crate::shapes::{Money, Time};
use obleth_schema::ledger::{Dimension, Line, Span, Steps, Totals};
use schemars::JsonSchema;
use serde::Serialize;
use std::collections::BTreeMap;

/// What is asked.
#[derive(Clone, Debug)]
pub struct StatementAsk {
    pub tenant: String,
    /// As it was written.
    pub month: String,
    pub span: Span,
    pub zone: Zone,
    /// Unix microseconds.
    pub now: i64,
}

impl StatementAsk {
    /// Reads `tenant` and `month`.
    pub fn read(
        tenant: Option<String>,
        text: Option<&str>,
        zone: Zone,
        now: i64,
    ) -> Result<Self, FieldError> {
        let tenant = tenant.ok_or_else(|| FieldError::new("tenant", "is required: the id of a tenant"))?;
        let text = text.ok_or_else(|| FieldError::new("month", "is required, such as 2026-11"))?;
        let days = month(text)
            .and_then(|(first, next)| Some(Span { since: zone.begin(first)?, until: zone.begin(next)? }));
        let span = days.ok_or_else(|| FieldError::new("month", "must be a month such as 2026-11"))?;
        Ok(Self { tenant, month: text.to_owned(), span, zone, now })
    }
}

/// Tokens of one kind and what they cost.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "TokensAndCost")]
struct Kind {
    tokens: i64,
    #[schemars(with = "Money")]
    cost_usd: String,
}

/// A cost by kinds of tokens.
#[derive(Debug, Serialize, JsonSchema)]
struct Kinds {
    /// Prompt tokens that were not cached.
    input: Kind,
    cached_input: Kind,
    /// Reasoning included.
    output: Kind,
    /// What requests of versions that did not tell costs by kind have cost.
    #[schemars(with = "Money")]
    other_cost_usd: String,
}

impl From<&Totals> for Kinds {
    fn from(totals: &Totals) -> Self {
        let kind = |tokens: i64, pico: i128| Kind { tokens, cost_usd: usd(pico) };
        let told = totals.input_cost_pico + totals.cached_input_cost_pico + totals.output_cost_pico;
        Self {
            input: kind(totals.input_tokens - totals.cached_input_tokens, totals.input_cost_pico),
            cached_input: kind(totals.cached_input_tokens, totals.cached_input_cost_pico),
            output: kind(totals.output_tokens, totals.output_cost_pico),
            other_cost_usd: usd(totals.cost_pico - told),
        }
    }
}

/// What all lines have.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "StatementSums")]
struct Sums {
    requests: i64,
    unpriced: i64,
    cache_hits: i64,
    saved_tokens: i64,
    #[serde(flatten)]
    kinds: Kinds,
    #[schemars(with = "Money")]
    cost_usd: String,
}

impl From<&Totals> for Sums {
    fn from(totals: &Totals) -> Self {
        Self {
            requests: totals.requests,
            unpriced: totals.unpriced,
            cache_hits: totals.cache_hits,
            saved_tokens: totals.saved_tokens,
            kinds: Kinds::from(totals),
            cost_usd: usd(totals.cost_pico),
        }
    }
}

/// One model, used with one key.
#[derive(Debug, Serialize, JsonSchema)]
struct StatementLine {
    model: String,
    key_id: String,
    #[serde(flatten)]
    sums: Sums,
}

/// The sub-total of a model or a key.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "StatementSubTotal")]
struct SubTotal {
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_id: Option<String>,
    #[serde(flatten)]
    sums: Sums,
}

/// The bill.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Statement")]
pub struct StatementView {
    tenant: String,
    month: String,
    time_zone: &'static str,
    #[schemars(with = "Time")]
    since: String,
    #[schemars(with = "Time")]
    until: String,
    /// The month is over. Requests that arrived in it may still be running.
    closed: bool,
    lines: Vec<StatementLine>,
    by_model: Vec<SubTotal>,
    by_key: Vec<SubTotal>,
    total: Sums,
}

impl StatementView {
    fn of(ask: StatementAsk, lines: Vec<Line>) -> Self {
        let (mut models, mut keys) = (BTreeMap::<String, Totals>::new(), BTreeMap::<String, Totals>::new());
        let mut total = Totals::default();
        let mut own = Vec::new();
        for Line { group: [model, key_id], totals, .. } in lines {
            *models.entry(model.clone()).or_default() += totals;
            *keys.entry(key_id.clone()).or_default() += totals;
            total += totals;
            own.push(StatementLine { model, key_id, sums: Sums::from(&totals) });
        }
        let by_model = |(model, totals): (String, Totals)| SubTotal {
            model: Some(model),
            key_id: None,
            sums: Sums::from(&totals),
        };
        let by_key = |(key_id, totals): (String, Totals)| SubTotal {
            model: None,
            key_id: Some(key_id),
            sums: Sums::from(&totals),
        };
        Self {
            tenant: ask.tenant,
            month: ask.month,
            time_zone: ask.zone.name(),
            since: ask.zone.stamp(ask.span.since),
            until: ask.zone.stamp(ask.span.until),
            closed: ask.span.until <= ask.now,
            lines: own,
            by_model: models.into_iter().map(by_model).collect(),
            by_key: keys.into_iter().map(by_key).collect(),
            total: Sums::from(&total),
        }
    }
}

impl Accounting {
    /// `GET /usage/statement`.
    pub async fn statement(&self, ask: StatementAsk) -> Result<StatementView, AdminError> {
        self.catch_up().await;
        let Some(span) = self.recorded(Some(ask.span.since), Some(ask.span.until)).await? else {
            return Ok(StatementView::of(ask, Vec::new()));
        };
        let of = Of { tenant_id: Some(ask.tenant.clone()), ..Of::default() };
        let by = vec![Dimension::Model, Dimension::Key];
        let report = self.sums(&of.ask(span, Steps::Whole, by)).await;
        // A month that begins within an hour is one of a time zone.
        let report = report.map_err(|error| match error {
            AdminError::Invalid(field) if field.field == "since" => {
                FieldError { field: "time_zone".to_owned(), ..field }.into()
            }
            other => other,
        })?;
        Ok(StatementView::of(ask, report.lines))
    }
}
