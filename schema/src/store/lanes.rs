//! The two ways a query body runs: `read!` and `transaction!`.
//!
//! Both expand the body once per backend, because the two connections have different types. Within a body
//! `conn` is `&mut` of the connection; a boxed query names the backend as `Db` with `|conn: Db|`. Bodies move
//! what they use.

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
macro_rules! transaction {
    ($store:expr, |$conn:ident| $body:block) => {
        match $store.pools() {
            $crate::store::Pools::Sqlite(sqlite) => {
                let sqlite = sqlite.clone();
                $store
                    .detached(async move {
                        let mut pooled = sqlite.writer().await?;
                        // Takes the lock first: a transaction that reads and then writes may otherwise fail.
                        pooled.immediate_transaction(async move |$conn| $body).await
                    })
                    .await
            }
            $crate::store::Pools::Postgres(postgres) => {
                $crate::store::on_postgres!($store, postgres, $crate::store::PATIENCE, |pooled| {
                    diesel_async::AsyncConnection::transaction(pooled, async move |$conn| $body).await
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

pub(crate) use {on_postgres, read, transaction};
