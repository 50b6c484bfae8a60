//! What must be done before requests are served: tables, registry, budgets.

use super::{RETRY, StartError, document, warn_of_forwarded_keys};
use crate::app::Gateway;
use crate::lifecycle::Phase;
use obleth_actors::admin::AdminError;
use obleth_schema::{Store, StoreError};
use std::sync::Arc;

/// How far an attempt came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Prepared {
    Ready,
    /// The database is away: try again later.
    Away(String),
    /// The database does not have the rows of the journal yet: try again.
    Behind,
}

/// Brings the tables up to date, loads the registry, and sets the budgets to where the ledger has them. No request is
/// served before: what was used is not known.
pub(super) async fn prepare(gateway: &Gateway, store: &Store) -> Result<Prepared, StartError> {
    let handles = &gateway.handles;
    match store.migrate().await {
        Err(StoreError::Unavailable { reason }) => {
            tracing::warn!(reason, "the database is not available yet; not ready until it is");
            handles.accounting.health().note(false);
            return Ok(Prepared::Away(reason));
        }
        other => other?,
    };
    match document::load(gateway).await {
        Err(StartError::Registry(error @ AdminError::StoreAway)) => {
            return Ok(Prepared::Away(error.to_string()));
        }
        other => other?,
    }
    match handles.budget.rebuild(store, &handles.accounting).await {
        Err(StoreError::Unavailable { reason }) => return Ok(Prepared::Away(reason)),
        Ok(false) => {
            tracing::warn!("rows of the journal are not in the database yet; not ready until they are");
            return Ok(Prepared::Behind);
        }
        other => _ = other?,
    }
    handles.accounting.health().note(true);
    // Before, hard budgets that are shared would refuse.
    handles.budget.join().await;
    gateway.lifecycle.enter(Phase::Serving);
    Ok(Prepared::Ready)
}

/// Tries again until it is done or the process ends.
pub(super) async fn keep_preparing(gateway: Arc<Gateway>, store: Store) {
    loop {
        actix_rt::time::sleep(RETRY).await;
        if gateway.lifecycle.phase() >= Phase::Cut {
            return;
        }
        match prepare(&gateway, &store).await {
            Ok(Prepared::Ready) => return warn_of_forwarded_keys(&gateway),
            Ok(_) => {}
            Err(error) => tracing::error!(%error, "the registry cannot be loaded"),
        }
    }
}
