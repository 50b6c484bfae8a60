//! A pool that says at once why it has no connection.
//!
//! bb8 lets a caller wait its whole time while every attempt to connect is refused, and then does not tell
//! the reason. Here a refusal ends the waits, unless connections that work may still become free.

use crate::error::StoreError;
use bb8::{Builder, ErrorSink, ManageConnection, Pool, PooledConnection, RunError};
use diesel_async::pooled_connection::{AsyncDieselConnectionManager, PoolError};
use std::sync::Arc;
use tokio::sync::watch;

pub(crate) type Manager<C> = AsyncDieselConnectionManager<C>;

/// Connections of one kind, and the callers that wait for them.
pub(crate) struct Queue<M: ManageConnection> {
    pool: Pool<M>,
    refusals: Refusals,
}

/// The latest refusal to connect.
#[derive(Clone, Debug)]
struct Refusals(Arc<watch::Sender<String>>);

impl<M: ManageConnection<Error = PoolError>> Queue<M> {
    pub(crate) fn new(builder: Builder<M>, manager: M) -> Self {
        let refusals = Refusals(Arc::new(watch::Sender::new(String::new())));
        let sink = Box::new(refusals.clone());
        Self { pool: builder.retry_connection(false).error_sink(sink).build_unchecked(manager), refusals }
    }

    /// A connection, or the reason why there is none.
    pub(crate) async fn checkout(&self) -> Result<PooledConnection<'static, M>, StoreError> {
        let refusals = self.refusals.0.subscribe();
        tokio::select! {
            biased;
            got = self.pool.get_owned() => got.map_err(|error| match error {
                RunError::User(error) => refusal(error),
                RunError::TimedOut => StoreError::unavailable("no connection became free in time"),
            }),
            reason = self.refused(refusals) => Err(StoreError::unavailable(reason)),
        }
    }

    /// Ends when the database refused and there is nothing left to wait for.
    async fn refused(&self, mut refusals: watch::Receiver<String>) -> String {
        while refusals.changed().await.is_ok() {
            if self.pool.state().connections == 0 {
                return refusals.borrow().clone();
            }
        }
        // Never: the sender lives as long as the queue.
        std::future::pending().await
    }
}

impl<M: ManageConnection> Clone for Queue<M> {
    fn clone(&self) -> Self {
        Self { pool: self.pool.clone(), refusals: self.refusals.clone() }
    }
}

impl ErrorSink<PoolError> for Refusals {
    fn sink(&self, error: PoolError) {
        // A pooled connection that fails its test query is replaced by bb8: no news yet.
        if matches!(error, PoolError::ConnectionError(_))
            && let StoreError::Unavailable { reason } = refusal(error)
        {
            self.0.send_replace(reason);
        }
    }

    fn boxed_clone(&self) -> Box<dyn ErrorSink<PoolError>> {
        Box::new(self.clone())
    }
}

fn refusal(error: PoolError) -> StoreError {
    match error {
        PoolError::ConnectionError(error) => error.into(),
        PoolError::QueryError(_) => StoreError::unavailable("the connection is lost"),
    }
}
