//! The migrations, built into the binary.
//!
//! Invariant: several replicas may start at once. SQLite: the whole run is one transaction that holds the
//! write lock. PostgreSQL: a session lock, on a connection of its own that nothing else uses.

use crate::error::StoreError;
use crate::store::{Pools, Store};
use diesel::SqliteConnection;
use diesel::backend::Backend;
use diesel::connection::SimpleConnection;
use diesel_async::AsyncPgConnection;
use diesel_async::async_connection_wrapper::AsyncConnectionWrapper;
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};
use std::error::Error;

const SQLITE: EmbeddedMigrations = embed_migrations!("../migrations/sqlite");
const POSTGRES: EmbeddedMigrations = embed_migrations!("../migrations/postgres");

/// Waits at most a minute for another replica that migrates. The number names the lock ("obleth" in ASCII).
const LOCK: &str = "SET statement_timeout = 0; SET lock_timeout = '60s'; \
     SELECT pg_advisory_lock(122524634477672);";

/// A synchronous face of the asynchronous connection, to be used on a blocking thread only.
type PgConn = AsyncConnectionWrapper<AsyncPgConnection>;

/// Which way to go.
#[derive(Clone, Copy)]
enum Way {
    Up,
    Down,
}

/// What stopped a run.
enum Failure {
    Statement(diesel::result::Error),
    Migration(Box<dyn Error + Send + Sync>),
}

impl Store {
    /// Brings the tables up to date; says how many migrations that took.
    pub async fn migrate(&self) -> Result<usize, StoreError> {
        let count = self.walk(Way::Up).await?;
        tracing::info!(count, "migrations applied");
        Ok(count)
    }

    /// Takes every migration back, and with it every row. For tests and for leaving.
    pub async fn revert_all(&self) -> Result<usize, StoreError> {
        self.walk(Way::Down).await
    }

    async fn walk(&self, way: Way) -> Result<usize, StoreError> {
        match self.pools() {
            Pools::Sqlite(sqlite) => {
                let sqlite = sqlite.clone();
                self.detached(async move {
                    let mut writer = sqlite.writer().await?;
                    // The blocking call fails by itself only when it is cut off.
                    writer.spawn_blocking(move |conn| Ok(on_sqlite(conn, way))).await?.map_err(Into::into)
                })
                .await
            }
            Pools::Postgres(postgres) => {
                let postgres = postgres.clone();
                self.detached(async move {
                    let conn = postgres.dedicated().await?;
                    let done = tokio::task::spawn_blocking(move || on_postgres(conn, way)).await;
                    let done = done.map_err(|_| StoreError::unavailable("the migration was cut off"))?;
                    done.map_err(Into::into)
                })
                .await
            }
        }
    }
}

fn on_sqlite(conn: &mut SqliteConnection, way: Way) -> Result<usize, Failure> {
    conn.immediate_transaction(|conn| go(conn, SQLITE, way))
}

fn on_postgres(conn: AsyncPgConnection, way: Way) -> Result<usize, Failure> {
    // The lock ends with the connection, which this function owns.
    let mut conn = PgConn::from(conn);
    conn.batch_execute(LOCK)?;
    go(&mut conn, POSTGRES, way)
}

fn go<DB: Backend>(
    conn: &mut impl MigrationHarness<DB>,
    migrations: EmbeddedMigrations,
    way: Way,
) -> Result<usize, Failure> {
    let versions = match way {
        Way::Up => conn.run_pending_migrations(migrations),
        Way::Down => conn.revert_all_migrations(migrations),
    };
    Ok(versions.map_err(Failure::Migration)?.len())
}

impl From<diesel::result::Error> for Failure {
    fn from(error: diesel::result::Error) -> Self {
        Self::Statement(error)
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Statement(error) => error.into(),
            Failure::Migration(error) => match error.downcast::<diesel::result::Error>() {
                Ok(error) => (*error).into(),
                Err(error) => Self::Migration { reason: error.to_string() },
            },
        }
    }
}
