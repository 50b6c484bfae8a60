//! The pools, and how a query gets a connection.
//!
//! Is: an enum of pools and the two macros that expand a query body once per backend. Is not: any query.
//! Invariant: a body runs in a task of its own on the runtime that opened the store, so a caller may live on
//! any runtime and may leave at any time: the statement ends, the connection goes back whole.

mod lanes;
mod postgres;
mod queue;
mod sqlite;

use crate::error::StoreError;
use crate::url::{DatabaseUrl, Target};
use std::fmt;
use std::sync::Arc;
use tokio::runtime::Handle;

pub(crate) use lanes::{
    PATIENCE, REPORT_PATIENCE, begin_on_postgres, begin_on_sqlite, end, on_postgres, read, transaction,
};
pub(crate) use postgres::{Pooled, Postgres, give_up};
pub(crate) use sqlite::Sqlite;

/// The database of obleth. Cheap to clone; every clone shares the pools.
#[derive(Clone)]
pub struct Store {
    pools: Pools,
    /// Where connections live: their background tasks die with the runtime that opened them.
    runtime: Handle,
    /// Whose rows are written, where replicas tell theirs apart.
    author: Option<Arc<str>>,
}

/// One kind of pool per backend.
#[derive(Clone)]
pub(crate) enum Pools {
    Sqlite(Sqlite),
    Postgres(Postgres),
}

/// What SQLite says of a checkpoint (<https://sqlite.org/pragma.html#pragma_wal_checkpoint>).
#[derive(diesel::QueryableByName)]
struct Checkpoint {
    /// Not 0: others kept it from being whole.
    #[diesel(sql_type = diesel::sql_types::Integer)]
    busy: i32,
}

impl Store {
    /// Opens the pools, on the runtime of the caller. Connections are made when they are first needed, so a
    /// database that is away is noticed by [`Self::ping`] or [`Self::migrate`], and forgiven when it returns.
    pub fn connect(url: &DatabaseUrl) -> Result<Self, StoreError> {
        let runtime = Handle::try_current()
            .map_err(|_| StoreError::unavailable("the store must be opened on a tokio runtime"))?;
        let pools = match &url.0 {
            Target::Sqlite(path) => Pools::Sqlite(Sqlite::open(path)),
            Target::Postgres(url) => Pools::Postgres(Postgres::open(url)),
        };
        Ok(Self { pools, runtime, author: None })
    }

    /// The same store: what it writes to the ledger is counted for this replica too.
    #[must_use]
    pub fn signed(self, author: &str) -> Self {
        Self { author: Some(author.into()), ..self }
    }

    pub(crate) fn author(&self) -> Option<Arc<str>> {
        self.author.clone()
    }

    /// Whether the database answers.
    pub async fn ping(&self) -> Result<(), StoreError> {
        use diesel_async::RunQueryDsl as _;
        read!(self, PATIENCE, |conn| {
            diesel::sql_query("SELECT 1").execute(conn).await?;
            Ok(())
        })
    }

    /// Writes the file of a SQLite database anew, so that nothing that was deleted or replaced is left in it or in its
    /// log; an error if another process keeps it from that. PostgreSQL does so by itself, in its own time.
    pub async fn compact(&self) -> Result<(), StoreError> {
        use diesel::RunQueryDsl as _;
        use diesel::connection::SimpleConnection as _;
        let Pools::Sqlite(sqlite) = &self.pools else {
            return Ok(());
        };
        let sqlite = sqlite.clone();
        self.detached(async move {
            let mut writer = sqlite.writer().await?;
            let run = |conn: &mut diesel::SqliteConnection| {
                conn.batch_execute("VACUUM")?;
                diesel::sql_query("PRAGMA wal_checkpoint(TRUNCATE)").get_result::<Checkpoint>(conn)
            };
            match writer.spawn_blocking(run).await? {
                Checkpoint { busy: 0 } => Ok(()),
                _ => Err(StoreError::unavailable("the file is in use by another process")),
            }
        })
        .await
    }

    /// Runs `work` where connections live.
    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(work);
    }

    pub(crate) const fn pools(&self) -> &Pools {
        &self.pools
    }

    /// Runs `work` to its end, whether or not the caller waits for it.
    pub(crate) async fn detached<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, StoreError>> + Send + 'static,
    ) -> Result<T, StoreError> {
        match self.runtime.spawn(work).await {
            Ok(outcome) => outcome,
            Err(_) => Err(StoreError::unavailable("the query was cut off by a fault or the shutdown")),
        }
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pools {
            Pools::Sqlite(_) => f.write_str("Store(sqlite)"),
            Pools::Postgres(_) => f.write_str("Store(postgres)"),
        }
    }
}
