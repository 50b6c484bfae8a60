//! McpActor: the MCP servers as the gateway knows them.
//!
//! Is: the shell of `obleth_core::mcp::servers`, in one cell that handlers call without a hop, and the seal of
//! session ids; the actor forgets servers that were deleted. Is not: a client, and not on a request's path.
//! Invariant: each request that is sent is a [`Trial`], which tells the breaker its end however it ends.

use crate::cell::{Cell, Contained, Heal};
use crate::clock::Clock;
use crate::supervise::{Crash, Lifeline, Supervised, Undelivered};
use actix::{Actor, Arbiter, AsyncContext, Context, Handler};
use aes_gcm::aead::{AeadCore, OsRng};
use aes_gcm::{Aes256Gcm, Key, KeyInit};
use arc_swap::ArcSwap;
use obleth_core::breaker::{Rules, View};
use obleth_core::ids::{KeyId, McpServerId};
use obleth_core::mcp::servers::{Known, Ready, Refused, Servers, Which};
use obleth_core::mcp::{Catalogue, SessionSeal, Whose};
use obleth_core::moment::Moment;
use obleth_core::registry::{McpServer, Registry};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::Notify;
use uuid::Uuid;

mod running;
mod trial;

pub use running::{Call, Running};
use trial::Place;
pub use trial::Trial;

/// The actor's name in logs and metrics.
pub const NAME: &str = "mcp";

/// Messages that may wait: only tests send any.
const MAILBOX: usize = 16;
/// How often is looked for what can be forgotten.
const SWEEP: Duration = Duration::from_secs(10);

/// What the cell holds.
struct Core {
    rules: Rules,
    servers: Servers,
}

impl Heal for Core {
    fn heal(&mut self) {
        // Nothing of it is owed to anybody: breakers close, lists are read again, sessions are made anew.
        self.servers = Servers::new(self.rules);
    }
}

/// How handlers reach the servers.
#[derive(Clone)]
pub struct Mcp {
    cell: Arc<Cell<Core>>,
    clock: Clock,
    seal: SessionSeal,
    /// A list of tools was read, or could not be.
    refreshed: Arc<Notify>,
    running: Arc<Running>,
    /// Requests that were sent and have not ended.
    exchanges: Arc<AtomicUsize>,
    actor: Arc<Supervised<McpActor>>,
}

impl fmt::Debug for Mcp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mcp")
    }
}

/// Why nothing is sent to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoTrial {
    Refused(Refused),
    /// Too many run.
    Full,
    /// A contained fault; the same request would pass now.
    Restarting,
}

const fn which(server: &McpServer) -> Which {
    Which { id: server.id, version: server.version }
}

fn whose(server: &McpServer, key: KeyId) -> Whose<'_> {
    Whose { server: server.id, address: &server.url, key }
}

/// A session of the merged endpoint is no server's.
const fn merged(key: KeyId) -> Whose<'static> {
    Whose { server: McpServerId(Uuid::nil()), address: "", key }
}

impl Mcp {
    /// Starts the actor on `arbiter`. Without a `seal` that all replicas share, sessions end with this process.
    pub fn start(
        arbiter: &Arbiter,
        clock: Clock,
        rules: Rules,
        registry: Arc<ArcSwap<Registry>>,
        seal: Option<SessionSeal>,
    ) -> Self {
        let cell = Arc::new(Cell::new(NAME, Core { rules, servers: Servers::new(rules) }));
        let seal = seal.unwrap_or_else(|| {
            let secret: Key<Aes256Gcm> = Aes256Gcm::generate_key(&mut OsRng);
            SessionSeal::new(&secret.into())
        });
        let actor = Arc::new(Supervised::new(NAME));
        let owned = Arc::clone(&cell);
        actor.run(arbiter, MAILBOX, move |line| McpActor {
            cell: Arc::clone(&owned),
            registry: Arc::clone(&registry),
            _line: line,
        });
        let (refreshed, running, exchanges) = (Arc::default(), Arc::default(), Arc::default());
        Self { cell, clock, seal, refreshed, running, exchanges, actor }
    }

    fn with<R>(&self, call: impl FnOnce(Moment, &mut Servers) -> R) -> Result<R, Contained> {
        let now = self.clock.now();
        self.cell.with(|core| call(now, &mut core.servers))
    }

    /// The right to send a request. `counts`: among those that the operator limits a minute.
    pub fn attempt(&self, server: &McpServer, counts: bool) -> Result<Trial, NoTrial> {
        let (which, limit) = (which(server), server.requests_per_minute.filter(|_| counts));
        let place = Place::of(&self.exchanges).ok_or(NoTrial::Full)?;
        let permit = self.with(|now, servers| servers.admit(now, which, limit));
        let permit = permit.map_err(|_| NoTrial::Restarting)?.map_err(NoTrial::Refused)?;
        Ok(Trial::new(self.clone(), which, Arc::clone(&server.name), permit, place))
    }

