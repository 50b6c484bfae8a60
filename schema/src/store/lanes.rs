//! The two ways a query body runs: `read!` and `transaction!`.
//!
//! Both expand the body once per backend, because the two connections have different types. Within a body
//! `conn` is `&mut` of the connection; a boxed query names the backend as `Db` with `|conn: Db|`. Bodies move
//! what they use.

use crate::error::StoreError;
use crate::store::sqlite::Conn as SqliteConn;
use diesel::connection::AnsiTransactionManager as SyncTransactionManager;
use diesel_async::{AnsiTransactionManager, AsyncConnection, AsyncPgConnection, TransactionManager};
use std::time::Duration;

/// How long PostgreSQL may take for one row, one page, one batch, the connection included.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);
/// How long PostgreSQL may take for a sum or a whole table.
pub(crate) const REPORT_PATIENCE: Duration = Duration::from_secs(30);

/// Runs a body that only reads.
macro_rules! read {
    ($store:expr, $patience:expr, |$conn:ident $(: $db:ident)?| $body:block) => {
        match $store.pools() {
            $crate::store::Pools::Sqlite(sqlite) => {
                $(type $db = diesel::sqlite::Sqlite;)?
                let sqlite = sqlite.clone();
                $store.detached(async move {
                    let mut pooled = sqlite.reader().await?;
                    let $conn = &mut *pooled;
                    $body
                }).await
            }
            $crate::store::Pools::Postgres(postgres) => {
                $(type $db = diesel::pg::Pg;)?
                $crate::store::on_postgres!($store, postgres, $patience, |$conn| $body)
            }
        }
    };
}

/// Runs a body all or nothing, on the connection that writes.
///
/// Not by the closures of diesel-async: their higher-ranked bounds make rustc 1.95 fail on incremental builds.
macro_rules! transaction {
    ($store:expr, |$conn:ident| $body:block) => {
        match $store.pools() {
            $crate::store::Pools::Sqlite(sqlite) => {
                let sqlite = sqlite.clone();
                $store
                    .detached(async move {
                        let mut pooled = sqlite.writer().await?;
                        let $conn = &mut *pooled;
                        $crate::store::begin_on_sqlite($conn).await?;
                        let outcome = async { $body }.await;
                        $crate::store::end($conn, outcome).await
                    })
                    .await
            }
            $crate::store::Pools::Postgres(postgres) => {
                $crate::store::on_postgres!($store, postgres, $crate::store::PATIENCE, |$conn| {
                    $crate::store::begin_on_postgres($conn).await?;
                    let outcome = async { $body }.await;
                    $crate::store::end($conn, outcome).await
                })
            }
        }
    };
}

/// Runs a body on a connection to PostgreSQL, or gives up at the deadline.
macro_rules! on_postgres {
    ($store:expr, $postgres:expr, $patience:expr, |$conn:ident| $body:block) => {{
        let postgres = $postgres.clone();
        $store
            .detached(async move {
                let deadline = tokio::time::Instant::now() + $patience;
                let mut pooled = postgres.checkout().await?;
                let $conn = &mut *pooled;
                match tokio::time::timeout_at(deadline, async move { $body }).await {
                    Ok(outcome) => outcome,
                    Err(_) => Err($crate::store::give_up(&mut pooled)),
                }
            })
            .await
    }};
}

/// Takes the write lock first: a transaction that reads and then writes may otherwise fail.
pub(crate) async fn begin_on_sqlite(conn: &mut SqliteConn) -> Result<(), StoreError> {
    let begin = |conn: &mut _| SyncTransactionManager::begin_transaction_sql(conn, "BEGIN IMMEDIATE");
    Ok(conn.spawn_blocking(begin).await?)
}

pub(crate) async fn begin_on_postgres(conn: &mut AsyncPgConnection) -> Result<(), StoreError> {
    Ok(AnsiTransactionManager::begin_transaction(conn).await?)
}

/// Keeps what was done, or takes it back.
pub(crate) async fn end<C: AsyncConnection, T>(
    conn: &mut C,
    outcome: Result<T, StoreError>,
) -> Result<T, StoreError> {
    match outcome {
        Ok(value) => {
            C::TransactionManager::commit_transaction(conn).await?;
            Ok(value)
        }
        Err(error) => {
            // A connection that cannot go back is thrown away by its pool; the first error says more.
            let _rolled_back = C::TransactionManager::rollback_transaction(conn).await;
            Err(error)
        }
    }
}

pub(crate) use {on_postgres, read, transaction};
