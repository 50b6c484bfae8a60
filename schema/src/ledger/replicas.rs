//! What each replica wrote: its own sums by day, tenant and key.
//!
//! Written in the transaction of the rows they sum, as the roll-ups are, by stores that have an author. Invariant: of
//! each owner the sums of all authors together are at most the daily roll-ups; the rest was written by nobody who
//! shares budgets.

use super::record::LedgerRecord;
use super::rollup::{DAY, SPLIT};
use crate::error::StoreError;
use crate::store::{PATIENCE, Store, read};
use crate::tables::usage_by_replica;
use diesel::prelude::*;
use diesel::result::QueryResult;
use diesel::sql_types::{BigInt, Text};
use diesel::sqlite::SqliteConnection;
use diesel::upsert::excluded;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use std::collections::BTreeMap;

/// Rows in one statement of PostgreSQL, which allows 65 535 values (7 a row).
const CHUNK: usize = 5000;

#[derive(Debug, Insertable)]
#[diesel(table_name = usage_by_replica)]
struct Row<'a> {
    tenant_id: &'a str,
    key_id: &'a str,
    replica: &'a str,
    bucket: i64,
    tokens: i64,
    cost_high: i64,
    cost_low: i64,
}

/// In the order of their keys, so that replicas do not wait for each other in a circle.
fn sums<'a>(author: &'a str, new: &[&'a LedgerRecord]) -> Vec<Row<'a>> {
    let mut sums = BTreeMap::<(&str, &str, i64), (i64, i64, i64)>::new();
    for row in new {
        let hit = matches!(row.cache.as_str(), "hit" | "coalesced");
        let spent = if hit { 0 } else { row.input_tokens.saturating_add(row.output_tokens) };
        if spent == 0 && row.cost_pico == 0 {
            continue;
        }
        let group = (row.tenant_id.as_str(), row.key_id.as_str(), row.ts - row.ts.rem_euclid(DAY));
        let (tokens, high, low) = sums.entry(group).or_default();
        *tokens = tokens.saturating_add(spent);
        *high += row.cost_pico / SPLIT;
        *low += row.cost_pico % SPLIT;
    }
    let row = |((tenant_id, key_id, bucket), (tokens, cost_high, cost_low))| Row {
        tenant_id,
        key_id,
        replica: author,
        bucket,
        tokens,
        cost_high,
        cost_low,
    };
    sums.into_iter().map(row).collect()
}

macro_rules! upsert {
    ($values:expr) => {{
        use usage_by_replica::{bucket, cost_high, cost_low, key_id, replica, table, tenant_id, tokens};
        diesel::insert_into(table)
            .values($values)
            .on_conflict((tenant_id, key_id, replica, bucket))
            .do_update()
            .set((
                tokens.eq(tokens + excluded(tokens)),
                cost_high.eq(cost_high + excluded(cost_high)),
                cost_low.eq(cost_low + excluded(cost_low)),
            ))
    }};
}

/// Adds rows that are new to the sums of their author.
pub(super) fn add_on_sqlite(
    conn: &mut SqliteConnection,
    author: &str,
    new: &[&LedgerRecord],
) -> QueryResult<()> {
    for row in &sums(author, new) {
        diesel::RunQueryDsl::execute(upsert!(row), conn)?;
    }
    Ok(())
}

/// Adds rows that are new to the sums of their author.
pub(super) async fn add_on_postgres(
    conn: &mut AsyncPgConnection,
    author: &str,
    new: &[&LedgerRecord],
) -> Result<(), StoreError> {
    for chunk in sums(author, new).chunks(CHUNK) {
        diesel_async::RunQueryDsl::execute(upsert!(chunk), conn).await?;
    }
    Ok(())
}

/// What one author wrote of an owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    pub tenant: String,
    /// Empty where a tenant was asked for.
    pub key: String,
    /// Empty: processes that share nothing.
    pub replica: String,
    pub tokens: i64,
    pub cost_pico: i128,
}

