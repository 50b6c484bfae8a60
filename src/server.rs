//! Puts the parts together: actors, database, listeners; and takes them apart again.
//!
//! Threads: the caller's (an actix system) runs the signals; two arbiters run the actors; each listener has
//! its workers; one multi-thread tokio runtime does the database's I/O; one thread exports
//! traces, if they are wanted.

use crate::app::{Gateway, Handles, Settings};
use crate::config::Config;
use crate::http::admin::Failures;
use crate::lifecycle::{Lifecycle, Phase};
use crate::metrics::{Bounds, Metrics};
use crate::telemetry::AccessLog;
use crate::traces::{Traces, TracesError};
use actix::Arbiter;
use actix_web::dev::{Server, ServerHandle};
use obleth_actors::accounting::{Accounting, JournalError, OpenJournal, StoreHealth};
use obleth_actors::admin::{Admin, AdminError, Setup};
use obleth_actors::budget::{self, Budget};
use obleth_actors::cache::{Cache, CacheSettings};
use obleth_actors::clock::Clock;
use obleth_actors::fairshare::{Fairshare, Joining};
use obleth_actors::fleet::{Link, replica_of};
use obleth_actors::health::Health;
use obleth_actors::mcp::Mcp;
use obleth_core::fair_queue;
use obleth_core::fleet::Terms;
use obleth_schema::{DatabaseUrl, Store, StoreError};
use std::fs::{File, TryLockError};
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::runtime::{Builder, Handle, Runtime};

mod document;
mod listeners;
mod prepare;
mod shutdown;

use prepare::{Prepared, keep_preparing, prepare};
pub use shutdown::Patience;

/// Admission requests that may be on their way to the scheduler.
const FAIRSHARE_MAILBOX: usize = 65_536;
/// What names in Redis begin with. Each fleet has a database of its own there.
const FLEET: &str = "obleth";
/// Pause between attempts to reach a database that is away at the start.
const RETRY: Duration = Duration::from_secs(1);

