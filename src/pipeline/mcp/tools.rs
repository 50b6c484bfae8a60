//! What the servers offer, kept fresh: read again when it is due, by one request at a time for all.

use super::own;
use crate::app::Worker;
use actix_web::web::Data;
use obleth_core::mcp::Catalogue;
use obleth_core::mcp::servers::Known;
use obleth_core::registry::McpServer;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// How long anybody waits for a server's list; after that the last good one stands.
const PATIENCE: Duration = Duration::from_secs(2);

/// A server's tools, from the last good list if there is no better in time. `None`: there is none yet.
pub(super) async fn catalogue(worker: &Data<Worker>, server: &Arc<McpServer>) -> Option<Arc<Catalogue>> {
    let mcp = &worker.gateway.handles.mcp;
    let deadline = Instant::now() + PATIENCE;
    loop {
        // Before the look, so that a refresh that ends between look and wait is not missed.
        let mut refreshed = std::pin::pin!(mcp.refreshes().notified());
        refreshed.as_mut().enable();
        let Known { catalogue, fresh, ask, running } = mcp.known(server);
        if let Some(number) = ask {
            refresh(worker, server, number);
        }
        let Some(since) = running.filter(|_| !fresh) else { return catalogue };
        // Those who come later to a server that hangs wait only for the rest.
        let until = deadline.min(Instant::now() + PATIENCE.saturating_sub(since));
        if timeout_at(until, refreshed).await.is_err() {
            return catalogue;
        }
    }
}

/// The same for who needs no fresh list: a call goes out under the last good one, which is read again meanwhile when
/// it is due. Without that a client that never lists would never learn that its server has changed.
pub(super) async fn at_hand(worker: &Data<Worker>, server: &Arc<McpServer>) -> Option<Arc<Catalogue>> {
    let Known { catalogue: known, ask, .. } = worker.gateway.handles.mcp.known(server);
    if let Some(number) = ask {
        refresh(worker, server, number);
    }
    match known {
        Some(known) => Some(known),
        None => catalogue(worker, server).await,
    }
}

/// Asks the server, whoever waits for it.
fn refresh(worker: &Data<Worker>, server: &Arc<McpServer>, number: u64) {
    let (worker, server) = (Data::clone(worker), Arc::clone(server));
    actix_rt::spawn(async move {
        let found = own::discover(&worker, &server).await;
        if let Err(fault) = &found {
            tracing::debug!(
                server = &*server.name,
                code = fault.code.name(),
                "an MCP server's tools are not known"
            );
        }
        worker.gateway.handles.mcp.refreshed(&server, number, found.ok());
    });
}
