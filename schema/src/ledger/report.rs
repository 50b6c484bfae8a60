//! Sums over the ledger, from the roll-ups and the rows, in one statement: one moment's view of all of them.

use super::plan::{Offset, Plan, Span, Steps};
use super::rollup::{DAY, HOUR, SPLIT};
use crate::error::StoreError;
use crate::store::{REPORT_PATIENCE, Store, read};
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};
use diesel_async::RunQueryDsl;
use std::collections::BTreeMap;

/// What sums are by, besides time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dimension {
    Tenant,
    Key,
    Model,
}

impl Dimension {
    const fn column(self) -> &'static str {
        match self {
            Self::Tenant => "tenant_id",
            Self::Key => "key_id",
            Self::Model => "model",
        }
    }
}

/// Which sums are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    pub span: Span,
    pub steps: Steps,
    /// Up to two.
    pub by: Vec<Dimension>,
    /// `None` is any.
    pub tenant_id: Option<String>,
    pub key_id: Option<String>,
    pub model: Option<String>,
    /// Most lines that are read; a report that would have more is cut off, and says so.
    pub limit: usize,
}

/// Sums of some requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub requests: i64,
    /// Status 400 and above, refusals included.
    pub errors: i64,
    /// Refused before they were sent.
    pub refused: i64,
    /// Some of their tokens have no price.
    pub unpriced: i64,
    /// Answered from the cache. Their tokens are in `saved_tokens` alone.
    pub cache_hits: i64,
    pub input_tokens: i64,
    pub cached_input_tokens: i64,
    pub output_tokens: i64,
    pub reasoning_tokens: i64,
    pub saved_tokens: i64,
    /// Pico-dollars, exact.
    pub cost_pico: i128,
    /// Parts of it. What is left over belongs to rows from before costs were told by kind.
    pub input_cost_pico: i128,
    pub cached_input_cost_pico: i128,
    pub output_cost_pico: i128,
}

impl std::ops::AddAssign for Totals {
    fn add_assign(&mut self, more: Self) {
        self.requests += more.requests;
        self.errors += more.errors;
        self.refused += more.refused;
        self.unpriced += more.unpriced;
        self.cache_hits += more.cache_hits;
        self.input_tokens += more.input_tokens;
        self.cached_input_tokens += more.cached_input_tokens;
        self.output_tokens += more.output_tokens;
        self.reasoning_tokens += more.reasoning_tokens;
        self.saved_tokens += more.saved_tokens;
        self.cost_pico += more.cost_pico;
        self.input_cost_pico += more.input_cost_pico;
        self.cached_input_cost_pico += more.cached_input_cost_pico;
        self.output_cost_pico += more.output_cost_pico;
    }
}

/// The sums of one group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The beginning of the hour (Unix microseconds), or the number of the day since 1970, as the steps say.
    pub at: i64,
    /// What the line is of, in the order of the dimensions.
    pub group: [String; 2],
    pub totals: Totals,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// In order of time and groups.
    pub lines: Vec<Line>,
    /// False: there was more than the limit.
    pub complete: bool,
    /// The oldest moment that had to be read from the rows, if any was.
    pub rows_since: Option<i64>,
}

/// Column of a roll-up, and the same for one row of the ledger. What is read from the rows says what the roll-ups
/// would.
const SUMS: [(&str, &str); 18] = [
    ("requests", "1"),
    ("errors", "CASE WHEN status >= 400 THEN 1 ELSE 0 END"),
    ("refused", "CASE WHEN admission = 'rejected' THEN 1 ELSE 0 END"),
    ("unpriced", "CASE WHEN unpriced THEN 1 ELSE 0 END"),
    ("cache_hits", "CASE WHEN cache IN ('hit', 'coalesced') THEN 1 ELSE 0 END"),
    ("input_tokens", "CASE WHEN cache IN ('hit', 'coalesced') THEN 0 ELSE input_tokens END"),
    ("cached_input_tokens", "CASE WHEN cache IN ('hit', 'coalesced') THEN 0 ELSE cached_input_tokens END"),
    ("output_tokens", "CASE WHEN cache IN ('hit', 'coalesced') THEN 0 ELSE output_tokens END"),
    ("reasoning_tokens", "CASE WHEN cache IN ('hit', 'coalesced') THEN 0 ELSE reasoning_tokens END"),
    ("saved_tokens", "CASE WHEN cache IN ('hit', 'coalesced') THEN input_tokens + output_tokens ELSE 0 END"),
    ("cost_high", "cost_pico / 1000000000"),
    ("cost_low", "cost_pico % 1000000000"),
    ("input_cost_high", "COALESCE(input_cost_pico / 1000000000, 0)"),
    ("input_cost_low", "COALESCE(input_cost_pico % 1000000000, 0)"),
    ("cached_cost_high", "COALESCE(cached_input_cost_pico / 1000000000, 0)"),
    ("cached_cost_low", "COALESCE(cached_input_cost_pico % 1000000000, 0)"),
    ("output_cost_high", "COALESCE((cost_pico - input_cost_pico - cached_input_cost_pico) / 1000000000, 0)"),
    ("output_cost_low", "COALESCE((cost_pico - input_cost_pico - cached_input_cost_pico) % 1000000000, 0)"),
];

