//! The ledger in the database: append, list, sum.
//!
//! Invariants: a row is written once however often it is offered (`row_id`), and is in the roll-ups once; rows
//! outlive the tenants and keys they name, roll-ups outlive the rows; sums of money are exact beyond 64 bits.

mod listing;
mod plan;
mod record;
mod replicas;
mod report;
pub mod retention;
mod rollup;
mod spent;

pub use listing::{LedgerFilter, by_request_id, page};
pub use plan::{Offset, Span, Steps};
pub use record::LedgerRecord;
pub use replicas::{Written, written, written_by};
pub use report::{Ask, Dimension, Line, Report, Totals, recorded, report};
pub use spent::{Payer, Spent, spent};

use crate::error::StoreError;
use crate::store::{PATIENCE, Pools, Store, begin_on_postgres, end, on_postgres};
use crate::tables::ledger;
use diesel::result::{DatabaseErrorKind, Error, QueryResult};
use diesel::sqlite::SqliteConnection;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use std::collections::HashSet;

/// Rows in one statement of PostgreSQL, which allows 65 535 values (32 a row).
const CHUNK: usize = 1000;

/// Writes the rows that are not there yet, all or none; says how many were new.
pub async fn insert_batch(store: &Store, rows: &[LedgerRecord]) -> Result<usize, StoreError> {
    let rows = rows.to_vec();
    let author = store.author();
    match store.pools() {
        Pools::Sqlite(sqlite) => {
            let sqlite = sqlite.clone();
            let work = async move {
                let mut writer = sqlite.writer().await?;
                Ok(writer
                    .spawn_blocking(move |conn| insert_on_sqlite(conn, author.as_deref(), &rows))
                    .await?)
            };
            store.detached(work).await
        }
        Pools::Postgres(postgres) => on_postgres!(store, postgres, PATIENCE, |conn| {
            begin_on_postgres(conn).await?;
            let outcome = insert_on_postgres(conn, author.as_deref(), &rows).await;
            end(conn, outcome).await
        }),
    }
}

/// One statement for many rows: each costs a round trip.
async fn insert_on_postgres(
    conn: &mut AsyncPgConnection,
    author: Option<&str>,
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
    if let Some(author) = author {
        replicas::add_on_postgres(conn, author, &new).await?;
    }
    Ok(new.len())
}

/// One statement a row: SQLite has no round trips to save, but a hop between threads costs, so the whole
/// batch is one hop.
fn insert_on_sqlite(
    conn: &mut SqliteConnection,
    author: Option<&str>,
    rows: &[LedgerRecord],
) -> QueryResult<usize> {
    conn.immediate_transaction(|conn| {
        let mut new = Vec::new();
        for row in rows {
            if insert_one(conn, row)? {
                new.push(row);
            }
        }
        rollup::add_on_sqlite(conn, &new)?;
        if let Some(author) = author {
            replicas::add_on_sqlite(conn, author, &new)?;
        }
        Ok(new.len())
    })
}

/// Whether the row is new. Without ON CONFLICT, since diesel keeps no prepared statement with one and would write the
/// text of this anew for each row; a statement that fails leaves the transaction as it was.
fn insert_one(conn: &mut SqliteConnection, row: &LedgerRecord) -> QueryResult<bool> {
    let insert = diesel::insert_into(ledger::table).values(row);
    match diesel::RunQueryDsl::execute(insert, conn) {
        Ok(_) => Ok(true),
        Err(Error::DatabaseError(DatabaseErrorKind::UniqueViolation, _)) => Ok(false),
        Err(error) => Err(error),
    }
}
