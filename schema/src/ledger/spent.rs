//! What was spent since a day began, by tenant or by key: where budgets start from.

use super::rollup::{DAY, SPLIT};
use crate::error::StoreError;
use crate::store::{REPORT_PATIENCE, Store, read};
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};
use diesel_async::RunQueryDsl;

/// Who spent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payer {
    Tenant,
    Key,
}

/// What one of them spent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spent {
    /// A key that moved has a line for each of its tenants.
    pub tenant: String,
    /// Of the tenant or the key.
    pub id: String,
    pub requests: i64,
    /// Input and output; without what the cache saved.
    pub tokens: i64,
    /// Exact, in pico-dollars.
    pub cost_pico: i128,
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = Text)]
    tenant: String,
    #[diesel(sql_type = Text)]
    id: String,
    #[diesel(sql_type = BigInt)]
    requests: i64,
    #[diesel(sql_type = BigInt)]
    tokens: i64,
    #[diesel(sql_type = BigInt)]
    high: i64,
    #[diesel(sql_type = BigInt)]
    low: i64,
}

/// What each tenant or key spent in the UTC day of `since` (Unix microseconds) and after it; `None`: ever. In the
/// order of the ids. From the roll-ups: a day costs a few rows, everything a row for each day, key and model.
pub async fn spent(store: &Store, by: Payer, since: Option<i64>) -> Result<Vec<Spent>, StoreError> {
    let (id, group) = match by {
        Payer::Tenant => ("tenant_id", "tenant_id"),
        Payer::Key => ("key_id", "key_id, tenant_id"),
    };
    let since = since.map_or(i64::MIN, |since| since - since.rem_euclid(DAY));
    let query = format!(
        "SELECT tenant_id AS tenant, {id} AS id, CAST(SUM(requests) AS BIGINT) AS requests, \
         CAST(SUM(input_tokens + output_tokens) AS BIGINT) AS tokens, \
         CAST(SUM(cost_high) AS BIGINT) AS high, CAST(SUM(cost_low) AS BIGINT) AS low \
         FROM usage_daily WHERE bucket >= $1 GROUP BY {group} ORDER BY {group}"
    );
    let rows: Result<Vec<Row>, StoreError> = read!(store, REPORT_PATIENCE, |conn| {
        Ok(diesel::sql_query(query).bind::<BigInt, _>(since).load(conn).await?)
    });
    let spent = |row: Row| Spent {
        tenant: row.tenant,
        id: row.id,
        requests: row.requests,
        tokens: row.tokens,
        cost_pico: i128::from(row.high) * i128::from(SPLIT) + i128::from(row.low),
    };
    Ok(rows?.into_iter().map(spent).collect())
}