/// Why the server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("cannot listen on {0} ({1}): {2}")]
    Listen(&'static str, SocketAddr, std::io::Error),
    #[error("cannot start threads: {0}")]
    Threads(#[from] std::io::Error),
    #[error("{0}")]
    Store(#[from] StoreError),
    #[error("cannot use the database {0}: {1}")]
    NoFile(DatabaseUrl, String),
    #[error("{0}")]
    Registry(#[from] AdminError),
    #[error("{0}")]
    Journal(#[from] JournalError),
    #[error("{0}")]
    Traces(#[from] TracesError),
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
    #[error("{0} is served by another obleth; several replicas share a PostgreSQL database")]
    Taken(DatabaseUrl),
    #[error("OBLETH_CONFIG_FILE {0} cannot be applied: {1}")]
    Document(Arc<str>, AdminError),
    #[error("OBLETH_REDIS_URL cannot be used: {0}")]
    Redis(String),
    #[error("OBLETH_DATABASE_URL is missing")]
    NoDatabase,
}

/// A server that listens.
#[derive(Debug)]
pub struct Running {
    pub gateway: Arc<Gateway>,
    pub proxy: SocketAddr,
    pub admin: SocketAddr,
    pub metrics: SocketAddr,
    config: Config,
    servers: Vec<ServerHandle>,
    arbiters: Vec<Arbiter>,
    /// Held as long as the server lives: a second one on the same SQLite file would not see its changes.
    _lock: Option<File>,
    /// Last, so that everything that uses it is gone before.
    _runtime: StoreRuntime,
}

/// The runtime of the database's I/O. It may be dropped on an async thread: it then ends in the background.
#[derive(Debug)]
struct StoreRuntime(Option<Runtime>);

impl StoreRuntime {
    fn start() -> Result<Self, std::io::Error> {
        let runtime =
            Builder::new_multi_thread().worker_threads(2).thread_name("store").enable_all().build()?;
        Ok(Self(Some(runtime)))
    }

    fn handle(&self) -> Result<&Handle, StartError> {
        self.0.as_ref().map(Runtime::handle).ok_or(StartError::NoDatabase)
    }

    /// Opens the database on this runtime.
    fn open(&self, url: &DatabaseUrl) -> Result<Store, StoreError> {
        let _inside = self.0.as_ref().map(Runtime::enter);
        Store::connect(url)
    }
}

impl Drop for StoreRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

fn bind(name: &'static str, address: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
    let failed = |error| StartError::Listen(name, address, error);
    let listener = TcpListener::bind(address).map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

/// Takes the lock of a SQLite database. The kernel gives it back, however the process ends.
pub(crate) fn lock_of(url: &DatabaseUrl) -> Result<Option<File>, StartError> {
    let Some(path) = url.file() else {
        return Ok(None);
    };
    let failed = |error: std::io::Error| StartError::NoFile(url.clone(), error.to_string());
    let path = format!("{path}.lock");
    let file = File::options().create(true).truncate(false).write(true).open(path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Err(StartError::Taken(url.clone())),
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

impl Running {
    /// Starts everything. Returns once the listeners answer; `/ready` says when the registry is loaded,
    /// which is at once unless the database is away.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let runtime = StoreRuntime::start()?;
        let url = config.data.database.clone().ok_or(StartError::NoDatabase)?;
        let lock = lock_of(&url)?;
        let mut store = runtime.open(&url)?;
        let journal = OpenJournal::open(&config.ledger.journal)?;
        let mut replica = None;
        if config.fleet.redis.is_some() {
            let name = replica_of(&config.ledger.journal.folder)?;
            store = store.signed(&name);
            replica = Some(name);
        }
        let (proxy_listener, proxy) = bind("OBLETH_PROXY_LISTEN", config.listen.proxy)?;
        let (admin_listener, admin) = bind("OBLETH_ADMIN_LISTEN", config.listen.admin)?;
        let (metrics_listener, metrics) = bind("OBLETH_METRICS_LISTEN", config.listen.metrics)?;
        let arbiters = vec![Arbiter::new(), Arbiter::new()];
        let gateway = Arc::new(gateway(&config, &store, &arbiters, journal, (runtime.handle()?, replica))?);
        let prepared = prepare(&gateway, &store).await?;
        if let Prepared::Away(reason) = &prepared
            && !url.is_shared()
        {
            // A server may come up later; a file that cannot be opened is a mistake.
            return Err(StartError::NoFile(url, reason.clone()));
        }
        let servers = vec![
            listeners::serve_data(&gateway, proxy_listener)?,
            listeners::serve_admin(&gateway, admin_listener)?,
            listeners::serve_metrics(&gateway, metrics_listener)?,
        ];
        let handles = servers.iter().map(Server::handle).collect();
        servers.into_iter().for_each(|server| {
            actix_rt::spawn(server);
        });
        if prepared != Prepared::Ready {
            actix_rt::spawn(keep_preparing(Arc::clone(&gateway), store.clone()));
        }
        if url.is_shared() {
            let health = gateway.handles.accounting.health().clone();
            actix_rt::spawn(watch_store(Arc::downgrade(&gateway), health, store));
            let followed = Arc::downgrade(&gateway);
            let admin = gateway.handles.admin.clone();
            let goes_on =
                move || followed.upgrade().is_some_and(|gateway| gateway.lifecycle.phase() < Phase::Cut);
            actix_rt::spawn(async move { admin.follow(goes_on).await });
        }
        warn_of_forwarded_keys(&gateway);
        Ok(Self {
            gateway,
            proxy,
            admin,
            metrics,
            config,
            servers: handles,
            arbiters,
            _lock: lock,
            _runtime: runtime,
        })
    }
}

fn gateway(
    config: &Config,
    store: &Store,
    arbiters: &[Arbiter],
    journal: OpenJournal,
    (runtime, replica): (&Handle, Option<String>),
) -> Result<Gateway, StartError> {
    let clock = Clock::start();
    let settings = Settings::of(config);
    let health = StoreHealth::default();
    let queue = fair_queue::Settings {
        slots: config.admission.slots,
        max_queued: config.admission.max_queued,
        default_tenant_max_queued: config.admission.tenant_max_queued,
        ..fair_queue::Settings::default()
    };
    let [central, others] = arbiters else {
        return Err(StartError::NoDatabase);
    };
    let mut fairshare = Fairshare::start(central, clock, queue, FAIRSHARE_MAILBOX);
    let link = match &config.fleet.redis {
        Some(url) => Some(Link::start(url, runtime).map_err(|error| StartError::Redis(error.to_string()))?),
        None => None,
    };
    let accounting = Accounting::start(others, store.clone(), health.clone(), journal);
    accounting.keep_rows(config.ledger.retention_days);
    let bounds =
        CacheSettings { max_bytes: config.cache.max_bytes, max_entry_bytes: config.cache.max_entry_bytes };
    let cache = Cache::start(others, clock, bounds);
    // Its registry is needed to join the fleet, and it needs the scheduler: both are the same desk.
    let admin = Admin::start(
        others,
        Setup {
            store: store.clone(),
            fairshare: fairshare.clone(),
            cache: cache.clone(),
            slots: config.admission.slots,
            plans: settings.plans,
            sealer: config.data.sealer.clone(),
            pepper: config.data.pepper.clone(),
            health,
            outbound: Arc::clone(&config.upstream.outbound),
        },
    );
    let mut sharing = None;
    if let Some(link) = link {
        sharing = replica.map(|replica| budget::Joining {
            link: link.clone(),
            runtime: runtime.clone(),
            store: store.clone(),
            replica,
            folder: config.ledger.journal.folder.clone(),
            prefix: FLEET.to_owned(),
            fail_open: config.fleet.fail_open,
        });
        let terms = Terms { fail_open: config.fleet.fail_open, ..Terms::default() };
        let (registry, plans, prefix) = (admin.registry(), settings.plans, FLEET.to_owned());
        fairshare.join(Joining { link, prefix, terms, registry, plans }, runtime);
    }
    let budget = Budget::start(others, clock, admin.registry(), sharing);
    let sessions = config.data.sessions.clone();
    let mcp = Mcp::start(others, clock, config.upstream.breaker, admin.registry(), sessions);
    Ok(Gateway {
        health: Health::new(config.upstream.breaker, clock, admin.registry()),
        registry: admin.registry(),
        handles: Handles { fairshare, accounting, admin, cache, budget, mcp },
        settings,
        lifecycle: Lifecycle::default(),
        metrics: Metrics::new(Bounds::of(config))?,
        access: AccessLog::start(),
        traces: Traces::start(&config.traces, &config.upstream.base)?,
        clock,
        failures: Failures::default(),
        running: AtomicUsize::new(0),
        buffered: AtomicUsize::new(0),
    })
}

/// Asks a database across the network every second whether it is there: while it is away, a key that is not
/// known here may exist all the same.
async fn watch_store(gateway: Weak<Gateway>, health: StoreHealth, store: Store) {
    loop {
        actix_rt::time::sleep(RETRY).await;
        // Not kept over the ping: the gateway may end meanwhile, and its journal with it.
        if gateway.upgrade().is_none_or(|gateway| gateway.lifecycle.phase() >= Phase::Cut) {
            return;
        }
        health.note(store.ping().await.is_ok());
    }
}

/// Tenant keys that would leave for a stranger are worth a word to the operator.
fn warn_of_forwarded_keys(gateway: &Gateway) {
    if !gateway.settings.upstream.forward_authorization {
        return;
    }
    for model in gateway.registry.load().models() {
        let base = model.api_base.as_deref().unwrap_or(&gateway.settings.upstream.base);
        if model.api_key.is_none() && !is_loopback(base) {
            tracing::warn!(
                model = &*model.name,
                "this model's upstream is not on loopback and receives the tenants' keys: \
                 set its api_key, or OBLETH_FORWARD_AUTHORIZATION=false"
            );
        }
    }
}

fn is_loopback(base: &str) -> bool {
    let Ok(url) = url::Url::parse(base) else {
        return false;
    };
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}
