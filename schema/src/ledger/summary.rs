//! Sums over the ledger.

use crate::error::StoreError;
use crate::store::{REPORT_PATIENCE, Store, read};
use crate::tables::ledger;
use chrono::DateTime;
use diesel::dsl::{count_star, sql};
use diesel::expression::SqlLiteral;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};
use diesel_async::RunQueryDsl;

const MICROS_PER_DAY: i64 = 86_400_000_000;
/// A row's cost is split here before it is summed: both parts of a row are below 10¹⁰, so neither sum can
/// leave 64 bits before there are 900 million rows.
const SPLIT: i64 = 1_000_000_000;

/// What the sums are by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupBy {
    Tenant,
    Key,
    Model,
    /// The UTC day of the arrival.
    Day,
}

impl GroupBy {
    /// Text on both databases; a day is its number since 1970 there.
    const fn expression(self) -> &'static str {
        match self {
            Self::Tenant => "tenant_id",
            Self::Key => "key_id",
            Self::Model => "model",
            Self::Day => "CAST(ts / 86400000000 AS TEXT)",
        }
    }
}

/// Which rows are summed; `None` is any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SummaryFilter {
    pub tenant_id: Option<String>,
    pub key_id: Option<String>,
    /// From this arrival on, Unix microseconds.
    pub since: Option<i64>,
    /// Before this arrival.
    pub until: Option<i64>,
}

/// The sums of one group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// An id, a model's name, or a date as `2026-01-31`.
    pub group: String,
    pub requests: i64,
    pub input_tokens: i64,
    pub cached_input_tokens: i64,
    pub output_tokens: i64,
    pub reasoning_tokens: i64,
    /// Exact, in pico-dollars.
    pub cost_pico: i128,
}

/// Group, requests, four counts of tokens, high and low part of the cost.
type Sums = (String, i64, i64, i64, i64, i64, i64, i64);

/// The sums of each group that has rows, in the order of the groups' names.
pub async fn summary(store: &Store, by: GroupBy, filter: &SummaryFilter) -> Result<Vec<Summary>, StoreError> {
    let filter = filter.clone();
    let sums: Result<Vec<Sums>, StoreError> = read!(store, REPORT_PATIENCE, |conn: Db| {
        let group = sql::<Text>(by.expression());
        let columns = (
            group.clone(),
            count_star(),
            sum("input_tokens"),
            sum("cached_input_tokens"),
            sum("output_tokens"),
            sum("reasoning_tokens"),
            sum(&format!("cost_pico / {SPLIT}")),
            sum(&format!("cost_pico % {SPLIT}")),
        );
        let mut query = ledger::table.group_by(group).select(columns).into_boxed::<Db>();
        narrow!(query, filter, [tenant_id, key_id]);
        Ok(query.load(conn).await?)
    });
    let mut rows: Vec<Summary> = sums?.into_iter().map(|sums| named(by, sums)).collect();
    rows.sort_by(|a, b| a.group.cmp(&b.group));
    Ok(rows)
}

/// PostgreSQL sums 64-bit columns as `NUMERIC`; the cast brings them back. `what` is never from outside.
fn sum(what: &str) -> SqlLiteral<BigInt> {
    sql(&format!("CAST(SUM({what}) AS BIGINT)"))
}

fn named(by: GroupBy, sums: Sums) -> Summary {
    let (group, requests, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, high, low) =
        sums;
    let group = if by == GroupBy::Day { date(&group).unwrap_or(group) } else { group };
    let cost_pico = i128::from(high) * i128::from(SPLIT) + i128::from(low);
    Summary { group, requests, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, cost_pico }
}

fn date(day: &str) -> Option<String> {
    let micros = day.parse::<i64>().ok()?.checked_mul(MICROS_PER_DAY)?;
    Some(DateTime::from_timestamp_micros(micros)?.format("%Y-%m-%d").to_string())
}
