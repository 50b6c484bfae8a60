//! The ledger in the database: append, list, sum.
//!
//! Invariants: a row is written once however often it is offered (`row_id`), and is in the roll-ups once; rows
//! outlive the tenants and keys they name, roll-ups outlive the rows; sums of money are exact beyond 64 bits.

/// Narrows a boxed query by the columns that the filter names, and by its span of time.
macro_rules! narrow {
    ($query:ident, $filter:ident, [$($column:ident),+]) => {
        $(if let Some(value) = $filter.$column {
            $query = $query.filter($crate::tables::ledger::$column.eq(value));
        })+
        if let Some(since) = $filter.since {
            $query = $query.filter($crate::tables::ledger::ts.ge(since));
        }
        if let Some(until) = $filter.until {
            $query = $query.filter($crate::tables::ledger::ts.lt(until));
        }
    };
}

mod record;
mod rollup;
mod spent;
mod summary;

pub use record::LedgerRecord;
pub use spent::{Payer, Spent, spent};
pub use summary::{GroupBy, Summary, SummaryFilter, summary};

use crate::error::StoreError;
use crate::store::{PATIENCE, Pools, Store, begin_on_postgres, end, on_postgres, read};
use crate::tables::ledger;
use diesel::prelude::*;
use diesel::result::QueryResult;
use diesel::sqlite::SqliteConnection;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use std::collections::HashSet;

/// Rows in one statement of PostgreSQL, which allows 65 535 values (32 a row).
const CHUNK: usize = 1000;

/// Writes the rows that are not there yet, all or none; says how many were new.
pub async fn insert_batch(store: &Store, rows: &[LedgerRecord]) -> Result<usize, StoreError> {
    let rows = rows.to_vec();
    match store.pools() {
        Pools::Sqlite(sqlite) => {
            let sqlite = sqlite.clone();
            let work = async move {
                let mut writer = sqlite.writer().await?;
                Ok(writer.spawn_blocking(move |conn| insert_on_sqlite(conn, &rows)).await?)
            };
            store.detached(work).await
        }
        Pools::Postgres(postgres) => on_postgres!(store, postgres, PATIENCE, |conn| {
            begin_on_postgres(conn).await?;
            let outcome = insert_on_postgres(conn, &rows).await;
            end(conn, outcome).await
        }),
    }
}

/// One statement for many rows: each costs a round trip.
async fn insert_on_postgres(
    conn: &mut AsyncPgConnection,
    rows: &[LedgerRecord],
) -> Result<usize, StoreError> {
    let mut new = Vec::new();
    for chunk in rows.chunks(CHUNK) {
        let insert = diesel::insert_into(ledger::table).values(chunk);
        let insert = insert.on_conflict(ledger::row_id).do_nothing().returning(ledger::row_id);
        let mut written: HashSet<String> = insert.load(conn).await?.into_iter().collect();
        // Of rows with the same id the first was written.
        new.extend(chunk.iter().filter(|row| written.remove(&row.row_id)));
    }
    rollup::add_on_postgres(conn, &new).await?;
    Ok(new.len())
}

/// One statement a row: SQLite has no round trips to save, but a hop between threads costs, so the whole
/// batch is one hop.
fn insert_on_sqlite(conn: &mut SqliteConnection, rows: &[LedgerRecord]) -> QueryResult<usize> {
    conn.immediate_transaction(|conn| {
        let mut new = Vec::new();
        for row in rows {
            let insert = diesel::insert_into(ledger::table).values(row);
            let insert = insert.on_conflict(ledger::row_id).do_nothing();
            if diesel::RunQueryDsl::execute(insert, conn)? > 0 {
                new.push(row);
            }
        }
        rollup::add_on_sqlite(conn, &new)?;
        Ok(new.len())
    })
}

/// Which rows a listing shows; `None` is any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LedgerFilter {
    pub tenant_id: Option<String>,
    pub key_id: Option<String>,
    pub model: Option<String>,
    pub status: Option<i32>,
    pub route: Option<String>,
    pub session_id: Option<String>,
    /// From this arrival on, Unix microseconds.
    pub since: Option<i64>,
    /// Before this arrival.
    pub until: Option<i64>,
}

/// A page of rows, newest first, from the one behind `after` (`ts`, `row_id` of the last row of the page
/// before).
pub async fn page(
    store: &Store,
    filter: &LedgerFilter,
    after: Option<(i64, &str)>,
    limit: u32,
) -> Result<Vec<LedgerRecord>, StoreError> {
    let filter = filter.clone();
    let after = after.map(|(ts, row_id)| (ts, row_id.to_owned()));
    read!(store, PATIENCE, |conn: Db| {
        let mut query = ledger::table.select(LedgerRecord::as_select()).into_boxed::<Db>();
        narrow!(query, filter, [tenant_id, key_id, model, status, route, session_id]);
        if let Some((ts, row_id)) = after {
            // The bound on `ts` alone lets the index find the place; the rest decides among equal times.
            let behind = ledger::ts.lt(ts).or(ledger::row_id.lt(row_id));
            query = query.filter(ledger::ts.le(ts)).filter(behind);
        }
        let newest_first = (ledger::ts.desc(), ledger::row_id.desc());
        Ok(query.order(newest_first).limit(limit.into()).load(conn).await?)
    })
}

/// The newest row of a request; a client may have used its id more than once.
pub async fn by_request_id(store: &Store, request_id: &str) -> Result<Option<LedgerRecord>, StoreError> {
    let request_id = request_id.to_owned();
    read!(store, PATIENCE, |conn| {
        let query = ledger::table
            .filter(ledger::request_id.eq(request_id))
            .order((ledger::ts.desc(), ledger::row_id.desc()))
            .select(LedgerRecord::as_select());
        Ok(query.first(conn).await.optional()?)
    })
}