#[derive(QueryableByName)]
#[diesel(check_for_backend(diesel::sqlite::Sqlite, diesel::pg::Pg))]
struct Found {
    #[diesel(sql_type = BigInt)]
    at: i64,
    #[diesel(sql_type = Text)]
    first: String,
    #[diesel(sql_type = Text)]
    second: String,
    #[diesel(embed)]
    sums: Sums,
}

macro_rules! sums_row {
    ($($sum:ident)+) => {
        #[derive(QueryableByName)]
        #[diesel(check_for_backend(diesel::sqlite::Sqlite, diesel::pg::Pg))]
        struct Sums {
            $(#[diesel(sql_type = BigInt)] $sum: i64,)+
        }
    };
}
super::rollup::sums!(sums_row!());

impl From<Sums> for Totals {
    fn from(sums: Sums) -> Self {
        let pico = |high: i64, low: i64| i128::from(high) * i128::from(SPLIT) + i128::from(low);
        Self {
            requests: sums.requests,
            errors: sums.errors,
            refused: sums.refused,
            unpriced: sums.unpriced,
            cache_hits: sums.cache_hits,
            input_tokens: sums.input_tokens,
            cached_input_tokens: sums.cached_input_tokens,
            output_tokens: sums.output_tokens,
            reasoning_tokens: sums.reasoning_tokens,
            saved_tokens: sums.saved_tokens,
            cost_pico: pico(sums.cost_high, sums.cost_low),
            input_cost_pico: pico(sums.input_cost_high, sums.input_cost_low),
            cached_input_cost_pico: pico(sums.cached_cost_high, sums.cached_cost_low),
            output_cost_pico: pico(sums.output_cost_high, sums.output_cost_low),
        }
    }
}

/// The sums that `ask` wants.
pub async fn report(store: &Store, ask: &Ask) -> Result<Report, StoreError> {
    let plan = Plan::of(ask.span, &ask.steps);
    let rows_since = plan.rows.iter().map(|piece| piece.since).min();
    let Some(query) = statement(ask, &plan) else {
        return Ok(Report { lines: Vec::new(), complete: true, rows_since });
    };
    let values: Vec<String> =
        [&ask.tenant_id, &ask.key_id, &ask.model].into_iter().flatten().cloned().collect();
    let found: Result<Vec<Found>, StoreError> = read!(store, REPORT_PATIENCE, |conn: Db| {
        let bind =
            |query: diesel::query_builder::BoxedSqlQuery<'static, Db, _>, value| query.bind::<Text, _>(value);
        let query = values.into_iter().fold(diesel::sql_query(query).into_boxed::<Db>(), bind);
        Ok(query.load(conn).await?)
    });
    let found = found?;
    let complete = found.len() <= ask.limit;
    let mut lines = BTreeMap::<(i64, [String; 2]), Totals>::new();
    for Found { at, first, second, sums } in found {
        *lines.entry((at, [first, second])).or_default() += Totals::from(sums);
    }
    let line = |((at, group), totals)| Line { at, group, totals };
    Ok(Report { lines: lines.into_iter().map(line).collect(), complete, rows_since })
}

/// The statement; `None`: there is nothing to be read.
fn statement(ask: &Ask, plan: &Plan) -> Option<String> {
    let mut columns = [("tenant_id", &ask.tenant_id), ("key_id", &ask.key_id), ("model", &ask.model)]
        .into_iter()
        .filter(|(_, value)| value.is_some())
        .map(|(column, _)| column);
    let mut filter = String::new();
    for number in 1.. {
        let Some(column) = columns.next() else { break };
        filter.push_str(&format!(" AND {column} = ${number}"));
    }
    let mut parts = Vec::new();
    if !plan.rows.is_empty() {
        let from = "piece CROSS JOIN ledger WHERE ts >= piece.since AND ts < piece.until";
        parts.push(select(ask, "ts", from, &filter, |(_, row)| row));
    }
    let spans = plan.hourly.iter().map(|span| ("usage_hourly", span));
    for (table, span) in spans.chain(plan.daily.iter().map(|span| ("usage_daily", span))) {
        let from = format!("{table} WHERE bucket >= {} AND bucket < {}", span.since, span.until);
        parts.push(select(ask, "bucket", &from, &filter, |(column, _)| column));
    }
    if parts.is_empty() {
        return None;
    }
    let mut statement = String::new();
    if !plan.rows.is_empty() {
        let pieces: Vec<_> =
            plan.rows.iter().map(|span| format!("({}, {})", span.since, span.until)).collect();
        statement = format!("WITH piece(since, until) AS (VALUES {}) ", pieces.join(", "));
    }
    let parts = parts.join(" UNION ALL ");
    Some(format!("{statement}SELECT * FROM ({parts}) AS parts LIMIT {}", ask.limit.saturating_add(1)))
}

/// The sums over one source. Nothing in it is from outside: values of filters are bound.
fn select(
    ask: &Ask,
    time: &str,
    from: &str,
    filter: &str,
    sum: impl Fn(&(&'static str, &'static str)) -> &'static str,
) -> String {
    let mut by = ask.by.iter().map(|dimension| dimension.column());
    let (first, second) = (by.next().unwrap_or("''"), by.next().unwrap_or("''"));
    let sums: Vec<_> =
        SUMS.iter().map(|pair| format!("CAST(SUM({}) AS BIGINT) AS {}", sum(pair), pair.0)).collect();
    let at = step(&ask.steps, time);
    if time == "bucket" && ask.steps == Steps::Whole && matches!(ask.by.as_slice(), [] | [Dimension::Tenant])
    {
        // The order of the roll-ups is that of their buckets and tenants: so far SQLite sums without sorting, and few
        // sums are left.
        let inner: Vec<_> = SUMS.iter().map(|(name, _)| format!("SUM({name}) AS {name}")).collect();
        return format!(
            "SELECT CAST({at} AS BIGINT) AS at, CAST({first} AS TEXT) AS first, '' AS second, {} FROM \
             (SELECT tenant_id, {} FROM {from}{filter} GROUP BY bucket, tenant_id) AS tenants GROUP BY 1, 2, 3",
            sums.join(", "),
            inner.join(", ")
        );
    }
    format!(
        "SELECT CAST({at} AS BIGINT) AS at, CAST({first} AS TEXT) AS first, CAST({second} AS TEXT) AS second, {} \
         FROM {from}{filter} GROUP BY 1, 2, 3",
        sums.join(", ")
    )
}

/// What a moment counts to.
fn step(steps: &Steps, time: &str) -> String {
    match steps {
        Steps::Whole => "0".to_owned(),
        Steps::Hours => format!("{time} - {time} % {HOUR}"),
        Steps::Days => format!("{time} / {DAY}"),
        Steps::DaysOf { offsets, .. } => format!("({time} + {}) / {DAY}", ahead(offsets, time)),
    }
}

/// What the zone is ahead at a moment.
fn ahead(offsets: &[Offset], time: &str) -> String {
    let Some((last, before)) = offsets.split_last() else {
        return "0".to_owned();
    };
    let next = offsets.iter().skip(1);
    let cases: String = before
        .iter()
        .zip(next)
        .map(|(offset, next)| format!("WHEN {time} < {} THEN {} ", next.since, offset.ahead))
        .collect();
    if cases.is_empty() { last.ahead.to_string() } else { format!("CASE {cases}ELSE {} END", last.ahead) }
}

#[derive(QueryableByName)]
#[diesel(check_for_backend(diesel::sqlite::Sqlite, diesel::pg::Pg))]
struct Ends {
    #[diesel(sql_type = diesel::sql_types::Nullable<BigInt>)]
    first: Option<i64>,
    #[diesel(sql_type = diesel::sql_types::Nullable<BigInt>)]
    last: Option<i64>,
}

/// The days of UTC in which anything was ever recorded, from the first to the last one.
pub async fn recorded(store: &Store) -> Result<Option<Span>, StoreError> {
    let ends: Result<Ends, StoreError> = read!(store, REPORT_PATIENCE, |conn| {
        let query = diesel::sql_query(
            "SELECT (SELECT MIN(bucket) FROM usage_daily) AS first, (SELECT MAX(bucket) FROM usage_daily) AS last",
        );
        Ok(query.get_result(conn).await?)
    });
    let Ends { first, last } = ends?;
    Ok(first.zip(last).map(|(since, last)| Span { since, until: last.saturating_add(DAY) }))
}