#[derive(QueryableByName)]
struct Found {
    #[diesel(sql_type = Text)]
    tenant: String,
    #[diesel(sql_type = Text)]
    key: String,
    #[diesel(sql_type = Text)]
    author: String,
    #[diesel(sql_type = BigInt)]
    tokens: i64,
    #[diesel(sql_type = BigInt)]
    high: i64,
    #[diesel(sql_type = BigInt)]
    low: i64,
}

impl From<Found> for Written {
    fn from(row: Found) -> Self {
        Self {
            tenant: row.tenant,
            key: row.key,
            replica: row.author,
            tokens: row.tokens,
            cost_pico: i128::from(row.high) * i128::from(SPLIT) + i128::from(row.low),
        }
    }
}

/// What everybody wrote of a tenant, or of a key under it, in the UTC day of `since` (Unix microseconds) and after it;
/// `None`: ever. One statement, so the parts are those of one moment and make up the whole.
pub async fn written(
    store: &Store,
    tenant: &str,
    key: Option<&str>,
    since: Option<i64>,
) -> Result<Vec<Written>, StoreError> {
    let bucket = since.map_or(i64::MIN, |since| since - since.rem_euclid(DAY));
    let (of_key, shown) = if key.is_some() { ("AND key_id = $2", "$2") } else { ("AND $2 = ''", "''") };
    // SQLite numbers these by where they come first.
    let query = format!(
        "SELECT $1 AS tenant, {shown} AS key, author, CAST(SUM(tokens) AS BIGINT) AS tokens, \
         CAST(SUM(high) AS BIGINT) AS high, CAST(SUM(low) AS BIGINT) AS low FROM ( \
         SELECT '' AS author, input_tokens + output_tokens AS tokens, cost_high AS high, cost_low AS low \
         FROM usage_daily WHERE tenant_id = $1 {of_key} AND bucket >= $3 UNION ALL \
         SELECT '' AS author, -tokens AS tokens, -cost_high AS high, -cost_low AS low \
         FROM usage_by_replica WHERE tenant_id = $1 {of_key} AND bucket >= $3 UNION ALL \
         SELECT replica AS author, tokens, cost_high AS high, cost_low AS low \
         FROM usage_by_replica WHERE tenant_id = $1 {of_key} AND bucket >= $3) AS parts \
         GROUP BY author ORDER BY author"
    );
    let (tenant, key) = (tenant.to_owned(), key.unwrap_or_default().to_owned());
    let rows: Result<Vec<Found>, StoreError> = read!(store, PATIENCE, |conn| {
        let query = diesel::sql_query(query).bind::<Text, _>(tenant);
        Ok(query.bind::<Text, _>(key).bind::<BigInt, _>(bucket).load(conn).await?)
    });
    Ok(rows?.into_iter().map(Written::from).collect())
}

/// What one author wrote of every tenant, or of every key under its tenant, since then.
pub async fn written_by(
    store: &Store,
    author: &str,
    keys: bool,
    since: Option<i64>,
) -> Result<Vec<Written>, StoreError> {
    let bucket = since.map_or(i64::MIN, |since| since - since.rem_euclid(DAY));
    let (key, group) = if keys { ("key_id", "tenant_id, key_id") } else { ("''", "tenant_id") };
    let query = format!(
        "SELECT tenant_id AS tenant, {key} AS key, CAST($1 AS TEXT) AS author, \
         CAST(SUM(tokens) AS BIGINT) AS tokens, CAST(SUM(cost_high) AS BIGINT) AS high, \
         CAST(SUM(cost_low) AS BIGINT) AS low FROM usage_by_replica \
         WHERE replica = $1 AND bucket >= $2 GROUP BY {group} ORDER BY {group}"
    );
    let author = author.to_owned();
    let rows: Result<Vec<Found>, StoreError> = read!(store, PATIENCE, |conn| {
        let query = diesel::sql_query(query).bind::<Text, _>(author);
        Ok(query.bind::<BigInt, _>(bucket).load(conn).await?)
    });
    Ok(rows?.into_iter().map(Written::from).collect())
}
