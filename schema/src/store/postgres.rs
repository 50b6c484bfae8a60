//! PostgreSQL: a pool whose every wait ends.

use super::queue::{Manager, Queue};
use crate::error::StoreError;
use diesel::{ConnectionError, ConnectionResult};
use diesel_async::pooled_connection::ManagerConfig;
use diesel_async::pooled_connection::bb8::{Pool, PooledConnection};
use diesel_async::{
    AnsiTransactionManager, AsyncConnection, AsyncPgConnection, SimpleAsyncConnection, TransactionManager,
};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

pub(crate) type Pooled = PooledConnection<'static, AsyncPgConnection>;

/// The pool, and the address for the one connection that migrates.
#[derive(Clone)]
pub(crate) struct Postgres {
    pool: Queue<Manager<AsyncPgConnection>>,
    url: Arc<str>,
}

/// Connections of one replica.
const CONNECTIONS: u32 = 10;
/// How long a caller waits for a connection, a new one or its turn.
const TURN: Duration = Duration::from_secs(4);
/// What the server itself allows, in case the client is not there any more to give up. The client's own
/// limits (see `lanes`) are shorter.
const SERVER_LIMITS: &str = "SET statement_timeout = '30s'; \
     SET lock_timeout = '4s'; \
     SET idle_in_transaction_session_timeout = '30s';";

impl Postgres {
    pub(crate) fn open(url: &str) -> Self {
        let mut config = ManagerConfig::default();
        config.custom_setup = Box::new(|url| Box::pin(establish(url.to_owned())));
        let limits = Pool::builder().max_size(CONNECTIONS).connection_timeout(TURN);
        let pool = Queue::new(limits, Manager::new_with_config(url, config));
        Self { pool, url: url.into() }
    }

    /// A connection of its own, outside the pool.
    pub(crate) async fn dedicated(&self) -> Result<AsyncPgConnection, StoreError> {
        Ok(establish(self.url.to_string()).await?)
    }

    /// A connection that has just answered a test query.
    pub(crate) async fn checkout(&self) -> Result<Pooled, StoreError> {
        self.pool.checkout().await
    }
}

/// Takes a connection out of use when its statement did not answer: the answer may still come, and must not
/// meet the next query.
pub(crate) fn give_up(conn: &mut AsyncPgConnection) -> StoreError {
    AnsiTransactionManager::transaction_manager_status_mut(conn).set_in_error();
    StoreError::unavailable("no answer in time")
}

async fn establish(url: String) -> ConnectionResult<AsyncPgConnection> {
    let opened = timeout(TURN, async {
        let mut conn = AsyncPgConnection::establish(&url).await?;
        conn.batch_execute(SERVER_LIMITS).await.map_err(ConnectionError::CouldntSetupConfiguration)?;
        Ok(conn)
    });
    opened.await.unwrap_or_else(|_| Err(ConnectionError::BadConnection("no answer in time".into())))
}