    /// How a server's breaker stands; `None` while nothing was asked of it.
    pub fn view(&self, server: &McpServer) -> Option<View> {
        self.with(|_, servers| servers.view(which(server))).ok()?
    }

    /// What is known of a server's tools. After a contained fault: nothing, and nobody is to ask.
    pub fn known(&self, server: &McpServer) -> Known {
        let known = self.with(|now, servers| servers.known(now, which(server)));
        known.unwrap_or(Known { catalogue: None, fresh: false, ask: None, running: None })
    }

    /// How a refresh went that [`Self::known`] asked for.
    pub fn refreshed(&self, server: &McpServer, number: u64, found: Option<Catalogue>) {
        let _ = self.with(|now, servers| servers.refreshed(now, which(server), number, found));
        self.refreshed.notify_waiters();
    }

    /// Told of each refresh that ends.
    pub fn refreshes(&self) -> &Notify {
        &self.refreshed
    }

    /// A session with a server for one call of this key, if one waits.
    pub fn lend(&self, server: &McpServer, key: KeyId) -> Option<Ready> {
        self.with(|now, servers| servers.lend(now, which(server), key)).ok()?
    }

    /// A session that a call has done with. What comes back is to be ended.
    pub fn give_back(&self, server: &McpServer, key: KeyId, session: Ready) -> Option<Ready> {
        let kept = session.clone();
        let given = self.with(|now, servers| servers.give_back(now, which(server), key, session));
        given.unwrap_or(Some(kept))
    }

    /// A session that has waited too long: to be ended.
    pub fn overdue(&self, server: &McpServer) -> Option<Ready> {
        self.with(|now, servers| servers.overdue(now, which(server))).ok()?
    }

    /// Sessions that wait for another call.
    pub fn waiting_sessions(&self) -> usize {
        self.with(|_, servers| servers.waiting()).unwrap_or(0)
    }

    /// The id that a client gets for a session with `server`; `None`: it is no id.
    pub fn seal(&self, server: &McpServer, key: KeyId, id: &str) -> Option<String> {
        self.seal.seal(Aes256Gcm::generate_nonce(&mut OsRng).into(), &whose(server, key), id)
    }

    /// The server's own id of a session. `None`: this is none of that key there.
    pub fn open(&self, server: &McpServer, key: KeyId, sealed: &str) -> Option<String> {
        self.seal.open(&whose(server, key), sealed)
    }

    /// The id of a new session of the merged endpoint.
    pub fn seal_merged(&self, key: KeyId) -> Option<String> {
        let id = Uuid::new_v4().to_string();
        self.seal.seal(Aes256Gcm::generate_nonce(&mut OsRng).into(), &merged(key), &id)
    }

    /// Which session of the merged endpoint this is. `None`: none of that key.
    pub fn open_merged(&self, key: KeyId, sealed: &str) -> Option<String> {
        self.seal.open(&merged(key), sealed)
    }

    /// Calls of the merged endpoint that run in this process.
    pub fn running(&self) -> &Arc<Running> {
        &self.running
    }

    /// Exchanges with servers that run, those whose client has left among them.
    pub fn exchanges(&self) -> usize {
        self.exchanges.load(Ordering::Relaxed)
    }

    /// Contained faults and restarts since the start.
    pub fn restarts(&self) -> u64 {
        self.cell.restarts() + self.actor.restarts()
    }

    /// Makes the next call panic. For tests.
    #[doc(hidden)]
    pub fn plant_fault(&self) {
        self.cell.plant_fault();
    }

    /// Kills the actor. For tests.
    #[doc(hidden)]
    pub fn crash(&self) -> Result<(), Undelivered> {
        self.actor.try_send(Crash)
    }
}

/// Forgets what nobody needs.
struct McpActor {
    cell: Arc<Cell<Core>>,
    registry: Arc<ArcSwap<Registry>>,
    _line: Lifeline,
}

impl McpActor {
    fn sweep(&self) {
        let registry = self.registry.load();
        let is_there = |id| registry.mcp_servers().any(|server| server.id == id);
        let _ = self.cell.with(|core| core.servers.retain(is_there));
    }
}

impl Actor for McpActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_interval(SWEEP, |actor, _| actor.sweep());
    }
}

impl Handler<Crash> for McpActor {
    type Result = ();

    fn handle(&mut self, _: Crash, _: &mut Self::Context) {
        std::panic::resume_unwind(Box::new("planted crash"));
    }
}
