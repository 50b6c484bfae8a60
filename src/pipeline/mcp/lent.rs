//! Sessions of the gateway's own with servers that want one: for calls of the merged endpoint.
//!
//! Is: a session lent to one call. Done, it goes back for the next call of the same key; dropped before, the call
//! is cancelled at the server and the session ended there. Is not: a client's session, which is the client's own.

use super::own;
use crate::app::Worker;
use actix_web::web::Data;
use obleth_core::ids::KeyId;
use obleth_core::mcp::servers::Ready;
use obleth_core::registry::McpServer;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// How often sessions that nobody has used are looked for.
const SWEEP: Duration = Duration::from_secs(10);

/// See the module head.
pub(super) struct Lent {
    worker: Data<Worker>,
    server: Arc<McpServer>,
    key: KeyId,
    session: Option<Ready>,
    /// The call, as the server knows it.
    call: Option<String>,
}

impl fmt::Debug for Lent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lent").field("server", &self.server.name).finish_non_exhaustive()
    }
}

impl Lent {
    pub fn new(worker: &Data<Worker>, server: &Arc<McpServer>, key: KeyId, session: Ready) -> Self {
        let (worker, server) = (Data::clone(worker), Arc::clone(server));
        Self { worker, server, key, session: Some(session), call: None }
    }

    /// A call is sent in it.
    pub fn call(&mut self, id: &str) {
        self.call = Some(id.to_owned());
    }

    /// The call has had its answer.
    pub fn done(mut self) {
        let Some(session) = self.session.take() else { return };
        let too_many = self.worker.gateway.handles.mcp.give_back(&self.server, self.key, session);
        too_many.into_iter().for_each(|session| end(&self.worker, &self.server, session, None));
    }

    /// The server does not know the session any more.
    pub fn forget(mut self) {
        self.session = None;
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            end(&self.worker, &self.server, session, self.call.take());
        }
    }
}

/// Ends a session at its server, after the call that still runs in it. Nobody waits for that.
fn end(worker: &Data<Worker>, server: &Arc<McpServer>, session: Ready, call: Option<String>) {
    if worker.gateway.lifecycle.is_cut() || (session.id.is_none() && call.is_none()) {
        return;
    }
    let (worker, server) = (Data::clone(worker), Arc::clone(server));
    actix_rt::spawn(async move {
        if let Some(call) = call {
            own::cancel(&worker, &server, &session, &call).await;
        }
        own::end(&worker, &server, &session).await;
    });
}

/// Ends sessions that wait for no call any more, as long as the process serves.
pub(crate) async fn janitor(worker: Data<Worker>) {
    loop {
        actix_rt::time::sleep(SWEEP).await;
        if worker.gateway.lifecycle.is_cut() {
            return;
        }
        let registry = worker.gateway.registry.load_full();
        for server in registry.mcp_servers() {
            while let Some(session) = worker.gateway.handles.mcp.overdue(server) {
                end(&worker, server, session, None);
            }
        }
    }
}
